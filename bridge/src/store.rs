//! What the bridge keeps: one write door with a group commit, and narrow reads.
//!
//! A write is a closure that runs on the store's own thread, one after the other, and sees all earlier writes. All
//! that gathered while the last sync ran becomes durable with one sync; only then does the caller's future end.

mod damaged;
pub(crate) mod keys;
mod tx;
mod writer;

use std::fs;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use tokio::sync::{mpsc, oneshot};

pub(crate) use damaged::{Damaged, Found};
pub(crate) use tx::{Order, Pair, Tx, decode};
pub(crate) use writer::{Wakes, write_at_open};

use crate::audit;
use crate::events::Events;
use crate::index::{self, Index};
use crate::sender::Clock;
use crate::sender::tasks::lock;
pub use crate::vault::KeyError;
use crate::vault::Vault;

/// The format of the data directory that this build writes. 2 has queues, counts and credentials under names besides
/// those of 1, which mean the same in both; 3 has policies, what they hold and what they count.
/// Inboxes, and notes about them in the outbox, are of 3 too.
pub const FORMAT: u32 = 3;
/// Writes that wait for the store's thread; beyond it callers wait for room.
const WAITING_MAX: usize = 4096;
/// Memory for blocks read from disk, in bytes.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// The key file, unless the operator names another.
pub const KEY_FILE: &str = "bridge.key";
/// Bound of the journals, so that opening stays short, in bytes.
const JOURNAL_BYTES: u64 = 128 * 1024 * 1024;

/// A family of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Space {
    /// Apps, keys, credentials.
    Apps,
    /// Devices, tokens, presence, and the indexes over them.
    Devices,
    /// Messages, their counts and deliveries, idempotency.
    Messages,
    /// Work: what waits for the broker, for vendors, for a moment.
    Queues,
    /// Time series. An older release does not know of them, and loses nothing that it knows.
    Statistics,
    /// Who changed what.
    Audit,
}

impl Space {
    /// With the names on disk.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Apps, "apps"),
        (Self::Devices, "devices"),
        (Self::Messages, "messages"),
        (Self::Queues, "queues"),
        (Self::Statistics, "statistics"),
        (Self::Audit, "audit"),
    ];

    /// The name on disk.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(space, _)| *space == self).map_or("", |(_, name)| name)
    }
}

/// Why the store did not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine failed: a full or broken disk.
    #[error("the store failed: {0}")]
    Engine(Arc<fjall::Error>),
    /// A record cannot be read.
    #[error("a record of the store cannot be read: {0}")]
    Corrupt(String),
    /// A key that the engine has no room for: somebody's text went into it unbounded.
    #[error("a key of the store has more than {} bytes", tx::KEY_MAX)]
    KeyTooLong,
    /// The work broke off, which is a fault of ours; the log has it. Nothing of it was written.
    #[error("the work broke off")]
    BrokeOff,
    /// The bridge stops.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether another write may succeed: the fault lies in this one, or in a record that it needs.
    pub(crate) fn is_of_one_write(&self) -> bool {
        match self {
            Self::Corrupt(_) | Self::KeyTooLong | Self::BrokeOff => true,
            Self::Engine(_) | Self::Closed => false,
        }
    }
}

impl From<fjall::Error> for StoreError {
    fn from(error: fjall::Error) -> Self {
        Self::Engine(Arc::new(error))
    }
}

