//! What becomes of a message: by socket, by vendor, and never twice.

use prost::Message as _;
use reveille_proto::bridge::{self as wire, from_device, presence};
use serde_json::{Value, json};

use crate::world::World;

async fn the_send(world: &World) -> wire::Message {
    world.broker.sends(1).await[0].message.clone().unwrap()
}

#[tokio::test]
async fn a_device_that_is_awake_gets_it_by_socket_and_no_vendor_is_called() {
    let world = World::start().await;
    world.api.register("d1", "t1").await;
    let id = world.api.send_to("d1").await;
    let sends = world.broker.sends(1).await;
    assert_eq!(sends[0].client_ids, ["d1"]);
    let message = sends[0].message.clone().unwrap();
    assert_eq!((message.topic.as_str(), message.qos, message.app.as_str()), ("$push/message", 1, "default"));
    let payload: Value = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!((&payload["id"], &payload["title"]), (&json!(id), &json!("到了")));
    world.broker.acked(&message, &[("d1", 3)]).await;
    let message = world.api.message(&id).await;
    assert_eq!((&message["funnel"]["acked"], &message["state"]), (&json!(1), &json!("done")));
    assert_eq!(world.api.recorded().await, Vec::<Value>::new());
    world.stop().await;
}

#[tokio::test]
async fn a_device_that_sleeps_is_woken_once_however_often_the_broker_says_so() {
    let world = World::start().await;
    world.api.register("d1", "t1").await;
    let id = world.api.send_to("d1").await;
    let message = the_send(&world).await;
    world.broker.queued(&message, &[("d1", 3)]).await;
    world.api.until_state(&id, "d1", "vendor_accepted").await;
    for _ in 0..3 {
        world.broker.queued(&message, &[("d1", 3), ("d1", 2)]).await;
        world.broker.unacked(&message, &[("d1", 4)]).await;
    }
    let recorded = world.api.recorded().await;
    assert_eq!(recorded.len(), 1, "{recorded:?}");
    assert_eq!((&recorded[0]["message"], &recorded[0]["token"]), (&json!(id), &json!("t1")));
    // It wakes, drains its queue, shows the alert: it counts once, and as what the device itself said.
    world.broker.acked(&message, &[("d1", 4)]).await;
    let funnel = world.api.until_funnel(&id, "acked", 1).await["funnel"].clone();
    assert_eq!(
        (&funnel["vendor_accepted"], &funnel["by_vendor"]["record"]["accepted"]),
        (&json!(0), &json!(1))
    );
    let words: Vec<_> = world.api.delivery(&id, "d1").await["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["words"].as_str().unwrap().to_owned())
        .collect();
    assert!(words.iter().any(|words| words.contains("the device is offline")), "{words:?}");
    assert!(words.iter().any(|words| words.contains("accepted by record")), "{words:?}");
    world.stop().await;
}

#[tokio::test]
async fn each_word_of_the_broker_has_its_end() {
    let world = World::start().await;
    for device in ["unacked", "gone", "late"] {
        world.api.register(device, device).await;
    }
    let audience = json!({"devices": ["unacked", "gone", "bare", "nowhere"]});
    let id = world.api.send(json!({"audience": audience, "notification": {"body": "b"}})).await;
    let message = the_send(&world).await;
    world.broker.unacked(&message, &[("unacked", 1)]).await;
    world.broker.queued(&message, &[("gone", 0), ("bare", 7), ("nowhere", 0)]).await;
    for (device, state) in [
        ("unacked", "vendor_accepted"),
        ("gone", "vendor_accepted"),
        ("bare", "queued"),
        ("nowhere", "failed"),
    ] {
        world.api.until_state(&id, device, state).await;
    }
    let reason = world.api.delivery(&id, "nowhere").await["reason"].clone();
    assert!(reason.as_str().unwrap().contains("neither a session nor a live device token"), "{reason}");
    world.api.until_funnel(&id, "in_flight", 1).await;
    world.stop().await;
}

#[tokio::test]
async fn a_device_that_came_back_and_drained_before_its_vendor_was_called_is_not_pushed() {
    let world = World::start().await;
    world.api.register("d1", "t1").await;
    let body = json!({"audience": {"devices": ["d1"]}, "notification": {"title": "t"}, "delivery": {"wait_ack_ms": 60_000}});
    let id = world.api.send(body).await;
    let message = the_send(&world).await;
    world.broker.presence(presence::Kind::Connected, "d1", 8).await;
    world.broker.queued(&message, &[("d1", 7)]).await; // about the connection before
    world.broker.acked(&message, &[("d1", 8)]).await;
    let delivery = world.api.until_state(&id, "d1", "suppressed_drained_online").await;
    assert_eq!(delivery["counts_as"], "suppressed");
    assert_eq!(world.api.recorded().await, Vec::<Value>::new());
    world.stop().await;
}

#[tokio::test]
async fn a_broker_that_says_nothing_does_not_keep_the_vendor_waiting() {
    let world = World::with(|config| config.broker_silence_s = 1).await;
    world.api.register("d1", "t1").await;
    let body = json!({"audience": {"devices": ["d1"]}, "notification": {"title": "t"}, "delivery": {"wait_ack_ms": 100}});
    let id = world.api.send(body).await;
    world.api.until_state(&id, "d1", "vendor_accepted").await;
    assert_eq!(world.api.recorded().await.len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn every_strategy_reaches_whom_it_says() {
    for (strategy, to_broker, pushed) in
        [("vendor_only", 0, 1), ("online_only", 1, 0), ("vendor_first", 1, 1), ("both_dedup", 1, 1)]
    {
        let world = World::start().await;
        world.api.register("d1", "t1").await;
        let delivery = json!({"strategy": strategy, "ttl_s": 60});
        let body =
            json!({"audience": {"devices": ["d1"]}, "notification": {"title": "t"}, "delivery": delivery});
        let id = world.api.send(body).await;
        if to_broker > 0 {
            let message = the_send(&world).await;
            world.broker.queued(&message, &[("d1", 5)]).await;
        }
        if pushed > 0 {
            world.api.until_state(&id, "d1", "vendor_accepted").await;
        }
        assert_eq!(world.api.recorded().await.len(), pushed, "{strategy}");
        assert_eq!(world.broker.sends_now().len(), to_broker, "{strategy}");
        world.stop().await;
    }
}

#[tokio::test]
async fn a_dead_token_dies_by_the_timestamp_rule_and_a_registered_one_lives() {
    let world = World::start().await;
    world
        .api
        .answers(json!([
            {"token": "dead", "answer": "token_dead"},
            {"token": "old-word", "answer": "token_dead", "since_ms": 1, "times": 1},
        ]))
        .await;
    for (device, state, token_state, calls) in
        [("dead", "failed", "dead", 1), ("old-word", "vendor_accepted", "active", 2)]
    {
        world.api.register(device, device).await;
        let id = world
            .api
            .send(json!({"audience": {"devices": [device]}, "notification": {"title": "t"},
            "delivery": {"strategy": "vendor_only"}}))
            .await;
        world.api.until_state(&id, device, state).await;
        let shown = world.api.get(&format!("/v1/apps/default/devices/{device}")).await.ok();
        assert_eq!(shown["tokens"][0]["state"], token_state, "{shown}");
        let pushes = world.api.recorded().await;
        assert_eq!(pushes.iter().filter(|push| push["token"] == device).count(), calls, "{device}");
    }
    // Registered anew it is alive again.
    world.api.register("dead", "dead").await;
    let shown = world.api.get("/v1/apps/default/devices/dead").await.ok();
    assert_eq!(shown["tokens"][0]["state"], "active");
    world.stop().await;
}

#[tokio::test]
async fn a_device_registers_and_reacts_over_mqtt() {
    let world = World::start().await;
    world
        .broker
        .said(
            from_device::Kind::Register,
            "设备-1",
            r#"{"vendor":"record","token":"t1","platform":"android","language":"zh-CN"}"#,
        )
        .await;
    for bad in ["", "{", r#"{"vendor":"record"}"#, r#"{"vendor":"pager","token":"t"}"#] {
        world.broker.said(from_device::Kind::Register, "设备-1", bad).await;
        world.broker.said(from_device::Kind::Event, "设备-1", bad).await;
    }
    let shown = world.api.get("/v1/apps/default/devices/%E8%AE%BE%E5%A4%87-1").await.ok();
    assert_eq!((&shown["platform"], &shown["tokens"][0]["vendor"]), (&json!("android"), &json!("record")));
    let id = world.api.send_to("设备-1").await;
    let message = the_send(&world).await;
    world.broker.queued(&message, &[("设备-1", 3)]).await;
    world.api.until_state(&id, "%E8%AE%BE%E5%A4%87-1", "vendor_accepted").await;
    for event in ["shown", "clicked", "shown"] {
        let said = json!({"id": id, "event": event, "at_ms": 5}).to_string();
        world.broker.said(from_device::Kind::Event, "设备-1", &said).await;
    }
    let funnel = world.api.until_funnel(&id, "acked", 1).await["funnel"].clone();
    assert_eq!((&funnel["shown"], &funnel["clicked"]), (&json!(1), &json!(1)));
    world.stop().await;
}

#[tokio::test]
async fn a_publisher_s_message_with_an_alert_becomes_a_push_in_whatever_order_the_words_come() {
    let world = World::start().await;
    for device in ["slept", "took"] {
        world.api.register(device, device).await;
    }
    let id = "0199f0c2-0000-7000-8000-000000000001";
    let message = wire::Message {
        id: reveille_proto::ids::MessageId::parse(id).unwrap().0.to_vec().into(),
        app: "default".to_owned(),
        topic: "设备/订单".to_owned(),
        accepted_at_ms: 1,
        alert: Some(wire::Alert { title: "新订单".to_owned(), body: String::new() }),
        ..Default::default()
    };
    world.broker.acked(&message, &[("took", 9)]).await; // before anything else is known of it
    world.broker.queued(&message, &[("slept", 3), ("took", 8)]).await;
    world.api.until_state(id, "slept", "vendor_accepted").await;
    world.api.until_state(id, "took", "online_acked").await;
    let recorded = world.api.recorded().await;
    assert_eq!(recorded.len(), 1);
    assert_eq!((&recorded[0]["token"], &recorded[0]["push"]["title"]), (&json!("slept"), &json!("新订单")));
    assert_eq!(world.api.message(id).await["topic"], "设备/订单");
    assert_eq!(world.broker.sends_now().len(), 0, "the broker has it already");
    world.stop().await;
}

#[tokio::test]
async fn what_is_no_fact_is_acknowledged_and_counted_and_harms_nothing() {
    let world = World::start().await;
    world.broker.tell_raw("$push/v1/queued", vec![0xff, 0xff]);
    world.broker.tell_raw("$push/v1/other", vec![]);
    world.broker.tell_raw("$push/v1/queued", wire::Queued::default().encode_to_vec());
    world.broker.all_acked().await;
    let metrics = world.api.get("/metrics").await.text;
    for wanted in
        ["reason=\"malformed payload\"} 1", "reason=\"unknown topic\"} 1", "reason=\"no message in it\"} 1"]
    {
        assert!(metrics.contains(wanted), "{wanted} not in {metrics}");
    }
    world.stop().await;
}

#[tokio::test]
async fn presence_is_ordered_by_epoch_and_a_broker_s_start_ends_what_was_before() {
    use presence::Kind;
    let world = World::start().await;
    world.broker.presence(Kind::Connected, "d1", 5).await;
    world.broker.presence(Kind::Disconnected, "d1", 4).await;
    let path = "/v1/apps/default/devices/d1/presence";
    let now = world.api.get(path).await.ok();
    assert_eq!((&now["online"], &now["epoch"], &now["keep_alive_s"]), (&json!(true), &json!(5), &json!(60)));
    world.broker.presence(Kind::BrokerStarted, "", 9).await;
    assert_eq!(world.api.get(path).await.ok()["online"], false);
    world.broker.presence(Kind::Connected, "d1", 10).await;
    assert_eq!(world.api.get(path).await.ok()["online"], true);
    assert_eq!(world.api.get("/v1/apps/default/devices/other/presence").await.errno(), 3002);
    world.stop().await;
}

#[tokio::test]
async fn a_withdrawn_message_leaves_the_queues_and_no_vendor_is_called_any_more() {
    let world = World::start().await;
    world.api.answers(json!([{"answer": "retry", "after_ms": 60_000}])).await;
    for device in ["waits", "sleeps"] {
        world.api.register(device, device).await;
    }
    let audience = json!({"devices": ["waits", "sleeps"]});
    let id = world.api.send(json!({"audience": audience, "notification": {"title": "t"}})).await;
    let message = the_send(&world).await;
    world.broker.queued(&message, &[("waits", 3)]).await;
    world.api.until("/v1/apps/default/record", "tried once", |record| record["page"]["total"] == 1).await;
    let path = format!("/v1/apps/default/messages/{id}");
    for _ in 0..2 {
        assert_eq!(world.api.delete(&path).await.status, 202);
    }
    world.api.until_funnel(&id, "suppressed", 2).await;
    assert_eq!(world.api.message(&id).await["state"], "recalled");
    let withdraws = world.broker.withdraws(1).await;
    assert_eq!((withdraws.len(), withdraws[0].message_id.clone()), (1, message.id.clone()));
    world.broker.queued(&message, &[("sleeps", 3)]).await;
    assert_eq!(world.api.recorded().await.len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn an_expired_message_ends_by_itself() {
    let world = World::start().await;
    let body =
        json!({"audience": {"devices": ["d1"]}, "notification": {"title": "t"}, "delivery": {"ttl_s": 1}});
    let id = world.api.send(body).await;
    world.api.until_funnel(&id, "expired", 1).await;
    assert_eq!(world.api.message(&id).await["state"], "done");
    world.stop().await;
}

#[tokio::test]
async fn a_vendor_s_fault_is_retried_and_a_second_vendor_is_tried_after_a_refusal() {
    let world = World::start().await;
    world.api.answers(json!([{"token": "busy", "answer": "retry", "times": 1}])).await;
    world.api.register("d1", "busy").await;
    let only = |device: &str| {
        json!({"audience": {"devices": [device]}, "notification": {"title": "t"},
        "delivery": {"strategy": "vendor_only"}})
    };
    let id = world.api.send(only("d1")).await;
    let delivery = world.api.until_state(&id, "d1", "vendor_accepted").await;
    assert_eq!(delivery["attempts"], 2);
    // The newest token is at a vendor for which the app has no credential: the other one is used.
    world.api.register("d2", "second").await;
    world.api.put("/v1/apps/default/devices/d2/tokens/fcm", json!({"token": "first"})).await.ok();
    let id = world.api.send(only("d2")).await;
    let delivery = world.api.until_state(&id, "d2", "vendor_accepted").await;
    assert_eq!(delivery["vendor"], "record");
    world.stop().await;
}
