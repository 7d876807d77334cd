//! Many sessions together, owned by one thread: commands in, outputs out. No session knows another one.
//!
//! The files below are the chapters: opening and ending connections, publishing, delivering, acknowledging,
//! subscribing, directed delivery and announcements, deadlines, recovery.

mod accounting;
mod acknowledging;
mod administering;
mod announcing;
mod authenticating;
mod beating;
mod controlling;
mod delaying;
mod delivering;
mod directing;
mod ending;
mod inspecting;
mod opening;
mod permitting;
mod publishing;
mod pumping;
mod recovering;
mod subscribing;
mod timing;
mod tracing;

use crate::admin::Done;
use crate::change::{Announcement, Batch, Change, Granted};
use crate::collections::NumberMap;
use crate::commits::{Commits, Ended, Wait};
use crate::connection::Connection;
use crate::control::Control;
use crate::counters::Counters;
use crate::deadlines::Deadlines;
use crate::delayed::Delayed;
use crate::directory::Directory;
use crate::io::{Committed, ConnectionKey, Input, Output, Part, ShardNo, Ticket};
use crate::limits::Limits;
use crate::message::{Message, MessageKey, Seq, SessionKey, Time};
use crate::networks::Seen;
use crate::queue::Slot;
use crate::recent::Recent;
use crate::session::Session;
use crate::shared::SharedGroups;
use crate::subscriptions::FilterIndex;
use crate::trace::TraceRule;
use crate::usage::Usage;
use bytes::BytesMut;
use publishing::Publishing;
use reveille_proto::bridge::Device;
use reveille_proto::ids::{AppId, ClientId, Epoch, MessageId};
use reveille_proto::mqtt::{Ack, Disconnect, Packet, Version};
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::TopicFilter;
use slab::Slab;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

pub use announcing::start_epoch;

/// Where a shard stands and what it may use.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Its number.
    pub no: ShardNo,
    /// How many shards there are.
    pub shards: u16,
    /// How often the store was opened: makes numbers and epochs grow across restarts.
    pub boot: u64,
    /// Any number; makes the message ids of this run different from every other run's.
    pub seed: u64,
    /// Bounds.
    pub limits: Arc<Limits>,
    /// What the shards use together; every shard of a broker has the same one.
    pub usage: Arc<Usage>,
    /// What is said and done beyond the protocol.
    pub control: Arc<Control>,
    /// Push rules: what makes a message a push candidate without its publisher's help.
    pub push_rules: Arc<[PushRule]>,
}

/// Messages on topics under `filter` are push candidates with this alert.
#[derive(Clone, Debug)]
pub struct PushRule {
    /// The tenant.
    pub app: AppId,
    /// Which topics.
    pub filter: TopicFilter,
    /// May hold `{topic}` and `{payload}`.
    pub title: String,
    /// May hold `{topic}` and `{payload}`.
    pub body: String,
    /// How it may reach a device.
    pub strategy: reveille_proto::bridge::Strategy,
}

/// Whose deadline it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Due {
    Connection(ConnectionKey),
    Session(SessionKey),
    /// Reading from it goes on.
    Reading(ConnectionKey),
    /// A delayed message, by the key under which the store knows it.
    Delayed(SessionKey),
}

/// The sessions of one thread.
pub struct Shard {
    config: ShardConfig,
    counters: Counters,
    sessions: Slab<Session>,
    directory: Directory,
    connections: Vec<Option<Connection>>,
    subscriptions: HashMap<AppId, FilterIndex<u32, Granted>>,
    shared: HashMap<AppId, SharedGroups<u32>>,
    deadlines: Deadlines<Due>,
    commits: Commits,
    commits_retry_at: Option<Time>,
    /// Bodies of messages that were queued a short while ago.
    recent: Recent,
    publishes: NumberMap<u64, Publishing>,
    unconfirmed: NumberMap<MessageKey, Vec<(SessionKey, Seq)>>,
    /// Sessions that ended and still hand messages over: how many publishes are left.
    ending: HashMap<SessionKey, u32>,
    handovers: HashMap<SessionKey, ending::Handover>,
    delayed: HashMap<SessionKey, Delayed>,
    pending_announcements: VecDeque<(u64, Announcement)>,
    announcements_retry_at: Option<Time>,
    acked: BTreeMap<(AppId, MessageId), Vec<Device>>,
    settled_late: Vec<(Ticket, Part)>,
    outputs: VecDeque<Output>,
    has_bridge: bool,
    /// Memory runs short.
    drops_qos0: bool,
    /// Absent while nobody follows anything.
    traces: Option<Arc<[TraceRule]>>,
    next_number: u64,
    next_ticket: u64,
    /// Of the input that is being handled.
    now: Time,
}

