//! The store on one machine's disk: fjall, a log-structured engine, behind one committing thread.
//!
//! ```text
//! commit() -> mailbox -> committer: group -> fold -> one write -> one fdatasync -> every Commit of the group ends
//! read()   -> engine (memtables, then tables)          index: places, references; rebuilt at opening
//! ```
//! The data directory holds the file `FORMAT` and the engine's files in `engine/`. Memory: up to four memtables of
//! 16 MiB for bodies and of 8 MiB for queues, 4 MiB for each other kind, when a disk is slow; one of each otherwise.

mod committer;
mod directory;
mod engine;
mod group;
mod index;
mod janitor;
mod recovery;

use crate::{Commit, READ_MAX, Store, StoreError};
use committer::{Command, Committer};
use engine::{Engine, guarded};
use index::Index;
use reveille_broker_core::change::{Batch, Recovered};
use reveille_broker_core::message::{Message, MessageKey};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};

/// What an operator may choose.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of the file system that stay free: below it batches with new messages are refused with
    /// [`StoreError::Full`], below half of it all. Merging tables needs room too, so the end of the disk is not ours
    /// to reach. 128 MiB.
    pub free_space_min: u64,
    /// Bytes of memory for blocks read from disk. 16 MiB: what is read is read once, while a queue drains.
    pub cache_size: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { free_space_min: 128 << 20, cache_size: 16 << 20 }
    }
}

/// The store on disk.
pub struct Embedded {
    shared: Arc<Shared>,
    mailbox: Sender<Command>,
    committer: Mutex<Option<JoinHandle<()>>>,
    boot: u64,
}

/// What readers and the committer share.
struct Shared {
    directory: PathBuf,
    engine_directory: PathBuf,
    options: Options,
    /// The open files, or why there are none. Taken for writing only to close them, or to open them anew after the
    /// disk was full.
    engine: RwLock<Result<Engine, StoreError>>,
}

impl Embedded {
    /// Opens the store in this directory, or makes one. Reads what is stored to know who refers to what, so it lasts
    /// as long as reading all of it.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another process has it, [`StoreError::NewerFormat`] and [`StoreError::Corrupt`]
    /// for files that we cannot read, [`StoreError::Full`] and [`StoreError::Io`] as the disk says.
    pub fn open(directory: &Path, options: Options) -> Result<Self, StoreError> {
        let engine_directory = directory::prepare(directory)?;
        let (engine, index, boot) = guarded(|| open_engine(&engine_directory, &options))?;
        directory::sync_names(directory)?;
        let engine = RwLock::new(Ok(engine));
        let shared = Arc::new(Shared { directory: directory.to_owned(), engine_directory, options, engine });
        let (mailbox, commands) = mpsc::channel();
        let committer = Committer::new(Arc::clone(&shared), index)?;
        let thread =
            thread::Builder::new().name("store".to_owned()).spawn(move || committer.run(&commands))?;
        Ok(Self { shared, mailbox, committer: Mutex::new(Some(thread)), boot })
    }
}

fn open_engine(directory: &Path, options: &Options) -> Result<(Engine, Index, u64), StoreError> {
    let engine = Engine::open(directory, options)?;
    let index = Index::rebuild(&engine)?;
    let boot = engine.count_boot()?;
    Ok((engine, index, boot))
}

impl Shared {
    fn with_engine<T>(&self, work: impl FnOnce(&Engine) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let engine = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        work(engine.as_ref().map_err(Clone::clone)?)
    }

    /// Closes the files; everything written is durable already.
    fn close_engine(&self) {
        *self.engine.write().unwrap_or_else(PoisonError::into_inner) = Err(StoreError::Closed);
    }

    /// Closes the files and opens them again; readers wait meanwhile.
    fn reopen(&self) -> Result<Index, StoreError> {
        let mut engine = self.engine.write().unwrap_or_else(PoisonError::into_inner);
        // The engine locks its files, so the old one has to go first.
        *engine = Err(StoreError::Closed);
        let opened = guarded(|| {
            let fresh = Engine::open(&self.engine_directory, &self.options)?;
            let index = Index::rebuild(&fresh)?;
            Ok((fresh, index))
        });
        let (fresh, index) = opened.inspect_err(|error| *engine = Err(error.clone()))?;
        *engine = Ok(fresh);
        Ok(index)
    }
}

impl Store for Embedded {
    fn commit(&self, batch: Batch) -> Commit {
        let (ending, commit) = Commit::pair();
        // A committer that is gone drops the ending, which ends the commit with `Closed`.
        let _ = self.mailbox.send(Command::Commit(batch, ending));
        commit
    }

    fn read(&self, keys: &[MessageKey]) -> Result<Vec<Option<Arc<Message>>>, StoreError> {
        if keys.len() > READ_MAX {
            return Err(StoreError::TooManyKeys);
        }
        self.shared.with_engine(|engine| keys.iter().map(|key| engine.read_message(*key)).collect())
    }

    fn recover(&self, visit: &mut dyn FnMut(Recovered)) -> Result<(), StoreError> {
        self.shared.with_engine(|engine| guarded(|| recovery::visit(engine, visit)))
    }

    fn boot(&self) -> u64 {
        self.boot
    }

    fn close(&self) {
        let thread = self.committer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else {
            return;
        };
        let (answer, closed) = mpsc::channel();
        if self.mailbox.send(Command::Close(answer)).is_ok() {
            let _ = closed.recv();
        }
        if thread.join().is_err() {
            tracing::error!("the committing thread of the store panicked");
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}
