//! Many messages in one call, and repeated calls.

use serde_json::{Value, json};

use crate::world::World;

const BATCH: &str = "/v1/apps/default/messages:batch";

fn to(device: &str) -> Value {
    json!({"audience": {"devices": [device]}, "notification": {"title": device}})
}

#[tokio::test]
async fn each_message_of_a_batch_has_its_own_result_and_a_repeated_batch_sends_nothing_twice() {
    let world = World::start().await;
    let mut dry = to("d3");
    dry["dry_run"] = json!(true);
    let wrong = json!({"audience": {"expr": "tag:"}, "colour": 1, "notification": {"title": "t"}});
    let unread = json!({"audience": {"expr": "tag:"}, "notification": {"title": "t"}});
    let body = json!({"messages": [to("d1"), wrong, dry, unread, to("d2")]}).to_string();
    let headers = [("idempotency-key", "night")];
    let first = world.api.call("POST", BATCH, &headers, &body).await;
    assert_eq!(first.status, 207, "{}", first.text);
    let items = first.json["items"].as_array().unwrap();
    let statuses: Vec<_> = items.iter().map(|item| item["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [202, 422, 200, 422, 202]);
    assert_eq!(items[1]["problem"]["errors"][0]["pointer"], "/colour");
    assert_eq!(items[3]["problem"]["errors"][0]["pointer"], "/audience/expr");
    assert_eq!(items[2]["message"]["audience"]["sample"], json!(["d3"]));
    let again = world.api.call("POST", BATCH, &headers, &body).await;
    for at in [0, 4] {
        assert_eq!(again.json["items"][at]["message"]["id"], items[at]["message"]["id"], "sent twice");
    }
    assert_eq!(world.api.get("/v1/apps/default/messages").await.ok()["items"].as_array().unwrap().len(), 2);
    for bad in [json!({"messages": []}), json!({"messages": vec![1; 501]})] {
        assert_eq!(world.api.post(BATCH, bad).await.pointers(), ["/messages"]);
    }
    world.stop().await;
}

#[tokio::test]
async fn a_repeated_call_gets_its_answer_although_its_segment_is_gone() {
    let world = World::start().await;
    let segment = "/v1/apps/default/segments/gone";
    world.api.put(segment, json!({"expr": "all"})).await.ok();
    let body = json!({"audience": {"expr": "segment:gone"}, "data": {"a": 1}}).to_string();
    let headers = [("idempotency-key", "once")];
    let path = "/v1/apps/default/messages";
    let first = world.api.call("POST", path, &headers, &body).await.ok();
    assert_eq!(world.api.delete(segment).await.status, 204);
    let again = world.api.call("POST", path, &headers, &body).await;
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(again.ok(), first);
    world.stop().await;
}
