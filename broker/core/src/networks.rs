//! What the broker learns about networks: for how long each of them lets a connection be silent, told by all devices.
//!
//! Shards say what they see of single connections ([`Sighting`]); here it becomes one [`Bracket`] a device and network,
//! and those become a distribution of idle timeouts for each network, which the next device is told before it tried
//! anything. Pure: the shell hands the sightings over, calls [`Networks::tick`] once a second, and writes what
//! [`Networks::take_dirty`] gives.
//!
//! ```text
//!  alive after a silence ------------------------------------> bracket
//!  silent, then back on the same network within ten minutes -> (ten seconds: no storm?) -> bracket
//!  silent, then back elsewhere, or not at all; DISCONNECT, FIN, kick, drain ----> nothing
//!  RST --------------------------------------------------------------------------> counted, nothing learned
//! ```

mod key;
mod rules;
mod sighting;
mod storm;
mod voters;

pub use key::{NetworkKey, NoPrefix, Place, Prefix};
pub use rules::{NamedNetwork, NetworkRules};
pub use sighting::{Device, Leaving, Origin, Seen, Sighting};
pub use voters::Voter;

use crate::message::Time;
use reveille_proto::heartbeat::{
    Bracket, Config, Costs, Gap, Lateness, Quantiles, Radio, Range, Timeouts, Votes, best_interval,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::time::Duration;
use storm::{Death, Storms};
use voters::Voters;

/// Networks that are remembered. A device counts in two of them, the near one and the wide one.
pub const NETWORKS_MAX: usize = 16_384;

/// Devices whose connection went silent and of which it is not known yet why.
const SUSPECTS_MAX: usize = 65_536;

/// Who comes back later was switched off, or out of reach: that says nothing about the network.
const RETURN_MAX: Duration = Duration::from_secs(10 * 60);

/// A device reports at its first beat after it came back: the longest interval, and time to spare.
const CLAIM_MAX: Duration = Duration::from_secs(60 * 60);

/// What a device may claim beyond the silence that the broker saw: two clocks, and the way between.
const CLAIM_SLACK: Duration = Duration::from_secs(2);

/// Estimates of one tick: each costs some hundred microseconds.
const ESTIMATES_PER_TICK: usize = 256;

/// Between two estimates of one network.
const ESTIMATE_INTERVAL: Duration = Duration::from_secs(60);

/// Between two looks for what is too old.
const SWEEP_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// After how long a change of a network is written at the latest.
const WRITE_INTERVAL: Duration = Duration::from_secs(60);

/// The part of the shortest timeouts that a plain client gets as its keep alive.
const KEEP_ALIVE_SHARE: f64 = 0.9;

/// How long advice holds: a day.
const ADVICE_TTL_S: u32 = 24 * 60 * 60;

/// How much longer than the ideal time all devices together shall take to come back.
const WINDOW_SHARE: f64 = 1.2;

/// One network.
#[derive(Clone, Debug, Default)]
struct Known {
    voters: Voters,
    connections: u32,
    deaths: u64,
    resets: u64,
    changed_at: Time,
    estimated_at: Time,
    estimate: Option<Estimate>,
}

/// What was made of the votes.
#[derive(Clone, Debug)]
struct Estimate {
    /// Votes that count.
    devices: usize,
    timeouts: Timeouts,
    quantiles: Quantiles,
    interval: Gap,
}

/// What outlives a restart about one network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkRecord {
    /// Who knows what.
    pub voters: Vec<Voter>,
    /// Connections that died of silence.
    pub deaths: u64,
    /// Connections that were reset.
    pub resets: u64,
    /// When something was learned last.
    pub changed_at: Time,
}

/// What an operator sees of one network.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkView {
    /// Which.
    pub key: NetworkKey,
    /// Devices that voted, counting or not.
    pub devices: usize,
    /// Those whose votes count.
    pub counted: usize,
    /// Connections now.
    pub connections: u32,
    /// Connections that died of silence.
    pub deaths: u64,
    /// Connections that were reset.
    pub resets: u64,
    /// Timeouts below which 5, 10, 25, 50 and 75 of 100 paths lie.
    pub quantiles: Quantiles,
    /// The interval that a new device there begins with.
    pub interval: Gap,
    /// An operator said so.
    pub is_fixed: bool,
    /// When something was learned last.
    pub changed_at: Time,
}

