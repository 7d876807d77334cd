//! A small client of the HTTP API: one request, one JSON answer, a deadline on everything.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long one request may take.
const DEADLINE: Duration = Duration::from_secs(15);
/// The longest answer that is read, in bytes.
const ANSWER_MAX: usize = 4 << 20;

/// Why there is no useful answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The base URL.
    #[error("{0:?} is no URL, it looks like http://127.0.0.1:8080")]
    Url(String),
    /// The file with authorities to trust.
    #[error("{}: no certificates to trust: {error}", path.display())]
    Authority {
        /// Which.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// The header cannot hold it.
    #[error("the key has characters that no key has")]
    Key,
    /// Nobody answers.
    #[error("{url}: no answer, is `reveille run` running there? ({error})")]
    Connect {
        /// Whom we asked.
        url: String,
        /// What the HTTP library says.
        #[source]
        error: hyper_util::client::legacy::Error,
    },
    /// The answer broke off or is too long.
    #[error("{url}: the answer broke off")]
    Broken {
        /// Whom we asked.
        url: String,
    },
    /// No answer in time.
    #[error("{url}: no answer within {} s", DEADLINE.as_secs())]
    Late {
        /// Whom we asked.
        url: String,
    },
    /// An answer, but a refusal.
    #[error("{url}: {status} {detail}")]
    Refused {
        /// Whom we asked.
        url: String,
        /// The HTTP status.
        status: u16,
        /// Title and detail of the problem document, or the body.
        detail: String,
    },
}

/// Speaks to one server with one key.
#[derive(Clone, Debug)]
pub struct Api {
    base: String,
    key: String,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Api {
    /// `base` is a URL without path, such as `http://127.0.0.1:8080`.
    pub fn new(base: &str, key: &str) -> Self {
        let connector =
            HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self { base: base.trim_end_matches('/').to_owned(), key: key.to_owned(), client }
    }

    /// The same, for a server whose certificate leads to an authority in this PEM file; without one, to a public root.
    ///
    /// # Errors
    /// [`ApiError::Authority`] for a file that holds none.
    pub fn trusting(base: &str, key: &str, authorities: Option<&Path>) -> Result<Self, ApiError> {
        let api = Self::new(base, key);
        let Some(path) = authorities else { return Ok(api) };
        let wrong = |error: &dyn std::fmt::Display| ApiError::Authority {
            path: path.to_owned(),
            error: error.to_string(),
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
            roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
        }
        if roots.is_empty() {
            return Err(wrong(&"it holds no certificate in PEM"));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(&error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build();
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector), ..api })
    }

    /// The same server with another key.
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self.clone() }
    }

    /// The same key at another server.
    pub fn at(&self, base: &str) -> Self {
        Self { base: base.trim_end_matches('/').to_owned(), ..self.clone() }
    }

    /// GET.
    ///
    /// # Errors
    /// [`ApiError`], also for every status but 2xx.
    pub async fn get(&self, path: &str) -> Result<Value, ApiError> {
        self.ask(Method::GET, path, None).await
    }

    /// POST of JSON.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// PUT of JSON.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub async fn put(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.ask(Method::PUT, path, Some(body)).await
    }

    /// DELETE.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub async fn delete(&self, path: &str) -> Result<Value, ApiError> {
        self.ask(Method::DELETE, path, None).await
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, ApiError> {
        let url = format!("{}{path}", self.base);
        let request = self.request(method, &url, body)?;
        tokio::time::timeout(DEADLINE, self.exchange(&url, request))
            .await
            .unwrap_or(Err(ApiError::Late { url: url.clone() }))
    }

    fn request(
        &self,
        method: Method,
        url: &str,
        body: Option<&Value>,
    ) -> Result<Request<Full<Bytes>>, ApiError> {
        let uri: Uri = url.parse().map_err(|_| ApiError::Url(self.base.clone()))?;
        if uri.host().is_none() {
            return Err(ApiError::Url(self.base.clone()));
        }
        let mut request = Request::builder().method(method).uri(uri);
        request = request.header("authorization", format!("Bearer {}", self.key));
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        request.body(Full::new(bytes)).map_err(|_| ApiError::Key)
    }

    async fn exchange(&self, url: &str, request: Request<Full<Bytes>>) -> Result<Value, ApiError> {
        let answer = self.client.request(request).await;
        let answer = answer.map_err(|error| ApiError::Connect { url: url.to_owned(), error })?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        let body = body.map_err(|_| ApiError::Broken { url: url.to_owned() })?.to_bytes();
        if status.is_success() {
            return Ok(serde_json::from_slice(&body).unwrap_or(Value::Null)); // 204 has no body
        }
        Err(ApiError::Refused { url: url.to_owned(), status: status.as_u16(), detail: problem(&body) })
    }
}

/// A text as one part of a path, or as a value in a query.
pub fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// What a problem document says, in one line.
fn problem(body: &[u8]) -> String {
    let document: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let field = |name| document.get(name).and_then(Value::as_str);
    match (field("title"), field("detail")) {
        (Some(title), Some(detail)) => format!("{title}: {detail}"),
        (Some(text), None) | (None, Some(text)) => text.to_owned(),
        (None, None) => String::from_utf8_lossy(body).chars().take(200).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_one_line() {
        let rows = [
            (r#"{"title":"Conflict","detail":"the app exists"}"#, "Conflict: the app exists"),
            (r#"{"title":"Conflict"}"#, "Conflict"),
            ("gateway down", "gateway down"),
            ("", ""),
        ];
        for (body, wanted) in rows {
            assert_eq!(problem(body.as_bytes()), wanted);
        }
    }

    #[tokio::test]
    async fn a_base_that_is_no_url_and_a_key_that_is_no_key_are_said_so() {
        for (base, key, wanted) in [
            ("127.0.0.1:8080", "k", "no URL"),
            ("not a url", "k", "no URL"),
            ("http://127.0.0.1:8080", "a\nb", "no key has"),
        ] {
            let error = Api::new(base, key).get("/healthz").await.unwrap_err().to_string();
            assert!(error.contains(wanted), "{base} {key:?}: {error}");
        }
    }
}
