//! Topics: too deep, too long, too many, and many that stay.

use crate::rounds;
use crate::stranger::{Sent, Stranger, connect, message};
use crate::target::{Damage, Target};
use reveille_proto::mqtt::{Packet, Publish, QoS};

const TOPICS: usize = 20_000;
const RETAINED: usize = 5_000;

pub fn run(target: &Target) -> Damage {
    too_deep(target);
    let mut stranger = target.dial(1).unwrap();
    assert!(stranger.log_in(connect("topic-bomber")));
    let topics = TOPICS;
    for number in 0..topics {
        let levels = "深/".repeat(20);
        stranger.send(&publish(&format!("{levels}{number}"), b"x", false));
    }
    for payload in [&[7; 200][..], b""] {
        for number in 0..RETAINED {
            stranger.send(&publish(&format!("留/{}/{number}", number % 100), payload, true));
        }
        listen(&mut stranger);
    }
    Damage { what: "topics", count: topics + RETAINED }
}

/// 33 levels are one too many here, and so is a topic that is longer than a packet may be.
fn too_deep(target: &Target) {
    for (number, topic) in ["a/".repeat(1000), "/".repeat(32), "长".repeat(21_845)].into_iter().enumerate() {
        let mut stranger = target.dial(number).unwrap();
        assert!(stranger.log_in(connect(&format!("deep-{number}"))));
        let publish = Publish { retain: true, ..message(&topic, b"x".to_vec(), QoS::AtLeastOnce, 1) };
        stranger.send(&Packet::Publish(Box::new(publish)));
        match stranger.receive() {
            Some(Packet::PubAck(answer)) => assert!(answer.reason.is_failure(), "{} bytes", topic.len()),
            Some(Packet::Disconnect(_)) | None => {}
            other => panic!("{} bytes: {other:?}", topic.len()),
        }
    }
}

fn publish(topic: &str, payload: &[u8], retain: bool) -> Packet {
    Packet::Publish(Box::new(Publish { retain, ..message(topic, payload.to_vec(), QoS::AtMostOnce, 1) }))
}

/// Waits until everything before was handled.
fn listen(stranger: &mut Stranger) {
    assert_eq!(stranger.send(&Packet::PingReq), Sent::Taken);
    while !matches!(stranger.receive(), Some(Packet::PingResp) | None) {}
}

#[test]
fn topics_cost_what_they_hold() {
    Target::start().suffer("topic bomb", rounds(), run);
}
