//! `/v1/apps/{app}/dead-tokens`: device tokens that a vendor called dead, oldest first, as JSON or CSV.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Api;
use super::body::{Page, PageQuery};
use super::guard::{ADMIN, Guarded};
use super::problem::{Errno, Problem};
use crate::tokens::{self, DeadToken};

/// One page. With `Accept: text/csv` a table with a head; the header `x-next` is then the cursor of the next page.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/dead-tokens",
    tag = "devices",
    params(PageQuery),
    responses((status = 200, description = "One page, as JSON or CSV", content((Object = "application/json"), (String = "text/csv")))),
)]
pub(super) async fn list(
    Guarded { app, .. }: Guarded<ADMIN>,
    headers: HeaderMap,
    page: Page,
    State(shared): State<Api>,
) -> Result<Response, Problem> {
    let after = page.after.as_deref().map(|text| text.parse::<u64>());
    let after = after
        .transpose()
        .map_err(|_| Problem::because(Errno::InvalidQuery, "after is a cursor of this list"))?;
    let limit = page.limit;
    let found = shared.store.read(move |tx| tokens::dead(tx, &app, after, limit)).await?;
    let last = found.last().map(|(number, _)| number.to_string());
    let wants_csv = headers.get(header::ACCEPT).is_some_and(|accept| accept == "text/csv");
    if !wants_csv {
        let items = found.iter().map(|(_, dead)| json!(dead)).collect();
        return Ok(page.answer(items, last).into_response());
    }
    let mut answer = csv(found.iter().map(|(_, dead)| dead)).into_response();
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
    if let Some(next) = last.filter(|_| found.len() == limit)
        && let Ok(next) = HeaderValue::from_str(&next)
    {
        headers.insert("x-next", next);
    }
    Ok(answer)
}

/// RFC 4180. A leading `=`, `+`, `-` or `@` is a formula to spreadsheets, so it gets an apostrophe.
fn csv<'a>(rows: impl Iterator<Item = &'a DeadToken>) -> String {
    let mut text = "vendor,token,device,reason,at_ms\r\n".to_owned();
    for DeadToken { vendor, token, device, reason, at_ms } in rows {
        let cells = [vendor.as_str(), token.as_str(), device, reason, &at_ms.to_string()].map(cell);
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
    text
}

fn cell(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_no_formula_and_ends_where_it_ends() {
        for (text, wanted) in [
            ("a", "\"a\""),
            ("a\"b", "\"a\"\"b\""),
            ("=1+1", "\"'=1+1\""),
            ("a,b\n", "\"a,b\n\""),
            ("", "\"\""),
        ] {
            assert_eq!(cell(text), wanted);
        }
    }
}
