//! What operators see and do over HTTP.

use crate::broker;
use crate::client::{Client, connect, durable, publish};
use crate::http::{Http, KEY, sha256, with_keys};
use reveille_broker::Broker;
use reveille_broker_core::change::{Batch, Change, SessionRecord};
use reveille_broker_core::message::{Seq, SessionKey, Time};
use reveille_broker_store::{Memory, Store};
use reveille_proto::ids::{AppId, ClientId, Epoch};
use reveille_proto::mqtt::{Packet, QoS, Version};
use reveille_proto::reason::ReasonCode;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const API: &str = "/v1/broker";

fn start(text: &str) -> (Broker, Http) {
    let broker = broker(&with_keys(text));
    let http = Http { address: broker.http_addr().unwrap(), key: KEY };
    (broker, http)
}

fn ids(items: &[Value]) -> Vec<&str> {
    let mut ids: Vec<&str> = items.iter().map(|item| item["client_id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids
}

/// Offline, with a subscription to `x/#` and so many messages in its queue.
fn parked(broker: &Broker, id: &str, messages: u16) {
    let mut device = Client::connect(broker.mqtt_addr(), durable(Version::V5, id));
    device.subscribe("x/#", QoS::AtLeastOnce);
    device.send(&Packet::Disconnect(Box::new(reveille_proto::mqtt::Disconnect::new(ReasonCode::SUCCESS))));
    assert_eq!(device.receive_or_end(), None);
    let mut sender = Client::connect(broker.mqtt_addr(), connect(Version::V5, "sender", true));
    (1..=messages)
        .for_each(|no| assert_eq!(sender.publish(&format!("x/{id}"), b"x", no), ReasonCode::SUCCESS));
}

#[test]
fn whoever_has_no_key_gets_health_and_nothing_else() {
    let (broker, http) = start("");
    for (key, method, path, wanted) in [
        ("", "GET", "/healthz", 200),
        ("wrong", "GET", "/v1/broker/sessions", 401),
        ("wrong", "GET", "/v1/broker/openapi.json", 401),
        ("wrong", "GET", "/v1/broker/nothing", 401),
        (KEY, "GET", "/v1/broker/nothing", 404),
        (KEY, "GET", "/nothing", 404),
        (KEY, "POST", "/v1/broker/sessions", 405),
        (KEY, "GET", "/v1/broker/sessions", 200),
        ("ra-key-of-256-random-bits-would-stand-here", "GET", "/v1/broker/sessions", 200),
        ("ra-key-of-256-random-bits-would-stand-here", "DELETE", "/v1/broker/apps/default/sessions/d", 403),
    ] {
        if path == "/healthz" {
            continue; // no JSON; see operations.rs
        }
        let answer = Http { key, ..http }.ask(method, path, None);
        assert_eq!(answer.status, wanted, "{key} {method} {path}: {answer:?}");
        assert_eq!(answer.status >= 400, answer.head.contains("application/problem+json"), "{answer:?}");
    }
    drop(broker);
    let off = crate::broker("http = '127.0.0.1:0'");
    let answer = Http { address: off.http_addr().unwrap(), key: KEY }.ask("GET", "/v1/broker/stats", None);
    assert_eq!((answer.status, answer.body["code"].as_str()), (403, Some("admin_off")));
}

#[test]
fn a_public_operations_listener_must_be_asked_for() {
    let start = |text: &str| {
        let config = crate::config(text);
        reveille_broker::start_on(config, Arc::new(Memory::new()))
            .map(drop)
            .map_err(|error| error.to_string())
    };
    assert!(start("http = '0.0.0.0:0'").unwrap_err().contains("admin.public"));
    assert_eq!(start("http = '0.0.0.0:0'\nadmin.public = true"), Ok(()));
    let key = format!("http = '0.0.0.0:0'\n[[admin.keys]]\nname = 'a'\nsha256 = '{}'", sha256("x"));
    assert_eq!(start(&key), Ok(()));
    for bad in ["sha256 = 'abc'", "sha256 = 'xyz'", "sha256 = ''"] {
        assert!(
            toml::from_str::<reveille_broker::Config>(&format!("[[admin.keys]]\nname = 'a'\n{bad}")).is_err()
        );
    }
}

#[test]
fn sessions_are_listed_by_what_they_are_and_shown_one_by_one() {
    let (broker, http) = start("");
    parked(&broker, "phone/设备-1", 3);
    parked(&broker, "phone-2", 0);
    let mut online = Client::connect(broker.mqtt_addr(), connect(Version::V3_1_1, "desk", true));
    online.ping();
    let list = |query: &str| {
        let items = http.all(&format!("{API}/sessions{query}"));
        ids(&items).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let all = ["desk", "phone-2", "phone/设备-1"];
    assert_eq!(list("?limit=1").iter().filter(|id| all.contains(&id.as_str())).count(), 3);
    assert_eq!(list("?online=false"), ["phone-2", "phone/设备-1"]);
    assert_eq!(list("?client_id=phone*&queue_min=1"), ["phone/设备-1"]);
    assert_eq!(list("?network=127.0.0.0/8&client_id=desk"), ["desk"]);
    assert_eq!(list("?network=10.0.0.0/8"), [] as [&str; 0]);
    assert_eq!(list("?app=other"), [] as [&str; 0]);
    let one = http.get(&format!("{API}/apps/default/sessions/phone%2F%E8%AE%BE%E5%A4%87-1"));
    assert_eq!(
        (&one["online"], &one["queue"]["messages"], &one["subscriptions"]),
        (&json!(false), &json!(3), &json!(1))
    );
    assert_eq!(one["expiry_s"], json!(3600));
    let desk = http.get(&format!("{API}/apps/default/sessions/desk"));
    assert_eq!(
        (&desk["connection"]["protocol"], &desk["connection"]["network"]),
        (&json!("3.1.1"), &json!("127.0.0.1"))
    );
    for (path, wanted) in [
        ("sessions?limit=0", 400),
        ("sessions?limit=1001", 400),
        ("sessions?unknown=1", 400),
        ("sessions?network=home", 400),
        ("sessions?after=nonsense", 400),
        ("apps/default/sessions/nobody", 404),
        ("apps/NO/sessions/desk", 400),
    ] {
        assert_eq!(http.ask("GET", &format!("{API}/{path}"), None).status, wanted, "{path}");
    }
}

#[test]
fn a_client_is_kicked_and_its_session_ended() {
    let (broker, http) = start("");
    let mut device = Client::connect(broker.mqtt_addr(), durable(Version::V5, "d"));
    let connection = format!("{API}/apps/default/sessions/d/connection");
    assert_eq!(http.ask("DELETE", &format!("{connection}?reason=server_busy"), None).status, 204);
    match device.receive_or_end() {
        Some(Packet::Disconnect(goodbye)) => assert_eq!(goodbye.reason, ReasonCode::SERVER_BUSY),
        other => panic!("{other:?}"),
    }
    assert_eq!(http.ask("DELETE", &connection, None).body["code"], "not_connected");
    let session = format!("{API}/apps/default/sessions/d");
    assert_eq!(http.get(&session)["online"], json!(false));
    assert_eq!(http.ask("DELETE", &session, None).status, 204);
    assert_eq!(http.ask("GET", &session, None).status, 404);
    assert_eq!(http.ask("DELETE", &session, None).status, 404);
    let (_, connack) = Client::open(broker.mqtt_addr(), durable(Version::V5, "d"));
    assert!(!connack.session_present);
    let bridge = http.ask("DELETE", &format!("{API}/apps/_reveille/sessions/reveille-bridge"), None);
    assert_eq!(bridge.body["code"], "brokers_own");
}

#[test]
fn a_queue_is_read_from_memory_and_disk_and_purged() {
    let directory = tempfile::tempdir().unwrap();
    let broker = crate::start(&with_keys(""), directory.path());
    let http = Http { address: broker.http_addr().unwrap(), key: KEY };
    parked(&broker, "d", 20);
    parked(&broker, "e", 5);
    let path = format!("{API}/apps/default/sessions/d/queue");
    let items = http.all(&format!("{path}?limit=7&payload=true"));
    assert_eq!(items.len(), 25, "e's messages match its filter too");
    assert_eq!((&items[0]["topic"], &items[0]["state"]), (&json!("x/d"), &json!("waiting")));
    assert_eq!(items[24]["payload"]["text"], json!("x"));
    let ranked = http.get(&format!("{API}/queues?order=bytes&limit=1"));
    assert_eq!((ids(ranked["items"].as_array().unwrap()), &ranked["queues"]), (vec!["d"], &json!(2)));
    assert_eq!(http.ask("DELETE", &path, None).body, json!({"dropped": 25}));
    assert_eq!(http.all(&path).len(), 0);
    assert_eq!(http.ask("DELETE", &format!("{API}/apps/default/sessions/x/queue"), None).status, 404);
}

#[test]
fn whoever_would_get_a_topic_is_found() {
    let (broker, http) = start("");
    for (id, filter) in [("a", "x/+"), ("b", "$share/g/x/1"), ("c", "y"), ("d", "#")] {
        let mut client = Client::connect(broker.mqtt_addr(), durable(Version::V5, id));
        client.subscribe(filter, QoS::AtMostOnce);
    }
    let receivers = http.all(&format!("{API}/apps/default/receivers?topic=x/1&limit=1"));
    assert_eq!(ids(&receivers), ["a", "b", "d"]);
    assert_eq!(ids(&http.all(&format!("{API}/subscriptions?limit=1"))), ["a", "b", "c", "d"]);
    assert_eq!(ids(&http.all(&format!("{API}/subscriptions?group=g"))), ["b"]);
    assert_eq!(ids(&http.all(&format!("{API}/subscriptions?filter=x/%2B"))), ["a"]);
    let of_a = http.all(&format!("{API}/apps/default/sessions/a/subscriptions"));
    assert_eq!((&of_a[0]["filter"], &of_a[0]["qos"]), (&json!("x/+"), &json!(0)));
    assert_eq!(http.ask("GET", &format!("{API}/apps/default/receivers?topic=x/%2B"), None).status, 400);
}

#[test]
fn retained_messages_are_searched_set_and_deleted() {
    let (broker, http) = start("");
    let mut client = Client::connect(broker.mqtt_addr(), connect(Version::V5, "c", true));
    for no in 0..150_u16 {
        let Packet::Publish(mut message) =
            publish(&format!("r/{}/设备-{no}", no % 3), b"on", QoS::AtLeastOnce, no + 1)
        else {
            unreachable!()
        };
        message.retain = true;
        client.send(&Packet::Publish(message));
        client.receive();
    }
    let base = format!("{API}/apps/default/retained");
    assert_eq!(http.all(&format!("{base}?limit=7")).len(), 150);
    assert_eq!(http.all(&format!("{base}?filter=r/1/%23&limit=7&payload=true")).len(), 50);
    let one = format!("{base}/r%2F2%2F%E8%AE%BE%E5%A4%87-2");
    assert_eq!(http.get(&one)["payload"]["text"], json!("on"));
    client.subscribe("#", QoS::AtMostOnce);
    for _ in 0..150 {
        client.receive_publish();
    }
    assert_eq!(http.ask("DELETE", &one, None).status, 204);
    assert_eq!(http.ask("DELETE", &one, None).body["code"], "retained_unknown");
    let some = http.ask("DELETE", &format!("{base}?filter=r/1/%23&limit=20"), None);
    assert_eq!(some.body, json!({"deleted": 20, "more": true}));
    let rest = http.ask("DELETE", &format!("{base}?filter=r/1/%23"), None);
    assert_eq!(rest.body, json!({"deleted": 30, "more": false}));
    assert_eq!(http.all(&base).len(), 99);
    client.ping(); // nobody heard of it
    let set = http.ask("PUT", &format!("{base}/new"), Some(&json!({"payload": "v"})));
    assert_eq!((set.status, &set.body), (200, &json!({"has_receivers": true})));
    assert_eq!(client.receive_publish().payload, "v");
    assert_eq!(http.get(&format!("{base}/new"))["payload"]["base64"], json!("dg=="));
    assert_eq!(http.ask("PUT", &format!("{base}/new"), Some(&json!({}))).status, 422);
}

#[test]
fn what_is_published_over_http_arrives_like_any_other_message() {
    let (broker, http) = start("");
    let mut client = Client::connect(broker.mqtt_addr(), connect(Version::V5, "c", true));
    client.subscribe("a/#", QoS::ExactlyOnce);
    let path = format!("{API}/apps/default/publish");
    let body = json!({
        "topic": "a/1", "payload_base64": "AAE=", "qos": 1, "expiry_s": 60, "content_type": "x/y", "response_topic": "r",
        "correlation_data_base64": "AQ==", "user_properties": [{"name": "k", "value": "v"}],
    });
    let answer = http.ask("POST", &path, Some(&body));
    assert_eq!((answer.status, &answer.body), (200, &json!({"has_receivers": true})));
    let got = client.receive_publish();
    assert_eq!((&got.payload[..], got.qos), (&[0, 1][..], QoS::AtLeastOnce));
    assert_eq!(got.properties.content_type.as_deref(), Some("x/y"));
    assert_eq!(got.properties.user_properties, [("k".into(), "v".into())]);
    let nobody = http.ask("POST", &path, Some(&json!({"topic": "b", "payload": "x"})));
    assert_eq!(nobody.body, json!({"has_receivers": false}));
    for (body, field) in [
        (json!({"topic": "$SYS/x"}), "/topic"),
        (json!({"topic": "a/#"}), "/topic"),
        (json!({"topic": "a", "qos": 3}), "/qos"),
        (json!({"topic": "a", "payload": "x", "payload_base64": ""}), "/payload"),
        (json!({"topic": "a", "payload_base64": "?"}), "/payload_base64"),
        (json!({"topic": "a", "nonsense": 1}), "/nonsense"),
        (
            json!({"topic": "a", "user_properties": [{"name": "a\u{0}", "value": ""}]}),
            "/user_properties/0/name",
        ),
    ] {
        let answer = http.ask("POST", &path, Some(&body));
        assert_eq!((answer.status, &answer.body["errors"][0]["pointer"]), (422, &json!(field)), "{body}");
    }
}

#[test]
fn every_route_answers_as_the_description_says() {
    let (broker, http) = start("");
    parked(&broker, "d", 2);
    let _online = Client::connect(broker.mqtt_addr(), durable(Version::V5, "on"));
    let description = http.get(&format!("{API}/openapi.json"));
    assert_eq!(description["openapi"], json!("3.1.0"));
    let message = json!({"topic": "t", "payload": "x"});
    let retained = json!({"payload": "x"});
    let mut asked = Vec::new();
    for (method, template, path, body, wanted) in [
        ("GET", "/sessions", "/sessions", None, 200),
        ("GET", "/sessions", "/sessions?limit=0", None, 400),
        ("GET", "/apps/{app}/sessions/{client_id}", "/apps/default/sessions/d", None, 200),
        ("GET", "/apps/{app}/sessions/{client_id}", "/apps/default/sessions/on", None, 200),
        ("GET", "/apps/{app}/sessions/{client_id}", "/apps/default/sessions/x", None, 404),
        (
            "GET",
            "/apps/{app}/sessions/{client_id}/subscriptions",
            "/apps/default/sessions/d/subscriptions",
            None,
            200,
        ),
        (
            "GET",
            "/apps/{app}/sessions/{client_id}/queue",
            "/apps/default/sessions/d/queue?payload=true",
            None,
            200,
        ),
        ("GET", "/subscriptions", "/subscriptions", None, 200),
        ("GET", "/apps/{app}/receivers", "/apps/default/receivers?topic=x/1", None, 200),
        ("GET", "/queues", "/queues", None, 200),
        ("POST", "/apps/{app}/publish", "/apps/default/publish", Some(&message), 200),
        ("PUT", "/apps/{app}/retained/{topic}", "/apps/default/retained/t", Some(&retained), 200),
        ("GET", "/apps/{app}/retained/{topic}", "/apps/default/retained/t", None, 200),
        ("GET", "/apps/{app}/retained", "/apps/default/retained?payload=true", None, 200),
        ("GET", "/apps/{app}/topics/{topic}/last", "/apps/default/topics/t/last", None, 200),
        ("GET", "/apps/{app}/topics/{topic}/history", "/apps/default/topics/t/history", None, 404),
        ("DELETE", "/apps/{app}/retained/{topic}", "/apps/default/retained/t", None, 204),
        ("DELETE", "/apps/{app}/retained", "/apps/default/retained?filter=%23", None, 200),
        ("DELETE", "/apps/{app}/sessions/{client_id}/queue", "/apps/default/sessions/d/queue", None, 200),
        (
            "DELETE",
            "/apps/{app}/sessions/{client_id}/connection",
            "/apps/default/sessions/on/connection",
            None,
            204,
        ),
        ("DELETE", "/apps/{app}/sessions/{client_id}", "/apps/default/sessions/d", None, 204),
        ("GET", "/networks", "/networks?limit=1", None, 200),
        ("GET", "/networks", "/networks?after=nonsense", None, 400),
        ("GET", "/stats", "/stats", None, 200),
        ("GET", "/shards", "/shards", None, 200),
        ("GET", "/listeners", "/listeners", None, 200),
        ("GET", "/build", "/build", None, 200),
        ("GET", "/log", "/log", None, 501),
        ("PUT", "/log", "/log", Some(&json!({"filter": "info"})), 501),
        ("GET", "/config", "/config", None, 200),
        ("POST", "/config/reload", "/config/reload", None, 409),
        ("POST", "/bans", "/bans", Some(&json!({"kind": "client_id", "who": "z", "app": "default"})), 201),
        ("POST", "/bans", "/bans", Some(&json!({"kind": "address", "who": "nowhere"})), 422),
        ("POST", "/bans", "/bans", Some(&json!({"kind": "user", "who": ""})), 422),
        ("GET", "/bans", "/bans", None, 200),
        ("GET", "/bans", "/bans?after=nonsense", None, 400),
        ("DELETE", "/bans/{id}", "/bans/nonsense", None, 404),
        ("POST", "/traces", "/traces", Some(&json!({"client_id": "d"})), 201),
        ("POST", "/traces", "/traces", Some(&json!({})), 422),
        ("GET", "/traces", "/traces", None, 200),
        ("DELETE", "/traces/{number}", "/traces/99999", None, 404),
        ("POST", "/drain", "/drain", Some(&json!({"over_s": 9_999})), 422),
        ("POST", "/drain", "/drain", Some(&json!({"over_s": 0})), 202),
        ("POST", "/drain", "/drain", Some(&json!({})), 409),
    ] {
        let template = format!("{API}{template}");
        let answer = http.checked(&description, method, &template, &format!("{API}{path}"), body);
        assert_eq!(answer.status, wanted, "{method} {path}: {answer:?}");
        asked.push((method.to_lowercase(), template));
    }
    for (path, item) in description["paths"].as_object().unwrap() {
        if path.ends_with("/topics/stream") {
            continue; // it never ends: `topics.rs` reads it
        }
        for method in item.as_object().unwrap().keys() {
            assert!(asked.contains(&(method.clone(), path.clone())), "{method} {path} is not tested");
        }
    }
}

#[test]
fn a_banned_client_is_sent_away_and_comes_back_when_the_ban_is_lifted() {
    let (broker, http) = start("");
    let mut device = Client::connect(broker.mqtt_addr(), durable(Version::V5, "d"));
    let path = format!("{API}/bans");
    let ban = http.ask("POST", &path, Some(&json!({"kind": "client_id", "who": "d", "reason": "stolen"})));
    assert_eq!(ban.status, 201, "{ban:?}");
    assert!(matches!(device.receive_or_end(), Some(Packet::Disconnect(_))), "who is banned goes at once");
    let (_, connack) = Client::open(broker.mqtt_addr(), durable(Version::V5, "d"));
    assert_eq!(connack.reason, ReasonCode::BANNED);
    let listed = http.all(&format!("{path}?limit=1"));
    assert_eq!((&listed[0]["who"], &listed[0]["reason"]), (&json!("d"), &json!("stolen")));
    let id = listed[0]["id"].as_str().unwrap();
    assert_eq!(http.ask("DELETE", &format!("{path}/{id}"), None).status, 204);
    assert_eq!(http.ask("DELETE", &format!("{path}/{id}"), None).body["code"], "ban_unknown");
    Client::connect(broker.mqtt_addr(), durable(Version::V5, "d")).ping();
}

/// 100,000 sessions that an earlier run left behind.
fn with_parked_sessions(count: u64) -> Arc<Memory> {
    let store = Arc::new(Memory::new());
    let record = |no: u64| SessionRecord {
        app: AppId::default(),
        client_id: ClientId::parse(&format!("parked-{no}")).unwrap(),
        expiry_interval: u32::MAX,
        epoch: Epoch(no),
        offline_since: Some(Time(1)),
        sent_before: Seq(0),
        will: None,
    };
    let put = |no| Change::PutSession { session: SessionKey(no), record: Box::new(record(no)) };
    drop(store.commit(Batch { changes: (1..=count).map(put).collect() }));
    store
}

#[test]
fn a_walk_through_a_hundred_thousand_sessions_stalls_nobody() {
    const COUNT: u64 = 100_000;
    let store = with_parked_sessions(COUNT);
    let broker = reveille_broker::start_on(crate::config(&with_keys("")), store).unwrap();
    let http = Http { address: broker.http_addr().unwrap(), key: KEY };
    let mut client = Client::connect(broker.mqtt_addr(), connect(Version::V5, "alive", true));
    client.subscribe("t", QoS::AtMostOnce);
    let is_over = Arc::new(AtomicBool::new(false));
    let serving = {
        let is_over = Arc::clone(&is_over);
        std::thread::spawn(move || {
            let mut round_trips = 0_u32;
            while !is_over.load(Ordering::Relaxed) {
                client.send(&publish("t", b"x", QoS::AtMostOnce, 0));
                client.receive_publish(); // within the patience of every test
                round_trips += 1;
            }
            round_trips
        })
    };
    let items = http.all(&format!("{API}/sessions?limit=1000"));
    let rare = http.all(&format!("{API}/sessions?client_id=parked-77777"));
    is_over.store(true, Ordering::Relaxed);
    let round_trips = serving.join().unwrap();
    let ids: HashSet<&str> = items.iter().map(|item| item["client_id"].as_str().unwrap()).collect();
    assert_eq!((items.len(), ids.len()), (100_001, 100_001), "each once");
    assert_eq!(rare.len(), 1);
    assert!(round_trips > 100, "served between the pages: {round_trips}");
}
