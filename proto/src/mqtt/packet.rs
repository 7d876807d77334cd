//! Whole packets, off the front of a stream and onto its end.

use super::ack::{belongs_to_received, belongs_to_release, read_short};
use super::fixed_header::{FixedHeader, Kind, NOT_SHORTEST};
use super::wire::{Reader, Sink, Size, VARINT_MAX, varint};
use super::{
    Ack, Auth, ConnAck, Connect, Disconnect, Malformed, Packet, Publish, SubAck, Subscribe, TooLarge,
    UnsubAck, Unsubscribe, Version,
};
use crate::reason::ReasonCode;
use bytes::{Buf, Bytes, BytesMut};

/// Takes one whole packet off the front of the stream; `Ok(None)` when more bytes are needed.
///
/// `version` is `None` as long as no CONNECT was read: then only CONNECT is taken, and its own bytes say the version.
/// `max_packet_size` counts the whole packet in bytes and is checked as soon as the fixed header is there. Strings,
/// binary fields and payload are slices of the buffer's memory: nothing is copied, and they keep that memory alive.
/// Packets of both directions are read, a second CONNECT too; who may send what is the caller's rule.
///
/// # Errors
/// [`Malformed`] names the broken rule. The stream has no meaning after that, and the buffer may have lost the packet.
pub fn read(
    buffer: &mut BytesMut,
    version: Option<Version>,
    max_packet_size: u32,
) -> Result<Option<Packet>, Malformed> {
    let Some(header) = FixedHeader::peek(buffer, version, max_packet_size)? else { return Ok(None) };
    let Some(body) = buffer.get(header.len..header.packet_len) else { return Ok(None) };
    if let Some(packet) = read_short(header.kind, body) {
        buffer.advance(header.packet_len);
        return Ok(Some(packet));
    }
    let mut body = buffer.split_to(header.packet_len).freeze();
    body.advance(header.len);
    let packet = Reader::new(body);
    match version {
        Some(version) => read_body(&header, packet, version).map(Some),
        None => read_connect(&header, packet).map(Some),
    }
}

fn read_connect(header: &FixedHeader, packet: Reader) -> Result<Packet, Malformed> {
    let connect = Connect::read(packet)?;
    if connect.version == Version::V5 && !header.is_shortest {
        return Err(NOT_SHORTEST);
    }
    Ok(Packet::Connect(Box::new(connect)))
}

fn read_body(header: &FixedHeader, packet: Reader, version: Version) -> Result<Packet, Malformed> {
    Ok(match header.kind {
        Kind::Connect => read_connect(header, packet)?,
        Kind::ConnAck => Packet::ConnAck(Box::new(ConnAck::read(packet, version)?)),
        Kind::Publish { dup, qos, retain } => {
            Packet::Publish(Box::new(Publish::read(packet, version, (dup, qos, retain))?))
        }
        Kind::PubAck => Packet::PubAck(Ack::read(packet, version, belongs_to_received)?),
        Kind::PubRec => Packet::PubRec(Ack::read(packet, version, belongs_to_received)?),
        Kind::PubRel => Packet::PubRel(Ack::read(packet, version, belongs_to_release)?),
        Kind::PubComp => Packet::PubComp(Ack::read(packet, version, belongs_to_release)?),
        Kind::Subscribe => Packet::Subscribe(Box::new(Subscribe::read(packet, version)?)),
        Kind::SubAck => Packet::SubAck(Box::new(SubAck::read(packet, version)?)),
        Kind::Unsubscribe => Packet::Unsubscribe(Box::new(Unsubscribe::read(packet, version)?)),
        Kind::UnsubAck => Packet::UnsubAck(Box::new(UnsubAck::read(packet, version)?)),
        Kind::PingReq => packet.end().map(|()| Packet::PingReq)?,
        Kind::PingResp => packet.end().map(|()| Packet::PingResp)?,
        Kind::Disconnect => Packet::Disconnect(Box::new(Disconnect::read(packet, version)?)),
        Kind::Auth => Packet::Auth(Box::new(Auth::read(packet)?)),
    })
}

/// Which version a CONNECT at the front of the stream speaks, so that even a malformed one can be answered in kind.
///
/// `None` when the bytes are no CONNECT, too few, or of a version that does not exist. To be asked before [`read`].
pub fn version_of_connect(bytes: &[u8]) -> Option<Version> {
    let (0x10, rest) = bytes.split_first()? else { return None };
    let body = rest.get(varint(rest).ok()??.len..)?;
    let front = body.get(..9).unwrap_or(body); // the longest name and its level
    super::connect::read_version(&mut Reader::new(Bytes::copy_from_slice(front))).ok()
}

impl Packet {
    /// Appends the packet as `version` writes it, leaving out what that version has not. CONNECT says its own version.
    ///
    /// AUTH does not exist before 5.0; nothing is written for it then.
    ///
    /// # Errors
    /// [`TooLarge`] when a field does not fit the format: a string above 65,535 bytes, a packet above 268,435,455, or
    /// a value that has no form in this version (a PUBLISH without topic, QoS 1 or 2 without packet identifier, a
    /// password without user name before 5.0, AUTH without method). Nothing is written then.
    pub fn write(&self, version: Version, out: &mut BytesMut) -> Result<(), TooLarge> {
        if matches!(self, Self::Auth(_)) && version != Version::V5 {
            return Ok(());
        }
        let remaining = Size::of(&|out| self.put_body(version, out)).fitting().ok_or(TooLarge)?;
        if u32::try_from(remaining).map_or(true, |remaining| remaining > VARINT_MAX) {
            return Err(TooLarge);
        }
        out.reserve(5 + remaining);
        out.u8(self.first_byte());
        out.varint(remaining);
        self.put_body(version, out);
        Ok(())
    }

    fn put_body(&self, version: Version, out: &mut dyn Sink) {
        match self {
            Self::Connect(connect) => connect.put(out),
            Self::ConnAck(connack) => connack.put(version, out),
            Self::Publish(publish) => publish.put(version, out),
            Self::PubAck(ack) | Self::PubRec(ack) | Self::PubRel(ack) | Self::PubComp(ack) => {
                ack.put(version, out)
            }
            Self::Subscribe(subscribe) => subscribe.put(version, out),
            Self::SubAck(suback) => suback.put(version, out),
            Self::Unsubscribe(unsubscribe) => unsubscribe.put(version, out),
            Self::UnsubAck(unsuback) => unsuback.put(version, out),
            Self::PingReq | Self::PingResp => {}
            Self::Disconnect(disconnect) => disconnect.put(version, out),
            Self::Auth(auth) => auth.put(out),
        }
    }
}

/// A reason code that the packet has; any other is data that the protocol does not allow here.
pub(super) fn reason_of(code: u8, belongs: bool) -> Result<ReasonCode, Malformed> {
    let reason = ReasonCode::from_u8(code).filter(|_| belongs);
    reason.ok_or(Malformed::protocol("a reason code that does not belong to this packet"))
}
