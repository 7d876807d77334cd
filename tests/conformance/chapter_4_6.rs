//! Chapter 4.6: messages and acknowledgements keep their order.

use crate::harness::{Client, Connect, Stage, ToBytes, VERSIONS, puback, pubcomp, publish, pubrec, pubrel};

const COUNT: u16 = 200;

/// Sends numbered messages in one stream, without waiting for an acknowledgement.
fn send_numbers(sender: &mut Client, qos: u8, numbers: std::ops::RangeInclusive<u16>) {
    let packet = |number: u16| {
        let packet = publish("t", number.to_string());
        if qos > 0 { packet.qos(qos, number) } else { packet }.to_bytes(sender.version)
    };
    let bytes: Vec<u8> = numbers.flat_map(packet).collect();
    sender.send(bytes);
}

fn take_numbers(receiver: &mut Client, numbers: std::ops::RangeInclusive<u16>) {
    receiver.take_payloads(&numbers.map(|number| number.to_string()).collect::<Vec<_>>());
}

/// Covers: MQTT5-4.6.0-5, MQTT5-4.6.0-6, MQTT3-4.6.0-5, MQTT3-4.6.0-6
#[test]
fn messages_of_one_client_come_in_its_order() {
    for stage in Stage::everywhere(&VERSIONS) {
        for qos in 0..3 {
            let mut receivers: Vec<Client> =
                (0..4).map(|at| stage.connect(&format!("receiver {at}"))).collect();
            for receiver in &mut receivers {
                receiver.subscribe("t", qos);
            }
            let mut sender = stage.connect("sender");
            send_numbers(&mut sender, qos, 1..=COUNT);
            for receiver in &mut receivers {
                take_numbers(receiver, 1..=COUNT);
            }
        }
    }
}

/// Covers: MQTT5-4.6.0-5, MQTT3-4.6.0-6
#[test]
fn messages_that_waited_come_in_order_and_before_newer_ones() {
    for mut stage in Stage::each(&VERSIONS) {
        for qos in 1..3 {
            let durable = Connect::new("receiver").durable();
            let mut receiver = stage.accepted(durable.clone());
            receiver.subscribe("t", qos);
            receiver.leave();
            let mut sender = stage.accepted(Connect::new("sender").durable());
            for number in 1..=20 {
                sender.publish_with(publish("t", number.to_string()).qos(qos, 1));
            }
            stage.crash();
            let mut sender = stage.connect("sender");
            let mut receiver = stage.accepted(durable.clone());
            send_numbers(&mut sender, qos, 21..=COUNT);
            take_numbers(&mut receiver, 1..=COUNT);
            stage.connect("receiver").leave();
        }
    }
}

/// Covers: MQTT3-4.6.0-1
#[test]
fn a_reconnect_in_the_middle_keeps_the_order() {
    for stage in Stage::each(&VERSIONS) {
        let durable = Connect::new("receiver").durable();
        let mut receiver = stage.accepted(durable.clone());
        receiver.subscribe("t", 1);
        let mut sender = stage.connect("sender");
        send_numbers(&mut sender, 1, 1..=COUNT);
        for number in 1..=COUNT {
            // Every message comes for the first time on one connection, and again on the next.
            let came = receiver.expect_message("t", number.to_string());
            if number % 20 == 0 {
                receiver.break_off();
                receiver = stage.accepted(durable.clone());
                assert_eq!(receiver.expect_publish(), came.clone().dup());
            }
            receiver.send(puback(came.id.unwrap()));
        }
        receiver.expect_nothing();
    }
}

/// Covers: MQTT3-4.6.0-2, MQTT3-4.6.0-3
#[test]
fn the_broker_acknowledges_in_the_order_of_the_publishes() {
    for stage in Stage::each(&VERSIONS) {
        // Some messages have a durable receiver and wait for the disk, others have none and could be faster.
        stage.accepted(Connect::new("receiver").durable()).subscribe("t", 2);
        let mut sender = stage.accepted(Connect::new("sender").durable());
        for id in 1..=COUNT {
            let (topic, qos) = (if id % 3 == 0 { "t" } else { "nobody" }, 1 + (id / 2 % 2) as u8);
            sender.send(publish(topic, "x").qos(qos, id));
        }
        for id in 1..=COUNT {
            let first = if id / 2 % 2 == 0 { 0x40 } else { 0x50 };
            let frame = sender.next();
            assert_eq!(frame.ack(first, stage.version).id, id, "{frame:?}");
        }
    }
}

/// Covers: MQTT3-4.6.0-4
#[test]
fn the_broker_releases_in_the_order_of_the_pubrecs() {
    for stage in Stage::each(&VERSIONS) {
        let mut receiver = stage.accepted(Connect::new("receiver").durable());
        receiver.subscribe("t", 2);
        let mut sender = stage.connect("sender");
        send_numbers(&mut sender, 2, 1..=20);
        let ids: Vec<u16> = (1..=20).map(|_| receiver.expect_publish().id.unwrap()).collect();
        // Not the order of the messages, to tell the two apart.
        let order: Vec<u16> = ids.iter().rev().copied().collect();
        for id in &order {
            receiver.send(pubrec(*id));
        }
        for id in &order {
            receiver.expect(pubrel(*id));
            receiver.send(pubcomp(*id));
        }
        receiver.expect_nothing();
    }
}
