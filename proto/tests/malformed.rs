//! One row for each rule that a lax codec forgets: the bytes, and the reason code that they earn.
#![allow(clippy::unwrap_used, reason = "a test ends where its assumption breaks")]

use bytes::BytesMut;
use reveille_proto::mqtt::{Malformed, Version, read};
use reveille_proto::reason::ReasonCode;

const MALFORMED: ReasonCode = ReasonCode::MALFORMED_PACKET;
const PROTOCOL: ReasonCode = ReasonCode::PROTOCOL_ERROR;
const NAME: ReasonCode = ReasonCode::TOPIC_NAME_INVALID;
const ALIAS: ReasonCode = ReasonCode::TOPIC_ALIAS_INVALID;
const VERSION: ReasonCode = ReasonCode::UNSUPPORTED_PROTOCOL_VERSION;
const LARGE: ReasonCode = ReasonCode::PACKET_TOO_LARGE;

const NEW: Option<Version> = None;
const V31: Option<Version> = Some(Version::V3_1);
const V311: Option<Version> = Some(Version::V3_1_1);
const V5: Option<Version> = Some(Version::V5);

/// Bytes after which a limit is reached in these tests.
const LIMIT: u32 = 65_536;

type Row<'a> = (&'a str, Option<Version>, &'a [u8], ReasonCode);

/// The reason that the bytes earn; the whole input is one packet, so waiting for more is no answer.
fn earned(version: Option<Version>, bytes: &[u8]) -> Option<Malformed> {
    read(&mut BytesMut::from(bytes), version, LIMIT).err()
}

fn check(rows: &[Row<'_>]) {
    for (what, version, bytes, wanted) in rows {
        let found = earned(*version, bytes);
        assert_eq!(found.map(|malformed| malformed.reason), Some(*wanted), "{what}: {found:?}");
    }
}

/// A packet with the remaining length that its body has.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 128, "one byte of length");
    [&[first, body.len() as u8], body].concat()
}

#[test]
fn fixed_headers() {
    check(&[
        ("type 0", V5, b"\x00\x00", MALFORMED),
        ("AUTH before 5.0", V311, b"\xf0\x00", MALFORMED),
        ("AUTH in 3.1", V31, b"\xf0\x00", MALFORMED),
        ("CONNECT with flags", NEW, b"\x11\x00", MALFORMED),
        ("CONNACK with flags", V5, b"\x21\x03\x00\x00\x00", MALFORMED),
        ("PUBACK with flags", V5, b"\x42\x02\x00\x01", MALFORMED),
        ("PUBREC with flags", V5, b"\x51\x02\x00\x01", MALFORMED),
        ("PUBREL without its flags", V5, b"\x60\x02\x00\x01", MALFORMED),
        ("PUBREL with DUP", V311, b"\x6a\x02\x00\x01", MALFORMED),
        ("PUBCOMP with flags", V5, b"\x72\x02\x00\x01", MALFORMED),
        ("SUBSCRIBE without its flags", V5, b"\x80\x07\x00\x01\x00\x00\x01a\x00", MALFORMED),
        ("SUBSCRIBE with RETAIN", V311, b"\x83\x06\x00\x01\x00\x01a\x00", MALFORMED),
        ("SUBSCRIBE of 3.1 with RETAIN", V31, b"\x8b\x06\x00\x01\x00\x01a\x00", MALFORMED),
        ("SUBACK with flags", V5, b"\x92\x04\x00\x01\x00\x00", MALFORMED),
        ("UNSUBSCRIBE without its flags", V5, b"\xa0\x06\x00\x01\x00\x00\x01a", MALFORMED),
        ("UNSUBACK with flags", V5, b"\xb1\x04\x00\x01\x00\x00", MALFORMED),
        ("PINGREQ with flags", V5, b"\xc1\x00", MALFORMED),
        ("PINGRESP with flags", V5, b"\xd8\x00", MALFORMED),
        ("DISCONNECT with flags", V5, b"\xe1\x00", MALFORMED),
        ("AUTH with flags", V5, b"\xf4\x00", MALFORMED),
        ("PINGREQ with a body", V5, b"\xc0\x01\x00", MALFORMED),
        ("PINGREQ with a body that looks like an ack", V311, b"\xc0\x02\x00\x01", MALFORMED),
        ("PINGRESP with a body", V311, b"\xd0\x01\x00", MALFORMED),
        ("a length of five bytes", V5, b"\x30\xff\xff\xff\xff\x01", MALFORMED),
        ("a length of five bytes, before the fifth came", V5, b"\x30\x80\x80\x80\x80", MALFORMED),
        ("a padded length", V5, b"\xc0\x80\x00", MALFORMED),
        ("a padded length, before the body came", V5, b"\x40\x82\x00", MALFORMED),
        (
            "a padded length in CONNECT",
            NEW,
            b"\x10\x8e\x00\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01d",
            MALFORMED,
        ),
        ("a length above the limit", V5, b"\x30\xff\xff\xff\x7f", LARGE),
        ("a length above the limit in CONNECT", NEW, b"\x10\xff\xff\xff\x7f", LARGE),
        ("one byte above the limit", V311, b"\x30\xfd\xff\x03", LARGE),
        ("PUBLISH before CONNECT", NEW, b"\x30", PROTOCOL),
        ("PINGREQ before CONNECT", NEW, b"\xc0\x00", PROTOCOL),
        ("AUTH before CONNECT", NEW, b"\xf0\x00", PROTOCOL),
        ("HTTP", NEW, b"GET / HTTP/1.1\r\n", MALFORMED),
        ("TLS", NEW, b"\x16\x03\x01\x02\x00\x01", MALFORMED),
    ]);
}

