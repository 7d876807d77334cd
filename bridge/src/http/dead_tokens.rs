//! `/v1/apps/{app}/dead-tokens`: device tokens that a vendor called dead, oldest first, as JSON or CSV.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::Api;
use super::guard::{ADMIN, Guarded};
use super::paging::{Listed, Page, PageQuery};
use super::problem::{Errno, Problem};
use crate::store::{Order, Tx};
use crate::tokens::{self, DeadToken};

/// One page. With `Accept: text/csv` a table with a head; the header `x-next` is then the cursor of the next page.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/dead-tokens",
    tag = "devices",
    params(PageQuery),
    responses((status = 200, description = "One page, as JSON or CSV", content((Listed<DeadToken> = "application/json"), (String = "text/csv")))),
)]
pub(super) async fn list(
    Guarded { app, .. }: Guarded<ADMIN>,
    headers: HeaderMap,
    page: Page,
    State(shared): State<Api>,
) -> Result<Response, Problem> {
    let read = move |tx: &Tx<'_>| {
        let read = |from: Option<&str>, order, limit| {
            let from = from.map(str::parse::<u64>).transpose();
            let from = from.map_err(|_| Problem::because(Errno::InvalidCursor, "no cursor of this list"))?;
            Ok::<_, Problem>(tokens::dead_page(tx, &app, from, order, limit)?)
        };
        page.walk(Order::Forward, read, |(number, _)| number.to_string())
    };
    let found = shared.store.read(read).await?;
    if headers.get(header::ACCEPT).is_none_or(|accept| accept != "text/csv") {
        return Ok(found.show(|(_, dead)| dead).into_response());
    }
    let next = found.next().and_then(|next| HeaderValue::from_str(next).ok());
    let mut answer = csv(found.items().iter().map(|(_, dead)| dead)).into_response();
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
    next.and_then(|next| headers.insert("x-next", next));
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
