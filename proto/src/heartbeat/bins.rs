//! Where timeouts are told apart: bins that grow by 8 %, so that an error costs the same share of energy everywhere.

use super::Gap;

/// How many bins there are.
pub const BINS: usize = 48;

/// Upper edges of all bins but the last: 60 s, then 8 % more each, up to 2,067 s.
pub(super) const EDGES: [u16; BINS - 1] = edges();

/// A range of idle timeouts: above the edge before, up to and with its own.
///
/// Bin 0 is "60 s or less", where push cannot live; the last one is "longer than anybody waits".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bin(u8);

impl Bin {
    /// The last bin.
    pub const OPEN: Self = Self(BINS as u8 - 1);

    /// The bin in which a timeout of exactly this length lies.
    pub fn of(gap: Gap) -> Self {
        Self(EDGES.partition_point(|edge| *edge < gap.0) as u8)
    }

    /// `None` for a number that is no bin, for instance out of a store of a later release.
    pub fn from_index(index: u8) -> Option<Self> {
        (usize::from(index) < BINS).then_some(Self(index))
    }

    /// The number of the bin, from 0.
    pub fn index(self) -> u8 {
        self.0
    }

    pub(super) fn at(self) -> usize {
        usize::from(self.0)
    }

    /// The longest timeout of the bin; `None` for the open one.
    pub fn upper(self) -> Option<Gap> {
        EDGES.get(self.at()).copied().map(Gap)
    }

    /// What the timeouts of the bin are longer than.
    pub fn lower(self) -> Gap {
        self.at().checked_sub(1).and_then(|before| EDGES.get(before)).copied().map_or(Gap(0), Gap)
    }
}

#[allow(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which refuses an index beyond the end"
)]
const fn edges() -> [u16; BINS - 1] {
    let mut edges = [0; BINS - 1];
    let mut edge: u64 = 60 << 32; // with 32 bits behind the point, so that rounding does not add up
    let mut at = 0;
    while at < BINS - 1 {
        edges[at] = ((edge + (1 << 31)) >> 32) as u16;
        edge = edge * 108 / 100;
        at += 1;
    }
    edges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edges_grow_by_eight_percent_from_one_minute_past_the_ceiling() {
        assert_eq!((EDGES[0], EDGES[1], EDGES[9], EDGES[BINS - 2]), (60, 65, 120, 2_068));
        assert!(EDGES.is_sorted());
    }

    #[test]
    fn each_gap_lies_within_its_bin() {
        for gap in (0..=u16::MAX).map(Gap) {
            let bin = Bin::of(gap);
            assert!(gap > bin.lower() || gap == Gap(0), "{gap:?}");
            assert!(bin.upper().is_none_or(|upper| gap <= upper), "{gap:?}");
            assert_eq!(Bin::from_index(bin.index()), Some(bin));
        }
        assert_eq!(Bin::from_index(BINS as u8), None);
    }
}
