//! What the bridge hears: presence, and pushes that were queued, not acknowledged, or acknowledged.
//!
//! Presence is published at once. The others become durable with what they tell of, are published after the commit,
//! and are forgotten when the bridge's queue has them: a crash in between repeats them, it loses none.

use super::Shard;
use super::publishing::{Kind as PublishKind, Publishing};
use crate::change::{Announcement, Change};
use crate::commits::Wait;
use crate::io::{Output, RouteTo};
use crate::message::{Message, MessageKey, Push, Seq, SessionKey, Time};
use crate::presence::{self, Event, bridge_app};
use crate::session::Session;
use bytes::Bytes;
use reveille_proto::bridge::presence::Kind;
use reveille_proto::bridge::{ACKED, Device, PRESENCE, QUEUED, QUEUED_DEVICES_MAX, Strategy, UNACKED};
use reveille_proto::ids::Epoch;
use reveille_proto::mqtt::QoS;
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::TopicName;
use std::sync::Arc;
use std::time::Duration;

/// How long an announcement waits that the bridge's queue could not take.
const ANNOUNCE_AGAIN: Duration = Duration::from_secs(5);

/// An epoch above all of earlier runs and below all of this one.
pub fn start_epoch(boot: u64) -> Epoch {
    Epoch(boot << 48)
}

impl Shard {
    pub(super) fn say_presence(&mut self, at: u32, kind: Kind, reason: ReasonCode, network: &str, now: Time) {
        let Some(session) = self.session(at) else { return };
        let connection = session.connection.and_then(|key| self.connection(key));
        let event = Event {
            kind,
            app: &session.app,
            client_id: &session.client_id,
            epoch: session.epoch,
            reason: reason.get(),
            keep_alive: connection.map_or(0, |connection| connection.keep_alive),
            session_expiry: session.expiry_interval,
            version: connection.map(|connection| connection.version),
            network,
        };
        if self.has_bridge && !session.is_bridge {
            let payload = presence::presence(&event, now);
            self.tell(PRESENCE, payload, 0, now);
        }
    }

    pub(super) fn say_expired(&mut self, session: &Session, now: Time) {
        let event = Event {
            kind: Kind::Expired,
            app: &session.app,
            client_id: &session.client_id,
            epoch: session.epoch,
            reason: ReasonCode::SUCCESS.get(),
            keep_alive: 0,
            session_expiry: session.expiry_interval,
            version: None,
            network: "",
        };
        if self.has_bridge && !session.is_bridge {
            let payload = presence::presence(&event, now);
            self.tell(PRESENCE, payload, 0, now);
        }
    }

    /// Publishes to the bridge.
    fn tell(&mut self, topic: &str, payload: Bytes, ticket: u64, now: Time) {
        if let Some(message) = self.internal_message(topic, payload, now) {
            self.outputs.push_back(Output::Route { message, ticket, to: RouteTo::Subscribers });
        }
    }

    pub(super) fn internal_message(
        &mut self,
        topic: &str,
        payload: Bytes,
        now: Time,
    ) -> Option<Arc<Message>> {
        let topic = TopicName::parse(topic.to_owned()).ok()?;
        Some(Arc::new(Message {
            key: MessageKey(self.number()),
            app: bridge_app(),
            topic,
            payload,
            qos: QoS::AtLeastOnce,
            retain: false,
            accepted_at: now,
            expires_at: None,
            publisher: None,
            properties: None,
            push: None,
        }))
    }

    /// `queued` or `unacked`: in chunks that the bridge can bear.
    pub(super) fn announce_push(
        &mut self,
        topic: &str,
        message: &Message,
        push: &Push,
        devices: Vec<Device>,
        now: Time,
    ) {
        if !self.has_bridge {
            return;
        }
        for chunk in devices.chunks(QUEUED_DEVICES_MAX) {
            self.announce(topic, presence::queued(message, push, chunk.to_vec()), now);
        }
    }

    /// `acked`, for all acknowledgements of one turn.
    pub(super) fn announce_acked(&mut self, now: Time) {
        while let Some(((app, id), devices)) = self.acked.pop_first() {
            self.announce(ACKED, presence::acked(&app, id, devices, now), now);
        }
    }

    fn announce(&mut self, topic: &str, payload: Bytes, now: Time) {
        let Ok(topic) = TopicName::parse(topic.to_owned()) else { return };
        let number = self.number();
        let announcement = Announcement { topic, payload };
        self.commits.add(Change::Announce { number, announcement: announcement.clone() });
        self.when_durable(Wait::Announce(number, announcement), now);
    }

