//! Templates: texts by language, and how they look when they are filled.

use maud::{Markup, html};
use serde_json::Value;

use super::Context;
use super::fields::{Control, Field, Filled, field};
use super::parts::{Confirm, Tone, badge, card, confirm, csrf, empty, refusal, table, time};
use crate::apps::Access;
use crate::console::door::{Refusal, encode};
use crate::console::form::Fields;
use crate::languages::DEFAULT;
use crate::templates::LANGUAGES_MAX;

/// Empty places for further languages.
const MORE: usize = 2;

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn count(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

/// How many places for languages a form has.
pub(in crate::console) fn slots(fields: &Fields) -> usize {
    let used = (0..LANGUAGES_MAX).rev().find(|at| {
        ["language", "title", "body"].iter().any(|name| fields.some(&format!("{name}-{at}")).is_some())
    });
    (used.map_or(1, |last| last + 1) + MORE).min(LANGUAGES_MAX)
}

/// Every template, and the form for another.
pub(in crate::console) fn list(context: &Context<'_>, templates: &[Value], filled: &Filled) -> Markup {
    let texts = context.texts;
    let rows = html! {
        @for template in templates {
            @let name = text(template, "name");
            tr {
                th scope="row" { a href=(context.path(&format!("/templates/{}", encode(name)))) { (name) } @if !text(template, "description").is_empty() { br; span.dim { (text(template, "description")) } } }
                td.number { (count(template, "version")) }
                td.wide { (languages(template)) }
                td { (time(count(template, "created_at_ms"))) }
            }
        }
    };
    html! {
        @if templates.is_empty() { (empty(texts.templates_empty, texts.templates_empty_lead, None)) }
        @else { (table(texts.templates, &[texts.name, texts.template_version, texts.template_languages, texts.changed_at], rows)) }
        @if context.may(Access::Send) { (card(texts.add_template, form(context, filled, false))) }
    }
}

fn languages(template: &Value) -> Markup {
    let all = template.get("texts").and_then(Value::as_object).into_iter().flatten();
    html! { @for (language, _) in all { (badge(Tone::Quiet, language)) " " } }
}

fn form(context: &Context<'_>, filled: &Filled, is_known: bool) -> Markup {
    let texts = context.texts;
    html! {
        form.stack method="post" action=(context.path("/templates")) {
            (csrf(context.csrf))
            @if let Some(refused) = &filled.refusal { (refusal(texts, refused)) }
            @if is_known {
                input type="hidden" name="name" value=(filled.fields.text("name"));
                input type="hidden" name="is_known" value="true";
            }
            div.columns {
                @if !is_known { (field(filled, &Field::text("name", texts.name).required().hint(texts.template_name_hint).placeholder("order_shipped"))) }
                (field(filled, &Field::text("description", texts.description).at("/description")))
            }
            @for at in 0..slots(&filled.fields) { (slot(context, filled, at)) }
            (field(filled, &Field::text("sample", texts.template_sample).control(Control::Area(3)).hint(texts.template_sample_hint).placeholder("{\"order\": 7}").at("/sample")))
            div.actions { button.primary type="submit" { (if is_known { texts.save_version } else { texts.add_template }) } }
        }
    }
}

fn slot(context: &Context<'_>, filled: &Filled, at: usize) -> Markup {
    let texts = context.texts;
    let (language, title, body) = (format!("language-{at}"), format!("title-{at}"), format!("body-{at}"));
    let named = if at == 0 { DEFAULT } else { filled.fields.text(&language) };
    let (title_at, body_at) = (format!("/texts/{named}/title"), format!("/texts/{named}/body"));
    html! {
        fieldset.stack {
            @if at == 0 {
                legend { (texts.template_default) }
            } @else {
                legend { (if named.is_empty() { texts.template_other } else { named }) }
                (field(filled, &Field::text(&language, texts.template_language).placeholder("pt-BR")))
            }
            (field(filled, &Field::text(&title, texts.alert_title).at(&title_at).placeholder("{{ order }}")))
            (field(filled, &Field::text(&body, texts.alert_body).control(Control::Area(2)).at(&body_at)))
        }
    }
}

/// One template: as its readers see it, and the form for its next version.
pub(in crate::console) fn detail(
    context: &Context<'_>,
    template: &Value,
    previews: &[(String, Result<Value, Refusal>)],
    filled: &Filled,
) -> Markup {
    let texts = context.texts;
    let versions = template.get("versions").and_then(Value::as_array).into_iter().flatten();
    html! {
        p.lead { (text(template, "description")) }
        p { (texts.template_version) " " strong { (count(template, "version")) } " · " (time(count(template, "created_at_ms"))) " · " span.dim { @for version in versions { "@" (version) " " } } }
        (card(texts.preview, html! {
            div.columns { @for (language, tried) in previews { (preview(context, language, tried)) } }
        }))
        @if context.may(Access::Send) { (card(texts.new_version, form(context, filled, true))) }
    }
}

fn preview(context: &Context<'_>, language: &str, tried: &Result<Value, Refusal>) -> Markup {
    let texts = context.texts;
    html! {
        div {
            p { (badge(Tone::Quiet, language)) }
            @match tried {
                Ok(filled) => {
                    @let shown = filled.get("texts").cloned().unwrap_or_default();
                    div.phone { div.alert-card {
                        p.alert-title { (text(&shown, "title")) }
                        p.alert-body { (text(&shown, "body")) }
                    } }
                }
                Err(refused) => { (refusal(texts, refused)) }
            }
        }
    }
}

/// A message with it, and removal, beside the title.
pub(in crate::console) fn actions(context: &Context<'_>, name: &str) -> Markup {
    let texts = context.texts;
    let remove = context.path(&format!("/templates/{}/remove", encode(name)));
    html! {
        @if context.may(Access::Send) {
            a.button href=(context.path(&format!("/compose?template={}", encode(name)))) { (texts.send_with_it) }
            (confirm(texts, &Confirm { csrf: context.csrf, action: &remove, label: texts.remove, warning: texts.remove_template_warning, fields: &[] }))
        }
    }
}
