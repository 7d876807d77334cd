//! What the bridge hears and what it may ask for.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod bench;

use bench::{Bench, connect, durable, packet_id, publish};
use reveille_broker_core::io::ConnectionKey;
use reveille_broker_core::limits::Limits;
use reveille_proto::bridge::{self, Acked, FromDevice, Presence, Queued, Wire, from_device, presence};
use reveille_proto::ids::MessageId;
use reveille_proto::mqtt::{Ack, Packet, PublishProperties, Version};
use reveille_proto::reason::ReasonCode;

const ID: MessageId = MessageId([7; 16]);

fn send(ids: &[&str], collapse_key: &str, id: MessageId) -> bridge::Send {
    let message = bridge::Message {
        id: id.0.to_vec().into(),
        app: "default".into(),
        payload: "醒来".into(),
        qos: 1,
        wait_ack_ms: 500,
        collapse_key: collapse_key.into(),
        ..Default::default()
    };
    bridge::Send { message: Some(message), client_ids: ids.iter().map(ToString::to_string).collect() }
}

/// Everything that came to the bridge since the last look, acknowledged.
fn heard(bench: &mut Bench, bridge: ConnectionKey) -> Vec<(String, bytes::Bytes)> {
    let publishes = bench.publishes(bridge);
    for publish in &publishes {
        bench.send(bridge, Packet::PubAck(Ack::new(publish.packet_id.unwrap(), ReasonCode::SUCCESS)));
    }
    publishes.into_iter().map(|publish| (publish.topic.unwrap().to_string(), publish.payload)).collect()
}

fn on(heard: &[(String, bytes::Bytes)], topic: &str) -> Vec<bytes::Bytes> {
    heard.iter().filter(|(of, _)| of == topic).map(|(_, payload)| payload.clone()).collect()
}

fn order(bench: &mut Bench, bridge: ConnectionKey, send: &bridge::Send, id: u16) {
    let mut order = publish(bridge::SEND, "", 1, id);
    order.payload = send.encode_to_vec().into();
    bench.publish(bridge, order);
}

#[test]
fn a_directed_message_reaches_who_is_there_and_is_reported_for_who_is_not() {
    let mut bench = Bench::new(Limits::default());
    let bridge = bench.open_bridge();
    let awake = bench.online(durable("awake"));
    let asleep = bench.online(durable("睡"));
    bench.lose(asleep);
    heard(&mut bench, bridge);
    order(&mut bench, bridge, &send(&["awake", "睡", "nobody"], "", ID), 5);
    let got = bench.publishes(awake);
    assert_eq!(got[0].topic.as_ref().unwrap().as_str(), "$push/message");
    let push_id = ("push-id".into(), ID.to_string().into());
    assert_eq!(got[0].properties.user_properties, [push_id], "the device can drop a duplicate");
    let events = heard(&mut bench, bridge);
    let queued = Queued::decode(on(&events, bridge::QUEUED)[0].clone()).unwrap();
    let mut devices: Vec<_> =
        queued.devices.iter().map(|device| (device.client_id.as_str(), device.epoch > 0)).collect();
    devices.sort_unstable();
    assert_eq!(devices, [("nobody", false), ("睡", true)]);
    bench.send(awake, Packet::PubAck(Ack::new(got[0].packet_id.unwrap(), ReasonCode::SUCCESS)));
    let events = heard(&mut bench, bridge);
    let acked = Acked::decode(on(&events, bridge::ACKED)[0].clone()).unwrap();
    assert_eq!((acked.message_id, acked.devices[0].client_id.as_str()), (ID.0.to_vec().into(), "awake"));
}

#[test]
fn repeating_a_chunk_is_harmless_and_a_collapse_key_replaces() {
    let mut bench = Bench::new(Limits::default());
    let bridge = bench.open_bridge();
    let device = bench.online(durable("d"));
    order(&mut bench, bridge, &send(&["d"], "", ID), 1);
    order(&mut bench, bridge, &send(&["d"], "", ID), 2);
    let got = bench.publishes(device);
    assert_eq!(got.len(), 1);
    bench.send(device, Packet::PubAck(Ack::new(got[0].packet_id.unwrap(), ReasonCode::SUCCESS)));
    order(&mut bench, bridge, &send(&["d"], "", ID), 3);
    assert_eq!(bench.publishes(device).len(), 0, "acknowledged a moment ago");
    bench.lose(device);
    order(&mut bench, bridge, &send(&["d"], "k", MessageId([8; 16])), 4);
    order(&mut bench, bridge, &send(&["d"], "k", MessageId([9; 16])), 5);
    let back = bench.open(durable("d"));
    let got = bench.publishes(back);
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].properties.user_properties[0].1, MessageId([9; 16]).to_string(), "the newer one");
    assert_eq!(bench.shard.counters().dropped_collapsed, 1);
}

