//! `/v1/apps/{app}/webhooks`: who is told what happens, what became of it, and what is told again.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Api;
use super::body::{Json, Params};
use super::etag::{self, IfMatch};
use super::guard::{ADMIN, Guarded};
use super::idempotency::{IdempotencyHeader, Once};
use super::paging::{Listed, Page, PageQuery};
use super::problem::{Errno, Problem};
use crate::apps::Caller;
use crate::store::{Order, StoreError, Tx};
use crate::vendor::{Secret, check_ca};
use crate::webhooks::{self, Attempt, Hook, Ledger, Letter, Pattern, Webhook, post};

/// Shortest secret: nobody guesses 16 characters.
const SECRET_MIN: usize = 16;
/// Longest secret.
const SECRET_MAX: usize = 256;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    url: String,
    #[schema(value_type = Vec<String>)]
    events: Vec<Pattern>,
    /// Absent: made here, and shown this once; at a replacement it stays.
    secret: Option<String>,
    ca_pem: Option<String>,
}

impl Wanted {
    fn check(&self, shared: &Api, caller: &Caller) -> Result<(), Problem> {
        post::check_url(&self.url, caller.is_operator(), &shared.webhook_hosts)
            .and_then(|()| check_ca(self.ca_pem.as_deref()))
            .map_err(|error| Problem::field(format!("/{}", error.field), error.problem))?;
        if self.events.is_empty() {
            return Err(Problem::field("/events", "names at least one event, or *"));
        }
        match &self.secret {
            Some(secret) if !(SECRET_MIN..=SECRET_MAX).contains(&secret.len()) => {
                Err(Problem::field("/secret", "has 16 to 256 bytes"))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn into_webhook(self, id: String, secret: String, caller: &Caller, now_ms: u64) -> Webhook {
        Webhook {
            id,
            url: self.url,
            secret: Secret::new(secret),
            events: self.events,
            ca_pem: self.ca_pem,
            is_operators: caller.is_operator(),
            updated_at_ms: now_ms,
        }
    }
}

/// A webhook, with what waits for it.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = Webhook)]
pub(super) struct WebhookView {
    id: String,
    url: String,
    #[schema(value_type = Vec<String>)]
    events: Vec<Pattern>,
    updated_at_ms: u64,
    /// Events that wait.
    waiting: u64,
    /// Events that were given up and are kept.
    dead: u64,
    /// Events for which there was no room.
    dropped: u64,
    /// Where it was made just now: the only time that it is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl WebhookView {
    fn of(webhook: &Webhook, ledger: &Ledger) -> Self {
        Self {
            id: webhook.id.clone(),
            url: webhook.url.clone(),
            events: webhook.events.clone(),
            updated_at_ms: webhook.updated_at_ms,
            waiting: ledger.waiting,
            dead: ledger.dead,
            dropped: ledger.dropped,
            secret: None,
        }
    }
}

/// What stands for a webhook and its secret in an ETag.
fn tag(webhook: &Webhook) -> (u64, &str, &[Pattern]) {
    (webhook.updated_at_ms, &webhook.url, &webhook.events)
}

/// Makes a webhook. A secret that was made here is in this answer and nowhere else.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/webhooks",
    tag = "webhooks",
    params(IdempotencyHeader),
    request_body = Wanted,
    responses((status = 201, description = "The webhook", body = WebhookView)),
)]
pub(super) async fn create(
    Guarded { app, caller }: Guarded<ADMIN>,
    State(shared): State<Api>,
    headers: HeaderMap,
    Json(mut wanted, bytes): Json<Wanted>,
) -> Result<Response, Problem> {
    wanted.check(&shared, &caller)?;
    let once = Once::making("webhooks", &app, &caller.key_id, &headers, &bytes)?;
    let given = wanted.secret.take();
    let made = given.is_none().then(new_secret);
    let secret = given.or_else(|| made.clone()).unwrap_or_default();
    let id = uuid::Uuid::now_v7().to_string();
    let webhook = wanted.into_webhook(id, secret, &caller, shared.store.now_ms());
    let rules = shared.rules;
    let make = move |tx: &mut Tx<'_>| match webhooks::save(tx, &app, &webhook)? {
        true => Ok(WebhookView { secret: made, ..WebhookView::of(&webhook, &Ledger::default()) }),
        false => Err(Problem::because(Errno::TooManyWebhooks, format!("at most {}", webhooks::WEBHOOKS_MAX))),
    };
    let done = shared.store.write(move |tx| once.run(tx, &rules, make)).await?;
    Ok(done.answer(StatusCode::CREATED))
}

