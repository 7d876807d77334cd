//! The packets of a client, in the words of each version, right unless a test makes them wrong.

use super::Version;
use super::received::find;
use super::wire::{Packet, Property, ToBytes, prop};

/// CONNECT. Begins as a clean one without keep alive.
#[derive(Clone, Debug)]
pub struct Connect {
    pub client_id: Vec<u8>,
    pub is_clean: bool,
    pub keep_alive: u16,
    /// Properties of 5.0; older versions do not send them.
    pub properties: Vec<Property>,
    pub will: Option<Will>,
    pub username: Option<Vec<u8>>,
    pub password: Option<Vec<u8>>,
    /// Bits that are turned over in the connect flags, to make them wrong.
    pub flipped_flags: u8,
}

impl Connect {
    pub fn new(client_id: impl AsRef<[u8]>) -> Self {
        Self {
            client_id: client_id.as_ref().to_vec(),
            is_clean: true,
            keep_alive: 0,
            properties: Vec::new(),
            will: None,
            username: None,
            password: None,
            flipped_flags: 0,
        }
    }

    /// Clean Start or Clean Session 0: takes the session that exists.
    pub fn resuming(mut self) -> Self {
        self.is_clean = false;
        self
    }

    /// Takes the session that exists, and keeps it for an hour after the connection (before 5.0: without end).
    pub fn durable(self) -> Self {
        self.resuming().property(prop::four(prop::SESSION_EXPIRY, 3600))
    }

    pub fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive = seconds;
        self
    }

    pub fn property(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }

    pub fn will(mut self, will: Will) -> Self {
        self.will = Some(will);
        self
    }

    pub fn username(mut self, name: impl AsRef<[u8]>) -> Self {
        self.username = Some(name.as_ref().to_vec());
        self
    }

    pub fn password(mut self, password: impl AsRef<[u8]>) -> Self {
        self.password = Some(password.as_ref().to_vec());
        self
    }

    pub fn flip(mut self, flags: u8) -> Self {
        self.flipped_flags = flags;
        self
    }

    fn flags(&self) -> u8 {
        let will = self.will.as_ref().map_or(0, |will| 0x04 | will.qos << 3 | u8::from(will.retain) << 5);
        let password = u8::from(self.password.is_some()) << 6;
        let username = u8::from(self.username.is_some()) << 7;
        (username | password | will | u8::from(self.is_clean) << 1) ^ self.flipped_flags
    }
}

impl ToBytes for Connect {
    fn to_bytes(&self, version: Version) -> Vec<u8> {
        let (name, level) = version.name_and_level();
        let mut packet = Packet::new(0x10).text(name).u8(level).u8(self.flags()).u16(self.keep_alive);
        if version == Version::V5 {
            packet = packet.properties(&self.properties);
        }
        packet = packet.text(&self.client_id);
        if let Some(will) = &self.will {
            if version == Version::V5 {
                packet = packet.properties(&will.properties);
            }
            packet = packet.text(&will.topic).text(&will.payload);
        }
        for field in [&self.username, &self.password].into_iter().flatten() {
            packet = packet.text(field);
        }
        packet.bytes()
    }
}

/// The will in a CONNECT.
#[derive(Clone, Debug)]
pub struct Will {
    pub topic: Vec<u8>,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub properties: Vec<Property>,
}

impl Will {
    pub fn new(topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> Self {
        Self {
            topic: topic.as_ref().to_vec(),
            payload: payload.as_ref().to_vec(),
            qos: 0,
            retain: false,
            properties: Vec::new(),
        }
    }

    pub fn qos(mut self, qos: u8) -> Self {
        self.qos = qos;
        self
    }

    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    pub fn property(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }
}

/// PUBLISH in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    pub dup: bool,
    pub qos: u8,
    pub retain: bool,
    /// Text, unless a test makes it wrong.
    pub topic: Vec<u8>,
    /// Of QoS 1 and 2.
    pub id: Option<u16>,
    /// Of 5.0.
    pub properties: Vec<Property>,
    pub payload: Vec<u8>,
}

