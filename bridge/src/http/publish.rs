//! `POST /v1/apps/{app}/publish`: an MQTT message over HTTP, acknowledged when the broker acknowledged it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reveille_proto::bridge::{
    PUSH_BODY, PUSH_COLLAPSE, PUSH_STRATEGY, PUSH_TITLE, Publication, Strategy, UserProperty,
};
use reveille_proto::topic::TopicName;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Api;
use super::body::{Errors, Json};
use super::guard::{Guarded, SEND};
use super::idempotency::{IdempotencyHeader, NotDone, Once};
use super::problem::{Errno, Problem};
use crate::elsewhere::AWAY_RETRY_S;
use crate::feed::{NotTaken, Published as Taken};

/// Bytes of a text in a property: MQTT counts them with 16 bits.
const TEXT_BYTES_MAX: usize = u16::MAX as usize;
/// How long the broker may take for its acknowledgement; whoever repeats the request with a key is told until then that it runs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// User properties of one message.
const USER_PROPERTIES_MAX: usize = 64;

/// A message to be published. The payload stands in one of three fields, or is empty.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PublishBody)]
pub(super) struct Body {
    /// Where to; none that begins with `$`, and no wildcards.
    topic: String,
    /// The payload as text.
    payload: Option<String>,
    /// The payload as bytes.
    payload_base64: Option<String>,
    /// The payload as JSON; its content type is `application/json` unless another one is given.
    #[schema(value_type = Option<Object>)]
    payload_json: Option<Value>,
    /// The highest QoS with which receivers get it.
    #[serde(default = "at_least_once")]
    #[schema(minimum = 0, maximum = 2, default = 1)]
    qos: u8,
    /// Whether the topic keeps it. With an empty payload it forgets what it kept.
    #[serde(default)]
    retain: bool,
    /// How long it is worth anything.
    expiry_s: Option<u32>,
    content_type: Option<String>,
    response_topic: Option<String>,
    correlation_data_base64: Option<String>,
    /// In this order, to every receiver.
    #[serde(default)]
    user_properties: Vec<Property>,
    push: Option<PushBlock>,
}

/// A name and a value of the publisher's own.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UserProperty)]
struct Property {
    name: String,
    value: String,
}

/// Makes it an alert for subscribers that are away, as the user properties `push-…` do over MQTT 5.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PushBlock {
    title: Option<String>,
    body: Option<String>,
    strategy: Option<String>,
    collapse_key: Option<String>,
}

/// What became of it.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct Published {
    /// Whether anybody subscribes to the topic, or it is kept there.
    has_receivers: bool,
}

fn at_least_once() -> u8 {
    1
}

/// Publishes a message. Answers when it is durable for every durable receiver, as PUBACK does.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/publish",
    tag = "messages",
    params(IdempotencyHeader),
    request_body = Body,
    responses((status = 200, description = "The broker has acknowledged it", body = Published)),
)]
pub(super) async fn publish(
    Guarded { app, caller }: Guarded<SEND>,
    State(shared): State<Api>,
    headers: HeaderMap,
    Json(body, bytes): Json<Body>,
) -> Result<Response, Problem> {
    let publication = body.check(app.as_str())?;
    let once = Once::making("publish", &app, &caller.key_id, &headers, &bytes)?;
    let for_work = shared.clone();
    let work = async move {
        if !for_work.is_feed_up.load(Ordering::SeqCst) {
            return Err(NotDone::Surely(away()));
        }
        let taken = tokio::time::timeout(ANSWER_TIMEOUT, for_work.publisher.publish(&publication)).await;
        let taken = taken.unwrap_or(Err(NotTaken::Away)).map_err(not_taken)?;
        Ok(Published { has_receivers: taken == Taken::ByReceivers })
    };
    Ok(once.run_outside(&shared, work).await?.answer(StatusCode::OK))
}

fn away() -> Problem {
    Problem::later(Errno::BrokerAway, AWAY_RETRY_S)
}

fn not_taken(error: NotTaken) -> NotDone {
    NotDone::Surely(match error {
        // It was on its way: the broker may have it.
        NotTaken::Away => return NotDone::Perhaps(away()),
        NotTaken::TooLarge => Problem::new(Errno::BodyTooLarge),
        NotTaken::Topic => Problem::field("/topic", "has more levels than the broker takes"),
        NotTaken::Full => Problem::new(Errno::QueuesFull),
        NotTaken::Refused => Problem::because(Errno::NotOffered, error.to_string()),
    })
}

