//! `/v1/apps/{app}/messages`: send, follow, override, withdraw.

pub(super) mod batch;
mod dry_run;
pub(super) mod replacing;
pub(super) mod send;

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use reveille_proto::bridge::Strategy;
use reveille_proto::ids::{AppId, MessageId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::body::{Asked, Params, message_id};
use super::etag;
use super::guard::{Guarded, Limited, READ, SEND};
use super::paging::{Listed, Page, PageQuery};
use super::problem::{Errno, Problem};
use crate::apps::Caller;
use crate::chores::end_message;
use crate::deliveries::{self, Funnel};
use crate::jobs;
use crate::lane::Class;
use crate::messages::{self, Content, Extent, Message, Origin};
use crate::queues::{self, Out};
use crate::store::{Order, StoreError, Tx};
use crate::vendor::{Priority, VendorName};
use crate::webhooks;

/// A message with what became of it.
#[derive(Serialize, ToSchema)]
#[schema(as = Message)]
pub(super) struct MessageView {
    id: String,
    /// `scheduled`, `expanding`, `sending`, `paused`, `done`, `cancelled` or `recalled`.
    state: &'static str,
    /// `http` or `mqtt`.
    origin: &'static str,
    /// Where a publisher published it.
    #[schema(required)]
    topic: Option<String>,
    #[schema(required)]
    content: Option<Content>,
    strategy: &'static str,
    /// The same, for devices whose first device token is at this vendor.
    by_vendor: BTreeMap<VendorName, String>,
    wait_ack_ms: u64,
    accepted_at_ms: u64,
    #[schema(required)]
    expires_at_ms: Option<u64>,
    #[schema(required)]
    recalled_at_ms: Option<u64>,
    #[schema(required)]
    paused_at_ms: Option<u64>,
    /// How often it got another content; 0: never.
    revision: u32,
    #[schema(required)]
    collapse_key: Option<String>,
    priority: Priority,
    #[schema(required)]
    class: Option<Class>,
    /// The policy that it is under.
    #[schema(required)]
    policy: Option<String>,
    /// Whether it goes whatever its policy says.
    urgent: bool,
    /// Until when it stays in inboxes.
    #[schema(required)]
    inbox_until_ms: Option<u64>,
    #[schema(required)]
    reference: Option<String>,
    #[schema(required)]
    campaign: Option<String>,
    /// The template that it has its texts from, with the version.
    #[schema(required)]
    template: Option<String>,
    /// The schedule that made it.
    #[schema(required)]
    schedule: Option<String>,
    begins_at_ms: u64,
    /// Devices a second at most, where it is paced.
    #[schema(required)]
    rate_per_s: Option<u32>,
    /// Minutes over which it is spread, where it is.
    #[schema(required)]
    spread_minutes: Option<u32>,
    progress: Progress,
    funnel: Funnel,
}

/// How far a message is, how fast it goes, and when it will be through at this pace.
#[derive(Serialize, ToSchema)]
struct Progress {
    /// Devices that were found.
    expanded: u64,
    /// Of about so many.
    of_estimated: u64,
    /// Deliveries out of flight.
    done: u64,
    per_s: u64,
    #[schema(required)]
    eta_s: Option<u64>,
}

impl Progress {
    fn of(message: &Message, funnel: &Funnel, now_ms: u64) -> Self {
        let of = if message.is_expanded { funnel.targeted } else { message.estimate.max(funnel.targeted) };
        let per_s = if message.is_paused() { 0 } else { funnel.per_s(now_ms) };
        let left = of - funnel.done();
        Self {
            expanded: funnel.targeted,
            of_estimated: of,
            done: funnel.done(),
            per_s,
            eta_s: left.checked_div(per_s).filter(|_| left > 0),
        }
    }
}

impl MessageView {
    fn of(message: Message, funnel: Funnel, now_ms: u64) -> Self {
        let (state, progress) = (state(&message, &funnel), Progress::of(&message, &funnel, now_ms));
        let begins_at_ms = message.begins_at_ms();
        let (origin, topic) = match message.origin {
            Origin::Http => ("http", None),
            Origin::Mqtt { topic } => ("mqtt", Some(topic)),
        };
        Self {
            id: message.id.to_string(),
            state,
            origin,
            topic,
            content: message.content,
            strategy: message.strategy.name(),
            by_vendor: message.by_vendor,
            wait_ack_ms: message.wait_ack_ms,
            accepted_at_ms: message.accepted_at_ms,
            expires_at_ms: message.expires_at_ms,
            recalled_at_ms: message.recalled_at_ms,
            paused_at_ms: message.paused_at_ms,
            revision: message.revision,
            collapse_key: message.collapse_key,
            priority: message.priority,
            class: message.class,
            policy: message.policy,
            urgent: message.is_urgent,
            inbox_until_ms: message.inbox_until_ms,
            reference: message.reference,
            campaign: message.campaign,
            template: message.template,
            schedule: message.schedule,
            begins_at_ms,
            rate_per_s: message.speed.rate_per_s,
            spread_minutes: message.speed.spread_minutes,
            progress,
            funnel: Funnel { pace: None, ..funnel },
        }
    }

    /// With the name of what may be changed: the message without its counts.
    fn answer(message: Message, funnel: Funnel, now_ms: u64) -> impl IntoResponse + use<> {
        (etag::header(&message), axum::Json(Self::of(message, funnel, now_ms)))
    }
}

/// Messages, newest first.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/messages",
    tag = "messages",
    params(PageQuery),
    responses((status = 200, description = "One page", body = Listed<MessageView>)),
)]
pub(super) async fn list(
    Guarded { app, .. }: Guarded<READ>,
    page: Page,
    State(shared): State<Api>,
) -> Result<axum::Json<Listed<MessageView>>, Problem> {
    let read = move |tx: &Tx<'_>| {
        let read = |from: Option<&str>, order, limit| {
            let from = from.map(MessageId::parse).transpose();
            let from = from.map_err(|_| Problem::because(Errno::InvalidCursor, "no cursor of this list"))?;
            Ok::<_, Problem>(messages::page(tx, &app, from, order, limit)?)
        };
        let found = page.walk(Order::Backward, read, |message| message.id.to_string())?;
        Ok::<_, Problem>(found.try_map(|message| with_funnel(tx, message))?)
    };
    let (found, now_ms) = (shared.store.read(read).await?, shared.store.now_ms());
    Ok(found.show(|(message, funnel)| MessageView::of(message, funnel, now_ms)))
}

