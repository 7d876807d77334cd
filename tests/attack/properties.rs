//! Properties: as many as fit, in CONNECT, in wills and in messages that are kept.

use crate::rounds;
use crate::stranger::{Stranger, connect, durable, message};
use crate::target::{Damage, Target};
use bytestring::ByteString;
use reveille_proto::mqtt::{Packet, PublishProperties, QoS, Will};
use reveille_proto::topic::TopicName;

const CLIENTS: usize = 50;
const MESSAGES: usize = 60;
/// Bytes of an empty user property on the wire.
const EMPTY_BYTES: usize = 5;

pub fn run(target: &Target) -> Damage {
    let mut open = Vec::new();
    for number in 0..CLIENTS {
        let mut stranger = target.dial(number).unwrap();
        let mut connect = durable(&format!("proper-{number}"));
        connect.properties.user_properties = pairs(100_000);
        connect.will = Some(Will {
            topic: TopicName::parse("遗嘱").unwrap(),
            payload: vec![7; 60_000].into(),
            qos: QoS::AtLeastOnce,
            retain: true,
            delay_interval: Some(1),
            properties: PublishProperties { user_properties: pairs(50_000), ..Default::default() },
        });
        stranger.log_in(connect); // let in or not: it was read
        open.push(stranger);
    }
    let messages = MESSAGES;
    keep(target, messages);
    drop(open);
    Damage { what: "packets full of properties", count: CLIENTS + messages }
}

/// Messages of 60,000 bytes of properties for a session that is away, and as many retained ones on ten topics.
fn keep(target: &Target, messages: usize) {
    let mut sleeper = target.dial(CLIENTS).unwrap();
    assert!(sleeper.log_in(durable("sleeper")));
    sleeper.subscribe(&["属性/#".to_owned()], QoS::AtLeastOnce);
    assert!(matches!(sleeper.receive(), Some(Packet::SubAck(_))));
    drop(sleeper);
    let mut stranger = target.dial(CLIENTS + 1).unwrap();
    assert!(stranger.log_in(connect("proper-talker")));
    for number in 0..messages {
        let topic = format!("属性/{}", number % 10);
        let mut publish = message(&topic, b"x".to_vec(), QoS::AtLeastOnce, 1);
        publish.properties.user_properties = pairs(60_000);
        publish.retain = true;
        stranger.send(&Packet::Publish(Box::new(publish)));
        wait_for_answer(&mut stranger);
    }
    for number in 0..10 {
        let mut publish = message(&format!("属性/{number}"), Vec::new(), QoS::AtLeastOnce, 1);
        publish.retain = true;
        stranger.send(&Packet::Publish(Box::new(publish)));
        wait_for_answer(&mut stranger);
    }
}

fn wait_for_answer(stranger: &mut Stranger) {
    while !matches!(stranger.receive(), Some(Packet::PubAck(_)) | None) {}
}

fn pairs(bytes: usize) -> Vec<(ByteString, ByteString)> {
    vec![(ByteString::new(), ByteString::new()); bytes / EMPTY_BYTES]
}

#[test]
fn properties_are_counted_like_everything_else() {
    Target::start().suffer("huge properties", rounds(), run);
}
