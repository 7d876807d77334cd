//! What the whole process must know to route a publish: which shards have receivers.

use crate::collections::{ListMap, mix};
use crate::control::{Strategies, Strategy};
use crate::filter_map::FilterMap;
use crate::io::{Pick, ShardNo, Share};
use bytestring::ByteString;
use hashbrown::HashTable;
use reveille_proto::ids::AppId;
use reveille_proto::topic::{Subscription, TopicFilter, TopicName};
use std::collections::HashMap;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};

/// Shards that a [`ShardSet`] can hold, and so the most that a broker may have.
pub const SHARDS_MAX: u16 = 128;

/// A set of shards below [`SHARDS_MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet(u128);

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
    /// Filters without wildcards, most of them of one device. Only the hash is kept, keyed and of 64 bits: should two
    /// filters ever share it, a shard is asked that has nothing to say. Saves the text of every such filter.
    exact: HashTable<ExactFilter>,
    wild: FilterMap<ShardCounts>,
    shared: FilterMap<SharedFilter>,
    hasher: RandomState,
}

#[derive(Debug)]
struct ExactFilter {
    hash: u64,
    counts: ShardCounts,
}

/// How many subscriptions each shard has; the last one of a shard takes its bit with it.
#[derive(Debug)]
enum ShardCounts {
    One(ShardNo, u32),
    Many(Box<ManyShards>),
}

#[derive(Debug)]
struct ManyShards {
    set: ShardSet,
    /// At most [`SHARDS_MAX`].
    counts: Vec<(ShardNo, u32)>,
}

/// The groups under one filter of shared subscriptions.
#[derive(Debug)]
struct SharedFilter {
    filter: TopicFilter,
    groups: ListMap<ByteString, Group>,
}

/// The members of one group, shard by shard.
#[derive(Debug, Default)]
struct Group {
    /// At most [`SHARDS_MAX`], ordered.
    shards: Vec<(ShardNo, Members, Load)>,
    /// How far apart two turns are among the weights.
    stride: u32,
    /// Atomic because turns are taken under a read lock.
    turn: AtomicU32,
}

/// Messages on their way to the members of one shard. Counted where the strategy asks for it; atomic like the turn.
#[derive(Debug, Default)]
struct Load(AtomicU32);

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
    /// Groups, each with the shard that was chosen.
    pub groups: Vec<(Share, ShardNo)>,
}

impl ShardSet {
    /// Adds one.
    pub fn insert(&mut self, shard: ShardNo) {
        debug_assert!(shard.0 < SHARDS_MAX, "a broker has at most so many shards");
        self.0 |= bit(shard);
    }

    /// Takes one out.
    pub fn remove(&mut self, shard: ShardNo) {
        self.0 &= !bit(shard);
    }

    /// Whether it is in.
    pub fn contains(self, shard: ShardNo) -> bool {
        self.0 & bit(shard) != 0
    }

    /// Whether none is in.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The shards in it, the lowest first.
    pub fn iter(self) -> impl Iterator<Item = ShardNo> {
        (0..SHARDS_MAX).map(ShardNo).filter(move |shard| self.contains(*shard))
    }
}

