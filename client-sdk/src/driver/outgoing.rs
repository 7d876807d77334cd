//! The way out: from the app's requests through the outbox to rumqttc, and the acknowledgements back to the waiters.

use super::Driver;
use crate::client::SubscribeError;
use crate::network::{puback, pubrec, suback, unsuback};
use crate::outbox::{Kind, Stage};
use crate::payload::{INBOX_ASK_TOPIC, REGISTER_TOPIC};
use crate::publisher::PublishError;
use bytes::Bytes;
use reveille_proto::heartbeat::REPORT_TOPIC;
use reveille_proto::reason::ReasonCode;
use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Filter, Packet, PubCompReason, PubRecReason, PubRel, Publish, SubAck};
use rumqttc::v5::{AsyncClient, EventLoop, Request as RumqttcRequest};
use tokio::sync::oneshot;

/// How many filters one SUBSCRIBE restores, so that it stays small.
const FILTERS_MAX: usize = 64;

/// Something to send, on its way from a handle to the driver.
pub(crate) struct Request {
    pub kind: Kind,
    pub body: Body,
}

/// The packet of an entry, and who waits for its end. Nobody waits for what the driver itself repeats.
pub(crate) enum Body {
    Publish { publish: Publish, waiter: Option<oneshot::Sender<Result<(), PublishError>>> },
    Subscribe { filters: Vec<(String, QoS)>, waiter: Option<oneshot::Sender<Result<QoS, SubscribeError>>> },
    Unsubscribe { filter: String, waiter: oneshot::Sender<Result<(), SubscribeError>> },
}

impl Body {
    /// The size of the packet on the wire, at most. Packet identifiers count, which the packet does not have yet.
    fn size(&self) -> usize {
        match self {
            Self::Publish { publish, .. } => publish.size() + 2,
            Self::Subscribe { filters, .. } => {
                8 + filters.iter().map(|(filter, _)| filter.len() + 3).sum::<usize>()
            }
            Self::Unsubscribe { filter, .. } => 8 + filter.len() + 2,
        }
    }

    /// Tells the waiter, if it still waits.
    fn end_publish(self, result: Result<(), PublishError>) {
        if let Self::Publish { waiter: Some(waiter), .. } = self {
            let _ = waiter.send(result);
        }
    }

    fn end_question(self, result: Result<QoS, SubscribeError>) {
        match self {
            Self::Subscribe { waiter: Some(waiter), .. } => drop(waiter.send(result)),
            Self::Unsubscribe { waiter, .. } => drop(waiter.send(result.map(|_| ()))),
            Self::Subscribe { waiter: None, .. } | Self::Publish { .. } => {}
        }
    }

    fn too_large(self, size: usize, max: usize) {
        match self {
            Self::Publish { .. } => self.end_publish(Err(PublishError::TooLarge { size, max })),
            Self::Subscribe { .. } | Self::Unsubscribe { .. } => {
                self.end_question(Err(SubscribeError::Refused(ReasonCode::PACKET_TOO_LARGE)));
            }
        }
    }

    /// The broker forgot the session between PUBREC and PUBCOMP.
    pub fn outcome_unknown(self) {
        self.end_publish(Err(PublishError::OutcomeUnknown));
    }

    /// The client closes.
    pub fn close(self) {
        match self {
            Self::Publish { .. } => self.end_publish(Err(PublishError::Closed)),
            Self::Subscribe { .. } | Self::Unsubscribe { .. } => {
                self.end_question(Err(SubscribeError::Closed))
            }
        }
    }
}

impl Driver {
    pub(super) fn take(&mut self, request: Request) {
        self.outbox.push(request.kind, request.body);
        self.submit();
    }

    /// A beat with something to tell; it comes before what waits, since the connection's life hangs on it.
    pub(super) fn report(&mut self, text: String) {
        let publish = Publish::new(REPORT_TOPIC, QoS::AtLeastOnce, text, None);
        self.outbox.push_front(Kind::AtLeastOnce, Body::Publish { publish, waiter: None });
        self.submit();
    }

    /// Asks how much of the user's inbox is unread; nobody waits for it.
    pub(super) fn ask_for_counts(&mut self) {
        if !self.watching.queue() {
            return;
        }
        let publish = Publish::new(INBOX_ASK_TOPIC, QoS::AtLeastOnce, "{}", None);
        self.outbox.push(Kind::AtLeastOnce, Body::Publish { publish, waiter: None });
        self.submit();
    }

