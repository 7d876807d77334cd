//! Small parts that pages are made of.

use maud::{Markup, PreEscaped, html};

use crate::console::door::Refusal;
use crate::console::texts::Texts;
use crate::console::words;

/// The token that shows that a form is ours.
pub(in crate::console) fn csrf(token: &str) -> Markup {
    html! { input type="hidden" name="csrf" value=(token); }
}

/// A line drawing, 20 by 20, that says nothing which the text beside it does not.
pub(in crate::console) fn icon(name: &str) -> Markup {
    let path = match name {
        "bell" => {
            "M10 3a4.5 4.5 0 0 0-4.5 4.5v3L4 13.5h12l-1.5-3v-3A4.5 4.5 0 0 0 10 3Zm-2 10.5a2 2 0 0 0 4 0"
        }
        "overview" => "M3 17V9m4.7 8V3m4.6 14v-6M17 17V6",
        "messages" => "M3 5h14v10H3zM3 6l7 5 7-5",
        "compose" => "M4 16l1-4 8-8 3 3-8 8-4 1Z",
        "devices" => "M6 2.5h8v15H6zM9 15h2",
        "schedules" => "M10 3a7 7 0 1 0 0 14 7 7 0 0 0 0-14Zm0 3v4l3 2",
        "templates" => "M4 3h12v14H4zM7 7h6M7 10h6M7 13h3",
        "audiences" => "M3 4h7l7 7-6 6-8-8zM6.5 7.5h.01",
        "policies" => "M10 2.5l6 2.5v4.5c0 4-2.5 6.5-6 8-3.5-1.5-6-4-6-8V5zM7 10l2 2 4-4",
        "webhooks" => "M10 3v6m0 0-4 7m4-7 4 7M4 17h4m4 0h4",
        "vendors" => "M10 2v5m0 6v5M2 10h5m6 0h5M10 7a3 3 0 1 0 0 6 3 3 0 0 0 0-6Z",
        "dead" => "M10 3a7 7 0 1 0 0 14 7 7 0 0 0 0-14ZM5 5l10 10",
        "keys" => "M7 13a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7Zm3.2-4H17v3m-3-3v2",
        "broker" => "M3 4h14v5H3zM3 11h14v5H3zM6 6.5h.01M6 13.5h.01",
        "sessions" => "M4 7h10l-3-3M16 13H6l3 3",
        "queues" => "M3 5h14M3 10h10M3 15h6",
        "networks" => "M2 10h4l2-6 4 12 2-6h4",
        "retained" => "M6 3h8v14l-4-3-4 3z",
        "topics" => "M7 3L5 17M15 3l-2 14M3 7h14M3 13h14",
        "statistics" => "M3 17h14M5 14l3-4 3 2 5-7",
        "events" => "M11 2L5 11h4l-1 7 7-10h-5z",
        "audit" => "M5 2.5h10v15H5zM8 6.5h4M8 10h4M8 13.5h2",
        "apps" => "M3 3h6v6H3zM11 3h6v6h-6zM3 11h6v6H3zM11 11h6v6h-6z",
        "people" | "person" => "M10 10a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7Zm-6.5 7a6.5 6.5 0 0 1 13 0",
        _ => "M10 4v12M4 10h12",
    };
    html! {
        svg.icon viewBox="0 0 20 20" width="20" height="20" aria-hidden="true" focusable="false" {
            path d=(path) fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round" {}
        }
    }
}

/// A moment. The script writes it in the visitor's own time zone.
pub(in crate::console) fn time(at_ms: u64) -> Markup {
    html! { time datetime=(words::iso(at_ms)) { (words::utc(at_ms)) } }
}

/// A moment, or a dash.
pub(in crate::console) fn time_or_dash(at_ms: Option<u64>) -> Markup {
    html! { @if let Some(at_ms) = at_ms { (time(at_ms)) } @else { (dash()) } }
}

/// Nothing to show.
pub(in crate::console) fn dash() -> Markup {
    html! { span.dim aria-hidden="true" { "–" } }
}

/// A text, or a dash.
pub(in crate::console) fn or_dash(text: Option<&str>) -> Markup {
    html! { @if let Some(text) = text.filter(|text| !text.is_empty()) { (text) } @else { (dash()) } }
}

/// How good it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::console) enum Tone {
    Good,
    Busy,
    Warning,
    Bad,
    Quiet,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Self::Good => "badge good",
            Self::Busy => "badge busy",
            Self::Warning => "badge warning",
            Self::Bad => "badge bad",
            Self::Quiet => "badge",
        }
    }
}

/// A state in one word.
pub(in crate::console) fn badge(tone: Tone, text: &str) -> Markup {
    html! { span class=(tone.class()) { (text) } }
}

/// Online or not, since when.
pub(in crate::console) fn presence(texts: &Texts, is_online: bool) -> Markup {
    if is_online { badge(Tone::Good, texts.online) } else { badge(Tone::Quiet, texts.offline) }
}

/// A number that stands out.
pub(in crate::console) fn figure(label: &str, value: &str, note: Option<Markup>) -> Markup {
    html! {
        div.figure {
            dt { (label) }
            dd { span.value { (value) } @if let Some(note) = note { span.note { (note) } } }
        }
    }
}

