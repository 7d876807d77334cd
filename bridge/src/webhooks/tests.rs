//! Tests of letters: who gets which, what becomes of them, and what is kept.

use super::*;
use crate::store::Store;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn pattern(text: &str) -> Pattern {
    Pattern::try_from(text.to_owned()).unwrap()
}

fn webhook(id: &str, events: &[&str]) -> Webhook {
    Webhook {
        id: id.to_owned(),
        url: "https://hook.example/".to_owned(),
        secret: Secret::new("0123456789abcdef"),
        events: events.iter().map(|text| pattern(text)).collect(),
        ca_pem: None,
        is_operators: false,
        updated_at_ms: 0,
    }
}

struct World {
    store: Store,
    clock: Arc<AtomicU64>,
    _dir: tempfile::TempDir,
}

impl World {
    async fn with(webhooks: Vec<Webhook>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(1_000));
        let for_store = Arc::clone(&clock);
        let store = Store::open(dir.path(), Arc::new(move || for_store.load(Ordering::SeqCst))).unwrap();
        let world = Self { store, clock, _dir: dir };
        for webhook in webhooks {
            assert!(world.write(move |tx| save(tx, &AppId::default(), &webhook)).await);
        }
        world
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> T {
        self.store.write(work).await.unwrap()
    }

    async fn emit(&self, name: &'static str, about: &'static str) {
        self.write(move |tx| emit(tx, &AppId::default(), name, about, || json!({"n": about}))).await;
    }

    async fn waiting(&self, id: &str) -> Vec<(u64, Letter)> {
        let hook = hook(id);
        self.write(move |tx| waiting(tx, &hook, 0, 100)).await
    }

    async fn ledger(&self, id: &str) -> Ledger {
        let hook = hook(id);
        self.write(move |tx| ledger(tx, &hook)).await
    }

    async fn finish(&self, id: &str, number: u64, status: u16) -> &'static str {
        let (hook, verdict) = (
            hook(id),
            match status {
                200 => Verdict::Accepted { vendor_id: None },
                _ => Verdict::Retry { after: None, reason: format!("status {status}") },
            },
        );
        let answered = Answered { status: Some(status), verdict, took_ms: 1, random: 0 };
        self.write(move |tx| finish(tx, &hook, number, &answered)).await
    }
}

fn hook(id: &str) -> Hook {
    (AppId::default(), id.to_owned())
}

#[test]
fn a_pattern_is_a_name_or_all_of_a_kind() {
    for (text, name, fits) in [
        ("token.invalid", "token.invalid", true),
        ("token.*", "token.invalid", true),
        ("*", "message.done", true),
        ("delivery.*", "delivery.clicked", true),
        ("delivery.clicked", "delivery.shown", false),
        ("message.*", "delivery.shown", false),
    ] {
        assert_eq!(pattern(text).fits(name), fits, "{text} {name}");
    }
    for bad in ["", "token", "token.dead", "tok*", "delivery", "delivery.gone", "**", "*.invalid"] {
        assert_eq!(Pattern::try_from(bad.to_owned()), Err(UnknownEvent), "{bad}");
    }
}

#[tokio::test]
async fn each_webhook_gets_what_it_asked_for_under_one_id_in_order() {
    let world = World::with(vec![webhook("a", &["token.*"]), webhook("b", &["*"])]).await;
    world.emit(TOKEN_INVALID, "d1").await;
    world.emit(MESSAGE_DONE, "m1").await;
    let (a, b) = (world.waiting("a").await, world.waiting("b").await);
    let names = |letters: &[(u64, Letter)]| {
        letters.iter().map(|(number, letter)| (*number, letter.name.clone())).collect::<Vec<_>>()
    };
    assert_eq!(names(&a), [(1, "token.invalid".to_owned())]);
    assert_eq!(names(&b), [(1, "token.invalid".to_owned()), (2, "message.done".to_owned())]);
    assert_eq!(a[0].1.id, b[0].1.id, "one event has one id");
    let wakes: Vec<Hook> = world.store.wakes().take_hooks().into_iter().collect();
    assert_eq!(wakes, [hook("a"), hook("b")]);
}

