//! Section 3.1.2.5 to 3.1.2.7 and 3.1.3.2 to 3.1.3.4: the will.

use crate::harness::{
    Client, Connect, Property, Stage, VERSIONS, Version, Will, disconnect, hex, pingreq, prop, publish,
};

const PROTOCOL_ERROR: u8 = 0x82;
const KEEP_ALIVE_TIMEOUT: u8 = 0x8D;
const TAKEN_OVER: u8 = 0x8E;

fn watcher(stage: &Stage) -> Client {
    let mut watcher = stage.connect("watcher");
    watcher.subscribe("#", 2);
    watcher
}

fn delay(seconds: u32) -> Property {
    prop::four(prop::WILL_DELAY, seconds)
}

/// A message behind everything that was published before.
fn expect_nothing_yet(watcher: &mut Client, stage: &Stage) {
    stage.connect("marker").publish("marker", "nothing before");
    assert_eq!(watcher.take().words(), ("marker", "nothing before"));
}

/// Covers: MQTT3-3.1.2-8, MQTT5-3.1.2-7, MQTT5-3.1.2-8
#[test]
fn a_will_is_published_however_the_connection_ends_except_by_disconnect() {
    for stage in Stage::everywhere(&VERSIONS) {
        let mut watcher = watcher(&stage);
        let connect = || Connect::new("c").will(Will::new("will", "gone").qos(1));
        stage.accepted(connect()).cut();
        assert_eq!(watcher.take().words(), ("will", "gone"), "cut");

        let mut client = stage.accepted(connect());
        client.send(hex("c0 01 00"));
        client.expect_goodbye(0x81);
        assert_eq!(watcher.take().words(), ("will", "gone"), "a malformed packet");

        let mut client = stage.accepted(connect());
        client.send(connect());
        client.expect_goodbye(PROTOCOL_ERROR);
        assert_eq!(watcher.take().words(), ("will", "gone"), "a protocol error");

        let mut client = stage.accepted(connect().keep_alive(1));
        client.expect_goodbye(KEEP_ALIVE_TIMEOUT);
        assert_eq!(watcher.take().words(), ("will", "gone"), "silence");

        let mut client = stage.accepted(connect());
        let new = stage.connect("c");
        client.expect_goodbye(TAKEN_OVER);
        assert_eq!(watcher.take().words(), ("will", "gone"), "taken over");
        new.leave();
        watcher.expect_nothing();
    }
}

/// Covers: MQTT3-3.1.2-10, MQTT5-3.1.2-10, MQTT5-3.1.2-8, MQTT3-3.14.4-3, MQTT5-3.14.4-3
#[test]
fn disconnect_deletes_the_will() {
    for stage in Stage::everywhere(&VERSIONS) {
        let mut watcher = watcher(&stage);
        for connect in [Connect::new("c"), Connect::new("c").durable()] {
            stage.accepted(connect.clone().will(Will::new("will", "never"))).leave();
            stage.accepted(connect).cut(); // nor does it come with the next connection
        }
        expect_nothing_yet(&mut watcher, &stage);
    }
}

/// Also: MQTT 5.0 section 3.14.2.1, DISCONNECT 0x04 asks for the will, and so does every other reason but 0
#[test]
fn disconnect_with_will_message_publishes_it() {
    let stage = Stage::new(Version::V5);
    let mut watcher = watcher(&stage);
    for reason in [0x04, 0x80, 0x81, 0x99] {
        let mut client = stage.accepted(Connect::new("c").will(Will::new("will", "asked for")));
        client.send(disconnect(reason));
        client.expect_end();
        assert_eq!(watcher.take().words(), ("will", "asked for"), "{reason:#x}");
    }
}

/// Covers: MQTT3-3.1.2-12, MQTT3-3.1.2-10, MQTT5-3.1.2-10
#[test]
fn a_will_is_published_once_and_a_connection_without_one_publishes_none() {
    for stage in Stage::each(&VERSIONS) {
        let mut watcher = watcher(&stage);
        stage.accepted(Connect::new("c").durable().will(Will::new("will", "once"))).cut();
        assert_eq!(watcher.take().words(), ("will", "once"));
        let mut client = stage.accepted(Connect::new("c").durable());
        client.send(hex("c0 01 00"));
        client.expect_goodbye(0x81);
        expect_nothing_yet(&mut watcher, &stage);
    }
}

