//! Uploads and exports: row by row, over crashes, and back again.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::{Api, World};

const IMPORTS: &str = "/v1/apps/default/imports";
const EXPORTS: &str = "/v1/apps/default/exports";

impl World {
    /// Uploads a file; the operation when it is over.
    pub async fn import(&self, query: &str, kind: &str, text: &str) -> Value {
        let begun = self.begin_import(query, kind, text).await;
        self.over(&begun).await
    }

    async fn begin_import(&self, query: &str, kind: &str, text: &str) -> Value {
        let path = format!("{IMPORTS}?{query}");
        let answer = self.api.call("POST", &path, &[("content-type", kind)], text).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        assert_eq!(
            answer.headers["location"],
            format!("/v1/operations/{}", answer.json["id"].as_str().unwrap())
        );
        answer.json
    }

    async fn over(&self, begun: &Value) -> Value {
        let path = format!("/v1/operations/{}", begun["id"].as_str().unwrap());
        self.api.until(&path, "over", |operation| operation["state"] != "running").await
    }

    /// Makes a file; its text.
    async fn export(&self, body: Value) -> String {
        let begun = self.api.post(EXPORTS, body).await.ok();
        let done = self.over(&begun).await;
        assert_eq!(done["state"], "done", "{done}");
        let file = self.api.get(done["result"]["href"].as_str().unwrap()).await;
        assert_eq!((file.status, file.text.len() as u64), (200, done["result"]["bytes"].as_u64().unwrap()));
        file.text
    }
}

#[tokio::test]
async fn devices_come_from_csv_and_ndjson_and_a_wrong_row_stops_no_other() {
    let world = World::start().await;
    let csv = "id,tags,alias.user,platform,attributes.city,tokens.record\r\n\
               设1,vip;new,42,ios,bj,token-1\r\n\
               d2,,,android,,\r\n\
               d3,,,,,tok en\r\n\
               ,,,,,\r\n";
    let done = world.import("kind=devices", "text/csv", csv).await;
    let rows = json!({"rows": 4, "changed": 2, "created": 2, "failed": 2});
    assert_eq!((&done["state"], &done["result"]["rows"], &done["done"]), (&json!("done"), &rows, &json!(4)));
    let device = world.api.get("/v1/apps/default/devices/%E8%AE%BE1").await.ok();
    assert_eq!((&device["tags"], &device["alias"]), (&json!(["new", "vip"]), &json!({"user": "42"})));
    assert_eq!(
        (&device["attributes"]["city"], &device["tokens"][0]["state"]),
        (&json!("bj"), &json!("active"))
    );

    let id = done["id"].as_str().unwrap();
    let key = world.api.post("/v1/apps/default/keys", json!({"scopes": ["send"]})).await.ok();
    let sender = Api::new(world.address(), key["key"].as_str().unwrap());
    assert_eq!(
        sender.get(&format!("/v1/operations/{id}")).await.ok()["state"],
        "done",
        "as whoever uploads may"
    );
    let errors = world.api.get(&format!("{IMPORTS}/{id}/errors")).await.ok();
    let numbers: Vec<_> =
        errors["items"].as_array().unwrap().iter().map(|error| error["row"].as_u64()).collect();
    assert_eq!(numbers, [Some(4), Some(5)], "{errors}");
    assert!(errors["items"][0]["problem"].as_str().unwrap().contains("printable"), "{errors}");

    let again = "{\"id\":\"d2\",\"platform\":\"android\"}\n{\"id\":\"d4\",\"colour\":1}\n{\"id\":\"d2\",\"tags\":[\"a\"]}\nx\n";
    let done = world.import("kind=devices", "application/x-ndjson", again).await;
    assert_eq!(done["result"]["rows"], json!({"rows": 4, "changed": 1, "created": 0, "failed": 2}));

    let tags = "device,tag,act\nd2,vip,\nd2,a,remove\nnobody,vip,add\n";
    let done = world.import("kind=tags&format=csv", "text/plain", tags).await;
    assert_eq!(done["result"]["rows"], json!({"rows": 3, "changed": 2, "created": 0, "failed": 1}));
    let users = "{\"device\":\"d2\",\"user\":7}\n{\"device\":\"d2\",\"user\":\"7\"}\n";
    let done = world.import("kind=users", "", users).await;
    assert_eq!(done["result"]["rows"], json!({"rows": 2, "changed": 1, "created": 0, "failed": 0}));
    let aliases = "{\"device\":\"d2\",\"type\":\"crm\",\"alias\":\"a-7\"}\n";
    world.import("kind=aliases", "", aliases).await;
    let device = world.api.get("/v1/apps/default/devices/d2").await.ok();
    assert_eq!((&device["tags"], &device["alias"]), (&json!(["vip"]), &json!({"user": "7", "crm": "a-7"})));
    world.stop().await;
}

