//! Topics without MQTT: the last value, what was before it, and a live stream.

use super::admin::Api;
use super::problem::{Errno, Problem};
use super::queues::Preview;
use super::read::{Asked, Params, app, filter};
use super::retained::{Retained, find, named};
use crate::topics::history::Known;
use crate::topics::ring::{Aggregate, Point};
use crate::topics::stream::{Reader, Told};
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use reveille_broker_core::message::Message;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use utoipa::{IntoParams, ToSchema};

/// A line goes to a quiet stream so often: proxies end connections on which nothing passes, and a reader that is gone is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a reader may take to take one frame.
const SLOW: Duration = Duration::from_secs(30);
/// Bytes of a payload that a stream shows.
const PAYLOAD_MAX: usize = 256 * 1024;
/// Longest step, in milliseconds: a year.
const STEP_MAX_MS: u64 = 366 * 24 * 60 * 60 * 1000;

/// The newest of a topic.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Last {
    topic: String,
    /// The newest number, where a history is kept of the topic.
    #[schema(required)]
    value: Option<Point>,
    /// The newest message that was published with the retain flag.
    #[schema(required)]
    retained: Option<Retained>,
}

/// What a topic says now: its retained message, and the last number of its history. A slash in the topic is written as `%2F`.
#[utoipa::path(get, path = "/apps/{app}/topics/{topic}/last", tag = "topics",
    params(("app" = String, Path), ("topic" = String, Path)),
    responses((status = 200, body = Last)))]
pub(crate) async fn last(
    State(api): State<Api>,
    Params(params): Params<(String, String)>,
) -> Result<axum::Json<Last>, Problem> {
    let (app, topic) = named(&params)?;
    let value = api.shared.topics.history.last(&app, &topic);
    let retained = find(&api, &app, &topic).ok().map(|message| Retained::of(&message, Some(usize::MAX)));
    match (&value, &retained) {
        (None, None) => Err(Problem::new(Errno::TopicUnknown)),
        _ => Ok(axum::Json(Last { topic: topic.to_string(), value, retained })),
    }
}

/// Which part of a history.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistoryQuery {
    /// From this moment on; 0: everything.
    #[serde(default)]
    #[param(default = 0)]
    from: u64,
    /// To before this moment; absent: to now.
    to: Option<u64>,
    /// One value for so long, such as `10s`, `5m`, `1h` or `1d`; absent: every value.
    step: Option<String>,
    /// Which value stands for a step.
    #[serde(default)]
    #[param(inline)]
    agg: Aggregate,
}

/// What a topic said.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TopicHistory {
    topic: String,
    agg: Aggregate,
    #[schema(required)]
    step_ms: Option<u64>,
    /// Oldest first. A step without a value is left out.
    points: Vec<Point>,
    /// Values of any topic that found no room since the broker started.
    left_out: u64,
}

/// The last numbers of a topic, where `[[broker.history]]` names it.
#[utoipa::path(get, path = "/apps/{app}/topics/{topic}/history", tag = "topics",
    params(("app" = String, Path), ("topic" = String, Path), HistoryQuery),
    responses((status = 200, body = TopicHistory)))]
pub(crate) async fn history(
    State(api): State<Api>,
    Params(params): Params<(String, String)>,
    Asked(query): Asked<HistoryQuery>,
) -> Result<axum::Json<TopicHistory>, Problem> {
    let (app, topic) = named(&params)?;
    let step_ms = query.step.as_deref().map(step).transpose()?;
    let span = (query.from, query.to.unwrap_or(u64::MAX));
    let found = api.shared.topics.history.series(&app, &topic, span, step_ms, query.agg);
    let Known { points, left_out } = found.ok_or_else(|| Problem::new(Errno::NoHistory))?;
    Ok(axum::Json(TopicHistory { topic: topic.to_string(), agg: query.agg, step_ms, points, left_out }))
}

/// A number and a unit, in milliseconds.
fn step(text: &str) -> Result<u64, Problem> {
    let read = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let unit_ms = match unit {
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let step_ms = number.parse::<u64>().ok().filter(|_| is_number)?.checked_mul(unit_ms)?;
        (1..=STEP_MAX_MS).contains(&step_ms).then_some(step_ms)
    };
    read().ok_or_else(|| {
        Problem::because(Errno::InvalidQuery, "step is a number with s, m, h or d, such as 10s")
    })
}

/// Whose messages.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct StreamQuery {
    /// On topics under this filter.
    filter: String,
}

/// Messages as they come, as server-sent events named `message`, each with topic, payload and moment. Whoever reads slower than they come
/// gets the newest of each topic; `left_out` tells how many found no room. Retained messages are not repeated.
#[utoipa::path(get, path = "/apps/{app}/topics/stream", tag = "topics",
    params(("app" = String, Path), StreamQuery),
    responses((status = 200, body = String, content_type = "text/event-stream")))]
pub(crate) async fn stream(
    State(api): State<Api>,
    Params(of): Params<String>,
    Asked(query): Asked<StreamQuery>,
) -> Result<Response, Problem> {
    let (app, filter) = (app(&of)?, filter(&query.filter)?);
    let reader = api.shared.topics.streams.open(app, filter);
    let reader = reader.ok_or_else(|| Problem::later(Errno::TooManyStreams, 30))?;
    let (frames, body) = mpsc::channel(1);
    tokio::spawn(run(reader, frames)); // ends with its reader, or when that stands still
    let body = Body::new(Frames(body));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, body).into_response())
}

async fn run(reader: Reader, frames: mpsc::Sender<Bytes>) {
    let mut frame = Bytes::from_static(b": open\n\n");
    while frames.send_timeout(frame, SLOW).await.is_ok() {
        frame = tokio::select! {
            told = timeout(HEARTBEAT, reader.next()) => told.map_or(Bytes::from_static(b":\n\n"), |told| event(&told)),
            () = frames.closed() => break,
        };
    }
}

#[derive(Serialize)]
struct Shown {
    topic: String,
    at_ms: u64,
    qos: u8,
    retain: bool,
    payload: Preview,
}

fn event(told: &Told) -> Bytes {
    let text = match told {
        Told::Message(message) => {
            let json = serde_json::to_string(&shown(message)).unwrap_or_default(); // texts and numbers: it cannot fail
            format!("event: message\ndata: {json}\n\n")
        }
        Told::LeftOut(count) => format!("event: left_out\ndata: {{\"messages\":{count}}}\n\n"),
    };
    text.into()
}

fn shown(message: &Message) -> Shown {
    Shown {
        topic: message.topic.to_string(),
        at_ms: message.accepted_at.0,
        qos: message.qos as u8,
        retain: message.retain,
        payload: Preview::of(message, PAYLOAD_MAX),
    }
}

/// The frames of a stream as a body without end.
struct Frames(mpsc::Receiver<Bytes>);

impl HttpBody for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(hyper::body::Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_a_number_with_a_unit() {
        for (text, wanted) in [
            ("10s", Some(10_000)),
            ("5m", Some(300_000)),
            ("2h", Some(7_200_000)),
            ("1d", Some(86_400_000)),
            ("0s", None),
            ("s", None),
            ("", None),
            ("10", None),
            ("+1s", None),
            ("1分", None),
            ("99999d", None),
        ] {
            assert_eq!(step(text).ok(), wanted, "{text}");
        }
    }
}
