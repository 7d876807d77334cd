//! Valid packets of every kind and version, for property tests.

use bytes::Bytes;
use bytestring::ByteString;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use reveille_proto::ids::PacketId;
use reveille_proto::mqtt::*;
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::TopicName;

pub const VERSIONS: [Version; 3] = [Version::V3_1, Version::V3_1_1, Version::V5];

/// Any packet that the version has.
pub fn packet(version: Version) -> BoxedStrategy<Packet> {
    let common = prop_oneof![
        1 => connect(version).prop_map(|connect| Packet::Connect(Box::new(connect))),
        1 => connack(version).prop_map(|connack| Packet::ConnAck(Box::new(connack))),
        4 => publish(version).prop_map(|publish| Packet::Publish(Box::new(publish))),
        1 => ack(version, &RECEIVED).prop_map(Packet::PubAck),
        1 => ack(version, &RECEIVED).prop_map(Packet::PubRec),
        1 => ack(version, &RELEASE).prop_map(Packet::PubRel),
        1 => ack(version, &RELEASE).prop_map(Packet::PubComp),
        1 => subscribe(version).prop_map(|subscribe| Packet::Subscribe(Box::new(subscribe))),
        1 => suback(version).prop_map(|suback| Packet::SubAck(Box::new(suback))),
        1 => unsubscribe(version).prop_map(|unsubscribe| Packet::Unsubscribe(Box::new(unsubscribe))),
        1 => unsuback(version).prop_map(|unsuback| Packet::UnsubAck(Box::new(unsuback))),
        1 => Just(Packet::PingReq),
        1 => Just(Packet::PingResp),
        1 => disconnect(version).prop_map(|disconnect| Packet::Disconnect(Box::new(disconnect))),
    ];
    match version {
        Version::V5 => {
            prop_oneof![9 => common, 1 => auth().prop_map(|auth| Packet::Auth(Box::new(auth)))].boxed()
        }
        Version::V3_1 | Version::V3_1_1 => common.boxed(),
    }
}

pub fn version() -> impl Strategy<Value = Version> {
    prop::sample::select(&VERSIONS)
}

/// Topic names as people write them, among them Chinese ones, `$` ones and empty levels.
pub fn topic_name() -> impl Strategy<Value = TopicName> {
    prop_oneof!["[a-c/$]{1,9}", "(设备|温度|车间)/[一二三]{1,3}(/[a-z0-9 é😀]{0,8}){0,2}", "\\PC{1,20}"]
        .prop_map(|text| TopicName::parse(text.replace(['+', '#', '\0'], "x")).unwrap())
}

/// Topic filters as text, good and bad ones.
pub fn filter_text() -> impl Strategy<Value = ByteString> {
    prop_oneof!["[a-b/+#$]{0,7}", "(设备|\\+)/(#|[一二三]{1,3})", "\\$share/组/设备/#"]
        .prop_map(ByteString::from)
}

pub fn text() -> impl Strategy<Value = ByteString> {
    prop_oneof!["", "[a-z]{1,8}", "[设备温度报警 é😀]{1,6}"].prop_map(ByteString::from)
}

pub fn binary() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..12).prop_map(Bytes::from)
}

pub fn packet_id() -> impl Strategy<Value = PacketId> {
    (1u16..).prop_map(|id| PacketId::new(id).unwrap())
}

pub fn qos() -> impl Strategy<Value = QoS> {
    (0u8..3).prop_map(|qos| QoS::from_u8(qos).unwrap())
}

fn user_properties() -> impl Strategy<Value = UserProperties> {
    vec((text(), text()), 0..3)
}

fn reason(codes: &'static [u8]) -> impl Strategy<Value = ReasonCode> {
    prop::sample::select(codes).prop_map(|code| ReasonCode::from_u8(code).unwrap())
}

/// The strategy on 5.0; before it, what stands for absence.
fn on_5<T: std::fmt::Debug + Clone + Default + 'static>(
    version: Version,
    strategy: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<T> {
    if version == Version::V5 { strategy.boxed() } else { Just(T::default()).boxed() }
}

fn reason_properties() -> impl Strategy<Value = ReasonProperties> {
    (of(text()), user_properties())
        .prop_map(|(reason_string, user_properties)| ReasonProperties { reason_string, user_properties })
}

pub fn connect(version: Version) -> impl Strategy<Value = Connect> {
    let identity = (text(), of(text()), of(binary()));
    (any::<bool>(), any::<u16>(), identity, of(will(version)), on_5(version, connect_properties())).prop_map(
        move |(clean_start, keep_alive, (client_id, username, password), will, properties)| {
            let password = password.filter(|_| version == Version::V5 || username.is_some());
            Connect { version, clean_start, keep_alive, client_id, will, username, password, properties }
        },
    )
}

