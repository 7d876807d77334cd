//! Tags and segments: seen, made, removed.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use maud::html;
use serde_json::{Value, json};

use super::{Page, done};
use crate::apps::Access;
use crate::console::Here;
use crate::console::door::{Refusal, encode};
use crate::console::form::{Fields, Posted, Query};
use crate::console::view::audiences::{Audiences, audiences};
use crate::console::view::broker::items;
use crate::console::view::fields::Filled;
use crate::console::view::parts::pager;
use crate::console::visitor::Visitor;

/// Tags and segments on one page.
const PAGE: usize = 100;

/// The lists.
pub(in crate::console) async fn list(
    visitor: Visitor,
    State(console): State<Here>,
    Path(app): Path<String>,
    Query(query): Query,
) -> Response {
    let made = page(&console, &visitor, &app, &query, Filled::default()).await;
    visitor.answer(Some(&app), made)
}

async fn page(
    console: &Here,
    visitor: &Visitor,
    app: &str,
    query: &Fields,
    filled: Filled,
) -> Result<Page, Refusal> {
    visitor.check(app, Access::Read)?;
    let base = format!("/v1/apps/{}", encode(app));
    let after = query.some("after").map(|after| format!("&after={}", encode(after))).unwrap_or_default();
    let tags = console.door.get(&visitor.caller, &format!("{base}/tags?limit={PAGE}{after}")).await?;
    let named = console.door.get(&visitor.caller, &format!("{base}/segments?limit={PAGE}")).await?;
    let mut segments = Vec::new();
    for segment in items(&named) {
        let name = segment.get("name").and_then(Value::as_str).unwrap_or_default();
        let path = format!("{base}/segments/{}", encode(name));
        // One that was removed meanwhile is shown without its count.
        segments.push(console.door.get(&visitor.caller, &path).await.unwrap_or_else(|_| segment.clone()));
    }
    let next = tags.pointer("/page/next").and_then(Value::as_str);
    let next = next.map(|next| format!("/console/apps/{app}/audiences?after={}", encode(next)));
    let context = visitor.context(Some(app));
    let body = html! {
        (audiences(&context, &Audiences { tags, segments, filled }))
        (pager(context.texts, None, next.as_deref()))
    };
    Ok(Page::new(context.texts.tags_and_segments, "audiences", body))
}

/// Makes or replaces a segment.
pub(in crate::console) async fn save(
    State(console): State<Here>,
    Path(app): Path<String>,
    posted: Posted,
) -> Response {
    let Posted { visitor, fields } = posted;
    let path = format!("/v1/apps/{}/segments/{}", encode(&app), encode(fields.text("name")));
    let body = json!({"expr": fields.text("expr"), "description": fields.text("description")});
    match console.door.put(&visitor.caller, &path, &body).await {
        Ok(_) => done(&format!("/console/apps/{app}/audiences"), "done_saved"),
        Err(refused) => {
            let filled = Filled { fields, refusal: Some(refused) };
            let made = page(&console, &visitor, &app, &Fields::default(), filled).await;
            visitor.answer_as(StatusCode::UNPROCESSABLE_ENTITY, Some(&app), made)
        }
    }
}

/// Removes a segment.
pub(in crate::console) async fn remove(
    State(console): State<Here>,
    Path(app): Path<String>,
    posted: Posted,
) -> Response {
    let path = format!("/v1/apps/{}/segments/{}", encode(&app), encode(posted.fields.text("name")));
    match console.door.delete(&posted.visitor.caller, &path).await {
        Ok(_) => done(&format!("/console/apps/{app}/audiences"), "done_removed"),
        Err(refused) => posted.visitor.answer(Some(&app), Err(refused)),
    }
}
