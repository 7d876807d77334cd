//! Benchmarks of Reveille and its peers: the same load on each, alternating, in one run; ratios, not absolute times.
//!
//! Everything goes to 127.0.0.1 and is bounded in count. See `load-tests/README.md`.

mod bridge;
mod client;
mod contender;
mod process;
mod report;
mod scenario;

use clap::{Parser, ValueEnum};
use contender::Contender;
use report::{Figures, Row};
use std::path::PathBuf;
use std::process::ExitCode;

/// Times the same load on several brokers.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure.
    #[arg(long, value_enum, default_value = "point-to-point")]
    scenario: Scenario,
    /// The `reveille` program to measure (a release build).
    #[arg(long, default_value = "target/release/reveille")]
    reveille: PathBuf,
    /// Do not measure Debian's mosquitto.
    #[arg(long)]
    without_mosquitto: bool,
    /// How often; the contenders take turns.
    #[arg(long, default_value_t = 3)]
    repetitions: u32,
    /// Connections: pairs, subscribers or sleeping sessions.
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// Messages in all.
    #[arg(long, default_value_t = 100_000)]
    messages: usize,
    /// QoS of publisher and subscriber: 0, 1 or 2.
    #[arg(long, default_value_t = 1)]
    qos: u8,
    /// Bytes of payload.
    #[arg(long, default_value_t = 200)]
    payload: usize,
    /// Seconds of a soak, without its drain.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// What `idle-over` measures.
    #[arg(long, value_enum, default_value = "tls")]
    over: scenario::Over,
    /// Publishes in flight per publisher.
    #[arg(long, default_value_t = 50)]
    window: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scenario {
    /// Each publisher has one subscriber.
    PointToPoint,
    /// One publisher, everyone else subscribes.
    FanOut,
    /// Durable sessions sleep while messages come, then drain.
    Offline,
    /// Connections that do nothing, with one subscription each.
    Idle,
    /// Our sender against aioapns, on the same fake APNs. `load-tests/peers/aioapns.sh` installs the peer.
    Pushes,
    /// Eleven vendors at once, with and without two that are ill.
    Vendors,
    /// As many devices as `--messages` says in the bridge's index: memory, start, ten expressions, everybody.
    Audience,
    /// The fake APNs of `pushes`, which starts it by itself.
    #[value(hide = true)]
    FakeApns,
    /// Everything at once on ours for ten minutes, with a verdict: flat memory, nothing lost, nothing stuck.
    Soak,
    /// The same over TLS or WebSocket, on ours alone.
    IdleOver,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("load test failed: {error}");
    ExitCode::FAILURE
}

async fn run(arguments: &Arguments) -> Result<(), client::LoadError> {
    match arguments.scenario {
        Scenario::Pushes => return scenario::pushes(arguments).await,
        Scenario::Vendors => return scenario::vendors(arguments).await,
        Scenario::Audience => return scenario::audience(arguments).await,
        Scenario::Soak => {
            let running = Contender::reveille(&arguments.reveille).start().await?;
            return scenario::soak(arguments, &running).await;
        }
        Scenario::FakeApns => return scenario::fake_apns().await,
        Scenario::IdleOver => return idle_over(arguments).await,
        Scenario::PointToPoint | Scenario::FanOut | Scenario::Offline | Scenario::Idle => {}
    }
    let mut contenders = vec![Contender::reveille(&arguments.reveille)];
    if !arguments.without_mosquitto {
        contenders.push(Contender::mosquitto());
    }
    let mut rows: Vec<Row> = contenders.iter().map(|contender| Row::new(contender.name())).collect();
    for repetition in 1..=arguments.repetitions {
        for (contender, row) in contenders.iter().zip(&mut rows) {
            eprintln!("{} {repetition}/{}", contender.name(), arguments.repetitions);
            let running = contender.start().await?;
            let figures = measure(arguments, &running).await?;
            row.add(figures);
        }
    }
    report::print(&rows);
    Ok(())
}

async fn idle_over(arguments: &Arguments) -> Result<(), client::LoadError> {
    let mut row = Row::new("reveille (durable)");
    for _ in 0..arguments.repetitions {
        let (running, prepared) = contender::start_over(&arguments.reveille, arguments.over).await?;
        row.add(scenario::idle_over(arguments, &running, &prepared)?);
    }
    report::print(&[row]);
    Ok(())
}

async fn measure(arguments: &Arguments, broker: &contender::Running) -> Result<Figures, client::LoadError> {
    match arguments.scenario {
        Scenario::PointToPoint => scenario::point_to_point(arguments, broker).await,
        Scenario::FanOut => scenario::fan_out(arguments, broker).await,
        Scenario::Offline => scenario::offline(arguments, broker).await,
        Scenario::Idle | Scenario::IdleOver => scenario::idle(arguments, broker).await,
        // These print tables of their own.
        Scenario::Pushes | Scenario::Vendors | Scenario::Audience | Scenario::FakeApns | Scenario::Soak => {
            Ok(Figures::new())
        }
    }
}
