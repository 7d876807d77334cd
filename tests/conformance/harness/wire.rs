//! Bytes by hand. Nothing here uses the broker's own codec, so that a mistake in it cannot hide from the tests.

use super::Version;
use std::fmt::{self, Write};

/// What can be sent as it is, wrong or right.
pub trait ToBytes {
    /// The whole packet in the words of a version.
    fn to_bytes(&self, version: Version) -> Vec<u8>;
}

impl ToBytes for Vec<u8> {
    fn to_bytes(&self, _: Version) -> Vec<u8> {
        self.clone()
    }
}

impl ToBytes for &[u8] {
    fn to_bytes(&self, _: Version) -> Vec<u8> {
        self.to_vec()
    }
}

impl<const N: usize> ToBytes for [u8; N] {
    fn to_bytes(&self, _: Version) -> Vec<u8> {
        self.to_vec()
    }
}

impl ToBytes for Packet {
    fn to_bytes(&self, _: Version) -> Vec<u8> {
        self.bytes()
    }
}

/// Bytes as one reads them: pairs of hexadecimal digits, and text in quotes, which stands for itself without a length.
///
/// `hex("30 05 0001 't' 'hi'")` is a PUBLISH of `hi` on `t`.
pub fn hex(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, part) in text.split('\'').enumerate() {
        if at % 2 == 1 {
            bytes.extend_from_slice(part.as_bytes());
            continue;
        }
        let digits: Vec<u8> = part.bytes().filter(u8::is_ascii_hexdigit).collect();
        assert!(digits.len().is_multiple_of(2), "half a byte in {text:?}");
        for pair in digits.chunks(2) {
            bytes.push(u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
        }
    }
    bytes
}

/// A packet that is put together field by field; the remaining length is counted at the end.
#[derive(Clone, Debug, Default)]
pub struct Packet {
    first: u8,
    body: Vec<u8>,
}

impl Packet {
    /// Begins with type and flags.
    pub fn new(first: u8) -> Self {
        Self { first, body: Vec::new() }
    }

    pub fn u8(mut self, value: u8) -> Self {
        self.body.push(value);
        self
    }

    pub fn u16(mut self, value: u16) -> Self {
        self.body.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub fn u32(mut self, value: u32) -> Self {
        self.body.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Text or bytes behind their length in two bytes.
    pub fn text(self, text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref();
        let len = u16::try_from(text.len()).expect("at most 65,535 bytes");
        self.u16(len).raw(text)
    }

    /// Bytes as they are.
    pub fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.body.extend_from_slice(bytes.as_ref());
        self
    }

    /// Properties behind their length.
    pub fn properties(mut self, properties: &[Property]) -> Self {
        let all: Vec<u8> = properties.iter().flat_map(|property| property.0.iter().copied()).collect();
        self.body.extend(varint(all.len()));
        self.raw(all)
    }

    /// The whole packet.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.first];
        bytes.extend(varint(self.body.len()));
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// A variable byte integer in its shortest form.
pub fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value % 128).unwrap();
        value /= 128;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// One property as it stands on the wire: identifier and value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Property(pub Vec<u8>);

impl Property {
    pub fn id(&self) -> u8 {
        self.0[0]
    }

    /// The value of a property of one, two or four bytes.
    pub fn number(&self) -> u32 {
        self.0[1..].iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
    }

    /// The value of a property that is text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.0[3..]).unwrap()
    }
}

impl fmt::Debug for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", show(&self.0))
    }
}

/// Bytes for people: hexadecimal, and printable text beside it.
pub fn show(bytes: &[u8]) -> String {
    let mut shown = String::new();
    for byte in bytes.iter().take(64) {
        let _ = write!(shown, "{byte:02x} ");
    }
    if bytes.len() > 64 {
        let _ = write!(shown, "... {} bytes ", bytes.len());
    }
    let text: String = bytes
        .iter()
        .take(64)
        .map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' })
        .collect();
    format!("{shown}|{text}|")
}

/// The properties of 5.0 by their names; each is an identifier and a value.
#[allow(dead_code, reason = "the whole table of section 2.2.2.2, whichever of it the tests use")]
pub mod prop {
    use super::{Property, varint};

    pub const PAYLOAD_FORMAT: u8 = 0x01;
    pub const MESSAGE_EXPIRY: u8 = 0x02;
    pub const CONTENT_TYPE: u8 = 0x03;
    pub const RESPONSE_TOPIC: u8 = 0x08;
    pub const CORRELATION_DATA: u8 = 0x09;
    pub const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
    pub const SESSION_EXPIRY: u8 = 0x11;
    pub const ASSIGNED_CLIENT_IDENTIFIER: u8 = 0x12;
    pub const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub const AUTHENTICATION_METHOD: u8 = 0x15;
    pub const AUTHENTICATION_DATA: u8 = 0x16;
    pub const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub const WILL_DELAY: u8 = 0x18;
    pub const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub const RESPONSE_INFORMATION: u8 = 0x1A;
    pub const SERVER_REFERENCE: u8 = 0x1C;
    pub const REASON_STRING: u8 = 0x1F;
    pub const RECEIVE_MAXIMUM: u8 = 0x21;
    pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub const TOPIC_ALIAS: u8 = 0x23;
    pub const MAXIMUM_QOS: u8 = 0x24;
    pub const RETAIN_AVAILABLE: u8 = 0x25;
    pub const USER_PROPERTY: u8 = 0x26;
    pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub const WILDCARD_SUBSCRIPTION_AVAILABLE: u8 = 0x28;
    pub const SUBSCRIPTION_IDENTIFIERS_AVAILABLE: u8 = 0x29;
    pub const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2A;

    pub fn byte(id: u8, value: u8) -> Property {
        Property(vec![id, value])
    }

    pub fn two(id: u8, value: u16) -> Property {
        bytes(id, &value.to_be_bytes())
    }

    pub fn four(id: u8, value: u32) -> Property {
        bytes(id, &value.to_be_bytes())
    }

    pub fn var(id: u8, value: usize) -> Property {
        bytes(id, &varint(value))
    }

    /// Text, or binary data, behind its length.
    pub fn text(id: u8, value: impl AsRef<[u8]>) -> Property {
        let value = value.as_ref();
        let len = u16::try_from(value.len()).expect("at most 65,535 bytes");
        let mut all = len.to_be_bytes().to_vec();
        all.extend_from_slice(value);
        bytes(id, &all)
    }

    pub fn user(name: &str, value: &str) -> Property {
        let mut all = text(USER_PROPERTY, name);
        all.0.extend_from_slice(&text(USER_PROPERTY, value).0[1..]);
        all
    }

    /// Any bytes as value.
    pub fn bytes(id: u8, value: &[u8]) -> Property {
        let mut all = vec![id];
        all.extend_from_slice(value);
        Property(all)
    }
}
