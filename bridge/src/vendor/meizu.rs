//! Meizu (Flyme) Push: forms, each signed; no login.
//!
//! Rules from Meizu's "Flyme push server API" and its table of codes. See `docs/vendors/meizu.md`.

use bytes::Bytes;
use http::Request;
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::credential::{CredentialError, Secret, check_receipt_secret, check_way, check_word};
use super::form::{
    by_status, code, hex, is_quiet, joined, json_body, no_comma, note, notify_id, post_form, text, throttled,
    ttl_s, wait, words,
};
use super::receipt::{self, Receipt, ReceiptCall, ReceiptRefused, Told};
use super::shorten::{data_text, shortened, texts};
use super::{Answer, CannotSend, DeviceToken, Push, PushKind, Scope, Vendor, Verdict, batch, merge, reason};
use crate::wall_clock::WallClock;

/// Characters of a title and of a text.
pub const TITLE_MAX: usize = 32;
/// See above.
pub const CONTENT_MAX: usize = 100;
/// Bytes of the app's data. Meizu names no bound; ours keeps the message small.
pub const DATA_MAX: usize = 2048;
/// Longest time that a push is kept, in hours.
pub const TTL_MAX_H: u64 = 72;
/// Push ids in one request.
pub const BATCH_MAX: usize = 100;

const BASE: &str = "https://server-api-push.meizu.com";

/// An app of Flyme's push platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeizuCredential {
    /// The app id.
    pub app_id: u64,
    /// The app secret.
    pub app_secret: Secret,
    /// Sends as private messages, which public limits do not count; needs Meizu's leave.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_private: bool,
    /// Where Meizu reports deliveries, at most 128 bytes; registered in its console too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<String>,
    /// What the address given to the vendor for its receipts ends with, as `?secret=…`: at least 16 characters. Without it
    /// none are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt_secret: Option<Secret>,
    /// Replaces Meizu's address, for proxies and tests: `https://host:port`, or `http` on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Certificates to trust besides the public ones, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
}

impl MeizuCredential {
    fn base(&self) -> &str {
        self.endpoint.as_deref().map_or(BASE, |endpoint| endpoint.trim_end_matches('/'))
    }

    pub(super) fn validate(&self) -> Result<(), CredentialError> {
        check_word("app_secret", self.app_secret.reveal())?;
        if let Some(callback) = &self.callback {
            super::credential::check_url("callback", callback, false)?;
            if callback.len() > 128 {
                return Err(CredentialError::new("callback", "has at most 128 bytes"));
            }
        }
        check_receipt_secret(self.receipt_secret.as_ref())?;
        check_way(self.endpoint.as_deref(), self.ca_pem.as_deref())
    }

    pub(super) fn summary(&self) -> String {
        format!("meizu, app {} at {}", self.app_id, self.base())
    }

    fn message(&self, push: &Push, ttl_s: Option<u64>) -> Result<(Value, bool, bool), CannotSend> {
        let texts = texts(push, TITLE_MAX, CONTENT_MAX)
            .ok_or(CannotSend::Payload("an alert needs a title or a body"))?;
        let (data, is_data_cut) = data_text(push, DATA_MAX);
        let parameters: Value = serde_json::from_str(&data).unwrap_or_default();
        let click = match push.click.as_deref() {
            None => json!({"clickType": 0, "parameters": parameters}),
            Some(url) if url.starts_with("https://") => {
                json!({"clickType": 2, "url": url, "parameters": parameters})
            }
            Some(activity) => json!({"clickType": 1, "activity": activity, "parameters": parameters}),
        };
        let is_loud = u8::from(!is_quiet(push));
        let mut message = json!({
            "noticeBarInfo": {
                "noticeMsgType": u8::from(self.is_private), "noticeBarType": 0,
                "title": texts.title, "content": texts.body,
            },
            "clickTypeInfo": click,
            "pushTimeInfo": {"offLine": 1, "validTime": valid_hours(ttl_s)},
            "advanceInfo": {
                "notifyKey": notify_key(push),
                "notificationType": {"vibrate": is_loud, "lights": 1, "sound": is_loud},
            },
        });
        if let (Value::Object(fields), Some(callback)) = (&mut message, &self.callback) {
            let extra =
                json!({"callback": callback, "callback.param": push.id.to_string(), "callback.type": "3"});
            fields.insert("extra".to_owned(), extra);
        }
        if push.overrides.is_object() {
            merge(&mut message, &push.overrides);
            merge(&mut message, &json!({"clickTypeInfo": {"parameters": {"mid": push.id.to_string()}}}));
        }
        Ok((message, texts.is_cut, is_data_cut))
    }
}

/// Whole hours, at least one: Meizu knows nothing shorter.
fn valid_hours(ttl_s: Option<u64>) -> u64 {
    ttl_s.map_or(TTL_MAX_H, |ttl_s| ttl_s.div_ceil(3600).clamp(1, TTL_MAX_H))
}

/// At most eight letters and digits; of those with the same one the last is shown.
fn notify_key(push: &Push) -> String {
    format!("{:08x}", notify_id(push))
}

/// Meizu's signature: parameters by name, `name=value` without separators, then the secret; MD5 in lower-case hex. The
/// values are the raw ones, not the escaped ones of the form.
pub(super) fn sign(fields: &[(&str, &str)], secret: &str) -> String {
    let mut sorted = fields.to_vec();
    sorted.sort_unstable();
    let mut md5 = Md5::new();
    for (name, value) in sorted {
        md5.update(name);
        md5.update("=");
        md5.update(value);
    }
    md5.update(secret);
    hex(&md5.finalize())
}

