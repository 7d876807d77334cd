//! How fast one message goes to its devices. Pure.

use serde::{Deserialize, Serialize};

/// Steps of a message that is paced come about so often, in milliseconds: seldom enough to cost little.
const STEP_MS: u64 = 250;
/// What a late step may make up for, in milliseconds; the rest of a standstill is not made up for.
const BEHIND_MAX_MS: u64 = 1_000;

/// What the sender asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Speed {
    /// Devices a second at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<u32>,
    /// Over how many minutes the audience is spread evenly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread_minutes: Option<u32>,
}

/// So many devices in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    devices: u64,
    in_ms: u64,
}

impl Speed {
    /// Whether nothing was asked for.
    pub fn is_free(&self) -> bool {
        self.rate_per_s.is_none() && self.spread_minutes.is_none()
    }

    /// The slower of the two, for an audience of about so many devices. `None`: as fast as it goes.
    pub(crate) fn pace(&self, audience: u64) -> Option<Pace> {
        let rate = self.rate_per_s.map(|rate| Pace { devices: u64::from(rate.max(1)), in_ms: 1000 });
        let spread = self.spread_minutes.filter(|minutes| *minutes > 0);
        let spread =
            spread.map(|minutes| Pace { devices: audience.max(1), in_ms: u64::from(minutes) * 60_000 });
        match (rate, spread) {
            (Some(rate), Some(spread)) => Some(if rate.is_slower_than(spread) { rate } else { spread }),
            (rate, spread) => rate.or(spread),
        }
    }
}

impl Pace {
    fn is_slower_than(self, other: Self) -> bool {
        self.devices.saturating_mul(other.in_ms) < other.devices.saturating_mul(self.in_ms)
    }

    /// Devices of one step, of which a job can take `chunk_max`: one at least.
    pub fn step(self, chunk_max: usize) -> usize {
        let devices = self.devices.saturating_mul(STEP_MS) / self.in_ms.max(1);
        usize::try_from(devices).unwrap_or(usize::MAX).clamp(1, chunk_max)
    }

    /// When the step after one that was due at `due_ms` and took so many devices is due.
    pub fn next_ms(self, due_ms: u64, now_ms: u64, devices: usize) -> u64 {
        let devices = u64::try_from(devices).unwrap_or(u64::MAX);
        let took_ms = devices.saturating_mul(self.in_ms).div_ceil(self.devices.max(1));
        due_ms.max(now_ms.saturating_sub(BEHIND_MAX_MS)).saturating_add(took_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn speed(rate_per_s: Option<u32>, spread_minutes: Option<u32>) -> Speed {
        Speed { rate_per_s, spread_minutes }
    }

    #[test]
    fn the_slower_of_rate_and_spread_counts() {
        let pace = |devices, in_ms| Some(Pace { devices, in_ms });
        for (asked, audience, wanted) in [
            (speed(None, None), 1_000, None),
            (speed(None, Some(0)), 1_000, None),
            (speed(Some(500), None), 1_000_000, pace(500, 1000)),
            (speed(None, Some(60)), 36_000, pace(36_000, 3_600_000)),
            (speed(Some(500), Some(60)), 36_000, pace(36_000, 3_600_000)), // 10 a second
            (speed(Some(5), Some(60)), 36_000, pace(5, 1000)),
        ] {
            assert_eq!(asked.pace(audience), wanted, "{asked:?}");
        }
    }

    #[test]
    fn few_devices_over_an_hour_go_one_by_one() {
        let pace = speed(None, Some(60)).pace(10).unwrap();
        assert_eq!(pace.step(1000), 1);
        assert_eq!(pace.next_ms(5_000, 5_000, 1), 5_000 + 6 * 60_000);
    }

    #[test]
    fn a_standstill_is_not_made_up_for() {
        let pace = speed(Some(100), None).pace(1_000).unwrap();
        assert_eq!(pace.next_ms(0, 600_000, 25), 599_250);
        assert_eq!(pace.next_ms(600_000, 600_010, 25), 600_250, "a late step does not slow the rest");
    }

    proptest! {
        #[test]
        fn no_second_gets_more_than_the_rate_and_a_step(
            rate in 1_u32..5_000, late in prop::collection::vec(0_u64..40, 1..60)
        ) {
            let pace = speed(Some(rate), None).pace(0).unwrap();
            let (mut due_ms, mut sent) = (10_000, Vec::new());
            for late_ms in late {
                let now_ms = due_ms + late_ms;
                sent.push((now_ms, pace.step(1000)));
                due_ms = pace.next_ms(due_ms, now_ms, pace.step(1000)).max(now_ms);
            }
            for (from_ms, _) in &sent {
                let within = sent.iter().filter(|(at_ms, _)| (*from_ms..from_ms + 1000).contains(at_ms));
                let devices: usize = within.map(|(_, devices)| devices).sum();
                prop_assert!(devices <= rate as usize + 2 * pace.step(1000), "{devices} in a second at {rate}");
            }
        }
    }
}
