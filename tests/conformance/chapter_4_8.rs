//! Section 4.8 of 5.0: shared subscriptions. Section 4.8 of 3.1.1: errors.

use crate::harness::{
    Client, Connect, Packet, Publish, Stage, VERSIONS, Version, hex, prop, puback, pubcomp, publish, pubrec,
    pubrel, subscribe, unsubscribe,
};

const TOPIC_FILTER_INVALID: u8 = 0x8F;

/// Members of a group that are online, with their subscription.
fn members(stage: &Stage, filter: &str, qos: u8, count: usize) -> Vec<Client> {
    let member = |no| {
        let mut member = stage.connect(&format!("member-{no}"));
        member.subscribe(filter, qos);
        member
    };
    (0..count).map(member).collect()
}

/// What each client has got by now, acknowledged with PUBACK at once.
fn drain(clients: &mut [Client]) -> Vec<Vec<String>> {
    let drain = |client: &mut Client| {
        client.send(hex("c0 00"));
        let mut found = Vec::new();
        loop {
            let frame = client.next();
            if frame.first == 0xD0 {
                return found;
            }
            let message = frame.publish(client.version);
            if let Some(id) = message.id {
                assert_eq!(message.qos, 1);
                client.send(puback(id));
            }
            found.push(message.text().to_owned());
        }
    };
    clients.iter_mut().map(drain).collect()
}

/// Covers: MQTT5-4.8.2-1, MQTT5-4.8.2-2
#[test]
fn a_shared_filter_needs_a_share_name_without_wildcards_and_a_filter() {
    for stage in Stage::each(&[Version::V3_1_1, Version::V5]) {
        let mut client = stage.connect("c");
        let rows = [
            "$share/",
            "$share//",
            "$share//a",
            "$share/g",
            "$share/g/",
            "$share/+/a",
            "$share/#/a",
            "$share/g+/a",
            "$share/g#/a",
            "$share/g/a#",
            "$share/g/#/a",
            "$share/g/a/#/b",
        ];
        for filter in rows {
            client.send(subscribe(1, filter, 0));
            let wanted = if stage.is_v5() { TOPIC_FILTER_INVALID } else { 0x80 };
            assert_eq!(client.next().suback(stage.version).codes, [wanted], "{filter}");
        }
        for filter in ["$share/g/a", "$share/g//a", "$share/组/设备/+", "$share/a b/#", "$share/g/$share/x"]
        {
            client.subscribe(filter, 1);
        }
    }
}

/// Also: MQTT 5.0 section 4.8.2, each message goes to one member of each group, and to everyone who subscribed for himself
#[test]
fn each_message_goes_to_one_member_of_each_group() {
    for stage in Stage::everywhere(&VERSIONS) {
        let mut sender = stage.connect("sender");
        let mut group = members(&stage, "$share/g/t/+", 1, 3);
        let mut others = [stage.connect("other"), stage.connect("plain"), stage.connect("elsewhere")];
        let filters = ["$share/other/t/#", "t/1", "$share/g/u"];
        for (client, filter) in others.iter_mut().zip(filters) {
            client.subscribe(filter, 1);
        }
        for no in 0..30 {
            sender.publish("t/1", no.to_string());
        }
        let all: Vec<String> = (0..30).map(|no| no.to_string()).collect();
        let shares = drain(&mut group);
        assert!(shares.iter().all(|share| !share.is_empty()), "everyone has work: {shares:?}");
        let mut together: Vec<u32> = shares.concat().iter().map(|text| text.parse().unwrap()).collect();
        together.sort_unstable();
        assert_eq!(together, (0..30).collect::<Vec<u32>>());
        assert_eq!(drain(&mut others), [all.clone(), all, vec![]]);
    }
}

/// Covers: MQTT5-4.8.2-3
#[test]
fn each_member_gets_the_qos_that_it_was_granted() {
    let stage = Stage::new(Version::V5);
    let mut sender = stage.connect("sender");
    for qos in 0..=2 {
        let mut member = stage.connect("member");
        member.subscribe("$share/g/t", qos);
        for published in 0..=2 {
            let packet = publish("t", "x");
            sender.publish_with(if published == 0 { packet } else { packet.qos(published, 1) });
            assert_eq!(member.take().qos, qos.min(published));
        }
        member.leave();
    }
}

/// Also: MQTT 5.0 section 4.8.2, subscription identifiers and the retain options of a shared subscription
#[test]
fn a_shared_subscription_has_an_identifier_and_gets_no_retained_messages() {
    let stage = Stage::new(Version::V5);
    let mut sender = stage.connect("sender");
    sender.publish_with(publish("t", "kept").qos(1, 1).retain());
    let mut member = stage.connect("member");
    member.subscribe_with(subscribe(1, "$share/g/t", 1).identifier(9));
    member.subscribe_with(subscribe(1, "kept-for-all", 1));
    sender.publish("t", "new");
    let message = member.take();
    assert_eq!((message.text(), message.retain), ("new", false));
    assert_eq!(message.properties, [prop::var(prop::SUBSCRIPTION_IDENTIFIER, 9)]);
    member.expect_nothing();
}

