//! Records that cannot be decoded: a disk damaged them, or a newer release wrote them. Whoever works through a list leaves such a
//! record out and notes it here; [`crate::damaged`] tells of it.
//!
//! Work is set aside, so that it is not looked at in every turn: it is kept under a key of its own, and at the next start it is
//! put back, because the release may read it then. Whatever else cannot be decoded stays where it is, out of lists.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use tokio::sync::Notify;

use super::{Engine, Order, Space, StoreError, Tx, keys, write_at_open};
use crate::sender::tasks::lock;

/// Records that wait to be told of, and that are remembered as told; one more is found again at the next look.
const FOUND_MAX: usize = 1024;
/// Records put back in one write.
const CHUNK: usize = 500;

/// Where a record stands.
type Place = (Space, Vec<u8>);

/// A record that cannot be worked on.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub space: Space,
    pub key: Vec<u8>,
    /// As it was read: what was written meanwhile is not set aside.
    pub value: Vec<u8>,
    pub why: String,
}

/// What was found and not told yet, and what was told since the start.
#[derive(Default)]
pub(crate) struct Damaged {
    found: Mutex<BTreeMap<Place, Found>>,
    told: Mutex<BTreeSet<Place>>,
    /// Something was found.
    pub woken: Notify,
}

impl Damaged {
    pub(super) fn note(&self, found: Found) {
        let place = (found.space, found.key.clone());
        if lock(&self.told).contains(&place) {
            return;
        }
        let mut all = lock(&self.found);
        if all.len() < FOUND_MAX && all.insert(place, found).is_none() {
            self.woken.notify_one();
        }
    }

    /// What was found since the last call.
    pub fn take(&self) -> Vec<Found> {
        let all = std::mem::take(&mut *lock(&self.found));
        let mut told = lock(&self.told);
        // What is set aside is gone from its place, and is told of anew if it comes back there.
        let staying = all.keys().filter(|(space, _)| *space != Space::Queues).cloned();
        for place in staying {
            if told.len() < FOUND_MAX {
                told.insert(place);
            }
        }
        all.into_values().collect()
    }
}

impl Found {
    /// Takes it out of its list, if it is still what was read. `false`: it stays where it is.
    pub fn set_aside(self, tx: &mut Tx<'_>) -> Result<bool, StoreError> {
        if self.space != Space::Queues || tx.get(self.space, &self.key)?.as_ref() != Some(&self.value) {
            return Ok(false);
        }
        tx.put(self.space, keys::set_aside(&self.key), self.value);
        // Its list may have seemed empty because of it.
        let touched = tx.touched();
        (touched.outbox, touched.checks, touched.jobs) = (true, true, true);
        (touched.imports, touched.exports) = (true, true);
        touched.hooks.extend(keys::parse_hook(&self.key));
        tx.remove(self.space, self.key);
        Ok(true)
    }
}

/// Puts back what an earlier run set aside.
pub(super) fn put_back(engine: &Engine, now_ms: u64) -> Result<(), StoreError> {
    loop {
        let count = write_at_open(engine, now_ms, |tx| {
            let found = tx.scan(Space::Queues, &keys::all_set_aside(), None, Order::Forward, CHUNK)?;
            let count = found.len();
            for (aside, value) in found {
                let key = keys::parse_set_aside(&aside).unwrap_or_default().to_vec();
                if !tx.has(Space::Queues, &key)? {
                    tx.put(Space::Queues, key, value); // else newer work took its place
                }
                tx.remove(Space::Queues, aside);
            }
            Ok(count)
        })?;
        if count < CHUNK {
            return Ok(());
        }
    }
}
