//! Calls vendors: a lane for each app, vendor, credential and message class, so that one that is slow or dead slows only
//! itself. Each lane has its own queues on disk, its own calls at once, its own rates and its own breaker.
//!
//! Where the vendor has batches, a call takes what waits of one message at that moment, up to a full batch; nothing
//! waits for a batch to fill. Pushes of small messages go first, and the last quarter of the calls is theirs.

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use reveille_proto::ids::{AppId, MessageId};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::breaker::{Allowed, Breaker};
use crate::credentials;
use crate::events::{self, News};
use crate::lane::{CredentialName, Lane};
use crate::limiter::{Bucket, Rates, counts_requests};
use crate::pushes::{self, Answered, Call, Called};
use crate::queues::{self, Size, Waiting};
use crate::rules::Rules;
use crate::sender::{CredentialKey, Sent};
use crate::shared::Shared;
use crate::store::{Store, StoreError, Tx};
use crate::vendor::{DeviceToken, Scope, VendorName, Verdict};

/// Pushes of one lane on their way at once, at most: batches make each call large.
const UNDER_WAY_MAX: usize = 8_000;
/// Pushes that are told together that there is no credential for them.
const TOLD_AT_ONCE: usize = 1_000;
/// A batch of a large message waits for its rate to allow so many parts of a second's pushes, else it would go out one
/// by one.
const BATCHES_A_SECOND: usize = 4;
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
    /// Calls under way.
    calls: usize,
    /// No call before this moment.
    paused_until_ms: u64,
    /// When to look next; `None`: when something wakes it.
    next_ms: Option<u64>,
    /// Nothing waits from before this moment, in each of the queues.
    head_ms: [u64; 2],
    read_all_at_ms: u64,
    breaker: Breaker,
    /// The rate of its class.
    bucket: Bucket,
}

/// The rate of a credential, which its lanes share.
type Totals = HashMap<(AppId, VendorName, CredentialName), Bucket>;

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
    totals: Totals,
    calls: JoinSet<(Lane, Vec<PushKey>, CallEnd)>,
}

