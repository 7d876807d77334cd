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

mod places;

use crate::change::{Entry, Expiry, Phase};
use crate::io::Share;
use crate::message::{Message, MessageKey, Seq, Time};
use bytestring::ByteString;
use places::Places;
use reveille_proto::bridge::Priority;
use reveille_proto::ids::{MessageId, PacketId};
use reveille_proto::mqtt::QoS;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU16;
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
        self.entry.push().map_or(Priority::Normal, |push| push.priority)
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

/// What the queue knows about what it sent; absent in the queue of a client that is away and got none of it.
#[derive(Clone, Debug)]
struct Sending {
    /// No waiting slot of normal priority is before this one.
    cursor: Seq,
    sent_before: Seq,
    in_flight: VecDeque<Seq>,
    to_resend: VecDeque<Seq>,
}

impl Default for Sending {
    fn default() -> Self {
        let (in_flight, to_resend) = (VecDeque::new(), VecDeque::new());
        Self { cursor: Seq(0), sent_before: Seq(0), in_flight, to_resend }
    }
}

/// The queue of one session.
#[derive(Clone, Debug)]
pub struct Queue {
    places: Places,
    bytes: u64,
    earliest_expiry: Expiry,
    sending: Option<Box<Sending>>,
    pushes: Option<Box<Pushes>>,
}

// One line of the processor's cache each: most accesses of a broker with a million queues are to one that is cold.
const _: () = assert!(size_of::<Queue>() <= 64 && size_of::<Slot>() <= 64);

impl Default for Queue {
    fn default() -> Self {
        let (places, sending, pushes) = (Places::default(), None, None);
        Self { places, bytes: 0, earliest_expiry: Expiry::NEVER, sending, pushes }
    }
}

impl Queue {
    /// Messages, waiting or in flight.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether nothing waits and nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Payload and topic bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Places before this one may have been sent.
    pub fn sent_before(&self) -> Seq {
        self.sending.as_ref().map_or(Seq(0), |sending| sending.sent_before)
    }

    /// Messages in flight: they use up the client's receive maximum.
    pub fn in_flight(&self) -> usize {
        self.sending.as_ref().map_or(0, |sending| sending.in_flight.len())
    }

    /// Before this time nothing in here expires.
    pub fn earliest_expiry(&self) -> Option<Time> {
        self.earliest_expiry.time()
    }

    /// Takes a place at the end.
    pub fn place(&mut self, slot: Slot) {
        let seq = slot.entry.seq;
        self.bytes += u64::from(slot.entry.size);
        self.earliest_expiry = self.earliest_expiry.min(slot.entry.expires_at);
        if let Some(push) = slot.entry.push() {
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
            let sending = self.sending.get_or_insert_default();
            sending.to_resend.push_back(seq); // recovered: PUBREL goes before any PUBLISH that was never sent
        }
        if slot.is_resent {
            let sending = self.sending.get_or_insert_default(); // recovered: so it is after the next restart too
            sending.sent_before = sending.sent_before.max(Seq(seq.0 + 1));
        }
        self.places.push(slot);
    }

    /// One place.
    pub fn slot(&self, seq: Seq) -> Option<&Slot> {
        self.places.get(seq)
    }

    /// One place, to change it.
    pub fn slot_mut(&mut self, seq: Seq) -> Option<&mut Slot> {
        self.places.get_mut(seq)
    }