/// CONNECT of 5.0 with these flags, properties and payload.
fn connect_5(flags: u8, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let front = [&b"\x00\x04MQTT\x05"[..], &[flags], b"\x00\x3c", &[properties.len() as u8]].concat();
    packet(0x10, &[&front, properties, payload].concat())
}

/// CONNECT of 3.1.1 with these flags and payload.
fn connect_4(flags: u8, payload: &[u8]) -> Vec<u8> {
    packet(0x10, &[&b"\x00\x04MQTT\x04"[..], &[flags], b"\x00\x3c", payload].concat())
}

#[test]
fn connect() {
    assert_eq!(earned(NEW, &connect_5(0x02, b"", b"\x00\x01d")), None, "the frame of these rows is right");
    assert_eq!(earned(NEW, &connect_4(0x02, b"\x00\x01d")), None, "the frame of these rows is right");
    check(&[
        ("an empty CONNECT", NEW, b"\x10\x00", MALFORMED),
        ("a protocol name that is cut", NEW, b"\x10\x04\x00\x04MQ", MALFORMED),
        ("another protocol name", NEW, &packet(0x10, b"\x00\x04MQTX\x04\x02\x00\x00\x00\x01d"), VERSION),
        (
            "a protocol name in small letters",
            NEW,
            &packet(0x10, b"\x00\x04mqtt\x04\x02\x00\x00\x00\x01d"),
            VERSION,
        ),
        ("an empty protocol name", NEW, &packet(0x10, b"\x00\x00\x04\x02\x00\x00\x00\x01d"), VERSION),
        ("level 0", NEW, &packet(0x10, b"\x00\x04MQTT\x00\x02\x00\x00\x00\x01d"), VERSION),
        (
            "level 3 under the newer name",
            NEW,
            &packet(0x10, b"\x00\x04MQTT\x03\x02\x00\x00\x00\x01d"),
            VERSION,
        ),
        ("level 6", NEW, &packet(0x10, b"\x00\x04MQTT\x06\x02\x00\x00\x00\x00\x01d"), VERSION),
        (
            "level 4 under the older name",
            NEW,
            &packet(0x10, b"\x00\x06MQIsdp\x04\x02\x00\x00\x00\x01d"),
            VERSION,
        ),
        (
            "the bridge bit in the level",
            NEW,
            &packet(0x10, b"\x00\x04MQTT\x84\x02\x00\x00\x00\x01d"),
            VERSION,
        ),
        ("the reserved flag, 5.0", NEW, &connect_5(0x03, b"", b"\x00\x01d"), MALFORMED),
        ("the reserved flag, 3.1.1", NEW, &connect_4(0x03, b"\x00\x01d"), MALFORMED),
        ("will QoS 3", NEW, &connect_4(0x1e, b"\x00\x01d\x00\x01t\x00\x00"), MALFORMED),
        ("will QoS without a will", NEW, &connect_4(0x0a, b"\x00\x01d"), MALFORMED),
        ("will QoS 3 without a will", NEW, &connect_5(0x1a, b"", b"\x00\x01d"), MALFORMED),
        ("will retain without a will", NEW, &connect_5(0x22, b"", b"\x00\x01d"), MALFORMED),
        ("a password without user name, 3.1.1", NEW, &connect_4(0x42, b"\x00\x01d\x00\x01p"), MALFORMED),
        (
            "a password without user name, 3.1",
            NEW,
            &packet(0x10, b"\x00\x06MQIsdp\x03\x42\x00\x00\x00\x01d\x00\x01p"),
            MALFORMED,
        ),
        ("no client id", NEW, &connect_4(0x02, b""), MALFORMED),
        ("a client id that is cut", NEW, &connect_4(0x02, b"\x00\x05d"), MALFORMED),
        ("a client id with U+0000", NEW, &connect_4(0x02, b"\x00\x02d\x00"), MALFORMED),
        ("a client id that is no UTF-8", NEW, &connect_4(0x02, b"\x00\x02\xc3\x28"), MALFORMED),
        ("a client id with a surrogate", NEW, &connect_5(0x02, b"", b"\x00\x03\xed\xa0\x80"), MALFORMED),
        ("a client id in an overlong form", NEW, &connect_5(0x02, b"", b"\x00\x02\xc0\xaf"), MALFORMED),
        ("bytes behind the end", NEW, &connect_4(0x02, b"\x00\x01d\x00"), MALFORMED),
        ("a user name that is missing", NEW, &connect_4(0x82, b"\x00\x01d"), MALFORMED),
        ("a user name with U+0000", NEW, &connect_4(0x82, b"\x00\x01d\x00\x01\x00"), MALFORMED),
        ("a password that is missing", NEW, &connect_4(0xc2, b"\x00\x01d\x00\x01u"), MALFORMED),
        ("a password that is cut", NEW, &connect_4(0xc2, b"\x00\x01d\x00\x01u\x00\x09p"), MALFORMED),
        ("a will that is missing", NEW, &connect_4(0x06, b"\x00\x01d"), MALFORMED),
        ("a will payload that is missing", NEW, &connect_4(0x06, b"\x00\x01d\x00\x01t"), MALFORMED),
        ("a will topic with a wildcard", NEW, &connect_4(0x06, b"\x00\x01d\x00\x03t/#\x00\x00"), NAME),
        ("an empty will topic", NEW, &connect_5(0x06, b"", b"\x00\x01d\x00\x00\x00\x00\x00"), NAME),
        ("a will topic with U+0000", NEW, &connect_4(0x06, b"\x00\x01d\x00\x01\x00\x00\x00"), MALFORMED),
    ]);
}

