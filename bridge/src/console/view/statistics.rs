//! What became of an app's deliveries, over time: curves, and a table of values.

use maud::{Markup, html};

use super::Context;
use super::chart::{Line, curves};
use super::overview::percent;
use super::parts::{card, empty, figure, table, time};
use crate::apps::Access;
use crate::console::texts::Texts;
use crate::console::words::{self, fill, number};
use crate::statistics::{Asked, By, Counts, Percentiles, Row, Series, Value};

const HOUR_MS: u64 = 60 * 60 * 1000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// A stretch of time that can be chosen, with its step.
pub(in crate::console) struct Range {
    pub name: &'static str,
    pub length_ms: u64,
    pub step: &'static str,
}

/// The first is shown unless another is chosen.
pub(in crate::console) const RANGES: [Range; 5] = [
    Range { name: "day", length_ms: DAY_MS, step: "15m" },
    Range { name: "hour", length_ms: HOUR_MS, step: "1m" },
    Range { name: "week", length_ms: 7 * DAY_MS, step: "1h" },
    Range { name: "month", length_ms: 30 * DAY_MS, step: "6h" },
    Range { name: "year", length_ms: 366 * DAY_MS, step: "1d" },
];

/// What was asked for, and found.
pub(in crate::console) struct Shown {
    pub range: &'static str,
    pub step: &'static str,
    pub asked: Asked,
    pub kept_from_ms: u64,
    /// Of all deliveries; `None`: there were none.
    pub all: Option<Series>,
    /// Of each value of the dimension.
    pub apart: Vec<Series>,
}

/// The page.
pub(in crate::console) fn statistics(context: &Context<'_>, shown: &Shown) -> Markup {
    let texts = context.texts;
    html! {
        (choices(texts, shown))
        @match &shown.all {
            None => {
                @let compose = context.path("/compose");
                (empty(texts.statistics_empty, texts.statistics_empty_lead, context.offer(Access::Send, &compose, texts.compose)))
            }
            Some(all) => {
                (figures(texts, &all.total))
                (card(&fill(texts.per_step, &[&step(texts, shown.step)]), stages(texts, &shown.asked, all)))
                div.grid {
                    (card(texts.times_ack, times(texts, texts.times_ack, all, |row| row.ack_ms.percentiles())))
                    (card(texts.times_vendor, times(texts, texts.times_vendor, all, |row| row.vendor_ms.percentiles())))
                }
                @if let Some(by) = shown.asked.by { (card(by_word(texts, by), values(texts, by, shown))) }
                p.hint { (texts.statistics_counts) }
            }
        }
        @if shown.kept_from_ms > shown.asked.from_ms {
            p.hint { (fill(texts.statistics_kept, &[&words::utc(shown.kept_from_ms)])) }
        }
    }
}

fn choices(texts: &Texts, shown: &Shown) -> Markup {
    html! {
        form.filters method="get" {
            div.field {
                label for="range" { (texts.range) }
                select #range name="range" data-submit {
                    @for range in &RANGES { option value=(range.name) selected[range.name == shown.range] { (range_word(texts, range.name)) } }
                }
            }
            div.field {
                label for="by" { (texts.count_by) }
                select #by name="by" data-submit {
                    option value="" selected[shown.asked.by.is_none()] { (texts.by_none) }
                    @for by in By::ALL { option value=(by.name()) selected[shown.asked.by == Some(by)] { (by_word(texts, by)) } }
                }
            }
            button type="submit" { (texts.show) }
        }
    }
}

fn range_word(texts: &Texts, range: &str) -> &'static str {
    match range {
        "hour" => texts.range_hour,
        "week" => texts.range_week,
        "month" => texts.range_month,
        "year" => texts.range_year,
        _ => texts.range_day,
    }
}

fn by_word(texts: &Texts, by: By) -> &'static str {
    match by {
        By::Vendor => texts.vendor,
        By::Platform => texts.by_platform,
        By::AppVersion => texts.app_version,
        By::Reason => texts.by_reason,
        By::Campaign => texts.campaign,
    }
}

/// `15m` in words.
fn step(texts: &Texts, step: &str) -> String {
    let (count, unit) = step.split_at(step.len().saturating_sub(1));
    let words = match unit {
        "m" => texts.n_minutes,
        "h" => texts.n_hours,
        _ => texts.n_days,
    };
    fill(words, &[count])
}

fn figures(texts: &Texts, total: &Row) -> Markup {
    let counts = &total.counts;
    let lost = counts.failed + counts.expired;
    let p95 = |times: Option<Percentiles>| times.map_or("–".to_owned(), |times| milliseconds(times.p95));
    html! {
        dl.figures {
            (figure(texts.targeted, &number(counts.targeted), None))
            (figure(texts.bucket_acked, &number(counts.acked), Some(html! { (percent(counts.acked, counts.targeted)) })))
            (figure(texts.bucket_vendor_accepted, &number(counts.vendor_accepted), Some(html! { (percent(counts.vendor_accepted, counts.targeted)) })))
            (figure(texts.lost, &number(lost), Some(html! { (percent(lost, counts.targeted)) })))
            (figure(texts.state_clicked, &number(counts.clicked), Some(html! { (percent(counts.clicked, counts.targeted)) })))
            (figure(texts.percentile_95, &p95(total.ack_ms.percentiles()), Some(html! { (texts.times_ack) })))
        }
    }
}

fn milliseconds(ms: u64) -> String {
    format!("{} ms", number(ms))
}

