//! Retained messages: many are set, then many clients subscribe to all of them at once.

use super::{filter, messages};
use crate::Arguments;
use crate::client::LoadError;
use crate::contender::Running;
use crate::generator::{Generator, Wanted};
use crate::progress::Progress;
use crate::report::Figures;
use crate::traffic::Traffic;
use std::time::{Duration, Instant};

/// Clients that want them all.
const READERS: usize = 20;

/// Retained messages set a second (durable on ours), and received a second by those who come later.
pub fn retained(arguments: &Arguments, broker: &Running) -> Result<Figures, LoadError> {
    let mut generator = Generator::new()?;
    let publishers = arguments.connections.max(1);
    let each = (arguments.messages / publishers).max(1);
    let topics = |publisher| (0..each).map(|at| filter("state", publisher * each + at)).collect();
    let traffic = Traffic {
        topics: (0..publishers).map(topics).collect(),
        copies: 0,
        qos: arguments.qos.max(1),
        messages: (publishers * each) as u64,
        is_retained: true,
        ..arguments.traffic()
    };
    let set = traffic.play(&mut generator, broker)?;
    let (wanted, mut received) = ((publishers * each * READERS) as u64, 0);
    let reader = |at| Wanted::subscriber(format!("reader-{at}"), "state/#".to_owned(), 0);
    let (cpu, started, mut progress) = (broker.cpu(), Instant::now(), Progress::new(wanted));
    generator.connect(broker.address(), READERS, reader, |arrival, _| received += messages(&arrival))?;
    while received < wanted {
        generator.turn(Duration::from_millis(100), |arrival, _| received += messages(&arrival))?;
        progress.at(received);
    }
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), broker.cpu() - cpu);
    Ok(vec![
        ("set/s", set.acknowledged as f64 / set.elapsed.as_secs_f64()),
        ("received/s", received as f64 / seconds),
        ("received per broker CPU second", received as f64 / cpu.max(0.01)),
    ])
}
