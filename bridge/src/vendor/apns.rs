//! Apple's push service over HTTP/2: one POST per device token, proved by a signed token of our own.
//!
//! Rules from Apple's "Sending notification requests to APNs", "Handling notification responses from APNs" and
//! "Establishing a token-based connection to APNs". See `docs/vendors/apns.md`.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::credential::{CredentialError, Environment, Secret, check_ca, check_endpoint};
use super::shorten::{Parts, fit};
use super::{
    Account, Answer, CannotSend, Login, LoginStep, Priority, Push, PushKind, Scope, Vendor, VendorName,
    Verdict, is_reserved_data_key, merge, reason, retry_after,
};

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

/// An app's token key at Apple.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApnsCredential {
    /// The 10 characters that name the key.
    pub key_id: String,
    /// The 10 characters that name the developer team.
    pub team_id: String,
    /// The app's bundle id, which is the push topic.
    pub bundle_id: String,
    /// The content of the `.p8` file: a P-256 key in PKCS#8, as PEM.
    pub private_key: Secret,
    /// Where the device tokens come from.
    #[serde(default)]
    pub environment: Environment,
    /// Replaces Apple's address, for proxies and tests: `https://host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Certificates to trust besides the public ones, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
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

    pub(super) fn validate(&self) -> Result<(), CredentialError> {
        let is_id = |id: &str| id.len() == 10 && id.bytes().all(|b| b.is_ascii_alphanumeric());
        if !is_id(&self.key_id) {
            return Err(CredentialError::new("key_id", "has 10 letters and digits"));
        }
        if !is_id(&self.team_id) {
            return Err(CredentialError::new("team_id", "has 10 letters and digits"));
        }
        let in_bundle_id = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-' || b == b'_';
        if self.bundle_id.is_empty()
            || self.bundle_id.len() > 255
            || !self.bundle_id.bytes().all(in_bundle_id)
        {
            return Err(CredentialError::new("bundle_id", "has 1 to 255 letters, digits, dots and hyphens"));
        }
        if let Some(endpoint) = &self.endpoint {
            check_endpoint("endpoint", endpoint, true)?;
        }
        check_ca(self.ca_pem.as_deref())?;
        self.sign(0).map(|_| ()).map_err(|problem| CredentialError::new("private_key", problem))
    }

    pub(super) fn summary(&self) -> String {
        let Self { key_id, team_id, bundle_id, .. } = self;
        format!("apns, team {team_id}, key {key_id}, {bundle_id} at {}", self.base())
    }

    /// A provider token: `{"alg":"ES256","kid"}` and `{"iss","iat"}`, nothing else.
    fn sign(&self, now_ms: u64) -> Result<String, &'static str> {
        const NOT_A_KEY: &str = "is not a P-256 private key in PEM (the whole content of the .p8 file)";
        let key = EncodingKey::from_ec_pem(self.private_key.reveal().as_bytes()).map_err(|_| NOT_A_KEY)?;
        let header = Header { typ: None, kid: Some(self.key_id.clone()), ..Header::new(Algorithm::ES256) };
        let claims = Claims { iss: &self.team_id, iat: now_ms / 1000 };
        jsonwebtoken::encode(&header, &claims, &key).map_err(|_| NOT_A_KEY)
    }
}

impl Vendor for ApnsCredential {
    fn login(&self, now_ms: u64) -> Result<LoginStep, CannotSend> {
        let token = self.sign(now_ms).map_err(|_| CannotSend::Config("private_key cannot sign"))?;
        let renew_at_ms = now_ms.saturating_add(TOKEN_RENEW_AFTER.as_millis() as u64);
        Ok(LoginStep::Made(Login { token: Secret::new(token), renew_at_ms }))
    }

