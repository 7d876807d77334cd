//! A server of the operator's own: one signed POST with JSON. Stands for SMS gateways, e-mail and everything else.
//!
//! Our own design; `docs/vendors/webhook.md` tells the receiver what to check.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use ring::hmac;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::credential::{CredentialError, Secret, check_ca, check_url, check_word};
use super::form::{hex, json_body, note, post_json, put, text, ttl_s};
use super::receipt::{self, Receipt, ReceiptCall, ReceiptRefused, Told};
use super::shorten::{Parts, data_fields, fit};
use super::{
    Answer, CannotSend, Priority, Push, PushKind, Scope, Vendor, Verdict, merge, reason, retry_after,
};

/// Largest body, in bytes.
pub const BODY_MAX: usize = 16 << 10;
/// How far the clock of whoever sends a receipt may be off, in milliseconds.
const SKEW_MAX_MS: u64 = 5 * 60 * 1000;

/// Where to, and the key that both sides share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookCredential {
    /// The receiver: `https://…`, or `http` on this machine.
    pub url: String,
    /// What requests are signed with.
    pub secret: Secret,
    /// Certificates to trust besides the public ones, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
}

impl WebhookCredential {
    pub(super) fn validate(&self) -> Result<(), CredentialError> {
        check_url("url", &self.url, false)?;
        check_word("secret", self.secret.reveal())?;
        if self.secret.reveal().len() < 16 {
            return Err(CredentialError::new("secret", "has at least 16 characters"));
        }
        check_ca(self.ca_pem.as_deref())
    }

    pub(super) fn summary(&self) -> String {
        format!("webhook, {}", self.url)
    }
}

/// The HMAC-SHA256 of some parts with dots between, in hexadecimal.
pub(crate) fn signature(secret: &Secret, parts: &[&str]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes());
    hex(hmac::sign(&key, parts.join(".").as_bytes()).as_ref())
}

/// Signs a request with the moment, a nonce and its body, as `docs/vendors/webhook.md` tells receivers.
///
/// # Errors
/// [`CannotSend`] when a value cannot stand in a header.
pub(crate) fn sign_request(
    request: &mut Request<Bytes>,
    secret: &Secret,
    now_ms: u64,
    nonce: &str,
    id: &str,
) -> Result<(), CannotSend> {
    let timestamp = now_ms.to_string();
    let body = std::str::from_utf8(request.body()).map_err(|_| CannotSend::Payload("the body is no text"))?;
    let signature = format!("v1={}", signature(secret, &[&timestamp, nonce, body]));
    for (name, value) in [
        ("x-push-timestamp", timestamp.as_str()),
        ("x-push-nonce", nonce),
        ("x-push-signature", &signature),
        ("idempotency-key", id),
    ] {
        let value =
            HeaderValue::from_str(value).map_err(|_| CannotSend::Config("a header cannot be written"))?;
        request.headers_mut().insert(HeaderName::from_static(name), value);
    }
    Ok(())
}

fn body(push: &Push, parts: &Parts<'_>) -> Value {
    let mut body = json!({
        "app": push.app.as_str(),
        "kind": if push.kind == PushKind::Alert { "alert" } else { "data" },
        "priority": match push.priority { Priority::Low => "low", Priority::Normal => "normal", Priority::High => "high" },
        "data": data_fields(push, parts),
    });
    put(&mut body, "title", parts.title.as_deref());
    put(&mut body, "body", parts.body.as_deref());
    put(&mut body, "collapse_key", push.collapse_key.as_deref());
    if let (Value::Object(fields), Some(badge)) = (&mut body, push.badge) {
        fields.insert("badge".to_owned(), badge.into());
    }
    if let (Value::Object(fields), Some(expires_at_ms)) = (&mut body, push.expires_at_ms) {
        fields.insert("expires_at_ms".to_owned(), expires_at_ms.into());
    }
    if parts.has_extras {
        for (name, value) in [
            ("image", &push.image),
            ("sound", &push.sound),
            ("channel", &push.channel),
            ("category", &push.category),
            ("click", &push.click),
        ] {
            put(&mut body, name, value.as_deref());
        }
        if push.overrides.is_object() {
            merge(&mut body, &push.overrides);
        }
    }
    let id = push.id.to_string();
    merge(&mut body, &json!({"id": id, "to": push.token.as_str(), "data": {"mid": id}}));
    body
}

