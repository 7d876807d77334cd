//! One network connection: what the client allows, what it still has to be told, and when it was last heard.

use crate::acl::{Acl, LastAllowed};
use crate::aliases::{AliasesOut, Choice};
use crate::control::Heartbeats;
use crate::deadlines::Armed;
use crate::explain::explained;
use crate::io::{Identity, Opening};
use crate::limits::ConnectionLimits;
use crate::message::Time;
use crate::pulse::Pulse;
use crate::rate::Throttle;
use bytes::BytesMut;
use bytestring::ByteString;
use reveille_proto::ids::PacketId;
use reveille_proto::mqtt::{Packet, PublishFrame, QoS, Version};
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::TopicName;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// A PUBLISH of the client whose acknowledgement is not written yet. They are written in the order of the PUBLISHes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owed {
    pub ticket: u64,
    pub packet_id: PacketId,
    pub qos: QoS,
    pub size: u32,
    pub reason: Option<ReasonCode>,
}

/// What a connection may do, and for how long; absent where that is everything for ever.
#[derive(Debug)]
pub(crate) struct Permission {
    pub user: Option<ByteString>,
    pub acl: Option<Arc<Acl>>,
    pub last_allowed: LastAllowed,
    pub expires_at: Option<Time>,
    pub source: &'static str,
}

impl Permission {
    pub fn of(identity: &Identity) -> Option<Box<Self>> {
        let Identity { user, acl, expires_at, source, app: _, is_bridge: _ } = identity;
        let is_limited = user.is_some() || acl.is_some() || expires_at.is_some();
        is_limited.then(|| {
            Box::new(Self {
                user: user.clone(),
                acl: acl.clone(),
                last_allowed: LastAllowed::default(),
                expires_at: *expires_at,
                source,
            })
        })
    }

    /// Of a client that had none.
    pub fn with_acl(acl: Option<Arc<Acl>>) -> Option<Box<Self>> {
        acl.map(|acl| {
            Box::new(Self {
                user: None,
                acl: Some(acl),
                last_allowed: LastAllowed::default(),
                expires_at: None,
                source: "",
            })
        })
    }

    pub fn replace_acl(&mut self, acl: Option<Arc<Acl>>) {
        self.acl = acl;
        self.last_allowed = LastAllowed::default(); // what the old rules allowed
    }
}

/// What the rules do not need to know about a connection.
#[derive(Debug)]
pub(crate) struct About {
    /// When it was accepted.
    pub since: Time,
    /// Where it comes from. Bytes of its own, as small as they are: each connection has them.
    pub network: Box<str>,
    /// The listener that it came through.
    pub listener: ByteString,
    /// The authentication method of its CONNECT.
    pub method: Option<Box<str>>,
    /// It proves again who it is, and the exchange is not over.
    pub is_authenticating: bool,
}

impl About {
    fn of(opening: &Opening, now: Time) -> Self {
        let method = opening.connect.properties.authentication_method.as_ref();
        Self {
            since: now,
            network: (&*opening.network).into(),
            listener: opening.listener.clone(),
            method: method.map(|text| (&**text).into()), // not those of the read buffer
            is_authenticating: false,
        }
    }
}

/// The keep alive that a client of 5.0 is told to use instead of its own. Older ones cannot be told.
///
/// From the client's own value each time, never from what it was told before: some clients ask for that the next time,
/// and a bound upon a bound would shrink for ever. One that tunes its heartbeat knows better than this.
pub(crate) fn server_keep_alive(opening: &Opening) -> Option<u16> {
    let asked = opening.connect.keep_alive;
    let bound = Some(opening.limits.keep_alive_max).filter(|max| *max < u16::MAX);
    let advice = opening.advice.as_ref().filter(|_| opening.hello.is_none() && asked > 0);
    let max = [bound, advice.and_then(|advice| advice.keep_alive)].into_iter().flatten().min()?;
    let is_longer = asked == 0 || asked > max;
    (is_longer && opening.connect.version == Version::V5).then_some(max)
}

