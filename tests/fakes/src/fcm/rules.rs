//! What a strict FCM and its login service check of one request.

use http::header::CONTENT_TYPE;
use http::request::Parts;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};

/// What an assertion must be for, wherever the login service listens.
const AUDIENCE: &str = "https://oauth2.googleapis.com/token";
const MESSAGE_MAX: usize = 4096;
const TTL_MAX_S: u64 = 2_419_200;
const SCOPES: [&str; 2] =
    ["https://www.googleapis.com/auth/cloud-platform", "https://www.googleapis.com/auth/firebase.messaging"];
const MESSAGE_FIELDS: [&str; 8] =
    ["name", "data", "notification", "android", "webpush", "apns", "fcm_options", "token"];
const ANDROID_FIELDS: [&str; 8] = [
    "collapse_key",
    "priority",
    "ttl",
    "restricted_package_name",
    "data",
    "notification",
    "fcm_options",
    "direct_boot_ok",
];
const NOTIFICATION_FIELDS: [&str; 3] = ["title", "body", "image"];
const ANDROID_NOTIFICATION_FIELDS: [&str; 15] = [
    "title",
    "body",
    "icon",
    "color",
    "sound",
    "tag",
    "click_action",
    "channel_id",
    "ticker",
    "sticky",
    "notification_priority",
    "visibility",
    "notification_count",
    "image",
    "vibrate_timings",
];

/// Who may sign in, and for which project.
pub(super) struct Account {
    pub email: String,
    pub key_id: String,
    pub project_id: String,
    pub public_key: DecodingKey,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iss: String,
    scope: String,
    aud: String,
    iat: u64,
    exp: u64,
}

/// A JWT bearer grant. [RFC7523-2.1]
pub(super) fn check_login(
    account: &Account,
    parts: &Parts,
    body: &[u8],
    now_s: u64,
) -> Result<(), &'static str> {
    let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if content_type != Some("application/x-www-form-urlencoded") {
        return Err("not a form");
    }
    let form = std::str::from_utf8(body).map_err(|_| "not a form")?;
    if field(form, "grant_type").as_deref() != Some("urn:ietf:params:oauth:grant-type:jwt-bearer") {
        return Err("wrong grant type");
    }
    let assertion = field(form, "assertion").ok_or("no assertion")?;
    let header = jsonwebtoken::decode_header(&assertion).map_err(|_| "assertion is not a JWT")?;
    if header.alg != Algorithm::RS256 || header.kid.as_deref() != Some(&account.key_id) {
        return Err("wrong algorithm or key id");
    }
    let mut rules = Validation::new(Algorithm::RS256);
    rules.set_audience(&[AUDIENCE]);
    let decoded = jsonwebtoken::decode::<Claims>(&assertion, &account.public_key, &rules);
    let claims = decoded.map_err(|_| "wrong signature, audience or claims")?.claims;
    let is_dated = claims.iat <= now_s + 60 && claims.exp > claims.iat && claims.exp - claims.iat <= 3600;
    let is_ours = claims.iss == account.email && SCOPES.contains(&claims.scope.as_str());
    if is_dated && is_ours && claims.aud == AUDIENCE { Ok(()) } else { Err("wrong claims") }
}

/// What Apple would refuse of the block that Firebase hands on.
fn check_apns(apns: &Value) -> Result<(), (&'static str, &'static str)> {
    let fields = apns.as_object().ok_or(("message.apns", "not an object"))?;
    known(fields, &["headers", "payload", "fcm_options", "live_activity_token"], "message.apns")?;
    let header = |name: &str| apns.pointer(&format!("/headers/{name}")).and_then(Value::as_str);
    let is_background = header("apns-push-type") == Some("background");
    if is_background && header("apns-priority") != Some("5") {
        return Err(("message.apns.headers", "a background push has priority 5"));
    }
    if header("apns-collapse-id").is_some_and(|id| id.len() > 64) {
        return Err(("message.apns.headers", "apns-collapse-id is longer than 64 bytes"));
    }
    if header("apns-expiration").is_some_and(|text| text.parse::<u64>().is_err()) {
        return Err(("message.apns.headers", "apns-expiration is no number"));
    }
    match apns.pointer("/payload/aps").and_then(Value::as_object) {
        Some(aps) if is_background && aps.contains_key("sound") => {
            Err(("message.apns.payload", "a background push has no sound"))
        }
        Some(_) => Ok(()),
        None => Err(("message.apns.payload", "has no aps")),
    }
}