    fn account(&self) -> Option<Account> {
        Some(Account {
            vendor: VendorName::Apns,
            name: format!("{} {}", self.team_id, self.key_id),
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
        let (payload, shortened) = fit(push, PAYLOAD_MAX, |parts| payload(push, parts))
            .ok_or(CannotSend::Payload("payload is too large"))?;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}/3/device/{}", self.base(), push.token.as_str()))
            .body(Bytes::from(payload.to_string()))
            .map_err(|_| CannotSend::Config("endpoint makes no URL"))?;
        *request.headers_mut() = self.headers(push, login, now_ms)?;
        if let Some(shortened) = shortened {
            request.extensions_mut().insert(shortened);
        }
        Ok(request)
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
    fn headers(&self, push: &Push, login: Option<&str>, now_ms: u64) -> Result<HeaderMap, CannotSend> {
        let mut headers = HeaderMap::with_capacity(8);
        let mut add = |name: &'static str, text: &str| match HeaderValue::from_str(text) {
            Ok(value) => {
                headers.insert(HeaderName::from_static(name), value);
                Ok(())
            }
            Err(_) => Err(CannotSend::Config("a header value has a control character")),
        };
        let (push_type, priority) = type_and_priority(push);
        add("apns-topic", &self.bundle_id)?;
        add("apns-push-type", push_type)?;
        add("apns-priority", priority)?;
        add("apns-id", &push.id.to_string())?;
        add("apns-collapse-id", &collapse_id(push))?;
        if let Some(expires_at_ms) = push.expires_at_ms {
            if expires_at_ms <= now_ms {
                return Err(CannotSend::Payload("push has expired"));
            }
            add("apns-expiration", &expires_at_ms.div_ceil(1000).to_string())?;
        }
        let login = login.ok_or(CannotSend::Config("no provider token"))?;
        add("authorization", &format!("bearer {login}"))?;
        if let Some(value) = headers.get_mut(http::header::AUTHORIZATION) {
            value.set_sensitive(true); // never enters an HPACK table, as Apple asks
        }
        Ok(headers)
    }
}

/// Background pushes with priority 10 are an error at Apple.
fn type_and_priority(push: &Push) -> (&'static str, &'static str) {
    match (push.kind, push.priority) {
        (PushKind::Alert, Priority::High | Priority::Normal) => ("alert", "10"),
        (PushKind::Alert, Priority::Low) => ("alert", "5"),
        (PushKind::Data, _) => ("background", "5"),
    }
}

/// The collapse key, or else the message id, so that a push whose outcome stayed unknown replaces its
/// twin instead of standing beside it. A key that is too long or not plain text is hashed.
fn collapse_id(push: &Push) -> String {
    let Some(key) = &push.collapse_key else { return push.id.to_string() };
    let is_plain = key.bytes().all(|b| b.is_ascii_graphic());
    if !key.is_empty() && key.len() <= COLLAPSE_ID_MAX && is_plain {
        return key.clone();
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn payload(push: &Push, parts: &Parts<'_>) -> Value {
    let mut root = Map::new();
    if let Some(data) = parts.data {
        root.extend(data.clone());
    }
    root.insert("aps".to_owned(), aps(push, parts));
    if parts.has_extras {
        for (name, value) in [("image", &push.image), ("click", &push.click)] {
            if let Some(text) = value {
                root.entry(name).or_insert_with(|| text.as_str().into());
            }
        }
    }
    let mut payload = Value::Object(root);
    if parts.has_extras && push.overrides.is_object() {
        merge(&mut payload, &push.overrides);
    }
    if let Value::Object(root) = &mut payload {
        root.insert("mid".to_owned(), push.id.to_string().into());
        if parts.is_cut {
            root.insert("cut".to_owned(), "1".into());
        }
    }
    payload
}

fn aps(push: &Push, parts: &Parts<'_>) -> Value {
    if push.kind == PushKind::Data {
        return json!({"content-available": 1});
    }
    let mut aps = Map::new();
    let texts = [("title", &parts.title), ("body", &parts.body)];
    let alert: Map<String, Value> = texts
        .into_iter()
        .filter_map(|(name, text)| Some((name.to_owned(), text.as_deref()?.into())))
        .collect();
    aps.insert("alert".to_owned(), Value::Object(alert));
    if parts.has_extras {
        let texts = [("sound", &push.sound), ("thread-id", &push.channel), ("category", &push.category)];
        aps.extend(
            texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text.as_deref()?.into()))),
        );
        if push.image.is_some() {
            aps.insert("mutable-content".to_owned(), 1.into()); // lets the app's extension fetch the picture
        }
    }
    if let Some(badge) = push.badge {
        aps.insert("badge".to_owned(), badge.into());
    }
    Value::Object(aps)
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
