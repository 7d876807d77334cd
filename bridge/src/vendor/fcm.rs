//! Google's Firebase Cloud Messaging, HTTP v1: a service account signs in, then one POST per device token.
//!
//! Rules from Firebase's "FCM error codes", the v1 discovery document and "Throttling and quotas". See
//! `docs/vendors/fcm.md`.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::credential::{CredentialError, Secret, check_ca, check_endpoint, check_url};
use super::shorten::{Parts, fit};
use super::{
    Account, Answer, CannotSend, Login, LoginStep, Priority, Push, PushKind, Scope, Vendor, VendorName,
    Verdict, apns, is_reserved_data_key, merge, oauth, reason, retry_after,
};

/// Largest message, in bytes. FCM counts keys and values; we count the JSON without the address, which is more.
pub const MESSAGE_MAX: usize = 4096;
/// Longest time that FCM keeps a push, in seconds: 4 weeks.
pub const TTL_MAX_S: u64 = 2_419_200;
/// How long to wait after a 429 without `Retry-After`.
pub const THROTTLE_WAIT: Duration = Duration::from_secs(60);

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// What an assertion is for. Google wants its own address here even when a proxy stands before it.
const AUDIENCE: &str = "https://oauth2.googleapis.com/token";
const LOGIN_LIFE_S: u64 = 3600;

/// An app's service account at Google.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FcmCredential {
    /// The service account file, as JSON.
    pub service_account: ServiceAccount,
    /// Replaces Google's address for sending, for proxies and tests: `https://host:port`, or `http` on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Certificates to trust besides the public ones, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
}

/// What we need of the file that the Firebase console hands out; its other fields are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAccount {
    /// The Firebase project.
    pub project_id: String,
    /// Who signs in.
    pub client_email: String,
    /// An RSA key in PKCS#8, as PEM.
    pub private_key: Secret,
    /// The name of that key.
    pub private_key_id: String,
    /// Where to sign in.
    #[serde(default = "default_token_uri")]
    pub token_uri: String,
}

fn default_token_uri() -> String {
    AUDIENCE.to_owned()
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
}

#[derive(Default, Deserialize)]
struct ErrorBody {
    #[serde(default)]
    error: ErrorDetail,
}

#[derive(Default, Deserialize)]
struct ErrorDetail {
    #[serde(default)]
    message: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    details: Vec<Value>,
}

impl FcmCredential {
    /// The address that pushes go to, without a path.
    pub fn base(&self) -> &str {
        self.endpoint
            .as_deref()
            .map_or("https://fcm.googleapis.com", |endpoint| endpoint.trim_end_matches('/'))
    }

    pub(super) fn validate(&self) -> Result<(), CredentialError> {
        let account = &self.service_account;
        let in_project = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':' | b'_');
        if account.project_id.is_empty()
            || account.project_id.len() > 128
            || !account.project_id.bytes().all(in_project)
        {
            return Err(CredentialError::new(
                "service_account.project_id",
                "has 1 to 128 letters, digits and hyphens",
            ));
        }
        if !account.client_email.contains('@') || account.client_email.len() > 320 {
            return Err(CredentialError::new("service_account.client_email", "is not an e-mail address"));
        }
        check_url("service_account.token_uri", &account.token_uri, false)?;
        if let Some(endpoint) = &self.endpoint {
            check_endpoint("endpoint", endpoint, false)?;
        }
        check_ca(self.ca_pem.as_deref())?;
        self.sign(0)
            .map(|_| ())
            .map_err(|problem| CredentialError::new("service_account.private_key", problem))
    }

    pub(super) fn summary(&self) -> String {
        format!("fcm, project {}, {}", self.service_account.project_id, self.service_account.client_email)
    }

    fn sign(&self, now_ms: u64) -> Result<String, &'static str> {
        const NOT_A_KEY: &str = "is not an RSA private key in PEM (PKCS#8)";
        let account = &self.service_account;
        let key =
            EncodingKey::from_rsa_pem(account.private_key.reveal().as_bytes()).map_err(|_| NOT_A_KEY)?;
        let header = Header { kid: Some(account.private_key_id.clone()), ..Header::new(Algorithm::RS256) };
        let iat = now_ms / 1000;
        let claims =
            Claims { iss: &account.client_email, scope: SCOPE, aud: AUDIENCE, iat, exp: iat + LOGIN_LIFE_S };
        jsonwebtoken::encode(&header, &claims, &key).map_err(|_| NOT_A_KEY)
    }
}