/// Covers: MQTT3-3.1.2-14, MQTT5-3.1.2-12
/// Also: section 3.1.2.6, the QoS of the will is the one that it is published with
#[test]
fn a_will_has_the_qos_that_it_asks_for() {
    for stage in Stage::each(&VERSIONS) {
        let mut watcher = watcher(&stage);
        for qos in [0, 1, 2] {
            stage.accepted(Connect::new("c").will(Will::new("will", "x").qos(qos))).cut();
            assert_eq!(watcher.take().qos, qos);
        }
    }
}

/// Covers: MQTT3-3.1.2-16, MQTT5-3.1.2-14, MQTT3-3.1.2-17, MQTT5-3.1.2-15
#[test]
fn a_will_is_retained_where_it_asks_for_it() {
    for stage in Stage::each(&VERSIONS) {
        let mut watcher = watcher(&stage);
        for (will, is_kept) in [(Will::new("a", "x"), false), (Will::new("b", "x").retain(), true)] {
            let topic = will.topic.clone();
            stage.accepted(Connect::new("c").will(will.qos(1))).cut();
            assert!(!watcher.take().retain, "an existing subscription hears it as it happens");
            let mut late = stage.connect("late");
            late.subscribe(&topic, 0);
            if is_kept {
                assert!(late.expect_publish().retain);
            }
            late.expect_nothing();
        }
        // An empty one with retain deletes what is there.
        stage.accepted(Connect::new("c").will(Will::new("b", "").retain())).cut();
        assert_eq!(watcher.take().words(), ("b", ""));
        let mut late = stage.connect("late");
        late.subscribe("b", 0);
        late.expect_nothing();
    }
}

/// Covers: MQTT5-3.1.3-10
/// Also: MQTT 5.0 section 3.1.3.2, the properties of the will are those of the message
#[test]
fn a_will_is_published_with_its_properties_in_their_order() {
    let stage = Stage::new(Version::V5);
    let mut watcher = watcher(&stage);
    let properties = [
        prop::byte(prop::PAYLOAD_FORMAT, 1),
        prop::text(prop::CONTENT_TYPE, "text/plain"),
        prop::text(prop::RESPONSE_TOPIC, "answer/here"),
        prop::text(prop::CORRELATION_DATA, b"\x00\xFF"),
        prop::user("b", "1"),
        prop::user("a", "2"),
        prop::user("b", "3"),
        prop::four(prop::MESSAGE_EXPIRY, 1000),
    ];
    let mut will = Will::new("will", "x");
    will.properties = properties.to_vec();
    stage.accepted(Connect::new("c").will(will.property(delay(0)))).cut();
    let message = watcher.expect_publish();
    let users: Vec<_> = message.all(prop::USER_PROPERTY);
    assert_eq!(users, properties[4..7]);
    let (mut came, mut wanted) = (message.properties.clone(), properties.to_vec());
    came.sort();
    wanted.sort();
    assert_eq!(came, wanted, "all of them and nothing else");
}

/// Also: MQTT 5.0 section 3.1.3.2.4, the expiry of a will counts from when it is published
#[test]
fn a_will_does_not_expire_before_it_is_published() {
    let stage = Stage::new(Version::V5);
    let mut watcher = watcher(&stage);
    let will = Will::new("will", "x").property(prop::four(prop::MESSAGE_EXPIRY, 1));
    let mut client = stage.accepted(Connect::new("c").will(will));
    // Longer than its expiry, by another session's end.
    let other = Will::new("other", "x").property(delay(2));
    stage.accepted(Connect::new("d").durable().will(other)).cut();
    assert_eq!(watcher.take().words(), ("other", "x"));
    client.expect_nothing();
    client.cut();
    let message = watcher.take();
    assert_eq!(message.words(), ("will", "x"));
    assert_eq!(message.find(prop::MESSAGE_EXPIRY).unwrap().number(), 1);
}

