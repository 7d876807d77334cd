//! What the broker gives up when memory runs short, step by step, and how it knows: the memory of the process against
//! its bound, and how late the loops of the shards are.
//!
//! ```text
//!   memory, of its bound    80 %     85 %       90 %        95 %
//!   step               0  |  1    |   2      |    3      |   4
//!                         accept  | read     | drop      | disconnect the
//!                         nobody  | no pub-  | QoS 0     | slowest readers
//!                                 | lisher   |           |
//! ```
//! A step includes those before it, and ends when memory is 5 % of the bound below where the step begins: what has just
//! been freed does not start it again. A loop that is late starts step 1 only.

use crate::config::LimitsConfig;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;

/// How often memory and loops are looked at.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// A loop that wakes up so late has more to do than it can: new clients would only wait with the others.
const LAG_MAX_MS: u64 = 2_000;

/// Below this it has caught up.
const LAG_OVER_MS: u64 = 500;

/// Percent of the bound at which each step begins.
const BEGINNINGS: [u64; 4] = [80, 85, 90, 95];

/// So many percent below its beginning a step ends.
const HYSTERESIS: u64 = 5;

/// Where no bound is configured: this part of what the machine or its cgroup has.
const SHARE_OF_MACHINE: u64 = 80;

/// Whoever waits looks again after this time, in case its connection ended meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What is given up. Each step includes those before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Nothing.
    #[default]
    None,
    /// New connections wait.
    AcceptNobody,
    /// Who publishes is not read.
    ReadNoPublisher,
    /// QoS 0 messages are dropped and counted.
    DropQos0,
    /// The slowest readers are disconnected, some each second.
    DisconnectSlowest,
}

const STEPS: [Step; 5] =
    [Step::None, Step::AcceptNobody, Step::ReadNoPublisher, Step::DropQos0, Step::DisconnectSlowest];

/// Shared by all threads.
#[derive(Debug, Default)]
pub(crate) struct Overload {
    step: AtomicU8,
    is_lagging: AtomicBool,
    lag_ms: AtomicU64,
    used: AtomicU64,
    max: AtomicU64,
    is_held: AtomicBool,
    relief: Notify,
}

/// The step after a look, from the one before.
fn next_step(before: Step, used: u64, max: u64) -> Step {
    let percent = used.saturating_mul(100) / max.max(1);
    let is_in = |step: &Step| {
        let begins = BEGINNINGS.get((*step as usize).wrapping_sub(1)).copied().unwrap_or(0);
        percent >= if *step <= before { begins.saturating_sub(HYSTERESIS) } else { begins }
    };
    STEPS.into_iter().rev().find(is_in).unwrap_or_default()
}

impl Overload {
    /// The bound in bytes; 0: none.
    pub(crate) fn set_max(&self, limits: &LimitsConfig) {
        let max = match limits.memory_max_bytes {
            0 => machine_bytes().map_or(0, |bytes| bytes / 100 * SHARE_OF_MACHINE),
            bytes => bytes,
        };
        self.max.store(max, Ordering::Relaxed);
    }

    /// Looks at the memory of the process. `waiting`: bytes that the shards have for each other and that will soon be
    /// on their way to sockets as well.
    pub(crate) fn look(&self, waiting: u64) {
        if let Some(bytes) = resident_bytes().filter(|_| !self.is_held.load(Ordering::Relaxed)) {
            self.measured(bytes.saturating_add(waiting));
        }
    }

    /// So many bytes are used.
    fn measured(&self, used: u64) {
        self.used.store(used, Ordering::Relaxed);
        let (before, max) = (self.step(), self.max.load(Ordering::Relaxed));
        let step = if max == 0 { Step::None } else { next_step(before, used, max) };
        if step == before {
            return;
        }
        self.step.store(step as u8, Ordering::Relaxed);
        if step > before {
            tracing::warn!(?step, used, max, "memory runs short: this is given up now");
        } else {
            tracing::info!(?step, used, max, "memory is less short");
            self.relief.notify_waiters();
        }
    }

    /// A loop woke up so much later than it should have.
    pub(crate) fn lagged(&self, lag: Duration) {
        let ms = u64::try_from(lag.as_millis()).unwrap_or(u64::MAX);
        self.lag_ms.fetch_max(ms, Ordering::Relaxed);
    }

    /// Judges what the loops said since the last look, and forgets it.
    pub(crate) fn judge_lag(&self) {
        let ms = self.lag_ms.swap(0, Ordering::Relaxed);
        let was_lagging = self.is_lagging.load(Ordering::Relaxed);
        let is_lagging = ms >= if was_lagging { LAG_OVER_MS } else { LAG_MAX_MS };
        if is_lagging == was_lagging {
            return;
        }
        self.is_lagging.store(is_lagging, Ordering::Relaxed);
        if is_lagging {
            tracing::warn!(lag_ms = ms, "a shard is late: nobody is accepted until it has caught up");
        } else {
            tracing::info!(lag_ms = ms, "the shards have caught up");
            self.relief.notify_waiters();
        }
    }

