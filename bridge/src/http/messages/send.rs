//! `POST /v1/apps/{app}/messages`: checked, made durable together with the key of the request, then 202.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use reveille_proto::bridge::Strategy;
use reveille_proto::ids::AppId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::apps::Caller;
use crate::audit;
use crate::config::{TTL_MAX_S, WAIT_ACK_MS};

use super::dry_run::{Rehearsal, rehearse};
use crate::http::Api;
use crate::http::audiences::{self, AudienceBody};
use crate::http::body::{Errors, Json, parse, within};
use crate::http::guard::{Limited, SEND};
use crate::http::idempotency::{Done, IdempotencyHeader, Once, header};
use crate::http::problem::Problem;
use crate::inbox::KEEP_MAX_S;
use crate::lane::Class;
use crate::languages::{DEFAULT, is_language};
use crate::messages::{Content, Message, Notification, Origin, Texts, new_id};
use crate::pace::Speed;
use crate::policies;
use crate::rules::Rules;
use crate::sending;
use crate::starts::{Local, Missed, RECIPIENT, Start};
use crate::store::Tx;
use crate::templates::{self, LANGUAGES_MAX, Reference, TakeError};
use crate::vendor::{Priority, VendorName, is_reserved_data_key};
use crate::zones::{self, Zone};

/// How far ahead a message may begin, in milliseconds: a year.
const AHEAD_MAX_MS: u64 = 366 * 24 * 60 * 60 * 1000;
/// Devices a second at most that can be asked for.
const RATE_MAX: u32 = 100_000;
/// Minutes at most over which an audience is spread: a day.
const SPREAD_MAX: u32 = 24 * 60;
const TITLE_MAX: usize = 1024;
const TEXT_MAX: usize = 16 * 1024;
const DATA_BYTES_MAX: usize = 64 * 1024;
const KEY_MAX: usize = 255;
/// APNs allows no longer collapse id.
const COLLAPSE_KEY_MAX: usize = 64;

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DeliveryBody {
    /// `online_first`, `vendor_only`, `online_only`, `vendor_first` or `both_dedup`.
    #[schema(example = "online_first")]
    strategy: Option<String>,
    #[serde(default)]
    #[schema(value_type = Object)]
    by_vendor: BTreeMap<VendorName, String>,
    #[schema(minimum = 100, maximum = 60_000)]
    wait_ack_ms: Option<u64>,
    #[schema(minimum = 1, maximum = 2_419_200)]
    ttl_s: Option<u64>,
    #[schema(min_length = 1, max_length = 64)]
    collapse_key: Option<String>,
    #[serde(default)]
    priority: Priority,
    category: Option<String>,
    class: Option<Class>,
    /// Whether it goes at once whatever its policy says.
    #[serde(default)]
    urgent: bool,
    /// Devices a second at most.
    #[schema(minimum = 1, maximum = 100_000)]
    rate_per_s: Option<u32>,
    /// Spreads the audience evenly over so many minutes.
    #[schema(minimum = 0, maximum = 1440)]
    spread_minutes: Option<u32>,
    /// Nothing leaves before: a local time as `2026-09-01T09:00:00` in `timezone`, or a moment as
    /// `2026-09-01T09:00:00+08:00`.
    not_before: Option<String>,
    /// A zone as `Europe/Berlin`, or `recipient` for each reader's own clock; without it UTC.
    timezone: Option<String>,
    /// With `recipient`: the zone of devices that name none; without it UTC.
    default_timezone: Option<String>,
}

/// The body of a send.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({
    "audience": {"devices": ["d1"]},
    "notification": {"title": "Order 7 is paid", "click": {"url": "app://order/7"}},
    "data": {"order": 7},
    "delivery": {"ttl_s": 86400, "collapse_key": "order-7"}
}))]
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
    inbox: Option<InboxWish>,
    #[schema(min_length = 1, max_length = 255)]
    campaign: Option<String>,
    /// The name of the policy that it is under; else the one of its category.
    policy: Option<String>,
    /// Takes its texts from this template, filled with `data`: `order_shipped@3`, or `order_shipped` for the newest.
    template: Option<String>,
    #[schema(min_length = 1, max_length = 255)]
    reference: Option<String>,
    #[serde(default)]
    dry_run: bool,
    /// In place of the header `Idempotency-Key`, which wins.
    #[schema(min_length = 1, max_length = 255)]
    request_id: Option<String>,
    /// Another name for `request_id`.
    #[schema(min_length = 1, max_length = 255)]
    cid: Option<String>,
}

