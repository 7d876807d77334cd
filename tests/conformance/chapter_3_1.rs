//! Section 3.1: CONNECT. Here its format and its answer; sessions, wills, keep alive and properties in files of their own.

mod keep_alive;
mod properties;
mod session;
mod will;

use crate::harness::{
    Connect, Packet, SINCE_3_1_1, Stage, ToBytes, VERSIONS, Version, Will, disconnect, hex, pingreq, prop,
    puback, publish, subscribe,
};

const MALFORMED: u8 = 0x81;
const PROTOCOL_ERROR: u8 = 0x82;
const UNSUPPORTED_VERSION: u8 = 0x84;
const BAD_CREDENTIALS: u8 = 0x86;
const NOT_AUTHORIZED: u8 = 0x87;
const TAKEN_OVER: u8 = 0x8E;
const TOPIC_NAME_INVALID: u8 = 0x90;

/// Credentials for which the broker asks.
const USERS: &str = "[[users]]\nname = 'gardener'\npassword = 'tulip'";

/// Covers: MQTT3-3.1.0-1, MQTT5-3.1.0-1
#[test]
fn a_connection_that_does_not_begin_with_connect_is_closed_without_a_word() {
    for stage in Stage::everywhere(&VERSIONS) {
        let firsts = [
            publish("t", "x").to_bytes(stage.version),
            publish("t", "x").qos(1, 1).to_bytes(stage.version),
            puback(1).bytes(),
            subscribe(1, "t", 0).to_bytes(stage.version),
            pingreq().bytes(),
            disconnect(0).bytes(),
            hex("f0 00"),
            hex("20 02 00 00"),
            hex("00 00"),
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        ];
        for first in firsts {
            assert_eq!(stage.refusal(&first[..]), None, "{first:02x?}");
        }
    }
}

/// Covers: MQTT3-3.1.0-2, MQTT5-3.1.0-2, MQTT5-3.2.0-2, MQTT3-4.8.0-1, MQTT5-4.13.1-1
#[test]
fn a_second_connect_ends_the_connection() {
    for stage in Stage::everywhere(&VERSIONS) {
        for again in [Connect::new("c"), Connect::new("another")] {
            let mut client = stage.connect("c");
            client.send(again);
            client.expect_goodbye(PROTOCOL_ERROR);
        }
    }
}

/// A CONNECT with any protocol name and level, otherwise right for 3.1.1 or, from level 5 on, for 5.0.
fn connect_as(name: &str, level: u8) -> Vec<u8> {
    let packet = Packet::new(0x10).text(name).u8(level).u8(2).u16(0);
    if level >= 5 { packet.properties(&[]).text("c").bytes() } else { packet.text("c").bytes() }
}

/// Covers: MQTT3-3.1.2-1, MQTT5-3.1.2-1
#[test]
fn another_protocol_name_is_not_served() {
    let stage = Stage::new(Version::V5);
    for name in ["", "mqtt", "MQTt", "MQTTX", "MQT", "MQISDP", "HTTP", "MQTT\u{FEFF}"] {
        for level in [3, 4, 5] {
            let answer = stage.refusal(connect_as(name, level));
            let told = answer.map(|frame| frame.bytes);
            let refusals = [None, Some(hex("20 02 00 01")), Some(hex("20 03 00 84 00"))];
            assert!(refusals.contains(&told), "{name} {level}: {told:02x?}");
        }
    }
}

/// Covers: MQTT3-3.1.2-2, MQTT5-3.1.2-2
#[test]
fn a_protocol_level_that_does_not_exist_is_told_and_closed() {
    let stage = Stage::new(Version::V5);
    for level in [0, 1, 2, 3] {
        let answer = stage.refusal(connect_as("MQTT", level)).map(|frame| frame.bytes);
        assert_eq!(answer, Some(hex("20 02 00 01")), "{level}");
    }
    for level in [6, 7, 0x7F, 0xFF] {
        let answer = stage.refusal(connect_as("MQTT", level)).map(|frame| frame.connack(Version::V5).code);
        assert_eq!(answer, Some(UNSUPPORTED_VERSION), "{level}");
    }
    // The name of 3.1 with the levels of the others, and the other way round.
    for (name, level) in [("MQIsdp", 4), ("MQIsdp", 2)] {
        let answer = stage.refusal(connect_as(name, level)).map(|frame| frame.bytes);
        assert_eq!(answer, Some(hex("20 02 00 01")), "{name} {level}");
    }
}

