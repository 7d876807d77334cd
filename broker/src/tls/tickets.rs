//! The keys of session tickets: one set for all listeners, changed by themselves, kept over a restart.
//!
//! A client keeps its session in a ticket that only we can read, and comes back without a full handshake. After a restart
//! all come back at once, so the keys have to be there again. They are young all the same: nobody who finds the file can
//! read tickets of yesterday.

use super::load::Loaded;
use crate::auth::credential::random;
use crate::auth::password_file::replace;
use crate::config::ListenerConfig;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use rustls::server::ProducesTickets;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// The keys' file in the data directory.
const FILE: &str = "tls-tickets";

/// Age at which a key makes no more tickets.
const MAKES_S: u64 = 6 * 60 * 60;

/// How long a ticket may be used; the key that made it is known for as long.
const LIFETIME_S: u32 = 6 * 60 * 60;

/// What a client may send as a ticket: ours with a chain of certificates in them are smaller.
const TICKET_BYTES_MAX: usize = 16 << 10;

/// Bytes in front of a ticket that tell its key.
const NAME_LEN: usize = 8;

/// A key and when it was made, in seconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Secret {
    bytes: [u8; 32],
    made_s: u64,
}

impl Secret {
    fn new(now_s: u64) -> Option<Self> {
        Some(Self { bytes: random().ok()?, made_s: now_s })
    }

    fn is_known(&self, now_s: u64) -> bool {
        now_s.saturating_sub(self.made_s) < MAKES_S + u64::from(LIFETIME_S)
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct TicketKeys(Mutex<Keys>);

/// At most two: the newest makes tickets.
#[derive(Default)]
struct Keys {
    secrets: Vec<Secret>,
    path: Option<PathBuf>,
}

impl TicketKeys {
    fn lock(&self) -> MutexGuard<'_, Keys> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the keys of an earlier run, and keeps its own there from now on.
    ///
    /// # Errors
    /// When the file cannot be read. Keys that cannot be understood are replaced: they only save work.
    pub(crate) fn keep_in(&self, directory: &Path) -> io::Result<()> {
        let path = directory.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                String::new()
            }
            Err(error) => return Err(error),
        };
        let mut keys = self.lock();
        keys.secrets = text.lines().filter_map(parse).collect();
        keys.path = Some(path);
        Ok(())
    }

    /// The keys that are known now, the one for new tickets first.
    fn known(&self, now_s: u64) -> Vec<Secret> {
        let mut keys = self.lock();
        keys.secrets.retain(|secret| secret.is_known(now_s));
        let is_fresh = |secret: &Secret| now_s.saturating_sub(secret.made_s) < MAKES_S;
        if !keys.secrets.first().is_some_and(is_fresh)
            && let Some(secret) = Secret::new(now_s)
        {
            keys.secrets.insert(0, secret);
            keys.secrets.truncate(2);
            keys.write();
        }
        keys.secrets.clone()
    }
}

impl Keys {
    fn write(&self) {
        let Some(path) = &self.path else { return };
        let text: String = self.secrets.iter().map(line).collect();
        if let Err(error) = replace(path, &text) {
            tracing::warn!(%error, "the keys of TLS tickets cannot be kept: a restart will cost full handshakes");
        }
    }
}

fn line(secret: &Secret) -> String {
    let hex: String = secret.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{} {hex}\n", secret.made_s)
}

fn parse(line: &str) -> Option<Secret> {
    let (made_s, hex) = line.split_once(' ')?;
    let mut bytes = [0; 32];
    if hex.len() != 2 * bytes.len() || !hex.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(Secret { bytes, made_s: made_s.parse().ok()? })
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKeys(***)")
    }
}

/// The tickets of one listener and of the clients that it believes: a session that is resumed shows no certificate again,
/// so a ticket from elsewhere, or from before others were believed, must not be understood.
#[derive(Debug)]
pub(super) struct Tickets {
    keys: Arc<TicketKeys>,
    context: Vec<u8>,
}

impl Tickets {
    pub(super) fn of(
        keys: &Arc<TicketKeys>,
        listener: &ListenerConfig,
        loaded: &Loaded,
    ) -> Arc<dyn ProducesTickets> {
        let context = format!("{:?} {:?} ", listener.name, listener.client_certificate).into_bytes();
        let context = [context.as_slice(), loaded.trust_hash().as_ref()].concat();
        Arc::new(Self { keys: Arc::clone(keys), context })
    }

