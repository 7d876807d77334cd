//! Web Push: browsers and UnifiedPush; one encrypted POST to the address that the subscription names.
//!
//! RFC 8030 (protocol), RFC 8188 and RFC 8291 (encryption), RFC 8292 (who we are). See `docs/vendors/web_push.md`.
//!
//! The address comes from the device, so it is never believed: only hosts of known services, and those that the operator
//! names, are called, and over https only.

mod encryption;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::credential::{CredentialError, Secret, check_ca};
use super::form::{code, json_body, note, post, secret_header, text, ttl_s};
use super::shorten::{Parts, data_fields, fit};
use super::{
    Answer, CannotSend, Priority, Push, PushKind, Scope, Vendor, Verdict, merge, reason, retry_after,
};
use encryption::{Keys, Seed};

/// Bytes of the text before it is encrypted: services need not take more than 4,096 of the whole body.
pub const TEXT_MAX: usize = 3993;
/// The same for Mozilla, whose bridge to phones takes less.
pub const MOZILLA_TEXT_MAX: usize = 2641;
/// Longest time that a push is kept, in seconds: 30 days (Mozilla; others shorten it themselves).
pub const TTL_MAX_S: u64 = 2_592_000;

/// The services of the browsers, by the end of the host's name.
const KNOWN_HOSTS: [&str; 4] =
    ["googleapis.com", "push.apple.com", "notify.windows.com", "push.services.mozilla.com"];
/// Services take a day at most; half of it leaves room for clocks.
const VAPID_LIFE_S: u64 = 12 * 3600;
/// Longest name of a message at a service; Mozilla's have about 300 bytes.
const NAME_MAX: usize = 1000;
/// Longest `Topic`.
const TOPIC_MAX: usize = 32;
/// Mozilla's numbers for a subscription that is none or no more, whatever the status.
const UNKNOWN_SUBSCRIPTION: [i64; 4] = [102, 103, 105, 106];

/// Who we are to the services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebPushCredential {
    /// A P-256 key in PKCS#8, as PEM. Browsers subscribed with its public half: another key ends every subscription.
    pub private_key: Secret,
    /// Whom the services may write to: `mailto:…` or `https://…`.
    pub subject: String,
    /// Hosts that may be called besides the known services, such as a UnifiedPush distributor's. A host of this machine
    /// may be called over http.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Certificates to trust besides the public ones, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
}

/// What the browser's `PushSubscription` says; the device token is this as JSON.
#[derive(Debug, Deserialize)]
struct Subscription {
    endpoint: String,
    keys: SubscriptionKeys,
}

#[derive(Debug, Deserialize)]
struct SubscriptionKeys {
    p256dh: String,
    auth: String,
}

#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a str,
    exp: u64,
    sub: &'a str,
}

impl WebPushCredential {
    pub(super) fn validate(&self) -> Result<(), CredentialError> {
        if !self.subject.starts_with("mailto:") && !self.subject.starts_with("https://") {
            return Err(CredentialError::new("subject", "begins with mailto: or https://"));
        }
        let is_host = |host: &String| {
            !host.is_empty()
                && host.len() <= 253
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b))
        };
        if self.hosts.len() > 100 || !self.hosts.iter().all(is_host) {
            return Err(CredentialError::new("hosts", "has at most 100 names of hosts"));
        }
        check_ca(self.ca_pem.as_deref())?;
        self.key().map_err(|problem| CredentialError::new("private_key", problem))?;
        self.vapid("https://localhost", 0)
            .map(drop)
            .map_err(|problem| CredentialError::new("private_key", problem))
    }

    pub(super) fn summary(&self) -> String {
        let key = self.key().map(|key| encryption::public_text(&key)).unwrap_or_default();
        format!("web_push, public key {key}, {}", self.subject)
    }

    fn key(&self) -> Result<p256::SecretKey, &'static str> {
        encryption::secret_key(self.private_key.reveal())
    }

    /// `vapid t=<token>, k=<public key>` for one origin. RFC 8292 sections 2 and 3.
    fn vapid(&self, origin: &str, now_ms: u64) -> Result<String, &'static str> {
        const NOT_A_KEY: &str = "is not a P-256 private key in PEM (PKCS#8)";
        let key = EncodingKey::from_ec_pem(self.private_key.reveal().as_bytes()).map_err(|_| NOT_A_KEY)?;
        let claims = Claims { aud: origin, exp: now_ms / 1000 + VAPID_LIFE_S, sub: &self.subject };
        let token =
            jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &key).map_err(|_| NOT_A_KEY)?;
        Ok(format!("vapid t={token}, k={}", encryption::public_text(&self.key()?)))
    }

    /// The address of a subscription, if it may be called.
    fn address(&self, endpoint: &str) -> Result<Uri, CannotSend> {
        const NO_SERVICE: CannotSend = CannotSend::Token(
            "the subscription's address is no known push service's; add its host to `hosts`",
        );
        let uri: Uri =
            endpoint.parse().map_err(|_| CannotSend::Token("the subscription's address is no URL"))?;
        let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let host = uri.host().unwrap_or_default();
        if authority.contains('@') {
            return Err(NO_SERVICE);
        }
        let is_named = self.hosts.iter().any(|named| named == host || named == authority);
        let is_known = KNOWN_HOSTS.iter().any(|known| {
            host.strip_suffix(known).is_some_and(|before| before.is_empty() || before.ends_with('.'))
        });
        match uri.scheme_str() {
            Some("https") if is_named || (is_known && uri.port().is_none()) => Ok(uri),
            Some("http") if is_named && super::credential::is_loopback(host) => Ok(uri),
            _ => Err(NO_SERVICE),
        }
    }
}

