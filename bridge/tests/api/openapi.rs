//! The description of the API is whole, and every operation in it is there.

use std::collections::BTreeSet;

use serde_json::Value;

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
