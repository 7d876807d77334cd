//! The thread that gives room back: after a backlog drained, its bodies still fill the disk until enough else is
//! written to make the engine merge them away. Few large messages would lie there for very long.

use super::Shared;
use crate::StoreError;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

/// Bytes of given-up bodies on disk that are worth the work.
const GARBAGE_MIN: u64 = 64 << 20;

/// The work costs as much as is read and written anew, so at least two bytes come free for each that stays.
const GARBAGE_PER_LIVE: u64 = 2;

/// The committer's end.
pub(super) struct Janitor {
    calls: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Janitor {
    pub(super) fn start(shared: Arc<Shared>) -> Result<Self, StoreError> {
        // One call that waits is as good as many.
        let (calls, called) = mpsc::sync_channel(1);
        let thread =
            thread::Builder::new().name("store-janitor".to_owned()).spawn(move || work(&shared, &called))?;
        Ok(Self { calls: Some(calls), thread: Some(thread) })
    }

    /// Calls for the work if it is worth it. Compressed bodies make it look less than it is, never more.
    pub(super) fn look(&self, body_space: u64, live_bytes: u64) {
        let garbage = body_space.saturating_sub(live_bytes);
        if garbage >= GARBAGE_MIN && garbage >= live_bytes.saturating_mul(GARBAGE_PER_LIVE) {
            let _ = self.calls.as_ref().map(|calls| calls.try_send(()));
        }
    }

    /// Waits for what is being done.
    pub(super) fn stop(&mut self) {
        self.calls = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the janitor of the store panicked");
        }
    }
}

fn work(shared: &Shared, called: &Receiver<()>) {
    while called.recv().is_ok() {
        match shared.with_engine(|engine| engine.compact_bodies()) {
            Ok(()) => tracing::debug!("room of acknowledged messages was given back"),
            Err(error) => tracing::warn!(%error, "room of acknowledged messages could not be given back"),
        }
    }
}
