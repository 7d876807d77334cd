//! The first two to five bytes of every packet: type, flags and how much follows. Section 2.1.

use super::wire::varint;
use super::{Malformed, Packet, QoS, Version};
use crate::reason::ReasonCode;

/// Which packet, by the high half of the first byte. Section 2.1.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Connect,
    ConnAck,
    Publish { dup: bool, qos: QoS, retain: bool },
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    Subscribe,
    SubAck,
    Unsubscribe,
    UnsubAck,
    PingReq,
    PingResp,
    Disconnect,
    Auth,
}

/// A fixed header that keeps its rules.
pub(super) struct FixedHeader {
    pub kind: Kind,
    /// Bytes of the header itself, 2 to 5.
    pub len: usize,
    /// Bytes of the whole packet.
    pub packet_len: usize,
    /// Whether the remaining length takes its shortest form, which only 5.0 demands.
    pub is_shortest: bool,
}

impl FixedHeader {
    /// Looks at the front of the stream; `None` when the header is not whole yet.
    ///
    /// Whatever can be refused is refused here, before a byte more is awaited.
    pub fn peek(
        bytes: &[u8],
        version: Option<Version>,
        max_packet_size: u32,
    ) -> Result<Option<Self>, Malformed> {
        let Some((first, rest)) = bytes.split_first() else { return Ok(None) };
        let kind = Kind::read(*first, version)?;
        if version.is_none() && kind != Kind::Connect {
            return Err(Malformed::protocol("the first packet is not CONNECT")); // [MQTT5-3.1.0-1]
        }
        let Some(remaining) = varint(rest)? else { return Ok(None) };
        if version == Some(Version::V5) && !remaining.is_shortest {
            return Err(NOT_SHORTEST);
        }
        let len = 1 + remaining.len;
        let packet_len = usize::try_from(remaining.value).ok().and_then(|value| value.checked_add(len));
        match packet_len {
            Some(packet_len) if packet_len as u64 <= u64::from(max_packet_size) => {
                Ok(Some(Self { kind, len, packet_len, is_shortest: remaining.is_shortest }))
            }
            _ => Err(TOO_LARGE),
        }
    }
}

/// `[MQTT5-1.5.5-1]`; older versions do not say it.
pub(super) const NOT_SHORTEST: Malformed = Malformed::packet("the remaining length takes its shortest form");

const TOO_LARGE: Malformed =
    Malformed { reason: ReasonCode::PACKET_TOO_LARGE, what: "the packet is larger than allowed" };

impl Kind {
    fn read(first: u8, version: Option<Version>) -> Result<Self, Malformed> {
        let flags = first & 0x0F;
        let (kind, wanted) = match first >> 4 {
            1 => (Self::Connect, 0),
            2 => (Self::ConnAck, 0),
            3 => return Self::publish(flags),
            4 => (Self::PubAck, 0),
            5 => (Self::PubRec, 0),
            6 => (Self::PubRel, 2),
            7 => (Self::PubComp, 0),
            8 => (Self::Subscribe, 2),
            9 => (Self::SubAck, 0),
            10 => (Self::Unsubscribe, 2),
            11 => (Self::UnsubAck, 0),
            12 => (Self::PingReq, 0),
            13 => (Self::PingResp, 0),
            14 => (Self::Disconnect, 0),
            15 if version.is_none_or(|version| version == Version::V5) => (Self::Auth, 0),
            _ => return Err(Malformed::packet("a packet type that does not exist")),
        };
        // 3.1 repeats PUBREL, SUBSCRIBE and UNSUBSCRIBE with DUP, as they have QoS 1 there.
        let ignored = if version == Some(Version::V3_1) && wanted == 2 { 0x08 } else { 0 };
        if flags & !ignored != wanted {
            return Err(Malformed::packet("reserved flags of the fixed header")); // [MQTT5-2.1.3-1]
        }
        Ok(kind)
    }

    fn publish(flags: u8) -> Result<Self, Malformed> {
        let dup = flags & 0x08 != 0;
        let qos = QoS::from_u8(flags >> 1 & 3).ok_or(Malformed::packet("QoS 3"))?; // [MQTT5-3.3.1-4]
        if dup && qos == QoS::AtMostOnce {
            return Err(Malformed::packet("DUP with QoS 0")); // [MQTT5-3.3.1-2]
        }
        Ok(Self::Publish { dup, qos, retain: flags & 0x01 != 0 })
    }
}

impl Packet {
    /// The first byte on the wire.
    pub(super) fn first_byte(&self) -> u8 {
        match self {
            Self::Connect(_) => 0x10,
            Self::ConnAck(_) => 0x20,
            Self::Publish(publish) => publish_byte(publish.qos, publish.dup, publish.retain),
            Self::PubAck(_) => 0x40,
            Self::PubRec(_) => 0x50,
            Self::PubRel(_) => 0x62,
            Self::PubComp(_) => 0x70,
            Self::Subscribe(_) => 0x82,
            Self::SubAck(_) => 0x90,
            Self::Unsubscribe(_) => 0xA2,
            Self::UnsubAck(_) => 0xB0,
            Self::PingReq => 0xC0,
            Self::PingResp => 0xD0,
            Self::Disconnect(_) => 0xE0,
            Self::Auth(_) => 0xF0,
        }
    }

    /// The name in the standard, for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connect(_) => "CONNECT",
            Self::ConnAck(_) => "CONNACK",
            Self::Publish(_) => "PUBLISH",
            Self::PubAck(_) => "PUBACK",
            Self::PubRec(_) => "PUBREC",
            Self::PubRel(_) => "PUBREL",
            Self::PubComp(_) => "PUBCOMP",
            Self::Subscribe(_) => "SUBSCRIBE",
            Self::SubAck(_) => "SUBACK",
            Self::Unsubscribe(_) => "UNSUBSCRIBE",
            Self::UnsubAck(_) => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect(_) => "DISCONNECT",
            Self::Auth(_) => "AUTH",
        }
    }
}

/// The first byte of PUBLISH; DUP has no meaning with QoS 0. `[MQTT5-3.3.1-2]`
pub(super) fn publish_byte(qos: QoS, dup: bool, retain: bool) -> u8 {
    let dup = dup && qos != QoS::AtMostOnce;
    0x30 | u8::from(dup) << 3 | (qos as u8) << 1 | u8::from(retain)
}
