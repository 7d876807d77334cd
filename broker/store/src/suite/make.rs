//! Facts to test with, and everything a store gives back, in one comparable value.

use crate::Store;
use bytes::Bytes;
use reveille_broker_core::change::{
    Announcement, Batch, Change, Entry, Granted, Phase, PushEntry, RareEntry, Recovered, SessionRecord,
    StoredSession,
};
use reveille_broker_core::message::{
    Alert, Message, MessageKey, MessageProperties, Push, Seq, SessionKey, Time,
};
use reveille_broker_core::networks::{Device, NetworkKey, NetworkRecord, Place, Voter};
use reveille_proto::bridge::{Priority, Strategy};
use reveille_proto::heartbeat::{Bracket, Gap, Radio};
use reveille_proto::ids::{AppId, ClientId, Epoch, MessageId, PacketId};
use reveille_proto::mqtt::{QoS, RetainHandling, SubscriptionOptions};
use reveille_proto::topic::{Subscription, TopicName};
use std::sync::Arc;
use std::time::Duration;

/// Facts that become durable together.
pub fn batch(changes: impl IntoIterator<Item = Change>) -> Batch {
    Batch { changes: changes.into_iter().collect() }
}

/// A session's record; the epoch stands for what a record says.
pub fn record(session: u64, epoch: u64) -> SessionRecord {
    SessionRecord {
        app: AppId::default(),
        client_id: ClientId::parse(&format!("设备-{session}")).unwrap(),
        expiry_interval: 3_600,
        epoch: Epoch(epoch),
        offline_since: None,
        sent_before: Seq(0),
        will: None,
    }
}

/// A session begins.
pub fn put_session(session: u64) -> Change {
    Change::PutSession { session: SessionKey(session), record: Box::new(record(session, 1)) }
}

/// A session ends.
pub fn drop_session(session: u64) -> Change {
    Change::DropSession { session: SessionKey(session) }
}

/// A subscription as it stands in SUBSCRIBE.
pub fn subscription(filter: &str) -> Subscription {
    Subscription::parse(filter).unwrap()
}

/// How a subscription was granted.
pub fn granted(qos: QoS, identifier: u32) -> Granted {
    let options = SubscriptionOptions {
        qos,
        no_local: identifier % 2 == 1,
        retain_as_published: true,
        retain_handling: RetainHandling::IfNew,
    };
    Granted { options, identifier }
}

/// A session subscribes.
pub fn subscribe(session: u64, filter: &str, granted: Granted) -> Change {
    Change::Subscribe { session: SessionKey(session), subscription: subscription(filter), granted }
}

/// A session unsubscribes.
pub fn unsubscribe(session: u64, filter: &str) -> Change {
    Change::Unsubscribe { session: SessionKey(session), subscription: subscription(filter) }
}

/// A message with as little as possible.
pub fn message(key: u64, payload: impl Into<Bytes>) -> Arc<Message> {
    Arc::new(Message {
        key: MessageKey(key),
        app: AppId::default(),
        topic: topic("工厂/1/温度"),
        payload: payload.into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        accepted_at: Time(1_790_000_000_000),
        expires_at: None,
        publisher: None,
        properties: None,
        push: None,
    })
}

/// A message with everything that a message can have.
pub fn full_message(key: u64) -> Arc<Message> {
    Arc::new(Message {
        qos: QoS::ExactlyOnce,
        retain: true,
        expires_at: Some(Time(1_790_000_060_000)),
        publisher: Some(SessionKey(7)),
        properties: Some(Box::new(MessageProperties {
            payload_format_indicator: Some(true),
            response_topic: Some(topic("回复")),
            correlation_data: Some(Bytes::from_static(&[0, 255])),
            content_type: Some("application/json".into()),
            user_properties: vec![("a".into(), "1".into()), ("a".into(), "2".into())],
        })),
        push: Some(Box::new(Push {
            id: MessageId([7; 16]),
            strategy: Strategy::OnlineFirst,
            priority: Priority::High,
            collapse_key: Some("score".into()),
            wait_ack: Duration::from_millis(1_500),
            alert: Some(Alert { title: "题".into(), body: "文".into() }),
        })),
        ..(*message(key, "payload")).clone()
    })
}

/// A topic name.
pub fn topic(name: &str) -> TopicName {
    TopicName::parse(name.to_owned()).unwrap()
}

