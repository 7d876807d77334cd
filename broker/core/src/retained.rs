//! The retained messages of one app, ordered by topic.

use reveille_proto::topic::{TopicFilter, TopicName};
use std::collections::BTreeMap;
use std::ops::Bound;

/// See the module.
#[derive(Clone, Debug)]
pub struct Retained<M> {
    topics: BTreeMap<TopicName, M>,
}

impl<M> Default for Retained<M> {
    fn default() -> Self {
        Self { topics: BTreeMap::new() }
    }
}

impl<M: Clone> Retained<M> {
    /// Keeps the newest.
    pub fn set(&mut self, topic: TopicName, message: M) -> Option<M> {
        self.topics.insert(topic, message)
    }

    /// Keeps none.
    pub fn remove(&mut self, topic: &TopicName) -> Option<M> {
        self.topics.remove(topic)
    }

    /// Topics with a message.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// The next messages under a filter in topic order, and whether more follow.
    pub fn collect(&self, filter: &TopicFilter, after: Option<&TopicName>, limit: usize) -> (Vec<M>, bool) {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut matching = self.topics.range((start, Bound::Unbounded)).filter(|(topic, _)| filter.matches(topic));
        let page: Vec<M> = matching.by_ref().take(limit).map(|(_, message)| message.clone()).collect();
        let has_more = matching.next().is_some();
        (page, has_more)
    }
}
