//! Topic aliases that are set again and again, to the longest topics that there are.

use crate::rounds;
use crate::stranger::{Sent, connect, message};
use crate::target::{Damage, Target};
use reveille_proto::mqtt::Packet;
use reveille_proto::mqtt::QoS;
use std::thread;

const CLIENTS: usize = 20;
const ALIASES: u16 = 16;
const ROUNDS: u16 = 3;
const TOPIC_BYTES: usize = 20_000;

pub fn run(target: &Target) -> Damage {
    let clients: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || flood(target, number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    drop(clients); // all of them were there at once
    Damage { what: "aliases set", count: CLIENTS * usize::from(ROUNDS * ALIASES) }
}

fn flood(target: &Target, number: usize) -> crate::stranger::Stranger {
    let mut stranger = target.dial(number).unwrap();
    assert!(stranger.log_in(connect(&format!("alias-{number}"))));
    for round in 0..ROUNDS {
        for alias in 1..=ALIASES {
            let topic = format!("{number}/{round}/{alias}/{}", "x".repeat(TOPIC_BYTES));
            let mut publish = message(&topic, b"x".to_vec(), QoS::AtMostOnce, 1);
            publish.properties.topic_alias = Some(alias);
            assert_eq!(stranger.send(&Packet::Publish(Box::new(publish))), Sent::Taken);
        }
    }
    stranger
}

#[test]
fn aliases_hold_one_topic_each() {
    Target::start().suffer("alias flood", rounds(), run);
}