/// The shape of a message for one device; the device token and the message.
pub(super) fn check_message(
    parts: &Parts,
    body: &[u8],
) -> Result<(String, Value), (&'static str, &'static str)> {
    let is_json = |text: &str| text.split(';').next().is_some_and(|kind| kind.trim() == "application/json");
    if !parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(is_json) {
        return Err(("", "content type is not JSON"));
    }
    let root: Value = serde_json::from_slice(body).map_err(|_| ("", "not JSON"))?;
    let root = root.as_object().ok_or(("", "not an object"))?;
    known(root, &["message", "validate_only"], "")?;
    let message = root.get("message").and_then(Value::as_object).ok_or(("message", "missing"))?;
    known(message, &MESSAGE_FIELDS, "message")?; // topic, condition and fid are not for one device
    let token = message.get("token").and_then(Value::as_str).ok_or(("message.token", "missing"))?;
    if let Some(data) = message.get("data") {
        check_data(data)?;
    }
    if let Some(notification) = message.get("notification") {
        let fields = notification.as_object().ok_or(("message.notification", "not an object"))?;
        known(fields, &NOTIFICATION_FIELDS, "message.notification")?;
    }
    if let Some(android) = message.get("android") {
        check_android(android.as_object().ok_or(("message.android", "not an object"))?)?;
    }
    if let Some(apns) = message.get("apns") {
        check_apns(apns)?;
    }
    check_size(message)?;
    Ok((token.to_owned(), Value::Object(message.clone())))
}

fn check_data(data: &Value) -> Result<(), (&'static str, &'static str)> {
    for (key, value) in data.as_object().ok_or(("message.data", "not an object"))? {
        if !value.is_string() {
            return Err(("message.data", "values must be strings"));
        }
        if matches!(key.as_str(), "from" | "gcm" | "message_type") || key.starts_with("google") {
            return Err(("message.data", "reserved key"));
        }
    }
    Ok(())
}

fn check_android(android: &Map<String, Value>) -> Result<(), (&'static str, &'static str)> {
    known(android, &ANDROID_FIELDS, "message.android")?;
    if let Some(priority) = android.get("priority")
        && !matches!(priority.as_str(), Some("HIGH" | "NORMAL" | "high" | "normal"))
    {
        return Err(("message.android.priority", "unknown"));
    }
    if let Some(ttl) = android.get("ttl") {
        let seconds = ttl.as_str().and_then(|ttl| ttl.strip_suffix('s')?.parse::<u64>().ok());
        if seconds.is_none_or(|seconds| seconds > TTL_MAX_S) {
            return Err(("message.android.ttl", "not 0s to 2419200s"));
        }
    }
    if let Some(notification) = android.get("notification") {
        let fields = notification.as_object().ok_or(("message.android.notification", "not an object"))?;
        known(fields, &ANDROID_NOTIFICATION_FIELDS, "message.android.notification")?;
    }
    Ok(())
}

/// Google counts keys and values of the data and the notification.
fn check_size(message: &Map<String, Value>) -> Result<(), (&'static str, &'static str)> {
    let texts = |name: &str| message.get(name).and_then(Value::as_object).into_iter().flatten();
    let size: usize = texts("data")
        .chain(texts("notification"))
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        .sum();
    if size <= MESSAGE_MAX { Ok(()) } else { Err(("message", "message is too big")) }
}

fn known(
    fields: &Map<String, Value>,
    allowed: &[&str],
    at: &'static str,
) -> Result<(), (&'static str, &'static str)> {
    if fields.keys().all(|key| allowed.contains(&key.as_str())) { Ok(()) } else { Err((at, "unknown field")) }
}

/// One field of a form, with percent escapes undone.
fn field(form: &str, name: &str) -> Option<String> {
    let value = form.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |b: Option<u8>| char::from(b?).to_digit(16);
                u8::try_from(digit(rest.next())? << 4 | digit(rest.next())?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}
