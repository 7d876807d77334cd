//! `/v1/apps/{app}/devices/{device}/queue`: what waits for a device at the broker, and emptying it. The broker in the same
//! process is asked; one that runs elsewhere has its own operations API.

use axum::extract::State;
use axum::http::{Method, StatusCode};
use reveille_proto::ids::AppId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::body::{Asked, Params};
use super::guard::{Guarded, READ, SEND};
use super::paging::{Found, Listed, Page};
use super::problem::{Errno, Problem};
use crate::beside::{self, ELSEWHERE, NotAsked, encode};

/// Which page.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct QueueQuery {
    /// `page.next` of a page: what comes behind it.
    after: Option<String>,
    /// Entries at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// A message that is not done.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct QueuedMessage {
    /// Its place; grows.
    seq: u64,
    /// `null`, for the moment in which the message leaves the queue.
    #[schema(required)]
    topic: Option<String>,
    qos: u8,
    retain: bool,
    /// `waiting`: never sent; `sent`: not acknowledged; `released`: PUBREC came.
    state: String,
    /// Bytes of topic and payload.
    size: u32,
    queued_at_ms: u64,
    #[schema(required)]
    expires_at_ms: Option<u64>,
    /// The message id, for one that may be pushed.
    #[schema(required)]
    push: Option<String>,
}

#[derive(Deserialize)]
struct BrokersPage {
    items: Vec<QueuedMessage>,
    page: BrokersPlace,
}

#[derive(Deserialize)]
struct BrokersPlace {
    next: Option<String>,
}

/// What waits for a device, oldest first. There is no way back: `prev` is always `null`.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/devices/{device}/queue",
    tag = "devices",
    params(QueueQuery),
    responses((status = 200, description = "One page", body = Listed<QueuedMessage>)),
)]
pub(super) async fn show(
    Guarded { app, .. }: Guarded<READ>,
    Params((_, device)): Params<(String, String)>,
    Asked(query): Asked<QueueQuery>,
    State(shared): State<Api>,
) -> Result<axum::Json<Listed<QueuedMessage>>, Problem> {
    let limit = Page::new(None, None, query.limit)?.limit;
    let after = query.after.map(|after| format!("&after={}", encode(&after))).unwrap_or_default();
    let path = format!("{}?limit={limit}{after}", path(&app, &device));
    let page: BrokersPage = read(beside::ask(&shared, Method::GET, &path).await)?;
    Ok(Found::onward(page.items, page.page.next, limit).show(|message| message))
}

/// What was dropped.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct Purged {
    /// Messages.
    dropped: u64,
}

/// Drops what waits for a device and was never sent. What was sent stays: the device may have it.
#[utoipa::path(
    delete,
    path = "/v1/apps/{app}/devices/{device}/queue",
    tag = "devices",
    responses((status = 200, description = "What was dropped", body = Purged)),
)]
pub(super) async fn purge(
    Guarded { app, .. }: Guarded<SEND>,
    Params((_, device)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<axum::Json<Purged>, Problem> {
    read(beside::ask(&shared, Method::DELETE, &path(&app, &device)).await).map(axum::Json)
}

fn path(app: &AppId, device: &str) -> String {
    format!("/apps/{}/sessions/{}/queue", encode(app.as_str()), encode(device))
}

fn read<T: DeserializeOwned>(answer: Result<(StatusCode, Value), NotAsked>) -> Result<T, Problem> {
    let (_, value) = answer.map_err(Problem::from)?;
    let wrong = |error: serde_json::Error| Problem::because(Errno::BrokerFailed, error.to_string());
    serde_json::from_value(value).map_err(wrong)
}

impl From<NotAsked> for Problem {
    fn from(error: NotAsked) -> Self {
        match error {
            NotAsked::Elsewhere => Self::because(Errno::NotOffered, ELSEWHERE),
            NotAsked::Refused(status, problem) => {
                let number = problem.get("errno").and_then(Value::as_u64);
                let errno = Errno::ALL.iter().find(|errno| number == Some(errno.number().into())).copied();
                let detail = problem.get("detail").and_then(Value::as_str).map(str::to_owned);
                Self::because(
                    errno.unwrap_or(Errno::BrokerFailed),
                    detail.unwrap_or_else(|| format!("the broker answered {status}")),
                )
                .and_later(problem.get("retry_after_s").and_then(Value::as_u64))
            }
        }
    }
}