/// A waiting place in a queue.
pub fn entry(seq: u64, message: &Message) -> Entry {
    Entry {
        seq: Seq(seq),
        message: message.key,
        qos: message.qos,
        retain: message.retain,
        phase: Phase::Queued,
        size: message.size(),
        expires_at: message.expires_at.into(),
        rare: RareEntry::of(Box::default(), message.push.as_deref().map(PushEntry::of)),
    }
}

/// A message takes a place.
pub fn enqueue(session: u64, seq: u64, message: &Arc<Message>) -> Change {
    Change::Enqueue { session: SessionKey(session), entry: entry(seq, message), message: Arc::clone(message) }
}

/// A place changes.
pub fn mark(session: u64, entry: Entry) -> Change {
    Change::Mark { session: SessionKey(session), entry }
}

/// A place is given up.
pub fn forget(session: u64, seq: u64) -> Change {
    Change::Forget { session: SessionKey(session), seq: Seq(seq) }
}

/// A packet identifier comes into use.
pub fn receive(session: u64, packet_id: u16) -> Change {
    Change::Receive { session: SessionKey(session), packet_id: PacketId::new(packet_id).unwrap() }
}

/// A packet identifier is free again.
pub fn release(session: u64, packet_id: u16) -> Change {
    Change::Release { session: SessionKey(session), packet_id: PacketId::new(packet_id).unwrap() }
}

/// A message is retained under its own topic.
pub fn retain(message: &Arc<Message>) -> Change {
    Change::Retain {
        app: message.app.clone(),
        topic: message.topic.clone(),
        message: Some(Arc::clone(message)),
    }
}

/// A retained message is cleared.
pub fn clear_retained(name: &str) -> Change {
    Change::Retain { app: AppId::default(), topic: topic(name), message: None }
}

/// The bridge must hear something.
pub fn announce(number: u64, payload: &'static str) -> Change {
    let announcement =
        Announcement { topic: topic("$push/v1/queued"), payload: Bytes::from_static(payload.as_bytes()) };
    Change::Announce { number, announcement }
}

/// The bridge's queue has it.
pub fn announced(number: u64) -> Change {
    Change::Announced { number }
}

/// A network of which one device knows something.
pub fn network(prefix: &str, lo: u16) -> (NetworkKey, NetworkRecord) {
    let key = NetworkKey { place: Place::Prefix(prefix.parse().unwrap()), radio: Radio::G4 };
    let bracket = Bracket { lo: Gap(lo), hi: Some(Gap(lo + 60)), deaths: 1, doubt: None };
    let voter = Voter { device: Device(u64::MAX), address: 7, since: Time(1), seen: Time(2), bracket };
    (key, NetworkRecord { voters: vec![voter], deaths: 3, resets: 4, changed_at: Time(5) })
}

/// What is known of a network changes.
pub fn put_network(prefix: &str, lo: u16) -> Change {
    let (key, record) = network(prefix, lo);
    Change::PutNetwork { key, record: Some(Box::new(record)) }
}

/// A network is forgotten.
pub fn forget_network(prefix: &str) -> Change {
    Change::PutNetwork { key: network(prefix, 0).0, record: None }
}

/// Everything that a store gives back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// In the order in which they came; subscriptions sorted, since their order means nothing.
    pub sessions: Vec<StoredSession>,
    /// Sorted by app and topic.
    pub retained: Vec<Message>,
    /// In the order in which they came.
    pub announcements: Vec<(u64, Announcement)>,
    /// Sorted.
    pub networks: Vec<(NetworkKey, NetworkRecord)>,
}

impl Contents {
    /// The session with this number.
    pub fn session(&self, session: u64) -> &StoredSession {
        self.sessions.iter().find(|stored| stored.session.0 == session).unwrap()
    }
}

/// Everything that a store gives back.
pub fn recover(store: &impl Store) -> Contents {
    let mut contents = Contents::default();
    store
        .recover(&mut |recovered| match recovered {
            Recovered::Session(mut stored) => {
                stored.subscriptions.sort_by(|(one, _), (other, _)| one.cmp(other));
                contents.sessions.push(*stored);
            }
            Recovered::Retained(message) => contents.retained.push((*message).clone()),
            Recovered::Announcement { number, announcement } => {
                contents.announcements.push((number, announcement))
            }
            Recovered::Network { key, record } => contents.networks.push((key, *record)),
        })
        .unwrap();
    contents.networks.sort_by(|(one, _), (other, _)| one.cmp(other));
    contents.retained.sort_by(|one, other| (&one.app, &one.topic).cmp(&(&other.app, &other.topic)));
    contents
}
