//! Section 3.3.2.3: the properties of a message, on their way through the broker.

use crate::harness::{Connect, Property, SINCE_3_1_1, Stage, Version, hex, prop, puback, publish, subscribe};

const PROTOCOL_ERROR: u8 = 0x82;
const MALFORMED: u8 = 0x81;

fn all_properties() -> Vec<Property> {
    vec![
        prop::byte(prop::PAYLOAD_FORMAT, 1),
        prop::text(prop::RESPONSE_TOPIC, "设备/answer"),
        prop::text(prop::CORRELATION_DATA, b"\x00\x01\xFE\xFF"),
        prop::text(prop::CONTENT_TYPE, "text/plain; charset=utf-8"),
        prop::user("z", "1"),
        prop::user("a", "2"),
        prop::user("z", "1"),
        prop::user("", ""),
        prop::user("\u{FEFF}", "值"),
    ]
}

fn sorted(mut properties: Vec<Property>) -> Vec<Property> {
    properties.sort();
    properties
}

/// Covers: MQTT5-3.3.2-4, MQTT5-3.3.2-15, MQTT5-3.3.2-16, MQTT5-3.3.2-17, MQTT5-3.3.2-18, MQTT5-3.3.2-20
#[test]
fn the_properties_of_a_message_reach_every_receiver_unchanged_and_in_order() {
    for stage in Stage::everywhere(&[Version::V5]) {
        let mut sender = stage.connect("sender");
        let mut online = stage.connect("online");
        let mut away = stage.accepted(Connect::new("away").durable());
        for receiver in [&mut online, &mut away] {
            receiver.subscribe("t", 2);
        }
        away.leave();
        let properties = all_properties();
        for qos in 0..=2 {
            let mut packet = publish("t", "x");
            packet.properties = properties.clone();
            sender.publish_with(if qos == 0 { packet } else { packet.qos(qos, 1) });
            let message = online.take();
            assert_eq!(message.all(prop::USER_PROPERTY), properties[4..], "in their order");
            assert_eq!(sorted(message.properties), sorted(properties.clone()), "QoS {qos}");
        }
        let mut packet = publish("t", "kept").retain().qos(1, 1);
        packet.properties = properties.clone();
        sender.publish_with(packet);
        let (mut late, mut away) = (stage.connect("late"), stage.accepted(Connect::new("away").durable()));
        late.subscribe("t", 1);
        for (receiver, count) in [(&mut late, 1), (&mut away, 3)] {
            for _ in 0..count {
                let message = receiver.take();
                assert_eq!(message.all(prop::USER_PROPERTY), properties[4..], "in their order");
                assert_eq!(sorted(message.properties), sorted(properties.clone()));
            }
        }
    }
}

/// Covers: MQTT5-3.3.2-4
#[test]
fn each_payload_format_indicator_is_passed_on_and_absence_too() {
    let stage = Stage::new(Version::V5);
    let (mut receiver, mut sender) = (stage.connect("receiver"), stage.connect("sender"));
    receiver.subscribe("t", 1);
    for properties in [vec![prop::byte(1, 0)], vec![prop::byte(1, 1)], vec![]] {
        sender.publish_properties("t", "x", &properties);
        assert_eq!(receiver.take().properties, properties);
    }
}

/// Also: MQTT 5.0 section 3.3.2.3.2, a receiver of an older version gets the message without properties
#[test]
fn properties_stay_behind_where_the_receiver_has_no_words_for_them() {
    let stage = Stage::new(Version::V5);
    let mut sender = stage.connect("sender");
    for version in [Version::V3_1, Version::V3_1_1] {
        let mut receiver = stage.socket_of(version);
        receiver.send(Connect::new(version.to_string()));
        assert_eq!(receiver.expect_connack().code, 0);
        receiver.subscribe("t", 0);
        sender.publish_properties("t", "payload", &all_properties());
        receiver.expect(hex("30 0a 0001 't' 'payload'"));
    }
}

/// Trap: payload format indicator above 1
/// Covers: MQTT5-3.3.2-8, MQTT5-3.3.2-14
#[test]
fn values_that_a_property_of_publish_cannot_have_end_the_connection() {
    let stage = Stage::new(Version::V5);
    let rows = [
        (prop::byte(prop::PAYLOAD_FORMAT, 2), PROTOCOL_ERROR),
        (prop::byte(prop::PAYLOAD_FORMAT, 0xFF), PROTOCOL_ERROR),
        (prop::two(prop::TOPIC_ALIAS, 0), 0x94),
        (prop::text(prop::RESPONSE_TOPIC, "a/#"), PROTOCOL_ERROR),
        (prop::text(prop::RESPONSE_TOPIC, "+"), PROTOCOL_ERROR),
        (prop::text(prop::RESPONSE_TOPIC, ""), PROTOCOL_ERROR),
        (Property(hex("02 0000 01")), MALFORMED),
        (Property(hex("09 00")), MALFORMED),
    ];
    for (property, code) in rows {
        let mut client = stage.connect("c");
        client.send(publish("t", "x").property(property));
        client.expect_goodbye(code);
    }
}

