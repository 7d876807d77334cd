//! A table of limits that says less than `[broker.limits]`: of one app, one listener or one user. What it leaves out
//! stays as it was.

use super::{ConfigError, LimitsConfig, QueueFullConfig};
use reveille_broker_core::limits::AppTotals;
use serde::{Deserialize, Serialize};

macro_rules! overrides {
    ($($key:ident: $type:ty;)*) => {
        /// The keys of `[broker.limits]` that may differ by app, listener and user.
        #[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
        #[serde(default, deny_unknown_fields)]
        #[allow(missing_docs, reason = "each is the key of the same name in `[broker.limits]`")]
        pub struct LimitsOverride {
            $(pub $key: Option<$type>,)*
        }

        impl LimitsOverride {
            /// These limits where they say something, the others where not.
            pub(crate) fn over(&self, under: &LimitsConfig) -> LimitsConfig {
                let mut limits = under.clone();
                $(if let Some(value) = &self.$key {
                    limits.$key = value.clone();
                })*
                limits
            }
        }
    };
}

overrides! {
    packet_size_max_bytes: u32;
    receive_maximum: u16;
    unacknowledged_max_bytes: u32;
    in_flight_max: u16;
    topic_alias_max: u16;
    topic_alias_out_max: u16;
    subscriptions_max: usize;
    filters_per_packet_max: usize;
    topic_levels_max: usize;
    queue_messages_max: usize;
    queue_max_bytes: u64;
    queue_age_max_s: u64;
    queue_full: QueueFullConfig;
    session_expiry_max_s: u32;
    keep_alive_max_s: u16;
    unsent_max_bytes: usize;
    publishes_per_s_max: u32;
    publish_bytes_per_s_max: u64;
    publish_patience_s: u64;
    maximum_qos: u8;
    retain_available: bool;
    wildcard_subscription_available: bool;
    subscription_identifiers_available: bool;
    shared_subscription_available: bool;
}

impl LimitsOverride {
    /// The same rules as for `[broker.limits]`.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.over(&LimitsConfig::default()).check()
    }
}

/// The table `[broker.apps.NAME.totals]`. What is absent has no bound.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TotalsConfig {
    /// Network connections.
    pub connections_max: Option<u64>,
    /// Sessions, with a connection or without.
    pub sessions_max: Option<u64>,
    /// Subscriptions of all sessions.
    pub subscriptions_max: Option<u64>,
    /// Bytes in all queues.
    pub queued_max_bytes: Option<u64>,
    /// Retained messages.
    pub retained_messages_max: Option<u64>,
    /// Their bytes.
    pub retained_max_bytes: Option<u64>,
}

impl TotalsConfig {
    /// The bounds as the core knows them.
    pub(crate) fn core(&self) -> AppTotals {
        let bound = |value: Option<u64>| value.unwrap_or(u64::MAX);
        AppTotals {
            connections_max: bound(self.connections_max),
            sessions_max: bound(self.sessions_max),
            subscriptions_max: bound(self.subscriptions_max),
            queued_bytes_max: bound(self.queued_max_bytes),
            retained_messages_max: bound(self.retained_messages_max),
            retained_bytes_max: bound(self.retained_max_bytes),
        }
    }
}
