//! The thread that owns all writes: runs what waits, syncs once, then tells everyone.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use fjall::PersistMode;
use tokio::sync::{Notify, mpsc, oneshot};

use super::tx::{KEY_MAX, Overlay, Tx};
use super::{Engine, Job, Space, StoreError};
use crate::events::News;
use crate::index::Change;
use crate::lane::Lane;
use crate::sender::Clock;
use crate::sender::tasks::lock;
use crate::statistics::{Keeper, Tally};
use crate::webhooks::Hook;

/// Writes in one group at most, so that the first does not wait for ever.
const GROUP_MAX: usize = 1024;

/// Lanes that got work, each with the moment from which it is due at the earliest, in milliseconds since 1970.
#[derive(Default)]
pub(crate) struct Lanes(BTreeMap<Lane, u64>);

impl Lanes {
    /// A lane has work that is due from a moment on. What moves there from another lane may be due for long.
    pub fn note(&mut self, lane: Lane, due_ms: u64) {
        let earliest_ms = self.0.entry(lane).or_insert(due_ms);
        *earliest_ms = due_ms.min(*earliest_ms);
    }

    fn add(&mut self, other: Self) {
        other.0.into_iter().for_each(|(lane, due_ms)| self.note(lane, due_ms));
    }
}

impl IntoIterator for Lanes {
    type Item = (Lane, u64);
    type IntoIter = std::collections::btree_map::IntoIter<Lane, u64>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Who waits for work that was written.
#[derive(Default)]
pub(crate) struct Wakes {
    /// Something waits for the broker.
    pub outbox: Notify,
    /// Something waits for a moment.
    pub checks: Notify,
    /// An audience waits to be expanded, or a message to be ended.
    pub jobs: Notify,
    /// An app waits to be removed.
    pub removals: Notify,
    /// An upload waits to be read.
    pub imports: Notify,
    /// An export waits to be written.
    pub exports: Notify,
    /// Some lane of [`Wakes::take_lanes`] has work.
    pub pushes: Notify,
    /// Some webhook of [`Wakes::take_hooks`] has work.
    pub letters: Notify,
    hooks: Mutex<BTreeSet<Hook>>,
    lanes: Mutex<Lanes>,
}

impl Wakes {
    /// The lanes that got work since the last call.
    pub fn take_lanes(&self) -> Lanes {
        std::mem::take(&mut *lock(&self.lanes))
    }

    /// The webhooks that got work since the last call.
    pub fn take_hooks(&self) -> BTreeSet<Hook> {
        std::mem::take(&mut *lock(&self.hooks))
    }

    fn wake(&self, touched: Touched) {
        if touched.outbox {
            self.outbox.notify_one();
        }
        if touched.checks {
            self.checks.notify_one();
        }
        if touched.jobs {
            self.jobs.notify_one();
        }
        if touched.removals {
            self.removals.notify_one();
        }
        if touched.imports {
            self.imports.notify_one();
        }
        if touched.exports {
            self.exports.notify_one();
        }
        if !touched.lanes.0.is_empty() {
            lock(&self.lanes).add(touched.lanes);
            self.pushes.notify_one();
        }
        if !touched.hooks.is_empty() {
            lock(&self.hooks).extend(touched.hooks);
            self.letters.notify_one();
        }
    }
}

/// Which queues a write changed.
#[derive(Default)]
pub(crate) struct Touched {
    /// The broker's.
    pub outbox: bool,
    /// Moments.
    pub checks: bool,
    /// Jobs.
    pub jobs: bool,
    /// Apps to be removed.
    pub removals: bool,
    /// Uploads.
    pub imports: bool,
    /// Exports.
    pub exports: bool,
    /// Vendors'.
    pub lanes: Lanes,
    /// Webhooks'.
    pub hooks: BTreeSet<Hook>,
    /// What the index has to follow, in order.
    pub index: Vec<Change>,
    /// What deliveries passed.
    pub statistics: Tally,
    /// What is told live, in order.
    pub events: Vec<News>,
}

impl Touched {
    fn add(&mut self, other: Touched) {
        self.outbox |= other.outbox;
        self.checks |= other.checks;
        self.jobs |= other.jobs;
        self.removals |= other.removals;
        self.imports |= other.imports;
        self.exports |= other.exports;
        self.lanes.add(other.lanes);
        self.hooks.extend(other.hooks);
        self.index.extend(other.index);
        self.statistics.add(other.statistics);
        self.events.extend(other.events);
    }
}

type Told = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// The writes that become durable together.
pub(super) struct Round<'a> {
    engine: &'a Engine,
    now_ms: u64,
    overlay: Overlay,
    touched: Touched,
    waiting: Vec<Told>,
}

