//! Web Push both ways: pywebpush and web-push send to the fake, and web-push-testing receives what our sender makes.

use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use reveille_bridge::sender::{CredentialKey, Sender, SenderOptions};
use reveille_bridge::vendor::{Credential, DeviceToken, Push, Verdict};
use reveille_fakes::FakeVendors;
use reveille_proto::ids::{AppId, MessageId};
use serde_json::{Value, json};

use crate::installed::{modules, node, path_of, python, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pywebpush_and_web_push_are_understood_by_the_fake() {
    for client in [python("web_push_python.py"), node("web_push_node.cjs")] {
        let fake = FakeVendors::start().await.unwrap();
        let subscription: Value = serde_json::from_str(&fake.token("web_push", 1)).unwrap();
        let texts: Vec<String> = ["a", "泵 7 报警"]
            .iter()
            .map(|text| json!({"data": {"mid": "m1", "text": text}}).to_string())
            .collect();
        let key = fake.credential("web_push")["private_key"].clone();
        let name = format!("{client:?}");
        let told =
            run(client, json!({"subscription": subscription, "private_key": key, "texts": texts})).await;
        assert_eq!(told, json!([201, 201]), "{name} {:?}", fake.broken());
        let calls = fake.calls();
        let read: Vec<Option<&str>> =
            calls.iter().map(|call| call.message["data"]["text"].as_str()).collect();
        assert_eq!(read, [Some("a"), Some("泵 7 报警")], "{name}");
    }
}

/// `web-push-testing` as a child; dropping it kills it.
struct Receiver {
    child: Child,
    port: u16,
    client: Client<HttpConnector, Full<bytes::Bytes>>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Receiver {
    async fn start() -> Self {
        // It takes no port 0, so it gets one that was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = modules().join("web-push-testing/src/bin/server.js");
        let child = std::process::Command::new("node")
            .arg("--require")
            .arg(path_of("loopback.cjs"))
            .arg(server)
            .arg(port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let receiver = Self { child, port, client: Client::builder(TokioExecutor::new()).build_http() };
        let listening = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), listening).await.expect("web-push-testing listens");
        receiver
    }

    async fn ask(&self, path: &str, body: Value) -> Value {
        let request = hyper::Request::post(format!("http://127.0.0.1:{}{path}", self.port))
            .header("content-type", "application/json")
            .body(Full::from(body.to_string()))
            .unwrap();
        let answer = self.client.request(request).await.unwrap().into_body().collect().await.unwrap();
        serde_json::from_slice(&answer.to_bytes()).unwrap_or_default()
    }
}

fn credential(private_key: &Value, port: u16) -> Arc<Credential> {
    let credential: Credential = serde_json::from_value(json!({
        "vendor": "web_push", "private_key": private_key, "subject": "mailto:push@shop.example",
        "hosts": [format!("localhost:{port}")],
    }))
    .unwrap();
    credential.validate().unwrap();
    Arc::new(credential)
}

/// The public half of a key, as a browser is given it; the credential's summary names it.
fn public_key(credential: &Credential) -> String {
    let summary = credential.summary();
    summary.split("public key ").nth(1).unwrap().split(',').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn web_push_testing_verifies_and_decrypts_what_our_sender_makes() {
    let receiver = Receiver::start().await;
    let fake = FakeVendors::start().await.unwrap(); // for its key
    let credential = credential(&fake.credential("web_push")["private_key"], receiver.port);
    let options = json!({"userVisibleOnly": "true", "applicationServerKey": public_key(&credential)});
    let subscription = receiver.ask("/subscribe", options).await["data"].clone();
    let token = json!({"endpoint": subscription["endpoint"], "keys": subscription["keys"]}).to_string();
    let (sender, key) = (
        Sender::new(SenderOptions::default()),
        CredentialKey { app: AppId::default(), vendor: credential.vendor_name() },
    );
    let push = Push {
        title: Some("泵 7".to_owned()),
        body: Some("压力 9.1 bar".to_owned()),
        ..Push::new(MessageId([7; 16]), AppId::default(), DeviceToken::parse(&token).unwrap())
    };
    let sent = sender.send(&key, &credential, &push).await;
    assert!(matches!(sent.verdict, Verdict::Accepted { .. }), "{sent:?}");
    let hash = subscription["clientHash"].clone();
    let got = receiver.ask("/get-notifications", json!({"clientHash": hash})).await;
    let text: Value = serde_json::from_str(got["data"]["messages"][0].as_str().unwrap_or_default())
        .unwrap_or_else(|_| panic!("{got}"));
    assert_eq!(text["notification"]["title"], "泵 7");
    assert_eq!(text["data"]["mid"], push.id.to_string());

    receiver.ask(&format!("/expire-subscription/{}", hash.as_str().unwrap()), json!({})).await;
    let sent = sender.send(&key, &credential, &push).await;
    assert!(matches!(sent.verdict, Verdict::TokenDead { .. }), "{sent:?}");
    sender.close().await;
}