/// A point for each step, so that a quiet time is a line at the bottom.
fn steps(asked: &Asked, series: &Series, count: impl Fn(&Counts) -> u64) -> Vec<(u64, f64)> {
    let mut points = series.points.iter().peekable();
    let mut at_ms = asked.from_ms;
    let mut line = Vec::new();
    while at_ms < asked.to_ms {
        let here = points.next_if(|point| point.at_ms == at_ms);
        line.push((at_ms, here.map_or(0, |point| count(&point.row.counts)) as f64));
        at_ms += asked.step_ms;
    }
    line
}

fn stages(texts: &Texts, asked: &Asked, all: &Series) -> Markup {
    let line =
        |name, class, count: fn(&Counts) -> u64| Line { name, class, points: steps(asked, all, count) };
    let lines = [
        line(texts.targeted_each, "a", |counts| counts.targeted),
        line(texts.acked_each, "b", |counts| counts.acked),
        line(texts.vendor_each, "c", |counts| counts.vendor_accepted),
        line(texts.lost_each, "d", |counts| counts.failed + counts.expired),
    ];
    html! {
        (curves(texts.statistics, &lines, |value| number(value as u64)))
        p.hint { (time(asked.from_ms)) " – " (time(asked.to_ms)) }
    }
}

fn times(texts: &Texts, title: &str, all: &Series, pick: fn(&Row) -> Option<Percentiles>) -> Markup {
    let of = |percentile: fn(&Percentiles) -> u64| {
        let point = |row: &Row| pick(row).map(|times| percentile(&times) as f64);
        all.points.iter().filter_map(|point_| Some((point_.at_ms, point(&point_.row)?))).collect::<Vec<_>>()
    };
    let lines = [
        Line { name: texts.percentile_50, class: "b", points: of(|times| times.p50) },
        Line { name: texts.percentile_95, class: "c", points: of(|times| times.p95) },
        Line { name: texts.percentile_99, class: "d", points: of(|times| times.p99) },
    ];
    match pick(&all.total) {
        None => html! { p.dim { (texts.statistics_empty) } },
        Some(total) => html! {
            (curves(title, &lines, |value| number(value as u64)))
            dl.facts.compact {
                div { dt { (texts.percentile_50) } dd { (milliseconds(total.p50)) } }
                div { dt { (texts.percentile_95) } dd { (milliseconds(total.p95)) } }
                div { dt { (texts.percentile_99) } dd { (milliseconds(total.p99)) } }
            }
        },
    }
}

fn values(texts: &Texts, by: By, shown: &Shown) -> Markup {
    let mut series: Vec<_> = shown.apart.iter().collect();
    series
        .sort_by_key(|series| std::cmp::Reverse((series.total.counts.targeted, series.total.counts.failed)));
    let rows = html! {
        @for series in series {
            tr {
                th.wide scope="row" { (value(texts, by, &series.value)) }
                (cells(&series.total))
            }
        }
    };
    let heads = [
        texts.value,
        texts.targeted,
        texts.bucket_acked,
        texts.bucket_vendor_accepted,
        texts.bucket_failed,
        texts.bucket_expired,
        texts.suppressed_each,
        texts.refused_each,
        texts.state_shown,
        texts.state_clicked,
        texts.percentile_95,
    ];
    html! {
        @if shown.apart.is_empty() { p.dim { (texts.reasons_none) } }
        @else { (table(by_word(texts, by), &heads, rows)) }
    }
}

fn cells(row: &Row) -> Markup {
    let counts = &row.counts;
    let cells = [
        counts.targeted,
        counts.acked,
        counts.vendor_accepted,
        counts.failed,
        counts.expired,
        counts.suppressed,
        counts.refused,
        counts.shown,
        counts.clicked,
    ];
    html! {
        @for count in cells { td.number { (number(count)) } }
        td.number { (row.ack_ms.percentiles().or(row.vendor_ms.percentiles()).map_or("–".to_owned(), |times| milliseconds(times.p95))) }
    }
}

fn value(texts: &Texts, by: By, value: &Value) -> String {
    match value {
        Value::None => texts.by_nothing.to_owned(),
        Value::Others => texts.by_others.to_owned(),
        Value::Named(name) => match (by, name.parse()) {
            (By::Vendor, Ok(vendor)) => words::vendor(vendor).to_owned(),
            _ => name.clone(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::texts::Language;
    use crate::statistics::Point;

    #[test]
    fn a_step_without_anything_is_a_zero_and_a_value_stays_text() {
        let point = |at_ms, targeted| Point {
            at_ms,
            row: Row { counts: Counts { targeted, ..Counts::default() }, ..Row::default() },
        };
        let points = vec![point(60_000, 3), point(180_000, 1)];
        let evil = "<script>".to_owned();
        let series = Series { value: Value::Named(evil), total: Row::default(), points };
        let asked = Asked { from_ms: 0, to_ms: 240_000, step_ms: 60_000, by: Some(By::Campaign) };
        let line = steps(&asked, &series, |counts| counts.targeted);
        assert_eq!(line, [(0, 0.0), (60_000, 3.0), (120_000, 0.0), (180_000, 1.0)]);
        let shown =
            Shown { range: "hour", step: "1m", asked, kept_from_ms: 0, all: None, apart: vec![series] };
        for language in Language::ALL {
            let made = values(language.texts(), By::Campaign, &shown).into_string();
            assert!(made.contains("&lt;script&gt;") && !made.contains("<script"), "{made}");
        }
        assert_eq!(step(Language::English.texts(), "15m"), "15 min");
    }
}
