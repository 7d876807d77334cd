//! A record that cannot be decoded holds up nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use reveille_proto::ids::{AppId, MessageId};
use serde_json::json;

use super::*;
use crate::config::Config;
use crate::devices::{self, Device};
use crate::jobs::{self, Task};
use crate::queues::{self, Check, Out};
use crate::store::{Order, Space, keys};
use crate::webhooks;
use crate::{apps, exports, imports};

const BROKEN: &[u8] = b"?";

fn app() -> AppId {
    AppId::default()
}

fn id(number: u8) -> MessageId {
    MessageId([number; 16])
}

/// Of each list of work one that can be read, behind one that cannot.
fn write_lists(tx: &mut Tx<'_>) -> Result<Vec<Vec<u8>>, StoreError> {
    let hook = (app(), "w".to_owned());
    let broken = vec![
        keys::check(1, 0),
        keys::job(&app(), id(1)),
        keys::outbox_entry(2),
        keys::hook_waiting(&hook.0, &hook.1, 1),
        keys::export(&app(), "1"),
    ];
    queues::check_at(tx, 2, &Check::GoOn { app: app(), message: id(2) })?;
    for key in &broken {
        tx.put(Space::Queues, key.clone(), BROKEN.to_vec());
    }
    jobs::begin(tx, &app(), id(2), Task::Forget)?;
    queues::next_number(tx)?;
    queues::tell_broker(tx, &Out::Withdraw { app: app(), message: id(2), devices: Vec::new() })?;
    let letter = json!({
        "id": "e", "name": "token.invalid", "about": "d", "at_ms": 0, "data": null,
        "attempts": 0, "first_at_ms": 0, "due_ms": 0, "reason": "",
    });
    tx.save(Space::Queues, keys::hook_waiting(&hook.0, &hook.1, 2), &letter)?;
    exports::begin(tx, &app(), exports::What::DeadTokens, imports::rows::Format::Ndjson)?;
    Ok(broken)
}

/// How many of each list can be worked on.
fn lengths(tx: &Tx<'_>) -> Result<[usize; 5], StoreError> {
    let hook = (app(), "w".to_owned());
    Ok([
        queues::checks(tx, 10, 10)?.len(),
        jobs::list(tx, 10)?.len(),
        queues::outbox_after(tx, 0, 10)?.len(),
        webhooks::waiting(tx, &hook, 0, 10)?.len(),
        exports::all(tx)?.len(),
    ])
}

fn places(tx: &Tx<'_>, broken: &[Vec<u8>]) -> Result<(usize, usize), StoreError> {
    let (mut inside, mut aside) = (0, 0);
    for key in broken {
        inside += usize::from(tx.get(Space::Queues, key)?.as_deref() == Some(BROKEN));
        aside += usize::from(tx.get(Space::Queues, &keys::set_aside(key))?.as_deref() == Some(BROKEN));
    }
    Ok((inside, aside))
}

#[tokio::test]
async fn work_that_cannot_be_decoded_is_set_aside_and_tried_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Arc::new(|| 1_000)).unwrap();
    let broken = store.write(write_lists).await.unwrap();
    assert_eq!(store.read(lengths).await.unwrap(), [1; 5], "what stands behind goes on");
    let found = store.damaged().take();
    let mut keys_found: Vec<_> = found.iter().map(|found| found.key.clone()).collect();
    let mut wanted = broken;
    keys_found.sort();
    wanted.sort();
    assert_eq!(keys_found, wanted);
    for found in found {
        tell(&store, found).await.unwrap();
    }
    let (count, keys) = (wanted.len(), wanted.clone());
    assert_eq!(store.read(move |tx| places(tx, &keys)).await.unwrap(), (0, count));
    assert_eq!(store.read(lengths).await.unwrap(), [1; 5]);
    assert!(store.damaged().take().is_empty(), "it is not looked at again");
    store.close();
    let store = Store::open(dir.path(), Arc::new(|| 1_000)).unwrap();
    assert_eq!(store.read(move |tx| places(tx, &wanted)).await.unwrap(), (count, 0));
}

