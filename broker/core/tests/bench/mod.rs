//! One shard on a bench: packets in, packets out, commits when the test says so.
#![allow(dead_code, reason = "no test file needs all of it")]

use bytes::BytesMut;
use reveille_broker_core::admin::Done;
use reveille_broker_core::change::{Batch, Change};
use reveille_broker_core::control::Control;
use reveille_broker_core::io::{
    Committed, ConnectionKey, Identity, Input, Loss, Opening, Output, ShardNo, Ticket,
};
use reveille_broker_core::limits::{ConnectionLimits, Limits};
use reveille_broker_core::message::Time;
use reveille_broker_core::networks::{Advice, Sighting};
use reveille_broker_core::presence::bridge_app;
use reveille_broker_core::router::Router;
use reveille_broker_core::shard::{Shard, ShardConfig};
use reveille_proto::heartbeat::Hello;
use reveille_proto::ids::{AppId, ClientId, PacketId};
use reveille_proto::mqtt::{
    Connect, ConnectProperties, Packet, Publish, PublishProperties, QoS, Subscribe, SubscriptionOptions,
    Version, Will,
};
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::TopicName;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// What the broker said to one connection.
#[derive(Default)]
pub struct Line {
    version: Option<Version>,
    bytes: BytesMut,
    pub closed: Option<ReasonCode>,
}

pub struct Bench {
    pub shard: Shard,
    pub router: Router,
    pub now: Time,
    /// `false`: batches wait until `commit`.
    pub commits_at_once: bool,
    pub batches: VecDeque<(u64, Batch)>,
    pub written: Vec<Change>,
    /// Sockets that take nothing.
    pub blocks: HashSet<ConnectionKey>,
    /// Connections that the shell would not read from.
    pub paused: HashSet<ConnectionKey>,
    /// How an operator's wishes ended.
    pub done: Vec<(u64, Done)>,
    /// What the next connections get.
    pub limits: Arc<ConnectionLimits>,
    lines: HashMap<ConnectionKey, Line>,
    next: u32,
    has_bridge: bool,
    /// Where the next connections come from.
    pub network: &'static str,
    /// What the next connections and reports are told.
    pub advice: Option<Advice>,
    /// What was seen of networks.
    pub seen: Vec<Sighting>,
    /// Messages of authentication methods that came.
    pub asked: Vec<(ConnectionKey, bool, Option<bytes::Bytes>)>,
}

/// A CONNECT to be filled in.
pub fn connect(client_id: &str, version: Version) -> Connect {
    Connect {
        version,
        clean_start: true,
        keep_alive: 0,
        client_id: client_id.into(),
        will: None,
        username: None,
        password: None,
        properties: ConnectProperties::default(),
    }
}

/// A session that outlives its connection.
pub fn durable(client_id: &str) -> Connect {
    let properties = ConnectProperties { session_expiry_interval: Some(3600), ..Default::default() };
    Connect { clean_start: false, properties, ..connect(client_id, Version::V5) }
}

pub fn will(topic: &str, delay: Option<u32>) -> Will {
    Will {
        topic: TopicName::parse(topic.to_owned()).unwrap(),
        payload: "gone".into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        delay_interval: delay,
        properties: PublishProperties::default(),
    }
}

pub fn publish(topic: &str, payload: &str, qos: u8, id: u16) -> Publish {
    Publish {
        dup: false,
        qos: QoS::from_u8(qos).unwrap(),
        retain: false,
        topic: Some(TopicName::parse(topic.to_owned()).unwrap()),
        packet_id: PacketId::new(id).filter(|_| qos > 0),
        properties: PublishProperties::default(),
        payload: payload.to_owned().into(),
    }
}

pub fn packet_id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

impl Bench {
    pub fn new(limits: Limits) -> Self {
        Self::booted(limits, 1)
    }

    /// The broker after so many starts: its numbers are above those of earlier ones.
    pub fn booted(limits: Limits, boot: u64) -> Self {
        Self::controlled(limits, Control::default(), boot)
    }

    /// With what an operator wants beyond bounds.
    pub fn controlled(limits: Limits, control: Control, boot: u64) -> Self {
        let strategies = control.strategies.clone();
        let connection = Arc::clone(&limits.connection);
        let shared_limits = Arc::new(limits);
        let config = ShardConfig {
            no: ShardNo(0),
            shards: 1,
            boot,
            seed: 7,
            limits: Arc::clone(&shared_limits),
            push_rules: [].into(),
            usage: Arc::default(),
            control: Arc::new(control),
        };
        Self {
            shard: Shard::new(config),
            router: {
                let mut router = Router::new(1);
                router.set_strategies(strategies);
                router.set_limits(Arc::clone(&shared_limits));
                router
            },
            now: Time(1_000_000),
            commits_at_once: true,
            batches: VecDeque::new(),
            written: Vec::new(),
            blocks: HashSet::new(),
            paused: HashSet::new(),
            done: Vec::new(),
            limits: connection,
            lines: HashMap::new(),
            next: 0,
            has_bridge: false,
            asked: Vec::new(),
            network: "bench",
            advice: None,
            seen: Vec::new(),
        }
    }

