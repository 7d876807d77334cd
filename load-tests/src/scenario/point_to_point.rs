//! Each publisher has one subscriber: at full speed, or at a fixed rate for latency.

use super::{filter, nothing};
use crate::Arguments;
use crate::client::LoadError;
use crate::contender::Running;
use crate::generator::{Generator, Wanted};
use crate::report::Figures;
use crate::traffic::Traffic;

/// Messages a second, and how long each took.
pub fn point_to_point(arguments: &Arguments, broker: &Running) -> Result<Figures, LoadError> {
    let (pairs, qos) = (arguments.connections, arguments.qos);
    let mut generator = Generator::new()?;
    let wanted = |at| Wanted::subscriber(format!("subscriber-{at}"), filter("pair", at), qos);
    generator.connect(broker.address(), pairs, wanted, nothing)?;
    let traffic = Traffic {
        topics: (0..pairs).map(|at| vec![filter("pair", at)]).collect(),
        copies: 1,
        ..arguments.traffic()
    };
    Ok(traffic.play(&mut generator, broker)?.figures())
}
