//! Removing an app with all that belongs to it: a chunk at a time, again from the beginning after a crash, until a look
//! at everything finds nothing.
//!
//! From the first moment on nobody finds the app and its keys open nothing. Messages go first: whatever else would still
//! write something about a message (a call under way, a moment that comes) does nothing when the message is gone.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use reveille_proto::ids::AppId;
use serde_json::{Value, json};

use crate::apps::{self, App};
use crate::beside::{self, NotAsked};
use crate::credentials;
use crate::devices;
use crate::imports;
use crate::index::Change;
use crate::operations::{self, Kind, Operation};
use crate::shared::Shared;
use crate::store::{Order, Pair, Space, StoreError, Tx, keys};
use crate::webhooks;

/// Records that one transaction removes, so that others get their turn.
const CHUNK: usize = 500;
/// Records of all apps that one look passes in search of those of one.
const LOOK: usize = 10_000;
/// Sessions at the broker that are ended one after the other before the list is read anew.
const SESSIONS: usize = 1000;
/// Pause after the store failed.
const FAULT_PAUSE: Duration = Duration::from_secs(1);
/// Pauses before a broker that cannot be reached is asked again; each is twice as long as the one before.
const BROKER_PAUSE_MIN: Duration = Duration::from_secs(1);
const BROKER_PAUSE_MAX: Duration = Duration::from_secs(60);

/// Begins to remove an app; the operation, and the ids of the keys that open nothing any more.
pub(crate) fn begin(
    tx: &mut Tx<'_>,
    app: &AppId,
    record: App,
) -> Result<(Operation, Vec<String>), StoreError> {
    let operation = operations::begin(tx, app, Kind::AppRemoval, None)?;
    apps::save(tx, app, &App { removal: Some(operation.id.clone()), ..record })?;
    tx.touched().removals = true;
    Ok((operation, apps::remove_keys_of(tx, app)?))
}

/// Removes what waits for it, one app after the other, for ever.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut broker_pause = BROKER_PAUSE_MIN;
    loop {
        match next(&shared).await {
            Ok(Some((app, operation))) => match remove(&shared, &app, operation).await {
                Ok(true) => broker_pause = BROKER_PAUSE_MIN,
                Ok(false) => {
                    tracing::warn!(%app, "the broker cannot be asked to end the app's sessions; it is asked again");
                    tokio::time::sleep(broker_pause).await;
                    broker_pause = (broker_pause * 2).min(BROKER_PAUSE_MAX);
                }
                Err(error) => {
                    tracing::error!(%app, %error, "an app cannot be removed");
                    tokio::time::sleep(FAULT_PAUSE).await;
                }
            },
            Ok(None) => shared.store.wakes().removals.notified().await,
            Err(error) => {
                tracing::error!(%error, "the bridge cannot use its store");
                tokio::time::sleep(FAULT_PAUSE).await;
            }
        }
    }
}

async fn next(shared: &Shared) -> Result<Option<(AppId, String)>, StoreError> {
    let apps = shared.store.read(apps::records).await?;
    let leaving = |app: App| Some((AppId::parse(&app.id).ok()?, app.removal?));
    Ok(apps.into_iter().find_map(leaving))
}

/// `false`: the broker is away, and until it is back the app stays one that is being removed: nobody else would end its sessions.
async fn remove(shared: &Shared, app: &AppId, operation: String) -> Result<bool, StoreError> {
    let of = app.clone();
    for (_, kept) in shared.store.read(move |tx| credentials::list(tx, &of)).await? {
        shared.sender.forget(&kept.credential);
    }
    let mut files = imports::files_of(shared, app).await?;
    remove_records(shared, app, &operation).await?;
    let broker = remove_at_broker(shared, app).await;
    if matches!(&broker, Err(NotAsked::Refused(status, _)) if status.is_server_error()) {
        return Ok(false);
    }
    files.extend(imports::files_of(shared, app).await?);
    remove_records(shared, app, &operation).await?; // what came while the broker was asked
    // What stays, because it is gone or because of a crash here, goes at the next start.
    let _ =
        tokio::task::spawn_blocking(move || files.iter().for_each(|file| drop(fs::remove_file(file)))).await;
    shared.sender.forget_recorded(app);
    let app = app.clone();
    shared.store.write(move |tx| end(tx, &app, &operation, broker)).await?;
    Ok(true)
}

async fn remove_records(shared: &Shared, app: &AppId, operation: &str) -> Result<(), StoreError> {
    loop {
        let (app, operation) = (app.clone(), operation.to_owned());
        let step = move |tx: &mut Tx<'_>| {
            let count = remove_some(tx, &app)?;
            advance(tx, &operation, count)?;
            Ok::<_, StoreError>(count)
        };
        if shared.store.write(step).await? == 0 {
            break;
        }
    }
    remove_waiting(shared, app).await
}

