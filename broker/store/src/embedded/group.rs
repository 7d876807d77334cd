//! The batches of one sync, folded together: what is written and given up again within a group is never written.

use super::engine::{Engine, Space};
use super::index::{Index, Place};
use crate::StoreError;
use crate::format::{encode, keys};
use reveille_broker_core::change::{Batch, Change, Entry, Phase, SessionRecord};
use reveille_broker_core::message::{Message, MessageKey, Seq, SessionKey};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What becomes of one key.
pub(super) enum Op<V> {
    /// It gets a value; `is_new` when the disk certainly has none.
    Put { value: V, is_new: bool },
    /// It goes.
    Remove,
}

/// What becomes of all keys of a group.
#[derive(Default)]
pub(super) struct Group {
    pub(super) others: BTreeMap<(Space, Vec<u8>), Op<Vec<u8>>>,
    pub(super) entries: BTreeMap<(SessionKey, Seq), Op<Entry>>,
    pub(super) bodies: BTreeMap<MessageKey, Op<Arc<Message>>>,
}

impl Group {
    /// Whether the disk is already as it should be.
    pub(super) fn is_empty(&self) -> bool {
        self.others.is_empty() && self.entries.is_empty() && self.bodies.is_empty()
    }

    /// Adds the facts of a batch. Reads the engine only to find the subscriptions of a dropped session.
    pub(super) fn add(&mut self, batch: Batch, index: &mut Index, engine: &Engine) -> Result<(), StoreError> {
        batch.changes.into_iter().try_for_each(|change| self.change(change, index, engine))
    }

    fn change(&mut self, change: Change, index: &mut Index, engine: &Engine) -> Result<(), StoreError> {
        match change {
            Change::PutSession { session, record } => self.put_session(session, &record, index),
            Change::DropSession { session } => return self.drop_session(session, index, engine),
            Change::Subscribe { session, subscription, granted } if index.has(session) => {
                let key = (Space::Subscriptions, keys::subscription(session, &subscription));
                put(&mut self.others, key, encode(&(subscription, granted)), false);
            }
            Change::Unsubscribe { session, subscription } if index.has(session) => {
                remove(&mut self.others, (Space::Subscriptions, keys::subscription(session, &subscription)));
            }
            Change::Enqueue { session, entry, message } => self.enqueue(session, entry, message, index),
            Change::Mark { session, entry } => self.mark(session, entry, index),
            Change::Forget { session, seq } => self.forget(session, seq, index),
            Change::Receive { session, packet_id } => {
                if index.receive(session, packet_id) {
                    let key = (Space::Received, keys::received(session, packet_id).to_vec());
                    put(&mut self.others, key, Vec::new(), true);
                }
            }
            Change::Release { session, packet_id } => {
                if index.release(session, packet_id) {
                    remove(&mut self.others, (Space::Received, keys::received(session, packet_id).to_vec()));
                }
            }
            Change::Retain { app, topic, message } => {
                let key = (Space::Retained, keys::retained(&app, &topic));
                match message {
                    Some(message) => put(&mut self.others, key, encode(&*message), false),
                    None => remove(&mut self.others, key),
                }
            }
            Change::Announce { number, announcement } => {
                let key = (Space::Announcements, keys::announcement(number).to_vec());
                put(&mut self.others, key, encode(&announcement), true);
            }
            Change::Announced { number } => {
                remove(&mut self.others, (Space::Announcements, keys::announcement(number).to_vec()));
            }
            Change::PutNetwork { key, record } => {
                let place = (Space::Networks, keys::network(&key));
                match record {
                    Some(record) => put(&mut self.others, place, encode(&(key, record)), false),
                    None => remove(&mut self.others, place),
                }
            }
            Change::Subscribe { session, .. } | Change::Unsubscribe { session, .. } => ignored(session),
        }
        Ok(())
    }

