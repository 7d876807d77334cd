//! One message in many languages: texts in the message, and texts of templates.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::world::World;

const TEMPLATES: &str = "/v1/apps/default/templates";

async fn device(world: &World, id: &str, language: &str) {
    let body = json!({"language": language, "attributes": {"name": id.to_uppercase()}});
    world.api.put(&format!("/v1/apps/default/devices/{id}"), body).await.ok();
    world.api.register(id, &format!("token-{id}")).await;
}

/// The titles that devices get over the socket, by device.
async fn titles(world: &World, devices: usize) -> BTreeMap<String, String> {
    let mut titles = BTreeMap::new();
    let mut packets = 1;
    while titles.len() < devices {
        for send in world.broker.sends(packets).await {
            let payload: Value = serde_json::from_slice(&send.message.unwrap().payload).unwrap();
            let title = payload["title"].as_str().unwrap_or_default().to_owned();
            titles.extend(send.client_ids.into_iter().map(|id| (id, title.clone())));
        }
        packets += 1;
    }
    titles
}

fn by_device(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(device, title)| ((*device).to_owned(), (*title).to_owned())).collect()
}

#[tokio::test]
async fn each_device_gets_the_message_in_its_language_by_socket_and_by_vendor() {
    let world = World::start().await;
    for (id, language) in [("br", "pt-BR"), ("ao", "pt_AO"), ("de", "de"), ("en", "en-US"), ("br2", "pt-br")]
    {
        device(&world, id, language).await;
    }
    let notification = json!({"title": "Hello", "body": "x", "i18n": {"pt": {"title": "Olá"}, "pt-BR": {"title": "Oi"}, "de": {"title": "Hallo"}}});
    let audience = json!({"devices": ["br", "ao", "de", "en", "br2", "stranger"]});
    world.api.send(json!({"audience": audience, "notification": notification})).await;
    let wanted =
        [("br", "Oi"), ("ao", "Olá"), ("de", "Hallo"), ("en", "Hello"), ("br2", "Oi"), ("stranger", "Hello")];
    assert_eq!(titles(&world, 6).await, by_device(&wanted));
    assert_eq!(world.broker.sends(4).await.len(), 4, "one packet for each language, not for each device");
    let body = json!({"audience": {"devices": ["br", "ao", "de", "en", "br2"]}, "notification": notification,
        "delivery": {"strategy": "vendor_only"}});
    let id = world.api.send(body).await;
    world.api.until_funnel(&id, "vendor_accepted", 5).await;
    let pushed: BTreeMap<String, String> = world
        .api
        .recorded()
        .await
        .iter()
        .map(|push| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            (text(&push["token"]), text(&push["push"]["title"]))
        })
        .collect();
    let wanted = [
        ("token-br", "Oi"),
        ("token-ao", "Olá"),
        ("token-de", "Hallo"),
        ("token-en", "Hello"),
        ("token-br2", "Oi"),
    ];
    assert_eq!(pushed, by_device(&wanted));
    world.stop().await;
}

