//! What is learned about networks, between the shards that see it, the devices that are told, and the store.
//!
//! Shards hand over what they saw once a turn; a thread of its own does what takes longer, one network at a time, and
//! writes what changed once a minute and at the end.

use crate::clock::Clock;
use reveille_broker_core::change::{Batch, Change};
use reveille_broker_core::networks::{
    Advice, NetworkCounters, NetworkKey, NetworkRecord, NetworkRules, NetworkView, Networks, Origin, Sighting,
};
use reveille_broker_store::{Commit, Store};
use std::fmt;
use std::io;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Between two looks of the thread.
const LOOK: Duration = Duration::from_secs(1);

/// Everything that is known of networks. Every thread that sees or asks has it.
pub(crate) struct Heartbeats(Mutex<Networks>);

impl Heartbeats {
    /// Nothing is known yet.
    pub(crate) fn new(rules: NetworkRules) -> Self {
        Self(Mutex::new(Networks::new(rules)))
    }

    /// A panic elsewhere left it whole: every change is one call of the core.
    fn lock(&self) -> MutexGuard<'_, Networks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes back what outlived the last run.
    pub(crate) fn recover(&self, key: NetworkKey, record: NetworkRecord) {
        self.lock().recover(key, record);
    }

    /// From now on these rules hold.
    pub(crate) fn set_rules(&self, rules: NetworkRules) {
        self.lock().set_rules(rules);
    }

    /// What one shard saw in a turn.
    pub(crate) fn see(&self, sightings: &mut Vec<Sighting>, clock: &Clock) {
        if sightings.is_empty() {
            return;
        }
        let (mut networks, now) = (self.lock(), clock.now());
        for sighting in sightings.drain(..) {
            networks.handle(&sighting, now);
        }
    }

    /// What a device there is told.
    pub(crate) fn advice(&self, origin: &Origin) -> Option<Advice> {
        self.lock().advice(origin)
    }

    /// Networks in a fixed order, behind `after`, at most `limit`.
    pub(crate) fn list(&self, after: Option<&NetworkKey>, limit: usize) -> Vec<NetworkView> {
        self.lock().list(after, limit)
    }

    /// What was counted.
    pub(crate) fn counters(&self) -> NetworkCounters {
        self.lock().counters()
    }

    /// What takes longer. The lock is held for one network at a time: shards wait for it.
    fn look(&self, clock: &Clock) {
        let due = self.lock().tick(clock.now());
        for key in due {
            self.lock().estimate(&key, clock.now());
        }
    }

    /// Hands what changed to the store, when it is time.
    fn write(&self, store: &dyn Store, clock: &Clock, at_once: bool) -> Option<Writing> {
        let dirty = self.lock().take_dirty(clock.now(), at_once);
        if dirty.is_empty() {
            return None;
        }
        let keys = dirty.iter().map(|(key, _)| key.clone()).collect();
        let change = |(key, record): (NetworkKey, Option<NetworkRecord>)| Change::PutNetwork {
            key,
            record: record.map(Box::new),
        };
        let commit = store.commit(Batch { changes: dirty.into_iter().map(change).collect() });
        Some(Writing { keys, commit })
    }

    /// `writing` as long as it is not durable; what the store refused is due again.
    fn still(&self, mut writing: Writing) -> Option<Writing> {
        match writing.commit.try_wait() {
            None => return Some(writing),
            Some(Ok(())) => {}
            Some(Err(_)) => self.lock().not_written(writing.keys), // the shards' own commits say what is wrong
        }
        None
    }
}

impl Default for Heartbeats {
    fn default() -> Self {
        Self::new(NetworkRules::default())
    }
}

impl fmt::Debug for Heartbeats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Heartbeats")
    }
}

/// What the store was handed and has not confirmed.
struct Writing {
    keys: Vec<NetworkKey>,
    commit: Commit,
}

/// The thread.
pub(crate) struct Learner {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Learner {
    /// Starts it.
    pub(crate) fn start(
        heartbeats: Arc<Heartbeats>,
        store: Arc<dyn Store>,
        clock: Clock,
    ) -> io::Result<Self> {
        let (stop, stopped) = sync_channel(1);
        let thread = Builder::new().name("heartbeats".to_owned()).spawn(move || {
            heartbeats.look(&clock); // what was recovered is known before the first device asks
            let mut writing: Option<Writing> = None;
            while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                heartbeats.look(&clock);
                writing = writing.and_then(|writing| heartbeats.still(writing));
                if writing.is_none() {
                    writing = heartbeats.write(&*store, &clock, false);
                }
            }
            // Closing the store waits for it: a disk that hangs must not hold up everything that ends before.
            let _ = heartbeats.write(&*store, &clock, true);
        })?;
        Ok(Self { stop, thread })
    }

    /// Hands over what is not on disk yet, and ends. After the shards, before the store.
    pub(crate) fn stop(self) {
        let _ = self.stop.send(()); // it may have ended
        let _ = self.thread.join();
    }
}
