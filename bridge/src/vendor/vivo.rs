//! vivo Push: a signed login for a day, then JSON.
//!
//! Rules from vivo's "Push server API" and its table of result codes. See `docs/vendors/vivo.md`.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Request};
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::credential::{CredentialError, Secret, check_receipt_secret, check_way, check_word};
use super::form::{
    by_status, category, code, hex, is_quiet, json_body, note, notify_id, post_json, secret_header, text,
    throttled, ttl_s, wait, words,
};
use super::receipt::{self, Receipt, ReceiptCall, ReceiptRefused, Told};
use super::shorten::{data_text, shortened, texts};
use super::{
    Account, Answer, CannotSend, DeviceToken, Login, LoginStep, Push, PushKind, Scope, Vendor, VendorName,
    Verdict, batch, merge, oauth, reason,
};
use crate::wall_clock::WallClock;

/// Characters of a title and of a text.
pub const TITLE_MAX: usize = 40;
/// See above.
pub const CONTENT_MAX: usize = 100;
/// Bytes of the app's data.
pub const DATA_MAX: usize = 1024;
/// Seconds that a push is kept: a minute to a day.
pub const TTL_S: std::ops::RangeInclusive<u64> = 60..=86_400;
/// Registration ids in one request, which has at least two.
pub const BATCH_MAX: usize = 1000;

const BASE: &str = "https://api-push.vivo.com.cn";
/// The system's categories, which are not limited to two a day, and the operational ones.
const SYSTEM: [&str; 6] = ["IM", "ACCOUNT", "TODO", "DEVICE_REMINDER", "ORDER", "SUBSCRIPTION"];
const OPERATIONAL: [&str; 4] = ["CONTENT", "MARKETING", "SOCIAL", "NEWS"];
/// How an alert comes: without sound, or with sound and vibration.
const NOTIFY_QUIET: u8 = 1;
const NOTIFY_LOUD: u8 = 4;
/// A login lives for a day; vivo advises to renew it every hour or two.
const LOGIN_LIFE_S: u64 = 2 * 3600;
/// Operational messages are shown from 07:00 to 23:00 in China.
const MORNING: Duration = Duration::from_secs(7 * 3600);
/// "The task has expired".
const TASK_EXPIRED: i64 = 10_155;

/// An app of vivo's open platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VivoCredential {
    /// The app id.
    pub app_id: u64,
    /// The app key.
    pub app_key: String,
    /// The app secret.
    pub app_secret: Secret,
    /// The category of messages that name none, such as `ORDER`. Its class goes with it: the system's own are not
    /// limited to two a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Counts the icon's badge up for every alert that has a badge: vivo takes no number.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adds_badge: bool,
    /// Sends to test devices only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_test: bool,
    /// Where vivo reports deliveries, at most 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<String>,
    /// What the address given to the vendor for its receipts ends with, as `?secret=…`: at least 16 characters. Without it
    /// none are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt_secret: Option<Secret>,
    /// Replaces vivo's address, for proxies and tests: `https://host:port`, or `http` on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Certificates to trust besides the public ones, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
}

impl VivoCredential {
    fn base(&self) -> &str {
        self.endpoint.as_deref().map_or(BASE, |endpoint| endpoint.trim_end_matches('/'))
    }

    pub(super) fn validate(&self) -> Result<(), CredentialError> {
        check_word("app_key", &self.app_key)?;
        check_word("app_secret", self.app_secret.reveal())?;
        if let Some(callback) = &self.callback {
            super::credential::check_url("callback", callback, false)?;
            if callback.len() > 128 {
                return Err(CredentialError::new("callback", "has at most 128 characters"));
            }
        }
        check_receipt_secret(self.receipt_secret.as_ref())?;
        check_way(self.endpoint.as_deref(), self.ca_pem.as_deref())
    }

    pub(super) fn summary(&self) -> String {
        format!("vivo, app {} at {}", self.app_id, self.base())
    }

    fn sign(&self, timestamp: u64) -> String {
        let (key, secret) = (self.app_key.trim(), self.app_secret.reveal().trim());
        hex(&Md5::digest(format!("{}{key}{timestamp}{secret}", self.app_id)))
    }

