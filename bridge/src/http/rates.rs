//! How many requests a key may make: a bucket of one second's worth for each, in bounded memory.

use std::collections::HashMap;
use std::sync::Mutex;

use super::problem::{Errno, Problem};
use crate::limiter::Bucket;
use crate::sender::tasks::lock;

/// Keys whose requests are counted; beyond it those that rest are forgotten, which gives them a full bucket.
const KEYS_MAX: usize = 10_000;

/// The requests of every key.
#[derive(Default)]
pub(crate) struct Rates {
    per_second: Option<u32>,
    buckets: Mutex<HashMap<String, Bucket>>,
}

impl Rates {
    /// So many a second for each key; 0: any number.
    pub fn new(per_second: u32) -> Self {
        Self { per_second: (per_second > 0).then_some(per_second), buckets: Mutex::default() }
    }

    /// Counts one more request of a key.
    ///
    /// # Errors
    /// 429 with `RateLimit-*` and `Retry-After`.
    pub fn take(&self, key_id: &str, now_ms: u64) -> Result<(), Problem> {
        let Some(per_second) = self.per_second else { return Ok(()) };
        let mut buckets = lock(&self.buckets);
        if buckets.len() >= KEYS_MAX && !buckets.contains_key(key_id) {
            let is_full = |bucket: &mut Bucket| bucket.has(self.per_second, now_ms) >= per_second as usize;
            buckets.retain(|_, bucket| !is_full(bucket));
            if buckets.len() >= KEYS_MAX {
                buckets.clear();
            }
        }
        let bucket = buckets.entry(key_id.to_owned()).or_default();
        if bucket.has(self.per_second, now_ms) == 0 {
            return Err(Problem::limited(Errno::TooManyRequests, per_second.into(), 1));
        }
        bucket.spend(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_second_and_takes_none_of_another() {
        let rates = Rates::new(3);
        for _ in 0..3 {
            assert!(rates.take("a", 10_000).is_ok());
        }
        assert!(rates.take("a", 10_000).is_err() && rates.take("b", 10_000).is_ok());
        assert!(rates.take("a", 10_334).is_ok() && rates.take("a", 10_334).is_err());
        let free = Rates::new(0);
        assert!((0..100).all(|_| free.take("a", 0).is_ok()));
    }

    #[test]
    fn keys_are_counted_in_bounded_memory() {
        let rates = Rates::new(1);
        for n in 0..3 * KEYS_MAX {
            assert!(rates.take(&n.to_string(), 10_000).is_ok());
        }
        assert!(lock(&rates.buckets).len() <= KEYS_MAX);
    }
}
