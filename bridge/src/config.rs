//! What the operator can set, with its defaults and bounds.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use crate::inbox::{ENTRIES_MAX, KEEP_MAX_S};
use crate::rules::Rules;
use crate::vendor::Secret;

/// The bridge's configuration. An unknown key is an error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the HTTP API listens.
    pub http: SocketAddr,
    /// The certificate of HTTP over TLS, a PEM file with those between it and a root; absent: no TLS.
    pub certificate: Option<PathBuf>,
    /// Its private key, a PEM file.
    pub key: Option<PathBuf>,
    /// The broker's internal listener.
    pub mqtt: SocketAddr,
    /// The HTTP listener of a broker in another process; absent: what only the broker knows is not offered.
    pub broker_http: Option<SocketAddr>,
    /// One of the broker's admin keys, which opens it.
    pub broker_key: Secret,
    /// User name there.
    pub user: String,
    /// Password there.
    pub password: Secret,
    /// MQTT client id there; two bridges of one broker need two.
    pub client_id: String,
    /// How long an online device may take to acknowledge before its vendor is called, in milliseconds; 100 to 60,000.
    pub wait_ack_ms: u64,
    /// How long a message is worth anything unless it says so itself, in seconds; 1 to 28 days.
    pub ttl_s: u64,
    /// How long the broker may say nothing about a device before its vendor is called, in seconds; 1 to 3,600.
    pub broker_silence_s: u64,
    /// How long messages and their deliveries are kept after their end, in seconds; at most a year.
    pub retention_s: u64,
    /// How long records of the audit log are kept, in seconds; a day to ten years.
    pub audit_retention_s: u64,
    /// How long a message stays in inboxes unless it says so itself, in seconds; 60 to a year.
    pub inbox_s: u64,
    /// Entries of one user's inbox, the oldest goes then; 1 to 1,000.
    pub inbox_entries_max: usize,
    /// How long the answer to an `Idempotency-Key` is replayed, in seconds; at most 30 days.
    pub idempotency_s: u64,
    /// Attempts for one push; absent: the vendor's usual.
    pub attempts_max: Option<u32>,
    /// Calls of one app to one vendor at once; 1 to 1,000.
    pub calls_at_once: usize,
    /// Largest request body, in bytes; 1 KiB to 16 MiB.
    pub body_bytes_max: usize,
    /// How long a request may take, in seconds; 1 to 300.
    pub request_timeout_s: u64,
    /// Requests of one API key a second; at most 1,000,000, 0: any number.
    pub requests_per_second: u32,
    /// HTTP connections at once; 1 to 100,000.
    pub connections_max: usize,
    /// The key that vendors' secrets are encrypted with; absent: `bridge.key` in the data directory, made at the first
    /// start.
    pub secret_key_file: Option<PathBuf>,
    /// How long before its end a credential is told of, in seconds; at most a year.
    pub credential_warning_s: u64,
    /// How often vendors that tell of dead device tokens only when asked are asked, in seconds; 60 to a day, 0: never.
    pub invalid_feed_s: u64,
    /// Hosts that webhooks of any app may call although they are of the inner network, and over http; at most 100.
    pub webhook_hosts: Vec<String>,
    /// Whether the console is served below `/console`.
    pub console: bool,
    /// How long a login to the console lasts at most, in seconds; 60 to a week.
    pub console_session_s: u64,
}

/// A day, in seconds.
const DAY_S: u64 = 24 * 60 * 60;
/// Longest time to live, in seconds: FCM keeps no push for longer.
pub const TTL_MAX_S: u64 = 28 * DAY_S;
/// Bounds of `wait_ack_ms`.
pub const WAIT_ACK_MS: std::ops::RangeInclusive<u64> = 100..=60_000;

impl Default for Config {
    fn default() -> Self {
        Self {
            http: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            certificate: None,
            key: None,
            mqtt: SocketAddr::from((Ipv4Addr::LOCALHOST, 1884)),
            broker_http: None,
            broker_key: Secret::new(""),
            user: "bridge".to_owned(),
            password: Secret::new(""),
            client_id: "reveille-bridge".to_owned(),
            wait_ack_ms: 3_000,
            ttl_s: DAY_S,
            broker_silence_s: 30,
            retention_s: 7 * DAY_S,
            audit_retention_s: 366 * DAY_S,
            inbox_s: 30 * DAY_S,
            inbox_entries_max: 200,
            idempotency_s: DAY_S,
            attempts_max: None,
            calls_at_once: 64,
            body_bytes_max: 1024 * 1024,
            request_timeout_s: 10,
            requests_per_second: 2_000,
            connections_max: 1024,
            secret_key_file: None,
            credential_warning_s: 14 * DAY_S,
            invalid_feed_s: 3_600,
            webhook_hosts: Vec::new(),
            console: true,
            console_session_s: DAY_S / 2,
        }
    }
}

