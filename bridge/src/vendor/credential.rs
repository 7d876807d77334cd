//! What the operator enters so that an app may push: keys and addresses, checked once.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::apns::ApnsCredential;
use super::fcm::FcmCredential;
use super::harmony::HarmonyCredential;
use super::honor::HonorCredential;
use super::huawei::HuaweiCredential;
use super::meizu::MeizuCredential;
use super::oppo::OppoCredential;
use super::record::RecordCredential;
use super::vivo::VivoCredential;
use super::web_push::WebPushCredential;
use super::webhook::WebhookCredential;
use super::wechat::WechatCredential;
use super::wns::WnsCredential;
use super::xiaomi::XiaomiCredential;
use super::{Vendor, VendorName};
use crate::lane::{Address, CredentialName};

/// An app's credential at one vendor, as JSON with the field `vendor`.
///
/// Serialising it writes the secrets too: that form is for the bridge's own store. For people there is
/// [`Credential::summary`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "vendor", rename_all = "snake_case")]
pub enum Credential {
    /// Apple: a token key.
    Apns(ApnsCredential),
    /// Google: a service account.
    Fcm(FcmCredential),
    /// Huawei, HMS: an app id and secret.
    Huawei(HuaweiCredential),
    /// Huawei, HarmonyOS: a service account.
    Harmony(HarmonyCredential),
    /// HONOR: a client id and secret.
    Honor(HonorCredential),
    /// Xiaomi: an app secret.
    Xiaomi(XiaomiCredential),
    /// OPPO: an app key and master secret.
    Oppo(OppoCredential),
    /// vivo: an app id, key and secret.
    Vivo(VivoCredential),
    /// Meizu: an app id and secret.
    Meizu(MeizuCredential),
    /// Web Push: a VAPID key.
    WebPush(WebPushCredential),
    /// Windows: a client id and secret.
    Wns(WnsCredential),
    /// WeChat: an app id and secret.
    Wechat(WechatCredential),
    /// A server of the operator's own.
    Webhook(WebhookCredential),
    /// No network; answers as told.
    Record(RecordCredential),
}

impl Credential {
    /// Which vendor this is for.
    pub fn vendor_name(&self) -> VendorName {
        match self {
            Self::Apns(_) => VendorName::Apns,
            Self::Fcm(_) => VendorName::Fcm,
            Self::Huawei(_) => VendorName::Huawei,
            Self::Harmony(_) => VendorName::Harmony,
            Self::Honor(_) => VendorName::Honor,
            Self::Xiaomi(_) => VendorName::Xiaomi,
            Self::Oppo(_) => VendorName::Oppo,
            Self::Vivo(_) => VendorName::Vivo,
            Self::Meizu(_) => VendorName::Meizu,
            Self::WebPush(_) => VendorName::WebPush,
            Self::Wns(_) => VendorName::Wns,
            Self::Wechat(_) => VendorName::Wechat,
            Self::Webhook(_) => VendorName::Webhook,
            Self::Record(_) => VendorName::Record,
        }
    }

    /// The rules of that vendor.
    pub fn vendor(&self) -> &dyn Vendor {
        match self {
            Self::Apns(apns) => apns,
            Self::Fcm(fcm) => fcm,
            Self::Huawei(huawei) => huawei,
            Self::Harmony(harmony) => harmony,
            Self::Honor(honor) => honor,
            Self::Xiaomi(xiaomi) => xiaomi,
            Self::Oppo(oppo) => oppo,
            Self::Vivo(vivo) => vivo,
            Self::Meizu(meizu) => meizu,
            Self::WebPush(web_push) => web_push,
            Self::Wns(wns) => wns,
            Self::Wechat(wechat) => wechat,
            Self::Webhook(webhook) => webhook,
            Self::Record(record) => record,
        }
    }

