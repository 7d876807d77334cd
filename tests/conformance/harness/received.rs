//! What the broker sent, taken apart by hand and strictly: a byte too many or a value out of its table fails the test.

use super::Version;
use super::packets::Publish;
use super::wire::{Property, prop, show};
use std::fmt;

/// One whole packet from the broker.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    pub first: u8,
    pub body: Vec<u8>,
    /// The packet with its fixed header.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show(&self.bytes))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnAck {
    pub session_present: bool,
    pub code: u8,
    pub properties: Vec<Property>,
}

impl ConnAck {
    pub fn property(&self, id: u8) -> Option<&Property> {
        find(&self.properties, id)
    }
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    pub id: u16,
    pub code: u8,
    pub properties: Vec<Property>,
}

/// SUBACK and UNSUBACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAck {
    pub id: u16,
    pub codes: Vec<u8>,
    pub properties: Vec<Property>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    pub code: u8,
    pub properties: Vec<Property>,
}

pub fn find(properties: &[Property], id: u8) -> Option<&Property> {
    properties.iter().find(|property| property.id() == id)
}

impl Frame {
    /// The frame at the front of what came; `None` while it is not whole.
    pub fn take(unread: &mut Vec<u8>) -> Option<Self> {
        let mut len = 0;
        for at in 0..4 {
            let byte = usize::from(*unread.get(1 + at)?);
            len |= (byte & 0x7F) << (7 * at);
            if byte & 0x80 == 0 {
                assert!(at == 0 || byte != 0, "the broker sent a length that is not in its shortest form");
                let head = 2 + at;
                if unread.len() < head + len {
                    return None;
                }
                let bytes: Vec<u8> = unread.drain(..head + len).collect();
                return Some(Self { first: bytes[0], body: bytes[head..].to_vec(), bytes });
            }
        }
        panic!("the broker sent a length of more than four bytes: {}", show(unread));
    }

    pub fn connack(&self, version: Version) -> ConnAck {
        assert_eq!(self.first, 0x20, "CONNACK and not {self:?}");
        let mut fields = Fields::of(self);
        let flags = fields.u8();
        assert_eq!(flags & 0xFE, 0, "reserved acknowledge flags in {self:?}"); // [MQTT5-3.2.2-1]
        let code = fields.u8();
        let properties = if version == Version::V5 { fields.properties() } else { Vec::new() };
        fields.end();
        ConnAck { session_present: flags == 1, code, properties }
    }

    pub fn publish(&self, version: Version) -> Publish {
        assert_eq!(self.first >> 4, 3, "PUBLISH and not {self:?}");
        let mut fields = Fields::of(self);
        let qos = self.first >> 1 & 3;
        assert!(qos < 3, "QoS 3 in {self:?}");
        let topic = fields.text();
        let id = (qos > 0).then(|| fields.u16());
        let properties = if version == Version::V5 { fields.properties() } else { Vec::new() };
        Publish {
            dup: self.first & 8 != 0,
            qos,
            retain: self.first & 1 != 0,
            topic: topic.into_bytes(),
            id,
            properties,
            payload: fields.rest(),
        }
    }

    /// An acknowledgement with this first byte.
    pub fn ack(&self, first: u8, version: Version) -> Ack {
        assert_eq!(self.first, first, "an acknowledgement {first:02x} and not {self:?}");
        let mut fields = Fields::of(self);
        let id = fields.u16();
        let has_more = version == Version::V5 && !fields.is_empty();
        let code = if has_more { fields.u8() } else { 0 };
        let properties = if has_more && !fields.is_empty() { fields.properties() } else { Vec::new() };
        fields.end();
        Ack { id, code, properties }
    }

    pub fn suback(&self, version: Version) -> SubAck {
        assert_eq!(self.first, 0x90, "SUBACK and not {self:?}");
        self.codes(version)
    }

    pub fn unsuback(&self, version: Version) -> SubAck {
        assert_eq!(self.first, 0xB0, "UNSUBACK and not {self:?}");
        self.codes(version)
    }

    fn codes(&self, version: Version) -> SubAck {
        let mut fields = Fields::of(self);
        let id = fields.u16();
        let properties = if version == Version::V5 { fields.properties() } else { Vec::new() };
        SubAck { id, codes: fields.rest(), properties }
    }

    pub fn disconnect(&self) -> Disconnect {
        assert_eq!(self.first, 0xE0, "DISCONNECT and not {self:?}");
        self.reason()
    }

    /// AUTH, which has the shape of DISCONNECT.
    pub fn auth(&self) -> Disconnect {
        assert_eq!(self.first, 0xF0, "AUTH and not {self:?}");
        self.reason()
    }

    fn reason(&self) -> Disconnect {
        let mut fields = Fields::of(self);
        let code = if fields.is_empty() { 0 } else { fields.u8() };
        let properties = if fields.is_empty() { Vec::new() } else { fields.properties() };
        fields.end();
        Disconnect { code, properties }
    }
}

/// Reads fields off the front.
struct Fields<'a> {
    rest: &'a [u8],
    frame: &'a Frame,
}

impl<'a> Fields<'a> {
    fn of(frame: &'a Frame) -> Self {
        Self { rest: &frame.body, frame }
    }

    fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        assert!(
            len <= self.rest.len(),
            "the broker sent a packet that ends inside a field: {:?}",
            self.frame
        );
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        taken
    }

    fn u8(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    fn text(&mut self) -> String {
        let len = usize::from(self.u16());
        String::from_utf8(self.take(len).to_vec()).expect("UTF-8 from the broker")
    }

    fn varint(&mut self) -> usize {
        let mut value = 0;
        for at in 0..4 {
            let byte = usize::from(self.u8());
            value |= (byte & 0x7F) << (7 * at);
            if byte & 0x80 == 0 {
                assert!(at == 0 || byte != 0, "not the shortest form: {:?}", self.frame);
                return value;
            }
        }
        panic!("a variable byte integer of more than four bytes: {:?}", self.frame);
    }

    fn properties(&mut self) -> Vec<Property> {
        let len = self.varint();
        let mut inside = Fields { rest: self.take(len), frame: self.frame };
        let mut properties: Vec<Property> = Vec::new();
        while !inside.is_empty() {
            let property = inside.property();
            let may_repeat = matches!(property.id(), prop::USER_PROPERTY | prop::SUBSCRIPTION_IDENTIFIER);
            assert!(may_repeat || find(&properties, property.id()).is_none(), "twice: {property:?}");
            properties.push(property);
        }
        properties
    }

    fn property(&mut self) -> Property {
        let before = self.rest;
        match self.u8() {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => _ = self.take(1),
            0x13 | 0x21 | 0x22 | 0x23 => _ = self.take(2),
            0x02 | 0x11 | 0x18 | 0x27 => _ = self.take(4),
            0x0B => _ = self.varint(),
            0x03 | 0x08 | 0x12 | 0x15 | 0x1A | 0x1C | 0x1F => _ = self.text(),
            0x26 => _ = (self.text(), self.text()),
            0x09 | 0x16 => {
                let len = usize::from(self.u16());
                self.take(len);
            }
            unknown => {
                panic!("the broker sent a property {unknown:02x} that does not exist: {:?}", self.frame)
            }
        }
        Property(before[..before.len() - self.rest.len()].to_vec())
    }

    fn rest(self) -> Vec<u8> {
        self.rest.to_vec()
    }

    fn end(self) {
        assert!(self.rest.is_empty(), "the broker sent bytes behind the end of {:?}", self.frame);
    }
}
