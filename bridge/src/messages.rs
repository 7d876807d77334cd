//! Messages: what the business asked to tell, and what the wire says of it.

use std::collections::BTreeMap;
use std::ops::Bound;

use reveille_proto::bridge::{self as wire, Strategy};
use reveille_proto::delivery::DeliveryState;
use reveille_proto::ids::{AppId, MessageId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::audience::Audience;
use crate::deliveries::Funnel;
use crate::devices::Device;
use crate::inbox::badge::Badge;
use crate::lane::{Class, CredentialName, Lane};
use crate::languages;
use crate::pace::Speed;
use crate::queues::Size;
use crate::starts::Start;
use crate::store::{Order, Space, StoreError, Tx, decode, keys};
use crate::templates;
use crate::vendor::{DeviceToken, Priority, Push, PushKind, VendorName};
use crate::webhooks;

/// A message on its way to any number of devices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Its identity across socket and vendors.
    #[serde(with = "id_text")]
    pub id: MessageId,
    /// The tenant.
    #[serde(with = "app_text")]
    pub app: AppId,
    /// Who sent it, and how.
    pub origin: Origin,
    /// What it says; `None` while only acknowledgements of it are known.
    pub content: Option<Content>,
    /// How it may reach a device.
    #[serde(with = "strategy_text")]
    pub strategy: Strategy,
    /// The same, for devices whose first device token is at this vendor.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_vendor: BTreeMap<VendorName, String>,
    /// How long an online device may take to acknowledge, in milliseconds.
    pub wait_ack_ms: u64,
    /// When it was accepted, in milliseconds since 1970.
    pub accepted_at_ms: u64,
    /// When it is worthless, in milliseconds since 1970.
    pub expires_at_ms: Option<u64>,
    /// A newer message with the same key replaces an older queued one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collapse_key: Option<String>,
    /// How urgent.
    #[serde(default)]
    pub priority: Priority,
    /// The vendors' own fields.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub overrides: BTreeMap<VendorName, Value>,
    /// Whom it is for; empty for a message that came over MQTT.
    #[serde(default)]
    pub audience: Audience,
    /// Whether every device of the audience is known.
    pub is_expanded: bool,
    /// When it was withdrawn, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recalled_at_ms: Option<u64>,
    /// How much of it was withdrawn then.
    #[serde(default, skip_serializing_if = "Extent::is_unreached")]
    pub recalled: Extent,
    /// Whether another message was put into its place on screens.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_replaced: bool,
    /// Since when no push goes out, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_at_ms: Option<u64>,
    /// About how many devices it is for.
    #[serde(default)]
    pub estimate: u64,
    /// Whether it is for so many that its pushes wait behind those of small messages.
    #[serde(default)]
    pub is_bulk: bool,
    /// The policy that it is under, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Whether it goes whatever its policy says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_urgent: bool,
    /// How often it got another content.
    #[serde(default, skip_serializing_if = "is_first")]
    pub revision: u32,
    /// What vendors shall count it as; else its category says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// Until when it stays in the inboxes of the users whom it reaches, in milliseconds since 1970; `None`: in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbox_until_ms: Option<u64>,
    /// The sender's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The sender's name for a group of messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaign: Option<String>,
    /// The template that it has its texts from, with the version once it is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// When it begins; `None`: when it is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// Whether nothing of it has left yet, because it has not begun.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_waiting: bool,
    /// How fast it may go.
    #[serde(default, skip_serializing_if = "Speed::is_free")]
    pub speed: Speed,
    /// The schedule that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
}

/// How much of a withdrawn message is taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// What has not gone out, and no more: what lies in inboxes stays there too.
    Pending,
    /// What has not gone out, and what lies in inboxes; another message takes its place on screens.
    #[default]
    Unreached,
    /// What is on screens too, as far as vendors and apps can.
    All,
}

impl Extent {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
    fn is_unreached(&self) -> bool {
        *self == Self::Unreached
    }
}

