//! Brackets of many devices, pooled: what the broker keeps of a network.
//!
//! Raw beats must not be pooled gap by gap: devices behind short timeouts stop trying long gaps, so that at 25 minutes
//! only survivors speak. One bracket for each device is sound, whatever gaps it tries; the distribution behind them is
//! Turnbull's estimate for interval-censored data, found by expectation and maximisation.

use super::{BINS, Bin, Timeouts};
use std::collections::BTreeMap;

/// Sweeps of the estimate at most; it moves little after ten.
const SWEEPS_MAX: usize = 30;
/// A sweep that moves no probability by more than this is the last.
const SETTLED: f64 = 1e-4;
/// So many devices weigh as much as the parent network.
const PARENT_WEIGHT: f64 = 4.0;

/// How many devices claim which range of bins, one vote a device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Votes {
    cells: BTreeMap<(Bin, Bin), f64>,
}

impl Votes {
    /// Adds a claim with a weight, 1 unless the voter's source has too many already. Nothing else than a positive
    /// number counts.
    pub fn add(&mut self, (first, last): (Bin, Bin), weight: f64) {
        if weight > 0.0 && weight.is_finite() && first <= last {
            *self.cells.entry((first, last)).or_default() += weight;
        }
    }

    /// Takes a claim back, for instance because the device knows better now.
    pub fn remove(&mut self, claim: (Bin, Bin), weight: f64) {
        if let Some(cell) = self.cells.get_mut(&claim) {
            *cell -= weight;
            if *cell <= 1e-6 {
                self.cells.remove(&claim);
            }
        }
    }

    /// Adds what another node has gathered.
    pub fn merge(&mut self, other: &Self) {
        other.cells.iter().for_each(|(claim, weight)| self.add(*claim, *weight));
    }

    /// Lets everything count for less, so that old news fade; what falls below a hundredth of a vote goes.
    pub fn fade(&mut self, factor: f64) {
        self.cells.values_mut().for_each(|weight| *weight *= factor);
        self.cells.retain(|_, weight| *weight >= 0.01);
    }

    /// The sum of all weights.
    pub fn total(&self) -> f64 {
        self.cells.values().sum()
    }

    /// Each claim with its weight; there are at most 1,176.
    pub fn iter(&self) -> impl Iterator<Item = ((Bin, Bin), f64)> {
        self.cells.iter().map(|(claim, weight)| (*claim, *weight))
    }

    /// The distribution of timeouts that explains the claims best, pulled towards that of the parent network as far as
    /// there are few.
    pub fn estimate(&self, parent: &Timeouts) -> Timeouts {
        let total = self.total();
        if total <= 0.0 {
            return parent.clone();
        }
        // Where nobody has looked the estimate is free, so it begins with the parent's shape and keeps it there.
        let mut estimate = parent.mixed(0.9, &Timeouts::default());
        for _ in 0..SWEEPS_MAX {
            let next = self.sweep(&estimate);
            let moved = largest_step(&estimate, &next);
            estimate = next;
            if moved < SETTLED {
                break;
            }
        }
        estimate.mixed(total / (total + PARENT_WEIGHT), parent)
    }

    /// Shares each vote out over its bins as the estimate has them.
    fn sweep(&self, estimate: &Timeouts) -> Timeouts {
        let masses = estimate.masses();
        let mut weights = [0.0; BINS];
        for ((first, last), weight) in self.iter() {
            let bins = first.at()..=last.at();
            let claimed: f64 = masses.get(bins.clone()).unwrap_or_default().iter().sum();
            if claimed <= 0.0 {
                continue;
            }
            for (shared, mass) in weights.iter_mut().zip(masses).skip(first.at()).take(bins.count()) {
                *shared += weight * mass / claimed;
            }
        }
        Timeouts::from_weights(weights)
    }
}

fn largest_step(before: &Timeouts, after: &Timeouts) -> f64 {
    let steps = before.masses().iter().zip(after.masses()).map(|(before, after)| (before - after).abs());
    steps.fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::super::Gap;
    use super::*;
    use proptest::prelude::*;

    fn claim(lo: u16, hi: Option<u16>) -> (Bin, Bin) {
        (Bin::of(Gap(lo + 1)), hi.map_or(Bin::OPEN, |hi| Bin::of(Gap(hi))))
    }

    #[test]
    fn nobody_knows_more_than_the_parent() {
        assert_eq!(Votes::default().estimate(&Timeouts::default()), Timeouts::default());
    }

    #[test]
    fn devices_that_agree_move_the_estimate_to_their_bracket() {
        let mut votes = Votes::default();
        (0..40).for_each(|_| votes.add(claim(280, Some(320)), 1.0));
        let estimate = votes.estimate(&Timeouts::default());
        let quantiles = estimate.quantiles().0;
        assert!((250..330).contains(&quantiles[2].0), "{quantiles:?}");
        assert!((280..330).contains(&quantiles[3].0), "{quantiles:?}");
    }

    #[test]
    fn those_who_stopped_early_are_not_outvoted_by_the_survivors_of_long_gaps() {
        // Half of the paths time out at five minutes. The others go on and prove half an hour.
        let mut votes = Votes::default();
        (0..50).for_each(|_| votes.add(claim(240, Some(300)), 1.0));
        (0..50).for_each(|_| votes.add(claim(1_500, None), 1.0));
        let estimate = votes.estimate(&Timeouts::default());
        let short: f64 = estimate.masses()[..=Bin::of(Gap(300)).at()].iter().sum();
        assert!((0.4..0.6).contains(&short), "{short}");
    }

    #[test]
    fn a_vote_taken_back_leaves_nothing() {
        let mut votes = Votes::default();
        votes.add(claim(300, None), 1.0);
        votes.remove(claim(300, None), 1.0);
        votes.remove(claim(600, None), 1.0);
        assert_eq!(votes, Votes::default());
    }

    proptest! {
        #[test]
        fn an_estimate_is_a_distribution_and_a_fifth_of_liars_moves_the_low_quantile_little(
            truth in 200_u16..1_500, liars in 0_usize..20,
        ) {
            let honest = |votes: &mut Votes, count: usize| {
                (0..count).for_each(|_| votes.add(claim(truth * 9 / 10, Some(truth)), 1.0));
            };
            let (mut pure, mut mixed) = (Votes::default(), Votes::default());
            honest(&mut pure, 100);
            honest(&mut mixed, 100 - liars);
            (0..liars).for_each(|_| mixed.add(claim(2_400, None), 1.0));
            let (pure, mixed) = (pure.estimate(&Timeouts::default()), mixed.estimate(&Timeouts::default()));
            prop_assert!((mixed.masses().iter().sum::<f64>() - 1.0).abs() < 1e-6);
            let (pure, mixed) = (pure.quantile(0.1).seconds(), mixed.quantile(0.1).seconds());
            prop_assert!((pure - mixed).abs() / pure < 0.1, "{pure} {mixed}");
        }
    }
}
