//! How long a path may stay silent: the rules that broker and client library share. Pure.
//!
//! The unknown is the idle timeout T of a path: the middlebox that forgets a connection after T seconds of silence. Each
//! silence looks at T from one side only: alive after a gap g says T > g, dead says T <= g, unless it died of something
//! else. `docs/heartbeat.md` tells the whole story, with the simulation behind the constants.
//!
//! | file | what |
//! |---|---|
//! | `bracket` | what one device knows of one network |
//! | `votes` | brackets of many devices, pooled into a distribution of T: what the broker keeps |
//! | `timeouts` | a distribution of T; prior, posterior, quantiles |
//! | `risk` | how probably a silence is fatal, and how long nobody would notice |
//! | `choice` | the interval that costs least |
//! | `lateness` | how late a phone's alarms ring |
//! | `wire` | user properties and payloads |

mod bins;
mod bracket;
mod choice;
mod lateness;
mod risk;
mod timeouts;
mod votes;
mod wire;

pub use bins::{BINS, Bin};
pub use bracket::Bracket;
pub use choice::{Costs, Range, best_interval};
pub use lateness::Lateness;
pub use risk::Risk;
pub use timeouts::{Quantiles, Timeouts};
pub use votes::Votes;
pub use wire::{
    CONFIG_PROPERTY, CONFIG_TOPIC, Config, Hello, Label, Network, Observation, REPORT_TOPIC, Radio, Report,
};

use std::time::Duration;

/// A silence on a connection, in whole seconds. What is longer than 18 hours counts as 18 hours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gap(pub u16);

impl Gap {
    /// No interval is shorter: below one minute a phone spends more on beats than on anything else.
    pub const FLOOR: Self = Self(60);
    /// No interval is longer (28 minutes): further on there is little left to save and much to lose.
    pub const CEILING: Self = Self(1_680);

    /// Whole seconds, rounded down: right for what a connection survived.
    pub fn survived(duration: Duration) -> Self {
        Self(u16::try_from(duration.as_secs()).unwrap_or(u16::MAX))
    }

    /// Whole seconds, rounded up: right for what a connection died of.
    pub fn fatal(duration: Duration) -> Self {
        Self::survived(duration.saturating_add(Duration::from_nanos(999_999_999)))
    }

    /// The gap as a time.
    pub fn duration(self) -> Duration {
        Duration::from_secs(u64::from(self.0))
    }

    fn seconds(self) -> f64 {
        f64::from(self.0)
    }
}
