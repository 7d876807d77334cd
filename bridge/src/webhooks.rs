//! Webhooks: addresses of the business server that are told what happens, in order for each device, at least once.
//!
//! ```text
//!  a fact's transaction --emit--> waiting (on disk) --post--> 2xx: done
//!                                    ^  |
//!                                    |  `-- anything else: again later, for a day, then --> dead letters
//!                                    `--------------------- :replay -----------------------------'
//! ```
//! An event waits in the same transaction as the fact that it tells of, so neither is there without the other.

pub(crate) mod post;
pub(crate) mod postman;

use std::ops::Bound;

use reveille_proto::delivery::DeliveryState;
use reveille_proto::ids::AppId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::events::{self, News};
use crate::messages::new_id;
use crate::retry::{Next, RetryPolicy, next_attempt};
use crate::store::{Order, Space, StoreError, Tx, keys};
use crate::vendor::{Secret, TOKEN_SHOWN, Verdict};

/// Webhooks of one app.
pub const WEBHOOKS_MAX: usize = 16;
/// Events that wait for one webhook; what comes then is dropped and counted.
pub const WAITING_MAX: u64 = 100_000;
/// Dead letters kept for one webhook; then the oldest goes and is counted.
pub const DEAD_MAX: u64 = 10_000;
/// Attempts kept for one webhook, for people.
pub const ATTEMPTS_MAX: u64 = 1_000;
/// Records removed in one transaction.
const PURGE_CHUNK: usize = 1_000;

/// Names of events besides those of deliveries, which are `delivery.` and a state.
pub(crate) const NAMES: [&str; 5] =
    [TOKEN_INVALID, CREDENTIAL_EXPIRING, MESSAGE_SENDING, MESSAGE_DONE, MESSAGE_RECALLED];
/// A vendor called a device token dead.
pub(crate) const TOKEN_INVALID: &str = "token.invalid";
/// A credential's key or certificate ends soon, or has ended.
pub(crate) const CREDENTIAL_EXPIRING: &str = "credential.expiring";
/// Every device of a message is known.
pub(crate) const MESSAGE_SENDING: &str = "message.sending";
/// Nothing of a message is in flight any more.
pub(crate) const MESSAGE_DONE: &str = "message.done";
/// A message was withdrawn.
pub(crate) const MESSAGE_RECALLED: &str = "message.recalled";

/// The name of a delivery's new state.
pub(crate) fn delivery_name(state: DeliveryState) -> String {
    format!("delivery.{}", state.name())
}

/// Which events a webhook wants: a name, `token.*`, `delivery.*` and so on, or `*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(String);

/// A text that is no name of an event and matches none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an event is token.invalid, credential.expiring, message.sending, message.done, message.recalled, or delivery. and a \
     state; token.*, delivery.* and so on are all of a kind, * is everything"
)]
pub struct UnknownEvent;

impl Pattern {
    /// A text that is, or matches, one of these names.
    ///
    /// # Errors
    /// [`UnknownEvent`] for any other.
    pub(crate) fn of<'n>(text: &str, mut names: impl Iterator<Item = &'n str>) -> Result<Self, UnknownEvent> {
        let is_whole = match text.strip_suffix('*') {
            Some(beginning) => beginning.is_empty() || beginning.ends_with('.'),
            None => true,
        };
        let pattern = Self(text.to_owned());
        if is_whole && names.any(|name| pattern.fits(name)) { Ok(pattern) } else { Err(UnknownEvent) }
    }

    /// Whether an event of this name is wanted.
    pub fn fits(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => self.0 == name,
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = UnknownEvent;

    fn try_from(text: String) -> Result<Self, UnknownEvent> {
        let of_deliveries: Vec<_> = DeliveryState::ALL.iter().map(|state| delivery_name(*state)).collect();
        Self::of(&text, NAMES.into_iter().chain(of_deliveries.iter().map(String::as_str)))
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0
    }
}

