//! From a queue to the socket: as much as the client's receive maximum and the connection's buffer allow.

use super::Shard;
use super::delivering::{Delivering, How, publish_of};
use crate::aliases::Choice;
use crate::change::Phase;
use crate::connection::Connection;
use crate::io::{ConnectionKey, Output};
use crate::message::{Message, MessageKey, Seq, SessionKey, Time};
use crate::trace::{PacketView, Traced};
use reveille_proto::ids::PacketId;
use reveille_proto::mqtt::{Ack, Packet, PublishFrame, QoS, Version};
use reveille_proto::reason::ReasonCode;
use std::sync::Arc;

/// How an attempt to write a PUBLISH ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Yes,
    TooLarge,
}

/// One PUBLISH about to be written.
struct Outgoing<'a> {
    message: &'a Message,
    qos: QoS,
    identifiers: &'a [u32],
    packet_id: Option<PacketId>,
    dup: bool,
    retain: bool,
}

impl Outgoing<'_> {
    fn view(&self) -> PacketView {
        PacketView {
            name: "PUBLISH",
            packet_id: self.packet_id.map(PacketId::get),
            bytes: Some(self.message.payload.len()),
            ..PacketView::default()
        }
    }
}

/// What stands first in a queue.
enum Next {
    PubRel(Seq),
    Expired(Seq),
    BodyMissing,
    Publish(Seq, Arc<Message>),
    Nothing,
}

/// A frame for this connection alone. One that only its new alias makes too large goes without.
fn own_frame(
    connection: &mut Connection,
    outgoing: &Outgoing<'_>,
    choice: Choice,
    now: Time,
) -> Option<PublishFrame> {
    let Outgoing { message, qos, identifiers, .. } = outgoing;
    let version = connection.version;
    let mut publish = publish_of(message, *qos, identifiers, version, now);
    match choice {
        Choice::Plain => {}
        Choice::Known(alias) => {
            publish.topic = None;
            publish.properties.topic_alias = Some(alias);
        }
        Choice::New(alias) => {
            publish.properties.topic_alias = Some(alias);
            let frame = PublishFrame::encode(version, &publish).ok();
            if let Some(frame) = frame.filter(|frame| connection.accepts(frame.len())) {
                if let Some(aliases) = &mut connection.aliases_out {
                    aliases.learn(&message.topic, alias);
                }
                return Some(frame);
            }
            publish.properties.topic_alias = None;
        }
    }
    PublishFrame::encode(version, &publish).ok()
}

impl Shard {
    /// The socket took bytes: what waited for room may follow.
    pub(super) fn pump_connection(&mut self, key: ConnectionKey, now: Time) {
        if let Some((at, _)) = self.session_at(key) {
            self.pump(at, None, now);
            self.read_retained(key);
            self.update_reading(key);
        }
    }

    /// Sends what may be sent. `delivering` lends the frames of the message that is being given out right now.
    pub(super) fn pump(&mut self, at: u32, mut delivering: Option<&mut Delivering>, now: Time) {
        let Some(key) = self.session(at).and_then(|session| session.connection) else { return };
        while self.has_window(key, at) {
            match self.next_of(at, now) {
                Next::Nothing => break,
                Next::BodyMissing => return self.load_bodies(at),
                Next::Expired(seq) => {
                    self.trace_place_dropped(at, seq, "expired");
                    self.forget(at, seq);
                    self.counters.dropped_expired += 1;
                }
                Next::PubRel(seq) => {
                    let sent = self.session_mut(at).and_then(|session| session.queue.as_mut()?.sent(seq));
                    if let Some((id, _)) = sent {
                        self.write(key, &Packet::PubRel(Ack::new(id, ReasonCode::SUCCESS)));
                    }
                }
                Next::Publish(seq, message) => {
                    self.send_place(key, at, seq, &message, delivering.as_deref_mut(), now);
                }
            }
        }
    }

