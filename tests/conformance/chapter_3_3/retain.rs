//! Section 3.3.1.3: RETAIN, and what a subscription says about it.

use crate::harness::{
    Client, Connect, PATIENCE, Publish, Stage, VERSIONS, Version, prop, publish, subscribe, unsubscribe,
};
use std::collections::BTreeSet;
use std::time::Instant;

/// Bits of the subscription options of 5.0.
const RETAIN_AS_PUBLISHED: u8 = 0x08;
const IF_NEW: u8 = 0x10;
const NEVER: u8 = 0x20;

/// Subscribes, and everything that is kept for it: topic, payload and QoS.
fn kept_for(client: &mut Client, filter: &str, options: u8) -> Vec<(String, String, u8)> {
    let found = client.subscribe_kept(filter, options);
    let row = |message: &Publish| {
        let (topic, payload) = message.words();
        row(topic, payload, message.qos)
    };
    found.iter().map(row).collect()
}

/// The same for a client that comes now.
fn kept(stage: &Stage, filter: &str) -> Vec<(String, String, u8)> {
    let mut late = stage.connect("late");
    let found = kept_for(&mut late, filter, 2);
    late.leave();
    found
}

fn retain(sender: &mut Client, topic: &str, payload: &str, qos: u8) {
    let packet = publish(topic, payload).retain();
    sender.publish_with(if qos == 0 { packet } else { packet.qos(qos, 1) });
}

fn row(topic: &str, payload: &str, qos: u8) -> (String, String, u8) {
    (topic.to_owned(), payload.to_owned(), qos)
}

/// Covers: MQTT3-3.3.1-5, MQTT5-3.3.1-5, MQTT3-3.3.1-6, MQTT3-3.3.1-7, MQTT3-3.3.1-8
#[test]
fn the_last_retained_message_of_a_topic_is_kept_with_its_qos() {
    for stage in Stage::everywhere(&VERSIONS) {
        let mut sender = stage.connect("sender");
        assert_eq!(kept(&stage, "t"), []);
        for qos in [2, 1, 0, 1, 2] {
            let payload = format!("with QoS {qos}");
            retain(&mut sender, "t", &payload, qos);
            let (wanted, end) = ([row("t", &payload, qos)], Instant::now() + PATIENCE);
            // Nothing says when a message of QoS 0 has arrived: it may be on its way to the shard that keeps it.
            while qos == 0 && kept(&stage, "t") != wanted && Instant::now() < end {}
            assert_eq!(kept(&stage, "t"), wanted);
        }
    }
}

/// Covers: MQTT3-3.3.1-10, MQTT5-3.3.1-6, MQTT3-3.3.1-11, MQTT5-3.3.1-7, MQTT3-3.3.1-9
#[test]
fn an_empty_retained_message_is_delivered_and_removes_what_is_kept() {
    for stage in Stage::each(&VERSIONS) {
        let mut sender = stage.connect("sender");
        for qos in 0..=2 {
            let mut receiver = stage.connect(&format!("receiver-{qos}"));
            retain(&mut sender, "t", "kept", 1);
            assert_eq!(kept_for(&mut receiver, "t", qos), [row("t", "kept", qos.min(1))]);
            retain(&mut sender, "t", "", 1);
            let message = receiver.take();
            assert_eq!((message.text(), message.retain), ("", false));
            assert_eq!(kept(&stage, "t"), []);
            retain(&mut sender, "t", "", qos); // nothing to remove, and nothing is kept
            receiver.take();
            assert_eq!(kept(&stage, "t"), []);
        }
    }
}

/// Covers: MQTT3-3.3.1-12, MQTT5-3.3.1-8
/// Trap: empty payload without RETAIN deletes the retained message
#[test]
fn a_message_without_retain_changes_nothing_about_what_is_kept() {
    for stage in Stage::each(&VERSIONS) {
        let mut sender = stage.connect("sender");
        sender.publish("t", "never kept");
        assert_eq!(kept(&stage, "t"), []);
        retain(&mut sender, "t", "kept", 1);
        for payload in ["another", ""] {
            for qos in [1, 2] {
                sender.publish_with(publish("t", payload).qos(qos, 1));
            }
            assert_eq!(kept(&stage, "t"), [row("t", "kept", 1)]);
        }
    }
}

/// Covers: MQTT3-3.3.1-9, MQTT5-3.3.1-12
#[test]
fn an_existing_subscription_gets_retained_messages_without_retain() {
    for stage in Stage::everywhere(&VERSIONS) {
        let (mut sender, mut receiver) = (stage.connect("sender"), stage.connect("receiver"));
        receiver.subscribe("t", 2);
        for qos in 0..=2 {
            retain(&mut sender, "t", "x", qos);
            let message = receiver.take();
            assert_eq!((message.qos, message.retain), (qos, false));
        }
    }
}

