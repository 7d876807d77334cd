//! The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), pure: messages in, messages out. Channel binding is not offered.
//!
//! ```text
//!  client-first  n,,n=user,r=c  ------->  Exchange::start
//!                               <-------  server-first  r=cs,s=salt,i=iterations
//!  client-final  c=biws,r=cs,p=proof -->  Exchange::finish
//!                               <-------  server-final  v=signature
//! ```
//! Somebody unknown gets a salt and an iteration count like everybody else, and fails at the end like somebody with a
//! wrong password.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};
use std::fmt;
use std::num::NonZeroU32;
use subtle::ConstantTimeEq;

/// The name of the mechanism, and of the authentication method in MQTT.
pub(crate) const METHOD: &str = "SCRAM-SHA-256";

/// Rounds of PBKDF2 for new passwords. RFC 7677 wants at least 4,096; a small device computes these at each connect.
pub(crate) const ITERATIONS: u32 = 10_000;

/// What a stored hash may ask of a client.
const ITERATIONS_MIN: u32 = 4_096;
/// See above.
const ITERATIONS_MAX: u32 = 10_000_000;

/// Bytes of a user name or nonce that a client may send.
const TEXT_MAX: usize = 1_024;

/// Bytes of each key.
const KEY_BYTES: usize = 32;

/// Random bytes of the server's half of the nonce.
pub(crate) const NONCE_BYTES: usize = 18;

type Key = [u8; KEY_BYTES];

/// What a server keeps of a password: enough to check a proof, not enough to make one.
#[derive(Clone)]
pub struct ScramKeys {
    iterations: u32,
    salt: Box<[u8]>,
    stored_key: Key,
    server_key: Key,
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl ScramKeys {
    /// Of a password that was prepared by RFC 4013.
    pub(crate) fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let mut salted: Key = [0; KEY_BYTES];
        let rounds = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, password, &mut salted);
        let client_key = sign(&salted, b"Client Key");
        Self {
            iterations,
            salt: salt.into(),
            stored_key: hash(&client_key),
            server_key: sign(&salted, b"Server Key"),
        }
    }

    /// For a user who does not exist: the salt is always the same for a name, as a real one is, and no proof fits.
    pub(crate) fn pretended(secret: &Key, user: &str) -> Self {
        let salt = sign(secret, user.as_bytes());
        let key = sign(secret, &salt);
        Self {
            iterations: ITERATIONS,
            salt: salt.get(..16).unwrap_or_default().into(),
            stored_key: key,
            server_key: hash(&key),
        }
    }

    /// Reads `i=ITERATIONS$SALT$STORED$SERVER`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('$');
        let iterations = parts.next()?.strip_prefix("i=")?.parse().ok()?;
        let salt = BASE64.decode(parts.next()?).ok()?;
        let stored_key = BASE64.decode(parts.next()?).ok()?.try_into().ok()?;
        let server_key = BASE64.decode(parts.next()?).ok()?.try_into().ok()?;
        let is_usable = (ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations) && !salt.is_empty();
        (is_usable && parts.next().is_none()).then(|| Self {
            iterations,
            salt: salt.into(),
            stored_key,
            server_key,
        })
    }

    /// As [`ScramKeys::parse`] reads it.
    pub(crate) fn to_text(&self) -> String {
        let [salt, stored, server] =
            [&*self.salt, &self.stored_key, &self.server_key].map(|bytes| BASE64.encode(bytes));
        format!("i={}${salt}${stored}${server}", self.iterations)
    }

    pub(crate) fn salt(&self) -> &[u8] {
        &self.salt
    }

    pub(crate) fn iterations(&self) -> u32 {
        self.iterations
    }

    /// Whether both come from the same password.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.stored_key.ct_eq(&other.stored_key).into()
    }
}

/// Why an exchange ended. What the client hears is the same for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScramError {
    /// Not a message of SCRAM.
    #[error("the message cannot be read")]
    Malformed,
    /// It wants what is not offered.
    #[error("channel binding and extensions are not offered")]
    NotOffered,
    /// It wants to act for somebody else.
    #[error("nobody may act for another user")]
    OtherIdentity,
    /// The nonce is not ours, or the channel binding not the one that was begun with.
    #[error("the message belongs to another exchange")]
    OtherExchange,
    /// The password is wrong, or the user does not exist.
    #[error("the proof is wrong")]
    WrongProof,
}

/// What a client begins with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ClientFirst {
    /// Who it claims to be.
    pub(crate) user: String,
    /// `n,,` or `y,,`, with the user's name between the commas where the client repeats it.
    header: String,
    /// The rest of the message: it is signed.
    bare: String,
    nonce: String,
}

