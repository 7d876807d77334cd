//! MQTT 3.1.1 as bytes, with no value per packet: what a load needs to write, and to tell apart when it comes.

/// What came, as far as a load has to know.
#[derive(Clone, Copy, Debug)]
pub enum Frame<'a> {
    /// The answer to CONNECT; 0 is yes.
    ConnAck(u8),
    /// A message; no packet identifier with QoS 0.
    Publish { qos: u8, packet_id: u16, payload: &'a [u8] },
    /// For QoS 1.
    PubAck,
    /// QoS 2, first answer.
    PubRec(u16),
    /// QoS 2, release.
    PubRel(u16),
    /// QoS 2, last answer.
    PubComp,
    /// The answer to SUBSCRIBE.
    SubAck,
    /// Anything else.
    Other,
}

/// The first frame of `bytes` and its length; `None` while it is not whole. `Err` for what is no MQTT.
pub fn scan(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, NoMqtt> {
    let Some((first, rest)) = bytes.split_first() else { return Ok(None) };
    let Some((length, header)) = remaining_length(rest)? else { return Ok(None) };
    let Some(body) = rest.get(header..header + length) else { return Ok(None) };
    let frame = match first >> 4 {
        2 => Frame::ConnAck(body.get(1).copied().ok_or(NoMqtt)?),
        3 => publish(*first, body)?,
        4 => Frame::PubAck,
        5 => Frame::PubRec(number(body)?),
        6 => Frame::PubRel(number(body)?),
        7 => Frame::PubComp,
        9 => Frame::SubAck,
        _ => Frame::Other,
    };
    Ok(Some((frame, 1 + header + length)))
}

/// The peer sent what no broker sends.
#[derive(Debug)]
pub struct NoMqtt;

fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, NoMqtt> {
    let mut length = 0;
    for (at, byte) in bytes.iter().enumerate().take(4) {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((length, at + 1)));
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(NoMqtt) }
}

fn publish(first: u8, body: &[u8]) -> Result<Frame<'_>, NoMqtt> {
    let qos = first >> 1 & 3;
    let topic = usize::from(number(body)?);
    let after = body.get(2 + topic..).ok_or(NoMqtt)?;
    let packet_id = if qos > 0 { number(after)? } else { 0 };
    let payload = after.get(if qos > 0 { 2 } else { 0 }..).ok_or(NoMqtt)?;
    Ok(Frame::Publish { qos, packet_id, payload })
}

fn number(bytes: &[u8]) -> Result<u16, NoMqtt> {
    bytes.first_chunk().map(|two| u16::from_be_bytes(*two)).ok_or(NoMqtt)
}

/// CONNECT. A session that is not clean lasts for as long as the broker is configured to keep it.
pub fn connect(client_id: &str, is_clean: bool, keep_alive: u16) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, if is_clean { 2 } else { 0 }];
    body.extend(keep_alive.to_be_bytes());
    text(&mut body, client_id);
    framed(0x10, &body)
}

/// SUBSCRIBE to one filter.
pub fn subscribe(filter: &str, qos: u8) -> Vec<u8> {
    let mut body = vec![0, 1];
    text(&mut body, filter);
    body.push(qos);
    framed(0x82, &body)
}

/// DISCONNECT.
pub const DISCONNECT: [u8; 2] = [0xe0, 0];

/// Appends an answer that is a packet identifier only: PUBACK 0x40, PUBREC 0x50, PUBREL 0x62, PUBCOMP 0x70.
pub fn answer(to: &mut Vec<u8>, first: u8, packet_id: u16) {
    let [high, low] = packet_id.to_be_bytes();
    to.extend_from_slice(&[first, 2, high, low]);
}

/// Appends what the other side is owed for this frame.
pub fn acknowledge(frame: &Frame<'_>, to: &mut Vec<u8>) {
    match frame {
        Frame::Publish { qos: 1, packet_id, .. } => answer(to, 0x40, *packet_id),
        Frame::Publish { qos: 2, packet_id, .. } => answer(to, 0x50, *packet_id),
        Frame::PubRec(packet_id) => answer(to, 0x62, *packet_id),
        Frame::PubRel(packet_id) => answer(to, 0x70, *packet_id),
        _ => {}
    }
}

