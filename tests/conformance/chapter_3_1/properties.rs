//! Section 3.1.2.11: what a client of 5.0 asks for and allows.

use crate::harness::{
    Connect, Packet, Property, Stage, ToBytes, Version, hex, prop, puback, publish, subscribe, unsubscribe,
};

const MALFORMED: u8 = 0x81;
const PROTOCOL_ERROR: u8 = 0x82;
const BAD_AUTHENTICATION_METHOD: u8 = 0x8C;

/// Also: MQTT 5.0 section 3.1.2.11, values that a property of CONNECT cannot have
/// Trap: receive maximum 0
#[test]
fn values_that_a_property_cannot_have_are_protocol_errors() {
    let stage = Stage::new(Version::V5);
    let rows = [
        prop::two(prop::RECEIVE_MAXIMUM, 0),
        prop::four(prop::MAXIMUM_PACKET_SIZE, 0),
        prop::byte(prop::REQUEST_RESPONSE_INFORMATION, 2),
        prop::byte(prop::REQUEST_PROBLEM_INFORMATION, 2),
        prop::byte(prop::REQUEST_PROBLEM_INFORMATION, 0xFF),
        prop::text(prop::AUTHENTICATION_DATA, "without a method"),
    ];
    for property in rows {
        stage.expect_refusal(Connect::new("c").property(property), PROTOCOL_ERROR, None);
    }
    for short in ["21 01", "27 000001", "11 0000", "17", "26 0001 'a' 0005 'b'"] {
        stage.expect_refusal(Connect::new("c").property(Property(hex(short))), MALFORMED, None);
    }
}

/// Also: MQTT 5.0 section 3.1.2.11.8, user properties of CONNECT have no meaning of their own
#[test]
fn every_property_of_connect_is_taken_at_once_in_any_order() {
    let stage = Stage::new(Version::V5);
    let properties = [
        prop::user("a", ""),
        prop::four(prop::MAXIMUM_PACKET_SIZE, u32::MAX),
        prop::two(prop::TOPIC_ALIAS_MAXIMUM, u16::MAX),
        prop::user("", "b"),
        prop::byte(prop::REQUEST_PROBLEM_INFORMATION, 1),
        prop::two(prop::RECEIVE_MAXIMUM, 1),
        prop::byte(prop::REQUEST_RESPONSE_INFORMATION, 1),
        prop::four(prop::SESSION_EXPIRY, 1),
    ];
    for turn in 0..properties.len() {
        let mut connect = Connect::new("c");
        connect.properties = [&properties[turn..], &properties[..turn]].concat();
        stage.accepted(connect);
    }
}

/// Covers: MQTT5-4.12.0-1, MQTT5-3.1.4-2
#[test]
fn an_authentication_method_that_nobody_configured_is_refused() {
    let stage = Stage::new(Version::V5);
    let method = prop::text(prop::AUTHENTICATION_METHOD, "PIGEON-POST");
    let data = prop::text(prop::AUTHENTICATION_DATA, b"\x00\x01");
    let connect = || Connect::new("c").property(method.clone());
    stage.expect_refusal(connect(), BAD_AUTHENTICATION_METHOD, None);
    stage.expect_refusal(connect().property(data), BAD_AUTHENTICATION_METHOD, None);
}

/// Sends one message of this many bytes as a whole packet of 5.0 towards a receiver.
fn of_size(size: usize, qos: u8) -> (Vec<u8>, usize) {
    let head = match qos {
        0 => publish("t", "").to_bytes(Version::V5).len(),
        _ => publish("t", "").qos(qos, 1).to_bytes(Version::V5).len(),
    };
    (vec![b'x'; size - head], size)
}

/// Covers: MQTT5-3.1.2-24, MQTT5-3.1.2-25
/// Trap: maximum packet size ignored
#[test]
fn a_message_that_is_too_large_for_the_client_is_dropped_and_counts_as_delivered() {
    for qos in [0, 1, 2] {
        let stage = Stage::new(Version::V5);
        let limit = prop::four(prop::MAXIMUM_PACKET_SIZE, 100);
        let mut client = stage.accepted(Connect::new("c").property(limit));
        let (mut unlimited, mut sender) = (stage.connect("unlimited"), stage.connect("sender"));
        for receiver in [&mut client, &mut unlimited] {
            receiver.subscribe("t", qos);
        }
        for size in [99, 100, 101, 120, 100] {
            let (payload, _) = of_size(size, qos);
            let packet = publish("t", &payload);
            sender.publish_with(if qos == 0 { packet } else { packet.qos(qos, 1) });
            assert_eq!(unlimited.take().payload, payload);
            if size <= 100 {
                let bytes = client.take();
                assert_eq!(bytes.payload, payload, "{size}");
            }
        }
        client.expect_nothing();
    }
}

