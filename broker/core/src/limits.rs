//! Every bound of the broker with its default and its reason. Nothing in the broker grows without one of these.

use crate::usage::AppUsage;
use reveille_proto::ids::AppId;
use reveille_proto::mqtt::QoS;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The bounds of the whole broker, and those that a connection gets for which nothing else was said.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Of a connection for which neither its listener, its app nor its user says anything else.
    pub connection: Arc<ConnectionLimits>,
    /// Of the apps that have some of their own.
    pub apps: HashMap<AppId, AppLimits>,
    /// Messages and bytes in the bridge's queue: it must bear a bridge that is down for long. 4,000,000 and 4 GiB.
    pub bridge_queue_messages_max: usize,
    /// See above.
    pub bridge_queue_bytes_max: u64,
    /// Bodies of one online session that wait in memory beyond what is in flight. 64.
    pub look_ahead_max: usize,
    /// Bytes of the bodies that one shard keeps though no client gets them yet, in case a queue drains soon. 32 MiB:
    /// some hundred thousand messages of a few hundred bytes.
    pub recent_bodies_bytes_max: usize,
    /// Time that an online device has to acknowledge a push candidate which names none. 3 s.
    pub wait_ack: Duration,
    /// Retained messages that are read in one go for a subscriber. 256.
    pub retained_page: usize,
    /// Retained messages, of all apps together: they live in memory. 1,000,000.
    pub retained_messages_max: u64,
    /// Their payload and topic bytes. 1 GiB.
    pub retained_bytes_max: u64,
    /// Delayed messages, of all apps together: they wait in memory too. 100,000.
    pub delayed_messages_max: u64,
    /// Their payload and topic bytes. 64 MiB.
    pub delayed_bytes_max: u64,
    /// The longest delay. A week: beyond it a calendar is the better place.
    pub delay_max: Duration,
    /// Acknowledged push ids that one session remembers, so that a repeated directed send is harmless. 16.
    pub recent_pushes_max: usize,
}

/// The bounds of one connection and its session, which may differ by listener, app and user.
///
/// A session keeps those of its newest connection while it is offline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Bytes of one packet that a client may send. 1 MiB: larger things belong into an object store.
    pub packet_size_max: u32,
    /// QoS 1 and 2 messages that one client may have unacknowledged towards us (5.0 Receive Maximum). 1,024.
    pub receive_maximum: u16,
    /// Bytes that one client may have unacknowledged towards us before we stop reading from it. 1 MiB.
    pub unacknowledged_bytes_max: u32,
    /// QoS 1 and 2 messages that we have in flight towards one client, whatever more it allows. 1,024: the
    /// acknowledgement of any of them is found by looking through so many.
    pub in_flight_max: u16,
    /// Topic aliases that a client may set. 64.
    pub topic_alias_max: u16,
    /// Topic aliases that we set towards a client, whatever more it allows. 64.
    pub topic_alias_out_max: u16,
    /// Subscriptions of one session. 1,024.
    pub subscriptions_max: usize,
    /// Filters in one SUBSCRIBE or UNSUBSCRIBE. 256.
    pub filters_per_packet_max: usize,
    /// Levels of a topic name or filter. 128: walking a filter tree costs by levels.
    pub topic_levels_max: usize,
    /// Messages in one queue. 10,000.
    pub queue_messages_max: usize,
    /// Bytes (payload and topic) in one queue. 64 MiB, on disk.
    pub queue_bytes_max: u64,
    /// How long a message waits in a queue at most; messages with a shorter expiry go earlier. 30 days.
    pub queue_age_max: Duration,
    /// What happens when a queue is full.
    pub queue_full: QueueFull,
    /// Seconds that a session outlives its connection at most; also what 3.x sessions without Clean Session get.
    /// 30 days.
    pub session_expiry_max: u32,
    /// Longest keep alive in seconds; a client that asks for more, or for none, gets this as Server Keep Alive in
    /// 5.0 and is served with what it asked in 3.x. 65,535: no change.
    pub keep_alive_max: u16,
    /// Unsent bytes of one connection above which QoS 0 messages are dropped and others wait. 1 MiB.
    pub unsent_bytes_max: usize,
    /// How fast a client may publish. Unbounded: on a LAN the disk is the bound.
    pub rate: PublishRate,
    /// What a client may use of the protocol. Everything.
    pub offered: Offered,
}

