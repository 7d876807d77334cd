//! Apps that go: all of them, and what holds them up.

use super::*;
use crate::config::Config;
use crate::credentials::KeptCredential;
use crate::devices::Device;
use crate::jobs::{self, Task};
use crate::lane::{CredentialName, Registered};
use crate::messages::{Content, Message, Notification, new_id};
use crate::operations::State;
use crate::queues;
use crate::segments::{self, Segment};
use crate::store::Store;
use crate::tokens;
use crate::vendor::{DeviceToken, Secret, VendorName};
use crate::webhooks::Webhook;
use axum::http::Uri;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

const ID: &str = "leaving";

fn fill_app(tx: &mut Tx<'_>, rules: &crate::rules::Rules, id: &str) -> Result<(), StoreError> {
    let app = AppId::parse(id).unwrap();
    apps::save(tx, &app, &App::new(&app, String::new(), 1))?;
    let credential = serde_json::from_value(json!({"vendor": "record"})).unwrap();
    credentials::save(tx, &app, &CredentialName::default(), &KeptCredential::new(credential, 1))?;
    let expr = crate::audience::Expression::parse("tag:vip").unwrap();
    let segment = Segment {
        name: "s".to_owned(),
        expr,
        description: String::new(),
        created_at_ms: 1,
        updated_at_ms: 1,
    };
    segments::save(tx, &app, &segment)?;
    let hook = Webhook {
        id: "w".to_owned(),
        url: "https://127.0.0.1:1/".to_owned(),
        secret: Secret::new("0123456789abcdef"),
        events: vec![serde_json::from_value(json!("*")).unwrap()],
        ca_pem: None,
        is_operators: true,
        updated_at_ms: 1,
    };
    webhooks::save(tx, &app, &hook)?;
    for n in 0..3 {
        let mut device = Device { id: format!("d{n}"), created_at_ms: 1, ..Device::default() };
        device.tags.insert("vip".to_owned());
        let token = DeviceToken::parse(&format!("token-{n}")).unwrap();
        let home = Registered::default().check().unwrap();
        tokens::register(tx, &app, &mut device, VendorName::Record, token, home)?;
        devices::save(tx, &app, &device)?;
    }
    let notification = Some(Notification { title: Some("t".to_owned()), ..Notification::default() });
    let audience = crate::audience::Audience {
        devices: (0..3).map(|n| format!("d{n}")).collect(),
        ..crate::audience::Audience::default()
    };
    let message = Message {
        content: Some(Content { notification, ..Content::default() }),
        audience,
        is_expanded: false,
        expires_at_ms: Some(u64::MAX / 2),
        ..Message::unknown(&app, new_id(), tx.now_ms())
    };
    crate::facts::keep_new(tx, rules, &message, true)?;
    jobs::begin(tx, &app, message.id, Task::Expand(Default::default()))?;
    jobs::step(tx, rules, &app, message.id)?;
    let key = keys::idempotency(&app, "k", "order-7");
    tx.put(Space::Messages, key.clone(), Vec::new());
    queues::check_at(tx, u64::MAX / 4, &queues::Check::ForgetAnswer { key })
}

/// Every record that has the app's name in its key or its value.
fn left(tx: &Tx<'_>, id: &str) -> Result<Vec<String>, StoreError> {
    let has = |bytes: &[u8]| bytes.windows(id.len()).any(|window| window == id.as_bytes());
    let mut found = Vec::new();
    for (space, _) in Space::ALL {
        let all = tx.scan(space, &[], None, Order::Forward, usize::MAX)?;
        let theirs = all.into_iter().filter(|(key, value)| has(key) || has(value));
        found.extend(theirs.map(|(key, _)| format!("{space:?} {}", String::from_utf8_lossy(&key))));
    }
    Ok(found)
}

/// A broker elsewhere that has no sessions, or says for some questions why it does not tell.
async fn broker(refuses: impl Fn(&Uri) -> Option<StatusCode> + Clone + Send + Sync + 'static) -> SocketAddr {
    let answer = move |uri: Uri| async move {
        match refuses(&uri) {
            Some(status) => (status, axum::Json(json!({}))),
            None => (StatusCode::OK, axum::Json(json!({"items": [], "more": false}))),
        }
    };
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, axum::Router::new().fallback(answer)).into_future());
    address
}

