//! Where things go instead, and what clients are subscribed to without asking.

use super::Shard;
use crate::change::Granted;
use crate::delayed;
use crate::io::ConnectionKey;
use crate::rewrite::{rewrite_filter, rewrite_topic};
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::{Subscription, TopicName};
use std::sync::Arc;

/// Where a message goes.
pub(super) struct Destination {
    pub topic: TopicName,
    /// It waits for so many seconds before.
    pub delay: Option<u32>,
}

impl Shard {
    /// Where a message on this topic goes: behind its delay, and where a rewrite rule says.
    pub(super) fn destination(
        &self,
        key: ConnectionKey,
        topic: TopicName,
    ) -> Result<Destination, ReasonCode> {
        let Some(connection) = self.connection(key) else { return Ok(Destination { topic, delay: None }) };
        let Some(session) = self.session(connection.session).filter(|session| !session.is_bridge) else {
            return Ok(Destination { topic, delay: None });
        };
        let (topic, delay) = match delayed::parse(&topic) {
            None => (topic, None),
            Some(Ok((seconds, topic))) => (topic, Some(seconds).filter(|seconds| *seconds > 0)),
            Some(Err(_)) => return Err(ReasonCode::TOPIC_NAME_INVALID),
        };
        let rewritten = rewrite_topic(&self.config.control.rewrites, &session.app, &topic)
            .map_err(|_| ReasonCode::TOPIC_NAME_INVALID)?;
        Ok(Destination { topic: rewritten.unwrap_or(topic), delay })
    }

    /// What a client subscribes to, or unsubscribes from, when it says this.
    pub(super) fn wanted_subscription(&self, at: u32, text: &str) -> Result<Subscription, ReasonCode> {
        let invalid = |_| ReasonCode::TOPIC_FILTER_INVALID;
        let mut subscription = Subscription::parse(text).map_err(invalid)?;
        let Some(session) = self.session(at).filter(|session| !session.is_bridge) else {
            return Ok(subscription);
        };
        let rules = &self.config.control.rewrites;
        if let Some(filter) = rewrite_filter(rules, &session.app, &subscription.filter).map_err(invalid)? {
            subscription.filter = filter;
        }
        Ok(subscription)
    }

    /// Subscribes a client that just connected to what it has without asking. What a resumed session has already stays
    /// as it is. The operator asked for it, so the rules for the client's own wishes are not asked.
    pub(super) fn auto_subscribe(&mut self, key: ConnectionKey) {
        let control = Arc::clone(&self.config.control);
        if control.auto_subscriptions.is_empty() {
            return;
        }
        let Some(connection) = self.connection(key) else { return };
        let user = connection.permission.as_ref().and_then(|permission| permission.user.clone());
        let at = connection.session;
        for wanted in &control.auto_subscriptions {
            let Some(session) = self.session(at).filter(|session| session.app == wanted.app) else {
                continue;
            };
            let text = wanted.filter.fill_filter(session.client_id.as_str(), user.as_deref());
            let Some(subscription) = text.and_then(|text| Subscription::parse(text).ok()) else {
                self.counters.refused_auto_subscriptions += 1;
                continue;
            };
            if session.subscription(&subscription).is_some() {
                continue;
            }
            if session.subscriptions_len() >= session.limits.subscriptions_max {
                self.counters.refused_auto_subscriptions += 1;
                continue;
            }
            if !self.admits_subscription(&wanted.app) {
                self.counters.refused_auto_subscriptions += 1;
                continue;
            }
            let granted = Granted { options: wanted.options, identifier: 0 };
            self.add_subscription(at, subscription, granted, true);
        }
    }

    /// Whether the operator wants a client to have this subscription.
    pub(super) fn is_auto_subscription(&self, key: ConnectionKey, subscription: &Subscription) -> bool {
        let Some(connection) = self.connection(key) else { return false };
        let Some(session) = self.session(connection.session) else { return false };
        let user = connection.permission.as_ref().and_then(|permission| permission.user.as_deref());
        self.config.control.auto_subscriptions.iter().filter(|wanted| wanted.app == session.app).any(
            |wanted| {
                let text = wanted.filter.fill_filter(session.client_id.as_str(), user);
                text.is_some_and(|text| Subscription::parse(text).as_ref() == Ok(subscription))
            },
        )
    }
}
