//! Errors as people and programs read them: `application/problem+json` of RFC 9457 with a number that stays.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

pub(crate) use reveille_proto::errno::Errno;

/// An answer that is no success.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    errno: Errno,
    detail: Option<String>,
    errors: Vec<FieldError>,
    retry_after_s: Option<u64>,
}

/// One field that is wrong.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct FieldError {
    /// Where it stands in the body, as a JSON pointer of RFC 6901.
    pointer: String,
    /// What it should be.
    message: String,
}

/// Why the request did not succeed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// A name of the error, written as a URL.
    r#type: String,
    /// What it is, for people.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// A name that stays.
    code: &'static str,
    /// A number that stays.
    errno: u16,
    /// Whether the same request can succeed later without a change.
    retryable: bool,
    /// When to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_s: Option<u64>,
    /// A sentence about this case.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// Which fields are wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// Stands in the log too, for statuses of the 500 family.
    request_id: String,
}

impl Problem {
    /// An error without details.
    pub(crate) fn new(errno: Errno) -> Self {
        Self { errno, detail: None, errors: Vec::new(), retry_after_s: None }
    }

    /// An error with a sentence about this case.
    pub(crate) fn because(errno: Errno, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..Self::new(errno) }
    }

    /// An error that passes.
    pub(crate) fn later(errno: Errno, retry_after_s: u64) -> Self {
        Self { retry_after_s: Some(retry_after_s), ..Self::new(errno) }
    }

    /// Which error it is.
    #[cfg(test)]
    pub(crate) fn errno(&self) -> Errno {
        self.errno
    }

    /// One wrong field, by its JSON pointer.
    pub(crate) fn field(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        let errors = vec![FieldError { pointer: pointer.into(), message: message.into() }];
        Self { errors, ..Self::new(Errno::InvalidField) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { errno, detail, errors, retry_after_s } = self;
        let request_id = uuid::Uuid::now_v7().to_string();
        if errno.status() >= 500 {
            tracing::error!(errno = errno.number(), request_id, detail, "a request failed");
        }
        let body = ProblemBody {
            r#type: format!("https://reveille.invalid/errors/{}", errno.code()),
            title: errno.title(),
            status: errno.status(),
            code: errno.code(),
            errno: errno.number(),
            retryable: errno.is_retryable(),
            retry_after_s,
            detail,
            errors,
            request_id,
        };
        let status = StatusCode::from_u16(errno.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer = (status, axum::Json(body)).into_response();
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(wait_s) = retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait_s));
        }
        if errno.status() == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }
}
