//! `$SYS/broker/…`: what the broker counts, as messages, under the names that mosquitto made common.
//!
//! The values are kept like retained messages, so that a new subscriber gets them at once, and never stored. They belong to
//! the app `default`; `#` does not match them, and no client can publish there. A value goes out when it changed.

use crate::mailbox::Command;
use crate::metrics::Report;
use crate::shared::Shared;
use bytes::Bytes;
use reveille_broker_core::counters::Counters;
use reveille_broker_core::io::{Input, RouteTo, ShardNo, Ticket};
use reveille_broker_core::message::{Message, MessageKey};
use reveille_proto::ids::AppId;
use reveille_proto::mqtt::QoS;
use reveille_proto::topic::TopicName;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// What every topic begins with.
const ROOT: &str = "$SYS/broker/";

/// How often to look whether it is time: the interval may be changed by a reload.
const LOOK: Duration = Duration::from_secs(1);

/// The thread that publishes.
pub(crate) struct Sys {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Sys {
    /// Starts it. A thread of its own, because asking all shards blocks.
    pub(crate) fn start(shared: Shared) -> io::Result<Self> {
        let (stop, stopped) = sync_channel(1);
        let thread = Builder::new().name("sys".to_owned()).spawn(move || {
            let mut publisher = Publisher::new(shared);
            publisher.look(Instant::now());
            while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                publisher.look(Instant::now());
            }
        })?;
        Ok(Self { stop, thread })
    }

    /// Ends it.
    pub(crate) fn stop(self) {
        let _ = self.stop.send(()); // it may have ended
        let _ = self.thread.join();
    }
}

struct Publisher {
    shared: Shared,
    started: Instant,
    published: Option<Instant>,
    connected_max: u64,
    loads: Vec<Load>,
    values: BTreeMap<String, String>,
}

impl Publisher {
    fn new(shared: Shared) -> Self {
        Self {
            shared,
            started: Instant::now(),
            published: None,
            connected_max: 0,
            loads: Vec::new(),
            values: BTreeMap::new(),
        }
    }

    fn look(&mut self, now: Instant) {
        let Some(interval) = self.shared.intervals.sys() else { return self.clear() };
        // A little early is better than a second late: looks come once a second.
        let is_due = self.published.is_none_or(|last| now.duration_since(last) + LOOK / 2 >= interval);
        if is_due && !self.shared.mailboxes.is_full() {
            self.publish_all(now);
        }
    }

    fn publish_all(&mut self, now: Instant) {
        let report = self.shared.metrics.gather();
        let passed = self.published.replace(now).map(|last| now.duration_since(last));
        self.connected_max = self.connected_max.max(report.core.sessions_online);
        let mut values = self.values_of(&report, now);
        self.load(&report, passed, &mut values);
        for (name, value) in values {
            if self.values.get(&name) != Some(&value) {
                self.publish(&name, Some(&value));
                self.values.insert(name, value);
            }
        }
    }

    fn values_of(&self, report: &Report, now: Instant) -> Vec<(String, String)> {
        let Report { core, shell } = report;
        let (retained, retained_bytes) = self.shared.metrics.retained();
        // What is kept for `$SYS` itself is no message of anybody's.
        let retained = retained.saturating_sub(self.values.len() as u64);
        let rows = [
            ("clients/connected", core.sessions_online),
            ("clients/disconnected", core.sessions.saturating_sub(core.sessions_online)),
            ("clients/total", core.sessions),
            ("clients/maximum", self.connected_max),
            ("clients/expired", core.sessions_expired),
            ("messages/received", sum(core, "packets_received_")),
            ("messages/sent", sum(core, "packets_sent_")),
            ("messages/stored", core.queued_messages + retained),
            ("publish/messages/received", core.publishes_received),
            ("publish/messages/sent", core.publishes_sent),
            ("publish/messages/dropped", sum(core, "dropped_")),
            ("publish/bytes/received", core.payload_bytes_received),
            ("publish/bytes/sent", core.payload_bytes_sent),
            ("bytes/received", shell.bytes_received),
            ("bytes/sent", shell.bytes_sent),
            ("subscriptions/count", core.subscriptions),
            ("retained messages/count", retained),
            ("store/messages/count", core.queued_messages + retained),
            ("store/messages/bytes", core.queued_bytes + retained_bytes),
        ];
        let uptime = now.duration_since(self.started).as_secs();
        let words = [
            ("version", format!("reveille version {}", env!("CARGO_PKG_VERSION"))),
            ("uptime", format!("{uptime} seconds")),
        ];
        let numbers = rows.into_iter().map(|(name, value)| (name.to_owned(), value.to_string()));
        words.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(numbers).collect()
    }

