//! Carries letters to webhooks. For each webhook some calls at once, but for whom an event is about only one: the next
//! waits until it was taken or is dead, so that events of a device arrive in order.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Answered, Hook, Letter, Webhook, post};
use crate::breaker::{Allowed, Breaker};
use crate::shared::Shared;
use crate::store::StoreError;

/// Calls of one webhook at once.
const CALLS_AT_ONCE: usize = 8;
/// Letters looked at in one turn: those beyond wait until these are done, also where these wait for a next attempt.
const WINDOW: usize = 1024;
/// Name lookup, connect, request and answer together.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// Pause after the store failed, in milliseconds.
const FAULT_PAUSE_MS: u64 = 1_000;

#[derive(Default)]
struct HookState {
    /// Whom the letters on their way are about.
    busy: HashSet<String>,
    /// When to look next; `None`: when something wakes it.
    next_ms: Option<u64>,
    /// No letter waits below this number; reading from it does not cross the tombstones of those that are done.
    head: u64,
    breaker: Breaker,
}

/// The end of a call: whether the receiver failed; `None`: this call does not tell.
type Ended = (Hook, String, Option<bool>);

struct Postman {
    shared: Arc<Shared>,
    hooks: HashMap<Hook, HookState>,
    calls: JoinSet<Ended>,
}

/// Carries letters until told to stop; then waits for the calls that are under way.
pub(crate) async fn run(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut postman = Postman { shared: Arc::clone(&shared), hooks: HashMap::new(), calls: JoinSet::new() };
    postman.find_hooks().await;
    loop {
        postman.fill().await;
        let until_next = postman.until_next();
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            () = shared.store.wakes().letters.notified() => postman.wake(),
            Some(done) = postman.calls.join_next(), if !postman.calls.is_empty() => postman.note(done.ok()),
            () = tokio::time::sleep(until_next) => {}
        }
    }
    while postman.calls.join_next().await.is_some() {}
}

impl Postman {
    async fn find_hooks(&mut self) {
        match self.shared.store.read(super::hooks_with_records).await {
            Ok(hooks) => self.look_at(hooks),
            Err(error) => tracing::error!(%error, "the webhooks cannot be read"),
        }
    }

    fn look_at(&mut self, hooks: impl IntoIterator<Item = Hook>) {
        for hook in hooks {
            self.hooks.entry(hook).or_default().next_ms = Some(0);
        }
    }

    fn wake(&mut self) {
        let hooks = self.shared.store.wakes().take_hooks();
        self.look_at(hooks);
    }

    fn note(&mut self, done: Option<Ended>) {
        let Some((hook, about, is_failure)) = done else { return };
        let now_ms = self.shared.store.now_ms();
        let state = self.hooks.entry(hook.clone()).or_default();
        state.busy.remove(&about);
        state.next_ms = Some(0);
        let Some(is_failure) = is_failure else {
            state.next_ms = Some(now_ms + FAULT_PAUSE_MS);
            return;
        };
        if state.breaker.note(is_failure, now_ms) {
            let (app, webhook) = &hook;
            if state.breaker.is_open() {
                tracing::warn!(%app, webhook, "a webhook fails again and again: its events wait while it is probed");
            } else {
                tracing::info!(%app, webhook, "a webhook works again");
            }
        }
    }

    fn until_next(&self) -> Duration {
        const LONGEST: Duration = Duration::from_secs(60);
        let next_ms = self.hooks.values().filter_map(|state| state.next_ms).min();
        let now_ms = self.shared.store.now_ms();
        next_ms.map_or(LONGEST, |next_ms| Duration::from_millis(next_ms.saturating_sub(now_ms)).min(LONGEST))
    }

    async fn fill(&mut self) {
        let now_ms = self.shared.store.now_ms();
        let is_ready = |state: &HookState| state.next_ms.is_some_and(|next_ms| next_ms <= now_ms);
        let ready: Vec<Hook> =
            self.hooks.iter().filter(|(_, state)| is_ready(state)).map(|(hook, _)| hook.clone()).collect();
        for hook in ready {
            if let Err(error) = self.fill_one(&hook, now_ms).await {
                tracing::error!(%error, "a webhook's letters cannot be read");
                self.hooks.entry(hook).or_default().next_ms = Some(now_ms + FAULT_PAUSE_MS);
            }
        }
    }

    async fn fill_one(&mut self, hook: &Hook, now_ms: u64) -> Result<(), StoreError> {
        let state = self.hooks.entry(hook.clone()).or_default();
        let Some(room) = state.room(now_ms) else { return Ok(()) };
        let (wanted, head) = (hook.clone(), state.head);
        let read = move |tx: &crate::store::Tx<'_>| {
            Ok::<_, StoreError>((super::load(tx, &wanted)?, super::waiting(tx, &wanted, head, WINDOW)?))
        };
        let (webhook, waiting) = self.shared.store.read(read).await?;
        let Some(webhook) = webhook.map(Arc::new) else { return self.purge(hook).await };
        state.head = waiting.first().map_or(state.head, |(number, _)| *number);
        for (number, letter) in state.choose(waiting, room, now_ms) {
            let (shared, hook, webhook) = (Arc::clone(&self.shared), hook.clone(), Arc::clone(&webhook));
            self.calls.spawn(async move {
                let about = letter.about.clone();
                let ended = call(&shared, &hook, &webhook, number, &letter).await;
                let is_failure = ended.inspect_err(|error| {
                    tracing::error!(%error, "an event's delivery could not be written down");
                });
                (hook, about, is_failure.ok())
            });
        }
        Ok(())
    }

    /// The webhook was removed: so is what waits for it, a chunk a turn.
    async fn purge(&mut self, hook: &Hook) -> Result<(), StoreError> {
        let wanted = hook.clone();
        let is_more = self.shared.store.write(move |tx| super::purge(tx, &wanted)).await?;
        if is_more {
            self.look_at([hook.clone()]);
        } else if self.hooks.get(hook).is_some_and(|state| state.busy.is_empty()) {
            self.hooks.remove(hook);
        }
        Ok(())
    }
}