#[test]
fn properties_of_connect() {
    let with = |properties: &[u8]| connect_5(0x02, properties, b"\x00\x01d");
    let will = |properties: &[u8]| {
        let len = [properties.len() as u8];
        connect_5(0x06, b"", &[b"\x00\x01d", &len[..], properties, b"\x00\x01t\x00\x00"].concat())
    };
    assert_eq!(
        earned(NEW, &with(b"\x21\x00\x01\x26\x00\x01a\x00\x01b")),
        None,
        "the frame of these rows is right"
    );
    assert_eq!(earned(NEW, &will(b"\x18\x00\x00\x00\x01")), None, "the frame of these rows is right");
    check(&[
        ("receive maximum 0", NEW, &with(b"\x21\x00\x00"), PROTOCOL),
        ("maximum packet size 0", NEW, &with(b"\x27\x00\x00\x00\x00"), PROTOCOL),
        ("request problem information 2", NEW, &with(b"\x17\x02"), PROTOCOL),
        ("request response information 255", NEW, &with(b"\x19\xff"), PROTOCOL),
        ("session expiry twice", NEW, &with(b"\x11\x00\x00\x00\x01\x11\x00\x00\x00\x01"), PROTOCOL),
        ("receive maximum twice", NEW, &with(b"\x21\x00\x01\x21\x00\x02"), PROTOCOL),
        ("topic alias maximum twice", NEW, &with(b"\x22\x00\x00\x22\x00\x00"), PROTOCOL),
        ("authentication data without method", NEW, &with(b"\x16\x00\x01x"), PROTOCOL),
        ("authentication method twice", NEW, &with(b"\x15\x00\x01m\x15\x00\x01m"), PROTOCOL),
        ("a property of PUBLISH", NEW, &with(b"\x23\x00\x01"), MALFORMED),
        ("a property of CONNACK", NEW, &with(b"\x13\x00\x01"), MALFORMED),
        ("a property of the will", NEW, &with(b"\x18\x00\x00\x00\x01"), MALFORMED),
        ("property 0", NEW, &with(b"\x00"), MALFORMED),
        ("property 127", NEW, &with(b"\x7f\x00"), MALFORMED),
        ("property 128 in two bytes", NEW, &with(b"\x80\x01\x00"), MALFORMED),
        ("a padded property identifier", NEW, &with(b"\xa1\x00\x00\x01"), MALFORMED),
        ("a property without value", NEW, &with(b"\x21"), MALFORMED),
        ("a number that is cut by the property length", NEW, &with(b"\x11\x00\x00\x00"), MALFORMED),
        ("a string that overruns the property length", NEW, &with(b"\x15\x00\x03m"), MALFORMED),
        ("a user property without value", NEW, &with(b"\x26\x00\x01a"), MALFORMED),
        ("a user property with U+0000", NEW, &with(b"\x26\x00\x01a\x00\x01\x00"), MALFORMED),
        ("a property length that is missing", NEW, &packet(0x10, b"\x00\x04MQTT\x05\x02\x00\x3c"), MALFORMED),
        ("a property length that is cut", NEW, &packet(0x10, b"\x00\x04MQTT\x05\x02\x00\x3c\x80"), MALFORMED),
        (
            "a property length beyond the packet",
            NEW,
            &packet(0x10, b"\x00\x04MQTT\x05\x02\x00\x3c\x7f\x00\x01d"),
            MALFORMED,
        ),
        (
            "a property length of five bytes",
            NEW,
            &packet(0x10, b"\x00\x04MQTT\x05\x02\x00\x3c\x80\x80\x80\x80\x01\x00\x01d"),
            MALFORMED,
        ),
        (
            "a padded property length",
            NEW,
            &packet(0x10, b"\x00\x04MQTT\x05\x02\x00\x3c\x80\x00\x00\x01d"),
            MALFORMED,
        ),
        ("will delay twice", NEW, &will(b"\x18\x00\x00\x00\x01\x18\x00\x00\x00\x01"), PROTOCOL),
        ("a will with a topic alias", NEW, &will(b"\x23\x00\x01"), MALFORMED),
        ("a will with a subscription identifier", NEW, &will(b"\x0b\x01"), MALFORMED),
        ("a will with payload format 2", NEW, &will(b"\x01\x02"), PROTOCOL),
        ("a will with a response topic with wildcards", NEW, &will(b"\x08\x00\x01+"), PROTOCOL),
        ("a will with a session expiry", NEW, &will(b"\x11\x00\x00\x00\x01"), MALFORMED),
    ]);
}

