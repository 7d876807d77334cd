use super::*;
use crate::collections::mix;
use crate::control::Strategy as How;
use crate::io::Pick;
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
    assert_eq!(size_of::<ExactFilter>(), 8);
}

#[test]
fn a_filter_of_very_many_on_one_shard_and_one_on_another_goes_and_comes_again() {
    const MANY: u32 = 300; // more than an `ExactFilter` counts
    let (app, news) = (AppId::default(), subscription("news"));
    let topic = TopicName::parse("news").unwrap();
    let shards = |index: &GlobalIndex| index.find(&app, &sent(&topic, 0)).shards.iter().collect::<Vec<_>>();
    let (first, second) = (ShardNo(3), ShardNo(70));
    let mut index = GlobalIndex::default();
    for _ in 0..2 {
        for _ in 0..MANY {
            index.subscribe(&app, &news, first);
        }
        assert_eq!(shards(&index), [first]);
        for _ in 1..MANY {
            index.unsubscribe(&app, &news, first);
        }
        index.subscribe(&app, &news, second);
        assert_eq!(shards(&index), [first, second], "one is left on the first");
        index.unsubscribe(&app, &news, first);
        assert_eq!(shards(&index), [second]);
        index.unsubscribe(&app, &news, second);
        assert_eq!(shards(&index), []);
        assert!(index.apps.is_empty());
    }
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
    assert_eq!(turns(&index, &jobs, 60), [(0, 10), (1, 30), (5, 20)].into(), "nobody is online: all count");
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

/// shard -> (all, online).
type Members = BTreeMap<u16, (u32, u32)>;

#[derive(Default)]
struct Model {
    /// (filter, shard) -> how many.
    plain: BTreeMap<(TopicFilter, u16), u32>,
    /// (group, filter) -> its members.
    groups: BTreeMap<(Arc<str>, TopicFilter), Members>,
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

    fn may_be_chosen(&self, group: &Arc<str>, filter: &TopicFilter) -> Vec<u16> {
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
