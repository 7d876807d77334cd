//! Heartbeats: what silences are told of, what a device reports about its own, and what it is advised.

use super::Shard;
use crate::connection::Connection;
use crate::io::{ConnectionKey, Loss, Output};
use crate::message::Time;
use crate::networks::{Advice, Device, Leaving, Origin, Seen, Sighting};
use crate::pulse::Agreed;
use reveille_proto::heartbeat::{CONFIG_TOPIC, Gap, REPORT_TOPIC, Report};
use reveille_proto::mqtt::{Packet, Publish, PublishProperties, QoS};
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::TopicName;
use std::time::Duration;

/// What EMQX has for its clients: the payload is the interval in seconds.
const SETOPTS_TOPIC: &str = "$SETOPTS/mqtt/keepalive";

/// How long after an announced beat a connection may still be silent: a tenth of the interval within these, and what the
/// device's alarms are late.
const GRACE_MIN: Duration = Duration::from_secs(20);
const GRACE_MAX: Duration = Duration::from_secs(60);

/// A device's acknowledgement that takes so long will not come.
const ACKNOWLEDGE_MAX: Duration = Duration::from_secs(20);

/// Whether a message on this topic is about its sender's own connection, and goes nowhere: everybody may send it.
pub(super) fn is_about_itself(topic: &TopicName) -> bool {
    matches!(topic.as_str(), REPORT_TOPIC | SETOPTS_TOPIC)
}

/// The longest silence of a connection of which the next packet was announced.
fn announced(next: Gap, late_s: u16) -> Duration {
    let next = next.duration();
    next + (next / 10).clamp(GRACE_MIN, GRACE_MAX) + Duration::from_secs(u64::from(late_s))
}

impl Shard {
    /// Tells what was seen of a connection's network. Not of clients on this machine, nor of the bridge.
    pub(super) fn see(&mut self, key: ConnectionKey, seen: Seen) {
        let Some(connection) = self.connection(key) else { return };
        let Some(session) = self.session(connection.session).filter(|session| !session.is_bridge) else {
            return;
        };
        let Some(origin) = origin(connection) else { return };
        let device = Device::of(&session.app, &session.client_id);
        let is_known = connection.permission.as_ref().is_some_and(|permission| !permission.source.is_empty());
        self.outputs.push_back(Output::Seen(Box::new(Sighting { device, origin, is_known, seen })));
    }

    /// What the end of a connection says about its network, by the reason.
    pub(super) fn leaving(&self, key: ConnectionKey, reason: ReasonCode) -> Leaving {
        let Some(connection) = self.connection(key) else { return Leaving::Told };
        let silence = self.now.since(connection.last_seen);
        match reason {
            ReasonCode::KEEP_ALIVE_TIMEOUT => Leaving::Silent(connection.pulse.longest(silence)),
            ReasonCode::SESSION_TAKEN_OVER if self.is_unanswered(connection, silence) => {
                Leaving::TakenOver { idle: connection.pulse.longest_before_sent(), is_unanswered: true }
            }
            ReasonCode::SESSION_TAKEN_OVER => {
                Leaving::TakenOver { idle: connection.pulse.longest(silence), is_unanswered: false }
            }
            _ => Leaving::Told,
        }
    }

    /// The same, when the socket said it.
    pub(super) fn leaving_by(&self, key: ConnectionKey, how: Loss) -> Leaving {
        match (how, self.connection(key)) {
            (Loss::Closed, _) | (_, None) => Leaving::Told,
            (Loss::Reset, Some(_)) => Leaving::Reset,
            (Loss::Unanswered, Some(connection)) => Leaving::Silent(connection.pulse.longest_before_sent()),
        }
    }

    /// Whether the client owes an acknowledgement for so long that it cannot have got the message.
    fn is_unanswered(&self, connection: &Connection, silence: Duration) -> bool {
        let queue = self.session(connection.session).and_then(|session| session.queue.as_ref());
        let waited = connection.pulse.since_sent(silence);
        queue.is_some_and(|queue| queue.in_flight() > 0)
            && waited >= self.config.control.heartbeats.scaled(ACKNOWLEDGE_MAX)
    }

