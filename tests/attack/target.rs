//! The program under attack, and what must hold before, while and after.

use crate::stranger::Stranger;
use crate::watch::{Watch, mebibytes, resident};
use crate::witness::{Served, Witness};
use reveille_tests::PATIENCE;
use reveille_tests::certificates::Certificates;
use reveille_tests::mqtt::{Client, Options};
use reveille_tests::program::{Reveille, wait_for};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use tempfile::TempDir;

/// Small bounds, so that a small attack reaches them.
const CONFIG: &str = r#"
[broker]
http = "127.0.0.1:0"
shards = 2
[broker.limits]
connections_max = 12000
handshakes_max = 6000
packet_size_max_bytes = 65536
receive_maximum = 64
unacknowledged_max_bytes = 131072
in_flight_max = 64
topic_alias_max = 16
subscriptions_max = 256
filters_per_packet_max = 64
topic_levels_max = 32
queue_messages_max = 1000
queue_max_bytes = 1048576
unsent_max_bytes = 131072
look_ahead_max = 16
"#;

/// Resident memory that the program may have at any time under these bounds: its own 20 MiB, 12,000 handshakes and
/// connections, what 100 clients may have unsent and unread, some 10,000 retained messages, and as much again for an
/// allocator that does not give everything back.
pub const MEMORY_MAX: u64 = 256 << 20;

/// How much more memory may stay after the last of several rounds than after the first one: what the store's tables and
/// the allocator's pools still grow. What is lost with each round would be far above it in a long run.
const GROWTH_MAX: u64 = 48 << 20;

/// What differs between attacks.
#[derive(Clone, Copy)]
pub struct Bounds {
    /// How long a handshake may take.
    pub connect_deadline_ms: u64,
    /// How long a session is kept: short, so that sessions that were left behind are gone soon.
    pub session_expiry_max_s: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connect_deadline_ms: 3000, session_expiry_max_s: 2 }
    }
}

impl Bounds {
    fn config(self, certificates: &Certificates) -> String {
        let Self { connect_deadline_ms, session_expiry_max_s } = self;
        let (certificate, key) = (certificates.certificate.display(), certificates.key.display());
        format!(
            "{CONFIG}connect_deadline_ms = {connect_deadline_ms}\nsession_expiry_max_s = {session_expiry_max_s}\n\
             [[broker.listeners]]\nname = \"ws\"\nkind = \"ws\"\naddress = \"127.0.0.1:0\"\n\
             [[broker.listeners]]\nname = \"tls\"\nkind = \"tls\"\naddress = \"127.0.0.1:0\"\n\
             certificate = \"{certificate}\"\nkey = \"{key}\"\n"
        )
    }
}

pub struct Target {
    program: Reveille,
}

/// What an attack did, for the figures.
pub struct Damage {
    /// Of what.
    pub what: &'static str,
    /// How many.
    pub count: usize,
}

impl Target {
    pub fn start() -> Self {
        Self::start_with(Bounds::default())
    }

    pub fn start_with(bounds: Bounds) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), bounds)
    }

    /// With its data in a directory that somebody else made.
    pub fn start_in(directory: TempDir, bounds: Bounds) -> Self {
        let config = bounds.config(&Certificates::generate(directory.path()));
        Self { program: Reveille::start_broker_in(directory, &config) }
    }

    pub fn address(&self) -> SocketAddr {
        self.program.mqtt()
    }

    /// Where the listener of that kind is.
    pub fn listener(&self, kind: &str) -> SocketAddr {
        self.program.listener(kind)
    }

    pub fn process(&self) -> u32 {
        self.program.process()
    }

    /// A stranger's socket, on which nothing was said yet. Each number has its own address.
    pub fn dial(&self, number: usize) -> std::io::Result<Stranger> {
        Stranger::dial(self.address(), number)
    }

    /// One number of `/metrics`.
    pub fn metric(&self, name: &str) -> u64 {
        let text = metrics(self.program.http());
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is missing in\n{text}")).parse().unwrap()
    }

    /// All connections, handshakes included.
    pub fn connections(&self) -> u64 {
        self.metric("reveille_broker_connections")
    }

    /// Runs an attack for some rounds with a witness, checks what must hold and prints the figures.
    pub fn suffer(mut self, name: &str, rounds: usize, attack: impl Fn(&Self) -> Damage) {
        let (before, mut left, mut peak) = (resident(self.process()), Vec::new(), 0);
        let mut damage = Damage { what: "", count: 0 };
        let mut served = Served::default();
        for _ in 0..rounds {
            let watch = Watch::start(self.process());
            let witness = Witness::start(self.address());
            let round = attack(&self);
            damage = Damage { what: round.what, count: damage.count + round.count };
            served = served.and(witness.stop());
            peak = peak.max(watch.stop());
            assert!(self.program.is_running(), "{name}: the program ended");
            self.is_back_to_normal();
            left.push(resident(self.process()));
        }
        let after = *left.last().unwrap();
        println!(
            "attack {name}: {} {} in {rounds} rounds; {} round trips of the witness, slowest {} ms; memory {} MiB before, \
             {} at most, {} after",
            damage.count,
            damage.what,
            served.round_trips,
            served.slowest.as_millis(),
            mebibytes(before),
            mebibytes(peak),
            mebibytes(after),
        );
        assert!(peak < MEMORY_MAX, "{name}: {} MiB", mebibytes(peak));
        assert!(after < left[0] + GROWTH_MAX, "{name}: memory left after each round: {left:?}");
        let (status, log) = self.program.terminate();
        assert!(status.success(), "{name}: {status}\n{log}");
        assert!(!log.contains("panicked"), "{name}: {log}");
    }

    /// Strangers are gone, their sessions too, and who comes is served.
    fn is_back_to_normal(&self) {
        wait_for("the connections to end", || (self.connections() == 0).then_some(()));
        wait_for("the sessions to expire", || (self.metric("reveille_broker_sessions") == 0).then_some(()));
        let mut client = Client::connect(self.address(), &Options::clean("afterwards"));
        assert_eq!(client.ping(), []);
        client.disconnect();
    }
}

fn metrics(address: SocketAddr) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    text
}
