//! Events over HTTP, as they happen.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use reveille_proto::bridge as wire;
use serde_json::{Value, json};

use crate::world::{Api, World};

const DEADLINE: Duration = Duration::from_secs(20);

/// A connection that reads events.
struct Reader {
    body: Incoming,
    text: String,
}

/// One event as a reader sees it.
#[derive(Debug)]
struct Seen {
    id: Option<String>,
    name: String,
    data: Value,
}

impl Reader {
    async fn open(api: &Api, path: &str, last_id: Option<&str>) -> Self {
        let mut request = http::Request::get(format!("http://{}{path}", api.address));
        request = request.header("authorization", format!("Bearer {}", api.key));
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let answer = api.client.request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { body: answer.into_body(), text: String::new() }
    }

    /// The next event; `None`: the connection has ended.
    async fn next(&mut self) -> Option<Seen> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    block
                        .lines()
                        .find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned()))
                };
                let seen = field("event").map(|name| Seen {
                    id: field("id"),
                    name,
                    data: serde_json::from_str(&field("data").unwrap()).unwrap(),
                });
                self.text = rest.to_owned();
                if seen.is_some() {
                    return seen;
                }
            }
            let frame = tokio::time::timeout(DEADLINE, self.body.frame()).await.expect("no event came")?;
            let bytes = frame.unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }

    async fn until(&mut self, name: &str) -> Seen {
        loop {
            let seen = self.next().await.unwrap_or_else(|| panic!("{name} never came"));
            if seen.name == name {
                return seen;
            }
        }
    }
}

#[tokio::test]
async fn what_happens_is_told_as_it_happens_and_again_from_where_a_reader_was() {
    let world = World::start().await;
    world.api.answers(json!([{"token": "dead", "answer": "token_dead"}])).await;
    world.api.register("d1", "dead").await;
    let mut reader = Reader::open(&world.api, "/v1/apps/default/events", None).await;
    let body = json!({"audience": {"devices": ["d1"]}, "notification": {"title": "t"},
        "delivery": {"strategy": "vendor_only"}});
    let id = world.api.send(body).await;
    let sending = reader.until("message.sending").await;
    assert_eq!((&sending.data["app"], &sending.data["about"]), (&json!("default"), &json!(id)));
    assert_eq!(reader.until("token.invalid").await.data["data"]["device"], "d1");
    let done = reader.until("message.done").await;
    assert_eq!(done.data["data"]["funnel"]["failed"], 1);
    drop(reader);
    let path = "/v1/events?types=message.*";
    let mut again = Reader::open(&world.api, path, sending.id.as_deref()).await;
    let seen = again.next().await.unwrap();
    assert_eq!((seen.name.as_str(), &seen.id), ("message.done", &done.id), "token.invalid is not wanted");
    world.stop().await;
    assert_eq!(again.until("events.cut").await.data["reason"], "the server stops");
    assert!(again.next().await.is_none());
}

#[tokio::test]
async fn a_reader_whose_key_is_revoked_hears_no_more_and_never_a_whole_device_token() {
    let world = World::start().await;
    let key = world.api.post("/v1/apps/default/keys", json!({"scopes": ["read"]})).await.ok();
    let other = world.api.post("/v1/apps/default/keys", json!({"scopes": ["read"]})).await.ok();
    let api = Api::new(world.address(), key["key"].as_str().unwrap());
    let mut reader = Reader::open(&api, "/v1/apps/default/events", None).await;
    let mut of_all = Reader::open(&api, "/v1/events", None).await;
    world.api.answers(json!([{"token": "secret-token-of-d1", "answer": "token_dead"}])).await;
    world.api.register("d1", "secret-token-of-d1").await;
    let body = json!({"audience": {"devices": ["d1"]}, "notification": {"title": "t"},
        "delivery": {"strategy": "vendor_only"}});
    let revoke = |key: &Value| format!("/v1/apps/default/keys/{}", key["id"].as_str().unwrap());
    assert_eq!(world.api.delete(&revoke(&other)).await.status, 204);
    world.api.send(body).await;
    for reader in [&mut reader, &mut of_all] {
        let dead = reader.until("token.invalid").await;
        assert_eq!(dead.data["data"]["token"], "secret-t…", "another's key was revoked");
    }
    assert_eq!(world.api.delete(&revoke(&key)).await.status, 204);
    for mut reader in [reader, of_all] {
        while reader.next().await.is_some() {}
    }
    world.stop().await;
}

#[tokio::test]
async fn after_a_restart_a_reader_is_told_that_something_may_be_missing() {
    let mut world = World::start().await;
    world.api.send_to("d1").await;
    let mut reader = Reader::open(&world.api, "/v1/events", None).await;
    world.api.send_to("d1").await;
    let seen = reader.until("message.sending").await;
    world.kill().await;
    world.restart().await;
    let mut reader = Reader::open(&world.api, "/v1/events", seen.id.as_deref()).await;
    assert_eq!(reader.next().await.unwrap().name, "events.gap");
    world.stop().await;
}

#[tokio::test]
async fn devices_that_come_and_go_are_told_to_whoever_asks_and_other_apps_to_nobody_else() {
    let world = World::start().await;
    world.api.post("/v1/apps", json!({"id": "shop"})).await.ok();
    let key = world.api.post("/v1/apps/shop/keys", json!({"scopes": ["read"]})).await.ok();
    let shop = Api::new(world.address(), key["key"].as_str().unwrap());
    let mut of_shop = Reader::open(&shop, "/v1/events?types=device.*,message.*", None).await;
    let mut of_all = Reader::open(&world.api, "/v1/events?types=device.*", None).await;
    world.broker.presence(wire::presence::Kind::Connected, "d1", 5).await;
    let online = of_all.next().await.unwrap();
    assert_eq!(
        (online.name.as_str(), &online.id, &online.data["about"]),
        ("device.online", &None, &json!("d1"))
    );
    let body = json!({"audience": {"devices": ["x"]}, "notification": {"title": "t"}});
    world.api.post("/v1/apps/shop/messages", body).await.ok();
    let first = of_shop.next().await.unwrap();
    assert_eq!((first.name.as_str(), &first.data["app"]), ("message.sending", &json!("shop")));
    assert_eq!(shop.get("/v1/apps/default/events").await.errno(), 2003);
    assert_eq!(shop.get("/v1/events?types=delivery.shown").await.errno(), 1005);
    let sender = world.api.post("/v1/apps/shop/keys", json!({"scopes": ["send"]})).await.ok();
    let sender = Api::new(world.address(), sender["key"].as_str().unwrap());
    for path in ["/v1/events", "/v1/apps/shop/events"] {
        assert_eq!(sender.get(path).await.errno(), 2003, "{path}");
    }
    world.stop().await;
}