/// Whether it is the content that the message began with.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
pub(crate) fn is_first(revision: &u32) -> bool {
    *revision == 0
}

/// How a message came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// By the HTTP API.
    Http,
    /// A publisher's message on this MQTT topic; empty when only its acknowledgements are known.
    Mqtt {
        /// The topic.
        topic: String,
    },
}

/// What a message says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Content {
    /// What the system shows; without it the message is for the app only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notification: Option<Notification>,
    /// The app's own fields.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    pub data: Map<String, Value>,
    /// Whether its texts have placeholders that each device fills by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_personal: bool,
}

impl Content {
    /// What it says to a device, in one of its languages; without a language in its default one.
    pub(crate) fn speak(&mut self, language: Option<&str>, device: Option<&Device>) {
        let Some(notification) = &mut self.notification else { return };
        notification.speak(language);
        if std::mem::take(&mut self.is_personal) {
            let mut texts = notification.take();
            templates::fill(&mut texts, &self.data, &templates::words(device));
            notification.put(texts);
        }
    }
}

/// An alert as the sender describes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Notification {
    /// First line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// URL of a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// A sound file of the app, or `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sound: Option<String>,
    /// The number on the app's icon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub badge: Option<Badge>,
    /// Android notification channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The vendor's or app's category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// What opening it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub click: Option<Click>,
    /// The same in other languages, by their names, such as `pt-BR`. A device whose language is not here gets a more
    /// general one (`pt`), else what stands above; so does each text that a language leaves out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub i18n: BTreeMap<String, Texts>,
}

/// What an alert says in one language.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Texts {
    /// First line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// URL of a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What opening it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub click: Option<Click>,
}

impl Texts {
    /// Each text with its place as the end of a JSON pointer.
    pub(crate) fn fields(&self) -> [(&'static str, Option<&str>); 4] {
        [
            ("title", self.title.as_deref()),
            ("body", self.body.as_deref()),
            ("image", self.image.as_deref()),
            ("click/url", self.click.as_ref().map(|click| click.url.as_str())),
        ]
    }

    /// Changes each text.
    pub(crate) fn each_mut(&mut self, mut change: impl FnMut(&mut Option<String>)) {
        let mut url = self.click.take().map(|click| click.url);
        for text in [&mut self.title, &mut self.body, &mut self.image, &mut url] {
            change(text);
        }
        self.click = url.map(|url| Click { url });
    }
}

impl Notification {
    /// What it says in one of its languages, and in no other any more.
    pub(crate) fn speak(&mut self, language: Option<&str>) {
        let texts = std::mem::take(&mut self.i18n);
        let Some(language) = language else { return };
        let found: Vec<_> = languages::chain(&texts, language).cloned().collect();
        found.into_iter().rev().for_each(|texts| self.put(texts)); // the most particular last
    }

    /// Puts the texts that are given over its own.
    pub(crate) fn put(&mut self, texts: Texts) {
        let Texts { title, body, image, click } = texts;
        for (own, new) in [(&mut self.title, title), (&mut self.body, body), (&mut self.image, image)] {
            if new.is_some() {
                *own = new;
            }
        }
        self.click = click.or(self.click.take());
    }

    /// Its texts alone.
    pub(crate) fn take(&mut self) -> Texts {
        Texts {
            title: self.title.take(),
            body: self.body.take(),
            image: self.image.take(),
            click: self.click.take(),
        }
    }
}

/// What opening an alert does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Click {
    /// What is opened.
    pub url: String,
}

impl Message {
    /// The strategy for a device whose first device token is at this vendor.
    pub fn strategy_at(&self, vendor: Option<VendorName>) -> Strategy {
        let by_vendor = vendor.and_then(|vendor| self.by_vendor.get(&vendor));
        by_vendor.and_then(|name| Strategy::from_name(name)).unwrap_or(self.strategy)
    }

