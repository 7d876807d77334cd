//! Section 3.3: PUBLISH. Here its header, its topic and its answer; the rest in files of their own.

mod alias;
mod flow;
mod overlapping;
mod properties;
mod retain;

use crate::harness::{
    Connect, SINCE_3_1_1, Stage, ToBytes, VERSIONS, Version, hex, puback, pubcomp, publish, pubrec, pubrel,
};

const MALFORMED: u8 = 0x81;
const PROTOCOL_ERROR: u8 = 0x82;
const TOPIC_NAME_INVALID: u8 = 0x90;

/// Covers: MQTT3-3.3.4-1, MQTT5-3.3.4-1
#[test]
fn each_qos_has_its_own_answer() {
    for stage in Stage::everywhere(&VERSIONS) {
        let (mut receiver, mut sender) = (stage.connect("receiver"), stage.connect("sender"));
        receiver.subscribe("t", 2);
        sender.send(publish("t", "0"));
        sender.expect_nothing();
        sender.send(publish("t", "1").qos(1, 10));
        sender.expect(puback(10));
        sender.send(publish("t", "2").qos(2, 11));
        sender.expect(pubrec(11));
        sender.send(pubrel(11));
        sender.expect(pubcomp(11));
        for qos in 0..=2 {
            let message = receiver.take();
            assert_eq!((message.text(), message.qos), (&*qos.to_string(), qos));
        }
    }
}

/// Covers: MQTT3-3.3.1-4, MQTT5-3.3.1-4
/// Trap: QoS 3
#[test]
fn qos_3_ends_the_connection() {
    for stage in Stage::each(&VERSIONS) {
        for first in [0x36, 0x37, 0x3E, 0x3F] {
            let mut client = stage.connect("c");
            let mut packet = publish("t", "x").qos(1, 1).to_bytes(stage.version);
            packet[0] = first;
            client.send(packet);
            client.expect_goodbye(MALFORMED);
        }
    }
}

/// Covers: MQTT3-3.3.1-2, MQTT5-3.3.1-2
/// Trap: QoS 0 with DUP
#[test]
fn dup_with_qos_0_ends_the_connection() {
    for stage in Stage::each(&VERSIONS) {
        let mut client = stage.connect("c");
        client.send(publish("t", "x").dup());
        client.expect_goodbye(MALFORMED);
    }
}

/// Covers: MQTT3-3.3.1-1, MQTT5-3.3.1-1
#[test]
fn what_is_sent_again_on_the_next_connection_has_dup() {
    for stage in Stage::each(&VERSIONS) {
        let mut sender = stage.connect("sender");
        let mut client = stage.accepted(Connect::new("c").durable());
        client.subscribe("t", 2);
        for (qos, payload) in [(1, "one"), (2, "two")] {
            sender.publish_with(publish("t", payload).qos(qos, 1));
        }
        let first = [client.expect_publish(), client.expect_publish()];
        assert!(!first[0].dup && !first[1].dup);
        client.cut();
        sender.publish("t", "new");
        let mut client = stage.accepted(Connect::new("c").durable());
        for message in first {
            assert_eq!(client.expect_publish(), message.dup());
        }
        assert!(!client.expect_message("t", "new").dup);
    }
}

/// Covers: MQTT3-3.3.1-3, MQTT5-3.3.1-3, MQTT3-3.3.1-2, MQTT5-3.3.1-2
#[test]
fn the_publishers_dup_is_not_passed_on() {
    for stage in Stage::each(&VERSIONS) {
        let mut sender = stage.connect("sender");
        let mut receivers: Vec<_> = (0..3)
            .map(|qos| {
                let mut receiver = stage.connect(&format!("receiver-{qos}"));
                receiver.subscribe("t", qos);
                receiver
            })
            .collect();
        for qos in [1, 2] {
            sender.publish_with(publish("t", "x").qos(qos, 1).dup());
            for (granted, receiver) in (0..).zip(&mut receivers) {
                let message = receiver.take();
                assert_eq!((message.dup, message.qos), (false, qos.min(granted)));
            }
        }
    }
}

