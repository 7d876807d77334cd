//! Who has to be looked at, and when.

use std::collections::BTreeSet;

/// See the module.
#[derive(Clone, Debug)]
pub struct Deadlines<K> {
    armed: BTreeSet<(u64, K)>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self { armed: BTreeSet::new() }
    }
}

impl<K: Copy + Ord> Deadlines<K> {
    /// Looks at `key` at `at_ms`; what was armed before stays armed.
    pub fn arm(&mut self, key: K, at_ms: u64) {
        self.armed.insert((at_ms, key));
    }

    /// Visits all that are due.
    pub fn advance(&mut self, now_ms: u64, visit: &mut dyn FnMut(K)) {
        while let Some((at, key)) = self.armed.first().copied().filter(|(at, _)| *at <= now_ms) {
            self.armed.remove(&(at, key));
            visit(key);
        }
    }

    /// The next one.
    pub fn next_deadline(&self) -> Option<u64> {
        self.armed.first().map(|(at, _)| *at)
    }
}
