//! `POST /v1/apps/{app}/messages:batch`: many different messages in one call, each with a result of its own.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use utoipa::ToSchema;

use super::send::{SendBody, Sent, header_of, idempotency_key, send_one};
use crate::http::Api;
use crate::http::body::{Json, parse};
use crate::http::guard::{Guarded, SEND};
use crate::http::problem::{Errno, Problem};

/// Messages of one call at most.
const BATCH_MAX: usize = 500;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Batch {
    /// Bodies as those of a single send.
    #[schema(value_type = Vec<SendBody>)]
    messages: Vec<Value>,
}

/// Accepts many messages. With an `Idempotency-Key` each message has the key with its place behind it, so that a call
/// that was cut off is repeated as a whole.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/messages:batch",
    tag = "messages",
    request_body = Batch,
    responses((status = 207, description = "A result for each message, in their order", body = Object)),
)]
pub(in crate::http) async fn send_all(
    Guarded { app, caller }: Guarded<SEND>,
    State(shared): State<Api>,
    headers: HeaderMap,
    Json(batch, _): Json<Batch>,
) -> Result<impl IntoResponse, Problem> {
    if !(1..=BATCH_MAX).contains(&batch.messages.len()) {
        return Err(Problem::field("/messages", format!("has 1 to {BATCH_MAX} messages")));
    }
    let key = header_of(&headers)?.map(|key| format!("{key}\u{1}")); // which no header can hold
    let mut results = vec![Value::Null; batch.messages.len()];
    let mut sending = JoinSet::new();
    for (at, body) in batch.messages.into_iter().enumerate() {
        let key = key.as_ref().map(|key| idempotency_key(&app, &caller.key_id, &format!("{key}{at}")));
        let (shared, app) = (shared.clone(), app.clone());
        sending.spawn(async move {
            let bytes = Bytes::from(body.to_string());
            let sent = match parse::<SendBody>(&bytes) {
                Ok(body) => send_one(&shared, &app, key, body, &bytes).await,
                Err(problem) => Err(problem),
            };
            (at, result(sent))
        });
    }
    while let Some(done) = sending.join_next().await {
        let (at, result) = done.map_err(|_| Problem::new(Errno::Stopping))?;
        if let Some(place) = results.get_mut(at) {
            *place = result;
        }
    }
    Ok((StatusCode::MULTI_STATUS, axum::Json(json!({"items": results}))))
}

fn result(sent: Result<Sent, Problem>) -> Value {
    match sent {
        Ok(sent) => json!({"status": sent.status().as_u16(), "message": sent.answer()}),
        Err(problem) => json!({"status": problem.errno().status(), "problem": problem.in_a_list()}),
    }
}
