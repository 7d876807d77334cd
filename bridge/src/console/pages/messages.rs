//! Messages: their list, one of them, recalling it.

use std::collections::HashMap;

use axum::extract::{Path, State};
use axum::response::Response;
use maud::html;
use reveille_proto::ids::{AppId, MessageId};

use super::overview::most;
use super::{Page, done, fragment};
use crate::apps::Access;
use crate::console::Here;
use crate::console::door::{Refusal, encode};
use crate::console::form::{Fields, Posted, Query};
use crate::console::view::messages::{
    DeliveryRow, Detail, MessageRow, MessagesQuery, actions, detail, list as list_view, live_part,
};
use crate::console::view::parts::pager;
use crate::console::visitor::Visitor;
use crate::console::words;
use crate::deliveries::{self, Bucket, Delivery};
use crate::http::message_state;
use crate::messages::{self, Message};
use crate::store::{StoreError, Tx};

/// Messages on one page.
const PAGE: usize = 50;
/// Messages that one search looks at.
const SEARCHED_MAX: usize = 2_000;
/// Deliveries on one page.
const DELIVERIES_PAGE: usize = 50;
/// Deliveries that one look for a part of the funnel passes.
const DELIVERIES_MAX: usize = 5_000;
/// Deliveries that are looked at for the reasons of losses.
const LOSSES_MAX: usize = 1_000;
/// Reasons that are shown.
const REASONS_MAX: usize = 8;

/// The list, newest first.
pub(in crate::console) async fn list(
    visitor: Visitor,
    State(console): State<Here>,
    Path(app): Path<String>,
    Query(query): Query,
) -> Response {
    let made = async {
        let id = visitor.check(&app, Access::Read)?;
        let before = query.some("after").and_then(|cursor| MessageId::parse(cursor).ok());
        let (state, text) = (query.text("state").to_owned(), query.text("q").to_lowercase());
        let found = console.shared.store.read(move |tx| find(tx, &id, before, &state, &text)).await?;
        let context = visitor.context(Some(&app));
        let base = format!(
            "{}?state={}&q={}",
            context.path("/messages"),
            encode(query.text("state")),
            encode(query.text("q"))
        );
        let next = found.next.map(|next| format!("{base}&after={next}"));
        let shown = MessagesQuery { state: query.text("state"), text: query.text("q"), is_cut: found.is_cut };
        let body = html! {
            (list_view(&context, &shown, &found.rows))
            (pager(context.texts, query.some("after").map(|_| base.as_str()), next.as_deref()))
        };
        Ok(Page::new(context.texts.messages, "messages", body))
    };
    visitor.answer(Some(&app), made.await)
}

struct Found {
    rows: Vec<MessageRow>,
    next: Option<MessageId>,
    is_cut: bool,
}

fn find(
    tx: &Tx<'_>,
    app: &AppId,
    before: Option<MessageId>,
    state: &str,
    text: &str,
) -> Result<Found, StoreError> {
    let mut found = Found { rows: Vec::new(), next: None, is_cut: false };
    let (mut before, mut passed) = (before, 0);
    loop {
        let some = messages::list(tx, app, before, PAGE)?;
        let is_last = some.len() < PAGE;
        for message in some {
            (before, passed) = (Some(message.id), passed + 1);
            let row = row(tx, app, message)?;
            if !is_wanted(&row, state, text) {
                continue;
            }
            found.rows.push(row);
            if found.rows.len() == PAGE {
                found.next = before;
                return Ok(found);
            }
        }
        if is_last {
            return Ok(found);
        }
        if passed >= SEARCHED_MAX {
            (found.next, found.is_cut) = (before, true);
            return Ok(found);
        }
    }
}

fn row(tx: &Tx<'_>, app: &AppId, message: Message) -> Result<MessageRow, StoreError> {
    let funnel = deliveries::funnel(tx, app, message.id)?;
    let state = message_state(&message, &funnel).to_owned();
    Ok(MessageRow { message, funnel, state })
}

/// Whether the state is this one, and title, text, campaign, reference or id have the text.
fn is_wanted(row: &MessageRow, state: &str, text: &str) -> bool {
    if !state.is_empty() && row.state != state {
        return false;
    }
    let message = &row.message;
    let notification = message.content.as_ref().and_then(|content| content.notification.as_ref());
    let parts = [
        notification.and_then(|notification| notification.title.clone()),
        notification.and_then(|notification| notification.body.clone()),
        message.campaign.clone(),
        message.reference.clone(),
        Some(message.id.to_string()),
    ];
    text.is_empty() || parts.into_iter().flatten().any(|part| part.to_lowercase().contains(text))
}

/// One message with its funnel, losses and devices.
pub(in crate::console) async fn show(
    visitor: Visitor,
    State(console): State<Here>,
    Path((app, message)): Path<(String, String)>,
    Query(query): Query,
) -> Response {
    let read = read(&visitor, &console, &app, &message, &query).await;
    let context = visitor.context(Some(&app));
    if query.is("part", "live") {
        return fragment(read.map(|found| live_part(&context, &found)));
    }
    let page = read.map(|found| Page {
        title: found.row.title(context.texts),
        section: "messages",
        actions: Some(actions(&context, &found.row)),
        body: detail(&context, &found),
    });
    visitor.answer(Some(&app), page)
}

