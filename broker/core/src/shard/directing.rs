//! The `$` topics: what the bridge asks the broker to do, what devices tell the bridge, and what makes an ordinary
//! message a push candidate.

use super::Shard;
use crate::io::{ConnectionKey, Output, Part, RouteTo, Ticket};
use crate::message::{Alert, Message, MessageKey, MessageProperties, Push, Time};
use bytestring::ByteString;
use reveille_proto::bridge::from_device::Kind;
use reveille_proto::bridge::{
    self, DEVICE, EVENT, FromDevice, INBOX_ASK, PUBLISH, PUSH_BODY, PUSH_COLLAPSE, PUSH_STRATEGY, PUSH_TITLE,
    Priority, Publication, REGISTER, SEND, SEND_TARGETS_MAX, Send, Strategy, WITHDRAW, Wire, Withdraw,
};
use reveille_proto::ids::{AppId, ClientId, MessageId};
use reveille_proto::mqtt::{Publish, QoS};
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::TopicName;
use std::sync::Arc;
use std::time::Duration;

impl Shard {
    /// A publish to a topic that begins with `$`: only these few are for clients. `[MQTT5-4.7.2]`
    pub(super) fn publish_system(
        &mut self,
        key: ConnectionKey,
        publish: &Publish,
        topic: TopicName,
        now: Time,
    ) {
        let is_bridge = self.session_at(key).is_some_and(|(_, session)| session.is_bridge);
        match (topic.as_str(), is_bridge) {
            (SEND, true) => self.send(key, publish, now),
            (PUBLISH, true) => self.publish_for_app(key, publish, now),
            (WITHDRAW, true) => self.send_withdraw(key, publish, now),
            (REGISTER, false) => self.relay(key, publish, Kind::Register, now),
            (EVENT, false) => self.relay(key, publish, Kind::Event, now),
            (INBOX_ASK, false) => self.relay(key, publish, Kind::Inbox, now),
            _ => self.answer(key, publish, ReasonCode::NOT_AUTHORIZED, now),
        }
    }

    fn send(&mut self, key: ConnectionKey, publish: &Publish, now: Time) {
        let decoded = Send::decode(publish.payload.clone()).ok();
        let message_key = MessageKey(self.number());
        let directed = decoded.and_then(|send| directed(send, message_key, now));
        match directed {
            Some((message, client_ids)) => {
                self.route(key, publish, Arc::new(message), RouteTo::Sessions(client_ids), now);
            }
            None => self.answer(key, publish, ReasonCode::PAYLOAD_FORMAT_INVALID, now),
        }
    }

    /// An ordinary message, which the bridge publishes for an app.
    fn publish_for_app(&mut self, key: ConnectionKey, publish: &Publish, now: Time) {
        let decoded = Publication::decode(publish.payload.clone()).ok();
        let message_key = MessageKey(self.number());
        let Some(mut message) = decoded.and_then(|publication| ordinary(publication, message_key, now))
        else {
            return self.answer(key, publish, ReasonCode::PAYLOAD_FORMAT_INVALID, now);
        };
        let levels_max = self.connection(key).map_or(0, |connection| connection.limits.topic_levels_max);
        if message.topic.levels().take(levels_max + 1).count() > levels_max {
            return self.answer(key, publish, ReasonCode::TOPIC_NAME_INVALID, now);
        }
        message.push = self.candidate(&message, now);
        self.trace_published(&message);
        self.route(key, publish, Arc::new(message), RouteTo::Subscribers, now);
    }

    fn send_withdraw(&mut self, key: ConnectionKey, publish: &Publish, now: Time) {
        let read = |withdraw: Withdraw| {
            let app = AppId::parse(&withdraw.app).ok()?;
            let id = MessageId::from_bytes(&withdraw.message_id).ok()?;
            let client_ids: Result<Vec<_>, _> =
                withdraw.client_ids.iter().map(|id| ClientId::parse(id)).collect();
            Some((app, id, client_ids.ok()?))
        };
        let Some((app, id, client_ids)) = Withdraw::decode(publish.payload.clone()).ok().and_then(read)
        else {
            return self.answer(key, publish, ReasonCode::PAYLOAD_FORMAT_INVALID, now);
        };
        let message_key = MessageKey(self.number());
        let ticket = self.owe(key, publish, message_key, now).unwrap_or(0);
        self.outputs.push_back(Output::Withdraw { app, id, client_ids, ticket });
    }

    /// Takes a message out of queues of this shard.
    pub(super) fn withdraw(
        &mut self,
        app: &AppId,
        id: MessageId,
        client_ids: &[ClientId],
        ticket: Ticket,
        now: Time,
    ) {
        let places: Vec<u32> = match client_ids {
            [] => self
                .sessions
                .iter()
                .filter(|(_, session)| session.app == *app)
                .filter_map(|(at, _)| u32::try_from(at).ok())
                .collect(),
            ids => ids.iter().filter_map(|id| self.at_client(app, id)).collect(),
        };
        self.commits.open_part(ticket);
        for at in places {
            let queue = self.session(at).and_then(|session| session.queue.as_ref());
            if let Some(seq) = queue.and_then(|queue| queue.push(&id)) {
                self.trace_place_dropped(at, seq, "withdrawn");
                self.forget(at, seq);
                self.counters.dropped_withdrawn += 1;
                self.pump(at, None, now);
            }
        }
        let part = Part { is_taken: true, ..Part::default() };
        if let Some(part) = self.commits.close_part(part) {
            self.settle(ticket, part);
        }
    }

