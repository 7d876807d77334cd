//! The interval that costs least, and whether a longer gap is worth a try.
//!
//! Not the longest interval that works: a beat on Wi-Fi costs next to nothing, so there the best interval is short and
//! safe; one over LTE wakes the radio for ten seconds, so there it is long. Both come out of the same sum.

use super::timeouts::Risk;
use super::{Bracket, Gap, Lateness, Radio, Timeouts};

/// What a beat and a dead connection are worth, in joules.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// Waking the radio once, with its tail.
    pub beat_j: f64,
    /// A second during which the device cannot be reached although everybody believes it can. With a tenth of this it
    /// would be cheapest to stay dead behind a short timeout.
    pub dead_j_per_s: f64,
    /// From the beat without an answer to the next connection.
    pub recovery_s: f64,
    /// How often a day a connection dies silently of something else; the longer the interval, the later that is seen.
    pub deaths_per_day: f64,
}

/// A reconnect against a beat: TCP, TLS and CONNECT are some more packets in the same wake.
const RECONNECT_BEATS: f64 = 1.3;
const DAY_S: f64 = 86_400.0;
/// Intervals are tried in steps of a fortieth, at least 5 s.
const STEPS: u16 = 40;
const STEP_MIN: u16 = 5;
/// A probe is an attempt at a gap this much longer: a smaller gain would not be felt.
const PROBE_STEP: f64 = 1.05;
/// What is all but certain needs no probe, and what is all but hopeless gets none.
const PROBE_RISK: std::ops::Range<f64> = 0.0..0.6;

impl Costs {
    /// LTE and 3G as Huang and others measured them (MobiSys 2012: 12.8 and 7.4 J for one isolated packet), 5G taken like
    /// LTE, 2G like 3G. Wi-Fi's 0.04 J are nothing beside waking the processor, about 0.5 J.
    pub fn of(radio: Radio) -> Self {
        let (beat_j, deaths_per_day) = match radio {
            Radio::Wifi | Radio::Ethernet => (0.5, 0.1),
            Radio::G2 => (7.4, 0.8),
            Radio::G3 => (7.4, 0.4),
            Radio::G4 | Radio::G5 | Radio::Unknown => (12.8, 0.3),
        };
        Self { beat_j, dead_j_per_s: 1.0, recovery_s: 12.0, deaths_per_day }
    }

    /// Joules per second when beats come at this interval.
    fn rate(&self, risk: &Risk, lateness: Lateness, gap: Gap) -> f64 {
        let (dead, silence_s) = expected(risk, lateness, gap, self.recovery_s);
        let beats =
            (self.beat_j * (1.0 + RECONNECT_BEATS * dead) + self.dead_j_per_s * silence_s) / gap.seconds();
        let surprises =
            self.deaths_per_day / DAY_S * self.dead_j_per_s * (gap.seconds() / 2.0 + self.recovery_s);
        beats + surprises
    }
}

/// The shortest and the longest interval allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Not below.
    pub floor: Gap,
    /// Not above; the floor wins where they cross.
    pub ceiling: Gap,
}

impl Default for Range {
    fn default() -> Self {
        Self { floor: Gap::FLOOR, ceiling: Gap::CEILING }
    }
}

impl Range {
    /// The nearest gap within.
    pub fn clamp(self, gap: Gap) -> Gap {
        gap.min(self.ceiling).max(self.floor)
    }

    /// At most 140 gaps.
    fn steps(self) -> impl Iterator<Item = Gap> {
        let next = move |gap: &Gap| {
            let next = gap.0.saturating_add((gap.0 / STEPS).max(STEP_MIN));
            (gap.0 < self.ceiling.0).then(|| Gap(next.min(self.ceiling.0)))
        };
        std::iter::successors(Some(self.floor), next)
    }
}

/// The interval that costs least under what is believed and what the device has seen itself.
pub fn best_interval(
    prior: &Timeouts,
    bracket: &Bracket,
    lateness: Lateness,
    costs: &Costs,
    range: Range,
) -> Gap {
    let risk = Risk::new(prior, bracket);
    cheapest(range, |gap| costs.rate(&risk, lateness, gap))
}

/// A gap longer than `stay` whose trial, on the connection itself, pays within `horizon_s` seconds of beats there.
///
/// `None` when nothing is to be gained: because the ceiling is reached, because the beats are cheap, or because the trial
/// would probably cost a dead connection.
pub fn worthwhile_probe(
    prior: &Timeouts,
    bracket: &Bracket,
    lateness: Lateness,
    costs: &Costs,
    range: Range,
    stay: Gap,
    horizon_s: f64,
) -> Option<Gap> {
    let risk = Risk::new(prior, bracket);
    let from = Gap((stay.seconds() * PROBE_STEP).ceil() as u16);
    let gain = |gap: Gap| {
        let (dead, silence_s) = expected(&risk, lateness, gap, costs.recovery_s);
        let saved = costs.beat_j * (1.0 / stay.seconds() - 1.0 / gap.seconds()) * horizon_s;
        let price = RECONNECT_BEATS * costs.beat_j * dead + costs.dead_j_per_s * silence_s;
        if PROBE_RISK.contains(&dead) { (1.0 - dead) * saved - price } else { f64::NEG_INFINITY }
    };
    let candidates = Range { floor: from, ceiling: range.ceiling };
    if from > range.ceiling {
        return None;
    }
    let best = cheapest(candidates, |gap| -gain(gap));
    (gain(best) > 0.0).then_some(best)
}