#[tokio::test]
async fn an_upload_that_a_crash_interrupts_does_every_row_once() {
    let mut world = World::start().await;
    let rows: String = (0..3000).map(|n| format!("{{\"id\":\"d{n}\",\"tags\":[\"new\"]}}\n")).collect();
    let begun = world.begin_import("kind=devices", "", &rows).await;
    let id = begun["id"].as_str().unwrap().to_owned();
    for kill in 1..=2 {
        let path = format!("/v1/operations/{id}");
        world.api.until(&path, "further", |operation| operation["done"].as_u64() >= Some(kill * 500)).await;
        world.kill().await;
        world.restart().await;
    }
    let done = world.over(&begun).await;
    assert_eq!(done["result"]["rows"], json!({"rows": 3000, "changed": 3000, "created": 3000, "failed": 0}));
    let tag = world.api.get("/v1/apps/default/tags/new").await.ok();
    assert_eq!(tag["devices"], 3000);
    assert_eq!(std::fs::read_dir(world.data_dir().join("bridge/uploads")).unwrap().count(), 0);
    world.stop().await;
}

/// Begins an upload and keeps it open half sent.
async fn half_an_upload(world: &World, path: &str) -> TcpStream {
    let mut socket = TcpStream::connect(world.address()).await.unwrap();
    let head = format!(
        "POST {path}?kind=devices HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 40\r\n\r\n",
        world.api.key
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(b"{\"id\":\"half\"}\n").await.unwrap();
    world.until_uploads(1).await;
    socket
}

impl World {
    async fn until_uploads(&self, count: usize) {
        let uploads = self.data_dir().join("bridge/uploads");
        let waiting = async {
            while std::fs::read_dir(&uploads).map_or(0, Iterator::count) != count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting)
            .await
            .expect("the files are not as they should be");
    }
}

#[tokio::test]
async fn an_upload_that_is_cut_off_or_whose_app_is_removed_leaves_no_file() {
    let world = World::start().await;
    let socket = half_an_upload(&world, IMPORTS).await;
    drop(socket);
    world.until_uploads(0).await;

    world.api.post("/v1/apps", json!({"id": "shop"})).await.ok();
    let mut socket = half_an_upload(&world, "/v1/apps/shop/imports").await;
    world.api.delete("/v1/apps/shop?confirm=shop").await.ok();
    socket.write_all(&[b' '; 26]).await.unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 404");
    world.until_uploads(0).await;
    world.stop().await;
}

#[tokio::test]
async fn a_list_of_ids_is_an_audience_with_a_result_for_each_of_them() {
    let world = World::start().await;
    world.api.register("d1", "t1").await;
    world.api.put("/v1/apps/default/devices/d1", json!({"platform": "ios"})).await.ok();
    let ids = format!("{}d1\nd7\n", (0..2500).map(|n| format!("d{n}\n")).collect::<String>());
    let done = world.import("kind=audience&format=csv", "text/csv", &format!("id\n{ids}")).await;
    assert_eq!((&done["result"]["devices"], &done["result"]["rows"]["rows"]), (&json!(2500), &json!(2502)));
    let list = done["result"]["list"].as_str().unwrap();
    let body = json!({"audience": {"lists": [list]}, "notification": {"title": "t"}});
    let look = world.api.post("/v1/apps/default/messages:validate", body.clone()).await.ok();
    assert_eq!(
        (&look["audience"]["devices"], &look["audience"]["by_vendor"]),
        (&json!(2500), &json!({"record": 1}))
    );
    assert_eq!(look["vendors"][0]["device"], "d1");
    let sent = world.api.post("/v1/apps/default/messages", body).await.ok();
    assert_eq!(sent["audience_estimate"], 2500);
    let id = sent["id"].as_str().unwrap();
    world.api.until_funnel(id, "targeted", 2500).await;

    let narrowed =
        json!({"audience": {"lists": [list], "only": "platform:ios"}, "notification": {"title": "t"}});
    let sent = world.api.post("/v1/apps/default/messages", narrowed).await.ok();
    assert_eq!(sent["audience_estimate"], 2, "of the first thousand one, so of 2,500 about two");
    let rows = world.export(json!({"what": "deliveries", "message": id, "format": "csv"})).await;
    assert_eq!(rows.lines().count(), 2501);
    assert!(rows.starts_with("device,state,counts_as,vendor,reason,updated_at_ms\nd0,"), "{}", &rows[..200]);

    let unknown = json!({"audience": {"lists": ["none"]}, "notification": {"title": "t"}});
    assert_eq!(world.api.post("/v1/apps/default/messages", unknown).await.pointers(), ["/audience/lists/0"]);
    world.stop().await;
}

#[tokio::test]
async fn what_is_exported_can_be_imported_again() {
    let world = World::start().await;
    let row = json!({"alias": {"user": "+42"}, "tags": ["+a b", "c"], "platform": "ios", "attributes": {"city": "北京"}});
    world.api.put("/v1/apps/default/devices/=d1", row.clone()).await.ok();
    world
        .api
        .put("/v1/apps/default/devices/=d1/tokens/apns", json!({"token": "t1", "environment": "sandbox"}))
        .await
        .ok();
    for n in 0..1200 {
        world.api.put(&format!("/v1/apps/default/devices/x{n}"), json!({"tags": ["x"]})).await.ok();
    }
    let before = world.api.get("/v1/apps/default/devices/=d1").await.ok();
    for format in ["csv", "ndjson"] {
        let text = world.export(json!({"what": "devices", "filter": "!tag:x", "format": format})).await;
        world.api.delete("/v1/apps/default/devices/=d1").await;
        let done = world.import(&format!("kind=devices&format={format}"), "", &text).await;
        let wanted = json!({"rows": 1, "changed": 1, "created": 1, "failed": 0});
        assert_eq!(done["result"]["rows"], wanted, "{format} {text}");
        let after = world.api.get("/v1/apps/default/devices/=d1").await.ok();
        for name in ["alias", "tags", "platform", "attributes"] {
            assert_eq!(after[name], before[name], "{format} {name}");
        }
        assert_eq!(after["tokens"][0]["environment"], "sandbox", "{format}");
    }
    let all = world.export(json!({"what": "devices"})).await;
    assert_eq!(all.lines().count(), 1201);
    assert_eq!(
        world.export(json!({"what": "dead_tokens", "format": "csv"})).await,
        "vendor,token,device,reason,at_ms\n"
    );
    for (body, pointer) in [
        (json!({"what": "deliveries"}), "/message"),
        (json!({"what": "devices", "filter": "tag:"}), "/filter"),
        (json!({"what": "dead_tokens", "filter": "all"}), "/filter"),
        (json!({"what": "everything"}), "/what"),
    ] {
        assert_eq!(world.api.post(EXPORTS, body).await.pointers(), [pointer]);
    }
    world.stop().await;
}

#[tokio::test]
async fn an_export_is_gone_when_it_is_deleted_and_a_bad_upload_is_refused() {
    let world = World::start().await;
    let begun = world.api.post(EXPORTS, json!({"what": "devices"})).await.ok();
    world.over(&begun).await;
    let path = format!("{EXPORTS}/{}", begun["id"].as_str().unwrap());
    assert_eq!(world.api.get(&path).await.headers["content-type"], "application/x-ndjson");
    assert_eq!(world.api.delete(&path).await.status, 204);
    assert_eq!(world.api.get(&path).await.errno(), 3061);
    for (query, status) in
        [("", 400), ("kind=cats", 400), ("kind=devices&format=xml", 400), ("kind=devices", 422)]
    {
        let answer = world.api.call("POST", &format!("{IMPORTS}?{query}"), &[], "").await;
        assert_eq!(answer.status, status, "{query} {}", answer.text);
    }
    assert_eq!(world.api.get(&format!("{IMPORTS}/none")).await.errno(), 3060);
    let long = format!("{}\n", "x".repeat(2 << 20));
    let done = world.import("kind=audience", "", &long).await;
    assert_eq!(
        (&done["state"], &done["problem"]["detail"]),
        (&json!("failed"), &json!("a row is longer than 1 MiB"))
    );
    world.stop().await;
}