    /// A device tells the bridge something: the broker vouches for who it is.
    fn relay(&mut self, key: ConnectionKey, publish: &Publish, kind: Kind, now: Time) {
        let Some((_, session)) = self.session_at(key) else { return };
        let from = FromDevice {
            kind: kind.into(),
            app: session.app.to_string(),
            client_id: session.client_id.to_string(),
            payload: publish.payload.clone(),
            at_ms: now.0,
        };
        let Some(message) = self.internal_message(DEVICE, from.encode_to_vec().into(), now) else { return };
        self.route(key, publish, message, RouteTo::Subscribers, now);
    }

    /// What makes a message a push candidate: its publisher's user properties, or a push rule.
    pub(super) fn candidate(&mut self, message: &Message, now: Time) -> Option<Box<Push>> {
        let push = self.candidate_by_properties(message).or_else(|| self.candidate_by_rule(message))?;
        Some(Box::new(Push { id: self.message_id(now), ..push }))
    }

    fn candidate_by_properties(&self, message: &Message) -> Option<Push> {
        let properties = &message.properties.as_ref()?.user_properties;
        let value = |name: &str| properties.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        let (title, body, strategy) = (value(PUSH_TITLE), value(PUSH_BODY), value(PUSH_STRATEGY));
        if title.is_none() && body.is_none() && strategy.is_none() {
            return None;
        }
        let text = |value: Option<&ByteString>| value.map(ToString::to_string).unwrap_or_default();
        Some(Push {
            id: MessageId([0; 16]),
            strategy: strategy.and_then(|name| Strategy::from_name(name)).unwrap_or(Strategy::OnlineFirst),
            priority: Priority::Normal,
            collapse_key: value(PUSH_COLLAPSE).cloned(),
            wait_ack: Duration::ZERO,
            alert: Some(Alert { title: text(title), body: text(body) }),
        })
    }

    fn candidate_by_rule(&self, message: &Message) -> Option<Push> {
        let applies =
            |rule: &&super::PushRule| rule.app == message.app && rule.filter.matches(&message.topic);
        let rule = self.config.push_rules.iter().find(applies)?;
        let fill = |template: &str| {
            let payload = String::from_utf8_lossy(&message.payload);
            let payload: String = payload.chars().take(ALERT_CHARS_MAX).collect();
            template.replace("{topic}", message.topic.as_str()).replace("{payload}", &payload)
        };
        Some(Push {
            id: MessageId([0; 16]),
            strategy: rule.strategy,
            priority: Priority::Normal,
            collapse_key: None,
            wait_ack: Duration::ZERO,
            alert: Some(Alert { title: fill(&rule.title), body: fill(&rule.body) }),
        })
    }
}

/// Characters of a payload that a push rule puts into an alert: no phone shows more.
const ALERT_CHARS_MAX: usize = 512;

/// Reads what the bridge sent; `None` when it is no directed message.
fn directed(send: Send, key: MessageKey, now: Time) -> Option<(Message, Vec<ClientId>)> {
    let wire = send.message?;
    if send.client_ids.len() > SEND_TARGETS_MAX {
        return None;
    }
    let client_ids: Result<Vec<ClientId>, _> = send.client_ids.iter().map(|id| ClientId::parse(id)).collect();
    let text = |text: &str| (!text.is_empty()).then(|| ByteString::from(text));
    let properties = text(&wire.content_type).map(|content_type| {
        Box::new(MessageProperties { content_type: Some(content_type), ..Default::default() })
    });
    let push = Push {
        id: MessageId::from_bytes(&wire.id).ok()?,
        strategy: Strategy::try_from(wire.strategy).ok()?,
        priority: Priority::try_from(wire.priority).ok()?,
        collapse_key: text(&wire.collapse_key),
        wait_ack: Duration::from_millis(u64::from(wire.wait_ack_ms)),
        alert: wire.alert.map(|alert| Alert { title: alert.title, body: alert.body }),
    };
    let topic = if wire.topic.is_empty() { bridge::MESSAGE } else { &wire.topic };
    let qos = u8::try_from(wire.qos).ok().and_then(QoS::from_u8)?;
    let message = Message {
        key,
        app: AppId::parse(&wire.app).ok()?,
        topic: TopicName::parse(topic.to_owned()).ok()?,
        payload: wire.payload,
        qos: qos.max(QoS::AtLeastOnce),
        retain: false,
        accepted_at: now,
        expires_at: (wire.expires_at_ms > 0).then_some(Time(wire.expires_at_ms)),
        publisher: None,
        properties,
        push: Some(Box::new(push)),
    };
    Some((message, client_ids.ok()?))
}

/// Reads what the bridge publishes for an app; `None` when it is no message of an app's.
fn ordinary(publication: Publication, key: MessageKey, now: Time) -> Option<Message> {
    let topic = TopicName::parse(publication.topic).ok().filter(|topic| !topic.as_str().starts_with('$'))?;
    let own = publication.user_properties.into_iter();
    let properties = MessageProperties {
        payload_format_indicator: None,
        response_topic: publication.response_topic.map(TopicName::parse).transpose().ok()?,
        correlation_data: publication.correlation_data,
        content_type: publication.content_type.map(ByteString::from),
        user_properties: own.map(|property| (property.name.into(), property.value.into())).collect(),
    };
    let expiry = publication.expiry_s.map(|seconds| Duration::from_secs(u64::from(seconds)));
    Some(Message {
        key,
        app: AppId::parse(&publication.app).ok()?,
        topic,
        payload: publication.payload,
        qos: u8::try_from(publication.qos).ok().and_then(QoS::from_u8)?,
        retain: publication.retain,
        accepted_at: now,
        expires_at: expiry.map(|length| now + length),
        publisher: None,
        properties: (properties != MessageProperties::default()).then(|| Box::new(properties)),
        push: None,
    })
}
