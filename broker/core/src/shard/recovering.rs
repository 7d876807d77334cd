//! What outlived the last run comes back, before anyone may connect.

use super::Shard;
use crate::change::{Announcement, StoredSession};
use crate::delayed::{Delayed, is_delayed};
use crate::io::{IndexChange, Output};
use crate::message::Time;
use crate::queue::Slot;
use crate::session::{Received, Session};
use std::sync::Arc;

impl Shard {
    /// Takes back a session that outlived the last run. Before the first `handle`. Drain the outputs afterwards: they
    /// make the session routable.
    pub fn recover(&mut self, stored: StoredSession, now: Time) {
        let StoredSession { session: key, record, subscriptions, entries, received } = stored;
        if is_delayed(&record) {
            if let Some(delayed) = Delayed::recovered(*record) {
                self.recover_delayed(key, delayed);
            }
            return;
        }
        let limits = Arc::clone(self.config.limits.of_app(&record.app));
        let mut session = Session::new(key, record.app, record.client_id, limits);
        session.epoch = record.epoch;
        session.expiry_interval = record.expiry_interval;
        // The broker died with the connection: the session is offline from now on.
        // A graceful end wrote down what was sent; a crash while the client was connected could not.
        let was_online = record.offline_since.is_none();
        let sent_before = record.sent_before;
        session.offline_since = record.offline_since.unwrap_or(now);
        session.is_bridge = session.app.as_str() == crate::presence::BRIDGE_APP;
        session.is_stored = true;
        session.is_durable = record.expiry_interval > 0;
        if record.will.is_some() {
            session.rare_mut().will = record.will;
        }
        session.next_seq = entries.last().map_or(0, |entry| entry.seq.0 + 1);
        if !received.is_empty() {
            let done = received.into_iter().map(|id| (id, Received::Done)).collect();
            session.rare_mut().received = Some(Box::new(done));
        }
        for (subscription, granted) in subscriptions {
            session.subscribe(subscription, granted); // the store has them in this order, so each goes to the end
        }
        let mut queued_bytes = 0;
        if !entries.is_empty() {
            self.counters.queued_messages += entries.len() as u64;
            let queue = session.queue.get_or_insert_default();
            for entry in entries {
                self.counters.queued_bytes += u64::from(entry.size);
                queued_bytes += u64::from(entry.size);
                let may_be_sent = was_online || entry.seq < sent_before;
                queue.place(Slot::recovered(entry, may_be_sent, now));
            }
        }
        self.count_app(&session.app, |usage| {
            usage.sessions.add(1);
            usage.subscriptions.add(session.subscriptions_len() as u64);
            usage.queued_bytes.add(queued_bytes);
        });
        self.insert_recovered(session);
    }

    fn insert_recovered(&mut self, session: Session) {
        let app = session.app.clone();
        let subscriptions: Vec<_> = session.subscriptions().collect();
        let at = self.directory.insert(&mut self.sessions, session);
        self.counters.sessions += 1;
        for (subscription, granted) in subscriptions {
            self.index(at, &app, &subscription, granted);
            self.counters.subscriptions += 1;
            self.outputs.push_back(Output::Index(IndexChange::Subscribe(app.clone(), subscription)));
        }
        self.arm_session(at);
    }

    /// Takes back what the bridge has not heard. Before the first `handle`.
    pub fn recover_announcement(&mut self, number: u64, announcement: Announcement) {
        self.pending_announcements.push_back((number, announcement));
    }
}
