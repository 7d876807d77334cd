//! Behind a proxy that says for whom it connects.

use super::{address, speaks_mqtt, wait_for_counter};
use crate::broker;
use crate::client::{Client, connect, durable};
use bytes::Bytes;
use reveille_broker::Broker;
use reveille_proto::bridge::presence::Kind;
use reveille_proto::bridge::{Presence, Wire};
use reveille_proto::ids::PacketId;
use reveille_proto::mqtt::{Packet, Subscribe, SubscriptionOptions, Version};
use std::io::{Read, Write};
use std::net::TcpStream;

const V1: &[u8] = b"PROXY TCP4 203.0.113.7 192.0.2.9 56324 1883\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x07\xc0\x00\x02\x09\xdc\x04\x07\x5b";
const V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";

fn serving(more: &str) -> Broker {
    broker(&format!(
        "internal_password = 'sesame'\n[[listeners]]\nname = 'l'\nkind = 'tcp'\naddress = '127.0.0.1:0'\n\
         proxy_protocol = true\n{more}"
    ))
}

fn trusting() -> Broker {
    serving("proxy_trusted = ['127.0.0.0/8']")
}

fn open(broker: &Broker, header: &[u8]) -> TcpStream {
    let mut socket = Client::socket(address(broker), Version::V5).socket;
    socket.write_all(header).unwrap();
    socket
}

/// Where the broker tells the bridge that the next client comes from.
fn network_of(broker: &Broker, header: &[u8]) -> String {
    let mut bridge = durable(Version::V5, "bridge");
    bridge.username = Some("bridge".into());
    bridge.password = Some(Bytes::from_static(b"sesame"));
    let mut bridge = Client::connect(broker.internal_addr(), bridge);
    // What it hears may overtake the SUBACK.
    bridge.send(&Packet::Subscribe(Box::new(Subscribe {
        packet_id: PacketId::new(1).unwrap(),
        subscription_identifier: None,
        user_properties: Vec::new(),
        filters: vec![("$push/v1/+".into(), SubscriptionOptions::default())],
    })));
    // A shard that has not heard of the bridge yet tells it later, and without the network.
    loop {
        let (_client, _) = Client::over(open(broker, header), durable(Version::V5, "told"));
        let told = std::iter::from_fn(|| Some(bridge.receive()))
            .filter_map(|packet| match packet {
                Packet::Publish(publish) => Some(Presence::decode(publish.payload).unwrap()),
                _ => None,
            })
            .find(|presence| presence.client_id == "told" && presence.kind == i32::from(Kind::Connected));
        match told {
            Some(presence) if !presence.network.is_empty() => return presence.network,
            _ => {}
        }
    }
}

#[test]
fn the_header_says_where_a_client_is() {
    for (header, wanted) in [(V1, "203.0.113.7"), (V2, "203.0.113.7"), (V2_LOCAL, "127.0.0.1")] {
        assert_eq!(network_of(&trusting(), header), wanted, "{header:?}");
    }
}

#[test]
fn mqtt_goes_on_behind_the_header_however_it_is_cut() {
    let broker = trusting();
    speaks_mqtt(&broker, || open(&broker, V1));
    for header in [V1, V2] {
        let mut socket = open(&broker, b"");
        for byte in header {
            socket.write_all(&[*byte]).unwrap();
        }
        Client::over(socket, connect(Version::V5, "slow", true)).0.ping();
        // Header, CONNECT and PINGREQ in one write.
        let mut bytes = bytes::BytesMut::from(header);
        Packet::Connect(Box::new(connect(Version::V5, "hasty", true)))
            .write(Version::V5, &mut bytes)
            .unwrap();
        Packet::PingReq.write(Version::V5, &mut bytes).unwrap();
        let mut socket = open(&broker, &bytes);
        let mut first = [0];
        socket.read_exact(&mut first).unwrap();
        assert_eq!(first, [0x20], "CONNACK");
    }
}

#[test]
fn whoever_sends_no_header_is_closed_and_counted() {
    let broker = trusting();
    let connect = b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01c";
    for (count, bytes) in (1..).zip([&connect[..], b"PROXY TCP4 nonsense\r\n", b"GET / HTTP/1.1\r\n\r\n"]) {
        let mut rest = Vec::new();
        let _ = open(&broker, bytes).read_to_end(&mut rest); // a reset is an end too
        assert_eq!(rest, b"", "{bytes:?}");
        wait_for_counter(&broker, "no_proxy_header", count);
    }
}

#[test]
fn nobody_but_a_trusted_proxy_may_connect() {
    let broker = serving("proxy_trusted = ['192.0.2.0/24']");
    let mut socket = Client::socket(address(&broker), Version::V5).socket;
    let _ = socket.write_all(V1);
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest);
    assert_eq!(rest, b"");
    wait_for_counter(&broker, "untrusted_proxy", 1);
}

#[test]
fn a_header_on_a_listener_that_awaits_none_is_no_mqtt() {
    let broker = trusting();
    let mut socket = Client::socket(broker.mqtt_addr(), Version::V5).socket;
    socket.write_all(V1).unwrap();
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest);
    assert_eq!(rest, b"");
}

#[test]
fn the_address_behind_the_proxy_has_a_rate_of_its_own() {
    let broker = serving("proxy_trusted = ['127.0.0.1']\naddress_connection_rate_max = 1");
    let opened: Vec<TcpStream> = (0..200)
        .map(|no| {
            let mut bytes = bytes::BytesMut::from(V1);
            let connect = connect(Version::V5, &format!("c{no}"), true);
            Packet::Connect(Box::new(connect)).write(Version::V5, &mut bytes).unwrap();
            open(&broker, &bytes)
        })
        .collect();
    wait_for_counter(&broker, "address_rate", 1);
    drop(opened);
}
