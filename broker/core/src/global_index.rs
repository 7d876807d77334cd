//! What the whole process must know to route a publish: which shards have receivers.

mod exact;
mod groups;
mod shards;

pub use shards::{SHARDS_MAX, ShardSet};

use crate::collections::{ListMap, NumberMap};
use crate::control::Strategies;
use crate::filter_map::FilterMap;
use crate::io::{ShardNo, Share};
use crate::word_table::WordTable;
use exact::ExactFilter;
use groups::Group;
use reveille_proto::ids::AppId;
use reveille_proto::topic::{Subscription, TopicFilter, TopicName};
use shards::ShardCounts;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// The subscriptions of all shards, app by app. Read at each publish, written when a filter comes or goes.
///
/// No call costs by the number of sessions, filters or groups.
#[derive(Debug, Default)]
pub struct GlobalIndex {
    apps: HashMap<AppId, AppIndex>,
    strategies: Strategies,
}

/// What a choice among the members of a group may depend on.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// Where the message was sent.
    pub topic: &'a TopicName,
    /// A number that only its sender has.
    pub sender: u64,
    /// Whether its receiver will acknowledge it.
    pub is_acknowledged: bool,
}

#[derive(Debug, Default)]
struct AppIndex {
    /// Filters without wildcards, most of them of one device. Only the hash is kept, keyed and of 48 bits: should two
    /// filters ever share it, a shard is asked that has nothing to say. Saves the text of every such filter.
    exact: WordTable,
    /// What does not fit into [`ExactFilter`]: by hash, filters of several shards or many sessions.
    crowded: NumberMap<u64, ShardCounts>,
    wild: FilterMap<ShardCounts>,
    shared: FilterMap<SharedFilter>,
    hasher: RandomState,
}

/// The groups under one filter of shared subscriptions.
#[derive(Debug)]
struct SharedFilter {
    filter: TopicFilter,
    groups: ListMap<Arc<str>, Group>,
}

/// Who takes part in a publish.
#[derive(Debug, Default)]
pub struct Found {
    /// Shards with subscriptions of their own.
    pub shards: ShardSet,
    /// Groups, each with the shard that was chosen.
    pub groups: Vec<(Share, ShardNo)>,
}

impl GlobalIndex {
    /// A session of this shard subscribed. The member of a group counts as offline until
    /// [`GlobalIndex::member_online`] says otherwise.
    pub fn subscribe(&mut self, app: &AppId, subscription: &Subscription, shard: ShardNo) {
        let index = match self.apps.get_mut(app) {
            Some(index) => index,
            None => self.apps.entry(app.clone()).or_default(),
        };
        match &subscription.group {
            Some(group) => index.join(group, &subscription.filter, shard),
            None if subscription.filter.has_wildcard() => index.add_wild(&subscription.filter, shard),
            None => index.add_exact(subscription.filter.as_str(), shard),
        }
    }

    /// A session of this shard unsubscribed; it must have subscribed. A member that is online leaves first, with
    /// [`GlobalIndex::member_online`].
    pub fn unsubscribe(&mut self, app: &AppId, subscription: &Subscription, shard: ShardNo) {
        let Some(index) = self.apps.get_mut(app) else { return };
        match &subscription.group {
            Some(group) => index.leave(group, &subscription.filter, shard),
            None if subscription.filter.has_wildcard() => index.remove_wild(&subscription.filter, shard),
            None => index.remove_exact(subscription.filter.as_str(), shard),
        }
        if index.exact.is_empty() && index.wild.is_empty() && index.shared.is_empty() {
            self.apps.remove(app);
        }
    }

    /// Members of a shared subscription came (positive) or left.
    pub fn member_online(&mut self, app: &AppId, subscription: &Subscription, shard: ShardNo, change: i32) {
        let Some(name) = &subscription.group else { return };
        let filter = self.apps.get_mut(app).and_then(|index| index.shared.get_mut(&subscription.filter));
        if let Some(group) = filter.and_then(|filter| filter.groups.get_mut(name)) {
            group.online(shard, change);
        }
    }

    /// How groups choose from now on.
    pub fn set_strategies(&mut self, strategies: Strategies) {
        self.strategies = strategies;
    }

    /// Who takes part in a publish. Takes a turn in each group.
    pub fn find(&self, app: &AppId, sent: &Sent<'_>) -> Found {
        let mut found = Found::default();
        let Some(index) = self.apps.get(app) else { return found };
        found.shards = index.plain_shards(sent.topic);
        index.shared.for_each_match(sent.topic, &mut |shared| {
            for (name, group) in shared.groups.iter() {
                if let Some((pick, shard)) = group.pick(self.strategies.of(name), sent) {
                    let share = Share { group: name.clone(), filter: shared.filter.clone(), pick };
                    found.groups.push((share, shard));
                }
            }
        });
        found
    }