impl ClientFirst {
    /// Reads a client-first-message.
    pub(crate) fn parse(message: &[u8]) -> Result<Self, ScramError> {
        let text = std::str::from_utf8(message).map_err(|_| ScramError::Malformed)?;
        let mut parts = text.splitn(3, ',');
        let (Some(binding), Some(identity), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(ScramError::Malformed);
        };
        match binding {
            "n" | "y" => {}
            other if other.starts_with("p=") => return Err(ScramError::NotOffered),
            _ => return Err(ScramError::Malformed),
        }
        let mut attributes = bare.split(',');
        let user = match attributes.next().and_then(|first| first.split_once('=')) {
            Some(("n", name)) => decode_name(name).ok_or(ScramError::Malformed)?,
            Some(("m", _)) => return Err(ScramError::NotOffered),
            _ => return Err(ScramError::Malformed),
        };
        let nonce =
            attributes.next().and_then(|second| second.strip_prefix("r=")).ok_or(ScramError::Malformed)?;
        if user.is_empty() || user.len() > TEXT_MAX || !is_nonce(nonce) {
            return Err(ScramError::Malformed);
        }
        let acts_for = match identity.strip_prefix("a=") {
            Some(name) => Some(decode_name(name).ok_or(ScramError::Malformed)?),
            None if identity.is_empty() => None,
            None => return Err(ScramError::Malformed),
        };
        if acts_for.is_some_and(|other| other != user) {
            return Err(ScramError::OtherIdentity);
        }
        Ok(Self {
            user,
            header: format!("{binding},{identity},"),
            bare: bare.to_owned(),
            nonce: nonce.to_owned(),
        })
    }
}

/// An exchange between the two messages of the client.
#[derive(Debug)]
pub(crate) struct Exchange {
    keys: ScramKeys,
    header: String,
    client_first_bare: String,
    server_first: String,
    nonce: String,
}

impl Exchange {
    /// Answers the first message. `server_nonce` is random and printable.
    pub(crate) fn start(first: ClientFirst, keys: ScramKeys, server_nonce: &str) -> Self {
        let nonce = format!("{}{server_nonce}", first.nonce);
        let server_first = format!("r={nonce},s={},i={}", BASE64.encode(&keys.salt), keys.iterations);
        Self { keys, header: first.header, client_first_bare: first.bare, server_first, nonce }
    }

    /// The server-first-message.
    pub(crate) fn server_first(&self) -> &str {
        &self.server_first
    }

    /// Checks the client's proof and gives the server-final-message.
    pub(crate) fn finish(self, message: &[u8]) -> Result<String, ScramError> {
        let text = std::str::from_utf8(message).map_err(|_| ScramError::Malformed)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(ScramError::Malformed)?;
        let proof: Key =
            BASE64.decode(proof).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(ScramError::Malformed)?;
        let mut attributes = without_proof.split(',');
        let (Some(binding), Some(nonce)) = (attributes.next(), attributes.next()) else {
            return Err(ScramError::Malformed);
        };
        let binding = binding.strip_prefix("c=").and_then(|text| BASE64.decode(text).ok());
        let binding = binding.ok_or(ScramError::Malformed)?;
        let nonce = nonce.strip_prefix("r=").ok_or(ScramError::Malformed)?;
        if binding != self.header.as_bytes() || nonce != self.nonce {
            return Err(ScramError::OtherExchange);
        }
        let signed = format!("{},{},{without_proof}", self.client_first_bare, self.server_first);
        let signature = sign(&self.keys.stored_key, signed.as_bytes());
        let mut client_key = proof;
        client_key.iter_mut().zip(signature).for_each(|(byte, mask)| *byte ^= mask);
        if !bool::from(hash(&client_key).ct_eq(&self.keys.stored_key)) {
            return Err(ScramError::WrongProof);
        }
        Ok(format!("v={}", BASE64.encode(sign(&self.keys.server_key, signed.as_bytes()))))
    }
}

/// `=2C` is a comma and `=3D` an equals sign; neither stands for itself.
fn decode_name(text: &str) -> Option<String> {
    let mut name = String::with_capacity(text.len());
    let mut parts = text.split('=');
    name.push_str(parts.next()?);
    for part in parts {
        let (char, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            (None, None) => return None,
        };
        name.push(char);
        name.push_str(rest);
    }
    (!name.contains('\0')).then_some(name)
}

fn is_nonce(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= TEXT_MAX
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

fn sign(key: &Key, message: &[u8]) -> Key {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    tag.as_ref().try_into().unwrap_or_default()
}

fn hash(bytes: &[u8]) -> Key {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests;
