//! People who log in with a name and a password.

use maud::{Markup, html};

use super::Context;
use super::apps::{scope_choice, scopes};
use super::fields::{Control, Field, Filled, field};
use super::parts::{Confirm, card, confirm, csrf, empty, refusal, table, time};
use crate::apps::KeyView;

/// Everybody, and the keys that open every app.
pub(in crate::console) fn list(
    context: &Context<'_>,
    people: &[KeyView],
    operator_keys: &[KeyView],
    filled: &Filled,
) -> Markup {
    let texts = context.texts;
    html! {
        @if people.is_empty() { (empty(texts.people_empty, texts.people_empty_lead, None)) }
        @else { (rows(context, texts.people, people)) }
        (card(texts.add_person, add(context, filled)))
        (card(texts.operator_keys, html! { p.hint { (texts.operator_keys_lead) } (rows(context, texts.operator_keys, operator_keys)) }))
    }
}

fn rows(context: &Context<'_>, caption: &str, keys: &[KeyView]) -> Markup {
    let texts = context.texts;
    let body = html! {
        @for key in keys {
            tr {
                th scope="row" { code { (key.id.trim_start_matches('@')) } }
                td { (key.app.as_deref().unwrap_or(texts.every_app)) }
                td { (scopes(texts, key)) }
                td { (time(key.created_at_ms)) }
                td {
                    @if key.id == context.caller.key_id { span.dim { (texts.you) } }
                    @else { (confirm(texts, &Confirm { csrf: context.csrf, action: "/console/people/remove", label: texts.remove, warning: texts.remove_person_warning, fields: &[("id", &key.id)] })) }
                }
            }
        }
    };
    table(caption, &[texts.name, texts.app, texts.may, texts.created_at, ""], body)
}

fn add(context: &Context<'_>, filled: &Filled) -> Markup {
    let texts = context.texts;
    let mut apps = vec![("", texts.every_app)];
    apps.extend(context.apps.iter().map(|app| (app.id.as_str(), app.id.as_str())));
    html! {
        form.stack method="post" action="/console/people" {
            (csrf(context.csrf))
            @if let Some(refused) = &filled.refusal { (refusal(texts, refused)) }
            div.columns {
                (field(filled, &Field::text("name", texts.name).required().hint(texts.person_name_hint).at("/name")))
                (field(filled, &Field::text("app", texts.app).control(Control::Choice(&apps)).at("/app")))
            }
            (field(filled, &Field::text("password", texts.password).control(Control::Password).required().hint(texts.password_hint).at("/password")))
            (scope_choice(texts, filled))
            div.actions { button.primary type="submit" { (texts.add_person) } }
        }
    }
}

/// Another password for oneself.
pub(in crate::console) fn password(context: &Context<'_>, filled: &Filled) -> Markup {
    let texts = context.texts;
    card(
        texts.change_password,
        html! {
            form.stack.narrow method="post" action="/console/password" {
                (csrf(context.csrf))
                @if let Some(refused) = &filled.refusal { (refusal(texts, refused)) }
                (field(filled, &Field::text("old", texts.password_old).control(Control::Password).required().at("/old")))
                (field(filled, &Field::text("password", texts.password_new).control(Control::Password).required().hint(texts.password_hint).at("/password")))
                div.actions { button.primary type="submit" { (texts.save) } }
            }
        },
    )
}
