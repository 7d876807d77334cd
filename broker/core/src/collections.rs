//! Small containers for tables with millions of entries: a list that finds its keys, a short text in place, and maps
//! whose keys are our own numbers.

use hashbrown::HashTable;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};

/// A map whose keys are numbers that this broker gave out. Nobody outside chooses them, so that a multiplication is hash
/// enough, and its order is the same in every run.
pub type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// Spreads numbers that count upwards over all bits; several in a row are folded.
#[derive(Clone, Copy, Debug, Default)]
pub struct NumberHasher(u64);

/// 2^64 divided by the golden ratio: neighbours end far from each other.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for NumberHasher {
    fn write_u64(&mut self, number: u64) {
        let product = u128::from(self.0 ^ number) * u128::from(SPREAD);
        self.0 = (product as u64) ^ ((product >> 64) as u64).rotate_left(32); // both halves, folded
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Up to here a look through the list costs less than a table of places.
const SCANNED_MAX: usize = 16;

/// A map that keeps its pairs in one list: as small as a list while short, and constant cost for each key when long.
///
/// The order depends on the calls only, never on hashes, so that the same input gives the same run. Removal moves
/// the last pair into the gap. At most `u32::MAX` pairs.
pub struct ListMap<K, V> {
    list: Vec<(K, V)>,
    places: Option<Box<Places>>,
}

/// Where each key of a long list stands. The hash is keyed: keys may be chosen by a client.
#[derive(Default)]
struct Places {
    table: HashTable<u32>,
    hasher: RandomState,
}

impl<K: Eq + Hash, V> ListMap<K, V> {
    /// An empty map without memory.
    pub fn new() -> Self {
        Self { list: Vec::new(), places: None }
    }

    /// How many pairs.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All pairs in the order of the list.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.list.iter().map(|(key, value)| (key, value))
    }

    /// The pair at a place.
    pub fn at(&self, place: usize) -> Option<(&K, &V)> {
        self.list.get(place).map(|(key, value)| (key, value))
    }

    /// The place of a key.
    pub fn place<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<usize>
    where
        K: Borrow<Q>,
    {
        let Some(places) = &self.places else {
            return self.list.iter().position(|(known, _)| known.borrow() == key);
        };
        let is_same = |at: &u32| self.list.get(*at as usize).is_some_and(|(known, _)| known.borrow() == key);
        places.table.find(places.hasher.hash_one(key), is_same).map(|at| *at as usize)
    }

    /// The value of a key.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.list.get(self.place(key)?).map(|(_, value)| value)
    }

    /// The value of a key, to change it.
    pub fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let place = self.place(key)?;
        self.list.get_mut(place).map(|(_, value)| value)
    }

    /// Adds a pair at the end, or replaces the value of a known key and gives back the earlier one.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        if let Some(known) = self.get_mut(&key) {
            return Some(std::mem::replace(known, value));
        }
        self.list.push((key, value));
        let (list, last) = (&self.list, self.list.len() - 1);
        match &mut self.places {
            Some(places) => places.add(list, last),
            None if list.len() > SCANNED_MAX => {
                let mut places = Box::<Places>::default();
                (0..list.len()).for_each(|place| places.add(list, place));
                self.places = Some(places);
            }
            None => {}
        }
        None
    }

    /// Takes a key out; the last pair takes its place.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let place = self.place(key)?;
        let last = self.list.len() - 1;
        self.swap(place, last);
        if let Some(places) = &mut self.places {
            places.drop_place(&self.list, last);
        }
        let (_, value) = self.list.pop()?;
        self.give_back_memory();
        Some(value)
    }

    /// Two pairs change places. Nothing happens when a place is behind the end.
    pub fn swap(&mut self, left: usize, right: usize) {
        if left == right || left.max(right) >= self.list.len() {
            return;
        }
        if let Some(places) = &mut self.places {
            places.exchange(&self.list, left, right);
        }
        self.list.swap(left, right);
    }

    /// A list that was long once does not stay so.
    fn give_back_memory(&mut self) {
        if self.list.len() < SCANNED_MAX / 2 {
            self.places = None;
        }
        if self.list.capacity() > 8 && self.list.len() * 4 <= self.list.capacity() {
            self.list.shrink_to(self.list.len() * 2);
            let list = &self.list;
            if let Some(Places { table, hasher }) = self.places.as_deref_mut() {
                table.shrink_to(list.len() * 2, |at| hash_at(hasher, list, *at));
            }
        }
    }
}

