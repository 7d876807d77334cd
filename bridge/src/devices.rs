//! Devices: one install of an app each, known by its MQTT client id; aliases, tags, attributes, presence.

use std::collections::{BTreeMap, BTreeSet};

use reveille_proto::bridge::presence::Kind;
use reveille_proto::bridge::{self as wire};
use reveille_proto::ids::{AppId, Epoch};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::audience::expression::Field;
use crate::events::{self, News};
use crate::inbox;
use crate::index::{Change, DeviceNumber, Label};
use crate::policies::book;
use crate::store::{Order, Space, StoreError, Tx, decode, keys};
use crate::tokens::Token;
use crate::zones::Zone;

/// Longest client id that the bridge keeps, in bytes. Longer ones can use the broker, but not be pushed to.
pub const DEVICE_ID_MAX: usize = 1024;
/// Tags of one device at most.
pub const TAGS_MAX: usize = 100;
/// Alias types of one device at most.
pub const ALIASES_MAX: usize = 10;
/// Longest tag or alias, in bytes.
pub const LABEL_MAX: usize = 256;
/// Longest attribute, in bytes.
pub const ATTRIBUTE_MAX: usize = 64;
/// Attributes that the business gives one device at most.
pub const ATTRIBUTES_MAX: usize = 32;
/// Longest name of such an attribute, in bytes.
pub const ATTRIBUTE_NAME_MAX: usize = 32;
/// The alias type that is meant where none is named.
pub const USER: &str = "user";
/// Words that mean something else in the audience language.
const RESERVED: [&str; 14] = [
    "alias",
    "all",
    "app_version",
    "device",
    "lang",
    "language",
    "last_seen",
    "online",
    "platform",
    "segment",
    "tag",
    "timezone",
    USER,
    "vendor",
];

/// One install of an app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The MQTT client id.
    pub id: String,
    /// Its place in the index; `None` until it is written for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<DeviceNumber>,
    /// The business's names for it, by type, such as `user` -> `42`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub alias: BTreeMap<String, String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    /// What the device says of itself.
    #[serde(default)]
    pub attributes: Attributes,
    /// What the business says of it, by name, such as `city` -> `bj`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub custom: BTreeMap<String, String>,
    /// Its addresses at vendors, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<Token>,
    /// When it was first seen, in milliseconds since 1970.
    pub created_at_ms: u64,
    /// When it last changed, in milliseconds since 1970.
    pub updated_at_ms: u64,
}

/// What a device says of itself, each at most [`ATTRIBUTE_MAX`] bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Such as `ios` or `android`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// The app's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_version: Option<String>,
    /// Such as `zh-CN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Such as `Asia/Shanghai`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
}

impl Attributes {
    /// Takes what the other says and keeps what it does not.
    pub fn update(&mut self, other: Self) {
        for (own, new) in [
            (&mut self.platform, other.platform),
            (&mut self.app_version, other.app_version),
            (&mut self.language, other.language),
            (&mut self.timezone, other.timezone),
        ] {
            if new.is_some() {
                *own = new;
            }
        }
    }

    /// The name of an attribute that is too long.
    pub fn too_long(&self) -> Option<&'static str> {
        [
            ("platform", &self.platform),
            ("app_version", &self.app_version),
            ("language", &self.language),
            ("timezone", &self.timezone),
        ]
        .into_iter()
        .find(|(_, value)| value.as_ref().is_some_and(|text| text.len() > ATTRIBUTE_MAX))
        .map(|(name, _)| name)
    }
}

/// Whether the bridge can keep a device under this id.
pub fn is_device_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= DEVICE_ID_MAX && !id.contains('\0')
}

/// Whether a text can be a tag, an alias or an alias type.
pub fn is_label(text: &str) -> bool {
    !text.is_empty() && text.len() <= LABEL_MAX && !text.chars().any(char::is_control)
}

/// Whether the business can give an attribute this name.
pub fn is_attribute_name(name: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.len() <= ATTRIBUTE_NAME_MAX
        && name.bytes().all(is_word)
        && !RESERVED.contains(&name)
}

/// A device by its id.
pub(crate) fn load(tx: &Tx<'_>, app: &AppId, id: &str) -> Result<Option<Device>, StoreError> {
    tx.load(Space::Devices, &keys::device(app, id))
}

/// A device by its id, or one without anything.
pub(crate) fn load_or_new(tx: &Tx<'_>, app: &AppId, id: &str) -> Result<Device, StoreError> {
    let new = || Device { id: id.to_owned(), created_at_ms: tx.now_ms(), ..Device::default() };
    Ok(load(tx, app, id)?.unwrap_or_else(new))
}