#[test]
fn an_online_device_that_stays_silent_is_reported_once_and_one_that_vanishes_at_once() {
    for (vanishes, topic) in [(false, bridge::UNACKED), (true, bridge::QUEUED)] {
        let mut bench = Bench::new(Limits::default());
        let bridge = bench.open_bridge();
        let device = bench.online(durable("d"));
        order(&mut bench, bridge, &send(&["d"], "", ID), 1);
        heard(&mut bench, bridge);
        if vanishes {
            bench.lose(device);
        } else {
            bench.wait(400);
            assert_eq!(on(&heard(&mut bench, bridge), topic).len(), 0, "not before its deadline");
            bench.wait(1_200);
        }
        assert_eq!(on(&heard(&mut bench, bridge), topic).len(), 1);
        bench.wait(5_000);
        let events = heard(&mut bench, bridge);
        assert_eq!(on(&events, bridge::UNACKED).len() + on(&events, bridge::QUEUED).len(), 0, "only once");
    }
}

#[test]
fn where_connections_die_within_a_minute_a_push_does_not_wait_for_its_acknowledgement() {
    let mut bench = Bench::new(Limits::default());
    bench.network = "203.0.113.7";
    let bridge = bench.open_bridge();
    let device = bench.online(durable("d"));
    for (id, words, is_hopeless) in [(1, "net=4g,46000;hopeless=1", true), (2, "net=4g,46000", false)] {
        bench.publish(device, publish(reveille_proto::heartbeat::REPORT_TOPIC, words, 1, id));
        order(&mut bench, bridge, &send(&["d"], "", MessageId([u8::try_from(id).unwrap(); 16])), id);
        heard(&mut bench, bridge);
        bench.wait(100);
        let told = on(&heard(&mut bench, bridge), bridge::UNACKED).len();
        assert_eq!(told, usize::from(is_hopeless), "{words}");
    }
}

#[test]
fn a_device_says_with_its_connection_that_its_network_kills_them() {
    let mut bench = Bench::new(Limits::default());
    bench.network = "203.0.113.7";
    let bridge = bench.open_bridge();
    for (id, is_hopeless) in [(1, true), (2, false)] {
        let mut connect = durable("d");
        let hello = reveille_proto::heartbeat::Hello { is_hopeless, ..Default::default() };
        let own = |(name, value): (String, String)| (name.into(), value.into());
        connect.properties.user_properties = hello.properties().into_iter().map(own).collect();
        let device = bench.online(connect);
        order(&mut bench, bridge, &send(&["d"], "", MessageId([u8::try_from(id).unwrap(); 16])), id);
        heard(&mut bench, bridge);
        bench.wait(100);
        let told = on(&heard(&mut bench, bridge), bridge::UNACKED).len();
        assert_eq!(told, usize::from(is_hopeless));
        bench.lose(device);
    }
}

#[test]
fn presence_is_told_with_growing_epochs() {
    let mut bench = Bench::new(Limits::default());
    let bridge = bench.open_bridge();
    let first = bench.online(durable("d"));
    let second = bench.online(durable("d"));
    bench.lose(second);
    let _ = first;
    bench.wait(4_000_000);
    let events: Vec<Presence> = on(&heard(&mut bench, bridge), bridge::PRESENCE)
        .into_iter()
        .map(|payload| Presence::decode(payload).unwrap())
        .collect();
    let kinds: Vec<_> = events.iter().map(|event| (event.kind(), event.reason)).collect();
    use presence::Kind;
    let wanted = [
        (Kind::BrokerStarted, 0),
        (Kind::Connected, 0),
        (Kind::Disconnected, 0x8e),
        (Kind::Connected, 0),
        (Kind::Disconnected, 0x80),
        (Kind::Expired, 0),
    ];
    assert_eq!(kinds, wanted);
    let epochs: Vec<u64> = events.iter().map(|event| event.epoch).collect();
    assert!(epochs.is_sorted() && epochs[1] < epochs[3], "{epochs:?}");
    assert_eq!(events[1].network, "bench");
}

