//! PUBACK, PUBREC, PUBREL and PUBCOMP, sections 3.4 to 3.7, which share one shape.

use super::fixed_header::Kind;
use super::wire::{Reader, Sink, put_properties};
use super::{Ack, Malformed, Packet, ReasonProperties, Version};
use crate::ids::PacketId;
use crate::reason::ReasonCode;

impl Ack {
    /// `belongs` says which reason codes this packet has.
    pub(super) fn read(
        mut packet: Reader,
        version: Version,
        belongs: fn(u8) -> bool,
    ) -> Result<Self, Malformed> {
        let packet_id = packet.packet_id()?;
        let mut ack = Self::new(packet_id, ReasonCode::SUCCESS);
        if version == Version::V5 && !packet.is_empty() {
            let code = packet.u8()?;
            ack.reason = super::reason_of(code, belongs(code))?;
            if !packet.is_empty() {
                let properties = ReasonProperties::read(packet.properties()?)?;
                ack.properties = Some(properties).filter(|properties| !properties.is_empty()).map(Box::new);
            }
        }
        packet.end()?;
        Ok(ack)
    }

    /// The shortest form that says everything; sections 3.4.2.1 and 3.4.2.2.1.
    pub(super) fn put(&self, version: Version, out: &mut dyn Sink) {
        out.u16(self.packet_id.get());
        let properties = self.properties.as_ref().filter(|properties| !properties.is_empty());
        match (version, self.reason, properties) {
            (Version::V3_1 | Version::V3_1_1, _, _) | (Version::V5, ReasonCode::SUCCESS, None) => {}
            (Version::V5, reason, None) => out.u8(reason.get()),
            (Version::V5, reason, Some(properties)) => {
                out.u8(reason.get());
                put_properties(out, &|out| properties.put(out));
            }
        }
    }
}

/// The usual form, two bytes; read in place because most packets of a busy connection are these.
pub(super) fn read_short(kind: Kind, body: &[u8]) -> Option<Packet> {
    let id = PacketId::new(u16::from_be_bytes(body.try_into().ok()?))?;
    let ack = Ack::new(id, ReasonCode::SUCCESS);
    match kind {
        Kind::PubAck => Some(Packet::PubAck(ack)),
        Kind::PubRec => Some(Packet::PubRec(ack)),
        Kind::PubRel => Some(Packet::PubRel(ack)),
        Kind::PubComp => Some(Packet::PubComp(ack)),
        _ => None,
    }
}

/// Of PUBACK and PUBREC. `[MQTT5-3.4.2-1]`, `[MQTT5-3.5.2-1]`
pub(super) fn belongs_to_received(code: u8) -> bool {
    matches!(code, 0 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99)
}

/// Of PUBREL and PUBCOMP. `[MQTT5-3.6.2-1]`, `[MQTT5-3.7.2-1]`
pub(super) fn belongs_to_release(code: u8) -> bool {
    matches!(code, 0 | 0x92)
}