impl Shard {
    /// The shard that owns a session.
    pub fn owner(app: &AppId, client_id: &ClientId, shards: u16) -> ShardNo {
        let mut hasher = DefaultHasher::new(); // fixed keys: the same in every thread and every run
        (app, client_id).hash(&mut hasher);
        ShardNo(u16::try_from(hasher.finish() % u64::from(shards.max(1))).unwrap_or(0))
    }

    /// An empty shard.
    pub fn new(config: ShardConfig) -> Self {
        Self {
            config,
            counters: Counters::default(),
            sessions: Slab::new(),
            directory: Directory::default(),
            connections: Vec::new(),
            subscriptions: HashMap::new(),
            shared: HashMap::new(),
            deadlines: Deadlines::default(),
            commits: Commits::new(),
            commits_retry_at: None,
            recent: Recent::default(),
            publishes: NumberMap::default(),
            unconfirmed: NumberMap::default(),
            ending: HashMap::new(),
            handovers: HashMap::new(),
            delayed: HashMap::new(),
            pending_announcements: VecDeque::new(),
            announcements_retry_at: None,
            acked: BTreeMap::new(),
            settled_late: Vec::new(),
            outputs: VecDeque::new(),
            has_bridge: false,
            drops_qos0: false,
            traces: None,
            next_number: 1,
            next_ticket: 1,
            now: Time(0),
        }
    }

    /// Something happened.
    pub fn handle(&mut self, input: Input, now: Time) {
        self.now = now;
        match input {
            Input::Open { connection, opening } => self.open(connection, *opening, now),
            Input::Packet { connection, packet } => self.packet(connection, packet, now),
            Input::Malformed { connection, reason } => self.refuse(connection, reason, now),
            Input::Lost { connection, how } => self.lost(connection, how, now),
            Input::Drained { connection } => self.pump_connection(connection, now),
            Input::Deliver(delivery) => self.deliver(*delivery, now),
            Input::Routed { ticket, parts, is_refused } => self.routed(ticket, parts, is_refused, now),
            Input::Settled { ticket, from, part } => self.settled(ticket, from, part, now),
            Input::Confirmed { message, is_durable } => self.confirmed(message, is_durable, now),
            Input::Withdraw { app, id, client_ids, ticket } => {
                self.withdraw(&app, id, &client_ids, ticket, now)
            }
            Input::Committed { batch, outcome } => self.committed(batch, outcome, now),
            Input::Bodies { session, bodies } => self.bodies(session, bodies, now),
            Input::Retained { session, filter, messages, after } => {
                self.retained(session, &filter, &messages, after, now);
            }
            Input::Kick { app, client_id, reason } => self.kick(app, client_id, reason, now),
            Input::Wish { number, wish } => self.wish(number, wish, now),
            Input::BridgePresent(is_present) => self.bridge_present(is_present, now),
            Input::Control(control) => self.config.control = control,
            Input::DropQos0(drops) => self.drops_qos0 = drops,
            Input::DisconnectSlowest { count, unsent_min } => self.disconnect_slowest(count, unsent_min, now),
            Input::Limits(limits) => self.replace_limits(limits),
            Input::PushRules(rules) => self.config.push_rules = rules,
            Input::Traces(rules) => self.traces = Some(rules).filter(|rules| !rules.is_empty()),
            Input::Move { connection, reason, server_reference } => {
                self.move_away(connection, reason, server_reference, now);
            }
            Input::Permit { app, client_id, acl } => self.permit(app, client_id, acl),
            Input::Advice { connection, advice } => self.advise(connection, &advice),
            Input::Authenticated { connection, outcome } => self.authenticated(connection, outcome, now),
            Input::Tick => self.tick(now),
            Input::Shutdown(reason) => self.shutdown(reason, now),
        }
        self.announce_acked(now);
        for (ticket, part) in std::mem::take(&mut self.settled_late) {
            self.when_durable(Wait::Settle(ticket, part), now);
        }
    }

