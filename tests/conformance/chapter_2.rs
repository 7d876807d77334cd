//! Chapter 2: what all packets have in common.

use crate::harness::{
    Client, Connect, Packet, Property, SINCE_3_1_1, Stage, ToBytes, VERSIONS, Version, Will, hex, pingreq,
    prop, puback, pubcomp, publish, pubrec, pubrel, subscribe, unsubscribe,
};
use std::collections::HashSet;

const MALFORMED: u8 = 0x81;
const PROTOCOL_ERROR: u8 = 0x82;
const TOO_LARGE: u8 = 0x95;

/// The packets that a client may send, whole and right.
fn packets(version: Version) -> Vec<Vec<u8>> {
    let mut packets = vec![
        publish("t", "x").to_bytes(version),
        publish("t", "x").qos(1, 1).to_bytes(version),
        publish("t", "x").qos(2, 2).to_bytes(version),
        puback(9).bytes(),
        pubrec(9).bytes(),
        pubrel(9).bytes(),
        hex("70 02 0009"),
        subscribe(3, "t", 0).to_bytes(version),
        unsubscribe(4, &["t"]).to_bytes(version),
        pingreq().bytes(),
        hex("e0 00"),
    ];
    if version == Version::V5 {
        packets.push(hex("f0 00"));
    }
    packets
}

/// Sends bytes on a connection of their own and wants it ended for that reason.
fn is_refused(stage: &Stage, packet: impl ToBytes, code: u8, what: &str) {
    let mut client = stage.connect("c");
    client.send(packet);
    let frame = client.next_or_end();
    let reason = frame.as_ref().map(|frame| frame.disconnect().code);
    assert_eq!(reason, stage.is_v5().then_some(code), "{what} {frame:?}");
    client.expect_end();
}

/// Covers: MQTT3-2.2.2-1, MQTT3-2.2.2-2, MQTT5-2.1.3-1
/// Trap: SUBSCRIBE, UNSUBSCRIBE or PUBREL with wrong flags
#[test]
fn reserved_flags_of_the_fixed_header_end_the_connection() {
    for stage in Stage::each(&VERSIONS) {
        let fixed = packets(stage.version).into_iter().filter(|packet| packet[0] >> 4 != 3);
        for packet in fixed {
            for flags in (0..16).filter(|flags| *flags != packet[0] & 0x0F) {
                // 3.1 sends these three with QoS 1, so again with DUP.
                let has_qos_1 = matches!(packet[0] >> 4, 6 | 8 | 10);
                if stage.version == Version::V3_1 && has_qos_1 && flags == 0x0A {
                    continue;
                }
                let mut wrong = packet.clone();
                wrong[0] = packet[0] & 0xF0 | flags;
                is_refused(&stage, &wrong[..], MALFORMED, &format!("{:02x}", wrong[0]));
            }
        }
    }
    for stage in Stage::each(&VERSIONS) {
        for flags in 1..16 {
            let mut connect = Connect::new("c").to_bytes(stage.version);
            connect[0] |= flags;
            assert!(
                stage.refusal(connect).is_none_or(|answer| answer.connack(stage.version).code == MALFORMED),
                "CONNECT with flags {flags:#x}"
            );
        }
    }
}

/// Also: MQTT 3.1 section 2.1, PUBREL, SUBSCRIBE and UNSUBSCRIBE are sent again with DUP
#[test]
fn mqtt_3_1_repeats_subscribe_unsubscribe_and_pubrel_with_dup() {
    let stage = Stage::new(Version::V3_1);
    let mut client = stage.connect("c");
    client.send(hex("8a 06 0001 0001 't' 00"));
    client.expect(hex("90 03 0001 00"));
    client.send(hex("aa 05 0002 0001 't'"));
    client.expect(hex("b0 02 0002"));
    client.send(publish("t", "x").qos(2, 3));
    client.expect(hex("50 02 0003"));
    client.send(hex("6a 02 0003"));
    client.expect(hex("70 02 0003"));
}

/// Also: section 2.1.2 (3.1.1: 2.2.1), packet types 0 and, before 5.0, 15 are reserved
#[test]
fn packet_types_that_do_not_exist_end_the_connection() {
    for stage in Stage::each(&VERSIONS) {
        is_refused(&stage, hex("00 00"), MALFORMED, "type 0");
        is_refused(&stage, hex("0f 02 0001"), MALFORMED, "type 0 with flags");
        if !stage.is_v5() {
            is_refused(&stage, hex("f0 00"), MALFORMED, "AUTH");
        }
    }
}

