//! Chapter 3.14: DISCONNECT, in both directions.

use crate::harness::{
    Connect, OLD, Packet, Stage, ToBytes, VERSIONS, Version, Will, disconnect, hex, pingreq, prop, publish,
    pubrec, subscribe,
};

const MALFORMED: u8 = 0x81;
const PROTOCOL_ERROR: u8 = 0x82;
const SHUTTING_DOWN: u8 = 0x8B;
const KEEP_ALIVE_TIMEOUT: u8 = 0x8D;
const TAKEN_OVER: u8 = 0x8E;

/// What section 3.14.2.1 lets a client say, without the normal end.
const OF_CLIENTS: [u8; 13] = [4, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99];

/// What it lets only a server say, and 0x8C, which stands in the table of section 2.4 only.
const OF_SERVERS: [u8; 16] =
    [0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2];

fn with_will(client_id: &str) -> Connect {
    Connect::new(client_id).will(Will::new("will", client_id))
}

/// DISCONNECT with a session expiry interval.
fn expiring(code: u8, seconds: u32) -> Packet {
    Packet::new(0xE0).u8(code).properties(&[prop::four(prop::SESSION_EXPIRY, seconds)])
}

/// Covers: MQTT5-3.14.1-1, MQTT3-3.14.1-1
#[test]
fn wrong_flags_of_disconnect_end_the_connection_as_an_error() {
    for stage in Stage::each(&VERSIONS) {
        let mut watcher = stage.connect("watcher");
        watcher.subscribe("will", 0);
        for flags in 1..16 {
            let mut client = stage.accepted(with_will("c"));
            client.send([0xE0 | flags, 0]);
            client.expect_goodbye(MALFORMED);
            watcher.expect_message("will", "c");
        }
    }
}

/// Covers: MQTT5-3.14.4-3, MQTT3-3.14.4-3
/// Trap: the DISCONNECT of one byte taken for an incomplete packet
#[test]
fn a_normal_end_deletes_the_will() {
    for stage in Stage::everywhere(&VERSIONS) {
        let (mut watcher, mut sender) = (stage.connect("watcher"), stage.connect("sender"));
        watcher.subscribe("#", 0);
        let forms: &[&str] = if stage.is_v5() { &["E0 00", "E0 01 00", "E0 02 00 00"] } else { &["E0 00"] };
        for form in forms {
            let mut client = stage.accepted(with_will("c"));
            client.send(hex(form));
            client.expect_end();
            sender.publish("next", "x");
            watcher.expect_message("next", "x");
        }
    }
}

/// Covers: MQTT5-3.14.4-3
#[test]
fn a_normal_end_deletes_a_will_with_a_delay_too() {
    let stage = Stage::new(Version::V5);
    let mut watcher = stage.connect("watcher");
    watcher.subscribe("will/#", 0);
    let will = |name: &str| {
        let will = Will::new(format!("will/{name}"), "").property(prop::four(prop::WILL_DELAY, 1));
        stage.accepted(Connect::new(name).durable().will(will))
    };
    let (gone, later) = (will("gone"), will("later"));
    gone.leave();
    later.break_off();
    watcher.expect_message("will/later", "");
    watcher.expect_nothing();
}

/// Also: MQTT 5.0 section 3.14.2.1, 0x04 and every failure leave the will to be published
/// Trap: DISCONNECT with a reason written with the wrong length
#[test]
fn every_other_reason_publishes_the_will() {
    let stage = Stage::new(Version::V5);
    let mut watcher = stage.connect("watcher");
    watcher.subscribe("will", 0);
    for code in OF_CLIENTS {
        for form in [Packet::new(0xE0).u8(code), Packet::new(0xE0).u8(code).u8(0)] {
            let mut client = stage.accepted(with_will("c"));
            client.send(form);
            client.expect_end();
            watcher.expect_message("will", "c");
        }
    }
}

/// Covers: MQTT5-3.14.2-1
#[test]
fn a_reason_code_of_another_packet_is_an_error() {
    let stage = Stage::new(Version::V5);
    let mut watcher = stage.connect("watcher");
    watcher.subscribe("will", 0);
    for code in (1..4).chain(5..0x80).chain([0x84, 0x85, 0x86, 0x88, 0x8A, 0x91, 0x92, 0xA3, 0xFF]) {
        let mut client = stage.accepted(with_will("c"));
        client.send(Packet::new(0xE0).u8(code));
        client.expect_goodbye(PROTOCOL_ERROR);
        watcher.expect_message("will", "c");
    }
}

/// Covers: MQTT5-3.14.2-1
/// Also: MQTT 5.0 section 3.14.2.1, what only a server may say is an abnormal end
#[test]
fn a_client_that_says_what_only_a_server_may_say_broke_the_protocol() {
    let stage = Stage::new(Version::V5);
    let mut watcher = stage.connect("watcher");
    watcher.subscribe("will", 0);
    for code in OF_SERVERS {
        for form in [Packet::new(0xE0).u8(code), Packet::new(0xE0).u8(code).u8(0)] {
            let mut client = stage.accepted(with_will("c"));
            client.send(form);
            client.expect_goodbye(PROTOCOL_ERROR);
            watcher.expect_message("will", "c");
        }
    }
}

