//! CONNECT becomes a connection of a session: clean or resumed, new or taken over.

use super::Shard;
use crate::change::{Change, StoredWill};
use crate::commits::Wait;
use crate::connection::{Connection, server_keep_alive};
use crate::handshake::refusal;
use crate::io::{ConnectionKey, Identity, IndexChange, Opening, Output};
use crate::message::{Message, MessageKey, MessageProperties, SessionKey, Time};
use crate::networks::Seen;
use crate::session::Session;
use crate::trace::Traced;
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use reveille_proto::bridge::presence::Kind;
use reveille_proto::mqtt::{
    ConnAck, ConnAckProperties, Connect, Packet, PublishProperties, QoS, Version, Will,
};
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::TopicName;
use std::sync::Arc;
use std::time::Duration;

/// What CONNACK will say; kept until it may be written.
pub(super) struct Granting {
    session_present: bool,
    /// Nothing may leave before a stored session was dropped.
    must_wait: bool,
    /// A stored session with messages goes on. What is sent before the disk knows that the client is there would look unsent after a
    /// crash: the next PUBLISH had no DUP, and a QoS 2 message could expire in the middle of its delivery.
    resumes: bool,
}

impl Shard {
    pub(super) fn open(&mut self, key: ConnectionKey, opening: Opening, now: Time) {
        if !is_answerable(&opening) {
            return self.turn_away(key, &opening, ReasonCode::PACKET_TOO_LARGE);
        }
        let client = (opening.identity.app.clone(), opening.client_id.clone());
        let known = self.at_client(&client.0, &client.1);
        if let Some(connection) = known.and_then(|at| self.session(at)?.connection) {
            self.take_over(connection, now);
        }
        let mut granting = Granting { session_present: false, must_wait: false, resumes: false };
        // The take-over ended a session that lives no longer than its connection.
        let known = self.at_client(&client.0, &client.1);
        if !self.admits(&opening, known.is_none()) {
            self.counters.refused_app_full += 1;
            return self.turn_away(key, &opening, ReasonCode::QUOTA_EXCEEDED);
        }
        let at = match known {
            Some(at) if !self.must_start_clean(at, &opening.connect, now) => {
                granting.session_present = true;
                granting.resumes =
                    self.session(at).is_some_and(|session| session.is_stored && session.queue.is_some());
                at
            }
            Some(at) => {
                granting.must_wait = self.session(at).is_some_and(|session| session.is_stored);
                self.end_session(at, now); // [MQTT5-3.1.2-4]
                self.count_app(&client.0, |usage| usage.sessions.add(1));
                self.create_session(&opening)
            }
            None => self.create_session(&opening),
        };
        self.attach(key, at, &opening, granting, now);
    }

    /// Closes a connection before it becomes one of a session.
    fn turn_away(&mut self, key: ConnectionKey, opening: &Opening, reason: ReasonCode) {
        self.counters.protocol_errors += 1;
        let mut unsent = BytesMut::new();
        let refusal = Packet::ConnAck(Box::new(refusal(reason)));
        if refusal.write(opening.connect.version, &mut unsent).is_err() || !fits(opening, unsent.len()) {
            unsent.clear();
        }
        self.outputs.push_back(Output::Close { connection: key, unsent, reason });
    }

    fn must_start_clean(&self, at: u32, connect: &Connect, now: Time) -> bool {
        let is_over = |session: &Session| session.ends_at().is_some_and(|end| end <= now);
        connect.clean_start || self.session(at).is_none_or(is_over)
    }

    fn create_session(&mut self, opening: &Opening) -> u32 {
        let key = SessionKey(self.number());
        let app = opening.identity.app.clone();
        let session = Session::new(key, app, opening.client_id.clone(), Arc::clone(&opening.limits));
        self.counters.sessions += 1;
        self.directory.insert(&mut self.sessions, session)
    }

