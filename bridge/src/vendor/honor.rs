//! HONOR Push: client credentials sign in, then one POST with the time in a header.
//!
//! Rules from HONOR's "Push Kit REST API, sendMessage". See `docs/vendors/honor.md`.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::credential::{CredentialError, Secret, check_receipt_secret, check_url, check_way, check_word};
use super::form::{
    bearer, by_status, code, json_body, need_text, note, notify_id, post_form, post_json, put, text,
    throttled, ttl_s, words,
};
use super::huawei::{BATCH_MAX, tokens};
use super::receipt::{self, Receipt, ReceiptCall, ReceiptRefused, Told};
use super::shorten::{Parts, data_fields, fit};
use super::{
    Account, Answer, CannotSend, Login, LoginStep, Push, PushKind, Scope, Vendor, VendorName, Verdict, batch,
    merge, oauth, reason,
};
use crate::lane::Class;

/// Largest body without the device tokens, in bytes.
pub const MESSAGE_MAX: usize = 4096;
/// Longest time that a push is kept, in seconds: 15 days.
pub const TTL_MAX_S: u64 = 1_296_000;

const BASE: &str = "https://push-api.cloud.honor.com";
/// The status of a receipt that says so; from an integrator, not from HONOR's page.
const DELIVERED: i64 = 40_000_002;
const LOGIN: &str = "https://iam.developer.honor.com/auth/token";

/// An app of HONOR's developer console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HonorCredential {
    /// The app id, which stands in the address.
    pub app_id: String,
    /// The OAuth client id.
    pub client_id: String,
    /// The OAuth client secret.
    pub client_secret: Secret,
    /// The activity whose badge is set; without one no badge is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub badge_class: Option<String>,
    /// Sends test messages, 1,000 a day.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_test: bool,
    /// What the address given to the vendor for its receipts ends with, as `?secret=…`: at least 16 characters. Without it
    /// none are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt_secret: Option<Secret>,
    /// Replaces HONOR's address for sending, for proxies and tests: `https://host:port`, or `http` on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Replaces HONOR's address for signing in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_uri: Option<String>,
    /// Certificates to trust besides the public ones, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
}

impl HonorCredential {
    fn base(&self) -> &str {
        self.endpoint.as_deref().map_or(BASE, |endpoint| endpoint.trim_end_matches('/'))
    }

    fn token_uri(&self) -> &str {
        self.token_uri.as_deref().unwrap_or(LOGIN)
    }

    pub(super) fn validate(&self) -> Result<(), CredentialError> {
        if self.app_id.is_empty() || !self.app_id.bytes().all(|b| b.is_ascii_digit()) {
            return Err(CredentialError::new("app_id", "is the number of the app in HONOR's console"));
        }
        check_word("client_id", &self.client_id)?;
        check_word("client_secret", self.client_secret.reveal())?;
        check_url("token_uri", self.token_uri(), false)?;
        check_receipt_secret(self.receipt_secret.as_ref())?;
        check_way(self.endpoint.as_deref(), self.ca_pem.as_deref())
    }

    pub(super) fn summary(&self) -> String {
        format!("honor, app {} at {}", self.app_id, self.base())
    }

    fn body(&self, push: &Push, parts: &Parts<'_>, ttl_s: Option<u64>) -> Value {
        let mut android = json!({ "biTag": push.id.to_string(), "targetUserType": u8::from(self.is_test) });
        if let (Value::Object(fields), Some(ttl_s)) = (&mut android, ttl_s) {
            fields.insert("ttl".to_owned(), format!("{ttl_s}s").into());
        }
        if let (Value::Object(fields), PushKind::Alert) = (&mut android, push.kind) {
            fields.insert("notification".to_owned(), self.notification(push, parts));
        }
        let mut body = json!({ "android": android });
        if parts.has_extras && push.overrides.is_object() {
            merge(&mut body, &push.overrides);
        }
        if let Value::Object(fields) = &mut body {
            fields.insert("data".to_owned(), Value::Object(data_fields(push, parts)).to_string().into());
            fields.remove("token");
        }
        body
    }

    /// `importance` is HONOR's only class: LOW is marketing, two a day and device; NORMAL is service.
    fn notification(&self, push: &Push, parts: &Parts<'_>) -> Value {
        let importance = match Class::of(VendorName::Honor, push.category.as_deref(), push.priority) {
            Class::Marketing => "LOW",
            Class::Service => "NORMAL",
        };
        let mut shown = json!({
            "importance": importance,
            "notifyId": notify_id(push),
            "tag": push.collapse_key.clone().unwrap_or_else(|| push.id.to_string()),
            "clickAction": {"type": 3},
        });
        for (name, text) in parts.both() {
            put(&mut shown, name, text);
        }
        if !parts.has_extras {
            return shown;
        }
        put(&mut shown, "image", push.image.as_deref());
        put(&mut shown, "group", push.channel.as_deref());
        let Value::Object(fields) = &mut shown else { return shown };
        if let Some(click) = &push.click {
            let kind = if click.starts_with("https://") { ("url", 2) } else { ("intent", 1) };
            fields.insert("clickAction".to_owned(), json!({"type": kind.1, kind.0: click}));
        }
        if let (Some(badge), Some(class)) = (push.badge, &self.badge_class) {
            fields.insert("badge".to_owned(), json!({"setNum": badge.min(99), "badgeClass": class}));
        } else if let (Some(more), Some(class)) = (push.badge_add, &self.badge_class) {
            fields.insert("badge".to_owned(), json!({"addNum": more.min(99), "badgeClass": class}));
        }
        shown
    }
}

