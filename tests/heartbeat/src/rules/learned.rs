//! Ours: the very code of the client library, fed with what the broker's code estimates; and the two ways of trying
//! longer gaps that it might have besides, priced by the value of what they would tell.

use super::{Arrival, Rule};
use crate::places::DAY_S;
use reveille_client::heartbeat::{Day, Learner};
use reveille_proto::heartbeat::{Bin, Config, Costs, Gap, Lateness, Network, Range, Risk, Timeouts};
use std::time::Duration;

/// How longer gaps are tried.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Probing {
    /// Not at all, beyond what the best interval and late alarms risk.
    None,
    /// On the connection itself, every second beat.
    Direct,
    /// On a second connection.
    Shadow,
}

pub struct Learned {
    listens: bool,
    probing: Probing,
    learner: Learner,
    lateness: Lateness,
    network: Network,
    told: Timeouts,
    beats: u32,
}

/// What a probe may be paid for: a week of beats.
const HORIZON_S: f64 = 7.0 * DAY_S;
/// A probe that would probably kill the connection is not made on it.
const DIRECT_RISK_MAX: f64 = 0.1;

impl Learned {
    pub fn new(listens: bool, probing: Probing) -> Self {
        Self {
            listens,
            probing,
            learner: Learner::new(Range::default()),
            lateness: Lateness::default(),
            network: Network::default(),
            told: Timeouts::default(),
            beats: 0,
        }
    }

    /// The gap whose trial is worth most, if any is worth its price.
    fn probe(&self) -> Option<f64> {
        let (stay, costs) = (self.learner.stay(), Costs::of(self.network.radio));
        let risk = Risk::new(&self.told, &self.learner.bracket());
        let value = |gap: u16| {
            let (dead, silence_s) = risk.after(Gap(gap), self.lateness, costs.recovery_s);
            let beats_saved = HORIZON_S * (1.0 / f64::from(stay.0) - 1.0 / f64::from(gap));
            let (price_j, is_bearable) = match self.probing {
                Probing::Direct => {
                    (1.3 * costs.beat_j * dead + costs.dead_j_per_s * silence_s, dead <= DIRECT_RISK_MAX)
                }
                Probing::Shadow => (0.6 * costs.beat_j, dead <= 0.97),
                Probing::None => (0.0, false),
            };
            if is_bearable { (1.0 - dead) * costs.beat_j * beats_saved - price_j } else { f64::MIN }
        };
        let gaps = (stay.0 + stay.0 / 20..=Gap::CEILING.0).step_by(20);
        let (best, gain) =
            gaps.map(|gap| (gap, value(gap))).max_by(|left, right| left.1.total_cmp(&right.1))?;
        (gain > 0.0).then_some(f64::from(best))
    }
}

impl Rule for Learned {
    fn arrive(&mut self, arrival: &Arrival) {
        self.network = arrival.place.network.clone();
        self.learner.arrive(&self.network, Day((arrival.now / DAY_S) as u32));
        let quantiles = arrival.told.filter(|_| self.listens).map(|told| told.quantiles());
        self.told = quantiles.as_ref().map_or_else(Timeouts::default, Timeouts::from_quantiles);
        if quantiles.is_some() {
            self.learner.advised(&Config { quantiles, ..Config::default() });
        }
    }

    fn interval(&mut self) -> f64 {
        self.beats += 1;
        let tries = self.probing == Probing::Direct && self.beats.is_multiple_of(2);
        let probe = if tries { self.probe() } else { None };
        probe.unwrap_or(f64::from(self.learner.stay().0))
    }

    fn survived(&mut self, gap_s: f64) {
        self.learner.survived(Gap::survived(Duration::from_secs_f64(gap_s)));
    }

    fn died(&mut self, gap_s: f64) {
        self.learner.died(Gap::fatal(Duration::from_secs_f64(gap_s)));
    }

    fn late(&mut self, late_s: f64) {
        self.lateness.note(Duration::from_secs_f64(late_s));
        self.learner.late(Duration::from_secs_f64(late_s));
    }

    fn shadow(&mut self) -> Option<f64> {
        if self.probing == Probing::Shadow { self.probe() } else { None }
    }

    fn claim(&self) -> Option<(Bin, Bin)> {
        self.learner.bracket().vote()
    }
}
