//! Messages: their list, and one with its funnel, losses and devices.

use maud::{Markup, html};
use reveille_proto::delivery::DeliveryState as State;

use super::Context;
use super::chart::bar;
use super::overview::{funnel_body, percent, reasons};
use super::parts::{
    Confirm, Tone, badge, card, confirm, csrf, empty, facts, json, or_dash, table, time, time_or_dash,
};
use crate::apps::Access;
use crate::console::door::encode;
use crate::console::texts::Texts;
use crate::console::words::{self, number};
use crate::deliveries::Funnel;
use crate::messages::{Message, Origin};
use crate::vendor::VendorName;

/// One line of a list.
#[derive(Clone, Debug)]
pub(in crate::console) struct MessageRow {
    pub message: Message,
    pub funnel: Funnel,
    /// As the API calls it.
    pub state: String,
}

impl MessageRow {
    /// What people recognise it by.
    pub fn title(&self, texts: &Texts) -> String {
        let content = self.message.content.as_ref();
        let notification = content.and_then(|content| content.notification.as_ref());
        let title = notification.and_then(|n| n.title.clone().or_else(|| n.body.clone()));
        let topic = match &self.message.origin {
            Origin::Mqtt { topic } if !topic.is_empty() => Some(topic.clone()),
            Origin::Mqtt { .. } | Origin::Http => None,
        };
        title.or(topic).unwrap_or_else(|| texts.data_message.to_owned())
    }
}

/// Messages as a table.
pub(in crate::console) fn message_table(context: &Context<'_>, rows: &[MessageRow]) -> Markup {
    let texts = context.texts;
    let body = html! {
        @for row in rows {
            @let (tone, state) = words::message_state(texts, &row.state);
            @let reached = row.funnel.acked + row.funnel.vendor_accepted;
            tr {
                th.wide scope="row" {
                    a href=(context.path(&format!("/messages/{}", row.message.id))) { (row.title(texts)) }
                    @if let Some(campaign) = &row.message.campaign { " " (badge(Tone::Quiet, campaign)) }
                }
                td { (badge(tone, &state)) }
                td.number { (number(row.funnel.targeted)) }
                td.number { (number(reached)) " " span.dim { (percent(reached, row.funnel.targeted)) } }
                td.number { (number(row.funnel.failed + row.funnel.expired)) }
                td { (time(row.message.accepted_at_ms)) }
            }
        }
    };
    table(
        texts.messages,
        &[texts.message, texts.state, texts.targeted, texts.reached, texts.lost, texts.accepted_at],
        body,
    )
}

/// Filters of the list.
pub(in crate::console) struct MessagesQuery<'a> {
    pub state: &'a str,
    pub text: &'a str,
    /// Whether older messages were not looked at any more.
    pub is_cut: bool,
}

/// The list with its filters.
pub(in crate::console) fn list(
    context: &Context<'_>,
    query: &MessagesQuery<'_>,
    rows: &[MessageRow],
) -> Markup {
    let texts = context.texts;
    let states = ["", "scheduled", "expanding", "sending", "paused", "done", "cancelled", "recalled"];
    let is_filtered = !query.state.is_empty() || !query.text.is_empty();
    html! {
        form.filters method="get" role="search" {
            div.field {
                label for="q" { (texts.search) }
                input #q type="search" name="q" value=(query.text) placeholder=(texts.search_messages_hint);
            }
            div.field {
                label for="state" { (texts.state) }
                select #state name="state" {
                    @for state in states {
                        option value=(state) selected[state == query.state] {
                            @if state.is_empty() { (texts.any_state) } @else { (words::message_state(texts, state).1) }
                        }
                    }
                }
            }
            button type="submit" { (texts.filter) }
        }
        @if rows.is_empty() && is_filtered {
            (empty(texts.nothing_found, texts.nothing_found_lead, None))
        } @else if rows.is_empty() {
            @let action = context.path("/compose");
            (empty(texts.messages_empty, texts.messages_empty_lead, context.offer(Access::Send, &action, texts.compose)))
        } @else {
            (message_table(context, rows))
        }
        @if query.is_cut { p.hint { (texts.search_cut) } }
    }
}

/// One device's row.
#[derive(Clone, Debug)]
pub(in crate::console) struct DeliveryRow {
    pub device: String,
    pub state: State,
    pub vendor: Option<VendorName>,
    pub reason: String,
    pub at_ms: Option<u64>,
}

/// One message.
pub(in crate::console) struct Detail {
    pub row: MessageRow,
    pub losses: Vec<(String, u64)>,
    /// Whether there are more deliveries than were looked at for the losses.
    pub is_cut: bool,
    pub deliveries: Vec<DeliveryRow>,
    /// The part of the funnel that is listed; empty: all.
    pub bucket: String,
    pub first: Option<String>,
    pub next: Option<String>,
}

/// The part of the page that is renewed.
pub(in crate::console) fn live_part(context: &Context<'_>, detail: &Detail) -> Markup {
    let texts = context.texts;
    let (tone, state) = words::message_state(texts, &detail.row.state);
    html! {
        p.state-line { (badge(tone, &state)) " " (time(detail.row.message.accepted_at_ms)) }
        div.grid {
            (card(texts.funnel, funnel_body(texts, &detail.row.funnel)))
            (card(texts.losses, html! {
                (reasons(texts, &detail.losses))
                @if detail.is_cut { p.hint { (texts.losses_cut) } }
            }))
        }
        @if !detail.row.funnel.by_vendor.is_empty() { (card(texts.by_vendor, by_vendor(texts, &detail.row.funnel))) }
    }
}

