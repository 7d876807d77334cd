//! Benchmarks of Reveille and its peers: the same load on each, alternating, in one run; ratios, not absolute times.
//!
//! Everything goes to 127.0.0.1 and is bounded in count. See `load-tests/README.md`.

mod bridge;
mod client;
mod contender;
mod generator;
mod over;
mod process;
mod progress;
mod report;
mod scenario;
mod sources;
mod traffic;
mod wire;

use clap::{Parser, ValueEnum};
use client::LoadError;
use contender::{Contender, Running};
use over::{Over, Trust};
use report::{Figures, Row};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use traffic::Traffic;

/// The broker's: one scenario runs its rules in this process.
#[cfg(unix)]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Times the same load on several brokers.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure.
    #[arg(long, value_enum, default_value = "point-to-point")]
    scenario: Scenario,
    /// The `reveille` program to measure (a release build).
    #[arg(long, default_value = "target/release/reveille")]
    reveille: PathBuf,
    /// Another `reveille` program, measured beside it: what a change gains.
    #[arg(long)]
    reveille_before: Option<PathBuf>,
    /// Brokers to measure beside ours, each started by us. `load-tests/peers/*.sh` builds those that Debian has not.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "mosquitto")]
    beside: Vec<Beside>,
    /// A broker that runs already, `name=127.0.0.1:1883`; its memory and processor time are not measured.
    #[arg(long, value_parser = peer)]
    peer: Vec<(String, SocketAddr)>,
    /// Where `load-tests/peers/*.sh` puts programs.
    #[arg(long, default_value = "target/peers/bin")]
    peers: PathBuf,
    /// How often; the contenders take turns.
    #[arg(long, default_value_t = 3)]
    repetitions: u32,
    /// Connections: pairs, subscribers, publishers or sessions.
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// Messages in all, as received; as published where everyone sleeps.
    #[arg(long, default_value_t = 100_000)]
    messages: usize,
    /// QoS of publisher and subscriber: 0, 1 or 2.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Bytes of payload.
    #[arg(long, default_value_t = 200)]
    payload: usize,
    /// Seconds of a soak without its drain, or of phones.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// What clients of `idle` and `connect` come through.
    #[arg(long, value_enum, default_value = "tcp")]
    over: Over,
    /// Publishes of one publisher that are not finished.
    #[arg(long, default_value_t = 50)]
    window: u64,
    /// Messages a second of all publishers together, for latency; as fast as the window allows without it.
    #[arg(long)]
    rate: Option<u64>,
    /// `audience` with the bridge alone, which has no broker to hand messages to, in place of the program.
    #[arg(long)]
    bridge_alone: bool,
    /// Where the bridge of `audience --bridge-alone` keeps its data.
    #[arg(long, hide = true)]
    data_dir: Option<PathBuf>,
    /// Writes the figures of every repetition into this file as well.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Brokers that are started beside ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Beside {
    /// None.
    Nobody,
    /// Debian's package.
    Mosquitto,
    /// `load-tests/peers/rumqttd.sh` builds it.
    Rumqttd,
    /// `load-tests/peers/rmqtt.sh` builds it.
    Rmqtt,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scenario {
    /// Each publisher has one subscriber.
    PointToPoint,
    /// One publisher, everyone else subscribes.
    FanOut,
    /// Everyone publishes, one subscribes.
    FanIn,
    /// Many topics, subscribers with wildcards.
    Wildcards,
    /// Workers share a subscription.
    Shared,
    /// Retained messages are set, then read by many at once.
    Retained,
    /// Durable sessions sleep while messages come, then drain.
    Offline,
    /// One message for everyone who sleeps.
    OneToOffline,
    /// Connections that do nothing, with one subscription each.
    Idle,
    /// Persistent sessions without a connection.
    Parked,
    /// How fast clients connect, and come back after a cut.
    Connect,
    /// Most idle, some asleep, a message a minute for each.
    Phones,
    /// 10,000 topics on five screens.
    Dashboard,
    /// Killed with many sessions and messages, and started again.
    StartUp,
    /// Everyone is cut off and comes back, while one that stayed pings.
    Storm,
    /// What one operation costs with a thousand sessions and with up to `--connections`; in this process, ours alone.
    Growth,
    /// Our sender against aioapns, on the same fake APNs. `load-tests/peers/aioapns.sh` installs the peer.
    Pushes,
    /// Eleven vendors at once, with and without two that are ill.
    Vendors,
    /// As many devices as `--messages` says in the bridge's index: memory, start, ten expressions, everybody.
    Audience,
    /// One message for as many devices as `--messages` says, over vendors with batches: memory, speed, every device once.
    Million,
    /// The fake APNs of `pushes`, which starts it by itself.
    #[value(hide = true)]
    FakeApns,
    /// The bridge of `audience --bridge-alone`, which starts it by itself.
    #[value(hide = true)]
    BridgeAlone,
    /// Everything at once on ours for ten minutes, with a verdict: flat memory, nothing lost, nothing stuck.
    Soak,
}

fn peer(text: &str) -> Result<(String, SocketAddr), String> {
    let (name, address) = text.split_once('=').ok_or("name=address is wanted")?;
    Ok((name.to_owned(), address.parse().map_err(|error| format!("{error}"))?))
}

