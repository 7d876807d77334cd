//! Many sessions together, owned by one thread: commands in, outputs out.

use crate::change::{Announcement, Batch, StoredSession};
use crate::counters::Counters;
use crate::io::{ConnectionKey, Input, Output, ShardNo};
use crate::limits::Limits;
use crate::message::Time;
use bytes::BytesMut;
use reveille_proto::ids::{AppId, ClientId};

/// Where a shard stands and what it may use.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Its number.
    pub no: ShardNo,
    /// How many shards there are.
    pub shards: u16,
    /// How often the store was opened: makes numbers and epochs grow across restarts.
    pub boot: u64,
    /// Any number; makes the message ids of this run different from every other run's.
    pub seed: u64,
    /// Bounds.
    pub limits: Limits,
    /// Push rules: what makes a message a push candidate without its publisher's help.
    pub push_rules: Vec<PushRule>,
}

/// Messages on topics under `filter` are push candidates with this alert.
#[derive(Clone, Debug)]
pub struct PushRule {
    /// The tenant.
    pub app: AppId,
    /// Which topics.
    pub filter: reveille_proto::topic::TopicFilter,
    /// May hold `{topic}` and `{payload}`.
    pub title: String,
    /// May hold `{topic}` and `{payload}`.
    pub body: String,
    /// How it may reach a device.
    pub strategy: reveille_proto::bridge::Strategy,
}

/// The sessions of one thread.
pub struct Shard {
    counters: Counters,
}

impl Shard {
    /// The shard that owns a session.
    pub fn owner(app: &AppId, client_id: &ClientId, shards: u16) -> ShardNo {
        let _ = (app, client_id, shards);
        ShardNo(0)
    }

    /// An empty shard.
    pub fn new(config: ShardConfig) -> Self {
        let _ = config;
        Self { counters: Counters::default() }
    }

    /// Takes back a session that outlived the last run. Before the first `handle`.
    pub fn recover(&mut self, stored: StoredSession, now: Time) {
        let _ = (stored, now);
    }

    /// Takes back what the bridge has not heard. Before the first `handle`.
    pub fn recover_announcement(&mut self, number: u64, announcement: Announcement) {
        let _ = (number, announcement);
    }

    /// Something happened.
    pub fn handle(&mut self, input: Input, now: Time) {
        let _ = (input, now);
    }

    /// What to do about it; call until `None`.
    pub fn next_output(&mut self) -> Option<Output> {
        None
    }

    /// When to send [`Input::Tick`] at the latest.
    pub fn deadline(&self) -> Option<Time> {
        None
    }

    /// The facts gathered since the last call, and the number under which to report their commit.
    pub fn take_batch(&mut self) -> Option<(u64, Batch)> {
        None
    }

    /// Bytes to write to a connection's socket; the shell takes from the front what the socket took.
    /// `None` for a connection that is gone.
    pub fn unsent(&mut self, connection: ConnectionKey) -> Option<&mut BytesMut> {
        let _ = connection;
        None
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
