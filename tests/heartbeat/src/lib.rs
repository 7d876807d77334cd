//! Weeks of phones behind networks that forget silent connections: which rule for the heartbeat costs what.
//!
//! Everything follows from one seed. Ours is the code of the client library and of the broker's estimate, not a model
//! of them. A crate of its own because it needs nothing but those two, so that it can be built with optimisation by itself.

mod dice;
mod figures;
mod fleet;
mod phone;
mod places;
mod plot;
mod report;
mod rules;

pub use figures::{Day, Summary};
pub use places::{SHIFT_DAY, Scenario};
pub use report::{Plots, report};
pub use rules::RuleName;

use fleet::Fleet;
pub use phone::Step;

use phone::Phone;
use places::Places;

/// On this day a third of the phones is replaced, with nothing learned.
pub const REPLACEMENT_DAY: usize = 10;
const HOUR_S: f64 = 3_600.0;

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct World {
    /// Which carriers.
    pub scenario: Scenario,
    /// How many phones.
    pub phones: usize,
    /// How many days.
    pub days: usize,
    /// One seed, one run.
    pub seed: u64,
    /// A fifth of the phones tells the fleet that every timeout is endless.
    pub liars: bool,
    /// Alarms ring on time to the second.
    pub punctual: bool,
}

/// What became of the phones under one rule.
#[derive(Debug)]
pub struct Outcome {
    /// By phone and day.
    days: Vec<Vec<Day>>,
    /// Each beat over a cellular network, by phone.
    pub trails: Vec<Vec<Step>>,
}

impl World {
    /// Runs all days.
    pub fn run(&self, rule: RuleName) -> Outcome {
        let mut fleet = Fleet::default();
        let mut phones: Vec<Phone> = (0..self.phones)
            .map(|number| {
                let places = Places::of(self.scenario, number, self.seed);
                let is_liar = self.liars && number % 5 == 4;
                Phone::new(number, places, rule.fresh(), is_liar, self)
            })
            .collect();
        for hour in 0..self.days * 24 {
            fleet.settle();
            for phone in &mut phones {
                if hour == REPLACEMENT_DAY * 24 && is_replaced(phone.number) {
                    phone.replace(rule, &fleet);
                }
                phone.live((hour + 1) as f64 * HOUR_S, &mut fleet);
            }
        }
        // What ends after the last midnight belongs to a day that nobody looks at.
        let lived = |mut phone: Phone| {
            let days = (0..self.days).map(|day| phone.days.remove(&day).unwrap_or_default()).collect();
            (days, phone.trail)
        };
        let (days, trails) = phones.into_iter().map(lived).unzip();
        Outcome { days, trails }
    }
}

/// Whether this phone is replaced on [`REPLACEMENT_DAY`].
pub fn is_replaced(number: usize) -> bool {
    (number / 12 + number % 12).is_multiple_of(3)
}

impl Outcome {
    /// All phones, all days.
    pub fn summary(&self) -> Summary {
        Summary::of(self.days.iter().flatten())
    }

    /// The replaced phones only, on these days.
    pub fn of_replaced(&self, days: std::ops::Range<usize>) -> Summary {
        let replaced = self.days.iter().enumerate().filter(|(number, _)| is_replaced(*number));
        Summary::of(replaced.flat_map(move |(_, all)| all.get(days.clone()).unwrap_or_default()))
    }

    /// All phones on one day.
    pub fn of_day(&self, day: usize) -> Summary {
        Summary::of(self.days.iter().filter_map(move |all| all.get(day)))
    }
}
