//! Everything at once for a long time: phones that come and go, telemetry, jobs, states, wills, readers that do not read.
//! Afterwards all is drained and counted, and there is a verdict.

mod ledger;
mod load;
mod trend;

use crate::Arguments;
use crate::client::LoadError;
use crate::contender::Running;
use ledger::Ledger;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use trend::{Sample, slope};

/// Between two lines of the table.
const INTERVAL: Duration = Duration::from_secs(10);

/// Until everything that was acknowledged must have arrived.
const DRAIN: Duration = Duration::from_secs(120);

/// What counts as flat, in MiB a minute: a phone's queue that leaks 1 KiB with each of some hundred messages a second
/// would be ten times as steep.
const SLOPE_MAX: f64 = 2.0;

/// The share of the run in which caches, tables and pools find their size.
const WARM_UP: f64 = 0.3;

/// Runs it and prints a table; an error when something is lost, stuck or grows.
pub async fn soak(arguments: &Arguments, broker: &Running) -> Result<(), LoadError> {
    let (ledger, (stop, stopping)) = (Arc::new(Ledger::default()), watch::channel(false));
    let mut crowd = JoinSet::new();
    load::start(broker.address(), &ledger, &stopping, &mut crowd).await?;
    println!("| s | RSS MiB | CPU % | connections | sessions | queued | sent/s | received/s |");
    println!("|---|---|---|---|---|---|---|---|");
    let samples = watch_broker(arguments, broker, &ledger, &mut crowd).await?;
    let _ = stop.send(true);
    let drained = timeout(DRAIN, async {
        while let Some(ended) = crowd.join_next().await {
            ended.map_err(|error| LoadError::Broken(error.to_string()))??;
        }
        Ok::<(), LoadError>(())
    });
    let is_drained = drained.await.map_or(Ok(false), |ended| ended.map(|()| true))?;
    judge(&samples, &ledger, is_drained)
}

async fn watch_broker(
    arguments: &Arguments,
    broker: &Running,
    ledger: &Ledger,
    crowd: &mut JoinSet<Result<(), LoadError>>,
) -> Result<Vec<Sample>, LoadError> {
    let (started, mut samples) = (Instant::now(), Vec::new());
    let (mut cpu, mut sent, mut received) = (broker.cpu(), ledger.sent(), ledger.received());
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.tick().await;
    while started.elapsed() < Duration::from_secs(arguments.seconds) {
        ticks.tick().await;
        if let Some(ended) = crowd.try_join_next() {
            ended.map_err(|error| LoadError::Broken(error.to_string()))??; // nobody leaves before the end
        }
        let sample = Sample { seconds: started.elapsed().as_secs_f64(), bytes: broker.rss() };
        let text = metrics(broker).await?;
        let (cpu_now, sent_now, received_now) = (broker.cpu(), ledger.sent(), ledger.received());
        let per_second = |now: u64, before: u64| (now - before) as f64 / INTERVAL.as_secs_f64();
        println!(
            "| {:.0} | {:.1} | {:.0} | {} | {} | {} | {:.0} | {:.0} |",
            sample.seconds,
            sample.bytes / f64::from(1 << 20),
            (cpu_now - cpu) / INTERVAL.as_secs_f64() * 100.0,
            gauge(&text, "connections"),
            gauge(&text, "sessions"),
            gauge(&text, "queued_messages"),
            per_second(sent_now, sent),
            per_second(received_now, received),
        );
        (cpu, sent, received) = (cpu_now, sent_now, received_now);
        samples.push(sample);
    }
    Ok(samples)
}

async fn metrics(broker: &Running) -> Result<String, LoadError> {
    let mut socket = TcpStream::connect(broker.metrics()).await?;
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut text = String::new();
    socket.read_to_string(&mut text).await?;
    Ok(text)
}

fn gauge<'a>(text: &'a str, name: &str) -> &'a str {
    let value = |line: &'a str| line.strip_prefix("reveille_broker_")?.strip_prefix(name)?.strip_prefix(' ');
    text.lines().find_map(value).unwrap_or("?")
}

fn judge(samples: &[Sample], ledger: &Ledger, is_drained: bool) -> Result<(), LoadError> {
    let warm = (samples.len() as f64 * WARM_UP) as usize;
    let slope = slope(samples.get(warm..).unwrap_or_default()) / f64::from(1 << 20) * 60.0;
    println!("\nmemory after warm-up: {slope:+.3} MiB a minute, at most {SLOPE_MAX} is flat");
    println!("\n| what | sent | received | again after a reconnect |\n|---|---|---|---|");
    for (what, account) in ledger.accounts() {
        println!("| {what} | {} | {} | {} |", account.sent(), account.received(), account.repeated());
    }
    let mut faults: Vec<String> = ledger.faults();
    faults.extend((!is_drained).then(|| format!("something is stuck {} s after the end", DRAIN.as_secs())));
    faults.extend((slope > SLOPE_MAX).then(|| format!("memory grows by {slope:.3} MiB a minute")));
    if faults.is_empty() {
        println!("\nverdict: flat memory, nothing lost, nothing stuck");
        return Ok(());
    }
    Err(LoadError::Broken(faults.join("; ")))
}
