//! `/v1/apps/{app}/topics`: what topics say, for dashboards without MQTT. The broker answers.

use axum::extract::State;
use axum::http::{Method, Uri};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::endless::while_allowed;
use super::guard::{Guarded, READ};
use super::problem::{Errno, Problem};
use crate::beside::{self, ELSEWHERE, NotAsked};

/// The newest of a topic.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what the broker writes")]
pub(super) struct TopicLast {
    topic: String,
    /// The newest number, where a history is kept of the topic.
    #[schema(required)]
    value: Option<TopicPoint>,
    /// The newest message that was published with the retain flag: `topic`, `qos`, `payload_bytes`, `accepted_at_ms`, `expires_at_ms`,
    /// `payload`.
    #[schema(required)]
    retained: Option<Map<String, Value>>,
}

/// A number and when it came.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what the broker writes")]
pub(super) struct TopicPoint {
    at_ms: u64,
    value: f64,
}

/// What a topic said.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what the broker writes")]
pub(super) struct TopicHistory {
    topic: String,
    /// `last`, `avg`, `min` or `max`.
    agg: String,
    #[schema(required)]
    step_ms: Option<u64>,
    /// Oldest first. A step without a value is left out.
    points: Vec<TopicPoint>,
    /// Values of any topic that found no room since the broker started.
    left_out: u64,
}

/// Which part of a history.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the broker reads the query")]
pub(super) struct HistoryQuery {
    /// From this moment on, in milliseconds since 1970.
    from: Option<u64>,
    /// To before this moment.
    to: Option<u64>,
    /// One value for so long, such as `10s`, `5m`, `1h` or `1d`; absent: every value.
    step: Option<String>,
    /// Which value stands for a step: `last`, `avg`, `min` or `max`.
    agg: Option<String>,
}

/// Whose messages.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the broker reads the query")]
pub(super) struct StreamQuery {
    /// On topics under this filter.
    filter: String,
}

/// What a topic says now: its retained message, and the last number of its history. A slash in the topic is written as `%2F`.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/topics/{topic}/last",
    tag = "topics",
    responses((status = 200, description = "The newest", body = TopicLast)),
)]
pub(super) async fn last(
    Guarded { .. }: Guarded<READ>,
    State(shared): State<Api>,
    uri: Uri,
) -> Result<Response, Problem> {
    ask(&shared, &uri).await
}

/// The last numbers of a topic, where `[[broker.history]]` names it.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/topics/{topic}/history",
    tag = "topics",
    params(HistoryQuery),
    responses((status = 200, description = "The numbers, oldest first", body = TopicHistory)),
)]
pub(super) async fn history(
    Guarded { .. }: Guarded<READ>,
    State(shared): State<Api>,
    uri: Uri,
) -> Result<Response, Problem> {
    ask(&shared, &uri).await
}

/// Messages as they come, as server-sent events: `message` with topic, payload and moment, `left_out` with a count. Whoever reads slower
/// than they come gets the newest of each topic.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/topics/stream",
    tag = "topics",
    params(StreamQuery),
    responses((status = 200, description = "Server-sent events, without end", body = String, content_type = "text/event-stream")),
)]
pub(super) async fn stream(
    Guarded { app, caller }: Guarded<READ>,
    State(shared): State<Api>,
    uri: Uri,
) -> Result<Response, Problem> {
    let answer = ask(&shared, &uri).await?;
    match answer.status().is_success() {
        true => Ok(while_allowed(&shared, caller, Some(app), answer)),
        false => Ok(answer),
    }
}

/// The operator's API has the same paths without the version.
async fn ask(shared: &Api, uri: &Uri) -> Result<Response, Problem> {
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    let path = path.strip_prefix("/v1").unwrap_or(path);
    beside::pass_on(shared, Method::GET, path).await.map_err(|refused| match refused {
        NotAsked::Elsewhere => Problem::because(Errno::NotOffered, ELSEWHERE),
        NotAsked::Refused(..) => Problem::new(Errno::PathUnknown),
    })
}