fn new_secret() -> String {
    rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Replaces a webhook. What waits for it goes to the new address.
#[utoipa::path(
    put,
    path = "/v1/apps/{app}/webhooks/{webhook}",
    tag = "webhooks",
    request_body = Wanted,
    responses((status = 200, description = "The webhook", body = WebhookView)),
)]
pub(super) async fn set(
    Guarded { app, caller }: Guarded<ADMIN>,
    Params((_, id)): Params<(String, String)>,
    headers: HeaderMap,
    State(shared): State<Api>,
    Json(mut wanted, _): Json<Wanted>,
) -> Result<impl IntoResponse, Problem> {
    let if_match = IfMatch::of(&headers);
    wanted.check(&shared, &caller)?;
    let given = wanted.secret.take();
    let hook = (app, id);
    let now_ms = shared.store.now_ms();
    let (webhook, ledger) = shared
        .store
        .write(move |tx: &mut Tx<'_>| {
            let known = load(tx, &hook)?;
            if_match.check(Some(&tag(&known)))?;
            let secret = given.unwrap_or_else(|| known.secret.reveal().to_owned());
            let webhook = wanted.into_webhook(known.id, secret, &caller, now_ms);
            webhooks::save(tx, &hook.0, &webhook)?;
            Ok::<_, Problem>((webhook, webhooks::ledger(tx, &hook)?))
        })
        .await?;
    Ok((etag::header(&tag(&webhook)), axum::Json(WebhookView::of(&webhook, &ledger))))
}

fn load(tx: &Tx<'_>, hook: &Hook) -> Result<Webhook, Problem> {
    webhooks::load(tx, hook)?.ok_or_else(|| Problem::new(Errno::WebhookUnknown))
}

/// Every webhook of an app.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/webhooks",
    tag = "webhooks",
    params(PageQuery),
    responses((status = 200, description = "One page", body = Listed<WebhookView>)),
)]
pub(super) async fn list(
    Guarded { app, .. }: Guarded<ADMIN>,
    page: Page,
    State(shared): State<Api>,
) -> Result<axum::Json<Listed<WebhookView>>, Problem> {
    let read = move |tx: &Tx<'_>| {
        let all = webhooks::list(tx, &app)?;
        let with_ledger = |webhook: Webhook| {
            let ledger = webhooks::ledger(tx, &(app.clone(), webhook.id.clone()))?;
            Ok((webhook, ledger))
        };
        all.into_iter().map(with_ledger).collect::<Result<Vec<_>, StoreError>>()
    };
    let all = shared.store.read(read).await?;
    let found = page.cut(&all, |(webhook, _)| webhook.id.clone())?;
    Ok(found.show(|(webhook, ledger)| WebhookView::of(&webhook, &ledger)))
}

/// One webhook.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/webhooks/{webhook}",
    tag = "webhooks",
    responses((status = 200, description = "The webhook", body = WebhookView)),
)]
pub(super) async fn show(
    Guarded { app, .. }: Guarded<ADMIN>,
    Params((_, id)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let hook = (app, id);
    let read = move |tx: &Tx<'_>| Ok::<_, Problem>((load(tx, &hook)?, webhooks::ledger(tx, &hook)?));
    let (webhook, ledger) = shared.store.read(read).await?;
    Ok((etag::header(&tag(&webhook)), axum::Json(WebhookView::of(&webhook, &ledger))))
}

/// Removes a webhook with all that waits for it.
#[utoipa::path(
    delete,
    path = "/v1/apps/{app}/webhooks/{webhook}",
    tag = "webhooks",
    responses((status = 204, description = "Done")),
)]
pub(super) async fn remove(
    Guarded { app, .. }: Guarded<ADMIN>,
    Params((_, id)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let hook = (app, id);
    shared
        .store
        .write(move |tx: &mut Tx<'_>| {
            load(tx, &hook)?;
            Ok::<_, Problem>(webhooks::remove(tx, &hook)?)
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Calls of a webhook, newest first.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/webhooks/{webhook}/attempts",
    tag = "webhooks",
    params(PageQuery),
    responses((status = 200, description = "One page", body = Listed<Attempt>)),
)]
pub(super) async fn attempts(
    Guarded { app, .. }: Guarded<ADMIN>,
    Params((_, id)): Params<(String, String)>,
    page: Page,
    State(shared): State<Api>,
) -> Result<axum::Json<Listed<Attempt>>, Problem> {
    let hook = (app, id);
    let read = move |tx: &Tx<'_>| {
        load(tx, &hook)?;
        let read = |from: Option<&str>, order, limit| {
            Ok::<_, Problem>(webhooks::attempts(tx, &hook, number(from)?, order, limit)?)
        };
        page.walk(Order::Backward, read, |(number, _)| number.to_string())
    };
    Ok(shared.store.read(read).await?.show(|(_, attempt)| attempt))
}

