//! SUBSCRIBE and UNSUBSCRIBE, and the retained messages that a new subscription gets.

use super::Shard;
use super::delivering::{Delivering, How};
use crate::change::{Change, Granted};
use crate::commits::Wait;
use crate::io::{ConnectionKey, IndexChange, Output};
use crate::message::{Message, SessionKey, Time};
use crate::session::RetainedReading;
use bytestring::ByteString;
use reveille_proto::ids::AppId;
use reveille_proto::mqtt::{
    Packet, ReasonProperties, RetainHandling, SubAck, Subscribe, UnsubAck, Unsubscribe,
};
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::{Subscription, TopicFilter, TopicName};
use std::sync::Arc;

impl Shard {
    pub(super) fn subscribe(&mut self, key: ConnectionKey, subscribe: &Subscribe, now: Time) {
        if self.has_too_many_filters(key, subscribe.filters.len()) {
            return self.refuse(key, ReasonCode::QUOTA_EXCEEDED, now);
        }
        let has_identifier = subscribe.subscription_identifier.is_some();
        if has_identifier
            && !self.connection(key).is_some_and(|to| to.limits.offered.subscription_identifiers)
        {
            return self.refuse(key, ReasonCode::SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED, now); // section 3.2.2.3.12
        }
        let mut reasons = Vec::with_capacity(subscribe.filters.len());
        for (text, options) in &subscribe.filters {
            let identifier = subscribe.subscription_identifier.unwrap_or(0);
            match self.subscribe_one(key, text, Granted { options: *options, identifier }) {
                Ok(reason) => reasons.push(reason),
                Err(reason) => return self.refuse(key, reason, now),
            }
        }
        let suback =
            SubAck { packet_id: subscribe.packet_id, reasons, properties: ReasonProperties::default() };
        // Every subscription is in the index by now; a durable one is on disk too before the client hears of it.
        self.answer_durably(key, Packet::SubAck(Box::new(suback)), now);
    }

    fn has_too_many_filters(&self, key: ConnectionKey, count: usize) -> bool {
        self.connection(key).is_some_and(|connection| count > connection.limits.filters_per_packet_max)
    }

    fn answer_durably(&mut self, key: ConnectionKey, packet: Packet, now: Time) {
        let is_durable = self.session_at(key).is_some_and(|(_, session)| session.is_durable);
        let wait = Wait::Packet(key, packet);
        match is_durable {
            true => self.when_durable(wait, now),
            false => self.proceed(wait, now),
        }
    }

    /// The reason for one filter; an error ends the connection.
    fn subscribe_one(
        &mut self,
        key: ConnectionKey,
        text: &ByteString,
        mut granted: Granted,
    ) -> Result<ReasonCode, ReasonCode> {
        let Some((at, session)) = self.session_at(key) else { return Ok(ReasonCode::UNSPECIFIED_ERROR) };
        let (limits, is_bridge) = (Arc::clone(&session.limits), session.is_bridge);
        let levels_max = limits.topic_levels_max;
        let subscription = match self.wanted_subscription(at, text) {
            Ok(subscription) => subscription,
            Err(reason) => return Ok(reason),
        };
        if subscription.filter.levels().take(levels_max + 1).count() > levels_max {
            return Ok(ReasonCode::TOPIC_FILTER_INVALID);
        }
        if subscription.group.is_some() && granted.options.no_local {
            return Err(ReasonCode::PROTOCOL_ERROR); // [MQTT5-3.8.3-4]
        }
        if subscription.group.is_some() && !limits.offered.shared_subscription {
            return Ok(ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED);
        }
        if subscription.filter.has_wildcard() && !limits.offered.wildcard_subscription {
            return Ok(ReasonCode::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED);
        }
        if !self.may_subscribe(key, &subscription.filter) {
            self.counters.denied_subscriptions += 1;
            return Ok(ReasonCode::NOT_AUTHORIZED);
        }
        let is_internal = subscription.filter.as_str().starts_with("$push/v1");
        if is_internal && !is_bridge {
            return Ok(ReasonCode::NOT_AUTHORIZED);
        }
        let Some(session) = self.session(at) else { return Ok(ReasonCode::UNSPECIFIED_ERROR) };
        let (is_known, app) = (session.subscription(&subscription).is_some(), session.app.clone());
        if !is_known && session.subscriptions_len() >= limits.subscriptions_max {
            return Ok(ReasonCode::QUOTA_EXCEEDED);
        }
        if !is_known && !self.admits_subscription(&app) {
            self.counters.refused_app_full += 1;
            return Ok(ReasonCode::QUOTA_EXCEEDED);
        }
        granted.options.qos = granted.options.qos.min(limits.offered.maximum_qos); // [MQTT5-3.2.2-10]
        self.add_subscription(at, subscription, granted, !is_known);
        Ok(ReasonCode::from_u8(granted.options.qos as u8).unwrap_or(ReasonCode::SUCCESS))
    }

