//! Several credentials at a vendor, batches, and messages for very many devices: found, isolated, paused, resumed.

use std::collections::BTreeMap;

use reveille_fakes::{FakeVendors, Fault};
use serde_json::{Value, json};

use crate::world::World;

/// The fake's credential without the field that the path says.
fn credential(fake: &FakeVendors, vendor: &str) -> Value {
    let mut credential = fake.credential(vendor);
    credential.as_object_mut().unwrap().remove("vendor");
    credential
}

async fn set(world: &World, path: &str, credential: Value) {
    world.api.put(&format!("/v1/apps/default/credentials/{path}"), credential).await.ok();
}

async fn register(world: &World, device: &str, vendor: &str, token: Value) {
    world.api.put(&format!("/v1/apps/default/devices/{device}/tokens/{vendor}"), token).await.ok();
}

fn to(audience: Value, title: &str) -> Value {
    json!({"audience": audience, "notification": {"title": title, "body": "x"}, "delivery": {"strategy": "vendor_only"}})
}

/// How often each device token got a message.
fn accepted(fake: &FakeVendors, id: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for call in fake.calls().into_iter().filter(|call| call.is_accepted && call.mid == id) {
        *counts.entry(call.token).or_default() += 1;
    }
    counts
}

/// Devices `d0`, `d1`, … with a token each and the tag `all`.
async fn crowd(world: &World, fake: &FakeVendors, vendor: &'static str, count: usize) {
    let mut registering = tokio::task::JoinSet::new();
    for number in 0..count {
        if registering.len() == 50 {
            registering.join_next().await.unwrap().unwrap();
        }
        let (api, token) = (world.api.clone(), fake.token(vendor, number));
        registering.spawn(async move {
            let device = format!("/v1/apps/default/devices/d{number}");
            api.put(&device, json!({"tags": ["all"]})).await.ok();
            api.put(&format!("{device}/tokens/{vendor}"), json!({ "token": token })).await.ok();
        });
    }
    while let Some(done) = registering.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn a_vendor_has_several_credentials_and_a_device_token_finds_its_own() {
    let world = World::start().await;
    let (first, second) = (FakeVendors::start().await.unwrap(), FakeVendors::start().await.unwrap());
    set(&world, "webhook", credential(&first, "webhook")).await;
    set(&world, "webhook/second", credential(&second, "webhook")).await;
    let listed = world.api.get("/v1/apps/default/credentials").await.ok();
    let names: Vec<_> = listed["items"].as_array().unwrap().iter().map(|item| item["name"].clone()).collect();
    assert_eq!(names, ["default", "default", "second"], "{listed}"); // the record vendor's and these
    let path = "/v1/apps/default/credentials/webhook/second";
    assert_eq!(world.api.get(path).await.ok()["name"], "second");
    let tried = world.api.post(&format!("{path}:test"), json!({"token": "webhook-1"})).await.ok();
    assert_eq!((&tried["verdict"], first.calls().len(), second.calls().len()), (&json!("accepted"), 0, 1));

    register(&world, "a", "webhook", json!({"token": "webhook-2"})).await;
    register(&world, "b", "webhook", json!({"token": "webhook-3", "credential": "second"})).await;
    register(&world, "c", "webhook", json!({"token": "webhook-4", "credential": "third"})).await;
    let id = world.api.send(to(json!({"devices": ["a", "b", "c"]}), "t")).await;
    world.api.until_funnel(&id, "vendor_accepted", 2).await;
    assert_eq!(accepted(&first, &id).into_keys().collect::<Vec<_>>(), ["webhook-2"]);
    assert_eq!(accepted(&second, &id).into_keys().collect::<Vec<_>>(), ["webhook-3"]);
    let delivery = world.api.until_state(&id, "c", "failed").await;
    assert!(delivery["timeline"].to_string().contains("no credential third"), "{delivery}");

    // Rotated without a restart, and removed.
    set(&world, "webhook/second", credential(&first, "webhook")).await;
    let id = world.api.send(to(json!({"devices": ["b"]}), "t")).await;
    world.api.until_funnel(&id, "vendor_accepted", 1).await;
    assert_eq!(accepted(&first, &id).len(), 1);
    assert_eq!(world.api.delete(path).await.status, 204);
    assert_eq!(world.api.get(path).await.errno(), 3005);
    let id = world.api.send(to(json!({"devices": ["b"]}), "t")).await;
    world.api.until_state(&id, "b", "failed").await;
    world.stop().await;
}

#[tokio::test]
async fn names_and_their_number_are_bounded() {
    let world = World::start().await;
    for bad in ["A", "a.b", "%E8%AE%BE", &"a".repeat(33)] {
        let path = format!("/v1/apps/default/credentials/record/{bad}");
        assert_eq!(world.api.put(&path, json!({})).await.errno(), 3005, "{bad}");
    }
    for number in 1..16 {
        set(&world, &format!("record/n{number}"), json!({})).await;
    }
    let path = "/v1/apps/default/credentials/record/one-more";
    assert_eq!(world.api.put(path, json!({})).await.errno(), 4010);
    set(&world, "record/n1", json!({})).await; // replacing one is no further one
    world.stop().await;
}

#[tokio::test]
async fn a_device_token_is_matched_by_environment_and_bundle_id() {
    let world = World::start().await;
    let fakes =
        [reveille_fakes::FakeApns::start().await.unwrap(), reveille_fakes::FakeApns::start().await.unwrap()];
    for (fake, path, environment) in [(&fakes[0], "apns", "production"), (&fakes[1], "apns/dev", "sandbox")] {
        let mut credential = fake.credential();
        credential.as_object_mut().unwrap().remove("vendor");
        credential["environment"] = environment.into();
        set(&world, path, credential).await;
    }
    let bundle = "com.example.reveille";
    let path = "/v1/apps/default/devices/x/tokens/apns";
    let both = json!({"token": "aa", "bundle_id": bundle, "package": bundle});
    assert_eq!(world.api.put(path, both).await.pointers(), ["/package"]);
    register(&world, "p", "apns", json!({"token": "aa01", "environment": "production", "bundle_id": bundle}))
        .await;
    register(&world, "s", "apns", json!({"token": "aa02", "environment": "sandbox"})).await;
    register(&world, "o", "apns", json!({"token": "aa03", "package": "com.example.other"})).await;
    let id = world.api.send(to(json!({"devices": ["p", "s", "o"]}), "t")).await;
    world.api.until_funnel(&id, "vendor_accepted", 2).await;
    let tokens: Vec<Vec<_>> =
        fakes.iter().map(|fake| fake.calls().into_iter().map(|call| call.token).collect()).collect();
    assert_eq!(tokens, [["aa01"], ["aa02"]]);
    let delivery = world.api.until_state(&id, "o", "failed").await;
    assert!(
        delivery["timeline"].to_string().contains("no credential for apns and com.example.other"),
        "{delivery}"
    );
    world.stop().await;
}

/// One credential is ill, throttled, or has used up its day; another of the same vendor goes on.
#[tokio::test]
async fn what_happens_to_one_credential_concerns_no_other_of_the_same_vendor() {
    const MESSAGES: usize = 8;
    for trouble in ["breaker", "throttle", "day", "hang"] {
        let world = World::start().await;
        let (ill, well) = (FakeVendors::start().await.unwrap(), FakeVendors::start().await.unwrap());
        let mut first = credential(&ill, "xiaomi");
        match trouble {
            "breaker" => ill.fault("xiaomi", Some(Fault::Status(500))),
            "throttle" => ill.answer("xiaomi-1", 200, json!({"result": "error", "code": 200002})),
            "day" => first["rates"] = json!({"per_day": 0}),
            _ => ill.fault("xiaomi", Some(Fault::Hangs)),
        }
        set(&world, "xiaomi", first).await;
        set(&world, "xiaomi/well", credential(&well, "xiaomi")).await;
        register(&world, "a", "xiaomi", json!({"token": "xiaomi-1"})).await;
        register(&world, "b", "xiaomi", json!({"token": "xiaomi-2", "credential": "well"})).await;
        for number in 0..MESSAGES {
            let id = world.api.send(to(json!({"devices": ["a", "b"]}), &format!("{number}"))).await;
            let message = world.api.until_funnel(&id, "vendor_accepted", 1).await;
            assert_eq!(message["funnel"]["in_flight"], 1, "{trouble} {message}");
        }
        assert_eq!(well.calls().len(), MESSAGES, "{trouble}");
        assert!(ill.calls().iter().all(|call| !call.is_accepted), "{trouble}");
        world.kill_off().await;
    }
}

#[tokio::test]
async fn a_class_that_used_up_its_day_leaves_the_other_alone() {
    let (world, fake) = (World::start().await, FakeVendors::start().await.unwrap());
    let mut oppo = credential(&fake, "oppo");
    oppo["rates"] = json!({"marketing": {"per_day": 1}});
    set(&world, "oppo", oppo.clone()).await;
    oppo["rates"] = json!({"marketing": {"per_second": 0}});
    let refused = world.api.put("/v1/apps/default/credentials/oppo", oppo).await;
    assert_eq!(refused.pointers(), ["/rates/marketing/per_second"]);
    register(&world, "a", "oppo", json!({"token": "CN_1"})).await;
    let send = async |class: Value| {
        let mut body = to(json!({"devices": ["a"]}), "t");
        for (name, value) in class.as_object().unwrap() {
            body["delivery"][name] = value.clone();
        }
        world.api.send(body).await
    };
    let first = send(json!({"category": "MARKETING"})).await;
    world.api.until_funnel(&first, "vendor_accepted", 1).await;
    let second = send(json!({"class": "marketing"})).await;
    let path = format!("/v1/apps/default/messages/{second}/deliveries/a");
    let used_up = |delivery: &Value| delivery["timeline"].to_string().contains("of this day are used up");
    world.api.until(&path, "a word about the day", used_up).await;
    for class in [json!({}), json!({"category": "MARKETING", "class": "service"})] {
        let id = send(class).await;
        world.api.until_funnel(&id, "vendor_accepted", 1).await;
    }
    assert_eq!(fake.calls().len(), 3);
    world.stop().await;
}

#[tokio::test]
async fn many_devices_go_out_in_batches_and_each_push_has_its_own_end() {
    const DEVICES: usize = 250;
    for vendor in ["huawei", "harmony", "honor", "xiaomi", "oppo", "vivo", "meizu"] {
        let (world, fake) = (World::start().await, FakeVendors::start().await.unwrap());
        let mut credential = credential(&fake, vendor);
        credential["rates"] = json!({"per_second": 100_000});
        set(&world, vendor, credential).await;
        crowd(&world, &fake, vendor, DEVICES).await;
        let dead = fake.token(vendor, 7);
        fake.refuse_in_batches(&dead);
        if vendor == "xiaomi" {
            fake.answer_alone(&dead, 200, json!({"result": "error", "code": 66007}));
        }
        let id = world.api.send(to(json!({"tags": ["all"]}), "到了")).await;
        let message = world.api.until_funnel(&id, "vendor_accepted", DEVICES as u64 - 1).await;
        assert_eq!(message["funnel"]["failed"], 1, "{vendor} {message}");
        assert_eq!(message["state"], "done", "{vendor} {message}");
        assert_eq!(
            (&message["progress"]["done"], &message["funnel"]["vendor_queued"]),
            (&json!(DEVICES), &json!(0)),
            "{vendor} {message}"
        );
        let accepted = accepted(&fake, &id);
        assert_eq!(accepted.len(), DEVICES - 1, "{vendor}");
        assert!(accepted.values().all(|times| *times == 1), "{vendor}: one is doubled");
        assert!(fake.calls().iter().any(|call| call.batch > 1), "{vendor}: no batch");
        let dead = world.api.get("/v1/apps/default/dead-tokens").await.ok();
        assert_eq!(dead["items"].as_array().unwrap().len(), 1, "{vendor} {dead}");
        assert_eq!(fake.broken(), [], "{vendor}");
        world.stop().await;
    }
}

#[tokio::test]
async fn a_single_push_overtakes_a_message_for_very_many() {
    const DEVICES: usize = 300;
    let (world, fake) = (World::start().await, FakeVendors::start().await.unwrap());
    let mut meizu = credential(&fake, "meizu");
    meizu["rates"] = json!({"per_second": 20});
    set(&world, "meizu", meizu).await;
    crowd(&world, &fake, "meizu", DEVICES).await;
    let large = world.api.send(to(json!({"tags": ["all"]}), "sale")).await;
    fake.wait_for(1).await;
    let single = world.api.send(to(json!({"devices": ["d299"]}), "code 1234")).await;
    world.api.until_funnel(&single, "vendor_accepted", 1).await;
    let message = world.api.message(&large).await;
    assert!(message["funnel"]["vendor_accepted"].as_u64().unwrap() < DEVICES as u64 - 50, "{message}");
    assert_eq!(message["state"], "sending");
    assert!(message["progress"]["of_estimated"] == DEVICES, "{message}");
    world.kill_off().await;
}

#[tokio::test]
async fn pushes_that_waited_long_go_out_where_their_messages_new_content_belongs() {
    const DEVICES: usize = 120;
    let (world, fake) = (World::start().await, FakeVendors::start().await.unwrap());
    let mut oppo = credential(&fake, "oppo");
    oppo["rates"] = json!({"per_second": 100_000, "marketing": {"per_second": 1}});
    set(&world, "oppo", oppo).await;
    crowd(&world, &fake, "oppo", DEVICES).await;
    let mut body = to(json!({"tags": ["all"]}), "sale");
    body["delivery"]["category"] = "MARKETING".into();
    let id = world.api.send(body).await;
    // At one a second its pushes wait for longer than the worker reads back in a lane.
    fake.wait_for(4).await;
    // The other lane was read since: what was due before is news there.
    let other = world.api.send(to(json!({"devices": ["d0"]}), "code")).await;
    world.api.until_funnel(&other, "vendor_accepted", 1).await;
    let content = json!({"notification": {"title": "order", "body": "x", "category": "ORDER"}});
    world.api.patch(&format!("/v1/apps/default/messages/{id}"), content).await.ok();
    world.api.until_funnel(&id, "vendor_accepted", DEVICES as u64).await;
    world.stop().await;
}

#[tokio::test]
async fn a_paused_message_rests_across_a_crash_goes_on_and_can_be_withdrawn() {
    const DEVICES: usize = 400;
    let (mut world, fake) = (World::start().await, FakeVendors::start().await.unwrap());
    let mut huawei = credential(&fake, "huawei");
    huawei["rates"] = json!({"per_second": 40});
    set(&world, "huawei", huawei.clone()).await;
    crowd(&world, &fake, "huawei", DEVICES).await;
    let id = world.api.send(to(json!({"tags": ["all"]}), "sale")).await;
    fake.wait_for(1).await;
    let path = format!("/v1/apps/default/messages/{id}");
    assert_eq!(world.api.post(&format!("{path}:stop"), json!({})).await.errno(), 3008);
    let paused = world.api.post(&format!("{path}:pause"), json!({})).await.ok();
    assert_eq!((&paused["state"], &paused["progress"]["per_s"]), (&json!("paused"), &json!(0)), "{paused}");
    assert_eq!(
        world.api.post(&format!("{path}:pause"), json!({})).await.ok()["paused_at_ms"],
        paused["paused_at_ms"]
    );
    world.kill().await;
    world.restart().await;
    huawei["rates"] = json!({"per_second": 100_000});
    set(&world, "huawei", huawei).await;
    // Another message for the same devices goes through the same lane, so the paused one has had its turn too.
    let other = world.api.send(to(json!({"tags": ["all"]}), "other")).await;
    world.api.until_funnel(&other, "vendor_accepted", DEVICES as u64).await;
    let message = world.api.message(&id).await;
    assert_eq!(message["state"], "paused", "{message}");
    assert!(accepted(&fake, &id).len() < DEVICES, "it went on although it is paused");

    let resumed = world.api.post(&format!("{path}:resume"), json!({})).await.ok();
    assert_eq!(resumed["paused_at_ms"], Value::Null);
    let message = world.api.until_funnel(&id, "vendor_accepted", DEVICES as u64).await;
    let repeated = message["funnel"]["by_vendor"]["huawei"]["repeated_unknown"].as_u64().unwrap();
    let accepted = accepted(&fake, &id);
    assert_eq!(accepted.len(), DEVICES);
    let doubled = accepted.values().sum::<usize>() - DEVICES;
    assert!(doubled as u64 <= repeated, "{doubled} doubled, {repeated} counted");

    // Paused before anything is sent, then withdrawn.
    fake.fault("huawei", Some(Fault::Status(500)));
    let id = world.api.send(to(json!({"tags": ["all"]}), "wrong")).await;
    let path = format!("/v1/apps/default/messages/{id}");
    world.api.post(&format!("{path}:pause"), json!({})).await.ok();
    assert_eq!(world.api.delete(&path).await.status, 202);
    let message = world.api.until(&path, "withdrawn", |message| message["funnel"]["in_flight"] == 0).await;
    assert_eq!(message["state"], "recalled", "{message}");
    world.stop().await;
}
