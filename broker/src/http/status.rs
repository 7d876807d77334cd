//! The broker itself: what it counts, its shards, its listeners, what it is.

use super::admin::{Api, Listed};
use super::problem::{Errno, Problem};
use crate::listener::Listener;
use crate::tls::TlsFiles;
use axum::extract::State;
use reveille_broker_core::io::ShardNo;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use utoipa::ToSchema;

/// Everything that is counted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stats {
    /// Whether clients are accepted and the newest commit succeeded.
    ready: bool,
    /// Network connections now, those in the handshake included.
    connections: usize,
    at_ms: u64,
    /// The numbers of `/metrics`, by the same names without prefix and suffix.
    counters: BTreeMap<&'static str, u64>,
}

/// All counters as JSON.
#[utoipa::path(get, path = "/stats", tag = "broker", responses((status = 200, body = Stats)))]
pub(crate) async fn stats(State(api): State<Api>) -> Result<axum::Json<Stats>, Problem> {
    let metrics = api.shared.metrics.clone();
    let report = tokio::task::spawn_blocking(move || metrics.gather());
    let report = report.await.map_err(|_| Problem::new(Errno::Stopping))?;
    let mut counters: BTreeMap<&'static str, u64> = report.core.each().collect();
    counters.extend(report.shell.numbers());
    let health = &api.shared.health;
    let (ready, connections, at_ms) = (health.is_ready(), health.connections(), api.now().0);
    Ok(axum::Json(Stats { ready, connections, at_ms, counters }))
}

/// One of the threads that own sessions.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ShardStatus {
    shard: u16,
    sessions: usize,
    sessions_online: u64,
    subscriptions: u64,
    queued_messages: u64,
    queued_bytes: u64,
    /// Bytes that wait in its mailbox.
    mailbox_bytes: usize,
    /// How long a question waited for its turn just now, in microseconds: what every client of the shard waits too.
    lag_us: u64,
}

/// The shards.
#[utoipa::path(get, path = "/shards", tag = "broker", responses((status = 200, body = Listed<ShardStatus>)))]
pub(crate) async fn shards(State(api): State<Api>) -> Result<axum::Json<Listed<ShardStatus>>, Problem> {
    let mut items = Vec::new();
    for no in 0..api.shards() {
        let mailbox_bytes = api.shared.mailboxes.waiting(ShardNo(no));
        let asked = Instant::now();
        let read = |shard: &reveille_broker_core::shard::Shard| {
            (shard.session_count(), shard.counters().clone(), Instant::now())
        };
        let (sessions, counters, answered) = api.look(ShardNo(no), read).await?;
        items.push(ShardStatus {
            shard: no,
            sessions,
            sessions_online: counters.sessions_online,
            subscriptions: counters.subscriptions,
            queued_messages: counters.queued_messages,
            queued_bytes: counters.queued_bytes,
            mailbox_bytes,
            lag_us: u64::try_from((answered - asked).as_micros()).unwrap_or(u64::MAX),
        });
    }
    let count = items.len();
    Ok(Listed::new(items, None, count))
}

/// Where clients come in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListenerStatus {
    name: String,
    /// `tcp`, `tls`, `ws`, `wss` or `unix`.
    kind: String,
    /// An address with its port, or the path of a Unix socket.
    place: String,
    /// Network connections now, those in the handshake included.
    connections: usize,
    /// Sockets that came.
    accepted: u64,
    /// Sockets that were closed before anything was read from them: too many, or from where nobody may come.
    turned_away: u64,
    /// With TLS: when the first of its certificates ends.
    #[schema(required)]
    not_after_ms: Option<u64>,
}

/// The listeners, that of the bridge included.
#[utoipa::path(get, path = "/listeners", tag = "broker",
    responses((status = 200, body = Listed<ListenerStatus>)))]
pub(crate) async fn listeners(State(api): State<Api>) -> axum::Json<Listed<ListenerStatus>> {
    let status = |(listener, place): &(Arc<Listener>, String)| ListenerStatus {
        name: listener.name.to_string(),
        kind: listener.kind.to_string(),
        place: place.clone(),
        connections: listener.connections(),
        accepted: listener.accepted.load(Ordering::Relaxed),
        turned_away: listener.turned_away.load(Ordering::Relaxed),
        not_after_ms: listener.tls.as_ref().and_then(TlsFiles::not_after_s).map(|s| s.saturating_mul(1000)),
    };
    let items: Vec<_> = api.listeners.get().into_iter().flatten().map(status).collect();
    let count = items.len();
    Listed::new(items, None, count)
}

/// What runs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Build {
    name: &'static str,
    version: &'static str,
    /// How often the data directory was opened.
    boot: u64,
    started_at_ms: u64,
    uptime_s: u64,
    shards: u16,
}

/// What runs, and since when.
#[utoipa::path(get, path = "/build", tag = "broker", responses((status = 200, body = Build)))]
pub(crate) async fn build(State(api): State<Api>) -> axum::Json<Build> {
    axum::Json(Build {
        name: "reveille",
        version: env!("CARGO_PKG_VERSION"),
        boot: api.boot(),
        started_at_ms: api.started.0,
        uptime_s: api.now().since(api.started).as_secs(),
        shards: api.shards(),
    })
}