/// Writes a device; the index follows once it is durable.
pub(crate) fn save(tx: &mut Tx<'_>, app: &AppId, device: &Device) -> Result<(), StoreError> {
    let old = load(tx, app, &device.id)?;
    let mut device = device.clone();
    device.number = old.as_ref().and_then(|old| old.number);
    // Devices spell zones in their own ways; whoever looks for one looks for the database's.
    if let Some(zone) = device.attributes.timezone.as_deref().and_then(Zone::find) {
        device.attributes.timezone = Some(zone.name().to_owned());
    }
    let number = number(tx, app, &mut device)?;
    let was = old.as_ref().map(labels).unwrap_or_default();
    let is = labels(&device);
    let change = Change::Device {
        app: app.clone(),
        number,
        left: was.difference(&is).cloned().collect(),
        joined: is.difference(&was).cloned().collect(),
    };
    tx.touched().index.push(change);
    if old.is_none()
        && let Some(presence) = presence(tx, app, &device.id)?
    {
        tx.touched().index.push(Change::Presence { app: app.clone(), number, presence });
    }
    device.updated_at_ms = tx.now_ms();
    inbox::device::tell_of_user(tx, app, old.as_ref(), &device)?;
    write(tx, app, &device)
}

fn write(tx: &mut Tx<'_>, app: &AppId, device: &Device) -> Result<(), StoreError> {
    tx.save(Space::Devices, keys::device(app, &device.id), device)
}

/// Removes a device with its tokens. `false` when there was none.
pub(crate) fn remove(tx: &mut Tx<'_>, app: &AppId, id: &str) -> Result<bool, StoreError> {
    let Some(device) = load(tx, app, id)? else { return Ok(false) };
    for token in &device.tokens {
        tx.remove(Space::Devices, keys::token_owner(app, token.vendor, token.token.as_str()));
    }
    if let Some(number) = device.number {
        tx.remove(Space::Devices, keys::device_of_number(app, number));
        let left = labels(&device).into_iter().collect();
        tx.touched().index.push(Change::Gone { app: app.clone(), number, left });
    }
    tx.remove(Space::Devices, keys::habits(app, id));
    tx.remove(Space::Devices, keys::device(app, id));
    Ok(true)
}

/// What the index keeps of a device.
pub(crate) fn labels(device: &Device) -> BTreeSet<Label> {
    let attribute = |name: &str, value: &String| (Field::Attribute(name.to_owned()), value.clone());
    let own = &device.attributes;
    let own = [
        ("platform", &own.platform),
        ("app_version", &own.app_version),
        ("language", &own.language),
        ("timezone", &own.timezone),
    ];
    let own = own.into_iter().filter_map(|(name, value)| value.as_ref().map(|value| attribute(name, value)));
    let custom = device.custom.iter().map(|(name, value)| attribute(name, value));
    let tags = device.tags.iter().map(|tag| (Field::Tag, tag.clone()));
    let aliases = device.alias.iter().map(|(kind, alias)| (Field::Alias(kind.clone()), alias.clone()));
    let live = device.tokens.iter().filter(|token| !token.is_dead()); // a quarantine is over before the index knows
    let vendors = live.map(|token| (Field::Vendor, token.vendor.to_string()));
    own.chain(custom).chain(tags).chain(aliases).chain(vendors).collect()
}

/// A device's number; a device without one gets the next and is written.
pub(crate) fn number(tx: &mut Tx<'_>, app: &AppId, device: &mut Device) -> Result<DeviceNumber, StoreError> {
    if let Some(number) = device.number {
        return Ok(number);
    }
    let key = keys::next_device_number(app);
    let number: DeviceNumber = tx.load(Space::Devices, &key)?.unwrap_or(DeviceNumber(0));
    let used_up = || StoreError::Corrupt("an app has used up its device numbers".to_owned());
    let next = DeviceNumber(number.0.checked_add(1).ok_or_else(used_up)?);
    tx.save(Space::Devices, key, &next)?;
    tx.put(Space::Devices, keys::device_of_number(app, number), device.id.clone().into_bytes());
    device.number = Some(number);
    write(tx, app, device)?;
    Ok(number)
}

/// The number of a device by its id.
pub(crate) fn number_of(tx: &Tx<'_>, app: &AppId, id: &str) -> Result<Option<DeviceNumber>, StoreError> {
    Ok(load(tx, app, id)?.and_then(|device| device.number))
}

/// The id of a device by its number.
pub(crate) fn id_of(tx: &Tx<'_>, app: &AppId, number: DeviceNumber) -> Result<Option<String>, StoreError> {
    let id = tx.get(Space::Devices, &keys::device_of_number(app, number))?;
    Ok(id.and_then(|id| String::from_utf8(id).ok()))
}

