//! The broker's side: one vote a phone and network, pooled with the code that the broker runs.

use crate::places::KEYS;
use reveille_proto::heartbeat::{Bin, Timeouts, Votes};
use std::collections::BTreeMap;

type Claim = (Bin, Bin);

/// What the broker knows of all networks.
#[derive(Debug)]
pub struct Fleet {
    keys: Vec<Key>,
}

#[derive(Clone, Debug)]
struct Key {
    votes: Votes,
    voters: BTreeMap<usize, Claim>,
    is_dirty: bool,
    estimate: Timeouts,
}

impl Default for Fleet {
    fn default() -> Self {
        let key = Key {
            votes: Votes::default(),
            voters: BTreeMap::new(),
            is_dirty: false,
            estimate: Timeouts::default(),
        };
        Self { keys: vec![key; KEYS] }
    }
}

impl Fleet {
    /// What this phone claims now; its earlier claim is taken back.
    pub fn vote(&mut self, key: usize, phone: usize, claim: Option<Claim>) {
        let Some(key) = self.keys.get_mut(key) else { return };
        if key.voters.get(&phone).copied() == claim {
            return;
        }
        if let Some(before) = key.voters.remove(&phone) {
            key.votes.remove(before, 1.0);
        }
        if let Some(claim) = claim {
            key.votes.add(claim, 1.0);
            key.voters.insert(phone, claim);
        }
        key.is_dirty = true;
    }

    /// Estimates anew what has changed.
    pub fn settle(&mut self) {
        let parent = Timeouts::default();
        for key in self.keys.iter_mut().filter(|key| key.is_dirty) {
            key.estimate = key.votes.estimate(&parent);
            key.is_dirty = false;
        }
    }

    /// What a phone on this network is told; `None` while nobody has voted.
    pub fn estimate(&self, key: usize) -> Option<&Timeouts> {
        self.keys.get(key).filter(|key| !key.voters.is_empty()).map(|key| &key.estimate)
    }
}
