//! Schedules: when each is due next, and what became of its last moments.

use maud::{Markup, html};
use serde_json::Value;

use super::Context;
use super::parts::{
    Confirm, Tone, badge, card, confirm, csrf, dash, empty, facts, json, or_dash, table, time, time_or_dash,
};
use crate::apps::Access;
use crate::console::door::encode;
use crate::console::texts::Texts;
use crate::console::words::number;
use crate::starts::RECIPIENT;

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn count(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn name<'v>(texts: &Texts, schedule: &'v Value) -> &'v str {
    match text(schedule, "name") {
        "" => texts.schedule_unnamed,
        name => name,
    }
}

fn state(texts: &Texts, schedule: &Value) -> Markup {
    match text(schedule, "state") {
        "active" => badge(Tone::Good, texts.schedule_active),
        "paused" => badge(Tone::Warning, texts.message_paused),
        _ => badge(Tone::Quiet, texts.schedule_ended),
    }
}

fn when(schedule: &Value) -> &str {
    let part = |pointer| schedule.pointer(pointer).and_then(Value::as_str);
    part("/when/cron").or(part("/when/at")).unwrap_or_default()
}

fn clock(texts: &Texts, schedule: &Value) -> Markup {
    match text(schedule, "timezone") {
        RECIPIENT => html! { (texts.clock_recipient) " (" (text(schedule, "default_timezone")) ")" },
        zone => html! { (zone) },
    }
}

fn next(schedule: &Value) -> Markup {
    let at_ms = schedule.pointer("/next/at_ms").and_then(Value::as_u64);
    html! { (time_or_dash(at_ms)) @if at_ms.is_some() { br; span.dim { (schedule.pointer("/next/local").and_then(Value::as_str).unwrap_or_default()) } } }
}

/// Every schedule.
pub(in crate::console) fn list(context: &Context<'_>, schedules: &[Value]) -> Markup {
    let texts = context.texts;
    let compose = context.path("/compose?when=again");
    let rows = html! {
        @for schedule in schedules {
            tr {
                th scope="row" { a href=(context.path(&format!("/schedules/{}", encode(text(schedule, "id"))))) { (name(texts, schedule)) } }
                td { (state(texts, schedule)) }
                td { code { (when(schedule)) } br; span.dim { (clock(texts, schedule)) } }
                td { (next(schedule)) }
                td.number { (number(count(schedule, "runs"))) }
            }
        }
    };
    html! {
        @if schedules.is_empty() {
            (empty(texts.schedules_empty, texts.schedules_empty_lead, context.offer(Access::Send, &compose, texts.add_schedule)))
        } @else {
            @if let Some((path, label)) = context.offer(Access::Send, &compose, texts.add_schedule) { p { a.button.primary href=(path) { (label) } } }
            (table(texts.schedules, &[texts.name, texts.state, texts.when, texts.next_run, texts.runs], rows))
        }
    }
}

/// One schedule.
pub(in crate::console) fn detail(context: &Context<'_>, schedule: &Value) -> Markup {
    let texts = context.texts;
    let missed = if text(schedule, "missed") == "skip" { texts.missed_skip } else { texts.missed_run_once };
    let limit = schedule.get("count").and_then(Value::as_u64);
    let rows = [
        (texts.state, state(texts, schedule)),
        (texts.when, html! { code { (when(schedule)) } }),
        (texts.clock, clock(texts, schedule)),
        (texts.next_run, next(schedule)),
        (texts.from_time, or_dash(Some(text(schedule, "from")))),
        (texts.until_time, or_dash(Some(text(schedule, "until")))),
        (
            texts.runs,
            html! { (number(count(schedule, "runs"))) @if let Some(limit) = limit { " / " (number(limit)) } },
        ),
        (texts.missed, html! { (missed) }),
        (texts.changed_at, time(count(schedule, "updated_at_ms"))),
    ];
    html! {
        (card(texts.when, facts(&rows)))
        (card(texts.last_runs, runs(context, schedule)))
        (card(texts.content, json(schedule.get("message").unwrap_or(&Value::Null))))
    }
}

fn runs(context: &Context<'_>, schedule: &Value) -> Markup {
    let texts = context.texts;
    let recent: Vec<&Value> =
        schedule.get("recent").and_then(Value::as_array).into_iter().flatten().collect();
    if recent.is_empty() {
        return html! { p.dim { (texts.runs_none) } };
    }
    let rows = html! {
        @for run in recent {
            tr {
                td { (time(count(run, "at_ms"))) }
                td { @match run.get("due_ms").and_then(Value::as_u64) { Some(due_ms) => (time(due_ms)), None => span.dim { (texts.run_by_hand) } } }
                td.wide {
                    @let (message, problem) = (text(run, "message"), text(run, "problem"));
                    @if !message.is_empty() { a href=(context.path(&format!("/messages/{message}"))) { code { (message) } } }
                    @else if !problem.is_empty() { span.wrong { (problem) } }
                    @else { (dash()) }
                }
            }
        }
    };
    table(texts.last_runs, &[texts.at, texts.due_at, texts.message], rows)
}

/// What can be done with it, beside the title.
pub(in crate::console) fn actions(context: &Context<'_>, schedule: &Value) -> Markup {
    let texts = context.texts;
    let id = encode(text(schedule, "id"));
    let act = |what: &str| context.path(&format!("/schedules/{id}/{what}"));
    let turn = match text(schedule, "state") {
        "active" => Some(("pause", texts.pause)),
        "paused" => Some(("resume", texts.resume)),
        _ => None,
    };
    let (run, remove) = (act("run"), act("remove"));
    html! {
        @if context.may(Access::Send) {
            a.button href=(context.path(&format!("/compose?schedule={id}"))) { (texts.change) }
            @if let Some((what, label)) = turn {
                form method="post" action=(act(what)) { (csrf(context.csrf)) button type="submit" { (label) } }
            }
            (confirm(texts, &Confirm { csrf: context.csrf, action: &run, label: texts.run_now, warning: texts.run_now_warning, fields: &[] }))
            (confirm(texts, &Confirm { csrf: context.csrf, action: &remove, label: texts.remove, warning: texts.remove_schedule_warning, fields: &[] }))
        }
    }
}
