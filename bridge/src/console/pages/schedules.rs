//! Schedules: seen, paused, let go on, sent now, removed. They are made where messages are composed.

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::json;

use super::{Page, done};
use crate::apps::Access;
use crate::console::Here;
use crate::console::door::{Refusal, encode};
use crate::console::form::{Fields, Posted, Query};
use crate::console::view::broker::items;
use crate::console::view::parts::pager;
use crate::console::view::schedules::{actions, detail, list as list_view};
use crate::console::visitor::Visitor;

/// Schedules on one page.
const PAGE: usize = 100;

/// The list.
pub(in crate::console) async fn list(
    visitor: Visitor,
    State(console): State<Here>,
    Path(app): Path<String>,
    Query(query): Query,
) -> Response {
    let made = list_page(&console, &visitor, &app, &query).await;
    visitor.answer(Some(&app), made)
}

async fn list_page(console: &Here, visitor: &Visitor, app: &str, query: &Fields) -> Result<Page, Refusal> {
    visitor.check(app, Access::Read)?;
    let after = query.some("after").map(|after| format!("&after={}", encode(after))).unwrap_or_default();
    let path = format!("/v1/apps/{}/schedules?limit={PAGE}{after}", encode(app));
    let found = console.door.get(&visitor.caller, &path).await?;
    let next = found.pointer("/page/next").and_then(serde_json::Value::as_str);
    let next = next.map(|next| format!("/console/apps/{app}/schedules?after={}", encode(next)));
    let context = visitor.context(Some(app));
    let body =
        maud::html! { (list_view(&context, items(&found))) (pager(context.texts, None, next.as_deref())) };
    Ok(Page::new(context.texts.schedules, "schedules", body))
}

fn path(app: &str, id: &str) -> String {
    format!("/v1/apps/{}/schedules/{}", encode(app), encode(id))
}

/// One with its last runs.
pub(in crate::console) async fn show(
    visitor: Visitor,
    State(console): State<Here>,
    Path((app, id)): Path<(String, String)>,
) -> Response {
    let made = async {
        visitor.check(&app, Access::Read)?;
        let found = console.door.get(&visitor.caller, &path(&app, &id)).await?;
        let context = visitor.context(Some(&app));
        let name = found.get("name").and_then(serde_json::Value::as_str).unwrap_or_default();
        Ok(Page {
            title: if name.is_empty() { context.texts.schedule_unnamed.to_owned() } else { name.to_owned() },
            section: "schedules",
            actions: Some(actions(&context, &found)),
            body: detail(&context, &found),
        })
    };
    visitor.answer(Some(&app), made.await)
}

/// Pauses it, lets it go on, sends it now, or removes it.
pub(in crate::console) async fn act(
    State(console): State<Here>,
    Path((app, id, act)): Path<(String, String, String)>,
    posted: Posted,
) -> Response {
    let (caller, here) = (&posted.visitor.caller, format!("/console/apps/{app}/schedules"));
    let path = path(&app, &id);
    let (asked, to, what) = match act.as_str() {
        "pause" => {
            (console.door.post(caller, &format!("{path}:pause"), &json!({})).await, true, "done_paused")
        }
        "resume" => {
            (console.door.post(caller, &format!("{path}:resume"), &json!({})).await, true, "done_resumed")
        }
        "run" => (console.door.post(caller, &format!("{path}:run"), &json!({})).await, true, "done_sent"),
        "remove" => (console.door.delete(caller, &path).await, false, "done_removed"),
        _ => (Err(Refusal::missing()), false, ""),
    };
    match asked {
        Ok(_) if to => done(&format!("{here}/{}", encode(&id)), what),
        Ok(_) => done(&here, what),
        Err(refused) => posted.visitor.answer(Some(&app), Err(refused)),
    }
}
