//! Tags and segments: which sets of devices there are, and how many are in each.

use maud::{Markup, html};
use serde_json::Value;

use super::Context;
use super::broker::items;
use super::fields::{Control, Field, Filled, field};
use super::parts::{Confirm, Tone, badge, card, confirm, csrf, empty, refusal, table, time};
use crate::apps::Access;
use crate::console::door::encode;
use crate::console::words::number;

/// What the page shows: the API's lists, and each segment with its count.
pub(in crate::console) struct Audiences {
    pub tags: Value,
    pub segments: Vec<Value>,
    pub filled: Filled,
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn count(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

/// The page.
pub(in crate::console) fn audiences(context: &Context<'_>, page: &Audiences) -> Markup {
    let texts = context.texts;
    html! {
        (card(texts.segments, segments(context, &page.segments)))
        @if context.may(Access::Send) { (card(texts.save_segment, form(context, &page.filled))) }
        (card(texts.tags, tags(context, items(&page.tags))))
    }
}

fn segments(context: &Context<'_>, segments: &[Value]) -> Markup {
    let texts = context.texts;
    if segments.is_empty() {
        return empty(texts.segments_empty, texts.segments_empty_lead, None);
    }
    let remove = context.path("/audiences/remove");
    let rows = html! {
        @for segment in segments {
            @let name = text(segment, "name");
            tr {
                th scope="row" { (name) @if !text(segment, "description").is_empty() { br; span.dim { (text(segment, "description")) } } }
                td.wide { code { (text(segment, "expr")) } }
                td.number { (number(count(segment, "devices"))) }
                td { (time(count(segment, "updated_at_ms"))) }
                td {
                    @if context.may(Access::Send) {
                        div.actions {
                            a.button.small href=(context.path(&format!("/compose?expr={}", encode(&format!("segment:{name}"))))) { (texts.send_to_it) }
                            (confirm(texts, &Confirm { csrf: context.csrf, action: &remove, label: texts.remove, warning: texts.remove_segment_warning, fields: &[("name", name)] }))
                        }
                    }
                }
            }
        }
    };
    table(texts.segments, &[texts.name, texts.expression, texts.devices, texts.changed_at, ""], rows)
}

fn form(context: &Context<'_>, filled: &Filled) -> Markup {
    let texts = context.texts;
    html! {
        form.stack method="post" action=(context.path("/audiences")) {
            (csrf(context.csrf))
            @if let Some(refused) = &filled.refusal { (refusal(texts, refused)) }
            div.columns {
                (field(filled, &Field::text("name", texts.name).required().hint(texts.segment_name_hint).placeholder("regulars").at("/name")))
                (field(filled, &Field::text("description", texts.description).at("/description")))
            }
            (field(filled, &Field::text("expr", texts.expression).control(Control::Area(2)).required().hint(texts.expression_hint).placeholder("tag:vip & last_seen<7d").at("/expr")))
            div.actions { button.primary type="submit" { (texts.save) } }
        }
    }
}

fn tags(context: &Context<'_>, tags: &[Value]) -> Markup {
    let texts = context.texts;
    if tags.is_empty() {
        return html! { p.dim { (texts.tags_empty) } };
    }
    html! {
        ul.chips {
            @for tag in tags {
                li { a href=(context.path(&format!("/devices?q={}", encode(&format!("tag:{}", text(tag, "tag")))))) { (text(tag, "tag")) " " (badge(Tone::Quiet, &number(count(tag, "devices")))) } }
            }
        }
    }
}
