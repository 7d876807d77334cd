//! What a device has learned of its networks, and what follows for the next beat. Pure.

use reveille_proto::heartbeat::{
    Bracket, Config, Costs, Gap, Lateness, Network, Range, Timeouts, best_interval,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// So many networks are remembered; the one that was not used for longest goes first.
pub const NETWORKS_MAX: usize = 32;
/// Without advice and evidence the first interval on a network is at most this: shorter than common timeouts.
const START: Gap = Gap(180);
/// What was fatal so many days ago may have changed since.
const FORGET_DAYS: u32 = 7;

/// A day, counted from anywhere that stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub u32);

/// What is remembered of one network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The evidence.
    pub bracket: Bracket,
    /// When it was used last.
    pub used: Day,
    /// When something was fatal last.
    pub died: Day,
}

/// Evidence and choice, for all networks of one device.
#[derive(Clone, Debug)]
pub struct Learner {
    records: BTreeMap<Network, Record>,
    network: Network,
    today: Day,
    /// What is believed of the network without own evidence; `None` until somebody tells.
    told: Option<Timeouts>,
    default: Timeouts,
    lateness: Lateness,
    range: Range,
    stay: Gap,
}

impl Learner {
    /// Knows nothing yet.
    pub fn new(range: Range) -> Self {
        let mut learner = Self {
            records: BTreeMap::new(),
            network: Network::default(),
            today: Day::default(),
            told: None,
            default: Timeouts::default(),
            lateness: Lateness::default(),
            range,
            stay: range.floor,
        };
        learner.choose();
        learner
    }

    /// A connection begins on this network. What the broker told of another one is forgotten.
    pub fn arrive(&mut self, network: &Network, today: Day) {
        if self.network != *network {
            self.told = None;
            self.network = network.clone();
        }
        self.today = today;
        let record = self.records.entry(network.clone()).or_default();
        record.used = today;
        if record.bracket.hi.is_some() && today.0.saturating_sub(record.died.0) >= FORGET_DAYS {
            record.bracket.hi = None;
            record.bracket.deaths = 0;
        }
        self.forget_oldest();
        self.choose();
    }

    /// The broker's advice.
    pub fn advised(&mut self, config: &Config) {
        if let Some(quantiles) = &config.quantiles {
            self.told = Some(Timeouts::from_quantiles(quantiles));
        }
        if let Some(ceiling) = config.ceiling {
            self.range.ceiling = self.range.ceiling.min(ceiling);
        }
        self.choose();
    }

    /// The connection lived after this silence.
    pub fn survived(&mut self, gap: Gap) {
        let bracket = &mut self.record().bracket;
        let before = *bracket;
        bracket.survived(gap);
        if *bracket != before {
            self.choose();
        }
    }

    /// The connection was dead after this silence, and the network took the next one at once.
    pub fn died(&mut self, gap: Gap) {
        let today = self.today;
        let record = self.record();
        record.bracket.died(gap);
        record.died = today;
        self.choose();
    }

    /// An alarm rang so much after its time.
    pub fn late(&mut self, late: Duration) {
        self.lateness.note(late);
    }

    /// How late 95 of 100 alarms ring at most, in seconds.
    pub fn late_s(&self) -> u16 {
        self.lateness.p95_s()
    }

    /// MQTT's keep alive on this connection, which no interval may exceed.
    pub fn bound(&mut self, ceiling: Gap) {
        self.range.ceiling = ceiling.min(Gap::CEILING);
        self.choose();
    }

    /// The interval that costs least.
    pub fn stay(&self) -> Gap {
        self.stay
    }

    /// The evidence on the present network.
    pub fn bracket(&self) -> Bracket {
        self.bracket_on(&self.network)
    }

    /// The evidence on any network.
    pub fn bracket_on(&self, network: &Network) -> Bracket {
        self.records.get(network).map(|record| record.bracket).unwrap_or_default()
    }

    /// All that is worth keeping.
    pub fn memory(&self) -> (&BTreeMap<Network, Record>, Lateness) {
        (&self.records, self.lateness)
    }

    /// Goes on with what was kept.
    pub fn remember(&mut self, records: BTreeMap<Network, Record>, lateness: Lateness) {
        self.records = records;
        self.lateness = lateness;
        self.forget_oldest();
        self.choose();
    }

    fn record(&mut self) -> &mut Record {
        self.records.entry(self.network.clone()).or_default()
    }

    fn choose(&mut self) {
        let bracket = self.bracket();
        let costs = Costs::of(self.network.radio);
        let prior = self.told.as_ref().unwrap_or(&self.default);
        let best = best_interval(prior, &bracket, self.lateness, &costs, self.range);
        let is_blind = self.told.is_none() && bracket.lo < Gap::FLOOR;
        self.stay = if is_blind { best.min(self.range.clamp(START)) } else { best };
    }

    fn forget_oldest(&mut self) {
        while self.records.len() > NETWORKS_MAX {
            let others = self.records.iter().filter(|(network, _)| **network != self.network);
            let Some(oldest) =
                others.min_by_key(|(_, record)| record.used).map(|(network, _)| network.clone())
            else {
                return;
            };
            self.records.remove(&oldest);
        }
    }
}
