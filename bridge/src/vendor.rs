//! Push services: what we ask them to show, and how we read what they answer. Pure; the I/O is in `sender`.

pub mod apns;
mod batch;
pub mod credential;
pub mod fcm;
pub(crate) mod form;
pub mod harmony;
pub mod honor;
pub mod huawei;
pub mod meizu;
mod oauth;
pub mod oppo;
pub mod receipt;
pub mod record;
pub mod shorten;
#[cfg(test)]
mod testing;
pub mod vivo;
pub mod web_push;
pub mod webhook;
pub mod wechat;
pub mod wns;
pub mod xiaomi;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use reveille_proto::delivery::ReasonFamily;
use reveille_proto::ids::{AppId, MessageId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

pub(crate) use credential::check_ca;
pub use credential::{Credential, CredentialError, Environment, Secret};

/// The push services that this build knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VendorName {
    /// Apple's push service.
    Apns,
    /// Google's Firebase Cloud Messaging, HTTP v1.
    Fcm,
    /// Huawei Push Kit for Android phones with HMS.
    Huawei,
    /// Huawei Push Kit for HarmonyOS 5 and newer, whose tokens and requests are of another kind.
    Harmony,
    /// HONOR Push.
    Honor,
    /// Xiaomi MiPush.
    Xiaomi,
    /// OPPO (HeyTap) Push, also for OnePlus and realme.
    Oppo,
    /// vivo Push, also for iQOO.
    Vivo,
    /// Meizu (Flyme) Push.
    Meizu,
    /// Web Push: browsers, and UnifiedPush.
    WebPush,
    /// Windows Notification Service.
    Wns,
    /// WeChat mini-program subscribe messages.
    Wechat,
    /// A server of the operator's own, asked with a signed request: SMS gateways and others.
    Webhook,
    /// No network: keeps what it would send and answers as told. For demos and tests.
    Record,
}

/// How a vendor takes back a push that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeBack {
    /// By the name that it gave the push: this one and no other, as long as the vendor has it.
    ByName,
    /// Whatever stands in the alert's place on the screen, and what waits for it.
    ByPlace,
    /// It has no call for it; a silent push under the same id takes the alert's place where that waits, and tells the app.
    Silently,
    /// Not at all, as far as its pages say.
    Never,
}

impl VendorName {
    /// Whether a push with the id of an earlier one takes its place, so that the user sees one alert.
    pub fn replaces(self) -> bool {
        self != Self::Wechat // its messages stand in a chat
    }

    /// How it takes back what it has.
    pub fn take_back(self) -> TakeBack {
        match self {
            Self::WebPush => TakeBack::ByName,
            Self::Harmony | Self::Record => TakeBack::ByPlace,
            Self::Apns | Self::Fcm => TakeBack::Silently,
            Self::Huawei | Self::Honor | Self::Xiaomi | Self::Oppo | Self::Vivo | Self::Meizu => {
                TakeBack::Never
            }
            Self::Wns | Self::Wechat | Self::Webhook => TakeBack::Never,
        }
    }

    /// Every vendor, in order.
    pub const ALL: [Self; 14] = [
        Self::Apns,
        Self::Fcm,
        Self::Huawei,
        Self::Harmony,
        Self::Honor,
        Self::Xiaomi,
        Self::Oppo,
        Self::Vivo,
        Self::Meizu,
        Self::WebPush,
        Self::Wns,
        Self::Wechat,
        Self::Webhook,
        Self::Record,
    ];

    /// The lower-case name that stands in URLs, JSON and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apns => "apns",
            Self::Fcm => "fcm",
            Self::Huawei => "huawei",
            Self::Harmony => "harmony",
            Self::Honor => "honor",
            Self::Xiaomi => "xiaomi",
            Self::Oppo => "oppo",
            Self::Vivo => "vivo",
            Self::Meizu => "meizu",
            Self::WebPush => "web_push",
            Self::Wns => "wns",
            Self::Wechat => "wechat",
            Self::Webhook => "webhook",
            Self::Record => "record",
        }
    }
}

