//! fjall under our names: one keyspace for each kind of fact, options that bound memory and journal, errors as ours.

use super::group::{Group, Op};
use crate::error::Damage;
use crate::format::{decode, encode, keys};
use crate::{Options, StoreError};
use bytes::Bytes;
use fjall::config::CompressionPolicy;
use fjall::{
    CompressionType, Database, Guard, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode,
};
use reveille_broker_core::message::{Message, MessageKey, SessionKey};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Bytes of all journal files above which the engine writes out what keeps the oldest alive. The smallest that it
/// takes; opening reads the journals, so this bounds how long opening lasts.
const JOURNAL_SIZE_MAX: u64 = 64 << 20;

/// Threads that write memtables out and merge tables. One: with more, the first spins while the others merge.
const WORKER_THREADS: usize = 1;

/// Memtables that wait to be written out before we wait too. At four the engine itself waits, without looking whether
/// anybody is left to write them out.
const SEALED_MAX: usize = 3;

/// Runs of fresh tables before we wait for the merge; from twenty the engine slows down by itself.
const FRESH_RUNS_MAX: usize = 18;

/// How often to look again while waiting for the engine's worker.
const WORKER_POLL: Duration = Duration::from_millis(2);

/// The key of the number of openings.
const BOOT: &[u8] = b"boot";

/// The key of a value without meaning, written to make the engine tidy up.
const SWEPT: &[u8] = b"swept";

/// A kind of facts, each with a keyspace of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Space {
    Meta,
    Sessions,
    Subscriptions,
    Received,
    Retained,
    Announcements,
    Entries,
    Messages,
    Networks,
}

impl Space {
    const ALL: [Self; 9] = [
        Self::Meta,
        Self::Sessions,
        Self::Subscriptions,
        Self::Received,
        Self::Retained,
        Self::Announcements,
        Self::Entries,
        Self::Messages,
        Self::Networks,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Sessions => "sessions",
            Self::Subscriptions => "subscriptions",
            Self::Received => "received",
            Self::Retained => "retained",
            Self::Announcements => "announcements",
            Self::Entries => "entries",
            Self::Messages => "messages",
            Self::Networks => "networks",
        }
    }

    /// Bytes of its memtable before it is written out. Up to [`SEALED_MAX`] more may wait. An entry costs some hundred
    /// bytes of memory besides its own, so small facts cost several times this. Twice to four times
    /// these sizes were not faster, and memory took ten minutes of a mixed load to find its level (ARCHITECTURE.md).
    fn memtable_size(self) -> u64 {
        match self {
            Self::Messages => 8 << 20,
            Self::Entries => 2 << 20,
            _ => 1 << 20,
        }
    }
}

/// The open files.
pub(super) struct Engine {
    database: Database,
    spaces: [Keyspace; 9],
}

/// What a failed write leaves behind.
#[derive(Debug)]
pub(super) enum WriteError {
    /// Nothing of it can be durable: cutting the torn end off by opening anew is safe once there is room.
    NoRoom,
    /// What is on the disk is unknown: after a failed sync the system may show bytes that the disk does not have.
    Unknown(StoreError),
}

impl Engine {
    /// Opens the files, or creates them.
    pub(super) fn open(directory: &Path, options: &Options) -> Result<Self, StoreError> {
        let database = Database::builder(directory)
            .cache_size(options.cache_size)
            .max_journaling_size(JOURNAL_SIZE_MAX)
            .worker_threads(WORKER_THREADS)
            .manual_journal_persist(true)
            .open()
            .map_err(error)?;
        let open = |space: Space| database.keyspace(space.name(), || keyspace_options(space)).map_err(error);
        let [meta, sessions, subscriptions, received, retained, announcements, entries, messages, networks] =
            Space::ALL;
        let spaces = [
            open(meta)?,
            open(sessions)?,
            open(subscriptions)?,
            open(received)?,
            open(retained)?,
            open(announcements)?,
            open(entries)?,
            open(messages)?,
            open(networks)?,
        ];
        Ok(Self { database, spaces })
    }

    fn space(&self, space: Space) -> &Keyspace {
        let [meta, sessions, subscriptions, received, retained, announcements, entries, messages, networks] =
            &self.spaces;
        match space {
            Space::Meta => meta,
            Space::Sessions => sessions,
            Space::Subscriptions => subscriptions,
            Space::Received => received,
            Space::Retained => retained,
            Space::Announcements => announcements,
            Space::Entries => entries,
            Space::Messages => messages,
            Space::Networks => networks,
        }
    }

    /// One value.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.space(space).get(key).map_err(error)?.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// The body of a message.
    pub(super) fn read_message(&self, key: MessageKey) -> Result<Option<Arc<Message>>, StoreError> {
        let value = self.get(Space::Messages, &keys::message(key))?;
        Ok(value.map(decode).transpose()?.map(Arc::new))
    }

    /// Counts this opening, durably, and gives the count.
    pub(super) fn count_boot(&self) -> Result<u64, StoreError> {
        let last = self.get(Space::Meta, BOOT)?.map_or(Ok(0), |value| keys::read_number(&value))?;
        let boot = last + 1;
        self.space(Space::Meta).insert(BOOT, boot.to_be_bytes()).map_err(error)?;
        self.sync()?;
        Ok(boot)
    }

    /// All keys and values of a kind, in the order of their keys.
    pub(super) fn rows(
        &self,
        space: Space,
    ) -> impl Iterator<Item = Result<(Bytes, Bytes), StoreError>> + use<> {
        self.space(space).iter().map(row)
    }

