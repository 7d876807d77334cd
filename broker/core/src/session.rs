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
use crate::deadlines::Armed;
use crate::io::ConnectionKey;
use crate::limits::ConnectionLimits;
use crate::message::{MessageKey, Seq, SessionKey, Time};
use crate::queue::Queue;
use reveille_proto::ids::{AppId, ClientId, Epoch, MessageId, PacketId};
use reveille_proto::topic::{Subscription, TopicFilter, TopicName};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Lists up to here have no room to spare: a million have one entry.
const FEW: usize = 4;

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

/// What most sessions have nothing of, and hardly any has two of.
#[derive(Debug, Default)]
#[expect(
    clippy::box_collection,
    reason = "absent in almost every session, so a pointer is cheaper than an empty map"
)]
pub(crate) struct Rare {
    pub received: Option<Box<HashMap<PacketId, Received>>>,
    pub will: Option<Box<StoredWill>>,
    pub recent_pushes: Option<Box<VecDeque<MessageId>>>,
    pub readings: Option<Box<VecDeque<RetainedReading>>>,
    pub loading: Option<Box<Vec<(Seq, MessageKey)>>>,
    /// Its subscriptions in groups, ordered.
    in_groups: Option<Box<Vec<(Subscription, Granted)>>>,
}

impl Rare {
    fn is_empty(&self) -> bool {
        let Self { received, will, recent_pushes, readings, loading, in_groups } = self;
        received.is_none()
            && will.is_none()
            && recent_pushes.is_none()
            && readings.is_none()
            && loading.is_none()
            && in_groups.is_none()
    }
}

/// The subscriptions of a session that have no group. A million have one, which needs no memory elsewhere.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "a list has no room beside what tells it from one")]
enum Own {
    None,
    One([(TopicFilter, Granted); 1]),
    /// Two or more.
    Many(Box<Vec<(TopicFilter, Granted)>>),
}

const _: () = assert!(size_of::<Own>() == size_of::<(TopicFilter, Granted)>());

impl Own {
    /// In their order.
    fn list(&self) -> &[(TopicFilter, Granted)] {
        match self {
            Self::None => &[],
            Self::One(one) => one,
            Self::Many(many) => many,
        }
    }

    /// Whether it is new.
    fn put(&mut self, filter: TopicFilter, granted: Granted) -> bool {
        match self {
            Self::None => {
                *self = Self::One([(filter, granted)]);
                true
            }
            Self::One([(only, known)]) if *only == filter => {
                *known = granted;
                false
            }
            Self::One(_) => {
                let Self::One([one]) = std::mem::replace(self, Self::None) else { return false };
                let mut many = vec![one];
                put(&mut many, filter, granted);
                *self = Self::Many(Box::new(many));
                true
            }
            Self::Many(many) => put(many, filter, granted),
        }
    }

    /// Whether it existed.
    fn remove(&mut self, filter: &TopicFilter) -> bool {
        let Ok(at) = self.list().binary_search_by(|(known, _)| known.cmp(filter)) else { return false };
        match self {
            Self::None | Self::One(_) => *self = Self::None,
            Self::Many(many) => {
                many.remove(at);
                if many.len() == 1 {
                    *self = many.pop().map_or(Self::None, |one| Self::One([one]));
                }
            }
        }
        true
    }
}

/// One session. A million of them are parked at a time: what most have not costs one pointer.
#[derive(Debug)]
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
    /// Its subscriptions without a group, ordered for binary search: few for a phone, up to the limit for a service.
    own: Own,
    pub queue: Option<Box<Queue>>,
    pub next_seq: u64,
    pub armed: Armed,
    pub rare: Option<Box<Rare>>,
}

