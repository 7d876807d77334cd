//! The table `[broker.heartbeat]`: what is learned about networks, and what devices are told.

use super::ConfigError;
use bytestring::ByteString;
use reveille_broker_core::control;
use reveille_broker_core::networks::{NamedNetwork, NetworkRules, Prefix};
use reveille_proto::heartbeat::{Gap, Range};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// See the module.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeartbeatConfig {
    /// Whether anything is learned and told. Clients that announce their next beat are held to it all the same.
    pub enabled: bool,
    /// Nobody is told a shorter interval, and shorter silences are not looked at. 60.
    pub floor_s: u16,
    /// Nobody is told a longer interval. 1,680.
    pub ceiling_s: u16,
    /// What stands before the broker (a load balancer) forgets connections that are silent for so long.
    pub lb_idle_timeout_s: Option<u16>,
    /// Devices of a network that must have voted before plain clients of 5.0 get a shorter keep alive. 8.
    pub devices_min: usize,
    /// How long ago a device was first seen on a network before it votes there. 3,600.
    pub voter_age_s: u64,
    /// Whether clients without a credential vote.
    pub trust_anonymous: bool,
    /// Connections that the broker takes in a second: from that follows over which time devices come back. 1,000.
    pub accepts_per_s: u32,
    /// Networks with names, and intervals of their own.
    pub networks: Vec<NetworkConfig>,
    /// How many times faster than real all these times pass. For tests, which cannot wait for a NAT of half an hour.
    pub speed: u32,
}

/// A network with a name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// What it is called.
    pub name: String,
    /// Where it is, as `10.0.0.0/8`.
    pub prefixes: Vec<String>,
    /// Its devices get this interval, whatever was learned.
    #[serde(default)]
    pub interval_s: Option<u16>,
}

impl Default for HeartbeatConfig {
    fn default() -> Self {
        let rules = NetworkRules::default();
        Self {
            enabled: rules.is_on,
            floor_s: rules.range.floor.0,
            ceiling_s: rules.range.ceiling.0,
            lb_idle_timeout_s: None,
            devices_min: rules.devices_min,
            voter_age_s: rules.voter_age_min.as_secs(),
            trust_anonymous: rules.trusts_unknown,
            accepts_per_s: rules.accepts_per_s,
            networks: Vec::new(),
            speed: rules.speed,
        }
    }
}

impl HeartbeatConfig {
    /// As the core wants it; networks that do not parse were refused by [`Self::check`].
    pub(crate) fn rules(&self) -> NetworkRules {
        NetworkRules {
            is_on: self.enabled,
            range: Range { floor: Gap(self.floor_s), ceiling: Gap(self.ceiling_s) },
            idle_timeout: self.lb_idle_timeout_s.map(Gap),
            devices_min: self.devices_min,
            voter_age_min: Duration::from_secs(self.voter_age_s),
            trusts_unknown: self.trust_anonymous,
            accepts_per_s: self.accepts_per_s,
            named: self.networks.iter().filter_map(|network| network.parse().ok()).collect(),
            speed: self.speed,
        }
    }

    /// What shards have to know of it.
    pub(crate) fn watching(&self) -> control::Heartbeats {
        control::Heartbeats { silence_min: self.rules().silence_min(), speed: self.speed }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key, range| Err(ConfigError::Heartbeat { key, range });
        if self.floor_s == 0 {
            return wrong("floor_s", "at least 1");
        }
        if self.ceiling_s < self.floor_s || self.ceiling_s > 43_690 {
            return wrong("ceiling_s", "floor_s to 43690"); // one and a half of it is the longest keep alive
        }
        if self.lb_idle_timeout_s.is_some_and(|timeout| timeout < 60) {
            return wrong("lb_idle_timeout_s", "at least 60");
        }
        if self.devices_min == 0 {
            return wrong("devices_min", "at least 1");
        }
        if self.accepts_per_s == 0 {
            return wrong("accepts_per_s", "at least 1");
        }
        if !(1..=1_000).contains(&self.speed) {
            return wrong("speed", "1 to 1000");
        }
        let names: std::collections::HashSet<_> = self.networks.iter().map(|network| &network.name).collect();
        if names.len() < self.networks.len() || names.iter().any(|name| name.is_empty()) {
            return wrong("networks.name", "a name that no other network has");
        }
        self.networks.iter().try_for_each(|network| network.parse().map(drop))
    }
}

impl NetworkConfig {
    fn parse(&self) -> Result<NamedNetwork, ConfigError> {
        let prefixes: Result<Vec<Prefix>, _> = self.prefixes.iter().map(|prefix| prefix.parse()).collect();
        let prefixes = prefixes.ok().filter(|prefixes| !prefixes.is_empty());
        let wrong =
            ConfigError::Heartbeat { key: "networks.prefixes", range: "prefixes as 10.0.0.0/8 or fd00::/8" };
        let interval = self.interval_s.map(Gap);
        Ok(NamedNetwork {
            name: ByteString::from(self.name.as_str()),
            prefixes: prefixes.ok_or(wrong)?,
            interval,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_named() {
        let network = |name: &str, prefix: &str| NetworkConfig {
            name: name.to_owned(),
            prefixes: vec![prefix.to_owned()],
            interval_s: None,
        };
        type Change = Box<dyn Fn(&mut HeartbeatConfig)>;
        let rows: [(&str, Change); 9] = [
            ("floor_s", Box::new(|config| config.floor_s = 0)),
            ("ceiling_s", Box::new(|config| config.ceiling_s = 59)),
            ("lb_idle_timeout_s", Box::new(|config| config.lb_idle_timeout_s = Some(59))),
            ("devices_min", Box::new(|config| config.devices_min = 0)),
            ("accepts_per_s", Box::new(|config| config.accepts_per_s = 0)),
            ("speed", Box::new(|config| config.speed = 0)),
            ("networks.name", Box::new(move |config| config.networks = vec![network("", "10.0.0.0/8")])),
            ("networks.name", Box::new(move |config| config.networks = vec![network("a", "10.0.0.0/8"); 2])),
            ("networks.prefixes", Box::new(move |config| config.networks = vec![network("a", "10.0.0.0")])),
        ];
        assert_eq!(HeartbeatConfig::default().check(), Ok(()));
        for (wanted, change) in rows {
            let mut config = HeartbeatConfig::default();
            change(&mut config);
            match config.check() {
                Err(ConfigError::Heartbeat { key, .. }) => assert_eq!(key, wanted),
                other => panic!("{wanted}: {other:?}"),
            }
        }
    }
}