/// Trap: packets that only a server may send (CONNACK from a client: panic)
/// Also: section 2.1.2 (3.1.1: 2.2.1), the direction of each packet type
#[test]
fn what_only_a_server_may_send_ends_the_connection_of_a_client() {
    for stage in Stage::each(&VERSIONS) {
        let is_v5 = stage.is_v5();
        let rows = [
            if is_v5 { hex("20 03 00 00 00") } else { hex("20 02 00 00") },
            if is_v5 { hex("90 04 0001 00 00") } else { hex("90 03 0001 00") },
            if is_v5 { hex("b0 04 0001 00 00") } else { hex("b0 02 0001") },
            hex("d0 00"),
        ];
        for packet in rows {
            is_refused(&stage, &packet[..], PROTOCOL_ERROR, &format!("{:02x}", packet[0]));
        }
    }
}

/// Covers: MQTT3-2.3.1-1, MQTT5-2.2.1-3
/// Trap: packet identifier 0
#[test]
fn packet_identifier_0_ends_the_connection() {
    for stage in Stage::each(&VERSIONS) {
        let rows = [
            publish("t", "x").qos(1, 0).to_bytes(stage.version),
            publish("t", "x").qos(2, 0).to_bytes(stage.version),
            subscribe(0, "t", 0).to_bytes(stage.version),
            unsubscribe(0, &["t"]).to_bytes(stage.version),
            puback(0).bytes(),
            pubrec(0).bytes(),
            pubrel(0).bytes(),
            hex("70 02 0000"),
        ];
        for packet in rows {
            is_refused(&stage, &packet[..], PROTOCOL_ERROR, &format!("{packet:02x?}"));
        }
    }
}

/// Covers: MQTT3-2.3.1-4, MQTT5-2.2.1-4
#[test]
fn messages_in_flight_have_identifiers_of_their_own() {
    for stage in Stage::everywhere(&VERSIONS) {
        let (mut receiver, mut sender) = (stage.connect("receiver"), stage.connect("sender"));
        receiver.subscribe("t", 2);
        for no in 0..100 {
            sender.publish_with(publish("t", "x").qos(1 + no % 2, 1));
        }
        let ids: HashSet<u16> = (0..100).filter_map(|_| receiver.expect_publish().id).collect();
        assert_eq!(ids.len(), 100, "each its own");
        assert!(!ids.contains(&0));
    }
}

/// Covers: MQTT3-2.3.1-4, MQTT5-2.2.1-4
#[test]
fn an_identifier_that_is_in_use_is_left_out_when_they_begin_anew() {
    const OTHERS: usize = 65_534;
    let stage = Stage::new(Version::V3_1_1);
    let (mut receiver, mut sender) = (stage.connect("receiver"), stage.connect("sender"));
    receiver.subscribe("t", 1);
    sender.publish("t", "kept");
    let kept = receiver.expect_message("t", "kept").id.unwrap();
    let one = publish("t", "x").qos(1, 7).to_bytes(stage.version);
    for at_once in [500; OTHERS / 500].into_iter().chain([OTHERS % 500]) {
        sender.send(one.repeat(at_once));
        let mut acks = Vec::new();
        for _ in 0..at_once {
            sender.expect_ack(0x40, 7, 0);
            let id = receiver.expect_publish().id.unwrap();
            assert_ne!(id, kept, "in use");
            acks.extend(puback(id).bytes());
        }
        receiver.send(acks);
    }
    sender.publish("t", "after all others");
    receiver.send(pingreq());
    let next = receiver.next();
    if next.first >> 4 == 3 {
        assert_ne!(next.publish(stage.version).id, Some(kept), "in use");
    } else {
        receiver.send(puback(kept)); // a broker may also wait for it
        assert_eq!(receiver.expect_publish().text(), "after all others");
    }
}

/// Covers: MQTT3-2.3.1-5, MQTT5-2.2.1-2
#[test]
fn a_qos_0_message_has_no_identifier_in_either_direction() {
    for stage in Stage::each(&VERSIONS) {
        let mut client = stage.connect("c");
        client.subscribe("t", 2);
        // What would be an identifier is payload, of what comes in and of what goes out.
        let bytes = if stage.is_v5() { hex("30 06 0001 't' 00 0007") } else { hex("30 05 0001 't' 0007") };
        client.send(&bytes[..]);
        client.expect(bytes);
    }
}

