//! Chapter 4.9: flow control, in both directions.

use crate::harness::{
    Connect, OLD, Stage, ToBytes, Version, ack_with, prop, puback, pubcomp, publish, pubrec, pubrel,
    unsubscribe,
};

const PUBREC: u8 = 0x50;
const UNSPECIFIED_ERROR: u8 = 0x80;
const RECEIVE_MAXIMUM_EXCEEDED: u8 = 0x93;

fn allowing(messages: u16) -> Connect {
    Connect::new("receiver").durable().property(prop::two(prop::RECEIVE_MAXIMUM, messages))
}

/// Covers: MQTT5-4.9.0-1, MQTT5-4.9.0-2
/// Trap: receive maximum ignored
#[test]
fn no_more_messages_are_on_their_way_than_the_client_allows() {
    let stage = Stage::new(Version::V5);
    for maximum in [1, 2, 5] {
        let mut receiver = stage.accepted(allowing(maximum));
        receiver.subscribe("t", 2);
        let mut sender = stage.connect("sender");
        for number in 0..10 {
            sender.publish_with(publish("t", "x").qos(1 + number % 2, 1));
        }
        let mut on_their_way: Vec<_> = (0..maximum).map(|_| receiver.expect_publish()).collect();
        receiver.expect_nothing();
        let mut left = 10 - maximum;
        while let Some(first) = (!on_their_way.is_empty()).then(|| on_their_way.remove(0)) {
            let id = first.id.unwrap();
            if first.qos == 1 {
                receiver.send(puback(id));
            } else {
                receiver.send(pubrec(id));
                receiver.expect(pubrel(id));
                receiver.expect_nothing(); // only PUBCOMP gives the place back
                receiver.send(pubcomp(id));
            }
            if left > 0 {
                left -= 1;
                on_their_way.push(receiver.expect_publish());
            }
            receiver.expect_nothing();
        }
        stage.connect("receiver").leave();
    }
}

/// Covers: MQTT5-4.9.0-2
#[test]
fn a_refusal_gives_the_place_back() {
    let stage = Stage::new(Version::V5);
    let mut receiver = stage.accepted(allowing(1));
    receiver.subscribe("t", 2);
    let mut sender = stage.connect("sender");
    for (payload, qos) in [("1", 1), ("2", 2), ("3", 1)] {
        sender.publish_with(publish("t", payload).qos(qos, 1));
    }
    let one = receiver.expect_message("t", "1").id.unwrap();
    receiver.send(ack_with(0x40, one, UNSPECIFIED_ERROR));
    let two = receiver.expect_message("t", "2").id.unwrap();
    receiver.send(ack_with(PUBREC, two, UNSPECIFIED_ERROR));
    receiver.expect_message("t", "3");
}

/// Covers: MQTT5-4.9.0-1
#[test]
fn the_quota_begins_anew_with_each_connection() {
    let stage = Stage::new(Version::V5);
    let mut receiver = stage.accepted(allowing(2));
    receiver.subscribe("t", 2);
    let mut sender = stage.connect("sender");
    for payload in ["1", "2", "3", "4"] {
        sender.publish("t", payload);
    }
    receiver.expect_payloads(&["1", "2"]);
    receiver.expect_nothing();
    for (maximum, payloads) in [(3, &["1", "2", "3"][..]), (1, &["1"]), (9, &["1", "2", "3", "4"])] {
        let mut receiver = stage.accepted(allowing(maximum));
        receiver.expect_payloads(payloads);
        receiver.expect_nothing();
    }
}

/// A PUBREL takes a place as its PUBLISH did.
///
/// Covers: MQTT5-4.9.0-2
#[test]
fn a_released_message_keeps_its_place_over_a_reconnect() {
    let stage = Stage::new(Version::V5);
    let mut receiver = stage.accepted(allowing(1));
    receiver.subscribe("t", 2);
    let mut sender = stage.connect("sender");
    sender.publish_with(publish("t", "1").qos(2, 1));
    sender.publish("t", "2");
    let one = receiver.expect_message("t", "1").id.unwrap();
    receiver.send(pubrec(one));
    receiver.expect(pubrel(one));
    let mut receiver = stage.accepted(allowing(1));
    receiver.expect(pubrel(one));
    receiver.expect_nothing();
    receiver.send(pubcomp(one));
    receiver.expect_message("t", "2");
}

