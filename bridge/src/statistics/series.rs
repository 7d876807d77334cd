//! Reads a time series.

use std::collections::BTreeMap;
use std::ops::Bound;

use reveille_proto::ids::AppId;

use super::keeper::open_minute;
use super::row::{By, Row, Value};
use super::{Span, rows_of};
use crate::store::{Order, Space, StoreError, Tx, decode, keys};

/// Points of one answer at most, for each value.
pub(crate) const POINTS_MAX: u64 = 1_500;
/// Points that a step is chosen for where none is named.
const POINTS_USUAL: u64 = 300;
/// Rows that are read at once.
const ROWS_CHUNK: usize = 1_000;

/// Which part of the statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// A multiple of the step, in milliseconds since 1970.
    pub from_ms: u64,
    /// The first moment that is not part of it; a multiple of the step.
    pub to_ms: u64,
    pub step_ms: u64,
    pub by: Option<By>,
}

/// Why nothing can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskedError {
    /// Turned around, or empty.
    #[error("from is before to")]
    Order,
    /// Neither minutes, hours nor days.
    #[error(
        "step is a number and m, h or d, such as 5m, 1h or 1d, of at least a minute and at most 366 days"
    )]
    Step,
    /// More points than one answer has.
    #[error("from, to and step make more than {POINTS_MAX} points: take a longer step or less time")]
    Points,
}

impl Asked {
    /// Completes and checks what was asked for: the last 24 hours in steps that make a fair curve, unless said otherwise.
    ///
    /// # Errors
    /// [`AskedError`] in words for whoever asks.
    pub fn new(
        from_ms: Option<u64>,
        to_ms: Option<u64>,
        step: Option<&str>,
        by: Option<By>,
        now_ms: u64,
    ) -> Result<Self, AskedError> {
        let to_ms = to_ms.unwrap_or(now_ms);
        let from_ms = from_ms.unwrap_or(to_ms.saturating_sub(super::DAY_MS));
        if from_ms >= to_ms || to_ms > u64::MAX / 2 {
            return Err(AskedError::Order);
        }
        let step_ms = match step {
            Some(step) => parse_step(step).ok_or(AskedError::Step)?,
            None => usual_step(to_ms - from_ms),
        };
        let asked = Self {
            from_ms: from_ms / step_ms * step_ms,
            to_ms: to_ms.next_multiple_of(step_ms),
            step_ms,
            by,
        };
        if (asked.to_ms - asked.from_ms) / step_ms > POINTS_MAX {
            return Err(AskedError::Points);
        }
        Ok(asked)
    }

    /// The longest spans that its steps are made of.
    pub fn span(&self) -> Span {
        let fits = |span: &Span| self.step_ms.is_multiple_of(span.ms());
        Span::ALL.into_iter().rev().find(fits).unwrap_or(Span::Minute)
    }
}

fn parse_step(text: &str) -> Option<u64> {
    let span = match text.chars().next_back()? {
        'm' => Span::Minute,
        'h' => Span::Hour,
        'd' => Span::Day,
        _ => return None,
    };
    let count: u64 = text.get(..text.len() - 1)?.parse().ok()?;
    let step_ms = count.checked_mul(span.ms())?;
    (Span::Minute.ms()..=366 * Span::Day.ms()).contains(&step_ms).then_some(step_ms)
}

/// The shortest of the usual steps that does not make too many points.
fn usual_step(length_ms: u64) -> u64 {
    let usual = [1, 5, 15, 60, 6 * 60, 24 * 60, 7 * 24 * 60].map(|minutes| minutes * Span::Minute.ms());
    let fits = |step_ms: &u64| length_ms / step_ms <= POINTS_USUAL;
    usual.into_iter().find(fits).unwrap_or(30 * Span::Day.ms())
}

/// What happened in one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    /// When it begins, in milliseconds since 1970.
    pub at_ms: u64,
    pub row: Row,
}

/// What happened to the deliveries of one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Series {
    pub value: Value,
    /// All of it together.
    pub total: Row,
    /// Oldest first; a step in which nothing happened is left out.
    pub points: Vec<Point>,
}

