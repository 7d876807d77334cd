//! Chapters 3.8 and 3.9: SUBSCRIBE and SUBACK.

use crate::harness::{
    Connect, Packet, SINCE_3_1_1, Stage, ToBytes, VERSIONS, Version, prop, puback, publish, subscribe,
    unsubscribe,
};

const MALFORMED: u8 = 0x81;
const PROTOCOL_ERROR: u8 = 0x82;
const NOT_AUTHORIZED: u8 = 0x87;
const FILTER_INVALID: u8 = 0x8F;
const QUOTA_EXCEEDED: u8 = 0x97;

/// Subscription options, section 3.8.3.1.
const NO_LOCAL: u8 = 0x04;
const RETAIN_AS_PUBLISHED: u8 = 0x08;
const RETAINED_IF_NEW: u8 = 0x10;
const RETAINED_NEVER: u8 = 0x20;

/// Covers: MQTT5-3.8.1-1, MQTT3-3.8.1-1
/// Trap: SUBSCRIBE with wrong flags
#[test]
fn wrong_flags_of_subscribe_end_the_connection() {
    for stage in Stage::each(&VERSIONS) {
        // 3.1 repeats SUBSCRIBE with DUP, as SUBSCRIBE has QoS 1 there.
        let is_right = |flags: u8| flags == 2 || stage.version == Version::V3_1 && flags == 0x0A;
        for flags in 0..16 {
            let mut client = stage.connect("c");
            let mut bytes = subscribe(1, "t", 0).to_bytes(stage.version);
            bytes[0] = 0x80 | flags;
            client.send(bytes);
            if is_right(flags) {
                client.expect_suback(1, &[0]);
            } else {
                client.expect_goodbye(MALFORMED);
            }
        }
    }
}

/// Covers: MQTT5-3.8.3-1, MQTT5-3.8.3-2, MQTT5-3.8.3-5, MQTT3-3.8.3-1, MQTT3-3.8.3-3, MQTT3-3.8.3-4
/// Trap: no filter in SUBSCRIBE; packet identifier 0; reserved subscription options; QoS 3; NUL and invalid UTF-8
/// Trap: a length that is cut inside a complete packet is malformed and no reason to wait for more
#[test]
fn a_subscribe_that_cannot_be_read_ends_the_connection() {
    for stage in Stage::each(&VERSIONS) {
        let head = if stage.is_v5() { &[0, 1, 0][..] } else { &[0, 1] };
        let with = |tail: &[u8]| Packet::new(0x82).raw(head).raw(tail);
        let none = if stage.is_v5() { vec![0, 1, 0] } else { vec![0, 1] };
        let mut rows = vec![
            (Packet::new(0x82).raw(none), PROTOCOL_ERROR),
            (Packet::new(0x82).raw(&subscribe(0, "t", 0).to_bytes(stage.version)[2..]), PROTOCOL_ERROR),
            (with(&[0, 1, b't']), MALFORMED),       // the options are missing
            (with(&[0, 9, b't', 0]), MALFORMED),    // the filter is cut
            (with(&[0, 1, b't', 0, 0]), MALFORMED), // a second filter is cut
            (with(&[0, 1, 0xFF, 0]), MALFORMED),    // no UTF-8
            (with(&[0, 3, 0xED, 0xA0, 0x80, 0]), MALFORMED), // a surrogate
            (with(&[0, 2, 0xC0, 0x80, 0]), MALFORMED), // NUL in two bytes
            (with(&[0, 3, b'a', 0, b'b', 0]), MALFORMED), // NUL
            (with(&[0, 1, b't', 3]), if stage.is_v5() { PROTOCOL_ERROR } else { MALFORMED }),
            (Packet::new(0x82), MALFORMED),
            (Packet::new(0x82).u8(1), MALFORMED),
        ];
        let reserved: &[u8] =
            if stage.is_v5() { &[0x40, 0x80, 0xC0, 0x41] } else { &[4, 8, 0x10, 0x20, 0x80, 6] };
        rows.extend(reserved.iter().map(|options| (with(&[0, 1, b't', *options]), MALFORMED)));
        for (packet, reason) in rows {
            let mut client = stage.connect("c");
            client.send(packet);
            client.expect_goodbye(reason);
        }
    }
}

