//! Stopping and starting again.

use crate::client::{Client, connect, durable, publish};
use crate::start;
use reveille_proto::mqtt::{Packet, QoS, Version};
use reveille_proto::reason::ReasonCode;
use std::io::Write;

const MESSAGES: u16 = 1_000;

#[test]
fn everyone_is_said_goodbye_to() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start("", directory.path());
    let mut new: Vec<Client> = (0..8)
        .map(|no| Client::connect(broker.mqtt_addr(), connect(Version::V5, &format!("n{no}"), true)))
        .collect();
    let mut old = Client::connect(broker.mqtt_addr(), connect(Version::V3_1_1, "old", true));
    let address = broker.mqtt_addr();
    broker.stop();
    for client in &mut new {
        match client.receive_or_end() {
            Some(Packet::Disconnect(goodbye)) => assert_eq!(goodbye.reason, ReasonCode::SERVER_SHUTTING_DOWN),
            other => panic!("{other:?}"),
        }
        assert_eq!(client.receive_or_end(), None);
    }
    assert_eq!(old.receive_or_end(), None, "3.1.1 knows no goodbye");
    assert!(std::net::TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn whoever_is_sending_when_the_broker_stops_hears_why() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start("", directory.path());
    let address = broker.mqtt_addr();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let sender = std::thread::spawn(move || {
        let mut client = Client::connect(address, connect(Version::V5, "sender", true));
        let mut writer = client.socket.try_clone().unwrap();
        let writing = std::thread::spawn(move || {
            let packets = [0x30, 5, 0, 1, b'x', 0, b'y'].repeat(1_000); // QoS 0 on the topic x
            let mut count = 0;
            while writer.write_all(&packets).is_ok() {
                count += 1;
                if count == 10 {
                    ready.send(()).unwrap();
                }
            }
        });
        let last = std::iter::from_fn(|| client.receive_or_end()).last();
        writing.join().unwrap();
        last
    });
    is_ready.recv().unwrap();
    broker.stop();
    match sender.join().unwrap() {
        Some(Packet::Disconnect(goodbye)) => assert_eq!(goodbye.reason, ReasonCode::SERVER_SHUTTING_DOWN),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_session_and_its_thousand_messages_outlive_a_restart_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start("", directory.path());
    for version in [Version::V3_1_1, Version::V5] {
        let mut device =
            Client::connect(broker.mqtt_addr(), durable(version, &format!("device {version:?}")));
        device.subscribe("d/#", QoS::AtLeastOnce);
        device.cut();
    }
    let mut sender = Client::connect(broker.mqtt_addr(), connect(Version::V5, "sender", true));
    let packets: Vec<Packet> =
        (1..=MESSAGES).map(|no| publish("d/x", &no.to_be_bytes(), QoS::AtLeastOnce, no)).collect();
    sender.send_all(&packets);
    for _ in 1..=MESSAGES {
        assert!(matches!(sender.receive(), Packet::PubAck(ack) if ack.reason == ReasonCode::SUCCESS));
    }
    broker.stop();

    let broker = start("", directory.path());
    let mut sender = Client::connect(broker.mqtt_addr(), connect(Version::V5, "sender", true));
    assert_eq!(
        sender.publish("d/x", &(MESSAGES + 1).to_be_bytes(), 1),
        ReasonCode::SUCCESS,
        "routable at once"
    );
    for version in [Version::V3_1_1, Version::V5] {
        let connect = durable(version, &format!("device {version:?}"));
        let (mut device, connack) = Client::open(broker.mqtt_addr(), connect);
        assert!(connack.session_present, "{version:?}");
        for wanted in 1..=MESSAGES + 1 {
            let got = device.receive_publish();
            assert_eq!(&got.payload[..], &wanted.to_be_bytes(), "{version:?}");
            device.acknowledge(&got);
        }
        device.ping();
    }
}

#[test]
fn what_was_acknowledged_is_not_sent_again_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start("", directory.path());
    let mut device = Client::connect(broker.mqtt_addr(), durable(Version::V5, "device"));
    device.subscribe("t", QoS::AtLeastOnce);
    let mut sender = Client::connect(broker.mqtt_addr(), connect(Version::V5, "sender", true));
    for no in 1..=10 {
        sender.publish("t", &[no as u8], no);
    }
    for _ in 0..4 {
        let got = device.receive_publish();
        device.acknowledge(&got);
    }
    (0..6).for_each(|_| drop(device.receive_publish()));
    device.ping(); // the acknowledgements were taken
    broker.stop();

    let broker = start("", directory.path());
    let mut device = Client::connect(broker.mqtt_addr(), durable(Version::V5, "device"));
    for wanted in 5..=10_u8 {
        let got = device.receive_publish();
        assert_eq!(&got.payload[..], [wanted]);
        assert!(got.dup, "it was sent before the restart"); // [MQTT5-3.3.1-1]
        device.acknowledge(&got);
    }
    device.ping();
}
