//! Huawei Push Kit for Android phones with HMS: client credentials sign in, then one POST.
//!
//! Rules from Huawei's "Push Kit REST API, downlink message sending v1" and its table of response codes. See
//! `docs/vendors/huawei.md`. HarmonyOS 5 and newer has tokens, addresses and logins of its own: see
//! [`super::harmony`], which shares the reading of answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use ring::hmac;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::credential::{CredentialError, Secret, check_url, check_way, check_word};
use super::form::{
    bearer, by_status, category, code, json_body, need_text, note, notify_id, post_form, post_json, put,
    raw_sound, text, throttled, ttl_s, words,
};
use super::receipt::{self, Receipt, ReceiptCall, ReceiptRefused, Told};
use super::shorten::{Parts, data_fields, fit};
use super::{
    Account, Answer, CannotSend, Login, LoginStep, Priority, Push, PushKind, Scope, Vendor, VendorName,
    Verdict, batch, merge, oauth, reason,
};

/// Largest body without the device tokens, in bytes.
pub const MESSAGE_MAX: usize = 4096;
/// Longest time that a push is kept, in seconds: 15 days.
pub const TTL_MAX_S: u64 = 1_296_000;
/// Device tokens in one request.
pub const BATCH_MAX: usize = 1000;
/// The categories that an app may have the right to.
pub(super) const CATEGORIES: [&str; 14] = [
    "IM",
    "VOIP",
    "MISS_CALL",
    "SUBSCRIPTION",
    "TRAVEL",
    "HEALTH",
    "WORK",
    "ACCOUNT",
    "EXPRESS",
    "FINANCE",
    "DEVICE_REMINDER",
    "MAIL",
    "PLAY_VOICE",
    "MARKETING",
];

const BASE: &str = "https://push-api.cloud.huawei.com";
/// The header with the signature of a receipt.
const CALLBACK_ID: &str = "x-huawei-callback-id";
const LOGIN: &str = "https://oauth-login.cloud.huawei.com/oauth2/v3/token";

/// An app of AppGallery Connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HuaweiCredential {
    /// The app id, which is also the OAuth client id.
    pub app_id: String,
    /// The app secret.
    pub app_secret: Secret,
    /// The category of messages that name none, such as `WORK`; needs the right to it. Without one Huawei classifies
    /// by itself, and marketing is limited to two a day and device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// The activity whose badge is set; without one no badge is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub badge_class: Option<String>,
    /// The name of the receipt configuration in AppGallery Connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt_id: Option<String>,
    /// The user and key of the receipt configuration, with which Huawei signs its receipts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<ReceiptKey>,
    /// Sends test messages, of which 500 a day are free of other limits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_test: bool,
    /// Replaces Huawei's address for sending, for proxies and tests: `https://host:port`, or `http` on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Replaces Huawei's address for signing in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_uri: Option<String>,
    /// Certificates to trust besides the public ones, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
}

/// With what Huawei signs receipts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptKey {
    /// The call-back user.
    pub user: String,
    /// The call-back key.
    pub key: Secret,
}

impl HuaweiCredential {
    fn base(&self) -> &str {
        self.endpoint.as_deref().map_or(BASE, |endpoint| endpoint.trim_end_matches('/'))
    }

    fn token_uri(&self) -> &str {
        self.token_uri.as_deref().unwrap_or(LOGIN)
    }

    pub(super) fn validate(&self) -> Result<(), CredentialError> {
        if self.app_id.is_empty() || !self.app_id.bytes().all(|b| b.is_ascii_digit()) {
            return Err(CredentialError::new("app_id", "is the number of the app in AppGallery Connect"));
        }
        check_word("app_secret", self.app_secret.reveal())?;
        if let Some(receipt) = &self.receipt {
            check_word("receipt.user", &receipt.user)?;
            check_word("receipt.key", receipt.key.reveal())?;
        }
        check_url("token_uri", self.token_uri(), false)?;
        check_way(self.endpoint.as_deref(), self.ca_pem.as_deref())
    }

    pub(super) fn summary(&self) -> String {
        format!("huawei, app {} at {}", self.app_id, self.base())
    }

