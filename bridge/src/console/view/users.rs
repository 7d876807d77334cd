//! One user: devices, and the inbox with what was read of it.

use maud::{Markup, html};
use serde_json::Value;

use super::Context;
use super::devices::{DeviceRow, device_table};
use super::parts::{Confirm, Tone, badge, card, confirm, csrf, dash, table, time, time_or_dash};
use crate::apps::Access;
use crate::console::door::encode;
use crate::console::words::{fill, number};

/// A user with what there is of it.
pub(in crate::console) struct UserDetail {
    pub user: String,
    pub unread: u64,
    pub devices: Vec<DeviceRow>,
    /// A page of the API's.
    pub inbox: Value,
}

/// Marking everything as read, beside the title.
pub(in crate::console) fn actions(context: &Context<'_>, detail: &UserDetail) -> Markup {
    html! {
        @if context.may(Access::Send) && detail.unread > 0 {
            form method="post" action=(context.path(&format!("/users/{}/read", encode(&detail.user)))) {
                (csrf(context.csrf))
                button type="submit" { (context.texts.mark_all_read) }
            }
        }
    }
}

/// The page of one user.
pub(in crate::console) fn detail(context: &Context<'_>, detail: &UserDetail) -> Markup {
    let texts = context.texts;
    html! {
        p.lead {
            @if detail.unread == 0 { (texts.unread_none) }
            @else { (fill(texts.unread_n, &[&number(detail.unread)])) }
        }
        (card(texts.inbox, inbox(context, detail)))
        @if detail.devices.is_empty() { (card(texts.devices, html! { p.dim { (texts.user_without_device) } })) }
        @else { (card(texts.devices, device_table(context, &detail.devices))) }
    }
}

fn inbox(context: &Context<'_>, detail: &UserDetail) -> Markup {
    let texts = context.texts;
    let items = super::broker::items(&detail.inbox);
    if items.is_empty() {
        return html! { p.dim { (texts.inbox_empty) } };
    }
    let rows = html! { @for item in items { (line(context, &detail.user, item)) } };
    table(texts.inbox, &[texts.message, texts.state, texts.sent_at, texts.read_at, texts.goes_at, ""], rows)
}

fn line(context: &Context<'_>, user: &str, item: &Value) -> Markup {
    let texts = context.texts;
    let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
    let at_ms = |name: &str| item.get(name).and_then(Value::as_u64);
    let (id, read_at_ms) = (text("id"), at_ms("read_at_ms"));
    let title =
        [text("title"), text("body"), id].into_iter().find(|words| !words.is_empty()).unwrap_or_default();
    let action = context.path(&format!("/users/{}/delete", encode(user)));
    let ask = Confirm {
        csrf: context.csrf,
        action: &action,
        label: texts.inbox_delete,
        warning: texts.inbox_delete_warning,
        fields: &[("message", id)],
    };
    html! {
        tr {
            th.wide scope="row" { a href=(context.path(&format!("/messages/{}", encode(id)))) { (title) } }
            td { @if read_at_ms.is_some() { (badge(Tone::Quiet, texts.was_read)) } @else { (badge(Tone::Busy, texts.was_not_read)) } }
            td { (time_or_dash(at_ms("sent_at_ms"))) }
            td { @if let Some(read_at_ms) = read_at_ms { (time(read_at_ms)) } @else { (dash()) } }
            td { (time_or_dash(at_ms("expires_at_ms"))) }
            td { @if context.may(Access::Send) { (confirm(texts, &ask)) } }
        }
    }
}