/// Covers: MQTT5-3.1.2-25
/// Trap: one oversized queued message does not stall the queue
#[test]
fn a_message_that_is_too_large_does_not_stall_the_queue() {
    let stage = Stage::new(Version::V5);
    let mut client = stage.accepted(Connect::new("c").durable());
    client.subscribe("t", 2);
    client.leave();
    let mut sender = stage.connect("sender");
    for (qos, payload) in [(1, "a"), (2, "b"), (1, "c"), (2, "d")] {
        sender.publish_with(publish("t", payload).qos(qos, 1));
        sender.publish_with(publish("t", [b'x'; 500]).qos(qos, 1));
    }
    let limits = [prop::four(prop::MAXIMUM_PACKET_SIZE, 100), prop::two(prop::RECEIVE_MAXIMUM, 1)];
    let [size, window] = limits.clone();
    let mut client = stage.accepted(Connect::new("c").durable().property(size).property(window));
    for wanted in ["a", "b", "c", "d"] {
        assert_eq!(client.take().text(), wanted);
    }
    client.expect_nothing();
    // It is gone for good: a later connection without the limit does not get it either.
    client.leave();
    stage.accepted(Connect::new("c").durable()).expect_nothing();
}

/// Covers: MQTT5-3.1.2-24, MQTT5-3.2.2-19, MQTT5-3.2.2-20
#[test]
fn a_connack_that_does_not_fit_is_not_sent_and_the_client_is_not_left_waiting() {
    let stage = Stage::new(Version::V5);
    // Only a CONNACK without properties, or not even that, would fit these; a CONNECT that cannot be answered is closed.
    for size in [1, 4, 5, 10] {
        let limit = prop::four(prop::MAXIMUM_PACKET_SIZE, size);
        let mut client = stage.socket();
        client.send(Connect::new("c").property(limit));
        if let Some(frame) = client.next_or_end() {
            assert!(frame.bytes.len() <= size as usize, "{size}: {frame:?}");
            assert!(frame.connack(Version::V5).code >= 0x80, "what could not be told holds all the same");
            client.expect_end();
        }
    }
    let limit = prop::four(prop::MAXIMUM_PACKET_SIZE, 60);
    stage.accepted(Connect::new("c").property(limit)).expect_nothing();
}

/// Covers: MQTT5-3.1.2-24, MQTT5-3.2.2-19
#[test]
fn a_refusal_that_does_not_fit_is_not_sent() {
    const NOT_AUTHORIZED: u8 = 0x87;
    let stage = Stage::with(Version::V5, "allow_anonymous = false\n[[users]]\nname = 'u'\npassword = 'p'");
    for size in 1..=6 {
        let limit = prop::four(prop::MAXIMUM_PACKET_SIZE, size);
        let told = stage.refusal(Connect::new("c").property(limit));
        let told = told.map(|frame| frame.connack(Version::V5).code);
        assert_eq!(
            told,
            (size >= 5).then_some(NOT_AUTHORIZED),
            "a bare CONNACK has 5 bytes, the limit is {size}"
        );
    }
}

/// Covers: MQTT5-3.1.2-24, MQTT5-3.9.2-1, MQTT5-3.9.2-2
#[test]
fn a_suback_that_does_not_fit_ends_the_connection_instead_of_being_forgotten() {
    let stage = Stage::new(Version::V5);
    let limit = prop::four(prop::MAXIMUM_PACKET_SIZE, 50);
    let many =
        |count: u8| (2..=count).fold(subscribe(1, "t/1", 0), |packet, no| packet.and(format!("t/{no}"), 0));
    let mut client = stage.accepted(Connect::new("c").property(limit));
    client.subscribe_with(many(45)); // two bytes of header, two of identifier, no properties: 50 bytes
    client.send(many(46));
    client.expect_goodbye(0x95);
}

