//! Many publishers, one subscriber of all their topics.

use super::{filter, nothing};
use crate::Arguments;
use crate::client::LoadError;
use crate::contender::Running;
use crate::generator::{Generator, Wanted};
use crate::report::Figures;
use crate::traffic::Traffic;

/// Messages received a second, and how long each took.
pub fn fan_in(arguments: &Arguments, broker: &Running) -> Result<Figures, LoadError> {
    let mut generator = Generator::new()?;
    let wanted = |_| Wanted::subscriber("collector".to_owned(), "sensor/#".to_owned(), arguments.qos);
    generator.connect(broker.address(), 1, wanted, nothing)?;
    let traffic = Traffic {
        topics: (0..arguments.connections).map(|at| vec![filter("sensor", at)]).collect(),
        copies: 1,
        ..arguments.traffic()
    };
    Ok(traffic.play(&mut generator, broker)?.figures())
}
