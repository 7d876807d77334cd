//! Section 3.2: CONNACK.

use crate::harness::{
    Connect, SINCE_3_1_1, Stage, ToBytes, VERSIONS, Version, Will, hex, pingreq, prop, publish, subscribe,
};

const RETAIN_NOT_SUPPORTED: u8 = 0x9A;
const QOS_NOT_SUPPORTED: u8 = 0x9B;
const KEEP_ALIVE_TIMEOUT: u8 = 0x8D;
const TOPIC_ALIAS_INVALID: u8 = 0x94;

/// Covers: MQTT3-3.2.0-1, MQTT5-3.2.0-1, MQTT5-3.2.0-2
#[test]
fn connack_comes_first_and_once_whatever_waits_and_whatever_was_sent_behind_connect() {
    for stage in Stage::everywhere(&VERSIONS) {
        let mut sender = stage.connect("sender");
        sender.publish_with(publish("kept", "retained").qos(1, 1).retain());
        let mut away = stage.accepted(Connect::new("c").durable());
        away.subscribe("t", 2);
        away.leave();
        for no in 0..3 {
            sender.publish("t", no.to_string());
        }
        // The will makes CONNACK wait for the disk; everything else arrives meanwhile.
        let will = Will::new("will", "x");
        let all = [
            Connect::new("c").durable().will(will).to_bytes(stage.version),
            subscribe(9, "kept", 0).to_bytes(stage.version),
            publish("t", "own").qos(1, 3).to_bytes(stage.version),
            pingreq().bytes(),
        ];
        let mut client = stage.socket();
        client.send(all.concat());
        assert_eq!(client.expect_connack().code, 0);
        let mut kinds = Vec::new();
        while kinds.iter().filter(|kind| **kind == 3).count() < 5 || !kinds.contains(&13) {
            let frame = client.next();
            assert_ne!(frame.first, 0x20, "a second CONNACK");
            kinds.push(frame.first >> 4);
        }
    }
}

/// Covers: MQTT5-3.2.2-1, MQTT3-3.2.2-1, MQTT3-3.2.2-2, MQTT3-3.2.2-3
#[test]
fn the_bytes_of_connack_are_those_of_its_version() {
    for stage in Stage::each(&VERSIONS) {
        let hears = |connect: Connect| {
            let mut client = stage.socket();
            client.send(connect);
            let bytes = client.next().bytes;
            client.leave();
            bytes
        };
        let (new, known) = (hears(Connect::new("c").durable()), hears(Connect::new("c").durable()));
        match stage.version {
            Version::V3_1 => assert_eq!((new, known), (hex("20 02 00 00"), hex("20 02 00 00"))),
            Version::V3_1_1 => assert_eq!((new, known), (hex("20 02 00 00"), hex("20 02 01 00"))),
            Version::V5 => assert_eq!((&new[2..4], &known[2..4]), (&hex("00 00")[..], &hex("01 00")[..])),
        }
    }
}

