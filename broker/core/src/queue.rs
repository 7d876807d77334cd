//! The messages of one session that are not done: waiting, or in flight. Their order, bounds, expiry and collapse.
//!
//! ```text
//!            place                  first, sent              acknowledge / release + complete
//!  (nothing) ------> Waiting -----------------> in flight ------------------------------------> (gone)
//!                      ^  | expire, collapse,       |
//!                      |  | evict, withdraw         | connection lost
//!                      |  v                         v
//!                      | (gone)                  to resend, in the order of sending
//!                      +--------------------------------+
//! ```
//!
//! A packet identifier is the place in the queue modulo 65,535: what was sent before a crash gets the same
//! identifier after it, without having been written down. Two places that would share one wait for each other.

use crate::change::{Entry, Phase};
use crate::io::Share;
use crate::message::{Message, MessageKey, Seq, Time};
use bytestring::ByteString;
use reveille_proto::bridge::Priority;
use reveille_proto::ids::{MessageId, PacketId};
use reveille_proto::mqtt::QoS;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU16;
use std::ops::Bound;
use std::sync::Arc;

/// The shared subscription through which a message came, so that it can be handed over.
pub type Group = Arc<Share>;

/// One place.
#[derive(Clone, Debug)]
pub struct Slot {
    /// What is durable about it.
    pub entry: Entry,
    /// The body, while it is in memory. Always present in sessions that are not durable.
    pub message: Option<Arc<Message>>,
    /// `false` while the commit that makes a QoS 2 message exist is on its way: nobody may get it before.
    pub is_confirmed: bool,
    /// Whether PUBLISH was sent on an earlier connection: the next one carries DUP. `[MQTT5-3.3.1-1]`
    pub is_resent: bool,
    /// The group through which it came.
    pub group: Option<Group>,
    is_in_flight: bool,
    /// In seconds, because four bytes more would cost eight.
    queued_at_s: u32,
}

impl Slot {
    /// A fresh place.
    pub fn new(
        entry: Entry,
        message: Option<Arc<Message>>,
        is_confirmed: bool,
        group: Option<Group>,
        now: Time,
    ) -> Self {
        let queued_at_s = seconds(now);
        Self { entry, message, is_confirmed, is_resent: false, group, is_in_flight: false, queued_at_s }
    }

    /// A place as the store gave it back. `may_be_sent`: the broker died while the client was connected.
    pub fn recovered(entry: Entry, may_be_sent: bool, now: Time) -> Self {
        Self {
            entry,
            message: None,
            is_confirmed: true,
            is_resent: may_be_sent,
            group: None,
            is_in_flight: false,
            queued_at_s: seconds(now),
        }
    }

    /// When it was queued, to the second; when the broker started, for one that is older.
    pub fn queued_at(&self) -> Time {
        Time(u64::from(self.queued_at_s) * 1000)
    }

    /// Whether PUBLISH was sent, on this or an earlier connection.
    pub fn was_sent(&self) -> bool {
        self.is_in_flight || self.is_resent
    }

    /// Not while it is on its way, and with QoS 2 never after it was sent once. `[MQTT5-4.3.3-7]`
    pub fn may_expire(&self) -> bool {
        let is_bound = self.is_resent && self.entry.qos == QoS::ExactlyOnce;
        self.entry.phase == Phase::Queued && !self.is_in_flight && !is_bound
    }

    fn priority(&self) -> Priority {
        self.entry.push.as_ref().map_or(Priority::Normal, |push| push.priority)
    }
}

/// What the queue knows about push candidates only; absent in most queues.
#[derive(Clone, Debug, Default)]
struct Pushes {
    by_id: BTreeMap<MessageId, Seq>,
    by_collapse_key: BTreeMap<ByteString, Seq>,
    high: VecDeque<Seq>,
    low: VecDeque<Seq>,
    due: BTreeSet<(Time, Seq)>,
}

/// The queue of one session.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    slots: BTreeMap<Seq, Slot>,
    /// No waiting slot of normal priority is before this one.
    cursor: Cursor,
    in_flight: VecDeque<(PacketId, Seq)>,
    to_resend: VecDeque<Seq>,
    bytes: u64,
    earliest_expiry: Option<Time>,
    sent_before: Cursor,
    pushes: Option<Box<Pushes>>,
}

