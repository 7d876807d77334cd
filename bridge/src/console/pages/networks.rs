//! Networks: how long each of them lets a connection be silent.

use axum::extract::State;
use axum::response::Response;

use super::Page;
use crate::console::Here;
use crate::console::door::encode;
use crate::console::form::Query;
use crate::console::view::networks::networks as view;
use crate::console::visitor::Visitor;

/// The networks that the broker remembers, a page at a time.
pub(in crate::console) async fn list(
    visitor: Visitor,
    State(console): State<Here>,
    Query(query): Query,
) -> Response {
    let made = async {
        visitor.check_operator()?;
        let after = query.some("after").map(|after| format!("&after={}", encode(after))).unwrap_or_default();
        let path = format!("/v1/broker/networks?limit=50{after}");
        let answer = console.door.get(&visitor.caller, &path).await?;
        let next = answer.pointer("/page/next").and_then(serde_json::Value::as_str);
        let next = next.map(|next| format!("/console/broker/networks?after={}", encode(next)));
        let first = query.some("after").map(|_| "/console/broker/networks");
        let context = visitor.context(None);
        Ok(Page::new(context.texts.networks, "networks", view(&context, &answer, first, next.as_deref())))
    };
    visitor.answer(None, made.await)
}