    fn put_session(&mut self, session: SessionKey, record: &SessionRecord, index: &mut Index) {
        let is_new = index.add_session(session);
        put(&mut self.others, (Space::Sessions, keys::session(session).to_vec()), encode(record), is_new);
    }

    fn drop_session(
        &mut self,
        session: SessionKey,
        index: &mut Index,
        engine: &Engine,
    ) -> Result<(), StoreError> {
        let Some(gone) = index.drop_session(session) else {
            return Ok(());
        };
        for place in gone.entries {
            remove(&mut self.entries, (session, place.seq));
            self.give_up_body(place, index);
        }
        for packet_id in gone.received {
            remove(&mut self.others, (Space::Received, keys::received(session, packet_id).to_vec()));
        }
        self.drop_subscriptions(session, engine)?;
        remove(&mut self.others, (Space::Sessions, keys::session(session).to_vec()));
        Ok(())
    }

    fn drop_subscriptions(&mut self, session: SessionKey, engine: &Engine) -> Result<(), StoreError> {
        let first = (Space::Subscriptions, keys::session(session).to_vec());
        let of_session = |(space, key): &(Space, Vec<u8>)| *space == first.0 && key.starts_with(&first.1);
        let in_group: Vec<_> = self
            .others
            .range(first.clone()..)
            .map(|(key, _)| key)
            .take_while(|key| of_session(key))
            .cloned()
            .collect();
        for key in in_group {
            self.others.remove(&key);
        }
        for key in engine.subscription_keys(session)? {
            self.others.insert((Space::Subscriptions, key), Op::Remove);
        }
        Ok(())
    }

    fn enqueue(&mut self, session: SessionKey, entry: Entry, message: Arc<Message>, index: &mut Index) {
        let place = Place::of(&entry);
        let Some(replaced) = index.enqueue(session, place) else {
            return ignored(session);
        };
        if place.holds_body && index.refer(place.message, message.size()) {
            put(&mut self.bodies, place.message, message, true);
        }
        put(&mut self.entries, (session, entry.seq), entry, replaced.is_none());
        if let Some(replaced) = replaced {
            self.give_up_body(replaced, index);
        }
    }

    fn mark(&mut self, session: SessionKey, mut entry: Entry, index: &mut Index) {
        let Some(before) = index.mark(session, &entry) else {
            return;
        };
        // The body does not change, and does not come back.
        entry.message = before.message;
        if !before.holds_body {
            entry.phase = Phase::Released;
        }
        if entry.phase == Phase::Released {
            self.give_up_body(before, index);
        }
        put(&mut self.entries, (session, entry.seq), entry, false);
    }

    fn forget(&mut self, session: SessionKey, seq: Seq, index: &mut Index) {
        if let Some(place) = index.forget(session, seq) {
            remove(&mut self.entries, (session, seq));
            self.give_up_body(place, index);
        }
    }

    /// One reference fewer to the body of this place, if it held one; the last one takes the body along.
    fn give_up_body(&mut self, place: Place, index: &mut Index) {
        if place.holds_body && index.unrefer(place.message) {
            remove(&mut self.bodies, place.message);
        }
    }
}

fn ignored(session: SessionKey) {
    tracing::debug!(session = session.0, "a fact about a session without a record is ignored");
}

/// `is_new`: the disk has no value under this key, as far as the facts before this group tell.
fn put<K: Ord, V>(ops: &mut BTreeMap<K, Op<V>>, key: K, value: V, is_new: bool) {
    let is_new = match ops.get(&key) {
        Some(Op::Put { is_new, .. }) => *is_new,
        Some(Op::Remove) => false,
        None => is_new,
    };
    ops.insert(key, Op::Put { value, is_new });
}

