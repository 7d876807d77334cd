//! What the bridge is told, as payloads of `bridge.proto`.

use crate::message::{Message, Push, Time};
use bytes::Bytes;
use reveille_proto::bridge::{self, Acked, Alert, Device, Presence, Queued, Wire, presence::Kind};
use reveille_proto::ids::{AppId, ClientId, Epoch, MessageId};
use reveille_proto::mqtt::{QoS, Version};

/// The bridge's own tenant. No other app can have this name: HTTP and configuration refuse a leading underscore.
pub const BRIDGE_APP: &str = "_reveille";

/// The bridge's tenant as an id.
pub fn bridge_app() -> AppId {
    AppId::parse(BRIDGE_APP).unwrap_or_default()
}

/// A session's connection came, left, or the session ended.
pub(crate) struct Event<'a> {
    pub kind: Kind,
    pub app: &'a AppId,
    pub client_id: &'a ClientId,
    pub epoch: Epoch,
    pub reason: u8,
    pub keep_alive: u16,
    pub session_expiry: u32,
    pub version: Option<Version>,
    pub network: &'a str,
}

pub(crate) fn presence(event: &Event<'_>, now: Time) -> Bytes {
    let level = match event.version {
        None => 0,
        Some(Version::V3_1) => 3,
        Some(Version::V3_1_1) => 4,
        Some(Version::V5) => 5,
    };
    let presence = Presence {
        kind: event.kind.into(),
        app: event.app.to_string(),
        client_id: event.client_id.to_string(),
        epoch: event.epoch.0,
        at_ms: now.0,
        reason: u32::from(event.reason),
        keep_alive_s: u32::from(event.keep_alive),
        session_expiry_s: event.session_expiry,
        protocol_level: level,
        network: event.network.to_owned(),
    };
    presence.encode_to_vec().into()
}

/// The broker started: every session with an epoch below this one is disconnected.
pub fn broker_started(epoch: Epoch, now: Time) -> Bytes {
    let presence =
        Presence { kind: Kind::BrokerStarted.into(), epoch: epoch.0, at_ms: now.0, ..Presence::default() };
    presence.encode_to_vec().into()
}

/// `Queued` and `Unacked` have one shape on the wire; the topic tells them apart.
pub(crate) fn queued(message: &Message, push: &Push, devices: Vec<Device>) -> Bytes {
    Queued { message: Some(wire_message(message, push)), devices }.encode_to_vec().into()
}

pub(crate) fn acked(app: &AppId, id: MessageId, devices: Vec<Device>, now: Time) -> Bytes {
    let acked =
        Acked { app: app.to_string(), message_id: Bytes::copy_from_slice(&id.0), devices, at_ms: now.0 };
    acked.encode_to_vec().into()
}

pub(crate) fn device(client_id: &ClientId, epoch: Epoch) -> Device {
    Device { client_id: client_id.to_string(), epoch: epoch.0 }
}

fn wire_message(message: &Message, push: &Push) -> bridge::Message {
    let content_type = message.properties.as_ref().and_then(|properties| properties.content_type.as_ref());
    bridge::Message {
        id: Bytes::copy_from_slice(&push.id.0),
        app: message.app.to_string(),
        topic: message.topic.to_string(),
        payload: message.payload.clone(),
        qos: u32::from(message.qos as u8).max(QoS::AtLeastOnce as u32),
        accepted_at_ms: message.accepted_at.0,
        expires_at_ms: message.expires_at.map_or(0, |end| end.0),
        priority: push.priority.into(),
        collapse_key: push.collapse_key.as_ref().map(ToString::to_string).unwrap_or_default(),
        strategy: push.strategy.into(),
        wait_ack_ms: u32::try_from(push.wait_ack.as_millis()).unwrap_or(u32::MAX),
        alert: push
            .alert
            .as_ref()
            .map(|alert| Alert { title: alert.title.clone(), body: alert.body.clone() }),
        content_type: content_type.map(ToString::to_string).unwrap_or_default(),
    }
}
