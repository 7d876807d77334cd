//! An application message inside the broker, and the numbers by which the broker knows things.

use bytes::Bytes;
use bytestring::ByteString;
use reveille_proto::bridge::{Priority, Strategy};
use reveille_proto::ids::{AppId, MessageId};
use reveille_proto::mqtt::{QoS, UserProperties};
use reveille_proto::topic::TopicName;
use std::ops::Add;
use std::time::Duration;

/// Milliseconds since 1970, UTC. The shell derives it from a monotonic clock, so it never runs backwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    /// The time that passed since `earlier`; zero when it is in the future.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, length: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(length.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// The broker's number of a message: the place of its body in the store. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageKey(pub u64);

/// The broker's number of a session, for as long as the session lives. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey(pub u64);

/// A place in one session's queue. Grows by one with each message queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seq(pub u64);

/// What a publisher sent, as all its receivers share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its number in the store.
    pub key: MessageKey,
    /// The tenant whose sessions may see it.
    pub app: AppId,
    /// Where it was published.
    pub topic: TopicName,
    /// The application's bytes.
    pub payload: Bytes,
    /// As published; each receiver gets at most this.
    pub qos: QoS,
    /// The retain flag as published.
    pub retain: bool,
    /// When the broker took it.
    pub accepted_at: Time,
    /// After this it is not delivered any more.
    pub expires_at: Option<Time>,
    /// The session that published it, for No Local. `[MQTT5-3.8.3-3]`
    pub publisher: Option<SessionKey>,
    /// What 5.0 forwards unchanged; absent for most messages.
    pub properties: Option<Box<MessageProperties>>,
    /// Present when the bridge may push it.
    pub push: Option<Box<Push>>,
}

impl Message {
    /// Bytes that count against the bounds of a queue: payload and topic.
    pub fn size(&self) -> u32 {
        u32::try_from(self.payload.len() + self.topic.as_str().len()).unwrap_or(u32::MAX)
    }

    /// Whether its time is over.
    pub fn is_expired(&self, now: Time) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

/// Properties that are forwarded unaltered, MQTT 5.0 section 3.3.2.3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is named after its property")]
pub struct MessageProperties {
    pub payload_format_indicator: Option<bool>,
    pub response_topic: Option<TopicName>,
    pub correlation_data: Option<Bytes>,
    pub content_type: Option<ByteString>,
    pub user_properties: UserProperties,
}

/// What makes a message a push candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// Its identity across socket and vendors.
    pub id: MessageId,
    /// How it may reach a device.
    pub strategy: Strategy,
    /// Which of the queued messages of a device goes first.
    pub priority: Priority,
    /// A newer message with the same key replaces an older queued one.
    pub collapse_key: Option<ByteString>,
    /// How long an online device has to acknowledge before the bridge hears of it.
    pub wait_ack: Duration,
    /// What the user sees, when a publisher or a push rule gave it.
    pub alert: Option<Alert>,
}

/// Title and body of an alert.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alert {
    /// First line.
    pub title: String,
    /// The text.
    pub body: String,
}
