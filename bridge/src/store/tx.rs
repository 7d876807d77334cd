//! One transaction's view: the engine, what the running group wrote, and what this write changed.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::writer::Touched;
use super::{Engine, Found, Space, StoreError};
use crate::index::Index;

/// What was written and is not in the engine yet; `None` stands for removed.
pub(super) type Overlay = BTreeMap<(Space, Vec<u8>), Option<Vec<u8>>>;

/// Longest key, in bytes. The engine panics at longer ones, also where they are only looked for.
pub(super) const KEY_MAX: usize = u16::MAX as usize;

/// A key and its value.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// Which end of a range comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Smallest key first.
    Forward,
    /// Largest key first.
    Backward,
}

impl Order {
    /// The other way.
    pub fn turned(self) -> Self {
        match self {
            Self::Forward => Self::Backward,
            Self::Backward => Self::Forward,
        }
    }
}

/// One transaction. Reads see every earlier write and this one's own.
pub(crate) struct Tx<'a> {
    engine: &'a Engine,
    group: Option<&'a Overlay>,
    own: Overlay,
    touched: Touched,
    now_ms: u64,
}

impl<'a> Tx<'a> {
    pub(crate) fn reading(engine: &'a Engine, now_ms: u64) -> Self {
        Self { engine, group: None, own: Overlay::new(), touched: Touched::default(), now_ms }
    }

    pub(super) fn writing(engine: &'a Engine, group: &'a Overlay, now_ms: u64) -> Self {
        Self { engine, group: Some(group), own: Overlay::new(), touched: Touched::default(), now_ms }
    }

    pub(super) fn into_changes(self) -> (Overlay, Touched) {
        (self.own, self.touched)
    }

    /// When this transaction runs, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Which devices belong to which set: as of the last commit, without what is written since.
    pub fn index(&self) -> &Index {
        self.engine.index()
    }

    /// Whether anybody wants to be told of devices that come and go.
    pub fn wants_devices(&self) -> bool {
        self.engine.events().wants_devices()
    }

    /// Who is to be woken when this becomes durable.
    pub fn touched(&mut self) -> &mut Touched {
        &mut self.touched
    }

