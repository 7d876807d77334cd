//! PUBACK, PUBREC and PUBCOMP from a client: places in its queue become free.

use super::Shard;
use crate::change::Phase;
use crate::commits::Wait;
use crate::io::ConnectionKey;
use crate::message::{Seq, SessionKey, Time};
use reveille_proto::mqtt::{Ack, Packet, QoS};
use reveille_proto::reason::ReasonCode;

impl Shard {
    pub(super) fn puback(&mut self, key: ConnectionKey, ack: &Ack, now: Time) {
        match self.flying(key, ack) {
            Some((at, seq, QoS::AtLeastOnce, _)) => self.done(at, seq, now),
            Some(_) => self.refuse(key, ReasonCode::PROTOCOL_ERROR, now), // PUBACK for QoS 2, [MQTT5-4.3.3-1]
            None => {} // late: the place expired or the session began anew
        }
    }

    pub(super) fn pubrec(&mut self, key: ConnectionKey, ack: &Ack, now: Time) {
        match self.flying(key, ack) {
            Some((at, seq, QoS::ExactlyOnce, _)) if ack.reason.is_failure() => self.done(at, seq, now),
            Some((at, seq, QoS::ExactlyOnce, Phase::Queued)) => self.release(at, seq, now),
            Some((at, seq, QoS::ExactlyOnce, Phase::Released)) => self.write_pubrel(at, seq),
            Some(_) => self.refuse(key, ReasonCode::PROTOCOL_ERROR, now),
            None if ack.reason.is_failure() => {}
            None => {
                let unknown = Ack::new(ack.packet_id, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND);
                self.write(key, &Packet::PubRel(unknown));
            }
        }
    }

    pub(super) fn pubcomp(&mut self, key: ConnectionKey, ack: &Ack, now: Time) {
        match self.flying(key, ack) {
            Some((at, seq, QoS::ExactlyOnce, Phase::Released)) => self.done(at, seq, now),
            Some((_, _, QoS::ExactlyOnce, Phase::Queued)) | Some((_, _, QoS::AtLeastOnce, _)) => {
                self.refuse(key, ReasonCode::PROTOCOL_ERROR, now);
            }
            Some((_, _, QoS::AtMostOnce, _)) | None => {}
        }
    }

    fn flying(&mut self, key: ConnectionKey, ack: &Ack) -> Option<(u32, Seq, QoS, Phase)> {
        let (at, session) = self.session_at(key)?;
        let queue = session.queue.as_ref()?;
        let seq = queue.flying(ack.packet_id)?;
        let entry = &queue.slot(seq)?.entry;
        Some((at, seq, entry.qos, entry.phase))
    }

    /// The client has it: its identifier may be used again as soon as it says so. PUBREL leaves only when that is
    /// durable, or a crash would send the PUBLISH again and the client would take it for a new message. Until then the
    /// place counts as unconfirmed, so that a client that comes back at once does not get PUBREL early either.
    fn release(&mut self, at: u32, seq: Seq, now: Time) {
        let Some(session) = self.sessions.get_mut(at as usize) else { return };
        let Some(slot) = session.queue.as_mut().and_then(|queue| queue.slot_mut(seq)) else { return };
        slot.entry.phase = Phase::Released;
        slot.message = None;
        let key = session.key;
        if session.is_durable {
            slot.is_confirmed = false;
            self.commits.mark(key, &slot.entry);
            self.when_durable(Wait::PubRel(key, seq), now);
        } else {
            self.write_pubrel(at, seq);
        }
    }

    pub(super) fn released(&mut self, session: SessionKey, seq: Seq, now: Time) {
        let Some(at) = self.at_key(session) else { return };
        let queue = self.sessions.get_mut(at as usize).and_then(|session| session.queue.as_mut());
        let Some(slot) = queue.and_then(|queue| queue.slot_mut(seq)) else { return };
        slot.is_confirmed = true;
        self.write_pubrel(at, seq);
        self.pump(at, None, now);
    }

    /// Writes PUBREL for a place in flight whose PUBREC is durable. One that is not in flight gets it in its turn.
    fn write_pubrel(&mut self, at: u32, seq: Seq) {
        let Some(session) = self.sessions.get_mut(at as usize) else { return };
        let (Some(key), Some(queue)) = (session.connection, &session.queue) else { return };
        let id = crate::queue::packet_id(seq);
        let is_ready = queue.flying(id) == Some(seq) && queue.slot(seq).is_some_and(|slot| slot.is_confirmed);
        if is_ready {
            self.write(key, &Packet::PubRel(Ack::new(id, ReasonCode::SUCCESS)));
        }
    }

    /// The client is done with a message.
    fn done(&mut self, at: u32, seq: Seq, now: Time) {
        let limit = self.config.limits.recent_pushes_max;
        let has_bridge = self.has_bridge;
        let Some(session) = self.sessions.get_mut(at as usize) else { return };
        let slot = session.queue.as_ref().and_then(|queue| queue.slot(seq));
        let push = slot.and_then(|slot| slot.entry.push()).map(|push| push.id);
        if let Some(id) = push {
            session.remember_push(id, limit);
            if has_bridge && !id.is_note() {
                let device = crate::presence::device(&session.client_id, session.epoch);
                self.acked.entry((session.app.clone(), id)).or_default().push(device);
            }
        }
        self.forget(at, seq);
        self.pump(at, None, now);
        if let Some(key) = self.session(at).and_then(|session| session.connection) {
            self.read_retained(key);
        }
    }
}
