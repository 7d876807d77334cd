//! Schedules: messages that are sent again and again, or once later, to whoever is in their audience then.
//!
//! ```text
//!  active --moment--> active | ended        pause: active -> paused        resume: paused -> active | ended
//! ```
//! A moment is one transaction: the check that woke us is gone, the message is there under an id that only this moment
//! has, and the next check is written. So there is exactly one message for a moment, whenever the server dies.

pub(crate) mod moments;

use reveille_proto::ids::{AppId, MessageId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::apps::sha256;
use crate::audience::NotReady;
use crate::lists;
use crate::messages::{self, Message};
use crate::policies;
use crate::queues::{self, Check};
use crate::rules::Rules;
use crate::sending;
use crate::starts::{LATE_MAX_MS, Missed, Start};
use crate::store::{Order, Space, StoreError, Tx, decode, keys};
use crate::templates::{self, TakeError};
use moments::{Moment, Rhythm};

/// Schedules of one app at most.
pub(crate) const SCHEDULES_MAX: usize = 1000;
/// Runs of one schedule that are kept.
const RUNS_KEPT: usize = 20;

/// One schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Schedule {
    pub id: String,
    /// A word for people.
    pub name: String,
    pub rhythm: Rhythm,
    /// Runs at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    pub state: State,
    /// Moments that had a message since the schedule was last written.
    pub runs: u64,
    /// The last runs, newest first.
    pub recent: Vec<Run>,
    /// What is sent, as it was given.
    pub body: Value,
    /// What is sent, checked; its times count from when it was written.
    pub message: Message,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: u64,
    /// When it was last written, in milliseconds since 1970.
    pub updated_at_ms: u64,
}

/// Whether a schedule waits for a moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum State {
    /// For this one.
    Active { next: Moment },
    /// For somebody to let it go on.
    Paused,
    /// For nothing any more.
    Ended,
}

/// What became of one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// When it was looked at, in milliseconds since 1970.
    pub at_ms: u64,
    /// When it was due, in milliseconds since 1970; `None`: somebody asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_ms: Option<u64>,
    /// The message that was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl State {
    /// The moment that is waited for.
    pub fn next(self) -> Option<Moment> {
        match self {
            Self::Active { next } => Some(next),
            Self::Paused | Self::Ended => None,
        }
    }

    fn waiting_for(next: Option<Moment>) -> Self {
        next.map_or(Self::Ended, |next| Self::Active { next })
    }
}

