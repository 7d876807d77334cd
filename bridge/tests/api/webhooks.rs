//! Webhooks over real HTTP: signed, in order for each device, at least once, given up into dead letters and replayed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use ring::hmac;
use serde_json::{Value, json};

use crate::world::{Api, World};

const SECRET: &str = "a-secret-of-the-shop";
const PATH: &str = "/v1/apps/default/webhooks";

/// A receiver that keeps what it took, and fails as told.
#[derive(Clone, Default)]
struct Receiver {
    taken: Arc<Mutex<Vec<Value>>>,
    refused: Arc<Mutex<Vec<Value>>>,
    /// How often it answers 503 to events about a device.
    failures: Arc<Mutex<HashMap<String, u32>>>,
    is_moved: bool,
}

impl Receiver {
    async fn start(self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(take).with_state(self);
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}/events")
    }

    fn fail(&self, device: &str, times: u32) {
        self.failures.lock().unwrap().insert(device.to_owned(), times);
    }

    fn of(&self, device: &str) -> Vec<String> {
        let taken = self.taken.lock().unwrap();
        let about = taken.iter().filter(|event| event["data"]["device"] == device);
        about.map(|event| event["event"].as_str().unwrap().to_owned()).collect()
    }

    async fn until(&self, what: &str, look: impl Fn(&Self) -> bool) {
        let looking = async {
            while !look(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(30), looking).await;
        assert!(found.is_ok(), "never {what}: {:?}", self.taken.lock().unwrap());
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> Response {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let signed = format!("{}.{}.{body}", header("x-push-timestamp"), header("x-push-nonce"));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let wanted: String =
        hmac::sign(&key, signed.as_bytes()).as_ref().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(header("x-push-signature"), format!("v1={wanted}"), "signed over moment, nonce and body");
    let event: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(header("idempotency-key"), event["id"].as_str().unwrap());
    if receiver.is_moved {
        receiver.refused.lock().unwrap().push(event);
        return (StatusCode::FOUND, [("location", "/elsewhere")]).into_response();
    }
    let device = event["data"]["device"].as_str().unwrap_or_default().to_owned();
    let mut failures = receiver.failures.lock().unwrap();
    if let Some(left) = failures.get_mut(&device).filter(|left| **left > 0) {
        *left -= 1;
        receiver.refused.lock().unwrap().push(event);
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    receiver.taken.lock().unwrap().push(event);
    StatusCode::NO_CONTENT.into_response()
}

async fn hook(world: &World, url: &str, events: Value) -> String {
    let wanted = json!({"url": url, "events": events, "secret": SECRET});
    let made = world.api.post(PATH, wanted).await.ok();
    assert!(made.get("secret").is_none(), "a given secret is not shown");
    made["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_dead_token_and_the_states_of_a_delivery_are_told_in_order() {
    let world = World::start().await;
    let receiver = Receiver::default();
    let url = receiver.clone().start().await;
    hook(&world, &url, json!(["token.*", "delivery.*", "message.done"])).await;
    world.api.answers(json!([{"token": "gone", "answer": "token_dead"}])).await;
    world.api.register("d1", "fine").await;
    world.api.register("d2", "gone").await;
    receiver.fail("d1", 2);
    let body = json!({
        "audience": {"devices": ["d1", "d2"]}, "notification": {"title": "到了"},
        "delivery": {"strategy": "vendor_only"}, "reference": "order-7",
    });
    let id = world.api.send(body).await;
    let d1 = ["delivery.vendor_submitted", "delivery.vendor_accepted"];
    receiver
        .until("both devices are told of", |r| {
            r.of("d1").ends_with(&d1.map(str::to_owned)) && r.of("d2").len() > 2
        })
        .await;
    let d2 = receiver.of("d2");
    let place = |name: &str| d2.iter().position(|event| event == name);
    assert!(place("token.invalid").is_some() && place("token.invalid") < place("delivery.failed"), "{d2:?}");
    assert_eq!(
        receiver.failures.lock().unwrap()["d1"],
        0,
        "what failed was tried again, before what came later"
    );
    receiver
        .until("the message is done", |r| {
            r.taken.lock().unwrap().iter().any(|event| event["event"] == "message.done")
        })
        .await;
    let taken = receiver.taken.lock().unwrap().clone();
    let dead = taken.iter().find(|event| event["event"] == "token.invalid").unwrap();
    assert_eq!(
        (&dead["app"], &dead["data"]["vendor"], &dead["data"]["token"]),
        (&json!("default"), &json!("record"), &json!("gone"))
    );
    let done = taken.iter().find(|event| event["event"] == "message.done").unwrap();
    assert_eq!((&done["data"]["message"], &done["data"]["reference"]), (&json!(id), &json!("order-7")));
    assert_eq!(done["data"]["funnel"]["targeted"], 2);
    world.stop().await;
}

#[tokio::test]
async fn what_waits_for_a_webhook_survives_the_death_of_the_server() {
    let mut world = World::start().await;
    let receiver = Receiver::default();
    let url = receiver.clone().start().await;
    receiver.fail("d1", u32::MAX);
    let id = hook(&world, &url, json!(["delivery.*"])).await;
    world.api.register("d1", "t1").await;
    let message = world.api.send_to("d1").await;
    world.api.until_state(&message, "d1", "queued").await;
    receiver.until("the first attempt failed", |r| !r.refused.lock().unwrap().is_empty()).await;
    world.kill().await;
    receiver.fail("d1", 0);
    world.restart().await;
    receiver.until("it is told of", |r| !r.of("d1").is_empty()).await;
    let path = format!("{PATH}/{id}");
    world.api.until(&path, "nothing waits", |hook| hook["waiting"] == 0).await;
    let (first, taken) =
        (receiver.refused.lock().unwrap()[0].clone(), receiver.taken.lock().unwrap()[0].clone());
    assert_eq!(first, taken, "every attempt carries the same");
    let attempts = world.api.get(&format!("{path}/attempts")).await.ok();
    let results: Vec<&Value> =
        attempts["items"].as_array().unwrap().iter().map(|attempt| &attempt["result"]).collect();
    assert_eq!((results.first(), results.last()), (Some(&&json!("delivered")), Some(&&json!("again"))));
    world.stop().await;
}

#[tokio::test]
async fn a_webhook_is_set_replaced_listed_and_removed() {
    let world = World::start().await;
    let made = world.api.post(PATH, json!({"url": "https://hook.example/in", "events": ["*"]})).await;
    assert_eq!(made.status, 201);
    let (id, secret) =
        (made.json["id"].as_str().unwrap().to_owned(), made.json["secret"].as_str().unwrap().to_owned());
    assert_eq!(secret.len(), 64);
    let path = format!("{PATH}/{id}");
    let listed = world.api.get(PATH).await.ok();
    assert_eq!(
        (listed["items"][0]["id"].as_str(), listed.to_string().contains(&secret)),
        (Some(id.as_str()), false)
    );
    let replaced =
        world.api.put(&path, json!({"url": "https://hook.example/2", "events": ["token.*"]})).await.ok();
    assert_eq!(
        (&replaced["url"], &replaced["events"]),
        (&json!("https://hook.example/2"), &json!(["token.*"]))
    );
    assert_eq!(world.api.get(&path).await.ok(), replaced);
    for (body, pointer) in [
        (json!({"url": "http://hook.example/", "events": ["*"]}), "/url"),
        (json!({"url": "https://hook.example/", "events": []}), "/events"),
        (json!({"url": "https://hook.example/", "events": ["tokens"]}), "/events/0"),
        (json!({"url": "https://hook.example/", "events": ["*"], "secret": "short"}), "/secret"),
        (json!({"url": "https://hook.example/", "events": ["*"], "ca_pem": "x"}), "/ca_pem"),
        (json!({"url": "https://hook.example/", "events": ["*"], "paused": true}), "/paused"),
    ] {
        let answer = world.api.post(PATH, body).await;
        assert_eq!((answer.errno(), answer.pointers()), (1002, vec![pointer.to_owned()]));
    }
    assert_eq!(world.api.post(&format!("{path}:replay"), json!({})).await.ok()["replayed"], 0);
    assert_eq!(world.api.post(&format!("{path}:again"), json!({})).await.errno(), 3008);
    assert_eq!(world.api.get(&format!("{path}/dead-letters")).await.ok()["items"], json!([]));
    assert_eq!(world.api.delete(&path).await.status, 204);
    for answer in [
        world.api.get(&path).await,
        world.api.delete(&path).await,
        world.api.get(&format!("{path}/attempts")).await,
    ] {
        assert_eq!(answer.errno(), 3020);
    }
    world.stop().await;
}

#[tokio::test]
async fn an_app_s_own_key_cannot_point_a_webhook_into_the_operator_s_network() {
    let world = World::with(|config| config.webhook_hosts = vec!["hooks.plant".to_owned()]).await;
    let key = world.api.post("/v1/apps/default/keys", json!({"scopes": ["admin"]})).await.ok();
    let tenant = Api::new(world.address(), key["key"].as_str().unwrap());
    let body = |url: &str| json!({"url": url, "events": ["*"]});
    for url in [
        "http://127.0.0.1:8080/",
        "https://127.0.0.1:8080/",
        "https://localhost/",
        "https://[::1]/",
        "https://169.254.169.254/",
    ] {
        assert_eq!(tenant.post(PATH, body(url)).await.errno(), 1002, "{url}");
    }
    assert_eq!(tenant.post(PATH, body("http://hooks.plant/")).await.status, 201);
    assert_eq!(world.api.post(PATH, body("http://127.0.0.1:9/")).await.status, 201);
    world.stop().await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let world = World::start().await;
    let receiver = Receiver { is_moved: true, ..Receiver::default() };
    let url = receiver.clone().start().await;
    let id = hook(&world, &url, json!(["delivery.*"])).await;
    world.api.register("d1", "t1").await;
    world.api.send_to("d1").await;
    let path = format!("{PATH}/{id}/attempts");
    let attempts =
        world.api.until(&path, "an attempt", |page| !page["items"].as_array().unwrap().is_empty()).await;
    assert_eq!(
        (&attempts["items"][0]["status"], &attempts["items"][0]["result"]),
        (&json!(302), &json!("again"))
    );
    assert_eq!(receiver.refused.lock().unwrap().len(), attempts["items"].as_array().unwrap().len());
    world.stop().await;
}
