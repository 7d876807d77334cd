//! Searches that climb by steps: mars, the plain additive one, and that one begun where the fleet says.

use super::{Arrival, Rule};
use crate::places::DAY_S;
use reveille_proto::heartbeat::{Bin, Bracket, Gap};
use std::collections::BTreeMap;

/// The numbers of one search.
#[derive(Clone, Copy)]
pub struct Search {
    start_s: f64,
    ceiling_s: f64,
    /// Beats at the start interval when a connection begins.
    short_beats: u8,
    /// The first interval on a network that the fleet knows, as a quantile of its timeouts.
    fleet_quantile: Option<f64>,
}

impl Search {
    pub const MARS: Self = Self { start_s: 210.0, ceiling_s: 580.0, short_beats: 3, fleet_quantile: None };
    pub const ADDITIVE: Self =
        Self { start_s: 210.0, ceiling_s: 1_680.0, short_beats: 0, fleet_quantile: None };
    pub const FROM_FLEET: Self = Self { fleet_quantile: Some(0.1), ..Self::ADDITIVE };
}

const STEP_S: f64 = 60.0;
const BACK_S: f64 = 80.0;
const SUCCESSES: u8 = 5;
const FAILURES: u8 = 2;
/// A settled interval is tried 20 s longer after a week.
const SETTLED_DAYS: f64 = 7.0;
const RETRY_STEP_S: f64 = 20.0;

#[derive(Clone, Copy)]
struct Rung {
    interval_s: f64,
    successes: u8,
    failures: u8,
    settled_at: Option<f64>,
    bracket: Bracket,
}

pub struct Ladder {
    search: Search,
    known: BTreeMap<String, Rung>,
    at: String,
    now: f64,
    short_left: u8,
}

impl Ladder {
    pub fn new(search: Search) -> Self {
        Self { search, known: BTreeMap::new(), at: String::new(), now: 0.0, short_left: 0 }
    }

    fn rung(&mut self) -> &mut Rung {
        let interval_s = self.search.start_s;
        self.known.entry(self.at.clone()).or_insert(Rung {
            interval_s,
            successes: 0,
            failures: 0,
            settled_at: None,
            bracket: Bracket::default(),
        })
    }
}

impl Rule for Ladder {
    fn arrive(&mut self, arrival: &Arrival) {
        self.at = arrival.place.network.to_string();
        self.now = arrival.now;
        self.short_left = self.search.short_beats;
        if let (Some(level), Some(told)) = (self.search.fleet_quantile, arrival.told)
            && !self.known.contains_key(&self.at)
        {
            let start_s = (0.95 * f64::from(told.quantile(level).0)).clamp(60.0, self.search.ceiling_s);
            self.rung().interval_s = start_s;
        }
    }

    fn interval(&mut self) -> f64 {
        if self.short_left > 0 {
            self.search.start_s.min(self.rung().interval_s)
        } else {
            self.rung().interval_s
        }
    }

    fn survived(&mut self, gap_s: f64) {
        self.rung().bracket.survived(Gap(gap_s as u16));
        let (now, ceiling_s) = (self.now + gap_s, self.search.ceiling_s);
        if self.short_left > 0 {
            self.short_left -= 1;
            return;
        }
        let rung = self.rung();
        if gap_s < 0.9 * rung.interval_s {
            return; // a message came in between
        }
        rung.failures = 0;
        rung.successes += 1;
        if rung.successes < SUCCESSES {
            return;
        }
        rung.successes = 0;
        match rung.settled_at {
            None if rung.interval_s + STEP_S >= ceiling_s => {
                rung.interval_s = ceiling_s;
                rung.settled_at = Some(now);
            }
            None => rung.interval_s += STEP_S,
            Some(since) if now - since > SETTLED_DAYS * DAY_S && rung.interval_s < ceiling_s => {
                rung.interval_s += RETRY_STEP_S;
                rung.settled_at = Some(now);
            }
            Some(_) => {}
        }
    }

    fn died(&mut self, gap_s: f64) {
        let (now, start_s) = (self.now + gap_s, self.search.start_s);
        let rung = self.rung();
        rung.bracket.died(Gap(gap_s as u16));
        rung.successes = 0;
        rung.failures += 1;
        if rung.failures >= FAILURES {
            rung.failures = 0;
            rung.interval_s = (rung.interval_s - BACK_S).max(start_s.min(rung.interval_s));
            rung.settled_at = Some(now);
        }
    }

    fn claim(&self) -> Option<(Bin, Bin)> {
        self.search.fleet_quantile?;
        self.known.get(&self.at).and_then(|rung| rung.bracket.vote())
    }
}
