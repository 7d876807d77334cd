//! CONNECTs without a pause: new clients, the same client again and again, and sessions that are left behind.

use crate::rounds;
use crate::stranger::{connect, durable};
use crate::target::{Damage, Target};
use reveille_proto::mqtt::Connect;
use std::thread;

const THREADS: usize = 4;
const CONNECTS: usize = 300;

pub fn run(target: &Target) -> Damage {
    let kinds: [fn(usize, usize) -> Connect; 3] = [
        |thread, number| connect(&format!("flood-{thread}-{number}")),
        |_, _| connect("everybody"),
        |thread, number| durable(&format!("left-{thread}-{number}")),
    ];

    for kind in kinds {
        thread::scope(|scope| {
            for thread in 0..THREADS {
                scope.spawn(move || {
                    for number in 0..CONNECTS {
                        let mut stranger = target.dial(thread * CONNECTS + number).unwrap();
                        stranger.log_in(kind(thread, number)); // a take-over may be quicker than the answer
                    }
                });
            }
        });
    }
    Damage { what: "CONNECTs", count: kinds.len() * THREADS * CONNECTS }
}

#[test]
fn a_flood_of_connects_leaves_nothing_behind() {
    Target::start().suffer("CONNECT flood", rounds(), run);
}
