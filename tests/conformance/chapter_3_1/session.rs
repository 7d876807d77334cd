//! Section 3.1.2.4 and 3.1.2.11.2: which session a client gets, and how long it lives.

use crate::harness::{
    Connect, Packet, SINCE_3_1_1, Stage, VERSIONS, Version, Will, prop, puback, pubcomp, publish, pubrec,
    pubrel,
};

/// CONNACK of 3.1 says nothing about sessions.
fn says(stage: &Stage, is_present: bool) -> bool {
    is_present && stage.version != Version::V3_1
}

/// Covers: MQTT3-3.1.2-4, MQTT5-3.1.2-5, MQTT5-3.1.2-6, MQTT5-3.1.2-23, MQTT3-3.1.4-3, MQTT5-3.1.4-4
/// Covers: MQTT3-3.2.2-2, MQTT3-3.2.2-3, MQTT5-3.2.2-3
#[test]
fn a_session_is_made_where_there_is_none_and_resumed_where_there_is() {
    for stage in Stage::everywhere(&VERSIONS) {
        let (mut client, connack) = stage.open(Connect::new("c").durable());
        assert_eq!((connack.code, connack.session_present), (0, false));
        client.subscribe("t", 1);
        client.leave();
        for way in ["left", "cut"] {
            let (mut client, connack) = stage.open(Connect::new("c").durable());
            assert_eq!((connack.code, connack.session_present), (0, says(&stage, true)), "{way}");
            stage.connect("sender").publish("t", "still subscribed");
            assert_eq!(client.take().text(), "still subscribed");
            client.expect_nothing();
            if way == "left" { client.leave() } else { client.cut() }
        }
    }
}

/// Covers: MQTT3-3.1.2-5, MQTT5-3.1.2-5
#[test]
fn messages_of_qos_1_and_2_wait_for_a_client_that_is_away() {
    for stage in Stage::each(&VERSIONS) {
        let mut sender = stage.connect("sender");
        let mut client = stage.accepted(Connect::new("c").durable());
        client.subscribe("t/#", 2);
        client.leave();
        for no in 0..50 {
            sender.publish_with(publish(format!("t/{no}"), no.to_string()).qos(1 + no % 2, 1));
        }
        let mut client = stage.accepted(Connect::new("c").durable());
        for no in 0..50 {
            let message = client.expect_publish();
            assert_eq!((message.text(), message.qos), (&*no.to_string(), 1 + no % 2));
            assert!(!message.dup && !message.retain, "never sent before: {message:?}");
            let id = message.id.unwrap();
            if message.qos == 1 { client.send(puback(id)) } else { client.send(pubrec(id)) }
        }
        for _ in 0..25 {
            let id = client.next().ack(0x62, stage.version).id;
            client.send(pubcomp(id));
        }
        client.expect_nothing();
    }
}

/// Covers: MQTT3-3.1.2-6, MQTT5-3.1.2-4, MQTT3-3.2.2-1, MQTT5-3.2.2-2, MQTT3-3.1.4-3, MQTT5-3.1.4-4
#[test]
fn a_clean_start_throws_the_session_away() {
    for stage in Stage::everywhere(&VERSIONS) {
        let mut sender = stage.connect("sender");
        let mut client = stage.accepted(Connect::new("c").durable());
        client.subscribe("t", 2);
        client.send(publish("elsewhere", "x").qos(2, 77));
        client.next().ack(0x50, stage.version);
        sender.publish("t", "in flight");
        client.expect_message("t", "in flight");
        client.cut();
        sender.publish("t", "queued");

        let (mut client, connack) = stage.open(Connect::new("c"));
        assert_eq!((connack.code, connack.session_present), (0, false));
        sender.publish("t", "no subscription");
        client.expect_nothing();
        client.send(pubrel(77)); // what was received is forgotten too
        let comp = client.next().ack(0x70, stage.version);
        assert_eq!(comp.code, if stage.is_v5() { 0x92 } else { 0 });
        client.leave();

        // The clean one lived no longer than its connection, and the old one does not come back.
        let (mut client, connack) = stage.open(Connect::new("c").durable());
        assert!(!connack.session_present);
        client.expect_nothing();
    }
}

/// Covers: MQTT5-3.1.2-4, MQTT5-3.1.2-23
#[test]
fn in_5_0_a_clean_start_says_nothing_about_the_end_of_the_session() {
    let stage = Stage::new(Version::V5);
    let hour = prop::four(prop::SESSION_EXPIRY, 3600);
    let mut client = stage.accepted(Connect::new("c").property(hour.clone()));
    client.subscribe("t", 1);
    client.cut();
    stage.connect("sender").publish("t", "kept");
    let (mut client, connack) = stage.open(Connect::new("c").resuming().property(hour));
    assert!(connack.session_present);
    assert_eq!(client.take().text(), "kept");
}

