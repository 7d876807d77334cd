//! Chapters 3.4 to 3.7: PUBACK, PUBREC, PUBREL and PUBCOMP, which share one shape. Their exchanges are in chapter 4.3.

use crate::harness::{
    Connect, Packet, Stage, ToBytes, VERSIONS, Version, ack, ack_with, prop, puback, pubcomp, publish,
    pubrec, pubrel, subscribe, unsubscribe,
};

const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x62;
const PUBCOMP: u8 = 0x70;
const SUBACK: u8 = 0x90;
const UNSUBACK: u8 = 0xB0;
const DISCONNECT: u8 = 0xE0;
const ACKS: [u8; 4] = [PUBACK, PUBREC, PUBREL, PUBCOMP];

const NO_MATCHING_SUBSCRIBERS: u8 = 0x10;
const MALFORMED: u8 = 0x81;
const PROTOCOL_ERROR: u8 = 0x82;
const TOPIC_NAME_INVALID: u8 = 0x90;
const IDENTIFIER_NOT_FOUND: u8 = 0x92;

/// A topic with one level more than the broker takes.
fn too_deep() -> String {
    "a/".repeat(128)
}

/// Covers: MQTT5-3.4.2-1, MQTT5-3.5.2-1
#[test]
fn an_acknowledgement_says_whether_anybody_listens() {
    for stage in Stage::each(&VERSIONS) {
        let (mut sender, mut receiver) = (stage.connect("sender"), stage.connect("receiver"));
        receiver.subscribe("somebody", 0);
        let nobody = if stage.is_v5() { NO_MATCHING_SUBSCRIBERS } else { 0 };
        for (topic, code) in [("nobody", nobody), ("somebody", 0)] {
            sender.send(publish(topic, "x").qos(1, 0x1234));
            sender.expect_ack(PUBACK, 0x1234, code);
            sender.send(publish(topic, "x").qos(2, 0xFFFF));
            sender.expect_ack(PUBREC, 0xFFFF, code);
            sender.send(pubrel(0xFFFF));
            sender.expect_ack(PUBCOMP, 0xFFFF, 0);
        }
    }
}

/// Covers: MQTT5-3.4.2-1, MQTT5-3.5.2-1
#[test]
fn what_goes_nowhere_is_refused_with_a_reason_and_the_connection_stays() {
    let stage = Stage::new(Version::V5);
    let mut client = stage.connect("c");
    client.send(publish(too_deep(), "x").qos(1, 7));
    client.expect_ack(PUBACK, 7, TOPIC_NAME_INVALID);
    client.send(publish(too_deep(), "x").qos(2, 8));
    client.expect_ack(PUBREC, 8, TOPIC_NAME_INVALID);
    client.send(pubrel(8)); // a failing PUBREC has ended the exchange
    client.expect_ack(PUBCOMP, 8, IDENTIFIER_NOT_FOUND);
    client.expect_nothing();
}

/// Covers: MQTT5-3.6.1-1, MQTT3-3.6.1-1
/// Trap: PUBREL with wrong flags
#[test]
fn wrong_flags_of_an_acknowledgement_end_the_connection() {
    for stage in Stage::each(&VERSIONS) {
        for right in ACKS {
            // 3.1 repeats PUBREL with DUP, as PUBREL has QoS 1 there.
            let is_right = |first: u8| first == right || stage.version == Version::V3_1 && first == 0x6A;
            for wrong in (0..16).map(|flags| right & 0xF0 | flags).filter(|first| !is_right(*first)) {
                let mut client = stage.connect("c");
                client.send(ack(wrong, 1));
                client.expect_goodbye(MALFORMED);
            }
        }
    }
    let stage = Stage::new(Version::V3_1);
    let mut client = stage.connect("c");
    client.send(ack(0x6A, 5));
    client.expect(pubcomp(5));
}

/// Trap: packet identifier 0; packets that are cut or have bytes too many; properties that overrun their length or appear twice
#[test]
fn an_acknowledgement_that_cannot_be_read_ends_the_connection() {
    for stage in Stage::each(&VERSIONS) {
        for first in ACKS {
            let with = |tail: &[u8]| Packet::new(first).u16(1).raw(tail);
            let twice = [prop::text(prop::REASON_STRING, "a"), prop::text(prop::REASON_STRING, "b")];
            let mut rows = vec![
                (ack(first, 0), PROTOCOL_ERROR),
                (Packet::new(first), MALFORMED),
                (Packet::new(first).u8(1), MALFORMED),
            ];
            if stage.is_v5() {
                rows.extend([
                    (with(&[0, 1]), MALFORMED),
                    (with(&[0, 0, 9]), MALFORMED),
                    (with(&[0]).properties(&[prop::byte(prop::MAXIMUM_QOS, 1)]), MALFORMED),
                    (with(&[0]).properties(&[prop::text(prop::REASON_STRING, [0xFF])]), MALFORMED),
                    (with(&[0]).properties(&twice), PROTOCOL_ERROR),
                ]);
            } else {
                rows.push((with(&[0]), MALFORMED));
            }
            for (packet, reason) in rows {
                let mut client = stage.connect("c");
                client.send(packet);
                client.expect_goodbye(reason);
            }
        }
    }
}

