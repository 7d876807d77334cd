//! The push trace of one message and device.

use axum::extract::{Path, State};
use axum::response::Response;
use reveille_proto::ids::MessageId;

use super::messages::no_message;
use super::{Page, fragment};
use crate::apps::Access;
use crate::console::Here;
use crate::console::door::{Refusal, encode};
use crate::console::form::Query;
use crate::console::view::messages::MessageRow;
use crate::console::view::parts::live;
use crate::console::view::trace::{Trace, trace};
use crate::console::visitor::Visitor;
use crate::console::words::fill;
use crate::deliveries;
use crate::http::message_state;
use crate::messages;
use crate::store::{StoreError, Tx};

/// The page.
pub(in crate::console) async fn show(
    visitor: Visitor,
    State(console): State<Here>,
    Path((app, message, device)): Path<(String, String, String)>,
    Query(query): Query,
) -> Response {
    let found = read(&visitor, &console, &app, &message, &device).await;
    let context = visitor.context(Some(&app));
    let made = found.map(|found| trace(&context, &found));
    if query.is("part", "live") {
        return fragment(made);
    }
    let rest = format!("/messages/{}/devices/{}?part=live", encode(&message), encode(&device));
    let page = made.map(|body| {
        let title = fill(context.texts.trace_of, &[&device]);
        Page::new(title, "messages", live(&context.path(&rest), 2, &body))
    });
    visitor.answer(Some(&app), page)
}

async fn read(
    visitor: &Visitor,
    console: &Here,
    app: &str,
    message: &str,
    device: &str,
) -> Result<Trace, Refusal> {
    let id = visitor.check(app, Access::Read)?;
    let message = MessageId::parse(message).map_err(|_| no_message())?;
    let wanted = device.to_owned();
    let look = move |tx: &Tx<'_>| {
        let Some(found) = messages::load(tx, &id, message)? else { return Ok((None, None)) };
        let funnel = deliveries::funnel(tx, &id, message)?;
        let state = message_state(&found, &funnel).to_owned();
        let row = MessageRow { message: found, funnel, state };
        Ok::<_, StoreError>((Some(row), deliveries::load(tx, &id, message, &wanted)?))
    };
    let (row, delivery) = console.shared.store.read(look).await?;
    let row = row.ok_or_else(no_message)?;
    let delivery = delivery.ok_or_else(|| Refusal {
        code: "delivery_unknown".to_owned(),
        ..Refusal::new(404, "The message was not for this device")
    })?;
    Ok(Trace { row, device: device.to_owned(), delivery })
}
