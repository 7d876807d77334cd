//! A broker of its own for each run of a test, and the version and transport in which it is spoken to.

use super::client::Client;
use super::packets::{Connect, Will};
use super::received::ConnAck;
use super::transport::{Listener, TRANSPORTS, Transport, tcp};
use super::wire::{ToBytes, prop};
use reveille_broker::{Broker, Config, Place, start_on};
use reveille_broker_store::{Memory, StoreError};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    V3_1,
    V3_1_1,
    V5,
}

/// All versions: for rules that are the same in all of them.
pub const VERSIONS: [Version; 3] = [Version::V3_1, Version::V3_1_1, Version::V5];

/// Those for which the OASIS standards say it.
pub const SINCE_3_1_1: [Version; 2] = [Version::V3_1_1, Version::V5];

/// Those without reason codes and properties.
pub const OLD: [Version; 2] = [Version::V3_1, Version::V3_1_1];

impl Version {
    pub fn name_and_level(self) -> (&'static str, u8) {
        match self {
            Self::V3_1 => ("MQIsdp", 3),
            Self::V3_1_1 => ("MQTT", 4),
            Self::V5 => ("MQTT", 5),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V3_1 => "MQTT 3.1",
            Self::V3_1_1 => "MQTT 3.1.1",
            Self::V5 => "MQTT 5.0",
        })
    }
}

/// A fresh broker with its data in memory. Says where it was when a test fails on it.
pub struct Stage {
    broker: Option<Broker>,
    dying: Vec<JoinHandle<()>>,
    store: Arc<Memory>,
    config: Config,
    pub version: Version,
    transport: Transport,
    /// For every transport but plain TCP.
    listener: Option<Listener>,
}

impl Stage {
    /// Over TCP, with the default configuration.
    pub fn new(version: Version) -> Self {
        Self::with(version, "")
    }

    /// Over TCP, with keys of the table `[broker]`.
    pub fn with(version: Version, config: &str) -> Self {
        Self::on(Transport::Tcp, version, config)
    }

    /// One stage after the other, for each version.
    pub fn each(versions: &[Version]) -> impl Iterator<Item = Self> {
        versions.iter().copied().map(Self::new)
    }

    /// One stage after the other, for each version on each transport.
    pub fn everywhere(versions: &[Version]) -> impl Iterator<Item = Self> {
        let pairs =
            TRANSPORTS.iter().flat_map(|transport| versions.iter().map(|version| (*transport, *version)));
        pairs.map(|(transport, version)| Self::on(transport, version, ""))
    }

    fn on(transport: Transport, version: Version, config: &str) -> Self {
        let listener = (transport != Transport::Tcp).then(|| Listener::new(transport));
        let more = listener.as_ref().map(Listener::config).unwrap_or_default();
        let mut config: Config = toml::from_str(&format!("{config}{more}")).unwrap();
        config.listen = config.listen.map(|address| std::net::SocketAddr::new(address.ip(), 0));
        config.shards = 2; // what crosses from one shard to another is part of every test
        let store = Arc::new(Memory::new());
        let broker = start_on(config.clone(), store.clone()).unwrap();
        Self { broker: Some(broker), dying: Vec::new(), store, config, version, transport, listener }
    }

    /// With a disk that can be slow, see [`Disk`].
    pub fn with_disk(version: Version) -> (Self, Disk) {
        let mut stage = Self::new(version);
        stage.stop();
        stage.start_on(Memory::manual());
        let disk = Disk::new(&stage.store);
        (stage, disk)
    }

    /// The broker dies, and another one starts on what was durable by then.
    pub fn crash(&mut self) {
        let survived = self.store.crash();
        let dead = self.broker.take().unwrap();
        self.dying.push(thread::spawn(|| dead.stop())); // it says goodbye to its clients, which takes a while
        self.start_on(survived);
    }

    /// The broker stops as on SIGTERM, and starts again.
    pub fn restart(&mut self) {
        self.stop();
        self.start_on(self.store.crash());
    }

    /// The broker stops as on SIGTERM.
    pub fn stop(&mut self) {
        self.broker.take().unwrap().stop();
    }

    fn start_on(&mut self, store: Memory) {
        self.store = Arc::new(store);
        self.broker = Some(start_on(self.config.clone(), self.store.clone()).unwrap());
    }

    /// What operators can do.
    pub fn broker(&self) -> &Broker {
        self.broker.as_ref().unwrap()
    }

    /// Where a listener of `[[listeners]]` is.
    pub fn address_of(&self, listener: &str) -> SocketAddr {
        let found = self.broker().listeners().iter().find(|place| place.name == listener);
        match &found.unwrap().place {
            Place::Address(address) => *address,
            Place::Path(path) => panic!("{} is a file", path.display()),
        }
    }