    /// The key of this listener, and the name of that key.
    fn key(&self, secret: &Secret) -> Option<(LessSafeKey, [u8; NAME_LEN])> {
        let derive = |purpose: &[u8]| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &secret.bytes);
            hmac::sign(&key, &[purpose, &self.context].concat())
        };
        let key = UnboundKey::new(&CHACHA20_POLY1305, derive(b"key ").as_ref()).ok()?;
        let name = derive(b"name").as_ref().get(..NAME_LEN)?.try_into().ok()?;
        Some((LessSafeKey::new(key), name))
    }

    fn encrypt_at(&self, plain: &[u8], now_s: u64) -> Option<Vec<u8>> {
        let (key, name) = self.key(self.keys.known(now_s).first()?)?;
        let nonce: [u8; NONCE_LEN] = random().ok()?;
        let mut sealed = plain.to_vec();
        let nonce_used = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(nonce_used, Aad::from(name), &mut sealed).ok()?;
        Some([name.as_slice(), &nonce, &sealed].concat())
    }

    fn decrypt_at(&self, ticket: &[u8], now_s: u64) -> Option<Vec<u8>> {
        if ticket.len() > TICKET_BYTES_MAX {
            return None;
        }
        let (name, rest) = ticket.split_at_checked(NAME_LEN)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let known = self.keys.known(now_s);
        let (key, name) = known.iter().filter_map(|secret| self.key(secret)).find(|(_, own)| own == name)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        key.open_in_place(nonce, Aad::from(name), &mut sealed).ok().map(|plain| plain.to_vec())
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_S
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.encrypt_at(plain, now_s())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.decrypt_at(ticket, now_s())
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tickets(keys: &Arc<TicketKeys>, context: &str) -> Tickets {
        Tickets { keys: Arc::clone(keys), context: context.as_bytes().to_vec() }
    }

    #[test]
    fn a_ticket_is_understood_by_its_own_listener_and_nobody_else() {
        let keys = Arc::default();
        let (own, other) = (tickets(&keys, "a"), tickets(&keys, "b"));
        let mut ticket = own.encrypt_at(b"session", 100).unwrap();
        assert_eq!(own.decrypt_at(&ticket, 100).as_deref(), Some(&b"session"[..]));
        assert_eq!(other.decrypt_at(&ticket, 100), None);
        assert_eq!(tickets(&Arc::default(), "a").decrypt_at(&ticket, 100), None, "another broker");
        assert_ne!(own.encrypt_at(b"session", 100).unwrap(), ticket, "two are never alike");
        for length in 0..ticket.len() {
            assert_eq!(own.decrypt_at(&ticket[..length], 100), None, "{length}");
        }
        *ticket.last_mut().unwrap() ^= 1;
        assert_eq!(own.decrypt_at(&ticket, 100), None);
        assert_eq!(own.decrypt_at(&vec![0; TICKET_BYTES_MAX + 1], 100), None);
    }

    #[test]
    fn keys_change_and_old_ones_go() {
        let own = tickets(&Arc::default(), "a");
        let ticket = own.encrypt_at(b"session", 0).unwrap();
        for (now_s, wanted) in
            [(MAKES_S - 1, true), (MAKES_S, true), (2 * MAKES_S - 1, true), (2 * MAKES_S, false)]
        {
            assert_eq!(own.decrypt_at(&ticket, now_s).is_some(), wanted, "{now_s}");
        }
        let newer = own.encrypt_at(b"session", MAKES_S).unwrap();
        assert_ne!(newer[..NAME_LEN], ticket[..NAME_LEN], "another key");
        assert!(own.keys.lock().secrets.len() <= 2);
    }

    #[test]
    fn the_next_run_understands_the_tickets_of_this_one() {
        let directory = tempfile::tempdir().unwrap();
        let run = || {
            let keys = Arc::new(TicketKeys::default());
            keys.keep_in(directory.path()).unwrap();
            tickets(&keys, "a")
        };
        let ticket = run().encrypt_at(b"session", 50).unwrap();
        assert!(run().decrypt_at(&ticket, 60).is_some());
        assert!(run().decrypt_at(&ticket, 60 + 2 * MAKES_S).is_none(), "too old, and gone from the file");
        let path = directory.path().join(FILE);
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
        std::fs::write(&path, "nonsense\n5 xyz\n").unwrap();
        assert!(run().encrypt_at(b"session", 70).is_some());
    }
}