/// Covers: MQTT3-3.1.4-4, MQTT5-3.1.4-5, MQTT3-3.2.0-1
/// Also: MQTT 3.1, its protocol name MQIsdp with level 3
#[test]
fn each_version_is_served_side_by_side() {
    for stage in Stage::everywhere(&VERSIONS) {
        let mut clients: Vec<_> = VERSIONS
            .iter()
            .map(|version| {
                let mut client = stage.socket_of(*version);
                client.send(Connect::new(version.to_string()));
                assert_eq!(client.expect_connack().code, 0);
                client.subscribe("t", 1);
                client
            })
            .collect();
        stage.connect("sender").publish("t", "to all");
        for client in &mut clients {
            assert_eq!(client.take().text(), "to all");
        }
    }
}

/// Covers: MQTT3-3.1.2-3, MQTT5-3.1.2-3
/// Trap: CONNECT reserved bit
#[test]
fn the_reserved_connect_flag_must_be_0() {
    for stage in Stage::each(&SINCE_3_1_1) {
        stage.expect_refusal(Connect::new("c").flip(0x01), MALFORMED, None);
    }
    Stage::new(Version::V3_1).accepted(Connect::new("c").flip(0x01)); // 3.1 does not use it, so it does not matter
}

/// Covers: MQTT3-3.1.2-11, MQTT5-3.1.2-11, MQTT3-3.1.2-13, MQTT5-3.1.2-13, MQTT3-3.1.2-15
/// Covers: MQTT3-3.1.2-14, MQTT5-3.1.2-12, MQTT3-3.1.4-1, MQTT5-3.1.4-1
#[test]
fn will_flags_that_contradict_each_other_are_malformed() {
    for stage in Stage::each(&VERSIONS) {
        for flags in [0x08, 0x10, 0x18, 0x20, 0x28] {
            stage.expect_refusal(Connect::new("c").flip(flags), MALFORMED, None);
        }
        let will = Connect::new("c").will(Will::new("t", "x").qos(3));
        stage.expect_refusal(will, MALFORMED, None);
    }
}

/// Covers: MQTT3-3.1.2-9, MQTT5-3.1.2-9, MQTT3-3.1.2-18, MQTT5-3.1.2-16, MQTT3-3.1.2-19, MQTT5-3.1.2-17
/// Covers: MQTT3-3.1.2-20, MQTT5-3.1.2-18, MQTT3-3.1.2-21, MQTT5-3.1.2-19, MQTT3-3.1.4-1, MQTT5-3.1.4-1
#[test]
fn fields_and_their_flags_must_agree() {
    let plain = || Connect::new("c");
    let will = || Will::new("t", "x");
    for stage in Stage::each(&VERSIONS) {
        let mut rows = vec![
            ("a will that is not there", plain().flip(0x04)),
            ("a will without its flags", plain().will(will()).flip(0x04)),
            ("a user name without its flag", plain().username("u").flip(0x80)),
            ("both without their flags", plain().username("u").password("p").flip(0xC0)),
            ("a password without its flag", plain().username("u").password("p").flip(0x40)),
        ];
        // In 3.1 the length of the packet decides whether the last two are there.
        if stage.version != Version::V3_1 {
            rows.extend([
                ("a user name that is not there", plain().flip(0x80)),
                ("a password that is not there", plain().username("u").flip(0x40)),
                ("both not there", plain().flip(0xC0)),
            ]);
        }
        for (what, connect) in rows {
            let answer = stage.refusal(connect).map(|frame| frame.connack(stage.version).code);
            assert_eq!(answer, stage.is_v5().then_some(MALFORMED), "{what}");
        }
    }
}