#[test]
fn connack() {
    check(&[
        ("an empty CONNACK", V5, b"\x20\x00", MALFORMED),
        ("no property length", V5, b"\x20\x02\x00\x00", MALFORMED),
        ("reserved acknowledge flags", V5, b"\x20\x03\x02\x00\x00", MALFORMED),
        ("reserved acknowledge flags, 3.1.1", V311, b"\x20\x02\x80\x00", MALFORMED),
        ("a session although refused", V5, b"\x20\x03\x01\x87\x00", PROTOCOL),
        ("a session although refused, 3.1.1", V311, b"\x20\x02\x01\x05", PROTOCOL),
        ("a reason of SUBACK", V5, b"\x20\x03\x00\x01\x00", PROTOCOL),
        ("a reason that does not exist", V5, b"\x20\x03\x00\xff\x00", PROTOCOL),
        ("return code 6", V311, b"\x20\x02\x00\x06", MALFORMED),
        ("bytes behind the end", V311, b"\x20\x03\x00\x00\x00", MALFORMED),
        ("maximum QoS 2", V5, b"\x20\x05\x00\x00\x02\x24\x02", PROTOCOL),
        ("maximum QoS twice", V5, b"\x20\x07\x00\x00\x04\x24\x01\x24\x01", PROTOCOL),
        ("retain available 2", V5, b"\x20\x05\x00\x00\x02\x25\x02", PROTOCOL),
        ("wildcard subscription available 2", V5, b"\x20\x05\x00\x00\x02\x28\x02", PROTOCOL),
        ("subscription identifiers available 2", V5, b"\x20\x05\x00\x00\x02\x29\x02", PROTOCOL),
        ("shared subscription available 2", V5, b"\x20\x05\x00\x00\x02\x2a\x02", PROTOCOL),
        ("receive maximum 0", V5, b"\x20\x06\x00\x00\x03\x21\x00\x00", PROTOCOL),
        ("a property of CONNECT", V5, b"\x20\x05\x00\x00\x02\x17\x01", MALFORMED),
    ]);
}