/// Calls vendors until told to stop; then waits for the calls that are under way.
pub(crate) async fn run(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let (lanes, totals, calls) = (HashMap::new(), Totals::new(), JoinSet::new());
    let mut worker = Worker { shared: Arc::clone(&shared), lanes, totals, calls };
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
            Ok(lanes) => lanes.into_iter().for_each(|lane| self.look_at(lane, 0)),
            Err(error) => tracing::error!(%error, "the vendors' queues cannot be read"),
        }
    }

    /// There is something in a lane that is due from a moment on.
    fn look_at(&mut self, lane: Lane, due_ms: u64) {
        let state = self.lanes.entry(lane).or_default();
        state.next_ms = Some(0);
        state.head_ms = state.head_ms.map(|head_ms| head_ms.min(due_ms));
    }

    fn wake(&mut self) {
        for (lane, due_ms) in self.shared.store.wakes().take_lanes() {
            self.look_at(lane, due_ms);
        }
    }

    fn note(&mut self, done: Option<(Lane, Vec<PushKey>, CallEnd)>) {
        let Some((lane, keys, end)) = done else { return };
        let now_ms = self.shared.store.now_ms();
        let state = self.lanes.entry(lane.clone()).or_default();
        state.calls -= 1;
        for key in &keys {
            state.busy.remove(key);
        }
        state.paused_until_ms = state.paused_until_ms.max(end.paused_until_ms);
        state.next_ms = Some(0); // there is room for another
        let Some(is_failure) = end.is_failure else { return };
        if state.breaker.note(is_failure, now_ms) {
            self.shared.metrics.breaker(&lane, state.breaker.is_open());
            self.shared.store.events().publish(health(&lane, state.breaker.is_open(), now_ms));
            if state.breaker.is_open() {
                tracing::warn!(%lane, "a vendor fails again and again: pushes wait while it is probed");
            } else {
                tracing::info!(%lane, "a vendor works again");
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
        let (for_read, from_ms, busy) = (lane.clone(), state.read_from(now_ms), state.busy.len());
        let read = move |tx: &Tx<'_>| look(tx, &for_read, from_ms, room, busy);
        let seen = self.shared.store.read(read).await?;
        for (head_ms, waiting) in state.head_ms.iter_mut().zip(&seen.waiting) {
            *head_ms = waiting.first().map_or(now_ms, |first| first.due_ms.min(now_ms));
        }
        let batch_max = if room.is_probe { 1 } else { seen.batch_max };
        let (due, next_due_ms) = state.due(seen.waiting, now_ms);
        let account = (lane.app.clone(), lane.vendor, lane.credential.clone());
        let mut gate = Gate {
            lane,
            rates: seen.rates,
            total: self.totals.entry(account).or_default(),
            class: &mut state.bucket,
            now_ms,
        };
        let mut calls = Vec::new();
        // A full lane is woken by the end of a call, an empty bucket by its next drop.
        state.next_ms = next_due_ms;
        for mut batch in batches(due, batch_max) {
            let is_bulk = batch.first().is_some_and(|waiting| waiting.size == Size::Bulk);
            let taken = calls.len();
            if taken == room.calls || (is_bulk && taken >= room.bulk_calls) {
                state.next_ms = None;
                break;
            }
            match gate.take(batch.len(), is_bulk) {
                Ok(granted) => {
                    let is_cut = granted < batch.len();
                    batch.truncate(granted);
                    calls.push(batch);
                    if is_cut {
                        state.next_ms = Some(now_ms);
                        break;
                    }
                }
                Err(until_ms) => {
                    state.paused_until_ms = state.paused_until_ms.max(until_ms);
                    state.next_ms = Some(until_ms);
                    break;
                }
            }
        }
        for batch in calls {
            self.begin(lane, batch);
        }
        Ok(())
    }

    /// Makes a call in a task of its own.
    fn begin(&mut self, lane: &Lane, batch: Vec<Waiting>) {
        let keys: Vec<PushKey> = batch.iter().map(key_of).collect();
        let state = self.lanes.entry(lane.clone()).or_default();
        state.calls += 1;
        state.busy.extend(keys.iter().cloned());
        let (shared, lane) = (Arc::clone(&self.shared), lane.clone());
        self.calls.spawn(async move {
            let end = unless_it_breaks_off(call(&shared, &lane, batch)).await.unwrap_or_else(|error| {
                tracing::error!(%error, "a push could not be written down");
                CallEnd { paused_until_ms: shared.store.now_ms() + FAULT_PAUSE_MS, is_failure: None }
            });
            (lane, keys, end)
        });
    }
}

fn health(lane: &Lane, is_failing: bool, now_ms: u64) -> News {
    let name = if is_failing { events::VENDOR_FAILING } else { events::VENDOR_WORKING };
    let data = json!({"vendor": lane.vendor, "credential": lane.credential, "class": lane.class});
    News::new(&lane.app, name, lane.vendor.as_str(), now_ms, data)
}

fn key_of(waiting: &Waiting) -> PushKey {
    (waiting.message, waiting.device.clone())
}

/// How many calls may begin.
#[derive(Clone, Copy)]
struct Room {
    calls: usize,
    /// Of these, with pushes of large messages.
    bulk_calls: usize,
    /// One push, to see whether the vendor works again.
    is_probe: bool,
}

/// What is seen of a lane.
struct Seen {
    /// The first entries of each of its queues, those under way among them.
    waiting: [Vec<Waiting>; 2],
    rates: Rates,
    batch_max: usize,
}

/// Reads the heads of a lane's queues, as far as calls could take them.
fn look(tx: &Tx<'_>, lane: &Lane, from_ms: [u64; 2], room: Room, busy: usize) -> Result<Seen, StoreError> {
    let kept = credentials::of_lane(tx, lane)?;
    let rates = kept.as_ref().map(|kept| kept.rates).unwrap_or_default().or_usual(lane.vendor);
    let batch_max = kept.map_or(TOLD_AT_ONCE, |kept| kept.credential.vendor().batch_max());
    let fresh = (room.calls * batch_max).min(UNDER_WAY_MAX.saturating_sub(busy));
    let mut limit = fresh + busy + 1;
    let mut waiting = [Vec::new(), Vec::new()];
    for ((queue, size), from_ms) in waiting.iter_mut().zip(Size::ALL).zip(from_ms) {
        *queue = queues::pushes_from(tx, lane, size, from_ms, limit)?;
        limit = limit.saturating_sub(queue.len()).max(1);
    }
    Ok(Seen { waiting, rates, batch_max })
}

/// Groups what is due by message, language and mark, in the order of their first pushes; what is to go alone stays alone.
fn batches(due: Vec<Waiting>, batch_max: usize) -> Vec<Vec<Waiting>> {
    let mut batches: Vec<Vec<Waiting>> = Vec::new();
    let mut open: HashMap<(MessageId, Size, Option<String>, Option<u8>), usize> = HashMap::new();
    for waiting in due {
        let of = (waiting.message, waiting.size, waiting.language.clone(), waiting.mark);
        let has_room = |batch: &&mut Vec<Waiting>| batch.len() < batch_max;
        let batch = open.get(&of).and_then(|at| batches.get_mut(*at)).filter(has_room);
        match batch {
            Some(batch) if !waiting.is_alone => batch.push(waiting),
            Some(_) | None => {
                if !waiting.is_alone {
                    open.insert(of, batches.len());
                }
                batches.push(vec![waiting]);
            }
        }
    }
    batches
}

/// What the rates of a credential and of a class let through.
struct Gate<'a> {
    lane: &'a Lane,
    rates: Rates,
    total: &'a mut Bucket,
    class: &'a mut Bucket,
    now_ms: u64,
}

