//! A device against a scripted server: each message once, acknowledged when it is handled, across cuts and restarts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot prepare its scene must fail"
)]

mod support;

use reveille_client::{
    Client, HandledError, InboxLimits, Message, Messages, NetworkState, QoS, ReasonCode, Registration,
    SubscribeError, VendorPush,
};
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnAckProperties, ConnectReturnCode, Packet, PingReq, PubAck, PubComp, PubRel, Publish, SubAck,
    Subscribe, SubscribeReasonCode,
};
use std::time::{Duration, Instant};
use support::{Connection, FakeServer, directed, id, properties, soon, tagged};

async fn next(messages: &mut Messages) -> Message {
    soon("a message", messages.recv()).await.expect("the client lives")
}

/// Sends a marker and waits for it: whatever came before it and is not a message was dropped.
async fn nothing_before_marker(connection: &mut Connection, messages: &mut Messages, packet_id: u16) {
    connection.send(Packet::Publish(tagged("marker", packet_id, "", None))).await;
    let message = next(messages).await;
    assert_eq!(message.topic(), "marker");
    message.handled().await.unwrap();
    assert_eq!(connection.receive_puback().await, packet_id);
}

#[tokio::test]
async fn a_message_to_the_device_needs_no_subscription_and_is_acknowledged_only_when_handled() {
    let server = FakeServer::start().await;
    let (client, mut messages) = Client::connect(server.options("设备-1")).unwrap();
    let mut connection = server.accept(false).await;
    assert_eq!((connection.connect.client_id.as_str(), connection.connect.clean_start), ("设备-1", false));
    assert_eq!(connection.connect.keep_alive, 60);
    let properties = connection.connect.properties.clone().unwrap();
    assert_eq!(properties.session_expiry_interval, Some(7 * 24 * 3_600));
    assert_eq!(properties.receive_maximum, Some(64));
    connection.send(directed(1, false, id(1))).await;
    connection.send(directed(2, false, id(2))).await;
    let (first, second) = (next(&mut messages).await, next(&mut messages).await);
    assert_eq!((first.id(), first.title(), first.body()), (Some(id(1)), Some("标题"), Some("b")));
    second.handled().await.unwrap();
    assert_eq!(connection.receive_puback().await, 2, "the first one is still with the app");
    first.handled().await.unwrap();
    assert_eq!(connection.receive_puback().await, 1);
    client.close().await;
    assert!(messages.recv().await.is_none());
}

#[tokio::test]
async fn a_duplicate_over_the_socket_is_dropped_and_acknowledged() {
    let server = FakeServer::start().await;
    let (_client, mut messages) = Client::connect(server.options("d")).unwrap();
    let mut connection = server.accept(false).await;
    connection.send(directed(1, false, id(1))).await;
    next(&mut messages).await.handled().await.unwrap();
    assert_eq!(connection.receive_puback().await, 1);
    connection.send(directed(2, false, id(1))).await;
    assert_eq!(connection.receive_puback().await, 2);
    // The same id as a published message on an ordinary topic, for instance after `both_dedup`.
    connection.send(Packet::Publish(tagged("新闻", 3, "x", Some(id(1))))).await;
    assert_eq!(connection.receive_puback().await, 3);
    nothing_before_marker(&mut connection, &mut messages, 4).await;
}

#[tokio::test]
async fn a_restarted_app_on_the_same_inbox_file_does_not_show_a_message_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start().await;
    let options = || server.options("d").inbox_file(dir.path().join("seen"));
    let (client, mut messages) = Client::connect(options()).unwrap();
    let mut connection = server.accept(false).await;
    connection.send(directed(1, false, id(1))).await;
    connection.send(directed(2, false, id(2))).await;
    next(&mut messages).await.handled().await.unwrap();
    let unhandled = next(&mut messages).await;
    drop(client); // a crash: no DISCONNECT, and perhaps no PUBACK
    while let Some(packet) = connection.next().await {
        assert_eq!(packet, Packet::PubAck(PubAck::new(1, None)));
    }
    drop(unhandled);

    let (_client, mut messages) = restarted(options).await;
    let mut connection = server.accept(true).await;
    connection.send(directed(1, true, id(1))).await;
    connection.send(directed(2, true, id(2))).await;
    assert_eq!(connection.receive_puback().await, 1, "handled before the crash");
    let again = next(&mut messages).await;
    assert_eq!(again.id(), Some(id(2)), "shown but not handled: better twice than never");
    again.handled().await.unwrap();
    assert_eq!(connection.receive_puback().await, 2);
}

