//! Chapter 4.1: session state, and how long it is kept.

use crate::harness::{
    Client, Connect, Stage, VERSIONS, Version, Will, prop, puback, pubcomp, publish, pubrec, pubrel,
    subscribe, unsubscribe,
};

fn of_one_second(client_id: &str) -> Connect {
    Connect::new(client_id).resuming().property(prop::four(prop::SESSION_EXPIRY, 1))
}

/// Covers: MQTT5-4.1.0-1, MQTT3-4.1.0-1, MQTT3-4.1.0-2
/// Trap: subscriptions are not in the routing index after a restart
#[test]
fn a_durable_session_keeps_its_state() {
    for mut stage in Stage::each(&VERSIONS) {
        let durable = Connect::new("c").durable();
        let mut client = stage.accepted(durable.clone());
        client.subscribe("t", 2);
        for round in 0..3 {
            match round {
                0 => client.leave(),
                1 => stage.crash(),
                _ => stage.restart(),
            }
            let mut sender = stage.connect("sender");
            sender.publish("t", "waits");
            let (next, connack) = stage.open(durable.clone());
            client = next;
            if stage.version != Version::V3_1 {
                assert!(connack.session_present, "round {round}"); // 3.1 has no such flag
            }
            let mut came = client.take();
            if round > 0 && came.dup {
                came = client.take(); // its PUBACK was not on disk when the broker died
            }
            assert_eq!(came.text(), "waits");
            sender.publish("t", "now");
            assert_eq!(client.take().text(), "now");
        }
    }
}

/// Covers: MQTT5-4.1.0-1, MQTT3-4.1.0-1
/// Trap: a take-over loses the queue
#[test]
fn a_take_over_takes_the_whole_state() {
    for stage in Stage::each(&VERSIONS) {
        let mut sender = stage.connect("sender");
        let durable = Connect::new("c").durable();
        let mut client = stage.accepted(durable.clone());
        client.subscribe("t", 2);
        sender.publish("t", "one");
        sender.publish_with(publish("t", "two").qos(2, 2));
        let sent = client.expect_payloads(&["one", "two"]);
        let two = sent[1].id.unwrap();
        client.send(pubrec(two));
        client.expect(pubrel(two));
        client.send(publish("u", "mine").qos(2, 9));
        client.next(); // PUBREC, whatever it says
        for _ in 0..3 {
            client = stage.accepted(durable.clone());
            assert_eq!(client.expect_publish(), sent[0].clone().dup());
            client.expect(pubrel(two));
            sender.publish("t", "three");
            let three = client.expect_message("t", "three").id.unwrap();
            client.send(puback(three));
            client.expect_nothing();
        }
        client.send(puback(sent[0].id.unwrap()));
        client.send(pubcomp(two));
        client.send(pubrel(9));
        client.expect(pubcomp(9));
        client.expect_nothing();
    }
}

/// Covers: MQTT5-4.1.0-2
/// Trap: session expiry 1 s still present after 2.5 s
#[test]
fn a_session_ends_when_its_time_is_over() {
    let stage = Stage::new(Version::V5);
    let mut watcher = stage.connect("watcher");
    watcher.subscribe("will", 0);
    let will = Will::new("will", "over").property(prop::four(prop::WILL_DELAY, 3600));
    let mut client = stage.accepted(of_one_second("c").will(will));
    client.subscribe("t", 1);
    client.break_off();
    watcher.publish("t", "lost with the session");
    watcher.expect_message("will", "over"); // a will is due at the end of its session at the latest
    let (mut client, connack) = stage.open(of_one_second("c"));
    assert!(!connack.session_present);
    watcher.publish("t", "nobody");
    client.expect_nothing();
}

