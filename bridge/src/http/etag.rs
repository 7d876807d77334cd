//! ETag and If-Match: who changes a record can say which state of it was seen.

use axum::http::{HeaderMap, HeaderValue, header};
use serde::Serialize;

use super::problem::{Errno, Problem};
use crate::apps::{hex, sha256};

/// A name for one state of a record, made of its content.
pub(super) fn of(record: &impl Serialize) -> String {
    let bytes = serde_json::to_vec(record).unwrap_or_default(); // texts, numbers and lists only: it cannot fail
    let [a, b, c, d, e, f, g, h, ..] = sha256(&bytes);
    format!("\"{}\"", hex(&[a, b, c, d, e, f, g, h]))
}

/// The header of an answer.
pub(super) fn header(record: &impl Serialize) -> [(header::HeaderName, HeaderValue); 1] {
    let value = HeaderValue::from_str(&of(record)).unwrap_or_else(|_| HeaderValue::from_static("\"\""));
    [(header::ETAG, value)]
}

/// What `If-Match` asks for; without the header anything goes.
#[derive(Default)]
pub(super) struct IfMatch(Option<String>);

impl IfMatch {
    /// Reads the header.
    pub fn of(headers: &HeaderMap) -> Self {
        Self(headers.get(header::IF_MATCH).map(|value| value.to_str().unwrap_or_default().to_owned()))
    }

    /// Compares it with the record as it is. [RFC9110-13.1.1]
    ///
    /// # Errors
    /// 412 when the caller saw another state, or there is no record.
    pub fn check(&self, record: Option<&impl Serialize>) -> Result<(), Problem> {
        let Some(wanted) = &self.0 else { return Ok(()) };
        let holds = record.is_some_and(|record| {
            let tag = of(record);
            wanted.split(',').map(str::trim).any(|wanted| wanted == "*" || wanted == tag)
        });
        if holds { Ok(()) } else { Err(Problem::new(Errno::PreconditionFailed)) }
    }
}