    /// Connects and returns the key; CONNACK is still to be read.
    pub fn open(&mut self, connect: Connect) -> ConnectionKey {
        self.open_as(connect, Identity::of(AppId::default()))
    }

    pub fn open_bridge(&mut self) -> ConnectionKey {
        let bridge = self.open_as(durable("bridge"), Identity::bridge(bridge_app()));
        self.read(bridge);
        for topic in
            ["$push/v1/queued", "$push/v1/unacked", "$push/v1/acked", "$push/v1/presence", "$push/v1/device"]
        {
            self.subscribe(bridge, topic, 1);
        }
        bridge
    }

    pub fn open_as(&mut self, connect: Connect, identity: Identity) -> ConnectionKey {
        let key = ConnectionKey { index: self.next, generation: self.next };
        self.next += 1;
        self.lines.insert(key, Line { version: Some(connect.version), ..Line::default() });
        let client_id = ClientId::parse(&connect.client_id).unwrap();
        let properties = &connect.properties.user_properties;
        let hello = Hello::read(properties.iter().map(|(name, value)| (&**name, &**value)));
        let opening = Opening {
            connect: Box::new(connect),
            identity,
            client_id,
            is_assigned: false,
            network: self.network.into(),
            limits: Arc::clone(&self.limits),
            listener: "bench".into(),
            authentication_data: None,
            hello: hello.map(Box::new),
            advice: self.advice,
        };
        self.input(Input::Open { connection: key, opening: Box::new(opening) });
        key
    }

    /// Connects and reads CONNACK.
    pub fn online(&mut self, connect: Connect) -> ConnectionKey {
        let key = self.open(connect);
        let first = self.read(key);
        assert!(matches!(first.first(), Some(Packet::ConnAck(_))), "CONNACK first: {first:?}");
        key
    }

    pub fn send(&mut self, key: ConnectionKey, packet: Packet) {
        self.input(Input::Packet { connection: key, packet });
    }

    pub fn publish(&mut self, key: ConnectionKey, publish: Publish) {
        self.send(key, Packet::Publish(Box::new(publish)));
    }

    pub fn subscribe(&mut self, key: ConnectionKey, filter: &str, qos: u8) {
        let options = SubscriptionOptions { qos: QoS::from_u8(qos).unwrap(), ..Default::default() };
        self.subscribe_with(key, filter, options, None);
    }

    pub fn subscribe_with(
        &mut self,
        key: ConnectionKey,
        filter: &str,
        options: SubscriptionOptions,
        subscription_identifier: Option<u32>,
    ) {
        let subscribe = Subscribe {
            packet_id: packet_id(9),
            subscription_identifier,
            user_properties: Vec::new(),
            filters: vec![(filter.into(), options)],
        };
        self.send(key, Packet::Subscribe(Box::new(subscribe)));
    }

    pub fn lose(&mut self, key: ConnectionKey) {
        self.lose_as(key, Loss::Closed);
    }

    pub fn lose_as(&mut self, key: ConnectionKey, how: Loss) {
        self.input(Input::Lost { connection: key, how });
    }

    /// The newest connection.
    pub fn last(&self) -> ConnectionKey {
        ConnectionKey { index: self.next - 1, generation: self.next - 1 }
    }

    pub fn wait(&mut self, ms: u64) {
        self.now = Time(self.now.0 + ms);
        self.input(Input::Tick);
    }

    /// What came on a connection since the last look.
    pub fn read(&mut self, key: ConnectionKey) -> Vec<Packet> {
        let line = self.lines.get_mut(&key).unwrap();
        let mut packets = Vec::new();
        while let Some(packet) = reveille_proto::mqtt::read(&mut line.bytes, line.version, u32::MAX).unwrap()
        {
            packets.push(packet);
        }
        packets
    }

    /// Only the PUBLISHes: topic and payload as text.
    pub fn messages(&mut self, key: ConnectionKey) -> Vec<(String, String)> {
        let text = |publish: &Publish| {
            let topic = publish.topic.as_ref().map(ToString::to_string).unwrap_or_default();
            (topic, String::from_utf8_lossy(&publish.payload).into_owned())
        };
        let packets = self.read(key);
        packets
            .iter()
            .filter_map(
                |packet| if let Packet::Publish(publish) = packet { Some(text(publish)) } else { None },
            )
            .collect()
    }

    pub fn publishes(&mut self, key: ConnectionKey) -> Vec<Publish> {
        let packets = self.read(key);
        packets
            .into_iter()
            .filter_map(|packet| if let Packet::Publish(publish) = packet { Some(*publish) } else { None })
            .collect()
    }

