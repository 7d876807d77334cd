//! What an operator may want of a shard, and what one can see in it. Everything here is data; `shard/administering.rs`
//! does it, `shard/inspecting.rs` reads it, a bounded piece at a time.

use crate::message::MessageProperties;
use bytes::Bytes;
use reveille_proto::ids::{AppId, ClientId};
use reveille_proto::mqtt::QoS;
use reveille_proto::topic::TopicName;
use std::time::Duration;

/// What an operator wants done. [`crate::io::Output::Done`] answers when it is as durable as it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A session ends, with its connection when it has one: its subscriptions and its queue are gone.
    EndSession {
        /// The tenant.
        app: AppId,
        /// Whose.
        client_id: ClientId,
    },
    /// The oldest messages that wait in a queue and were never sent are dropped. What was sent stays: the client may have
    /// it, and its acknowledgement must find it.
    Purge {
        /// The tenant.
        app: AppId,
        /// Whose queue.
        client_id: ClientId,
        /// At most so many.
        limit: usize,
    },
    /// A message is published, for its receivers like any other.
    Publish(Box<Publication>),
    /// A topic has no retained message any more. Subscribers hear nothing of it.
    ClearRetained {
        /// The tenant.
        app: AppId,
        /// Which topic.
        topic: TopicName,
    },
}

/// How a [`Wish`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is so, on disk too. [`Wish::Purge`] dropped so many messages.
    Fulfilled(usize),
    /// Published, and nobody subscribes to the topic.
    NoReceiver,
    /// There is no such session.
    NoSession,
    /// The store took no writes, or no queue had room.
    Refused,
}

/// What an operator publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The tenant whose sessions may get it.
    pub app: AppId,
    /// Where to.
    pub topic: TopicName,
    /// What.
    pub payload: Bytes,
    /// At most this for each receiver.
    pub qos: QoS,
    /// Whether the topic keeps it.
    pub retain: bool,
    /// How long it is worth anything.
    pub expiry: Option<Duration>,
    /// What 5.0 forwards.
    pub properties: Option<Box<MessageProperties>>,
}
