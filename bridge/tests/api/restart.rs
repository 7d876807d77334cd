//! What a crash may not lose or double.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::world::World;

#[tokio::test]
async fn an_accepted_message_reaches_the_broker_after_a_crash() {
    let mut world = World::start().await;
    world.broker.withhold(true);
    world.api.register("d1", "t1").await;
    let id = world.api.send_to("d1").await;
    let first = world.broker.sends(1).await;
    world.kill().await;
    world.broker.withhold(false);
    world.restart().await;
    let sends = world.broker.sends(2).await;
    assert_eq!(sends[0], first[0]);
    assert_eq!(sends[1], first[0], "repeated word by word");
    world.broker.queued(&sends[1].message.clone().unwrap(), &[("d1", 2)]).await;
    world.api.until_state(&id, "d1", "vendor_accepted").await;
    // Acknowledged, so it does not come again.
    world.kill().await;
    world.restart().await;
    world.broker.connected(3).await;
    world.api.send_to("d2").await;
    assert_eq!(world.broker.sends(3).await[2].client_ids, ["d2"]);
    world.stop().await;
}

#[tokio::test]
async fn crashes_at_any_moment_lose_no_push_and_double_none_but_those_under_way() {
    const DEVICES: usize = 60;
    let mut world = World::start().await;
    // The record vendor's file outlives the crashes; its memory does not.
    let file = world.data_dir().join("recorded.jsonl");
    world.api.put("/v1/apps/default/credentials/record", json!({"path": file})).await.ok();
    let devices: Vec<_> = (0..DEVICES).map(|n| format!("d{n:02}")).collect();
    for device in &devices {
        world.api.register(device, device).await;
    }
    let body = json!({"audience": {"devices": devices}, "notification": {"title": "t"},
        "delivery": {"strategy": "vendor_only"}});
    let id = world.api.send(body).await;
    for _ in 0..3 {
        world.kill().await;
        world.restart().await;
    }
    let message = world.api.until_funnel(&id, "vendor_accepted", DEVICES as u64).await;
    let repeated = message["funnel"]["by_vendor"]["record"]["repeated_unknown"].as_u64().unwrap();
    let mut calls: HashMap<String, u64> = HashMap::new();
    for line in std::fs::read_to_string(&file).unwrap().lines() {
        let push: Value = serde_json::from_str(line).unwrap();
        assert_eq!(push["push"]["mid"].as_str().or(push["push"]["id"].as_str()), Some(id.as_str()), "{push}");
        *calls.entry(push["token"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(calls.len(), DEVICES, "a push is lost");
    let doubled: u64 = calls.values().map(|count| count - 1).sum();
    assert!(doubled <= repeated, "{doubled} doubled, {repeated} counted as repeated");
    world.stop().await;
}

#[tokio::test]
async fn an_audience_of_everyone_is_expanded_to_the_last_device_across_crashes() {
    const DEVICES: usize = 2_300;
    let mut world = World::start().await;
    let mut registering = tokio::task::JoinSet::new();
    for n in 0..DEVICES {
        if registering.len() == 100 {
            registering.join_next().await.unwrap().unwrap();
        }
        let api = world.api.clone();
        registering.spawn(async move {
            let path = format!("/v1/apps/default/devices/d{n:04}");
            api.put(&path, json!({"tags": ["all"]})).await.ok()
        });
    }
    while let Some(done) = registering.join_next().await {
        done.unwrap();
    }
    let answer = world
        .api
        .post(
            "/v1/apps/default/messages",
            json!({"audience": {"all": true, "tags": ["all"]}, "notification": {"title": "t"}}),
        )
        .await;
    assert_eq!(answer.json["audience_estimate"], DEVICES);
    let id = answer.ok()["id"].as_str().unwrap().to_owned();
    world.kill().await;
    world.restart().await;
    let message = world.api.until_funnel(&id, "targeted", DEVICES as u64).await;
    assert_eq!(message["state"], "sending");
    let mut told: Vec<String> = Vec::new();
    let mut packets = 1;
    while told.len() < DEVICES {
        told = world.broker.sends(packets).await.into_iter().flat_map(|send| send.client_ids).collect();
        told.sort();
        told.dedup();
        packets += 1;
    }
    assert_eq!(told.len(), DEVICES);
    let path = format!("/v1/apps/default/messages/{id}/deliveries?limit=1000");
    let (mut seen, mut after) = (0, None::<String>);
    loop {
        let next = after.map_or(path.clone(), |after| format!("{path}&after={after}"));
        let page = world.api.get(&next).await.ok();
        seen += page["items"].as_array().unwrap().len();
        after = page["page"]["next"].as_str().map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, DEVICES);
    world.stop().await;
}

#[tokio::test]
async fn the_feed_comes_back_and_goes_on_where_it_was() {
    let mut world = World::start().await;
    world.api.register("d1", "t1").await;
    let id = world.api.send_to("d1").await;
    let message = world.broker.sends(1).await[0].message.clone().unwrap();
    world.kill().await;
    // Told while the bridge is down: the session keeps it.
    let queued = reveille_proto::bridge::Queued {
        message: Some(message),
        devices: vec![reveille_proto::bridge::Device { client_id: "d1".to_owned(), epoch: 2 }],
    };
    world.broker.tell_raw("$push/v1/queued", prost::Message::encode_to_vec(&queued));
    world.restart().await;
    world.broker.all_acked().await;
    world.api.until_state(&id, "d1", "vendor_accepted").await;
    world.stop().await;
}

#[tokio::test]
async fn an_idempotency_key_survives_a_restart() {
    let mut world = World::start().await;
    let body = json!({"audience": {"devices": ["d1"]}, "notification": {"title": "t"}}).to_string();
    let headers = [("idempotency-key", "订单".len().to_string())];
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let first = world.api.call("POST", "/v1/apps/default/messages", &headers, &body).await;
    world.kill().await;
    world.restart().await;
    let again = world.api.call("POST", "/v1/apps/default/messages", &headers, &body).await;
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(first.ok(), again.ok());
    world.stop().await;
}
