//! What holds for every request: limits, keys that are repeated, keys that are limited, pages, and the page to read.

use serde_json::{Value, json};

use crate::world::{Api, World};

async fn key(world: &World, body: Value) -> Api {
    let made = world.api.post("/v1/apps/default/keys", body).await.ok();
    Api { key: made["key"].as_str().unwrap().to_owned(), ..world.api.clone() }
}

fn ids(listed: &Value) -> Vec<&str> {
    listed["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_key_that_asks_too_often_is_told_when_to_come_back_and_holds_up_no_other() {
    let world = World::with(|config| config.requests_per_second = 20).await;
    let other = key(&world, json!({"scopes": ["read"]})).await;
    let asking = (0..60).map(|_| {
        let api = world.api.clone();
        tokio::spawn(async move { api.get("/v1/apps/default/tags").await })
    });
    let mut refused = 0;
    for asked in asking.collect::<Vec<_>>() {
        let answer = asked.await.unwrap();
        if answer.status == 429 {
            refused += 1;
            assert_eq!((answer.errno(), &answer.json["retryable"]), (2007, &json!(true)));
            for (header, value) in [
                ("ratelimit-limit", "20"),
                ("ratelimit-remaining", "0"),
                ("ratelimit-reset", "1"),
                ("retry-after", "1"),
            ] {
                assert_eq!(answer.headers[header], value, "{header}");
            }
        }
    }
    assert!(refused > 0, "60 at once with 20 a second");
    assert_eq!(other.get("/v1/apps/default/tags").await.status, 200);
    world.stop().await;
}

#[tokio::test]
async fn whatever_makes_something_makes_it_once_for_one_idempotency_key() {
    let world = World::start().await;
    let fake = reveille_fakes::FakeApns::start().await.unwrap();
    let mut credential = fake.credential();
    credential.as_object_mut().unwrap().remove("vendor");
    world.api.put("/v1/apps/default/credentials/apns", credential).await.ok();
    let headers = [("idempotency-key", "once")];
    let schedule = json!({"name": "yearly", "when": {"cron": "0 9 1 1 *"},
        "message": {"audience": {"devices": ["d1"]}, "notification": {"title": "t"}}});
    for (path, body, list, count) in [
        ("/v1/apps", json!({"id": "shop"}), "/v1/apps", 2),
        ("/v1/apps/default/keys", json!({"scopes": ["read"]}), "/v1/apps/default/keys", 1),
        (
            "/v1/apps/default/webhooks",
            json!({"url": "https://127.0.0.1:1/", "events": ["token.*"]}),
            "/v1/apps/default/webhooks",
            1,
        ),
        ("/v1/apps/default/apns-channels", json!({"storage": "none"}), "/v1/apps/default/apns-channels", 1),
        ("/v1/apps/default/schedules", schedule, "/v1/apps/default/schedules", 1),
    ] {
        let body = body.to_string();
        let calls = (0..5).map(|_| {
            let (api, body) = (world.api.clone(), body.clone());
            tokio::spawn(async move { api.call("POST", path, &headers, &body).await })
        });
        let mut answers = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            let mut answer = call.await.unwrap();
            while answer.status == 409 {
                assert_eq!((answer.errno(), answer.headers["retry-after"].to_str().unwrap()), (4004, "1"));
                answer = world.api.call("POST", path, &headers, &body).await;
            }
            answers.push(answer);
        }
        let replays =
            answers.iter().filter(|answer| answer.headers.contains_key("idempotent-replayed")).count();
        assert_eq!(replays, 4, "{path}");
        for answer in &answers {
            assert_eq!((answer.status, &answer.json), (201, &answers[0].json), "{path}");
        }
        let listed = world.api.get(list).await.ok();
        assert_eq!(listed["items"].as_array().unwrap().len(), count, "{path}");
        let other = world.api.call("POST", path, &headers, &body.replace('}', " }")).await;
        assert_eq!(other.errno(), 4003, "{path}");
    }
    let listed = world.api.get("/v1/apps/default/schedules").await.ok();
    let run = format!("/v1/apps/default/schedules/{}:run", listed["items"][0]["id"].as_str().unwrap());
    let first = world.api.call("POST", &run, &headers, "").await;
    let second = world.api.call("POST", &run, &headers, "").await;
    assert_eq!((first.status, second.status, &first.json), (202, 202, &second.json));
    assert!(second.headers.contains_key("idempotent-replayed"));
    world.stop().await;
}

