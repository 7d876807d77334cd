//! What the committer remembers of the disk, so that it need not look there: which places each queue has, to which
//! bodies they refer, and which packet identifiers are in use.
//!
//! Costs 24 bytes a queued message, and about as much again for its body.

use super::engine::{Engine, Space};
use crate::StoreError;
use crate::format::{decode, keys};
use reveille_broker_core::change::{Entry, Phase};
use reveille_broker_core::collections::NumberMap;
use reveille_broker_core::message::{MessageKey, Seq, SessionKey};
use reveille_proto::ids::PacketId;
use roaring::RoaringTreemap;
use std::collections::{BTreeSet, VecDeque, hash_map};

/// Below so many places memory is not given back: a queue that drains fills again.
const KEPT_CAPACITY: usize = 64;

#[derive(Default)]
pub(super) struct Index {
    /// All that have a record; their numbers were given out in order.
    sessions: RoaringTreemap,
    /// Of those that ever waited for something: most of a million wait for nothing.
    places: NumberMap<SessionKey, Box<Places>>,
    bodies: NumberMap<MessageKey, Body>,
    /// Payload and topic bytes of all bodies.
    live_bytes: u64,
}

/// What a session holds.
#[derive(Default)]
pub(super) struct Places {
    /// By place, ascending: queues grow at the end and shrink at the front.
    pub(super) entries: VecDeque<Place>,
    pub(super) received: BTreeSet<PacketId>,
}

/// A place in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) seq: Seq,
    pub(super) message: MessageKey,
    /// Not any more once PUBREC came.
    pub(super) holds_body: bool,
}

impl Place {
    pub(super) fn of(entry: &Entry) -> Self {
        Self { seq: entry.seq, message: entry.message, holds_body: entry.phase == Phase::Queued }
    }
}

#[derive(Clone, Copy)]
struct Body {
    references: u32,
    size: u32,
}

impl Index {
    pub(super) fn has(&self, session: SessionKey) -> bool {
        self.sessions.contains(session.0)
    }

    /// Bytes of the bodies that somebody waits for.
    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// `true` when it is new.
    pub(super) fn add_session(&mut self, session: SessionKey) -> bool {
        self.sessions.insert(session.0)
    }

    fn places(&mut self, session: SessionKey) -> Option<&mut Places> {
        match self.places.entry(session) {
            hash_map::Entry::Occupied(known) => Some(known.into_mut()),
            hash_map::Entry::Vacant(fresh) if self.sessions.contains(session.0) => {
                Some(fresh.insert(Box::default()))
            }
            hash_map::Entry::Vacant(_) => None,
        }
    }

    /// What it held.
    pub(super) fn drop_session(&mut self, session: SessionKey) -> Option<Places> {
        let had = self.sessions.remove(session.0);
        let places = self.places.remove(&session);
        had.then(|| places.map(|places| *places).unwrap_or_default())
    }

    /// The place that it replaced, if any; `None` without such a session.
    pub(super) fn enqueue(&mut self, session: SessionKey, place: Place) -> Option<Option<Place>> {
        let queue = &mut self.places(session)?.entries;
        if queue.back().is_none_or(|last| last.seq < place.seq) {
            queue.push_back(place);
            return Some(None);
        }
        match queue.binary_search_by_key(&place.seq, |known| known.seq) {
            Ok(at) => Some(queue.get_mut(at).map(|known| std::mem::replace(known, place))),
            Err(at) => {
                queue.insert(at, place);
                Some(None)
            }
        }
    }

    /// The place as it was; it holds no body any more when the entry is released.
    pub(super) fn mark(&mut self, session: SessionKey, entry: &Entry) -> Option<Place> {
        let queue = &mut self.places(session)?.entries;
        let at = queue.binary_search_by_key(&entry.seq, |known| known.seq).ok()?;
        let known = queue.get_mut(at)?;
        let before = *known;
        known.holds_body &= entry.phase == Phase::Queued;
        Some(before)
    }

    pub(super) fn forget(&mut self, session: SessionKey, seq: Seq) -> Option<Place> {
        let queue = &mut self.places(session)?.entries;
        let at = match queue.front() {
            Some(first) if first.seq == seq => 0,
            _ => queue.binary_search_by_key(&seq, |known| known.seq).ok()?,
        };
        let gone = queue.remove(at);
        if queue.capacity() > KEPT_CAPACITY && queue.len() < queue.capacity() / 4 {
            queue.shrink_to(queue.len() * 2);
        }
        gone
    }