    fn message(&self, push: &Push, parts: &Parts<'_>, ttl_s: Option<u64>) -> Value {
        let mut android = json!({
            "urgency": "NORMAL", // HIGH needs a right of its own, and is refused without it
            "bi_tag": push.id.to_string(),
            "target_user_type": u8::from(self.is_test),
        });
        // Kept at every length: without its class an alert would count as marketing.
        put(&mut android, "category", category(push, &CATEGORIES, self.category.as_deref()));
        put(&mut android, "receipt_id", self.receipt_id.as_deref());
        if let (Value::Object(fields), Some(ttl_s)) = (&mut android, ttl_s) {
            fields.insert("ttl".to_owned(), format!("{ttl_s}s").into());
        }
        if let (Value::Object(fields), PushKind::Alert) = (&mut android, push.kind) {
            fields.insert("notification".to_owned(), self.notification(push, parts));
        }
        let mut message = json!({ "android": android });
        if parts.has_extras && push.overrides.is_object() {
            merge(&mut message, &push.overrides);
        }
        if let Value::Object(fields) = &mut message {
            fields.insert("data".to_owned(), Value::Object(data_fields(push, parts)).to_string().into());
            fields.retain(|name, _| !matches!(name.as_str(), "token" | "topic" | "condition"));
        }
        message
    }

    fn notification(&self, push: &Push, parts: &Parts<'_>) -> Value {
        let importance = if push.priority == Priority::Low { "LOW" } else { "NORMAL" };
        let mut shown = json!({
            "importance": importance,
            "notify_id": notify_id(push),
            "tag": push.collapse_key.clone().unwrap_or_else(|| push.id.to_string()),
            "foreground_show": true,
            "click_action": {"type": 3}, // opens the app
        });
        for (name, text) in parts.both() {
            put(&mut shown, name, text);
        }
        put(&mut shown, "channel_id", push.channel.as_deref());
        if !parts.has_extras {
            return shown;
        }
        put(&mut shown, "image", push.image.as_deref());
        let Value::Object(fields) = &mut shown else { return shown };
        if let Some(name) = raw_sound(push) {
            fields.insert("sound".to_owned(), format!("/raw/{name}").into());
            fields.insert("default_sound".to_owned(), false.into());
        }
        if let Some(click) = &push.click {
            fields.insert("click_action".to_owned(), click_action(click));
        }
        if let (Some(badge), Some(class)) = (push.badge, &self.badge_class) {
            fields.insert("badge".to_owned(), json!({"set_num": badge.min(99), "class": class}));
        } else if let (Some(more), Some(class)) = (push.badge_add, &self.badge_class) {
            fields.insert("badge".to_owned(), json!({"add_num": more.min(99), "class": class}));
        }
        shown
    }
}

/// A web address is opened by the browser, everything else is an intent of the app.
fn click_action(click: &str) -> Value {
    if click.starts_with("https://") {
        json!({"type": 2, "url": click})
    } else {
        json!({"type": 1, "intent": click})
    }
}

impl Vendor for HuaweiCredential {
    fn account(&self) -> Option<Account> {
        Some(Account {
            vendor: VendorName::Huawei,
            name: format!("{} {}", self.app_id, self.token_uri()),
            secret: self.app_secret.clone(),
            ca_pem: self.ca_pem.clone(),
            spacing: std::time::Duration::ZERO,
        })
    }