#[test]
fn publish() {
    let with = |properties: &[u8]| {
        packet(0x30, &[b"\x00\x01t", &[properties.len() as u8][..], properties, b"payload"].concat())
    };
    assert_eq!(earned(V5, &with(b"\x01\x01\x23\x00\x01")), None, "the frame of these rows is right");
    check(&[
        ("QoS 3", V5, b"\x36\x06\x00\x01t\x00\x01\x00", MALFORMED),
        ("QoS 3, before anything else came", V311, b"\x36", MALFORMED),
        ("DUP with QoS 0", V5, b"\x38\x04\x00\x01t\x00", MALFORMED),
        ("DUP with QoS 0, 3.1.1", V311, b"\x38\x03\x00\x01t", MALFORMED),
        ("packet identifier 0", V5, b"\x32\x06\x00\x01t\x00\x00\x00", PROTOCOL),
        ("packet identifier 0 with QoS 2", V311, b"\x34\x05\x00\x01t\x00\x00", PROTOCOL),
        ("no packet identifier", V311, b"\x32\x03\x00\x01t", MALFORMED),
        ("half a packet identifier", V311, b"\x32\x04\x00\x01t\x00", MALFORMED),
        ("an empty PUBLISH", V5, b"\x30\x00", MALFORMED),
        ("a topic name that is cut", V5, b"\x30\x04\x00\x05ab", MALFORMED),
        ("a topic name with +", V5, b"\x30\x06\x00\x03a/+\x00", NAME),
        ("a topic name with #", V311, b"\x30\x03\x00\x01#", NAME),
        ("a Chinese topic name with #", V5, b"\x30\x0a\x00\x07\xe8\xae\xbe\xe5\xa4\x87#\x00", NAME),
        ("an empty topic name, 3.1.1", V311, b"\x30\x02\x00\x00", NAME),
        ("an empty topic name, 3.1", V31, b"\x30\x02\x00\x00", NAME),
        ("neither topic name nor alias", V5, b"\x30\x03\x00\x00\x00", PROTOCOL),
        ("a topic name with U+0000", V311, b"\x30\x05\x00\x03a\x00b", MALFORMED),
        ("a topic name that is no UTF-8", V5, b"\x30\x05\x00\x02\xff\xfe\x00", MALFORMED),
        ("a topic name with half a character", V311, b"\x30\x04\x00\x02\xe8\xae", MALFORMED),
        ("a topic name with a surrogate", V311, b"\x30\x05\x00\x03\xed\xbf\xbf", MALFORMED),
        ("no property length", V5, b"\x30\x03\x00\x01t", MALFORMED),
        ("a property length beyond the packet", V5, b"\x30\x04\x00\x01t\x05", MALFORMED),
        ("a property length that is cut", V5, b"\x30\x04\x00\x01t\xff", MALFORMED),
        ("topic alias 0", V5, &with(b"\x23\x00\x00"), ALIAS),
        ("topic alias twice", V5, &with(b"\x23\x00\x01\x23\x00\x01"), PROTOCOL),
        ("payload format 2", V5, &with(b"\x01\x02"), PROTOCOL),
        ("payload format twice", V5, &with(b"\x01\x01\x01\x01"), PROTOCOL),
        ("message expiry twice", V5, &with(b"\x02\x00\x00\x00\x01\x02\x00\x00\x00\x01"), PROTOCOL),
        ("message expiry that is cut", V5, &with(b"\x02\x00\x00"), MALFORMED),
        ("content type twice", V5, &with(b"\x03\x00\x00\x03\x00\x00"), PROTOCOL),
        ("content type with U+0000", V5, &with(b"\x03\x00\x01\x00"), MALFORMED),
        ("correlation data twice", V5, &with(b"\x09\x00\x00\x09\x00\x00"), PROTOCOL),
        ("response topic twice", V5, &with(b"\x08\x00\x01a\x08\x00\x01a"), PROTOCOL),
        ("response topic with a wildcard", V5, &with(b"\x08\x00\x03a/#"), PROTOCOL),
        ("an empty response topic", V5, &with(b"\x08\x00\x00"), PROTOCOL),
        ("subscription identifier 0", V5, &with(b"\x0b\x00"), PROTOCOL),
        ("a subscription identifier of five bytes", V5, &with(b"\x0b\xff\xff\xff\xff\x01"), MALFORMED),
        ("a property of CONNECT", V5, &with(b"\x21\x00\x01"), MALFORMED),
        ("a will delay", V5, &with(b"\x18\x00\x00\x00\x01"), MALFORMED),
        ("a reason string", V5, &with(b"\x1f\x00\x01x"), MALFORMED),
    ]);
}

