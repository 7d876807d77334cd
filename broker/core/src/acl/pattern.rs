//! A topic filter in which `%u`, `%c` and `%a` stand for what a client is called.

use super::Who;
use reveille_proto::topic::{TopicError, TopicFilter, TopicName};

/// A topic filter with placeholders, compiled.
///
/// A placeholder never stands for a value that is empty, has `/`, `+` or `#` in it, or begins with `$`: such a value
/// would reach over its level, and a pattern that has its placeholder matches nothing for that client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    levels: Box<[Level]>,
    /// The levels before the first wildcard or placeholder, as text: most patterns that do not match fail here.
    front: Box<str>,
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is no topic filter.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// A `%` with something else behind it.
    #[error("%u, %c and %a are placeholders, and %% is a percent sign")]
    Placeholder,
    /// Rules speak of topics; who is in which group does not matter.
    #[error("a rule names the filter behind $share/{{group}}/ only")]
    Share,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Text(Box<str>),
    /// `+`
    Any,
    /// `#`
    Rest,
    /// Has placeholders.
    Filled(Box<[Piece]>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    User,
    Client,
    App,
}

impl Pattern {
    /// Checks and compiles a text.
    ///
    /// # Errors
    /// [`PatternError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let filter = TopicFilter::parse(text)?;
        if text.starts_with("$share/") {
            return Err(PatternError::Share);
        }
        let levels: Result<Box<[Level]>, PatternError> = filter.levels().map(Level::parse).collect();
        let levels = levels?;
        let plain = |level: &Level| if let Level::Text(text) = level { Some(text.to_string()) } else { None };
        let front: Vec<String> = levels.iter().map_while(plain).collect();
        Ok(Self { front: front.join("/").into(), levels })
    }

    /// Whether a message on `topic` is meant.
    pub fn matches(&self, topic: &TopicName, who: Who<'_>) -> bool {
        if !topic.as_str().starts_with(&*self.front) {
            return false;
        }
        if self.starts_with_wildcard() && topic.as_str().starts_with('$') {
            return false; // [MQTT5-4.7.2-1]
        }
        let mut given = topic.levels();
        for level in &self.levels {
            let is_same = match (level, given.next()) {
                (Level::Rest, _) => return true,
                (Level::Any, Some(_)) => true,
                (level, Some(text)) => level.is(text, who),
                (_, None) => false,
            };
            if !is_same {
                return false;
            }
        }
        given.next().is_none()
    }

    /// Whether every topic that `filter` matches is meant.
    pub fn covers(&self, filter: &TopicFilter, who: Who<'_>) -> bool {
        if self.starts_with_wildcard() && filter.as_str().starts_with('$') {
            return false;
        }
        if let ([Level::Any, Level::Rest], "#") = (&*self.levels, filter.as_str()) {
            return true; // every topic has a first level
        }
        let mut given = filter.levels();
        for level in &self.levels {
            let covers = match (level, given.next()) {
                (Level::Rest, _) => return true,
                (_, Some("#") | None) => false,
                (Level::Any, Some(_)) => true,
                (_, Some("+")) => false,
                (level, Some(text)) => level.is(text, who),
            };
            if !covers {
                return false;
            }
        }
        given.next().is_none()
    }

    /// Whether some topic that `filter` matches is meant.
    pub fn meets(&self, filter: &TopicFilter, who: Who<'_>) -> bool {
        if !self.can_match(who)
            || (self.starts_with_wildcard() && filter.as_str().starts_with('$'))
            || (filter.as_str().starts_with(['+', '#']) && self.starts_with_dollar())
        {
            return false;
        }
        let mut given = filter.levels();
        for level in &self.levels {
            let meets = match (level, given.next()) {
                (Level::Rest, _) | (_, Some("#")) => return true,
                (Level::Any, Some(_)) | (_, Some("+")) => true,
                (level, Some(text)) => level.is(text, who),
                (_, None) => false,
            };
            if !meets {
                return false;
            }
        }
        matches!(given.next(), None | Some("#"))
    }

    fn starts_with_wildcard(&self) -> bool {
        matches!(self.levels.first(), Some(Level::Any | Level::Rest))
    }

    fn starts_with_dollar(&self) -> bool {
        let text = match self.levels.first() {
            Some(Level::Text(text)) => Some(text),
            Some(Level::Filled(pieces)) => match pieces.first() {
                Some(Piece::Text(text)) => Some(text),
                Some(Piece::User | Piece::Client | Piece::App) | None => None, // these never begin with it
            },
            Some(Level::Any | Level::Rest) | None => None,
        };
        text.is_some_and(|text| text.starts_with('$'))
    }

    fn can_match(&self, who: Who<'_>) -> bool {
        let pieces = self.levels.iter().filter_map(|level| match level {
            Level::Filled(pieces) => Some(pieces.iter()),
            Level::Text(_) | Level::Any | Level::Rest => None,
        });
        pieces.flatten().all(|piece| piece.text(who).is_some())
    }
}

impl Level {
    fn parse(text: &str) -> Result<Self, PatternError> {
        match text {
            "+" => return Ok(Self::Any),
            "#" => return Ok(Self::Rest),
            plain if !plain.contains('%') => return Ok(Self::Text(plain.into())),
            _ => {}
        }
        let pieces = Piece::parse(text)?;
        match pieces.as_slice() {
            [Piece::Text(text)] => Ok(Self::Text(text.clone())),
            _ => Ok(Self::Filled(pieces.into())),
        }
    }

    /// Whether this level is that text. Wildcards are the caller's.
    fn is(&self, text: &str, who: Who<'_>) -> bool {
        match self {
            Self::Text(wanted) => **wanted == *text,
            Self::Any | Self::Rest => true,
            Self::Filled(pieces) => {
                let mut rest = text;
                for piece in pieces {
                    match piece.text(who).and_then(|value| rest.strip_prefix(value)) {
                        Some(behind) => rest = behind,
                        None => return false,
                    }
                }
                rest.is_empty()
            }
        }
    }
}

impl Piece {
    /// The pieces of a level; two texts never stand side by side.
    fn parse(level: &str) -> Result<Vec<Self>, PatternError> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut segments = level.split('%');
        text.push_str(segments.next().unwrap_or_default());
        while let Some(segment) = segments.next() {
            let (piece, rest) =
                match (segment.strip_prefix('u'), segment.strip_prefix('c'), segment.strip_prefix('a')) {
                    (Some(rest), _, _) => (Self::User, rest),
                    (_, Some(rest), _) => (Self::Client, rest),
                    (_, _, Some(rest)) => (Self::App, rest),
                    _ if segment.is_empty() => {
                        text.push('%');
                        text.push_str(segments.next().ok_or(PatternError::Placeholder)?);
                        continue;
                    }
                    _ => return Err(PatternError::Placeholder),
                };
            if !text.is_empty() {
                pieces.push(Self::Text(std::mem::take(&mut text).into()));
            }
            pieces.push(piece);
            text.push_str(rest);
        }
        if !text.is_empty() {
            pieces.push(Self::Text(text.into()));
        }
        Ok(pieces)
    }

    /// What it stands for; `None` where that would not stay within its level.
    fn text<'a>(&'a self, who: Who<'a>) -> Option<&'a str> {
        let value = match self {
            Self::Text(text) => return Some(text),
            Self::User => who.user?,
            Self::Client => who.client_id,
            Self::App => who.app,
        };
        let is_safe = !value.is_empty() && !value.starts_with('$') && !value.contains(['/', '+', '#']);
        is_safe.then_some(value)
    }
}