impl Vendor for HonorCredential {
    fn account(&self) -> Option<Account> {
        Some(Account {
            vendor: VendorName::Honor,
            name: format!("{} {}", self.client_id, self.token_uri()),
            secret: self.client_secret.clone(),
            ca_pem: self.ca_pem.clone(),
            spacing: Duration::ZERO,
        })
    }

    fn login(&self, _now_ms: u64) -> Result<LoginStep, CannotSend> {
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", self.client_id.as_str()),
            ("client_secret", self.client_secret.reveal()),
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
        let (mut body, shortened) = fit(push, MESSAGE_MAX, |parts| self.body(push, parts, ttl_s))
            .ok_or(CannotSend::Payload("message is too large"))?;
        if let Value::Object(fields) = &mut body {
            fields.insert("token".to_owned(), tokens(push));
        }
        let mut request = post_json(&format!("{}/api/v1/{}/sendMessage", self.base(), self.app_id), &body)?;
        request.headers_mut().insert(HeaderName::from_static("timestamp"), HeaderValue::from(now_ms));
        bearer(&mut request, login)?;
        note(&mut request, shortened);
        Ok(request)
    }

    fn verdict(&self, answer: &Answer, now_ms: u64) -> Verdict {
        let body = json_body(answer);
        match code(&body, "code") {
            Some(code) => read_code(code, &body),
            None if answer.status == 403 => Verdict::LoginExpired,
            None => by_status(answer, now_ms),
        }
    }

    fn batch_max(&self) -> usize {
        BATCH_MAX
    }

    fn verdicts(&self, push: &Push, answer: &Answer, now_ms: u64) -> Vec<Verdict> {
        let whole = self.verdict(answer, now_ms);
        let body = json_body(answer);
        match code(&body, "code") {
            Some(200 | 80_100_000) if push.token_count() > 1 => {
                let why = words(200, text(&body, "message"));
                let data = body.get("data").unwrap_or(&Value::Null);
                batch::each(push, |token| one_of_many(data, token, &why))
            }
            Some(80_300_007) => vec![whole; push.token_count()], // "all tokens invalid" is no guess
            _ => batch::all(push, &whole),
        }
    }

    fn receipts(&self, call: &ReceiptCall<'_>) -> Result<Vec<Receipt>, ReceiptRefused> {
        receipt::check_secret(self.receipt_secret.as_ref(), call)?;
        let body: Value = serde_json::from_slice(call.body).map_err(|_| ReceiptRefused::Malformed)?;
        let statuses = body.get("statuses").and_then(Value::as_array).ok_or(ReceiptRefused::Malformed)?;
        receipt::bounded(statuses.iter().flat_map(read_status).collect())
    }
}

/// HONOR's codes, row by row; see the table in `docs/vendors/honor.md`.
fn read_code(code: i64, body: &Value) -> Verdict {
    let why = words(code, text(body, "message"));
    match code {
        200 | 80_100_000 => partly(body.get("data").unwrap_or(&Value::Null), why),
        80_300_007 => Verdict::TokenDead { since_ms: None, reason: why },
        401 | 403 => Verdict::LoginExpired,
        503 => throttled(Scope::App, why),
        500 | 502 => Verdict::Retry { after: None, reason: why },
        80_200_047 => throttled(Scope::Day, why),
        404 | 10_205 | 80_200_020 | 80_200_022 | 10_001 | 10_207 => Verdict::ConfigError { reason: why },
        _ => Verdict::PayloadRejected { reason: why },
    }
}

/// What the answer to a batch says of one of its device tokens.
fn one_of_many(data: &Value, token: &str, why: &str) -> Verdict {
    let list = |name: &str| data.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let (expired, failed) = (list("expireTokens"), list("failTokens"));
    if expired.iter().any(|known| known == token) {
        return Verdict::TokenDead { since_ms: None, reason: reason(&format!("{why} expireTokens")) };
    }
    // `sendResult` is about the whole batch: where lists say who failed, the others did not.
    let all_failed =
        data.get("sendResult") == Some(&Value::Bool(false)) && expired.is_empty() && failed.is_empty();
    if all_failed || failed.iter().any(|known| known == token) {
        return Verdict::Retry { after: None, reason: reason(&format!("{why} failTokens")) };
    }
    Verdict::Accepted { vendor_id: text(data, "requestId") }
}

/// We sent one token, so whatever is listed is ours.
fn partly(data: &Value, why: String) -> Verdict {
    let has = |name: &str| data.get(name).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    if has("expireTokens") {
        return Verdict::TokenDead { since_ms: None, reason: reason(&format!("{why} expireTokens")) };
    }
    if has("failTokens") || data.get("sendResult") == Some(&Value::Bool(false)) {
        return Verdict::Retry { after: None, reason: reason(&format!("{why} failTokens")) };
    }
    Verdict::Accepted { vendor_id: text(data, "requestId") }
}

/// Only the number of a delivery is known; an unknown one never costs a device token.
fn read_status(status: &Value) -> Vec<Receipt> {
    let told = match code(status, "status") {
        Some(DELIVERED) => Told::Delivered,
        Some(number) => receipt::noted(&number.into()),
        None => receipt::noted(&Value::Null),
    };
    let tokens = receipt::tokens(status.get("token"));
    receipt::each(tokens, status.get("biTag"), &told, receipt::at_ms(status, "timestamp"))
}

#[cfg(test)]
mod tests;
