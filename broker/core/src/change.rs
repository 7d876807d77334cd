//! Facts to make durable. The core says what happened; the store makes it last.

use crate::message::{Message, MessageKey, Push, Seq, SessionKey, Time};
use crate::networks::{NetworkKey, NetworkRecord};
use bytes::Bytes;
use bytestring::ByteString;
use reveille_proto::bridge::Priority;
use reveille_proto::ids::{AppId, ClientId, Epoch, MessageId, PacketId};
use reveille_proto::mqtt::{QoS, SubscriptionOptions};
use reveille_proto::topic::{Subscription, TopicName};
use std::sync::Arc;

/// One fact. Facts of one [`Batch`] become durable together or not at all; batches in the order of their commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A session began, or what its record says changed.
    PutSession {
        /// Which.
        session: SessionKey,
        /// What to remember.
        record: Box<SessionRecord>,
    },
    /// A session ended: forget it with its subscriptions, its queue and its received packet identifiers.
    DropSession {
        /// Which.
        session: SessionKey,
    },
    /// A subscription began or changed.
    Subscribe {
        /// Whose.
        session: SessionKey,
        /// To what.
        subscription: Subscription,
        /// How.
        granted: Granted,
    },
    /// A subscription ended.
    Unsubscribe {
        /// Whose.
        session: SessionKey,
        /// To what.
        subscription: Subscription,
    },
    /// A message took a place in a session's queue. The store keeps one body for all sessions that refer to it, and
    /// drops the body with the last reference.
    Enqueue {
        /// Whose queue.
        session: SessionKey,
        /// The place.
        entry: Entry,
        /// The body.
        message: Arc<Message>,
    },
    /// A place in a queue changed its phase or its announcement.
    Mark {
        /// Whose queue.
        session: SessionKey,
        /// The place as it is now.
        entry: Entry,
    },
    /// A place in a queue was given up: acknowledged, expired, replaced, dropped.
    Forget {
        /// Whose queue.
        session: SessionKey,
        /// Which place.
        seq: Seq,
    },
    /// A QoS 2 PUBLISH of this session was taken; its packet identifier is in use until PUBREL.
    Receive {
        /// Whose.
        session: SessionKey,
        /// Which.
        packet_id: PacketId,
    },
    /// PUBREL came: the packet identifier is free again.
    Release {
        /// Whose.
        session: SessionKey,
        /// Which.
        packet_id: PacketId,
    },
    /// The retained message of a topic; `None` clears it.
    Retain {
        /// Whose topic.
        app: AppId,
        /// Which.
        topic: TopicName,
        /// What.
        message: Option<Arc<Message>>,
    },
    /// The bridge must hear this, even if the broker dies before it could say so.
    Announce {
        /// Number of the announcement; never used twice.
        number: u64,
        /// What it must hear.
        announcement: Announcement,
    },
    /// The bridge's queue has it.
    Announced {
        /// Number of the announcement.
        number: u64,
    },
    /// What is known of a network; `None` forgets it.
    PutNetwork {
        /// Which.
        key: NetworkKey,
        /// What.
        record: Option<Box<NetworkRecord>>,
    },
}

/// Facts that become durable together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// In the order in which they happened.
    pub changes: Vec<Change>,
}

/// What outlives a restart about one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// The tenant.
    pub app: AppId,
    /// The client identifier, unique in the app.
    pub client_id: ClientId,
    /// Seconds after the end of the connection; 0: ends with it; `u32::MAX`: never.
    pub expiry_interval: u32,
    /// The number of its newest network connection.
    pub epoch: Epoch,
    /// Since when it has no network connection; `None` while it has one, or when the broker died with it.
    pub offline_since: Option<Time>,
    /// Places of its queue before this one may have been sent: they go out with DUP after a restart.
    pub sent_before: Seq,
    /// The will of the newest connection while it is neither published nor withdrawn.
    pub will: Option<Box<StoredWill>>,
}

/// A will that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredWill {
    /// What to publish.
    pub message: Message,
    /// Seconds to wait after the end of the connection.
    pub delay_interval: u32,
}

/// How a subscription was granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// Options, with the granted QoS.
    pub options: SubscriptionOptions,
    /// Subscription identifier; 0: none.
    pub identifier: u32,
}

