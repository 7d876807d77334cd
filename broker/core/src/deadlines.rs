//! A timing wheel: whose time came? Constant cost to arm, to cancel and to fire, whatever the number of keys.

use crate::collections::index;

/// Deadlines are rounded up to this many milliseconds: none fires early, and none fires later than this.
pub const RESOLUTION_MS: u64 = 100;

const NONE: u32 = u32::MAX;
/// Nothing is armed for the tick at which time begins.
const UNUSED: u64 = 0;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// Enough for every number of 64 bits: no deadline is too far away.
const LEVELS: usize = 11;

/// One deadline for each key, held in slots that become finer as the time comes near.
///
/// ```text
/// level 0   64 slots of  0.1 s   the next   6.4 s      a key is moved down one level at most
/// level 1   64 slots of  6.4 s   the next   6.8 min    when its slot begins: a deadline a week
/// level 2   64 slots of  6.8 min the next   7.3 h      away is touched four times in all
/// ...
/// ```
/// A key costs itself, 16 bytes, and 8 bytes with its owner, who keeps where it stands: nothing is looked for.
#[derive(Debug)]
pub struct Deadlines<K> {
    /// The tick up to which everything fired.
    elapsed: u64,
    nodes: Vec<Node<K>>,
    /// The first unused node; the others follow by `next`.
    free: u32,
    len: usize,
    levels: [Level; LEVELS],
}

/// What the owner of a key keeps: where its deadline stands, and for when. It becomes [`Armed::NOT`] when the key fires,
/// before it is armed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Armed {
    node: u32,
    /// By then it will have fired; so an owner that asks for later is answered without a look at the node.
    until_s: u32,
}

impl Armed {
    /// There is no deadline.
    pub const NOT: Self = Self { node: NONE, until_s: u32::MAX };

    fn is_by(self, at_ms: u64) -> bool {
        self.until_s < u32::MAX && u64::from(self.until_s) <= at_ms / 1000
    }
}

#[derive(Debug)]
struct Node<K> {
    key: K,
    /// [`UNUSED`] while it is free.
    tick: u64,
    next: u32,
    previous: u32,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    /// A bit for each slot that is not empty.
    occupied: u64,
    heads: [u32; SLOTS],
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self {
            elapsed: 0,
            nodes: Vec::new(),
            free: NONE,
            len: 0,
            levels: [Level { occupied: 0, heads: [NONE; SLOTS] }; LEVELS],
        }
    }
}

impl<K: Copy + Eq> Deadlines<K> {
    /// How many keys are armed.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no key is armed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Lets `key` fire once, no later than `at_ms` asks for (at the next tick when that is over).
    ///
    /// A key that is armed for an earlier time stays so: its owner looks when it fires, and arms it again. So a packet
    /// that postpones a deadline costs nothing here.
    pub fn arm(&mut self, armed: &mut Armed, key: K, at_ms: u64) {
        if armed.is_by(at_ms) {
            return;
        }
        let tick = at_ms.div_ceil(RESOLUTION_MS).max(self.elapsed + 1);
        let at = match self.place(*armed, key) {
            Some(at) if self.tick(at).is_some_and(|known| known <= tick) => return,
            Some(at) => {
                self.unlink(at);
                at
            }
            None => self.add(key),
        };
        self.link(at, tick);
        let until_s = tick.saturating_mul(RESOLUTION_MS).div_ceil(1000);
        *armed = Armed { node: at, until_s: u32::try_from(until_s).unwrap_or(u32::MAX) };
    }

    /// Forgets the deadline of `key`; whether it had one.
    pub fn cancel(&mut self, armed: &mut Armed, key: K) -> bool {
        let armed = std::mem::replace(armed, Armed::NOT);
        let Some(at) = self.place(armed, key) else { return false };
        self.unlink(at);
        self.release(at);
        true
    }

