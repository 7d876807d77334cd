//! The way to the API in this process: a request in the name of a visitor, its answer as JSON.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, header};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;

use crate::apps::Caller;
pub(super) use crate::beside::encode;
use crate::store::StoreError;

/// Largest answer that a page reads.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why the API did not do it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    pub status: u16,
    /// The name that stays, such as `app_unknown`.
    pub code: String,
    pub title: String,
    pub detail: String,
    /// Wrong fields, by JSON pointer.
    pub errors: Vec<(String, String)>,
}

impl Refusal {
    /// A refusal of the console's own.
    pub fn new(status: u16, title: impl Into<String>) -> Self {
        Self { status, title: title.into(), ..Self::default() }
    }

    /// The visitor's key does not open this.
    pub fn forbidden() -> Self {
        Self { code: "key_forbidden".to_owned(), ..Self::new(403, "The API key does not open this") }
    }

    /// There is no such thing.
    pub fn missing() -> Self {
        Self { code: "path_unknown".to_owned(), ..Self::new(404, "No such page") }
    }

    fn read(status: u16, problem: &Value) -> Self {
        let text = |name: &str| problem.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let errors = problem.get("errors").and_then(Value::as_array).into_iter().flatten();
        let part = |error: &Value, name: &str| {
            error.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        Self {
            status,
            code: text("code"),
            title: text("title"),
            detail: text("detail"),
            errors: errors.map(|error| (part(error, "pointer"), part(error, "message"))).collect(),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self { detail: error.to_string(), ..Self::new(503, "The store does not take it") }
    }
}

/// An answer that is a success.
pub(super) struct Success {
    pub headers: HeaderMap,
    pub text: String,
}

impl Success {
    /// The answer as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }
}

/// The API.
pub(super) struct Door(Router);

impl Door {
    pub fn new(api: Router) -> Self {
        Self(api)
    }

    /// Asks with headers and a body.
    pub async fn call(
        &self,
        caller: &Caller,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Option<&Value>,
    ) -> Result<Success, Refusal> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let bytes = body.map(Value::to_string).unwrap_or_default();
        let request = request.header(header::CONTENT_TYPE, "application/json").extension(caller.clone());
        let request = request.body(Body::from(bytes)).map_err(|_| Refusal::missing())?;
        let answer = TowerToHyperService::new(self.0.clone()).call(request).await;
        let (parts, body) = answer.unwrap_or_else(|never| match never {}).into_parts();
        let bytes = to_bytes(body, ANSWER_BYTES_MAX).await;
        let bytes = bytes.map_err(|error| Refusal::new(500, error.to_string()))?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        match parts.status.is_success() {
            true => Ok(Success { headers: parts.headers, text }),
            false => {
                let problem = serde_json::from_str(&text).unwrap_or(Value::Null);
                Err(Refusal::read(parts.status.as_u16(), &problem))
            }
        }
    }

    /// GET.
    pub async fn get(&self, caller: &Caller, path: &str) -> Result<Value, Refusal> {
        Ok(self.call(caller, Method::GET, path, &[], None).await?.json())
    }

    /// POST.
    pub async fn post(&self, caller: &Caller, path: &str, body: &Value) -> Result<Value, Refusal> {
        Ok(self.call(caller, Method::POST, path, &[], Some(body)).await?.json())
    }

    /// PUT.
    pub async fn put(&self, caller: &Caller, path: &str, body: &Value) -> Result<Value, Refusal> {
        Ok(self.call(caller, Method::PUT, path, &[], Some(body)).await?.json())
    }

    /// DELETE.
    pub async fn delete(&self, caller: &Caller, path: &str) -> Result<Value, Refusal> {
        Ok(self.call(caller, Method::DELETE, path, &[], None).await?.json())
    }
}