#[derive(Clone, Copy, Debug)]
struct Cursor(Seq);

impl Default for Cursor {
    fn default() -> Self {
        Self(Seq(0))
    }
}

impl Queue {
    /// Messages, waiting or in flight.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether nothing waits and nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Payload and topic bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Places before this one may have been sent.
    pub fn sent_before(&self) -> Seq {
        self.sent_before.0
    }

    /// Messages in flight: they use up the client's receive maximum.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Before this time nothing in here expires.
    pub fn earliest_expiry(&self) -> Option<Time> {
        self.earliest_expiry
    }

    /// Takes a place at the end.
    pub fn place(&mut self, slot: Slot) {
        let seq = slot.entry.seq;
        debug_assert!(self.slots.last_key_value().is_none_or(|(last, _)| *last < seq), "places only grow");
        self.bytes += u64::from(slot.entry.size);
        if let Some(end) = slot.entry.expires_at {
            self.earliest_expiry = Some(self.earliest_expiry.map_or(end, |known| known.min(end)));
        }
        if let Some(push) = &slot.entry.push {
            let pushes = self.pushes.get_or_insert_default();
            pushes.by_id.insert(push.id, seq);
            if let Some(key) = &push.collapse_key {
                pushes.by_collapse_key.insert(key.clone(), seq);
            }
            match push.priority {
                Priority::High => pushes.high.push_back(seq),
                Priority::Low => pushes.low.push_back(seq),
                Priority::Normal => {}
            }
        }
        if slot.entry.phase == Phase::Released {
            self.to_resend.push_back(seq); // recovered: PUBREL goes before any PUBLISH that was never sent
        }
        self.slots.insert(seq, slot);
    }

    /// One place.
    pub fn slot(&self, seq: Seq) -> Option<&Slot> {
        self.slots.get(&seq)
    }

    /// One place, to change it.
    pub fn slot_mut(&mut self, seq: Seq) -> Option<&mut Slot> {
        self.slots.get_mut(&seq)
    }

