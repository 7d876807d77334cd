//! A broker as the bridge sees it: takes one MQTT 5 connection at a time, remembers what it was sent, and tells what
//! the test wants it to tell. The bridge's acknowledgements can be awaited; those of the broker withheld.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use reveille_proto::bridge::{self as wire};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectReturnCode, Packet, PingResp, PubAck, PubAckReason, Publish, SubAck, SubscribeReasonCode,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Heard {
    sends: Vec<wire::Send>,
    withdraws: Vec<wire::Withdraw>,
    published: Vec<wire::Publication>,
    acked: u64,
    connects: u64,
}

#[derive(Default)]
struct Inner {
    heard: Mutex<Heard>,
    changed: Notify,
    withholds: AtomicBool,
    /// How it acknowledges what is published.
    published_reason: Mutex<Option<PubAckReason>>,
}

pub struct Broker {
    pub address: SocketAddr,
    inner: Arc<Inner>,
    tell: mpsc::UnboundedSender<(String, Bytes)>,
    told: AtomicU64,
    task: JoinHandle<()>,
}

use std::sync::atomic::AtomicU64;

impl Broker {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner::default());
        let (tell, mut told) = mpsc::unbounded_channel();
        let for_task = Arc::clone(&inner);
        let task = tokio::spawn(async move {
            let mut unacked: Vec<(String, Bytes)> = Vec::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                serve(socket, &for_task, &mut told, &mut unacked).await;
            }
        });
        Self { address, inner, tell, told: AtomicU64::new(0), task }
    }

    /// Tells the bridge something, and waits until it acknowledged everything told so far.
    pub async fn tell(&self, topic: &str, payload: &impl prost::Message) {
        self.tell_raw(topic, payload.encode_to_vec());
        self.all_acked().await;
    }

    pub fn tell_raw(&self, topic: &str, payload: Vec<u8>) {
        self.told.fetch_add(1, Ordering::SeqCst);
        self.tell.send((topic.to_owned(), payload.into())).unwrap();
    }

    pub async fn all_acked(&self) {
        let told = self.told.load(Ordering::SeqCst);
        self.until(|heard| (heard.acked >= told).then_some(())).await;
    }

    /// Whether it acknowledges what the bridge sends.
    pub fn withhold(&self, withholds: bool) {
        self.inner.withholds.store(withholds, Ordering::SeqCst);
    }

    pub async fn sends(&self, count: usize) -> Vec<wire::Send> {
        self.until(|heard| (heard.sends.len() >= count).then(|| heard.sends.clone())).await
    }

    pub fn sends_now(&self) -> Vec<wire::Send> {
        self.inner.heard.lock().unwrap().sends.clone()
    }

    pub async fn withdraws(&self, count: usize) -> Vec<wire::Withdraw> {
        self.until(|heard| (heard.withdraws.len() >= count).then(|| heard.withdraws.clone())).await
    }

    /// What was published so far; from now on it is acknowledged with this reason.
    pub fn published(&self, next: PubAckReason) -> Vec<wire::Publication> {
        *self.inner.published_reason.lock().unwrap() = Some(next);
        self.inner.heard.lock().unwrap().published.clone()
    }

    pub async fn connected(&self, times: u64) {
        self.until(|heard| (heard.connects >= times).then_some(())).await;
    }

    async fn until<T>(&self, mut look: impl FnMut(&Heard) -> Option<T>) -> T {
        let waiting = async {
            loop {
                let mut changed = std::pin::pin!(self.inner.changed.notified());
                changed.as_mut().enable();
                if let Some(found) = look(&self.inner.heard.lock().unwrap()) {
                    return found;
                }
                changed.await;
            }
        };
        tokio::time::timeout(DEADLINE, waiting).await.expect("the bridge did not do it in time")
    }

    pub async fn queued(&self, message: &wire::Message, devices: &[(&str, u64)]) {
        let message = Some(message.clone());
        self.tell(wire::QUEUED, &wire::Queued { message, devices: list(devices) }).await;
    }

    pub async fn unacked(&self, message: &wire::Message, devices: &[(&str, u64)]) {
        let message = Some(message.clone());
        self.tell(wire::UNACKED, &wire::Unacked { message, devices: list(devices) }).await;
    }

    pub async fn acked(&self, message: &wire::Message, devices: &[(&str, u64)]) {
        let (app, message_id) = (message.app.clone(), message.id.clone());
        self.tell(wire::ACKED, &wire::Acked { app, message_id, devices: list(devices), at_ms: 1 }).await;
    }

    pub async fn presence(&self, kind: wire::presence::Kind, device: &str, epoch: u64) {
        let presence = wire::Presence {
            kind: kind.into(),
            app: "default".to_owned(),
            client_id: device.to_owned(),
            epoch,
            at_ms: 1_000 + epoch,
            keep_alive_s: 60,
            ..Default::default()
        };
        self.tell(wire::PRESENCE, &presence).await;
    }

    pub async fn said(&self, kind: wire::from_device::Kind, device: &str, payload: &str) {
        let said = wire::FromDevice {
            kind: kind.into(),
            app: "default".to_owned(),
            client_id: device.to_owned(),
            payload: payload.to_owned().into(),
            at_ms: 1,
        };
        self.tell(wire::DEVICE, &said).await;
    }
}