/// A receiver of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// Made by us.
    pub id: String,
    /// Where to.
    pub url: String,
    /// What calls are signed with.
    pub secret: Secret,
    /// What is told.
    pub events: Vec<Pattern>,
    /// Certificates to trust besides the public ones, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// Whether the operator's key set it: then an address of the inner network may be called.
    #[serde(default)]
    pub is_operators: bool,
    /// When it was set, in milliseconds since 1970.
    pub updated_at_ms: u64,
}

/// What is looked up for each event: without secrets, so nothing must be decrypted.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Listed {
    id: String,
    events: Vec<Pattern>,
}

/// Which webhook: the app and its id.
pub(crate) type Hook = (AppId, String);

/// An event that waits for a webhook, or is dead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Letter {
    /// The same at every attempt and for every webhook.
    pub id: String,
    /// What happened.
    pub name: String,
    /// What it is about; events with the same are told one after the other.
    pub about: String,
    /// When it happened, in milliseconds since 1970.
    pub at_ms: u64,
    /// What the receiver gets besides.
    pub data: Value,
    /// Attempts so far.
    #[serde(default)]
    pub attempts: u32,
    /// When the first began, in milliseconds since 1970.
    #[serde(default)]
    pub first_at_ms: u64,
    /// No attempt before this moment, in milliseconds since 1970.
    #[serde(default)]
    pub due_ms: u64,
    /// How the last attempt ended.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Numbers given and counts of one webhook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Ledger {
    /// The newest waiting letter's number.
    last: u64,
    /// The newest dead letter's number.
    last_dead: u64,
    /// The newest attempt's number.
    last_attempt: u64,
    /// Letters that wait.
    pub waiting: u64,
    /// Dead letters that are kept.
    pub dead: u64,
    /// Letters for which there was no room.
    pub dropped: u64,
}