/// Why the data directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No right to write, no room, or no directory.
    #[error("cannot write to {path}: {source}")]
    Directory {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Written by a newer release.
    #[error("{path} has data format {found}, this release reads up to {FORMAT}: use the newer release")]
    Newer {
        /// Where.
        path: PathBuf,
        /// The format found.
        found: String,
    },
    /// Another process uses it.
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    /// The key for the vendors' secrets.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The engine cannot read what is there.
    #[error("cannot open the store in {path}: {source}")]
    Engine {
        /// Where.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
}

/// The engine and its keyspaces.
pub(crate) struct Engine {
    db: Database,
    spaces: [Keyspace; 6],
    vault: Vault,
    index: Index,
    events: Arc<Events>,
    damaged: Damaged,
}

impl Engine {
    /// Records that cannot be decoded.
    pub fn damaged(&self) -> &Damaged {
        &self.damaged
    }

    /// What happens, told live.
    pub fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// Which devices belong to which set.
    pub fn index(&self) -> &Index {
        &self.index
    }

    fn space(&self, space: Space) -> &Keyspace {
        let [apps, devices, messages, queues, statistics, audit] = &self.spaces;
        match space {
            Space::Apps => apps,
            Space::Devices => devices,
            Space::Messages => messages,
            Space::Queues => queues,
            Space::Statistics => statistics,
            Space::Audit => audit,
        }
    }
}

type Job = Box<dyn FnOnce(&mut writer::Round<'_>) + Send>;

/// Ends when a write is durable.
pub(crate) struct Commit<T, E>(oneshot::Receiver<Result<T, E>>);

impl<T, E: From<StoreError>> Future for Commit<T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let closed = |_| Err(StoreError::Closed.into());
        Pin::new(&mut self.0).poll(context).map(|result| result.unwrap_or_else(closed))
    }
}