fn by_vendor(texts: &Texts, funnel: &Funnel) -> Markup {
    let most = funnel.by_vendor.values().map(|counts| counts.accepted).max().unwrap_or(0);
    let rows = html! {
        @for (vendor, counts) in &funnel.by_vendor {
            tr {
                th scope="row" { (words::vendor(*vendor)) }
                td.number { (number(counts.accepted)) }
                td.number { (number(counts.refused)) }
                td.number { (number(counts.repeated_unknown)) }
                td.wide { (bar("busy", counts.accepted, most)) }
            }
        }
    };
    table(texts.by_vendor, &[texts.vendor, texts.accepted_by, texts.refused_by, texts.repeated, ""], rows)
}

/// The page of one message.
pub(in crate::console) fn detail(context: &Context<'_>, detail: &Detail) -> Markup {
    let texts = context.texts;
    let message = &detail.row.message;
    let here = context.path(&format!("/messages/{}", message.id));
    html! {
        (super::parts::live(&format!("{here}?part=live"), 2, &live_part(context, detail)))
        (card(texts.content, content(texts, message)))
        (card(texts.deliveries_by_device, deliveries(context, &here, detail)))
    }
}

/// Clone and recall, beside the title.
pub(in crate::console) fn actions(context: &Context<'_>, row: &MessageRow) -> Markup {
    let texts = context.texts;
    let action = context.path(&format!("/messages/{}/recall", row.message.id));
    let ask = Confirm {
        csrf: context.csrf,
        action: &action,
        label: texts.recall,
        warning: texts.recall_warning,
        fields: &[],
    };
    let pause = match row.state.as_str() {
        "paused" => Some(("resume", texts.resume)),
        "sending" | "expanding" => Some(("pause", texts.pause)),
        _ => None,
    };
    html! {
        @if context.may(Access::Send) {
            a.button href=(context.path(&format!("/compose?clone={}", row.message.id))) { (texts.clone) }
            @if let Some((what, label)) = pause {
                form method="post" action=(context.path(&format!("/messages/{}/{what}", row.message.id))) { (csrf(context.csrf)) button type="submit" { (label) } }
            }
            @if row.message.recalled_at_ms.is_none() { (confirm(texts, &ask)) }
        }
    }
}

fn content(texts: &Texts, message: &Message) -> Markup {
    let content = message.content.clone().unwrap_or_default();
    let notification = content.notification.unwrap_or_default();
    let origin = match &message.origin {
        Origin::Http => texts.origin_http.to_owned(),
        Origin::Mqtt { topic } => format!("MQTT {topic}"),
    };
    let rows = [
        (texts.alert_title, or_dash(notification.title.as_deref())),
        (texts.alert_body, or_dash(notification.body.as_deref())),
        (texts.click_url, or_dash(notification.click.as_ref().map(|click| click.url.as_str()))),
        (texts.strategy, html! { code { (message.strategy.name()) } }),
        (texts.origin, html! { (origin) }),
        (texts.audience, audience(texts, message)),
        (texts.template, or_dash(message.template.as_deref())),
        (texts.begins_at, time(message.begins_at_ms())),
        (texts.expires_at, time_or_dash(message.expires_at_ms)),
        (texts.collapse_key, or_dash(message.collapse_key.as_deref())),
        (texts.campaign, or_dash(message.campaign.as_deref())),
        (texts.reference, or_dash(message.reference.as_deref())),
        (texts.recalled_at, time_or_dash(message.recalled_at_ms)),
        (texts.message_id, html! { code { (message.id) } }),
    ];
    html! {
        (facts(&rows))
        @if !content.data.is_empty() {
            h3 { (texts.data) }
            (json(&serde_json::Value::Object(content.data)))
        }
    }
}

fn audience(texts: &Texts, message: &Message) -> Markup {
    let audience = serde_json::to_value(&message.audience).unwrap_or_default();
    html! {
        @if message.audience.all { (texts.all_devices) }
        @else if message.audience.is_empty() { (texts.audience_subscribers) }
        @else { code { (words::cut(&audience.to_string(), 300)) } }
    }
}

fn deliveries(context: &Context<'_>, here: &str, detail: &Detail) -> Markup {
    let texts = context.texts;
    html! {
        nav.tabs aria-label=(texts.deliveries_by_device) {
            a href={ (here) "#devices" } aria-current=[detail.bucket.is_empty().then_some("true")] { (texts.all) }
            @for (_, name, word, _) in words::buckets(texts) {
                a href={ (here) "?bucket=" (name) "#devices" } aria-current=[(detail.bucket == name).then_some("true")] { (word) }
            }
        }
        div #devices {
            @if detail.deliveries.is_empty() {
                p.dim { (texts.deliveries_none) }
            } @else {
                (delivery_table(context, here, &detail.deliveries))
            }
            (super::parts::pager(texts, detail.first.as_deref(), detail.next.as_deref()))
        }
    }
}

fn delivery_table(context: &Context<'_>, here: &str, rows: &[DeliveryRow]) -> Markup {
    let texts = context.texts;
    let body = html! {
        @for row in rows {
            tr {
                th scope="row" { a href={ (here) "/devices/" (encode(&row.device)) } { code { (row.device) } } }
                td { (badge(words::tone(row.state), words::state(texts, row.state))) }
                td { (or_dash(row.vendor.map(words::vendor))) }
                td.wide { (or_dash(Some(&words::reason(texts, &row.reason)))) }
                td { (time_or_dash(row.at_ms)) }
            }
        }
    };
    table(
        texts.deliveries_by_device,
        &[texts.device, texts.state, texts.vendor, texts.reason, texts.changed_at],
        body,
    )
}
