//! Devices: their list, and one with everything that is known of it; dead device tokens.

use maud::{Markup, html};
use serde_json::Value;

use super::Context;
use super::fields::{Control, Field, Filled, field};
use super::parts::{
    Confirm, Tone, badge, card, confirm, csrf, dash, empty, facts, or_dash, presence, refusal, table, time,
    time_or_dash,
};
use crate::apps::Access;
use crate::console::door::encode;
use crate::console::words::{self, fill, number};
use crate::deliveries::State;
use crate::devices::{Device, Presence};
use crate::inbox::user_of;
use crate::tokens::{DeadToken, Token, TokenState};
use crate::vendor::{TOKEN_SHOWN, VendorName};

/// A device with its presence.
pub(in crate::console) struct DeviceRow {
    pub device: Device,
    pub presence: Option<Presence>,
}

impl DeviceRow {
    fn is_online(&self) -> bool {
        self.presence.as_ref().is_some_and(|presence| presence.online)
    }
}

/// The list, the search, and the form for a new device.
pub(in crate::console) fn list(
    context: &Context<'_>,
    query: &str,
    rows: &[DeviceRow],
    filled: &Filled,
    wrong: Option<&crate::console::door::Refusal>,
) -> Markup {
    let texts = context.texts;
    html! {
        form.filters method="get" role="search" {
            div.field.grow {
                label for="q" { (texts.search) }
                input #q type="search" name="q" value=(query) placeholder=(texts.search_devices_placeholder) aria-describedby="q-hint";
                p.hint #q-hint { (texts.search_devices_hint) }
            }
            button type="submit" { (texts.search) }
        }
        @if let Some(wrong) = wrong { (refusal(texts, wrong)) }
        @if rows.is_empty() && !query.is_empty() { (empty(texts.nothing_found, texts.nothing_found_lead, None)) }
        @else if rows.is_empty() { (empty(texts.devices_empty, texts.devices_empty_lead, None)) }
        @else { (device_table(context, rows)) }
        @if context.may(Access::Send) { (register(context, filled)) }
    }
}

pub(super) fn device_table(context: &Context<'_>, rows: &[DeviceRow]) -> Markup {
    let texts = context.texts;
    let body = html! {
        @for row in rows {
            @let device = &row.device;
            tr {
                th scope="row" { a href=(context.path(&format!("/devices/{}", encode(&device.id)))) { code { (device.id) } } }
                td { (presence(texts, row.is_online())) }
                td { (user_link(context, device)) }
                td { @for tag in device.tags.iter().take(5) { (badge(Tone::Quiet, tag)) " " } @if device.tags.len() > 5 { span.dim { "+" (device.tags.len() - 5) } } @if device.tags.is_empty() { (dash()) } }
                td { (or_dash(device.attributes.platform.as_deref())) " " span.dim { (device.attributes.app_version.as_deref().unwrap_or_default()) } }
                td { @for token in &device.tokens { (token_badge(token)) " " } @if device.tokens.is_empty() { (dash()) } }
                td { (time(device.updated_at_ms)) }
            }
        }
    };
    table(
        texts.devices,
        &[
            texts.device,
            texts.presence,
            texts.user,
            texts.tags,
            texts.platform,
            texts.tokens,
            texts.changed_at,
        ],
        body,
    )
}

/// The way to the device's user.
fn user_link(context: &Context<'_>, device: &Device) -> Markup {
    html! {
        @if let Some(user) = user_of(device) { a href=(context.path(&format!("/users/{}", encode(user)))) { (user) } }
        @else { (dash()) }
    }
}

fn token_badge(token: &Token) -> Markup {
    let tone = match token.state {
        TokenState::Active => Tone::Good,
        TokenState::Quarantined { .. } | TokenState::Dead { .. } => Tone::Bad,
    };
    badge(tone, words::vendor(token.vendor))
}

