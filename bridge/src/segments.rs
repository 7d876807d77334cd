//! Segments: audiences that the business keeps under a name, and how an expression is written out without them.

use reveille_proto::ids::AppId;
use serde::{Deserialize, Serialize};

use crate::audience::ExpressionError;
use crate::audience::expression::{Expression, TESTS_MAX};
use crate::store::{Order, Space, StoreError, Tx, decode, keys};

/// Segments of one app at most.
pub const SEGMENTS_MAX: usize = 1000;
/// Longest name, in bytes.
const NAME_MAX: usize = 64;
/// How deep segments may stand in segments; a circle ends here too.
const NESTING_MAX: usize = 8;

/// An audience with a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// Its name in paths and expressions.
    pub name: String,
    /// Who is in it. May name other segments.
    pub expr: Expression,
    /// A word for people.
    #[serde(default)]
    pub description: String,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: u64,
    /// When it last changed, in milliseconds since 1970.
    pub updated_at_ms: u64,
}

/// Whether a segment can have this name.
pub fn is_segment_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(is_part)
}

/// Why an expression cannot be written out without segments.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteOutError {
    /// It names a segment that does not exist.
    #[error("segment {0} does not exist")]
    Unknown(String),
    /// Segments in segments in segments.
    #[error("segment {0} stands more than {NESTING_MAX} segments deep, or within itself")]
    TooDeep(String),
    /// Written out it has too many tests.
    #[error("has more than {TESTS_MAX} tests with its segments written out")]
    TooMany,
    /// Written out it is out of another bound.
    #[error("with its segments written out it {0}")]
    TooLarge(ExpressionError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The same expression with every segment written out, so that it means tomorrow what it means today.
pub(crate) fn write_out(
    tx: &Tx<'_>,
    app: &AppId,
    expression: &Expression,
) -> Result<Expression, WriteOutError> {
    let mut names_segment = false;
    expression.for_each_test(&mut |test| names_segment |= matches!(test, Expression::Segment(_)));
    if !names_segment {
        return Ok(expression.clone());
    }
    let whole = Writer { tx, app, tests: 0 }.write(expression, 0)?;
    Expression::parse(&whole.to_string()).map_err(WriteOutError::TooLarge)
}

struct Writer<'a> {
    tx: &'a Tx<'a>,
    app: &'a AppId,
    tests: usize,
}

impl Writer<'_> {
    fn write(&mut self, expression: &Expression, nesting: usize) -> Result<Expression, WriteOutError> {
        Ok(match expression {
            Expression::Not(inner) => Expression::Not(Box::new(self.write(inner, nesting)?)),
            Expression::And(sets) => Expression::And(self.write_all(sets, nesting)?),
            Expression::Or(sets) => Expression::Or(self.write_all(sets, nesting)?),
            Expression::Segment(name) => self.segment(name, nesting)?,
            Expression::All
            | Expression::Online
            | Expression::Has(..)
            | Expression::Compare(..)
            | Expression::LastSeen(..)
            | Expression::Device(_) => self.count(expression)?,
        })
    }

    fn write_all(&mut self, sets: &[Expression], nesting: usize) -> Result<Vec<Expression>, WriteOutError> {
        sets.iter().map(|set| self.write(set, nesting)).collect()
    }

    fn segment(&mut self, name: &str, nesting: usize) -> Result<Expression, WriteOutError> {
        if nesting >= NESTING_MAX {
            return Err(WriteOutError::TooDeep(name.to_owned()));
        }
        let segment = load(self.tx, self.app, name)?;
        let segment = segment.ok_or_else(|| WriteOutError::Unknown(name.to_owned()))?;
        self.write(&segment.expr, nesting + 1)
    }

    fn count(&mut self, test: &Expression) -> Result<Expression, WriteOutError> {
        self.tests += 1;
        if self.tests > TESTS_MAX { Err(WriteOutError::TooMany) } else { Ok(test.clone()) }
    }
}

/// A segment by its name.
pub(crate) fn load(tx: &Tx<'_>, app: &AppId, name: &str) -> Result<Option<Segment>, StoreError> {
    tx.load(Space::Apps, &keys::segment(app, name))
}

/// Writes a segment.
pub(crate) fn save(tx: &mut Tx<'_>, app: &AppId, segment: &Segment) -> Result<(), StoreError> {
    tx.save(Space::Apps, keys::segment(app, &segment.name), segment)
}

/// Removes a segment.
pub(crate) fn remove(tx: &mut Tx<'_>, app: &AppId, name: &str) {
    tx.remove(Space::Apps, keys::segment(app, name));
}

/// Whether an app has as many as it may have.
pub(crate) fn are_full(tx: &Tx<'_>, app: &AppId) -> Result<bool, StoreError> {
    Ok(tx.count(Space::Apps, &keys::segments(app), SEGMENTS_MAX)? >= SEGMENTS_MAX)
}

/// Segments after one, by name.
pub(crate) fn list(
    tx: &Tx<'_>,
    app: &AppId,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Segment>, StoreError> {
    page(tx, app, after, Order::Forward, limit)
}

/// Segments from one on, in either direction.
pub(crate) fn page(
    tx: &Tx<'_>,
    app: &AppId,
    from: Option<&str>,
    order: Order,
    limit: usize,
) -> Result<Vec<Segment>, StoreError> {
    let from = from.map(|from| keys::segment(app, from));
    let found = tx.scan(Space::Apps, &keys::segments(app), from.as_deref(), order, limit)?;
    found.iter().map(|(_, segment)| decode(segment)).collect()
}

/// Another segment that names this one.
pub(crate) fn user_of(tx: &Tx<'_>, app: &AppId, name: &str) -> Result<Option<String>, StoreError> {
    for segment in list(tx, app, None, SEGMENTS_MAX)? {
        let mut is_user = false;
        segment.expr.for_each_test(&mut |test| {
            is_user |= matches!(test, Expression::Segment(named) if named == name);
        });
        if is_user && segment.name != name {
            return Ok(Some(segment.name));
        }
    }
    Ok(None)
}
