//! WeChat mini-program subscribe messages: a login in the address, then one POST per user.
//!
//! Rules from WeChat's "subscribeMessage.send". See `docs/vendors/wechat.md`. WeChat shows a template's fields and
//! nothing else, so the credential says which of them carry title and body.

mod events;

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::credential::{CredentialError, Secret, check_way, check_word};
use super::form::{by_status, code, json_body, note, post_json, text, throttled, ttl_s, words};
use super::receipt::{Receipt, ReceiptCall, ReceiptRefused};
use super::shorten::{cut_chars, shortened, texts};
use super::{
    Account, Answer, CannotSend, Login, LoginStep, Push, PushKind, Scope, Vendor, VendorName, Verdict, merge,
    oauth,
};

/// Characters of a template's field of the kind `thing`.
pub const THING_MAX: usize = 20;
/// Characters of a field of the kind `character_string`.
pub const CHARACTER_STRING_MAX: usize = 32;

const BASE: &str = "https://api.weixin.qq.com";

/// A mini-program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WechatCredential {
    /// The mini-program's app id.
    pub app_id: String,
    /// The app secret.
    pub app_secret: Secret,
    /// The template of messages whose overrides name none.
    pub template_id: String,
    /// The template's field that carries the title, such as `thing1`.
    pub title_field: String,
    /// The template's field that carries the body, such as `thing2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_field: Option<String>,
    /// Which release opens: `formal` (usual), `trial` or `developer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The token entered for the message push, 3 to 32 letters and digits. Without it no events are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_token: Option<Secret>,
    /// The key entered there (EncodingAESKey), 43 letters and digits. With it only encrypted events are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_key: Option<Secret>,
    /// Replaces WeChat's address, for proxies and tests: `https://host:port`, or `http` on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Certificates to trust besides the public ones, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
}

impl WechatCredential {
    fn base(&self) -> &str {
        self.endpoint.as_deref().map_or(BASE, |endpoint| endpoint.trim_end_matches('/'))
    }

    pub(super) fn validate(&self) -> Result<(), CredentialError> {
        check_word("app_id", &self.app_id)?;
        check_word("app_secret", self.app_secret.reveal())?;
        check_word("template_id", &self.template_id)?;
        check_word("title_field", &self.title_field)?;
        if let Some(body_field) = &self.body_field {
            check_word("body_field", body_field)?;
        }
        if self.state.as_deref().is_some_and(|state| !["formal", "trial", "developer"].contains(&state)) {
            return Err(CredentialError::new("state", "is formal, trial or developer"));
        }
        self.check_events()?;
        check_way(self.endpoint.as_deref(), self.ca_pem.as_deref())
    }

    fn check_events(&self) -> Result<(), CredentialError> {
        let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric());
        if let Some(token) = &self.event_token
            && (!(3..=32).contains(&token.reveal().len()) || !is_plain(token.reveal()))
        {
            return Err(CredentialError::new("event_token", "has 3 to 32 letters and digits"));
        }
        let Some(key) = &self.event_key else { return Ok(()) };
        if self.event_token.is_none() {
            return Err(CredentialError::new("event_key", "is of no use without event_token"));
        }
        match key.reveal().len() {
            events::KEY_CHARS if events::key_bytes(key.reveal()).is_some() => Ok(()),
            _ => Err(CredentialError::new("event_key", "has 43 letters and digits")),
        }
    }

    pub(super) fn summary(&self) -> String {
        format!("wechat, app {}, template {} at {}", self.app_id, self.template_id, self.base())
    }

    fn body(&self, push: &Push) -> Result<(Value, bool), CannotSend> {
        let whole = texts(push, usize::MAX, usize::MAX)
            .ok_or(CannotSend::Payload("an alert needs a title or a body"))?;
        let mut data = Map::new();
        let mut is_cut = false;
        let mut carry = |field: &String, text: &str| {
            let cut = cut_chars(text, field_max(field));
            is_cut |= cut != text;
            data.insert(field.clone(), json!({ "value": cut }));
        };
        carry(&self.title_field, &whole.title);
        if let Some(field) = &self.body_field {
            carry(field, &whole.body);
        }
        let mut body = json!({
            "template_id": self.template_id,
            "miniprogram_state": self.state.as_deref().unwrap_or("formal"),
            "data": data,
        });
        super::form::put(&mut body, "page", push.click.as_deref());
        if push.overrides.is_object() {
            merge(&mut body, &push.overrides);
        }
        if let Value::Object(fields) = &mut body {
            fields.insert("touser".to_owned(), push.token.as_str().into());
        }
        Ok((body, is_cut))
    }
}

