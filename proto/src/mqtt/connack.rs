//! CONNACK, section 3.2.

use super::properties::{
    MISPLACED, Property, id, put_binary, put_flag, put_text, put_u16, put_u32, put_user_properties, set,
};
use super::wire::{Reader, Sink, put_properties};
use super::{ConnAck, ConnAckProperties, Malformed, QoS, Version};
use crate::reason::ReasonCode;

impl ConnAck {
    pub(super) fn read(mut packet: Reader, version: Version) -> Result<Self, Malformed> {
        let flags = packet.u8()?;
        let code = packet.u8()?;
        let (flags, reason) = match version {
            Version::V3_1 => (0, read_return_code(code)?), // the first byte has no meaning there
            Version::V3_1_1 => (flags, read_return_code(code)?),
            Version::V5 => (flags, read_reason(code)?),
        };
        if flags & 0xFE != 0 {
            return Err(Malformed::packet("reserved acknowledge flags")); // [MQTT5-3.2.2-1]
        }
        let session_present = flags == 1;
        if session_present && reason != ReasonCode::SUCCESS {
            return Err(Malformed::protocol("a session that is present although the server refuses")); // [MQTT5-3.2.2-6]
        }
        let properties = match version {
            Version::V5 => ConnAckProperties::read(packet.properties()?)?,
            Version::V3_1 | Version::V3_1_1 => ConnAckProperties::default(),
        };
        packet.end()?;
        Ok(Self { session_present, reason, properties })
    }

    pub(super) fn put(&self, version: Version, out: &mut dyn Sink) {
        match version {
            Version::V3_1 => out.put(&[0, self.reason.connack_v3()]),
            Version::V3_1_1 => out.put(&[u8::from(self.session_present), self.reason.connack_v3()]),
            Version::V5 => {
                out.put(&[u8::from(self.session_present), self.reason.get()]);
                put_properties(out, &|out| self.properties.put(out));
            }
        }
    }
}

/// Table 3.1 of 3.1.1 in the words of 5.0.
fn read_return_code(code: u8) -> Result<ReasonCode, Malformed> {
    match code {
        0 => Ok(ReasonCode::SUCCESS),
        1 => Ok(ReasonCode::UNSUPPORTED_PROTOCOL_VERSION),
        2 => Ok(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID),
        3 => Ok(ReasonCode::SERVER_UNAVAILABLE),
        4 => Ok(ReasonCode::BAD_USER_NAME_OR_PASSWORD),
        5 => Ok(ReasonCode::NOT_AUTHORIZED),
        _ => Err(Malformed::packet("a reserved return code")),
    }
}

/// `[MQTT5-3.2.2-8]`
fn read_reason(code: u8) -> Result<ReasonCode, Malformed> {
    let belongs = matches!(code, 0 | 0x80..=0x8A | 0x8C | 0x90 | 0x95 | 0x97 | 0x99..=0x9D | 0x9F);
    super::reason_of(code, belongs)
}

impl ConnAckProperties {
    fn read(mut properties: Reader) -> Result<Self, Malformed> {
        let mut read = Self::default();
        while let Some(property) = Property::read(&mut properties)? {
            read.add(property)?;
        }
        Ok(read)
    }

    fn add(&mut self, property: Property) -> Result<(), Malformed> {
        match property {
            Property::SessionExpiryInterval(seconds) => set(&mut self.session_expiry_interval, seconds),
            Property::ReceiveMaximum(maximum) => set(&mut self.receive_maximum, maximum),
            Property::MaximumQos(qos) => set(&mut self.maximum_qos, qos),
            Property::RetainAvailable(is_it) => set(&mut self.retain_available, is_it),
            Property::MaximumPacketSize(maximum) => set(&mut self.maximum_packet_size, maximum),
            Property::AssignedClientIdentifier(id) => set(&mut self.assigned_client_identifier, id),
            Property::TopicAliasMaximum(maximum) => set(&mut self.topic_alias_maximum, maximum),
            Property::ReasonString(text) => set(&mut self.reason_string, text),
            Property::WildcardSubscriptionAvailable(is_it) => {
                set(&mut self.wildcard_subscription_available, is_it)
            }
            Property::SubscriptionIdentifiersAvailable(is_it) => {
                set(&mut self.subscription_identifiers_available, is_it)
            }
            Property::SharedSubscriptionAvailable(is_it) => {
                set(&mut self.shared_subscription_available, is_it)
            }
            Property::ServerKeepAlive(seconds) => set(&mut self.server_keep_alive, seconds),
            Property::ResponseInformation(text) => set(&mut self.response_information, text),
            Property::ServerReference(server) => set(&mut self.server_reference, server),
            Property::AuthenticationMethod(method) => set(&mut self.authentication_method, method),
            Property::AuthenticationData(data) => set(&mut self.authentication_data, data),
            Property::UserProperty(pair) => {
                self.user_properties.push(pair);
                Ok(())
            }
            _ => Err(MISPLACED),
        }
    }

    fn put(&self, out: &mut dyn Sink) {
        put_u32(out, id::SESSION_EXPIRY_INTERVAL, self.session_expiry_interval);
        put_u16(out, id::RECEIVE_MAXIMUM, self.receive_maximum);
        self.put_maximum_qos(out);
        put_flag(out, id::RETAIN_AVAILABLE, self.retain_available);
        put_u32(out, id::MAXIMUM_PACKET_SIZE, self.maximum_packet_size);
        put_text(out, id::ASSIGNED_CLIENT_IDENTIFIER, self.assigned_client_identifier.as_ref());
        put_u16(out, id::TOPIC_ALIAS_MAXIMUM, self.topic_alias_maximum);
        put_text(out, id::REASON_STRING, self.reason_string.as_ref());
        put_user_properties(out, &self.user_properties);
        put_flag(out, id::WILDCARD_SUBSCRIPTION_AVAILABLE, self.wildcard_subscription_available);
        put_flag(out, id::SUBSCRIPTION_IDENTIFIERS_AVAILABLE, self.subscription_identifiers_available);
        put_flag(out, id::SHARED_SUBSCRIPTION_AVAILABLE, self.shared_subscription_available);
        put_u16(out, id::SERVER_KEEP_ALIVE, self.server_keep_alive);
        put_text(out, id::RESPONSE_INFORMATION, self.response_information.as_ref());
        put_text(out, id::SERVER_REFERENCE, self.server_reference.as_ref());
        put_text(out, id::AUTHENTICATION_METHOD, self.authentication_method.as_ref());
        put_binary(out, id::AUTHENTICATION_DATA, self.authentication_data.as_ref());
    }

    /// The property says 0 or 1; where QoS 2 is the maximum, it is left out. Section 3.2.2.3.4.
    fn put_maximum_qos(&self, out: &mut dyn Sink) {
        match self.maximum_qos {
            Some(QoS::AtMostOnce) => put_flag(out, id::MAXIMUM_QOS, Some(false)),
            Some(QoS::AtLeastOnce) => put_flag(out, id::MAXIMUM_QOS, Some(true)),
            Some(QoS::ExactlyOnce) | None => {}
        }
    }
}