    /// The bytes under a key.
    pub fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if key.len() > KEY_MAX {
            return Ok(None);
        }
        let wanted = (space, key.to_vec());
        if let Some(value) = self.own.get(&wanted) {
            return Ok(value.clone());
        }
        if let Some(value) = self.group.and_then(|group| group.get(&wanted)) {
            return Ok(value.clone());
        }
        Ok(self.engine.space(space).get(key)?.map(|value| value.to_vec()))
    }

    /// Whether the key exists.
    pub fn has(&self, space: Space, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.get(space, key)?.is_some())
    }

    /// Writes bytes under a key.
    pub fn put(&mut self, space: Space, key: Vec<u8>, value: Vec<u8>) {
        self.own.insert((space, key), Some(value));
    }

    /// Removes a key, present or not.
    pub fn remove(&mut self, space: Space, key: Vec<u8>) {
        self.own.insert((space, key), None);
    }

    /// The record under a key.
    pub fn load<T: DeserializeOwned>(&self, space: Space, key: &[u8]) -> Result<Option<T>, StoreError> {
        self.get(space, key)?.map(|bytes| decode(&bytes)).transpose()
    }

    /// Writes a record under a key.
    pub fn save<T: Serialize>(&mut self, space: Space, key: Vec<u8>, record: &T) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(record).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        self.put(space, key, bytes);
        Ok(())
    }

    /// The encrypted record under a key.
    pub fn load_sealed<T: DeserializeOwned>(
        &self,
        space: Space,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        self.get(space, key)?.map(|kept| self.unseal(key, kept)).transpose()
    }

    /// What a scan found under a key, decrypted.
    pub fn unseal<T: DeserializeOwned>(&self, key: &[u8], kept: Vec<u8>) -> Result<T, StoreError> {
        let record = self.engine.vault.unseal(key, kept);
        decode(&record.ok_or_else(|| StoreError::Corrupt("a secret cannot be decrypted".to_owned()))?)
    }

    /// Writes a record under a key, encrypted.
    pub fn save_sealed<T: Serialize>(
        &mut self,
        space: Space,
        key: Vec<u8>,
        record: &T,
    ) -> Result<(), StoreError> {
        let failed = |error: String| StoreError::Corrupt(error);
        let bytes = serde_json::to_vec(record).map_err(|error| failed(error.to_string()))?;
        let sealed = self.engine.vault.seal(&key, &bytes);
        self.put(space, key, sealed.ok_or_else(|| failed("a secret cannot be encrypted".to_owned()))?);
        Ok(())
    }

    /// At most `limit` entries whose keys begin with `prefix`, after the key `after` in the given order.
    pub fn scan(
        &self,
        space: Space,
        prefix: &[u8],
        after: Option<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        let (from, to) = bounds(prefix, after, order);
        self.range(space, from, to, order, limit)
    }

    /// The same, decoded. One that cannot be decoded is left out, and noted as [`Tx::note_damaged`] does.
    pub fn records<T: DeserializeOwned>(
        &self,
        space: Space,
        prefix: &[u8],
        after: Option<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
        let found = self.scan(space, prefix, after, order, limit)?.into_iter();
        Ok(found.filter_map(|(key, value)| Some((key.clone(), self.decoded(space, key, value)?))).collect())
    }

    /// What was found under a key, decoded; `None`, and noted, where it cannot be.
    pub fn decoded<T: DeserializeOwned>(&self, space: Space, key: Vec<u8>, value: Vec<u8>) -> Option<T> {
        let record = decode(&value);
        record.inspect_err(|error| self.note_damaged(space, key, value, error)).ok()
    }

    /// Notes that what was found under a key cannot be worked on: it is told of, and set aside if it is work.
    pub fn note_damaged(&self, space: Space, key: Vec<u8>, value: Vec<u8>, why: &StoreError) {
        self.engine.damaged().note(Found { space, key, value, why: why.to_string() });
    }

    /// How many keys begin with `prefix`, counted up to `max`. No record is decoded.
    pub fn count(&self, space: Space, prefix: &[u8], max: usize) -> Result<usize, StoreError> {
        Ok(self.scan(space, prefix, None, Order::Forward, max)?.len())
    }

    /// At most `limit` entries between two bounds.
    pub fn range(
        &self,
        space: Space,
        from: Bound<Vec<u8>>,
        to: Bound<Vec<u8>>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        let is_empty = match (&from, &to) {
            (Bound::Included(from), Bound::Included(to)) => from > to,
            (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => {
                from >= to
            }
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        };
        let is_too_long = |bound: &Bound<Vec<u8>>| match bound {
            Bound::Included(key) | Bound::Excluded(key) => key.len() > KEY_MAX,
            Bound::Unbounded => false,
        };
        if is_empty || limit == 0 || is_too_long(&from) || is_too_long(&to) {
            return Ok(Vec::new()); // both map and engine refuse turned bounds, and the engine long ones
        }
        let newer = self.overlaid(space, &from, &to);
        let stored = self.engine.space(space).range::<Vec<u8>, _>((from, to));
        match order {
            Order::Forward => merge(stored, newer.into_iter(), |a, b| a < b, limit),
            Order::Backward => merge(stored.rev(), newer.into_iter().rev(), |a, b| a > b, limit),
        }
    }

    fn overlaid(&self, space: Space, from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>) -> Overlay {
        let tag = |bound: &Bound<Vec<u8>>| bound.as_ref().map(|key| (space, key.clone()));
        let from = match tag(from) {
            Bound::Unbounded => Bound::Included((space, Vec::new())),
            bound => bound,
        };
        let range = (from, tag(to));
        let here = |entry: &(&(Space, Vec<u8>), &Option<Vec<u8>>)| entry.0.0 == space;
        let mut newer = Overlay::new();
        for layer in self.group.into_iter().chain([&self.own]) {
            let entries = layer.range(range.clone()).take_while(here);
            newer.extend(entries.map(|(key, value)| (key.clone(), value.clone())));
        }
        newer
    }
}

fn bounds(prefix: &[u8], after: Option<&[u8]>, order: Order) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let first = Bound::Included(prefix.to_vec());
    let last = end_of(prefix).map_or(Bound::Unbounded, Bound::Excluded);
    match (after, order) {
        (None, _) => (first, last),
        (Some(after), Order::Forward) => (Bound::Excluded(after.to_vec()), last),
        (Some(after), Order::Backward) => (first, Bound::Excluded(after.to_vec())),
    }
}

/// The smallest key above every key that begins with `prefix`.
fn end_of(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

type Entry = ((Space, Vec<u8>), Option<Vec<u8>>);

fn merge(
    mut stored: impl Iterator<Item = fjall::Guard>,
    newer: impl Iterator<Item = Entry>,
    is_before: impl Fn(&[u8], &[u8]) -> bool,
    limit: usize,
) -> Result<Vec<Pair>, StoreError> {
    let mut newer = newer.peekable();
    let mut found = Vec::new();
    let mut next = read(stored.next())?;
    while found.len() < limit {
        let take_stored = match (&next, newer.peek()) {
            (None, None) => break,
            (Some((old, _)), Some(((_, new), _))) => is_before(old, new),
            (Some(_), None) => true,
            (None, Some(_)) => false,
        };
        if take_stored {
            found.extend(next.take());
            next = read(stored.next())?;
        } else if let Some(((_, key), value)) = newer.next() {
            if next.as_ref().is_some_and(|(old, _)| *old == key) {
                next = read(stored.next())?;
            }
            found.extend(value.map(|value| (key, value)));
        }
    }
    Ok(found)
}

fn read(guard: Option<fjall::Guard>) -> Result<Option<Pair>, StoreError> {
    let Some(guard) = guard else { return Ok(None) };
    let (key, value) = guard.into_inner()?;
    Ok(Some((key.to_vec(), value.to_vec())))
}

/// Reads a record.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::Corrupt(error.to_string()))
}
