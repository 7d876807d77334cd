//! Why the store could not do what it was asked, in words that say what to do about it.

use crate::FormatError;
use std::io;
use std::sync::Arc;

/// Why a store refuses.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing of the batch was written; what is stored can be read, and a later batch may succeed.
    #[error("the disk of the data directory is full: free some space, writing goes on by itself")]
    Full,
    /// The disk failed. Batches fail until the store could be opened anew, which it tries by itself.
    #[error("the data directory cannot be read or written: check the disk and the permissions ({0})")]
    Io(#[source] Arc<io::Error>),
    /// The files hold what was not written.
    #[error("the data directory is damaged: keep a copy of it and restore a backup ({0})")]
    Corrupt(Damage),
    /// A later release wrote the files.
    #[error("the data directory has format {found}, this release reads up to {known}: use a newer release")]
    NewerFormat {
        /// What the files say.
        found: u32,
        /// What we know.
        known: u32,
    },
    /// Another process has the files open.
    #[error("the data directory is in use by another process: stop that one, or name another directory")]
    Locked,
    /// An earlier write failed, and the store could not be opened anew yet.
    #[error("the store takes no writes after a failed one: check the disk, then restart the broker")]
    Broken,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// More than [`READ_MAX`](crate::READ_MAX) bodies in one read.
    #[error("too many messages in one read")]
    TooManyKeys,
}

/// How the files are damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// A value does not read back.
    #[error(transparent)]
    Value(#[from] FormatError),
    /// The engine's own files do not add up.
    #[error("the engine's files do not fit together")]
    Engine,
    /// The file that names the format is missing or not one of ours.
    #[error("the file FORMAT is missing or not ours")]
    FormatFile,
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Full
            }
            _ => Self::Io(Arc::new(error)),
        }
    }
}

impl From<FormatError> for StoreError {
    fn from(error: FormatError) -> Self {
        Self::Corrupt(Damage::Value(error))
    }
}
