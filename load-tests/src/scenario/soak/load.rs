//! Who takes part. Each is a task that goes on until it is told to stop, and then until it has got what is its own.

use super::ledger::Ledger;
use crate::client::{Client, LoadError};
use bytes::Bytes;
use reveille_proto::mqtt::{Publish, PublishProperties, QoS, Will};
use reveille_proto::topic::TopicName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

const PHONES: usize = 300;
const SERVERS: usize = 6;
const SENSORS: usize = 20;
const DASHBOARDS: usize = 4;
const WORKERS: usize = 4;
const STATES: u64 = 200;
const DEAF: usize = 4;
const PAYLOAD: usize = 256;

/// Between two messages of one server, sensor or source of jobs.
const PACE: Duration = Duration::from_millis(20);

/// How long a phone is there, and away: so many times this, by its number and turn.
const NAP: Duration = Duration::from_millis(700);

/// Between two looks whether everything has come.
const LOOK: Duration = Duration::from_millis(500);

type Stop = watch::Receiver<bool>;

/// What all of them need.
#[derive(Clone)]
struct Field {
    broker: SocketAddr,
    ledger: Arc<Ledger>,
    stop: Stop,
}

impl Field {
    fn is_over(&self) -> bool {
        *self.stop.borrow()
    }
}

/// How many messages for one receiver are acknowledged; final when the sender has ended.
#[derive(Debug, Default)]
struct Due {
    sent: AtomicU64,
    senders: AtomicU64,
}

impl Due {
    fn is_met(&self, received: u64) -> bool {
        self.senders.load(SeqCst) == 0 && received >= self.sent.load(SeqCst)
    }
}

/// Starts everybody; subscriptions are there before the first message.
pub async fn start(
    broker: SocketAddr,
    ledger: &Arc<Ledger>,
    stop: &Stop,
    crowd: &mut JoinSet<Result<(), LoadError>>,
) -> Result<(), LoadError> {
    let field = Field { broker, ledger: Arc::clone(ledger), stop: stop.clone() };
    start_phones(&field, crowd).await?;
    start_telemetry(&field, crowd).await?;
    start_jobs(&field, crowd).await?;
    start_states(&field, crowd).await?;
    start_wills(&field, crowd).await
}

async fn start_phones(field: &Field, crowd: &mut JoinSet<Result<(), LoadError>>) -> Result<(), LoadError> {
    let mut dues = Vec::new();
    for number in 0..PHONES {
        let mut phone = Client::connect(field.broker, &format!("phone-{number}"), true).await?;
        phone.subscribe(&format!("phone/{number}/#"), QoS::ExactlyOnce).await?;
        phone.disconnect().await?;
        let due = Arc::new(Due { senders: 1.into(), ..Due::default() });
        crowd.spawn(live(field.clone(), number, Arc::clone(&due)));
        dues.push(due);
    }
    for server in 0..SERVERS {
        let own = dues.iter().cloned().enumerate().skip(server).step_by(SERVERS).collect();
        crowd.spawn(serve(field.clone(), server, own));
    }
    Ok(())
}

/// A business server: one message after the other for its phones in turn, QoS 1 for even ones, 2 for odd ones.
async fn serve(field: Field, server: usize, phones: Vec<(usize, Arc<Due>)>) -> Result<(), LoadError> {
    let mut client = Client::connect(field.broker, &format!("server-{server}"), false).await?;
    let mut pace = steady(PACE);
    'over: for turn in 0_u64.. {
        for (number, due) in &phones {
            pace.tick().await;
            if field.is_over() {
                break 'over;
            }
            let qos = if number % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
            client.publish_one(message(format!("phone/{number}/in"), turn, qos)?).await?;
            due.sent.store(turn + 1, SeqCst);
            field.ledger.phones.count_sent(1);
        }
    }
    for (_, due) in &phones {
        due.senders.store(0, SeqCst);
    }
    client.disconnect().await
}

