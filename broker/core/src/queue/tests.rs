//! The queue against a model that looks at everything each time.

use super::*;
use crate::change::{PushEntry, RareEntry};
use proptest::prelude::*;
use std::ops::Bound;

/// A place as the rules see it.
#[derive(Clone, Debug)]
struct Known {
    kind: Kind,
    is_confirmed: bool,
    is_in_flight: bool,
    is_resent: bool,
    has_body: bool,
}

#[derive(Clone, Copy, Debug)]
struct Kind {
    qos: QoS,
    size: u32,
    is_released: bool,
    is_confirmed: bool,
    expires_at: Option<u64>,
    /// Priority and collapse key.
    push: Option<(Priority, u8)>,
}

#[derive(Clone, Debug)]
enum Call {
    Place(Kind),
    /// Numbers are left out, as after a restart; so many share a packet identifier that was far away.
    Skip(u64),
    Send,
    Confirm(usize),
    Remove(usize),
    Expect(usize, u64),
    TakeDue(u64),
    Expire(u64),
    Lose,
    DropBodies,
}

#[derive(Debug, Default)]
struct Model {
    places: BTreeMap<Seq, Known>,
    in_flight: Vec<Seq>,
    to_resend: Vec<Seq>,
    newest_of_key: BTreeMap<u8, Seq>,
    due: BTreeSet<(Time, Seq)>,
}

fn kind() -> impl Strategy<Value = Kind> {
    let qos = prop_oneof![Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)];
    let priority = prop_oneof![Just(Priority::High), Just(Priority::Normal), Just(Priority::Low)];
    let push = prop_oneof![3 => Just(None), 1 => (priority, 0..3_u8).prop_map(Some)];
    let expires_at = prop_oneof![Just(None), (0..100_u64).prop_map(Some)];
    let head = (qos, 0..1000_u32, prop::bool::weighted(0.05), prop::bool::weighted(0.9));
    (head, expires_at, push).prop_map(|((qos, size, is_released, is_confirmed), expires_at, push)| Kind {
        qos,
        size,
        is_released,
        is_confirmed,
        expires_at,
        push,
    })
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        8 => kind().prop_map(Call::Place),
        1 => prop_oneof![1..4_u64, Just(65_534), Just(65_535)].prop_map(Call::Skip),
        6 => Just(Call::Send),
        2 => (0..50_usize).prop_map(Call::Confirm),
        5 => (0..50_usize).prop_map(Call::Remove),
        1 => (0..50_usize, 0..100_u64).prop_map(|(nth, due)| Call::Expect(nth, due)),
        1 => (0..100_u64).prop_map(Call::TakeDue),
        1 => (0..100_u64).prop_map(Call::Expire),
        1 => Just(Call::Lose),
        1 => Just(Call::DropBodies),
    ]
}

fn body(seq: u64) -> Arc<Message> {
    Arc::new(Message {
        key: MessageKey(seq),
        app: reveille_proto::ids::AppId::default(),
        topic: reveille_proto::topic::TopicName::parse("t").unwrap(),
        payload: bytes::Bytes::new(),
        qos: QoS::AtLeastOnce,
        retain: false,
        accepted_at: Time(0),
        expires_at: None,
        publisher: None,
        properties: None,
        push: None,
    })
}

fn push_id(seq: u64) -> MessageId {
    MessageId(u128::from(seq).to_be_bytes())
}

fn collapse_key(key: u8) -> ByteString {
    ByteString::from(key.to_string())
}

fn slot(seq: u64, kind: Kind) -> Slot {
    let push = kind.push.map(|(priority, key)| PushEntry {
        id: push_id(seq),
        priority,
        collapse_key: Some(collapse_key(key)),
        is_announced: false,
    });
    let entry = Entry {
        seq: Seq(seq),
        message: MessageKey(seq),
        qos: kind.qos,
        retain: false,
        phase: if kind.is_released { Phase::Released } else { Phase::Queued },
        size: kind.size,
        expires_at: kind.expires_at.map(Time).into(),
        rare: RareEntry::of(Box::default(), push),
    };
    Slot::new(entry, Some(body(seq)), kind.is_confirmed, None, Time(0))
}

pub(super) fn plain(seq: u64) -> Slot {
    let kind = Kind {
        qos: QoS::AtLeastOnce,
        size: 1,
        is_released: false,
        is_confirmed: true,
        expires_at: None,
        push: None,
    };
    slot(seq, kind)
}

impl Model {
    fn nth(&self, nth: usize) -> Option<Seq> {
        self.places.keys().nth(nth.checked_rem(self.places.len())?).copied()
    }

    fn waits(&self, seq: &Seq) -> bool {
        self.places.get(seq).is_some_and(|known| !known.is_in_flight)
    }

