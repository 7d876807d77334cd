//! The overview of an app: what happens now, and what went wrong lately.

use maud::{Markup, html};

use super::Context;
use super::chart::{Line, Part, bar, curves, stacked};
use super::messages::{MessageRow, message_table};
use super::parts::{Tone, badge, card, empty, figure, table, time};
use crate::apps::Access;
use crate::console::history::Look;
use crate::console::texts::Texts;
use crate::console::words::{self, fill, number};
use crate::deliveries::{Funnel, VendorCounts};
use crate::lane::CredentialName;
use crate::vendor::VendorName;

/// Something that wants an operator's eye.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::console) enum Alarm {
    /// The bridge hears nothing of the broker.
    FeedDown,
    /// The broker in this process takes no clients.
    BrokerNotReady,
    /// Calls of a vendor wait because it fails.
    BreakerOpen(VendorName),
    /// Pushes wait for longer than they should.
    OldQueue(VendorName, u64),
    /// The app has devices and no way to a vendor.
    NoCredential,
}

/// What waits for a vendor, with one of the app's credentials there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::console) struct Lane {
    pub vendor: VendorName,
    pub credential: CredentialName,
    pub summary: String,
    pub waiting: u64,
    /// Whether there are more than were counted.
    pub is_more: bool,
    /// How long the oldest that is due waits, in seconds.
    pub oldest_s: u64,
    pub is_open: bool,
    /// Of the vendor, over all credentials.
    pub counts: VendorCounts,
}

/// Everything on the page.
#[derive(Clone, Debug, Default)]
pub(in crate::console) struct Overview {
    pub devices: u64,
    /// Devices of the app with a network connection.
    pub online: u64,
    /// Messages of the last 24 hours.
    pub messages: u64,
    /// Whether there are more than were looked at.
    pub is_cut: bool,
    pub funnel: Funnel,
    pub lanes: Vec<Lane>,
    pub reasons: Vec<(String, u64)>,
    pub alarms: Vec<Alarm>,
    pub recent: Vec<MessageRow>,
    /// The whole server, for its operator only.
    pub hour: Vec<Look>,
    pub day: Vec<Look>,
}

impl Overview {
    fn waiting(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.waiting).sum()
    }

    fn is_new(&self) -> bool {
        self.devices == 0 && self.lanes.is_empty() && self.recent.is_empty()
    }
}

/// The part of the page that is renewed.
pub(in crate::console) fn overview(context: &Context<'_>, overview: &Overview) -> Markup {
    let texts = context.texts;
    html! {
        @if !overview.alarms.is_empty() { (alarms(texts, &overview.alarms)) }
        @if overview.is_new() && context.may(Access::Admin) { (first_steps(context)) }
        dl.figures {
            (figure(texts.online_now, &number(overview.online), Some(html! { (fill(texts.of_n_devices, &[&number(overview.devices)])) })))
            (figure(texts.messages_24h, &at_least(overview.messages, overview.is_cut), Some(html! { (fill(texts.n_deliveries, &[&number(overview.funnel.targeted)])) })))
            (figure(texts.reached, &percent(reached(&overview.funnel), overview.funnel.targeted), Some(html! { (fill(texts.n_of_n, &[&number(reached(&overview.funnel)), &number(overview.funnel.targeted)])) })))
            (figure(texts.waiting_for_vendors, &number(overview.waiting()), Some(oldest(texts, &overview.lanes))))
        }
        div.grid {
            (card(texts.funnel_24h, funnel_body(texts, &overview.funnel)))
            (card(texts.reasons_24h, reasons(texts, &overview.reasons)))
        }
        (card(texts.vendor_health, lanes(context, &overview.lanes)))
        @if overview.hour.len() > 2 { (card(texts.whole_server, server(texts, overview))) }
        (card(texts.newest_messages, recent(context, &overview.recent)))
    }
}

fn at_least(count: u64, is_cut: bool) -> String {
    format!("{}{}", number(count), if is_cut { "+" } else { "" })
}

fn reached(funnel: &Funnel) -> u64 {
    funnel.acked + funnel.vendor_accepted
}

/// A share in percent, or a dash of nothing.
pub(in crate::console) fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => "–".to_owned(),
        _ => format!("{:.1}%", part as f64 / whole as f64 * 100.0),
    }
}

fn alarms(texts: &Texts, alarms: &[Alarm]) -> Markup {
    html! {
        section.alarms aria-label=(texts.alarms) {
            @for alarm in alarms {
                div.notice.(match alarm { Alarm::NoCredential => "warning", _ => "bad" }) { (alarm_text(texts, alarm)) }
            }
        }
    }
}

fn alarm_text(texts: &Texts, alarm: &Alarm) -> String {
    match alarm {
        Alarm::FeedDown => texts.alarm_feed.to_owned(),
        Alarm::BrokerNotReady => texts.alarm_broker.to_owned(),
        Alarm::BreakerOpen(vendor) => fill(texts.alarm_breaker, &[words::vendor(*vendor)]),
        Alarm::OldQueue(vendor, seconds) => {
            fill(texts.alarm_queue, &[words::vendor(*vendor), &words::span(texts, *seconds)])
        }
        Alarm::NoCredential => texts.alarm_no_credential.to_owned(),
    }
}

fn first_steps(context: &Context<'_>) -> Markup {
    let texts = context.texts;
    html! {
        section.card {
            h2 { (texts.first_steps) }
            ol.steps {
                li { a href=(context.path("/vendors")) { (texts.step_credential) } }
                li { a href=(context.path("/devices#register")) { (texts.step_device) } }
                li { a href=(context.path("/compose")) { (texts.step_send) } }
            }
        }
    }
}