/// A phone: there for a while, away for a while, with and without a goodbye. Its messages come in order.
async fn live(field: Field, number: usize, due: Arc<Due>) -> Result<(), LoadError> {
    let mut next = 0;
    for turn in 0.. {
        let mut client = Client::connect(field.broker, &format!("phone-{number}"), true).await?;
        let nap = |salt: usize| NAP * u32::try_from((number * 7 + turn * 3 + salt) % 6 + 1).unwrap_or(1);
        let _ = timeout(nap(0), listen(&field, &mut client, &mut next)).await.unwrap_or(Ok(()));
        if field.is_over() && due.is_met(next) {
            return client.disconnect().await;
        }
        if turn % 2 == 0 {
            client.disconnect().await?;
        } else {
            drop(client); // the network is gone
        }
        if !field.is_over() {
            sleep(nap(1)).await;
        }
    }
    Ok(())
}

async fn listen(field: &Field, client: &mut Client, next: &mut u64) -> Result<(), LoadError> {
    loop {
        let number = number_of(&client.take().await?);
        if number == *next {
            *next += 1;
            field.ledger.phones.count_received();
        } else if number < *next {
            field.ledger.phones.count_repeated(); // its acknowledgement was lost with the connection
        } else {
            field.ledger.fault("a phone missed a message");
            *next = number + 1;
        }
    }
}

async fn start_telemetry(field: &Field, crowd: &mut JoinSet<Result<(), LoadError>>) -> Result<(), LoadError> {
    let due = Arc::new(Due { senders: (SENSORS as u64).into(), ..Due::default() });
    for number in 0..DASHBOARDS {
        let mut client = Client::connect(field.broker, &format!("dashboard-{number}"), false).await?;
        client.subscribe("telemetry/+/value", QoS::AtMostOnce).await?;
        crowd.spawn(look(field.clone(), client, Arc::clone(&due), |ledger| &ledger.telemetry));
    }
    for number in 0..DEAF {
        crowd.spawn(ignore(field.clone(), number));
    }
    for number in 0..SENSORS {
        let (field, due) = (field.clone(), Arc::clone(&due));
        crowd.spawn(async move {
            let mut client = Client::connect(field.broker, &format!("sensor-{number}"), false).await?;
            let mut pace = steady(PACE);
            for turn in 0.. {
                pace.tick().await;
                if field.is_over() {
                    break;
                }
                let name = format!("telemetry/{number}/value");
                client.publish_one(message(name, turn, QoS::AtMostOnce)?).await?;
                due.sent.fetch_add(1, SeqCst);
                field.ledger.telemetry.count_sent(DASHBOARDS as u64);
            }
            due.senders.fetch_sub(1, SeqCst);
            client.disconnect().await
        });
    }
    Ok(())
}

/// Counts what comes until everything has.
async fn look(
    field: Field,
    mut client: Client,
    due: Arc<Due>,
    account: fn(&Ledger) -> &super::ledger::Account,
) -> Result<(), LoadError> {
    let mut received = 0;
    while !due.is_met(received) {
        if let Ok(taken) = timeout(LOOK, client.take()).await {
            taken?;
            received += 1;
            account(&field.ledger).count_received();
        }
    }
    client.disconnect().await
}

/// Subscribes to everything and reads nothing, for some seconds at a time.
async fn ignore(field: Field, number: usize) -> Result<(), LoadError> {
    while !field.is_over() {
        let mut client = Client::connect(field.broker, &format!("deaf-{number}"), false).await?;
        client.subscribe("telemetry/#", QoS::AtMostOnce).await?;
        let mut stop = field.stop.clone();
        let _ = timeout(NAP * 30, stop.wait_for(|is_over| *is_over)).await;
    }
    Ok(())
}

async fn start_jobs(field: &Field, crowd: &mut JoinSet<Result<(), LoadError>>) -> Result<(), LoadError> {
    let (done, due) = (Arc::new(AtomicU64::new(0)), Arc::new(Due { senders: 1.into(), ..Due::default() }));
    for number in 0..WORKERS {
        let mut client = Client::connect(field.broker, &format!("worker-{number}"), false).await?;
        client.subscribe("$share/workers/jobs/#", QoS::AtLeastOnce).await?;
        let (field, done, due) = (field.clone(), Arc::clone(&done), Arc::clone(&due));
        crowd.spawn(async move {
            while !due.is_met(done.load(SeqCst)) {
                if let Ok(taken) = timeout(LOOK, client.take()).await {
                    taken?;
                    done.fetch_add(1, SeqCst);
                    field.ledger.jobs.count_received();
                }
            }
            client.disconnect().await
        });
    }
    crowd.spawn(publish(
        field.clone(),
        "foreman",
        |turn| (format!("jobs/{}", turn % 50), false),
        due,
        |ledger| &ledger.jobs,
    ));
    Ok(())
}

