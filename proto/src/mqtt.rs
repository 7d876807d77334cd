//! The MQTT control packets of 3.1, 3.1.1 and 5.0 as values. Each file below reads and writes one of them.
//!
//! [`read`] is the only way in, [`Packet::write`] the only way out; a PUBLISH to many receivers goes out as a
//! [`PublishFrame`] that they share.

mod ack;
mod auth;
mod connack;
mod connect;
mod disconnect;
mod fixed_header;
mod packet;
mod properties;
mod publish;
mod suback;
mod subscribe;
mod unsubscribe;
mod wire;

use crate::ids::PacketId;
use crate::reason::ReasonCode;
use crate::topic::TopicName;
use bytes::Bytes;
use bytestring::ByteString;
use packet::reason_of;

pub use packet::{read, version_of_connect};
pub use publish::PublishFrame;

/// Why the bytes are no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct Malformed {
    /// What the standard wants as answer, in CONNACK or DISCONNECT.
    pub reason: ReasonCode,
    /// The rule that is broken, in words.
    pub what: &'static str,
}

impl Malformed {
    /// The bytes cannot be read by the rules of the standard.
    const fn packet(what: &'static str) -> Self {
        Self { reason: ReasonCode::MALFORMED_PACKET, what }
    }

    /// The bytes can be read and say what the standard does not allow.
    const fn protocol(what: &'static str) -> Self {
        Self { reason: ReasonCode::PROTOCOL_ERROR, what }
    }
}

/// A packet whose fields do not fit the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a field does not fit the format of its packet")]
pub struct TooLarge;

/// The protocol level in CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// 3.1, protocol name `MQIsdp`, level 3.
    V3_1,
    /// 3.1.1, protocol name `MQTT`, level 4.
    V3_1_1,
    /// 5.0, protocol name `MQTT`, level 5.
    V5,
}

/// How often a message arrives: at most once, at least once, exactly once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum QoS {
    /// 0
    #[default]
    AtMostOnce = 0,
    /// 1
    AtLeastOnce = 1,
    /// 2
    ExactlyOnce = 2,
}

impl QoS {
    /// `None` for 3, which the standard forbids. `[MQTT5-3.3.1-4]`
    pub fn from_u8(qos: u8) -> Option<Self> {
        match qos {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// User properties: names and values in the order in which they came; a name may come more than once.
pub type UserProperties = Vec<(ByteString, ByteString)>;

/// Any control packet, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is named after its packet")]
pub enum Packet {
    Connect(Box<Connect>),
    ConnAck(Box<ConnAck>),
    Publish(Box<Publish>),
    PubAck(Ack),
    PubRec(Ack),
    PubRel(Ack),
    PubComp(Ack),
    Subscribe(Box<Subscribe>),
    SubAck(Box<SubAck>),
    Unsubscribe(Box<Unsubscribe>),
    UnsubAck(Box<UnsubAck>),
    PingReq,
    PingResp,
    Disconnect(Box<Disconnect>),
    Auth(Box<Auth>),
}

/// CONNECT, section 3.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// From protocol name and level.
    pub version: Version,
    /// Clean Start (5.0) or Clean Session (3.x).
    pub clean_start: bool,
    /// Seconds; 0 turns the mechanism off.
    pub keep_alive: u16,
    /// As the client gave it; may be empty.
    pub client_id: ByteString,
    /// The will, when the will flag is set.
    pub will: Option<Will>,
    /// User name.
    pub username: Option<ByteString>,
    /// Password; any bytes.
    pub password: Option<Bytes>,
    /// Properties; all absent before 5.0.
    pub properties: ConnectProperties,
}

/// The properties of CONNECT, section 3.1.2.11.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is named after its property")]
pub struct ConnectProperties {
    /// Seconds; `u32::MAX` means never.
    pub session_expiry_interval: Option<u32>,
    /// Never 0.
    pub receive_maximum: Option<u16>,
    /// Bytes; never 0.
    pub maximum_packet_size: Option<u32>,
    pub topic_alias_maximum: Option<u16>,
    pub request_response_information: Option<bool>,
    pub request_problem_information: Option<bool>,
    pub user_properties: UserProperties,
    pub authentication_method: Option<ByteString>,
    pub authentication_data: Option<Bytes>,
}

/// The will in CONNECT, section 3.1.3.2 to 3.1.3.4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Where to publish it.
    pub topic: TopicName,
    /// What to publish.
    pub payload: Bytes,
    /// With which QoS.
    pub qos: QoS,
    /// Whether to retain it.
    pub retain: bool,
    /// Seconds between the end of the connection and publishing.
    pub delay_interval: Option<u32>,
    /// The rest of its properties, as of a PUBLISH (no topic alias, no subscription identifiers).
    pub properties: PublishProperties,
}

/// CONNACK, section 3.2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnAck {
    /// Whether the server already had the session.
    pub session_present: bool,
    /// Success or why not.
    pub reason: ReasonCode,
    /// Properties; written for 5.0 only.
    pub properties: ConnAckProperties,
}