/// What was counted, of all networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkCounters {
    /// Networks that are remembered.
    pub networks: u64,
    /// Silences that were survived and longer than known before.
    pub survived: u64,
    /// Connections that died of silence.
    pub deaths: u64,
    /// Connections that were reset.
    pub resets: u64,
    /// Silent connections whose device came back on another network.
    pub moved: u64,
    /// Silent connections whose device did not come back soon.
    pub unreturned: u64,
    /// Deaths not believed because too many came at once.
    pub storms: u64,
    /// Claims of devices that did not fit what the broker saw.
    pub disbelieved: u64,
    /// Networks forgotten to make room.
    pub forgotten: u64,
}

/// What a device is told when it connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// For one that tunes its heartbeat.
    pub config: Config,
    /// For one that does not: a keep alive that its network allows, where enough is known.
    pub keep_alive: Option<u16>,
}

/// A device that went silent.
#[derive(Clone, Debug)]
struct Suspect {
    origin: Origin,
    at: Time,
    idle: Duration,
    /// It certainly went silent; otherwise only the device can tell.
    is_certain: bool,
    has_returned: bool,
}

/// See the module.
pub struct Networks {
    rules: NetworkRules,
    known: BTreeMap<NetworkKey, Known>,
    connections: u64,
    suspects: HashMap<Device, Suspect>,
    storms: Storms,
    /// Networks about which something was learned since they were estimated.
    stale: BTreeSet<NetworkKey>,
    /// Networks that are not on disk as they are.
    dirty: BTreeSet<NetworkKey>,
    written_at: Time,
    swept_at: Time,
    counters: NetworkCounters,
}

impl Networks {
    /// Nothing known yet.
    pub fn new(rules: NetworkRules) -> Self {
        Self {
            rules,
            known: BTreeMap::new(),
            connections: 0,
            suspects: HashMap::new(),
            storms: Storms::default(),
            stale: BTreeSet::new(),
            dirty: BTreeSet::new(),
            written_at: Time(0),
            swept_at: Time(0),
            counters: NetworkCounters::default(),
        }
    }

    /// Takes back what outlived the last run.
    pub fn recover(&mut self, key: NetworkKey, record: NetworkRecord) {
        let NetworkRecord { voters, deaths, resets, changed_at } = record;
        let voters = Voters::recovered(voters);
        self.stale.insert(key.clone());
        self.known.insert(key, Known { voters, deaths, resets, changed_at, ..Known::default() });
    }

    /// From now on these rules hold; what was learned stays.
    pub fn set_rules(&mut self, rules: NetworkRules) {
        self.rules = rules;
        self.stale.extend(self.known.keys().cloned());
    }

    /// The rules in force.
    pub fn rules(&self) -> &NetworkRules {
        &self.rules
    }

    /// A shard saw something.
    pub fn handle(&mut self, sighting: &Sighting, now: Time) {
        let Sighting { device, origin, is_known, seen } = sighting;
        let votes = self.rules.is_on && (*is_known || self.rules.trusts_unknown);
        match *seen {
            Seen::Came => {
                self.came(origin, now);
                self.returned(*device, origin, now);
            }
            Seen::Left(leaving) => {
                self.left(origin);
                if votes {
                    self.suspect(*device, origin, leaving, now);
                }
            }
            Seen::Survived(idle) if votes => self.survived(*device, origin, idle, now),
            Seen::Claimed(idle) if votes => self.claimed(*device, origin, idle, now),
            Seen::Survived(_) | Seen::Claimed(_) => {}
        }
    }

    fn came(&mut self, origin: &Origin, now: Time) {
        self.connections += 1;
        for key in self.rules.keys(origin) {
            self.network(key, now).connections += 1;
        }
    }

    fn left(&mut self, origin: &Origin) {
        self.connections = self.connections.saturating_sub(1);
        for key in self.rules.keys(origin) {
            if let Some(network) = self.known.get_mut(&key) {
                network.connections = network.connections.saturating_sub(1);
            }
        }
    }

    /// The network of this key; a new one takes the place of what nobody was on for the longest time.
    fn network(&mut self, key: NetworkKey, now: Time) -> &mut Known {
        if self.known.len() >= NETWORKS_MAX && !self.known.contains_key(&key) {
            self.make_room();
        }
        let fresh = || Known { changed_at: now, ..Known::default() };
        self.known.entry(key).or_insert_with(fresh)
    }

