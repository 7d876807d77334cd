//! What an operator decides about networks.

use super::key::{NetworkKey, Place, Prefix};
use super::sighting::Origin;
use bytestring::ByteString;
use reveille_proto::heartbeat::{Gap, Range};
use std::net::IpAddr;
use std::time::Duration;

/// How much earlier than the load balancer's timeout a packet shall come.
const IDLE_MARGIN_S: u16 = 30;

/// What an operator decides.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkRules {
    /// Whether anything is learned and told.
    pub is_on: bool,
    /// The shortest and the longest interval that anybody is told.
    pub range: Range,
    /// What stands before the broker forgets connections that are silent for so long.
    pub idle_timeout: Option<Gap>,
    /// Devices that must have voted before a plain client's keep alive is shortened.
    pub devices_min: usize,
    /// How long ago a device was first seen on a network before it votes there.
    pub voter_age_min: Duration,
    /// Whether devices without a credential vote.
    pub trusts_unknown: bool,
    /// Connections that the broker takes in a second, for the time over which devices shall come back.
    pub accepts_per_s: u32,
    /// Networks with names, and intervals of their own.
    pub named: Vec<NamedNetwork>,
    /// How many times faster than real all times are; 1 but in tests.
    pub speed: u32,
}

/// Prefixes to which an operator gave one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedNetwork {
    /// What it is called.
    pub name: ByteString,
    /// Where it is.
    pub prefixes: Vec<Prefix>,
    /// Its devices get this interval, whatever was learned.
    pub interval: Option<Gap>,
}

impl Default for NetworkRules {
    fn default() -> Self {
        Self {
            is_on: true,
            range: Range::default(),
            idle_timeout: None,
            devices_min: 8,
            voter_age_min: Duration::from_secs(60 * 60),
            trusts_unknown: false,
            accepts_per_s: 1_000,
            named: Vec::new(),
            speed: 1,
        }
    }
}

impl NetworkRules {
    /// A time of the rules, as long as it lasts here.
    pub fn scaled(&self, length: Duration) -> Duration {
        length / self.speed.max(1)
    }

    /// A time that was measured here, in the rules' time.
    pub(super) fn unscaled(&self, length: Duration) -> Duration {
        length.saturating_mul(self.speed.max(1))
    }

    /// Silences that may be news: shorter ones say nothing that anybody could use.
    pub fn silence_min(&self) -> Option<Duration> {
        self.is_on.then(|| self.scaled(self.range.floor.duration()))
    }

    /// What nobody may be told to exceed: the load balancer forgets connections that are silent for longer.
    pub(super) fn bound(&self) -> Option<Gap> {
        self.idle_timeout.map(|timeout| Gap(timeout.0.saturating_sub(IDLE_MARGIN_S).max(1)))
    }

    /// The range with that in mind.
    pub(super) fn bounded_range(&self) -> Range {
        let ceiling = self.bound().map_or(self.range.ceiling, |bound| bound.min(self.range.ceiling));
        Range { ceiling, floor: self.range.floor.min(ceiling) }
    }

    pub(super) fn named(&self, address: IpAddr) -> Option<&NamedNetwork> {
        self.named.iter().find(|named| named.prefixes.iter().any(|prefix| prefix.contains(address)))
    }

    /// The networks that a device is on, the nearest first.
    pub(super) fn keys(&self, origin: &Origin) -> Vec<NetworkKey> {
        let radio = origin.radio();
        let key = |place| NetworkKey { place, radio };
        match self.named(origin.address) {
            Some(named) => vec![key(Place::Named(named.name.clone()))],
            None => [Prefix::near(origin.address), Prefix::wide(origin.address)]
                .map(Place::Prefix)
                .map(key)
                .into(),
        }
    }
}
