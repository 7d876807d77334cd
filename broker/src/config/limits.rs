//! The table `[broker.limits]`: the bounds of the core with units in their names, and those of the shell.

use super::ConfigError;
use reveille_broker_core::limits::{ConnectionLimits, Limits, Offered, PublishRate, QueueFull};
use reveille_proto::mqtt::QoS;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Every bound that an operator can move.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Network connections at once, all listeners together. 1,000,000; the file descriptors bound it too.
    pub connections_max: usize,
    /// Memory of the process; 0: 80 % of what the machine or its cgroup has. See "Overload" in the operators' page.
    pub memory_max_bytes: u64,
    /// CONNECTs that one shard waits for at once. 1,024: beyond it new sockets are closed at once.
    pub handshakes_max: usize,
    /// Milliseconds from accepting a socket to a whole CONNECT. 10,000.
    pub connect_deadline_ms: u64,
    /// See [`ConnectionLimits::packet_size_max`].
    pub packet_size_max_bytes: u32,
    /// See [`ConnectionLimits::receive_maximum`].
    pub receive_maximum: u16,
    /// See [`ConnectionLimits::unacknowledged_bytes_max`].
    pub unacknowledged_max_bytes: u32,
    /// See [`ConnectionLimits::in_flight_max`].
    pub in_flight_max: u16,
    /// See [`ConnectionLimits::topic_alias_max`].
    pub topic_alias_max: u16,
    /// See [`ConnectionLimits::topic_alias_out_max`].
    pub topic_alias_out_max: u16,
    /// See [`ConnectionLimits::subscriptions_max`].
    pub subscriptions_max: usize,
    /// See [`ConnectionLimits::filters_per_packet_max`].
    pub filters_per_packet_max: usize,
    /// See [`ConnectionLimits::topic_levels_max`].
    pub topic_levels_max: usize,
    /// See [`ConnectionLimits::queue_messages_max`].
    pub queue_messages_max: usize,
    /// See [`ConnectionLimits::queue_bytes_max`].
    pub queue_max_bytes: u64,
    /// See [`ConnectionLimits::queue_age_max`].
    pub queue_age_max_s: u64,
    /// See [`ConnectionLimits::queue_full`].
    pub queue_full: QueueFullConfig,
    /// See [`Limits::bridge_queue_messages_max`].
    pub bridge_queue_messages_max: usize,
    /// See [`Limits::bridge_queue_bytes_max`].
    pub bridge_queue_max_bytes: u64,
    /// See [`ConnectionLimits::session_expiry_max`].
    pub session_expiry_max_s: u32,
    /// See [`ConnectionLimits::keep_alive_max`].
    pub keep_alive_max_s: u16,
    /// See [`ConnectionLimits::unsent_bytes_max`].
    pub unsent_max_bytes: usize,
    /// See [`Limits::look_ahead_max`].
    pub look_ahead_max: usize,
    /// See [`Limits::recent_bodies_bytes_max`].
    pub recent_bodies_max_bytes: usize,
    /// See [`Limits::wait_ack`].
    pub wait_ack_ms: u64,
    /// See [`Limits::retained_page`].
    pub retained_page: usize,
    /// See [`Limits::recent_pushes_max`].
    pub recent_pushes_max: usize,
    /// See [`Limits::retained_messages_max`].
    pub retained_messages_max: u64,
    /// See [`Limits::retained_bytes_max`].
    pub retained_max_bytes: u64,
    /// See [`Limits::delayed_messages_max`].
    pub delayed_messages_max: u64,
    /// See [`Limits::delayed_bytes_max`].
    pub delayed_max_bytes: u64,
    /// See [`Limits::delay_max`].
    pub delay_max_s: u64,
    /// See [`PublishRate::messages_per_s`].
    pub publishes_per_s_max: u32,
    /// See [`PublishRate::bytes_per_s`].
    pub publish_bytes_per_s_max: u64,
    /// See [`PublishRate::patience`].
    pub publish_patience_s: u64,
    /// See [`Offered::maximum_qos`]: 0, 1 or 2.
    pub maximum_qos: u8,
    /// See [`Offered::retain`].
    pub retain_available: bool,
    /// See [`Offered::wildcard_subscription`].
    pub wildcard_subscription_available: bool,
    /// See [`Offered::subscription_identifiers`].
    pub subscription_identifiers_available: bool,
    /// See [`Offered::shared_subscription`].
    pub shared_subscription_available: bool,
}

