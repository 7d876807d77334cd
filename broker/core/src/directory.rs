//! Where each session stands: by its client and by its number. The tables hold places only; what is compared lies in the
//! sessions themselves. A map with keys of its own cost 120 bytes a session, these 20.

use crate::collections::{NumberHasher, index};
use crate::message::SessionKey;
use crate::session::Session;
use hashbrown::HashTable;
use reveille_proto::ids::{AppId, ClientId};
use slab::Slab;
use std::hash::{BuildHasher, BuildHasherDefault, RandomState};

/// See the module. The sessions that it is asked with are those that it was filled with.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    by_client: HashTable<u32>,
    by_key: HashTable<u32>,
    /// Keyed: client identifiers are chosen by clients.
    clients: RandomState,
    /// Numbers are ours.
    keys: BuildHasherDefault<NumberHasher>,
}

impl Directory {
    /// The session of a client.
    pub fn of_client(&self, sessions: &Slab<Session>, app: &AppId, client_id: &ClientId) -> Option<u32> {
        let is_it = |at: &u32| {
            sessions.get(*at as usize).is_some_and(|known| known.client_id == *client_id && known.app == *app)
        };
        self.by_client.find(self.clients.hash_one((app, client_id)), is_it).copied()
    }

    /// The session with a number.
    pub fn of_key(&self, sessions: &Slab<Session>, key: SessionKey) -> Option<u32> {
        let is_it = |at: &u32| sessions.get(*at as usize).is_some_and(|known| known.key == key);
        self.by_key.find(self.keys.hash_one(key), is_it).copied()
    }

    /// Takes a session in and notes where it is.
    pub fn insert(&mut self, sessions: &mut Slab<Session>, session: Session) -> u32 {
        let (client, key) = (self.client_hash(&session), self.keys.hash_one(session.key));
        let at = index(sessions.insert(session));
        let (clients, keys) = (&self.clients, &self.keys);
        // Every place in the tables has a session; the hash of none is never asked for.
        let client_of = |at: &u32| {
            sessions.get(*at as usize).map_or(0, |known| clients.hash_one((&known.app, &known.client_id)))
        };
        let key_of = |at: &u32| sessions.get(*at as usize).map_or(0, |known| keys.hash_one(known.key));
        self.by_client.insert_unique(client, at, client_of);
        self.by_key.insert_unique(key, at, key_of);
        at
    }

    /// Takes a session out.
    pub fn remove(&mut self, sessions: &mut Slab<Session>, at: u32) -> Option<Session> {
        let session = sessions.try_remove(at as usize)?;
        if let Ok(entry) = self.by_client.find_entry(self.client_hash(&session), |known| *known == at) {
            entry.remove();
        }
        if let Ok(entry) = self.by_key.find_entry(self.keys.hash_one(session.key), |known| *known == at) {
            entry.remove();
        }
        Some(session)
    }

    fn client_hash(&self, session: &Session) -> u64 {
        self.clients.hash_one((&session.app, &session.client_id))
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