    fn login(&self, _now_ms: u64) -> Result<LoginStep, CannotSend> {
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", self.app_id.as_str()),
            ("client_secret", self.app_secret.reveal()),
        ];
        post_form(self.token_uri(), &fields).map(|request| LoginStep::Ask(Box::new(request)))
    }

    fn read_login(&self, answer: &Answer, now_ms: u64) -> Result<Login, Verdict> {
        oauth::read_login(answer, now_ms)
    }

    fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    fn request(&self, push: &Push, login: Option<&str>, now_ms: u64) -> Result<Request<Bytes>, CannotSend> {
        need_text(push)?;
        let ttl_s = ttl_s(push, now_ms, TTL_MAX_S)?;
        let (mut message, shortened) = fit(push, MESSAGE_MAX, |parts| self.message(push, parts, ttl_s))
            .ok_or(CannotSend::Payload("message is too large"))?;
        if let Value::Object(fields) = &mut message {
            fields.insert("token".to_owned(), tokens(push));
        }
        let uri = format!("{}/v1/{}/messages:send", self.base(), self.app_id);
        let mut request = post_json(&uri, &json!({"validate_only": false, "message": message}))?;
        bearer(&mut request, login)?;
        note(&mut request, shortened);
        Ok(request)
    }

    fn batch_max(&self) -> usize {
        BATCH_MAX
    }

    fn verdict(&self, answer: &Answer, now_ms: u64) -> Verdict {
        read_answer(answer, now_ms)
    }

    fn verdicts(&self, push: &Push, answer: &Answer, now_ms: u64) -> Vec<Verdict> {
        read_answers(push, answer, now_ms)
    }

    fn receipts(&self, call: &ReceiptCall<'_>) -> Result<Vec<Receipt>, ReceiptRefused> {
        read_receipts(self.receipt.as_ref(), call)
    }
}

/// Receipts of both generations: signed with HMAC-SHA256 over time, nonce and user.
pub(super) fn read_receipts(
    key: Option<&ReceiptKey>,
    call: &ReceiptCall<'_>,
) -> Result<Vec<Receipt>, ReceiptRefused> {
    let key = key.ok_or(ReceiptRefused::NotExpected)?;
    let header = call.headers.get(CALLBACK_ID).and_then(|value| value.to_str().ok());
    if !header.is_some_and(|header| is_signed(key, header)) {
        return Err(ReceiptRefused::Forged);
    }
    let body: Value = serde_json::from_slice(call.body).map_err(|_| ReceiptRefused::Malformed)?;
    let statuses = body.get("statuses").and_then(Value::as_array).ok_or(ReceiptRefused::Malformed)?;
    receipt::bounded(statuses.iter().flat_map(read_status).collect())
}

/// `timestamp=<ms>; nonce=<uuid>; value=<base64>`, where value is the signature of the other two and the user.
fn is_signed(key: &ReceiptKey, header: &str) -> bool {
    let field = |name: &str| {
        let parts = header.split(';').filter_map(|part| part.trim().split_once('='));
        parts.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value.trim())
    };
    let (Some(timestamp), Some(nonce), Some(value)) = (field("timestamp"), field("nonce"), field("value"))
    else {
        return false;
    };
    let Ok(given) = STANDARD.decode(value) else { return false };
    let signed = format!("{timestamp}{nonce}{}", key.user);
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key.key.reveal().as_bytes()), signed.as_bytes(), &given)
        .is_ok()
}

fn read_status(status: &Value) -> Vec<Receipt> {
    // v3 puts number and time into an object of their own.
    let inner = status.get("deliveryStatus").unwrap_or(status);
    let number = code(inner, "status").or_else(|| code(inner, "result"));
    let told = match number {
        Some(0) => Told::Delivered,
        Some(2) => Told::TokenDead("the app is not installed".to_owned()),
        Some(5) => Told::TokenDead("the device token does not exist".to_owned()),
        Some(6) => Told::NotShown("notifications are switched off".to_owned()),
        Some(10) => Told::NotShown("the device was not active for 30 days".to_owned()),
        Some(15) => Told::NotShown("replaced, or more than 120 wait for the device".to_owned()),
        Some(31) => Told::NotShown("device or app do not support it".to_owned()),
        Some(102) => Told::NotShown("too many for the device today".to_owned()),
        Some(201) => {
            Told::NotShown("managed by Huawei: another user, uninstalled or switched off".to_owned())
        }
        Some(256) => Told::NotShown("the day's marketing messages are used up".to_owned()),
        Some(number) => receipt::noted(&number.into()),
        None => receipt::noted(&Value::Null),
    };
    let tokens = receipt::tokens(status.get("token"));
    receipt::each(tokens, status.get("biTag"), &told, receipt::at_ms(inner, "timestamp"))
}

