//! Start with many stored sessions and queued messages: killed, started again, timed until the listener opens.

use super::{filter, park};
use crate::Arguments;
use crate::client::LoadError;
use crate::contender::Running;
use crate::generator::{Generator, Wanted};
use crate::report::Figures;
use crate::traffic::Traffic;

/// Publishers, each with a share of the topics.
const PUBLISHERS: usize = 20;

/// Seconds until it listens, and what it then holds in memory.
pub fn start_up(arguments: &Arguments, broker: &mut Running) -> Result<Figures, LoadError> {
    let sessions = arguments.connections;
    let wanted = |at| Wanted {
        client_id: format!("stored-{at:08}"),
        is_clean: false,
        filters: vec![(filter("stored", at), 1)],
    };
    park(broker.address(), sessions, wanted)?;
    let mut generator = Generator::new()?;
    let topics_of =
        |publisher| (publisher..sessions).step_by(PUBLISHERS).map(|at| filter("stored", at)).collect();
    let traffic = Traffic {
        topics: (0..PUBLISHERS.min(sessions)).map(topics_of).collect(),
        copies: 0,
        qos: 1,
        ..arguments.traffic()
    };
    traffic.play(&mut generator, broker)?;
    let before = broker.rss();
    drop(generator);
    let took = broker.restart()?;
    Ok(vec![
        ("seconds until it listens", took.as_secs_f64()),
        ("broker CPU seconds meanwhile", broker.cpu()),
        ("RSS MiB after the start", broker.rss() / f64::from(1 << 20)),
        ("RSS MiB before", before / f64::from(1 << 20)),
        ("disk MiB", broker.disk_bytes() as f64 / f64::from(1 << 20)),
    ])
}
