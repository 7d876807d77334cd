//! The API's resources: who may, what is refused and how, what is kept.

use serde_json::{Value, json};

use crate::world::{Api, World};

#[tokio::test]
async fn without_the_right_key_nothing_opens() {
    let world = World::start().await;
    let address = world.api.clone();
    let stranger = Api { key: String::new(), ..address.clone() };
    let wrong = Api { key: format!("{}x", world.api.key), ..address.clone() };
    world.api.post("/v1/apps", json!({"id": "shop", "name": "店"})).await.ok();
    let made = world.api.post("/v1/apps/shop/keys", json!({"scopes": ["read"]})).await.ok();
    let reader = Api { key: made["key"].as_str().unwrap().to_owned(), ..address };
    let send = json!({"audience": {"devices": ["d"]}, "data": {"a": 1}}).to_string();
    for (api, method, path, body, status, errno) in [
        (&stranger, "GET", "/v1/apps/default/messages", "", 401, 2001),
        (&stranger, "POST", "/v1/apps", "{}", 401, 2001),
        (&stranger, "GET", "/v1/apps/default/devices/x/presence", "", 401, 2001),
        (&wrong, "GET", "/v1/apps/default/messages", "", 401, 2002),
        (&reader, "GET", "/v1/apps/default/messages", "", 403, 2003),
        (&reader, "POST", "/v1/apps/shop/messages", &send, 403, 2003),
        (&reader, "POST", "/v1/apps/shop/keys", r#"{"scopes":["admin"]}"#, 403, 2003),
        (&reader, "GET", "/v1/apps/shop/credentials/apns", "", 403, 2003),
        (&reader, "POST", "/v1/apps", r#"{"id":"x"}"#, 403, 2003),
        (&world.api, "GET", "/v1/apps/none/messages", "", 404, 3001),
        (&world.api, "GET", "/v2/nothing", "", 404, 3007),
        (&world.api, "PATCH", "/v1/apps/default/messages", "", 405, 3008),
    ] {
        let answer = api.call(method, path, &[], body).await;
        assert_eq!((answer.status, answer.errno()), (status, errno), "{method} {path}");
    }
    assert_eq!(reader.get("/v1/apps/shop/messages").await.status, 200);
    for open in ["/healthz", "/metrics"] {
        assert_eq!(stranger.get(open).await.status, 200, "{open}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_wrong_body_is_refused_with_a_pointer_to_each_fault() {
    let world = World::start().await;
    let send = "/v1/apps/default/messages";
    let audience = json!({"devices": ["d"]});
    let long = "x".repeat(2000);
    for (path, body, status, pointers) in [
        (send, "{", 400, vec![]),
        (send, "", 400, vec![]),
        (send, r#"{} {}"#, 422, vec![""]),
        (send, &json!({"audience": audience, "data": {"a": 1}, "colour": 1}).to_string(), 422, vec!["/colour"]),
        (send, &json!({"audience": {"devices": ["d"], "user": 1}, "data": {"a": 1}}).to_string(), 422, vec!["/audience/user"]),
        (send, &json!({"audience": {"devices": [7]}, "data": {"a": 1}}).to_string(), 422, vec!["/audience/devices/0"]),
        (send, &json!({"audience": audience}).to_string(), 422, vec![""]),
        (send, &json!({"audience": {}, "data": {"a": 1}}).to_string(), 422, vec!["/audience"]),
        (send, &json!({"audience": audience, "notification": {"sound": "s"}}).to_string(), 422, vec!["/notification"]),
        (send, &json!({"audience": audience, "notification": {"title": long}}).to_string(), 422, vec!["/notification/title"]),
        (send, &json!({"audience": audience, "data": {"aps": 1, "google.x": 2}}).to_string(), 422, vec!["/data/aps", "/data/google.x"]),
        (send, &json!({"audience": audience, "data": {"a": 1}, "delivery": {"strategy": "pigeon", "ttl_s": 0, "wait_ack_ms": 1}}).to_string(),
            422, vec!["/delivery/strategy", "/delivery/wait_ack_ms", "/delivery/ttl_s"]),
        (send, &json!({"audience": audience, "data": {"a": 1}, "delivery": {"by_vendor": {"apns": "x"}}}).to_string(), 422, vec!["/delivery/by_vendor/apns"]),
        ("/v1/apps", r#"{"id":"Bad Id"}"#, 422, vec!["/id"]),
        ("/v1/apps/default/keys", r#"{"scopes":[]}"#, 422, vec!["/scopes"]),
        ("/v1/apps/default/keys", r#"{"scopes":["all"]}"#, 422, vec!["/scopes/0"]),
    ] {
        let answer = world.api.call("POST", path, &[], body).await;
        assert_eq!(answer.status, status, "{body} {}", answer.text);
        assert!([1001, 1002].contains(&answer.errno()));
        if status == 422 && body != "{} {}" {
            assert_eq!(answer.pointers(), pointers, "{body} {}", answer.text);
        }
    }
    let large = json!({"audience": audience, "data": {"a": "x".repeat(1024 * 1024)}}).to_string();
    assert_eq!(world.api.call("POST", send, &[], &large).await.errno(), 1003);
    for (query, errno) in
        [("limit=0", 1005), ("limit=1001", 1005), ("limit=x", 1005), ("colour=1", 1005), ("after=x", 1008)]
    {
        assert_eq!(world.api.get(&format!("{send}?{query}")).await.errno(), errno, "{query}");
    }
    assert_eq!(world.api.get(&format!("{send}/not-an-id")).await.errno(), 3003);
    let list = world.api.get(send).await.ok();
    assert_eq!(list["items"], json!([]), "a refused message left something behind");
    world.stop().await;
}

#[tokio::test]
async fn a_hundred_identical_calls_with_one_idempotency_key_make_one_message() {
    let world = World::start().await;
    let body = json!({"audience": {"devices": ["d1"]}, "notification": {"title": "t"}}).to_string();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (api, body) = (world.api.clone(), body.clone());
        calls.spawn(async move {
            api.call("POST", "/v1/apps/default/messages", &[("idempotency-key", "order-7")], &body).await
        });
    }
    let (mut ids, mut replays) = (std::collections::HashSet::new(), 0);
    while let Some(answer) = calls.join_next().await {
        let answer = answer.unwrap();
        replays += usize::from(answer.headers.contains_key("idempotent-replayed"));
        ids.insert(answer.ok()["id"].as_str().unwrap().to_owned());
    }
    assert_eq!((ids.len(), replays), (1, 99));
    assert_eq!(world.api.get("/v1/apps/default/messages").await.ok()["items"].as_array().unwrap().len(), 1);
    let other = json!({"audience": {"devices": ["d2"]}, "notification": {"title": "t"}}).to_string();
    let headers = [("idempotency-key", "order-7")];
    assert_eq!(world.api.call("POST", "/v1/apps/default/messages", &headers, &other).await.errno(), 4003);
    let long = "k".repeat(256);
    let headers = [("idempotency-key", long.as_str())];
    assert_eq!(world.api.call("POST", "/v1/apps/default/messages", &headers, &body).await.errno(), 1006);
    world.stop().await;
}

#[tokio::test]
async fn devices_are_kept_found_by_alias_and_tag_and_forgotten() {
    let world = World::start().await;
    let path = |id: &str| format!("/v1/apps/default/devices/{id}");
    let answer = world.api.put(&path("d1"), json!({"alias": "42", "tags": ["vip"], "platform": "ios"})).await;
    assert_eq!((answer.status, &answer.json["alias"]), (201, &json!({"user": "42"})));
    let again = json!({"alias": {"user": "42", "crm": "a-7"}, "tags": ["vip", "bj"]});
    assert_eq!(world.api.put(&path("d1"), again).await.status, 200);
    world.api.put(&path("d2"), json!({"tags": ["bj"]})).await.ok();
    world.api.register("d1", "secret-token-of-d1").await;
    let shown = world.api.get(&path("d1")).await;
    assert!(!shown.text.contains("secret-token-of-d1"), "a whole token is shown");
    assert_eq!(shown.json["platform"], Value::Null, "PUT is full state");
    for (audience, estimate) in [
        (json!({"aliases": ["42"]}), 1),
        (json!({"aliases": {"crm": ["a-7", "none"]}}), 1),
        (json!({"tags": ["bj"]}), 2),
        (json!({"devices": ["d1", "d9"], "tags": ["bj"], "aliases": ["42"]}), 3),
        (json!({"all": true}), 2),
    ] {
        let body = json!({"audience": audience, "data": {"a": 1}});
        let answer = world.api.post("/v1/apps/default/messages", body).await.ok();
        assert_eq!(answer["audience_estimate"], estimate, "{audience}");
        world.api.until_funnel(answer["id"].as_str().unwrap(), "targeted", estimate).await;
    }
    let first = world.api.get("/v1/apps/default/devices?limit=1").await.ok();
    assert_eq!((&first["items"][0]["id"], &first["page"]["next"]), (&json!("d1"), &json!("d1")));
    let second = world.api.get("/v1/apps/default/devices?limit=1&after=d1").await.ok();
    assert_eq!(second["items"][0]["id"], "d2");
    assert_eq!(world.api.get(&format!("{}/presence", path("d1"))).await.ok()["online"], false);
    assert_eq!(world.api.delete(&path("d1")).await.status, 204);
    assert_eq!(world.api.delete(&path("d1")).await.errno(), 3002);
    let answer = world
        .api
        .post("/v1/apps/default/messages", json!({"audience": {"all": true}, "data": {"a": 1}}))
        .await;
    assert_eq!(answer.ok()["audience_estimate"], 1);
    for (bad, pointer) in [
        (json!({"tags": [""]}), "/tags"),
        (json!({"colour": 1}), "/colour"),
        (json!({"platform": "x".repeat(65)}), "/platform"),
    ] {
        assert_eq!(world.api.put(&path("d3"), bad).await.pointers(), [pointer]);
    }
    assert_eq!(
        world.api.put(&format!("{}/tokens/pager", path("d3")), json!({"token": "t"})).await.errno(),
        3006
    );
    assert_eq!(
        world.api.put(&format!("{}/tokens/fcm", path("d3")), json!({"token": "a b"})).await.pointers(),
        ["/token"]
    );
    world.stop().await;
}

#[tokio::test]
async fn a_credential_s_secrets_go_in_and_never_come_out() {
    let world = World::start().await;
    let path = "/v1/apps/default/credentials/apns";
    assert_eq!(world.api.get(path).await.errno(), 3005);
    let bad =
        json!({"key_id": "short", "team_id": "TEAM000000", "bundle_id": "a.b", "private_key": "hush-hush"});
    let answer = world.api.put(path, bad).await;
    assert_eq!(answer.status, 422);
    assert!(!answer.text.contains("hush-hush"));
    assert_eq!(world.api.put(path, json!({"vendor": "fcm"})).await.pointers(), ["/vendor"]);
    let shown = world.api.get("/v1/apps/default/credentials/record").await.ok();
    assert_eq!((&shown["vendor"], &shown["summary"]), (&json!("record"), &json!("record, 0 rules")));
    let made = world.api.post("/v1/apps/default/keys", json!({"scopes": ["admin"]})).await.ok();
    let admin = Api { key: made["key"].as_str().unwrap().to_owned(), ..world.api.clone() };
    let file = json!({"path": "/tmp/reveille-must-not-exist"});
    let answer = admin.put("/v1/apps/default/credentials/record", file).await;
    assert_eq!(answer.pointers(), ["/path"], "an app's key may not name files of this machine");
    world.stop().await;
}

#[tokio::test]
async fn the_server_is_ready_once_the_feed_is_connected_and_says_why_it_cannot_start() {
    let world = World::start().await;
    let ready = world.api.until("/readyz", "ready", |ready| ready["feed"] == true).await;
    assert_eq!(ready, json!({"store": true, "feed": true}));
    let busy = reveille_bridge::Config { http: world.address(), ..world.config.clone() };
    let other = tempfile::tempdir().unwrap();
    let error = reveille_bridge::start(busy, other.path(), None).await.err().unwrap().to_string();
    assert!(error.starts_with("cannot listen for HTTP on 127.0.0.1:") && !error.contains('\n'), "{error}");
    let error =
        reveille_bridge::start(world.config.clone(), world.data_dir(), None).await.err().unwrap().to_string();
    assert!(error.contains("is in use by another process"), "{error}");
    world.stop().await;
}