fn register(context: &Context<'_>, filled: &Filled) -> Markup {
    let texts = context.texts;
    let mut vendors = vec![("", texts.no_token)];
    vendors.extend(VendorName::ALL.into_iter().map(|vendor| (vendor.as_str(), words::vendor(vendor))));
    html! {
        details.card.fold #register open[filled.refusal.is_some()] {
            summary { h2 { (texts.register_device) } }
            form.stack method="post" action=(context.path("/devices")) {
                (csrf(context.csrf))
                @if let Some(refused) = &filled.refusal { (refusal(texts, refused)) }
                p.hint { (texts.register_lead) }
                div.columns {
                    (field(filled, &Field::text("id", texts.device_id).required().hint(texts.device_id_hint).at("/id")))
                    (field(filled, &Field::text("user", texts.user).at("/alias")))
                }
                div.columns {
                    (field(filled, &Field::text("tags", texts.tags).hint(texts.tags_hint).at("/tags")))
                    (field(filled, &Field::text("platform", texts.platform).placeholder("android").at("/platform")))
                }
                div.columns {
                    (field(filled, &Field::text("vendor", texts.vendor).control(Control::Choice(&vendors))))
                    (field(filled, &Field::text("token", texts.device_token).at("/token")))
                }
                div.actions { button.primary type="submit" { (texts.register) } }
            }
        }
    }
}

/// A delivery to this device.
pub(in crate::console) struct LastDelivery {
    pub message: String,
    pub title: String,
    pub state: State,
    pub at_ms: Option<u64>,
}

/// One device.
pub(in crate::console) struct Detail {
    pub row: DeviceRow,
    pub deliveries: Vec<LastDelivery>,
    /// Its session at the broker, for the operator.
    pub session: Option<Value>,
    /// What waits in its queue, for the operator.
    pub queue: Option<Value>,
}

/// The page of one device.
pub(in crate::console) fn detail(context: &Context<'_>, detail: &Detail) -> Markup {
    let texts = context.texts;
    html! {
        div.grid {
            (card(texts.presence, presence_facts(context, detail)))
            (card(texts.about, about(context, &detail.row.device)))
        }
        (card(texts.tokens, tokens(context, &detail.row.device)))
        (card(texts.last_deliveries, last_deliveries(context, &detail.deliveries)))
        @if let Some(queue) = &detail.queue { (card(texts.queue, super::broker::queue_table(texts, queue))) }
    }
}

fn presence_facts(context: &Context<'_>, detail: &Detail) -> Markup {
    let texts = context.texts;
    let Some(known) = &detail.row.presence else {
        return html! { p { (presence(texts, false)) } p.dim { (texts.never_connected) } };
    };
    let learned = detail
        .session
        .as_ref()
        .and_then(|session| session.pointer("/connection/keep_alive_s"))
        .and_then(Value::as_u64);
    let keep_alive = learned.unwrap_or(known.keep_alive_s.into());
    let rows = [
        (
            texts.state,
            html! { (presence(texts, known.online)) @if known.is_expired { " " (badge(Tone::Warning, texts.session_expired)) } },
        ),
        (texts.since, time(known.since_ms)),
        (texts.epoch, html! { code { (known.epoch) } }),
        (texts.keep_alive, html! { (words::span(texts, keep_alive)) }),
        (
            texts.session_outlives,
            html! { @if known.session_expiry_s == u32::MAX { (texts.for_ever) } @else { (words::span(texts, known.session_expiry_s.into())) } },
        ),
        (
            texts.protocol,
            html! { (match known.protocol_level { 3 => "MQTT 3.1", 4 => "MQTT 3.1.1", 5 => "MQTT 5.0", _ => "–" }) },
        ),
        (texts.network, or_dash(Some(&known.network))),
    ];
    html! {
        (facts(&rows))
        @if detail.session.is_some() {
            p { a href={ "/console/broker/sessions/" (encode(context.app.unwrap_or_default())) "/" (encode(&detail.row.device.id)) } { (texts.open_session) } }
        }
    }
}