    /// Hands over what the window allows.
    pub(super) fn submit(&mut self) {
        let Some(online) = &mut self.online else {
            return;
        };
        while let Some(size) = self.outbox.front().map(Body::size) {
            if size > online.packet_size_max {
                // rumqttc would end the connection at this packet, now and after each reconnect.
                if let Some(body) = self.outbox.reject_front() {
                    body.too_large(size, online.packet_size_max);
                }
                continue;
            }
            let Some((_, _, body)) = self.outbox.next_new() else {
                return;
            };
            online.is_broken |= !hand_over(&self.rumqttc, body);
            online.unwritten += 1;
        }
    }

    /// Puts what the last connection left unacknowledged before everything else.
    pub(super) fn repeat(&mut self, event_loop: &mut EventLoop) {
        let Some(online) = &mut self.online else {
            return;
        };
        let packet_size_max = online.packet_size_max;
        let mut too_large = Vec::new();
        while let Some((packet_id, stage, body)) = self.outbox.next_repeated() {
            let Body::Publish { publish, .. } = body else {
                continue; // questions are asked anew, not repeated
            };
            if stage == Stage::Released {
                event_loop.pending.push_back(RumqttcRequest::PubRel(PubRel::new(packet_id, None)));
            } else if body.size() > packet_size_max {
                too_large.push((packet_id, kind_of(publish.qos)));
            } else {
                let repeated = Publish { pkid: packet_id, dup: true, ..publish.clone() }; // [MQTT5-3.3.1-1]
                event_loop.pending.push_back(RumqttcRequest::Publish(repeated));
                online.unwritten += 1;
            }
        }
        for (packet_id, kind) in too_large {
            if let Some(body) = self.outbox.done(packet_id, kind) {
                body.outcome_unknown();
            }
        }
    }

    /// rumqttc wrote something: a publish with QoS 0 is done with that.
    pub(super) fn on_written(&mut self, outgoing: &Outgoing) {
        if let Outgoing::Publish(packet_id)
        | Outgoing::Subscribe(packet_id)
        | Outgoing::Unsubscribe(packet_id) = outgoing
            && let Some(body) = self.outbox.written(*packet_id)
        {
            body.end_publish(Ok(()));
        }
    }

    /// Every packet of the broker after CONNACK.
    pub(super) fn on_packet(&mut self, packet: Packet) {
        match packet {
            Packet::Publish(publish) => self.on_publish(&publish),
            Packet::PubAck(ack) => self.publish_done(ack.pkid, Kind::AtLeastOnce, puback(ack.reason)),
            Packet::PubRec(ack) => self.on_pubrec(ack.pkid, ack.reason),
            Packet::PubComp(ack) => {
                // An unknown identifier means that the broker had finished before: the message went through.
                if ack.reason != PubCompReason::Success {
                    self.note_leak();
                }
                self.publish_done(ack.pkid, Kind::ExactlyOnce, ReasonCode::SUCCESS);
            }
            Packet::PubRel(release) => self.received.released(release.pkid),
            Packet::SubAck(ack) => self.on_suback(&ack),
            Packet::UnsubAck(ack) => {
                let reason =
                    ack.reasons.first().map_or(ReasonCode::UNSPECIFIED_ERROR, |reason| unsuback(*reason));
                self.on_unsuback(ack.pkid, reason);
            }
            // The others are not for clients, or carry nothing for the app.
            _ => {}
        }
    }

    fn on_pubrec(&mut self, packet_id: u16, reason: PubRecReason) {
        let reason = pubrec(reason);
        if reason.is_failure() {
            self.note_leak();
            self.publish_done(packet_id, Kind::ExactlyOnce, reason);
        } else {
            self.outbox.received(packet_id);
        }
    }

