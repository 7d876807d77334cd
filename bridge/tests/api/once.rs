//! Calls with an `Idempotency-Key` whose effect is not in the bridge's store alone: done once, whoever repeats them.

use reveille_proto::bridge as wire;
use rumqttc::v5::mqttbytes::v5::PubAckReason;
use serde_json::{Value, json};

use crate::world::{Answer, World};

const KEY: [(&str, &str); 1] = [("idempotency-key", "once")];
const PUBLISH: &str = "/v1/apps/default/publish";

/// Asks 100 times at once, and again whoever was told to come back.
async fn hundredfold(world: &World, path: &'static str, body: &'static str) -> Vec<Answer> {
    let asking = (0..100).map(|_| {
        let api = world.api.clone();
        tokio::spawn(async move {
            loop {
                let answer = api.call("POST", path, &KEY, body).await;
                if answer.status == 409 && answer.headers.contains_key("retry-after") {
                    assert!([4004, 4060].contains(&answer.errno()), "{}", answer.text);
                    tokio::task::yield_now().await;
                    continue;
                }
                return answer;
            }
        })
    });
    let mut answers = Vec::new();
    for asked in asking.collect::<Vec<_>>() {
        answers.push(asked.await.unwrap());
    }
    answers
}

fn is_replayed(answer: &Answer) -> bool {
    answer.headers.get("idempotent-replayed").is_some_and(|value| value == "true")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_equal_calls_at_once_do_it_once_and_so_does_one_after_a_restart() {
    let mut world = World::start().await;
    world.broker.published(PubAckReason::Success);
    let cases = [
        (PUBLISH, r#"{"topic":"t","payload":"1"}"#, 200),
        ("/v1/apps/default/imports?kind=devices", "{\"id\":\"a\"}\n{\"id\":\"b\"}\n", 202),
        ("/v1/apps/default/exports", r#"{"what":"devices"}"#, 202),
        ("/v1/apps/default/devices:import", r#"{"devices":{"c":{},"d":{}}}"#, 200),
    ];
    let mut first = Vec::new();
    for (path, body, status) in cases {
        let answers = hundredfold(&world, path, body).await;
        assert!(answers.iter().all(|answer| answer.status == status), "{path} {answers:#?}");
        let same = answers.iter().all(|answer| {
            answer.json == answers[0].json
                && answer.headers.get("location") == answers[0].headers.get("location")
        });
        assert!(same, "{path}");
        assert_eq!(answers.iter().filter(|answer| !is_replayed(answer)).count(), 1, "{path}");
        let other = world.api.call("POST", path, &KEY, &format!("{body}\n")).await;
        assert_eq!((other.status, other.errno()), (422, 4003), "{path}");
        first.push(answers[0].json.clone());
    }
    assert_eq!(world.broker.published(PubAckReason::Success).len(), 1);
    let uploads = world.data_dir().join("uploads");
    let import = format!("/v1/operations/{}", first[1]["id"].as_str().unwrap());
    let done = world.api.until(&import, "over", |operation| operation["state"] != "running").await;
    assert_eq!(done["result"]["rows"]["created"], 2, "{done}");
    world.kill().await;
    world.restart().await;
    world.broker.connected(2).await;
    for ((path, body, status), first) in cases.iter().zip(&first) {
        let again = world.api.call("POST", path, &KEY, body).await;
        assert_eq!((again.status, &again.json, is_replayed(&again)), (*status, first, true), "{path}");
    }
    assert_eq!(world.broker.published(PubAckReason::Success).len(), 1);
    // Files of repeated uploads stay nowhere; they go a moment after the answer.
    let count = || std::fs::read_dir(&uploads).map_or(0, Iterator::count);
    world.api.until_text("/healthz", |_| count() == 0).await;
    let devices = world.api.get("/v1/apps/default/devices").await.ok();
    assert_eq!(devices["items"].as_array().unwrap().len(), 4);
    world.stop().await;
}

#[tokio::test]
async fn what_surely_did_not_happen_frees_the_key_and_what_may_have_happened_keeps_it() {
    let mut world = World::start().await;
    let body = json!({"topic": "t", "payload": "1"}).to_string();
    world.broker.published(PubAckReason::QuotaExceeded);
    let refused = world.api.call("POST", PUBLISH, &KEY, &body).await;
    assert_eq!(refused.errno(), 4103, "{}", refused.text);
    world.broker.published(PubAckReason::Success);
    let done = world.api.call("POST", PUBLISH, &KEY, &body).await;
    assert_eq!((done.status, is_replayed(&done)), (200, false));
    let sent: Vec<wire::Publication> = world.broker.published(PubAckReason::Success);
    assert_eq!(sent.len(), 2, "a refusal is no answer that is kept");

    // Known to the audit log as done only since it is.
    let lines = audited(&world).await;
    let outcomes: Vec<_> = lines.iter().map(|line| line["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, Vec::<&str>::new(), "publishes are no matter of an audit: {lines:#?}");

    world.config.mqtt = "127.0.0.1:1".parse().unwrap();
    world.kill().await;
    world.restart().await;
    let away = world.api.call("POST", PUBLISH, &[("idempotency-key", "other")], &body).await;
    assert_eq!((away.status, away.errno()), (503, 5004), "{}", away.text);
    assert!(away.headers.contains_key("retry-after"), "{:?}", away.headers);
    let again = world.api.call("POST", PUBLISH, &[("idempotency-key", "other")], &body).await;
    assert_eq!(again.errno(), 5004, "nothing was sent, so the key is free: {}", again.text);
    world.stop().await;
}

/// The broker has the message and says nothing; then the server dies.
#[tokio::test]
async fn a_publish_of_which_nobody_knows_what_became_is_not_done_again() {
    let mut world = World::with(|config| config.request_timeout_s = 1).await;
    let body = json!({"topic": "t", "payload": "1"}).to_string();
    world.broker.withhold(true);
    let late = world.api.call("POST", PUBLISH, &KEY, &body).await;
    assert_eq!(late.errno(), 1004, "{}", late.text);
    assert_eq!(
        world.api.call("POST", PUBLISH, &KEY, &body).await.errno(),
        4004,
        "it goes on without its caller"
    );
    world.kill().await;
    world.broker.withhold(false);
    world.restart().await;
    world.broker.connected(2).await;
    assert_eq!(world.api.call("POST", PUBLISH, &KEY, &body).await.errno(), 4005);
    assert_eq!(world.broker.published(PubAckReason::Success).len(), 1);
    world.stop().await;
}

async fn audited(world: &World) -> Vec<Value> {
    let log = world.api.get("/v1/audit?limit=100").await.ok();
    let items = log["items"].as_array().unwrap().clone();
    items.into_iter().filter(|line| line["resource"] == PUBLISH).collect()
}

#[tokio::test]
async fn a_trial_of_a_credential_calls_its_vendor_once() {
    let world = World::start().await;
    let path = "/v1/apps/default/credentials/record:test";
    let first = world.api.call("POST", path, &KEY, r#"{"token":"t1"}"#).await;
    let again = world.api.call("POST", path, &KEY, r#"{"token":"t1"}"#).await;
    assert_eq!((first.status, is_replayed(&first), is_replayed(&again)), (200, false, true));
    assert_eq!((&first.json, world.api.recorded().await.len()), (&again.json, 1));
    let other = world.api.call("POST", path, &KEY, r#"{"token":"t2"}"#).await;
    assert_eq!(other.errno(), 4003);
    world.stop().await;
}

/// A vendor that answers slowly and then refuses: the log has one line, and it says so.
#[tokio::test]
async fn the_audit_log_says_done_when_it_is_done_and_refused_when_it_was_refused() {
    let world = World::start().await;
    let fake = reveille_fakes::FakeApns::start().await.unwrap();
    let mut credential = fake.credential();
    credential.as_object_mut().unwrap().remove("vendor");
    world.api.put("/v1/apps/default/credentials/apns", credential).await.ok();
    let path = "/v1/apps/default/apns-channels";
    drop(fake); // nobody answers any more
    let refused = world.api.call("POST", path, &KEY, r#"{"storage":"none"}"#).await;
    assert!(refused.status >= 400, "{}", refused.text);
    let log = world.api.get("/v1/audit?limit=100").await.ok();
    let lines: Vec<_> =
        log["items"].as_array().unwrap().iter().filter(|line| line["resource"] == path).collect();
    let outcomes: Vec<_> = lines.iter().map(|line| line["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["refused"], "{lines:#?}");
    world.stop().await;
}
