//! Publishing over HTTP: a message with the same promise as one over MQTT.

use super::admin::{Api, check_not_bridge};
use super::problem::Problem;
use super::read::{Json, Params, app, base64};
use axum::extract::State;
use bytes::Bytes;
use bytestring::ByteString;
use reveille_broker_core::admin::{Done, Publication, Wish};
use reveille_broker_core::message::MessageProperties;
use reveille_proto::ids::AppId;
use reveille_proto::mqtt::QoS;
use reveille_proto::topic::TopicName;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

/// Bytes of a text in a property: MQTT counts them with 16 bits.
const TEXT_BYTES_MAX: usize = u16::MAX as usize;

/// User properties of one message.
const USER_PROPERTIES_MAX: usize = 64;

/// A message to be published.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Publish)]
pub(crate) struct PublishBody {
    /// Where to; none that begins with `$`.
    #[schema(min_length = 1)]
    topic: String,
    /// Whether the topic keeps it. With an empty payload it forgets what it kept.
    #[serde(default)]
    retain: bool,
    #[serde(default)]
    payload: Option<String>,
    #[serde(default)]
    payload_base64: Option<String>,
    #[serde(default = "at_least_once")]
    #[schema(minimum = 0, maximum = 2, default = 1)]
    qos: u8,
    #[serde(default)]
    expiry_s: Option<u32>,
    #[serde(default)]
    content_type: Option<String>,
    #[serde(default)]
    response_topic: Option<String>,
    #[serde(default)]
    correlation_data_base64: Option<String>,
    #[serde(default)]
    user_properties: Vec<UserProperty>,
}

/// A message for a topic that the path names.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Message)]
pub(crate) struct Body {
    /// The payload as text.
    #[serde(default)]
    payload: Option<String>,
    /// The payload as bytes; one of both.
    #[serde(default)]
    payload_base64: Option<String>,
    /// The highest QoS with which receivers get it.
    #[serde(default = "at_least_once")]
    #[schema(minimum = 0, maximum = 2, default = 1)]
    qos: u8,
    /// How long it is worth anything.
    #[serde(default)]
    expiry_s: Option<u32>,
    /// The MIME type of the payload.
    #[serde(default)]
    content_type: Option<String>,
    /// Where to answer.
    #[serde(default)]
    response_topic: Option<String>,
    /// What an answer shall carry.
    #[serde(default)]
    correlation_data_base64: Option<String>,
    /// In this order, to every receiver.
    #[serde(default)]
    user_properties: Vec<UserProperty>,
}

/// A name and a value of the publisher's own. Those of `docs/device-protocol.md` make the message a push candidate.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserProperty {
    name: String,
    value: String,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Published {
    /// Whether anybody subscribes to the topic, or it is kept there.
    has_receivers: bool,
}

fn at_least_once() -> u8 {
    1
}

/// Publishes a message. Answers when it is durable for every durable receiver, as PUBACK does.
#[utoipa::path(post, path = "/apps/{app}/publish", tag = "publish",
    params(("app" = String, Path)), request_body = PublishBody,
    responses((status = 200, body = Published)))]
pub(crate) async fn publish(
    State(api): State<Api>,
    Params(of): Params<String>,
    Json(body): Json<PublishBody>,
) -> Result<axum::Json<Published>, Problem> {
    let app = app(&of)?;
    let topic = TopicName::parse(body.topic);
    let topic = topic.map_err(|error| Problem::field("/topic", error.to_string()))?;
    let message = Body {
        payload: body.payload,
        payload_base64: body.payload_base64,
        qos: body.qos,
        expiry_s: body.expiry_s,
        content_type: body.content_type,
        response_topic: body.response_topic,
        correlation_data_base64: body.correlation_data_base64,
        user_properties: body.user_properties,
    };
    send(&api, publication(&api, app, topic, message, body.retain)?).await
}

