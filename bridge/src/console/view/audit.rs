//! Records of the audit log.

use maud::{Markup, html};

use super::Context;
use super::parts::{Tone, badge, dash, empty, or_dash, table, time};
use crate::audit::{Record, Verified};
use crate::console::texts::Texts;
use crate::console::words::{fill, number};

/// Filters of the list.
pub(in crate::console) struct AuditQuery<'a> {
    pub actor: &'a str,
    pub app: &'a str,
    /// Days such as `2026-11-26`.
    pub from: &'a str,
    pub to: &'a str,
}

impl AuditQuery<'_> {
    fn is_empty(&self) -> bool {
        [self.actor, self.app, self.from, self.to].iter().all(|text| text.is_empty())
    }
}

/// The list with its filters. `has_apps`: of every app.
pub(in crate::console) fn audit(
    context: &Context<'_>,
    query: &AuditQuery<'_>,
    has_apps: bool,
    records: &[Record],
) -> Markup {
    let texts = context.texts;
    html! {
        p.lead { (texts.audit_lead) }
        form.filters method="get" role="search" {
            div.field {
                label for="actor" { (texts.audit_actor) }
                input #actor type="search" name="actor" value=(query.actor) aria-describedby="actor-hint";
                p.hint #actor-hint { (texts.audit_actor_hint) }
            }
            @if has_apps {
                div.field { label for="app" { (texts.app) } input #app type="search" name="app" value=(query.app); }
            }
            div.field { label for="from" { (texts.date_from) } input #from type="date" name="from" value=(query.from); }
            div.field { label for="to" { (texts.date_to) } input #to type="date" name="to" value=(query.to); }
            button type="submit" { (texts.filter) }
        }
        @if records.is_empty() && query.is_empty() { (empty(texts.audit_empty, texts.audit_empty_lead, None)) }
        @else if records.is_empty() { (empty(texts.nothing_found, texts.nothing_found_lead, None)) }
        @else { (rows(texts, has_apps, records)) }
    }
}

fn rows(texts: &Texts, has_apps: bool, records: &[Record]) -> Markup {
    let body = html! {
        @for record in records {
            tr {
                td.number { (record.seq) }
                td { (time(record.at_ms)) }
                td { @if let Some(actor) = &record.actor { code { (actor) } } @else { (badge(Tone::Warning, texts.audit_stranger)) } }
                @if has_apps { td { (or_dash(record.app.as_deref())) } }
                td.wide { code { (record.method) " " (record.resource) } @if let Some(about) = &record.about { br; span.dim { (about) } } }
                td { (outcome(texts, record)) }
                td { @if let Some(from) = &record.from { code { (from) } } @else { (dash()) } }
            }
        }
    };
    let mut heads = vec!["#", texts.at, texts.audit_actor];
    heads.extend(has_apps.then_some(texts.app));
    heads.extend([texts.audit_what, texts.state, texts.audit_from]);
    table(texts.audit, &heads, body)
}

fn outcome(texts: &Texts, record: &Record) -> Markup {
    let (tone, word) = match record.outcome.as_str() {
        "done" => (Tone::Good, texts.audit_done),
        _ => (Tone::Bad, texts.audit_refused),
    };
    html! { (badge(tone, word)) @if let Some(status) = record.status { " " span.dim { (status) } } }
}

/// Whether the log is what it was.
pub(in crate::console) fn verdict(texts: &Texts, found: &Verified, head_hash: &str) -> Markup {
    match found.broken {
        None => {
            let numbers = [number(found.records), number(found.head_seq)];
            let words = fill(texts.audit_is_whole, &[&numbers[0], &numbers[1], head_hash]);
            html! { div.notice.good role="status" { (words) } }
        }
        Some(broken) => {
            let words = fill(texts.audit_is_broken, &[&number(broken.seq), broken.why]);
            html! { div.notice.bad role="alert" { (words) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::texts::Language;

    #[test]
    fn whatever_a_record_holds_stays_text() {
        let evil = "<script>alert(1)</script>".to_owned();
        let record = Record {
            actor: Some(evil.clone()),
            app: Some(evil.clone()),
            resource: evil.clone(),
            about: Some(evil.clone()),
            from: Some(evil),
            outcome: "refused".to_owned(),
            status: Some(403),
            ..Record::default()
        };
        for language in Language::ALL {
            let made = rows(language.texts(), true, std::slice::from_ref(&record)).into_string();
            assert!(!made.contains("<script") && made.contains("403"), "{made}");
        }
    }
}
