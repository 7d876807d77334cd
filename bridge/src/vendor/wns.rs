//! Windows Notification Service: client credentials sign in, then one POST to the channel's address.
//!
//! Rules from Microsoft's "Push notification service request and response headers". See `docs/vendors/wns.md`.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Uri};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::credential::{CredentialError, Secret, check_url, check_way, check_word};
use super::form::{bearer, is_quiet, need_text, note, notify_id, post, post_form, put, ttl_s};
use super::shorten::{Parts, data_fields, fit};
use super::{
    Account, Answer, CannotSend, Login, LoginStep, Push, PushKind, Scope, Vendor, VendorName, Verdict, merge,
    oauth, reason, retry_after,
};

/// Largest payload, in bytes.
pub const PAYLOAD_MAX: usize = 5000;
/// Bytes of what a toast shows, as JSON: leaves room for XML around it and for what escaping adds.
const TEXT_MAX: usize = 2000;
/// Longest time that a push is kept, in seconds. Microsoft names no bound; a channel lives for about 30 days.
pub const TTL_MAX_S: u64 = 2_592_000;

const LOGIN: &str = "https://login.live.com/accesstoken.srf";
const HOST_END: &str = ".notify.windows.com";

/// An app of the Microsoft store, or one registered in Entra ID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WnsCredential {
    /// The package SID, or the application id in Entra ID.
    pub client_id: String,
    /// The client secret.
    pub client_secret: Secret,
    /// The tenant in Entra ID, for apps of the Windows App SDK; without one the store's login is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Replaces the host of every channel, for proxies and tests: `https://host:port`, or `http` on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Replaces Microsoft's address for signing in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_uri: Option<String>,
    /// Certificates to trust besides the public ones, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
}

impl WnsCredential {
    fn token_uri(&self) -> String {
        match (&self.token_uri, &self.tenant) {
            (Some(uri), _) => uri.clone(),
            (None, Some(tenant)) => format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"),
            (None, None) => LOGIN.to_owned(),
        }
    }

    pub(super) fn validate(&self) -> Result<(), CredentialError> {
        check_word("client_id", &self.client_id)?;
        check_word("client_secret", self.client_secret.reveal())?;
        let in_tenant = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        if self.tenant.as_ref().is_some_and(|tenant| tenant.is_empty() || !tenant.bytes().all(in_tenant)) {
            return Err(CredentialError::new("tenant", "is the id or domain of the tenant"));
        }
        check_url("token_uri", &self.token_uri(), false)?;
        check_way(self.endpoint.as_deref(), self.ca_pem.as_deref())
    }

    pub(super) fn summary(&self) -> String {
        format!("wns, client {}", self.client_id)
    }

    /// A channel's address comes from the device: it is called only at Microsoft's hosts.
    fn address(&self, channel: &str) -> Result<String, CannotSend> {
        const NO_CHANNEL: CannotSend = CannotSend::Token("the device token is no channel address of Windows");
        let uri: Uri = channel.parse().map_err(|_| NO_CHANNEL)?;
        let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        if uri.scheme_str() != Some("https")
            || !authority.ends_with(HOST_END)
            || authority.contains(['@', ':'])
        {
            return Err(NO_CHANNEL);
        }
        let Some(endpoint) = &self.endpoint else { return Ok(channel.to_owned()) };
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        Ok(format!("{}{path}", endpoint.trim_end_matches('/')))
    }
}

/// What a toast shows, before it is XML. The overrides may say everything but the data.
fn shown(push: &Push, parts: &Parts<'_>) -> Value {
    let mut shown = json!({"silent": is_quiet(push)});
    put(&mut shown, "title", parts.title.as_deref());
    put(&mut shown, "body", parts.body.as_deref());
    if parts.has_extras {
        put(&mut shown, "image", push.image.as_deref());
        put(&mut shown, "sound", push.sound.as_deref().filter(|sound| *sound != "default"));
        put(&mut shown, "click", push.click.as_deref());
        if push.overrides.is_object() {
            merge(&mut shown, &push.overrides);
        }
    }
    if let Value::Object(fields) = &mut shown {
        fields.insert("data".to_owned(), Value::Object(data_fields(push, parts)));
    }
    shown
}

/// The schema is Microsoft's "toast content".
fn toast(shown: &Value) -> String {
    let given = |name: &str| shown.get(name).and_then(Value::as_str);
    let text = |name: &str| escape(given(name).unwrap_or_default());
    let attribute = |name: &str, value: Option<&str>| {
        value.map_or(String::new(), |value| format!(" {name}=\"{}\"", escape(value)))
    };
    let image = attribute("src", given("image"));
    let image = if image.is_empty() { image } else { format!("<image placement=\"hero\"{image}/>") };
    format!(
        "<toast{}{}><visual><binding template=\"ToastGeneric\"><text>{}</text><text>{}</text>{image}</binding></visual>{}</toast>",
        launch(shown),
        attribute("scenario", given("scenario")),
        text("title"),
        text("body"),
        audio(given("sound"), shown.get("silent") == Some(&Value::Bool(true))),
    )
}

/// A web address is opened by the browser; else the app is started with the data, and what else was to be opened.
fn launch(shown: &Value) -> String {
    let click = shown.get("click").and_then(Value::as_str);
    if let Some(url) = click.filter(|url| url.starts_with("https://")) {
        return format!(" activationType=\"protocol\" launch=\"{}\"", escape(url));
    }
    let mut data = shown.get("data").cloned().unwrap_or_default();
    if let (Value::Object(fields), Some(click)) = (&mut data, click) {
        fields.entry("click").or_insert_with(|| click.into());
    }
    format!(" launch=\"{}\"", escape(&data.to_string()))
}

