//! Shared subscriptions of one app on one shard: groups, their members, and whose turn it is.

use crate::change::Granted;
use crate::collections::ListMap;
use crate::filter_map::FilterMap;
use reveille_proto::topic::{TopicFilter, TopicName};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Members asked in one choice whether they are preferred, before any member will do.
const LOOKS_MAX: usize = 64;

/// Members out of favour that are asked again in each choice, even while others are in favour.
const SECOND_CHANCES: usize = 2;

/// The groups of all shared subscriptions. `K` is a small number of a session.
///
/// No call costs by the number of sessions, filters, groups or members; the last member takes the group with it.
#[derive(Debug)]
pub struct SharedGroups<K> {
    filters: FilterMap<ListMap<Arc<str>, Group<K>>>,
}

/// The members of one group under one filter.
///
/// ```text
/// members   | in favour: asked first, in turn | out of favour: asked now and then |
///            0                         favoured                              len
/// ```
/// A member starts in favour. It falls out when it was asked and is not preferred (offline), and comes back when
/// it is asked again and is, or with [`SharedGroups::favour`].
pub struct Group<K> {
    members: ListMap<K, Granted>,
    favoured: usize,
    turn: usize,
    second_turn: usize,
}

impl<K> Default for SharedGroups<K> {
    fn default() -> Self {
        Self { filters: FilterMap::default() }
    }
}

impl<K: Copy + Eq + Hash> SharedGroups<K> {
    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// A member joins, or changes how it subscribed.
    pub fn insert(&mut self, group: &Arc<str>, filter: &TopicFilter, key: K, granted: Granted) {
        if self.filters.get(filter).is_none() {
            self.filters.insert(filter, ListMap::new());
        }
        let Some(groups) = self.filters.get_mut(filter) else { return };
        match groups.get_mut(group) {
            Some(known) => known.insert(key, granted),
            None => {
                let mut fresh = Group::default();
                fresh.insert(key, granted);
                groups.insert(group.clone(), fresh);
            }
        }
    }

    /// A member leaves.
    pub fn remove(&mut self, group: &Arc<str>, filter: &TopicFilter, key: K) {
        let Some(groups) = self.filters.get_mut(filter) else { return };
        let Some(members) = groups.get_mut(group) else { return };
        members.remove(key);
        if members.is_empty() {
            groups.remove(group);
        }
        if groups.is_empty() {
            self.filters.remove(filter);
        }
    }

    /// A member came back (or has room again): it is asked in its turn from now on.
    pub fn favour(&mut self, group: &Arc<str>, filter: &TopicFilter, key: K) {
        if let Some(group) = self.group_mut(group, filter)
            && let Some(place) = group.members.place(&key)
        {
            group.favour(place);
        }
    }

    /// The member whose turn it is, see [`Group::choose`].
    pub fn choose(
        &mut self,
        group: &Arc<str>,
        filter: &TopicFilter,
        is_preferred: impl Fn(K) -> bool,
    ) -> Option<(K, Granted)> {
        self.group_mut(group, filter)?.choose(is_preferred)
    }

    /// The member that a hash belongs to, see [`Group::hashed`].
    pub fn hashed(
        &mut self,
        group: &Arc<str>,
        filter: &TopicFilter,
        hash: u64,
        is_preferred: impl Fn(K) -> bool,
    ) -> Option<(K, Granted)> {
        self.group_mut(group, filter)?.hashed(hash, is_preferred)
    }

    /// The member with the fewest messages, see [`Group::least`].
    pub fn least(
        &mut self,
        group: &Arc<str>,
        filter: &TopicFilter,
        load: impl Fn(K) -> usize,
        is_preferred: impl Fn(K) -> bool,
    ) -> Option<(K, Granted)> {
        self.group_mut(group, filter)?.least(load, is_preferred)
    }

