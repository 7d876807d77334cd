//! MQTT messages over HTTP.

use reveille_proto::bridge as wire;
use rumqttc::v5::mqttbytes::v5::PubAckReason;
use serde_json::{Value, json};

use crate::world::World;

const PUBLISH: &str = "/v1/apps/default/publish";

#[tokio::test]
async fn a_message_is_published_for_its_app_and_answered_with_the_brokers_word() {
    let world = World::start().await;
    for (reason, status, wanted) in [
        (PubAckReason::Success, 200, json!({"has_receivers": true})),
        (PubAckReason::NoMatchingSubscribers, 200, json!({"has_receivers": false})),
        (PubAckReason::QuotaExceeded, 409, json!(4103)),
        (PubAckReason::TopicNameInvalid, 422, json!(1002)),
        (PubAckReason::PayloadFormatInvalid, 501, json!(5003)),
    ] {
        world.broker.published(reason);
        let answer = world.api.post(PUBLISH, json!({"topic": "设备/1", "payload": "9.1"})).await;
        let said = if status == 200 { answer.json.clone() } else { json!(answer.errno()) };
        assert_eq!((answer.status, said), (status, wanted), "{reason:?}");
    }
    let body = json!({
        "topic": "设备/泵7", "payload_json": {"bar": 9.1}, "qos": 2, "retain": true, "expiry_s": 60,
        "response_topic": "answers", "correlation_data_base64": "AQI=", "user_properties": [{"name": "a", "value": "b"}],
        "push": {"title": "泵7", "body": "9.1 bar", "strategy": "both_dedup", "collapse_key": "pump-7"}
    });
    world.broker.published(PubAckReason::Success);
    world.api.post(PUBLISH, body).await.ok();
    world.api.post(PUBLISH, json!({"topic": "t", "payload_base64": "/w=="})).await.ok();
    let published = world.broker.published(PubAckReason::Success);
    let [.., whole, bytes] = published.as_slice() else { panic!("{published:?}") };
    let property =
        |(name, value): (&str, &str)| wire::UserProperty { name: name.to_owned(), value: value.to_owned() };
    let wanted = wire::Publication {
        app: "default".to_owned(),
        topic: "设备/泵7".to_owned(),
        payload: r#"{"bar":9.1}"#.into(),
        qos: 2,
        retain: true,
        expiry_s: Some(60),
        content_type: Some("application/json".to_owned()),
        response_topic: Some("answers".to_owned()),
        correlation_data: Some(vec![1, 2].into()),
        user_properties: [
            ("a", "b"),
            ("push-title", "泵7"),
            ("push-body", "9.1 bar"),
            ("push-strategy", "both_dedup"),
            ("push-collapse", "pump-7"),
        ]
        .map(property)
        .to_vec(),
    };
    assert_eq!(*whole, wanted);
    assert_eq!((bytes.payload.as_ref(), bytes.qos), (&[0xff][..], 1));
    world.stop().await;
}

#[tokio::test]
async fn a_message_that_mqtt_cannot_carry_is_refused_with_its_place() {
    let world = World::start().await;
    for (more, pointer) in [
        (json!({"topic": "a/#"}), "/topic"),
        (json!({"topic": "$push/v1/send"}), "/topic"),
        (json!({"topic": ""}), "/topic"),
        (json!({"payload": "a", "payload_json": 1}), "/payload"),
        (json!({"payload_base64": "!"}), "/payload_base64"),
        (json!({"qos": 3}), "/qos"),
        (json!({"response_topic": "+"}), "/response_topic"),
        (json!({"user_properties": [{"name": "a", "value": "\u{0}"}]}), "/user_properties/0/value"),
        (json!({"push": {}}), "/push"),
        (json!({"push": {"title": "t", "strategy": "x"}}), "/push/strategy"),
        (
            json!({"push": {"title": "t"}, "user_properties": [{"name": "push-title", "value": "x"}]}),
            "/push/title",
        ),
    ] {
        let mut body = json!({"topic": "t"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(world.api.post(PUBLISH, body).await.pointers(), [pointer]);
    }
    world.stop().await;
}

#[tokio::test]
async fn without_a_broker_nobody_waits_for_it() {
    let mut world = World::start().await;
    world.config.mqtt = "127.0.0.1:1".parse().unwrap();
    world.kill().await;
    world.restart().await;
    let answer = world.api.post(PUBLISH, json!({"topic": "t"})).await;
    assert_eq!((answer.status, answer.errno()), (503, 5004), "{}", answer.text);
    let topic = json!({"audience": {"topic": "t"}, "data": {"a": 1}});
    let answer = world.api.post("/v1/apps/default/messages", topic).await;
    assert_eq!((answer.status, answer.errno()), (501, 5003), "asked a broker that is not here");
    assert!(matches!(answer.json["detail"], Value::String(_)));
    world.stop().await;
}
