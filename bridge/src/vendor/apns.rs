//! Apple's push service over HTTP/2: one POST per device token, proved by a signed token of our own or a certificate.
//!
//! Rules from Apple's "Sending notification requests to APNs", "Handling notification responses from APNs" and
//! "Establishing a token-based connection to APNs". See `docs/vendors/apns.md`.

pub(crate) mod certificate;
pub mod channels;
mod form;
mod push_type;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

use super::credential::{CredentialError, Environment, Secret, check_ca, check_endpoint};
use super::{
    Account, Answer, CannotSend, Login, LoginStep, Priority, Push, Scope, Vendor, VendorName, Verdict,
    is_reserved_data_key, reason, retry_after,
};
use form::Form;
pub use push_type::PushType;

/// Largest payload of every push type but VoIP, in bytes.
pub const PAYLOAD_MAX: usize = 4096;
/// Longest `apns-collapse-id`, in bytes.
pub const COLLAPSE_ID_MAX: usize = 64;
/// Apple wants a token renewed not more often than every 20 and not less often than every 60 minutes.
pub const TOKEN_RENEW_AFTER: Duration = Duration::from_secs(45 * 60);
/// Apple's advice for answers of the 500 family.
pub const SERVER_FAULT_WAIT: Duration = Duration::from_secs(15 * 60);
/// How long a connection may not be used after too many token updates.
pub const TOKEN_UPDATE_WINDOW: Duration = Duration::from_secs(20 * 60);

/// An app at Apple: a token key (`key_id`, `team_id` and the `.p8` file), or a certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Fields")]
pub struct ApnsCredential {
    /// The 10 characters that name the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// The 10 characters that name the developer team.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team_id: Option<String>,
    /// The certificate and what leads from it to Apple's authority, as PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The app's bundle id, which is the push topic; when it is left out, that of the certificate.
    pub bundle_id: String,
    /// The content of the `.p8` file, a P-256 key in PKCS#8; or the certificate's key. Both as PEM.
    pub private_key: Secret,
    /// Where the device tokens come from.
    pub environment: Environment,
    /// Replaces Apple's address, for proxies and tests: `https://host:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The same for the address where broadcast channels are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels_endpoint: Option<String>,
    /// Certificates to trust besides the public ones, as PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
}

/// What is entered.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    key_id: Option<String>,
    team_id: Option<String>,
    certificate: Option<String>,
    bundle_id: Option<String>,
    private_key: Secret,
    #[serde(default)]
    environment: Environment,
    endpoint: Option<String>,
    channels_endpoint: Option<String>,
    ca_pem: Option<String>,
}

impl From<Fields> for ApnsCredential {
    fn from(fields: Fields) -> Self {
        let of_certificate = || certificate::read(fields.certificate.as_deref()?)?.bundle_id;
        let bundle_id = fields.bundle_id.clone().or_else(of_certificate).unwrap_or_default();
        let Fields { key_id, team_id, certificate, private_key, environment, .. } = fields;
        let Fields { endpoint, channels_endpoint, ca_pem, .. } = fields;
        Self {
            key_id,
            team_id,
            certificate,
            bundle_id,
            private_key,
            environment,
            endpoint,
            channels_endpoint,
            ca_pem,
        }
    }
}

/// How the app proves itself.
enum Proof<'a> {
    /// With a signed token in each request.
    Token { key_id: &'a str, team_id: &'a str },
    /// With a certificate in the TLS handshake.
    Certificate(&'a str),
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    iat: u64,
}

#[derive(Default, Deserialize)]
struct ErrorBody {
    #[serde(default)]
    reason: String,
    timestamp: Option<u64>,
}

impl ApnsCredential {
    /// The address that pushes go to, `https://host[:port]` without a path.
    pub fn base(&self) -> &str {
        match (&self.endpoint, self.environment) {
            (Some(endpoint), _) => endpoint.trim_end_matches('/'),
            (None, Environment::Production) => "https://api.push.apple.com",
            (None, Environment::Sandbox) => "https://api.sandbox.push.apple.com",
        }
    }