    /// The next commit fails as on a full disk.
    pub fn fail_next_commit(&self) {
        self.store.fail_next(StoreError::Full);
    }

    /// Waits until so much time has passed for the broker: until it publishes a will with this delay.
    pub fn pass_time(&self, seconds: u32) {
        let mut watcher = self.socket_of(Version::V5);
        watcher.send(Connect::new("time/watcher"));
        assert_eq!(watcher.expect_connack().code, 0);
        watcher.subscribe("time/passed", 0);
        let will = Will::new("time/passed", "").property(prop::four(prop::WILL_DELAY, seconds));
        let mut clock = self.socket_of(Version::V5);
        clock.send(Connect::new("time/clock").durable().will(will));
        assert_eq!(clock.expect_connack().code, 0);
        clock.cut();
        watcher.expect_message("time/passed", "");
    }

    pub fn is_v5(&self) -> bool {
        self.version == Version::V5
    }

    /// A connection on which nothing was said yet.
    pub fn socket(&self) -> Client {
        self.socket_of(self.version)
    }

    /// The same for a client of another version.
    pub fn socket_of(&self, version: Version) -> Client {
        let broker = self.broker.as_ref().unwrap();
        let stream = match &self.listener {
            Some(listener) => listener.connect(broker),
            None => Box::new(tcp(broker.mqtt_addr())),
        };
        Client::on(stream, version)
    }

    /// Sends CONNECT and hears CONNACK, whatever it says.
    pub fn open(&self, connect: impl ToBytes) -> (Client, ConnAck) {
        let mut client = self.socket();
        client.send(connect);
        let connack = client.expect_connack();
        (client, connack)
    }

    /// A clean session that was accepted.
    pub fn connect(&self, client_id: &str) -> Client {
        self.accepted(Connect::new(client_id))
    }

    /// A connection that was accepted.
    pub fn accepted(&self, connect: Connect) -> Client {
        let (client, connack) = self.open(connect);
        assert_eq!(connack.code, 0, "accepted: {connack:?}");
        client
    }

    /// What the broker answers to the first bytes of a connection before it closes it: one packet, or nothing.
    pub fn refusal(&self, first: impl ToBytes) -> Option<super::Frame> {
        let mut client = self.socket();
        client.send(first);
        let answer = client.next_or_end();
        if answer.is_some() {
            client.expect_end();
        }
        answer
    }

    /// CONNECT is refused: 5.0 hears this reason code in CONNACK, 3.x this return code or, where none fits, nothing.
    pub fn expect_refusal(&self, first: impl ToBytes, code: u8, return_code: Option<u8>) {
        let answer = self.refusal(first);
        let wanted = if self.is_v5() { Some(code) } else { return_code };
        let told = answer.map(|frame| frame.connack(self.version));
        assert_eq!(told.as_ref().map(|connack| connack.code), wanted, "{told:?}");
        assert!(!told.is_some_and(|connack| connack.session_present), "a refusal with a session");
    }
}

/// A disk on which nothing gets durable while it is held. It turns as long as the store lives: a broker that stops waits for it.
pub struct Disk {
    state: Arc<(Mutex<Turning>, Condvar)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turning {
    On,
    Held,
}

/// Between two looks for something to write: as long as a fast disk takes for one sync.
const SYNC: Duration = Duration::from_millis(1);

impl Disk {
    fn new(store: &Arc<Memory>) -> Self {
        let state = Arc::new((Mutex::new(Turning::On), Condvar::new()));
        let (turning, store) = (Arc::clone(&state), Arc::downgrade(store));
        thread::spawn(move || {
            let mut now = turning.0.lock().unwrap();
            while let Some(store) = store.upgrade() {
                if *now == Turning::On {
                    store.sync();
                }
                drop(store);
                now = turning.1.wait_timeout(now, SYNC).unwrap().0;
            }
        });
        Self { state }
    }

    /// From now on nothing gets durable.
    pub fn hold(&self) {
        self.turn(Turning::Held);
    }

    /// What waited gets durable, and all that follows.
    pub fn go_on(&self) {
        self.turn(Turning::On);
    }

    fn turn(&self, turning: Turning) {
        *self.state.0.lock().unwrap() = turning;
        self.state.1.notify_all();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.go_on();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for dying in self.dying.drain(..) {
            let _ = dying.join();
        }
        if thread::panicking() {
            eprintln!("this was {} over {:?}", self.version, self.transport);
        }
    }
}