/// Trap: bytes too many; properties that overrun their length, appear twice or do not belong to the packet
#[test]
fn a_disconnect_that_cannot_be_read_is_an_error() {
    for stage in Stage::each(&VERSIONS) {
        let with = |properties: &[_]| Packet::new(0xE0).u8(0).properties(properties);
        let expiry = prop::four(prop::SESSION_EXPIRY, 1);
        let rows = if stage.is_v5() {
            vec![
                (with(&[expiry.clone(), expiry]), PROTOCOL_ERROR),
                (with(&[prop::two(prop::RECEIVE_MAXIMUM, 1)]), MALFORMED),
                (with(&[prop::text(prop::REASON_STRING, [0xC3])]), MALFORMED),
                (with(&[]).u8(0), MALFORMED),
                (Packet::new(0xE0).u8(0).u8(5).u8(0x11), MALFORMED),
            ]
        } else {
            vec![(Packet::new(0xE0).u8(0), MALFORMED)]
        };
        let mut watcher = stage.connect("watcher");
        watcher.subscribe("will", 0);
        for (packet, reason) in rows {
            let mut client = stage.accepted(with_will("c").durable());
            client.send(packet);
            client.expect_goodbye(reason);
            watcher.expect_message("will", "c");
        }
    }
}

/// Covers: MQTT5-3.14.4-1, MQTT3-3.14.4-2
#[test]
fn nothing_is_heard_after_disconnect() {
    for stage in Stage::each(&VERSIONS) {
        let (mut watcher, mut sender) = (stage.connect("watcher"), stage.connect("sender"));
        watcher.subscribe("t", 0);
        let mut client = stage.connect("c");
        let packets =
            [disconnect(0).bytes(), publish("t", "too late").to_bytes(stage.version), pingreq().bytes()];
        client.send(packets.concat());
        client.expect_end();
        sender.publish("t", "next");
        watcher.expect_message("t", "next");
    }
}

/// Covers: MQTT5-3.14.4-2, MQTT3-3.14.4-1
#[test]
fn the_broker_closes_after_disconnect_even_when_the_client_does_not() {
    for stage in Stage::everywhere(&VERSIONS) {
        stage.connect("c").leave(); // waits for the broker's end
    }
}

/// Also: MQTT 5.0 section 3.14.2.2.2, a session of 0 seconds cannot be made longer in DISCONNECT
#[test]
fn a_session_that_was_to_end_cannot_be_kept_in_disconnect() {
    let stage = Stage::new(Version::V5);
    for connect in
        [Connect::new("c").resuming(), Connect::new("c").property(prop::four(prop::SESSION_EXPIRY, 0))]
    {
        let mut client = stage.accepted(connect);
        client.subscribe("t", 1);
        client.send(expiring(0, 1));
        client.expect_goodbye(PROTOCOL_ERROR);
        let (_client, connack) = stage.open(Connect::new("c").durable());
        assert!(!connack.session_present);
        stage.connect("c");
    }
}

/// Also: MQTT 5.0 section 3.14.2.2.2, the session expiry interval of DISCONNECT replaces that of CONNECT
/// Trap: session expiry ignored; 1 s is still present after 2.5 s
#[test]
fn a_session_lives_as_long_as_disconnect_says() {
    let stage = Stage::new(Version::V5);
    let start = |client_id: &str, seconds| {
        stage.accepted(Connect::new(client_id).resuming().property(prop::four(prop::SESSION_EXPIRY, seconds)))
    };
    let rows = [
        ("zero", 3600, Some(0), false),
        ("shorter", 3600, Some(1), false),
        ("longer", 1, Some(3600), true),
        ("for ever", 1, Some(u32::MAX), true),
        ("unsaid", 3600, None, true),
        ("unsaid and short", 1, None, false),
    ];
    for (client_id, connect, disconnect, _) in rows {
        let mut client = start(client_id, connect);
        client.send(disconnect.map_or(Packet::new(0xE0), |seconds| expiring(0, seconds)));
        client.expect_end();
    }
    stage.pass_time(2);
    for (client_id, .., is_there) in rows {
        let (_client, connack) = stage.open(Connect::new(client_id).resuming());
        assert_eq!(connack.session_present, is_there, "{client_id}");
    }
}

/// Covers: MQTT5-4.1.0-2
#[test]
fn a_will_waits_no_longer_than_the_session_that_disconnect_made_shorter() {
    let stage = Stage::new(Version::V5);
    let mut watcher = stage.connect("watcher");
    watcher.subscribe("will", 0);
    let will = Will::new("will", "c").property(prop::four(prop::WILL_DELAY, 3600));
    for seconds in [0, 1] {
        let mut client = stage.accepted(Connect::new("c").durable().will(will.clone()));
        client.send(expiring(4, seconds));
        client.expect_end();
        watcher.expect_message("will", "c");
        let (_client, connack) = stage.open(Connect::new("c").durable());
        assert!(!connack.session_present);
    }
}

