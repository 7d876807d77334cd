//! What a visitor sent: fields of a form or a query, and the token that shows that our own page made the form.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use super::Here;
use super::sessions::is_same;
use super::visitor::{LOGIN_COOKIE, Visitor, cookie};

/// Fields of one form at most.
const FIELDS_MAX: usize = 500;

/// Fields by name, as they came; a name may stand several times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads `a=1&b=2`.
    pub fn read(bytes: &[u8]) -> Self {
        let fields = form_urlencoded::parse(bytes).take(FIELDS_MAX);
        Self(fields.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// Fields made here.
    pub fn of(fields: &[(&str, &str)]) -> Self {
        Self(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    /// The same with more fields.
    pub fn with(mut self, fields: &[(&str, &str)]) -> Self {
        self.0.extend(Self::of(fields).0);
        self
    }

    /// The trimmed text of a field; empty when it is missing.
    pub fn text(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.trim()).unwrap_or_default()
    }

    /// The text of a field, unless it is missing or empty.
    pub fn some(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    /// Every value of a name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.trim()).collect()
    }

    /// Whether the field has this value.
    pub fn is(&self, name: &str, value: &str) -> bool {
        self.all(name).contains(&value)
    }

    /// Lines and comma-separated parts of a field, trimmed, without empty ones.
    pub fn list(&self, name: &str) -> Vec<&str> {
        let parts = self.text(name).split(['\n', ',', '，']);
        parts.map(str::trim).filter(|part| !part.is_empty()).collect()
    }

    /// A JSON object of the texts that are given.
    pub fn object(&self, names: &[&str]) -> Map<String, Value> {
        let given = names.iter().filter_map(|name| Some(((*name).to_owned(), self.some(name)?.into())));
        given.collect()
    }
}

/// The fields of a query.
pub(super) struct Query(pub Fields);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(Fields::read(parts.uri.query().unwrap_or_default().as_bytes())))
    }
}

/// A form that a page of this session made.
pub(super) struct Posted {
    pub visitor: Visitor,
    pub fields: Fields,
}

impl FromRequest<Here> for Posted {
    type Rejection = Response;

    async fn from_request(request: Request, console: &Here) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let visitor = Visitor::from_request_parts(&mut parts, console).await?;
        let fields = read(Request::from_parts(parts, body), console).await?;
        match is_same(fields.text("csrf"), &visitor.csrf) {
            true => Ok(Self { visitor, fields }),
            false => Err(forged()),
        }
    }
}

/// A form of somebody who is not logged in yet: its token must be the one of the cookie that came with the page.
pub(super) struct Stranger {
    pub headers: HeaderMap,
    pub fields: Fields,
}

impl FromRequest<Here> for Stranger {
    type Rejection = Response;

    async fn from_request(request: Request, console: &Here) -> Result<Self, Response> {
        let headers = request.headers().clone();
        let fields = read(request, console).await?;
        let is_own = cookie(&headers, LOGIN_COOKIE)
            .is_some_and(|token| token.len() >= 32 && is_same(fields.text("csrf"), token));
        if is_own { Ok(Self { headers, fields }) } else { Err(forged()) }
    }
}

async fn read(request: Request, console: &Here) -> Result<Fields, Response> {
    let headers = request.headers();
    // A browser says which site a form comes from; ours comes from here.
    if headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none") {
        return Err(forged());
    }
    let bytes =
        axum::body::Bytes::from_request(request, console).await.map_err(IntoResponse::into_response)?;
    Ok(Fields::read(&bytes))
}

fn forged() -> Response {
    (StatusCode::FORBIDDEN, "This form is too old, or not ours. Go back, reload the page and send it again.")
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_browsers_send_them() {
        let fields = Fields::read("a=+1+&tag=x&tag=y&list=a%0D%0Ab%2C%EF%BC%8Cc&empty=".as_bytes());
        assert_eq!(fields.text("a"), "1");
        assert_eq!(fields.all("tag"), ["x", "y"]);
        assert_eq!(fields.list("list"), ["a", "b", "c"]);
        assert_eq!((fields.some("empty"), fields.some("none")), (None, None));
        assert!(fields.is("tag", "y") && !fields.is("tag", "z"));
        assert_eq!(Value::Object(fields.object(&["a", "empty"])), serde_json::json!({"a": "1"}));
    }
}
