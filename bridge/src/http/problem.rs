//! Errors as people and programs read them: `application/problem+json` of RFC 9457 with a number that stays.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

pub use reveille_proto::errno::Errno;

use crate::apps::{self, KeyRefused};
use crate::store::StoreError;

/// What an error answer says.
#[derive(ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "describes what `Problem::to_json` writes")]
pub(super) struct ProblemBody {
    /// A name of the error, written as a URL.
    r#type: String,
    /// What it is, for people.
    title: String,
    /// The HTTP status.
    status: u16,
    /// A name that stays.
    code: String,
    /// A number that stays.
    errno: u16,
    /// Whether the same request can succeed later without a change.
    retryable: bool,
    /// When to try again.
    retry_after_s: Option<u64>,
    /// A sentence about this case.
    detail: Option<String>,
    /// Which fields are wrong.
    errors: Option<Vec<FieldError>>,
    /// Stands in the log too, for statuses of the 500 family.
    request_id: String,
}

/// One field that is wrong.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `Problem::to_json` writes")]
pub(super) struct FieldError {
    /// Where it stands in the body, as a JSON pointer of RFC 6901.
    pointer: String,
    /// What it should be.
    message: String,
}

/// An error answer.
#[derive(Clone, Debug)]
pub struct Problem {
    errno: Errno,
    detail: String,
    errors: Vec<(String, String)>,
    retry_after_s: Option<u64>,
    /// Requests in the time until they are counted anew.
    limit: Option<u64>,
}

impl Problem {
    /// An error without details.
    pub fn new(errno: Errno) -> Self {
        Self { errno, detail: String::new(), errors: Vec::new(), retry_after_s: None, limit: None }
    }

    /// An error with a sentence about this case.
    pub fn because(errno: Errno, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..Self::new(errno) }
    }

    /// An error that passes, with the time to wait.
    pub fn later(errno: Errno, retry_after_s: u64) -> Self {
        Self { retry_after_s: Some(retry_after_s), ..Self::new(errno) }
    }

    /// The same, with when to try again, where that is known.
    pub(crate) fn and_later(self, retry_after_s: Option<u64>) -> Self {
        Self { retry_after_s, ..self }
    }

    /// A limit that is used up, and when it is not any more.
    pub fn limited(errno: Errno, limit: u64, reset_s: u64) -> Self {
        Self { limit: Some(limit), ..Self::later(errno, reset_s) }
    }

    /// One wrong field, by its JSON pointer of RFC 6901.
    pub fn field(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self::fields(vec![(pointer.into(), message.into())])
    }

    /// Wrong fields, each by its JSON pointer.
    pub fn fields(errors: Vec<(String, String)>) -> Self {
        Self { errors, ..Self::new(Errno::InvalidField) }
    }

    /// The same about a part of the body: its pointers begin with the part's.
    pub fn below(mut self, pointer: &str) -> Self {
        self.errors.iter_mut().for_each(|(at, _)| at.insert_str(0, pointer));
        self
    }

    /// Which error it is.
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// Everything that it says, in one line.
    pub fn words(&self) -> String {
        let fields = self.errors.iter().map(|(pointer, message)| format!("{pointer} {message}"));
        let parts: Vec<_> = fields.chain([self.detail.clone()]).filter(|part| !part.is_empty()).collect();
        if parts.is_empty() { self.errno.title().to_owned() } else { parts.join("; ") }
    }

    /// The same as one of many results.
    pub(crate) fn in_a_list(&self) -> Value {
        self.to_json(&uuid::Uuid::now_v7().to_string())
    }

    fn to_json(&self, request_id: &str) -> Value {
        let errno = self.errno;
        let errors: Vec<_> = self
            .errors
            .iter()
            .map(|(pointer, message)| json!({"pointer": pointer, "message": message}))
            .collect();
        let mut fields = Map::new();
        for (name, value) in [
            ("type", Some(format!("https://reveille.invalid/errors/{}", errno.code()).into())),
            ("title", Some(errno.title().into())),
            ("status", Some(errno.status().into())),
            ("code", Some(errno.code().into())),
            ("errno", Some(errno.number().into())),
            ("retryable", Some(errno.is_retryable().into())),
            ("retry_after_s", self.retry_after_s.map(Value::from)),
            ("detail", (!self.detail.is_empty()).then(|| self.detail.clone().into())),
            ("errors", (!errors.is_empty()).then_some(errors.into())),
            ("request_id", Some(request_id.into())),
        ] {
            if let Some(value) = value {
                fields.insert(name.to_owned(), value);
            }
        }
        Value::Object(fields)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let errno = self.errno;
        let request_id = uuid::Uuid::now_v7().to_string();
        if errno.status() >= 500 {
            tracing::error!(errno = errno.number(), request_id, detail = self.detail, "a request failed");
        }
        let status = StatusCode::from_u16(errno.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer = (status, self.to_json(&request_id).to_string()).into_response();
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(wait_s) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait_s));
        }
        if let (Some(limit), Some(reset_s)) = (self.limit, self.retry_after_s) {
            headers.insert("ratelimit-limit", HeaderValue::from(limit));
            headers.insert("ratelimit-remaining", HeaderValue::from(0));
            headers.insert("ratelimit-reset", HeaderValue::from(reset_s));
        }
        if errno.status() == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Closed => Self::later(Errno::Stopping, 5),
            StoreError::Engine(_)
            | StoreError::Corrupt(_)
            | StoreError::KeyTooLong
            | StoreError::BrokeOff => {
                Self { retry_after_s: Some(30), ..Self::because(Errno::StoreFailed, error.to_string()) }
            }
        }
    }
}

impl From<KeyRefused> for Problem {
    fn from(error: KeyRefused) -> Self {
        match error {
            KeyRefused::Wrong => Self::new(Errno::KeyWrong),
            KeyRefused::TooMany => Self::limited(Errno::TooManyWrongKeys, apps::FAILURES_MAX.into(), 60),
            KeyRefused::Store(error) => error.into(),
        }
    }
}