    fn has_window(&self, key: ConnectionKey, at: u32) -> bool {
        let Some(connection) = self.connection(key) else { return false };
        let in_flight =
            self.session(at).and_then(|session| Some(session.queue.as_ref()?.in_flight())).unwrap_or(0);
        connection.is_open
            && in_flight < usize::from(connection.window)
            && connection.unsent.len() <= connection.limits.unsent_bytes_max
    }

    fn next_of(&mut self, at: u32, now: Time) -> Next {
        let Some(queue) = self.sessions.get_mut(at as usize).and_then(|session| session.queue.as_mut())
        else {
            return Next::Nothing;
        };
        let Some(seq) = queue.first() else { return Next::Nothing };
        let Some(slot) = queue.slot_mut(seq) else { return Next::Nothing };
        if slot.entry.phase == Phase::Released {
            return Next::PubRel(seq);
        }
        let is_expired = slot.entry.expires_at.is_over(now);
        if is_expired && slot.may_expire() {
            return Next::Expired(seq);
        }
        if slot.message.is_none() {
            let key = slot.entry.message;
            slot.message = self.commits.body(key).or_else(|| self.recent.body(key)).cloned();
        }
        slot.message.clone().map_or(Next::BodyMissing, |message| Next::Publish(seq, message))
    }

    fn send_place(
        &mut self,
        key: ConnectionKey,
        at: u32,
        seq: Seq,
        message: &Arc<Message>,
        delivering: Option<&mut Delivering>,
        now: Time,
    ) {
        let Some(queue) = self.sessions.get_mut(at as usize).and_then(|session| session.queue.as_mut())
        else {
            return;
        };
        let Some((id, slot)) = queue.sent(seq) else { return };
        let identifiers = slot.entry.subscription_identifiers().to_vec();
        let outgoing = Outgoing {
            message,
            qos: slot.entry.qos,
            identifiers: &identifiers,
            packet_id: Some(id),
            dup: slot.is_resent,
            retain: slot.entry.retain,
        };
        if self.write_publish(key, &outgoing, delivering, now) == Written::TooLarge {
            self.trace_dropped(at, Some(&message.topic), "too_large");
            self.forget(at, seq); // [MQTT5-3.1.2-25]
            self.counters.dropped_too_large += 1;
        }
    }

    /// QoS 0: now or never.
    pub(super) fn send_at_most_once(&mut self, delivering: &mut Delivering, at: u32, how: &How, now: Time) {
        let Some(key) = self.session(at).and_then(|session| session.connection) else { return };
        match self.connection(key) {
            Some(connection) if !connection.is_open => {
                self.counters.dropped_offline_qos0 += 1;
                self.trace_dropped(at, Some(&delivering.message.topic), "offline_qos0");
            }
            Some(connection) if self.drops_qos0 && !connection.unsent.is_empty() => {
                self.counters.dropped_overload_qos0 += 1;
                self.trace_dropped(at, Some(&delivering.message.topic), "overload_qos0");
            }
            Some(connection) if connection.unsent.len() > connection.limits.unsent_bytes_max => {
                self.counters.dropped_slow_reader += 1;
                self.trace_dropped(at, Some(&delivering.message.topic), "slow_reader");
            }
            Some(_) => {
                let message = Arc::clone(&delivering.message);
                let outgoing = Outgoing {
                    message: &message,
                    qos: QoS::AtMostOnce,
                    identifiers: &how.identifiers,
                    packet_id: None,
                    dup: false,
                    retain: how.retain,
                };
                if self.write_publish(key, &outgoing, Some(delivering), now) == Written::TooLarge {
                    self.counters.dropped_too_large += 1;
                    self.trace_dropped(at, Some(&message.topic), "too_large");
                }
            }
            None => {}
        }
    }

