//! Where logins do what takes long, so that no shard waits for it: hashes in a few threads, HTTP in one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Builder;
use std::time::Duration;
use tokio::runtime::{self, Handle};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

/// Logins that wait for a hash; whoever comes then is told to come later.
const WAITING_MAX: usize = 4_096;

/// How long a login waits for its turn.
const WAITING_DEADLINE: Duration = Duration::from_secs(5);

/// A thread with a runtime of its own, and a few more for hashes. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Worker {
    handle: Handle,
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    _stop: oneshot::Sender<()>,
}

impl Worker {
    /// Starts the thread. So many hashes run at once.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(hashes_max: usize) -> io::Result<Self> {
        let mut builder = runtime::Builder::new_current_thread();
        let runtime =
            builder.enable_all().max_blocking_threads(hashes_max + 1).thread_name("hash").build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        Builder::new().name("auth".to_owned()).spawn(move || {
            let _ = runtime.block_on(stopped); // the sender is dropped, which is the signal
            runtime.shutdown_background();
        })?;
        Ok(Self {
            handle,
            turns: Arc::new(Semaphore::new(hashes_max)),
            waiting: AtomicUsize::new(0),
            _stop: stop,
        })
    }

    /// To start something on the thread.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Does it when it is its turn; `None` when too many wait, or for too long.
    pub(crate) async fn hash<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let waiting = Waiting::new(&self.waiting)?;
        let turn = timeout(WAITING_DEADLINE, Arc::clone(&self.turns).acquire_owned()).await.ok()?.ok()?;
        drop(waiting);
        let work = move || {
            let result = work();
            drop(turn); // with the work, not with whoever waits for it: that one may give up
            result
        };
        self.handle.spawn_blocking(work).await.ok()
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Option<Self> {
        let waiting = Self(count);
        let before = count.fetch_add(1, Ordering::Relaxed);
        (before < WAITING_MAX).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    #[tokio::test]
    async fn no_more_hashes_run_at_once_than_are_allowed() {
        let worker = Arc::new(Worker::start(2).unwrap());
        let running = Arc::new(Mutex::new((0, 0)));
        let hash = || {
            let running = Arc::clone(&running);
            move || {
                let mut now = running.lock().unwrap();
                now.0 += 1;
                now.1 = now.1.max(now.0);
                drop(now);
                std::thread::yield_now();
                running.lock().unwrap().0 -= 1;
            }
        };
        let all: Vec<_> = (0..50)
            .map(|_| {
                let (worker, hash) = (Arc::clone(&worker), hash());
                tokio::spawn(async move { worker.hash(hash).await })
            })
            .collect();
        for one in all {
            assert_eq!(one.await.unwrap(), Some(()));
        }
        assert!(running.lock().unwrap().1 <= 2);
        assert_eq!(worker.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn whoever_gives_up_does_not_free_a_turn_that_is_still_used() {
        let worker = Worker::start(1).unwrap();
        let (free, is_free) = channel::<()>();
        let (began, has_begun) = channel();
        let long = worker.hash(move || {
            began.send(()).unwrap();
            let _ = is_free.recv();
        });
        assert!(timeout(Duration::from_millis(50), long).await.is_err());
        has_begun.recv().unwrap();
        assert_eq!(worker.turns.available_permits(), 0);
        drop(free);
        assert_eq!(worker.hash(|| 7).await, Some(7));
    }
}
