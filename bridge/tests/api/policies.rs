//! Policies over HTTP: caps, quiet hours, coalescing, saved quotas and rates, also over crashes.

use std::time::{SystemTime, UNIX_EPOCH};

use reveille_proto::bridge::{self as wire, presence};
use serde_json::{Value, json};

use crate::world::{Api, World};

const POLICY: &str = "/v1/apps/default/policies/marketing";
const HOUR_MS: u64 = 60 * 60 * 1000;
const DAY_MS: u64 = 24 * HOUR_MS;

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Quiet hours by UTC that began an hour ago and end in three.
fn quiet_now(then: &str) -> Value {
    let time = |at_ms: u64| format!("{:02}:{:02}", at_ms / HOUR_MS % 24, at_ms / 60_000 % 60);
    json!({"from": time(now_ms() - HOUR_MS), "to": time(now_ms() + 3 * HOUR_MS), "then": then})
}

async fn send(api: &Api, devices: &[&str], delivery: Value) -> String {
    let body = json!({"audience": {"devices": devices}, "notification": {"title": "促销"}, "policy": "marketing",
        "delivery": delivery});
    api.send(body).await
}

fn words(delivery: &Value) -> Vec<String> {
    let timeline = delivery["timeline"].as_array().unwrap();
    timeline.iter().map(|entry| entry["words"].as_str().unwrap().to_owned()).collect()
}

/// Tells that a device is offline, of the newest message that the broker was sent.
async fn miss(world: &World, nth: usize, device: &str, epoch: u64) {
    let message = world.broker.sends(nth).await[nth - 1].message.clone().unwrap();
    world.broker.queued(&message, &[(device, epoch)]).await;
}