/// The open store. Cloning shares it; the last clone's end closes it.
#[derive(Clone)]
pub(crate) struct Store {
    engine: Arc<Engine>,
    jobs: mpsc::Sender<Job>,
    wakes: Arc<Wakes>,
    clock: Clock,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Store {
    /// Opens the store under `data_dir/bridge`, or makes it, with the key file beside it.
    ///
    /// # Errors
    /// [`OpenError`], each one clear line for the operator.
    #[cfg(test)]
    pub fn open(data_dir: &Path, clock: Clock) -> Result<Self, OpenError> {
        Self::open_with(data_dir, None, clock)
    }

    /// The same with the key file somewhere else.
    ///
    /// # Errors
    /// [`OpenError`], each one clear line for the operator.
    pub fn open_with(data_dir: &Path, key_file: Option<&Path>, clock: Clock) -> Result<Self, OpenError> {
        let path = data_dir.join("bridge");
        check_format(&path)?;
        let beside = data_dir.join(KEY_FILE);
        let engine = open_engine(&path, Vault::open(key_file.unwrap_or(&beside))?)?;
        check_key(&engine).map_err(|error| error.into_open(&path))?;
        let failed = |source| OpenError::Engine { path: path.clone(), source };
        damaged::put_back(&engine, (clock)()).map_err(&failed)?;
        index::rebuild(&engine, (clock)()).map_err(failed)?;
        let engine = Arc::new(engine);
        let (jobs, inbox) = mpsc::channel(WAITING_MAX);
        let wakes = Arc::new(Wakes::default());
        let (for_thread, its_wakes, its_clock) =
            (Arc::clone(&engine), Arc::clone(&wakes), Arc::clone(&clock));
        let thread = std::thread::Builder::new()
            .name("bridge-store".to_owned())
            .spawn(move || writer::run(&for_thread, inbox, &its_wakes, &its_clock))
            .map_err(|source| OpenError::Directory { path, source })?;
        Ok(Self { engine, jobs, wakes, clock, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// Hands a write over, in order of the calls. The returned future ends when the write is durable; dropping it
    /// does not undo the write. A closure that returns an error leaves nothing behind.
    pub async fn submit<T, E>(
        &self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Commit<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (done, result) = oneshot::channel();
        let open = audit::request::open();
        let work = move |tx: &mut Tx<'_>| {
            let made = work(tx)?;
            if let Some(open) = open {
                open.write(tx)?;
            }
            Ok(made)
        };
        let job: Job = Box::new(move |round| round.run(work, done));
        let _ = self.jobs.send(job).await; // a closed store drops `done`, which the future reports
        Commit(result)
    }

    /// Runs a write and waits until it is durable.
    pub async fn write<T, E>(
        &self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.submit(work).await.await
    }

    /// Runs a read off the async threads.
    pub async fn read<T, E>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (engine, clock) = (Arc::clone(&self.engine), Arc::clone(&self.clock));
        tokio::task::spawn_blocking(move || work(&Tx::reading(&engine, (clock)())))
            .await
            .unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }

    /// What happens, told live.
    pub fn events(&self) -> &Arc<Events> {
        self.engine.events()
    }

    /// Records that cannot be decoded.
    pub fn damaged(&self) -> &Damaged {
        self.engine.damaged()
    }

    /// What becomes due when something was written.
    pub fn wakes(&self) -> &Wakes {
        &self.wakes
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        (self.clock)()
    }

    /// Waits until the thread has ended, which needs every other clone gone.
    pub fn close(self) {
        let thread = lock(&self.thread).take();
        drop(self.jobs);
        drop(self.engine);
        if let Some(thread) = thread {
            let _ = thread.join(); // it does not panic; if it did, the store is closed all the same
        }
    }
}

/// The first key is noted; with another one nothing could be read any more.
fn check_key(engine: &Engine) -> Result<(), KeyCheck> {
    let space = engine.space(Space::Apps);
    let fingerprint = engine.vault.fingerprint();
    match space.get(keys::vault_key())? {
        Some(known) if *known == fingerprint => Ok(()),
        Some(_) => Err(KeyCheck::Another(engine.vault.another())),
        None => {
            space.insert(keys::vault_key(), fingerprint)?;
            Ok(engine.db.persist(fjall::PersistMode::SyncAll)?)
        }
    }
}

enum KeyCheck {
    Engine(fjall::Error),
    Another(KeyError),
}

impl From<fjall::Error> for KeyCheck {
    fn from(error: fjall::Error) -> Self {
        Self::Engine(error)
    }
}

impl KeyCheck {
    fn into_open(self, path: &Path) -> OpenError {
        match self {
            Self::Engine(error) => OpenError::Engine { path: path.to_owned(), source: error.into() },
            Self::Another(error) => error.into(),
        }
    }
}

fn check_format(path: &Path) -> Result<(), OpenError> {
    let file = path.join("format");
    let failed = |source| OpenError::Directory { path: path.to_owned(), source };
    fs::create_dir_all(path).map_err(failed)?;
    match fs::read_to_string(&file) {
        Ok(text) => match text.trim().parse::<u32>() {
            Ok(FORMAT) => probe_writable(path).map_err(failed),
            // From now on an older release would not find everything, so it must refuse the directory.
            Ok(older) if older < FORMAT => write_format(path, &file).map_err(failed),
            _ => Err(OpenError::Newer { path: path.to_owned(), found: text.trim().to_owned() }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => write_format(path, &file).map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

/// The engine panics or hides the cause when it cannot write, so we try first.
fn probe_writable(path: &Path) -> io::Result<()> {
    let probe = path.join(".probe");
    fs::write(&probe, b"")?;
    fs::remove_file(&probe)
}

fn write_format(path: &Path, file: &Path) -> io::Result<()> {
    let new = path.join("format.new");
    fs::write(&new, format!("{FORMAT}\n"))?;
    fs::File::open(&new)?.sync_all()?;
    fs::rename(&new, file)?;
    fs::File::open(path)?.sync_all() // the name itself must survive a power cut
}

fn open_engine(path: &Path, vault: Vault) -> Result<Engine, OpenError> {
    let failed = |error: fjall::Error| match error {
        fjall::Error::Locked => OpenError::InUse(path.to_owned()),
        error => OpenError::Engine { path: path.to_owned(), source: error.into() },
    };
    let db = Database::builder(path.join("store"))
        .cache_size(CACHE_BYTES)
        .max_journaling_size(JOURNAL_BYTES)
        .worker_threads(1)
        .open()
        .map_err(failed)?;
    let open = |name: &str| db.keyspace(name, KeyspaceCreateOptions::default).map_err(failed);
    let [apps, devices, messages, queues, statistics, audit] = Space::ALL.map(|(_, name)| open(name));
    let spaces = [apps?, devices?, messages?, queues?, statistics?, audit?];
    Ok(Engine {
        db,
        spaces,
        vault,
        index: Index::default(),
        events: Arc::default(),
        damaged: Damaged::default(),
    })
}

#[cfg(test)]
mod tests;