fn bit(shard: ShardNo) -> u128 {
    1_u128.checked_shl(u32::from(shard.0)).unwrap_or(0)
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
            group.change(shard, |members| members.online = members.online.saturating_add_signed(change));
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
        group: &ByteString,
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
        let hash = self.hasher.hash_one(topic.as_str());
        let exact = self.exact.find(hash, |known| known.hash == hash);
        let mut shards = exact.map(|known| known.counts.set()).unwrap_or_default();
        self.wild.for_each_match(topic, &mut |counts| shards.0 |= counts.set().0);
        shards
    }

    fn add_exact(&mut self, text: &str, shard: ShardNo) {
        let hash = self.hasher.hash_one(text);
        match self.exact.find_mut(hash, |known| known.hash == hash) {
            Some(known) => known.counts.add(shard),
            None => {
                let fresh = ExactFilter { hash, counts: ShardCounts::One(shard, 1) };
                self.exact.insert_unique(hash, fresh, |known| known.hash);
            }
        }
    }

    fn remove_exact(&mut self, text: &str, shard: ShardNo) {
        let hash = self.hasher.hash_one(text);
        if let Ok(mut found) = self.exact.find_entry(hash, |known| known.hash == hash)
            && found.get_mut().counts.remove(shard)
        {
            found.remove();
        }
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

    fn join(&mut self, group: &ByteString, filter: &TopicFilter, shard: ShardNo) {
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

    fn leave(&mut self, group: &ByteString, filter: &TopicFilter, shard: ShardNo) {
        let Some(shared) = self.shared.get_mut(filter) else { return };
        let Some(known) = shared.groups.get_mut(group) else { return };
        known.change(shard, |members| members.all = members.all.saturating_sub(1));
        if known.shards.is_empty() {
            shared.groups.remove(group);
        }
        if shared.groups.is_empty() {
            self.shared.remove(filter);
        }
    }
}

impl ShardCounts {
    fn set(&self) -> ShardSet {
        match self {
            Self::One(shard, _) => ShardSet(bit(*shard)),
            Self::Many(many) => many.set,
        }
    }

    fn add(&mut self, shard: ShardNo) {
        match self {
            Self::One(only, count) if *only == shard => *count += 1,
            Self::One(only, count) => {
                let counts = vec![(*only, *count), (shard, 1)];
                *self = Self::Many(Box::new(ManyShards { set: ShardSet(bit(*only) | bit(shard)), counts }));
            }
            Self::Many(many) => many.add(shard),
        }
    }

    /// Whether nothing is left.
    fn remove(&mut self, shard: ShardNo) -> bool {
        match self {
            Self::One(only, _) if *only != shard => false,
            Self::One(_, count) => {
                *count -= 1;
                *count == 0
            }
            Self::Many(many) => {
                many.remove(shard);
                if let [(only, count)] = many.counts.as_slice() {
                    *self = Self::One(*only, *count);
                }
                false
            }
        }
    }
}

impl ManyShards {
    fn add(&mut self, shard: ShardNo) {
        self.set.insert(shard);
        match self.counts.iter_mut().find(|(known, _)| *known == shard) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((shard, 1)),
        }
    }

    fn remove(&mut self, shard: ShardNo) {
        let Some(place) = self.counts.iter().position(|(known, _)| *known == shard) else { return };
        let Some((_, count)) = self.counts.get_mut(place) else { return };
        *count -= 1;
        if *count == 0 {
            self.counts.swap_remove(place);
            self.set.remove(shard);
        }
    }
}

impl Group {
    fn join(&mut self, shard: ShardNo) {
        if let Err(place) = self.shards.binary_search_by_key(&shard, |(known, ..)| *known) {
            self.shards.insert(place, (shard, Members::default(), Load::default()));
        }
        self.change(shard, |members| members.all += 1);
    }

    fn change(&mut self, shard: ShardNo, change: impl FnOnce(&mut Members)) {
        let Ok(place) = self.shards.binary_search_by_key(&shard, |(known, ..)| *known) else { return };
        let Some((_, members, _)) = self.shards.get_mut(place) else { return };
        change(members);
        members.online = members.online.min(members.all);
        if members.all == 0 {
            self.shards.remove(place);
        }
        let (_, total) = self.weights();
        self.stride = stride(total);
    }

    /// What a shard weighs, and the sum: members that are online, all members where none is.
    fn weights(&self) -> (fn(&Members) -> u32, u32) {
        let online = self.shards.iter().map(|(_, members, _)| members.online).sum();
        if online > 0 {
            return (|members| members.online, online);
        }
        (|members| members.all, self.shards.iter().map(|(_, members, _)| members.all).sum())
    }

    /// The shard, and how it shall choose among its members: by the same strategy.
    fn pick(&self, strategy: Strategy, sent: &Sent<'_>) -> Option<(Pick, ShardNo)> {
        match strategy {
            Strategy::RoundRobin => self.choose().map(|shard| (Pick::Turn, shard)),
            Strategy::HashTopic => self.hashed(hash_of(sent.topic)),
            Strategy::HashClient => self.hashed(sent.sender),
            Strategy::LeastInFlight => self.least_loaded(sent.is_acknowledged),
        }
    }

    /// Rendezvous: each shard draws a number by the hash and its weight, the highest wins. So a shard that comes or goes
    /// moves only what it wins or had won.
    fn hashed(&self, hash: u64) -> Option<(Pick, ShardNo)> {
        let (weight, _) = self.weights();
        let drawn =
            self.shards.iter().filter(|(_, members, _)| weight(members) > 0).map(|(shard, members, _)| {
                let mixed = mix(hash ^ mix(u64::from(shard.0)));
                let fraction = (mixed >> 11) as f64 / (1_u64 << 53) as f64; // 0 to 1
                (*shard, fraction.max(f64::MIN_POSITIVE).ln() / f64::from(weight(members)))
            });
        let (shard, _) = drawn.max_by(|left, right| left.1.total_cmp(&right.1))?;
        Some((Pick::Hash(hash), shard))
    }