impl fmt::Display for VendorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a vendor is one of apns, fcm, huawei, harmony, honor, xiaomi, oppo, vivo, meizu, web_push, wns, wechat, webhook and record"
)]
pub struct UnknownVendor;

impl FromStr for VendorName {
    type Err = UnknownVendor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|vendor| vendor.as_str() == text).ok_or(UnknownVendor)
    }
}

/// A device's address at a vendor: 1 to 4,096 printable ASCII characters without a space.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceToken(Box<str>);

impl DeviceToken {
    /// Longest token that is kept; the longest known (web push) have about 500 bytes.
    pub const LENGTH_MAX: usize = 4096;

    /// Checks the text once.
    ///
    /// # Errors
    /// [`DeviceTokenError`] when it is empty, too long, or has a space, control or non-ASCII character.
    pub fn parse(text: &str) -> Result<Self, DeviceTokenError> {
        if text.is_empty() || text.len() > Self::LENGTH_MAX || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(DeviceTokenError);
        }
        Ok(Self(text.into()))
    }

    /// The whole token, as the vendor gave it to the device.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is not a device token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a device token has 1 to 4,096 printable ASCII characters without spaces")]
pub struct DeviceTokenError;

impl TryFrom<String> for DeviceToken {
    type Error = DeviceTokenError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<DeviceToken> for String {
    fn from(token: DeviceToken) -> Self {
        token.0.into()
    }
}

/// Characters of a device token that are shown: a whole token lets whoever has a key push to the device.
pub(crate) const TOKEN_SHOWN: usize = 8;

/// Shows its beginning only.
impl fmt::Debug for DeviceToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.0.chars().take(TOKEN_SHOWN).collect();
        write!(f, "DeviceToken({shown}…)")
    }
}

/// Who shows the push.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PushKind {
    /// Shown by the system, even when the app does not run.
    #[default]
    Alert,
    /// Handed to the app, which decides what to show.
    Data,
}

/// How much a push may cost the device's battery.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// When the device is awake anyway.
    Low,
    /// The vendor's usual: an alert at once, data when convenient.
    #[default]
    Normal,
    /// At once.
    High,
}

/// One wake-up or alert handed to a vendor for one device.
#[derive(Clone, Debug, PartialEq)]
pub struct Push {
    /// The message's identity; the vendor carries it to the device as `mid`.
    pub id: MessageId,
    /// The tenant.
    pub app: AppId,
    /// Where to.
    pub token: DeviceToken,
    /// Where else to, with the same request: the rest of a batch, for vendors that have them.
    pub others: Vec<DeviceToken>,
    /// Whether the vendor is asked to take it back; see [`Vendor::recall`].
    pub is_recall: bool,
    /// The vendor's name for this push, where it is taken back by it.
    pub vendor_id: Option<String>,
    /// The vendor's name for this message, where it was handed in before; see [`Vendor::deposit`].
    pub deposited_as: Option<String>,
    /// Who shows it.
    pub kind: PushKind,
    /// First line of the alert.
    pub title: Option<String>,
    /// Text of the alert.
    pub body: Option<String>,
    /// The app's own fields. Vendors that carry text only get other JSON values as JSON text.
    pub data: Map<String, Value>,
    /// URL of a picture to show.
    pub image: Option<String>,
    /// Name of a sound file inside the app, or `default`.
    pub sound: Option<String>,
    /// The number on the app's icon; absolute, 0 clears it.
    pub badge: Option<u32>,
    /// By how much it counts up, at vendors whose devices count themselves; never together with `badge`.
    pub badge_add: Option<u32>,
    /// Android notification channel; APNs has none and groups by it (`thread-id`).
    pub channel: Option<String>,
    /// The vendor's or app's category of the message.
    pub category: Option<String>,
    /// What opening the alert does; for Android the click action.
    pub click: Option<String>,
    /// A newer push with the same key replaces the older one.
    pub collapse_key: Option<String>,
    /// Milliseconds since 1970 after which the push is worthless; `None`: the vendor's longest.
    pub expires_at_ms: Option<u64>,
    /// How urgent.
    pub priority: Priority,
    /// The vendor's own fields, merged over the finished JSON as a merge patch (RFC 7396); `Null` for none.
    /// The address and `mid` cannot be overridden. Each page under `docs/vendors` says where the block lands.
    pub overrides: Value,
}

