//! Failed logins by address, besides those by key that `apps.rs` counts: whoever tries many names is slowed down too.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;

use crate::sender::tasks::lock;

/// Failures of one address within [`WINDOW_MS`] before it is refused unseen.
const FAILURES_MAX: u32 = 20;
const WINDOW_MS: u64 = 5 * 60_000;
/// Addresses with failures that are watched; beyond it the count starts anew.
const ADDRESSES_MAX: usize = 10_000;

/// Failed logins by address.
#[derive(Default)]
pub(super) struct Attempts(Mutex<HashMap<IpAddr, (u64, u32)>>);

impl Attempts {
    /// Whether the address failed too often lately.
    pub fn are_too_many(&self, address: IpAddr, now_ms: u64) -> bool {
        let failures = lock(&self.0);
        let known = failures.get(&address);
        known.is_some_and(|(since_ms, count)| {
            *count >= FAILURES_MAX && now_ms.saturating_sub(*since_ms) < WINDOW_MS
        })
    }

    /// Counts a failure.
    pub fn note_failure(&self, address: IpAddr, now_ms: u64) {
        let mut failures = lock(&self.0);
        if failures.len() >= ADDRESSES_MAX {
            failures.clear();
        }
        let (since_ms, count) = failures.entry(address).or_insert((now_ms, 0));
        if now_ms.saturating_sub(*since_ms) >= WINDOW_MS {
            (*since_ms, *count) = (now_ms, 0);
        }
        *count = count.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn an_address_that_fails_too_often_waits_and_no_other_does() {
        let (bad, good) = (IpAddr::from(Ipv4Addr::new(10, 0, 0, 1)), IpAddr::from(Ipv4Addr::LOCALHOST));
        let attempts = Attempts::default();
        for _ in 0..FAILURES_MAX {
            assert!(!attempts.are_too_many(bad, 1_000));
            attempts.note_failure(bad, 1_000);
        }
        assert!(attempts.are_too_many(bad, 1_000) && !attempts.are_too_many(good, 1_000));
        assert!(!attempts.are_too_many(bad, 1_000 + WINDOW_MS));
    }
}