#[tokio::test]
async fn a_template_has_versions_that_never_change() {
    let world = World::start().await;
    let path = format!("{TEMPLATES}/order");
    let first = json!({"texts": {"default": {"title": "Order {{ order }}"}}});
    let made = world.api.put(&path, first.clone()).await;
    assert_eq!((made.status, &made.json["version"]), (201, &json!(1)));
    let again = world.api.put(&path, first).await;
    assert_eq!((again.status, &again.json["version"]), (200, &json!(1)), "the same is no new version");
    let second = json!({"texts": {"default": {"title": "Your order {{ order }}"}, "pt": {"title": "Pedido {{ order }}"}}, "sample": {"order": 1}});
    let stale = world.api.call("PUT", &path, &[("if-match", "\"0\"")], &second.to_string()).await;
    assert_eq!(stale.errno(), 4030);
    let etag = made.headers["etag"].to_str().unwrap().to_owned();
    let replaced = world.api.call("PUT", &path, &[("if-match", &etag)], &second.to_string()).await;
    assert_eq!(replaced.ok()["version"], 2);
    let shown = world.api.get(&path).await.ok();
    assert_eq!((&shown["version"], &shown["versions"]), (&json!(2), &json!([1, 2])));
    assert_eq!(
        world.api.get(&format!("{path}@1")).await.ok()["texts"]["default"]["title"],
        "Order {{ order }}"
    );
    assert_eq!(world.api.get(&format!("{path}@3")).await.errno(), 3040);
    let listed = world.api.get(TEMPLATES).await.ok();
    assert_eq!((listed["items"].as_array().unwrap().len(), &listed["items"][0]["version"]), (1, &json!(2)));
    for (path, body, wanted) in [
        ("order:render", json!({"data": {"order": 7}, "language": "pt-BR"}), ("order@2", "pt", "Pedido 7")),
        ("order:render", json!({"language": "fr"}), ("order@2", "default", "Your order 1")),
        ("order@1:render", json!({"data": {"order": 7}}), ("order@1", "default", "Order 7")),
    ] {
        let filled = world.api.post(&format!("{TEMPLATES}/{path}"), body).await.ok();
        let wanted = json!({"template": wanted.0, "language": wanted.1, "texts": {"title": wanted.2}});
        assert_eq!(filled, wanted);
    }
    world.api.delete(&path).await.ok();
    assert_eq!(world.api.get(&path).await.errno(), 3040);
    assert_eq!(world.api.get(&format!("{path}@1")).await.errno(), 3040);
    let anew = world.api.put(&path, json!({"texts": {"default": {"title": "x"}}})).await;
    assert_eq!((anew.status, &anew.json["version"]), (201, &json!(3)), "a number never means two texts");
    world.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_template_is_told_with_its_place() {
    let world = World::start().await;
    let texts = json!({"default": {"title": "a\n{{ order"}, "pt": {"body": "{% if x %}"}, "english": {"title": "x"}, "de": {}});
    let answer = world.api.put(&format!("{TEMPLATES}/t"), json!({"texts": texts})).await;
    assert_eq!(answer.errno(), 1002);
    for pointer in ["/texts/default/title", "/texts/pt/body", "/texts/english", "/texts/de"] {
        assert!(answer.pointers().contains(&pointer.to_owned()), "{pointer}: {}", answer.text);
    }
    let title = answer.json["errors"]
        .as_array()
        .unwrap()
        .iter()
        .find(|error| error["pointer"] == "/texts/default/title");
    assert_eq!(title.unwrap()["message"], "line 2: unexpected end of input, expected end of variable block");
    let answer = world.api.put(&format!("{TEMPLATES}/t"), json!({"texts": {"pt": {"title": "x"}}})).await;
    assert_eq!(answer.pointers(), ["/texts"]);
    let sampled = json!({"texts": {"default": {"title": "{{ order.id }}"}}, "sample": {"order": 7, "x": 1}});
    assert_eq!(world.api.put(&format!("{TEMPLATES}/t"), sampled).await.pointers(), ["/texts/default/title"]);
    assert_eq!(
        world
            .api
            .put(&format!("{TEMPLATES}/a%20b"), json!({"texts": {"default": {"title": "x"}}}))
            .await
            .errno(),
        1009
    );
    world.stop().await;
}

#[tokio::test]
async fn a_message_takes_its_texts_from_a_template_and_keeps_them() {
    let world = World::start().await;
    for (id, language) in [("br", "pt-BR"), ("en", "en")] {
        device(&world, id, language).await;
    }
    let path = format!("{TEMPLATES}/order");
    let texts = json!({"default": {"title": "Order {{ order }}", "body": "soon"}, "pt": {"title": "Pedido {{ order }}"}});
    world.api.put(&path, json!({"texts": texts})).await.ok();
    let messages = "/v1/apps/default/messages";
    let audience = json!({"devices": ["br", "en"]});
    let body = json!({"audience": audience, "template": "order", "data": {"order": 7}, "notification": {"sound": "ding"}});
    let dry = world.api.post(&format!("{messages}:validate"), body.clone()).await.ok();
    assert_eq!(dry["template"], "order@1");
    let shown: Vec<_> = dry["languages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["language"].as_str().unwrap(),
                one["socket"]["payload"]["title"].as_str().unwrap(),
                one["vendors"][0]["payload"]["title"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(shown, [("default", "Order 7", "Order 7"), ("pt", "Pedido 7", "Pedido 7")], "{dry}");
    let id = world.api.send(body).await;
    world.api.put(&path, json!({"texts": {"default": {"title": "changed"}}})).await.ok();
    world.api.delete(&path).await.ok();
    assert_eq!(titles(&world, 2).await, by_device(&[("br", "Pedido 7"), ("en", "Order 7")]));
    assert_eq!(world.api.message(&id).await["template"], "order@1");
    for (body, pointer) in [
        (json!({"audience": audience, "template": "order@1"}), "/template"),
        (json!({"audience": audience, "template": "@"}), "/template"),
        (
            json!({"audience": audience, "template": "order@1", "notification": {"title": "x"}}),
            "/notification/title",
        ),
        (
            json!({"audience": audience, "notification": {"title": "x", "i18n": {"x": {"title": "y"}}}}),
            "/notification/i18n/x",
        ),
    ] {
        assert_eq!(world.api.post(messages, body.clone()).await.pointers(), [pointer], "{body}");
    }
    world.api.put(&path, json!({"texts": {"default": {"title": "{{ order }}"}}})).await.ok();
    let lacking =
        world.api.post(messages, json!({"audience": audience, "template": "order", "data": {"x": 1}})).await;
    assert_eq!(lacking.pointers(), ["/data"], "{}", lacking.text);
    world.stop().await;
}

#[tokio::test]
async fn a_text_that_speaks_of_the_device_is_filled_for_each() {
    let world = World::start().await;
    for (id, language) in [("br", "pt"), ("en", "en"), ("us", "en")] {
        device(&world, id, language).await;
    }
    let texts = json!({"default": {"title": "{{ device.name }}: {{ order }}"}, "pt": {"title": "Oi {{ device.name }}"}});
    world.api.put(&format!("{TEMPLATES}/hi"), json!({"texts": texts})).await.ok();
    let body = json!({"audience": {"devices": ["br", "en", "us", "stranger"]}, "template": "hi", "data": {"order": 7},
        "delivery": {"strategy": "both_dedup"}});
    let id = world.api.send(body).await;
    let wanted = [("br", "Oi BR"), ("en", "EN: 7"), ("us", "US: 7"), ("stranger", ": 7")];
    assert_eq!(titles(&world, 4).await, by_device(&wanted));
    world.api.until_funnel(&id, "vendor_accepted", 3).await;
    let pushed: BTreeMap<String, String> = world
        .api
        .recorded()
        .await
        .iter()
        .map(|push| {
            (push["token"].as_str().unwrap().to_owned(), push["push"]["title"].as_str().unwrap().to_owned())
        })
        .collect();
    assert_eq!(pushed, by_device(&[("token-br", "Oi BR"), ("token-en", "EN: 7"), ("token-us", "US: 7")]));
    world.stop().await;
}

#[tokio::test]
async fn another_content_of_such_a_message_says_what_it_says() {
    let world = World::start().await;
    device(&world, "en", "en").await;
    let texts = json!({"default": {"title": "{{ device.name }}: {{ order }}"}});
    world.api.put(&format!("{TEMPLATES}/hi"), json!({"texts": texts})).await.ok();
    let body = json!({"audience": {"devices": ["en"]}, "template": "hi", "data": {"order": 7}});
    let path = format!("/v1/apps/default/messages/{}", world.api.send(body).await);
    assert_eq!(titles(&world, 1).await, by_device(&[("en", "EN: 7")]));
    let lacking = world.api.patch(&path, json!({"data": {"x": 1}})).await;
    assert_eq!(lacking.pointers(), ["/data"], "{}", lacking.text);
    world.api.patch(&path, json!({"data": {"order": 8}})).await.ok();
    world.broker.sends(2).await;
    let changed = world.api.patch(&path, json!({"notification": {"title": "{{ order }} %"}})).await.ok();
    assert_eq!(changed["template"], Value::Null);
    let titles: Vec<Value> = world
        .broker
        .sends(3)
        .await
        .into_iter()
        .map(|send| serde_json::from_slice::<Value>(&send.message.unwrap().payload).unwrap()["title"].clone())
        .collect();
    assert_eq!(titles, ["EN: 7", "EN: 8", "{{ order }} %"]);
    world.stop().await;
}
