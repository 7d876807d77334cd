//! The retained messages of one app: the newest of each topic, and which of them a filter reaches.

use crate::collections::index;
use hashbrown::HashTable;
use reveille_proto::topic::{TopicFilter, TopicName};
use slab::Slab;
use smallvec::SmallVec;
use std::collections::{BTreeMap, btree_map};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Bound;
use std::sync::Arc;

/// Stands for `/` in a [`Key`]: no topic has U+0000 and everything else is greater, so a topic comes before what is
/// below it, and that before its siblings.
const SLASH: u8 = 0;

/// Greater than [`SLASH`], and no greater than any character that goes on with the same level.
const BEHIND_SLASH: u8 = 1;

/// Keys that a walk passes one by one before it searches anew: as far as a search costs.
const STEPS_BEFORE_SEARCH: usize = 4;

/// A topic name with [`SLASH`] for each slash.
type Key = Arc<[u8]>;

/// Retained messages. A known topic is found by its hash; the order of topics, level by level, serves filters.
///
/// A filter costs by what it can reach: it jumps over everything below a level that it does not match. Retained messages
/// under `#` come page by page, as a page says where the next one begins.
#[derive(Debug)]
pub struct Retained<M> {
    entries: Slab<Entry<M>>,
    places: HashTable<Place>,
    order: BTreeMap<Key, u32>,
    hasher: RandomState,
    bytes: u64,
}

#[derive(Debug)]
struct Entry<M> {
    key: Key,
    message: M,
    bytes: u32,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    hash: u64,
    index: u32,
}

/// Some of the messages under a filter, in the order of their topics level by level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<M> {
    /// What was found.
    pub messages: Vec<M>,
    /// Where the next page begins; `None`: this was the last.
    pub after: Option<TopicName>,
}

impl<M> Default for Retained<M> {
    fn default() -> Self {
        Self {
            entries: Slab::new(),
            places: HashTable::new(),
            order: BTreeMap::new(),
            hasher: RandomState::new(),
            bytes: 0,
        }
    }
}

impl<M> Retained<M> {
    /// How many topics have a message.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The sum of the sizes that [`Retained::set_sized`] was told.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The newest message of a topic from now on; the earlier one comes back.
    pub fn set(&mut self, topic: TopicName, message: M) -> Option<M> {
        self.set_sized(&topic, message, 0)
    }

    /// Like [`Retained::set`], for a message that counts as so many bytes.
    pub fn set_sized(&mut self, topic: &TopicName, message: M, bytes: u32) -> Option<M> {
        self.bytes += u64::from(bytes);
        let hash = self.hash(topic);
        if let Some(entry) = self.find(topic, hash).and_then(|at| self.entries.get_mut(at as usize)) {
            self.bytes -= u64::from(std::mem::replace(&mut entry.bytes, bytes));
            return Some(std::mem::replace(&mut entry.message, message));
        }
        let key: Key = key_bytes(topic.as_str()).collect();
        let at = index(self.entries.insert(Entry { key: Arc::clone(&key), message, bytes }));
        self.places.insert_unique(hash, Place { hash, index: at }, |place| place.hash);
        self.order.insert(key, at);
        None
    }

    /// The topic has no message any more.
    pub fn remove(&mut self, topic: &TopicName) -> Option<M> {
        let hash = self.hash(topic);
        let at = self.find(topic, hash)?;
        if let Ok(found) = self.places.find_entry(hash, |place| place.index == at) {
            found.remove();
        }
        let entry = self.entries.try_remove(at as usize)?;
        self.order.remove(&entry.key);
        self.bytes -= u64::from(entry.bytes);
        if self.entries.is_empty() {
            *self = Self::default();
        }
        Some(entry.message)
    }

    /// The message of a topic.
    pub fn get(&self, topic: &TopicName) -> Option<&M> {
        self.message(self.find(topic, self.hash(topic))?)
    }

    /// Calls `visit` for every message whose topic `filter` matches, as [`TopicFilter::matches`] defines it.
    pub fn for_each_match(&self, filter: &TopicFilter, visit: &mut impl FnMut(&M)) {
        let mut walk = Walk::new(&self.order, filter, None);
        while let Some(step) = walk.step() {
            if let Step::Match(at) = step
                && let Some(message) = self.message(at)
            {
                visit(message);
            }
        }
    }

