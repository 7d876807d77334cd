//! How fast clients come: all for the first time, and all again after their network was cut. Over TLS the second time is
//! with tickets.

use super::filter;
use crate::Arguments;
use crate::client::LoadError;
use crate::contender::Running;
use crate::generator::{Generator, Wanted};
use crate::over::{Over, Trust};
use crate::report::Figures;
use crate::sources::bounded;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Clients that connect at the same time over TLS, each on a thread that waits for nothing else.
const THREADS: usize = 8;

/// Connects a second, and the time until all are back.
pub fn connect(arguments: &Arguments, broker: &Running, trust: &Trust) -> Result<Figures, LoadError> {
    let count = bounded(arguments.connections);
    match broker.over() {
        (_, Over::Tcp) => plain(count, broker),
        _ => layered(count, broker, trust),
    }
}

fn plain(count: usize, broker: &Running) -> Result<Figures, LoadError> {
    let mut generator = Generator::new()?;
    let wanted = |at| Wanted {
        client_id: format!("back-{at:08}"),
        is_clean: false,
        filters: vec![(filter("back", at), 1)],
    };
    let (cpu, started) = (broker.cpu(), Instant::now());
    let first = generator.connect(broker.address(), count, wanted, |_, _| {})?;
    let (fresh, fresh_cpu) = (started.elapsed().as_secs_f64(), broker.cpu() - cpu);
    (first..first + count).for_each(|at| generator.close(at, true));
    let again = |at| Wanted { filters: Vec::new(), ..wanted(at) };
    let (cpu, started) = (broker.cpu(), Instant::now());
    generator.connect(broker.address(), count, again, |_, _| {})?;
    let (back, back_cpu) = (started.elapsed().as_secs_f64(), broker.cpu() - cpu);
    (first + count..first + 2 * count).for_each(|at| generator.close(at, true));
    let clean = |at| Wanted::publisher(format!("clean-{at:08}"));
    let (cpu, started) = (broker.cpu(), Instant::now());
    generator.connect(broker.address(), count, clean, |_, _| {})?;
    let (plain, plain_cpu) = (started.elapsed().as_secs_f64(), broker.cpu() - cpu);
    let count = count as f64;
    Ok(vec![
        ("clean connects/s", count / plain),
        ("clean connects per broker CPU second", count / plain_cpu.max(0.01)),
        ("new persistent sessions with a subscription/s", count / fresh),
        ("new persistent sessions per broker CPU second", count / fresh_cpu.max(0.01)),
        ("seconds until all are back after a cut", back),
        ("returns per broker CPU second", count / back_cpu.max(0.01)),
    ])
}

fn layered(count: usize, broker: &Running, trust: &Trust) -> Result<Figures, LoadError> {
    let (full, full_cpu, _) = round(count, broker, trust)?;
    let (resumed, resumed_cpu, share) = round(count, broker, trust)?;
    let count = count as f64;
    Ok(vec![
        ("full handshakes/s", count / full),
        ("full handshakes per broker CPU second", count / full_cpu.max(0.01)),
        ("connects with a ticket/s", count / resumed),
        ("connects with a ticket per broker CPU second", count / resumed_cpu.max(0.01)),
        ("% that were resumed", share * 100.0),
    ])
}

/// Seconds, the broker's seconds of processor, and which share was resumed.
fn round(count: usize, broker: &Running, trust: &Trust) -> Result<(f64, f64, f64), LoadError> {
    let (address, over) = broker.over();
    let (next, resumed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let client = || -> Result<(), LoadError> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(());
            }
            let stream = trust.connect(address, over, number)?;
            resumed.fetch_add(usize::from(stream.is_resumed()), Ordering::Relaxed);
        }
    };
    let (cpu, started) = (broker.cpu(), Instant::now());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(client)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| LoadError::Broken("a client panicked".into()))?
        })
    })?;
    let share = resumed.into_inner() as f64 / count.max(1) as f64;
    Ok((started.elapsed().as_secs_f64(), broker.cpu() - cpu, share))
}
