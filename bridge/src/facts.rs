//! What the broker tells: each fact becomes durable here before it is acknowledged.

use prost::Message as _;
use reveille_proto::bridge::{self as wire, Strategy, from_device};
use reveille_proto::ids::{AppId, ClientId, MessageId};
use serde::Deserialize;

use crate::apps;
use crate::deliveries::{Case, News, Reaction};
use crate::devices::{self, Attributes, is_device_id};
use crate::inbox;
use crate::jobs::{self, hand_to_broker};
use crate::lane::Registered;
use crate::messages::{self, Message};
use crate::plan::{Broker, Event};
use crate::queues::{self, Check};
use crate::rules::Rules;
use crate::store::{StoreError, Tx};
use crate::tokens;
use crate::vendor::{DeviceToken, VendorName};

/// Something that the broker told.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// Queued for devices that are offline.
    Queued(wire::Queued),
    /// Not acknowledged in time by devices that are online.
    Unacked(wire::Unacked),
    /// Acknowledged by devices.
    Acked(wire::Acked),
    /// A device came or went.
    Presence(wire::Presence),
    /// A device said something.
    Device(wire::FromDevice),
}

/// Why a packet of the feed is no fact.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoFact {
    /// None of the feed's topics.
    #[error("unknown topic")]
    Topic,
    /// Not the message that the topic carries.
    #[error("malformed payload")]
    Payload,
}

impl Fact {
    /// Reads a packet of the feed.
    ///
    /// # Errors
    /// [`NoFact`] when topic or payload are not the feed's. Repeating it would not help, so it is acknowledged.
    pub fn read(topic: &str, payload: &[u8]) -> Result<Self, NoFact> {
        let fact = match topic {
            wire::QUEUED => wire::Queued::decode(payload).map(Self::Queued),
            wire::UNACKED => wire::Unacked::decode(payload).map(Self::Unacked),
            wire::ACKED => wire::Acked::decode(payload).map(Self::Acked),
            wire::PRESENCE => wire::Presence::decode(payload).map(Self::Presence),
            wire::DEVICE => wire::FromDevice::decode(payload).map(Self::Device),
            _ => return Err(NoFact::Topic),
        };
        fact.map_err(|_| NoFact::Payload)
    }

    /// Whose it is; empty when it does not say so.
    fn app(&self) -> &str {
        match self {
            Self::Queued(wire::Queued { message, .. }) | Self::Unacked(wire::Unacked { message, .. }) => {
                message.as_ref().map_or("", |message| &message.app)
            }
            Self::Acked(acked) => &acked.app,
            Self::Presence(presence) => &presence.app,
            Self::Device(said) => &said.app,
        }
    }

    /// A short name for metric labels.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Queued(_) => "queued",
            Self::Unacked(_) => "unacked",
            Self::Acked(_) => "acked",
            Self::Presence(_) => "presence",
            Self::Device(_) => "device",
        }
    }
}

/// What became of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was for us.
    Taken,
    /// It says nothing that we can use, for this reason.
    Ignored(&'static str),
}

/// Takes a fact. Repeating it is harmless.
pub(crate) fn take(tx: &mut Tx<'_>, rules: &Rules, fact: Fact) -> Result<Taken, StoreError> {
    if let Ok(app) = AppId::parse(fact.app())
        && apps::record(tx, &app)?.is_some_and(|app| app.removal.is_some())
    {
        return Ok(Taken::Ignored("of an app that is being removed"));
    }
    match fact {
        Fact::Queued(wire::Queued { message, devices }) => {
            missed(tx, rules, message, &devices, Missed::Queued)
        }
        Fact::Unacked(wire::Unacked { message, devices }) => {
            missed(tx, rules, message, &devices, Missed::Unacked)
        }
        Fact::Acked(acked) => take_acked(tx, rules, &acked),
        Fact::Presence(presence) => take_presence(tx, presence),
        Fact::Device(said) => match from_device::Kind::try_from(said.kind) {
            Ok(from_device::Kind::Register) => register(tx, &said),
            Ok(from_device::Kind::Event) => react(tx, &said),
            Ok(from_device::Kind::Inbox) => {
                let taken = inbox::device::take(tx, &said)?;
                Ok(taken.map_or_else(Taken::Ignored, |()| Taken::Taken))
            }
            Err(_) => Ok(Taken::Ignored("unknown kind of device message")),
        },
    }
}

#[derive(Clone, Copy)]
enum Missed {
    Queued,
    Unacked,
}