    /// Calls `visit` with the name and the members of each group whose filter matches `topic`.
    pub fn for_each_match(&self, topic: &TopicName, visit: &mut impl FnMut(&Arc<str>, &Group<K>)) {
        self.filters.for_each_match(topic, &mut |groups| {
            groups.iter().for_each(|(name, group)| visit(name, group));
        });
    }

    fn group_mut(&mut self, group: &Arc<str>, filter: &TopicFilter) -> Option<&mut Group<K>> {
        self.filters.get_mut(filter)?.get_mut(group)
    }
}

impl<K: Eq + Hash> Default for Group<K> {
    fn default() -> Self {
        Self { members: ListMap::new(), favoured: 0, turn: 0, second_turn: 0 }
    }
}

impl<K: Copy + Eq + Hash> Group<K> {
    /// How many members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Everyone in it.
    pub fn members(&self) -> impl Iterator<Item = K> {
        self.members.iter().map(|(key, _)| *key)
    }

    /// The next member in turn that is preferred (online, with room); any member in turn when none was found.
    ///
    /// Asks at most 64 members: of a group with more than that out of favour, one that came back unnoticed may be
    /// found some choices later only.
    pub fn choose(&mut self, is_preferred: impl Fn(K) -> bool) -> Option<(K, Granted)> {
        let mut looks = LOOKS_MAX;
        let first = self.choose_favoured(&is_preferred, &mut looks);
        let chances = if first.is_some() { SECOND_CHANCES } else { looks };
        let second = self.look_for_returned(&is_preferred, chances, first.is_none());
        first.or(second).or_else(|| self.choose_any())
    }

    /// The same member for the same hash, while none comes, goes, or is preferred or not any more; then only what belongs
    /// to that member moves. Of more than 64 members the 64 from the hash's place on are asked: there the place of some
    /// changes with who comes and goes, and what belongs to them moves too.
    pub fn hashed(&mut self, hash: u64, is_preferred: impl Fn(K) -> bool) -> Option<(K, Granted)> {
        let start = usize::try_from(hash % (self.len().max(1) as u64)).unwrap_or(0);
        let start = if self.len() > LOOKS_MAX { start } else { 0 };
        let score = |key: K| {
            let mut hasher = DefaultHasher::new();
            (hash, key).hash(&mut hasher);
            hasher.finish()
        };
        let asked =
            (0..self.len().min(LOOKS_MAX)).filter_map(|step| self.member((start + step) % self.len()));
        asked.max_by_key(|(key, _)| (is_preferred(*key), score(*key)))
    }

    /// The preferred member with the fewest messages; in turn among equals. Asks at most 64 members.
    pub fn least(
        &mut self,
        load: impl Fn(K) -> usize,
        is_preferred: impl Fn(K) -> bool,
    ) -> Option<(K, Granted)> {
        let count = if self.favoured > 0 { self.favoured } else { self.len() };
        let first = self.turn % count.max(1);
        self.turn = first + 1;
        let asked = (0..count.min(LOOKS_MAX)).filter_map(|step| self.member((first + step) % count));
        let preferred = asked.filter(|(key, _)| is_preferred(*key)).min_by_key(|(key, _)| load(*key));
        preferred.or_else(|| self.choose(is_preferred))
    }

    fn choose_favoured(
        &mut self,
        is_preferred: &impl Fn(K) -> bool,
        looks: &mut usize,
    ) -> Option<(K, Granted)> {
        while self.favoured > 0 && *looks > 0 {
            *looks -= 1;
            let place = self.turn % self.favoured;
            let (key, granted) = self.member(place)?;
            if is_preferred(key) {
                self.turn = place + 1;
                return Some((key, granted));
            }
            self.turn = place; // another member stands here now
            self.favoured -= 1;
            self.members.swap(place, self.favoured);
        }
        None
    }