/// A sound of Windows' (`ms-winsoundevent:…`) or a file of the app.
fn audio(sound: Option<&str>, is_silent: bool) -> String {
    match sound {
        None if is_silent => "<audio silent=\"true\"/>".to_owned(),
        None => String::new(),
        Some(own) if own.starts_with("ms-") => format!("<audio src=\"{}\"/>", escape(own)),
        Some(file) => format!("<audio src=\"ms-appx:///Assets/{}\"/>", escape(file)),
    }
}

/// The data of a push for the app alone.
fn raw(push: &Push, parts: &Parts<'_>) -> Value {
    let mut data = Value::Object(data_fields(push, parts));
    if parts.has_extras && push.overrides.is_object() {
        merge(&mut data, &push.overrides);
    }
    put(&mut data, "mid", Some(&push.id.to_string()));
    data
}

/// The five characters that XML reserves; what XML cannot carry at all is left out.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\t' | '\n' | '\r' => escaped.push(character),
            control if control.is_control() => {}
            other => escaped.push(other),
        }
    }
    escaped
}

impl Vendor for WnsCredential {
    fn account(&self) -> Option<Account> {
        Some(Account {
            vendor: VendorName::Wns,
            name: format!("{} {}", self.client_id, self.token_uri()),
            secret: self.client_secret.clone(),
            ca_pem: self.ca_pem.clone(),
            spacing: Duration::ZERO,
        })
    }

    fn login(&self, _now_ms: u64) -> Result<LoginStep, CannotSend> {
        let scope =
            if self.tenant.is_some() { "https://wns.windows.com/.default" } else { "notify.windows.com" };
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", self.client_id.as_str()),
            ("client_secret", self.client_secret.reveal()),
            ("scope", scope),
        ];
        post_form(&self.token_uri(), &fields).map(|request| LoginStep::Ask(Box::new(request)))
    }

    fn read_login(&self, answer: &Answer, now_ms: u64) -> Result<Login, Verdict> {
        oauth::read_login(answer, now_ms)
    }

    fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    fn request(&self, push: &Push, login: Option<&str>, now_ms: u64) -> Result<Request<Bytes>, CannotSend> {
        let uri = self.address(push.token.as_str())?;
        let ttl_s = ttl_s(push, now_ms, TTL_MAX_S)?;
        const TOO_LARGE: CannotSend = CannotSend::Payload("message is too large");
        need_text(push)?;
        let mut group = None;
        let (kind, content_type, body, shortened) = match push.kind {
            PushKind::Alert => {
                let (shown, shortened) = fit(push, TEXT_MAX, |parts| shown(push, parts)).ok_or(TOO_LARGE)?;
                group = shown.get("group").and_then(Value::as_str).map(str::to_owned);
                ("wns/toast", "text/xml", Bytes::from(toast(&shown)), shortened)
            }
            PushKind::Data => {
                let (json, shortened) = fit(push, PAYLOAD_MAX, |parts| raw(push, parts)).ok_or(TOO_LARGE)?;
                ("wns/raw", "application/octet-stream", Bytes::from(json.to_string()), shortened)
            }
        };
        if body.len() > PAYLOAD_MAX {
            return Err(TOO_LARGE);
        }
        let mut request = post(&uri, content_type, body)?;
        let headers = request.headers_mut();
        headers.insert(HeaderName::from_static("x-wns-type"), HeaderValue::from_static(kind));
        headers.insert(HeaderName::from_static("x-wns-requestforstatus"), HeaderValue::from_static("true"));
        headers.insert(HeaderName::from_static("x-wns-cache-policy"), HeaderValue::from_static("cache"));
        if let Some(ttl_s) = ttl_s {
            headers.insert(HeaderName::from_static("x-wns-ttl"), HeaderValue::from(ttl_s));
        }
        if push.kind == PushKind::Alert {
            headers.insert(HeaderName::from_static("x-wns-tag"), HeaderValue::from(notify_id(push)));
        }
        if let Some(group) = group {
            let group = HeaderValue::from_str(&group)
                .map_err(|_| CannotSend::Payload("the group of the overrides is not plain text"))?;
            headers.insert(HeaderName::from_static("x-wns-group"), group);
        }
        bearer(&mut request, login)?;
        note(&mut request, shortened);
        Ok(request)
    }

    fn verdict(&self, answer: &Answer, now_ms: u64) -> Verdict {
        let header = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
        let words = header("x-wns-error-description").unwrap_or_default();
        let why = reason(format!("{} {words}", answer.status).trim());
        let after = retry_after(&answer.headers, now_ms);
        match (answer.status, header("x-wns-notificationstatus")) {
            (200, Some("dropped")) => Verdict::Filtered { reason: "dropped".to_owned() },
            (200, Some("channelthrottled")) => {
                Verdict::Throttled { scope: Scope::Token, after, reason: "channelthrottled".to_owned() }
            }
            (200, _) => Verdict::Accepted { vendor_id: header("x-wns-msg-id").map(reason) },
            (401, _) => Verdict::LoginExpired,
            (403, _) => Verdict::TokenMismatch { reason: why },
            (404 | 410, _) => Verdict::TokenDead { since_ms: None, reason: why },
            (406 | 429, _) => Verdict::Throttled { scope: Scope::App, after, reason: why },
            (408 | 500..=599, _) => Verdict::Retry { after, reason: why },
            (400..=499, _) => Verdict::PayloadRejected { reason: why },
            _ => Verdict::Retry { after, reason: why },
        }
    }
}

#[cfg(test)]
mod tests;
