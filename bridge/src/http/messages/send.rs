//! `POST /v1/apps/{app}/messages`: checked, made durable together with the key of the request, then 202.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Response};
use reveille_proto::bridge::Strategy;
use reveille_proto::ids::AppId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::apps::sha256;
use crate::config::{TTL_MAX_S, WAIT_ACK_MS};
use crate::facts::keep_new;

use super::dry_run::rehearse;
use crate::http::Api;
use crate::http::audiences::{self, AudienceBody};
use crate::http::body::{Errors, Json};
use crate::http::guard::{Guarded, SEND};
use crate::http::problem::{Errno, Problem};
use crate::jobs::{self, Task};
use crate::lane::Class;
use crate::messages::{Content, Message, Notification, Origin, new_id};
use crate::policies;
use crate::queues::{self, Check};
use crate::rules::Rules;
use crate::store::{Space, StoreError, Tx, keys};
use crate::vendor::{Priority, VendorName, is_reserved_data_key};

/// Audiences of up to so many devices are expanded before the answer; larger ones by a job after it.
const EXPANDED_AT_ONCE: u64 = 100;
/// A message for more devices than this waits behind smaller ones.
const BULK_OVER: u64 = 100;
const TITLE_MAX: usize = 1024;
const TEXT_MAX: usize = 16 * 1024;
const DATA_BYTES_MAX: usize = 64 * 1024;
const KEY_MAX: usize = 255;
/// APNs allows no longer collapse id.
const COLLAPSE_KEY_MAX: usize = 64;

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DeliveryBody {
    strategy: Option<String>,
    #[serde(default)]
    #[schema(value_type = Object)]
    by_vendor: BTreeMap<VendorName, String>,
    wait_ack_ms: Option<u64>,
    ttl_s: Option<u64>,
    collapse_key: Option<String>,
    #[serde(default)]
    priority: Priority,
    category: Option<String>,
    class: Option<Class>,
    /// Whether it goes at once whatever its policy says.
    #[serde(default)]
    urgent: bool,
}

/// The body of a send.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct SendBody {
    audience: AudienceBody,
    notification: Option<Notification>,
    #[serde(default)]
    #[schema(value_type = Object)]
    data: Map<String, Value>,
    #[serde(default)]
    delivery: DeliveryBody,
    #[serde(default)]
    #[schema(value_type = Object)]
    overrides: BTreeMap<VendorName, Map<String, Value>>,
    campaign: Option<String>,
    /// The name of the policy that it is under; else the one of its category.
    policy: Option<String>,
    reference: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

/// An answer that is replayed to whoever repeats the request.
#[derive(Serialize, Deserialize)]
struct KeptAnswer {
    body_hash: Vec<u8>,
    answer: Value,
}

/// Accepts a message.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/messages",
    tag = "messages",
    request_body = SendBody,
    responses((status = 200, description = "A dry run", body = Object), (status = 202, description = "Accepted and durable", body = Object)),
)]
pub(in crate::http) async fn send(
    Guarded { app, caller }: Guarded<SEND>,
    State(shared): State<Api>,
    headers: HeaderMap,
    Json(body, bytes): Json<SendBody>,
) -> Result<Response, Problem> {
    let key = header_of(&headers)?.map(|key| idempotency_key(&app, &caller.key_id, &key));
    let sent = send_one(&shared, &app, key, body, &bytes).await?;
    let (status, is_replay) = (sent.status(), matches!(sent, Sent::Before(_)));
    let replayed = is_replay.then_some([("idempotent-replayed", "true")]);
    Ok((status, replayed.map(AppendHeaders), axum::Json(sent.answer())).into_response())
}

/// What became of a message that could be sent.
pub(in crate::http) enum Sent {
    /// Accepted now.
    Now(Value),
    /// Accepted by an earlier call with the same key.
    Before(Value),
    /// Only looked at.
    Dry(Value),
}

impl Sent {
    /// The status of its answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Now(_) | Self::Before(_) => StatusCode::ACCEPTED,
            Self::Dry(_) => StatusCode::OK,
        }
    }

    /// Its answer.
    pub fn answer(self) -> Value {
        match self {
            Self::Now(answer) | Self::Before(answer) | Self::Dry(answer) => answer,
        }
    }
}