fn about(context: &Context<'_>, device: &Device) -> Markup {
    let texts = context.texts;
    let attributes = &device.attributes;
    let rows = [
        (texts.user, user_link(context, device)),
        (
            texts.aliases,
            html! { @for (kind, alias) in &device.alias { span.pair { (kind) ": " strong { (alias) } } " " } @if device.alias.is_empty() { (dash()) } },
        ),
        (
            texts.tags,
            html! { @for tag in &device.tags { (badge(Tone::Quiet, tag)) " " } @if device.tags.is_empty() { (dash()) } },
        ),
        (texts.platform, or_dash(attributes.platform.as_deref())),
        (texts.app_version, or_dash(attributes.app_version.as_deref())),
        (texts.language_name, or_dash(attributes.language.as_deref())),
        (texts.timezone, or_dash(attributes.timezone.as_deref())),
        (texts.first_seen, time(device.created_at_ms)),
        (texts.changed_at, time(device.updated_at_ms)),
    ];
    facts(&rows)
}

fn tokens(context: &Context<'_>, device: &Device) -> Markup {
    let texts = context.texts;
    if device.tokens.is_empty() {
        return html! { p.dim { (texts.tokens_none) } };
    }
    let rows = html! {
        @for token in &device.tokens {
            tr {
                th scope="row" { (words::vendor(token.vendor)) }
                td { code { (start_of(token)) "…" } }
                td { (time(token.registered_at_ms)) }
                @match &token.state {
                    TokenState::Active => { td { (badge(Tone::Good, texts.token_active)) } td { (dash()) } }
                    TokenState::Quarantined { reason, at_ms, .. } => { td { (badge(Tone::Bad, texts.token_quarantined)) } td { (reason) " " (time(*at_ms)) } }
                    TokenState::Dead { reason, at_ms } => { td { (badge(Tone::Bad, texts.token_dead)) } td { (reason) " " (time(*at_ms)) } }
                }
            }
        }
    };
    table(
        texts.tokens,
        &[texts.vendor, texts.device_token, texts.registered_at, texts.state, texts.reason],
        rows,
    )
}

/// Whoever has a whole token and a key can push to the device, so a page shows its beginning only.
fn start_of(token: &Token) -> String {
    token.token.as_str().chars().take(TOKEN_SHOWN).collect()
}

fn last_deliveries(context: &Context<'_>, deliveries: &[LastDelivery]) -> Markup {
    let texts = context.texts;
    if deliveries.is_empty() {
        return html! { p.dim { (texts.last_deliveries_none) } };
    }
    let rows = html! {
        @for delivery in deliveries {
            tr {
                th.wide scope="row" { a href=(context.path(&delivery.message)) { (delivery.title) } }
                td { (badge(words::tone(delivery.state), words::state(texts, delivery.state))) }
                td { (time_or_dash(delivery.at_ms)) }
            }
        }
    };
    table(texts.last_deliveries, &[texts.message, texts.state, texts.changed_at], rows)
}

/// Test message and removal, beside the title.
pub(in crate::console) fn actions(context: &Context<'_>, device: &Device) -> Markup {
    let texts = context.texts;
    let action = context.path(&format!("/devices/{}/remove", encode(&device.id)));
    let ask = Confirm {
        csrf: context.csrf,
        action: &action,
        label: texts.remove_device,
        warning: texts.remove_device_warning,
        fields: &[],
    };
    html! {
        @if context.may(Access::Send) {
            a.button href=(context.path(&format!("/compose?device={}", encode(&device.id)))) { (texts.send_to_device) }
            (confirm(texts, &ask))
        }
    }
}

/// Dead device tokens.
pub(in crate::console) fn dead_tokens(context: &Context<'_>, rows: &[(u64, DeadToken)]) -> Markup {
    let texts = context.texts;
    if rows.is_empty() {
        return empty(texts.dead_empty, texts.dead_empty_lead, None);
    }
    let body = html! {
        @for (number, dead) in rows {
            tr {
                td.number { (number_of(*number)) }
                th scope="row" { a href=(context.path(&format!("/devices/{}", encode(&dead.device)))) { code { (dead.device) } } }
                td { (words::vendor(dead.vendor)) }
                td { code { (dead.token.as_str().chars().take(TOKEN_SHOWN).collect::<String>()) "…" } }
                td.wide { (dead.reason) }
                td { (time(dead.at_ms)) }
            }
        }
    };
    html! {
        p.lead { (fill(texts.dead_lead, &[])) }
        (table(texts.dead_tokens, &["#", texts.device, texts.vendor, texts.device_token, texts.reason, texts.died_at], body))
    }
}

fn number_of(count: u64) -> String {
    number(count)
}
