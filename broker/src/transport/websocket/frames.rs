//! Frames of an open WebSocket.

use bytes::{BufMut, BytesMut};

/// Opcode and length with their long forms, and the mask.
pub(super) const HEADER_BYTES_MAX: usize = 14;

/// Payload of a control frame. `[RFC 6455 5.5]`
const CONTROL_BYTES_MAX: u64 = 125;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Binary,
    Close,
    Ping,
    Pong,
}

/// Why a WebSocket ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Close {
    /// Nobody has more to say.
    Done,
    /// The peer does not keep to the protocol.
    Protocol,
    /// It sent text. `[MQTT5-6.0.0-1]`
    NotBinary,
    /// It sent more than a packet may have.
    TooBig,
}

impl Close {
    /// The status code. `[RFC 6455 7.4.1]`
    pub(super) fn code(self) -> u16 {
        match self {
            Self::Done => 1000,
            Self::Protocol => 1002,
            Self::NotBinary => 1003,
            Self::TooBig => 1009,
        }
    }
}

/// Where reading stands.
#[derive(Debug)]
pub(super) struct Frames {
    message_bytes_max: u64,
    /// Bytes of the message that came in frames before this one; `None` between messages.
    message: Option<u64>,
    at: At,
}

#[derive(Debug)]
enum At {
    /// In the header.
    Header { bytes: [u8; HEADER_BYTES_MAX], count: usize },
    /// In the payload of a data frame.
    Data { mask: Mask, left: u64, is_last: bool },
    /// In the payload of a control frame.
    Control { opcode: Opcode, mask: Mask, left: u64, payload: BytesMut },
}

const NEW_HEADER: At = At::Header { bytes: [0; HEADER_BYTES_MAX], count: 0 };

/// The mask of a frame, and which of its bytes is next.
#[derive(Clone, Copy, Debug)]
struct Mask {
    bytes: [u8; 4],
    next: usize,
}

impl Mask {
    fn apply(&mut self, bytes: &mut [u8]) {
        self.bytes.rotate_left(self.next);
        for (at, byte) in bytes.iter_mut().enumerate() {
            let [a, b, c, d] = self.bytes;
            *byte ^= match at % 4 {
                0 => a,
                1 => b,
                2 => c,
                _ => d,
            };
        }
        self.next = bytes.len() % 4;
    }
}

/// A whole header.
#[derive(Clone, Copy, Debug)]
struct Header {
    is_last: bool,
    opcode: Opcode,
    length: u64,
    mask: [u8; 4],
    size: usize,
}

impl Frames {
    /// Before the first frame.
    pub(super) fn new(message_bytes_max: u64) -> Self {
        Self { message_bytes_max, message: None, at: NEW_HEADER }
    }

    /// Takes bytes; those of data go to `into`. Gives the payload of the last ping among them.
    ///
    /// # Errors
    /// [`Close`] when the peer said goodbye or broke the protocol. What came before stays in `into`.
    pub(super) fn decode(
        &mut self,
        mut bytes: &[u8],
        into: &mut BytesMut,
    ) -> Result<Option<BytesMut>, Close> {
        let mut ping = None;
        loop {
            match &mut self.at {
                At::Header { bytes: header, count } => {
                    let Some((byte, rest)) = bytes.split_first() else { return Ok(ping) };
                    if let Some(place) = header.get_mut(*count) {
                        *place = *byte;
                    }
                    *count += 1;
                    bytes = rest;
                    if let Some(header) = parse_header(header.get(..*count).unwrap_or_default())? {
                        debug_assert_eq!(header.size, *count);
                        self.at = self.begin(header)?;
                    }
                }
                At::Data { mask, left, is_last } => {
                    let part = take(&mut bytes, left);
                    let before = into.len();
                    into.extend_from_slice(part);
                    mask.apply(into.get_mut(before..).unwrap_or_default());
                    if *left > 0 {
                        return Ok(ping);
                    }
                    if *is_last {
                        self.message = None;
                    }
                    self.at = NEW_HEADER;
                }
                At::Control { opcode, mask, left, payload } => {
                    let part = take(&mut bytes, left);
                    let before = payload.len();
                    payload.extend_from_slice(part);
                    mask.apply(payload.get_mut(before..).unwrap_or_default());
                    if *left > 0 {
                        return Ok(ping);
                    }
                    match opcode {
                        Opcode::Close => return Err(goodbye(payload)),
                        Opcode::Ping => ping = Some(std::mem::take(payload)),
                        Opcode::Pong | Opcode::Binary | Opcode::Continuation => {}
                    }
                    self.at = NEW_HEADER;
                }
            }
        }
    }