    pub fn closed(&self, key: ConnectionKey) -> Option<ReasonCode> {
        self.lines.get(&key).and_then(|line| line.closed)
    }

    /// The socket takes what waits.
    pub fn flush(&mut self, key: ConnectionKey) {
        while let Some(unsent) = self.shard.unsent(key).filter(|unsent| !unsent.is_empty()) {
            let bytes = unsent.split();
            self.lines.get_mut(&key).unwrap().bytes.extend_from_slice(&bytes);
            self.input(Input::Drained { connection: key });
        }
    }

    /// The oldest batch that waits becomes durable, or fails.
    pub fn commit(&mut self, outcome: Committed) -> bool {
        let Some((batch, Batch { changes })) = self.batches.pop_front() else { return false };
        if outcome == Committed::Durable {
            self.written.extend(changes);
        }
        self.input(Input::Committed { batch, outcome });
        true
    }

    pub fn input(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            self.shard.handle(input, self.now);
            while let Some(output) = self.shard.next_output() {
                self.output(output, &mut inputs);
            }
            if self.batches.is_empty()
                && let Some((batch, Batch { changes })) = self.shard.take_batch()
            {
                if self.commits_at_once {
                    self.written.extend(changes);
                    inputs.push_back(Input::Committed { batch, outcome: Committed::Durable });
                } else {
                    self.batches.push_back((batch, Batch { changes }));
                }
            }
        }
    }

    fn output(&mut self, output: Output, inputs: &mut VecDeque<Input>) {
        match output {
            Output::Write(key) if self.blocks.contains(&key) => {}
            Output::Write(key) => {
                if let Some(unsent) = self.shard.unsent(key) {
                    let bytes = unsent.split();
                    self.lines.get_mut(&key).unwrap().bytes.extend_from_slice(&bytes);
                    inputs.push_back(Input::Drained { connection: key });
                }
            }
            Output::Close { connection, unsent, reason } => {
                let line = self.lines.get_mut(&connection).unwrap();
                line.bytes.extend_from_slice(&unsent);
                line.closed = Some(reason);
            }
            Output::Route { message, ticket, to } => {
                let asked = Ticket { shard: ShardNo(0), number: ticket };
                let is_refused = self.router.refuses(&message, &to);
                let deliveries = if is_refused { Vec::new() } else { self.router.route(&message, to, asked) };
                inputs.push_back(Input::Routed { ticket, parts: deliveries.len() as u32, is_refused });
                for (_, delivery) in deliveries {
                    inputs.push_back(Input::Deliver(Box::new(delivery)));
                }
            }
            Output::Settle { ticket, part } => {
                inputs.push_back(Input::Settled { ticket: ticket.number, from: ShardNo(0), part });
            }
            Output::Confirm { message, is_durable, .. } => {
                inputs.push_back(Input::Confirmed { message, is_durable });
            }
            Output::Trace(_) => {}
            Output::Seen(sighting) => self.seen.push(*sighting),
            Output::Advise { connection, origin: _ } => {
                inputs
                    .extend(self.advice.map(|advice| Input::Advice { connection, advice: Box::new(advice) }));
            }
            Output::Withdraw { app, id, client_ids, ticket } => {
                let asked = Ticket { shard: ShardNo(0), number: ticket };
                inputs.push_back(Input::Routed { ticket, parts: 1, is_refused: false });
                inputs.push_back(Input::Withdraw { app, id, client_ids, ticket: asked });
            }
            Output::Index(change) => {
                self.router.apply(ShardNo(0), &change);
                if self.router.has_bridge() != self.has_bridge {
                    self.has_bridge = self.router.has_bridge();
                    inputs.push_back(Input::BridgePresent(self.has_bridge));
                }
            }
            Output::Retain { app, topic, message } => self.router.retain(&app, topic, message),
            Output::Release { app, share } => self.router.release(&app, &share, ShardNo(0)),
            Output::ReadBodies { session, keys } => {
                let bodies = keys.into_iter().map(|key| (key, self.body(key))).collect();
                inputs.push_back(Input::Bodies { session, bodies });
            }
            Output::ReadRetained { app, session, filter, after } => {
                let (messages, after) = self.router.retained(&app, &filter, after.as_ref(), 3);
                inputs.push_back(Input::Retained { session, filter, messages, after });
            }
            Output::Done { number, done } => self.done.push((number, done)),
            Output::Authenticate { connection, begins, data } => self.asked.push((connection, begins, data)),
            Output::PauseReading(key) => {
                self.paused.insert(key);
            }
            Output::ResumeReading(key) => {
                self.paused.remove(&key);
            }
        }
    }

    fn body(
        &self,
        key: reveille_broker_core::message::MessageKey,
    ) -> Option<std::sync::Arc<reveille_broker_core::message::Message>> {
        self.written.iter().find_map(|change| match change {
            Change::Enqueue { message, .. } if message.key == key => Some(message.clone()),
            _ => None,
        })
    }
}