/// See the module.
#[derive(Debug)]
#[expect(
    clippy::box_collection,
    reason = "most clients set no alias, so a pointer is cheaper than an empty map"
)]
pub(crate) struct Connection {
    pub generation: u32,
    /// Place of its session.
    pub session: u32,
    pub version: Version,
    /// Seconds; 0: never ends for silence.
    pub keep_alive: u16,
    pub last_seen: Time,
    /// How long it was silent, and what that says of its network.
    pub pulse: Pulse,
    pub limits: Arc<ConnectionLimits>,
    /// QoS 1 and 2 messages that may be in flight towards it.
    pub window: u16,
    /// Bytes of one packet that it accepts.
    pub packet_size_max: u32,
    pub topic_alias_out_max: u16,
    /// Topics for which the client set an alias.
    pub aliases: Option<Box<HashMap<u16, TopicName>>>,
    pub aliases_out: Option<Box<AliasesOut>>,
    /// Reason strings may go with more than CONNACK and DISCONNECT.
    pub wants_problem_information: bool,
    /// Present where the rate of its publishes is bounded.
    pub throttle: Option<Box<Throttle>>,
    /// It published faster than it may: nothing is read from it before this time.
    pub throttled_until: Option<Time>,
    pub armed: Armed,
    pub unsent: BytesMut,
    pub is_dirty: bool,
    /// CONNACK was written.
    pub is_open: bool,
    /// Packets that came before CONNACK was written.
    pub early: Vec<Packet>,
    pub owed: VecDeque<Owed>,
    pub owed_bytes: u32,
    /// Of `owed`, those of QoS 1: QoS 2 counts against the client's quota until PUBCOMP, see [`Self::open_before`].
    pub owed_at_least_once: u32,
    /// QoS 2 exchanges that an earlier connection left open: they take nothing of this one's quota.
    pub open_before: u16,
    /// PUBLISH packets that came.
    pub publishes_received: u64,
    /// PUBLISH packets that were written.
    pub publishes_sent: u64,
    /// What only operators look at.
    pub about: Box<About>,
    /// It has too much unacknowledged, or reads too little of what we wrote.
    pub is_full: bool,
    /// We do not read from it: it is full, too fast, or not open yet.
    pub is_paused: bool,
    pub permission: Option<Box<Permission>>,
}

impl Connection {
    pub fn new(generation: u32, session: u32, opening: &Opening, heartbeats: Heartbeats, now: Time) -> Self {
        let connect = &opening.connect;
        let limits = &opening.limits;
        let properties = &connect.properties;
        Self {
            generation,
            session,
            version: connect.version,
            keep_alive: server_keep_alive(opening).unwrap_or(connect.keep_alive), // [MQTT5-3.2.2-22]
            last_seen: now,
            pulse: Pulse::new(opening, heartbeats),
            limits: Arc::clone(limits),
            window: properties.receive_maximum.unwrap_or(u16::MAX).min(limits.in_flight_max).max(1),
            packet_size_max: properties.maximum_packet_size.unwrap_or(u32::MAX),
            topic_alias_out_max: properties.topic_alias_maximum.unwrap_or(0).min(limits.topic_alias_out_max),
            aliases: None,
            aliases_out: None,
            wants_problem_information: properties.request_problem_information.unwrap_or(true),
            throttle: Throttle::new(limits.rate, now),
            throttled_until: None,
            armed: Armed::NOT,
            unsent: BytesMut::new(),
            is_dirty: false,
            is_open: false,
            early: Vec::new(),
            owed: VecDeque::new(),
            owed_bytes: 0,
            owed_at_least_once: 0,
            open_before: 0,
            publishes_received: 0,
            publishes_sent: 0,
            is_full: false,
            about: Box::new(About::of(opening, now)),
            is_paused: false,
            permission: Permission::of(&opening.identity),
        }
    }

    /// What it may do; `None`: everything.
    pub fn acl(&self) -> Option<&Arc<Acl>> {
        self.permission.as_ref()?.acl.as_ref()
    }

    /// When its credential ends.
    pub fn expires_at(&self) -> Option<Time> {
        self.permission.as_ref().and_then(|permission| permission.expires_at)
    }

