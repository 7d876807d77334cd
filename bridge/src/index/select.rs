//! Set algebra: which numbers an expression means, a window at a time.
//!
//! A window bounds how long the lock is held and how much memory a look takes; each set is cut down to the window
//! before anything is done with it, which for a bitmap means to pick one of its containers.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use reveille_proto::ids::AppId;
use roaring::RoaringBitmap;

use super::{DeviceNumber, Index, Sets};
use crate::audience::expression::{Expression, Field, Match};

/// Numbers that are counted under one lock.
const COUNT_WINDOW: u32 = 1 << 20;
/// Numbers that are looked at for one chunk of an audience under one lock: a container of a bitmap.
const CHUNK_WINDOW: u32 = 1 << 16;

/// What an expression means beside the sets.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Known {
    /// The numbers of the devices that it names.
    pub devices: HashMap<String, DeviceNumber>,
    /// From which moment ages count, in milliseconds since 1970.
    pub now_ms: u64,
}

/// How many devices are meant, and of what kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub devices: u64,
    pub online: u64,
    /// Devices with a live token, by vendor; a device may have several.
    pub by_vendor: BTreeMap<String, u64>,
    /// Devices with no live token anywhere.
    pub without_token: u64,
}

impl Index {
    /// How many devices an expression means, and of what kind: each counted once, as it is when its window is looked
    /// at.
    pub fn summary(&self, app: &AppId, expression: &Expression, known: &Known) -> Summary {
        let mut summary = Summary::default();
        self.each_window(app, 0, COUNT_WINDOW, |sets, window| {
            let found = sets.select(expression, known, window);
            summary.devices += found.len();
            summary.online += found.intersection_len(&sets.online);
            let mut with_token = RoaringBitmap::new();
            for (vendor, members) in sets.by_value.get(&Field::Vendor).into_iter().flatten() {
                let here = members.within(&found);
                if !here.is_empty() {
                    *summary.by_vendor.entry(vendor.to_string()).or_default() += here.len();
                    with_token |= here;
                }
            }
            summary.without_token += found.len() - with_token.len();
            true
        });
        summary
    }

    /// The next numbers that an expression means, and with which to go on; `None` at the end. A device that comes
    /// or changes meanwhile is meant or not as it is when its window is looked at; numbers never move.
    pub fn numbers_from(
        &self,
        app: &AppId,
        expression: &Expression,
        known: &Known,
        from: u32,
        limit: usize,
    ) -> (Vec<DeviceNumber>, Option<DeviceNumber>) {
        let mut numbers = Vec::new();
        let mut next = None;
        self.each_window(app, from, CHUNK_WINDOW, |sets, window| {
            let mut found = sets.select(expression, known, window).into_iter().map(DeviceNumber);
            numbers.extend(found.by_ref().take(limit - numbers.len()));
            next = found.next();
            next.is_none()
        });
        (numbers, next)
    }

    /// The last numbers below one that an expression means, largest first.
    pub fn numbers_before(
        &self,
        app: &AppId,
        expression: &Expression,
        known: &Known,
        before: u32,
        limit: usize,
    ) -> Vec<DeviceNumber> {
        let (mut numbers, mut before) = (Vec::new(), before);
        while numbers.len() < limit {
            let apps = self.read();
            let Some(sets) = apps.get(app) else { break };
            let Some(last) = sets.all.range(..before).next_back() else { break };
            let first = last & !(CHUNK_WINDOW - 1);
            let mut window = RoaringBitmap::new();
            window.insert_range(first..=last);
            window &= &sets.all;
            let found = sets.select(expression, known, &window);
            numbers.extend(found.into_iter().rev().take(limit - numbers.len()).map(DeviceNumber));
            before = first;
        }
        numbers
    }