fn with_funnel(tx: &Tx<'_>, message: Message) -> Result<(Message, Funnel), StoreError> {
    let funnel = deliveries::funnel(tx, &message.app, message.id)?;
    Ok((message, funnel))
}

/// A message that the caller may see: with a key for certain tags only, one that went to nobody else.
fn find(tx: &Tx<'_>, app: &AppId, id: MessageId, caller: &Caller) -> Result<Message, Problem> {
    let message = messages::load(tx, app, id)?;
    let may_see = |message: &Message| {
        let within = &message.audience.within;
        caller.tags().is_empty() || (!within.is_empty() && within.is_subset(caller.tags()))
    };
    message.filter(may_see).ok_or_else(|| Problem::new(Errno::MessageUnknown))
}

/// One message with its live funnel.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/messages/{message}",
    tag = "messages",
    responses((status = 200, description = "The message with its funnel", body = MessageView)),
)]
pub(super) async fn show(
    Limited { app, caller }: Limited<READ>,
    Params((_, id)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse + use<>, Problem> {
    let id = message_id(&id)?;
    let read = move |tx: &Tx<'_>| Ok::<_, Problem>(with_funnel(tx, find(tx, &app, id, &caller)?)?);
    let (message, funnel) = shared.store.read(read).await?;
    Ok(MessageView::answer(message, funnel, shared.store.now_ms()))
}

/// How much is withdrawn.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Scope {
    /// What has not gone out.
    Pending,
    /// What was delivered too, as far as vendors and apps can.
    #[default]
    All,
}

/// What is asked of a withdrawal.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WithdrawQuery {
    /// How much; everything unless it says otherwise.
    #[serde(default)]
    #[param(inline)]
    scope: Scope,
}

/// A message that was withdrawn.
#[derive(Serialize, ToSchema)]
pub(super) struct Withdrawn {
    id: String,
    /// `recalled`; `cancelled` for one that had not begun, and where only what was pending was wanted; `done` where nothing was.
    state: &'static str,
}

/// Withdraws a message: out of every queue, and no vendor is sent it any more. With the scope `all` devices that may show it are told
/// to take it away, and so are vendors that have it and know how; `recall` in the deliveries says what came of that.
#[utoipa::path(
    delete,
    path = "/v1/apps/{app}/messages/{message}",
    tag = "messages",
    params(WithdrawQuery),
    responses((status = 202, description = "Withdrawn", body = Withdrawn)),
)]
pub(super) async fn withdraw(
    Limited { app, caller }: Limited<SEND>,
    Params((_, id)): Params<(String, String)>,
    Asked(WithdrawQuery { scope }): Asked<WithdrawQuery>,
    State(shared): State<Api>,
) -> Result<(StatusCode, axum::Json<Withdrawn>), Problem> {
    let id = message_id(&id)?;
    let extent = match scope {
        Scope::Pending => Extent::Pending,
        Scope::All => Extent::All,
    };
    let work = move |tx: &mut Tx<'_>| {
        find(tx, &app, id, &caller)?;
        Ok::<_, Problem>(recall(tx, &app, id, extent)?)
    };
    let state = shared.store.write(work).await?.ok_or_else(|| Problem::new(Errno::MessageUnknown))?;
    Ok((StatusCode::ACCEPTED, axum::Json(Withdrawn { id: id.to_string(), state })))
}