impl Body {
    fn check(self, app: &str) -> Result<Publication, Problem> {
        let mut errors = Errors::default();
        let (payload, is_json) = self.payload(&mut errors);
        check_topic("/topic", Some(&self.topic), &mut errors);
        check_topic("/response_topic", self.response_topic.as_ref(), &mut errors);
        if self.topic.starts_with('$') {
            errors.add("/topic", "begins with $, which is the broker's own");
        }
        if self.qos > 2 {
            errors.add("/qos", "is 0, 1 or 2");
        }
        let correlation = self.correlation_data_base64.as_ref();
        let correlation_data = correlation.map(|text| decode("/correlation_data_base64", text, &mut errors));
        if correlation_data.as_ref().is_some_and(|data| data.len() > TEXT_BYTES_MAX) {
            errors.add("/correlation_data_base64", "has at most 65,535 bytes");
        }
        check_text("/content_type", self.content_type.as_deref(), &mut errors);
        let user_properties = properties(self.user_properties, self.push, &mut errors);
        errors.or_ok()?;
        Ok(Publication {
            app: app.to_owned(),
            topic: self.topic,
            payload: payload.into(),
            qos: self.qos.into(),
            retain: self.retain,
            expiry_s: self.expiry_s,
            content_type: self.content_type.or_else(|| is_json.then(|| "application/json".to_owned())),
            response_topic: self.response_topic,
            correlation_data: correlation_data.map(Bytes::from),
            user_properties,
        })
    }

    /// The payload, and whether it is JSON.
    fn payload(&self, errors: &mut Errors) -> (Vec<u8>, bool) {
        match (&self.payload, &self.payload_base64, &self.payload_json) {
            (None, None, None) => (Vec::new(), false),
            (Some(text), None, None) => (text.clone().into_bytes(), false),
            (None, Some(text), None) => (decode("/payload_base64", text, errors), false),
            (None, None, Some(value)) => (value.to_string().into_bytes(), true),
            _ => {
                errors.add("/payload", "stands in one of payload, payload_base64, payload_json");
                (Vec::new(), false)
            }
        }
    }
}

fn check_topic(pointer: &str, topic: Option<&String>, errors: &mut Errors) {
    if let Some(Err(error)) = topic.map(|topic| TopicName::parse(topic.clone())) {
        errors.add(pointer, error.to_string());
    }
}

fn decode(pointer: &str, text: &str, errors: &mut Errors) -> Vec<u8> {
    STANDARD.decode(text).unwrap_or_else(|_| {
        errors.add(pointer, "is base64 with padding");
        Vec::new()
    })
}

/// A text that MQTT can carry. `[MQTT5-1.5.4-2]`
fn check_text(pointer: &str, text: Option<&str>, errors: &mut Errors) {
    if text.is_some_and(|text| text.len() > TEXT_BYTES_MAX || text.contains('\0')) {
        errors.add(pointer, "has at most 65,535 bytes, none of them U+0000");
    }
}

/// The publisher's own, then those of the push block.
fn properties(given: Vec<Property>, push: Option<PushBlock>, errors: &mut Errors) -> Vec<UserProperty> {
    if given.len() > USER_PROPERTIES_MAX {
        errors.add("/user_properties", format!("are at most {USER_PROPERTIES_MAX}"));
    }
    for (at, property) in given.iter().enumerate() {
        check_text(&format!("/user_properties/{at}/name"), Some(&property.name), errors);
        check_text(&format!("/user_properties/{at}/value"), Some(&property.value), errors);
    }
    let given = given.into_iter().map(|Property { name, value }| UserProperty { name, value });
    let mut all: Vec<_> = given.collect();
    let Some(push) = push else { return all };
    if push.title.is_none() && push.body.is_none() {
        errors.add("/push", "has neither title nor body");
    }
    if push.strategy.as_deref().is_some_and(|name| Strategy::from_name(name).is_none()) {
        errors.add(
            "/push/strategy",
            "is one of online_first, vendor_only, online_only, vendor_first, both_dedup",
        );
    }
    for (field, name, value) in [
        ("title", PUSH_TITLE, push.title),
        ("body", PUSH_BODY, push.body),
        ("strategy", PUSH_STRATEGY, push.strategy),
        ("collapse_key", PUSH_COLLAPSE, push.collapse_key),
    ] {
        let Some(value) = value else { continue };
        check_text(&format!("/push/{field}"), Some(&value), errors);
        if all.iter().any(|known| known.name == name) {
            errors.add(format!("/push/{field}"), format!("stands in user_properties as {name} too"));
        }
        all.push(UserProperty { name: name.to_owned(), value });
    }
    all
}