impl Vendor for FcmCredential {
    fn login(&self, now_ms: u64) -> Result<LoginStep, CannotSend> {
        let assertion =
            self.sign(now_ms).map_err(|_| CannotSend::Config("service_account.private_key cannot sign"))?;
        // base64url and dots need no escaping in a form.
        let form =
            format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}");
        Request::builder()
            .method(Method::POST)
            .uri(&self.service_account.token_uri)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Bytes::from(form))
            .map(|request| LoginStep::Ask(Box::new(request)))
            .map_err(|_| CannotSend::Config("service_account.token_uri is not a URL"))
    }

    fn read_login(&self, answer: &Answer, now_ms: u64) -> Result<Login, Verdict> {
        oauth::read_login(answer, now_ms)
    }

    fn account(&self) -> Option<Account> {
        let account = &self.service_account;
        Some(Account {
            vendor: VendorName::Fcm,
            name: format!("{} {} {}", account.client_email, account.private_key_id, account.token_uri),
            secret: account.private_key.clone(),
            ca_pem: self.ca_pem.clone(),
            spacing: Duration::ZERO,
        })
    }

    fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    fn request(&self, push: &Push, login: Option<&str>, now_ms: u64) -> Result<Request<Bytes>, CannotSend> {
        if let Some(expires_at_ms) = push.expires_at_ms
            && expires_at_ms <= now_ms
        {
            return Err(CannotSend::Payload("push has expired"));
        }
        if push.data.keys().any(|key| is_reserved_data_key(key)) {
            return Err(CannotSend::Payload("data has a reserved key"));
        }
        let (mut message, shortened) = fit(push, MESSAGE_MAX, |parts| message(push, parts, now_ms))
            .ok_or(CannotSend::Payload("message is too large"))?;
        if let Value::Object(fields) = &mut message {
            fields.insert("token".to_owned(), push.token.as_str().into());
        }
        let login = login.ok_or(CannotSend::Config("no access token"))?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {login}"))
            .map_err(|_| CannotSend::Config("the access token is not plain text"))?;
        bearer.set_sensitive(true);
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}/v1/projects/{}/messages:send", self.base(), self.service_account.project_id))
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, bearer)
            .body(Bytes::from(json!({"message": message}).to_string()))
            .map_err(|_| CannotSend::Config("endpoint makes no URL"))?;
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
            let name = serde_json::from_slice::<Value>(&answer.body).ok();
            let name = name.as_ref().and_then(|body| body.get("name")?.as_str());
            return Verdict::Accepted { vendor_id: name.map(reason) };
        }
        let body: ErrorBody = serde_json::from_slice(&answer.body).unwrap_or_default();
        read_error(answer.status, &body.error, retry_after(&answer.headers, now_ms))
    }
}

fn message(push: &Push, parts: &Parts<'_>, now_ms: u64) -> Value {
    let mut message = json!({"android": android(push, parts, now_ms), "apns": apns(push, parts)});
    if push.kind == PushKind::Alert {
        let texts = [("title", &parts.title), ("body", &parts.body)];
        let shown =
            texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text.as_deref()?.into())));
        put(&mut message, "notification", Value::Object(shown.collect()));
    }
    if parts.has_extras && push.overrides.is_object() {
        merge(&mut message, &push.overrides);
    }
    put(&mut message, "data", data(push, parts));
    // The address is ours: an override must not send someone's push to another device or topic.
    if let Value::Object(fields) = &mut message {
        fields.retain(|name, _| !matches!(name.as_str(), "token" | "topic" | "condition" | "fid"));
    }
    message
}

fn put(object: &mut Value, name: &str, value: Value) {
    if let Value::Object(fields) = object {
        fields.insert(name.to_owned(), value);
    }
}

fn data(push: &Push, parts: &Parts<'_>) -> Value {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut data: Map<String, Value> = Map::new();
    data.extend(parts.data.into_iter().flatten().map(|(key, value)| (key.clone(), text(value).into())));
    if push.kind == PushKind::Data {
        let texts = [("title", &parts.title), ("body", &parts.body)];
        for (name, value) in texts.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?))) {
            data.entry(name).or_insert_with(|| value.into());
        }
    }
    data.insert("mid".to_owned(), push.id.to_string().into());
    if parts.is_cut {
        data.insert("cut".to_owned(), "1".into());
    }
    Value::Object(data)
}

fn android(push: &Push, parts: &Parts<'_>, now_ms: u64) -> Value {
    let is_urgent = match push.priority {
        Priority::High => true,
        Priority::Normal => push.kind == PushKind::Alert,
        Priority::Low => false,
    };
    let mut android = json!({"priority": if is_urgent { "HIGH" } else { "NORMAL" }});
    if let Some(expires_at_ms) = push.expires_at_ms {
        let ttl_s = expires_at_ms.saturating_sub(now_ms).div_ceil(1000).min(TTL_MAX_S);
        put(&mut android, "ttl", format!("{ttl_s}s").into());
    }
    if let Some(key) = &push.collapse_key {
        put(&mut android, "collapse_key", key.as_str().into());
    }
    if push.kind == PushKind::Alert {
        put(&mut android, "notification", android_notification(push, parts));
    }
    android
}

