//! One publish: which shards take part in it. Shared by all shards, read far more often than written.

use crate::collections::mix;
use crate::control::Strategies;
use crate::global_index::{GlobalIndex, Sent};
use crate::io::{Delivery, IndexChange, Recipients, RouteTo, ShardNo, Share, Ticket};
use crate::limits::Limits;
use crate::message::Message;
use crate::presence::bridge_app;
use crate::retained::Retained;
use crate::shard::Shard;
use reveille_proto::bridge::{ACKED, PRESENCE, QUEUED, UNACKED};
use reveille_proto::ids::{AppId, ClientId};
use reveille_proto::mqtt::QoS;
use reveille_proto::topic::{TopicFilter, TopicName};
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Retained topics looked at for one page: under a millisecond among a million.
const LOOKS_MAX: usize = 4096;

/// The global index and the retained messages.
#[derive(Debug)]
pub struct Router {
    index: GlobalIndex,
    retained: HashMap<AppId, Retained<Arc<Message>>>,
    shards: u16,
    limits: Arc<Limits>,
    /// Retained messages of all apps, and their bytes.
    retained_total: (u64, u64),
}

impl Router {
    /// An empty router for that many shards, at most 128.
    pub fn new(shards: u16) -> Self {
        Self {
            index: GlobalIndex::default(),
            retained: HashMap::new(),
            shards,
            limits: Arc::default(),
            retained_total: (0, 0),
        }
    }

    /// A shard's subscriptions changed.
    pub fn apply(&mut self, shard: ShardNo, change: &IndexChange) {
        match change {
            IndexChange::Subscribe(app, subscription) => self.index.subscribe(app, subscription, shard),
            IndexChange::Unsubscribe(app, subscription) => self.index.unsubscribe(app, subscription, shard),
            IndexChange::Online(app, subscription, change) => {
                self.index.member_online(app, subscription, shard, *change);
            }
        }
    }

    /// Who has to do what for this publish. Empty when nobody has.
    pub fn route(&self, message: &Arc<Message>, to: RouteTo, ticket: Ticket) -> Vec<(ShardNo, Delivery)> {
        let delivery = |to| Delivery { message: Arc::clone(message), ticket, to };
        match to {
            RouteTo::Subscribers => self.to_subscribers(message, sender_of(message), &delivery),
            RouteTo::FromClient(sender) => self.to_subscribers(message, sender, &delivery),
            RouteTo::Group(group, filter) => {
                let sent = sent(message, sender_of(message));
                let chosen = self.index.choose(&message.app, &group, &filter, &sent);
                let to = |share| Recipients::Subscribers { plain: false, groups: vec![share], retain: false };
                chosen.map(|(share, shard)| (shard, delivery(to(share)))).into_iter().collect()
            }
            RouteTo::Retained => {
                let to = Recipients::Subscribers { plain: false, groups: Vec::new(), retain: true };
                vec![(self.keeper(&message.app, &message.topic), delivery(to))]
            }
            RouteTo::Sessions(client_ids) => {
                let mut by_shard: BTreeMap<ShardNo, Vec<ClientId>> = BTreeMap::new();
                for client_id in client_ids {
                    let owner = Shard::owner(&message.app, &client_id, self.shards);
                    by_shard.entry(owner).or_default().push(client_id);
                }
                by_shard
                    .into_iter()
                    .map(|(shard, ids)| (shard, delivery(Recipients::Sessions(ids))))
                    .collect()
            }
        }
    }

    fn to_subscribers(
        &self,
        message: &Arc<Message>,
        sender: u64,
        delivery: &dyn Fn(Recipients) -> Delivery,
    ) -> Vec<(ShardNo, Delivery)> {
        let found = self.index.find(&message.app, &sent(message, sender));
        let keeper = message.retain.then(|| self.keeper(&message.app, &message.topic));
        let mut deliveries = Vec::new();
        for shard in (0..self.shards).map(ShardNo) {
            let plain = found.shards.contains(shard);
            let retain = keeper == Some(shard);
            let mine = found.groups.iter().filter(|(_, chosen)| *chosen == shard);
            let groups: Vec<_> = mine.map(|(share, _)| share.clone()).collect();
            if plain || retain || !groups.is_empty() {
                deliveries.push((shard, delivery(Recipients::Subscribers { plain, groups, retain })));
            }
        }
        deliveries
    }

    /// The shard that updates the retained message of a topic: one writer, so memory and disk agree on the last one.
    fn keeper(&self, app: &AppId, topic: &TopicName) -> ShardNo {
        let mut hasher = DefaultHasher::new();
        (app, topic).hash(&mut hasher);
        ShardNo(u16::try_from(hasher.finish() % u64::from(self.shards.max(1))).unwrap_or(0))
    }

