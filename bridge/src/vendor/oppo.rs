//! OPPO (HeyTap) Push: a signed login for a day, then forms that carry JSON.
//!
//! Rules from OPPO's "Push server API" and its table of return codes. See `docs/vendors/oppo.md`.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::credential::{CredentialError, Secret, check_receipt_secret, check_way, check_word};
use super::form::{
    by_status, category, code, hex, json_body, note, notify_id, post_form, put, text, throttled, ttl_s, words,
};
use super::receipt::{self, Receipt, ReceiptCall, ReceiptRefused, Told};
use super::shorten::{data_text, shortened, texts};
use super::{
    Account, Answer, CannotSend, DeviceToken, Login, LoginStep, Priority, Push, PushKind, Scope, Vendor,
    VendorName, Verdict, batch, merge, oauth,
};

/// Characters of a title, and of a text in the usual style.
pub const TITLE_MAX: usize = 50;
/// Characters of a text in the style that unfolds.
pub const CONTENT_MAX: usize = 128;
/// Bytes of the app's data.
pub const DATA_MAX: usize = 4000;
/// Longest time that a push is kept, in seconds: ten days.
pub const TTL_MAX_S: u64 = 864_000;
/// Messages in one request. OPPO takes 1,000; each carries the whole content again, so ours keeps a request below some
/// hundred kilobytes.
pub const BATCH_MAX: usize = 100;

/// Where invalid registration ids are told.
const FEED_BASE: &str = "https://feedback.push.oppomobile.com";
/// A login lives for 24 hours; we take a new one earlier, so that a clock a little off does no harm.
const LOGIN_LIFE_S: u64 = 20 * 3600;
/// OPPO's categories: six of service, then four of marketing.
const CATEGORIES: [&str; 10] = [
    "IM",
    "ACCOUNT",
    "DEVICE_REMINDER",
    "ORDER",
    "TODO",
    "SUBSCRIPTION",
    "NEWS",
    "CONTENT",
    "MARKETING",
    "SOCIAL",
];
/// How an alert comes: in the bar; there and on the lock screen; with a banner, vibration and sound besides.
const LEVELS: [u8; 3] = [1, 2, 16];
/// The style whose text unfolds to [`CONTENT_MAX`] characters.
const LONG_TEXT: u8 = 2;

/// Where an app's devices are registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Region {
    /// Mainland China.
    #[default]
    China,
    /// Everywhere else.
    Abroad,
}

impl Region {
    /// A registration id says where it is from: `CN_…` or `X_CN_…`, or one part alone, is China.
    fn of(token: &str) -> Self {
        let parts: Vec<&str> = token.split('_').collect();
        match parts.as_slice() {
            [_] | ["CN", ..] | [_, "CN", ..] => Self::China,
            _ => Self::Abroad,
        }
    }
}

/// An app of OPPO's open platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OppoCredential {
    /// The app key.
    pub app_key: String,
    /// The master secret.
    pub master_secret: Secret,
    /// The notification channel of messages that name none; without either an alert is not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_id: Option<String>,
    /// The category of messages that name none, such as `ORDER`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// How much an alert of high priority may do, of `LEVELS`: 16 needs the right to it, so without this it is 2 as
    /// for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high_level: Option<u8>,
    /// Where the devices are registered.
    #[serde(default)]
    pub region: Region,
    /// Where OPPO reports deliveries, at most 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<String>,
    /// What the address given to the vendor for its receipts ends with, as `?secret=…`: at least 16 characters. Without it
    /// none are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt_secret: Option<Secret>,
    /// Replaces OPPO's address, for proxies and tests: `https://host:port`, or `http` on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Replaces the address of OPPO's feed of invalid registration ids, in the same way; without it `endpoint` counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed_endpoint: Option<String>,
    /// Certificates to trust besides the public ones, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
}