    /// The shard with the fewest messages on their way to each of its members; among equals the one whose turn it is.
    fn least_loaded(&self, is_counted: bool) -> Option<(Pick, ShardNo)> {
        let (weight, _) = self.weights();
        let first = self.turn.fetch_add(1, Ordering::Relaxed) as usize % self.shards.len().max(1);
        let (before, after) = self.shards.split_at_checked(first)?;
        let candidates = after.iter().chain(before).filter(|(_, members, _)| weight(members) > 0);
        let load_of = |(_, members, load): &&(ShardNo, Members, Load)| {
            u64::from(load.0.load(Ordering::Relaxed)) * u64::from(u16::MAX) / u64::from(weight(members))
        };
        let (shard, _, load) = candidates.min_by_key(load_of)?;
        if is_counted {
            load.0.fetch_add(1, Ordering::Relaxed);
        }
        Some((Pick::Least(is_counted), *shard))
    }

    fn release(&self, shard: ShardNo) {
        let Ok(place) = self.shards.binary_search_by_key(&shard, |(known, ..)| *known) else { return };
        let Some((_, _, load)) = self.shards.get(place) else { return };
        let less = |load: u32| load.checked_sub(1); // of members that left before, nothing is counted any more
        let _ = load.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Round robin: as many turns in a row as there are members give each shard exactly as many as it has, and
    /// spread them, so that a large shard does not get a thousand messages before the next one gets its first.
    fn choose(&self) -> Option<ShardNo> {
        let (weight, total) = self.weights();
        let turn = u64::from(self.turn.fetch_add(1, Ordering::Relaxed));
        let mut left = (turn * u64::from(self.stride)).checked_rem(u64::from(total))?;
        for (shard, members, _) in &self.shards {
            match left.checked_sub(u64::from(weight(members))) {
                Some(rest) => left = rest,
                None => return Some(*shard),
            }
        }
        None
    }
}

/// Fixed keys: the same in every shard and every run.
fn hash_of(topic: &TopicName) -> u64 {
    let mut hasher = DefaultHasher::new();
    topic.hash(&mut hasher);
    hasher.finish()
}

/// A step that visits every number below `total` once before it returns to the first, and neighbours far apart:
/// without a common divisor, near the golden section of `total`.
fn stride(total: u32) -> u32 {
    let golden = u32::try_from(u64::from(total) * 618 / 1000).unwrap_or(0).max(1);
    (golden..).find(|step| greatest_common_divisor(*step, total) <= 1).unwrap_or(1)
}

fn greatest_common_divisor(mut left: u32, mut right: u32) -> u32 {
    while right > 0 {
        (left, right) = (right, left % right);
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Strategy as How;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn subscription(text: &str) -> Subscription {
        Subscription::parse(text).unwrap()
    }

    fn turns(index: &GlobalIndex, subscription: &Subscription, count: u32) -> BTreeMap<u16, u32> {
        let group = subscription.group.as_ref().unwrap();
        let mut turns = BTreeMap::new();
        for _ in 0..count {
            let topic = TopicName::parse("jobs/1").unwrap();
            let (_, shard) =
                index.choose(&AppId::default(), group, &subscription.filter, &sent(&topic, 0)).unwrap();
            *turns.entry(shard.0).or_default() += 1;
        }
        turns
    }

    fn sent(topic: &TopicName, sender: u64) -> Sent<'_> {
        Sent { topic, sender, is_acknowledged: true }
    }

    fn strategic(default: How, members: &[u16]) -> (GlobalIndex, Subscription) {
        let jobs = subscription("$share/工人/jobs/#");
        let mut index = GlobalIndex::default();
        index.set_strategies(Strategies { default, by_prefix: Vec::new() });
        for shard in members {
            index.subscribe(&AppId::default(), &jobs, ShardNo(*shard));
            index.member_online(&AppId::default(), &jobs, ShardNo(*shard), 1);
        }
        (index, jobs)
    }

    fn picked(index: &GlobalIndex, jobs: &Subscription, topic: &str, sender: u64) -> (Share, ShardNo) {
        let topic = TopicName::parse(topic.to_owned()).unwrap();
        let group = jobs.group.as_ref().unwrap();
        index.choose(&AppId::default(), group, &jobs.filter, &sent(&topic, sender)).unwrap()
    }

    #[test]
    fn a_hash_goes_to_the_same_shard_and_to_all_of_them_by_their_members() {
        let (index, jobs) = strategic(How::HashTopic, &[0, 1, 1, 1]);
        let mut counts = BTreeMap::new();
        for topic in 0..2_000 {
            let topic = format!("jobs/{topic}");
            let first = picked(&index, &jobs, &topic, 1);
            assert_eq!(first, picked(&index, &jobs, &topic, 2), "whoever sends it");
            *counts.entry(first.1.0).or_insert(0) += 1;
        }
        assert!((400..600).contains(&counts[&0]), "a member of four: {counts:?}");
        let (index, jobs) = strategic(How::HashClient, &[0, 1, 1, 1]);
        for sender in 0..100 {
            let sender = mix(sender);
            assert_eq!(picked(&index, &jobs, "jobs/a", sender).1, picked(&index, &jobs, "jobs/b", sender).1);
        }
    }

    #[test]
    fn a_shard_that_leaves_moves_only_its_own() {
        let (mut index, jobs) = strategic(How::HashTopic, &[0, 1, 2]);
        let topics: Vec<String> = (0..500).map(|topic| format!("jobs/{topic}")).collect();
        let shard_of = |index: &GlobalIndex, topic: &str| picked(index, &jobs, topic, 0).1;
        let before: Vec<ShardNo> = topics.iter().map(|topic| shard_of(&index, topic)).collect();
        index.member_online(&AppId::default(), &jobs, ShardNo(1), -1);
        for (topic, before) in topics.iter().zip(before) {
            let after = shard_of(&index, topic);
            assert!(after == before || before == ShardNo(1), "{topic}: {before:?} to {after:?}");
            assert_ne!(after, ShardNo(1), "nobody is online there");
        }
    }

    #[test]
    fn the_least_loaded_shard_gets_the_next_one() {
        let (index, jobs) = strategic(How::LeastInFlight, &[0, 1, 1]);
        let mut counts = BTreeMap::new();
        for _ in 0..30 {
            *counts.entry(picked(&index, &jobs, "jobs/1", 0).1.0).or_insert(0) += 1;
        }
        assert_eq!(counts, [(0, 10), (1, 20)].into(), "each member has ten");
        let share = picked(&index, &jobs, "jobs/1", 0).0;
        assert_eq!(share.pick, Pick::Least(true));
        for _ in 0..10 {
            index.release(&AppId::default(), &share, ShardNo(0));
        }
        for _ in 0..9 {
            assert_eq!(picked(&index, &jobs, "jobs/1", 0).1, ShardNo(0), "it has nothing to do");
        }
    }

    #[test]
    fn a_filter_of_one_shard_is_small() {
        assert_eq!(size_of::<ExactFilter>(), 24);
    }

    #[test]
    fn a_set_holds_every_shard() {
        let mut set = ShardSet::default();
        for shard in [0, 64, 127].map(ShardNo) {
            set.insert(shard);
            assert!(set.contains(shard));
        }
        set.remove(ShardNo(64));
        assert_eq!(set.iter().collect::<Vec<_>>(), [ShardNo(0), ShardNo(127)]);
    }

    #[test]
    fn groups_go_to_shards_by_members_that_are_online() {
        let (app, jobs) = (AppId::default(), subscription("$share/工人/jobs/#"));
        let mut index = GlobalIndex::default();
        for shard in [0, 1, 1, 1, 5, 5] {
            index.subscribe(&app, &jobs, ShardNo(shard));
        }
        assert_eq!(
            turns(&index, &jobs, 60),
            [(0, 10), (1, 30), (5, 20)].into(),
            "nobody is online: all count"
        );
        index.member_online(&app, &jobs, ShardNo(5), 2);
        assert_eq!(turns(&index, &jobs, 60), [(5, 60)].into());
        index.member_online(&app, &jobs, ShardNo(0), 1);
        assert_eq!(turns(&index, &jobs, 60), [(0, 20), (5, 40)].into());
        index.member_online(&app, &jobs, ShardNo(5), -2);
        assert_eq!(turns(&index, &jobs, 60), [(0, 60)].into());
        for shard in [0, 1, 1, 5, 5, 1] {
            index.unsubscribe(&app, &jobs, ShardNo(shard));
        }
        assert!(index.apps.is_empty(), "the last member takes everything with it");
    }

    #[test]
    fn turns_of_large_shards_are_spread() {
        let (app, jobs) = (AppId::default(), subscription("$share/g/jobs"));
        let mut index = GlobalIndex::default();
        for shard in [3, 4] {
            (0..50_000).for_each(|_| index.subscribe(&app, &jobs, ShardNo(shard)));
        }
        for _ in 0..100 {
            let counts = turns(&index, &jobs, 10);
            assert!(counts.values().all(|count| (3..=7).contains(count)), "{counts:?}");
        }
    }

    #[test]
    fn apps_do_not_see_each_other() {
        let (shop, game) = (AppId::parse("shop").unwrap(), AppId::parse("game").unwrap());
        let mut index = GlobalIndex::default();
        let topic = TopicName::parse("a").unwrap();
        for text in ["a", "#", "$share/g/a"] {
            index.subscribe(&shop, &subscription(text), ShardNo(0));
        }
        assert!(index.has_receivers(&shop, &topic) && !index.has_receivers(&game, &topic));
        let found = index.find(&game, &sent(&topic, 0));
        assert!(found.shards.is_empty() && found.groups.is_empty());
    }

    #[derive(Default)]
    struct Model {
        /// (filter, shard) -> how many.
        plain: BTreeMap<(TopicFilter, u16), u32>,
        /// (group, filter) -> shard -> (all, online).
        groups: BTreeMap<(ByteString, TopicFilter), BTreeMap<u16, (u32, u32)>>,
    }

    impl Model {
        /// Whether the call makes sense and was carried out.
        fn apply(&mut self, call: u8, subscription: &Subscription, shard: u16) -> bool {
            let filter = subscription.filter.clone();
            let Some(group) = subscription.group.clone() else {
                let count = self.plain.entry((filter, shard)).or_default();
                match call {
                    0 => *count += 1,
                    1 if *count > 0 => *count -= 1,
                    _ => return false,
                }
                return true;
            };
            let (all, online) = self.groups.entry((group, filter)).or_default().entry(shard).or_default();
            match call {
                0 => *all += 1,
                1 if all > online => *all -= 1,
                2 if all > online => *online += 1,
                3 if *online > 0 => *online -= 1,
                _ => return false,
            }
            true
        }

        fn may_be_chosen(&self, group: &ByteString, filter: &TopicFilter) -> Vec<u16> {
            let shards = &self.groups[&(group.clone(), filter.clone())];
            let any_online = shards.values().any(|(_, online)| *online > 0);
            let weighs =
                |(_, (all, online)): &(&u16, &(u32, u32))| if any_online { *online > 0 } else { *all > 0 };
            shards.iter().filter(weighs).map(|(shard, _)| *shard).collect()
        }
    }

    proptest! {
        #[test]
        fn the_index_finds_who_subscribed(
            calls in prop::collection::vec((0..4_u8, 0..9_usize, 0..5_u16), 1..200),
        ) {
            let texts = ["a", "a/b", "#", "+/b", "设备/+", "设备/1", "$share/g/a/#", "$share/g/+/b", "$share/h/a/#"];
            let subscriptions = texts.map(subscription);
            let (app, mut index, mut model) = (AppId::default(), GlobalIndex::default(), Model::default());
            for (call, at, shard) in calls {
                let subscription = &subscriptions[at];
                if !model.apply(call, subscription, shard) {
                    continue;
                }
                match call {
                    0 => index.subscribe(&app, subscription, ShardNo(shard)),
                    1 => index.unsubscribe(&app, subscription, ShardNo(shard)),
                    2 => index.member_online(&app, subscription, ShardNo(shard), 1),
                    _ => index.member_online(&app, subscription, ShardNo(shard), -1),
                }
            }
            for topic in ["a", "a/b", "设备/1", "x"].map(|text| TopicName::parse(text).unwrap()) {
                let found = index.find(&app, &sent(&topic, 0));
                let plain = model.plain.iter().filter(|((filter, _), count)| **count > 0 && filter.matches(&topic));
                let mut wanted: Vec<_> = plain.map(|((_, shard), _)| ShardNo(*shard)).collect();
                wanted.sort_unstable();
                wanted.dedup();
                prop_assert_eq!(found.shards.iter().collect::<Vec<_>>(), wanted);
                for (share, shard) in &found.groups {
                    prop_assert!(model.may_be_chosen(&share.group, &share.filter).contains(&shard.0));
                }
                let groups = model.groups.iter().filter(|((_, filter), shards)| {
                    filter.matches(&topic) && shards.values().any(|(all, _)| *all > 0)
                });
                prop_assert_eq!(found.groups.len(), groups.count());
            }
            if model.plain.values().all(|count| *count == 0)
                && model.groups.values().flat_map(BTreeMap::values).all(|(all, _)| *all == 0) {
                prop_assert!(index.apps.is_empty());
            }
        }
    }
}
