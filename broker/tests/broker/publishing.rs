//! Messages between clients: all versions, all QoS, both shards.

use crate::client::{Client, connect, durable, publish};
use crate::{broker, start};
use reveille_proto::ids::PacketId;
use reveille_proto::mqtt::{Ack, Packet, QoS, Version};
use reveille_proto::reason::ReasonCode;

/// So many client ids that both shards own some.
const CLIENTS: usize = 8;

#[test]
fn every_version_hears_every_other_on_both_shards() {
    let broker = broker("");
    let versions = [Version::V3_1, Version::V3_1_1, Version::V5];
    for (publisher, subscriber) in versions.iter().flat_map(|a| versions.iter().map(move |b| (*a, *b))) {
        let mut subscribers: Vec<Client> = (0..CLIENTS)
            .map(|no| {
                let id = format!("s{no}");
                let mut client = Client::connect(broker.mqtt_addr(), connect(subscriber, &id, true));
                client.subscribe("设备/+/state", QoS::AtLeastOnce);
                client
            })
            .collect();
        let mut sender = Client::connect(broker.mqtt_addr(), connect(publisher, "p", true));
        assert_eq!(sender.publish("设备/1/state", b"on", 1), ReasonCode::SUCCESS);
        for client in &mut subscribers {
            let got = client.receive_publish();
            assert_eq!(
                got.topic.as_ref().unwrap().as_str(),
                "设备/1/state",
                "{publisher:?} to {subscriber:?}"
            );
            assert_eq!(&got.payload[..], b"on");
            client.acknowledge(&got);
            client.ping();
        }
    }
}

#[test]
fn exactly_once_takes_its_four_steps_to_durable_sessions() {
    let broker = broker("");
    let mut receiver = Client::connect(broker.mqtt_addr(), durable(Version::V5, "receiver"));
    receiver.subscribe("t", QoS::ExactlyOnce);
    let mut sender = Client::connect(broker.mqtt_addr(), connect(Version::V3_1_1, "sender", true));
    let id = PacketId::new(5).unwrap();
    sender.send(&publish("t", b"once", QoS::ExactlyOnce, 5));
    assert_eq!(sender.receive(), Packet::PubRec(Ack::new(id, ReasonCode::SUCCESS)));
    sender.send(&Packet::PubRel(Ack::new(id, ReasonCode::SUCCESS)));
    assert_eq!(sender.receive(), Packet::PubComp(Ack::new(id, ReasonCode::SUCCESS)));

    let got = receiver.receive_publish();
    assert_eq!((got.qos, &got.payload[..]), (QoS::ExactlyOnce, &b"once"[..]));
    let id = got.packet_id.unwrap();
    receiver.send(&Packet::PubRec(Ack::new(id, ReasonCode::SUCCESS)));
    assert_eq!(receiver.receive(), Packet::PubRel(Ack::new(id, ReasonCode::SUCCESS)));
    receiver.send(&Packet::PubComp(Ack::new(id, ReasonCode::SUCCESS)));
    receiver.ping();
}

#[test]
fn acknowledgements_come_in_the_order_of_the_publishes() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start("", directory.path());
    let mut offline = Client::connect(broker.mqtt_addr(), durable(Version::V5, "offline"));
    offline.subscribe("slow/#", QoS::AtLeastOnce);
    offline.cut();
    let mut sender = Client::connect(broker.mqtt_addr(), connect(Version::V5, "sender", true));
    // Every other one goes to the disk, the rest to nobody.
    let topics = ["slow/1", "nobody"];
    let packets: Vec<Packet> =
        (1..=200_u16).map(|no| publish(topics[usize::from(no % 2)], b"x", QoS::AtLeastOnce, no)).collect();
    sender.send_all(&packets);
    for wanted in 1..=200 {
        match sender.receive() {
            Packet::PubAck(ack) => assert_eq!(ack.packet_id.get(), wanted),
            other => panic!("{other:?} instead of PUBACK {wanted}"),
        }
    }
}

#[test]
fn a_large_message_crosses_in_pieces() {
    let broker = broker("");
    let mut receiver = Client::connect(broker.mqtt_addr(), connect(Version::V5, "receiver", true));
    receiver.subscribe("big", QoS::AtLeastOnce);
    let mut sender = Client::connect(broker.mqtt_addr(), connect(Version::V5, "sender", true));
    let payload: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
    assert_eq!(sender.publish("big", &payload, 1), ReasonCode::SUCCESS);
    let got = receiver.receive_publish();
    assert!(got.payload == payload, "the payload changed on its way");
}

#[test]
fn retained_messages_come_to_whoever_subscribes_later_all_of_them() {
    const TOPICS: u16 = 1_000; // more than one page and more than the receive maximum below
    let broker = broker("");
    let mut sender = Client::connect(broker.mqtt_addr(), connect(Version::V5, "sender", true));
    for no in 1..=TOPICS {
        let mut packet = publish(&format!("state/{no:04}"), &no.to_be_bytes(), QoS::AtLeastOnce, no);
        if let Packet::Publish(publish) = &mut packet {
            publish.retain = true;
        }
        sender.send(&packet);
        if no % 100 == 0 {
            (0..100).for_each(|_| assert!(matches!(sender.receive(), Packet::PubAck(_))));
        }
    }
    let mut wanted = connect(Version::V5, "late", true);
    wanted.properties.receive_maximum = Some(20);
    let mut late = Client::connect(broker.mqtt_addr(), wanted);
    late.subscribe("state/+", QoS::AtLeastOnce);
    let mut topics = std::collections::BTreeSet::new();
    while topics.len() < usize::from(TOPICS) {
        let got = late.receive_publish();
        assert!(got.retain);
        late.acknowledge(&got);
        topics.insert(got.topic.unwrap().as_str().to_owned());
    }
}

#[test]
fn a_client_that_was_paused_within_one_turn_is_read_on_when_its_bytes_are_written() {
    let broker = broker("sys_interval_s = 0\n[limits]\nunsent_max_bytes = 4096");
    let mut hello = connect(Version::V5, "talks", true);
    hello.keep_alive = 0; // neither a deadline nor $SYS wakes the shard in place of its bytes
    let mut client = Client::connect(broker.mqtt_addr(), hello);
    client.subscribe("t", QoS::AtMostOnce);
    let large = publish("t", &[0; 8 << 10], QoS::AtMostOnce, 0);
    for _ in 0..20 {
        // The message fills the bound, so the first ping pauses reading, and the others wait although they came.
        client.send_all(&[large.clone(), Packet::PingReq, Packet::PingReq, Packet::PingReq]);
        let mut answers = 0;
        while answers < 3 {
            match client.receive() {
                Packet::PingResp => answers += 1,
                Packet::Publish(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}