impl<'a> Round<'a> {
    fn new(engine: &'a Engine, now_ms: u64) -> Self {
        Self { engine, now_ms, overlay: Overlay::new(), touched: Touched::default(), waiting: Vec::new() }
    }

    /// Runs one write; its changes join the group unless it failed.
    pub fn run<T, E>(
        &mut self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
        done: oneshot::Sender<Result<T, E>>,
    ) where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let mut tx = Tx::writing(self.engine, &self.overlay, self.now_ms);
        // One write that panics must not end the thread that writes for every app: its changes are thrown away.
        let result = catch_unwind(AssertUnwindSafe(|| work(&mut tx)));
        let (changes, touched) = tx.into_changes();
        let result = match result {
            Ok(Ok(_)) if changes.keys().any(|(_, key)| key.len() > KEY_MAX) => {
                Err(StoreError::KeyTooLong.into())
            }
            Ok(result) => result,
            Err(_) => Err(StoreError::BrokeOff.into()),
        };
        if result.is_ok() {
            self.overlay.extend(changes);
            self.touched.add(touched);
        }
        // An error is told after the commit too: it may rest on what this group wrote.
        self.waiting.push(Box::new(move |committed| {
            let _ = done.send(committed.map_err(E::from).and(result)); // nobody waits any more: fine
        }));
    }

    /// Adds what the group counted to the rows of the statistics.
    fn count(&mut self, keeper: &mut Keeper) -> Result<(), StoreError> {
        let tally = std::mem::take(&mut self.touched.statistics);
        let mut removed = self.overlay.range((Space::Statistics, Vec::new())..);
        if removed.next().is_some_and(|((space, _), _)| *space == Space::Statistics) {
            keeper.forget(); // rows that are old, or of an app that goes
        }
        let mut tx = Tx::writing(self.engine, &self.overlay, self.now_ms);
        keeper.write(&mut tx, tally)?;
        let (changes, _) = tx.into_changes();
        self.overlay.extend(changes);
        Ok(())
    }

    fn commit(mut self, wakes: &Wakes, keeper: &mut Keeper) {
        let counted = self.count(keeper);
        let Self { engine, overlay, mut touched, waiting, .. } = self;
        let result = counted.and_then(|()| Ok(commit(engine, overlay)?)).inspect_err(|error| {
            tracing::error!(%error, "the bridge's store does not take writes any more");
            keeper.forget();
        });
        if result.is_ok() {
            engine.index().apply(std::mem::take(&mut touched.index)); // before anyone is told of it
        }
        for told in waiting {
            told(result.clone());
        }
        if result.is_ok() {
            for news in std::mem::take(&mut touched.events) {
                engine.events().publish(news);
            }
            wakes.wake(touched);
        }
    }
}

/// Makes everything of a group durable, or nothing.
fn commit(engine: &Engine, overlay: Overlay) -> Result<(), fjall::Error> {
    let mut batch = engine.db.batch().durability(Some(PersistMode::SyncData));
    for ((space, key), value) in overlay {
        match value {
            Some(value) => batch.insert(engine.space(space), key, value),
            None => batch.remove(engine.space(space), key),
        }
    }
    batch.commit()
}

/// A write while the store is being opened, before its thread runs. The index does not follow.
pub(crate) fn write_at_open<T>(
    engine: &Engine,
    now_ms: u64,
    work: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let nothing = Overlay::new();
    let mut tx = Tx::writing(engine, &nothing, now_ms);
    let result = work(&mut tx)?;
    let (changes, _) = tx.into_changes();
    if !changes.is_empty() {
        commit(engine, changes)?;
    }
    Ok(result)
}

/// Runs until every handle of the store is gone.
pub(super) fn run(engine: &Engine, mut inbox: mpsc::Receiver<Job>, wakes: &Wakes, clock: &Clock) {
    let mut keeper = Keeper::default();
    while let Some(first) = inbox.blocking_recv() {
        let mut round = Round::new(engine, (clock)());
        first(&mut round);
        while round.waiting.len() < GROUP_MAX
            && let Ok(job) = inbox.try_recv()
        {
            job(&mut round);
        }
        round.commit(wakes, &mut keeper);
    }
}