/// What happens when a queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueFullConfig {
    /// The new message is refused.
    RefuseNewest,
    /// The oldest waiting message makes room.
    DropOldest,
}

impl From<QueueFullConfig> for QueueFull {
    fn from(policy: QueueFullConfig) -> Self {
        match policy {
            QueueFullConfig::RefuseNewest => Self::RefuseNewest,
            QueueFullConfig::DropOldest => Self::DropOldest,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let core = Limits::default();
        let connection = ConnectionLimits::default();
        Self {
            connections_max: 1_000_000,
            memory_max_bytes: 0,
            handshakes_max: 4096,
            connect_deadline_ms: 10_000,
            packet_size_max_bytes: connection.packet_size_max,
            receive_maximum: connection.receive_maximum,
            unacknowledged_max_bytes: connection.unacknowledged_bytes_max,
            in_flight_max: connection.in_flight_max,
            topic_alias_max: connection.topic_alias_max,
            topic_alias_out_max: connection.topic_alias_out_max,
            subscriptions_max: connection.subscriptions_max,
            filters_per_packet_max: connection.filters_per_packet_max,
            topic_levels_max: connection.topic_levels_max,
            queue_messages_max: connection.queue_messages_max,
            queue_max_bytes: connection.queue_bytes_max,
            queue_age_max_s: connection.queue_age_max.as_secs(),
            queue_full: match connection.queue_full {
                QueueFull::RefuseNewest => QueueFullConfig::RefuseNewest,
                QueueFull::DropOldest => QueueFullConfig::DropOldest,
            },
            bridge_queue_messages_max: core.bridge_queue_messages_max,
            bridge_queue_max_bytes: core.bridge_queue_bytes_max,
            session_expiry_max_s: connection.session_expiry_max,
            keep_alive_max_s: connection.keep_alive_max,
            unsent_max_bytes: connection.unsent_bytes_max,
            look_ahead_max: core.look_ahead_max,
            recent_bodies_max_bytes: core.recent_bodies_bytes_max,
            wait_ack_ms: u64::try_from(core.wait_ack.as_millis()).unwrap_or(u64::MAX),
            retained_page: core.retained_page,
            recent_pushes_max: core.recent_pushes_max,
            retained_messages_max: core.retained_messages_max,
            retained_max_bytes: core.retained_bytes_max,
            delayed_messages_max: core.delayed_messages_max,
            delayed_max_bytes: core.delayed_bytes_max,
            delay_max_s: core.delay_max.as_secs(),
            publishes_per_s_max: connection.rate.messages_per_s,
            publish_bytes_per_s_max: connection.rate.bytes_per_s,
            publish_patience_s: connection.rate.patience.as_secs(),
            maximum_qos: connection.offered.maximum_qos as u8,
            retain_available: connection.offered.retain,
            wildcard_subscription_available: connection.offered.wildcard_subscription,
            subscription_identifiers_available: connection.offered.subscription_identifiers,
            shared_subscription_available: connection.offered.shared_subscription,
        }
    }
}

impl LimitsConfig {
    /// The bounds as the core knows them, without those of single apps.
    pub(crate) fn core(&self) -> Limits {
        Limits {
            connection: Arc::new(self.connection()),
            bridge_queue_messages_max: self.bridge_queue_messages_max,
            bridge_queue_bytes_max: self.bridge_queue_max_bytes,
            look_ahead_max: self.look_ahead_max,
            recent_bodies_bytes_max: self.recent_bodies_max_bytes,
            wait_ack: Duration::from_millis(self.wait_ack_ms),
            retained_page: self.retained_page,
            retained_messages_max: self.retained_messages_max,
            retained_bytes_max: self.retained_max_bytes,
            delayed_messages_max: self.delayed_messages_max,
            delayed_bytes_max: self.delayed_max_bytes,
            delay_max: Duration::from_secs(self.delay_max_s),
            recent_pushes_max: self.recent_pushes_max,
            ..Limits::default()
        }
    }

