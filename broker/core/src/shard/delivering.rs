//! A publish reaches this shard: who gets it now, who gets a place in a queue, and what must become durable.

use super::Shard;
use super::publishing::{Kind as PublishKind, Publishing};
use crate::change::{Change, Entry, Granted, Phase, PushEntry, RareEntry};
use crate::commits::Wait;
use crate::io::{Delivery, Output, Part, Pick, Recipients, RouteTo, Share, Ticket};
use crate::limits::QueueFull;
use crate::message::{Message, MessageKey, Push, Seq, SessionKey, Time};
use crate::queue::{Group, Slot};
use crate::session::Session;
use crate::trace::Traced;
use reveille_proto::bridge::{Device, PUSH_ID, Strategy};
use reveille_proto::ids::{AppId, Epoch};
use reveille_proto::mqtt::{Publish, PublishFrame, PublishProperties, QoS, Version};
use std::sync::Arc;

/// One publish while it is given to the sessions of this shard.
pub(super) struct Delivering {
    pub message: Arc<Message>,
    pub frames: Frames,
    part: Part,
    /// QoS 2: facts go to the shard that asked instead of into our own batch.
    collects: bool,
    offline: Vec<Device>,
    is_retained: bool,
    /// A session had the message already: its place may not be durable yet.
    waits_for_known: bool,
}

/// The encoded forms of one message that several receivers share: by version and QoS.
#[derive(Default)]
pub(super) struct Frames {
    frames: [Option<PublishFrame>; 6],
}

/// How one session gets a message.
#[derive(Clone, Debug, Default)]
pub(super) struct How {
    pub qos: QoS,
    pub retain: bool,
    pub identifiers: Vec<u32>,
    pub group: Option<Group>,
}

impl How {
    fn of(message: &Message, granted: Granted) -> Self {
        let identifiers = if granted.identifier > 0 { vec![granted.identifier] } else { Vec::new() };
        let retain = message.retain && granted.options.retain_as_published; // [MQTT5-3.3.1-12]
        Self { qos: message.qos.min(granted.options.qos), retain, identifiers, group: None }
    }

    /// Another subscription of the same session matches too: one delivery with the higher QoS. `[MQTT5-3.3.4-2]`
    fn merge(&mut self, other: How) {
        self.qos = self.qos.max(other.qos);
        self.retain |= other.retain;
        self.identifiers.extend(other.identifiers);
    }
}

impl Delivering {
    pub fn new(message: Arc<Message>) -> Self {
        let collects = message.qos == QoS::ExactlyOnce;
        Self {
            message,
            frames: Frames::default(),
            part: Part::default(),
            collects,
            offline: Vec::new(),
            is_retained: false,
            waits_for_known: false,
        }
    }

    /// For retained messages that a new subscription gets: nobody waits for it.
    pub fn retained(message: Arc<Message>) -> Self {
        Self { collects: false, is_retained: true, ..Self::new(message) }
    }
}

impl Frames {
    /// The shared frame, encoded at its first use; `None` when the message is too large for the format.
    pub fn get(&mut self, message: &Message, version: Version, qos: QoS, now: Time) -> Option<&PublishFrame> {
        let at = usize::from(version == Version::V5) * 3 + usize::from(qos as u8);
        let place = self.frames.get_mut(at)?;
        if place.is_none() {
            *place = PublishFrame::encode(version, &publish_of(message, qos, &[], version, now)).ok();
        }
        place.as_ref()
    }
}

/// The packet that a receiver gets. Message expiry is counted down by the time that the message waited.
/// `[MQTT5-3.3.2-6]`
pub(super) fn publish_of(
    message: &Message,
    qos: QoS,
    identifiers: &[u32],
    version: Version,
    now: Time,
) -> Publish {
    let mut properties = PublishProperties::default();
    if version == Version::V5 {
        if let Some(forwarded) = &message.properties {
            properties.payload_format_indicator = forwarded.payload_format_indicator;
            properties.response_topic = forwarded.response_topic.clone();
            properties.correlation_data = forwarded.correlation_data.clone();
            properties.content_type = forwarded.content_type.clone();
            properties.user_properties = forwarded.user_properties.clone();
        }
        let left = message.expires_at.map(|end| end.since(now).as_millis().div_ceil(1000));
        properties.message_expiry_interval = left.map(|left| u32::try_from(left).unwrap_or(u32::MAX));
        properties.subscription_identifiers = identifiers.to_vec();
        if let Some(push) = &message.push {
            properties.user_properties.push((PUSH_ID.into(), push.id.to_string().into()));
        }
    }
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: Some(message.topic.clone()),
        packet_id: None,
        properties,
        payload: message.payload.clone(),
    }
}

