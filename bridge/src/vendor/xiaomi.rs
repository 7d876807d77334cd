//! Xiaomi MiPush: a form with the app secret in a header; no login.
//!
//! Rules from Xiaomi's "Push server API" and its table of error codes. See `docs/vendors/xiaomi.md`.

use bytes::Bytes;
use http::Request;
use http::header::AUTHORIZATION;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::credential::{CredentialError, Secret, check_receipt_secret, check_way, check_word};
use super::form::{
    by_status, code, is_quiet, joined, json_body, no_comma, note, notify_id, post_form, raw_sound,
    secret_header, text, throttled, ttl_s, words,
};
use super::receipt::{self, Receipt, ReceiptCall, ReceiptRefused, Told};
use super::shorten::{data_text, shortened, texts};
use super::{Answer, CannotSend, DeviceToken, Push, PushKind, Scope, Vendor, Verdict};

/// Characters of a title and of a description, whatever their script: fewer than 50 and 128.
pub const TITLE_MAX: usize = 49;
/// See above.
pub const DESCRIPTION_MAX: usize = 127;
/// Bytes of the payload: less than 4 KB.
pub const PAYLOAD_MAX: usize = 4095;
/// Longest time that a push is kept, in seconds: ten days for private messages; Xiaomi shortens that of public ones.
pub const TTL_MAX_S: u64 = 864_000;
/// Registration ids in one request.
pub const BATCH_MAX: usize = 1000;

/// Shows, sounds and vibrates as the device is set.
const NOTIFY_TYPE_ALL: &str = "-1";
/// Shows with the light alone.
const NOTIFY_TYPE_QUIET: &str = "4";
const CHANNEL: &str = "extra.channel_id";
/// Letters of a `jobkey`, of which the device shows the first one only.
const JOBKEY_MAX: usize = 20;

/// Where an app's devices are registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Region {
    /// Mainland China.
    #[default]
    China,
    /// The world beside the others.
    Global,
    /// Russia.
    Russia,
    /// India.
    India,
    /// Europe.
    Europe,
    /// Singapore.
    Singapore,
}

/// An app of Xiaomi's developer console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct XiaomiCredential {
    /// The app secret.
    pub app_secret: Secret,
    /// The app's package name.
    pub package: String,
    /// The notification class of messages that name no channel. China's class rules of 2024 want one with every alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_id: Option<String>,
    /// The app is under the older rules: its alerts need no channel.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_classless: bool,
    /// Where the devices are registered.
    #[serde(default)]
    pub region: Region,
    /// Where Xiaomi reports deliveries, at most 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<String>,
    /// What the address given to the vendor for its receipts ends with, as `?secret=…`: at least 16 characters. Without it
    /// none are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt_secret: Option<Secret>,
    /// Replaces Xiaomi's address, for proxies and tests: `https://host:port`, or `http` on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Certificates to trust besides the public ones, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
}

impl XiaomiCredential {
    fn base(&self) -> &str {
        let usual = match self.region {
            Region::China => "https://api.xmpush.xiaomi.com",
            Region::Global => "https://api.xmpush.global.xiaomi.com",
            Region::Russia => "https://ru-api.xmpush.global.xiaomi.com",
            Region::India => "https://idmb-api.xmpush.global.xiaomi.com",
            Region::Europe => "https://fr-api.xmpush.global.xiaomi.com",
            Region::Singapore => "https://sgp-api.xmpush.global.xiaomi.com",
        };
        self.endpoint.as_deref().map_or(usual, |endpoint| endpoint.trim_end_matches('/'))
    }

    pub(super) fn validate(&self) -> Result<(), CredentialError> {
        check_word("app_secret", self.app_secret.reveal())?;
        check_word("package", &self.package)?;
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
        format!("xiaomi, {} at {}", self.package, self.base())
    }

    /// The fields that both kinds have, with what the app put into `extra.*`.
    fn extras(&self, push: &Push) -> Vec<(String, String)> {
        let mid = push.id.to_string();
        let jobkey: String = mid.chars().filter(char::is_ascii_alphanumeric).take(JOBKEY_MAX).collect();
        let mut extras = vec![("extra.jobkey".to_owned(), jobkey)];
        if let Some(channel) = push.channel.as_ref().or(self.channel_id.as_ref()) {
            extras.push((CHANNEL.to_owned(), channel.clone()));
        }
        if let Some(callback) = &self.callback {
            extras.push(("extra.callback".to_owned(), callback.clone()));
            extras.push(("extra.callback.param".to_owned(), mid));
            // Delivered, clicked, push switched off, filtered, target invalid, quota: all but an undocumented sum.
            extras.push(("extra.callback.type".to_owned(), "243".to_owned()));
        }
        if let Some(sound) = raw_sound(push) {
            let uri = format!("android.resource://{}/raw/{sound}", self.package);
            extras.push(("extra.sound_uri".to_owned(), uri));
        }
        match push.click.as_deref() {
            Some(url) if url.starts_with("https://") => {
                extras.push(("extra.notify_effect".to_owned(), "3".to_owned()));
                extras.push(("extra.web_uri".to_owned(), url.to_owned()));
            }
            Some(intent) => {
                extras.push(("extra.notify_effect".to_owned(), "2".to_owned()));
                extras.push(("extra.intent_uri".to_owned(), intent.to_owned()));
            }
            None => extras.push(("extra.notify_effect".to_owned(), "1".to_owned())),
        }
        extras
    }
}

