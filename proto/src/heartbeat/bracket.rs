//! What one device knows of one network: the longest silence survived, the shortest that was fatal.

use super::{Bin, Gap};

/// So many deaths within what was survived before mean that the network has changed; one is noise.
const DOUBTS_MAX: u8 = 2;

/// `lo < T <= hi`, as far as the device has seen.
///
/// ```text
///        survived            unknown             fatal
///  0 ----------------- lo ------------- hi -----------------> gap
///   a death here is a doubt;             each further death
///   the second one forgets lo            makes hi surer
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bracket {
    /// The longest gap survived.
    pub lo: Gap,
    /// The shortest gap above `lo` that was fatal.
    pub hi: Option<Gap>,
    /// How often a gap above `lo` was fatal.
    pub deaths: u8,
    /// A death within `lo` that nothing has refuted yet: its gap.
    pub doubt: Option<Gap>,
}

/// Beats are a little late: who dies of the shortest interval dies of somewhat more.
const HOPELESS_MAX: Gap = Gap(Gap::FLOOR.0 + Gap::FLOOR.0 / 10);

impl Bracket {
    /// Whether even the shortest interval is fatal, and not by chance.
    pub fn is_hopeless(&self) -> bool {
        self.deaths > 1 && self.lo < Gap::FLOOR && self.hi.is_some_and(|hi| hi <= HOPELESS_MAX)
    }

    /// The connection lived after this silence. Says whether that is news.
    pub fn survived(&mut self, gap: Gap) -> bool {
        if self.doubt.is_some_and(|doubt| gap >= doubt) {
            self.doubt = None;
        }
        if self.hi.is_some_and(|hi| gap >= hi) {
            // Whatever killed those connections, it was not a timeout of that length; or the network is another now.
            self.hi = None;
            self.deaths = 0;
        }
        let is_news = gap > self.lo;
        self.lo = self.lo.max(gap);
        is_news
    }

    /// The connection was dead after this silence, and the network was not to blame otherwise.
    pub fn died(&mut self, gap: Gap) {
        if gap <= self.lo {
            match self.doubt {
                None => self.doubt = Some(gap),
                Some(before) => {
                    *self = Self { lo: Gap(0), hi: Some(gap.max(before)), deaths: DOUBTS_MAX, doubt: None };
                }
            }
            return;
        }
        // Counted on when the gap is shorter: a path that was dead before was more likely killed again than hit by noise twice.
        self.hi = Some(self.hi.map_or(gap, |hi| hi.min(gap)));
        self.deaths = self.deaths.saturating_add(1);
    }

    /// What the device may claim before others: the bins from the first that `lo` leaves open to that of `hi`.
    ///
    /// One death alone is no claim. `None` when nothing is known.
    pub fn vote(self) -> Option<(Bin, Bin)> {
        let hi = self.hi.filter(|_| self.deaths >= DOUBTS_MAX);
        if self.lo < Gap::FLOOR && hi.is_none() {
            return None;
        }
        // A bin of which only a part is ruled out stays possible.
        let first = Bin::of(Gap(self.lo.0.saturating_add(1)));
        let last = hi.map_or(Bin::OPEN, Bin::of);
        Some((first, last.max(first)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seen(events: &[(bool, u16)]) -> Bracket {
        let mut bracket = Bracket::default();
        for (lived, gap) in events {
            if *lived {
                bracket.survived(Gap(*gap));
            } else {
                bracket.died(Gap(*gap));
            }
        }
        bracket
    }

    #[test]
    fn one_death_within_the_survived_range_is_noise_and_two_in_a_row_are_another_network() {
        let once = seen(&[(true, 600), (false, 500)]);
        assert_eq!((once.lo, once.hi), (Gap(600), None));
        let refuted = seen(&[(true, 600), (false, 500), (true, 500), (false, 500)]);
        assert_eq!((refuted.lo, refuted.hi), (Gap(600), None));
        let twice = seen(&[(true, 600), (false, 500), (true, 300), (false, 480)]);
        assert_eq!((twice.lo, twice.hi, twice.deaths), (Gap(0), Some(Gap(500)), 2));
    }

    #[test]
    fn a_gap_survived_beyond_a_fatal_one_refutes_it() {
        let bracket = seen(&[(true, 300), (false, 900), (false, 900), (true, 900)]);
        assert_eq!((bracket.lo, bracket.hi, bracket.deaths), (Gap(900), None, 0));
    }

    #[test]
    fn a_claim_needs_two_deaths_or_a_minute_survived() {
        assert_eq!(seen(&[(true, 59)]).vote(), None);
        assert_eq!(seen(&[(false, 300)]).vote(), None);
        assert_eq!(seen(&[(true, 300), (false, 400)]).vote(), Some((Bin::of(Gap(301)), Bin::OPEN)));
        // Overshot first, then found from below: both deaths count.
        let closed_in = seen(&[(false, 180), (true, 110), (false, 121)]).vote();
        assert_eq!(closed_in, Some((Bin::of(Gap(111)), Bin::of(Gap(121)))));
        let sure = seen(&[(true, 300), (false, 400), (false, 420)]).vote();
        assert_eq!(sure, Some((Bin::of(Gap(301)), Bin::of(Gap(400)))));
    }

    proptest! {
        #[test]
        fn a_bracket_never_contradicts_itself(events: Vec<(bool, u16)>) {
            let bracket = seen(&events);
            prop_assert!(bracket.hi.is_none_or(|hi| hi > bracket.lo));
            prop_assert!(bracket.doubt.is_none_or(|doubt| doubt <= bracket.lo));
            prop_assert_eq!(bracket.hi.is_some(), bracket.deaths > 0);
            if let Some((first, last)) = bracket.vote() {
                prop_assert!(first <= last);
            }
        }
    }
}