#[test]
fn acknowledgements() {
    for first in [0x40, 0x50, 0x62, 0x70] {
        check(&[
            ("an empty one", V5, &packet(first, b""), MALFORMED),
            ("half a packet identifier", V5, &packet(first, b"\x00"), MALFORMED),
            ("packet identifier 0", V5, &packet(first, b"\x00\x00"), PROTOCOL),
            ("packet identifier 0, 3.1.1", V311, &packet(first, b"\x00\x00"), PROTOCOL),
            ("a reason code before 5.0", V311, &packet(first, b"\x00\x01\x00"), MALFORMED),
            ("a reason code in 3.1", V31, &packet(first, b"\x00\x01\x00"), MALFORMED),
            ("a reason that does not exist", V5, &packet(first, b"\x00\x01\x03"), PROTOCOL),
            ("a reason of CONNACK", V5, &packet(first, b"\x00\x01\x84"), PROTOCOL),
            ("bytes behind the properties", V5, &packet(first, b"\x00\x01\x00\x00\x00"), MALFORMED),
            ("a property length beyond the packet", V5, &packet(first, b"\x00\x01\x00\x01"), MALFORMED),
            (
                "a reason string twice",
                V5,
                &packet(first, b"\x00\x01\x00\x06\x1f\x00\x00\x1f\x00\x00"),
                PROTOCOL,
            ),
            ("a property of PUBLISH", V5, &packet(first, b"\x00\x01\x00\x03\x23\x00\x01"), MALFORMED),
        ]);
    }
    check(&[
        ("PUBACK with a reason of PUBREL", V5, b"\x40\x03\x00\x01\x92", PROTOCOL),
        ("PUBREL with a reason of PUBACK", V5, b"\x62\x03\x00\x01\x10", PROTOCOL),
    ]);
}

