use super::*;
use crate::store::Store;
use std::sync::atomic::{AtomicU64, Ordering};

struct World {
    _dir: tempfile::TempDir,
    store: Store,
    now_ms: Arc<AtomicU64>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now_ms = Arc::new(AtomicU64::new(1_000));
        let clock = Arc::clone(&now_ms);
        let store = Store::open(dir.path(), Arc::new(move || clock.load(Ordering::SeqCst))).unwrap();
        Self { _dir: dir, store, now_ms }
    }

    async fn with(count: u64) -> Self {
        let world = Self::new();
        for n in 1..=count {
            world.now_ms.store(n * 1_000, Ordering::SeqCst);
            world.append(&format!("key{}", n % 2), if n % 3 == 0 { "shop" } else { "default" }).await;
        }
        world
    }

    async fn append(&self, actor: &str, app: &str) {
        let record = Record {
            actor: Some(actor.to_owned()),
            app: Some(app.to_owned()),
            method: "POST".to_owned(),
            resource: format!("/v1/apps/{app}/keys"),
            outcome: "done".to_owned(),
            ..Record::default()
        };
        self.store.write(move |tx| append(tx, record)).await.unwrap();
    }

    async fn verify(&self) -> Verified {
        self.store.read(verify).await.unwrap()
    }

    async fn tamper(&self, work: impl FnOnce(&mut Tx<'_>) + Send + 'static) -> Option<Broken> {
        let write = move |tx: &mut Tx<'_>| {
            work(tx);
            Ok::<_, StoreError>(())
        };
        self.store.write(write).await.unwrap();
        self.verify().await.broken
    }

    async fn prune(&self, kept_ms: u64, records_max: u64) {
        while self.store.write(move |tx| prune(tx, kept_ms, records_max)).await.unwrap() {}
    }
}

fn value(tx: &Tx<'_>, seq: u64) -> Vec<u8> {
    tx.get(Space::Audit, &keys::audit_record(seq)).unwrap().unwrap()
}

#[tokio::test]
async fn an_untouched_chain_is_whole_and_concurrent_appends_have_no_gaps() {
    let world = World::new();
    assert_eq!(world.verify().await.broken, None);
    let mut waiting = Vec::new();
    for n in 0..50 {
        let record = Record { about: Some(n.to_string()), ..Record::default() };
        waiting.push(world.store.submit(move |tx| append(tx, record)).await);
    }
    for commit in waiting {
        commit.await.unwrap();
    }
    let found = world.verify().await;
    assert_eq!((found.records, found.first_seq, found.head_seq, found.broken), (50, 1, 50, None));
}

#[tokio::test]
async fn whatever_is_changed_the_first_broken_record_is_named() {
    type Tamper = fn(&mut Tx<'_>);
    let cases: [(&str, Tamper, Broken); 6] = [
        (
            "a text",
            |tx| {
                let mut bytes = value(tx, 4);
                *bytes.last_mut().unwrap() ^= 1;
                tx.put(Space::Audit, keys::audit_record(4), bytes);
            },
            Broken { seq: 4, why: "its text was changed" },
        ),
        (
            "a text with its hash",
            |tx| {
                let kept = value(tx, 4);
                let json = String::from_utf8(kept[64..].to_vec()).unwrap().replace("key0", "key1");
                let hash = chained(kept[..32].try_into().unwrap(), json.as_bytes());
                tx.put(Space::Audit, keys::audit_record(4), [&kept[..32], &hash, json.as_bytes()].concat());
            },
            Broken { seq: 5, why: "it is not chained to the record before it" },
        ),
        (
            "a record away",
            |tx| tx.remove(Space::Audit, keys::audit_record(4)),
            Broken { seq: 4, why: "it is missing" },
        ),
        (
            "the first away",
            |tx| tx.remove(Space::Audit, keys::audit_record(1)),
            Broken { seq: 1, why: "it is missing" },
        ),
        (
            "the last away",
            |tx| tx.remove(Space::Audit, keys::audit_record(9)),
            Broken { seq: 9, why: "it is missing" },
        ),
        (
            "two records in another order",
            |tx| {
                let (three, four) = (value(tx, 3), value(tx, 4));
                tx.put(Space::Audit, keys::audit_record(3), four);
                tx.put(Space::Audit, keys::audit_record(4), three);
            },
            Broken { seq: 3, why: "it is not chained to the record before it" },
        ),
    ];
    for (name, tamper, wanted) in cases {
        let world = World::with(9).await;
        assert_eq!(world.tamper(tamper).await, Some(wanted), "{name}");
    }
    let world = World::with(9).await;
    let found = world.tamper(|tx| {
        tx.remove(Space::Audit, keys::audit_record(9));
        let hash = value(tx, 8)[32..64].try_into().unwrap();
        tx.save(Space::Audit, keys::audit_head(), &Link { seq: 9, hash }).unwrap();
    });
    assert_eq!(found.await, Some(Broken { seq: 9, why: "it is missing" }));
}

#[tokio::test]
async fn what_is_too_old_or_too_many_goes_from_the_beginning_and_the_rest_stays_whole() {
    let world = World::with(9).await;
    world.prune(5_000, 100).await; // now is 9,000
    let found = world.verify().await;
    assert_eq!((found.records, found.first_seq, found.broken), (6, 4, None));
    world.prune(u64::MAX, 2).await;
    assert_eq!((world.verify().await.records, world.verify().await.first_seq), (2, 8));
    world.prune(0, 0).await;
    let empty = world.verify().await;
    assert_eq!((empty.records, empty.head_seq, empty.broken), (0, 9, None), "the head stays");
    world.append("key1", "shop").await;
    assert_eq!((world.verify().await.first_seq, world.verify().await.broken), (10, None));
    let found = world.tamper(|tx| tx.remove(Space::Audit, keys::audit_anchor())).await;
    assert_eq!(
        found,
        Some(Broken { seq: 1, why: "it is missing" }),
        "nothing says that the old ones may be gone"
    );
}

#[tokio::test]
async fn a_list_is_filtered_and_paged_newest_first() {
    let world = World::with(9).await;
    let list = |filter: Filter, before, limit| {
        let store = world.store.clone();
        async move {
            let (found, next) = store.read(move |tx| list(tx, &filter, before, limit)).await.unwrap();
            (found.iter().map(|record| record.seq).collect::<Vec<_>>(), next)
        }
    };
    let all = Filter::default();
    assert_eq!(list(all.clone(), None, 4).await, (vec![9, 8, 7, 6], Some(6)));
    assert_eq!(list(all.clone(), Some(6), 100).await, (vec![5, 4, 3, 2, 1], None));
    let shop = Filter { app: Some("shop".to_owned()), ..Filter::default() };
    assert_eq!(list(shop.clone(), None, 100).await.0, [9, 6, 3]);
    let key = Filter { actor: Some("key1".to_owned()), ..shop };
    assert_eq!(list(key, None, 100).await.0, [9, 3]);
    let times = Filter { from_ms: Some(3_000), to_ms: Some(5_000), ..all };
    assert_eq!(list(times, None, 100).await.0, [4, 3]);
}