impl XiaomiCredential {
    /// Refuses an alert that Xiaomi would refuse for its missing channel, whoever was to name it.
    fn check_channel(&self, push: &Push, fields: &[(String, String)]) -> Result<(), CannotSend> {
        let is_needed = push.kind == PushKind::Alert && self.region == Region::China && !self.is_classless;
        match is_needed && !fields.iter().any(|(name, value)| name == CHANNEL && !value.is_empty()) {
            true => Err(CannotSend::Payload(
                "Xiaomi wants a channel: name one in the message, or `channel_id` in the credential",
            )),
            false => Ok(()),
        }
    }
}

/// Overrides are form fields; the address, the app and what carries `mid` stay ours.
fn override_fields(fields: &mut Vec<(String, String)>, overrides: &Value) {
    const OURS: [&str; 3] = ["registration_id", "restricted_package_name", "payload"];
    let Value::Object(overrides) = overrides else { return };
    for (name, value) in overrides.iter().filter(|(name, _)| !OURS.contains(&name.as_str())) {
        fields.retain(|(known, _)| known != name);
        match value {
            Value::Null => {}
            Value::String(text) => fields.push((name.clone(), text.clone())),
            other => fields.push((name.clone(), other.to_string())),
        }
    }
}

impl Vendor for XiaomiCredential {
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
        push.tokens().try_for_each(no_comma)?;
        let ttl_s = ttl_s(push, now_ms, TTL_MAX_S)?;
        let (payload, is_data_cut) = data_text(push, PAYLOAD_MAX);
        let mut fields = vec![
            ("registration_id".to_owned(), joined(push)),
            ("restricted_package_name".to_owned(), self.package.clone()),
            ("payload".to_owned(), payload),
        ];
        let mut is_text_cut = false;
        match push.kind {
            PushKind::Data => fields.push(("pass_through".to_owned(), "1".to_owned())),
            PushKind::Alert => {
                let texts = texts(push, TITLE_MAX, DESCRIPTION_MAX)
                    .ok_or(CannotSend::Payload("an alert needs a title or a body"))?;
                is_text_cut = texts.is_cut;
                let notify_type = if is_quiet(push) { NOTIFY_TYPE_QUIET } else { NOTIFY_TYPE_ALL };
                fields.push(("pass_through".to_owned(), "0".to_owned()));
                fields.push(("title".to_owned(), texts.title));
                fields.push(("description".to_owned(), texts.body));
                fields.push(("notify_type".to_owned(), notify_type.to_owned()));
                fields.push(("notify_id".to_owned(), notify_id(push).to_string()));
            }
        }
        if let Some(ttl_s) = ttl_s {
            fields.push(("time_to_live".to_owned(), (ttl_s * 1000).to_string())); // milliseconds
        }
        fields.extend(self.extras(push));
        override_fields(&mut fields, &push.overrides);
        self.check_channel(push, &fields)?;
        let fields: Vec<(&str, &str)> =
            fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut request = post_form(&format!("{}/v3/message/regid", self.base()), &fields)?;
        secret_header(&mut request, AUTHORIZATION, &format!("key={}", self.app_secret.reveal()))?;
        note(&mut request, shortened(is_text_cut, is_data_cut));
        Ok(request)
    }

    fn verdict(&self, answer: &Answer, now_ms: u64) -> Verdict {
        let body = json_body(answer);
        let Some(code) = code(&body, "code") else { return by_status(answer, now_ms) };
        let message = text(&body, "reason").or_else(|| text(&body, "description"));
        let reason = words(code, message);
        match code {
            0 => Verdict::Accepted { vendor_id: body.get("data").and_then(|data| text(data, "id")) },
            10_029 | 65_003 | 66_007 => Verdict::TokenDead { since_ms: None, reason },
            10_027 | 200_002 => throttled(Scope::App, reason),
            10_034 | 200_001 => throttled(Scope::Day, reason),
            1 | 10_001 | 10_002 | 10_003 | 20_301 | 22_102 | 26_003 | 65_029 => {
                Verdict::Retry { after: None, reason }
            }
            10_031 | 10_036 | 21_301..=21_303 | 22_000 | 22_006 | 22_007 | 22_022 | 26_006 | 27_001 => {
                Verdict::ConfigError { reason }
            }
            _ => Verdict::PayloadRejected { reason },
        }
    }

    fn receipts(&self, call: &ReceiptCall<'_>) -> Result<Vec<Receipt>, ReceiptRefused> {
        receipt::check_secret(self.receipt_secret.as_ref(), call)?;
        let body = receipt::json_or_form(call, "data")?;
        let entries = body.as_object().ok_or(ReceiptRefused::Malformed)?;
        receipt::bounded(entries.values().flat_map(read_entry).collect())
    }
}

fn read_entry(entry: &Value) -> Vec<Receipt> {
    let told = match code(entry, "type") {
        Some(1) => Told::Delivered,
        Some(2) => Told::Clicked,
        Some(16) => Told::TokenDead("the target is invalid".to_owned()),
        Some(32) => Told::NotShown("push is switched off on the device".to_owned()),
        Some(64) => Told::NotShown("filtered out by its conditions".to_owned()),
        Some(128) => Told::NotShown("the day's quota is used up".to_owned()),
        Some(number) => receipt::noted(&number.into()),
        None => receipt::noted(&Value::Null),
    };
    let tokens = receipt::tokens(entry.get("targets"));
    receipt::each(tokens, entry.get("param"), &told, receipt::at_ms(entry, "timestamp"))
}

#[cfg(test)]
mod tests;
