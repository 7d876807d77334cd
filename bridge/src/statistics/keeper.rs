//! Adds what a group of transactions counted to the rows on disk, in the group's own commit.

use std::collections::{HashMap, HashSet};

use reveille_proto::ids::AppId;

use super::row::{AppTally, By, Row, Tally, Value};
use super::{Span, VALUES_MAX, rows_of};
use crate::store::{Order, Space, StoreError, Tx, decode, keys};

/// Rows that are remembered, so that a busy minute's are not read again for each commit; beyond it all are forgotten.
const REMEMBERED_MAX: usize = 4_096;

/// The writer's memory of the newest rows. What it holds is on disk too.
#[derive(Default)]
pub(crate) struct Keeper {
    rows: HashMap<Vec<u8>, Row>,
    /// Dimensions in spans that have no row left for a further value.
    full: HashSet<Vec<u8>>,
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
            for span in Span::ALL {
                self.write_span(tx, &app, span, &tally)?;
            }
        }
        Ok(())
    }

    /// Forgets everything: the commit failed, so the disk knows better.
    pub fn forget(&mut self) {
        self.rows.clear();
        self.full.clear();
    }

    fn write_span(
        &mut self,
        tx: &mut Tx<'_>,
        app: &AppId,
        span: Span,
        tally: &AppTally,
    ) -> Result<(), StoreError> {
        let at_ms = tx.now_ms() / span.ms() * span.ms();
        let all = keys::statistics_at(&rows_of(app, span, None), at_ms);
        self.add(tx, keys::statistics_row(&all, &Value::None), &tally.all)?;
        for (by, rows) in By::ALL.into_iter().zip(&tally.by) {
            let of_span = keys::statistics_at(&rows_of(app, span, Some(by)), at_ms);
            for (value, row) in rows {
                let key = self.place(tx, &of_span, value)?;
                self.add(tx, key, row)?;
            }
        }
        Ok(())
    }

    /// The key of a value's row, or of the row that it shares with others.
    fn place(&mut self, tx: &Tx<'_>, of_span: &[u8], value: &Value) -> Result<Vec<u8>, StoreError> {
        let own = keys::statistics_row(of_span, value);
        if *value == Value::None || self.rows.contains_key(&own) || tx.has(Space::Statistics, &own)? {
            return Ok(own);
        }
        if !self.full.contains(of_span) {
            let found = tx.scan(Space::Statistics, of_span, None, Order::Forward, VALUES_MAX)?;
            if found.len() < VALUES_MAX {
                return Ok(own);
            }
            self.full.insert(of_span.to_vec());
        }
        Ok(keys::statistics_row(of_span, &Value::Others))
    }

    fn add(&mut self, tx: &mut Tx<'_>, key: Vec<u8>, more: &Row) -> Result<(), StoreError> {
        if !self.rows.contains_key(&key) {
            let kept = tx.get(Space::Statistics, &key)?.map(|bytes| decode(&bytes));
            // A row that cannot be read must not hold up the facts that are written with it.
            let row = kept.transpose().unwrap_or_else(|error| {
                tracing::error!(%error, "a row of the statistics begins anew");
                None
            });
            self.rows.insert(key.clone(), row.unwrap_or_default());
        }
        let Some(row) = self.rows.get_mut(&key) else { return Ok(()) };
        row.add_all(more);
        tx.save(Space::Statistics, key, row)
    }
}
