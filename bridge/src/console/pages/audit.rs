//! Who changed what: of an app, or of the whole server; as a file; whether the log is what it was.

use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use maud::html;
use reveille_proto::ids::AppId;

use super::Page;
use crate::apps::{Access, hex};
use crate::audit::{self, Filter};
use crate::console::Here;
use crate::console::door::{Refusal, encode};
use crate::console::form::{Fields, Query};
use crate::console::view::audit::{AuditQuery, audit as view, verdict};
use crate::console::view::parts::pager;
use crate::console::visitor::Visitor;
use crate::http::audit_file;
use crate::zones::Zone;

/// Records on one page.
const PAGE: usize = 100;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// When a day such as `2026-11-26` begins, in milliseconds since 1970.
fn day_of(text: &str) -> Option<u64> {
    let day = text.parse::<jiff::civil::Date>().ok()?;
    Some(Zone::UTC.moment_ms(day.at(0, 0, 0, 0)))
}

/// Records about one app.
pub(in crate::console) async fn of_app(
    visitor: Visitor,
    State(console): State<Here>,
    Path(app): Path<String>,
    Query(query): Query,
) -> Response {
    let made = match visitor.check(&app, Access::Admin) {
        Ok(id) => page(&console, &visitor, Some(id), &query).await,
        Err(refused) => Err(refused),
    };
    visitor.answer(Some(&app), made)
}

/// Every record.
pub(in crate::console) async fn of_all(
    visitor: Visitor,
    State(console): State<Here>,
    Query(query): Query,
) -> Response {
    let made = match visitor.check_operator() {
        Ok(()) => page(&console, &visitor, None, &query).await,
        Err(refused) => Err(refused),
    };
    visitor.answer(None, made)
}

async fn page(
    console: &Here,
    visitor: &Visitor,
    app: Option<AppId>,
    query: &Fields,
) -> Result<Page, Refusal> {
    let asked = AuditQuery {
        actor: query.text("actor"),
        app: query.text("app"),
        from: query.text("from"),
        to: query.text("to"),
    };
    let filter = Filter {
        app: app.as_ref().map(|app| app.as_str().to_owned()).or(query.some("app").map(str::to_owned)),
        actor: query.some("actor").map(str::to_owned),
        from_ms: day_of(asked.from),
        to_ms: day_of(asked.to).map(|day_ms| day_ms + DAY_MS), // the day is part of it
    };
    let before = query.some("after").and_then(|after| after.parse::<u64>().ok());
    let read = move |tx: &crate::store::Tx<'_>| audit::list(tx, &filter, before, PAGE);
    let (records, next) = console.shared.store.read(read).await?;
    let context = visitor.context(app.as_ref().map(AppId::as_str));
    let base = if app.is_some() { context.path("/audit") } else { "/console/audit".to_owned() };
    let own: String = [("actor", asked.actor), ("app", asked.app), ("from", asked.from), ("to", asked.to)]
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("&{name}={}", encode(value)))
        .collect();
    let next = next.map(|next| format!("{base}?after={next}{own}"));
    let texts = context.texts;
    let checked = match app.is_none() && query.is("verify", "true") {
        true => Some(console.shared.store.read(audit::verify).await?),
        false => None,
    };
    let actions = app.is_none().then(|| {
        html! {
            a.button href="/console/audit?verify=true" { (texts.audit_verify) }
            a.button href="/console/audit.ndjson" download="audit.ndjson" { (texts.audit_export) }
        }
    });
    let body = html! {
        @if let Some(checked) = &checked { (verdict(texts, checked, &hex(&checked.head_hash))) }
        (view(&context, &asked, app.is_none(), &records))
        (pager(texts, before.map(|_| base.as_str()), next.as_deref()))
    };
    let section = if app.is_some() { "audit" } else { "server_audit" };
    Ok(Page { title: texts.audit.to_owned(), section, actions, body })
}

/// The whole log as a file: the API makes it while it is read.
pub(in crate::console) async fn export(visitor: Visitor, State(console): State<Here>) -> Response {
    if let Err(refused) = visitor.check_operator() {
        return visitor.answer(None, Err(refused));
    }
    let mut answer = audit_file(console.shared.store.clone());
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
