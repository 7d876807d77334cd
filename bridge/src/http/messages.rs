//! `/v1/apps/{app}/messages`: send, follow, withdraw.

pub(super) mod batch;
mod dry_run;
pub(super) mod send;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use reveille_proto::bridge::Strategy;
use reveille_proto::ids::{AppId, MessageId};
use serde_json::{Value, json};

use super::Api;
use super::body::{Page, PageQuery, Params, message_id};
use super::guard::{Guarded, READ, SEND};
use super::problem::{Errno, Problem};
use crate::chores::end_message;
use crate::deliveries::{self, Funnel};
use crate::jobs;
use crate::messages::{self, Message, Origin};
use crate::queues::{self, Out};
use crate::store::{StoreError, Tx};
use crate::webhooks;

/// Messages, newest first.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/messages",
    tag = "messages",
    params(PageQuery),
    responses((status = 200, description = "One page", body = Object)),
)]
pub(super) async fn list(
    Guarded { app, .. }: Guarded<READ>,
    page: Page,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let before = page.after.as_deref().map(|cursor| {
        MessageId::parse(cursor)
            .map_err(|_| Problem::because(Errno::InvalidQuery, "after is a cursor of the page before"))
    });
    let (before, limit) = (before.transpose()?, page.limit);
    let found = shared
        .store
        .read(move |tx| {
            let found = messages::list(tx, &app, before, limit)?;
            found.into_iter().map(|message| with_funnel(tx, message)).collect::<Result<Vec<_>, StoreError>>()
        })
        .await?;
    let last = found.last().map(|(message, _)| message.id.to_string());
    let now_ms = shared.store.now_ms();
    let shown = found.iter().map(|(message, funnel)| show_message(message, funnel, now_ms));
    Ok(page.answer(shown.collect(), last))
}

fn with_funnel(tx: &Tx<'_>, message: Message) -> Result<(Message, Funnel), StoreError> {
    let funnel = deliveries::funnel(tx, &message.app, message.id)?;
    Ok((message, funnel))
}

/// One message with its live funnel.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/messages/{message}",
    tag = "messages",
    responses((status = 200, description = "The message with its funnel", body = Object)),
)]
pub(super) async fn show(
    Guarded { app, .. }: Guarded<READ>,
    Params((_, id)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let id = message_id(&id)?;
    let found = shared
        .store
        .read(move |tx| {
            let message = messages::load(tx, &app, id)?;
            message.map(|message| with_funnel(tx, message)).transpose()
        })
        .await?;
    let (message, funnel): (Message, Funnel) = found.ok_or_else(|| Problem::new(Errno::MessageUnknown))?;
    Ok(axum::Json(show_message(&message, &funnel, shared.store.now_ms())))
}

/// Withdraws a message: out of every queue, and no vendor is called any more. What a vendor has is not undone.
#[utoipa::path(
    delete,
    path = "/v1/apps/{app}/messages/{message}",
    tag = "messages",
    responses((status = 202, description = "Withdrawn", body = Object)),
)]
pub(super) async fn withdraw(
    Guarded { app, .. }: Guarded<SEND>,
    Params((_, id)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let id = message_id(&id)?;
    let state = shared.store.write(move |tx| recall(tx, &app, id)).await?;
    let state = state.ok_or_else(|| Problem::new(Errno::MessageUnknown))?;
    Ok((StatusCode::ACCEPTED, axum::Json(json!({"id": id.to_string(), "state": state}))))
}

/// The state from then on; `None` for a message that is not known. One that has not begun is cancelled: nothing left.
pub(super) fn recall(
    tx: &mut Tx<'_>,
    app: &AppId,
    id: MessageId,
) -> Result<Option<&'static str>, StoreError> {
    let Some(mut message) = messages::load(tx, app, id)? else { return Ok(None) };
    let state = if message.is_waiting { "cancelled" } else { "recalled" };
    if message.recalled_at_ms.is_some() {
        return Ok(Some(state));
    }
    message.recalled_at_ms = Some(tx.now_ms());
    messages::save(tx, &message)?;
    messages::tell(tx, &message, webhooks::MESSAGE_RECALLED)?;
    end_message(tx, app, id)?;
    let may_be_queued = message.strategy != Strategy::VendorOnly || !message.by_vendor.is_empty();
    if may_be_queued && !message.is_waiting {
        queues::tell_broker(tx, &Out::Withdraw { app: app.clone(), message: id })?;
    }
    Ok(Some(state))
}