impl Push {
    /// A push with an identity and an address, and everything else left to the defaults.
    pub fn new(id: MessageId, app: AppId, token: DeviceToken) -> Self {
        Self {
            id,
            app,
            token,
            others: Vec::new(),
            is_recall: false,
            vendor_id: None,
            deposited_as: None,
            kind: PushKind::default(),
            title: None,
            body: None,
            data: Map::new(),
            image: None,
            sound: None,
            badge: None,
            badge_add: None,
            channel: None,
            category: None,
            click: None,
            collapse_key: None,
            expires_at_ms: None,
            priority: Priority::default(),
            overrides: Value::Null,
        }
    }

    /// Every device token that it goes to, in the order of the verdicts.
    pub fn tokens(&self) -> impl Iterator<Item = &DeviceToken> {
        std::iter::once(&self.token).chain(&self.others)
    }

    /// What takes its place where no call takes it back: shows nothing, and tells the app with `recalled`.
    pub(crate) fn silent(&self) -> Self {
        let mut silent = Self::new(self.id, self.app.clone(), self.token.clone());
        silent.kind = PushKind::Data;
        silent.data.insert("recalled".to_owned(), "1".into());
        silent
    }

    /// How many device tokens it goes to.
    pub fn token_count(&self) -> usize {
        1 + self.others.len()
    }
}

/// What a throttle covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// This device token only.
    Token,
    /// The whole app at this vendor.
    App,
    /// The app's quota of the day.
    Day,
    /// One network connection to the vendor.
    Connection,
}

/// Our reading of a vendor's answer. Reasons are the vendor's words, cut to [`REASON_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The vendor took it: handed over, which is not yet shown.
    Accepted {
        /// The vendor's own name for the push.
        vendor_id: Option<String>,
    },
    /// The device token is no longer valid.
    TokenDead {
        /// Drop the token only if it was registered before this moment; `None`: drop it anyway.
        since_ms: Option<u64>,
        /// The vendor's words.
        reason: String,
    },
    /// The device token belongs to another app or environment.
    TokenMismatch {
        /// The vendor's words.
        reason: String,
    },
    /// Our login is too old: a fresh one is worth one repeat.
    LoginExpired,
    /// The connection may not be used for this credential any more; a new one may.
    NewConnection {
        /// The vendor's words.
        reason: String,
    },
    /// Too much, too fast.
    Throttled {
        /// What must slow down.
        scope: Scope,
        /// How long the vendor wants us to wait.
        after: Option<Duration>,
        /// The vendor's words.
        reason: String,
    },
    /// The vendor or the way to it had a fault that may pass.
    Retry {
        /// How long the vendor wants us to wait.
        after: Option<Duration>,
        /// The vendor's words, or ours.
        reason: String,
    },
    /// The vendor refuses a batch for the sake of some device token in it and does not say which: each push is to be
    /// sent alone.
    SendAlone {
        /// The vendor's words.
        reason: String,
    },
    /// This push is wrong; the device token is fine.
    PayloadRejected {
        /// The vendor's words, or ours.
        reason: String,
    },
    /// The vendor will not show it to this device, now or later: folded, switched off, an idle device. The push and
    /// the device token are fine.
    Filtered {
        /// The vendor's words.
        reason: String,
    },
    /// The operator must change something: a wrong key, topic or project.
    ConfigError {
        /// The vendor's words, or ours.
        reason: String,
    },
}

/// What vendors say of a push that is larger than they take, in lower case.
const TOO_LONG_WORDS: [&str; 6] = ["toolarge", "too large", "toolong", "too long", "too big", "size limit"];

/// Longest reason that a verdict carries, in bytes.
pub const REASON_MAX: usize = 200;

impl Verdict {
    /// The name of every variant.
    pub const NAMES: [&'static str; 10] = [
        "accepted",
        "token_dead",
        "token_mismatch",
        "login_expired",
        "new_connection",
        "throttled",
        "retry",
        "payload_rejected",
        "filtered",
        "config_error",
    ];