/// A field's name begins with its kind.
fn field_max(field: &str) -> usize {
    if field.starts_with("character_string") { CHARACTER_STRING_MAX } else { THING_MAX }
}

/// A text for a query.
fn escaped(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

impl Vendor for WechatCredential {
    fn account(&self) -> Option<Account> {
        Some(Account {
            vendor: VendorName::Wechat,
            name: format!("{} {}", self.app_id, self.base()),
            secret: self.app_secret.clone(),
            ca_pem: self.ca_pem.clone(),
            spacing: Duration::ZERO,
        })
    }

    /// A second login ends the first, so nothing else may sign in with the same secret.
    fn login(&self, _now_ms: u64) -> Result<LoginStep, CannotSend> {
        let uri = format!(
            "{}/cgi-bin/token?grant_type=client_credential&appid={}&secret={}",
            self.base(),
            escaped(&self.app_id),
            escaped(self.app_secret.reveal())
        );
        Request::builder()
            .method(Method::GET)
            .uri(uri)
            .body(Bytes::new())
            .map(|request| LoginStep::Ask(Box::new(request)))
            .map_err(|_| CannotSend::Config("the address makes no URL"))
    }

    fn read_login(&self, answer: &Answer, now_ms: u64) -> Result<Login, Verdict> {
        let body = json_body(answer);
        match code(&body, "errcode") {
            None | Some(0) => oauth::read_login(answer, now_ms),
            Some(-1) => Err(Verdict::Retry { after: None, reason: words(-1, text(&body, "errmsg")) }),
            Some(code) => Err(Verdict::ConfigError { reason: words(code, text(&body, "errmsg")) }),
        }
    }

    fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    fn request(&self, push: &Push, login: Option<&str>, now_ms: u64) -> Result<Request<Bytes>, CannotSend> {
        if push.kind == PushKind::Data {
            return Err(CannotSend::Payload(
                "WeChat shows templates only; data waits for the device's connection",
            ));
        }
        ttl_s(push, now_ms, u64::MAX)?;
        let login = login.ok_or(CannotSend::Config("no access token"))?;
        let (body, is_cut) = self.body(push)?;
        let uri = format!("{}/cgi-bin/message/subscribe/send?access_token={}", self.base(), escaped(login));
        let mut request = post_json(&uri, &body)?;
        note(&mut request, shortened(is_cut, false));
        Ok(request)
    }

    fn verdict(&self, answer: &Answer, now_ms: u64) -> Verdict {
        let body = json_body(answer);
        let Some(code) = code(&body, "errcode") else { return by_status(answer, now_ms) };
        let reason = words(code, text(&body, "errmsg"));
        match code {
            0 => Verdict::Accepted { vendor_id: text(&body, "msgid") },
            -1 => Verdict::Retry { after: None, reason },
            40_001 | 40_014 | 42_001 => Verdict::LoginExpired,
            40_003 => Verdict::TokenDead { since_ms: None, reason },
            // The user's consent is used up or refused: a new one makes the same token good again.
            43_101 => Verdict::Filtered { reason },
            45_009 => throttled(Scope::Day, reason),
            40_037 | 41_030 => Verdict::ConfigError { reason },
            _ => Verdict::PayloadRejected { reason },
        }
    }

    fn receipts(&self, call: &ReceiptCall<'_>) -> Result<Vec<Receipt>, ReceiptRefused> {
        super::receipt::bounded(events::read(self, call)?)
    }

    fn greeting(&self, call: &ReceiptCall<'_>) -> Result<String, ReceiptRefused> {
        events::greeting(self, call)
    }
}

#[cfg(test)]
mod tests;
