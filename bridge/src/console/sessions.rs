//! Who is logged in. Kept in memory only: after a restart everybody logs in again.

use std::collections::HashMap;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use crate::apps::{Caller, sha256};
use crate::sender::tasks::lock;

/// Sessions at once; beyond it the one that was unused for longest ends.
const SESSIONS_MAX: usize = 1_000;
/// A session ends when nobody used it for so long, in milliseconds.
const IDLE_MAX_MS: u64 = 2 * 60 * 60 * 1000;

/// 256 random bits as text.
pub(super) fn secret() -> String {
    BASE64.encode(rand::random::<[u8; 32]>())
}

/// Compares in a time that says nothing of where two texts differ.
pub(super) fn is_same(a: &str, b: &str) -> bool {
    let (a, b) = (sha256(a.as_bytes()), sha256(b.as_bytes()));
    a.iter().zip(&b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

/// One visitor of the console.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub caller: Caller,
    /// Stands in every form of the session.
    pub csrf: String,
    began_ms: u64,
    seen_ms: u64,
}

/// Every session, by the hash of its id: who reads the memory cannot take one over.
pub(super) struct Sessions {
    kept: Mutex<HashMap<[u8; 32], Session>>,
    age_max_ms: u64,
}

impl Sessions {
    pub fn new(age_max_ms: u64) -> Self {
        Self { kept: Mutex::default(), age_max_ms }
    }

    /// Begins a session; returns its id, which only the cookie holds.
    pub fn begin(&self, caller: Caller, now_ms: u64) -> String {
        let id = secret();
        let mut kept = lock(&self.kept);
        kept.retain(|_, session| self.is_alive(session, now_ms));
        if kept.len() >= SESSIONS_MAX
            && let Some(oldest) = kept.iter().min_by_key(|(_, session)| session.seen_ms).map(|(key, _)| *key)
        {
            kept.remove(&oldest);
        }
        let session = Session { caller, csrf: secret(), began_ms: now_ms, seen_ms: now_ms };
        kept.insert(sha256(id.as_bytes()), session);
        id
    }

    /// The session of an id, which is used now.
    pub fn find(&self, id: &str, now_ms: u64) -> Option<Session> {
        let key = sha256(id.as_bytes());
        let mut kept = lock(&self.kept);
        let session = kept.get_mut(&key)?;
        if !self.is_alive(session, now_ms) {
            kept.remove(&key);
            return None;
        }
        session.seen_ms = now_ms;
        Some(session.clone())
    }

    /// Ends a session.
    pub fn end(&self, id: &str) {
        lock(&self.kept).remove(&sha256(id.as_bytes()));
    }

    /// Ends every session of a key or person but one.
    pub fn end_of(&self, key_id: &str, but: Option<&str>) {
        let but = but.map(|id| sha256(id.as_bytes()));
        lock(&self.kept).retain(|key, session| session.caller.key_id != key_id || Some(*key) == but);
    }

    fn is_alive(&self, session: &Session, now_ms: u64) -> bool {
        now_ms.saturating_sub(session.began_ms) < self.age_max_ms
            && now_ms.saturating_sub(session.seen_ms) < IDLE_MAX_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 60 * 60 * 1000;

    fn caller() -> Caller {
        Caller::for_tests("0123456789abcdef")
    }

    #[test]
    fn a_session_ends_by_age_by_rest_and_by_its_owner() {
        let sessions = Sessions::new(3 * HOUR_MS);
        let (idle, busy, left) =
            (sessions.begin(caller(), 0), sessions.begin(caller(), 0), sessions.begin(caller(), 0));
        assert!(sessions.find(&busy, HOUR_MS).is_some());
        assert!(sessions.find("guessed", HOUR_MS).is_none());
        sessions.end(&left);
        assert!(sessions.find(&left, HOUR_MS).is_none());
        assert!(sessions.find(&idle, 2 * HOUR_MS).is_none(), "nobody used it");
        assert!(sessions.find(&busy, 3 * HOUR_MS - 1).is_some());
        assert!(sessions.find(&busy, 3 * HOUR_MS).is_none(), "too old, though it is used");
    }

    #[test]
    fn the_session_that_rested_longest_makes_room() {
        let sessions = Sessions::new(HOUR_MS);
        let ids: Vec<_> = (0..SESSIONS_MAX as u64).map(|n| sessions.begin(caller(), n)).collect();
        assert!(sessions.find(&ids[0], 5_000).is_some());
        let new = sessions.begin(caller(), 5_000);
        assert!(sessions.find(&new, 5_000).is_some() && sessions.find(&ids[0], 5_000).is_some());
        assert!(sessions.find(&ids[1], 5_000).is_none());
        sessions.end_of("0123456789abcdef", Some(&new));
        assert!(sessions.find(&new, 5_000).is_some() && sessions.find(&ids[2], 5_000).is_none());
    }
}