/// Covers: MQTT3-2.3.1-6, MQTT5-2.2.1-5, MQTT3-2.3.1-7, MQTT5-2.2.1-6
#[test]
fn answers_have_the_identifier_of_what_they_answer() {
    for stage in Stage::each(&VERSIONS) {
        let mut client = stage.connect("c");
        for id in [1, 2, 255, 256, 32_768, 65_535] {
            client.send(subscribe(id, "other", 0));
            assert_eq!(client.next().suback(stage.version).id, id);
            client.send(publish("other/topic", "x").qos(1, id));
            assert_eq!(client.next().ack(0x40, stage.version).id, id);
            client.send(publish("other/topic", "x").qos(2, id));
            assert_eq!(client.next().ack(0x50, stage.version).id, id);
            client.send(pubrel(id));
            assert_eq!(client.next().ack(0x70, stage.version).id, id);
            client.send(unsubscribe(id, &["other"]));
            assert_eq!(client.next().unsuback(stage.version).id, id);
        }
        let mut sender = stage.connect("sender");
        client.subscribe("t", 2);
        sender.publish_with(publish("t", "x").qos(2, 5));
        let id = client.expect_publish().id.unwrap();
        client.send(pubrec(id));
        client.expect(pubrel(id)); // towards a receiver PUBREL is the answer
    }
}

/// Also: section 2.2.1 (3.1.1: 2.3.1), client and server give identifiers independently of each other
#[test]
fn the_same_identifier_may_be_in_use_in_both_directions() {
    for stage in Stage::each(&VERSIONS) {
        let (mut client, mut other) = (stage.connect("c"), stage.connect("other"));
        client.subscribe("to/c", 2);
        other.subscribe("to/other", 2);
        other.publish_with(publish("to/c", "x").qos(2, 1));
        let id = client.expect_publish().id.unwrap();
        client.send(publish("to/other", "y").qos(2, id));
        client.expect_ack(0x50, id, 0);
        client.send(pubrec(id));
        client.expect(pubrel(id));
        client.send(pubrel(id));
        client.expect_ack(0x70, id, 0);
        client.send(pubcomp(id));
        client.expect_nothing();
        assert_eq!(other.expect_publish().text(), "y");
    }
}

/// Covers: MQTT5-2.2.2-1
#[test]
fn packets_without_properties_say_so() {
    let stage = Stage::new(Version::V5);
    let mut client = stage.connect("c");
    client.send(hex("82 07 0001 00 0001 't' 00"));
    client.expect(hex("90 04 0001 00 00"));
    client.send(hex("30 05 0001 't' 00 'x'"));
    client.expect(hex("30 05 0001 't' 00 'x'"));
    client.send(hex("a2 06 0002 00 0001 't'"));
    client.expect(hex("b0 04 0002 00 00"));
    // Where the length is missing, what follows is taken for it.
    for packet in ["30 03 0001 't'", "82 02 0001", "a2 02 0001", "10 0c 0004 'MQTT' 05 02 0000 0001"] {
        let bytes = hex(packet);
        if bytes[0] == 0x10 {
            stage.expect_refusal(bytes, MALFORMED, None);
        } else {
            is_refused(&stage, bytes, MALFORMED, packet);
        }
    }
}

/// One value for each property of the table, and the packets from a client that it belongs to.
const PROPERTIES: [(&str, &[u8]); 27] = [
    ("01 00", b"pw"),
    ("02 00000001", b"pw"),
    ("03 0001 'a'", b"pw"),
    ("08 0001 'a'", b"pw"),
    ("09 0001 'a'", b"pw"),
    ("0b 01", b"ps"),
    ("11 00000001", b"cd"),
    ("12 0001 'a'", b""),
    ("13 0001", b""),
    ("15 0001 'a'", b"cx"),
    ("16 0001 'a'", b"cx"),
    ("17 00", b"c"),
    ("18 00000001", b"w"),
    ("19 00", b"c"),
    ("1a 0001 'a'", b""),
    ("1c 0001 'a'", b"d"),
    ("1f 0001 'a'", b"adx"),
    ("21 0001", b"c"),
    ("22 0001", b"c"),
    ("23 0001", b"p"),
    ("24 00", b""),
    ("25 00", b""),
    ("26 0001 'a' 0001 'b'", b"cwpasudx"),
    ("27 00010000", b"c"),
    ("28 00", b""),
    ("29 00", b""),
    ("2a 00", b""),
];

