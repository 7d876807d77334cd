//! The places of a queue in their order: a list as long as the queue, in which a place that was given up leaves a hole.

use super::Slot;
use crate::message::Seq;

/// Up to here the list grows by one: a million queues have one or two messages.
const FEW: usize = 4;

/// Numbers ascend and few are missing, so that a place mostly lies where its number says.
///
/// ```text
///         first
///          v
/// ( ) ( ) [7] [8] ( ) [10] [11]
/// ```
/// Neither the first nor the last is a hole, and there are never more holes than places: then the list is written anew. A hole knows
/// how far its neighbours are holes too, the first and the last of a run exactly. So a walk costs by the places that it passes, and a
/// removal, wherever it is, a constant in the long run.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    list: Vec<Place>,
    first: u32,
    taken: u32,
}

#[derive(Clone, Debug)]
enum Place {
    Taken(Slot),
    /// From here on at least so many are holes, in each direction, itself among them.
    Hole {
        seq: Seq,
        ahead: u32,
        behind: u32,
    },
}

const _: () = assert!(size_of::<Place>() == size_of::<Slot>());

impl Place {
    fn seq(&self) -> Seq {
        match self {
            Self::Taken(slot) => slot.entry.seq,
            Self::Hole { seq, .. } => *seq,
        }
    }

    fn slot(&self) -> Option<&Slot> {
        match self {
            Self::Taken(slot) => Some(slot),
            Self::Hole { .. } => None,
        }
    }

    fn slot_mut(&mut self) -> Option<&mut Slot> {
        match self {
            Self::Taken(slot) => Some(slot),
            Self::Hole { .. } => None,
        }
    }
}

impl Places {
    pub fn len(&self) -> usize {
        self.taken as usize
    }

    pub fn is_empty(&self) -> bool {
        self.taken == 0
    }

    /// The first and the last number.
    pub fn ends(&self) -> Option<(Seq, Seq)> {
        Some((self.list.get(self.first as usize)?.seq(), self.list.last()?.seq()))
    }

    pub fn get(&self, seq: Seq) -> Option<&Slot> {
        self.list.get(self.find(seq).ok()?)?.slot()
    }

    pub fn get_mut(&mut self, seq: Seq) -> Option<&mut Slot> {
        let at = self.find(seq).ok()?;
        self.list.get_mut(at)?.slot_mut()
    }

    pub fn contains(&self, seq: Seq) -> bool {
        self.get(seq).is_some()
    }

    /// All from a number on, in order.
    pub fn from(&self, seq: Seq) -> impl Iterator<Item = &Slot> {
        let (Ok(mut at) | Err(mut at)) = self.find(seq);
        std::iter::from_fn(move || {
            loop {
                match self.list.get(at)? {
                    Place::Taken(slot) => {
                        at += 1;
                        return Some(slot);
                    }
                    Place::Hole { ahead, .. } => at += *ahead as usize,
                }
            }
        })
    }