    fn publish_done(&mut self, packet_id: u16, kind: Kind, reason: ReasonCode) {
        let Some(body) = self.outbox.done(packet_id, kind) else {
            return;
        };
        let result = if reason.is_failure() { Err(PublishError::Refused(reason)) } else { Ok(()) };
        let mut is_asked_again = false;
        if matches!(&body, Body::Publish { publish, waiter: None } if publish.topic == INBOX_ASK_TOPIC) {
            is_asked_again = self.watching.acknowledged();
        }
        if let Body::Publish { publish, .. } = &body
            && result.is_ok()
        {
            if publish.topic == REGISTER_TOPIC {
                self.registration = Some(publish.payload.clone());
            } else if publish.topic == REPORT_TOPIC {
                self.heartbeat.report_acknowledged();
            }
        }
        body.end_publish(result);
        if is_asked_again {
            self.ask_for_counts();
        }
    }

    fn on_suback(&mut self, ack: &SubAck) {
        let Some(body) = self.outbox.done(ack.pkid, Kind::Question) else {
            return;
        };
        let Body::Subscribe { filters, waiter } = body else {
            return;
        };
        let reasons = ack.return_codes.iter().map(|code| suback(*code));
        let mut last = ReasonCode::UNSPECIFIED_ERROR;
        for ((filter, qos), reason) in filters.into_iter().zip(reasons) {
            last = reason;
            if reason.is_failure() {
                tracing::warn!(%filter, %reason, "a subscription was refused");
                self.subscriptions.remove(&filter);
            } else {
                self.subscriptions.insert(filter, qos);
            }
        }
        if let Some(waiter) = waiter {
            let _ = waiter.send(granted(last));
        }
    }

    fn on_unsuback(&mut self, packet_id: u16, reason: ReasonCode) {
        let Some(body) = self.outbox.done(packet_id, Kind::Question) else {
            return;
        };
        if let Body::Unsubscribe { filter, .. } = &body
            && !reason.is_failure()
        {
            self.subscriptions.remove(filter);
        }
        let is_refused = reason.is_failure();
        body.end_question(if is_refused {
            Err(SubscribeError::Refused(reason))
        } else {
            Ok(QoS::AtMostOnce)
        });
    }

    /// The broker lost the session: subscriptions and registration come before everything that waits.
    pub(super) fn restore_session(&mut self) {
        if let Some(payload) = self.registration.clone() {
            let publish = Publish::new(REGISTER_TOPIC, QoS::AtLeastOnce, payload, None);
            self.outbox.push_front(Kind::AtLeastOnce, Body::Publish { publish, waiter: None });
        }
        let all: Vec<_> = self.subscriptions.iter().map(|(filter, qos)| (filter.clone(), *qos)).collect();
        for filters in all.chunks(FILTERS_MAX) {
            self.outbox
                .push_front(Kind::Question, Body::Subscribe { filters: filters.to_vec(), waiter: None });
        }
    }

    fn note_leak(&mut self) {
        if let Some(online) = &mut self.online {
            online.leaked = online.leaked.saturating_add(1);
        }
    }
}

/// The kind of a publish with this QoS.
pub(crate) fn kind_of(qos: QoS) -> Kind {
    match qos {
        QoS::AtMostOnce => Kind::AtMostOnce,
        QoS::AtLeastOnce => Kind::AtLeastOnce,
        QoS::ExactlyOnce => Kind::ExactlyOnce,
    }
}

fn granted(reason: ReasonCode) -> Result<QoS, SubscribeError> {
    match reason {
        ReasonCode::SUCCESS => Ok(QoS::AtMostOnce),
        ReasonCode::GRANTED_QOS_1 => Ok(QoS::AtLeastOnce),
        ReasonCode::GRANTED_QOS_2 => Ok(QoS::ExactlyOnce),
        refused => Err(SubscribeError::Refused(refused)),
    }
}

/// Gives a packet to rumqttc's channel, which has room for the whole window. Says whether it took it.
fn hand_over(rumqttc: &AsyncClient, body: &Body) -> bool {
    let result = match body {
        Body::Publish { publish, .. } => {
            let topic = String::from_utf8_lossy(&publish.topic);
            let payload: Bytes = publish.payload.clone();
            let properties = publish.properties.clone().unwrap_or_default();
            rumqttc.try_publish_with_properties(topic, publish.qos, publish.retain, payload, properties)
        }
        Body::Subscribe { filters, .. } => {
            let filters = filters.iter().map(|(filter, qos)| Filter::new(filter.clone(), *qos));
            rumqttc.try_subscribe_many(filters)
        }
        Body::Unsubscribe { filter, .. } => rumqttc.try_unsubscribe(filter),
    };
    result.is_ok()
}
