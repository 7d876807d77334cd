//! Credentials at vendors: what is set, the form that sets or rotates one, a trial. Secrets go in and are never shown.

use maud::{Markup, html};
use serde_json::Value;

use super::Context;
use super::fields::{Control, Field, Filled, field};
use super::parts::{Confirm, Tone, badge, card, confirm, csrf, facts, refusal, table, time};
use crate::console::texts::Texts;
use crate::console::words::{self, fill, number};
use crate::vendor::{TOKEN_SHOWN, VendorName};

/// What is to be entered of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::console) enum Entry {
    /// A line.
    Text,
    /// A number.
    Number,
    /// A line that is never shown again.
    Secret,
    /// A PEM text, which is never shown again.
    Pem,
    /// JSON of an object.
    Object,
    /// One of these.
    Choice(&'static [&'static str]),
}

/// One field of a credential: its name in the API, what it is, whether it must be there.
pub(in crate::console) type CredentialField = (&'static str, Entry, bool);

/// The fields that most apps need. Everything else can be given as JSON.
pub(in crate::console) fn credential_fields(vendor: VendorName) -> &'static [CredentialField] {
    match vendor {
        VendorName::Apns => &[
            ("key_id", Entry::Text, false),
            ("team_id", Entry::Text, false),
            ("bundle_id", Entry::Text, false),
            ("environment", Entry::Choice(&["production", "sandbox"]), false),
            ("certificate", Entry::Pem, false),
            ("private_key", Entry::Pem, true),
        ],
        VendorName::Fcm => &[("service_account", Entry::Object, true)],
        VendorName::Huawei => &[
            ("app_id", Entry::Text, true),
            ("app_secret", Entry::Secret, true),
            ("category", Entry::Text, false),
            ("badge_class", Entry::Text, false),
        ],
        VendorName::Harmony => &[
            ("project_id", Entry::Text, true),
            ("key_id", Entry::Text, true),
            ("sub_account", Entry::Text, true),
            ("category", Entry::Text, true),
            ("private_key", Entry::Pem, true),
        ],
        VendorName::Honor => &[
            ("app_id", Entry::Text, true),
            ("client_id", Entry::Text, true),
            ("client_secret", Entry::Secret, true),
            ("badge_class", Entry::Text, false),
        ],
        VendorName::Xiaomi => &[
            ("package", Entry::Text, true),
            ("app_secret", Entry::Secret, true),
            ("channel_id", Entry::Text, false),
        ],
        VendorName::Oppo => &[
            ("app_key", Entry::Text, true),
            ("master_secret", Entry::Secret, true),
            ("channel_id", Entry::Text, false),
            ("category", Entry::Text, false),
        ],
        VendorName::Vivo => &[
            ("app_id", Entry::Number, true),
            ("app_key", Entry::Text, true),
            ("app_secret", Entry::Secret, true),
            ("category", Entry::Text, false),
        ],
        VendorName::Meizu => &[("app_id", Entry::Number, true), ("app_secret", Entry::Secret, true)],
        VendorName::WebPush => &[("subject", Entry::Text, true), ("private_key", Entry::Pem, true)],
        VendorName::Wns => &[
            ("client_id", Entry::Text, true),
            ("client_secret", Entry::Secret, true),
            ("tenant", Entry::Text, false),
        ],
        VendorName::Wechat => &[
            ("app_id", Entry::Text, true),
            ("app_secret", Entry::Secret, true),
            ("template_id", Entry::Text, true),
            ("title_field", Entry::Text, true),
            ("body_field", Entry::Text, false),
        ],
        VendorName::Webhook => &[("url", Entry::Text, true), ("secret", Entry::Secret, true)],
        VendorName::Record => &[],
    }
}

/// A credential that is set, as the API shows it.
#[derive(Clone, Debug, Default)]
pub(in crate::console) struct Credential {
    pub name: String,
    pub summary: String,
    pub updated_at_ms: u64,
    pub rates: Value,
    /// When it ends, where that is known.
    pub ends_at_ms: Option<u64>,
    pub is_open: bool,
}

