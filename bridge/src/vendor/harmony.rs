//! Huawei Push Kit for HarmonyOS 5 and newer: a service account's own signed token, then one POST.
//!
//! Rules from Huawei's "Push Kit REST API v3". See `docs/vendors/harmony.md`.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::credential::{CredentialError, Secret, check_way, check_word};
use super::form::{bearer, category, need_text, note, notify_id, post_json, put, ttl_s};
use super::huawei::{
    BATCH_MAX, CATEGORIES, MESSAGE_MAX, ReceiptKey, TTL_MAX_S, read_answer, read_answers, read_receipts,
    tokens,
};
use super::receipt::{Receipt, ReceiptCall, ReceiptRefused};
use super::shorten::{Parts, data_fields, fit};
use super::{
    Account, Answer, CannotSend, Login, LoginStep, Push, PushKind, Vendor, VendorName, Verdict, merge, oauth,
};

const BASE: &str = "https://push-api.cloud.huawei.com";
/// What a signed token is for, wherever the pushes go.
const AUDIENCE: &str = "https://oauth-login.cloud.huawei.com/oauth2/v3/token";
/// Huawei allows a day and advises an hour.
const LOGIN_LIFE_S: u64 = 3600;
/// Where a sender may choose the alert's place on the screen.
pub(crate) const PLACE: &str = "/payload/notification/notifyId";
/// The code for a recall of which some part is wrong.
const PARTLY: &str = "80100020";
/// `push-type` of an alert, and of a message for the app in the background.
const ALERT: HeaderValue = HeaderValue::from_static("0");
const BACKGROUND: HeaderValue = HeaderValue::from_static("6");

/// A service account of a HarmonyOS project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HarmonyCredential {
    /// The project in AppGallery Connect.
    pub project_id: String,
    /// The name of the key in the service account file.
    pub key_id: String,
    /// The account in that file.
    pub sub_account: String,
    /// An RSA key in PKCS#8, as PEM.
    pub private_key: Secret,
    /// The app's client ID in AppGallery Connect, by which alerts are taken back; without it none are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The category of alerts that name none, such as `WORK`; Huawei wants one with every alert.
    pub category: String,
    /// The name of the receipt configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt_id: Option<String>,
    /// The user and key of the receipt configuration, with which Huawei signs its receipts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<ReceiptKey>,
    /// Sends test messages.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_test: bool,
    /// Replaces Huawei's address, for proxies and tests: `https://host:port`, or `http` on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Certificates to trust besides the public ones, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
}

impl HarmonyCredential {
    fn base(&self) -> &str {
        self.endpoint.as_deref().map_or(BASE, |endpoint| endpoint.trim_end_matches('/'))
    }

    pub(super) fn validate(&self) -> Result<(), CredentialError> {
        if self.project_id.is_empty() || !self.project_id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(CredentialError::new("project_id", "has letters and digits"));
        }
        check_word("key_id", &self.key_id)?;
        check_word("sub_account", &self.sub_account)?;
        check_word("category", &self.category)?;
        if self
            .client_id
            .as_ref()
            .is_some_and(|id| id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric()))
        {
            return Err(CredentialError::new("client_id", "has letters and digits"));
        }
        check_way(self.endpoint.as_deref(), self.ca_pem.as_deref())?;
        self.sign(0).map(drop).map_err(|problem| CredentialError::new("private_key", problem))
    }

    pub(super) fn summary(&self) -> String {
        format!("harmony, project {} at {}", self.project_id, self.base())
    }

    fn sign(&self, now_ms: u64) -> Result<String, &'static str> {
        const NOT_A_KEY: &str = "is not an RSA private key in PEM (PKCS#8)";
        let key = EncodingKey::from_rsa_pem(self.private_key.reveal().as_bytes()).map_err(|_| NOT_A_KEY)?;
        let header = Header { kid: Some(self.key_id.clone()), ..Header::new(Algorithm::PS256) };
        let iat = now_ms / 1000;
        let claims = Claims { iss: &self.sub_account, aud: AUDIENCE, iat, exp: iat + LOGIN_LIFE_S };
        jsonwebtoken::encode(&header, &claims, &key).map_err(|_| NOT_A_KEY)
    }

    fn body(&self, push: &Push, parts: &Parts<'_>, ttl_s: Option<u64>) -> Value {
        let data = Value::Object(data_fields(push, parts));
        let payload = match push.kind {
            PushKind::Alert => json!({ "notification": self.notification(push, parts, data) }),
            PushKind::Data => json!({ "extraData": data.to_string() }),
        };
        let mut options = json!({ "biTag": push.id.to_string(), "testMessage": self.is_test });
        put(&mut options, "receiptId", self.receipt_id.as_deref());
        if let (Value::Object(fields), Some(ttl_s)) = (&mut options, ttl_s) {
            fields.insert("ttl".to_owned(), ttl_s.into());
        }
        let mut body = json!({ "payload": payload, "pushOptions": options });
        if parts.has_extras && push.overrides.is_object() {
            merge(&mut body, &push.overrides);
            if push.kind == PushKind::Alert {
                let mid = json!({"clickAction": {"data": {"mid": push.id.to_string()}}});
                merge(&mut body, &json!({"payload": {"notification": mid}}));
            }
        }
        if let Value::Object(fields) = &mut body {
            fields.remove("target");
        }
        body
    }

    fn notification(&self, push: &Push, parts: &Parts<'_>, data: Value) -> Value {
        let mut shown = json!({
            "category": category(push, &CATEGORIES, Some(&self.category)),
            "notifyId": notify_id(push),
            "appMessageId": push.id.to_string(), // Huawei shows one of several with the same
            "foregroundShow": true,
            "clickAction": click_action(push.click.as_deref().filter(|_| parts.has_extras), &data),
        });
        for (name, text) in parts.both() {
            put(&mut shown, name, text);
        }
        if parts.has_extras {
            put(&mut shown, "image", push.image.as_deref());
            put(&mut shown, "sound", push.sound.as_deref().filter(|sound| *sound != "default"));
        }
        let badge = push.badge.map(|badge| json!({"setNum": badge.min(99)}));
        let badge = badge.or_else(|| push.badge_add.map(|more| json!({"addNum": more.min(99)})));
        if let (Value::Object(fields), Some(badge)) = (&mut shown, badge) {
            fields.insert("badge".to_owned(), badge);
        }
        shown
    }
}

