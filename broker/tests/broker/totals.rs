//! What the clients of one app may use together, and what may be retained: who is at a bound is told, nobody else is.

use crate::client::{Client, PATIENCE, connect, durable, publish};
use crate::{broker, config, start};
use bytes::Bytes;
use reveille_broker::Broker;
use reveille_proto::ids::PacketId;
use reveille_proto::mqtt::{Connect, Disconnect, Packet, QoS, Subscribe, SubscriptionOptions, Version};
use reveille_proto::reason::ReasonCode;
use std::time::Instant;

const SUCCESS: ReasonCode = ReasonCode::SUCCESS;
const FULL: ReasonCode = ReasonCode::QUOTA_EXCEEDED;

/// Two apps, of which the first has bounds.
fn two_apps(totals: &str) -> String {
    format!(
        "[[users]]\nname = 'one'\npassword = 'tulip'\napp = 'one'\n\
         [[users]]\nname = 'two'\npassword = 'rose'\napp = 'two'\n[apps.one.totals]\n{totals}\n"
    )
}

fn of_app(app: &str, mut connect: Connect) -> Connect {
    connect.username = Some(app.into());
    connect.password = Some(Bytes::from_static(if app == "one" { b"tulip" } else { b"rose" }));
    connect
}

fn reason(broker: &Broker, app: &str, connect: Connect) -> ReasonCode {
    Client::open(broker.mqtt_addr(), of_app(app, connect)).1.reason
}

fn client(broker: &Broker, app: &str, client_id: &str) -> Client {
    Client::connect(broker.mqtt_addr(), of_app(app, connect(Version::V5, client_id, true)))
}

fn subscribe(client: &mut Client, filter: &str) -> ReasonCode {
    let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
    client.send(&Packet::Subscribe(Box::new(Subscribe {
        packet_id: PacketId::new(7).unwrap(),
        subscription_identifier: None,
        user_properties: Vec::new(),
        filters: vec![(filter.into(), options)],
    })));
    match client.receive() {
        Packet::SubAck(suback) => suback.reasons[0],
        other => panic!("{other:?} instead of SUBACK"),
    }
}

fn retain(client: &mut Client, topic: &str, payload: &[u8]) -> ReasonCode {
    let Packet::Publish(mut wanted) = publish(topic, payload, QoS::AtLeastOnce, 9) else { unreachable!() };
    wanted.retain = true;
    client.send(&Packet::Publish(wanted));
    match client.receive() {
        Packet::PubAck(ack) => ack.reason,
        other => panic!("{other:?} instead of PUBACK"),
    }
}

#[test]
fn an_app_has_no_more_connections_than_its_bound() {
    let broker = broker(&two_apps("connections_max = 1"));
    let first = client(&broker, "one", "a");
    let wanted = [(Version::V5, FULL), (Version::V3_1_1, ReasonCode::SERVER_UNAVAILABLE)];
    for (version, wanted) in wanted {
        let said = reason(&broker, "one", connect(version, "b", true));
        assert_eq!(said.connack_v3(), wanted.connack_v3(), "{version:?}");
    }
    let _others = [client(&broker, "two", "a"), client(&broker, "two", "b")];
    let again = client(&broker, "one", "a"); // takes over its own place
    drop(first);
    again.cut();
    let end = Instant::now() + PATIENCE;
    while reason(&broker, "one", connect(Version::V5, "b", true)) != SUCCESS {
        assert!(Instant::now() < end, "the place of a connection that ended stays taken");
    }
}

#[test]
fn an_app_has_no_more_sessions_than_its_bound() {
    let broker = broker(&two_apps("sessions_max = 1"));
    assert_eq!(reason(&broker, "one", durable(Version::V5, "a")), SUCCESS);
    assert_eq!(
        reason(&broker, "one", durable(Version::V5, "b")),
        FULL,
        "the session of a client that is away"
    );
    assert_eq!(reason(&broker, "one", durable(Version::V5, "a")), SUCCESS);
    assert_eq!(reason(&broker, "one", connect(Version::V5, "a", true)), SUCCESS, "a new one for its old one");
    for client_id in ["a", "b"] {
        assert_eq!(reason(&broker, "two", durable(Version::V5, client_id)), SUCCESS);
    }
}

#[test]
fn an_app_has_no_more_subscriptions_than_its_bound() {
    let broker = broker(&two_apps("subscriptions_max = 2"));
    let (mut a, mut b) = (client(&broker, "one", "a"), client(&broker, "one", "b"));
    let granted = ReasonCode::GRANTED_QOS_1;
    assert_eq!(
        [subscribe(&mut a, "x"), subscribe(&mut b, "x"), subscribe(&mut b, "y")],
        [granted, granted, FULL]
    );
    assert_eq!(subscribe(&mut a, "x"), granted, "one that exists is no new one");
    let mut other = client(&broker, "two", "a");
    assert_eq!(["x", "y", "z"].map(|filter| subscribe(&mut other, filter)), [granted; 3]);
}

