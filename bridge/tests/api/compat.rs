//! Other push services' calls, over HTTP: their keys, their answers, their errors.

use std::time::UNIX_EPOCH;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::world::{Answer, World};

const JPUSH: &str = "/compat/jpush/v3/push";
const UNIPUSH: &str = "/compat/unipush/sendMessage";
const GORUSH: &str = "/compat/gorush/api/push";

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

impl World {
    /// Calls with a header instead of the world's key.
    async fn guest(&self, authorization: &str, path: &str, body: &Value) -> Answer {
        let api = crate::world::Api { key: String::new(), ..self.api.clone() };
        let headers = [("authorization", authorization)];
        let headers = if authorization.is_empty() { &headers[..0] } else { &headers[..] };
        api.call("POST", path, headers, &body.to_string()).await
    }
}

#[tokio::test]
async fn a_jpush_client_keeps_its_words_and_gets_its_answers() {
    let world = World::start().await;
    let (id, secret) = world.api.key.split_once('.').unwrap();
    let login = basic(id, secret);
    for device in ["r1", "r2"] {
        world.api.register(device, &format!("token-of-{device}")).await;
    }
    world.api.put("/v1/apps/default/devices/r1", json!({"tags": ["vip"], "platform": "android"})).await.ok();
    world.api.put("/v1/apps/default/devices/r2", json!({"tags": ["vip"], "platform": "ios"})).await.ok();
    let push = json!({
        "cid": "c-1", "platform": ["android"], "audience": {"registration_id": ["r1", "r2", "r3"]},
        "notification": {"android": {"alert": "hello", "title": "t", "builder_id": 1, "extras": {"order": 7}}},
        "options": {"sendno": 18, "time_to_live": 60}
    });
    let first = world.guest(&login, JPUSH, &push).await;
    assert_eq!((first.status, &first.json["sendno"]), (200, &json!("18")), "{}", first.text);
    let number: u64 = first.json["msg_id"].as_str().unwrap().parse().unwrap();
    assert!(number < 1 << 53);
    assert_eq!(world.guest(&login, JPUSH, &push).await.json, first.json, "sent twice");
    let messages = world.api.get("/v1/apps/default/messages").await.ok();
    let messages = messages["items"].as_array().unwrap();
    assert_eq!(messages.len(), 1);
    let (old, funnel) = (messages[0]["id"].as_str().unwrap().to_owned(), &messages[0]["funnel"]);
    assert_eq!(funnel["targeted"], 1, "not for Android alone");
    assert_eq!(messages[0]["content"]["data"], json!({"order": 7}));

    let mut newer = push.clone();
    newer["cid"] = json!("c-2");
    newer["options"]["override_msg_id"] = json!(number);
    assert_eq!(world.guest(&login, JPUSH, &newer).await.status, 200);
    assert_eq!(world.api.message(&old).await["state"], "recalled");
    let messages = world.api.get("/v1/apps/default/messages").await.ok();
    assert_eq!(messages["items"][0]["collapse_key"], json!(old), "the new one does not replace the old one");
    world.stop().await;
}

#[tokio::test]
async fn jpush_errors_have_its_numbers() {
    let world = World::start().await;
    let login = format!("Bearer {}", world.api.key);
    let good = json!({"platform": "all", "audience": "all", "notification": {"alert": "a"}});
    let with = |pointer: &str, value: Value| {
        let mut body = good.clone();
        body[pointer] = value;
        body
    };
    for (login, body, status, code) in [
        ("", good.clone(), 401, 1004),
        ("Basic !", good.clone(), 401, 1004),
        (&basic("0123456789abcdef", "wrong"), good.clone(), 401, 1004),
        (&login, with("platform", Value::Null), 400, 1002),
        (&login, with("platform", json!("symbian")), 400, 1003),
        (&login, with("sms_message", json!({})), 400, 1003),
        (&login, with("audience", json!({"segment": ["nobody"]})), 400, 1003),
        (&login, with("options", json!({"override_msg_id": 5})), 400, 1003),
        (&login, with("notification", json!({"alert": "x".repeat(1 << 20)})), 400, 1005),
        (&login, with("audience", json!({"tag": ["nobody"]})), 400, 1011),
    ] {
        let answer = world.guest(login, JPUSH, &body).await;
        assert_eq!((answer.status, &answer.json["error"]["code"]), (status, &json!(code)), "{}", answer.text);
        assert!(!answer.json["error"]["message"].as_str().unwrap().is_empty());
    }
    let dry = world.guest(&login, "/compat/jpush/v3/push/validate", &good).await;
    assert_eq!((dry.status, &dry.json["msg_id"]), (200, &json!("0")), "{}", dry.text);
    let cids = world.api.get("/compat/jpush/v3/push/cid?count=3").await.ok();
    assert_eq!(cids["cidlist"].as_array().unwrap().len(), 3);
    assert_eq!(world.api.get("/compat/jpush/v3/push/cid?count=0").await.json["error"]["code"], 1003);
    world.stop().await;
}