/// Covers: MQTT5-3.2.2-8, MQTT5-3.2.2-6, MQTT5-3.2.2-7, MQTT3-3.2.2-4, MQTT3-3.2.2-5
#[test]
fn a_refusal_has_a_code_of_the_table_no_session_and_the_end() {
    let table = [0x80..=0x8A, 0x8C..=0x8C, 0x90..=0x90, 0x95..=0x95, 0x97..=0x97, 0x99..=0x9D, 0x9F..=0x9F];
    for version in VERSIONS {
        let stage = Stage::with(version, "[[users]]\nname = 'u'\npassword = 'p'\n");
        let known = |id: &str| Connect::new(id).username("u").password("p");
        stage.accepted(known("c").durable()).leave(); // there is a session, and it is none of their business
        let refused = [
            Connect::new("c").resuming().to_bytes(version),
            Connect::new("c").resuming().username("u").password("wrong").to_bytes(version),
            Connect::new("").resuming().to_bytes(version),
            known("c").will(Will::new("#", "x")).to_bytes(version),
            known("c").will(Will::new("$SYS/x", "x")).to_bytes(version),
            known("c").flip(0x08).to_bytes(version),
            known("c").property(prop::text(prop::AUTHENTICATION_METHOD, "X")).to_bytes(version),
            known("c").property(prop::two(prop::RECEIVE_MAXIMUM, 0)).to_bytes(version),
            known("c").property(prop::four(prop::MAXIMUM_PACKET_SIZE, 5)).to_bytes(version),
        ];
        for (row, connect) in refused.into_iter().enumerate() {
            if version != Version::V5 && row > 5 {
                continue; // no properties, nothing to refuse
            }
            let Some(frame) = stage.refusal(connect) else { continue };
            let connack = frame.connack(version);
            assert!(!connack.session_present, "row {row}");
            let is_in_table = match version {
                Version::V5 => table.iter().any(|codes| codes.contains(&connack.code)),
                Version::V3_1 | Version::V3_1_1 => (1..=5).contains(&connack.code),
            };
            assert!(is_in_table, "row {row}: {connack:?}");
        }
    }
}

/// Also: MQTT 5.0 section 3.2.2.3, the limits of the broker stand in CONNACK
#[test]
fn connack_tells_the_limits_that_hold() {
    let config = "[limits]\nreceive_maximum = 7\npacket_size_max_bytes = 5000\ntopic_alias_max = 3";
    let stage = Stage::with(Version::V5, config);
    let (_client, connack) = stage.open(Connect::new("c"));
    let told = |id| connack.property(id).map(|property| property.number());
    assert_eq!(told(prop::RECEIVE_MAXIMUM), Some(7));
    assert_eq!(told(prop::MAXIMUM_PACKET_SIZE), Some(5000));
    assert_eq!(told(prop::TOPIC_ALIAS_MAXIMUM), Some(3));
    // What is absent means that everything is available.
    for id in [
        prop::MAXIMUM_QOS,
        prop::RETAIN_AVAILABLE,
        prop::WILDCARD_SUBSCRIPTION_AVAILABLE,
        prop::SUBSCRIPTION_IDENTIFIERS_AVAILABLE,
        prop::SHARED_SUBSCRIPTION_AVAILABLE,
    ] {
        assert!(told(id).is_none_or(|is_available| is_available == 1 && id != prop::MAXIMUM_QOS), "{id:#x}");
    }
    assert_eq!(told(prop::SERVER_KEEP_ALIVE), None);
    assert_eq!(told(prop::SESSION_EXPIRY), None, "as the client asked");
}

/// Covers: MQTT5-3.2.2-9, MQTT5-3.2.2-10, MQTT5-3.2.2-11, MQTT5-3.2.2-12
#[test]
fn a_maximum_qos_is_told_and_holds_for_publishes_and_wills_but_not_for_subscribe() {
    for maximum in [0, 1] {
        let stage = Stage::with(Version::V5, &format!("[limits]\nmaximum_qos = {maximum}"));
        let (mut client, connack) = stage.open(Connect::new("c"));
        assert_eq!(connack.property(prop::MAXIMUM_QOS), Some(&prop::byte(prop::MAXIMUM_QOS, maximum)));
        for qos in 0..=2 {
            client.send(subscribe(1, "t", qos));
            assert_eq!(client.next().suback(Version::V5).codes, [qos.min(maximum)]);
            let will = Connect::new("w").will(Will::new("w", "x").qos(qos));
            if qos <= maximum {
                stage.accepted(will).leave();
            } else {
                stage.expect_refusal(will, QOS_NOT_SUPPORTED, None);
                let mut bold = stage.connect("bold");
                bold.send(publish("t", "x").qos(qos, 1));
                bold.expect_goodbye(QOS_NOT_SUPPORTED);
            }
        }
        client.expect_nothing();
    }
}

