//! The description of the API is whole, and every operation in it is there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::schema::Description;
use crate::world::{Api, World};

fn refs(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(to) if name == "$ref" => {
                        found.insert(to.clone());
                    }
                    _ => refs(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| refs(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn every_operation_of_the_description_is_served_and_asks_for_a_key_where_it_says_so() {
    let world = World::start().await;
    let stranger = Api { key: String::new(), ..world.api.clone() };
    let described = stranger.get("/v1/openapi.json").await.ok();
    assert!(described["openapi"].as_str().unwrap().starts_with("3.1"), "{}", described["openapi"]);
    let mut found = BTreeSet::new();
    refs(&described, &mut found);
    for to in found {
        assert!(described.pointer(to.trim_start_matches('#')).is_some(), "{to} leads nowhere");
    }
    let (mut ids, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for (path, item) in described["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = format!("{method} {path}");
            assert!(
                ids.insert(operation["operationId"].as_str().unwrap().to_owned()),
                "{name}: operationId twice"
            );
            assert!(operation["summary"].is_string(), "{name} says nothing");
            for parameter in path.split('{').skip(1).map(|rest| rest.split_once('}').unwrap().0) {
                let described = operation["parameters"].as_array().unwrap();
                assert!(described.iter().any(|one| one["name"] == parameter), "{name} lacks {parameter}");
            }
            let real = path.replace("{app}", "default").replace("{vendor}", "apns").replace(['{', '}'], "");
            let answer = stranger.call(&method.to_uppercase(), &real, &[], "").await;
            let is_open = operation["security"] == serde_json::json!([{}]);
            match is_open {
                true => assert!(![401, 404, 405].contains(&answer.status), "{name}: {}", answer.text),
                false => assert_eq!(answer.status, 401, "{name}: {}", answer.text),
            }
            seen.insert(name);
        }
    }
    for name in [
        "post /v1/apps/{app}/messages",
        "post /v1/apps/{app}/messages:validate",
        "post /v1/apps/{app}/tags/{tag}:add",
        "post /v1/apps/{app}/messages/{message}:pause",
        "put /v1/apps/{app}/credentials/{vendor}/{name}",
        "post /v1/apps/{app}/credentials/{vendor}:test",
        "patch /v1/apps/{app}/devices/{device}",
    ] {
        assert!(seen.contains(name), "{name} is missing: {seen:?}");
    }
    assert!(!seen.contains("post /v1/apps/{app}/tags/{tag}"), "an act without its name");
    world.stop().await;
}

#[tokio::test]
async fn every_answer_is_described_field_by_field() {
    let world = World::start().await;
    let description = Description::new(world.api.get("/v1/openapi.json").await.ok());
    for (path, method, said) in description.operations() {
        for (status, answer) in said["responses"].as_object().unwrap() {
            let schema = &answer["content"]["application/json"]["schema"];
            assert!(
                schema.is_null() || !description.is_vague(schema),
                "{method} {path} {status} is only an object"
            );
        }
    }
    world.stop().await;
}

/// A way through the API on which every operation succeeds once; its answers are compared on the way.
#[tokio::test]
async fn every_operation_answers_as_it_is_described() {
    let fake = reveille_fakes::FakeApns::start().await.unwrap();
    let world = World::start().await;
    let description = Description::new(world.api.get("/v1/openapi.json").await.ok());
    let mut credential = fake.credential();
    credential.as_object_mut().unwrap().remove("vendor");
    let mut known: BTreeMap<&str, String> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let app = "/v1/apps/shop";
    let send = json!({"audience": {"devices": ["d1"]}, "notification": {"title": "t"}, "delivery": {"strategy": "vendor_only"}});
    let schedule = json!({"when": {"cron": "0 9 * * MON-FRI"}, "message": {"audience": {"all": true}, "template": "paid"}});
    let all = json!({"audience": {"all": true}});
    for (method, path, body, keep) in [
        ("POST", "/v1/apps", json!({"id": "shop"}), None),
        ("GET", "/v1/apps", Value::Null, None),
        ("GET", app, Value::Null, None),
        ("PATCH", app, json!({"name": "n"}), None),
        ("POST", "{app}/keys", json!({"scopes": ["send"], "tags": ["vip"]}), Some("key")),
        ("GET", "{app}/keys", Value::Null, None),
        ("DELETE", "{app}/keys/{key}", Value::Null, None),
        ("PUT", "{app}/credentials/record", json!({}), None),
        ("PUT", "{app}/credentials/record/second", json!({"rates": {"per_second": 5}}), None),
        ("GET", "{app}/credentials/record", Value::Null, None),
        ("GET", "{app}/credentials/record/second", Value::Null, None),
        ("GET", "{app}/credentials", Value::Null, None),
        ("POST", "{app}/credentials/record:test", json!({"token": "t"}), None),
        ("POST", "{app}/credentials/record/second:test", json!({"token": "t"}), None),
        ("DELETE", "{app}/credentials/record/second", Value::Null, None),
        ("PUT", "{app}/credentials/apns", credential, None),
        ("POST", "{app}/apns-channels", json!({"storage": "none"}), Some("channel")),
        ("GET", "{app}/apns-channels", Value::Null, None),
        ("GET", "{app}/apns-channels/{channel}", Value::Null, None),
        ("POST", "{app}/apns-channels/{channel}", json!({"content_state": {"score": 1}}), None),
        ("DELETE", "{app}/apns-channels/{channel}", Value::Null, None),
        (
            "PUT",
            "{app}/devices/d1",
            json!({"alias": "42", "tags": ["vip"], "attributes": {"city": "bj"}}),
            None,
        ),
        ("PATCH", "{app}/devices/d1", json!({"platform": "ios"}), None),
        ("POST", "{app}/devices:import", json!({"devices": {"d2": {}}}), None),
        ("PUT", "{app}/devices/d1/tokens/record", json!({"token": "token-1"}), None),
        ("GET", "{app}/devices/d1", Value::Null, None),
        ("GET", "{app}/devices?filter=tag:vip", Value::Null, None),
        ("GET", "{app}/devices/d1/presence", Value::Null, None),
        ("GET", "{app}/dead-tokens", Value::Null, None),
        ("POST", "{app}/audiences:estimate", all, None),
        ("GET", "{app}/users/42", Value::Null, None),
        ("GET", "{app}/users/42/devices", Value::Null, None),
        ("GET", "{app}/users/42/inbox", Value::Null, None),
        ("GET", "{app}/users/42/unread-count", Value::Null, None),
        ("POST", "{app}/users/42/inbox:read", json!({"all": true}), None),
        ("GET", "{app}/aliases/user/42", Value::Null, None),
        ("POST", "{app}/aliases/crm/7:add", json!({"devices": ["d1"]}), None),
        ("POST", "{app}/aliases/crm/7:remove", json!({"devices": ["d1"]}), None),
        ("GET", "{app}/tags", Value::Null, None),
        ("GET", "{app}/tags/vip", Value::Null, None),
        ("POST", "{app}/tags/new:add", json!({"devices": ["d1", "none"]}), None),
        ("POST", "{app}/tags/new:remove", json!({"devices": ["d1"]}), None),
        ("PUT", "{app}/segments/south", json!({"expr": "tag:vip"}), None),
        ("GET", "{app}/segments/south", Value::Null, None),
        ("GET", "{app}/segments", Value::Null, None),
        ("DELETE", "{app}/segments/south", Value::Null, None),
        ("POST", "{app}/webhooks", json!({"url": "https://127.0.0.1:1/", "events": ["*"]}), Some("webhook")),
        ("GET", "{app}/webhooks", Value::Null, None),
        ("GET", "{app}/webhooks/{webhook}", Value::Null, None),
        (
            "PUT",
            "{app}/webhooks/{webhook}",
            json!({"url": "https://127.0.0.1:1/", "events": ["token.*"]}),
            None,
        ),
        ("GET", "{app}/webhooks/{webhook}/attempts", Value::Null, None),
        ("GET", "{app}/webhooks/{webhook}/dead-letters", Value::Null, None),
        ("POST", "{app}/webhooks/{webhook}:replay", json!({}), None),
        ("DELETE", "{app}/webhooks/{webhook}", Value::Null, None),
        ("POST", "{app}/messages", send.clone(), Some("message")),
        ("POST", "{app}/messages:validate", send.clone(), None),
        ("POST", "{app}/messages:batch", json!({"messages": [send, {}]}), None),
        ("GET", "{app}/messages", Value::Null, None),
        ("GET", "{app}/messages/{message}", Value::Null, None),
        ("GET", "{app}/messages/{message}/deliveries", Value::Null, None),
        ("GET", "{app}/messages/{message}/deliveries/d1", Value::Null, None),
        ("GET", "{app}/devices/d1/deliveries", Value::Null, None),
        ("POST", "{app}/messages/{message}:pause", Value::Null, None),
        ("POST", "{app}/messages/{message}:resume", Value::Null, None),
        ("PATCH", "{app}/messages/{message}", json!({"data": {"a": 1}}), None),
        ("DELETE", "{app}/messages/{message}", Value::Null, None),
        ("PUT", "{app}/templates/paid", json!({"texts": {"default": {"title": "paid"}}}), None),
        ("GET", "{app}/templates/paid", Value::Null, None),
        ("GET", "{app}/templates", Value::Null, None),
        ("POST", "{app}/templates/paid:render", json!({}), None),
        ("POST", "{app}/schedules", schedule.clone(), Some("schedule")),
        ("GET", "{app}/schedules", Value::Null, None),
        ("GET", "{app}/schedules/{schedule}", Value::Null, None),
        ("PUT", "{app}/schedules/{schedule}", schedule, None),
        ("POST", "{app}/schedules/{schedule}:pause", Value::Null, None),
        ("POST", "{app}/schedules/{schedule}:resume", Value::Null, None),
        ("POST", "{app}/schedules/{schedule}:run", Value::Null, None),
        ("DELETE", "{app}/schedules/{schedule}", Value::Null, None),
        ("DELETE", "{app}/templates/paid", Value::Null, None),
        ("PUT", "{app}/policies/calm", json!({"description": "d"}), None),
        ("GET", "{app}/policies/calm", Value::Null, None),
        ("GET", "{app}/policies", Value::Null, None),
        ("DELETE", "{app}/policies/calm", Value::Null, None),
        ("GET", "{app}/stats", Value::Null, None),
        ("GET", "/v1/audit", Value::Null, None),
        ("GET", "/v1/audit/export", Value::Null, None),
        ("GET", "/v1/audit/verify", Value::Null, None),
        ("GET", "{app}/record", Value::Null, None),
        ("DELETE", "{app}/credentials/record", Value::Null, None),
        ("DELETE", "{app}/devices/d2", Value::Null, None),
        ("DELETE", "/v1/apps/shop?confirm=shop", Value::Null, Some("operation")),
        ("GET", "/v1/operations/{operation}", Value::Null, None),
        ("GET", "/healthz", Value::Null, None),
        ("GET", "/readyz", Value::Null, None),
        ("GET", "/metrics", Value::Null, None),
    ] {
        let mut real = path.replace("{app}", app);
        for (name, value) in &known {
            real = real.replace(&format!("{{{name}}}"), value);
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = world.api.call(method, &real, &[], &body).await; // which compares it
        assert!((200..300).contains(&answer.status), "{method} {real}: {}", answer.text);
        if let Some(name) = keep {
            let id = answer.json.get("id").unwrap_or(&answer.json["channel"]).as_str().unwrap();
            known.insert(name, id.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D"));
        }
        let operation = description.operation(method, &real).unwrap();
        seen.insert(format!("{} {}", method.to_lowercase(), operation.path));
    }
    // These are compared in tests of their own.
    let elsewhere = [
        "/queue",
        "/v1/vendors",
        "/compat/",
        "/events",
        "/imports",
        "/exports",
        "/publish",
        "/inbox/",
        "/topics/",
        "put /v1/apps/{app}/keys/{key}",
    ];
    let all = description.operations().map(|(path, method, _)| format!("{method} {path}"));
    let open: Vec<_> = all
        .filter(|name| !seen.contains(name) && elsewhere.iter().all(|part| !name.contains(part)))
        .collect();
    assert_eq!(open, [""; 0], "nobody has seen these succeed");
    world.stop().await;
}