/// Covers: MQTT5-3.3.1-13, MQTT5-3.3.1-12
#[test]
fn retain_as_published_keeps_the_flag() {
    let stage = Stage::new(Version::V5);
    let (mut sender, mut receiver) = (stage.connect("sender"), stage.connect("receiver"));
    receiver.subscribe("as-published/#", 2 | RETAIN_AS_PUBLISHED);
    receiver.subscribe("plain/#", 2);
    for qos in 0..=2 {
        for (topic, retain, wanted) in [
            ("as-published/t", true, true),
            ("as-published/t", false, false),
            ("plain/t", true, false),
            ("plain/t", false, false),
        ] {
            let mut packet = publish(topic, "x");
            packet.retain = retain;
            sender.publish_with(if qos == 0 { packet } else { packet.qos(qos, 1) });
            assert_eq!(receiver.take().retain, wanted, "{topic} {retain} with QoS {qos}");
        }
    }
    // What waits for a client that is away keeps it too.
    let mut away = stage.accepted(Connect::new("away").durable());
    away.subscribe("as-published/#", 2 | RETAIN_AS_PUBLISHED | NEVER);
    away.leave();
    retain(&mut sender, "as-published/t", "x", 1);
    assert!(stage.accepted(Connect::new("away").durable()).take().retain);
}

/// Covers: MQTT5-3.3.1-9, MQTT3-3.3.1-6, MQTT3-3.8.4-3
#[test]
fn every_subscribe_sends_what_is_kept_by_default() {
    for stage in Stage::each(&VERSIONS) {
        let (mut sender, mut receiver) = (stage.connect("sender"), stage.connect("receiver"));
        retain(&mut sender, "a/1", "x", 1);
        for _ in 0..3 {
            assert_eq!(kept_for(&mut receiver, "a/+", 1), [row("a/1", "x", 1)]);
        }
    }
}

/// Covers: MQTT5-3.3.1-10
#[test]
fn retain_handling_1_sends_it_for_a_new_subscription_only() {
    let stage = Stage::new(Version::V5);
    let mut sender = stage.connect("sender");
    retain(&mut sender, "t", "x", 1);
    let mut receiver = stage.accepted(Connect::new("receiver").durable());
    assert_eq!(kept_for(&mut receiver, "t", 1 | IF_NEW), [row("t", "x", 1)]);
    assert_eq!(kept_for(&mut receiver, "t", 2 | IF_NEW), [], "it existed, and is replaced");
    receiver.leave();
    let mut receiver = stage.accepted(Connect::new("receiver").durable());
    assert_eq!(kept_for(&mut receiver, "t", 1 | IF_NEW), []);
    receiver.send(unsubscribe(3, &["t"]));
    receiver.next();
    assert_eq!(kept_for(&mut receiver, "t", 1 | IF_NEW), [row("t", "x", 1)]);
}

/// Covers: MQTT5-3.3.1-11
#[test]
fn retain_handling_2_sends_nothing() {
    let stage = Stage::new(Version::V5);
    let (mut sender, mut receiver) = (stage.connect("sender"), stage.connect("receiver"));
    retain(&mut sender, "t", "kept", 1);
    for _ in 0..2 {
        assert_eq!(kept_for(&mut receiver, "t", 1 | NEVER), []);
    }
    retain(&mut sender, "t", "new", 1);
    receiver.take_message("t", "new");
}

/// Also: MQTT 5.0 section 3.3.1.3, retain as published does not touch the RETAIN of what was kept before the subscription
#[test]
fn what_was_kept_before_has_retain_whatever_the_subscription_says() {
    let stage = Stage::new(Version::V5);
    let (mut sender, mut receiver) = (stage.connect("sender"), stage.connect("receiver"));
    retain(&mut sender, "t", "x", 1);
    for options in [1, 1 | RETAIN_AS_PUBLISHED] {
        assert_eq!(kept_for(&mut receiver, "t", options), [row("t", "x", 1)]);
    }
}

/// Covers: MQTT3-3.3.1-6, MQTT5-3.3.1-9
/// Trap: retained delivery is cut to the free in-flight slots or to a fixed number
#[test]
fn all_retained_messages_come_however_many_and_however_slow_the_client() {
    const MANY: usize = 3_000;
    for stage in Stage::each(&VERSIONS) {
        let mut sender = stage.connect("sender");
        for no in 0..MANY {
            sender.send(publish(format!("a/{no}"), no.to_string()).qos(1, 1).retain());
        }
        for _ in 0..MANY {
            sender.next().ack(0x40, stage.version);
        }
        let window = prop::two(prop::RECEIVE_MAXIMUM, 5);
        let mut receiver = stage.accepted(Connect::new("receiver").property(window));
        receiver.subscribe("a/#", 1);
        let found: BTreeSet<usize> = (0..MANY).map(|_| receiver.take().text().parse().unwrap()).collect();
        assert_eq!(found.len(), MANY);
        receiver.expect_nothing();
    }
}

/// Also: section 3.3.1.3, overlapping subscriptions of one SUBSCRIBE each send what is kept
#[test]
fn each_filter_of_a_subscribe_gets_its_own_retained_messages() {
    for stage in Stage::each(&VERSIONS) {
        let (mut sender, mut receiver) = (stage.connect("sender"), stage.connect("receiver"));
        for topic in ["a", "a/b", "c"] {
            retain(&mut sender, topic, topic, 1);
        }
        receiver.subscribe_with(subscribe(4, "a/#", 1).and("c", 0).and("nothing/here", 2));
        let mut topics: Vec<_> = (0..3).map(|_| receiver.take().text().to_owned()).collect();
        topics.sort();
        assert_eq!(topics, ["a", "a/b", "c"]);
        receiver.expect_nothing();
    }
}
