//! The devices with one value. Most users have one device, and a bitmap for each would cost ten times its place.

use roaring::RoaringBitmap;

/// One device, or any number of them.
#[derive(Debug)]
pub(super) enum Members {
    One(u32),
    Many(Box<RoaringBitmap>),
}

impl Members {
    pub fn insert(&mut self, number: u32) {
        match self {
            Self::One(known) if *known == number => {}
            Self::One(known) => *self = Self::Many(Box::new(RoaringBitmap::from([*known, number]))),
            Self::Many(members) => {
                members.insert(number);
            }
        }
    }

    /// `true` when nobody is left.
    pub fn remove(&mut self, number: u32) -> bool {
        match self {
            Self::One(known) => *known == number,
            Self::Many(members) => {
                members.remove(number);
                members.is_empty()
            }
        }
    }

    pub fn len(&self) -> u64 {
        match self {
            Self::One(_) => 1,
            Self::Many(members) => members.len(),
        }
    }

    pub fn within(&self, within: &RoaringBitmap) -> RoaringBitmap {
        match self {
            Self::One(number) if within.contains(*number) => RoaringBitmap::from([*number]),
            Self::One(_) => RoaringBitmap::new(),
            Self::Many(members) => within & &**members,
        }
    }

    pub fn count_in(&self, others: &RoaringBitmap) -> u64 {
        match self {
            Self::One(number) => u64::from(others.contains(*number)),
            Self::Many(members) => members.intersection_len(others),
        }
    }

    /// Adds those of them that are within.
    pub fn add_to(&self, found: &mut RoaringBitmap, within: &RoaringBitmap) {
        match self {
            Self::One(number) if within.contains(*number) => {
                found.insert(*number);
            }
            Self::One(_) => {}
            Self::Many(members) => *found |= within & &**members,
        }
    }
}
