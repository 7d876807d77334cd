//! Chapters 3.10 and 3.11: UNSUBSCRIBE and UNSUBACK.

use crate::harness::{
    Connect, Packet, Stage, ToBytes, VERSIONS, Version, puback, pubcomp, publish, pubrec, pubrel, unsubscribe,
};

const NO_SUBSCRIPTION_EXISTED: u8 = 0x11;
const MALFORMED: u8 = 0x81;
const PROTOCOL_ERROR: u8 = 0x82;
const FILTER_INVALID: u8 = 0x8F;

/// Covers: MQTT5-3.10.1-1, MQTT3-3.10.1-1
/// Trap: UNSUBSCRIBE with wrong flags
#[test]
fn wrong_flags_of_unsubscribe_end_the_connection() {
    for stage in Stage::each(&VERSIONS) {
        // 3.1 repeats UNSUBSCRIBE with DUP, as UNSUBSCRIBE has QoS 1 there.
        let is_right = |flags: u8| flags == 2 || stage.version == Version::V3_1 && flags == 0x0A;
        for flags in 0..16 {
            let mut client = stage.connect("c");
            let mut bytes = unsubscribe(1, &["t"]).to_bytes(stage.version);
            bytes[0] = 0xA0 | flags;
            client.send(bytes);
            if is_right(flags) {
                client.expect_unsuback(1, &[NO_SUBSCRIPTION_EXISTED]);
            } else {
                client.expect_goodbye(MALFORMED);
            }
        }
    }
}

/// Covers: MQTT5-3.10.3-1, MQTT5-3.10.3-2, MQTT3-3.10.3-1, MQTT3-3.10.3-2
/// Trap: no filter in UNSUBSCRIBE; packet identifier 0; packets that are cut
#[test]
fn an_unsubscribe_that_cannot_be_read_ends_the_connection() {
    for stage in Stage::each(&VERSIONS) {
        let head = if stage.is_v5() { &[0, 1, 0][..] } else { &[0, 1] };
        let with = |tail: &[u8]| Packet::new(0xA2).raw(head).raw(tail);
        let mut rows = vec![
            (with(&[]), PROTOCOL_ERROR),
            (with(&[0, 2, b't']), MALFORMED),
            (with(&[0, 1, b't', 0]), MALFORMED),
            (with(&[0, 1, 0xFF]), MALFORMED),
            (with(&[0, 3, b'a', 0, b'b']), MALFORMED),
            (Packet::new(0xA2), MALFORMED),
            (Packet::new(0xA2).u8(1), MALFORMED),
        ];
        if stage.is_v5() {
            rows.extend([
                (Packet::new(0xA2).raw([0, 0, 0, 0, 1, b't']), PROTOCOL_ERROR),
                (Packet::new(0xA2).raw([0, 1]), MALFORMED),
                (Packet::new(0xA2).raw([0, 1, 2, 0x0B, 1, 0, 1, b't']), MALFORMED), // that belongs to SUBSCRIBE
                (Packet::new(0xA2).raw([0, 1, 9, 0, 1, b't']), MALFORMED),
            ]);
        } else {
            rows.push((Packet::new(0xA2).raw([0, 0, 0, 1, b't']), PROTOCOL_ERROR));
        }
        for (packet, reason) in rows {
            let mut client = stage.connect("c");
            client.send(packet);
            client.expect_goodbye(reason);
        }
    }
}

/// Covers: MQTT5-3.10.4-4, MQTT5-3.10.4-5, MQTT5-3.10.4-6, MQTT5-3.11.3-1, MQTT5-3.11.3-2
/// Covers: MQTT3-3.10.4-4, MQTT3-3.10.4-5, MQTT3-3.10.4-6
/// Trap: no UNSUBACK for an unknown filter
#[test]
fn each_unsubscribe_is_answered_with_a_code_for_each_filter() {
    for stage in Stage::each(&VERSIONS) {
        let mut client = stage.connect("c");
        client.send(unsubscribe(0xFFFF, &["unknown"]));
        client.expect_unsuback(0xFFFF, &[NO_SUBSCRIPTION_EXISTED]);
        for filter in ["a", "b/#", "c"] {
            client.subscribe(filter, 0);
        }
        client.send(unsubscribe(3, &["c", "unknown", "a", "x#", "a"]));
        let codes = [0, NO_SUBSCRIPTION_EXISTED, 0, FILTER_INVALID, NO_SUBSCRIPTION_EXISTED];
        client.expect_unsuback(3, &codes);
        for topic in ["a", "c", "b/1"] {
            client.send(publish(topic, "x"));
        }
        client.expect_message("b/1", "x"); // the only one that is left
        client.expect_nothing();
    }
}

