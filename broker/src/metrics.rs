//! What the broker counts, as text for Prometheus. The shards count in plain numbers and are asked for them here.

mod process;
mod text;

use crate::health::Health;
use crate::heartbeats::Heartbeats;
use crate::listener::Listener;
use crate::mailbox::{Command, Mailboxes};
use process::Process;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use reveille_broker_core::counters::Counters;
use reveille_broker_core::io::ShardNo;
use reveille_broker_core::router::Router;
use reveille_proto::reason::ReasonCode;
use std::fmt;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};
use text::Row;

/// What stands before every name.
const PREFIX: &str = "reveille_broker";

/// How long a scrape waits for all shards together.
const REPORT_DEADLINE: Duration = Duration::from_secs(2);

/// Help of a metric that is there without a TLS listener too.
const CERTIFICATE_EXPIRY: &str = "Unix time at which the first certificate of a listener ends";

/// Upper ends in seconds: an fdatasync lasts from under a millisecond to seconds on a busy disk.
const COMMIT_SECONDS: [f64; 11] = [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 1.0, 4.0];

/// Upper ends: facts in one batch for the store.
const COMMIT_CHANGES: [f64; 9] = [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16_384.0, 65_536.0];

/// Upper ends in seconds: how late a shard's thread came to a timer. Above some milliseconds it is busy all the time.
const LAG_SECONDS: [f64; 9] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0];

/// What one shard counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// By the rules.
    pub(crate) core: Counters,
    /// By the shell.
    pub(crate) shell: ShellCounters,
}

/// What the shell of one shard counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShellCounters {
    /// Sockets accepted.
    pub(crate) accepted: u64,
    /// Sockets that waited for their handshake, because too many ran.
    pub(crate) handshakes_waited: u64,
    /// Sockets closed without an answer, because too many came to their listener in a second.
    pub(crate) refused_rate: u64,
    /// Sockets closed without an answer, because too many came from their address in a second.
    pub(crate) refused_address_rate: u64,
    /// Sockets closed without an answer, because only proxies may connect there.
    pub(crate) refused_untrusted_proxies: u64,
    /// Handshakes ended for newcomers, because too many ran and they had been silent for long.
    pub(crate) handshakes_displaced: u64,
    /// Handshakes that did not end in time; each failed too.
    pub(crate) handshakes_timed_out: u64,
    /// Sockets without a PROXY header where one is awaited.
    pub(crate) failed_proxy_headers: u64,
    /// Sockets whose TLS handshake failed.
    pub(crate) failed_tls: u64,
    /// Sockets that asked for no WebSocket that we serve.
    pub(crate) failed_websockets: u64,
    /// Sockets that sent no whole CONNECT, or something else.
    pub(crate) failed_handshakes: u64,
    /// CONNECTs refused because the broker empties itself.
    pub(crate) refused_draining: u64,
    /// CONNECTs of banned clients.
    pub(crate) refused_banned: u64,
    /// CONNECTs whose credential is wrong or missing.
    pub(crate) refused_credentials: u64,
    /// CONNECTs after too many wrong credentials.
    pub(crate) refused_failures: u64,
    /// CONNECTs whose credential could not be checked: a hook that does not answer, too many hashes.
    pub(crate) refused_unchecked: u64,
    /// CONNECTs answered with any other refusal.
    pub(crate) refused_connects: u64,
    /// Bytes of MQTT read.
    pub(crate) bytes_received: u64,
    /// Bytes of MQTT written.
    pub(crate) bytes_sent: u64,
    /// Gauge: connections whose socket takes no bytes just now.
    pub(crate) blocked: u64,
    /// Times that a connection was found to read too slowly.
    pub(crate) slow_consumers: u64,
    /// Commits handed to the store.
    pub(crate) commits: u64,
}

impl ShellCounters {
    /// Name and value of each.
    pub(crate) fn numbers(self) -> impl Iterator<Item = (&'static str, u64)> {
        self.each().into_iter().map(|(name, _, value)| (name, value))
    }

    /// Counts a CONNECT that was answered with this, under one reason.
    pub(crate) fn refused(&mut self, reason: ReasonCode) {
        let count = match reason {
            ReasonCode::BANNED => &mut self.refused_banned,
            ReasonCode::CONNECTION_RATE_EXCEEDED => &mut self.refused_failures,
            ReasonCode::SERVER_UNAVAILABLE | ReasonCode::SERVER_BUSY => &mut self.refused_unchecked,
            ReasonCode::BAD_USER_NAME_OR_PASSWORD
            | ReasonCode::NOT_AUTHORIZED
            | ReasonCode::BAD_AUTHENTICATION_METHOD => &mut self.refused_credentials,
            _ => &mut self.refused_connects,
        };
        *count += 1;
    }