#[test]
fn subscribe_and_unsubscribe() {
    check(&[
        ("SUBSCRIBE without filter", V5, b"\x82\x03\x00\x01\x00", PROTOCOL),
        ("SUBSCRIBE without filter, 3.1.1", V311, b"\x82\x02\x00\x01", PROTOCOL),
        ("SUBSCRIBE with packet identifier 0", V5, b"\x82\x07\x00\x00\x00\x00\x01a\x00", PROTOCOL),
        ("an empty SUBSCRIBE", V311, b"\x82\x00", MALFORMED),
        ("a filter without options", V311, b"\x82\x05\x00\x01\x00\x01a", MALFORMED),
        ("a second filter that is cut", V311, b"\x82\x08\x00\x01\x00\x01a\x00\x00\x05", MALFORMED),
        ("maximum QoS 3", V5, b"\x82\x07\x00\x01\x00\x00\x01a\x03", PROTOCOL),
        ("maximum QoS 3, 3.1.1", V311, b"\x82\x06\x00\x01\x00\x01a\x03", PROTOCOL),
        ("retain handling 3", V5, b"\x82\x07\x00\x01\x00\x00\x01a\x30", PROTOCOL),
        ("reserved option bit 6", V5, b"\x82\x07\x00\x01\x00\x00\x01a\x40", MALFORMED),
        ("reserved option bit 7", V5, b"\x82\x07\x00\x01\x00\x00\x01a\x80", MALFORMED),
        ("no local before 5.0", V311, b"\x82\x06\x00\x01\x00\x01a\x04", MALFORMED),
        ("retain handling in 3.1", V31, b"\x82\x06\x00\x01\x00\x01a\x10", MALFORMED),
        ("no local on a shared filter", V5, b"\x82\x10\x00\x01\x00\x00\x0a$share/g/a\x04", PROTOCOL),
        ("a filter with U+0000", V311, b"\x82\x06\x00\x01\x00\x01\x00\x00", MALFORMED),
        ("a filter that is no UTF-8", V5, b"\x82\x07\x00\x01\x00\x00\x01\xff\x00", MALFORMED),
        ("subscription identifier 0", V5, b"\x82\x09\x00\x01\x02\x0b\x00\x00\x01a\x00", PROTOCOL),
        ("subscription identifier twice", V5, b"\x82\x0b\x00\x01\x04\x0b\x01\x0b\x02\x00\x01a\x00", PROTOCOL),
        ("a property of PUBLISH", V5, b"\x82\x0a\x00\x01\x03\x23\x00\x01\x00\x01a\x00", MALFORMED),
        ("UNSUBSCRIBE without filter", V5, b"\xa2\x03\x00\x01\x00", PROTOCOL),
        ("UNSUBSCRIBE without filter, 3.1.1", V311, b"\xa2\x02\x00\x01", PROTOCOL),
        ("UNSUBSCRIBE with packet identifier 0", V311, b"\xa2\x05\x00\x00\x00\x01a", PROTOCOL),
        ("UNSUBSCRIBE with a filter that is cut", V311, b"\xa2\x05\x00\x01\x00\x02a", MALFORMED),
        ("UNSUBSCRIBE with U+0000", V311, b"\xa2\x05\x00\x01\x00\x01\x00", MALFORMED),
        (
            "UNSUBSCRIBE with a subscription identifier",
            V5,
            b"\xa2\x08\x00\x01\x02\x0b\x01\x00\x01a",
            MALFORMED,
        ),
        ("SUBACK without reasons", V5, b"\x90\x03\x00\x01\x00", PROTOCOL),
        ("SUBACK with packet identifier 0", V5, b"\x90\x04\x00\x00\x00\x00", PROTOCOL),
        ("SUBACK with QoS 3", V311, b"\x90\x03\x00\x01\x03", PROTOCOL),
        ("SUBACK of 3.1 with a refusal", V31, b"\x90\x03\x00\x01\x80", PROTOCOL),
        ("SUBACK with a reason of 5.0", V311, b"\x90\x03\x00\x01\x87", PROTOCOL),
        ("UNSUBACK with a body before 5.0", V311, b"\xb0\x03\x00\x01\x00", MALFORMED),
        ("UNSUBACK without reasons", V5, b"\xb0\x03\x00\x01\x00", PROTOCOL),
        ("UNSUBACK with a granted QoS", V5, b"\xb0\x04\x00\x01\x00\x01", PROTOCOL),
    ]);
}

