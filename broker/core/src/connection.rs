//! One network connection: what the client allows, what it still has to be told, and when it was last heard.

use crate::acl::{Acl, LastAllowed};
use crate::io::{Identity, Opening};
use crate::limits::ConnectionLimits;
use crate::message::Time;
use bytes::BytesMut;
use bytestring::ByteString;
use reveille_proto::ids::PacketId;
use reveille_proto::mqtt::{Packet, Publish, PublishFrame, QoS, Version};
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

/// Topic aliases in both directions; absent where nobody uses them.
#[derive(Debug, Default)]
pub(crate) struct Aliases {
    pub theirs: HashMap<u16, TopicName>,
    pub ours: HashMap<TopicName, u16>,
}

/// What a connection may do, and for how long; absent where that is everything for ever.
#[derive(Debug)]
pub(crate) struct Permission {
    pub user: Option<ByteString>,
    pub acl: Option<Arc<Acl>>,
    pub last_allowed: LastAllowed,
    pub expires_at: Option<Time>,
}

impl Permission {
    fn of(identity: &Identity) -> Option<Box<Self>> {
        let Identity { user, acl, expires_at, app: _, is_bridge: _ } = identity;
        let is_limited = user.is_some() || acl.is_some() || expires_at.is_some();
        is_limited.then(|| {
            Box::new(Self {
                user: user.clone(),
                acl: acl.clone(),
                last_allowed: LastAllowed::default(),
                expires_at: *expires_at,
            })
        })
    }
}

/// What the rules do not need to know about a connection.
#[derive(Debug)]
pub(crate) struct About {
    /// When it was accepted.
    pub since: Time,
    /// Where it comes from.
    pub network: ByteString,
}

/// The keep alive that a client of 5.0 is told to use instead of its own. Older ones cannot be told.
pub(crate) fn server_keep_alive(opening: &Opening) -> Option<u16> {
    let (asked, max) = (opening.connect.keep_alive, opening.limits.keep_alive_max);
    let is_longer = max < u16::MAX && (asked == 0 || asked > max);
    (is_longer && opening.connect.version == Version::V5).then_some(max)
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Connection {
    pub generation: u32,
    /// Place of its session.
    pub session: u32,
    pub version: Version,
    /// Seconds; 0: never ends for silence.
    pub keep_alive: u16,
    pub last_seen: Time,
    pub limits: Arc<ConnectionLimits>,
    /// QoS 1 and 2 messages that may be in flight towards it.
    pub window: u16,
    /// Bytes of one packet that it accepts.
    pub packet_size_max: u32,
    pub topic_alias_out_max: u16,
    pub aliases: Option<Box<Aliases>>,
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
    /// We do not read from it: it owes too little or reads too little.
    pub is_paused: bool,
    pub permission: Option<Box<Permission>>,
}

impl Connection {
    pub fn new(generation: u32, session: u32, opening: &Opening, now: Time) -> Self {
        let connect = &opening.connect;
        let limits = &opening.limits;
        let properties = &connect.properties;
        Self {
            generation,
            session,
            version: connect.version,
            keep_alive: server_keep_alive(opening).unwrap_or(connect.keep_alive), // [MQTT5-3.2.2-22]
            last_seen: now,
            limits: Arc::clone(limits),
            window: properties.receive_maximum.unwrap_or(u16::MAX).min(limits.in_flight_max).max(1),
            packet_size_max: properties.maximum_packet_size.unwrap_or(u32::MAX),
            topic_alias_out_max: properties.topic_alias_maximum.unwrap_or(0).min(limits.topic_alias_out_max),
            aliases: None,
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
            about: Box::new(About { since: now, network: opening.network.clone() }),
            is_paused: false,
            permission: Permission::of(&opening.identity),
        }
    }

    /// When its credential ends.
    pub fn expires_at(&self) -> Option<Time> {
        self.permission.as_ref().and_then(|permission| permission.expires_at)
    }

    /// When somebody has to look at it: it may have been silent for too long, or its credential ends.
    pub fn look_at(&self) -> Option<Time> {
        [self.silent_until(), self.expires_at()].into_iter().flatten().min()
    }

    /// When silence ends it: one and a half keep alives after the last packet that came. What we send does not
    /// count, or a dead phone with traffic would live for ever. `[MQTT5-3.1.2-22]`
    pub fn silent_until(&self) -> Option<Time> {
        let limit = Duration::from_millis(u64::from(self.keep_alive) * 1500);
        (self.keep_alive > 0).then(|| self.last_seen + limit)
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
        let pauses = if self.is_paused { !has_room } else { is_full };
        let changes = pauses != self.is_paused;
        self.is_paused = pauses;
        changes.then_some(!pauses)
    }

    /// Appends a packet. What does not fit the client's maximum is left out and `false`: a PUBLISH, which is checked
    /// before, or the answer to very many filters. `[MQTT5-3.1.2-24]`
    pub fn write(&mut self, packet: &Packet) -> bool {
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

    /// Puts a topic alias in, for a client that allows them: the first topics of the connection get one.
    pub fn alias(&mut self, publish: &mut Publish) {
        let Some(topic) = publish.topic.clone() else { return };
        let aliases = self.aliases.get_or_insert_default();
        if let Some(alias) = aliases.ours.get(&topic) {
            publish.properties.topic_alias = Some(*alias);
            publish.topic = None;
        } else if aliases.ours.len() < usize::from(self.topic_alias_out_max) {
            let alias = u16::try_from(aliases.ours.len() + 1).unwrap_or(u16::MAX);
            aliases.ours.insert(topic, alias);
            publish.properties.topic_alias = Some(alias);
        }
    }

    /// Takes an alias back whose PUBLISH was not written.
    pub fn unalias(&mut self, publish: &Publish) {
        if let (Some(topic), Some(aliases)) = (&publish.topic, &mut self.aliases) {
            aliases.ours.remove(topic);
        }
    }

    pub fn has_aliases_out(&self) -> bool {
        self.topic_alias_out_max > 0 && self.version == Version::V5
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
