//! The order in which the broker starts and stops.
//!
//! Start: check the configuration, bind every address, open the store, recover (every subscription is routable), and
//! only then listen. Stop: accept nobody, say goodbye to everyone, wait until what they sent is durable, close the
//! store. Both block; call them from wherever blocking for some seconds is fine.

mod descriptors;
mod error;
mod listeners;

pub use error::StartError;
pub use listeners::{ListenerPlace, Place};

use crate::auth::Auth;
use crate::auth::bans::Bans;
use crate::auth::error::AuthError;
use crate::auth::keeper::Keeper;
use crate::bodies::Readers;
use crate::clock::Clock;
use crate::config::Config;
use crate::health::{Failure, Health};
use crate::heartbeats::{Heartbeats, Learner};
use crate::http::{self, Admin, Http};
use crate::limits::LimitsTable;
use crate::listener::Listener;
use crate::mailbox::{Command, Inbox, Mailboxes, mailboxes};
use crate::metrics::Metrics;
use crate::operator::Operator;
use crate::shard_thread::{self, Setup};
use crate::shared::Shared;
use crate::sys::Sys;
use crate::tls::{self, TicketKeys};
use crate::tracer::Tracer;
use crate::transport::tcp::{self, Bound};
use crate::watch::Intervals;
use arc_swap::ArcSwap;
use listeners::{BoundListener, Places};
use reveille_broker_core::change::Recovered;
use reveille_broker_core::io::ShardNo;
use reveille_broker_core::presence::bridge_app;
use reveille_broker_core::router::Router;
use reveille_broker_core::shard::{Shard, ShardConfig};
use reveille_broker_store::{Embedded, Options, Store};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long all clients together may take to be said goodbye to, and what they sent to become durable.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// How long clients may take to read their goodbye and close: a socket that we close with unread bytes is reset, and the
/// reset overtakes the goodbye.
const CLOSE_DEADLINE: Duration = Duration::from_millis(500);

/// How often to look whether they have.
const CLOSE_LOOK: Duration = Duration::from_millis(5);

/// Recovered items that wait for one shard; the store reads no further meanwhile.
const RECOVERED_WAITING: usize = 256;

/// A broker that serves. Dropping it stops it too.
pub struct Broker {
    addresses: Addresses,
    places: Places,
    mailboxes: Arc<Mailboxes>,
    health: Arc<Health>,
    metrics: Metrics,
    operator: Operator,
    api: Arc<Admin>,
    running: Option<Running>,
}

/// Where the broker listens.
#[derive(Clone, Copy)]
struct Addresses {
    mqtt: Option<SocketAddr>,
    internal: SocketAddr,
    http: Option<SocketAddr>,
}

struct Running {
    shards: Vec<JoinHandle<()>>,
    readers: Readers,
    http: Option<Http>,
    certificates: Option<tls::Watch>,
    sys: Option<Sys>,
    learner: Option<Learner>,
    store: Arc<dyn Store>,
}

/// Addresses that are taken and do not listen yet.
struct BoundAll {
    mqtt: Option<BoundListener>,
    internal: BoundListener,
    http: Option<Bound>,
    further: Vec<BoundListener>,
}

/// Starts a broker whose data lives in a directory, which is created when it does not exist.
///
/// # Errors
/// [`StartError`] says what to change. Nothing runs then.
pub fn start(config: Config, data_directory: &Path) -> Result<Broker, StartError> {
    config.check()?;
    let tickets = Arc::default();
    let bound = bind_all(&config, &tickets)?;
    let store = Embedded::open(data_directory, Options::default())
        .map_err(|error| StartError::Store { directory: data_directory.to_owned(), error })?;
    if let Err(error) = tickets.keep_in(data_directory) {
        tracing::warn!(%error, "the keys of TLS tickets cannot be read: clients come back with full handshakes");
    }
    serve(&config, bound, Arc::new(store), Some(data_directory))
}

/// Reads the files of credentials and rules that a configuration names, as [`start`] would, and forgets them.
///
/// # Errors
/// [`StartError::Auth`] names the file, and the line where there is one.
pub fn check_files(config: &Config) -> Result<(), StartError> {
    let keeper = Arc::new(Keeper::start(config.auth.hashes_max, None)?);
    Auth::load(config, bridge_app(), &keeper).map(drop)?;
    Ok(())
}