#[test]
fn disconnect_and_auth() {
    check(&[
        ("DISCONNECT with a body before 5.0", V311, b"\xe0\x01\x00", MALFORMED),
        ("DISCONNECT with a reason that does not exist", V5, b"\xe0\x01\x05", PROTOCOL),
        ("DISCONNECT with a reason of CONNACK", V5, b"\xe0\x01\x84", PROTOCOL),
        ("DISCONNECT with properties beyond the packet", V5, b"\xe0\x02\x00\x05", MALFORMED),
        ("DISCONNECT with a property length that is cut", V5, b"\xe0\x02\x00\x80", MALFORMED),
        ("DISCONNECT with bytes behind the end", V5, b"\xe0\x03\x00\x00\x00", MALFORMED),
        (
            "DISCONNECT with session expiry twice",
            V5,
            b"\xe0\x0c\x00\x0a\x11\x00\x00\x00\x01\x11\x00\x00\x00\x01",
            PROTOCOL,
        ),
        ("DISCONNECT with a property of CONNECT", V5, b"\xe0\x05\x00\x03\x21\x00\x01", MALFORMED),
        ("AUTH with a reason only", V5, b"\xf0\x01\x18", MALFORMED),
        ("AUTH with a reason of DISCONNECT", V5, b"\xf0\x02\x87\x00", PROTOCOL),
        ("AUTH without method", V5, b"\xf0\x02\x18\x00", PROTOCOL),
        ("AUTH with data but no method", V5, b"\xf0\x06\x18\x04\x16\x00\x01x", PROTOCOL),
        ("AUTH with its method twice", V5, b"\xf0\x0a\x18\x08\x15\x00\x01m\x15\x00\x01m", PROTOCOL),
        ("AUTH with bytes behind the end", V5, b"\xf0\x07\x18\x04\x15\x00\x01m\x00", MALFORMED),
        ("AUTH with a property of CONNACK", V5, b"\xf0\x05\x18\x03\x13\x00\x01", MALFORMED),
    ]);
}

#[test]
fn a_refusal_names_the_reason_and_the_rule() {
    let malformed = earned(V5, b"\x38\x00").unwrap();
    assert_eq!(malformed.to_string(), "DUP with QoS 0: malformed packet (0x81)");
}

#[test]
fn the_bytes_around_a_malformed_packet_change_nothing() {
    let mut stream = BytesMut::from(&b"\xc0\x00\x82\x02\x00\x01\xc0\x00"[..]);
    assert!(read(&mut stream, V311, LIMIT).unwrap().is_some(), "the packet before it");
    assert_eq!(read(&mut stream, V311, LIMIT).map_err(|malformed| malformed.reason), Err(PROTOCOL));
}
