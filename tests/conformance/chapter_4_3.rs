//! Chapter 4.3: the exchanges of QoS 0, 1 and 2, from both ends.

use crate::harness::{
    Connect, Stage, ToBytes, VERSIONS, Version, pingreq, prop, puback, pubcomp, publish, pubrec, pubrel,
};

const PUBREC: u8 = 0x50;
const PUBCOMP: u8 = 0x70;
const TOPIC_NAME_INVALID: u8 = 0x90;

/// Covers: MQTT5-4.3.1-1, MQTT3-4.3.1-1
#[test]
fn qos_0_comes_once_without_an_identifier() {
    for stage in Stage::everywhere(&VERSIONS) {
        let (mut sender, mut receiver) = (stage.connect("sender"), stage.connect("receiver"));
        for granted in 0..3 {
            receiver.subscribe("t", granted);
            sender.send(publish("t", "x"));
            assert_eq!(receiver.expect_publish(), publish("t", "x"));
            receiver.expect_nothing();
        }
    }
}

/// Covers: MQTT5-4.3.2-1, MQTT5-4.3.2-2, MQTT5-4.3.3-1, MQTT5-4.3.3-2, MQTT3-4.3.2-1, MQTT3-4.3.3-1
#[test]
fn each_message_on_its_way_has_an_identifier_of_its_own() {
    for stage in Stage::each(&VERSIONS) {
        let (mut sender, mut receiver) = (stage.connect("sender"), stage.connect("receiver"));
        receiver.subscribe("t", 2);
        let mut ids = Vec::new();
        for round in 0..100 {
            // DUP of the sender says nothing about what the receiver gets.
            sender.publish_with(publish("t", "x").qos(1 + round % 2, 1).dup());
            let came = receiver.expect_publish();
            assert!(!came.dup);
            ids.push(came.id.unwrap());
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 100);
        assert!(!ids.contains(&0));
    }
}

/// Covers: MQTT5-4.3.2-1, MQTT5-4.3.3-1
/// Trap: an identifier is used again while its message is on its way
#[test]
fn an_identifier_is_not_used_again_before_its_message_is_done() {
    const BURST: u16 = 1_000;
    const IDENTIFIERS: u16 = u16::MAX;
    let stage = Stage::new(Version::V3_1_1);
    let (mut sender, mut receiver) = (stage.connect("sender"), stage.connect("receiver"));
    receiver.subscribe("t", 1);
    sender.publish("t", "held");
    let held = receiver.expect_message("t", "held").id.unwrap();
    let mut left = IDENTIFIERS - 1; // all the others
    while left > 0 {
        let count = left.min(BURST);
        left -= count;
        sender.send(
            (1..=count)
                .flat_map(|id| publish("t", "x").qos(1, id).to_bytes(stage.version))
                .collect::<Vec<_>>(),
        );
        for came in receiver.take_many(count.into()) {
            assert_ne!(came.id, Some(held));
        }
        (1..=count).for_each(|id| sender.expect(puback(id)));
    }
    // The next one has to wait for the identifier, or to take one out of turn.
    sender.publish("t", "last");
    receiver.send(pingreq());
    let mut frame = receiver.next();
    if frame.first == 0xD0 {
        receiver.send(puback(held));
        frame = receiver.next();
    } else {
        assert_ne!(frame.publish(stage.version).id, Some(held));
    }
    assert_eq!(frame.publish(stage.version).text(), "last");
}

/// Covers: MQTT5-4.3.2-3, MQTT3-4.3.2-1
#[test]
fn a_qos_1_message_stays_until_puback() {
    for mut stage in Stage::each(&VERSIONS) {
        let mut sender = stage.connect("sender");
        let mut receiver = stage.accepted(Connect::new("receiver").durable());
        receiver.subscribe("t", 1);
        sender.publish("t", "x");
        let first = receiver.expect_message("t", "x");
        for round in 0..3 {
            match round {
                0 => receiver.leave(),
                1 => stage.crash(),
                _ => stage.restart(),
            }
            receiver = stage.accepted(Connect::new("receiver").durable());
            assert_eq!(receiver.expect_publish(), first.clone().dup(), "round {round}");
        }
        receiver.send(puback(first.id.unwrap()));
        receiver.expect_nothing();
        receiver.leave();
        stage.accepted(Connect::new("receiver").durable()).expect_nothing();
    }
}

/// Covers: MQTT5-4.3.2-4, MQTT3-4.3.2-2
/// Trap: PUBACK before the message is on disk
#[test]
fn what_was_acknowledged_survives_a_crash() {
    for mut stage in Stage::each(&VERSIONS) {
        let receiver = || Connect::new("receiver").durable();
        stage.accepted(receiver()).subscribe("t", 2);
        let mut sender = stage.connect("sender");
        for id in 1..=20 {
            sender.send(publish("t", id.to_string()).qos(1, id));
        }
        for id in 1..=20 {
            sender.expect(puback(id));
        }
        stage.crash();
        let mut receiver = stage.accepted(receiver());
        for id in 1..=20 {
            assert_eq!(receiver.take().text(), id.to_string());
        }
    }
}

