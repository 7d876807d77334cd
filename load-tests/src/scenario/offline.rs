//! Persistent sessions sleep while messages come for them; then all return and drain.

use super::{filter, messages, park};
use crate::Arguments;
use crate::client::LoadError;
use crate::contender::Running;
use crate::generator::{Generator, Wanted};
use crate::progress::Progress;
use crate::report::{Figures, percentile_ms};
use crate::traffic::Traffic;
use std::time::{Duration, Instant};

/// Publishers, each with a share of the topics.
const PUBLISHERS: usize = 20;

fn sleeper(at: usize) -> Wanted {
    Wanted { client_id: format!("sleeper-{at}"), is_clean: false, filters: vec![(filter("sleeper", at), 1)] }
}

/// Acknowledgements a second while everyone sleeps, messages a second while they drain, and bytes of memory for each
/// message that waits.
pub fn offline(arguments: &Arguments, broker: &Running) -> Result<Figures, LoadError> {
    let sessions = arguments.connections;
    park(broker.address(), sessions, sleeper)?;
    let mut generator = Generator::new()?;
    let topics_of =
        |publisher| (publisher..sessions).step_by(PUBLISHERS).map(|at| filter("sleeper", at)).collect();
    let traffic = Traffic {
        topics: (0..PUBLISHERS.min(sessions)).map(topics_of).collect(),
        copies: 0,
        qos: 1,
        ..arguments.traffic()
    };
    let rss = broker.rss();
    let enqueued = traffic.play(&mut generator, broker)?;
    let memory = (broker.rss() - rss) / arguments.messages as f64;
    let disk = broker.disk_bytes() as f64 / arguments.messages as f64;
    let sync_ms = broker.sync_ms();
    let (seconds, cpu) = drain(&mut generator, arguments, broker)?;
    let count = arguments.messages as f64;
    Ok(vec![
        ("enqueue, PUBACKs/s", count / enqueued.elapsed.as_secs_f64()),
        ("enqueue, PUBACKs per broker CPU second", count / enqueued.cpu.max(0.01)),
        ("PUBACK p50 ms", percentile_ms(&enqueued.acknowledgement, 0.5)),
        ("PUBACK p99 ms", percentile_ms(&enqueued.acknowledgement, 0.99)),
        ("PUBACK p99 in syncs of this disk", percentile_ms(&enqueued.acknowledgement, 0.99) / sync_ms),
        ("drain, messages/s", count / seconds),
        ("drain, messages per broker CPU second", count / cpu.max(0.01)),
        ("RSS bytes per queued message", memory),
        ("disk bytes per queued message", disk),
    ])
}

fn drain(
    generator: &mut Generator,
    arguments: &Arguments,
    broker: &Running,
) -> Result<(f64, f64), LoadError> {
    let back = |at| Wanted { filters: Vec::new(), ..sleeper(at) };
    let (wanted, mut received) = (arguments.messages as u64, 0);
    let (cpu, started, mut progress) = (broker.cpu(), Instant::now(), Progress::new(wanted));
    generator.connect(broker.address(), arguments.connections, back, |arrival, _| {
        received += messages(&arrival)
    })?;
    while received < wanted {
        generator.turn(Duration::from_millis(100), |arrival, _| received += messages(&arrival))?;
        progress.at(received);
    }
    Ok((started.elapsed().as_secs_f64(), broker.cpu() - cpu))
}
