//! What one connect, subscribe and publish cost with a thousand sessions, and with a million: no call may cost by their
//! number. In this process, on one shard and without sockets, which end long before a million.

use super::filter;
use crate::Arguments;
use crate::client::LoadError;
use crate::process;
use reveille_broker_core::admin::Wish;
use reveille_broker_core::io::{
    Committed, ConnectionKey, Identity, Input, Loss, Opening, Output, ShardNo, Ticket,
};
use reveille_broker_core::limits::{ConnectionLimits, Limits};
use reveille_broker_core::message::Time;
use reveille_broker_core::router::Router;
use reveille_broker_core::shard::{Shard, ShardConfig};
use reveille_proto::ids::{AppId, ClientId, PacketId};
use reveille_proto::mqtt::{
    Connect, ConnectProperties, Packet, Publish, PublishProperties, QoS, Subscribe, SubscriptionOptions,
    Unsubscribe, Version,
};
use reveille_proto::topic::TopicName;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// Sizes, as far as `--connections` allows.
const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];

/// Operations in a row that are timed: on as many sessions as there are at the smallest size, each once.
const TIMED: usize = 1_000;

/// How often. The median of the rounds is printed: a moment that another program takes is in few of them.
const ROUNDS: usize = 21;

/// As many messages as a shard keeps the bodies of, and more: each publish makes one of them go, as in a broker that has
/// run for a while.
const FILLING: usize = 80_000;

/// Where those messages go.
const FILLER: &str = "filler";

/// The rules of one shard, with a disk that takes everything at once.
struct World {
    shard: Shard,
    router: Router,
    inputs: VecDeque<Input>,
    limits: Arc<ConnectionLimits>,
    now: Time,
    next: u32,
}

/// Prints what each operation costs at each size, in nanoseconds, and how many times what it cost at the first.
///
/// Every operation finds the same at every size: a session that is away with one message, whose body is not in memory any more;
/// a publisher with the same number of filters; a shard that keeps as many bodies as it may. What was changed is undone before
/// the next round, untimed. So only the number of the others differs.
pub fn growth(arguments: &Arguments) -> Result<(), LoadError> {
    let mut world = World::new();
    let publisher = world.connect("publisher", false)?;
    let filler = world.connect("filler", true)?;
    world.subscribe(filler, FILLER)?;
    world.feed(Input::Lost { connection: filler, how: Loss::Closed });
    let mut first: Option<[f64; 3]> = None;
    let mut sessions = 0;
    println!(
        "| sessions, subscriptions, queued messages | connect and leave ns | subscribe ns | publish ns | times the first | RSS MiB |"
    );
    println!("|---|---|---|---|---|---|");
    for size in SIZES.into_iter().filter(|size| *size <= arguments.connections) {
        while sessions < size {
            world.park(publisher, sessions)?;
            sessions += 1;
        }
        world.fill(publisher, FILLING)?;
        let costs = world.costs(publisher, size)?;
        let base = *first.get_or_insert(costs);
        let ratios = costs.iter().zip(base).map(|(cost, base)| format!("{:.2}", cost / base));
        let [connect, subscribe, publish] = costs;
        println!(
            "| {size} | {connect:.0} | {subscribe:.0} | {publish:.0} | {} | {} |",
            ratios.collect::<Vec<_>>().join(", "),
            process::rss(std::process::id()) >> 20
        );
    }
    Ok(())
}

/// The median of what [`ROUNDS`] rounds cost.
fn median(mut costs: Vec<f64>) -> f64 {
    costs.sort_by(f64::total_cmp);
    costs.get(costs.len() / 2).copied().unwrap_or_default()
}

fn client_id(number: usize) -> String {
    format!("grown-{number:08}")
}

/// Nanoseconds of one of [`TIMED`].
fn time(work: impl FnOnce() -> Result<(), LoadError>) -> Result<f64, LoadError> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed().as_nanos() as f64 / TIMED as f64)
}

fn broken(error: impl std::fmt::Display) -> LoadError {
    LoadError::Broken(error.to_string())
}

impl World {
    fn new() -> Self {
        let mut limits = Limits::default();
        let mut connection = ConnectionLimits::clone(&limits.connection);
        connection.queue_messages_max = usize::MAX; // the filler's
        connection.queue_bytes_max = u64::MAX;
        limits.connection = Arc::new(connection);
        let (limits, connection) = (Arc::new(limits.clone()), limits.connection);
        let mut router = Router::new(1);
        router.set_limits(Arc::clone(&limits));
        let config = ShardConfig {
            no: ShardNo(0),
            shards: 1,
            boot: 1,
            seed: 1,
            limits,
            usage: Arc::default(),
            control: Arc::default(),
            push_rules: [].into(),
        };
        let shard = Shard::new(config);
        Self { shard, router, inputs: VecDeque::new(), limits: connection, now: Time(1_000_000), next: 0 }
    }

    /// What a connect, a subscribe and a publish cost, each on a session of its own.
    fn costs(&mut self, publisher: ConnectionKey, size: usize) -> Result<[f64; 3], LoadError> {
        let mut costs = [const { Vec::new() }; 3];
        for round in 0..ROUNDS {
            // A prime steps over all of them in no order that a processor guesses.
            let some = |at: usize| (round * TIMED + at) * 7919 % size;
            let [connects, subscribes, publishes] = &mut costs;
            connects.push(time(|| (0..TIMED).try_for_each(|at| self.come_and_go(some(at))))?);
            let others: Vec<String> = (0..TIMED).map(|at| filter("more", some(at))).collect();
            subscribes.push(time(|| others.iter().try_for_each(|other| self.subscribe(publisher, other)))?);
            others.iter().try_for_each(|other| self.unsubscribe(publisher, other))?;
            publishes.push(time(|| (0..TIMED).try_for_each(|at| self.publish(publisher, some(at))))?);
            (0..TIMED).try_for_each(|at| self.purge(some(at)))?;
            self.fill(publisher, TIMED)?;
        }
        Ok(costs.map(median))
    }

