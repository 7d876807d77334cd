//! What the broker keeps on disk: one narrow trait, an embedded engine and a memory engine for tests.
//!
//! There is one way in, [`Store::commit`], and it carries facts ([`Change`](reveille_broker_core::change::Change)),
//! not keys: what a queue is and when a body may go is decided here, once for all who write.
//!
//! Facts about a session whose record the store does not hold are ignored: nobody was promised anything about it.

mod commit;
mod embedded;
mod error;
mod format;
mod memory;
#[cfg(any(test, feature = "suite"))]
pub mod suite;

pub use commit::Commit;
pub use embedded::{Embedded, Options};
pub use error::{Damage, StoreError};
pub use format::FormatError;
pub use memory::Memory;

use reveille_broker_core::change::{Batch, Recovered};
use reveille_broker_core::message::{Message, MessageKey};
use std::sync::Arc;

/// Bodies that one [`Store::read`] gives at most: it blocks, and a shard waits for it.
pub const READ_MAX: usize = 1_024;

/// Where facts last. Every implementation passes the same tests, the suite of this crate.
pub trait Store: Send + Sync + 'static {
    /// Hands a batch over; the future ends when it is durable, or failed.
    ///
    /// The order of the calls is the order in which batches become durable, and in which their commits end. Never
    /// blocks. The batches that wait are bounded by the callers, who keep one or two on their way each.
    ///
    /// An error means that the batch is not known to be durable. After [`StoreError::Full`] it certainly is not, and
    /// a later one may succeed.
    fn commit(&self, batch: Batch) -> Commit;

    /// Bodies of queued messages, in the order asked; `None` when a body is gone, or not durable yet. Blocks for as
    /// long as the disk takes.
    ///
    /// # Errors
    /// [`StoreError::TooManyKeys`] above [`READ_MAX`]; what the disk says.
    fn read(&self, keys: &[MessageKey]) -> Result<Vec<Option<Arc<Message>>>, StoreError>;

    /// Everything that outlived the last run, one item at a time: sessions in the order of their keys, then retained
    /// messages, then announcements in the order of their numbers, then networks. Called once, before serving.
    ///
    /// # Errors
    /// What the disk says; [`StoreError::Corrupt`] when it gives back what was not written.
    fn recover(&self, visit: &mut dyn FnMut(Recovered)) -> Result<(), StoreError>;

    /// How often this store was opened. Grows by one with each opening, durable before the store can be used.
    fn boot(&self) -> u64;

    /// Stops: everything handed over becomes durable, then the files close. Later commits fail with
    /// [`StoreError::Closed`]. Blocks.
    fn close(&self);
}