/// Covers: MQTT3-3.1.2-22
/// Also: MQTT 5.0 section 3.1.2.9, a password without a user name
/// Trap: password without user name (3.1.1)
#[test]
fn a_password_without_a_user_name_is_for_5_0_only() {
    for stage in Stage::each(&VERSIONS) {
        let connect = Connect::new("c").password("p");
        if stage.is_v5() {
            stage.accepted(connect);
        } else {
            stage.expect_refusal(connect, MALFORMED, None);
        }
    }
}

/// Trap: binary passwords refused
/// Also: section 3.1.3.6 (3.1.1: 3.1.3.5), a password is bytes
#[test]
fn a_password_may_be_any_bytes() {
    for stage in Stage::each(&VERSIONS) {
        for password in [&b"\x00\xFF\xC0\x80"[..], b"", &[0xFE; 65_535]] {
            stage.accepted(Connect::new("c").username("u").password(password));
        }
        stage.accepted(Connect::new("c").username("")); // an empty user name is one
    }
}

/// Covers: MQTT3-3.1.3-1, MQTT5-3.1.3-1
#[test]
fn the_fields_of_the_payload_are_read_in_their_order() {
    for version in VERSIONS {
        let stage = Stage::with(version, USERS);
        let login = |id: &str| Connect::new(id).username("gardener").password("tulip");
        let mut watcher = stage.accepted(login("watcher"));
        watcher.subscribe("will/#", 0);
        let all = login("client").will(Will::new("will/topic", "will payload"));
        let mut client = stage.accepted(all.clone());
        stage.accepted(all); // takes over, so the identifier came first; the credentials came last
        client.expect_goodbye(TAKEN_OVER);
        watcher.expect_message("will/topic", "will payload");
        let swapped = Connect::new("client").username("tulip").password("gardener");
        stage.expect_refusal(swapped, BAD_CREDENTIALS, Some(4));
    }
}

/// Covers: MQTT3-3.1.3-3, MQTT5-3.1.3-3, MQTT3-3.1.4-1, MQTT5-3.1.4-1
#[test]
fn a_connect_without_a_client_identifier_field_is_malformed() {
    for stage in Stage::each(&VERSIONS) {
        let (name, level) = stage.version.name_and_level();
        let head = Packet::new(0x10).text(name).u8(level).u8(2).u16(0);
        let head = if stage.is_v5() { head.properties(&[]) } else { head };
        stage.expect_refusal(head.clone(), MALFORMED, None);
        stage.expect_refusal(head.clone().u8(0), MALFORMED, None);
        stage.expect_refusal(head.clone().u16(5).raw("four"), MALFORMED, None);
    }
}

/// Covers: MQTT3-3.1.3-5, MQTT5-3.1.3-5
#[test]
fn client_identifiers_of_letters_and_digits_are_accepted_and_so_are_all_others() {
    let all = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for stage in Stage::each(&VERSIONS) {
        for length in 1..=23 {
            for start in [0, 20, all.len() - 23] {
                stage.connect(&all[start..start + length]);
            }
        }
        for other in [all, " ", "a/b", "#", "+", "$SYS", "设备-1", "🦀", "a b\tc"] {
            stage.connect(other);
        }
    }
}

/// Covers: MQTT3-3.1.3-6, MQTT5-3.1.3-6, MQTT5-3.1.3-7, MQTT5-3.2.2-16
#[test]
fn a_client_without_an_identifier_gets_one_of_its_own() {
    for stage in Stage::everywhere(&SINCE_3_1_1) {
        let (mut first, told) = stage.open(Connect::new(""));
        let (mut second, told_second) = stage.open(Connect::new(""));
        first.expect_nothing(); // not taken over
        second.subscribe("t", 1);
        first.publish("t", "x");
        assert_eq!(second.take().text(), "x");
        let assigned = told.property(prop::ASSIGNED_CLIENT_IDENTIFIER).cloned();
        let assigned_second = told_second.property(prop::ASSIGNED_CLIENT_IDENTIFIER).cloned();
        if !stage.is_v5() {
            assert_eq!((assigned, assigned_second), (None, None));
            continue;
        }
        let (assigned, assigned_second) = (assigned.unwrap(), assigned_second.unwrap());
        assert_ne!(assigned.text(), assigned_second.text());
        // It is an identifier like any other: the session is known by it.
        stage.connect(assigned.text());
        first.expect_goodbye(TAKEN_OVER);
        second.expect_nothing();
    }
}

