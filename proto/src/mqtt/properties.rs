//! The table of properties, section 2.2.2.2: which identifier has which type, and what its values may be.

use super::wire::{Reader, Sink};
use super::{Malformed, QoS, ReasonProperties, UserProperties};
use crate::reason::ReasonCode;
use crate::topic::TopicName;
use bytes::Bytes;
use bytestring::ByteString;

macro_rules! properties {
    ($($id:literal $name:ident $variant:ident($type:ty) by $read:ident;)*) => {
        /// One property as it was read; the packets decide which of them belong to them.
        #[allow(clippy::enum_variant_names, reason = "the names are those of the standard")]
        pub(super) enum Property {
            $($variant($type),)*
        }

        /// The identifiers, for writing.
        pub(super) mod id {
            $(pub const $name: u8 = $id;)*
        }

        impl Property {
            /// The next property; `None` at the end of the properties.
            pub fn read(properties: &mut Reader) -> Result<Option<Self>, Malformed> {
                if properties.is_empty() {
                    return Ok(None);
                }
                let property = match properties.varint()? {
                    $($id => Self::$variant($read(properties)?),)*
                    _ => return Err(Malformed::packet("a property that does not exist")),
                };
                Ok(Some(property))
            }
        }
    };
}

properties! {
    0x01 PAYLOAD_FORMAT_INDICATOR PayloadFormatIndicator(bool) by flag;
    0x02 MESSAGE_EXPIRY_INTERVAL MessageExpiryInterval(u32) by four_bytes;
    0x03 CONTENT_TYPE ContentType(ByteString) by text;
    0x08 RESPONSE_TOPIC ResponseTopic(TopicName) by response_topic;
    0x09 CORRELATION_DATA CorrelationData(Bytes) by binary;
    0x0B SUBSCRIPTION_IDENTIFIER SubscriptionIdentifier(u32) by subscription_identifier;
    0x11 SESSION_EXPIRY_INTERVAL SessionExpiryInterval(u32) by four_bytes;
    0x12 ASSIGNED_CLIENT_IDENTIFIER AssignedClientIdentifier(ByteString) by text;
    0x13 SERVER_KEEP_ALIVE ServerKeepAlive(u16) by two_bytes;
    0x15 AUTHENTICATION_METHOD AuthenticationMethod(ByteString) by text;
    0x16 AUTHENTICATION_DATA AuthenticationData(Bytes) by binary;
    0x17 REQUEST_PROBLEM_INFORMATION RequestProblemInformation(bool) by flag;
    0x18 WILL_DELAY_INTERVAL WillDelayInterval(u32) by four_bytes;
    0x19 REQUEST_RESPONSE_INFORMATION RequestResponseInformation(bool) by flag;
    0x1A RESPONSE_INFORMATION ResponseInformation(ByteString) by text;
    0x1C SERVER_REFERENCE ServerReference(ByteString) by text;
    0x1F REASON_STRING ReasonString(ByteString) by text;
    0x21 RECEIVE_MAXIMUM ReceiveMaximum(u16) by receive_maximum;
    0x22 TOPIC_ALIAS_MAXIMUM TopicAliasMaximum(u16) by two_bytes;
    0x23 TOPIC_ALIAS TopicAlias(u16) by topic_alias;
    0x24 MAXIMUM_QOS MaximumQos(QoS) by maximum_qos;
    0x25 RETAIN_AVAILABLE RetainAvailable(bool) by flag;
    0x26 USER_PROPERTY UserProperty((ByteString, ByteString)) by pair;
    0x27 MAXIMUM_PACKET_SIZE MaximumPacketSize(u32) by maximum_packet_size;
    0x28 WILDCARD_SUBSCRIPTION_AVAILABLE WildcardSubscriptionAvailable(bool) by flag;
    0x29 SUBSCRIPTION_IDENTIFIERS_AVAILABLE SubscriptionIdentifiersAvailable(bool) by flag;
    0x2A SHARED_SUBSCRIPTION_AVAILABLE SharedSubscriptionAvailable(bool) by flag;
}

/// The answer to a property that belongs to other packets. Section 2.2.2.2.
pub(super) const MISPLACED: Malformed = Malformed::packet("a property that does not belong to this packet");

/// Fills a place that may be filled once.
pub(super) fn set<T>(place: &mut Option<T>, value: T) -> Result<(), Malformed> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Malformed::protocol("a property that appears twice")),
    }
}

fn flag(properties: &mut Reader) -> Result<bool, Malformed> {
    match properties.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed::protocol("a property that is neither 0 nor 1")),
    }
}

