//! How long to wait before the next connection attempt: full jitter, so that a fleet never comes back at once. Pure.

use std::time::{Duration, Instant};

const DAY: Duration = Duration::from_secs(24 * 3_600);
/// A connection that was closed without a word may be the only one: nobody waits longer for that.
const CLOSED_WINDOW_MAX: Duration = Duration::from_secs(30);

/// The numbers behind the waiting time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Bound of the first random wait; it doubles with each further failure.
    pub base: Duration,
    /// No wait is longer than this.
    pub cap: Duration,
    /// A connection that lived at least this long makes earlier failures forgotten.
    pub stable_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(1),
            cap: Duration::from_secs(120),
            stable_after: Duration::from_secs(60),
        }
    }
}

/// Who ended the connection, as far as it decides how soon to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The network, or nobody knows: the first retry is immediate.
    Network,
    /// The broker's machine closed the connection without a word: it or its network may have failed for everybody, so the
    /// first retry takes its time within the broker's window, at most half a minute.
    Closed,
    /// The broker said so (busy, shutting down, refused): never an immediate retry, it would make things worse.
    Broker,
    /// Another connection has the same client id: the longest wait, else two of them would take turns for ever.
    TakenOver,
}

/// Counts failures and turns them into waiting times.
///
/// ```text
///  attempt  1st        2nd                3rd                 nth
///  wait     0          random(0, base)    random(0, 2 base)   random(0, min(cap, base * 2^(n-2)))
/// ```
#[derive(Clone, Debug)]
pub struct Reconnect {
    backoff: Backoff,
    failures: u32,
    connected_at: Option<Instant>,
    /// Over which time the broker wants its clients to come back when it was its own doing.
    window: Duration,
    /// The bound of the next wait that follows from it.
    spread: Duration,
}

impl Reconnect {
    /// Starts without any failure. No wait exceeds a day, whatever the numbers say.
    pub fn new(backoff: Backoff) -> Self {
        let backoff = Backoff { base: backoff.base.min(DAY), cap: backoff.cap.min(DAY), ..backoff };
        Self { backoff, failures: 0, connected_at: None, window: Duration::ZERO, spread: Duration::ZERO }
    }

    /// The broker accepted the connection.
    pub fn connected(&mut self, now: Instant) {
        self.connected_at = Some(now);
        self.spread = Duration::ZERO;
    }

    /// The broker would have its clients come back within this time, if they all must.
    pub fn advised(&mut self, window: Duration) {
        self.window = window.min(DAY);
    }

    /// The connection ended, or an attempt failed.
    pub fn lost(&mut self, cause: Cause, now: Instant) {
        let lived = self.connected_at.take().map(|since| now.saturating_duration_since(since));
        if lived.is_some_and(|lived| lived >= self.backoff.stable_after) {
            self.failures = 0;
        }
        // Only those who were connected are many at once; afterwards the growing bound spreads them.
        self.spread = match cause {
            Cause::Broker if lived.is_some() => self.window,
            Cause::Closed if lived.is_some() => self.window.min(CLOSED_WINDOW_MAX),
            Cause::Network | Cause::Closed | Cause::Broker | Cause::TakenOver => Duration::ZERO,
        };
        self.failures = match cause {
            Cause::Network | Cause::Closed => self.failures.saturating_add(1),
            Cause::Broker => self.failures.saturating_add(1).max(2),
            Cause::TakenOver => u32::MAX,
        };
    }

    /// The operating system reports another network: what failed on the old one says nothing about it.
    pub fn network_changed(&mut self) {
        self.failures = 0;
        self.connected_at = None;
        self.spread = Duration::ZERO;
    }

    /// The longest that the next wait can be.
    pub fn wait_max(&self) -> Duration {
        let Some(doublings) = self.failures.checked_sub(2) else {
            return self.spread;
        };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.backoff.base.saturating_mul(factor).min(self.backoff.cap).max(self.spread)
    }