    pub(super) fn add_subscription(
        &mut self,
        at: u32,
        subscription: Subscription,
        granted: Granted,
        is_new: bool,
    ) {
        let Some(session) = self.sessions.get_mut(at as usize) else { return };
        session.subscribe(subscription.clone(), granted);
        let (app, session_key, is_durable) = (session.app.clone(), session.key, session.is_durable);
        let wants_retained = match granted.options.retain_handling {
            RetainHandling::Always => subscription.group.is_none(),
            RetainHandling::IfNew => subscription.group.is_none() && is_new,
            RetainHandling::Never => false,
        };
        if wants_retained {
            let reading = RetainedReading { subscription: subscription.clone(), granted, after: None };
            session.rare_mut().readings.get_or_insert_default().push_back(reading);
        }
        self.index(at, &app, &subscription, granted);
        if is_new {
            self.counters.subscriptions += 1;
            self.outputs.push_back(Output::Index(IndexChange::Subscribe(app.clone(), subscription.clone())));
            if subscription.group.is_some() {
                self.outputs.push_back(Output::Index(IndexChange::Online(app, subscription.clone(), 1)));
            }
        }
        if is_durable {
            self.commits.add(Change::Subscribe { session: session_key, subscription, granted });
        }
    }

    pub(super) fn index(&mut self, at: u32, app: &AppId, subscription: &Subscription, granted: Granted) {
        match &subscription.group {
            None => {
                let index = self.subscriptions.entry(app.clone()).or_default();
                index.insert(&subscription.filter, at, granted);
            }
            Some(group) => {
                let shared = self.shared.entry(app.clone()).or_default();
                shared.insert(group, &subscription.filter, at, granted);
            }
        }
    }

    pub(super) fn unindex(&mut self, at: u32, app: &AppId, subscription: &Subscription) {
        match &subscription.group {
            None => {
                if let Some(index) = self.subscriptions.get_mut(app) {
                    index.remove(&subscription.filter, at);
                }
            }
            Some(group) => {
                if let Some(shared) = self.shared.get_mut(app) {
                    shared.remove(group, &subscription.filter, at);
                }
            }
        }
    }

    pub(super) fn unsubscribe(&mut self, key: ConnectionKey, unsubscribe: &Unsubscribe, now: Time) {
        if self.has_too_many_filters(key, unsubscribe.filters.len()) {
            return self.refuse(key, ReasonCode::QUOTA_EXCEEDED, now);
        }
        let reasons = unsubscribe.filters.iter().map(|text| self.unsubscribe_one(key, text)).collect();
        let packet_id = unsubscribe.packet_id;
        let unsuback = UnsubAck { packet_id, reasons, properties: ReasonProperties::default() };
        self.answer_durably(key, Packet::UnsubAck(Box::new(unsuback)), now); // always, [MQTT5-3.10.4-4]
    }

    fn unsubscribe_one(&mut self, key: ConnectionKey, text: &ByteString) -> ReasonCode {
        let Some((at, _)) = self.session_at(key) else { return ReasonCode::UNSPECIFIED_ERROR };
        match self.wanted_subscription(at, text) {
            Ok(subscription) => self.remove_subscription(key, subscription),
            Err(reason) => reason,
        }
    }

