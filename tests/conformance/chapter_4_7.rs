//! Section 4.7: topic names, topic filters, and which of them match.

use crate::harness::{
    Client, Connect, Stage, VERSIONS, Version, Will, hex, prop, publish, subscribe, unsubscribe,
};

const TOPIC_FILTER_INVALID: u8 = 0x8F;
const TOPIC_NAME_INVALID: u8 = 0x90;

/// Sends a SUBSCRIBE for a filter that is none: each version says so, and the connection stays.
fn expect_bad_filter(client: &mut Client, filter: &str) {
    client.send(subscribe(1, filter, 0));
    let version = client.version;
    let wanted = if version == Version::V5 { TOPIC_FILTER_INVALID } else { 0x80 };
    assert_eq!(client.next().suback(version).codes, [wanted], "{filter}");
}

/// Covers: MQTT3-4.7.1-2, MQTT5-4.7.1-1, MQTT3-4.7.1-3, MQTT5-4.7.1-2
#[test]
fn a_wildcard_that_does_not_fill_its_level_or_does_not_stand_last_is_refused() {
    let rows = [
        "a#", "#a", "a/#/b", "#/", "#/b", "##", "a/##", "a/b#", "a+", "+a", "a/+b", "a/b+/c", "++", "+#",
        "#+", "a/+#", "设备+", "/#/",
    ];
    for stage in Stage::each(&VERSIONS) {
        let mut client = stage.connect("c");
        for filter in rows {
            if stage.version == Version::V3_1 {
                // 3.1 has no word for it; what counts is that nothing is subscribed.
                client.send(subscribe(1, filter, 0));
                client.next();
            } else {
                expect_bad_filter(&mut client, filter);
            }
        }
        for topic in ["a", "a/b", "a/b/c", "b", "x"] {
            stage.connect("sender").publish(topic, "x");
        }
        client.expect_nothing();
    }
}

/// Covers: MQTT3-4.7.3-1, MQTT5-4.7.3-1
#[test]
fn an_empty_filter_is_refused() {
    for stage in Stage::each(&VERSIONS) {
        let mut client = stage.connect("c");
        client.send(subscribe(1, "", 0));
        // Either its own reason or the end of the connection.
        if let Some(frame) = client.next_or_end().filter(|frame| frame.first == 0x90) {
            let code = frame.suback(stage.version).codes[0];
            assert!(code >= 0x80 || stage.version == Version::V3_1, "3.1 has no word for it");
        }
    }
}

/// The examples of the standard and then some: filter, topic, and whether they match.
const MATCHES: [(&str, &str, bool); 46] = [
    ("sport/tennis/player1/#", "sport/tennis/player1", true),
    ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
    ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
    ("sport/tennis/player1/#", "sport/tennis/player10", false),
    ("sport/#", "sport", true),
    ("sport/#", "sports", false),
    ("sport/#", "sport/", true),
    ("#", "a", true),
    ("#", "/", true),
    ("#", "a/b/c/d/e/f/g", true),
    ("/#", "/", true),
    ("/#", "/a", true),
    ("/#", "a", false),
    ("+/#", "a", true),
    ("+/#", "/a/b", true),
    ("sport/tennis/+", "sport/tennis/player1", true),
    ("sport/tennis/+", "sport/tennis/player1/ranking", false),
    ("sport/tennis/+", "sport/tennis/", true),
    ("sport/+", "sport", false),
    ("sport/+", "sport/", true),
    ("+", "finance", true),
    ("+", "/finance", false),
    ("+/+", "/finance", true),
    ("/+", "/finance", true),
    ("+/tennis/#", "sport/tennis", true),
    ("+/tennis/#", "sport/tennis/a/b", true),
    ("sport/+/player1", "sport/tennis/player1", true),
    ("sport/+/player1", "sport//player1", true),
    ("sport/+/player1", "sport/a/b/player1", false),
    ("+/+/+", "a/b/c", true),
    ("+/+/+", "a/b", false),
    ("+/+/+", "a/b/c/d", false),
    ("+/+/+", "//", true),
    ("a/b", "a/b", true),
    ("a/b", "a/b/", false),
    ("a/b/", "a/b/", true),
    ("/a/b", "a/b", false),
    ("a//b", "a/b", false),
    ("a//b", "a//b", true),
    ("ACCOUNTS", "Accounts", false),
    ("Accounts payable", "Accounts payable", true),
    ("Accounts payable", "Accounts  payable", false),
    ("设备/+/温度", "设备/一号/温度", true),
    ("设备/+/温度", "设备/一号/湿度", false),
    ("a/$b", "a/$b", true),
    ("a/+", "a/$b", true),
];

