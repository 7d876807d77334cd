//! Long work that failed rests for a while, so that it does not cost a try in every turn of the others.

use std::collections::BTreeMap;
use std::fmt::Display;

/// How long, in milliseconds.
const REST_MS: u64 = 1_000;

/// What failed last time, by id, with the moment of the next try in milliseconds since 1970.
#[derive(Debug, Default)]
pub(crate) struct Resting(BTreeMap<String, u64>);

impl Resting {
    /// Whether it may be tried.
    pub fn is_over(&self, id: &str, now_ms: u64) -> bool {
        self.0.get(id).is_none_or(|until_ms| *until_ms <= now_ms)
    }

    /// What came of a try. The log has a fault once, however often it is repeated. Whether it went on.
    pub fn note<E: Display>(&mut self, id: &str, now_ms: u64, tried: Result<(), E>) -> bool {
        let Err(error) = tried else {
            self.0.remove(id);
            return true;
        };
        if self.0.insert(id.to_owned(), now_ms.saturating_add(REST_MS)).is_none() {
            tracing::error!(%error, id, "cannot be worked on, and is tried again and again");
        }
        false
    }

    /// Nothing is to be done any more.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_rests_until_it_goes_on() {
        let mut resting = Resting::default();
        assert!(resting.is_over("a", 5));
        assert!(!resting.note("a", 5, Err("broken")));
        assert!(!resting.is_over("a", 5) && resting.is_over("b", 5));
        assert!(resting.is_over("a", 5 + REST_MS));
        assert!(resting.note("a", 6, Ok::<_, &str>(())));
        assert!(resting.is_over("a", 6));
    }
}
