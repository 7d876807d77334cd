use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::store::Store;

const USER_42: &str = "42";
const ROOM: usize = 5;

fn id(n: u8) -> MessageId {
    MessageId([n; 16])
}

/// The first two waited for their moments: they stand just before the sixth and the seventh.
fn place(n: u8) -> Place {
    Place(if n <= 2 { messages::moved_to(id(n), messages::moment_of(id(n + 5))) } else { id(n) })
}

/// The order of places in small numbers, and back.
fn rank(n: u8) -> u8 {
    if n <= 2 { 2 * n + 9 } else { 2 * n }
}

fn number(rank: u8) -> u8 {
    if rank.is_multiple_of(2) { rank / 2 } else { (rank - 9) / 2 }
}

struct Stage {
    store: Store,
    clock: Arc<AtomicU64>,
    _dir: tempfile::TempDir,
}

impl Stage {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(1_000));
        let for_store = Arc::clone(&clock);
        let store = Store::open(dir.path(), Arc::new(move || for_store.load(Ordering::SeqCst))).unwrap();
        Self { store, clock, _dir: dir }
    }

    fn tick(&self, ms: u64) {
        self.clock.fetch_add(ms, Ordering::SeqCst);
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tx<'_>, &mut Inbox<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> T {
        let work = move |tx: &mut Tx<'_>| {
            let app = AppId::default();
            let mut inbox = Inbox::open(tx, &app, USER_42)?;
            let result = work(tx, &mut inbox)?;
            inbox.close(tx)?;
            Ok::<_, StoreError>(result)
        };
        self.store.write(work).await.unwrap()
    }

    async fn add(&self, n: u8, until_ms: u64) -> bool {
        self.with(move |tx, inbox| inbox.add(tx, id(n), place(n), until_ms, ROOM)).await
    }

    /// What the message says, as it stays after the message is forgotten.
    async fn say(&self, n: u8, until_ms: u64) {
        let app = AppId::default();
        let mut message = Message::unknown(&app, id(n), 1);
        message.inbox_until_ms = Some(until_ms);
        self.store.write(move |tx| keep_content(tx, &message)).await.unwrap();
    }

    async fn unread(&self) -> u64 {
        self.store.read(|tx| counts(tx, &AppId::default(), USER_42)).await.unwrap().0
    }

    /// The ids on the whole page, newest first, and whether each was read.
    async fn page(&self) -> Vec<(u8, bool)> {
        let part = Part { limit: 100, ..Part::default() };
        let (lines, is_more) =
            self.store.read(move |tx| page(tx, &AppId::default(), USER_42, part)).await.unwrap();
        assert!(!is_more);
        lines.iter().map(|line| (line.id.0[0], line.entry.state != State::Unread)).collect()
    }

    /// Records that stand in the store for inboxes.
    async fn records(&self) -> usize {
        let count = |tx: &Tx<'_>| {
            let all = [keys::inbox_ledgers(), keys::inbox_contents(), vec![b'E'], vec![b'P']];
            let count =
                |prefix: &Vec<u8>| Ok(tx.scan(Space::Messages, prefix, None, Order::Forward, 1_000)?.len());
            all.iter().map(count).sum::<Result<usize, StoreError>>()
        };
        self.store.read(count).await.unwrap()
    }
}

#[derive(Clone, Debug)]
enum Act {
    Add(u8, u64),
    Read(u8),
    ReadUpTo(Option<u8>),
    Delete(u8),
    Withdraw(u8),
    Tick(u64),
    Sweep,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let n = 1_u8..9;
    let act = prop_oneof![
        4 => (n.clone(), 1_u64..500).prop_map(|(n, ms)| Act::Add(n, ms)),
        2 => n.clone().prop_map(Act::Read),
        1 => proptest::option::of(n.clone()).prop_map(Act::ReadUpTo),
        1 => n.clone().prop_map(Act::Delete),
        1 => n.prop_map(Act::Withdraw),
        1 => (1_u64..200).prop_map(Act::Tick),
        1 => Just(Act::Sweep),
    ];
    proptest::collection::vec(act, 1..40)
}