    fn attach(&mut self, key: ConnectionKey, at: u32, opening: &Opening, granting: Granting, now: Time) {
        let epoch = self.epoch();
        let expiry = granted_expiry(opening);
        let will_key = MessageKey(self.number());
        let Some(session) = self.sessions.get_mut(at as usize) else { return };
        session.epoch = epoch;
        session.limits = Arc::clone(&opening.limits);
        session.connection = Some(key);
        session.expiry_interval = expiry;
        session.is_bridge = opening.identity.is_bridge;
        session.is_durable |= expiry > 0;
        let will = opening.connect.will.as_ref().map(|will| Box::new(stored_will(session, will_key, will)));
        let (had_will, has_will) = (session.will().is_some(), will.is_some());
        if had_will || has_will {
            session.rare_mut().will = will;
        }
        session.is_stored |= expiry > 0 || has_will;
        let wait = match granting.must_wait || has_will || had_will {
            true => Some(Wait::Open(key)),
            false => granting.resumes.then_some(Wait::Resume(key)),
        };
        let open_before = session.received().map_or(0, |received| received.len());
        let heartbeats = self.config.control.heartbeats;
        let mut connection = Connection::new(key.generation, at, opening, heartbeats, now);
        connection.open_before = u16::try_from(open_before).unwrap_or(u16::MAX);
        let mut connack = connack(opening, granting.session_present);
        let bare = connack.clone();
        connack.properties.response_information = self.response_information(opening);
        connack.properties.user_properties.extend(connection.pulse.first_advice(opening));
        if !connack_fits(opening, &connack) {
            connack = bare; // only these may be left out, see `is_answerable`
        }
        let connack = Packet::ConnAck(Box::new(connack));
        self.put_record(at);
        self.insert_connection(key, connection);
        self.counters.connects += 1;
        self.counters.sessions_online += 1;
        // CONNACK goes into the buffer now and leaves when the connection opens: nothing can overtake it.
        if let Some(connection) = self.connection_mut(key) {
            connection.write(&connack);
            connection.is_paused = wait.is_some();
        }
        self.counters.packets_received_connect += 1;
        self.counters.count_sent(&connack);
        self.trace(at, None, || Traced::Connected {
            version: opening.connect.version,
            network: opening.network.clone(),
            keep_alive: opening.connect.keep_alive,
            session_present: granting.session_present,
        });
        self.see(key, Seen::Came);
        self.say_presence(at, Kind::Connected, ReasonCode::SUCCESS, &opening.network, now);
        match wait {
            Some(wait) => {
                self.outputs.push_back(Output::PauseReading(key));
                self.when_durable(wait, now);
            }
            None => self.opened(key, now),
        }
    }

    fn insert_connection(&mut self, key: ConnectionKey, connection: Connection) {
        let index = key.index as usize;
        if self.connections.len() <= index {
            self.connections.resize_with(index + 1, || None);
        }
        if let Some(place) = self.connections.get_mut(index) {
            *place = Some(connection);
        }
        self.arm_connection(key);
    }

    /// CONNACK may leave: the session is as durable as it has to be.
    pub(super) fn opened(&mut self, key: ConnectionKey, now: Time) {
        let Some(connection) = self.connection_mut(key) else { return };
        connection.is_open = true;
        let early = std::mem::take(&mut connection.early);
        self.touch(key);
        self.update_reading(key);
        self.members_online(key, 1);
        self.auto_subscribe(key);
        self.revoke_subscriptions(key);
        if let Some((at, session)) = self.session_at(key) {
            session.is_loading = false;
            session.is_reading = false;
            self.pump(at, None, now);
            self.read_retained(key);
        }
        for packet in early {
            self.packet(key, packet, now);
        }
    }

