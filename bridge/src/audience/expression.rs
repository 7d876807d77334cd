//! The audience language as a tree, and its text. `parser.rs` reads it, `index` evaluates it.
//!
//! ```text
//! expression   = intersection { "|" intersection }
//! intersection = negation { "&" negation }
//! negation     = "!" negation | set
//! set          = "(" expression ")" | "all" | "online" | test
//! test         = key ":" value | key comparison bound
//! comparison   = "<" | "<=" | ">" | ">="
//! ```

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::parser::{self, ExpressionError};
use crate::devices::USER;

/// Longest expression, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 16 * 1024;
/// How deep parentheses and negations go, so that reading and evaluating have a bounded stack.
pub const DEPTH_MAX: usize = 32;
/// Tests in one expression at most: each is a look-up for every window of the index.
pub const TESTS_MAX: usize = 256;

/// A set of devices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Expression {
    /// Every device of the app.
    All,
    /// Whose network connection is up.
    Online,
    /// With a value.
    Has(Field, Match),
    /// With a value on this side of the bound.
    Compare(Field, Comparison, Bound),
    /// Whose network connection ended so many seconds ago. One that is up has an age of 0; a device that never
    /// connected has none.
    LastSeen(Comparison, u64),
    /// One device.
    Device(String),
    /// What the segment of this name says.
    Segment(String),
    /// Every other device.
    Not(Box<Self>),
    /// Devices in each of these.
    And(Vec<Self>),
    /// Devices in any of these.
    Or(Vec<Self>),
}

/// What a device may have values of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// Labels: any number of values.
    Tag,
    /// The business's names of this type: one value.
    Alias(String),
    /// Vendors at which the device has a live token: any number of values.
    Vendor,
    /// An attribute of this name: one value.
    Attribute(String),
}

/// Which values are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// This one.
    Exactly(String),
    /// Every one that begins with this; with nothing: any.
    StartsWith(String),
}

/// How a value lies to a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Below it.
    Less,
    /// Not above it.
    AtMost,
    /// Above it.
    Greater,
    /// Not below it.
    AtLeast,
}

/// What values are compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    /// Numbers between dots.
    Version(Version),
    /// A finite number.
    Number(f64),
}

/// The numbers of a version, without zeros at the end: `3.2.0` is `3.2`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(Vec<u64>);

/// Numbers of a version that are compared; what stands behind them is not.
const VERSION_PARTS_MAX: usize = 8;

impl Expression {
    /// Reads the text.
    ///
    /// # Errors
    /// [`ExpressionError`], with the place and what was expected there.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        parser::parse(text)
    }

    /// Devices in any of these.
    pub(crate) fn any_of(mut sets: Vec<Self>) -> Option<Self> {
        match sets.len() {
            0 | 1 => sets.pop(),
            _ => Some(Self::Or(sets)),
        }
    }

    /// Calls `look` for every test in it.
    pub(crate) fn for_each_test<'a>(&'a self, look: &mut impl FnMut(&'a Self)) {
        match self {
            Self::Not(inner) => inner.for_each_test(look),
            Self::And(sets) | Self::Or(sets) => sets.iter().for_each(|set| set.for_each_test(look)),
            Self::All
            | Self::Online
            | Self::Has(..)
            | Self::Compare(..)
            | Self::LastSeen(..)
            | Self::Device(_)
            | Self::Segment(_) => look(self),
        }
    }
}

impl Comparison {
    /// Whether a value that lies so to the bound is meant.
    pub fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::AtLeast => order.is_ge(),
        }
    }
}

impl Bound {
    /// How a device's value lies to the bound; `None` when it is no such value.
    pub fn order_of(&self, value: &str) -> Option<Ordering> {
        match self {
            Self::Version(bound) => Version::of(value).map(|version| version.cmp(bound)),
            Self::Number(bound) => value.parse::<f64>().ok()?.partial_cmp(bound),
        }
    }
}

