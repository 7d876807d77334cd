//! Random facts, random restarts: the embedded store gives back what the memory store, the simplest that can be
//! right, gives back.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation of a test is a panic"
)]

use proptest::prelude::*;
use reveille_broker_core::change::{Batch, Change, Phase};
use reveille_broker_core::message::MessageKey;
use reveille_broker_store::suite::make;
use reveille_broker_store::{Embedded, Memory, Options, Store};
use reveille_proto::mqtt::QoS;
use std::sync::Arc;

/// Small numbers, so that facts meet: sessions 1 to 4, places and messages 1 to 8.
fn change() -> impl Strategy<Value = Change> {
    let (session, place, key, id) = (1..5_u64, 1..9_u64, 1..9_u64, 1..6_u16);
    let filter = prop_oneof![Just("a"), Just("a/#"), Just("$share/g/a"), Just("设备/+")];
    let name = prop_oneof![Just("a"), Just("设备/1")];
    prop_oneof![
        4 => session.clone().prop_map(make::put_session),
        1 => session.clone().prop_map(make::drop_session),
        3 => (session.clone(), filter.clone(), any::<u8>()).prop_map(|(session, filter, identifier)| {
            make::subscribe(session, filter, make::granted(QoS::AtLeastOnce, identifier.into()))
        }),
        2 => (session.clone(), filter).prop_map(|(session, filter)| make::unsubscribe(session, filter)),
        10 => (session.clone(), place.clone(), key.clone()).prop_map(|(session, place, key)| {
            make::enqueue(session, place, &make::full_message(key))
        }),
        6 => (session.clone(), place.clone()).prop_map(|(session, place)| make::forget(session, place)),
        4 => (session.clone(), place, key.clone(), any::<bool>()).prop_map(|(session, place, key, is_released)| {
            let mut entry = make::entry(place, &make::full_message(key));
            entry.phase = if is_released { Phase::Released } else { Phase::Queued };
            make::mark(session, entry)
        }),
        3 => (session.clone(), id.clone()).prop_map(|(session, id)| make::receive(session, id)),
        3 => (session, id).prop_map(|(session, id)| make::release(session, id)),
        2 => (name.clone(), key.clone()).prop_map(|(name, key)| {
            let mut message = (*make::full_message(key)).clone();
            message.topic = make::topic(name);
            make::retain(&Arc::new(message))
        }),
        1 => name.prop_map(make::clear_retained),
        1 => key.prop_map(make::announced),
    ]
}

/// A stretch of one run: batches that are handed over without waiting, then a restart.
fn stretch() -> impl Strategy<Value = Vec<Batch>> {
    prop::collection::vec(prop::collection::vec(change(), 0..12), 1..10)
        .prop_map(|batches| batches.into_iter().map(make::batch).collect())
}

/// Numbers of announcements are never used twice, so they are not random.
fn with_announcements(mut batch: Batch, next: &mut u64) -> Batch {
    batch.changes.insert(0, make::announce(*next, "a"));
    *next += 1;
    batch
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_embedded_store_gives_back_what_the_model_gives_back(
        stretches in prop::collection::vec(stretch(), 1..4)
    ) {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Embedded::open(directory.path(), Options::default()).unwrap();
        let model = Memory::new();
        let bodies: Vec<_> = (0..10).map(MessageKey).collect();
        let mut next = 1;
        for batches in stretches {
            let batches: Vec<_> = batches.into_iter().map(|batch| with_announcements(batch, &mut next)).collect();
            for batch in &batches {
                model.commit(batch.clone()).wait().unwrap();
            }
            let commits: Vec<_> = batches.into_iter().map(|batch| store.commit(batch)).collect();
            for commit in commits {
                commit.wait().unwrap();
            }
            prop_assert_eq!(make::recover(&store), make::recover(&model), "before the restart");
            prop_assert_eq!(store.read(&bodies).unwrap(), model.read(&bodies).unwrap());
            drop(store);
            store = Embedded::open(directory.path(), Options::default()).unwrap();
            prop_assert_eq!(make::recover(&store), make::recover(&model), "after the restart");
            prop_assert_eq!(store.read(&bodies).unwrap(), model.read(&bodies).unwrap());
        }
    }
}
