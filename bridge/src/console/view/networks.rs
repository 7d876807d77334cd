//! Networks: a row each, and in it where the idle timeouts of its paths lie and which interval devices begin with.

use maud::{Markup, html};
use serde_json::Value;

use super::Context;
use super::broker::{count, is, items, text};
use super::parts::{Tone, badge, empty, pager, table, time_or_dash};
use crate::console::texts::Texts;
use crate::console::words::{self, fill, number, span};

/// Width of the chart in its own units.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 22.0;
/// What the axis shows at least: a quarter of an hour, so that two networks with short timeouts look alike.
const SCALE_MIN_S: u64 = 900;

/// All of a page, with one scale, so that rows can be compared.
pub(in crate::console) fn networks(
    context: &Context<'_>,
    answer: &Value,
    first: Option<&str>,
    next: Option<&str>,
) -> Markup {
    let texts = context.texts;
    let rows = items(answer);
    if rows.is_empty() {
        return html! { (empty(texts.networks_empty, texts.networks_empty_lead, None)) (pager(texts, first, next)) };
    }
    let longest = |row: &Value| quantile(row, 4).max(count(row, "/interval_s"));
    let scale_s = rows.iter().map(longest).max().unwrap_or(0).max(SCALE_MIN_S);
    let body = html! {
        @for row in rows {
            tr {
                th scope="row" { code { (text(row, "/network")) } }
                td { (words::radio(texts, text(row, "/radio"))) }
                td.number { (number(count(row, "/devices"))) " (" (number(count(row, "/counted"))) ")" }
                td.number { (number(count(row, "/connections"))) }
                td.number { (number(count(row, "/deaths"))) }
                td { (chart(texts, row, scale_s)) }
                td { (span(texts, count(row, "/interval_s"))) @if is(row, "/is_fixed") { " " (badge(Tone::Quiet, texts.fixed)) } }
                td { (time_or_dash(row.pointer("/changed_ms").and_then(Value::as_u64).filter(|at_ms| *at_ms > 0))) }
            }
        }
    };
    html! {
        p.lead { (texts.networks_lead) }
        (table(
            texts.networks,
            &[
                texts.network,
                texts.radio,
                texts.devices_that_count,
                texts.connections,
                texts.silent_deaths,
                &fill(texts.timeouts_up_to, &[&span(texts, scale_s)]),
                texts.first_interval,
                texts.changed_at,
            ],
            body,
        ))
        (pager(texts, first, next))
    }
}

fn quantile(row: &Value, at: usize) -> u64 {
    row.pointer(&format!("/quantiles_s/{at}")).and_then(Value::as_u64).unwrap_or(0)
}

/// The pale bar holds 5 to 75 of 100 paths, the strong one 10 to 50, the
/// stroke is where devices begin. Whoever cannot see it reads the same in its label.
fn chart(texts: &Texts, row: &Value, scale_s: u64) -> Markup {
    let x = |seconds: u64| seconds.min(scale_s) as f64 / scale_s.max(1) as f64 * WIDTH;
    let bar = |from: usize, to: usize, class: &'static str, inset: f64| {
        let (from, to) = (x(quantile(row, from)), x(quantile(row, to)));
        html! { rect.(class) x=(format!("{from:.1}")) width=(format!("{:.1}", (to - from).max(2.0))) y=(inset) height=(HEIGHT - 2.0 * inset) {} }
    };
    let interval = format!("{:.1}", x(count(row, "/interval_s")));
    let label = fill(
        texts.timeouts_in_words,
        &[
            &span(texts, quantile(row, 0)),
            &span(texts, quantile(row, 3)),
            &span(texts, quantile(row, 4)),
            &span(texts, count(row, "/interval_s")),
        ],
    );
    html! {
        svg.timeouts viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img" aria-label=(label) {
            title { (label) }
            line.grid x1="0" x2=(WIDTH) y1=(HEIGHT / 2.0) y2=(HEIGHT / 2.0) {}
            (bar(0, 4, "pale", 6.0))
            (bar(1, 3, "strong", 6.0))
            line.mark x1=(interval) x2=(interval) y1="1" y2=(HEIGHT - 1.0) {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::texts::Language;
    use serde_json::json;

    #[test]
    fn a_chart_shows_the_timeouts_and_the_interval_on_the_scale_of_the_page() {
        let row = json!({"quantiles_s": [180, 240, 300, 450, 900], "interval_s": 225});
        let made = chart(Language::English.texts(), &row, 900).into_string();
        assert!(made.contains("class=\"pale\" x=\"80.0\" width=\"320.0\""), "{made}");
        assert!(made.contains("class=\"strong\" x=\"106.7\" width=\"93.3\""), "{made}");
        assert!(made.contains("x1=\"100.0\" x2=\"100.0\""), "{made}");
        let beyond = json!({"quantiles_s": [60, 60, 60, 60, 65535], "interval_s": 60});
        assert!(chart(Language::English.texts(), &beyond, 900).into_string().contains("width=\"373.3\""));
    }
}