impl Version {
    /// The version that a text begins with: `3.2.1-beta` is `3.2.1`, because shops write much behind it.
    pub fn of(text: &str) -> Option<Self> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        Self::strict(text.get(..end)?.trim_end_matches('.'))
    }

    /// Numbers between dots and nothing else.
    pub fn strict(text: &str) -> Option<Self> {
        let numbers = text.split('.').take(VERSION_PARTS_MAX).map(|number| number.parse().ok());
        let mut numbers = numbers.collect::<Option<Vec<u64>>>()?;
        while numbers.len() > 1 && numbers.last() == Some(&0) {
            numbers.pop();
        }
        Some(Self(numbers))
    }
}

impl TryFrom<String> for Expression {
    type Error = ExpressionError;

    fn try_from(text: String) -> Result<Self, ExpressionError> {
        Self::parse(&text)
    }
}

impl From<Expression> for String {
    fn from(expression: Expression) -> Self {
        expression.to_string()
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Online => f.write_str("online"),
            Self::Has(field, wanted) => write!(f, "{field}:{wanted}"),
            Self::Compare(field, comparison, bound) => write!(f, "{field}{comparison}{bound}"),
            Self::LastSeen(comparison, age_s) => write!(f, "last_seen{comparison}{}", Age(*age_s)),
            Self::Device(id) => write!(f, "device:{}", Text(id)),
            Self::Segment(name) => write!(f, "segment:{}", Text(name)),
            Self::Not(inner) => match **inner {
                Self::And(_) | Self::Or(_) => write!(f, "!({inner})"),
                _ => write!(f, "!{inner}"),
            },
            Self::And(sets) => join(f, sets, " & ", |set| matches!(set, Self::And(_) | Self::Or(_))),
            Self::Or(sets) => join(f, sets, " | ", |set| matches!(set, Self::Or(_))),
        }
    }
}

fn join(
    f: &mut fmt::Formatter<'_>,
    sets: &[Expression],
    between: &str,
    needs_parentheses: impl Fn(&Expression) -> bool,
) -> fmt::Result {
    for (at, set) in sets.iter().enumerate() {
        if at > 0 {
            f.write_str(between)?;
        }
        match needs_parentheses(set) {
            true => write!(f, "({set})")?,
            false => write!(f, "{set}")?,
        }
    }
    Ok(())
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag => f.write_str("tag"),
            Self::Alias(kind) if kind == USER => f.write_str(USER),
            Self::Alias(kind) if kind.chars().all(parser::is_name_char) => write!(f, "alias.{kind}"),
            Self::Alias(kind) => write!(f, "alias.{}", Quoted(kind)),
            Self::Vendor => f.write_str("vendor"),
            Self::Attribute(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(text) => write!(f, "{}", Text(text)),
            Self::StartsWith(text) if text.is_empty() => f.write_str("*"),
            Self::StartsWith(text) => write!(f, "{}*", Text(text)),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
        })
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(Version(numbers)) => {
                let numbers: Vec<_> = numbers.iter().map(u64::to_string).collect();
                f.write_str(&numbers.join("."))
            }
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// A value, quoted where it must be.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match !self.0.is_empty() && self.0.chars().all(parser::is_value_char) {
            true => f.write_str(self.0),
            false => write!(f, "{}", Quoted(self.0)),
        }
    }
}

struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

/// Seconds in the largest unit that leaves no rest.
struct Age(u64);

/// Units of an age, the largest first, with their seconds.
pub(super) const UNITS: [(char, u64); 5] =
    [('w', 7 * 86_400), ('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fitting = UNITS.into_iter().find(|(_, seconds)| self.0 > 0 && self.0.is_multiple_of(*seconds));
        let (unit, seconds) = fitting.unwrap_or(('s', 1));
        write!(f, "{}{unit}", self.0 / seconds)
    }
}