    /// The address where broadcast channels are made and looked at, which is another one at Apple.
    pub fn channels_base(&self) -> &str {
        match (&self.channels_endpoint, self.environment) {
            (Some(endpoint), _) => endpoint.trim_end_matches('/'),
            (None, Environment::Production) => "https://api-manage-broadcast.push.apple.com:2196",
            (None, Environment::Sandbox) => "https://api-manage-broadcast.sandbox.push.apple.com:2195",
        }
    }

    fn proof(&self) -> Result<Proof<'_>, CredentialError> {
        let is_id = |id: &str| id.len() == 10 && id.bytes().all(|b| b.is_ascii_alphanumeric());
        match (&self.key_id, &self.team_id, &self.certificate) {
            (None, None, Some(certificate)) => Ok(Proof::Certificate(certificate)),
            (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
                Err(CredentialError::new("certificate", "goes without key_id and team_id"))
            }
            (Some(key_id), _, None) if !is_id(key_id) => {
                Err(CredentialError::new("key_id", "has 10 letters and digits"))
            }
            (Some(key_id), Some(team_id), None) if is_id(team_id) => Ok(Proof::Token { key_id, team_id }),
            (Some(_), _, None) => Err(CredentialError::new("team_id", "has 10 letters and digits")),
            (None, _, None) => Err(CredentialError::new("key_id", "has 10 letters and digits")),
        }
    }

    pub(super) fn validate(&self) -> Result<(), CredentialError> {
        let proof = self.proof()?;
        let in_bundle_id = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-' || b == b'_';
        let is_bundle_id =
            (1..=255).contains(&self.bundle_id.len()) && self.bundle_id.bytes().all(in_bundle_id);
        match proof {
            Proof::Token { .. } => {
                self.sign(0).map(|_| ()).map_err(|problem| CredentialError::new("private_key", problem))?;
            }
            Proof::Certificate(pem) => self.check_certificate(pem)?,
        }
        if !is_bundle_id {
            return Err(CredentialError::new("bundle_id", "has 1 to 255 letters, digits, dots and hyphens"));
        }
        for (field, endpoint) in
            [("endpoint", &self.endpoint), ("channels_endpoint", &self.channels_endpoint)]
        {
            if let Some(endpoint) = endpoint {
                check_endpoint(field, endpoint, true)?;
            }
        }
        check_ca(self.ca_pem.as_deref())
    }

    fn check_certificate(&self, pem: &str) -> Result<(), CredentialError> {
        let facts = certificate::read(pem).ok_or(CredentialError::new(
            "certificate",
            "is no certificate in PEM (convert a .p12 with openssl)",
        ))?;
        if !facts.topics.is_empty() && !facts.topics.contains(&self.bundle_id) {
            return Err(CredentialError::new("bundle_id", "is no topic of the certificate"));
        }
        self.client_identity()
            .map(|_| ())
            .ok_or(CredentialError::new("private_key", "is not the certificate's private key in PEM"))
    }

    /// The certificates and the key for the TLS handshake; `None` for a token key, or when they do not fit.
    pub(crate) fn client_identity(&self) -> Option<Arc<CertifiedKey>> {
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(self.certificate.as_deref()?.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(self.private_key.reveal().as_bytes()).ok()?;
        let provider = rustls::crypto::ring::default_provider();
        CertifiedKey::from_der(chain.ok()?, key, &provider).ok().map(Arc::new)
    }

    /// When the certificate ends, in milliseconds since 1970.
    pub(crate) fn not_after_ms(&self) -> Option<u64> {
        certificate::first_end_ms(self.certificate.as_deref()?)
    }

    pub(super) fn summary(&self) -> String {
        let proof = match self.proof() {
            Ok(Proof::Token { key_id, team_id }) => format!("team {team_id}, key {key_id}"),
            Ok(Proof::Certificate(_)) | Err(_) => "certificate".to_owned(),
        };
        format!("apns, {proof}, {} at {}", self.bundle_id, self.base())
    }

    /// A provider token: `{"alg":"ES256","kid"}` and `{"iss","iat"}`, nothing else.
    fn sign(&self, now_ms: u64) -> Result<String, &'static str> {
        const NOT_A_KEY: &str = "is not a P-256 private key in PEM (the whole content of the .p8 file)";
        let key = EncodingKey::from_ec_pem(self.private_key.reveal().as_bytes()).map_err(|_| NOT_A_KEY)?;
        let header = Header { typ: None, kid: self.key_id.clone(), ..Header::new(Algorithm::ES256) };
        let claims = Claims { iss: self.team_id.as_deref().unwrap_or_default(), iat: now_ms / 1000 };
        jsonwebtoken::encode(&header, &claims, &key).map_err(|_| NOT_A_KEY)
    }
}