#[test]
fn a_publisher_can_make_its_message_a_push_candidate() {
    let mut bench = Bench::new(Limits::default());
    let bridge = bench.open_bridge();
    let sleeper = bench.online(durable("d"));
    bench.subscribe(sleeper, "订单/#", 1);
    bench.lose(sleeper);
    heard(&mut bench, bridge);
    let publisher = bench.online(connect("p", Version::V5));
    let mut order = publish("订单/7", "{}", 1, 1);
    let properties = [("push-title", "订单"), ("push-body", "已发货"), ("push-strategy", "online_first")];
    order.properties = PublishProperties {
        user_properties: properties.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        message_expiry_interval: Some(60),
        ..Default::default()
    };
    bench.publish(publisher, order);
    bench.publish(publisher, publish("订单/8", "plain", 1, 2));
    let events = heard(&mut bench, bridge);
    let queued = on(&events, bridge::QUEUED);
    assert_eq!(queued.len(), 1, "an ordinary message is no candidate");
    let queued = Queued::decode(queued[0].clone()).unwrap();
    let message = queued.message.unwrap();
    assert_eq!(message.alert.unwrap().body, "已发货");
    assert_eq!(message.topic, "订单/7");
    assert_eq!(message.expires_at_ms, bench.now.0 + 60_000);
    let id = MessageId::from_bytes(&message.id).unwrap().to_string();
    assert_eq!(id.chars().nth(14), Some('7'), "a UUID of version 7: {id}");
    let back = bench.open(durable("d"));
    let properties = &bench.publishes(back)[0].properties.user_properties;
    assert_eq!(properties.last(), Some(&("push-id".into(), id.into())));
    assert_eq!(properties.len(), 4, "the publisher's own come unchanged");
}

#[test]
fn a_withdrawn_message_leaves_the_queues() {
    let mut bench = Bench::new(Limits::default());
    let bridge = bench.open_bridge();
    let sleeper = bench.online(durable("d"));
    bench.lose(sleeper);
    order(&mut bench, bridge, &send(&["d"], "", ID), 1);
    bench.read(bridge);
    let withdraw =
        bridge::Withdraw { app: "default".into(), message_id: ID.0.to_vec().into(), client_ids: vec![] };
    let mut order = publish(bridge::WITHDRAW, "", 1, 2);
    order.payload = withdraw.encode_to_vec().into();
    bench.publish(bridge, order);
    let acks = bench.read(bridge);
    assert!(acks.contains(&Packet::PubAck(Ack::new(packet_id(2), ReasonCode::SUCCESS))), "{acks:?}");
    let back = bench.open(durable("d"));
    assert_eq!(bench.publishes(back).len(), 0);
    assert_eq!(bench.shard.counters().dropped_withdrawn, 1);
}

#[test]
fn what_the_bridge_publishes_for_an_app_is_a_message_like_any_other() {
    let mut bench = Bench::new(Limits::default());
    let bridge = bench.open_bridge();
    let awake = bench.online(durable("awake"));
    bench.subscribe(awake, "设备/+", 1);
    let asleep = bench.online(durable("asleep"));
    bench.subscribe(asleep, "设备/1", 1);
    bench.lose(asleep);
    heard(&mut bench, bridge);
    let property = |name: &str, value: &str| bridge::UserProperty { name: name.into(), value: value.into() };
    let good = bridge::Publication {
        app: "default".into(),
        topic: "设备/1".into(),
        payload: "9.1".into(),
        qos: 1,
        retain: true,
        expiry_s: Some(60),
        content_type: Some("text/plain".into()),
        user_properties: vec![property("a", "b"), property("push-title", "警报")],
        ..Default::default()
    };
    let mut ask = |publication: bridge::Publication, id: u16| {
        let mut order = publish(bridge::PUBLISH, "", 1, id);
        order.payload = publication.encode_to_vec().into();
        bench.publish(bridge, order);
        let packets = bench.read(bridge);
        let reason = packets.iter().find_map(|packet| match packet {
            Packet::PubAck(ack) if ack.packet_id == packet_id(id) => Some(ack.reason),
            _ => None,
        });
        let is_queued = packets.iter().any(|packet| match packet {
            Packet::Publish(publish) => publish.topic.as_ref().unwrap().as_str() == bridge::QUEUED,
            _ => false,
        });
        (reason.unwrap(), is_queued)
    };
    assert_eq!(ask(good.clone(), 1), (ReasonCode::SUCCESS, true), "a push candidate for who is away");
    let nobody = bridge::Publication { topic: "nobody".into(), retain: false, ..good.clone() };
    assert_eq!(ask(nobody, 2), (ReasonCode::NO_MATCHING_SUBSCRIBERS, false));
    let other_app = bridge::Publication { app: "other".into(), retain: false, ..good.clone() };
    assert_eq!(ask(other_app, 3), (ReasonCode::NO_MATCHING_SUBSCRIBERS, false));
    for (id, bad) in [
        (4, bridge::Publication { topic: "$push/v1/send".into(), ..good.clone() }),
        (5, bridge::Publication { topic: "a/#".into(), ..good.clone() }),
        (6, bridge::Publication { app: String::new(), ..good.clone() }),
        (7, bridge::Publication { qos: 3, ..good.clone() }),
    ] {
        assert_eq!(ask(bad, id), (ReasonCode::PAYLOAD_FORMAT_INVALID, false), "{id}");
    }
    let got = bench.publishes(awake);
    assert_eq!(got.len(), 1);
    assert_eq!((got[0].payload.as_ref(), got[0].qos as u8), ("9.1".as_bytes(), 1));
    assert_eq!(got[0].properties.content_type.as_deref(), Some("text/plain"));
    assert_eq!(got[0].properties.user_properties[0], ("a".into(), "b".into()));
    let late = bench.online(connect("late", Version::V5));
    bench.subscribe(late, "设备/1", 0);
    assert_eq!(bench.messages(late), [("设备/1".to_owned(), "9.1".to_owned())], "kept by the topic");
}

