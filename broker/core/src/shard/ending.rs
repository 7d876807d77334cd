//! The end of a connection and the end of a session: wills, hand-over of shared messages, what the bridge hears.

use super::opening::drop_session;
use super::publishing::{Kind as PublishKind, Publishing};
use super::{Due, Shard};
use crate::change::{Change, StoredWill};
use crate::io::{ConnectionKey, IndexChange, Loss, Output, RouteTo};
use crate::message::{Message, MessageKey, SessionKey, Time};
use crate::networks::{Leaving, Seen};
use crate::queue::{Group, Queue};
use crate::session::Session;
use crate::trace::Traced;
use bytes::BytesMut;
use bytestring::ByteString;
use reveille_proto::bridge::presence::Kind;
use reveille_proto::ids::AppId;
use reveille_proto::mqtt::Disconnect;
use reveille_proto::mqtt::QoS;
use reveille_proto::reason::ReasonCode;
use std::sync::Arc;

/// Messages of a session that ended, on their way to the other members of their groups.
#[derive(Debug, Default)]
pub(super) struct Handover {
    waiting: Vec<(MessageKey, Group)>,
}

impl Shard {
    /// A connection is over; its session may go on.
    pub(super) fn end_connection(
        &mut self,
        key: ConnectionKey,
        reason: ReasonCode,
        publishes_will: bool,
        now: Time,
    ) {
        self.end_connection_as(key, reason, self.leaving(key, reason), publishes_will, now);
    }

    /// The socket ended by itself.
    pub(super) fn lost(&mut self, key: ConnectionKey, how: Loss, now: Time) {
        let leaving = self.leaving_by(key, how);
        self.end_connection_as(key, ReasonCode::UNSPECIFIED_ERROR, leaving, true, now);
    }

    pub(super) fn end_connection_as(
        &mut self,
        key: ConnectionKey,
        reason: ReasonCode,
        leaving: Leaving,
        publishes_will: bool,
        now: Time,
    ) {
        let Some(connection) = self.connection(key) else { return };
        let (at, was_open) = (connection.session, connection.is_open);
        if was_open {
            self.members_online(key, -1);
        }
        self.see(key, Seen::Left(leaving));
        self.close(key, reason);
        self.detach(at, now);
        let Some(session) = self.sessions.get_mut(at as usize) else { return };
        // A goodbye takes the will with it.
        let will = session.take_will(|will| !publishes_will || will.delay_interval == 0);
        let will = will.filter(|_| publishes_will);
        let is_over = session.expiry_interval == 0;
        self.say_presence(at, Kind::Disconnected, reason, "", now);
        if let Some(will) = will {
            self.publish_will(at, *will, now);
        }
        if is_over {
            self.end_session(at, now);
        } else {
            self.park(at, now);
        }
    }

    fn close(&mut self, key: ConnectionKey, reason: ReasonCode) {
        let Some(place) = self.connections.get_mut(key.index as usize) else { return };
        let Some(mut connection) = place.take() else { return };
        // Else each connection that lived for a second leaves its deadline for as long as its keep alive.
        self.deadlines.cancel(&mut connection.armed, Due::Connection(key));
        if let Some(throttle) = &mut connection.throttle {
            self.deadlines.cancel(&mut throttle.armed, Due::Reading(key));
        }
        self.trace(connection.session, None, || Traced::Disconnected { reason });
        self.counters.sessions_online = self.counters.sessions_online.saturating_sub(1);
        if let Some(session) = self.session(connection.session) {
            self.count_app(&session.app, |usage| usage.connections.sub(1));
        }
        for owed in &connection.owed {
            if let Some(publishing) = self.publishes.get_mut(&owed.ticket) {
                publishing.connection = None;
            }
        }
        // What was gathered before CONNACK may leave is not for the wire.
        let unsent = if connection.is_open { connection.unsent } else { BytesMut::new() };
        self.outputs.push_back(Output::Close { connection: key, unsent, reason });
    }

    fn detach(&mut self, at: u32, now: Time) {
        let Some(session) = self.sessions.get_mut(at as usize) else { return };
        session.connection = None;
        session.offline_since = now;
        session.is_loading = false;
        session.is_reading = false;
        if let Some(rare) = &mut session.rare {
            rare.loading = None;
        }
        session.tidy();
        if let Some(queue) = &mut session.queue {
            queue.connection_lost();
        }
    }