impl Vendor for ApnsCredential {
    fn login(&self, now_ms: u64) -> Result<LoginStep, CannotSend> {
        if self.certificate.is_some() {
            return Ok(LoginStep::None);
        }
        let token = self.sign(now_ms).map_err(|_| CannotSend::Config("private_key cannot sign"))?;
        let renew_at_ms = now_ms.saturating_add(TOKEN_RENEW_AFTER.as_millis() as u64);
        Ok(LoginStep::Made(Login { token: Secret::new(token), renew_at_ms }))
    }

    fn account(&self) -> Option<Account> {
        let (key_id, team_id) = (self.key_id.as_ref()?, self.team_id.as_ref()?);
        Some(Account {
            vendor: VendorName::Apns,
            name: format!("{team_id} {key_id}"),
            secret: self.private_key.clone(),
            ca_pem: None,
            // Apple refuses a connection that sees tokens more often; a younger token is refused for another
            // reason, such as a wrong clock, which a new one does not cure.
            spacing: TOKEN_UPDATE_WINDOW,
        })
    }

    fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    fn read_login(&self, _answer: &Answer, _now_ms: u64) -> Result<Login, Verdict> {
        Err(Verdict::ConfigError { reason: reason("APNs has no login to ask for") })
    }

    fn request(&self, push: &Push, login: Option<&str>, now_ms: u64) -> Result<Request<Bytes>, CannotSend> {
        // Anything else could also change the request's path.
        if !push.token.as_str().bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(CannotSend::Token("device token is not hexadecimal"));
        }
        if push.data.keys().any(|key| is_reserved_data_key(key)) {
            return Err(CannotSend::Payload("data has a reserved key"));
        }
        let form = Form::of(push, self, now_ms)?;
        let (payload, shortened) = form.payload().ok_or(CannotSend::Payload("payload is too large"))?;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}/3/device/{}", self.base(), push.token.as_str()))
            .body(Bytes::from(payload.to_string()))
            .map_err(|_| CannotSend::Config("endpoint makes no URL"))?;
        *request.headers_mut() = self.headers(&form, login, now_ms)?;
        if let Some(shortened) = shortened {
            request.extensions_mut().insert(shortened);
        }
        Ok(request)
    }

    fn recall(&self, push: &Push, login: Option<&str>, now_ms: u64) -> Result<Request<Bytes>, CannotSend> {
        self.request(&push.silent(), login, now_ms)
    }

    fn verdict(&self, answer: &Answer, now_ms: u64) -> Verdict {
        if answer.status == 200 {
            return Verdict::Accepted { vendor_id: vendor_id(&answer.headers) };
        }
        let body: ErrorBody = serde_json::from_slice(&answer.body).unwrap_or_default();
        let after = retry_after(&answer.headers, now_ms);
        read_error(answer.status, &body.reason, body.timestamp, after)
    }
}