/// Why a moment has no message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("{place}: {0}", place = .0.pointer())]
    Audience(#[from] NotReady),
    #[error(transparent)]
    Texts(#[from] TakeError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RunError {
    /// The store's failures are no fault of the schedule.
    fn into_words(self) -> Result<String, StoreError> {
        match self {
            Self::Store(error)
            | Self::Audience(NotReady::Store(error))
            | Self::Texts(TakeError::Store(error)) => Err(error),
            error @ (Self::Audience(_) | Self::Texts(_)) => Ok(error.to_string()),
        }
    }
}

/// A schedule by its id.
pub(crate) fn load(tx: &Tx<'_>, app: &AppId, id: &str) -> Result<Option<Schedule>, StoreError> {
    tx.load(Space::Apps, &keys::schedule(app, id))
}

/// Writes a schedule, and looks when its moment comes.
pub(crate) fn save(tx: &mut Tx<'_>, app: &AppId, schedule: &Schedule) -> Result<(), StoreError> {
    if let Some(next) = schedule.state.next() {
        let check = Check::Schedule { app: app.clone(), schedule: schedule.id.clone(), due_ms: next.at_ms };
        queues::check_at(tx, next.at_ms, &check)?;
        for list in &schedule.message.audience.lists {
            lists::keep(tx, app, list, next.at_ms)?;
        }
    }
    tx.save(Space::Apps, keys::schedule(app, &schedule.id), schedule)
}

/// Removes a schedule. Its check finds nothing any more.
pub(crate) fn remove(tx: &mut Tx<'_>, app: &AppId, id: &str) {
    tx.remove(Space::Apps, keys::schedule(app, id));
}

/// Whether an app has as many as it may have.
pub(crate) fn are_full(tx: &Tx<'_>, app: &AppId) -> Result<bool, StoreError> {
    Ok(tx.count(Space::Apps, &keys::schedules(app), SCHEDULES_MAX)? >= SCHEDULES_MAX)
}

/// Schedules after one, oldest first.
pub(crate) fn list(
    tx: &Tx<'_>,
    app: &AppId,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Schedule>, StoreError> {
    page(tx, app, after, Order::Forward, limit)
}

/// The same from one on, in either direction.
pub(crate) fn page(
    tx: &Tx<'_>,
    app: &AppId,
    from: Option<&str>,
    order: Order,
    limit: usize,
) -> Result<Vec<Schedule>, StoreError> {
    let from = from.map(|from| keys::schedule(app, from));
    let found = tx.scan(Space::Apps, &keys::schedules(app), from.as_deref(), order, limit)?;
    found.iter().map(|(_, schedule)| decode(schedule)).collect()
}

/// A schedule that is not over and takes its texts from this template.
pub(crate) fn user_of(tx: &Tx<'_>, app: &AppId, template: &str) -> Result<Option<String>, StoreError> {
    let names = |schedule: &Schedule| {
        let named = schedule.message.template.as_deref().and_then(|named| named.split('@').next());
        named == Some(template) && schedule.state != State::Ended
    };
    Ok(list(tx, app, None, SCHEDULES_MAX)?.into_iter().find(names).map(|schedule| schedule.id))
}

/// The moment has come. A check that the schedule does not wait for any more does nothing.
pub(crate) fn look(
    tx: &mut Tx<'_>,
    rules: &Rules,
    app: &AppId,
    id: &str,
    due_ms: u64,
) -> Result<(), StoreError> {
    let Some(mut schedule) = load(tx, app, id)? else { return Ok(()) };
    let Some(due) = schedule.state.next().filter(|next| next.at_ms == due_ms) else { return Ok(()) };
    let now_ms = tx.now_ms();
    // After a standstill one message stands for all the moments that passed.
    let latest = schedule.rhythm.latest(due, now_ms);
    let start = schedule.rhythm.start(latest.local, latest.at_ms);
    if is_worth_it(schedule.rhythm.missed, &start, now_ms) {
        let message = message_of(&schedule, moment_id(app, id, latest), start, now_ms);
        let run = match run(tx, rules, message) {
            Ok(id) => Run {
                at_ms: now_ms,
                due_ms: Some(latest.at_ms),
                message: Some(id.to_string()),
                problem: None,
            },
            Err(error) => Run {
                at_ms: now_ms,
                due_ms: Some(latest.at_ms),
                message: None,
                problem: Some(error.into_words()?),
            },
        };
        schedule.runs += u64::from(run.message.is_some());
        schedule.note(run);
    }
    let is_over = schedule.count.is_some_and(|count| schedule.runs >= count);
    let next = schedule.rhythm.after(latest.local, latest.at_ms.max(now_ms)).filter(|_| !is_over);
    schedule.state = State::waiting_for(next);
    save(tx, app, &schedule)
}

/// On readers' own walls a moment lasts for a day: as long as some are ahead, it is not missed.
fn is_worth_it(missed: Missed, start: &Start, now_ms: u64) -> bool {
    missed == Missed::RunOnce || now_ms <= start.last_ms().saturating_add(LATE_MAX_MS)
}

/// Sends it now, beside its moments.
pub(crate) fn run_now(
    tx: &mut Tx<'_>,
    rules: &Rules,
    app: &AppId,
    mut schedule: Schedule,
) -> Result<MessageId, RunError> {
    let now_ms = tx.now_ms();
    let message = message_of(&schedule, messages::new_id(), Start::At(now_ms), now_ms);
    let id = run(tx, rules, message)?;
    schedule.note(Run { at_ms: now_ms, due_ms: None, message: Some(id.to_string()), problem: None });
    tx.save(Space::Apps, keys::schedule(app, &schedule.id), &schedule)?; // its check is there already
    Ok(id)
}

fn run(tx: &mut Tx<'_>, rules: &Rules, mut message: Message) -> Result<MessageId, RunError> {
    if messages::load(tx, &message.app, message.id)?.is_some() {
        return Ok(message.id); // this moment has its message
    }
    message.audience.make_ready(tx, &message.app)?;
    templates::write_out(tx, &mut message)?;
    if message.policy.is_none()
        && let Some(category) = message.category().map(str::to_owned)
    {
        message.policy = policies::of_category(tx, &message.app, &category)?;
    }
    let (id, estimate) = (message.id, message.audience.estimate(tx, &message.app)?);
    sending::begin(tx, rules, message, estimate)?;
    Ok(id)
}

fn message_of(schedule: &Schedule, id: MessageId, start: Start, now_ms: u64) -> Message {
    let outline = &schedule.message;
    let begins_at_ms = start.last_ms().max(now_ms);
    // Its times count from when the schedule was written.
    let then = |at_ms: u64| begins_at_ms.saturating_add(at_ms.saturating_sub(outline.accepted_at_ms));
    Message {
        id,
        accepted_at_ms: now_ms,
        expires_at_ms: Some(outline.expires_at_ms.map_or(begins_at_ms, then)),
        inbox_until_ms: outline.inbox_until_ms.map(then),
        start: Some(start).filter(|start| start.last_ms() > now_ms),
        schedule: Some(schedule.id.clone()),
        ..outline.clone()
    }
}

/// A UUID, version 7, that stands for this moment of this schedule and no other.
fn moment_id(app: &AppId, schedule: &str, moment: Moment) -> MessageId {
    let hash = sha256(format!("{app}\0{schedule}\0{}\0{}", moment.local, moment.at_ms).as_bytes());
    let mut random = [0; 10];
    random.iter_mut().zip(hash).for_each(|(byte, hash)| *byte = hash);
    let id = uuid::Builder::from_unix_timestamp_millis(moment.at_ms, &random);
    MessageId(id.into_uuid().into_bytes())
}

impl Schedule {
    fn note(&mut self, run: Run) {
        self.recent.insert(0, run);
        self.recent.truncate(RUNS_KEPT);
    }

    /// Lets it wait for nothing, or for its next moment.
    pub fn pause(&mut self, is_pause: bool, now_ms: u64) {
        self.state = match (self.state, is_pause) {
            (State::Active { .. }, true) => State::Paused,
            // Moments that passed meanwhile are not made up for.
            (State::Paused, false) => State::waiting_for(self.rhythm.first(now_ms)),
            (state, _) => state,
        };
    }

    /// Waits for its first moment. `false` when there is none.
    pub fn begin(&mut self, now_ms: u64) -> bool {
        self.state = State::waiting_for(self.rhythm.first(now_ms));
        self.state != State::Ended
    }
}

#[cfg(test)]
mod tests;