#[tokio::test]
async fn a_key_opens_its_own_app_in_every_form() {
    let world = World::start().await;
    world.api.post("/v1/apps", json!({"id": "shop"})).await.ok();
    let made = world.api.post("/v1/apps/shop/keys", json!({"scopes": ["send"]})).await.ok();
    let key = made["key"].as_str().unwrap();
    let (id, secret) = key.split_once('.').unwrap();
    let reader = world.api.post("/v1/apps/shop/keys", json!({"scopes": ["read"]})).await.ok();
    let reader = format!("Bearer {}", reader["key"].as_str().unwrap());
    world.api.put("/v1/apps/shop/devices/d1", json!({})).await.ok();
    let body = json!({"push_clientid": "d1", "title": "t"});
    for login in
        [format!("Bearer {key}"), basic(id, secret), basic("shop", key), basic("shop", &world.api.key)]
    {
        let answer = world.guest(&login, UNIPUSH, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    let sent = world.api.get("/v1/apps/shop/messages").await.ok();
    assert_eq!(sent["items"].as_array().unwrap().len(), 4);
    let (theirs, secret) = ("7d431e42dfa6a6d693ac2d04", "5e987ac6d2e04d95a9d8f0d1");
    let path = format!("/v1/apps/shop/keys/{theirs}");
    let adopted = json!({"secret": secret, "scopes": ["send"]});
    assert_eq!(world.guest(&basic(theirs, secret), UNIPUSH, &body).await.status, 401);
    assert_eq!(world.api.put(&path, adopted.clone()).await.status, 204);
    assert_eq!(world.guest(&basic(theirs, secret), UNIPUSH, &body).await.status, 200);
    assert_eq!(world.guest(&basic(theirs, "5e987ac6d2e04d95a9d8f0d2"), UNIPUSH, &body).await.status, 401);
    let elsewhere = format!("/v1/apps/default/keys/{theirs}");
    assert_eq!(world.api.put(&elsewhere, adopted.clone()).await.errno(), 4009, "taken from another app");
    assert_eq!(world.api.put("/v1/apps/shop/keys/short", adopted).await.status, 400);
    let short = json!({"secret": "short", "scopes": []});
    assert_eq!(world.api.put(&path, short).await.pointers(), ["/secret", "/scopes"]);
    for (login, status) in [(basic("default", key), 403), (reader, 403), (basic("none", &world.api.key), 404)]
    {
        let answer = world.guest(&login, UNIPUSH, &body).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        assert_eq!(answer.json["errCode"].as_u64().unwrap() / 1000, if status == 404 { 3 } else { 2 });
    }
    world.stop().await;
}

#[tokio::test]
async fn a_uni_push_function_is_told_what_becomes_of_each_client() {
    let world = World::start().await;
    let login = format!("Bearer {}", world.api.key);
    world.api.register("away", "t1").await;
    world.broker.presence(reveille_proto::bridge::presence::Kind::Connected, "here", 5).await;
    let body = json!({"push_clientid": ["here", "away", "nobody"], "title": "标题", "content": "内容",
        "payload": {"a": 1}, "request_id": "0123456789", "force_notification": true,
        "settings": {"ttl": 60_000, "strategy": {"default": 2}}});
    let answer = world.guest(&login, UNIPUSH, &body).await;
    assert_eq!((answer.status, &answer.json["errCode"]), (200, &json!(0)), "{}", answer.text);
    let data = answer.json["data"].as_object().unwrap();
    let (id, states) = data.iter().next().unwrap();
    let wanted =
        json!({"here": "successed_online", "away": "successed_offline", "nobody": "successed_ignore"});
    assert_eq!(*states, wanted);
    assert_eq!(world.api.message(id).await["strategy"], "vendor_only");
    assert_eq!(world.guest(&login, UNIPUSH, &body).await.json, answer.json, "sent twice");
    let at_ms = 4_000_000_000_000_u64; // in the year 2096 a message is too far ahead, so that the field is seen to arrive
    let later =
        json!({"push_clientid": "away", "title": "t", "settings": {"speed": 10, "schedule_time": at_ms}});
    let refused = world.guest(&login, UNIPUSH, &later).await;
    assert!(refused.json["errMsg"].as_str().unwrap().contains("/delivery/not_before"), "{}", refused.text);
    let refused = world.guest(&login, UNIPUSH, &json!({"user_id": "u", "user_tag": "t", "title": "t"})).await;
    assert_eq!((refused.status, &refused.json["errCode"]), (422, &json!(1002)), "{}", refused.text);
    world.stop().await;
}

#[tokio::test]
async fn gorush_tokens_find_their_device_or_make_one_until_the_phone_comes_itself() {
    let world = World::start().await;
    let login = format!("Bearer {}", world.api.key);
    let path = "/v1/apps/default/devices/d1/tokens/apns";
    world.api.put(path, json!({"token": "known"})).await.ok();
    let body = json!({"notifications": [
        {"tokens": ["known", "new one", "new"], "platform": 1, "message": "Hello", "topic": "com.x", "retry": 3},
        {"tokens": ["t"], "platform": 7, "message": "x"},
        {"tokens": ["f"], "platform": 2, "message": "Hello", "data": {"aps": 1}}
    ]});
    let answer = world.guest(&login, GORUSH, &body).await;
    assert_eq!((answer.status, &answer.json["success"]), (200, &json!("ok")), "{}", answer.text);
    assert_eq!(answer.json["counts"], 2);
    let failed: Vec<_> =
        answer.json["logs"].as_array().unwrap().iter().map(|log| log["token"].as_str().unwrap()).collect();
    assert_eq!(failed, ["new one", "t", "f"]);
    let id = answer.json["messages"][0].as_str().unwrap();
    assert_eq!(answer.json["messages"][1], Value::Null);
    let devices = |answer: Value| -> Vec<String> {
        answer["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["device"].as_str().unwrap().to_owned())
            .collect()
    };
    let deliveries = format!("/v1/apps/default/messages/{id}/deliveries");
    let reached = devices(world.api.get(&deliveries).await.ok());
    assert_eq!((reached.len(), reached[0].as_str()), (2, "d1"));
    assert!(reached[1].starts_with("gorush-apns-"), "{reached:?}");
    let made = world.api.get(&format!("/v1/apps/default/devices/{}", reached[1])).await.ok();
    assert_eq!((&made["platform"], &made["tokens"][0]["bundle_id"]), (&json!("ios"), &json!("com.x")));

    world.api.put("/v1/apps/default/devices/d2/tokens/apns", json!({"token": "new"})).await.ok();
    let again = json!({"notifications": [{"tokens": ["new"], "platform": 1, "message": "Hello"}]});
    let answer = world.guest(&login, GORUSH, &again).await.ok();
    let id = answer["messages"][0].as_str().unwrap();
    let deliveries = format!("/v1/apps/default/messages/{id}/deliveries");
    assert_eq!(devices(world.api.get(&deliveries).await.ok()), ["d2"]);

    let until_s = UNIX_EPOCH.elapsed().unwrap().as_secs() + 86_400; // another rest each second
    let named = json!({"notifications": [{"tokens": ["late"], "platform": 1, "message": "x", "expiration": until_s}]});
    let headers = [("idempotency-key", "once")];
    let first = world.api.call("POST", GORUSH, &headers, &named.to_string()).await.ok();
    world.api.put("/v1/apps/default/devices/d3/tokens/apns", json!({"token": "late"})).await.ok();
    let repeated = world.api.call("POST", GORUSH, &headers, &named.to_string()).await.ok();
    assert_eq!(repeated["messages"], first["messages"], "the phone has registered meanwhile");
    let long = "k".repeat(256);
    let refused = world.api.call("POST", GORUSH, &[("idempotency-key", &long)], &named.to_string()).await;
    assert_eq!(refused.json["code"], 400, "{}", refused.text);

    for (body, status) in [
        (json!({"notifications": []}), 422),
        (json!({}), 422),
        (json!({"notifications": [{"tokens": ["t"], "platform": 9, "message": "x"}]}), 422),
    ] {
        let answer = world.guest(&login, GORUSH, &body).await;
        assert_eq!((answer.status, &answer.json["code"]), (status, &json!(status)), "{}", answer.text);
    }
    assert_eq!(world.guest("", GORUSH, &again).await.json["code"], 401);
    world.stop().await;
}
