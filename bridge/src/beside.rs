//! Questions to the broker, in the same process or in another one: requests to its operations API, answered as JSON.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;

use crate::shared::Shared;

/// Largest answer that is read: a page of a thousand sessions.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long an answer may take once it has begun.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What is to be done where it is not known where the broker's operations API is.
pub(crate) const ELSEWHERE: &str = "the broker runs in another process: name its HTTP listener and a key in bridge.broker_http and bridge.broker_key";

/// Why the broker did not do it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum NotAsked {
    /// It runs in another process, and nobody said where its operations API is.
    Elsewhere,
    /// It refused; with its status and its problem.
    Refused(StatusCode, Value),
}

/// The answer of a path of the operations API, without its prefix, as it comes: also one without end.
pub(crate) async fn pass_on(shared: &Shared, method: Method, path: &str) -> Result<Response, NotAsked> {
    let router = shared.broker.clone().ok_or(NotAsked::Elsewhere)?;
    let request = Request::builder().method(method).uri(path).body(Body::empty());
    let request = request.map_err(|_| NotAsked::Refused(StatusCode::BAD_REQUEST, Value::Null))?;
    let answer = TowerToHyperService::new(router).call(request).await;
    Ok(answer.unwrap_or_else(|never| match never {}))
}

/// Asks for a path of the operations API, without its prefix.
pub(crate) async fn ask(
    shared: &Shared,
    method: Method,
    path: &str,
) -> Result<(StatusCode, Value), NotAsked> {
    let (parts, body) = pass_on(shared, method, path).await?.into_parts();
    let bytes = whole(body, BODY_TIMEOUT).await?;
    let value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    match parts.status.is_success() {
        true => Ok((parts.status, value)),
        false => Err(NotAsked::Refused(parts.status, value)),
    }
}

async fn whole(body: Body, within: Duration) -> Result<Bytes, NotAsked> {
    let bytes = tokio::time::timeout(within, to_bytes(body, ANSWER_BYTES_MAX)).await;
    let bytes = bytes.map_err(|_| NotAsked::Refused(StatusCode::GATEWAY_TIMEOUT, Value::Null))?;
    bytes.map_err(|_| NotAsked::Refused(StatusCode::BAD_GATEWAY, Value::Null))
}

/// A text as one segment of a path, or a value of a query.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => encoded.push(char::from(byte)),
            // A segment that is `.` or `..` would mean another path to browsers.
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt as _, Empty};

    #[tokio::test]
    async fn an_answer_that_begins_and_does_not_end_is_given_up() {
        let endless = Empty::<Bytes>::new().with_trailers(std::future::pending());
        let given_up = whole(Body::new(endless), Duration::ZERO).await.unwrap_err();
        assert_eq!(given_up, NotAsked::Refused(StatusCode::GATEWAY_TIMEOUT, Value::Null));
    }

    #[test]
    fn a_text_stays_one_segment() {
        for (text, wanted) in [
            ("d-1_~", "d-1_~"),
            ("a/b?c#d", "a%2Fb%3Fc%23d"),
            ("..", "%2E%2E"),
            ("设", "%E8%AE%BE"),
            (" +", "%20%2B"),
        ] {
            assert_eq!(encode(text), wanted);
        }
    }
}
