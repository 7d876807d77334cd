//! The rules that are compared. All but ours are written anew from their published descriptions.

mod ladder;
mod learned;

use crate::places::Place;
use ladder::{Ladder, Search};
use learned::{Learned, Probing};
use reveille_proto::heartbeat::{Bin, Timeouts};
use std::collections::BTreeMap;

/// What a rule may know when a connection begins.
pub struct Arrival<'a> {
    /// Where.
    pub place: &'a Place,
    /// Now, in seconds since the start.
    pub now: f64,
    /// What the broker tells, if it knows the network.
    pub told: Option<&'a Timeouts>,
}

/// How one phone chooses its intervals.
pub trait Rule {
    /// A connection begins.
    fn arrive(&mut self, arrival: &Arrival);
    /// The next silence, in seconds.
    fn interval(&mut self) -> f64;
    /// The connection lived after this silence.
    fn survived(&mut self, gap_s: f64);
    /// It was dead.
    fn died(&mut self, gap_s: f64);
    /// An alarm rang late.
    fn late(&mut self, _late_s: f64) {}
    /// A gap to try on a second connection whose beats fall on those of the first, so that they wake nobody.
    fn shadow(&mut self) -> Option<f64> {
        None
    }
    /// What the phone tells the broker.
    fn claim(&self) -> Option<(Bin, Bin)> {
        None
    }
}

/// All rules, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleName {
    /// A fixed interval in seconds.
    Fixed(u16),
    /// Google's: 28 minutes on cellular networks, 15 on Wi-Fi (Chromium's GCM client).
    Gcm,
    /// Tencent's mars: from 210 s by 60 s after five successes up to 580 s, 80 s back after two failures, three short beats
    /// at the start of each connection.
    Mars,
    /// The same search from 210 s to 28 minutes, without the short beats.
    Additive,
    /// The additive search, begun where the fleet says.
    AdditiveFleet,
    /// Halving between what lived and what died.
    Binary,
    /// Ours without the broker.
    Local,
    /// Ours: the cheapest interval under what the fleet knows and the device has seen.
    Ours,
    /// The same, and trials of longer gaps on the connection itself.
    OursDirect,
    /// The same, with the trials on a second connection.
    OursShadow,
    /// Knows each timeout: 0.95 of it, at most 28 minutes.
    Oracle,
}

impl RuleName {
    /// The order of the table.
    pub const ALL: [Self; 13] = [
        Self::Fixed(60),
        Self::Fixed(240),
        Self::Fixed(300),
        Self::Gcm,
        Self::Mars,
        Self::Additive,
        Self::AdditiveFleet,
        Self::Binary,
        Self::Local,
        Self::Ours,
        Self::OursDirect,
        Self::OursShadow,
        Self::Oracle,
    ];

    /// The word in tables and plots.
    pub fn name(self) -> String {
        match self {
            Self::Fixed(seconds) => format!("fixed {seconds} s"),
            Self::Gcm => "GCM, 28 and 15 min".to_owned(),
            Self::Mars => "mars (WeChat)".to_owned(),
            Self::Additive => "additive to 28 min".to_owned(),
            Self::AdditiveFleet => "additive from the fleet's".to_owned(),
            Self::Binary => "binary search".to_owned(),
            Self::Local => "ours without the broker".to_owned(),
            Self::Ours => "**ours**".to_owned(),
            Self::OursDirect => "ours and direct probes".to_owned(),
            Self::OursShadow => "ours and shadow probes".to_owned(),
            Self::Oracle => "oracle".to_owned(),
        }
    }

    /// A phone that has just been installed.
    pub fn fresh(self) -> Box<dyn Rule> {
        match self {
            Self::Fixed(seconds) => {
                Box::new(Fixed { wifi_s: f64::from(seconds), cellular_s: f64::from(seconds), now_s: 0.0 })
            }
            Self::Gcm => Box::new(Fixed { wifi_s: 900.0, cellular_s: 1_680.0, now_s: 0.0 }),
            Self::Mars => Box::new(Ladder::new(Search::MARS)),
            Self::Additive => Box::new(Ladder::new(Search::ADDITIVE)),
            Self::AdditiveFleet => Box::new(Ladder::new(Search::FROM_FLEET)),
            Self::Binary => Box::new(Binary::default()),
            Self::Local => Box::new(Learned::new(false, Probing::None)),
            Self::Ours => Box::new(Learned::new(true, Probing::None)),
            Self::OursDirect => Box::new(Learned::new(true, Probing::Direct)),
            Self::OursShadow => Box::new(Learned::new(true, Probing::Shadow)),
            Self::Oracle => Box::new(Oracle(0.0)),
        }
    }
}

struct Fixed {
    wifi_s: f64,
    cellular_s: f64,
    now_s: f64,
}

impl Rule for Fixed {
    fn arrive(&mut self, arrival: &Arrival) {
        self.now_s = if arrival.place.is_cellular() { self.cellular_s } else { self.wifi_s };
    }
    fn interval(&mut self) -> f64 {
        self.now_s
    }
    fn survived(&mut self, _: f64) {}
    fn died(&mut self, _: f64) {}
}

struct Oracle(f64);

impl Rule for Oracle {
    fn arrive(&mut self, arrival: &Arrival) {
        self.0 = (0.95 * arrival.place.timeout_s(arrival.now)).min(1_680.0);
    }
    fn interval(&mut self) -> f64 {
        self.0
    }
    fn survived(&mut self, _: f64) {}
    fn died(&mut self, _: f64) {}
}

/// Halving, until the ends are half a minute apart; two deaths at what was proven begin it again.
#[derive(Default)]
struct Binary {
    known: BTreeMap<String, Bounds>,
    at: String,
}

#[derive(Clone, Copy)]
struct Bounds {
    lives_s: f64,
    dies_s: f64,
    failures: u8,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { lives_s: 60.0, dies_s: 1_740.0, failures: 0 }
    }
}

impl Binary {
    fn bounds(&mut self) -> &mut Bounds {
        self.known.entry(self.at.clone()).or_default()
    }
}

impl Rule for Binary {
    fn arrive(&mut self, arrival: &Arrival) {
        self.at = arrival.place.network.to_string();
    }
    fn interval(&mut self) -> f64 {
        let bounds = self.bounds();
        let is_found = bounds.dies_s - bounds.lives_s < 30.0;
        let gap_s = if is_found { 0.95 * bounds.lives_s } else { (bounds.lives_s + bounds.dies_s) / 2.0 };
        gap_s.min(1_680.0)
    }
    fn survived(&mut self, gap_s: f64) {
        let bounds = self.bounds();
        bounds.failures = 0;
        bounds.lives_s = bounds.lives_s.max(gap_s).min(1_710.0);
        bounds.dies_s = bounds.dies_s.max(bounds.lives_s + 1.0);
    }
    fn died(&mut self, gap_s: f64) {
        let bounds = self.bounds();
        if gap_s > bounds.lives_s {
            bounds.dies_s = bounds.dies_s.min(gap_s);
            return;
        }
        bounds.failures += 1;
        if bounds.failures >= 2 {
            *bounds = Bounds { dies_s: gap_s, ..Bounds::default() };
        }
    }
}
