//! One user: devices, and the inbox.

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::{Page, done};
use crate::apps::Access;
use crate::console::Here;
use crate::console::door::{Refusal, encode};
use crate::console::form::{Fields, Posted, Query};
use crate::console::view::parts::pager;
use crate::console::view::users::{UserDetail, actions, detail};
use crate::console::visitor::Visitor;
use crate::inbox::user_of;
use crate::store::{StoreError, Tx};

/// Entries on one page.
const PAGE: usize = 50;
/// Devices of a user that are shown.
const DEVICES_MAX: usize = 100;

/// The page of a user.
pub(in crate::console) async fn show(
    visitor: Visitor,
    State(console): State<Here>,
    Path((app, user)): Path<(String, String)>,
    Query(query): Query,
) -> Response {
    let made = shown(&console, &visitor, &app, &user, &query).await;
    visitor.answer(Some(&app), made)
}

async fn shown(
    console: &Here,
    visitor: &Visitor,
    app: &str,
    user: &str,
    query: &Fields,
) -> Result<Page, Refusal> {
    let id = visitor.check(app, Access::Read)?;
    let of_user = format!("/v1/apps/{}/users/{}", encode(app), encode(user));
    let after = query.some("after");
    let cursor = after.map(|after| format!("&after={}", encode(after))).unwrap_or_default();
    let inbox = console.door.get(&visitor.caller, &format!("{of_user}/inbox?limit={PAGE}{cursor}")).await?;
    let counts = console.door.get(&visitor.caller, &format!("{of_user}/unread-count")).await?;
    // A user without a device may still have an inbox.
    let theirs = format!("{of_user}/devices?limit={DEVICES_MAX}");
    let theirs = match console.door.get(&visitor.caller, &theirs).await {
        Err(refused) if refused.status == 404 => Value::Null,
        answer => answer?,
    };
    let (wanted, ids) = (user.to_owned(), ids(&theirs));
    let look = move |tx: &Tx<'_>| {
        let rows = ids.iter().filter_map(|device| super::devices::row(tx, &id, device).transpose());
        let mut rows = rows.collect::<Result<Vec<_>, StoreError>>()?;
        rows.retain(|row| user_of(&row.device) == Some(&wanted));
        Ok::<_, StoreError>(rows)
    };
    let devices = console.shared.store.read(look).await?;
    let context = visitor.context(Some(app));
    let base = context.path(&format!("/users/{}", encode(user)));
    let next = inbox.pointer("/page/next").and_then(Value::as_str);
    let next = next.map(|next| format!("{base}?after={}", encode(next)));
    let unread = counts.get("unread").and_then(Value::as_u64).unwrap_or(0);
    let found = UserDetail { user: user.to_owned(), unread, devices, inbox };
    let body = maud::html! {
        (detail(&context, &found))
        (pager(context.texts, after.map(|_| base.as_str()), next.as_deref()))
    };
    Ok(Page { title: user.to_owned(), section: "devices", actions: Some(actions(&context, &found)), body })
}

fn ids(answer: &Value) -> Vec<String> {
    let items = answer.get("items").and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| item.get("id").and_then(Value::as_str).map(str::to_owned)).collect()
}

/// Marks the whole inbox as read.
pub(in crate::console) async fn read(
    State(console): State<Here>,
    Path((app, user)): Path<(String, String)>,
    posted: Posted,
) -> Response {
    let path = format!("/v1/apps/{}/users/{}/inbox:read", encode(&app), encode(&user));
    match console.door.post(&posted.visitor.caller, &path, &json!({"all": true})).await {
        Ok(_) => done(&format!("/console/apps/{app}/users/{}", encode(&user)), "done_read"),
        Err(refused) => posted.visitor.answer(Some(&app), Err(refused)),
    }
}

/// Deletes a message from the inbox.
pub(in crate::console) async fn delete(
    State(console): State<Here>,
    Path((app, user)): Path<(String, String)>,
    posted: Posted,
) -> Response {
    let message = encode(posted.fields.text("message"));
    let path = format!("/v1/apps/{}/users/{}/inbox/{message}", encode(&app), encode(&user));
    match console.door.delete(&posted.visitor.caller, &path).await {
        Ok(_) => done(&format!("/console/apps/{app}/users/{}", encode(&user)), "done_removed"),
        Err(refused) => posted.visitor.answer(Some(&app), Err(refused)),
    }
}
