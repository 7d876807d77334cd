//! The bridge's MQTT side: what the broker tells is acknowledged once it is durable, and what waits for the broker
//! leaves the outbox once the broker acknowledged it.
//!
//! Each connection begins with a fresh client library state: the broker keeps the session, the outbox keeps ours,
//! and every packet may be repeated. So nothing depends on what the library remembers over a reconnect.

mod direct;
mod outbox;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reveille_proto::bridge as wire;
use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, Filter, PubAck, PubAckReason, Publish, SubAck, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, Incoming, MqttOptions};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::facts::{self, Fact, Taken};
use crate::sender::tasks::lock;
use crate::shared::Shared;
use crate::store::{Commit, StoreError};
use crate::vendor::Secret;

pub(crate) use direct::{NotTaken, Publisher, Publishes, Taken as Published, publisher};

/// Facts that may wait for the disk at once; the broker sends no more before we acknowledge.
const RECEIVE_MAX: u16 = 1024;
/// Largest packet of the broker's that is read, in bytes.
const PACKET_MAX: u32 = 64 * 1024 * 1024;
/// Packets on their way to the broker at once.
const WINDOW: usize = 32;
/// More than [`WINDOW`], so that the library never meets a packet identifier that is still in use.
const INFLIGHT_MAX: u16 = 256;
/// Requests that wait in the library.
const REQUESTS_MAX: usize = 2 * RECEIVE_MAX as usize;
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Topic, fixed header, packet identifier and properties around a payload, in bytes, generously.
const AROUND_PAYLOAD: usize = 128;
const CONNECT_TIMEOUT_S: u64 = 5;
const BACK_OFF_MIN: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);

/// Where the broker is, and who we are there.
#[derive(Clone, Debug)]
pub(crate) struct FeedOptions {
    pub broker: SocketAddr,
    pub user: String,
    pub password: Secret,
    pub client_id: String,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Connection(Box<ConnectionError>),
    #[error("the broker does not let us subscribe to the feed")]
    NotAllowed,
    #[error("the broker refused a packet: {0:?}")]
    Refused(PubAckReason),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the client library stopped")]
    Library,
}

/// Keeps the feed connected, for ever.
pub(crate) async fn run(shared: Arc<Shared>, options: FeedOptions, publishes: Publishes) {
    let publishes = Arc::new(publishes);
    let mut back_off = BACK_OFF_MIN;
    let mut is_quiet = false;
    loop {
        let ended = guarded(&shared, &options, &publishes).await;
        let was_up = shared.is_feed_up.swap(false, Ordering::SeqCst);
        shared.metrics.feed_connected.set(0);
        if was_up {
            (back_off, is_quiet) = (BACK_OFF_MIN, false);
        }
        if is_quiet {
            tracing::debug!(reason = %ended, "the broker is still not reachable");
        } else {
            tracing::warn!(broker = %options.broker, reason = %ended, "the feed from the broker is interrupted");
            is_quiet = true; // one line an outage
        }
        let jitter = rand::random::<f64>().mul_add(0.5, 0.75);
        tokio::time::sleep(back_off.mul_f64(jitter)).await;
        back_off = (back_off * 2).min(BACK_OFF_MAX);
    }
}

/// A connection in a task of its own: a panic of the client library ends the connection, not the feed.
async fn guarded(shared: &Arc<Shared>, options: &FeedOptions, publishes: &Arc<Publishes>) -> Ended {
    let (shared, options, publishes) = (Arc::clone(shared), options.clone(), Arc::clone(publishes));
    let mut task = JoinSet::new(); // aborts the connection when the feed is ended
    task.spawn(async move { connection(&shared, &options, &publishes).await });
    task.join_next().await.and_then(Result::ok).unwrap_or(Ended::Library)
}

fn mqtt_options(options: &FeedOptions) -> MqttOptions {
    let (host, port) = (options.broker.ip().to_string(), options.broker.port());
    let host = if options.broker.is_ipv6() { format!("[{host}]") } else { host };
    let mut mqtt = MqttOptions::new(&options.client_id, host, port);
    mqtt.set_credentials(&options.user, options.password.reveal())
        .set_keep_alive(KEEP_ALIVE)
        .set_clean_start(false)
        .set_session_expiry_interval(Some(u32::MAX)) // never; without it the broker drops the session, and facts
        .set_receive_maximum(Some(RECEIVE_MAX))
        .set_max_packet_size(Some(PACKET_MAX)) // the library's own bound is 10 KiB
        .set_manual_acks(true)
        .set_connection_timeout(CONNECT_TIMEOUT_S)
        .set_outgoing_inflight_upper_limit(INFLIGHT_MAX);
    mqtt
}

/// A packet for the broker, and who is told of its acknowledgement.
enum Given {
    /// An entry of the outbox, by its number.
    Entry(u64),
    /// Somebody waits.
    Direct(direct::Done),
}

/// What the parts of one connection share.
struct Link {
    client: AsyncClient,
    /// What was given to the library, in order, whose packet identifier is not known yet.
    given: Mutex<VecDeque<Given>>,
    room: Semaphore,
    packet_max: AtomicU32,
    done: mpsc::Sender<u64>,
    acks: mpsc::Sender<(Publish, Option<Commit<Taken, StoreError>>)>,
}

impl Link {
    /// Hands a packet to the library, which gives identifiers in this order. It always has room: [`WINDOW`] bounds how
    /// many are under way.
    fn publish(&self, given: Given, topic: &str, payload: Vec<u8>) -> Result<(), Ended> {
        let mut waiting = lock(&self.given);
        let handed = self.client.try_publish(topic, QoS::AtLeastOnce, false, payload);
        handed.map_err(|_| Ended::Library)?;
        waiting.push_back(given);
        Ok(())
    }
}