/// Whether, and for how long, the message stays in the inboxes of its users.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(untagged, expecting = "is true, false, or {\"expires_s\": seconds}")]
enum InboxWish {
    /// For the configured time, or not at all.
    Simply(bool),
    /// For a time of its own.
    For(KeptFor),
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct KeptFor {
    /// In seconds.
    #[schema(minimum = 60, maximum = 31_622_400)]
    expires_s: u64,
}

impl SendBody {
    /// What the body says the request is known by.
    pub fn key(&self) -> Option<&str> {
        self.request_id.as_deref().or(self.cid.as_deref())
    }
}

/// A message that was accepted.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub(in crate::http) struct Accepted {
    /// Its id.
    pub id: String,
    /// `accepted`; `scheduled` for one that begins later.
    state: String,
    /// How many devices it is for, as far as that can be said before they are looked for.
    pub audience_estimate: u64,
}

/// Accepts a message.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/messages",
    tag = "messages",
    params(IdempotencyHeader),
    request_body = SendBody,
    responses((status = 200, description = "A dry run", body = Rehearsal), (status = 202, description = "Accepted and durable", body = Accepted)),
)]
pub(in crate::http) async fn send(
    Limited { app, caller }: Limited<SEND>,
    State(shared): State<Api>,
    headers: HeaderMap,
    Json(body, bytes): Json<SendBody>,
) -> Result<Response, Problem> {
    let key = match header(&headers)? {
        None => body.key().map(str::to_owned),
        key => key,
    };
    let once = Once::sending(&app, &caller.key_id, key.as_deref(), &bytes);
    send_one(&shared, &app, &caller, once, body).await.map(Sent::answer)
}

/// What became of a message that could be sent.
pub(in crate::http) enum Sent {
    /// Accepted, now or by an earlier call with the same key.
    Accepted(Done<Accepted>),
    /// Only looked at.
    Dry(Rehearsal),
}

impl Sent {
    fn answer(self) -> Response {
        match self {
            Self::Accepted(done) => done.answer(StatusCode::ACCEPTED),
            Self::Dry(rehearsal) => axum::Json(rehearsal).into_response(),
        }
    }
}

/// Accepts one message, or looks at it only.
pub(in crate::http) async fn send_one(
    shared: &Api,
    app: &AppId,
    caller: &Caller,
    once: Once,
    body: SendBody,
) -> Result<Sent, Problem> {
    let is_dry = body.dry_run;
    let mut message = message(body, app, &shared.rules, shared.store.now_ms())?;
    message.audience.within = caller.tags().clone();
    if is_dry {
        return rehearse(shared, message).await.map(Sent::Dry);
    }
    // Before the audience is looked at: a segment that it names may be gone since.
    let (asked, run) = (once.clone(), shared.run);
    if let Some(answer) = shared.store.read(move |tx| asked.answered(tx, run)).await? {
        return Ok(Sent::Accepted(Done::Before(answer)));
    }
    if message.template.is_some() {
        message = shared.store.read(move |tx| with_texts(tx, message)).await?;
    }
    let (audience, estimate) = audiences::count(shared, app, message.audience).await?;
    message.audience = audience;
    let rules = shared.rules;
    if estimate > sending::BULK_OVER {
        audit::request::name(&format!("message {} to {estimate} devices", message.id));
    }
    let work = move |tx: &mut Tx<'_>| once.run(tx, &rules, |tx| accept(tx, &rules, message, estimate));
    let done = shared.store.write(work).await?;
    if let Done::Now(_) = done {
        shared.metrics.messages.inc();
    }
    Ok(Sent::Accepted(done))
}

/// `POST …/messages:validate`: checks a body and says what sending it would do.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/messages:validate",
    tag = "messages",
    request_body = SendBody,
    responses((status = 200, description = "What sending it would do", body = Rehearsal)),
)]
pub(in crate::http) async fn validate(
    Limited { app, caller }: Limited<SEND>,
    State(shared): State<Api>,
    Json(body, _): Json<SendBody>,
) -> Result<axum::Json<Rehearsal>, Problem> {
    let mut message = message(body, &app, &shared.rules, shared.store.now_ms())?;
    message.audience.within = caller.tags().clone();
    Ok(axum::Json(rehearse(&shared, message).await?))
}

/// A message from a body that stands within another one.
pub(in crate::http) fn outline(
    body: &Value,
    app: &AppId,
    rules: &Rules,
    now_ms: u64,
) -> Result<Message, Problem> {
    let body = parse::<SendBody>(body.to_string().as_bytes())?;
    if body.dry_run {
        return Err(Problem::field("/dry_run", "has no place here: use messages:validate"));
    }
    let message = message(body, app, rules, now_ms)?;
    match message.audience.topic {
        // Nobody asks the broker when the moment comes.
        Some(_) => Err(Problem::field("/audience/topic", "has no place here: send to a tag or a segment")),
        None => Ok(message),
    }
}