    /// The lane of its pushes with a credential.
    pub(crate) fn lane(&self, vendor: VendorName, credential: &CredentialName) -> Lane {
        let class = self.class.unwrap_or_else(|| Class::of(vendor, self.category(), self.priority));
        Lane { app: self.app.clone(), vendor, credential: credential.clone(), class }
    }

    /// The vendor's or app's category of its alert.
    pub(crate) fn category(&self) -> Option<&str> {
        self.content.as_ref()?.notification.as_ref()?.category.as_deref()
    }

    /// The policy that decides about it, by name.
    pub(crate) fn ruled_by(&self) -> Option<&str> {
        self.policy.as_deref().filter(|_| !self.is_urgent)
    }

    /// Whether whoever has it is to lose it again.
    pub(crate) fn is_taken_back(&self) -> bool {
        self.recalled_at_ms.is_some() && self.recalled == Extent::All
    }

    /// Whether no push of it goes out for now.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused_at_ms.is_some() && self.recalled_at_ms.is_none()
    }

    /// When it begins, for the first of its devices, in milliseconds since 1970.
    pub fn begins_at_ms(&self) -> u64 {
        self.start.as_ref().map_or(self.accepted_at_ms, |start| start.first_ms().max(self.accepted_at_ms))
    }

    /// The same for a device in this time zone.
    pub(crate) fn begins_at_ms_in(&self, timezone: Option<&str>) -> u64 {
        let at_ms = match &self.start {
            None => self.accepted_at_ms,
            Some(Start::At(at_ms)) => *at_ms,
            Some(Start::Local(local)) => local.moment_for(timezone),
        };
        at_ms.max(self.accepted_at_ms)
    }

    /// Whether what it says is another thing for each device.
    pub(crate) fn is_personal(&self) -> bool {
        self.content.as_ref().is_some_and(|content| content.is_personal)
    }

    /// The name of its language for a device; `None` is the default.
    pub(crate) fn language_for(&self, device: Option<&Device>) -> Option<String> {
        let notification = self.content.as_ref()?.notification.as_ref()?;
        templates::language_for(&notification.i18n, device?.attributes.language.as_deref())
    }

    /// The message as one device gets it: in one language, with its placeholders filled.
    pub(crate) fn speak(&mut self, language: Option<&str>, device: Option<&Device>) {
        if let Some(content) = &mut self.content {
            content.speak(language, device);
        }
    }

    /// Which of the lane's queues its pushes wait in.
    pub(crate) fn size(&self) -> Size {
        if self.is_bulk { Size::Bulk } else { Size::Single }
    }

    /// What it wants of the number on the app's icon.
    pub(crate) fn badge(&self) -> Option<Badge> {
        self.content.as_ref()?.notification.as_ref()?.badge
    }

    /// The push for one device. `unread` is how many messages the device's user has not read.
    pub fn push(&self, vendor: VendorName, token: DeviceToken, unread: Option<u64>) -> Push {
        let content = self.content.clone().unwrap_or_default();
        let mut push = Push::new(self.id, self.app.clone(), token);
        push.kind = if content.notification.is_some() { PushKind::Alert } else { PushKind::Data };
        let notification = content.notification.unwrap_or_default();
        push.title = notification.title;
        push.body = notification.body;
        push.image = notification.image;
        push.sound = notification.sound;
        let badge =
            notification.badge.map(|badge| badge.number(vendor, unread, self.inbox_until_ms.is_some()));
        let badge = badge.unwrap_or_default();
        (push.badge, push.badge_add) = (badge.set, badge.add);
        push.channel = notification.channel;
        push.category = notification.category;
        push.click = notification.click.map(|click| click.url);
        push.data = content.data;
        push.collapse_key = self.collapse_key.clone();
        push.expires_at_ms = self.expires_at_ms;
        push.priority = self.priority;
        push.overrides = self.overrides.get(&vendor).cloned().unwrap_or_default();
        push
    }

    /// The message for the broker, with the payload that devices read.
    pub fn to_wire(&self, strategy: Strategy) -> wire::Message {
        let priority = match self.priority {
            Priority::Low => wire::Priority::Low,
            Priority::Normal => wire::Priority::Normal,
            Priority::High => wire::Priority::High,
        };
        wire::Message {
            id: self.id.0.to_vec().into(),
            app: self.app.as_str().to_owned(),
            topic: wire::MESSAGE.to_owned(),
            payload: self.payload().to_string().into_bytes().into(),
            qos: 1,
            accepted_at_ms: self.begins_at_ms(),
            expires_at_ms: self.expires_at_ms.unwrap_or(0),
            priority: priority.into(),
            collapse_key: self.collapse_key.clone().unwrap_or_default(),
            strategy: strategy.into(),
            wait_ack_ms: u32::try_from(self.wait_ack_ms).unwrap_or(u32::MAX),
            alert: None,
            content_type: "application/json".to_owned(),
        }
    }

    /// What a device reads on `$push/message`.
    pub fn payload(&self) -> Value {
        let content = self.content.clone().unwrap_or_default();
        let notification = content.notification.unwrap_or_default();
        let mut payload = Map::new();
        payload.insert("id".to_owned(), self.id.to_string().into());
        for (name, value) in [
            ("title", notification.title.map(Value::from)),
            ("body", notification.body.map(Value::from)),
            ("data", (!content.data.is_empty()).then_some(Value::Object(content.data))),
            ("sent_at_ms", Some(self.begins_at_ms().into())),
            ("expires_at_ms", self.expires_at_ms.map(Value::from)),
            ("collapse_key", self.collapse_key.clone().map(Value::from)),
            ("inbox", self.inbox_until_ms.map(|_| true.into())),
        ] {
            if let Some(value) = value {
                payload.insert(name.to_owned(), value);
            }
        }
        Value::Object(payload)
    }

    /// A message that a publisher sent over MQTT, as the broker reports it; `None` when it has no alert to show.
    pub fn from_wire(app: &AppId, id: MessageId, message: wire::Message, wait_ack_ms: u64) -> Option<Self> {
        let (strategy, priority) = (message.strategy(), message.priority());
        let alert = message.alert?;
        let text = |text: String| (!text.is_empty()).then_some(text);
        let notification =
            Notification { title: text(alert.title), body: text(alert.body), ..Notification::default() };
        Some(Self {
            content: Some(Content { notification: Some(notification), ..Content::default() }),
            origin: Origin::Mqtt { topic: message.topic },
            strategy,
            wait_ack_ms: if message.wait_ack_ms == 0 { wait_ack_ms } else { message.wait_ack_ms.into() },
            accepted_at_ms: message.accepted_at_ms,
            expires_at_ms: (message.expires_at_ms > 0).then_some(message.expires_at_ms),
            collapse_key: text(message.collapse_key),
            priority: match priority {
                wire::Priority::Low => Priority::Low,
                wire::Priority::Normal => Priority::Normal,
                wire::Priority::High => Priority::High,
            },
            ..Self::unknown(app, id, message.accepted_at_ms)
        })
    }

    /// A message of which only an acknowledgement is known. It may be that the word of its queueing comes later.
    pub fn unknown(app: &AppId, id: MessageId, at_ms: u64) -> Self {
        Self {
            id,
            app: app.clone(),
            origin: Origin::Mqtt { topic: String::new() },
            content: None,
            strategy: Strategy::OnlineFirst,
            by_vendor: BTreeMap::new(),
            wait_ack_ms: 0,
            accepted_at_ms: at_ms,
            expires_at_ms: None,
            collapse_key: None,
            priority: Priority::Normal,
            overrides: BTreeMap::new(),
            audience: Audience::default(),
            is_expanded: true,
            recalled_at_ms: None,
            recalled: Extent::default(),
            is_replaced: false,
            paused_at_ms: None,
            estimate: 0,
            is_bulk: false,
            policy: None,
            is_urgent: false,
            revision: 0,
            class: None,
            inbox_until_ms: None,
            reference: None,
            campaign: None,
            template: None,
            start: None,
            is_waiting: false,
            speed: Speed::default(),
            schedule: None,
        }
    }
}