    /// What follows a header, after its rules: `[RFC 6455 5.4]`, `[RFC 6455 5.5]`.
    fn begin(&mut self, header: Header) -> Result<At, Close> {
        let Header { is_last, opcode, length, mask, size: _ } = header;
        let mask = Mask { bytes: mask, next: 0 };
        let before = match (opcode, self.message) {
            (Opcode::Binary, None) => 0,
            (Opcode::Continuation, Some(before)) => before,
            (Opcode::Binary, Some(_)) | (Opcode::Continuation, None) => return Err(Close::Protocol),
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => {
                if !is_last || length > CONTROL_BYTES_MAX {
                    return Err(Close::Protocol);
                }
                return Ok(At::Control { opcode, mask, left: length, payload: BytesMut::new() });
            }
        };
        let message = before.saturating_add(length);
        if message > self.message_bytes_max {
            return Err(Close::TooBig);
        }
        self.message = Some(message);
        Ok(At::Data { mask, left: length, is_last })
    }
}

fn take<'a>(bytes: &mut &'a [u8], left: &mut u64) -> &'a [u8] {
    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    let (part, rest) = bytes.split_at_checked(count).unwrap_or_default();
    *bytes = rest;
    *left = left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
    part
}

/// A goodbye has no payload or a status code, which some codes may not be. `[RFC 6455 7.4]`
fn goodbye(payload: &[u8]) -> Close {
    match payload {
        [] => Close::Done,
        [_] => Close::Protocol,
        [high, low, reason @ ..] => {
            let is_allowed =
                matches!(u16::from_be_bytes([*high, *low]), 1000..=1003 | 1007..=1014 | 3000..=4999);
            if is_allowed && str::from_utf8(reason).is_ok() { Close::Done } else { Close::Protocol }
        }
    }
}

/// The header, once it is whole. It grows byte by byte, so what is wrong is found at the first byte that shows it.
fn parse_header(bytes: &[u8]) -> Result<Option<Header>, Close> {
    let [first, rest @ ..] = bytes else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(Close::Protocol); // of extensions, and none was agreed on
    }
    let opcode = match first & 0x0f {
        0 => Opcode::Continuation,
        1 => return Err(Close::NotBinary),
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        _ => return Err(Close::Protocol),
    };
    let [second, rest @ ..] = rest else { return Ok(None) };
    if second & 0x80 == 0 {
        return Err(Close::Protocol); // clients mask [RFC 6455 5.1]
    }
    let (length, rest) = match (second & 0x7f, rest) {
        (126, [a, b, rest @ ..]) => (u64::from(u16::from_be_bytes([*a, *b])), rest),
        (127, [a, b, c, d, e, f, g, h, rest @ ..]) => {
            (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), rest)
        }
        (126 | 127, _) => return Ok(None),
        (short, rest) => (u64::from(short), rest),
    };
    let Ok(mask) = rest.try_into() else { return Ok(None) };
    Ok(Some(Header { is_last: first & 0x80 != 0, opcode, length, mask, size: bytes.len() }))
}