/// Devices after a given one, by id.
pub(crate) fn list(
    tx: &Tx<'_>,
    app: &AppId,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Device>, StoreError> {
    page(tx, app, after, Order::Forward, limit)
}

/// Devices from a given one on, in either direction.
pub(crate) fn page(
    tx: &Tx<'_>,
    app: &AppId,
    from: Option<&str>,
    order: Order,
    limit: usize,
) -> Result<Vec<Device>, StoreError> {
    let from = from.map(|from| keys::device(app, from));
    let found = tx.scan(Space::Devices, &keys::devices(app), from.as_deref(), order, limit)?;
    found.iter().map(|(_, record)| decode(record)).collect()
}

/// What is known about a device's network connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Presence {
    /// The number of the network connection that this is about; the newer one wins.
    pub epoch: u64,
    /// Whether it is up.
    pub online: bool,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// Whether the session is gone, with its queue.
    #[serde(default)]
    pub is_expired: bool,
    /// MQTT 5 reason code of the end.
    #[serde(default)]
    pub reason: u32,
    /// Seconds between packets at most.
    #[serde(default)]
    pub keep_alive_s: u32,
    /// How long the session outlives the connection, in seconds.
    #[serde(default)]
    pub session_expiry_s: u32,
    /// 3, 4 or 5.
    #[serde(default)]
    pub protocol_level: u32,
    /// The source address as the broker saw it.
    #[serde(default)]
    pub network: String,
}

/// A start of the broker, which ended every network connection of an earlier epoch.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct BrokerStart {
    epoch: u64,
    at_ms: u64,
}

/// Starts of the broker that are kept; a connection that ended before the oldest of them ended with it.
const BROKER_STARTS_MAX: usize = 64;

/// The broker's last starts, oldest first. A connection ended with the first one after it, not with the last: otherwise
/// each start would make a device that is long gone look as if it had just left.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct BrokerStarts(Vec<BrokerStart>);

impl BrokerStarts {
    /// What the starts leave of what was known.
    pub fn end(&self, mut presence: Presence) -> Presence {
        if let Some(start) = self.0.iter().find(|start| presence.epoch < start.epoch)
            && presence.online
        {
            (presence.online, presence.since_ms) = (false, start.at_ms);
        }
        presence
    }

    fn add(&mut self, start: BrokerStart) {
        self.0.push(start);
        let surplus = self.0.len().saturating_sub(BROKER_STARTS_MAX);
        self.0.drain(..surplus);
    }
}

/// The broker's last start.
fn broker_start(tx: &Tx<'_>) -> Result<BrokerStart, StoreError> {
    Ok(tx.load(Space::Devices, &keys::broker_start())?.unwrap_or_default())
}

/// The broker's last starts; older releases kept the last one alone.
pub(crate) fn broker_starts(tx: &Tx<'_>) -> Result<BrokerStarts, StoreError> {
    match tx.load(Space::Devices, &keys::broker_starts())? {
        Some(starts) => Ok(starts),
        None => Ok(BrokerStarts(vec![broker_start(tx)?])),
    }
}

/// What is known about a device's connection; `None` when it never connected.
pub(crate) fn presence(tx: &Tx<'_>, app: &AppId, device: &str) -> Result<Option<Presence>, StoreError> {
    let Some(presence) = tx.load::<Presence>(Space::Devices, &keys::presence(app, device))? else {
        return Ok(None);
    };
    ended(tx, presence).map(Some)
}

/// What the broker's starts leave of it. The last one tells most that nothing ended, without a look at the others.
fn ended(tx: &Tx<'_>, presence: Presence) -> Result<Presence, StoreError> {
    match presence.online && presence.epoch < broker_start(tx)?.epoch {
        true => Ok(broker_starts(tx)?.end(presence)),
        false => Ok(presence),
    }
}

/// Takes a fact of the broker's; one that is older than what is known changes nothing.
pub(crate) fn note_presence(tx: &mut Tx<'_>, app: &AppId, fact: wire::Presence) -> Result<(), StoreError> {
    if fact.kind() == Kind::BrokerStarted {
        if Epoch(fact.epoch) > Epoch(broker_start(tx)?.epoch) {
            let mut starts = broker_starts(tx)?;
            let start = BrokerStart { epoch: fact.epoch, at_ms: fact.at_ms };
            tx.touched().index.push(Change::BrokerStarted { epoch: start.epoch, at_ms: start.at_ms });
            starts.add(start);
            tx.save(Space::Devices, keys::broker_starts(), &starts)?;
            tx.save(Space::Devices, keys::broker_start(), &start)?;
        }
        return Ok(());
    }
    let key = keys::presence(app, &fact.client_id);
    let device = fact.client_id.clone();
    let known = tx.load::<Presence>(Space::Devices, &key)?;
    let Some(new) = after(known.clone(), fact) else { return Ok(()) };
    if let Some(known) = known {
        book::learn(tx, app, &device, &known, &new)?;
    }
    tx.save(Space::Devices, key, &new)?;
    if tx.wants_devices() {
        let name = if new.online { events::DEVICE_ONLINE } else { events::DEVICE_OFFLINE };
        let data = json!({"device": device, "epoch": new.epoch, "since_ms": new.since_ms});
        let news = News::new(app, name, &device, tx.now_ms(), data);
        tx.touched().events.push(news);
    }
    if let Some(number) = number_of(tx, app, &device)? {
        let presence = ended(tx, new)?;
        tx.touched().index.push(Change::Presence { app: app.clone(), number, presence });
    }
    Ok(())
}

