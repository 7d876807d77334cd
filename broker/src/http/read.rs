//! What comes in, read strictly: paths, queries and bodies. What is unknown or wrong is named.

use super::problem::{Errno, Problem};
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reveille_proto::ids::{AppId, ClientId};
use reveille_proto::topic::{TopicFilter, TopicName};
use serde::de::DeserializeOwned;

/// Entries of one page unless asked otherwise.
const PAGE: usize = 100;

/// Entries of one page at most.
const PAGE_MAX: usize = 1000;

/// A body as JSON.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await.map_err(|error| match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Problem::new(Errno::BodyTooLarge),
            _ => Problem::because(Errno::MalformedJson, "the body could not be read"),
        })?;
        parse(&bytes).map(Self)
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let inner = error.inner();
        let words = inner.to_string();
        match inner.classify() {
            serde_json::error::Category::Data => {
                // The pointer says better where it is than line and column do.
                let words = words.rsplit_once(" at line ").map_or(words.as_str(), |(words, _)| words);
                Problem::field(pointer(error.path()), words)
            }
            _ => Problem::because(Errno::MalformedJson, words),
        }
    })?;
    deserializer.end().map_err(|error| Problem::because(Errno::MalformedJson, error.to_string()))?;
    Ok(value)
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let segment = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Map { key } => Some(key.replace('~', "~0").replace('/', "~1")),
        Segment::Enum { variant } => Some(variant.clone()),
        Segment::Unknown => None,
    };
    path.iter().filter_map(segment).map(|name| format!("/{name}")).collect()
}

/// The query of a request. Unknown parameters are errors where the type says so.
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        let wrong = |error: axum::extract::rejection::QueryRejection| {
            let words = error.body_text();
            let words = words.rsplit_once(": ").map_or(words.as_str(), |(_, words)| words);
            Problem::because(Errno::InvalidQuery, words)
        };
        query.map(|Query(query)| Self(query)).map_err(wrong)
    }
}

/// The parameters of a path.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = Path::<T>::from_request_parts(parts, state).await;
        params.map(|Path(params)| Self(params)).map_err(|_| Problem::new(Errno::InvalidPath))
    }
}

/// How many entries a page has.
pub(crate) fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    let limit = asked.unwrap_or(PAGE);
    match (1..=PAGE_MAX).contains(&limit) {
        true => Ok(limit),
        false => Err(Problem::because(Errno::InvalidQuery, "limit is 1 to 1000")),
    }
}

/// An app, named in a query.
pub(crate) fn app_asked(text: Option<&str>) -> Result<Option<AppId>, Problem> {
    let wrong =
        |error: reveille_proto::ids::IdError| Problem::because(Errno::InvalidQuery, error.to_string());
    text.map(|text| AppId::parse(text).map_err(wrong)).transpose()
}

/// An app, named in a path.
pub(crate) fn app(text: &str) -> Result<AppId, Problem> {
    AppId::parse(text).map_err(|error| Problem::because(Errno::InvalidPath, error.to_string()))
}

/// App and client identifier, named in a path.
pub(crate) fn client(params: &(String, String)) -> Result<(AppId, ClientId), Problem> {
    let client_id = ClientId::parse(&params.1);
    let client_id = client_id.map_err(|error| Problem::because(Errno::InvalidPath, error.to_string()))?;
    Ok((app(&params.0)?, client_id))
}

/// A topic filter, named in a query.
pub(crate) fn filter(text: &str) -> Result<TopicFilter, Problem> {
    TopicFilter::parse(text)
        .map_err(|error| Problem::because(Errno::InvalidQuery, format!("filter: {error}")))
}

/// A topic name, named in a query.
pub(crate) fn topic_asked(text: &str) -> Result<TopicName, Problem> {
    TopicName::parse(text.to_owned())
        .map_err(|error| Problem::because(Errno::InvalidQuery, format!("topic: {error}")))
}