#[test]
fn what_a_device_says_is_vouched_for_by_the_broker() {
    let mut bench = Bench::new(Limits::default());
    let bridge = bench.open_bridge();
    let device = bench.online(connect("d1", Version::V3_1_1));
    heard(&mut bench, bridge);
    bench.publish(device, publish(bridge::REGISTER, "{\"vendor\":\"apns\"}", 1, 3));
    assert!(matches!(bench.read(device)[0], Packet::PubAck(_)));
    let events = heard(&mut bench, bridge);
    let from = FromDevice::decode(on(&events, bridge::DEVICE)[0].clone()).unwrap();
    assert_eq!((from.app.as_str(), from.client_id.as_str()), ("default", "d1"));
    assert_eq!(from.kind(), from_device::Kind::Register);
}

#[test]
fn a_bridge_that_is_away_misses_nothing() {
    let mut bench = Bench::new(Limits::default());
    let bridge = bench.open_bridge();
    let sleeper = bench.online(durable("d"));
    bench.subscribe(sleeper, "a", 1);
    bench.lose(sleeper);
    heard(&mut bench, bridge);
    bench.lose(bridge);
    let publisher = bench.online(connect("p", Version::V5));
    let mut order = publish("a", "x", 1, 1);
    order.properties.user_properties = vec![("push-title".into(), "t".into())];
    bench.publish(publisher, order);
    let identity = reveille_broker_core::io::Identity::bridge(reveille_broker_core::presence::bridge_app());
    let back = bench.open_as(durable("bridge"), identity);
    let events = heard(&mut bench, back);
    assert_eq!(on(&events, bridge::QUEUED).len(), 1);
}

fn acks(bench: &mut Bench, key: ConnectionKey) -> usize {
    bench.read(key).iter().filter(|packet| matches!(packet, Packet::PubAck(_))).count()
}

#[test]
fn a_repeated_chunk_is_not_acknowledged_before_the_first_is_durable() {
    let mut bench = Bench::new(Limits::default());
    let bridge = bench.open_bridge();
    let sleeper = bench.online(durable("d"));
    bench.lose(sleeper);
    heard(&mut bench, bridge);
    bench.commits_at_once = false;
    order(&mut bench, bridge, &send(&["d"], "", ID), 1);
    order(&mut bench, bridge, &send(&["d"], "", ID), 2);
    assert_eq!(acks(&mut bench, bridge), 0);
    while bench.commit(reveille_broker_core::io::Committed::Durable) {}
    assert_eq!(acks(&mut bench, bridge), 2);
}

#[test]
fn a_push_that_was_taken_before_it_was_durable_is_not_acknowledged_before_the_bridge_can_hear_of_it() {
    let mut bench = Bench::new(Limits::default());
    let bridge = bench.open_bridge();
    let device = bench.online(durable("d"));
    heard(&mut bench, bridge);
    bench.commits_at_once = false;
    order(&mut bench, bridge, &send(&["d"], "", MessageId([1; 16])), 1); // this batch is on its way
    order(&mut bench, bridge, &send(&["d"], "", ID), 2); // this one gathers
    let got = bench.publishes(device);
    bench.send(device, Packet::PubAck(Ack::new(got[1].packet_id.unwrap(), ReasonCode::SUCCESS)));
    bench.commit(reveille_broker_core::io::Committed::Durable);
    assert_eq!(acks(&mut bench, bridge), 1, "only the first: what tells of the second is not on disk");
    while bench.commit(reveille_broker_core::io::Committed::Durable) {}
    let events = heard(&mut bench, bridge);
    assert_eq!(on(&events, bridge::ACKED).len(), 1);
}
