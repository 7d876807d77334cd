//! Device tokens that a vendor calls dead in a feed that has to be asked, and credentials that end.

use std::sync::Arc;
use std::sync::Mutex;

use reveille_fakes::{FakeApns, FakeVendors};
use serde_json::{Value, json};

use crate::world::World;

#[tokio::test]
async fn a_feed_is_drained_once_in_its_interval_and_its_tokens_die_as_by_receipt() {
    let (mut world, fake) = (World::start().await, FakeVendors::start().await.unwrap());
    let mut credential = fake.credential("oppo");
    credential.as_object_mut().unwrap().remove("vendor");
    world.api.put("/v1/apps/default/credentials/oppo", credential).await.ok();
    for (device, token) in [("d1", fake.token("oppo", 1)), ("d2", fake.token("oppo", 2))] {
        world
            .api
            .put(&format!("/v1/apps/default/devices/{device}/tokens/oppo"), json!({"token": token}))
            .await
            .ok();
    }
    // More than a page, with a stranger's ids among ours; the login that the bridge has is refused first.
    let strangers = (0..700).map(|n| format!("CN_stranger_{n}"));
    fake.invalidate(strangers.chain([fake.token("oppo", 1)]));
    world.kill().await;
    fake.expire_logins();
    world.restart().await;
    let path = "/v1/apps/default/devices/d1";
    let device = world.api.until(path, "dead", |device| device["tokens"][0]["state"] == "dead").await;
    assert!(device["tokens"][0]["dead_reason"].as_str().unwrap().contains("feed"), "{device}");
    let other = world.api.get("/v1/apps/default/devices/d2").await.ok();
    assert_eq!(other["tokens"][0]["state"], "active");
    assert_eq!(
        world.api.get("/v1/apps/default/dead-tokens").await.ok()["items"].as_array().unwrap().len(),
        1
    );
    // Counted once it is written down that the feed was read to its end: two pages, and the empty one that says so.
    let is_read = |text: &str| text.contains("feed_turns_total{vendor=\"oppo\",result=\"read\"} 1");
    while !is_read(&world.api.get("/metrics").await.text) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let (_, asked) = fake.feed();
    world.kill().await;
    fake.invalidate([fake.token("oppo", 2)]);
    world.restart().await;
    world.api.register("d3", "wakes-the-store").await;
    assert_eq!((asked, fake.feed()), (3, (1, 3)), "the interval is not over, so it is not asked again");
    world.stop().await;
}

#[tokio::test]
async fn a_token_of_another_app_is_in_quarantine_until_the_device_registers_again() {
    let world = World::start().await;
    let answers = json!({"answers": [{"token": "T1", "answer": "token_mismatch", "times": 1}]});
    world.api.put("/v1/apps/default/credentials/record", answers).await.ok();
    let registered = json!({"token": "T1"});
    let path = "/v1/apps/default/devices/d1/tokens/record";
    world.api.put(path, registered.clone()).await.ok();
    let send = || async {
        let message = json!({
            "audience": {"devices": ["d1"]}, "notification": {"title": "t"}, "delivery": {"strategy": "vendor_only"},
        });
        world.api.send(message).await
    };
    let id = send().await;
    world.api.until_funnel(&id, "failed", 1).await;
    let device = world.api.get("/v1/apps/default/devices/d1").await.ok();
    let token = &device["tokens"][0];
    assert_eq!(token["state"], "quarantined", "{device}");
    let day = token["quarantined_until_ms"].as_u64().unwrap() - token["quarantined_at_ms"].as_u64().unwrap();
    assert_eq!((day, token["quarantine_reason"].is_string()), (86_400_000, true));
    let id = send().await;
    world.api.until_funnel(&id, "failed", 1).await; // nothing was asked of the vendor, which would have taken it
    world.api.put(path, registered).await.ok();
    let id = send().await;
    world.api.until_funnel(&id, "vendor_accepted", 1).await;
    world.stop().await;
}

#[tokio::test]
async fn a_credential_that_ends_soon_is_shown_and_told_once() {
    let events: Arc<Mutex<Vec<Value>>> = Arc::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let kept = Arc::clone(&events);
    let take = move |body: String| {
        kept.lock().unwrap().push(serde_json::from_str(&body).unwrap());
        std::future::ready("taken")
    };
    let router = axum::Router::new().fallback(take);
    tokio::spawn(async move { axum::serve(listener, router).await });

    let (mut world, fake) = (World::start().await, FakeApns::start().await.unwrap());
    world.api.post("/v1/apps/default/webhooks", json!({"url": url, "events": ["credential.*"]})).await.ok();
    let mut apns = fake.certificate_credential();
    apns.as_object_mut().unwrap().remove("vendor");
    let shown = world.api.put("/v1/apps/default/credentials/apns", apns).await.ok();
    assert!(
        shown["ends_at_ms"].as_u64().unwrap() > 4_000_000_000_000,
        "the fake's certificate is good for long: {shown}"
    );
    let soon = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64
        + 86_400_000;
    let shown =
        world.api.put("/v1/apps/default/credentials/record", json!({"expires_at_ms": soon})).await.ok();
    assert_eq!(shown["ends_at_ms"], soon);
    let wrong = world.api.put("/v1/apps/default/credentials/record", json!({"expires_at_ms": "soon"})).await;
    assert_eq!(wrong.pointers(), ["/expires_at_ms"]);
    for _ in 0..2 {
        world.kill().await;
        world.restart().await;
        let look = |text: &str| text.contains("credential_expiry_seconds{app=\"default\",vendor=\"record\"");
        while !look(&world.api.get("/metrics").await.text) || events.lock().unwrap().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    let events = events.lock().unwrap().clone();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(
        (&events[0]["data"]["vendor"], &events[0]["data"]["ends_at_ms"]),
        (&json!("record"), &json!(soon))
    );
    world.stop().await;
}
