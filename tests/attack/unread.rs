//! Subscribers that never read, while messages flood.

use crate::rounds;
use crate::stranger::{Stranger, connect, durable, message};
use crate::target::{Damage, Target};
use reveille_proto::mqtt::{Packet, QoS};
use std::thread;

const DEAF: usize = 60;
const FLOODERS: usize = 2;
const MESSAGES: usize = 400;
const BYTES: usize = 32 << 10;

pub fn run(target: &Target) -> Damage {
    let deaf: Vec<Stranger> = (0..DEAF)
        .map(|number| {
            let mut stranger = target.dial(number).unwrap();
            let (name, qos) =
                (format!("deaf-{number}"), [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
            assert!(stranger.log_in(if number % 2 == 0 { connect(&name) } else { durable(&name) }));
            stranger.subscribe(&["洪水/#".to_owned()], qos[number % 3]);
            assert!(matches!(stranger.receive(), Some(Packet::SubAck(_))));
            stranger
        })
        .collect();
    let messages = MESSAGES;
    thread::scope(|scope| {
        for flooder in 0..FLOODERS {
            scope.spawn(move || flood(target, flooder, messages));
        }
    });
    drop(deaf);
    Damage { what: "MiB for readers that do not read", count: (DEAF * FLOODERS * messages * BYTES) >> 20 }
}

fn flood(target: &Target, flooder: usize, messages: usize) {
    let mut stranger = target.dial(1000 + flooder).unwrap();
    assert!(stranger.log_in(connect(&format!("flooder-{flooder}"))));
    for number in 0..messages {
        let qos = if number % 8 == 0 { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        let packet = Packet::Publish(Box::new(message("洪水/1", vec![7; BYTES], qos, 1)));
        stranger.send(&packet);
        while qos == QoS::AtLeastOnce && !matches!(stranger.receive(), Some(Packet::PubAck(_)) | None) {}
    }
}

#[test]
fn readers_that_do_not_read_cost_their_bound() {
    Target::start().suffer("unread sockets", rounds(), run);
}