fn connect_properties() -> impl Strategy<Value = ConnectProperties> {
    let numbers = (of(any::<u32>()), of(1u16..), of(1u32..), of(any::<u16>()));
    let flags = (of(any::<bool>()), of(any::<bool>()));
    let login = of((text(), of(binary())));
    (numbers, flags, user_properties(), login).prop_map(|(numbers, flags, user_properties, login)| {
        let (authentication_method, authentication_data) =
            login.map_or((None, None), |(m, data)| (Some(m), data));
        ConnectProperties {
            session_expiry_interval: numbers.0,
            receive_maximum: numbers.1,
            maximum_packet_size: numbers.2,
            topic_alias_maximum: numbers.3,
            request_response_information: flags.0,
            request_problem_information: flags.1,
            user_properties,
            authentication_method,
            authentication_data,
        }
    })
}

fn will(version: Version) -> impl Strategy<Value = Will> {
    let properties = on_5(version, (of(any::<u32>()), message_properties()));
    (topic_name(), binary(), qos(), any::<bool>(), properties).prop_map(
        |(topic, payload, qos, retain, (delay_interval, properties))| Will {
            topic,
            payload,
            qos,
            retain,
            delay_interval,
            properties,
        },
    )
}

fn message_properties() -> impl Strategy<Value = PublishProperties> {
    let texts = (of(topic_name()), of(binary()), of(text()));
    (of(any::<bool>()), of(any::<u32>()), texts, user_properties()).prop_map(
        |(payload_format_indicator, message_expiry_interval, texts, user_properties)| PublishProperties {
            payload_format_indicator,
            message_expiry_interval,
            response_topic: texts.0,
            correlation_data: texts.1,
            content_type: texts.2,
            user_properties,
            ..PublishProperties::default()
        },
    )
}

pub fn connack(version: Version) -> impl Strategy<Value = ConnAck> {
    const CODES: [u8; 21] = [
        0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A,
        0x9B, 0x9C, 0x9D, 0x9F,
    ];
    const CODES_3: [u8; 5] = [0x84, 0x85, 0x88, 0x86, 0x87];
    let codes: &[u8] = if version == Version::V5 { &CODES } else { &CODES_3 };
    let properties = on_5(version, connack_properties());
    (any::<bool>(), of(reason(codes)), properties).prop_map(move |(session_present, failure, properties)| {
        ConnAck {
            session_present: session_present && failure.is_none() && version != Version::V3_1,
            reason: failure.unwrap_or(ReasonCode::SUCCESS),
            properties,
        }
    })
}

fn connack_properties() -> impl Strategy<Value = ConnAckProperties> {
    let maximum_qos = of(prop::sample::select(&[QoS::AtMostOnce, QoS::AtLeastOnce][..]));
    let numbers = (of(any::<u32>()), of(1u16..), of(1u32..), of(any::<u16>()), of(any::<u16>()));
    let flags = (of(any::<bool>()), of(any::<bool>()), of(any::<bool>()), of(any::<bool>()));
    let texts = (of(text()), of(text()), of(text()), of(text()), of(text()), of(binary()));
    (maximum_qos, numbers, flags, texts, user_properties()).prop_map(
        |(maximum_qos, numbers, flags, texts, user_properties)| ConnAckProperties {
            session_expiry_interval: numbers.0,
            receive_maximum: numbers.1,
            maximum_qos,
            retain_available: flags.0,
            maximum_packet_size: numbers.2,
            assigned_client_identifier: texts.0,
            topic_alias_maximum: numbers.3,
            reason_string: texts.1,
            user_properties,
            wildcard_subscription_available: flags.1,
            subscription_identifiers_available: flags.2,
            shared_subscription_available: flags.3,
            server_keep_alive: numbers.4,
            response_information: texts.2,
            server_reference: texts.3,
            authentication_method: texts.4,
            authentication_data: texts.5,
        },
    )
}

pub fn publish(version: Version) -> impl Strategy<Value = Publish> {
    let properties = on_5(version, publish_properties());
    let head = (any::<bool>(), qos(), any::<bool>(), packet_id());
    let payload = prop_oneof![9 => binary(), 1 => vec(any::<u8>(), 100..20_000).prop_map(Bytes::from)];
    (head, of(topic_name()), topic_name(), properties, payload).prop_map(
        |((dup, qos, retain, packet_id), topic, fallback, properties, payload)| {
            let topic =
                if properties.topic_alias.is_some() { topic } else { Some(topic.unwrap_or(fallback)) };
            let has_id = qos != QoS::AtMostOnce;
            let packet_id = has_id.then_some(packet_id);
            Publish { dup: dup && has_id, qos, retain, topic, packet_id, properties, payload }
        },
    )
}