/// Covers: MQTT5-3.4.2-1, MQTT5-3.5.2-1, MQTT5-3.6.2-1, MQTT5-3.7.2-1
#[test]
fn a_reason_code_of_another_packet_ends_the_connection() {
    const OF_PUBLISH: [u8; 9] = [0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
    const OF_RELEASE: [u8; 2] = [0, IDENTIFIER_NOT_FOUND];
    let stage = Stage::new(Version::V5);
    for first in ACKS {
        let own = if matches!(first, PUBACK | PUBREC) { &OF_PUBLISH[..] } else { &OF_RELEASE[..] };
        let mut client = stage.connect("own");
        for code in own {
            client.send(ack_with(first, 9, *code));
            match first {
                PUBREC if *code < 0x80 => client.expect_unknown(PUBREL, 9),
                PUBREL => client.expect_unknown(PUBCOMP, 9),
                _ => client.expect_nothing(),
            }
        }
        for code in (0..=0xFF).filter(|code| !own.contains(code)) {
            let mut client = stage.connect("foreign");
            client.send(ack_with(first, 9, code));
            client.expect_goodbye(PROTOCOL_ERROR);
        }
    }
}

/// Also: MQTT 5.0 sections 3.4.2.1 and 3.4.2.2.1, the reason code and the property length may be left out
#[test]
fn every_form_of_an_acknowledgement_counts() {
    let properties = [prop::text(prop::REASON_STRING, "fine"), prop::user("k", "v"), prop::user("k", "v")];
    let stage = Stage::new(Version::V5);
    let mut sender = stage.connect("sender");
    // The receive maximum of 1 shows that each form frees the place of its message.
    let one_at_a_time = Connect::new("receiver").property(prop::two(prop::RECEIVE_MAXIMUM, 1));
    let mut receiver = stage.accepted(one_at_a_time);
    receiver.subscribe("t", 2);
    for form in 0..4 {
        let in_form = |packet: Packet| match form {
            0 => packet,
            1 => packet.u8(0),
            2 => packet.u8(0).u8(0),
            _ => packet.u8(0).properties(&properties),
        };
        sender.publish("t", "one");
        let id = receiver.expect_message("t", "one").id.unwrap();
        receiver.send(in_form(puback(id)));
        sender.send(publish("t", "two").qos(2, 5));
        sender.expect(pubrec(5));
        sender.send(in_form(pubrel(5)));
        sender.expect(pubcomp(5));
        let id = receiver.expect_message("t", "two").id.unwrap();
        receiver.send(in_form(pubrec(id)));
        receiver.expect(pubrel(id));
        receiver.send(in_form(pubcomp(id)));
    }
}

/// Covers: MQTT5-3.6.2-1, MQTT5-3.7.2-1
/// Trap: PUBREL for an unknown identifier closes the connection
#[test]
fn an_unknown_identifier_is_answered_and_harms_nobody() {
    for stage in Stage::each(&VERSIONS) {
        let mut client = stage.connect("c");
        client.send(puback(0x0102));
        client.expect_nothing();
        client.send(pubcomp(0x0102));
        client.expect_nothing();
        client.send(pubrec(0x0102));
        client.expect_unknown(PUBREL, 0x0102);
        client.send(pubrel(0x0102));
        client.expect_unknown(PUBCOMP, 0x0102);
        client.expect_nothing();
    }
}

/// Also: section 4.3, a message is acknowledged with the packets of its QoS
#[test]
fn an_acknowledgement_of_the_wrong_kind_ends_the_connection() {
    for stage in Stage::each(&VERSIONS) {
        for (qos, wrong) in [(1, PUBREC), (1, PUBCOMP), (2, PUBACK), (2, PUBCOMP)] {
            let (mut sender, mut receiver) = (stage.connect("sender"), stage.connect("receiver"));
            receiver.subscribe("t", 2);
            sender.publish_with(publish("t", "x").qos(qos, 3));
            let id = receiver.expect_publish().id.unwrap();
            receiver.send(ack(wrong, id));
            receiver.expect_goodbye(PROTOCOL_ERROR);
        }
    }
}

/// Covers: MQTT5-3.4.2-2, MQTT5-3.4.2-3, MQTT5-3.5.2-2, MQTT5-3.5.2-3, MQTT5-3.6.2-2, MQTT5-3.6.2-3
/// Covers: MQTT5-3.7.2-2, MQTT5-3.7.2-3, MQTT5-3.9.2-1, MQTT5-3.9.2-2, MQTT5-3.11.2-1, MQTT5-3.11.2-2
/// Covers: MQTT5-3.14.2-3, MQTT5-3.14.2-4
#[test]
fn no_words_outgrow_the_clients_maximum_packet_size() {
    let bytes = |packet: &dyn ToBytes| packet.to_bytes(Version::V5);
    let requests = [
        (PUBACK, bytes(&publish(too_deep(), "x").qos(1, 1))),
        (PUBREC, bytes(&publish(too_deep(), "x").qos(2, 2))),
        (PUBREL, bytes(&pubrec(3))),
        (PUBCOMP, bytes(&pubrel(4))),
        (SUBACK, bytes(&subscribe(5, "a#", 0))),
        (UNSUBACK, bytes(&unsubscribe(6, &["a#"]))),
        (DISCONNECT, bytes(&Packet::new(0xC0).u8(1))), // PINGREQ with a body
    ];
    let stage = Stage::new(Version::V5);
    for maximum in [16, 24, 32, 48, 64] {
        let limit = prop::four(prop::MAXIMUM_PACKET_SIZE, maximum);
        let mut client = stage.accepted(Connect::new("c").property(limit)); // with less it could not be answered
        for (answer, request) in &requests {
            client.send(request.as_slice());
            let frame = client.next();
            assert_eq!(frame.first, *answer, "{frame:?}");
            assert!(frame.bytes.len() <= maximum as usize, "more than {maximum}: {frame:?}");
        }
    }
}
