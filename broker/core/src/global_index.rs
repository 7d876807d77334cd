//! What the whole process must know to route a publish: which shards have receivers.

use crate::io::ShardNo;
use bytestring::ByteString;
use reveille_proto::ids::AppId;
use reveille_proto::topic::{Subscription, TopicFilter, TopicName};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::subscriptions::FilterIndex;

/// Shards, as bits: at most 128.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet(u128);

impl ShardSet {
    /// Adds one.
    pub fn insert(&mut self, shard: ShardNo) {
        self.0 |= 1u128.checked_shl(u32::from(shard.0)).unwrap_or(0);
    }

    /// Whether it is in.
    pub fn contains(self, shard: ShardNo) -> bool {
        self.0 & 1u128.checked_shl(u32::from(shard.0)).unwrap_or(0) != 0
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct GlobalIndex {
    apps: HashMap<AppId, AppIndex>,
}

#[derive(Debug, Default)]
struct AppIndex {
    plain: FilterIndex<u16, u32>,
    shared: FilterIndex<u32, ()>,
    names: HashMap<(ByteString, TopicFilter), u32>,
    groups: HashMap<u32, Group>,
    next_group: u32,
}

#[derive(Debug)]
struct Group {
    name: (ByteString, TopicFilter),
    shards: HashMap<u16, Members>,
    turn: AtomicUsize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Members {
    all: u32,
    online: u32,
}

/// Who takes part in a publish.
#[derive(Debug, Default)]
pub struct Found {
    /// Shards with subscriptions of their own.
    pub shards: ShardSet,
    /// Groups, each with the shard whose turn it is.
    pub groups: Vec<(ByteString, TopicFilter, ShardNo)>,
}

impl GlobalIndex {
    /// A session of this shard subscribed.
    pub fn subscribe(&mut self, app: &AppId, subscription: &Subscription, shard: ShardNo) {
        let index = self.apps.entry(app.clone()).or_default();
        let Some(group) = &subscription.group else {
            let count = index.plain.get(&subscription.filter, shard.0).copied().unwrap_or(0);
            index.plain.insert(&subscription.filter, shard.0, count + 1);
            return;
        };
        let name = (group.clone(), subscription.filter.clone());
        let number = *index.names.entry(name.clone()).or_insert_with(|| {
            index.next_group += 1;
            index.next_group
        });
        let new = || Group { name, shards: HashMap::new(), turn: AtomicUsize::new(0) };
        let group = index.groups.entry(number).or_insert_with(new);
        group.shards.entry(shard.0).or_default().all += 1;
        index.shared.insert(&subscription.filter, number, ());
    }

    /// A session of this shard unsubscribed.
    pub fn unsubscribe(&mut self, app: &AppId, subscription: &Subscription, shard: ShardNo) {
        let Some(index) = self.apps.get_mut(app) else { return };
        let Some(group) = &subscription.group else {
            match index.plain.get(&subscription.filter, shard.0).copied().unwrap_or(0) {
                0 | 1 => index.plain.remove(&subscription.filter, shard.0),
                count => index.plain.insert(&subscription.filter, shard.0, count - 1),
            };
            return;
        };
        let name = (group.clone(), subscription.filter.clone());
        let Some(number) = index.names.get(&name).copied() else { return };
        let Some(group) = index.groups.get_mut(&number) else { return };
        if let Some(members) = group.shards.get_mut(&shard.0) {
            members.all = members.all.saturating_sub(1);
            if members.all == 0 {
                group.shards.remove(&shard.0);
            }
        }
        if group.shards.is_empty() {
            index.groups.remove(&number);
            index.names.remove(&name);
            index.shared.remove(&subscription.filter, number);
        }
    }

    /// Members of a shared subscription came (positive) or left.
    pub fn member_online(&mut self, app: &AppId, subscription: &Subscription, shard: ShardNo, change: i32) {
        let Some(index) = self.apps.get_mut(app) else { return };
        let Some(group) = &subscription.group else { return };
        let Some(number) = index.names.get(&(group.clone(), subscription.filter.clone())) else { return };
        let members = index.groups.get_mut(number).and_then(|group| group.shards.get_mut(&shard.0));
        if let Some(members) = members {
            members.online = members.online.saturating_add_signed(change);
        }
    }

    /// Who takes part in a publish on this topic.
    pub fn find(&self, app: &AppId, topic: &TopicName) -> Found {
        let mut found = Found::default();
        let Some(index) = self.apps.get(app) else { return found };
        index.plain.for_each_match(topic, &mut |shard, _| found.shards.insert(ShardNo(shard)));
        index.shared.for_each_match(topic, &mut |number, ()| {
            let Some(group) = index.groups.get(&number) else { return };
            if let Some(shard) = group.choose() {
                found.groups.push((group.name.0.clone(), group.name.1.clone(), shard));
            }
        });
        found
    }

    /// The shard whose turn it is in one group.
    pub fn choose(&self, app: &AppId, group: &ByteString, filter: &TopicFilter) -> Option<ShardNo> {
        let index = self.apps.get(app)?;
        index.groups.get(index.names.get(&(group.clone(), filter.clone()))?)?.choose()
    }

    /// Whether anyone would get a message on this topic.
    pub fn has_receivers(&self, app: &AppId, topic: &TopicName) -> bool {
        let found = self.find(app, topic);
        found.shards != ShardSet::default() || !found.groups.is_empty()
    }
}

impl Group {
    /// Round robin over online members, over all where none is online.
    fn choose(&self) -> Option<ShardNo> {
        let any_online = self.shards.values().any(|members| members.online > 0);
        let weight = |members: &Members| if any_online { members.online } else { members.all };
        let total: u32 = self.shards.values().map(weight).sum();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut left = u32::try_from(turn % (total.max(1) as usize)).unwrap_or(0);
        let mut shards: Vec<_> = self.shards.iter().collect();
        shards.sort_by_key(|(shard, _)| **shard);
        for (shard, members) in shards {
            match left.checked_sub(weight(members)) {
                Some(rest) => left = rest,
                None => return Some(ShardNo(*shard)),
            }
        }
        None
    }
}