    /// Averages a minute, over the last one, five and fifteen.
    fn load(&mut self, report: &Report, passed: Option<Duration>, values: &mut Vec<(String, String)>) {
        let Report { core, shell } = report;
        let totals = [
            ("messages/received", sum(core, "packets_received_")),
            ("messages/sent", sum(core, "packets_sent_")),
            ("publish/received", core.publishes_received),
            ("publish/sent", core.publishes_sent),
            ("publish/dropped", sum(core, "dropped_")),
            ("bytes/received", shell.bytes_received),
            ("bytes/sent", shell.bytes_sent),
            ("sockets", shell.accepted),
            ("connections", core.connects),
        ];
        self.loads.resize_with(totals.len(), Load::default);
        for (load, (name, total)) in self.loads.iter_mut().zip(totals) {
            load.update(total, passed);
            for (span, average) in load.averages() {
                values.push((format!("load/{name}/{span}min"), format!("{average:.2}")));
            }
        }
    }

    /// Nobody shall take old values for new ones.
    fn clear(&mut self) {
        self.published = None;
        for name in std::mem::take(&mut self.values).into_keys() {
            self.publish(&name, None);
        }
    }

    fn publish(&self, name: &str, value: Option<&str>) {
        let Ok(topic) = TopicName::parse(format!("{ROOT}{name}")) else { return };
        let message = Arc::new(Message {
            key: MessageKey(0), // no other message has it, and this one is never stored
            app: AppId::default(),
            topic: topic.clone(),
            payload: Bytes::from(value.unwrap_or_default().to_owned()),
            qos: QoS::AtMostOnce,
            retain: false,
            accepted_at: self.shared.clock.now(),
            expires_at: None,
            publisher: None,
            properties: None,
            push: None,
        });
        self.shared.write_router().retain(&message.app, topic, value.map(|_| Arc::clone(&message)));
        if value.is_some() {
            let nobody_waits = Ticket { shard: ShardNo(0), number: 0 };
            let parts = self.shared.read_router().route(&message, RouteTo::Subscribers, nobody_waits);
            for (shard, delivery) in parts {
                self.shared.mailboxes.send(shard, Command::Input(Input::Deliver(Box::new(delivery))));
            }
        }
    }
}

fn sum(core: &Counters, prefix: &str) -> u64 {
    core.each().filter(|(name, _)| name.starts_with(prefix)).map(|(_, value)| value).sum()
}

/// Averages of how fast one count grows, a minute; older minutes count less and less.
#[derive(Debug, Default)]
struct Load {
    total: u64,
    averages: [f64; Load::SPANS.len()],
}

impl Load {
    /// Minutes.
    const SPANS: [u16; 3] = [1, 5, 15];

    fn update(&mut self, total: u64, passed: Option<Duration>) {
        let grown = total.saturating_sub(self.total);
        self.total = total;
        let Some(minutes) = passed.map(|passed| passed.as_secs_f64() / 60.0).filter(|minutes| *minutes > 0.0)
        else {
            return; // the first look has nothing to compare with
        };
        let rate = grown as f64 / minutes;
        for (average, span) in self.averages.iter_mut().zip(Self::SPANS) {
            *average = rate + (-minutes / f64::from(span)).exp() * (*average - rate);
        }
    }

    fn averages(&self) -> impl Iterator<Item = (u16, f64)> {
        Self::SPANS.into_iter().zip(self.averages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_becomes_the_average_sooner_over_a_shorter_span() {
        let mut load = Load::default();
        load.update(500, None);
        assert_eq!(load.averages, [0.0; 3], "what came before the first look is in no rate");
        let mut total = 500;
        for _ in 0..6 {
            total += 20; // 120 a minute
            load.update(total, Some(Duration::from_secs(10)));
        }
        let rounded = load.averages.map(f64::round);
        assert_eq!(rounded, [76.0, 22.0, 8.0], "after one minute: 1 - 1/e of it, and less");
        for _ in 0..600 {
            total += 20;
            load.update(total, Some(Duration::from_secs(10)));
        }
        assert!(load.averages.iter().all(|average| (average - 120.0).abs() < 0.2), "{:?}", load.averages);
    }
}