impl Gate<'_> {
    /// How many of a batch may go.
    ///
    /// # Errors
    /// When none may: the moment to ask again, in milliseconds since 1970.
    fn take(&mut self, wanted: usize, is_bulk: bool) -> Result<usize, u64> {
        let (per_second, of_class) = (self.rates.per_second, self.rates.of(self.lane.class).per_second);
        let is_by_request = counts_requests(self.lane.vendor);
        let cost = if is_by_request { 1 } else { wanted };
        let slowest = per_second.into_iter().chain(of_class).min().map_or(usize::MAX, |rate| rate as usize);
        let least = if is_bulk { cost.min(slowest / BATCHES_A_SECOND).max(1) } else { 1 };
        let has = self.total.has(per_second, self.now_ms).min(self.class.has(of_class, self.now_ms));
        if has < least {
            let total_ms = self.total.next_ms(per_second, least, self.now_ms);
            return Err(total_ms.max(self.class.next_ms(of_class, least, self.now_ms)));
        }
        let granted = cost.min(has);
        self.total.spend(granted);
        self.class.spend(granted);
        Ok(if is_by_request { wanted } else { granted })
    }
}

impl LaneState {
    /// How many calls may begin; `None`: none now, and it is noted when to look again.
    fn room(&mut self, calls_at_once: usize, now_ms: u64) -> Option<Room> {
        let (at_once, is_probe) = match self.breaker.allowed(now_ms) {
            Allowed::All => (calls_at_once, false),
            Allowed::Probe => (1, true),
            Allowed::NotBefore(until_ms) => {
                self.paused_until_ms = self.paused_until_ms.max(until_ms);
                return None;
            }
        };
        let calls = at_once.saturating_sub(self.calls);
        if calls == 0 || self.busy.len() >= UNDER_WAY_MAX {
            self.next_ms = None; // the end of a call wakes it
            return None;
        }
        let for_small = at_once / 4;
        Some(Room { calls, bulk_calls: calls.saturating_sub(for_small), is_probe })
    }