/// A PUBLISH with QoS 0.
pub fn publish(topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> Publish {
    Publish {
        dup: false,
        qos: 0,
        retain: false,
        topic: topic.as_ref().to_vec(),
        id: None,
        properties: Vec::new(),
        payload: payload.as_ref().to_vec(),
    }
}

impl Publish {
    /// With QoS 1 or 2 and its packet identifier.
    pub fn qos(mut self, qos: u8, id: u16) -> Self {
        self.qos = qos;
        self.id = Some(id);
        self
    }

    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    pub fn dup(mut self) -> Self {
        self.dup = true;
        self
    }

    pub fn property(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }

    /// A property that the broker sent.
    pub fn find(&self, id: u8) -> Option<&Property> {
        find(&self.properties, id)
    }

    /// All properties with this identifier, in their order.
    pub fn all(&self, id: u8) -> Vec<Property> {
        self.properties.iter().filter(|property| property.id() == id).cloned().collect()
    }

    /// Topic and payload as text.
    pub fn words(&self) -> (&str, &str) {
        (std::str::from_utf8(&self.topic).unwrap(), self.text())
    }

    /// The payload as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }
}

impl ToBytes for Publish {
    fn to_bytes(&self, version: Version) -> Vec<u8> {
        let first = 0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain);
        let mut packet = Packet::new(first).text(&self.topic);
        if let Some(id) = self.id {
            packet = packet.u16(id);
        }
        if version == Version::V5 {
            packet = packet.properties(&self.properties);
        }
        packet.raw(&self.payload).bytes()
    }
}

/// SUBSCRIBE.
#[derive(Clone, Debug)]
pub struct Subscribe {
    pub id: u16,
    pub properties: Vec<Property>,
    /// Filters with their options byte (before 5.0: the QoS).
    pub filters: Vec<(Vec<u8>, u8)>,
}

/// A SUBSCRIBE for one filter; more come with [`Subscribe::and`].
pub fn subscribe(id: u16, filter: impl AsRef<[u8]>, options: u8) -> Subscribe {
    Subscribe { id, properties: Vec::new(), filters: Vec::new() }.and(filter, options)
}

impl Subscribe {
    pub fn and(mut self, filter: impl AsRef<[u8]>, options: u8) -> Self {
        self.filters.push((filter.as_ref().to_vec(), options));
        self
    }

    pub fn property(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }

    /// With a subscription identifier.
    pub fn identifier(self, identifier: usize) -> Self {
        self.property(prop::var(prop::SUBSCRIPTION_IDENTIFIER, identifier))
    }
}

impl ToBytes for Subscribe {
    fn to_bytes(&self, version: Version) -> Vec<u8> {
        let mut packet = Packet::new(0x82).u16(self.id);
        if version == Version::V5 {
            packet = packet.properties(&self.properties);
        }
        for (filter, options) in &self.filters {
            packet = packet.text(filter).u8(*options);
        }
        packet.bytes()
    }
}

/// UNSUBSCRIBE.
#[derive(Clone, Debug)]
pub struct Unsubscribe {
    pub id: u16,
    pub properties: Vec<Property>,
    pub filters: Vec<Vec<u8>>,
}

/// An UNSUBSCRIBE of filters.
pub fn unsubscribe<T: AsRef<[u8]>>(id: u16, filters: &[T]) -> Unsubscribe {
    let filters = filters.iter().map(|filter| filter.as_ref().to_vec()).collect();
    Unsubscribe { id, properties: Vec::new(), filters }
}

impl ToBytes for Unsubscribe {
    fn to_bytes(&self, version: Version) -> Vec<u8> {
        let mut packet = Packet::new(0xA2).u16(self.id);
        if version == Version::V5 {
            packet = packet.properties(&self.properties);
        }
        for filter in &self.filters {
            packet = packet.text(filter);
        }
        packet.bytes()
    }
}

/// An acknowledgement with this first byte and without a reason.
pub fn ack(first: u8, id: u16) -> Packet {
    Packet::new(first).u16(id)
}

pub fn puback(id: u16) -> Packet {
    ack(0x40, id)
}

pub fn pubrec(id: u16) -> Packet {
    ack(0x50, id)
}

pub fn pubrel(id: u16) -> Packet {
    ack(0x62, id)
}

pub fn pubcomp(id: u16) -> Packet {
    ack(0x70, id)
}

pub fn pingreq() -> Packet {
    Packet::new(0xC0)
}

/// DISCONNECT; a reason other than 0 exists in 5.0 only.
pub fn disconnect(code: u8) -> Packet {
    if code == 0 { Packet::new(0xE0) } else { Packet::new(0xE0).u8(code).u8(0) }
}