/// Covers: MQTT5-4.3.2-5, MQTT3-4.3.2-2
#[test]
fn after_puback_the_same_identifier_is_a_new_message() {
    for stage in Stage::each(&VERSIONS) {
        let (mut sender, mut receiver) = (stage.connect("sender"), stage.connect("receiver"));
        receiver.subscribe("t", 1);
        for payload in ["one", "two", "three"] {
            sender.publish_with(publish("t", payload).qos(1, 7).dup());
            assert_eq!(receiver.take().text(), payload);
        }
    }
}

/// Covers: MQTT5-4.3.3-3, MQTT5-4.3.3-4, MQTT5-4.3.3-5, MQTT5-4.3.3-6, MQTT3-4.3.3-1
/// Trap: QoS 2 is not correct across reconnects; PUBREL state is lost in a crash
#[test]
fn a_qos_2_delivery_goes_on_where_it_was() {
    for mut stage in Stage::each(&VERSIONS) {
        let mut sender = stage.connect("sender");
        let durable = || Connect::new("receiver").durable();
        let mut receiver = stage.accepted(durable());
        receiver.subscribe("t", 2);
        sender.publish_with(publish("t", "x").qos(2, 1));
        let first = receiver.expect_message("t", "x");
        let id = first.id.unwrap();
        for round in 0..3 {
            receiver = come_back(&mut stage, receiver, round, durable());
            assert_eq!(receiver.expect_publish(), first.clone().dup(), "before PUBREC, round {round}");
        }
        receiver.send(pubrec(id));
        receiver.expect(pubrel(id));
        receiver.send(pubrec(id)); // again, as if PUBREL had not come
        receiver.expect(pubrel(id));
        for round in 0..3 {
            receiver = come_back(&mut stage, receiver, round, durable());
            receiver.expect(pubrel(id));
        }
        receiver.send(pubcomp(id));
        receiver.expect_nothing();
        for round in 0..3 {
            receiver = come_back(&mut stage, receiver, round, durable());
            receiver.expect_nothing();
        }
    }
}

fn come_back(
    stage: &mut Stage,
    client: crate::harness::Client,
    round: usize,
    connect: Connect,
) -> crate::harness::Client {
    match round {
        0 => client.leave(),
        1 => stage.crash(),
        _ => stage.restart(),
    }
    stage.accepted(connect)
}

/// Covers: MQTT5-4.3.3-8, MQTT5-4.3.3-10, MQTT5-4.3.3-11, MQTT5-4.3.3-12, MQTT3-4.3.3-2
#[test]
fn a_repeated_qos_2_publish_is_delivered_once() {
    for stage in Stage::each(&VERSIONS) {
        let (mut sender, mut receiver) = (stage.connect("sender"), stage.connect("receiver"));
        receiver.subscribe("t", 2);
        for payload in ["one", "two"] {
            sender.send(publish("t", payload).qos(2, 9));
            sender.expect(pubrec(9));
            assert_eq!(receiver.take().text(), payload);
            for repeated in [publish("t", payload).dup(), publish("t", payload), publish("t", "other").dup()]
            {
                sender.send(repeated.qos(2, 9));
                sender.expect(pubrec(9));
            }
            for _ in 0..2 {
                sender.send(pubrel(9));
                let frame = sender.next();
                assert_eq!(frame.ack(PUBCOMP, stage.version).id, 9);
            }
            receiver.expect_nothing();
        }
    }
}

/// Covers: MQTT5-4.3.3-8, MQTT5-4.3.3-10, MQTT3-4.3.3-2
/// Trap: received QoS 2 identifiers are forgotten at a reconnect or restart
#[test]
fn a_received_qos_2_identifier_outlives_its_connection() {
    for mut stage in Stage::each(&VERSIONS) {
        let (of_receiver, of_sender) = (Connect::new("receiver").durable(), Connect::new("sender").durable());
        let mut receiver = stage.accepted(of_receiver.clone());
        receiver.subscribe("t", 2);
        let mut sender = stage.accepted(of_sender.clone());
        sender.send(publish("t", "once").qos(2, 9));
        sender.expect(pubrec(9));
        assert_eq!(receiver.take().text(), "once");
        for round in 0..3 {
            sender = come_back(&mut stage, sender, round, of_sender.clone());
            sender.send(publish("t", "once").qos(2, 9).dup());
            sender.expect(pubrec(9));
            receiver = stage.accepted(of_receiver.clone());
            receiver.expect_nothing();
        }
        sender.send(pubrel(9));
        sender.expect(pubcomp(9));
        for round in 0..3 {
            sender = come_back(&mut stage, sender, round, of_sender.clone());
            sender.send(pubrel(9)); // PUBCOMP was lost
            sender.expect_unknown(PUBCOMP, 9);
        }
        sender.send(publish("t", "new").qos(2, 9));
        sender.expect(pubrec(9));
        receiver = stage.accepted(of_receiver);
        receiver.expect_message("t", "new");
    }
}

