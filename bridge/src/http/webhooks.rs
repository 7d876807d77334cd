//! `/v1/apps/{app}/webhooks`: who is told what happens, what became of it, and what is told again.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::Api;
use super::body::{Json, Page, PageQuery, Params};
use super::guard::{ADMIN, Guarded};
use super::problem::{Errno, Problem};
use crate::apps::Caller;
use crate::store::{StoreError, Tx};
use crate::vendor::{Secret, check_ca};
use crate::webhooks::{self, Hook, Ledger, Letter, Pattern, Webhook, post};

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

fn show_one(webhook: &Webhook, ledger: &Ledger) -> Value {
    json!({
        "id": webhook.id,
        "url": webhook.url,
        "events": webhook.events,
        "updated_at_ms": webhook.updated_at_ms,
        "waiting": ledger.waiting,
        "dead": ledger.dead,
        "dropped": ledger.dropped,
    })
}

/// Makes a webhook. A secret that was made here is in this answer and nowhere else.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/webhooks",
    tag = "webhooks",
    request_body = Wanted,
    responses((status = 201, description = "The webhook", body = Object)),
)]
pub(super) async fn create(
    Guarded { app, caller }: Guarded<ADMIN>,
    State(shared): State<Api>,
    Json(mut wanted, _): Json<Wanted>,
) -> Result<impl IntoResponse, Problem> {
    wanted.check(&shared, &caller)?;
    let given = wanted.secret.take();
    let made = given.is_none().then(new_secret);
    let secret = given.or_else(|| made.clone()).unwrap_or_default();
    let id = uuid::Uuid::now_v7().to_string();
    let webhook = wanted.into_webhook(id, secret, &caller, shared.store.now_ms());
    let kept = webhook.clone();
    let has_room = shared.store.write(move |tx: &mut Tx<'_>| webhooks::save(tx, &app, &kept)).await?;
    if !has_room {
        return Err(Problem::because(Errno::TooManyWebhooks, format!("at most {}", webhooks::WEBHOOKS_MAX)));
    }
    let mut answer = show_one(&webhook, &Ledger::default());
    if let (Value::Object(fields), Some(made)) = (&mut answer, made) {
        fields.insert("secret".to_owned(), made.into());
    }
    Ok((StatusCode::CREATED, axum::Json(answer)))
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
    responses((status = 200, description = "The webhook", body = Object)),
)]
pub(super) async fn set(
    Guarded { app, caller }: Guarded<ADMIN>,
    Params((_, id)): Params<(String, String)>,
    State(shared): State<Api>,
    Json(mut wanted, _): Json<Wanted>,
) -> Result<impl IntoResponse, Problem> {
    wanted.check(&shared, &caller)?;
    let given = wanted.secret.take();
    let hook = (app, id);
    let now_ms = shared.store.now_ms();
    let shown = shared
        .store
        .write(move |tx: &mut Tx<'_>| {
            let known = load(tx, &hook)?;
            let secret = given.unwrap_or_else(|| known.secret.reveal().to_owned());
            let webhook = wanted.into_webhook(known.id, secret, &caller, now_ms);
            webhooks::save(tx, &hook.0, &webhook)?;
            Ok::<_, Problem>(show_one(&webhook, &webhooks::ledger(tx, &hook)?))
        })
        .await?;
    Ok(axum::Json(shown))
}

fn load(tx: &Tx<'_>, hook: &Hook) -> Result<Webhook, Problem> {
    webhooks::load(tx, hook)?.ok_or_else(|| Problem::new(Errno::WebhookUnknown))
}

/// Every webhook of an app.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/webhooks",
    tag = "webhooks",
    responses((status = 200, description = "Every webhook of the app", body = Object)),
)]
pub(super) async fn list(
    Guarded { app, .. }: Guarded<ADMIN>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let read = move |tx: &Tx<'_>| {
        let all = webhooks::list(tx, &app)?;
        let show = |webhook: &Webhook| {
            Ok(show_one(webhook, &webhooks::ledger(tx, &(app.clone(), webhook.id.clone()))?))
        };
        all.iter().map(show).collect::<Result<Vec<_>, StoreError>>()
    };
    Ok(axum::Json(json!({"items": shared.store.read(read).await?})))
}

/// One webhook.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/webhooks/{webhook}",
    tag = "webhooks",
    responses((status = 200, description = "The webhook", body = Object)),
)]
pub(super) async fn show(
    Guarded { app, .. }: Guarded<ADMIN>,
    Params((_, id)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let hook = (app, id);
    let read =
        move |tx: &Tx<'_>| Ok::<_, Problem>(show_one(&load(tx, &hook)?, &webhooks::ledger(tx, &hook)?));
    Ok(axum::Json(shared.store.read(read).await?))
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
    responses((status = 200, description = "One page", body = Object)),
)]
pub(super) async fn attempts(
    Guarded { app, .. }: Guarded<ADMIN>,
    Params((_, id)): Params<(String, String)>,
    page: Page,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let (before, limit, hook) = (cursor(&page)?, page.limit, (app, id));
    let read = move |tx: &Tx<'_>| {
        load(tx, &hook)?;
        Ok::<_, Problem>(webhooks::attempts(tx, &hook, before, limit)?)
    };
    let found = shared.store.read(read).await?;
    let last = found.last().map(|(number, _)| number.to_string());
    Ok(page.answer(found.iter().map(|(_, attempt)| json!(attempt)).collect(), last))
}

/// Events that were given up, oldest first.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/webhooks/{webhook}/dead-letters",
    tag = "webhooks",
    params(PageQuery),
    responses((status = 200, description = "One page", body = Object)),
)]
pub(super) async fn dead_letters(
    Guarded { app, .. }: Guarded<ADMIN>,
    Params((_, id)): Params<(String, String)>,
    page: Page,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let (after, limit, hook) = (cursor(&page)?, page.limit, (app, id));
    let read = move |tx: &Tx<'_>| {
        load(tx, &hook)?;
        Ok::<_, Problem>(webhooks::dead(tx, &hook, after, limit)?)
    };
    let found = shared.store.read(read).await?;
    let last = found.last().map(|(number, _)| number.to_string());
    Ok(page.answer(found.iter().map(|(_, letter)| show_letter(letter)).collect(), last))
}

fn show_letter(letter: &Letter) -> Value {
    json!({
        "id": letter.id,
        "event": letter.name,
        "at_ms": letter.at_ms,
        "data": letter.data,
        "attempts": letter.attempts,
        "reason": letter.reason,
    })
}

fn cursor(page: &Page) -> Result<Option<u64>, Problem> {
    let parsed = page.after.as_deref().map(str::parse::<u64>).transpose();
    parsed.map_err(|_| Problem::because(Errno::InvalidQuery, "after is a cursor of this list"))
}

/// Which dead letters.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Again {
    /// Ids of events; absent: all.
    events: Option<Vec<String>>,
}

/// `POST …/webhooks/{id}:replay`: lets dead letters wait again, behind those that wait already.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/webhooks/{webhook}",
    tag = "webhooks",
    request_body = Again,
    responses((status = 202, description = "Told again", body = Object)),
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
            return Ok((StatusCode::ACCEPTED, axum::Json(json!({"replayed": replayed}))));
        }
    }
}