    /// An eighth at once, so that a flood of new ones does not look through all each time.
    fn make_room(&mut self) {
        let age = |(key, network): (&NetworkKey, &Known)| {
            (network.connections > 0, !network.voters.as_slice().is_empty(), network.changed_at, key.clone())
        };
        let mut oldest: Vec<_> = self.known.iter().map(age).collect();
        oldest.sort_unstable();
        for (_, has_voters, _, key) in oldest.into_iter().take(NETWORKS_MAX / 8) {
            self.known.remove(&key);
            self.stale.remove(&key);
            self.counters.forgotten += u64::from(has_voters);
            if has_voters {
                self.dirty.insert(key); // to be forgotten on disk too
            }
        }
    }

    fn suspect(&mut self, device: Device, origin: &Origin, leaving: Leaving, now: Time) {
        let (idle, is_certain) = match leaving {
            Leaving::Told => return,
            Leaving::Reset => return self.reset(origin, now),
            Leaving::Silent(idle) => (idle, true),
            Leaving::TakenOver { idle, is_unanswered } => (idle, is_unanswered),
        };
        // Without a client that tells of its beats a take-over may be anything.
        if (is_certain || origin.network.is_some()) && self.suspects.len() < SUSPECTS_MAX {
            let suspect = Suspect { origin: origin.clone(), at: now, idle, is_certain, has_returned: false };
            self.suspects.insert(device, suspect);
        }
    }

    fn reset(&mut self, origin: &Origin, now: Time) {
        self.counters.resets += 1;
        for key in self.rules.keys(origin) {
            self.network(key.clone(), now).resets += 1;
            self.dirty.insert(key);
        }
    }

    /// A silent device is there again: was it the network?
    fn returned(&mut self, device: Device, origin: &Origin, now: Time) {
        let Some(suspect) = self.suspects.get_mut(&device).filter(|suspect| !suspect.has_returned) else {
            return;
        };
        let is_late = now.since(suspect.at) > self.rules.scaled(RETURN_MAX);
        if is_late || !suspect.origin.is_same(origin) {
            self.counters.unreturned += u64::from(is_late);
            self.counters.moved += u64::from(!is_late);
            self.suspects.remove(&device);
            return;
        }
        // A client that tunes its heartbeat knows at which gap its beat got lost, and says so in a moment.
        if suspect.is_certain && suspect.origin.network.is_none() {
            let idle = suspect.idle;
            self.suspects.remove(&device);
            self.died(device, origin, idle, now);
        } else {
            suspect.has_returned = true;
        }
    }

    /// A device tells at which gap it found its connection dead. Believed where we saw that connection silent for as long.
    fn claimed(&mut self, device: Device, origin: &Origin, idle: Duration, now: Time) {
        let slack = self.rules.scaled(CLAIM_SLACK);
        let fits = |suspect: &&Suspect| {
            suspect.has_returned && suspect.origin.is_same(origin) && idle <= suspect.idle + slack
        };
        if self.suspects.get(&device).filter(fits).is_none() {
            self.counters.disbelieved += 1;
            return;
        }
        self.suspects.remove(&device);
        self.died(device, origin, idle, now);
    }

    fn died(&mut self, device: Device, origin: &Origin, idle: Duration, now: Time) {
        self.storms.add(Death { device, origin: origin.clone(), idle }, now);
    }

    fn survived(&mut self, device: Device, origin: &Origin, idle: Duration, now: Time) {
        self.counters.survived += 1;
        let gap = Gap::survived(self.rules.unscaled(idle));
        self.learn(device, origin, now, |bracket| {
            bracket.survived(gap);
        });
    }

    fn learn(&mut self, device: Device, origin: &Origin, now: Time, change: impl Fn(&mut Bracket)) {
        let address = Prefix::source(origin.address).hash();
        for key in self.rules.keys(origin) {
            let network = self.network(key.clone(), now);
            change(network.voters.bracket(device, address, now));
            network.changed_at = now;
            self.stale.insert(key.clone());
            self.dirty.insert(key);
        }
    }

    /// Time passes: once a second, or as often as one likes. Gives the networks to estimate anew, some at a time.
    pub fn tick(&mut self, now: Time) -> Vec<NetworkKey> {
        let deaths = self.storms.take_due(now, self.rules.scaled(storm::WINDOW));
        if !deaths.is_empty() {
            self.believe(deaths, now);
        }
        self.forget_suspects(now);
        if now.since(self.swept_at) >= SWEEP_INTERVAL {
            self.swept_at = now;
            self.stale.extend(self.known.keys().cloned());
        }
        self.take_stale(now)
    }

