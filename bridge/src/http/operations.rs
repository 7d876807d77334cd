//! Health, readiness, metrics, and what the record vendor got.

use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde_json::json;

use super::Api;
use super::body::{Page, PageQuery};
use super::guard::{Guarded, READ};
use super::problem::Problem;
use crate::store::{Space, StoreError, keys};

/// The process runs.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "operations",
    responses((status = 200, description = "The process runs", body = Object)),
)]
pub(super) async fn healthz() -> impl IntoResponse {
    axum::Json(json!({"status": "ok"}))
}

/// Work can be done: the store takes writes, the feed is connected, and a broker in the same process takes clients.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operations",
    responses((status = 200, description = "It can work", body = Object), (status = 503, description = "It cannot", body = Object)),
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
    let mut answer = json!({"store": store, "feed": feed});
    if let (serde_json::Value::Object(fields), Some(broker)) = (&mut answer, broker) {
        fields.insert("broker".to_owned(), broker.into());
    }
    (status, axum::Json(answer))
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

/// The newest pushes that the record vendor got for the app, oldest of them first.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/record",
    tag = "operations",
    params(PageQuery),
    responses((status = 200, description = "The newest pushes", body = Object)),
)]
pub(super) async fn record(
    Guarded { app, .. }: Guarded<READ>,
    page: Page,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let recorded = shared.sender.recorded(&app);
    let newest = recorded.iter().skip(recorded.len().saturating_sub(page.limit));
    let items: Vec<_> = newest
        .map(|push| {
            json!({
                "at_ms": push.at_ms,
                "message": push.id.to_string(),
                "token": push.token,
                "answer": push.answer,
                "push": push.content,
            })
        })
        .collect();
    Ok(axum::Json(json!({"items": items, "total": recorded.len()})))
}