async fn start_states(field: &Field, crowd: &mut JoinSet<Result<(), LoadError>>) -> Result<(), LoadError> {
    let due = Arc::new(Due { senders: 1.into(), ..Due::default() });
    let mut client = Client::connect(field.broker, "watcher", true).await?;
    client.subscribe("state/#", QoS::AtLeastOnce).await?;
    crowd.spawn(look(field.clone(), client, Arc::clone(&due), |ledger| &ledger.states));
    let name = |turn: u64| (format!("state/{}", turn % STATES), true);
    crowd.spawn(publish(field.clone(), "machine", name, due, |ledger| &ledger.states));
    Ok(())
}

/// One publisher of QoS 1 messages.
async fn publish(
    field: Field,
    client_id: &str,
    name: fn(u64) -> (String, bool),
    due: Arc<Due>,
    account: fn(&Ledger) -> &super::ledger::Account,
) -> Result<(), LoadError> {
    let mut client = Client::connect(field.broker, client_id, false).await?;
    let mut pace = steady(PACE);
    for turn in 0.. {
        pace.tick().await;
        if field.is_over() {
            break;
        }
        let (name, retain) = name(turn);
        client.publish_one(Publish { retain, ..message(name, turn, QoS::AtLeastOnce)? }).await?;
        due.sent.fetch_add(1, SeqCst);
        account(&field.ledger).count_sent(1);
    }
    due.senders.store(0, SeqCst);
    client.disconnect().await
}

/// One client after the other comes with a will and vanishes.
async fn start_wills(field: &Field, crowd: &mut JoinSet<Result<(), LoadError>>) -> Result<(), LoadError> {
    let due = Arc::new(Due { senders: 1.into(), ..Due::default() });
    let mut client = Client::connect(field.broker, "heir", true).await?;
    client.subscribe("will/#", QoS::AtLeastOnce).await?;
    crowd.spawn(look(field.clone(), client, Arc::clone(&due), |ledger| &ledger.wills));
    let field = field.clone();
    crowd.spawn(async move {
        let mut pace = steady(PACE * 10);
        for turn in 0_u64.. {
            pace.tick().await;
            if field.is_over() {
                break;
            }
            let mut connect = Client::options(&format!("mortal-{turn}"), false);
            connect.will = Some(Will {
                topic: topic(format!("will/{turn}"))?,
                payload: Bytes::from_static(b"gone"),
                qos: QoS::AtLeastOnce,
                retain: false,
                delay_interval: None,
                properties: PublishProperties::default(),
            });
            drop(Client::connect_with(field.broker, connect).await?);
            due.sent.fetch_add(1, SeqCst);
            field.ledger.wills.count_sent(1);
        }
        due.senders.store(0, SeqCst);
        Ok(())
    });
    Ok(())
}

fn steady(pace: Duration) -> tokio::time::Interval {
    let mut pace = interval(pace);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

/// A message that begins with its number.
fn message(name: String, number: u64, qos: QoS) -> Result<Publish, LoadError> {
    let mut payload = vec![b'x'; PAYLOAD];
    for (to, from) in payload.iter_mut().zip(number.to_be_bytes()) {
        *to = from;
    }
    Ok(Publish {
        dup: false,
        qos,
        retain: false,
        topic: Some(topic(name)?),
        packet_id: None,
        properties: PublishProperties::default(),
        payload: payload.into(),
    })
}

fn number_of(publish: &Publish) -> u64 {
    publish.payload.first_chunk::<8>().map_or(u64::MAX, |bytes| u64::from_be_bytes(*bytes))
}

fn topic(text: String) -> Result<TopicName, LoadError> {
    TopicName::parse(text).map_err(|error| LoadError::Broken(error.to_string()))
}