    fn forget_suspects(&mut self, now: Time) {
        let (return_max, claim_max) = (self.rules.scaled(RETURN_MAX), self.rules.scaled(CLAIM_MAX));
        let unreturned = &mut self.counters.unreturned;
        self.suspects.retain(|_, suspect| {
            let waited = now.since(suspect.at);
            *unreturned += u64::from(!suspect.has_returned && waited > return_max);
            waited <= if suspect.has_returned { claim_max } else { return_max }
        });
    }

    /// Deaths of some seconds: those of a storm say nothing about silence.
    fn believe(&mut self, deaths: Vec<Death>, now: Time) {
        let mut by_key: HashMap<NetworkKey, u64> = HashMap::new();
        let near = |rules: &NetworkRules, origin: &Origin| rules.keys(origin).into_iter().next();
        for key in deaths.iter().filter_map(|death| near(&self.rules, &death.origin)) {
            *by_key.entry(key).or_default() += 1;
        }
        let is_everywhere = storm::is_storm_of_all(deaths.len() as u64, self.connections);
        for Death { device, origin, idle } in deaths {
            let Some(key) = near(&self.rules, &origin) else { continue };
            let here = self.known.get(&key).map_or(0, |network| network.connections);
            let is_storm = storm::is_storm_of_network(by_key.get(&key).copied().unwrap_or(0), here.into());
            if is_everywhere || is_storm {
                self.counters.storms += 1;
                continue;
            }
            self.counters.deaths += 1;
            let gap = Gap::fatal(self.rules.unscaled(idle));
            self.learn(device, &origin, now, |bracket| bracket.died(gap));
            for key in self.rules.keys(&origin) {
                self.network(key, now).deaths += 1;
            }
        }
    }

    fn take_stale(&mut self, now: Time) -> Vec<NetworkKey> {
        let interval = self.rules.scaled(ESTIMATE_INTERVAL);
        let known = &self.known;
        let is_due = |key: &&NetworkKey| {
            known.get(*key).is_none_or(|network| {
                network.estimate.is_none() || now.since(network.estimated_at) >= interval
            })
        };
        let due: Vec<_> = self.stale.iter().filter(is_due).take(ESTIMATES_PER_TICK).cloned().collect();
        for key in &due {
            self.stale.remove(key);
        }
        due
    }

    /// Makes a distribution of the votes of one network, some hundred microseconds; or forgets it, when nobody has said
    /// anything about it for a month.
    pub fn estimate(&mut self, key: &NetworkKey, now: Time) {
        let parent = self.parent(key);
        let age_min = self.rules.scaled(self.rules.voter_age_min);
        let Some(network) = self.known.get_mut(key) else { return };
        network.voters.forget_old(now);
        if network.voters.as_slice().is_empty() && network.connections == 0 {
            self.known.remove(key);
            self.dirty.insert(key.clone()); // to be forgotten on disk too
            return;
        }
        let counted = network.voters.counted(age_min, now);
        let mut votes = Votes::default();
        for (bracket, weight) in &counted {
            if let Some(claim) = bracket.vote() {
                votes.add(claim, *weight);
            }
        }
        let timeouts = votes.estimate(&parent);
        let interval = interval(&timeouts, key.radio, self.rules.bounded_range());
        let quantiles = timeouts.quantiles();
        network.estimated_at = now;
        network.estimate = Some(Estimate { devices: counted.len(), timeouts, quantiles, interval });
        // Votes begin to count with time, without anything new.
        if network.voters.has_younger(age_min, now) {
            self.stale.insert(key.clone());
        }
    }

    /// What is believed where a network has no votes: the wider one's distribution, or the general one.
    fn parent(&self, key: &NetworkKey) -> Timeouts {
        let Place::Prefix(prefix) = key.place else { return Timeouts::default() };
        let wide = NetworkKey { place: Place::Prefix(prefix.widened()), radio: key.radio };
        let estimate = self.known.get(&wide).filter(|_| wide != *key).and_then(|wide| wide.estimate.as_ref());
        estimate.map_or_else(Timeouts::default, |estimate| estimate.timeouts.clone())
    }

