//! What happens in an app, as it happens.

use axum::extract::{Path, State};
use axum::response::Response;

use super::{Page, fragment};
use crate::apps::Access;
use crate::console::Here;
use crate::console::door::encode;
use crate::console::form::Query;
use crate::console::view::events::{KINDS, chooser, events};
use crate::console::view::parts::live;
use crate::console::visitor::Visitor;
use crate::events::Wish;

/// Events on the page.
const NEWEST: usize = 200;

/// The newest events.
pub(in crate::console) async fn list(
    visitor: Visitor,
    State(console): State<Here>,
    Path(app): Path<String>,
    Query(query): Query,
) -> Response {
    let kind = KINDS.into_iter().find(|kind| *kind == query.text("kind")).unwrap_or_default();
    let context = visitor.context(Some(&app));
    let made = visitor.check(&app, Access::Read).map(|id| {
        // Every kind of ours is a pattern that is known.
        let wish = Wish::new(Some(id.clone()), kind).unwrap_or(Wish { app: Some(id), types: Vec::new() });
        events(&context, &console.shared.store.events().newest(&wish, NEWEST))
    });
    if query.is("part", "live") {
        return fragment(made);
    }
    let path = format!("{}?part=live&kind={}", context.path("/events"), encode(kind));
    let page = made.map(|body| {
        let body = maud::html! { (chooser(&context, kind)) (live(&path, 2, &body)) };
        Page::new(context.texts.live_events, "events", body)
    });
    visitor.answer(Some(&app), page)
}