    /// A client speaks about its own heartbeat. The acknowledgement is what a PINGRESP would be.
    pub(super) fn publish_heartbeat(
        &mut self,
        key: ConnectionKey,
        publish: &Publish,
        topic: &TopicName,
        now: Time,
    ) {
        if publish.qos == QoS::ExactlyOnce {
            return self.answer(key, publish, ReasonCode::NOT_AUTHORIZED, now); // nobody needs to hear it just once
        }
        let text = std::str::from_utf8(&publish.payload).unwrap_or("\0"); // is in no report
        let is_taken = match topic.as_str() {
            REPORT_TOPIC => Report::parse(text).map(|report| self.report(key, &report)),
            _ => text.trim().parse().ok().map(|seconds| self.announce_next(key, Gap(seconds), 0)),
        };
        match is_taken {
            Some(()) => self.answer(key, publish, ReasonCode::SUCCESS, now),
            None => self.answer(key, publish, ReasonCode::PAYLOAD_FORMAT_INVALID, now),
        }
    }

    fn report(&mut self, key: ConnectionKey, report: &Report) {
        self.counters.heartbeat_reports += 1;
        self.move_to(key, report);
        let agreed = self.connection_mut(key).and_then(|connection| connection.pulse.agreed.as_mut());
        if let Some(agreed) = agreed {
            agreed.is_hopeless = report.is_hopeless;
        }
        if let Some(next) = report.next {
            self.announce_next(key, next, report.late_s);
        }
        let speed = self.config.control.heartbeats;
        for lost in report.observations.iter().filter(|seen| !seen.survived) {
            self.see(key, Seen::Claimed(speed.scaled(lost.gap.duration())));
        }
        let Some(origin) = self.connection(key).and_then(origin) else { return };
        self.outputs.push_back(Output::Advise { connection: key, origin: Box::new(origin) });
    }

    /// Whether the session's client said that its network kills connections within a minute.
    pub(super) fn is_hopeless(&self, at: u32) -> bool {
        let key = self.session(at).and_then(|session| session.connection);
        let agreed = key.and_then(|key| self.connection(key)?.pulse.agreed.as_ref());
        agreed.is_some_and(|agreed| agreed.is_hopeless)
    }

    /// The client says on which network it is: for one of 3.1.1 that is the first word about it.
    fn move_to(&mut self, key: ConnectionKey, report: &Report) {
        let Some(connection) = self.connection(key) else { return };
        let agreed = connection.pulse.agreed.as_deref();
        if agreed.is_some_and(|agreed| agreed.network.as_ref() == Some(&report.network)) {
            return;
        }
        self.see(key, Seen::Left(Leaving::Told)); // of the network that it was counted on
        if let Some(connection) = self.connection_mut(key) {
            match &mut connection.pulse.agreed {
                Some(agreed) => agreed.network = Some(report.network.clone()),
                none => *none = Some(Box::new(Agreed::on(Some(report.network.clone())))),
            }
        }
        self.see(key, Seen::Came);
    }

    /// The client will be heard of within this time: its connection need not be kept for one and a half keep alives.
    fn announce_next(&mut self, key: ConnectionKey, next: Gap, late_s: u16) {
        let length = self.config.control.heartbeats.scaled(announced(next, late_s));
        let Some(connection) = self.connection_mut(key) else { return };
        let agreed = connection.pulse.agreed.get_or_insert_with(|| Box::new(Agreed::on(None)));
        agreed.announced = (next > Gap(0)).then_some(length);
        self.arm_connection(key);
    }

    /// Tells a client what changed about its network, on the topic that it did not have to subscribe to.
    pub(super) fn advise(&mut self, key: ConnectionKey, advice: &Advice) {
        let Some(connection) = self.connection_mut(key) else { return };
        let Some(text) = connection.pulse.news(advice.config) else { return };
        let Ok(topic) = TopicName::parse(CONFIG_TOPIC) else { return };
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: Some(topic),
            packet_id: None,
            properties: PublishProperties::default(),
            payload: text.into(),
        };
        self.write(key, &Packet::Publish(Box::new(publish)));
    }
}

/// `None` for a client on this machine that came through no network.
fn origin(connection: &Connection) -> Option<Origin> {
    let address = connection.about.network.parse().ok()?;
    let network = connection.pulse.agreed.as_ref().and_then(|agreed| agreed.network.clone());
    Some(Origin { address, network })
}
