//! Apple over the strict fake: certificates, push types, broadcast channels.

use reveille_fakes::FakeApns;
use serde_json::{Value, json};

use crate::world::World;

const CHANNELS: &str = "/v1/apps/default/apns-channels";

async fn world(fake: &FakeApns, is_certified: bool) -> World {
    let world = World::start().await;
    let mut credential = if is_certified { fake.certificate_credential() } else { fake.credential() };
    credential.as_object_mut().unwrap().remove("vendor");
    world.api.put("/v1/apps/default/credentials/apns", credential).await.ok();
    world.api.put("/v1/apps/default/devices/d1/tokens/apns", json!({"token": "00ff"})).await.ok();
    world
}

fn message(overrides: &Value) -> Value {
    json!({
        "audience": {"devices": ["d1"]}, "data": {"score": 1}, "delivery": {"strategy": "vendor_only"},
        "overrides": {"apns": overrides},
    })
}

#[tokio::test]
async fn a_certificate_proves_the_app_without_a_token_and_for_many_streams_at_once() {
    let fake = FakeApns::start().await.unwrap();
    let world = world(&fake, true).await;
    fake.hold();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(world.api.send(message(&json!({}))).await);
    }
    let calls = fake.wait_for(3).await; // all three, although none was answered: the handshake proved the app
    fake.release();
    for id in ids {
        world.api.until_state(&id, "d1", "vendor_accepted").await;
    }
    for call in calls {
        assert_eq!(call.headers.get("authorization"), None);
        assert_eq!((call.headers["apns-topic"].as_str(), call.connection), ("com.example.reveille", 0));
    }
    assert_eq!(fake.provider_tokens(), 0);
    world.stop().await;
}

#[tokio::test]
async fn every_push_type_passes_a_strict_apns() {
    let fake = FakeApns::start().await.unwrap();
    let world = world(&fake, false).await;
    for name in [
        "alert",
        "background",
        "voip",
        "complication",
        "fileprovider",
        "location",
        "liveactivity",
        "pushtotalk",
        "widgets",
        "controls",
        "mdm",
    ] {
        let mut overrides = json!({"headers": {"apns-push-type": name}});
        match name {
            "mdm" => overrides["mdm"] = json!("magic"),
            "alert" => overrides["aps"] = json!({"alert": {"title": "到了"}}),
            _ => {}
        }
        let id = world.api.send(message(&overrides)).await;
        world.api.until_state(&id, "d1", "vendor_accepted").await;
    }
    let types: Vec<String> = fake.calls().iter().map(|call| call.headers["apns-push-type"].clone()).collect();
    assert_eq!(types.len(), 11, "{types:?}");
    world.stop().await;
}

#[tokio::test]
async fn a_channel_is_made_listed_sent_to_and_removed() {
    let fake = FakeApns::start().await.unwrap();
    for is_certified in [false, true] {
        let world = world(&fake, is_certified).await;
        let made = world.api.post(CHANNELS, json!({"storage": "none"})).await;
        assert_eq!(made.status, 201, "{}", made.text);
        let name = made.json["channel"].as_str().unwrap().to_owned();
        let encoded: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
        let path = format!("{CHANNELS}/{encoded}");
        assert_eq!(world.api.get(&path).await.ok(), json!({"channel": name, "storage": "none"}));
        let listed = world.api.get(CHANNELS).await.ok();
        assert!(listed["items"].as_array().unwrap().contains(&json!(name)), "{listed}");
        let sent = world.api.post(&path, json!({"content_state": {"score": 2}})).await.ok();
        assert!(sent["request_id"].is_string(), "{sent}");
        let kept = world.api.post(&path, json!({"content_state": {}, "ttl_s": 60})).await;
        assert_eq!(kept.errno(), 4021, "a channel without storage keeps nothing: {}", kept.text);
        assert!(kept.json["detail"].as_str().unwrap().contains("BadExpirationDate"));
        assert_eq!(world.api.post(&path, json!({"content_state": {}, "priority": 7})).await.errno(), 1002);
        assert_eq!(world.api.delete(&path).await.status, 204);
        assert_eq!(world.api.get(&path).await.errno(), 4021);
        assert_eq!(world.api.get(&format!("{CHANNELS}/a%20b")).await.errno(), 1009);
        world.stop().await;
    }
}

#[tokio::test]
async fn a_broadcast_whose_answer_was_lost_is_not_sent_again() {
    let fake = FakeApns::start().await.unwrap();
    let world = world(&fake, false).await;
    let made = world.api.post(CHANNELS, json!({"storage": "none"})).await.json;
    let encoded: String =
        form_urlencoded::byte_serialize(made["channel"].as_str().unwrap().as_bytes()).collect();
    let path = format!("{CHANNELS}/{encoded}");
    fake.cut_after(0);
    let send = || world.api.call("POST", &path, &[("idempotency-key", "once")], r#"{"content_state": {}}"#);
    let lost = send().await;
    assert_eq!(lost.status, 502, "{}", lost.text);
    let again = send().await;
    assert_eq!(again.errno(), 4005, "{}", again.text);
    world.stop().await;
}
