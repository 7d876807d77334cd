//! Devices that come and go all the time: nothing is lost, nothing is shown twice.

use crate::device::{push_id, token};
use crate::stage::Stage;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use reveille_client::{Acceptance, Inbox, InboxLimits, MessageId, Source, UnixMillis};
use reveille_proto::mqtt::{Ack, Packet};
use reveille_proto::reason::ReasonCode;
use reveille_tests::mqtt::{Client, Options, ReceiveError};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const DEVICES: usize = 40;
const MESSAGES: usize = 25;
/// How long one connection lasts at most.
const FLAP_MAX_MS: u64 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn flapping_devices_lose_nothing_and_show_each_alert_once() {
    let stage = Stage::start().await;
    let broker = stage.reveille.mqtt();
    let names: Vec<_> = (0..DEVICES).map(|n| format!("flapping-{n}")).collect();
    for name in &names {
        let path = format!("/v1/apps/default/devices/{name}/tokens/fcm");
        stage.api.put(&format!("/v1/apps/default/devices/{name}"), json!({})).await;
        stage.api.put(&path, json!({"token": token(name)})).await;
        // A device without a session has no queue: only its vendor would get the first messages.
        Client::connect(broker, &Options::persistent(name)).disconnect();
    }
    let mut apps: Vec<_> = names.iter().enumerate().map(|(n, name)| App::new(name, n as u64)).collect();
    let is_over = AtomicBool::new(false);
    let ids = std::thread::scope(|scope| {
        for app in &mut apps {
            scope.spawn(|| app.flap(broker, &is_over));
        }
        let _over = SetAtEnd(&is_over);
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(send_all(&stage, &names)))
    });

    // The system has shown what the vendor brought before the app runs again.
    apps.iter_mut().for_each(|app| app.read_pushes(&stage.mids("fcm", &token(&app.name))));
    let is_whole = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for app in &mut apps {
            scope.spawn(|| app.stay(broker, &is_whole));
        }
        let _whole = SetAtEnd(&is_whole);
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(wait_whole(&stage, &ids)));
    });
    for app in &mut apps {
        app.read_pushes(&stage.mids("fcm", &token(&app.name)));
        for id in &ids {
            assert_eq!(app.shown.get(id), Some(&1), "{}: {id}", app.name);
        }
    }
    for name in &names {
        let mut pushed = stage.mids("fcm", &token(name));
        let calls = pushed.len();
        pushed.sort();
        pushed.dedup();
        assert_eq!(pushed.len(), calls, "{name}: a vendor was called twice for one message");
    }
}

/// Lets the devices' threads end, also when the test fails.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

async fn send_all(stage: &Stage, names: &[String]) -> Vec<String> {
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut ids = Vec::new();
    for _ in 0..MESSAGES {
        ids.push(stage.send(&names, json!({"wait_ack_ms": 200})).await);
    }
    ids
}

/// Waits until every device has acknowledged every message: after its vendor was called, or instead.
async fn wait_whole(stage: &Stage, ids: &[String]) {
    for id in ids {
        let has = |funnel: &Value, part: &str| funnel[part].as_u64().unwrap();
        let is_whole = |funnel: &Value| has(funnel, "acked") + has(funnel, "suppressed") == DEVICES as u64;
        stage.wait_funnel(id, is_whole).await;
    }
}

/// The app on one device: the library's inbox decides what is shown.
struct App {
    name: String,
    random: SmallRng,
    inbox: Inbox,
    /// How often each alert was shown.
    shown: BTreeMap<String, usize>,
}

impl App {
    fn new(name: &str, seed: u64) -> Self {
        let (random, inbox) = (SmallRng::seed_from_u64(seed), Inbox::new(InboxLimits::default()));
        Self { name: name.to_owned(), random, inbox, shown: BTreeMap::new() }
    }

    /// Connects and vanishes, again and again.
    fn flap(&mut self, broker: SocketAddr, is_over: &AtomicBool) {
        while !is_over.load(Ordering::SeqCst) {
            let end = Instant::now() + Duration::from_millis(self.random.random_range(0..FLAP_MAX_MS));
            let mut client = Client::connect(broker, &Options::persistent(&self.name));
            while self.take_one(&mut client, end.saturating_duration_since(Instant::now())) {}
        }
    }

    /// Stays connected until told that all is well.
    fn stay(&mut self, broker: SocketAddr, is_whole: &AtomicBool) {
        let mut client = Client::connect(broker, &Options::persistent(&self.name));
        while !is_whole.load(Ordering::SeqCst) {
            self.take_one(&mut client, Duration::from_millis(FLAP_MAX_MS));
        }
    }

    /// Whether a packet came in time.
    fn take_one(&mut self, client: &mut Client, patience: Duration) -> bool {
        match client.receive_within(patience) {
            Ok(packet) => {
                self.handle(client, packet);
                true
            }
            Err(ReceiveError::Late) => false,
            Err(ReceiveError::Lost(error)) => {
                panic!("{}: the broker ended the connection: {error}", self.name)
            }
        }
    }

    fn handle(&mut self, client: &mut Client, packet: Packet) {
        let Packet::Publish(message) = packet else { panic!("{}: {packet:?}", self.name) };
        self.arrive(&push_id(&message), Source::Socket);
        let ack = Ack::new(message.packet_id.unwrap(), ReasonCode::SUCCESS);
        client.send(&Packet::PubAck(ack)).unwrap();
    }

    /// What the vendor brought while nobody looked.
    fn read_pushes(&mut self, mids: &[String]) {
        for mid in mids {
            self.arrive(mid, Source::Vendor);
        }
    }

    fn arrive(&mut self, id: &str, source: Source) {
        let message = MessageId::parse(id).unwrap();
        if self.inbox.accept(message, source, UnixMillis::now()) == Acceptance::Show {
            *self.shown.entry(id.to_owned()).or_default() += 1;
            self.inbox.handled(message, UnixMillis::now());
        }
    }
}