    /// What to do about it; call until `None`.
    pub fn next_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front()?;
        if let Output::Write(key) = &output
            && let Some(connection) = self.connection_mut(*key)
        {
            connection.is_dirty = false;
        }
        Some(output)
    }

    /// When to send [`Input::Tick`] at the latest.
    pub fn deadline(&self) -> Option<Time> {
        let wheel = self.deadlines.next_deadline().map(Time);
        [wheel, self.commits_retry_at, self.announcements_retry_at].into_iter().flatten().min()
    }

    /// The facts gathered since the last call, and the number under which to report their commit.
    pub fn take_batch(&mut self) -> Option<(u64, Batch)> {
        self.commits.take_batch()
    }

    /// Bytes to write to a connection's socket; the shell takes from the front what the socket took.
    /// `None` for a connection that is gone.
    pub fn unsent(&mut self, connection: ConnectionKey) -> Option<&mut BytesMut> {
        self.connection_mut(connection).map(|connection| &mut connection.unsent)
    }

    /// Whether the rules may have held something back while that many bytes waited for the socket.
    pub fn waited_for_room(&self, connection: ConnectionKey, bytes: usize) -> bool {
        self.connection(connection).is_some_and(|known| bytes > known.limits.unsent_bytes_max / 2)
    }

    /// The protocol version of a connection, to read its packets.
    pub fn version(&self, connection: ConnectionKey) -> Option<Version> {
        self.connection(connection).map(|connection| connection.version)
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Sessions, with or without a connection.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    fn packet(&mut self, key: ConnectionKey, packet: Packet, now: Time) {
        let Some(connection) = self.connection_mut(key) else { return };
        let survived = connection.heard(now);
        if let Some(idle) = survived {
            self.see(key, Seen::Survived(idle));
        }
        let Some(connection) = self.connection_mut(key) else { return };
        if !connection.is_open {
            connection.early.push(packet); // at most one read of the socket: reading is paused until CONNACK
            return;
        }
        self.counters.count_received(&packet);
        self.trace_received(key, &packet);
        match packet {
            Packet::Publish(publish) => self.publish(key, *publish, now),
            Packet::PubAck(ack) => self.puback(key, &ack, now),
            Packet::PubRec(ack) => self.pubrec(key, &ack, now),
            Packet::PubRel(ack) => self.pubrel(key, &ack, now),
            Packet::PubComp(ack) => self.pubcomp(key, &ack, now),
            Packet::Subscribe(subscribe) => self.subscribe(key, &subscribe, now),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(key, &unsubscribe, now),
            Packet::PingReq => self.write(key, &Packet::PingResp),
            Packet::Disconnect(disconnect) => self.disconnect(key, &disconnect, now),
            Packet::Auth(auth) => self.authenticate(key, *auth, now),
            // A second CONNECT [MQTT5-3.1.0-2], and what only a server may send.
            Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp => self.refuse(key, ReasonCode::PROTOCOL_ERROR, now),
        }
    }

    /// Ends a connection whose client broke a rule: 5.0 is told why. `[MQTT5-4.13.1-1]`
    fn refuse(&mut self, key: ConnectionKey, reason: ReasonCode, now: Time) {
        if self.connection(key).is_none() {
            return;
        }
        self.counters.protocol_errors += 1;
        self.say_goodbye(key, reason);
        self.end_connection(key, reason, true, now);
    }

    /// The readers with the most unsent bytes: each holds memory that only it can give back.
    fn disconnect_slowest(&mut self, count: usize, unsent_min: usize, now: Time) {
        let unsent = |(index, place): (usize, &Option<Connection>)| {
            let connection = place.as_ref().filter(|connection| connection.unsent.len() >= unsent_min)?;
            let is_bridge = self.session(connection.session).is_some_and(|session| session.is_bridge);
            let key = ConnectionKey { index: u32::try_from(index).ok()?, generation: connection.generation };
            (!is_bridge).then_some((connection.unsent.len(), key))
        };
        let mut slow: Vec<_> = self.connections.iter().enumerate().filter_map(unsent).collect();
        slow.sort_unstable();
        for (_, key) in slow.into_iter().rev().take(count) {
            self.counters.disconnected_slow += 1;
            self.say_goodbye(key, ReasonCode::QUOTA_EXCEEDED);
            self.end_connection(key, ReasonCode::QUOTA_EXCEEDED, true, now);
        }
    }

    fn say_goodbye(&mut self, key: ConnectionKey, reason: ReasonCode) {
        self.say_goodbye_with(key, Disconnect::new(reason));
    }

    fn say_goodbye_with(&mut self, key: ConnectionKey, disconnect: Disconnect) {
        let Some(connection) = self.connection(key) else { return };
        if connection.version == Version::V5 && connection.is_open {
            self.write(key, &Packet::Disconnect(Box::new(disconnect)));
        }
    }

    fn committed(&mut self, batch: u64, outcome: Committed, now: Time) {
        if outcome == Committed::Failed {
            self.counters.commits_failed += 1;
            self.commits_retry_at = Some(now + std::time::Duration::from_secs(1));
        }
        let Ended { settled, waits, lost } = self.commits.ended(batch, outcome);
        for (session, seq) in lost {
            self.drop_lost(session, seq);
        }
        for (ticket, part) in settled {
            self.settle(ticket, part);
        }
        for wait in waits {
            match outcome {
                Committed::Durable => self.proceed(wait, now),
                Committed::Failed => self.give_up(wait, now),
            }
        }
    }

    /// Does it now, or when all that was gathered so far is durable.
    fn when_durable(&mut self, wait: Wait, now: Time) {
        if let Some(wait) = self.commits.wait(wait) {
            self.proceed(wait, now);
        }
    }

    fn proceed(&mut self, wait: Wait, now: Time) {
        match wait {
            Wait::Open(key) | Wait::Resume(key) => self.opened(key, now),
            Wait::Packet(key, packet) => self.answer_filters(key, &packet, now),
            Wait::PubRel(session, seq) => self.released(session, seq, now),
            Wait::PubComp(key, id) => self.write(key, &Packet::PubComp(Ack::new(id, ReasonCode::SUCCESS))),
            Wait::Settle(ticket, part) => self.settle(ticket, part),
            Wait::Publish(number) => self.publish_ended(number, true, now),
            Wait::Confirm(session, seq) => self.confirm_place(session, seq, now),
            Wait::Announce(number, announcement) => self.route_announcement(number, announcement, now),
            Wait::Done(number, done) => self.answer_wish(number, done),
        }
    }

    /// SUBACK and UNSUBACK have a byte for each filter: a client that asks for more than it can be told is closed.
    fn answer_filters(&mut self, key: ConnectionKey, packet: &Packet, now: Time) {
        if self.write_or_end(key, packet, now) && matches!(packet, Packet::SubAck(_)) {
            self.read_retained(key);
        }
    }

    /// Writes what a client waits for; one that has no room for it is closed. Whether it was written.
    fn write_or_end(&mut self, key: ConnectionKey, packet: &Packet, now: Time) -> bool {
        let Some(connection) = self.connection_mut(key) else { return false };
        if !connection.write(packet) {
            self.refuse(key, ReasonCode::PACKET_TOO_LARGE, now); // [MQTT5-3.1.2-24]
            return false;
        }
        self.touch(key);
        self.update_reading(key);
        self.trace_sent(key, packet);
        self.counters.count_sent(packet);
        true
    }

    /// The store refused: whoever waits hears that there is no room. `[MQTT5-4.13.2]`
    fn give_up(&mut self, wait: Wait, now: Time) {
        match wait {
            Wait::Resume(key) => self.opened(key, now), // what is stored is served while the disk is full
            Wait::Open(key) | Wait::Packet(key, _) | Wait::PubComp(key, _) => {
                self.refuse(key, ReasonCode::QUOTA_EXCEEDED, now);
            }
            Wait::PubRel(session, seq) => {
                // The note of PUBREC is tried again with the other facts; so is this, behind it.
                self.when_durable(Wait::PubRel(session, seq), now);
            }
            Wait::Settle(ticket, part) => self.settle(ticket, Part { has_failed: true, ..part }),
            Wait::Publish(number) => self.publish_ended(number, false, now),
            Wait::Confirm(session, seq) => self.drop_lost(session, seq),
            Wait::Announce(number, announcement) => {
                self.announced(number, announcement, false, now);
            }
            Wait::Done(number, _) => self.answer_wish(number, Done::Refused),
        }
    }

    fn settle(&mut self, ticket: Ticket, part: Part) {
        if ticket.number > 0 {
            self.outputs.push_back(Output::Settle { ticket, part });
        }
    }

    fn write(&mut self, key: ConnectionKey, packet: &Packet) {
        self.trace_sent(key, packet);
        if let Some(connection) = self.connection_mut(key) {
            connection.write(packet);
            self.counters.count_sent(packet);
            self.touch(key);
            self.update_reading(key);
        }
    }

    fn touch(&mut self, key: ConnectionKey) {
        let now = self.now;
        if let Some(connection) = self.connection_mut(key)
            && !connection.is_dirty
        {
            connection.is_dirty = true;
            connection.pulse.sent(now.since(connection.last_seen));
            self.outputs.push_back(Output::Write(key));
        }
    }

    fn connection(&self, key: ConnectionKey) -> Option<&Connection> {
        let connection = self.connections.get(key.index as usize)?.as_ref()?;
        (connection.generation == key.generation).then_some(connection)
    }

    fn connection_mut(&mut self, key: ConnectionKey) -> Option<&mut Connection> {
        let connection = self.connections.get_mut(key.index as usize)?.as_mut()?;
        (connection.generation == key.generation).then_some(connection)
    }

    /// The session of a connection, by its place.
    fn session_at(&mut self, key: ConnectionKey) -> Option<(u32, &mut Session)> {
        let at = self.connection(key)?.session;
        self.sessions.get_mut(at as usize).map(|session| (at, session))
    }

    fn session(&self, at: u32) -> Option<&Session> {
        self.sessions.get(at as usize)
    }

    fn session_mut(&mut self, at: u32) -> Option<&mut Session> {
        self.sessions.get_mut(at as usize)
    }

    fn number(&mut self) -> u64 {
        let count = self.next_number;
        self.next_number += 1;
        // 16 bits of boots over 48 bits of counting: 65,536 starts, and years at a million messages a second.
        (self.config.boot << 48) | (count * u64::from(self.config.shards) + u64::from(self.config.no.0))
    }

    fn epoch(&mut self) -> Epoch {
        Epoch(self.number())
    }

    /// Gives up a place in a queue, on disk too.
    fn forget(&mut self, at: u32, seq: Seq) {
        let Some(session) = self.sessions.get_mut(at as usize) else { return };
        let Some(queue) = &mut session.queue else { return };
        let Some(slot) = queue.remove(seq) else { return };
        if queue.is_empty() {
            session.queue = None;
        }
        let (app, settled) = (session.app.clone(), session.is_durable.then_some(session.key));
        self.left_queue(&app, &slot);
        drop(slot.message);
        self.recent.release(slot.entry.message);
        if let Some((ticket, part)) = settled.and_then(|key| self.commits.forget(key, seq)) {
            match slot.entry.push() {
                // Without a trace on disk only the announcement tells that the device had it: the sender waits for that.
                Some(_) if self.has_bridge => self.settled_late.push((ticket, part)),
                _ => self.settle(ticket, part),
            }
        }
    }

    /// The place of a client's session.
    fn at_client(&self, app: &AppId, client_id: &ClientId) -> Option<u32> {
        self.directory.of_client(&self.sessions, app, client_id)
    }

    /// The place of the session with this number.
    fn at_key(&self, key: SessionKey) -> Option<u32> {
        self.directory.of_key(&self.sessions, key)
    }

    /// A body that is in memory, though no place has it.
    fn body_at_hand(&self, key: MessageKey) -> Option<&Arc<Message>> {
        self.commits.body(key).or_else(|| self.recent.body(key))
    }

    /// What is counted about a place that is gone.
    fn left_queue(&mut self, app: &AppId, slot: &Slot) {
        self.count_app(app, |usage| usage.queued_bytes.sub(slot.entry.size.into()));
        self.counters.queued_messages = self.counters.queued_messages.saturating_sub(1);
        self.counters.queued_bytes = self.counters.queued_bytes.saturating_sub(u64::from(slot.entry.size));
        if let Some(group) = &slot.group {
            self.uncount(app, group);
        }
    }

    /// A place that was never written: nobody was told that it exists, so it leaves memory only.
    fn drop_lost(&mut self, session: SessionKey, seq: Seq) {
        let Some(session) = self.at_key(session).and_then(|at| self.sessions.get_mut(at as usize)) else {
            return;
        };
        let Some(queue) = &mut session.queue else { return };
        let removed = queue.remove(seq);
        if queue.is_empty() {
            session.queue = None;
        }
        let app = session.app.clone();
        if let Some(slot) = removed {
            self.left_queue(&app, &slot);
        }
    }

    fn put_record(&mut self, at: u32) {
        if let Some(session) = self.sessions.get(at as usize)
            && session.is_stored
        {
            self.commits.add(Change::PutSession { session: session.key, record: session.record() });
        }
    }
}
