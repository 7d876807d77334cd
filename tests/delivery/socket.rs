//! The device is awake.

use crate::device::{Device, token};
use crate::stage::{Stage, VENDORS};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_for_an_awake_device_comes_by_socket_and_calls_no_vendor() {
    let stage = Stage::start().await;
    let mut device = Device::connect(stage.reveille.mqtt(), "awake").register("awake", "fcm");
    stage.wait_token("awake", "fcm").await;

    let id = stage.send(&["awake"], json!({"wait_ack_ms": 60_000})).await;
    let message = device.receive();
    let payload: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!(
        (&payload["id"], &payload["title"], &payload["body"]),
        (&json!(id), &json!("标题"), &json!("正文"))
    );
    device.acknowledge(&message);
    stage.wait_funnel(&id, |funnel| funnel["acked"] == 1).await;
    device.shown(&id);
    let funnel = stage.wait_funnel(&id, |funnel| funnel["shown"] == 1).await;

    assert_eq!((&funnel["targeted"], &funnel["in_flight"]), (&json!(1), &json!(0)));
    assert_eq!(stage.fcm.calls().len(), 0);
    assert_eq!(device.ping(), [], "nothing came twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_does_not_acknowledge_in_time_is_called_through_its_vendor_once() {
    let stage = Stage::start().await;
    for vendor in VENDORS {
        let name = format!("silent-{vendor}");
        let mut device = Device::connect(stage.reveille.mqtt(), &name).register(&name, vendor);
        stage.wait_token(&name, vendor).await;

        let id = stage.send(&[&name], json!({"wait_ack_ms": 300})).await;
        let message = device.receive();
        stage.wait_funnel(&id, |funnel| funnel["vendor_accepted"] == 1).await;
        device.acknowledge(&message);
        let funnel = stage.wait_funnel(&id, |funnel| funnel["acked"] == 1).await;

        assert_eq!(funnel["by_vendor"][vendor]["accepted"], 1, "{funnel}");
        assert_eq!(stage.mids(vendor, &token(&name)), [id], "{vendor}: one call");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_acknowledges_in_time_is_not_called_later() {
    let stage = Stage::start().await;
    let mut prompt = Device::connect(stage.reveille.mqtt(), "prompt").register("prompt", "fcm");
    let mut silent = Device::connect(stage.reveille.mqtt(), "silent").register("silent", "fcm");
    stage.wait_token("prompt", "fcm").await;
    stage.wait_token("silent", "fcm").await;

    let id = stage.send(&["prompt", "silent"], json!({"wait_ack_ms": 500})).await;
    assert_eq!(prompt.take(), id);
    let unacknowledged = silent.receive();
    // The deadline of both is over when the silent one's vendor was called.
    stage.wait_funnel(&id, |funnel| funnel["vendor_accepted"] == 1 && funnel["acked"] == 1).await;
    assert_eq!(
        (stage.mids("fcm", &token("silent")).len(), stage.mids("fcm", &token("prompt")).len()),
        (1, 0)
    );
    silent.acknowledge(&unacknowledged);
    stage.wait_funnel(&id, |funnel| funnel["acked"] == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_strategy_takes_its_own_way_to_a_device_that_is_awake() {
    let stage = Stage::start().await;
    // By socket, by vendor.
    for (strategy, sockets, pushes) in [("online_only", 1, 0), ("vendor_only", 0, 1), ("both_dedup", 1, 1)] {
        let mut device = Device::connect(stage.reveille.mqtt(), strategy).register(strategy, "fcm");
        stage.wait_token(strategy, "fcm").await;
        let id = stage.send(&[strategy], json!({"strategy": strategy, "wait_ack_ms": 60_000})).await;
        if sockets == 1 {
            assert_eq!(device.take(), id, "{strategy}");
        }
        stage
            .wait_funnel(&id, |funnel| {
                let accepted = funnel["by_vendor"]["fcm"]["accepted"].as_u64().unwrap_or(0);
                let is_there = funnel["acked"] == 1 || sockets == 0;
                accepted == pushes && is_there && funnel["in_flight"] == 0
            })
            .await;
        assert_eq!(device.ping(), [], "{strategy}: no second copy by socket");
        assert_eq!(stage.mids("fcm", &token(strategy)).len() as u64, pushes, "{strategy}");
    }
}
