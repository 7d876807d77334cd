//! Topic names and topic filters, valid by construction. MQTT 5.0 section 4.7.

use bytestring::ByteString;
use std::fmt;

/// Where a message is published: one to 65,535 bytes of UTF-8 without wildcards and without U+0000.
///
/// Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(ByteString);

/// What a subscriber asks for: a topic name in which `+` stands for one level and a final `#` for all the rest.
///
/// The `$share/{group}/` in front of a shared subscription is not part of it, see [`Subscription`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicFilter(ByteString);

/// A topic filter as it stands in SUBSCRIBE: plain, or shared by the members of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subscription {
    /// The group of `$share/{group}/{filter}`; `None` for a subscription of one's own.
    pub group: Option<ByteString>,
    /// The filter itself.
    pub filter: TopicFilter,
}

/// Why a text is no topic name or no topic filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// `[MQTT5-4.7.3-1]`
    #[error("a topic has at least one character")]
    Empty,
    /// `[MQTT5-4.7.3-3]`
    #[error("a topic has at most 65,535 bytes")]
    TooLong,
    /// `[MQTT5-4.7.3-2]`
    #[error("a topic has no U+0000")]
    Nul,
    /// `[MQTT5-3.3.2-2]`
    #[error("a topic name has no wildcard")]
    WildcardInName,
    /// `[MQTT5-4.7.1-1]`, `[MQTT5-4.7.1-2]`
    #[error("a wildcard fills a level of its own, and # stands last")]
    MisplacedWildcard,
    /// `[MQTT5-4.8.2-1]`, `[MQTT5-4.8.2-2]`
    #[error("a shared subscription is $share/{{group}}/{{filter}} with a group without wildcards")]
    Share,
}

impl TopicName {
    /// Checks the name once, so that nobody after this point has to.
    ///
    /// # Errors
    /// [`TopicError`] says which rule the text breaks.
    pub fn parse(text: impl Into<ByteString>) -> Result<Self, TopicError> {
        let text = text.into();
        check_text(&text)?;
        if text.contains(['+', '#']) {
            return Err(TopicError::WildcardInName);
        }
        Ok(Self(text))
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shared bytes of the name.
    pub fn text(&self) -> &ByteString {
        &self.0
    }

    /// The parts between the slashes; an empty level is a level.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl TopicFilter {
    /// Checks the filter once, so that nobody after this point has to.
    ///
    /// # Errors
    /// [`TopicError`] says which rule the text breaks.
    pub fn parse(text: impl Into<ByteString>) -> Result<Self, TopicError> {
        let text = text.into();
        check_text(&text)?;
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            let is_last = levels.peek().is_none();
            let is_allowed = match level {
                "+" => true,
                "#" => is_last,
                plain => !plain.contains(['+', '#']),
            };
            if !is_allowed {
                return Err(TopicError::MisplacedWildcard);
            }
        }
        Ok(Self(text))
    }

    /// The whole filter.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shared bytes of the filter.
    pub fn text(&self) -> &ByteString {
        &self.0
    }

    /// The parts between the slashes; an empty level is a level.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Whether `+` or `#` occurs.
    pub fn has_wildcard(&self) -> bool {
        self.0.contains(['+', '#'])
    }

    /// Whether a message on `topic` belongs to this filter. The rule that every index is tested against.
    ///
    /// A filter that begins with a wildcard does not see topics that begin with `$`. `[MQTT5-4.7.2-1]`
    pub fn matches(&self, topic: &TopicName) -> bool {
        if topic.as_str().starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let (mut wanted, mut given) = (self.levels(), topic.levels());
        loop {
            match (wanted.next(), given.next()) {
                (Some("#"), _) | (None, None) => return true, // `a/#` sees `a` too, [MQTT5-4.7.1-2]
                (Some("+"), Some(_)) => {}
                (Some(level), Some(same)) if level == same => {}
                _ => return false,
            }
        }
    }
}

impl Subscription {
    /// Reads a filter as it stands in SUBSCRIBE, with or without `$share/{group}/`.
    ///
    /// # Errors
    /// [`TopicError`] says which rule the text breaks.
    pub fn parse(text: impl Into<ByteString>) -> Result<Self, TopicError> {
        let text = text.into();
        check_text(&text)?;
        let Some(shared) = text.strip_prefix("$share/") else {
            return Ok(Self { group: None, filter: TopicFilter::parse(text)? });
        };
        let (group, filter) = shared.split_once('/').ok_or(TopicError::Share)?;
        if group.is_empty() || group.contains(['+', '#']) || filter.is_empty() {
            return Err(TopicError::Share);
        }
        Ok(Self { group: Some(group.into()), filter: TopicFilter::parse(filter)? })
    }
}

impl fmt::Display for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.group {
            Some(group) => write!(f, "$share/{group}/{}", self.filter),
            None => fmt::Display::fmt(&self.filter, f),
        }
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
show_as_text!(TopicName, TopicFilter);

fn check_text(text: &str) -> Result<(), TopicError> {
    match text {
        "" => Err(TopicError::Empty),
        _ if text.len() > usize::from(u16::MAX) => Err(TopicError::TooLong),
        _ if text.contains('\0') => Err(TopicError::Nul),
        _ => Ok(()),
    }
}
