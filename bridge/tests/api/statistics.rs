//! Statistics over HTTP: what is counted, how it is asked for, and that crashes neither lose nor double a count.

use serde_json::{Value, json};

use crate::world::World;

const STATS: &str = "/v1/apps/default/stats";

/// The counts of all points of the only series.
async fn total(world: &World, query: &str) -> Value {
    let stats = world.api.get(&format!("{STATS}?{query}")).await.ok();
    let series = stats["series"].as_array().unwrap();
    assert!(series.len() <= 1, "{stats}");
    series.first().map_or(json!({}), |series| series["total"]["counts"].clone())
}

async fn of_values(world: &World, by: &str, count: &str) -> Vec<(Value, Value)> {
    let stats = world.api.get(&format!("{STATS}?by={by}")).await.ok();
    let series = stats["series"].as_array().unwrap().iter();
    series.map(|series| (series["value"].clone(), series["total"]["counts"][count].clone())).collect()
}

#[tokio::test]
async fn each_stage_is_counted_by_vendor_platform_version_reason_and_campaign() {
    let world = World::start().await;
    world.api.answers(json!([{"token": "dead", "answer": "token_dead"}])).await;
    for (device, token, platform, version) in [("d1", "t1", "ios", "1.0"), ("d2", "dead", "android", "2.0")] {
        world.api.register(device, token).await;
        let attributes = json!({"platform": platform, "app_version": version});
        world
            .api
            .call("PATCH", &format!("/v1/apps/default/devices/{device}"), &[], &attributes.to_string())
            .await
            .ok();
    }
    let body = json!({"audience": {"devices": ["d1", "d2"]}, "notification": {"title": "t"}, "campaign": "sale",
        "delivery": {"strategy": "vendor_only"}});
    let id = world.api.send(body).await;
    world.api.until_state(&id, "d1", "vendor_accepted").await;
    world.api.until_state(&id, "d2", "failed").await;
    let all = total(&world, "").await;
    assert_eq!(all, json!({"targeted": 2, "vendor_accepted": 1, "failed": 1, "refused": 1}));
    assert_eq!(total(&world, "step=1h").await, all);
    assert_eq!(total(&world, "step=1d").await, all);
    assert_eq!(of_values(&world, "vendor", "targeted").await, [(json!("record"), json!(2))]);
    assert_eq!(of_values(&world, "campaign", "vendor_accepted").await, [(json!("sale"), json!(1))]);
    assert_eq!(of_values(&world, "reason", "failed").await, [(json!("token_invalid"), json!(1))]);
    let platforms = of_values(&world, "platform", "targeted").await;
    assert_eq!(platforms, [(json!("android"), json!(1)), (json!("ios"), json!(1))]);
    let versions = of_values(&world, "app_version", "failed").await;
    assert_eq!(versions, [(json!("1.0"), Value::Null), (json!("2.0"), json!(1))]);
    let stats = world.api.get(STATS).await.ok();
    let times = &stats["series"][0]["total"]["vendor_ms"];
    assert_eq!(times["count"], 1);
    assert!(times["p50"].as_u64() <= times["p99"].as_u64(), "{times}");
    assert_eq!(stats["series"][0]["total"]["ack_ms"], Value::Null);
    world.stop().await;
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_named() {
    let world = World::start().await;
    world.api.post("/v1/apps", json!({"id": "shop"})).await.ok();
    for query in ["by=colour", "step=5", "from=2&to=1", "from=0&to=1000000000000&step=1m", "x=1", "from=a"] {
        assert_eq!(world.api.get(&format!("{STATS}?{query}")).await.errno(), 1005, "{query}");
    }
    let empty = world.api.get("/v1/apps/shop/stats?from=0&to=60000&step=1m").await.ok();
    assert_eq!((&empty["series"], &empty["step_ms"]), (&json!([]), &json!(60_000)));
    assert!(empty["kept_from_ms"].as_u64().unwrap() > 60_000, "nothing says that it is too old: {empty}");
    let key = world.api.post("/v1/apps/shop/keys", json!({"scopes": ["send"]})).await.ok();
    let sender = crate::world::Api::new(world.address(), key["key"].as_str().unwrap());
    assert_eq!(sender.get("/v1/apps/shop/stats").await.errno(), 2003);
    world.stop().await;
}

#[tokio::test]
async fn crashes_neither_lose_nor_double_a_count() {
    const DEVICES: usize = 40;
    let mut world = World::start().await;
    let devices: Vec<_> = (0..DEVICES).map(|n| format!("d{n:02}")).collect();
    for device in &devices {
        world.api.register(device, device).await;
    }
    let mut messages = Vec::new();
    for _ in 0..4 {
        let body = json!({"audience": {"devices": devices}, "notification": {"title": "t"},
            "delivery": {"strategy": "vendor_only"}});
        messages.push(world.api.send(body).await);
        world.kill().await;
        world.restart().await;
    }
    for id in &messages {
        world.api.until_funnel(id, "vendor_accepted", DEVICES as u64).await;
    }
    let wanted = json!({"targeted": 4 * DEVICES, "vendor_accepted": 4 * DEVICES});
    assert_eq!(total(&world, "step=1d").await, wanted);
    world.api.until_text("/metrics", |text| text.contains("funnel_checks_total{found=\"whole\"}")).await;
    let metrics = world.api.get("/metrics").await.text;
    assert!(metrics.contains("reveille_bridge_funnel_checks_total{found=\"wrong\"} 0"), "{metrics}");
    world.stop().await;
}