    /// What is due and not under way, small messages first; and when the next is.
    fn due(&self, waiting: [Vec<Waiting>; 2], now_ms: u64) -> (Vec<Waiting>, Option<u64>) {
        let (mut due, mut next_ms) = (Vec::new(), None);
        let is_new = |waiting: &Waiting| self.busy.is_empty() || !self.busy.contains(&key_of(waiting));
        for waiting in waiting.into_iter().flatten().filter(is_new) {
            if waiting.due_ms <= now_ms {
                due.push(waiting);
            } else {
                next_ms = Some(next_ms.map_or(waiting.due_ms, |next_ms: u64| next_ms.min(waiting.due_ms)));
            }
        }
        (due, next_ms)
    }

    fn read_from(&mut self, now_ms: u64) -> [u64; 2] {
        if now_ms.saturating_sub(self.read_all_at_ms) >= READ_ALL_EVERY_MS {
            self.read_all_at_ms = now_ms;
            return [0, 0];
        }
        self.head_ms.map(|head_ms| head_ms.saturating_sub(READ_BACK_MS))
    }
}

/// What a call ends with. One that panics ends too: its lane must get back what the call holds of it.
async fn unless_it_breaks_off<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let mut call = pin!(call);
    let step = |context: &mut std::task::Context<'_>| {
        catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context)))
            .unwrap_or(std::task::Poll::Ready(Err(StoreError::BrokeOff)))
    };
    poll_fn(step).await
}

/// One call: written down, made, written down.
async fn call(shared: &Arc<Shared>, lane: &Lane, batch: Vec<Waiting>) -> Result<CallEnd, StoreError> {
    let Some(message) = batch.first().map(|waiting| waiting.message) else { return Ok(CallEnd::default()) };
    let (rules, its_lane) = (shared.rules, lane.clone());
    let again = batch.clone();
    let begun = match shared.store.write(move |tx| pushes::begin(tx, &rules, &its_lane, &batch)).await {
        Err(error) if error.is_of_one_write() => {
            set_aside(&shared.store, rules, lane, again).await?;
            return Ok(CallEnd::default()); // the others have their turn again
        }
        begun => begun?,
    };
    let Some(Call { credential, draft, devices }) = begun else { return Ok(CallEnd::default()) };
    let push = draft.finish();
    let vendor = lane.vendor;
    let key = CredentialKey { app: lane.app.clone(), vendor };
    let sent = shared.sender.send_batch(&key, &credential, &push).await;
    let is_recall = push.is_recall;
    for sent in &sent {
        match is_recall {
            true => shared.metrics.recall(vendor.as_str(), sent.verdict.name()),
            false => shared.metrics.push(vendor.as_str(), sent.verdict.name(), sent.outcome_known),
        }
    }
    if let Some(first) = sent.first() {
        shared.metrics.call(vendor.as_str(), first.took);
    }
    let end = end_of(&sent, is_recall, shared.store.now_ms());
    let called = |((device, token), sent): ((String, _), Sent)| Called {
        device,
        token: DeviceToken::clone(token),
        sent,
        random: rand::random(),
    };
    let pushes = devices.into_iter().zip(push.tokens()).zip(sent).map(called).collect();
    let answered = Answered { lane: lane.clone(), message, is_recall, pushes };
    write_down(&shared.store, rules, answered).await?;
    Ok(end)
}

/// Whether one push can be begun, of which nothing is written.
enum Tried {
    Well,
    Not(StoreError),
}

impl From<StoreError> for Tried {
    fn from(error: StoreError) -> Self {
        Self::Not(error)
    }
}