    /// A short name of the variant, for metric labels and delivery records.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::TokenDead { .. } => "token_dead",
            Self::TokenMismatch { .. } => "token_mismatch",
            Self::LoginExpired => "login_expired",
            Self::NewConnection { .. } => "new_connection",
            Self::Throttled { .. } => "throttled",
            Self::Retry { .. } => "retry",
            Self::SendAlone { .. } => "send_alone",
            Self::PayloadRejected { .. } => "payload_rejected",
            Self::Filtered { .. } => "filtered",
            Self::ConfigError { .. } => "config_error",
        }
    }

    /// The words that say why; empty for `Accepted`.
    pub fn reason(&self) -> &str {
        match self {
            Self::Accepted { .. } => "",
            Self::LoginExpired => "login expired",
            Self::TokenDead { reason, .. }
            | Self::TokenMismatch { reason }
            | Self::NewConnection { reason }
            | Self::Throttled { reason, .. }
            | Self::Retry { reason, .. }
            | Self::SendAlone { reason }
            | Self::PayloadRejected { reason }
            | Self::Filtered { reason }
            | Self::ConfigError { reason } => reason,
        }
    }

    /// The family of the reason; `None` for `Accepted`.
    pub fn family(&self) -> Option<ReasonFamily> {
        match self {
            Self::Accepted { .. } => None,
            Self::TokenDead { .. } | Self::TokenMismatch { .. } => Some(ReasonFamily::TokenInvalid),
            Self::LoginExpired | Self::ConfigError { .. } => Some(ReasonFamily::Credential),
            Self::Throttled { scope: Scope::Day, .. } => Some(ReasonFamily::QuotaVendor),
            Self::Throttled { scope: Scope::Token | Scope::App | Scope::Connection, .. } => {
                Some(ReasonFamily::RateVendor)
            }
            Self::NewConnection { .. } | Self::Retry { .. } | Self::SendAlone { .. } => {
                Some(ReasonFamily::VendorUnavailable)
            }
            Self::PayloadRejected { reason } => {
                let reason = reason.to_ascii_lowercase();
                let is_too_long = TOO_LONG_WORDS.iter().any(|words| reason.contains(words));
                Some(if is_too_long { ReasonFamily::TooLong } else { ReasonFamily::BadPayload })
            }
            Self::Filtered { .. } => Some(ReasonFamily::PermissionOff),
        }
    }
}

/// What came back over HTTP.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The HTTP status code.
    pub status: u16,
    /// The response headers.
    pub headers: HeaderMap,
    /// The response body, cut by the sender's bound.
    pub body: Bytes,
}

/// Why no request could be made of a push.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotSend {
    /// This push can never be sent.
    #[error("{0}")]
    Payload(&'static str),
    /// No push can be sent to this device token.
    #[error("{0}")]
    Token(&'static str),
    /// No push can be sent with this credential.
    #[error("{0}")]
    Config(&'static str),
}

/// How to come by a login.
#[derive(Debug)]
pub enum LoginStep {
    /// The vendor needs none.
    None,
    /// Made here, without the network.
    Made(Login),
    /// The answer to this request holds it; see [`Vendor::read_login`].
    Ask(Box<http::Request<Bytes>>),
}

/// What proves to a vendor who we are, for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The bearer token.
    pub token: Secret,
    /// When to get another one, in milliseconds since 1970. It still works for some minutes after.
    pub renew_at_ms: u64,
}

/// Who signs in at a vendor. Pushes with equal accounts share one login; the key itself is part of it, so that nobody
/// gets a login by naming another's account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Account {
    /// The push service.
    pub vendor: VendorName,
    /// The account's name there, and where it signs in.
    pub name: String,
    /// The key or password.
    pub secret: Secret,
    /// Certificates to trust besides the public ones, as PEM.
    pub ca_pem: Option<String>,
    /// The vendor wants no login to follow another sooner than this.
    pub spacing: Duration,
}

