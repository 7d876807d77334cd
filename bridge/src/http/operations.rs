//! Health, readiness, metrics, and what the record vendor got.

use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::Api;
use super::guard::{Guarded, READ};
use super::paging::{Listed, Page, PageQuery};
use super::problem::Problem;
use crate::sender::RecordedPush;
use crate::store::{Space, StoreError, keys};
use crate::vendor::record::RecordAnswer;

/// That the process runs.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`.
    status: &'static str,
}

/// The process runs.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "operations",
    responses((status = 200, description = "The process runs", body = Health)),
)]
pub(super) async fn healthz() -> axum::Json<Health> {
    axum::Json(Health { status: "ok" })
}

/// Which part can work.
#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    /// The store takes writes.
    store: bool,
    /// The feed from the broker is connected.
    feed: bool,
    /// A broker in the same process takes clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    broker: Option<bool>,
}

/// Work can be done: the store takes writes, the feed is connected, and a broker in the same process takes clients.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operations",
    responses((status = 200, description = "It can work", body = Readiness), (status = 503, description = "It cannot", body = Readiness)),
)]
pub(super) async fn readyz(State(shared): State<Api>) -> impl IntoResponse {
    let probe = |tx: &mut crate::store::Tx<'_>| {
        // A write, because a store on a full or broken disk still reads.
        tx.put(Space::Queues, keys::probe(), Vec::new());
        Ok::<_, StoreError>(())
    };
    let store = shared.store.write(probe).await.is_ok();
    let feed = shared.is_feed_up.load(Ordering::SeqCst);
    let broker = shared.is_broker_ready.as_ref().map(|is_ready| is_ready());
    let is_ready = store && feed && broker != Some(false);
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(Readiness { store, feed, broker }))
}

/// Counters in the text format of OpenMetrics.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operations",
    responses((status = 200, description = "OpenMetrics", body = String, content_type = "application/openmetrics-text")),
)]
pub(super) async fn metrics(State(shared): State<Api>) -> impl IntoResponse {
    let extra = shared.extra_metrics.as_ref().map(|extra| extra());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shared.metrics.text(extra.as_deref()))
}

/// A push that the record vendor got.
#[derive(Serialize, ToSchema)]
pub(super) struct Recorded {
    at_ms: u64,
    /// The message's id.
    message: String,
    token: String,
    /// What it was answered.
    #[schema(value_type = String)]
    answer: RecordAnswer,
    /// All that the push said.
    #[schema(value_type = Object)]
    push: Value,
}

impl From<RecordedPush> for Recorded {
    fn from(push: RecordedPush) -> Self {
        Self {
            at_ms: push.at_ms,
            message: push.id.to_string(),
            token: push.token.as_str().to_owned(),
            answer: push.answer,
            push: push.content,
        }
    }
}

/// Pushes that the record vendor got for the app since the program runs, newest first; the newest 10,000 are kept.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/record",
    tag = "operations",
    params(PageQuery),
    responses((status = 200, description = "One page", body = Listed<Recorded>)),
)]
pub(super) async fn record(
    Guarded { app, .. }: Guarded<READ>,
    page: Page,
    State(shared): State<Api>,
) -> Result<axum::Json<Listed<Recorded>>, Problem> {
    let mut recorded = shared.sender.recorded(&app);
    recorded.reverse();
    let cursor = |push: &RecordedPush| format!("{}-{}-{}", push.at_ms, push.id, push.token.as_str());
    Ok(page.cut(&recorded, cursor)?.show(Recorded::from))
}
