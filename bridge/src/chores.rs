//! Tasks that follow the durable queues: audiences a chunk at a time, and moments when they come.

use std::sync::Arc;
use std::time::Duration;

use reveille_proto::ids::{AppId, MessageId};

use crate::exports;
use crate::facts::note_silence;
use crate::imports;
use crate::jobs::{self, Task};
use crate::lists;
use crate::messages;
use crate::operations;
use crate::policies::{book, crowd};
use crate::queues::{self, Check, LOOK_MAX};
use crate::rules::Rules;
use crate::shared::Shared;
use crate::store::{Space, Store, StoreError, Tx};
use crate::{schedules, sending};

/// Messages whose audiences are worked on in turn.
const JOBS_AT_ONCE: usize = 64;
/// Moments read at once.
const CHECKS_AT_ONCE: usize = 256;
/// Deliveries that checks look at in one turn, about: whoever waits for the store gets it in between.
const LOOKS_AT_ONCE: usize = 4 * LOOK_MAX;
/// Pause after the store failed.
const FAULT_PAUSE: Duration = Duration::from_secs(1);
/// Work that breaks off is tried again after so long, in milliseconds: it fails most likely again, and meanwhile holds up
/// no other.
const PUT_OFF_MS: u64 = 10 * 60 * 1000;

/// Works through every job, one chunk of each in turn, for ever.
pub(crate) async fn run_jobs(shared: Arc<Shared>) {
    loop {
        match one_turn(&shared.store, shared.rules).await {
            Ok(true) => {}
            Ok(false) => shared.store.wakes().jobs.notified().await,
            Err(error) => pause(&error).await,
        }
    }
}

