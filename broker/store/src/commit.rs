//! The end of a batch: a future that says whether it lasts.

use crate::StoreError;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::oneshot::{self, error::TryRecvError};

/// Ends when a batch is durable or failed. Dropping it does not cancel the batch.
#[derive(Debug)]
#[must_use = "acknowledge after the commit ended, never before"]
pub struct Commit(oneshot::Receiver<Result<(), StoreError>>);

/// The other end of a [`Commit`].
pub(crate) type Ending = oneshot::Sender<Result<(), StoreError>>;

impl Commit {
    /// A commit and the end with which to end it.
    pub(crate) fn pair() -> (Ending, Commit) {
        let (ending, commit) = oneshot::channel();
        (ending, Commit(commit))
    }

    /// A commit that ended.
    pub(crate) fn ended(result: Result<(), StoreError>) -> Commit {
        let (ending, commit) = Commit::pair();
        end(ending, result);
        commit
    }

    /// How it ended; `None` while it has not. For threads that have something else to do.
    pub fn try_wait(&mut self) -> Option<Result<(), StoreError>> {
        match self.0.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Closed) => Some(Err(StoreError::Closed)),
        }
    }

    /// Blocks until it ends; for threads without a runtime.
    ///
    /// # Errors
    /// As the future.
    ///
    /// # Panics
    /// Inside an asynchronous task, where blocking would stop others.
    pub fn wait(self) -> Result<(), StoreError> {
        self.0.blocking_recv().unwrap_or(Err(StoreError::Closed))
    }
}

/// Ends a commit. That nobody waits any more is no error: the batch lasts all the same.
pub(crate) fn end(ending: Ending, result: Result<(), StoreError>) {
    let _ = ending.send(result);
}

impl Future for Commit {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|ended| ended.unwrap_or(Err(StoreError::Closed)))
    }
}
