//! SUBACK and UNSUBACK, sections 3.9 and 3.11: a reason code for each filter.

use super::wire::{Reader, Sink, put_properties};
use super::{Malformed, ReasonProperties, SubAck, UnsubAck, Version};
use crate::reason::ReasonCode;

impl SubAck {
    pub(super) fn read(mut packet: Reader, version: Version) -> Result<Self, Malformed> {
        let packet_id = packet.packet_id()?;
        let properties = match version {
            Version::V5 => ReasonProperties::read(packet.properties()?)?,
            Version::V3_1 | Version::V3_1_1 => ReasonProperties::default(),
        };
        let belongs = match version {
            Version::V3_1 => |code| code <= 2,
            Version::V3_1_1 => |code| code <= 2 || code == 0x80,
            Version::V5 => belongs_to_suback,
        };
        Ok(Self { packet_id, reasons: read_reasons(packet, belongs)?, properties })
    }

    pub(super) fn put(&self, version: Version, out: &mut dyn Sink) {
        out.u16(self.packet_id.get());
        if version == Version::V5 {
            put_properties(out, &|out| self.properties.put(out));
        }
        for reason in &self.reasons {
            out.u8(match version {
                Version::V3_1 if reason.is_failure() => 0, // 3.1 has no word for a refusal, only a QoS
                Version::V3_1 | Version::V3_1_1 => reason.suback_v3(),
                Version::V5 => reason.get(),
            });
        }
    }
}

impl UnsubAck {
    pub(super) fn read(mut packet: Reader, version: Version) -> Result<Self, Malformed> {
        let packet_id = packet.packet_id()?;
        if version != Version::V5 {
            packet.end()?;
            return Ok(Self { packet_id, reasons: vec![], properties: ReasonProperties::default() });
        }
        let properties = ReasonProperties::read(packet.properties()?)?;
        Ok(Self { packet_id, reasons: read_reasons(packet, belongs_to_unsuback)?, properties })
    }

    pub(super) fn put(&self, version: Version, out: &mut dyn Sink) {
        out.u16(self.packet_id.get());
        if version == Version::V5 {
            put_properties(out, &|out| self.properties.put(out));
            self.reasons.iter().for_each(|reason| out.u8(reason.get()));
        }
    }
}

fn read_reasons(packet: Reader, belongs: fn(u8) -> bool) -> Result<Vec<ReasonCode>, Malformed> {
    if packet.is_empty() {
        return Err(Malformed::protocol("an acknowledgement without reason codes")); // [MQTT5-3.8.4-6]
    }
    packet.into_rest().iter().map(|code| super::reason_of(*code, belongs(*code))).collect()
}

/// `[MQTT5-3.9.3-2]`
fn belongs_to_suback(code: u8) -> bool {
    matches!(code, 0..=2 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91 | 0x97 | 0x9E | 0xA1 | 0xA2)
}

/// `[MQTT5-3.11.3-2]`
fn belongs_to_unsuback(code: u8) -> bool {
    matches!(code, 0 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91)
}
