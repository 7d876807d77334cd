//! A filter without wildcards in eight bytes: a million phones have a million of them.

use super::SHARDS_MAX;
use crate::io::ShardNo;

/// Bits that are not the hash: a byte for the shard, a byte for the count.
pub(super) const REST_BITS: u32 = 16;
/// Subscriptions that the count holds.
pub(super) const COUNT_MAX: u8 = u8::MAX;
/// No shard has this number.
const CROWDED: u8 = u8::MAX;
const _: () = assert!(SHARDS_MAX <= CROWDED as u16);

/// 48 bits of a hash, and the one shard that has subscriptions with it, or that there is more to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExactFilter(u64);

impl ExactFilter {
    /// Subscriptions of one shard.
    pub fn new(hash: u64, shard: ShardNo, count: u8) -> Self {
        let shard = u8::try_from(shard.0).unwrap_or(CROWDED);
        Self(hash << REST_BITS | u64::from(shard) << 8 | u64::from(count))
    }

    /// Subscriptions of several shards, or too many.
    pub fn crowded(hash: u64) -> Self {
        Self(hash << REST_BITS | u64::from(CROWDED) << 8)
    }

    /// As the table keeps it. Never 0: either the count or the shard is not.
    pub fn word(self) -> u64 {
        self.0
    }

    /// What the table keeps.
    pub fn of(word: u64) -> Self {
        Self(word)
    }

    /// What the table knows a hash by: the half of the word above.
    #[expect(clippy::cast_possible_truncation, reason = "the upper 32 of 48 bits")]
    pub fn table_hash(hash: u64) -> u32 {
        (hash >> (32 - REST_BITS)) as u32
    }

    /// The hash, of 48 bits.
    pub fn hash(self) -> u64 {
        self.0 >> REST_BITS
    }

    /// The one shard and how many subscriptions it has; `None` when it is crowded.
    pub fn shard(self) -> Option<(ShardNo, u8)> {
        let [count, shard, ..] = self.0.to_le_bytes();
        (shard != CROWDED).then_some((ShardNo(shard.into()), count))
    }
}