/// Covers: MQTT3-4.7.1-2, MQTT5-4.7.1-1, MQTT3-4.7.1-3, MQTT5-4.7.1-2, MQTT3-3.3.2-3, MQTT5-3.3.2-3
#[test]
fn filters_match_as_the_standard_says() {
    for stage in Stage::everywhere(&VERSIONS) {
        let mut sender = stage.connect("sender");
        let mut receiver = stage.connect("receiver");
        for (filter, topic, wanted) in MATCHES {
            receiver.subscribe(filter, 1);
            sender.publish(topic, filter);
            if wanted {
                receiver.take_message(topic, filter);
            }
            receiver.expect_nothing();
            receiver.send(unsubscribe(2, &[filter]));
            receiver.next().unsuback(stage.version);
        }
    }
}

/// Also: section 4.7.1, the same for what is kept: retained messages are found by the same rule
#[test]
fn retained_messages_are_found_by_the_same_rule() {
    for stage in Stage::each(&VERSIONS) {
        let mut sender = stage.connect("sender");
        let mut wanted_topics: Vec<&str> = MATCHES.iter().map(|(_, topic, _)| *topic).collect();
        wanted_topics.sort_unstable();
        wanted_topics.dedup();
        for topic in &wanted_topics {
            sender.publish_with(publish(*topic, "x").qos(1, 1).retain());
        }
        for (filter, topic, wanted) in MATCHES {
            let mut late = stage.connect("late");
            let found = late.subscribe_kept(filter, 0);
            assert_eq!(found.iter().any(|kept| kept.words().0 == topic), wanted, "{filter} and {topic}");
            late.leave();
        }
    }
}

/// Covers: MQTT3-4.7.2-1, MQTT5-4.7.2-1
#[test]
fn a_filter_that_begins_with_a_wildcard_does_not_see_topics_that_begin_with_a_dollar() {
    for stage in Stage::each(&VERSIONS) {
        let mut everything = stage.connect("everything");
        for filter in ["#", "+/#", "+/register", "+/+", "+"] {
            everything.subscribe(filter, 1);
        }
        // What a device says to the broker itself is the one kind of such a topic that a client may publish.
        let mut device = stage.connect("device");
        device.send(publish("$push/register", "x"));
        device.send(publish("$SYS/forbidden", "x"));
        device.expect_nothing();
        stage.connect("sender").publish("marker", "seen");
        everything.take_message("marker", "seen");
        everything.expect_nothing();
    }
}

/// Covers: MQTT3-4.7.2-1, MQTT5-4.7.2-1
/// Also: section 4.7.2, $SYS can be subscribed by name, and its topics come to nobody else
#[test]
fn topics_of_the_server_come_to_those_who_name_them() {
    for stage in Stage::each(&VERSIONS) {
        let mut client = stage.connect("c");
        client.subscribe("$other/+", 0);
        client.subscribe("$SYS/broker/version", 0); // the one value that never changes
        assert_eq!(client.take().words().0, "$SYS/broker/version");
        let mut everything = stage.connect("everything");
        everything.subscribe("#", 0);
        everything.subscribe("+/broker/version", 0);
        everything.expect_nothing();
    }
}

/// Covers: MQTT3-4.7.3-3, MQTT5-4.7.3-3
#[test]
fn a_topic_of_65_535_bytes_is_one() {
    let longest = "x".repeat(65_535);
    for stage in Stage::each(&VERSIONS) {
        let mut client = stage.connect("c");
        client.subscribe(&longest, 1);
        stage.connect("sender").publish_with(publish(&longest, "x").qos(1, 1).retain());
        client.take_message(&longest, "x");
        client.send(unsubscribe(2, &[&longest]));
        client.next();
        // A length field holds no more, so nothing longer can be said. A name that ends in the middle of a character can.
        let mut bold = stage.connect("bold");
        let mut name = "界".repeat(21_845).into_bytes();
        name.truncate(65_534);
        bold.send(publish(name, "x"));
        bold.expect_goodbye(0x81);
    }
}