/// Huawei's answers, row by row; the same codes for both generations. See the table in `docs/vendors/huawei.md`.
pub(super) fn read_answer(answer: &Answer, now_ms: u64) -> Verdict {
    let body = json_body(answer);
    let Some(code) = code(&body, "code").filter(|code| *code >= 80_000_000) else {
        return by_status(answer, now_ms);
    };
    let message = text(&body, "msg");
    let reason = words(code, message);
    match code {
        80_000_000 => Verdict::Accepted { vendor_id: text(&body, "requestId") },
        80_100_000 => partly(body.get("msg").and_then(Value::as_str).unwrap_or_default(), reason),
        80_300_007 => Verdict::TokenDead { since_ms: None, reason },
        80_300_002 => Verdict::TokenMismatch { reason },
        80_200_001 | 80_200_003 | 80_200_005 => Verdict::LoginExpired,
        80_100_017 => throttled(Scope::App, reason),
        80_300_029 | 80_300_030 => throttled(Scope::Day, reason),
        80_600_003 | 81_000_001 => Verdict::Retry { after: None, reason },
        80_300_011 | 80_300_013 | 80_300_036 | 80_300_037 => Verdict::ConfigError { reason },
        _ => Verdict::PayloadRejected { reason },
    }
}

/// The device tokens of a request, as the list that Huawei and HONOR ask for.
pub(super) fn tokens(push: &Push) -> Value {
    push.tokens().map(super::DeviceToken::as_str).collect()
}

/// Huawei's answer for each device token of a request; the same for both generations.
pub(super) fn read_answers(push: &Push, answer: &Answer, now_ms: u64) -> Vec<Verdict> {
    let whole = read_answer(answer, now_ms);
    let body = json_body(answer);
    match code(&body, "code") {
        Some(80_100_000) if push.token_count() > 1 => {
            let listed = Illegal::read(body.get("msg").and_then(Value::as_str).unwrap_or_default());
            if listed.is_empty() {
                return batch::all(
                    push,
                    &Verdict::TokenDead { since_ms: None, reason: whole.reason().to_owned() },
                );
            }
            let accepted = Verdict::Accepted { vendor_id: text(&body, "requestId") };
            batch::each(push, |token| listed.of(token).map_or_else(|| accepted.clone(), of_cause))
        }
        Some(80_300_007) => vec![whole; push.token_count()], // "all tokens invalid" is no guess
        _ => batch::all(push, &whole),
    }
}

/// The list of 80100000, "some tokens are illegal": the answer's text is JSON that names them, in v1 as
/// `illegal_tokens`, in v3 under the cause.
struct Illegal(Map<String, Value>);

impl Illegal {
    fn read(message: &str) -> Self {
        let Ok(Value::Object(mut listed)) = serde_json::from_str(message) else { return Self(Map::new()) };
        let mut causes = match listed.remove("illegalTokens") {
            Some(Value::Object(causes)) => causes,
            _ => listed,
        };
        causes.retain(|_, list| list.as_array().is_some_and(|list| !list.is_empty()));
        Self(causes)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Why this device token is listed.
    fn of(&self, token: &str) -> Option<&str> {
        let has = |list: &Value| list.as_array().is_some_and(|list| list.iter().any(|known| known == token));
        self.0.iter().find(|(_, list)| has(list)).map(|(cause, _)| cause.as_str())
    }
}

fn of_cause(cause: &str) -> Verdict {
    let reason = reason(&format!("80100000 {cause}"));
    match cause {
        "illegal_tokens" | "tokenFormatError" | "noRight" => Verdict::TokenDead { since_ms: None, reason },
        "disableSendHuaweiMsgBecauseOfPenalty" | "noPushTypeRight" => Verdict::ConfigError { reason },
        _ => Verdict::Filtered { reason },
    }
}

/// 80100000 for the one token that we sent: whatever is listed is ours.
fn partly(message: &str, why: String) -> Verdict {
    let Illegal(causes) = Illegal::read(message);
    let is_dead =
        |cause: &&String| matches!(cause.as_str(), "illegal_tokens" | "tokenFormatError" | "noRight");
    if causes.keys().any(|cause| is_dead(&cause)) {
        return Verdict::TokenDead { since_ms: None, reason: why };
    }
    causes.keys().next().map_or(Verdict::PayloadRejected { reason: why }, |cause| of_cause(cause))
}

#[cfg(test)]
mod tests;
