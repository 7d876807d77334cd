//! Calls vendors: a lane for each app and vendor, so that one that is slow or dead slows only itself. Each lane has its
//! own queue on disk, its own calls at once, its own rate and its own breaker.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use reveille_proto::ids::MessageId;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::apps;
use crate::breaker::{Allowed, Breaker};
use crate::limiter::{Bucket, Rates};
use crate::pushes::{self, Answered};
use crate::queues::{self, Waiting};
use crate::sender::{CredentialKey, Sent};
use crate::shared::Shared;
use crate::store::{Lane, StoreError};
use crate::vendor::{Scope, Verdict};

/// Pause of a lane whose store failed, in milliseconds.
const FAULT_PAUSE_MS: u64 = 1_000;
/// Pause of a lane that the vendor throttles without saying for how long, in milliseconds.
const THROTTLE_MS: u64 = 5_000;
/// Longest pause of a whole lane, in milliseconds; each push has its own next attempt besides.
const PAUSE_MAX_MS: u64 = 60_000;
/// A queue is read from this long before its first entry seen, in milliseconds: reading from its beginning would
/// cross the tombstones of all that was done.
const READ_BACK_MS: u64 = 1_000;
/// And from its beginning this often, in case the clock was set back, in milliseconds.
const READ_ALL_EVERY_MS: u64 = 60_000;

type PushKey = (MessageId, String);

#[derive(Default)]
struct LaneState {
    busy: HashSet<PushKey>,
    /// No call before this moment.
    paused_until_ms: u64,
    /// When to look next; `None`: when something wakes it.
    next_ms: Option<u64>,
    /// Nothing waits from before this moment.
    head_ms: u64,
    read_all_at_ms: u64,
    breaker: Breaker,
    bucket: Bucket,
}

/// What the end of a call says about its lane.
#[derive(Default)]
struct CallEnd {
    /// The lane pauses until this moment.
    paused_until_ms: u64,
    /// Whether the vendor works; `None`: this call does not tell.
    is_failure: Option<bool>,
}

struct Worker {
    shared: Arc<Shared>,
    lanes: HashMap<Lane, LaneState>,
    calls: JoinSet<(Lane, PushKey, CallEnd)>,
}

/// Calls vendors until told to stop; then waits for the calls that are under way.
pub(crate) async fn run(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut worker = Worker { shared: Arc::clone(&shared), lanes: HashMap::new(), calls: JoinSet::new() };
    worker.find_lanes().await;
    loop {
        worker.fill().await;
        let until_next = worker.until_next();
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            () = shared.store.wakes().pushes.notified() => worker.wake(),
            Some(done) = worker.calls.join_next(), if !worker.calls.is_empty() => worker.note(done.ok()),
            () = tokio::time::sleep(until_next) => {}
        }
    }
    while worker.calls.join_next().await.is_some() {}
}

impl Worker {
    async fn find_lanes(&mut self) {
        match self.shared.store.read(queues::lanes).await {
            Ok(lanes) => self.look_at(lanes, 0),
            Err(error) => tracing::error!(%error, "the vendors' queues cannot be read"),
        }
    }

    fn look_at(&mut self, lanes: impl IntoIterator<Item = Lane>, at_ms: u64) {
        for lane in lanes {
            let state = self.lanes.entry(lane).or_default();
            state.next_ms = Some(state.next_ms.map_or(at_ms, |next_ms| next_ms.min(at_ms)));
        }
    }

    fn wake(&mut self) {
        let lanes = self.shared.store.wakes().take_lanes();
        self.look_at(lanes, 0);
    }

    fn note(&mut self, done: Option<(Lane, PushKey, CallEnd)>) {
        let Some((lane, key, end)) = done else { return };
        let now_ms = self.shared.store.now_ms();
        let state = self.lanes.entry(lane.clone()).or_default();
        state.busy.remove(&key);
        state.paused_until_ms = state.paused_until_ms.max(end.paused_until_ms);
        state.next_ms = Some(0); // there is room for another
        let Some(is_failure) = end.is_failure else { return };
        if state.breaker.note(is_failure, now_ms) {
            let (app, vendor) = &lane;
            self.shared.metrics.breaker(vendor.as_str(), state.breaker.is_open());
            if state.breaker.is_open() {
                tracing::warn!(%app, %vendor, "a vendor fails again and again: pushes wait while it is probed");
            } else {
                tracing::info!(%app, %vendor, "a vendor works again");
            }
        }
    }

    fn until_next(&self) -> Duration {
        const LONGEST: Duration = Duration::from_secs(60);
        let next_ms =
            self.lanes.values().filter_map(|lane| Some(lane.next_ms?.max(lane.paused_until_ms))).min();
        let now_ms = self.shared.store.now_ms();
        next_ms.map_or(LONGEST, |next_ms| Duration::from_millis(next_ms.saturating_sub(now_ms)).min(LONGEST))
    }

    async fn fill(&mut self) {
        let now_ms = self.shared.store.now_ms();
        let is_ready = |state: &LaneState| {
            state.next_ms.is_some_and(|next_ms| next_ms <= now_ms) && state.paused_until_ms <= now_ms
        };
        let ready: Vec<Lane> =
            self.lanes.iter().filter(|(_, state)| is_ready(state)).map(|(lane, _)| lane.clone()).collect();
        for lane in ready {
            if let Err(error) = self.fill_lane(&lane, now_ms).await {
                tracing::error!(%error, "a vendor's queue cannot be read");
                self.lanes.entry(lane).or_default().paused_until_ms = now_ms + FAULT_PAUSE_MS;
            }
        }
    }

