//! What operators do to sessions and messages. Each wish is answered once; what it changed is durable by then.

use super::Shard;
use super::publishing::{Kind, Publishing};
use crate::admin::{Done, Publication, Wish};
use crate::commits::Wait;
use crate::io::{Output, RouteTo};
use crate::message::{Message, MessageKey, Time};
use reveille_proto::ids::{AppId, ClientId};
use reveille_proto::mqtt::QoS;
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::TopicName;
use std::sync::Arc;

impl Shard {
    /// Ends a client's connection as a broken rule would: 5.0 hears the reason, the will is published.
    pub(super) fn kick(&mut self, app: AppId, client_id: ClientId, reason: ReasonCode, now: Time) {
        let at = self.at_client(&app, &client_id);
        let Some(key) = at.and_then(|at| self.session(at)?.connection) else { return };
        self.counters.kicks += 1;
        self.say_goodbye(key, reason);
        self.end_connection(key, reason, true, now);
    }

    pub(super) fn wish(&mut self, number: u64, wish: Wish, now: Time) {
        match wish {
            Wish::EndSession { app, client_id } => self.end_wanted(number, app, client_id, now),
            Wish::Purge { app, client_id, limit } => self.purge(number, app, client_id, limit, now),
            Wish::Publish(publication) => self.publish_wanted(number, *publication, now),
            Wish::ClearRetained { app, topic } => self.clear_retained(number, app, topic, now),
        }
    }

    fn end_wanted(&mut self, number: u64, app: AppId, client_id: ClientId, now: Time) {
        let client = (app, client_id);
        if self.at_client(&client.0, &client.1).is_none() {
            return self.answer_wish(number, Done::NoSession);
        }
        self.kick(client.0.clone(), client.1.clone(), ReasonCode::ADMINISTRATIVE_ACTION, now);
        // A session that lives no longer than its connection is gone by now.
        if let Some(at) = self.at_client(&client.0, &client.1) {
            self.end_session(at, now);
        }
        self.when_durable(Wait::Done(number, Done::Fulfilled(0)), now);
    }

    fn purge(&mut self, number: u64, app: AppId, client_id: ClientId, limit: usize, now: Time) {
        let Some(at) = self.at_client(&app, &client_id) else {
            return self.answer_wish(number, Done::NoSession);
        };
        let queue = self.session(at).and_then(|session| session.queue.as_ref());
        let waiting = queue.map(|queue| queue.never_sent(limit)).unwrap_or_default();
        for seq in &waiting {
            self.trace_place_dropped(at, *seq, "purged");
            self.forget(at, *seq);
            self.counters.dropped_purged += 1;
        }
        self.when_durable(Wait::Done(number, Done::Fulfilled(waiting.len())), now);
    }

    fn publish_wanted(&mut self, number: u64, publication: Publication, now: Time) {
        let Publication { app, topic, payload, qos, retain, expiry, properties } = publication;
        let key = MessageKey(self.number());
        let expires_at = expiry.map(|length| now + length);
        let mut message = Message {
            key,
            app,
            topic,
            payload,
            qos,
            retain,
            accepted_at: now,
            expires_at,
            publisher: None,
            properties,
            push: None,
        };
        message.push = self.candidate(&message, now);
        self.route_wanted(number, message, RouteTo::Subscribers);
    }

    fn clear_retained(&mut self, number: u64, app: AppId, topic: TopicName, now: Time) {
        let message = Message {
            key: MessageKey(self.number()),
            app,
            topic,
            payload: bytes::Bytes::new(),
            qos: QoS::AtLeastOnce,
            retain: true,
            accepted_at: now,
            expires_at: None,
            publisher: None,
            properties: None,
            push: None,
        };
        self.route_wanted(number, message, RouteTo::Retained);
    }

    fn route_wanted(&mut self, number: u64, message: Message, to: RouteTo) {
        let message = Arc::new(message);
        self.trace_published(&message);
        let ticket = self.ticket(Publishing::internal(&message, Kind::Wanted(number)));
        self.outputs.push_back(Output::Route { message, ticket, to });
    }

    pub(super) fn published_wanted(&mut self, number: u64, reason: ReasonCode) {
        self.answer_wish(
            number,
            match reason {
                ReasonCode::NO_MATCHING_SUBSCRIBERS => Done::NoReceiver,
                reason if reason.is_failure() => Done::Refused,
                _ => Done::Fulfilled(0),
            },
        );
    }

    pub(super) fn answer_wish(&mut self, number: u64, done: Done) {
        self.outputs.push_back(Output::Done { number, done });
    }
}
