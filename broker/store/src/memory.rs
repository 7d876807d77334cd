//! A store in memory, for tests and the simulator: it forgets what was not committed, and fails on command.
//!
//! No threads, no clock, no randomness: the same calls give the same answers.

mod state;

use crate::commit::{Ending, end};
use crate::{Commit, READ_MAX, Store, StoreError};
use reveille_broker_core::change::{Batch, Recovered};
use reveille_broker_core::message::{Message, MessageKey};
use state::State;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A store in memory.
pub struct Memory {
    inner: Mutex<Inner>,
    is_manual: bool,
    boot: u64,
}

struct Inner {
    /// What would survive a crash.
    durable: State,
    /// Handed over and not durable, oldest first.
    pending: VecDeque<(Batch, Ending)>,
    /// What the next batches fail with.
    failures: VecDeque<StoreError>,
    is_closed: bool,
}

impl Memory {
    /// Every batch is durable at once.
    pub fn new() -> Self {
        Self::with(State::default(), false, 1)
    }

    /// A batch becomes durable when [`sync`](Self::sync) or [`sync_one`](Self::sync_one) is called.
    pub fn manual() -> Self {
        Self::with(State::default(), true, 1)
    }

    fn with(durable: State, is_manual: bool, boot: u64) -> Self {
        let inner = Inner { durable, pending: VecDeque::new(), failures: VecDeque::new(), is_closed: false };
        Self { inner: Mutex::new(inner), is_manual, boot }
    }

    /// Makes everything that was handed over durable, and ends its commits.
    pub fn sync(&self) {
        while self.sync_one() {}
    }

    /// Makes the oldest batch that was handed over durable, or fails it; `false` when there is none.
    pub fn sync_one(&self) -> bool {
        self.lock().sync_one()
    }

    /// How many batches wait for [`sync`](Self::sync).
    pub fn pending(&self) -> usize {
        self.lock().pending.len()
    }

    /// The next batch to become durable fails with this instead; several calls fail several batches.
    pub fn fail_next(&self, error: StoreError) {
        self.lock().failures.push_back(error);
    }

    /// The process dies: the commits that wait end with [`StoreError::Closed`], this store takes nothing more, and
    /// the store of the next run has what was durable.
    pub fn crash(&self) -> Self {
        let mut inner = self.lock();
        inner.is_closed = true;
        inner.pending.clear();
        Self::with(inner.durable.clone(), self.is_manual, self.boot + 1)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Inner {
    fn sync_one(&mut self) -> bool {
        let Some((batch, ending)) = self.pending.pop_front() else {
            return false;
        };
        match self.failures.pop_front() {
            Some(error) => end(ending, Err(error)),
            None => {
                batch.changes.into_iter().for_each(|change| self.durable.apply(change));
                end(ending, Ok(()));
            }
        }
        true
    }
}

impl Store for Memory {
    fn commit(&self, batch: Batch) -> Commit {
        let mut inner = self.lock();
        if inner.is_closed {
            return Commit::ended(Err(StoreError::Closed));
        }
        let (ending, commit) = Commit::pair();
        inner.pending.push_back((batch, ending));
        if !self.is_manual {
            inner.sync_one();
        }
        commit
    }

    fn read(&self, keys: &[MessageKey]) -> Result<Vec<Option<Arc<Message>>>, StoreError> {
        if keys.len() > READ_MAX {
            return Err(StoreError::TooManyKeys);
        }
        let inner = self.lock();
        if inner.is_closed {
            return Err(StoreError::Closed);
        }
        Ok(keys.iter().map(|key| inner.durable.body(*key)).collect())
    }

    fn recover(&self, visit: &mut dyn FnMut(Recovered)) -> Result<(), StoreError> {
        let state = self.lock().durable.clone();
        state.visit(visit);
        Ok(())
    }

    fn boot(&self) -> u64 {
        self.boot
    }

    fn close(&self) {
        let mut inner = self.lock();
        while inner.sync_one() {}
        inner.is_closed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::make;

    #[test]
    fn a_crash_forgets_what_was_not_synced_and_nothing_else() {
        let store = Memory::manual();
        let first = store.commit(make::batch([make::put_session(1)]));
        let second = store.commit(make::batch([make::put_session(2)]));
        assert_eq!(store.pending(), 2);
        assert!(store.sync_one());
        assert!(first.wait().is_ok());
        let next = store.crash();
        assert!(matches!(second.wait(), Err(StoreError::Closed)));
        assert_eq!(next.boot(), 2);
        let sessions: Vec<_> = make::recover(&next).sessions.iter().map(|stored| stored.session.0).collect();
        assert_eq!(sessions, [1]);
        assert!(matches!(store.commit(Batch::default()).wait(), Err(StoreError::Closed)));
    }

    #[test]
    fn a_failure_on_command_hits_one_batch_and_leaves_nothing_of_it() {
        let store = Memory::new();
        store.fail_next(StoreError::Full);
        assert!(matches!(store.commit(make::batch([make::put_session(1)])).wait(), Err(StoreError::Full)));
        assert!(store.commit(make::batch([make::put_session(2)])).wait().is_ok());
        let sessions: Vec<_> = make::recover(&store).sessions.iter().map(|stored| stored.session.0).collect();
        assert_eq!(sessions, [2]);
    }
}
