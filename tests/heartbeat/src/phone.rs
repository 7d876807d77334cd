//! One phone: moves, gets messages, sends beats, and finds out late that its connection has died.

use crate::World;
use crate::dice::Dice;
use crate::figures::Day;
use crate::fleet::Fleet;
use crate::places::{DAY_S, Place, Places};
use crate::rules::{Arrival, Rule, RuleName};
use reveille_proto::heartbeat::Bin;
use std::collections::BTreeMap;

/// How long a beat may stay unanswered.
const ANSWER_S: f64 = 10.0;
const RECONNECT_S: f64 = 2.0;
/// A reconnect against a beat: some packets more in the same wake.
const RECONNECT_BEATS: f64 = 1.3;
/// Opening a second connection while the radio is awake anyway.
const SHADOW_BEATS: f64 = 0.6;
/// The broker hands a message to the bridge when it is not acknowledged after this, and the vendor needs a moment.
const BRIDGE_S: f64 = 20.0 + 3.0;
/// What a message takes over a living connection.
const PROMPT_S: f64 = 0.1;

pub struct Phone {
    pub number: usize,
    dice: Dice,
    places: Places,
    rule: Box<dyn Rule>,
    is_liar: bool,
    is_punctual: bool,
    now: f64,
    /// Where the connection was made.
    place: Place,
    /// The last packet in either direction.
    active: f64,
    /// When the connection died, if it has and nobody knows.
    dead_since: Option<f64>,
    message_at: f64,
    death_at: f64,
    shadow: Option<Shadow>,
    /// Messages that met a dead connection.
    waiting: Vec<f64>,
    pub days: BTreeMap<usize, Day>,
    /// The interval over time, on the carrier's network.
    pub trail: Vec<Step>,
}

/// A beat over a cellular network.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// When, in seconds since the start.
    pub at_s: f64,
    /// The interval that follows.
    pub interval_s: f32,
    /// The one that an oracle would choose.
    pub oracle_s: f32,
}

#[derive(Clone, Copy)]
struct Shadow {
    opened: f64,
    gap_s: f64,
}

impl Phone {
    pub fn new(number: usize, places: Places, rule: Box<dyn Rule>, is_liar: bool, world: &World) -> Self {
        let mut phone = Self {
            number,
            dice: Dice::new(world.seed, number as u64),
            place: places.at(0.0).clone(),
            places,
            rule,
            is_liar,
            is_punctual: world.punctual,
            now: 0.0,
            active: 0.0,
            dead_since: None,
            message_at: 0.0,
            death_at: 0.0,
            shadow: None,
            waiting: Vec::new(),
            days: BTreeMap::new(),
            trail: Vec::new(),
        };
        phone.message_at = phone.next_message();
        phone
    }

    /// A new phone in the same hands: all that was learned is gone.
    pub fn replace(&mut self, rule: RuleName, fleet: &Fleet) {
        self.rule = rule.fresh();
        self.connect(fleet);
    }

    /// Lives until then, and tells the fleet what it knows.
    pub fn live(&mut self, until: f64, fleet: &mut Fleet) {
        let hour = (self.now % DAY_S) / 3_600.0;
        if self.now == 0.0 || self.places.at(hour).network != self.place.network {
            self.settle_dead(); // the operating system tells of the move, so the old connection is given up at once
            self.connect(fleet);
        }
        while self.now < until {
            self.step(until, fleet);
        }
        self.now = self.now.max(until);
        self.vote(fleet);
    }

    fn step(&mut self, until: f64, fleet: &mut Fleet) {
        let planned = self.interval();
        let late_s = self.late_s();
        let beat_at = self.active + planned + late_s;
        let next = beat_at.min(self.message_at).min(self.death_at).min(until);
        self.now = next.max(self.now);
        if next >= until {
            // The alarm that was drawn here is drawn anew in the next slice, which changes nothing but the numbers.
            return;
        }
        if self.message_at <= next {
            self.message();
        } else if self.death_at <= next {
            self.random_death(fleet);
        } else {
            self.beat(late_s, fleet);
        }
    }

    fn interval(&mut self) -> f64 {
        let stay = self.rule.interval();
        match self.shadow {
            // The shadow's beat falls on one of ours.
            Some(Shadow { gap_s, .. }) => gap_s / (gap_s / stay).ceil(),
            None => stay,
        }
    }

    fn message(&mut self) {
        self.note_timeout();
        let at = self.now;
        self.message_at = self.next_message();
        self.today().messages += 1;
        if self.dead_since.is_some() {
            self.waiting.push(at);
            self.today().late_messages += 1;
        } else {
            self.active = at;
            self.today().delivered(PROMPT_S, PROMPT_S);
        }
    }

    fn random_death(&mut self, fleet: &mut Fleet) {
        self.note_timeout();
        self.draw_death();
        if self.dead_since.is_some() {
            return;
        }
        self.dead_since = Some(self.now);
        // Half of them die without a word; an RST is known at once, and no evidence.
        if self.dice.happens(0.5) {
            self.recover(self.now + RECONNECT_S, fleet);
        }
    }