async fn one_turn(store: &Store, rules: Rules) -> Result<bool, StoreError> {
    let jobs = store.read(|tx| jobs::list(tx, JOBS_AT_ONCE)).await?;
    let is_more = !jobs.is_empty();
    let mut waiting = Vec::with_capacity(jobs.len());
    for job in jobs {
        let (app, id) = (job.app.clone(), job.message);
        waiting.push((job, store.submit(move |tx| jobs::step(tx, &rules, &app, id)).await));
    }
    for (job, commit) in waiting {
        match commit.await {
            Ok(_) => {}
            Err(error) if error.is_of_one_write() => {
                tracing::error!(%error, app = %job.app, message = %job.message, "the work on a message is put off");
                store.write(move |tx| jobs::put_off(tx, &job.app, job.message, PUT_OFF_MS)).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(is_more)
}

/// Looks at everything whose moment has come, for ever.
pub(crate) async fn run_checks(shared: Arc<Shared>) {
    loop {
        let next_ms = match due(&shared.store, shared.rules).await {
            Ok(next_ms) => next_ms,
            Err(error) => {
                pause(&error).await;
                continue;
            }
        };
        let woken = shared.store.wakes().checks.notified();
        let Some(next_ms) = next_ms else {
            woken.await;
            continue;
        };
        let wait = Duration::from_millis(next_ms.saturating_sub(shared.store.now_ms()));
        let _ = tokio::time::timeout(wait, woken).await; // either way there may be something to do
    }
}

/// Does what is due; returns the moment of the next.
async fn due(store: &Store, rules: Rules) -> Result<Option<u64>, StoreError> {
    let checks = store.read(|tx| queues::checks(tx, CHECKS_AT_ONCE, LOOKS_AT_ONCE)).await?;
    let now_ms = store.now_ms();
    let mut waiting = Vec::new();
    let mut next_ms = None;
    for (due_ms, key, check) in checks {
        if due_ms > now_ms {
            next_ms = Some(due_ms);
            break;
        }
        let known = (key.clone(), check.clone());
        let work = move |tx: &mut Tx<'_>| {
            tx.remove(Space::Queues, key);
            look(tx, &rules, check)
        };
        waiting.push((known, store.submit(work).await));
    }
    let may_be_more = next_ms.is_none() && !waiting.is_empty();
    for ((key, check), commit) in waiting {
        match commit.await {
            Ok(()) => {}
            Err(error) if error.is_of_one_write() => {
                tracing::error!(%error, ?check, "what was to be looked at is put off");
                store.write(move |tx| put_off(tx, key, &check)).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(if may_be_more { Some(now_ms) } else { next_ms })
}

fn put_off(tx: &mut Tx<'_>, key: Vec<u8>, check: &Check) -> Result<(), StoreError> {
    tx.remove(Space::Queues, key);
    queues::check_at(tx, tx.now_ms().saturating_add(PUT_OFF_MS), check)
}

/// Looks at what was to be looked at now.
pub(crate) fn look(tx: &mut Tx<'_>, rules: &Rules, check: Check) -> Result<(), StoreError> {
    match check {
        Check::Silence { app, message, devices } => note_silence(tx, &app, message, &devices),
        Check::Expiry { app, message } => end_message(tx, &app, message),
        Check::Forget { app, message } => jobs::begin(tx, &app, message, Task::Forget),
        Check::ForgetOperation { id } => {
            operations::forget(tx, &id);
            Ok(())
        }
        Check::Admission { app, message, devices } => jobs::admit(tx, rules, &app, message, devices),
        Check::Crowd { app, message } => crowd::look(tx, rules, &app, message),
        Check::ForgetCount { key } => book::forget(tx, key),
        Check::Start { app, message, due_ms, done_ms } => {
            sending::look(tx, rules, &app, message, due_ms, done_ms)
        }
        Check::GoOn { app, message } => jobs::release(tx, &app, message),
        Check::Schedule { app, schedule, due_ms } => schedules::look(tx, rules, &app, &schedule, due_ms),
        Check::ForgetList { app, list } => lists::forget(tx, &app, &list),
        Check::ForgetImport { app, id } => imports::forget(tx, &app, &id),
        Check::ForgetExport { app, id } => {
            exports::forget(tx, &app, &id);
            Ok(())
        }
        Check::ForgetAnswer { key } => {
            tx.remove(Space::Messages, key);
            Ok(())
        }
    }
}

/// Ends what is in flight of a message. Whoever was not reached by then is no longer looked for.
pub(crate) fn end_message(tx: &mut Tx<'_>, app: &AppId, id: MessageId) -> Result<(), StoreError> {
    let Some(mut message) = messages::load(tx, app, id)? else { return Ok(()) };
    if jobs::is_being_forgotten(tx, app, id)? {
        return Ok(()); // nothing of it is in flight any more, and another job in its place would leave the message for good
    }
    if !message.is_expanded {
        message.is_expanded = true;
        messages::save(tx, &message)?;
    }
    jobs::begin(tx, app, id, Task::End(None))
}

async fn pause(error: &StoreError) {
    tracing::error!(%error, "the bridge cannot use its store");
    tokio::time::sleep(FAULT_PAUSE).await;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::messages::Message;
    use crate::store::keys;

    const NOW_MS: u64 = 1_700_000_000_000;

    fn id(number: u8) -> MessageId {
        MessageId([number; 16])
    }

    /// A message that cannot be read, and one that can.
    fn write_both(tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let app = AppId::default();
        tx.put(Space::Messages, keys::message(&app, id(1)), b"?".to_vec());
        messages::save(tx, &Message::unknown(&app, id(2), NOW_MS))
    }

    #[tokio::test]
    async fn what_breaks_off_is_put_off_and_holds_up_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(NOW_MS));
        let ticks = Arc::clone(&clock);
        let store = Store::open(dir.path(), Arc::new(move || ticks.load(Ordering::Relaxed))).unwrap();
        let rules = crate::config::Config::default().rules();
        let begin = |tx: &mut Tx<'_>| {
            write_both(tx)?;
            for number in [1, 2] {
                jobs::begin(tx, &AppId::default(), id(number), Task::Forget)?;
                let check = Check::Expiry { app: AppId::default(), message: id(number) };
                queues::check_at(tx, NOW_MS, &check)?;
            }
            Ok::<_, StoreError>(())
        };
        store.write(begin).await.unwrap();
        while one_turn(&store, rules).await.unwrap() {}
        let kept = store.read(|tx| tx.has(Space::Messages, &keys::message(&AppId::default(), id(2)))).await;
        assert!(!kept.unwrap(), "its job is done");
        for _ in 0..2 {
            assert_eq!(due(&store, rules).await.unwrap(), Some(NOW_MS + PUT_OFF_MS));
        }

        // It is mended, and goes on when its time has come.
        store
            .write(|tx| messages::save(tx, &Message::unknown(&AppId::default(), id(1), NOW_MS)))
            .await
            .unwrap();
        clock.store(NOW_MS + PUT_OFF_MS, Ordering::Relaxed);
        while due(&store, rules).await.unwrap().is_some_and(|due_ms| due_ms <= NOW_MS + PUT_OFF_MS) {}
        while one_turn(&store, rules).await.unwrap() {}
        let rest = store.read(|tx| jobs::is_being_forgotten(tx, &AppId::default(), id(1))).await;
        assert!(!rest.unwrap());
    }
}
