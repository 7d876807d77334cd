//! Broker and bridge as two processes: what only the broker knows is asked for over its own HTTP listener.

use reveille_broker::admin_key_hash;
use reveille_proto::mqtt::QoS;
use reveille_tests::api::{Api, Method};
use reveille_tests::mqtt::{Client, Options};
use reveille_tests::program::Reveille;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

const KEY: &str = "rvb_of-the-bridge";

/// A broker with a key for the bridge, and the bridge.
fn two(role: &str) -> (Reveille, Reveille) {
    let keys = format!(
        "[[broker.admin.keys]]\nname = 'bridge'\nrole = '{role}'\nsha256 = '{}'\n",
        admin_key_hash(KEY)
    );
    let history = "[[broker.history]]\nfilter = 'plant/#'\nvalue = 'json:/temp'\n";
    let broker = Reveille::start_broker_with(&format!("[broker]\nhttp = '127.0.0.1:0'\n{keys}{history}"));
    let config = format!("[bridge]\nbroker_http = '{}'\nbroker_key = '{KEY}'\n", broker.http());
    let bridge = Reveille::start_bridge_of_with(&broker, &config);
    (broker, bridge)
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_and_their_subscribers_are_read_from_the_broker_in_the_other_process() {
    let (mut broker, bridge) = two("read");
    let api = Api::new(bridge.http(), bridge.admin_key());
    let key = api.post("/v1/apps/default/keys", json!({"scopes": ["read", "send"]})).await;
    let api = Api::new(bridge.http(), key["key"].as_str().unwrap());
    let mut sensor = Client::connect(broker.mqtt(), &Options::clean("sensor"));
    let mut device = Client::connect(broker.mqtt(), &Options::persistent("设备"));
    device.subscribe("plant/+", QoS::AtLeastOnce);
    assert!(!sensor.publish("plant/7", r#"{"temp":20}"#, QoS::AtLeastOnce).is_failure());
    let path = "/v1/apps/default/topics/plant%2F7";
    assert_eq!(api.get(&format!("{path}/last")).await["value"]["value"], 20.0);
    assert_eq!(api.get(&format!("{path}/history?agg=max&step=300d")).await["points"][0]["value"], 20.0);
    let (status, unknown): (u16, Value) = api.ask(Method::GET, "/v1/apps/default/topics/x/last", None).await;
    assert_eq!((status, &unknown["code"]), (404, &json!("topic_unknown")));

    // As it comes, not when it ends.
    let socket = TcpStream::connect(bridge.http()).unwrap();
    let secret = key["key"].as_str().unwrap();
    let stream = "/v1/apps/default/topics/stream?filter=plant/%23";
    write!(&socket, "GET {stream} HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer {secret}\r\n\r\n").unwrap();
    let mut lines = BufReader::new(&socket).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().contains("200"));
    let told = std::thread::scope(|scope| {
        let told = scope.spawn(|| lines.find(|line| line.starts_with("data: ")).unwrap());
        while !told.is_finished() {
            sensor.publish("plant/8", r#"{"temp":21}"#, QoS::AtLeastOnce);
        }
        told.join().unwrap()
    });
    assert!(told.contains("plant/8"), "{told}");

    let audience = json!({"audience": {"topic": "plant/7"}});
    let look = api.post("/v1/apps/default/audiences:estimate", audience.clone()).await;
    assert_eq!((&look["devices"], &look["sample"]), (&json!(1), &json!(["设备"])));

    broker.kill();
    for (method, path, body) in [
        (Method::GET, format!("{path}/last"), None),
        (Method::POST, "/v1/apps/default/audiences:estimate".to_owned(), Some(audience)),
    ] {
        let (status, problem): (u16, Value) = api.ask(method, &path, body).await;
        assert_eq!((status, &problem["code"]), (503, &json!("broker_away")), "{problem}");
        assert!(problem["retry_after_s"].as_u64().is_some_and(|wait| wait > 0), "{problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bridges_key_does_not_open_is_no_fault_of_the_caller() {
    let (broker, bridge) = two("read");
    let api = Api::new(bridge.http(), bridge.admin_key());
    let listed = api.get("/v1/broker/sessions?online=true").await;
    assert_eq!(listed["items"][0]["client_id"], "reveille-bridge", "the whole operations API is there");
    let ban = json!({"kind": "user", "who": "mallory"});
    let (status, problem): (u16, Value) = api.ask(Method::POST, "/v1/broker/bans", Some(ban)).await;
    assert_eq!((status, &problem["code"]), (502, &json!("broker_failed")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("bridge.broker_key"), "{problem}");
    drop(broker);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_address_it_is_said_what_is_missing() {
    let broker = Reveille::start_broker_with("");
    let bridge = Reveille::start_bridge_of(&broker);
    let api = Api::new(bridge.http(), bridge.admin_key());
    let (status, problem): (u16, Value) = api.ask(Method::GET, "/v1/apps/default/topics/t/last", None).await;
    assert_eq!((status, &problem["code"]), (501, &json!("not_offered")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("bridge.broker_http"), "{problem}");
    let mut rest = String::new();
    let mut socket = TcpStream::connect(bridge.http()).unwrap();
    write!(socket, "GET /healthz HTTP/1.0\r\n\r\n").unwrap();
    socket.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("200"), "{rest}");
}