    pub(super) fn members_online(&mut self, key: ConnectionKey, change: i32) {
        let Some((at, session)) = self.session_at(key) else { return };
        let app = session.app.clone();
        let shared: Vec<_> =
            session.in_groups().iter().map(|(subscription, _)| subscription.clone()).collect();
        for subscription in shared {
            if let (true, Some(group), Some(groups)) =
                (change > 0, &subscription.group, self.shared.get_mut(&app))
            {
                groups.favour(group, &subscription.filter, at);
            }
            self.outputs.push_back(Output::Index(IndexChange::Online(app.clone(), subscription, change)));
        }
    }

    /// Where the client may let itself be answered, for one that asks. `[MQTT5-3.1.2-28]`
    fn response_information(&self, opening: &Opening) -> Option<ByteString> {
        let is_asked = opening.connect.properties.request_response_information == Some(true);
        let template = self.config.control.response_information.as_ref().filter(|_| is_asked)?;
        template.fill(opening.client_id.as_str(), opening.identity.user.as_deref()).map(ByteString::from)
    }

    /// The same client came on another connection. `[MQTT5-3.1.4-3]`
    fn take_over(&mut self, old: ConnectionKey, now: Time) {
        self.counters.take_overs += 1;
        let leaving = self.leaving(old, ReasonCode::SESSION_TAKEN_OVER); // before the goodbye ends the silence
        self.say_goodbye(old, ReasonCode::SESSION_TAKEN_OVER);
        self.end_connection_as(old, ReasonCode::SESSION_TAKEN_OVER, leaving, true, now);
    }

    pub(super) fn disconnect(
        &mut self,
        key: ConnectionKey,
        disconnect: &reveille_proto::mqtt::Disconnect,
        now: Time,
    ) {
        if is_servers_word(disconnect.reason) {
            return self.refuse(key, ReasonCode::PROTOCOL_ERROR, now);
        }
        if let Some(expiry) = disconnect.session_expiry_interval {
            let Some((_, session)) = self.session_at(key) else { return };
            let limit = if session.is_bridge { u32::MAX } else { session.limits.session_expiry_max };
            if session.expiry_interval == 0 && expiry > 0 {
                return self.refuse(key, ReasonCode::PROTOCOL_ERROR, now); // [MQTT5-3.14.2-2]
            }
            session.expiry_interval = expiry.min(limit);
        }
        let publishes_will = disconnect.reason != ReasonCode::SUCCESS; // 0x04 and every failure, [MQTT5-3.14.4-3]
        self.end_connection(key, disconnect.reason, publishes_will, now);
    }
}

/// Reasons of DISCONNECT that only a server has: the column "sent by" of the table in section 3.14.2.1.
fn is_servers_word(reason: ReasonCode) -> bool {
    matches!(reason.get(), 0x87 | 0x89 | 0x8B..=0x8F | 0x9A..=0xA2)
}

/// What the client may expect of us. Limits that are the standard's own defaults are left out.
/// Whether the client's maximum packet size has room for the CONNACK that it would get. What does not fit cannot be sent
/// [MQTT5-3.1.2-24], and a client that does not hear our limits would break them.
fn is_answerable(opening: &Opening) -> bool {
    connack_fits(opening, &connack(opening, false))
}

fn connack_fits(opening: &Opening, connack: &ConnAck) -> bool {
    let mut bytes = BytesMut::new();
    let packet = Packet::ConnAck(Box::new(connack.clone()));
    packet.write(opening.connect.version, &mut bytes).is_ok() && fits(opening, bytes.len())
}

fn fits(opening: &Opening, size: usize) -> bool {
    let max = opening.connect.properties.maximum_packet_size;
    max.is_none_or(|max| u32::try_from(size).is_ok_and(|size| size <= max))
}

