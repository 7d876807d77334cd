//! PUBLISH, section 3.3, and the frame of one that many receivers share.

use super::fixed_header::publish_byte;
use super::properties::{
    MISPLACED, Property, id, put_binary, put_flag, put_text, put_u16, put_u32, put_user_properties,
    put_varint, set,
};
use super::wire::{Reader, Sink, Size, VARINT_MAX, put_properties};
use super::{Malformed, Publish, PublishProperties, QoS, TooLarge, Version};
use crate::ids::PacketId;
use crate::reason::ReasonCode;
use crate::topic::TopicName;
use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;

impl Publish {
    /// The payload keeps the memory of the whole packet.
    pub(super) fn read(
        mut packet: Reader,
        version: Version,
        (dup, qos, retain): (bool, QoS, bool),
    ) -> Result<Self, Malformed> {
        let name = packet.text()?;
        let packet_id = if qos == QoS::AtMostOnce { None } else { Some(packet.packet_id()?) };
        let properties = match version {
            Version::V5 => PublishProperties::read(packet.properties()?)?,
            Version::V3_1 | Version::V3_1_1 => PublishProperties::default(),
        };
        let topic = read_topic(name, version, properties.topic_alias)?;
        Ok(Self { dup, qos, retain, topic, packet_id, properties, payload: packet.into_rest() })
    }

    pub(super) fn put(&self, version: Version, out: &mut dyn Sink) {
        self.put_topic(version, out);
        match (self.qos, self.packet_id) {
            (QoS::AtMostOnce, _) => {}
            (_, Some(packet_id)) => out.u16(packet_id.get()),
            (_, None) => out.refuse(), // [MQTT5-2.2.1-3]
        }
        self.put_properties(version, out);
        out.put(&self.payload);
    }

    fn put_topic(&self, version: Version, out: &mut dyn Sink) {
        match &self.topic {
            Some(topic) => out.text(topic.as_str()),
            None if version == Version::V5 && self.properties.topic_alias.is_some() => out.text(""),
            None => out.refuse(), // [MQTT-4.7.3-1]
        }
    }

    fn put_properties(&self, version: Version, out: &mut dyn Sink) {
        if version == Version::V5 {
            put_properties(out, &|out| self.properties.put(out));
        }
    }
}

fn read_topic(
    name: ByteString,
    version: Version,
    alias: Option<u16>,
) -> Result<Option<TopicName>, Malformed> {
    if name.is_empty() && version == Version::V5 {
        return match alias {
            Some(_) => Ok(None),
            None => Err(Malformed::protocol("neither topic name nor topic alias")), // section 3.3.2.1
        };
    }
    let invalid =
        Malformed { reason: ReasonCode::TOPIC_NAME_INVALID, what: "a topic name is empty or has wildcards" };
    TopicName::parse(name).map(Some).map_err(|_| invalid) // [MQTT5-3.3.2-2]
}

impl PublishProperties {
    fn read(mut properties: Reader) -> Result<Self, Malformed> {
        let mut read = Self::default();
        while let Some(property) = Property::read(&mut properties)? {
            match property {
                Property::TopicAlias(alias) => set(&mut read.topic_alias, alias)?,
                Property::SubscriptionIdentifier(identifier) => {
                    read.subscription_identifiers.push(identifier)
                }
                property => read.add_message(property)?,
            }
        }
        Ok(read)
    }

    /// Takes what a will has too.
    pub(super) fn add_message(&mut self, property: Property) -> Result<(), Malformed> {
        match property {
            Property::PayloadFormatIndicator(is_text) => set(&mut self.payload_format_indicator, is_text),
            Property::MessageExpiryInterval(seconds) => set(&mut self.message_expiry_interval, seconds),
            Property::ResponseTopic(topic) => set(&mut self.response_topic, topic),
            Property::CorrelationData(data) => set(&mut self.correlation_data, data),
            Property::ContentType(text) => set(&mut self.content_type, text),
            Property::UserProperty(pair) => {
                self.user_properties.push(pair);
                Ok(())
            }
            _ => Err(MISPLACED),
        }
    }

    fn put(&self, out: &mut dyn Sink) {
        put_u16(out, id::TOPIC_ALIAS, self.topic_alias);
        self.put_message(out);
        // Last, because rumqttc counts each identifier as a byte too long and takes what follows for payload.
        for identifier in &self.subscription_identifiers {
            put_varint(out, id::SUBSCRIPTION_IDENTIFIER, Some(*identifier));
        }
    }

