//! Chapter 4.4: what is sent again, and when.

use crate::harness::{
    Client, Connect, Stage, VERSIONS, Version, ack_with, puback, pubcomp, publish, pubrec, pubrel,
};

const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;

fn durable() -> Connect {
    Connect::new("receiver").durable()
}

/// A receiver of QoS 2 and what the sender published for it: an even number of messages, QoS 1 and 2 in turn.
fn receiver_of(stage: &Stage, payloads: &[&str]) -> Client {
    let mut receiver = stage.accepted(durable());
    receiver.subscribe("t", 2);
    let mut sender = stage.connect("sender");
    for (at, payload) in payloads.iter().enumerate() {
        sender.publish_with(publish("t", payload).qos(1 + (at % 2) as u8, 1));
    }
    receiver
}

/// Covers: MQTT5-4.4.0-1, MQTT3-4.4.0-1
#[test]
fn unacknowledged_packets_come_again_in_order_and_before_new_ones() {
    for mut stage in Stage::each(&VERSIONS) {
        for ends in 0..3 {
            let mut receiver = receiver_of(&stage, &["1", "2", "3", "4"]);
            let sent = receiver.expect_payloads(&["1", "2", "3", "4"]);
            let id = |at: usize| sent[at].id.unwrap();
            receiver.send(puback(id(0)));
            receiver.send(pubrec(id(3)));
            receiver.expect(pubrel(id(3)));
            match ends {
                0 => receiver.leave(),
                1 => receiver.break_off(),
                _ => stage.crash(),
            }
            let mut sender = stage.connect("sender");
            sender.publish("t", "5");
            let mut receiver = stage.accepted(durable());
            if ends == 2 {
                expect_in_any_order_of_kinds(&mut receiver, &sent[1..3], id(3));
            } else {
                assert_eq!(receiver.expect_publish(), sent[1].clone().dup());
                assert_eq!(receiver.expect_publish(), sent[2].clone().dup());
                receiver.expect(pubrel(id(3)));
            }
            let five = receiver.expect_message("t", "5");
            assert!(!five.dup, "never sent before");
            receiver.expect_nothing();
            stage.connect("receiver").leave();
        }
    }
}

/// After a crash the broker knows what was released, and sends that first.
fn expect_in_any_order_of_kinds(receiver: &mut Client, sent: &[crate::harness::Publish], released: u16) {
    receiver.expect(pubrel(released));
    for first in sent {
        assert_eq!(receiver.expect_publish(), first.clone().dup());
    }
}

/// Covers: MQTT5-4.4.0-1
#[test]
fn nothing_comes_again_on_the_same_connection() {
    let stages: Vec<Stage> = Stage::each(&VERSIONS).collect();
    let mut receivers: Vec<Client> = stages.iter().map(|stage| receiver_of(stage, &["1", "2"])).collect();
    let sent = receivers.iter_mut().map(|receiver| receiver.expect_payloads(&["1", "2"]));
    let twos: Vec<u16> = sent.map(|sent| sent[1].id.unwrap()).collect();
    stages[0].pass_time(2);
    for (receiver, two) in receivers.iter_mut().zip(&twos) {
        receiver.expect_nothing();
        receiver.send(pubrec(*two));
        receiver.expect(pubrel(*two));
    }
    stages[0].pass_time(2);
    receivers.iter_mut().for_each(Client::expect_nothing);
}

/// Covers: MQTT5-4.4.0-1
#[test]
fn nothing_comes_again_after_a_clean_start() {
    for stage in Stage::each(&VERSIONS) {
        let mut receiver = receiver_of(&stage, &["1", "2"]);
        receiver.expect_payloads(&["1", "2"]);
        receiver.leave();
        stage.connect("receiver").expect_nothing();
    }
}

/// Covers: MQTT5-4.4.0-2
#[test]
fn a_refused_message_is_done() {
    let mut stage = Stage::new(Version::V5);
    for code in [0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99] {
        let mut receiver = receiver_of(&stage, &["1", "2"]);
        let sent = receiver.expect_payloads(&["1", "2"]);
        receiver.send(ack_with(PUBACK, sent[0].id.unwrap(), code));
        receiver.send(ack_with(PUBREC, sent[1].id.unwrap(), code));
        receiver.expect_nothing(); // no PUBREL either
        receiver.leave();
        stage.accepted(durable()).expect_nothing();
    }
    stage.crash();
    stage.accepted(durable()).expect_nothing();
}

/// Trap: messages that waited while the client was away come with DUP
#[test]
fn what_was_never_sent_has_no_dup() {
    for stage in Stage::each(&VERSIONS) {
        let mut receiver = receiver_of(&stage, &[]);
        receiver.subscribe("t", 2);
        receiver.leave();
        let mut receiver = receiver_of(&stage, &["1", "2"]);
        for came in receiver.expect_payloads(&["1", "2"]) {
            assert!(!came.dup, "{came:?}");
        }
    }
}

/// Covers: MQTT5-4.4.0-1, MQTT3-4.4.0-1
#[test]
fn each_reconnect_sends_again_what_is_still_unacknowledged() {
    for stage in Stage::each(&VERSIONS) {
        let mut receiver = receiver_of(&stage, &["1", "2", "3", "4"]);
        let mut left = receiver.expect_payloads(&["1", "2", "3", "4"]);
        while let Some(last) = left.pop() {
            let id = last.id.unwrap();
            if last.qos == 1 {
                receiver.send(puback(id));
            } else {
                receiver.send(pubrec(id));
                receiver.expect(pubrel(id));
                receiver.send(pubcomp(id));
            }
            receiver.break_off();
            receiver = stage.accepted(durable());
            for first in &left {
                assert_eq!(receiver.expect_publish(), first.clone().dup());
            }
            receiver.expect_nothing();
        }
    }
}
