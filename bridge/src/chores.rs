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
use crate::store::{Space, StoreError, Tx};
use crate::{schedules, sending};

/// Messages whose audiences are worked on in turn.
const JOBS_AT_ONCE: usize = 64;
/// Moments read at once.
const CHECKS_AT_ONCE: usize = 256;
/// Deliveries that checks look at in one turn, about: whoever waits for the store gets it in between.
const LOOKS_AT_ONCE: usize = 4 * LOOK_MAX;
/// Pause after the store failed.
const FAULT_PAUSE: Duration = Duration::from_secs(1);

/// Works through every job, one chunk of each in turn, for ever.
pub(crate) async fn run_jobs(shared: Arc<Shared>) {
    loop {
        match one_turn(&shared).await {
            Ok(true) => {}
            Ok(false) => shared.store.wakes().jobs.notified().await,
            Err(error) => pause(&error).await,
        }
    }
}

async fn one_turn(shared: &Arc<Shared>) -> Result<bool, StoreError> {
    let jobs = shared.store.read(|tx| jobs::list(tx, JOBS_AT_ONCE)).await?;
    let mut waiting = Vec::with_capacity(jobs.len());
    for job in &jobs {
        let (app, id, rules) = (job.app.clone(), job.message, shared.rules);
        waiting.push(shared.store.submit(move |tx| jobs::step(tx, &rules, &app, id)).await);
    }
    for commit in waiting {
        commit.await?;
    }
    Ok(!jobs.is_empty())
}

/// Looks at everything whose moment has come, for ever.
pub(crate) async fn run_checks(shared: Arc<Shared>) {
    loop {
        let next_ms = match due(&shared).await {
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
async fn due(shared: &Arc<Shared>) -> Result<Option<u64>, StoreError> {
    let checks = shared.store.read(|tx| queues::checks(tx, CHECKS_AT_ONCE, LOOKS_AT_ONCE)).await?;
    let now_ms = shared.store.now_ms();
    let mut waiting = Vec::new();
    let mut next_ms = None;
    for (due_ms, key, check) in checks {
        if due_ms > now_ms {
            next_ms = Some(due_ms);
            break;
        }
        let rules = shared.rules;
        let work = move |tx: &mut Tx<'_>| {
            tx.remove(Space::Queues, key);
            look(tx, &rules, check)
        };
        waiting.push(shared.store.submit(work).await);
    }
    let may_be_more = next_ms.is_none() && !waiting.is_empty();
    for commit in waiting {
        commit.await?;
    }
    Ok(if may_be_more { Some(now_ms) } else { next_ms })
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