    fn first(&self) -> Option<Seq> {
        let waiting = |priority: Priority| {
            let is_wanted =
                |known: &Known| known.kind.push.map_or(Priority::Normal, |push| push.0) == priority;
            self.places.iter().find(|(seq, known)| self.waits(seq) && is_wanted(known)).map(|(seq, _)| *seq)
        };
        let again = self.to_resend.iter().copied().find(|seq| self.waits(seq));
        let by_priority = || [Priority::High, Priority::Normal, Priority::Low].into_iter().find_map(waiting);
        let seq = again.or_else(by_priority)?;
        let is_taken = self.in_flight.iter().any(|flying| packet_id(*flying) == packet_id(seq));
        (self.places.get(&seq)?.is_confirmed && !is_taken).then_some(seq)
    }

    fn remove(&mut self, seq: Seq) {
        self.places.remove(&seq);
        self.in_flight.retain(|flying| *flying != seq);
        self.to_resend.retain(|again| *again != seq);
        self.newest_of_key.retain(|_, newest| *newest != seq);
        self.due.retain(|(_, due)| *due != seq);
    }

    fn lose(&mut self) {
        let mut again = std::mem::take(&mut self.in_flight);
        for seq in &again {
            let known = self.places.get_mut(seq).unwrap();
            (known.is_in_flight, known.is_resent) = (false, true);
        }
        self.to_resend.retain(|seq| !again.contains(seq));
        again.append(&mut self.to_resend);
        self.to_resend = again;
        self.due.clear();
    }

    fn expired(&self, now: u64, limit: usize) -> Vec<Seq> {
        let is_over = |known: &Known| {
            let is_bound = known.is_resent && known.kind.qos == QoS::ExactlyOnce;
            let may_expire = !known.kind.is_released && !known.is_in_flight && !is_bound;
            known.kind.expires_at.is_some_and(|end| end <= now) && may_expire && known.is_confirmed
        };
        self.places.iter().filter(|(_, known)| is_over(known)).map(|(seq, _)| *seq).take(limit).collect()
    }

    fn check(&self, queue: &mut Queue) {
        assert_eq!(queue.len(), self.places.len());
        assert_eq!(queue.is_empty(), self.places.is_empty());
        assert_eq!(queue.bytes(), self.places.values().map(|known| u64::from(known.kind.size)).sum::<u64>());
        assert!(queue.slots().map(|slot| slot.entry.seq).eq(self.places.keys().copied()));
        for (seq, known) in &self.places {
            let slot = queue.slot(*seq).unwrap();
            assert_eq!((slot.entry.seq, slot.is_resent), (*seq, known.is_resent));
            assert_eq!((slot.is_confirmed, slot.message.is_some()), (known.is_confirmed, known.has_body));
            assert_eq!(slot.was_sent(), known.is_in_flight || known.is_resent);
            assert!(!slot.was_sent() || *seq < queue.sent_before());
            assert_eq!(queue.push(&push_id(seq.0)), known.kind.push.map(|_| *seq));
        }
        assert_eq!(queue.in_flight(), self.in_flight.len());
        for seq in &self.in_flight {
            assert_eq!(queue.flying(packet_id(*seq)), Some(*seq));
        }
        let never_sent = |known: &Known| known.is_confirmed && !known.is_in_flight && !known.is_resent;
        let unsent: Vec<Seq> =
            self.places.iter().filter(|(_, known)| never_sent(known)).map(|(seq, _)| *seq).collect();
        assert_eq!(queue.oldest_waiting(), unsent.first().copied());
        assert_eq!(queue.never_sent(3), unsent.iter().take(3).copied().collect::<Vec<_>>());
        for key in 0..3 {
            let newest = self.newest_of_key.get(&key).copied().filter(|seq| unsent.contains(seq));
            assert_eq!(queue.collapsible(&collapse_key(key)), newest);
        }
        let pushes = self.places.iter().filter(|(_, known)| known.kind.push.is_some());
        assert_eq!(queue.unannounced(), pushes.map(|(seq, _)| *seq).collect::<Vec<_>>());
        assert_eq!(queue.next_due(), self.due.first().map(|(due, _)| *due));
        assert_eq!(queue.first(), self.first());
        self.check_missing(queue);
        if let Some(middle) = self.nth(self.places.len() / 2) {
            let behind = self.places.range((Bound::Excluded(middle), Bound::Unbounded)).map(|(seq, _)| *seq);
            assert!(queue.slots_after(Some(middle)).map(|slot| slot.entry.seq).eq(behind));
        }
    }

    fn check_missing(&self, queue: &Queue) {
        let missing = queue.missing_bodies(3);
        assert!(missing.len() <= 3);
        for (at, (seq, _)) in missing.iter().enumerate() {
            let known = self.places.get(seq).unwrap();
            assert!(!known.has_body && known.is_confirmed && !known.kind.is_released);
            assert!(!missing.iter().skip(at + 1).any(|(other, _)| other == seq));
        }
        if let Some(seq) = self.first()
            && let Some(known) = self.places.get(&seq)
            && !known.has_body
            && !known.kind.is_released
        {
            assert!(missing.iter().any(|(known, _)| *known == seq), "the next one is read");
        }
    }
}