    /// What may be retained from now on. What is retained stays.
    pub fn set_limits(&mut self, limits: Arc<Limits>) {
        self.limits = limits;
    }

    /// Whether this publish would be retained where no more may be: then it goes nowhere. Publishes that are on their way
    /// between shards are not counted yet, so the bound may be passed by what mailboxes hold.
    pub fn refuses(&self, message: &Message, to: &RouteTo) -> bool {
        let is_retained = match to {
            RouteTo::Subscribers | RouteTo::FromClient(_) | RouteTo::Retained => message.retain,
            RouteTo::Group(..) | RouteTo::Sessions(_) => false,
        };
        if !is_retained || message.payload.is_empty() {
            return false;
        }
        let known = self.retained.get(&message.app);
        let (count, bytes) = known.map_or((0, 0), |retained| (retained.len() as u64, retained.bytes()));
        let old = known.and_then(|retained| retained.get(&message.topic));
        let (more, bytes_more) = (u64::from(old.is_none()), u64::from(message.size()));
        let freed = old.map_or(0, |old| u64::from(old.size()));
        let (all, all_bytes) = self.retained_total;
        let limits = &self.limits;
        let is_beyond = |used: u64, more: u64, freed: u64, max: u64| {
            used + more > freed.saturating_add(max) && more > freed
        };
        let totals = limits.apps.get(&message.app).map(|app| app.totals).unwrap_or_default();
        is_beyond(all, more, 0, limits.retained_messages_max)
            || is_beyond(all_bytes, bytes_more, freed, limits.retained_bytes_max)
            || is_beyond(count, more, 0, totals.retained_messages_max)
            || is_beyond(bytes, bytes_more, freed, totals.retained_bytes_max)
    }

    /// How groups of shared subscriptions choose from now on.
    pub fn set_strategies(&mut self, strategies: Strategies) {
        self.index.set_strategies(strategies);
    }

    /// A member of a group on this shard is done with a message.
    pub fn release(&self, app: &AppId, share: &Share, shard: ShardNo) {
        self.index.release(app, share, shard);
    }

    /// How many retained messages there are, and the bytes of their topics and payloads.
    pub fn retained_totals(&self) -> (u64, u64) {
        self.retained_total
    }

    /// The retained message of a topic changed.
    pub fn retain(&mut self, app: &AppId, topic: TopicName, message: Option<Arc<Message>>) {
        let of = |router: &Self| {
            router.retained.get(app).map_or((0, 0), |known| (known.len() as u64, known.bytes()))
        };
        let before = of(self);
        self.replace_retained(app, topic, message);
        let (after, total) = (of(self), self.retained_total);
        self.retained_total = (total.0 + after.0 - before.0, total.1 + after.1 - before.1);
    }

    fn replace_retained(&mut self, app: &AppId, topic: TopicName, message: Option<Arc<Message>>) {
        match message {
            Some(message) => {
                let size = message.size();
                self.retained.entry(app.clone()).or_default().set_sized(&topic, message, size);
            }
            None => {
                if let Some(retained) = self.retained.get_mut(app) {
                    retained.remove(&topic);
                }
            }
        }
    }

    /// The retained message of a topic.
    pub fn retained_of(&self, app: &AppId, topic: &TopicName) -> Option<Arc<Message>> {
        self.retained.get(app)?.get(topic).cloned()
    }

    /// The next retained messages under a filter, at most `limit`, and the topic behind which more may follow. Looks at
    /// a bounded number of topics, however few of them match: a page may be empty and not the last.
    pub fn retained(
        &self,
        app: &AppId,
        filter: &TopicFilter,
        after: Option<&TopicName>,
        limit: usize,
    ) -> (Vec<Arc<Message>>, Option<TopicName>) {
        let Some(retained) = self.retained.get(app) else { return (Vec::new(), None) };
        let page = retained.page(filter, after, limit, LOOKS_MAX);
        (page.messages, page.after)
    }

    /// Whether a bridge listens: it subscribed to all that it must not miss.
    pub fn has_bridge(&self) -> bool {
        let listens = |topic: &'static str| {
            TopicName::parse(topic).is_ok_and(|topic| self.index.has_receivers(&bridge_app(), &topic))
        };
        listens(QUEUED) && listens(UNACKED) && listens(ACKED) && listens(PRESENCE)
    }
}

fn sent(message: &Message, sender: u64) -> Sent<'_> {
    Sent { topic: &message.topic, sender, is_acknowledged: message.qos > QoS::AtMostOnce }
}

/// Of a message that no client sends right now: a will, a delayed one, one that is handed over.
fn sender_of(message: &Message) -> u64 {
    message.publisher.map_or(0, |session| mix(session.0))
}