/// The probability of a dead connection after this gap and the alarm's lateness, and the expected dead time.
fn expected(risk: &Risk, lateness: Lateness, gap: Gap, recovery_s: f64) -> (f64, f64) {
    let parts = lateness.weighted().map(|(late_s, weight)| {
        let silence = gap.seconds() + late_s;
        let dead = risk.dead(silence);
        (weight * dead, weight * (risk.silence_s(silence) + dead * recovery_s))
    });
    parts.fold((0.0, 0.0), |(dead, silence_s), part| (dead + part.0, silence_s + part.1))
}

fn cheapest(range: Range, cost: impl Fn(Gap) -> f64) -> Gap {
    let priced = range.steps().map(|gap| (gap, cost(gap)));
    priced.min_by(|left, right| left.1.total_cmp(&right.1)).map_or(range.floor, |(gap, _)| gap)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(lo: u16, hi: u16) -> Bracket {
        Bracket { lo: Gap(lo), hi: Some(Gap(hi)), deaths: 2, doubt: None }
    }

    fn chosen(bracket: &Bracket, radio: Radio) -> Gap {
        best_interval(&Timeouts::default(), bracket, Lateness::default(), &Costs::of(radio), Range::default())
    }

    #[test]
    fn the_interval_keeps_a_margin_below_what_is_known_to_be_fatal() {
        for (lo, hi) in [(280, 300), (600, 660), (1_400, 1_500)] {
            let gap = chosen(&known(lo, hi), Radio::G4);
            assert!((lo / 2..=lo).contains(&gap.0), "between {lo} and {hi}: {gap:?}");
        }
    }

    #[test]
    fn cheap_beats_come_more_often_than_dear_ones() {
        let bracket = Bracket { lo: Gap(1_700), ..Bracket::default() };
        let (wifi, lte) = (chosen(&bracket, Radio::Wifi), chosen(&bracket, Radio::G4));
        assert!(wifi.0 * 3 < lte.0 * 2, "{wifi:?} {lte:?}");
    }

    /// With a tenth of the price of dead time it is cheapest to be dead behind every short timeout: in the first
    /// simulation phones on such networks were dead half of the day.
    #[test]
    fn the_price_of_dead_time_is_high_enough_to_never_choose_to_stay_dead() {
        let short = known(60, 75);
        let too_low = Costs { dead_j_per_s: 0.1, ..Costs::of(Radio::G4) };
        let choose = |costs: &Costs| {
            best_interval(&Timeouts::default(), &short, Lateness::default(), costs, Range::default())
        };
        assert!(choose(&too_low) > Gap(600), "the trap is there: {:?}", choose(&too_low));
        for radio in Radio::ALL {
            let gap = choose(&Costs::of(radio));
            assert!(gap <= Gap(75), "{radio:?}: {gap:?}");
        }
    }

    #[test]
    fn a_probe_pays_where_beats_are_dear_and_the_future_is_long() {
        let bracket = Bracket { lo: Gap(300), ..Bracket::default() };
        let probe = |radio, horizon_s| {
            let stay = chosen(&bracket, radio);
            worthwhile_probe(
                &Timeouts::default(),
                &bracket,
                Lateness::default(),
                &Costs::of(radio),
                Range::default(),
                stay,
                horizon_s,
            )
        };
        assert!(probe(Radio::G4, 30.0 * DAY_S).is_some_and(|gap| gap > Gap(300)));
        assert_eq!(probe(Radio::G4, 60.0), None);
        assert_eq!(probe(Radio::Wifi, 60.0), None);
    }

    #[test]
    fn nothing_is_probed_beyond_the_ceiling() {
        let bracket = Bracket { lo: Gap(1_680), ..Bracket::default() };
        let costs = Costs::of(Radio::G4);
        let range = Range::default();
        let (prior, late) = (Timeouts::default(), Lateness::default());
        assert_eq!(worthwhile_probe(&prior, &bracket, late, &costs, range, Gap::CEILING, 1e9), None);
        let narrow = Range { floor: Gap(60), ceiling: Gap(40) };
        assert_eq!(best_interval(&prior, &bracket, late, &costs, narrow), Gap(60));
    }
}
