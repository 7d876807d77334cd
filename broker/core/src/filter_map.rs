//! Topic filters and what belongs to each: exact filters in a hash table, filters with wildcards in a trie by level.

use crate::collections::{Label, index};
use crate::word_table::{WordTable, index_of, place};
use reveille_proto::topic::{TopicFilter, TopicName};
use slab::Slab;
use smallvec::SmallVec;
use std::hash::{BuildHasher, RandomState};

const NONE: u32 = u32::MAX;
const ROOT: u32 = 0;

/// A map from topic filters to `T` that finds every filter which matches a topic name.
///
/// Insert, get and remove cost by the levels of the filter, not by the number of filters. A match costs by the nodes
/// that match a beginning of the topic; each is visited once, as there is one way from the root to a node. Nothing
/// recurses. Where values lie in memory depends on a keyed hash (filters are chosen by clients); the order in
/// which matches come does not.
#[derive(Debug)]
pub struct FilterMap<T> {
    /// The text of each is that of its first subscription.
    exact: Slab<(TopicFilter, T)>,
    exact_places: WordTable,
    wild: Slab<T>,
    /// Empty, or the root at [`ROOT`] and what hangs below.
    nodes: Slab<Node>,
    /// (parent, level) -> node, one table for all nodes: a node without children costs no table.
    edges: WordTable,
    hasher: RandomState,
}

/// The beginning of at least one filter with wildcards.
#[derive(Debug)]
struct Node {
    parent: u32,
    /// The value of the filter that ends here.
    here: u32,
    /// The value of the filter that goes on with `#`.
    rest: u32,
    /// The child for `+`.
    plus: u32,
    /// How many other children.
    children: u32,
    label: Label,
}

impl<T> Default for FilterMap<T> {
    fn default() -> Self {
        Self {
            exact: Slab::new(),
            exact_places: WordTable::default(),
            wild: Slab::new(),
            nodes: Slab::new(),
            edges: WordTable::default(),
            hasher: RandomState::new(),
        }
    }
}