/// Where a page begins, opaque for whoever gets it. A shard keeps its sessions in another order after a restart, so a
/// cursor that points into that order names the start of the broker for which it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The shard.
    pub(crate) shard: u16,
    /// The place there.
    pub(crate) at: u32,
    /// A text behind which to go on.
    pub(crate) behind: Option<String>,
}

impl Cursor {
    /// As text.
    pub(crate) fn text(&self, boot: u64) -> String {
        let behind = self.behind.as_ref().map(|text| format!("-{}", URL_SAFE_NO_PAD.encode(text)));
        format!("{boot:x}.{:x}.{:x}{}", self.shard, self.at, behind.unwrap_or_default())
    }

    /// Reads what [`Cursor::text`] made; the beginning when there is none.
    pub(crate) fn parse(text: Option<&str>, boot: u64) -> Result<Self, Problem> {
        let Some(text) = text else { return Ok(Self::default()) };
        let read = || {
            let (numbers, behind) = match text.split_once('-') {
                Some((numbers, behind)) => (numbers, Some(text_of(behind)?)),
                None => (text, None),
            };
            let mut numbers = numbers.split('.').map(|number| u64::from_str_radix(number, 16).ok());
            let (of, shard, at) = (numbers.next()??, numbers.next()??, numbers.next()??);
            let shard = u16::try_from(shard).ok()?;
            let at = u32::try_from(at).ok()?;
            (of == boot && numbers.next().is_none()).then_some(Self { shard, at, behind })
        };
        read().ok_or_else(|| Problem::new(Errno::InvalidCursor))
    }
}

/// A text as a cursor, for lists in an order of their own.
pub(crate) fn cursor_of(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// What [`cursor_of`] was given.
pub(crate) fn text_of_cursor(cursor: Option<&str>) -> Result<Option<String>, Problem> {
    cursor.map(|cursor| text_of(cursor).ok_or_else(|| Problem::new(Errno::InvalidCursor))).transpose()
}

fn text_of(encoded: &str) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
}

/// Bytes in base64, from a field of a body.
pub(crate) fn base64(pointer: &str, text: &str) -> Result<Bytes, Problem> {
    STANDARD.decode(text).map(Bytes::from).map_err(|error| Problem::field(pointer, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_until_the_broker_starts_again() {
        for cursor in [
            Cursor::default(),
            Cursor { shard: 127, at: u32::MAX, behind: None },
            Cursor { shard: 3, at: 77, behind: Some("$share/g/设备/+-.".to_owned()) },
            Cursor { shard: 0, at: 0, behind: Some(String::new()) },
        ] {
            let text = cursor.text(9);
            assert!(text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)), "{text}");
            assert_eq!(Cursor::parse(Some(&text), 9).unwrap(), cursor, "{text}");
            assert!(Cursor::parse(Some(&text), 10).is_err(), "{text}");
        }
        for text in ["", "x", "9.1", "9.1.2.3", "9.10000.1", "9.1.100000000", "9.1.2-!", "9.1.2-_w"] {
            assert!(Cursor::parse(Some(text), 9).is_err(), "{text}");
        }
        assert_eq!(Cursor::parse(None, 9).unwrap(), Cursor::default());
    }

    #[test]
    fn a_wrong_field_is_named_by_its_pointer() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "only read from JSON")]
        struct Body {
            list: Vec<u8>,
        }
        for (body, errno) in [
            ("{", 1001),
            ("{\"list\":[1]} x", 1001),
            ("{\"list\":[1,300]}", 1002),
            ("{\"list\":[],\"other\":1}", 1002),
            ("{}", 1002),
        ] {
            let problem = format!("{:?}", parse::<Body>(body.as_bytes()).unwrap_err());
            let wanted = if errno == 1001 { "MalformedJson" } else { "InvalidField" };
            assert!(problem.contains(wanted), "{body}: {problem}");
        }
        let problem = format!("{:?}", parse::<Body>(b"{\"list\":[1,300]}").unwrap_err());
        assert!(problem.contains("\"/list/1\""), "{problem}");
    }
}
