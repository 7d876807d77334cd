//! The JSON that devices read and write; `docs/device-protocol.md` describes it.

use crate::inbox::UnixMillis;
use reveille_proto::ids::MessageId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where directed messages arrive, without any subscription.
pub(crate) const MESSAGE_TOPIC: &str = "$push/message";
/// Where it is told what was withdrawn.
pub(crate) const RECALL_TOPIC: &str = "$push/recall";
/// Where a device tells its vendor token and attributes.
pub(crate) const REGISTER_TOPIC: &str = "$push/register";
/// Where a device tells what became of a message.
pub(crate) const EVENT_TOPIC: &str = "$push/event";
/// Where a device asks about its user's inbox.
pub(crate) const INBOX_ASK_TOPIC: &str = "$push/inbox/ask";
/// Where the answers come, and the news.
pub(crate) const INBOX_TOPIC: &str = "$push/inbox";
/// The user property with the message id.
pub(crate) const ID_PROPERTY: &str = "push-id";
/// The user properties with title and body of a published message.
pub(crate) const TITLE_PROPERTY: &str = "push-title";
pub(crate) const BODY_PROPERTY: &str = "push-body";
pub(crate) const STRATEGY_PROPERTY: &str = "push-strategy";
pub(crate) const COLLAPSE_PROPERTY: &str = "push-collapse";

/// What a device tells about itself: its address at a vendor, and attributes for audiences.
///
/// A new registration replaces the attributes that it names.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
pub struct Registration {
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    address: Option<Address>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timezone: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
struct Address {
    vendor: String,
    token: String,
}

impl Registration {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The device token that a vendor gave, and the vendor's name (`apns`, `fcm`, ...).
    pub fn token(mut self, vendor: impl Into<String>, token: impl Into<String>) -> Self {
        self.address = Some(Address { vendor: vendor.into(), token: token.into() });
        self
    }

    /// `ios`, `android`, ...
    pub fn platform(mut self, platform: impl Into<String>) -> Self {
        self.platform = Some(platform.into());
        self
    }

    /// The app's version.
    pub fn app_version(mut self, app_version: impl Into<String>) -> Self {
        self.app_version = Some(app_version.into());
        self
    }

    /// A language tag such as `zh-CN`.
    pub fn language(mut self, language: impl Into<String>) -> Self {
        self.language = Some(language.into());
        self
    }

    /// A time zone such as `Asia/Shanghai`.
    pub fn timezone(mut self, timezone: impl Into<String>) -> Self {
        self.timezone = Some(timezone.into());
        self
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("vendor", &self.address.as_ref().map(|address| &address.vendor))
            .field("token", &self.address.as_ref().map(|_| "***"))
            .field("platform", &self.platform)
            .field("app_version", &self.app_version)
            .field("language", &self.language)
            .field("timezone", &self.timezone)
            .finish()
    }
}

/// What became of a message on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EventKind {
    Shown,
    Clicked,
    Dismissed,
}

pub(crate) fn event_json(id: MessageId, event: EventKind, at: UnixMillis) -> Vec<u8> {
    #[derive(Serialize)]
    struct Event {
        id: String,
        event: EventKind,
        at_ms: u64,
    }
    to_json(&Event { id: id.to_string(), event, at_ms: at.0 })
}

/// The payload of [`MESSAGE_TOPIC`]; unknown fields are left for later versions.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(crate) struct Alert {
    pub id: Option<String>,
    pub title: Option<String>,
    pub body: Option<String>,
    pub data: Option<serde_json::Value>,
    pub sent_at_ms: Option<u64>,
    pub expires_at_ms: Option<u64>,
    pub collapse_key: Option<String>,
    #[serde(default)]
    pub inbox: bool,
}

/// Strings and numbers always have a JSON form, so the empty answer never occurs.
fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_leaves_out_what_is_not_known() {
        for (registration, json) in [
            (Registration::new(), "{}"),
            (Registration::new().token("fcm", "t1"), r#"{"vendor":"fcm","token":"t1"}"#),
            (
                Registration::new()
                    .token("apns", "t")
                    .platform("ios")
                    .app_version("2.1")
                    .language("zh-CN")
                    .timezone("Asia/Shanghai"),
                r#"{"vendor":"apns","token":"t","platform":"ios","app_version":"2.1","language":"zh-CN","timezone":"Asia/Shanghai"}"#,
            ),
        ] {
            assert_eq!(registration.to_json(), json.as_bytes(), "{registration:?}");
        }
    }

    #[test]
    fn a_device_token_never_reaches_a_log() {
        assert!(!format!("{:?}", Registration::new().token("fcm", "t0ken-1")).contains("t0ken-1"));
    }

    #[test]
    fn an_event_names_message_kind_and_time() {
        let id = MessageId([0x11; 16]);
        let json = event_json(id, EventKind::Clicked, UnixMillis(5));
        assert_eq!(json, br#"{"id":"11111111-1111-1111-1111-111111111111","event":"clicked","at_ms":5}"#);
    }
}
