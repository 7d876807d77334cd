//! Section 3.3.4: how much may be under way, in both directions.

use crate::harness::{
    Client, Connect, Packet, Stage, Version, pingreq, prop, puback, pubcomp, publish, pubrec, pubrel,
    subscribe, unsubscribe,
};

const RECEIVE_MAXIMUM_EXCEEDED: u8 = 0x93;

/// Covers: MQTT5-3.3.4-9, MQTT5-4.9.0-1, MQTT5-4.9.0-2
/// Trap: receive maximum ignored
#[test]
fn no_more_than_the_clients_receive_maximum_is_under_way() {
    for maximum in [1_u16, 2, 10] {
        let stage = Stage::new(Version::V5);
        let mut sender = stage.connect("sender");
        let limit = prop::two(prop::RECEIVE_MAXIMUM, maximum);
        let mut client = stage.accepted(Connect::new("c").property(limit));
        client.subscribe("t", 2);
        for no in 0..30_u8 {
            sender.publish_with(publish("t", no.to_string()).qos(1 + no % 2, 1));
        }
        let mut under_way: Vec<_> = (0..maximum).map(|_| client.expect_publish()).collect();
        for _ in 0..30 - maximum {
            client.expect_nothing();
            let done = under_way.remove(0);
            end(&mut client, done.id.unwrap(), done.qos);
            under_way.push(client.expect_publish());
        }
        assert_eq!(under_way.last().unwrap().text(), "29");
    }
}

/// Walks the rest of an exchange; a QoS 2 message frees its place with PUBCOMP and not before.
fn end(client: &mut Client, id: u16, qos: u8) {
    if qos == 1 {
        return client.send(puback(id));
    }
    client.send(pubrec(id));
    client.expect(pubrel(id));
    client.expect_nothing();
    client.send(pubcomp(id));
}

/// Covers: MQTT5-3.3.4-9
#[test]
fn a_refusing_pubrec_or_puback_frees_a_place() {
    let stage = Stage::new(Version::V5);
    let mut sender = stage.connect("sender");
    let one = prop::two(prop::RECEIVE_MAXIMUM, 1);
    let mut client = stage.accepted(Connect::new("c").property(one));
    client.subscribe("t", 2);
    for (no, first) in [(0, 0x50), (1, 0x40), (2, 0x50), (3, 0x40)] {
        let qos = if first == 0x50 { 2 } else { 1 };
        sender.publish_with(publish("t", no.to_string()).qos(qos, 1));
    }
    for no in 0..4 {
        let message = client.expect_publish();
        assert_eq!(message.text(), no.to_string());
        let first = if message.qos == 2 { 0x50 } else { 0x40 };
        client.send(Packet::new(first).u16(message.id.unwrap()).u8(0x80));
    }
    client.expect_nothing();
}

/// Covers: MQTT5-3.3.4-10, MQTT5-4.9.0-3
#[test]
fn a_full_window_holds_back_nothing_but_qos_1_and_2() {
    let stage = Stage::new(Version::V5);
    let mut sender = stage.connect("sender");
    let one = prop::two(prop::RECEIVE_MAXIMUM, 1);
    let mut client = stage.accepted(Connect::new("c").property(one));
    client.subscribe("t", 2);
    for _ in 0..3 {
        sender.publish("t", "QoS 1");
    }
    let first = client.expect_publish();
    client.send(pingreq());
    client.expect([0xD0, 0]);
    client.send(subscribe(2, "u", 0));
    client.next().suback(Version::V5);
    client.send(publish("v", "x").qos(1, 9));
    client.next().ack(0x40, Version::V5);
    client.send(publish("v", "x").qos(2, 10));
    client.next().ack(0x50, Version::V5);
    client.send(pubrel(10));
    client.expect(pubcomp(10));
    client.send(unsubscribe(3, &["v"]));
    client.next().unsuback(Version::V5);
    sender.publish("u", "QoS 0 towards this one");
    client.expect_message("u", "QoS 0 towards this one");
    client.send(puback(first.id.unwrap()));
    client.expect_message("t", "QoS 1");
}

/// Covers: MQTT5-3.3.4-7
/// Trap: QoS 2 id exhaustion
#[test]
fn a_client_that_sends_more_than_the_brokers_receive_maximum_is_closed() {
    let stage = Stage::with(Version::V5, "[limits]\nreceive_maximum = 3");
    let mut client = stage.connect("c");
    for id in 1..=3 {
        client.send(publish("t", "x").qos(2, id));
        client.next().ack(0x50, Version::V5);
    }
    // PUBREC does not end the exchange: these three are under way until PUBCOMP.
    client.send(publish("t", "x").qos(2, 4));
    client.expect_goodbye(RECEIVE_MAXIMUM_EXCEEDED);
    let mut client = stage.connect("c");
    for id in 1..=3 {
        client.send(publish("t", "x").qos(2, id));
        client.next().ack(0x50, Version::V5);
    }
    client.send(publish("t", "x").qos(1, 4));
    client.expect_goodbye(RECEIVE_MAXIMUM_EXCEEDED);
}

/// Covers: MQTT5-3.3.4-7, MQTT5-3.3.4-8
#[test]
fn a_client_within_the_receive_maximum_goes_on_for_ever() {
    let stage = Stage::with(Version::V5, "[limits]\nreceive_maximum = 3");
    let mut client = stage.connect("c");
    for round in 0..50_u16 {
        for id in 1..=3 {
            client.send(publish("t", "x").qos(2, id));
            client.next().ack(0x50, Version::V5);
        }
        client.publish_qos_0("t", "QoS 0 is not counted");
        client.expect_nothing();
        for id in 1..=3 {
            client.send(pubrel(id));
            client.expect(pubcomp(id));
        }
        client.publish_with(publish("t", "x").qos(1, 100 + round));
    }
}

/// Covers: MQTT5-3.3.4-7
/// Also: MQTT 5.0 section 4.9, the send quota begins anew with each connection
#[test]
fn what_an_earlier_connection_left_open_does_not_count_against_the_next() {
    let stage = Stage::with(Version::V5, "[limits]\nreceive_maximum = 3");
    let mut client = stage.accepted(Connect::new("c").durable());
    for id in 1..=3 {
        client.send(publish("t", "x").qos(2, id));
        client.next().ack(0x50, Version::V5);
    }
    client.cut();
    let mut client = stage.accepted(Connect::new("c").durable());
    for id in 4..=6 {
        client.send(publish("t", "x").qos(2, id));
        client.next().ack(0x50, Version::V5);
    }
    for id in 1..=6 {
        client.send(pubrel(id));
        client.expect(pubcomp(id));
    }
}

/// Also: MQTT 3.1.1 has no receive maximum: a client is slowed down and never closed for it
#[test]
fn a_client_of_3_1_1_may_send_as_much_as_it_likes() {
    let stage = Stage::with(Version::V3_1_1, "[limits]\nreceive_maximum = 3");
    let (mut client, mut receiver) = (stage.connect("c"), stage.connect("receiver"));
    receiver.subscribe("t", 1);
    for id in 1..=200 {
        client.send(publish("t", id.to_string()).qos(1, id));
    }
    for id in 1..=200_u16 {
        client.expect(puback(id));
        receiver.expect_message("t", id.to_string());
    }
}
