//! How facts look on disk: compact values behind a version byte, keys that sort as their owners do.
//!
//! A value is one version byte, then its fields. Numbers are LEB128 (7 bits a byte, low bits first), texts and bytes
//! have their length in front, flags share a byte. Whatever is read is checked again: a disk is an outside.

pub(crate) mod keys;
mod records;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use bytestring::ByteString;

/// The version that stands in front of every value written today.
pub(crate) const VERSION: u8 = 1;

/// Why bytes from the disk are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The value ends before its last field, or goes on behind it.
    #[error("a stored value has the wrong length")]
    Length,
    /// A field holds what it cannot hold.
    #[error("a stored value has a bad {0}")]
    Field(&'static str),
    /// Written by a later release.
    #[error("a stored value has the unknown version {0}")]
    Version(u8),
}

/// A kind of value: how to write it, and how to read it back.
pub(crate) trait Record: Sized {
    fn write(&self, out: &mut Writer);
    fn read(from: &mut Reader) -> Result<Self, FormatError>;
}

/// The value of a record: version, fields.
pub(crate) fn encode<R: Record>(record: &R) -> Vec<u8> {
    let mut out = Writer(vec![VERSION]);
    record.write(&mut out);
    out.0
}

/// Reads a whole value.
pub(crate) fn decode<R: Record>(value: Bytes) -> Result<R, FormatError> {
    let mut from = Reader(value);
    let version = from.byte()?;
    if version != VERSION {
        return Err(FormatError::Version(version));
    }
    let record = R::read(&mut from)?;
    if from.0.is_empty() { Ok(record) } else { Err(FormatError::Length) }
}

/// Fields on their way out.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(crate) fn number(&mut self, number: impl Into<u64>) {
        let mut rest = number.into();
        while rest >= 0x80 {
            self.0.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.0.push(rest as u8);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn fixed(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// The value when it is there; that it is there stands in a flag elsewhere.
    pub(crate) fn optional<T>(&mut self, value: Option<&T>, write: impl FnOnce(&mut Self, &T)) {
        if let Some(value) = value {
            write(self, value);
        }
    }
}

/// Fields on their way in; what is longer than a number shares the memory of the value.
pub(crate) struct Reader(Bytes);

impl Reader {
    pub(crate) fn byte(&mut self) -> Result<u8, FormatError> {
        let byte = self.0.first().copied().ok_or(FormatError::Length)?;
        let _ = self.0.split_to(1);
        Ok(byte)
    }

    pub(crate) fn number(&mut self) -> Result<u64, FormatError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(FormatError::Field("number"));
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(FormatError::Field("number"))
    }

    pub(crate) fn number_u32(&mut self) -> Result<u32, FormatError> {
        u32::try_from(self.number()?).map_err(|_| FormatError::Field("number"))
    }

    pub(crate) fn fixed(&mut self, length: usize) -> Result<Bytes, FormatError> {
        if length > self.0.len() {
            return Err(FormatError::Length);
        }
        Ok(self.0.split_to(length))
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, FormatError> {
        let length = usize::try_from(self.number()?).map_err(|_| FormatError::Length)?;
        self.fixed(length)
    }

    pub(crate) fn text(&mut self) -> Result<ByteString, FormatError> {
        ByteString::try_from(self.bytes()?).map_err(|_| FormatError::Field("text"))
    }

    /// A count of things that follow, each at least one byte long: so a bad count cannot make us allocate.
    pub(crate) fn count(&mut self) -> Result<usize, FormatError> {
        match usize::try_from(self.number()?) {
            Ok(count) if count <= self.0.len() => Ok(count),
            _ => Err(FormatError::Length),
        }
    }

    /// Reads a field if its flag says that it is there.
    pub(crate) fn optional<T>(
        &mut self,
        is_there: bool,
        read: impl FnOnce(&mut Self) -> Result<T, FormatError>,
    ) -> Result<Option<T>, FormatError> {
        if is_there { read(self).map(Some) } else { Ok(None) }
    }
}

/// A byte of flags, to be taken apart bit by bit; a bit that nobody took is an error.
pub(crate) struct Flags(u8);

impl Flags {
    pub(crate) fn of(bits: impl IntoIterator<Item = (u8, bool)>) -> u8 {
        bits.into_iter().fold(0, |flags, (bit, is_set)| if is_set { flags | bit } else { flags })
    }

    pub(crate) fn read(from: &mut Reader) -> Result<Self, FormatError> {
        from.byte().map(Self)
    }

    pub(crate) fn take(&mut self, bit: u8) -> bool {
        let is_set = self.0 & bit != 0;
        self.0 &= !bit;
        is_set
    }

    /// The bits under a mask, as a small number.
    pub(crate) fn take_bits(&mut self, mask: u8) -> u8 {
        let bits = (self.0 & mask) >> mask.trailing_zeros();
        self.0 &= !mask;
        bits
    }

    pub(crate) fn end(self) -> Result<(), FormatError> {
        if self.0 == 0 { Ok(()) } else { Err(FormatError::Field("flag")) }
    }
}
