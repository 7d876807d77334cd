//! Topics: retained messages, who gets a topic, the last value, publishing.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use reveille_proto::ids::AppId;
use serde_json::json;

use super::{Page, done};
use crate::console::Here;
use crate::console::door::{Refusal, encode};
use crate::console::form::{Fields, Posted, Query};
use crate::console::view::broker::{Retained, Topics, retained as retained_view, topics};
use crate::console::view::fields::Filled;
use crate::console::visitor::Visitor;

fn app_of<'f>(fields: &'f Fields, visitor: &'f Visitor) -> &'f str {
    fields.some("app").or(visitor.first_app()).unwrap_or(AppId::DEFAULT)
}

/// Retained messages under a filter.
pub(in crate::console) async fn retained(
    visitor: Visitor,
    State(console): State<Here>,
    Query(query): Query,
) -> Response {
    let made = async {
        visitor.check_operator()?;
        let (app, filter) = (app_of(&query, &visitor), query.some("filter").unwrap_or("#"));
        let after = query.some("after").map(|after| format!("&after={}", encode(after))).unwrap_or_default();
        let path = format!(
            "/v1/broker/apps/{}/retained?payload=true&limit=100&filter={}{after}",
            encode(app),
            encode(filter)
        );
        let answer = console.door.get(&visitor.caller, &path).await;
        let next = answer.as_ref().ok().and_then(|answer| answer.pointer("/page/next")?.as_str());
        let next = next.map(|next| {
            format!(
                "/console/broker/retained?app={}&filter={}&after={}",
                encode(app),
                encode(filter),
                encode(next)
            )
        });
        let context = visitor.context(None);
        let body = retained_view(&context, &Retained { app, filter, answer, next });
        Ok(Page::new(context.texts.retained, "retained", body))
    };
    visitor.answer(None, made.await)
}

/// Deletes one.
pub(in crate::console) async fn delete_retained(State(console): State<Here>, posted: Posted) -> Response {
    let Posted { visitor, fields } = posted;
    let app = fields.text("app");
    let path = format!("/v1/broker/apps/{}/retained/{}", encode(app), encode(fields.text("topic")));
    match console.door.delete(&visitor.caller, &path).await {
        Ok(_) => done(&format!("/console/broker/retained?app={}", encode(app)), "done_deleted"),
        Err(refused) => visitor.answer(None, Err(refused)),
    }
}

/// Who would get a message with this topic, and what it says last.
pub(in crate::console) async fn receivers(
    visitor: Visitor,
    State(console): State<Here>,
    Query(query): Query,
) -> Response {
    let (app, topic) = (app_of(&query, &visitor), query.text("topic"));
    let filled = Filled { fields: Fields::of(&[("topic", topic)]), refusal: None };
    let made = page(&console, &visitor, app, topic, filled).await;
    visitor.answer(None, made)
}

async fn page(
    console: &Here,
    visitor: &Visitor,
    app: &str,
    topic: &str,
    filled: Filled,
) -> Result<Page, Refusal> {
    visitor.check_operator()?;
    let base = format!("/v1/broker/apps/{}", encode(app));
    let (mut receivers, mut last) = (None, None);
    if !topic.is_empty() {
        let path = format!("{base}/receivers?limit=100&topic={}", encode(topic));
        receivers = Some(console.door.get(&visitor.caller, &path).await);
        last = console.door.get(&visitor.caller, &format!("{base}/retained/{}", encode(topic))).await.ok();
    }
    let context = visitor.context(None);
    let body = topics(&context, &Topics { app, topic, receivers, last, filled });
    Ok(Page::new(context.texts.topics, "topics", body))
}

/// Publishes a message.
pub(in crate::console) async fn publish(State(console): State<Here>, posted: Posted) -> Response {
    let Posted { visitor, fields } = posted;
    let app = app_of(&fields, &visitor).to_owned();
    let (topic, qos) = (fields.text("topic").to_owned(), fields.text("qos").parse::<u8>().unwrap_or(1));
    let base = format!("/v1/broker/apps/{}", encode(&app));
    let published = if fields.is("retain", "true") {
        let body = json!({"payload": fields.text("payload"), "qos": qos});
        console.door.put(&visitor.caller, &format!("{base}/retained/{}", encode(&topic)), &body).await
    } else {
        let body = json!({"topic": topic, "payload": fields.text("payload"), "qos": qos});
        console.door.post(&visitor.caller, &format!("{base}/publish"), &body).await
    };
    match published {
        Ok(_) => {
            let path = format!("/console/broker/topics?app={}&topic={}", encode(&app), encode(&topic));
            done(&path, "done_published")
        }
        Err(refused) => {
            let made =
                page(&console, &visitor, &app, &topic, Filled { fields, refusal: Some(refused) }).await;
            visitor.answer_as(StatusCode::UNPROCESSABLE_ENTITY, None, made)
        }
    }
}