impl OppoCredential {
    fn base(&self) -> &str {
        let usual = match self.region {
            Region::China => "https://api.push.oppomobile.com",
            Region::Abroad => "https://api-intl.push.oppomobile.com",
        };
        self.endpoint.as_deref().map_or(usual, |endpoint| endpoint.trim_end_matches('/'))
    }

    pub(super) fn validate(&self) -> Result<(), CredentialError> {
        check_word("app_key", &self.app_key)?;
        check_word("master_secret", self.master_secret.reveal())?;
        if self.high_level.is_some_and(|level| !LEVELS.contains(&level)) {
            return Err(CredentialError::new("high_level", "is 1, 2 or 16"));
        }
        if let Some(callback) = &self.callback {
            super::credential::check_url("callback", callback, false)?;
            if callback.len() > 200 {
                return Err(CredentialError::new("callback", "has at most 200 characters"));
            }
        }
        check_receipt_secret(self.receipt_secret.as_ref())?;
        if let Some(endpoint) = &self.feed_endpoint {
            super::credential::check_endpoint("feed_endpoint", endpoint, false)?;
        }
        check_way(self.endpoint.as_deref(), self.ca_pem.as_deref())
    }

    /// Whether OPPO has a feed of invalid registration ids for this region: in China only.
    pub(crate) fn has_feed(&self) -> bool {
        self.region == Region::China
    }

    /// Asks for the next invalid registration ids, at most 500. OPPO forgets what it has told.
    pub(crate) fn feed_request(&self, login: Option<&str>) -> Result<Request<Bytes>, CannotSend> {
        let login = login.ok_or(CannotSend::Config("no auth token"))?;
        let base = self.feed_endpoint.as_deref().or(self.endpoint.as_deref()).unwrap_or(FEED_BASE);
        let token: String = form_urlencoded::byte_serialize(login.as_bytes()).collect();
        let path = "/server/v1/feedback/fetch_invalid_regidList";
        Request::get(format!("{}{path}?auth_token={token}", base.trim_end_matches('/')))
            .body(Bytes::new())
            .map_err(|_| CannotSend::Config("the address makes no URL"))
    }

