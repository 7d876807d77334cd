//! Deaths wait some seconds before they are believed: when many come at once, something else killed the connections.

use super::{Device, Origin};
use crate::message::Time;
use std::time::Duration;

/// Deaths that came within so long of each other are looked at together.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// So few at once are never a storm.
const FEW: u64 = 3;

/// A storm on one network: more than one of so many of its connections. 2 %.
const OF_NETWORK: u64 = 50;

/// A storm of the whole broker: 0.5 %.
const OF_ALL: u64 = 200;

/// Deaths that wait. One more is a storm, whatever the number of connections.
const DEATHS_MAX: usize = 16_384;

/// A connection that was silent, and whose device came back.
#[derive(Clone, Debug)]
pub(super) struct Death {
    pub device: Device,
    pub origin: Origin,
    /// The path was never idle for longer.
    pub idle: Duration,
}

/// Deaths that wait until their window is over.
#[derive(Debug, Default)]
pub(super) struct Storms {
    waiting: Vec<Death>,
    since: Time,
}

impl Storms {
    pub fn add(&mut self, death: Death, now: Time) {
        if self.waiting.is_empty() {
            self.since = now;
        }
        if self.waiting.len() < DEATHS_MAX {
            self.waiting.push(death);
        }
    }

    /// Those of a window that is over.
    pub fn take_due(&mut self, now: Time, window: Duration) -> Vec<Death> {
        match now.since(self.since) >= window {
            true => std::mem::take(&mut self.waiting),
            false => Vec::new(),
        }
    }
}

pub(super) fn is_storm_of_all(deaths: u64, connections: u64) -> bool {
    deaths as usize >= DEATHS_MAX || deaths > FEW.max(connections / OF_ALL)
}

pub(super) fn is_storm_of_network(deaths: u64, connections: u64) -> bool {
    deaths > FEW.max(connections / OF_NETWORK)
}