/// One call of a webhook, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = WebhookAttempt)]
pub(crate) struct Attempt {
    /// When it ended, in milliseconds since 1970.
    pub at_ms: u64,
    /// The event's id.
    pub event: String,
    /// The event's name.
    pub name: String,
    /// Which attempt of this event.
    pub attempt: u32,
    /// The HTTP status; `None`: no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// From the call to the answer.
    pub took_ms: u64,
    /// `delivered`, `again` or `dead`.
    pub result: String,
    /// Why, where it was not delivered.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// A webhook by its id.
pub(crate) fn load(tx: &Tx<'_>, (app, id): &Hook) -> Result<Option<Webhook>, StoreError> {
    tx.load_sealed(Space::Apps, &keys::webhook(app, id))
}

/// Every webhook of an app.
pub(crate) fn list(tx: &Tx<'_>, app: &AppId) -> Result<Vec<Webhook>, StoreError> {
    let found = tx.scan(Space::Apps, &keys::webhooks(app), None, Order::Forward, WEBHOOKS_MAX)?;
    found.into_iter().map(|(key, kept)| tx.unseal(&key, kept)).collect()
}

fn listed(tx: &Tx<'_>, app: &AppId) -> Result<Vec<Listed>, StoreError> {
    Ok(tx.load(Space::Apps, &keys::webhook_list(app))?.unwrap_or_default())
}

/// Sets or replaces a webhook. `false`: no further one fits.
pub(crate) fn save(tx: &mut Tx<'_>, app: &AppId, webhook: &Webhook) -> Result<bool, StoreError> {
    let mut all = listed(tx, app)?;
    all.retain(|other| other.id != webhook.id);
    if all.len() >= WEBHOOKS_MAX {
        return Ok(false);
    }
    all.push(Listed { id: webhook.id.clone(), events: webhook.events.clone() });
    tx.save(Space::Apps, keys::webhook_list(app), &all)?;
    tx.touched().hooks.insert((app.clone(), webhook.id.clone()));
    tx.save_sealed(Space::Apps, keys::webhook(app, &webhook.id), webhook)?;
    Ok(true)
}

/// Removes a webhook; what waits for it is removed by [`purge`].
pub(crate) fn remove(tx: &mut Tx<'_>, (app, id): &Hook) -> Result<(), StoreError> {
    let mut all = listed(tx, app)?;
    all.retain(|other| other.id != *id);
    tx.save(Space::Apps, keys::webhook_list(app), &all)?;
    tx.touched().hooks.insert((app.clone(), id.clone()));
    tx.remove(Space::Apps, keys::webhook(app, id));
    Ok(())
}

/// Removes some of what a removed webhook left. `false`: that was all.
pub(crate) fn purge(tx: &mut Tx<'_>, (app, id): &Hook) -> Result<bool, StoreError> {
    let all = keys::hook_records(app, id);
    let found = tx.scan(Space::Queues, &all, None, Order::Forward, PURGE_CHUNK)?;
    let is_more = found.len() == PURGE_CHUNK;
    for (key, _) in found {
        tx.remove(Space::Queues, key);
    }
    Ok(is_more)
}

/// Every webhook of which something is kept. Jumps from one to the next, so it costs one read each.
pub(crate) fn hooks_with_records(tx: &Tx<'_>) -> Result<Vec<Hook>, StoreError> {
    let mut found = Vec::new();
    let mut from = keys::all_hook_records();
    let end = Bound::Excluded(vec![from.first().copied().unwrap_or(0).saturating_add(1)]);
    while let Some((key, value)) =
        tx.range(Space::Queues, Bound::Included(from.clone()), end.clone(), Order::Forward, 1)?.pop()
    {
        let Some((app, id)) = keys::parse_hook(&key) else {
            from = [key.as_slice(), &[0]].concat(); // the next one
            let why = StoreError::Corrupt("a letter of no such webhook".to_owned());
            tx.note_damaged(Space::Queues, key, value, &why);
            continue;
        };
        from = keys::hook_records(&app, &id);
        from.push(u8::MAX); // above every record of this one
        found.push((app, id));
    }
    Ok(found)
}

/// Tells an app's webhooks and whoever reads events live what happened, when this transaction is durable. `about` is whom it is about: a device, or
/// where there is none a message or a vendor; events about the same are told in order.
///
/// # Errors
/// [`StoreError`] when the store fails.
pub(crate) fn emit(
    tx: &mut Tx<'_>,
    app: &AppId,
    name: &str,
    about: &str,
    data: impl FnOnce() -> Value,
) -> Result<(), StoreError> {
    let mut wanted = listed(tx, app)?;
    wanted.retain(|hook| hook.events.iter().any(|pattern| pattern.fits(name)));
    let is_live = events::is_live(name);
    if wanted.is_empty() && !is_live {
        return Ok(());
    }
    let letter = Letter {
        id: new_id().to_string(),
        name: name.to_owned(),
        about: about.to_owned(),
        at_ms: tx.now_ms(),
        data: data(),
        attempts: 0,
        first_at_ms: 0,
        due_ms: 0,
        reason: String::new(),
    };
    if is_live {
        let (id, name, about, data) = (
            letter.id.clone(),
            letter.name.clone(),
            letter.about.clone(),
            without_token(letter.data.clone()),
        );
        tx.touched().events.push(News { id, app: app.clone(), name, about, at_ms: letter.at_ms, data });
    }
    for hook in wanted {
        enqueue(tx, &(app.clone(), hook.id), &letter)?;
    }
    Ok(())
}

/// Whoever may read an app is not told its device tokens: with one and a credential, anybody can push.
fn without_token(mut data: Value) -> Value {
    if let Some(token) = data.get_mut("token") {
        let start: String = token.as_str().unwrap_or_default().chars().take(TOKEN_SHOWN).collect();
        *token = Value::from(format!("{start}…"));
    }
    data
}

/// Lets a letter wait. `false`: there is no room, which is counted.
fn enqueue(tx: &mut Tx<'_>, hook: &Hook, letter: &Letter) -> Result<bool, StoreError> {
    let mut ledger = ledger(tx, hook)?;
    let has_room = ledger.waiting < WAITING_MAX;
    if has_room {
        ledger.last += 1;
        ledger.waiting += 1;
        tx.save(Space::Queues, keys::hook_waiting(&hook.0, &hook.1, ledger.last), letter)?;
        tx.touched().hooks.insert(hook.clone());
    } else {
        ledger.dropped += 1;
        tracing::warn!(app = %hook.0, webhook = hook.1, event = letter.name, "an event is dropped: too many wait for the webhook");
    }
    save_ledger(tx, hook, &ledger)?;
    Ok(has_room)
}

/// Numbers and counts of a webhook.
pub(crate) fn ledger(tx: &Tx<'_>, (app, id): &Hook) -> Result<Ledger, StoreError> {
    Ok(tx.load(Space::Queues, &keys::hook_ledger(app, id))?.unwrap_or_default())
}

fn save_ledger(tx: &mut Tx<'_>, (app, id): &Hook, ledger: &Ledger) -> Result<(), StoreError> {
    tx.save(Space::Queues, keys::hook_ledger(app, id), ledger)
}

/// The letters that wait, from a number on, oldest first.
pub(crate) fn waiting(
    tx: &Tx<'_>,
    (app, id): &Hook,
    from: u64,
    limit: usize,
) -> Result<Vec<(u64, Letter)>, StoreError> {
    let before = from.checked_sub(1).map(|before| keys::hook_waiting(app, id, before));
    numbered(tx, &keys::all_hook_waiting(app, id), before.as_deref(), Order::Forward, limit)
}

/// Dead letters from a number on; forward means newer.
pub(crate) fn dead(
    tx: &Tx<'_>,
    (app, id): &Hook,
    from: Option<u64>,
    order: Order,
    limit: usize,
) -> Result<Vec<(u64, Letter)>, StoreError> {
    let from = from.map(|from| keys::hook_dead(app, id, from));
    numbered(tx, &keys::all_hook_dead(app, id), from.as_deref(), order, limit)
}

/// Attempts from a number on; backward means older.
pub(crate) fn attempts(
    tx: &Tx<'_>,
    (app, id): &Hook,
    from: Option<u64>,
    order: Order,
    limit: usize,
) -> Result<Vec<(u64, Attempt)>, StoreError> {
    let from = from.map(|from| keys::hook_attempt(app, id, from));
    numbered(tx, &keys::all_hook_attempts(app, id), from.as_deref(), order, limit)
}

fn numbered<T: serde::de::DeserializeOwned>(
    tx: &Tx<'_>,
    all: &[u8],
    after: Option<&[u8]>,
    order: Order,
    limit: usize,
) -> Result<Vec<(u64, T)>, StoreError> {
    let found = tx.records(Space::Queues, all, after, order, limit)?;
    Ok(found
        .into_iter()
        .map(|(key, record)| (keys::number_at(&key, all.len()).unwrap_or(0), record))
        .collect())
}

/// What a webhook answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    /// The HTTP status; `None`: no answer.
    pub status: Option<u16>,
    /// Accepted, or when to try again.
    pub verdict: Verdict,
    /// From the call to the answer.
    pub took_ms: u64,
    /// Any number, evenly spread, for the back-off.
    pub random: u64,
}

