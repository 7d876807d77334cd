//! A message that its sender takes back, on a device that shows it, on one that sleeps and at its vendor.

use crate::device::{Device, token};
use crate::stage::Stage;
use reveille_tests::api::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_show_a_withdrawn_message_is_told_at_once_or_when_it_wakes() {
    let stage = Stage::start().await;
    let broker = stage.reveille.mqtt();
    let mut awake = Device::connect(broker, "awake");
    let mut strangers = Device::connect(broker, "stranger");
    let asleep = Device::connect(broker, "asleep").register("asleep", "fcm");
    stage.wait_token("asleep", "fcm").await;
    asleep.vanish();
    stage.wait_presence("asleep", false).await;
    let id = stage.send(&["awake", "asleep"], json!({})).await;
    assert_eq!(awake.take(), id);
    stage.wait_funnel(&id, |funnel| funnel["acked"] == 1 && funnel["vendor_accepted"] == 1).await;

    let path = format!("/v1/apps/default/messages/{id}");
    let (status, answer): (u16, Value) = stage.api.ask(Method::DELETE, &path, None).await;
    assert_eq!((status, &answer["state"]), (202, &json!("recalled")));
    let told = awake.receive();
    assert_eq!(told.topic.as_ref().unwrap().as_str(), "$push/recall");
    assert_eq!(serde_json::from_slice::<Value>(&told.payload).unwrap(), json!({ "id": id }));
    awake.acknowledge(&told);
    let silenced = |delivery: &Value| delivery["recall"] == "silenced";
    stage.api.get_until(&format!("{path}/deliveries/asleep"), silenced).await;
    let calls = stage.fcm.calls();
    let silent = calls.iter().rfind(|call| call.token == token("asleep")).unwrap();
    assert_eq!(
        (silent.message.get("notification"), &silent.message["data"]["recalled"]),
        (None, &json!("1"))
    );
    // What waited in its queue is gone; instead it hears what to take away.
    let mut asleep = Device::connect(broker, "asleep");
    assert_eq!(asleep.receive().topic.unwrap().as_str(), "$push/recall");
    assert_eq!(strangers.ping().len(), 0, "who never had it hears nothing");
}