    /// Calls `look` for the devices of one window after the other, each under a lock of its own, until it says
    /// `false`. Windows without a device are passed over.
    fn each_window(
        &self,
        app: &AppId,
        from: u32,
        length: u32,
        mut look: impl FnMut(&Sets, &RoaringBitmap) -> bool,
    ) {
        let mut from = Some(from);
        while let Some(begin) = from {
            let apps = self.read();
            let Some(sets) = apps.get(app) else { return };
            let Some(first) = sets.all.range(begin..).next() else { return };
            let last = first | (length - 1); // windows end where containers do
            let mut window = RoaringBitmap::new();
            window.insert_range(first..=last);
            window &= &sets.all;
            if !look(sets, &window) {
                return;
            }
            from = last.checked_add(1);
        }
    }
}

impl Sets {
    /// The numbers within `within`, which are all of them devices, that an expression means.
    fn select(&self, expression: &Expression, known: &Known, within: &RoaringBitmap) -> RoaringBitmap {
        match expression {
            Expression::All => within.clone(),
            Expression::Online => within & &self.online,
            Expression::Has(field, Match::Exactly(value)) => {
                let members = self.by_value.get(field).and_then(|values| values.get(value.as_str()));
                members.map(|members| members.within(within)).unwrap_or_default()
            }
            Expression::Has(field, Match::StartsWith(start)) => self.starting_with(field, start, within),
            Expression::Compare(field, comparison, bound) => {
                let values = self.by_value.get(field).into_iter().flatten();
                let holds = |value: &str| bound.order_of(value).is_some_and(|order| comparison.holds(order));
                union(values.filter(|(value, _)| holds(value)).map(|(_, members)| members), within)
            }
            Expression::LastSeen(comparison, age_s) => {
                let now_s = known.now_ms / 1000;
                let holds = |number: &u32| {
                    self.age_s(*number, now_s).is_some_and(|age| comparison.holds(age.cmp(age_s)))
                };
                within.iter().filter(holds).collect()
            }
            Expression::Device(id) => {
                let number = known.devices.get(id).filter(|number| within.contains(number.0));
                number.into_iter().map(|number| number.0).collect()
            }
            Expression::Segment(_) => RoaringBitmap::new(), // stands for nothing once segments are written out
            Expression::Not(inner) => within - self.select(inner, known, within),
            Expression::And(sets) => self.every(sets, known, within),
            Expression::Or(sets) => {
                let mut found = RoaringBitmap::new();
                for set in sets {
                    found |= self.select(set, known, within);
                }
                found
            }
        }
    }

    /// Each test looks only at what the ones before left; those that look at each device come last.
    fn every(&self, sets: &[Expression], known: &Known, within: &RoaringBitmap) -> RoaringBitmap {
        let is_slow = |set: &&Expression| matches!(set, Expression::LastSeen(..));
        let (slow, quick): (Vec<_>, Vec<_>) = sets.iter().partition(is_slow);
        let mut found = within.clone();
        for set in quick.into_iter().chain(slow) {
            if found.is_empty() {
                break;
            }
            found = self.select(set, known, &found);
        }
        found
    }

    fn starting_with(&self, field: &Field, start: &str, within: &RoaringBitmap) -> RoaringBitmap {
        let Some(values) = self.by_value.get(field) else { return RoaringBitmap::new() };
        let values = values.range::<str, _>((Bound::Included(start), Bound::Unbounded));
        union(values.take_while(|(value, _)| value.starts_with(start)).map(|(_, members)| members), within)
    }

    /// How long a device is away; `None` when it never came.
    fn age_s(&self, number: u32, now_s: u64) -> Option<u64> {
        if self.online.contains(number) {
            return Some(0);
        }
        let seen_s = self.seen_s.get(usize::try_from(number).ok()?).filter(|seen_s| **seen_s > 0)?;
        Some(now_s.saturating_sub(u64::from(*seen_s)))
    }
}

fn union<'a>(
    sets: impl Iterator<Item = &'a super::members::Members>,
    within: &RoaringBitmap,
) -> RoaringBitmap {
    let mut found = RoaringBitmap::new();
    sets.for_each(|members| members.add_to(&mut found, within));
    found
}