    pub fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.from(Seq(0))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.list.iter_mut().filter_map(Place::slot_mut)
    }

    /// Adds one behind all others.
    pub fn push(&mut self, slot: Slot) {
        debug_assert!(self.list.last().is_none_or(|last| last.seq() < slot.entry.seq), "places only grow");
        if self.list.len() == self.list.capacity() {
            self.make_room();
        }
        self.list.push(Place::Taken(slot));
        self.taken += 1;
    }

    pub fn remove(&mut self, seq: Seq) -> Option<Slot> {
        let at = self.find(seq).ok()?;
        let (before, after) = (self.holes_at(at.wrapping_sub(1)).1, self.holes_at(at + 1).0);
        let place = self.list.get_mut(at)?;
        place.slot()?;
        let hole = Place::Hole { seq, ahead: after + 1, behind: before + 1 };
        let Place::Taken(slot) = std::mem::replace(place, hole) else { return None };
        self.joined(at - before as usize, at + after as usize);
        self.taken -= 1;
        self.tidy();
        Some(slot)
    }

    /// How many holes begin at a place, and how many end there.
    fn holes_at(&self, at: usize) -> (u32, u32) {
        match self.list.get(at) {
            Some(Place::Hole { ahead, behind, .. }) => (*ahead, *behind),
            Some(Place::Taken(_)) | None => (0, 0),
        }
    }

    /// A run of holes is so long now: its ends know it.
    fn joined(&mut self, start: usize, end: usize) {
        let count = u32::try_from(end - start + 1).unwrap_or(u32::MAX); // as `taken`: memory ends far earlier
        if let Some(Place::Hole { ahead, .. }) = self.list.get_mut(start) {
            *ahead = count;
        }
        if let Some(Place::Hole { behind, .. }) = self.list.get_mut(end) {
            *behind = count;
        }
    }

    /// Where a number or its hole stands, or would stand. Where none is missing, as far from the first as their difference.
    fn find(&self, seq: Seq) -> Result<usize, usize> {
        let start = self.first as usize;
        let first = self.list.get(start).map_or(seq, Place::seq);
        let Some(distance) = seq.0.checked_sub(first.0) else { return Err(start) };
        let guess = start.saturating_add(usize::try_from(distance).unwrap_or(usize::MAX));
        match self.list.get(guess) {
            Some(place) if place.seq() == seq => Ok(guess),
            _ => self.list.binary_search_by_key(&seq, Place::seq),
        }
    }

    fn tidy(&mut self) {
        if self.taken == 0 {
            *self = Self::default();
            return;
        }
        while self.list.pop_if(|place| place.slot().is_none()).is_some() {}
        while self.list.get(self.first as usize).is_some_and(|place| place.slot().is_none()) {
            self.first += 1;
        }
        if self.holes() > self.len() {
            self.close_holes();
        }
        if self.list.capacity() > FEW && self.list.capacity() / 4 > self.list.len() {
            self.list.shrink_to(self.list.len() * 2);
        }
    }

    fn holes(&self) -> usize {
        self.list.len() - self.len()
    }

    fn close_holes(&mut self) {
        self.list.retain(|place| place.slot().is_some());
        self.first = 0;
    }

    /// Holes are room enough where there is one for four places; else the list grows by half.
    fn make_room(&mut self) {
        match self.list.len() {
            few if few < FEW => self.grow(1),
            len if self.holes() > len / 5 => self.close_holes(),
            len => self.grow(len / 2),
        }
    }

    /// Not by `realloc`: an allocator looks for the size of what it has where nothing is in the caches, and moves this anyway.
    fn grow(&mut self, more: usize) {
        let mut list = Vec::with_capacity(self.list.len() + more);
        list.append(&mut self.list);
        self.list = list;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::tests::plain;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// What a call cost: places that were passed over or written again.
    fn steps(places: &mut Places, call: impl FnOnce(&mut Places)) -> usize {
        let (length, first, capacity) = (places.list.len(), places.first as usize, places.list.capacity());
        call(places);
        let is_rewritten =
            (places.first as usize) < first || places.holes() == 0 && places.list.len() + 1 < length;
        let is_moved = places.list.capacity() != capacity;
        1 + length.abs_diff(places.list.len())
            + (places.first as usize).saturating_sub(first)
            + if is_rewritten { length } else { 0 }
            + if is_moved { places.list.len() } else { 0 }
    }

    /// Places and runs of holes that a walk to the second place passes.
    fn steps_to_second(places: &Places) -> usize {
        let (mut at, mut found, mut steps) = (places.first as usize, 0, 0);
        while found < 2 {
            steps += 1;
            let (ahead, _) = places.holes_at(at);
            found += usize::from(ahead == 0);
            at += ahead.max(1) as usize;
        }
        steps
    }

    #[test]
    fn the_oldest_behind_a_place_that_stays_is_found_at_once_however_many_went() {
        const COUNT: u64 = 100_000;
        let mut places = Places::default();
        (0..COUNT).for_each(|seq| places.push(plain(seq)));
        let mut most = 0;
        for next in COUNT..COUNT * 3 {
            let oldest = places.iter().nth(1).map(|slot| slot.entry.seq).unwrap();
            places.remove(oldest);
            places.push(plain(next));
            most = most.max(steps_to_second(&places));
        }
        assert!(most <= 3, "{most}");
    }

    fn check(places: &Places, model: &BTreeMap<Seq, ()>) {
        assert!(places.iter().map(|slot| slot.entry.seq).eq(model.keys().copied()));
        assert_eq!((places.len(), places.is_empty()), (model.len(), model.is_empty()));
        let ends = model.first_key_value().zip(model.last_key_value());
        assert_eq!(places.ends(), ends.map(|((first, ()), (last, ()))| (*first, *last)));
        assert!(places.holes() <= places.len());
        assert!(places.list.capacity() <= 8 * places.len() + FEW, "memory goes back");
    }

    proptest! {
        #[test]
        fn places_are_a_map_in_order(
            calls in prop::collection::vec((0..8_u8, 0..200_usize, 1..4_u64), 1..400),
        ) {
            let (mut places, mut model, mut next) = (Places::default(), BTreeMap::new(), 0);
            for (call, nth, gap) in calls {
                let seq = Seq(nth as u64);
                match call {
                    0..4 => {
                        next += if gap == 3 { 3 } else { 1 };
                        places.push(plain(next));
                        model.insert(Seq(next), ());
                    }
                    4 => prop_assert_eq!(places.remove(seq).is_some(), model.remove(&seq).is_some()),
                    _ if model.is_empty() => {}
                    _ => {
                        let seq = *model.keys().nth(nth % model.len()).unwrap();
                        model.remove(&seq);
                        prop_assert_eq!(places.remove(seq).map(|slot| slot.entry.seq), Some(seq));
                    }
                }
                check(&places, &model);
                prop_assert_eq!(places.get(seq).map(|slot| slot.entry.seq), model.get(&seq).map(|()| seq));
                prop_assert_eq!(places.get_mut(seq).is_some(), places.contains(seq));
                let from = places.from(seq).map(|slot| slot.entry.seq);
                prop_assert!(from.eq(model.range(seq..).map(|(seq, ())| *seq)));
            }
        }
    }

    #[test]
    fn the_first_message_pays_for_one() {
        let mut places = Places::default();
        for wanted in [1, 2, 3, 4, 6, 6, 9] {
            places.push(plain(places.len() as u64));
            assert_eq!(places.list.capacity(), wanted);
        }
        for seq in 0..7 {
            places.remove(Seq(seq));
        }
        assert_eq!(places.list.capacity(), 0);
    }

    #[test]
    fn no_order_of_removal_costs_by_the_length_of_the_queue() {
        const COUNT: u64 = 100_000;
        let scattered = |number: u64| number * 7919 % COUNT; // a prime: each once
        let from_middle = |number: u64| {
            let half = number.div_ceil(2);
            if number.is_multiple_of(2) { COUNT / 2 + half } else { COUNT / 2 - half }
        };
        let even_then_odd = |number: u64| number * 2 % COUNT + u64::from(number >= COUNT / 2);
        let orders: [(&str, &dyn Fn(u64) -> u64); 5] = [
            ("from the front", &|number| number),
            ("from the back", &|number| COUNT - 1 - number),
            ("scattered", &scattered),
            ("from the middle", &from_middle),
            ("every second", &even_then_odd),
        ];
        for (name, order) in orders {
            let (mut places, mut total) = (Places::default(), 0);
            for seq in 0..COUNT {
                total += steps(&mut places, |places| places.push(plain(seq)));
            }
            for number in 0..COUNT {
                let seq = Seq(order(number));
                total +=
                    steps(&mut places, |places| assert!(places.remove(seq).is_some(), "{name}: {seq:?}"));
            }
            assert!(places.is_empty(), "{name}");
            assert!(total < 12 * COUNT as usize, "{name}: {total} steps");
        }
    }

    #[test]
    fn a_queue_that_goes_on_for_ever_stays_as_long_as_its_messages() {
        let (mut places, mut total) = (Places::default(), 0);
        for seq in 0..100_000 {
            total += steps(&mut places, |places| places.push(plain(seq)));
            if let Some(done) = seq.checked_sub(100).filter(|done| *done != 5) {
                total += steps(&mut places, |places| assert!(places.remove(Seq(done)).is_some()));
            }
            assert!(places.list.capacity() <= 400, "{}", places.list.capacity());
        }
        assert!(total < 100_000 * 12, "{total} steps");
    }
}