/// Also: MQTT 5.0 section 3.8.2.1, the properties of SUBSCRIBE
/// Trap: properties that overrun their length, appear twice or do not belong to the packet
#[test]
fn properties_that_subscribe_cannot_have_end_the_connection() {
    let stage = Stage::new(Version::V5);
    let with = |properties: &[_]| Packet::new(0x82).u16(1).properties(properties).text("t").u8(0);
    let identifier = |bytes: &[u8]| prop::bytes(prop::SUBSCRIPTION_IDENTIFIER, bytes);
    let rows = [
        (with(&[identifier(&[0])]), PROTOCOL_ERROR),
        (with(&[identifier(&[1]), identifier(&[2])]), PROTOCOL_ERROR),
        (with(&[identifier(&[0xFF, 0xFF, 0xFF, 0xFF, 1])]), MALFORMED),
        (with(&[identifier(&[0x81, 0])]), MALFORMED),
        (with(&[prop::two(prop::RECEIVE_MAXIMUM, 1)]), MALFORMED),
        (with(&[prop::text(prop::USER_PROPERTY, "half")]), MALFORMED),
        (with(&[prop::text(prop::REASON_STRING, "no")]), MALFORMED),
        (with(&[]).raw([0, 1, b'u', 0x30]), PROTOCOL_ERROR), // retain handling 3
        (Packet::new(0x82).raw([0, 1, 9, 0x0B, 1, 0, 1, b't', 0]), MALFORMED),
        (Packet::new(0x82).raw([0, 1]), MALFORMED),
    ];
    for (packet, reason) in rows {
        let mut client = stage.connect("c");
        client.send(packet);
        client.expect_goodbye(reason);
    }
    let mut client = stage.connect("c");
    client.send(with(&[prop::user("k", "v"), prop::user("k", "v"), identifier(&[0xFF, 0xFF, 0xFF, 0x7F])]));
    client.expect_suback(1, &[0]);
}

/// Covers: MQTT5-3.8.3-4
#[test]
fn no_local_has_no_place_in_a_shared_subscription() {
    let stage = Stage::new(Version::V5);
    let mut client = stage.connect("c");
    client.send(subscribe(1, "t", 0).and("$share/g/t", NO_LOCAL | 1));
    client.expect_goodbye(PROTOCOL_ERROR);
}

/// Covers: MQTT5-3.8.4-1, MQTT5-3.8.4-2, MQTT3-3.8.4-1, MQTT3-3.8.4-2
#[test]
fn each_subscribe_is_answered_under_its_own_identifier() {
    for stage in Stage::each(&VERSIONS) {
        let mut client = stage.connect("c");
        for id in [1, 2, 0x00FF, 0x0100, 0x8000, 0xFFFF, 2] {
            client.send(subscribe(id, "t", 1));
            client.expect_suback(id, &[1]);
        }
    }
}

/// Covers: MQTT5-3.8.4-5, MQTT5-3.8.4-6, MQTT5-3.8.4-7, MQTT5-3.9.3-1, MQTT5-3.9.3-2
/// Covers: MQTT3-3.8.4-4, MQTT3-3.8.4-5, MQTT3-3.9.3-1, MQTT3-3.9.3-2
/// Also: MQTT 3.1 section SUBSCRIBE, a refusal is answered as if it were granted, for 3.1 has no word for it
#[test]
fn each_filter_has_its_own_code_in_order() {
    const FILTERS: [(&str, u8, u8); 12] = [
        ("a", 2, 2),
        ("b/#/c", 1, FILTER_INVALID),
        ("c/+", 0, 0),
        ("d+", 2, FILTER_INVALID),
        ("$push/v1/x", 1, NOT_AUTHORIZED),
        ("", 0, FILTER_INVALID),
        ("$share/g", 1, FILTER_INVALID),
        ("$share/g/", 1, FILTER_INVALID),
        ("$share//t", 1, FILTER_INVALID),
        ("$share/g+/t", 1, FILTER_INVALID),
        ("$share/g/t", 1, 1),
        ("设备/#", 1, 1),
    ];
    for stage in Stage::each(&VERSIONS) {
        let in_words = |code: u8| match stage.version {
            Version::V3_1 if code >= 0x80 => 0,
            Version::V3_1_1 if code >= 0x80 => 0x80,
            _ => code,
        };
        let mut client = stage.connect("c");
        let mut packet = subscribe(9, FILTERS[0].0, FILTERS[0].1);
        for (filter, qos, _) in &FILTERS[1..] {
            packet = packet.and(filter, *qos);
        }
        client.send(packet);
        client.expect_suback(9, &FILTERS.map(|(_, _, code)| in_words(code)));
        for topic in ["a", "c/1", "设备/1"] {
            client.send(publish(topic, "x"));
            client.expect_message(topic, "x");
        }
    }
}

