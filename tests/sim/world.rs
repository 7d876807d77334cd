//! Shards, router and store, with time, mail and disk under the control of the test.

use crate::Dice;
use bytes::BytesMut;
use reveille_broker_core::change::Recovered;
use reveille_broker_core::io::{Committed, ConnectionKey, Input, Loss, Opening, Output, ShardNo, Ticket};
use reveille_broker_core::limits::{ConnectionLimits, Limits};
use reveille_broker_core::message::{MessageKey, SessionKey, Time};
use reveille_broker_core::router::Router;
use reveille_broker_core::shard::{Shard, ShardConfig};
use reveille_broker_store::{Commit, Memory, Store};
use reveille_proto::mqtt::{Packet, Version};
use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Bytes on their way to a client, and whether the broker closed behind them.
#[derive(Default)]
pub struct Wire {
    pub bytes: BytesMut,
    pub is_closed: bool,
}

pub struct World {
    pub now: u64,
    pub crashes: usize,
    pub failures: usize,
    /// Wills that somebody must hear: their connections ended, and nothing was lost since.
    pub wills: Vec<String>,
    store: Memory,
    shards: Vec<Shard>,
    router: Router,
    mail: Vec<VecDeque<Input>>,
    commits: Vec<(usize, u64, Commit)>,
    reads: VecDeque<(usize, SessionKey, Vec<MessageKey>)>,
    wires: BTreeMap<(usize, ConnectionKey), Wire>,
    next_connection: u32,
    has_bridge: bool,
    seed: u64,
    hasher: DefaultHasher,
}

impl World {
    pub fn new(shards: usize, seed: u64) -> Self {
        let mut world = Self {
            now: 1_000_000,
            crashes: 0,
            failures: 0,
            wills: Vec::new(),
            store: Memory::manual(),
            shards: Vec::new(),
            router: Router::new(shards as u16),
            mail: (0..shards).map(|_| VecDeque::new()).collect(),
            commits: Vec::new(),
            reads: VecDeque::new(),
            wires: BTreeMap::new(),
            next_connection: 1,
            has_bridge: false,
            seed,
            hasher: DefaultHasher::new(),
        };
        world.start();
        world
    }

    pub fn limits() -> Limits {
        let connection = ConnectionLimits { in_flight_max: 5, receive_maximum: 10, ..Default::default() };
        Limits { look_ahead_max: 4, recent_bodies_bytes_max: 2_000, ..Limits::of(connection) }
    }

    fn start(&mut self) {
        let count = self.mail.len();
        self.router = Router::new(count as u16);
        let usage: Arc<reveille_broker_core::usage::Usage> = Arc::default();
        let config = |no: usize| ShardConfig {
            no: ShardNo(no as u16),
            shards: count as u16,
            boot: self.store.boot(),
            seed: self.seed,
            limits: Arc::new(Self::limits()),
            push_rules: [].into(),
            usage: Arc::clone(&usage),
            control: Arc::default(),
        };
        self.shards = (0..count).map(|no| Shard::new(config(no))).collect();
        let mut items = Vec::new();
        self.store.recover(&mut |item| items.push(item)).unwrap();
        for item in items {
            match item {
                Recovered::Session(stored) => {
                    let owner = Shard::owner(&stored.record.app, &stored.record.client_id, count as u16);
                    self.shards[usize::from(owner.0)].recover(*stored, Time(self.now));
                }
                Recovered::Retained(message) => {
                    let (app, topic) = (message.app.clone(), message.topic.clone());
                    self.router.retain(&app, topic, Some(message));
                }
                Recovered::Announcement { number, announcement } => {
                    self.shards[0].recover_announcement(number, announcement);
                }
                Recovered::Network { .. } => {}
            }
        }
        self.has_bridge = false;
        for shard in 0..count {
            self.drain(shard);
        }
    }

    /// Power fails: what is not on disk is gone, and every connection with it.
    pub fn crash(&mut self, at: u64) {
        self.crashes += 1;
        self.wills.clear(); // they may have been on their way
        self.store = self.store.crash();
        self.commits.clear();
        self.reads.clear();
        self.mail.iter_mut().for_each(VecDeque::clear);
        self.wires.clear();
        at.hash(&mut self.hasher);
        self.start();
    }

