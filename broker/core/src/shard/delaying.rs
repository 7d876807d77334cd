//! Delayed messages: acknowledged when they are on disk, published when their time comes, forgotten when their
//! receivers have them.

use super::publishing::{Kind, Publishing};
use super::{Due, Shard};
use crate::change::Change;
use crate::deadlines::Armed;
use crate::delayed::{Delayed, State};
use crate::io::{ConnectionKey, Output, RouteTo};
use crate::message::{Message, MessageKey, SessionKey, Time};
use reveille_proto::mqtt::{Publish, QoS};
use reveille_proto::reason::ReasonCode;
use std::sync::Arc;
use std::time::Duration;

/// How long a message whose receivers' places could not be written waits before it is tried again.
const RETRY: Duration = Duration::from_secs(5);

impl Shard {
    /// Keeps a message until its time. Its expiry begins only then.
    pub(super) fn delay(
        &mut self,
        key: ConnectionKey,
        publish: &Publish,
        mut message: Message,
        seconds: u32,
        now: Time,
    ) {
        let expiry = publish.properties.message_expiry_interval;
        message.accepted_at = Time(0);
        message.expires_at = expiry.map(|length| Time(0) + Duration::from_secs(u64::from(length)));
        if !self.has_room_for_delayed(&message, seconds) {
            self.counters.refused_delayed += 1;
            return self.answer(key, publish, ReasonCode::QUOTA_EXCEEDED, now);
        }
        let (message_key, is_kept) = (message.key, message.qos > QoS::AtMostOnce);
        let state = if is_kept { State::Writing(false) } else { State::Waiting };
        let armed = Armed::NOT;
        let delayed = Delayed { message: Arc::new(message), since: now, seconds, state, armed };
        let session = SessionKey(self.number());
        let change = delayed.stored(session).filter(|_| is_kept);
        self.insert_delayed(session, delayed);
        if let Some(change) = change
            && let Some(ticket) = self.owe(key, publish, message_key, now)
        {
            self.publish_kept(ticket, session, change, now);
        }
    }

    fn has_room_for_delayed(&self, message: &Message, seconds: u32) -> bool {
        let (limits, usage) = (&self.config.limits, &self.config.usage);
        if u64::from(seconds) > limits.delay_max.as_secs() {
            return false;
        }
        if !usage.delayed_messages.try_add(1, limits.delayed_messages_max) {
            return false;
        }
        let fits = usage.delayed_bytes.try_add(message.size().into(), limits.delayed_bytes_max);
        if !fits {
            usage.delayed_messages.sub(1);
        }
        fits
    }

    fn insert_delayed(&mut self, key: SessionKey, mut delayed: Delayed) {
        let due = delayed.due();
        self.deadlines.arm(&mut delayed.armed, Due::Delayed(key), due.0);
        self.counters.delayed_messages += 1;
        self.counters.delayed_bytes += u64::from(delayed.message.size());
        self.delayed.insert(key, delayed);
    }

    fn remove_delayed(&mut self, key: SessionKey) -> Option<Delayed> {
        let delayed = self.delayed.remove(&key)?;
        let size = u64::from(delayed.message.size());
        self.counters.delayed_messages = self.counters.delayed_messages.saturating_sub(1);
        self.counters.delayed_bytes = self.counters.delayed_bytes.saturating_sub(size);
        self.config.usage.delayed_messages.sub(1);
        self.config.usage.delayed_bytes.sub(size);
        Some(delayed)
    }

    /// What outlived the last run. It counts, and it is never refused: it was acknowledged.
    pub(super) fn recover_delayed(&mut self, key: SessionKey, delayed: Delayed) {
        self.config.usage.delayed_messages.add(1);
        self.config.usage.delayed_bytes.add(delayed.message.size().into());
        self.insert_delayed(key, delayed);
    }

    /// Its commit ended.
    pub(super) fn delayed_written(&mut self, key: SessionKey, is_durable: bool, now: Time) {
        let Some(delayed) = self.delayed.get_mut(&key) else { return };
        let State::Writing(is_due) = delayed.state else { return };
        if is_durable {
            delayed.state = State::Waiting;
            if is_due {
                self.delayed_due(key, now);
            }
            return;
        }
        // Its publisher hears that it failed. The record is among the facts that are tried again: this takes it back.
        self.remove_delayed(key);
        self.commits.add(Change::DropSession { session: key });
    }

    /// Its time came.
    pub(super) fn delayed_due(&mut self, key: SessionKey, now: Time) {
        let Some(delayed) = self.delayed.get_mut(&key) else { return };
        match delayed.state {
            State::Writing(_) => return delayed.state = State::Writing(true),
            State::Leaving => return,
            State::Waiting if delayed.due() > now => {
                let due = delayed.due();
                return self.deadlines.arm(&mut delayed.armed, Due::Delayed(key), due.0);
            }
            State::Waiting => delayed.state = State::Leaving,
        }
        let mut message = (*delayed.message).clone();
        message.key = MessageKey(self.number());
        message.expires_at = message.expires_at.map(|end| now + end.since(message.accepted_at));
        message.accepted_at = now;
        message.push = self.candidate(&message, now);
        self.counters.delayed_published += 1;
        let message = Arc::new(message);
        let ticket = self.ticket(Publishing::internal(&message, Kind::Delayed(key)));
        self.outputs.push_back(Output::Route { message, ticket, to: RouteTo::Subscribers });
    }

    /// Its receivers have it, or could not take it.
    pub(super) fn delayed_published(&mut self, key: SessionKey, has_failed: bool, now: Time) {
        let Some(delayed) = self.delayed.get_mut(&key) else { return };
        if has_failed {
            delayed.state = State::Waiting;
            // With QoS 2 its end was a fact of the batch that failed, which is tried again: this one comes after it.
            let change = delayed.stored(key).filter(|_| delayed.message.qos == QoS::ExactlyOnce);
            change.into_iter().for_each(|change| self.commits.add(change));
            return self.deadlines.arm(&mut delayed.armed, Due::Delayed(key), (now + RETRY).0);
        }
        let Some(delayed) = self.remove_delayed(key) else { return };
        if delayed.message.qos > QoS::AtMostOnce {
            self.commits.add(Change::DropSession { session: key });
        }
    }
}