/// In one transaction with the key of the request: the message, and the work. So a request is done once or not at all.
fn accept(tx: &mut Tx<'_>, rules: &Rules, mut message: Message, estimate: u64) -> Result<Accepted, Problem> {
    find_policy(tx, &mut message)?;
    let id = message.id.to_string();
    let state = sending::begin(tx, rules, message, estimate)?;
    Ok(Accepted { id, state: state.to_owned(), audience_estimate: estimate })
}

/// The policy that the message names must be there; one that names none may have one by its category.
pub(in crate::http) fn find_policy(tx: &Tx<'_>, message: &mut Message) -> Result<(), Problem> {
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
    match &body.template {
        Some(named) => check_template(named, notification.as_ref(), &mut errors),
        None => check_notification(notification.as_ref(), body.data.is_empty(), &mut errors),
    }
    check_data(&body.data, &mut errors);
    let delivery = body.delivery;
    let strategy = strategy(delivery.strategy.as_deref(), &delivery.by_vendor, &mut errors);
    let (wait_ack_ms, ttl_ms) = times(&delivery, rules, &mut errors);
    let start = start(&delivery, now_ms, &mut errors);
    let speed = speed(&delivery, ttl_ms, &mut errors);
    let begins_at_ms = start.as_ref().map_or(now_ms, |start| start.last_ms().max(now_ms));
    let inbox_until_ms =
        kept_for_ms(body.inbox, rules, &mut errors).map(|kept_ms| begins_at_ms.saturating_add(kept_ms));
    for (pointer, text, max) in [
        ("/delivery/collapse_key", &delivery.collapse_key, COLLAPSE_KEY_MAX),
        ("/campaign", &body.campaign, KEY_MAX),
        ("/policy", &body.policy, KEY_MAX),
        ("/reference", &body.reference, KEY_MAX),
        ("/request_id", &body.request_id, KEY_MAX),
        ("/cid", &body.cid, KEY_MAX),
    ] {
        errors.check_text(pointer, text.as_deref(), max);
        if text.as_deref().is_some_and(|text| text.contains('\0')) {
            errors.add(pointer, "has no NUL in it");
        }
    }
    errors.or_ok()?;
    Ok(Message {
        origin: Origin::Http,
        content: Some(Content { notification, data: body.data, ..Content::default() }),
        strategy,
        by_vendor: delivery.by_vendor,
        wait_ack_ms,
        expires_at_ms: Some(begins_at_ms.saturating_add(ttl_ms)),
        start,
        speed,
        collapse_key: delivery.collapse_key,
        priority: delivery.priority,
        class: delivery.class,
        policy: body.policy,
        is_urgent: delivery.urgent,
        inbox_until_ms,
        overrides: body
            .overrides
            .into_iter()
            .map(|(vendor, fields)| (vendor, Value::Object(fields)))
            .collect(),
        audience,
        is_expanded: false,
        reference: body.reference,
        campaign: body.campaign,
        template: body.template,
        ..Message::unknown(app, new_id(), now_ms)
    })
}

/// Gives a message the texts of the template that it names.
pub(in crate::http) fn with_texts(tx: &Tx<'_>, mut message: Message) -> Result<Message, Problem> {
    templates::write_out(tx, &mut message)?;
    Ok(message)
}

impl From<TakeError> for Problem {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::Unknown(_) => Self::field("/template", error.to_string()),
            TakeError::Text { .. } => Self::field("/data", error.to_string()),
            TakeError::Store(error) => error.into(),
        }
    }
}

/// Texts come from the template, what belongs to them from the message.
fn check_template(named: &str, notification: Option<&Notification>, errors: &mut Errors) {
    if Reference::parse(named).is_none() {
        errors.add("/template", "is a template's name, or a name, @ and a version");
    }
    let Some(notification) = notification else { return };
    for (name, is_given) in [
        ("title", notification.title.is_some()),
        ("body", notification.body.is_some()),
        ("i18n", !notification.i18n.is_empty()),
    ] {
        if is_given {
            errors.add(format!("/notification/{name}"), "comes from the template");
        }
    }
}

pub(super) fn check_notification(
    notification: Option<&Notification>,
    has_no_data: bool,
    errors: &mut Errors,
) {
    let Some(notification) = notification else {
        if has_no_data {
            errors.add("", "has neither notification nor data");
        }
        return;
    };
    if notification.title.is_none() && notification.body.is_none() {
        errors.add("/notification", "has neither title nor body");
    }
    errors.check_text("/notification/title", notification.title.as_deref(), TITLE_MAX);
    errors.check_text("/notification/body", notification.body.as_deref(), TEXT_MAX);
    errors.check_languages("/notification/i18n", &notification.i18n, false);
}