#[test]
fn an_app_queues_no_more_bytes_than_its_bound() {
    let broker = broker(&two_apps("queued_max_bytes = 150"));
    for app in ["one", "two"] {
        let mut away = Client::connect(broker.mqtt_addr(), of_app(app, durable(Version::V5, "away")));
        assert_eq!(subscribe(&mut away, "t"), ReasonCode::GRANTED_QOS_1);
        away.send(&Packet::Disconnect(Box::new(Disconnect::new(SUCCESS))));
        assert_eq!(away.receive_or_end(), None);
    }
    let (mut a, mut b) = (client(&broker, "one", "p"), client(&broker, "two", "p"));
    let twice = |client: &mut Client| [1, 2].map(|id| client.publish("t", &[0; 100], id));
    assert_eq!(twice(&mut a), [SUCCESS, FULL]);
    assert_eq!(twice(&mut b), [SUCCESS, SUCCESS]);
    let back = of_app("one", durable(Version::V5, "away"));
    let mut back = Client::connect(broker.mqtt_addr(), back);
    let first = back.receive_publish();
    back.acknowledge(&first);
    back.ping();
    assert_eq!(a.publish("t", &[0; 100], 3), SUCCESS, "what left the queue makes room");
}

#[test]
fn an_app_retains_no_more_messages_than_its_bound() {
    let broker = broker(&two_apps("retained_messages_max = 1"));
    let mut a = client(&broker, "one", "a");
    assert_eq!([retain(&mut a, "x", b"1"), retain(&mut a, "y", b"1")], [SUCCESS, FULL]);
    assert_eq!(retain(&mut a, "x", b"22"), SUCCESS, "another for the same topic");
    assert_eq!(
        a.publish("y", b"1", 1),
        ReasonCode::NO_MATCHING_SUBSCRIBERS,
        "what is not retained is no concern"
    );
    assert_eq!([retain(&mut a, "x", b""), retain(&mut a, "y", b"1")], [SUCCESS, SUCCESS]);
    let mut b = client(&broker, "two", "a");
    assert_eq!([retain(&mut b, "x", b"1"), retain(&mut b, "y", b"1")], [SUCCESS, SUCCESS]);
}

#[test]
fn an_app_retains_no_more_bytes_than_its_bound() {
    let broker = broker(&two_apps("retained_max_bytes = 150"));
    let mut a = client(&broker, "one", "a");
    assert_eq!([retain(&mut a, "x", &[1; 100]), retain(&mut a, "y", &[1; 100])], [SUCCESS, FULL]);
    assert_eq!(retain(&mut a, "x", &[1; 100]), SUCCESS, "no larger than the one before");
    assert_eq!(retain(&mut a, "x", &[1; 200]), FULL, "larger, without room");
    assert_eq!([retain(&mut a, "x", b""), retain(&mut a, "y", &[1; 100])], [SUCCESS, SUCCESS]);
    let mut b = client(&broker, "two", "a");
    assert_eq!([retain(&mut b, "x", &[1; 100]), retain(&mut b, "y", &[1; 100])], [SUCCESS, SUCCESS]);
}

#[test]
fn what_all_apps_retain_is_bounded_after_a_restart_too_and_a_reload_changes_the_bound() {
    const BOUND: &str = "allow_anonymous = true\nsys_interval_s = 0\n[limits]\nretained_messages_max = ";
    let directory = tempfile::tempdir().unwrap();
    let text = |max: u32| format!("{BOUND}{max}");
    let before = start(&text(2), directory.path());
    let mut a = Client::connect(before.mqtt_addr(), connect(Version::V5, "a", true));
    assert_eq!(["x", "y", "z"].map(|topic| retain(&mut a, topic, b"1")), [SUCCESS, SUCCESS, FULL]);
    drop(a);
    drop(before);
    let broker = start(&text(2), directory.path());
    let mut a = Client::connect(broker.mqtt_addr(), connect(Version::V5, "a", true));
    assert_eq!(
        ["x", "z"].map(|topic| retain(&mut a, topic, b"2")),
        [SUCCESS, FULL],
        "counted when recovered"
    );
    broker.operator().reload(&config(&text(3))).unwrap();
    assert_eq!(["z", "w"].map(|topic| retain(&mut a, topic, b"1")), [SUCCESS, FULL]);
    broker.operator().reload(&config(&text(1))).unwrap();
    assert_eq!(retain(&mut a, "x", b"3"), SUCCESS, "what is retained may be replaced");
    let mut old = Client::connect(broker.mqtt_addr(), connect(Version::V3_1_1, "old", true));
    assert_eq!(retain(&mut old, "v", b"1"), SUCCESS, "3.1.1 has no word for it");
    assert_eq!(subscribe(&mut old, "v"), ReasonCode::GRANTED_QOS_1);
    old.ping(); // nothing arrived
}