/// A PUBLISH made once; each copy gets its packet identifier and the first bytes of its payload.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: Vec<u8>,
    packet_id: Option<usize>,
    stamp: usize,
}

/// Bytes at the start of a payload that say when it was sent (nanoseconds) and by whom.
pub const STAMP: usize = 12;

impl Template {
    /// Of at least [`STAMP`] bytes of payload.
    pub fn new(topic: &str, payload: usize, qos: u8, is_retained: bool) -> Self {
        let mut body = Vec::new();
        text(&mut body, topic);
        let id = body.len();
        if qos > 0 {
            body.extend([0, 0]);
        }
        let stamp = body.len();
        body.resize(stamp + payload.max(STAMP), b'x');
        let bytes = framed(0x30 | qos << 1 | u8::from(is_retained), &body);
        let header = bytes.len() - body.len();
        Self { bytes, packet_id: (qos > 0).then_some(header + id), stamp: header + stamp }
    }

    /// Appends one copy.
    pub fn write(&self, to: &mut Vec<u8>, packet_id: u16, nanos: u64, from: u32) {
        let start = to.len();
        to.extend_from_slice(&self.bytes);
        if let Some(at) = self.packet_id {
            put(to, start + at, &packet_id.to_be_bytes());
        }
        put(to, start + self.stamp, &nanos.to_be_bytes());
        put(to, start + self.stamp + 8, &from.to_be_bytes());
    }
}

fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = to.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// When and by whom a payload was sent.
pub fn stamp(payload: &[u8]) -> Option<(u64, u32)> {
    let (nanos, rest) = payload.split_first_chunk()?;
    Some((u64::from_be_bytes(*nanos), u32::from_be_bytes(*rest.first_chunk()?)))
}

fn text(to: &mut Vec<u8>, text: &str) {
    to.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    to.extend_from_slice(text.as_bytes());
}

fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    let mut length = body.len();
    loop {
        let byte = (length & 0x7f) as u8; // seven bits
        length >>= 7;
        if length == 0 {
            frame.push(byte);
            break;
        }
        frame.push(byte | 0x80);
    }
    frame.extend_from_slice(body);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use reveille_proto::mqtt::{self, Packet, QoS, Version};

    #[test]
    fn what_is_written_is_what_the_codec_reads() {
        let mut bytes = BytesMut::from(&connect("设备", false, 60)[..]);
        bytes.extend_from_slice(&subscribe("a/+", 1));
        let mut message = Vec::new();
        Template::new("a/b", 200, 2, true).write(&mut message, 7, 9, 3);
        bytes.extend_from_slice(&message);
        let mut next = || mqtt::read(&mut bytes, Some(Version::V3_1_1), u32::MAX).ok().flatten();
        assert!(matches!(next(), Some(Packet::Connect(connect)) if connect.client_id == "设备"));
        assert!(matches!(next(), Some(Packet::Subscribe(_))));
        let Some(Packet::Publish(publish)) = next() else { panic!("no PUBLISH") };
        assert_eq!((publish.qos, publish.retain), (QoS::ExactlyOnce, true));
        assert_eq!(publish.packet_id.map(|id| id.get()), Some(7));
        assert_eq!((publish.payload.len(), stamp(&publish.payload)), (200, Some((9, 3))));
    }

    #[test]
    fn a_frame_is_taken_whole_or_not_at_all() {
        let mut message = Vec::new();
        Template::new("a", 300, 1, false).write(&mut message, 5, 1, 2);
        for length in 0..message.len() {
            assert!(matches!(scan(&message[..length]), Ok(None)), "{length}");
        }
        let Ok(Some((Frame::Publish { qos: 1, packet_id: 5, payload }, length))) = scan(&message) else {
            panic!("not read");
        };
        assert_eq!((payload.len(), length), (300, message.len()));
        assert!(scan(&[0x30, 0xff, 0xff, 0xff, 0xff, 1]).is_err());
    }
}