/// Covers: MQTT5-4.9.0-3
#[test]
fn a_client_without_quota_is_served_with_everything_else() {
    let stage = Stage::new(Version::V5);
    let mut receiver = stage.accepted(allowing(1));
    receiver.subscribe("t", 1);
    let mut sender = stage.connect("sender");
    sender.publish("t", "1");
    sender.publish("t", "2");
    let one = receiver.expect_message("t", "1").id.unwrap();
    receiver.expect_nothing(); // PINGREQ
    receiver.subscribe("u", 0);
    sender.send(publish("u", "QoS 0"));
    receiver.expect_message("u", "QoS 0");
    receiver.publish("nobody", "QoS 1");
    receiver.publish_with(publish("nobody", "QoS 2").qos(2, 7));
    receiver.send(unsubscribe(5, &["u"]));
    receiver.expect_unsuback(5, &[0]);
    receiver.send(puback(one));
    receiver.expect_message("t", "2");
}

/// Also: MQTT 5.0 section 4.9, a client that sends more than the broker allows hears 0x93
/// Trap: QoS 2 identifiers are taken without end
#[test]
fn a_client_that_sends_more_than_it_may_is_ended() {
    let stage = Stage::with(Version::V5, "limits.receive_maximum = 2");
    let (mut client, connack) = stage.open(Connect::new("c").durable());
    assert_eq!(connack.property(prop::RECEIVE_MAXIMUM).map(|property| property.number()), Some(2));
    let message = |id| publish("nobody", "x").qos(2, id);
    for id in [1, 2] {
        client.send(message(id));
        client.expect_ack(PUBREC, id, 0x10);
    }
    client.send(message(2).dup()); // takes no further place
    client.expect_ack(PUBREC, 2, 0);
    client.send(pubrel(1)); // PUBCOMP gives the place back
    client.expect(pubcomp(1));
    client.send(message(3));
    client.expect_ack(PUBREC, 3, 0x10);
    client.send(message(4));
    client.expect_goodbye(RECEIVE_MAXIMUM_EXCEEDED);
    // The next connection begins with a quota of 2, whatever is not released yet.
    let mut client = stage.accepted(Connect::new("c").durable());
    for id in [4, 5] {
        client.send(message(id));
        client.expect_ack(PUBREC, id, 0x10);
    }
    client.send(message(6));
    client.expect_goodbye(RECEIVE_MAXIMUM_EXCEEDED);
}

/// Also: MQTT 5.0 section 4.9, a refused message takes no place
#[test]
fn a_message_that_was_refused_takes_no_place() {
    let stage = Stage::with(Version::V5, "limits.receive_maximum = 1");
    let mut client = stage.connect("c");
    for id in 1..5 {
        client.send(publish("a/".repeat(128), "x").qos(2, id));
        client.expect_ack(PUBREC, id, 0x90);
    }
    client.publish("nobody", "still served");
}

/// Also: MQTT 5.0 section 4.9, older versions have no receive maximum: they are slowed down and not ended
#[test]
fn older_clients_are_slowed_down_and_not_ended() {
    for version in OLD {
        let stage = Stage::with(version, "limits.receive_maximum = 2");
        let mut client = stage.connect("c");
        let all: Vec<u8> = (1..=50).flat_map(|id| publish("t", "x").qos(1, id).to_bytes(version)).collect();
        client.send(all);
        for id in 1..=50 {
            client.expect(puback(id));
        }
        for id in 1..=50 {
            client.send(publish("t", "x").qos(2, id));
            client.expect(pubrec(id));
        }
        for id in 1..=50 {
            client.send(pubrel(id));
            client.expect(pubcomp(id));
        }
    }
}