/// Covers: MQTT5-3.1.2-8, MQTT5-3.1.3-9
#[test]
fn a_will_whose_delay_has_not_passed_waits_and_is_deleted_by_the_next_connection() {
    let stage = Stage::new(Version::V5);
    let mut watcher = watcher(&stage);
    let connect = |will| Connect::new("c").durable().will(will);
    let mut client = stage.accepted(connect(Will::new("will", "first").property(delay(1000))));
    client.send(disconnect(0x04));
    client.expect_end();
    expect_nothing_yet(&mut watcher, &stage);
    stage.accepted(Connect::new("c").durable()).cut(); // has no will of its own
    expect_nothing_yet(&mut watcher, &stage);
    // Neither does a take-over publish it.
    let mut old = stage.accepted(connect(Will::new("will", "second").property(delay(1000))));
    let new = stage.accepted(Connect::new("c").durable());
    old.expect_goodbye(TAKEN_OVER);
    new.leave();
    expect_nothing_yet(&mut watcher, &stage);
}

/// Covers: MQTT5-3.1.2-8
/// Trap: will delay against session expiry
#[test]
fn a_will_comes_when_its_delay_is_over_or_the_session_ends_whichever_is_first() {
    let stage = Stage::new(Version::V5);
    let mut watcher = watcher(&stage);
    let expiry = |seconds| prop::four(prop::SESSION_EXPIRY, seconds);
    let rows = [(1, 1000, "by its delay"), (1000, 1, "by the session's end"), (1000, 0, "at once")];
    for (will, session, payload) in rows {
        let will = Will::new("will", payload).qos(1).property(delay(will));
        stage.accepted(Connect::new("c").property(expiry(session)).will(will)).cut();
        assert_eq!(watcher.take().words(), ("will", payload));
    }
}

/// Also: MQTT 5.0 section 3.1.2.5, a clean start ends the session and so publishes its delayed will
#[test]
fn a_clean_start_publishes_the_will_of_the_session_that_it_ends() {
    let stage = Stage::new(Version::V5);
    let mut watcher = watcher(&stage);
    let will = Will::new("will", "x").property(delay(1000));
    let mut client = stage.accepted(Connect::new("c").durable().will(will));
    client.send(disconnect(0x04));
    client.expect_end();
    expect_nothing_yet(&mut watcher, &stage);
    let mut client = stage.connect("c");
    assert_eq!(watcher.take().words(), ("will", "x"));
    client.send(pingreq());
    client.expect([0xD0, 0]);
}

/// Also: section 3.1.3.4 (3.1.1: 3.1.3.3), the payload of a will is bytes, of any length
#[test]
fn a_will_carries_any_bytes() {
    for stage in Stage::each(&VERSIONS) {
        let mut watcher = watcher(&stage);
        for payload in [&b""[..], b"\x00\xFF\xED\xA0\x80", &[7; 65_535]] {
            stage.accepted(Connect::new("c").will(Will::new("will", payload).qos(1))).cut();
            assert_eq!(watcher.take().payload, payload);
        }
    }
}

/// Covers: MQTT3-3.1.2-8, MQTT5-3.1.2-7
/// Also: section 3.1.2.5, a will is a message like any other: it waits for durable subscribers
#[test]
fn a_will_waits_for_a_subscriber_that_is_away() {
    for stage in Stage::each(&VERSIONS) {
        let mut away = stage.accepted(Connect::new("away").durable());
        away.subscribe("will", 1);
        away.leave();
        let mut watcher = watcher(&stage);
        stage.accepted(Connect::new("c").will(Will::new("will", "x").qos(1))).cut();
        watcher.take();
        stage.connect("sender").publish_with(publish("will", "later").qos(1, 1));
        let mut away = stage.accepted(Connect::new("away").durable());
        assert_eq!(away.take().text(), "x");
        assert_eq!(away.take().text(), "later");
    }
}