/// How fast a client may publish. Zero is no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishRate {
    /// PUBLISH packets in a second; a second's worth may come at once.
    pub messages_per_s: u32,
    /// Payload and topic bytes in a second; a second's worth may come at once, and one larger message.
    pub bytes_per_s: u64,
    /// How long a client may press against the bound before it is told to leave. One minute: a burst after a
    /// network hole is over by then.
    pub patience: Duration,
}

/// What a client may use of the protocol. What is not offered is said in CONNACK and refused with its own reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The highest QoS of a publish, and of a subscription. Beyond it: 0x9B.
    pub maximum_qos: QoS,
    /// Retained messages. Without: 0x9A.
    pub retain: bool,
    /// Filters with wildcards. Without: 0xA2.
    pub wildcard_subscription: bool,
    /// Subscription identifiers. Without: 0xA1.
    pub subscription_identifiers: bool,
    /// `$share/`. Without: 0x9E.
    pub shared_subscription: bool,
}

/// What the clients of one app may use, each and together.
#[derive(Clone, Debug, Default)]
pub struct AppLimits {
    /// Of each of its connections.
    pub connection: Arc<ConnectionLimits>,
    /// Of all of them together.
    pub totals: AppTotals,
    /// How much of that is used: counted by the shards from the moment that they hear of these limits.
    pub usage: Arc<AppUsage>,
}

/// The bounds of one app. `u64::MAX`: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppTotals {
    /// Network connections.
    pub connections_max: u64,
    /// Sessions, with a connection or without.
    pub sessions_max: u64,
    /// Subscriptions of all its sessions.
    pub subscriptions_max: u64,
    /// Payload and topic bytes in all its queues. Two shards that queue at once may go beyond it by a message each.
    pub queued_bytes_max: u64,
    /// Retained messages.
    pub retained_messages_max: u64,
    /// Their payload and topic bytes.
    pub retained_bytes_max: u64,
}

impl Default for AppTotals {
    fn default() -> Self {
        Self {
            connections_max: u64::MAX,
            sessions_max: u64::MAX,
            subscriptions_max: u64::MAX,
            queued_bytes_max: u64::MAX,
            retained_messages_max: u64::MAX,
            retained_bytes_max: u64::MAX,
        }
    }
}

/// What happens when a queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueFull {
    /// The new message is refused: the publisher hears 0x97 when no receiver could take it.
    #[default]
    RefuseNewest,
    /// The oldest message that is not in flight makes room.
    DropOldest,
}

impl Limits {
    /// The defaults, but with these bounds for every connection.
    pub fn of(connection: ConnectionLimits) -> Self {
        Self { connection: Arc::new(connection), ..Self::default() }
    }

    /// The bounds of a connection of this app about which nothing more is known.
    pub fn of_app(&self, app: &AppId) -> &Arc<ConnectionLimits> {
        self.apps.get(app).map_or(&self.connection, |limits| &limits.connection)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connection: Arc::default(),
            apps: HashMap::new(),
            bridge_queue_messages_max: 4_000_000,
            bridge_queue_bytes_max: 4 << 30,
            look_ahead_max: 64,
            recent_bodies_bytes_max: 32 << 20,
            wait_ack: Duration::from_secs(3),
            retained_page: 256,
            retained_messages_max: 1_000_000,
            retained_bytes_max: 1 << 30,
            delayed_messages_max: 100_000,
            delayed_bytes_max: 64 << 20,
            delay_max: Duration::from_secs(7 * 24 * 60 * 60),
            recent_pushes_max: 16,
        }
    }
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            packet_size_max: 1 << 20,
            receive_maximum: 1024,
            unacknowledged_bytes_max: 1 << 20,
            in_flight_max: 1024,
            topic_alias_max: 64,
            topic_alias_out_max: 64,
            subscriptions_max: 1024,
            filters_per_packet_max: 256,
            topic_levels_max: 128,
            queue_messages_max: 10_000,
            queue_bytes_max: 64 << 20,
            queue_age_max: 30 * DAY,
            queue_full: QueueFull::default(),
            session_expiry_max: 30 * 24 * 60 * 60,
            keep_alive_max: u16::MAX,
            unsent_bytes_max: 1 << 20,
            rate: PublishRate::default(),
            offered: Offered::default(),
        }
    }
}

impl Default for PublishRate {
    fn default() -> Self {
        Self { messages_per_s: 0, bytes_per_s: 0, patience: Duration::from_secs(60) }
    }
}

impl Default for Offered {
    fn default() -> Self {
        Self {
            maximum_qos: QoS::ExactlyOnce,
            retain: true,
            wildcard_subscription: true,
            subscription_identifiers: true,
            shared_subscription: true,
        }
    }
}