/// A packet of a connected client with these properties.
fn with_properties(packet: u8, properties: &[Property]) -> Packet {
    match packet {
        b'p' => Packet::new(0x30).text("t").properties(properties),
        b'a' => Packet::new(0x40).u16(1).u8(0).properties(properties),
        b's' => Packet::new(0x82).u16(1).properties(properties).text("t").u8(0),
        b'u' => Packet::new(0xA2).u16(1).properties(properties).text("t"),
        b'd' => Packet::new(0xE0).u8(0).properties(properties),
        _ => Packet::new(0xF0).u8(0x19).properties(properties),
    }
}

/// Also: section 2.2.2.2, a property that does not belong to its packet makes it malformed
/// Trap: properties that do not belong to the packet
#[test]
fn a_property_in_a_packet_that_it_does_not_belong_to_is_malformed() {
    let stage = Stage::new(Version::V5);
    for (text, packets) in PROPERTIES {
        let property = Property(hex(text));
        for packet in *b"pasudx" {
            if !packets.contains(&packet) {
                is_refused(
                    &stage,
                    with_properties(packet, std::slice::from_ref(&property)),
                    MALFORMED,
                    &format!("{text} in {}", char::from(packet)),
                );
            }
        }
        if !packets.contains(&b'c') {
            stage.expect_refusal(Connect::new("c").property(property.clone()), MALFORMED, None);
        }
        if !packets.contains(&b'w') {
            let will = Will::new("t", "x").property(property.clone());
            stage.expect_refusal(Connect::new("c").will(will), MALFORMED, None);
        }
    }
    for unknown in ["00 00", "04 00", "2b 00", "7f 00", "80 01 00"] {
        let property = Property(hex(unknown));
        stage.expect_refusal(Connect::new("c").property(property.clone()), MALFORMED, None);
        is_refused(&stage, with_properties(b'p', &[property]), MALFORMED, unknown);
    }
}

/// Also: section 2.2.2.2, a property that may come once and comes twice is a protocol error
/// Trap: properties that appear twice
#[test]
fn a_property_that_comes_twice_is_a_protocol_error() {
    let stage = Stage::new(Version::V5);
    for (text, packets) in PROPERTIES {
        let property = Property(hex(text));
        if property.id() == prop::USER_PROPERTY {
            continue; // may come as often as it likes
        }
        let twice = [property.clone(), property.clone()];
        // A client's PUBLISH has no subscription identifier at all, and AUTH is for those who began with a method.
        let is_sent = |packet: &u8| packets.contains(packet) && !(*packet == b'p' && property.id() == 0x0B);
        for packet in b"pasud".iter().filter(|packet| is_sent(packet)) {
            let what = format!("{text} twice in {}", char::from(*packet));
            if *packet == b'd' && property.id() == prop::SERVER_REFERENCE {
                continue; // only a server may send it
            }
            is_refused(&stage, with_properties(*packet, &twice), PROTOCOL_ERROR, &what);
        }
        let [first, second] = twice;
        if packets.contains(&b'c') {
            let connect = Connect::new("c").property(first.clone()).property(second.clone());
            stage.expect_refusal(connect, PROTOCOL_ERROR, None);
        }
        if packets.contains(&b'w') {
            let will = Will::new("t", "x").property(first).property(second);
            stage.expect_refusal(Connect::new("c").will(will), PROTOCOL_ERROR, None);
        }
    }
}

/// Also: section 2.2.2.2, user properties may come more than once, with the same name too
#[test]
fn user_properties_may_repeat() {
    let stage = Stage::new(Version::V5);
    let twice = [prop::user("a", "1"), prop::user("a", "1")];
    let mut client = stage.accepted(Connect::new("c").property(twice[0].clone()).property(twice[1].clone()));
    for packet in *b"pasu" {
        client.send(with_properties(packet, &twice));
    }
    assert_eq!(client.next().suback(Version::V5).codes, [0]);
    assert_eq!(client.next().unsuback(Version::V5).codes, [0]);
    client.expect_nothing();
}

/// Trap: properties that overrun their length
/// Trap: a property length that is cut inside a complete packet (must be malformed, not "wait for more")
#[test]
fn properties_that_do_not_fit_their_length_are_malformed() {
    let stage = Stage::new(Version::V5);
    let rows = [
        ("a property longer than all", "30 09 0001 't' 02 02 0000 0000"),
        ("a length beyond the packet", "30 05 0001 't' 7f 'x'"),
        ("a length that is cut", "30 04 0001 't' 80"),
        ("a length without end", "30 07 0001 't' ff ff ff ff"),
        ("text that is cut by the properties' end", "30 0a 0001 't' 04 03 0005 'abc'"),
        ("an identifier without value", "30 05 0001 't' 01 02"),
        ("a subscription identifier that is cut", "82 09 0001 02 0b 80 0001 't' 00"),
        ("half a pair", "30 08 0001 't' 04 26 0001 'a'"),
    ];
    for (what, packet) in rows {
        is_refused(&stage, hex(packet), MALFORMED, what);
    }
}