    /// What a device on this network is told; nothing while nothing is learned.
    pub fn advice(&self, origin: &Origin) -> Option<Advice> {
        if !self.rules.is_on {
            return None;
        }
        let keys = self.rules.keys(origin);
        let fixed = self.rules.named(origin.address).and_then(|named| named.interval);
        let estimates = keys.iter().map(|key| self.known.get(key)?.estimate.as_ref());
        let near = estimates.clone().next().flatten().filter(|near| near.devices >= self.rules.devices_min);
        let found = estimates.flatten().find(|estimate| estimate.devices > 0);
        let range = self.rules.bounded_range();
        let config = Config {
            ceiling: Some(range.ceiling),
            stay: fixed.or(found.map(|found| found.interval)).map(|gap| range.clamp(gap)),
            quantiles: found.map(|found| found.quantiles).filter(|_| fixed.is_none()),
            ttl_s: ADVICE_TTL_S,
            window_s: self.window_s(),
        };
        let share =
            |near: &Estimate| Some(Gap((f64::from(near.quantiles.0.first()?.0) * KEEP_ALIVE_SHARE) as u16));
        let keep_alive = fixed.or(near.and_then(share)).map(|gap| range.clamp(gap)).or(self.rules.bound());
        Some(Advice { config, keep_alive: keep_alive.map(|gap| gap.0) })
    }

    /// Over how many seconds all devices shall come back after an outage.
    fn window_s(&self) -> u16 {
        let seconds = self.connections as f64 * WINDOW_SHARE / f64::from(self.rules.accepts_per_s.max(1));
        seconds.ceil().min(f64::from(u16::MAX)) as u16
    }

    /// Networks in a fixed order, behind `after`, at most `limit`.
    pub fn list(&self, after: Option<&NetworkKey>, limit: usize) -> Vec<NetworkView> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.known
            .range((from, Bound::Unbounded))
            .take(limit)
            .map(|(key, known)| self.view(key, known))
            .collect()
    }

    fn view(&self, key: &NetworkKey, known: &Known) -> NetworkView {
        let fixed = match &key.place {
            Place::Prefix(_) => None,
            Place::Named(name) => self.rules.named.iter().find(|named| named.name == *name),
        };
        let fixed = fixed.and_then(|named| named.interval);
        let estimate = known.estimate.as_ref();
        let general = Timeouts::default();
        NetworkView {
            key: key.clone(),
            devices: known.voters.as_slice().len(),
            counted: estimate.map_or(0, |estimate| estimate.devices),
            connections: known.connections,
            deaths: known.deaths,
            resets: known.resets,
            quantiles: estimate.map_or_else(|| general.quantiles(), |estimate| estimate.quantiles),
            interval: fixed
                .or(estimate.map(|estimate| estimate.interval))
                .unwrap_or_else(|| interval(&general, key.radio, self.rules.bounded_range())),
            is_fixed: fixed.is_some(),
            changed_at: known.changed_at,
        }
    }

    /// What was counted.
    pub fn counters(&self) -> NetworkCounters {
        NetworkCounters { networks: self.known.len() as u64, ..self.counters }
    }

    /// What has to be written by now: `None` for a network that is to be forgotten. `at_once`: whatever is not on disk.
    pub fn take_dirty(&mut self, now: Time, at_once: bool) -> Vec<(NetworkKey, Option<NetworkRecord>)> {
        if !at_once && now.since(self.written_at) < WRITE_INTERVAL {
            return Vec::new();
        }
        self.written_at = now;
        let dirty = std::mem::take(&mut self.dirty);
        dirty.into_iter().map(|key| (self.record(&key), key)).map(|(record, key)| (key, record)).collect()
    }

    fn record(&self, key: &NetworkKey) -> Option<NetworkRecord> {
        let Known { voters, deaths, resets, changed_at, .. } = self.known.get(key)?;
        let voters = voters.as_slice().to_vec();
        Some(NetworkRecord { voters, deaths: *deaths, resets: *resets, changed_at: *changed_at })
    }

    /// The store did not take these: they are tried again.
    pub fn not_written(&mut self, keys: impl IntoIterator<Item = NetworkKey>) {
        self.dirty.extend(keys);
    }
}

/// What a device begins with that knows nothing itself.
fn interval(timeouts: &Timeouts, radio: Radio, range: Range) -> Gap {
    let (unknown, lateness) = (Bracket::default(), Lateness::default());
    best_interval(timeouts, &unknown, lateness, &Costs::of(radio), range)
}

#[cfg(test)]
mod tests;