/// What an inbox should hold: message by rank, whether it was read, until when.
#[derive(Default)]
struct Model(BTreeMap<u8, (bool, u64)>);

impl Model {
    fn act(&mut self, act: &Act, now_ms: u64) {
        match act {
            Act::Add(n, ms) => {
                if self.0.contains_key(&rank(*n)) {
                    return;
                }
                self.0.insert(rank(*n), (false, now_ms + ms));
                if self.0.len() > ROOM {
                    self.0.pop_first();
                }
            }
            Act::Read(n) => {
                self.0.iter_mut().filter(|(known, _)| **known == rank(*n)).for_each(|(_, one)| one.0 = true)
            }
            Act::ReadUpTo(last) => {
                // Where a message stood that is gone is no longer known: then its own time counts.
                let of = |n: u8| if self.0.contains_key(&rank(n)) { rank(n) } else { 2 * n };
                let last = last.map_or(u8::MAX, of);
                self.0.range_mut(..=last).for_each(|(_, one)| one.0 = true);
            }
            Act::Delete(n) | Act::Withdraw(n) => drop(self.0.remove(&rank(*n))),
            Act::Tick(_) | Act::Sweep => {}
        }
    }

    fn let_go(&mut self, now_ms: u64) {
        self.0.retain(|_, (_, until_ms)| *until_ms > now_ms);
    }
}

async fn play(acts: Vec<Act>) {
    let stage = Stage::start();
    for n in 1..9 {
        stage.say(n, u64::MAX).await;
    }
    let mut model = Model::default();
    let mut revision = 0;
    for act in acts {
        let now_ms = stage.store.now_ms();
        match act.clone() {
            Act::Add(n, ms) => drop(stage.add(n, now_ms + ms).await),
            Act::Read(n) => drop(stage.with(move |tx, inbox| inbox.read(tx, id(n))).await),
            Act::ReadUpTo(last) => {
                drop(stage.with(move |tx, inbox| inbox.read_up_to(tx, last.map(id))).await)
            }
            Act::Delete(n) => drop(stage.with(move |tx, inbox| inbox.delete(tx, id(n))).await),
            Act::Withdraw(n) => drop(stage.with(move |tx, inbox| inbox.withdraw(tx, id(n))).await),
            Act::Tick(ms) => stage.tick(ms),
            Act::Sweep => sweeper::sweep(&stage.store).await.unwrap(),
        }
        model.let_go(now_ms);
        model.act(&act, now_ms);
        model.let_go(stage.store.now_ms());
        let wanted: Vec<(u8, bool)> =
            model.0.iter().rev().map(|(rank, (is_read, _))| (number(*rank), *is_read)).collect();
        assert_eq!(stage.page().await, wanted, "after {act:?}");
        let unread = model.0.values().filter(|(is_read, _)| !is_read).count() as u64;
        assert_eq!(stage.unread().await, unread, "after {act:?}");
        let new = stage.store.read(|tx| counts(tx, &AppId::default(), USER_42)).await.unwrap().1;
        assert!(new == 0 || new >= revision, "after {act:?}: {new} after {revision}");
        revision = revision.max(new);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn counts_and_pages_are_what_a_list_of_messages_would_say(acts in acts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(acts));
    }
}

#[tokio::test]
async fn at_the_bound_the_oldest_message_goes_and_an_older_one_does_not_come_in() {
    let stage = Stage::start();
    for n in [3, 4, 5, 6, 7] {
        stage.say(n, 9_000).await;
        assert!(stage.add(n, 9_000).await);
    }
    assert!(!stage.with(|tx, inbox| inbox.add(tx, id(2), Place(id(2)), 9_000, ROOM)).await);
    stage.say(8, 9_000).await;
    assert!(stage.add(8, 9_000).await);
    let ids: Vec<u8> = stage.page().await.into_iter().map(|(n, _)| n).collect();
    assert_eq!(ids, [8, 7, 6, 5, 4]);
    let ledger = stage.store.read(|tx| ledger(tx, &AppId::default(), USER_42)).await.unwrap().unwrap();
    assert_eq!((ledger.entries, ledger.unread, ledger.crowded_out), (5, 5, 2), "nothing goes uncounted");
}