/// Covers: MQTT5-3.1.3-7
#[test]
fn the_session_of_an_assigned_identifier_can_be_resumed() {
    let stage = Stage::new(Version::V5);
    let (mut client, connack) = stage.open(Connect::new("").durable());
    assert!(!connack.session_present);
    client.subscribe("t", 1);
    client.leave();
    stage.connect("sender").publish("t", "kept");
    let id = connack.property(prop::ASSIGNED_CLIENT_IDENTIFIER).unwrap().text();
    let (mut client, connack) = stage.open(Connect::new(id).durable());
    assert!(connack.session_present);
    assert_eq!(connack.property(prop::ASSIGNED_CLIENT_IDENTIFIER), None, "it came with one");
    assert_eq!(client.take().text(), "kept");
}

/// Covers: MQTT3-3.1.3-7, MQTT3-3.1.3-8, MQTT3-3.1.3-9, MQTT3-3.2.2-4, MQTT3-3.2.2-5
/// Also: MQTT 3.1 section 3.1, a client identifier has at least one character
#[test]
fn before_5_0_a_session_that_stays_needs_a_client_identifier() {
    let stage = Stage::new(Version::V3_1_1);
    stage.expect_refusal(Connect::new("").resuming(), 0, Some(2));
    let stage = Stage::new(Version::V3_1);
    stage.expect_refusal(Connect::new("").resuming(), 0, Some(2));
    stage.expect_refusal(Connect::new(""), 0, Some(2));
}

/// Covers: MQTT3-3.1.4-5, MQTT5-3.1.4-6, MQTT5-3.1.4-2, MQTT3-3.2.2-4, MQTT5-3.2.2-6, MQTT3-3.2.2-5, MQTT5-3.2.2-7
#[test]
fn what_follows_a_refused_connect_is_not_processed() {
    for version in VERSIONS {
        let stage = Stage::with(version, USERS);
        let mut watcher = stage.accepted(Connect::new("watcher").username("gardener").password("tulip"));
        watcher.subscribe("#", 0);
        let rows = [
            (Connect::new("c").username("gardener").password("rose"), BAD_CREDENTIALS, 4),
            (Connect::new("c").username("nobody").password("tulip"), BAD_CREDENTIALS, 4),
            (Connect::new("c"), NOT_AUTHORIZED, 5),
        ];
        for (connect, code, return_code) in rows {
            let connect = connect.will(Will::new("will", "of a stranger"));
            let all = [
                connect.to_bytes(version),
                publish("t", "from a stranger").qos(1, 1).to_bytes(version),
                publish("t", "from a stranger").to_bytes(version),
                subscribe(1, "t", 0).to_bytes(version),
            ];
            stage.expect_refusal(all.concat(), code, Some(return_code));
        }
        watcher.expect_nothing();
    }
}

/// Covers: MQTT3-3.1.4-2, MQTT5-3.1.4-3, MQTT5-4.13.2-1
/// Trap: take-over: DISCONNECT 0x8E to the old connection, its queue moves without loss
#[test]
fn a_client_that_comes_again_takes_over_with_its_queue() {
    for stage in Stage::everywhere(&VERSIONS) {
        let mut sender = stage.connect("sender");
        let mut old = stage.accepted(Connect::new("phone").durable());
        old.subscribe("t", 2);
        for no in 0..20 {
            sender.publish_with(publish("t", no.to_string()).qos(1 + no % 2, 1));
        }
        let received: Vec<u16> = (0..20).map(|_| old.expect_publish().id.unwrap()).collect();
        old.send(puback(received[0])); // the other nineteen stay
        old.expect_nothing();
        let (mut new, connack) = stage.open(Connect::new("phone").durable());
        assert_eq!(connack.session_present, stage.version != Version::V3_1);
        old.expect_goodbye(TAKEN_OVER);
        for (no, id) in received.iter().enumerate().skip(1) {
            let again = new.expect_publish();
            assert_eq!((again.text(), again.id, again.dup), (&*no.to_string(), Some(*id), true));
        }
        sender.publish("t", "to the new one");
        assert_eq!(new.expect_publish().text(), "to the new one");
    }
}

