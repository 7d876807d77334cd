//! The interval that costs least.
//!
//! Not the longest interval that works: a beat on Wi-Fi costs next to nothing, so there the best interval is short and
//! safe; one over LTE wakes the radio for ten seconds, so there it is long. Both come out of the same sum.

use super::{Bracket, Gap, Lateness, Radio, Risk, Timeouts};

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
/// A step beyond the best interval may raise the probability of a dead connection by this much.
const STEP_RISK: f64 = 0.08;

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
        Self { beat_j, dead_j_per_s: 0.5, recovery_s: 12.0, deaths_per_day }
    }

    /// Joules per second when beats come at this interval.
    fn rate(&self, risk: &Risk, lateness: Lateness, gap: Gap) -> f64 {
        let (dead, silence_s) = risk.after(gap, lateness, self.recovery_s);
        let deaths = RECONNECT_BEATS * self.beat_j * dead + self.dead_j_per_s * silence_s;
        self.living_rate(gap) + deaths / gap.seconds()
    }

    /// The same on a path that never forgets.
    fn living_rate(&self, gap: Gap) -> f64 {
        let surprises = self.deaths_per_day / DAY_S * (gap.seconds() / 2.0 + self.recovery_s);
        self.beat_j / gap.seconds() + self.dead_j_per_s * surprises
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
        let next = move |gap: &Gap| (*gap < self.ceiling).then(|| step(*gap).min(self.ceiling));
        std::iter::successors(Some(self.floor), next)
    }
}

/// The interval that costs least under what is believed and what the device has seen itself, or one step more.
///
/// A phone whose alarms are never late would otherwise stay for ever where it first survived. So the interval goes one step
/// beyond the best where that risks next to nothing and a longer silence would be cheaper, if only it were survived.
pub fn best_interval(
    prior: &Timeouts,
    bracket: &Bracket,
    lateness: Lateness,
    costs: &Costs,
    range: Range,
) -> Gap {
    let risk = Risk::new(prior, bracket);
    let best = cheapest(range, |gap| costs.rate(&risk, lateness, gap));
    let further = range.clamp(step(best));
    let dead = |gap| risk.after(gap, lateness, costs.recovery_s).0;
    let is_cheaper = costs.living_rate(further) < costs.living_rate(best);
    if is_cheaper && dead(further) - dead(best) < STEP_RISK { further } else { best }
}

fn step(gap: Gap) -> Gap {
    Gap(gap.0.saturating_add((gap.0 / STEPS).max(STEP_MIN)))
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
    fn a_floor_above_the_ceiling_wins() {
        let narrow = Range { floor: Gap(60), ceiling: Gap(40) };
        let (prior, late) = (Timeouts::default(), Lateness::default());
        assert_eq!(best_interval(&prior, &Bracket::default(), late, &Costs::of(Radio::G4), narrow), Gap(60));
    }

    /// Without any trial of its own: the best interval goes beyond what was survived wherever that risks little.
    #[test]
    fn a_device_that_only_ever_survives_reaches_the_ceiling() {
        let (mut bracket, mut beats) = (Bracket { lo: Gap(60), ..Bracket::default() }, 0);
        while bracket.lo < Gap(1_650) {
            let gap = chosen(&bracket, Radio::G4);
            assert!(gap > bracket.lo, "no further than {gap:?} after {beats} beats");
            bracket.survived(gap);
            beats += 1;
        }
        assert!(beats < 200, "{beats} beats");
    }
}
