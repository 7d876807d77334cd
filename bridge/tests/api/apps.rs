//! Apps and their keys: made, listed, changed, revoked, removed.

use serde_json::{Value, json};

use crate::world::{Api, World};

fn ids(listed: &Value) -> Vec<&str> {
    listed["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect()
}

async fn key(world: &World, app: &str, scopes: Value) -> (String, Api) {
    let made = world.api.post(&format!("/v1/apps/{app}/keys"), json!({"scopes": scopes, "name": "n"})).await;
    let made = made.ok();
    let api = Api { key: made["key"].as_str().unwrap().to_owned(), ..world.api.clone() };
    (made["id"].as_str().unwrap().to_owned(), api)
}

#[tokio::test]
async fn apps_are_listed_for_whom_they_are_open_and_changed_by_who_saw_them() {
    let world = World::start().await;
    for app in ["a", "b", "c"] {
        world.api.post("/v1/apps", json!({"id": app})).await.ok();
    }
    let (_, of_b) = key(&world, "b", json!(["read"])).await;
    assert_eq!(ids(&world.api.get("/v1/apps").await.ok()), ["a", "b", "c", "default"]);
    assert_eq!(ids(&of_b.get("/v1/apps").await.ok()), ["b"]);
    let second = world.api.get("/v1/apps?limit=2&after=b").await.ok();
    assert_eq!(ids(&second), ["c", "default"]);
    assert_eq!(
        second["page"],
        json!({"next": null, "prev": "c", "limit": 2, "total": 4, "total_is_estimate": false})
    );
    assert_eq!(ids(&world.api.get("/v1/apps?limit=2&before=c").await.ok()), ["a", "b"]);
    assert_eq!(world.api.get("/v1/apps?after=nobody").await.errno(), 1008);
    assert_eq!(world.api.get("/v1/apps?after=a&before=b").await.errno(), 1005);
    let seen = world.api.get("/v1/apps/a").await;
    let tag = seen.headers["etag"].to_str().unwrap().to_owned();
    let body = json!({"name": "店"}).to_string();
    let patch = |tag: String| {
        let (api, body) = (world.api.clone(), body.clone());
        async move { api.call("PATCH", "/v1/apps/a", &[("if-match", &tag)], &body).await }
    };
    assert_eq!(patch(tag.clone()).await.ok()["name"], "店");
    assert_eq!(patch(tag).await.errno(), 4030);
    assert_eq!(world.api.get("/v1/apps/a").await.ok()["name"], "店");
    assert_eq!(of_b.patch("/v1/apps/b", json!({"name": "x"})).await.errno(), 2003);
    world.stop().await;
}

#[tokio::test]
async fn a_revoked_key_opens_nothing_and_only_keys_of_the_app_are_listed() {
    let world = World::start().await;
    world.api.post("/v1/apps", json!({"id": "shop"})).await.ok();
    let (id, reader) = key(&world, "shop", json!(["read"])).await;
    let (admin_id, admin) = key(&world, "shop", json!(["admin"])).await;
    reader.get("/v1/apps/shop/messages").await.ok();
    let mut both = vec![id.as_str(), admin_id.as_str()];
    both.sort_unstable();
    let listed = admin.get("/v1/apps/shop/keys").await.ok();
    assert_eq!(ids(&listed), both);
    assert!(!listed.to_string().contains(reader.key.split_once('.').unwrap().1), "a secret is shown");
    assert_eq!(reader.get("/v1/apps/shop/keys").await.errno(), 2003);
    let operator = world.api.key.split_once('.').unwrap().0.to_owned();
    for stranger in [operator.as_str(), "@ada", "0123456789abcdef"] {
        assert_eq!(admin.delete(&format!("/v1/apps/shop/keys/{stranger}")).await.errno(), 3009, "{stranger}");
    }
    assert_eq!(admin.delete(&format!("/v1/apps/shop/keys/{id}")).await.status, 204);
    assert_eq!(reader.get("/v1/apps/shop/messages").await.errno(), 2002);
    world.stop().await;
}

#[tokio::test]
async fn an_app_is_removed_on_confirmation_and_can_be_made_anew_without_its_past() {
    let mut world = World::start().await;
    world.api.post("/v1/apps", json!({"id": "shop"})).await.ok();
    let (_, admin) = key(&world, "shop", json!(["admin"])).await;
    for n in 0..5 {
        admin.put(&format!("/v1/apps/shop/devices/d{n}"), json!({"tags": ["vip"]})).await.ok();
    }
    let send = json!({"audience": {"tags": ["vip"]}, "notification": {"title": "t"}});
    admin.post("/v1/apps/shop/messages", send).await.ok();
    for (api, path, errno) in [
        (&world.api, "/v1/apps/shop", 1010),
        (&world.api, "/v1/apps/shop?confirm=default", 1010),
        (&world.api, "/v1/apps/shop?confirmed=shop", 1005),
        (&admin, "/v1/apps/shop?confirm=shop", 2003),
    ] {
        assert_eq!(api.delete(path).await.errno(), errno, "{path}");
    }
    let begun = world.api.delete("/v1/apps/shop?confirm=shop").await;
    assert_eq!(begun.status, 202);
    let operation = begun.headers["location"].to_str().unwrap().to_owned();
    assert_eq!(world.api.get("/v1/apps/shop").await.errno(), 3001);
    assert_eq!(admin.get("/v1/apps/shop").await.errno(), 2002);
    world.kill().await; // it goes on where it was
    world.restart().await;
    let done = world.api.until(&operation, "done", |operation| operation["state"] == "done").await;
    assert_eq!((&done["kind"], &done["problem"]), (&json!("app_removal"), &Value::Null), "{done}");
    world.api.post("/v1/apps", json!({"id": "shop"})).await.ok();
    for list in ["devices", "messages", "keys", "tags"] {
        assert_eq!(ids(&world.api.get(&format!("/v1/apps/shop/{list}")).await.ok()), [""; 0], "{list}");
    }
    let all = json!({"audience": {"all": true}});
    assert_eq!(world.api.post("/v1/apps/shop/audiences:estimate", all).await.ok()["devices"], 0);
    assert_eq!(world.api.get("/v1/operations/none").await.errno(), 3010);
    let (_, stranger) = key(&world, "shop", json!(["send"])).await;
    assert_eq!(stranger.get(&operation).await.errno(), 3010, "told to whom it does not concern");
    world.stop().await;
}

#[tokio::test]
async fn a_key_that_comes_while_its_app_is_removed_opens_nothing_of_the_next_app_of_that_name() {
    let world = World::start().await;
    for _ in 0..5 {
        world.api.post("/v1/apps", json!({"id": "shop"})).await.ok();
        let making = (0..4).map(|_| {
            let api = world.api.clone();
            tokio::spawn(async move { api.post("/v1/apps/shop/keys", json!({"scopes": ["admin"]})).await })
        });
        let making: Vec<_> = making.collect();
        let begun = world.api.delete("/v1/apps/shop?confirm=shop").await;
        let operation = begun.headers["location"].to_str().unwrap().to_owned();
        world.api.until(&operation, "done", |operation| operation["state"] == "done").await;
        let mut made = Vec::new();
        for making in making {
            made.push(making.await.unwrap());
        }
        world.api.post("/v1/apps", json!({"id": "shop"})).await.ok();
        assert_eq!(ids(&world.api.get("/v1/apps/shop/keys").await.ok()), [""; 0]);
        for answer in made {
            match answer.status {
                201 => {
                    let api = Api::new(world.address(), answer.json["key"].as_str().unwrap());
                    assert_eq!(api.get("/v1/apps/shop").await.errno(), 2002);
                }
                _ => assert_eq!(answer.errno(), 3001),
            }
        }
        let begun = world.api.delete("/v1/apps/shop?confirm=shop").await;
        let operation = begun.headers["location"].to_str().unwrap().to_owned();
        world.api.until(&operation, "done", |operation| operation["state"] == "done").await;
    }
    world.stop().await;
}
