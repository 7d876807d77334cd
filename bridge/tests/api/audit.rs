//! The audit log: what is in it, who may read it, and that it shows when it was changed.

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::console::Browser;
use crate::world::{Api, World};

/// Method, resource, actor, outcome and status of each record, oldest first.
async fn records(api: &Api, query: &str) -> Vec<(String, String, Value, String, Value)> {
    let page = api.get(&format!("/v1/audit?limit=1000{query}")).await.ok();
    let text = |record: &Value, name: &str| record[name].as_str().unwrap().to_owned();
    let items = page["items"].as_array().unwrap().iter().rev();
    items
        .map(|record| {
            let (method, resource) = (text(record, "method"), text(record, "resource"));
            (method, resource, record["actor"].clone(), text(record, "outcome"), record["status"].clone())
        })
        .collect()
}

async fn key_of(world: &World, app: &str, scope: &str) -> (String, Api) {
    let made = world.api.post(&format!("/v1/apps/{app}/keys"), json!({"scopes": [scope]})).await.ok();
    let api = Api::new(world.address(), made["key"].as_str().unwrap());
    (made["id"].as_str().unwrap().to_owned(), api)
}

#[tokio::test]
async fn every_change_is_recorded_with_who_did_it_and_what_came_of_it() {
    let mut world = World::start().await;
    let operator = world.api.key.split('.').next().unwrap().to_owned();
    world.api.post("/v1/apps", json!({"id": "shop"})).await.ok();
    let (id, sender) = key_of(&world, "shop", "send").await;
    world.api.put("/v1/apps/shop/credentials/record", json!({})).await.ok();
    assert_eq!(sender.put("/v1/apps/shop/credentials/record", json!({})).await.errno(), 2003);
    assert_eq!(world.api.put("/v1/apps/shop/segments/s", json!({"expr": "("})).await.status, 422);
    sender.put("/v1/apps/shop/devices/d1", json!({})).await.ok();
    let message = json!({"audience": {"devices": ["d1"]}, "notification": {"title": "t"}});
    let message =
        sender.post("/v1/apps/shop/messages", message).await.ok()["id"].as_str().unwrap().to_owned();
    sender.delete(&format!("/v1/apps/shop/messages/{message}")).await;
    let wanted = [
        ("POST", "/v1/apps", &operator, "done", Value::Null),
        ("POST", "/v1/apps/shop/keys", &operator, "done", Value::Null),
        ("PUT", "/v1/apps/shop/credentials/record", &operator, "done", Value::Null),
        ("PUT", "/v1/apps/shop/credentials/record", &id, "refused", json!(403)),
        ("PUT", "/v1/apps/shop/segments/s", &operator, "refused", json!(422)),
        ("DELETE", &format!("/v1/apps/shop/messages/{message}"), &id, "done", Value::Null),
    ];
    let wanted: Vec<_> = wanted
        .into_iter()
        .map(|(method, path, actor, outcome, status)| {
            (method.to_owned(), path.to_owned(), json!(actor), outcome.to_owned(), status)
        })
        .collect();
    let found = records(&world.api, "").await;
    assert_eq!(found[found.len() - wanted.len()..], wanted, "small sends and registrations are not recorded");
    world.kill().await;
    world.restart().await;
    assert_eq!(records(&world.api, "").await, found);
    assert_eq!(records(&world.api, &format!("&actor={id}&app=shop")).await.len(), 2);
    let made = world.api.get("/v1/audit?limit=1000").await.ok();
    let made = made["items"].as_array().unwrap().iter().find(|one| one["resource"] == "/v1/apps/shop/keys");
    assert_eq!(made.unwrap()["about"], format!("key {id}"));
    assert_eq!(made.unwrap()["from"], "127.0.0.1");
    let verdict = world.api.get("/v1/audit/verify").await.ok();
    assert_eq!((&verdict["is_whole"], &verdict["records"]), (&json!(true), &json!(found.len())));
    world.stop().await;
}

#[tokio::test]
async fn the_export_can_be_verified_by_anybody() {
    let world = World::start().await;
    for n in 0..5 {
        world.api.post("/v1/apps", json!({"id": format!("app{n}"), "name": "名 \"x\""})).await.ok();
    }
    let text = world.api.get("/v1/audit/export").await.text;
    let mut last = "0".repeat(64);
    for line in text.lines() {
        let parsed: Value = serde_json::from_str(line).unwrap();
        let record = line.split_once("\"record\":").unwrap().1.strip_suffix('}').unwrap();
        assert_eq!(parsed["prev"], last);
        let prev: Vec<u8> =
            (0..32).map(|at| u8::from_str_radix(&last[2 * at..2 * at + 2], 16).unwrap()).collect();
        let hash = digest(&SHA256, &[&prev[..], record.as_bytes()].concat());
        last = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(parsed["hash"], last, "{line}");
    }
    assert_eq!(text.lines().count(), 6);
    assert_eq!(world.api.get("/v1/audit/verify").await.ok()["head_hash"], last);
    world.stop().await;
}