    /// What is given up now.
    pub(crate) fn step(&self) -> Step {
        STEPS.get(usize::from(self.step.load(Ordering::Relaxed))).copied().unwrap_or_default()
    }

    /// Whether a shard is late.
    pub(crate) fn is_lagging(&self) -> bool {
        self.is_lagging.load(Ordering::Relaxed)
    }

    /// Bytes used and the bound; 0: none.
    pub(crate) fn memory(&self) -> (u64, u64) {
        (self.used.load(Ordering::Relaxed), self.max.load(Ordering::Relaxed))
    }

    /// Whether new connections may come.
    pub(crate) fn accepts(&self) -> bool {
        self.step() < Step::AcceptNobody && !self.is_lagging()
    }

    /// Whether clients that publish are read.
    pub(crate) fn reads_publishers(&self) -> bool {
        self.step() < Step::ReadNoPublisher
    }

    /// Waits until one may look again.
    pub(crate) async fn relief(&self) {
        let _ = timeout(LOOK_AGAIN, self.relief.notified()).await;
    }

    /// From now on memory is what the test says.
    #[cfg(test)]
    pub(crate) fn hold(&self, used: u64) {
        self.is_held.store(true, Ordering::Relaxed);
        self.measured(used);
    }
}

/// The resident memory of this process. `None` where there is no procfs: then there is no bound either.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(u64::try_from(rustix::param::page_size()).ok()?)
}

/// What the machine has, or less where a cgroup says so.
fn machine_bytes() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total = memory_total(&meminfo)?;
    let cgroups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limits = cgroups.iter().filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok());
    Some(limits.fold(total, u64::min))
}

fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use bytes::BytesMut;
    use reveille_broker_store::Memory;
    use reveille_proto::mqtt::{
        Connect, Packet, Publish, PublishProperties, QoS, Subscribe, SubscriptionOptions, Version,
    };
    use reveille_proto::reason::ReasonCode;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::Arc;

    #[test]
    fn each_step_has_its_beginning_and_ends_five_percent_below() {
        let rows = [
            (79, Step::None),
            (80, Step::AcceptNobody),
            (76, Step::AcceptNobody),
            (74, Step::None),
            (85, Step::ReadNoPublisher),
            (81, Step::ReadNoPublisher),
            (79, Step::AcceptNobody),
            (90, Step::DropQos0),
            (85, Step::DropQos0),
            (84, Step::ReadNoPublisher),
            (95, Step::DisconnectSlowest),
            (91, Step::DisconnectSlowest),
            (89, Step::DropQos0),
            (200, Step::DisconnectSlowest),
            (0, Step::None),
        ];
        let mut step = Step::None;
        for (percent, wanted) in rows {
            step = next_step(step, percent, 100);
            assert_eq!(step, wanted, "{percent} %");
        }
    }

    #[test]
    fn without_a_bound_nothing_is_given_up() {
        let overload = Overload::default();
        overload.measured(u64::MAX);
        assert_eq!(overload.step(), Step::None);
    }

    #[test]
    fn a_late_loop_stops_accepting_until_it_has_caught_up() {
        let overload = Overload::default();
        for (lags, accepts) in
            [(vec![1_999], true), (vec![1, 2_000, 3], false), (vec![500], false), (vec![499], true)]
        {
            lags.iter().for_each(|ms| overload.lagged(Duration::from_millis(*ms)));
            overload.judge_lag();
            assert_eq!(overload.accepts(), accepts, "{lags:?}");
        }
    }

    #[test]
    fn the_memory_of_machine_and_process_are_known() {
        let text = "MemFree: 1 kB\nMemTotal:       16384 kB\n";
        assert_eq!(memory_total(text), Some(16 << 20));
        let (process, machine) = (resident_bytes().unwrap(), machine_bytes().unwrap());
        assert!(process > 1 << 20 && process < machine, "{process} of {machine}");
    }

    struct Client(TcpStream, BytesMut);

    impl Client {
        fn open(address: std::net::SocketAddr, id: &str) -> Self {
            let socket = TcpStream::connect(address).unwrap();
            let mut client = Self(socket, BytesMut::new());
            client.0.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            client.send(&Packet::Connect(Box::new(Connect {
                version: Version::V5,
                clean_start: true,
                keep_alive: 0,
                client_id: id.into(),
                will: None,
                username: None,
                password: None,
                properties: Default::default(),
            })));
            client
        }

        fn connect(address: std::net::SocketAddr, id: &str) -> Self {
            let mut client = Self::open(address, id);
            assert!(matches!(client.receive(), Some(Packet::ConnAck(_))));
            client
        }

        fn send(&mut self, packet: &Packet) {
            let mut bytes = BytesMut::new();
            packet.write(Version::V5, &mut bytes).unwrap();
            self.0.write_all(&bytes).unwrap();
        }

        fn publish(&mut self, topic: &str, payload: Vec<u8>, qos: QoS) {
            self.send(&Packet::Publish(Box::new(Publish {
                dup: false,
                qos,
                retain: false,
                topic: Some(reveille_proto::topic::TopicName::parse(topic.to_owned()).unwrap()),
                packet_id: reveille_proto::ids::PacketId::new(1).filter(|_| qos > QoS::AtMostOnce),
                properties: PublishProperties::default(),
                payload: payload.into(),
            })));
        }

        fn subscribe(&mut self, filter: &'static str) {
            let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..Default::default() };
            self.send(&Packet::Subscribe(Box::new(Subscribe {
                packet_id: reveille_proto::ids::PacketId::new(9).unwrap(),
                subscription_identifier: None,
                user_properties: Vec::new(),
                filters: vec![(filter.into(), options)],
            })));
            assert!(matches!(self.receive(), Some(Packet::SubAck(_))));
        }

        /// `None`: the connection ended.
        fn receive(&mut self) -> Option<Packet> {
            loop {
                if let Some(packet) =
                    reveille_proto::mqtt::read(&mut self.1, Some(Version::V5), u32::MAX).unwrap()
                {
                    return Some(packet);
                }
                let mut bytes = [0; 4096];
                let count = self.0.read(&mut bytes).ok().filter(|count| *count > 0)?;
                self.1.extend_from_slice(&bytes[..count]);
            }
        }
    }

    fn counted(broker: &crate::Broker, name: &str) -> u64 {
        let text = broker.metrics_text();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("reveille_broker_{name} ")));
        line.unwrap_or_default().parse().unwrap_or_default()
    }

    const DROPPED: &str = "messages_dropped_total{reason=\"overload_qos0\"}";

    /// Up the ladder and down again, with a memory that the test makes up.
    #[test]
    fn the_broker_walks_through_its_steps_and_back() {
        let config: Config = toml::from_str(
            "listen = '127.0.0.1:0'\nshards = 1\n[limits]\nmemory_max_bytes = 100\nunsent_max_bytes = 300000",
        )
        .unwrap();
        let broker = crate::start_on(config, Arc::new(Memory::new())).unwrap();
        let overload = &broker.operator().shared.health.overload;
        overload.hold(0);
        let address = broker.mqtt_addr();
        let mut publisher = Client::connect(address, "publisher");
        publisher.publish("t", b"who publishes is known by it".to_vec(), QoS::AtLeastOnce);
        assert!(matches!(publisher.receive(), Some(Packet::PubAck(_))));
        let mut reader = Client::connect(address, "reader");
        reader.subscribe("t");
        let mut quiet: Vec<Client> =
            (0..100).map(|number| Client::connect(address, &format!("quiet-{number}"))).collect();
        let mut deaf = Client::connect(address, "deaf");
        deaf.subscribe("flood");

        overload.hold(80);
        assert_eq!(counted(&broker, "overload_step"), 1);
        let mut late = Client::open(address, "late");
        publisher.publish("t", b"1".to_vec(), QoS::AtLeastOnce);
        assert!(matches!(publisher.receive(), Some(Packet::PubAck(_))), "publishers go on");
        assert!(matches!(reader.receive(), Some(Packet::Publish(_))));
        late.0.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert_eq!(late.receive(), None, "nobody is accepted");

        // What the deaf one does not read: more than the socket takes, more than the bound of what waits for it.
        for _ in 0..40 {
            publisher.publish("flood", vec![7; 250_000], QoS::AtLeastOnce);
            assert!(matches!(publisher.receive(), Some(Packet::PubAck(_))));
        }

        overload.hold(85);
        publisher.publish("t", b"2".to_vec(), QoS::AtLeastOnce);
        publisher.0.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        reader.send(&Packet::PingReq);
        // One publish may have been read already: the reader of its socket waited for it when the step began.
        let mut answers = Vec::new();
        while answers.last() != Some(&Packet::PingResp) {
            answers.push(reader.receive().unwrap());
        }
        publisher.publish("t", b"3".to_vec(), QoS::AtLeastOnce);
        let _ = publisher.receive(); // of 2, if it was read
        assert_eq!(publisher.receive(), None, "3 is not read");

        overload.hold(90);
        // The rules hear of the step within a second; each client is read until it has published.
        for client in &mut quiet {
            client.publish("t", b"qos 0".to_vec(), QoS::AtMostOnce);
            if counted(&broker, DROPPED) > 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(counted(&broker, DROPPED) > 0, "QoS 0 is not dropped");

        overload.hold(95);
        deaf.0.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let started = std::time::Instant::now();
        while counted(&broker, "disconnected_slow_total") == 0 {
            assert!(started.elapsed() < Duration::from_secs(30), "the slowest reader is still there");
            std::thread::sleep(Duration::from_millis(20)); // what is awaited happens once a second
        }

        overload.hold(0);
        late.0.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        assert!(
            matches!(late.receive(), Some(Packet::ConnAck(connack)) if connack.reason == ReasonCode::SUCCESS)
        );
        publisher.0.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        assert!(matches!(publisher.receive(), Some(Packet::PubAck(_))), "3 is read now");
        assert_eq!(counted(&broker, "overload_step"), 0);
        broker.stop();
    }
}