impl Places {
    fn add<K: Hash, V>(&mut self, list: &[(K, V)], place: usize) {
        let hasher = &self.hasher;
        let at = index(place);
        self.table.insert_unique(hash_at(hasher, list, at), at, |at| hash_at(hasher, list, *at));
    }

    fn drop_place<K: Hash, V>(&mut self, list: &[(K, V)], place: usize) {
        let at = index(place);
        if let Ok(found) = self.table.find_entry(hash_at(&self.hasher, list, at), |known| *known == at) {
            found.remove();
        }
    }

    /// Three steps, so that no two entries are equal for a moment. Nothing is added: a table that grew now would hash
    /// keys at wrong places.
    fn exchange<K: Hash, V>(&mut self, list: &[(K, V)], left: usize, right: usize) {
        let (left, right, nowhere) = (index(left), index(right), u32::MAX);
        let (left_hash, right_hash) = (hash_at(&self.hasher, list, left), hash_at(&self.hasher, list, right));
        for (hash, from, to) in
            [(left_hash, left, nowhere), (right_hash, right, left), (left_hash, nowhere, right)]
        {
            if let Some(at) = self.table.find_mut(hash, |known| *known == from) {
                *at = to;
            }
        }
    }
}

fn hash_at<K: Hash, V>(hasher: &RandomState, list: &[(K, V)], at: u32) -> u64 {
    list.get(at as usize).map_or(0, |(key, _)| hasher.hash_one(key))
}

/// A place as the tables keep it. More than `u32::MAX` entries do not fit into any memory this runs on.
pub(crate) fn index(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

impl<K: Eq + Hash, V> Default for ListMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for ListMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.list.iter().map(|(key, value)| (key, value))).finish()
    }
}

/// As many bytes as fit beside what a long text needs anyway.
const SHORT_MAX: usize = 22;

/// One level of a filter, 24 bytes: most levels, ids of devices among them, need no memory of their own.
#[derive(Debug)]
pub(crate) enum Label {
    Short { len: u8, bytes: [u8; SHORT_MAX] },
    Long(Box<str>),
}

impl Label {
    pub fn new(text: &str) -> Self {
        let mut bytes = [0; SHORT_MAX];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(room), Ok(len)) => {
                room.copy_from_slice(text.as_bytes());
                Self::Short { len, bytes }
            }
            _ => Self::Long(text.into()),
        }
    }

    pub fn is(&self, text: &str) -> bool {
        match self {
            Self::Short { len, bytes } => bytes.get(..usize::from(*len)) == Some(text.as_bytes()),
            Self::Long(long) => **long == *text,
        }
    }
}

/// SplitMix64's finalizer: neighbours become unlike each other.
pub(crate) fn mix(seed: u64) -> u64 {
    let x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_label_is_small_and_knows_its_text() {
        assert_eq!(size_of::<Label>(), 24);
        for text in
            ["", "a", "just 22 bytes long....", "just 23 bytes long.....", "设备", "一个很长的主题层级名称"]
        {
            assert!(Label::new(text).is(text), "{text}");
            assert!(!Label::new(text).is("other"), "{text}");
        }
        assert!(!Label::new("a").is("a\u{1}"));
    }

    #[test]
    fn a_list_that_shrinks_gives_its_memory_back() {
        let mut map: ListMap<u32, u32> = (0..100_000).fold(ListMap::new(), |mut map, key| {
            map.insert(key, key);
            map
        });
        for key in 0..99_999 {
            assert_eq!(map.remove(&key), Some(key));
        }
        assert_eq!(map.iter().collect::<Vec<_>>(), [(&99_999, &99_999)]);
        assert!(map.places.is_none());
        assert!(map.list.capacity() <= 8, "{}", map.list.capacity());
    }

    proptest! {
        #[test]
        fn a_list_map_is_a_map(calls in prop::collection::vec((0..4_u8, 0..60_u16, 0..60_u16), 0..400)) {
            let (mut map, mut model) = (ListMap::new(), HashMap::new());
            for (call, key, other) in calls {
                match call {
                    0 | 1 => prop_assert_eq!(map.insert(key, other), model.insert(key, other)),
                    2 => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                    _ => map.swap(usize::from(key), usize::from(other)),
                }
                prop_assert_eq!(map.len(), model.len());
                for key in 0..60 {
                    prop_assert_eq!(map.get(&key), model.get(&key));
                    let place = map.place(&key);
                    let found = place.and_then(|place| map.at(place)).map(|(key, _)| *key);
                    prop_assert_eq!(found, model.contains_key(&key).then_some(key));
                }
            }
        }
    }
}
