//! Packets that are none: a table of the ways that a codec can be lax, and valid packets with broken bytes.

use crate::rounds;
use crate::stranger::{Dice, Stranger, connect, durable, message};
use crate::target::{Damage, Target};
use bytes::BytesMut;
use reveille_proto::ids::PacketId;
use reveille_proto::mqtt::{
    Ack, Connect, Disconnect, Packet, QoS, Subscribe, SubscriptionOptions, Version, Will,
};
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::TopicName;
use std::net::Shutdown;

/// After CONNECT; each must end its connection, in 3.1.1 and in 5.0.
const ROWS: &[(&str, &[u8])] = &[
    ("packet type 0", b"\x00\x00"),
    ("AUTH that nobody asked for", b"\xf0\x00"),
    ("a second CONNECT", b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"),
    ("CONNACK from a client", b"\x20\x02\x00\x00"),
    ("SUBACK from a client", b"\x90\x03\x00\x01\x00"),
    ("UNSUBACK from a client", b"\xb0\x02\x00\x01"),
    ("PINGRESP from a client", b"\xd0\x00"),
    ("a length of five bytes", b"\x30\xff\xff\xff\xff\x01"),
    ("a length beyond the bound", b"\x30\xff\xff\xff\x7f"),
    ("QoS 3", b"\x36\x05\x00\x01t\x00\x01"),
    ("packet identifier 0", b"\x32\x06\x00\x01t\x00\x00\x00"),
    ("an empty topic", b"\x30\x02\x00\x00"),
    ("a topic with +", b"\x30\x06\x00\x03a/+\x00"),
    ("a topic with #", b"\x30\x04\x00\x01#\x00"),
    ("a topic with NUL", b"\x30\x06\x00\x03a\x00b\x00"),
    ("a topic that is no UTF-8", b"\x30\x05\x00\x02\xff\xfe\x00"),
    ("a topic with half a surrogate pair", b"\x30\x06\x00\x03\xed\xa0\x80\x00"),
    ("a topic longer than its packet", b"\x30\x03\xff\xfft"),
    ("SUBSCRIBE with wrong flags", b"\x80\x07\x00\x01\x00\x00\x01t\x00"),
    ("SUBSCRIBE without filters", b"\x82\x02\x00\x01"),
    ("SUBSCRIBE with reserved bits", b"\x82\x07\x00\x01\x00\x00\x01t\xff"),
    ("UNSUBSCRIBE with wrong flags", b"\xa0\x06\x00\x01\x00\x00\x01t"),
    ("UNSUBSCRIBE without filters", b"\xa2\x02\x00\x01"),
    ("PUBREL with wrong flags", b"\x60\x02\x00\x01"),
    ("PUBACK for identifier 0", b"\x40\x02\x00\x00"),
    ("PUBACK cut short", b"\x40\x01\x00"),
    ("PINGREQ with a body", b"\xc0\x01\x00"),
    ("PINGREQ with flags", b"\xc1\x00"),
    ("DISCONNECT with flags", b"\xe1\x00"),
];

/// After CONNECT of version 5.
const ROWS_V5: &[(&str, &[u8])] = &[
    ("properties longer than their packet", b"\x30\x05\x00\x01t\x7f\x01"),
    ("a property length cut short", b"\x30\x04\x00\x01t\x80"),
    ("a property length of five bytes", b"\x30\x08\x00\x01t\xff\xff\xff\xff\x01"),
    ("an unknown property", b"\x30\x06\x00\x01t\x02\x7e\x00"),
    ("a property of another packet", b"\x30\x09\x00\x01t\x05\x11\x00\x00\x00\x01"),
    ("a property twice", b"\x30\x0e\x00\x01t\x0a\x02\x00\x00\x00\x01\x02\x00\x00\x00\x01"),
    ("payload format 2", b"\x30\x06\x00\x01t\x02\x01\x02"),
    ("topic alias 0", b"\x30\x07\x00\x01t\x03\x23\x00\x00"),
    ("a topic alias beyond the bound", b"\x30\x07\x00\x01t\x03\x23\xff\xff"),
    ("a topic alias that nobody set", b"\x30\x06\x00\x00\x03\x23\x00\x01"),
    ("a subscription identifier from a client", b"\x30\x06\x00\x01t\x02\x0b\x01"),
    ("a response topic with wildcards", b"\x30\x08\x00\x01t\x04\x08\x00\x01#"),
    ("subscription identifier 0", b"\x82\x09\x00\x01\x02\x0b\x00\x00\x01t\x00"),
    ("no-local on a shared subscription", b"\x82\x10\x00\x01\x00\x00\x0a$share/g/t\x04"),
    ("retain handling 3", b"\x82\x07\x00\x01\x00\x00\x01t\x30"),
    ("a reason that PUBACK does not have", b"\x40\x03\x00\x01\x04"),
    ("DISCONNECT with a reason of CONNACK", b"\xe0\x01\x85"),
    ("DISCONNECT that wakes a session that was none", b"\xe0\x07\x00\x05\x11\x00\x00\x00\x05"),
];

/// Instead of CONNECT.
const FIRST: &[(&str, &[u8])] = &[
    ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    ("PINGREQ", b"\xc0\x00"),
    ("PUBLISH", b"\x30\x04\x00\x01tm"),
    ("CONNECT with flags", b"\x11\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"),
    ("CONNECT with the reserved bit", b"\x10\x0c\x00\x04MQTT\x04\x03\x00\x3c\x00\x00"),
    ("another protocol", b"\x10\x0c\x00\x04AMQP\x04\x02\x00\x3c\x00\x00"),
    ("a protocol level from the future", b"\x10\x0d\x00\x04MQTT\x09\x02\x00\x3c\x00\x00\x00"),
    ("a password without a user", b"\x10\x0f\x00\x04MQTT\x04\x42\x00\x3c\x00\x00\x00\x01p"),
    ("will QoS without a will", b"\x10\x0c\x00\x04MQTT\x04\x0a\x00\x3c\x00\x00"),
    ("will QoS 3", b"\x10\x12\x00\x04MQTT\x04\x1e\x00\x3c\x00\x00\x00\x01t\x00\x01m"),
    ("a will on a topic with wildcards", b"\x10\x12\x00\x04MQTT\x04\x06\x00\x3c\x00\x00\x00\x01#\x00\x01m"),
    ("an empty client id without clean session", b"\x10\x0c\x00\x04MQTT\x04\x00\x00\x3c\x00\x00"),
    ("receive maximum 0", b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x03\x21\x00\x00\x00\x00"),
    ("maximum packet size 0", b"\x10\x12\x00\x04MQTT\x05\x02\x00\x3c\x05\x27\x00\x00\x00\x00\x00\x00"),
    ("trailing bytes", b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x00ab"),
    ("a client id longer than its packet", b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\xff\xff"),
];

/// Packets with broken bytes.
const MUTANTS: usize = 1000;

pub fn run(target: &Target) -> Damage {
    let mut count = 0;
    for version in [Version::V3_1_1, Version::V5] {
        let rows = if version == Version::V5 { [ROWS, ROWS_V5].concat() } else { ROWS.to_vec() };
        for (what, bytes) in rows {
            let mut stranger = target.dial(count).unwrap();
            assert!(stranger.log_in(Connect { version, ..connect(&format!("malformed-{count}")) }));
            stranger.send_bytes(bytes);
            assert!(stranger.wait_end(), "{version:?}: {what} does not end the connection");
            count += 1;
        }
    }
    for (what, bytes) in FIRST {
        let mut stranger = target.dial(count).unwrap();
        stranger.send_bytes(bytes);
        assert!(stranger.wait_end(), "{what} does not end the connection");
        count += 1;
    }
    count += mutants(target);
    Damage { what: "broken packets", count }
}

/// The connection may survive a change that happens to be valid, so the stranger ends it.
fn mutants(target: &Target) -> usize {
    let (mut dice, packets) = (Dice(0x5eed), valid_packets());
    for number in 0..MUTANTS {
        let mut stranger = target.dial(number).unwrap();
        let mut bytes = packets[dice.roll(packets.len())].clone();
        mutate(&mut bytes, &mut dice);
        if !bytes.starts_with(b"\x10") && !stranger.log_in(durable(&format!("mutant-{}", number % 64))) {
            continue;
        }
        stranger.send_bytes(&bytes);
        assert!(
            hang_up(&mut stranger),
            "the broker keeps a connection whose client has hung up after {bytes:x?}"
        );
    }
    MUTANTS
}

/// Ends its side, and waits until the broker has read everything and ends the other one.
fn hang_up(stranger: &mut Stranger) -> bool {
    let _ = stranger.socket.shutdown(Shutdown::Write);
    stranger.wait_end()
}

fn mutate(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.roll(3) {
        let (at, byte) = (dice.roll(bytes.len()), u8::try_from(dice.roll(256)).unwrap());
        match dice.roll(4) {
            0 => bytes[at] = byte,
            1 => bytes[at] ^= 1 << dice.roll(8),
            2 => bytes.insert(at, byte),
            _ => bytes.truncate(at.max(1)),
        }
    }
}

fn valid_packets() -> Vec<Vec<u8>> {
    let id = PacketId::new(7).unwrap();
    let ack = || Ack::new(id, ReasonCode::SUCCESS);
    let mut with_will = durable("mutant");
    with_will.will = Some(Will {
        topic: TopicName::parse("遗嘱").unwrap(),
        payload: "再见".into(),
        qos: QoS::ExactlyOnce,
        retain: true,
        delay_interval: Some(1),
        properties: Default::default(),
    });
    let mut publish = message("设备/1", vec![7; 100], QoS::ExactlyOnce, 9);
    publish.properties.user_properties = vec![("a".into(), "b".into())];
    publish.properties.correlation_data = Some("c".into());
    publish.properties.message_expiry_interval = Some(60);
    let subscribe = Subscribe {
        packet_id: id,
        subscription_identifier: Some(5),
        user_properties: Vec::new(),
        filters: vec![("$share/g/设备/+".into(), SubscriptionOptions::default())],
    };
    let packets = [
        Packet::Connect(Box::new(with_will)),
        Packet::Publish(Box::new(publish)),
        Packet::Publish(Box::new(message("t", vec![1; 10], QoS::AtMostOnce, 1))),
        Packet::PubAck(ack()),
        Packet::PubRec(ack()),
        Packet::PubRel(ack()),
        Packet::PubComp(ack()),
        Packet::Subscribe(Box::new(subscribe)),
        Packet::PingReq,
        Packet::Disconnect(Box::new(Disconnect::new(ReasonCode::SUCCESS))),
    ];
    let write = |packet: &Packet| {
        let mut bytes = BytesMut::new();
        packet.write(Version::V5, &mut bytes).unwrap();
        bytes.to_vec()
    };
    packets.iter().map(write).collect()
}

#[test]
fn malformed_packets_end_their_own_connection() {
    Target::start().suffer("malformed", rounds(), run);
}
