//! What operators do to sessions and messages, and what they see.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod bench;

use bench::{Bench, connect, durable, packet_id, publish, will};
use bytes::Bytes;
use reveille_broker_core::admin::{Done, Publication, Wish};
use reveille_broker_core::change::Change;
use reveille_broker_core::io::{Committed, Input};
use reveille_broker_core::limits::Limits;
use reveille_proto::ids::{AppId, ClientId};
use reveille_proto::mqtt::{Ack, Packet, QoS, Version};
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::TopicName;

fn client(id: &str) -> (AppId, ClientId) {
    (AppId::default(), ClientId::parse(id).unwrap())
}

fn kick(bench: &mut Bench, id: &str, reason: ReasonCode) {
    let (app, client_id) = client(id);
    bench.input(Input::Kick { app, client_id, reason });
}

fn wish(bench: &mut Bench, number: u64, wish: Wish) {
    bench.input(Input::Wish { number, wish });
}

fn end(id: &str) -> Wish {
    let (app, client_id) = client(id);
    Wish::EndSession { app, client_id }
}

fn purge(id: &str, limit: usize) -> Wish {
    let (app, client_id) = client(id);
    Wish::Purge { app, client_id, limit }
}

fn publication(topic: &str, payload: &str, qos: QoS, retain: bool) -> Wish {
    Wish::Publish(Box::new(Publication {
        app: AppId::default(),
        topic: TopicName::parse(topic.to_owned()).unwrap(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        qos,
        retain,
        expiry: None,
        properties: None,
    }))
}

#[test]
fn a_kicked_client_hears_why_and_its_will_is_published() {
    let mut bench = Bench::new(Limits::default());
    let watcher = bench.online(connect("w", Version::V5));
    bench.subscribe(watcher, "gone/#", 0);
    bench.read(watcher);
    let mut with_will = durable("d");
    with_will.will = Some(will("gone/d", None));
    let device = bench.online(with_will);
    kick(&mut bench, "nobody", ReasonCode::NOT_AUTHORIZED);
    assert_eq!(bench.closed(device), None);
    kick(&mut bench, "d", ReasonCode::NOT_AUTHORIZED);
    match &bench.read(device)[..] {
        [Packet::Disconnect(goodbye)] => assert_eq!(goodbye.reason, ReasonCode::NOT_AUTHORIZED),
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.closed(device), Some(ReasonCode::NOT_AUTHORIZED));
    assert_eq!(bench.messages(watcher), [("gone/d".to_owned(), "gone".to_owned())]);
    assert_eq!(bench.shard.counters().kicks, 1);
    assert_eq!(bench.shard.session_count(), 2, "its session stays");
}

#[test]
fn a_session_that_an_operator_ends_is_gone_with_its_connection_and_on_disk() {
    let mut bench = Bench::new(Limits::default());
    let device = bench.online(durable("d"));
    bench.subscribe(device, "a", 1);
    bench.read(device);
    bench.commits_at_once = false;
    wish(&mut bench, 5, end("d"));
    assert!(matches!(&bench.read(device)[..], [Packet::Disconnect(goodbye)]
        if goodbye.reason == ReasonCode::ADMINISTRATIVE_ACTION));
    assert_eq!(bench.done, [], "not before the disk has it");
    while bench.commit(Committed::Durable) {}
    assert_eq!(bench.done, [(5, Done::Fulfilled(0))]);
    assert!(bench.written.iter().any(|change| matches!(change, Change::DropSession { .. })));
    assert_eq!(bench.shard.session_count(), 0);
    wish(&mut bench, 6, end("d"));
    assert_eq!(bench.done[1], (6, Done::NoSession));
}

#[test]
fn purging_a_queue_keeps_what_the_client_may_have() {
    let mut bench = Bench::new(Limits::default());
    let device = bench.online(durable("d"));
    bench.subscribe(device, "a", 2);
    let publisher = bench.online(connect("p", Version::V5));
    bench.publish(publisher, publish("a", "sent", 2, 1));
    let sent = bench.publishes(device);
    assert_eq!(sent.len(), 1);
    bench.send(device, Packet::PubRec(Ack::new(sent[0].packet_id.unwrap(), ReasonCode::SUCCESS)));
    bench.lose(device);
    for no in 2..=6 {
        bench.publish(publisher, publish("a", "waits", 1, no));
    }
    wish(&mut bench, 1, purge("d", 3));
    wish(&mut bench, 2, purge("d", 100));
    wish(&mut bench, 3, purge("d", 100));
    wish(&mut bench, 4, purge("nobody", 100));
    let wanted =
        [(1, Done::Fulfilled(3)), (2, Done::Fulfilled(2)), (3, Done::Fulfilled(0)), (4, Done::NoSession)];
    assert_eq!(bench.done, wanted);
    assert_eq!((bench.shard.counters().dropped_purged, bench.shard.counters().queued_messages), (5, 1));
    let device = bench.online(durable("d"));
    let id = sent[0].packet_id.unwrap();
    assert!(
        bench.read(device).iter().all(|packet| matches!(packet, Packet::PubRel(ack) if ack.packet_id == id))
    );
}

#[test]
fn what_an_operator_publishes_is_durable_when_it_is_answered() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut bench = Bench::new(Limits::default());
        let device = bench.online(durable("d"));
        bench.subscribe(device, "设备/#", 2);
        bench.lose(device);
        bench.commits_at_once = false;
        wish(&mut bench, 1, publication("设备/1", "醒", qos, true));
        assert_eq!(bench.done, [], "{qos:?}: nothing before the commit");
        while bench.commit(Committed::Durable) {}
        assert_eq!(bench.done, [(1, Done::Fulfilled(0))], "{qos:?}");
        wish(&mut bench, 2, publication("设备/1", "醒", qos, false));
        bench.commit(Committed::Failed);
        assert_eq!(bench.done[1], (2, Done::Refused), "{qos:?}");
    }
}