/// Trap: trailing bytes
/// Trap: PINGREQ with a body
#[test]
fn bytes_behind_the_end_of_a_packet_are_malformed() {
    for stage in Stage::each(&VERSIONS) {
        // PUBLISH has none, and an AUTH of any length is a protocol error without a method.
        let fixed = packets(stage.version).into_iter().filter(|packet| !matches!(packet[0] >> 4, 3 | 15));
        for packet in fixed {
            let is_list = matches!(packet[0] >> 4, 8 | 10); // there a byte more begins another filter
            let has_reason = stage.is_v5() && matches!(packet[0] >> 4, 4..=7 | 14);
            let tails: &[&[u8]] = match (is_list, has_reason) {
                (true, _) => &[b"\x00"],
                (false, true) => &[b"\x00\x00\x00"],
                (false, false) => &[b"\x00", b"\x00\x00"],
            };
            for tail in tails {
                let mut longer = packet.clone();
                longer.extend_from_slice(tail);
                longer[1] += u8::try_from(tail.len()).unwrap();
                is_refused(&stage, &longer[..], MALFORMED, &format!("{longer:02x?}"));
            }
        }
        let mut connect = Connect::new("c").to_bytes(stage.version);
        connect.push(0);
        connect[1] += 1;
        stage.expect_refusal(connect, MALFORMED, None);
    }
}

/// Also: section 2.1.4 (3.1.1: 2.2.3), a packet that is cut inside a field is malformed
#[test]
fn packets_that_end_inside_a_field_end_the_connection() {
    for stage in Stage::each(&SINCE_3_1_1) {
        for packet in packets(stage.version) {
            // Cut behind the first byte of the body: a whole field fits nowhere. PINGREQ has no body, DISCONNECT needs none.
            if packet.len() < 4 {
                continue;
            }
            let cut = [packet[0], 1, packet[2]];
            is_refused(&stage, cut, MALFORMED, &format!("{packet:02x?}"));
        }
    }
}

/// Trap: a claimed length that makes the server allocate
/// Covers: MQTT5-3.2.2-15
#[test]
fn a_packet_larger_than_allowed_is_refused_at_its_length() {
    for version in VERSIONS {
        let stage = Stage::with(version, "[limits]\npacket_size_max_bytes = 2000");
        let mut client = stage.connect("c");
        client.subscribe("t", 0);
        let head = publish("t", "").to_bytes(version).len();
        let fitting = publish("t", vec![b'x'; 2000 - head - 1]); // its length takes one byte more
        assert_eq!(fitting.to_bytes(version).len(), 2000);
        client.send(fitting);
        client.expect_publish();
        // 2,001 bytes of which the header is enough; then as much as a header can claim.
        for length in ["ce 0f", "ff ff ff 7f"] {
            let mut client = stage.connect("d");
            client.send(hex(&format!("30 {length}")));
            client.expect_goodbye(TOO_LARGE);
        }
        client.expect_nothing();
    }
}

fn in_pieces(client: &mut Client, bytes: &[u8], size: usize) {
    for piece in bytes.chunks(size) {
        client.send(piece);
    }
}

/// Also: section 2.1.1 (3.1.1: 2.2), packets follow each other without regard to how the bytes arrive
#[test]
fn packets_may_arrive_in_pieces_or_many_at_once() {
    for stage in Stage::everywhere(&VERSIONS) {
        let all: Vec<u8> = [
            Connect::new("c").to_bytes(stage.version),
            subscribe(1, "t", 0).to_bytes(stage.version),
            publish("t", "1").to_bytes(stage.version),
            publish("t", "2").to_bytes(stage.version),
            pingreq().bytes(),
        ]
        .concat();
        for size in [1, 2, 7, all.len()] {
            let mut client = stage.socket();
            in_pieces(&mut client, &all, size);
            assert_eq!(client.expect_connack().code, 0);
            assert_eq!(client.next().suback(stage.version).codes, [0]);
            client.expect_message("t", "1");
            client.expect_message("t", "2");
            client.expect([0xD0, 0]);
            client.leave();
        }
    }
}
