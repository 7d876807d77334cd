//! Whose turn it is in a group of a shared subscription.

use super::Sent;
use crate::collections::mix;
use crate::control::Strategy;
use crate::io::{Pick, ShardNo};
use reveille_proto::topic::TopicName;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU32, Ordering};

/// The members of one group, shard by shard.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// At most [`SHARDS_MAX`], ordered.
    shards: Vec<(ShardNo, Members, Load)>,
    /// How far apart two turns are among the weights.
    stride: u32,
    /// Atomic because turns are taken under a read lock.
    turn: AtomicU32,
}

/// Messages on their way to the members of one shard. Counted where the strategy asks for it; atomic like the turn.
#[derive(Debug, Default)]
struct Load(AtomicU32);

#[derive(Clone, Copy, Debug, Default)]
struct Members {
    all: u32,
    online: u32,
}

impl Group {
    /// A member of this shard joined.
    pub(super) fn join(&mut self, shard: ShardNo) {
        if let Err(place) = self.shards.binary_search_by_key(&shard, |(known, ..)| *known) {
            self.shards.insert(place, (shard, Members::default(), Load::default()));
        }
        self.change(shard, |members| members.all += 1);
    }

    /// A member of this shard ended.
    pub(super) fn leave(&mut self, shard: ShardNo) {
        self.change(shard, |members| members.all = members.all.saturating_sub(1));
    }

    /// Members of this shard came (positive) or left.
    pub(super) fn online(&mut self, shard: ShardNo, change: i32) {
        self.change(shard, |members| members.online = members.online.saturating_add_signed(change));
    }

    /// Whether nobody is left.
    pub(super) fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    fn change(&mut self, shard: ShardNo, change: impl FnOnce(&mut Members)) {
        let Ok(place) = self.shards.binary_search_by_key(&shard, |(known, ..)| *known) else { return };
        let Some((_, members, _)) = self.shards.get_mut(place) else { return };
        change(members);
        members.online = members.online.min(members.all);
        if members.all == 0 {
            self.shards.remove(place);
        }
        let (_, total) = self.weights();
        self.stride = stride(total);
    }

    /// What a shard weighs, and the sum: members that are online, all members where none is.
    fn weights(&self) -> (fn(&Members) -> u32, u32) {
        let online = self.shards.iter().map(|(_, members, _)| members.online).sum();
        if online > 0 {
            return (|members| members.online, online);
        }
        (|members| members.all, self.shards.iter().map(|(_, members, _)| members.all).sum())
    }

    /// The shard, and how it shall choose among its members: by the same strategy.
    pub(super) fn pick(&self, strategy: Strategy, sent: &Sent<'_>) -> Option<(Pick, ShardNo)> {
        match strategy {
            Strategy::RoundRobin => self.choose().map(|shard| (Pick::Turn, shard)),
            Strategy::HashTopic => self.hashed(hash_of(sent.topic)),
            Strategy::HashClient => self.hashed(sent.sender),
            Strategy::LeastInFlight => self.least_loaded(sent.is_acknowledged),
        }
    }

    /// Rendezvous: each shard draws a number by the hash and its weight, the highest wins. So a shard that comes or goes
    /// moves only what it wins or had won.
    fn hashed(&self, hash: u64) -> Option<(Pick, ShardNo)> {
        let (weight, _) = self.weights();
        let drawn =
            self.shards.iter().filter(|(_, members, _)| weight(members) > 0).map(|(shard, members, _)| {
                let mixed = mix(hash ^ mix(u64::from(shard.0)));
                let fraction = (mixed >> 11) as f64 / (1_u64 << 53) as f64; // 0 to 1
                (*shard, fraction.max(f64::MIN_POSITIVE).ln() / f64::from(weight(members)))
            });
        let (shard, _) = drawn.max_by(|left, right| left.1.total_cmp(&right.1))?;
        Some((Pick::Hash(hash), shard))
    }

    /// The shard with the fewest messages on their way to each of its members; among equals the one whose turn it is.
    fn least_loaded(&self, is_counted: bool) -> Option<(Pick, ShardNo)> {
        let (weight, _) = self.weights();
        let first = self.turn.fetch_add(1, Ordering::Relaxed) as usize % self.shards.len().max(1);
        let (before, after) = self.shards.split_at_checked(first)?;
        let candidates = after.iter().chain(before).filter(|(_, members, _)| weight(members) > 0);
        let load_of = |(_, members, load): &&(ShardNo, Members, Load)| {
            u64::from(load.0.load(Ordering::Relaxed)) * u64::from(u16::MAX) / u64::from(weight(members))
        };
        let (shard, _, load) = candidates.min_by_key(load_of)?;
        if is_counted {
            load.0.fetch_add(1, Ordering::Relaxed);
        }
        Some((Pick::Least(is_counted), *shard))
    }

    pub(super) fn release(&self, shard: ShardNo) {
        let Ok(place) = self.shards.binary_search_by_key(&shard, |(known, ..)| *known) else { return };
        let Some((_, _, load)) = self.shards.get(place) else { return };
        let less = |load: u32| load.checked_sub(1); // of members that left before, nothing is counted any more
        let _ = load.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Round robin: as many turns in a row as there are members give each shard exactly as many as it has, and
    /// spread them, so that a large shard does not get a thousand messages before the next one gets its first.
    pub(super) fn choose(&self) -> Option<ShardNo> {
        let (weight, total) = self.weights();
        let turn = u64::from(self.turn.fetch_add(1, Ordering::Relaxed));
        let mut left = (turn * u64::from(self.stride)).checked_rem(u64::from(total))?;
        for (shard, members, _) in &self.shards {
            match left.checked_sub(u64::from(weight(members))) {
                Some(rest) => left = rest,
                None => return Some(*shard),
            }
        }
        None
    }
}

/// Fixed keys: the same in every shard and every run.
fn hash_of(topic: &TopicName) -> u64 {
    let mut hasher = DefaultHasher::new();
    topic.hash(&mut hasher);
    hasher.finish()
}

/// A step that visits every number below `total` once before it returns to the first, and neighbours far apart:
/// without a common divisor, near the golden section of `total`.
fn stride(total: u32) -> u32 {
    let golden = u32::try_from(u64::from(total) * 618 / 1000).unwrap_or(0).max(1);
    (golden..).find(|step| greatest_common_divisor(*step, total) <= 1).unwrap_or(1)
}

fn greatest_common_divisor(mut left: u32, mut right: u32) -> u32 {
    while right > 0 {
        (left, right) = (right, left % right);
    }
    left
}
