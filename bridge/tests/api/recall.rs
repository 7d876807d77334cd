//! What becomes of a message that its sender takes back: in queues, on devices, and at vendors that have it.

use reveille_fakes::{FakeApns, FakeVendors, Fault};
use serde_json::{Value, json};

use crate::world::World;

async fn credential(world: &World, vendor: &str, mut credential: Value) {
    credential.as_object_mut().unwrap().remove("vendor");
    world.api.put(&format!("/v1/apps/default/credentials/{vendor}"), credential).await.ok();
}

async fn device(world: &World, device: &str, vendor: &str, token: &str) {
    let path = format!("/v1/apps/default/devices/{device}/tokens/{vendor}");
    world.api.put(&path, json!({ "token": token })).await.ok();
}

fn to(devices: &[&str]) -> Value {
    json!({"audience": {"devices": devices}, "notification": {"title": "t", "body": "b"},
        "delivery": {"strategy": "vendor_only"}})
}

async fn take_back(world: &World, id: &str, scope: &str) -> Value {
    world.api.delete(&format!("/v1/apps/default/messages/{id}{scope}")).await.ok()["state"].take()
}

async fn until_recall(world: &World, id: &str, device: &str, outcome: &str) -> Value {
    let path = format!("/v1/apps/default/messages/{id}/deliveries/{device}");
    world.api.until(&path, outcome, |delivery| delivery["recall"] == outcome).await
}

#[tokio::test]
async fn vendors_that_can_take_an_alert_back_and_no_other_is_asked() {
    let world = World::start().await;
    let (fake, apns) = (FakeVendors::start().await.unwrap(), FakeApns::start().await.unwrap());
    for vendor in ["harmony", "web_push", "xiaomi"] {
        credential(&world, vendor, fake.credential(vendor)).await;
        device(&world, vendor, vendor, &fake.token(vendor, 1)).await;
    }
    credential(&world, "apns", apns.credential()).await;
    device(&world, "apns", "apns", "aa01").await;
    device(&world, "harmony2", "harmony", &fake.token("harmony", 2)).await;
    device(&world, "stranger", "harmony", &fake.token("harmony", 3)).await;
    let all = ["harmony", "harmony2", "web_push", "xiaomi", "apns"];
    let id = world.api.send(to(&all)).await;
    world.api.until_funnel(&id, "vendor_accepted", 5).await;
    assert_eq!(take_back(&world, &id, "").await, "recalled");
    for (device, outcome, state) in [
        ("harmony", "taken_back", "recalled"),
        ("harmony2", "taken_back", "recalled"),
        ("web_push", "taken_back", "recalled"),
        ("apns", "silenced", "vendor_accepted"),
        ("xiaomi", "not_offered", "vendor_accepted"),
    ] {
        let delivery = until_recall(&world, &id, device, outcome).await;
        assert_eq!(delivery["state"], state, "{delivery}");
    }
    let funnel = world.api.until_funnel(&id, "suppressed", 3).await["funnel"].take();
    assert_eq!(funnel["by_vendor"]["harmony"]["recalled"], 2, "{funnel}");
    assert_eq!(funnel["by_vendor"]["xiaomi"]["recalled"], 0, "{funnel}");
    assert_eq!(fake.broken(), []);
    let mut asked: Vec<String> = fake.recalls().into_iter().flat_map(|recall| recall.names).collect();
    asked.retain(|name| !name.starts_with("/m/"));
    asked.sort();
    assert_eq!(asked, ["harmony-1", "harmony-2"], "nobody who never had it");
    assert!(fake.recalls().iter().all(|recall| recall.is_known), "{:?}", fake.recalls());
    let silent = apns.calls().pop().unwrap();
    assert_eq!((apns.calls().len(), silent.headers["apns-push-type"].as_str()), (2, "background"));
    assert_eq!(silent.headers["apns-collapse-id"], apns.calls()[0].headers["apns-collapse-id"]);
    assert_eq!((&silent.payload["recalled"], &silent.payload["mid"]), (&json!("1"), &json!(id)));
    // Again changes nothing, and asks nobody.
    assert_eq!(take_back(&world, &id, "?scope=all").await, "recalled");
    assert_eq!(
        (fake.recalls().len(), apns.calls().len()),
        (2, 2),
        "one call for the batch, one for the name"
    );
    world.stop().await;
}

