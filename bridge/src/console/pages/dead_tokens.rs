//! Device tokens that vendors called dead, and all of them as a file.

use axum::extract::{Path, State};
use axum::http::{HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use maud::html;

use super::Page;
use crate::apps::Access;
use crate::console::Here;
use crate::console::door::{Refusal, encode};
use crate::console::form::Query;
use crate::console::view::devices::dead_tokens;
use crate::console::view::parts::pager;
use crate::console::visitor::Visitor;
use crate::tokens;

/// Tokens on one page.
const PAGE: usize = 100;
/// Rows that one call of the API gives.
const CSV_PAGE: usize = 1_000;

/// The list, oldest first.
pub(in crate::console) async fn list(
    visitor: Visitor,
    State(console): State<Here>,
    Path(app): Path<String>,
    Query(query): Query,
) -> Response {
    let made = async {
        let id = visitor.check(&app, Access::Admin)?;
        let after = query.some("after").and_then(|after| after.parse::<u64>().ok());
        let found = console.shared.store.read(move |tx| tokens::dead(tx, &id, after, PAGE)).await?;
        let context = visitor.context(Some(&app));
        let base = context.path("/dead-tokens");
        let next =
            found.last().filter(|_| found.len() == PAGE).map(|(number, _)| format!("{base}?after={number}"));
        let csv = (!found.is_empty()).then(|| {
            html! { a.button href=(context.path("/dead-tokens.csv")) download={ "dead-tokens-" (app) ".csv" } { (context.texts.download_csv) } }
        });
        let body = html! {
            (dead_tokens(&context, &found))
            (pager(context.texts, after.map(|_| base.as_str()), next.as_deref()))
        };
        Ok(Page { title: context.texts.dead_tokens.to_owned(), section: "dead_tokens", actions: csv, body })
    };
    visitor.answer(Some(&app), made.await)
}

/// Every row, page by page from the API; at most as many as are kept.
pub(in crate::console) async fn csv(
    visitor: Visitor,
    State(console): State<Here>,
    Path(app): Path<String>,
) -> Response {
    match all(&console, &visitor, &app).await {
        Ok(text) => {
            let mut answer = text.into_response();
            let headers = answer.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
            headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
            answer
        }
        Err(refused) => visitor.answer(Some(&app), Err(refused)),
    }
}

async fn all(console: &Here, visitor: &Visitor, app: &str) -> Result<String, Refusal> {
    let base = format!("/v1/apps/{}/dead-tokens?limit={CSV_PAGE}", encode(app));
    let (mut text, mut next) = (String::new(), None::<String>);
    for _ in 0..=tokens::DEAD_MAX / CSV_PAGE as u64 {
        let path = next.as_ref().map_or(base.clone(), |next| format!("{base}&after={}", encode(next)));
        let page =
            console.door.call(&visitor.caller, Method::GET, &path, &[("accept", "text/csv")], None).await?;
        let rows = if text.is_empty() {
            page.text.as_str()
        } else {
            page.text.split_once("\r\n").map_or("", |(_, rows)| rows)
        };
        text.push_str(rows);
        next = page.headers.get("x-next").and_then(|next| next.to_str().ok()).map(str::to_owned);
        if next.is_none() {
            break;
        }
    }
    Ok(text)
}
