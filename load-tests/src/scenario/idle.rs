//! Connections that do nothing, with one subscription each.

use super::filter;
use crate::Arguments;
use crate::client::LoadError;
use crate::contender::Running;
use crate::generator::{Generator, Wanted};
use crate::over::{Over, Trust};
use crate::progress::Progress;
use crate::report::Figures;
use crate::sources::bounded;
use crate::wire;
use std::time::{Duration, Instant};

/// How long the idle connections are watched.
const WATCH: Duration = Duration::from_secs(5);

/// Resident bytes per idle connection, and what of a core a thousand of them take.
pub fn idle(arguments: &Arguments, broker: &Running, trust: &Trust) -> Result<Figures, LoadError> {
    let count = bounded(arguments.connections);
    match broker.over() {
        (_, Over::Tcp) => plain(count, broker),
        _ => layered(count, broker, trust),
    }
}

fn plain(count: usize, broker: &Running) -> Result<Figures, LoadError> {
    let mut generator = Generator::new()?;
    let wanted = |at| Wanted::subscriber(format!("idle-{at:08}"), filter("idle", at), 1);
    generator.connect(broker.address(), 1, wanted, |_, _| {})?; // what the first of all allocates is no connection's
    let (rss, started) = (broker.rss(), Instant::now());
    generator.connect(broker.address(), count, |at| wanted(at + 1), |_, _| {})?;
    Ok(figures(broker, count, rss, started))
}

fn layered(count: usize, broker: &Running, trust: &Trust) -> Result<Figures, LoadError> {
    let (address, over) = broker.over();
    let open = |number: usize| -> Result<_, LoadError> {
        let mut stream = trust.connect(address, over, number)?;
        stream.ask(&wire::subscribe(&filter("idle", number), 1))?;
        Ok(stream)
    };
    let mut streams = vec![open(0)?];
    let (rss, started, mut progress) = (broker.rss(), Instant::now(), Progress::new(count as u64));
    for number in 1..=count {
        streams.push(open(number)?);
        progress.at(number as u64);
    }
    Ok(figures(broker, count, rss, started))
}

fn figures(broker: &Running, count: usize, before: f64, started: Instant) -> Figures {
    let rate = count as f64 / started.elapsed().as_secs_f64();
    let cpu = broker.cpu();
    std::thread::sleep(WATCH);
    let share = (broker.cpu() - cpu) / WATCH.as_secs_f64() * 1000.0 / count as f64;
    vec![
        ("RSS bytes per connection", (broker.rss() - before) / count as f64),
        ("connect and subscribe/s", rate),
        ("CPU % per 1,000 idle", share * 100.0),
    ]
}