/// All vendors: those that are set first.
pub(in crate::console) fn list(context: &Context<'_>, rows: &[(VendorName, Vec<Credential>)]) -> Markup {
    let texts = context.texts;
    let is_none_set = rows.iter().all(|(_, credentials)| credentials.is_empty());
    html! {
        @if is_none_set { p.notice.info { (texts.vendors_empty_lead) } }
        ul.tiles {
            @for (vendor, credentials) in rows {
                li.tile.(if credentials.is_empty() { "unset" } else { "set" }) {
                    h2 { a href=(context.path(&format!("/vendors/{vendor}"))) { (words::vendor(*vendor)) } }
                    @for credential in credentials {
                        p.tile-summary { @if credentials.len() > 1 { strong { (credential.name) } " " } (credential.summary) }
                        p { (state(texts, credential)) " " span.dim { (time(credential.updated_at_ms)) } }
                    }
                    @if credentials.is_empty() { p.dim { (texts.not_set) } }
                }
            }
        }
    }
}

fn state(texts: &Texts, credential: &Credential) -> Markup {
    html! {
        @if credential.is_open { (badge(Tone::Bad, texts.breaker_open)) } @else { (badge(Tone::Good, texts.credential_set)) }
        @if let Some(at_ms) = credential.ends_at_ms { " " (badge(Tone::Warning, texts.ends)) " " (time(at_ms)) }
    }
}

/// One vendor: what is set, the form, a trial.
pub(in crate::console) fn detail(
    context: &Context<'_>,
    vendor: VendorName,
    credentials: &[Credential],
    filled: &Filled,
    trial: Option<&Result<Value, crate::console::door::Refusal>>,
) -> Markup {
    let texts = context.texts;
    html! {
        @if let Some(trial) = trial { (trial_result(texts, trial)) }
        @for credential in credentials {
            section.stack {
                @if credentials.len() > 1 { h2 { (credential.name) } }
                div.grid {
                    (card(texts.credential_now, now(context, vendor, credential)))
                    (card(texts.try_it, test(context, vendor, credential)))
                }
            }
        }
        (card(if credentials.is_empty() { texts.add_credential } else { texts.rotate }, form(context, vendor, filled)))
    }
}

fn now(context: &Context<'_>, vendor: VendorName, credential: &Credential) -> Markup {
    let texts = context.texts;
    let rate = |name: &str| credential.rates.get(name).and_then(Value::as_u64);
    let rows = [
        (texts.summary, html! { (credential.summary) }),
        (texts.state, state(texts, credential)),
        (texts.changed_at, time(credential.updated_at_ms)),
        (texts.rate_second, html! { (rate("per_second").map_or(texts.no_limit.to_owned(), number)) }),
        (texts.rate_day, html! { (rate("per_day").map_or(texts.no_limit.to_owned(), number)) }),
    ];
    let action = context.path(&format!("/vendors/{vendor}/remove"));
    let ask = Confirm {
        csrf: context.csrf,
        action: &action,
        label: texts.remove_credential,
        warning: texts.remove_credential_warning,
        fields: &[("name", &credential.name)],
    };
    html! { (facts(&rows)) (confirm(texts, &ask)) }
}

fn test(context: &Context<'_>, vendor: VendorName, credential: &Credential) -> Markup {
    let texts = context.texts;
    html! {
        form.stack method="post" action=(context.path(&format!("/vendors/{vendor}/test"))) {
            (csrf(context.csrf))
            p.hint { (texts.try_lead) }
            input type="hidden" name="name" value=(credential.name);
            div.field {
                @let id = format!("token-{}", credential.name);
                label for=(id) { (texts.device_token) span.required aria-hidden="true" { " *" } }
                input id=(id) type="text" name="token" required autocomplete="off" spellcheck="false";
            }
            div.actions { button type="submit" { (texts.send_test) } }
        }
    }
}

fn trial_result(texts: &Texts, trial: &Result<Value, crate::console::door::Refusal>) -> Markup {
    let text =
        |answer: &Value, name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    match trial {
        Err(refused) => refusal(texts, refused),
        Ok(answer) => {
            let is_good = text(answer, "verdict") == "accepted";
            let took_ms = answer.get("took_ms").and_then(Value::as_u64).unwrap_or(0);
            html! {
                div.notice.(if is_good { "good" } else { "bad" }) role="status" {
                    p { strong { (if is_good { texts.trial_good } else { texts.trial_bad }) } " " code { (text(answer, "verdict")) } " · " (fill(texts.took_ms, &[&number(took_ms)])) }
                    @if !text(answer, "reason").is_empty() { p { (text(answer, "reason")) } }
                }
            }
        }
    }
}