fn text_of(push: &Push, parts: &Parts<'_>) -> Value {
    let mut message = json!({});
    if push.kind == PushKind::Alert {
        let mut shown = json!({
            "tag": push.collapse_key.clone().unwrap_or_else(|| push.id.to_string()),
        });
        let extras = |text: &Option<String>| text.clone().filter(|_| parts.has_extras);
        for (name, text) in [
            ("title", parts.title.as_deref().map(str::to_owned)),
            ("body", parts.body.as_deref().map(str::to_owned)),
            ("image", extras(&push.image)),
            ("sound", extras(&push.sound)),
            ("channel", extras(&push.channel)),
            ("category", extras(&push.category)),
            ("click", extras(&push.click)),
        ] {
            super::form::put(&mut shown, name, text.as_deref());
        }
        if let (Value::Object(fields), Some(badge)) = (&mut shown, push.badge) {
            fields.insert("badge".to_owned(), badge.into());
        }
        super::merge(&mut message, &json!({ "notification": shown }));
    }
    if parts.has_extras && push.overrides.is_object() {
        merge(&mut message, &push.overrides);
    }
    if let Value::Object(fields) = &mut message {
        fields.insert("data".to_owned(), Value::Object(data_fields(push, parts)));
    }
    message
}

/// The `Topic` under which a service keeps only the newest: the collapse key, hashed into its alphabet. RFC 8030 5.4.
fn topic(push: &Push) -> Option<String> {
    let key = push.collapse_key.as_ref()?;
    let mut topic =
        encryption::url_text(ring::digest::digest(&ring::digest::SHA256, key.as_bytes()).as_ref());
    topic.truncate(TOPIC_MAX);
    Some(topic)
}

fn urgency(priority: Priority) -> HeaderValue {
    match priority {
        Priority::Low => HeaderValue::from_static("low"),
        Priority::Normal => HeaderValue::from_static("normal"),
        Priority::High => HeaderValue::from_static("high"),
    }
}

impl Vendor for WebPushCredential {
    fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    fn request(&self, push: &Push, _login: Option<&str>, now_ms: u64) -> Result<Request<Bytes>, CannotSend> {
        let subscription = read_token(push)?;
        let uri = self.address(&subscription.endpoint)?;
        let theirs = Keys::read(&subscription.keys.p256dh, &subscription.keys.auth)
            .ok_or(CannotSend::Token("the subscription's keys are no P-256 point and 16 bytes"))?;
        let ttl_s = ttl_s(push, now_ms, TTL_MAX_S)?.unwrap_or(TTL_MAX_S);
        let is_mozilla = uri.host().is_some_and(|host| host.ends_with("push.services.mozilla.com"));
        let text_max = if is_mozilla { MOZILLA_TEXT_MAX } else { TEXT_MAX };
        let (text, shortened) = fit(push, text_max, |parts| text_of(push, parts))
            .ok_or(CannotSend::Payload("message is too large"))?;
        let ours = self.key().map_err(CannotSend::Config)?;
        let seed = Seed::new(&ours, &push.id, &subscription.endpoint, now_ms);
        let body = encryption::encrypt(text.to_string().as_bytes(), &theirs, &seed)
            .ok_or(CannotSend::Payload("message cannot be encrypted"))?;
        let mut request = post(&subscription.endpoint, "application/octet-stream", body.into())?;
        let headers = request.headers_mut();
        headers.insert(http::header::CONTENT_ENCODING, HeaderValue::from_static("aes128gcm"));
        headers.insert(HeaderName::from_static("ttl"), HeaderValue::from(ttl_s));
        headers.insert(HeaderName::from_static("urgency"), urgency(push.priority));
        if let Some(topic) = topic(push).and_then(|topic| HeaderValue::from_str(&topic).ok()) {
            headers.insert(HeaderName::from_static("topic"), topic);
        }
        if ttl_s == 0 && uri.host().is_some_and(|host| host.ends_with("notify.windows.com")) {
            headers
                .insert(HeaderName::from_static("x-wns-cache-policy"), HeaderValue::from_static("no-cache"));
        }
        let vapid = self.vapid(&origin(&uri), now_ms).map_err(CannotSend::Config)?;
        secret_header(&mut request, AUTHORIZATION, &vapid)?;
        note(&mut request, shortened);
        Ok(request)
    }