impl Errors {
    /// Notes what is wrong with texts by language.
    pub fn check_languages(&mut self, pointer: &str, texts: &BTreeMap<String, Texts>, may_be_default: bool) {
        if texts.len() > LANGUAGES_MAX {
            self.add(pointer, format!("has at most {LANGUAGES_MAX} languages"));
        }
        for (language, texts) in texts {
            let pointer = within(pointer, language);
            if !(is_language(language) || (may_be_default && language == DEFAULT)) {
                self.add(
                    pointer.as_str(),
                    "is no language: two or three letters, then parts after -, as pt-BR",
                );
            }
            if texts.title.is_none() && texts.body.is_none() {
                self.add(pointer.as_str(), "has neither title nor body");
            }
            self.check_text(&format!("{pointer}/title"), texts.title.as_deref(), TITLE_MAX);
            self.check_text(&format!("{pointer}/body"), texts.body.as_deref(), TEXT_MAX);
        }
    }
}

pub(super) fn check_data(data: &Map<String, Value>, errors: &mut Errors) {
    for key in data.keys().filter(|key| is_reserved_data_key(key)) {
        errors.add(within("/data", key), "is a name that vendors reserve");
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

/// When it begins, if that lies ahead: what is past begins now.
fn start(delivery: &DeliveryBody, now_ms: u64, errors: &mut Errors) -> Option<Start> {
    const NOT_BEFORE: &str = "/delivery/not_before";
    let is_recipient = delivery.timezone.as_deref() == Some(RECIPIENT);
    let mut zone = |pointer: &str, name: Option<&str>| match name.map(Zone::find) {
        None => Some(Zone::UTC),
        Some(Some(zone)) => Some(zone),
        Some(None) => {
            errors.add(pointer, "is a time zone of the IANA database, as Europe/Berlin, or recipient");
            None
        }
    };
    let otherwise = zone("/delivery/default_timezone", delivery.default_timezone.as_deref())?;
    let own = zone("/delivery/timezone", delivery.timezone.as_deref().filter(|_| !is_recipient))?;
    if delivery.default_timezone.is_some() && !is_recipient {
        errors.add("/delivery/default_timezone", "goes with the timezone recipient only");
    }
    let Some(text) = &delivery.not_before else {
        if delivery.timezone.is_some() {
            errors.add("/delivery/timezone", "goes with not_before only");
        }
        return None;
    };
    let start = match (zones::parse_local(text), zones::parse_moment(text)) {
        (Some(time), _) if is_recipient => Start::Local(Local { time, otherwise, missed: Missed::RunOnce }),
        (Some(time), _) => Start::At(own.moment_ms(time)),
        (None, Some(at_ms)) if delivery.timezone.is_none() => Start::At(at_ms),
        (None, Some(_)) => {
            errors.add(NOT_BEFORE, "has an offset, so that it goes without a timezone");
            return None;
        }
        (None, None) => {
            errors.add(NOT_BEFORE, "is a local time, as 2026-09-01T09:00:00, or one with an offset");
            return None;
        }
    };
    if start.last_ms() > now_ms.saturating_add(AHEAD_MAX_MS) {
        errors.add(NOT_BEFORE, "lies at most 366 days ahead");
    }
    Some(start).filter(|start| start.last_ms() > now_ms)
}

fn speed(delivery: &DeliveryBody, ttl_ms: u64, errors: &mut Errors) -> Speed {
    let DeliveryBody { rate_per_s, spread_minutes, .. } = *delivery;
    if rate_per_s.is_some_and(|rate| !(1..=RATE_MAX).contains(&rate)) {
        errors.add("/delivery/rate_per_s", "is 1 to 100,000");
    }
    let spread_ms = u64::from(spread_minutes.unwrap_or(0)) * 60_000;
    if spread_minutes.is_some_and(|minutes| minutes > SPREAD_MAX) {
        errors.add("/delivery/spread_minutes", "is 0 to 1,440");
    } else if spread_ms > 0 && spread_ms >= ttl_ms {
        errors.add("/delivery/spread_minutes", "is shorter than the message lives (ttl_s)");
    }
    Speed { rate_per_s, spread_minutes }
}

fn kept_for_ms(wish: Option<InboxWish>, rules: &Rules, errors: &mut Errors) -> Option<u64> {
    match wish? {
        InboxWish::Simply(is_kept) => is_kept.then_some(rules.inbox_ms),
        InboxWish::For(KeptFor { expires_s }) => {
            if !(60..=KEEP_MAX_S).contains(&expires_s) {
                errors.add("/inbox/expires_s", "is 60 to 31,622,400");
            }
            Some(expires_s.saturating_mul(1000))
        }
    }
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
