//! At which hours of the day a device is usually online, learnt from its connections; and how long a push that costs a
//! vendor's quota may wait for that. Pure.
//!
//! An hour's level goes up by an eighth of what is missing on a day with a connection in that hour, and down by an
//! eighth on a day without: four days in a row make an hour usual, and a month makes it forgotten.

const HOUR_MS: u64 = 60 * 60 * 1000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// How much a day weighs: one part of so many.
const DAYS: u8 = 8;
/// The level of an hour that was never without a connection.
const FULL: u8 = 248;
/// From this level on an hour is usual.
const USUAL: u8 = 100;
/// A connection's last days that count, in milliseconds; so long ago is forgotten anyway.
const REMEMBERED_MS: u64 = 30 * DAY_MS;
/// A push must have so long left for its vendor when it stops waiting, in milliseconds.
const MARGIN_MS: u64 = 10 * 60 * 1000;
/// Bytes of habits in the store.
const BYTES: usize = 32;

/// What is known of a device's days, by UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Habits {
    /// The day that is not over yet, since 1970.
    day: u32,
    /// Its hours with a connection, a bit each.
    today: u32,
    /// The days before, by hour.
    levels: [u8; 24],
}

impl Habits {
    /// Reads what [`Habits::write`] wrote; anything else is no habit.
    pub fn read(bytes: &[u8]) -> Self {
        let number = |at: usize| {
            let bytes = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u32::from_be_bytes)
        };
        let levels = bytes.get(8..BYTES).and_then(|levels| levels.try_into().ok());
        Self { day: number(0), today: number(4), levels: levels.unwrap_or_default() }
    }

    /// The bytes for the store.
    pub fn write(&self) -> Vec<u8> {
        let (day, today) = (self.day.to_be_bytes(), self.today.to_be_bytes());
        day.into_iter().chain(today).chain(self.levels).collect()
    }

    /// Notes that the device was connected all this time.
    pub fn note(&mut self, from_ms: u64, to_ms: u64) {
        let from_ms = from_ms.max(to_ms.saturating_sub(REMEMBERED_MS));
        for hour in from_ms / HOUR_MS..=to_ms / HOUR_MS {
            self.go_on_to(hour / 24);
            if u64::from(self.day) == hour / 24 {
                self.today |= 1 << (hour % 24);
            }
        }
    }

    /// Ends the days before this one. A day that is over does not come back when a clock is put back.
    fn go_on_to(&mut self, day: u64) {
        let day = u32::try_from(day).unwrap_or(u32::MAX);
        let over = day.saturating_sub(self.day).min((REMEMBERED_MS / DAY_MS) as u32);
        for _ in 0..over {
            for (hour, level) in self.levels.iter_mut().enumerate() {
                let was_online = self.today & (1 << hour) != 0;
                *level -= level.div_ceil(DAYS);
                *level += if was_online { FULL / DAYS } else { 0 };
            }
            self.today = 0;
        }
        self.day = self.day.max(day);
    }

    /// How long a push may wait for the device, in milliseconds since 1970: an hour from when it is usually online, if
    /// that is soon enough. `None`: there is nothing to wait for.
    pub fn wait_until(&self, now_ms: u64, expires_at_ms: Option<u64>) -> Option<u64> {
        let mut habits = *self;
        habits.go_on_to(now_ms / DAY_MS);
        let last_ms = expires_at_ms.unwrap_or(u64::MAX).saturating_sub(MARGIN_MS).min(now_ms + DAY_MS);
        let is_usual =
            |hour: &u64| habits.levels.get((hour % 24) as usize).is_some_and(|level| *level >= USUAL);
        let hour = (now_ms / HOUR_MS..now_ms / HOUR_MS + 24).find(is_usual)?;
        let begins_ms = (hour * HOUR_MS).max(now_ms);
        let until_ms = (begins_ms + HOUR_MS).min(last_ms);
        (begins_ms < last_ms && until_ms > now_ms).then_some(until_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A midnight by UTC.
    const DAY: u64 = 20_000;

    fn at(day: u64, hour: u64) -> u64 {
        (DAY + day) * DAY_MS + hour * HOUR_MS
    }

    /// Online from 20:10 to 20:40 on each of the first `days` days.
    fn evenings(days: u64) -> Habits {
        let mut habits = Habits::default();
        for day in 0..days {
            habits.note(at(day, 20) + 600_000, at(day, 20) + 2_400_000);
        }
        habits
    }

    #[test]
    fn a_push_waits_for_the_hour_at_which_the_device_usually_comes() {
        for (days, now, ttl_hours, wanted) in [
            (3, at(3, 9), 24, None), // not known well enough
            (5, at(5, 9), 24, Some(at(5, 21))),
            (5, at(5, 20) + 1, 24, Some(at(5, 21) + 1)),
            (5, at(5, 21), 24, Some(at(6, 21).min(at(6, 21) - MARGIN_MS))),
            (5, at(5, 9), 10, None),                        // worthless before
            (5, at(5, 9), 12, Some(at(5, 21) - MARGIN_MS)), // falls back before expiry
            (30, at(30, 9), 24, Some(at(30, 21))),
            (30, at(50, 9), 24, None), // it does not come any more
        ] {
            let until = evenings(days).wait_until(now, Some(now + ttl_hours * HOUR_MS));
            assert_eq!(until, wanted, "{days} evenings");
        }
        assert_eq!(Habits::default().wait_until(at(0, 0), None), None);
    }

    #[test]
    fn a_long_connection_counts_on_each_of_its_days() {
        let mut habits = Habits::default();
        habits.note(at(0, 0), at(300, 12));
        assert!(habits.levels.iter().all(|level| *level >= USUAL), "{habits:?}");
        assert_eq!(habits.today.count_ones(), 13);
        assert_eq!(habits.wait_until(at(300, 12), None), Some(at(300, 13)));
    }

    proptest! {
        #[test]
        fn habits_keep_their_size_and_a_wait_ends_in_time(
            notes in prop::collection::vec((0_u64..2_000, 0_u64..100), 0..60),
            now in 0_u64..3_000,
            ttl_ms in 0_u64..3 * DAY_MS,
        ) {
            let mut habits = Habits::default();
            for (from, length) in notes {
                habits.note(at(0, from), at(0, from + length));
                prop_assert_eq!(Habits::read(&habits.write()), habits);
                prop_assert_eq!(habits.write().len(), BYTES);
            }
            let now_ms = at(0, now);
            if let Some(until_ms) = habits.wait_until(now_ms, Some(now_ms + ttl_ms)) {
                prop_assert!(until_ms > now_ms && until_ms <= now_ms + DAY_MS);
                prop_assert!(until_ms + MARGIN_MS <= now_ms + ttl_ms);
            }
        }
    }
}