fn list(devices: &[(&str, u64)]) -> Vec<wire::Device> {
    let device = |(id, epoch): &(&str, u64)| wire::Device { client_id: (*id).to_owned(), epoch: *epoch };
    devices.iter().map(device).collect()
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut socket: TcpStream,
    inner: &Inner,
    told: &mut mpsc::UnboundedReceiver<(String, Bytes)>,
    unacked: &mut Vec<(String, Bytes)>,
) {
    let mut input = BytesMut::new();
    let mut is_subscribed = false;
    let mut next_id = 1_u16;
    let mut flying: Vec<(u16, (String, Bytes))> = Vec::new();
    for telling in std::mem::take(unacked) {
        flying.push((0, telling)); // sent again once subscribed
    }
    loop {
        while let Ok(packet) = Packet::read(&mut input, None) {
            for answer in answer(packet, inner, &mut is_subscribed, &mut flying) {
                write(&mut socket, answer).await;
            }
        }
        if is_subscribed {
            for (id, (topic, payload)) in flying.iter_mut().filter(|(id, _)| *id == 0) {
                (*id, next_id) = (next_id, next_id + 1);
                write(&mut socket, publish(topic, *id, payload)).await;
            }
        }
        tokio::select! {
            read = socket.read_buf(&mut input) => if !matches!(read, Ok(1..)) { break },
            Some(telling) = told.recv() => flying.push((0, telling)),
        }
    }
    unacked.extend(flying.into_iter().map(|(_, telling)| telling));
}

fn publish(topic: &str, id: u16, payload: &Bytes) -> Packet {
    let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload.clone(), None);
    publish.pkid = id;
    Packet::Publish(publish)
}

async fn write(socket: &mut TcpStream, packet: Packet) {
    let mut output = BytesMut::new();
    packet.write(&mut output, None).unwrap();
    let _ = socket.write_all(&output).await;
}

fn answer(
    packet: Packet,
    inner: &Inner,
    is_subscribed: &mut bool,
    flying: &mut Vec<(u16, (String, Bytes))>,
) -> Vec<Packet> {
    let mut heard = inner.heard.lock().unwrap();
    let answers = match packet {
        Packet::Connect(connect, _, login) => {
            assert!(!connect.clean_start, "the feed must keep its session");
            assert_eq!(connect.properties.unwrap().session_expiry_interval, Some(u32::MAX));
            assert_eq!(login.unwrap().password, "hush");
            heard.connects += 1;
            let (session_present, properties) = (heard.connects > 1, None);
            vec![Packet::ConnAck(ConnAck { session_present, code: ConnectReturnCode::Success, properties })]
        }
        Packet::Subscribe(subscribe) => {
            *is_subscribed = true;
            let return_codes = vec![SubscribeReasonCode::Success(QoS::AtLeastOnce); subscribe.filters.len()];
            vec![Packet::SubAck(SubAck { pkid: subscribe.pkid, return_codes, properties: None })]
        }
        Packet::Publish(publish) => {
            match std::str::from_utf8(&publish.topic).unwrap() {
                wire::SEND => heard.sends.push(wire::Send::decode(publish.payload).unwrap()),
                wire::WITHDRAW => heard.withdraws.push(wire::Withdraw::decode(publish.payload).unwrap()),
                wire::PUBLISH => heard.published.push(wire::Publication::decode(publish.payload).unwrap()),
                topic => panic!("the bridge published on {topic}"),
            }
            let is_direct = publish.topic == wire::PUBLISH;
            let reason = inner.published_reason.lock().unwrap().filter(|_| is_direct);
            let mut ack = PubAck::new(publish.pkid, None);
            ack.reason = reason.unwrap_or(PubAckReason::Success);
            let withholds = inner.withholds.load(Ordering::SeqCst);
            if withholds { vec![] } else { vec![Packet::PubAck(ack)] }
        }
        Packet::PubAck(ack) => {
            assert_eq!(flying.first().map(|(id, _)| *id), Some(ack.pkid), "acknowledged out of order");
            flying.remove(0);
            heard.acked += 1;
            vec![]
        }
        Packet::PingReq(_) => vec![Packet::PingResp(PingResp)],
        Packet::Disconnect(_) => vec![],
        packet => panic!("the bridge sent {packet:?}"),
    };
    drop(heard);
    inner.changed.notify_waiters();
    answers
}
