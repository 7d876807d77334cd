//! How late a phone's alarms ring: a beat planned after g comes after g and some more, and the path sees the sum.

use std::time::Duration;

/// What the buckets stand for, in seconds. Android in Doze aligns alarms to minutes; some makers to five.
const LATE_S: [f64; 6] = [1.0, 4.0, 15.0, 60.0, 150.0, 300.0];
/// A bucket that reaches this halves all of them, so that old habits fade.
const COUNT_MAX: u16 = 512;

/// A small histogram, of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lateness {
    counts: [u16; LATE_S.len()],
}

impl Default for Lateness {
    /// Nothing measured yet: mostly on time, as an alarm is meant to be.
    fn default() -> Self {
        Self { counts: [6, 2, 1, 0, 0, 0] }
    }
}

impl Lateness {
    /// One beat came this much after its time.
    pub fn note(&mut self, late: Duration) {
        let late_s = late.as_secs_f64();
        let bucket = LATE_S.partition_point(|upper| *upper < late_s).min(LATE_S.len() - 1);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
            if *count >= COUNT_MAX {
                self.counts.iter_mut().for_each(|count| *count /= 2);
            }
        }
    }

    /// Each lateness in seconds with its probability.
    pub(super) fn weighted(self) -> impl Iterator<Item = (f64, f64)> {
        let total = f64::from(self.total().max(1));
        let buckets = LATE_S.into_iter().zip(self.counts);
        buckets.filter(|(_, count)| *count > 0).map(move |(late_s, count)| (late_s, f64::from(count) / total))
    }

    /// What 95 of 100 beats stay within, in whole seconds.
    pub fn p95_s(self) -> u16 {
        let mut left = self.total() / 20;
        for (late_s, count) in LATE_S.into_iter().zip(self.counts).rev() {
            if u32::from(count) > left {
                return late_s as u16;
            }
            left -= u32::from(count);
        }
        0
    }

    /// The counts, for a file.
    pub fn counts(self) -> [u16; 6] {
        self.counts
    }

    /// Out of a file; counts beyond what `note` makes are cut.
    pub fn from_counts(counts: [u16; 6]) -> Self {
        Self { counts: counts.map(|count| count.min(COUNT_MAX - 1)) }
    }

    fn total(self) -> u32 {
        self.counts.into_iter().map(u32::from).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantile_follows_what_was_measured() {
        let mut lateness = Lateness::default();
        assert_eq!(lateness.p95_s(), 15);
        (0..1_000).for_each(|_| lateness.note(Duration::from_millis(300)));
        assert_eq!(lateness.p95_s(), 1);
        (0..100).for_each(|_| lateness.note(Duration::from_secs(40)));
        assert_eq!(lateness.p95_s(), 60);
        (0..1_000).for_each(|_| lateness.note(Duration::MAX));
        assert_eq!(lateness.p95_s(), 300);
        assert_eq!(Lateness::from_counts([0; 6]).p95_s(), 0);
    }

    #[test]
    fn probabilities_sum_to_one_and_counts_stay_bounded() {
        let mut lateness = Lateness::default();
        for n in 0..100_000_u64 {
            lateness.note(Duration::from_secs(n % 400));
        }
        assert!(lateness.counts().into_iter().all(|count| count < COUNT_MAX));
        let sum: f64 = lateness.weighted().map(|(_, weight)| weight).sum();
        assert!((sum - 1.0).abs() < 1e-9);
    }
}