    /// Writes what a will has too.
    pub(super) fn put_message(&self, out: &mut dyn Sink) {
        put_flag(out, id::PAYLOAD_FORMAT_INDICATOR, self.payload_format_indicator);
        put_u32(out, id::MESSAGE_EXPIRY_INTERVAL, self.message_expiry_interval);
        put_text(out, id::RESPONSE_TOPIC, self.response_topic.as_ref().map(TopicName::text));
        put_binary(out, id::CORRELATION_DATA, self.correlation_data.as_ref());
        put_user_properties(out, &self.user_properties);
        put_text(out, id::CONTENT_TYPE, self.content_type.as_ref());
    }
}

/// A PUBLISH encoded once for all receivers of one version (5.0 or older) and one QoS.
///
/// Only packet identifier, DUP and RETAIN differ between them, and are put in while writing. Cloning shares the bytes.
///
/// ```text
/// first byte | remaining length, topic name | packet identifier | properties | payload
///  patched     before                         patched             after
/// ```
#[derive(Clone, Debug)]
pub struct PublishFrame {
    qos: QoS,
    before: Bytes,
    packet_id: Option<PacketId>,
    after: Bytes,
    payload: Bytes,
}

impl PublishFrame {
    /// Encodes everything but what differs between the receivers; `publish.packet_id` may be absent.
    ///
    /// # Errors
    /// [`TooLarge`] when a field does not fit the format, as for [`super::Packet::write`].
    pub fn encode(version: Version, publish: &Publish) -> Result<Self, TooLarge> {
        let topic = Size::of(&|out| publish.put_topic(version, out)).fitting().ok_or(TooLarge)?;
        let properties = Size::of(&|out| publish.put_properties(version, out)).fitting().ok_or(TooLarge)?;
        let id = if publish.qos == QoS::AtMostOnce { 0 } else { 2 };
        let remaining =
            topic.saturating_add(properties).saturating_add(id).saturating_add(publish.payload.len());
        if u32::try_from(remaining).is_ok_and(|remaining| remaining <= VARINT_MAX) {
            Ok(Self::fill(version, publish, remaining, topic + properties))
        } else {
            Err(TooLarge)
        }
    }

    fn fill(version: Version, publish: &Publish, remaining: usize, capacity: usize) -> Self {
        let mut head = BytesMut::with_capacity(4 + capacity);
        head.varint(remaining);
        publish.put_topic(version, &mut head);
        let before = head.len();
        publish.put_properties(version, &mut head);
        let mut after = head.freeze();
        let before = after.split_to(before);
        let packet_id = publish.packet_id.filter(|_| publish.qos != QoS::AtMostOnce);
        Self { qos: publish.qos, before, packet_id, after, payload: publish.payload.clone() }
    }

    /// Bytes of the whole packet.
    #[allow(clippy::len_without_is_empty, reason = "a packet is never empty")]
    pub fn len(&self) -> usize {
        self.head_len() + self.payload.len()
    }

    /// The QoS that it was encoded for.
    pub fn qos(&self) -> QoS {
        self.qos
    }

    /// Appends the whole packet.
    ///
    /// `packet_id` is needed exactly when the QoS is 1 or 2; where it is absent, that of the encoded PUBLISH stands.
    pub fn write(&self, packet_id: Option<PacketId>, dup: bool, retain: bool, out: &mut BytesMut) {
        out.reserve(self.len());
        self.write_head(packet_id, dup, retain, out);
        out.put_slice(&self.payload);
    }

    /// Appends all but the payload, for callers that write a large payload from where it lies.
    ///
    /// `packet_id` as for [`Self::write`].
    pub fn write_head(&self, packet_id: Option<PacketId>, dup: bool, retain: bool, out: &mut BytesMut) {
        out.reserve(self.head_len());
        out.put_u8(publish_byte(self.qos, dup, retain));
        out.put_slice(&self.before);
        if self.qos != QoS::AtMostOnce {
            let packet_id = packet_id.or(self.packet_id);
            debug_assert!(packet_id.is_some(), "QoS 1 and 2 have a packet identifier"); // [MQTT5-2.2.1-3]
            out.put_u16(packet_id.map_or(0, PacketId::get));
        }
        out.put_slice(&self.after);
    }

    /// The application's bytes, which follow what [`Self::write_head`] wrote.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    fn head_len(&self) -> usize {
        let id = if self.qos == QoS::AtMostOnce { 0 } else { 2 };
        1 + self.before.len() + id + self.after.len()
    }
}
