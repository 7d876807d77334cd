//! A distribution of idle timeouts over the bins: what is believed of a network before anybody has tried it.

use super::bins::EDGES;
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

/// Two network deaths out of a hundred at most have another cause than the silence before; what survived a silence
/// that should have been fatal is rarer still (the path changed meanwhile).
const NOISE: f64 = 0.03;
const LEAK: f64 = 0.002;

/// What a silence risks on one network: a [`Timeouts`] in the light of a device's own [`super::Bracket`].
///
/// Piecewise linear, so that a gap just below what was survived is told from one just above.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Risk {
    /// Upper edge, probability of a timeout up to there, and its integral from 0.
    knots: Vec<Knot>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Knot {
    at_s: f64,
    dead: f64,
    silence_s: f64,
}

impl Risk {
    pub fn new(timeouts: &Timeouts, bracket: &super::Bracket) -> Self {
        let segments = segments(timeouts, bracket);
        let total: f64 = segments.iter().map(|(_, weight)| weight).sum();
        let mut knots = vec![Knot { at_s: 0.0, dead: 0.0, silence_s: 0.0 }];
        let (mut at_s, mut dead, mut silence_s) = (0.0, 0.0, 0.0);
        for (upper_s, weight) in segments {
            let next = dead + weight / total;
            silence_s += (upper_s - at_s) * (dead + next) / 2.0;
            (at_s, dead) = (upper_s, next);
            knots.push(Knot { at_s, dead, silence_s });
        }
        Self { knots }
    }

    /// The probability that the path is dead after this silence.
    pub fn dead(&self, gap_s: f64) -> f64 {
        self.at(gap_s).dead
    }

    /// The expected time between the path's death and the end of this silence, in seconds.
    pub fn silence_s(&self, gap_s: f64) -> f64 {
        self.at(gap_s).silence_s
    }

    fn at(&self, gap_s: f64) -> Knot {
        let above = self.knots.partition_point(|knot| knot.at_s < gap_s);
        match (above.checked_sub(1).and_then(|before| self.knots.get(before)), self.knots.get(above)) {
            (Some(before), Some(after)) => {
                let share = (gap_s - before.at_s) / (after.at_s - before.at_s);
                let dead = before.dead + share * (after.dead - before.dead);
                let silence_s = before.silence_s + (gap_s - before.at_s) * (before.dead + dead) / 2.0;
                Knot { at_s: gap_s, dead, silence_s }
            }
            (Some(last), None) => Knot {
                at_s: gap_s,
                dead: last.dead,
                silence_s: last.silence_s + (gap_s - last.at_s) * last.dead,
            },
            (None, _) => Knot { at_s: gap_s, dead: 0.0, silence_s: 0.0 },
        }
    }
}

/// The bins, cut where the bracket ends, each with its weight; the open bin is left out of the pieces but counted in
/// the last weight's distance to one, since nobody waits that long.
fn segments(timeouts: &Timeouts, bracket: &super::Bracket) -> Vec<(f64, f64)> {
    let mut segments = Vec::with_capacity(BINS + 3);
    let mut cuts: Vec<u16> = EDGES.to_vec();
    cuts.push(bracket.lo.0);
    cuts.extend(bracket.hi.map(|hi| hi.0));
    cuts.sort_unstable();
    cuts.dedup();
    let mut lower = 0;
    for upper in cuts.into_iter().filter(|cut| *cut > 0) {
        let bin = Bin::of(Gap(upper));
        let (from, to) = (bin.lower().0, bin.upper().map_or(u16::MAX, |edge| edge.0));
        let share = f64::from(upper - lower) / f64::from(to - from);
        let prior = timeouts.0.get(bin.at()).copied().unwrap_or_default() * share;
        segments.push((f64::from(upper), prior * likelihood(bracket, Gap(upper))));
        lower = upper;
    }
    let open = timeouts.0[BINS - 1] * likelihood(bracket, Gap(u16::MAX));
    segments.push((f64::from(u16::MAX), open));
    segments
}

/// How well a timeout of this length explains what the bracket has seen.
fn likelihood(bracket: &super::Bracket, timeout: Gap) -> f64 {
    let survived = if timeout > bracket.lo { 1.0 } else { LEAK };
    let died = match bracket.hi {
        Some(hi) if timeout > hi => NOISE.powi(i32::from(bracket.deaths.min(3))),
        Some(_) | None => 1.0,
    };
    survived * died
}

#[cfg(test)]
mod tests {
    use super::super::Bracket;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_default_has_the_published_shares() {
        let default = Timeouts::default();
        let risk = Risk::new(&default, &Bracket::default());
        for (gap, wanted) in [(60.0, 0.01), (300.0, 0.15), (600.0, 0.30), (1_800.0, 0.60)] {
            assert!((risk.dead(gap) - wanted).abs() < 0.02, "{gap}: {}", risk.dead(gap));
        }
    }

    #[test]
    fn what_was_survived_is_safe_and_what_was_fatal_is_not() {
        let bracket = Bracket { lo: Gap(600), hi: Some(Gap(720)), deaths: 2, doubt: None };
        let risk = Risk::new(&Timeouts::default(), &bracket);
        assert!(risk.dead(600.0) < 0.02, "{}", risk.dead(600.0));
        assert!(risk.dead(660.0) > 0.4, "{}", risk.dead(660.0));
        assert!(risk.dead(720.0) > 0.9, "{}", risk.dead(720.0));
        assert!(risk.silence_s(600.0) < 5.0, "{}", risk.silence_s(600.0));
    }

    fn weights() -> impl Strategy<Value = [f64; BINS]> {
        prop::collection::vec(0.0_f64..1.0, BINS)
            .prop_map(|weights| weights.try_into().unwrap_or([1.0; BINS]))
    }

    proptest! {
        #[test]
        fn risk_grows_with_the_gap_and_stays_a_probability(
            weights in weights(), lo in 0_u16..2_500, beyond in 1_u16..2_500, deaths in 0_u8..5,
        ) {
            let hi = (deaths > 0).then(|| Gap(lo + beyond));
            let risk = Risk::new(&Timeouts::from_weights(weights), &Bracket { lo: Gap(lo), hi, deaths, doubt: None });
            let (mut dead, mut silence_s) = (0.0, 0.0);
            for gap in (0..3_000).step_by(7).map(f64::from) {
                prop_assert!((0.0..=1.000_001).contains(&risk.dead(gap)));
                prop_assert!(risk.dead(gap) + 1e-9 >= dead && risk.silence_s(gap) + 1e-6 >= silence_s);
                (dead, silence_s) = (risk.dead(gap), risk.silence_s(gap));
            }
        }

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