/// Doubling from five seconds to an hour, for a day.
fn policy() -> RetryPolicy {
    use std::time::Duration;
    const HOUR: Duration = Duration::from_secs(3600);
    RetryPolicy {
        wait_min: Duration::from_secs(1),
        base: Duration::from_secs(5),
        cap: HOUR,
        throttle_wait: Duration::from_secs(60),
        vendor_wait_max: HOUR,
        give_up_after: HOUR * 24,
        attempts_max: 100,
    }
}

/// Writes down how an attempt ended: the letter is done, waits for the next one, or is dead. Which of them, in a word.
pub(crate) fn finish(
    tx: &mut Tx<'_>,
    hook: &Hook,
    number: u64,
    answered: &Answered,
) -> Result<&'static str, StoreError> {
    let (app, id) = hook;
    let key = keys::hook_waiting(app, id, number);
    let Some(mut letter) = tx.load::<Letter>(Space::Queues, &key)? else {
        return Ok("forgotten"); // removed with its webhook
    };
    letter.attempts += 1;
    if letter.attempts == 1 {
        letter.first_at_ms = tx.now_ms();
    }
    answered.verdict.reason().clone_into(&mut letter.reason);
    let next = next_attempt(
        &policy(),
        &answered.verdict,
        letter.attempts,
        letter.first_at_ms,
        tx.now_ms(),
        None,
        answered.random,
    );
    let mut ledger = ledger(tx, hook)?;
    let result = match next {
        Next::Done => {
            ledger.waiting = ledger.waiting.saturating_sub(1);
            tx.remove(Space::Queues, key);
            "delivered"
        }
        Next::At(due_ms) => {
            letter.due_ms = due_ms;
            tx.save(Space::Queues, key, &letter)?;
            "again"
        }
        Next::GiveUp(_) => {
            ledger.waiting = ledger.waiting.saturating_sub(1);
            tx.remove(Space::Queues, key);
            bury(tx, hook, &mut ledger, &letter)?;
            "dead"
        }
    };
    let attempt = Attempt {
        at_ms: tx.now_ms(),
        event: letter.id,
        name: letter.name,
        attempt: letter.attempts,
        status: answered.status,
        took_ms: answered.took_ms,
        result: result.to_owned(),
        reason: letter.reason,
    };
    record(tx, hook, &mut ledger, &attempt)?;
    save_ledger(tx, hook, &ledger)?;
    Ok(result)
}