    /// The session waits for its client.
    fn park(&mut self, at: u32, now: Time) {
        self.put_record(at);
        self.announce_unannounced(at, now);
        if let Some(session) = self.sessions.get_mut(at as usize)
            && session.is_durable
            && let Some(queue) = &mut session.queue
            && session.rare.as_ref().is_none_or(|rare| rare.loading.is_none())
        {
            queue.drop_bodies();
        }
        self.arm_session(at);
    }

    pub(super) fn arm_session(&mut self, at: u32) {
        let Some(session) = self.sessions.get_mut(at as usize) else { return };
        let queue = session.queue.as_ref();
        let due = match session.connection {
            Some(_) => queue.and_then(|queue| queue.next_due()),
            None => [session.ends_at(), session.will_at(), queue.and_then(|queue| queue.earliest_expiry())]
                .into_iter()
                .flatten()
                .min(),
        };
        if let Some(due) = due {
            self.deadlines.arm(&mut session.armed, Due::Session(session.key), due.0);
        }
    }

    /// The session is over: its will, its places in groups, its subscriptions and its queue end with it.
    pub(super) fn end_session(&mut self, at: u32, now: Time) {
        if let Some(will) = self.session_mut(at).and_then(|session| session.take_will(|_| true)) {
            self.publish_will(at, *will, now);
        }
        let Some(mut session) = self.directory.remove(&mut self.sessions, at) else { return };
        self.deadlines.cancel(&mut session.armed, Due::Session(session.key));
        debug_assert!(session.connection.is_none(), "a session with a connection does not end");
        self.counters.sessions = self.counters.sessions.saturating_sub(1);
        self.leave_indexes(at, &session);
        self.count_app(&session.app, |usage| usage.sessions.sub(1));
        if session.is_durable {
            self.say_expired(&session, now);
        }
        let dropped = drop_session(&session);
        let Session { key, app, queue, .. } = session;
        if let Some(queue) = queue {
            self.drop_queue(&app, key, &queue, dropped.is_some(), now);
        }
        let is_done =
            self.ending.get(&key).is_none_or(|left| *left == 0) && !self.handovers.contains_key(&key);
        if let Some(change) = dropped {
            if is_done {
                self.ending.remove(&key);
                self.commits.add(change);
            } // else the last publish of this session adds it, see `ending_done`
        } else {
            self.ending.remove(&key);
        }
    }

    fn leave_indexes(&mut self, at: u32, session: &Session) {
        for (subscription, _) in session.subscriptions() {
            self.unindex(at, &session.app, &subscription);
            let change = IndexChange::Unsubscribe(session.app.clone(), subscription);
            self.outputs.push_back(Output::Index(change));
        }
        let count = session.subscriptions_len() as u64;
        self.counters.subscriptions = self.counters.subscriptions.saturating_sub(count);
        self.count_app(&session.app, |usage| usage.subscriptions.sub(count));
    }

    /// What came through a group goes to its other members, unless its QoS 2 delivery had begun: this client may have it
    /// [MQTT5-4.8.2-5]. The rest is gone and counted.
    fn drop_queue(&mut self, app: &AppId, session: SessionKey, queue: &Queue, is_stored: bool, now: Time) {
        let mut handover = Handover::default();
        for slot in queue.slots() {
            self.left_queue(app, slot);
            let body = slot.message.clone().or_else(|| self.body_at_hand(slot.entry.message).cloned());
            let has_begun = slot.entry.qos == QoS::ExactlyOnce && slot.was_sent();
            match (slot.group.as_ref().filter(|_| !has_begun), body) {
                (None, _) => self.counters.dropped_session_ended += 1,
                (Some(group), Some(message)) => self.hand_over(session, group, message, now),
                (Some(group), None) => handover.waiting.push((slot.entry.message, Arc::clone(group))),
            }
        }
        if !handover.waiting.is_empty() && is_stored {
            let keys = handover.waiting.iter().map(|(key, _)| *key).collect();
            self.handovers.insert(session, handover);
            self.outputs.push_back(Output::ReadBodies { session, keys });
        }
    }

    fn hand_over(&mut self, session: SessionKey, group: &Group, message: Arc<Message>, _now: Time) {
        *self.ending.entry(session).or_default() += 1;
        let publishing = Publishing::internal(&message, PublishKind::Ending(session));
        let ticket = self.ticket(publishing);
        let to = RouteTo::Group(group.group.clone(), group.filter.clone());
        self.outputs.push_back(Output::Route { message, ticket, to });
    }

