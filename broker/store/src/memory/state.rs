//! The facts as plain maps: the simplest thing that can be right, and so the model for the other stores.

use reveille_broker_core::change::{
    Announcement, Change, Entry, Granted, Phase, Recovered, SessionRecord, StoredSession,
};
use reveille_broker_core::message::{Message, MessageKey, Seq, SessionKey};
use reveille_broker_core::networks::{NetworkKey, NetworkRecord};
use reveille_proto::ids::{AppId, PacketId};
use reveille_proto::topic::{Subscription, TopicName};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Clone, Default)]
pub(super) struct State {
    sessions: BTreeMap<SessionKey, Session>,
    retained: BTreeMap<(AppId, TopicName), Arc<Message>>,
    announcements: BTreeMap<u64, Announcement>,
    networks: BTreeMap<NetworkKey, Box<NetworkRecord>>,
    /// Bodies that queues refer to, with the number of references.
    bodies: BTreeMap<MessageKey, (Arc<Message>, usize)>,
}

#[derive(Clone)]
struct Session {
    record: Box<SessionRecord>,
    subscriptions: BTreeMap<Subscription, Granted>,
    entries: BTreeMap<Seq, Entry>,
    received: BTreeSet<PacketId>,
}

impl State {
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::PutSession { session, record } => self.put_session(session, record),
            Change::DropSession { session } => self.drop_session(session),
            Change::Subscribe { session, subscription, granted } => {
                self.edit(session, |session| {
                    session.subscriptions.insert(subscription, granted);
                });
            }
            Change::Unsubscribe { session, subscription } => {
                self.edit(session, |session| {
                    session.subscriptions.remove(&subscription);
                });
            }
            Change::Enqueue { session, entry, message } => self.enqueue(session, entry, message),
            Change::Mark { session, entry } => self.mark(session, entry),
            Change::Forget { session, seq } => self.forget(session, seq),
            Change::Receive { session, packet_id } => {
                self.edit(session, |session| {
                    session.received.insert(packet_id);
                });
            }
            Change::Release { session, packet_id } => {
                self.edit(session, |session| {
                    session.received.remove(&packet_id);
                });
            }
            Change::Retain { app, topic, message } => self.retain(app, topic, message),
            Change::Announce { number, announcement } => {
                self.announcements.insert(number, announcement);
            }
            Change::Announced { number } => {
                self.announcements.remove(&number);
            }
            Change::PutNetwork { key, record: Some(record) } => {
                self.networks.insert(key, record);
            }
            Change::PutNetwork { key, record: None } => {
                self.networks.remove(&key);
            }
        }
    }

    fn edit(&mut self, session: SessionKey, change: impl FnOnce(&mut Session)) {
        if let Some(session) = self.sessions.get_mut(&session) {
            change(session);
        }
    }

    fn put_session(&mut self, session: SessionKey, record: Box<SessionRecord>) {
        match self.sessions.get_mut(&session) {
            Some(known) => known.record = record,
            None => {
                let fresh = Session {
                    record,
                    subscriptions: BTreeMap::new(),
                    entries: BTreeMap::new(),
                    received: BTreeSet::new(),
                };
                self.sessions.insert(session, fresh);
            }
        }
    }

    fn drop_session(&mut self, session: SessionKey) {
        if let Some(gone) = self.sessions.remove(&session) {
            gone.entries.values().for_each(|entry| self.release(entry));
        }
    }

    fn enqueue(&mut self, session: SessionKey, entry: Entry, message: Arc<Message>) {
        let Some(queue) = self.sessions.get_mut(&session).map(|session| &mut session.entries) else {
            return;
        };
        let holds = entry.phase == Phase::Queued;
        let key = entry.message;
        let replaced = queue.insert(entry.seq, entry);
        if holds {
            self.bodies.entry(key).or_insert((message, 0)).1 += 1;
        }
        if let Some(replaced) = replaced {
            self.release(&replaced);
        }
    }

    fn mark(&mut self, session: SessionKey, mut entry: Entry) {
        let Some(queue) = self.sessions.get_mut(&session).map(|session| &mut session.entries) else {
            return;
        };
        let Some(known) = queue.get_mut(&entry.seq) else {
            return;
        };
        // The body does not change, and does not come back.
        entry.message = known.message;
        if known.phase == Phase::Released {
            entry.phase = Phase::Released;
        }
        let before = std::mem::replace(known, entry);
        if before.phase == Phase::Queued && known.phase == Phase::Released {
            self.release(&before);
        }
    }

    fn forget(&mut self, session: SessionKey, seq: Seq) {
        let gone = self.sessions.get_mut(&session).and_then(|session| session.entries.remove(&seq));
        if let Some(entry) = gone {
            self.release(&entry);
        }
    }

    /// One reference fewer, if this entry held one.
    fn release(&mut self, entry: &Entry) {
        if entry.phase == Phase::Released {
            return;
        }
        if let Some((_, references)) = self.bodies.get_mut(&entry.message) {
            *references -= 1;
            if *references == 0 {
                self.bodies.remove(&entry.message);
            }
        }
    }

    fn retain(&mut self, app: AppId, topic: TopicName, message: Option<Arc<Message>>) {
        match message {
            Some(message) => self.retained.insert((app, topic), message),
            None => self.retained.remove(&(app, topic)),
        };
    }

    pub(super) fn body(&self, key: MessageKey) -> Option<Arc<Message>> {
        self.bodies.get(&key).map(|(message, _)| Arc::clone(message))
    }

    pub(super) fn visit(self, visit: &mut dyn FnMut(Recovered)) {
        for (session, stored) in self.sessions {
            visit(Recovered::Session(Box::new(StoredSession {
                session,
                record: stored.record,
                subscriptions: stored.subscriptions.into_iter().collect(),
                entries: stored.entries.into_values().collect(),
                received: stored.received.into_iter().collect(),
            })));
        }
        self.retained.into_values().for_each(|message| visit(Recovered::Retained(message)));
        for (number, announcement) in self.announcements {
            visit(Recovered::Announcement { number, announcement });
        }
        self.networks.into_iter().for_each(|(key, record)| visit(Recovered::Network { key, record }));
    }
}
