//! The broker: how it is, and which queues stand out.

use axum::extract::State;
use axum::response::Response;

use super::{Page, fragment};
use crate::console::Here;
use crate::console::form::Query;
use crate::console::view::broker::{Status, queues as queues_view, status as status_view};
use crate::console::view::parts::live;
use crate::console::visitor::Visitor;

/// Counters, shards, listeners.
pub(in crate::console) async fn status(
    visitor: Visitor,
    State(console): State<Here>,
    Query(query): Query,
) -> Response {
    let read = async {
        let ask = async |path: &str| console.door.get(&visitor.caller, &format!("/v1/broker/{path}")).await;
        Ok(Status {
            stats: ask("stats").await?,
            shards: ask("shards").await?,
            listeners: ask("listeners").await?,
            build: ask("build").await?,
        })
    };
    let context = visitor.context(None);
    let made = read.await.map(|found| status_view(&context, &found));
    if query.is("part", "live") {
        return fragment(made);
    }
    let page = made
        .map(|body| Page::new(context.texts.broker, "broker", live("/console/broker?part=live", 3, &body)));
    visitor.answer(None, page)
}

/// The longest, largest or oldest queues, and clients that take their messages too slowly.
pub(in crate::console) async fn queues(
    visitor: Visitor,
    State(console): State<Here>,
    Query(query): Query,
) -> Response {
    let order = match query.text("order") {
        "bytes" => "bytes",
        "oldest" => "oldest",
        _ => "messages",
    };
    let made = async {
        let ranked =
            console.door.get(&visitor.caller, &format!("/v1/broker/queues?order={order}&limit=50")).await?;
        let slow = console.door.get(&visitor.caller, "/v1/broker/sessions?slow=true&limit=50").await?;
        let context = visitor.context(None);
        Ok(Page::new(context.texts.queues, "queues", queues_view(&context, order, &ranked, &slow)))
    };
    visitor.answer(None, made.await)
}