impl Shard {
    pub(super) fn deliver(&mut self, delivery: Delivery, now: Time) {
        let Delivery { message, ticket, to } = delivery;
        let mut delivering = Delivering::new(message);
        self.commits.open_part(ticket);
        match to {
            Recipients::Subscribers { plain, groups, retain } => {
                if retain {
                    self.keep_retained(&mut delivering, ticket, now);
                }
                if plain {
                    self.deliver_to_subscribers(&mut delivering, now);
                }
                for share in groups {
                    self.deliver_to_group(&mut delivering, ticket, Arc::new(share), now);
                }
            }
            Recipients::Sessions(client_ids) => {
                for client_id in client_ids {
                    let client = (delivering.message.app.clone(), client_id);
                    match self.at_client(&client.0, &client.1) {
                        Some(at) if !self.is_over(at, now) => self.deliver_directed(&mut delivering, at, now),
                        _ => {
                            self.counters.directed_without_session += 1;
                            delivering.part.is_taken = true; // the bridge hears of it and knows what to do
                            let device = crate::presence::device(&client.1, Epoch(0));
                            delivering.offline.push(device);
                        }
                    }
                }
            }
        }
        self.announce_queued(&mut delivering, now);
        match self.commits.close_part(delivering.part) {
            Some(part) if delivering.waits_for_known => self.when_durable(Wait::Settle(ticket, part), now),
            Some(part) => self.settle(ticket, part),
            None => {} // when its own places are durable, those of earlier batches are too
        }
    }

    fn is_over(&self, at: u32, now: Time) -> bool {
        self.session(at).is_none_or(|session| session.ends_at().is_some_and(|end| end <= now))
    }

    fn deliver_directed(&mut self, delivering: &mut Delivering, at: u32, now: Time) {
        let how = How { qos: delivering.message.qos, ..How::default() };
        self.deliver_to(delivering, at, how, now);
    }

    fn deliver_to_subscribers(&mut self, delivering: &mut Delivering, now: Time) {
        let message = &delivering.message;
        let Some(index) = self.subscriptions.get(&message.app) else { return };
        let mut receivers: Vec<(u32, How)> = Vec::new();
        let mut hidden_from = None;
        let sessions = &self.sessions;
        index.for_each_match(&message.topic, &mut |at: u32, granted: &Granted| {
            let is_own = |session: &Session| Some(session.key) == message.publisher;
            let is_hidden = granted.options.no_local && sessions.get(at as usize).is_some_and(is_own);
            if is_hidden {
                hidden_from = Some(at);
            } else {
                receivers.push((at, How::of(message, *granted)));
            }
        });
        if let Some(at) = hidden_from {
            self.trace_dropped(at, Some(&delivering.message.topic), "no_local");
        }
        receivers.sort_by_key(|(at, _)| *at); // stable: a session's overlapping subscriptions come together
        receivers.dedup_by(|later, earlier| {
            let is_same = later.0 == earlier.0;
            if is_same {
                earlier.1.merge(std::mem::take(&mut later.1));
            }
            is_same
        });
        for (at, how) in receivers {
            self.deliver_to(delivering, at, how, now);
        }
    }