/// One place in a session's queue: everything the rules need to know without reading the message's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The place.
    pub seq: Seq,
    /// The body.
    pub message: MessageKey,
    /// The QoS of this delivery: 1 or 2 in a durable queue; 0 only in memory.
    pub qos: QoS,
    /// The retain flag of this delivery.
    pub retain: bool,
    /// How far it got.
    pub phase: Phase,
    /// Bytes that count against the bounds of the queue.
    pub size: u32,
    /// Not delivered after this.
    pub expires_at: Expiry,
    /// What few have. See [`RareEntry::of`].
    pub rare: Option<Box<RareEntry>>,
}

// With what the queue adds it is one line of the processor's cache.
const _: () = assert!(size_of::<Entry>() <= 40);

impl Entry {
    /// Subscription identifiers of this delivery; none for most.
    pub fn subscription_identifiers(&self) -> &[u32] {
        self.rare.as_ref().map_or(&[], |rare| &rare.subscription_identifiers)
    }

    /// Present for push candidates.
    pub fn push(&self) -> Option<&PushEntry> {
        self.rare.as_ref()?.push.as_ref()
    }

    /// The same, to change it.
    pub fn push_mut(&mut self) -> Option<&mut PushEntry> {
        self.rare.as_mut()?.push.as_mut()
    }
}

/// When something ends, or that it never does: a time in eight bytes instead of sixteen. Never is later than everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Expiry(u64);

impl Expiry {
    /// It does not end.
    pub const NEVER: Self = Self(u64::MAX);

    /// The time, where there is one.
    pub fn time(self) -> Option<Time> {
        (self != Self::NEVER).then_some(Time(self.0))
    }

    /// Whether the time is over.
    pub fn is_over(self, now: Time) -> bool {
        self.time().is_some_and(|end| end <= now)
    }
}

impl From<Option<Time>> for Expiry {
    fn from(time: Option<Time>) -> Self {
        time.map_or(Self::NEVER, |time| Self(time.0))
    }
}

/// What few places in a queue have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RareEntry {
    /// Subscription identifiers of this delivery.
    pub subscription_identifiers: Box<[u32]>,
    /// Present for push candidates.
    pub push: Option<PushEntry>,
}

impl RareEntry {
    /// `None` where both are absent: two entries that say the same are equal.
    pub fn of(subscription_identifiers: Box<[u32]>, push: Option<PushEntry>) -> Option<Box<Self>> {
        let is_present = !subscription_identifiers.is_empty() || push.is_some();
        is_present.then(|| Box::new(Self { subscription_identifiers, push }))
    }
}

/// How far a place in the queue got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waiting, or PUBLISH was sent and not acknowledged: is (re)sent as PUBLISH.
    Queued,
    /// QoS 2: PUBREC came; PUBREL is (re)sent until PUBCOMP. The body is not needed any more.
    Released,
}

/// What the rules need to know about a queued push candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushEntry {
    /// Its identity across socket and vendors.
    pub id: MessageId,
    /// Which of the queued messages goes first.
    pub priority: Priority,
    /// A newer message with the same key replaces this one while it waits.
    pub collapse_key: Option<ByteString>,
    /// Whether the bridge was told that the device did not take it.
    pub is_announced: bool,
}

impl PushEntry {
    /// The entry of a fresh message.
    pub fn of(push: &Push) -> Self {
        Self {
            id: push.id,
            priority: push.priority,
            collapse_key: push.collapse_key.clone(),
            is_announced: false,
        }
    }
}

/// What the bridge must hear: a topic under `$push/v1/` and a payload of `bridge.proto`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Where.
    pub topic: TopicName,
    /// What.
    pub payload: Bytes,
}

/// A session as the store gives it back at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSession {
    /// Its number.
    pub session: SessionKey,
    /// Its record.
    pub record: Box<SessionRecord>,
    /// Its subscriptions.
    pub subscriptions: Vec<(Subscription, Granted)>,
    /// Its queue, ordered by place.
    pub entries: Vec<Entry>,
    /// Packet identifiers of QoS 2 messages that it sent and has not released.
    pub received: Vec<PacketId>,
}

/// What the store gives back at start, one item at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// A session with all that belongs to it.
    Session(Box<StoredSession>),
    /// A retained message.
    Retained(Arc<Message>),
    /// Something that the bridge has not heard yet.
    Announcement {
        /// Number of the announcement.
        number: u64,
        /// What.
        announcement: Announcement,
    },
    /// What is known of a network.
    Network {
        /// Which.
        key: NetworkKey,
        /// What.
        record: Box<NetworkRecord>,
    },
}