    fn write_publish(
        &mut self,
        key: ConnectionKey,
        outgoing: &Outgoing<'_>,
        delivering: Option<&mut Delivering>,
        now: Time,
    ) -> Written {
        let Some(place) = self.connections.get_mut(key.index as usize) else { return Written::TooLarge };
        let Some(connection) = place.as_mut() else { return Written::TooLarge };
        let version = connection.version;
        let choice = connection.choose_alias(&outgoing.message.topic);
        let is_plain = choice == Choice::Plain && (outgoing.identifiers.is_empty() || version != Version::V5);
        let own;
        let shared = match delivering {
            Some(delivering) if is_plain && delivering.message.key == outgoing.message.key => {
                delivering.frames.get(outgoing.message, version, outgoing.qos, now)
            }
            _ => {
                own = own_frame(connection, outgoing, choice, now);
                own.as_ref()
            }
        };
        let Some(frame) = shared.filter(|frame| connection.accepts(frame.len())) else {
            return Written::TooLarge;
        };
        connection.write_frame(frame, outgoing.packet_id, outgoing.dup, outgoing.retain);
        connection.publishes_sent += 1;
        self.counters.publishes_sent += 1;
        self.counters.packets_sent_publish += 1;
        self.counters.payload_bytes_sent += outgoing.message.payload.len() as u64;
        self.trace_connection(key, Some(&outgoing.message.topic), || Traced::Sent(outgoing.view()));
        self.touch(key);
        Written::Yes
    }

    fn load_bodies(&mut self, at: u32) {
        let limit = self.config.limits.look_ahead_max;
        let Some(session) = self.sessions.get_mut(at as usize) else { return };
        if session.is_loading {
            return;
        }
        let Some(queue) = &mut session.queue else { return };
        let mut unread = queue.missing_bodies(limit);
        // What the store does not have yet must not be asked for: the answer would be that it is gone.
        let at_hand = |key: MessageKey| self.commits.body(key).or_else(|| self.recent.body(key));
        unread.retain(|(seq, key)| match (at_hand(*key), queue.slot_mut(*seq)) {
            (Some(body), Some(slot)) => {
                slot.message = Some(Arc::clone(body));
                false
            }
            _ => true,
        });
        let keys = unread.iter().map(|(_, key)| *key).collect();
        session.rare_mut().loading = Some(Box::new(unread));
        session.is_loading = true;
        self.outputs.push_back(Output::ReadBodies { session: session.key, keys });
    }

    pub(super) fn bodies(
        &mut self,
        key: SessionKey,
        bodies: Vec<(MessageKey, Option<Arc<Message>>)>,
        now: Time,
    ) {
        let Some(at) = self.at_key(key) else {
            return self.handover_bodies(key, &bodies, now);
        };
        let Some(session) = self.sessions.get_mut(at as usize) else { return };
        let asked = session.rare.as_mut().and_then(|rare| rare.loading.take()).unwrap_or_default();
        session.tidy();
        session.is_loading = false;
        let is_online = session.connection.is_some();
        let mut missing = Vec::new();
        let Some(queue) = &mut session.queue else { return };
        for (seq, wanted) in *asked {
            let Some(slot) = queue.slot_mut(seq).filter(|slot| slot.entry.message == wanted) else {
                continue;
            };
            match bodies.iter().find(|(found, _)| *found == wanted) {
                Some((_, Some(message))) => slot.message = Some(Arc::clone(message)),
                Some((_, None)) if slot.message.is_none() && self.commits.body(wanted).is_none() => {
                    missing.push(seq)
                }
                _ => {}
            }
        }
        for seq in missing {
            self.trace_place_dropped(at, seq, "body_missing");
            self.forget(at, seq);
            self.counters.dropped_body_missing += 1;
        }
        if is_online {
            self.pump(at, None, now);
        } else {
            self.announce_unannounced(at, now);
            if let Some(queue) = self.session_mut(at).and_then(|session| session.queue.as_mut()) {
                queue.drop_bodies();
            }
        }
    }
}