#[tokio::test]
async fn what_was_written_anew_meanwhile_is_not_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Arc::new(|| 1_000)).unwrap();
    store.write(write_lists).await.unwrap();
    store.read(lengths).await.unwrap();
    let anew = |tx: &mut Tx<'_>| jobs::begin(tx, &app(), id(1), Task::Forget);
    store.write(anew).await.unwrap();
    for found in store.damaged().take() {
        tell(&store, found).await.unwrap();
    }
    assert_eq!(store.read(|tx| jobs::list(tx, 10)).await.unwrap().len(), 2);
}

#[tokio::test]
async fn an_app_an_upload_or_a_device_that_cannot_be_decoded_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Arc::new(|| 1_000)).unwrap();
    let write = |tx: &mut Tx<'_>| {
        tx.put(Space::Apps, keys::app(&AppId::parse("a").unwrap()), BROKEN.to_vec());
        apps::save(tx, &app(), &apps::App::new(&app(), String::new(), 1))?;
        tx.put(Space::Devices, keys::device(&app(), "d1"), BROKEN.to_vec());
        let mut device = Device { id: "d2".to_owned(), ..Device::default() };
        device.tags.insert("vip".to_owned());
        devices::save(tx, &app(), &device)?;
        tx.put(Space::Queues, keys::open_import(&app(), "1"), Vec::new());
        tx.put(Space::Queues, keys::import(&app(), "1"), BROKEN.to_vec());
        Ok::<_, StoreError>(())
    };
    store.write(write).await.unwrap();
    store.close();
    let store = Store::open(dir.path(), Arc::new(|| 1_000)).unwrap(); // builds the index of devices
    let read = |tx: &Tx<'_>| {
        let everybody = crate::audience::Audience { all: true, ..Default::default() };
        assert_eq!(everybody.estimate(tx, &app())?, 1);
        assert_eq!((apps::list(tx)?.len(), imports::open(tx, 10)?.len()), (1, 0));
        Ok::<_, StoreError>(())
    };
    store.read(read).await.unwrap();
    let found = store.damaged().take();
    assert_eq!(found.len(), 4, "{found:?}");
    for found in found {
        tell(&store, found).await.unwrap();
    }
    store.read(read).await.unwrap();
    assert!(store.damaged().take().is_empty(), "each is told once");
    let kept = store.read(|tx| tx.get(Space::Apps, &keys::app(&AppId::parse("a").unwrap()))).await.unwrap();
    assert_eq!(kept.as_deref(), Some(BROKEN), "no other app takes its name");
}

#[tokio::test]
async fn a_running_bridge_goes_past_checks_and_jobs_that_cannot_be_decoded() {
    let dir = tempfile::tempdir().unwrap();
    let localhost = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let config = Config { http: localhost(0), mqtt: localhost(1), ..Config::default() };
    let bridge = crate::start(config, dir.path(), None).await.unwrap();
    let store = bridge.store();
    let answer = keys::idempotency(&app(), "k", "order-7");
    let write = move |tx: &mut Tx<'_>| {
        // More than one look takes, so that its list seems to have nothing at all.
        for n in 0..300 {
            tx.put(Space::Queues, keys::check(n, n), BROKEN.to_vec());
            tx.put(Space::Queues, keys::job(&app(), id(n as u8)), BROKEN.to_vec());
        }
        tx.put(Space::Messages, answer.clone(), Vec::new());
        queues::check_at(tx, 301, &Check::ForgetAnswer { key: answer })?;
        jobs::begin(tx, &AppId::parse("z").unwrap(), id(1), Task::Forget)
    };
    store.write(write).await.unwrap();
    let is_left = |tx: &Tx<'_>| {
        let answers = tx.has(Space::Messages, &keys::idempotency(&app(), "k", "order-7"))?;
        let jobs = tx.count(Space::Queues, &keys::jobs(), 10)?;
        let checks = tx.scan(Space::Queues, &keys::check(0, 0)[..2], None, Order::Forward, 1)?;
        Ok::<_, StoreError>(answers || jobs > 0 || checks.iter().any(|(_, value)| value == BROKEN))
    };
    let wait = async {
        while store.read(is_left).await.unwrap() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap();
    drop(store);
    bridge.stop().await;
}