    /// Asks some of those out of favour; the first that is preferred again is chosen when nobody else was.
    fn look_for_returned(
        &mut self,
        is_preferred: &impl Fn(K) -> bool,
        chances: usize,
        is_wanted: bool,
    ) -> Option<(K, Granted)> {
        for _ in 0..chances.min(self.len() - self.favoured) {
            let others = self.len() - self.favoured;
            let place = self.favoured + self.second_turn % others.max(1);
            let (key, granted) = self.member(place)?;
            self.second_turn = (self.second_turn + 1) % others.max(1);
            if is_preferred(key) {
                self.favour(place);
                if is_wanted {
                    self.turn = self.favoured;
                    return Some((key, granted));
                }
            }
        }
        None
    }

    fn choose_any(&mut self) -> Option<(K, Granted)> {
        let place = self.turn % self.len().max(1);
        self.turn = place + 1;
        self.member(place)
    }

    fn insert(&mut self, key: K, granted: Granted) {
        if self.members.insert(key, granted).is_none() {
            self.favour(self.len() - 1);
        }
    }

    fn remove(&mut self, key: K) {
        let Some(place) = self.members.place(&key) else { return };
        if place < self.favoured {
            self.favoured -= 1;
            self.members.swap(place, self.favoured); // the last one in favour fills the gap
        }
        self.members.remove(&key);
    }

    fn favour(&mut self, place: usize) {
        if place >= self.favoured {
            self.members.swap(place, self.favoured);
            self.favoured += 1;
        }
    }

    fn member(&self, place: usize) -> Option<(K, Granted)> {
        self.members.at(place).map(|(key, granted)| (*key, *granted))
    }
}