    fn post(&self, call: &str, login: Option<&str>, body: &Value) -> Result<Request<Bytes>, CannotSend> {
        let login = login.ok_or(CannotSend::Config("no auth token"))?;
        let mut request = post_json(&format!("{}/message/{call}", self.base()), body)?;
        secret_header(&mut request, HeaderName::from_static("authtoken"), login)?;
        Ok(request)
    }

    fn checked_body(&self, push: &Push, now_ms: u64) -> Result<(Value, bool, bool), CannotSend> {
        if push.kind == PushKind::Data {
            return Err(CannotSend::Payload(
                "vivo shows alerts only; data waits for the device's connection",
            ));
        }
        self.body(push, ttl_s(push, now_ms, *TTL_S.end())?)
    }

    fn body(&self, push: &Push, ttl_s: Option<u64>) -> Result<(Value, bool, bool), CannotSend> {
        let texts = texts(push, TITLE_MAX, CONTENT_MAX)
            .ok_or(CannotSend::Payload("an alert needs a title or a body"))?;
        let (data, is_data_cut) = data_text(push, DATA_MAX);
        let (skip_type, skip_content) = match push.click.as_deref() {
            None => (1, None),
            Some(url) if url.starts_with("https://") => (2, Some(url)),
            Some(page) => (4, Some(page)),
        };
        let mut body = json!({
            "appId": self.app_id,
            "regId": push.token.as_str(),
            "title": texts.title,
            "content": texts.body,
            "notifyType": if is_quiet(push) { NOTIFY_QUIET } else { NOTIFY_LOUD },
            "skipType": skip_type,
            "networkType": -1,
            "requestId": push.id.to_string(),
            "notifyId": notify_id(push),
            "pushMode": u8::from(self.is_test),
            "foregroundShow": true,
            "clientCustomMap": text_map(&data),
        });
        let Value::Object(fields) = &mut body else { return Ok((body, texts.is_cut, is_data_cut)) };
        let category = category(push, &[&SYSTEM[..], &OPERATIONAL].concat(), self.category.as_deref());
        fields.insert("classification".to_owned(), classification(category).into());
        if let Some(category) = category {
            fields.insert("category".to_owned(), category.into());
        }
        if self.adds_badge && push.badge.or(push.badge_add).is_some_and(|badge| badge > 0) {
            fields.insert("addBadge".to_owned(), true.into());
        }
        if let Some(content) = skip_content {
            fields.insert("skipContent".to_owned(), content.into());
        }
        if let Some(ttl_s) = ttl_s {
            fields.insert("timeToLive".to_owned(), ttl_s.max(*TTL_S.start()).into());
        }
        if let Some(callback) = &self.callback {
            let extra = json!({"callback": callback, "callback.param": push.id.to_string()});
            fields.insert("extra".to_owned(), extra);
        }
        if push.overrides.is_object() {
            merge(&mut body, &push.overrides);
            merge(&mut body, &json!({"clientCustomMap": {"mid": push.id.to_string()}}));
        }
        if let Value::Object(fields) = &mut body {
            fields.insert("regId".to_owned(), push.token.as_str().into());
            fields.remove("alias");
        }
        Ok((body, texts.is_cut, is_data_cut))
    }
}

/// At most the 64 characters that vivo takes for a request's name.
fn cut(request_id: &str) -> &str {
    request_id.get(..64).unwrap_or(request_id)
}

/// What the answer to a list says of one registration id.
fn one_of_many(users: &[Value], token: &str, task: Option<&str>) -> Verdict {
    let is_it = |user: &&Value| user.get("userid").and_then(Value::as_str) == Some(token);
    match users.iter().find(is_it).and_then(|user| code(user, "status")) {
        Some(1 | 2) => Verdict::TokenDead { since_ms: None, reason: "invalidUser".to_owned() },
        Some(4) => Verdict::ConfigError { reason: "not a test device".to_owned() },
        Some(_) | None => Verdict::Accepted { vendor_id: task.map(str::to_owned) },
    }
}