/// A new message id: a UUID, version 7.
pub(crate) fn new_id() -> MessageId {
    MessageId(uuid::Uuid::now_v7().into_bytes())
}

/// The same id with another moment in it, in milliseconds since 1970, so that it stands elsewhere in their order.
pub(crate) fn moved_to(mut id: MessageId, at_ms: u64) -> MessageId {
    let moment = at_ms.to_be_bytes().into_iter().skip(2); // 48 bits, first in the id
    id.0.iter_mut().zip(moment).for_each(|(byte, moment)| *byte = moment);
    id
}

/// The moment in an id, in milliseconds since 1970.
pub(crate) fn moment_of(id: MessageId) -> u64 {
    id.0.iter().take(6).fold(0, |at_ms, byte| at_ms << 8 | u64::from(*byte))
}

/// Where a UUID carries its version, of which ours have 7 and digests 8: one's own use of the rest.
const VERSION_BYTE: usize = 6;

fn with_version(mut id: MessageId, version: u8) -> MessageId {
    if let Some(byte) = id.0.get_mut(VERSION_BYTE) {
        *byte = (*byte & 0x0f) | (version << 4);
    }
    id
}

/// The id of a digest that is pushed instead of a message.
pub(crate) fn digest_id(id: MessageId) -> MessageId {
    with_version(id, 8)
}