/// Covers: MQTT5-3.3.4-6
#[test]
fn a_client_must_not_publish_a_subscription_identifier() {
    let stage = Stage::new(Version::V5);
    let mut watcher = stage.connect("watcher");
    watcher.subscribe("t", 0);
    for qos in 0..=2 {
        let mut client = stage.connect("c");
        let packet = publish("t", "x").property(prop::var(prop::SUBSCRIPTION_IDENTIFIER, 1));
        client.send(if qos == 0 { packet } else { packet.qos(qos, 1) });
        client.expect_goodbye(PROTOCOL_ERROR);
    }
    watcher.expect_nothing();
}

/// Covers: MQTT5-3.3.2-5
/// Trap: expiry is counted down on delivery for queued and retained messages
#[test]
fn a_message_that_expired_before_its_delivery_is_dropped() {
    let stage = Stage::new(Version::V5);
    let mut sender = stage.connect("sender");
    let mut away = stage.accepted(Connect::new("away").durable());
    away.subscribe("t/#", 2);
    away.leave();
    let expiry = |seconds| [prop::four(prop::MESSAGE_EXPIRY, seconds)];
    for (topic, seconds) in [("t/short", 1), ("t/long", 1000), ("t/short", 1)] {
        let mut packet = publish(topic, "x").qos(1, 1).retain();
        packet.properties = expiry(seconds).to_vec();
        sender.publish_with(packet);
    }
    // Two more behind a full window of a client that is there.
    let one = prop::two(prop::RECEIVE_MAXIMUM, 1);
    let mut slow = stage.accepted(Connect::new("slow").property(one));
    slow.subscribe("s", 1);
    sender.publish("s", "holds the window");
    let held = slow.expect_publish();
    sender.publish_properties("s", "expires", &expiry(1));
    sender.publish_properties("s", "stays", &expiry(1000));

    stage.pass_time(2);

    slow.send(puback(held.id.unwrap()));
    assert_eq!(slow.take().text(), "stays");
    slow.expect_nothing();
    let mut away = stage.accepted(Connect::new("away").durable());
    assert_eq!(away.take().words(), ("t/long", "x"));
    away.expect_nothing();
    let mut late = stage.connect("late");
    late.subscribe("t/#", 2);
    assert_eq!(late.take().words(), ("t/long", "x"));
    late.expect_nothing();
}

/// Covers: MQTT5-3.3.2-6
/// Trap: expiry is counted down on delivery for queued and retained messages
#[test]
fn the_expiry_that_is_passed_on_is_less_the_time_that_the_message_waited() {
    let stage = Stage::new(Version::V5);
    let mut sender = stage.connect("sender");
    let mut away = stage.accepted(Connect::new("away").durable());
    away.subscribe("t", 1);
    away.leave();
    let mut online = stage.connect("online");
    online.subscribe("t", 1);
    let expiry = prop::four(prop::MESSAGE_EXPIRY, 1000);
    sender.publish_with(publish("t", "x").qos(1, 1).retain().property(expiry));
    let left = |message: crate::harness::Publish| message.find(prop::MESSAGE_EXPIRY).unwrap().number();
    assert!((990..=1000).contains(&left(online.take())));

    stage.pass_time(2);

    let mut late = stage.connect("late");
    late.subscribe("t", 1);
    let mut away = stage.accepted(Connect::new("away").durable());
    for receiver in [&mut late, &mut away] {
        let left = left(receiver.take());
        assert!((900..=998).contains(&left), "after two seconds: {left}");
    }
}

/// Also: MQTT 5.0 section 3.3.2.3.3, without an expiry interval a message does not expire and none is passed on
#[test]
fn a_message_without_expiry_gets_none() {
    let stage = Stage::new(Version::V5);
    let (mut receiver, mut sender) = (stage.connect("receiver"), stage.connect("sender"));
    receiver.subscribe("t", 2);
    for qos in [1, 2] {
        sender.publish_with(publish("t", "x").qos(qos, 1));
        assert_eq!(receiver.take().properties, []);
    }
}

/// Also: MQTT 5.0 section 3.3.2.3.8, subscription identifiers up to 268,435,455
#[test]
fn subscription_identifiers_of_every_size_come_with_the_message() {
    let stage = Stage::new(Version::V5);
    let mut sender = stage.connect("sender");
    for identifier in [1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455] {
        let mut receiver = stage.connect("receiver");
        receiver.subscribe_with(subscribe(1, "t", 1).identifier(identifier));
        sender.publish("t", "x");
        assert_eq!(receiver.take().properties, [prop::var(prop::SUBSCRIPTION_IDENTIFIER, identifier)]);
        receiver.leave();
    }
}

/// Also: section 3.3.2, a message of 3.x reaches 5.0 and the other way round
#[test]
fn messages_cross_versions() {
    let stage = Stage::new(Version::V5);
    for from in SINCE_3_1_1 {
        let mut sender = stage.socket_of(from);
        sender.send(Connect::new("sender"));
        sender.expect_connack();
        for to in SINCE_3_1_1 {
            let mut receiver = stage.socket_of(to);
            receiver.send(Connect::new("receiver"));
            receiver.expect_connack();
            receiver.subscribe("t", 2);
            for qos in [1, 2] {
                sender.publish_with(publish("t", "x").qos(qos, 1));
                let message = receiver.take();
                assert_eq!((message.qos, message.properties.len()), (qos, 0), "{from} to {to}");
            }
            receiver.leave();
        }
        sender.leave();
    }
}
