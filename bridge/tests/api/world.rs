//! A bridge on a temporary directory between a scripted broker and an HTTP client.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use reveille_bridge::vendor::Secret;
use reveille_bridge::{Bridge, Config};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::broker::Broker;
use crate::schema::Description;

const DEADLINE: Duration = Duration::from_secs(20);

/// An answer of the API.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub json: Value,
    pub text: String,
}

impl Answer {
    pub fn errno(&self) -> u64 {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.text);
        assert_eq!(self.json["status"], self.status, "{}", self.text);
        self.json["errno"].as_u64().unwrap()
    }

    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.text);
        self.json
    }

    pub fn pointers(&self) -> Vec<String> {
        let errors = self.json["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
    }
}

/// Speaks HTTP to one address with one key.
#[derive(Clone)]
pub struct Api {
    pub address: SocketAddr,
    pub key: String,
    pub client: Client<hyper_util::client::legacy::connect::HttpConnector, Full<Bytes>>,
}

impl Api {
    pub fn new(address: SocketAddr, key: &str) -> Self {
        Self { address, key: key.to_owned(), client: Client::builder(TokioExecutor::new()).build_http() }
    }

    pub async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request =
            http::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        if !self.key.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.key));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::from(body.to_owned())).unwrap();
        let answer = self.client.request(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        let answer = Answer { status: parts.status.as_u16(), headers: parts.headers, json, text };
        self.compare(method, path, &answer).await;
        answer
    }

    /// Every answer is as the API describes it.
    async fn compare(&self, method: &str, path: &str, answer: &Answer) {
        static DESCRIPTION: OnceCell<Description> = OnceCell::const_new();
        let kind = answer.headers.get("content-type").map_or("", |kind| kind.to_str().unwrap());
        if path.starts_with("/v1/openapi.json")
            || path.starts_with("/v1/docs")
            || kind.starts_with("text/html")
        {
            return;
        }
        let description = DESCRIPTION.get_or_init(|| async {
            let uri = format!("http://{}/v1/openapi.json", self.address);
            let request = http::Request::get(uri).body(Full::default()).unwrap();
            let served = self.client.request(request).await.unwrap().into_body();
            Description::new(serde_json::from_slice(&served.collect().await.unwrap().to_bytes()).unwrap())
        });
        let description = description.await;
        let Some(operation) = description.operation(method, path) else {
            assert!(
                path.starts_with("/console")
                    || path.starts_with("/v1/broker")
                    || [404, 405].contains(&answer.status),
                "{method} {path} is not described"
            );
            return;
        };
        let faults = description.faults(&operation, answer.status, kind, &answer.json);
        assert!(faults.is_empty(), "{method} {path} {}: {faults:#?}\n{}", answer.status, answer.text);
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], "").await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.call("PUT", path, &[], &body.to_string()).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call("PATCH", path, &[], &body.to_string()).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, &[], &body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, &[], "").await
    }

    /// Sends to the app `default`; the message's id.
    pub async fn send(&self, body: Value) -> String {
        self.post("/v1/apps/default/messages", body).await.ok()["id"].as_str().unwrap().to_owned()
    }

    pub async fn send_to(&self, device: &str) -> String {
        self.send(json!({"audience": {"devices": [device]}, "notification": {"title": "到了"}})).await
    }

    pub async fn message(&self, id: &str) -> Value {
        self.get(&format!("/v1/apps/default/messages/{id}")).await.ok()
    }

    pub async fn delivery(&self, id: &str, device: &str) -> Value {
        self.get(&format!("/v1/apps/default/messages/{id}/deliveries/{device}")).await.ok()
    }

    pub async fn recorded(&self) -> Vec<Value> {
        let mut found = self.get("/v1/apps/default/record?limit=1000").await.ok()["items"].take();
        let newest_first = found.as_array_mut().unwrap();
        newest_first.reverse();
        std::mem::take(newest_first)
    }

    /// Asks until the answer is what it should be: the API has no call that waits.
    pub async fn until(&self, path: &str, what: &str, look: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let asking = async {
            loop {
                last = self.get(path).await.json;
                if look(&last) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let found = tokio::time::timeout(DEADLINE, asking).await;
        assert!(found.is_ok(), "never {what}: {last:#}");
        last
    }

    /// The same for an answer that is no JSON.
    pub async fn until_text(&self, path: &str, look: impl Fn(&str) -> bool) {
        let asking = async {
            while !look(&self.get(path).await.text) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let found = tokio::time::timeout(DEADLINE, asking).await;
        assert!(found.is_ok(), "never as wanted: {}", self.get(path).await.text);
    }

    pub async fn until_state(&self, id: &str, device: &str, state: &str) -> Value {
        let path = format!("/v1/apps/default/messages/{id}/deliveries/{device}");
        self.until(&path, state, |delivery| delivery["state"] == state).await
    }

    pub async fn until_funnel(&self, id: &str, part: &str, count: u64) -> Value {
        let path = format!("/v1/apps/default/messages/{id}");
        let look = |message: &Value| {
            let funnel = &message["funnel"];
            let parts =
                ["filtered", "suppressed", "failed", "expired", "acked", "vendor_accepted", "in_flight"];
            let sum: u64 = parts.iter().map(|part| funnel[part].as_u64().unwrap()).sum();
            assert_eq!(funnel["targeted"].as_u64().unwrap(), sum, "{funnel}");
            funnel[part] == count
        };
        self.until(&path, &format!("{count} {part}"), look).await
    }

    pub async fn register(&self, device: &str, token: &str) {
        let path = format!("/v1/apps/default/devices/{device}/tokens/record");
        self.put(&path, json!({"token": token})).await.ok();
    }

    pub async fn answers(&self, rules: Value) {
        self.put("/v1/apps/default/credentials/record", json!({"answers": rules})).await.ok();
    }
}

/// A bridge with its broker.
pub struct World {
    pub broker: Broker,
    pub api: Api,
    pub config: Config,
    bridge: Option<Bridge>,
    dir: TempDir,
}

impl World {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let broker = Broker::start().await;
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config {
            http: "127.0.0.1:0".parse().unwrap(),
            mqtt: broker.address,
            password: Secret::new("hush"),
            ..Config::default()
        };
        change(&mut config);
        let bridge = reveille_bridge::start(config.clone(), dir.path(), None).await.unwrap();
        let key = bridge.first_admin_key().unwrap().to_owned();
        let api = Api::new(bridge.http_addr(), &key);
        broker.connected(1).await;
        api.answers(json!([])).await;
        Self { broker, api, config, bridge: Some(bridge), dir }
    }

    /// Ends the bridge as a crash would.
    pub async fn kill(&mut self) {
        self.bridge.take().unwrap().kill().await;
    }

    pub async fn restart(&mut self) {
        let bridge = reveille_bridge::start(self.config.clone(), self.dir.path(), None).await.unwrap();
        assert_eq!(bridge.first_admin_key(), None);
        self.api = Api::new(bridge.http_addr(), &self.api.key);
        self.bridge = Some(bridge);
    }

    /// Ends with pushes under way that nobody waits for.
    pub async fn kill_off(mut self) {
        self.kill().await;
    }

    pub async fn stop(mut self) {
        self.bridge.take().unwrap().stop().await;
    }

    pub fn address(&self) -> SocketAddr {
        self.api.address
    }

    pub fn data_dir(&self) -> &std::path::Path {
        self.dir.path()
    }
}
