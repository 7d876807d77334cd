//! `/v1/apps/{app}/stats`: what deliveries passed when, and how long it took.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::body::Asked;
use super::guard::{Guarded, READ};
use super::problem::{Errno, Problem};
use crate::statistics::{self, By, Counts, Percentiles, Row, Value};

/// Which part of the statistics.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StatsQuery {
    /// The first moment, in milliseconds since 1970; absent: a day before `to`. Rounded down to a multiple of the step.
    from: Option<u64>,
    /// The moment after the last, in milliseconds since 1970; absent: now. Rounded up to a multiple of the step.
    to: Option<u64>,
    /// A number and `m`, `h` or `d`, such as `5m`; absent: one that makes at most 300 points.
    #[param(example = "5m")]
    step: Option<String>,
    /// What is counted apart; absent: nothing.
    by: Option<By>,
}

/// A time series for each value.
#[derive(Serialize, ToSchema)]
pub(super) struct Stats {
    from_ms: u64,
    to_ms: u64,
    step_ms: u64,
    /// Nothing older is kept in steps of this length.
    kept_from_ms: u64,
    by: Option<By>,
    series: Vec<SeriesBody>,
}

/// What happened to the deliveries of one value.
#[derive(Serialize, ToSchema)]
pub(super) struct SeriesBody {
    /// `null`: of all deliveries, or of those that have none.
    value: Option<String>,
    /// Whether it is of all values for which there was no row of their own left.
    others: bool,
    total: Passed,
    /// Oldest first; a step in which nothing happened is left out.
    points: Vec<PointBody>,
}

/// What happened in one step.
#[derive(Serialize, ToSchema)]
pub(super) struct PointBody {
    /// When it begins.
    at_ms: u64,
    #[serde(flatten)]
    passed: Passed,
}

/// What deliveries passed.
#[derive(Serialize, ToSchema)]
pub(super) struct Passed {
    counts: Counts,
    /// From when the message began for the device to the device's acknowledgement over MQTT.
    ack_ms: Option<Percentiles>,
    /// From when the message began for the device to the vendor's acceptance.
    vendor_ms: Option<Percentiles>,
}

impl From<Row> for Passed {
    fn from(row: Row) -> Self {
        Self { counts: row.counts, ack_ms: row.ack_ms.percentiles(), vendor_ms: row.vendor_ms.percentiles() }
    }
}

impl From<statistics::Series> for SeriesBody {
    fn from(series: statistics::Series) -> Self {
        let others = series.value == Value::Others;
        let value = match series.value {
            Value::Named(name) => Some(name),
            Value::None | Value::Others => None,
        };
        let points = series.points.into_iter();
        let points = points.map(|point| PointBody { at_ms: point.at_ms, passed: point.row.into() });
        Self { value, others, total: series.total.into(), points: points.collect() }
    }
}

/// Counts of deliveries by stage and percentiles of their times, as time series.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/stats",
    tag = "statistics",
    params(StatsQuery),
    responses((status = 200, description = "A time series for each value", body = Stats)),
)]
pub(super) async fn show(
    Guarded { app, .. }: Guarded<READ>,
    Asked(query): Asked<StatsQuery>,
    State(shared): State<Api>,
) -> Result<Json<Stats>, Problem> {
    let now_ms = shared.store.now_ms();
    let asked = statistics::Asked::new(query.from, query.to, query.step.as_deref(), query.by, now_ms)
        .map_err(|error| Problem::because(Errno::InvalidQuery, error.to_string()))?;
    let series = shared.store.read(move |tx| statistics::read(tx, &app, &asked)).await?;
    Ok(Json(Stats {
        from_ms: asked.from_ms,
        to_ms: asked.to_ms,
        step_ms: asked.step_ms,
        kept_from_ms: asked.span().kept_from_ms(now_ms),
        by: asked.by,
        series: series.into_iter().map(SeriesBody::from).collect(),
    }))
}
