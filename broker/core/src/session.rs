//! What outlives connections: one client's subscriptions, queue, received packet identifiers and will.
//!
//! ```text
//!   CONNECT          connection ends, expiry > 0
//!  --------> Online -----------------------------> Offline
//!              ^  |                                   |  expiry passed, or clean start
//!              |  | expiry = 0                        v
//!              |  +---------------------------------> (ended)
//!              +-------------- CONNECT --------------+
//! ```

use crate::change::{Granted, SessionRecord, StoredWill};
use crate::io::ConnectionKey;
use crate::limits::ConnectionLimits;
use crate::message::{MessageKey, Seq, SessionKey, Time};
use crate::queue::Queue;
use reveille_proto::ids::{AppId, ClientId, Epoch, MessageId, PacketId};
use reveille_proto::topic::{Subscription, TopicName};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// A QoS 2 packet identifier that the client uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// The publish with this number is not durable yet.
    Pending(u64),
    /// PUBREC was sent.
    Done,
}

/// Retained messages that a subscription still has to get.
#[derive(Clone, Debug)]
pub(crate) struct RetainedReading {
    pub subscription: Subscription,
    pub granted: Granted,
    pub after: Option<TopicName>,
}

/// One session. A million of them are parked at a time: what most have not costs a pointer.
#[derive(Debug)]
#[expect(
    clippy::box_collection,
    reason = "absent in almost every session, so a pointer is cheaper than an empty map"
)]
pub(crate) struct Session {
    pub key: SessionKey,
    pub app: AppId,
    pub client_id: ClientId,
    /// Those of its newest connection.
    pub limits: Arc<ConnectionLimits>,
    pub epoch: Epoch,
    pub connection: Option<ConnectionKey>,
    pub offline_since: Time,
    pub expiry_interval: u32,
    pub is_bridge: bool,
    /// Its record is in the store.
    pub is_stored: bool,
    /// Its subscriptions and its queue are in the store.
    pub is_durable: bool,
    /// Bodies were asked for.
    pub is_loading: bool,
    /// Retained messages were asked for.
    pub is_reading: bool,
    /// Ordered, for binary search: few for a phone, up to the limit for a service.
    pub subscriptions: Vec<(Subscription, Granted)>,
    pub queue: Option<Box<Queue>>,
    pub next_seq: u64,
    pub received: Option<Box<HashMap<PacketId, Received>>>,
    pub will: Option<Box<StoredWill>>,
    pub recent_pushes: Option<Box<VecDeque<MessageId>>>,
    pub readings: Option<Box<VecDeque<RetainedReading>>>,
    pub loading: Option<Box<Vec<(Seq, MessageKey)>>>,
}

impl Session {
    pub fn new(key: SessionKey, app: AppId, client_id: ClientId, limits: Arc<ConnectionLimits>) -> Self {
        Self {
            key,
            app,
            client_id,
            limits,
            epoch: Epoch(0),
            connection: None,
            offline_since: Time(0),
            expiry_interval: 0,
            is_bridge: false,
            is_stored: false,
            is_durable: false,
            is_loading: false,
            is_reading: false,
            subscriptions: Vec::new(),
            queue: None,
            next_seq: 0,
            received: None,
            will: None,
            recent_pushes: None,
            readings: None,
            loading: None,
        }
    }

    /// What the store remembers about it.
    pub fn record(&self) -> Box<SessionRecord> {
        Box::new(SessionRecord {
            app: self.app.clone(),
            client_id: self.client_id.clone(),
            expiry_interval: self.expiry_interval,
            epoch: self.epoch,
            offline_since: self.connection.is_none().then_some(self.offline_since),
            sent_before: self.queue.as_ref().map_or(Seq(0), |queue| queue.sent_before()),
            will: self.will.clone(),
        })
    }

    /// When it ends, should the client stay away. `[MQTT5-3.1.2-23]`
    pub fn ends_at(&self) -> Option<Time> {
        let is_finite = self.connection.is_none() && self.expiry_interval != u32::MAX;
        is_finite.then(|| self.offline_since + Duration::from_secs(u64::from(self.expiry_interval)))
    }

    /// When its will is due: after the delay, or with the session, whichever is first. `[MQTT5-3.1.3-9]`
    pub fn will_at(&self) -> Option<Time> {
        let will = self.will.as_ref().filter(|_| self.connection.is_none())?;
        let delayed = self.offline_since + Duration::from_secs(u64::from(will.delay_interval));
        Some(self.ends_at().map_or(delayed, |end| end.min(delayed)))
    }

    pub fn subscription(&self, subscription: &Subscription) -> Option<Granted> {
        let at = self.subscriptions.binary_search_by(|(known, _)| known.cmp(subscription)).ok()?;
        self.subscriptions.get(at).map(|(_, granted)| *granted)
    }

    /// Whether it is new.
    pub fn subscribe(&mut self, subscription: Subscription, granted: Granted) -> bool {
        match self.subscriptions.binary_search_by(|(known, _)| known.cmp(&subscription)) {
            Ok(at) => {
                if let Some(known) = self.subscriptions.get_mut(at) {
                    known.1 = granted;
                }
                false
            }
            Err(at) => {
                self.subscriptions.reserve_exact(1);
                self.subscriptions.insert(at, (subscription, granted));
                true
            }
        }
    }

    /// Whether it existed.
    pub fn unsubscribe(&mut self, subscription: &Subscription) -> bool {
        let at = self.subscriptions.binary_search_by(|(known, _)| known.cmp(subscription));
        at.map(|at| self.subscriptions.remove(at)).is_ok()
    }

    /// Whether this push was acknowledged a short while ago.
    pub fn had_push(&self, id: &MessageId) -> bool {
        self.recent_pushes.as_ref().is_some_and(|recent| recent.contains(id))
    }

    pub fn remember_push(&mut self, id: MessageId, limit: usize) {
        let recent = self.recent_pushes.get_or_insert_default();
        if recent.len() >= limit {
            recent.pop_front();
        }
        recent.push_back(id);
    }

    pub fn queue_len(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.len())
    }
}
