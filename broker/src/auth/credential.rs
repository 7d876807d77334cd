//! How a password is kept: argon2id, the salted keys of SCRAM-SHA-256, or as it is.

use crate::auth::scram::{self, ScramKeys};
use crate::config::Secret;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use subtle::ConstantTimeEq;

/// Memory that one look at a password may take, in KiB: a file that asks for more is a mistake.
const MEMORY_MAX_KIB: u32 = 1 << 20;

/// How a hash of SCRAM begins.
const SCRAM_PREFIX: &str = "$scram-sha-256$";

/// A password as it is kept. Never printed.
#[derive(Clone)]
pub enum Credential {
    /// As it is, in the configuration file only.
    Plain(Secret),
    /// A PHC string of argon2id.
    Argon2(Box<str>),
    /// What a server of SCRAM needs, and what a plain password is checked against too.
    Scram(ScramKeys),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a text is no hash of a password, or none can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// Another form.
    #[error("a hash begins with $argon2id$ or $scram-sha-256$")]
    Form,
    /// Cannot be read, or asks for too much.
    #[error("the hash cannot be used: it is damaged, or asks for more than 1 GiB")]
    Damaged,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    NoRandom,
    /// RFC 4013 forbids it.
    #[error("the password has characters that SCRAM does not allow (RFC 4013)")]
    Characters,
}

impl Credential {
    /// What a configuration file says: a hash, or anything else as it is.
    ///
    /// # Errors
    /// [`CredentialError`] for a text that begins as a hash and is none.
    pub fn of_config(text: &Secret) -> Result<Self, CredentialError> {
        match Self::parse(text.reveal()) {
            Err(CredentialError::Form) => Ok(Self::Plain(text.clone())),
            parsed => parsed,
        }
    }

    /// Reads a hash.
    ///
    /// # Errors
    /// [`CredentialError::Form`] and [`CredentialError::Damaged`].
    pub fn parse(text: &str) -> Result<Self, CredentialError> {
        if let Some(keys) = text.strip_prefix(SCRAM_PREFIX) {
            return ScramKeys::parse(keys).map(Self::Scram).ok_or(CredentialError::Damaged);
        }
        if !text.starts_with("$argon2id$") {
            return Err(CredentialError::Form);
        }
        let hash = PasswordHash::new(text).map_err(|_| CredentialError::Damaged)?;
        let params = argon2::Params::try_from(&hash).map_err(|_| CredentialError::Damaged)?;
        match hash.hash.is_some() && params.m_cost() <= MEMORY_MAX_KIB {
            true => Ok(Self::Argon2(text.into())),
            false => Err(CredentialError::Damaged),
        }
    }

    /// Hashes a password with argon2id. Takes some ten milliseconds.
    ///
    /// # Errors
    /// [`CredentialError::NoRandom`].
    pub fn argon2(password: &[u8]) -> Result<Self, CredentialError> {
        let salt = SaltString::encode_b64(&random::<16>()?).map_err(|_| CredentialError::NoRandom)?;
        let hash = Argon2::default().hash_password(password, &salt).map_err(|_| CredentialError::Damaged)?;
        Ok(Self::Argon2(hash.to_string().into()))
    }

    /// Salted keys of a password, for SCRAM-SHA-256. Takes some milliseconds.
    ///
    /// # Errors
    /// [`CredentialError::NoRandom`], [`CredentialError::Characters`].
    pub fn scram(password: &str) -> Result<Self, CredentialError> {
        let prepared = stringprep::saslprep(password).map_err(|_| CredentialError::Characters)?;
        let keys = ScramKeys::derive(prepared.as_bytes(), &random::<16>()?, scram::ITERATIONS);
        Ok(Self::Scram(keys))
    }

    /// The text for a password file; `None` for a password that is kept as it is.
    pub fn to_text(&self) -> Option<String> {
        match self {
            Self::Plain(_) => None,
            Self::Argon2(text) => Some(text.to_string()),
            Self::Scram(keys) => Some(format!("{SCRAM_PREFIX}{}", keys.to_text())),
        }
    }