/// The state from then on; `None` for a message that is not known. One that has not begun is cancelled: nothing left. Who asks again
/// for more gets more; for less changes nothing.
pub(super) fn recall(
    tx: &mut Tx<'_>,
    app: &AppId,
    id: MessageId,
    extent: Extent,
) -> Result<Option<&'static str>, StoreError> {
    let Some((mut message, funnel)) = load_with_funnel(tx, app, id)? else { return Ok(None) };
    let is_done = message.is_expanded && funnel.in_flight == 0;
    let is_withdrawn = message.recalled_at_ms.is_some();
    let changes = if is_withdrawn { message.recalled < extent } else { !is_done || extent > Extent::Pending };
    if !changes {
        return Ok(Some(state(&message, &funnel)));
    }
    message.recalled_at_ms = message.recalled_at_ms.or(Some(tx.now_ms()));
    message.recalled = extent;
    message.is_replaced |= extent == Extent::Unreached;
    messages::save(tx, &message)?;
    if !is_withdrawn {
        messages::tell(tx, &message, webhooks::MESSAGE_RECALLED)?;
    }
    end_message(tx, app, id)?;
    let may_be_queued = message.strategy != Strategy::VendorOnly || !message.by_vendor.is_empty();
    if may_be_queued && !message.is_waiting && extent > Extent::Pending {
        queues::tell_broker(tx, &Out::Withdraw { app: app.clone(), message: id, devices: Vec::new() })?;
    }
    Ok(Some(state(&message, &funnel)))
}

fn load_with_funnel(
    tx: &Tx<'_>,
    app: &AppId,
    id: MessageId,
) -> Result<Option<(Message, Funnel)>, StoreError> {
    messages::load(tx, app, id)?.map(|message| with_funnel(tx, message)).transpose()
}

/// `POST …/messages/{id}:pause` and `:resume`: no push goes out for now; it goes on.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/messages/{message}",
    tag = "messages",
    responses((status = 200, description = "The message with its funnel", body = MessageView)),
)]
pub(super) async fn act(
    Limited { app, caller }: Limited<SEND>,
    Params((_, path)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse + use<>, Problem> {
    let (id, is_pause) = match path.split_once(':') {
        Some((id, "pause")) => (message_id(id)?, true),
        Some((id, "resume")) => (message_id(id)?, false),
        Some(_) | None => return Err(Problem::new(Errno::MethodNotAllowed)),
    };
    let work = move |tx: &mut Tx<'_>| {
        let message = find(tx, &app, id, &caller)?;
        Ok::<_, Problem>(pause(tx, message, is_pause)?)
    };
    let (message, funnel) = shared.store.write(work).await?;
    Ok(MessageView::answer(message, funnel, shared.store.now_ms()))
}

/// Repeating it changes nothing, nor does it for a message that is over.
fn pause(tx: &mut Tx<'_>, mut message: Message, is_pause: bool) -> Result<(Message, Funnel), StoreError> {
    if message.paused_at_ms.is_some() != is_pause {
        message.paused_at_ms = is_pause.then(|| tx.now_ms());
        messages::save(tx, &message)?;
        if !is_pause {
            jobs::resume(tx, &message.app, message.id)?;
        }
    }
    with_funnel(tx, message)
}

/// What people call the state of a message.
pub(crate) fn state(message: &Message, funnel: &Funnel) -> &'static str {
    match message {
        Message { recalled_at_ms: Some(_), is_waiting: true, .. }
        | Message { recalled_at_ms: Some(_), recalled: Extent::Pending, .. } => "cancelled",
        Message { recalled_at_ms: Some(_), .. } => "recalled",
        Message { paused_at_ms: Some(_), .. } if !message.is_expanded || funnel.in_flight > 0 => "paused",
        Message { is_waiting: true, .. } => "scheduled",
        Message { is_expanded: false, .. } => "expanding",
        _ if funnel.in_flight > 0 => "sending",
        _ => "done",
    }
}