#[tokio::test]
async fn the_inbox_file_stays_small_and_keeps_the_newest_ids() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seen");
    let server = FakeServer::start().await;
    let limits = InboxLimits { ids_max: 3, ..InboxLimits::default() };
    let options = || server.options("d").inbox_file(&path).inbox_limits(limits);
    let (client, mut messages) = Client::connect(options()).unwrap();
    let mut connection = server.accept(false).await;
    for n in 1..=50 {
        connection.send(directed(n.into(), false, id(n))).await;
        next(&mut messages).await.handled().await.unwrap();
        assert_eq!(connection.receive_puback().await, u16::from(n));
    }
    client.close().await;
    let records = (std::fs::metadata(&path).unwrap().len() - 8) / 28;
    assert!(records <= 7, "{records} records for 3 ids");
    let (client, _messages) = Client::connect(options()).unwrap();
    for n in 48..=50 {
        assert_eq!(client.vendor_push_received(id(n)).await, Ok(VendorPush::Duplicate), "{n}");
    }
    assert_eq!(client.vendor_push_received(id(47)).await, Ok(VendorPush::Show));
}

/// The file's lock is free as soon as the old task has ended, which an abort does not wait for.
async fn restarted(options: impl Fn() -> reveille_client::Options) -> (Client, Messages) {
    soon("the inbox file", async {
        loop {
            match Client::connect(options()) {
                Ok(client) => return client,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_message_that_a_vendor_brought_first_is_not_shown_again_by_the_socket() {
    let server = FakeServer::start().await;
    let (client, mut messages) = Client::connect(server.options("d")).unwrap();
    let mut connection = server.accept(false).await;
    assert_eq!(client.vendor_push_received(id(1)).await, Ok(VendorPush::Show));
    assert_eq!(client.vendor_push_received(id(1)).await, Ok(VendorPush::Duplicate));
    connection.send(directed(1, false, id(1))).await;
    nothing_before_marker(&mut connection, &mut messages, 2).await;
    client.handled(id(1)).await.unwrap();
    assert_eq!(
        connection.receive_puback().await,
        1,
        "the word for the vendor's copy counts for the socket's too"
    );

    connection.send(directed(3, false, id(3))).await;
    let by_socket = next(&mut messages).await;
    assert_eq!(client.vendor_push_received(id(3)).await, Ok(VendorPush::Duplicate));
    by_socket.handled().await.unwrap();
    assert_eq!(connection.receive_puback().await, 3);
}

#[tokio::test]
async fn a_repetition_after_a_cut_is_not_shown_while_the_app_is_busy_nor_after_it() {
    let server = FakeServer::start().await;
    let (_client, mut messages) = Client::connect(server.options("d")).unwrap();
    let mut connection = server.accept(false).await;
    // Without ids: only packet identifier and DUP tell that it is the same message.
    for packet_id in [1, 2] {
        connection.send(Packet::Publish(tagged("a", packet_id, "x", None))).await;
    }
    let (busy, done_offline) = (next(&mut messages).await, next(&mut messages).await);
    drop(connection);
    let mut connection = server.accept_silently().await;
    done_offline.handled().await.unwrap();
    connection.send(connack(true)).await;
    for packet_id in [1, 2] {
        let repeated = Publish { dup: true, ..tagged("a", packet_id, "x", None) };
        connection.send(Packet::Publish(repeated)).await;
    }
    assert_eq!(connection.receive_puback().await, 2);
    nothing_before_marker(&mut connection, &mut messages, 3).await;
    busy.handled().await.unwrap();
    assert_eq!(connection.receive_puback().await, 1);
}

fn connack(session_present: bool) -> Packet {
    Packet::ConnAck(ConnAck { session_present, code: ConnectReturnCode::Success, properties: None })
}

#[tokio::test]
async fn a_message_that_the_app_dropped_comes_again() {
    let server = FakeServer::start().await;
    let (_client, mut messages) = Client::connect(server.options("d")).unwrap();
    let mut connection = server.accept(false).await;
    connection.send(directed(1, false, id(1))).await;
    drop(next(&mut messages).await);
    drop(connection);
    let mut connection = server.accept(true).await;
    connection.send(directed(1, true, id(1))).await;
    next(&mut messages).await.handled().await.unwrap();
    assert_eq!(connection.receive_puback().await, 1);
}

#[tokio::test]
async fn qos_2_is_shown_once_and_a_release_of_an_earlier_process_is_answered() {
    let server = FakeServer::start().await;
    let (_client, mut messages) = Client::connect(server.options("d")).unwrap();
    // The broker still owes the PUBREL of a message that an earlier process took: rumqttc gives up on it once.
    let mut connection = server.accept(true).await;
    connection.send(Packet::PubRel(PubRel::new(9, None))).await;
    assert_eq!(connection.next().await, None);
    let mut connection = server.accept(true).await;
    connection.send(Packet::PubRel(PubRel::new(9, None))).await;
    assert_eq!(connection.receive().await, Packet::PubComp(PubComp::new(9, None)));

    let publish = |dup| {
        let mut publish = tagged("a", 9, "x", None);
        (publish.qos, publish.dup) = (QoS::ExactlyOnce, dup);
        Packet::Publish(publish)
    };
    connection.send(publish(false)).await;
    next(&mut messages).await.handled().await.unwrap();
    assert!(matches!(connection.receive().await, Packet::PubRec(ack) if ack.pkid == 9));
    drop(connection);
    let mut connection = server.accept(true).await;
    connection.send(publish(true)).await; // PUBREC was lost
    assert!(matches!(connection.receive().await, Packet::PubRec(ack) if ack.pkid == 9));
    connection.send(Packet::PubRel(PubRel::new(9, None))).await;
    assert_eq!(connection.receive().await, Packet::PubComp(PubComp::new(9, None)));
    nothing_before_marker(&mut connection, &mut messages, 1).await;
}

#[tokio::test]
async fn a_registration_is_sent_again_until_it_is_acknowledged_and_after_a_lost_session() {
    let server = FakeServer::start().await;
    let (client, _messages) = Client::connect(server.options("d")).unwrap();
    let registration = Registration::new().token("fcm", "t1").language("zh-CN");
    let registering = async { client.register(&registration).await };
    let serving = async {
        let first = server.accept(false).await.receive_publish().await;
        assert_eq!((first.topic.as_ref(), first.dup), (&b"$push/register"[..], false));
        assert_eq!(first.payload.as_ref(), br#"{"vendor":"fcm","token":"t1","language":"zh-CN"}"#);
        let again = server.accept(true).await.receive_publish().await;
        assert_eq!((again.pkid, again.dup, &again.payload), (first.pkid, true, &first.payload));
        let mut connection = server.accept(false).await;
        let anew = connection.receive_publish().await;
        assert_eq!(
            (anew.dup, &anew.payload),
            (false, &first.payload),
            "the session is lost, the registration is not"
        );
        connection.puback(anew.pkid).await;
        (connection, first.payload)
    };
    let (result, (connection, payload)) = tokio::join!(registering, serving);
    assert_eq!(result, Ok(()));
    drop(connection);
    let restored = server.accept(false).await.receive_publish().await;
    assert_eq!((restored.topic.as_ref(), restored.payload), (&b"$push/register"[..], payload));
}

#[tokio::test]
async fn what_became_of_a_message_is_reported_and_waits_for_the_acknowledgement() {
    let server = FakeServer::start().await;
    let (client, _messages) = Client::connect(server.options("d")).unwrap();
    let reporting = async {
        client.shown(id(1)).await.unwrap();
        client.clicked(id(1)).await.unwrap();
        client.dismissed(id(1)).await.unwrap();
    };
    let serving = async {
        let mut connection = server.accept(false).await;
        for event in ["shown", "clicked", "dismissed"] {
            let publish = connection.receive_publish().await;
            assert_eq!((publish.topic.as_ref(), publish.qos), (&b"$push/event"[..], QoS::AtLeastOnce));
            let json: serde_json::Value = serde_json::from_slice(&publish.payload).unwrap();
            assert_eq!(
                (json["id"].as_str(), json["event"].as_str()),
                (Some(&*id(1).to_string()), Some(event))
            );
            assert!(json["at_ms"].is_u64());
            connection.puback(publish.pkid).await;
        }
    };
    tokio::join!(reporting, serving);
}

fn suback(packet_id: u16, codes: &[SubscribeReasonCode]) -> Packet {
    Packet::SubAck(SubAck { pkid: packet_id, return_codes: codes.to_vec(), properties: None })
}

async fn receive_subscribe(connection: &mut Connection) -> Subscribe {
    match connection.receive().await {
        Packet::Subscribe(subscribe) => subscribe,
        other => panic!("wanted SUBSCRIBE, not {other:?}"),
    }
}

#[tokio::test]
async fn a_subscription_is_granted_or_refused_and_restored_when_the_broker_lost_the_session() {
    let server = FakeServer::start().await;
    let (client, _messages) = Client::connect(server.options("d")).unwrap();
    let asking = async {
        assert_eq!(client.subscribe("传感器/#", QoS::ExactlyOnce).await, Ok(QoS::AtLeastOnce));
        let refused = Err(SubscribeError::Refused(ReasonCode::NOT_AUTHORIZED));
        assert_eq!(client.subscribe("secret", QoS::AtMostOnce).await, refused);
        assert!(matches!(client.subscribe("a/#/b", QoS::AtMostOnce).await, Err(SubscribeError::Filter(_))));
    };
    let serving = async {
        let mut connection = server.accept(false).await;
        let unanswered = receive_subscribe(&mut connection).await;
        drop(connection);
        let mut connection = server.accept(true).await;
        let again = receive_subscribe(&mut connection).await;
        assert_eq!(again.filters, unanswered.filters, "a question without an answer is asked again");
        connection.send(suback(again.pkid, &[SubscribeReasonCode::Success(QoS::AtLeastOnce)])).await;
        let refused = receive_subscribe(&mut connection).await;
        connection.send(suback(refused.pkid, &[SubscribeReasonCode::NotAuthorized])).await;
        connection
    };
    let ((), connection) = tokio::join!(asking, serving);
    drop(connection);
    let mut connection = server.accept(false).await;
    let restored = receive_subscribe(&mut connection).await;
    let filters: Vec<_> = restored.filters.iter().map(|filter| (filter.path.as_str(), filter.qos)).collect();
    assert_eq!(filters, [("传感器/#", QoS::ExactlyOnce)]);
}

#[tokio::test]
async fn the_brokers_keep_alive_is_used_for_its_connection_only_and_a_silent_broker_is_left() {
    let server = FakeServer::start().await;
    let options = server.options("d").ping_timeout(Duration::from_millis(50));
    let (client, _messages) = Client::connect(options).unwrap();
    let one_second = ConnAckProperties { server_keep_alive: Some(1), ..properties() };
    let mut connection = server.accept_with(false, one_second).await;
    let start = Instant::now();
    assert_eq!(connection.receive().await, Packet::PingReq(PingReq));
    assert_eq!(connection.next().await, None, "the unanswered ping ends the connection");
    assert!(start.elapsed() < Duration::from_secs(2), "and does not wait for the next ping");
    let connection = server.accept(true).await;
    assert_eq!(connection.connect.keep_alive, 60);
    client.online().await.unwrap();
}

#[tokio::test]
async fn another_network_is_used_at_once() {
    let server = FakeServer::start().await;
    let (client, _messages) = Client::connect(server.options("d")).unwrap();
    let mut old = server.accept(false).await;
    client.online().await.unwrap();
    client.network_changed().await;
    assert_eq!(old.next().await, None);
    let _new = server.accept(true).await;
    let mut network = client.network();
    soon(
        "the new connection",
        network.wait_for(|state| *state == NetworkState::Online { session_present: true }),
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn a_closed_client_says_goodbye_and_answers_everyone() {
    let server = FakeServer::start().await;
    let (client, mut messages) = Client::connect(server.options("d")).unwrap();
    let mut connection = server.accept(false).await;
    connection.send(directed(1, false, id(1))).await;
    let message = next(&mut messages).await;
    let registration = Registration::new();
    let (registered, ()) = tokio::join!(client.register(&registration), async {
        connection.receive_publish().await;
        client.close().await;
    });
    assert_eq!(registered, Err(reveille_client::PublishError::Closed));
    connection.expect_disconnect().await;
    assert_eq!(message.handled().await, Err(HandledError::Closed));
    assert!(client.online().await.is_err());
    assert_eq!(*client.network().borrow(), NetworkState::Closed);
}

#[tokio::test]
async fn qos_0_beyond_the_apps_room_is_dropped_and_counted_and_qos_1_still_has_room() {
    let server = FakeServer::start().await;
    let options = server.options("d").incoming_max(2).receive_maximum(3);
    let (client, mut messages) = Client::connect(options).unwrap();
    let mut connection = server.accept(false).await;
    for n in 0..5 {
        let mut publish = tagged("a", 0, n.to_string(), None);
        publish.qos = QoS::AtMostOnce;
        connection.send(Packet::Publish(publish)).await;
    }
    for packet_id in 1..=3 {
        connection.send(Packet::Publish(tagged("b", packet_id, "", None))).await;
    }
    let mut topics = Vec::new();
    for _ in 0..5 {
        topics.push(next(&mut messages).await.topic().to_owned());
    }
    assert_eq!(topics, ["a", "a", "b", "b", "b"]);
    assert_eq!(client.dropped(), 3);
}

/// The question on `$push/inbox/ask`, acknowledged.
async fn inbox_question(connection: &mut Connection) -> serde_json::Value {
    loop {
        if let Packet::Publish(publish) = connection.receive().await {
            assert_eq!(publish.topic, "$push/inbox/ask");
            connection.send(Packet::PubAck(PubAck::new(publish.pkid, None))).await;
            return serde_json::from_slice(&publish.payload).unwrap();
        }
    }
}

async fn tell_inbox(connection: &mut Connection, packet_id: u16, told: serde_json::Value) {
    let mut publish = Publish::new("$push/inbox", QoS::AtLeastOnce, told.to_string(), None);
    publish.pkid = packet_id;
    connection.send(Packet::Publish(publish)).await;
    assert_eq!(connection.receive_puback().await, packet_id, "acknowledged at once");
}

#[tokio::test]
async fn the_inbox_is_asked_for_on_each_connection_and_is_no_message_of_the_app() {
    let server = FakeServer::start().await;
    let (client, mut messages) = Client::connect(server.options("d")).unwrap();
    let inbox = client.inbox();
    let mut state = inbox.state();
    let mut connection = server.accept(true).await;
    assert_eq!(inbox_question(&mut connection).await, serde_json::json!({}));
    tell_inbox(&mut connection, 1, serde_json::json!({"user": "42", "unread": 2, "revision": 5})).await;
    let known = soon("the counts", state.wait_for(Option::is_some)).await.unwrap().clone().unwrap();
    assert_eq!((known.user.as_deref(), known.unread), (Some("42"), 2));

    let asking = tokio::spawn(async move { inbox.read(&[id(1)]).await });
    let question = inbox_question(&mut connection).await;
    assert_eq!(question["read"], serde_json::json!([id(1).to_string()]));
    let told = serde_json::json!({"request": question["request"], "user": "42", "unread": 1, "revision": 6});
    tell_inbox(&mut connection, 2, told).await;
    assert_eq!(soon("the answer", asking).await.unwrap(), Ok(1));

    drop(connection);
    let mut connection = server.accept(true).await;
    assert_eq!(inbox_question(&mut connection).await, serde_json::json!({}));
    nothing_before_marker(&mut connection, &mut messages, 9).await;
    client.close().await;
}
