use super::*;
use crate::deliveries::Case;
use crate::deliveries::News;
use crate::deliveries::tests::events;
use crate::messages::Message;
use crate::plan::Event;
use crate::statistics::{self, Asked, Counts};
use crate::store::Store;
use crate::vendor::VendorName;
use proptest::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};

const MESSAGES: u8 = 3;
const DEVICES: u8 = 4;

/// Something that a broker, a vendor, a device or a crash does.
#[derive(Clone, Debug)]
enum Step {
    Tell { message: u8, device: u8, event: Event, settle: bool },
    React { message: u8, device: u8, reaction: Reaction },
    Refuse { message: u8, device: u8 },
    Restart,
}

fn steps() -> impl Strategy<Value = Step> {
    let whose = || (0..MESSAGES, 0..DEVICES);
    let reactions = vec![Reaction::Shown, Reaction::Dismissed, Reaction::Clicked];
    prop_oneof![
        12 => (whose(), events(), any::<bool>()).prop_map(|((message, device), event, settle)| Step::Tell { message, device, event, settle }),
        2 => (whose(), prop::sample::select(reactions)).prop_map(|((message, device), reaction)| Step::React { message, device, reaction }),
        1 => whose().prop_map(|(message, device)| Step::Refuse { message, device }),
        1 => Just(Step::Restart),
    ]
}

fn id(message: u8) -> MessageId {
    MessageId([message + 1; 16])
}

fn take(tx: &mut Tx<'_>, step: &Step) -> Result<(), StoreError> {
    let (Step::Tell { message, device, .. }
    | Step::React { message, device, .. }
    | Step::Refuse { message, device }) = step
    else {
        return Ok(());
    };
    let message = messages::load(tx, &AppId::default(), id(*message))?.unwrap();
    let mut case = Case::load(tx, &message, &format!("d{device}"))?;
    match step {
        Step::Tell { event, settle, .. } => {
            case.tell(tx.now_ms(), News::new(*event, format!("{event:?}")));
            if *settle { case.settle(tx) } else { case.write(tx) }
        }
        Step::React { reaction, .. } => case.react(tx, *reaction, tx.now_ms()),
        Step::Refuse { .. } => {
            case.delivery.refused.push((VendorName::Fcm, 1));
            case.write(tx)
        }
        Step::Restart => Ok(()),
    }
}

struct World {
    dir: tempfile::TempDir,
    now_ms: Arc<AtomicU64>,
}

impl World {
    fn open(&self) -> Store {
        let now_ms = Arc::clone(&self.now_ms);
        Store::open(self.dir.path(), Arc::new(move || now_ms.fetch_add(7_000, Ordering::SeqCst))).unwrap()
    }
}

/// The steps between two restarts come at once, and the writer groups them as it likes.
async fn run_all(steps: &[Step]) -> (Vec<Funnel>, Counts) {
    let world = World { dir: tempfile::tempdir().unwrap(), now_ms: Arc::new(AtomicU64::new(1_000_000)) };
    let mut store = world.open();
    for message in 0..MESSAGES {
        let message = Message::unknown(&AppId::default(), id(message), 1_000_000);
        store.write(move |tx| messages::save(tx, &message)).await.unwrap();
    }
    for together in steps.split_inclusive(|step| matches!(step, Step::Restart)) {
        let mut waiting = Vec::new();
        for step in together {
            let step = step.clone();
            waiting.push(store.submit(move |tx| take(tx, &step)).await);
        }
        for commit in waiting {
            commit.await.unwrap();
        }
        store.close();
        store = world.open();
        for message in 0..MESSAGES {
            let found = store.read(move |tx| look(tx, &AppId::default(), id(message))).await.unwrap();
            assert_eq!(found, Found::Whole, "message {message} after {together:?}");
        }
    }
    let read = |tx: &Tx<'_>| {
        let funnels = (0..MESSAGES).map(|message| deliveries::funnel(tx, &AppId::default(), id(message)));
        let asked = Asked::new(Some(0), None, Some("1d"), None, tx.now_ms()).unwrap();
        let series = statistics::read(tx, &AppId::default(), &asked)?;
        let total = series.first().map(|series| series.total.counts.clone()).unwrap_or_default();
        Ok::<_, StoreError>((funnels.collect::<Result<Vec<_>, _>>()?, total))
    };
    store.read(read).await.unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_funnel_is_the_sum_of_its_deliveries_and_statistics_count_each_once_whatever_happens(
        steps in prop::collection::vec(steps(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (funnels, counts) = runtime.block_on(run_all(&steps));
        let sum = |part: fn(&Funnel) -> u64| funnels.iter().map(part).sum::<u64>();
        prop_assert_eq!(counts.targeted, sum(|funnel| funnel.targeted));
        prop_assert_eq!(counts.filtered, sum(|funnel| funnel.filtered));
        prop_assert_eq!(counts.failed, sum(|funnel| funnel.failed));
        prop_assert_eq!(counts.expired, sum(|funnel| funnel.expired));
        prop_assert_eq!(counts.shown, sum(|funnel| funnel.shown));
        prop_assert_eq!(counts.clicked, sum(|funnel| funnel.clicked));
        prop_assert_eq!(counts.dismissed, sum(|funnel| funnel.dismissed));
        // What was withdrawn later, or taken by its device after a vendor had it, passed both.
        prop_assert_eq!(counts.suppressed, sum(|funnel| funnel.suppressed));
        prop_assert!(counts.acked >= sum(|funnel| funnel.acked) && counts.acked <= counts.targeted);
        prop_assert!(counts.vendor_accepted >= sum(|funnel| funnel.vendor_accepted) && counts.vendor_accepted <= counts.targeted);
    }
}

#[tokio::test]
async fn a_funnel_that_lies_is_found() {
    let world = World { dir: tempfile::tempdir().unwrap(), now_ms: Arc::default() };
    let store = world.open();
    let lie = |change: fn(&mut Funnel)| {
        let store = store.clone();
        async move {
            let write = move |tx: &mut Tx<'_>| {
                let app = AppId::default();
                let message = Message::unknown(&app, id(0), 1);
                messages::save(tx, &message)?;
                let mut case = Case::load(tx, &message, "d")?;
                case.tell(1, News::new(Event::Told, ""));
                case.write(tx)?;
                let mut funnel = deliveries::funnel(tx, &app, id(0))?;
                change(&mut funnel);
                deliveries::save_funnel(tx, &app, id(0), &funnel)
            };
            store.write(write).await.unwrap();
            store.read(|tx| look(tx, &AppId::default(), id(0))).await.unwrap()
        }
    };
    assert_eq!(lie(|_| {}).await, Found::Whole);
    assert_eq!(lie(|funnel| (funnel.in_flight, funnel.acked) = (0, 1)).await, Found::Wrong, "another part");
    assert_eq!(lie(|funnel| funnel.in_flight = 5).await, Found::Wrong, "another sum");
}