/// A box with a head.
pub(in crate::console) fn card(title: &str, body: Markup) -> Markup {
    html! { section.card { h2 { (title) } (body) } }
}

/// When there is nothing yet: what this will show, and what to do.
pub(in crate::console) fn empty(title: &str, lead: &str, action: Option<(&str, &str)>) -> Markup {
    html! {
        div.empty {
            p.empty-title { (title) }
            p { (lead) }
            @if let Some((path, text)) = action { p { a.button.primary href=(path) { (text) } } }
        }
    }
}

/// A table with a head; it scrolls by itself where the window is narrow.
pub(in crate::console) fn table(caption: &str, heads: &[&str], rows: Markup) -> Markup {
    html! {
        div.table-box tabindex="0" role="region" aria-label=(caption) {
            table {
                caption.visually-hidden { (caption) }
                thead { tr { @for head in heads { th scope="col" { (head) } } } }
                tbody { (rows) }
            }
        }
    }
}

/// Names and values.
pub(in crate::console) fn facts(rows: &[(&str, Markup)]) -> Markup {
    html! { dl.facts { @for (name, value) in rows { div { dt { (name) } dd { (value) } } } } }
}

/// The way to the next page of a list, and back to its beginning.
pub(in crate::console) fn pager(texts: &Texts, first: Option<&str>, next: Option<&str>) -> Markup {
    html! {
        @if first.is_some() || next.is_some() {
            nav.pager aria-label=(texts.pages) {
                @if let Some(first) = first { a.button href=(first) { (texts.first_page) } }
                @if let Some(next) = next { a.button href=(next) rel="next" { (texts.next_page) } }
            }
        }
    }
}

/// A step that cannot be taken back: says what happens and asks once more.
pub(in crate::console) struct Confirm<'a> {
    pub csrf: &'a str,
    pub action: &'a str,
    pub label: &'a str,
    pub warning: &'a str,
    /// Hidden fields.
    pub fields: &'a [(&'a str, &'a str)],
}

/// The button that asks, and behind it the one that does it. It works without a script.
pub(in crate::console) fn confirm(texts: &Texts, ask: &Confirm<'_>) -> Markup {
    html! {
        details.confirm {
            summary.button.danger-quiet { (ask.label) "…" }
            form.confirm-box method="post" action=(ask.action) {
                (csrf(ask.csrf))
                @for (name, value) in ask.fields { input type="hidden" name=(name) value=(value); }
                p { (ask.warning) }
                div.actions {
                    button.danger type="submit" { (ask.label) }
                    button type="button" data-close { (texts.cancel) }
                }
            }
        }
    }
}

/// Something went wrong.
pub(in crate::console) fn refusal(texts: &Texts, refusal: &Refusal) -> Markup {
    html! {
        div.notice.bad role="alert" {
            p { strong { (words::refusal_title(texts, refusal)) } }
            @if !refusal.detail.is_empty() { p { (refusal.detail) } }
            @if !refusal.errors.is_empty() {
                ul { @for (pointer, message) in &refusal.errors { li { code { (pointer) } " " (message) } } }
            }
        }
    }
}

/// Something was done.
pub(in crate::console) fn done(text: Option<&str>) -> Markup {
    html! { @if let Some(text) = text { div.notice.good role="status" { (text) } } }
}

/// JSON, indented.
pub(in crate::console) fn json(value: &serde_json::Value) -> Markup {
    html! { pre.code tabindex="0" { code { (serde_json::to_string_pretty(value).unwrap_or_default()) } } }
}

/// A part of the page that the script renews from `path` while somebody looks at it.
pub(in crate::console) fn live(path: &str, every_s: u32, body: &Markup) -> Markup {
    html! { div data-live=(path) data-every=(every_s) { (PreEscaped(&body.0)) } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::texts::Language;

    #[test]
    fn whatever_a_text_holds_it_stays_text() {
        let evil = "<script>alert(1)</script>\" onload=\"x";
        let texts = Language::English.texts();
        let refused = Refusal {
            detail: evil.to_owned(),
            errors: vec![(evil.to_owned(), evil.to_owned())],
            ..Refusal::new(422, evil)
        };
        let ask = Confirm { csrf: evil, action: evil, label: evil, warning: evil, fields: &[(evil, evil)] };
        for made in [
            csrf(evil),
            badge(Tone::Good, evil),
            figure(evil, evil, Some(html! { (evil) })),
            card(evil, html! { (evil) }),
            empty(evil, evil, Some((evil, evil))),
            table(evil, &[evil], html! { (evil) }),
            facts(&[(evil, html! { (evil) })]),
            pager(texts, Some(evil), Some(evil)),
            confirm(texts, &ask),
            refusal(texts, &refused),
            done(Some(evil)),
            json(&serde_json::json!({evil: evil})),
            or_dash(Some(evil)),
        ] {
            let text = made.into_string();
            assert!(!text.contains("<script") && !text.contains("\" onload"), "{text}");
            assert!(text.contains("&lt;script&gt;"), "{text}");
        }
    }
}