impl Vendor for WebhookCredential {
    fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    fn request(&self, push: &Push, _login: Option<&str>, now_ms: u64) -> Result<Request<Bytes>, CannotSend> {
        ttl_s(push, now_ms, u64::MAX)?;
        let (body, shortened) = fit(push, BODY_MAX, |parts| body(push, parts))
            .ok_or(CannotSend::Payload("message is too large"))?;
        let (id, timestamp) = (push.id.to_string(), now_ms.to_string());
        // Like no other, and not to be guessed: receivers refuse one that they have seen.
        let mut nonce = signature(&self.secret, &["nonce", &id, push.token.as_str(), &timestamp]);
        nonce.truncate(32);
        let mut request = post_json(&self.url, &body)?;
        sign_request(&mut request, &self.secret, now_ms, &nonce, &id)?;
        note(&mut request, shortened);
        Ok(request)
    }

    fn verdict(&self, answer: &Answer, now_ms: u64) -> Verdict {
        let body = json_body(answer);
        let words = text(&body, "reason").or_else(|| text(&body, "message")).unwrap_or_default();
        let why = reason(format!("{} {words}", answer.status).trim());
        let after = retry_after(&answer.headers, now_ms);
        match answer.status {
            200..=299 => Verdict::Accepted { vendor_id: text(&body, "id") },
            404 | 410 => Verdict::TokenDead { since_ms: None, reason: why },
            401 | 403 => Verdict::ConfigError { reason: why },
            429 => Verdict::Throttled { scope: Scope::App, after, reason: why },
            408 | 425 | 500..=599 => Verdict::Retry { after, reason: why },
            400..=499 => Verdict::PayloadRejected { reason: why },
            _ => Verdict::Retry { after, reason: why },
        }
    }

    /// Signed as our requests are, within five minutes. A repeated one changes nothing, so its nonce is not kept.
    fn receipts(&self, call: &ReceiptCall<'_>) -> Result<Vec<Receipt>, ReceiptRefused> {
        let header =
            |name: &str| call.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (timestamp, nonce) = (header("x-push-timestamp"), header("x-push-nonce"));
        let body = std::str::from_utf8(call.body).map_err(|_| ReceiptRefused::Malformed)?;
        let wanted = format!("v1={}", signature(&self.secret, &[timestamp, nonce, body]));
        let is_recent =
            timestamp.parse::<u64>().is_ok_and(|at_ms| at_ms.abs_diff(call.now_ms) <= SKEW_MAX_MS);
        if !receipt::is_same(wanted.as_bytes(), header("x-push-signature").as_bytes()) || !is_recent {
            return Err(ReceiptRefused::Forged);
        }
        let body: Value = serde_json::from_str(body).map_err(|_| ReceiptRefused::Malformed)?;
        let events = body.as_array().ok_or(ReceiptRefused::Malformed)?;
        receipt::bounded(events.iter().flat_map(read_event).collect())
    }
}

fn read_event(event: &Value) -> Vec<Receipt> {
    let why = || text(event, "reason").unwrap_or_default();
    let told = match event.get("event").and_then(Value::as_str) {
        Some("delivered") => Told::Delivered,
        Some("clicked") => Told::Clicked,
        Some("token_dead") => Told::TokenDead(why()),
        Some("not_shown") => Told::NotShown(why()),
        Some(other) => receipt::noted(&other.into()),
        None => receipt::noted(&Value::Null),
    };
    let tokens = event.get("to").and_then(Value::as_str).map(str::to_owned).into_iter().collect();
    receipt::each(tokens, event.get("id"), &told, receipt::at_ms(event, "at_ms"))
}

#[cfg(test)]
mod tests;