/// A message by the id that its push carries, which may be a digest's.
pub(crate) fn load_pushed(tx: &Tx<'_>, app: &AppId, id: MessageId) -> Result<Option<Message>, StoreError> {
    match load(tx, app, id)? {
        None if digest_id(id) == id => load(tx, app, with_version(id, 7)),
        found => Ok(found),
    }
}

/// A message by its id.
pub(crate) fn load(tx: &Tx<'_>, app: &AppId, id: MessageId) -> Result<Option<Message>, StoreError> {
    tx.load(Space::Messages, &keys::message(app, id))
}

/// Writes a message.
pub(crate) fn save(tx: &mut Tx<'_>, message: &Message) -> Result<(), StoreError> {
    tx.save(Space::Messages, keys::message(&message.app, message.id), message)
}

/// Tells the app's webhooks that every device of a message is known, or that the message was withdrawn.
pub(crate) fn tell(tx: &mut Tx<'_>, message: &Message, name: &str) -> Result<(), StoreError> {
    let data = || json!({"message": message.id.to_string(), "reference": message.reference});
    webhooks::emit(tx, &message.app, name, &message.id.to_string(), data)
}

/// Tells the app's webhooks that nothing of a message is in flight any more.
pub(crate) fn tell_done(tx: &mut Tx<'_>, message: &Message, funnel: &Funnel) -> Result<(), StoreError> {
    let data =
        || json!({"message": message.id.to_string(), "reference": message.reference, "funnel": funnel});
    webhooks::emit(tx, &message.app, webhooks::MESSAGE_DONE, &message.id.to_string(), data)
}

/// An app's messages, newest first, older than a given one.
pub(crate) fn list(
    tx: &Tx<'_>,
    app: &AppId,
    before: Option<MessageId>,
    limit: usize,
) -> Result<Vec<Message>, StoreError> {
    page(tx, app, before, Order::Backward, limit)
}

/// The newest message that is older than this one, or the newest of all. It is not decoded.
pub(crate) fn older(
    tx: &Tx<'_>,
    app: &AppId,
    than: Option<MessageId>,
) -> Result<Option<MessageId>, StoreError> {
    let (all, from) = (keys::messages(app), than.map(|id| keys::message(app, id)));
    let found = tx.scan(Space::Messages, &all, from.as_deref(), Order::Backward, 1)?;
    let id = |(key, _): &(Vec<u8>, Vec<u8>)| MessageId::from_bytes(key.strip_prefix(all.as_slice())?).ok();
    Ok(found.first().and_then(id))
}

