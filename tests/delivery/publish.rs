//! Messages that a business server publishes over HTTP, and topics as audiences.

use crate::device::{Device, push_id, token};
use crate::stage::Stage;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_published_over_http_reaches_subscribers_by_socket_and_by_vendor() {
    let stage = Stage::start().await;
    let mut awake = Device::connect(stage.reveille.mqtt(), "awake").subscribe("设备/+");
    let asleep =
        Device::connect(stage.reveille.mqtt(), "asleep").register("asleep", "apns").subscribe("设备/泵7");
    stage.wait_token("asleep", "apns").await;
    asleep.vanish();
    stage.wait_presence("asleep", false).await;

    let path = "/v1/apps/default/publish";
    let body = json!({"topic": "设备/泵7", "payload": "9.1", "push": {"title": "泵7", "body": "9.1 bar"}});
    assert_eq!(stage.api.post(path, body).await["has_receivers"], true);
    let message = awake.receive();
    assert_eq!(message.payload.as_ref(), b"9.1");
    let id = push_id(&message);
    awake.acknowledge(&message);
    // The bridge hears of it after the device: until then it knows no such message.
    stage.api.get_until("/v1/apps/default/messages", |listed| listed["items"][0]["id"] == id.as_str()).await;
    stage.wait_funnel(&id, |funnel| funnel["acked"] == 1 && funnel["vendor_accepted"] == 1).await;
    assert_eq!(stage.mids("apns", &token("asleep")), [id]);

    let nobody = stage.api.post(path, json!({"topic": "nobody", "payload": "x"})).await;
    assert_eq!(nobody["has_receivers"], false);
    let kept = json!({"topic": "设备/状态", "payload_json": {"on": true}, "retain": true, "qos": 2});
    stage.api.post(path, kept).await;
    let mut late = Device::connect(stage.reveille.mqtt(), "late").subscribe("设备/状态");
    assert_eq!(late.receive().payload.as_ref(), br#"{"on":true}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_subscribers_of_a_topic_are_an_audience_whether_they_are_there_or_not() {
    let stage = Stage::start().await;
    let mut awake =
        Device::connect(stage.reveille.mqtt(), "awake").subscribe("orders/+").subscribe("orders/42");
    let asleep =
        Device::connect(stage.reveille.mqtt(), "asleep").register("asleep", "fcm").subscribe("orders/#");
    let _other = Device::connect(stage.reveille.mqtt(), "other").subscribe("orders/7");
    stage.wait_token("asleep", "fcm").await;
    asleep.vanish();
    stage.wait_presence("asleep", false).await;

    let audience = json!({"topic": "orders/42"});
    let path = "/v1/apps/default/audiences:estimate";
    let look = stage.api.post(path, json!({"audience": audience})).await;
    assert_eq!((&look["devices"], &look["sample"]), (&json!(2), &json!(["asleep", "awake"])));
    let body = json!({"audience": audience, "notification": {"title": "订单"}});
    let sent = stage.api.post("/v1/apps/default/messages", body).await;
    assert_eq!(sent["audience_estimate"], 2);
    let id = sent["id"].as_str().unwrap();
    assert_eq!(awake.take(), id);
    let funnel = stage.wait_funnel(id, |funnel| funnel["acked"] == 1 && funnel["vendor_accepted"] == 1).await;
    assert_eq!(
        funnel["targeted"], 2,
        "one that subscribes twice counts once, and who does not subscribe not at all"
    );
    assert_eq!(stage.mids("fcm", &token("asleep")), [id]);
}