    /// The shard that is chosen in one group.
    pub fn choose(
        &self,
        app: &AppId,
        group: &Arc<str>,
        filter: &TopicFilter,
        sent: &Sent<'_>,
    ) -> Option<(Share, ShardNo)> {
        let known = self.apps.get(app)?.shared.get(filter)?.groups.get(group)?;
        let (pick, shard) = known.pick(self.strategies.of(group), sent)?;
        Some((Share { group: group.clone(), filter: filter.clone(), pick }, shard))
    }

    /// A member of this shard is done with a message that was counted.
    pub fn release(&self, app: &AppId, share: &Share, shard: ShardNo) {
        let filter = self.apps.get(app).and_then(|index| index.shared.get(&share.filter));
        if let Some(group) = filter.and_then(|filter| filter.groups.get(&share.group)) {
            group.release(shard);
        }
    }

    /// Whether anyone would get a message on this topic. Takes no turn.
    pub fn has_receivers(&self, app: &AppId, topic: &TopicName) -> bool {
        let Some(index) = self.apps.get(app) else { return false };
        let mut has_group = false;
        index.shared.for_each_match(topic, &mut |_| has_group = true);
        has_group || !index.plain_shards(topic).is_empty()
    }
}

impl AppIndex {
    fn plain_shards(&self, topic: &TopicName) -> ShardSet {
        let hash = self.exact_hash(topic.as_str());
        let exact = self.exact_at(hash).map(|(_, known)| known);
        let mut shards = match exact.map(ExactFilter::shard) {
            Some(Some((shard, _))) => ShardCounts::One(shard, 1).set(),
            Some(None) => self.crowded.get(&hash).map(ShardCounts::set).unwrap_or_default(),
            None => ShardSet::default(),
        };
        self.wild.for_each_match(topic, &mut |counts| shards.join(counts.set()));
        shards
    }

    fn add_exact(&mut self, text: &str, shard: ShardNo) {
        let hash = self.exact_hash(text);
        let Some((at, known)) = self.exact_at(hash) else {
            return self.exact.insert(ExactFilter::new(hash, shard, 1).word());
        };
        match known.shard() {
            Some((only, count)) if only == shard && count < exact::COUNT_MAX => {
                self.exact.replace(at, ExactFilter::new(hash, shard, count + 1).word());
            }
            Some((only, count)) => {
                let mut counts = ShardCounts::One(only, count.into());
                counts.add(shard);
                self.crowded.insert(hash, counts);
                self.exact.replace(at, ExactFilter::crowded(hash).word());
            }
            None => {
                if let Some(counts) = self.crowded.get_mut(&hash) {
                    counts.add(shard);
                }
            }
        }
    }

    fn remove_exact(&mut self, text: &str, shard: ShardNo) {
        let hash = self.exact_hash(text);
        let Some((at, known)) = self.exact_at(hash) else { return };
        match known.shard() {
            Some((only, _)) if only != shard => {}
            Some((_, 1)) => self.exact.remove(at),
            Some((_, count)) => self.exact.replace(at, ExactFilter::new(hash, shard, count - 1).word()),
            None => {
                if self.crowded.get_mut(&hash).is_none_or(|counts| counts.remove(shard)) {
                    self.crowded.remove(&hash);
                    self.exact.remove(at);
                }
            }
        }
    }

    fn exact_at(&self, hash: u64) -> Option<(usize, ExactFilter)> {
        let is_it = |word| ExactFilter::of(word).hash() == hash;
        let at = self.exact.find(ExactFilter::table_hash(hash), is_it)?;
        self.exact.word(at).map(|word| (at, ExactFilter::of(word)))
    }

    fn exact_hash(&self, text: &str) -> u64 {
        self.hasher.hash_one(text) >> exact::REST_BITS
    }

    fn add_wild(&mut self, filter: &TopicFilter, shard: ShardNo) {
        match self.wild.get_mut(filter) {
            Some(counts) => counts.add(shard),
            None => drop(self.wild.insert(filter, ShardCounts::One(shard, 1))),
        }
    }

    fn remove_wild(&mut self, filter: &TopicFilter, shard: ShardNo) {
        if self.wild.get_mut(filter).is_some_and(|counts| counts.remove(shard)) {
            self.wild.remove(filter);
        }
    }

    fn join(&mut self, group: &Arc<str>, filter: &TopicFilter, shard: ShardNo) {
        if self.shared.get(filter).is_none() {
            let fresh = SharedFilter { filter: filter.clone(), groups: ListMap::new() };
            self.shared.insert(filter, fresh);
        }
        let Some(shared) = self.shared.get_mut(filter) else { return };
        if shared.groups.get(group).is_none() {
            shared.groups.insert(group.clone(), Group::default());
        }
        if let Some(known) = shared.groups.get_mut(group) {
            known.join(shard);
        }
    }

    fn leave(&mut self, group: &Arc<str>, filter: &TopicFilter, shard: ShardNo) {
        let Some(shared) = self.shared.get_mut(filter) else { return };
        let Some(known) = shared.groups.get_mut(group) else { return };
        known.leave(shard);
        if known.is_empty() {
            shared.groups.remove(group);
        }
        if shared.groups.is_empty() {
            self.shared.remove(filter);
        }
    }
}

#[cfg(test)]
mod tests;
