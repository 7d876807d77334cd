//! What every part of a running bridge shares.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::Semaphore;

use crate::apps::Keys;
use crate::console::history::History;
use crate::feed::Publisher;
use crate::http::{Downloads, Rates};
use crate::metrics::Metrics;
use crate::rules::Rules;
use crate::sender::Sender;
use crate::store::Store;

/// Adds the text of another part's metrics to ours.
pub type ExtraMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// Whether the other part can work.
pub type IsReady = Arc<dyn Fn() -> bool + Send + Sync>;

/// What the bridge's HTTP listener serves for the broker in the same process.
pub struct Beside {
    /// The broker's counters, for `/metrics`.
    pub metrics: ExtraMetrics,
    /// Whether it takes clients: one that drains does not.
    pub is_ready: IsReady,
    /// Its operations API, served below `/v1/broker` to whoever has the operator's key.
    pub operations: axum::Router,
}

impl std::fmt::Debug for Beside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Beside")
    }
}

/// Shared by HTTP, feed, workers and chores.
pub(crate) struct Shared {
    pub store: Store,
    pub keys: Keys,
    /// What each of them asks for.
    pub rates: Rates,
    /// A number of this run of the program: what an earlier one left half done has another.
    pub run: u64,
    pub rules: Rules,
    pub sender: Sender,
    pub metrics: Metrics,
    /// What the console's curves show.
    pub history: History,
    /// Whether the feed is connected and subscribed.
    pub is_feed_up: AtomicBool,
    pub extra_metrics: Option<ExtraMetrics>,
    /// The operations API of the broker in the same process.
    pub broker: Option<axum::Router>,
    /// The readiness of the broker in the same process.
    pub is_broker_ready: Option<IsReady>,
    /// Where publishes for the broker are handed in.
    pub publisher: Publisher,
    /// Turns for uploads that come in.
    pub uploads: Semaphore,
    /// Turns for files that are fetched.
    pub downloads: Arc<Downloads>,
    /// Where uploads and exports lie.
    pub files: PathBuf,
    /// Hosts of webhooks that may be of the inner network.
    pub webhook_hosts: Vec<String>,
    /// How long records of the audit log are kept, in milliseconds.
    pub audit_retention_ms: u64,
    /// Calls of one app to one vendor at once.
    pub calls_at_once: usize,
}
