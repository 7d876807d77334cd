//! The device sleeps.

use crate::device::{Device, token};
use crate::stage::{Stage, VENDORS};
use reveille_client::{Options, Publisher, PushHints, QoS};
use reveille_fakes::FcmAnswer;
use reveille_tests::PATIENCE;
use serde_json::json;

/// A device that registered and vanished, as the bridge knows.
async fn sleeper(stage: &Stage, name: &str, vendor: &str) {
    let device = Device::connect(stage.reveille.mqtt(), name).register(name, vendor).subscribe("公告/#");
    stage.wait_token(name, vendor).await;
    device.vanish();
    stage.wait_presence(name, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sleeping_device_is_woken_by_its_vendor_once_and_drains_the_same_message() {
    let stage = Stage::start().await;
    for vendor in VENDORS {
        let name = format!("sleeper-{vendor}");
        sleeper(&stage, &name, vendor).await;
        let id = stage.send(&[&name], json!({})).await;
        stage.wait_funnel(&id, |funnel| funnel["vendor_accepted"] == 1).await;
        assert_eq!(stage.mids(vendor, &token(&name)), [id.as_str()]);

        let mut device = Device::connect(stage.reveille.mqtt(), &name);
        assert_eq!(device.take(), id, "the queue has the message under the id of the push");
        let funnel = stage.wait_funnel(&id, |funnel| funnel["acked"] == 1).await;
        assert_eq!(funnel["by_vendor"][vendor]["accepted"], 1, "{funnel}");
        assert_eq!(device.ping(), [], "once");
        assert_eq!(stage.mids(vendor, &token(&name)).len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_drains_while_its_push_waits_cancels_the_push() {
    let stage = Stage::start().await;
    sleeper(&stage, "early", "fcm").await;
    // FCM asks to come back in an hour, so the push waits, for longer than any test.
    stage.fcm.answer_next(&token("early"), FcmAnswer::error(503, "UNAVAILABLE").retry_after("3600"));
    let id = stage.send(&["early"], json!({})).await;
    assert_eq!(stage.fcm.wait_for(1).await.len(), 1);

    let mut device = Device::connect(stage.reveille.mqtt(), "early");
    assert_eq!(device.take(), id);
    let funnel = stage.wait_funnel(&id, |funnel| funnel["in_flight"] == 0).await;
    assert_eq!(funnel["vendor_accepted"], 0, "{funnel}");
    assert_eq!(funnel["acked"].as_u64().unwrap() + funnel["suppressed"].as_u64().unwrap(), 1, "{funnel}");
    assert_eq!(stage.fcm.calls().len(), 1, "and no second call");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_published_with_push_properties_wakes_every_sleeping_subscriber() {
    let stage = Stage::start().await;
    for vendor in VENDORS {
        sleeper(&stage, &format!("subscriber-{vendor}"), vendor).await;
    }
    let broker = stage.reveille.mqtt();
    let options = Options::new("publisher", broker.ip().to_string(), broker.port());
    let publisher = Publisher::connect(options).unwrap();
    let hints =
        PushHints { title: Some("公告".into()), body: Some("停电".into()), ..PushHints::default() };
    let published = publisher.publish("公告/一", "停电", QoS::AtLeastOnce, &hints);
    tokio::time::timeout(PATIENCE, published).await.unwrap().unwrap();

    let apns = stage.apns.wait_for(1).await;
    assert_eq!(apns[0].payload["aps"]["alert"], json!({"title": "公告", "body": "停电"}));
    let id = apns[0].mid().unwrap().to_owned();
    let fcm = stage.fcm.wait_for(1).await;
    assert_eq!(fcm[0].mid(), Some(id.as_str()), "one message, one id at every vendor");
    for vendor in VENDORS {
        let mut device = Device::connect(broker, &format!("subscriber-{vendor}"));
        assert_eq!(device.take(), id, "{vendor}");
    }
    let funnel = stage.wait_funnel(&id, |funnel| funnel["acked"] == 2).await;
    assert_eq!(funnel["targeted"], 2, "{funnel}");
    publisher.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_push_properties_waits_in_silence() {
    let stage = Stage::start().await;
    sleeper(&stage, "quiet", "fcm").await;
    let broker = stage.reveille.mqtt();
    let publisher =
        Publisher::connect(Options::new("publisher", broker.ip().to_string(), broker.port())).unwrap();
    let no_hints = PushHints::default();
    let plain = publisher.publish("公告/静", "无声", QoS::AtLeastOnce, &no_hints);
    tokio::time::timeout(PATIENCE, plain).await.unwrap().unwrap();
    let id = stage.send(&["quiet"], json!({})).await; // goes the same way later, so the plain one would be first
    stage.wait_funnel(&id, |funnel| funnel["vendor_accepted"] == 1).await;
    assert_eq!(stage.mids("fcm", &token("quiet")), [id.as_str()]);

    let mut device = Device::connect(broker, "quiet");
    let plain = device.receive();
    assert_eq!(plain.payload, "无声".as_bytes());
    device.acknowledge(&plain);
    assert_eq!(device.take(), id);
    publisher.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_token_ends_the_delivery_with_a_reason_and_the_message_waits_in_the_queue() {
    let stage = Stage::start().await;
    sleeper(&stage, "dead", "fcm").await;
    stage.fcm.answer(&token("dead"), FcmAnswer::unregistered());
    let id = stage.send(&["dead"], json!({})).await;
    assert_eq!(stage.fcm.wait_for(1).await.len(), 1);
    let device = stage.api.get_until("/v1/apps/default/devices/dead", |device| {
        device["tokens"][0]["state"] != "live" && device["tokens"][0]["state"] != "active"
    });
    assert!(device.await["tokens"].to_string().contains("UNREGISTERED"), "the reason is kept");

    let mut device = Device::connect(stage.reveille.mqtt(), "dead");
    assert_eq!(device.take(), id, "the socket still brings it");
    stage.wait_funnel(&id, |funnel| funnel["acked"] == 1).await;
    assert_eq!(stage.fcm.calls().len(), 1, "a dead token is not called again");
}