    fn each(self) -> [(&'static str, &'static str, u64); 21] {
        [
            ("sockets_accepted", "Sockets accepted", self.accepted),
            (
                "handshakes_waited",
                "Sockets that waited for their handshake because too many ran",
                self.handshakes_waited,
            ),
            ("refused_rate", "Sockets closed because too many came to their listener", self.refused_rate),
            (
                "refused_address_rate",
                "Sockets closed because too many came from their address",
                self.refused_address_rate,
            ),
            (
                "refused_untrusted_proxy",
                "Sockets closed because only proxies may connect there",
                self.refused_untrusted_proxies,
            ),
            (
                "refused_displaced",
                "Silent handshakes ended for newcomers because too many ran",
                self.handshakes_displaced,
            ),
            ("handshakes_timed_out", "Handshakes that did not end in time", self.handshakes_timed_out),
            (
                "refused_no_proxy_header",
                "Sockets without a PROXY header where one is awaited",
                self.failed_proxy_headers,
            ),
            ("refused_tls", "Sockets whose TLS handshake failed", self.failed_tls),
            ("refused_websocket", "Sockets that asked for no WebSocket with MQTT", self.failed_websockets),
            ("refused_no_connect", "Sockets that sent no whole CONNECT in time", self.failed_handshakes),
            ("refused_draining", "CONNECTs refused because the broker empties itself", self.refused_draining),
            ("refused_banned", "CONNECTs of banned clients", self.refused_banned),
            (
                "refused_credentials",
                "CONNECTs with a wrong or without a credential",
                self.refused_credentials,
            ),
            ("refused_failures", "CONNECTs after too many wrong credentials", self.refused_failures),
            ("refused_unchecked", "CONNECTs whose credential could not be checked", self.refused_unchecked),
            ("refused_by_connack", "CONNECTs answered with another refusal", self.refused_connects),
            ("bytes_received", "Bytes of MQTT read", self.bytes_received),
            ("bytes_sent", "Bytes of MQTT written", self.bytes_sent),
            ("slow_consumers", "Times that a connection was found to read too slowly", self.slow_consumers),
            ("commits", "Commits handed to the store", self.commits),
        ]
    }

    fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.handshakes_waited += other.handshakes_waited;
        self.refused_rate += other.refused_rate;
        self.refused_address_rate += other.refused_address_rate;
        self.refused_untrusted_proxies += other.refused_untrusted_proxies;
        self.handshakes_displaced += other.handshakes_displaced;
        self.handshakes_timed_out += other.handshakes_timed_out;
        self.failed_proxy_headers += other.failed_proxy_headers;
        self.failed_tls += other.failed_tls;
        self.failed_websockets += other.failed_websockets;
        self.failed_handshakes += other.failed_handshakes;
        self.refused_connects += other.refused_connects;
        self.refused_draining += other.refused_draining;
        self.refused_banned += other.refused_banned;
        self.refused_credentials += other.refused_credentials;
        self.refused_failures += other.refused_failures;
        self.refused_unchecked += other.refused_unchecked;
        self.bytes_received += other.bytes_received;
        self.bytes_sent += other.bytes_sent;
        self.blocked += other.blocked;
        self.slow_consumers += other.slow_consumers;
        self.commits += other.commits;
    }
}

/// Everything that is measured. Every thread that measures or tells has it.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    mailboxes: Arc<Mailboxes>,
    health: Arc<Health>,
    router: Arc<RwLock<Router>>,
    heartbeats: Arc<Heartbeats>,
    listeners: Arc<OnceLock<Vec<Arc<Listener>>>>,
    commit_seconds: Histogram,
    commit_changes: Histogram,
    shard_lag_seconds: Histogram,
}

impl Metrics {
    /// Nothing measured yet.
    pub(crate) fn new(
        mailboxes: Arc<Mailboxes>,
        health: Arc<Health>,
        router: Arc<RwLock<Router>>,
        heartbeats: Arc<Heartbeats>,
    ) -> Self {
        process::started_s();
        Self {
            mailboxes,
            health,
            router,
            heartbeats,
            listeners: Arc::default(),
            commit_seconds: Histogram::new(COMMIT_SECONDS),
            commit_changes: Histogram::new(COMMIT_CHANGES),
            shard_lag_seconds: Histogram::new(LAG_SECONDS),
        }
    }

