//! Answers that are remembered for a while, by a hash of what was asked: at most so many, each at most so long.

use ring::hmac;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What was asked, as nobody can read it back: a MAC under a key that this process made for itself.
pub(crate) type Question = [u8; 32];

/// See the module.
pub(crate) struct Cache<V> {
    answers: Mutex<HashMap<Question, (Instant, V)>>,
    key: hmac::Key,
    entries_max: usize,
}

impl<V: Clone> Cache<V> {
    /// An empty one. `secret` is random.
    pub(crate) fn new(secret: &[u8; 32], entries_max: usize) -> Self {
        Self { answers: Mutex::default(), key: hmac::Key::new(hmac::HMAC_SHA256, secret), entries_max }
    }

    /// The question that these parts make: where one ends and the next begins matters.
    pub(crate) fn question(&self, parts: &[Option<&[u8]>]) -> Question {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            match part {
                Some(part) => {
                    context.update(&[1]);
                    context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
                    context.update(part);
                }
                None => context.update(&[0]),
            }
        }
        context.sign().as_ref().try_into().unwrap_or_default()
    }

    /// What is remembered.
    pub(crate) fn get(&self, question: &Question, now: Instant) -> Option<V> {
        let answers = self.lock();
        answers.get(question).filter(|(end, _)| *end > now).map(|(_, answer)| answer.clone())
    }

    /// Remembers an answer. When there is no room, what is over goes, and if that is nothing, everything: a cache that is
    /// full of what is asked once only helps nobody.
    pub(crate) fn put(&self, question: Question, answer: V, length: Duration, now: Instant) {
        if length.is_zero() || self.entries_max == 0 {
            return;
        }
        let mut answers = self.lock();
        if answers.len() >= self.entries_max {
            answers.retain(|_, (end, _)| *end > now);
        }
        if answers.len() >= self.entries_max {
            answers.clear();
        }
        answers.insert(question, (now + length, answer));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Question, (Instant, V)>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_remembered_for_its_time_and_for_its_question() {
        let cache = Cache::new(&[1; 32], 2);
        let now = Instant::now();
        let question = cache.question(&[Some(b"ann"), Some(b"tulip")]);
        cache.put(question, 1, Duration::from_secs(5), now);
        assert_eq!(cache.get(&question, now), Some(1));
        assert_eq!(cache.get(&question, now + Duration::from_secs(5)), None);
        let others = [
            cache.question(&[Some(b"annt"), Some(b"ulip")]),
            cache.question(&[Some(b"ann"), None, Some(b"tulip")]),
            cache.question(&[Some(b"ann"), Some(b"")]),
            Cache::<u8>::new(&[2; 32], 2).question(&[Some(b"ann"), Some(b"tulip")]),
        ];
        for other in others {
            assert_eq!(cache.get(&other, now), None);
        }
    }

    #[test]
    fn there_is_never_more_than_the_bound() {
        let cache = Cache::new(&[1; 32], 3);
        let now = Instant::now();
        let question = |no: u8| cache.question(&[Some(&[no])]);
        cache.put(question(0), 0, Duration::from_secs(1), now);
        for no in 1..10 {
            cache.put(question(no), no, Duration::from_secs(9), now + Duration::from_secs(2));
            assert!(cache.lock().len() <= 3);
        }
        cache.put(question(77), 77, Duration::ZERO, now);
        assert_eq!(cache.get(&question(77), now), None);
    }
}