impl<K> fmt::Debug for Group<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { favoured, turn, second_turn, .. } = self;
        f.debug_struct("Group")
            .field("favoured", favoured)
            .field("turn", turn)
            .field("second_turn", second_turn)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn name() -> (Arc<str>, TopicFilter) {
        ("工人".into(), TopicFilter::parse("jobs/+").unwrap())
    }

    fn group_of(keys: std::ops::Range<u32>) -> SharedGroups<u32> {
        let (group, filter) = name();
        let mut groups = SharedGroups::default();
        keys.for_each(|key| groups.insert(&group, &filter, key, Granted::default()));
        groups
    }

    fn choose(groups: &mut SharedGroups<u32>, is_preferred: impl Fn(u32) -> bool) -> Option<u32> {
        let (group, filter) = name();
        groups.choose(&group, &filter, is_preferred).map(|(key, _)| key)
    }

    /// How often each was chosen.
    fn counts(
        groups: &mut SharedGroups<u32>,
        choices: u32,
        is_preferred: impl Fn(u32) -> bool,
    ) -> BTreeMap<u32, u32> {
        let mut counts = BTreeMap::new();
        for _ in 0..choices {
            *counts.entry(choose(groups, &is_preferred).unwrap()).or_default() += 1;
        }
        counts
    }

    #[test]
    fn members_take_turns() {
        assert_eq!(counts(&mut group_of(0..3), 9, |_| true), [(0, 3), (1, 3), (2, 3)].into());
        assert_eq!(counts(&mut group_of(0..3), 9, |_| false), [(0, 3), (1, 3), (2, 3)].into());
    }

    #[test]
    fn members_that_are_online_come_first_and_share_alike() {
        let mut groups = group_of(0..10);
        assert_eq!(counts(&mut groups, 12, |key| key % 3 == 1), [(1, 4), (4, 4), (7, 4)].into());
    }

    #[test]
    fn who_comes_back_takes_turns_again() {
        let (group, filter) = name();
        let mut groups = group_of(0..1_000);
        counts(&mut groups, 100, |key| key == 5);
        groups.favour(&group, &filter, 700);
        let counts = counts(&mut groups, 100, |key| key == 5 || key == 700);
        assert_eq!(counts, [(5, 50), (700, 50)].into());
    }

    #[test]
    fn who_comes_back_unnoticed_is_found() {
        let mut groups = group_of(0..100);
        counts(&mut groups, 200, |key| key == 5);
        let counts = counts(&mut groups, 200, |key| key == 5 || key == 70);
        assert!(counts.get(&70).is_some_and(|count| *count > 60), "{counts:?}");
    }

    #[test]
    fn one_choice_asks_a_bounded_number_of_members() {
        let mut groups = group_of(0..100_000);
        let asked = std::cell::Cell::new(0);
        for _ in 0..3 {
            asked.set(0);
            let chosen = choose(&mut groups, |_| {
                asked.set(asked.get() + 1);
                false
            });
            assert!(chosen.is_some());
            assert!(asked.get() <= LOOKS_MAX, "{}", asked.get());
        }
    }

    #[test]
    fn a_hash_stays_with_its_member_and_moves_alone() {
        let (group, filter) = name();
        let mut groups = group_of(0..5);
        let mut member = |hash: u64, gone: Option<u32>| {
            groups.hashed(&group, &filter, hash, |key| Some(key) != gone).map(|(key, _)| key).unwrap()
        };
        let mut counts = [0; 5];
        for hash in 0..1_000_u64 {
            let before = member(hash, None);
            counts[before as usize] += 1;
            let after = member(hash, Some(3));
            assert!(after == before || before == 3, "{hash}: {before} to {after}");
            assert_ne!(after, 3);
        }
        assert!(counts.iter().all(|count| (140..260).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_member_with_the_fewest_messages_is_chosen_and_equals_take_turns() {
        let (group, filter) = name();
        let mut groups = group_of(0..4);
        let mut loads = [5, 0, 0, 9];
        for _ in 0..9 {
            let (key, _) = groups.least(&group, &filter, |key| loads[key as usize], |key| key != 2).unwrap();
            loads[key as usize] += 1;
        }
        assert_eq!(loads, [7, 7, 0, 9], "2 is offline");
    }

    #[test]
    fn the_last_member_takes_the_group_with_it() {
        let (group, filter) = name();
        let mut groups = group_of(0..2);
        groups.insert(&"other".into(), &filter, 9, Granted::default());
        let mut names = Vec::new();
        let topic = TopicName::parse("jobs/1").unwrap();
        groups.for_each_match(&topic, &mut |name, group| names.push((name.to_string(), group.len())));
        assert_eq!(names, [("工人".to_owned(), 2), ("other".to_owned(), 1)]);
        groups.remove(&group, &filter, 0);
        groups.remove(&group, &filter, 0);
        groups.remove(&group, &filter, 1);
        assert_eq!(choose(&mut groups, |_| true), None);
        groups.remove(&"other".into(), &filter, 9);
        assert!(groups.is_empty());
    }

    proptest! {
        #[test]
        fn a_preferred_member_is_chosen_when_there_is_one(
            calls in prop::collection::vec((0..6_u8, 0..20_u32), 1..200),
        ) {
            let (group, filter) = name();
            let (mut groups, mut members, mut online) = (group_of(0..0), BTreeSet::new(), BTreeSet::new());
            for (call, key) in calls {
                match call {
                    0 => {
                        groups.insert(&group, &filter, key, Granted::default());
                        members.insert(key);
                    }
                    1 => {
                        groups.remove(&group, &filter, key);
                        members.remove(&key);
                    }
                    2 => drop(online.insert(key)),
                    3 => drop(online.remove(&key)),
                    _ => {
                        let chosen = choose(&mut groups, |key| online.contains(&key));
                        let preferred: BTreeSet<_> = members.intersection(&online).copied().collect();
                        let wanted = if preferred.is_empty() { &members } else { &preferred };
                        prop_assert_eq!(chosen.is_some(), !wanted.is_empty());
                        prop_assert!(chosen.is_none_or(|chosen| wanted.contains(&chosen)));
                    }
                }
            }
        }
    }
}