/// Covers: MQTT5-3.10.4-1, MQTT3-3.10.4-1
#[test]
fn only_the_very_same_filter_goes() {
    const OTHERS: [&str; 9] = ["a/#", "#", "A/+", "a/+/", "/a/+", "a/b", "+/+", "$share/g/a/+", "a/+ "];
    for stage in Stage::each(&VERSIONS) {
        let mut client = stage.connect("c");
        client.subscribe("a/+", 0);
        client.send(unsubscribe(1, &OTHERS));
        let mut codes = [NO_SUBSCRIPTION_EXISTED; 9];
        codes[8] = FILTER_INVALID;
        client.expect_unsuback(1, &codes);
        client.send(publish("a/b", "still"));
        client.expect_message("a/b", "still");
        client.send(unsubscribe(2, &["a/+"]));
        client.expect_unsuback(2, &[0]);
        client.send(publish("a/b", "gone"));
        client.expect_nothing();
    }
}

/// Covers: MQTT5-3.10.4-1
/// Trap: any UNSUBSCRIBE leaves all shared groups
#[test]
fn a_shared_subscription_goes_by_its_own_name_only() {
    for stage in Stage::each(&VERSIONS) {
        let mut client = stage.connect("c");
        for filter in ["t", "$share/g/t", "$share/h/t"] {
            client.subscribe(filter, 0);
        }
        for (filter, left) in [("t", 2), ("$share/h/t", 1), ("$share/g/t", 0)] {
            client.send(unsubscribe(1, &[filter]));
            client.expect_unsuback(1, &[0]);
            client.send(publish("t", "x"));
            for _ in 0..left {
                client.expect_message("t", "x");
            }
            client.expect_nothing();
        }
    }
}

/// Covers: MQTT5-3.10.4-2, MQTT3-3.10.4-2
#[test]
fn nothing_new_comes_after_unsuback() {
    for stage in Stage::each(&VERSIONS) {
        for qos in 0..3 {
            let (mut receiver, mut sender) = (stage.connect("receiver"), stage.connect("sender"));
            receiver.subscribe("t", qos);
            receiver.subscribe("end", qos);
            receiver.send(unsubscribe(1, &["t"]));
            receiver.expect_unsuback(1, &[0]);
            for topic in ["t", "end"] {
                let packet = publish(topic, "x");
                sender.publish_with(if qos > 0 { packet.qos(qos, 1) } else { packet });
            }
            receiver.expect_message("end", "x");
        }
    }
}

/// Covers: MQTT5-3.10.4-3, MQTT3-3.10.4-3
#[test]
fn a_delivery_that_has_begun_is_finished() {
    for stage in Stage::each(&VERSIONS) {
        let mut sender = stage.connect("sender");
        let mut receiver = stage.accepted(Connect::new("receiver").durable());
        receiver.subscribe("t", 2);
        sender.publish("t", "one");
        let one = receiver.expect_message("t", "one");
        sender.publish_with(publish("t", "two").qos(2, 2));
        let two = receiver.expect_message("t", "two").id.unwrap();
        receiver.send(unsubscribe(1, &["t"]));
        receiver.expect_unsuback(1, &[0]);
        receiver.send(pubrec(two));
        receiver.expect(pubrel(two));
        receiver.leave();
        let mut receiver = stage.accepted(Connect::new("receiver").durable());
        let id = one.id.unwrap();
        assert_eq!(receiver.expect_publish(), one.dup());
        receiver.expect(pubrel(two));
        receiver.send(puback(id));
        receiver.send(pubcomp(two));
        receiver.expect_nothing();
    }
}

/// Covers: MQTT5-3.10.4-2, MQTT5-3.10.4-4, MQTT3-3.10.4-2, MQTT3-3.10.4-4
/// Trap: no UNSUBACK after a resume
#[test]
fn a_subscription_of_an_earlier_connection_can_be_deleted() {
    for mut stage in Stage::each(&VERSIONS) {
        let durable = Connect::new("receiver").durable();
        let mut receiver = stage.accepted(durable.clone());
        for filter in ["t", "u"] {
            receiver.subscribe(filter, 1);
        }
        stage.crash();
        let mut receiver = stage.accepted(durable.clone());
        receiver.send(unsubscribe(1, &["t"]));
        receiver.expect_unsuback(1, &[0]);
        stage.crash();
        let mut sender = stage.connect("sender");
        sender.publish("t", "nobody");
        sender.publish("u", "still");
        stage.accepted(durable).expect_message("u", "still");
    }
}