fn maximum_qos(properties: &mut Reader) -> Result<QoS, Malformed> {
    Ok(if flag(properties)? { QoS::AtLeastOnce } else { QoS::AtMostOnce })
}

fn two_bytes(properties: &mut Reader) -> Result<u16, Malformed> {
    properties.u16()
}

fn four_bytes(properties: &mut Reader) -> Result<u32, Malformed> {
    properties.u32()
}

fn text(properties: &mut Reader) -> Result<ByteString, Malformed> {
    properties.text()
}

fn binary(properties: &mut Reader) -> Result<Bytes, Malformed> {
    properties.binary()
}

fn pair(properties: &mut Reader) -> Result<(ByteString, ByteString), Malformed> {
    Ok((properties.text()?, properties.text()?))
}

fn receive_maximum(properties: &mut Reader) -> Result<u16, Malformed> {
    match properties.u16()? {
        0 => Err(Malformed::protocol("receive maximum 0")), // section 3.1.2.11.3
        maximum => Ok(maximum),
    }
}

fn maximum_packet_size(properties: &mut Reader) -> Result<u32, Malformed> {
    match properties.u32()? {
        0 => Err(Malformed::protocol("maximum packet size 0")), // section 3.1.2.11.4
        maximum => Ok(maximum),
    }
}

fn topic_alias(properties: &mut Reader) -> Result<u16, Malformed> {
    match properties.u16()? {
        0 => Err(Malformed { reason: ReasonCode::TOPIC_ALIAS_INVALID, what: "topic alias 0" }), // [MQTT5-3.3.2-8]
        alias => Ok(alias),
    }
}

fn subscription_identifier(properties: &mut Reader) -> Result<u32, Malformed> {
    match properties.varint()? {
        0 => Err(Malformed::protocol("subscription identifier 0")), // section 3.8.2.1.2
        identifier => Ok(identifier),
    }
}

fn response_topic(properties: &mut Reader) -> Result<TopicName, Malformed> {
    let name = properties.text()?;
    TopicName::parse(name).map_err(|_| Malformed::protocol("a response topic that is no topic name")) // [MQTT5-3.3.2-14]
}

impl ReasonProperties {
    /// The properties of a packet that has no others.
    pub(super) fn read(mut properties: Reader) -> Result<Self, Malformed> {
        let mut read = Self::default();
        while let Some(property) = Property::read(&mut properties)? {
            read.add(property)?;
        }
        Ok(read)
    }

    /// Takes what is its own.
    pub(super) fn add(&mut self, property: Property) -> Result<(), Malformed> {
        match property {
            Property::ReasonString(text) => set(&mut self.reason_string, text)?,
            Property::UserProperty(pair) => self.user_properties.push(pair),
            _ => return Err(MISPLACED),
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.reason_string.is_none() && self.user_properties.is_empty()
    }

    pub(super) fn put(&self, out: &mut dyn Sink) {
        put_text(out, id::REASON_STRING, self.reason_string.as_ref());
        put_user_properties(out, &self.user_properties);
    }
}

pub(super) fn put_flag(out: &mut dyn Sink, id: u8, value: Option<bool>) {
    if let Some(value) = value {
        out.put(&[id, u8::from(value)]);
    }
}

pub(super) fn put_u16(out: &mut dyn Sink, id: u8, value: Option<u16>) {
    if let Some(value) = value {
        out.u8(id);
        out.u16(value);
    }
}

pub(super) fn put_u32(out: &mut dyn Sink, id: u8, value: Option<u32>) {
    if let Some(value) = value {
        out.u8(id);
        out.u32(value);
    }
}

pub(super) fn put_varint(out: &mut dyn Sink, id: u8, value: Option<u32>) {
    if let Some(value) = value {
        out.u8(id);
        out.varint(usize::try_from(value).unwrap_or(usize::MAX));
    }
}

pub(super) fn put_text(out: &mut dyn Sink, id: u8, value: Option<&ByteString>) {
    if let Some(value) = value {
        out.u8(id);
        out.text(value);
    }
}

pub(super) fn put_binary(out: &mut dyn Sink, id: u8, value: Option<&Bytes>) {
    if let Some(value) = value {
        out.u8(id);
        out.binary(value);
    }
}

pub(super) fn put_user_properties(out: &mut dyn Sink, pairs: &UserProperties) {
    for (name, value) in pairs {
        out.u8(id::USER_PROPERTY);
        out.text(name);
        out.text(value);
    }
}