    /// Calls `fire` for each key whose time came, and forgets it. Time that runs backwards changes nothing.
    pub fn advance(&mut self, now_ms: u64, fire: &mut impl FnMut(K)) {
        let now = now_ms / RESOLUTION_MS;
        while let Some((level, slot, start)) = self.next_slot() {
            if start > now {
                break;
            }
            self.elapsed = self.elapsed.max(start);
            self.empty_slot(level, slot, fire);
        }
        self.elapsed = self.elapsed.max(now);
    }

    /// When to call [`Deadlines::advance`] next, in milliseconds. Exact for the next seconds; for later deadlines it
    /// may come before them, so that they are moved closer.
    pub fn next_deadline(&self) -> Option<u64> {
        self.next_slot().map(|(_, _, start)| start.saturating_mul(RESOLUTION_MS))
    }

    /// The first slot that is not empty, and the tick at which it begins.
    ///
    /// A key stands on the level of the highest digit in which its tick differs from `elapsed`; so everything on a
    /// lower level comes before everything on a higher one, and no slot lies behind.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let (level, found) = self.levels.iter().enumerate().find(|(_, level)| level.occupied != 0)?;
        let slot = found.occupied.trailing_zeros() as usize;
        let shift = shift_of(level);
        let above = self.elapsed.checked_shr(shift + SLOT_BITS).unwrap_or(0);
        let above = above.checked_shl(shift + SLOT_BITS).unwrap_or(0);
        Some((level, slot, above | (slot as u64) << shift))
    }

    fn empty_slot(&mut self, level: usize, slot: usize, fire: &mut impl FnMut(K)) {
        let Some(head) = self.head_mut(level, slot) else { return };
        let mut at = std::mem::replace(head, NONE);
        if let Some(level) = self.levels.get_mut(level) {
            level.occupied &= !(1 << slot);
        }
        while let Some(node) = self.nodes.get(at as usize) {
            let (key, tick, next) = (node.key, node.tick, node.next);
            if tick <= self.elapsed {
                self.release(at);
                fire(key);
            } else {
                self.link(at, tick);
            }
            at = next;
        }
    }

    fn link(&mut self, at: u32, tick: u64) {
        let (level, slot) = self.slot_of(tick);
        let Some(head) = self.head_mut(level, slot) else { return };
        let next = std::mem::replace(head, at);
        if let Some(level) = self.levels.get_mut(level) {
            level.occupied |= 1 << slot;
        }
        if let Some(node) = self.nodes.get_mut(at as usize) {
            (node.tick, node.next, node.previous) = (tick, next, NONE);
        }
        if let Some(node) = self.nodes.get_mut(next as usize) {
            node.previous = at;
        }
    }

    fn unlink(&mut self, at: u32) {
        let Some(node) = self.nodes.get(at as usize) else { return };
        let (tick, next, previous) = (node.tick, node.next, node.previous);
        if let Some(node) = self.nodes.get_mut(next as usize) {
            node.previous = previous;
        }
        if let Some(node) = self.nodes.get_mut(previous as usize) {
            node.next = next;
            return;
        }
        let (level, slot) = self.slot_of(tick);
        if let Some(head) = self.head_mut(level, slot) {
            *head = next;
        }
        if next == NONE
            && let Some(level) = self.levels.get_mut(level)
        {
            level.occupied &= !(1 << slot);
        }
    }

    /// Level and slot of a tick behind `elapsed`. The same for as long as the key stands there.
    fn slot_of(&self, tick: u64) -> (usize, usize) {
        let differing = (self.elapsed ^ tick) | 1;
        let level = (differing.ilog2() / SLOT_BITS) as usize;
        (level, (tick >> shift_of(level)) as usize % SLOTS)
    }

    fn head_mut(&mut self, level: usize, slot: usize) -> Option<&mut u32> {
        self.levels.get_mut(level)?.heads.get_mut(slot)
    }

    fn tick(&self, at: u32) -> Option<u64> {
        self.nodes.get(at as usize).map(|node| node.tick)
    }

    /// An owner that was not told that its key fired holds a node that is unused, or somebody else's.
    fn place(&self, armed: Armed, key: K) -> Option<u32> {
        let node = self.nodes.get(armed.node as usize)?;
        (node.key == key && node.tick != UNUSED).then_some(armed.node)
    }

    fn add(&mut self, key: K) -> u32 {
        self.len += 1;
        let node = Node { key, tick: UNUSED, next: NONE, previous: NONE };
        match self.nodes.get_mut(self.free as usize) {
            Some(unused) => {
                let at = self.free;
                self.free = unused.next;
                *unused = node;
                at
            }
            None => {
                self.nodes.push(node);
                index(self.nodes.len() - 1)
            }
        }
    }

    fn release(&mut self, at: u32) {
        let Some(node) = self.nodes.get_mut(at as usize) else { return };
        (node.tick, node.next) = (UNUSED, self.free);
        self.free = at;
        self.len -= 1;
    }
}