    fn deliver_to_group(&mut self, delivering: &mut Delivering, ticket: Ticket, group: Group, now: Time) {
        let app = delivering.message.app.clone();
        let (sessions, connections) = (&self.sessions, &self.connections);
        let is_online = |at: u32| {
            let key = sessions.get(at as usize).and_then(|session| session.connection);
            key.and_then(|key| connections.get(key.index as usize)?.as_ref()).is_some_and(|to| to.is_open)
        };
        let load = |at: u32| sessions.get(at as usize).map_or(0, |session| session.queue_len());
        let Share { group: name, filter, pick } = &*group;
        let chosen = self.shared.get_mut(&app).and_then(|shared| match pick {
            Pick::Turn => shared.choose(name, filter, is_online),
            Pick::Hash(hash) => shared.hashed(name, filter, *hash, is_online),
            Pick::Least(_) => shared.least(name, filter, load, is_online),
        });
        let Some((at, granted)) = chosen else {
            self.uncount(&app, &group);
            return self.pass_on(delivering, ticket, &group);
        };
        let how = How { group: Some(Arc::clone(&group)), ..How::of(&delivering.message, granted) };
        let queued_before = self.counters.queued;
        self.deliver_to(delivering, at, how, now);
        if self.counters.queued == queued_before {
            self.uncount(&app, &group); // QoS 0, or refused: nobody will acknowledge it
        }
    }

    /// The router counted a message for this group that is over.
    pub(super) fn uncount(&mut self, app: &AppId, group: &Group) {
        if group.pick == Pick::Least(true) {
            self.outputs.push_back(Output::Release { app: app.clone(), share: Arc::clone(group) });
        }
    }

    /// The last member here left while the message was on its way: the router looks for another shard.
    fn pass_on(&mut self, delivering: &mut Delivering, asked: Ticket, group: &Group) {
        let message = Arc::clone(&delivering.message);
        let ticket = match asked.number {
            0 => 0,
            _ => {
                delivering.part.more += 1;
                self.ticket(Publishing::internal(&message, PublishKind::Forwarded(asked)))
            }
        };
        let to = RouteTo::Group(group.group.clone(), group.filter.clone());
        self.outputs.push_back(Output::Route { message, ticket, to });
    }

    /// One session gets the message, by socket, queue or both.
    pub(super) fn deliver_to(&mut self, delivering: &mut Delivering, at: u32, how: How, now: Time) {
        if how.qos > QoS::AtMostOnce {
            return self.enqueue(delivering, at, how, now);
        }
        let Some(session) = self.session(at) else { return };
        match session.connection {
            Some(_) => self.send_at_most_once(delivering, at, &how, now),
            None => {
                self.counters.dropped_offline_qos0 += 1;
                self.trace_dropped(at, Some(&delivering.message.topic), "offline_qos0");
            }
        }
        delivering.part.is_taken = true;
    }

