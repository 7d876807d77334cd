//! The broker's side: status, sessions, queues, retained messages, topics. Data is the operations API's JSON.

use maud::{Markup, html};
use serde_json::Value;

use super::Context;
use super::fields::{Control, Field, Filled, field};
use super::parts::{
    Confirm, Tone, badge, card, confirm, csrf, dash, empty, facts, figure, json, or_dash, pager, presence,
    refusal, table, time, time_or_dash,
};
use crate::console::door::{Refusal, encode};
use crate::console::texts::Texts;
use crate::console::words::{self, bytes, number};

pub(super) fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn count(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

pub(super) fn is(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
}

/// The items of a list.
pub(in crate::console) fn items(value: &Value) -> &[Value] {
    value.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Counters, shards, listeners.
pub(in crate::console) struct Status {
    pub stats: Value,
    pub shards: Value,
    pub listeners: Value,
    pub build: Value,
}

/// The part of the page that is renewed.
pub(in crate::console) fn status(context: &Context<'_>, status: &Status) -> Markup {
    let texts = context.texts;
    let shards = items(&status.shards);
    let sum = |name: &str| shards.iter().map(|shard| count(shard, name)).sum::<u64>();
    let lag_us = shards.iter().map(|shard| count(shard, "/lag_us")).max().unwrap_or(0);
    html! {
        dl.figures {
            (figure(texts.connections, &number(count(&status.stats, "/connections")), Some(if is(&status.stats, "/ready") { badge(Tone::Good, texts.ready) } else { badge(Tone::Bad, texts.not_ready) })))
            (figure(texts.sessions, &number(sum("/sessions")), Some(html! { (words::fill(texts.n_online, &[&number(sum("/sessions_online"))])) })))
            (figure(texts.queued_messages, &number(sum("/queued_messages")), Some(html! { (bytes(sum("/queued_bytes"))) })))
            (figure(texts.shard_lag, &format!("{} µs", number(lag_us)), Some(html! { (texts.shard_lag_hint) })))
        }
        (card(texts.listeners, listeners(texts, items(&status.listeners))))
        (card(texts.shards, shard_table(texts, shards)))
        details.card.fold { summary { h2 { (texts.counters) } } (counters(texts, &status.stats)) }
        p.hint { (text(&status.build, "/version")) " " (text(&status.build, "/commit")) }
    }
}

fn listeners(texts: &Texts, rows: &[Value]) -> Markup {
    let body = html! {
        @for row in rows {
            tr {
                th scope="row" { (text(row, "/name")) }
                td { (text(row, "/kind")) }
                td { code { (text(row, "/place")) (text(row, "/address")) } }
                td.number { (number(count(row, "/connections"))) }
                td { (time_or_dash(row.pointer("/not_after_ms").or_else(|| row.pointer("/certificate/not_after_ms")).and_then(Value::as_u64))) }
            }
        }
    };
    table(
        texts.listeners,
        &[texts.name, texts.kind, texts.address, texts.connections, texts.certificate_ends],
        body,
    )
}

fn shard_table(texts: &Texts, rows: &[Value]) -> Markup {
    let body = html! {
        @for row in rows {
            tr {
                th scope="row" { (count(row, "/shard")) }
                td.number { (number(count(row, "/sessions"))) }
                td.number { (number(count(row, "/sessions_online"))) }
                td.number { (number(count(row, "/subscriptions"))) }
                td.number { (number(count(row, "/queued_messages"))) }
                td.number { (bytes(count(row, "/mailbox_bytes"))) }
                td.number { (number(count(row, "/lag_us"))) " µs" }
            }
        }
    };
    table(
        texts.shards,
        &[
            texts.shard,
            texts.sessions,
            texts.online,
            texts.subscriptions,
            texts.queued_messages,
            texts.mailbox,
            texts.shard_lag,
        ],
        body,
    )
}

fn counters(texts: &Texts, stats: &Value) -> Markup {
    let counters = stats.get("counters").and_then(Value::as_object);
    let body = html! {
        @for (name, value) in counters.into_iter().flatten() {
            tr { th scope="row" { code { (name) } } td.number { (number(value.as_u64().unwrap_or(0))) } }
        }
    };
    table(texts.counters, &[texts.name, texts.count], body)
}

/// What sessions are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::console) struct SessionsQuery<'a> {
    pub client: &'a str,
    pub app: &'a str,
    pub online: &'a str,
    pub is_slow: bool,
}

/// Sessions with their filters.
pub(in crate::console) fn sessions(
    context: &Context<'_>,
    query: SessionsQuery<'_>,
    answer: &Value,
    next: Option<&str>,
) -> Markup {
    let texts = context.texts;
    let mut apps = vec![("", texts.every_app)];
    apps.extend(context.apps.iter().map(|app| (app.id.as_str(), app.id.as_str())));
    let online = [("", texts.any_state), ("true", texts.online), ("false", texts.offline)];
    let choice = |id: &str, label: &str, options: &[(&str, &str)], chosen: &str| {
        html! {
            div.field { label for=(id) { (label) } select id=(id) name=(id) { @for (value, text) in options { option value=(value) selected[*value == chosen] { (text) } } } }
        }
    };
    html! {
        form.filters method="get" role="search" {
            div.field.grow { label for="client" { (texts.client_id) } input #client type="search" name="client" value=(query.client) placeholder="sensor-*"; }
            (choice("app", texts.app, &apps, query.app))
            (choice("online", texts.state, &online, query.online))
            div.field.check { input #slow type="checkbox" name="slow" value="true" checked[query.is_slow]; label for="slow" { (texts.only_slow) } }
            button type="submit" { (texts.filter) }
        }
        @if items(answer).is_empty() { (empty(texts.nothing_found, texts.sessions_empty_lead, None)) }
        @else { (session_table(texts, items(answer))) }
        (pager(texts, None, next))
    }
}

fn session_table(texts: &Texts, rows: &[Value]) -> Markup {
    let body = html! {
        @for row in rows {
            tr {
                th scope="row" { a href={ "/console/broker/sessions/" (encode(text(row, "/app"))) "/" (encode(text(row, "/client_id"))) } { code { (text(row, "/client_id")) } } }
                td { (text(row, "/app")) }
                td { (presence(texts, is(row, "/online"))) @if is(row, "/connection/slow") { " " (badge(Tone::Warning, texts.slow)) } }
                td { (or_dash(row.pointer("/connection/protocol").and_then(Value::as_str))) }
                td { (or_dash(row.pointer("/connection/network").and_then(Value::as_str))) }
                td.number { (number(count(row, "/subscriptions"))) }
                td.number { (number(count(row, "/queue/messages"))) }
                td { (time_or_dash(row.pointer("/connection/since_ms").or_else(|| row.pointer("/offline_since_ms")).and_then(Value::as_u64))) }
            }
        }
    };
    table(
        texts.sessions,
        &[
            texts.client_id,
            texts.app,
            texts.state,
            texts.protocol,
            texts.network,
            texts.subscriptions,
            texts.queued_messages,
            texts.since,
        ],
        body,
    )
}

/// One session with its subscriptions and queue.
pub(in crate::console) fn session(
    context: &Context<'_>,
    session: &Value,
    subscriptions: &Value,
    queue: &Value,
) -> Markup {
    let texts = context.texts;
    let span = |pointer: &str| {
        session.pointer(pointer).and_then(Value::as_u64).map(|seconds| words::span(texts, seconds))
    };
    let rows = [
        (
            texts.state,
            html! { (presence(texts, is(session, "/online"))) @if is(session, "/connection/slow") { " " (badge(Tone::Warning, texts.slow)) } },
        ),
        (texts.app, html! { (text(session, "/app")) }),
        (texts.epoch, html! { code { (count(session, "/epoch")) } }),
        (texts.durable, html! { (if is(session, "/durable") { texts.yes } else { texts.no }) }),
        (texts.session_outlives, html! { (span("/expiry_s").unwrap_or(texts.for_ever.to_owned())) }),
        (texts.protocol, html! { "MQTT " (text(session, "/connection/protocol")) }),
        (texts.keep_alive, html! { (or_dash(span("/connection/keep_alive_s").as_deref())) }),
        (texts.network, or_dash(Some(text(session, "/connection/network")))),
        (texts.listener, or_dash(Some(text(session, "/connection/listener")))),
        (texts.user, or_dash(Some(text(session, "/connection/user")))),
        (
            texts.last_packet,
            time_or_dash(session.pointer("/connection/last_seen_ms").and_then(Value::as_u64)),
        ),
        (texts.unsent, html! { (bytes(count(session, "/connection/unsent_bytes"))) }),
        (texts.in_flight, html! { (number(count(session, "/queue/in_flight"))) }),
    ];
    html! {
        (card(texts.facts, facts(&rows)))
        (card(texts.subscriptions, subscription_table(texts, items(subscriptions), false)))
        (card(texts.queue, queue_table(texts, queue)))
    }
}

/// Kick, purge, end.
pub(in crate::console) fn session_actions(
    context: &Context<'_>,
    app: &str,
    client: &str,
    is_online: bool,
) -> Markup {
    let texts = context.texts;
    let base = format!("/console/broker/sessions/{}/{}", encode(app), encode(client));
    let (kick, purge, end) = (format!("{base}/kick"), format!("{base}/purge"), format!("{base}/end"));
    let ask = |action, label, warning| {
        confirm(texts, &Confirm { csrf: context.csrf, action, label, warning, fields: &[] })
    };
    html! {
        @if is_online { (ask(&kick, texts.kick, texts.kick_warning)) }
        (ask(&purge, texts.purge, texts.purge_warning))
        (ask(&end, texts.end_session, texts.end_session_warning))
    }
}

fn subscription_table(texts: &Texts, rows: &[Value], has_client: bool) -> Markup {
    if rows.is_empty() {
        return html! { p.dim { (texts.subscriptions_none) } };
    }
    let body = html! {
        @for row in rows {
            tr {
                @if has_client {
                    th scope="row" { a href={ "/console/broker/sessions/" (encode(text(row, "/app"))) "/" (encode(text(row, "/client_id"))) } { code { (text(row, "/client_id")) } } }
                    td { (presence(texts, is(row, "/online"))) }
                }
                td.wide { code { (text(row, "/filter")) } }
                td.number { (count(row, "/qos")) }
                td { (or_dash(row.pointer("/group").and_then(Value::as_str))) }
            }
        }
    };
    let heads = [texts.client_id, texts.state, texts.topic_filter, "QoS", texts.group];
    table(texts.subscriptions, if has_client { &heads } else { heads.get(2..).unwrap_or_default() }, body)
}

/// The messages of one queue.
pub(in crate::console) fn queue_table(texts: &Texts, queue: &Value) -> Markup {
    let rows = items(queue);
    if rows.is_empty() {
        return html! { p.dim { (texts.queue_empty) } };
    }
    let body = html! {
        @for row in rows {
            tr {
                td.number { (count(row, "/seq")) }
                td.wide { code { (or_dash(row.pointer("/topic").and_then(Value::as_str))) } }
                td.number { (count(row, "/qos")) }
                td { (badge(Tone::Quiet, match text(row, "/state") { "waiting" => texts.queued_waiting, "sent" => texts.queued_sent, _ => texts.queued_released })) }
                td.number { (bytes(count(row, "/size"))) }
                td { (time(count(row, "/queued_at_ms"))) }
                td { (time_or_dash(row.pointer("/expires_at_ms").and_then(Value::as_u64))) }
            }
        }
    };
    table(
        texts.queue,
        &["#", texts.topic, "QoS", texts.state, texts.size, texts.queued_at, texts.expires_at],
        body,
    )
}

/// Queues that stand out, and clients that are too slow.
pub(in crate::console) fn queues(context: &Context<'_>, order: &str, ranked: &Value, slow: &Value) -> Markup {
    let texts = context.texts;
    let orders = [("messages", texts.by_messages), ("bytes", texts.by_bytes), ("oldest", texts.by_age)];
    html! {
        (card(texts.slow_consumers, html! {
            @if items(slow).is_empty() { p.dim { (texts.slow_none) } } @else { (session_table(texts, items(slow))) }
        }))
        section.card {
            h2 { (texts.longest_queues) }
            nav.tabs aria-label=(texts.order) {
                @for (name, word) in orders { a href={ "?order=" (name) } aria-current=[(name == order).then_some("true")] { (word) } }
            }
            @if items(ranked).is_empty() { p.dim { (texts.queues_none) } } @else { (ranking(texts, items(ranked))) }
            p.hint { (words::fill(texts.n_queues, &[&number(count(ranked, "/queues"))])) " " (time(count(ranked, "/at_ms"))) }
        }
    }
}

fn ranking(texts: &Texts, rows: &[Value]) -> Markup {
    let body = html! {
        @for row in rows {
            tr {
                th scope="row" { a href={ "/console/broker/sessions/" (encode(text(row, "/app"))) "/" (encode(text(row, "/client_id"))) } { code { (text(row, "/client_id")) } } }
                td { (text(row, "/app")) }
                td { (presence(texts, is(row, "/online"))) }
                td.number { (number(count(row, "/queue/messages"))) }
                td.number { (bytes(count(row, "/queue/bytes"))) }
                td.number { (or_dash(row.pointer("/queue/oldest_age_s").and_then(Value::as_u64).map(|age| words::span(texts, age)).as_deref())) }
            }
        }
    };
    table(
        texts.longest_queues,
        &[texts.client_id, texts.app, texts.state, texts.messages, texts.size, texts.oldest],
        body,
    )
}

/// Retained messages of an app under a filter.
pub(in crate::console) struct Retained<'a> {
    pub app: &'a str,
    pub filter: &'a str,
    pub answer: Result<Value, Refusal>,
    pub next: Option<String>,
}

fn app_field(context: &Context<'_>, app: &str) -> Markup {
    html! {
        div.field { label for="app" { (context.texts.app) } select #app name="app" { @for known in context.apps { option value=(known.id) selected[known.id == app] { (known.id) } } } }
    }
}

/// The page of retained messages.
pub(in crate::console) fn retained(context: &Context<'_>, page: &Retained<'_>) -> Markup {
    let texts = context.texts;
    html! {
        form.filters method="get" role="search" {
            (app_field(context, page.app))
            div.field.grow { label for="filter" { (texts.topic_filter) } input #filter type="search" name="filter" value=(page.filter); }
            button type="submit" { (texts.filter) }
        }
        @match &page.answer {
            Err(refused) => { (refusal(texts, refused)) }
            Ok(answer) => {
                @if items(answer).is_empty() { (empty(texts.retained_empty, texts.retained_empty_lead, None)) }
                @else { (retained_table(context, page.app, items(answer))) }
            }
        }
        (pager(texts, None, page.next.as_deref()))
    }
}

fn retained_table(context: &Context<'_>, app: &str, rows: &[Value]) -> Markup {
    let texts = context.texts;
    let body = html! {
        @for row in rows {
            tr {
                th.wide scope="row" { code { (text(row, "/topic")) } }
                td.wide { @if text(row, "/payload/text").is_empty() { (dash()) } @else { code { (words::cut(text(row, "/payload/text"), 120)) } } }
                td.number { (bytes(count(row, "/payload_bytes"))) }
                td.number { (count(row, "/qos")) }
                td { (time(count(row, "/accepted_at_ms"))) }
                td { (confirm(texts, &Confirm { csrf: context.csrf, action: "/console/broker/retained", label: texts.delete, warning: texts.delete_retained_warning, fields: &[("app", app), ("topic", text(row, "/topic"))] })) }
            }
        }
    };
    table(texts.retained, &[texts.topic, texts.payload, texts.size, "QoS", texts.published_at, ""], body)
}

/// Who gets a topic, and publishing to it.
pub(in crate::console) struct Topics<'a> {
    pub app: &'a str,
    pub topic: &'a str,
    /// `None`: no topic was named yet.
    pub receivers: Option<Result<Value, Refusal>>,
    pub last: Option<Value>,
    pub filled: Filled,
}

/// The page of topics.
pub(in crate::console) fn topics(context: &Context<'_>, page: &Topics<'_>) -> Markup {
    let texts = context.texts;
    html! {
        form.filters method="get" role="search" {
            (app_field(context, page.app))
            div.field.grow { label for="topic" { (texts.topic) } input #topic type="search" name="topic" value=(page.topic) placeholder="plant/7/temperature" required; }
            button type="submit" { (texts.look_up) }
        }
        @match &page.receivers {
            None => { (empty(texts.topics_lead_title, texts.topics_lead, None)) }
            Some(Err(refused)) => { (refusal(texts, refused)) }
            Some(Ok(answer)) => {
                @if let Some(last) = &page.last { (card(texts.last_value, last_value(texts, last))) }
                (card(texts.receivers, subscription_table(texts, items(answer), true)))
            }
        }
        (card(texts.publish, html! {
            form.stack method="post" action="/console/broker/topics" {
                (csrf(context.csrf))
                @if let Some(refused) = &page.filled.refusal { (refusal(texts, refused)) }
                input type="hidden" name="app" value=(page.app);
                (field(&page.filled, &Field::text("topic", texts.topic).required().at("/topic")))
                (field(&page.filled, &Field::text("payload", texts.payload).control(Control::Area(3)).at("/payload")))
                div.columns {
                    (field(&page.filled, &Field::text("qos", "QoS").control(Control::Choice(&[("1", "1"), ("0", "0"), ("2", "2")]))))
                    (field(&page.filled, &Field::text("retain", texts.retain).control(Control::Check)))
                }
                div.actions { button.primary type="submit" { (texts.publish) } }
            }
        }))
    }
}

fn last_value(texts: &Texts, last: &Value) -> Markup {
    let payload = text(last, "/payload/text");
    html! {
        p { (time(count(last, "/accepted_at_ms"))) " · " (bytes(count(last, "/payload_bytes"))) " · QoS " (count(last, "/qos")) }
        @match serde_json::from_str::<Value>(payload) {
            Ok(value) => { (json(&value)) }
            Err(_) => { pre.code { code { (if payload.is_empty() { texts.not_text } else { payload }) } } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apps::Caller;
    use crate::console::texts::Language;
    use crate::console::visitor::{Light, Look};

    #[test]
    fn what_clients_call_themselves_and_publish_stays_text() {
        let evil = "<script>alert(1)</script>";
        let caller = Caller::for_tests("k");
        let look = Look { language: Language::English, light: Light::System };
        let context = Context {
            texts: look.texts(),
            look,
            caller: &caller,
            csrf: "c",
            apps: &[],
            app: Some("shop"),
            here: "/",
        };
        let row = serde_json::json!({"app": evil, "client_id": evil, "filter": evil, "topic": evil, "group": evil, "name": evil, "kind": evil,
            "place": evil, "payload": {"text": evil}, "connection": {"network": evil, "user": evil, "protocol": evil, "listener": evil}});
        let listed = serde_json::json!({"items": [row]});
        let page =
            Retained { app: evil, filter: evil, answer: Ok(listed.clone()), next: Some(evil.to_owned()) };
        let topics_page = Topics {
            app: evil,
            topic: evil,
            receivers: Some(Ok(listed.clone())),
            last: Some(row.clone()),
            filled: Filled::default(),
        };
        let status_page = Status {
            stats: serde_json::json!({"counters": {evil: 1}}),
            shards: listed.clone(),
            listeners: listed.clone(),
            build: serde_json::json!({"version": evil}),
        };
        for made in [
            sessions(
                &context,
                SessionsQuery { client: evil, ..SessionsQuery::default() },
                &listed,
                Some(evil),
            ),
            session(&context, &row, &listed, &listed),
            session_actions(&context, evil, evil, true),
            queues(&context, evil, &listed, &listed),
            retained(&context, &page),
            topics(&context, &topics_page),
            status(&context, &status_page),
        ] {
            assert!(!made.into_string().contains("<script"));
        }
    }
}
