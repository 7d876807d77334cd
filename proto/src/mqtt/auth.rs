//! AUTH, section 3.15; 5.0 only.

use super::properties::{Property, id, put_binary, put_text, set};
use super::wire::{Reader, Sink, put_properties};
use super::{Auth, Malformed, ReasonProperties};
use crate::reason::ReasonCode;

impl Auth {
    pub(super) fn read(mut packet: Reader) -> Result<Self, Malformed> {
        let mut read = Self {
            reason: ReasonCode::SUCCESS,
            method: None,
            data: None,
            properties: ReasonProperties::default(),
        };
        if packet.is_empty() {
            return Ok(read); // the short form of success, section 3.15.2.1
        }
        let code = packet.u8()?;
        read.reason = super::reason_of(code, matches!(code, 0 | 0x18 | 0x19))?; // [MQTT5-3.15.2-1]
        read.read_properties(packet.properties()?)?;
        packet.end()?;
        Ok(read)
    }

    fn read_properties(&mut self, mut properties: Reader) -> Result<(), Malformed> {
        while let Some(property) = Property::read(&mut properties)? {
            match property {
                Property::AuthenticationMethod(method) => set(&mut self.method, method)?,
                Property::AuthenticationData(data) => set(&mut self.data, data)?,
                property => self.properties.add(property)?,
            }
        }
        match self.method {
            Some(_) => Ok(()),
            None => Err(Malformed::protocol("AUTH without a method")), // section 3.15.2.2.2
        }
    }

    pub(super) fn put(&self, out: &mut dyn Sink) {
        let is_short = self.method.is_none() && self.data.is_none() && self.properties.is_empty();
        if is_short && self.reason == ReasonCode::SUCCESS {
            return;
        }
        if self.method.is_none() {
            out.refuse(); // section 3.15.2.2.2
        }
        out.u8(self.reason.get());
        put_properties(out, &|out| {
            put_text(out, id::AUTHENTICATION_METHOD, self.method.as_ref());
            put_binary(out, id::AUTHENTICATION_DATA, self.data.as_ref());
            self.properties.put(out);
        });
    }
}
