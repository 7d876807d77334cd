//! Webhooks: seen, made, told again, removed.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::{Page, done};
use crate::apps::Access;
use crate::console::Here;
use crate::console::door::{Refusal, encode};
use crate::console::form::Posted;
use crate::console::view::broker::items;
use crate::console::view::fields::Filled;
use crate::console::view::webhooks::{actions, detail, list as list_view};
use crate::console::visitor::Visitor;

/// The list.
pub(in crate::console) async fn list(
    visitor: Visitor,
    State(console): State<Here>,
    Path(app): Path<String>,
) -> Response {
    let made = page(&console, &visitor, &app, &Filled::default(), None).await;
    visitor.answer(Some(&app), made)
}

async fn page(
    console: &Here,
    visitor: &Visitor,
    app: &str,
    filled: &Filled,
    secret: Option<&str>,
) -> Result<Page, Refusal> {
    visitor.check(app, Access::Admin)?;
    let found = console.door.get(&visitor.caller, &format!("/v1/apps/{}/webhooks", encode(app))).await?;
    let context = visitor.context(Some(app));
    Ok(Page::new(context.texts.webhooks, "webhooks", list_view(&context, &found, filled, secret)))
}

/// Makes one. This answer is the only one that shows its secret.
pub(in crate::console) async fn create(
    State(console): State<Here>,
    Path(app): Path<String>,
    posted: Posted,
) -> Response {
    let Posted { visitor, fields } = posted;
    let body = json!({"url": fields.text("url"), "events": fields.list("events")});
    let path = format!("/v1/apps/{}/webhooks", encode(&app));
    let (status, filled, secret) = match console.door.post(&visitor.caller, &path, &body).await {
        Ok(answer) => {
            let secret = answer.get("secret").and_then(Value::as_str).map(str::to_owned);
            (StatusCode::CREATED, Filled::default(), secret)
        }
        Err(refused) => (StatusCode::UNPROCESSABLE_ENTITY, Filled { fields, refusal: Some(refused) }, None),
    };
    let made = page(&console, &visitor, &app, &filled, secret.as_deref()).await;
    visitor.answer_as(status, Some(&app), made)
}

/// One with its calls.
pub(in crate::console) async fn show(
    visitor: Visitor,
    State(console): State<Here>,
    Path((app, id)): Path<(String, String)>,
) -> Response {
    let made = async {
        let path = path(&app, &id);
        let ask = async |rest: &str| console.door.get(&visitor.caller, &format!("{path}{rest}")).await;
        let found = ask("").await?;
        let (attempts, dead) = (ask("/attempts?limit=50").await?, ask("/dead-letters?limit=50").await?);
        let context = visitor.context(Some(&app));
        Ok(Page {
            title: found.get("url").and_then(Value::as_str).unwrap_or_default().to_owned(),
            section: "webhooks",
            actions: Some(actions(&context, &encode(&id), !items(&dead).is_empty())),
            body: detail(&context, &found, &attempts, &dead),
        })
    };
    visitor.answer(Some(&app), made.await)
}

fn path(app: &str, id: &str) -> String {
    format!("/v1/apps/{}/webhooks/{}", encode(app), encode(id))
}

/// Lets what was given up wait again.
pub(in crate::console) async fn replay(
    State(console): State<Here>,
    Path((app, id)): Path<(String, String)>,
    posted: Posted,
) -> Response {
    let path = format!("{}:replay", path(&app, &id));
    match console.door.post(&posted.visitor.caller, &path, &json!({})).await {
        Ok(_) => done(&format!("/console/apps/{app}/webhooks/{}", encode(&id)), "done_replayed"),
        Err(refused) => posted.visitor.answer(Some(&app), Err(refused)),
    }
}

/// Removes one with all that waits for it.
pub(in crate::console) async fn remove(
    State(console): State<Here>,
    Path((app, id)): Path<(String, String)>,
    posted: Posted,
) -> Response {
    match console.door.delete(&posted.visitor.caller, &path(&app, &id)).await {
        Ok(_) => done(&format!("/console/apps/{app}/webhooks"), "done_removed"),
        Err(refused) => posted.visitor.answer(Some(&app), Err(refused)),
    }
}