/// Covers: MQTT3-3.3.2-2, MQTT5-3.3.2-2, MQTT3-4.7.1-1, MQTT5-4.7.0-1, MQTT3-4.7.3-1, MQTT5-4.7.3-1
/// Trap: PUBLISH to a topic with wildcards
#[test]
fn a_topic_name_that_is_none_ends_the_connection() {
    for stage in Stage::each(&VERSIONS) {
        for topic in ["#", "+", "a/#", "a/+/b", "a+", "a#b", "设备/+", "$share/g/+"] {
            let mut client = stage.connect("c");
            client.send(publish(topic, "x"));
            client.expect_goodbye(TOPIC_NAME_INVALID);
        }
        let mut client = stage.connect("c");
        client.send(publish("", "x"));
        client.expect_goodbye(PROTOCOL_ERROR); // 5.0: no topic alias stands for it
    }
}

/// Covers: MQTT3-3.3.2-1, MQTT5-3.3.2-1, MQTT3-3.3.2-3, MQTT5-3.3.2-3
#[test]
fn a_receiver_gets_the_topic_name_first_and_as_it_was_published() {
    for stage in Stage::each(&VERSIONS) {
        let (mut receiver, mut sender) = (stage.connect("receiver"), stage.connect("sender"));
        receiver.subscribe("a/+/#", 1);
        for topic in ["a/b", "a/b/c", "a//", "a/ /é"] {
            sender.publish(topic, topic);
            receiver.take_message(topic, topic);
        }
        for topic in ["a", "b/a/b", "A/b", " a/b"] {
            sender.publish(topic, "does not match");
        }
        receiver.expect_nothing();
        receiver.subscribe("exact", 0);
        sender.send(publish("exact", "x"));
        receiver.expect(if stage.is_v5() {
            hex("30 09 0005 'exact' 00 'x'")
        } else {
            hex("30 08 0005 'exact' 'x'")
        });
    }
}

/// Trap: any UTF-8 topic anywhere: one publish to 设备/1 stops another broker's router
#[test]
fn topics_of_every_script_are_topics_like_any_other() {
    for stage in Stage::everywhere(&VERSIONS) {
        let (mut receiver, mut sender) = (stage.connect("receiver"), stage.connect("sender"));
        receiver.subscribe("#", 1);
        for topic in ["设备/1", "é", "🦀/🦀", "\u{10FFFF}", "مرحبا/عالم", "/", "//", "a b", "%2f", "😀"]
        {
            sender.publish_with(publish(topic, topic).qos(1, 1).retain());
            receiver.take_message(topic, topic);
        }
    }
}

/// Also: section 3.3.3, a payload of no bytes is a payload
#[test]
fn an_empty_message_is_a_message() {
    for stage in Stage::each(&VERSIONS) {
        let (mut receiver, mut sender) = (stage.connect("receiver"), stage.connect("sender"));
        receiver.subscribe("t", 2);
        for qos in [1, 2] {
            sender.publish_with(publish("t", "").qos(qos, 1));
            receiver.take_message("t", "");
        }
    }
}

/// Covers: MQTT3-3.3.5-2
/// Also: MQTT 5.0 section 3.3.4, a PUBLISH that is not allowed is answered with 0x87
#[test]
fn a_publish_that_is_not_allowed_reaches_nobody() {
    for stage in Stage::each(&SINCE_3_1_1) {
        let mut watcher = stage.connect("watcher");
        watcher.subscribe("#", 0);
        watcher.subscribe("$SYS/mine", 0);
        for qos in [1, 2] {
            let mut client = stage.connect("c");
            client.send(publish("$SYS/mine", "x").qos(qos, 5));
            match stage.version {
                Version::V5 => client.expect_ack(if qos == 1 { 0x40 } else { 0x50 }, 5, 0x87),
                Version::V3_1 | Version::V3_1_1 => client.expect_end(), // 3.1.1 has no word for no
            }
        }
        let mut client = stage.connect("c");
        client.send(publish("$SYS/mine", "x"));
        client.expect_nothing(); // QoS 0 has no answer
        watcher.expect_nothing();
    }
}
