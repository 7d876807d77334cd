//! What the broker knows about its own state, for health checks and for whoever waits for its end.

use crate::overload::Overload;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::watch;

/// Why the broker cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A thread ended that should not.
    #[error(
        "the thread {thread} ended unexpectedly, this is a defect of the broker: restart it and report the log"
    )]
    ThreadEnded {
        /// Its name.
        thread: String,
    },
}

/// Shared by all threads.
#[derive(Debug)]
pub(crate) struct Health {
    is_serving: AtomicBool,
    is_stopping: AtomicBool,
    is_draining: AtomicBool,
    commits_fail: AtomicBool,
    connections: AtomicUsize,
    /// What is given up because memory or time runs short.
    pub(crate) overload: Overload,
    failure: watch::Sender<Option<Failure>>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            is_serving: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            commits_fail: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            overload: Overload::default(),
            failure: watch::Sender::new(None),
        }
    }
}

impl Health {
    /// Everything is recovered and clients are accepted, or not any more.
    pub(crate) fn set_serving(&self, is_serving: bool) {
        self.is_serving.store(is_serving, Ordering::Release);
    }

    /// From now on clients are sent away.
    pub(crate) fn set_draining(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    /// Whether clients are sent away.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// From now on threads may end.
    pub(crate) fn set_stopping(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }

    /// A commit ended. Says whether that is news, so that a full disk is logged once and not once a message.
    pub(crate) fn commit_ended(&self, is_durable: bool) -> bool {
        self.commits_fail.swap(!is_durable, Ordering::AcqRel) == is_durable
    }

    /// Whether clients are accepted and the newest commit succeeded.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_serving.load(Ordering::Acquire)
            && !self.is_draining()
            && !self.commits_fail.load(Ordering::Acquire)
            && self.is_alive()
    }

    /// Whether every thread runs.
    pub(crate) fn is_alive(&self) -> bool {
        self.failure.borrow().is_none()
    }

    /// A thread ended.
    pub(crate) fn thread_ended(&self, thread: &str) {
        if !self.is_stopping.load(Ordering::Acquire) {
            self.failure.send_replace(Some(Failure::ThreadEnded { thread: thread.to_owned() }));
        }
    }

    /// Waits for a failure; for ever when there is none.
    pub(crate) async fn failed(&self) -> Failure {
        let mut failure = self.failure.subscribe();
        loop {
            if let Some(failure) = failure.borrow_and_update().clone() {
                return failure;
            }
            if failure.changed().await.is_err() {
                std::future::pending::<()>().await; // cannot happen while `self` lives
            }
        }
    }

    /// Network connections now, those in the handshake included.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Counts a connection for as long as its socket lives.
    pub(crate) fn connected(self: &std::sync::Arc<Self>) -> Connected {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connected(std::sync::Arc::clone(self))
    }
}

/// One socket, counted. Dropped with it.
#[derive(Debug)]
pub(crate) struct Connected(std::sync::Arc<Health>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Notices when a thread ends, by return or by panic.
pub(crate) struct ThreadWatch {
    health: std::sync::Arc<Health>,
    thread: String,
}

impl ThreadWatch {
    /// Held by the thread for as long as it runs.
    pub(crate) fn new(health: std::sync::Arc<Health>, thread: String) -> Self {
        Self { health, thread }
    }
}

impl Drop for ThreadWatch {
    fn drop(&mut self) {
        self.health.thread_ended(&self.thread);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_failed_commit_is_news_once_and_makes_the_broker_not_ready() {
        let health = Health::default();
        assert!(!health.is_ready(), "nothing is recovered yet");
        health.set_serving(true);
        let rows = [(true, false, true), (false, true, false), (false, false, false), (true, true, true)];
        for (is_durable, is_news, is_ready) in rows {
            assert_eq!(health.commit_ended(is_durable), is_news, "{is_durable}");
            assert_eq!(health.is_ready(), is_ready, "{is_durable}");
        }
    }

    #[tokio::test]
    async fn a_thread_that_panics_is_a_failure_and_one_that_was_stopped_is_not() {
        let run = |health: &Arc<Health>, name: &str, panics: bool| {
            let watch = ThreadWatch::new(Arc::clone(health), name.to_owned());
            let _ = std::thread::spawn(move || {
                let _watch = watch;
                assert!(!panics, "on purpose");
            })
            .join();
        };
        let health = Arc::new(Health::default());
        run(&health, "shard 7", true);
        assert!(!health.is_alive());
        assert_eq!(health.failed().await, Failure::ThreadEnded { thread: "shard 7".to_owned() });

        let stopped = Arc::new(Health::default());
        stopped.set_stopping();
        run(&stopped, "shard 7", false);
        assert!(stopped.is_alive());
    }

    #[test]
    fn a_connection_is_counted_while_its_socket_lives() {
        let health = Arc::new(Health::default());
        let connected = health.connected();
        assert_eq!(health.connections(), 1);
        drop(connected);
        assert_eq!(health.connections(), 0);
    }
}
