//! Retained messages: search, one, set, delete.

use super::admin::{Api, Listed, check_not_bridge};
use super::problem::{Errno, Problem};
use super::publish::{Body, Published, publication, send};
use super::queues::Preview;
use super::read::{Asked, Json, Params, app, cursor_of, filter, limit, text_of_cursor};
use axum::extract::State;
use axum::http::StatusCode;
use reveille_broker_core::admin::{Done, Wish};
use reveille_broker_core::message::Message;
use reveille_proto::ids::AppId;
use reveille_proto::topic::{TopicFilter, TopicName};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};
use utoipa::{IntoParams, ToSchema};

/// Bytes of a payload that a list shows.
const PREVIEW_BYTES: usize = 256;

/// How long one request goes on looking for topics that a filter reaches. Each look holds the router's read lock for under
/// a millisecond.
const SEARCH_DEADLINE: Duration = Duration::from_millis(500);

/// Messages that one request deletes.
const DELETED_MAX: usize = 1000;

/// Messages that are deleted together: they share a commit, and are little enough for one turn of a shard.
const CLEARED_AT_ONCE: usize = 64;

/// Which retained messages.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RetainedQuery {
    /// On topics under this filter. `#` reaches all but those that begin with `$`.
    #[serde(default = "everything")]
    #[param(default = "#")]
    filter: String,
    /// Whether the first bytes of the payloads are shown.
    #[serde(default)]
    payload: bool,
    /// The cursor of the page before.
    after: Option<String>,
    /// Entries at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

fn everything() -> String {
    "#".to_owned()
}

/// The newest message of a topic that was published with the retain flag.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Retained {
    topic: String,
    qos: u8,
    payload_bytes: usize,
    accepted_at_ms: u64,
    #[schema(required)]
    expires_at_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Preview>,
}

impl Retained {
    pub(super) fn of(message: &Message, preview_max: Option<usize>) -> Self {
        Self {
            topic: message.topic.to_string(),
            qos: message.qos as u8,
            payload_bytes: message.payload.len(),
            accepted_at_ms: message.accepted_at.0,
            expires_at_ms: message.expires_at.map(|time| time.0),
            payload: preview_max.map(|bytes_max| Preview::of(message, bytes_max)),
        }
    }
}

/// The next ones under a filter, and the topic behind which more may follow.
fn search(
    api: &Api,
    app: &AppId,
    filter: &TopicFilter,
    mut after: Option<TopicName>,
    limit: usize,
) -> (Vec<Arc<Message>>, Option<TopicName>) {
    let (end, now) = (Instant::now() + SEARCH_DEADLINE, api.now());
    let mut found = Vec::new();
    loop {
        let room = limit - found.len();
        let (messages, next) = api.shared.read_router().retained(app, filter, after.as_ref(), room);
        found.extend(messages.into_iter().filter(|message| !message.is_expired(now)));
        after = next;
        if after.is_none() || found.len() >= limit || Instant::now() >= end {
            return (found, after);
        }
    }
}

fn behind(cursor: Option<&str>) -> Result<Option<TopicName>, Problem> {
    let topic = text_of_cursor(cursor)?.map(TopicName::parse).transpose();
    topic.map_err(|_| Problem::new(Errno::InvalidCursor))
}

/// Retained messages under a topic filter, in the order of their topics, level by level.
#[utoipa::path(get, path = "/apps/{app}/retained", tag = "retained",
    params(("app" = String, Path), RetainedQuery),
    responses((status = 200, body = Listed<Retained>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    Params(of): Params<String>,
    Asked(query): Asked<RetainedQuery>,
) -> Result<axum::Json<Listed<Retained>>, Problem> {
    let (app, filter, limit) = (app(&of)?, filter(&query.filter)?, limit(query.limit)?);
    let (found, next) = search(&api, &app, &filter, behind(query.after.as_deref())?, limit);
    let preview_max = query.payload.then_some(PREVIEW_BYTES);
    let items = found.iter().map(|message| Retained::of(message, preview_max)).collect();
    Ok(Listed::new(items, next.map(|topic| cursor_of(topic.as_str())), limit))
}

/// Which are deleted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeleteQuery {
    /// Those on topics under this filter.
    filter: String,
    /// At most so many.
    #[param(minimum = 1, maximum = 1000, default = 1000)]
    limit: Option<usize>,
}