fn publish_properties() -> impl Strategy<Value = PublishProperties> {
    (message_properties(), of(1u16..), vec(1u32..=268_435_455, 0..5)).prop_map(
        |(message, topic_alias, subscription_identifiers)| PublishProperties {
            topic_alias,
            subscription_identifiers,
            ..message
        },
    )
}

const RECEIVED: [u8; 9] = [0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
const RELEASE: [u8; 2] = [0, 0x92];

fn ack(version: Version, codes: &'static [u8]) -> impl Strategy<Value = Ack> {
    let codes = if version == Version::V5 { codes } else { &RELEASE[..1] };
    let properties = on_5(version, of(reason_properties()));
    (packet_id(), reason(codes), properties).prop_map(|(packet_id, reason, properties)| {
        let is_empty = |p: &ReasonProperties| p.reason_string.is_none() && p.user_properties.is_empty();
        Ack { packet_id, reason, properties: properties.filter(|p| !is_empty(p)).map(Box::new) }
    })
}

fn subscription_options(version: Version) -> impl Strategy<Value = SubscriptionOptions> {
    let handling =
        prop::sample::select(&[RetainHandling::Always, RetainHandling::IfNew, RetainHandling::Never][..]);
    let rest = on_5(version, (any::<bool>(), any::<bool>(), handling));
    (qos(), rest).prop_map(|(qos, (no_local, retain_as_published, retain_handling))| SubscriptionOptions {
        qos,
        no_local,
        retain_as_published,
        retain_handling,
    })
}

pub fn subscribe(version: Version) -> impl Strategy<Value = Subscribe> {
    let filters = vec((filter_text(), subscription_options(version)), 1..4);
    let properties = on_5(version, (of(1u32..=268_435_455), user_properties()));
    (packet_id(), properties, filters).prop_map(
        |(packet_id, (subscription_identifier, user_properties), mut filters)| {
            for (filter, options) in &mut filters {
                options.no_local &= !filter.starts_with("$share/");
            }
            Subscribe { packet_id, subscription_identifier, user_properties, filters }
        },
    )
}

pub fn suback(version: Version) -> impl Strategy<Value = SubAck> {
    const CODES: [u8; 12] = [0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2];
    let codes = match version {
        Version::V3_1 => &CODES[..3],
        Version::V3_1_1 => &CODES[..4],
        Version::V5 => &CODES,
    };
    (packet_id(), vec(reason(codes), 1..4), on_5(version, reason_properties()))
        .prop_map(|(packet_id, reasons, properties)| SubAck { packet_id, reasons, properties })
}

pub fn unsubscribe(version: Version) -> impl Strategy<Value = Unsubscribe> {
    (packet_id(), on_5(version, user_properties()), vec(filter_text(), 1..4))
        .prop_map(|(packet_id, user_properties, filters)| Unsubscribe { packet_id, user_properties, filters })
}

pub fn unsuback(version: Version) -> impl Strategy<Value = UnsubAck> {
    const CODES: [u8; 7] = [0, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];
    let reasons = on_5(version, vec(reason(&CODES), 1..4));
    (packet_id(), reasons, on_5(version, reason_properties()))
        .prop_map(|(packet_id, reasons, properties)| UnsubAck { packet_id, reasons, properties })
}

pub fn disconnect(version: Version) -> impl Strategy<Value = Disconnect> {
    const CODES: [u8; 29] = [
        0, 4, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97,
        0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
    ];
    let codes = if version == Version::V5 { &CODES[..] } else { &CODES[..1] };
    let properties = on_5(version, (of(any::<u32>()), of(text()), reason_properties()));
    (reason(codes), properties).prop_map(
        |(reason, (session_expiry_interval, server_reference, properties))| Disconnect {
            reason,
            session_expiry_interval,
            server_reference,
            properties,
        },
    )
}

fn auth() -> impl Strategy<Value = Auth> {
    let short = Auth {
        reason: ReasonCode::SUCCESS,
        method: None,
        data: None,
        properties: ReasonProperties::default(),
    };
    let long = (reason(&[0, 0x18, 0x19]), text(), of(binary()), reason_properties()).prop_map(
        |(reason, method, data, properties)| Auth { reason, method: Some(method), data, properties },
    );
    prop_oneof![1 => Just(short), 4 => long]
}
