//! Removing an app with all that belongs to it: a chunk at a time, again from the beginning after a crash, until a look
//! at everything finds nothing. Apps do not wait for each other; what holds one up stands in its operation.
//!
//! From the first moment on nobody finds the app and its keys open nothing. Messages go first: whatever else would still
//! write something about a message (a call under way, a moment that comes) does nothing when the message is gone.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use reveille_proto::ids::AppId;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::apps::{self, App};
use crate::beside::{self, NotAsked};
use crate::credentials;
use crate::devices;
use crate::http::problem::Problem;
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
/// Apps that are worked on at once; and for which the broker is asked at once.
const AT_ONCE: usize = 8;
/// Sessions at the broker that are ended one after the other before the list is read anew.
const SESSIONS: usize = 1000;
/// Pause after the list of apps could not be read.
const FAULT_PAUSE: Duration = Duration::from_secs(1);
/// Pauses before a removal that is held up is tried again; each is twice as long as the one before.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

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

/// An app that goes, and the operation that removes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Removal {
    app: AppId,
    operation: String,
}

/// Why a removal does not go on for now.
#[derive(Debug, thiserror::Error)]
enum HeldUp {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker is away or refuses the bridge; what it said.
    #[error("{}", words(.0))]
    Broker(Value),
}

/// What keeps many removals from taking all of the store, or of the broker.
struct Turns {
    store: Semaphore,
    broker: Semaphore,
}

/// Removes what waits for it, each app by a task of its own, for ever: one that is held up holds up no other.
pub(crate) async fn run(shared: Arc<Shared>) {
    let turns = Arc::new(Turns { store: Semaphore::new(AT_ONCE), broker: Semaphore::new(AT_ONCE) });
    let (mut under_way, mut tasks) = (BTreeSet::new(), JoinSet::new());
    loop {
        match shared.store.read(leaving).await {
            Ok(leaving) => {
                for removal in leaving.into_iter().filter(|removal| under_way.insert(removal.clone())) {
                    tasks.spawn(carry_out(Arc::clone(&shared), Arc::clone(&turns), removal));
                }
            }
            Err(error) => {
                tracing::error!(%error, "the bridge cannot use its store");
                tokio::time::sleep(FAULT_PAUSE).await;
                continue;
            }
        }
        tokio::select! {
            () = shared.store.wakes().removals.notified() => {}
            Some(Ok(removal)) = tasks.join_next() => {
                under_way.remove(&removal);
            }
        }
    }
}

fn leaving(tx: &Tx<'_>) -> Result<Vec<Removal>, StoreError> {
    let leaving = |app: App| Some(Removal { app: AppId::parse(&app.id).ok()?, operation: app.removal? });
    Ok(apps::records(tx)?.into_iter().filter_map(leaving).collect())
}

/// Tries until the app is gone.
async fn carry_out(shared: Arc<Shared>, turns: Arc<Turns>, removal: Removal) -> Removal {
    let (mut pause, mut told) = (PAUSE_MIN, String::new());
    while let Err(held_up) = remove(&shared, &turns, &removal).await {
        let words = held_up.to_string();
        if words != told {
            tell(&shared, &removal, held_up).await;
            told = words;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
    removal
}

/// Says once what holds up a removal, in the log and in its operation.
async fn tell(shared: &Shared, removal: &Removal, held_up: HeldUp) {
    let app = &removal.app;
    let problem = match held_up {
        HeldUp::Broker(problem) => {
            let why = words(&problem);
            tracing::warn!(%app, why, "the removal of an app waits for the broker, which is asked again: see that it runs, that bridge.broker_http is its HTTP listener, and that bridge.broker_key is one of its keys with the role admin");
            problem
        }
        HeldUp::Store(error) => {
            tracing::error!(%app, %error, "an app cannot be removed, which is tried again");
            Problem::from(error).in_a_list()
        }
    };
    let id = removal.operation.clone();
    let note = move |tx: &mut Tx<'_>| match operations::load(tx, &id)? {
        Some(operation) => operation.hold_up(tx, problem),
        None => Ok(()),
    };
    if let Err(error) = shared.store.write(note).await {
        tracing::error!(%app, %error, "what holds up a removal cannot be written down");
    }
}

/// What a problem says, in one line.
pub(crate) fn words(problem: &Value) -> String {
    let parts = ["title", "detail"].into_iter().filter_map(|name| problem.get(name)?.as_str());
    parts.collect::<Vec<_>>().join(": ")
}

/// Removes all that belongs to an app. Where the broker is away, the app stays one that is being removed: nobody else would
/// end its sessions.
async fn remove(shared: &Shared, turns: &Turns, removal: &Removal) -> Result<(), HeldUp> {
    let Removal { app, operation } = removal;
    let of = app.clone();
    for (_, kept) in shared.store.read(move |tx| credentials::list(tx, &of)).await? {
        shared.sender.forget(&kept.credential);
    }
    clear(shared, turns, removal).await?;
    let broker = {
        let _turn = turns.broker.acquire().await.map_err(|_| StoreError::Closed)?;
        remove_at_broker(shared, app).await
    };
    let broker = match broker {
        Err(NotAsked::Refused(status, problem)) if status.is_server_error() => {
            return Err(HeldUp::Broker(problem));
        }
        broker => broker,
    };
    clear(shared, turns, removal).await?; // what came while the broker was asked
    let (app, operation) = (app.clone(), operation.clone());
    Ok(shared.store.write(move |tx| end(tx, &app, &operation, broker)).await?)
}

/// Removes what the bridge itself has of an app.
async fn clear(shared: &Shared, turns: &Turns, removal: &Removal) -> Result<(), StoreError> {
    let _turn = turns.store.acquire().await.map_err(|_| StoreError::Closed)?;
    let files = imports::files_of(shared, &removal.app).await?;
    remove_records(shared, &removal.app, &removal.operation).await?;
    // What stays, because it is gone or because of a crash here, goes at the next start.
    let _ =
        tokio::task::spawn_blocking(move || files.iter().for_each(|file| drop(fs::remove_file(file)))).await;
    shared.sender.forget_recorded(&removal.app);
    Ok(())
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
    for all in [keys::outbox(), keys::checks(), keys::all_set_aside()] {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let (all, from) = (all.clone(), after.take());
            let look = move |tx: &Tx<'_>| tx.scan(Space::Queues, &all, from.as_deref(), Order::Forward, LOOK);
            let found = shared.store.read(look).await?;
            after = found.last().map(|(key, _)| key.clone());
            let is_last = found.len() < LOOK;
            let theirs = found.into_iter().filter(|pair| is_of(pair, app)).collect::<Vec<_>>();
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

/// Whether a record says that it is an app's: by its field, by the key of the answer that it is about, or, where it could not be
/// decoded, by the place where it stood.
fn is_of((key, value): &Pair, app: &AppId) -> bool {
    let stood = keys::parse_set_aside(key).and_then(|key| keys::app_at(key.get(1..)?));
    if stood.as_ref() == Some(app) {
        return true;
    }
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
mod tests;