    /// The next wait; `random` is uniform over all of `u64`.
    pub fn wait(&self, random: u64) -> Duration {
        let fraction = random as f64 / u64::MAX as f64;
        self.wait_max().mul_f64(fraction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(failures: u32) -> Reconnect {
        let mut reconnect = Reconnect::new(Backoff::default());
        let now = Instant::now();
        (0..failures).for_each(|_| reconnect.lost(Cause::Network, now));
        reconnect
    }

    #[test]
    fn the_bound_doubles_from_the_second_retry_up_to_the_cap() {
        for (failures, bound_s) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (8, 64), (9, 120), (40, 120)] {
            assert_eq!(after(failures).wait_max(), Duration::from_secs(bound_s), "after {failures} failures");
        }
    }

    #[test]
    fn only_a_connection_that_lived_long_enough_forgets_failures() {
        let start = Instant::now();
        for (lived_s, bound_s) in [(0, 16), (59, 16), (60, 0), (3_600, 0)] {
            let mut reconnect = after(5);
            reconnect.connected(start);
            reconnect.lost(Cause::Network, start + Duration::from_secs(lived_s));
            assert_eq!(reconnect.wait_max(), Duration::from_secs(bound_s), "lived {lived_s} s");
        }
    }

    #[test]
    fn a_broker_that_sends_us_away_is_not_asked_again_at_once() {
        let now = Instant::now();
        let mut reconnect = Reconnect::new(Backoff::default());
        reconnect.lost(Cause::Broker, now);
        assert_eq!(reconnect.wait_max(), Duration::from_secs(1));
        reconnect.lost(Cause::TakenOver, now);
        assert_eq!(reconnect.wait_max(), Duration::from_secs(120));
    }

    #[test]
    fn absurd_numbers_stay_within_a_day() {
        let now = Instant::now();
        let backoff = Backoff { base: Duration::MAX, cap: Duration::MAX, stable_after: Duration::MAX };
        let mut reconnect = Reconnect::new(backoff);
        reconnect.lost(Cause::TakenOver, now);
        assert_eq!(reconnect.wait(u64::MAX), DAY);
    }

    #[test]
    fn clients_that_lost_their_broker_come_back_over_the_time_that_it_asked_for() {
        let now = Instant::now();
        for (cause, window_s, bound_s) in [
            (Cause::Network, 200, 0),
            (Cause::Closed, 20, 20),
            (Cause::Closed, 200, 30),
            (Cause::Broker, 200, 200),
            (Cause::Broker, 0, 1),
        ] {
            let mut reconnect = Reconnect::new(Backoff::default());
            reconnect.advised(Duration::from_secs(window_s));
            reconnect.connected(now);
            reconnect.lost(cause, now);
            assert_eq!(reconnect.wait_max(), Duration::from_secs(bound_s), "{cause:?}, window {window_s} s");
            // The next attempt, which never connected, follows the growing bound.
            reconnect.lost(Cause::Closed, now);
            assert!(reconnect.wait_max() <= Duration::from_secs(2), "{cause:?}, window {window_s} s");
        }
    }

    #[test]
    fn another_network_is_tried_at_once() {
        let mut reconnect = after(30);
        reconnect.network_changed();
        assert_eq!(reconnect.wait(u64::MAX), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn a_wait_is_between_zero_and_its_bound_and_grows_with_the_random_number(
            failures in 0_u32..200, low: u64, high: u64, base_ms in 0_u64..10_000, cap_ms in 0_u64..1_000_000,
        ) {
            let backoff = Backoff {
                base: Duration::from_millis(base_ms), cap: Duration::from_millis(cap_ms), ..Backoff::default()
            };
            let mut reconnect = Reconnect::new(backoff);
            let now = Instant::now();
            (0..failures).for_each(|_| reconnect.lost(Cause::Network, now));
            let (low, high) = (low.min(high), low.max(high));
            prop_assert!(reconnect.wait_max() <= backoff.cap);
            prop_assert!(reconnect.wait(low) <= reconnect.wait(high));
            prop_assert!(reconnect.wait(high) <= reconnect.wait_max());
            prop_assert_eq!(reconnect.wait(0), Duration::ZERO);
        }

        #[test]
        fn another_failure_never_shortens_the_bound(failures in 0_u32..100) {
            prop_assert!(after(failures).wait_max() <= after(failures + 1).wait_max());
        }
    }
}