/// Covers: MQTT3-4.7.3-4, MQTT5-4.7.3-4
#[test]
fn nothing_is_normalised_when_topics_are_compared() {
    // Composed and decomposed, wide and narrow, cases, spaces, percent signs, a soft hyphen, a variation selector.
    let topics = [
        "\u{E9}",
        "e\u{301}",
        "\u{FF21}",
        "A",
        "a",
        " a",
        "a ",
        "a%20",
        "a\u{AD}",
        "a\u{FE0F}",
        "ß",
        "ss",
        "ﬁ",
        "fi",
        "\u{212B}",
        "\u{C5}",
        "A\u{30A}",
        "a/",
        "/a",
        "//a",
    ];
    for stage in Stage::each(&VERSIONS) {
        let mut sender = stage.connect("sender");
        let mut receivers: Vec<Client> =
            (0..topics.len()).map(|no| stage.connect(&format!("r{no}"))).collect();
        for (receiver, topic) in receivers.iter_mut().zip(topics) {
            receiver.subscribe(topic, 1);
        }
        for topic in topics {
            sender.publish_with(publish(topic, topic).qos(1, 1).retain());
        }
        for (receiver, topic) in receivers.iter_mut().zip(topics) {
            receiver.take_message(topic, topic);
            receiver.expect_nothing();
            receiver.subscribe(topic, 1); // what is kept is told apart as well
            receiver.take_message(topic, topic);
            receiver.expect_nothing();
        }
    }
}

/// Also: section 4.7.1.1, + as the last character of a topic name and in the response topic is no wildcard but an error
/// Covers: MQTT3-4.7.1-1, MQTT5-4.7.0-1
#[test]
fn wildcards_are_refused_wherever_a_topic_name_stands() {
    for stage in Stage::each(&VERSIONS) {
        for name in ["a/+", "+", "#", "a/#"] {
            let mut client = stage.connect("c");
            client.send(publish(name, "x").qos(1, 1));
            client.expect_goodbye(TOPIC_NAME_INVALID);
            stage.expect_refusal(Connect::new("c").will(Will::new(name, "x")), TOPIC_NAME_INVALID, None);
            if stage.is_v5() {
                let mut client = stage.connect("c");
                client.send(publish("t", "x").property(prop::text(prop::RESPONSE_TOPIC, name)));
                client.expect_goodbye(0x82);
            }
        }
    }
}

/// Also: section 4.7.3, more levels than the broker serves are refused in words, or by the end where there are none
#[test]
fn a_topic_with_more_levels_than_are_served_is_refused() {
    for version in VERSIONS {
        let stage = Stage::with(version, "[limits]\ntopic_levels_max = 4");
        let mut client = stage.connect("c");
        client.subscribe("a/b/c/d", 1);
        client.subscribe("a/b/+/#", 1);
        client.send(subscribe(3, "a/b/c/d/e", 1));
        let code = client.next().suback(version).codes[0];
        assert!(code >= 0x80 || version == Version::V3_1, "{code:#x}");
        client.expect_nothing();
        let mut sender = stage.connect("sender");
        sender.publish("a/b/c/d", "x");
        client.take_message("a/b/c/d", "x");
        sender.send(publish("a/b/c/d/e", "x").qos(1, 9));
        if version == Version::V5 {
            sender.expect_ack(0x40, 9, TOPIC_NAME_INVALID);
        } else {
            sender.expect_end();
        }
        client.expect_nothing();
    }
}

/// Also: section 4.7.1, one SUBSCRIBE with good and bad filters grants the good ones
#[test]
fn a_bad_filter_costs_only_itself() {
    for stage in Stage::each(&[Version::V3_1_1, Version::V5]) {
        let mut client = stage.connect("c");
        client.send(subscribe(1, "a/#/b", 1).and("good", 1).and("+x", 1));
        let bad = if stage.is_v5() { TOPIC_FILTER_INVALID } else { 0x80 };
        assert_eq!(client.next().suback(stage.version).codes, [bad, 1, bad]);
        stage.connect("sender").publish("good", "x");
        client.take_message("good", "x");
        // UNSUBSCRIBE knows them as little.
        client.send(unsubscribe(2, &["a/#/b", "good"]));
        let wanted = if stage.is_v5() { hex("8f 00") } else { vec![] };
        assert_eq!(client.next().unsuback(stage.version).codes, wanted);
    }
}
