//! The HTTP API as a business server calls it.

use crate::PATIENCE;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
pub use hyper::Method;
use hyper::Request;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// One server, one key.
#[derive(Clone, Debug)]
pub struct Api {
    address: SocketAddr,
    key: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// Status and body of an answer.
pub type Answer = (u16, Value);

impl Api {
    /// The API at an address, opened with a key.
    pub fn new(address: SocketAddr, key: &str) -> Self {
        Self { address, key: key.to_owned(), client: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// Any request.
    pub async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let uri = format!("http://{}{path}", self.address);
        let request = Request::builder().method(method).uri(uri);
        let request = request.header("authorization", format!("Bearer {}", self.key));
        let request = request.header("content-type", "application/json");
        let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let answer = self.client.request(request.body(Full::new(bytes)).unwrap());
        let answer = tokio::time::timeout(PATIENCE, answer).await.expect("an answer in time").unwrap();
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// POST with an `Idempotency-Key`; `None` when no answer came, as from a process that was killed.
    pub async fn try_post(&self, path: &str, key: &str, body: &Value) -> Option<Answer> {
        let request = Request::builder().method(Method::POST).uri(format!("http://{}{path}", self.address));
        let request = request.header("authorization", format!("Bearer {}", self.key));
        let request = request.header("content-type", "application/json").header("idempotency-key", key);
        let answer = self.client.request(request.body(Full::new(Bytes::from(body.to_string()))).unwrap());
        let answer = tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()?;
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.ok()?.to_bytes();
        Some((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    /// GET that must succeed.
    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(Method::GET, path, None).await;
        assert!((200..300).contains(&status), "GET {path}: {status} {body}");
        body
    }

    /// POST that must succeed.
    pub async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(Method::POST, path, Some(body)).await;
        assert!((200..300).contains(&status), "POST {path}: {status} {answer}");
        answer
    }

    /// PUT that must succeed.
    pub async fn put(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(Method::PUT, path, Some(body)).await;
        assert!((200..300).contains(&status), "PUT {path}: {status} {answer}");
        answer
    }

    /// GET again and again until the answer is as wanted: the funnel is told by nobody, it must be looked at.
    ///
    /// # Panics
    /// After [`PATIENCE`], with the last answer.
    pub async fn get_until(&self, path: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        match self.try_get_until(path, is_wanted).await {
            Ok(answer) => answer,
            Err(last) => panic!("GET {path}: in vain, the last answer was {last}"),
        }
    }

    /// The same without a panic.
    ///
    /// # Errors
    /// The last answer, after [`PATIENCE`].
    pub async fn try_get_until(
        &self,
        path: &str,
        is_wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, Value> {
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = self.get(path).await;
            if is_wanted(&answer) {
                return Ok(answer);
            }
            if Instant::now() > end {
                return Err(answer);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
