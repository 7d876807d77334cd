//! What a fake was asked, and waiting for it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// How long a test waits for calls before it gets what there is.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Locks for a few lines of plain code.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The calls so far, oldest first.
pub(crate) struct CallLog<T> {
    calls: Mutex<Vec<T>>,
    changed: Notify,
}

impl<T> Default for CallLog<T> {
    fn default() -> Self {
        Self { calls: Mutex::default(), changed: Notify::new() }
    }
}

impl<T: Clone> CallLog<T> {
    pub fn add(&self, call: T) {
        lock(&self.calls).push(call);
        self.changed.notify_waiters();
    }

    pub fn all(&self) -> Vec<T> {
        lock(&self.calls).clone()
    }

    /// All calls, once there are `count`, or after 20 s, whatever comes first.
    pub async fn wait_for(&self, count: usize) -> Vec<T> {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable(); // before looking, so that no call slips between look and wait
            let calls = self.all();
            if calls.len() >= count || timeout_at(deadline, changed).await.is_err() {
                return calls;
            }
        }
    }
}
