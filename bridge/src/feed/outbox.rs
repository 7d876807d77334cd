//! From the durable outbox to the broker.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use prost::Message as _;
use reveille_proto::bridge::{self as wire, Strategy};
use reveille_proto::ids::{AppId, MessageId};
use serde_json::json;
use tokio::sync::mpsc;

use super::{AROUND_PAYLOAD, Ended, Given, Link, WINDOW};
use crate::devices;
use crate::inbox;
use crate::messages;
use crate::queues::{self, Out};
use crate::shared::Shared;
use crate::store::{Space, StoreError, Tx, keys};

/// A device that is away hears of a withdrawn message when it comes back within this time, in milliseconds.
const RECALL_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// A packet for the broker; without a topic there is nothing to send any more.
struct Packet {
    number: u64,
    topic_and_payload: Option<(&'static str, Vec<u8>)>,
}

/// Sends every entry once a connection, in order, for ever.
pub(super) async fn send(shared: &Arc<Shared>, link: &Link) -> Result<(), Ended> {
    let mut last = 0;
    loop {
        let packets = shared.store.read(move |tx| packets(tx, last)).await?;
        if packets.is_empty() {
            shared.store.wakes().outbox.notified().await;
        }
        for packet in packets {
            last = packet.number;
            let permit = link.room.acquire().await.map_err(|_| Ended::Library)?;
            let Some((topic, payload)) = packet.topic_and_payload else {
                link.done.send(packet.number).await.map_err(|_| Ended::Library)?;
                continue;
            };
            if payload.len() + AROUND_PAYLOAD > link.packet_max.load(Ordering::SeqCst) as usize {
                tracing::error!(
                    bytes = payload.len(),
                    "a packet of the outbox is larger than the broker takes"
                );
                shared.metrics.refusal("too large");
                link.done.send(packet.number).await.map_err(|_| Ended::Library)?;
                continue;
            }
            permit.forget(); // given back with the broker's acknowledgement
            link.publish(Given::Entry(packet.number), topic, payload)?;
        }
    }
}

fn packets(tx: &Tx<'_>, after: u64) -> Result<Vec<Packet>, StoreError> {
    let entries = queues::outbox_after(tx, after, WINDOW)?;
    let mut packets = Vec::with_capacity(entries.len());
    for (number, out) in entries {
        match packet(tx, number, out) {
            Ok(packet) => packets.push(packet),
            // What it needs cannot be decoded: it holds up nothing behind it.
            Err(error) if error.is_of_one_write() => {
                let key = keys::outbox_entry(number);
                let value = tx.get(Space::Queues, &key)?.unwrap_or_default();
                tx.note_damaged(Space::Queues, key, value, &error);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(packets)
}

fn packet(tx: &Tx<'_>, number: u64, out: Out) -> Result<Packet, StoreError> {
    let topic_and_payload = match out {
        Out::Send { app, message, strategy, language, devices } => {
            let message = messages::load(tx, &app, message)?;
            let is_wanted = |message: &messages::Message| {
                let is_live = message.expires_at_ms.is_none_or(|end_ms| end_ms > tx.now_ms());
                is_live && message.recalled_at_ms.is_none()
            };
            let message = message.filter(is_wanted);
            let device = match (message.as_ref().is_some_and(messages::Message::is_personal), devices.first())
            {
                (true, Some(device)) => devices::load(tx, &app, device)?,
                (true, None) | (false, _) => None,
            };
            message.map(|mut message| {
                message.speak(language.as_deref(), device.as_ref());
                let send = wire::Send { message: Some(message.to_wire(strategy)), client_ids: devices };
                (wire::SEND, send.encode_to_vec())
            })
        }
        Out::Withdraw { app, message, devices } => {
            let message_id = message.0.to_vec().into();
            let withdraw = wire::Withdraw { app: app.as_str().to_owned(), message_id, client_ids: devices };
            Some((wire::WITHDRAW, withdraw.encode_to_vec()))
        }
        Out::Recalled { app, message, devices } => {
            Some((wire::SEND, recalled(&app, message, devices, tx.now_ms()).encode_to_vec()))
        }
        Out::Inbox(note) => inbox::device::packet(tx, note)?.map(|send| (wire::SEND, send.encode_to_vec())),
    };
    Ok(Packet { number, topic_and_payload })
}

/// Tells devices to take away what they may show of a message.
fn recalled(app: &AppId, message: MessageId, devices: Vec<String>, now_ms: u64) -> wire::Send {
    let payload = json!({ "id": message.to_string() });
    let message = wire::Message {
        id: MessageId::note(uuid::Uuid::now_v7().into_bytes()).0.to_vec().into(),
        app: app.as_str().to_owned(),
        topic: wire::RECALL.to_owned(),
        payload: payload.to_string().into_bytes().into(),
        qos: 1,
        accepted_at_ms: now_ms,
        expires_at_ms: now_ms + RECALL_MS,
        strategy: Strategy::OnlineOnly.into(),
        content_type: "application/json".to_owned(),
        ..wire::Message::default()
    };
    wire::Send { message: Some(message), client_ids: devices }
}

/// Removes what is done from the outbox.
pub(super) async fn forget(shared: &Arc<Shared>, mut done: mpsc::Receiver<u64>) -> Result<(), Ended> {
    let mut numbers = Vec::new();
    while done.recv_many(&mut numbers, WINDOW).await > 0 {
        let numbers = std::mem::take(&mut numbers);
        let remove = move |tx: &mut Tx<'_>| {
            numbers.iter().for_each(|number| tx.remove(Space::Queues, keys::outbox_entry(*number)));
            Ok::<_, StoreError>(())
        };
        shared.store.write(remove).await?;
    }
    Ok(())
}
