//! How fast a client publishes: token buckets, and when patience with it ends.
//!
//! ```text
//!            a bucket runs dry              dry again, patience passed
//!   flowing ------------------> pressing --------------------------------> too high (0x96)
//!      ^                           |  not read until the bucket has tokens again
//!      +---------------------------+
//!         every bucket is full again: the client stayed below its rate for a while
//! ```

use crate::deadlines::Armed;
use crate::limits::PublishRate;
use crate::message::Time;
use std::time::Duration;

/// Tokens are counted in thousandths: what comes in a millisecond is whole.
const WHOLE: i64 = 1_000;

/// The highest rate that counts exactly. A terabyte a second is none.
const RATE_MAX: u64 = 1 << 40;

/// Fills by its rate, holds a second's worth, and goes into debt by the message that empties it.
#[derive(Clone, Debug)]
pub struct Bucket {
    per_second: i64,
    level: i64,
    updated: Time,
}

/// What a message means for its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Go on.
    Flowing,
    /// Read nothing from it before this time.
    Pause(Time),
    /// It was slowed down for long enough and still comes too fast.
    TooHigh,
}

/// The buckets of one connection. Exists only where there is a bound.
#[derive(Clone, Debug)]
pub struct Throttle {
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
    patience: Duration,
    pressing_since: Option<Time>,
    /// When the connection is read again.
    pub armed: Armed,
}

impl Bucket {
    /// Full.
    pub fn new(per_second: u64, now: Time) -> Self {
        let per_second = i64::try_from(per_second.min(RATE_MAX)).unwrap_or(i64::MAX / WHOLE);
        Self { per_second, level: per_second * WHOLE, updated: now }
    }

    /// Takes some out, more than there is if need be.
    pub fn take(&mut self, count: u64, now: Time) {
        self.refill(now);
        let count = i64::try_from(count).unwrap_or(i64::MAX / WHOLE);
        self.level = self.level.saturating_sub(count.saturating_mul(WHOLE));
    }

    /// When it has a whole token again; `None` when it has one.
    pub fn dry_until(&self) -> Option<Time> {
        let missing = u64::try_from(WHOLE - self.level).unwrap_or(0);
        let per_ms = u64::try_from(self.per_second).unwrap_or(1).max(1);
        (missing > 0).then(|| self.updated + Duration::from_millis(missing.div_ceil(per_ms)))
    }

    fn is_full(&mut self, now: Time) -> bool {
        self.refill(now);
        self.level >= self.per_second * WHOLE
    }

    fn refill(&mut self, now: Time) {
        let passed = i64::try_from(now.since(self.updated).as_millis()).unwrap_or(i64::MAX);
        let full = self.per_second * WHOLE;
        self.level = self.level.saturating_add(passed.saturating_mul(self.per_second)).min(full);
        self.updated = self.updated.max(now);
    }
}

impl Throttle {
    /// `None` where nothing is bounded.
    pub fn new(rate: PublishRate, now: Time) -> Option<Box<Self>> {
        let bucket = |per_second: u64| (per_second > 0).then(|| Bucket::new(per_second, now));
        let (messages, bytes) = (bucket(rate.messages_per_s.into()), bucket(rate.bytes_per_s));
        let is_bounded = messages.is_some() || bytes.is_some();
        is_bounded.then(|| {
            Box::new(Self {
                messages,
                bytes,
                patience: rate.patience,
                pressing_since: None,
                armed: Armed::NOT,
            })
        })
    }

    /// A message of that many bytes came.
    pub fn take(&mut self, bytes: u64, now: Time) -> Pace {
        if self.buckets().all(|bucket| bucket.is_full(now)) {
            self.pressing_since = None;
        }
        if let Some(bucket) = &mut self.messages {
            bucket.take(1, now);
        }
        if let Some(bucket) = &mut self.bytes {
            bucket.take(bytes, now);
        }
        let Some(until) = self.buckets().filter_map(|bucket| bucket.dry_until()).max() else {
            return Pace::Flowing;
        };
        let since = *self.pressing_since.get_or_insert(now);
        if now.since(since) >= self.patience { Pace::TooHigh } else { Pace::Pause(until) }
    }

    fn buckets(&mut self) -> impl Iterator<Item = &mut Bucket> {
        self.messages.iter_mut().chain(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(messages_per_s: u32, bytes_per_s: u64, patience_s: u64) -> PublishRate {
        PublishRate { messages_per_s, bytes_per_s, patience: Duration::from_secs(patience_s) }
    }

    #[test]
    fn a_seconds_worth_may_come_at_once() {
        let mut throttle = Throttle::new(rate(10, 0, 60), Time(0)).unwrap();
        for _ in 0..9 {
            assert_eq!(throttle.take(1, Time(0)), Pace::Flowing);
        }
        assert_eq!(throttle.take(1, Time(0)), Pace::Pause(Time(100)));
        assert_eq!(throttle.take(1, Time(1_100)), Pace::Flowing);
    }

    #[test]
    fn a_message_larger_than_a_second_is_taken_and_paid_for() {
        let mut throttle = Throttle::new(rate(0, 1_000, 60), Time(0)).unwrap();
        assert_eq!(throttle.take(5_000, Time(0)), Pace::Pause(Time(4_001)));
        assert_eq!(throttle.take(1, Time(4_002)), Pace::Flowing);
    }

    #[test]
    fn patience_ends_with_the_next_dry_bucket_after_its_time() {
        let mut throttle = Throttle::new(rate(10, 0, 3), Time(0)).unwrap();
        let mut now = Time(0);
        let end = loop {
            match throttle.take(1, now) {
                Pace::Flowing => {}
                Pace::Pause(until) => now = until,
                Pace::TooHigh => break now,
            }
        };
        assert!((3_000..3_200).contains(&end.0), "{end:?}");
    }

    #[test]
    fn who_stays_below_its_rate_for_a_while_is_forgiven() {
        let mut throttle = Throttle::new(rate(10, 0, 3), Time(0)).unwrap();
        for start in 0..20 {
            let now = Time(start * 2_000); // twenty bursts over forty seconds
            for _ in 0..9 {
                assert_eq!(throttle.take(1, now), Pace::Flowing, "burst {start}");
            }
            assert!(matches!(throttle.take(1, now), Pace::Pause(_)), "burst {start}");
        }
    }

    #[test]
    fn without_a_bound_there_is_no_throttle() {
        assert!(Throttle::new(rate(0, 0, 60), Time(0)).is_none());
    }

    proptest! {
        /// A sender that waits when it is told to gets its rate and a burst, never more.
        #[test]
        fn no_second_has_more_than_the_rate_and_a_burst(
            per_second in 1..200_u32,
            gaps in prop::collection::vec(0..300_u64, 1..400),
        ) {
            let mut throttle = Throttle::new(rate(per_second, 0, u64::MAX), Time(0)).unwrap();
            let (mut now, mut taken) = (Time(0), Vec::new());
            for gap in gaps {
                now = now + Duration::from_millis(gap);
                taken.push(now.0);
                if let Pace::Pause(until) = throttle.take(1, now) {
                    now = now.max(until);
                }
            }
            for start in &taken {
                let count = taken.iter().filter(|at| (*start..*start + 1_000).contains(*at)).count();
                prop_assert!(count as u64 <= 2 * u64::from(per_second) + 1, "{} in a second", count);
            }
        }
    }
}