impl Missed {
    fn news(self, epoch: u64) -> News {
        match self {
            Self::Queued if epoch == 0 => {
                News::new(Event::Queued { epoch }, "the device has no session at the broker")
            }
            Self::Queued => News::new(Event::Queued { epoch }, "the device is offline"),
            Self::Unacked => {
                News::new(Event::Unacked { epoch }, "sent over the socket, not acknowledged in time")
            }
        }
    }
}

fn identity(app: &str, id: &[u8]) -> Option<(AppId, MessageId)> {
    let id = MessageId::from_bytes(id).ok().filter(|id| !id.is_note())?;
    Some((AppId::parse(app).ok()?, id))
}

fn missed(
    tx: &mut Tx<'_>,
    rules: &Rules,
    message: Option<wire::Message>,
    devices: &[wire::Device],
    how: Missed,
) -> Result<Taken, StoreError> {
    let Some(wired) = message else { return Ok(Taken::Ignored("no message in it")) };
    let Some((app, id)) = identity(&wired.app, &wired.id) else {
        return Ok(Taken::Ignored("no app or message id in it"));
    };
    let Some(message) = known_or_new(tx, rules, &app, id, wired)? else {
        return Ok(Taken::Ignored("neither a message of ours nor one with an alert"));
    };
    let mut for_broker = Vec::new();
    for device in devices.iter().filter(|device| is_device_id(&device.client_id)) {
        let mut case = Case::load(tx, &message, &device.client_id)?;
        if !case.is_known() {
            case.tell(tx.now_ms(), News::new(Event::Told, "published over MQTT"));
        }
        case.tell(tx.now_ms(), how.news(device.epoch));
        case.settle(tx)?;
        if case.to_broker {
            for_broker.push((case.delivery.strategy, case.delivery.language, device.client_id.clone()));
        }
    }
    for (strategy, language, device) in for_broker {
        hand_to_broker(tx, rules, &message, strategy, language, vec![device])?;
    }
    Ok(Taken::Taken)
}

/// A message that we sent, or one of a publisher that is seen for the first time.
fn known_or_new(
    tx: &mut Tx<'_>,
    rules: &Rules,
    app: &AppId,
    id: MessageId,
    wired: wire::Message,
) -> Result<Option<Message>, StoreError> {
    let known = messages::load(tx, app, id)?;
    if known.as_ref().is_some_and(|message| message.content.is_some()) {
        return Ok(known);
    }
    let Some(message) = Message::from_wire(app, id, wired, rules.wait_ack_ms) else { return Ok(None) };
    keep_new(tx, rules, &message, known.is_none())?;
    Ok(Some(message))
}

/// Writes a message for the first time, with the moments of its end.
pub(crate) fn keep_new(
    tx: &mut Tx<'_>,
    rules: &Rules,
    message: &Message,
    is_new: bool,
) -> Result<(), StoreError> {
    messages::save(tx, message)?;
    let (app, id) = (message.app.clone(), message.id);
    if let Some(expires_at_ms) = message.expires_at_ms {
        queues::check_at(tx, expires_at_ms, &Check::Expiry { app: app.clone(), message: id })?;
    }
    if is_new {
        let end_ms = message.expires_at_ms.unwrap_or(message.accepted_at_ms).max(tx.now_ms());
        queues::check_at(tx, end_ms.saturating_add(rules.retention_ms), &Check::Forget { app, message: id })?;
    }
    Ok(())
}

fn take_acked(tx: &mut Tx<'_>, rules: &Rules, acked: &wire::Acked) -> Result<Taken, StoreError> {
    let Some((app, id)) = identity(&acked.app, &acked.message_id) else {
        return Ok(Taken::Ignored("no app or message id in it"));
    };
    let message = match messages::load(tx, &app, id)? {
        Some(message) => message,
        None => {
            // The word of its queueing may come later, and must then find that the device has it.
            let message = Message::unknown(&app, id, acked.at_ms);
            keep_new(tx, rules, &message, true)?;
            message
        }
    };
    let mut to_tell = Vec::new();
    for device in acked.devices.iter().filter(|device| is_device_id(&device.client_id)) {
        let mut case = Case::load(tx, &message, &device.client_id)?;
        if !case.is_known() {
            case.tell(tx.now_ms(), News::new(Event::Told, "published over MQTT"));
        }
        // When the message was withdrawn, nobody knew that this device would have it.
        let is_news = case.delivery.facts.broker != Broker::Acked;
        case.tell(tx.now_ms(), News::new(Event::Acked, "acknowledged over the socket"));
        case.settle(tx)?;
        if message.is_taken_back() && is_news && jobs::may_have_it(&case.delivery) {
            to_tell.push(case.device_id);
        }
    }
    jobs::tell_recalled(tx, &message, to_tell)?;
    Ok(Taken::Taken)
}