fn is_header(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

/// A value out of its bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} must be {bounds}")]
pub struct ConfigError {
    /// The key of the configuration.
    pub key: &'static str,
    /// What it may be.
    pub bounds: &'static str,
}

impl Config {
    /// Checks every bound.
    ///
    /// # Errors
    /// [`ConfigError`] names the first key that is out of its bounds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (key, is_good, bounds) in [
            ("user", !self.user.is_empty(), "a user name"),
            ("certificate", self.certificate.is_some() == self.key.is_some(), "set together with key"),
            (
                "broker_key",
                self.broker_http.is_none() || is_header(self.broker_key.reveal()),
                "an admin key of the broker, as broker_http needs one",
            ),
            ("client_id", !self.client_id.is_empty(), "a client id"),
            ("wait_ack_ms", WAIT_ACK_MS.contains(&self.wait_ack_ms), "100 to 60000"),
            ("ttl_s", (1..=TTL_MAX_S).contains(&self.ttl_s), "1 to 2419200 (28 days)"),
            ("broker_silence_s", (1..=3_600).contains(&self.broker_silence_s), "1 to 3600"),
            ("retention_s", self.retention_s <= 366 * DAY_S, "at most 31622400 (a year)"),
            (
                "audit_retention_s",
                (DAY_S..=3_660 * DAY_S).contains(&self.audit_retention_s),
                "86400 to 316224000 (a day to ten years)",
            ),
            ("inbox_s", (60..=KEEP_MAX_S).contains(&self.inbox_s), "60 to 31622400 (a year)"),
            ("inbox_entries_max", (1..=ENTRIES_MAX).contains(&self.inbox_entries_max), "1 to 1000"),
            ("idempotency_s", (1..=30 * DAY_S).contains(&self.idempotency_s), "1 to 2592000 (30 days)"),
            ("attempts_max", self.attempts_max.is_none_or(|n| (1..=100).contains(&n)), "1 to 100"),
            ("calls_at_once", (1..=1_000).contains(&self.calls_at_once), "1 to 1000"),
            ("body_bytes_max", (1024..=16 * 1024 * 1024).contains(&self.body_bytes_max), "1024 to 16777216"),
            ("request_timeout_s", (1..=300).contains(&self.request_timeout_s), "1 to 300"),
            ("requests_per_second", self.requests_per_second <= 1_000_000, "at most 1000000"),
            ("credential_warning_s", self.credential_warning_s <= 366 * DAY_S, "at most 31622400 (a year)"),
            ("invalid_feed_s", matches!(self.invalid_feed_s, 0 | 60..=DAY_S), "60 to 86400 (a day), or 0"),
            ("webhook_hosts", self.webhook_hosts.len() <= 100, "at most 100 hosts"),
            (
                "console_session_s",
                (60..=7 * DAY_S).contains(&self.console_session_s),
                "60 to 604800 (a week)",
            ),
            ("connections_max", (1..=100_000).contains(&self.connections_max), "1 to 100000"),
        ] {
            if !is_good {
                return Err(ConfigError { key, bounds });
            }
        }
        Ok(())
    }

    pub(crate) fn rules(&self) -> Rules {
        Rules {
            wait_ack_ms: self.wait_ack_ms,
            ttl_ms: self.ttl_s * 1000,
            broker_silence_ms: self.broker_silence_s * 1000,
            retention_ms: self.retention_s * 1000,
            inbox_ms: self.inbox_s * 1000,
            inbox_entries_max: self.inbox_entries_max,
            idempotency_ms: self.idempotency_s * 1000,
            credential_warning_ms: self.credential_warning_s * 1000,
            attempts_max: self.attempts_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_their_bounds_and_the_password_stays_hidden() {
        let config = Config { password: Secret::new("hush"), ..Config::default() };
        assert_eq!(config.validate(), Ok(()));
        assert!(!format!("{config:?}").contains("hush"));
    }

    #[test]
    fn a_value_out_of_bounds_or_an_unknown_key_is_named() {
        let config = Config { ttl_s: 0, ..Config::default() };
        assert_eq!(config.validate().unwrap_err().to_string(), "ttl_s must be 1 to 2419200 (28 days)");
        let error = serde_json::from_str::<Config>(r#"{"htpp": "127.0.0.1:1"}"#).unwrap_err();
        assert!(error.to_string().contains("htpp"), "{error}");
    }
}