fn remove<K: Ord, V>(ops: &mut BTreeMap<K, Op<V>>, key: K) {
    match ops.get(&key) {
        Some(Op::Put { is_new: true, .. }) => {
            ops.remove(&key);
        }
        Some(Op::Put { is_new: false, .. } | Op::Remove) | None => {
            ops.insert(key, Op::Remove);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::suite::make;
    use reveille_proto::mqtt::QoS;

    /// What is left to write of changes after `before` is on the disk.
    fn left(before: Vec<Change>, changes: Vec<Change>) -> (usize, usize, usize) {
        let directory = tempfile::tempdir().unwrap();
        let engine = Engine::open(directory.path(), &Options::default()).unwrap();
        let (mut index, mut first, mut second) = (Index::default(), Group::default(), Group::default());
        first.add(make::batch(before), &mut index, &engine).unwrap();
        engine.write(&first).unwrap();
        second.add(make::batch(changes), &mut index, &engine).unwrap();
        (second.others.len(), second.entries.len(), second.bodies.len())
    }

    #[test]
    fn what_comes_and_goes_within_a_group_is_not_written() {
        let (short, kept) = (make::message(1, "short"), make::message(2, "kept"));
        let shared = || vec![make::put_session(1), make::enqueue(1, 1, &kept)];
        let granted = make::granted(QoS::AtLeastOnce, 0);
        let table = [
            ("acknowledged at once", vec![make::enqueue(1, 2, &short), make::forget(1, 2)], (0, 0, 0)),
            (
                "one of two",
                vec![make::enqueue(1, 2, &short), make::enqueue(1, 3, &short), make::forget(1, 2)],
                (0, 1, 1),
            ),
            (
                "marked in between",
                vec![make::enqueue(1, 2, &short), make::mark(1, make::entry(2, &short)), make::forget(1, 2)],
                (0, 0, 0),
            ),
            ("a shared body stays", vec![make::enqueue(1, 2, &kept), make::forget(1, 2)], (0, 0, 0)),
            (
                "a stored body goes",
                vec![make::enqueue(1, 2, &kept), make::forget(1, 2), make::forget(1, 1)],
                (0, 1, 1),
            ),
            ("QoS 2 in one go", vec![make::receive(1, 1), make::release(1, 1)], (0, 0, 0)),
            ("announced at once", vec![make::announce(1, "a"), make::announced(1)], (0, 0, 0)),
            (
                "a session of a moment",
                vec![
                    make::put_session(2),
                    make::subscribe(2, "a", granted),
                    make::enqueue(2, 1, &short),
                    make::drop_session(2),
                ],
                (0, 0, 0),
            ),
            ("a stored session goes", vec![make::drop_session(1)], (1, 1, 1)),
            ("retained twice", vec![make::retain(&short), make::retain(&kept)], (1, 0, 0)),
        ];
        for (name, changes, wanted) in table {
            assert_eq!(left(shared(), changes), wanted, "{name}");
        }
    }

    #[test]
    fn what_belongs_to_nothing_is_removed_at_opening() {
        let directory = tempfile::tempdir().unwrap();
        let engine = Engine::open(directory.path(), &Options::default()).unwrap();
        let mut group = Group::default();
        let (body, gone) = (make::message(1, "x"), make::message(2, "y"));
        let mut index = Index::default();
        let facts = vec![make::put_session(1), make::enqueue(1, 1, &body), make::enqueue(1, 2, &gone)];
        group.add(make::batch(facts), &mut index, &engine).unwrap();
        put(&mut group.entries, (SessionKey(9), Seq(1)), make::entry(1, &body), true);
        put(&mut group.bodies, MessageKey(3), make::message(3, "z"), true);
        group.bodies.remove(&MessageKey(2));
        engine.write(&group).unwrap();
        for _ in 0..2 {
            let index = Index::rebuild(&engine).unwrap();
            assert_eq!(index.live_bytes(), encode(&*body).len() as u64);
            assert_eq!(engine.keys(Space::Entries).count(), 1);
            assert_eq!(engine.keys(Space::Messages).count(), 1);
        }
    }
}