    /// Those of a connection for which nothing else was said.
    pub(crate) fn connection(&self) -> ConnectionLimits {
        ConnectionLimits {
            packet_size_max: self.packet_size_max_bytes,
            receive_maximum: self.receive_maximum,
            unacknowledged_bytes_max: self.unacknowledged_max_bytes,
            in_flight_max: self.in_flight_max,
            topic_alias_max: self.topic_alias_max,
            topic_alias_out_max: self.topic_alias_out_max,
            subscriptions_max: self.subscriptions_max,
            filters_per_packet_max: self.filters_per_packet_max,
            topic_levels_max: self.topic_levels_max,
            queue_messages_max: self.queue_messages_max,
            queue_bytes_max: self.queue_max_bytes,
            queue_age_max: Duration::from_secs(self.queue_age_max_s),
            queue_full: self.queue_full.into(),
            session_expiry_max: self.session_expiry_max_s,
            keep_alive_max: self.keep_alive_max_s,
            unsent_bytes_max: self.unsent_max_bytes,
            rate: PublishRate {
                messages_per_s: self.publishes_per_s_max,
                bytes_per_s: self.publish_bytes_per_s_max,
                patience: Duration::from_secs(self.publish_patience_s),
            },
            offered: Offered {
                maximum_qos: QoS::from_u8(self.maximum_qos).unwrap_or(QoS::ExactlyOnce),
                retain: self.retain_available,
                wildcard_subscription: self.wildcard_subscription_available,
                subscription_identifiers: self.subscription_identifiers_available,
                shared_subscription: self.shared_subscription_available,
            },
        }
    }

    /// A bound of zero would stop the broker from doing anything; a few have ceilings from the wire or the disk.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let not_zero = [
            ("connections_max", self.connections_max != 0),
            ("handshakes_max", self.handshakes_max != 0),
            ("connect_deadline_ms", self.connect_deadline_ms != 0),
            ("receive_maximum", self.receive_maximum != 0),
            ("unacknowledged_max_bytes", self.unacknowledged_max_bytes != 0),
            ("in_flight_max", self.in_flight_max != 0),
            ("subscriptions_max", self.subscriptions_max != 0),
            ("filters_per_packet_max", self.filters_per_packet_max != 0),
            ("topic_levels_max", self.topic_levels_max != 0),
            ("queue_messages_max", self.queue_messages_max != 0),
            ("queue_max_bytes", self.queue_max_bytes != 0),
            ("queue_age_max_s", self.queue_age_max_s != 0),
            ("bridge_queue_messages_max", self.bridge_queue_messages_max != 0),
            ("bridge_queue_max_bytes", self.bridge_queue_max_bytes != 0),
            ("keep_alive_max_s", self.keep_alive_max_s != 0),
            ("unsent_max_bytes", self.unsent_max_bytes != 0),
            ("look_ahead_max", self.look_ahead_max != 0),
            ("retained_page", self.retained_page != 0),
        ];
        if let Some((key, _)) = not_zero.into_iter().find(|(_, is_fine)| !is_fine) {
            return Err(ConfigError::Limit { key, range: "at least 1" });
        }
        // The largest packet that the variable byte integer of the fixed header can announce. [MQTT5-1.5.5]
        if !(1_024..=268_435_455).contains(&self.packet_size_max_bytes) {
            return Err(ConfigError::Limit { key: "packet_size_max_bytes", range: "1024 to 268435455" });
        }
        if self.maximum_qos > 2 {
            return Err(ConfigError::Limit { key: "maximum_qos", range: "0, 1 or 2" });
        }
        if self.look_ahead_max > reveille_broker_store::READ_MAX {
            return Err(ConfigError::Limit { key: "look_ahead_max", range: "at most 1024" });
        }
        Ok(())
    }
}