/// The properties of CONNACK, section 3.2.2.3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is named after its property")]
pub struct ConnAckProperties {
    pub session_expiry_interval: Option<u32>,
    pub receive_maximum: Option<u16>,
    pub maximum_qos: Option<QoS>,
    pub retain_available: Option<bool>,
    pub maximum_packet_size: Option<u32>,
    pub assigned_client_identifier: Option<ByteString>,
    pub topic_alias_maximum: Option<u16>,
    pub reason_string: Option<ByteString>,
    pub user_properties: UserProperties,
    pub wildcard_subscription_available: Option<bool>,
    pub subscription_identifiers_available: Option<bool>,
    pub shared_subscription_available: Option<bool>,
    pub server_keep_alive: Option<u16>,
    pub response_information: Option<ByteString>,
    pub server_reference: Option<ByteString>,
    pub authentication_method: Option<ByteString>,
    pub authentication_data: Option<Bytes>,
}

/// PUBLISH, section 3.3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Sent before; always `false` for QoS 0. `[MQTT5-3.3.1-2]`
    pub dup: bool,
    /// QoS.
    pub qos: QoS,
    /// Retain flag.
    pub retain: bool,
    /// `None` when a topic alias stands for it (5.0).
    pub topic: Option<TopicName>,
    /// Present exactly when QoS is 1 or 2.
    pub packet_id: Option<PacketId>,
    /// Properties; all absent before 5.0.
    pub properties: PublishProperties,
    /// The application's bytes.
    pub payload: Bytes,
}

/// The properties of PUBLISH, section 3.3.2.3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is named after its property")]
pub struct PublishProperties {
    /// `true`: the payload is UTF-8.
    pub payload_format_indicator: Option<bool>,
    /// Seconds.
    pub message_expiry_interval: Option<u32>,
    /// Never 0.
    pub topic_alias: Option<u16>,
    /// Has no wildcards.
    pub response_topic: Option<TopicName>,
    pub correlation_data: Option<Bytes>,
    pub user_properties: UserProperties,
    /// 1 to 268,435,455 each; only from server to client.
    pub subscription_identifiers: Vec<u32>,
    pub content_type: Option<ByteString>,
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP, sections 3.4 to 3.7: they share one shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Of the PUBLISH that this belongs to.
    pub packet_id: PacketId,
    /// Success when absent on the wire; always success before 5.0.
    pub reason: ReasonCode,
    /// Reason string and user properties; almost always absent, so they cost a pointer.
    pub properties: Option<Box<ReasonProperties>>,
}

impl Ack {
    /// The usual answer: a packet identifier and a reason.
    pub fn new(packet_id: PacketId, reason: ReasonCode) -> Self {
        Self { packet_id, reason, properties: None }
    }
}

/// What may stand behind a reason code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReasonProperties {
    /// Words for people who diagnose.
    pub reason_string: Option<ByteString>,
    /// User properties.
    pub user_properties: UserProperties,
}

/// SUBSCRIBE, section 3.8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Answered with the same one in SUBACK.
    pub packet_id: PacketId,
    /// 1 to 268,435,455.
    pub subscription_identifier: Option<u32>,
    /// User properties.
    pub user_properties: UserProperties,
    /// At least one. The filter is text here, so that a bad one costs its own reason code only, not the connection.
    pub filters: Vec<(ByteString, SubscriptionOptions)>,
}

/// The options behind a filter in SUBSCRIBE, section 3.8.3.1. Before 5.0 only the QoS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions {
    /// At most this QoS is delivered.
    pub qos: QoS,
    /// Not what this client published itself.
    pub no_local: bool,
    /// Keep the retain flag as published.
    pub retain_as_published: bool,
    /// Which retained messages to send now.
    pub retain_handling: RetainHandling,
}

/// When retained messages are sent on SUBSCRIBE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// 0: at each SUBSCRIBE.
    #[default]
    Always = 0,
    /// 1: only when the subscription did not exist.
    IfNew = 1,
    /// 2: never.
    Never = 2,
}

/// SUBACK, section 3.9.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAck {
    /// Of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// One for each filter, in order.
    pub reasons: Vec<ReasonCode>,
    /// Reason string and user properties.
    pub properties: ReasonProperties,
}

/// UNSUBSCRIBE, section 3.10.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Answered with the same one in UNSUBACK.
    pub packet_id: PacketId,
    /// User properties.
    pub user_properties: UserProperties,
    /// At least one; text for the same reason as in [`Subscribe`].
    pub filters: Vec<ByteString>,
}

/// UNSUBACK, section 3.11; before 5.0 only the packet identifier is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsubAck {
    /// Of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// One for each filter, in order; empty before 5.0.
    pub reasons: Vec<ReasonCode>,
    /// Reason string and user properties.
    pub properties: ReasonProperties,
}

/// DISCONNECT, section 3.14.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// 0x00 is a normal disconnection.
    pub reason: ReasonCode,
    /// Seconds; only from client to server.
    pub session_expiry_interval: Option<u32>,
    /// Where to go instead; only from server to client.
    pub server_reference: Option<ByteString>,
    /// Reason string and user properties.
    pub properties: ReasonProperties,
}

impl Disconnect {
    /// The usual one: only a reason.
    pub fn new(reason: ReasonCode) -> Self {
        Self {
            reason,
            session_expiry_interval: None,
            server_reference: None,
            properties: ReasonProperties::default(),
        }
    }
}

/// AUTH, section 3.15; 5.0 only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Success, continue authentication or re-authenticate.
    pub reason: ReasonCode,
    /// Authentication method; required unless the packet is the short form of success.
    pub method: Option<ByteString>,
    /// Authentication data.
    pub data: Option<Bytes>,
    /// Reason string and user properties.
    pub properties: ReasonProperties,
}