/// Covers: MQTT3-3.1.4-2, MQTT5-3.1.4-3
#[test]
fn a_take_over_crosses_versions() {
    let stage = Stage::new(Version::V5);
    let mut old = stage.accepted(Connect::new("c"));
    for version in [Version::V3_1_1, Version::V3_1, Version::V5] {
        let mut new = stage.socket_of(version);
        new.send(Connect::new("c"));
        assert_eq!(new.expect_connack().code, 0);
        old.expect_goodbye(TAKEN_OVER);
        old = new;
    }
    old.expect_nothing();
}

/// Covers: MQTT3-3.1.3-2, MQTT5-3.1.3-2
#[test]
fn client_identifiers_are_told_apart_by_every_character() {
    for stage in Stage::each(&VERSIONS) {
        let ids = ["c", "C", "c ", " c", "ｃ", "e\u{301}", "\u{E9}"];
        let mut clients: Vec<_> = ids.iter().map(|id| stage.connect(id)).collect();
        for client in &mut clients {
            client.expect_nothing();
        }
    }
}

/// Covers: MQTT3-3.1.4-1, MQTT5-3.1.4-1, MQTT3-3.2.2-6
#[test]
fn a_will_on_something_that_is_no_topic_name_is_refused() {
    for stage in Stage::each(&VERSIONS) {
        for topic in ["", "a/#", "+/b", "#", "a+b"] {
            let connect = Connect::new("c").will(Will::new(topic, "x"));
            stage.expect_refusal(connect, TOPIC_NAME_INVALID, None);
        }
    }
}

/// Also: section 3.1.0, a CONNECT of 5.0 whose lengths lie
#[test]
fn a_connect_whose_lengths_lie_is_malformed() {
    let stage = Stage::new(Version::V5);
    let rows = [
        ("properties beyond the packet", "10 0e 0004 'MQTT' 05 02 0000 7f 0001 'c'"),
        (
            "properties of a will beyond the packet",
            "10 13 0004 'MQTT' 05 06 0000 00 0001 'c' 7f 0001 't' 0000",
        ),
        ("a client identifier beyond the packet", "10 0e 0004 'MQTT' 05 02 0000 00 0100 'c'"),
        ("bytes behind the end", "10 10 0004 'MQTT' 05 02 0000 00 0001 'c' 0000"),
        ("nothing but a name", "10 06 0004 'MQTT'"),
        ("a name that is cut", "10 04 0004 'MQ'"),
        ("an empty packet", "10 00"),
    ];
    for (what, bytes) in rows {
        let answer = stage.refusal(hex(bytes)).map(|frame| frame.connack(Version::V5).code);
        assert!(matches!(answer, None | Some(MALFORMED)), "{what}: {answer:?}");
        if bytes.contains("05 0") {
            assert_eq!(answer, Some(MALFORMED), "{what}");
        }
    }
}

/// Trap: CONNECT has a deadline
/// Also: section 3.1.4, a connection that does not get to CONNECT is closed after a reasonable time
#[test]
fn a_connection_on_which_no_whole_connect_comes_is_closed() {
    for version in VERSIONS {
        let stage = Stage::with(version, "[limits]\nconnect_deadline_ms = 100");
        let connect = Connect::new("c").to_bytes(version);
        for sent in [&connect[..0], &connect[..1], &connect[..9], &connect[..connect.len() - 1]] {
            assert_eq!(stage.refusal(sent), None, "{sent:02x?}");
        }
        stage.accepted(Connect::new("c")).expect_nothing();
    }
}

/// Trap: max_connections reached: no answer
/// Covers: MQTT5-3.2.2-7, MQTT3-3.2.2-5
#[test]
fn one_connection_too_many_hears_that_there_is_no_room() {
    const QUOTA_EXCEEDED: u8 = 0x97;
    for version in VERSIONS {
        let stage = Stage::with(version, "[limits]\nconnections_max = 2");
        let mut clients = [stage.connect("one"), stage.connect("two")];
        stage.expect_refusal(Connect::new("three"), QUOTA_EXCEEDED, Some(3));
        for client in &mut clients {
            client.expect_nothing();
        }
    }
}
