//! What vendors report later: who is believed, and what it leads to.

use ring::hmac;
use serde_json::{Value, json};

use crate::world::World;

const SECRET: &str = "0123456789abcdef";
const PATH: &str = "/v1/vendors/webhook/receipts/default";

fn now_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64
}

async fn report(world: &World, path: &str, secret: &str, body: &str) -> crate::world::Answer {
    let (timestamp, key) = (now_ms().to_string(), hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()));
    let signature = hmac::sign(&key, format!("{timestamp}.n1.{body}").as_bytes());
    let hex: String = signature.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let headers = [
        ("x-push-timestamp", timestamp.as_str()),
        ("x-push-nonce", "n1"),
        ("x-push-signature", &format!("v1={hex}")),
    ];
    let stranger = crate::world::Api { key: String::new(), ..world.api.clone() };
    stranger.call("POST", path, &headers, body).await
}

async fn world() -> World {
    let world = World::start().await;
    let credential = json!({"url": "http://127.0.0.1:9/", "secret": SECRET});
    world.api.put("/v1/apps/default/credentials/webhook", credential).await.ok();
    world
        .api
        .put("/v1/apps/default/devices/d1/tokens/webhook", json!({"token": "+8613800000000"}))
        .await
        .ok();
    world
}

#[tokio::test]
async fn only_who_can_sign_is_believed() {
    let world = world().await;
    let body = json!([{"to": "+8613800000000", "event": "token_dead", "reason": "gone"}]).to_string();
    for (path, secret, body, status, errno) in [
        (PATH, "another-secret-16", body.as_str(), 403, 2005),
        ("/v1/vendors/webhook/receipts/nobody", SECRET, &body, 403, 2005),
        ("/v1/vendors/webhook/receipts/NO APP", SECRET, &body, 403, 2005),
        ("/v1/vendors/xiaomi/receipts/default", SECRET, &body, 403, 2005),
        ("/v1/vendors/record/receipts/default", SECRET, &body, 403, 2005),
        ("/v1/vendors/pager/receipts/default", SECRET, &body, 404, 3006),
        (PATH, SECRET, "{}", 400, 1007),
    ] {
        let answer = report(&world, &path.replace(' ', "%20"), secret, body).await;
        assert_eq!((answer.status, answer.errno()), (status, errno), "{path}");
    }
    let dead = world.api.get("/v1/apps/default/dead-tokens").await.ok();
    assert_eq!(dead["items"], json!([]), "nothing of it was believed");
    world.stop().await;
}

#[tokio::test]
async fn a_token_that_a_receipt_calls_dead_stands_in_the_table_until_it_registers_again() {
    let world = world().await;
    let body =
        json!([{"to": "+8613800000000", "event": "token_dead", "reason": "no such \"number\""}]).to_string();
    for _ in 0..2 {
        assert_eq!(report(&world, PATH, SECRET, &body).await.ok()["errno"], 0);
    }
    let dead = world.api.get("/v1/apps/default/dead-tokens").await.ok();
    let items = dead["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "{dead}");
    assert_eq!((&items[0]["vendor"], &items[0]["device"]), (&json!("webhook"), &json!("d1")));
    let device = world.api.get("/v1/apps/default/devices/d1").await.ok();
    assert_eq!(device["tokens"][0]["state"], "dead", "{device}");
    let csv =
        world.api.call("GET", "/v1/apps/default/dead-tokens?limit=1", &[("accept", "text/csv")], "").await;
    assert_eq!(csv.headers["content-type"], "text/csv; charset=utf-8");
    assert!(
        csv.text.contains("\"webhook\",\"'+8613800000000\",\"d1\",\"no such \"\"number\"\"\","),
        "{}",
        csv.text
    );
    assert!(!csv.headers.contains_key("x-next"), "there is nothing behind the only one");
    let rest = world.api.get("/v1/apps/default/dead-tokens?after=1").await.ok();
    assert_eq!(rest["items"], Value::Array(Vec::new()));
    world
        .api
        .put("/v1/apps/default/devices/d1/tokens/webhook", json!({"token": "+8613800000000"}))
        .await
        .ok();
    let device = world.api.get("/v1/apps/default/devices/d1").await.ok();
    assert_eq!(device["tokens"][0]["state"], "active", "{device}");
    assert_eq!(world.api.get("/v1/apps/default/dead-tokens?after=x").await.errno(), 1008);
    world.stop().await;
}

fn sha1(parts: &[&str]) -> String {
    let mut sorted = parts.to_vec();
    sorted.sort_unstable();
    let hash = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, sorted.concat().as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn wechat_names_pushes_by_its_own_name_and_its_events_find_the_delivery() {
    let (world, fake) = (World::start().await, reveille_fakes::FakeVendors::start().await.unwrap());
    let mut credential = fake.credential("wechat");
    credential.as_object_mut().unwrap().remove("vendor");
    credential["event_token"] = json!("eventtoken");
    world.api.put("/v1/apps/default/credentials/wechat", credential).await.ok();
    let openid = fake.token("wechat", 1);
    world.api.put("/v1/apps/default/devices/d1/tokens/wechat", json!({"token": openid})).await.ok();
    fake.answer(&openid, 200, json!({"errcode": 0, "errmsg": "ok", "msgid": 1_864_323_726_461_255_680_u64}));
    let message = world
        .api
        .send(json!({"audience": {"devices": ["d1"]}, "notification": {"title": "到了"}, "delivery": {"strategy": "vendor_only"}}))
        .await;
    world.api.until_state(&message, "d1", "vendor_accepted").await;

    let seconds = (now_ms() / 1000).to_string();
    let signature = sha1(&["eventtoken", &seconds, "n1"]);
    let path = format!(
        "/v1/vendors/wechat/receipts/default?signature={signature}&timestamp={seconds}&nonce=n1&echostr=88"
    );
    let stranger = crate::world::Api { key: String::new(), ..world.api.clone() };
    assert_eq!(stranger.get(&path).await.text, "88", "the address is proved to be ours");
    assert_eq!(stranger.get(&path.replace("n1", "n2")).await.errno(), 2005);
    let event = |name: &str| {
        json!({"FromUserName": openid, "CreateTime": seconds, "MsgType": "event", "Event": name,
            "List": {"MsgID": "1864323726461255680", "ErrorCode": "0", "ErrorStatus": "success"}})
    };
    let answer = stranger.post(&path, event("subscribe_msg_sent_event")).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "success"));
    world.api.until_state(&message, "d1", "vendor_delivered").await;
    assert_eq!(stranger.post(&path, event("user_authorization_cancellation")).await.status, 200);
    let device = world.api.get("/v1/apps/default/devices/d1").await.ok();
    assert_eq!(device["tokens"][0]["state"], "dead", "{device}");
    world.stop().await;
}
