//! What the clients of one app use together, as one shard counts it: everything that is counted up is counted down.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod bench;

use bench::{Bench, connect, durable, packet_id, publish};
use reveille_broker_core::change::{Change, StoredSession};
use reveille_broker_core::io::{ConnectionKey, Input};
use reveille_broker_core::limits::{AppLimits, AppTotals, ConnectionLimits, Limits, QueueFull};
use reveille_broker_core::usage::AppUsage;
use reveille_proto::ids::AppId;
use reveille_proto::mqtt::{Packet, Publish, Unsubscribe, Version};
use reveille_proto::reason::ReasonCode;
use std::sync::Arc;

fn bounded(totals: AppTotals) -> Limits {
    let app = AppLimits { totals, ..AppLimits::default() };
    Limits { apps: [(AppId::default(), app)].into(), ..Limits::default() }
}

fn usage_of(limits: &Limits) -> Arc<AppUsage> {
    Arc::clone(&limits.apps[&AppId::default()].usage)
}

/// Connections, sessions, subscriptions, queued bytes.
fn used(usage: &AppUsage) -> [u64; 4] {
    [&usage.connections, &usage.sessions, &usage.subscriptions, &usage.queued_bytes].map(|gauge| gauge.get())
}

fn retained(topic: &str, payload: &str, id: u16) -> Publish {
    Publish { retain: true, ..publish(topic, payload, 1, id) }
}

fn answer(bench: &mut Bench, key: ConnectionKey, publish: Publish) -> ReasonCode {
    bench.publish(key, publish);
    match bench.read(key).first() {
        Some(Packet::PubAck(ack)) => ack.reason,
        other => panic!("{other:?} instead of PUBACK"),
    }
}

/// A sleeping session with one subscription and one message of three bytes.
fn with_sleeper(limits: Limits) -> Bench {
    let mut bench = Bench::new(limits);
    let sleeper = bench.online(durable("sleeper"));
    bench.subscribe(sleeper, "a", 1);
    bench.lose(sleeper);
    let publisher = bench.online(connect("p", Version::V5));
    bench.publish(publisher, publish("a", "xx", 1, 1));
    bench.lose(publisher);
    bench
}

#[test]
fn all_that_is_counted_up_is_counted_down() {
    let limits = bounded(AppTotals::default());
    let usage = usage_of(&limits);
    let mut bench = with_sleeper(limits);
    assert_eq!(used(&usage), [0, 1, 1, 3], "the sleeper and its message");
    let awake = bench.online(durable("sleeper"));
    let second = bench.online(durable("sleeper"));
    assert_eq!(used(&usage), [1, 1, 1, 3], "a take-over is no second one");
    bench.read(awake);
    bench.send(second, Packet::PubAck(reveille_proto::mqtt::Ack::new(packet_id(1), ReasonCode::SUCCESS)));
    assert_eq!(used(&usage), [1, 1, 1, 0]);
    let unsubscribe =
        Unsubscribe { packet_id: packet_id(5), user_properties: vec![], filters: vec!["a".into()] };
    bench.send(second, Packet::Unsubscribe(Box::new(unsubscribe)));
    assert_eq!(used(&usage), [1, 1, 0, 0]);
    bench.subscribe(second, "b", 1);
    bench.subscribe(second, "b", 0);
    assert_eq!(used(&usage), [1, 1, 1, 0], "the same filter again is no second subscription");
    let clean = bench.online(connect("sleeper", Version::V5));
    assert_eq!(used(&usage), [1, 1, 0, 0], "a clean start ends the old session");
    bench.lose(clean);
    assert_eq!(used(&usage), [0; 4]);
}

#[test]
fn a_session_that_ends_takes_its_queue_out_of_the_count() {
    let limits = bounded(AppTotals::default());
    let usage = usage_of(&limits);
    let mut bench = with_sleeper(limits);
    let clean = bench.online(connect("sleeper", Version::V5));
    assert_eq!(used(&usage), [1, 1, 0, 0]);
    bench.lose(clean);
    assert_eq!(used(&usage), [0; 4]);
}