    pub(super) fn remove_subscription(
        &mut self,
        key: ConnectionKey,
        subscription: Subscription,
    ) -> ReasonCode {
        let Some((at, session)) = self.session_at(key) else { return ReasonCode::UNSPECIFIED_ERROR };
        if !session.unsubscribe(&subscription) {
            return ReasonCode::NO_SUBSCRIPTION_EXISTED;
        }
        if let Some(readings) = session.rare.as_mut().and_then(|rare| rare.readings.as_mut()) {
            readings.retain(|reading| reading.subscription != subscription);
        }
        let (app, session_key, is_durable) = (session.app.clone(), session.key, session.is_durable);
        self.unindex(at, &app, &subscription);
        self.counters.subscriptions = self.counters.subscriptions.saturating_sub(1);
        self.count_app(&app, |usage| usage.subscriptions.sub(1));
        if subscription.group.is_some() {
            self.outputs.push_back(Output::Index(IndexChange::Online(app.clone(), subscription.clone(), -1)));
        }
        self.outputs.push_back(Output::Index(IndexChange::Unsubscribe(app, subscription.clone())));
        if is_durable {
            self.commits.add(Change::Unsubscribe { session: session_key, subscription });
        }
        ReasonCode::SUCCESS
    }

    /// Asks for the next page of retained messages when the last one is on its way to the client.
    pub(super) fn read_retained(&mut self, key: ConnectionKey) {
        let page = self.config.limits.retained_page;
        let Some(connection) = self.connection(key) else { return };
        if connection.unsent.len() > connection.limits.unsent_bytes_max / 2 {
            return;
        }
        let Some((_, session)) = self.session_at(key) else { return };
        if session.is_reading || session.queue_len() > page / 4 {
            return;
        }
        let readings = session.rare.as_ref().and_then(|rare| rare.readings.as_ref());
        let Some(reading) = readings.and_then(|readings| readings.front()) else { return };
        let output = Output::ReadRetained {
            app: session.app.clone(),
            session: session.key,
            filter: reading.subscription.filter.clone(),
            after: reading.after.clone(),
        };
        session.is_reading = true;
        self.outputs.push_back(output);
    }

    /// Retained messages for a subscription: queued like others for QoS 1 and 2, never cut off.
    pub(super) fn retained(
        &mut self,
        key: SessionKey,
        filter: &TopicFilter,
        messages: &[Arc<Message>],
        after: Option<TopicName>,
        now: Time,
    ) {
        let Some(at) = self.at_key(key) else { return };
        let Some(session) = self.sessions.get_mut(at as usize) else { return };
        let Some(connection) = session.connection else { return }; // read again when the client is back
        session.is_reading = false;
        let readings = session.rare.as_mut().and_then(|rare| rare.readings.as_mut());
        let Some(readings) = readings else { return };
        let Some(reading) = readings.front_mut().filter(|reading| reading.subscription.filter == *filter)
        else {
            return;
        };
        let granted = reading.granted;
        match after {
            Some(after) => reading.after = Some(after),
            None => {
                readings.pop_front();
            }
        }
        session.tidy();
        // What it retained itself is its own too. [MQTT5-3.8.3-3]
        let is_hidden = |message: &Message| granted.options.no_local && message.publisher == Some(key);
        for message in messages.iter().filter(|message| !message.is_expired(now) && !is_hidden(message)) {
            if !self.may_read_retained(connection, &message.topic) {
                self.counters.denied_retained += 1;
                continue;
            }
            let qos = message.qos.min(granted.options.qos);
            let identifiers = if granted.identifier > 0 { vec![granted.identifier] } else { Vec::new() };
            let how = How { qos, retain: true, identifiers, group: None }; // [MQTT5-3.3.1-8]
            self.deliver_to(&mut Delivering::retained(Arc::clone(message)), at, how, now);
        }
        self.read_retained(connection);
    }
}