    /// Whether checking takes long enough to need a thread of its own.
    pub(crate) fn is_slow(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Argon2(_) | Self::Scram(_) => true,
        }
    }

    /// Whether this is the password.
    pub(crate) fn is(&self, password: &[u8]) -> bool {
        match self {
            Self::Plain(wanted) => is_same(wanted.reveal().as_bytes(), password),
            Self::Argon2(text) => {
                let Ok(hash) = PasswordHash::new(text) else { return false };
                // The parameters are those of the hash; the instance only needs to know the algorithm.
                let argon2 =
                    Argon2::new(Algorithm::Argon2id, argon2::Version::V0x13, argon2::Params::DEFAULT);
                argon2.verify_password(password, &hash).is_ok()
            }
            Self::Scram(keys) => {
                let Ok(text) = std::str::from_utf8(password) else { return false };
                let Ok(prepared) = stringprep::saslprep(text) else { return false };
                let given = ScramKeys::derive(prepared.as_bytes(), keys.salt(), keys.iterations());
                keys.is_same(&given)
            }
        }
    }
}

/// Compares in a time that says nothing about where two texts differ, nor how long the wanted one is.
pub(crate) fn is_same(wanted: &[u8], given: &[u8]) -> bool {
    let (wanted, given) = (digest(&SHA256, wanted), digest(&SHA256, given));
    wanted.as_ref().ct_eq(given.as_ref()).into()
}

/// Bytes that nobody can guess.
///
/// # Errors
/// [`CredentialError::NoRandom`].
pub(crate) fn random<const N: usize>() -> Result<[u8; N], CredentialError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| CredentialError::NoRandom)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_recognised_however_it_is_kept() {
        let kept = [
            ("plain", Credential::of_config(&Secret::new("tulip")).unwrap()),
            ("argon2", Credential::argon2("tulip".as_bytes()).unwrap()),
            ("scram", Credential::scram("tulip").unwrap()),
        ];
        for (name, credential) in kept {
            let again = match credential.to_text() {
                Some(text) => Credential::of_config(&Secret::new(text)).unwrap(),
                None => credential.clone(),
            };
            for (password, wanted) in [("tulip", true), ("tulips", false), ("tuli", false), ("", false)] {
                assert_eq!(again.is(password.as_bytes()), wanted, "{name} {password}");
            }
            assert_eq!(format!("{credential:?}"), "***", "{name}");
        }
    }

    #[test]
    fn a_hash_that_cannot_be_used_is_refused_when_it_is_read() {
        let huge = "$argon2id$v=19$m=4194304,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$aGFzaGhhc2hoYXNoaGFzaA";
        let rows = [
            ("tulip", CredentialError::Form),
            ("$argon2i$v=19$m=8,t=1,p=1$c29tZXNhbHQ$aGFzaGhhc2g", CredentialError::Form),
            ("$argon2id$v=19", CredentialError::Damaged),
            ("$argon2id$garbage", CredentialError::Damaged),
            (huge, CredentialError::Damaged),
            ("$scram-sha-256$i=1$AAAA$AAAA$AAAA", CredentialError::Damaged),
            ("$scram-sha-256$", CredentialError::Damaged),
        ];
        for (text, wanted) in rows {
            assert_eq!(Credential::parse(text).err(), Some(wanted), "{text}");
        }
    }

    #[test]
    fn passwords_are_the_same_only_when_every_byte_is() {
        let rows: [(&[u8], &[u8], bool); 6] = [
            (b"abc", b"abc", true),
            (b"abc", b"abd", false),
            (b"abc", b"ab", false),
            (b"ab", b"abab", false),
            (b"abc", b"", false),
            (b"", b"a", false),
        ];
        for (wanted, given, same) in rows {
            assert_eq!(is_same(wanted, given), same, "{wanted:?} {given:?}");
        }
    }
}
