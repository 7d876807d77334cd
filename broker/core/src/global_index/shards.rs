//! Which shards, and how many subscriptions each of them has.

use crate::io::ShardNo;

/// Shards that a [`ShardSet`] can hold, and so the most that a broker may have.
pub const SHARDS_MAX: u16 = 128;

/// A set of shards below [`SHARDS_MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet(u128);

/// How many subscriptions each shard has; the last one of a shard takes its bit with it.
#[derive(Debug)]
pub(super) enum ShardCounts {
    One(ShardNo, u32),
    Many(Box<ManyShards>),
}

#[derive(Debug)]
pub(super) struct ManyShards {
    set: ShardSet,
    /// At most [`SHARDS_MAX`].
    counts: Vec<(ShardNo, u32)>,
}

impl ShardSet {
    /// Takes in all shards of another set.
    pub(super) fn join(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Adds one.
    pub fn insert(&mut self, shard: ShardNo) {
        debug_assert!(shard.0 < SHARDS_MAX, "a broker has at most so many shards");
        self.0 |= bit(shard);
    }

    /// Takes one out.
    pub fn remove(&mut self, shard: ShardNo) {
        self.0 &= !bit(shard);
    }

    /// Whether it is in.
    pub fn contains(self, shard: ShardNo) -> bool {
        self.0 & bit(shard) != 0
    }

    /// Whether none is in.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The shards in it, the lowest first.
    pub fn iter(self) -> impl Iterator<Item = ShardNo> {
        (0..SHARDS_MAX).map(ShardNo).filter(move |shard| self.contains(*shard))
    }
}

fn bit(shard: ShardNo) -> u128 {
    1_u128.checked_shl(u32::from(shard.0)).unwrap_or(0)
}

impl ShardCounts {
    pub(super) fn set(&self) -> ShardSet {
        match self {
            Self::One(shard, _) => ShardSet(bit(*shard)),
            Self::Many(many) => many.set,
        }
    }

    pub(super) fn add(&mut self, shard: ShardNo) {
        match self {
            Self::One(only, count) if *only == shard => *count += 1,
            Self::One(only, count) => {
                let counts = vec![(*only, *count), (shard, 1)];
                *self = Self::Many(Box::new(ManyShards { set: ShardSet(bit(*only) | bit(shard)), counts }));
            }
            Self::Many(many) => many.add(shard),
        }
    }

    /// Whether nothing is left.
    pub(super) fn remove(&mut self, shard: ShardNo) -> bool {
        match self {
            Self::One(only, _) if *only != shard => false,
            Self::One(_, count) => {
                *count -= 1;
                *count == 0
            }
            Self::Many(many) => {
                many.remove(shard);
                if let [(only, count)] = many.counts.as_slice() {
                    *self = Self::One(*only, *count);
                }
                false
            }
        }
    }
}

impl ManyShards {
    pub(super) fn add(&mut self, shard: ShardNo) {
        self.set.insert(shard);
        match self.counts.iter_mut().find(|(known, _)| *known == shard) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((shard, 1)),
        }
    }

    pub(super) fn remove(&mut self, shard: ShardNo) {
        let Some(place) = self.counts.iter().position(|(known, _)| *known == shard) else { return };
        let Some((_, count)) = self.counts.get_mut(place) else { return };
        *count -= 1;
        if *count == 0 {
            self.counts.swap_remove(place);
            self.set.remove(shard);
        }
    }
}
