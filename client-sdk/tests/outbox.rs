//! Posted messages: on disk before the app is told, sent when there is a connection, forgotten when acknowledged.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot prepare its scene must fail"
)]

mod support;

use reveille_client::{
    Client, Messages, Options, OutboxLimits, OutboxState, PostError, Publisher, PushHints, Strategy,
};
use rumqttc::v5::mqttbytes::v5::{PubAckReason, Publish};
use std::time::Duration;
use support::{FakeServer, soon};

fn property<'a>(publish: &'a Publish, name: &str) -> Option<&'a str> {
    let properties = publish.properties.as_ref()?;
    properties.user_properties.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Nobody listens there: the port was free a moment ago.
async fn nowhere() -> Options {
    let server = FakeServer::start().await;
    server.options("d")
}

/// The file's lock is free as soon as the old tasks have ended, which an abort does not wait for.
async fn opened(options: impl Fn() -> Options) -> (Client, Messages) {
    soon("the files", async {
        loop {
            match Client::connect(options()) {
                Ok(client) => return client,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await
}

async fn empty(client: &Client) -> OutboxState {
    let mut outbox = client.outbox();
    *soon("an empty outbox", outbox.wait_for(|state| state.waiting == 0)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_posted_finds_the_message_counted() {
    let (client, _messages) = Client::connect(nowhere().await).unwrap();
    for waiting in 1..=500 {
        client.post("a", "x", &PushHints::default()).await.unwrap();
        assert_eq!(client.outbox().borrow().waiting, waiting);
    }
}

#[tokio::test]
async fn what_was_posted_offline_is_sent_by_the_next_process_in_order_and_then_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("outbox");
    let offline = nowhere().await;
    let (client, _messages) = Client::connect(offline.outbox_file(&file)).unwrap();
    let hints = PushHints {
        title: Some("标题".into()),
        strategy: Some(Strategy::BothDedup),
        ttl: Some(Duration::from_secs(3_600)),
        ..PushHints::default()
    };
    let first = client.post("设备/1", "one", &hints).await.unwrap();
    let second = client.post("设备/2", "two", &PushHints::default()).await.unwrap();
    assert_eq!(client.outbox().borrow().waiting, 2);
    drop(client); // the app is killed

    let server = FakeServer::start().await;
    let options = || server.options("d").outbox_file(&file);
    let (client, _messages) = opened(options).await;
    let mut connection = server.accept(false).await;
    let sent = connection.receive_publish().await;
    assert_eq!((sent.topic.as_ref(), sent.payload.as_ref()), ("设备/1".as_bytes(), &b"one"[..]));
    assert_eq!(property(&sent, "push-id"), Some(first.to_string().as_str()));
    assert_eq!(
        (property(&sent, "push-title"), property(&sent, "push-strategy")),
        (Some("标题"), Some("both_dedup"))
    );
    assert!(sent.properties.as_ref().unwrap().message_expiry_interval.is_some_and(|left| left <= 3_600));
    connection.puback(sent.pkid).await;
    let sent = connection.receive_publish().await;
    assert_eq!(property(&sent, "push-id"), Some(second.to_string().as_str()));
    connection.puback(sent.pkid).await;
    assert_eq!(empty(&client).await, OutboxState::default());
    client.close().await;

    let (client, _messages) = opened(options).await;
    assert_eq!(client.outbox().borrow().waiting, 0, "the next process has nothing to repeat");
}

#[tokio::test]
async fn a_message_whose_acknowledgement_was_lost_with_the_process_is_repeated_under_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start().await;
    let options = || server.options("d").outbox_file(dir.path().join("outbox"));
    let (client, _messages) = opened(options).await;
    let mut connection = server.accept(false).await;
    let id = client.post("a", "x", &PushHints::default()).await.unwrap().to_string();
    assert_eq!(property(&connection.receive_publish().await, "push-id"), Some(id.as_str()));
    drop(client);
    let (_client, _messages) = opened(options).await;
    let repeated = server.accept(true).await.receive_publish().await;
    assert_eq!(property(&repeated, "push-id"), Some(id.as_str()));
}

#[tokio::test]
async fn an_outbox_has_bounds_and_works_without_a_file() {
    let limits = OutboxLimits { messages_max: 2, bytes_max: 1_000 };
    let publisher = Publisher::connect(nowhere().await.outbox_limits(limits)).unwrap();
    let hints = PushHints::default();
    assert_eq!(publisher.post("a", vec![0; 1_000], &hints).await, Err(PostError::Full));
    assert!(matches!(publisher.post("a/+", "", &hints).await, Err(PostError::Topic(_))));
    assert!(publisher.post("a", "1", &hints).await.is_ok());
    assert!(publisher.post("a", "2", &hints).await.is_ok());
    assert_eq!(publisher.post("a", "3", &hints).await, Err(PostError::Full));
    publisher.close().await;
    assert_eq!(publisher.post("a", "4", &hints).await, Err(PostError::Closed));
}

#[tokio::test]
async fn a_refusal_for_good_and_an_expired_message_leave_the_outbox_and_are_counted() {
    let server = FakeServer::start().await;
    let (client, _messages) = Client::connect(server.options("d")).unwrap();
    let mut connection = server.accept(false).await;
    let expired = PushHints { ttl: Some(Duration::ZERO), ..PushHints::default() };
    client.post("a", "too late", &expired).await.unwrap();
    client.post("secret", "x", &PushHints::default()).await.unwrap();
    let sent = connection.receive_publish().await;
    assert_eq!(sent.payload.as_ref(), b"x");
    connection.refuse(sent.pkid, PubAckReason::NotAuthorized).await;
    assert_eq!(empty(&client).await, OutboxState { waiting: 0, refused: 1, expired: 1 });
}

#[tokio::test]
async fn a_broker_without_room_is_no_reason_to_lose_a_message() {
    let server = FakeServer::start().await;
    let (client, _messages) = Client::connect(server.options("d")).unwrap();
    let mut connection = server.accept(false).await;
    client.post("a", "x", &PushHints::default()).await.unwrap();
    let sent = connection.receive_publish().await;
    connection.refuse(sent.pkid, PubAckReason::QuotaExceeded).await;
    let again = connection.receive_publish().await;
    assert_eq!(property(&again, "push-id"), property(&sent, "push-id"));
    connection.puback(again.pkid).await;
    empty(&client).await;
}