/// Reads the series of each value, or the one of all deliveries.
pub(crate) fn read(tx: &Tx<'_>, app: &AppId, asked: &Asked) -> Result<Vec<Series>, StoreError> {
    loop {
        let open_ms = open_minute(tx, app)?;
        let mut series = BTreeMap::new();
        read_rows(tx, app, asked, asked.span(), asked.from_ms, &mut series)?;
        if let Some(open_ms) = open_ms.filter(|_| asked.span() != Span::Minute) {
            read_rows(tx, app, asked, Span::Minute, open_ms.max(asked.from_ms), &mut series)?;
        }
        // The reads are no snapshot: a minute that was folded between them would count twice, or not at all.
        if open_minute(tx, app)? == open_ms {
            return Ok(series.into_values().collect());
        }
    }
}

/// Adds the rows of some spans, from a moment on.
fn read_rows(
    tx: &Tx<'_>,
    app: &AppId,
    asked: &Asked,
    span: Span,
    from_ms: u64,
    series: &mut BTreeMap<Value, Series>,
) -> Result<(), StoreError> {
    let rows = rows_of(app, span, asked.by);
    let mut from = Bound::Included(keys::statistics_at(&rows, from_ms));
    let to = Bound::Excluded(keys::statistics_at(&rows, asked.to_ms));
    loop {
        let found = tx.range(Space::Statistics, from, to.clone(), Order::Forward, ROWS_CHUNK)?;
        for (key, bytes) in &found {
            let Some((at_ms, value)) = keys::parse_statistics(key, &rows) else { continue };
            let of_value = series.entry(value.clone());
            of_value
                .or_insert_with(|| Series { value, total: Row::default(), points: Vec::new() })
                .add(at_ms / asked.step_ms * asked.step_ms, &decode(bytes)?);
        }
        match found.last() {
            Some((last, _)) if found.len() == ROWS_CHUNK => from = Bound::Excluded(last.clone()),
            Some(_) | None => return Ok(()),
        }
    }
}

impl Series {
    fn add(&mut self, at_ms: u64, row: &Row) {
        self.total.add_all(row);
        match self.points.last_mut().filter(|last| last.at_ms == at_ms) {
            Some(last) => last.row.add_all(row),
            None => self.points.push(Point { at_ms, row: row.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_completed_and_bounded() {
        const NOW: u64 = 1_764_108_718_999;
        let day = Asked::new(None, None, None, None, NOW).unwrap();
        assert_eq!((day.step_ms, day.span()), (5 * 60_000, Span::Minute));
        assert!(day.to_ms > NOW && day.from_ms <= NOW - super::super::DAY_MS);
        for (step, span) in [
            ("5m", Span::Minute),
            ("90m", Span::Minute),
            ("1h", Span::Hour),
            ("24h", Span::Day),
            ("2d", Span::Day),
        ] {
            let asked = Asked::new(None, None, Some(step), None, NOW).unwrap();
            assert_eq!(asked.span(), span, "{step}");
            let is_whole = |ms: u64| ms.is_multiple_of(asked.step_ms);
            assert!(is_whole(asked.from_ms) && is_whole(asked.to_ms), "{step}");
        }
        for step in ["", "m", "0m", "-1m", "30s", "1.5h", "999999999999999999h", "367d", "5 m", "５m"] {
            assert_eq!(Asked::new(None, None, Some(step), None, NOW), Err(AskedError::Step), "{step}");
        }
        for (from_ms, to_ms) in [(5, 5), (6, 5), (0, u64::MAX)] {
            assert_eq!(Asked::new(Some(from_ms), Some(to_ms), None, None, NOW), Err(AskedError::Order));
        }
        let minutes = Asked::new(Some(0), Some(1_501 * 60_000), Some("1m"), None, NOW);
        assert_eq!(minutes, Err(AskedError::Points));
        for length in [1, super::super::DAY_MS, 400 * super::super::DAY_MS] {
            assert!(Asked::new(Some(0), Some(length), None, None, NOW).is_ok(), "{length}");
        }
    }
}