    pub fn trace(&self) -> u64 {
        self.hasher.finish()
    }

    pub fn open(&mut self, opening: Opening) -> (usize, ConnectionKey) {
        let app = &opening.identity.app;
        let owner = Shard::owner(app, &opening.client_id, self.mail.len() as u16);
        let shard = usize::from(owner.0);
        let connection = ConnectionKey { index: self.next_connection, generation: self.next_connection };
        self.next_connection += 1;
        self.wires.insert((shard, connection), Wire::default());
        self.mail[shard].push_back(Input::Open { connection, opening: Box::new(opening) });
        (shard, connection)
    }

    pub fn send(&mut self, to: (usize, ConnectionKey), packet: &Packet, version: Version) {
        // Through the codec, so that what the rules see is what a socket would give them.
        let mut bytes = BytesMut::new();
        packet.write(version, &mut bytes).unwrap();
        let packet = reveille_proto::mqtt::read(&mut bytes, Some(version), u32::MAX).unwrap().unwrap();
        self.mail[to.0].push_back(Input::Packet { connection: to.1, packet });
    }

    pub fn lose(&mut self, to: (usize, ConnectionKey), will: Option<String>) {
        self.wills.extend(will);
        self.wires.remove(&to);
        self.mail[to.0].push_back(Input::Lost { connection: to.1, how: Loss::Closed });
    }

    pub fn wire(&mut self, to: (usize, ConnectionKey)) -> Option<&mut Wire> {
        self.wires.get_mut(&to)
    }

    /// One piece of mail of a random shard.
    pub fn step(&mut self, dice: &mut Dice) {
        let shard = dice.below(self.mail.len());
        self.handle_next(shard);
    }

    fn handle_next(&mut self, shard: usize) -> bool {
        let Some(input) = self.mail[shard].pop_front() else { return false };
        self.handle(shard, input);
        true
    }

    fn handle(&mut self, shard: usize, input: Input) {
        self.shards[shard].handle(input, Time(self.now));
        self.drain(shard);
    }

    pub fn tick(&mut self) {
        for shard in 0..self.mail.len() {
            self.handle(shard, Input::Tick);
        }
    }

    /// The disk is full for one commit.
    pub fn fail_one(&mut self) {
        if self.store.pending() == 0 {
            return;
        }
        self.failures += 1;
        self.wills.clear(); // a will that the store refuses is not tried again
        self.store.fail_next(reveille_broker_store::StoreError::Full);
        self.sync_one();
    }

    /// The retained message of a topic.
    pub fn retained(&self, topic: &str) -> Option<Vec<u8>> {
        let filter = reveille_proto::topic::TopicFilter::parse(topic).unwrap();
        let (messages, _) = self.router.retained(&Default::default(), &filter, None, 1);
        messages.first().map(|message| message.payload.to_vec())
    }

    /// One commit reaches the disk.
    pub fn sync_one(&mut self) -> bool {
        let synced = self.store.sync_one();
        self.collect_commits() || synced
    }

    fn collect_commits(&mut self) -> bool {
        let mut ended = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        self.commits.retain_mut(|(shard, batch, commit)| match Pin::new(commit).poll(&mut context) {
            Poll::Pending => true,
            Poll::Ready(result) => {
                let outcome = if result.is_ok() { Committed::Durable } else { Committed::Failed };
                ended.push((*shard, Input::Committed { batch: *batch, outcome }));
                false
            }
        });
        let any = !ended.is_empty();
        for (shard, input) in ended {
            self.handle(shard, input);
        }
        any
    }

    /// One read of bodies comes back.
    pub fn read_disk(&mut self) {
        if let Some((shard, session, keys)) = self.reads.pop_front() {
            let found = self.store.read(&keys).unwrap();
            let bodies = keys.into_iter().zip(found).collect();
            self.handle(shard, Input::Bodies { session, bodies });
        }
    }