    fn beat(&mut self, late_s: f64, fleet: &mut Fleet) {
        self.note_timeout();
        self.rule.late(late_s);
        let gap_s = self.now - self.active;
        let (beat_j, is_cellular, noise) = {
            let place = &self.place;
            (place.beat_j(), place.is_cellular(), place.noise())
        };
        let today = self.today();
        today.beats += 1;
        today.cellular_beats += u32::from(is_cellular);
        today.joules += beat_j;
        let is_lost = self.dice.happens(noise);
        if self.dead_since.is_none() && !is_lost {
            self.active = self.now;
            self.rule.survived(gap_s);
            self.run_shadow(beat_j, noise);
            self.note_trail();
            return;
        }
        self.dead_since.get_or_insert(self.now);
        self.rule.died(gap_s);
        self.shadow = None;
        self.recover(self.now + ANSWER_S + RECONNECT_S, fleet);
        self.note_trail();
    }

    /// The second connection: opened on a wake, looked at on a wake.
    fn run_shadow(&mut self, beat_j: f64, noise: f64) {
        match self.shadow {
            Some(Shadow { opened, gap_s }) => {
                let gap = self.now - opened;
                if gap < 0.98 * gap_s {
                    return;
                }
                self.shadow = None;
                let timeout_s = self.place.timeout_s(self.now);
                if gap > timeout_s || self.dice.happens(noise) {
                    self.rule.died(gap);
                } else {
                    self.rule.survived(gap);
                }
            }
            None => {
                if let Some(gap_s) = self.rule.shadow() {
                    self.shadow = Some(Shadow { opened: self.now, gap_s });
                    self.today().joules += SHADOW_BEATS * beat_j;
                }
            }
        }
    }

    /// Whether the path has been forgotten since the last packet.
    fn note_timeout(&mut self) {
        let forgotten = self.active + self.place.timeout_s(self.now);
        if self.dead_since.is_none() && self.now > forgotten {
            self.dead_since = Some(forgotten);
        }
    }

    /// The phone knows that its connection is dead and has the next one at `at`.
    fn recover(&mut self, at: f64, fleet: &mut Fleet) {
        let joules = RECONNECT_BEATS * self.place.beat_j();
        let today = self.today();
        today.joules += joules;
        today.reconnects += 1;
        // Messages that come meanwhile are late, too.
        while self.message_at < at {
            self.waiting.push(self.message_at);
            self.today().messages += 1;
            self.today().late_messages += 1;
            self.now = self.message_at;
            self.message_at = self.next_message();
        }
        self.now = at;
        self.settle_dead();
        self.vote(fleet);
        self.connect(fleet);
    }

    /// The dead time ends now, and what waited is delivered.
    fn settle_dead(&mut self) {
        self.note_timeout();
        let now = self.now;
        if let Some(since) = self.dead_since.take() {
            self.today().dead_s += now - since;
        }
        for at in std::mem::take(&mut self.waiting) {
            let waited = now - at;
            self.today().delivered(waited, waited.min(BRIDGE_S));
        }
    }

    fn connect(&mut self, fleet: &Fleet) {
        let hour = (self.now % DAY_S) / 3_600.0;
        let place = self.places.at(hour).clone();
        self.rule.arrive(&Arrival { place: &place, now: self.now, told: fleet.estimate(place.key) });
        self.place = place;
        self.active = self.now;
        self.dead_since = None;
        self.shadow = None;
        self.draw_death();
    }

    fn vote(&mut self, fleet: &mut Fleet) {
        let claim = if self.is_liar { Some((Bin::OPEN, Bin::OPEN)) } else { self.rule.claim() };
        fleet.vote(self.place.key, self.number, claim);
    }

    fn note_trail(&mut self) {
        if self.place.is_cellular() {
            let interval_s = self.rule.interval();
            let oracle_s = (0.95 * self.place.timeout_s(self.now)).min(1_680.0);
            self.trail.push(Step {
                at_s: self.now,
                interval_s: interval_s as f32,
                oracle_s: oracle_s as f32,
            });
        }
    }

    fn today(&mut self) -> &mut Day {
        self.days.entry((self.now / DAY_S) as usize).or_default()
    }

    fn late_s(&mut self) -> f64 {
        if self.is_punctual {
            return 0.0;
        }
        if self.dice.happens(0.9) { self.dice.between(0.0, 2.0) } else { self.dice.exponential(30.0) }
    }

    fn next_message(&mut self) -> f64 {
        let hour = (self.now % DAY_S) / 3_600.0;
        let mean = if (7.0..23.0).contains(&hour) { 3_600.0 } else { 36_000.0 };
        self.now + self.dice.exponential(mean)
    }

    fn draw_death(&mut self) {
        let per_day = self.place.deaths_per_day();
        self.death_at = self.now + self.dice.exponential(DAY_S / per_day);
    }
}
