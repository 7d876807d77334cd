//! Subscriptions: too many, too deep, and filters that all match in as many ways as there are.

use crate::rounds;
use crate::stranger::{Stranger, connect, message};
use crate::target::{Damage, Target};
use reveille_proto::mqtt::{Packet, QoS};
use std::thread;

const SUBSCRIBERS: usize = 20;
/// Every way to write `+` for some of eight levels: 256 filters.
const LEVELS: u32 = 8;
const PER_PACKET: usize = 64;
const MESSAGES: usize = 50;

pub fn run(target: &Target) -> Damage {
    too_many(target);
    let filters: Vec<String> = (0..1_u32 << LEVELS).map(filter).collect();
    let mut subscribers: Vec<Stranger> = (0..SUBSCRIBERS)
        .map(|number| {
            let mut stranger = target.dial(number).unwrap();
            assert!(stranger.log_in(connect(&format!("greedy-{number}"))));
            for packet in filters.chunks(PER_PACKET) {
                stranger.subscribe(packet, QoS::AtMostOnce);
                assert!(matches!(stranger.receive(), Some(Packet::SubAck(_))));
            }
            stranger
        })
        .collect();
    let messages = MESSAGES;
    thread::scope(|scope| {
        for stranger in &mut subscribers {
            scope.spawn(|| {
                for _ in 0..messages {
                    assert!(matches!(stranger.receive(), Some(Packet::Publish(_))), "once for each message");
                }
            });
        }
        let mut bomber = target.dial(SUBSCRIBERS).unwrap();
        assert!(bomber.log_in(connect("subscription-bomber")));
        let topic = vec!["a"; LEVELS as usize].join("/");
        for _ in 0..messages {
            bomber.send(&Packet::Publish(Box::new(message(&topic, b"x".to_vec(), QoS::AtMostOnce, 1))));
        }
    });
    Damage { what: "matches", count: messages * SUBSCRIBERS * filters.len() }
}

fn filter(plus: u32) -> String {
    let level = |at| if plus & (1_u32 << at) == 0 { "a" } else { "+" };
    (0..LEVELS).map(level).collect::<Vec<_>>().join("/")
}

/// More filters than a packet may have, more subscriptions than a session, more levels than a filter.
fn too_many(target: &Target) {
    let mut stranger = target.dial(99).unwrap();
    assert!(stranger.log_in(connect("too-many")));
    for round in 0..8 {
        let filters: Vec<String> = (0..PER_PACKET).map(|number| format!("many/{round}/{number}/#")).collect();
        stranger.subscribe(&filters, QoS::ExactlyOnce);
        let answer = stranger.receive();
        let Some(Packet::SubAck(answer)) = answer else { panic!("{answer:?} instead of SUBACK") };
        assert_eq!(answer.reasons.iter().any(|reason| reason.is_failure()), round >= 4, "256 are allowed");
    }
    for (name, filters) in [
        ("too many filters", (0..10_000).map(|number| number.to_string()).collect()),
        ("too deep a filter", vec!["+/".repeat(1000)]),
        ("too long a filter", vec!["+/".repeat(30_000)]),
    ] {
        let mut stranger = target.dial(98).unwrap();
        assert!(stranger.log_in(connect(name)));
        let _ = stranger.subscribe(&filters, QoS::AtMostOnce);
        match stranger.receive() {
            Some(Packet::SubAck(answer)) => {
                assert!(answer.reasons.iter().all(|reason| reason.is_failure()), "{name}")
            }
            Some(Packet::Disconnect(_)) | None => {}
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn filters_that_all_match_make_one_message_each() {
    Target::start().suffer("subscription bomb", rounds(), run);
}
