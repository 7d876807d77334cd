//! Which devices belong to which set, in memory: roaring bitmaps over the devices' numbers, one for each value.
//!
//! It holds nothing that the store does not: it is built from there at every start, and the store's thread changes it
//! after each commit and before anybody is told of it. So whoever got an answer sees what it says.

mod members;
mod rebuild;
mod select;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use reveille_proto::ids::AppId;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::audience::expression::Field;
use crate::devices::Presence;
use crate::store::Order;
use members::Members;

pub(crate) use rebuild::rebuild;
pub(crate) use select::{Known, Summary};

/// A device's place in the index: given once by its app, never again, so that a job can go on behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeviceNumber(pub u32);

/// What a device has.
pub(crate) type Label = (Field, String);

/// What a write changed; applied once it is durable.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    /// A device came, or has other labels now.
    Device { app: AppId, number: DeviceNumber, left: Vec<Label>, joined: Vec<Label> },
    /// A device is gone, with these labels.
    Gone { app: AppId, number: DeviceNumber, left: Vec<Label> },
    /// A device's network connection came or went.
    Presence { app: AppId, number: DeviceNumber, presence: Presence },
    /// An app is gone, with every device.
    AppGone { app: AppId },
    /// Every network connection of an earlier epoch is over.
    BrokerStarted { epoch: u64, at_ms: u64 },
}

/// The sets of every app.
#[derive(Default)]
pub(crate) struct Index {
    /// Held for one window of a look, or for the changes of one commit.
    apps: RwLock<HashMap<AppId, Sets>>,
}

/// The sets of one app.
#[derive(Default)]
struct Sets {
    all: RoaringBitmap,
    online: RoaringBitmap,
    by_value: BTreeMap<Field, BTreeMap<Box<str>, Members>>,
    /// By number: when the network connection ended, in seconds since 1970; 0 when there never was one.
    seen_s: Vec<u32>,
    /// By number: the epoch of the network connection.
    epochs: Vec<u64>,
}

impl Index {
    fn read(&self) -> RwLockReadGuard<'_, HashMap<AppId, Sets>> {
        self.apps.read().unwrap_or_else(PoisonError::into_inner) // a change is whole or not begun
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<AppId, Sets>> {
        self.apps.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what became durable.
    pub fn apply(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let mut apps = self.write();
        for change in changes {
            match change {
                Change::Device { app, number, left, joined } => {
                    apps.entry(app).or_default().change(number, &left, joined);
                }
                Change::Gone { app, number, left } => apps.entry(app).or_default().forget(number, &left),
                Change::Presence { app, number, presence } => {
                    apps.entry(app).or_default().note(number, &presence);
                }
                Change::AppGone { app } => {
                    apps.remove(&app);
                }
                Change::BrokerStarted { epoch, at_ms } => {
                    apps.values_mut().for_each(|sets| sets.end_before(epoch, seconds(at_ms)));
                }
            }
        }
    }

    /// How many devices have a value, and how many of them are online.
    pub fn counts_of(&self, app: &AppId, field: &Field, value: &str) -> (u64, u64) {
        let apps = self.read();
        let members = apps.get(app).and_then(|sets| Some((sets, sets.by_value.get(field)?.get(value)?)));
        members.map_or((0, 0), |(sets, members)| (members.len(), members.count_in(&sets.online)))
    }

    /// Values of a field from one on, in either direction, with how many devices have each.
    pub fn values(
        &self,
        app: &AppId,
        field: &Field,
        from: Option<&str>,
        order: Order,
        limit: usize,
    ) -> Vec<(String, u64)> {
        let apps = self.read();
        let Some(values) = apps.get(app).and_then(|sets| sets.by_value.get(field)) else { return Vec::new() };
        let from = from.map_or(Bound::Unbounded, Bound::Excluded);
        let (bounds, is_turned) = match order {
            Order::Forward => ((from, Bound::Unbounded), false),
            Order::Backward => ((Bound::Unbounded, from), true),
        };
        let values =
            values.range::<str, _>(bounds).map(|(value, members)| (value.to_string(), members.len()));
        if is_turned { values.rev().take(limit).collect() } else { values.take(limit).collect() }
    }

    /// How many devices an app has.
    pub fn devices_of(&self, app: &AppId) -> u64 {
        self.read().get(app).map_or(0, |sets| sets.all.len())
    }
}

impl Sets {
    fn change(&mut self, number: DeviceNumber, left: &[Label], joined: Vec<Label>) {
        self.all.insert(number.0);
        self.leave(number, left);
        for (field, value) in joined {
            self.join(number, field, value);
        }
    }

    fn join(&mut self, DeviceNumber(number): DeviceNumber, field: Field, value: String) {
        let values = self.by_value.entry(field).or_default();
        match values.get_mut(value.as_str()) {
            Some(members) => members.insert(number),
            None => {
                values.insert(value.into_boxed_str(), Members::One(number));
            }
        }
    }

    fn leave(&mut self, DeviceNumber(number): DeviceNumber, left: &[Label]) {
        for (field, value) in left {
            let Some(values) = self.by_value.get_mut(field) else { continue };
            if values.get_mut(value.as_str()).is_some_and(|members| members.remove(number)) {
                values.remove(value.as_str());
            }
            if values.is_empty() {
                self.by_value.remove(field);
            }
        }
    }

    fn forget(&mut self, number: DeviceNumber, left: &[Label]) {
        self.leave(number, left);
        self.all.remove(number.0);
        self.online.remove(number.0);
    }

    fn note(&mut self, DeviceNumber(number): DeviceNumber, presence: &Presence) {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        if self.seen_s.len() <= at {
            self.seen_s.resize(at.saturating_add(1), 0);
            self.epochs.resize(at.saturating_add(1), 0);
        }
        if let (Some(seen_s), Some(epoch)) = (self.seen_s.get_mut(at), self.epochs.get_mut(at)) {
            (*seen_s, *epoch) = (seconds(presence.since_ms), presence.epoch);
        }
        match presence.online {
            true => self.online.insert(number),
            false => self.online.remove(number),
        };
    }

    fn end_before(&mut self, start: u64, at_s: u32) {
        let epoch_of = |number: &u32| self.epochs.get(usize::try_from(*number).ok()?).copied();
        let is_over = |number: &u32| epoch_of(number).is_none_or(|epoch| epoch < start);
        let over: RoaringBitmap = self.online.iter().filter(is_over).collect();
        for number in &over {
            if let Some(seen_s) = usize::try_from(number).ok().and_then(|at| self.seen_s.get_mut(at)) {
                *seen_s = at_s;
            }
        }
        self.online -= over;
    }
}

/// Seconds in 32 bits reach to the year 2106.
fn seconds(at_ms: u64) -> u32 {
    u32::try_from(at_ms / 1000).unwrap_or(u32::MAX)
}
