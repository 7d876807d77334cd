//! Times as counts in buckets that grow with them: small, and the sketch of two sets is the sum of both sketches. Pure.
//!
//! Below 16 ms each millisecond has its bucket; above, each power of two has 16. So a percentile is off by at most a
//! thirty-second of itself, whatever the times and however many sketches were added up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Buckets of one power of two, as a power of two.
const FINENESS: u32 = 4;
/// Times above this, in milliseconds, count as this: 49 days, more than any message is worth.
const LONGEST_MS: u64 = u32::MAX as u64;

/// How many times fell into which bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Sketch(BTreeMap<u16, u64>);

/// What a sketch says, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Percentiles {
    /// Deliveries that were timed.
    pub count: u64,
    /// Half of them took no longer.
    pub p50: u64,
    /// 95 of 100 took no longer.
    pub p95: u64,
    /// 99 of 100 took no longer.
    pub p99: u64,
}

fn bucket(ms: u64) -> u16 {
    let ms = ms.min(LONGEST_MS);
    let Some(shift) = ms.checked_ilog2().and_then(|power| power.checked_sub(FINENESS)) else {
        return u16::try_from(ms).unwrap_or(u16::MAX); // below 16
    };
    // The leading one of `ms >> shift` carries each power of two on to the next 16 buckets.
    u16::try_from(u64::from(shift << FINENESS) + (ms >> shift)).unwrap_or(u16::MAX)
}

/// The middle of a bucket.
fn middle(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    let Some(shift) = (bucket >> FINENESS).checked_sub(1) else { return bucket };
    let first = (bucket - (shift << FINENESS)) << shift;
    first + ((1 << shift) - 1) / 2
}

impl Sketch {
    /// Counts one time.
    pub fn add(&mut self, ms: u64) {
        *self.0.entry(bucket(ms)).or_default() += 1;
    }

    /// Adds another set's.
    pub fn add_all(&mut self, other: &Self) {
        for (bucket, count) in &other.0 {
            *self.0.entry(*bucket).or_default() += count;
        }
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `None`: nothing was counted.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let count: u64 = self.0.values().sum();
        let at = |percent: u64| self.ranked((count.saturating_mul(percent)).div_ceil(100));
        (count > 0).then(|| Percentiles { count, p50: at(50), p95: at(95), p99: at(99) })
    }

    /// The time at a place in the order of all, which begins with 1.
    fn ranked(&self, rank: u64) -> u64 {
        let mut passed = 0;
        let found = self.0.iter().find(|(_, count)| {
            passed += **count;
            passed >= rank
        });
        found.map_or(0, |(bucket, _)| middle(*bucket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_follow_each_other_without_gap_or_overlap() {
        let mut last = 0;
        for ms in 0..100_000_u64 {
            let now = bucket(ms);
            assert!(now == last || now == last + 1, "{ms}: {last} then {now}");
            assert_eq!(bucket(middle(now)), now, "{ms}");
            last = now;
        }
        assert_eq!(bucket(u64::MAX), bucket(LONGEST_MS));
        assert!(bucket(LONGEST_MS) < 464, "a sketch has at most 464 buckets");
    }

    proptest! {
        #[test]
        fn percentiles_of_parts_put_together_are_those_of_the_whole(
            mut times in prop::collection::vec(prop_oneof![0_u64..50, 0_u64..100_000, 0_u64..LONGEST_MS], 1..300),
            cut in 0_usize..300,
        ) {
            let (mut whole, mut first, mut second) = (Sketch::default(), Sketch::default(), Sketch::default());
            for (at, time) in times.iter().enumerate() {
                whole.add(*time);
                if at < cut { first.add(*time) } else { second.add(*time) }
            }
            first.add_all(&second);
            prop_assert_eq!(&first, &whole);
            times.sort_unstable();
            let found = whole.percentiles().unwrap();
            prop_assert_eq!(found.count, times.len() as u64);
            for (percent, found) in [(50, found.p50), (95, found.p95), (99, found.p99)] {
                let exact = times[(times.len() * percent).div_ceil(100) - 1];
                prop_assert!(found.abs_diff(exact) <= exact / 32 + 1, "p{}: {} for {}", percent, found, exact);
            }
        }
    }
}