    /// All places in order.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.values()
    }

    /// Places behind one, in order.
    pub fn slots_after(&self, after: Option<Seq>) -> impl Iterator<Item = &Slot> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.slots.range((start, Bound::Unbounded)).map(|(_, slot)| slot)
    }

    /// Gives a place up, whatever its state.
    pub fn remove(&mut self, seq: Seq) -> Option<Slot> {
        let slot = self.slots.remove(&seq)?;
        self.bytes = self.bytes.saturating_sub(u64::from(slot.entry.size));
        if slot.is_in_flight
            && let Some(at) = self.in_flight.iter().position(|(_, flying)| *flying == seq)
        {
            self.in_flight.remove(at); // almost always the first
        }
        if let (Some(push), Some(pushes)) = (&slot.entry.push, &mut self.pushes) {
            pushes.by_id.remove(&push.id);
            if let Some(key) = &push.collapse_key
                && pushes.by_collapse_key.get(key) == Some(&seq)
            {
                pushes.by_collapse_key.remove(key);
            }
            pushes.due.retain(|(_, due)| *due != seq);
            if pushes.by_id.is_empty() {
                self.pushes = None;
            }
        }
        if self.slots.is_empty() {
            self.to_resend = VecDeque::new();
            self.in_flight = VecDeque::new();
        }
        Some(slot)
    }

    /// The place that a message with this collapse key would replace: it waits and was never sent.
    pub fn collapsible(&self, key: &ByteString) -> Option<Seq> {
        let seq = *self.pushes.as_ref()?.by_collapse_key.get(key)?;
        let slot = self.slots.get(&seq)?;
        (slot.is_confirmed && !slot.is_in_flight && !slot.is_resent).then_some(seq)
    }

    /// The place of a push.
    pub fn push(&self, id: &MessageId) -> Option<Seq> {
        self.pushes.as_ref()?.by_id.get(id).copied()
    }

    /// Pushes of which the bridge has not heard, in order of their ids.
    pub fn unannounced(&self) -> Vec<Seq> {
        let Some(pushes) = &self.pushes else { return Vec::new() };
        let is_unannounced = |seq: &&Seq| {
            self.slots
                .get(seq)
                .and_then(|slot| slot.entry.push.as_ref())
                .is_some_and(|push| !push.is_announced)
        };
        pushes.by_id.values().filter(is_unannounced).copied().collect()
    }

    /// The online device has until then to acknowledge this push.
    pub fn expect(&mut self, seq: Seq, due: Time) {
        if let Some(pushes) = &mut self.pushes {
            pushes.due.insert((due, seq));
        }
    }

    /// When the next unacknowledged push is due.
    pub fn next_due(&self) -> Option<Time> {
        self.pushes.as_ref()?.due.first().map(|(due, _)| *due)
    }

    /// Takes the next push that is due.
    pub fn take_due(&mut self, now: Time) -> Option<Seq> {
        let pushes = self.pushes.as_mut()?;
        let first = *pushes.due.first()?;
        (first.0 <= now).then(|| {
            pushes.due.remove(&first);
            first.1
        })
    }

    /// Nobody waits for acknowledgements any more: the device is offline.
    pub fn clear_due(&mut self) {
        if let Some(pushes) = &mut self.pushes {
            pushes.due.clear();
        }
    }

    /// The place to send next, if its packet identifier is free: first what was sent before, in the order in which
    /// it was sent `[MQTT5-4.4.0-1]`, then by priority, then by age. An unconfirmed place holds back what follows.
    pub fn first(&mut self) -> Option<Seq> {
        let seq = self.first_to_resend().or_else(|| self.first_waiting())?;
        let slot = self.slots.get(&seq)?;
        (slot.is_confirmed && self.is_free(seq)).then_some(seq)
    }

    /// Whether no place in flight has the same packet identifier. Almost always the queue is shorter than the range of
    /// identifiers and nothing has to be looked through.
    fn is_free(&self, seq: Seq) -> bool {
        let (first, last) = (self.slots.first_key_value(), self.slots.last_key_value());
        let is_short = first.zip(last).is_none_or(|((first, _), (last, _))| last.0 - first.0 < 65_535);
        is_short || self.flying(packet_id(seq)).is_none()
    }

    fn first_to_resend(&mut self) -> Option<Seq> {
        while let Some(seq) = self.to_resend.front() {
            if self.slots.get(seq).is_some_and(|slot| !slot.is_in_flight) {
                return Some(*seq);
            }
            self.to_resend.pop_front();
        }
        None
    }

    fn first_waiting(&mut self) -> Option<Seq> {
        let is_waiting = |seq: &Seq| self.slots.get(seq).is_some_and(|slot| !slot.is_in_flight);
        if let Some(pushes) = &mut self.pushes {
            while pushes.high.front().is_some_and(|seq| !is_waiting(seq)) {
                pushes.high.pop_front();
            }
            if let Some(seq) = pushes.high.front() {
                return Some(*seq);
            }
        }
        let waits = |slot: &Slot| !slot.is_in_flight && slot.priority() == Priority::Normal;
        if let Some((seq, _)) = self.slots.range(self.cursor.0..).find(|(_, slot)| waits(slot)) {
            self.cursor = Cursor(*seq);
            return Some(*seq);
        }
        let pushes = self.pushes.as_mut()?;
        while pushes.low.front().is_some_and(|seq| self.slots.get(seq).is_none_or(|slot| slot.is_in_flight)) {
            pushes.low.pop_front();
        }
        pushes.low.front().copied()
    }

    /// Whether the next packet for this place is PUBLISH or PUBREL; marks it as in flight.
    pub fn sent(&mut self, seq: Seq) -> Option<(PacketId, &mut Slot)> {
        let id = packet_id(seq);
        let slot = self.slots.get_mut(&seq)?;
        debug_assert!(!slot.is_in_flight, "sent twice on one connection");
        slot.is_in_flight = true;
        self.sent_before = Cursor(self.sent_before.0.max(Seq(seq.0 + 1)));
        self.in_flight.push_back((id, seq));
        Some((id, slot))
    }

    /// The place in flight under a packet identifier.
    pub fn flying(&self, id: PacketId) -> Option<Seq> {
        self.in_flight.iter().find(|(flying, _)| *flying == id).map(|(_, seq)| *seq)
    }

    /// The connection is gone: what was in flight is sent again, in the order in which it was sent.
    pub fn connection_lost(&mut self) {
        let mut order: VecDeque<Seq> = self.in_flight.drain(..).map(|(_, seq)| seq).collect();
        for seq in &order {
            if let Some(slot) = self.slots.get_mut(seq) {
                slot.is_in_flight = false;
                slot.is_resent = true;
            }
        }
        self.first_to_resend();
        order.extend(self.to_resend.drain(..).filter(|seq| self.slots.contains_key(seq)));
        self.to_resend = order;
        self.clear_due();
    }

    /// Bodies leave memory; they are read again when they are needed. For durable sessions only. What is not confirmed
    /// stays: the store does not have it yet.
    pub fn drop_bodies(&mut self) {
        for slot in self.slots.values_mut().filter(|slot| slot.is_confirmed) {
            slot.message = None;
        }
    }

    /// The places among the next ones whose bodies are not in memory, at most `limit`.
    pub fn missing_bodies(&self, limit: usize) -> Vec<(Seq, MessageKey)> {
        let normal = self.slots.range(self.cursor.0..).map(|(seq, _)| *seq).take(limit * 2);
        let pushes = self.pushes.as_deref();
        let high = pushes.into_iter().flat_map(|pushes| pushes.high.iter().copied().take(limit));
        let low = pushes.into_iter().flat_map(|pushes| pushes.low.iter().copied().take(limit));
        let order = self.to_resend.iter().copied().take(limit).chain(high).chain(normal).chain(low);
        let is_missing =
            |slot: &&Slot| slot.message.is_none() && slot.is_confirmed && slot.entry.phase == Phase::Queued;
        let mut places: Vec<(Seq, MessageKey)> = Vec::new();
        for slot in order.filter_map(|seq| self.slots.get(&seq)).filter(is_missing) {
            let place = (slot.entry.seq, slot.entry.message);
            if places.len() < limit && !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    /// The oldest place that waits and was never sent: what makes room when the oldest is dropped.
    pub fn oldest_waiting(&self) -> Option<Seq> {
        let waits = |slot: &Slot| slot.is_confirmed && !slot.is_in_flight && !slot.is_resent;
        self.slots.iter().find(|(_, slot)| waits(slot)).map(|(seq, _)| *seq)
    }

    /// The oldest places that wait and were never sent, at most `limit`.
    pub fn never_sent(&self, limit: usize) -> Vec<Seq> {
        let waits = |slot: &&Slot| slot.is_confirmed && !slot.was_sent();
        self.slots.values().filter(waits).map(|slot| slot.entry.seq).take(limit).collect()
    }

    /// Places whose time is over and that are not on their way, at most `limit`.
    pub fn expired(&mut self, now: Time, limit: usize) -> Vec<Seq> {
        if self.earliest_expiry.is_none_or(|end| end > now) {
            return Vec::new();
        }
        let mut expired = Vec::new();
        let mut earliest: Option<Time> = None;
        for (seq, slot) in &self.slots {
            let Some(end) = slot.entry.expires_at.filter(|_| slot.may_expire()) else { continue };
            if end <= now && slot.is_confirmed && expired.len() < limit {
                expired.push(*seq);
            } else {
                earliest = Some(earliest.map_or(end, |known| known.min(end)));
            }
        }
        self.earliest_expiry = earliest;
        expired
    }
}

fn seconds(time: Time) -> u32 {
    u32::try_from(time.0 / 1000).unwrap_or(u32::MAX)
}

/// The packet identifier of a place.
pub fn packet_id(seq: Seq) -> PacketId {
    let above_one = u16::try_from(seq.0 % 65_535).unwrap_or(0);
    PacketId::from(NonZeroU16::MIN.saturating_add(above_one))
}