/// Covers: MQTT5-3.2.2-13, MQTT5-3.2.2-14
#[test]
fn without_retained_messages_a_retained_will_or_publish_is_refused() {
    let stage = Stage::with(Version::V5, "[limits]\nretain_available = false");
    let (mut client, connack) = stage.open(Connect::new("c"));
    assert_eq!(connack.property(prop::RETAIN_AVAILABLE), Some(&prop::byte(prop::RETAIN_AVAILABLE, 0)));
    let will = Connect::new("w").will(Will::new("t", "x").retain());
    stage.expect_refusal(will, RETAIN_NOT_SUPPORTED, None);
    client.send(publish("t", "x").qos(1, 1).retain());
    client.expect_goodbye(RETAIN_NOT_SUPPORTED);
}

/// Also: MQTT 5.0 sections 3.2.2.3.11 to 13, what is not available is told and refused with its own reason
#[test]
fn kinds_of_subscriptions_that_are_not_available_are_told_and_refused() {
    let config = "[limits]\nwildcard_subscription_available = false\n\
                  subscription_identifiers_available = false\nshared_subscription_available = false";
    let stage = Stage::with(Version::V5, config);
    let (mut client, connack) = stage.open(Connect::new("c"));
    for id in [
        prop::WILDCARD_SUBSCRIPTION_AVAILABLE,
        prop::SUBSCRIPTION_IDENTIFIERS_AVAILABLE,
        prop::SHARED_SUBSCRIPTION_AVAILABLE,
    ] {
        assert_eq!(connack.property(id), Some(&prop::byte(id, 0)));
    }
    client.send(subscribe(1, "a/#", 0).and("$share/g/a", 0).and("a", 0));
    let codes = client.next().suback(Version::V5).codes;
    assert_eq!(codes, [0xA2, 0x9E, 0]);
    client.send(subscribe(2, "a", 0).identifier(1));
    client.expect_goodbye(0xA1);
}

/// Covers: MQTT5-3.2.2-21, MQTT5-3.1.2-21
/// Also: MQTT 5.0 section 3.2.2.3.14, server keep alive
#[test]
fn a_server_keep_alive_is_told_and_is_the_one_that_counts() {
    let stage = Stage::with(Version::V5, "[limits]\nkeep_alive_max_s = 1");
    for wanted in [60, 2, 0] {
        let (mut client, connack) = stage.open(Connect::new("c").keep_alive(wanted));
        let told = connack.property(prop::SERVER_KEEP_ALIVE).map(|property| property.number());
        assert_eq!(told, Some(1), "{wanted}");
        client.expect_goodbye(KEEP_ALIVE_TIMEOUT); // it went by its own
    }
    let (_client, connack) = stage.open(Connect::new("c").keep_alive(1));
    assert_eq!(connack.property(prop::SERVER_KEEP_ALIVE), None, "its own is short enough");
}

/// Covers: MQTT5-3.2.2-17, MQTT5-3.2.2-18, MQTT5-3.3.2-9
#[test]
fn a_topic_alias_above_the_maximum_ends_the_connection() {
    for (maximum, alias) in [(0, 1), (0, 65_535), (5, 6), (5, 65_535)] {
        let stage = Stage::with(Version::V5, &format!("[limits]\ntopic_alias_max = {maximum}"));
        let mut client = stage.connect("c");
        client.send(publish("t", "x").property(prop::two(prop::TOPIC_ALIAS, alias)));
        client.expect_goodbye(TOPIC_ALIAS_INVALID);
    }
}

/// Also: section 3.2.2.2 (3.1.1: 3.2.2.2), a session that is resumed by another version is the same session
#[test]
fn a_session_can_be_resumed_in_another_version() {
    let stage = Stage::new(Version::V5);
    let mut client = stage.accepted(Connect::new("c").durable());
    client.subscribe("t", 1);
    client.leave();
    for version in SINCE_3_1_1 {
        stage.connect("sender").publish("t", "kept");
        let mut client = stage.socket_of(version);
        client.send(Connect::new("c").durable());
        assert!(client.expect_connack().session_present, "{version}");
        assert_eq!(client.take().text(), "kept");
        client.leave();
    }
}
