//! What is written is read again, whole and in pieces; what is not a packet harms nobody.
#![allow(clippy::unwrap_used, reason = "a test ends where its assumption breaks")]

#[path = "support/strategies.rs"]
mod strategies;

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use reveille_proto::ids::PacketId;
use reveille_proto::mqtt::*;
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::TopicName;
use strategies::{VERSIONS, packet, publish, version};

const LIMIT: u32 = 1 << 20;

fn written(packet: &Packet, version: Version) -> BytesMut {
    let mut out = BytesMut::new();
    packet.write(version, &mut out).unwrap();
    out
}

/// CONNECT is read as the first packet, all others as later ones.
fn read_as(packet: &Packet, version: Version, bytes: &mut BytesMut) -> Result<Option<Packet>, Malformed> {
    read(bytes, Some(version).filter(|_| !matches!(packet, Packet::Connect(_))), LIMIT)
}

fn of_any_version() -> impl Strategy<Value = (Version, Packet)> {
    version().prop_flat_map(|version| (Just(version), packet(version)))
}

fn publish_of_any_version() -> impl Strategy<Value = (Version, Publish)> {
    version().prop_flat_map(|version| (Just(version), publish(version)))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_again((version, packet) in of_any_version()) {
        let mut bytes = written(&packet, version);
        let whole = bytes.len();
        prop_assert_eq!(read_as(&packet, version, &mut bytes), Ok(Some(packet.clone())), "{}", packet.name());
        prop_assert!(bytes.is_empty(), "{} of {} bytes left", bytes.len(), whole);
    }

    #[test]
    fn a_packet_of_exactly_the_limit_fits((version, packet) in of_any_version()) {
        let mut bytes = written(&packet, version);
        let whole = u32::try_from(bytes.len()).unwrap();
        let asked = Some(version).filter(|_| !matches!(packet, Packet::Connect(_)));
        let too_large = read(&mut bytes, asked, whole - 1).unwrap_err();
        prop_assert_eq!(too_large.reason, ReasonCode::PACKET_TOO_LARGE);
        prop_assert_eq!(read(&mut bytes, asked, whole), Ok(Some(packet)));
    }

    #[test]
    fn a_packet_without_its_last_byte_waits((version, packet) in of_any_version(), cut in any::<prop::sample::Index>()) {
        let whole = written(&packet, version);
        let mut part = BytesMut::from(&whole[..cut.index(whole.len())]);
        let before = part.clone();
        prop_assert_eq!(read_as(&packet, version, &mut part), Ok(None));
        prop_assert_eq!(part, before, "waiting takes nothing");
    }

    #[test]
    fn a_frame_for_many_is_the_packet_of_each(
        (version, publish) in publish_of_any_version(),
        id in 1u16..,
        dup in any::<bool>(),
        retain in any::<bool>(),
    ) {
        let frame = PublishFrame::encode(version, &publish).unwrap();
        let id = PacketId::new(id).filter(|_| publish.qos != QoS::AtMostOnce);
        let wanted = Publish { dup, retain, packet_id: id, ..publish.clone() };
        let wanted = written(&Packet::Publish(Box::new(wanted)), version);
        prop_assert_eq!(frame.len(), wanted.len());

        let mut found = BytesMut::new();
        frame.write(id, dup, retain, &mut found);
        prop_assert_eq!(&found, &wanted);

        let mut head = BytesMut::new();
        frame.write_head(id, dup, retain, &mut head);
        head.extend_from_slice(frame.payload());
        prop_assert_eq!(&head, &wanted);

        let mut own = BytesMut::new();
        frame.write(None, publish.dup, publish.retain, &mut own);
        prop_assert_eq!(own, written(&Packet::Publish(Box::new(publish)), version));
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_never_grow_the_buffer(
        bytes in vec(any::<u8>(), 0..64),
        first in any::<u8>(),
        asked in prop::option::of(version()),
    ) {
        let mut buffer = BytesMut::from(&[&[first][..], &bytes].concat()[..]);
        for _ in 0..=bytes.len() {
            let (capacity, len) = (buffer.capacity(), buffer.len());
            let outcome = read(&mut buffer, asked, LIMIT);
            prop_assert!(buffer.capacity() <= capacity, "reading reserves nothing");
            match outcome {
                Ok(Some(_)) => prop_assert!(buffer.len() < len, "a packet takes its bytes"),
                Ok(None) | Err(_) => return Ok(()),
            }
        }
    }

    #[test]
    fn a_flipped_bit_never_panics((version, packet) in of_any_version(), at in any::<prop::sample::Index>(), bit in 0..8) {
        let mut bytes = written(&packet, version);
        let at = at.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        let outcome = read_as(&packet, version, &mut bytes);
        if let Ok(Some(other)) = outcome {
            let mut again = written(&other, version_of(&other, version));
            prop_assert_eq!(read_as(&other, version, &mut again), Ok(Some(other)), "what was read can be written");
        }
    }
}

fn version_of(packet: &Packet, version: Version) -> Version {
    if let Packet::Connect(connect) = packet { connect.version } else { version }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_split_of_the_stream_gives_the_same_packets(
        (version, packets) in version().prop_flat_map(|version| (Just(version), vec(packet(version), 1..6))),
        pieces in vec(1usize..40, 1..50),
    ) {
        let mut stream = Bytes::from(packets.iter().flat_map(|packet| written(packet, version)).collect::<Vec<_>>());
        let (mut buffer, mut found) = (BytesMut::new(), vec![]);
        let mut pieces = pieces.into_iter().cycle();
        while !stream.is_empty() {
            let piece = stream.split_to(pieces.next().unwrap().min(stream.len()));
            buffer.extend_from_slice(&piece);
            while let Some(packet) = read(&mut buffer, Some(version), LIMIT).unwrap() {
                found.push(packet);
            }
        }
        prop_assert_eq!(found, packets);
        prop_assert!(buffer.is_empty());
    }
}

#[test]
fn a_payload_is_a_slice_of_what_was_received() {
    let publish = publish_to("设备/1", Bytes::from(vec![7; 4096]));
    let mut bytes = written(&publish, Version::V5);
    let received = bytes.as_ptr_range();
    let Ok(Some(Packet::Publish(publish))) = read(&mut bytes, Some(Version::V5), LIMIT) else {
        unreachable!("a PUBLISH was written")
    };
    assert!(received.contains(&publish.payload.as_ptr()), "the payload was copied");
    assert!(received.contains(&publish.topic.unwrap().as_str().as_ptr()), "the topic name was copied");
}

#[test]
fn the_version_of_a_connect_is_known_before_the_rest_is_read() {
    let good = [
        (&b"\x10\x0c\x00\x04MQTT\x05"[..], Some(Version::V5)),
        (b"\x10\x0c\x00\x04MQTT\x04\x01", Some(Version::V3_1_1)),
        (b"\x10\x0e\x00\x06MQIsdp\x03", Some(Version::V3_1)),
        (b"\x10\x80\x01\x00\x04MQTT\x05", Some(Version::V5)),
        (b"\x10\x0c\x00\x04MQTT\x06", None),
        (b"\x10\x0c\x00\x04MQTT", None),
        (b"\x10\xff\xff\xff\xff", None),
        (b"\x10", None),
        (b"", None),
        (b"\x30\x0c\x00\x04MQTT\x05", None),
    ];
    for (bytes, wanted) in good {
        assert_eq!(version_of_connect(bytes), wanted, "{bytes:x?}");
    }
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_written() {
    let long = "x".repeat(65_536);
    let id = PacketId::new(1).unwrap();
    let publish = |topic: Option<&str>, qos, packet_id| {
        Packet::Publish(Box::new(Publish {
            dup: false,
            qos,
            retain: false,
            topic: topic.map(|topic| TopicName::parse(topic).unwrap()),
            packet_id,
            properties: PublishProperties::default(),
            payload: Bytes::new(),
        }))
    };
    let mut with_long_content_type = publish_to("t", Bytes::new());
    if let Packet::Publish(publish) = &mut with_long_content_type {
        publish.properties.content_type = Some(long.clone().into());
    }
    let unsubscribe =
        Unsubscribe { packet_id: id, user_properties: vec![], filters: vec![long.clone().into()] };
    let login = Connect {
        version: Version::V3_1_1,
        clean_start: true,
        keep_alive: 0,
        client_id: "d1".into(),
        will: None,
        username: None,
        password: Some(Bytes::from_static(b"secret")),
        properties: ConnectProperties::default(),
    };
    let auth = Auth {
        reason: ReasonCode::CONTINUE_AUTHENTICATION,
        method: None,
        data: None,
        properties: ReasonProperties::default(),
    };
    let huge = publish_to("t", Bytes::from(vec![0; 268_435_455]));
    let rows = [
        ("a long property", with_long_content_type, Version::V5),
        ("a long filter", Packet::Unsubscribe(Box::new(unsubscribe)), Version::V3_1_1),
        ("a password alone", Packet::Connect(Box::new(login)), Version::V3_1_1),
        ("AUTH without method", Packet::Auth(Box::new(auth)), Version::V5),
        ("no topic", publish(None, QoS::AtMostOnce, None), Version::V5),
        ("no packet identifier", publish(Some("t"), QoS::AtLeastOnce, None), Version::V5),
        ("a packet above the limit of the format", huge.clone(), Version::V3_1_1),
    ];
    for (what, packet, version) in rows {
        let mut out = BytesMut::from(&b"before"[..]);
        assert_eq!(packet.write(version, &mut out), Err(TooLarge), "{what}");
        assert_eq!(&out[..], b"before", "{what}");
    }
    let Packet::Publish(huge) = huge else { unreachable!("made as PUBLISH") };
    assert_eq!(PublishFrame::encode(Version::V3_1_1, &huge).err(), Some(TooLarge));
    let nowhere = Publish { topic: None, ..*huge };
    assert_eq!(PublishFrame::encode(Version::V3_1_1, &nowhere).err(), Some(TooLarge));
}

fn publish_to(topic: &str, payload: Bytes) -> Packet {
    Packet::Publish(Box::new(Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: Some(TopicName::parse(topic).unwrap()),
        packet_id: None,
        properties: PublishProperties::default(),
        payload,
    }))
}

#[test]
fn each_version_gets_the_bytes_that_it_knows() {
    let id = PacketId::new(0x1234).unwrap();
    let words = ReasonProperties { reason_string: Some("no".into()), user_properties: vec![] };
    let failed = Ack { packet_id: id, reason: ReasonCode::QUOTA_EXCEEDED, properties: None };
    let worded = Ack { properties: Some(Box::new(words.clone())), ..failed.clone() };
    let suback = SubAck {
        packet_id: id,
        reasons: vec![ReasonCode::GRANTED_QOS_2, ReasonCode::NOT_AUTHORIZED],
        properties: words.clone(),
    };
    let unsuback = UnsubAck {
        packet_id: id,
        reasons: vec![ReasonCode::NO_SUBSCRIPTION_EXISTED],
        properties: words.clone(),
    };
    let connack = ConnAck {
        session_present: false,
        reason: ReasonCode::BANNED,
        properties: ConnAckProperties { server_keep_alive: Some(60), ..ConnAckProperties::default() },
    };
    let resumed = ConnAck { session_present: true, reason: ReasonCode::SUCCESS, ..connack.clone() };
    let auth = Auth {
        reason: ReasonCode::CONTINUE_AUTHENTICATION,
        method: Some("m".into()),
        data: None,
        properties: ReasonProperties::default(),
    };
    let rows: [(Packet, [&[u8]; 3]); 12] = [
        (Packet::PubAck(Ack::new(id, ReasonCode::SUCCESS)), [b"\x40\x02\x12\x34"; 3]),
        (Packet::PubRec(failed.clone()), [b"\x50\x02\x12\x34", b"\x50\x02\x12\x34", b"\x50\x03\x12\x34\x97"]),
        (
            Packet::PubAck(worded),
            [b"\x40\x02\x12\x34", b"\x40\x02\x12\x34", b"\x40\x09\x12\x34\x97\x05\x1f\x00\x02no"],
        ),
        (Packet::PubRel(Ack::new(id, ReasonCode::SUCCESS)), [b"\x62\x02\x12\x34"; 3]),
        (
            Packet::SubAck(Box::new(suback)),
            [
                b"\x90\x04\x12\x34\x02\x00",
                b"\x90\x04\x12\x34\x02\x80",
                b"\x90\x0a\x12\x34\x05\x1f\x00\x02no\x02\x87",
            ],
        ),
        (
            Packet::UnsubAck(Box::new(unsuback)),
            [b"\xb0\x02\x12\x34", b"\xb0\x02\x12\x34", b"\xb0\x09\x12\x34\x05\x1f\x00\x02no\x11"],
        ),
        (
            Packet::ConnAck(Box::new(connack)),
            [b"\x20\x02\x00\x05", b"\x20\x02\x00\x05", b"\x20\x06\x00\x8a\x03\x13\x00\x3c"],
        ),
        (
            Packet::ConnAck(Box::new(resumed)),
            [b"\x20\x02\x00\x00", b"\x20\x02\x01\x00", b"\x20\x06\x01\x00\x03\x13\x00\x3c"],
        ),
        (
            Packet::Disconnect(Box::new(Disconnect::new(ReasonCode::SESSION_TAKEN_OVER))),
            [b"\xe0\x00", b"\xe0\x00", b"\xe0\x02\x8e\x00"],
        ),
        (Packet::Disconnect(Box::new(Disconnect::new(ReasonCode::SUCCESS))), [b"\xe0\x00"; 3]),
        (Packet::Auth(Box::new(auth)), [b"", b"", b"\xf0\x06\x18\x04\x15\x00\x01m"]),
        (Packet::PingReq, [b"\xc0\x00"; 3]),
    ];
    for (packet, wanted) in rows {
        for (version, wanted) in VERSIONS.into_iter().zip(wanted) {
            assert_eq!(written(&packet, version), wanted, "{} in {version:?}", packet.name());
        }
    }
}

#[test]
fn short_and_lenient_forms_that_the_standard_allows_are_read() {
    let id = PacketId::new(1).unwrap();
    let ack = |reason| Packet::PubAck(Ack::new(id, reason));
    let left = |reason| Packet::Disconnect(Box::new(Disconnect::new(reason)));
    let rows: [(&[u8], Version, Packet); 9] = [
        (b"\x40\x02\x00\x01", Version::V5, ack(ReasonCode::SUCCESS)),
        (b"\x40\x03\x00\x01\x10", Version::V5, ack(ReasonCode::NO_MATCHING_SUBSCRIBERS)),
        (b"\x40\x04\x00\x01\x00\x00", Version::V5, ack(ReasonCode::SUCCESS)),
        (b"\xe0\x00", Version::V5, left(ReasonCode::SUCCESS)),
        (b"\xe0\x01\x04", Version::V5, left(ReasonCode::DISCONNECT_WITH_WILL)),
        (b"\xe0\x02\x00\x00", Version::V5, left(ReasonCode::SUCCESS)),
        // 3.1 repeats with DUP; and before 5.0 a length may be padded.
        (b"\x6a\x02\x00\x01", Version::V3_1, Packet::PubRel(Ack::new(id, ReasonCode::SUCCESS))),
        (b"\x40\x82\x00\x00\x01", Version::V3_1_1, ack(ReasonCode::SUCCESS)),
        (b"\xc0\x00", Version::V3_1, Packet::PingReq),
    ];
    for (bytes, version, wanted) in rows {
        assert_eq!(read(&mut BytesMut::from(bytes), Some(version), LIMIT), Ok(Some(wanted)), "{bytes:x?}");
    }
}

#[test]
fn a_connect_of_3_1_may_lack_what_its_flags_announce() {
    let mut bytes = BytesMut::from(&b"\x10\x0f\x00\x06MQIsdp\x03\xc2\x00\x3c\x00\x01d"[..]);
    let Ok(Some(Packet::Connect(connect))) = read(&mut bytes, None, LIMIT) else {
        unreachable!("3.1 lets the length decide")
    };
    assert_eq!((connect.username, connect.password, connect.client_id.as_ref()), (None, None, "d"));
}
