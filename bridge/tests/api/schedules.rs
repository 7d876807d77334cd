//! Messages that are sent later, again and again, and no faster than they may.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::world::World;

const SCHEDULES: &str = "/v1/apps/default/schedules";
const MESSAGES: &str = "/v1/apps/default/messages";

/// A local time of UTC that many seconds ahead.
fn ahead(seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let at = i64::try_from(now + seconds).unwrap();
    jiff::Timestamp::from_second(at).unwrap().to_string().trim_end_matches('Z').to_owned()
}

fn message(device: &str) -> Value {
    json!({"audience": {"devices": [device]}, "notification": {"title": "到了"}})
}

#[tokio::test]
async fn a_schedule_is_made_shown_changed_paused_run_and_removed() {
    let world = World::start().await;
    let body = json!({"name": "digest", "when": {"cron": "0 9 * * MON-FRI"}, "timezone": "Europe/Berlin", "until": "2099-01-01T00:00",
        "message": message("d1")});
    let headers = [("idempotency-key", "digest")];
    let made = world.api.call("POST", SCHEDULES, &headers, &body.to_string()).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let again = world.api.call("POST", SCHEDULES, &headers, &body.to_string()).await;
    assert_eq!(again.json["id"], made.json["id"], "the same call makes one schedule");
    let path = format!("{SCHEDULES}/{}", made.json["id"].as_str().unwrap());
    let shown = world.api.get(&path).await.ok();
    assert_eq!((&shown["state"], &shown["when"]), (&json!("active"), &json!({"cron": "0 9 * * MON-FRI"})));
    assert!(shown["next"]["local"].as_str().unwrap().ends_with("T09:00:00"), "{shown}");
    assert_eq!((&shown["message"], &shown["until"]), (&message("d1"), &json!("2099-01-01T00:00:00")));
    assert_eq!(world.api.get(SCHEDULES).await.ok()["items"].as_array().unwrap().len(), 1);
    let paused = world.api.post(&format!("{path}:pause"), json!({})).await.ok();
    assert_eq!((&paused["state"], &paused["next"]), (&json!("paused"), &Value::Null));
    let ran = world.api.post(&format!("{path}:run"), json!({})).await;
    assert_eq!(ran.status, 202);
    assert_eq!(world.broker.sends(1).await[0].client_ids, ["d1"]);
    let id = ran.json["id"].as_str().unwrap();
    assert_eq!(world.api.message(id).await["schedule"], shown["id"]);
    let after = world.api.get(&path).await;
    assert_eq!((&after.json["state"], &after.json["recent"][0]["message"]), (&json!("paused"), &json!(id)));
    assert_eq!(world.api.post(&format!("{path}:resume"), json!({})).await.ok()["state"], "active");
    let stale = world
        .api
        .call("PUT", &path, &[("if-match", after.headers["etag"].to_str().unwrap())], &body.to_string())
        .await;
    assert_eq!(stale.errno(), 4030, "it was let go on since");
    let recipient = json!({"when": {"cron": "30 8 1 * *"}, "timezone": "recipient", "default_timezone": "Asia/Shanghai", "count": 2,
        "missed": "skip", "message": message("d2")});
    let replaced = world.api.put(&path, recipient).await.ok();
    assert_eq!(
        (&replaced["timezone"], &replaced["default_timezone"]),
        (&json!("recipient"), &json!("Asia/Shanghai"))
    );
    world.api.delete(&path).await.ok();
    assert_eq!(world.api.get(&path).await.errno(), 3041);
    world.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_schedule_is_told_with_its_place() {
    let world = World::start().await;
    let with = |changes: Value| {
        let mut body = json!({"when": {"cron": "0 9 * * *"}, "message": message("d1")});
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        body
    };
    for (body, pointer) in [
        (with(json!({"when": {}})), "/when"),
        (with(json!({"when": {"at": "2099-01-01T00:00:00", "cron": "0 9 * * *"}})), "/when"),
        (with(json!({"when": {"at": "2026-01-01T00:00:00"}})), "/when"),
        (with(json!({"when": {"at": "2099-01-01T00:00:00Z"}})), "/when/at"),
        (with(json!({"when": {"cron": "0 25 * * *"}})), "/when/cron"),
        (with(json!({"timezone": "Mars/Olympus"})), "/timezone"),
        (with(json!({"default_timezone": "UTC"})), "/default_timezone"),
        (with(json!({"from": "tomorrow"})), "/from"),
        (with(json!({"until": "2026-01-01T00:00:00"})), "/when"),
        (with(json!({"count": 0})), "/count"),
        (with(json!({"message": {"audience": {"all": true}}})), "/message"),
        (
            with(json!({"message": {"audience": {"expr": "tag:"}, "notification": {"title": "x"}}})),
            "/message/audience/expr",
        ),
        (
            with(json!({"message": {"audience": {"expr": "segment:none"}, "notification": {"title": "x"}}})),
            "/message/audience/expr",
        ),
        (with(json!({"message": {"audience": {"all": true}, "template": "none"}})), "/message/template"),
        (
            with(
                json!({"message": {"audience": {"all": true}, "notification": {"title": "x"}, "delivery": {"not_before": ahead(600)}}}),
            ),
            "/message/delivery/not_before",
        ),
    ] {
        let answer = world.api.post(SCHEDULES, body.clone()).await;
        assert_eq!(
            (answer.errno(), answer.pointers()),
            (1002, vec![pointer.to_owned()]),
            "{body} {}",
            answer.text
        );
    }
    let wrong = world.api.post(SCHEDULES, with(json!({"when": {"cron": "0 25 * * *"}}))).await;
    let words = wrong.json["errors"][0]["message"].as_str().unwrap().to_owned();
    assert!(words.starts_with("character 3: "), "{words}");
    world.stop().await;
}

#[tokio::test]
async fn a_template_that_a_schedule_uses_stays() {
    let world = World::start().await;
    let template = "/v1/apps/default/templates/digest";
    world.api.put(template, json!({"texts": {"default": {"title": "{{ n }} news"}}})).await.ok();
    let message = json!({"audience": {"devices": ["d1"]}, "template": "digest", "data": {"n": 3}});
    let body = json!({"when": {"cron": "0 9 * * *"}, "message": message});
    let made = world.api.post(SCHEDULES, body).await.ok();
    assert_eq!(world.api.delete(template).await.errno(), 4040);
    // The newest version at the time of a run counts.
    world.api.put(template, json!({"texts": {"default": {"title": "{{ n }} new"}}})).await.ok();
    let path = format!("{SCHEDULES}/{}", made["id"].as_str().unwrap());
    let ran = world.api.post(&format!("{path}:run"), json!({})).await.ok();
    let sent = world.api.message(ran["id"].as_str().unwrap()).await;
    assert_eq!(
        (&sent["template"], &sent["content"]["notification"]["title"]),
        (&json!("digest@2"), &json!("3 new"))
    );
    world.api.delete(&path).await.ok();
    world.api.delete(template).await.ok();
    world.stop().await;
}

#[tokio::test]
async fn a_message_waits_for_its_time_and_is_cancelled_until_then() {
    let world = World::start().await;
    let mut body = message("d1");
    body["delivery"] = json!({"not_before": ahead(3600), "timezone": "UTC"});
    let answer = world.api.post(MESSAGES, body).await.ok();
    assert_eq!(answer["state"], "scheduled");
    let id = answer["id"].as_str().unwrap();
    let shown = world.api.message(id).await;
    assert_eq!((&shown["state"], &shown["funnel"]["targeted"]), (&json!("scheduled"), &json!(0)));
    assert_eq!(world.api.delete(&format!("{MESSAGES}/{id}")).await.ok()["state"], "cancelled");
    assert_eq!(world.api.message(id).await["state"], "cancelled");
    for (delivery, pointer) in [
        (json!({"not_before": "soon"}), "/delivery/not_before"),
        (json!({"not_before": "2026-09-01T09:00:00Z", "timezone": "UTC"}), "/delivery/not_before"),
        (json!({"not_before": "2199-09-01T09:00:00"}), "/delivery/not_before"),
        (json!({"not_before": ahead(60), "timezone": "Mars/Olympus"}), "/delivery/timezone"),
        (json!({"timezone": "UTC"}), "/delivery/timezone"),
        (json!({"rate_per_s": 0}), "/delivery/rate_per_s"),
        (json!({"spread_minutes": 1441}), "/delivery/spread_minutes"),
        (json!({"spread_minutes": 60, "ttl_s": 3600}), "/delivery/spread_minutes"),
    ] {
        let mut body = message("d1");
        body["delivery"] = delivery.clone();
        assert_eq!(world.api.post(MESSAGES, body).await.pointers(), [pointer], "{delivery}");
    }
    // What is past begins now.
    let mut body = message("d2");
    body["delivery"] = json!({"not_before": "2026-01-01T09:00:00", "timezone": "recipient"});
    assert_eq!(world.api.post(MESSAGES, body).await.ok()["state"], "accepted");
    assert_eq!(
        world.broker.sends(1).await[0].client_ids,
        ["d2"],
        "and nothing of the cancelled one was said"
    );
    world.stop().await;
}

#[tokio::test]
async fn each_moment_has_one_message_however_often_the_server_dies_around_it() {
    const SCHEDULED: usize = 12;
    let mut world = World::start().await;
    let at = ahead(8);
    for n in 0..SCHEDULED {
        let body = json!({"when": {"at": at}, "message": message(&format!("d{n:02}"))});
        world.api.post(SCHEDULES, body).await.ok();
    }
    let list = format!("{MESSAGES}?limit=1000");
    let items = |page: &Value| page["items"].as_array().unwrap().clone();
    // Restarts until every moment was looked at: the first finds them ahead, the last finds them done.
    let mut kills = 0;
    loop {
        world.kill().await;
        world.restart().await;
        kills += 1;
        let schedules = world.api.get(SCHEDULES).await.ok();
        if items(&schedules).iter().all(|schedule| schedule["state"] == "ended") {
            break;
        }
    }
    let messages = items(&world.api.get(&list).await.ok());
    let of: BTreeSet<_> =
        messages.iter().map(|message| message["schedule"].as_str().unwrap().to_owned()).collect();
    assert_eq!((messages.len(), of.len()), (SCHEDULED, SCHEDULED), "after {kills} kills");
    let mut reached = BTreeSet::new();
    let mut packets = SCHEDULED;
    while reached.len() < SCHEDULED {
        let sends = world.broker.sends(packets).await;
        reached.extend(sends.into_iter().flat_map(|send| send.client_ids));
        packets += 1;
    }
    world.kill_off().await;
}

#[tokio::test]
async fn a_paced_message_goes_to_every_device_across_a_restart() {
    let mut world = World::start().await;
    let devices: Vec<_> = (0..30).map(|n| format!("d{n:02}")).collect();
    let body = json!({"audience": {"devices": devices}, "notification": {"title": "t"}, "delivery": {"rate_per_s": 20}});
    let id = world.api.send(body).await;
    let early = world.api.message(&id).await;
    assert_eq!((&early["state"], &early["rate_per_s"]), (&json!("expanding"), &json!(20)));
    world.kill().await;
    world.restart().await;
    world.api.until_funnel(&id, "targeted", 30).await;
    world.stop().await;
}
