//! Chapter 4.11: server redirection. It has no numbered statement of its own.

use crate::harness::{Connect, OLD, Stage, Version, Will, prop, publish};
use reveille_broker::Drain;

const USE_ANOTHER_SERVER: u8 = 0x9C;
const SERVER_MOVED: u8 = 0x9D;
const SERVER_UNAVAILABLE: u8 = 0x88;
const SHUTTING_DOWN: u8 = 0x8B;
const REFERENCE: &str = "elsewhere.example:8883 [2001:db8::1]:1883";

fn drain(stage: &Stage, server_reference: Option<&str>, is_permanent: bool) {
    let server_reference = server_reference.map(str::to_owned);
    stage.broker().operator().drain(Drain { server_reference, is_permanent, over_s: 0 }).unwrap();
}

/// Covers: MQTT5-3.14.2-1, MQTT5-3.14.4-1, MQTT5-3.14.4-2, MQTT5-4.13.2-1
/// Also: MQTT 5.0 section 4.11, a client is told where to go instead, connected or not
#[test]
fn a_client_that_has_to_go_hears_where() {
    for (is_permanent, code) in [(false, USE_ANOTHER_SERVER), (true, SERVER_MOVED)] {
        let stage = Stage::new(Version::V5);
        let mut client = stage.accepted(Connect::new("c").durable());
        drain(&stage, Some(REFERENCE), is_permanent);
        let said = client.expect_goodbye(code).unwrap();
        assert!(said.properties.contains(&prop::text(prop::SERVER_REFERENCE, REFERENCE)), "{said:?}");
        assert!(said.properties.iter().all(|property| property.id() != prop::SESSION_EXPIRY), "{said:?}");
        let refusal = stage.refusal(Connect::new("another")).unwrap().connack(Version::V5);
        assert_eq!(refusal.code, code);
        assert_eq!(refusal.property(prop::SERVER_REFERENCE).unwrap().text(), REFERENCE);
    }
}

/// Also: MQTT 5.0 section 4.11, without another server to go to
#[test]
fn a_client_that_has_nowhere_to_go_hears_that_the_server_ends() {
    let stage = Stage::new(Version::V5);
    let mut client = stage.connect("c");
    drain(&stage, None, false);
    let said = client.expect_goodbye(SHUTTING_DOWN).unwrap();
    assert!(said.properties.iter().all(|property| property.id() != prop::SERVER_REFERENCE), "{said:?}");
    stage.expect_refusal(Connect::new("another"), SERVER_UNAVAILABLE, None);
}

/// Also: MQTT 5.0 section 4.11, a reference that the client has no room for is left out
#[test]
fn a_reference_does_not_outgrow_the_clients_maximum_packet_size() {
    const MAXIMUM: u32 = 40;
    let stage = Stage::new(Version::V5);
    let connect = Connect::new("c").property(prop::four(prop::MAXIMUM_PACKET_SIZE, MAXIMUM));
    let mut client = stage.accepted(connect);
    drain(&stage, Some(&"a".repeat(1000)), false);
    while let Some(frame) = client.next_or_end() {
        assert!(frame.bytes.len() <= MAXIMUM as usize, "{frame:?}");
    }
}

/// Covers: MQTT5-3.1.2-24
/// Also: MQTT 5.0 section 4.11, nor does the reference of a refusal
#[test]
fn a_refusal_leaves_the_reference_out_where_the_client_has_no_room_for_it() {
    let stage = Stage::new(Version::V5);
    drain(&stage, Some(&"a".repeat(100)), false);
    let sized = |size| Connect::new("c").property(prop::four(prop::MAXIMUM_PACKET_SIZE, size));
    for (size, is_referred) in [(5, false), (107, false), (108, true)] {
        let connack = stage.refusal(sized(size)).unwrap().connack(Version::V5);
        assert_eq!(connack.code, USE_ANOTHER_SERVER);
        assert_eq!(connack.property(prop::SERVER_REFERENCE).is_some(), is_referred, "{size}");
    }
    assert_eq!(stage.refusal(sized(4)), None, "not even the bare packet fits");
}

/// Also: MQTT 5.0 section 4.11, older versions have no words for it
#[test]
fn older_clients_are_closed_and_refused() {
    const UNAVAILABLE: u8 = 3;
    for version in OLD {
        let stage = Stage::new(version);
        let mut client = stage.connect("c");
        drain(&stage, Some(REFERENCE), false);
        client.expect_end();
        stage.expect_refusal(Connect::new("another"), 0, Some(UNAVAILABLE));
    }
}

/// Also: MQTT 5.0 section 3.1.2.5, a will may wait until the server is back, and it does
#[test]
fn who_is_sent_away_keeps_session_and_will() {
    let mut stage = Stage::new(Version::V5);
    let mut client = stage.accepted(Connect::new("c").durable().will(Will::new("will", "c")));
    client.subscribe("t", 1);
    let mut watcher = stage.accepted(Connect::new("watcher").durable());
    watcher.subscribe("will", 1);
    drain(&stage, Some(REFERENCE), false);
    client.expect_goodbye(USE_ANOTHER_SERVER);
    watcher.expect_goodbye(USE_ANOTHER_SERVER);
    stage.restart();
    let (mut client, connack) = stage.open(Connect::new("c").durable());
    assert!(connack.session_present);
    client.send(publish("t", "x"));
    client.expect_message("t", "x");
    // The will was deleted by the connection that came in time.
    stage.accepted(Connect::new("watcher").durable()).expect_nothing();
}