    /// All keys of a kind, in their order, with the lengths of their values.
    pub(super) fn keys(
        &self,
        space: Space,
    ) -> impl Iterator<Item = Result<(Bytes, usize), StoreError>> + use<> {
        self.space(space).iter().map(|row| {
            let (key, value) = row.into_inner().map_err(error)?;
            Ok((Bytes::copy_from_slice(&key), value.len()))
        })
    }

    /// The keys of a session's subscriptions.
    pub(super) fn subscription_keys(&self, session: SessionKey) -> Result<Vec<Vec<u8>>, StoreError> {
        let rows = self.space(Space::Subscriptions).prefix(keys::session(session));
        rows.map(|row| Ok(row.key().map_err(error)?.to_vec())).collect()
    }

    /// Writes a group and syncs it: all of it lasts, or nothing. The sync comes before the memtables get the group: one that is
    /// written out with a part of a group whose journal is lost would leave that part behind, and a QoS 2 message without
    /// the packet identifier that it came with comes twice.
    pub(super) fn write(&self, group: &Group) -> Result<(), WriteError> {
        self.wait_for_worker().map_err(written)?;
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        self.fill(&mut batch, group);
        batch.commit().map_err(written)
    }

    /// Everything written so far lasts when this returns. Data is enough: a journal file and its name are synced when
    /// it is made, and `fdatasync` writes a grown length.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.database.persist(PersistMode::SyncData).map_err(error)
    }

    /// Bytes of the bodies on disk, given up or not, without those that are in memory still.
    pub(super) fn body_space(&self) -> u64 {
        self.space(Space::Messages).disk_space()
    }

    /// Writes the bodies on disk anew without those that were given up. Reads all of them, so it lasts.
    pub(super) fn compact_bodies(&self) -> Result<(), StoreError> {
        let bodies = self.space(Space::Messages);
        // Removals that are only in memory free nothing.
        bodies.rotate_memtable().map_err(error)?;
        self.wait_while(|| bodies.sealed_memtable_count() > 0).map_err(error)?;
        bodies.major_compact().map_err(error)?;
        // The engine deletes the old tables when it next writes out a memtable, of any kind.
        let meta = self.space(Space::Meta);
        meta.insert(SWEPT, []).map_err(error)?;
        meta.rotate_memtable().map_err(error)?;
        Ok(())
    }

    /// Removes keys that nothing refers to. Not synced: they would be found again.
    pub(super) fn remove(&self, keys: &[(Space, Vec<u8>)]) -> Result<(), StoreError> {
        for chunk in keys.chunks(4_096) {
            let mut batch = self.database.batch().durability(Some(PersistMode::Buffer));
            chunk.iter().for_each(|(space, key)| batch.remove(self.space(*space), key.as_slice()));
            batch.commit().map_err(error)?;
        }
        Ok(())
    }

    fn fill(&self, batch: &mut OwnedWriteBatch, group: &Group) {
        for ((space, key), op) in &group.others {
            fill_one(batch, self.space(*space), key, op, Clone::clone);
        }
        for ((session, seq), op) in &group.entries {
            fill_one(batch, self.space(Space::Entries), &keys::entry(*session, *seq), op, encode);
        }
        for (message, op) in &group.bodies {
            fill_one(batch, self.space(Space::Messages), &keys::message(*message), op, |body| {
                encode(&**body)
            });
        }
    }

    /// Waits until the engine has room for more memtables and tables.
    fn wait_for_worker(&self) -> Result<(), fjall::Error> {
        let is_behind = |space: &Keyspace| {
            space.sealed_memtable_count() >= SEALED_MAX || space.l0_table_count() >= FRESH_RUNS_MAX
        };
        self.wait_while(|| self.spaces.iter().any(is_behind))
    }

    /// Waits for the engine's worker.
    fn wait_while(&self, is_behind: impl Fn() -> bool) -> Result<(), fjall::Error> {
        while is_behind() {
            // Fails once the worker died, which would otherwise be waited for for ever.
            self.database.persist(PersistMode::Buffer)?;
            thread::sleep(WORKER_POLL);
        }
        Ok(())
    }
}

fn fill_one<V>(
    batch: &mut OwnedWriteBatch,
    space: &Keyspace,
    key: &[u8],
    op: &Op<V>,
    value: impl FnOnce(&V) -> Vec<u8>,
) {
    match op {
        Op::Put { value: put, .. } => batch.insert(space, key, value(put)),
        Op::Remove => batch.remove(space, key),
    }
}

/// Compressed: no slower than plain within what could be measured, and JSON shrinks.
fn keyspace_options(space: Space) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .manual_journal_persist(true)
        .max_memtable_size(space.memtable_size())
        .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
        .expect_point_read_hits(true)
}

fn row(row: Guard) -> Result<(Bytes, Bytes), StoreError> {
    let (key, value) = row.into_inner().map_err(error)?;
    Ok((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)))
}

/// The engine checks what it reads, at a few places by panicking: damaged files must not take the broker along.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(StoreError::Corrupt(Damage::Engine)))
}

fn written(failed: fjall::Error) -> WriteError {
    match error(failed) {
        StoreError::Full => WriteError::NoRoom,
        other => WriteError::Unknown(other),
    }
}

fn error(error: fjall::Error) -> StoreError {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => io_error(error),
        fjall::Error::Poisoned => StoreError::Broken,
        fjall::Error::Locked => StoreError::Locked,
        _ => StoreError::Corrupt(Damage::Engine),
    }
}

fn io_error(error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => StoreError::Corrupt(Damage::Engine),
        _ => StoreError::from(error),
    }
}