    fn message(&self, at: u32) -> Option<&M> {
        self.entries.get(at as usize).map(|entry| &entry.message)
    }

    fn find(&self, topic: &TopicName, hash: u64) -> Option<u32> {
        let text = topic.as_str();
        let is_same = |place: &Place| {
            let entry = self.entries.get(place.index as usize).filter(|_| place.hash == hash);
            entry.is_some_and(|entry| {
                entry.key.len() == text.len() && key_bytes(text).eq(entry.key.iter().copied())
            })
        };
        self.places.find(hash, is_same).map(|place| place.index)
    }

    fn hash(&self, topic: &TopicName) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(topic.as_str().as_bytes());
        hasher.finish()
    }
}

impl<M: Clone> Retained<M> {
    /// The next messages under a filter, at most `limit`, and whether more follow. Begins behind the topic `after`.
    pub fn collect(&self, filter: &TopicFilter, after: Option<&TopicName>, limit: usize) -> (Vec<M>, bool) {
        let mut messages = Vec::new();
        let mut walk = Walk::new(&self.order, filter, after);
        while let Some(step) = walk.step() {
            if let Step::Match(at) = step {
                if messages.len() == limit {
                    return (messages, true);
                }
                messages.extend(self.message(at).cloned());
            }
        }
        (messages, false)
    }

    /// Like [`Retained::collect`], but looks at no more than `looks_max` topics (at least 1), however few of them match:
    /// a page may be empty and not the last. A look costs about a microsecond among a million topics.
    pub fn page(
        &self,
        filter: &TopicFilter,
        after: Option<&TopicName>,
        limit: usize,
        looks_max: usize,
    ) -> Page<M> {
        let mut messages = Vec::new();
        let mut walk = Walk::new(&self.order, filter, after);
        for _ in 0..looks_max.max(1) {
            match walk.step() {
                None => return Page { messages, after: None },
                Some(Step::Miss) => {}
                Some(Step::Match(at)) => messages.extend(self.message(at).cloned()),
            }
            if messages.len() >= limit.max(1) {
                break;
            }
        }
        Page { messages, after: walk.last.and_then(topic_of) }
    }
}

/// One way through the topics in order, from one that a filter may match to the next.
struct Walk<'a> {
    order: &'a BTreeMap<Key, u32>,
    levels: SmallVec<[&'a [u8]; 8]>,
    ahead: btree_map::Range<'a, Key, u32>,
    /// The topic looked at last.
    last: Option<&'a [u8]>,
    is_over: bool,
}

enum Step {
    /// The place of a message whose topic matches.
    Match(u32),
    /// The topic does not match.
    Miss,
}

/// Where the next topic that may match is.
enum Next {
    /// This one matches; the next may be right behind it.
    Behind,
    /// Not before this key.
    Seek(Vec<u8>),
    /// There is none.
    End,
}

impl<'a> Walk<'a> {
    fn new(order: &'a BTreeMap<Key, u32>, filter: &'a TopicFilter, after: Option<&TopicName>) -> Self {
        let levels: SmallVec<[&[u8]; 8]> = filter.levels().map(str::as_bytes).collect();
        // Everything that matches begins with the levels before the first wildcard.
        let mut start =
            levels.iter().take_while(|level| !is_wildcard(level)).copied().collect::<Vec<_>>().join(&SLASH);
        if let Some(after) = after {
            let mut behind: Vec<u8> = key_bytes(after.as_str()).collect();
            behind.push(SLASH); // the smallest key that is greater
            start = start.max(behind);
        }
        Self { order, levels, ahead: from(order, &start), last: None, is_over: false }
    }

    /// Looks at the next topic that may match; `None` when there is none.
    fn step(&mut self) -> Option<Step> {
        if self.is_over {
            return None;
        }
        let (key, at) = self.ahead.next()?;
        self.last = Some(key);
        match self.judge(key) {
            Next::Behind => return Some(Step::Match(*at)),
            Next::Seek(target) => self.seek(&target),
            Next::End => self.is_over = true,
        }
        Some(Step::Miss)
    }

