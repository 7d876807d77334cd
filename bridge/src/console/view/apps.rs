//! Apps and the keys that open them.

use maud::{Markup, html};

use super::Context;
use super::fields::{Control, Field, Filled, field};
use super::parts::{Confirm, Tone, badge, card, confirm, csrf, dash, empty, or_dash, refusal, table, time};
use crate::apps::{Access, App, KeyView};
use crate::console::texts::Texts;
use crate::console::words::number;
use crate::operations::Operation;
use crate::removal;

/// Apps with their devices; the operator can make one, and sees those that are being removed.
pub(in crate::console) fn list(
    context: &Context<'_>,
    rows: &[(App, u64)],
    going: &[Operation],
    filled: &Filled,
) -> Markup {
    let texts = context.texts;
    let body = html! {
        @for (app, devices) in rows {
            tr {
                th scope="row" { a href={ "/console/apps/" (app.id) } { (if app.name.is_empty() { &app.id } else { &app.name }) } }
                td { code { (app.id) } }
                td.number { (number(*devices)) }
                td { @if app.created_at_ms > 0 { (time(app.created_at_ms)) } @else { (dash()) } }
            }
        }
    };
    html! {
        @if rows.is_empty() { (empty(texts.apps_empty, texts.apps_empty_lead, None)) }
        @else { (table(texts.apps, &[texts.name, texts.app_id, texts.devices, texts.created_at], body)) }
        @if !going.is_empty() { (card(texts.apps_going, going_table(texts, going))) }
        @if context.caller.is_operator() {
            (card(texts.create_app, html! {
                form.stack method="post" action="/console/apps" {
                    (csrf(context.csrf))
                    @if let Some(refused) = &filled.refusal { (refusal(texts, refused)) }
                    div.columns {
                        (field(filled, &Field::text("id", texts.app_id).required().hint(texts.app_id_hint).placeholder("shop").at("/id")))
                        (field(filled, &Field::text("name", texts.name).hint(texts.app_name_hint).at("/name")))
                    }
                    div.actions { button.primary type="submit" { (texts.create_app) } }
                }
            }))
        }
    }
}

fn going_table(texts: &Texts, going: &[Operation]) -> Markup {
    let rows = html! {
        @for operation in going {
            tr {
                th scope="row" { code { (operation.app) } }
                td { (time(operation.created_at_ms)) }
                td.number { (number(operation.done)) }
                td.wide { (or_dash(operation.held_up_by.as_ref().map(removal::words).as_deref())) }
                td { code { "/v1/operations/" (operation.id) } }
            }
        }
    };
    let heads = [texts.app_id, texts.going_since, texts.going_done, texts.held_up_by, texts.operation];
    table(texts.apps_going, &heads, rows)
}

/// What a key may do, as badges.
pub(in crate::console) fn scopes(texts: &Texts, key: &KeyView) -> Markup {
    html! {
        @for scope in &key.scopes {
            (badge(if *scope == Access::Admin { Tone::Warning } else { Tone::Quiet }, scope_name(texts, *scope))) " "
        }
    }
}

fn scope_name(texts: &Texts, scope: Access) -> &'static str {
    match scope {
        Access::Send => texts.scope_send,
        Access::Read => texts.scope_read,
        Access::Admin => texts.scope_admin,
    }
}

/// The choice of scopes in a form.
pub(in crate::console) fn scope_choice(texts: &Texts, filled: &Filled) -> Markup {
    let scopes = [
        ("read", texts.scope_read, texts.scope_read_hint),
        ("send", texts.scope_send, texts.scope_send_hint),
        ("admin", texts.scope_admin, texts.scope_admin_hint),
    ];
    html! {
        fieldset {
            legend { (texts.may) }
            @for (value, name, hint) in scopes {
                label.radio { input type="checkbox" name="scope" value=(value) checked[filled.fields.is("scope", value)]; span { (name) " " span.dim { (hint) } } }
            }
        }
    }
}

/// Keys of an app. `new` is the text of a key that was just made.
pub(in crate::console) fn keys(
    context: &Context<'_>,
    keys: &[KeyView],
    filled: &Filled,
    new: Option<&str>,
) -> Markup {
    let texts = context.texts;
    let remove = context.path("/keys/remove");
    let rows = html! {
        @for key in keys {
            tr {
                th scope="row" { code { (key.id) } }
                td.wide { (or_dash(Some(&key.name))) }
                td { (scopes(texts, key)) }
                td { (time(key.created_at_ms)) }
                td { (confirm(texts, &Confirm { csrf: context.csrf, action: &remove, label: texts.revoke, warning: texts.revoke_warning, fields: &[("id", &key.id)] })) }
            }
        }
    };
    html! {
        @if let Some(new) = new { (new_key(texts, new)) }
        @if keys.is_empty() { (empty(texts.keys_empty, texts.keys_empty_lead, None)) }
        @else { (table(texts.keys, &[texts.key_id, texts.name, texts.may, texts.created_at, ""], rows)) }
        (card(texts.create_key, html! {
            form.stack method="post" action=(context.path("/keys")) {
                (csrf(context.csrf))
                @if let Some(refused) = &filled.refusal { (refusal(texts, refused)) }
                (field(filled, &Field::text("name", texts.name).hint(texts.key_name_hint).control(Control::Text).at("/name")))
                (scope_choice(texts, filled))
                div.actions { button.primary type="submit" { (texts.create_key) } }
            }
        }))
    }
}

fn new_key(texts: &Texts, key: &str) -> Markup {
    html! {
        div.notice.good role="status" {
            p { strong { (texts.key_shown_once) } }
            p.secret { code #new-key { (key) } button.small type="button" data-copy="new-key" data-copied=(texts.copied) { (texts.copy) } }
        }
    }
}
