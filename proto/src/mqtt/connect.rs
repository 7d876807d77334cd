//! CONNECT, section 3.1: the only packet whose own bytes say which version it is.

use super::properties::{
    MISPLACED, Property, id, put_binary, put_flag, put_text, put_u16, put_u32, put_user_properties, set,
};
use super::wire::{Reader, Sink, put_properties};
use super::{Connect, ConnectProperties, Malformed, PublishProperties, QoS, Version, Will};
use crate::reason::ReasonCode;
use crate::topic::TopicName;

const UNSUPPORTED: Malformed =
    Malformed { reason: ReasonCode::UNSUPPORTED_PROTOCOL_VERSION, what: "an unknown protocol name or level" };

impl Connect {
    pub(super) fn read(mut packet: Reader) -> Result<Self, Malformed> {
        let version = read_version(&mut packet)?;
        let flags = Flags::read(packet.u8()?, version)?;
        let keep_alive = packet.u16()?;
        let properties = match version {
            Version::V5 => ConnectProperties::read(packet.properties()?)?,
            Version::V3_1 | Version::V3_1_1 => ConnectProperties::default(),
        };
        let client_id = packet.text()?;
        let will = match flags.will {
            Some((qos, retain)) => Some(Will::read(&mut packet, version, qos, retain)?),
            None => None,
        };
        // The last two may be missing in 3.1 although their flags are set: there the length decides.
        let is_there = |flag: bool, packet: &Reader| flag && !(version == Version::V3_1 && packet.is_empty());
        let username = if is_there(flags.username, &packet) { Some(packet.text()?) } else { None };
        let password = if is_there(flags.password, &packet) { Some(packet.binary()?) } else { None };
        packet.end()?;
        let clean_start = flags.clean_start;
        Ok(Self { version, clean_start, keep_alive, client_id, will, username, password, properties })
    }

    pub(super) fn put(&self, out: &mut dyn Sink) {
        let (name, level) = match self.version {
            Version::V3_1 => ("MQIsdp", 3),
            Version::V3_1_1 => ("MQTT", 4),
            Version::V5 => ("MQTT", 5),
        };
        out.text(name);
        out.u8(level);
        out.u8(self.flags());
        out.u16(self.keep_alive);
        if self.version == Version::V5 {
            put_properties(out, &|out| self.properties.put(out));
        } else if self.password.is_some() && self.username.is_none() {
            out.refuse(); // [MQTT-3.1.2-22]
        }
        out.text(&self.client_id);
        if let Some(will) = &self.will {
            will.put(self.version, out);
        }
        if let Some(username) = &self.username {
            out.text(username);
        }
        if let Some(password) = &self.password {
            out.binary(password);
        }
    }

    fn flags(&self) -> u8 {
        let will = self.will.as_ref();
        let will = will.map_or(0, |will| 0x04 | (will.qos as u8) << 3 | u8::from(will.retain) << 5);
        let password = u8::from(self.password.is_some()) << 6;
        let username = u8::from(self.username.is_some()) << 7;
        username | password | will | u8::from(self.clean_start) << 1
    }
}

/// Protocol name and level. `[MQTT5-3.1.2-1]`, `[MQTT5-3.1.2-2]`
pub(super) fn read_version(packet: &mut Reader) -> Result<Version, Malformed> {
    let name = packet.binary()?;
    match (name.as_ref(), packet.u8()?) {
        (b"MQIsdp", 3) => Ok(Version::V3_1),
        (b"MQTT", 4) => Ok(Version::V3_1_1),
        (b"MQTT", 5) => Ok(Version::V5),
        _ => Err(UNSUPPORTED),
    }
}

/// The connect flags, section 3.1.2.3.
struct Flags {
    clean_start: bool,
    will: Option<(QoS, bool)>,
    username: bool,
    password: bool,
}