fn shift_of(level: usize) -> u32 {
    SLOT_BITS * index(level)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet, HashMap};

    /// A wheel with its owners.
    #[derive(Default)]
    struct Wheel {
        wheel: Deadlines<u32>,
        owners: HashMap<u32, Armed>,
    }

    impl Wheel {
        fn arm(&mut self, key: u32, at_ms: u64) {
            self.wheel.arm(self.owners.entry(key).or_insert(Armed::NOT), key, at_ms);
        }

        fn cancel(&mut self, key: u32) -> bool {
            self.wheel.cancel(self.owners.entry(key).or_insert(Armed::NOT), key)
        }

        fn next_deadline(&self) -> Option<u64> {
            self.wheel.next_deadline()
        }
    }

    const WEEK_MS: u64 = 7 * 24 * 60 * 60 * 1000;

    fn fired(wheel: &mut Wheel, now_ms: u64) -> BTreeSet<u32> {
        let mut keys = BTreeSet::new();
        wheel.wheel.advance(now_ms, &mut |key| assert!(keys.insert(key), "{key} fired twice"));
        wheel.owners.retain(|key, _| !keys.contains(key));
        keys
    }

    #[test]
    fn a_node_is_small() {
        assert_eq!(size_of::<Node<u32>>(), 24);
        assert_eq!(size_of::<Node<u64>>(), 24);
    }

    #[test]
    fn a_far_deadline_is_looked_at_a_handful_of_times() {
        let start = 1_790_000_000_000;
        let mut wheel = Wheel::default();
        fired(&mut wheel, start);
        wheel.arm(1, start + WEEK_MS);
        let mut looks = 0;
        while let Some(next) = wheel.next_deadline() {
            looks += 1;
            let keys = fired(&mut wheel, next);
            assert_eq!(keys.contains(&1), next == start + WEEK_MS, "{next}");
        }
        assert!(looks <= 5, "{looks}");
    }

    #[test]
    fn a_deadline_in_the_past_fires_at_the_next_tick() {
        let mut wheel = Wheel::default();
        fired(&mut wheel, 10_000);
        wheel.arm(1, 5);
        assert_eq!(wheel.next_deadline(), Some(10_100));
        assert!(fired(&mut wheel, 10_099).is_empty());
        assert_eq!(fired(&mut wheel, 10_100), [1].into());
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    fn no_deadline_is_too_far() {
        let mut wheel = Wheel::default();
        wheel.arm(1, u64::MAX);
        wheel.arm(2, 100);
        assert_eq!(fired(&mut wheel, WEEK_MS * 100_000), [2].into());
        assert!(wheel.next_deadline().is_some());
        assert!(wheel.cancel(1));
        assert!(!wheel.cancel(1));
        assert_eq!((wheel.next_deadline(), wheel.wheel.len()), (None, 0));
    }

    #[test]
    fn memory_is_used_again() {
        let mut wheel = Wheel::default();
        for round in 0..1_000_u64 {
            for key in 0..10 {
                wheel.arm(key, round * 1_000 + u64::from(key) * 50_000);
            }
            fired(&mut wheel, round * 1_000);
        }
        assert!(wheel.wheel.nodes.len() <= 10);
    }

    #[test]
    fn an_owner_that_was_not_told_gets_no_deadline_of_another() {
        let mut wheel = Deadlines::default();
        let (mut late, mut other) = (Armed::NOT, Armed::NOT);
        wheel.arm(&mut late, 1, 100);
        wheel.advance(100, &mut |_| {});
        assert!(!wheel.cancel(&mut late.clone(), 1), "it has fired");
        wheel.arm(&mut other, 2, 9_000);
        assert_eq!(other.node, late.node, "memory is used again");
        assert!(!wheel.cancel(&mut late, 1));
        assert!(wheel.cancel(&mut other, 2));
        assert!(wheel.is_empty());
    }

    #[test]
    fn a_deadline_that_was_armed_between_firing_and_its_owners_look_is_taken_back() {
        let (mut wheel, mut armed) = (Deadlines::default(), Armed::NOT);
        wheel.arm(&mut armed, 1, 100);
        let mut due = Vec::new();
        wheel.advance(100, &mut |key| due.push(key));
        wheel.arm(&mut armed, 1, 5_000);
        for key in due {
            wheel.cancel(&mut armed, key);
        }
        assert!(wheel.is_empty());
        wheel.arm(&mut armed, 1, 9_000);
        assert_eq!(wheel.len(), 1);
    }

    #[derive(Clone, Debug)]
    enum Call {
        Arm(u32, u64),
        Cancel(u32),
        Pass(u64),
        ToNext,
    }

    fn call() -> impl Strategy<Value = Call> {
        let span = || prop_oneof![0..300_u64, 0..20_000_u64, 0..2 * WEEK_MS];
        prop_oneof![
            4 => (0..30_u32, span()).prop_map(|(key, span)| Call::Arm(key, span)),
            1 => (0..30_u32).prop_map(Call::Cancel),
            2 => span().prop_map(Call::Pass),
            3 => Just(Call::ToNext),
        ]
    }

    proptest! {
        #[test]
        fn no_key_fires_early_and_none_late(
            start in prop_oneof![Just(0), Just(1_790_000_000_000_u64)],
            calls in prop::collection::vec(call(), 1..200),
        ) {
            let mut wheel = Wheel::default();
            fired(&mut wheel, start); // the model's time begins here, and so must the wheel's
            let (mut now, mut model) = (start, BTreeMap::new());
            for call in calls {
                match call {
                    Call::Arm(key, span) => {
                        wheel.arm(key, now + span);
                        let at = (now + span).max(now / RESOLUTION_MS * RESOLUTION_MS + 1);
                        let known = model.entry(key).or_insert(at);
                        *known = at.min(*known);
                    }
                    Call::Cancel(key) => prop_assert_eq!(wheel.cancel(key), model.remove(&key).is_some()),
                    Call::Pass(span) => now += span,
                    Call::ToNext => now = now.max(wheel.next_deadline().unwrap_or(now)),
                }
                if matches!(call, Call::Pass(_) | Call::ToNext) {
                    for key in fired(&mut wheel, now) {
                        let at = model.remove(&key);
                        prop_assert!(at.is_some_and(|at| at <= now), "{} early: {:?} at {}", key, at, now);
                    }
                    let late = model.values().find(|at| **at + RESOLUTION_MS <= now);
                    prop_assert_eq!(late, None, "at {}", now);
                }
                let earliest = model.values().min().copied();
                prop_assert_eq!(wheel.next_deadline().is_some(), earliest.is_some());
                if let (Some(next), Some(earliest)) = (wheel.next_deadline(), earliest) {
                    prop_assert!(next < earliest + RESOLUTION_MS, "{} {}", next, earliest);
                }
                prop_assert_eq!(wheel.wheel.len(), model.len());
            }
        }
    }
}