fn oldest(texts: &Texts, lanes: &[Lane]) -> Markup {
    let oldest_s = lanes.iter().map(|lane| lane.oldest_s).max().unwrap_or(0);
    html! { @if oldest_s > 0 { (fill(texts.oldest_due, &[&words::span(texts, oldest_s)])) } @else { (texts.nothing_late) } }
}

/// The funnel as one bar with its numbers, and what users did below it.
pub(in crate::console) fn funnel_body(texts: &'static Texts, funnel: &Funnel) -> Markup {
    if funnel.targeted == 0 {
        return html! { p.dim { (texts.funnel_empty) } };
    }
    let counts = [
        funnel.acked,
        funnel.vendor_accepted,
        funnel.in_flight,
        funnel.suppressed,
        funnel.filtered,
        funnel.expired,
        funnel.failed,
    ];
    let parts: Vec<_> = words::buckets(texts)
        .into_iter()
        .zip(counts)
        .map(|((_, _, name, class), count)| Part { name: name.to_owned(), class, count })
        .collect();
    html! {
        (stacked(texts.funnel, &parts, number))
        dl.facts.compact {
            div { dt { (texts.by_socket) } dd { (percent(funnel.acked, reached(funnel))) " " span.dim { (number(funnel.acked)) } } }
            div { dt { (texts.by_vendor) } dd { (percent(funnel.vendor_accepted, reached(funnel))) " " span.dim { (number(funnel.vendor_accepted)) } } }
            div { dt { (texts.state_shown) } dd { (number(funnel.shown)) } }
            div { dt { (texts.state_clicked) } dd { (number(funnel.clicked)) } }
            div { dt { (texts.state_dismissed) } dd { (number(funnel.dismissed)) } }
        }
    }
}

/// Reasons with their counts, the most frequent first.
pub(in crate::console) fn reasons(texts: &Texts, reasons: &[(String, u64)]) -> Markup {
    let most = reasons.first().map_or(0, |(_, count)| *count);
    html! {
        @if reasons.is_empty() { p.dim { (texts.reasons_none) } }
        ul.bars {
            @for (reason, count) in reasons {
                li { span.bar-name { (words::reason(texts, reason)) } span.bar-count { (number(*count)) } (bar("bad", *count, most)) }
            }
        }
    }
}

fn lanes(context: &Context<'_>, lanes: &[Lane]) -> Markup {
    let texts = context.texts;
    if lanes.is_empty() {
        let action = context.path("/vendors");
        return empty(
            texts.vendors_empty,
            texts.vendors_empty_lead,
            context.offer(Access::Admin, &action, texts.add_credential),
        );
    }
    let rows = html! {
        @for lane in lanes {
            tr {
                th scope="row" {
                    @if context.may(Access::Admin) { a href=(context.path(&format!("/vendors/{}", lane.vendor))) { (words::vendor(lane.vendor)) } }
                    @else { (words::vendor(lane.vendor)) }
                    @if !lane.credential.is_default() { " " (badge(Tone::Quiet, lane.credential.as_str())) }
                }
                td { @if lane.is_open { (badge(Tone::Bad, texts.breaker_open)) } @else { (badge(Tone::Good, texts.breaker_closed)) } }
                td.number { (at_least(lane.waiting, lane.is_more)) }
                td.number { @if lane.oldest_s > 0 { (words::span(texts, lane.oldest_s)) } @else { "–" } }
                td.number { (number(lane.counts.accepted)) }
                td.number { (number(lane.counts.refused)) }
                td.number { (number(lane.counts.repeated_unknown)) }
            }
        }
    };
    table(
        texts.vendor_health,
        &[
            texts.vendor,
            texts.breaker,
            texts.waiting,
            texts.oldest,
            texts.accepted_24h,
            texts.refused_24h,
            texts.repeated_24h,
        ],
        rows,
    )
}

fn server(texts: &Texts, overview: &Overview) -> Markup {
    let online: Vec<_> =
        overview.day.iter().filter_map(|look| Some((look.at_ms, look.online? as f64))).collect();
    let rate = |pick: fn(&Look) -> u64| {
        let of = |pair: &[Look]| match pair {
            [a, b] => {
                let seconds = b.at_ms.saturating_sub(a.at_ms).max(1) as f64 / 1000.0;
                (b.at_ms, pick(b).saturating_sub(pick(a)) as f64 / seconds)
            }
            _ => (0, 0.0),
        };
        overview.hour.windows(2).map(of).collect::<Vec<_>>()
    };
    let rates = [
        Line { name: texts.rate_accepted, class: "a", points: rate(|look| look.accepted) },
        Line { name: texts.rate_acked, class: "b", points: rate(|look| look.acked) },
        Line { name: texts.rate_pushed, class: "c", points: rate(|look| look.pushed) },
        Line { name: texts.rate_refused, class: "d", points: rate(|look| look.refused) },
    ];
    html! {
        div.grid {
            (curves(texts.rates_hour, &rates, |value| format!("{value:.1}")))
            @if online.len() > 1 {
                (curves(texts.online_day, &[Line { name: texts.online, class: "b", points: online }], |value| number(value as u64)))
            }
        }
        p.hint { (texts.since_start) " " @if let Some(first) = overview.day.first() { (time(first.at_ms)) } }
    }
}

fn recent(context: &Context<'_>, recent: &[MessageRow]) -> Markup {
    let texts = context.texts;
    if recent.is_empty() {
        let action = context.path("/compose");
        return empty(
            texts.messages_empty,
            texts.messages_empty_lead,
            context.offer(Access::Send, &action, texts.compose),
        );
    }
    html! { (message_table(context, recent)) p { a href=(context.path("/messages")) { (texts.all_messages) } } }
}