    /// `true` when it was not in use.
    pub(super) fn receive(&mut self, session: SessionKey, packet_id: PacketId) -> bool {
        self.places(session).is_some_and(|places| places.received.insert(packet_id))
    }

    /// `true` when it was in use.
    pub(super) fn release(&mut self, session: SessionKey, packet_id: PacketId) -> bool {
        self.places(session).is_some_and(|places| places.received.remove(&packet_id))
    }

    /// One reference more; `true` when it is the first.
    pub(super) fn refer(&mut self, message: MessageKey, size: u32) -> bool {
        let body = self.bodies.entry(message).or_insert(Body { references: 0, size });
        body.references += 1;
        let is_first = body.references == 1;
        if is_first {
            self.live_bytes += u64::from(size);
        }
        is_first
    }

    /// One reference fewer; `true` when it was the last.
    pub(super) fn unrefer(&mut self, message: MessageKey) -> bool {
        let Some(body) = self.bodies.get_mut(&message) else {
            return false;
        };
        body.references = body.references.saturating_sub(1);
        let (is_last, size) = (body.references == 0, body.size);
        if is_last {
            self.bodies.remove(&message);
            if self.bodies.capacity() > KEPT_CAPACITY && self.bodies.len() < self.bodies.capacity() / 4 {
                self.bodies.shrink_to(self.bodies.len() * 2);
            }
            self.live_bytes = self.live_bytes.saturating_sub(u64::from(size));
        }
        is_last
    }

    /// Reads what the disk holds, and removes from it what belongs to nothing: an entry without its body, a body
    /// without entries, anything of a session without a record. None of it can come from a commit that ended.
    pub(super) fn rebuild(engine: &Engine) -> Result<Self, StoreError> {
        let mut index = Self::default();
        let mut stray = Vec::new();
        for row in engine.keys(Space::Sessions) {
            index.add_session(SessionKey(keys::read_number(&row?.0)?));
        }
        for row in engine.keys(Space::Messages) {
            let (key, length) = row?;
            let size = u32::try_from(length).unwrap_or(u32::MAX);
            index.bodies.insert(MessageKey(keys::read_number(&key)?), Body { references: 0, size });
        }
        index.read_entries(engine, &mut stray)?;
        index.read_received(engine, &mut stray)?;
        index.find_stray_subscriptions(engine, &mut stray)?;
        index.forget_stray_bodies(&mut stray);
        if !stray.is_empty() {
            tracing::warn!(removed = stray.len(), "values that belong to nothing were removed");
            engine.remove(&stray)?;
        }
        Ok(index)
    }

    fn read_entries(&mut self, engine: &Engine, stray: &mut Vec<(Space, Vec<u8>)>) -> Result<(), StoreError> {
        for row in engine.rows(Space::Entries) {
            let (key, value) = row?;
            let (session, seq) = keys::read_entry(&key)?;
            let entry = Entry { seq, ..decode(value)? };
            let place = Place::of(&entry);
            let has_body = !place.holds_body || self.bodies.contains_key(&place.message);
            if !has_body || self.enqueue(session, place).is_none() {
                stray.push((Space::Entries, key.to_vec()));
            } else if place.holds_body {
                self.refer(place.message, 0);
            }
        }
        Ok(())
    }

    fn read_received(
        &mut self,
        engine: &Engine,
        stray: &mut Vec<(Space, Vec<u8>)>,
    ) -> Result<(), StoreError> {
        for row in engine.keys(Space::Received) {
            let (key, _) = row?;
            let (session, packet_id) = keys::read_received(&key)?;
            if !self.receive(session, packet_id) {
                stray.push((Space::Received, key.to_vec()));
            }
        }
        Ok(())
    }

    fn find_stray_subscriptions(
        &self,
        engine: &Engine,
        stray: &mut Vec<(Space, Vec<u8>)>,
    ) -> Result<(), StoreError> {
        for row in engine.keys(Space::Subscriptions) {
            let (key, _) = row?;
            if !self.has(keys::read_session(&key)?.0) {
                stray.push((Space::Subscriptions, key.to_vec()));
            }
        }
        Ok(())
    }

    fn forget_stray_bodies(&mut self, stray: &mut Vec<(Space, Vec<u8>)>) {
        self.bodies.retain(|message, body| {
            if body.references == 0 {
                stray.push((Space::Messages, keys::message(*message).to_vec()));
            }
            body.references > 0
        });
        self.live_bytes = self.bodies.values().map(|body| u64::from(body.size)).sum();
    }
}
