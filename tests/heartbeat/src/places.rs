//! Where phones are: carriers, homes and offices, each with the idle timeout that the rules have to find.

use crate::dice::Dice;
use reveille_proto::heartbeat::{Label, Network, Radio};

/// A day in seconds.
pub const DAY_S: f64 = 86_400.0;
/// On this day two carriers change their timeouts.
pub const SHIFT_DAY: f64 = 14.0;

/// Which carriers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// A twentieth at most five minutes, some beyond an hour: the shape that NetPiculet found among 73 carriers.
    Global,
    /// Half of the carriers at five minutes.
    China,
}

impl Scenario {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Global, Self::China];

    /// The word in tables and file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::China => "china",
        }
    }

    /// Radio, idle timeout in seconds, and the timeout after the shift.
    fn carriers(self) -> [(Radio, f64, f64); 12] {
        use Radio::{G2, G3, G4, G5};
        match self {
            Self::Global => [
                (G4, 255.0, 255.0),
                (G4, 480.0, 1_800.0),
                (G4, 660.0, 660.0),
                (G4, 1_200.0, 1_200.0),
                (G4, 1_800.0, 1_800.0),
                (G4, 3_600.0, 3_600.0),
                (G5, 900.0, 900.0),
                (G5, 1_800.0, 300.0),
                (G5, 7_200.0, 7_200.0),
                (G3, 1_500.0, 1_500.0),
                (G3, 3_600.0, 3_600.0),
                (G2, 7_200.0, 7_200.0),
            ],
            Self::China => [
                (G4, 300.0, 300.0),
                (G4, 300.0, 300.0),
                (G4, 300.0, 300.0),
                (G4, 310.0, 310.0),
                (G4, 600.0, 1_800.0),
                (G4, 1_800.0, 1_800.0),
                (G5, 300.0, 300.0),
                (G5, 900.0, 900.0),
                (G5, 1_800.0, 300.0),
                (G3, 300.0, 300.0),
                (G3, 1_750.0, 1_750.0),
                (G2, 7_200.0, 7_200.0),
            ],
        }
    }
}

/// One network as a phone meets it.
#[derive(Clone, Debug)]
pub struct Place {
    /// What the phone knows of it.
    pub network: Network,
    /// What the broker tells apart: the carrier, the home's provider, the office.
    pub key: usize,
    timeout_s: f64,
    later_s: f64,
}

impl Place {
    /// After how long a silence the path is forgotten.
    pub fn timeout_s(&self, now: f64) -> f64 {
        if now < SHIFT_DAY * DAY_S { self.timeout_s } else { self.later_s }
    }

    /// A beat gets lost although the path lives.
    pub fn noise(&self) -> f64 {
        match self.network.radio {
            Radio::Wifi | Radio::Ethernet => 0.003,
            Radio::G5 => 0.005,
            Radio::G4 | Radio::Unknown => 0.007,
            Radio::G3 => 0.015,
            Radio::G2 => 0.04,
        }
    }

    /// Connections that die of something else, a day.
    pub fn deaths_per_day(&self) -> f64 {
        match self.network.radio {
            Radio::Wifi | Radio::Ethernet => 0.1,
            Radio::G5 => 0.4,
            Radio::G4 | Radio::Unknown => 0.5,
            Radio::G3 => 0.8,
            Radio::G2 => 1.5,
        }
    }

    /// What waking the radio once costs, in joules.
    pub fn beat_j(&self) -> f64 {
        match self.network.radio {
            Radio::Wifi | Radio::Ethernet => 0.04,
            Radio::G4 | Radio::G5 | Radio::Unknown => 12.76,
            Radio::G3 | Radio::G2 => 7.38,
        }
    }

    /// Whether beats here are the dear ones.
    pub fn is_cellular(&self) -> bool {
        self.network.radio != Radio::Wifi
    }
}

const PROVIDERS: usize = 6;
const OFFICES: usize = 20;
const CARRIERS: usize = 12;
/// How many networks the broker tells apart.
pub const KEYS: usize = CARRIERS + PROVIDERS + OFFICES;

/// The three places of one phone's day.
#[derive(Clone, Debug)]
pub struct Places {
    /// At night.
    pub home: Place,
    /// On the way, and by day for those without an office.
    pub carrier: Place,
    /// By day, for one half.
    pub office: Option<Place>,
}

impl Places {
    /// The places of phone number `phone`, which uses the carriers in turn.
    pub fn of(scenario: Scenario, phone: usize, seed: u64) -> Self {
        let mut dice = Dice::new(seed, phone as u64 ^ 0x9_1ace);
        let carrier = phone % CARRIERS;
        let (radio, timeout_s, later_s) =
            scenario.carriers().get(carrier).copied().unwrap_or((Radio::G4, 1e9, 1e9));
        let provider = dice.below(PROVIDERS);
        let office = dice.below(OFFICES);
        Self {
            home: wifi(format!("home-{phone}"), CARRIERS + provider, router_s(&mut dice)),
            carrier: Place {
                network: network(radio, format!("carrier-{carrier}")),
                key: carrier,
                timeout_s,
                later_s,
            },
            office: (phone / CARRIERS).is_multiple_of(2).then(|| {
                let timeout_s = router_s(&mut Dice::new(seed, office as u64 ^ 0x0f_f1ce));
                wifi(format!("office-{office}"), CARRIERS + PROVIDERS + office, timeout_s)
            }),
        }
    }

    /// Where the phone is at this hour of the day.
    pub fn at(&self, hour: f64) -> &Place {
        match hour {
            hour if !(8.0..19.0).contains(&hour) => &self.home,
            hour if (9.0..18.0).contains(&hour) => self.office.as_ref().unwrap_or(&self.carrier),
            _ => &self.carrier,
        }
    }
}

fn wifi(label: String, key: usize, timeout_s: f64) -> Place {
    Place { network: network(Radio::Wifi, label), key, timeout_s, later_s: timeout_s }
}

fn network(radio: Radio, label: String) -> Network {
    Network { radio, label: Label::parse(&label).unwrap_or_default() }
}

/// Routers in homes and offices: more than half of them keep to the two hours of RFC 5382.
fn router_s(dice: &mut Dice) -> f64 {
    match dice.unit() {
        share if share < 0.05 => dice.between(200.0, 300.0),
        share if share < 0.17 => dice.between(300.0, 900.0),
        share if share < 0.45 => dice.between(900.0, 3_600.0),
        _ => dice.between(7_200.0, 20_000.0),
    }
}
