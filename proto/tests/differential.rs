//! The codec of rumqttc, an independent one, reads what ours writes and writes what ours reads, field by field.
//!
//! Left out because that codec has no form for it: 3.1, AUTH, empty user names and passwords, binary passwords, and in
//! 5.0 the DISCONNECT without a body and more than two subscription identifiers in one PUBLISH (it miscounts them).
#![allow(clippy::unwrap_used, reason = "a test ends where its assumption breaks")]

#[path = "support/strategies.rs"]
#[allow(dead_code, reason = "the strategies for single packets serve other tests")]
mod strategies;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use reveille_proto::ids::PacketId;
use reveille_proto::mqtt::*;
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::TopicName;
use rumqttc::mqttbytes as v4;
use rumqttc::v5::mqttbytes as v5;
use v4::v4 as p4;
use v5::v5 as p5;

const LIMIT: u32 = 1 << 20;

/// Changes what the other codec cannot say.
fn comparable(mut packet: Packet) -> Packet {
    if let Packet::Connect(connect) = &mut packet {
        connect.username = Some("用户".into()).filter(|_| connect.username.is_some());
        connect.password = Some(Bytes::from("密码")).filter(|_| connect.password.is_some());
    }
    if let Packet::Publish(publish) = &mut packet {
        publish.properties.subscription_identifiers.truncate(2);
    }
    packet
}

fn of(version: Version) -> impl Strategy<Value = Packet> {
    let short = Packet::Disconnect(Box::new(Disconnect::new(ReasonCode::SUCCESS)));
    let is_left_out = move |packet: &Packet| {
        matches!(packet, Packet::Auth(_)) || (version == Version::V5 && *packet == short)
    };
    strategies::packet(version)
        .prop_filter("the other codec has no form for it", move |packet| !is_left_out(packet))
        .prop_map(comparable)
}

fn written(packet: &Packet, version: Version) -> BytesMut {
    let mut out = BytesMut::new();
    packet.write(version, &mut out).unwrap();
    out
}

proptest! {
    // Always the same cases: a fault of the other codec is to be found by whoever looks for it, not by chance.
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 2_000,
        rng_seed: RngSeed::Fixed(1883),
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_other_codec_agrees_on_3_1_1(packet in of(Version::V3_1_1)) {
        let mut bytes = written(&packet, Version::V3_1_1);
        let theirs = p4::Packet::read(&mut bytes, LIMIT as usize);
        prop_assert!(theirs.is_ok(), "{theirs:?}");
        let theirs = theirs.unwrap();
        prop_assert_eq!(ours_of_4(&theirs), packet.clone(), "what they read");

        let mut bytes = BytesMut::new();
        theirs.write(&mut bytes, usize::MAX).unwrap();
        prop_assert_eq!(read(&mut bytes, Some(Version::V3_1_1), LIMIT), Ok(Some(packet)), "what they wrote");
    }

    #[test]
    fn the_other_codec_agrees_on_5_0(packet in of(Version::V5)) {
        let mut bytes = written(&packet, Version::V5);
        let theirs = p5::Packet::read(&mut bytes, Some(LIMIT));
        prop_assert!(theirs.is_ok(), "{theirs:?}");
        let theirs = theirs.unwrap();
        prop_assert_eq!(ours_of_5(&theirs), packet.clone(), "what they read");

        let mut bytes = BytesMut::new();
        theirs.write(&mut bytes, None).unwrap();
        prop_assert_eq!(read(&mut bytes, Some(Version::V5), LIMIT), Ok(Some(packet)), "what they wrote");
    }
}

fn id(pkid: u16) -> PacketId {
    PacketId::new(pkid).unwrap()
}

fn text(text: &Option<String>) -> Option<ByteString> {
    text.as_deref().map(ByteString::from)
}

fn pairs(pairs: &[(String, String)]) -> UserProperties {
    pairs.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect()
}

fn flag(flag: Option<u8>) -> Option<bool> {
    flag.map(|flag| flag == 1)
}

fn login(username: &str, password: &str) -> (Option<ByteString>, Option<Bytes>) {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    (some(username).map(ByteString::from), some(password).map(Bytes::from))
}