/// Covers: MQTT5-3.8.4-7, MQTT5-3.9.3-2, MQTT3-3.9.3-2
#[test]
fn one_subscription_too_many_is_refused_alone() {
    for (version, refused) in [(Version::V5, QUOTA_EXCEEDED), (Version::V3_1_1, 0x80), (Version::V3_1, 0)] {
        let stage = Stage::with(version, "limits.subscriptions_max = 2");
        let mut client = stage.connect("c");
        client.send(subscribe(1, "a", 1).and("b", 1).and("c", 1).and("a", 2));
        client.expect_suback(1, &[1, 1, refused, 2]);
        client.send(publish("c", "nobody"));
        client.send(publish("b", "here"));
        client.expect_message("b", "here");
    }
}

/// Covers: MQTT3-3.8.3-2
#[test]
fn wildcards_work_in_every_version() {
    for stage in Stage::each(&VERSIONS) {
        let mut client = stage.connect("c");
        client.subscribe_with(subscribe(1, "+/x", 0).and("deep/#", 0));
        for topic in ["a/x", "deep", "deep/er/still"] {
            client.send(publish(topic, ""));
            client.expect_message(topic, "");
        }
        client.send(publish("a/x/y", ""));
        client.expect_nothing();
    }
}

/// Covers: MQTT5-3.8.4-1, MQTT3-3.8.4-1
/// Trap: SUBACK before the subscription is effective
#[test]
fn what_is_published_after_suback_arrives() {
    for stage in Stage::each(&VERSIONS) {
        for round in 0..50 {
            let topic = format!("t/{round}");
            // Their names say that they live on one thread of the broker or on two.
            let mut receiver = stage.connect(&format!("receiver {round}"));
            let mut sender = stage.connect(&format!("sender {round}"));
            receiver.subscribe(&topic, 0);
            sender.send(publish(&topic, "x"));
            receiver.expect_message(&topic, "x");
        }
    }
}

/// Covers: MQTT5-3.8.4-8, MQTT3-3.8.4-6
/// Trap: a QoS 0 publish delivered as QoS 2 to a QoS 2 subscriber
#[test]
fn the_lower_qos_of_message_and_subscription_counts() {
    for stage in Stage::each(&VERSIONS) {
        for (granted, published) in
            (0..3).flat_map(|granted| (0..3).map(move |published| (granted, published)))
        {
            let (mut receiver, mut sender) = (stage.connect("receiver"), stage.connect("sender"));
            receiver.subscribe("t", granted);
            let packet = publish("t", "x");
            sender.publish_with(if published > 0 { packet.qos(published, 1) } else { packet });
            let came = receiver.take();
            assert_eq!(came.qos, granted.min(published), "granted {granted}, published {published}");
        }
    }
}

/// Covers: MQTT5-3.8.4-3, MQTT5-3.8.4-4, MQTT3-3.8.4-3
#[test]
fn the_same_filter_again_replaces_the_subscription() {
    for stage in Stage::each(&VERSIONS) {
        let mut client = stage.connect("c");
        client.publish_with(publish("t/kept", "kept").qos(1, 1).retain());
        for qos in [2, 0, 1] {
            client.subscribe("t/#", qos);
            let kept = client.take();
            assert_eq!((kept.text(), kept.retain, kept.qos), ("kept", true, qos.min(1)), "sent again");
            client.send(publish("t/now", "now"));
            client.expect_message("t/now", "now");
            client.expect_nothing(); // one subscription, one copy
        }
    }
}

/// Covers: MQTT5-3.8.4-4, MQTT3-3.8.4-3
#[test]
fn replacing_a_subscription_loses_nothing() {
    const ROUNDS: usize = 50;
    for stage in Stage::each(&VERSIONS) {
        let (mut receiver, mut sender) = (stage.connect("receiver"), stage.connect("sender"));
        receiver.subscribe("t", 0);
        for round in 0..ROUNDS {
            sender.send(publish("t", round.to_string()));
            receiver.send(subscribe(1, "t", 0));
        }
        let (mut messages, mut subacks) = (0, 0);
        while messages < ROUNDS || subacks < ROUNDS {
            let frame = receiver.next();
            if frame.first == 0x90 {
                subacks += 1;
            } else {
                assert_eq!(frame.publish(stage.version).text(), messages.to_string());
                messages += 1;
            }
        }
    }
}