async fn read(
    visitor: &Visitor,
    console: &Here,
    app: &str,
    message: &str,
    query: &Fields,
) -> Result<Detail, Refusal> {
    let id = visitor.check(app, Access::Read)?;
    let message = MessageId::parse(message).map_err(|_| no_message())?;
    let texts = visitor.texts();
    let buckets = words::buckets(texts);
    let bucket = buckets.iter().find(|(_, name, _, _)| *name == query.text("bucket"));
    let (wanted, name) = bucket.map_or((None, ""), |(bucket, name, _, _)| (Some(*bucket), *name));
    let after = query.some("after").map(str::to_owned);
    let is_first = after.is_none();
    let look = move |tx: &Tx<'_>| {
        let Some(found) = messages::load(tx, &id, message)? else { return Ok(None) };
        let losses = losses(tx, &id, message)?;
        let listed = listed(tx, &id, message, wanted, after)?;
        Ok::<_, StoreError>(Some((row(tx, &id, found)?, losses, listed)))
    };
    let found = console.shared.store.read(look).await?;
    let (row, (losses, is_cut), (deliveries, next)) = found.ok_or_else(no_message)?;
    let base = format!("/console/apps/{app}/messages/{message}?bucket={name}");
    Ok(Detail {
        row,
        losses,
        is_cut,
        deliveries,
        bucket: name.to_owned(),
        first: (!is_first).then(|| format!("{base}#devices")),
        next: next.map(|next| format!("{base}&after={}#devices", encode(&next))),
    })
}

pub(super) fn no_message() -> Refusal {
    Refusal { code: "message_unknown".to_owned(), ..Refusal::new(404, "No such message") }
}

type Losses = (Vec<(String, u64)>, bool);

/// Why deliveries ended without reaching anybody, and whether there are more than were looked at.
fn losses(tx: &Tx<'_>, app: &AppId, id: MessageId) -> Result<Losses, StoreError> {
    let all = deliveries::list(tx, app, id, None, LOSSES_MAX)?;
    let is_cut = all.len() == LOSSES_MAX;
    let mut reasons = HashMap::new();
    let is_lost =
        |delivery: &&Delivery| [Bucket::Failed, Bucket::Expired, Bucket::Filtered].contains(&delivery.bucket);
    for delivery in all.iter().map(|(_, delivery)| delivery).filter(is_lost) {
        *reasons.entry(words::cause(delivery).to_owned()).or_insert(0) += 1;
    }
    Ok((most(reasons, REASONS_MAX), is_cut))
}

type Listed = (Vec<DeliveryRow>, Option<String>);

/// A page of deliveries in this part of the funnel, and the device behind which more may follow.
fn listed(
    tx: &Tx<'_>,
    app: &AppId,
    id: MessageId,
    bucket: Option<Bucket>,
    mut after: Option<String>,
) -> Result<Listed, StoreError> {
    let (mut rows, mut passed) = (Vec::new(), 0);
    loop {
        let some = deliveries::list(tx, app, id, after.as_deref(), DELIVERIES_PAGE)?;
        let is_last = some.len() < DELIVERIES_PAGE;
        for (device, delivery) in some {
            (after, passed) = (Some(device.clone()), passed + 1);
            if bucket.is_none_or(|bucket| bucket == delivery.bucket) {
                rows.push(delivery_row(device, &delivery));
            }
            if rows.len() == DELIVERIES_PAGE {
                return Ok((rows, after));
            }
        }
        if is_last {
            return Ok((rows, None));
        }
        if passed >= DELIVERIES_MAX {
            return Ok((rows, after));
        }
    }
}

fn delivery_row(device: String, delivery: &Delivery) -> DeliveryRow {
    DeliveryRow {
        device,
        state: delivery.state,
        vendor: delivery.timeline.iter().rev().find_map(|entry| entry.vendor),
        reason: words::cause(delivery).to_owned(),
        at_ms: delivery.timeline.last().map(|entry| entry.at_ms),
    }
}

/// Withdraws it.
pub(in crate::console) async fn recall(
    State(console): State<Here>,
    Path((app, message)): Path<(String, String)>,
    posted: Posted,
) -> Response {
    let path = format!("/v1/apps/{}/messages/{}", encode(&app), encode(&message));
    match console.door.delete(&posted.visitor.caller, &path).await {
        Ok(_) => done(&format!("/console/apps/{app}/messages/{message}"), "done_recalled"),
        Err(refused) => posted.visitor.answer(Some(&app), Err(refused)),
    }
}

/// Holds its pushes back, or lets them go on.
pub(in crate::console) async fn pause(
    State(console): State<Here>,
    Path((app, message)): Path<(String, String)>,
    posted: Posted,
) -> Response {
    act(&console, &app, &message, &posted, ("pause", "done_paused")).await
}

/// Lets a paused message go on.
pub(in crate::console) async fn resume(
    State(console): State<Here>,
    Path((app, message)): Path<(String, String)>,
    posted: Posted,
) -> Response {
    act(&console, &app, &message, &posted, ("resume", "done_resumed")).await
}

async fn act(
    console: &Here,
    app: &str,
    message: &str,
    posted: &Posted,
    (what, done_what): (&str, &str),
) -> Response {
    let path = format!("/v1/apps/{}/messages/{}:{what}", encode(app), encode(message));
    match console.door.post(&posted.visitor.caller, &path, &serde_json::json!({})).await {
        Ok(_) => done(&format!("/console/apps/{app}/messages/{}", encode(message)), done_what),
        Err(refused) => posted.visitor.answer(Some(app), Err(refused)),
    }
}
