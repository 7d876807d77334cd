//! A shared subscription: each message goes to one of the workers.

use super::{filter, nothing};
use crate::Arguments;
use crate::client::LoadError;
use crate::contender::Running;
use crate::generator::{Generator, Wanted};
use crate::report::Figures;
use crate::traffic::Traffic;

/// Members of the group.
const WORKERS: usize = 16;

/// Messages received a second by all workers, and how long each took.
pub fn shared(arguments: &Arguments, broker: &Running) -> Result<Figures, LoadError> {
    let mut generator = Generator::new()?;
    let wanted = |at| Wanted::subscriber(format!("worker-{at}"), "$share/g/job/#".to_owned(), arguments.qos);
    generator.connect(broker.address(), WORKERS, wanted, nothing)?;
    let traffic = Traffic {
        topics: (0..arguments.connections).map(|at| vec![filter("job", at)]).collect(),
        copies: 1,
        ..arguments.traffic()
    };
    Ok(traffic.play(&mut generator, broker)?.figures())
}