#[tokio::test]
async fn what_fails_is_tried_for_a_day_and_then_a_dead_letter_that_can_be_replayed() {
    let world = World::with(vec![webhook("a", &["*"])]).await;
    world.emit(TOKEN_INVALID, "d1").await;
    let mut waits = Vec::new();
    loop {
        let before = world.clock.load(Ordering::SeqCst);
        match world.finish("a", 1, 500).await {
            "again" => {
                let due_ms = world.waiting("a").await[0].1.due_ms;
                waits.push(due_ms - before);
                // Twice the wait, because no chance is added here: the widest spread is drawn otherwise.
                world.clock.store(due_ms + 1_800_000, Ordering::SeqCst);
            }
            result => break assert_eq!(result, "dead"),
        }
    }
    assert!(waits.len() > 40 && waits.iter().all(|wait| *wait >= 1_000), "{waits:?}");
    assert!(world.clock.load(Ordering::SeqCst) > 24 * 3_600_000, "not before a day is over");
    assert_eq!(world.waiting("a").await, []);
    let (counts, hook_a) = (world.ledger("a").await, hook("a"));
    assert_eq!((counts.waiting, counts.dead, counts.dropped), (0, 1, 0));
    let letters = world.write(move |tx| dead(tx, &hook_a, None, Order::Forward, 10)).await;
    assert_eq!(letters[0].1.reason, "status 500");

    let none = world.write(|tx| replay(tx, &hook("a"), None, Some(&["other".to_owned()]))).await;
    assert_eq!(none, (0, None));
    assert_eq!(world.write(|tx| replay(tx, &hook("a"), None, None)).await, (1, None));
    let again = world.waiting("a").await;
    assert_eq!((again[0].1.id.clone(), again[0].1.attempts), (letters[0].1.id.clone(), 0));
    assert_eq!(world.finish("a", again[0].0, 200).await, "delivered");
    let counts = world.ledger("a").await;
    assert_eq!((counts.waiting, counts.dead), (0, 0));
    assert_eq!(world.finish("a", again[0].0, 200).await, "forgotten", "twice changes nothing");
    let attempts = world.write(|tx| attempts(tx, &hook("a"), None, Order::Backward, 1)).await;
    assert_eq!((attempts[0].1.result.as_str(), attempts[0].1.status), ("delivered", Some(200)));
}

#[tokio::test]
async fn what_a_removed_webhook_left_goes_with_it_and_nothing_of_another() {
    let world = World::with(vec![webhook("a", &["*"]), webhook("b", &["*"])]).await;
    for _ in 0..3 {
        world.emit(TOKEN_INVALID, "d1").await;
    }
    world.finish("a", 1, 500).await;
    world.write(|tx| remove(tx, &hook("a"))).await;
    world.emit(TOKEN_INVALID, "d1").await;
    assert!(!world.write(|tx| purge(tx, &hook("a"))).await);
    assert_eq!((world.waiting("a").await.len(), world.waiting("b").await.len()), (0, 4));
    assert_eq!(world.write(|tx| hooks_with_records(tx)).await, [hook("b")]);
}

#[tokio::test]
async fn letters_attempts_and_webhooks_are_bounded() {
    let world = World::with(vec![webhook("a", &["*"])]).await;
    let full =
        Ledger { last: 7, waiting: WAITING_MAX, last_dead: DEAD_MAX, dead: DEAD_MAX, ..Ledger::default() };
    world
        .write(move |tx| {
            let letter = |n: u64| Letter { id: n.to_string(), ..letter() };
            for n in [1, 2, DEAD_MAX] {
                tx.save(Space::Queues, keys::hook_dead(&AppId::default(), "a", n), &letter(n))?;
            }
            tx.save(
                Space::Queues,
                keys::hook_waiting(&AppId::default(), "a", 7),
                &Letter { attempts: 99, ..letter(7) },
            )?;
            save_ledger(tx, &hook("a"), &full)
        })
        .await;
    world.emit(TOKEN_INVALID, "d1").await;
    assert_eq!((world.ledger("a").await.waiting, world.ledger("a").await.dropped), (WAITING_MAX, 1));
    assert_eq!(world.finish("a", 7, 500).await, "dead");
    let counts = world.ledger("a").await;
    assert_eq!((counts.dead, counts.dropped), (DEAD_MAX, 2), "the oldest went");
    let letters = world.write(|tx| dead(tx, &hook("a"), None, Order::Forward, 10)).await;
    let numbers: Vec<u64> = letters.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [2, DEAD_MAX, DEAD_MAX + 1]);
    for n in 1..WEBHOOKS_MAX {
        let another = webhook(&n.to_string(), &["*"]);
        assert!(world.write(move |tx| save(tx, &AppId::default(), &another)).await);
    }
    assert!(!world.write(|tx| save(tx, &AppId::default(), &webhook("one more", &["*"]))).await);
    assert!(world.write(|tx| save(tx, &AppId::default(), &webhook("a", &["token.*"]))).await, "replaced");
    assert_eq!(world.write(|tx| list(tx, &AppId::default())).await.len(), WEBHOOKS_MAX);
}

fn letter() -> Letter {
    Letter {
        id: String::new(),
        name: TOKEN_INVALID.to_owned(),
        about: "d1".to_owned(),
        at_ms: 0,
        data: Value::Null,
        attempts: 0,
        first_at_ms: 0,
        due_ms: 0,
        reason: String::new(),
    }
}