impl Flags {
    fn read(flags: u8, version: Version) -> Result<Self, Malformed> {
        let is_set = |bit: u8| flags & bit != 0;
        if is_set(0x01) && version != Version::V3_1 {
            return Err(Malformed::packet("the reserved connect flag")); // [MQTT5-3.1.2-3]; 3.1 does not use it
        }
        let qos = QoS::from_u8(flags >> 3 & 3).ok_or(Malformed::packet("will QoS 3"))?; // [MQTT5-3.1.2-12]
        if !is_set(0x04) && flags & 0x38 != 0 {
            return Err(Malformed::packet("will QoS or will retain without a will")); // [MQTT5-3.1.2-11], [MQTT5-3.1.2-13]
        }
        if is_set(0x40) && !is_set(0x80) && version != Version::V5 {
            return Err(Malformed::packet("a password without a user name")); // [MQTT-3.1.2-22]
        }
        let will = is_set(0x04).then(|| (qos, is_set(0x20)));
        Ok(Self { clean_start: is_set(0x02), will, username: is_set(0x80), password: is_set(0x40) })
    }
}

impl ConnectProperties {
    fn read(mut properties: Reader) -> Result<Self, Malformed> {
        let mut read = Self::default();
        while let Some(property) = Property::read(&mut properties)? {
            read.add(property)?;
        }
        if read.authentication_data.is_some() && read.authentication_method.is_none() {
            return Err(Malformed::protocol("authentication data without a method")); // section 3.1.2.11.10
        }
        Ok(read)
    }

    fn add(&mut self, property: Property) -> Result<(), Malformed> {
        match property {
            Property::SessionExpiryInterval(seconds) => set(&mut self.session_expiry_interval, seconds),
            Property::ReceiveMaximum(maximum) => set(&mut self.receive_maximum, maximum),
            Property::MaximumPacketSize(maximum) => set(&mut self.maximum_packet_size, maximum),
            Property::TopicAliasMaximum(maximum) => set(&mut self.topic_alias_maximum, maximum),
            Property::RequestResponseInformation(wanted) => {
                set(&mut self.request_response_information, wanted)
            }
            Property::RequestProblemInformation(wanted) => set(&mut self.request_problem_information, wanted),
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
        put_u32(out, id::MAXIMUM_PACKET_SIZE, self.maximum_packet_size);
        put_u16(out, id::TOPIC_ALIAS_MAXIMUM, self.topic_alias_maximum);
        put_flag(out, id::REQUEST_RESPONSE_INFORMATION, self.request_response_information);
        put_flag(out, id::REQUEST_PROBLEM_INFORMATION, self.request_problem_information);
        put_user_properties(out, &self.user_properties);
        put_text(out, id::AUTHENTICATION_METHOD, self.authentication_method.as_ref());
        put_binary(out, id::AUTHENTICATION_DATA, self.authentication_data.as_ref());
    }
}

impl Will {
    fn read(packet: &mut Reader, version: Version, qos: QoS, retain: bool) -> Result<Self, Malformed> {
        let (delay_interval, properties) = match version {
            Version::V5 => read_will_properties(packet.properties()?)?,
            Version::V3_1 | Version::V3_1_1 => (None, PublishProperties::default()),
        };
        let topic = TopicName::parse(packet.text()?).map_err(|_| Malformed {
            reason: ReasonCode::TOPIC_NAME_INVALID,
            what: "a will topic that is no topic name",
        })?;
        Ok(Self { topic, payload: packet.binary()?, qos, retain, delay_interval, properties })
    }

    fn put(&self, version: Version, out: &mut dyn Sink) {
        if version == Version::V5 {
            put_properties(out, &|out| {
                put_u32(out, id::WILL_DELAY_INTERVAL, self.delay_interval);
                self.properties.put_message(out);
            });
        }
        out.text(self.topic.as_str());
        out.binary(&self.payload);
    }
}

fn read_will_properties(mut properties: Reader) -> Result<(Option<u32>, PublishProperties), Malformed> {
    let (mut delay_interval, mut read) = (None, PublishProperties::default());
    while let Some(property) = Property::read(&mut properties)? {
        match property {
            Property::WillDelayInterval(seconds) => set(&mut delay_interval, seconds)?,
            property => read.add_message(property)?,
        }
    }
    Ok((delay_interval, read))
}