    /// Messages for somebody else.
    fn fill(&mut self, publisher: ConnectionKey, count: usize) -> Result<(), LoadError> {
        (0..count).try_for_each(|_| self.publish_to(publisher, FILLER.to_owned()))
    }

    /// Of two messages the older goes.
    fn purge(&mut self, number: usize) -> Result<(), LoadError> {
        let client_id = ClientId::parse(&client_id(number)).map_err(broken)?;
        let wish = Wish::Purge { app: AppId::default(), client_id, limit: 1 };
        self.feed(Input::Wish { number: 0, wish });
        Ok(())
    }

    /// A session with a subscription and a message, whose client is away.
    fn park(&mut self, publisher: ConnectionKey, number: usize) -> Result<(), LoadError> {
        let key = self.connect(&client_id(number), true)?;
        self.subscribe(key, &filter("grown", number))?;
        self.feed(Input::Lost { connection: key, how: Loss::Closed });
        self.publish(publisher, number)
    }

    fn come_and_go(&mut self, number: usize) -> Result<(), LoadError> {
        let key = self.connect(&client_id(number), true)?;
        self.feed(Input::Lost { connection: key, how: Loss::Closed });
        Ok(())
    }

    fn connect(&mut self, client_id: &str, is_durable: bool) -> Result<ConnectionKey, LoadError> {
        let connect = Connect {
            version: Version::V5,
            clean_start: !is_durable,
            keep_alive: 600,
            client_id: client_id.into(),
            will: None,
            username: None,
            password: None,
            properties: ConnectProperties {
                session_expiry_interval: is_durable.then_some(3600),
                ..ConnectProperties::default()
            },
        };
        let opening = Opening {
            connect: Box::new(connect),
            identity: Identity::of(AppId::default()),
            client_id: ClientId::parse(client_id).map_err(broken)?,
            is_assigned: false,
            network: "127.0.0.1".into(),
            limits: Arc::clone(&self.limits),
            listener: "growth".into(),
            authentication_data: None,
            hello: None,
            advice: None,
        };
        // The publisher stays at the first place; everyone else takes turns at the second.
        let key = ConnectionKey { index: u32::from(self.next > 0), generation: self.next };
        self.next += 1;
        self.feed(Input::Open { connection: key, opening: Box::new(opening) });
        Ok(key)
    }

    fn subscribe(&mut self, key: ConnectionKey, filter: &str) -> Result<(), LoadError> {
        let packet_id = PacketId::new(1).ok_or_else(|| broken("no packet identifier"))?;
        let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
        let subscribe = Subscribe {
            packet_id,
            subscription_identifier: None,
            user_properties: Vec::new(),
            filters: vec![(filter.into(), options)],
        };
        self.feed(Input::Packet { connection: key, packet: Packet::Subscribe(Box::new(subscribe)) });
        Ok(())
    }

    fn unsubscribe(&mut self, key: ConnectionKey, filter: &str) -> Result<(), LoadError> {
        let packet_id = PacketId::new(1).ok_or_else(|| broken("no packet identifier"))?;
        let filters = vec![filter.into()];
        let unsubscribe = Unsubscribe { packet_id, user_properties: Vec::new(), filters };
        self.feed(Input::Packet { connection: key, packet: Packet::Unsubscribe(Box::new(unsubscribe)) });
        Ok(())
    }

    fn publish(&mut self, key: ConnectionKey, number: usize) -> Result<(), LoadError> {
        self.publish_to(key, filter("grown", number))
    }

    fn publish_to(&mut self, key: ConnectionKey, topic: String) -> Result<(), LoadError> {
        let publish = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: Some(TopicName::parse(topic).map_err(broken)?),
            packet_id: PacketId::new(1),
            properties: PublishProperties::default(),
            payload: vec![0; 200].into(),
        };
        self.feed(Input::Packet { connection: key, packet: Packet::Publish(Box::new(publish)) });
        Ok(())
    }

    fn feed(&mut self, input: Input) {
        self.inputs.push_back(input);
        while let Some(input) = self.inputs.pop_front() {
            self.shard.handle(input, self.now);
            while let Some(output) = self.shard.next_output() {
                self.act(output);
            }
            if let Some((batch, _)) = self.shard.take_batch() {
                self.inputs.push_back(Input::Committed { batch, outcome: Committed::Durable });
            }
        }
    }

    /// What a shell would do, without sockets, disk, bridge and operators.
    fn act(&mut self, output: Output) {
        match output {
            Output::Write(key) => {
                if let Some(unsent) = self.shard.unsent(key) {
                    unsent.clear();
                }
            }
            Output::Route { message, ticket, to } => {
                let asker = Ticket { shard: ShardNo(0), number: ticket };
                let deliveries = self.router.route(&message, to, asker);
                let parts = u32::try_from(deliveries.len()).unwrap_or(u32::MAX);
                self.inputs.push_back(Input::Routed { ticket, parts, is_refused: false });
                let deliver = |(_, delivery)| Input::Deliver(Box::new(delivery));
                self.inputs.extend(deliveries.into_iter().map(deliver));
            }
            Output::Settle { ticket, part } => {
                self.inputs.push_back(Input::Settled { ticket: ticket.number, from: ShardNo(0), part });
            }
            Output::Index(change) => self.router.apply(ShardNo(0), &change),
            Output::ReadRetained { session, filter, .. } => {
                let messages = Vec::new();
                self.inputs.push_back(Input::Retained { session, filter, messages, after: None });
            }
            _ => {}
        }
    }
}
