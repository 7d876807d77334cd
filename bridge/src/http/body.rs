//! Request bodies and queries, read strictly: what is unknown or wrong is named by its JSON pointer.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use reveille_proto::ids::MessageId;
use serde::de::DeserializeOwned;

use serde_path_to_error::{Path as ErrorPath, Segment};

use super::Api;
use super::problem::{Errno, Problem};

/// A body as JSON, with the bytes it was read from.
pub(super) struct Json<T>(pub T, pub Bytes);

impl<T: DeserializeOwned> FromRequest<Api> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, shared: &Api) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, shared).await.map_err(|error| unread(&error))?;
        Ok(Self(parse(&bytes)?, bytes))
    }
}

pub(super) fn unread(error: &BytesRejection) -> Problem {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(Errno::BodyTooLarge),
        _ => Problem::because(Errno::MalformedJson, "the body could not be read"),
    }
}

/// Reads JSON strictly.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value: T = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let (inner, path) = (error.inner(), error.path());
        match inner.classify() {
            serde_json::error::Category::Data => {
                Problem::field(pointer(path, &inner.to_string()), words(inner))
            }
            _ => Problem::because(Errno::MalformedJson, inner.to_string()),
        }
    })?;
    deserializer.end().map_err(|error| Problem::because(Errno::MalformedJson, error.to_string()))?;
    Ok(value)
}

/// Without the place in the text, which the pointer says better.
fn words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(words, _)| words.to_owned())
}

/// The pointer to a name in an object (RFC 6901 section 3).
pub(super) fn within(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn pointer(path: &ErrorPath, message: &str) -> String {
    let mut pointer = String::new();
    let mut add = |name: &str| pointer = within(&pointer, name);
    let mut last = String::new();
    for segment in path {
        last = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } => key.clone(),
            Segment::Enum { variant } => variant.clone(),
            Segment::Unknown => continue,
        };
        add(&last);
    }
    // The path of an unknown field ends at its parent.
    if let Some(name) = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next())
        && name != last
    {
        add(name);
    }
    pointer
}

/// Everything that is wrong with a body, so that the sender sees it at once.
#[derive(Default)]
pub(super) struct Errors(Vec<(String, String)>);

impl Errors {
    /// Notes a wrong field by its pointer.
    pub fn add(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.0.push((pointer.into(), message.into()));
    }

    /// Notes a text that is empty or too long.
    pub fn check_text(&mut self, pointer: &str, text: Option<&str>, max: usize) {
        if text.is_some_and(|text| text.is_empty() || text.len() > max) {
            self.add(pointer, format!("has 1 to {max} bytes"));
        }
    }

    /// Whether nothing was noted.
    pub fn or_ok(self) -> Result<(), Problem> {
        if self.0.is_empty() { Ok(()) } else { Err(Problem::fields(self.0)) }
    }
}

/// The parameters of a path.
pub(super) struct Params<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Api) -> Result<Self, Problem> {
        let params = Path::<T>::from_request_parts(parts, shared).await;
        params.map(|Path(params)| Self(params)).map_err(|_| Problem::new(Errno::PathUnknown))
    }
}

/// The parameters of a query, read strictly.
pub(super) struct Asked<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Api> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Api) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, shared).await;
        let wrong = |error: QueryRejection| {
            // The cause says which parameter; the text around it is the framework's.
            let cause =
                std::error::Error::source(&error).map_or_else(|| error.body_text(), ToString::to_string);
            Problem::because(Errno::InvalidQuery, cause)
        };
        query.map(|Query(query)| Self(query)).map_err(wrong)
    }
}

/// A message id from a path.
pub(super) fn message_id(text: &str) -> Result<MessageId, Problem> {
    MessageId::parse(text).map_err(|_| Problem::new(Errno::MessageUnknown))
}