    /// All places in order.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.places.iter()
    }

    /// Places behind one, in order.
    pub fn slots_after(&self, after: Option<Seq>) -> impl Iterator<Item = &Slot> {
        self.places.from(after.map_or(Seq(0), |after| Seq(after.0.saturating_add(1))))
    }

    /// Gives a place up, whatever its state.
    pub fn remove(&mut self, seq: Seq) -> Option<Slot> {
        let slot = self.places.remove(seq)?;
        self.bytes = self.bytes.saturating_sub(u64::from(slot.entry.size));
        if slot.is_in_flight
            && let Some(sending) = &mut self.sending
            && let Some(at) = sending.in_flight.iter().position(|flying| *flying == seq)
        {
            sending.in_flight.remove(at); // almost always the first
        }
        if let (Some(push), Some(pushes)) = (slot.entry.push(), &mut self.pushes) {
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
        if self.places.is_empty() {
            self.sending = None;
        }
        Some(slot)
    }

    /// The place that a message with this collapse key would replace: it waits and was never sent.
    pub fn collapsible(&self, key: &ByteString) -> Option<Seq> {
        let seq = *self.pushes.as_ref()?.by_collapse_key.get(key)?;
        let slot = self.places.get(seq)?;
        (slot.is_confirmed && !slot.was_sent()).then_some(seq)
    }

    /// The place of a push.
    pub fn push(&self, id: &MessageId) -> Option<Seq> {
        self.pushes.as_ref()?.by_id.get(id).copied()
    }

    /// Pushes of which the bridge has not heard, in order of their ids.
    pub fn unannounced(&self) -> Vec<Seq> {
        let Some(pushes) = &self.pushes else { return Vec::new() };
        let is_unannounced = |seq: &&Seq| {
            self.places.get(**seq).and_then(|slot| slot.entry.push()).is_some_and(|push| !push.is_announced)
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
        let slot = self.places.get(seq)?;
        (slot.is_confirmed && self.is_free(seq)).then_some(seq)
    }

    /// Whether no place in flight has the same packet identifier. Almost always the queue is shorter than the range of
    /// identifiers and nothing has to be looked through.
    fn is_free(&self, seq: Seq) -> bool {
        let is_short = self.places.ends().is_none_or(|(first, last)| last.0 - first.0 < 65_535);
        is_short || self.flying(packet_id(seq)).is_none()
    }

    fn first_to_resend(&mut self) -> Option<Seq> {
        let again = &mut self.sending.as_mut()?.to_resend;
        skip_sent(&self.places, again)
    }

    fn first_waiting(&mut self) -> Option<Seq> {
        if let Some(pushes) = &mut self.pushes
            && let Some(seq) = skip_sent(&self.places, &mut pushes.high)
        {
            return Some(seq);
        }
        let cursor = &mut self.sending.get_or_insert_default().cursor;
        let waits = |slot: &&Slot| !slot.is_in_flight && slot.priority() == Priority::Normal;
        if let Some(slot) = self.places.from(*cursor).find(waits) {
            *cursor = slot.entry.seq;
            return Some(*cursor);
        }
        // What comes is behind all there is; what comes back is sent before anything that waits.
        *cursor = self.places.ends().map_or(*cursor, |(_, last)| Seq(last.0 + 1));
        skip_sent(&self.places, &mut self.pushes.as_mut()?.low)
    }

    /// Whether the next packet for this place is PUBLISH or PUBREL; marks it as in flight.
    pub fn sent(&mut self, seq: Seq) -> Option<(PacketId, &mut Slot)> {
        let slot = self.places.get_mut(seq)?;
        debug_assert!(!slot.is_in_flight, "sent twice on one connection");
        slot.is_in_flight = true;
        let sending = self.sending.get_or_insert_default();
        sending.sent_before = sending.sent_before.max(Seq(seq.0 + 1));
        sending.in_flight.push_back(seq);
        Some((packet_id(seq), slot))
    }

    /// The place in flight under a packet identifier.
    pub fn flying(&self, id: PacketId) -> Option<Seq> {
        self.sending.as_ref()?.in_flight.iter().find(|flying| packet_id(**flying) == id).copied()
    }

    /// The connection is gone: what was in flight is sent again, in the order in which it was sent.
    pub fn connection_lost(&mut self) {
        self.clear_due();
        self.first_to_resend(); // leaves out what is in flight: it would stand in the order twice
        let Some(mut sending) = self.sending.take() else { return };
        let mut order = std::mem::take(&mut sending.in_flight);
        for seq in &order {
            if let Some(slot) = self.places.get_mut(*seq) {
                slot.is_in_flight = false;
                slot.is_resent = true;
                if slot.may_expire() {
                    self.earliest_expiry = self.earliest_expiry.min(slot.entry.expires_at);
                }
            }
        }
        order.extend(sending.to_resend.drain(..).filter(|seq| self.places.contains(*seq)));
        sending.to_resend = order;
        let first = self.places.ends().map(|(first, _)| first);
        let is_known = |sending: &Sending| first.is_some_and(|first| first < sending.sent_before);
        self.sending = Some(sending).filter(|sending| !sending.to_resend.is_empty() || is_known(sending));
    }

    /// Bodies leave memory; they are read again when they are needed. For durable sessions only. What is not confirmed
    /// stays: the store does not have it yet.
    pub fn drop_bodies(&mut self) {
        for slot in self.places.iter_mut().filter(|slot| slot.is_confirmed) {
            slot.message = None;
        }
    }

    /// The places among the next ones whose bodies are not in memory, at most `limit`.
    pub fn missing_bodies(&self, limit: usize) -> Vec<(Seq, MessageKey)> {
        let sending = self.sending.as_deref();
        let cursor = sending.map_or(Seq(0), |sending| sending.cursor);
        let again = sending.into_iter().flat_map(|sending| sending.to_resend.iter().copied().take(limit));
        let normal = self.places.from(cursor).map(|slot| slot.entry.seq).take(limit * 2);
        let pushes = self.pushes.as_deref();
        let high = pushes.into_iter().flat_map(|pushes| pushes.high.iter().copied().take(limit));
        let low = pushes.into_iter().flat_map(|pushes| pushes.low.iter().copied().take(limit));
        let order = again.chain(high).chain(normal).chain(low);
        let is_missing =
            |slot: &&Slot| slot.message.is_none() && slot.is_confirmed && slot.entry.phase == Phase::Queued;
        let mut places: Vec<(Seq, MessageKey)> = Vec::new();
        for slot in order.filter_map(|seq| self.places.get(seq)).filter(is_missing) {
            let place = (slot.entry.seq, slot.entry.message);
            if places.len() < limit && !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    /// The oldest place that waits and was never sent: what makes room when the oldest is dropped.
    pub fn oldest_waiting(&self) -> Option<Seq> {
        self.unsent().next()
    }

    /// The oldest places that wait and were never sent, at most `limit`.
    pub fn never_sent(&self, limit: usize) -> Vec<Seq> {
        self.unsent().take(limit).collect()
    }

    fn unsent(&self) -> impl Iterator<Item = Seq> {
        let waits = |slot: &&Slot| slot.is_confirmed && !slot.was_sent();
        self.places.iter().filter(waits).map(|slot| slot.entry.seq)
    }

    /// Places whose time is over and that are not on their way, at most `limit`.
    pub fn expired(&mut self, now: Time, limit: usize) -> Vec<Seq> {
        if !self.earliest_expiry.is_over(now) {
            return Vec::new();
        }
        let (mut expired, mut earliest) = (Vec::new(), Expiry::NEVER);
        for slot in self.places.iter() {
            if !slot.may_expire() {
                continue;
            }
            let end = slot.entry.expires_at;
            if end.is_over(now) && slot.is_confirmed && expired.len() < limit {
                expired.push(slot.entry.seq);
            } else {
                earliest = earliest.min(end);
            }
        }
        self.earliest_expiry = earliest;
        expired
    }
}

/// The first of a list that still waits; what is gone or in flight before it leaves the list.
fn skip_sent(places: &Places, list: &mut VecDeque<Seq>) -> Option<Seq> {
    while let Some(seq) = list.front().copied() {
        if places.get(seq).is_some_and(|slot| !slot.is_in_flight) {
            return Some(seq);
        }
        list.pop_front();
    }
    None
}

fn seconds(time: Time) -> u32 {
    u32::try_from(time.0 / 1000).unwrap_or(u32::MAX)
}

/// The packet identifier of a place.
pub fn packet_id(seq: Seq) -> PacketId {
    let above_one = u16::try_from(seq.0 % 65_535).unwrap_or(0);
    PacketId::from(NonZeroU16::MIN.saturating_add(above_one))
}

#[cfg(test)]
mod tests;
