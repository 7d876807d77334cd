//! The tasks that the sender started: each has an owner that ends it, and work wanted by many runs once.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinSet;

/// Locks for a few lines of plain code; a panic elsewhere does not take the lock with it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every task of one sender. Dropping it ends them.
#[derive(Clone, Default)]
pub(crate) struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl Tasks {
    /// Starts a task, and forgets those that ended.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut set = lock(&self.0);
        while set.try_join_next().is_some() {}
        set.spawn(task);
    }

    /// Ends every task without waiting.
    pub fn abort(&self) {
        lock(&self.0).abort_all();
    }

    /// Ends every task and waits until they are gone.
    pub async fn end(&self) {
        let mut set = std::mem::take(&mut *lock(&self.0));
        set.shutdown().await;
    }
}

/// The connections of the HTTP client are tasks of the sender as well.
impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.spawn(task);
    }
}

/// Work that many want and one does. Whoever stops waiting does not stop the work.
pub(crate) struct SingleFlight<T>(Mutex<Option<watch::Receiver<Option<T>>>>);

impl<T> Default for SingleFlight<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone + Send + Sync + 'static> SingleFlight<T> {
    /// Joins the work that is under way, or starts it. `None` when the sender was closed meanwhile.
    pub async fn join<F>(&self, tasks: &Tasks, start: impl FnOnce() -> F) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut result = self.going_or_start(tasks, start);
        let done = result.wait_for(Option::is_some).await.ok()?.clone();
        self.forget(&result);
        done
    }

    /// The result is not kept: it may hold a connection that nobody else wants any more.
    fn forget(&self, result: &watch::Receiver<Option<T>>) {
        let mut going = lock(&self.0);
        if going.as_ref().is_some_and(|other| other.same_channel(result)) {
            *going = None;
        }
    }

    fn going_or_start<F>(&self, tasks: &Tasks, start: impl FnOnce() -> F) -> watch::Receiver<Option<T>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut going = lock(&self.0);
        if let Some(receiver) = going.as_ref()
            && receiver.has_changed().is_ok()
            && receiver.borrow().is_none()
        {
            return receiver.clone();
        }
        let (done, receiver) = watch::channel(None);
        let work = start();
        tasks.spawn(async move {
            let result = work.await;
            let _ = done.send(Some(result)); // nobody waits any more: fine
        });
        *going = Some(receiver.clone());
        receiver
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn work_wanted_by_many_at_once_runs_once_and_again_when_wanted_later() {
        let (tasks, flight) = (Tasks::default(), SingleFlight::default());
        let (runs, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let work = || {
            let (runs, go) = (Arc::clone(&runs), Arc::clone(&go));
            async move {
                go.notified().await;
                runs.fetch_add(1, Ordering::SeqCst)
            }
        };
        let (a, b, ()) =
            tokio::join!(flight.join(&tasks, work), flight.join(&tasks, work), async { go.notify_one() });
        assert_eq!((a, b), (Some(0), Some(0)));
        go.notify_one();
        assert_eq!(flight.join(&tasks, work).await, Some(1));
    }

    #[tokio::test]
    async fn a_closed_sender_lets_nobody_wait() {
        let (tasks, flight) = (Tasks::default(), SingleFlight::<()>::default());
        let (joined, ()) = tokio::join!(flight.join(&tasks, std::future::pending), tasks.end());
        assert_eq!(joined, None);
    }
}
