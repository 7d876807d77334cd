//! The only clock of the broker: wall time at the start, monotonic from then on, so it never runs backwards.

use reveille_broker_core::message::Time;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Turns the monotonic clock into the [`Time`] of the rules and back. All threads share one origin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall_ms: u64,
    origin: Instant,
}

impl Clock {
    /// Reads the wall clock, once.
    pub(crate) fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX), origin: Instant::now() }
    }

    /// The time of the rules.
    pub(crate) fn now(&self) -> Time {
        Time(self.wall_ms) + self.origin.elapsed()
    }

    /// When a deadline of the rules comes, for a timer; a millisecond late rather than early.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        const FAR: Duration = Duration::from_secs(24 * 60 * 60);
        let length = time.since(Time(self.wall_ms)).saturating_add(Duration::from_millis(1));
        self.origin.checked_add(length).unwrap_or_else(|| Instant::now() + FAR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_has_passed_when_its_instant_comes() {
        let clock = Clock::start();
        let deadline = clock.now() + Duration::from_millis(5);
        let instant = clock.instant(deadline);
        while Instant::now() < instant {
            std::hint::spin_loop();
        }
        assert!(clock.now() >= deadline);
        assert!(
            clock.instant(Time(u64::MAX)) > Instant::now(),
            "a deadline beyond all clocks is far, not past"
        );
    }
}
