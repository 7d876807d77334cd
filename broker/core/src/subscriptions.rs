//! Which sessions want a topic: exact filters by hash, filters with wildcards by a tree of levels.

use bytestring::ByteString;
use reveille_proto::topic::{TopicFilter, TopicName};
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Who subscribed to one filter: one pair inline, more in a map.
#[derive(Clone, Debug)]
enum Members<K, V> {
    One(K, V),
    Many(BTreeMap<K, V>),
}

/// Filters and their subscribers.
#[derive(Clone, Debug)]
pub struct FilterIndex<K, V> {
    exact: HashMap<ByteString, Members<K, V>>,
    wild: Node<K, V>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Node<K, V> {
    children: HashMap<ByteString, Node<K, V>>,
    members: Option<Members<K, V>>,
}

impl<K, V> Default for Node<K, V> {
    fn default() -> Self {
        Self { children: HashMap::new(), members: None }
    }
}

impl<K, V> Default for FilterIndex<K, V> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wild: Node::default(), len: 0 }
    }
}

impl<K: Copy + Ord + Hash, V: Clone> Members<K, V> {
    fn insert(slot: Option<Self>, key: K, value: V) -> (Self, Option<V>) {
        match slot {
            None => (Self::One(key, value), None),
            Some(Self::One(known, old)) if known == key => (Self::One(key, value), Some(old)),
            Some(Self::One(known, old)) => (Self::Many([(known, old), (key, value)].into()), None),
            Some(Self::Many(mut members)) => {
                let old = members.insert(key, value);
                (Self::Many(members), old)
            }
        }
    }

    fn remove(self, key: K) -> (Option<Self>, Option<V>) {
        match self {
            Self::One(known, value) if known == key => (None, Some(value)),
            Self::One(known, value) => (Some(Self::One(known, value)), None),
            Self::Many(mut members) => {
                let removed = members.remove(&key);
                let rest = match members.len() {
                    0 => None,
                    1 => members.pop_first().map(|(key, value)| Self::One(key, value)),
                    _ => Some(Self::Many(members)),
                };
                (rest, removed)
            }
        }
    }

    fn each(&self, visit: &mut dyn FnMut(K, &V)) {
        match self {
            Self::One(key, value) => visit(*key, value),
            Self::Many(members) => members.iter().for_each(|(key, value)| visit(*key, value)),
        }
    }
}

impl<K: Copy + Ord + Hash, V: Clone> FilterIndex<K, V> {
    /// Subscribers in all; one that has several filters counts for each.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody subscribed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds or replaces; gives the replaced value back.
    pub fn insert(&mut self, filter: &TopicFilter, key: K, value: V) -> Option<V> {
        let old = if filter.has_wildcard() {
            let mut node = &mut self.wild;
            for level in filter.levels() {
                node = node.children.entry(level.into()).or_default();
            }
            let (members, old) = Members::insert(node.members.take(), key, value);
            node.members = Some(members);
            old
        } else {
            let known = self.exact.remove(filter.text());
            let (members, old) = Members::insert(known, key, value);
            self.exact.insert(filter.text().clone(), members);
            old
        };
        self.len += usize::from(old.is_none());
        old
    }

    /// Removes; gives the value back.
    pub fn remove(&mut self, filter: &TopicFilter, key: K) -> Option<V> {
        let removed = if filter.has_wildcard() {
            let levels: Vec<&str> = filter.levels().collect();
            self.wild.remove(&levels, key)
        } else {
            let (rest, removed) = self.exact.remove(filter.text())?.remove(key);
            if let Some(rest) = rest {
                self.exact.insert(filter.text().clone(), rest);
            }
            removed
        };
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// The value of one subscriber.
    pub fn get(&self, filter: &TopicFilter, key: K) -> Option<&V> {
        let members = if filter.has_wildcard() {
            let mut node = &self.wild;
            for level in filter.levels() {
                node = node.children.get(level)?;
            }
            node.members.as_ref()?
        } else {
            self.exact.get(filter.text())?
        };
        match members {
            Members::One(known, value) => (*known == key).then_some(value),
            Members::Many(members) => members.get(&key),
        }
    }

    /// Visits each subscriber of each filter that matches.
    pub fn for_each_match(&self, topic: &TopicName, visit: &mut dyn FnMut(K, &V)) {
        if let Some(members) = self.exact.get(topic.as_str()) {
            members.each(visit);
        }
        let levels: Vec<&str> = topic.levels().collect();
        let is_system = topic.as_str().starts_with('$');
        let mut stack = vec![(&self.wild, 0)];
        while let Some((node, depth)) = stack.pop() {
            let hides = depth == 0 && is_system; // [MQTT5-4.7.2-1]
            if let Some(members) =
                node.children.get("#").filter(|_| !hides).and_then(|rest| rest.members.as_ref())
            {
                members.each(visit);
            }
            match levels.get(depth) {
                None => {
                    if let Some(members) = &node.members {
                        members.each(visit);
                    }
                }
                Some(level) => {
                    stack.extend(node.children.get(*level).map(|child| (child, depth + 1)));
                    stack.extend(node.children.get("+").filter(|_| !hides).map(|child| (child, depth + 1)));
                }
            }
        }
    }
}

impl<K: Copy + Ord + Hash, V: Clone> Node<K, V> {
    fn remove(&mut self, levels: &[&str], key: K) -> Option<V> {
        let Some((level, rest)) = levels.split_first() else {
            let (members, removed) = self.members.take()?.remove(key);
            self.members = members;
            return removed;
        };
        let child = self.children.get_mut(*level)?;
        let removed = child.remove(rest, key);
        if child.members.is_none() && child.children.is_empty() {
            self.children.remove(*level);
        }
        removed
    }
}
