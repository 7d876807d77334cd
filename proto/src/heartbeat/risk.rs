//! What a silence risks: what is believed of a network, in the light of what the device has seen there itself.

use super::bins::EDGES;
use super::{BINS, Bin, Bracket, Gap, Lateness, Timeouts};

/// Two network deaths out of a hundred at most have another cause than the silence before; what survived a silence
/// that should have been fatal is rarer still (the path changed meanwhile).
const NOISE: f64 = 0.03;
const LEAK: f64 = 0.002;

/// What a silence risks on one network: a [`Timeouts`] in the light of a device's own [`Bracket`].
///
/// Piecewise linear, so that a gap just below what was survived is told from one just above.
#[derive(Clone, Debug, PartialEq)]
pub struct Risk {
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
    /// What is believed of the network, and what the device has seen there.
    pub fn new(timeouts: &Timeouts, bracket: &Bracket) -> Self {
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

    /// The probability of a dead connection when a beat is planned after this gap and the alarm rings late, and the
    /// expected seconds from the death to the next connection, which takes `recovery_s` once the beat is sent.
    pub fn after(&self, gap: Gap, lateness: Lateness, recovery_s: f64) -> (f64, f64) {
        let parts = lateness.weighted().map(|(late_s, weight)| {
            let silence = gap.seconds() + late_s;
            let dead = self.dead(silence);
            (weight * dead, weight * (self.silence_s(silence) + dead * recovery_s))
        });
        parts.fold((0.0, 0.0), |(dead, silence_s), part| (dead + part.0, silence_s + part.1))
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
fn segments(timeouts: &Timeouts, bracket: &Bracket) -> Vec<(f64, f64)> {
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
        let prior = timeouts.masses().get(bin.at()).copied().unwrap_or_default() * share;
        segments.push((f64::from(upper), prior * likelihood(bracket, Gap(upper))));
        lower = upper;
    }
    let open = timeouts.masses()[BINS - 1] * likelihood(bracket, Gap(u16::MAX));
    segments.push((f64::from(u16::MAX), open));
    segments
}

/// How well a timeout of this length explains what the bracket has seen.
fn likelihood(bracket: &Bracket, timeout: Gap) -> f64 {
    let survived = if timeout > bracket.lo { 1.0 } else { LEAK };
    let died = match bracket.hi {
        Some(hi) if timeout > hi => NOISE.powi(i32::from(bracket.deaths.min(3))),
        Some(_) | None => 1.0,
    };
    survived * died
}

#[cfg(test)]
mod tests {
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
    }
}
