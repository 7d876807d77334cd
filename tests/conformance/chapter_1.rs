//! Chapter 1: how numbers and text are written.

use crate::harness::{
    Connect, Packet, Publish, Stage, ToBytes, VERSIONS, Version, Will, hex, pingreq, prop, publish,
    subscribe, unsubscribe,
};

const MALFORMED: u8 = 0x81;

/// What is no text: a byte that begins nothing, a surrogate, an overlong form, a code point above the last, a cut one.
const ILL_FORMED: [&[u8]; 5] =
    [b"a\xFFb", b"\xED\xA0\x80", b"\xC0\xAF", b"\xF4\x90\x80\x80", "é".as_bytes().split_at(1).0];

/// A CONNECT with this text in each of its fields, one after the other. Names must not be topics with wildcards.
fn connects_with(text: &[u8], version: Version) -> Vec<(&'static str, Vec<u8>)> {
    let plain = || Connect::new("c");
    let mut rows = vec![
        ("client identifier", Connect::new(text)),
        ("user name", plain().username(text)),
        ("will topic", plain().will(Will::new(text, "x"))),
    ];
    if version == Version::V5 {
        let user = |name: &[u8], value: &[u8]| {
            let pair = [prop::text(prop::USER_PROPERTY, name).0, prop::text(0, value).0[1..].to_vec()];
            prop::bytes(prop::USER_PROPERTY, &pair.concat()[1..])
        };
        let will = |property| plain().will(Will::new("w", "x").property(property));
        rows.extend([
            ("name of a user property", plain().property(user(text, b"value"))),
            ("value of a user property", plain().property(user(b"name", text))),
            ("authentication method", plain().property(prop::text(prop::AUTHENTICATION_METHOD, text))),
            ("content type of a will", will(prop::text(prop::CONTENT_TYPE, text))),
            ("response topic of a will", will(prop::text(prop::RESPONSE_TOPIC, text))),
            ("user property of a will", will(user(text, text))),
        ]);
    }
    rows.into_iter().map(|(name, connect)| (name, connect.to_bytes(version))).collect()
}

/// Packets of a client that is connected, with this text in each field.
fn packets_with(text: &[u8], version: Version) -> Vec<(&'static str, Vec<u8>)> {
    let mut rows = vec![
        ("topic name", publish(text, "x").to_bytes(version)),
        ("filter of SUBSCRIBE", subscribe(1, text, 0).to_bytes(version)),
        ("filter of UNSUBSCRIBE", unsubscribe(1, &[text]).to_bytes(version)),
    ];
    if version == Version::V5 {
        let with = |property| publish("t", "x").property(property).to_bytes(version);
        let pair = |name: &[u8], value: &[u8]| {
            prop::bytes(
                prop::USER_PROPERTY,
                &[&prop::text(0, name).0[1..], &prop::text(0, value).0[1..]].concat(),
            )
        };
        let reason = prop::text(prop::REASON_STRING, text);
        rows.extend([
            ("content type", with(prop::text(prop::CONTENT_TYPE, text))),
            ("response topic", with(prop::text(prop::RESPONSE_TOPIC, text))),
            ("name of a user property", with(pair(text, b"value"))),
            ("value of a user property", with(pair(b"name", text))),
            ("reason string", Packet::new(0xE0).u8(0).properties(&[reason]).bytes()),
        ]);
    }
    rows
}

/// Every field of a packet ends the connection when it has this text; `wanted` may name another reason for some.
fn is_refused_everywhere(text: &[u8], wanted: impl Fn(&str) -> u8) {
    for stage in Stage::each(&VERSIONS) {
        for (field, connect) in connects_with(text, stage.version) {
            let answer = stage.refusal(connect).map(|frame| frame.connack(stage.version).code);
            assert_eq!(answer, stage.is_v5().then(|| wanted(field)), "{field} with {text:?}");
        }
        for (field, packet) in packets_with(text, stage.version) {
            let mut client = stage.connect("c");
            client.send(packet);
            let reason = client.next_or_end().map(|frame| frame.disconnect().code);
            assert_eq!(reason, stage.is_v5().then(|| wanted(field)), "{field} with {text:?}");
            client.expect_end();
        }
    }
}

/// Covers: MQTT3-1.5.3-1, MQTT5-1.5.4-1, MQTT5-1.5.7-1, MQTT3-3.1.3-4, MQTT5-3.1.3-4, MQTT3-3.1.3-10, MQTT5-3.1.3-11
/// Covers: MQTT3-3.1.3-11, MQTT5-3.1.3-12, MQTT3-3.3.2-1, MQTT5-3.3.2-1, MQTT5-3.3.2-13, MQTT5-3.3.2-19
/// Covers: MQTT3-3.8.3-1, MQTT5-3.8.3-1, MQTT3-3.10.3-1, MQTT5-3.10.3-1
/// Trap: invalid UTF-8
#[test]
fn text_that_is_not_utf_8_ends_the_connection_whichever_field_it_is_in() {
    for text in ILL_FORMED {
        is_refused_everywhere(text, |_| MALFORMED);
    }
}