/// An app's messages from a given one on: backward means older.
pub(crate) fn page(
    tx: &Tx<'_>,
    app: &AppId,
    from: Option<MessageId>,
    order: Order,
    limit: usize,
) -> Result<Vec<Message>, StoreError> {
    let from = from.map(|id| keys::message(app, id));
    let found = tx.scan(Space::Messages, &keys::messages(app), from.as_deref(), order, limit)?;
    found.iter().map(|(_, value)| decode(value)).collect()
}

/// An app's messages from one id on, newest first.
pub(crate) fn list_from(
    tx: &Tx<'_>,
    app: &AppId,
    last: MessageId,
    limit: usize,
) -> Result<Vec<Message>, StoreError> {
    let (from, to) = (Bound::Included(keys::messages(app)), Bound::Included(keys::message(app, last)));
    let found = tx.range(Space::Messages, from, to, Order::Backward, limit)?;
    found.iter().map(|(_, value)| decode(value)).collect()
}

macro_rules! as_text {
    ($module:ident, $type:ty, $read:expr, $write:expr) => {
        /// Writes the value as the text that people know.
        pub(crate) mod $module {
            use super::*;

            /// Writes the text.
            pub fn serialize<S: serde::Serializer>(value: &$type, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&$write(value))
            }

            /// Reads the text.
            pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                let text = String::deserialize(deserializer)?;
                $read(&text).ok_or_else(|| serde::de::Error::custom("not a known value"))
            }
        }
    };
}
as_text!(id_text, MessageId, |text: &str| MessageId::parse(text).ok(), |id: &MessageId| id.to_string());
as_text!(app_text, AppId, |text: &str| AppId::parse(text).ok(), |app: &AppId| app.to_string());
as_text!(state_text, DeliveryState, DeliveryState::from_name, |state: &DeliveryState| state.name());
as_text!(strategy_text, Strategy, Strategy::from_name, |strategy: &Strategy| strategy.name());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_reads_only_the_fields_that_the_message_has() {
        let app = AppId::default();
        let id = MessageId([7; 16]);
        let mut message = Message::unknown(&app, id, 5);
        assert_eq!(message.payload(), json!({"id": id.to_string(), "sent_at_ms": 5}));
        message.content =
            serde_json::from_value(json!({"notification": {"title": "到了"}, "data": {"order": 7}})).ok();
        message.collapse_key = Some("k".to_owned());
        message.expires_at_ms = Some(9);
        let wanted = json!({"id": id.to_string(), "title": "到了", "data": {"order": 7}, "sent_at_ms": 5,
            "expires_at_ms": 9, "collapse_key": "k"});
        assert_eq!(message.payload(), wanted);
        let kept: Message = serde_json::from_value(serde_json::to_value(&message).unwrap()).unwrap();
        assert_eq!(kept, message);
    }

    #[test]
    fn a_publisher_s_message_without_an_alert_is_not_pushed() {
        let app = AppId::default();
        let id = MessageId([7; 16]);
        assert_eq!(Message::from_wire(&app, id, wire::Message::default(), 1), None);
        let alert = Some(wire::Alert { title: "t".to_owned(), body: String::new() });
        let wired = wire::Message { alert, topic: "设备/1".to_owned(), ..Default::default() };
        let message = Message::from_wire(&app, id, wired, 3_000).unwrap();
        assert_eq!((message.wait_ack_ms, message.expires_at_ms), (3_000, None));
        let push = message.push(VendorName::Apns, DeviceToken::parse("t").unwrap(), None);
        assert_eq!((push.kind, push.title.as_deref(), push.body), (PushKind::Alert, Some("t"), None));
    }
}
