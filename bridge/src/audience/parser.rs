//! Reads the audience language by recursive descent: bounded in length, depth and number of tests, and every error
//! names the place and what was expected there.

use super::expression::{
    Bound, Comparison, DEPTH_MAX, EXPRESSION_BYTES_MAX, Expression, Field, Match, TESTS_MAX, UNITS, Version,
};
use crate::devices::{USER, is_attribute_name};
use crate::segments::is_segment_name;
use crate::vendor::VendorName;

/// How much of the text an error shows.
const FOUND_CHARS: usize = 20;
/// The attribute that is compared as a version.
const VERSION_FIELD: &str = "app_version";

/// Why a text is no expression. Places are counted in characters from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// Something else should stand there.
    #[error("at character {at}: expected {expected}, found {found}")]
    Expected {
        /// Where.
        at: usize,
        /// What should stand there.
        expected: &'static str,
        /// What does.
        found: String,
    },
    /// Longer than [`EXPRESSION_BYTES_MAX`].
    #[error("has more than {EXPRESSION_BYTES_MAX} bytes")]
    TooLong,
    /// Deeper than [`DEPTH_MAX`].
    #[error("at character {at}: parentheses and negations go at most {DEPTH_MAX} deep")]
    TooDeep {
        /// Where.
        at: usize,
    },
    /// More than [`TESTS_MAX`].
    #[error("at character {at}: has more than {TESTS_MAX} tests; keep a tag for such a set")]
    TooMany {
        /// Where.
        at: usize,
    },
}

/// Whether a key may hold it without quotes.
pub(super) fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// Whether a value may hold it without quotes.
pub(super) fn is_value_char(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !"&|!()<>=\"*".contains(c)
}

