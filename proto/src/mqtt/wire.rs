//! The data types of section 1.5, read from the bytes of one whole packet and written to any [`Sink`].

use super::Malformed;
use crate::ids::PacketId;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use bytestring::ByteString;

/// The largest number that a variable byte integer holds, and with it the largest remaining length. Section 1.5.5.
pub(super) const VARINT_MAX: u32 = 268_435_455;

/// A variable byte integer as it was found.
pub(super) struct Varint {
    pub value: u32,
    /// Bytes that it took, 1 to 4.
    pub len: usize,
    /// Whether no shorter form exists. `[MQTT5-1.5.5-1]`
    pub is_shortest: bool,
}

/// Reads a variable byte integer from the front; `None` when the bytes end inside it.
pub(super) fn varint(bytes: &[u8]) -> Result<Option<Varint>, Malformed> {
    let mut value = 0;
    for (at, byte) in (0u8..4).zip(bytes) {
        value |= u32::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            let is_shortest = at == 0 || *byte != 0;
            return Ok(Some(Varint { value, len: usize::from(at) + 1, is_shortest }));
        }
    }
    if bytes.len() >= 4 {
        return Err(Malformed::packet("a variable byte integer has at most four bytes"));
    }
    Ok(None)
}

/// The unread rest of a packet that is there as a whole: where it ends too early, it is malformed.
pub(super) struct Reader {
    rest: Bytes,
}

const CUT: Malformed = Malformed::packet("the packet ends inside a field");

impl Reader {
    pub fn new(rest: Bytes) -> Self {
        Self { rest }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.rest.try_get_u8().map_err(|_| CUT)
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.rest.try_get_u16().map_err(|_| CUT)
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.rest.try_get_u32().map_err(|_| CUT)
    }

    pub fn varint(&mut self) -> Result<u32, Malformed> {
        let found = varint(&self.rest)?.ok_or(CUT)?;
        if !found.is_shortest {
            return Err(Malformed::packet("a variable byte integer takes its shortest form")); // [MQTT5-1.5.5-1]
        }
        self.rest.advance(found.len);
        Ok(found.value)
    }

    pub fn packet_id(&mut self) -> Result<PacketId, Malformed> {
        PacketId::new(self.u16()?).ok_or(Malformed::protocol("packet identifier 0")) // [MQTT5-2.2.1-3]
    }

    /// Binary data, section 1.5.6.
    pub fn binary(&mut self) -> Result<Bytes, Malformed> {
        let len = usize::from(self.u16()?);
        self.take(len)
    }

    /// A UTF-8 encoded string, section 1.5.4. Surrogates are no UTF-8. `[MQTT5-1.5.4-1]`
    pub fn text(&mut self) -> Result<ByteString, Malformed> {
        let bytes = self.binary()?;
        if bytes.contains(&0) {
            return Err(Malformed::packet("a string has U+0000")); // [MQTT5-1.5.4-2]
        }
        ByteString::try_from(bytes).map_err(|_| Malformed::packet("a string is not UTF-8"))
    }

    /// The properties in front of the rest; they may not reach beyond the packet. Section 2.2.2.
    pub fn properties(&mut self) -> Result<Self, Malformed> {
        let len = self.varint()?;
        let len = usize::try_from(len).map_err(|_| CUT)?;
        self.take(len).map(Self::new)
    }

    /// All that is left.
    pub fn into_rest(self) -> Bytes {
        self.rest
    }

    /// Every byte of a packet means something.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed::packet("bytes behind the end of the packet"))
        }
    }

    fn take(&mut self, len: usize) -> Result<Bytes, Malformed> {
        if len > self.rest.len() {
            return Err(CUT);
        }
        Ok(self.rest.split_to(len))
    }
}

/// Where a packet is written to: first a [`Size`], which also finds what does not fit the format, then the bytes.
pub(super) trait Sink {
    fn put(&mut self, bytes: &[u8]);

    /// The value has no form on the wire.
    fn refuse(&mut self);

    fn u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    fn u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    fn varint(&mut self, value: usize) {
        let Some(mut rest) = u32::try_from(value).ok().filter(|value| *value <= VARINT_MAX) else {
            return self.refuse();
        };
        loop {
            let low = (rest & 0x7F) as u8;
            rest >>= 7;
            if rest == 0 {
                return self.u8(low);
            }
            self.u8(low | 0x80);
        }
    }

    fn binary(&mut self, bytes: &[u8]) {
        match u16::try_from(bytes.len()) {
            Ok(len) => self.u16(len),
            Err(_) => self.refuse(),
        }
        self.put(bytes);
    }

    fn text(&mut self, text: &str) {
        self.binary(text.as_bytes());
    }
}

impl Sink for BytesMut {
    fn put(&mut self, bytes: &[u8]) {
        self.put_slice(bytes);
    }

    fn refuse(&mut self) {} // the size was taken before, and it refused
}

/// Counts what would be written.
#[derive(Default)]
pub(super) struct Size {
    len: usize,
    is_refused: bool,
}

impl Size {
    /// Runs the writer without keeping anything.
    pub fn of(write: &dyn Fn(&mut dyn Sink)) -> Self {
        let mut size = Self::default();
        write(&mut size);
        size
    }

    /// Bytes, when everything fits the format.
    pub fn fitting(&self) -> Option<usize> {
        Some(self.len).filter(|_| !self.is_refused)
    }
}

impl Sink for Size {
    fn put(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
    }

    fn refuse(&mut self) {
        self.is_refused = true;
    }
}

/// Properties with their length in front; the writer says the same each time it runs.
pub(super) fn put_properties(out: &mut dyn Sink, write: &dyn Fn(&mut dyn Sink)) {
    match Size::of(write).fitting() {
        Some(len) => out.varint(len),
        None => out.refuse(),
    }
    write(out);
}
