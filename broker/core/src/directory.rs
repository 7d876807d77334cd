//! Where each session stands: by its client and by its number. The tables hold places only; what is compared lies in the
//! sessions themselves. A map with keys of its own cost 120 bytes a session, these 25.

use crate::collections::{NumberHasher, index};
use crate::message::SessionKey;
use crate::session::Session;
use crate::word_table::{WordTable, index_of, place};
use reveille_proto::ids::{AppId, ClientId};
use slab::Slab;
use std::hash::{BuildHasher, BuildHasherDefault, RandomState};

/// See the module. The sessions that it is asked with are those that it was filled with.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    by_client: WordTable,
    by_key: WordTable,
    /// Keyed: client identifiers are chosen by clients.
    clients: RandomState,
    /// Numbers are ours.
    keys: BuildHasherDefault<NumberHasher>,
}

impl Directory {
    /// The session of a client.
    pub fn of_client(&self, sessions: &Slab<Session>, app: &AppId, client_id: &ClientId) -> Option<u32> {
        let is_it = |word| {
            let known = sessions.get(index_of(word) as usize);
            known.is_some_and(|known| known.client_id == *client_id && known.app == *app)
        };
        self.by_client.word(self.by_client.find(self.client_hash(app, client_id), is_it)?).map(index_of)
    }

    /// The session with a number.
    pub fn of_key(&self, sessions: &Slab<Session>, key: SessionKey) -> Option<u32> {
        let is_it = |word| sessions.get(index_of(word) as usize).is_some_and(|known| known.key == key);
        self.by_key.word(self.by_key.find(self.key_hash(key), is_it)?).map(index_of)
    }

    /// Takes a session in and notes where it is.
    pub fn insert(&mut self, sessions: &mut Slab<Session>, session: Session) -> u32 {
        let client = self.client_hash(&session.app, &session.client_id);
        let key = self.key_hash(session.key);
        let at = index(sessions.insert(session));
        self.by_client.insert(place(client, at));
        self.by_key.insert(place(key, at));
        at
    }

    /// Takes a session out.
    pub fn remove(&mut self, sessions: &mut Slab<Session>, at: u32) -> Option<Session> {
        let session = sessions.try_remove(at as usize)?;
        let client = self.client_hash(&session.app, &session.client_id);
        let key = self.key_hash(session.key);
        for (table, hash) in [(&mut self.by_client, client), (&mut self.by_key, key)] {
            if let Some(place) = table.find(hash, |word| index_of(word) == at) {
                table.remove(place);
            }
        }
        Some(session)
    }

    #[expect(clippy::cast_possible_truncation, reason = "half of the hash is enough")]
    fn client_hash(&self, app: &AppId, client_id: &ClientId) -> u32 {
        self.clients.hash_one((app, client_id)) as u32
    }

    #[expect(clippy::cast_possible_truncation, reason = "half of the hash is enough")]
    fn key_hash(&self, key: SessionKey) -> u32 {
        self.keys.hash_one(key) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::ConnectionLimits;
    use std::sync::Arc;

    #[test]
    fn a_session_is_found_by_client_and_number_until_it_is_removed() {
        let (mut sessions, mut directory) = (Slab::new(), Directory::default());
        let limits = Arc::new(ConnectionLimits::default());
        let app = AppId::default();
        let client = |number: u64| ClientId::parse(&format!("设备-{number}")).unwrap();
        let places: Vec<u32> = (0..1000)
            .map(|number| {
                let session =
                    Session::new(SessionKey(number), app.clone(), client(number), Arc::clone(&limits));
                directory.insert(&mut sessions, session)
            })
            .collect();
        for (number, at) in (0..).zip(&places).step_by(2) {
            let removed = directory.remove(&mut sessions, *at).unwrap();
            assert_eq!(removed.key, SessionKey(number));
        }
        assert!(directory.remove(&mut sessions, places[0]).is_none());
        for (number, at) in (0..).zip(&places) {
            let wanted = (number % 2 == 1).then_some(*at);
            assert_eq!(directory.of_client(&sessions, &app, &client(number)), wanted, "{number}");
            assert_eq!(directory.of_key(&sessions, SessionKey(number)), wanted, "{number}");
        }
        let other = AppId::parse("other").unwrap();
        assert_eq!(directory.of_client(&sessions, &other, &client(1)), None);
    }
}