/// Covers: MQTT3-4.1.0-1
#[test]
fn disconnect_keeps_a_durable_session_of_older_versions() {
    for stage in Stage::each(&OLD) {
        stage.accepted(Connect::new("c").durable()).leave();
        let mut sender = stage.connect("sender");
        let mut client = stage.accepted(Connect::new("c").durable());
        client.subscribe("t", 1);
        client.leave();
        sender.publish("t", "x");
        stage.accepted(Connect::new("c").durable()).expect_message("t", "x");
    }
}

/// Covers: MQTT5-3.14.2-1, MQTT5-3.14.2-2, MQTT5-3.14.4-1, MQTT5-3.14.4-2, MQTT5-4.13.1-1
#[test]
fn the_broker_says_why_it_ends_a_connection() {
    const CONFIG: &str = "limits.packet_size_max_bytes = 1024\nlimits.topic_alias_max = 2\n\
                          limits.filters_per_packet_max = 1\nlimits.receive_maximum = 1";
    let v5 = |packet: &dyn ToBytes| packet.to_bytes(Version::V5);
    let alias = |alias| v5(&publish("t", "x").property(prop::two(prop::TOPIC_ALIAS, alias)));
    let two = |id| v5(&publish("t", "x").qos(2, id));
    let rows = [
        (MALFORMED, hex("00 00")),
        (MALFORMED, hex("C0 FF FF FF FF 7F")),
        (PROTOCOL_ERROR, v5(&Connect::new("c"))),
        (PROTOCOL_ERROR, v5(&publish("", "x"))),
        (0x90, v5(&publish("a/+", "x"))),
        (0x94, alias(0)),
        (0x94, alias(3)),
        (0x95, v5(&publish("t", "x".repeat(1024)))),
        (0x97, v5(&subscribe(1, "a", 0).and("b", 0))),
        (0x93, [two(1), two(2)].concat()),
    ];
    let stage = Stage::with(Version::V5, CONFIG);
    for (code, bytes) in rows {
        let mut client = stage.accepted(Connect::new("c").durable());
        client.send(bytes.clone());
        let mut frame = client.next();
        if frame.first == 0x50 {
            frame = client.next();
        }
        let said = frame.disconnect();
        assert_eq!(said.code, code, "{bytes:02x?}");
        assert!(said.properties.iter().all(|property| property.id() != prop::SESSION_EXPIRY), "{said:?}");
        client.expect_end();
        stage.connect("c").leave();
    }
}

/// Covers: MQTT5-3.14.2-1, MQTT5-3.14.2-2
/// Trap: half-open sockets never end
#[test]
fn take_over_silence_and_the_end_of_the_broker_are_said() {
    for mut stage in Stage::each(&VERSIONS) {
        let mut old = stage.accepted(Connect::new("c").durable());
        let mut new = stage.accepted(Connect::new("c").durable());
        old.expect_goodbye(TAKEN_OVER);
        let mut silent = stage.accepted(Connect::new("silent").keep_alive(1));
        silent.expect_goodbye(KEEP_ALIVE_TIMEOUT);
        new.expect_nothing();
        stage.stop();
        let said = new.expect_goodbye(SHUTTING_DOWN);
        assert!(
            said.is_none_or(|said| said.properties.iter().all(|other| other.id() != prop::SESSION_EXPIRY))
        );
    }
}

/// Covers: MQTT5-3.14.4-1
#[test]
fn nothing_follows_the_brokers_disconnect() {
    for stage in Stage::each(&VERSIONS) {
        let (mut sender, mut client) = (stage.connect("sender"), stage.connect("c"));
        client.subscribe("t", 2);
        for id in 1..=100 {
            sender.send(publish("t", "x").qos(1, id));
            if id == 50 {
                client.send(pubrec(1)); // a packet of the wrong kind, or for a message that is not there yet
                client.send(hex("00 00"));
            }
        }
        let mut has_ended = false;
        while let Some(frame) = client.next_or_end() {
            assert!(!has_ended, "after DISCONNECT: {frame:?}");
            has_ended |= frame.first == 0xE0;
        }
        assert_eq!(has_ended, stage.is_v5());
    }
}

/// Covers: MQTT5-3.14.0-1
#[test]
fn no_disconnect_comes_before_connack() {
    let connect = Connect::new("c").to_bytes(Version::V5);
    let malformed = [connect[..connect.len() - 1].to_vec(), vec![0xFF]].concat();
    let mut foreign = connect.clone();
    foreign[8] = 77; // a protocol level that does not exist
    let stage = Stage::new(Version::V5);
    for bytes in [malformed, foreign, hex("00 00"), hex("C0 00"), hex("E0 00"), hex("F0 00"), hex("10 01 00")]
    {
        if let Some(answer) = stage.refusal(bytes.clone()) {
            assert_eq!(answer.first, 0x20, "{bytes:02x?}: {answer:?}");
        }
    }
    let with_method = Connect::new("c").property(prop::text(prop::AUTHENTICATION_METHOD, "unheard of"));
    assert_eq!(stage.refusal(with_method).unwrap().first, 0x20);
}
