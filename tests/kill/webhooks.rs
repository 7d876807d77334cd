//! SIGKILL of the push server while it tells a webhook what happens: each event arrives, and a repeat has the id and the body of
//! the first time.

use crate::sender::send_all;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rand::RngExt as _;
use reveille_tests::PATIENCE;
use reveille_tests::api::Api;
use reveille_tests::program::Reveille;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::watch;

const KILLS: usize = 15;
/// Accepted before each kill, at least.
const MESSAGES_A_ROUND: usize = 3;
/// Behind each message: it makes fourteen events, which are told one by one.
const PAUSE: Duration = Duration::from_millis(30);
const DEVICES: usize = 4;
/// Of so many calls one is answered late, so that kills come between the receiver's taking and our knowing of it.
const LATE_EVERY: usize = 3;
const LATE: Duration = Duration::from_millis(20);
/// Of so many calls one is refused.
const REFUSED_EVERY: usize = 40;
const APP: &str = "/v1/apps/default";

/// What came, in order, and was answered with 2xx.
#[derive(Default)]
struct Taken {
    calls: usize,
    events: Vec<Value>,
}

#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Taken>>);

impl Receiver {
    async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/events", listener.local_addr().unwrap());
        let receiver = self.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let receiver = receiver.clone();
                let service = service_fn(move |request| receiver.clone().take(request));
                let connection = hyper::server::conn::http1::Builder::new();
                // It ends with an error when the caller is killed.
                tokio::spawn(connection.serve_connection(TokioIo::new(socket), service));
            }
        });
        url
    }

    async fn take(self, request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
        let id = request.headers().get("idempotency-key").unwrap().to_str().unwrap().to_owned();
        let mut response = Response::new(Empty::new());
        let Ok(body) = request.into_body().collect().await else { return Ok(response) }; // killed in the middle
        let event: Value = serde_json::from_slice(&body.to_bytes()).unwrap();
        assert_eq!(event["id"], id, "repeats are told apart by either");
        let call = {
            let mut taken = self.0.lock().unwrap();
            taken.calls += 1;
            if !taken.calls.is_multiple_of(REFUSED_EVERY) {
                taken.events.push(event);
            }
            taken.calls
        };
        if call.is_multiple_of(REFUSED_EVERY) {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        } else if call.is_multiple_of(LATE_EVERY) {
            tokio::time::sleep(LATE).await;
        }
        Ok(response)
    }

    /// The ids of the events of this name about a message, and a device of it.
    fn ids(&self, name: &str, message: &str, device: Option<&str>) -> BTreeSet<String> {
        let taken = self.0.lock().unwrap();
        let is_it = |event: &&Value| {
            event["event"] == name
                && event["data"]["message"] == message
                && device.is_none_or(|device| event["data"]["device"] == device)
        };
        taken.events.iter().filter(is_it).map(|event| event["id"].as_str().unwrap().to_owned()).collect()
    }
}

fn devices() -> Vec<String> {
    (0..DEVICES).map(|n| format!("d{n}")).collect()
}

/// What is told of every message once: name, and the device that it is about.
fn wanted() -> Vec<(&'static str, Option<String>)> {
    let of_message = ["message.sending", "message.done"].map(|name| (name, None));
    let of_devices = devices().into_iter().map(|device| ("delivery.vendor_accepted", Some(device)));
    of_message.into_iter().chain(of_devices).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_hears_of_each_event_though_the_push_server_is_killed_and_knows_repeats_by_their_id() {
    let mut random = super::seeded("webhooks");
    let receiver = Receiver::default();
    let url = receiver.start().await;
    let mut reveille = Reveille::start();
    let api = Api::new(reveille.http(), reveille.admin_key());
    api.put(&format!("{APP}/credentials/record"), json!({})).await;
    for device in devices() {
        let path = format!("{APP}/devices/{device}/tokens/record");
        api.put(&path, json!({"token": format!("T-{device}")})).await;
    }
    api.post(&format!("{APP}/webhooks"), json!({"url": url, "events": ["message.*", "delivery.*"]})).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let (count, mut counted_on) = watch::channel(0);
    let body = json!({
        "audience": {"devices": devices()}, "notification": {"title": "标题"},
        "delivery": {"strategy": "vendor_only", "ttl_s": 86_400},
    });
    let sending = tokio::spawn(send_all(api.clone(), body, PAUSE, Arc::clone(&is_over), count));
    for _ in 0..KILLS {
        let wanted = *counted_on.borrow() + MESSAGES_A_ROUND;
        tokio::time::timeout(PATIENCE, counted_on.wait_for(|count| *count >= wanted)).await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(random.random_range(0..200))).await; // the moment is what is tested
        tokio::task::block_in_place(|| {
            reveille.kill();
            reveille.start_again();
        });
    }
    is_over.store(true, Ordering::SeqCst);
    let ids = tokio::time::timeout(PATIENCE, sending).await.unwrap().unwrap();

    let missing = || {
        let all =
            ids.iter().flat_map(|id| wanted().into_iter().map(move |(name, device)| (name, id, device)));
        all.filter(|(name, id, device)| receiver.ids(name, id, device.as_deref()).is_empty()).count()
    };
    // One after the other, so how long all of them take depends on how many messages were accepted meanwhile.
    let (mut left, mut end) = (missing(), Instant::now() + PATIENCE);
    while left > 0 {
        assert!(Instant::now() < end, "{left} events never came");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let before = std::mem::replace(&mut left, missing());
        if left < before {
            end = Instant::now() + PATIENCE;
        }
    }
    for id in &ids {
        for (name, device) in wanted() {
            let told = receiver.ids(name, id, device.as_deref());
            assert_eq!(told.len(), 1, "{name} of {id} {device:?} looks like several events: {told:?}");
        }
    }
    let taken = receiver.0.lock().unwrap();
    let mut first: BTreeMap<&str, &Value> = BTreeMap::new();
    for event in &taken.events {
        let before = *first.entry(event["id"].as_str().unwrap()).or_insert(event);
        assert_eq!(before, event, "a repeat is the same");
    }
    let repeats = taken.events.len() - first.len();
    println!("{KILLS} kills, {} messages, {} events, {repeats} of them repeated", ids.len(), first.len());
}