fn bury(tx: &mut Tx<'_>, (app, id): &Hook, ledger: &mut Ledger, letter: &Letter) -> Result<(), StoreError> {
    ledger.last_dead += 1;
    ledger.dead += 1;
    tx.save(Space::Queues, keys::hook_dead(app, id, ledger.last_dead), letter)?;
    if ledger.dead > DEAD_MAX
        && let Some((oldest, _)) = dead(tx, &(app.clone(), id.clone()), None, Order::Forward, 1)?.first()
    {
        tx.remove(Space::Queues, keys::hook_dead(app, id, *oldest));
        ledger.dead -= 1;
        ledger.dropped += 1;
    }
    Ok(())
}

fn record(
    tx: &mut Tx<'_>,
    (app, id): &Hook,
    ledger: &mut Ledger,
    attempt: &Attempt,
) -> Result<(), StoreError> {
    ledger.last_attempt += 1;
    tx.save(Space::Queues, keys::hook_attempt(app, id, ledger.last_attempt), attempt)?;
    if let Some(oldest) = ledger.last_attempt.checked_sub(ATTEMPTS_MAX) {
        tx.remove(Space::Queues, keys::hook_attempt(app, id, oldest));
    }
    Ok(())
}

/// Lets dead letters wait again, behind those that wait already: those with these ids, or all. How many; at most
/// [`PURGE_CHUNK`] at once, so ask until there are none.
pub(crate) fn replay(
    tx: &mut Tx<'_>,
    hook: &Hook,
    after: Option<u64>,
    wanted: Option<&[String]>,
) -> Result<(u64, Option<u64>), StoreError> {
    let found = dead(tx, hook, after, Order::Forward, PURGE_CHUNK)?;
    let last = found.last().map(|(number, _)| *number).filter(|_| found.len() == PURGE_CHUNK);
    let mut replayed = 0;
    for (number, letter) in found {
        if wanted.is_some_and(|wanted| !wanted.contains(&letter.id)) {
            continue;
        }
        let letter = Letter { attempts: 0, first_at_ms: 0, due_ms: 0, ..letter };
        if ledger(tx, hook)?.waiting >= WAITING_MAX {
            return Ok((replayed, None));
        }
        enqueue(tx, hook, &letter)?;
        tx.remove(Space::Queues, keys::hook_dead(&hook.0, &hook.1, number));
        let mut ledger = ledger(tx, hook)?;
        ledger.dead = ledger.dead.saturating_sub(1);
        save_ledger(tx, hook, &ledger)?;
        replayed += 1;
    }
    Ok((replayed, last))
}

#[cfg(test)]
mod tests;
