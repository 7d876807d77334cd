//! Chapter 3.15: AUTH. The exchanges that it is for are in chapter 4.12.

use crate::harness::{Connect, OLD, Packet, Stage, Version, hex, prop};

const MALFORMED: u8 = 0x81;
const PROTOCOL_ERROR: u8 = 0x82;

/// AUTH with a method.
fn auth(code: u8, method: &str) -> Packet {
    Packet::new(0xF0).u8(code).properties(&[prop::text(prop::AUTHENTICATION_METHOD, method)])
}

/// Covers: MQTT5-3.15.1-1
/// Trap: reserved flags of AUTH
#[test]
fn wrong_flags_of_auth_end_the_connection() {
    let stage = Stage::new(Version::V5);
    for flags in 1..16 {
        let mut client = stage.connect("c");
        client.send([0xF0 | flags, 0]);
        client.expect_goodbye(MALFORMED);
    }
}

/// Covers: MQTT5-4.12.0-6, MQTT5-4.12.0-7
#[test]
fn without_a_method_in_connect_there_is_no_auth() {
    let stage = Stage::new(Version::V5);
    let data = [prop::text(prop::AUTHENTICATION_METHOD, "m"), prop::text(prop::AUTHENTICATION_DATA, "d")];
    let rows = [
        Packet::new(0xF0), // the short form of success
        auth(0, "m"),
        auth(0x18, "m"),
        auth(0x19, "m"),
        auth(0x19, ""),
        Packet::new(0xF0).u8(0x18).properties(&data),
    ];
    for packet in rows {
        let (mut client, connack) = stage.open(Connect::new("c"));
        assert_eq!(connack.code, 0);
        assert_eq!(connack.property(prop::AUTHENTICATION_METHOD), None);
        assert_eq!(connack.property(prop::AUTHENTICATION_DATA), None);
        client.expect_nothing();
        client.send(packet);
        client.expect_goodbye(PROTOCOL_ERROR);
    }
}

/// Covers: MQTT5-3.15.2-1
#[test]
fn a_reason_code_that_auth_has_not_ends_the_connection() {
    let stage = Stage::new(Version::V5);
    for code in (0..=0xFF).filter(|code| !matches!(code, 0 | 0x18 | 0x19)) {
        let mut client = stage.connect("c");
        client.send(auth(code, "m"));
        client.expect_goodbye(PROTOCOL_ERROR);
    }
}

/// Also: MQTT 5.0 section 3.15.2.2, the properties of AUTH
/// Trap: properties that overrun their length, appear twice or do not belong to the packet
#[test]
fn an_auth_that_cannot_be_read_ends_the_connection() {
    let method = || prop::text(prop::AUTHENTICATION_METHOD, "m");
    let with = |properties: &[_]| Packet::new(0xF0).u8(0x19).properties(properties);
    let rows = [
        (with(&[]), PROTOCOL_ERROR),                                           // no method
        (with(&[prop::text(prop::AUTHENTICATION_DATA, "d")]), PROTOCOL_ERROR), // data without a method
        (with(&[method(), method()]), PROTOCOL_ERROR),
        (with(&[method(), prop::two(prop::RECEIVE_MAXIMUM, 1)]), MALFORMED),
        (with(&[prop::text(prop::AUTHENTICATION_METHOD, [0xFF])]), MALFORMED),
        (with(&[method()]).u8(0), MALFORMED),
        (Packet::new(0xF0).raw(hex("19 09 15 0001 'm'")), MALFORMED),
    ];
    let stage = Stage::new(Version::V5);
    for (packet, reason) in rows {
        let mut client = stage.connect("c");
        client.send(packet);
        client.expect_goodbye(reason);
    }
}

/// Also: MQTT 3.1.1 section 2.2.1, a packet type that older versions have not
#[test]
fn older_versions_have_no_auth() {
    for stage in Stage::each(&OLD) {
        let mut client = stage.connect("c");
        client.send(auth(0x19, "m"));
        client.expect_goodbye(MALFORMED);
    }
}