/// A bridge whose broker's HTTP API is at this address, and that reaches no broker over MQTT.
async fn bridge_of(broker_http: SocketAddr, dir: &tempfile::TempDir) -> crate::Bridge {
    let localhost = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let config = Config {
        http: localhost(0),
        mqtt: localhost(1),
        broker_http: Some(broker_http),
        broker_key: Secret::new("key"),
        ..Config::default()
    };
    crate::start(config, dir.path(), None).await.unwrap()
}

async fn begin_one(store: &Store, id: &str) -> Operation {
    let app = AppId::parse(id).unwrap();
    let begin_it = move |tx: &mut Tx<'_>| begin(tx, &app, App::new(&app, String::new(), 1));
    store.write(begin_it).await.unwrap().0
}

#[tokio::test]
async fn a_broker_that_is_away_is_asked_again_before_an_app_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let away_at_first = move |uri: &Uri| {
        let is_first = uri.path().ends_with("/sessions") && counted.fetch_add(1, Ordering::SeqCst) == 0;
        is_first.then_some(StatusCode::SERVICE_UNAVAILABLE)
    };
    let bridge = bridge_of(broker(away_at_first).await, &dir).await;
    let store = bridge.store();
    let operation = begin_one(&store, ID).await;
    let ended = until(&store, &operation.id, |now| now.state != State::Running).await;
    assert_eq!((ended.state, asked.load(Ordering::SeqCst)), (State::Done, 2), "{ended:?}");
    assert_eq!(ended.held_up_by, None, "{ended:?}");
    drop(store);
    bridge.stop().await;
}

#[tokio::test]
async fn an_app_whose_sessions_the_broker_does_not_end_holds_up_no_other_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let refuses = |uri: &Uri| {
        let is_held_up = uri.query().is_some_and(|query| query.contains("app=stuck"));
        is_held_up.then_some(StatusCode::FORBIDDEN)
    };
    let bridge = bridge_of(broker(refuses).await, &dir).await;
    let store = bridge.store();
    let rules = Config::default().rules();
    store.write(move |tx| fill_app(tx, &rules, "stuck")).await.unwrap();
    let stuck = begin_one(&store, "stuck").await;
    let second = begin_one(&store, "waiting").await; // in the order of their ids it stands behind
    until(&store, &second.id, |now| now.state == State::Done).await;

    let held_up = until(&store, &stuck.id, |now| now.held_up_by.is_some()).await;
    assert_eq!((held_up.state, held_up.done > 10), (State::Running, true), "{held_up:?}");
    let problem = held_up.held_up_by.unwrap();
    assert_eq!(problem["errno"], 5005, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("bridge.broker_key"), "{problem}");
    let left = store.read(|tx| left(tx, "stuck")).await.unwrap();
    assert_eq!(left.len(), 2, "all but the app and its operation needs no broker: {left:#?}");
    drop(store);
    bridge.stop().await;
}

async fn until(store: &Store, id: &str, is_so: impl Fn(&Operation) -> bool) -> Operation {
    let wait = async {
        loop {
            let id = id.to_owned();
            let now = store.read(move |tx| operations::load(tx, &id)).await.unwrap().unwrap();
            if is_so(&now) {
                return now;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap()
}

#[tokio::test]
async fn a_removed_app_leaves_nothing_but_the_operation_that_removed_it() {
    let dir = tempfile::tempdir().unwrap();
    let closed = SocketAddr::from((Ipv4Addr::LOCALHOST, 1)); // no broker: what is for it stays in the outbox
    let config =
        Config { http: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), mqtt: closed, ..Config::default() };
    let rules = config.rules();
    let bridge = crate::start(config, dir.path(), None).await.unwrap();
    let store = bridge.store();
    store.write(move |tx| fill_app(tx, &rules, ID)).await.unwrap();
    let full = store.read(|tx| left(tx, ID)).await.unwrap();
    assert!(full.len() > 20, "{full:#?}");
    let app = AppId::parse(ID).unwrap();
    let of = app.clone();
    let begin_it = move |tx: &mut Tx<'_>| {
        let record = apps::load(tx, &of)?.unwrap();
        begin(tx, &of, record)
    };
    let (operation, _) = store.write(begin_it).await.unwrap();
    assert_eq!(store.read(move |tx| apps::load(tx, &app)).await.unwrap(), None, "it is still found");
    let ended = until(&store, &operation.id, |now| now.state != State::Running).await;
    assert_eq!((ended.state, ended.done > 10), (State::Done, true), "{ended:?}");
    let rest = store.read(|tx| left(tx, ID)).await.unwrap();
    assert_eq!(rest.len(), 1, "{rest:#?}");
    drop(store);
    bridge.stop().await;
}