fn advance(tx: &mut Tx<'_>, operation: &str, count: usize) -> Result<(), StoreError> {
    match operations::load(tx, operation)? {
        Some(mut operation) if count > 0 => operation.advance(tx, count as u64),
        Some(_) | None => Ok(()),
    }
}

/// Removes the next records of an app; how many.
fn remove_some(tx: &mut Tx<'_>, app: &AppId) -> Result<usize, StoreError> {
    let messages = tx.scan(Space::Messages, &keys::messages(app), None, Order::Forward, CHUNK)?;
    if !messages.is_empty() {
        return Ok(remove_all(tx, Space::Messages, messages));
    }
    let devices = devices::list(tx, app, None, CHUNK)?;
    if !devices.is_empty() {
        for device in &devices {
            devices::remove(tx, app, &device.id)?; // the index follows
        }
        return Ok(devices.len());
    }
    let hooks = webhooks::list(tx, app)?;
    for hook in &hooks {
        webhooks::remove(tx, &(app.clone(), hook.id.clone()))?; // whoever carries its letters hears of it
    }
    Ok(hooks.len() + sweep(tx, app)?)
}

/// Removes records of any kind whose keys begin with the app. That is how all of them are made, but for those that
/// [`remove_waiting`] looks for, the app itself and the keys of the API.
fn sweep(tx: &mut Tx<'_>, app: &AppId) -> Result<usize, StoreError> {
    let mut count = 0;
    for (space, _) in Space::ALL {
        for kind in 0..=u8::MAX {
            let is_kept = space == Space::Apps && matches!(kind, b'a' | b'k');
            if is_kept || count >= CHUNK {
                continue;
            }
            let found = tx.scan(space, &keys::of_app(kind, app), None, Order::Forward, CHUNK - count)?;
            count += remove_all(tx, space, found);
        }
    }
    for place in keys::beside_credentials(app) {
        let found = tx.scan(Space::Apps, &place, None, Order::Forward, CHUNK)?;
        count += remove_all(tx, Space::Apps, found);
    }
    Ok(count)
}

fn remove_all(tx: &mut Tx<'_>, space: Space, found: Vec<Pair>) -> usize {
    let count = found.len();
    found.into_iter().for_each(|(key, _)| tx.remove(space, key));
    count
}

/// Removes what waits for the broker or for a moment: those records have all apps in one order, and say whose they are.
async fn remove_waiting(shared: &Shared, app: &AppId) -> Result<(), StoreError> {
    for all in [keys::outbox(), keys::checks()] {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let (all, from) = (all.clone(), after.take());
            let look = move |tx: &Tx<'_>| tx.scan(Space::Queues, &all, from.as_deref(), Order::Forward, LOOK);
            let found = shared.store.read(look).await?;
            after = found.last().map(|(key, _)| key.clone());
            let is_last = found.len() < LOOK;
            let theirs = found.into_iter().filter(|(_, value)| is_of(value, app)).collect::<Vec<_>>();
            for some in theirs.chunks(CHUNK) {
                let some = some.to_vec();
                let write = move |tx: &mut Tx<'_>| Ok::<_, StoreError>(remove_all(tx, Space::Queues, some));
                shared.store.write(write).await?;
            }
            if is_last {
                break;
            }
        }
    }
    Ok(())
}

/// Whether a record says that it is an app's: by its field, or by the key of the answer that it is about.
fn is_of(value: &[u8], app: &AppId) -> bool {
    let Ok(value) = serde_json::from_slice::<Value>(value) else { return false };
    let kept = value.get("key").and_then(Value::as_array).into_iter().flatten();
    let kept: Vec<u8> = kept.filter_map(|byte| u8::try_from(byte.as_u64()?).ok()).collect();
    value.get("app").and_then(Value::as_str) == Some(app.as_str())
        || kept.get(1..).and_then(keys::app_at).as_ref() == Some(app)
}

/// Ends the app's sessions at the broker in the same process, and clears its retained messages.
async fn remove_at_broker(shared: &Shared, app: &AppId) -> Result<(), NotAsked> {
    let app = beside::encode(app.as_str());
    loop {
        let list = format!("/sessions?app={app}&limit={SESSIONS}");
        let (_, found) = beside::ask(shared, Method::GET, &list).await?;
        let ids = found.get("items").and_then(Value::as_array).into_iter().flatten();
        let ids: Vec<_> = ids.filter_map(|session| session.get("client_id")?.as_str()).collect();
        for id in &ids {
            let path = format!("/apps/{app}/sessions/{}", beside::encode(id));
            match beside::ask(shared, Method::DELETE, &path).await {
                Ok(_) | Err(NotAsked::Refused(StatusCode::NOT_FOUND, _)) => {} // it ended by itself
                Err(error) => return Err(error),
            }
        }
        if ids.len() < SESSIONS {
            break;
        }
    }
    for filter in ["%23", "$SYS%2F%23"] {
        loop {
            let path = format!("/apps/{app}/retained?filter={filter}");
            let (_, deleted) = beside::ask(shared, Method::DELETE, &path).await?;
            if deleted.get("more") != Some(&Value::Bool(true)) {
                break;
            }
        }
    }
    Ok(())
}