#[test]
fn a_queue_that_drops_its_oldest_does_so_only_where_that_makes_room() {
    let totals = AppTotals { queued_bytes_max: 12, ..AppTotals::default() };
    let connection = ConnectionLimits { queue_full: QueueFull::DropOldest, ..Default::default() };
    let limits = Limits { apps: bounded(totals).apps, ..Limits::of(connection) };
    let usage = usage_of(&limits);
    let mut bench = with_sleeper(limits);
    let key = bench.online(durable("other"));
    bench.subscribe(key, "b", 1);
    bench.lose(key);
    let publisher = bench.online(connect("p", Version::V5));
    assert_eq!(answer(&mut bench, publisher, publish("b", "1234567", 1, 1)), ReasonCode::SUCCESS);
    assert_eq!(answer(&mut bench, publisher, publish("a", "12345", 1, 2)), ReasonCode::QUOTA_EXCEEDED);
    assert_eq!(bench.shard.counters().dropped_queue_full, 0, "nothing is lost in vain");
    assert_eq!(answer(&mut bench, publisher, publish("a", "123", 1, 3)), ReasonCode::SUCCESS);
    assert_eq!((bench.shard.counters().dropped_queue_full, usage.queued_bytes.get()), (1, 12));
}

#[test]
fn new_limits_count_what_exists() {
    let mut bench = with_sleeper(Limits::default());
    let _online = bench.online(connect("c", Version::V5));
    let limits = bounded(AppTotals { sessions_max: 2, ..AppTotals::default() });
    let usage = usage_of(&limits);
    bench.input(Input::Limits(Arc::new(limits)));
    assert_eq!(used(&usage), [1, 2, 1, 3]);
    let refused = bench.open(connect("d", Version::V5));
    assert_eq!(bench.closed(refused), Some(ReasonCode::QUOTA_EXCEEDED));
    assert_eq!(used(&usage), [1, 2, 1, 3], "what is refused is not counted");
    assert_eq!(bench.shard.counters().refused_app_full, 1);
}

#[test]
fn what_the_store_gives_back_is_counted() {
    let bench = with_sleeper(Limits::default());
    let mut stored = None;
    for change in &bench.written {
        match (change, &mut stored) {
            (Change::PutSession { session, record }, None) => {
                stored = Some(StoredSession {
                    session: *session,
                    record: record.clone(),
                    subscriptions: vec![],
                    entries: vec![],
                    received: vec![],
                });
            }
            (Change::Subscribe { subscription, granted, .. }, Some(stored)) => {
                stored.subscriptions.push((subscription.clone(), *granted));
            }
            (Change::Enqueue { entry, .. }, Some(stored)) => stored.entries.push(entry.clone()),
            _ => {}
        }
    }
    let limits = bounded(AppTotals::default());
    let usage = usage_of(&limits);
    let mut restarted = Bench::booted(limits, 2);
    restarted.shard.recover(stored.unwrap(), restarted.now);
    assert_eq!(used(&usage), [0, 1, 1, 3]);
}

#[test]
fn a_retained_message_beyond_the_bound_goes_nowhere_and_is_counted() {
    const FULL: ReasonCode = ReasonCode::QUOTA_EXCEEDED;
    const SUCCESS: ReasonCode = ReasonCode::SUCCESS;
    let of_broker = |messages, bytes| Limits {
        retained_messages_max: messages,
        retained_bytes_max: bytes,
        ..Limits::default()
    };
    let of_app = |messages, bytes| {
        bounded(AppTotals {
            retained_messages_max: messages,
            retained_bytes_max: bytes,
            ..AppTotals::default()
        })
    };
    for (name, limits) in [
        ("messages", of_broker(1, 100)),
        ("bytes", of_broker(9, 3)),
        ("messages of the app", of_app(1, 100)),
        ("bytes of the app", of_app(9, 3)),
    ] {
        let mut bench = Bench::new(limits);
        let reader = bench.online(connect("r", Version::V5));
        bench.subscribe(reader, "+", 0);
        bench.read(reader);
        let key = bench.online(connect("p", Version::V5));
        for (publish, wanted) in [
            (retained("a", "11", 1), SUCCESS),
            (retained("b", "22", 2), FULL),
            (retained("a", "33", 3), SUCCESS), // in place of the first
            (retained("a", "", 4), SUCCESS),
            (retained("a", "", 5), SUCCESS), // nothing is there
            (retained("b", "44", 6), SUCCESS),
        ] {
            let id = publish.packet_id;
            assert_eq!(answer(&mut bench, key, publish), wanted, "{name}: {id:?}");
        }
        let seen: Vec<String> = bench.messages(reader).into_iter().map(|(_, payload)| payload).collect();
        assert_eq!(seen, ["11", "33", "", "", "44"], "{name}: the refused one goes to nobody");
        assert_eq!(bench.shard.counters().refused_retained, 1, "{name}");
        assert_eq!(bench.router.retained_totals(), (1, 3), "{name}");
    }
}