    /// Reads a page of the feed; an empty one is the last. No page tells its form, so every list of texts counts.
    ///
    /// # Errors
    /// The verdict when OPPO does not tell.
    pub(crate) fn read_feed(&self, answer: &Answer, now_ms: u64) -> Result<Vec<String>, Verdict> {
        let body = json_body(answer);
        if code(&body, "code") != Some(0) {
            return Err(self.verdict(answer, now_ms));
        }
        let lists: Vec<&Vec<Value>> = match body.get("data") {
            Some(Value::Array(list)) => vec![list],
            Some(Value::Object(fields)) => fields.values().filter_map(Value::as_array).collect(),
            _ => Vec::new(),
        };
        Ok(lists.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    pub(super) fn summary(&self) -> String {
        format!("oppo, app key {} at {}", self.app_key, self.base())
    }

    fn sign(&self, timestamp: &str) -> String {
        let text = format!("{}{timestamp}{}", self.app_key, self.master_secret.reveal());
        hex(digest(&SHA256, text.as_bytes()).as_ref())
    }

    fn notification(&self, push: &Push, ttl_s: Option<u64>) -> Result<(Value, bool, bool), CannotSend> {
        let texts = texts(push, TITLE_MAX, CONTENT_MAX)
            .ok_or(CannotSend::Payload("an alert needs a title or a body"))?;
        let (parameters, is_data_cut) = data_text(push, DATA_MAX);
        let mut shown = json!({
            "app_message_id": push.id.to_string(), // a repetition of it is delivered once
            "style": if texts.body.chars().count() > TITLE_MAX { LONG_TEXT } else { 1 },
            "title": texts.title,
            "content": texts.body,
            "click_action_type": 0, // opens the app
            "action_parameters": &parameters,
            "off_line": true,
            "notify_id": notify_id(push),
        });
        put(&mut shown, "channel_id", push.channel.as_deref().or(self.channel_id.as_deref()));
        let category = category(push, &CATEGORIES, self.category.as_deref());
        put(&mut shown, "category", category);
        put(&mut shown, "call_back_url", self.callback.as_deref());
        put(
            &mut shown,
            "call_back_parameter",
            self.callback.as_ref().map(|_| push.id.to_string()).as_deref(),
        );
        let Value::Object(fields) = &mut shown else { return Ok((shown, texts.is_cut, is_data_cut)) };
        if category.is_some() {
            fields.insert("notify_level".to_owned(), self.level(push.priority).into()); // only with a category
        }
        if let Some(ttl_s) = ttl_s {
            fields.insert("off_line_ttl".to_owned(), ttl_s.into());
        }
        match push.click.as_deref() {
            Some(url) if url.starts_with("https://") => {
                fields.insert("click_action_type".to_owned(), 2.into());
                fields.insert("click_action_url".to_owned(), url.into());
            }
            Some(intent) => {
                fields.insert("click_action_type".to_owned(), 5.into());
                fields.insert("click_action_url".to_owned(), intent.into());
            }
            None => {}
        }
        if push.overrides.is_object() {
            merge(&mut shown, &push.overrides);
            put(&mut shown, "action_parameters", Some(&parameters)); // `mid` stays ours
        }
        match shown.get("channel_id") {
            Some(_) => Ok((shown, texts.is_cut, is_data_cut)),
            None => Err(CannotSend::Payload(
                "OPPO wants a channel: name one in the message, or `channel_id` in the credential",
            )),
        }
    }

    fn level(&self, priority: Priority) -> u8 {
        match priority {
            Priority::Low => 1,
            Priority::Normal => 2,
            Priority::High => self.high_level.unwrap_or(2),
        }
    }
}

impl Vendor for OppoCredential {
    fn account(&self) -> Option<Account> {
        Some(Account {
            vendor: VendorName::Oppo,
            name: format!("{} {}", self.app_key, self.base()),
            secret: self.master_secret.clone(),
            ca_pem: self.ca_pem.clone(),
            spacing: Duration::ZERO,
        })
    }

    fn login(&self, now_ms: u64) -> Result<LoginStep, CannotSend> {
        let timestamp = now_ms.to_string();
        let sign = self.sign(&timestamp);
        let fields = [("app_key", self.app_key.as_str()), ("timestamp", &timestamp), ("sign", &sign)];
        post_form(&format!("{}/server/v1/auth", self.base()), &fields)
            .map(|request| LoginStep::Ask(Box::new(request)))
    }

    fn read_login(&self, answer: &Answer, now_ms: u64) -> Result<Login, Verdict> {
        let body = json_body(answer);
        let token = body.get("data").and_then(|data| data.get("auth_token")).and_then(Value::as_str);
        match (code(&body, "code"), token) {
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

    fn check_token(&self, token: &DeviceToken) -> Result<(), CannotSend> {
        match Region::of(token.as_str()) == self.region {
            true => Ok(()),
            false => {
                Err(CannotSend::Token("the device is registered in another region than the credential's"))
            }
        }
    }

    fn request(&self, push: &Push, login: Option<&str>, now_ms: u64) -> Result<Request<Bytes>, CannotSend> {
        if push.kind == PushKind::Data {
            return Err(CannotSend::Payload(
                "OPPO shows alerts only; data waits for the device's connection",
            ));
        }
        push.tokens().try_for_each(|token| self.check_token(token))?;
        let login = login.ok_or(CannotSend::Config("no auth token"))?;
        let ttl_s = ttl_s(push, now_ms, TTL_MAX_S)?;
        let (notification, is_text_cut, is_data_cut) = self.notification(push, ttl_s)?;
        let message = |token: &DeviceToken| {
            json!({
                "target_type": 2, // a registration id
                "target_value": token.as_str(),
                "verify_registration_id": false,
                "notification": notification,
            })
        };
        let (call, field, value) = match push.others.is_empty() {
            true => ("unicast", "message", message(&push.token)),
            false => ("unicast_batch", "messages", push.tokens().map(message).collect()),
        };
        let uri = format!("{}/server/v1/message/notification/{call}", self.base());
        let mut request = post_form(&uri, &[("auth_token", login), (field, &value.to_string())])?;
        note(&mut request, shortened(is_text_cut, is_data_cut));
        Ok(request)
    }

    fn verdict(&self, answer: &Answer, now_ms: u64) -> Verdict {
        let body = json_body(answer);
        let Some(code) = code(&body, "code") else { return by_status(answer, now_ms) };
        let vendor_id = body.get("data").and_then(|data| text(data, "messageId"));
        read_code(code, text(&body, "message"), vendor_id)
    }

    fn verdicts(&self, push: &Push, answer: &Answer, now_ms: u64) -> Vec<Verdict> {
        let body = json_body(answer);
        match (code(&body, "code"), body.get("data").and_then(Value::as_array)) {
            (Some(0), Some(told)) => batch::each(push, |token| one_of_many(told, token)),
            _ => batch::all(push, &self.verdict(answer, now_ms)),
        }
    }

    fn receipts(&self, call: &ReceiptCall<'_>) -> Result<Vec<Receipt>, ReceiptRefused> {
        receipt::check_secret(self.receipt_secret.as_ref(), call)?;
        let body: Value = serde_json::from_slice(call.body).map_err(|_| ReceiptRefused::Malformed)?;
        let events = body.as_array().ok_or(ReceiptRefused::Malformed)?;
        receipt::bounded(events.iter().flat_map(read_event).collect())
    }
}

/// OPPO's codes, row by row; see the table in `docs/vendors/oppo.md`.
fn read_code(code: i64, message: Option<String>, vendor_id: Option<String>) -> Verdict {
    let reason = words(code, message);
    match code {
        0 => Verdict::Accepted { vendor_id },
        11 => Verdict::LoginExpired,
        10_000 => Verdict::TokenDead { since_ms: None, reason },
        -2 | 13 | 55 | 69 => throttled(Scope::App, reason),
        33 | 34 | 42 => throttled(Scope::Day, reason),
        -1 => Verdict::Retry { after: None, reason },
        14..=19 | 26..=28 | 30 | 59 | 67 => Verdict::ConfigError { reason },
        _ => Verdict::PayloadRejected { reason },
    }
}

/// What the answer to a batch says of one registration id. One that it leaves out is asked for again: OPPO delivers a
/// message once, however often it is sent.
fn one_of_many(told: &[Value], token: &str) -> Verdict {
    let is_it = |entry: &&Value| entry.get("registrationId").and_then(Value::as_str) == Some(token);
    let Some(entry) = told.iter().find(is_it) else {
        return Verdict::Retry { after: None, reason: "the answer leaves it out".to_owned() };
    };
    let code = code(entry, "errorCode").unwrap_or(0);
    read_code(code, text(entry, "errorMessage"), text(entry, "messageId"))
}

fn read_event(event: &Value) -> Vec<Receipt> {
    let told = match event.get("eventType").and_then(Value::as_str) {
        Some("push_arrive") => Told::Delivered,
        Some("regid_invalid") => Told::TokenDead("regid_invalid".to_owned()),
        Some("user_daily_limit") => Told::NotShown("user_daily_limit".to_owned()),
        Some(other) => receipt::noted(&other.into()),
        None => receipt::noted(&Value::Null),
    };
    let tokens = receipt::tokens(event.get("registrationIds"));
    receipt::each(tokens, event.get("param"), &told, receipt::at_ms(event, "eventTime"))
}

#[cfg(test)]
mod tests;