/// What is known after a fact about one device; `None` when it changes nothing. Of two facts about one epoch the
/// end wins, whichever came first: a connection does not begin again.
fn after(known: Option<Presence>, fact: wire::Presence) -> Option<Presence> {
    let kind = fact.kind();
    let known = known.unwrap_or_default();
    let is_news = match kind {
        Kind::Connected => fact.epoch > known.epoch,
        Kind::Disconnected => fact.epoch > known.epoch || (fact.epoch == known.epoch && known.online),
        Kind::Expired => fact.epoch >= known.epoch && !(fact.epoch == known.epoch && known.is_expired),
        Kind::BrokerStarted => false,
    };
    if !is_news {
        return None;
    }
    let online = kind == Kind::Connected;
    let keep = |new: u32, old: u32| if online { new } else { old };
    Some(Presence {
        epoch: fact.epoch,
        online,
        since_ms: if known.epoch == fact.epoch && !known.online { known.since_ms } else { fact.at_ms },
        is_expired: kind == Kind::Expired,
        reason: if online { 0 } else { fact.reason },
        keep_alive_s: keep(fact.keep_alive_s, known.keep_alive_s),
        session_expiry_s: keep(fact.session_expiry_s, known.session_expiry_s),
        protocol_level: keep(fact.protocol_level, known.protocol_level),
        network: if online { fact.network } else { known.network },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fact(kind: Kind, epoch: u64) -> wire::Presence {
        wire::Presence { kind: kind.into(), epoch, at_ms: epoch * 10, keep_alive_s: 60, ..Default::default() }
    }

    #[test]
    fn an_older_epoch_changes_nothing_and_the_end_of_an_epoch_is_final() {
        let online = after(None, fact(Kind::Connected, 5)).unwrap();
        assert!(online.online);
        assert_eq!(after(Some(online.clone()), fact(Kind::Disconnected, 4)), None);
        assert_eq!(after(Some(online.clone()), fact(Kind::Connected, 5)), None);
        let offline = after(Some(online), fact(Kind::Disconnected, 5)).unwrap();
        assert_eq!((offline.online, offline.keep_alive_s), (false, 60));
        assert_eq!(after(Some(offline.clone()), fact(Kind::Connected, 5)), None);
        assert!(after(Some(offline), fact(Kind::Expired, 5)).unwrap().is_expired);
    }

    #[test]
    fn a_connection_ended_with_the_first_start_after_it() {
        let mut starts = BrokerStarts::default();
        for epoch in [5, 9] {
            starts.add(BrokerStart { epoch, at_ms: epoch * 10 });
        }
        for (epoch, wanted) in [(3, (false, 50)), (5, (false, 90)), (9, (true, 90))] {
            let presence = after(None, fact(Kind::Connected, epoch)).unwrap();
            let left = starts.end(presence);
            assert_eq!((left.online, left.since_ms), wanted, "{epoch}");
        }
        for epoch in 10..=200 {
            starts.add(BrokerStart { epoch, at_ms: epoch * 10 });
        }
        assert_eq!(starts.0.len(), BROKER_STARTS_MAX);
        assert_eq!(starts.0.last().unwrap().epoch, 200);
    }

    proptest! {
        #[test]
        fn presence_is_the_same_whatever_order_the_facts_arrive_in_and_however_often(
            facts in prop::collection::vec((0_u8..3, 1_u64..6), 1..20),
            seed in any::<u64>(),
        ) {
            let kind = |n: u8| [Kind::Connected, Kind::Disconnected, Kind::Expired][usize::from(n)];
            let all = |order: &[(u8, u64)]| {
                let mut known = None;
                for (n, epoch) in order {
                    if let Some(new) = after(known.clone(), fact(kind(*n), *epoch)) {
                        known = Some(new);
                    }
                }
                known.map(|p| (p.epoch, p.online, p.is_expired))
            };
            let mut shuffled = facts.clone();
            shuffled.extend(facts.iter().copied());
            let count = shuffled.len();
            for at in 0..count {
                shuffled.swap(at, (seed as usize).wrapping_mul(31).wrapping_add(at * 7) % count);
            }
            prop_assert_eq!(all(&facts), all(&shuffled));
        }
    }
}