/// What was deleted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Deleted {
    deleted: usize,
    /// Whether there may be more under the filter: ask again.
    more: bool,
}

/// Deletes retained messages under a filter, at most `limit` at a time. Subscribers hear nothing of it.
#[utoipa::path(delete, path = "/apps/{app}/retained", tag = "retained",
    params(("app" = String, Path), DeleteQuery),
    responses((status = 200, body = Deleted)))]
pub(crate) async fn delete_all(
    State(api): State<Api>,
    Params(of): Params<String>,
    Asked(query): Asked<DeleteQuery>,
) -> Result<axum::Json<Deleted>, Problem> {
    let (app, filter, limit) = (app(&of)?, filter(&query.filter)?, limit(query.limit.or(Some(DELETED_MAX)))?);
    check_not_bridge(&app)?;
    let (found, next) = search(&api, &app, &filter, None, limit);
    let deleted = found.len();
    for some in found.chunks(CLEARED_AT_ONCE) {
        let wishes = some.iter().map(|message| clear(&api, &app, &message.topic));
        for cleared in wishes.collect::<Vec<_>>() {
            cleared.await?;
        }
    }
    Ok(axum::Json(Deleted { deleted, more: next.is_some() }))
}

fn clear(
    api: &Api,
    app: &AppId,
    topic: &TopicName,
) -> impl Future<Output = Result<Done, Problem>> + Send + use<> {
    api.wish(api.shard_of(app, topic), Wish::ClearRetained { app: app.clone(), topic: topic.clone() })
}

/// The retained message of one topic, with its whole payload. A slash in the topic is written as `%2F`.
#[utoipa::path(get, path = "/apps/{app}/retained/{topic}", tag = "retained",
    params(("app" = String, Path), ("topic" = String, Path)),
    responses((status = 200, body = Retained)))]
pub(crate) async fn show(
    State(api): State<Api>,
    Params(params): Params<(String, String)>,
) -> Result<axum::Json<Retained>, Problem> {
    let (app, topic) = named(&params)?;
    let message = find(&api, &app, &topic)?;
    Ok(axum::Json(Retained::of(&message, Some(usize::MAX))))
}

/// Publishes a message with the retain flag: subscribers get it, and the topic keeps it. Answers when it is durable.
#[utoipa::path(put, path = "/apps/{app}/retained/{topic}", tag = "retained",
    params(("app" = String, Path), ("topic" = String, Path)), request_body = Body,
    responses((status = 200, body = Published)))]
pub(crate) async fn set(
    State(api): State<Api>,
    Params(params): Params<(String, String)>,
    Json(body): Json<Body>,
) -> Result<axum::Json<Published>, Problem> {
    let (app, topic) = named(&params)?;
    let publication = publication(&api, app, topic, body, true)?;
    if publication.payload.is_empty() {
        return Err(Problem::field("/payload", "an empty message would delete the retained one: use DELETE"));
    }
    send(&api, publication).await
}

/// Deletes the retained message of one topic. Subscribers hear nothing of it.
#[utoipa::path(delete, path = "/apps/{app}/retained/{topic}", tag = "retained",
    params(("app" = String, Path), ("topic" = String, Path)),
    responses((status = 204)))]
pub(crate) async fn delete(
    State(api): State<Api>,
    Params(params): Params<(String, String)>,
) -> Result<StatusCode, Problem> {
    let (app, topic) = named(&params)?;
    check_not_bridge(&app)?;
    find(&api, &app, &topic)?;
    clear(&api, &app, &topic).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) fn named((of, topic): &(String, String)) -> Result<(AppId, TopicName), Problem> {
    let topic = TopicName::parse(topic.clone());
    Ok((app(of)?, topic.map_err(|error| Problem::because(Errno::InvalidPath, error.to_string()))?))
}

pub(super) fn find(api: &Api, app: &AppId, topic: &TopicName) -> Result<Arc<Message>, Problem> {
    let found = api.shared.read_router().retained_of(app, topic);
    found.filter(|message| !message.is_expired(api.now())).ok_or_else(|| Problem::new(Errno::RetainedUnknown))
}