#[tokio::test]
async fn an_app_s_key_reads_the_records_of_its_app_only_and_pages_meet() {
    let world = World::start().await;
    for app in ["shop", "other"] {
        world.api.post("/v1/apps", json!({"id": app})).await.ok();
    }
    let (_, admin) = key_of(&world, "shop", "admin").await;
    for n in 0..5 {
        admin.put(&format!("/v1/apps/shop/segments/s{n}"), json!({"expr": "online"})).await.ok();
    }
    let own = records(&admin, "").await;
    assert_eq!(own.len(), 6);
    assert!(own.iter().all(|(_, resource, ..)| resource.starts_with("/v1/apps/shop/")), "{own:?}");
    assert_eq!(admin.get("/v1/audit?app=other").await.errno(), 2003);
    for path in ["/v1/audit/export", "/v1/audit/verify"] {
        assert_eq!(admin.get(path).await.errno(), 2003, "{path}");
    }
    let (_, reader) = key_of(&world, "shop", "read").await;
    assert_eq!(reader.get("/v1/audit").await.errno(), 2003);
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = world.api.get(&format!("/v1/audit?limit=3{after}")).await.ok();
        seen.extend(page["items"].as_array().unwrap().iter().map(|record| record["seq"].as_u64().unwrap()));
        let Some(next) = page["page"]["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    let count = seen.len() as u64;
    assert_eq!(seen, (1..=count).rev().collect::<Vec<_>>());
    world.stop().await;
}

#[tokio::test]
async fn what_is_done_in_the_console_is_recorded_once_under_the_visitor_s_name() {
    let world = World::start().await;
    let mut browser = Browser::new(&world);
    assert_eq!(browser.login("", "0123456789abcdef.wrong").await.status, 401);
    browser.login("", &world.api.key.clone()).await;
    let token = browser.token().await;
    let person = [
        ("csrf", token.as_str()),
        ("name", "ada"),
        ("password", "correct horse battery"),
        ("scope", "admin"),
    ];
    assert_eq!(browser.post("/console/people", &person).await.status, 303);
    let mut ada = Browser::new(&world);
    ada.login("ada", "correct horse battery").await;
    let token = ada.token().await;
    let fields = [
        ("csrf", token.as_str()),
        ("kind", "devices"),
        ("devices", "d1"),
        ("title", "t"),
        ("action", "send"),
    ];
    assert_eq!(ada.post("/console/apps/default/compose", &fields).await.status, 303);
    let found = records(&world.api, "").await;
    let text: Vec<_> = found
        .iter()
        .map(|(method, resource, actor, outcome, _)| format!("{method} {resource} {actor} {outcome}"))
        .collect();
    let operator = world.api.key.split('.').next().unwrap();
    let wanted = [
        "POST /console/login null refused".to_owned(),
        format!("POST /console/login \"{operator}\" done"),
        format!("POST /console/people \"{operator}\" done"),
        "POST /console/login \"@ada\" done".to_owned(),
        "POST /v1/apps/default/messages \"@ada\" done".to_owned(),
    ];
    assert_eq!(text[text.len() - wanted.len()..], wanted);
    let page = browser.get("/console/audit").await;
    assert!(page.html.contains("@ada") && page.html.contains("/v1/apps/default/messages"), "{}", page.html);
    let page = browser.get("/console/audit?verify=true").await;
    assert!(page.html.contains("The log is whole"), "{}", page.html);
    let page = browser.get("/console/audit?actor=%40ada&from=2020-01-01&to=2020-01-02").await;
    assert!(page.html.contains("Nothing found"), "{}", page.html);
    let file = browser.get("/console/audit.ndjson").await;
    assert_eq!(file.html.lines().count(), found.len());
    for path in [
        "/console/apps/default/audit",
        "/console/apps/default/statistics?by=vendor&range=week",
        "/console/apps/default/events",
    ] {
        let page = browser.get(path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.html);
        let chinese = browser.ask("GET", path, &[("accept-language", "zh")], "").await;
        assert_eq!(chinese.status, 200, "{path}");
    }
    world.stop().await;
}