#[test]
fn a_publish_that_nobody_wants_and_one_of_qos_0_are_answered_at_once() {
    let mut bench = Bench::new(Limits::default());
    let device = bench.online(connect("d", Version::V5));
    bench.subscribe(device, "a", 0);
    bench.read(device);
    wish(&mut bench, 1, publication("b", "x", QoS::AtLeastOnce, false));
    wish(&mut bench, 2, publication("a", "x", QoS::AtMostOnce, false));
    assert_eq!(bench.done, [(1, Done::NoReceiver), (2, Done::Fulfilled(0))]);
    assert_eq!(bench.messages(device), [("a".to_owned(), "x".to_owned())]);
}

#[test]
fn a_retained_message_is_cleared_without_a_word_to_subscribers() {
    let mut bench = Bench::new(Limits::default());
    let device = bench.online(connect("d", Version::V5));
    bench.subscribe(device, "#", 1);
    wish(&mut bench, 1, publication("a/b", "x", QoS::AtLeastOnce, true));
    let got = bench.publishes(device);
    bench.send(
        device,
        Packet::PubAck(Ack::new(packet_id(got[0].packet_id.unwrap().get()), ReasonCode::SUCCESS)),
    );
    let (app, topic) = (AppId::default(), TopicName::parse("a/b".to_owned()).unwrap());
    wish(&mut bench, 2, Wish::ClearRetained { app: app.clone(), topic: topic.clone() });
    assert_eq!(bench.done, [(1, Done::Fulfilled(0)), (2, Done::Fulfilled(0))]);
    assert_eq!(bench.publishes(device), []);
    let late = bench.online(connect("late", Version::V5));
    bench.subscribe(late, "#", 1);
    assert_eq!(bench.publishes(late), []);
    assert!(bench.written.iter().any(|change| matches!(change, Change::Retain { message: None, .. })));
}