/// Covers: MQTT5-3.8.4-3
#[test]
fn a_shared_subscription_replaces_no_plain_one() {
    for stage in Stage::each(&VERSIONS) {
        let mut client = stage.connect("c");
        for filter in ["t", "$share/g/t", "$share/h/t", "t"] {
            client.subscribe(filter, 0);
        }
        client.send(publish("t", "x"));
        client.expect_payloads(&["x"; 3]);
        client.expect_nothing();
    }
}

/// Covers: MQTT5-3.8.4-4
/// Also: MQTT 5.0 section 4.8.2, no retained message for a shared subscription
#[test]
fn retain_handling_says_which_retained_messages_come() {
    let stage = Stage::new(Version::V5);
    let mut client = stage.connect("c");
    for topic in ["t/1", "t/2", "u"] {
        client.publish_with(publish(topic, "kept").qos(1, 1).retain());
    }
    let rows = [
        (RETAINED_NEVER, 0),
        (RETAINED_IF_NEW, 0), // it exists
        (0, 2),
        (RETAINED_IF_NEW, 0),
        (RETAINED_NEVER, 0),
        (0, 2),
    ];
    for (handling, count) in rows {
        client.subscribe("t/#", handling);
        for _ in 0..count {
            assert!(client.expect_publish().retain);
        }
        client.expect_nothing();
    }
    client.subscribe("u", RETAINED_IF_NEW); // this one is new
    client.expect_message("u", "kept");
    client.subscribe("$share/g/u", 0);
    client.expect_nothing();
}

/// Covers: MQTT5-3.8.4-4
#[test]
fn a_subscription_of_a_resumed_session_is_not_new() {
    let stage = Stage::new(Version::V5);
    let mut client = stage.accepted(Connect::new("c").durable());
    client.publish_with(publish("t", "kept").qos(1, 1).retain());
    client.subscribe("t", RETAINED_IF_NEW);
    client.expect_message("t", "kept");
    client.leave();
    let (mut client, connack) = stage.open(Connect::new("c").durable());
    assert!(connack.session_present);
    client.subscribe("t", RETAINED_IF_NEW);
    client.expect_nothing();
}

/// Covers: MQTT5-3.8.3-3
/// Trap: no-local ignored
#[test]
fn with_no_local_nobody_hears_what_he_said() {
    let stage = Stage::new(Version::V5);
    for qos in 0..3 {
        let (mut client, mut other) = (stage.connect("c"), stage.connect("other"));
        client.subscribe("t", NO_LOCAL | qos);
        client.publish("t", "own");
        other.publish("t", "another's");
        assert_eq!(client.take().text(), "another's");
        client.expect_nothing();
        client.subscribe("t", qos);
        client.send(publish("t", "own"));
        client.expect_message("t", "own"); // the option went with the subscription that had it
    }
}

/// Covers: MQTT5-3.8.3-3
#[test]
fn with_no_local_nobody_hears_what_he_retained() {
    let stage = Stage::new(Version::V5);
    let (mut client, mut other) = (stage.connect("c"), stage.connect("other"));
    client.publish_with(publish("t/own", "own").qos(1, 1).retain());
    other.publish_with(publish("t/other", "another's").qos(1, 1).retain());
    client.subscribe("t/+", NO_LOCAL);
    client.expect_message("t/other", "another's");
    client.expect_nothing();
    client.subscribe("t/own", 0);
    client.expect_message("t/own", "own");
}

/// Covers: MQTT5-3.8.3-3
#[test]
fn no_local_is_about_the_client_not_the_connection() {
    let stage = Stage::new(Version::V5);
    let mut client = stage.accepted(Connect::new("c").durable());
    client.subscribe("t", NO_LOCAL | 1);
    client.publish("t", "own");
    client.leave();
    let mut client = stage.accepted(Connect::new("c").durable());
    client.expect_nothing();
    client.publish("t", "own, on the next connection");
    client.expect_nothing();
}

