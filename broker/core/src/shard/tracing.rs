//! Telling an operator who follows a client or a topic. Without a rule each of these costs one look at a field.

use super::Shard;
use crate::io::{ConnectionKey, Output};
use crate::message::{Message, Seq};
use crate::trace::{PacketView, Trace, Traced};
use reveille_proto::mqtt::Packet;
use reveille_proto::topic::TopicName;

impl Shard {
    /// Something happened to a session.
    pub(super) fn trace(&mut self, at: u32, topic: Option<&TopicName>, what: impl FnOnce() -> Traced) {
        let Some(rules) = &self.traces else { return };
        let Some(session) = self.sessions.get(at as usize) else { return };
        let wants = |rule: &&crate::trace::TraceRule| rule.wants(&session.app, &session.client_id, topic);
        if let Some(rule) = rules.iter().find(wants) {
            let client_id = Some(session.client_id.clone());
            let trace = Trace { rule: rule.number, client_id, topic: topic.cloned(), what: what() };
            self.outputs.push_back(Output::Trace(Box::new(trace)));
        }
    }

    /// Something happened on a connection.
    pub(super) fn trace_connection(
        &mut self,
        key: ConnectionKey,
        topic: Option<&TopicName>,
        what: impl FnOnce() -> Traced,
    ) {
        if self.traces.is_some()
            && let Some(at) = self.connection(key).map(|connection| connection.session)
        {
            self.trace(at, topic, what);
        }
    }

    /// A packet came. A PUBLISH is told of by its topic, when that is known.
    pub(super) fn trace_received(&mut self, key: ConnectionKey, packet: &Packet) {
        let topic = match packet {
            Packet::Publish(publish) => publish.topic.as_ref(),
            _ => None,
        };
        self.trace_connection(key, topic, || Traced::Received(PacketView::of(packet)));
    }

    /// A packet was written.
    pub(super) fn trace_sent(&mut self, key: ConnectionKey, packet: &Packet) {
        self.trace_connection(key, None, || Traced::Sent(PacketView::of(packet)));
    }

    /// A session does not get a message.
    pub(super) fn trace_dropped(&mut self, at: u32, topic: Option<&TopicName>, reason: &'static str) {
        self.trace(at, topic, || Traced::Dropped { reason });
    }

    /// A session does not get a message that has a place in its queue. Called before the place is given up.
    pub(super) fn trace_place_dropped(&mut self, at: u32, seq: Seq, reason: &'static str) {
        if self.traces.is_some() {
            let slot = self.session(at).and_then(|session| session.queue.as_ref()?.slot(seq));
            let topic = slot.and_then(|slot| slot.message.as_ref()).map(|message| message.topic.clone());
            self.trace_dropped(at, topic.as_ref(), reason);
        }
    }

    /// A message was taken, from whomever: for rules that follow its topic, and for those that follow its publisher.
    pub(super) fn trace_published(&mut self, message: &Message) {
        let Some(rules) = &self.traces else { return };
        let at = message.publisher.and_then(|key| self.at_key(key));
        let client_id = at.and_then(|at| Some(self.sessions.get(at as usize)?.client_id.clone()));
        let rule = rules.iter().find(|rule| {
            let is_of_client = |client_id| {
                rule.client_id.is_some() && rule.wants(&message.app, client_id, Some(&message.topic))
            };
            rule.wants_message(&message.app, &message.topic) || client_id.as_ref().is_some_and(is_of_client)
        });
        let Some(rule) = rule.map(|rule| rule.number) else { return };
        let (qos, retain, bytes) = (message.qos, message.retain, message.payload.len());
        let what = Traced::Published { qos, retain, bytes };
        let trace = Trace { rule, client_id, topic: Some(message.topic.clone()), what };
        self.outputs.push_back(Output::Trace(Box::new(trace)));
    }
}