#[tokio::test]
async fn a_policy_is_kept_changed_by_whoever_saw_it_and_removed() {
    let world = World::start().await;
    let api = &world.api;
    let body = json!({
        "description": "Offers", "categories": ["MARKETING"],
        "caps": [{"max": 3, "window_s": 86400, "tag": "vip", "then": "drop"}],
        "quiet_hours": {"from": "22:00", "to": "08:00", "timezone": "Asia/Shanghai"},
        "coalesce": {"digest": {"after": 2}}, "save_quota": true, "rate_per_s": 500,
    });
    let made = api.put(POLICY, body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.json["quiet_hours"]["then"], "delay");
    assert_eq!(made.json["coalesce"]["digest"]["text"], "{n} new messages");
    let shown = api.get(POLICY).await;
    assert_eq!((&shown.json, &shown.headers["etag"]), (&made.json, &made.headers["etag"]));
    for (tag, status) in [("\"other\"", 412), (shown.headers["etag"].to_str().unwrap(), 200)] {
        let changed = api.call("PUT", POLICY, &[("if-match", tag)], r#"{"coalesce": "first_only"}"#).await;
        assert_eq!(changed.status, status, "{}", changed.text);
    }
    let changed = api.get(POLICY).await.ok();
    assert_eq!((&changed["caps"], &changed["quiet_hours"]), (&json!([]), &Value::Null));
    assert_eq!(changed["created_at_ms"], made.json["created_at_ms"]);
    api.put("/v1/apps/default/policies/alarms", json!({"categories": ["ALARM"]})).await.ok();
    let names = |list: Value| -> Vec<String> {
        list["items"].as_array().unwrap().iter().map(|policy| policy["name"].to_string()).collect()
    };
    assert_eq!(names(api.get("/v1/apps/default/policies?limit=1").await.ok()), ["\"alarms\""]);
    assert_eq!(names(api.get("/v1/apps/default/policies?after=alarms").await.ok()), ["\"marketing\""]);
    assert_eq!(api.put(POLICY, json!({"categories": ["ALARM"]})).await.errno(), 4051);
    assert_eq!(api.call("DELETE", POLICY, &[("if-match", "\"other\"")], "").await.errno(), 4030);
    assert_eq!(api.delete(POLICY).await.status, 204);
    assert_eq!((api.get(POLICY).await.errno(), api.delete(POLICY).await.errno()), (3050, 3050));
    world.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_policy_is_said_by_its_place() {
    let world = World::start().await;
    for (body, wanted) in [
        (json!({"caps": [{"max": 0, "window_s": 86400}]}), "/caps/0/max"),
        (json!({"caps": [{"max": 1}]}), "/caps/0"),
        (json!({"caps": vec![json!({"max": 1, "window_s": 60}); 2]}), "/caps/1"),
        (json!({"quiet_hours": {"from": "8:00", "to": "09:00"}}), "/quiet_hours/from"),
        (
            json!({"quiet_hours": {"from": "08:00", "to": "09:00", "timezone": "Mars"}}),
            "/quiet_hours/timezone",
        ),
        (json!({"quiet_hours": {"from": "08:00", "to": "09:00", "then": "shout"}}), "/quiet_hours/then"),
        (json!({"coalesce": {"digest": {"after": 1, "text": ""}}}), "/coalesce/digest/text"),
        (json!({"rate_per_s": 0}), "/rate_per_s"),
        (json!({"caps_": []}), "/caps_"),
    ] {
        let refused = world.api.put(POLICY, body.clone()).await;
        assert_eq!(refused.errno(), 1002, "{body}");
        assert!(refused.pointers()[0].starts_with(wanted), "{body}: {}", refused.text);
    }
    assert_eq!(world.api.put("/v1/apps/default/policies/a%20b", json!({})).await.errno(), 1009);
    let body = json!({"audience": {"devices": ["d1"]}, "data": {"a": 1}, "policy": "none"});
    assert_eq!(world.api.post("/v1/apps/default/messages", body.clone()).await.pointers(), ["/policy"]);
    assert_eq!(world.api.post("/v1/apps/default/messages:validate", body).await.pointers(), ["/policy"]);
    world.stop().await;
}

#[tokio::test]
async fn a_user_gets_no_more_than_the_cap_over_all_devices_and_over_crashes() {
    let mut world = World::start().await;
    world.api.put(POLICY, json!({"caps": [{"max": 2, "window_s": 3600, "then": "drop"}]})).await.ok();
    for device in ["phone", "tablet"] {
        let path = format!("/v1/apps/default/devices/{device}");
        world.api.put(&path, json!({"alias": {"user": "42"}})).await.ok();
    }
    let mut states = Vec::new();
    for delivery in [json!({}), json!({}), json!({}), json!({"urgent": true})] {
        let id = send(&world.api, &["phone", "tablet", "alone"], delivery).await;
        for device in ["phone", "tablet", "alone"] {
            states.push(world.api.delivery(&id, device).await["state"].as_str().unwrap().to_owned());
        }
        let funnel = world.api.message(&id).await["funnel"].clone();
        let parts = funnel["suppressed"].as_u64().unwrap() + funnel["in_flight"].as_u64().unwrap();
        assert_eq!((funnel["targeted"].as_u64(), parts), (Some(3), 3), "{funnel}");
        world.kill().await;
        world.restart().await;
    }
    let wanted = [["queued"; 3], ["queued"; 3], ["suppressed_cap"; 3], ["queued"; 3]].concat();
    assert_eq!(states, wanted);
    // A larger number counts what was counted before.
    world.api.put(POLICY, json!({"caps": [{"max": 3, "window_s": 3600, "then": "drop"}]})).await.ok();
    for state in ["queued", "suppressed_cap"] {
        let id = send(&world.api, &["tablet"], json!({})).await;
        let delivery = world.api.delivery(&id, "tablet").await;
        assert_eq!(delivery["state"], state);
        let reason = "dropped by policy marketing: 3 messages in 1 hour are its most";
        assert!(state == "queued" || delivery["reason"] == reason, "{delivery}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_cap_may_be_for_a_tag_or_a_category_and_a_category_may_choose_the_policy() {
    let world = World::start().await;
    let caps = json!([
        {"max": 1, "window_s": 3600, "category": "NEWS", "then": "drop"},
        {"max": 1, "window_s": 3600, "tag": "rarely", "then": "drop"},
    ]);
    world.api.put(POLICY, json!({"caps": caps, "categories": ["NEWS", "OFFER"]})).await.ok();
    world.api.put("/v1/apps/default/devices/shy", json!({"tags": ["rarely"]})).await.ok();
    let mut states = Vec::new();
    for category in ["NEWS", "NEWS", "OFFER", "CHAT"] {
        let body = json!({"audience": {"devices": ["bold", "shy"]}, "notification": {"title": "t"},
            "delivery": {"category": category}});
        let id = world.api.send(body).await;
        let policy = if category == "CHAT" { Value::Null } else { json!("marketing") };
        assert_eq!(world.api.message(&id).await["policy"], policy);
        for device in ["bold", "shy"] {
            states.push(world.api.delivery(&id, device).await["state"].as_str().unwrap().to_owned());
        }
    }
    let (goes, not) = ("queued", "suppressed_cap");
    assert_eq!(states, [goes, goes, not, not, goes, not, goes, goes]);
    world.stop().await;
}

#[tokio::test]
async fn quiet_hours_hold_a_message_or_drop_it_and_the_trace_says_until_when() {
    let world = World::start().await;
    let api = &world.api;
    api.put(POLICY, json!({"quiet_hours": quiet_now("delay")})).await.ok();
    api.put("/v1/apps/default/devices/d1", json!({"timezone": "Etc/UTC"})).await.ok();
    api.put("/v1/apps/default/devices/far", json!({"timezone": "Etc/GMT-12"})).await.ok();
    let held = send(api, &["d1", "far"], json!({})).await;
    let delivery = api.delivery(&held, "d1").await;
    assert_eq!((&delivery["state"], &delivery["counts_as"]), (&json!("targeted"), &json!("in_flight")));
    let told = words(&delivery);
    let is_told = |words: &String| {
        words.contains("held until") && words.contains("of the recipient's time by policy marketing")
    };
    assert!(told.iter().any(is_told), "{told:?}");
    assert_eq!(
        api.delivery(&held, "far").await["state"],
        "queued",
        "there the clock shows twelve hours more"
    );
    assert_eq!(world.broker.sends(1).await[0].client_ids, ["far"]);
    // Its time is over before the quiet hours are.
    let short = send(api, &["d1"], json!({"ttl_s": 3600})).await;
    assert_eq!(api.delivery(&short, "d1").await["state"], "suppressed_quiet");
    let urgent = send(api, &["d1"], json!({"urgent": true})).await;
    assert_eq!(api.delivery(&urgent, "d1").await["state"], "queued");
    api.put(POLICY, json!({"quiet_hours": quiet_now("drop")})).await.ok();
    let dropped = send(api, &["d1"], json!({})).await;
    assert_eq!(api.delivery(&dropped, "d1").await["state"], "suppressed_quiet");
    // What is held can be withdrawn, and the funnel stays whole.
    api.delete(&format!("/v1/apps/default/messages/{held}")).await.ok();
    api.until_state(&held, "d1", "recalled").await;
    api.until_funnel(&held, "in_flight", 0).await;
    world.stop().await;
}

#[tokio::test]
async fn a_rate_over_all_messages_of_a_policy_holds_the_surplus_and_lets_it_go_later_also_after_a_crash() {
    let mut world = World::start().await;
    world.api.put(POLICY, json!({"rate_per_s": 1})).await.ok();
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(send(&world.api, &["d1"], json!({})).await);
    }
    world.kill().await;
    world.restart().await;
    let held = world.api.until_state(&ids[3], "d1", "queued").await;
    let told = words(&held);
    assert!(told.iter().any(|words| words.contains("1 messages a second are its most")), "{told:?}");
    assert!(told.iter().any(|words| words.contains("its policy lets it go")), "{told:?}");
    for id in &ids {
        world.api.until_state(id, "d1", "queued").await;
    }
    world.stop().await;
}

#[tokio::test]
async fn the_first_push_wakes_a_device_and_the_others_wait_in_its_queue() {
    let world = World::start().await;
    let api = &world.api;
    api.put(POLICY, json!({"coalesce": "first_only"})).await.ok();
    api.register("d1", "t1").await;
    let mut ids = Vec::new();
    for nth in 1..=3 {
        ids.push(send(api, &["d1"], json!({})).await);
        miss(&world, nth, "d1", 3).await;
    }
    api.until_state(&ids[0], "d1", "vendor_accepted").await;
    for id in &ids[1..] {
        let delivery = api.delivery(id, "d1").await;
        assert_eq!(delivery["state"], "queued");
        let reason = "not pushed by policy marketing: the device was woken before and is still offline";
        assert_eq!(delivery["reason"], reason);
    }
    // It came, took one of them, and went away again: what it left is pushed once more.
    let second = world.broker.sends(2).await[1].message.clone().unwrap();
    world.broker.acked(&second, &[("d1", 5)]).await;
    assert_eq!(api.delivery(&ids[1], "d1").await["state"], "online_acked");
    miss(&world, 3, "d1", 5).await;
    api.until_state(&ids[2], "d1", "vendor_accepted").await;
    assert_eq!(api.recorded().await.len(), 2);
    world.stop().await;
}

#[tokio::test]
async fn a_push_that_no_vendor_takes_wakes_nobody_so_the_next_one_does() {
    let world = World::start().await;
    let api = &world.api;
    api.put(POLICY, json!({"coalesce": "first_only"})).await.ok();
    api.answers(json!([{"token": "t1", "answer": "payload_rejected", "times": 1}])).await;
    api.register("d1", "t1").await;
    let refused = send(api, &["d1"], json!({})).await;
    miss(&world, 1, "d1", 3).await;
    let path = format!("/v1/apps/default/messages/{refused}");
    api.until(&path, "refused", |message| message["funnel"]["by_vendor"]["record"]["refused"] == 1).await;
    let next = send(api, &["d1"], json!({})).await;
    miss(&world, 2, "d1", 3).await;
    api.until_state(&next, "d1", "vendor_accepted").await;
    world.stop().await;
}

#[tokio::test]
async fn a_push_that_is_withdrawn_before_its_turn_wakes_nobody_so_the_next_one_does() {
    let world = World::start().await;
    let api = &world.api;
    api.put(POLICY, json!({"coalesce": "first_only"})).await.ok();
    api.register("d1", "t1").await;
    let first = send(api, &["d1"], json!({})).await;
    api.post(&format!("/v1/apps/default/messages/{first}:pause"), json!({})).await.ok();
    miss(&world, 1, "d1", 3).await;
    let withheld = send(api, &["d1"], json!({})).await;
    miss(&world, 2, "d1", 3).await;
    assert!(words(&api.delivery(&withheld, "d1").await).iter().any(|words| words.contains("woken before")));
    api.delete(&format!("/v1/apps/default/messages/{first}")).await.ok();
    api.until_state(&first, "d1", "recalled").await;
    let next = send(api, &["d1"], json!({})).await;
    miss(&world, 3, "d1", 3).await;
    api.until_state(&next, "d1", "vendor_accepted").await;
    world.stop().await;
}

#[tokio::test]
async fn a_digest_says_how_many_messages_wait_and_replaces_itself() {
    let world = World::start().await;
    let api = &world.api;
    api.put(POLICY, json!({"coalesce": {"digest": {"after": 1, "text": "{n} 条新消息"}}})).await.ok();
    api.register("d1", "t1").await;
    let mut ids = Vec::new();
    for nth in 1..=3 {
        ids.push(send(api, &["d1"], json!({})).await);
        miss(&world, nth, "d1", 3).await;
        api.until_state(&ids[nth - 1], "d1", "vendor_accepted").await;
    }
    let pushes: Vec<Value> = api.recorded().await.iter().map(|recorded| recorded["push"].clone()).collect();
    assert_eq!((&pushes[0]["title"], &pushes[0]["mid"]), (&json!("促销"), &json!(ids[0])));
    for (push, body, id) in [(&pushes[1], "2 条新消息", &ids[1]), (&pushes[2], "3 条新消息", &ids[2])]
    {
        assert_eq!((&push["body"], &push["collapse_key"]), (&json!(body), &json!("digest-marketing")));
        assert!(push["title"].is_null() && push["mid"] != json!(id), "{push}");
    }
    // The device tells what became of the digest: that is what became of the message.
    let shown = json!({"id": pushes[2]["mid"], "event": "clicked"}).to_string();
    world.broker.said(wire::from_device::Kind::Event, "d1", &shown).await;
    assert_eq!(api.delivery(&ids[2], "d1").await["state"], "clicked");
    world.stop().await;
}

/// Online from a quarter past to half past that hour on each of the last six days.
async fn live(world: &World, device: &str, hour_ms: u64) {
    for day in (1..=6).rev() {
        let from_ms = hour_ms - day * DAY_MS + HOUR_MS / 4;
        let epoch = 100 - 10 * day;
        for (kind, epoch, at_ms) in [
            (presence::Kind::Connected, epoch, from_ms),
            (presence::Kind::Disconnected, epoch, from_ms + HOUR_MS / 4),
        ] {
            let presence = wire::Presence {
                kind: kind.into(),
                app: "default".to_owned(),
                client_id: device.to_owned(),
                epoch,
                at_ms,
                ..Default::default()
            };
            world.broker.tell(wire::PRESENCE, &presence).await;
        }
    }
}

#[tokio::test]
async fn a_push_that_costs_quota_waits_for_a_device_that_usually_comes_and_is_cancelled_when_it_does() {
    let world = World::start().await;
    let api = &world.api;
    api.put(POLICY, json!({"save_quota": true})).await.ok();
    for device in ["regular", "unknown"] {
        api.register(device, device).await;
    }
    live(&world, "regular", (now_ms() / HOUR_MS + 2) * HOUR_MS).await;
    let free = send(api, &["regular"], json!({})).await;
    miss(&world, 1, "regular", 90).await;
    api.until_state(&free, "regular", "vendor_accepted").await; // no quota, nothing to save
    let rates = json!({"answers": [], "rates": {"per_day": 1000}});
    api.put("/v1/apps/default/credentials/record", rates).await.ok();
    let id = send(api, &["regular", "unknown"], json!({})).await;
    let message = world.broker.sends(2).await[1].message.clone().unwrap();
    world.broker.queued(&message, &[("regular", 90), ("unknown", 90)]).await;
    api.until_state(&id, "unknown", "vendor_accepted").await;
    let told = words(&api.delivery(&id, "regular").await);
    let is_told = |words: &String| words.contains("held until") && words.contains("usually online by then");
    assert!(told.iter().any(is_told), "{told:?}");
    // Worthless before that hour: nothing to wait for.
    let short = send(api, &["regular"], json!({"ttl_s": 3600})).await;
    miss(&world, 3, "regular", 90).await;
    api.until_state(&short, "regular", "vendor_accepted").await;
    world.broker.acked(&message, &[("regular", 110)]).await;
    let delivery = api.until_state(&id, "regular", "suppressed_drained_online").await;
    assert_eq!(delivery["counts_as"], "suppressed");
    api.until_funnel(&id, "in_flight", 0).await;
    assert_eq!(api.recorded().await.len(), 3);
    world.stop().await;
}
