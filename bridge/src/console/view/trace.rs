//! The push trace: one message and one device, told in words.

use maud::{Markup, html};

use super::Context;
use super::messages::MessageRow;
use super::parts::{Tone, badge, card, facts, or_dash, time};
use crate::console::door::encode;
use crate::console::words::{self, fill};
use crate::deliveries::Delivery;

/// One message on its way to one device.
pub(in crate::console) struct Trace {
    pub row: MessageRow,
    pub device: String,
    pub delivery: Delivery,
}

/// The part of the page that is renewed.
pub(in crate::console) fn trace(context: &Context<'_>, trace: &Trace) -> Markup {
    let texts = context.texts;
    let Trace { row, device, delivery } = trace;
    let (sentence, at_ms) = words::verdict(texts, delivery);
    let rows = [
        (
            texts.message,
            html! { a href=(context.path(&format!("/messages/{}", row.message.id))) { (row.title(texts)) } },
        ),
        (
            texts.device,
            html! { a href=(context.path(&format!("/devices/{}", encode(device)))) { code { (device) } } },
        ),
        (texts.strategy, html! { code { (delivery.strategy.name()) } }),
        (
            texts.attempts,
            html! { (delivery.attempts) @if delivery.is_unknown { " " (badge(Tone::Warning, texts.outcome_unknown)) } },
        ),
        (
            texts.vendor,
            or_dash(delivery.timeline.iter().rev().find_map(|entry| entry.vendor).map(words::vendor)),
        ),
        (texts.message_id, html! { code { (row.message.id) } }),
    ];
    html! {
        section.verdict.(tone_class(words::tone(delivery.state))) aria-label=(texts.verdict) {
            p.verdict-text { (sentence) }
            @if let Some(at_ms) = at_ms { p { (time(at_ms)) } }
        }
        div.grid {
            (card(texts.timeline, timeline(context, delivery)))
            (card(texts.facts, facts(&rows)))
        }
    }
}

fn tone_class(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "good",
        Tone::Busy => "busy",
        Tone::Warning => "warning",
        Tone::Bad => "bad",
        Tone::Quiet => "quiet",
    }
}

fn timeline(context: &Context<'_>, delivery: &Delivery) -> Markup {
    let texts = context.texts;
    let begin = delivery.timeline.first().map_or(0, |entry| entry.at_ms);
    html! {
        ol.timeline {
            @for entry in &delivery.timeline {
                li.(tone_class(words::tone(entry.state))) {
                    span.timeline-text { (words::entry(texts, entry)) @if let Some(vendor) = entry.vendor { " " (badge(Tone::Quiet, words::vendor(vendor))) } }
                    span.timeline-time { (time(entry.at_ms)) " " span.dim { (fill(texts.after_n_ms, &[&words::number(entry.at_ms.saturating_sub(begin))])) } }
                }
            }
        }
        @if delivery.left_out > 0 { p.hint { (fill(texts.timeline_left_out, &[&delivery.left_out.to_string()])) } }
    }
}
