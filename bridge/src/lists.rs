//! Lists of devices on disk, each named by an id: an audience of any length, from an upload or from a topic's subscribers.
//!
//! A message walks through a list with a cursor. A list is kept for a while after its last use, and then goes a chunk at a
//! time.

use reveille_proto::ids::AppId;
use serde::{Deserialize, Serialize};

use crate::queues::{self, Check};
use crate::store::{Order, Space, StoreError, Tx, keys};

/// Lists in one audience at most.
pub const LISTS_MAX: usize = 16;
/// How long a list is kept after its last use, in milliseconds.
const KEPT_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// Entries that one transaction removes.
const CHUNK: usize = 1000;

/// A list of devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct List {
    /// Different devices in it.
    pub devices: u64,
    /// Whether all of it is there.
    pub is_whole: bool,
    /// Until when it is kept, in milliseconds since 1970.
    kept_until_ms: u64,
}

/// Begins a list.
pub(crate) fn begin(tx: &mut Tx<'_>, app: &AppId, id: &str) -> Result<(), StoreError> {
    let kept_until_ms = tx.now_ms().saturating_add(KEPT_MS);
    let list = List { kept_until_ms, ..List::default() };
    tx.save(Space::Messages, keys::list(app, id), &list)?;
    queues::check_at(tx, kept_until_ms, &Check::ForgetList { app: app.clone(), list: id.to_owned() })
}

/// A list by its id.
pub(crate) fn load(tx: &Tx<'_>, app: &AppId, id: &str) -> Result<Option<List>, StoreError> {
    tx.load(Space::Messages, &keys::list(app, id))
}

/// Adds devices. What is in it already changes nothing.
pub(crate) fn add(
    tx: &mut Tx<'_>,
    app: &AppId,
    id: &str,
    devices: impl IntoIterator<Item = String>,
) -> Result<u64, StoreError> {
    let Some(mut list) = load(tx, app, id)? else { return Ok(0) };
    let mut added = 0;
    for device in devices {
        let key = keys::list_entry(app, id, &device);
        if !tx.has(Space::Messages, &key)? {
            tx.put(Space::Messages, key, Vec::new());
            added += 1;
        }
    }
    list.devices += added;
    tx.save(Space::Messages, keys::list(app, id), &list)?;
    Ok(added)
}

/// Nothing is added any more: messages may use it.
pub(crate) fn finish(tx: &mut Tx<'_>, app: &AppId, id: &str) -> Result<(), StoreError> {
    match load(tx, app, id)? {
        Some(list) => tx.save(Space::Messages, keys::list(app, id), &List { is_whole: true, ..list }),
        None => Ok(()),
    }
}

/// Somebody uses it up to a moment, and that is no earlier than now: it is kept for longer.
pub(crate) fn keep(tx: &mut Tx<'_>, app: &AppId, id: &str, used_until_ms: u64) -> Result<(), StoreError> {
    let Some(list) = load(tx, app, id)? else { return Ok(()) };
    let kept_until_ms = used_until_ms.max(tx.now_ms()).saturating_add(KEPT_MS).max(list.kept_until_ms);
    tx.save(Space::Messages, keys::list(app, id), &List { kept_until_ms, ..list })
}

/// The devices of a list after one, in the order of their ids.
pub(crate) fn page(
    tx: &Tx<'_>,
    app: &AppId,
    id: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<String>, StoreError> {
    let entries = keys::list_entries(app, id);
    let after = after.map(|after| keys::list_entry(app, id, after));
    let found = tx.scan(Space::Messages, &entries, after.as_deref(), Order::Forward, limit)?;
    Ok(found.iter().filter_map(|(key, _)| keys::text_after(key, &entries)).collect())
}

/// Removes a list that nobody used for long, the next chunk of it.
pub(crate) fn forget(tx: &mut Tx<'_>, app: &AppId, id: &str) -> Result<(), StoreError> {
    let now_ms = tx.now_ms();
    let again = Check::ForgetList { app: app.clone(), list: id.to_owned() };
    if let Some(list) = load(tx, app, id)?
        && list.kept_until_ms > now_ms
    {
        return queues::check_at(tx, list.kept_until_ms, &again);
    }
    tx.remove(Space::Messages, keys::list(app, id));
    let entries = keys::list_entries(app, id);
    let found = tx.scan(Space::Messages, &entries, None, Order::Forward, CHUNK)?;
    let is_more = found.len() == CHUNK;
    found.into_iter().for_each(|(key, _)| tx.remove(Space::Messages, key));
    if is_more { queues::check_at(tx, now_ms, &again) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[tokio::test]
    async fn a_list_is_walked_in_order_and_goes_some_time_after_its_last_use() {
        let dir = tempfile::tempdir().unwrap();
        let now_ms = Arc::new(AtomicU64::new(1_000));
        let clock = Arc::clone(&now_ms);
        let store = Store::open(dir.path(), Arc::new(move || clock.load(Ordering::SeqCst))).unwrap();
        let app = AppId::default();
        let of = app.clone();
        let fill = move |tx: &mut Tx<'_>| {
            begin(tx, &of, "l")?;
            assert_eq!(add(tx, &of, "l", (0..2500).map(|n| format!("设{n:04}")))?, 2500);
            assert_eq!(add(tx, &of, "l", ["设0007".to_owned()])?, 0);
            finish(tx, &of, "l")?;
            keep(tx, &of, "l", 3_000)?;
            keep(tx, &of, "l", 2_000)
        };
        store.write(fill).await.unwrap();
        let of = app.clone();
        let walk = move |tx: &Tx<'_>| {
            let list = load(tx, &of, "l")?.unwrap();
            assert_eq!((list.devices, list.is_whole), (2500, true));
            let first = page(tx, &of, "l", None, 2)?;
            assert_eq!(first, ["设0000", "设0001"]);
            assert_eq!(page(tx, &of, "l", Some("设0001"), 1)?, ["设0002"]);
            Ok::<_, StoreError>(())
        };
        store.read(walk).await.unwrap();
        for (at_ms, left) in
            [(1_000, 2500), (2_999 + KEPT_MS, 2500), (3_000 + KEPT_MS, 1500), (0, 500), (0, 0)]
        {
            now_ms.fetch_max(at_ms, Ordering::SeqCst);
            let of = app.clone();
            store.write(move |tx| forget(tx, &of, "l")).await.unwrap();
            let of = app.clone();
            let found = store.read(move |tx| page(tx, &of, "l", None, 10_000)).await.unwrap();
            assert_eq!(found.len(), left, "{at_ms}");
        }
    }
}