/// Covers: MQTT5-4.3.3-9
#[test]
fn after_a_failing_pubrec_the_same_identifier_is_a_new_message() {
    let stage = Stage::new(Version::V5);
    let (mut sender, mut receiver) = (stage.connect("sender"), stage.connect("receiver"));
    receiver.subscribe("t", 2);
    sender.send(publish("a/".repeat(128), "refused").qos(2, 9));
    sender.expect_ack(PUBREC, 9, TOPIC_NAME_INVALID);
    sender.publish_with(publish("t", "new").qos(2, 9));
    assert_eq!(receiver.take().text(), "new");
}

/// Covers: MQTT5-4.3.3-7
/// Trap: a QoS 2 message is dropped after it was sent
#[test]
fn a_message_that_was_sent_expires_no_more() {
    let mut stage = Stage::new(Version::V5);
    let durable = Connect::new("receiver").durable();
    let mut receiver = stage.accepted(durable.clone());
    receiver.subscribe("t", 2);
    let mut sender = stage.connect("sender");
    let short = |payload| publish("t", payload).qos(2, 1).property(prop::four(prop::MESSAGE_EXPIRY, 1));
    sender.publish_with(short("sent"));
    sender.publish_with(short("sent too"));
    let sent = receiver.expect_payloads(&["sent", "sent too"]);
    receiver.leave();
    sender.publish_with(short("never sent"));
    stage.pass_time(2);
    for is_crashed in [false, true] {
        if is_crashed {
            stage.crash();
        }
        let mut receiver = stage.accepted(durable.clone());
        for first in &sent {
            let again = receiver.expect_publish();
            assert_eq!((again.id, again.dup, again.text()), (first.id, true, first.text()));
        }
        receiver.expect_nothing();
        receiver.leave();
    }
}

/// Covers: MQTT5-4.3.3-13
#[test]
fn an_expired_message_is_acknowledged_to_the_end() {
    let stage = Stage::new(Version::V5);
    let mut receiver = stage.accepted(Connect::new("receiver").durable());
    receiver.subscribe("t", 2);
    receiver.leave();
    let mut sender = stage.accepted(Connect::new("sender").durable());
    let expired = publish("t", "x").qos(2, 9).property(prop::four(prop::MESSAGE_EXPIRY, 1));
    sender.send(expired.clone());
    sender.expect(pubrec(9));
    stage.pass_time(2);
    sender.send(expired.dup());
    sender.expect(pubrec(9));
    sender.send(pubrel(9));
    sender.expect(pubcomp(9));
    stage.accepted(Connect::new("receiver").durable()).expect_nothing();
}

/// Trap: QoS 2 released by position instead of by packet identifier; PUBACKs out of order close the connection
#[test]
fn acknowledgements_count_by_identifier_not_by_position() {
    for stage in Stage::each(&VERSIONS) {
        let mut sender = stage.connect("sender");
        let durable = || Connect::new("receiver").durable();
        let mut receiver = stage.accepted(durable());
        receiver.subscribe("t", 2);
        for (payload, qos) in [("1", 1), ("2", 2), ("3", 1), ("4", 2), ("5", 1), ("6", 2)] {
            sender.publish_with(publish("t", payload).qos(qos, 1));
        }
        let sent = receiver.expect_payloads(&["1", "2", "3", "4", "5", "6"]);
        let id = |at: usize| sent[at].id.unwrap();
        receiver.send(puback(id(4)));
        receiver.send(pubrec(id(5)));
        receiver.expect(pubrel(id(5)));
        receiver.send(pubrec(id(1)));
        receiver.expect(pubrel(id(1)));
        receiver.send(pubcomp(id(1)));
        receiver.send(puback(id(0)));
        receiver.leave();
        let mut receiver = stage.accepted(durable());
        assert_eq!(receiver.expect_publish(), sent[2].clone().dup());
        assert_eq!(receiver.expect_publish(), sent[3].clone().dup());
        receiver.expect(pubrel(id(5)));
        receiver.expect_nothing();
    }
}