    pub(super) fn route_announcement(&mut self, number: u64, announcement: Announcement, now: Time) {
        let payload = announcement.payload.clone();
        let Some(message) = self.internal_message(announcement.topic.as_str(), payload, now) else { return };
        let kind = PublishKind::Announcement(number, announcement);
        let ticket = self.ticket(Publishing::internal(&message, kind));
        self.outputs.push_back(Output::Route { message, ticket, to: RouteTo::Subscribers });
    }

    pub(super) fn announced(&mut self, number: u64, announcement: Announcement, is_told: bool, now: Time) {
        if is_told {
            self.counters.announcements += 1;
            self.commits.add(Change::Announced { number });
        } else {
            self.pending_announcements.push_back((number, announcement));
            self.announcements_retry_at = Some(now + ANNOUNCE_AGAIN);
        }
    }

    pub(super) fn announce_pending(&mut self, now: Time) {
        self.announcements_retry_at = None;
        for (number, announcement) in std::mem::take(&mut self.pending_announcements) {
            self.route_announcement(number, announcement, now);
        }
    }

    /// The device will not acknowledge these soon: it went, or it was never there.
    pub(super) fn announce_unannounced(&mut self, at: u32, now: Time) {
        if !self.has_bridge {
            return;
        }
        let Some(queue) = self.session(at).and_then(|session| session.queue.as_ref()) else { return };
        let unannounced = queue.unannounced();
        let mut unread: Vec<(Seq, MessageKey)> = Vec::new();
        for seq in unannounced {
            if let Some(missing) = self.announce_place(at, seq, QUEUED, now) {
                unread.push(missing);
            }
        }
        let Some(session) = self.session_mut(at) else { return };
        if unread.is_empty() || session.is_loading {
            return;
        }
        session.is_loading = true;
        let keys = unread.iter().map(|(_, key)| *key).collect();
        session.rare_mut().loading = Some(Box::new(unread));
        let output = Output::ReadBodies { session: session.key, keys };
        self.outputs.push_back(output);
    }

    /// Announces one place, or gives back what has to be read first.
    fn announce_place(&mut self, at: u32, seq: Seq, topic: &str, now: Time) -> Option<(Seq, MessageKey)> {
        let session = self.sessions.get_mut(at as usize)?;
        let device = presence::device(&session.client_id, session.epoch);
        let (key, is_durable) = (session.key, session.is_durable);
        let slot = session.queue.as_mut()?.slot_mut(seq)?;
        let place = (seq, slot.entry.message);
        if slot.message.is_none() {
            let message = slot.entry.message;
            slot.message = self.commits.body(message).or_else(|| self.recent.body(message)).cloned();
        }
        let Some(message) = slot.message.clone() else { return Some(place) };
        if let Some(push) = slot.entry.push_mut() {
            push.is_announced = true;
        }
        let (entry, is_confirmed) = (slot.entry.clone(), slot.is_confirmed);
        if is_durable && is_confirmed {
            self.commits.mark(key, &entry);
        }
        if let Some(push) = message.push.as_ref().filter(|push| push.strategy != Strategy::OnlineOnly) {
            self.announce_push(topic, &message, push, vec![device], now);
        }
        None
    }

    /// Online devices that let the deadline of a push pass.
    pub(super) fn announce_due(&mut self, at: u32, now: Time) {
        while let Some(seq) = self
            .session_mut(at)
            .and_then(|session| session.queue.as_mut())
            .and_then(|queue| queue.take_due(now))
        {
            if self.has_bridge {
                self.announce_place(at, seq, UNACKED, now);
            }
        }
    }

    /// A bridge came for the first time, or the last one is gone for good.
    pub(super) fn bridge_present(&mut self, is_present: bool, now: Time) {
        let came = is_present && !self.has_bridge;
        self.has_bridge = is_present;
        if !came {
            return;
        }
        if self.config.no.0 == 0 {
            let payload = presence::broker_started(start_epoch(self.config.boot), now);
            self.tell(PRESENCE, payload, 0, now);
        }
        self.announce_pending(now);
        let sessions: Vec<SessionKey> = self.sessions.iter().map(|(_, session)| session.key).collect();
        for key in sessions {
            let Some(at) = self.at_key(key) else { continue };
            let connection = self.session(at).and_then(|session| session.connection);
            let network =
                connection.and_then(|key| self.connection(key)).map(|known| known.about.network.clone());
            match network {
                Some(network) => self.say_presence(at, Kind::Connected, ReasonCode::SUCCESS, &network, now),
                None => self.announce_unannounced(at, now),
            }
        }
    }
}
