//! `/v1/events` and `/v1/apps/{app}/events`: what happens, as server-sent events.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use reveille_proto::ids::AppId;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Api;
use super::body::Asked;
use super::endless::while_allowed;
use super::guard::{Guarded, Known, READ};
use super::problem::{Errno, Problem};
use crate::apps::Access;
use crate::events::{Wish, reader};

/// Which events.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Names and patterns separated by commas, such as `message.*,token.invalid`; absent: all but `device.*`, which
    /// come only when they are named.
    types: Option<String>,
    /// The same as the header `Last-Event-ID`, which goes before it: go on behind this event.
    last_event_id: Option<String>,
}

/// What happens in one app.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/events",
    tag = "events",
    params(EventsQuery, ("Last-Event-ID" = Option<String>, Header, description = "Go on behind this event")),
    responses((status = 200, description = "Server-sent events, without end", body = String, content_type = "text/event-stream")),
)]
pub(super) async fn of_app(
    Guarded { app, caller }: Guarded<READ>,
    Asked(query): Asked<EventsQuery>,
    headers: HeaderMap,
    State(shared): State<Api>,
) -> Result<Response, Problem> {
    let answer = stream(&shared, Some(app.clone()), query, &headers)?;
    Ok(while_allowed(&shared, caller, Some(app), answer))
}

/// What happens in every app that the key opens: in its own, or with the operator's in all.
#[utoipa::path(
    get,
    path = "/v1/events",
    tag = "events",
    params(EventsQuery, ("Last-Event-ID" = Option<String>, Header, description = "Go on behind this event")),
    responses((status = 200, description = "Server-sent events, without end", body = String, content_type = "text/event-stream")),
)]
pub(super) async fn of_all(
    Known(caller): Known,
    Asked(query): Asked<EventsQuery>,
    headers: HeaderMap,
    State(shared): State<Api>,
) -> Result<Response, Problem> {
    if !caller.has(Access::Read) {
        return Err(Problem::new(Errno::KeyForbidden));
    }
    let answer = stream(&shared, caller.app(), query, &headers)?;
    let app = caller.app();
    Ok(while_allowed(&shared, caller, app, answer))
}

fn stream(
    shared: &Api,
    app: Option<AppId>,
    query: EventsQuery,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let wish = Wish::new(app, query.types.as_deref().unwrap_or_default());
    let wish = wish.map_err(|_| {
        let live = "types is a list of message.sending, message.done, message.recalled, token.invalid, \
             credential.expiring, vendor.failing, vendor.working, device.online, device.offline, or patterns such as message.*";
        Problem::because(Errno::InvalidQuery, live)
    })?;
    let last_id = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let last_id = last_id.or(query.last_event_id.as_deref());
    let frames = reader::read(shared.store.events(), wish, last_id);
    let frames = frames.ok_or_else(|| Problem::later(Errno::TooManyReaders, 30))?;
    let mut answer = Response::new(Body::new(frames));
    let fields = answer.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that gather answers would hold events back.
    fields.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(answer)
}
