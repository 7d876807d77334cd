//! Topic names and topic filters, valid by construction. MQTT 5.0 section 4.7.

use bytestring::ByteString;
use std::fmt;
use std::sync::Arc;

/// Where a message is published: one to 65,535 bytes of UTF-8 without wildcards and without U+0000.
///
/// Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(ByteString);

/// What a subscriber asks for: a topic name in which `+` stands for one level and a final `#` for all the rest.
///
/// The `$share/{group}/` in front of a shared subscription is not part of it, see [`Subscription`].
///
/// Cloning shares the text. A filter is kept as long as its session, so it is no part of the packet that it came in, and its
/// handle has half the size of a topic name's.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicFilter(Arc<str>);

/// A topic filter as it stands in SUBSCRIBE: plain, or shared by the members of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subscription {
    /// The group of `$share/{group}/{filter}`; `None` for a subscription of one's own.
    pub group: Option<Arc<str>>,
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
    pub fn parse(text: impl AsRef<str>) -> Result<Self, TopicError> {
        let text = text.as_ref();
        check_text(text)?;
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
        Ok(Self(text.into()))
    }

    /// The whole filter.
    pub fn as_str(&self) -> &str {
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
    pub fn parse(text: impl AsRef<str>) -> Result<Self, TopicError> {
        let text = text.as_ref();
        check_text(text)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_name_is_any_text_without_wildcards() {
        for good in ["a", "/", "a//b", "设备/1", "车间 一/温度", "$SYS/x", " ", "a/b/", &"长".repeat(21_845)]
        {
            assert_eq!(TopicName::parse(good).map(|name| name.to_string()), Ok(good.to_owned()));
        }
        let rows = [
            ("", TopicError::Empty),
            ("a\0b", TopicError::Nul),
            ("a/+", TopicError::WildcardInName),
            ("设备/#", TopicError::WildcardInName),
            ("a+b", TopicError::WildcardInName),
            (&"x".repeat(65_536), TopicError::TooLong),
        ];
        for (bad, wanted) in rows {
            assert_eq!(TopicName::parse(bad), Err(wanted), "{bad:.20}");
        }
    }

    #[test]
    fn a_wildcard_fills_a_level_of_its_own() {
        for good in ["#", "+", "+/+", "a/+/b", "a/#", "/#", "+/#", "设备/+/温度", "/+/", "$SYS/#"] {
            assert!(TopicFilter::parse(good).is_ok(), "{good}");
        }
        let misplaced = TopicError::MisplacedWildcard;
        let rows = [
            ("", TopicError::Empty),
            ("\0", TopicError::Nul),
            ("a#", misplaced),
            ("#/a", misplaced),
            ("a/#/b", misplaced),
            ("a+", misplaced),
            ("a/+b/c", misplaced),
            ("设备+", misplaced),
            ("##", misplaced),
            ("++", misplaced),
            (&"x".repeat(65_536), TopicError::TooLong),
        ];
        for (bad, wanted) in rows {
            assert_eq!(TopicFilter::parse(bad), Err(wanted), "{bad:.20}");
        }
    }

    #[test]
    fn a_filter_matches_as_the_standard_says() {
        let rows = [
            // section 4.7.1.2
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/tennis/player1/#", "sport/tennis/player10", false),
            ("sport/#", "sport", true),
            ("#", "任何/东西", true),
            ("#", "/", true),
            // section 4.7.1.3
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("+/#", "a", true),
            // section 4.7.2
            ("#", "$SYS/load", false),
            ("+/load", "$SYS/load", false),
            ("$SYS/#", "$SYS/load", true),
            ("$SYS/load/+", "$SYS/load/1", true),
            // section 4.7.3: every character counts
            ("设备/+/温度", "设备/一/温度", true),
            ("设备/+/温度", "设备/一/湿度", false),
            ("设备/1", "设备/1", true),
            ("设备/1", "设备/1/", false),
            ("设备/#", "设备", true),
            ("ACCOUNTS", "Accounts", false),
            ("a/b", "a/b/c", false),
            ("a//b", "a/b", false),
            ("a/+/b", "a//b", true),
        ];
        for (filter, topic, wanted) in rows {
            let (wildcards, name) = (TopicFilter::parse(filter).unwrap(), TopicName::parse(topic).unwrap());
            assert_eq!(wildcards.matches(&name), wanted, "{filter} and {topic}");
        }
    }

    #[test]
    fn a_shared_subscription_has_a_group_and_a_filter() {
        let rows = [
            ("$share/bridge/$push/v1/#", Some("bridge"), "$push/v1/#"),
            ("$share/组/设备/+", Some("组"), "设备/+"),
            ("$share/g//a", Some("g"), "/a"),
            ("a/#", None, "a/#"),
            ("$shared/g/a", None, "$shared/g/a"),
            ("$share", None, "$share"),
        ];
        for (text, group, filter) in rows {
            let found = Subscription::parse(text).unwrap();
            assert_eq!((found.group.as_deref(), found.filter.as_str()), (group, filter), "{text}");
            assert_eq!(found.to_string(), text);
        }
        let rows = [
            ("$share/", TopicError::Share),
            ("$share/g", TopicError::Share),
            ("$share/g/", TopicError::Share),
            ("$share//a", TopicError::Share),
            ("$share/+/a", TopicError::Share),
            ("$share/g#/a", TopicError::Share),
            ("$share/g/a#", TopicError::MisplacedWildcard),
            ("", TopicError::Empty),
            ("$share/g/\0", TopicError::Nul),
        ];
        for (bad, wanted) in rows {
            assert_eq!(Subscription::parse(bad), Err(wanted), "{bad}");
        }
    }

    #[test]
    fn levels_and_wildcards_are_told() {
        let filter = TopicFilter::parse("设备//+").unwrap();
        assert_eq!(filter.levels().collect::<Vec<_>>(), ["设备", "", "+"]);
        assert!(filter.has_wildcard());
        assert!(!TopicFilter::parse("设备/1").unwrap().has_wildcard());
        assert_eq!(TopicName::parse("/a").unwrap().levels().collect::<Vec<_>>(), ["", "a"]);
    }
}