impl<T> FilterMap<T> {
    /// How many filters.
    pub fn len(&self) -> usize {
        self.exact.len() + self.wild.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What belongs to a filter.
    pub fn get(&self, filter: &TopicFilter) -> Option<&T> {
        if filter.has_wildcard() {
            self.wild.get(self.wild_at(filter)? as usize)
        } else {
            self.exact.get(self.exact_at(filter.as_str())? as usize).map(|(_, value)| value)
        }
    }

    /// What belongs to a filter, to change it.
    pub fn get_mut(&mut self, filter: &TopicFilter) -> Option<&mut T> {
        if filter.has_wildcard() {
            let at = self.wild_at(filter)?;
            self.wild.get_mut(at as usize)
        } else {
            let at = self.exact_at(filter.as_str())?;
            self.exact.get_mut(at as usize).map(|(_, value)| value)
        }
    }

    /// Gives a filter its value; the earlier one comes back.
    pub fn insert(&mut self, filter: &TopicFilter, value: T) -> Option<T> {
        if let Some(known) = self.get_mut(filter) {
            return Some(std::mem::replace(known, value));
        }
        if filter.has_wildcard() {
            self.insert_wild(filter, value);
        } else {
            let hash = self.hash(filter.as_str());
            let at = index(self.exact.insert((filter.clone(), value)));
            self.exact_places.insert(place(hash, at));
        }
        None
    }

    /// Takes a filter out. Nodes that lead nowhere any more go with it.
    pub fn remove(&mut self, filter: &TopicFilter) -> Option<T> {
        if filter.has_wildcard() { self.remove_wild(filter) } else { self.remove_exact(filter.as_str()) }
    }

    /// Calls `visit` with the value of every filter that matches `topic`, as [`TopicFilter::matches`] defines it.
    pub fn for_each_match(&self, topic: &TopicName, visit: &mut impl FnMut(&T)) {
        if let Some((_, value)) = self.exact_at(topic.as_str()).and_then(|at| self.exact.get(at as usize)) {
            visit(value);
        }
        if !self.nodes.is_empty() {
            self.walk(topic.as_str(), &mut |at| {
                if let Some(value) = self.wild.get(at as usize) {
                    visit(value);
                }
            });
        }
    }

    fn walk(&self, topic: &str, visit: &mut impl FnMut(u32)) {
        let is_system = topic.starts_with('$'); // [MQTT5-4.7.2-1]
        // Each turn takes one away and adds at most two, so there are never more than levels + 1 in it.
        let mut todo: SmallVec<[(u32, Option<&str>); 16]> = SmallVec::new();
        todo.push((ROOT, Some(topic)));
        while let Some((at, rest)) = todo.pop() {
            let Some(node) = self.node(at) else { continue };
            let is_hidden = is_system && at == ROOT;
            if node.rest != NONE && !is_hidden {
                visit(node.rest); // `a/#` sees `a` too, [MQTT5-4.7.1-2]
            }
            let Some(rest) = rest else {
                if node.here != NONE {
                    visit(node.here);
                }
                continue;
            };
            let (level, rest) = match rest.split_once('/') {
                Some((level, rest)) => (level, Some(rest)),
                None => (rest, None),
            };
            if node.children > 0
                && let Some(child) = self.edge(at, level)
            {
                todo.push((child, rest));
            }
            if node.plus != NONE && !is_hidden {
                todo.push((node.plus, rest));
            }
        }
    }

    fn exact_at(&self, text: &str) -> Option<u32> {
        self.exact_places.word(self.exact_place(text)?).map(index_of)
    }

    /// Where the table has a filter without wildcards.
    fn exact_place(&self, text: &str) -> Option<usize> {
        if self.exact.is_empty() {
            return None;
        }
        let is_same =
            |word| self.exact.get(index_of(word) as usize).is_some_and(|(known, _)| known.as_str() == text);
        self.exact_places.find(self.hash(text), is_same)
    }

    fn remove_exact(&mut self, text: &str) -> Option<T> {
        let place = self.exact_place(text)?;
        let at = self.exact_places.word(place).map(index_of)?;
        self.exact_places.remove(place);
        let (_, value) = self.exact.try_remove(at as usize)?;
        if self.exact.is_empty() {
            self.exact = Slab::new();
        }
        Some(value)
    }

    /// The place of the value of a filter with wildcards.
    fn wild_at(&self, filter: &TopicFilter) -> Option<u32> {
        let node = self.node(self.node_of(filter)?)?;
        let at = if ends_with_rest(filter) { node.rest } else { node.here };
        (at != NONE).then_some(at)
    }

    /// The node where a filter ends, without a final `#`.
    fn node_of(&self, filter: &TopicFilter) -> Option<u32> {
        filter.levels().take_while(|level| *level != "#").try_fold(ROOT, |at, level| self.child(at, level))
    }

    fn child(&self, at: u32, level: &str) -> Option<u32> {
        if level == "+" {
            return self.node(at).map(|node| node.plus).filter(|plus| *plus != NONE);
        }
        self.edge(at, level)
    }

    fn insert_wild(&mut self, filter: &TopicFilter, value: T) {
        if self.nodes.is_empty() {
            self.nodes.insert(Node::new(NONE, ""));
        }
        let mut at = ROOT;
        for level in filter.levels().take_while(|level| *level != "#") {
            at = match self.child(at, level) {
                Some(child) => child,
                None => self.add_child(at, level),
            };
        }
        let value = index(self.wild.insert(value));
        if let Some(node) = self.nodes.get_mut(at as usize) {
            *(if ends_with_rest(filter) { &mut node.rest } else { &mut node.here }) = value;
        }
    }

    fn add_child(&mut self, parent: u32, level: &str) -> u32 {
        let is_plus = level == "+";
        let child = index(self.nodes.insert(Node::new(parent, if is_plus { "" } else { level })));
        if let Some(node) = self.nodes.get_mut(parent as usize) {
            if is_plus {
                node.plus = child;
            } else {
                node.children += 1;
            }
        }
        if !is_plus {
            self.edges.insert(place(self.edge_hash(parent, level), child));
        }
        child
    }

    fn remove_wild(&mut self, filter: &TopicFilter) -> Option<T> {
        let at = self.node_of(filter)?;
        let node = self.nodes.get_mut(at as usize)?;
        let slot = if ends_with_rest(filter) { &mut node.rest } else { &mut node.here };
        let value = std::mem::replace(slot, NONE);
        let value = self.wild.try_remove(value as usize)?;
        if self.wild.is_empty() {
            (self.wild, self.nodes, self.edges) = Default::default();
        } else {
            self.prune(at, filter);
        }
        Some(value)
    }

    /// Frees the nodes of a removed filter from its end upwards, as far as no other filter needs them.
    fn prune(&mut self, mut at: u32, filter: &TopicFilter) {
        let levels = filter.as_str().rsplit('/').skip(usize::from(ends_with_rest(filter)));
        for level in levels {
            let parent = match self.node(at) {
                Some(node) if at != ROOT && node.is_bare() => node.parent,
                _ => return,
            };
            if level != "+" {
                let hash = self.edge_hash(parent, level);
                if let Some(place) = self.edges.find(hash, |word| index_of(word) == at) {
                    self.edges.remove(place);
                }
            }
            self.nodes.try_remove(at as usize);
            if let Some(node) = self.nodes.get_mut(parent as usize) {
                if level == "+" {
                    node.plus = NONE;
                } else {
                    node.children -= 1;
                }
            }
            at = parent;
        }
    }

    fn node(&self, at: u32) -> Option<&Node> {
        self.nodes.get(at as usize)
    }

    fn edge(&self, parent: u32, level: &str) -> Option<u32> {
        let hash = self.edge_hash(parent, level);
        let is_same = |word| {
            self.node(index_of(word)).is_some_and(|node| node.parent == parent && node.label.is(level))
        };
        self.edges.word(self.edges.find(hash, is_same)?).map(index_of)
    }

    #[expect(clippy::cast_possible_truncation, reason = "half of the hash is enough")]
    fn edge_hash(&self, parent: u32, level: &str) -> u32 {
        self.hasher.hash_one((parent, level)) as u32
    }

    #[expect(clippy::cast_possible_truncation, reason = "half of the hash is enough")]
    fn hash(&self, text: &str) -> u32 {
        self.hasher.hash_one(text) as u32
    }
}

impl Node {
    fn new(parent: u32, level: &str) -> Self {
        Self { parent, here: NONE, rest: NONE, plus: NONE, children: 0, label: Label::new(level) }
    }

