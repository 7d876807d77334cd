//! Ten thousand connections at once that never say a whole CONNECT.

use crate::rounds;
use crate::stranger::Stranger;
use crate::target::{Bounds, Damage, Target};
use reveille_tests::program::wait_for;

const SOCKETS: usize = 10_000;

fn run(target: &Target) -> Damage {
    let mut open: Vec<Stranger> = (0..SOCKETS).map(|number| target.dial(number).unwrap()).collect();
    for stranger in &mut open {
        stranger.send_bytes(b"\x10\x0c\x00\x04MQ");
    }
    wait_for("all of them to be there", || (target.connections() > SOCKETS as u64).then_some(()));
    wait_for("the broker to hang up on all of them", || (target.connections() == 1).then_some(()));
    Damage { what: "half-open connections at once", count: SOCKETS }
}

#[test]
fn ten_thousand_half_open_connections_cost_little_and_end() {
    // Long enough that the first one is still there when the last one comes, on a busy machine too.
    let bounds = Bounds { connect_deadline_ms: 12_000, ..Bounds::default() };
    Target::start_with(bounds).suffer("half-open", rounds(), run);
}
