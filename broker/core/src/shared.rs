//! Shared subscriptions of one app: groups, and whose turn it is.

use crate::change::Granted;
use bytestring::ByteString;
use reveille_proto::topic::TopicFilter;
use std::collections::HashMap;

/// Members looked at for one that is online, before any member will do.
const LOOKS_MAX: usize = 64;

/// See the module.
#[derive(Clone, Debug)]
pub struct SharedGroups<K> {
    groups: HashMap<(ByteString, TopicFilter), Group<K>>,
}

#[derive(Clone, Debug)]
struct Group<K> {
    members: Vec<(K, Granted)>,
    places: HashMap<K, usize>,
    turn: usize,
}

impl<K> Default for SharedGroups<K> {
    fn default() -> Self {
        Self { groups: HashMap::new() }
    }
}

impl<K: Copy + Eq + std::hash::Hash> SharedGroups<K> {
    /// A member joins, or changes its options.
    pub fn insert(&mut self, group: &ByteString, filter: &TopicFilter, key: K, granted: Granted) {
        let new = || Group { members: Vec::new(), places: HashMap::new(), turn: 0 };
        let group = self.groups.entry((group.clone(), filter.clone())).or_insert_with(new);
        match group.places.get(&key).and_then(|at| group.members.get_mut(*at)) {
            Some(member) => member.1 = granted,
            None => {
                group.places.insert(key, group.members.len());
                group.members.push((key, granted));
            }
        }
    }

    /// A member leaves; the last one takes the group with it.
    pub fn remove(&mut self, group: &ByteString, filter: &TopicFilter, key: K) {
        let name = (group.clone(), filter.clone());
        let Some(group) = self.groups.get_mut(&name) else { return };
        if let Some(at) = group.places.remove(&key) {
            group.members.swap_remove(at);
            if let Some((moved, _)) = group.members.get(at) {
                group.places.insert(*moved, at);
            }
        }
        if group.members.is_empty() {
            self.groups.remove(&name);
        }
    }

    /// The next member in turn, one that is preferred if any of the next 64 is.
    pub fn choose(
        &mut self,
        group: &ByteString,
        filter: &TopicFilter,
        is_preferred: impl Fn(K) -> bool,
    ) -> Option<(K, Granted)> {
        let group = self.groups.get_mut(&(group.clone(), filter.clone()))?;
        let count = group.members.len();
        let first = group.turn % count.max(1);
        let turns = (0..count.min(LOOKS_MAX)).map(|step| (first + step) % count);
        let preferred =
            turns.into_iter().find(|at| group.members.get(*at).is_some_and(|(key, _)| is_preferred(*key)));
        let at = preferred.unwrap_or(first);
        group.turn = at + 1;
        group.members.get(at).copied()
    }
}
