//! Whether a vendor may be called, from how its last calls ended. Pure; one for each app and vendor.
//!
//! ```text
//!            5 failures in a row             its time is over
//!  closed --------------------> open -----------------------> half open (one call at a time)
//!    ^                           ^                              |        |
//!    |                           `------- a failure, twice as long ------'
//!    `-------------------------------- a success ---------------'
//! ```
//! While it is open, pushes wait in their durable queue until they are worthless; no other lane is concerned.

/// Failures in a row that open it.
const FAILURES_MAX: u32 = 5;
/// The first time it stays open, in milliseconds; doubled with each failed probe.
const OPEN_MS: u64 = 1_000;
/// The longest time it stays open, in milliseconds.
const OPEN_MAX_MS: u64 = 60_000;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Breaker(State);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until_ms: u64, wait_ms: u64 },
}

/// What may be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// Call as usual.
    All,
    /// One call at a time, to see.
    Probe,
    /// None before this moment, in milliseconds since 1970.
    NotBefore(u64),
}

impl Default for Breaker {
    fn default() -> Self {
        Self(State::Closed { failures: 0 })
    }
}

impl Breaker {
    /// What may be done now.
    pub fn allowed(&self, now_ms: u64) -> Allowed {
        match self.0 {
            State::Closed { .. } => Allowed::All,
            State::Open { until_ms, .. } if until_ms <= now_ms => Allowed::Probe,
            State::Open { until_ms, .. } => Allowed::NotBefore(until_ms),
        }
    }

    /// Whether calls wait.
    pub fn is_open(&self) -> bool {
        matches!(self.0, State::Open { .. })
    }

    /// A call ended. `true` when that opened or closed it.
    pub fn note(&mut self, is_failure: bool, now_ms: u64) -> bool {
        let was_open = self.is_open();
        self.0 = match (self.0, is_failure) {
            (_, false) => State::Closed { failures: 0 },
            (State::Closed { failures }, true) if failures + 1 < FAILURES_MAX => {
                State::Closed { failures: failures + 1 }
            }
            (State::Closed { .. }, true) => State::Open { until_ms: now_ms + OPEN_MS, wait_ms: OPEN_MS },
            // Calls that were under way when it opened are no probes: they say nothing new.
            (State::Open { until_ms, wait_ms }, true) if until_ms > now_ms => {
                State::Open { until_ms, wait_ms }
            }
            (State::Open { wait_ms, .. }, true) => {
                let wait_ms = (wait_ms * 2).min(OPEN_MAX_MS);
                State::Open { until_ms: now_ms + wait_ms, wait_ms }
            }
        };
        was_open != self.is_open()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_opens_after_five_failures_in_a_row_probes_and_closes() {
        let mut breaker = Breaker::default();
        for _ in 0..3 {
            for _ in 1..FAILURES_MAX {
                assert!(!breaker.note(true, 0));
            }
            assert!(!breaker.note(false, 0), "a success in between");
        }
        for _ in 1..FAILURES_MAX {
            breaker.note(true, 100);
        }
        assert!(breaker.note(true, 100));
        assert_eq!(breaker.allowed(1_099), Allowed::NotBefore(1_100));
        assert!(!breaker.note(true, 500), "a late answer of a call from before");
        assert_eq!(breaker.allowed(1_100), Allowed::Probe);
        assert!(!breaker.note(true, 1_100));
        assert_eq!(breaker.allowed(3_099), Allowed::NotBefore(3_100));
        assert!(breaker.note(false, 3_100));
        assert_eq!(breaker.allowed(3_100), Allowed::All);
    }

    proptest! {
        #[test]
        fn it_is_never_shut_for_longer_than_a_minute(ends in prop::collection::vec((any::<bool>(), 0_u64..5_000), 0..200)) {
            let (mut breaker, mut now_ms) = (Breaker::default(), 0);
            for (is_failure, later) in ends {
                now_ms += later;
                breaker.note(is_failure, now_ms);
                if let Allowed::NotBefore(until_ms) = breaker.allowed(now_ms) {
                    prop_assert!(until_ms > now_ms && until_ms - now_ms <= OPEN_MAX_MS);
                }
                if !is_failure {
                    prop_assert_eq!(breaker.allowed(now_ms), Allowed::All);
                }
            }
        }
    }
}
