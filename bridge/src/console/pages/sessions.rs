//! Sessions at the broker: list, one, kick, purge, end.

use axum::extract::{Path, State};
use axum::response::Response;

use super::{Page, done};
use crate::console::Here;
use crate::console::door::{Refusal, encode};
use crate::console::form::{Posted, Query};
use crate::console::view::broker::{SessionsQuery, session, session_actions, sessions};
use crate::console::visitor::Visitor;

/// The list with its filters.
pub(in crate::console) async fn list(
    visitor: Visitor,
    State(console): State<Here>,
    Query(query): Query,
) -> Response {
    let made = async {
        let shown = SessionsQuery {
            client: query.text("client"),
            app: query.text("app"),
            online: query.text("online"),
            is_slow: query.is("slow", "true"),
        };
        let mut asked = String::new();
        for (name, value) in [
            ("client_id", shown.client),
            ("app", shown.app),
            ("online", shown.online),
            ("slow", if shown.is_slow { "true" } else { "" }),
        ] {
            if !value.is_empty() {
                asked.push_str(&format!("&{name}={}", encode(value)));
            }
        }
        let after = query.some("after").map(|after| format!("&after={}", encode(after))).unwrap_or_default();
        let answer = console
            .door
            .get(&visitor.caller, &format!("/v1/broker/sessions?limit=100{asked}{after}"))
            .await?;
        let next = answer.pointer("/page/next").or_else(|| answer.get("next")).and_then(|next| next.as_str());
        let own = asked.replace("&client_id=", "&client=");
        let next = next.map(|next| format!("/console/broker/sessions?after={}{own}", encode(next)));
        let context = visitor.context(None);
        Ok(Page::new(context.texts.sessions, "sessions", sessions(&context, shown, &answer, next.as_deref())))
    };
    visitor.answer(None, made.await)
}

fn path(app: &str, client: &str) -> String {
    format!("/v1/broker/apps/{}/sessions/{}", encode(app), encode(client))
}

/// One session.
pub(in crate::console) async fn show(
    visitor: Visitor,
    State(console): State<Here>,
    Path((app, client)): Path<(String, String)>,
) -> Response {
    let made = async {
        let path = path(&app, &client);
        let found = console.door.get(&visitor.caller, &path).await?;
        let subscriptions =
            console.door.get(&visitor.caller, &format!("{path}/subscriptions?limit=200")).await?;
        let queue = console.door.get(&visitor.caller, &format!("{path}/queue?limit=100")).await?;
        let is_online = found.get("online").and_then(|online| online.as_bool()).unwrap_or(false);
        let context = visitor.context(None);
        Ok(Page {
            title: client.clone(),
            section: "sessions",
            actions: Some(session_actions(&context, &app, &client, is_online)),
            body: session(&context, &found, &subscriptions, &queue),
        })
    };
    visitor.answer(None, made.await)
}

/// Kicks the client, empties the queue, or ends the session.
pub(in crate::console) async fn act(
    State(console): State<Here>,
    Path((app, client, action)): Path<(String, String, String)>,
    posted: Posted,
) -> Response {
    let (api, page) =
        (path(&app, &client), format!("/console/broker/sessions/{}/{}", encode(&app), encode(&client)));
    let (api, page, what) = match action.as_str() {
        "kick" => (format!("{api}/connection"), page, "done_kicked"),
        "purge" => (format!("{api}/queue"), page, "done_purged"),
        "end" => (api, "/console/broker/sessions".to_owned(), "done_ended"),
        _ => return posted.visitor.answer(None, Err(Refusal::missing())),
    };
    match console.door.delete(&posted.visitor.caller, &api).await {
        Ok(_) => done(&page, what),
        Err(refused) => posted.visitor.answer(None, Err(refused)),
    }
}