    /// Everything that can happen without a client happens.
    pub fn run_all(&mut self) -> bool {
        let mut any = false;
        loop {
            let mut is_busy = false;
            for shard in 0..self.mail.len() {
                while self.handle_next(shard) {
                    is_busy = true;
                }
            }
            while self.sync_one() {
                is_busy = true;
            }
            while !self.reads.is_empty() {
                self.read_disk();
                is_busy = true;
            }
            any |= is_busy;
            if !is_busy {
                return any;
            }
        }
    }

    fn drain(&mut self, shard: usize) {
        let no = ShardNo(shard as u16);
        while let Some(output) = self.shards[shard].next_output() {
            std::mem::discriminant(&output).hash(&mut self.hasher);
            match output {
                Output::Write(connection) => {
                    let wire = self.wires.get_mut(&(shard, connection));
                    if let Some(bytes) = self.shards[shard].unsent(connection) {
                        bytes.hash(&mut self.hasher);
                        let bytes = bytes.split();
                        if let Some(wire) = wire {
                            wire.bytes.extend_from_slice(&bytes);
                        }
                        self.mail[shard].push_back(Input::Drained { connection });
                    }
                }
                Output::Close { connection, unsent, .. } => {
                    if let Some(wire) = self.wires.get_mut(&(shard, connection)) {
                        wire.bytes.extend_from_slice(&unsent);
                        wire.is_closed = true;
                    }
                }
                Output::PauseReading(_)
                | Output::ResumeReading(_)
                | Output::Seen(_)
                | Output::Advise { .. }
                | Output::Done { .. }
                | Output::Authenticate { .. } => {}
                Output::Route { message, ticket, to } => {
                    let deliveries = self.router.route(&message, to, Ticket { shard: no, number: ticket });
                    let parts = deliveries.len() as u32;
                    if ticket > 0 {
                        self.mail[shard].push_front(Input::Routed { ticket, parts, is_refused: false });
                    }
                    for (to, delivery) in deliveries {
                        self.mail[usize::from(to.0)].push_back(Input::Deliver(Box::new(delivery)));
                    }
                }
                Output::Settle { ticket, part } => {
                    let input = Input::Settled { ticket: ticket.number, from: no, part };
                    self.mail[usize::from(ticket.shard.0)].push_back(input);
                }
                Output::Confirm { shard, message, is_durable } => {
                    self.mail[usize::from(shard.0)].push_back(Input::Confirmed { message, is_durable });
                }
                Output::Trace(_) => {}
                Output::Withdraw { app, id, client_ids, ticket } => {
                    let count = self.mail.len() as u32;
                    self.mail[shard].push_front(Input::Routed { ticket, parts: count, is_refused: false });
                    for mail in &mut self.mail {
                        let (app, client_ids) = (app.clone(), client_ids.clone());
                        let ticket = Ticket { shard: no, number: ticket };
                        mail.push_back(Input::Withdraw { app, id, client_ids, ticket });
                    }
                }
                Output::Index(change) => {
                    self.router.apply(no, &change);
                    self.tell_bridge_present();
                }
                Output::Retain { app, topic, message } => self.router.retain(&app, topic, message),
                Output::Release { app, share } => self.router.release(&app, &share, no),
                Output::ReadBodies { session, keys } => self.reads.push_back((shard, session, keys)),
                Output::ReadRetained { app, session, filter, after } => {
                    let (messages, after) = self.router.retained(&app, &filter, after.as_ref(), 3);
                    self.mail[shard].push_back(Input::Retained { session, filter, messages, after });
                }
            }
        }
        if !self.commits.iter().any(|(of, _, _)| *of == shard)
            && let Some((number, batch)) = self.shards[shard].take_batch()
        {
            self.commits.push((shard, number, self.store.commit(batch)));
        }
    }

    fn tell_bridge_present(&mut self) {
        let has_bridge = self.router.has_bridge();
        if has_bridge != self.has_bridge {
            self.has_bridge = has_bridge;
            for mail in &mut self.mail {
                mail.push_back(Input::BridgePresent(has_bridge));
            }
        }
    }
}