/// Starts a broker on a store that is open already.
///
/// # Errors
/// As [`start`].
pub fn start_on(config: Config, store: Arc<dyn Store>) -> Result<Broker, StartError> {
    config.check()?;
    let bound = bind_all(&config, &Arc::default())?;
    serve(&config, bound, store, None)
}

impl BoundAll {
    fn listeners(&self) -> Arc<[Arc<Listener>]> {
        let all = self.mqtt.iter().chain([&self.internal]).chain(&self.further);
        all.map(BoundListener::listener).collect()
    }
}

fn bind_all(config: &Config, tickets: &Arc<TicketKeys>) -> Result<BoundAll, StartError> {
    let default = |address| BoundListener::tcp(Listener::default(), "listen", address, config.shard_count());
    let http = |address| {
        tcp::bind(address, 1).map_err(|error| StartError::bind("http", Place::Address(address), error))
    };
    Ok(BoundAll {
        mqtt: config.listen.map(default).transpose()?,
        internal: BoundListener::tcp(Listener::internal(), "internal", config.internal, 1)?,
        http: config.http.map(http).transpose()?,
        further: listeners::bind(config, tickets)?,
    })
}

fn serve(
    config: &Config,
    bound: BoundAll,
    store: Arc<dyn Store>,
    directory: Option<&Path>,
) -> Result<Broker, StartError> {
    let keeper = Arc::new(Keeper::start(config.auth.hashes_max, directory)?);
    let bans = directory.map_or_else(|| Ok(Bans::in_memory()), Bans::open).map_err(AuthError::from)?;
    let addresses = Addresses {
        mqtt: bound.mqtt.as_ref().and_then(BoundListener::addr),
        internal: bound.internal.addr().unwrap_or(config.internal),
        http: bound.http.as_ref().map(Bound::addr),
    };
    let open_files_max = descriptors::raise();
    let shards = config.shard_count();
    let (mailboxes, inboxes) = mailboxes(shards);
    let health = Arc::new(Health::default());
    let router = Arc::new(RwLock::new(Router::new(shards)));
    let heartbeats = Arc::new(Heartbeats::new(config.heartbeat.rules()));
    let metrics = Metrics::new(
        Arc::clone(&mailboxes),
        Arc::clone(&health),
        Arc::clone(&router),
        Arc::clone(&heartbeats),
    );
    let readers = Readers::start(&store, &mailboxes, &health).map_err(StartError::Thread)?;
    let shared = Shared {
        no: ShardNo(0),
        clock: Clock::start(),
        router,
        mailboxes: Arc::clone(&mailboxes),
        store: Arc::clone(&store),
        health: Arc::clone(&health),
        metrics: metrics.clone(),
        listeners: bound.listeners(),
        intervals: Arc::new(Intervals::new(config.slow_consumer_s, config.sys_interval_s)),
        draining: Arc::default(),
        tracer: Arc::new(Tracer::new(Arc::clone(&mailboxes))),
        bans: Arc::new(bans),
        auth: Arc::new(ArcSwap::from_pointee(Auth::load(config, bridge_app(), &keeper)?)),
        keeper,
        admin_keys: Arc::new(ArcSwap::from_pointee(config.admin.keys.clone())),
        limits: Arc::new(ArcSwap::from_pointee(LimitsTable::new(config))),
        topics: Arc::default(),
        control: Arc::new(ArcSwap::from_pointee(config.core_control()?)),
        heartbeats: Arc::clone(&heartbeats),
    };
    let certificates = tls::Watch::start(&shared.listeners, &health).map_err(StartError::Thread)?;
    let running =
        Running { shards: Vec::new(), readers, http: None, certificates, sys: None, learner: None, store };
    let operator = Operator::new(shared.clone(), config.clone());
    // From here on an early return drops the broker, which stops what runs already.
    let places = Places::default();
    let api = Arc::new(Admin::new(operator.clone()));
    let mut broker =
        Broker { addresses, places, mailboxes, health, metrics, operator, api, running: Some(running) };
    shared.health.overload.set_max(&config.limits);
    shared.write_router().set_limits(Arc::clone(&shared.limits.load().core));
    shared.topics.configure(&config.history);
    shared.write_router().set_strategies(shared.control.load().strategies.clone());
    let recovered = broker.start_shards(config, &shared, inboxes)?;
    broker.recover(&shared, recovered)?;
    shared.tracer.configure(&config.traces);
    if let Some(running) = &mut broker.running {
        let learner = Learner::start(heartbeats, Arc::clone(&running.store), shared.clock);
        running.learner = Some(learner.map_err(StartError::Thread)?);
    }
    broker.listen(bound)?;
    if let Some(running) = &mut broker.running {
        running.sys = Some(Sys::start(shared.clone()).map_err(StartError::Thread)?);
    }
    tracing::info!(
        mqtt = addresses.mqtt.map(tracing::field::display),
        listeners = broker.places.all.len(),
        http = addresses.http.map(tracing::field::display),
        shards,
        open_files_max,
        "the broker serves"
    );
    Ok(broker)
}

