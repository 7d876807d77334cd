//! PUBLISH from a client: its rules, its way to the receivers, and its acknowledgement, never too early and in order.

use super::Shard;
use super::beating::is_about_itself;
use super::controlling::Destination;
use super::opening::{forwarded, own_topic};
use crate::change::Change;
use crate::collections::mix;
use crate::commits::Wait;
use crate::connection::Owed;
use crate::io::{ConnectionKey, Output, Part, RouteTo, ShardNo, Ticket};
use crate::message::{Message, MessageKey, SessionKey, Time};
use crate::rate::Pace;
use crate::session::Received;
use bytes::Bytes;
use reveille_proto::ids::{MessageId, PacketId};
use reveille_proto::mqtt::{Ack, Packet, Publish, QoS, Version};
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::TopicName;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// A publish of this shard whose receivers are not all done.
#[derive(Debug)]
pub(super) struct Publishing {
    /// Who waits for the acknowledgement; `None` when the connection is gone.
    pub connection: Option<ConnectionKey>,
    message: Option<MessageKey>,
    kind: Kind,
    parts: i64,
    is_routed: bool,
    is_taken: bool,
    is_refused: bool,
    has_failed: bool,
    /// QoS 2 only: facts of all shards, committed together with our own.
    changes: Vec<Change>,
    shards: Vec<ShardNo>,
    /// The message waits for its time under this key.
    delays: Option<SessionKey>,
}

/// Bytes of a payload that are copied out of the read buffer: a larger one is most of what it would keep alive.
const COPIED_PAYLOAD_MAX: usize = 16 << 10;

/// What a publish is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A client's QoS 1 PUBLISH, or something that is acknowledged like one.
    AtLeastOnce,
    /// A client's QoS 2 PUBLISH.
    ExactlyOnce(SessionKey, PacketId),
    /// A will, or a message handed over: the session's record waits for it.
    Ending(SessionKey),
    /// A delayed message whose time came.
    Delayed(SessionKey),
    /// An announcement to the bridge.
    Announcement(u64, crate::change::Announcement),
    /// An operator's wish.
    Wanted(u64),
    /// A message for a group whose last member here had just left: another shard's publish waits for it.
    Forwarded(Ticket),
}

/// A bound that a publish goes beyond, and what that costs.
enum Broken {
    /// The message is refused.
    Message(ReasonCode),
    /// The connection ends.
    Connection(ReasonCode),
}

impl Publishing {
    fn of(connection: Option<ConnectionKey>, message: Option<MessageKey>, kind: Kind) -> Self {
        Self {
            connection,
            message,
            kind,
            parts: 0,
            is_routed: false,
            is_taken: false,
            is_refused: false,
            has_failed: false,
            changes: Vec::new(),
            shards: Vec::new(),
            delays: None,
        }
    }

    /// A publish that no client waits for.
    pub fn internal(message: &Message, kind: Kind) -> Self {
        Self::of(None, Some(message.key), kind)
    }

    fn reason(&self) -> ReasonCode {
        match (self.is_taken, self.is_refused) {
            _ if self.has_failed => ReasonCode::QUOTA_EXCEEDED,
            (true, _) => ReasonCode::SUCCESS,
            (false, true) => ReasonCode::QUOTA_EXCEEDED,
            (false, false) => ReasonCode::NO_MATCHING_SUBSCRIBERS,
        }
    }
}

