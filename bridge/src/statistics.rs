//! Statistics: what deliveries passed when, as time series with bounded storage.
//!
//! ```text
//!  a transaction about a delivery --note--> its tally --+
//!  another of the same group     --note--> its tally --+--> one row for each span and value, in the group's commit
//! ```
//! A delivery's record says what was counted of it ([`Counted`]), and both are written by the same commit: a crash
//! loses neither or both, and a fact that is told twice counts once. A commit writes each row of the minute once, however
//! many deliveries are in it. Minutes are folded into hours and days when they are over, and removed sooner.

mod keeper;
mod row;
mod series;
mod sketch;

use std::sync::Arc;
use std::time::Duration;

use reveille_proto::ids::AppId;

use crate::apps;
use crate::shared::Shared;
use crate::store::{Order, Space, StoreError, Tx, keys};

pub(crate) use keeper::Keeper;
pub(crate) use row::{By, Counted, Counts, Row, Tally, Value, Whose, reason_of};
#[cfg(test)]
pub(crate) use series::Point;
pub(crate) use series::{Asked, Series, read};
pub(crate) use sketch::Percentiles;

/// Rows of one dimension and span with a value of their own; what comes then is counted together.
pub(crate) const VALUES_MAX: usize = 32;
/// Rows removed in one transaction.
const PRUNE_CHUNK: usize = 1_000;
/// How often old rows are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(10 * 60);

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// How long the span of one row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Span {
    Minute,
    Hour,
    Day,
}

impl Span {
    pub const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// In milliseconds. A day is one of UTC.
    pub fn ms(self) -> u64 {
        match self {
            Self::Minute => MINUTE_MS,
            Self::Hour => HOUR_MS,
            Self::Day => DAY_MS,
        }
    }

    /// How long its rows are kept, in milliseconds: 24 hours, 60 days, three years.
    pub fn kept_ms(self) -> u64 {
        match self {
            Self::Minute => DAY_MS,
            Self::Hour => 60 * DAY_MS,
            Self::Day => 3 * 366 * DAY_MS,
        }
    }

    /// When the oldest span that is surely whole begins.
    pub fn kept_from_ms(self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.kept_ms()).next_multiple_of(self.ms())
    }

    /// Its letter in keys.
    fn letter(self) -> u8 {
        match self {
            Self::Minute => b'm',
            Self::Hour => b'h',
            Self::Day => b'd',
        }
    }
}

/// What stands before the moment in the keys of rows: of all deliveries, or of a dimension.
fn rows_of(app: &AppId, span: Span, by: Option<By>) -> Vec<u8> {
    keys::statistics(app, span.letter(), by.map_or(b't', By::letter))
}

/// Of all deliveries, and each dimension.
fn dimensions() -> impl Iterator<Item = Option<By>> {
    std::iter::once(None).chain(By::ALL.map(Some))
}

/// Removes some rows that are old enough. `false`: there are no more.
fn prune(tx: &mut Tx<'_>, app: &AppId, span: Span, by: Option<By>) -> Result<bool, StoreError> {
    let rows = rows_of(app, span, by);
    let before_ms = tx.now_ms().saturating_sub(span.kept_ms() + span.ms());
    let found = tx.scan(Space::Statistics, &rows, None, Order::Forward, PRUNE_CHUNK)?;
    let is_old = |key: &[u8]| keys::number_at(key, rows.len()).is_some_and(|at_ms| at_ms < before_ms);
    let old: Vec<_> = found.into_iter().map(|(key, _)| key).take_while(|key| is_old(key)).collect();
    let is_more = old.len() == PRUNE_CHUNK;
    old.into_iter().for_each(|key| tx.remove(Space::Statistics, key));
    Ok(is_more)
}

/// Folds the minute that is open, when it is over.
fn fold_open(tx: &mut Tx<'_>, app: &AppId) -> Result<(), StoreError> {
    let minute_ms = tx.now_ms() / MINUTE_MS * MINUTE_MS;
    match keeper::open_minute(tx, app)? {
        Some(open_ms) if open_ms < minute_ms => keeper::fold(tx, app, minute_ms).map(|_| ()),
        Some(_) | None => Ok(()),
    }
}

/// Removes what is old, for ever.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        if let Err(error) = prune_all(&shared).await {
            tracing::error!(%error, "old statistics cannot be removed");
        }
        tokio::time::sleep(PRUNE_EVERY).await;
    }
}

async fn prune_all(shared: &Arc<Shared>) -> Result<(), StoreError> {
    for app in shared.store.read(apps::list).await? {
        let Ok(app) = AppId::parse(&app.id) else { continue };
        let of = app.clone();
        // An app without news folds its last minute here, long before it is removed.
        shared.store.write(move |tx| fold_open(tx, &of)).await?;
        for (span, by) in Span::ALL.into_iter().flat_map(|span| dimensions().map(move |by| (span, by))) {
            let mut is_more = true;
            while is_more {
                let app = app.clone();
                is_more = shared.store.write(move |tx| prune(tx, &app, span, by)).await?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
