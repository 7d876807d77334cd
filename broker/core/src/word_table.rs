//! A hash table of eight-byte words. A look costs one line of the processor's cache, where tables that keep marks apart from
//! entries take two; a million filters are in no cache, and a line from memory costs as much as the rest of the look.

/// Words whose upper half is a hash, each as near as there was room to the place that the hash names. No word is 0.
///
/// The hash is the caller's: keyed, where others choose what is hashed. It is at hand when the table grows, which looks at
/// nothing else; and a look passes over strangers without asking.
#[derive(Clone, Debug, Default)]
pub(crate) struct WordTable {
    words: Vec<u64>,
    len: usize,
}

const FREE: u64 = 0;
const SMALLEST: usize = 8;

impl WordTable {
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the first word stands that has this hash and that `is_it`.
    pub fn find(&self, hash: u32, mut is_it: impl FnMut(u64) -> bool) -> Option<usize> {
        let mut at = self.home(hash);
        // Ends at a free word: one in five is.
        loop {
            match *self.words.get(at)? {
                FREE => return None,
                word if hash_of(word) == hash && is_it(word) => return Some(at),
                _ => at = self.next(at),
            }
        }
    }

    /// The word that stands there.
    pub fn word(&self, at: usize) -> Option<u64> {
        self.words.get(at).copied().filter(|word| *word != FREE)
    }

    /// Adds a word. Its like may be there already.
    pub fn insert(&mut self, word: u64) {
        debug_assert_ne!(word, FREE, "this one marks room");
        if (self.len + 1) * 5 > self.words.len() * 4 {
            self.grow();
        }
        self.len += 1;
        self.settle(word);
    }

    /// Puts another word of the same hash in the place of one.
    pub fn replace(&mut self, at: usize, word: u64) {
        debug_assert!(self.word(at).is_some_and(|known| hash_of(known) == hash_of(word)) && word != FREE);
        if let Some(known) = self.words.get_mut(at) {
            *known = word;
        }
    }

    /// Takes out the word that stands there. What lies behind it moves up, so that no search stops at the gap.
    pub fn remove(&mut self, at: usize) {
        debug_assert!(self.word(at).is_some());
        self.len -= 1;
        if self.len == 0 {
            return self.words = Vec::new();
        }
        let (mut gap, mut from) = (at, self.next(at));
        while let Some(word) = self.word(from) {
            // It may not move before its home: the way from there to where it stands must lead over the gap.
            if self.distance(self.home(hash_of(word)), from) >= self.distance(gap, from) {
                self.set(gap, word);
                gap = from;
            }
            from = self.next(from);
        }
        self.set(gap, FREE);
    }

    /// By half: a table that doubles is half empty for as long as it grows. Words keep the order of their homes, so both tables are
    /// passed from one end to the other.
    fn grow(&mut self) {
        let room = (self.words.len() * 3 / 2).max(SMALLEST);
        let words = std::mem::replace(&mut self.words, vec![FREE; room]);
        words.into_iter().filter(|word| *word != FREE).for_each(|word| self.settle(word));
    }

    fn settle(&mut self, word: u64) {
        let mut at = self.home(hash_of(word));
        while self.word(at).is_some() {
            at = self.next(at);
        }
        self.set(at, word);
    }

    fn set(&mut self, at: usize, word: u64) {
        if let Some(known) = self.words.get_mut(at) {
            *known = word;
        }
    }

    /// As far into the table as the hash is into all hashes.
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.words.len() as u64) >> 32) as usize
    }

    fn next(&self, at: usize) -> usize {
        if at + 1 < self.words.len() { at + 1 } else { 0 }
    }

    /// How far it is from one place to another, around the end.
    fn distance(&self, from: usize, to: usize) -> usize {
        if to < from { to + self.words.len() - from } else { to - from }
    }
}

fn hash_of(word: u64) -> u32 {
    (word >> 32) as u32
}

/// A hash, and the place in a list of what it is the hash of.
pub(crate) fn place(hash: u32, index: u32) -> u64 {
    debug_assert_ne!(index, u32::MAX, "no list is so long");
    u64::from(hash) << 32 | u64::from(index.wrapping_add(1))
}

/// The place in the list.
pub(crate) fn index_of(word: u64) -> u32 {
    (word as u32).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn has(table: &WordTable, word: u64) -> bool {
        table.find(hash_of(word), |known| known == word).is_some()
    }

    /// Few hashes, so that many meet; those at the end of the table go on at its beginning.
    fn word() -> impl Strategy<Value = u64> {
        let hash = prop_oneof![0..8_u32, Just(u32::MAX), Just(u32::MAX - 1), any::<u32>()];
        (hash, 0..4_u32).prop_map(|(hash, index)| place(hash, index))
    }

    proptest! {
        #[test]
        fn a_table_is_a_set(calls in prop::collection::vec((any::<bool>(), word()), 0..400)) {
            let (mut table, mut model) = (WordTable::default(), BTreeSet::new());
            for (is_insert, word) in calls {
                let found = table.find(hash_of(word), |known| known == word);
                prop_assert_eq!(found.is_some(), model.contains(&word));
                match found {
                    Some(at) if !is_insert => {
                        table.remove(at);
                        model.remove(&word);
                    }
                    None if is_insert => {
                        table.insert(word);
                        model.insert(word);
                    }
                    _ => {}
                }
                prop_assert_eq!((table.len(), table.is_empty()), (model.len(), model.is_empty()));
                prop_assert!(model.iter().all(|word| has(&table, *word)));
                prop_assert_eq!(table.words.iter().filter(|word| **word != FREE).count(), model.len());
                prop_assert!(table.len * 5 <= table.words.len() * 4, "there is always room");
            }
        }
    }

    #[test]
    fn a_place_comes_back_whole() {
        for (hash, index) in [(0, 0), (u32::MAX, u32::MAX - 1), (1, 7), (0, u32::MAX - 1)] {
            let word = place(hash, index);
            assert_ne!(word, FREE);
            assert_eq!((hash_of(word), index_of(word)), (hash, index));
        }
    }

    #[test]
    fn a_word_is_replaced_and_an_empty_table_has_no_memory() {
        let mut table = WordTable::default();
        assert_eq!(table.find(7, |_| true), None);
        table.insert(place(7, 1));
        let at = table.find(7, |_| true).unwrap();
        table.replace(at, place(7, 2));
        assert_eq!(table.word(at).map(index_of), Some(2));
        table.remove(at);
        assert_eq!((table.word(at), table.words.capacity()), (None, 0));
    }
}