/// Opens the app (0), or one of its pages (1) by URI or by the name of an action.
fn click_action(click: Option<&str>, data: &Value) -> Value {
    match click {
        None => json!({"actionType": 0, "data": data}),
        Some(uri) if uri.contains("://") => json!({"actionType": 1, "uri": uri, "data": data}),
        Some(action) => json!({"actionType": 1, "action": action, "data": data}),
    }
}

impl Vendor for HarmonyCredential {
    fn account(&self) -> Option<Account> {
        Some(Account {
            vendor: VendorName::Harmony,
            name: format!("{} {} {}", self.project_id, self.sub_account, self.key_id),
            secret: self.private_key.clone(),
            ca_pem: None,
            spacing: Duration::ZERO,
        })
    }

    fn login(&self, now_ms: u64) -> Result<LoginStep, CannotSend> {
        let token = self.sign(now_ms).map_err(|_| CannotSend::Config("private_key cannot sign"))?;
        Ok(LoginStep::Made(oauth::login_for(token, LOGIN_LIFE_S, now_ms)))
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
            fields.insert("target".to_owned(), json!({ "token": tokens(push) }));
        }
        let mut request = post_json(&format!("{}/v3/{}/messages:send", self.base(), self.project_id), &body)?;
        let push_type = if push.kind == PushKind::Alert { ALERT } else { BACKGROUND };
        request.headers_mut().insert(HeaderName::from_static("push-type"), push_type);
        bearer(&mut request, login)?;
        note(&mut request, shortened);
        Ok(request)
    }

    fn recall(&self, push: &Push, login: Option<&str>, _now_ms: u64) -> Result<Request<Bytes>, CannotSend> {
        let client_id = self
            .client_id
            .as_deref()
            .ok_or(CannotSend::Payload("the credential has no client_id, by which alerts are taken back"))?;
        if push.kind == PushKind::Data {
            return Err(CannotSend::Payload("Huawei takes back alerts only"));
        }
        let body = json!({ "notifyId": notify_id(push), "token": tokens(push) });
        let mut request = post_json(&format!("{}/v1/{client_id}/messages:revoke", self.base()), &body)?;
        request.headers_mut().insert(HeaderName::from_static("push-type"), ALERT);
        bearer(&mut request, login)?;
        Ok(request)
    }

    /// Codes of Huawei's page on revoking messages. A code that says which device token is meant does not exist.
    fn recall_verdict(&self, answer: &Answer, now_ms: u64) -> Verdict {
        match read_answer(answer, now_ms) {
            kept @ (Verdict::Accepted { .. }
            | Verdict::LoginExpired
            | Verdict::Throttled { .. }
            | Verdict::Retry { .. }
            | Verdict::NewConnection { .. }) => kept,
            Verdict::TokenDead { reason, .. } => Verdict::Filtered { reason },
            Verdict::PayloadRejected { reason } if reason.starts_with(PARTLY) => {
                Verdict::SendAlone { reason }
            }
            Verdict::PayloadRejected { reason }
            | Verdict::TokenMismatch { reason }
            | Verdict::SendAlone { reason }
            | Verdict::Filtered { reason }
            | Verdict::ConfigError { reason } => Verdict::PayloadRejected { reason },
        }
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

#[cfg(test)]
mod tests;
