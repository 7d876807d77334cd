//! `POST /v1/apps/{app}/messages:batch`: many different messages in one call, each with a result of its own.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use reveille_proto::ids::AppId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::JoinSet;
use utoipa::ToSchema;

use super::dry_run::Rehearsal;
use super::send::{Accepted, SendBody, Sent, send_one};
use crate::apps::Caller;
use crate::http::Api;
use crate::http::body::{Json, parse};
use crate::http::guard::{Limited, SEND};
use crate::http::idempotency::{Done, IdempotencyHeader, Once, header};
use crate::http::problem::{Errno, Problem, ProblemBody};

/// Messages of one call at most.
const BATCH_MAX: usize = 500;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Batch {
    /// Bodies as those of a single send.
    #[schema(value_type = Vec<SendBody>, min_items = 1, max_items = 500)]
    messages: Vec<Value>,
}

/// A result for each message, in their order.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Results {
    items: Vec<Outcome>,
}

/// What became of one message.
#[derive(Serialize, ToSchema)]
struct Outcome {
    /// The status that a call of its own would have had.
    status: u16,
    /// The answer to a message that was accepted, or that was looked at only.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<OneAnswer>,
    /// Why it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ProblemBody>)]
    problem: Option<Value>,
}

#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum OneAnswer {
    Accepted(Accepted),
    Rehearsal(Rehearsal),
}

/// Accepts many messages. With an `Idempotency-Key` each message has the key with its place behind it, so that a call
/// that was cut off is repeated as a whole. A message with a `request_id` is known by that instead.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/messages:batch",
    tag = "messages",
    params(IdempotencyHeader),
    request_body = Batch,
    responses((status = 207, description = "A result for each message, in their order", body = Results)),
)]
pub(in crate::http) async fn send_all(
    Limited { app, caller }: Limited<SEND>,
    State(shared): State<Api>,
    headers: HeaderMap,
    Json(batch, _): Json<Batch>,
) -> Result<(StatusCode, axum::Json<Results>), Problem> {
    if !(1..=BATCH_MAX).contains(&batch.messages.len()) {
        return Err(Problem::field("/messages", format!("has 1 to {BATCH_MAX} messages")));
    }
    let key = header(&headers)?.map(|key| format!("{key}\u{1}")); // which no header can hold
    let mut results: Vec<Option<Outcome>> = batch.messages.iter().map(|_| None).collect();
    let mut sending = JoinSet::new();
    for (at, body) in batch.messages.into_iter().enumerate() {
        let key = key.as_ref().map(|key| format!("{key}{at}"));
        let (shared, app, caller) = (shared.clone(), app.clone(), caller.clone());
        sending.spawn(async move { (at, result(send(&shared, &app, &caller, key, &body).await)) });
    }
    while let Some(done) = sending.join_next().await {
        let (at, result) = done.map_err(|_| Problem::new(Errno::Stopping))?;
        if let Some(place) = results.get_mut(at) {
            *place = Some(result);
        }
    }
    Ok((StatusCode::MULTI_STATUS, axum::Json(Results { items: results.into_iter().flatten().collect() })))
}

async fn send(
    shared: &Api,
    app: &AppId,
    caller: &Caller,
    key: Option<String>,
    body: &Value,
) -> Result<Sent, Problem> {
    let bytes = body.to_string();
    let body = parse::<SendBody>(bytes.as_bytes())?;
    let own = body.key().map(str::to_owned);
    let once = Once::sending(app, &caller.key_id, own.or(key).as_deref(), bytes.as_bytes());
    send_one(shared, app, caller, once, body).await
}

fn result(sent: Result<Sent, Problem>) -> Outcome {
    let (status, message, problem) = match sent {
        Ok(Sent::Accepted(Done::Now(accepted) | Done::Before(accepted))) => {
            (StatusCode::ACCEPTED.as_u16(), Some(OneAnswer::Accepted(accepted)), None)
        }
        Ok(Sent::Dry(rehearsal)) => (StatusCode::OK.as_u16(), Some(OneAnswer::Rehearsal(rehearsal)), None),
        Err(problem) => (problem.errno().status(), None, Some(problem.in_a_list())),
    };
    Outcome { status, message, problem }
}
