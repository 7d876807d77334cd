//! Windows Notification Service: client credentials sign in, then one POST to the channel's address.
//!
//! Rules from Microsoft's "Push notification service request and response headers". See `docs/vendors/wns.md`.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Uri};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::credential::{CredentialError, Secret, check_url, check_way, check_word};
use super::form::{bearer, note, notify_id, post, post_form, ttl_s};
use super::shorten::{Shortened, data_fields, fit};
use super::{
    Account, Answer, CannotSend, Login, LoginStep, Push, PushKind, Scope, Vendor, VendorName, Verdict, oauth,
    reason, retry_after,
};

/// Largest payload, in bytes.
pub const PAYLOAD_MAX: usize = 5000;
/// What XML adds around the text of a toast, and what escaping may add to it.
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

/// A toast that hands `mid` and the data to the app when it is opened. The schema is Microsoft's "toast content".
fn toast(push: &Push) -> Option<(String, Option<Shortened>)> {
    let (parts, shortened) = fit(push, TEXT_MAX, |parts| {
        let data = Value::Object(data_fields(push, parts)).to_string();
        let text = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().unwrap_or_default().to_owned();
        serde_json::json!([text(&parts.title), text(&parts.body), data])
    })?;
    let part = |at: usize| escape(parts.get(at).and_then(Value::as_str).unwrap_or_default());
    let xml = format!(
        "<toast launch=\"{}\"><visual><binding template=\"ToastGeneric\"><text>{}</text><text>{}</text></binding></visual></toast>",
        part(2),
        part(0),
        part(1)
    );
    Some((xml, shortened))
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
        let (kind, content_type, body, shortened) = match push.kind {
            PushKind::Alert => {
                let (xml, shortened) = toast(push).ok_or(TOO_LARGE)?;
                ("wns/toast", "text/xml", Bytes::from(xml), shortened)
            }
            PushKind::Data => {
                let raw = |parts: &super::shorten::Parts<'_>| Value::Object(data_fields(push, parts));
                let (json, shortened) = fit(push, PAYLOAD_MAX, raw).ok_or(TOO_LARGE)?;
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