fn apply(call: Call, queue: &mut Queue, model: &mut Model, next: &mut u64) {
    match call {
        Call::Place(kind) => {
            let seq = Seq(*next);
            *next += 1;
            queue.place(slot(seq.0, kind));
            let Kind { is_confirmed, .. } = kind;
            let known = Known { kind, is_confirmed, is_in_flight: false, is_resent: false, has_body: true };
            model.places.insert(seq, known);
            if let Some((_, key)) = kind.push {
                model.newest_of_key.insert(key, seq);
            }
            if kind.is_released {
                model.to_resend.push(seq);
            }
        }
        Call::Skip(count) => *next += count,
        Call::Send => {
            let Some(seq) = model.first() else { return };
            assert_eq!(queue.first(), Some(seq));
            assert_eq!(queue.sent(seq).map(|(id, _)| id), Some(packet_id(seq)));
            model.places.get_mut(&seq).unwrap().is_in_flight = true;
            model.to_resend.retain(|again| *again != seq);
            model.in_flight.push(seq);
        }
        Call::Confirm(nth) => {
            let Some(seq) = model.nth(nth) else { return };
            queue.slot_mut(seq).unwrap().is_confirmed = true;
            model.places.get_mut(&seq).unwrap().is_confirmed = true;
        }
        Call::Remove(nth) => {
            let Some(seq) = model.nth(nth) else { return };
            assert_eq!(queue.remove(seq).unwrap().entry.seq, seq);
            assert!(queue.remove(seq).is_none() && queue.slot(seq).is_none());
            model.remove(seq);
        }
        Call::Expect(nth, due) => {
            let Some(seq) = model.nth(nth).filter(|seq| model.places[seq].kind.push.is_some()) else {
                return;
            };
            queue.expect(seq, Time(due));
            model.due.insert((Time(due), seq));
        }
        Call::TakeDue(now) => {
            let due = model.due.first().copied().filter(|(due, _)| due.0 <= now);
            assert_eq!(queue.take_due(Time(now)), due.map(|(_, seq)| seq));
            due.map(|due| model.due.remove(&due));
        }
        Call::Expire(now) => {
            let wanted = model.expired(now, 5);
            assert_eq!(queue.expired(Time(now), 5), wanted);
            for seq in wanted {
                assert!(queue.remove(seq).is_some());
                model.remove(seq);
            }
        }
        Call::Lose => {
            queue.connection_lost();
            model.lose();
        }
        Call::DropBodies => {
            queue.drop_bodies();
            model
                .places
                .values_mut()
                .filter(|known| known.is_confirmed)
                .for_each(|known| known.has_body = false);
        }
    }
}

proptest! {
    #[test]
    fn a_queue_does_what_the_model_does(calls in prop::collection::vec(call(), 1..200)) {
        let (mut queue, mut model, mut next) = (Queue::default(), Model::default(), 0);
        for call in calls {
            apply(call, &mut queue, &mut model, &mut next);
            model.check(&mut queue);
        }
    }
}

#[test]
fn a_client_that_comes_again_and_again_and_acknowledges_nothing_costs_no_more() {
    let mut queue = Queue::default();
    for seq in 0..3 {
        queue.place(plain(seq));
    }
    for _ in 0..1000 {
        let seq = queue.first().unwrap();
        assert_eq!(seq, Seq(0));
        queue.sent(seq);
        queue.connection_lost();
    }
    assert_eq!(queue.sending.unwrap().to_resend, [Seq(0)]);
}

#[test]
fn a_message_whose_time_ended_in_flight_expires_when_its_connection_is_gone() {
    let mut queue = Queue::default();
    let mut place = plain(0);
    place.entry.expires_at = Some(Time(10)).into();
    queue.place(place);
    queue.sent(Seq(0));
    assert_eq!(queue.expired(Time(10), 9), []);
    queue.connection_lost();
    assert_eq!(queue.expired(Time(10), 9), [Seq(0)]);
}

#[test]
fn what_was_sent_before_a_restart_is_known_after_the_next_one() {
    let mut queue = Queue::default();
    for seq in 0..5 {
        queue.place(Slot::recovered(plain(seq).entry, seq < 3, Time(0)));
    }
    assert_eq!(queue.sent_before(), Seq(3));
    let first = queue.first().unwrap();
    queue.sent(first); // its client takes one at a time
    queue.connection_lost();
    assert_eq!(queue.sent_before(), Seq(3));
    for seq in 0..3 {
        queue.remove(Seq(seq));
    }
    queue.connection_lost();
    assert!(queue.sending.is_none(), "nothing is left that was sent");
}