/// Accepts one message, or looks at it only.
pub(in crate::http) async fn send_one(
    shared: &Api,
    app: &AppId,
    key: Option<Vec<u8>>,
    body: SendBody,
    bytes: &[u8],
) -> Result<Sent, Problem> {
    let is_dry = body.dry_run;
    let mut message = message(body, app, &shared.rules, shared.store.now_ms())?;
    if is_dry {
        return rehearse(shared, message).await.map(Sent::Dry);
    }
    let idempotency = key.map(|key| Idempotency { key, body_hash: sha256(bytes).to_vec() });
    // Before the audience is looked at: a segment that it names may be gone since.
    if let Some(idempotency) = idempotency.clone()
        && let Some(answer) = shared.store.read(move |tx| idempotency.answered(tx)).await?
    {
        return Ok(Sent::Before(answer));
    }
    let (audience, estimate) = audiences::count(shared, app, message.audience).await?;
    message.audience = audience;
    let rules = shared.rules;
    let accepted = move |tx: &mut Tx<'_>| accept(tx, &rules, message, estimate, idempotency);
    let sent = shared.store.write(accepted).await?;
    if let Sent::Now(_) = sent {
        shared.metrics.messages.inc();
    }
    Ok(sent)
}

/// `POST …/messages:validate`: checks a body and says what sending it would do.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/messages:validate",
    tag = "messages",
    request_body = SendBody,
    responses((status = 200, description = "What sending it would do", body = Object)),
)]
pub(in crate::http) async fn validate(
    Guarded { app, .. }: Guarded<SEND>,
    State(shared): State<Api>,
    Json(body, _): Json<SendBody>,
) -> Result<impl IntoResponse, Problem> {
    let message = message(body, &app, &shared.rules, shared.store.now_ms())?;
    Ok(axum::Json(rehearse(&shared, message).await?))
}

/// The header `Idempotency-Key`.
pub(in crate::http) fn header_of(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(header) = headers.get("idempotency-key") else { return Ok(None) };
    let text = header.to_str().ok().filter(|text| (1..=KEY_MAX).contains(&text.len()));
    text.map(|text| Some(text.to_owned())).ok_or_else(|| Problem::new(Errno::InvalidIdempotencyKey))
}

/// Where the answer to a request with this key is kept: each API key has its own.
pub(in crate::http) fn idempotency_key(app: &AppId, key_id: &str, text: &str) -> Vec<u8> {
    keys::idempotency(app, key_id, text)
}

/// What a request is known by when it is repeated.
#[derive(Clone)]
struct Idempotency {
    key: Vec<u8>,
    body_hash: Vec<u8>,
}

impl Idempotency {
    /// The answer of an earlier call.
    ///
    /// # Errors
    /// The key came with another body, or the store failed.
    fn answered(&self, tx: &Tx<'_>) -> Result<Option<Value>, Problem> {
        let kept = tx.load::<KeptAnswer>(Space::Messages, &self.key)?;
        match kept {
            Some(kept) if kept.body_hash == self.body_hash => Ok(Some(kept.answer)),
            Some(_) => Err(Problem::new(Errno::IdempotencyMismatch)),
            None => Ok(None),
        }
    }

    fn keep(self, tx: &mut Tx<'_>, rules: &Rules, answer: Value) -> Result<(), StoreError> {
        let Self { key, body_hash } = self;
        tx.save(Space::Messages, key.clone(), &KeptAnswer { body_hash, answer })?;
        let end_ms = tx.now_ms().saturating_add(rules.idempotency_ms);
        queues::check_at(tx, end_ms, &Check::ForgetAnswer { key })
    }
}

/// One transaction: the key of the request, the message, and the work. So a request is done once or not at all.
fn accept(
    tx: &mut Tx<'_>,
    rules: &Rules,
    mut message: Message,
    estimate: u64,
    idempotency: Option<Idempotency>,
) -> Result<Sent, Problem> {
    if let Some(idempotency) = &idempotency
        && let Some(answer) = idempotency.answered(tx)?
    {
        return Ok(Sent::Before(answer));
    }
    let (app, id) = (message.app.clone(), message.id);
    find_policy(tx, &mut message)?;
    (message.estimate, message.is_bulk) = (estimate, estimate > BULK_OVER);
    keep_new(tx, rules, &message, true)?;
    jobs::begin(tx, &app, id, Task::Expand(Default::default()))?;
    if estimate <= EXPANDED_AT_ONCE {
        jobs::step(tx, rules, &app, id)?;
    }
    let answer = json!({"id": id.to_string(), "state": "accepted", "audience_estimate": estimate});
    if let Some(idempotency) = idempotency {
        idempotency.keep(tx, rules, answer.clone())?;
    }
    Ok(Sent::Now(answer))
}

