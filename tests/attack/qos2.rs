//! QoS 2 that is never finished, in both directions.

use crate::rounds;
use crate::stranger::{Sent, Stranger, connect, durable, message};
use crate::target::{Damage, Target};
use reveille_proto::mqtt::{Connect, Packet, QoS, Version};
use std::thread;

const PUBLISHERS: usize = 2;
const IDENTIFIERS: u16 = u16::MAX;
const SILENT: usize = 10;
const MESSAGES: usize = 1200;

pub fn run(target: &Target) -> Damage {
    let mut count = 0;
    for version in [Version::V3_1_1, Version::V5] {
        count += thread::scope(|scope| {
            let threads: Vec<_> = (0..PUBLISHERS)
                .map(|number| scope.spawn(move || publish_without_end(target, number, version)))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
    }
    count += SILENT * subscribers_that_never_answer(target);
    Damage { what: "unfinished QoS 2 messages", count }
}

/// Every identifier that there is, and no PUBREL.
fn publish_without_end(target: &Target, number: usize, version: Version) -> usize {
    let mut stranger = target.dial(number).unwrap();
    let name = format!("endless-{version:?}-{number}");
    assert!(stranger.log_in(Connect { version, clean_start: false, ..durable(&name) }));
    let mut sent = 0;
    for identifier in 1..=IDENTIFIERS {
        let packet = Packet::Publish(Box::new(message("无尽", vec![7; 64], QoS::ExactlyOnce, identifier)));
        if stranger.send(&packet) == Sent::Refused {
            break;
        }
        sent += 1;
    }
    sent
}

/// In flight and in queues up to their bounds; then publishers hear that there is no room.
fn subscribers_that_never_answer(target: &Target) -> usize {
    let silent: Vec<Stranger> = (0..SILENT)
        .map(|number| {
            let mut stranger = target.dial(100 + number).unwrap();
            assert!(stranger.log_in(durable(&format!("silent-{number}"))));
            stranger.subscribe(&["沉默/#".to_owned()], QoS::ExactlyOnce);
            assert!(matches!(stranger.receive(), Some(Packet::SubAck(_))));
            stranger
        })
        .collect();
    let mut publisher = target.dial(200).unwrap();
    assert!(publisher.log_in(connect("qos2-talker")));
    let messages = MESSAGES;
    for _ in 0..messages {
        publisher.send(&Packet::Publish(Box::new(message("沉默/1", vec![7; 512], QoS::AtLeastOnce, 1))));
        while !matches!(publisher.receive(), Some(Packet::PubAck(_)) | None) {}
    }
    drop(silent);
    messages
}

#[test]
fn unfinished_qos_2_stays_within_its_bounds() {
    Target::start().suffer("QoS 2 exhaustion", rounds(), run);
}