/// What Firebase hands on to Apple for an iPhone's device token; `data` and the texts come from the message itself.
fn apns(push: &Push, parts: &Parts<'_>) -> Value {
    let is_alert = push.kind == PushKind::Alert;
    let is_urgent = is_alert && push.priority != Priority::Low; // Apple refuses urgent background pushes
    let mut headers = json!({
        "apns-push-type": if is_alert { "alert" } else { "background" },
        "apns-priority": if is_urgent { "10" } else { "5" },
        "apns-collapse-id": apns::collapse_id(push),
    });
    if let Some(expires_at_ms) = push.expires_at_ms {
        put(&mut headers, "apns-expiration", expires_at_ms.div_ceil(1000).to_string().into());
    }
    let mut aps = json!({});
    match push.kind {
        PushKind::Alert => fill_aps(&mut aps, push, parts),
        PushKind::Data => put(&mut aps, "content-available", 1.into()),
    }
    let mut apns = json!({"headers": headers, "payload": {"aps": aps}});
    if let Some(image) = push.image.as_deref().filter(|_| is_alert && parts.has_extras) {
        put(&mut apns, "fcm_options", json!({ "image": image }));
    }
    apns
}

/// The same fields as for a token of Apple's own; see `apns`.
fn fill_aps(aps: &mut Value, push: &Push, parts: &Parts<'_>) {
    if let Some(badge) = push.badge {
        put(aps, "badge", badge.into());
    }
    if !parts.has_extras {
        return;
    }
    for (name, text) in [("sound", &push.sound), ("thread-id", &push.channel), ("category", &push.category)] {
        if let Some(text) = text {
            put(aps, name, text.as_str().into());
        }
    }
    if push.image.is_some() {
        put(aps, "mutable-content", 1.into()); // lets the app's extension fetch the picture
    }
}

fn android_notification(push: &Push, parts: &Parts<'_>) -> Value {
    // A repeated push whose first try may have arrived replaces it in the tray instead of standing beside it.
    let tag = push.collapse_key.clone().unwrap_or_else(|| push.id.to_string());
    let mut shown = json!({"tag": tag});
    if parts.has_extras {
        let texts = [
            ("channel_id", &push.channel),
            ("sound", &push.sound),
            ("image", &push.image),
            ("click_action", &push.click),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                put(&mut shown, name, text.as_str().into());
            }
        }
    }
    if let Some(badge) = push.badge {
        put(&mut shown, "notification_count", badge.into());
    }
    shown
}

/// Google's error codes, row by row; see the table in `docs/vendors/fcm.md`.
fn read_error(status: u16, error: &ErrorDetail, after: Option<Duration>) -> Verdict {
    let code = fcm_code(&error.details).unwrap_or(error.status.as_str());
    let reason = reason(format!("{code} {}", error.message).trim());
    match (status, code) {
        (400, _) if blames_token(error) => Verdict::TokenDead { since_ms: None, reason },
        (400, _) => Verdict::PayloadRejected { reason },
        (401, "THIRD_PARTY_AUTH_ERROR") => Verdict::ConfigError { reason },
        (401, _) => Verdict::LoginExpired,
        (403, "SENDER_ID_MISMATCH") => Verdict::TokenMismatch { reason },
        (403, _) => Verdict::ConfigError { reason },
        (404, "UNREGISTERED") => Verdict::TokenDead { since_ms: None, reason },
        // Without that code the path was not found: a wrong project.
        (404 | 405, _) => Verdict::ConfigError { reason },
        (429, _) => Verdict::Throttled {
            scope: throttled(&error.message),
            after: after.or(Some(THROTTLE_WAIT)),
            reason,
        },
        (408 | 500..=599, _) => Verdict::Retry { after, reason },
        (400..=499, _) => Verdict::PayloadRejected { reason },
        _ => Verdict::Retry { after, reason },
    }
}

fn fcm_code(details: &[Value]) -> Option<&str> {
    let is_fcm = |detail: &&Value| {
        detail.get("@type").and_then(Value::as_str).is_some_and(|t| t.ends_with("FcmError"))
    };
    details.iter().find(is_fcm)?.get("errorCode")?.as_str()
}

/// `INVALID_ARGUMENT` says both "bad token" and "bad payload"; only its words, or the named field, tell which.
fn blames_token(error: &ErrorDetail) -> bool {
    let violations =
        error.details.iter().filter_map(|detail| detail.get("fieldViolations")?.as_array()).flatten();
    let mut fields = violations.filter_map(|violation| violation.get("field")?.as_str());
    error.message.contains("not a valid FCM registration token")
        || fields.any(|field| field == "message.token")
}

/// Google throttles projects, devices and topics under one code; only the words tell which.
fn throttled(message: &str) -> Scope {
    if message.to_ascii_lowercase().contains("device") { Scope::Token } else { Scope::App }
}

#[cfg(test)]
mod tests;