    /// Which device tokens it is for, where the vendor tells them apart.
    pub(crate) fn address(&self, name: CredentialName) -> Address {
        let (environment, bundle_id) = match self {
            Self::Apns(apns) => (Some(apns.environment), Some(apns.bundle_id.clone())),
            Self::Xiaomi(xiaomi) => (None, Some(xiaomi.package.clone())),
            Self::Fcm(_)
            | Self::Huawei(_)
            | Self::Harmony(_)
            | Self::Honor(_)
            | Self::Oppo(_)
            | Self::Vivo(_)
            | Self::Meizu(_)
            | Self::WebPush(_)
            | Self::Wns(_)
            | Self::Wechat(_)
            | Self::Webhook(_)
            | Self::Record(_) => (None, None),
        };
        Address { name, environment, bundle_id }
    }

    /// Checks everything that can be checked without asking the vendor. Call it before keeping a credential.
    ///
    /// # Errors
    /// [`CredentialError`] names the first wrong field.
    pub fn validate(&self) -> Result<(), CredentialError> {
        match self {
            Self::Apns(apns) => apns.validate(),
            Self::Fcm(fcm) => fcm.validate(),
            Self::Huawei(huawei) => huawei.validate(),
            Self::Harmony(harmony) => harmony.validate(),
            Self::Honor(honor) => honor.validate(),
            Self::Xiaomi(xiaomi) => xiaomi.validate(),
            Self::Oppo(oppo) => oppo.validate(),
            Self::Vivo(vivo) => vivo.validate(),
            Self::Meizu(meizu) => meizu.validate(),
            Self::WebPush(web_push) => web_push.validate(),
            Self::Wns(wns) => wns.validate(),
            Self::Wechat(wechat) => wechat.validate(),
            Self::Webhook(webhook) => webhook.validate(),
            Self::Record(record) => record.validate(),
        }
    }

    /// What may be shown: one line without a secret.
    pub fn summary(&self) -> String {
        match self {
            Self::Apns(apns) => apns.summary(),
            Self::Fcm(fcm) => fcm.summary(),
            Self::Huawei(huawei) => huawei.summary(),
            Self::Harmony(harmony) => harmony.summary(),
            Self::Honor(honor) => honor.summary(),
            Self::Xiaomi(xiaomi) => xiaomi.summary(),
            Self::Oppo(oppo) => oppo.summary(),
            Self::Vivo(vivo) => vivo.summary(),
            Self::Meizu(meizu) => meizu.summary(),
            Self::WebPush(web_push) => web_push.summary(),
            Self::Wns(wns) => wns.summary(),
            Self::Wechat(wechat) => wechat.summary(),
            Self::Webhook(webhook) => webhook.summary(),
            Self::Record(record) => record.summary(),
        }
    }
}

/// Which field of a credential is wrong, and how.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct CredentialError {
    /// The JSON field.
    pub field: &'static str,
    /// What is wrong with it; never the value itself.
    pub problem: &'static str,
}

impl CredentialError {
    pub(crate) fn new(field: &'static str, problem: &'static str) -> Self {
        Self { field, problem }
    }
}

/// Which of Apple's two worlds the device tokens come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Apps from the App Store and TestFlight.
    #[default]
    Production,
    /// Apps started from Xcode.
    Sandbox,
}

impl Environment {
    /// The lower-case name that stands in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Sandbox => "sandbox",
        }
    }
}

/// A text that never reaches a log: it is written as `***`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Only for signing and for the request that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Checks an address that replaces the vendor's own: `https`, or `http` to this machine only, without
/// path, query or user, so that a push never leaves in the clear.
pub(super) fn check_endpoint(
    field: &'static str,
    text: &str,
    https_only: bool,
) -> Result<(), CredentialError> {
    let uri = check_url(field, text, https_only)?;
    match uri.path() {
        "" | "/" if uri.query().is_none() => Ok(()),
        _ => Err(CredentialError::new(field, "is an address without a path, such as https://host:443")),
    }
}

