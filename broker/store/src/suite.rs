//! What every store must do: the same tests for each implementation. See `tests/suite.rs` for how to run them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "tests: a failed expectation is a panic"
)]

pub mod make;

use crate::{READ_MAX, Store, StoreError};
use make::*;
use reveille_broker_core::change::{Change, Phase, SessionRecord, StoredWill};
use reveille_broker_core::message::{MessageKey, Seq, SessionKey, Time};
use reveille_proto::ids::AppId;
use reveille_proto::mqtt::QoS;
use std::sync::Arc;

/// A way to open, and open again, one kind of store.
pub trait Subject {
    /// The store.
    type Store: Store;
    /// The first opening, of nothing.
    fn open(&mut self) -> Self::Store;
    /// The next opening of the same files, after this store closed.
    fn reopen(&mut self, closed: Self::Store) -> Self::Store;
}

/// Runs all tests; each gets a subject of its own.
pub fn run<S: Subject>(fresh: impl Fn() -> S) {
    let tests: [Test<S>; 19] = [
        ("an empty store is empty", an_empty_store_is_empty),
        ("records come back as last put", records_come_back_as_last_put),
        ("subscriptions come back as last granted", subscriptions_come_back_as_last_granted),
        ("entries and bodies come back whole", entries_and_bodies_come_back_whole),
        ("marks change a place and free the body", marks_change_a_place_and_free_the_body),
        ("ten thousand entries keep their order", ten_thousand_entries_keep_their_order),
        ("places may come and go in any order", places_may_come_and_go_in_any_order),
        ("a body lives as long as its last reference", a_body_lives_as_long_as_its_last_reference),
        ("a body can come back", a_body_can_come_back),
        ("what is written and given up at once leaves nothing", what_is_given_up_at_once_leaves_nothing),
        ("received identifiers come back until released", received_identifiers_come_back_until_released),
        ("a dropped session takes everything along", a_dropped_session_takes_everything_along),
        ("a session may begin again", a_session_may_begin_again),
        ("facts about unknown sessions are ignored", facts_about_unknown_sessions_are_ignored),
        ("retained messages are replaced and cleared", retained_messages_are_replaced_and_cleared),
        ("announcements last until announced", announcements_last_until_announced),
        ("networks come back as last put", networks_come_back_as_last_put),
        ("the boot number grows", the_boot_number_grows),
        ("a closed store refuses, and reads are bounded", a_closed_store_refuses_and_reads_are_bounded),
    ];
    for (name, test) in tests {
        eprintln!("  {name}");
        let mut subject = fresh();
        let store = subject.open();
        test(&mut Run { subject, store: Some(store) });
    }
}

