//! What one client does to itself and to nobody else.

use crate::broker;
use crate::client::{Client, connect, publish};
use reveille_proto::mqtt::{Packet, QoS, Version};
use reveille_proto::reason::ReasonCode;
use std::io::Write;

#[test]
fn garbage_ends_its_own_connection_and_no_other() {
    let broker = broker("");
    let mut bystander = Client::connect(broker.mqtt_addr(), connect(Version::V5, "bystander", true));
    bystander.subscribe("t", QoS::AtLeastOnce);
    let rows: [(&[u8], ReasonCode); 5] = [
        (b"\x30\x03\x00\x00\x00", ReasonCode::PROTOCOL_ERROR), // neither topic nor alias
        (b"\x36\x05\x00\x01t\x00\x01", ReasonCode::MALFORMED_PACKET), // QoS 3
        (b"\x82\x03\x00\x01\x00", ReasonCode::PROTOCOL_ERROR), // SUBSCRIBE without a filter
        (b"\x30\xff\xff\xff\x7f", ReasonCode::PACKET_TOO_LARGE),
        (b"\x20\x03\x00\x00\x00", ReasonCode::PROTOCOL_ERROR), // CONNACK from a client
    ];
    for (at, (bytes, wanted)) in rows.into_iter().enumerate() {
        let mut client =
            Client::connect(broker.mqtt_addr(), connect(Version::V5, &format!("bad-{at}"), true));
        client.socket.write_all(bytes).unwrap();
        match client.receive_or_end() {
            Some(Packet::Disconnect(goodbye)) => assert_eq!(goodbye.reason, wanted, "{bytes:?}"),
            other => panic!("{other:?} after {bytes:?}"),
        }
        assert_eq!(client.receive_or_end(), None, "{bytes:?}");
        bystander.ping();
    }
}

#[test]
fn a_reader_that_does_not_read_slows_nobody_down() {
    let broker = broker("[limits]\nunsent_max_bytes = 65536");
    let mut stuck: Vec<Client> = (0..4)
        .map(|no| {
            let mut client =
                Client::connect(broker.mqtt_addr(), connect(Version::V5, &format!("stuck-{no}"), true));
            client.subscribe("flood", QoS::AtMostOnce);
            client
        })
        .collect();
    let mut readers: Vec<Client> = (0..4)
        .map(|no| {
            let mut client =
                Client::connect(broker.mqtt_addr(), connect(Version::V5, &format!("reader-{no}"), true));
            client.subscribe("news", QoS::AtLeastOnce);
            client
        })
        .collect();
    let mut sender = Client::connect(broker.mqtt_addr(), connect(Version::V5, "sender", true));
    let payload = vec![7; 8 << 10];
    // 32 MiB that nobody reads: far more than the sockets' buffers and the bound together.
    for round in 1..=4_096_u16 {
        sender.send(&publish("flood", &payload, QoS::AtMostOnce, 0));
        if round % 512 == 0 {
            assert_eq!(sender.publish("news", b"still here", round), ReasonCode::SUCCESS);
            for reader in &mut readers {
                let got = reader.receive_publish();
                reader.acknowledge(&got);
            }
        }
    }
    let text = broker.metrics_text();
    let dropped = text.lines().find_map(|line| {
        line.strip_prefix("reveille_broker_messages_dropped_total{reason=\"slow_reader\"} ")
    });
    assert!(dropped.unwrap().parse::<u64>().unwrap() > 0, "{text}");
    // Whoever starts to read again gets what was kept, and then what is new.
    let reader = stuck.first_mut().unwrap();
    sender.publish("flood", b"the last one", 1);
    let mut count = 0;
    loop {
        let got = reader.receive_publish();
        if &got.payload[..] == b"the last one" {
            break;
        }
        count += 1;
        if count > 0 && count % 64 == 0 {
            sender.publish("flood", b"the last one", 1); // the one before may have been dropped too
        }
    }
    assert!(count < 4_096, "everything was kept");
}

#[test]
fn whoever_sends_without_a_pause_gets_its_turn_like_everyone_else() {
    let broker = broker("");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let address = broker.mqtt_addr();
    let flooders: Vec<_> = (0..3)
        .map(|no| {
            let stop = std::sync::Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut client =
                    Client::connect(address, connect(Version::V5, &format!("flooder-{no}"), true));
                let packets: Vec<Packet> =
                    (0..64).map(|_| publish("x", &[0; 512], QoS::AtMostOnce, 0)).collect();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    client.send_all(&packets);
                }
            })
        })
        .collect();
    for no in 0..8 {
        let mut client = Client::connect(address, connect(Version::V5, &format!("calm-{no}"), true));
        for _ in 0..20 {
            client.ping();
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for flooder in flooders {
        flooder.join().unwrap();
    }
}
