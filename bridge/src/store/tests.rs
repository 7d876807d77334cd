use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn clock() -> Clock {
    Arc::new(|| 1_000)
}

async fn put(store: &Store, key: &str, value: &str) {
    let (key, value) = (key.as_bytes().to_vec(), value.as_bytes().to_vec());
    store
        .write(move |tx| {
            tx.put(Space::Apps, key, value);
            Ok::<_, StoreError>(())
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_write_that_was_told_durable_is_there_after_opening_again_and_a_failed_one_left_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), clock()).unwrap();
    put(&store, "a", "1").await;
    let failed = store
        .write(|tx| {
            tx.put(Space::Apps, b"b".to_vec(), Vec::new());
            Err::<(), _>(StoreError::Closed)
        })
        .await;
    assert!(failed.is_err());
    assert!(matches!(Store::open(dir.path(), clock()), Err(OpenError::InUse(_))));
    store.close();
    let store = Store::open(dir.path(), clock()).unwrap();
    let mut all = store.read(|tx| tx.scan(Space::Apps, b"", None, Order::Forward, 10)).await.unwrap();
    all.retain(|(key, _)| *key != keys::vault_key()); // the store's own note
    assert_eq!(all, [(b"a".to_vec(), b"1".to_vec())]);
}

#[tokio::test]
async fn a_write_that_breaks_off_or_makes_a_key_too_long_leaves_nothing_and_the_next_one_runs() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), clock()).unwrap();
    let broken = store.write(|tx| {
        tx.put(Space::Apps, b"half".to_vec(), Vec::new());
        if tx.get(Space::Apps, b"half")?.is_some() {
            panic!("a fault of ours");
        }
        Ok::<_, StoreError>(())
    });
    assert!(matches!(broken.await, Err(StoreError::BrokeOff)));
    let long = vec![b'x'; tx::KEY_MAX + 1];
    for key in [long.clone(), [long.as_slice(), b"y"].concat()] {
        let written = store.write(move |tx| {
            assert_eq!(tx.get(Space::Apps, &key)?, None);
            assert_eq!(tx.scan(Space::Apps, &key, None, Order::Forward, 10)?, []);
            tx.put(Space::Apps, b"half".to_vec(), Vec::new());
            tx.put(Space::Apps, key, Vec::new());
            Ok::<_, StoreError>(())
        });
        assert!(matches!(written.await, Err(StoreError::KeyTooLong)));
    }
    put(&store, "a", "1").await;
    assert_eq!(store.read(|tx| tx.get(Space::Apps, b"half")).await.unwrap(), None);
    store.close();
    let store = Store::open(dir.path(), clock()).unwrap();
    assert!(store.read(|tx| tx.get(Space::Apps, b"a")).await.unwrap().is_some());
}

#[tokio::test]
async fn writes_run_in_order_and_see_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), clock()).unwrap();
    let mut waiting = Vec::new();
    for _ in 0..200 {
        let commit = store.submit(|tx| {
            let count = tx.load::<u64>(Space::Queues, b"count")?.unwrap_or(0) + 1;
            tx.save(Space::Queues, b"count".to_vec(), &count)?;
            Ok::<_, StoreError>(count)
        });
        waiting.push(commit.await);
    }
    for (at, commit) in (1..).zip(waiting) {
        assert_eq!(commit.await.unwrap(), at);
    }
}

#[test]
fn a_newer_format_or_a_directory_that_is_a_file_is_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("bridge")).unwrap();
    for newer in [(FORMAT + 1).to_string().as_str(), "x"] {
        fs::write(dir.path().join("bridge/format"), newer).unwrap();
        let error = Store::open(dir.path(), clock()).err().unwrap();
        assert!(matches!(&error, OpenError::Newer { found, .. } if found == newer), "{error}");
        assert!(!error.to_string().contains('\n'));
    }
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(Store::open(&file, clock()), Err(OpenError::Directory { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_transaction_reads_what_a_map_would(
        stored in prop::collection::btree_map("[a-c]{1,3}", "[x-z]", 0..12),
        changes in prop::collection::vec(("[a-c]{1,3}", prop::option::of("[x-z]")), 0..12),
        prefix in "[a-c]{0,2}",
        after in prop::option::of("[a-c]{1,3}"),
        limit in 0_usize..6,
        is_forward in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), clock()).unwrap();
        let mut model: BTreeMap<String, String> = stored.clone();
        let order = if is_forward { Order::Forward } else { Order::Backward };
        let (first, second) = (prefix.clone(), after.clone());
        let found = runtime.block_on(async {
            store.write(move |tx| {
                for (key, value) in &stored {
                    tx.put(Space::Devices, key.clone().into_bytes(), value.clone().into_bytes());
                }
                Ok::<_, StoreError>(())
            }).await.unwrap();
            let changes = changes.clone();
            store.write(move |tx| {
                for (key, value) in changes {
                    match value {
                        Some(value) => tx.put(Space::Devices, key.into_bytes(), value.into_bytes()),
                        None => tx.remove(Space::Devices, key.into_bytes()),
                    }
                }
                tx.put(Space::Messages, b"aa".to_vec(), Vec::new());
                let after = second.filter(|after| after.starts_with(&first));
                tx.scan(Space::Devices, first.as_bytes(), after.as_deref().map(str::as_bytes), order, limit)
            }).await.unwrap()
        });
        for (key, value) in changes {
            match value {
                Some(value) => model.insert(key, value),
                None => model.remove(&key),
            };
        }
        let after = after.filter(|after| after.starts_with(&prefix));
        let mut wanted: Vec<_> = model.into_iter().filter(|(key, _)| key.starts_with(&prefix)).collect();
        if !is_forward {
            wanted.reverse();
        }
        wanted.retain(|(key, _)| after.as_ref().is_none_or(|after| if is_forward { key > after } else { key < after }));
        wanted.truncate(limit);
        let found: Vec<_> = found.into_iter().map(|(k, v)| (String::from_utf8(k).unwrap(), String::from_utf8(v).unwrap())).collect();
        prop_assert_eq!(found, wanted);
    }
}