/// The header of a whole, unmasked frame, which is what servers send. `[RFC 6455 5.1]`
pub(super) fn write_header(opcode: Opcode, length: usize, into: &mut BytesMut) {
    let opcode = match opcode {
        Opcode::Continuation => 0,
        Opcode::Binary => 2,
        Opcode::Close => 8,
        Opcode::Ping => 9,
        Opcode::Pong => 10,
    };
    into.put_u8(0x80 | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => into.put_u8(short),
        (_, Ok(medium)) => {
            into.put_u8(126);
            into.put_u16(medium);
        }
        (_, Err(_)) => {
            into.put_u8(127);
            into.put_u64(u64::try_from(length).unwrap_or(u64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut header = BytesMut::new();
        write_header(Opcode::Binary, payload.len(), &mut header);
        let masked = payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        let head = [&[first, header[1] | 0x80], &header[2..], &MASK].concat();
        head.into_iter().chain(masked).collect()
    }

    fn decode(bytes: &[u8]) -> (Vec<u8>, Result<Option<BytesMut>, Close>) {
        let mut into = BytesMut::new();
        let result = Frames::new(1_000).decode(bytes, &mut into);
        (into.to_vec(), result)
    }

    #[test]
    fn data_passes_however_it_is_cut() {
        let long: Vec<u8> = (0..900_u32).map(|at| (at % 256) as u8).collect();
        let bytes = [
            frame(0x82, b"one"),
            frame(0x02, b"tw"),
            frame(0x89, b"are you there"),
            frame(0x00, b""),
            frame(0x80, b"o"),
            frame(0x82, b""),
            frame(0x8a, b"unasked"),
            frame(0x82, &long),
        ]
        .concat();
        let wanted = [b"onetwo", &long[..]].concat();
        for size in [1, 2, 3, 5, 7, 64, bytes.len()] {
            let (mut frames, mut into) = (Frames::new(1_000), BytesMut::new());
            let mut pings = Vec::new();
            for part in bytes.chunks(size) {
                pings.extend(frames.decode(part, &mut into).unwrap());
            }
            assert_eq!(into, wanted, "in parts of {size}");
            assert_eq!(pings, [&b"are you there"[..]], "in parts of {size}");
        }
    }

    #[test]
    fn a_breach_ends_the_websocket_with_its_code_and_keeps_what_came_before() {
        let unmasked = [0x82, 1, b'x'];
        let rows: [(Vec<u8>, Close); 17] = [
            (frame(0x81, b"text"), Close::NotBinary),
            (frame(0x83, b""), Close::Protocol),
            (frame(0xc2, b""), Close::Protocol),
            (frame(0x80, b"continues nothing"), Close::Protocol),
            ([frame(0x02, b""), frame(0x82, b"new")].concat(), Close::Protocol),
            (unmasked.to_vec(), Close::Protocol),
            (frame(0x82, &[0; 1_001]), Close::TooBig),
            ([frame(0x02, &[0; 600]), frame(0x80, &[0; 600])].concat(), Close::TooBig),
            (vec![0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], Close::TooBig),
            (frame(0x09, b"in pieces"), Close::Protocol),
            (frame(0x89, &[0; 126]), Close::Protocol),
            (frame(0x88, b""), Close::Done),
            (frame(0x88, &[0x03, 0xe8]), Close::Done),
            (frame(0x88, &[0x03, 0xe8, b'b', b'y', b'e']), Close::Done),
            (frame(0x88, &[3]), Close::Protocol),
            (frame(0x88, &[0x03, 0xed]), Close::Protocol), // 1005 is never sent
            (frame(0x88, &[0x03, 0xe8, 0xff]), Close::Protocol),
        ];
        for (bytes, wanted) in rows {
            let (_, result) = decode(&bytes);
            assert_eq!(result, Err(wanted), "{bytes:?}");
            let (before, result) = decode(&[frame(0x82, b"before"), bytes.clone()].concat());
            assert_eq!(result, Err(wanted), "{bytes:?}");
            assert!(before.starts_with(b"before"), "{bytes:?}");
        }
    }

    #[test]
    fn every_length_has_its_shortest_form() {
        for (length, wanted) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 0xff, 0xff]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut header = BytesMut::new();
            write_header(Opcode::Binary, length, &mut header);
            assert_eq!(header, wanted, "{length}");
        }
    }

    proptest::proptest! {
        /// What a stranger sends, cut anywhere: no panic, and the same as in one piece.
        #[test]
        fn nothing_depends_on_how_bytes_are_cut(
            frames in proptest::collection::vec((0_usize..9, proptest::collection::vec(0_u8.., 0..200)), 1..6),
            noise in proptest::collection::vec(0_u8.., 0..20),
            size in 1_usize..50,
        ) {
            let firsts = [0x82, 0x02, 0x00, 0x80, 0x89, 0x8a, 0x88, 0x81, 0xf2];
            let mut bytes: Vec<u8> = frames.iter().flat_map(|(kind, payload)| frame(firsts[*kind], payload)).collect();
            bytes.extend(noise);
            let (whole, result) = decode(&bytes);
            let (mut frames, mut into) = (Frames::new(1_000), BytesMut::new());
            let parts = bytes.chunks(size).try_fold(None, |last, part| {
                frames.decode(part, &mut into).map(|ping| ping.or(last))
            });
            proptest::prop_assert_eq!(&into[..], &whole[..]);
            proptest::prop_assert_eq!(parts, result);
        }
    }
}
