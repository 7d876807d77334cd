//! Events, newest first.

use std::sync::Arc;

use maud::{Markup, html};

use super::Context;
use super::parts::{Tone, badge, empty, table, time};
use crate::console::words::cut;
use crate::events::Event;

/// What can be chosen; the first is everything.
pub(in crate::console) const KINDS: [&str; 5] = ["", "message.*", "token.*", "vendor.*", "credential.*"];
/// Longest data that is shown, in characters.
const DATA_MAX: usize = 200;

/// The choice of a kind.
pub(in crate::console) fn chooser(context: &Context<'_>, kind: &str) -> Markup {
    let texts = context.texts;
    html! {
        p.lead { (texts.events_lead) }
        form.filters method="get" {
            div.field {
                label for="kind" { (texts.events_kind) }
                select #kind name="kind" data-submit {
                    @for known in KINDS {
                        option value=(known) selected[known == kind] { @if known.is_empty() { (texts.events_all) } @else { (known) } }
                    }
                }
            }
            button type="submit" { (texts.show) }
        }
    }
}

/// The list.
pub(in crate::console) fn events(context: &Context<'_>, events: &[Arc<Event>]) -> Markup {
    let texts = context.texts;
    if events.is_empty() {
        return empty(texts.events_empty, texts.events_empty_lead, None);
    }
    let rows = html! {
        @for event in events {
            tr {
                td { (time(event.news.at_ms)) }
                td { (badge(tone(&event.news.name), &event.news.name)) }
                td.wide {
                    @if event.news.name.starts_with("message.") {
                        a href=(context.path(&format!("/messages/{}", event.news.about))) { code { (event.news.about) } }
                    } @else { code { (event.news.about) } }
                }
                td.wide { code { (cut(&event.news.data.to_string(), DATA_MAX)) } }
            }
        }
    };
    table(texts.live_events, &[texts.at, texts.event, texts.event_about, texts.data], rows)
}

fn tone(name: &str) -> Tone {
    match name {
        "vendor.failing" | "token.invalid" => Tone::Bad,
        "credential.expiring" => Tone::Warning,
        "message.done" | "vendor.working" => Tone::Good,
        "message.sending" => Tone::Busy,
        _ => Tone::Quiet,
    }
}