/// What must hold, and how to see it.
type Test<S> = (&'static str, fn(&mut Run<S>));

/// One test's store.
struct Run<S: Subject> {
    subject: S,
    store: Option<S::Store>,
}

impl<S: Subject> Run<S> {
    fn store(&self) -> &S::Store {
        self.store.as_ref().unwrap()
    }

    fn commit(&self, changes: impl IntoIterator<Item = Change>) {
        self.store().commit(batch(changes)).wait().unwrap();
    }

    fn reopen(&mut self) -> Contents {
        let store = self.store.take().unwrap();
        store.close();
        self.store = Some(self.subject.reopen(store));
        recover(self.store())
    }

    fn has_bodies(&self, keys: &[u64]) -> Vec<bool> {
        let keys: Vec<_> = keys.iter().copied().map(MessageKey).collect();
        self.store().read(&keys).unwrap().iter().map(Option::is_some).collect()
    }
}

fn an_empty_store_is_empty(run: &mut Run<impl Subject>) {
    run.commit([]);
    assert_eq!(recover(run.store()), Contents::default());
    assert_eq!(run.reopen(), Contents::default());
    assert_eq!(run.has_bodies(&[0, 1, u64::MAX]), [false; 3]);
    assert!(run.store().read(&[]).unwrap().is_empty());
}

fn records_come_back_as_last_put(run: &mut Run<impl Subject>) {
    let will = StoredWill { message: (*full_message(9)).clone(), delay_interval: 30 };
    let full = SessionRecord {
        expiry_interval: u32::MAX,
        offline_since: Some(Time(1)),
        sent_before: Seq(3),
        will: Some(Box::new(will)),
        ..record(1, u64::MAX)
    };
    let put = |record: &SessionRecord| Change::PutSession {
        session: SessionKey(1),
        record: Box::new(record.clone()),
    };
    for wanted in [record(1, 1), full, record(1, 3)] {
        run.commit([put(&record(1, 2)), put(&wanted)]);
        assert_eq!(*run.reopen().session(1).record, wanted);
    }
}

fn subscriptions_come_back_as_last_granted(run: &mut Run<impl Subject>) {
    let long = "x".repeat(65_535);
    run.commit([put_session(1), put_session(2)]);
    run.commit([
        subscribe(1, "设备/+/状态", granted(QoS::AtMostOnce, 0)),
        subscribe(1, "设备/+/状态", granted(QoS::ExactlyOnce, 268_435_455)),
        subscribe(1, "$share/组/设备/#", granted(QoS::AtLeastOnce, 1)),
        subscribe(1, &long, granted(QoS::AtLeastOnce, 2)),
        subscribe(1, "gone", granted(QoS::AtLeastOnce, 0)),
        subscribe(2, "other", granted(QoS::AtLeastOnce, 0)),
    ]);
    run.commit([
        unsubscribe(1, "gone"),
        unsubscribe(1, "never"),
        subscribe(1, &long, granted(QoS::AtMostOnce, 2)),
    ]);
    let mut wanted = vec![
        (subscription("设备/+/状态"), granted(QoS::ExactlyOnce, 268_435_455)),
        (subscription("$share/组/设备/#"), granted(QoS::AtLeastOnce, 1)),
        (subscription(&long), granted(QoS::AtMostOnce, 2)),
    ];
    wanted.sort_by(|(one, _), (other, _)| one.cmp(other));
    let contents = run.reopen();
    assert_eq!(contents.session(1).subscriptions, wanted);
    assert_eq!(contents.session(2).subscriptions, [(subscription("other"), granted(QoS::AtLeastOnce, 0))]);
}

fn entries_and_bodies_come_back_whole(run: &mut Run<impl Subject>) {
    let (small, full, large) = (message(1, ""), full_message(2), message(3, vec![7; 1 << 20]));
    let mut rich = entry(12, &full);
    rich.rare.as_mut().unwrap().subscription_identifiers = [1, 268_435_455].into();
    run.commit([
        put_session(1),
        enqueue(1, 10, &small),
        Change::Enqueue { session: SessionKey(1), entry: rich.clone(), message: Arc::clone(&full) },
        enqueue(1, 13, &large),
    ]);
    let contents = run.reopen();
    assert_eq!(contents.session(1).entries, [entry(10, &small), rich, entry(13, &large)]);
    let bodies = run.store().read(&[3, 9, 1, 2, 1].map(MessageKey)).unwrap();
    assert_eq!(bodies, [Some(large), None, Some(Arc::clone(&small)), Some(full), Some(small)]);
}

fn marks_change_a_place_and_free_the_body(run: &mut Run<impl Subject>) {
    let (first, second) = (full_message(1), full_message(2));
    run.commit([put_session(1), enqueue(1, 1, &first), enqueue(1, 2, &second)]);
    let mut announced = entry(1, &first);
    announced.push_mut().unwrap().is_announced = true;
    let mut released = entry(2, &second);
    released.phase = Phase::Released;
    run.commit([mark(1, announced.clone()), mark(1, released.clone()), mark(1, entry(3, &first))]);
    assert_eq!(run.has_bodies(&[1, 2]), [true, false]);
    assert_eq!(run.reopen().session(1).entries, [announced, released.clone()]);
    run.commit([mark(1, released.clone()), forget(1, 1)]);
    assert_eq!(run.reopen().session(1).entries, [released]);
    assert_eq!(run.has_bodies(&[1, 2]), [false, false]);
    run.commit([forget(1, 2)]);
    assert!(run.reopen().session(1).entries.is_empty());
}

fn ten_thousand_entries_keep_their_order(run: &mut Run<impl Subject>) {
    run.commit([put_session(1), put_session(2)]);
    let commits: Vec<_> = (0..100_u64)
        .map(|block| {
            let place = |at: u64| enqueue(1 + at % 2, at, &message(at, at.to_be_bytes().to_vec()));
            run.store().commit(batch((block * 100..block * 100 + 100).map(place)))
        })
        .collect();
    commits.into_iter().for_each(|commit| commit.wait().unwrap());
    let contents = run.reopen();
    for session in [1, 2] {
        let seqs: Vec<_> = contents.session(session).entries.iter().map(|entry| entry.seq.0).collect();
        let wanted: Vec<_> = (0..10_000).filter(|at| 1 + at % 2 == session).collect();
        assert_eq!(seqs, wanted);
    }
    let body = run.store().read(&[MessageKey(9_999)]).unwrap().remove(0).unwrap();
    assert_eq!(body.payload[..], 9_999_u64.to_be_bytes());
}

fn places_may_come_and_go_in_any_order(run: &mut Run<impl Subject>) {
    let places = [5, 1, 9, 3, 7];
    run.commit([put_session(1)]);
    run.commit(places.map(|at| enqueue(1, at, &message(at, "x"))));
    run.commit([forget(1, 3), forget(1, 9), forget(1, 4), enqueue(1, 5, &message(50, "other"))]);
    let contents = run.reopen();
    let found: Vec<_> =
        contents.session(1).entries.iter().map(|entry| (entry.seq.0, entry.message.0)).collect();
    assert_eq!(found, [(1, 1), (5, 50), (7, 7)]);
    assert_eq!(run.has_bodies(&[1, 3, 5, 7, 9, 50]), [true, false, false, true, false, true]);
}

fn a_body_lives_as_long_as_its_last_reference(run: &mut Run<impl Subject>) {
    let shared = message(1, "shared");
    run.commit([
        put_session(1),
        put_session(2),
        put_session(3),
        enqueue(1, 1, &shared),
        enqueue(2, 8, &shared),
    ]);
    run.commit([enqueue(3, 1, &shared), enqueue(3, 2, &shared)]);
    for change in [forget(1, 1), forget(3, 1), drop_session(2)] {
        run.commit([change]);
        assert_eq!(run.has_bodies(&[1]), [true]);
        run.reopen();
        assert_eq!(run.has_bodies(&[1]), [true]);
    }
    run.commit([forget(3, 2)]);
    assert_eq!(run.has_bodies(&[1]), [false]);
}

fn a_body_can_come_back(run: &mut Run<impl Subject>) {
    let shared = message(1, "shared");
    run.commit([put_session(1), put_session(2), enqueue(1, 1, &shared)]);
    run.commit([forget(1, 1), enqueue(2, 1, &shared)]);
    assert_eq!(run.has_bodies(&[1]), [true]);
    run.commit([forget(2, 1)]);
    run.commit([enqueue(2, 2, &shared)]);
    run.reopen();
    assert_eq!(run.has_bodies(&[1]), [true]);
    run.commit([forget(2, 2), enqueue(2, 3, &shared), forget(2, 3)]);
    assert_eq!(run.has_bodies(&[1]), [false]);
}

fn what_is_given_up_at_once_leaves_nothing(run: &mut Run<impl Subject>) {
    let kept = message(2, "kept");
    run.commit([put_session(1), enqueue(1, 1, &kept)]);
    let before = recover(run.store());
    run.commit([
        put_session(2),
        subscribe(2, "a", granted(QoS::AtLeastOnce, 0)),
        enqueue(1, 2, &message(1, "short")),
        enqueue(2, 1, &message(1, "short")),
        enqueue(1, 3, &kept),
        receive(1, 5),
        announce(1, "a"),
        retain(&full_message(3)),
        forget(1, 2),
        forget(1, 3),
        release(1, 5),
        announced(1),
        clear_retained("工厂/1/温度"),
        drop_session(2),
    ]);
    assert_eq!(recover(run.store()), before);
    assert_eq!(run.reopen(), before);
    assert_eq!(run.has_bodies(&[1, 2]), [false, true]);
}

fn received_identifiers_come_back_until_released(run: &mut Run<impl Subject>) {
    run.commit([put_session(1), receive(1, 65_535), receive(1, 1), receive(1, 1), receive(1, 300)]);
    run.commit([release(1, 1), release(1, 2)]);
    let ids: Vec<_> = run.reopen().session(1).received.iter().map(|id| id.get()).collect();
    assert_eq!(ids, [300, 65_535]);
    run.commit([receive(1, 1), release(1, 300)]);
    let ids: Vec<_> = run.reopen().session(1).received.iter().map(|id| id.get()).collect();
    assert_eq!(ids, [1, 65_535]);
}

fn a_dropped_session_takes_everything_along(run: &mut Run<impl Subject>) {
    let shared = message(1, "shared");
    let fill = |session| {
        [
            put_session(session),
            subscribe(session, "a/#", granted(QoS::AtLeastOnce, 0)),
            receive(session, 1),
            enqueue(session, 1, &shared),
            enqueue(session, 2, &message(session + 100, "own")),
        ]
    };
    run.commit([fill(1), fill(2), fill(256)].into_iter().flatten());
    let before = recover(run.store());
    run.commit([subscribe(2, "b", granted(QoS::AtLeastOnce, 0)), drop_session(2), drop_session(3)]);
    let contents = run.reopen();
    let wanted: Vec<_> = before.sessions.into_iter().filter(|stored| stored.session.0 != 2).collect();
    assert_eq!(contents.sessions, wanted);
    assert_eq!(run.has_bodies(&[1, 101, 102, 356]), [true, true, false, true]);
}

fn a_session_may_begin_again(run: &mut Run<impl Subject>) {
    let old = message(1, "old");
    run.commit([
        put_session(1),
        subscribe(1, "a", granted(QoS::AtLeastOnce, 0)),
        enqueue(1, 1, &old),
        receive(1, 1),
    ]);
    let new = message(2, "new");
    run.commit([
        drop_session(1),
        put_session(1),
        subscribe(1, "b", granted(QoS::AtMostOnce, 0)),
        enqueue(1, 1, &new),
        receive(1, 2),
    ]);
    let contents = run.reopen();
    let stored = contents.session(1);
    assert_eq!(stored.subscriptions, [(subscription("b"), granted(QoS::AtMostOnce, 0))]);
    assert_eq!(stored.entries, [entry(1, &new)]);
    assert_eq!(stored.received.iter().map(|id| id.get()).collect::<Vec<_>>(), [2]);
    assert_eq!(run.has_bodies(&[1, 2]), [false, true]);
}

fn facts_about_unknown_sessions_are_ignored(run: &mut Run<impl Subject>) {
    let body = message(1, "x");
    run.commit([
        subscribe(1, "a", granted(QoS::AtLeastOnce, 0)),
        enqueue(1, 1, &body),
        mark(1, entry(1, &body)),
        receive(1, 1),
        forget(1, 1),
        release(1, 1),
        unsubscribe(1, "a"),
        enqueue(1, 2, &body),
        drop_session(1),
    ]);
    assert_eq!(run.reopen(), Contents::default());
    assert_eq!(run.has_bodies(&[1]), [false]);
    run.commit([put_session(1)]);
    assert!(run.reopen().session(1).entries.is_empty());
}

fn retained_messages_are_replaced_and_cleared(run: &mut Run<impl Subject>) {
    let under = |name: &str, key: u64| {
        let mut message = (*full_message(key)).clone();
        message.topic = topic(name);
        Arc::new(message)
    };
    let mut elsewhere = (*under("a", 9)).clone();
    elsewhere.app = AppId::parse("shop").unwrap();
    let elsewhere = Arc::new(elsewhere);
    run.commit([
        retain(&under("a", 1)),
        retain(&under("设备/1", 2)),
        retain(&elsewhere),
        clear_retained("never"),
    ]);
    run.commit([retain(&under("a", 3)), retain(&under("a", 4))]);
    assert_eq!(
        run.reopen().retained,
        [under("a", 4), under("设备/1", 2), elsewhere.clone()].map(|m| (*m).clone())
    );
    run.commit([clear_retained("a"), retain(&under("b", 5)), clear_retained("b"), clear_retained("设备/1")]);
    assert_eq!(run.reopen().retained, [(*elsewhere).clone()]);
    assert_eq!(run.has_bodies(&[1, 2, 3, 4, 5, 9]), [false; 6]);
}

fn announcements_last_until_announced(run: &mut Run<impl Subject>) {
    run.commit([announce(2, "b"), announce(300, "c"), announce(1, "a")]);
    run.commit([announced(2), announce(4, "d"), announced(4), announced(77)]);
    let contents = run.reopen();
    let found: Vec<_> =
        contents.announcements.iter().map(|(number, what)| (*number, &what.payload[..])).collect();
    assert_eq!(found, [(1, &b"a"[..]), (300, &b"c"[..])]);
    assert_eq!(contents.announcements[0].1.topic, topic("$push/v1/queued"));
}

fn networks_come_back_as_last_put<S: Subject>(run: &mut Run<S>) {
    run.commit([
        put_network("203.0.113.0/24", 100),
        put_network("fd00::/48", 200),
        put_network("10.0.0.0/24", 7),
    ]);
    run.commit([
        put_network("203.0.113.0/24", 300),
        forget_network("fd00::/48"),
        forget_network("192.0.2.0/24"),
    ]);
    let contents = run.reopen();
    assert_eq!(contents.networks, [network("10.0.0.0/24", 7), network("203.0.113.0/24", 300)]);
}

fn the_boot_number_grows(run: &mut Run<impl Subject>) {
    for wanted in 1..=4 {
        assert_eq!(run.store().boot(), wanted);
        run.reopen();
    }
}

fn a_closed_store_refuses_and_reads_are_bounded(run: &mut Run<impl Subject>) {
    let store = run.store();
    let many = vec![MessageKey(1); READ_MAX];
    assert_eq!(store.read(&many).unwrap().len(), READ_MAX);
    let too_many = vec![MessageKey(1); READ_MAX + 1];
    assert!(matches!(store.read(&too_many), Err(StoreError::TooManyKeys)));
    let last = store.commit(batch([put_session(1)]));
    drop(store.commit(batch([put_session(2)])));
    store.close();
    store.close();
    assert!(last.wait().is_ok(), "what was handed over before closing is durable");
    assert!(matches!(store.commit(batch([put_session(3)])).wait(), Err(StoreError::Closed)));
    assert!(matches!(store.read(&[MessageKey(1)]), Err(StoreError::Closed)));
    let sessions: Vec<_> = run.reopen().sessions.iter().map(|stored| stored.session.0).collect();
    assert_eq!(sessions, [1, 2], "dropping a commit does not cancel it");
}