/// Of pushes that cannot be begun together, sets aside those that cannot be alone either: the record of a delivery, a message or a
/// device cannot be decoded.
async fn set_aside(store: &Store, rules: Rules, lane: &Lane, batch: Vec<Waiting>) -> Result<(), StoreError> {
    for waiting in batch {
        let (its_lane, alone) = (lane.clone(), waiting.clone());
        let attempt = move |tx: &mut Tx<'_>| {
            pushes::begin(tx, &rules, &its_lane, &[alone])?;
            Err::<(), _>(Tried::Well) // which undoes it
        };
        match store.write(attempt).await {
            Err(Tried::Not(error)) if error.is_of_one_write() => {
                let lane = lane.clone();
                store.read(move |tx| queues::note_damaged(tx, &lane, &waiting, &error)).await?;
            }
            Err(Tried::Not(error)) => return Err(error),
            Ok(()) | Err(Tried::Well) => {}
        }
    }
    Ok(())
}

/// Writes down what the vendor answered. Where one push of many cannot be written, the others are all the same: else the
/// vendor would be called for all of them again.
async fn write_down(store: &Store, rules: Rules, answered: Answered) -> Result<(), StoreError> {
    let answered = Arc::new(answered);
    let together = Arc::clone(&answered);
    let written = store.write(move |tx| pushes::finish(tx, &rules, &together, &together.pushes)).await;
    match written {
        Err(error) if error.is_of_one_write() && answered.pushes.len() > 1 => {}
        written => return written,
    }
    let mut last = Ok(());
    for at in 0..answered.pushes.len() {
        let alone = Arc::clone(&answered);
        let push = move |tx: &mut Tx<'_>| {
            pushes::finish(tx, &rules, &alone, alone.pushes.get(at..=at).unwrap_or_default())
        };
        last = store.write(push).await.and(last);
    }
    last
}