/// The reason by the words of the standard, which the other codec mostly spells in its names.
fn reason(theirs: impl std::fmt::Debug) -> ReasonCode {
    let theirs = format!("{theirs:?}");
    let name = match theirs.as_str() {
        "NormalDisconnection" | "Success(AtMostOnce)" => "Success",
        "Success(AtLeastOnce)" => "GrantedQoS1",
        "Success(ExactlyOnce)" => "GrantedQoS2",
        "RefusedProtocolVersion" => "UnsupportedProtocolVersion",
        "BadClientId" => "ClientIdentifierNotValid",
        "ServiceUnavailable" => "ServerUnavailable",
        "BadUserNamePassword" => "BadUserNameOrPassword",
        "Unspecified" | "Failure" => "UnspecifiedError",
        "ImplementationSpecific" => "ImplementationSpecificError",
        "PkidInUse" => "PacketIdentifierInUse",
        "SubscriptionIdNotSupported" => "SubscriptionIdentifiersNotSupported",
        "SharedSubscriptionNotSupported" => "SharedSubscriptionsNotSupported",
        same => same,
    };
    let plain = |text: &str| text.replace([' ', '-'], "").to_lowercase();
    let mut known = (0..=255).filter_map(ReasonCode::from_u8);
    known.find(|reason| plain(reason.text()) == plain(name)).unwrap()
}

fn ours_of_4(packet: &p4::Packet) -> Packet {
    let ack = |pkid| Ack::new(id(pkid), ReasonCode::SUCCESS);
    match packet {
        p4::Packet::Connect(theirs) => Packet::Connect(Box::new(connect_of_4(theirs))),
        p4::Packet::ConnAck(theirs) => Packet::ConnAck(Box::new(ConnAck {
            session_present: theirs.session_present,
            reason: reason(theirs.code),
            properties: ConnAckProperties::default(),
        })),
        p4::Packet::Publish(theirs) => Packet::Publish(Box::new(Publish {
            dup: theirs.dup,
            qos: QoS::from_u8(theirs.qos as u8).unwrap(),
            retain: theirs.retain,
            topic: Some(TopicName::parse(theirs.topic.as_str()).unwrap()),
            packet_id: PacketId::new(theirs.pkid),
            properties: PublishProperties::default(),
            payload: theirs.payload.clone(),
        })),
        p4::Packet::PubAck(theirs) => Packet::PubAck(ack(theirs.pkid)),
        p4::Packet::PubRec(theirs) => Packet::PubRec(ack(theirs.pkid)),
        p4::Packet::PubRel(theirs) => Packet::PubRel(ack(theirs.pkid)),
        p4::Packet::PubComp(theirs) => Packet::PubComp(ack(theirs.pkid)),
        p4::Packet::Subscribe(theirs) => {
            let options = |qos| SubscriptionOptions { qos, ..SubscriptionOptions::default() };
            let filters = theirs.filters.iter();
            let filters =
                filters.map(|f| (f.path.as_str().into(), options(QoS::from_u8(f.qos as u8).unwrap())));
            Packet::Subscribe(Box::new(Subscribe {
                packet_id: id(theirs.pkid),
                subscription_identifier: None,
                user_properties: vec![],
                filters: filters.collect(),
            }))
        }
        p4::Packet::SubAck(theirs) => Packet::SubAck(Box::new(SubAck {
            packet_id: id(theirs.pkid),
            reasons: theirs.return_codes.iter().map(reason).collect(),
            properties: ReasonProperties::default(),
        })),
        p4::Packet::Unsubscribe(theirs) => Packet::Unsubscribe(Box::new(Unsubscribe {
            packet_id: id(theirs.pkid),
            user_properties: vec![],
            filters: theirs.topics.iter().map(|topic| topic.as_str().into()).collect(),
        })),
        p4::Packet::UnsubAck(theirs) => Packet::UnsubAck(Box::new(UnsubAck {
            packet_id: id(theirs.pkid),
            reasons: vec![],
            properties: ReasonProperties::default(),
        })),
        p4::Packet::PingReq => Packet::PingReq,
        p4::Packet::PingResp => Packet::PingResp,
        p4::Packet::Disconnect => Packet::Disconnect(Box::new(Disconnect::new(ReasonCode::SUCCESS))),
    }
}

fn connect_of_4(theirs: &p4::Connect) -> Connect {
    let (username, password) =
        theirs.login.as_ref().map_or((None, None), |l| login(&l.username, &l.password));
    Connect {
        version: Version::V3_1_1,
        clean_start: theirs.clean_session,
        keep_alive: theirs.keep_alive,
        client_id: theirs.client_id.as_str().into(),
        will: theirs.last_will.as_ref().map(|will| Will {
            topic: TopicName::parse(will.topic.as_str()).unwrap(),
            payload: will.message.clone(),
            qos: QoS::from_u8(will.qos as u8).unwrap(),
            retain: will.retain,
            delay_interval: None,
            properties: PublishProperties::default(),
        }),
        username,
        password,
        properties: ConnectProperties::default(),
    }
}

