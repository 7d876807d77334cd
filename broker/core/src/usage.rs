//! How much of a bound is used, counted over all shards. The only thing that shards share besides the router.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that all shards count up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Counts up, unless that goes beyond the bound. Exact, whatever the other shards do meanwhile.
    pub fn try_add(&self, count: u64, max: u64) -> bool {
        let added = |used: u64| used.checked_add(count).filter(|sum| *sum <= max);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, added).is_ok()
    }

    /// Counts up, whatever the bound: what exists already, or cannot be refused.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts down.
    pub fn sub(&self, count: u64) {
        let less = |used: u64| Some(used.saturating_sub(count));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less); // always changes
    }

    /// How much there is.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the clients of one app use together. Retained messages are counted by the router.
#[derive(Debug, Default)]
pub struct AppUsage {
    /// Network connections.
    pub connections: Gauge,
    /// Sessions.
    pub sessions: Gauge,
    /// Subscriptions.
    pub subscriptions: Gauge,
    /// Bytes in queues.
    pub queued_bytes: Gauge,
}

/// What the shards of one broker use together.
#[derive(Debug, Default)]
pub struct Usage {
    /// Messages that wait for their time.
    pub delayed_messages: Gauge,
    /// Their bytes.
    pub delayed_bytes: Gauge,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_goes_beyond_the_bound_however_many_shards_try() {
        let gauge = Gauge::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).filter(|_| gauge.try_add(3, 1_000)).count());
            }
        });
        assert_eq!(gauge.get(), 999);
        gauge.sub(u64::MAX);
        assert_eq!(gauge.get(), 0, "and never below zero");
        assert!(!gauge.try_add(u64::MAX, 5) && gauge.try_add(5, 5));
    }
}