/// A group of two durable members, the first of which is gone with this message half delivered.
fn broken_off(stage: &Stage, qos: u8) -> (Client, Publish) {
    let mut first = stage.accepted(Connect::new("first").durable());
    first.subscribe("$share/g/t", 2);
    let mut sender = stage.connect("sender");
    sender.publish_with(publish("t", "half delivered").qos(qos, 1));
    let message = first.expect_publish();
    let mut second = stage.connect("second");
    second.subscribe("$share/g/t", 2);
    first.cut();
    (second, message)
}

/// Covers: MQTT5-4.8.2-4
#[test]
fn a_qos_2_delivery_that_broke_off_is_finished_with_the_same_member() {
    let stage = Stage::new(Version::V5);
    let (mut second, message) = broken_off(&stage, 2);
    stage.connect("sender").publish("t", "to whoever is there");
    assert_eq!(second.take().text(), "to whoever is there");
    second.expect_nothing();
    let mut first = stage.accepted(Connect::new("first").durable());
    let id = message.id.unwrap();
    assert_eq!(first.expect_publish(), message.dup());
    first.send(pubrec(id));
    first.expect(pubrel(id));
    first.cut();
    let mut first = stage.accepted(Connect::new("first").durable());
    first.expect(pubrel(id));
    first.send(pubcomp(id));
    first.expect_nothing();
    second.expect_nothing();
}

/// Covers: MQTT5-4.8.2-5
#[test]
fn a_qos_2_delivery_that_broke_off_goes_to_nobody_else_when_the_session_ends() {
    let stage = Stage::new(Version::V5);
    let (mut second, _) = broken_off(&stage, 2);
    stage.connect("first").leave(); // a clean start ends the session
    stage.connect("sender").publish("t", "marker");
    assert_eq!(second.take().text(), "marker");
    second.expect_nothing();
}

/// Also: MQTT 5.0 section 4.8.2, a QoS 1 message whose member's session ended goes to another member
/// Trap: the last member of a shared group leaves with messages in flight (panic)
#[test]
fn a_qos_1_message_whose_member_is_gone_for_good_goes_to_another_one() {
    let stage = Stage::new(Version::V5);
    let (mut second, _) = broken_off(&stage, 1);
    stage.connect("first").leave();
    assert_eq!(second.take().text(), "half delivered");
    // The last one leaves with a message in flight, too.
    stage.connect("sender").publish("t", "nobody is left");
    second.expect_message("t", "nobody is left");
    second.cut();
    stage.connect("third").expect_nothing();
}

/// Covers: MQTT5-4.8.2-5
#[test]
fn what_was_never_sent_goes_to_another_member_whatever_its_qos() {
    let stage = Stage::new(Version::V5);
    let mut sender = stage.connect("sender");
    let one = prop::two(prop::RECEIVE_MAXIMUM, 1);
    let mut first = stage.accepted(Connect::new("first").durable().property(one));
    first.subscribe("$share/g/t", 2);
    for payload in ["sent", "never sent"] {
        sender.publish_with(publish("t", payload).qos(2, 1));
    }
    first.expect_message("t", "sent");
    let mut second = stage.connect("second");
    second.subscribe("$share/g/t", 2);
    first.cut();
    stage.connect("first").leave();
    assert_eq!(second.take().text(), "never sent");
    second.expect_nothing();
}

/// Covers: MQTT5-4.8.2-6
#[test]
fn a_message_that_a_member_refuses_goes_to_nobody_else() {
    let stage = Stage::new(Version::V5);
    let mut sender = stage.connect("sender");
    let mut group = members(&stage, "$share/g/t", 2, 2);
    for (qos, first) in [(1, 0x40), (2, 0x50), (1, 0x40), (2, 0x50)] {
        sender.publish_with(publish("t", "refused").qos(qos, 1));
        let mut refused = 0;
        for member in &mut group {
            member.send(hex("c0 00"));
            let mut frame = member.next();
            if frame.first >> 4 == 3 {
                let id = frame.publish(Version::V5).id.unwrap();
                member.send(Packet::new(first).u16(id).u8(0x83));
                refused += 1;
                frame = member.next();
            }
            assert_eq!(frame.first, 0xD0);
        }
        assert_eq!(refused, 1, "one member got it");
        for member in &mut group {
            member.expect_nothing();
        }
    }
    // Nor is it tried again with the same one when it ends.
    for member in group {
        member.leave();
    }
}

