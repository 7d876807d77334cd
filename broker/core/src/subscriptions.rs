//! Who subscribed to what: the filters of one app's sessions on one shard.

use crate::collections::ListMap;
use crate::filter_map::FilterMap;
use reveille_proto::topic::{TopicFilter, TopicName};
use std::hash::Hash;

/// Topic filters and their subscribers. `K` is a small number of a session, `V` how it subscribed.
///
/// No call costs by the number of sessions or filters; a filter with one subscriber has no list of its own.
#[derive(Debug)]
pub struct FilterIndex<K, V> {
    filters: FilterMap<Subscribers<K, V>>,
    len: usize,
}

/// The subscribers of one filter: usually a device's own, sometimes a hundred thousand.
#[derive(Debug)]
enum Subscribers<K, V> {
    One(K, V),
    Many(Box<ListMap<K, V>>),
}

impl<K, V> Default for FilterIndex<K, V> {
    fn default() -> Self {
        Self { filters: FilterMap::default(), len: 0 }
    }
}

impl<K: Copy + Eq + Hash, V: Clone> FilterIndex<K, V> {
    /// How many pairs of filter and subscriber.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody subscribed to anything.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Subscribes; what the same subscriber had under the same filter is replaced and comes back.
    pub fn insert(&mut self, filter: &TopicFilter, key: K, value: V) -> Option<V> {
        let replaced = match self.filters.get_mut(filter) {
            Some(subscribers) => subscribers.insert(key, value),
            None => {
                self.filters.insert(filter, Subscribers::One(key, value));
                None
            }
        };
        self.len += usize::from(replaced.is_none());
        replaced
    }

    /// Unsubscribes.
    pub fn remove(&mut self, filter: &TopicFilter, key: K) -> Option<V> {
        let removed = match self.filters.get_mut(filter)? {
            Subscribers::One(only, _) if *only != key => return None,
            Subscribers::One(..) => match self.filters.remove(filter)? {
                Subscribers::One(_, value) => value,
                Subscribers::Many(_) => return None, // it was one a line ago
            },
            many => many.remove_of_many(key)?,
        };
        self.len -= 1;
        Some(removed)
    }

    /// How a subscriber subscribed to a filter.
    pub fn get(&self, filter: &TopicFilter, key: K) -> Option<&V> {
        match self.filters.get(filter)? {
            Subscribers::One(only, value) => (*only == key).then_some(value),
            Subscribers::Many(many) => many.get(&key),
        }
    }

    /// Calls `visit` for every subscription that matches `topic`. A subscriber whose filters overlap comes once for
    /// each of them. Filters and subscribers come in an order that depends on earlier calls only.
    pub fn for_each_match(&self, topic: &TopicName, visit: &mut impl FnMut(K, &V)) {
        self.filters.for_each_match(topic, &mut |subscribers| match subscribers {
            Subscribers::One(key, value) => visit(*key, value),
            Subscribers::Many(many) => many.iter().for_each(|(key, value)| visit(*key, value)),
        });
    }
}

impl<K: Copy + Eq + Hash, V: Clone> Subscribers<K, V> {
    fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self {
            Self::One(only, known) if *only == key => Some(std::mem::replace(known, value)),
            Self::One(only, known) => {
                let mut many = Box::<ListMap<K, V>>::default();
                many.insert(*only, known.clone());
                many.insert(key, value);
                *self = Self::Many(many);
                None
            }
            Self::Many(many) => many.insert(key, value),
        }
    }

    /// Never leaves fewer than one.
    fn remove_of_many(&mut self, key: K) -> Option<V> {
        let Self::Many(many) = self else { return None };
        let removed = many.remove(&key)?;
        if many.len() == 1
            && let Some((key, value)) = many.at(0)
        {
            *self = Self::One(*key, value.clone());
        }
        Some(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_subscribers_of_a_filter_are_small() {
        assert_eq!(size_of::<Subscribers<u32, [u32; 2]>>(), 16);
    }

    #[test]
    fn a_filter_of_very_many_subscribers_lets_each_go() {
        let filter = TopicFilter::parse("news/#").unwrap();
        let mut index = FilterIndex::default();
        for key in 0..100_000_u32 {
            index.insert(&filter, key, ());
        }
        for key in (0..100_000).rev().step_by(2).chain((0..100_000).step_by(2)) {
            assert_eq!(index.remove(&filter, key), Some(()), "{key}");
            assert_eq!(index.remove(&filter, key), None, "{key}");
        }
        assert!(index.is_empty());
        assert!(index.filters.is_empty());
    }

    proptest! {
        #[test]
        fn an_index_finds_what_the_rule_says(
            calls in prop::collection::vec((0..3_u8, 0..8_usize, 0..40_u32, any::<u8>()), 1..300),
        ) {
            let filters = ["a", "a/+", "+/b", "#", "a/#", "设备/+/温度", "设备/1/温度", "$a/#"];
            let filters = filters.map(|text| TopicFilter::parse(text).unwrap());
            let topics = ["a", "a/b", "设备/1/温度", "$a/b", "c"].map(|text| TopicName::parse(text).unwrap());
            let (mut index, mut model) = (FilterIndex::default(), BTreeMap::new());
            for (call, filter, key, value) in calls {
                let filter = &filters[filter];
                if call == 0 {
                    prop_assert_eq!(index.remove(filter, key), model.remove(&(filter, key)));
                } else {
                    prop_assert_eq!(index.insert(filter, key, value), model.insert((filter, key), value));
                }
                prop_assert_eq!(index.get(filter, key), model.get(&(filter, key)));
                prop_assert_eq!(index.len(), model.len());
            }
            for topic in &topics {
                let mut found = Vec::new();
                index.for_each_match(topic, &mut |key, value| found.push((key, *value)));
                let wanted = model.iter().filter(|((filter, _), _)| filter.matches(topic));
                let mut wanted: Vec<_> = wanted.map(|((_, key), value)| (*key, *value)).collect();
                found.sort_unstable();
                wanted.sort_unstable();
                prop_assert_eq!(found, wanted);
            }
        }
    }
}
