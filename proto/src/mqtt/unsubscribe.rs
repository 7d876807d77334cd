//! UNSUBSCRIBE, section 3.10.

use super::properties::{MISPLACED, Property, put_user_properties};
use super::wire::{Reader, Sink, put_properties};
use super::{Malformed, Unsubscribe, UserProperties, Version};

impl Unsubscribe {
    pub(super) fn read(mut packet: Reader, version: Version) -> Result<Self, Malformed> {
        let packet_id = packet.packet_id()?;
        let user_properties = match version {
            Version::V5 => read_properties(packet.properties()?)?,
            Version::V3_1 | Version::V3_1_1 => UserProperties::new(),
        };
        let mut filters = vec![];
        while !packet.is_empty() {
            filters.push(packet.text()?);
        }
        if filters.is_empty() {
            return Err(Malformed::protocol("UNSUBSCRIBE without a topic filter")); // [MQTT5-3.10.3-2]
        }
        Ok(Self { packet_id, user_properties, filters })
    }

    pub(super) fn put(&self, version: Version, out: &mut dyn Sink) {
        out.u16(self.packet_id.get());
        if version == Version::V5 {
            put_properties(out, &|out| put_user_properties(out, &self.user_properties));
        }
        self.filters.iter().for_each(|filter| out.text(filter));
    }
}

fn read_properties(mut properties: Reader) -> Result<UserProperties, Malformed> {
    let mut read = UserProperties::new();
    while let Some(property) = Property::read(&mut properties)? {
        match property {
            Property::UserProperty(pair) => read.push(pair),
            _ => return Err(MISPLACED),
        }
    }
    Ok(read)
}