    fn seek(&mut self, target: &[u8]) {
        for _ in 0..STEPS_BEFORE_SEARCH {
            let mut peek = self.ahead.clone();
            match peek.next() {
                Some((key, _)) if **key < *target => self.ahead = peek,
                _ => return,
            }
        }
        self.ahead = from(self.order, target);
    }

    /// Compares a topic with the filter, level by level.
    fn judge(&self, key: &[u8]) -> Next {
        if key.first() == Some(&b'$') && self.levels.first().is_some_and(|level| is_wildcard(level)) {
            return Next::Seek(vec![b'$' + 1]); // [MQTT5-4.7.2-1]
        }
        let mut end = 0; // of the levels that match, in `key`
        let mut last_plus = None; // where the level of the last `+` ends
        let mut given = key.split(|byte| *byte == SLASH);
        for (place, wanted) in self.levels.iter().enumerate() {
            if *wanted == b"#" {
                return Next::Behind;
            }
            let Some(level) = given.next() else {
                let below = if *wanted == b"+" { b"" } else { *wanted };
                return Next::Seek([key, &[SLASH], below].concat());
            };
            let start = if place == 0 { 0 } else { end + 1 };
            end = start + level.len();
            if *wanted == b"+" {
                last_plus = Some(end);
            } else if level < *wanted {
                return Next::Seek([key.get(..start).unwrap_or_default(), wanted].concat());
            } else if level > *wanted {
                return behind_all_below(key, last_plus);
            }
        }
        if given.next().is_some() { behind_all_below(key, last_plus) } else { Next::Behind }
    }
}

/// Nothing more can match below the level that the last `+` stands for, so the next one is its sibling.
fn behind_all_below(key: &[u8], last_plus: Option<usize>) -> Next {
    match last_plus.and_then(|end| key.get(..end)) {
        Some(prefix) => Next::Seek([prefix, &[BEHIND_SLASH]].concat()),
        None => Next::End,
    }
}

fn from<'a>(order: &'a BTreeMap<Key, u32>, start: &[u8]) -> btree_map::Range<'a, Key, u32> {
    order.range::<[u8], _>((Bound::Included(start), Bound::Unbounded))
}

fn is_wildcard(level: &[u8]) -> bool {
    matches!(level, b"+" | b"#")
}

fn key_bytes(text: &str) -> impl Iterator<Item = u8> + '_ {
    text.bytes().map(|byte| if byte == b'/' { SLASH } else { byte })
}

