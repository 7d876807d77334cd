//! What operators do to sessions and messages, and what they see.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod bench;

use bench::{Bench, connect, durable, packet_id, publish, will};
use bytes::Bytes;
use reveille_broker_core::admin::{
    Done, Glob, Page, Publication, QueuedState, SessionFilter, SubscriptionFilter, SubscriptionPlace,
    SubscriptionView, Wish,
};
use reveille_broker_core::change::Change;
use reveille_broker_core::io::{Committed, Input};
use reveille_broker_core::limits::Limits;
use reveille_proto::ids::{AppId, ClientId};
use reveille_proto::mqtt::{Ack, Packet, QoS, Version};
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::TopicName;
use std::collections::HashSet;

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

/// Walks over all sessions in pages of this size.
fn walk(bench: &Bench, filter: &SessionFilter, limit: usize) -> Vec<String> {
    let (mut from, mut found) = (0, Vec::new());
    loop {
        let page = bench.shard.sessions(filter, from, limit);
        assert!(page.items.len() <= limit);
        found.extend(page.items.iter().map(|session| session.client_id.to_string()));
        match page.next {
            Some(next) => from = next,
            None => return found,
        }
    }
}

#[test]
fn a_walk_meets_every_session_that_lives_through_it_once() {
    let mut bench = Bench::new(Limits::default());
    let keys: Vec<_> = (0..3_000).map(|no| bench.online(durable(&format!("d{no}")))).collect();
    for limit in [1, 7, 1_000] {
        let found = walk(&bench, &SessionFilter::default(), limit);
        assert_eq!(found.len(), 3_000, "{limit}");
        assert_eq!(found.iter().collect::<HashSet<_>>().len(), 3_000, "{limit}");
    }
    let (mut from, mut found, mut round) = (Some(0), Vec::new(), 0);
    while let Some(place) = from {
        let page = bench.shard.sessions(&SessionFilter::default(), place, 100);
        found.extend(page.items.into_iter().map(|session| session.client_id.to_string()));
        from = page.next;
        // Every second one goes while we look, and others take their places.
        let gone = round * 50..round * 50 + 50;
        for no in gone.filter(|no| no % 2 == 0) {
            wish(&mut bench, 0, end(&format!("d{no}")));
            bench.online(durable(&format!("new{no}")));
        }
        round += 1;
    }
    for no in (1..3_000).step_by(2) {
        let times = found.iter().filter(|id| **id == format!("d{no}")).count();
        assert_eq!(times, 1, "d{no}");
    }
    bench.lose(keys[1]);
    let offline = SessionFilter { is_online: Some(false), ..SessionFilter::default() };
    assert_eq!(walk(&bench, &offline, 10), ["d1"]);
    let named = SessionFilter { client_id: Some(Glob::new("d299?")), ..SessionFilter::default() };
    assert_eq!(walk(&bench, &named, 10).len(), 10);
}

#[test]
fn a_session_is_shown_with_its_connection_its_queue_and_its_will() {
    let mut bench = Bench::new(Limits::default());
    let mut with_will = durable("d");
    with_will.will = Some(will("gone/d", Some(5)));
    with_will.properties.receive_maximum = Some(1);
    let device = bench.online(with_will);
    bench.subscribe(device, "a/#", 1);
    bench.subscribe(device, "$share/g/b", 1);
    let publisher = bench.online(connect("p", Version::V5));
    bench.publish(publisher, publish("a/1", "one", 1, 1));
    bench.publish(publisher, publish("a/2", "two", 1, 2));
    let (app, client_id) = client("d");
    let view = bench.shard.session_of(&app, &client_id).unwrap();
    let connection = view.connection.clone().unwrap();
    assert_eq!((connection.in_flight_max, connection.publishes_sent, &*connection.network), (1, 1, "bench"));
    assert!(connection.is_slow, "its window is used up and a message waits");
    assert_eq!((view.subscriptions, view.queue.messages, view.queue.in_flight), (2, 2, 1));
    assert_eq!((view.queue.bytes, view.queue.oldest_at), (12, Some(bench.now)));
    assert_eq!(
        view.will.as_ref().map(|will| (will.topic.as_str(), will.delay_interval)),
        Some(("gone/d", 5))
    );
    let slow = SessionFilter { is_slow: Some(true), queue_min: Some(2), ..SessionFilter::default() };
    assert_eq!(walk(&bench, &slow, 10), ["d"]);

    let page = bench.shard.queued(&app, &client_id, None, 1).unwrap();
    assert_eq!(page.items[0].state, QueuedState::Sent);
    let page = bench.shard.queued(&app, &client_id, page.next, 1).unwrap();
    assert_eq!(page.items[0].state, QueuedState::Waiting);
    assert_eq!(page.items[0].body.as_ref().map(|body| body.topic.as_str()), Some("a/2"));
    assert_eq!(page.next, None);
    assert_eq!(bench.shard.queues(0).items.len(), 1);

    bench.lose(device);
    bench.wait(5_000);
    let view = bench.shard.session_of(&app, &client_id).unwrap();
    assert_eq!((view.connection, view.will), (None, None));
    assert_eq!(view.ends_at.map(|end| end.0), view.offline_since.map(|since| since.0 + 3_600_000));
    assert_eq!(bench.shard.session_of(&app, &client("x").1), None);
}

#[test]
fn subscriptions_come_in_pages_and_by_the_topic_that_they_would_get() {
    let mut bench = Bench::new(Limits::default());
    for (id, filters) in [
        ("a", &["x/#", "x/+", "y"][..]),
        ("b", &["$share/g/x/1", "z"][..]),
        ("c", &["q"][..]),
        ("d", &["#", "+/1"][..]),
    ] {
        let key = bench.online(connect(id, Version::V5));
        filters.iter().for_each(|filter| bench.subscribe(key, filter, 1));
    }
    let text = |view: &SubscriptionView| format!("{} {}", view.client_id, view.subscription);
    let walk = |look: &dyn Fn(SubscriptionPlace) -> Page<SubscriptionView, SubscriptionPlace>| {
        let (mut from, mut found) = (SubscriptionPlace::default(), Vec::new());
        loop {
            let page = look(from);
            found.extend(page.items.iter().map(text));
            match page.next {
                Some(next) => from = next,
                None => return found,
            }
        }
    };
    let (app, topic) = (AppId::default(), TopicName::parse("x/1".to_owned()).unwrap());
    for limit in [1, 2, 100] {
        let mut receivers = walk(&|from| bench.shard.receivers(&app, &topic, from, limit));
        receivers.sort();
        assert_eq!(receivers, ["a x/#", "a x/+", "b $share/g/x/1", "d #", "d +/1"], "{limit}");
        let all = walk(&|from| bench.shard.subscriptions(&SubscriptionFilter::default(), from, limit));
        assert_eq!(all.len(), 8, "{limit}: {all:?}");
        let only = SubscriptionFilter { group: Some("g".into()), ..SubscriptionFilter::default() };
        assert_eq!(walk(&|from| bench.shard.subscriptions(&only, from, limit)), ["b $share/g/x/1"]);
        let of_a =
            walk(&|from| bench.shard.subscriptions_of_one(&app, &client("a").1, from.after, limit).unwrap());
        assert_eq!(of_a.len(), 3, "{limit}: {of_a:?}");
    }
}