#[tokio::test]
async fn what_is_pending_is_cancelled_and_what_went_out_stays_until_all_is_wanted() {
    let world = World::start().await;
    world
        .api
        .answers(json!([{"token": "slow", "answer": "throttled", "scope": "token", "after_ms": 3_600_000}]))
        .await;
    for name in ["quick", "slow"] {
        world.api.register(name, name).await;
    }
    let id = world.api.send(to(&["quick", "slow"])).await;
    world.api.until_state(&id, "quick", "vendor_accepted").await;
    world
        .api
        .until(&format!("/v1/apps/default/messages/{id}/deliveries/slow"), "throttled", |delivery| {
            delivery["attempts"] == 1
        })
        .await;
    assert_eq!(take_back(&world, &id, "?scope=pending").await, "cancelled");
    world.api.until_state(&id, "slow", "recalled").await;
    let quick = world.api.delivery(&id, "quick").await;
    assert_eq!((&quick["state"], &quick["recall"]), (&json!("vendor_accepted"), &Value::Null));
    assert_eq!(world.api.message(&id).await["state"], "cancelled");
    let before = world.api.recorded().await.len();
    assert_eq!(take_back(&world, &id, "").await, "recalled", "more may be wanted later");
    until_recall(&world, &id, "quick", "taken_back").await;
    assert_eq!(take_back(&world, &id, "?scope=pending").await, "recalled", "less changes nothing");
    let recorded = world.api.recorded().await;
    assert_eq!(
        (recorded.len() - before, &recorded[before]["push"]["recall"]),
        (1, &json!(true)),
        "{recorded:?}"
    );
    // Nothing pending: nothing is cancelled.
    let done = world.api.send(to(&["quick"])).await;
    world.api.until_funnel(&done, "vendor_accepted", 1).await;
    assert_eq!(take_back(&world, &done, "?scope=pending").await, "done");
    assert_eq!(world.api.message(&done).await["recalled_at_ms"], Value::Null);
    assert_eq!(world.api.delete(&format!("/v1/apps/default/messages/{done}?scope=some")).await.errno(), 1005);
    world.stop().await;
}

#[tokio::test]
async fn devices_that_may_show_it_are_told_and_queues_keep_what_others_wait_for() {
    let world = World::start().await;
    let body = json!({"audience": {"devices": ["awake", "asleep", "never"]}, "notification": {"title": "t"}});
    let id = world.api.send(body.clone()).await;
    let message = world.broker.sends(1).await[0].message.clone().unwrap();
    world.broker.acked(&message, &[("awake", 1)]).await;
    world.broker.queued(&message, &[("asleep", 1), ("never", 0)]).await;
    assert_eq!(take_back(&world, &id, "?scope=pending").await, "cancelled");
    assert_eq!(world.broker.withdraws(1).await[0].client_ids, ["asleep"], "what is not in flight stays");
    assert_eq!(take_back(&world, &id, "?scope=all").await, "recalled");
    let told = world.broker.sends(2).await[1].clone();
    let note = told.message.unwrap();
    assert_eq!((told.client_ids, note.topic.as_str()), (vec!["awake".to_owned()], "$push/recall"));
    assert_eq!(serde_json::from_slice::<Value>(&note.payload).unwrap(), json!({ "id": id }));
    world.stop().await;
}

#[tokio::test]
async fn a_vendor_that_is_ill_is_asked_again_also_after_a_crash_and_one_that_has_it_no_more_says_so() {
    let mut world = World::start().await;
    let fake = FakeVendors::start().await.unwrap();
    for vendor in ["harmony", "web_push"] {
        credential(&world, vendor, fake.credential(vendor)).await;
        device(&world, vendor, vendor, &fake.token(vendor, 1)).await;
    }
    let id = world.api.send(to(&["harmony", "web_push"])).await;
    world.api.until_funnel(&id, "vendor_accepted", 2).await;
    fake.fault("harmony", Some(Fault::Status(500)));
    fake.hand_out();
    take_back(&world, &id, "").await;
    until_recall(&world, &id, "web_push", "too_late").await;
    let path = format!("/v1/apps/default/messages/{id}/deliveries/harmony");
    let look = |delivery: &Value| delivery["timeline"].to_string().contains("tried again");
    world.api.until(&path, "tried again", look).await;
    world.kill().await;
    fake.fault("harmony", None);
    world.restart().await;
    until_recall(&world, &id, "harmony", "taken_back").await;
    assert_eq!(fake.recalls().iter().filter(|recall| recall.vendor == "harmony").count(), 1);
    world.stop().await;
}

/// The vendor closed the connection: nobody knows whether it has the push.
#[tokio::test]
async fn what_a_vendor_perhaps_has_is_taken_back_too_and_not_sent_again() {
    let world = World::start().await;
    let fake = FakeVendors::start().await.unwrap();
    credential(&world, "harmony", fake.credential("harmony")).await;
    device(&world, "harmony", "harmony", &fake.token("harmony", 1)).await;
    fake.fault("harmony", Some(Fault::Closes));
    let id = world.api.send(to(&["harmony"])).await;
    let path = format!("/v1/apps/default/messages/{id}/deliveries/harmony");
    world.api.until(&path, "unknown", |delivery| delivery["outcome_unknown"] == true).await;
    take_back(&world, &id, "").await;
    until_recall(&world, &id, "harmony", "waiting").await;
    fake.fault("harmony", None);
    let delivery = until_recall(&world, &id, "harmony", "taken_back").await;
    assert_eq!((&delivery["state"], fake.calls().len()), (&json!("recalled"), 0), "{delivery}");
    assert!(delivery["reason"].as_str().unwrap().contains("took it back"), "{delivery}");
    world.stop().await;
}