/// Reason string and user properties out of any of their structures that have both.
macro_rules! reason_properties {
    ($theirs:expr) => {
        $theirs.as_ref().map_or_else(ReasonProperties::default, |theirs| ReasonProperties {
            reason_string: text(&theirs.reason_string),
            user_properties: pairs(&theirs.user_properties),
        })
    };
}

macro_rules! ack {
    ($theirs:expr) => {{
        let properties =
            $theirs.properties.is_some().then(|| Box::new(reason_properties!($theirs.properties)));
        Ack { packet_id: id($theirs.pkid), reason: reason($theirs.reason), properties }
    }};
}

fn ours_of_5(packet: &p5::Packet) -> Packet {
    match packet {
        p5::Packet::Auth(_) => unreachable!("left out"),
        p5::Packet::Connect(connect, will, login) => {
            Packet::Connect(Box::new(connect_of_5(connect, will.as_ref(), login.as_ref())))
        }
        p5::Packet::ConnAck(theirs) => Packet::ConnAck(Box::new(connack_of_5(theirs))),
        p5::Packet::Publish(theirs) => Packet::Publish(Box::new(publish_of_5(theirs))),
        p5::Packet::PubAck(theirs) => Packet::PubAck(ack!(theirs)),
        p5::Packet::PubRec(theirs) => Packet::PubRec(ack!(theirs)),
        p5::Packet::PubRel(theirs) => Packet::PubRel(ack!(theirs)),
        p5::Packet::PubComp(theirs) => Packet::PubComp(ack!(theirs)),
        p5::Packet::Subscribe(theirs) => Packet::Subscribe(Box::new(subscribe_of_5(theirs))),
        p5::Packet::SubAck(theirs) => Packet::SubAck(Box::new(SubAck {
            packet_id: id(theirs.pkid),
            reasons: theirs.return_codes.iter().map(reason).collect(),
            properties: reason_properties!(theirs.properties),
        })),
        p5::Packet::Unsubscribe(theirs) => Packet::Unsubscribe(Box::new(Unsubscribe {
            packet_id: id(theirs.pkid),
            user_properties: theirs.properties.as_ref().map_or(vec![], |p| pairs(&p.user_properties)),
            filters: theirs.filters.iter().map(|filter| filter.as_str().into()).collect(),
        })),
        p5::Packet::UnsubAck(theirs) => Packet::UnsubAck(Box::new(UnsubAck {
            packet_id: id(theirs.pkid),
            reasons: theirs.reasons.iter().map(reason).collect(),
            properties: reason_properties!(theirs.properties),
        })),
        p5::Packet::PingReq(_) => Packet::PingReq,
        p5::Packet::PingResp(_) => Packet::PingResp,
        p5::Packet::Disconnect(theirs) => Packet::Disconnect(Box::new(Disconnect {
            reason: reason(theirs.reason_code),
            session_expiry_interval: theirs.properties.as_ref().and_then(|p| p.session_expiry_interval),
            server_reference: theirs.properties.as_ref().and_then(|p| text(&p.server_reference)),
            properties: reason_properties!(theirs.properties),
        })),
    }
}

fn connect_of_5(theirs: &p5::Connect, will: Option<&p5::LastWill>, l: Option<&p5::Login>) -> Connect {
    let (username, password) = l.map_or((None, None), |l| login(&l.username, &l.password));
    let properties =
        theirs.properties.as_ref().map_or_else(ConnectProperties::default, |p| ConnectProperties {
            session_expiry_interval: p.session_expiry_interval,
            receive_maximum: p.receive_maximum,
            maximum_packet_size: p.max_packet_size,
            topic_alias_maximum: p.topic_alias_max,
            request_response_information: flag(p.request_response_info),
            request_problem_information: flag(p.request_problem_info),
            user_properties: pairs(&p.user_properties),
            authentication_method: text(&p.authentication_method),
            authentication_data: p.authentication_data.clone(),
        });
    Connect {
        version: Version::V5,
        clean_start: theirs.clean_start,
        keep_alive: theirs.keep_alive,
        client_id: theirs.client_id.as_str().into(),
        will: will.map(will_of_5),
        username,
        password,
        properties,
    }
}