impl Shard {
    /// A number for a publish that this shard waits for.
    pub(super) fn ticket(&mut self, publishing: Publishing) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.publishes.insert(ticket, publishing);
        ticket
    }

    pub(super) fn publish(&mut self, key: ConnectionKey, mut publish: Publish, now: Time) {
        self.counters.publishes_received += 1;
        self.counters.payload_bytes_received += publish.payload.len() as u64;
        if let Some(connection) = self.connection_mut(key) {
            connection.publishes_received += 1;
        }
        if !publish.properties.subscription_identifiers.is_empty() {
            return self.refuse(key, ReasonCode::PROTOCOL_ERROR, now); // [MQTT5-3.3.4-6]
        }
        if !self.keeps_pace(key, &publish, now) {
            return self.refuse(key, ReasonCode::MESSAGE_RATE_TOO_HIGH, now);
        }
        if let Err(reason) = self.resolve_alias(key, &mut publish) {
            return self.refuse(key, reason, now);
        }
        let Some(topic) = publish.topic.take() else {
            return self.refuse(key, ReasonCode::PROTOCOL_ERROR, now);
        };
        if publish.qos > QoS::AtMostOnce && self.is_over_quota(key, publish.packet_id) {
            return self.refuse(key, ReasonCode::RECEIVE_MAXIMUM_EXCEEDED, now); // [MQTT5-3.3.4-7]
        }
        let Destination { topic, delay } = match self.destination(key, topic) {
            Ok(destination) => destination,
            Err(reason) => return self.answer(key, &publish, reason, now),
        };
        match self.broken_limit(key, &publish, &topic) {
            Some(Broken::Message(reason)) => return self.answer(key, &publish, reason, now),
            Some(Broken::Connection(reason)) => return self.refuse(key, reason, now),
            None => {}
        }
        if self.drops_qos0 && publish.qos == QoS::AtMostOnce && !publish.retain {
            self.counters.dropped_overload_qos0 += 1;
            return;
        }
        match (publish.qos, publish.packet_id) {
            (QoS::ExactlyOnce, Some(id)) if self.is_repeated(key, id, &publish) => {}
            _ if is_about_itself(&topic) => self.publish_heartbeat(key, &publish, &topic, now),
            _ if !self.may_publish(key, &topic, publish.retain) => self.deny_publish(key, &publish, now),
            _ if topic.as_str().starts_with('$') => self.publish_system(key, &publish, topic, now),
            _ => self.publish_message(key, &publish, topic, delay, now),
        }
    }

    /// Whether the client may go on; one that comes too fast is not read for a while.
    fn keeps_pace(&mut self, key: ConnectionKey, publish: &Publish, now: Time) -> bool {
        let Some(connection) = self.connection_mut(key) else { return true };
        let Some(throttle) = &mut connection.throttle else { return true };
        let topic = publish.topic.as_ref().map_or(0, |topic| topic.as_str().len());
        match throttle.take((publish.payload.len() + topic) as u64, now) {
            Pace::Flowing => true,
            Pace::Pause(until) => {
                connection.throttled_until = Some(until);
                self.counters.throttled += 1;
                self.arm_reading(key, until);
                self.update_reading(key);
                true
            }
            Pace::TooHigh => {
                self.counters.refused_rate += 1;
                false
            }
        }
    }

    /// What the client was told in CONNACK, or what nobody may do here.
    fn broken_limit(&self, key: ConnectionKey, publish: &Publish, topic: &TopicName) -> Option<Broken> {
        let limits = &self.connection(key)?.limits;
        if publish.qos > limits.offered.maximum_qos {
            return Some(Broken::Connection(ReasonCode::QOS_NOT_SUPPORTED)); // [MQTT5-3.2.2-11]
        }
        if publish.retain && !limits.offered.retain {
            return Some(Broken::Connection(ReasonCode::RETAIN_NOT_SUPPORTED)); // [MQTT5-3.2.2-14]
        }
        let levels_max = limits.topic_levels_max;
        let is_deep = topic.levels().take(levels_max + 1).count() > levels_max;
        is_deep.then_some(Broken::Message(ReasonCode::TOPIC_NAME_INVALID))
    }

    fn publish_message(
        &mut self,
        key: ConnectionKey,
        publish: &Publish,
        topic: TopicName,
        delay: Option<u32>,
        now: Time,
    ) {
        let message_key = MessageKey(self.number());
        let Some((_, session)) = self.session_at(key) else { return };
        let expiry = publish.properties.message_expiry_interval;
        // What passes through keeps its slices of the read buffer; what may stay gets bytes of its own.
        let stays = publish.retain || publish.qos > QoS::AtMostOnce || delay.is_some();
        let copies = stays && publish.payload.len() <= COPIED_PAYLOAD_MAX;
        let payload = if copies { Bytes::copy_from_slice(&publish.payload) } else { publish.payload.clone() };
        let mut message = Message {
            key: message_key,
            app: session.app.clone(),
            topic: if stays { own_topic(&topic) } else { topic },
            payload,
            qos: publish.qos,
            retain: publish.retain,
            accepted_at: now,
            expires_at: expiry.map(|seconds| now + Duration::from_secs(u64::from(seconds))),
            publisher: Some(session.key),
            properties: forwarded(&publish.properties),
            push: None,
        };
        if let Some(seconds) = delay {
            return self.delay(key, publish, message, seconds, now);
        }
        message.push = self.candidate(&message, now);
        self.trace_published(&message);
        let to = RouteTo::FromClient(self.sender(key));
        self.route(key, publish, Arc::new(message), to, now);
    }

    /// A number that only this client id has.
    fn sender(&mut self, key: ConnectionKey) -> u64 {
        let Some((_, session)) = self.session_at(key) else { return 0 };
        let mut hasher = DefaultHasher::new();
        session.client_id.hash(&mut hasher);
        hasher.finish()
    }

    /// A client's message that waits for its time: its acknowledgement waits for this fact alone.
    pub(super) fn publish_kept(&mut self, ticket: u64, delayed: SessionKey, change: Change, now: Time) {
        let Some(publishing) = self.publishes.get_mut(&ticket) else { return };
        publishing.delays = Some(delayed);
        publishing.changes.push(change);
        publishing.is_taken = true;
        publishing.is_routed = true;
        self.check_done(ticket, now);
    }

    /// Sends a client's message on its way and remembers that its acknowledgement is owed.
    pub(super) fn route(
        &mut self,
        key: ConnectionKey,
        publish: &Publish,
        message: Arc<Message>,
        to: RouteTo,
        now: Time,
    ) {
        let ticket = match self.owe(key, publish, message.key, now) {
            Some(ticket) => ticket,
            None if publish.qos == QoS::AtMostOnce => 0,
            None => return,
        };
        self.outputs.push_back(Output::Route { message, ticket, to });
    }

    /// Owes the client an acknowledgement; `None` for QoS 0.
    pub(super) fn owe(
        &mut self,
        key: ConnectionKey,
        publish: &Publish,
        message: MessageKey,
        _now: Time,
    ) -> Option<u64> {
        let packet_id = publish.packet_id?;
        let ticket = self.next_ticket;
        let (_, session) = self.session_at(key)?;
        let kind = match publish.qos {
            QoS::ExactlyOnce => Kind::ExactlyOnce(session.key, packet_id),
            QoS::AtMostOnce | QoS::AtLeastOnce => Kind::AtLeastOnce,
        };
        if publish.qos == QoS::ExactlyOnce {
            let received = session.rare_mut().received.get_or_insert_default();
            received.insert(packet_id, Received::Pending(ticket));
        }
        self.ticket(Publishing::of(Some(key), Some(message), kind));
        self.owe_more(key, publish, ticket, None);
        Some(ticket)
    }

    fn owe_more(&mut self, key: ConnectionKey, publish: &Publish, ticket: u64, reason: Option<ReasonCode>) {
        let Some(packet_id) = publish.packet_id else { return };
        let Some(connection) = self.connection_mut(key) else { return };
        let size = u32::try_from(publish.payload.len()).unwrap_or(u32::MAX);
        connection.owed.push_back(Owed { ticket, packet_id, qos: publish.qos, size, reason });
        connection.owed_bytes = connection.owed_bytes.saturating_add(size);
        connection.owed_at_least_once += u32::from(publish.qos == QoS::AtLeastOnce);
        self.update_reading(key);
    }

    /// Tells the shell to stop reading or to go on, where that changed.
    pub(super) fn update_reading(&mut self, key: ConnectionKey) {
        let Some(place) = self.connections.get_mut(key.index as usize) else { return };
        let Some(connection) = place.as_mut().filter(|connection| connection.generation == key.generation)
        else {
            return;
        };
        match connection.reading() {
            Some(true) => self.outputs.push_back(Output::ResumeReading(key)),
            Some(false) => self.outputs.push_back(Output::PauseReading(key)),
            None => {}
        }
    }

    /// A QoS 2 packet identifier that is in use: the same message again, not a new one. `[MQTT5-4.3.3-10]`
    fn is_repeated(&mut self, key: ConnectionKey, id: PacketId, publish: &Publish) -> bool {
        let Some((_, session)) = self.session_at(key) else { return true };
        let Some(received) = session.received().and_then(|received| received.get(&id)).copied() else {
            return false;
        };
        match received {
            Received::Done => {
                self.owe_more(key, publish, 0, Some(ReasonCode::SUCCESS));
                self.pay(key);
            }
            Received::Pending(ticket) => {
                let is_owed_here = |connection: &crate::connection::Connection| {
                    connection.owed.iter().any(|owed| owed.ticket == ticket)
                };
                if !self.connection(key).is_some_and(is_owed_here) {
                    if let Some(publishing) = self.publishes.get_mut(&ticket) {
                        publishing.connection = Some(key);
                    }
                    self.owe_more(key, publish, ticket, None);
                }
            }
        }
        true
    }

    fn resolve_alias(&mut self, key: ConnectionKey, publish: &mut Publish) -> Result<(), ReasonCode> {
        let Some(alias) = publish.properties.topic_alias.take() else { return Ok(()) };
        let Some(connection) = self.connection_mut(key) else { return Ok(()) };
        if alias == 0 || alias > connection.limits.topic_alias_max {
            return Err(ReasonCode::TOPIC_ALIAS_INVALID); // [MQTT5-3.3.2-9]
        }
        let aliases = connection.aliases.get_or_insert_default();
        match &publish.topic {
            Some(topic) => {
                aliases.insert(alias, own_topic(topic));
            }
            None => publish.topic = aliases.get(&alias).cloned(),
        }
        Ok(())
    }

    /// 5.0 clients were told how much they may send; 3.x clients are slowed down instead. A QoS 2 message is under way
    /// until PUBCOMP. `[MQTT5-3.3.4-7]`
    fn is_over_quota(&mut self, key: ConnectionKey, id: Option<PacketId>) -> bool {
        let received = self.session_at(key).and_then(|(_, session)| session.received());
        let is_known = received.zip(id).is_some_and(|(received, id)| received.contains_key(&id));
        let open = received.map_or(0, |received| received.len());
        let Some(connection) = self.connection(key) else { return false };
        let under_way = open.saturating_add(connection.owed_at_least_once as usize);
        let quota = usize::from(connection.limits.receive_maximum) + usize::from(connection.open_before);
        connection.version == Version::V5 && !is_known && under_way >= quota
    }

    /// Answers a publish that goes nowhere. `[MQTT5-3.3.4-8]`
    pub(super) fn answer(&mut self, key: ConnectionKey, publish: &Publish, reason: ReasonCode, now: Time) {
        let is_v5 = self.connection(key).is_some_and(|connection| connection.version == Version::V5);
        match publish.qos {
            QoS::AtMostOnce => {}
            _ if !is_v5 && reason.is_failure() => self.refuse(key, reason, now), // 3.x has no word for it
            _ => {
                self.owe_more(key, publish, 0, Some(reason));
                self.pay(key);
            }
        }
    }

    pub(super) fn routed(&mut self, ticket: u64, parts: u32, is_refused: bool, now: Time) {
        self.counters.refused_retained += u64::from(is_refused);
        let Some(publishing) = self.publishes.get_mut(&ticket) else { return };
        publishing.parts += i64::from(parts);
        publishing.is_routed = true;
        publishing.is_refused |= is_refused;
        self.check_done(ticket, now);
    }

    pub(super) fn settled(&mut self, ticket: u64, from: ShardNo, part: Part, now: Time) {
        let Some(publishing) = self.publishes.get_mut(&ticket) else { return };
        publishing.parts += i64::from(part.more) - 1;
        publishing.is_taken |= part.is_taken;
        publishing.is_refused |= part.is_refused;
        publishing.has_failed |= part.has_failed;
        if !part.changes.is_empty() {
            publishing.changes.extend(part.changes);
            publishing.shards.push(from);
        }
        self.check_done(ticket, now);
    }

    fn check_done(&mut self, ticket: u64, now: Time) {
        let Some(publishing) = self.publishes.get_mut(&ticket) else { return };
        if !publishing.is_routed || publishing.parts > 0 {
            return;
        }
        if !publishing.is_taken && !publishing.is_refused {
            self.counters.publishes_without_receiver += 1;
        }
        let mut changes = std::mem::take(&mut publishing.changes);
        if let (Kind::Delayed(session), false) = (&publishing.kind, changes.is_empty()) {
            changes.push(Change::DropSession { session: *session }); // QoS 2: published and forgotten, or neither
        }
        let received = match publishing.kind {
            Kind::ExactlyOnce(session, packet_id) => Some((session, packet_id)),
            Kind::AtLeastOnce
            | Kind::Ending(_)
            | Kind::Delayed(_)
            | Kind::Announcement(..)
            | Kind::Wanted(_)
            | Kind::Forwarded(_) => None,
        };
        // A failing PUBREC ends it. Were its identifier remembered on disk, the same message sent again after a crash would
        // pass for a repetition, and be acknowledged without having gone anywhere.
        let is_refused = publishing.reason().is_failure();
        let receive = received.filter(|(session, _)| !is_refused && self.is_durable(*session));
        if changes.is_empty() && receive.is_none() {
            return self.publish_ended(ticket, true, now);
        }
        // One batch: the message exists for all receivers and its identifier is taken, or neither.
        for change in changes {
            self.commits.add(change);
        }
        if let Some((session, packet_id)) = receive {
            self.commits.add(Change::Receive { session, packet_id });
        }
        self.when_durable(Wait::Publish(ticket), now);
    }

    fn is_durable(&self, session: SessionKey) -> bool {
        let at = self.at_key(session);
        at.and_then(|at| self.session(at)).is_some_and(|session| session.is_durable)
    }

    /// All receivers are done and the commit, where one was needed, ended.
    pub(super) fn publish_ended(&mut self, ticket: u64, is_durable: bool, now: Time) {
        let Some(mut publishing) = self.publishes.remove(&ticket) else { return };
        publishing.has_failed |= !is_durable;
        if let Some(message) = publishing.message {
            for shard in publishing.shards.drain(..) {
                self.outputs.push_back(Output::Confirm { shard, message, is_durable });
            }
        }
        if let Some(delayed) = publishing.delays {
            self.delayed_written(delayed, is_durable, now);
        }
        let reason = publishing.reason();
        match publishing.kind {
            Kind::AtLeastOnce => {}
            Kind::ExactlyOnce(session, packet_id) => self.received(session, packet_id, reason),
            Kind::Ending(session) => self.ending_done(session),
            Kind::Delayed(key) => self.delayed_published(key, publishing.has_failed, now),
            Kind::Announcement(number, announcement) => {
                let is_told = publishing.is_taken && !publishing.has_failed;
                self.announced(number, announcement, is_told, now);
            }
            Kind::Wanted(number) => self.published_wanted(number, reason),
            Kind::Forwarded(ticket) => {
                let Publishing { is_taken, is_refused, has_failed, .. } = publishing;
                self.settle(ticket, Part { is_taken, is_refused, has_failed, ..Part::default() });
            }
        }
        if let Some(key) = publishing.connection {
            self.acknowledge(key, ticket, reason, publishing.has_failed, now);
        }
    }

    fn received(&mut self, session: SessionKey, packet_id: PacketId, reason: ReasonCode) {
        let at = self.at_key(session);
        let Some(session) = at.and_then(|at| self.session_mut(at)) else { return };
        let Some(received) = session.received_mut() else { return };
        if reason.is_failure() {
            received.remove(&packet_id); // a failing PUBREC ends it, [MQTT5-4.3.3-9]
        } else {
            received.insert(packet_id, Received::Done);
        }
        session.tidy();
    }

    fn acknowledge(
        &mut self,
        key: ConnectionKey,
        ticket: u64,
        reason: ReasonCode,
        has_failed: bool,
        now: Time,
    ) {
        let Some(connection) = self.connection_mut(key) else { return };
        let version = connection.version;
        let Some(owed) = connection.owed.iter_mut().find(|owed| owed.ticket == ticket) else { return };
        owed.reason = Some(reason);
        // 3.x cannot say no. A full queue must not block its publisher for ever; a disk that refused must, whichever shard's
        // commit it was.
        if has_failed && version != Version::V5 {
            return self.refuse(key, reason, now);
        }
        self.pay(key);
    }

    /// Writes the acknowledgements that nothing holds back any more, in the order of the PUBLISHes. `[MQTT5-4.6.0-2]`
    fn pay(&mut self, key: ConnectionKey) {
        let mut has_written = false;
        while let Some(packet) = self.next_payment(key) {
            self.trace_sent(key, &packet);
            self.counters.count_sent(&packet);
            if let Some(connection) = self.connection_mut(key) {
                connection.write(&packet);
            }
            has_written = true;
        }
        if has_written {
            self.touch(key);
            self.update_reading(key);
        }
    }

    fn next_payment(&mut self, key: ConnectionKey) -> Option<Packet> {
        let connection = self.connection_mut(key)?;
        let reason = connection.owed.front()?.reason?;
        let owed = connection.owed.pop_front()?;
        connection.owed_bytes = connection.owed_bytes.saturating_sub(owed.size);
        let is_at_least_once = u32::from(owed.qos == QoS::AtLeastOnce);
        connection.owed_at_least_once = connection.owed_at_least_once.saturating_sub(is_at_least_once);
        let ack = Ack::new(owed.packet_id, reason);
        let is_exact = owed.qos == QoS::ExactlyOnce;
        Some(if is_exact { Packet::PubRec(ack) } else { Packet::PubAck(ack) })
    }

    pub(super) fn pubrel(&mut self, key: ConnectionKey, ack: &Ack, now: Time) {
        let id = ack.packet_id;
        let Some((_, session)) = self.session_at(key) else { return };
        let known = session.received().and_then(|received| received.get(&id)).copied();
        match known {
            Some(Received::Pending(_)) => return self.refuse(key, ReasonCode::PROTOCOL_ERROR, now),
            None => {
                let unknown = Ack::new(id, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND);
                return self.write(key, &Packet::PubComp(unknown));
            }
            Some(Received::Done) => {}
        }
        let (session_key, is_durable) = (session.key, session.is_durable);
        if let Some(received) = session.received_mut() {
            received.remove(&id);
            session.tidy();
        }
        if is_durable {
            // Were PUBCOMP written before this is durable, a message with the same identifier after a crash would be
            // taken for a repetition and lost.
            self.commits.add(Change::Release { session: session_key, packet_id: id });
        }
        self.when_durable(Wait::PubComp(key, id), now);
    }

    /// A message id that no other message has: UUID version 7 from the time, this run's seed and a counter.
    pub(super) fn message_id(&mut self, now: Time) -> MessageId {
        let count = self.number();
        let mixed = mix(self.config.seed ^ count).to_be_bytes();
        let counted = mix(self.config.seed.rotate_left(32).wrapping_add(count)).to_be_bytes();
        let time = now.0.to_be_bytes();
        let [_, _, t0, t1, t2, t3, t4, t5] = time;
        let [a0, a1, b0, b1, b2, b3, b4, b5] = mixed;
        let [c0, c1, ..] = counted;
        MessageId([
            t0,
            t1,
            t2,
            t3,
            t4,
            t5,
            0x70 | (a0 & 0x0f),
            a1,
            0x80 | (b0 & 0x3f),
            b1,
            b2,
            b3,
            b4,
            b5,
            c0,
            c1,
        ])
    }
}
