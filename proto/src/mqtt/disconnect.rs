//! DISCONNECT, section 3.14.

use super::properties::{Property, id, put_text, put_u32, set};
use super::wire::{Reader, Sink, put_properties};
use super::{Disconnect, Malformed, Version};
use crate::reason::ReasonCode;

impl Disconnect {
    pub(super) fn read(mut packet: Reader, version: Version) -> Result<Self, Malformed> {
        let mut read = Self::new(ReasonCode::SUCCESS);
        if version == Version::V5 && !packet.is_empty() {
            let code = packet.u8()?;
            read.reason = super::reason_of(code, belongs(code))?;
            if !packet.is_empty() {
                read.read_properties(packet.properties()?)?;
            }
        }
        packet.end()?;
        Ok(read)
    }

    fn read_properties(&mut self, mut properties: Reader) -> Result<(), Malformed> {
        while let Some(property) = Property::read(&mut properties)? {
            match property {
                Property::SessionExpiryInterval(seconds) => set(&mut self.session_expiry_interval, seconds)?,
                Property::ServerReference(server) => set(&mut self.server_reference, server)?,
                property => self.properties.add(property)?,
            }
        }
        Ok(())
    }

    /// A normal end takes no body, section 3.14.2.1. A reason goes with its property length even where that may be
    /// left out (section 3.14.2.2.1): clients exist that take a body of one byte for a cut packet and lose the reason.
    pub(super) fn put(&self, version: Version, out: &mut dyn Sink) {
        if version != Version::V5 || (self.reason == ReasonCode::SUCCESS && !self.has_properties()) {
            return;
        }
        out.u8(self.reason.get());
        put_properties(out, &|out| self.put_properties(out));
    }

    fn has_properties(&self) -> bool {
        self.session_expiry_interval.is_some()
            || self.server_reference.is_some()
            || !self.properties.is_empty()
    }

    fn put_properties(&self, out: &mut dyn Sink) {
        put_u32(out, id::SESSION_EXPIRY_INTERVAL, self.session_expiry_interval);
        put_text(out, id::SERVER_REFERENCE, self.server_reference.as_ref());
        self.properties.put(out);
    }
}

/// `[MQTT5-3.14.2-1]`; 0x8C stands in the table of section 2.4 only.
fn belongs(code: u8) -> bool {
    matches!(code, 0 | 4 | 0x80..=0x83 | 0x87 | 0x89 | 0x8B..=0x90 | 0x93..=0xA2)
}
