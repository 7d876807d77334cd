//! A clock that goes on while the phone sleeps. Timers and `Instant` stand still then on Linux, Android and Apple's systems,
//! and would take an hour of sleep for a moment of silence.

use crate::heartbeat::Moment;
use std::time::{Duration, Instant};

/// A shorter sleep is none: the clocks are read one after the other.
const SLEEP_MIN: Duration = Duration::from_secs(10);

/// The clock, and how long the phone has slept so far.
#[derive(Debug)]
pub(crate) struct Clock {
    booted: Moment,
    started: Instant,
    slept: Duration,
}

impl Clock {
    pub fn start() -> Self {
        Self { booted: now(), started: Instant::now(), slept: Duration::ZERO }
    }

    /// Whether the phone has slept since this was asked last.
    pub fn has_slept(&mut self) -> bool {
        let slept = now().since(self.booted).saturating_sub(self.started.elapsed());
        let is_news = slept.saturating_sub(self.slept) >= SLEEP_MIN;
        self.slept = self.slept.max(slept);
        is_news
    }
}

/// The time since the machine started, sleep included.
#[cfg(unix)]
pub(crate) fn now() -> Moment {
    use rustix::time::{ClockId, clock_gettime};
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: ClockId = ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCK: ClockId = ClockId::Monotonic; // Apple's goes on in sleep
    let time = clock_gettime(CLOCK);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Moment(Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default()))
}

/// The time since the library was first asked: other systems have no such clock in reach.
#[cfg(not(unix))]
pub(crate) fn now() -> Moment {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    Moment(START.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_forward_and_a_machine_that_is_awake_has_not_slept() {
        let mut clock = Clock::start();
        let before = now();
        assert!(now() >= before && before.0 > Duration::ZERO);
        assert!(!clock.has_slept());
    }
}
