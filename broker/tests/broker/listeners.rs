//! Every way in besides plain TCP.

pub mod certificates;
mod proxied;
pub mod tls;
mod unix;
mod websocket;

use crate::client::{Client, connect, durable, publish};
use reveille_broker::{Broker, Place};
use reveille_proto::ids::PacketId;
use reveille_proto::mqtt::{Ack, Packet, QoS, Version};
use reveille_proto::reason::ReasonCode;
use std::io::{Read, Write};
use std::net::SocketAddr;

/// The address of the listener `l`.
pub fn address(broker: &Broker) -> SocketAddr {
    let listener = broker.listeners().iter().find(|listener| listener.name == "l").unwrap();
    let Place::Address(address) = listener.place else { panic!("{listener:?}") };
    address
}

/// How many connections were refused for this reason, or what a counter of that name stands at.
pub fn counter(broker: &Broker, name: &str) -> u64 {
    let text = broker.metrics_text();
    let reason = format!("reveille_broker_connections_refused_total{{reason=\"{name}\"}} ");
    let plain = format!("reveille_broker_{name}_total ");
    let count =
        text.lines().find_map(|line| line.strip_prefix(&reason).or_else(|| line.strip_prefix(&plain)));
    count.unwrap_or_else(|| panic!("neither reason nor counter {name}")).parse().unwrap()
}