    fn enqueue(&mut self, delivering: &mut Delivering, at: u32, how: How, now: Time) {
        let message = Arc::clone(&delivering.message);
        if let Some(push) = &message.push
            && !delivering.is_retained
            && !self.accepts_push(delivering, at, push, now)
        {
            return;
        }
        if !delivering.is_retained && !self.make_room(at, message.size(), now) {
            self.counters.refused_queue_full += 1;
            self.trace_dropped(at, Some(&message.topic), "refused_queue_full");
            delivering.part.is_refused = true;
            return;
        }
        delivering.part.is_taken = true;
        let (wait_ack, look_ahead) = (self.config.limits.wait_ack, self.config.limits.look_ahead_max);
        // Where connections die within a minute nobody waits for this one.
        let is_hopeless = message.push.is_some() && self.is_hopeless(at);
        let Some(session) = self.sessions.get_mut(at as usize) else { return };
        let age_end = now + session.limits.queue_age_max;
        let is_online = session.connection.is_some();
        let push = message.push.as_ref().filter(|_| !delivering.is_retained).map(|push| PushEntry::of(push));
        let mut entry = Entry {
            seq: Seq(session.next_seq),
            message: message.key,
            qos: how.qos,
            retain: how.retain,
            phase: Phase::Queued,
            size: message.size(),
            expires_at: Some(message.expires_at.map_or(age_end, |end| end.min(age_end))).into(),
            rare: RareEntry::of(how.identifiers.into(), push),
        };
        session.next_seq += 1;
        let mut due = None;
        if let (Some(push), Some(place)) = (&message.push, entry.push_mut()) {
            place.is_announced = self.has_bridge && announces_at_once(push, is_online);
            if place.is_announced {
                delivering.offline.push(crate::presence::device(&session.client_id, session.epoch));
            } else if is_online && push.strategy == Strategy::OnlineFirst {
                let wait = if push.wait_ack.is_zero() { wait_ack } else { push.wait_ack };
                due = Some(if is_hopeless { now } else { now + wait });
            }
        }
        let seq = entry.seq;
        let is_confirmed = !(session.is_durable && (delivering.collects || how.qos == QoS::ExactlyOnce));
        let queue = session.queue.get_or_insert_default();
        let is_unannounced = entry.push().is_some_and(|push| !push.is_announced);
        let keeps_body = !session.is_durable || is_unannounced || (is_online && queue.len() < look_ahead);
        let key = session.key;
        if !keeps_body {
            self.recent.keep(&message, self.config.limits.recent_bodies_bytes_max);
        }
        if session.is_durable && delivering.collects {
            let change =
                Change::Enqueue { session: key, entry: entry.clone(), message: Arc::clone(&message) };
            delivering.part.changes.push(change);
            self.unconfirmed.entry(message.key).or_default().push((key, seq));
        } else if session.is_durable {
            self.commits.enqueue(key, entry.clone(), &message);
        }
        self.counters.queued += 1;
        self.counters.queued_messages += 1;
        self.counters.queued_bytes += u64::from(entry.size);
        if let Some(limits) = self.config.limits.apps.get(&message.app) {
            limits.usage.queued_bytes.add(entry.size.into());
        }
        // A message that nobody may have yet keeps its body: the store does not know it.
        let body = (keeps_body || !is_confirmed).then(|| Arc::clone(&message));
        queue.place(Slot::new(entry, body, is_confirmed, how.group, now));
        if let Some(due) = due {
            queue.expect(seq, due);
        }
        self.trace(at, Some(&message.topic), || Traced::Queued { qos: how.qos });
        if due.is_some() || !is_online {
            self.arm_session(at);
        }
        if is_confirmed && is_online {
            self.pump(at, Some(delivering), now);
        } else if !is_confirmed && !delivering.collects {
            self.when_durable(Wait::Confirm(key, seq), now);
        }
    }

    /// Whether a push has to be queued for this session at all.
    fn accepts_push(&mut self, delivering: &mut Delivering, at: u32, push: &Push, _now: Time) -> bool {
        let has_bridge = self.has_bridge;
        let Some(session) = self.sessions.get_mut(at as usize) else { return false };
        // A repeated chunk of a directed send is harmless, but it is not acknowledged before the first one is durable.
        let known = session.queue.as_ref().and_then(|queue| queue.slot(queue.push(&push.id)?));
        if let Some(slot) = known {
            delivering.part.is_taken = true;
            delivering.part.has_failed |= !slot.is_confirmed; // its commit is another shard's: ask again later
            delivering.waits_for_known = true;
            return false;
        }
        if session.had_push(&push.id) {
            delivering.part.is_taken = true;
            return false;
        }
        if push.strategy == Strategy::VendorOnly && has_bridge {
            delivering.part.is_taken = true;
            delivering.offline.push(crate::presence::device(&session.client_id, session.epoch));
            return false;
        }
        let replaced = push.collapse_key.as_ref().and_then(|key| session.queue.as_ref()?.collapsible(key));
        if let Some(seq) = replaced {
            self.trace_place_dropped(at, seq, "collapsed");
            self.forget(at, seq);
            self.counters.dropped_collapsed += 1;
        }
        true
    }

    /// Whether there is room for one more; makes some where the rules allow it.
    fn make_room(&mut self, at: u32, size: u32, now: Time) -> bool {
        if self.has_room(at, size) {
            return true;
        }
        self.drop_expired(at, usize::MAX, now);
        // Where the queues of others fill the app, emptying this one would only lose its messages as well.
        let own_bytes =
            self.session(at).and_then(|session| session.queue.as_ref()).map_or(0, |queue| queue.bytes());
        if self.beyond_app(at, size) > own_bytes {
            return false;
        }
        while !self.has_room(at, size) {
            let Some(session) = self.session(at) else { return false };
            let oldest = match session.limits.queue_full {
                QueueFull::RefuseNewest => return false,
                QueueFull::DropOldest => session.queue.as_ref().and_then(|queue| queue.oldest_waiting()),
            };
            let Some(seq) = oldest else { return false };
            self.trace_place_dropped(at, seq, "queue_full");
            self.forget(at, seq);
            self.counters.dropped_queue_full += 1;
        }
        true
    }