impl Arguments {
    /// What most scenarios change a field or two of.
    fn traffic(&self) -> Traffic {
        Traffic {
            topics: Vec::new(),
            payload: self.payload,
            qos: self.qos,
            copies: 1,
            messages: self.messages as u64,
            window: self.window,
            rate: self.rate,
            is_retained: false,
        }
    }

    fn contenders(&self) -> Vec<Contender> {
        let mut contenders = vec![Contender::Reveille("reveille (durable)".into(), self.reveille.clone())];
        let before = self.reveille_before.iter();
        contenders.extend(before.map(|path| Contender::Reveille("reveille before".into(), path.clone())));
        contenders.extend(self.beside.iter().filter_map(|beside| match beside {
            Beside::Nobody => None,
            Beside::Mosquitto => Some(Contender::Mosquitto),
            Beside::Rumqttd => Some(Contender::Rumqttd(self.peers.join("rumqttd"))),
            Beside::Rmqtt => Some(Contender::Rmqtt(self.peers.join("rmqtt-peer"))),
        }));
        contenders.extend(self.peer.iter().map(|(name, address)| Contender::Peer(name.clone(), *address)));
        for contender in &mut contenders {
            contender.make_absolute();
        }
        contenders
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load test failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), LoadError> {
    let waiting = |scenario: &dyn Fn(&tokio::runtime::Runtime) -> Result<(), LoadError>| {
        scenario(&tokio::runtime::Builder::new_current_thread().enable_all().build()?)
    };
    match arguments.scenario {
        Scenario::Growth => scenario::growth(arguments),
        Scenario::Pushes => waiting(&|runtime| runtime.block_on(scenario::pushes(arguments))),
        Scenario::Vendors => waiting(&|runtime| runtime.block_on(scenario::vendors(arguments))),
        Scenario::Audience => waiting(&|runtime| runtime.block_on(scenario::audience(arguments))),
        Scenario::Million => waiting(&|runtime| runtime.block_on(scenario::million(arguments))),
        Scenario::FakeApns => waiting(&|runtime| runtime.block_on(scenario::fake_apns())),
        Scenario::BridgeAlone => waiting(&|runtime| runtime.block_on(bridge::serve_alone(arguments))),
        Scenario::Soak => {
            let contenders = arguments.contenders();
            let Some(ours) = contenders.first() else { return Ok(()) };
            let running = ours.start(Over::Tcp, &Trust::new()?)?;
            waiting(&|runtime| runtime.block_on(scenario::soak(arguments, &running)))
        }
        _ => compare(arguments),
    }
}

fn compare(arguments: &Arguments) -> Result<(), LoadError> {
    let (contenders, trust) = (arguments.contenders(), Trust::new()?);
    sources::connections_max();
    let mut rows: Vec<Row> = contenders.iter().map(|contender| Row::new(&contender.name())).collect();
    for repetition in 1..=arguments.repetitions {
        for (contender, row) in contenders.iter().zip(&mut rows) {
            eprintln!("{} {repetition}/{}", contender.name(), arguments.repetitions);
            let started = contender.start(arguments.over, &trust);
            match started.and_then(|mut running| measure(arguments, &mut running, &trust)) {
                Ok(figures) => row.add(figures),
                Err(error) => eprintln!("  {} failed: {error}", contender.name()),
            }
        }
    }
    report::print(&rows);
    if let Some(path) = &arguments.json {
        let json = report::json(&rows, &format!("{:?}", arguments.scenario), &format!("{arguments:?}"));
        std::fs::write(path, format!("{json:#}"))?;
    }
    Ok(())
}

fn measure(arguments: &Arguments, broker: &mut Running, trust: &Trust) -> Result<Figures, LoadError> {
    match arguments.scenario {
        Scenario::PointToPoint => scenario::point_to_point(arguments, broker),
        Scenario::FanOut => scenario::fan_out(arguments, broker),
        Scenario::FanIn => scenario::fan_in(arguments, broker),
        Scenario::Wildcards => scenario::wildcards(arguments, broker),
        Scenario::Shared => scenario::shared(arguments, broker),
        Scenario::Retained => scenario::retained(arguments, broker),
        Scenario::Offline => scenario::offline(arguments, broker),
        Scenario::OneToOffline => scenario::one_to_offline(arguments, broker),
        Scenario::Idle => scenario::idle(arguments, broker, trust),
        Scenario::Parked => scenario::parked(arguments, broker),
        Scenario::Connect => scenario::connect(arguments, broker, trust),
        Scenario::Phones => scenario::phones(arguments, broker),
        Scenario::Dashboard => scenario::dashboard(arguments, broker),
        Scenario::StartUp => scenario::start_up(arguments, broker),
        Scenario::Storm => scenario::storm(arguments, broker, trust),
        // These print tables of their own.
        Scenario::Growth
        | Scenario::Pushes
        | Scenario::Vendors
        | Scenario::Audience
        | Scenario::Million
        | Scenario::FakeApns
        | Scenario::BridgeAlone
        | Scenario::Soak => Ok(Figures::new()),
    }
}