/// Covers: MQTT5-4.3.2-4, MQTT5-4.3.3-8, MQTT3-4.3.2-2, MQTT3-4.3.3-2
/// Trap: PUBACK or PUBREC before the message is on disk
#[test]
fn nothing_is_acknowledged_before_it_is_on_disk() {
    for version in VERSIONS {
        let (stage, disk) = Stage::with_disk(version);
        let mut receiver = stage.accepted(Connect::new("receiver").durable());
        receiver.subscribe("t", 2);
        receiver.leave();
        let mut sender = stage.connect("sender");
        disk.hold();
        sender.send(publish("t", "1").qos(1, 1));
        sender.send(publish("t", "2").qos(2, 2));
        sender.send(publish("nobody", "3").qos(1, 3)); // waits in its turn
        sender.expect_nothing();
        disk.go_on();
        sender.expect(puback(1));
        sender.expect(pubrec(2));
        assert_eq!(sender.next().ack(0x40, version).id, 3);
    }
}

/// Covers: MQTT5-4.3.3-4, MQTT5-4.3.3-6, MQTT5-4.3.3-11, MQTT3-4.3.3-1, MQTT3-4.3.3-2
/// Trap: PUBREL before PUBREC is on disk, or PUBCOMP before PUBREL is
#[test]
fn a_qos_2_exchange_goes_no_further_than_the_disk() {
    for version in VERSIONS {
        let (stage, disk) = Stage::with_disk(version);
        let (of_receiver, of_sender) = (Connect::new("receiver").durable(), Connect::new("sender").durable());
        let mut receiver = stage.accepted(of_receiver.clone());
        receiver.subscribe("t", 2);
        let mut sender = stage.accepted(of_sender);
        disk.hold();
        sender.send(publish("t", "x").qos(2, 9));
        sender.expect_nothing();
        receiver.expect_nothing(); // or a crash would let it come twice
        disk.go_on();
        sender.expect(pubrec(9));
        let id = receiver.expect_message("t", "x").id.unwrap();
        disk.hold();
        receiver.send(pubrec(id));
        receiver.expect_nothing();
        sender.send(pubrel(9));
        sender.expect_nothing();
        let mut receiver = stage.socket();
        receiver.send(of_receiver); // its session takes nothing back
        sender.expect_nothing();
        disk.go_on();
        receiver.expect_connack();
        receiver.expect(pubrel(id));
        sender.expect(pubcomp(9));
        receiver.send(pubcomp(id));
        receiver.expect_nothing();
    }
}

/// Covers: MQTT5-4.3.3-10, MQTT3-4.3.3-2
#[test]
fn a_qos_2_publish_that_is_repeated_before_it_is_on_disk_is_delivered_once() {
    for version in VERSIONS {
        let (stage, disk) = Stage::with_disk(version);
        let mut receiver = stage.accepted(Connect::new("receiver").durable());
        receiver.subscribe("t", 2);
        let of_sender = Connect::new("sender").durable();
        let mut sender = stage.accepted(of_sender.clone());
        disk.hold();
        let message = publish("t", "once").qos(2, 9);
        sender.send(message.clone());
        sender.expect_nothing();
        for _ in 0..2 {
            sender = stage.accepted(of_sender.clone());
            sender.send(message.clone().dup());
            sender.expect_nothing();
        }
        disk.go_on();
        sender.expect(pubrec(9));
        sender.send(pubrel(9));
        sender.expect(pubcomp(9));
        assert_eq!(receiver.take().text(), "once");
        receiver.expect_nothing();
    }
}

/// Also: section 2.2.1 (3.1.1: 2.3.1), both ends choose their identifiers for themselves
#[test]
fn the_identifiers_of_both_directions_are_strangers() {
    for stage in Stage::each(&VERSIONS) {
        let mut client = stage.accepted(Connect::new("c").durable());
        client.subscribe("t", 2);
        for round in 0..20 {
            let qos = 1 + round % 2;
            // The broker begins with 1, or with where it is: every identifier meets itself sooner or later.
            client.send(publish("t", "x").qos(qos, u16::from(round) + 1));
            let (mut is_acknowledged, mut came) = (false, None);
            while !is_acknowledged || came.is_none() {
                let frame = client.next();
                if frame.first >> 4 == 3 {
                    came = frame.publish(stage.version).id;
                } else {
                    assert_eq!(
                        frame.ack(if qos == 1 { 0x40 } else { 0x50 }, stage.version).id,
                        u16::from(round) + 1
                    );
                    is_acknowledged = true;
                }
            }
            let came = came.unwrap();
            if qos == 1 {
                client.send(puback(came));
                continue;
            }
            client.send(pubrec(came));
            client.expect(pubrel(came));
            client.send(pubrel(u16::from(round) + 1));
            client.expect(pubcomp(u16::from(round) + 1));
            client.send(pubcomp(came));
        }
        client.expect_nothing();
    }
}