/// `POST …/messages/{id}:pause` and `:resume`: no push goes out for now; it goes on.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/messages/{message}",
    tag = "messages",
    responses((status = 200, description = "The message with its funnel", body = Object)),
)]
pub(super) async fn act(
    Guarded { app, .. }: Guarded<SEND>,
    Params((_, path)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let (id, is_pause) = match path.split_once(':') {
        Some((id, "pause")) => (message_id(id)?, true),
        Some((id, "resume")) => (message_id(id)?, false),
        Some(_) | None => return Err(Problem::new(Errno::MethodNotAllowed)),
    };
    let found = shared.store.write(move |tx| pause(tx, &app, id, is_pause)).await?;
    let (message, funnel) = found.ok_or_else(|| Problem::new(Errno::MessageUnknown))?;
    Ok(axum::Json(show_message(&message, &funnel, shared.store.now_ms())))
}

/// Repeating it changes nothing, nor does it for a message that is over.
fn pause(
    tx: &mut Tx<'_>,
    app: &AppId,
    id: MessageId,
    is_pause: bool,
) -> Result<Option<(Message, Funnel)>, StoreError> {
    let Some(mut message) = messages::load(tx, app, id)? else { return Ok(None) };
    if message.paused_at_ms.is_some() != is_pause {
        message.paused_at_ms = is_pause.then(|| tx.now_ms());
        messages::save(tx, &message)?;
        if !is_pause {
            jobs::resume(tx, app, id)?;
        }
    }
    with_funnel(tx, message).map(Some)
}

/// What people call the state of a message.
pub(crate) fn state(message: &Message, funnel: &Funnel) -> &'static str {
    match message {
        Message { recalled_at_ms: Some(_), is_waiting: true, .. } => "cancelled",
        Message { recalled_at_ms: Some(_), .. } => "recalled",
        Message { paused_at_ms: Some(_), .. } if !message.is_expanded || funnel.in_flight > 0 => "paused",
        Message { is_waiting: true, .. } => "scheduled",
        Message { is_expanded: false, .. } => "expanding",
        _ if funnel.in_flight > 0 => "sending",
        _ => "done",
    }
}

fn show_message(message: &Message, funnel: &Funnel, now_ms: u64) -> Value {
    let (origin, topic) = match &message.origin {
        Origin::Http => ("http", None),
        Origin::Mqtt { topic } => ("mqtt", Some(topic)),
    };
    json!({
        "id": message.id.to_string(),
        "state": state(message, funnel),
        "origin": origin,
        "topic": topic,
        "content": message.content,
        "strategy": message.strategy.name(),
        "by_vendor": message.by_vendor,
        "wait_ack_ms": message.wait_ack_ms,
        "accepted_at_ms": message.accepted_at_ms,
        "expires_at_ms": message.expires_at_ms,
        "recalled_at_ms": message.recalled_at_ms,
        "paused_at_ms": message.paused_at_ms,
        "collapse_key": message.collapse_key,
        "priority": message.priority,
        "class": message.class,
        "policy": message.policy,
        "urgent": message.is_urgent,
        "inbox_until_ms": message.inbox_until_ms,
        "reference": message.reference,
        "campaign": message.campaign,
        "template": message.template,
        "schedule": message.schedule,
        "begins_at_ms": message.begins_at_ms(),
        "rate_per_s": message.speed.rate_per_s,
        "spread_minutes": message.speed.spread_minutes,
        "progress": show_progress(message, funnel, now_ms),
        "funnel": Funnel { pace: None, ..funnel.clone() },
    })
}

/// How far a message is, how fast it goes, and when it will be through at this pace.
fn show_progress(message: &Message, funnel: &Funnel, now_ms: u64) -> Value {
    let of = if message.is_expanded { funnel.targeted } else { message.estimate.max(funnel.targeted) };
    let per_s = if message.is_paused() { 0 } else { funnel.per_s(now_ms) };
    let left = of - funnel.done();
    json!({
        "expanded": funnel.targeted,
        "of_estimated": of,
        "done": funnel.done(),
        "per_s": per_s,
        "eta_s": left.checked_div(per_s).filter(|_| left > 0),
    })
}