/// One push service. Implementations are pure: no socket, no clock, no lock.
pub trait Vendor: Send + Sync {
    /// Who signs in; `None` for a vendor that knows no login: each request proves itself.
    fn account(&self) -> Option<Account> {
        None
    }

    /// How to come by a login now.
    ///
    /// # Errors
    /// [`CannotSend`] when the credential's key cannot sign.
    fn login(&self, _now_ms: u64) -> Result<LoginStep, CannotSend> {
        Ok(LoginStep::None)
    }

    /// Reads the answer to [`LoginStep::Ask`].
    ///
    /// # Errors
    /// The verdict for every push that waited for this login.
    fn read_login(&self, _answer: &Answer, _now_ms: u64) -> Result<Login, Verdict> {
        Err(Verdict::ConfigError { reason: "this vendor has no login".to_owned() })
    }

    /// Certificates to trust besides the public ones, as PEM.
    fn ca_pem(&self) -> Option<&str> {
        None
    }

    /// Device tokens in one request at most; 1 for a vendor without batches.
    fn batch_max(&self) -> usize {
        1
    }

    /// Whether a device token can be one of this credential's at all. A batch leaves the others out.
    ///
    /// # Errors
    /// [`CannotSend::Token`] when it cannot.
    fn check_token(&self, _token: &DeviceToken) -> Result<(), CannotSend> {
        Ok(())
    }

    /// The request that hands a message in, for a vendor that wants this before it is told for whom, with
    /// [`Push::deposited_as`]; `None` where the push can be sent as it is.
    ///
    /// # Errors
    /// [`CannotSend`] when the push cannot be put into the vendor's form or bounds.
    fn deposit(
        &self,
        _push: &Push,
        _login: Option<&str>,
        _now_ms: u64,
    ) -> Result<Option<http::Request<Bytes>>, CannotSend> {
        Ok(None)
    }

    /// Reads the answer to [`Vendor::deposit`]: the vendor's name for the message.
    ///
    /// # Errors
    /// The verdict for every push that waited for it.
    fn read_deposit(&self, _answer: &Answer, _now_ms: u64) -> Result<String, Verdict> {
        Err(Verdict::ConfigError { reason: "this vendor takes no message before its devices".to_owned() })
    }

    /// The HTTP request for one push, or for the pushes of one batch.
    ///
    /// # Errors
    /// [`CannotSend`] when the push cannot be put into the vendor's form or bounds.
    fn request(
        &self,
        push: &Push,
        login: Option<&str>,
        now_ms: u64,
    ) -> Result<http::Request<Bytes>, CannotSend>;

    /// Reads the vendor's answer to one push; of a batch, what it says of the request as a whole.
    fn verdict(&self, answer: &Answer, now_ms: u64) -> Verdict;

    /// The request that takes back a push that the vendor has, for each of its device tokens.
    ///
    /// # Errors
    /// [`CannotSend`] when the vendor cannot take this one back.
    fn recall(
        &self,
        _push: &Push,
        _login: Option<&str>,
        _now_ms: u64,
    ) -> Result<http::Request<Bytes>, CannotSend> {
        Err(CannotSend::Payload("the vendor takes nothing back"))
    }

    /// Reads the answer to [`Vendor::recall`]: accepted means taken back, filtered means too late. Nothing that is wrong with
    /// recalls only may look like a fault of the credential, else pushes would wait for it.
    fn recall_verdict(&self, answer: &Answer, now_ms: u64) -> Verdict {
        self.verdict(answer, now_ms)
    }

    /// Reads the vendor's answer for each device token of a push, in their order.
    fn verdicts(&self, push: &Push, answer: &Answer, now_ms: u64) -> Vec<Verdict> {
        batch::all(push, &self.verdict(answer, now_ms))
    }

    /// Verifies and reads a call of the vendor about pushes that it took before.
    ///
    /// # Errors
    /// [`receipt::ReceiptRefused`] when it is not to be believed or not in the vendor's form.
    fn receipts(
        &self,
        _call: &receipt::ReceiptCall<'_>,
    ) -> Result<Vec<receipt::Receipt>, receipt::ReceiptRefused> {
        Err(receipt::ReceiptRefused::NotExpected)
    }

