//! The keys of an app: made, shown once, revoked.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::{Page, done};
use crate::apps::{self, Access, RemoveKeyError};
use crate::console::Here;
use crate::console::door::{Refusal, encode};
use crate::console::form::{Fields, Posted};
use crate::console::view::apps::keys;
use crate::console::view::fields::Filled;
use crate::console::visitor::Visitor;

/// The list.
pub(in crate::console) async fn list(
    visitor: Visitor,
    State(console): State<Here>,
    Path(app): Path<String>,
) -> Response {
    let filled = Filled { fields: Fields::of(&[("scope", "send")]), refusal: None };
    let made = page(&console, &visitor, &app, &filled, None).await;
    visitor.answer(Some(&app), made)
}

async fn page(
    console: &Here,
    visitor: &Visitor,
    app: &str,
    filled: &Filled,
    new: Option<&str>,
) -> Result<Page, Refusal> {
    visitor.check(app, Access::Admin)?;
    let all = console.shared.store.read(apps::all_keys).await?;
    let own: Vec<_> =
        all.into_iter().filter(|key| key.app.as_deref() == Some(app) && !key.is_person()).collect();
    let context = visitor.context(Some(app));
    Ok(Page::new(context.texts.keys, "keys", keys(&context, &own, filled, new)))
}

/// Makes a key. This answer is the only one that shows it.
pub(in crate::console) async fn create(
    State(console): State<Here>,
    Path(app): Path<String>,
    posted: Posted,
) -> Response {
    let Posted { visitor, fields } = posted;
    let path = format!("/v1/apps/{}/keys", encode(&app));
    let body = json!({"scopes": fields.all("scope"), "name": fields.text("name")});
    match console.door.post(&visitor.caller, &path, &body).await {
        Ok(answer) => {
            let new = answer.get("key").and_then(Value::as_str);
            let made = page(&console, &visitor, &app, &Filled::default(), new).await;
            visitor.answer_as(StatusCode::CREATED, Some(&app), made)
        }
        Err(refused) => {
            let filled = Filled { fields, refusal: Some(refused) };
            let made = page(&console, &visitor, &app, &filled, None).await;
            visitor.answer_as(StatusCode::UNPROCESSABLE_ENTITY, Some(&app), made)
        }
    }
}

/// Revokes a key: it opens nothing from now on, and whoever logged in with it is out.
pub(in crate::console) async fn remove(
    State(console): State<Here>,
    Path(app): Path<String>,
    posted: Posted,
) -> Response {
    let Posted { visitor, fields } = posted;
    let removed = async {
        let id = visitor.check(&app, Access::Admin)?;
        let key = fields.text("id").to_owned();
        let removed = console.shared.store.write(move |tx| apps::remove_key(tx, Some(&id), &key)).await;
        removed.map_err(|error| refused(&visitor, &error))?;
        console.shared.keys.forget(fields.text("id"));
        console.sessions.end_of(fields.text("id"), None);
        Ok(())
    };
    match removed.await {
        Ok(()) => done(&format!("/console/apps/{app}/keys"), "done_revoked"),
        Err(refused) => visitor.answer(Some(&app), Err(refused)),
    }
}

pub(super) fn refused(visitor: &Visitor, error: &RemoveKeyError) -> Refusal {
    match error {
        RemoveKeyError::Unknown => Refusal::missing(),
        RemoveKeyError::Last => Refusal::new(409, visitor.texts().last_operator),
        RemoveKeyError::Store(error) => error.clone().into(),
    }
}
