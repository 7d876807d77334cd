//! What a shard looks at once a second: who reads too slowly, who waits for memory, who had its time to leave.

use crate::host::Host;
use reveille_broker_core::io::ConnectionKey;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Between two looks.
const TICK: Duration = Duration::from_secs(1);

/// Slow consumers that one look of one shard names; the others are counted.
const NAMED_MAX: usize = 10;

/// How often things are looked at; a reload changes it.
#[derive(Debug)]
pub(crate) struct Intervals {
    slow_consumer_s: AtomicU64,
    sys_s: AtomicU64,
}

impl Intervals {
    /// As configured.
    pub(crate) fn new(slow_consumer_s: u64, sys_s: u64) -> Self {
        Self { slow_consumer_s: AtomicU64::new(slow_consumer_s), sys_s: AtomicU64::new(sys_s) }
    }

    /// From now on.
    pub(crate) fn set(&self, slow_consumer_s: u64, sys_s: u64) {
        self.slow_consumer_s.store(slow_consumer_s, Ordering::Relaxed);
        self.sys_s.store(sys_s, Ordering::Relaxed);
    }

    fn slow_consumer(&self) -> Option<Duration> {
        seconds(&self.slow_consumer_s)
    }

    /// Between two publications of `$SYS`; `None`: never.
    pub(crate) fn sys(&self) -> Option<Duration> {
        seconds(&self.sys_s)
    }
}

fn seconds(of: &AtomicU64) -> Option<Duration> {
    Some(of.load(Ordering::Relaxed)).filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

/// Looks until the shard's thread ends.
pub(crate) async fn watch(host: Rc<Host>) {
    let mut looked_at = Instant::now();
    loop {
        sleep(TICK).await;
        host.tend_sockets();
        let now = Instant::now();
        if let Some(interval) = host.shared.intervals.slow_consumer()
            && now.duration_since(looked_at) >= interval
        {
            looked_at = now;
            look_for_slow_consumers(&host, interval, now);
        }
    }
}

/// Whoever has more than half of its unsent bytes waiting, or took nothing for a whole interval, is named in the log.
fn look_for_slow_consumers(host: &Host, interval: Duration, now: Instant) {
    let mut unnamed = 0;
    let mut named = 0;
    for (connection, since) in host.blocked() {
        let blocked = now.duration_since(since);
        let Some(slow) =
            host.slow_consumer(connection).filter(|slow| slow.is_above_half || blocked >= interval)
        else {
            continue;
        };
        host.count(|counters| counters.slow_consumers += 1);
        if named == NAMED_MAX {
            unnamed += 1;
            continue;
        }
        named += 1;
        tracing::warn!(
            app = slow.app,
            client_id = slow.client_id,
            unsent_bytes = slow.unsent_bytes,
            queued_messages = slow.queued_messages,
            blocked_s = blocked.as_secs(),
            "a client reads too slowly"
        );
    }
    if unnamed > 0 {
        tracing::warn!(clients = unnamed, "more clients read too slowly");
    }
}

/// A connection whose socket takes no bytes.
#[derive(Debug)]
pub(crate) struct SlowConsumer {
    app: String,
    client_id: String,
    unsent_bytes: usize,
    queued_messages: usize,
    is_above_half: bool,
}

impl Host {
    fn blocked(&self) -> Vec<(ConnectionKey, Instant)> {
        self.with_rules(|rules| rules.connections.blocked())
    }

    fn slow_consumer(&self, connection: ConnectionKey) -> Option<SlowConsumer> {
        self.with_rules(|rules| {
            let backlog = rules.shard.backlog(connection)?;
            Some(SlowConsumer {
                app: backlog.app.to_string(),
                client_id: backlog.client_id.to_string(),
                unsent_bytes: backlog.unsent_bytes,
                queued_messages: backlog.queued_messages,
                is_above_half: backlog.unsent_bytes > backlog.unsent_bytes_max / 2,
            })
        })
    }
}