/// Looks again and again until a counter has got there.
pub fn wait_for_counter(broker: &Broker, name: &str, wanted: u64) {
    let end = std::time::Instant::now() + crate::client::PATIENCE;
    while counter(broker, name) < wanted {
        assert!(std::time::Instant::now() < end, "{name} stays at {}", counter(broker, name));
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
}

/// QoS 0, 1 and 2 there and back, a packet of 1 MiB too, in each version; take-over by and from plain TCP.
pub fn speaks_mqtt<S: Read + Write>(broker: &Broker, mut open: impl FnMut() -> S) {
    for version in [Version::V3_1_1, Version::V5] {
        let (mut client, connack) = Client::over(open(), connect(version, "there-and-back", true));
        assert_eq!(connack.reason, ReasonCode::SUCCESS);
        client.subscribe("echo/#", QoS::ExactlyOnce);
        for (qos, size) in [(QoS::AtMostOnce, 10), (QoS::AtLeastOnce, 100_000), (QoS::ExactlyOnce, 1_000_000)]
        {
            there_and_back(&mut client, qos, size);
        }
        client.ping();
    }
    taken_over(broker, open);
}

fn there_and_back<S: Read + Write>(client: &mut Client<S>, qos: QoS, size: usize) {
    let payload: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
    let packet_id = if qos == QoS::AtMostOnce { 0 } else { 9 };
    client.send(&publish("echo/x", &payload, qos, packet_id));
    let (mut has_come, mut is_done) = (false, qos == QoS::AtMostOnce);
    let ack = |packet_id: PacketId| Ack::new(packet_id, ReasonCode::SUCCESS);
    while !(has_come && is_done) {
        match client.receive() {
            Packet::Publish(publish) => {
                assert_eq!(publish.qos, qos);
                assert!(publish.payload == payload, "{qos:?} {size}: the payload differs");
                match (qos, publish.packet_id) {
                    (QoS::AtLeastOnce, Some(id)) => client.send(&Packet::PubAck(ack(id))),
                    (QoS::ExactlyOnce, Some(id)) => client.send(&Packet::PubRec(ack(id))),
                    (_, _) => {}
                }
                has_come = qos != QoS::ExactlyOnce;
            }
            Packet::PubRel(rel) => {
                client.send(&Packet::PubComp(ack(rel.packet_id)));
                has_come = true;
            }
            Packet::PubRec(rec) => client.send(&Packet::PubRel(ack(rec.packet_id))),
            Packet::PubAck(_) | Packet::PubComp(_) => is_done = true,
            other => panic!("{other:?}"),
        }
    }
}

fn taken_over<S: Read + Write>(broker: &Broker, mut open: impl FnMut() -> S) {
    let mut plain = Client::connect(broker.mqtt_addr(), durable(Version::V5, "mover"));
    plain.subscribe("t", QoS::AtLeastOnce);
    let (mut wrapped, connack) = Client::over(open(), durable(Version::V5, "mover"));
    assert!(connack.session_present);
    said_goodbye(&mut plain, ReasonCode::SESSION_TAKEN_OVER);
    wrapped.ping();
    let (mut plain, connack) = Client::open(broker.mqtt_addr(), durable(Version::V5, "mover"));
    assert!(connack.session_present);
    said_goodbye(&mut wrapped, ReasonCode::SESSION_TAKEN_OVER);
    plain.ping();
}

/// CONNECT and PINGREQ, each byte on its own.
pub fn byte_by_byte<S: Read + Write>(mut stream: S) {
    let mut bytes = bytes::BytesMut::new();
    Packet::Connect(Box::new(connect(Version::V5, "slow", true))).write(Version::V5, &mut bytes).unwrap();
    Packet::PingReq.write(Version::V5, &mut bytes).unwrap();
    for byte in bytes {
        stream.write_all(&[byte]).unwrap();
        stream.flush().unwrap();
    }
    let mut first = [0];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(first, [0x20], "CONNACK");
}

/// What a reader does not read waits, slows nobody else down, and comes whole and in order.
pub fn slow_reader<S: Read + Write>(broker: &Broker, mut open: impl FnMut() -> S) {
    const MESSAGES: u16 = 80;
    let (mut reader, _) = Client::over(open(), connect(Version::V5, "slow-reader", true));
    reader.subscribe("flood", QoS::AtLeastOnce);
    let mut sender = Client::connect(broker.mqtt_addr(), connect(Version::V5, "sender", true));
    let payload = |no: u16| [no.to_be_bytes().to_vec(), vec![(no % 256) as u8; 200_000]].concat();
    // 16 MB: far more than the sockets' buffers and the bound of unsent bytes together.
    for no in 1..=MESSAGES {
        assert_eq!(sender.publish("flood", &payload(no), no), ReasonCode::SUCCESS);
    }
    for no in 1..=MESSAGES {
        let got = reader.receive_publish();
        assert!(got.payload == payload(no), "message {no} differs");
        reader.acknowledge(&got);
    }
    reader.ping();
}

/// The broker says why, and ends the connection.
pub fn said_goodbye<S: Read + Write>(client: &mut Client<S>, wanted: ReasonCode) {
    match client.receive_or_end() {
        Some(Packet::Disconnect(goodbye)) => assert_eq!(goodbye.reason, wanted),
        other => panic!("{other:?}"),
    }
    assert_eq!(client.receive_or_end(), None, "the connection ends with the goodbye");
}

#[test]
fn a_broker_without_a_plain_listener_serves_the_others() {
    let broker =
        crate::broker("listen = 'off'\n[[listeners]]\nname = 'l'\nkind = 'tcp'\naddress = '127.0.0.1:0'");
    assert_eq!(broker.plain_addr(), None);
    Client::connect(address(&broker), connect(Version::V5, "c", true)).ping();
}

#[test]
fn a_listener_has_bounds_of_its_own() {
    let broker = crate::broker(
        "[[listeners]]\nname = 'l'\nkind = 'tcp'\naddress = '127.0.0.1:0'\nconnections_max = 1",
    );
    let _first = Client::connect(address(&broker), connect(Version::V5, "1", true));
    let (_, connack) = Client::open(address(&broker), connect(Version::V5, "2", true));
    assert_eq!(connack.reason, ReasonCode::QUOTA_EXCEEDED);
    Client::connect(broker.mqtt_addr(), connect(Version::V5, "3", true)).ping();
}

#[test]
fn connections_beyond_the_rate_of_a_listener_are_closed_and_counted() {
    for (key, counter) in [("connection_rate_max", "rate"), ("address_connection_rate_max", "address_rate")] {
        let broker = crate::broker(&format!(
            "[[listeners]]\nname = 'l'\nkind = 'tcp'\naddress = '127.0.0.1:0'\n{key} = 1"
        ));
        // However slow the machine: of so many at least two come within one second.
        let opened: Vec<Client> = (0..200).map(|_| Client::socket(address(&broker), Version::V5)).collect();
        wait_for_counter(&broker, counter, 1);
        drop(opened);
        Client::connect(broker.mqtt_addr(), connect(Version::V5, "elsewhere", true)).ping();
    }
}

#[test]
fn anonymous_clients_may_be_kept_out_of_one_listener() {
    let broker = crate::broker(
        "[[listeners]]\nname = 'l'\nkind = 'tcp'\naddress = '127.0.0.1:0'\nallow_anonymous = false",
    );
    let (_, connack) = Client::open(address(&broker), connect(Version::V5, "c", true));
    assert_eq!(connack.reason, ReasonCode::NOT_AUTHORIZED);
    Client::connect(broker.mqtt_addr(), connect(Version::V5, "c", true)).ping();
}
