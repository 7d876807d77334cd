//! Whom a message reaches: expressions, segments, users, tags, over HTTP and across crashes.

use std::collections::BTreeSet;

use reveille_proto::bridge::presence::Kind;
use serde_json::{Value, json};

use crate::world::{Api, World};

const APP: &str = "/v1/apps/default";

async fn device(api: &Api, id: &str, body: Value) {
    api.put(&format!("{APP}/devices/{id}"), body).await.ok();
}

async fn estimate(api: &Api, expr: &str) -> Value {
    api.post(&format!("{APP}/audiences:estimate"), json!({"audience": {"expr": expr}})).await.ok()
}

/// Five devices in two cities.
async fn shop() -> World {
    let world = World::start().await;
    let api = &world.api;
    for (id, body) in [
        (
            "d1",
            json!({"tags": ["vip"], "attributes": {"city": "bj", "level": 7}, "platform": "ios", "app_version": "3.10", "language": "zh-CN"}),
        ),
        (
            "d2",
            json!({"tags": ["vip"], "attributes": {"city": "sh", "level": 10}, "platform": "android", "app_version": "3.9"}),
        ),
        ("d3", json!({"tags": ["vip"], "attributes": {"city": "gz"}, "alias": {"user": "42", "crm": "a 7"}})),
        ("d4", json!({"attributes": {"city": "bj", "trial": true}, "alias": "42"})),
        ("设备-5", json!({"tags": ["vip", "city:bj"]})),
    ] {
        device(api, &id.replace("设备", "%E8%AE%BE%E5%A4%87"), body).await;
    }
    api.register("d1", "t1").await;
    api.register("d4", "t4").await;
    world.broker.presence(Kind::Connected, "d2", 5).await;
    world
}

