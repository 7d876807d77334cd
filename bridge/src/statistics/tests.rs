use super::row::Row;
use super::*;
use crate::store::Store;
use std::sync::atomic::{AtomicU64, Ordering};

struct World {
    dir: tempfile::TempDir,
    store: Option<Store>,
    now_ms: Arc<AtomicU64>,
}

impl World {
    fn at(now_ms: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut world = Self { dir, store: None, now_ms: Arc::new(AtomicU64::new(now_ms)) };
        world.open();
        world
    }

    fn open(&mut self) {
        if let Some(store) = self.store.take() {
            store.close();
        }
        let now_ms = Arc::clone(&self.now_ms);
        let clock = Arc::new(move || now_ms.load(Ordering::SeqCst));
        self.store = Some(Store::open(self.dir.path(), clock).unwrap());
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// One delivery that was begun and acknowledged.
    async fn deliver(&self, campaign: &str) {
        let campaign = campaign.to_owned();
        let write = move |tx: &mut Tx<'_>| {
            let whose = Whose { vendor: Some("fcm"), campaign: Some(&campaign), ..Whose::default() };
            tx.touched().statistics.note(
                &AppId::default(),
                &whose,
                Counted::default(),
                Counted::acked(),
                100,
            );
            Ok::<_, StoreError>(())
        };
        self.store().write(write).await.unwrap();
    }

    async fn read(&self, step: &str, by: Option<By>) -> Vec<Series> {
        let now_ms = self.now_ms.load(Ordering::SeqCst);
        let asked = Asked::new(Some(0), Some(now_ms + 1), Some(step), by, now_ms).unwrap();
        self.store().read(move |tx| read(tx, &AppId::default(), &asked)).await.unwrap()
    }
}

fn acked(series: &[Series]) -> u64 {
    series.iter().map(|series| series.total.counts.acked).sum()
}

#[tokio::test]
async fn a_delivery_counts_once_in_each_span_and_dimension_also_after_a_restart() {
    let mut world = World::at(DAY_MS + 5);
    for n in 0..10_u64 {
        world.now_ms.store(DAY_MS + n * 40_000, Ordering::SeqCst);
        world.deliver("sale").await;
        if n == 4 {
            world.open();
        }
    }
    for (step, points) in [("1m", 7), ("5m", 2), ("1h", 1), ("1d", 1)] {
        for by in [None, Some(By::Vendor), Some(By::Campaign), Some(By::Platform)] {
            let series = world.read(step, by).await;
            assert_eq!(
                (series.len(), series[0].points.len(), acked(&series)),
                (1, points, 10),
                "{step} {by:?}"
            );
            assert_eq!(series[0].total.ack_ms.percentiles().unwrap().count, 10);
            let of_points: u64 = series[0].points.iter().map(|point| point.row.counts.acked).sum();
            assert_eq!(of_points, 10);
        }
        assert_eq!(world.read(step, Some(By::Reason)).await, [], "nothing was lost");
    }
    assert_eq!(world.read("1d", Some(By::Platform)).await[0].value, Value::None);
}

#[tokio::test]
async fn values_without_a_row_of_their_own_are_counted_together_and_none_is_lost() {
    let mut world = World::at(DAY_MS);
    let count = VALUES_MAX + 20;
    for n in 0..count {
        world.deliver(&format!("c{n}")).await;
        if n == VALUES_MAX {
            world.open();
        }
    }
    world.deliver("c0").await;
    let series = world.read("1d", Some(By::Campaign)).await;
    assert_eq!(series.len(), VALUES_MAX + 1);
    assert_eq!(acked(&series), count as u64 + 1);
    let of = |value: &Value| series.iter().find(|series| series.value == *value).unwrap().total.counts.acked;
    assert_eq!((of(&Value::Others), of(&Value::Named("c0".to_owned()))), (20, 2));
}

#[tokio::test]
async fn a_minute_is_folded_once_whoever_does_it_and_a_clock_set_back_opens_none_again() {
    let mut world = World::at(DAY_MS);
    for (now_ms, folds, restarts) in [
        (DAY_MS, true, false),
        (DAY_MS + MINUTE_MS, false, true),
        (DAY_MS + 5 * MINUTE_MS, true, true),
        (DAY_MS + 2 * MINUTE_MS, true, false),
        (DAY_MS + 59 * MINUTE_MS, false, false),
        (DAY_MS + HOUR_MS, true, true),
        (2 * DAY_MS, false, false),
    ] {
        world.now_ms.store(now_ms, Ordering::SeqCst);
        world.deliver("sale").await;
        if folds {
            world.store().write(|tx| fold_open(tx, &AppId::default())).await.unwrap();
            world.now_ms.fetch_add(MINUTE_MS, Ordering::SeqCst);
            world.store().write(|tx| fold_open(tx, &AppId::default())).await.unwrap();
        }
        if restarts {
            world.open();
        }
    }
    for step in ["1h", "1d"] {
        for by in [None, Some(By::Campaign)] {
            assert_eq!(acked(&world.read(step, by).await), 7, "{step}");
        }
    }
    let hours: Vec<_> =
        world.read("1h", None).await[0].points.iter().map(|point| point.row.counts.acked).collect();
    assert_eq!(hours, [5, 1, 1]);
}

#[tokio::test]
async fn a_write_that_fails_counts_nothing() {
    let world = World::at(DAY_MS);
    let fail = |tx: &mut Tx<'_>| {
        let statistics = &mut tx.touched().statistics;
        statistics.note(&AppId::default(), &Whose::default(), Counted::default(), Counted::acked(), 1);
        Err::<(), _>(StoreError::Closed)
    };
    world.store().write(fail).await.unwrap_err();
    assert_eq!(world.read("1d", None).await, []);
}

#[tokio::test]
async fn old_rows_go_and_longer_spans_stay() {
    let world = World::at(DAY_MS);
    world.deliver("a").await;
    for (later_ms, kept) in [(HOUR_MS, 3), (2 * DAY_MS, 2), (62 * DAY_MS, 1), (4 * 366 * DAY_MS, 0)] {
        world.now_ms.store(DAY_MS + later_ms, Ordering::SeqCst);
        let mut left = 0;
        for span in Span::ALL {
            world.store().write(|tx| fold_open(tx, &AppId::default())).await.unwrap();
            for by in dimensions() {
                let app = AppId::default();
                assert!(!world.store().write(move |tx| prune(tx, &app, span, by)).await.unwrap());
            }
            let look = move |tx: &Tx<'_>| {
                let rows = rows_of(&AppId::default(), span, None);
                tx.scan(Space::Statistics, &rows, None, Order::Forward, 10)
            };
            left += world.store().read(look).await.unwrap().len();
        }
        assert_eq!(left, kept, "{later_ms} ms later");
    }
}

#[test]
fn rows_take_little_room() {
    let mut row = Row::default();
    for ms in (0..100_000).step_by(7) {
        row.counts.targeted += 1;
        row.ack_ms.add(ms);
        row.vendor_ms.add(ms);
    }
    assert!(serde_json::to_vec(&row).unwrap().len() < 5_000);
}