fn take_presence(tx: &mut Tx<'_>, presence: wire::Presence) -> Result<Taken, StoreError> {
    if presence.kind() == wire::presence::Kind::BrokerStarted {
        return devices::note_presence(tx, &AppId::default(), presence).map(|()| Taken::Taken);
    }
    let Ok(app) = AppId::parse(&presence.app) else { return Ok(Taken::Ignored("no app in it")) };
    if !is_device_id(&presence.client_id) {
        return Ok(Taken::Ignored("a client id that the bridge does not keep"));
    }
    devices::note_presence(tx, &app, presence).map(|()| Taken::Taken)
}

/// What a device says on `$push/register`.
#[derive(Deserialize)]
struct Register {
    vendor: Option<VendorName>,
    token: Option<DeviceToken>,
    #[serde(flatten)]
    home: Registered,
    #[serde(flatten)]
    attributes: Attributes,
}

fn register(tx: &mut Tx<'_>, said: &wire::FromDevice) -> Result<Taken, StoreError> {
    let Ok(app) = AppId::parse(&said.app) else { return Ok(Taken::Ignored("no app in it")) };
    if ClientId::parse(&said.client_id).is_err() || !is_device_id(&said.client_id) {
        return Ok(Taken::Ignored("a client id that the bridge does not keep"));
    }
    let Ok(register) = serde_json::from_slice::<Register>(&said.payload) else {
        return Ok(Taken::Ignored("a registration that is not the JSON it should be"));
    };
    if register.attributes.too_long().is_some() {
        return Ok(Taken::Ignored("a registration with an attribute that is too long"));
    }
    let Ok(home) = register.home.check() else {
        return Ok(Taken::Ignored("a registration with an environment or bundle id of no use"));
    };
    let mut device = devices::load_or_new(tx, &app, &said.client_id)?;
    device.attributes.update(register.attributes);
    match (register.vendor, register.token) {
        (Some(vendor), Some(token)) => tokens::register(tx, &app, &mut device, vendor, token, home)?,
        (None, None) => {}
        _ => return Ok(Taken::Ignored("a registration with only one of vendor and token")),
    }
    devices::save(tx, &app, &device)?;
    Ok(Taken::Taken)
}

/// What a device says on `$push/event`.
#[derive(Deserialize)]
struct DeviceEvent {
    id: String,
    event: Reaction,
    at_ms: Option<u64>,
}

fn react(tx: &mut Tx<'_>, said: &wire::FromDevice) -> Result<Taken, StoreError> {
    let event = serde_json::from_slice::<DeviceEvent>(&said.payload).ok();
    let parsed = event.and_then(|event| Some((MessageId::parse(&event.id).ok()?, event)));
    let (Some((id, event)), Ok(app)) = (parsed, AppId::parse(&said.app)) else {
        return Ok(Taken::Ignored("an event that is not the JSON it should be"));
    };
    let Some(message) = messages::load_pushed(tx, &app, id)? else {
        return Ok(Taken::Ignored("an event about a message that is not known"));
    };
    let mut case = Case::load(tx, &message, &said.client_id)?;
    if !case.is_known() {
        return Ok(Taken::Ignored("an event about a message that was not for this device"));
    }
    // A phone's clock may be wrong: what lies ahead of ours is now.
    let at_ms = event.at_ms.unwrap_or(said.at_ms).min(tx.now_ms());
    case.react(tx, event.event, at_ms)?;
    Ok(Taken::Taken)
}

/// The silence check: devices about which the broker said nothing are now the vendors'.
pub(crate) fn note_silence(
    tx: &mut Tx<'_>,
    app: &AppId,
    id: MessageId,
    devices: &[String],
) -> Result<(), StoreError> {
    let Some(message) = messages::load(tx, app, id)? else { return Ok(()) };
    for device in devices {
        let mut case = Case::load(tx, &message, device)?;
        if case.is_known() && case.delivery.strategy == Strategy::OnlineFirst {
            case.tell(tx.now_ms(), News::new(Event::Silent, "the broker said nothing in time"));
            case.settle(tx)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