/// What recovery needs of the shards: ways to give items back, and to hear that all of them are routable.
struct Recovering {
    senders: Vec<SyncSender<Recovered>>,
    is_recovered: Receiver<()>,
}

impl Broker {
    /// Where devices and servers connect over plain TCP, with the real port; port 0 when `listen` is off.
    pub fn mqtt_addr(&self) -> SocketAddr {
        const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
        self.plain_addr().unwrap_or(NOWHERE)
    }

    /// The same, `None` when `listen` is off.
    pub fn plain_addr(&self) -> Option<SocketAddr> {
        self.addresses.mqtt
    }

    /// Where the further listeners are, in the order of the configuration.
    pub fn listeners(&self) -> &[ListenerPlace] {
        &self.places.all
    }

    /// Where the bridge connects.
    pub fn internal_addr(&self) -> SocketAddr {
        self.addresses.internal
    }

    /// Where health and metrics are served, when they are.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.addresses.http
    }

    /// The operations API without the question who asks, to be nested below `/v1/broker` behind a check of one's own.
    pub fn operations(&self) -> axum::Router {
        http::routes(Arc::clone(&self.api))
    }

    /// What was counted, as OpenMetrics text. Blocks for a moment.
    pub fn metrics_text(&self) -> String {
        self.metrics.text()
    }

    /// What an operator can do to it while it runs.
    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    /// Whether clients are accepted and the newest commit succeeded.
    pub fn is_ready(&self) -> bool {
        self.health.is_ready()
    }

    /// Waits until the broker cannot go on; for ever while all is well. Works in any runtime.
    pub async fn wait_failed(&self) -> Failure {
        self.health.failed().await
    }

    /// Says goodbye to every client (0x8B), makes durable what was sent, closes the store. Blocks, at most some ten
    /// seconds.
    pub fn stop(self) {
        drop(self);
    }

    fn start_shards(
        &mut self,
        config: &Config,
        shared: &Shared,
        inboxes: Vec<Inbox>,
    ) -> Result<Recovering, StartError> {
        let Some(running) = &mut self.running else { return Err(StartError::Stopped) };
        let usage = Arc::default();
        let (is_recovered, all_recovered) = sync_channel(inboxes.len());
        let push_rules = config.core_push_rules();
        let mut senders = Vec::with_capacity(inboxes.len());
        for inbox in inboxes {
            let no = inbox.no();
            let (sender, recovered) = sync_channel(RECOVERED_WAITING);
            senders.push(sender);
            let config = ShardConfig {
                no,
                shards: shared.mailboxes.count(),
                boot: shared.store.boot(),
                seed: seed(),
                limits: Arc::clone(&shared.limits.load().core),
                push_rules: Arc::clone(&push_rules),
                usage: Arc::clone(&usage),
                control: shared.control.load_full(),
            };
            let reads = running.readers.reads(no);
            let shared = Shared { no, ..shared.clone() };
            let setup = Setup { shared, config, inbox, reads, recovered, is_recovered: is_recovered.clone() };
            running.shards.push(shard_thread::start(setup).map_err(StartError::Thread)?);
        }
        Ok(Recovering { senders, is_recovered: all_recovered })
    }

    /// Gives every shard its sessions and the router the retained messages, and waits until all are routable.
    fn recover(&mut self, shared: &Shared, recovering: Recovering) -> Result<(), StartError> {
        let Recovering { senders, is_recovered } = recovering;
        let shards = shared.mailboxes.count();
        let mut sessions: u64 = 0;
        let give = |owner: ShardNo, item| {
            if let Some(sender) = senders.get(usize::from(owner.0)) {
                let _ = sender.send(item); // a thread that ended is found below
            }
        };
        let mut visit = |item| match item {
            Recovered::Session(session) => {
                sessions += 1;
                let owner = Shard::owner(&session.record.app, &session.record.client_id, shards);
                give(owner, Recovered::Session(session));
            }
            Recovered::Retained(message) => {
                let mut router = shared.write_router();
                router.retain(&message.app, message.topic.clone(), Some(Arc::clone(&message)));
            }
            announcement @ Recovered::Announcement { .. } => give(ShardNo(0), announcement),
            Recovered::Network { key, record } => shared.heartbeats.recover(key, *record),
        };
        let result = shared.store.recover(&mut visit);
        drop(senders);
        result.map_err(StartError::Recover)?;
        for _ in 0..shards {
            is_recovered.recv().map_err(|_| StartError::Stopped)?;
        }
        if sessions > 0 {
            tracing::info!(sessions, "sessions were recovered");
        }
        Ok(())
    }

    fn listen(&mut self, bound: BoundAll) -> Result<(), StartError> {
        let BoundAll { mqtt, internal, http, further } = bound;
        self.places.all = further.iter().map(BoundListener::describe).collect();
        let mut of_shards: Vec<Vec<(Arc<Listener>, OwnedFd)>> = Vec::new();
        of_shards.resize_with(usize::from(self.mailboxes.count()), Vec::new);
        let mut listeners = Vec::new();
        let all: Vec<BoundListener> = [internal].into_iter().chain(mqtt).chain(further).collect();
        self.metrics.serves(all.iter().map(BoundListener::listener).collect());
        for listener in all {
            listeners.push(listener.shown());
            let acceptors = listener.listen(&mut self.places)?;
            for (of_shard, acceptor) in of_shards.iter_mut().zip(acceptors) {
                of_shard.push(acceptor);
            }
        }
        let _ = self.api.listeners.set(listeners); // they listen once
        if let (Some(bound), Some(address)) = (http, self.addresses.http) {
            self.listen_http(bound, address)?;
        }
        for (no, acceptors) in (0..).zip(of_shards) {
            self.mailboxes.send(ShardNo(no), Command::Serve { acceptors });
        }
        self.health.set_serving(true);
        Ok(())
    }

    fn listen_http(&mut self, bound: Bound, address: SocketAddr) -> Result<(), StartError> {
        let listening =
            bound.listen().map_err(|error| StartError::bind("http", Place::Address(address), error))?;
        if let (Some(listener), Some(running)) = (listening.into_iter().next(), &mut self.running) {
            let http = Http::start(listener, Arc::clone(&self.api));
            running.http = Some(http.map_err(StartError::Thread)?);
        }
        Ok(())
    }

    /// Two rounds: what one shard still tells another while both say goodbye is taken before either ends.
    fn stop_shards(&self) {
        let shards = self.mailboxes.count();
        let (sender, stopped) = sync_channel(usize::from(shards));
        let is_told = |no: &u16| self.mailboxes.send(ShardNo(*no), Command::Stop(sender.clone()));
        let told = (0..shards).filter(is_told).count();
        let end = Instant::now() + STOP_DEADLINE;
        for _ in 0..told {
            if stopped.recv_timeout(end.saturating_duration_since(Instant::now())).is_err() {
                tracing::warn!("not every client was said goodbye to in time");
                break;
            }
        }
        self.wait_for_closes();
        for no in 0..shards {
            self.mailboxes.send(ShardNo(no), Command::Exit);
        }
    }

    fn wait_for_closes(&self) {
        let end = Instant::now() + CLOSE_DEADLINE;
        while self.health.connections() > 0 && self.health.is_alive() && Instant::now() < end {
            std::thread::sleep(CLOSE_LOOK);
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let Some(Running { shards, readers, http, certificates, sys, learner, store }) = self.running.take()
        else {
            return;
        };
        self.health.set_serving(false);
        self.health.set_stopping();
        if let Some(sys) = sys {
            sys.stop();
        }
        self.stop_shards();
        for shard in shards {
            let _ = shard.join(); // a panic was reported by its watch
        }
        readers.join();
        if let Some(learner) = learner {
            learner.stop();
        }
        if let Some(http) = http {
            http.stop();
        }
        if let Some(certificates) = certificates {
            certificates.stop();
        }
        store.close();
        tracing::info!("the broker stopped");
    }
}

/// A number that no other run has: the random bits of a UUID.
fn seed() -> u64 {
    uuid::Uuid::now_v7().as_u64_pair().1
}