const _: () = assert!(size_of::<Session>() <= 144);

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
            own: Own::None,
            queue: None,
            next_seq: 0,
            armed: Armed::NOT,
            rare: None,
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
            will: self.rare.as_ref().and_then(|rare| rare.will.clone()),
        })
    }

    /// When it ends, should the client stay away. `[MQTT5-3.1.2-23]`
    pub fn ends_at(&self) -> Option<Time> {
        let is_finite = self.connection.is_none() && self.expiry_interval != u32::MAX;
        is_finite.then(|| self.offline_since + Duration::from_secs(u64::from(self.expiry_interval)))
    }

    /// When its will is due: after the delay, or with the session, whichever is first. `[MQTT5-3.1.3-9]`
    pub fn will_at(&self) -> Option<Time> {
        let will = self.will().filter(|_| self.connection.is_none())?;
        let delayed = self.offline_since + Duration::from_secs(u64::from(will.delay_interval));
        Some(self.ends_at().map_or(delayed, |end| end.min(delayed)))
    }

    /// Its subscriptions in their order: those in groups come last.
    pub fn subscriptions(&self) -> impl Iterator<Item = (Subscription, Granted)> {
        self.subscriptions_behind(None)
    }

    /// The same from behind one of them.
    pub fn subscriptions_behind(
        &self,
        after: Option<&Subscription>,
    ) -> impl Iterator<Item = (Subscription, Granted)> {
        let own = match after {
            None => self.own.list(),
            Some(Subscription { group: None, filter }) => {
                let start = self.own.list().partition_point(|(known, _)| known <= filter);
                self.own.list().get(start..).unwrap_or_default()
            }
            Some(Subscription { group: Some(_), .. }) => &[],
        };
        let in_groups = self.in_groups();
        let start = after.map_or(0, |after| in_groups.partition_point(|(known, _)| known <= after));
        let own = own
            .iter()
            .map(|(filter, granted)| (Subscription { group: None, filter: filter.clone() }, *granted));
        own.chain(in_groups.get(start..).unwrap_or_default().iter().cloned())
    }

    pub fn subscriptions_len(&self) -> usize {
        self.own.list().len() + self.in_groups().len()
    }

    pub fn in_groups(&self) -> &[(Subscription, Granted)] {
        self.rare.as_ref().and_then(|rare| rare.in_groups.as_deref()).map(Vec::as_slice).unwrap_or_default()
    }

    pub fn subscription(&self, subscription: &Subscription) -> Option<Granted> {
        if subscription.group.is_some() {
            let at = self.in_groups().binary_search_by(|(known, _)| known.cmp(subscription)).ok()?;
            return self.in_groups().get(at).map(|(_, granted)| *granted);
        }
        let at = self.own.list().binary_search_by(|(known, _)| known.cmp(&subscription.filter)).ok()?;
        self.own.list().get(at).map(|(_, granted)| *granted)
    }

    /// Whether it is new.
    pub fn subscribe(&mut self, subscription: Subscription, granted: Granted) -> bool {
        match subscription.group {
            None => self.own.put(subscription.filter, granted),
            Some(_) => put(self.rare_mut().in_groups.get_or_insert_default(), subscription, granted),
        }
    }

    /// Whether it existed.
    pub fn unsubscribe(&mut self, subscription: &Subscription) -> bool {
        if subscription.group.is_none() {
            return self.own.remove(&subscription.filter);
        }
        let in_groups = self.rare.as_mut().and_then(|rare| rare.in_groups.as_mut());
        let existed = in_groups.is_some_and(|known| {
            let at = known.binary_search_by(|(known, _)| known.cmp(subscription));
            at.map(|at| known.remove(at)).is_ok()
        });
        self.tidy();
        existed
    }

    /// Whether this push was acknowledged a short while ago.
    pub fn had_push(&self, id: &MessageId) -> bool {
        let recent = self.rare.as_ref().and_then(|rare| rare.recent_pushes.as_ref());
        recent.is_some_and(|recent| recent.contains(id))
    }

    pub fn remember_push(&mut self, id: MessageId, limit: usize) {
        let recent = self.rare_mut().recent_pushes.get_or_insert_default();
        if recent.len() >= limit {
            recent.pop_front();
        }
        recent.push_back(id);
    }

    pub fn will(&self) -> Option<&StoredWill> {
        self.rare.as_ref()?.will.as_deref()
    }

    pub fn take_will(&mut self, is_wanted: impl FnOnce(&StoredWill) -> bool) -> Option<Box<StoredWill>> {
        let will = self.rare.as_mut()?.will.take_if(|will| is_wanted(will))?;
        self.tidy();
        Some(will)
    }

    /// The QoS 2 packet identifiers that the client uses.
    pub fn received(&self) -> Option<&HashMap<PacketId, Received>> {
        self.rare.as_ref()?.received.as_deref()
    }

    /// The same to change them, where there is one; what is empty afterwards goes with [`Session::tidy`].
    pub fn received_mut(&mut self) -> Option<&mut HashMap<PacketId, Received>> {
        self.rare.as_mut()?.received.as_deref_mut()
    }

    pub fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Gives back what is empty.
    pub fn tidy(&mut self) {
        let Some(rare) = &mut self.rare else { return };
        rare.received.take_if(|received| received.is_empty());
        rare.readings.take_if(|readings| readings.is_empty());
        rare.in_groups.take_if(|in_groups| in_groups.is_empty());
        self.rare.take_if(|rare| rare.is_empty());
    }

    pub fn queue_len(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.len())
    }
}

/// Puts a subscription where it belongs in the order; whether it is new.
fn put<K: Ord>(list: &mut Vec<(K, Granted)>, key: K, granted: Granted) -> bool {
    match list.binary_search_by(|(known, _)| known.cmp(&key)) {
        Ok(at) => {
            if let Some(known) = list.get_mut(at) {
                known.1 = granted;
            }
            false
        }
        Err(at) => {
            if list.len() < FEW {
                list.reserve_exact(1);
            }
            list.insert(at, (key, granted));
            true
        }
    }
}