fn topic_of(key: &[u8]) -> Option<TopicName> {
    let text = key.iter().map(|byte| if *byte == SLASH { b'/' } else { *byte }).collect();
    TopicName::parse(String::from_utf8(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text).unwrap()
    }

    fn topic(text: &str) -> TopicName {
        TopicName::parse(text).unwrap()
    }

    fn retained(topics: impl IntoIterator<Item = String>) -> Retained<String> {
        topics.into_iter().fold(Retained::default(), |mut retained, text| {
            retained.set(topic(&text), text);
            retained
        })
    }

    fn looks(retained: &Retained<String>, text: &str) -> usize {
        let filter = filter(text);
        let mut walk = Walk::new(&retained.order, &filter, None);
        std::iter::from_fn(|| walk.step()).count()
    }

    #[test]
    fn bytes_and_topics_are_counted() {
        let mut retained = Retained::default();
        assert_eq!(retained.set_sized(&topic("a"), 1, 10), None);
        assert_eq!(retained.set_sized(&topic("a/设备"), 2, 5), None);
        assert_eq!(retained.set_sized(&topic("a"), 3, 7), Some(1));
        assert_eq!((retained.len(), retained.bytes(), retained.get(&topic("a"))), (2, 12, Some(&3)));
        assert_eq!(retained.remove(&topic("a")), Some(3));
        assert_eq!(retained.remove(&topic("a")), None);
        assert_eq!((retained.len(), retained.bytes()), (1, 5));
        assert_eq!(retained.remove(&topic("a/设备")), Some(2));
        assert!(retained.is_empty() && retained.order.is_empty());
    }

    #[test]
    fn a_filter_costs_by_what_it_reaches() {
        let topics =
            (0..100).flat_map(|site| (0..100).map(move |device| format!("site/{site}/{device}/state")));
        let retained = retained(topics.chain(["site/7/9/alarm".to_owned(), "z".to_owned()]));
        for (text, most) in [
            ("site/7/9/state", 2),
            ("site/7/9/none", 2),
            ("site/7/+/state", 103),
            ("site/7/9/#", 3),
            ("site/+/9/state", 302),
            ("site/+/none", 201),
            ("+/none/#", 5),
            ("nothing/#", 1),
            ("+", 5),
        ] {
            assert!(looks(&retained, text) <= most, "{text}: {} looks", looks(&retained, text));
        }
    }

    #[test]
    fn a_page_ends_after_so_many_looks() {
        let retained =
            retained((0..1_000).map(|device| format!("{device}/state")).chain(["zzz/alarm".to_owned()]));
        let (mut after, mut pages, mut found) = (None, 0, Vec::new());
        loop {
            let page = retained.page(&filter("+/alarm"), after.as_ref(), 10, 100);
            found.extend(page.messages);
            pages += 1;
            after = page.after;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, ["zzz/alarm"]);
        assert!((5..=25).contains(&pages), "{pages}");
    }

    #[test]
    fn the_deepest_topic_is_no_danger() {
        let retained = retained(["/".repeat(65_535), "/".repeat(3), "a".to_owned()]);
        for (text, wanted) in
            [("+/+/+/+", 1), ("#", 3), ("//#", 2), (&*format!("{}+", "+/".repeat(32_766)), 0)]
        {
            assert_eq!(retained.collect(&filter(text), None, 10).0.len(), wanted, "{text:.10}");
        }
    }

    fn text(levels: &'static [&'static str]) -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(levels), 1..5).prop_map(|levels| levels.join("/"))
    }

    const LEVELS: &[&str] = &["", "a", "a\u{1}", "a!", "b", "设备", "温度", "$x", "$"];
    const WANTED: &[&str] = &["", "a", "b", "设备", "$x", "+", "+", "a\u{1}", "#"];

    proptest! {
        #[test]
        fn retained_messages_are_found_as_the_rule_says(
            calls in prop::collection::vec((0..5_u8, text(LEVELS)), 1..80),
            filters in prop::collection::vec(text(WANTED), 1..40),
            limit in 1..7_usize,
        ) {
            let (mut retained, mut model) = (Retained::default(), BTreeSet::new());
            for (call, text) in calls {
                let Ok(topic) = TopicName::parse(text) else { continue };
                if call == 0 {
                    prop_assert_eq!(retained.remove(&topic).is_some(), model.remove(&topic));
                } else {
                    prop_assert_eq!(retained.set(topic.clone(), topic.clone()).is_none(), model.insert(topic));
                }
                prop_assert_eq!(retained.len(), model.len());
            }
            for filter in filters.into_iter().filter_map(|text| TopicFilter::parse(text).ok()) {
                let wanted: Vec<_> = model.iter().filter(|topic| filter.matches(topic)).cloned().collect();
                let mut all = Vec::new();
                retained.for_each_match(&filter, &mut |topic| all.push(topic.clone()));
                let mut sorted = all.clone();
                sorted.sort();
                prop_assert_eq!(&sorted, &wanted, "{}", &filter);
                prop_assert_eq!(&by_collect(&retained, &filter, limit), &all, "collect {}", &filter);
                prop_assert_eq!(&by_page(&retained, &filter, limit), &all, "page {}", &filter);
            }
        }
    }

    fn by_collect(retained: &Retained<TopicName>, filter: &TopicFilter, limit: usize) -> Vec<TopicName> {
        let mut found: Vec<TopicName> = Vec::new();
        loop {
            let (messages, has_more) = retained.collect(filter, found.last(), limit);
            assert!(messages.len() <= limit && (!has_more || messages.len() == limit));
            found.extend(messages);
            if !has_more {
                return found;
            }
        }
    }

    fn by_page(retained: &Retained<TopicName>, filter: &TopicFilter, limit: usize) -> Vec<TopicName> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = retained.page(filter, after.as_ref(), limit, 2);
            found.extend(page.messages);
            after = page.after;
            if after.is_none() {
                return found;
            }
        }
    }
}
