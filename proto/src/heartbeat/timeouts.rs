//! A distribution of idle timeouts over the bins: what is believed of a network before anybody has tried it.

use super::{BINS, Bin, Gap};

/// Probabilities of the bins; they sum to one.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeouts([f64; BINS]);

/// What the broker tells of a distribution: the timeouts below which 5, 10, 25, 50 and 75 of 100 paths lie.
///
/// They never fall. A quantile that lies in the open bin is that bin's lower edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantiles(pub [Gap; 5]);

const LEVELS: [f64; 5] = [0.05, 0.10, 0.25, 0.50, 0.75];
/// What stays of the default whatever the broker tells, so that a device's own evidence can overturn it.
const HUMILITY: f64 = 0.05;
/// The default: shares of timeouts up to these lengths, even over the bins between, and the rest in the open bin.
/// The shape follows what was published of 73 carriers (NetPiculet, 2011: a twentieth at most 5 minutes, a seventh below
/// 10, some beyond half an hour) with more weight on 5 minutes and less, which Chinese carriers and home routers have.
const DEFAULT: [(Gap, f64); 4] = [(Gap(60), 0.01), (Gap(300), 0.14), (Gap(600), 0.15), (Gap(1_800), 0.30)];

impl Default for Timeouts {
    fn default() -> Self {
        let mut masses = [0.0; BINS];
        let mut from = 0;
        for (upper, share) in DEFAULT {
            let to = Bin::of(upper).at() + 1;
            let width = to.saturating_sub(from).max(1) as f64;
            masses.iter_mut().take(to).skip(from).for_each(|mass| *mass = share / width);
            from = to;
        }
        let rest = 1.0 - masses.iter().sum::<f64>();
        masses[BINS - 1] += rest;
        Self(masses)
    }
}

impl Timeouts {
    /// Weights of any sum. The default when they are no distribution at all (negative, not finite, all zero).
    pub fn from_weights(weights: [f64; BINS]) -> Self {
        let sum: f64 = weights.iter().sum();
        let is_usable = sum.is_finite() && sum > 0.0 && weights.iter().all(|weight| *weight >= 0.0);
        if is_usable { Self(weights.map(|weight| weight / sum)) } else { Self::default() }
    }

    /// The distribution behind what the broker told: even between the quantiles, above the last as the default has it.
    pub fn from_quantiles(quantiles: &Quantiles) -> Self {
        let default = Self::default();
        let mut weights = default.0.map(|mass| mass * HUMILITY);
        let (mut below, mut lower) = (0.0, Gap(0));
        for (level, upper) in LEVELS.into_iter().zip(quantiles.0) {
            let upper = upper.max(lower);
            spread_evenly(&mut weights, Bin::of(lower), Bin::of(upper), (level - below) * (1.0 - HUMILITY));
            (below, lower) = (level, upper);
        }
        spread_as(&default, &mut weights, Bin::of(lower), (1.0 - below) * (1.0 - HUMILITY));
        Self::from_weights(weights)
    }

    /// The probabilities, bin by bin.
    pub fn masses(&self) -> &[f64; BINS] {
        &self.0
    }

    /// The quantiles that the broker tells.
    pub fn quantiles(&self) -> Quantiles {
        Quantiles(LEVELS.map(|level| self.quantile(level)))
    }

    /// The timeout below which this share of paths lies; even within a bin.
    pub fn quantile(&self, level: f64) -> Gap {
        let mut below = 0.0;
        for (at, mass) in self.0.iter().enumerate() {
            let Some(bin) = Bin::from_index(at as u8) else { break };
            let Some(upper) = bin.upper() else { break };
            if below + mass >= level && *mass > 0.0 {
                let (lower, upper) = (bin.lower().seconds(), upper.seconds());
                let within = ((level - below) / mass).clamp(0.0, 1.0);
                return Gap((lower + within * (upper - lower)).round() as u16);
            }
            below += mass;
        }
        Bin::OPEN.lower()
    }

    /// The part between this share of oneself and the rest of another.
    pub fn mixed(&self, share: f64, other: &Self) -> Self {
        let share = share.clamp(0.0, 1.0);
        let mut weights = [0.0; BINS];
        for (weight, (mine, theirs)) in weights.iter_mut().zip(self.0.iter().zip(other.0)) {
            *weight = share * mine + (1.0 - share) * theirs;
        }
        Self::from_weights(weights)
    }
}

fn spread_evenly(weights: &mut [f64; BINS], from: Bin, to: Bin, share: f64) {
    let bins = to.at().saturating_sub(from.at()) + 1;
    weights.iter_mut().skip(from.at()).take(bins).for_each(|weight| *weight += share / bins as f64);
}

fn spread_as(shape: &Timeouts, weights: &mut [f64; BINS], from: Bin, share: f64) {
    let sum: f64 = shape.0.iter().skip(from.at()).sum(); // the open bin of the default is never empty
    for (weight, mass) in weights.iter_mut().zip(shape.0).skip(from.at()) {
        *weight += share * mass / sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn weights() -> impl Strategy<Value = [f64; BINS]> {
        prop::collection::vec(0.0_f64..1.0, BINS)
            .prop_map(|weights| weights.try_into().unwrap_or([1.0; BINS]))
    }

    proptest! {
        #[test]
        fn quantiles_survive_the_way_over_the_wire(weights in weights()) {
            let told = Timeouts::from_weights(weights).quantiles();
            prop_assert!(told.0.is_sorted());
            let heard = Timeouts::from_quantiles(&told).quantiles();
            for (told, heard) in told.0.into_iter().zip(heard.0) {
                let (told, heard) = (told.seconds().max(60.0), heard.seconds().max(60.0));
                prop_assert!(heard / told < 1.35 && told / heard < 1.35, "told {told}, heard {heard}");
            }
        }

        #[test]
        fn any_weights_make_a_distribution(weights in prop::collection::vec(any::<f64>(), BINS)) {
            let timeouts = Timeouts::from_weights(weights.try_into().unwrap_or([0.0; BINS]));
            prop_assert!((timeouts.masses().iter().sum::<f64>() - 1.0).abs() < 1e-6);
        }
    }
}
