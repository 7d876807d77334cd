//! The last values of topics that the configuration names: a bounded ring for each, in memory.

use super::ring::{Aggregate, Point, Ring};
use crate::config::{HistoryConfig, HistoryRule};
use arc_swap::ArcSwap;
use reveille_broker_core::message::Message;
use reveille_proto::ids::AppId;
use reveille_proto::topic::TopicName;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Topics with a ring at most, over all rules: a filter reaches more than its author thinks of.
const TOPICS_MAX: usize = 10_000;
/// Points in all rings together, 16 bytes each.
const POINTS_MAX: usize = 4_000_000;
/// Larger payloads are not looked into.
const PAYLOAD_MAX: usize = 64 * 1024;

/// What is kept, and by which rules.
#[derive(Debug, Default)]
pub(crate) struct History {
    rules: ArcSwap<Vec<HistoryRule>>,
    /// Held for one value of a topic that a rule names, or to copy the ring of one.
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    rings: HashMap<(AppId, TopicName), Ring>,
    points: usize,
    /// Values that found no room.
    left_out: u64,
}

/// What is known of a topic.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Known {
    pub(crate) points: Vec<Point>,
    /// Values of any topic that found no room since the start.
    pub(crate) left_out: u64,
}

impl History {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner) // a point is whole or not there
    }

    /// Whether anything is kept.
    pub(super) fn is_on(&self) -> bool {
        !self.rules.load().is_empty()
    }

    /// Keeps what the configuration says from now on. Rings of topics that it names no more go.
    pub(super) fn configure(&self, rules: &[HistoryConfig]) {
        let rules: Vec<HistoryRule> = rules.iter().filter_map(|rule| rule.parse().ok()).collect(); // checked before
        let mut kept = self.lock();
        kept.rings.retain(|(app, topic), _| rules.iter().any(|rule| rule.names(app, topic)));
        kept.points = kept.rings.values().map(Ring::len).sum();
        self.rules.store(Arc::new(rules));
    }

    /// Keeps the number that a message carries, where a rule names its topic and finds one in it.
    pub(super) fn note(&self, message: &Message) {
        if message.payload.is_empty() || message.payload.len() > PAYLOAD_MAX {
            return;
        }
        // Other shards wait for the lock: nothing is looked for or parsed under it.
        let rules = self.rules.load();
        let rule = rules.iter().find(|rule| rule.names(&message.app, &message.topic));
        let Some((value, points_max)) =
            rule.and_then(|rule| Some((rule.value(&message.payload)?, rule.points)))
        else {
            return;
        };
        let mut kept = self.lock();
        let (topics, points) = (kept.rings.len(), kept.points);
        let key = (message.app.clone(), message.topic.clone());
        let ring = kept.rings.get_mut(&key);
        let is_full = match &ring {
            Some(ring) => points >= POINTS_MAX && ring.len() < points_max,
            None => topics >= TOPICS_MAX || points >= POINTS_MAX,
        };
        if is_full {
            kept.left_out += 1;
            return;
        }
        let ring = kept.rings.entry(key).or_default();
        let before = ring.len();
        ring.push(Point { at_ms: message.accepted_at.0, value }, points_max);
        let after = ring.len();
        kept.points = points + after - before;
    }

    /// The newest value of a topic.
    pub(crate) fn last(&self, app: &AppId, topic: &TopicName) -> Option<Point> {
        self.lock().rings.get(&(app.clone(), topic.clone())).and_then(Ring::last)
    }

    /// What was, from a moment to before another; `None` when no rule names the topic.
    pub(crate) fn series(
        &self,
        app: &AppId,
        topic: &TopicName,
        (from_ms, to_ms): (u64, u64),
        step_ms: Option<u64>,
        how: Aggregate,
    ) -> Option<Known> {
        if !self.rules.load().iter().any(|rule| rule.names(app, topic)) {
            return None;
        }
        let (ring, left_out) = {
            let kept = self.lock();
            (kept.rings.get(&(app.clone(), topic.clone())).cloned(), kept.left_out)
        };
        let points = ring.map(|ring| ring.series(from_ms, to_ms, step_ms, how)).unwrap_or_default();
        Some(Known { points, left_out })
    }
}