/// The policy that the message names must be there; one that names none may have one by its category.
pub(super) fn find_policy(tx: &Tx<'_>, message: &mut Message) -> Result<(), Problem> {
    match &message.policy {
        Some(name) if policies::load(tx, &message.app, name)?.is_none() => {
            Err(Problem::field("/policy", "is the name of no policy"))
        }
        Some(_) => Ok(()),
        None => {
            let category = message.category();
            let found = category.map(|category| policies::of_category(tx, &message.app, category));
            message.policy = found.transpose()?.flatten();
            Ok(())
        }
    }
}

fn message(body: SendBody, app: &AppId, rules: &Rules, now_ms: u64) -> Result<Message, Problem> {
    let mut errors = Errors::default();
    let audience = body.audience.check(&mut errors);
    let mut notification = body.notification;
    if let (Some(notification), Some(category)) = (&mut notification, &body.delivery.category) {
        notification.category.get_or_insert_with(|| category.clone());
    }
    check_content(notification.as_ref(), &body.data, &mut errors);
    let delivery = body.delivery;
    let strategy = strategy(delivery.strategy.as_deref(), &delivery.by_vendor, &mut errors);
    let (wait_ack_ms, ttl_ms) = times(&delivery, rules, &mut errors);
    for (pointer, text, max) in [
        ("/delivery/collapse_key", &delivery.collapse_key, COLLAPSE_KEY_MAX),
        ("/campaign", &body.campaign, KEY_MAX),
        ("/reference", &body.reference, KEY_MAX),
    ] {
        errors.check_text(pointer, text.as_deref(), max);
    }
    errors.or_ok()?;
    Ok(Message {
        origin: Origin::Http,
        content: Some(Content { notification, data: body.data }),
        strategy,
        by_vendor: delivery.by_vendor,
        wait_ack_ms,
        expires_at_ms: Some(now_ms.saturating_add(ttl_ms)),
        collapse_key: delivery.collapse_key,
        priority: delivery.priority,
        class: delivery.class,
        policy: body.policy,
        is_urgent: delivery.urgent,
        overrides: body
            .overrides
            .into_iter()
            .map(|(vendor, fields)| (vendor, Value::Object(fields)))
            .collect(),
        audience,
        is_expanded: false,
        reference: body.reference,
        campaign: body.campaign,
        ..Message::unknown(app, new_id(), now_ms)
    })
}

fn check_content(notification: Option<&Notification>, data: &Map<String, Value>, errors: &mut Errors) {
    if notification.is_none() && data.is_empty() {
        errors.add("", "has neither notification nor data");
    }
    if let Some(notification) = notification {
        if notification.title.is_none() && notification.body.is_none() {
            errors.add("/notification", "has neither title nor body");
        }
        errors.check_text("/notification/title", notification.title.as_deref(), TITLE_MAX);
        errors.check_text("/notification/body", notification.body.as_deref(), TEXT_MAX);
    }
    for key in data.keys().filter(|key| is_reserved_data_key(key)) {
        errors.add(
            format!("/data/{}", key.replace('~', "~0").replace('/', "~1")),
            "is a name that vendors reserve",
        );
    }
    if serde_json::to_vec(data).map_or(0, |bytes| bytes.len()) > DATA_BYTES_MAX {
        errors.add("/data", format!("has at most {DATA_BYTES_MAX} bytes as JSON"));
    }
}

fn strategy(name: Option<&str>, by_vendor: &BTreeMap<VendorName, String>, errors: &mut Errors) -> Strategy {
    const KNOWN: &str = "is one of online_first, vendor_only, online_only, vendor_first, both_dedup";
    for (vendor, name) in by_vendor {
        if Strategy::from_name(name).is_none() {
            errors.add(format!("/delivery/by_vendor/{vendor}"), KNOWN);
        }
    }
    let strategy = name.map_or(Some(Strategy::OnlineFirst), Strategy::from_name);
    strategy.unwrap_or_else(|| {
        errors.add("/delivery/strategy", KNOWN);
        Strategy::OnlineFirst
    })
}

fn times(delivery: &DeliveryBody, rules: &Rules, errors: &mut Errors) -> (u64, u64) {
    let wait_ack_ms = delivery.wait_ack_ms.unwrap_or(rules.wait_ack_ms);
    if !WAIT_ACK_MS.contains(&wait_ack_ms) {
        errors.add("/delivery/wait_ack_ms", "is 100 to 60,000");
    }
    let ttl_ms = delivery.ttl_s.map_or(rules.ttl_ms, |ttl_s| ttl_s.saturating_mul(1000));
    if !(1..=TTL_MAX_S * 1000).contains(&ttl_ms) {
        errors.add("/delivery/ttl_s", "is 1 to 2,419,200");
    }
    (wait_ack_ms, ttl_ms)
}
