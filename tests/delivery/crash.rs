//! Everything dies in between.

use crate::device::{Device, token};
use crate::stage::Stage;
use reveille_client::{Options, Publisher, PushHints, QoS};
use reveille_tests::PATIENCE;
use reveille_tests::api::Api;
use reveille_tests::program::Reveille;
use serde_json::json;
use std::collections::BTreeSet;

#[tokio::test(flavor = "multi_thread")]
async fn what_http_accepted_reaches_device_and_vendor_over_any_number_of_kills() {
    const ROUNDS: usize = 6;
    let mut stage = Stage::start().await;
    let device = Device::connect(stage.reveille.mqtt(), "survivor").register("survivor", "apns");
    stage.wait_token("survivor", "apns").await;
    device.vanish();
    stage.wait_presence("survivor", false).await;

    let mut ids = Vec::new();
    for _ in 0..ROUNDS {
        for _ in 0..5 {
            ids.push(stage.send(&["survivor"], json!({})).await);
        }
        stage.crash(); // at whatever point the last of them are
    }
    for id in &ids {
        stage.wait_funnel(id, |funnel| funnel["vendor_accepted"] == 1).await;
    }
    let pushed = stage.mids("apns", &token("survivor"));
    assert_eq!(pushed.iter().collect::<BTreeSet<_>>(), ids.iter().collect(), "every message was pushed");
    // A call that was under way when the process died is repeated, as the same alert.
    for call in stage.apns.calls() {
        assert_eq!(call.headers["apns-collapse-id"], call.mid().unwrap());
    }

    let mut device = Device::connect(stage.reveille.mqtt(), "survivor");
    let drained: Vec<_> = ids.iter().map(|_| device.take()).collect();
    assert_eq!(drained, ids, "the queue has each once, in the order of sending");
    for id in &ids {
        stage.wait_funnel(id, |funnel| funnel["acked"] == 1 && funnel["in_flight"] == 0).await;
    }
    assert_eq!(device.ping(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_was_dead_learns_from_the_broker_what_happened_meanwhile() {
    let broker = Reveille::start_broker_with("");
    let bridge = Reveille::start_bridge_of(&broker);
    let api = Api::new(bridge.http(), bridge.admin_key());
    let mqtt = broker.mqtt();
    let mut stage = Stage::with(bridge, api).await;
    let device = Device::connect(mqtt, "patient").register("patient", "fcm").subscribe("公告/#");
    stage.wait_token("patient", "fcm").await;

    stage.reveille.kill();
    device.vanish();
    let publisher =
        Publisher::connect(Options::new("publisher", mqtt.ip().to_string(), mqtt.port())).unwrap();
    let hints = PushHints { title: Some("公告".into()), ..PushHints::default() };
    for n in 0..3 {
        let published = publisher.publish("公告/一", n.to_string(), QoS::AtLeastOnce, &hints);
        tokio::time::timeout(PATIENCE, published).await.unwrap().unwrap();
    }
    stage.reveille.start_again();
    assert_eq!(stage.fcm.wait_for(3).await.len(), 3);
    stage.wait_presence("patient", false).await;
    let pushed = stage.mids("fcm", &token("patient"));

    let mut device = Device::connect(mqtt, "patient");
    let drained: Vec<_> = (0..3).map(|_| device.take()).collect();
    assert_eq!(drained.iter().collect::<BTreeSet<_>>(), pushed.iter().collect());
    publisher.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_token_and_a_message_survive_a_broker_that_is_dead_for_a_while() {
    let mut broker = Reveille::start_broker_with("");
    let bridge = Reveille::start_bridge_of(&broker);
    let api = Api::new(bridge.http(), bridge.admin_key());
    let stage = Stage::with(bridge, api).await;
    let device = Device::connect(broker.mqtt(), "away").register("away", "fcm");
    stage.wait_token("away", "fcm").await;
    device.vanish();
    stage.wait_presence("away", false).await;

    broker.kill();
    let id = stage.send(&["away"], json!({})).await; // 202 without a broker: it is in the bridge's own store
    broker.start_again();
    stage.wait_funnel(&id, |funnel| funnel["vendor_accepted"] == 1).await;
    let mut device = Device::connect(broker.mqtt(), "away");
    assert_eq!(device.take(), id);
    stage.wait_funnel(&id, |funnel| funnel["acked"] == 1).await;
    assert_eq!(stage.mids("fcm", &token("away")), [id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_kill_lets_through_one_message_more_than_a_policy_allows() {
    let mut stage = Stage::start().await;
    let policy = json!({"caps": [{"max": 2, "window_s": 86_400, "then": "drop"}]});
    stage.api.put("/v1/apps/default/policies/rare", policy).await;
    let mut states = Vec::new();
    for _ in 0..3 {
        let body =
            json!({"audience": {"devices": ["somebody"]}, "notification": {"title": "t"}, "policy": "rare"});
        let sent = stage.api.post("/v1/apps/default/messages", body).await;
        stage.crash(); // right behind the answer
        let path = format!("/v1/apps/default/messages/{}", sent["id"].as_str().unwrap());
        let message = stage.api.get(&path).await;
        crate::stage::check_sum(&message["funnel"]);
        let suppressed =
            stage.api.get(&format!("{path}/deliveries/somebody")).await["state"] == "suppressed_cap";
        states.push(suppressed);
    }
    assert_eq!(states, [false, false, true]);
}