/// Checks a URL that secrets are sent to.
pub(super) fn check_url(
    field: &'static str,
    text: &str,
    https_only: bool,
) -> Result<http::Uri, CredentialError> {
    let uri: http::Uri = text.parse().map_err(|_| CredentialError::new(field, "is not a URL"))?;
    let host = uri.host().unwrap_or_default();
    if host.is_empty() || uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(CredentialError::new(field, "must have a host and no user"));
    }
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if !https_only && is_loopback(host) => Ok(uri),
        Some("http") if !https_only => {
            Err(CredentialError::new(field, "http is allowed to this machine only; use https"))
        }
        _ => Err(CredentialError::new(field, "must begin with https://")),
    }
}

pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Checks that a field of a vendor's form holds 1 to 256 printable ASCII characters without spaces.
pub(super) fn check_word(field: &'static str, text: &str) -> Result<(), CredentialError> {
    match text.len() {
        1..=256 if text.bytes().all(|b| b.is_ascii_graphic()) => Ok(()),
        _ => Err(CredentialError::new(field, "has 1 to 256 printable ASCII characters without spaces")),
    }
}

/// Checks a secret that stands in an address: nobody guesses 16 characters.
pub(super) fn check_receipt_secret(secret: Option<&Secret>) -> Result<(), CredentialError> {
    let Some(secret) = secret else { return Ok(()) };
    let is_plain = secret.reveal().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    match secret.reveal().len() {
        16..=256 if is_plain => Ok(()),
        _ => Err(CredentialError::new("receipt_secret", "has 16 to 256 letters, digits, - and _")),
    }
}

/// Checks what every vendor's credential may have: an address that replaces the vendor's, and certificates.
pub(super) fn check_way(endpoint: Option<&str>, ca_pem: Option<&str>) -> Result<(), CredentialError> {
    if let Some(endpoint) = endpoint {
        check_endpoint("endpoint", endpoint, false)?;
    }
    check_ca(ca_pem)
}

/// Checks that a PEM text holds at least one certificate.
pub(crate) fn check_ca(pem: Option<&str>) -> Result<(), CredentialError> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let Some(pem) = pem else { return Ok(()) };
    match CertificateDer::pem_slice_iter(pem.as_bytes()).next() {
        Some(Ok(_)) => Ok(()),
        _ => Err(CredentialError::new("ca_pem", "holds no PEM certificate")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new("p8");
        assert_eq!(format!("{secret:?} {secret}"), "*** ***");
        assert_eq!(secret.reveal(), "p8");
    }

    #[test]
    fn an_endpoint_is_https_or_local() {
        for good in [
            "https://push.example:2197",
            "https://h",
            "http://127.0.0.1:1",
            "http://localhost:9/",
            "http://[::1]:9",
        ] {
            assert_eq!(check_endpoint("endpoint", good, false), Ok(()), "{good}");
        }
        for bad in [
            "",
            "push.example",
            "http://push.example",
            "ftp://127.0.0.1",
            "https://u:p@h",
            "https://h/path",
            "https://h/?q",
            "http://10.0.0.1",
        ] {
            assert!(check_endpoint("endpoint", bad, false).is_err(), "{bad}");
        }
        assert!(check_endpoint("endpoint", "http://127.0.0.1:1", true).is_err());
    }

    #[test]
    fn a_trusted_certificate_is_pem() {
        assert_eq!(check_ca(None), Ok(()));
        for bad in ["", "hello", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"] {
            assert_eq!(check_ca(Some(bad)).unwrap_err().field, "ca_pem", "{bad}");
        }
    }

    #[test]
    fn an_unknown_vendor_or_field_is_an_error() {
        for bad in [r#"{"vendor":"pager"}"#, r#"{"vendor":"record","answer":[]}"#, r#"{"answers":[]}"#] {
            assert!(serde_json::from_str::<Credential>(bad).is_err(), "{bad}");
        }
        let record: Credential = serde_json::from_str(r#"{"vendor":"record"}"#).unwrap();
        assert_eq!(record.vendor_name(), VendorName::Record);
    }
}