    /// What is answered to a vendor that asks for a word back before it believes that the address of receipts is ours.
    ///
    /// # Errors
    /// [`receipt::ReceiptRefused`] when it is not to be believed, or the vendor does not ask.
    fn greeting(&self, _call: &receipt::ReceiptCall<'_>) -> Result<String, receipt::ReceiptRefused> {
        Err(receipt::ReceiptRefused::NotExpected)
    }
}

/// Whether an app's data field may not have this name: `aps`, `mid` and `cut` carry our own, the others Google
/// refuses. One rule for all vendors, so that a message does not fail for some devices only.
pub fn is_reserved_data_key(key: &str) -> bool {
    matches!(key, "aps" | "mid" | "cut" | "from" | "gcm" | "message_type") || key.starts_with("google")
}

/// The vendor's words, cut to [`REASON_MAX`] bytes at a character boundary and without control characters.
pub(crate) fn reason(text: &str) -> String {
    let mut cut: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    cut.truncate(cut.floor_char_boundary(REASON_MAX));
    cut
}

/// How long `Retry-After` asks us to wait: seconds, or an HTTP date [RFC9110-10.2.3]. At most a day.
pub(crate) fn retry_after(headers: &HeaderMap, now_ms: u64) -> Option<Duration> {
    const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = httpdate::parse_http_date(text).ok()?;
            let at = at.duration_since(std::time::UNIX_EPOCH).ok()?;
            at.saturating_sub(Duration::from_millis(now_ms))
        }
    };
    Some(wait.min(LONGEST))
}

/// A JSON merge patch [RFC7396]: objects are merged, `null` removes, everything else replaces.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_vendor_reads_what_it_writes() {
        for vendor in VendorName::ALL {
            assert_eq!(vendor.to_string().parse(), Ok(vendor));
            assert_eq!(serde_json::to_value(vendor).unwrap(), json!(vendor.as_str()));
        }
        assert_eq!("APNS".parse::<VendorName>(), Err(UnknownVendor));
    }

    #[test]
    fn a_device_token_is_bounded_printable_and_mostly_hidden() {
        for good in ["a", "T0:APA91b-_x", &"f".repeat(4096)] {
            assert_eq!(DeviceToken::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a\n", "设备", &"f".repeat(4097)] {
            assert_eq!(DeviceToken::parse(bad), Err(DeviceTokenError), "{bad}");
        }
        assert!(serde_json::from_value::<DeviceToken>(json!("a b")).is_err());
        let shown = format!("{:?}", DeviceToken::parse("0123456789abcdef").unwrap());
        assert_eq!(shown, "DeviceToken(01234567…)");
    }

    #[test]
    fn a_reason_is_cut_at_a_character_and_has_no_control_characters() {
        assert_eq!(reason("a\r\nb"), "a  b");
        let long = "令牌".repeat(100);
        assert!(reason(&long).len() <= REASON_MAX && long.starts_with(&reason(&long)));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now_ms = 784_111_777_000; // Sun, 06 Nov 1994 08:49:37 GMT
        let table = [
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("99999999999", Some(86_400)),
            ("soon", None),
            ("-1", None),
        ];
        for (text, wanted) in table {
            let headers = HeaderMap::from_iter([(http::header::RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(retry_after(&headers, now_ms), wanted.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn names_of_ours_and_of_the_vendors_are_reserved() {
        for key in ["aps", "mid", "cut", "from", "gcm", "message_type", "google.x", "google"] {
            assert!(is_reserved_data_key(key), "{key}");
        }
        for key in ["order", "title", "apsx", "订单", "Google"] {
            assert!(!is_reserved_data_key(key), "{key}");
        }
    }

    #[test]
    fn a_merge_patch_merges_replaces_and_removes() {
        let mut target = json!({"a": {"b": 1, "c": 2}, "d": [1]});
        merge(&mut target, &json!({"a": {"b": null, "e": {"f": 3}}, "d": "x"}));
        assert_eq!(target, json!({"a": {"c": 2, "e": {"f": 3}}, "d": "x"}));
    }
}