    fn is_bare(&self) -> bool {
        self.here == NONE && self.rest == NONE && self.plus == NONE && self.children == 0
    }
}

fn ends_with_rest(filter: &TopicFilter) -> bool {
    filter.as_str().ends_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text).unwrap()
    }

    fn matches(map: &FilterMap<u32>, topic: &str) -> Vec<u32> {
        let mut found = Vec::new();
        map.for_each_match(&TopicName::parse(topic).unwrap(), &mut |value| found.push(*value));
        found.sort_unstable();
        found
    }

    #[test]
    fn a_node_is_small() {
        assert_eq!(size_of::<Node>(), 48);
        let mut map = FilterMap::default();
        map.insert(&filter("cmd/d1/#"), 0_u32);
        map.insert(&filter("cmd/d2/#"), 0);
        assert_eq!(map.nodes.len(), 4, "root, cmd, d1, d2");
    }

    #[test]
    fn emptied_nodes_are_freed() {
        let filters =
            ["a/+/c/#", "a/+/c", "a/b/+", "#", "+", "设备/+/状态", "/+/", "x/y", "$sys/#"].map(filter);
        let mut map = FilterMap::default();
        map.insert(&filter("keep/+"), 99);
        let (nodes, edges) = (map.nodes.len(), map.edges.len());
        for (value, filter) in filters.iter().enumerate() {
            assert_eq!(map.insert(filter, value), None);
        }
        for (value, filter) in filters.iter().enumerate() {
            assert_eq!(map.remove(filter), Some(value), "{filter}");
            assert_eq!(map.remove(filter), None, "{filter}");
        }
        assert_eq!((map.nodes.len(), map.edges.len()), (nodes, edges));
        assert_eq!((map.exact.len(), map.exact_places.len()), (0, 0));
        assert_eq!(map.remove(&filter("keep/+")), Some(99));
        assert_eq!((map.nodes.capacity(), map.edges.len()), (0, 0));
    }

    #[test]
    fn the_deepest_topic_is_no_danger() {
        let slashes = "/".repeat(65_535);
        let plus = format!("{}+", "+/".repeat(32_766));
        let mut map = FilterMap::default();
        for (value, text) in [&plus, &format!("{plus}/#"), &slashes].into_iter().enumerate() {
            map.insert(&filter(text), u32::try_from(value).unwrap());
        }
        assert_eq!(matches(&map, &"/".repeat(32_766)), [0, 1]);
        assert_eq!(matches(&map, &slashes), [1, 2]);
        assert_eq!(map.remove(&filter(&plus)), Some(0));
        assert_eq!(matches(&map, &"/".repeat(32_766)), [1]);
    }

    #[test]
    fn a_walk_visits_no_more_than_the_nodes_there_are() {
        // Every choice of `a` and `+` over 10 levels, and one that goes on for 30 levels below each beginning.
        let mut map = FilterMap::default();
        for choice in 0..1_024_u32 {
            let levels: Vec<_> = (0..10).map(|bit| if choice >> bit & 1 == 0 { "a" } else { "+" }).collect();
            map.insert(&filter(&format!("{}/#", levels.join("/"))), choice);
        }
        map.insert(&filter(&format!("{}+", "+/".repeat(40))), 5_000);
        assert_eq!(map.nodes.len(), 2_047 + 31);
        let mut visits = 0;
        map.walk(&vec!["a"; 41].join("/"), &mut |_| visits += 1);
        assert_eq!(visits, 1_025, "each filter comes once");
    }

    fn level() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["", "a", "b", "设备", "温度", "$x", "a-level-of-its-own-memory"])
    }

    fn topic() -> impl Strategy<Value = String> {
        prop::collection::vec(level(), 1..5).prop_map(|levels| levels.join("/"))
    }

    fn any_filter() -> impl Strategy<Value = String> {
        let level = prop_oneof![3 => level(), 1 => Just("+")];
        (prop::collection::vec(level, 0..4), any::<bool>()).prop_map(|(mut levels, has_rest)| {
            if has_rest || levels.is_empty() {
                levels.push("#");
            }
            levels.join("/")
        })
    }

    proptest! {
        #[test]
        fn a_filter_map_finds_what_the_rule_says(
            calls in prop::collection::vec((any::<bool>(), any_filter(), any::<u32>()), 1..120),
            topics in prop::collection::vec(topic(), 1..20),
        ) {
            let (mut map, mut model) = (FilterMap::default(), BTreeMap::new());
            for (is_insert, text, value) in calls {
                let Ok(filter) = TopicFilter::parse(text) else { continue };
                if is_insert {
                    prop_assert_eq!(map.insert(&filter, value), model.insert(filter.clone(), value));
                } else {
                    prop_assert_eq!(map.remove(&filter), model.remove(&filter));
                }
                prop_assert_eq!(map.get(&filter), model.get(&filter));
                prop_assert_eq!(map.len(), model.len());
            }
            for text in topics {
                let Ok(topic) = TopicName::parse(text) else { continue };
                let wanted = model.iter().filter(|(filter, _)| filter.matches(&topic));
                let mut wanted: Vec<_> = wanted.map(|(_, value)| *value).collect();
                wanted.sort_unstable();
                prop_assert_eq!(matches(&map, topic.as_str()), wanted, "{}", topic);
            }
        }
    }
}
