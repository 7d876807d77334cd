//! SUBSCRIBE, section 3.8.

use super::properties::{MISPLACED, Property, id, put_user_properties, put_varint, set};
use super::wire::{Reader, Sink, put_properties};
use super::{Malformed, QoS, RetainHandling, Subscribe, SubscriptionOptions, Version};

impl Subscribe {
    pub(super) fn read(mut packet: Reader, version: Version) -> Result<Self, Malformed> {
        let packet_id = packet.packet_id()?;
        let mut read =
            Self { packet_id, subscription_identifier: None, user_properties: vec![], filters: vec![] };
        if version == Version::V5 {
            read.read_properties(packet.properties()?)?;
        }
        while !packet.is_empty() {
            let filter = packet.text()?;
            let options = SubscriptionOptions::read(packet.u8()?, version)?;
            if options.no_local && filter.starts_with("$share/") {
                return Err(Malformed::protocol("no local on a shared subscription")); // [MQTT5-3.8.3-4]
            }
            read.filters.push((filter, options));
        }
        if read.filters.is_empty() {
            return Err(Malformed::protocol("SUBSCRIBE without a topic filter")); // [MQTT5-3.8.3-2]
        }
        Ok(read)
    }

    fn read_properties(&mut self, mut properties: Reader) -> Result<(), Malformed> {
        while let Some(property) = Property::read(&mut properties)? {
            match property {
                Property::SubscriptionIdentifier(identifier) => {
                    set(&mut self.subscription_identifier, identifier)?
                }
                Property::UserProperty(pair) => self.user_properties.push(pair),
                _ => return Err(MISPLACED),
            }
        }
        Ok(())
    }

    pub(super) fn put(&self, version: Version, out: &mut dyn Sink) {
        out.u16(self.packet_id.get());
        if version == Version::V5 {
            put_properties(out, &|out| {
                put_varint(out, id::SUBSCRIPTION_IDENTIFIER, self.subscription_identifier);
                put_user_properties(out, &self.user_properties);
            });
        }
        for (filter, options) in &self.filters {
            out.text(filter);
            out.u8(options.to_u8(version));
        }
    }
}

impl SubscriptionOptions {
    fn read(bits: u8, version: Version) -> Result<Self, Malformed> {
        let reserved = if version == Version::V5 { 0xC0 } else { 0xFC };
        if bits & reserved != 0 {
            return Err(Malformed::packet("reserved subscription options")); // [MQTT5-3.8.3-5], [MQTT-3-8.3-4]
        }
        let qos = QoS::from_u8(bits & 3).ok_or(Malformed::protocol("maximum QoS 3"))?; // section 3.8.3.1
        let retain_handling = match bits >> 4 & 3 {
            0 => RetainHandling::Always,
            1 => RetainHandling::IfNew,
            2 => RetainHandling::Never,
            _ => return Err(Malformed::protocol("retain handling 3")), // section 3.8.3.1
        };
        Ok(Self { qos, no_local: bits & 4 != 0, retain_as_published: bits & 8 != 0, retain_handling })
    }

    fn to_u8(self, version: Version) -> u8 {
        match version {
            Version::V3_1 | Version::V3_1_1 => self.qos as u8,
            Version::V5 => {
                let no_local = u8::from(self.no_local) << 2;
                let retain_as_published = u8::from(self.retain_as_published) << 3;
                self.qos as u8 | no_local | retain_as_published | (self.retain_handling as u8) << 4
            }
        }
    }
}