    /// RFC 8030 section 5 names the message in `Location`; a DELETE removes it from the service as long as it waits there. Who
    /// knows the name may do that (section 8.3), so there is no other proof.
    fn recall(&self, push: &Push, _login: Option<&str>, _now_ms: u64) -> Result<Request<Bytes>, CannotSend> {
        let subscription = read_token(push)?;
        let theirs = self.address(&subscription.endpoint)?;
        let name = push.vendor_id.as_deref().ok_or(CannotSend::Payload("the service named no message"))?;
        let name = if name.starts_with('/') { origin(&theirs) + name } else { name.to_owned() };
        let uri = self.address(&name).map_err(|_| CannotSend::Payload("the message's name is no address"))?;
        if origin(&uri) != origin(&theirs) {
            return Err(CannotSend::Payload("the message's name is of another service"));
        }
        Request::builder()
            .method(Method::DELETE)
            .uri(uri)
            .body(Bytes::new())
            .map_err(|_| CannotSend::Payload("the message's name is no address"))
    }

    fn recall_verdict(&self, answer: &Answer, now_ms: u64) -> Verdict {
        let (why, after) = (answer.status.to_string(), retry_after(&answer.headers, now_ms));
        match answer.status {
            200..=204 => Verdict::Accepted { vendor_id: None },
            404 | 410 => Verdict::Filtered { reason: why + ": the service has it no more" },
            429 => Verdict::Throttled { scope: Scope::Token, after, reason: why },
            408 | 500..=599 if answer.status != 501 => Verdict::Retry { after, reason: why },
            _ => Verdict::PayloadRejected { reason: why + ": the service takes nothing back" },
        }
    }

    fn verdict(&self, answer: &Answer, now_ms: u64) -> Verdict {
        let body = json_body(answer);
        let why = reason(&format!("{} {}", answer.status, text(&body, "message").unwrap_or_default()));
        let why = why.trim().to_owned();
        let after = retry_after(&answer.headers, now_ms);
        match answer.status {
            200..=202 => Verdict::Accepted { vendor_id: location(&answer.headers) },
            404 | 410 => Verdict::TokenDead { since_ms: None, reason: why },
            401 | 403 => Verdict::ConfigError { reason: why },
            429 => Verdict::Throttled { scope: Scope::Token, after, reason: why },
            408 | 500..=599 => Verdict::Retry { after, reason: why },
            400 if code(&body, "errno").is_some_and(|errno| UNKNOWN_SUBSCRIPTION.contains(&errno)) => {
                Verdict::TokenDead { since_ms: None, reason: why }
            }
            400..=499 => Verdict::PayloadRejected { reason: why },
            // A new address (Mozilla's 301) is not followed: the device brings it when it subscribes again.
            _ => Verdict::Retry { after, reason: why },
        }
    }
}

/// Scheme, host and port of an address. RFC 6454 section 6.1.
fn origin(uri: &Uri) -> String {
    let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    format!("{}://{authority}", uri.scheme_str().unwrap_or("https"))
}

fn read_token(push: &Push) -> Result<Subscription, CannotSend> {
    serde_json::from_str(push.token.as_str())
        .map_err(|_| CannotSend::Token("the device token is no PushSubscription as JSON"))
}

/// The service's name for the message; a longer one than any known is not kept.
fn location(headers: &HeaderMap) -> Option<String> {
    let name = headers.get(http::header::LOCATION)?.to_str().ok()?;
    (name.len() <= NAME_MAX).then(|| name.to_owned())
}

#[cfg(test)]
mod tests;