impl ApnsCredential {
    fn headers(&self, form: &Form<'_>, login: Option<&str>, now_ms: u64) -> Result<HeaderMap, CannotSend> {
        let mut headers = HeaderMap::with_capacity(8);
        let mut add = |name: &'static str, text: &str| match HeaderValue::from_str(text) {
            Ok(value) => {
                headers.insert(HeaderName::from_static(name), value);
                Ok(())
            }
            Err(_) => Err(CannotSend::Config("a header value has a control character")),
        };
        let push = form.push;
        add("apns-topic", &format!("{}{}", self.bundle_id, form.push_type.topic_suffix()))?;
        add("apns-push-type", form.push_type.as_str())?;
        add("apns-priority", &form.priority.to_string())?;
        add("apns-id", &push.id.to_string())?;
        add("apns-collapse-id", &form.own.collapse_id.clone().unwrap_or_else(|| collapse_id(push)))?;
        if push.expires_at_ms.is_some_and(|expires_at_ms| expires_at_ms <= now_ms) {
            return Err(CannotSend::Payload("push has expired"));
        }
        let usual = push.expires_at_ms.map(|expires_at_ms| expires_at_ms.div_ceil(1000));
        if let Some(expiration) = form.expiration(usual) {
            add("apns-expiration", &expiration.to_string())?;
        }
        if self.certificate.is_some() {
            return Ok(headers); // the handshake proved us
        }
        let login = login.ok_or(CannotSend::Config("no provider token"))?;
        add("authorization", &format!("bearer {login}"))?;
        if let Some(value) = headers.get_mut(http::header::AUTHORIZATION) {
            value.set_sensitive(true); // never enters an HPACK table, as Apple asks
        }
        Ok(headers)
    }
}

/// The collapse key, or else the message id, so that a push whose outcome stayed unknown replaces its
/// twin instead of standing beside it. A key that is too long or not plain text is hashed.
pub(super) fn collapse_id(push: &Push) -> String {
    let Some(key) = &push.collapse_key else { return push.id.to_string() };
    let is_plain = key.bytes().all(|b| b.is_ascii_graphic());
    if !key.is_empty() && key.len() <= COLLAPSE_ID_MAX && is_plain {
        return key.clone();
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn vendor_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("apns-unique-id").or_else(|| headers.get("apns-id"))?;
    Some(reason(id.to_str().ok()?))
}

/// Apple's reasons, row by row; see the table in `docs/vendors/apns.md`.
fn read_error(status: u16, why: &str, timestamp: Option<u64>, after: Option<Duration>) -> Verdict {
    let reason = reason(if why.is_empty() { http_reason(status) } else { why });
    match (status, why) {
        (400, "BadDeviceToken" | "DeviceTokenNotForTopic") => Verdict::TokenMismatch { reason },
        (400, "BadTopic" | "MissingTopic" | "TopicDisallowed") => Verdict::ConfigError { reason },
        (400, "IdleTimeout") => Verdict::NewConnection { reason },
        (403, "ExpiredProviderToken") => Verdict::LoginExpired,
        (403, "UnrelatedKeyIdInToken") => Verdict::NewConnection { reason },
        // `BadEnvironmentKeyIdInToken` in Apple's text, `BadEnvironmentKeyInToken` from the live service.
        (403, _) => Verdict::ConfigError { reason },
        // A wrong path or method is a fault of ours, the same for every push.
        (404 | 405, _) => Verdict::ConfigError { reason },
        (410, _) => Verdict::TokenDead { since_ms: timestamp, reason },
        (429, "TooManyProviderTokenUpdates") => {
            Verdict::Throttled { scope: Scope::Connection, after, reason }
        }
        (429, _) => Verdict::Throttled { scope: Scope::Token, after, reason },
        (500..=599, _) => Verdict::Retry { after: after.or(Some(SERVER_FAULT_WAIT)), reason },
        (400..=499, _) => Verdict::PayloadRejected { reason },
        _ => Verdict::Retry { after, reason },
    }
}

fn http_reason(status: u16) -> &'static str {
    let known = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    known.unwrap_or("unknown status")
}

#[cfg(test)]
mod tests;