async fn connection(shared: &Arc<Shared>, options: &FeedOptions, publishes: &Publishes) -> Ended {
    let (client, events) = AsyncClient::new(mqtt_options(options), REQUESTS_MAX);
    let (done, done_outbox) = mpsc::channel(WINDOW + 1);
    let (acks, waiting_acks) = mpsc::channel(usize::from(RECEIVE_MAX) + 1);
    let link = Link {
        client,
        given: Mutex::default(),
        room: Semaphore::new(WINDOW),
        packet_max: AtomicU32::new(u32::MAX),
        done,
        acks,
    };
    let ended = tokio::select! {
        ended = read(shared, &link, events) => ended,
        ended = acknowledge(shared, &link, waiting_acks) => ended,
        ended = outbox::send(shared, &link) => ended,
        ended = direct::send(&link, publishes) => ended,
        ended = outbox::forget(shared, done_outbox) => ended,
    };
    ended.err().unwrap_or(Ended::Library)
}

/// Polls the library. Never cancelled in the middle but by the connection's end, so no packet is half written.
async fn read(shared: &Arc<Shared>, link: &Link, mut events: EventLoop) -> Result<(), Ended> {
    let mut sent: HashMap<u16, Given> = HashMap::new();
    loop {
        match events.poll().await.map_err(|error| Ended::Connection(Box::new(error)))? {
            Event::Incoming(Incoming::ConnAck(ack)) => begin(link, &ack)?,
            Event::Incoming(Incoming::SubAck(ack)) => subscribed(shared, &ack)?,
            Event::Incoming(Incoming::Publish(publish)) => take(shared, link, publish).await?,
            Event::Incoming(Incoming::PubAck(ack)) => {
                match sent.remove(&ack.pkid) {
                    Some(Given::Entry(number)) => acknowledged(shared, link, &ack, number).await?,
                    Some(Given::Direct(done)) => {
                        link.room.add_permits(1);
                        let _ = done.send(direct::read(ack.reason)); // nobody waits any more, then
                    }
                    None => {}
                }
            }
            Event::Outgoing(Outgoing::Publish(packet_id)) => {
                let given = lock(&link.given).pop_front().ok_or(Ended::Library)?;
                sent.insert(packet_id, given);
            }
            Event::Outgoing(Outgoing::AwaitAck(_)) => return Err(Ended::Library), // its identifiers ran out
            Event::Incoming(_) | Event::Outgoing(_) => {}
        }
    }
}

fn begin(link: &Link, ack: &ConnAck) -> Result<(), Ended> {
    let packet_max = ack.properties.as_ref().and_then(|properties| properties.max_packet_size);
    link.packet_max.store(packet_max.unwrap_or(u32::MAX), Ordering::SeqCst);
    let topics = [wire::QUEUED, wire::UNACKED, wire::ACKED, wire::PRESENCE, wire::DEVICE];
    let filters = topics.map(|topic| Filter::new(topic, QoS::AtLeastOnce));
    link.client.try_subscribe_many(filters).map_err(|_| Ended::Library)
}

fn subscribed(shared: &Shared, ack: &SubAck) -> Result<(), Ended> {
    if !ack.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(QoS::AtLeastOnce))) {
        return Err(Ended::NotAllowed);
    }
    tracing::info!("the feed from the broker is connected");
    shared.is_feed_up.store(true, Ordering::SeqCst);
    shared.metrics.feed_connected.set(1);
    Ok(())
}

/// Hands a fact to the store in the order of arrival, and lets its acknowledgement wait for the disk.
async fn take(shared: &Arc<Shared>, link: &Link, publish: Publish) -> Result<(), Ended> {
    let topic = std::str::from_utf8(&publish.topic).unwrap_or_default();
    let commit = match Fact::read(topic, &publish.payload) {
        Ok(fact) => {
            shared.metrics.fact(fact.name());
            let rules = shared.rules;
            Some(shared.store.submit(move |tx| facts::take(tx, &rules, fact)).await)
        }
        Err(reason) => {
            tracing::warn!(topic, %reason, "the broker told something that is no fact");
            shared.metrics.ignored(&reason.to_string());
            None
        }
    };
    link.acks.send((publish, commit)).await.map_err(|_| Ended::Library)
}

/// Acknowledges facts in the order they came, each after it became durable. `[MQTT5-4.6.0-2]`
async fn acknowledge(
    shared: &Arc<Shared>,
    link: &Link,
    mut waiting: mpsc::Receiver<(Publish, Option<Commit<Taken, StoreError>>)>,
) -> Result<(), Ended> {
    while let Some((publish, commit)) = waiting.recv().await {
        if let Some(commit) = commit
            && let Taken::Ignored(reason) = commit.await?
        {
            shared.metrics.ignored(reason);
        }
        link.client.ack(&publish).await.map_err(|_| Ended::Library)?;
    }
    Ok(())
}

/// The broker has it, or will never take it; anything else ends the connection, and it is repeated later.
async fn acknowledged(shared: &Shared, link: &Link, ack: &PubAck, number: u64) -> Result<(), Ended> {
    match ack.reason {
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => {}
        PubAckReason::PayloadFormatInvalid | PubAckReason::TopicNameInvalid => {
            tracing::error!(reason = ?ack.reason, "the broker will never take a packet of the outbox");
            shared.metrics.refusal("invalid");
        }
        reason => {
            shared.metrics.refusal("later");
            return Err(Ended::Refused(reason));
        }
    }
    link.room.add_permits(1);
    link.done.send(number).await.map_err(|_| Ended::Library)
}