fn connack(opening: &Opening, session_present: bool) -> ConnAck {
    let (wanted, expiry) = (wanted_expiry(&opening.connect), granted_expiry(opening));
    let (limits, offered) = (&opening.limits, &opening.limits.offered);
    let unless = |is_offered: bool| (!is_offered).then_some(false);
    let properties = ConnAckProperties {
        session_expiry_interval: (wanted != expiry).then_some(expiry),
        receive_maximum: Some(limits.receive_maximum),
        maximum_qos: Some(offered.maximum_qos).filter(|qos| *qos < QoS::ExactlyOnce), // [MQTT5-3.2.2-9]
        retain_available: unless(offered.retain),
        maximum_packet_size: Some(limits.packet_size_max),
        assigned_client_identifier: opening.is_assigned.then(|| opening.client_id.as_str().into()),
        topic_alias_maximum: Some(limits.topic_alias_max),
        wildcard_subscription_available: unless(offered.wildcard_subscription),
        subscription_identifiers_available: unless(offered.subscription_identifiers),
        shared_subscription_available: unless(offered.shared_subscription),
        server_keep_alive: server_keep_alive(opening),
        authentication_method: opening.connect.properties.authentication_method.clone(), // [MQTT5-4.12.0-5]
        authentication_data: opening.authentication_data.clone(),
        ..ConnAckProperties::default()
    };
    ConnAck { session_present, reason: ReasonCode::SUCCESS, properties }
}

/// Seconds that the client wants its session to outlive the connection.
fn wanted_expiry(connect: &Connect) -> u32 {
    match connect.version {
        Version::V5 => connect.properties.session_expiry_interval.unwrap_or(0),
        Version::V3_1 | Version::V3_1_1 if connect.clean_start => 0,
        Version::V3_1 | Version::V3_1_1 => u32::MAX,
    }
}

/// Seconds that it will.
fn granted_expiry(opening: &Opening) -> u32 {
    let wanted = wanted_expiry(&opening.connect);
    match opening.identity {
        Identity { is_bridge: true, .. } => wanted,
        Identity { .. } => wanted.min(opening.limits.session_expiry_max),
    }
}

/// A will with its expiry counted from 1970: publishing it moves both times to then.
fn stored_will(session: &Session, key: MessageKey, will: &Will) -> StoredWill {
    let expiry = will.properties.message_expiry_interval;
    let message = Message {
        key,
        app: session.app.clone(),
        topic: own_topic(&will.topic),
        payload: Bytes::copy_from_slice(&will.payload),
        qos: will.qos,
        retain: will.retain,
        accepted_at: Time(0),
        expires_at: expiry.map(|seconds| Time(0) + Duration::from_secs(u64::from(seconds))),
        publisher: Some(session.key),
        properties: forwarded(&will.properties),
        push: None,
    };
    StoredWill { message, delay_interval: will.delay_interval.unwrap_or(0) }
}

/// A topic with bytes of its own: a packet's fields are slices of what was read from the socket, up to 64 KiB that a
/// single one of them would keep in memory.
pub(super) fn own_topic(topic: &TopicName) -> TopicName {
    TopicName::parse(topic.as_str().to_owned()).unwrap_or_else(|_| topic.clone())
}

/// The properties that receivers get unchanged, with bytes of their own; `None` when there are none.
pub(super) fn forwarded(properties: &PublishProperties) -> Option<Box<MessageProperties>> {
    let own = |text: &ByteString| ByteString::from(text.to_string());
    let user_properties = properties.user_properties.iter().map(|(name, value)| (own(name), own(value)));
    let forwarded = MessageProperties {
        payload_format_indicator: properties.payload_format_indicator,
        response_topic: properties.response_topic.as_ref().map(own_topic),
        correlation_data: properties.correlation_data.as_deref().map(Bytes::copy_from_slice),
        content_type: properties.content_type.as_ref().map(own),
        user_properties: user_properties.collect(),
    };
    (forwarded != MessageProperties::default()).then(|| Box::new(forwarded))
}

/// Drops what was never stored when a session becomes clean; used by tests and recovery too.
pub(super) fn drop_session(session: &Session) -> Option<Change> {
    session.is_stored.then_some(Change::DropSession { session: session.key })
}