/// Trap: any UNSUBSCRIBE leaves all shared groups
#[test]
fn leaving_one_group_leaves_the_others() {
    for stage in Stage::each(&VERSIONS) {
        let mut sender = stage.connect("sender");
        let mut member = stage.connect("member");
        for filter in ["$share/a/t", "$share/b/t", "$share/a/u", "t"] {
            member.subscribe(filter, 1);
        }
        sender.publish("t", "three times");
        for _ in 0..3 {
            assert_eq!(member.take().text(), "three times");
        }
        member.send(unsubscribe(2, &["$share/a/t", "nowhere"]));
        member.next().unsuback(stage.version);
        sender.publish("t", "twice");
        sender.publish("u", "still in a");
        for wanted in ["twice", "twice", "still in a"] {
            assert_eq!(member.take().text(), wanted);
        }
        member.expect_nothing();
    }
}

/// Also: MQTT 5.0 section 4.8.2, a member that is away does not get what one that is there can take
#[test]
fn members_that_are_there_come_before_those_that_are_away() {
    let stage = Stage::new(Version::V5);
    let mut sender = stage.connect("sender");
    let mut away = stage.accepted(Connect::new("away").durable());
    away.subscribe("$share/g/t", 1);
    away.leave();
    sender.publish("t", "nobody is there");
    let mut there = members(&stage, "$share/g/t", 1, 1);
    for no in 0..10 {
        sender.publish("t", no.to_string());
    }
    assert_eq!(drain(&mut there)[0].len(), 10);
    let mut away = stage.accepted(Connect::new("away").durable());
    assert_eq!(away.take().text(), "nobody is there");
    away.expect_nothing();
}

/// Also: MQTT 5.0 section 4.8.2, the same filter in and out of a group are two subscriptions
#[test]
fn a_client_may_be_in_a_group_and_subscribe_for_itself() {
    let stage = Stage::new(Version::V5);
    let mut sender = stage.connect("sender");
    let mut client = stage.connect("c");
    client.subscribe_with(subscribe(1, "t", 1).identifier(1));
    client.subscribe_with(subscribe(1, "$share/g/t", 1).identifier(2));
    sender.publish("t", "x");
    let mut found: Vec<_> = (0..2).map(|_| client.take().properties).collect();
    found.sort();
    let identifier = |number| vec![prop::var(prop::SUBSCRIPTION_IDENTIFIER, number)];
    assert_eq!(found, [identifier(1), identifier(2)]);
    client.send(unsubscribe(2, &["t"]));
    client.next();
    sender.publish("t", "y");
    assert_eq!(client.take().properties, identifier(2));
    client.expect_nothing();
}

/// Covers: MQTT3-4.8.0-1
#[test]
fn a_violation_ends_the_connection_on_which_it_came_and_no_other() {
    for stage in Stage::everywhere(&VERSIONS) {
        let (mut bystander, mut sender) = (stage.connect("bystander"), stage.connect("sender"));
        bystander.subscribe("t", 1);
        let violations = [hex("c0 01 00"), hex("36 05 0001 't' 0001"), hex("82 02 0001"), hex("20 02 00 00")];
        for violation in violations {
            let mut client = stage.connect("c");
            client.send(&violation[..]);
            while let Some(frame) = client.next_or_end() {
                assert_eq!(frame.first, 0xE0, "nothing but a goodbye");
            }
            sender.publish("t", "on we go");
            bystander.take_message("t", "on we go");
        }
    }
}

/// Covers: MQTT3-4.8.0-2
/// Also: MQTT 5.0 section 4.13, a disk that is full is told with 0x97
#[test]
fn a_full_disk_ends_the_connection_of_a_client_that_cannot_be_told() {
    for stage in Stage::each(&VERSIONS) {
        let mut away = stage.accepted(Connect::new("away").durable());
        away.subscribe("t", 2);
        away.leave();
        for qos in [1, 2] {
            let mut sender = stage.connect("sender");
            stage.fail_next_commit();
            sender.send(publish("t", "x").qos(qos, 5));
            if stage.is_v5() {
                sender.expect_ack(if qos == 1 { 0x40 } else { 0x50 }, 5, 0x97);
            } else {
                sender.expect_end();
            }
            // The disk has room again: what was not acknowledged is sent again and taken.
            let mut sender = stage.connect("sender");
            loop {
                sender.send(publish("t", "again").qos(qos, 6));
                let Some(frame) = sender.next_or_end() else {
                    sender = stage.connect("sender");
                    continue;
                };
                if frame.ack(if qos == 1 { 0x40 } else { 0x50 }, stage.version).code < 0x80 {
                    break;
                }
            }
        }
        let mut away = stage.accepted(Connect::new("away").durable());
        for _ in 0..2 {
            assert_eq!(away.take().text(), "again", "what was refused is not delivered");
        }
    }
}
