//! Errors as people and programs read them: `application/problem+json` of RFC 9457 with a number that stays.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::apps::KeyRefused;
use crate::store::StoreError;

/// Every error of the API. Numbers are never reused; `docs/errors.md` says cause and remedy of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is described in its row below")]
pub enum Errno {
    MalformedJson,
    InvalidField,
    BodyTooLarge,
    RequestTimeout,
    InvalidQuery,
    InvalidIdempotencyKey,
    ReceiptMalformed,
    KeyMissing,
    KeyWrong,
    KeyForbidden,
    TooManyWrongKeys,
    ReceiptRefused,
    AppUnknown,
    DeviceUnknown,
    MessageUnknown,
    DeliveryUnknown,
    CredentialUnknown,
    VendorUnknown,
    PathUnknown,
    MethodNotAllowed,
    AppExists,
    TooManyApps,
    IdempotencyMismatch,
    StoreFailed,
    Stopping,
}

struct Row {
    number: u16,
    code: &'static str,
    status: u16,
    title: &'static str,
    retryable: bool,
}

impl Errno {
    /// Every error, in order of the numbers.
    pub const ALL: [Self; 25] = [
        Self::MalformedJson,
        Self::InvalidField,
        Self::BodyTooLarge,
        Self::RequestTimeout,
        Self::InvalidQuery,
        Self::InvalidIdempotencyKey,
        Self::ReceiptMalformed,
        Self::KeyMissing,
        Self::KeyWrong,
        Self::KeyForbidden,
        Self::TooManyWrongKeys,
        Self::ReceiptRefused,
        Self::AppUnknown,
        Self::DeviceUnknown,
        Self::MessageUnknown,
        Self::DeliveryUnknown,
        Self::CredentialUnknown,
        Self::VendorUnknown,
        Self::PathUnknown,
        Self::MethodNotAllowed,
        Self::AppExists,
        Self::TooManyApps,
        Self::IdempotencyMismatch,
        Self::StoreFailed,
        Self::Stopping,
    ];

    fn row(self) -> Row {
        let (number, code, status, title, retryable) = match self {
            Self::MalformedJson => (1001, "malformed_json", 400, "The body is not JSON", false),
            Self::InvalidField => (1002, "invalid_field", 422, "A field is not what it should be", false),
            Self::BodyTooLarge => (1003, "body_too_large", 413, "The body is too large", false),
            Self::RequestTimeout => (1004, "request_timeout", 408, "The request took too long", true),
            Self::InvalidQuery => {
                (1005, "invalid_query", 400, "A query parameter is not what it should be", false)
            }
            Self::InvalidIdempotencyKey => (
                1006,
                "invalid_idempotency_key",
                400,
                "Idempotency-Key has 1 to 255 printable characters",
                false,
            ),
            Self::ReceiptMalformed => {
                (1007, "receipt_malformed", 400, "The receipt is not in the vendor's form", false)
            }
            Self::KeyMissing => (2001, "key_missing", 401, "No API key", false),
            Self::KeyWrong => (2002, "key_wrong", 401, "The API key is unknown or wrong", false),
            Self::KeyForbidden => (2003, "key_forbidden", 403, "The API key does not open this", false),
            Self::TooManyWrongKeys => (2004, "too_many_wrong_keys", 429, "Too many wrong API keys", true),
            Self::ReceiptRefused => (2005, "receipt_refused", 403, "The receipt is not believed", false),
            Self::AppUnknown => (3001, "app_unknown", 404, "No such app", false),
            Self::DeviceUnknown => (3002, "device_unknown", 404, "No such device", false),
            Self::MessageUnknown => (3003, "message_unknown", 404, "No such message", false),
            Self::DeliveryUnknown => {
                (3004, "delivery_unknown", 404, "The message was not for this device", false)
            }
            Self::CredentialUnknown => {
                (3005, "credential_unknown", 404, "No credential at this vendor", false)
            }
            Self::VendorUnknown => (3006, "vendor_unknown", 404, "No such vendor", false),
            Self::PathUnknown => (3007, "path_unknown", 404, "No such path", false),
            Self::MethodNotAllowed => (3008, "method_not_allowed", 405, "The path has no such method", false),
            Self::AppExists => (4001, "app_exists", 409, "The app exists", false),
            Self::TooManyApps => (4002, "too_many_apps", 409, "No further app fits", false),
            Self::IdempotencyMismatch => {
                (4003, "idempotency_mismatch", 422, "The Idempotency-Key was used for another request", false)
            }
            Self::StoreFailed => (5001, "store_failed", 503, "The store does not take it", true),
            Self::Stopping => (5002, "stopping", 503, "The server stops", true),
        };
        Row { number, code, status, title, retryable }
    }

    /// The number that stays.
    pub fn number(self) -> u16 {
        self.row().number
    }

    /// The name that stays.
    pub fn code(self) -> &'static str {
        self.row().code
    }

    /// The HTTP status.
    pub fn status(self) -> u16 {
        self.row().status
    }
}

/// An error answer.
#[derive(Clone, Debug)]
pub struct Problem {
    errno: Errno,
    detail: String,
    errors: Vec<(String, String)>,
    retry_after_s: Option<u64>,
}

impl Problem {
    /// An error without details.
    pub fn new(errno: Errno) -> Self {
        Self { errno, detail: String::new(), errors: Vec::new(), retry_after_s: None }
    }

    /// An error with a sentence about this case.
    pub fn because(errno: Errno, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..Self::new(errno) }
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

    fn to_json(&self, row: &Row, request_id: &str) -> Value {
        let errors: Vec<_> = self
            .errors
            .iter()
            .map(|(pointer, message)| json!({"pointer": pointer, "message": message}))
            .collect();
        let mut fields = Map::new();
        for (name, value) in [
            ("type", Some(format!("https://reveille.invalid/errors/{}", row.code).into())),
            ("title", Some(row.title.into())),
            ("status", Some(row.status.into())),
            ("code", Some(row.code.into())),
            ("errno", Some(row.number.into())),
            ("retryable", Some(row.retryable.into())),
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
        let row = self.errno.row();
        let request_id = uuid::Uuid::now_v7().to_string();
        if row.status >= 500 {
            tracing::error!(errno = row.number, request_id, detail = self.detail, "a request failed");
        }
        let status = StatusCode::from_u16(row.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer = (status, self.to_json(&row, &request_id).to_string()).into_response();
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(wait_s) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait_s));
        }
        if row.status == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Closed => Self { retry_after_s: Some(5), ..Self::new(Errno::Stopping) },
            StoreError::Engine(_) | StoreError::Corrupt(_) => {
                Self { retry_after_s: Some(30), ..Self::because(Errno::StoreFailed, error.to_string()) }
            }
        }
    }
}

impl From<KeyRefused> for Problem {
    fn from(error: KeyRefused) -> Self {
        match error {
            KeyRefused::Wrong => Self::new(Errno::KeyWrong),
            KeyRefused::TooMany => Self { retry_after_s: Some(60), ..Self::new(Errno::TooManyWrongKeys) },
            KeyRefused::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_error_has_its_own_number_and_a_row_in_the_document() {
        let document = include_str!("../../../docs/errors.md");
        let mut numbers = HashSet::new();
        for errno in Errno::ALL {
            assert!(numbers.insert(errno.number()), "{errno:?}");
            let row = format!("| {} | `{}` | {} |", errno.number(), errno.code(), errno.status());
            assert!(document.contains(&row), "docs/errors.md lacks {row}");
        }
    }
}