/// Also: MQTT 5.0 section 3.8.3.1, bit 3 keeps the retain flag of what is published now
#[test]
fn retain_as_published_is_an_option_of_each_subscription() {
    let stage = Stage::new(Version::V5);
    let mut client = stage.connect("c");
    client.subscribe_with(subscribe(1, "a", RETAIN_AS_PUBLISHED).and("b", 0));
    for (topic, retain, wanted) in [("a", true, true), ("a", false, false), ("b", true, false)] {
        let packet = publish(topic, "x");
        client.send(if retain { packet.retain() } else { packet });
        assert_eq!(client.expect_publish().retain, wanted, "{topic} {retain}");
    }
}

/// Covers: MQTT5-3.8.4-3
/// Also: MQTT 5.0 section 3.8.2.1.2, a subscription identifier comes with each message
#[test]
fn a_subscription_identifier_comes_with_each_message() {
    const LARGEST: usize = 268_435_455;
    let stage = Stage::new(Version::V5);
    let mut sender = stage.connect("sender");
    let mut client = stage.accepted(Connect::new("c").durable());
    client.subscribe_with(subscribe(1, "a", 1).and("b", 0).identifier(7));
    client.subscribe_with(subscribe(2, "c", 0).identifier(LARGEST));
    client.subscribe("d", 0);
    let of = |value| vec![prop::var(prop::SUBSCRIPTION_IDENTIFIER, value)];
    for (topic, wanted) in [("a", of(7)), ("b", of(7)), ("c", of(LARGEST)), ("d", Vec::new())] {
        sender.send(publish(topic, "x"));
        assert_eq!(client.expect_publish().properties, wanted, "{topic}");
    }
    client.leave();
    sender.publish("a", "waits");
    let mut client = stage.accepted(Connect::new("c").durable());
    let waited = client.expect_message("a", "waits");
    assert_eq!(waited.properties, of(7));
    client.send(puback(waited.id.unwrap()));
    client.subscribe("a", 0); // replaces it by one without
    sender.send(publish("a", "x"));
    assert_eq!(client.expect_publish().properties, []);
}

/// Also: MQTT 5.0 section 3.8.2.1.2, a subscription identifier comes with retained messages
#[test]
fn a_subscription_identifier_comes_with_retained_messages() {
    let stage = Stage::new(Version::V5);
    let mut client = stage.connect("c");
    for topic in ["t/1", "t/2"] {
        client.publish_with(publish(topic, "kept").qos(1, 1).retain());
    }
    client.subscribe_with(subscribe(1, "t/+", 1).identifier(9));
    for _ in 0..2 {
        assert_eq!(client.take().properties, [prop::var(prop::SUBSCRIPTION_IDENTIFIER, 9)]);
    }
}

/// Covers: MQTT5-4.1.0-1, MQTT3-4.1.0-1
#[test]
fn subscriptions_outlive_a_crash_with_all_their_options() {
    let mut stage = Stage::new(Version::V5);
    let mut client = stage.accepted(Connect::new("c").durable());
    client.subscribe_with(subscribe(1, "t/#", 2).and("t/own", NO_LOCAL | 1).and("gone", 1).identifier(7));
    client.subscribe_with(subscribe(2, "t/#", RETAIN_AS_PUBLISHED | 1).identifier(8));
    client.send(unsubscribe(3, &["gone"]));
    client.expect_unsuback(3, &[0]);
    stage.crash();
    let (mut client, connack) = stage.open(Connect::new("c").durable());
    assert!(connack.session_present);
    client.send(publish("gone", "x"));
    let packet = publish("t/own", "x").retain();
    client.send(packet.clone());
    // Not of `t/own`, where it would hear itself, and with what the last SUBSCRIBE to `t/#` said.
    let identifier = prop::var(prop::SUBSCRIPTION_IDENTIFIER, 8);
    assert_eq!(client.expect_publish(), packet.property(identifier));
    client.expect_nothing();
}

/// Also: chapter 4.7, a wildcard subscription of 3.1.1 and one of 5.0 see the same topics
#[test]
fn versions_hear_each_other() {
    for stage in Stage::each(&SINCE_3_1_1) {
        let mut receiver = stage.connect("receiver");
        receiver.subscribe("#", 1);
        for version in VERSIONS {
            let mut sender = stage.socket_of(version);
            sender.send(Connect::new("sender").to_bytes(version));
            assert_eq!(sender.expect_connack().code, 0);
            sender.publish("t", version.to_string());
            assert_eq!(receiver.take().text(), version.to_string());
        }
    }
}