/// Covers: MQTT5-3.1.2-28
/// Also: MQTT 5.0 section 3.2.2.3.15, response information for those who ask
#[test]
fn response_information_comes_to_those_who_ask_for_it() {
    let stage = Stage::with(Version::V5, "[control]\nresponse_information = 'reply/%c/'");
    let ask = |value| prop::byte(prop::REQUEST_RESPONSE_INFORMATION, value);
    for connect in [Connect::new("c"), Connect::new("c").property(ask(0))] {
        let (_client, connack) = stage.open(connect);
        assert_eq!(connack.property(prop::RESPONSE_INFORMATION), None);
    }
    let (_client, connack) = stage.open(Connect::new("c").property(ask(1)));
    assert_eq!(connack.property(prop::RESPONSE_INFORMATION).unwrap().text(), "reply/c/");
    // Where there is no room for it, it stays behind, and CONNACK comes all the same.
    let limit = prop::four(prop::MAXIMUM_PACKET_SIZE, 50);
    let (_client, connack) = stage.open(Connect::new("c".repeat(100)).property(ask(1)).property(limit));
    assert_eq!((connack.code, connack.property(prop::RESPONSE_INFORMATION)), (0, None));
}

/// Everything that a client can be told about, with and without problems.
fn answers(connect: Connect) -> Vec<Vec<Property>> {
    let stage = Stage::new(Version::V5);
    let mut client = stage.accepted(connect);
    let mut all = Vec::new();
    client.send(subscribe(1, "a/#/b", 0).and("t", 0).and("$push/v1/x", 0));
    all.push(client.next().suback(Version::V5).properties);
    client.send(unsubscribe(2, &["nowhere", "a/#/b"]));
    all.push(client.next().unsuback(Version::V5).properties);
    client.send(publish("nobody/listens", "x").qos(1, 3));
    all.push(client.next().ack(0x40, Version::V5).properties);
    client.send(publish("$SYS/forbidden", "x").qos(1, 4));
    all.push(client.next().ack(0x40, Version::V5).properties);
    client.send(publish("$SYS/forbidden", "x").qos(2, 5));
    all.push(client.next().ack(0x50, Version::V5).properties);
    client.send(hex("62 02 0063"));
    all.push(client.next().ack(0x70, Version::V5).properties);
    client.send(hex("50 02 0063"));
    all.push(client.next().ack(0x62, Version::V5).properties);
    all
}

/// Covers: MQTT5-3.1.2-29
#[test]
fn without_request_problem_information_nothing_is_explained() {
    let no = prop::byte(prop::REQUEST_PROBLEM_INFORMATION, 0);
    for properties in answers(Connect::new("c").property(no)) {
        assert_eq!(properties, []);
    }
    let explained = answers(Connect::new("c"));
    let has_words =
        |properties: &Vec<Property>| properties.iter().any(|property| property.id() == prop::REASON_STRING);
    assert!(explained.iter().any(has_words), "those who want to hear why do");
    for properties in explained {
        for property in properties {
            assert!(matches!(property.id(), prop::REASON_STRING | prop::USER_PROPERTY), "{property:?}");
        }
    }
}

/// Also: MQTT 5.0 section 3.1.2.11.3, receive maximum bounds what is under way to the client
#[test]
fn the_receive_maximum_of_the_client_holds_from_the_first_message() {
    let stage = Stage::new(Version::V5);
    let mut client = stage.accepted(Connect::new("c").durable());
    client.subscribe("t", 1);
    client.leave();
    let mut sender = stage.connect("sender");
    for no in 0..5 {
        sender.publish("t", no.to_string());
    }
    let two = prop::two(prop::RECEIVE_MAXIMUM, 2);
    let mut client = stage.accepted(Connect::new("c").durable().property(two));
    let (first, second) = (client.expect_publish(), client.expect_publish());
    client.expect_nothing();
    client.send(puback(second.id.unwrap()));
    let third = client.expect_publish();
    client.expect_nothing();
    client.send(Packet::new(0x40).u16(first.id.unwrap()).u8(0x80).u8(0)); // a refusal frees a place too
    client.send(puback(third.id.unwrap()));
    assert_eq!((client.take().text(), client.take().text()), ("3", "4"));
}
