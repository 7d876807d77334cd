//! `[broker.admin]`: who may use the operations API.

use super::ConfigError;
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// The table `[broker.admin]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Who may ask. Without keys the API is off, and only health and metrics answer.
    pub keys: Vec<AdminKey>,
    /// Whether the operations listener may be on an address that other machines reach while there are no keys: health
    /// and metrics are then everyone's.
    pub public: bool,
}

/// A key of the operations API. Only its hash is kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AdminKey {
    /// Whose it is, for people.
    pub name: String,
    /// What it opens.
    #[serde(default)]
    pub role: AdminRole,
    /// SHA-256 of the key, in hexadecimal. The key has 256 random bits, so that no slow hash is needed.
    #[serde(skip_serializing)]
    pub sha256: Sha256Hex,
}

/// What a key opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminRole {
    /// Seeing.
    #[default]
    Read,
    /// Seeing and doing.
    Admin,
}

/// 32 bytes, as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sha256Hex(pub [u8; 32]);

/// What the configuration keeps of a key.
pub fn admin_key_hash(key: &str) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl<'de> Deserialize<'de> for Sha256Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        read_hex(&text).map(Self).ok_or_else(|| D::Error::custom("sha256 has 64 hexadecimal digits"))
    }
}

fn read_hex(text: &str) -> Option<[u8; 32]> {
    let digits: Option<Vec<u8>> = text.chars().map(|digit| u8::try_from(digit.to_digit(16)?).ok()).collect();
    let pairs = digits?;
    let bytes: Vec<u8> =
        pairs.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    bytes.try_into().ok().filter(|_| pairs.len() == 64)
}

impl AdminConfig {
    /// Checks what types cannot say.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let mut names = HashSet::new();
        match self.keys.iter().find(|key| key.name.is_empty() || !names.insert(&key.name)) {
            Some(key) => Err(ConfigError::AdminKeyName { name: key.name.clone() }),
            None => Ok(()),
        }
    }
}