fn end(
    tx: &mut Tx<'_>,
    app: &AppId,
    operation: &str,
    broker: Result<(), NotAsked>,
) -> Result<(), StoreError> {
    for key in apps::remove_keys_of(tx, app)? {
        tracing::warn!(key, %app, "a key came while its app was removed; it opens nothing");
    }
    tx.remove(Space::Apps, keys::app(app));
    tx.touched().exports = true; // which removes their files
    tx.touched().index.push(Change::AppGone { app: app.clone() });
    let Some(operation) = operations::load(tx, operation)? else { return Ok(()) };
    let result = |broker: &str| Some(json!({"broker": broker}));
    match broker {
        Ok(()) => operation.finish(tx, result("sessions and retained messages are gone too")),
        Err(NotAsked::Elsewhere) => {
            operation.finish(tx, result("runs in another process: end the app's sessions there"))
        }
        Err(NotAsked::Refused(_, problem)) => operation.fail(tx, problem),
    }
}

#[cfg(test)]
mod tests {
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
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::atomic::{AtomicUsize, Ordering};

    const ID: &str = "leaving";

    fn fill(tx: &mut Tx<'_>, rules: &crate::rules::Rules) -> Result<(), StoreError> {
        let app = AppId::parse(ID).unwrap();
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
    fn left(tx: &Tx<'_>) -> Result<Vec<String>, StoreError> {
        let has = |bytes: &[u8]| bytes.windows(ID.len()).any(|window| window == ID.as_bytes());
        let mut found = Vec::new();
        for (space, _) in Space::ALL {
            let all = tx.scan(space, &[], None, Order::Forward, usize::MAX)?;
            let theirs = all.into_iter().filter(|(key, value)| has(key) || has(value));
            found.extend(theirs.map(|(key, _)| format!("{space:?} {}", String::from_utf8_lossy(&key))));
        }
        Ok(found)
    }

    /// A broker elsewhere that is away when it is first asked for sessions, and how often it was asked for them.
    async fn broker_that_comes_back() -> (SocketAddr, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let answer = move |uri: axum::http::Uri| async move {
            let is_first = uri.path().ends_with("/sessions") && counted.fetch_add(1, Ordering::SeqCst) == 0;
            match is_first {
                true => (StatusCode::SERVICE_UNAVAILABLE, axum::Json(json!({}))),
                false => (StatusCode::OK, axum::Json(json!({"items": [], "more": false}))),
            }
        };
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, axum::Router::new().fallback(answer)).into_future());
        (address, asked)
    }

    #[tokio::test]
    async fn a_broker_that_is_away_is_asked_again_before_an_app_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (broker_http, asked) = broker_that_comes_back().await;
        let localhost = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let config = Config {
            http: localhost(0),
            mqtt: localhost(1),
            broker_http: Some(broker_http),
            broker_key: Secret::new("key"),
            ..Config::default()
        };
        let bridge = crate::start(config, dir.path(), None).await.unwrap();
        let store = bridge.store();
        let begin_it = |tx: &mut Tx<'_>| {
            let app = AppId::parse(ID).unwrap();
            begin(tx, &app, App::new(&app, String::new(), 1))
        };
        let (operation, _) = store.write(begin_it).await.unwrap();
        let ended =
            tokio::time::timeout(Duration::from_secs(20), ended(&store, &operation.id)).await.unwrap();
        assert_eq!((ended.state, asked.load(Ordering::SeqCst)), (State::Done, 2), "{ended:?}");
        drop(store);
        bridge.stop().await;
    }

    async fn ended(store: &Store, id: &str) -> Operation {
        loop {
            let id = id.to_owned();
            let now = store.read(move |tx| operations::load(tx, &id)).await.unwrap().unwrap();
            if now.state != State::Running {
                return now;
            }
            tokio::task::yield_now().await;
        }
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
        store.write(move |tx| fill(tx, &rules)).await.unwrap();
        let full = store.read(left).await.unwrap();
        assert!(full.len() > 20, "{full:#?}");
        let app = AppId::parse(ID).unwrap();
        let of = app.clone();
        let begin_it = move |tx: &mut Tx<'_>| {
            let record = apps::load(tx, &of)?.unwrap();
            begin(tx, &of, record)
        };
        let (operation, _) = store.write(begin_it).await.unwrap();
        assert_eq!(store.read(move |tx| apps::load(tx, &app)).await.unwrap(), None, "it is still found");
        let ended =
            tokio::time::timeout(Duration::from_secs(20), ended(&store, &operation.id)).await.unwrap();
        assert_eq!((ended.state, ended.done > 10), (State::Done, true), "{ended:?}");
        let rest = store.read(left).await.unwrap();
        assert_eq!(rest.len(), 1, "{rest:#?}");
        drop(store);
        bridge.stop().await;
    }
}