/// Covers: MQTT3-1.5.3-2, MQTT5-1.5.4-2, MQTT5-1.5.7-1, MQTT3-4.7.3-2, MQTT5-4.7.3-2
/// Trap: NUL in strings
#[test]
fn text_with_a_null_character_ends_the_connection_whichever_field_it_is_in() {
    is_refused_everywhere(b"a\0b", |_| MALFORMED);
}

/// Covers: MQTT3-1.5.3-3, MQTT5-1.5.4-3
#[test]
fn a_byte_order_mark_is_a_character_and_stays_where_it_is() {
    for stage in Stage::everywhere(&VERSIONS) {
        let (mut receiver, mut sender) = (stage.connect("receiver"), stage.connect("sender"));
        receiver.subscribe("\u{FEFF}a/\u{FEFF}", 0);
        for topic in ["a/", "\u{FEFF}a/", "a/\u{FEFF}"] {
            sender.publish(topic, "another topic");
        }
        sender.publish_with(publish("\u{FEFF}a/\u{FEFF}", "\u{FEFF}").qos(1, 2));
        receiver.expect_message("\u{FEFF}a/\u{FEFF}", "\u{FEFF}");
        receiver.expect_nothing();
    }
}

/// Also: section 1.5.4 (3.1.1: 1.5.3), control characters and noncharacters need not be refused, and are passed on as they are
#[test]
fn control_characters_and_noncharacters_are_passed_on_unchanged() {
    for stage in Stage::each(&VERSIONS) {
        let mut client = stage.connect("\u{1}\u{9F}\u{FFFF}");
        let topic = "a\u{1}\u{7F}\u{9F}/\u{FFFE}\u{1FFFF}\u{10FFFF}";
        client.subscribe(topic, 0);
        client.send(publish(topic, "x"));
        client.expect_message(topic, "x");
    }
}

/// Also: section 1.5.4 (3.1.1: 1.5.3), text of 65,535 bytes
#[test]
fn the_longest_text_is_taken_in_every_field() {
    let long = "界".repeat(65_535 / 3);
    for stage in Stage::each(&VERSIONS) {
        let mut client = stage.connect(&long);
        client.subscribe(&long, 0);
        client.send(publish(&long, "x"));
        client.expect_message(&long, "x");
    }
}

/// A number that would fit one byte less.
fn padded(packet: &Publish, version: Version) -> Vec<u8> {
    let mut bytes = packet.to_bytes(version);
    bytes[1] |= 0x80;
    bytes.insert(2, 0);
    bytes
}

/// Covers: MQTT5-1.5.5-1
#[test]
fn a_number_that_is_not_in_its_shortest_form_is_malformed() {
    let rows = [
        ("remaining length", padded(&publish("t", "x"), Version::V5)),
        ("property length", hex("30 06 0001 't' 80 00 'x'")),
        ("subscription identifier", hex("82 0a 0001 03 0b 81 00 0001 't' 00")),
        ("remaining length of a PINGREQ", hex("c0 80 00")),
    ];
    for (what, packet) in rows {
        let stage = Stage::new(Version::V5);
        let mut client = stage.connect("c");
        client.send(packet);
        let reason = client.next_or_end().map(|frame| frame.disconnect().code);
        assert_eq!(reason, Some(MALFORMED), "{what}");
        client.expect_end();
    }
    let stage = Stage::new(Version::V5);
    let mut connect = Connect::new("c").to_bytes(Version::V5);
    connect[1] |= 0x80;
    connect.insert(2, 0);
    stage.expect_refusal(connect, MALFORMED, None);
}

/// Also: MQTT 3.1.1 section 2.2.3, which does not ask for the shortest form
#[test]
fn before_5_0_a_remaining_length_may_be_longer_than_it_has_to_be() {
    for stage in Stage::each(&[Version::V3_1, Version::V3_1_1]) {
        let mut client = stage.connect("c");
        client.subscribe("t", 0);
        client.send(padded(&publish("t", "x"), stage.version));
        client.expect_message("t", "x");
    }
}

/// Also: section 1.5.5 (3.1.1: 2.2.3), a length takes at most four bytes
#[test]
fn a_length_of_five_bytes_ends_the_connection_before_anything_is_awaited() {
    for stage in Stage::each(&VERSIONS) {
        for first in ["30", "c0", "82", "e0"] {
            let mut client = stage.connect("c");
            client.send(hex(&format!("{first} 80 80 80 80")));
            client.expect_goodbye(MALFORMED);
        }
        assert_eq!(stage.refusal(hex("10 ff ff ff ff 01")), None);
    }
}

/// Covers: MQTT5-1.5.5-1
/// Also: section 1.5.5, all lengths of a variable byte integer from the broker
#[test]
fn lengths_around_each_size_of_a_number_are_written_and_read() {
    let sizes = [0_usize, 1, 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 127, 128, 16_370, 16_384];
    for stage in Stage::each(&VERSIONS) {
        let mut client = stage.connect("c");
        client.subscribe("t", 0);
        // The harness refuses what is not in its shortest form.
        for size in sizes.into_iter().chain([1_000_000]) {
            client.send(publish("t", vec![b'x'; size]));
            assert_eq!(client.expect_publish().payload.len(), size);
        }
        client.send(pingreq());
        client.expect([0xD0, 0]);
    }
}
