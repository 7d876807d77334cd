//! Section 3.3.2.3.4: topic aliases, chosen by the client and by the broker.

use crate::harness::{Client, Connect, Publish, Stage, Version, prop, publish};
use std::collections::HashMap;

const PROTOCOL_ERROR: u8 = 0x82;
const TOPIC_ALIAS_INVALID: u8 = 0x94;

fn aliased(topic: &str, alias: u16) -> Publish {
    publish(topic, "x").qos(1, 1).property(prop::two(prop::TOPIC_ALIAS, alias))
}

/// Covers: MQTT5-3.3.2-12
#[test]
fn a_client_may_use_every_alias_up_to_the_maximum_and_give_it_another_topic() {
    let stage = Stage::with(Version::V5, "[limits]\ntopic_alias_max = 20");
    let (mut receiver, mut sender) = (stage.connect("receiver"), stage.connect("sender"));
    receiver.subscribe("#", 1);
    for turn in ["first", "second"] {
        for alias in 1..=20 {
            let topic = format!("{turn}/{alias}");
            sender.publish_with(aliased(&topic, alias));
            receiver.take_message(&topic, "x");
        }
        for alias in (1..=20).rev() {
            sender.publish_with(aliased("", alias));
            let message = receiver.take();
            assert_eq!(message.words().0, format!("{turn}/{alias}"));
            assert_eq!(message.find(prop::TOPIC_ALIAS), None, "the receiver allows none");
        }
    }
}

/// Covers: MQTT5-3.3.2-8, MQTT5-3.3.2-9
/// Also: MQTT 5.0 section 3.3.4, an alias that was never given a topic is a protocol error
#[test]
fn aliases_that_cannot_be_end_the_connection() {
    let stage = Stage::with(Version::V5, "[limits]\ntopic_alias_max = 5");
    let rows = [
        (aliased("t", 0), TOPIC_ALIAS_INVALID),
        (aliased("", 0), TOPIC_ALIAS_INVALID),
        (aliased("t", 6), TOPIC_ALIAS_INVALID),
        (aliased("", 6), TOPIC_ALIAS_INVALID),
        (aliased("", 3), PROTOCOL_ERROR),
    ];
    for (packet, code) in rows {
        let mut client = stage.connect("c");
        client.send(packet);
        client.expect_goodbye(code);
    }
}

/// Covers: MQTT5-3.3.2-7
#[test]
fn a_clients_aliases_end_with_its_connection_and_are_its_own() {
    let stage = Stage::new(Version::V5);
    let mut other = stage.connect("other");
    other.publish_with(aliased("others/topic", 1));
    let mut client = stage.accepted(Connect::new("c").durable());
    client.publish_with(aliased("t", 1));
    client.leave();
    let mut client = stage.accepted(Connect::new("c").durable());
    client.send(aliased("", 1));
    client.expect_goodbye(PROTOCOL_ERROR);
    other.publish_with(aliased("", 1));
}

/// Reads a message as a receiver with aliases does: the topic, and the alias that stood for it or was given to it.
fn resolve(receiver: &mut Client, known: &mut HashMap<u32, String>) -> (String, Option<u32>) {
    let message = receiver.take();
    let topic = message.words().0.to_owned();
    let alias = message.find(prop::TOPIC_ALIAS).map(|property| property.number());
    match (alias, topic.is_empty()) {
        (Some(alias), true) => (known.get(&alias).expect("an alias that was given").clone(), Some(alias)),
        (Some(alias), false) => {
            known.insert(alias, topic.clone());
            (topic, Some(alias))
        }
        (None, false) => (topic, None),
        (None, true) => panic!("neither topic nor alias"),
    }
}

/// Covers: MQTT5-3.1.2-26, MQTT5-3.3.2-11, MQTT5-3.3.2-10
/// Trap: outbound topic alias kept per filter instead of per topic (wildcard subscribers get messages under the wrong topic)
#[test]
fn the_brokers_aliases_keep_within_the_clients_maximum_and_mean_their_topic() {
    for maximum in [1, 3, 10, 65_535] {
        let stage = Stage::new(Version::V5);
        let limit = prop::two(prop::TOPIC_ALIAS_MAXIMUM, maximum);
        let mut receiver = stage.accepted(Connect::new("receiver").property(limit));
        let mut sender = stage.connect("sender");
        receiver.subscribe("a/#", 2);
        receiver.subscribe("a/+/1", 0);
        let mut known = HashMap::new();
        let mut has_alias = false;
        for turn in 0..6 {
            for no in 0..12 {
                let topic = format!("a/{no}/{}", no % 2);
                let qos = (turn + no) % 3;
                let packet = publish(&topic, "x");
                sender.publish_with(if qos == 0 { packet } else { packet.qos(qos, 1) });
                let (came, alias) = resolve(&mut receiver, &mut known);
                assert_eq!(came, topic);
                assert!(alias.is_none_or(|alias| (1..=u32::from(maximum)).contains(&alias)), "{alias:?}");
                has_alias |= alias.is_some();
            }
        }
        assert!(has_alias, "busy topics get an alias");
    }
}

/// Covers: MQTT5-3.1.2-27, MQTT5-3.3.2-11
#[test]
fn a_client_that_allows_no_aliases_gets_none() {
    let stage = Stage::new(Version::V5);
    let mut sender = stage.connect("sender");
    let zero = Connect::new("zero").property(prop::two(prop::TOPIC_ALIAS_MAXIMUM, 0));
    for connect in [Connect::new("absent"), zero] {
        let mut receiver = stage.accepted(connect);
        receiver.subscribe("t", 1);
        for _ in 0..20 {
            sender.publish("t", "x");
            assert_eq!(receiver.take().properties, []);
        }
    }
}

/// Covers: MQTT5-3.3.2-7
#[test]
fn the_brokers_aliases_end_with_the_connection() {
    let stage = Stage::new(Version::V5);
    let mut sender = stage.connect("sender");
    let connect = || Connect::new("c").durable().property(prop::two(prop::TOPIC_ALIAS_MAXIMUM, 10));
    let mut receiver = stage.accepted(connect());
    receiver.subscribe("t", 1);
    let mut known = HashMap::new();
    for _ in 0..10 {
        sender.publish("t", "x");
        assert_eq!(resolve(&mut receiver, &mut known).0, "t");
    }
    receiver.cut();
    sender.publish("t", "x");
    let mut receiver = stage.accepted(connect());
    assert_eq!(resolve(&mut receiver, &mut HashMap::new()).0, "t", "its name comes again");
}