    /// Bodies of a session that ended came from the store.
    pub(super) fn handover_bodies(
        &mut self,
        session: SessionKey,
        bodies: &[(MessageKey, Option<Arc<Message>>)],
        now: Time,
    ) {
        let Some(handover) = self.handovers.remove(&session) else { return };
        *self.ending.entry(session).or_default() += 1; // held until all are on their way
        for (key, group) in handover.waiting {
            match bodies.iter().find(|(found, _)| *found == key) {
                Some((_, Some(message))) => self.hand_over(session, &group, Arc::clone(message), now),
                _ => self.counters.dropped_body_missing += 1,
            }
        }
        self.ending_done(session);
    }

    /// One publish of a session that may have ended is done: the last one lets the store forget the session.
    pub(super) fn ending_done(&mut self, session: SessionKey) {
        let Some(left) = self.ending.get_mut(&session) else { return };
        *left = left.saturating_sub(1);
        if *left > 0 || self.handovers.contains_key(&session) {
            return;
        }
        self.ending.remove(&session);
        match self.at_key(session) {
            Some(at) => self.put_record(at), // the session lives; only its will is gone
            None => self.commits.add(Change::DropSession { session }),
        }
    }

    /// Publishes a will; the store forgets it when the receivers have it.
    pub(super) fn publish_will(&mut self, at: u32, will: StoredWill, now: Time) {
        let Some(session) = self.session(at).map(|session| session.key) else { return };
        let mut message = will.message;
        message.key = MessageKey(self.number());
        message.expires_at = message.expires_at.map(|end| now + end.since(message.accepted_at));
        message.accepted_at = now;
        let message = Arc::new(message);
        self.trace_published(&message);
        self.counters.wills_published += 1;
        *self.ending.entry(session).or_default() += 1;
        let publishing = Publishing::internal(&message, PublishKind::Ending(session));
        let ticket = self.ticket(publishing);
        self.outputs.push_back(Output::Route { message, ticket, to: RouteTo::Subscribers });
    }

    /// Every connection but the bridge's, those first that were silent for the longest time. Costs by all of them, once.
    pub fn connections_by_idleness(&self) -> Vec<ConnectionKey> {
        let online = self.sessions.iter().filter(|(_, session)| !session.is_bridge);
        let online = online.filter_map(|(_, session)| session.connection);
        let mut known: Vec<(Time, ConnectionKey)> =
            online.filter_map(|key| Some((self.connection(key)?.last_seen, key))).collect();
        known.sort_unstable();
        known.into_iter().map(|(_, key)| key).collect()
    }

    /// The broker empties itself: one client is sent away. A stop is near, so its will may wait (5.0 section 3.1.2.5),
    /// which spares everyone the wills of clients that are back in a moment.
    pub(super) fn move_away(
        &mut self,
        key: ConnectionKey,
        reason: ReasonCode,
        server_reference: Option<ByteString>,
        now: Time,
    ) {
        let Some((at, session)) = self.session_at(key) else { return };
        let has_will = session.will().is_some();
        self.say_goodbye_with(key, Disconnect { server_reference, ..Disconnect::new(reason) });
        self.counters.moved += 1;
        if !has_will {
            return self.end_connection(key, reason, false, now);
        }
        self.members_online(key, -1);
        self.leave(at, key, reason, now);
    }

    /// The broker stops: everyone hears it. Wills stay in the store and are due after the restart, which the standard
    /// allows (3.1.1 section 3.1.2.5): most clients are back before.
    pub(super) fn shutdown(&mut self, reason: ReasonCode, now: Time) {
        let online = self.sessions.iter().filter_map(|(at, session)| Some((at, session.connection?)));
        let online: Vec<(usize, ConnectionKey)> = online.collect();
        for (at, key) in online {
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            self.say_goodbye(key, reason);
            self.leave(at, key, reason, now);
        }
    }

    /// A connection is over, and what its session has to do about that waits for the next start.
    fn leave(&mut self, at: u32, key: ConnectionKey, reason: ReasonCode, now: Time) {
        self.see(key, Seen::Left(Leaving::Told));
        self.close(key, reason);
        self.detach(at, now);
        self.put_record(at);
        self.say_presence(at, Kind::Disconnected, reason, "", now);
        self.announce_unannounced(at, now);
    }
}