/// Checks a message as that of an MQTT client is checked.
pub(super) fn publication(
    api: &Api,
    app: AppId,
    topic: TopicName,
    body: Body,
    retain: bool,
) -> Result<Publication, Problem> {
    check_not_bridge(&app)?;
    let limits = api.shared.limits.load().of("", &app, None);
    if topic.as_str().starts_with('$') {
        return Err(Problem::field("/topic", "a topic that begins with $ is the broker's own"));
    }
    if topic.levels().take(limits.topic_levels_max + 1).count() > limits.topic_levels_max {
        return Err(Problem::field("/topic", format!("has at most {} levels", limits.topic_levels_max)));
    }
    let payload = match (body.payload, body.payload_base64) {
        (Some(_), Some(_)) => {
            return Err(Problem::field("/payload", "stands for itself or in base64, not both"));
        }
        (Some(text), None) => Bytes::from(text),
        (None, Some(text)) => base64("/payload_base64", &text)?,
        (None, None) => Bytes::new(),
    };
    if u32::try_from(payload.len()).is_ok_and(|bytes| bytes > limits.packet_size_max) {
        return Err(Problem::field("/payload", format!("has at most {} bytes", limits.packet_size_max)));
    }
    let qos = QoS::from_u8(body.qos).ok_or_else(|| Problem::field("/qos", "is 0, 1 or 2"))?;
    let properties = MessageProperties {
        payload_format_indicator: None,
        response_topic: body.response_topic.map(response_topic).transpose()?,
        correlation_data: correlation_data(body.correlation_data_base64.as_deref())?,
        content_type: body.content_type.map(|value| text("/content_type", value)).transpose()?,
        user_properties: user_properties(body.user_properties)?,
    };
    let properties = (properties != MessageProperties::default()).then(|| Box::new(properties));
    let expiry = body.expiry_s.map(|seconds| Duration::from_secs(u64::from(seconds)));
    Ok(Publication { app, topic, payload, qos, retain, expiry, properties })
}

fn response_topic(topic: String) -> Result<TopicName, Problem> {
    TopicName::parse(topic).map_err(|error| Problem::field("/response_topic", error.to_string()))
}

fn correlation_data(encoded: Option<&str>) -> Result<Option<Bytes>, Problem> {
    const FIELD: &str = "/correlation_data_base64";
    let data = encoded.map(|text| base64(FIELD, text)).transpose()?;
    match data.as_ref().is_some_and(|data| data.len() > TEXT_BYTES_MAX) {
        true => Err(Problem::field(FIELD, "has at most 65,535 bytes")),
        false => Ok(data),
    }
}

fn user_properties(given: Vec<UserProperty>) -> Result<Vec<(ByteString, ByteString)>, Problem> {
    if given.len() > USER_PROPERTIES_MAX {
        return Err(Problem::field("/user_properties", format!("are at most {USER_PROPERTIES_MAX}")));
    }
    given
        .into_iter()
        .enumerate()
        .map(|(at, property)| {
            let pointer = |name| format!("/user_properties/{at}/{name}");
            Ok((text(&pointer("name"), property.name)?, text(&pointer("value"), property.value)?))
        })
        .collect()
}

/// A text that MQTT can carry. `[MQTT5-1.5.4-2]`
fn text(pointer: &str, text: String) -> Result<ByteString, Problem> {
    match text.len() > TEXT_BYTES_MAX || text.contains('\0') {
        true => Err(Problem::field(pointer, "has at most 65,535 bytes, none of them U+0000")),
        false => Ok(text.into()),
    }
}

/// Sends it on its way and waits until it is durable.
pub(super) async fn send(api: &Api, publication: Publication) -> Result<axum::Json<Published>, Problem> {
    let shard = api.shard_of(&publication.app, &publication.topic);
    let done = api.wish(shard, Wish::Publish(Box::new(publication))).await?;
    Ok(axum::Json(Published { has_receivers: done != Done::NoReceiver }))
}
