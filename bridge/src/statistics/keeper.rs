//! Adds what a group of transactions counted to the rows on disk, in the group's own commit.
//!
//! A group writes rows of the minute only, which are small. When a minute is over, its rows are folded into those of its
//! hour and its day, once, by the commit that begins the next one or by [`super::run`]. Which minute is not folded yet
//! is kept, so whoever reads adds the rows from there on.

use std::collections::{HashMap, HashSet};

use reveille_proto::ids::AppId;

use super::row::{AppTally, By, Row, Tally, Value};
use super::{Span, VALUES_MAX, dimensions, rows_of};
use crate::store::{Order, Space, StoreError, Tx, decode, keys};

/// Rows that are remembered, so that a busy minute's are not read again for each commit; beyond it all are forgotten.
const REMEMBERED_MAX: usize = 4_096;
/// Rows of one dimension and minute: one for each value, for none, and for the others.
const ROWS_MAX: usize = VALUES_MAX + 2;

/// The writer's memory of the newest rows. What it holds is on disk too.
#[derive(Default)]
pub(crate) struct Keeper {
    rows: HashMap<Vec<u8>, Row>,
    /// Dimensions in minutes that have no row left for a further value.
    full: HashSet<Vec<u8>>,
    /// The minute of each app that is not folded yet.
    open: HashMap<AppId, u64>,
}

impl Keeper {
    /// Adds a tally to the rows, in this transaction.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub fn write(&mut self, tx: &mut Tx<'_>, tally: Tally) -> Result<(), StoreError> {
        if self.rows.len() + self.full.len() > REMEMBERED_MAX {
            self.forget();
        }
        for (app, tally) in tally.into_apps() {
            let at_ms = self.minute(tx, &app)?;
            self.write_minute(tx, &app, at_ms, &tally)?;
        }
        Ok(())
    }

    /// Forgets everything: the commit failed, or something else wrote, so the disk knows better.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// The minute to count in. Those before it are folded; a clock that was set back does not open one again.
    fn minute(&mut self, tx: &mut Tx<'_>, app: &AppId) -> Result<u64, StoreError> {
        let now_ms = begin(Span::Minute, tx.now_ms());
        if let Some(open_ms) = self.open.get(app).filter(|open_ms| **open_ms >= now_ms) {
            return Ok(*open_ms);
        }
        self.rows.clear(); // of the minute before
        self.full.clear();
        let open_ms = fold(tx, app, now_ms)?;
        self.open.insert(app.clone(), open_ms);
        Ok(open_ms)
    }

    fn write_minute(
        &mut self,
        tx: &mut Tx<'_>,
        app: &AppId,
        at_ms: u64,
        tally: &AppTally,
    ) -> Result<(), StoreError> {
        let all = keys::statistics_at(&rows_of(app, Span::Minute, None), at_ms);
        self.add(tx, keys::statistics_row(&all, &Value::None), &tally.all)?;
        for (by, rows) in By::ALL.into_iter().zip(&tally.by) {
            let of_minute = keys::statistics_at(&rows_of(app, Span::Minute, Some(by)), at_ms);
            for (value, row) in rows {
                let key = self.place(tx, &of_minute, value)?;
                self.add(tx, key, row)?;
            }
        }
        Ok(())
    }

    /// The key of a value's row, or of the row that it shares with others.
    fn place(&mut self, tx: &Tx<'_>, of_minute: &[u8], value: &Value) -> Result<Vec<u8>, StoreError> {
        let own = keys::statistics_row(of_minute, value);
        if self.rows.contains_key(&own) {
            return Ok(own);
        }
        if self.full.contains(of_minute) && !tx.has(Space::Statistics, &own)? {
            return Ok(keys::statistics_row(of_minute, &Value::Others));
        }
        let key = place(tx, of_minute, value)?;
        if key != own {
            self.full.insert(of_minute.to_vec());
        }
        Ok(key)
    }

    fn add(&mut self, tx: &mut Tx<'_>, key: Vec<u8>, more: &Row) -> Result<(), StoreError> {
        if !self.rows.contains_key(&key) {
            self.rows.insert(key.clone(), load(tx, &key)?);
        }
        let Some(row) = self.rows.get_mut(&key) else { return Ok(()) };
        row.add_all(more);
        tx.save(Space::Statistics, key, row)
    }
}

/// When the span begins that a moment is in.
fn begin(span: Span, at_ms: u64) -> u64 {
    at_ms / span.ms() * span.ms()
}

/// The key of a value's row in a span, or of the row of those for which there is none left.
fn place(tx: &Tx<'_>, of_span: &[u8], value: &Value) -> Result<Vec<u8>, StoreError> {
    let own = keys::statistics_row(of_span, value);
    if !matches!(value, Value::Named(_)) || tx.has(Space::Statistics, &own)? {
        return Ok(own);
    }
    let found = tx.scan(Space::Statistics, of_span, None, Order::Forward, VALUES_MAX)?;
    Ok(if found.len() < VALUES_MAX { own } else { keys::statistics_row(of_span, &Value::Others) })
}

fn load(tx: &Tx<'_>, key: &[u8]) -> Result<Row, StoreError> {
    let kept = tx.get(Space::Statistics, key)?.map(|bytes| decode(&bytes));
    // A row that cannot be read must not hold up the facts that are written with it.
    let row = kept.transpose().unwrap_or_else(|error| {
        tracing::error!(%error, "a row of the statistics begins anew");
        None
    });
    Ok(row.unwrap_or_default())
}

/// The minute of an app that is not folded yet; `None`: nothing was counted ever.
pub(super) fn open_minute(tx: &Tx<'_>, app: &AppId) -> Result<Option<u64>, StoreError> {
    let key = keys::statistics_open(app);
    let kept = tx.get(Space::Statistics, &key)?;
    // One that cannot be read must not hold up the facts that are written with it.
    Ok(kept.and_then(|kept| tx.decoded(Space::Statistics, key, kept)))
}

/// Folds the minutes before this one into hours and days, unless they were. The minute that is open from then on.
pub(super) fn fold(tx: &mut Tx<'_>, app: &AppId, minute_ms: u64) -> Result<u64, StoreError> {
    let open_ms = open_minute(tx, app)?;
    if let Some(open_ms) = open_ms.filter(|open_ms| *open_ms >= minute_ms) {
        return Ok(open_ms);
    }
    // Only one minute can be open, because each that is begun folds the one before.
    if let Some(open_ms) = open_ms {
        for by in dimensions() {
            fold_rows(tx, app, by, open_ms)?;
        }
    }
    tx.save(Space::Statistics, keys::statistics_open(app), &minute_ms)?;
    Ok(minute_ms)
}

fn fold_rows(tx: &mut Tx<'_>, app: &AppId, by: Option<By>, minute_ms: u64) -> Result<(), StoreError> {
    let minutes = rows_of(app, Span::Minute, by);
    let of_minute = keys::statistics_at(&minutes, minute_ms);
    let found = tx.scan(Space::Statistics, &of_minute, None, Order::Forward, ROWS_MAX)?;
    for (key, _) in &found {
        let Some((_, value)) = keys::parse_statistics(key, &minutes) else { continue };
        let more = load(tx, key)?;
        for span in [Span::Hour, Span::Day] {
            let of_span = keys::statistics_at(&rows_of(app, span, by), begin(span, minute_ms));
            let key = place(tx, &of_span, &value)?;
            let mut row = load(tx, &key)?;
            row.add_all(&more);
            tx.save(Space::Statistics, key, &row)?;
        }
    }
    Ok(())
}