    async fn fill_lane(&mut self, lane: &Lane, now_ms: u64) -> Result<(), StoreError> {
        let state = self.lanes.entry(lane.clone()).or_default();
        let Some(room) = state.room(self.shared.calls_at_once, now_ms) else { return Ok(()) };
        let (limit, for_read, from_ms) = (room + state.busy.len() + 1, lane.clone(), state.read_from(now_ms));
        let read = move |tx: &crate::store::Tx<'_>| {
            let (app, vendor) = &for_read;
            Ok::<_, StoreError>((
                queues::pushes_from(tx, &for_read, from_ms, limit)?,
                apps::rates(tx, app, *vendor)?,
            ))
        };
        let (waiting, rates) = self.shared.store.read(read).await?;
        state.head_ms = waiting.first().map_or(now_ms, |first| first.due_ms.min(now_ms));
        state.next_ms = None;
        let is_new = |waiting: &Waiting| !state.busy.contains(&(waiting.message, waiting.device.clone()));
        let waiting: Vec<Waiting> = waiting.into_iter().filter(is_new).collect();
        let due = waiting.iter().take_while(|waiting| waiting.due_ms <= now_ms).count();
        let calls = state.granted(&rates, due.min(room), now_ms);
        // A full lane is woken by the end of a call, an empty bucket by its next drop.
        state.next_ms = match waiting.get(due) {
            _ if calls < due.min(room) => Some(now_ms),
            Some(next) if due <= room => Some(next.due_ms),
            Some(_) | None => None,
        };
        for waiting in waiting.into_iter().take(calls) {
            let key = (waiting.message, waiting.device.clone());
            state.busy.insert(key.clone());
            let (shared, lane) = (Arc::clone(&self.shared), lane.clone());
            self.calls.spawn(async move {
                let end = call(&shared, &lane, waiting).await.unwrap_or_else(|error| {
                    tracing::error!(%error, "a push could not be written down");
                    CallEnd { paused_until_ms: shared.store.now_ms() + FAULT_PAUSE_MS, is_failure: None }
                });
                (lane, key, end)
            });
        }
        Ok(())
    }
}

impl LaneState {
    /// How many calls may begin; `None`: none now, and it is noted when to look again.
    fn room(&mut self, calls_at_once: usize, now_ms: u64) -> Option<usize> {
        let at_once = match self.breaker.allowed(now_ms) {
            Allowed::All => calls_at_once,
            Allowed::Probe => 1,
            Allowed::NotBefore(until_ms) => {
                self.paused_until_ms = self.paused_until_ms.max(until_ms);
                return None;
            }
        };
        let room = at_once.saturating_sub(self.busy.len());
        if room == 0 {
            self.next_ms = None; // the end of a call wakes it
            return None;
        }
        Some(room)
    }

    /// How many of `wanted` calls the rate allows now.
    fn granted(&mut self, rates: &Rates, wanted: usize, now_ms: u64) -> usize {
        let Some(per_second) = rates.per_second else { return wanted };
        let granted = self.bucket.take(per_second, wanted, now_ms);
        if granted < wanted {
            self.paused_until_ms = self.paused_until_ms.max(self.bucket.next_ms(per_second, now_ms));
        }
        granted
    }

    fn read_from(&mut self, now_ms: u64) -> u64 {
        if now_ms.saturating_sub(self.read_all_at_ms) >= READ_ALL_EVERY_MS {
            self.read_all_at_ms = now_ms;
            return 0;
        }
        self.head_ms.saturating_sub(READ_BACK_MS)
    }
}

/// One push: written down, called, written down.
async fn call(shared: &Arc<Shared>, lane: &Lane, waiting: Waiting) -> Result<CallEnd, StoreError> {
    let (rules, its_lane, entry) = (shared.rules, lane.clone(), waiting.clone());
    let begun = shared.store.write(move |tx| pushes::begin(tx, &rules, &its_lane, &entry)).await?;
    let Some(call) = begun else { return Ok(CallEnd::default()) };
    let (app, vendor) = lane.clone();
    let key = CredentialKey { app: app.clone(), vendor };
    let sent = shared.sender.send(&key, &call.credential, &call.push).await;
    shared.metrics.push(vendor.as_str(), sent.verdict.name(), sent.took, sent.outcome_known);
    let end = CallEnd {
        paused_until_ms: pause_of(&sent.verdict, shared.store.now_ms()),
        is_failure: is_failure(&sent),
    };
    let answered = Answered {
        app,
        vendor,
        message: waiting.message,
        device: waiting.device,
        push: call.push,
        sent,
        random: rand::random(),
    };
    shared.store.write(move |tx| pushes::finish(tx, &rules, &answered)).await?;
    Ok(end)
}

/// Whether this call says that the vendor does not work, or not for us: a wrong key is no better than no answer.
fn is_failure(sent: &Sent) -> Option<bool> {
    match &sent.verdict {
        Verdict::Retry { .. }
        | Verdict::ConfigError { .. }
        | Verdict::LoginExpired
        | Verdict::NewConnection { .. } => Some(true),
        Verdict::Throttled { .. } => None,
        Verdict::Accepted { .. }
        | Verdict::TokenDead { .. }
        | Verdict::TokenMismatch { .. }
        | Verdict::SendAlone { .. }
        | Verdict::PayloadRejected { .. }
        | Verdict::Filtered { .. } => sent.was_answered.then_some(false),
    }
}

/// When the vendor throttles the whole app, the other pushes wait too.
fn pause_of(verdict: &Verdict, now_ms: u64) -> u64 {
    match verdict {
        Verdict::Throttled { scope: Scope::App | Scope::Day, after, .. } => {
            let wait =
                after.map_or(THROTTLE_MS, |after| u64::try_from(after.as_millis()).unwrap_or(PAUSE_MAX_MS));
            now_ms.saturating_add(wait.min(PAUSE_MAX_MS))
        }
        _ => 0,
    }
}