    /// These are served.
    pub(crate) fn serves(&self, listeners: Vec<Arc<Listener>>) {
        let _ = self.listeners.set(listeners); // a broker serves once
    }

    /// A commit lasted so long.
    pub(crate) fn commit_lasted(&self, length: Duration) {
        self.commit_seconds.observe(length.as_secs_f64());
    }

    /// A batch of so many facts was handed to the store.
    pub(crate) fn commit_begins(&self, changes: usize) {
        self.commit_changes.observe(changes as f64);
    }

    /// A shard's thread came so late to a timer.
    pub(crate) fn shard_lagged(&self, late: Duration) {
        self.shard_lag_seconds.observe(late.as_secs_f64());
    }

    /// Retained messages and their bytes.
    pub(crate) fn retained(&self) -> (u64, u64) {
        self.router.read().unwrap_or_else(PoisonError::into_inner).retained_totals()
    }

    /// All of it as text. Blocks for a turn of each shard; never call it on a shard's thread.
    pub(crate) fn text(&self) -> String {
        let mut registry = Registry::with_prefix(PREFIX);
        for (name, help, histogram) in [
            (
                "commit_seconds",
                "From handing a batch to the store until it was durable",
                &self.commit_seconds,
            ),
            ("commit_changes", "Facts in one batch for the store", &self.commit_changes),
            ("shard_lag_seconds", "How late a shard came to a timer", &self.shard_lag_seconds),
        ] {
            registry.register(name, help, histogram.clone());
        }
        registry.register_collector(Box::new(Gathered { report: self.gather(), metrics: self.clone() }));
        let mut system = Registry::default();
        system.register("reveille_build", "What runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        system.register_collector(Box::new(Process));
        let own = encode(&registry);
        format!("{}{}", own.strip_suffix("# EOF\n").unwrap_or(&own), encode(&system))
    }

    /// The sum over all shards that answer in time.
    pub(crate) fn gather(&self) -> Report {
        let shards = self.mailboxes.count();
        let (sender, receiver) = sync_channel(usize::from(shards));
        let asked = (0..shards)
            .filter(|no| self.mailboxes.send(ShardNo(*no), Command::Report(sender.clone())))
            .count();
        let end = Instant::now() + REPORT_DEADLINE;
        let mut sum = Report::default();
        for _ in 0..asked {
            let Ok(report) = receiver.recv_timeout(end.saturating_duration_since(Instant::now())) else {
                break;
            };
            sum.core.add(&report.core);
            sum.shell.add(report.shell);
        }
        sum
    }
}

fn encode(registry: &Registry) -> String {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, registry) {
        Ok(()) => text,
        Err(fmt::Error) => String::new(), // a String takes everything
    }
}

#[derive(Debug)]
struct Gathered {
    report: Report,
    metrics: Metrics,
}

impl Collector for Gathered {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let is_gauge = |help: &str| help.starts_with("Gauge: ");
        let core: Vec<_> = self.report.core.described().collect();
        let shell = self.report.shell.each();
        let mut up_and_down = self.gauges();
        for (name, help, value) in core.iter().filter(|(_, help, _)| is_gauge(help)) {
            up_and_down.push(Row::plain(name, help.trim_start_matches("Gauge: "), *value));
        }
        let blocked = self.report.shell.blocked;
        up_and_down.push(Row::plain(
            "connections_blocked",
            "Connections whose socket takes no bytes",
            blocked,
        ));
        text::gauges(&mut encoder, up_and_down)?;
        text::listed_gauge(&mut encoder, "certificate_expiry_seconds", CERTIFICATE_EXPIRY, self.expiries())?;
        let rows = core.iter().filter(|(_, help, _)| !is_gauge(help));
        let rows = rows.map(|(name, help, value)| Row::of_core(name, help, *value));
        let shell = shell.into_iter().map(|(name, help, value)| Row::of_shell(name, help, value));
        text::counters(&mut encoder, rows.chain(shell).chain(self.heartbeats()).collect())
    }
}

