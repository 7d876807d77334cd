//! A device with the strict client: it acknowledges only when told to.

use bytes::Bytes;
use reveille_proto::mqtt::{Ack, Packet, Publish, QoS};
use reveille_proto::reason::ReasonCode;
use reveille_tests::mqtt::{Client, Options, publish};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// A device token that both fakes take, for a device.
pub fn token(device: &str) -> String {
    device.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// A persistent session that comes and goes.
#[derive(Debug)]
pub struct Device {
    client: Client,
}

impl Device {
    /// Connects; the bridge will hear of it.
    pub fn connect(broker: SocketAddr, name: &str) -> Self {
        Self { client: Client::connect(broker, &Options::persistent(name)) }
    }

    /// Registers a vendor token as the SDK does.
    pub fn register(mut self, name: &str, vendor: &str) -> Self {
        let registration = json!({"vendor": vendor, "token": token(name)}).to_string();
        let reason = self.client.publish("$push/register", registration, QoS::AtLeastOnce);
        assert!(!reason.is_failure(), "{reason:?}");
        self
    }

    /// Subscribes.
    pub fn subscribe(mut self, filter: &str) -> Self {
        assert!(!self.client.subscribe(filter, QoS::AtLeastOnce).is_failure());
        self
    }

    /// The next message, not acknowledged.
    pub fn receive(&mut self) -> Publish {
        loop {
            if let Packet::Publish(publish) = self.client.receive().unwrap() {
                return *publish;
            }
        }
    }

    /// PUBACK.
    pub fn acknowledge(&mut self, message: &Publish) {
        let ack = Ack::new(message.packet_id.unwrap(), ReasonCode::SUCCESS);
        self.client.send(&Packet::PubAck(ack)).unwrap();
    }

    /// The next message's id, acknowledged.
    pub fn take(&mut self) -> String {
        let message = self.receive();
        self.acknowledge(&message);
        push_id(&message)
    }

    /// Whatever comes before PINGRESP: what was due is not on its way any more.
    pub fn ping(&mut self) -> Vec<Publish> {
        self.client.ping()
    }

    /// Reports an alert as shown.
    pub fn shown(&mut self, id: &str) {
        let event = json!({"id": id, "event": "shown", "at_ms": 1_790_000_000_000_u64}).to_string();
        let packet_id = self.client.fresh_id();
        let report = publish("$push/event", Bytes::from(event), QoS::AtLeastOnce, Some(packet_id), false);
        self.client.send(&report).unwrap();
    }

    /// The connection ends without DISCONNECT.
    pub fn vanish(self) {}
}

/// The id that the broker puts on every push candidate; a directed message has the same one in its payload.
pub fn push_id(message: &Publish) -> String {
    let properties = &message.properties.user_properties;
    let id =
        properties.iter().rev().find(|(name, _)| &**name == "push-id").map(|(_, value)| value.to_string());
    let id = id.expect("push-id");
    if message.topic.as_ref().is_some_and(|topic| topic.as_str() == "$push/message") {
        let payload: Value = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(payload["id"], *id, "payload and property agree");
    }
    id
}