/// Covers: MQTT5-3.1.2-23
/// Also: MQTT 5.0 section 3.1.2.11.2, without a session expiry interval, or with 0, the session ends with the connection
#[test]
fn a_session_without_expiry_interval_ends_with_its_connection() {
    let stage = Stage::new(Version::V5);
    for properties in [vec![], vec![prop::four(prop::SESSION_EXPIRY, 0)]] {
        let mut connect = Connect::new("c").resuming();
        connect.properties = properties;
        let (mut client, connack) = stage.open(connect);
        assert!(!connack.session_present);
        client.subscribe("t", 1);
        client.leave();
    }
    // The connection that takes over finds no session either: the old connection ended it.
    let mut old = stage.accepted(Connect::new("c").resuming());
    old.subscribe("t", 1);
    let (_new, connack) = stage.open(Connect::new("c").durable());
    assert!(!connack.session_present);
}

/// Covers: MQTT5-4.1.0-2
/// Also: MQTT 5.0 section 3.1.2.11.2, a session ends when its expiry interval is over
/// Trap: session expiry 1 s still present after 2.5 s
#[test]
fn a_session_ends_when_its_expiry_interval_is_over() {
    let stage = Stage::new(Version::V5);
    let mut watcher = stage.connect("watcher");
    watcher.subscribe("will", 0);
    // The will tells when the session ended: its own delay is longer.
    let will = Will::new("will", "the session ended").property(prop::four(prop::WILL_DELAY, 1000));
    let connect = Connect::new("c").resuming().property(prop::four(prop::SESSION_EXPIRY, 1)).will(will);
    let (client, connack) = stage.open(connect.clone());
    assert!(!connack.session_present);
    client.cut();
    watcher.expect_message("will", "the session ended");
    assert!(!stage.open(connect).1.session_present);
}

/// Covers: MQTT5-4.1.0-1
/// Also: MQTT 5.0 section 3.1.2.11.2, the interval begins when the connection ends
#[test]
fn a_session_does_not_expire_while_its_client_is_connected() {
    let stage = Stage::new(Version::V5);
    let mut watcher = stage.connect("watcher");
    watcher.subscribe("will", 0);
    let second = prop::four(prop::SESSION_EXPIRY, 1);
    let mut client = stage.accepted(Connect::new("c").resuming().property(second.clone()));
    client.subscribe("t", 1);
    // Another session with the same interval comes and goes meanwhile.
    let will = Will::new("will", "over").property(prop::four(prop::WILL_DELAY, 1000));
    stage.accepted(Connect::new("d").property(second).will(will)).cut();
    watcher.expect_message("will", "over");
    watcher.publish("t", "to a session that is there");
    assert_eq!(client.take().text(), "to a session that is there");
}

/// Also: MQTT 5.0 section 3.1.2.11.2, 0xFFFFFFFF never expires; the server may answer with less and must say so (3.2.2.3.2)
#[test]
fn an_interval_that_is_longer_than_allowed_is_shortened_and_told() {
    let stage = Stage::with(Version::V5, "[limits]\nsession_expiry_max_s = 100");
    for (wanted, told) in [(u32::MAX, Some(100)), (101, Some(100)), (100, None), (0, None)] {
        let connect = Connect::new("c").property(prop::four(prop::SESSION_EXPIRY, wanted));
        let (_client, connack) = stage.open(connect);
        let expiry = connack.property(prop::SESSION_EXPIRY).map(|property| property.number());
        assert_eq!(expiry, told, "{wanted}");
    }
}

/// Covers: MQTT3-3.1.2-7
#[test]
fn retained_messages_do_not_end_with_a_session() {
    for stage in Stage::each(&VERSIONS) {
        let mut client = stage.connect("c");
        client.publish_with(publish("t", "kept").qos(1, 1).retain());
        client.leave();
        stage.connect("c").leave();
        let mut client = stage.connect("c");
        client.subscribe("t", 0);
        assert!(client.expect_message("t", "kept").retain);
    }
}

/// Covers: MQTT3-3.1.2-4, MQTT5-3.1.2-5
/// Trap: received QoS 2 identifiers and PUBREL state survive a reconnect
/// Trap: PUBREL after a reconnect closes the connection
#[test]
fn qos_2_in_both_directions_goes_on_after_a_reconnect() {
    for stage in Stage::each(&SINCE_3_1_1) {
        let mut sender = stage.connect("sender");
        let connect = || Connect::new("c").durable();
        let mut client = stage.accepted(connect());
        client.subscribe("t", 2);
        sender.publish_with(publish("t", "first").qos(2, 1));
        sender.publish_with(publish("t", "second").qos(2, 1));
        let (first, second) = (client.expect_publish(), client.expect_publish());
        client.send(pubrec(first.id.unwrap()));
        client.expect(pubrel(first.id.unwrap()));
        client.send(publish("u", "own").qos(2, 5));
        client.next().ack(0x50, stage.version);
        client.cut();

        let mut client = stage.accepted(connect());
        client.expect(pubrel(first.id.unwrap()));
        assert_eq!(client.expect_publish(), second.clone().dup());
        client.send(pubcomp(first.id.unwrap()));
        client.send(pubrec(second.id.unwrap()));
        client.expect(pubrel(second.id.unwrap()));
        client.send(pubcomp(second.id.unwrap()));
        client.send(publish("u", "own").qos(2, 5).dup());
        assert_eq!(client.next().ack(0x50, stage.version).id, 5);
        client.send(pubrel(5));
        client.expect(Packet::new(0x70).u16(5));
        client.expect_nothing();
    }
}