impl Vendor for MeizuCredential {
    fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    fn batch_max(&self) -> usize {
        BATCH_MAX
    }

    fn check_token(&self, token: &DeviceToken) -> Result<(), CannotSend> {
        no_comma(token)
    }

    fn request(&self, push: &Push, _login: Option<&str>, now_ms: u64) -> Result<Request<Bytes>, CannotSend> {
        if push.kind == PushKind::Data {
            return Err(CannotSend::Payload(
                "Meizu shows alerts only; data waits for the device's connection",
            ));
        }
        push.tokens().try_for_each(no_comma)?;
        let ttl_s = ttl_s(push, now_ms, TTL_MAX_H * 3600)?;
        let (message, is_text_cut, is_data_cut) = self.message(push, ttl_s)?;
        let (app_id, message, push_ids) = (self.app_id.to_string(), message.to_string(), joined(push));
        let signed = [("appId", app_id.as_str()), ("messageJson", &message), ("pushIds", &push_ids)];
        let sign = sign(&signed, self.app_secret.reveal());
        let mut fields = signed.to_vec();
        fields.push(("sign", &sign));
        let uri = format!("{}/garcia/api/server/push/varnished/pushByPushId", self.base());
        let mut request = post_form(&uri, &fields)?;
        note(&mut request, shortened(is_text_cut, is_data_cut));
        Ok(request)
    }

    fn verdict(&self, answer: &Answer, now_ms: u64) -> Verdict {
        let body = json_body(answer);
        let Some(code) = code(&body, "code") else { return by_status(answer, now_ms) };
        let why = words(code, text(&body, "message"));
        match code {
            200 => one_of(body.get("value").unwrap_or(&Value::Null), &body, now_ms),
            500 | 1001 | 1003 => Verdict::Retry { after: None, reason: why },
            110_010 => throttled(Scope::App, why),
            110_019 | 110_051 => throttled(Scope::Day, why),
            1006 | 110_000 | 110_001 | 110_009 | 110_031 | 110_033 | 110_053 => {
                Verdict::ConfigError { reason: why }
            }
            _ => Verdict::PayloadRejected { reason: why },
        }
    }

    fn verdicts(&self, push: &Push, answer: &Answer, now_ms: u64) -> Vec<Verdict> {
        let whole = self.verdict(answer, now_ms);
        let body = json_body(answer);
        if code(&body, "code") != Some(200) || push.token_count() == 1 {
            return batch::all(push, &whole);
        }
        let value = body.get("value").unwrap_or(&Value::Null);
        batch::each(push, |token| match listed_under(value, token) {
            Some(name) => of_listed(name, now_ms),
            None => Verdict::Accepted { vendor_id: text(&body, "msgId") },
        })
    }

    fn receipts(&self, call: &ReceiptCall<'_>) -> Result<Vec<Receipt>, ReceiptRefused> {
        receipt::check_secret(self.receipt_secret.as_ref(), call)?;
        let body = receipt::json_or_form(call, "cb")?;
        let entries = body.as_object().ok_or(ReceiptRefused::Malformed)?;
        receipt::bounded(entries.values().flat_map(read_entry).collect())
    }
}

/// A success lists under codes the push ids that did not get it. We sent to one, so whatever is listed is ours. The
/// same number may mean another thing here than as the code of the answer.
fn one_of(value: &Value, body: &Value, now_ms: u64) -> Verdict {
    let has_some = |list: &Value| list.as_array().is_some_and(|list| !list.is_empty());
    let listed = value.as_object().into_iter().flatten().find(|(_, list)| has_some(list));
    let Some((name, _)) = listed else { return Verdict::Accepted { vendor_id: text(body, "msgId") } };
    of_listed(name, now_ms)
}

/// The code under which an answer lists a push id.
fn listed_under<'v>(value: &'v Value, token: &str) -> Option<&'v str> {
    let has = |list: &Value| list.as_array().is_some_and(|list| list.iter().any(|known| known == token));
    value.as_object()?.iter().find(|(_, list)| has(list)).map(|(name, _)| name.as_str())
}

fn of_listed(name: &str, now_ms: u64) -> Verdict {
    let why = reason(name);
    match name.parse::<i64>() {
        Ok(110_002 | 110_003 | 110_005) => Verdict::TokenDead { since_ms: None, reason: why },
        Ok(110_010 | 520) => Verdict::Filtered { reason: why },
        Ok(110_011) => wait(WallClock::CHINA.until_midnight(now_ms), why),
        Ok(501 | 513 | 519) => Verdict::Retry { after: None, reason: why },
        Ok(201) => Verdict::ConfigError { reason: why },
        Ok(_) | Err(_) => Verdict::PayloadRejected { reason: why },
    }
}

fn read_entry(entry: &Value) -> Vec<Receipt> {
    let told = match code(entry, "type") {
        Some(1) => Told::Delivered,
        Some(2) => Told::Clicked,
        Some(number) => receipt::noted(&number.into()),
        None => receipt::noted(&Value::Null),
    };
    receipt::each(receipt::tokens(entry.get("targets")), entry.get("param"), &told, None)
}

#[cfg(test)]
mod tests;
