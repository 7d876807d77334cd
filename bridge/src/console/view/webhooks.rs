//! Webhooks: who is told what, and what became of it.

use maud::{Markup, html};
use serde_json::Value;

use super::Context;
use super::broker::items;
use super::fields::{Control, Field, Filled, field};
use super::parts::{Confirm, Tone, badge, card, confirm, csrf, empty, or_dash, refusal, table, time};
use crate::console::texts::Texts;
use crate::console::words::{cut, number};

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn count(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn events(webhook: &Value) -> String {
    let events = webhook.get("events").and_then(Value::as_array).into_iter().flatten();
    events.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

/// Every webhook, and the form for another. `secret` is one that was just made.
pub(in crate::console) fn list(
    context: &Context<'_>,
    webhooks: &Value,
    filled: &Filled,
    secret: Option<&str>,
) -> Markup {
    let texts = context.texts;
    let rows = html! {
        @for webhook in items(webhooks) {
            tr {
                th.wide scope="row" { a href=(context.path(&format!("/webhooks/{}", text(webhook, "id")))) { (text(webhook, "url")) } }
                td.wide { code { (events(webhook)) } }
                td.number { (number(count(webhook, "waiting"))) }
                td.number { (number(count(webhook, "dead"))) @if count(webhook, "dead") > 0 { " " (badge(Tone::Bad, texts.given_up)) } }
                td { (time(count(webhook, "updated_at_ms"))) }
            }
        }
    };
    html! {
        @if let Some(secret) = secret {
            div.notice.good role="status" {
                p { strong { (texts.webhook_secret_once) } }
                p.secret { code #new-key { (secret) } button.small type="button" data-copy="new-key" data-copied=(texts.copied) { (texts.copy) } }
            }
        }
        @if items(webhooks).is_empty() { (empty(texts.webhooks_empty, texts.webhooks_empty_lead, None)) }
        @else { (table(texts.webhooks, &[texts.address, texts.events, texts.waiting, texts.dead_letters, texts.changed_at], rows)) }
        (card(texts.add_webhook, html! {
            form.stack method="post" action=(context.path("/webhooks")) {
                (csrf(context.csrf))
                @if let Some(refused) = &filled.refusal { (refusal(texts, refused)) }
                (field(filled, &Field::text("url", texts.address).required().placeholder("https://shop.example/reveille").at("/url")))
                (field(filled, &Field::text("events", texts.events).control(Control::Text).required().hint(texts.events_hint).placeholder("token.invalid, delivery.*").at("/events")))
                div.actions { button.primary type="submit" { (texts.add_webhook) } }
            }
        }))
    }
}

/// One webhook with its calls and what was given up.
pub(in crate::console) fn detail(
    context: &Context<'_>,
    webhook: &Value,
    attempts: &Value,
    dead: &Value,
) -> Markup {
    let texts = context.texts;
    let calls = html! {
        @for attempt in items(attempts) {
            tr {
                td { (time(count(attempt, "at_ms"))) }
                td { code { (text(attempt, "name")) } " " span.dim { "#" (count(attempt, "attempt")) } }
                td { (outcome(texts, attempt)) }
                td.wide { (or_dash(Some(text(attempt, "reason")))) }
                td.number { (number(count(attempt, "took_ms"))) " ms" }
            }
        }
    };
    let letters = html! {
        @for letter in items(dead) {
            tr {
                td { (time(count(letter, "at_ms"))) }
                td { code { (text(letter, "event")) } }
                td.number { (number(count(letter, "attempts"))) }
                td.wide { (text(letter, "reason")) }
                td.wide { code { (cut(&letter.get("data").cloned().unwrap_or_default().to_string(), 160)) } }
            }
        }
    };
    html! {
        p.lead { code { (events(webhook)) } }
        (card(texts.dead_letters, html! {
            @if items(dead).is_empty() { p.dim { (texts.dead_letters_none) } }
            @else { (table(texts.dead_letters, &[texts.at, texts.event, texts.attempts_made, texts.reason, texts.data], letters)) }
        }))
        (card(texts.webhook_calls, html! {
            @if items(attempts).is_empty() { p.dim { (texts.webhook_calls_none) } }
            @else { (table(texts.webhook_calls, &[texts.at, texts.event, texts.answer, texts.reason, texts.took], calls)) }
        }))
    }
}

fn outcome(texts: &Texts, attempt: &Value) -> Markup {
    let status = attempt.get("status").and_then(Value::as_u64);
    let (tone, word) = match text(attempt, "result") {
        "delivered" => (Tone::Good, texts.webhook_delivered),
        "again" => (Tone::Warning, texts.webhook_again),
        _ => (Tone::Bad, texts.given_up),
    };
    html! { (badge(tone, word)) @if let Some(status) = status { " " span.dim { (status) } } }
}

/// Replay and removal, beside the title.
pub(in crate::console) fn actions(context: &Context<'_>, id: &str, has_dead: bool) -> Markup {
    let texts = context.texts;
    let (replay, remove) =
        (context.path(&format!("/webhooks/{id}/replay")), context.path(&format!("/webhooks/{id}/remove")));
    html! {
        @if has_dead {
            form method="post" action=(replay) { (csrf(context.csrf)) button type="submit" { (texts.replay) } }
        }
        (confirm(texts, &Confirm { csrf: context.csrf, action: &remove, label: texts.remove, warning: texts.remove_webhook_warning, fields: &[] }))
    }
}
