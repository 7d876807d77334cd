//! What the broker counts, as text for Prometheus. The shards count in plain numbers and are asked for them here.

use crate::health::Health;
use crate::mailbox::{Command, Mailboxes};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use reveille_broker_core::counters::Counters;
use reveille_broker_core::io::ShardNo;
use reveille_proto::reason::ReasonCode;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

/// What stands before every name.
const PREFIX: &str = "reveille_broker";

/// How long a scrape waits for all shards together.
const REPORT_DEADLINE: Duration = Duration::from_secs(2);

/// Upper ends in seconds: an fdatasync lasts from under a millisecond to seconds on a busy disk.
const COMMIT_SECONDS: [f64; 11] = [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 1.0, 4.0];

/// The counters of the core that go up and down.
const GAUGES: [&str; 7] = [
    "sessions_online",
    "sessions",
    "subscriptions",
    "queued_messages",
    "queued_bytes",
    "delayed_messages",
    "delayed_bytes",
];

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
    /// Sockets closed without an answer, because too many handshakes ran.
    pub(crate) refused_handshakes: u64,
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
    /// CONNECTs answered with a refusal.
    pub(crate) refused_connects: u64,
    /// CONNECTs refused because the broker empties itself.
    pub(crate) refused_draining: u64,
    /// Those of them that are banned.
    pub(crate) refused_banned: u64,
    /// Those whose credential is wrong or missing.
    pub(crate) refused_credentials: u64,
    /// Those that sent too many wrong credentials before.
    pub(crate) refused_failures: u64,
    /// Those whose credential could not be checked: a hook that does not answer, too many hashes.
    pub(crate) unchecked_credentials: u64,
    /// Commits handed to the store.
    pub(crate) commits: u64,
}

impl ShellCounters {
    /// Name and value of each.
    pub(crate) fn numbers(self) -> impl Iterator<Item = (&'static str, u64)> {
        self.each().into_iter().map(|(name, _, value)| (name, value))
    }

    /// Counts a CONNECT that was answered with this.
    pub(crate) fn refused(&mut self, reason: ReasonCode) {
        self.refused_connects += 1;
        match reason {
            ReasonCode::BANNED => self.refused_banned += 1,
            ReasonCode::CONNECTION_RATE_EXCEEDED => self.refused_failures += 1,
            ReasonCode::SERVER_UNAVAILABLE | ReasonCode::SERVER_BUSY => self.unchecked_credentials += 1,
            ReasonCode::BAD_USER_NAME_OR_PASSWORD
            | ReasonCode::NOT_AUTHORIZED
            | ReasonCode::BAD_AUTHENTICATION_METHOD => self.refused_credentials += 1,
            _ => {}
        }
    }

    fn each(self) -> [(&'static str, &'static str, u64); 18] {
        [
            ("sockets_accepted", "Sockets accepted", self.accepted),
            ("handshakes_refused", "Sockets closed because too many handshakes ran", self.refused_handshakes),
            ("refused_rate", "Sockets closed because too many came to their listener", self.refused_rate),
            (
                "refused_address_rate",
                "Sockets closed because too many came from their address",
                self.refused_address_rate,
            ),
            (
                "refused_untrusted_proxies",
                "Sockets closed because only proxies may connect there",
                self.refused_untrusted_proxies,
            ),
            (
                "handshakes_displaced",
                "Silent handshakes ended for newcomers because too many ran",
                self.handshakes_displaced,
            ),
            ("handshakes_timed_out", "Handshakes that did not end in time", self.handshakes_timed_out),
            (
                "failed_proxy_headers",
                "Sockets without a PROXY header where one is awaited",
                self.failed_proxy_headers,
            ),
            ("failed_tls", "Sockets whose TLS handshake failed", self.failed_tls),
            ("failed_websockets", "Sockets that asked for no WebSocket with MQTT", self.failed_websockets),
            ("handshakes_failed", "Sockets that sent no whole CONNECT in time", self.failed_handshakes),
            ("connects_refused", "CONNECTs answered with a refusal", self.refused_connects),
            ("refused_draining", "CONNECTs refused because the broker empties itself", self.refused_draining),
            ("connects_refused_banned", "CONNECTs of banned clients", self.refused_banned),
            (
                "connects_refused_credentials",
                "CONNECTs with a wrong or without a credential",
                self.refused_credentials,
            ),
            (
                "connects_refused_failures",
                "CONNECTs after too many wrong credentials of their address or user name",
                self.refused_failures,
            ),
            (
                "connects_unchecked",
                "CONNECTs whose credential could not be checked: a silent hook, or too many hashes",
                self.unchecked_credentials,
            ),
            ("commits", "Commits handed to the store", self.commits),
        ]
    }

    fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.refused_handshakes += other.refused_handshakes;
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
        self.unchecked_credentials += other.unchecked_credentials;
        self.commits += other.commits;
    }
}

/// Everything that is measured. Every thread that measures or tells has it.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    mailboxes: Arc<Mailboxes>,
    health: Arc<Health>,
    commit_seconds: Histogram,
}

impl Metrics {
    /// Nothing measured yet.
    pub(crate) fn new(mailboxes: Arc<Mailboxes>, health: Arc<Health>) -> Self {
        Self { mailboxes, health, commit_seconds: Histogram::new(COMMIT_SECONDS) }
    }

    /// A commit lasted so long.
    pub(crate) fn commit_lasted(&self, length: Duration) {
        self.commit_seconds.observe(length.as_secs_f64());
    }

    /// All of it as text. Blocks for a turn of each shard; never call it on a shard's thread.
    pub(crate) fn text(&self) -> String {
        let mut registry = Registry::with_prefix(PREFIX);
        let help = "Seconds from handing a batch to the store until it was durable";
        registry.register("commit_seconds", help, self.commit_seconds.clone());
        registry.register_collector(Box::new(Gathered {
            report: self.gather(),
            health: Arc::clone(&self.health),
        }));
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &registry) {
            Ok(()) => text,
            Err(fmt::Error) => String::new(), // a String takes everything
        }
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

#[derive(Debug)]
struct Gathered {
    report: Report,
    health: Arc<Health>,
}

impl Collector for Gathered {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let connections = i64::try_from(self.health.connections()).unwrap_or(i64::MAX);
        gauge(&mut encoder, "connections", "Network connections, handshakes included", connections)?;
        let ready = "1 while clients are accepted and commits succeed";
        gauge(&mut encoder, "ready", ready, i64::from(self.health.is_ready()))?;
        let overload = &self.health.overload;
        let step =
            "What is given up: 0 nothing, 1 accepting, 2 reading publishers, 3 QoS 0, 4 the slowest readers";
        gauge(&mut encoder, "overload_step", step, overload.step() as i64)?;
        let lagging = "1 while a shard is so late that nobody is accepted";
        gauge(&mut encoder, "overload_lagging", lagging, i64::from(overload.is_lagging()))?;
        let lag = i64::try_from(overload.lag().as_millis()).unwrap_or(i64::MAX);
        gauge(
            &mut encoder,
            "loop_lag_milliseconds",
            "How late the latest shard was in the last second",
            lag,
        )?;
        let (used, max) = overload.memory();
        for (name, help, bytes) in [
            ("memory_used_bytes", "Resident memory and what the shards have for each other", used),
            ("memory_max_bytes", "The bound of memory_used_bytes; 0: none", max),
        ] {
            gauge(&mut encoder, name, help, i64::try_from(bytes).unwrap_or(i64::MAX))?;
        }
        for (name, help, value) in self.report.shell.each() {
            counter(&mut encoder, name, help, value)?;
        }
        for (name, value) in self.report.core.each() {
            let help = name.replace('_', " ");
            if GAUGES.contains(&name) {
                gauge(&mut encoder, name, &help, i64::try_from(value).unwrap_or(i64::MAX))?;
            } else {
                counter(&mut encoder, name, &help, value)?;
            }
        }
        Ok(())
    }
}

fn gauge(encoder: &mut DescriptorEncoder, name: &str, help: &str, value: i64) -> Result<(), fmt::Error> {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}

fn counter(encoder: &mut DescriptorEncoder, name: &str, help: &str, value: u64) -> Result<(), fmt::Error> {
    let counter = ConstCounter::new(value);
    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::mailboxes;

    #[test]
    fn the_text_has_the_sum_over_all_shards() {
        let (mailboxes, inboxes) = mailboxes(2);
        let metrics = Metrics::new(mailboxes, Arc::new(Health::default()));
        metrics.commit_lasted(Duration::from_millis(3));
        let shards: Vec<_> = inboxes
            .into_iter()
            .map(|mut inbox| {
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    let mut commands = Vec::new();
                    runtime.block_on(inbox.take(&mut commands));
                    let core = Counters { connects: 3, sessions: 2, ..Default::default() };
                    let shell = ShellCounters { accepted: 4, ..Default::default() };
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
            "reveille_broker_commit_seconds_count 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|given| given == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn every_gauge_is_a_counter_of_the_core() {
        let counters = Counters::default();
        for gauge in GAUGES {
            assert!(counters.each().any(|(name, _)| name == gauge), "{gauge}");
        }
    }
}
