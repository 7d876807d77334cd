//! The sending side: publishes that return when the broker has them.

use crate::client::{ClosedError, Handle};
use crate::network::NetworkState;
use crate::options::{ConnectError, Options};
use crate::payload::{BODY_PROPERTY, COLLAPSE_PROPERTY, STRATEGY_PROPERTY, TITLE_PROPERTY};
use crate::poster::{OutboxState, PostError};
use bytes::Bytes;
use reveille_proto::ids::MessageId;
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::{TopicError, TopicName};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Publish, PublishProperties};
use std::time::Duration;
use tokio::sync::watch;

/// Why a message is not, or perhaps not, with the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The text is no topic name.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The broker does not take it, for example with `ReasonCode::QUOTA_EXCEEDED`.
    #[error("refused by the broker: {0}")]
    Refused(ReasonCode),
    /// The broker takes no packet of this size, in bytes.
    #[error("a packet of {size} bytes is above the broker's limit of {max}")]
    TooLarge {
        /// Of this packet.
        size: usize,
        /// The broker's Maximum Packet Size.
        max: usize,
    },
    /// QoS 2: the broker took it over and then forgot the session, so whether it went on is not known.
    #[error("the broker lost the session between PUBREC and PUBCOMP")]
    OutcomeUnknown,
    /// QoS 2 on a session that may be older than this process: the broker could take a new message for an old one
    /// with the same packet identifier. A [`Publisher`] begins with a new session and has no such past.
    #[error("QoS 2 is for publishers")]
    ExactlyOnceNeedsPublisher,
    /// The client was closed before the broker answered.
    #[error("the client is closed")]
    Closed,
}

/// Which way a push candidate goes to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// By socket; by vendor when the device is offline or does not acknowledge in time.
    OnlineFirst,
    /// By vendor, whether or not the device is online.
    VendorOnly,
    /// By socket; waits in the queue while the device is offline.
    OnlineOnly,
    /// By vendor; by socket when the vendor refuses.
    VendorFirst,
    /// Both ways at once; the device drops the second.
    BothDedup,
}

impl Strategy {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnlineFirst => "online_first",
            Self::VendorOnly => "vendor_only",
            Self::OnlineOnly => "online_only",
            Self::VendorFirst => "vendor_first",
            Self::BothDedup => "both_dedup",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        let all = [Self::OnlineFirst, Self::VendorOnly, Self::OnlineOnly, Self::VendorFirst, Self::BothDedup];
        all.into_iter().find(|strategy| strategy.as_str() == word)
    }
}

/// What makes a published message a push candidate. With nothing set it is an ordinary message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushHints {
    /// The alert's title.
    pub title: Option<String>,
    /// The alert's text.
    pub body: Option<String>,
    /// The way; the app's default otherwise.
    pub strategy: Option<Strategy>,
    /// A newer message with the same key replaces this one in queues and on the screen.
    pub collapse: Option<String>,
    /// Nobody wants it after this time, in whole seconds. Alone it makes no push candidate.
    pub ttl: Option<Duration>,
}

impl PushHints {
    fn properties(&self) -> Option<PublishProperties> {
        let user_properties: Vec<_> = [
            (TITLE_PROPERTY, self.title.as_deref()),
            (BODY_PROPERTY, self.body.as_deref()),
            (STRATEGY_PROPERTY, self.strategy.map(Strategy::as_str)),
            (COLLAPSE_PROPERTY, self.collapse.as_deref()),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name.to_owned(), value.to_owned())))
        .collect();
        let message_expiry_interval = self.ttl.map(|ttl| u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX));
        if user_properties.is_empty() && message_expiry_interval.is_none() {
            return None;
        }
        Some(PublishProperties { user_properties, message_expiry_interval, ..PublishProperties::default() })
    }
}

/// A connection that publishes. It begins with a new session and resumes it after each broken connection.
///
/// What is unacknowledged lives in memory: it survives reconnects, not the process.
#[derive(Debug)]
pub struct Publisher {
    handle: Handle,
}

impl Publisher {
    /// Begins to connect, and returns at once. The options' clean start is on; an inbox file is not used.
    ///
    /// # Errors
    /// [`ConnectError`] when the options are off bounds or there is no tokio runtime.
    pub fn connect(options: Options) -> Result<Self, ConnectError> {
        let options = Options { clean_start: true, inbox_file: None, ..options };
        Ok(Self { handle: Handle::start(options, None)? })
    }

    /// Publishes, and returns when the broker has acknowledged: PUBACK for QoS 1, PUBCOMP for QoS 2, written to the
    /// socket for QoS 0. Waits for the network, and for room among what is unacknowledged.
    ///
    /// Calls may run at once; messages leave in the order of the calls. A call that is dropped still sends.
    ///
    /// # Errors
    /// [`PublishError`]; after `Refused`, `Topic` and `TooLarge` the broker does not have the message.
    pub async fn publish(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
        qos: QoS,
        hints: &PushHints,
    ) -> Result<(), PublishError> {
        self.handle.publish(packet(topic, payload.into(), qos, hints)?).await
    }

    /// As [`Publisher::publish`], and later subscribers get it too: the last value of its topic. An empty payload
    /// removes it.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub async fn publish_retained(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
        qos: QoS,
    ) -> Result<(), PublishError> {
        let publish = packet(topic, payload.into(), qos, &PushHints::default())?;
        self.handle.publish(Publish { retain: true, ..publish }).await
    }

    /// As [`crate::Client::post`].
    ///
    /// # Errors
    /// As [`crate::Client::post`].
    pub async fn post(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
        hints: &PushHints,
    ) -> Result<MessageId, PostError> {
        self.handle.poster.post(topic, payload.into(), hints).await
    }

    /// What the outbox holds, now and from now on.
    pub fn outbox(&self) -> watch::Receiver<OutboxState> {
        self.handle.poster.state.clone()
    }

    /// Where the connection stands, now and from now on.
    pub fn network(&self) -> watch::Receiver<NetworkState> {
        self.handle.network()
    }

    /// Waits until messages flow.
    ///
    /// # Errors
    /// [`ClosedError`] when the publisher is closed before.
    pub async fn online(&self) -> Result<(), ClosedError> {
        self.handle.online().await
    }

    /// Says goodbye and ends the task. Publishes that wait end with [`PublishError::Closed`].
    pub async fn close(&self) {
        self.handle.close().await;
    }
}

/// A PUBLISH with checked topic name.
pub(crate) fn packet(
    topic: &str,
    payload: Bytes,
    qos: QoS,
    hints: &PushHints,
) -> Result<Publish, PublishError> {
    TopicName::parse(topic)?;
    Ok(Publish::new(topic, qos, payload, hints.properties()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_become_user_properties_and_an_expiry() {
        let hints = PushHints {
            title: Some("t".into()),
            strategy: Some(Strategy::BothDedup),
            ttl: Some(Duration::from_secs(90)),
            ..PushHints::default()
        };
        let properties = hints.properties().unwrap_or_default();
        let wanted = [("push-title", "t"), ("push-strategy", "both_dedup")];
        assert_eq!(properties.user_properties, wanted.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(properties.message_expiry_interval, Some(90));
        assert_eq!(PushHints::default().properties(), None);
    }

    #[test]
    fn a_topic_with_a_wildcard_is_refused_before_it_is_sent() {
        for bad in ["", "a/+", "#", "a\0b"] {
            assert!(
                matches!(
                    packet(bad, Bytes::new(), QoS::AtLeastOnce, &PushHints::default()),
                    Err(PublishError::Topic(_))
                ),
                "{bad:?}"
            );
        }
    }
}