impl HookState {
    /// How many calls may begin; `None`: none now, and it is noted when to look again.
    fn room(&mut self, now_ms: u64) -> Option<usize> {
        self.next_ms = None; // the end of a call wakes it
        let at_once = match self.breaker.allowed(now_ms) {
            Allowed::All => CALLS_AT_ONCE,
            Allowed::Probe => 1,
            Allowed::NotBefore(until_ms) => {
                self.next_ms = Some(until_ms);
                return None;
            }
        };
        let room = at_once.saturating_sub(self.busy.len());
        (room > 0).then_some(room)
    }

    /// Of the letters that wait the first about each, unless one about the same is on its way or waits for its next
    /// attempt.
    fn choose(&mut self, waiting: Vec<(u64, Letter)>, room: usize, now_ms: u64) -> Vec<(u64, Letter)> {
        let mut seen = HashSet::new();
        let mut chosen = Vec::new();
        for (number, letter) in waiting {
            if !seen.insert(letter.about.clone()) || self.busy.contains(&letter.about) {
                continue;
            }
            if letter.due_ms > now_ms {
                self.next_ms = Some(self.next_ms.map_or(letter.due_ms, |next_ms| next_ms.min(letter.due_ms)));
            } else if chosen.len() < room {
                self.busy.insert(letter.about.clone());
                chosen.push((number, letter));
            }
        }
        chosen
    }
}

/// One attempt, and its end written down. `true`: the receiver failed.
async fn call(
    shared: &Arc<Shared>,
    hook: &Hook,
    webhook: &Webhook,
    number: u64,
    letter: &Letter,
) -> Result<bool, StoreError> {
    let started = Instant::now();
    let answer = match post::request(webhook, hook.0.as_str(), letter, shared.store.now_ms()) {
        Ok(request) => {
            let reach = post::reach(webhook, &shared.webhook_hosts);
            let deadline = started + ANSWER_DEADLINE;
            shared.sender.post(request, webhook.ca_pem.as_deref(), reach, deadline).await
        }
        Err(error) => Err(error.to_string()),
    };
    let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let answered: Answered = match &answer {
        Ok(answer) => post::read(answer, took_ms, rand::random(), shared.store.now_ms()),
        Err(why) => post::lost(why, took_ms, rand::random()),
    };
    let is_failure = post::is_failure(&answered);
    let (hook, answer) = (hook.clone(), answered);
    let result = shared.store.write(move |tx| super::finish(tx, &hook, number, &answer)).await?;
    shared.metrics.webhook(result);
    Ok(is_failure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn letter(about: &str, due_ms: u64) -> Letter {
        Letter {
            id: "e".to_owned(),
            name: "token.invalid".to_owned(),
            about: about.to_owned(),
            at_ms: 0,
            data: Value::Null,
            attempts: 0,
            first_at_ms: 0,
            due_ms,
            reason: String::new(),
        }
    }

    fn numbers(chosen: &[(u64, Letter)]) -> Vec<u64> {
        chosen.iter().map(|(number, _)| *number).collect()
    }

    #[test]
    fn of_each_device_the_first_goes_and_the_next_waits_for_it() {
        let mut state = HookState::default();
        let waiting = || {
            vec![
                (1, letter("d1", 0)),
                (2, letter("d1", 0)),
                (3, letter("d2", 500)), // failed: its turn comes later
                (4, letter("d2", 0)),
                (5, letter("d3", 0)),
                (6, letter("d4", 0)),
            ]
        };
        assert_eq!(numbers(&state.choose(waiting(), 2, 100)), [1, 5]);
        assert_eq!(state.next_ms, Some(500));
        assert_eq!(numbers(&state.choose(waiting(), 8, 100)), [6], "the others are on their way");
        state.busy.clear();
        assert_eq!(numbers(&state.choose(waiting(), 8, 500)), [1, 3, 5, 6]);
    }

    #[test]
    fn a_receiver_that_fails_is_probed_with_one_call() {
        let mut state = HookState::default();
        assert_eq!(state.room(0), Some(CALLS_AT_ONCE));
        for _ in 0..5 {
            state.breaker.note(true, 0);
        }
        assert_eq!((state.room(999), state.next_ms), (None, Some(1_000)));
        assert_eq!(state.room(1_000), Some(1));
        state.busy.insert("d1".to_owned());
        assert_eq!((state.room(1_000), state.next_ms), (None, None));
    }
}