/// vivo refuses a class that does not fit the category: 1 is the system's, 0 is operational, which is also what vivo
/// takes an alert without a category for.
fn classification(category: Option<&str>) -> u8 {
    u8::from(category.is_some_and(|category| SYSTEM.contains(&category)))
}

/// vivo's map carries text only.
fn text_map(data: &str) -> Value {
    let fields: Map<String, Value> = serde_json::from_str(data).unwrap_or_default();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Value::Object(fields.iter().map(|(name, value)| (name.clone(), text(value).into())).collect())
}

impl Vendor for VivoCredential {
    fn account(&self) -> Option<Account> {
        Some(Account {
            vendor: VendorName::Vivo,
            name: format!("{} {} {}", self.app_id, self.app_key, self.base()),
            secret: self.app_secret.clone(),
            ca_pem: self.ca_pem.clone(),
            spacing: Duration::ZERO,
        })
    }

    fn login(&self, now_ms: u64) -> Result<LoginStep, CannotSend> {
        let body = json!({
            "appId": self.app_id, "appKey": self.app_key, "timestamp": now_ms, "sign": self.sign(now_ms),
        });
        post_json(&format!("{}/message/auth", self.base()), &body)
            .map(|request| LoginStep::Ask(Box::new(request)))
    }

    fn read_login(&self, answer: &Answer, now_ms: u64) -> Result<Login, Verdict> {
        let body = json_body(answer);
        let token = body.get("authToken").and_then(Value::as_str);
        match (code(&body, "result"), token) {
            (Some(0), Some(token)) if !token.is_empty() => {
                Ok(oauth::login_for(token.to_owned(), LOGIN_LIFE_S, now_ms))
            }
            (Some(_), _) => Err(self.verdict(answer, now_ms)),
            (None, _) => Err(by_status(answer, now_ms)),
        }
    }

    fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    fn batch_max(&self) -> usize {
        BATCH_MAX
    }

    /// vivo keeps a message that goes to a list, and is then told who is on it.
    fn deposit(
        &self,
        push: &Push,
        login: Option<&str>,
        now_ms: u64,
    ) -> Result<Option<Request<Bytes>>, CannotSend> {
        if push.others.is_empty() {
            return Ok(None);
        }
        let (mut body, is_text_cut, is_data_cut) = self.checked_body(push, now_ms)?;
        if let Value::Object(fields) = &mut body {
            fields.remove("regId");
        }
        let mut request = self.post("saveListPayload", login, &body)?;
        note(&mut request, shortened(is_text_cut, is_data_cut));
        Ok(Some(request))
    }

    fn read_deposit(&self, answer: &Answer, now_ms: u64) -> Result<String, Verdict> {
        match self.verdict(answer, now_ms) {
            Verdict::Accepted { vendor_id: Some(task) } => Ok(task),
            Verdict::Accepted { vendor_id: None } => {
                Err(Verdict::Retry { after: None, reason: "the answer has no taskId".to_owned() })
            }
            refused => Err(refused),
        }
    }

    fn request(&self, push: &Push, login: Option<&str>, now_ms: u64) -> Result<Request<Bytes>, CannotSend> {
        if !push.others.is_empty() {
            let task = push.deposited_as.as_deref().ok_or(CannotSend::Config("no taskId"))?;
            let ids: Vec<_> = push.tokens().map(DeviceToken::as_str).collect();
            let request_id = format!("{}-{}", push.id, hex(&Md5::digest(ids.concat()))); // one for each list
            let body =
                json!({"appId": self.app_id, "regIds": ids, "taskId": task, "requestId": cut(&request_id)});
            return self.post("pushToList", login, &body);
        }
        let (body, is_text_cut, is_data_cut) = self.checked_body(push, now_ms)?;
        let mut request = self.post("send", login, &body)?;
        note(&mut request, shortened(is_text_cut, is_data_cut));
        Ok(request)
    }