#[tokio::test]
async fn an_expression_is_counted_listed_and_sent_to_the_same_devices() {
    let world = shop().await;
    let api = &world.api;
    for (expr, wanted) in [
        ("all", vec!["d1", "d2", "d3", "d4", "设备-5"]),
        ("tag:vip & (city:bj | city:sh) & !platform:ios", vec!["d2"]),
        ("tag:vip & !city:*", vec!["设备-5"]),
        ("tag:city:bj", vec!["设备-5"]),
        ("app_version>=3.10", vec!["d1"]),
        ("level>7 | trial:true", vec!["d2", "d4"]),
        ("user:42", vec!["d3", "d4"]),
        ("alias.crm:\"a 7\"", vec!["d3"]),
        ("vendor:record & !device:d1", vec!["d4"]),
        ("online | lang:zh*", vec!["d1", "d2"]),
        ("last_seen<1h", vec!["d2"]),
        ("tag:nobody", vec![]),
    ] {
        let found = estimate(api, expr).await;
        assert_eq!((&found["devices"], &found["sample"]), (&json!(wanted.len()), &json!(wanted)), "{expr}");
        let query = form_urlencoded::byte_serialize(expr.as_bytes()).collect::<String>();
        let list = api.get(&format!("{APP}/devices?filter={query}")).await.ok();
        let ids: Vec<_> =
            list["items"].as_array().unwrap().iter().map(|device| device["id"].clone()).collect();
        assert_eq!(json!(ids), json!(wanted), "{expr}");
        let body = json!({"audience": {"expr": expr}, "data": {"a": 1}});
        let sent = api.post(&format!("{APP}/messages"), body).await.ok();
        assert_eq!(sent["audience_estimate"], wanted.len(), "{expr}");
        let id = sent["id"].as_str().unwrap();
        api.until_funnel(id, "targeted", wanted.len() as u64).await;
        let rows = api.get(&format!("{APP}/messages/{id}/deliveries")).await.ok();
        let rows: BTreeSet<_> = rows["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["device"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(rows, wanted.iter().map(ToString::to_string).collect(), "{expr}");
    }
    let all = estimate(api, "all").await;
    assert_eq!((&all["online"], &all["without_token"]), (&json!(1), &json!(3)));
    assert_eq!(all["by_vendor"], json!({"record": 2}));
    let mixed = json!({"audience": {"devices": ["d1", "stranger"], "tags": ["vip"], "expr": "city:bj"}});
    let mixed = api.post(&format!("{APP}/audiences:estimate"), mixed).await.ok();
    assert_eq!(mixed["devices"], 6, "each once, and who is not known too: {mixed}");
    world.stop().await;
}

#[tokio::test]
async fn a_wrong_expression_is_refused_with_its_place() {
    let world = World::start().await;
    let api = &world.api;
    for path in ["messages", "audiences:estimate"] {
        let body = match path {
            "messages" => json!({"audience": {"expr": "tag:vip & ("}, "data": {"a": 1}}),
            _ => json!({"audience": {"expr": "tag:vip & ("}}),
        };
        let answer = api.post(&format!("{APP}/{path}"), body).await;
        assert_eq!((answer.status, answer.pointers()), (422, vec!["/audience/expr".to_owned()]), "{path}");
        let message = answer.json["errors"][0]["message"].as_str().unwrap();
        assert!(message.starts_with("at character 12: expected "), "{message}");
    }
    assert_eq!(api.get(&format!("{APP}/devices?filter=tag")).await.errno(), 1005);
    assert_eq!(api.get(&format!("{APP}/devices?filter=all&after=x")).await.errno(), 1008);
    let unknown = json!({"audience": {"expr": "segment:none"}, "data": {"a": 1}});
    assert_eq!(api.post(&format!("{APP}/messages"), unknown).await.pointers(), ["/audience/expr"]);
    for bad in [
        json!({"attributes": {"tag": "x"}}),
        json!({"attributes": {"City": "x"}}),
        json!({"attributes": {"city": ""}}),
        json!({"attributes": {"city": "x".repeat(65)}}),
    ] {
        let answer = api.put(&format!("{APP}/devices/d1"), bad).await;
        assert!(answer.pointers()[0].starts_with("/attributes/"), "{}", answer.text);
    }
    world.stop().await;
}

#[tokio::test]
async fn a_filtered_list_is_read_page_by_page() {
    let world = shop().await;
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = world.api.get(&format!("{APP}/devices?filter=tag:vip&limit=1{after}")).await.ok();
        seen.extend(page["items"].as_array().unwrap().iter().map(|device| device["id"].clone()));
        let Some(next) = page["page"]["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(json!(seen), json!(["d1", "d2", "d3", "设备-5"]));
    world.stop().await;
}

#[tokio::test]
async fn tags_and_aliases_are_given_and_taken_for_lists_of_devices() {
    let world = shop().await;
    let api = &world.api;
    let some = json!({"devices": ["d1", "d4", "stranger"]});
    let answer = api.post(&format!("{APP}/tags/sale%3A11:add"), some.clone()).await.ok();
    assert_eq!(answer, json!({"changed": 2, "unknown": ["stranger"], "full": []}));
    assert_eq!(api.post(&format!("{APP}/tags/sale%3A11:add"), some).await.ok()["changed"], 0, "again");
    assert_eq!(estimate(api, "tag:sale:11").await["sample"], json!(["d1", "d4"]));
    assert_eq!(
        api.get(&format!("{APP}/tags/vip")).await.ok(),
        json!({"tag": "vip", "devices": 4, "online": 1})
    );
    let tags = api.get(&format!("{APP}/tags?limit=2")).await.ok();
    assert_eq!(tags["items"], json!([{"tag": "city:bj", "devices": 1}, {"tag": "sale:11", "devices": 2}]));
    api.post(&format!("{APP}/tags/vip:remove"), json!({"devices": ["d1"]})).await.ok();
    assert_eq!(estimate(api, "tag:vip").await["devices"], 3);

    assert_eq!(
        api.get(&format!("{APP}/users/42")).await.ok(),
        json!({"id": "42", "devices": 2, "online": 0})
    );
    assert_eq!(api.get(&format!("{APP}/users/42/devices")).await.ok()["items"][0]["id"], "d3");
    assert_eq!(api.get(&format!("{APP}/users/43")).await.errno(), 3031);
    api.post(&format!("{APP}/aliases/user/43:add"), json!({"devices": ["d3", "d2"]})).await.ok();
    let moved = api.get(&format!("{APP}/aliases/user/43")).await.ok();
    assert_eq!(moved, json!({"type": "user", "alias": "43", "devices": 2, "online": 1}));
    assert_eq!(estimate(api, "user:42").await["sample"], json!(["d4"]), "a device has one user");
    api.post(&format!("{APP}/aliases/user/43:remove"), json!({"devices": ["d3", "d4"]})).await.ok();
    assert_eq!(estimate(api, "user:*").await["sample"], json!(["d2", "d4"]));

    assert_eq!(api.post(&format!("{APP}/tags/vip"), json!({"devices": ["d1"]})).await.errno(), 3008);
    assert_eq!(
        api.post(&format!("{APP}/tags/vip:add"), json!({"devices": []})).await.pointers(),
        ["/devices"]
    );
    let many: Vec<_> = (0..100).map(|n| format!("t{n}")).collect();
    device(api, "d1", json!({"tags": many})).await;
    let full = api.post(&format!("{APP}/tags/one-more:add"), json!({"devices": ["d1"]})).await.ok();
    assert_eq!(full, json!({"changed": 0, "unknown": [], "full": ["d1"]}));
    world.stop().await;
}

#[tokio::test]
async fn many_devices_are_set_in_one_step_all_or_none() {
    let world = shop().await;
    let api = &world.api;
    let path = format!("{APP}/devices:import");
    let some = json!({"devices": {"d1": {"tags": ["new"]}, "x/1": {"tags": ["new"], "alias": "7"}}});
    assert_eq!(api.post(&path, some).await.ok(), json!({"set": 2, "created": 1}));
    assert_eq!(estimate(api, "tag:new").await["sample"], json!(["d1", "x/1"]));
    let d1 = api.get(&format!("{APP}/devices/d1")).await.ok();
    assert_eq!((&d1["platform"], &d1["tokens"][0]["vendor"]), (&Value::Null, &json!("record")), "full state");
    let wrong = json!({"devices": {"d2": {"tags": ["late"]}, "y/1": {"tags": [""]}}});
    assert_eq!(api.post(&path, wrong).await.pointers(), ["/devices/y~11/tags"]);
    assert_eq!(estimate(api, "tag:late").await["devices"], 0);
    assert_eq!(api.post(&path, json!({"devices": {}})).await.pointers(), ["/devices"]);
    let unknown = json!({"devices": {"d2": {"colour": 1}}});
    assert_eq!(api.post(&path, unknown).await.pointers(), ["/devices/d2/colour"]);
    world.stop().await;
}

#[tokio::test]
async fn a_segment_is_kept_used_by_others_and_sent_as_it_was() {
    let world = shop().await;
    let api = &world.api;
    let path = |name: &str| format!("{APP}/segments/{name}");
    let made = api.put(&path("big"), json!({"expr": "level>=7", "description": "大客户"})).await;
    assert_eq!((made.status, &made.json["expr"]), (201, &json!("level>=7")));
    api.put(&path("south"), json!({"expr": "segment:big & !city:bj"})).await.ok();
    assert_eq!(api.get(&path("south")).await.ok()["devices"], 1);
    assert_eq!(estimate(api, "segment:south | tag:city:bj").await["sample"], json!(["d2", "设备-5"]));
    let names = api.get(&format!("{APP}/segments")).await.ok();
    assert_eq!(names["items"].as_array().unwrap().len(), 2);
    for (name, expr) in [("big", "segment:big"), ("big", "segment:south"), ("x", "segment:none"), ("x", "&")]
    {
        let answer = api.put(&path(name), json!({"expr": expr})).await;
        assert_eq!(answer.pointers(), ["/expr"], "{name} {expr}: {}", answer.text);
    }
    assert_eq!(api.put(&path("a%20b"), json!({"expr": "all"})).await.errno(), 1009);
    assert_eq!(api.delete(&path("big")).await.errno(), 4031);
    assert_eq!(api.get(&path("none")).await.errno(), 3030);

    let tag = made.headers["etag"].to_str().unwrap().to_owned();
    let change = json!({"expr": "level>=8"}).to_string();
    let late = api.call("PUT", &path("big"), &[("if-match", "\"0000000000000000\"")], &change).await;
    assert_eq!(late.errno(), 4030);
    let done = api.call("PUT", &path("big"), &[("if-match", tag.as_str())], &change).await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert_eq!(api.call("PUT", &path("big"), &[("if-match", tag.as_str())], &change).await.errno(), 4030);
    assert_eq!(api.delete(&path("south")).await.status, 204);
    assert_eq!(api.delete(&path("big")).await.status, 204);
    world.stop().await;
}

#[tokio::test]
async fn a_device_is_changed_in_part_and_only_in_the_state_that_was_seen() {
    let world = shop().await;
    let api = &world.api;
    let path = format!("{APP}/devices/d1");
    let seen = api.get(&path).await.headers["etag"].to_str().unwrap().to_owned();
    let patch = json!({"attributes": {"city": null, "level": 8}, "alias": {"user": "7"}, "language": null});
    let changed = api.call("PATCH", &path, &[("if-match", seen.as_str())], &patch.to_string()).await;
    assert_eq!(changed.json["attributes"], json!({"level": "8"}), "{}", changed.text);
    assert_eq!((&changed.json["language"], &changed.json["platform"]), (&Value::Null, &json!("ios")));
    assert_eq!(
        (&changed.json["tags"], &changed.json["tokens"][0]["vendor"]),
        (&json!(["vip"]), &json!("record"))
    );
    for (method, body) in [("PATCH", "{}"), ("PUT", "{}"), ("DELETE", "")] {
        let late = api.call(method, &path, &[("if-match", seen.as_str())], body).await;
        assert_eq!((late.status, late.errno()), (412, 4030), "{method}");
    }
    let now = changed.headers["etag"].to_str().unwrap();
    assert_eq!(api.call("PUT", &path, &[("if-match", now)], "{}").await.status, 200);
    assert_eq!(api.call("PATCH", &format!("{APP}/devices/none"), &[], "{}").await.errno(), 3002);
    assert_eq!(
        api.call("PUT", &format!("{APP}/devices/none"), &[("if-match", "*")], "{}").await.errno(),
        4030
    );
    world.stop().await;
}

#[tokio::test]
async fn membership_is_what_was_acknowledged_after_a_crash_at_any_moment() {
    let mut world = World::start().await;
    let mut wanted = BTreeSet::new();
    for round in 0..4 {
        let mut changing = tokio::task::JoinSet::new();
        for n in 0..12 {
            let (api, id) = (world.api.clone(), format!("d{n:02}"));
            let is_member = (n + round) % 3 == 0;
            let body = json!({"tags": if is_member { vec!["in"] } else { vec!["out"] }});
            changing.spawn(async move {
                let answer = api.put(&format!("{APP}/devices/{id}"), body).await;
                assert!(answer.status == 200 || answer.status == 201, "{}", answer.text);
                (id, is_member)
            });
        }
        while let Some(changed) = changing.join_next().await {
            let (id, is_member) = changed.unwrap();
            match is_member {
                true => wanted.insert(id),
                false => wanted.remove(&id),
            };
        }
        for crash in [false, true] {
            if crash {
                world.kill().await;
                world.restart().await;
            }
            let found = estimate(&world.api, "tag:in & !tag:out").await;
            let sample: BTreeSet<_> = found["sample"]
                .as_array()
                .unwrap()
                .iter()
                .map(|id| id.as_str().unwrap().to_owned())
                .collect();
            assert_eq!(sample, wanted, "round {round}, crashed: {crash}");
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn presence_in_the_index_follows_the_broker_and_survives_a_crash() {
    let mut world = shop().await;
    assert_eq!(estimate(&world.api, "online").await["sample"], json!(["d2"]));
    world.kill().await;
    world.restart().await;
    assert_eq!(estimate(&world.api, "online").await["sample"], json!(["d2"]));
    world.broker.connected(2).await;
    world.broker.presence(Kind::BrokerStarted, "", 1 << 40).await;
    assert_eq!(estimate(&world.api, "online").await["devices"], 0);
    assert_eq!(estimate(&world.api, "last_seen>1s").await["sample"], json!(["d2"]));
    world.stop().await;
}

#[tokio::test]
async fn apps_do_not_see_each_other_s_devices_tags_and_segments() {
    let world = shop().await;
    let api = &world.api;
    api.post("/v1/apps", json!({"id": "other"})).await.ok();
    api.put("/v1/apps/other/devices/x1", json!({"tags": ["vip"], "alias": "42"})).await.ok();
    api.put(&format!("{APP}/segments/mine"), json!({"expr": "tag:vip"})).await.ok();
    let other = api
        .post("/v1/apps/other/audiences:estimate", json!({"audience": {"expr": "tag:vip | user:42"}}))
        .await;
    assert_eq!(other.ok()["sample"], json!(["x1"]));
    assert_eq!(estimate(api, "tag:vip").await["devices"], 4);
    let body = json!({"audience": {"expr": "segment:mine"}});
    assert_eq!(api.post("/v1/apps/other/audiences:estimate", body).await.status, 422);
    assert_eq!(api.get("/v1/apps/other/users/42").await.ok()["devices"], 1);
    assert_eq!(api.get("/v1/apps/other/segments").await.ok()["items"], json!([]));
    world.stop().await;
}

#[tokio::test]
async fn a_dry_run_shows_whom_and_what_and_does_nothing() {
    let world = shop().await;
    let api = &world.api;
    let token = json!({"token": "0123456789abcdef".repeat(4)});
    api.put(&format!("{APP}/devices/d2/tokens/huawei"), token).await.ok();
    let body = |title: &str| json!({"audience": {"expr": "all", "devices": ["stranger"]}, "notification": {"title": title}, "dry_run": true});
    let told = api.post(&format!("{APP}/messages"), body("到了")).await;
    assert_eq!(told.status, 200, "{}", told.text);
    let told = told.json;
    assert_eq!((&told["audience"]["devices"], &told["audience"]["without_token"]), (&json!(6), &json!(3)));
    assert_eq!(told["socket"]["payload"]["title"], "到了");
    let [huawei, record] = &told["vendors"].as_array().unwrap()[..] else { panic!("{told}") };
    assert_eq!((&huawei["vendor"], &huawei["device"]), (&json!("huawei"), &json!("d2")));
    assert_eq!(huawei["problem"], "the app has no credential at this vendor");
    assert_eq!((&record["vendor"], &record["devices"]), (&json!("record"), &json!(2)));
    assert_eq!((&record["payload"]["title"], &record["left_out"]), (&json!("到了"), &Value::Null));
    assert_eq!(record["bytes"], record["payload"].to_string().len());

    let fakes = reveille_fakes::FakeVendors::start().await.unwrap();
    let mut credential = fakes.credential("huawei");
    credential.as_object_mut().unwrap().remove("vendor");
    api.put(&format!("{APP}/credentials/huawei"), credential).await.ok();
    let long = json!({"audience": {"expr": "vendor:huawei"}, "notification": {"title": "t", "body": "长".repeat(3000)}});
    let told = api.post(&format!("{APP}/messages:validate"), long).await;
    let huawei = &told.json["vendors"][0];
    assert_eq!(huawei["left_out"], "body_cut", "{}", told.text);
    assert!((3500..4500).contains(&huawei["bytes"].as_u64().unwrap()), "{}", huawei["bytes"]);
    assert!(!told.text.contains("0123456789abcdef0"), "a whole token is shown");
    assert!(told.text.contains("01234567…"), "{}", told.text);

    assert_eq!(api.post(&format!("{APP}/messages:validate"), json!({"audience": {}})).await.status, 422);
    assert_eq!(api.get(&format!("{APP}/messages")).await.ok()["items"], json!([]), "something was kept");
    assert_eq!(world.broker.sends_now(), []);
    assert_eq!(api.recorded().await.len(), 0);
    world.stop().await;
}