impl Gathered {
    fn expiries(&self) -> Vec<Row> {
        let listeners = self.metrics.listeners.get().into_iter().flatten();
        let ends =
            listeners.filter_map(|listener| Some((&listener.name, listener.tls.as_ref()?.not_after_s()?)));
        let row = |(name, end): (&bytestring::ByteString, u64)| {
            Row::labelled("certificate_expiry_seconds", CERTIFICATE_EXPIRY, "listener", name, end)
        };
        ends.map(row).collect()
    }

    /// What became of silent connections.
    fn heartbeats(&self) -> impl Iterator<Item = Row> {
        let counters = self.metrics.heartbeats.counters();
        [
            (
                "silences_survived",
                "Silences that were survived and longer than known before",
                counters.survived,
            ),
            (
                "silence_deaths",
                "Connections that died of silence, as far as that is believed",
                counters.deaths,
            ),
            ("silence_resets", "Connections that were reset by the peer or on the way", counters.resets),
            ("silences_moved", "Silent connections whose device came back from elsewhere", counters.moved),
            (
                "silences_unreturned",
                "Silent connections whose device did not come back soon",
                counters.unreturned,
            ),
            ("silence_storms", "Silent deaths not believed because too many came at once", counters.storms),
            ("silence_claims_disbelieved", "Claims that did not fit what was seen", counters.disbelieved),
            ("networks_forgotten", "Networks forgotten to make room", counters.forgotten),
        ]
        .into_iter()
        .map(|(name, help, value)| Row::plain(name, help, value))
    }

    fn gauges(&self) -> Vec<Row> {
        let Metrics { health, listeners, heartbeats, .. } = &self.metrics;
        let (retained, retained_bytes) = self.metrics.retained();
        let mut rows = vec![
            Row::plain(
                "connections",
                "Network connections, handshakes included",
                health.connections() as u64,
            ),
            Row::plain("ready", "1 while clients are accepted and commits succeed", health.is_ready().into()),
            Row::plain("draining", "1 while clients are sent away", health.is_draining().into()),
            Row::plain("retained_messages", "Retained messages, those of $SYS included", retained),
            Row::plain("retained_bytes", "Their topics and payloads", retained_bytes),
            Row::plain("networks", "Networks of which something is known", heartbeats.counters().networks),
        ];
        let overload = &health.overload;
        let (used, max) = overload.memory();
        let step =
            "What is given up: 0 nothing, 1 accepting, 2 reading publishers, 3 QoS 0, 4 the slowest readers";
        rows.extend([
            Row::plain("overload_step", step, overload.step() as u64),
            Row::plain(
                "overload_lagging",
                "1 while a shard is so late that nobody is accepted",
                overload.is_lagging().into(),
            ),
            Row::plain("memory_used_bytes", "Resident memory and what the shards have for each other", used),
            Row::plain("memory_max_bytes", "The bound of memory_used_bytes; 0: none", max),
        ]);
        for listener in listeners.get().into_iter().flatten() {
            let help = "Network connections of one listener";
            let count = listener.connections() as u64;
            rows.push(Row::labelled("listener_connections", help, "listener", &listener.name, count));
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::mailboxes;

    #[test]
    fn the_text_has_the_sum_over_all_shards() {
        let (mailboxes, inboxes) = mailboxes(2);
        let router = Arc::new(RwLock::new(Router::new(2)));
        let metrics = Metrics::new(mailboxes, Arc::default(), router, Arc::default());
        metrics.commit_lasted(Duration::from_millis(3));
        let shards: Vec<_> = inboxes
            .into_iter()
            .map(|mut inbox| {
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    let mut commands = Vec::new();
                    runtime.block_on(inbox.take(&mut commands));
                    let core =
                        Counters { connects: 3, sessions: 2, dropped_expired: 1, ..Default::default() };
                    let shell = ShellCounters { accepted: 4, refused_rate: 2, ..Default::default() };
                    let Some(Command::Report(sender)) = commands.pop() else { panic!("{commands:?}") };
                    sender.send(Report { core, shell }).unwrap();
                })
            })
            .collect();
        let text = metrics.text();
        for shard in shards {
            shard.join().unwrap();
        }
        for line in [
            "reveille_broker_connects_total 6",
            "reveille_broker_sessions 4",
            "reveille_broker_sockets_accepted_total 8",
            "reveille_broker_connections 0",
            "reveille_broker_messages_dropped_total{reason=\"expired\"} 2",
            "reveille_broker_connections_refused_total{reason=\"rate\"} 4",
            "reveille_broker_commit_seconds_count 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|given| given == line), "{line} is missing in\n{text}");
        }
    }
}
