//! Mixed phones: persistent sessions, most connected and idle, a message a minute for each, some asleep.

use super::{filter, nothing, park};
use crate::Arguments;
use crate::client::LoadError;
use crate::contender::Running;
use crate::generator::{Generator, Wanted};
use crate::report::{Figures, percentile_ms};
use crate::sources::bounded;
use crate::traffic::Traffic;

/// One of so many sleeps.
const ASLEEP: usize = 5;

/// Processor and memory that they take, and how long a message takes to one that is awake.
pub fn phones(arguments: &Arguments, broker: &Running) -> Result<Figures, LoadError> {
    let awake = bounded(arguments.connections);
    let asleep = awake / (ASLEEP - 1);
    let phone = |at| Wanted {
        client_id: format!("phone-{at:08}"),
        is_clean: false,
        filters: vec![(filter("phone", at), 1)],
    };
    let rss = broker.rss();
    park(broker.address(), asleep, |at| phone(awake + at))?;
    let mut generator = Generator::new()?;
    generator.connect(broker.address(), awake, phone, nothing)?;
    let memory = (broker.rss() - rss) / (awake + asleep) as f64;
    let rate = ((awake / 60) as u64).max(1);
    let traffic = Traffic {
        topics: (0..10)
            .map(|server| (server..awake).step_by(10).map(|at| filter("phone", at)).collect())
            .collect(),
        copies: 1,
        qos: 1,
        messages: rate * arguments.seconds,
        rate: Some(rate),
        ..arguments.traffic()
    };
    let outcome = traffic.play(&mut generator, broker)?;
    let share = outcome.cpu / outcome.elapsed.as_secs_f64() * 100.0;
    Ok(vec![
        ("RSS bytes per phone", memory),
        ("CPU %", share),
        ("latency p50 ms", percentile_ms(&outcome.latency, 0.5)),
        ("latency p99 ms", percentile_ms(&outcome.latency, 0.99)),
    ])
}