#[tokio::test]
async fn a_body_can_name_its_request_as_a_header_does() {
    let world = World::start().await;
    let body = |name: &str| json!({"audience": {"devices": ["d1"]}, "notification": {"title": "t"}, name: "order-7"});
    for name in ["request_id", "cid"] {
        let first = world.api.post("/v1/apps/default/messages", body(name)).await;
        let again = world.api.post("/v1/apps/default/messages", body(name)).await;
        match name {
            "request_id" => {
                assert_eq!(again.headers["idempotent-replayed"], "true");
                assert_eq!(first.ok()["id"], again.ok()["id"]);
            }
            // The same name with another body.
            _ => assert_eq!(first.errno(), 4003),
        }
    }
    let empty = json!({"audience": {"devices": ["d1"]}, "data": {"a": 1}, "cid": ""});
    assert_eq!(world.api.post("/v1/apps/default/messages", empty).await.pointers(), ["/cid"]);
    let twice = json!({"messages": [body("cid"), body("cid")]});
    let results = world.api.post("/v1/apps/default/messages:batch", twice).await.ok();
    assert_eq!(results["items"][0]["status"], 422, "known under another body: {results}");
    world.stop().await;
}

#[tokio::test]
async fn a_key_for_certain_tags_reaches_and_sees_nobody_else() {
    let world = World::start().await;
    for (device, tags) in [("a", json!(["vip"])), ("b", json!(["vip", "bj"])), ("c", json!(["bj"]))] {
        world.api.put(&format!("/v1/apps/default/devices/{device}"), json!({"tags": tags})).await.ok();
        world.api.register(device, &format!("token-of-{device}")).await;
    }
    let vip = key(&world, json!({"scopes": ["send", "read"], "tags": ["vip"]})).await;
    let send = |audience: Value| json!({"audience": audience, "notification": {"title": "t"}, "delivery": {"strategy": "vendor_only"}});
    let uploaded = world.import("kind=audience&format=csv", "text/csv", "id\na\nc\nstranger\n").await;
    for (audience, count) in [
        (json!({"lists": [uploaded["result"]["list"]]}), 1),
        (json!({"all": true}), 2),
        (json!({"devices": ["a", "c", "stranger"]}), 1),
        (json!({"tags": ["bj"]}), 1),
        (json!({"expr": "!tag:vip"}), 0),
    ] {
        let estimate =
            vip.post("/v1/apps/default/audiences:estimate", json!({"audience": audience})).await.ok();
        assert_eq!(estimate["devices"], count, "{audience}");
        let sent = vip.post("/v1/apps/default/messages", send(audience.clone())).await.ok();
        assert_eq!(sent["audience_estimate"], count, "{audience}");
        let path = format!("/v1/apps/default/messages/{}", sent["id"].as_str().unwrap());
        let message = vip.until(&path, "found", |message| message["state"] == "done").await;
        assert_eq!(message["funnel"]["targeted"], count, "{audience}");
    }
    let others = world.api.send(send(json!({"all": true}))).await;
    for (method, path, body, errno) in [
        ("GET", format!("/v1/apps/default/messages/{others}"), "", 3003),
        ("DELETE", format!("/v1/apps/default/messages/{others}"), "", 3003),
        ("GET", "/v1/apps/default/messages".to_owned(), "", 2003),
        ("GET", "/v1/apps/default/devices".to_owned(), "", 2003),
        ("PUT", "/v1/apps/default/devices/c".to_owned(), r#"{"tags":["vip"]}"#, 2003),
        ("POST", "/v1/apps/default/tags/vip:add".to_owned(), r#"{"devices":["c"]}"#, 2003),
    ] {
        assert_eq!(vip.call(method, &path, &[], body).await.errno(), errno, "{method} {path}");
    }
    let admin = json!({"scopes": ["admin"], "tags": ["vip"]});
    assert_eq!(world.api.post("/v1/apps/default/keys", admin).await.pointers(), ["/tags"]);
    world.stop().await;
}

#[tokio::test]
async fn a_name_that_is_far_too_long_is_refused_and_holds_up_nobody() {
    let world = World::start().await;
    let long = "x".repeat(70_000);
    let send = |more: Value| {
        let mut body = json!({"audience": {"devices": ["a"]}, "notification": {"title": "t"}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (more, pointer) in [
        (json!({"policy": long}), "/policy"),
        (json!({"audience": {"lists": [long]}}), "/audience/lists/0"),
        (json!({"audience": {"devices": [long]}}), "/audience/devices/0"),
        (json!({"template": long}), "/template"),
        (json!({"campaign": long}), "/campaign"),
    ] {
        let refused = world.api.post("/v1/apps/default/messages", send(more)).await;
        assert_eq!((refused.status, refused.pointers()[0].as_str()), (422, pointer), "{}", refused.text);
    }
    for kind in ["devices", "users", "tags", "segments", "schedules", "templates", "policies", "webhooks"] {
        let answer = world.api.get(&format!("/v1/apps/default/{kind}/{}", &long[..60_000])).await;
        assert!(answer.status < 500, "{kind} {}", answer.status);
    }
    world.api.send(send(json!({}))).await;
    world.stop().await;
}

#[tokio::test]
async fn an_overridden_message_says_the_new_thing_where_the_old_one_was_not_seen() {
    let world = World::start().await;
    for device in ["asleep", "saw-it", "later"] {
        world.api.register(device, device).await;
    }
    let body = json!({
        "audience": {"devices": ["asleep", "saw-it", "later"]}, "notification": {"title": "old", "category": "NEWS"},
    });
    let id = world.api.send(body).await;
    let path = format!("/v1/apps/default/messages/{id}");
    let message = world.broker.sends(1).await[0].message.clone().unwrap();
    world.broker.queued(&message, &[("asleep", 1), ("saw-it", 1)]).await;
    for device in ["asleep", "saw-it"] {
        world.api.until_state(&id, device, "vendor_accepted").await;
    }
    let shown = json!({"id": id, "event": "shown"}).to_string();
    world.broker.said(reveille_proto::bridge::from_device::Kind::Event, "saw-it", &shown).await;
    world.api.until_state(&id, "saw-it", "shown").await;
    let tag = world.api.get(&path).await.headers["etag"].to_str().unwrap().to_owned();
    let patch = json!({"notification": {"title": "new"}}).to_string();
    let stale = world.api.call("PATCH", &path, &[("if-match", "\"0\"")], &patch).await;
    assert_eq!(stale.errno(), 4030);
    let changed = world.api.call("PATCH", &path, &[("if-match", &tag)], &patch).await.ok();
    assert_eq!(
        (&changed["revision"], &changed["content"]["notification"]["title"]),
        (&json!(1), &json!("new"))
    );
    assert_eq!(changed["content"]["notification"]["category"], "NEWS", "its vendors count it as what it was");
    // Queues: out with the old one, in with the new one, for whoever is not done.
    world.broker.withdraws(1).await;
    let sends = world.broker.sends(2).await;
    let anew = &sends[1];
    let payload: Value = serde_json::from_slice(&anew.message.as_ref().unwrap().payload).unwrap();
    assert_eq!((&payload["title"], &payload["id"]), (&json!("new"), &json!(id)));
    assert_eq!(anew.client_ids, ["asleep", "later"]);
    // Vendors: the same message again, where nobody saw the old one.
    let path_of = format!("{path}/deliveries/asleep");
    world.api.until(&path_of, "pushed again", |delivery| delivery["attempts"] == 2).await;
    world.broker.queued(&message, &[("later", 1)]).await;
    world.api.until_state(&id, "later", "vendor_accepted").await;
    let mut titles: Vec<_> = world
        .api
        .recorded()
        .await
        .iter()
        .map(|push| {
            let title = push["push"]["title"].as_str().unwrap().to_owned();
            assert_eq!(push["message"], json!(id));
            (push["token"].as_str().unwrap().to_owned(), title)
        })
        .collect();
    titles.sort();
    let pair = |device: &str, title: &str| (device.to_owned(), title.to_owned());
    assert_eq!(
        titles,
        [pair("asleep", "new"), pair("asleep", "old"), pair("later", "new"), pair("saw-it", "old")]
    );
    world.api.until_funnel(&id, "vendor_accepted", 2).await;
    assert_eq!(world.api.patch(&path, json!({"data": {"aps": 1}})).await.pointers(), ["/data/aps"]);
    world.api.delete(&path).await.ok();
    assert_eq!(world.api.patch(&path, json!({"data": {"a": 1}})).await.errno(), 4006);
    world.stop().await;
}

#[tokio::test]
async fn lists_are_walked_there_and_back() {
    let world = World::start().await;
    for n in 0..7 {
        world
            .api
            .put(&format!("/v1/apps/default/devices/d{n}"), json!({"tags": ["all", format!("t{n}")]}))
            .await
            .ok();
    }
    for (list, cursor) in [("devices?", "id"), ("devices?filter=tag:all&", "id"), ("tags?", "tag")] {
        let get = |query: String| {
            let (api, path) = (world.api.clone(), format!("/v1/apps/default/{list}limit=3{query}"));
            async move { api.get(&path).await }
        };
        let first = get(String::new()).await.ok();
        let next = first["page"]["next"].as_str().unwrap().to_owned();
        assert_eq!(first["page"]["prev"], Value::Null);
        let second = get(format!("&after={next}")).await.ok();
        let prev = second["page"]["prev"].as_str().unwrap().to_owned();
        let back = get(format!("&before={prev}")).await.ok();
        let names = |page: &Value| {
            let items = page["items"].as_array().unwrap().iter();
            items.map(|item| item[cursor].clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&back), names(&first), "{list}");
        assert!(back["page"]["next"].is_string() && names(&second) != names(&first), "{list}");
    }
    let ids_of = world.api.get("/v1/apps/default/devices?limit=2&before=d5").await.ok();
    assert_eq!((ids(&ids_of), &ids_of["page"]["total"]), (vec!["d3", "d4"], &json!(7)));
    world.stop().await;
}

#[tokio::test]
async fn the_api_can_be_read_in_a_browser_without_a_script_or_another_host() {
    let world = World::start().await;
    let stranger = Api { key: String::new(), ..world.api.clone() };
    let page = stranger.get("/v1/docs").await;
    assert_eq!(
        (page.status, &page.headers["content-type"]),
        (200, &"text/html; charset=utf-8".parse().unwrap())
    );
    assert!(page.headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
    for part in ["<script", "http://", "https://", "style=\""] {
        assert!(!page.text.contains(part), "{part}");
    }
    let described = stranger.get("/v1/openapi.json").await.ok();
    for (path, item) in described["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(page.text.contains(&format!("id=\"{id}\"")), "{path} is not on the page");
        }
    }
    for link in page.text.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(page.text.contains(&format!("id=\"{link}\"")), "#{link} leads nowhere");
    }
    assert_eq!(stranger.get("/v1/docs/style.css").await.status, 200);
    world.stop().await;
}