/// An event that was given up.
#[derive(Serialize, ToSchema)]
pub(super) struct DeadLetter {
    /// The event's id.
    id: String,
    event: String,
    /// When it happened.
    at_ms: u64,
    /// What the receiver would have got.
    #[schema(value_type = Object)]
    data: Value,
    attempts: u32,
    /// How the last attempt ended.
    reason: String,
}

impl From<Letter> for DeadLetter {
    fn from(letter: Letter) -> Self {
        let Letter { id, name: event, at_ms, data, attempts, reason, .. } = letter;
        Self { id, event, at_ms, data, attempts, reason }
    }
}

/// Events that were given up, oldest first.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/webhooks/{webhook}/dead-letters",
    tag = "webhooks",
    params(PageQuery),
    responses((status = 200, description = "One page", body = Listed<DeadLetter>)),
)]
pub(super) async fn dead_letters(
    Guarded { app, .. }: Guarded<ADMIN>,
    Params((_, id)): Params<(String, String)>,
    page: Page,
    State(shared): State<Api>,
) -> Result<axum::Json<Listed<DeadLetter>>, Problem> {
    let hook = (app, id);
    let read = move |tx: &Tx<'_>| {
        load(tx, &hook)?;
        let read = |from: Option<&str>, order, limit| {
            Ok::<_, Problem>(webhooks::dead(tx, &hook, number(from)?, order, limit)?)
        };
        page.walk(Order::Forward, read, |(number, _)| number.to_string())
    };
    Ok(shared.store.read(read).await?.show(|(_, letter)| letter.into()))
}

fn number(cursor: Option<&str>) -> Result<Option<u64>, Problem> {
    let parsed = cursor.map(str::parse::<u64>).transpose();
    parsed.map_err(|_| Problem::because(Errno::InvalidCursor, "no cursor of this list"))
}

/// Which dead letters.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Again {
    /// Ids of events; absent: all.
    events: Option<Vec<String>>,
}

/// What is told again.
#[derive(Serialize, ToSchema)]
pub(super) struct Replayed {
    /// How many events wait again.
    replayed: u64,
}

/// `POST …/webhooks/{id}:replay`: lets dead letters wait again, behind those that wait already.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/webhooks/{webhook}",
    tag = "webhooks",
    request_body = Again,
    responses((status = 202, description = "Told again", body = Replayed)),
)]
pub(super) async fn act(
    Guarded { app, .. }: Guarded<ADMIN>,
    Params((_, name)): Params<(String, String)>,
    State(shared): State<Api>,
    Json(again, _): Json<Again>,
) -> Result<impl IntoResponse, Problem> {
    let id = name.strip_suffix(":replay").ok_or_else(|| Problem::new(Errno::MethodNotAllowed))?;
    let hook = (app, id.to_owned());
    let (mut replayed, mut after) = (0, None);
    loop {
        let (hook, wanted) = (hook.clone(), again.events.clone());
        let write = move |tx: &mut Tx<'_>| {
            load(tx, &hook)?;
            Ok::<_, Problem>(webhooks::replay(tx, &hook, after, wanted.as_deref())?)
        };
        let (count, last) = shared.store.write(write).await?;
        replayed += count;
        after = last;
        if after.is_none() {
            return Ok((StatusCode::ACCEPTED, axum::Json(Replayed { replayed })));
        }
    }
}
