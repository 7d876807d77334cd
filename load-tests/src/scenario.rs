//! The loads. Each returns the figures of one repetition.

mod audience;
mod connect;
mod dashboard;
mod fan_in;
mod fan_out;
mod growth;
mod idle;
mod million;
mod offline;
mod one_to_offline;
mod parked;
mod phones;
mod point_to_point;
mod pushes;
mod retained;
mod shared;
mod soak;
mod start_up;
mod storm;
mod vendors;
mod wildcards;

pub use audience::audience;
pub use connect::connect;
pub use dashboard::dashboard;
pub use fan_in::fan_in;
pub use fan_out::fan_out;
pub use growth::growth;
pub use idle::idle;
pub use million::million;
pub use offline::offline;
pub use one_to_offline::one_to_offline;
pub use parked::parked;
pub use phones::phones;
pub use point_to_point::point_to_point;
pub use pushes::{fake_apns, pushes};
pub use retained::retained;
pub use shared::shared;
pub use soak::soak;
pub use start_up::start_up;
pub use storm::storm;
pub use vendors::vendors;
pub use wildcards::wildcards;

use crate::client::LoadError;
use crate::generator::{Arrival, Generator, Wanted};
use crate::progress::Progress;
use crate::sources::connections_max;
use crate::wire::Frame;
use std::net::SocketAddr;
use std::time::Duration;

/// A topic for each number.
fn filter(kind: &str, number: usize) -> String {
    format!("{kind}/{number:08}")
}

/// For clients to whom nothing comes yet.
fn nothing(_: Arrival<'_>, _: &mut Vec<u8>) {}

/// 1 for a message, 0 for anything else.
fn messages(arrival: &Arrival<'_>) -> u64 {
    u64::from(matches!(arrival.frame, Frame::Publish { .. }))
}

/// Connections of one wave of [`park`].
const WAVE: usize = 2_000;

/// Connects so many, lets each subscribe and go: their sessions stay.
fn park(to: SocketAddr, count: usize, wanted: impl Fn(usize) -> Wanted) -> Result<(), LoadError> {
    let (mut done, mut progress) = (0, Progress::new(count as u64));
    while done < count {
        let wave = WAVE.min(count - done).min(connections_max() / 2);
        let mut generator = Generator::new()?;
        let first = generator.connect(to, wave, |at| wanted(done + at), nothing)?;
        (first..first + wave).for_each(|at| generator.leave(at));
        while !(first..first + wave).all(|at| generator.has_left(at)) {
            generator.turn(Duration::from_millis(100), nothing)?;
        }
        done += wave;
        progress.at(done as u64);
    }
    Ok(())
}