/// What the pushes of a call say about its lane: the vendor works when it had an answer for one of them. Calls that take pushes
/// back have rates and faults of their own, and say nothing of others.
fn end_of(sent: &[Sent], is_recall: bool, now_ms: u64) -> CallEnd {
    if is_recall {
        return CallEnd::default();
    }
    let verdicts = || sent.iter().filter_map(is_failure);
    CallEnd {
        paused_until_ms: sent.iter().map(|sent| pause_of(&sent.verdict, now_ms)).max().unwrap_or_default(),
        is_failure: verdicts().min(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::Class;
    use crate::messages::{self, Message};
    use crate::store::{Space, keys};

    fn waiting(message: u8, device: usize) -> Waiting {
        let device = format!("d{device}");
        Waiting {
            due_ms: 1,
            message: MessageId([message; 16]),
            device,
            size: Size::Bulk,
            language: None,
            is_alone: false,
            mark: None,
        }
    }

    fn lane(vendor: VendorName) -> Lane {
        Lane { app: AppId::default(), vendor, credential: CredentialName::default(), class: Class::Service }
    }

    #[tokio::test]
    async fn a_call_that_panics_ends() {
        let broken = async {
            tokio::task::yield_now().await;
            assert!(lane(VendorName::Oppo).app.as_str().is_empty(), "this panic is meant");
            Ok(())
        };
        assert!(matches!(unless_it_breaks_off(broken).await, Err(StoreError::BrokeOff)));
        assert!(unless_it_breaks_off(async { Ok(()) }).await.is_ok());
    }

    #[tokio::test]
    async fn one_push_that_cannot_be_written_holds_up_none_of_its_call() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Arc::new(|| 1_000)).unwrap();
        let message = Message::unknown(&AppId::default(), MessageId([7; 16]), 1_000);
        let delivery = |device| keys::delivery(&AppId::default(), MessageId([7; 16]), device);
        let submitted = json!({
            "facts": {"broker": "untold", "push": {"submitted": "oppo"}, "due_since_ms": null, "ended": null},
            "strategy": "vendor_only", "state": "targeted", "bucket": "in_flight", "attempts": 1,
            "first_attempt_at_ms": 1, "is_unknown": false, "due_ms": 500, "timeline": [],
        });
        let begin = move |tx: &mut Tx<'_>| {
            messages::save(tx, &message)?;
            let funnel = json!({"targeted": 1, "in_flight": 1});
            tx.save(Space::Messages, keys::funnel(&AppId::default(), message.id), &funnel)?;
            tx.put(Space::Messages, delivery("broken"), b"?".to_vec());
            tx.save(Space::Messages, delivery("well"), &submitted)
        };
        store.write(begin).await.unwrap();
        let push = |device: &str| {
            let verdict = Verdict::Accepted { vendor_id: None };
            let token = DeviceToken::parse("T").unwrap();
            let sent = Sent::answered(verdict);
            Called { device: device.to_owned(), token, sent, random: 1 }
        };
        let pushes = ["broken", "well", "broken"].map(push).into();
        let lane = lane(VendorName::Oppo);
        let answered = Answered { lane, message: MessageId([7; 16]), is_recall: false, pushes };
        let rules = crate::config::Config::default().rules();
        assert!(write_down(&store, rules, answered).await.is_err(), "the broken ones");
        let well = store.read(move |tx| tx.load::<serde_json::Value>(Space::Messages, &delivery("well")));
        assert_eq!(well.await.unwrap().unwrap()["facts"]["push"], json!({"accepted": "oppo"}));
    }

    #[tokio::test]
    async fn one_push_that_cannot_be_begun_is_set_aside_and_holds_up_none_of_its_call() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Arc::new(|| 1_000)).unwrap();
        let (lane, rules) = (lane(VendorName::Oppo), crate::config::Config::default().rules());
        let message = Message::unknown(&AppId::default(), MessageId([7; 16]), 1_000);
        let queued = json!({
            "facts": {"broker": "untold", "push": {"queued": "oppo"}, "due_since_ms": null, "ended": null},
            "strategy": "vendor_only", "state": "targeted", "bucket": "in_flight", "attempts": 0,
            "first_attempt_at_ms": 0, "is_unknown": false, "due_ms": 1, "timeline": [],
        });
        let (its_lane, all) = (lane.clone(), vec![waiting(7, 0), waiting(7, 1), waiting(7, 2)]);
        let pushes = all.clone();
        let write = move |tx: &mut Tx<'_>| {
            messages::save(tx, &message)?;
            let funnel = json!({"targeted": 3, "in_flight": 3});
            tx.save(Space::Messages, keys::funnel(&AppId::default(), message.id), &funnel)?;
            for (at, push) in pushes.iter().enumerate() {
                let delivery = keys::delivery(&AppId::default(), message.id, &push.device);
                match at {
                    1 => tx.put(Space::Messages, delivery, b"?".to_vec()),
                    _ => tx.save(Space::Messages, delivery, &queued)?,
                }
                queues::push_at(tx, &its_lane, push);
            }
            Ok::<_, StoreError>(())
        };
        store.write(write).await.unwrap();
        set_aside(&store, rules, &lane, all).await.unwrap();
        for found in store.damaged().take() {
            crate::damaged::tell(&store, found).await.unwrap();
        }
        let left = store.read(move |tx| queues::pushes_from(tx, &lane, Size::Bulk, 0, 10)).await.unwrap();
        let devices: Vec<_> = left.iter().map(|push| push.device.as_str()).collect();
        assert_eq!(devices, ["d0", "d2"]);
    }

    #[test]
    fn a_batch_has_pushes_of_one_message_and_keeps_its_bound() {
        let mut due: Vec<_> = (0..5).flat_map(|n| [waiting(1, n), waiting(2, n)]).collect();
        due.push(Waiting { is_alone: true, ..waiting(1, 9) });
        due.push(Waiting { size: Size::Single, ..waiting(1, 8) });
        let shape = |max| -> Vec<(u8, usize)> {
            batches(due.clone(), max).iter().map(|batch| (batch[0].message.0[0], batch.len())).collect()
        };
        assert_eq!(shape(100), [(1, 5), (2, 5), (1, 1), (1, 1)]);
        assert_eq!(shape(3), [(1, 3), (2, 3), (1, 2), (2, 2), (1, 1), (1, 1)]);
        assert!(shape(1).iter().all(|(_, count)| *count == 1));
        assert_eq!(batches(due.clone(), 3).concat().len(), due.len());
    }

    #[test]
    fn pushes_with_the_same_number_on_the_icon_are_in_one_batch() {
        let marked = |n: usize| Waiting { mark: Some((n % 3) as u8), ..waiting(1, n) };
        let found = batches((0..9).map(marked).collect(), 100);
        let devices = |batch: &Vec<Waiting>| batch.iter().map(|push| push.device.clone()).collect::<Vec<_>>();
        let wanted = [["d0", "d3", "d6"], ["d1", "d4", "d7"], ["d2", "d5", "d8"]];
        assert_eq!(found.iter().map(devices).collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn a_call_that_takes_back_neither_pauses_its_lane_nor_counts_for_its_breaker() {
        let verdicts = [
            Verdict::Retry { after: None, reason: String::new() },
            Verdict::Throttled { scope: Scope::App, after: None, reason: String::new() },
        ];
        let sent = verdicts.map(Sent::answered);
        let ends = |is_recall| {
            let end = end_of(&sent, is_recall, 5);
            (end.paused_until_ms, end.is_failure)
        };
        assert_eq!(ends(false), (5 + THROTTLE_MS, Some(true)));
        assert_eq!(ends(true), (0, None));
    }

    #[test]
    fn a_rate_lets_batches_through_whole_and_singles_one_by_one() {
        let (mut total, mut class) = (Bucket::default(), Bucket::default());
        let meizu = lane(VendorName::Meizu);
        let rates = Rates::default().or_usual(VendorName::Meizu); // 200 a second
        let mut at = |now_ms, wanted, is_bulk| {
            let gate = Gate { lane: &meizu, rates, total: &mut total, class: &mut class, now_ms };
            { gate }.take(wanted, is_bulk)
        };
        assert_eq!(at(10_000, 100, true), Ok(100));
        assert_eq!(at(10_000, 100, true), Ok(100));
        assert_eq!(at(10_000, 100, true), Err(10_250), "not one by one");
        assert_eq!(at(10_000, 1, false), Err(10_005));
        assert_eq!(at(10_005, 1, false), Ok(1));
        assert_eq!(at(10_255, 100, true), Ok(50));
    }

    #[test]
    fn a_class_has_its_own_rate_within_the_credentials() {
        let (mut total, mut class) = (Bucket::default(), Bucket::default());
        let honor = Lane { class: Class::Marketing, ..lane(VendorName::Honor) };
        let mut rates = Rates { per_second: Some(10), ..Rates::default() };
        rates.marketing.per_second = Some(4);
        let mut gate = Gate { lane: &honor, rates, total: &mut total, class: &mut class, now_ms: 10_000 };
        assert_eq!(gate.take(6, false), Ok(4));
        assert_eq!(gate.take(1, false), Err(10_250));
        let mut gate = Gate { lane: &lane(VendorName::Honor), class: &mut Bucket::default(), ..gate };
        assert_eq!(gate.take(100, false), Ok(6), "what the other class left");
    }

    #[test]
    fn where_requests_are_counted_a_batch_is_one() {
        let xiaomi = lane(VendorName::Xiaomi);
        let rates = Rates { per_second: Some(2), ..Rates::default() };
        let (mut total, mut class) = (Bucket::default(), Bucket::default());
        let mut gate = Gate { lane: &xiaomi, rates, total: &mut total, class: &mut class, now_ms: 10_000 };
        assert_eq!((gate.take(1000, true), gate.take(1000, true)), (Ok(1000), Ok(1000)));
        assert_eq!(gate.take(1000, true), Err(10_500));
    }
}