#[tokio::test]
async fn a_message_that_waited_for_its_moment_stands_where_it_came() {
    let stage = Stage::start();
    let mut message = Message::unknown(&AppId::default(), id(1), 1);
    message.start = Some(Start::At(messages::moment_of(id(6))));
    message.inbox_until_ms = Some(9_000);
    assert_eq!(Place::of(&message), place(1));
    assert_eq!(Place::of(&Message { start: None, ..message }), Place(id(1)));
    for n in [1, 3, 4, 5, 6] {
        stage.say(n, 9_000).await;
        assert!(stage.add(n, 9_000).await, "{n}");
    }
    assert!(!stage.add(1, 9_000).await, "twice");
    for elsewhere in [id(1), id(2)] {
        let again = stage.with(move |tx, inbox| inbox.add(tx, id(1), Place(elsewhere), 9_000, ROOM + 1));
        assert!(!again.await, "at another place");
    }
    let ids = |page: Vec<(u8, bool)>| page.into_iter().map(|(n, _)| n).collect::<Vec<_>>();
    assert_eq!(ids(stage.page().await), [6, 1, 5, 4, 3]);
    for before in [id(1), place(1).0] {
        let part = Part { before: Some(before), limit: 1, ..Part::default() };
        let next = move |tx: &Tx<'_>| page(tx, &AppId::default(), USER_42, part);
        assert_eq!(stage.store.read(next).await.unwrap().0[0].id, id(5));
    }
    assert_eq!(stage.with(|tx, inbox| inbox.read_up_to(tx, Some(id(1)))).await, [1, 5, 4, 3].map(id));
    assert!(stage.with(|tx, inbox| inbox.delete(tx, id(1))).await);
    assert_eq!(ids(stage.page().await), [6, 5, 4, 3]);
}

#[tokio::test]
async fn a_message_that_was_deleted_does_not_come_back_with_another_device_of_the_user() {
    let stage = Stage::start();
    let app = AppId::default();
    let mut message = Message::unknown(&app, id(1), 1);
    (message.is_expanded, message.inbox_until_ms) = (false, Some(9_000));
    let kept = message.clone();
    stage.store.write(move |tx| messages::save(tx, &kept)).await.unwrap();
    assert!(stage.add(1, 9_000).await);
    assert!(stage.with(|tx, inbox| inbox.delete(tx, id(1))).await);
    assert!(!stage.add(1, 9_000).await, "the message still looks for devices");
    assert!(!stage.with(|tx, inbox| inbox.delete(tx, id(1))).await, "twice");
    assert_eq!((stage.page().await, stage.unread().await), (vec![], 0));
}

#[tokio::test]
async fn nothing_is_left_of_inboxes_that_nobody_opens() {
    let stage = Stage::start();
    for n in [1, 2] {
        stage.say(n, 2_000 * u64::from(n)).await;
        stage.add(n, 2_000 * u64::from(n)).await;
    }
    assert_eq!(stage.records().await, 7);
    stage.tick(2_000);
    sweeper::sweep(&stage.store).await.unwrap();
    assert_eq!((stage.records().await, stage.unread().await), (4, 1));
    stage.tick(2_000);
    sweeper::sweep(&stage.store).await.unwrap();
    assert_eq!(stage.records().await, 1, "the counts, so that the next revision is a higher one");
    stage.tick(1);
    sweeper::sweep(&stage.store).await.unwrap();
    assert_eq!(stage.records().await, 0);
}