    /// When somebody has to look at it: it may have been silent for too long, or its credential ends.
    pub fn look_at(&self) -> Option<Time> {
        [self.silent_until(), self.expires_at()].into_iter().flatten().min()
    }

    /// When silence ends it: one and a half keep alives after the last packet that came, or earlier where the client said
    /// when it will be heard of next. What we send does not count, or a dead phone with traffic would live for ever.
    /// `[MQTT5-3.1.2-22]`
    pub fn silent_until(&self) -> Option<Time> {
        let by_keep_alive = Duration::from_millis(u64::from(self.keep_alive) * 1500);
        let by_keep_alive = (self.keep_alive > 0).then_some(by_keep_alive);
        let limit = [by_keep_alive, self.pulse.announced()].into_iter().flatten().min()?;
        // While we do not listen to who came too fast, its silence is ours.
        let heard = self.throttled_until.map_or(self.last_seen, |until| until.max(self.last_seen));
        Some(heard + limit)
    }

    /// A packet came. Says for how long nothing had passed in either direction, where that is news about the network.
    pub fn heard(&mut self, now: Time) -> Option<Duration> {
        let silence = now.since(self.last_seen);
        self.last_seen = now;
        self.pulse.heard(silence)
    }

    /// Whether reading from the client has to stop or may go on; `None`: as it is. It stops when the client has too much
    /// unacknowledged towards us, or does not read what we wrote.
    pub fn reading(&mut self) -> Option<bool> {
        let limits = &self.limits;
        let (bytes, count, unsent) = (self.owed_bytes, self.owed.len(), self.unsent.len());
        let count_max = usize::from(limits.receive_maximum);
        let is_full =
            bytes > limits.unacknowledged_bytes_max || count >= count_max || unsent > limits.unsent_bytes_max;
        let has_room = bytes <= limits.unacknowledged_bytes_max / 2
            && count <= count_max / 2
            && unsent <= limits.unsent_bytes_max / 2;
        self.is_full = if self.is_full { !has_room } else { is_full };
        let pauses = self.is_full || self.throttled_until.is_some();
        let changes = pauses != self.is_paused;
        self.is_paused = pauses;
        changes.then_some(!pauses)
    }

    /// Appends a packet. What does not fit the client's maximum is left out and `false`: a PUBLISH, which is checked
    /// before, or the answer to very many filters. `[MQTT5-3.1.2-24]`
    ///
    /// A refusal goes with words that say why, where they fit. `[MQTT5-3.14.2-3]`
    pub fn write(&mut self, packet: &Packet) -> bool {
        if self.version == Version::V5
            && let Some(explained) = explained(packet, self.wants_problem_information)
            && self.append(&explained)
        {
            return true;
        }
        self.append(packet)
    }

    /// Whether it fitted.
    fn append(&mut self, packet: &Packet) -> bool {
        let before = self.unsent.len();
        let is_written = packet.write(self.version, &mut self.unsent).is_ok();
        let size = self.unsent.len() - before;
        let fits = is_written && self.accepts(size);
        if !fits {
            self.unsent.truncate(before);
        }
        fits
    }

    /// Whether a PUBLISH of that many bytes is acceptable to the client. `[MQTT5-3.1.2-24]`
    pub fn accepts(&self, size: usize) -> bool {
        u32::try_from(size).is_ok_and(|size| size <= self.packet_size_max)
    }

    /// What a PUBLISH on this topic shall carry.
    pub fn choose_alias(&mut self, topic: &TopicName) -> Choice {
        if self.topic_alias_out_max == 0 || self.version != Version::V5 {
            return Choice::Plain;
        }
        let max = self.topic_alias_out_max;
        self.aliases_out.get_or_insert_with(|| Box::new(AliasesOut::new(max))).choose(topic)
    }

    pub fn write_frame(
        &mut self,
        frame: &PublishFrame,
        packet_id: Option<PacketId>,
        dup: bool,
        retain: bool,
    ) {
        frame.write(packet_id, dup, retain, &mut self.unsent);
    }
}
