//! Names and numbers that cross a wire, each a type of its own so that two of them cannot be swapped.

use std::fmt;
use std::num::NonZeroU16;
use std::sync::{Arc, LazyLock};

/// A tenant. Its topics, client ids and retained messages are invisible to every other app.
///
/// 1 to 64 characters out of `a-z`, `0-9`, `-` and `_`, so that it is safe in URLs, keys and metric labels.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppId(Arc<str>);

impl AppId {
    /// The app that exists without any configuration.
    pub const DEFAULT: &'static str = "default";

    /// Checks the text once, so that nobody after this point has to.
    ///
    /// # Errors
    /// [`IdError`] when the text is empty, longer than 64 characters or has any other character.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if text.is_empty() || text.len() > 64 || !text.chars().all(allowed) {
            return Err(IdError::App);
        }
        Ok(Self(text.into()))
    }

    /// The text as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for AppId {
    fn default() -> Self {
        static SHARED: LazyLock<Arc<str>> = LazyLock::new(|| AppId::DEFAULT.into()); // one text for all connections
        Self(Arc::clone(&SHARED))
    }
}

/// The MQTT client identifier of a device: 1 to 65,535 bytes of UTF-8 without U+0000.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// Checks the text once. `[MQTT5-3.1.3-4]`, `[MQTT5-1.5.4-2]`
    ///
    /// # Errors
    /// [`IdError`] when the text is empty, longer than 65,535 bytes or has U+0000.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if text.is_empty() || text.len() > usize::from(u16::MAX) || text.contains('\0') {
            return Err(IdError::Client);
        }
        Ok(Self(text.into()))
    }

    /// The text as the client gave it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! show_as_text {
    ($($type:ty),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }
    )*};
}
show_as_text!(AppId, ClientId);

/// Why a text is not a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not an [`AppId`].
    #[error("an app id has 1 to 64 characters out of a-z, 0-9, - and _")]
    App,
    /// Not a [`ClientId`].
    #[error("a client id has 1 to 65,535 bytes of UTF-8 without U+0000")]
    Client,
    /// Not a [`MessageId`].
    #[error("a message id is a UUID, as 36 characters or 16 bytes")]
    Message,
}

/// An MQTT packet identifier: never 0. `[MQTT5-2.2.1-3]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// `None` for 0, which the standard forbids.
    pub fn new(id: u16) -> Option<Self> {
        NonZeroU16::new(id).map(Self)
    }

    /// The number as it stands on the wire.
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl From<NonZeroU16> for PacketId {
    fn from(id: NonZeroU16) -> Self {
        Self(id)
    }
}

/// The number of a session's network connection; the newer one wins. It grows across restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// The identity of a push message across socket and vendors: a UUID, version 7 when we made it.
///
/// A device that gets the same id twice, by whatever way, shows it once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub [u8; 16]);

/// The version of a UUID in the upper half of its seventh byte; 8 is for whoever wants to make one. [RFC9562-5.8]
const NOTE_VERSION: u8 = 0x80;

impl MessageId {
    /// Reads the 16 bytes that stand in the messages of broker and bridge.
    ///
    /// # Errors
    /// [`IdError::Message`] when there are not exactly 16 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IdError> {
        bytes.try_into().map(Self).map_err(|_| IdError::Message)
    }

    /// The id of a note of the bridge to a device: a UUID, version 8, made of another one. Nobody keeps what becomes of it.
    pub fn note(mut uuid: [u8; 16]) -> Self {
        let [_, _, _, _, _, _, version, ..] = &mut uuid;
        *version = *version & 0x0f | NOTE_VERSION;
        Self(uuid)
    }

    /// Whether it is the id of a note.
    pub fn is_note(self) -> bool {
        let [_, _, _, _, _, _, version, ..] = self.0;
        version & 0xf0 == NOTE_VERSION
    }

    /// Reads the 36 characters that people and devices see, hexadecimal in groups of 8-4-4-4-12.
    ///
    /// # Errors
    /// [`IdError::Message`] when the text has another shape.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let hex = |b: u8| char::from(b).to_digit(16).ok_or(IdError::Message);
        if text.len() != 36 {
            return Err(IdError::Message);
        }
        let mut nibbles = Vec::with_capacity(32);
        for (at, byte) in text.bytes().enumerate() {
            match at {
                8 | 13 | 18 | 23 if byte == b'-' => {}
                8 | 13 | 18 | 23 => return Err(IdError::Message),
                _ => nibbles.push(hex(byte)?),
            }
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(nibbles.chunks_exact(2)) {
            *byte = pair.iter().fold(0, |high, low| high << 4 | (*low & 0xf) as u8);
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_id_is_short_and_plain() {
        for good in ["default", "a", "shop-1", "x_2"] {
            assert!(AppId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "a/b", "a b", "应用", &"a".repeat(65)] {
            assert_eq!(AppId::parse(bad), Err(IdError::App), "{bad}");
        }
    }

    #[test]
    fn a_client_id_is_any_text_without_nul() {
        for good in ["d1", "设备-1", &"x".repeat(65_535)] {
            assert!(ClientId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a\0b", &"x".repeat(65_536)] {
            assert_eq!(ClientId::parse(bad), Err(IdError::Client), "{bad}");
        }
    }

    #[test]
    fn a_note_is_told_from_a_message_by_its_id() {
        let message = MessageId::parse("0199b2c0-7c3e-7a41-9c55-0242ac120002").unwrap();
        assert!(!message.is_note());
        let note = MessageId::note(message.0);
        assert!(note.is_note());
        assert_eq!(note.to_string(), "0199b2c0-7c3e-8a41-9c55-0242ac120002");
    }

    #[test]
    fn a_message_id_reads_what_it_writes() {
        let id = MessageId([0, 1, 2, 3, 0xff, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xab]);
        assert_eq!(id.to_string(), "00010203-ff05-0607-0809-0a0b0c0d0eab");
        assert_eq!(MessageId::parse(&id.to_string()), Ok(id));
        for bad in [
            "",
            "00010203-ff05-0607-0809-0a0b0c0d0ea",
            "00010203xff05-0607-0809-0a0b0c0d0eab",
            "g0010203-ff05-0607-0809-0a0b0c0d0eab",
        ] {
            assert_eq!(MessageId::parse(bad), Err(IdError::Message), "{bad}");
        }
    }
}