fn form(context: &Context<'_>, vendor: VendorName, filled: &Filled) -> Markup {
    let texts = context.texts;
    html! {
        form.stack method="post" action=(context.path(&format!("/vendors/{vendor}"))) autocomplete="off" {
            (csrf(context.csrf))
            @if let Some(refused) = &filled.refusal { (refusal(texts, refused)) }
            p.hint { (texts.secret_hint) }
            (field(filled, &Field::text("name", texts.name).hint(texts.credential_name_hint).placeholder("default").at("/name")))
            @for (name, entry, is_required) in credential_fields(vendor) { (entry_field(filled, name, *entry, *is_required)) }
            div.columns {
                (field(filled, &Field::text("per_second", texts.rate_second).control(Control::Number).hint(texts.rate_hint).at("/rates/per_second")))
                (field(filled, &Field::text("per_day", texts.rate_day).control(Control::Number).at("/rates/per_day")))
            }
            (field(filled, &Field::text("more", texts.more_fields).control(Control::Area(3)).hint(texts.more_fields_hint).placeholder("{\"endpoint\": \"https://…\"}")))
            div.actions { button.primary type="submit" { (texts.save) } }
        }
    }
}

fn entry_field(filled: &Filled, name: &str, entry: Entry, is_required: bool) -> Markup {
    let pointer = format!("/{name}");
    let options: Vec<(&str, &str)> = match entry {
        Entry::Choice(options) => options.iter().map(|option| (*option, *option)).collect(),
        Entry::Text | Entry::Number | Entry::Secret | Entry::Pem | Entry::Object => Vec::new(),
    };
    let control = match entry {
        Entry::Text => Control::Text,
        Entry::Number => Control::Number,
        Entry::Secret => Control::Password,
        Entry::Pem => Control::Area(5),
        Entry::Object => Control::Area(8),
        Entry::Choice(_) => Control::Choice(&options),
    };
    let mut shown = Field::text(name, name).control(control).at(&pointer);
    shown.is_required = is_required;
    // A secret is not written back, not even to whoever sent it.
    let is_secret = matches!(entry, Entry::Secret | Entry::Pem | Entry::Object);
    if is_secret {
        let wrong = Filled { refusal: filled.refusal.clone(), ..Filled::default() };
        return field(&wrong, &shown);
    }
    field(filled, &shown)
}

/// The record vendor keeps what it would send: the newest pushes, for demos.
pub(in crate::console) fn recorded(texts: &Texts, items: &[Value]) -> Markup {
    let text = |item: &Value, pointer: &str| {
        item.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let rows = html! {
        @for item in items.iter().rev() {
            tr {
                td { (time(item.get("at_ms").and_then(Value::as_u64).unwrap_or(0))) }
                td.wide { (text(item, "/push/title")) " " span.dim { (text(item, "/push/body")) } }
                td { code { (text(item, "/token").chars().take(TOKEN_SHOWN).collect::<String>()) "…" } }
                td { (badge(if text(item, "/answer") == "accepted" { Tone::Good } else { Tone::Warning }, &text(item, "/answer"))) }
            }
        }
    };
    card(
        texts.recorded,
        html! { @if items.is_empty() { p.dim { (texts.recorded_none) } } @else { (table(texts.recorded, &[texts.at, texts.message, texts.device_token, texts.answer], rows)) } },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vendor::Credential as Kept;

    #[test]
    fn every_vendor_s_form_asks_for_what_its_credential_needs_and_for_nothing_that_it_does_not_know() {
        for vendor in VendorName::ALL {
            let mut fields = serde_json::Map::from_iter([("vendor".to_owned(), vendor.as_str().into())]);
            for (name, entry, _) in credential_fields(vendor) {
                let value: Value = match entry {
                    Entry::Number => 1.into(),
                    Entry::Choice(options) => options[0].into(),
                    Entry::Object => {
                        serde_json::json!({"project_id": "p", "client_email": "e", "private_key": "k", "private_key_id": "i"})
                    }
                    Entry::Text | Entry::Secret | Entry::Pem => "x".into(),
                };
                fields.insert((*name).to_owned(), value);
            }
            let read = serde_json::from_value::<Kept>(Value::Object(fields));
            assert!(read.is_ok(), "{vendor}: {:?}", read.err());
        }
    }
}