/// Covers: MQTT5-4.1.0-1, MQTT3-4.1.0-2
#[test]
fn a_session_does_not_end_while_it_is_connected() {
    let stages: Vec<Stage> = Stage::each(&VERSIONS).collect();
    let start = |stage: &Stage| {
        let mut client = stage.accepted(of_one_second("c"));
        client.subscribe("t", 1);
        client
    };
    let clients: Vec<Client> = stages.iter().map(start).collect();
    stages[0].pass_time(2);
    for (stage, mut client) in stages.iter().zip(clients) {
        stage.connect("sender").publish("t", "x");
        client.expect_message("t", "x");
    }
}

/// Covers: MQTT5-4.1.0-2
#[test]
fn the_time_of_a_session_begins_anew_with_each_connection() {
    let stage = Stage::new(Version::V5);
    let client = stage.accepted(of_one_second("c"));
    client.leave();
    let longer = Connect::new("c").durable();
    let (client, connack) = stage.open(longer);
    assert!(connack.session_present);
    client.leave();
    stage.pass_time(2);
    let (_client, connack) = stage.open(of_one_second("c"));
    assert!(connack.session_present, "the last CONNECT said an hour");
}

/// Covers: MQTT5-4.1.0-2, MQTT3-4.1.0-1
#[test]
fn a_clean_session_leaves_nothing_behind() {
    for stage in Stage::each(&VERSIONS) {
        let mut sender = stage.connect("sender");
        for ends in 0..2 {
            let mut client = stage.connect("c");
            client.subscribe("t", 1);
            sender.publish("t", "unacknowledged");
            client.expect_message("t", "unacknowledged");
            if ends == 0 {
                client.leave();
            } else {
                client.break_off();
            }
            sender.publish("t", "nobody");
            let (mut client, connack) = stage.open(Connect::new("c").resuming());
            assert!(!connack.session_present);
            client.expect_nothing();
            stage.connect("c").leave();
        }
    }
}

/// Also: MQTT 5.0 section 4.1, a clean start ends the session that is there
#[test]
fn a_clean_start_forgets_a_durable_session() {
    for stage in Stage::each(&VERSIONS) {
        let mut sender = stage.connect("sender");
        let mut client = stage.accepted(Connect::new("c").durable());
        client.subscribe("t", 2);
        client.send(publish("u", "x").qos(2, 7));
        client.next();
        client.leave();
        sender.publish("t", "forgotten");
        let (mut client, connack) = stage.open(Connect::new("c"));
        assert!(!connack.session_present);
        client.send(pubrel(7));
        client.expect_unknown(0x70, 7);
        sender.publish("t", "nobody");
        client.expect_nothing();
    }
}

/// Covers: MQTT5-4.1.0-2
/// Trap: sessions that should have ended are back after a restart
#[test]
fn a_session_ends_in_its_time_although_the_broker_dies() {
    let mut stage = Stage::new(Version::V5);
    stage.accepted(of_one_second("away")).leave();
    let _online = stage.accepted(of_one_second("online"));
    stage.accepted(Connect::new("longer").durable()).leave();
    stage.crash();
    stage.pass_time(2);
    for (client_id, is_there) in [("away", false), ("online", false), ("longer", true)] {
        let (_client, connack) = stage.open(Connect::new(client_id).durable());
        assert_eq!(connack.session_present, is_there, "{client_id}");
    }
}

/// Covers: MQTT5-4.1.0-1, MQTT3-4.1.0-1
/// Trap: SUBACK before the subscription is on disk
#[test]
fn a_subscription_of_a_durable_session_is_confirmed_when_it_is_on_disk() {
    for version in VERSIONS {
        let (stage, disk) = Stage::with_disk(version);
        let mut client = stage.accepted(Connect::new("c").durable());
        disk.hold();
        client.send(subscribe(1, "t", 1));
        client.expect_nothing();
        client.send(unsubscribe(2, &["t"]));
        client.expect_nothing();
        disk.go_on();
        client.expect_suback(1, &[1]);
        client.expect_unsuback(2, &[0]);
    }
}