/// Reads a whole text.
pub(super) fn parse(text: &str) -> Result<Expression, ExpressionError> {
    if text.len() > EXPRESSION_BYTES_MAX {
        return Err(ExpressionError::TooLong);
    }
    let mut parser = Parser { text, rest: text, depth: 0, tests: 0 };
    let expression = parser.union()?;
    match parser.peek() {
        None => Ok(expression),
        Some(_) => Err(parser.expected("`&`, `|` or the end")),
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
    depth: usize,
    tests: usize,
}

type Parsed<T> = Result<T, ExpressionError>;

impl<'a> Parser<'a> {
    fn union(&mut self) -> Parsed<Expression> {
        let first = self.intersection()?;
        if self.peek() != Some('|') {
            return Ok(first);
        }
        let mut sets = vec![first];
        while self.take('|') {
            sets.push(self.intersection()?);
        }
        Ok(Expression::Or(sets))
    }

    fn intersection(&mut self) -> Parsed<Expression> {
        let first = self.negation()?;
        if self.peek() != Some('&') {
            return Ok(first);
        }
        let mut sets = vec![first];
        while self.take('&') {
            sets.push(self.negation()?);
        }
        Ok(Expression::And(sets))
    }

    fn negation(&mut self) -> Parsed<Expression> {
        if self.peek() == Some('!') {
            return self.deeper(|parser| {
                parser.take('!');
                Ok(Expression::Not(Box::new(parser.negation()?)))
            });
        }
        if self.peek() == Some('(') {
            return self.deeper(|parser| {
                parser.take('(');
                let inner = parser.union()?;
                match parser.take(')') {
                    true => Ok(inner),
                    false => Err(parser.expected("`&`, `|` or `)`")),
                }
            });
        }
        self.test()
    }

    fn deeper(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<Expression>) -> Parsed<Expression> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(ExpressionError::TooDeep { at: self.at() });
        }
        let expression = inner(self)?;
        self.depth -= 1;
        Ok(expression)
    }

    fn test(&mut self) -> Parsed<Expression> {
        const KEY: &str = "`(`, `!`, all, online, or a key such as tag, user, platform or last_seen";
        self.skip_space();
        self.tests += 1;
        if self.tests > TESTS_MAX {
            return Err(ExpressionError::TooMany { at: self.at() });
        }
        let begin = self.rest;
        match self.name() {
            "" => Err(self.expected(KEY)),
            "all" => Ok(Expression::All),
            "online" => Ok(Expression::Online),
            "device" => self.colon().and_then(|()| self.plain("a client id")).map(Expression::Device),
            "segment" => self.segment(),
            "last_seen" => self.last_seen(),
            "tag" => self.has(Field::Tag),
            "vendor" => self.vendor(),
            USER => self.has(Field::Alias(USER.to_owned())),
            "alias" => {
                let kind = self.alias_type()?;
                self.has(Field::Alias(kind))
            }
            "lang" => self.has(Field::Attribute("language".to_owned())),
            "platform" => self.has(Field::Attribute("platform".to_owned())),
            "language" => self.has(Field::Attribute("language".to_owned())),
            "timezone" => self.has(Field::Attribute("timezone".to_owned())),
            VERSION_FIELD => self.has_or_compare(Field::Attribute(VERSION_FIELD.to_owned()), true),
            name if is_attribute_name(name) => {
                let name = name.to_owned();
                self.has_or_compare(Field::Attribute(name), false)
            }
            _ => {
                self.rest = begin;
                Err(self.expected(KEY))
            }
        }
    }

    fn has(&mut self, field: Field) -> Parsed<Expression> {
        self.colon()?;
        Ok(Expression::Has(field, self.wanted()?))
    }

    fn has_or_compare(&mut self, field: Field, is_version: bool) -> Parsed<Expression> {
        let Some(comparison) = self.comparison() else {
            return match self.take(':') {
                true => Ok(Expression::Has(field, self.wanted()?)),
                false => Err(self.expected("`:`, `<`, `<=`, `>` or `>=`")),
            };
        };
        let begin = self.rest;
        let text = self.value();
        let bound = match is_version {
            true => Version::strict(&text).map(Bound::Version),
            false => text.parse().ok().filter(|number: &f64| number.is_finite()).map(Bound::Number),
        };
        let expected = if is_version { "a version such as 3.2" } else { "a number" };
        bound.map(|bound| Expression::Compare(field, comparison, bound)).ok_or_else(|| {
            self.rest = begin;
            self.expected(expected)
        })
    }

    fn vendor(&mut self) -> Parsed<Expression> {
        self.colon()?;
        let begin = self.rest;
        let wanted = self.wanted()?;
        match &wanted {
            Match::Exactly(name) if name.parse::<VendorName>().is_err() => {
                self.rest = begin;
                Err(self.expected("a vendor such as apns, fcm or huawei"))
            }
            Match::Exactly(_) | Match::StartsWith(_) => Ok(Expression::Has(Field::Vendor, wanted)),
        }
    }

    fn segment(&mut self) -> Parsed<Expression> {
        const NAME: &str = "the name of a segment";
        self.colon()?;
        let begin = self.rest;
        let name = self.plain(NAME)?;
        match is_segment_name(&name) {
            true => Ok(Expression::Segment(name)),
            false => {
                self.rest = begin;
                Err(self.expected(NAME))
            }
        }
    }

    fn last_seen(&mut self) -> Parsed<Expression> {
        let comparison = self.comparison().ok_or_else(|| self.expected("`<`, `<=`, `>` or `>=`"))?;
        let begin = self.rest;
        let text = self.value();
        age_s(&text).map(|age_s| Expression::LastSeen(comparison, age_s)).ok_or_else(|| {
            self.rest = begin;
            self.expected("an age such as 30m, 12h, 7d or 2w")
        })
    }

    fn alias_type(&mut self) -> Parsed<String> {
        if !self.take('.') {
            return Err(self.expected("`.` and the type of the alias"));
        }
        let kind = if self.rest.starts_with('"') { self.quoted()? } else { self.name().to_owned() };
        if kind.is_empty() { Err(self.expected("the type of the alias")) } else { Ok(kind) }
    }

    fn colon(&mut self) -> Parsed<()> {
        match self.take(':') {
            true => Ok(()),
            false => Err(self.expected("`:`")),
        }
    }

    /// A value, perhaps with `*` behind it.
    fn wanted(&mut self) -> Parsed<Match> {
        let text = self.text_or_quoted()?;
        match self.rest.strip_prefix('*') {
            Some(rest) => {
                self.rest = rest;
                Ok(Match::StartsWith(text))
            }
            None if text.is_empty() => Err(self.expected("a value, or `*` for any")),
            None => Ok(Match::Exactly(text)),
        }
    }

    fn plain(&mut self, expected: &'static str) -> Parsed<String> {
        let text = self.text_or_quoted()?;
        if text.is_empty() { Err(self.expected(expected)) } else { Ok(text) }
    }

    fn text_or_quoted(&mut self) -> Parsed<String> {
        self.skip_space();
        if self.rest.starts_with('"') { self.quoted() } else { Ok(self.value()) }
    }

    fn quoted(&mut self) -> Parsed<String> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = self.rest.get(at + 1..).unwrap_or_default();
                    return Ok(text);
                }
                '\\' => text.extend(chars.next().map(|(_, escaped)| escaped)),
                _ => text.push(c),
            }
        }
        self.rest = "";
        Err(self.expected("`\"` at the end of the value"))
    }

    fn value(&mut self) -> String {
        self.skip_space();
        self.while_chars(is_value_char).to_owned()
    }

    fn name(&mut self) -> &'a str {
        self.while_chars(is_name_char)
    }

    fn while_chars(&mut self, is_part: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (part, rest) = self.rest.split_at(end);
        self.rest = rest;
        part
    }

    fn comparison(&mut self) -> Option<Comparison> {
        let is_less = match self.peek() {
            Some('<') => self.take('<'),
            Some('>') => !self.take('>'),
            _ => return None,
        };
        let with_bound = self.rest.strip_prefix('=');
        self.rest = with_bound.unwrap_or(self.rest);
        Some(match (is_less, with_bound.is_some()) {
            (true, true) => Comparison::AtMost,
            (true, false) => Comparison::Less,
            (false, true) => Comparison::AtLeast,
            (false, false) => Comparison::Greater,
        })
    }

    fn peek(&mut self) -> Option<char> {
        self.skip_space();
        self.rest.chars().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        self.skip_space();
        let rest = self.rest.strip_prefix(wanted);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn at(&self) -> usize {
        let read = self.text.len() - self.rest.len();
        self.text.get(..read).map_or(0, |read| read.chars().count()) + 1
    }

    fn expected(&mut self, expected: &'static str) -> ExpressionError {
        self.skip_space();
        let shown: String = self.rest.chars().take(FOUND_CHARS).collect();
        let found = match shown.as_str() {
            "" => "the end".to_owned(),
            shown => format!("`{shown}`"),
        };
        ExpressionError::Expected { at: self.at(), expected, found }
    }
}

fn age_s(text: &str) -> Option<u64> {
    let unit = text.chars().next_back()?;
    let (_, seconds) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    text.strip_suffix(unit)?.parse::<u32>().ok().map(|count| u64::from(count) * seconds)
}