    fn verdict(&self, answer: &Answer, now_ms: u64) -> Verdict {
        let body = json_body(answer);
        let Some(code) = code(&body, "result") else { return by_status(answer, now_ms) };
        let why = words(code, text(&body, "desc"));
        match code {
            0 => accepted(&body, why),
            10_000 => Verdict::LoginExpired,
            10_302 if user_status(&body) == Some(4) => Verdict::ConfigError { reason: why },
            10_302 => Verdict::TokenDead { since_ms: None, reason: why },
            10_311 => Verdict::Filtered { reason: why },
            10_070 | 10_073 | 10_252 | 10_254 => throttled(Scope::Day, why),
            10_071 => wait(WallClock::CHINA.until(MORNING, now_ms), why),
            10_072 => throttled(Scope::App, why),
            10_040 => Verdict::Retry { after: None, reason: why },
            10_043 | 10_045 | 10_051 | 10_082 | 10_094 | 10_096 | 10_097 | 10_200..=10_207 => {
                Verdict::ConfigError { reason: why }
            }
            _ => Verdict::PayloadRejected { reason: why },
        }
    }

    fn verdicts(&self, push: &Push, answer: &Answer, now_ms: u64) -> Vec<Verdict> {
        let body = json_body(answer);
        match code(&body, "result") {
            Some(0) if push.token_count() > 1 => {
                let users = body.get("invalidUsers").and_then(Value::as_array);
                let users = users.map_or(&[][..], Vec::as_slice);
                batch::each(push, |token| one_of_many(users, token, push.deposited_as.as_deref()))
            }
            // The list that the request named is kept no longer, so it is handed in anew.
            Some(TASK_EXPIRED) => {
                let reason = words(TASK_EXPIRED, text(&body, "desc"));
                vec![Verdict::Retry { after: None, reason }; push.token_count()]
            }
            _ => batch::all(push, &self.verdict(answer, now_ms)),
        }
    }

    fn receipts(&self, call: &ReceiptCall<'_>) -> Result<Vec<Receipt>, ReceiptRefused> {
        receipt::check_secret(self.receipt_secret.as_ref(), call)?;
        let body: Value = serde_json::from_slice(call.body).map_err(|_| ReceiptRefused::Malformed)?;
        let entries = body.as_object().ok_or(ReceiptRefused::Malformed)?;
        receipt::bounded(entries.values().flat_map(read_entry).collect())
    }
}

/// Also a success may name the one user that we sent to as invalid.
fn accepted(body: &Value, why: String) -> Verdict {
    match user_status(body) {
        Some(1 | 2) => Verdict::TokenDead { since_ms: None, reason: reason(&format!("{why} invalidUser")) },
        Some(4) => Verdict::ConfigError { reason: reason(&format!("{why} not a test device")) },
        Some(_) | None => Verdict::Accepted { vendor_id: text(body, "taskId") },
    }
}

fn user_status(body: &Value) -> Option<i64> {
    let user = body.get("invalidUser").or_else(|| body.get("invalidUsers")?.get(0))?;
    code(user, "status")
}

/// The older form has no `ackType`: it is sent for arrivals only.
fn read_entry(entry: &Value) -> Vec<Receipt> {
    let told = match entry.get("ackType").map(|_| code(entry, "ackType")) {
        None | Some(Some(0)) => Told::Delivered,
        Some(Some(2183)) => Told::TokenDead("2183 the registration id is invalid".to_owned()),
        Some(Some(20_001 | 20_002)) => Told::TokenDead("20002 not subscribed or unknown".to_owned()),
        Some(Some(101)) => Told::NotShown("101 the review failed".to_owned()),
        Some(Some(103)) => Told::NotShown("103 covered by another".to_owned()),
        Some(Some(104)) => Told::NotShown("104 not shown".to_owned()),
        Some(Some(2124)) => Told::NotShown("2124 the same content as another".to_owned()),
        Some(Some(2144)) => Told::NotShown("2144 expired".to_owned()),
        Some(Some(20_006)) => Told::NotShown("20006 offline for 14 days".to_owned()),
        Some(Some(number)) => receipt::noted(&number.into()),
        Some(None) => receipt::noted(&Value::Null),
    };
    let tokens = receipt::tokens(entry.get("targets"));
    receipt::each(tokens, entry.get("param"), &told, receipt::at_ms(entry, "ackTime"))
}

#[cfg(test)]
mod tests;
