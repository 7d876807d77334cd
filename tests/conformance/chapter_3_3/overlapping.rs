//! Section 3.3.4 (3.1.1: 3.3.5): several subscriptions of one client match the same message.

use crate::harness::{Connect, Property, Stage, VERSIONS, Version, prop, publish, subscribe};

fn identifiers(wanted: &[usize]) -> Vec<Property> {
    wanted.iter().map(|identifier| prop::var(prop::SUBSCRIPTION_IDENTIFIER, *identifier)).collect()
}

fn sorted(mut properties: Vec<Property>) -> Vec<Property> {
    properties.sort();
    properties
}

/// Covers: MQTT3-3.3.5-1, MQTT5-3.3.4-2
/// Trap: QoS 0 publish delivered as QoS 2 to a QoS 2 subscriber
#[test]
fn a_message_comes_with_the_highest_qos_of_the_subscriptions_but_not_above_its_own() {
    for stage in Stage::everywhere(&VERSIONS) {
        for (no, order) in [[0, 1, 2], [2, 1, 0], [1, 2, 0]].into_iter().enumerate() {
            let mut sender = stage.connect("sender");
            let mut receiver = stage.connect(&format!("receiver-{no}"));
            for (filter, qos) in ["a/b", "a/#", "+/b"].into_iter().zip(order) {
                receiver.subscribe(filter, qos);
            }
            for qos in 0..=2 {
                let packet = publish("a/b", qos.to_string());
                sender.publish_with(if qos == 0 { packet } else { packet.qos(qos, 1) });
                let message = receiver.take();
                assert_eq!((message.text(), message.qos), (&*qos.to_string(), qos));
            }
            receiver.expect_nothing(); // one copy each
        }
    }
}

/// Covers: MQTT5-3.3.4-3, MQTT5-3.3.4-4
#[test]
fn the_one_copy_carries_the_identifiers_of_all_subscriptions_that_match() {
    let stage = Stage::new(Version::V5);
    let mut sender = stage.connect("sender");
    let mut receiver = stage.connect("receiver");
    for (filter, identifier) in [("a/b", 1), ("a/#", 200), ("#", 70_000), ("+/c", 9)] {
        receiver.subscribe_with(subscribe(1, filter, 2).identifier(identifier));
    }
    receiver.subscribe("a/+", 1); // has none
    for (topic, wanted) in [
        ("a/b", &[1, 200, 70_000][..]),
        ("a/c", &[9, 200, 70_000]),
        ("x", &[70_000]),
        ("a/b/c", &[200, 70_000]),
    ] {
        for qos in 0..=2 {
            let packet = publish(topic, "x");
            sender.publish_with(if qos == 0 { packet } else { packet.qos(qos, 1) });
            let message = receiver.take();
            assert_eq!(sorted(message.properties), sorted(identifiers(wanted)), "{topic} with QoS {qos}");
        }
    }
    receiver.expect_nothing();
}

/// Also: MQTT 5.0 section 3.3.4, several subscriptions with the same identifier carry it several times or once
#[test]
fn subscriptions_may_share_an_identifier() {
    let stage = Stage::new(Version::V5);
    let (mut sender, mut receiver) = (stage.connect("sender"), stage.connect("receiver"));
    receiver.subscribe_with(subscribe(1, "a/#", 1).and("#", 1).identifier(5));
    sender.publish("a/b", "x");
    let found = receiver.take().properties;
    assert!(found == identifiers(&[5]) || found == identifiers(&[5, 5]), "{found:?}");
}

/// Covers: MQTT5-3.3.4-3
#[test]
fn identifiers_come_with_queued_and_retained_messages_too() {
    let stage = Stage::new(Version::V5);
    let mut sender = stage.connect("sender");
    let mut away = stage.accepted(Connect::new("away").durable());
    away.subscribe_with(subscribe(1, "t", 1).identifier(3));
    away.subscribe_with(subscribe(1, "#", 1).identifier(4));
    away.leave();
    sender.publish_with(publish("t", "x").qos(1, 1).retain());
    let mut away = stage.accepted(Connect::new("away").durable());
    assert_eq!(sorted(away.take().properties), sorted(identifiers(&[3, 4])));
    for qos in 0..=2 {
        let mut late = stage.connect("late");
        late.subscribe_with(subscribe(1, "t", qos).identifier(77));
        assert_eq!(late.take().properties, identifiers(&[77]));
        late.leave();
    }
}

/// Also: MQTT 5.0 section 3.8.2.1.2, a replaced subscription has the new identifier, or none
#[test]
fn a_replaced_subscription_has_its_new_identifier() {
    let stage = Stage::new(Version::V5);
    let (mut sender, mut receiver) = (stage.connect("sender"), stage.connect("receiver"));
    for (packet, wanted) in [
        (subscribe(1, "t", 1).identifier(1), identifiers(&[1])),
        (subscribe(1, "t", 1).identifier(2), identifiers(&[2])),
        (subscribe(1, "t", 1), vec![]),
    ] {
        receiver.subscribe_with(packet);
        sender.publish("t", "x");
        assert_eq!(receiver.take().properties, wanted);
    }
}