fn will_of_5(theirs: &p5::LastWill) -> Will {
    let p = theirs.properties.as_ref();
    Will {
        topic: topic(&theirs.topic).unwrap(),
        payload: theirs.message.clone(),
        qos: QoS::from_u8(theirs.qos as u8).unwrap(),
        retain: theirs.retain,
        delay_interval: p.and_then(|p| p.delay_interval),
        properties: p.map_or_else(PublishProperties::default, |p| PublishProperties {
            payload_format_indicator: flag(p.payload_format_indicator),
            message_expiry_interval: p.message_expiry_interval,
            response_topic: p.response_topic.as_deref().map(|name| TopicName::parse(name).unwrap()),
            correlation_data: p.correlation_data.clone(),
            user_properties: pairs(&p.user_properties),
            content_type: text(&p.content_type),
            ..PublishProperties::default()
        }),
    }
}

fn connack_of_5(theirs: &p5::ConnAck) -> ConnAck {
    let properties =
        theirs.properties.as_ref().map_or_else(ConnAckProperties::default, |p| ConnAckProperties {
            session_expiry_interval: p.session_expiry_interval,
            receive_maximum: p.receive_max,
            maximum_qos: p.max_qos.map(|qos| QoS::from_u8(qos).unwrap()),
            retain_available: flag(p.retain_available),
            maximum_packet_size: p.max_packet_size,
            assigned_client_identifier: text(&p.assigned_client_identifier),
            topic_alias_maximum: p.topic_alias_max,
            reason_string: text(&p.reason_string),
            user_properties: pairs(&p.user_properties),
            wildcard_subscription_available: flag(p.wildcard_subscription_available),
            subscription_identifiers_available: flag(p.subscription_identifiers_available),
            shared_subscription_available: flag(p.shared_subscription_available),
            server_keep_alive: p.server_keep_alive,
            response_information: text(&p.response_information),
            server_reference: text(&p.server_reference),
            authentication_method: text(&p.authentication_method),
            authentication_data: p.authentication_data.clone(),
        });
    ConnAck { session_present: theirs.session_present, reason: reason(theirs.code), properties }
}

fn publish_of_5(theirs: &p5::Publish) -> Publish {
    let identifiers = |found: &[usize]| found.iter().map(|found| u32::try_from(*found).unwrap()).collect();
    let properties =
        theirs.properties.as_ref().map_or_else(PublishProperties::default, |p| PublishProperties {
            payload_format_indicator: flag(p.payload_format_indicator),
            message_expiry_interval: p.message_expiry_interval,
            topic_alias: p.topic_alias,
            response_topic: p.response_topic.as_deref().map(|name| TopicName::parse(name).unwrap()),
            correlation_data: p.correlation_data.clone(),
            user_properties: pairs(&p.user_properties),
            subscription_identifiers: identifiers(&p.subscription_identifiers),
            content_type: text(&p.content_type),
        });
    Publish {
        dup: theirs.dup,
        qos: QoS::from_u8(theirs.qos as u8).unwrap(),
        retain: theirs.retain,
        topic: topic(&theirs.topic),
        packet_id: PacketId::new(theirs.pkid),
        properties,
        payload: theirs.payload.clone(),
    }
}

fn topic(name: &Bytes) -> Option<TopicName> {
    TopicName::parse(ByteString::try_from(name.clone()).unwrap()).ok()
}

fn subscribe_of_5(theirs: &p5::Subscribe) -> Subscribe {
    let filters = theirs.filters.iter().map(|filter| {
        let retain_handling = match filter.retain_forward_rule {
            p5::RetainForwardRule::OnEverySubscribe => RetainHandling::Always,
            p5::RetainForwardRule::OnNewSubscribe => RetainHandling::IfNew,
            p5::RetainForwardRule::Never => RetainHandling::Never,
        };
        let options = SubscriptionOptions {
            qos: QoS::from_u8(filter.qos as u8).unwrap(),
            no_local: filter.nolocal,
            retain_as_published: filter.preserve_retain,
            retain_handling,
        };
        (filter.path.as_str().into(), options)
    });
    let p = theirs.properties.as_ref();
    Subscribe {
        packet_id: id(theirs.pkid),
        subscription_identifier: p.and_then(|p| p.id).map(|id| u32::try_from(id).unwrap()),
        user_properties: p.map_or(vec![], |p| pairs(&p.user_properties)),
        filters: filters.collect(),
    }
}