    fn has_room(&self, at: u32, size: u32) -> bool {
        let Some(session) = self.session(at) else { return false };
        let limits = &self.config.limits;
        let (messages, bytes) = match session.is_bridge {
            true => (limits.bridge_queue_messages_max, limits.bridge_queue_bytes_max),
            false => (session.limits.queue_messages_max, session.limits.queue_bytes_max),
        };
        if self.beyond_app(at, size) > 0 {
            return false;
        }
        let queue = session.queue.as_ref();
        queue.is_none_or(|queue| queue.len() < messages && queue.bytes() + u64::from(size) <= bytes)
    }

    pub(super) fn drop_expired(&mut self, at: u32, limit: usize, now: Time) {
        let Some(queue) = self.session_mut(at).and_then(|session| session.queue.as_mut()) else { return };
        for seq in queue.expired(now, limit) {
            self.trace_place_dropped(at, seq, "expired");
            self.forget(at, seq);
            self.counters.dropped_expired += 1;
        }
    }

    fn keep_retained(&mut self, delivering: &mut Delivering, _ticket: Ticket, _now: Time) {
        let message = &delivering.message;
        let kept = (!message.payload.is_empty()).then(|| Arc::clone(message)); // [MQTT5-3.3.1-6]
        let (app, topic) = (message.app.clone(), message.topic.clone());
        self.outputs.push_back(Output::Retain {
            app: app.clone(),
            topic: topic.clone(),
            message: kept.clone(),
        });
        let change = Change::Retain { app, topic, message: kept };
        delivering.part.is_taken = true;
        // By this shard for QoS 2 too: were it written with the publisher's batch, an earlier message could reach the disk
        // after a later one, and be back after a restart. Written twice it is the same, so exactly once holds.
        self.commits.add(change);
        self.commits.hold_part();
    }

    /// A QoS 2 publish is durable where it was asked for: its places may be sent.
    pub(super) fn confirmed(&mut self, message: MessageKey, is_durable: bool, now: Time) {
        for (session, seq) in self.unconfirmed.remove(&message).unwrap_or_default() {
            match is_durable {
                true => self.confirm_place(session, seq, now),
                false => self.drop_lost(session, seq),
            }
        }
    }

    pub(super) fn confirm_place(&mut self, session: SessionKey, seq: Seq, now: Time) {
        let Some(at) = self.at_key(session) else { return };
        let Some(session) = self.sessions.get_mut(at as usize) else { return };
        let is_online = session.connection.is_some();
        let Some(slot) = session.queue.as_mut().and_then(|queue| queue.slot_mut(seq)) else { return };
        slot.is_confirmed = true;
        let is_unannounced = slot.entry.push().is_some_and(|push| !push.is_announced);
        if is_online {
            self.pump(at, None, now);
        } else if !is_unannounced {
            slot.message = None; // in the store now
        }
    }

    fn announce_queued(&mut self, delivering: &mut Delivering, now: Time) {
        let devices = std::mem::take(&mut delivering.offline);
        let message = Arc::clone(&delivering.message);
        if let Some(push) = &message.push {
            self.announce_push(reveille_proto::bridge::QUEUED, &message, push, devices, now);
        }
    }
}

/// Whether the bridge hears of a push as soon as it is queued. What the bridge sent itself it knows; what a publisher
/// sent it hears at once where the strategy does not wait for the socket.
fn announces_at_once(push: &Push, is_online: bool) -> bool {
    match push.strategy {
        Strategy::OnlineFirst => !is_online,
        Strategy::OnlineOnly => false,
        Strategy::VendorOnly | Strategy::VendorFirst | Strategy::BothDedup => push.alert.is_some(),
    }
}
