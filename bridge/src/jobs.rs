//! Work on whole audiences, a chunk at a time: find the devices, end what is left, forget what is history.
//!
//! A job's place is written together with the work of its chunk, so after a crash it goes on where it stopped.

use std::collections::BTreeMap;

use reveille_proto::bridge::{SEND_TARGETS_MAX, Strategy};
use reveille_proto::ids::{AppId, MessageId};
use serde::{Deserialize, Serialize};

use crate::audience::Cursor;
use crate::deliveries::{self, Case};
use crate::messages::{self, Message, app_text, id_text};
use crate::plan::Push;
use crate::queues::{self, Check, Out};
use crate::receipts;
use crate::rules::Rules;
use crate::store::{Order, Space, StoreError, Tx, decode, keys};
use crate::webhooks;

/// Deliveries in one transaction at most, so that others get their turn.
const CHUNK: usize = 1000;
/// Pushes of one large message that wait for their vendors at most: beyond it no further devices are looked for, so that
/// what a message has on disk does not grow with its audience, and a pause has little to put aside.
const AHEAD_MAX: u64 = 20_000;
/// Looking goes on when so few wait.
pub(crate) const AHEAD_RESUME: u64 = AHEAD_MAX / 2;
/// How long devices that a policy held back wait further when enough pushes of the message wait, and when it is paused, in
/// milliseconds.
const CROWD_MS: u64 = 1_000;
const PAUSE_MS: u64 = 30_000;
/// Bytes of client ids in one `Send` at most, so that a packet stays far below a broker's bound.
const SEND_BYTES_MAX: usize = 256 * 1024;

/// Work on the deliveries of one message. A message has one job at a time; a later one takes the place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Job {
    #[serde(with = "app_text")]
    pub app: AppId,
    #[serde(with = "id_text")]
    pub message: MessageId,
    pub task: Task,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Task {
    /// Find the devices and begin their deliveries.
    Expand(Cursor),
    /// Put the pushes back that a pause put aside, then find further devices.
    Resume(Option<Cursor>),
    /// End what is in flight, after this device: the message was withdrawn or has expired.
    End(Option<String>),
    /// Remove the deliveries, and then the message.
    Forget,
}

/// Begins a job, in place of the message's job so far.
pub(crate) fn begin(tx: &mut Tx<'_>, app: &AppId, message: MessageId, task: Task) -> Result<(), StoreError> {
    let job = Job { app: app.clone(), message, task };
    tx.touched().jobs = true;
    tx.remove(Space::Queues, keys::held_job(app, message));
    tx.save(Space::Queues, keys::job(app, message), &job)
}

/// Lets a message's job rest.
fn hold(tx: &mut Tx<'_>, job: &Job) -> Result<(), StoreError> {
    tx.remove(Space::Queues, keys::job(&job.app, job.message));
    tx.save(Space::Queues, keys::held_job(&job.app, job.message), job)
}

/// A message's job that rests goes on, if there is one.
pub(crate) fn release(tx: &mut Tx<'_>, app: &AppId, message: MessageId) -> Result<(), StoreError> {
    match tx.load::<Job>(Space::Queues, &keys::held_job(app, message))? {
        Some(job) => begin(tx, app, message, job.task),
        None => Ok(()),
    }
}

/// Goes on with a message after a pause: what was put aside first, then the rest of its audience.
pub(crate) fn resume(tx: &mut Tx<'_>, app: &AppId, message: MessageId) -> Result<(), StoreError> {
    let mut job = tx.load::<Job>(Space::Queues, &keys::held_job(app, message))?;
    if job.is_none() {
        job = tx.load(Space::Queues, &keys::job(app, message))?; // it did not come to rest yet
    }
    let task = match job.map(|job| job.task) {
        None => Task::Resume(None),
        Some(Task::Expand(cursor)) => Task::Resume(Some(cursor)),
        Some(Task::Resume(cursor)) => Task::Resume(cursor),
        Some(ending @ (Task::End(_) | Task::Forget)) => ending,
    };
    begin(tx, app, message, task)
}

/// The jobs after a key.
pub(crate) fn list(tx: &Tx<'_>, limit: usize) -> Result<Vec<Job>, StoreError> {
    let found = tx.scan(Space::Queues, &keys::jobs(), None, Order::Forward, limit)?;
    found.iter().map(|(_, value)| decode(value)).collect()
}

/// Does the next chunk of a message's job. `false` when there is none, or no more.
pub(crate) fn step(tx: &mut Tx<'_>, rules: &Rules, app: &AppId, id: MessageId) -> Result<bool, StoreError> {
    let Some(job) = tx.load::<Job>(Space::Queues, &keys::job(app, id))? else { return Ok(false) };
    let Some(message) = messages::load(tx, app, id)? else {
        tx.remove(Space::Queues, keys::job(app, id));
        return Ok(false);
    };
    if must_rest(tx, &message, &job.task)? {
        hold(tx, &job)?;
        return Ok(false);
    }
    let next = match job.task {
        Task::Expand(cursor) => expand(tx, rules, message, &cursor)?,
        Task::Resume(cursor) => put_back(tx, &message, cursor)?,
        Task::End(after) => end(tx, &message, after.as_deref())?,
        Task::Forget => forget(tx, &message)?,
    };
    match next {
        Some(task) => begin(tx, app, id, task).map(|()| true),
        None => {
            tx.remove(Space::Queues, keys::job(app, id));
            Ok(false)
        }
    }
}

/// A paused message finds no further devices, nor does one with enough of them waiting.
fn must_rest(tx: &Tx<'_>, message: &Message, task: &Task) -> Result<bool, StoreError> {
    match task {
        Task::Expand(_) | Task::Resume(_) if message.is_paused() => Ok(true),
        Task::Expand(_) if message.is_bulk => {
            Ok(deliveries::funnel(tx, &message.app, message.id)?.vendor_queued >= AHEAD_MAX)
        }
        Task::Expand(_) | Task::Resume(_) | Task::End(_) | Task::Forget => Ok(false),
    }
}

/// The pushes that [`queues::PAUSED_MS`] keeps are due now.
fn put_back(tx: &mut Tx<'_>, message: &Message, cursor: Option<Cursor>) -> Result<Option<Task>, StoreError> {
    let mut count = 0;
    for lane in queues::lanes(tx)?.into_iter().filter(|lane| lane.app == message.app) {
        for waiting in queues::paused(tx, &lane, message.id, CHUNK - count)? {
            let mut case = Case::load(tx, message, &waiting.device)?;
            if case.delivery.due_ms == Some(waiting.due_ms) {
                let now_ms = tx.now_ms();
                case.wait_until(tx, lane.vendor, now_ms);
                case.write(tx)?;
            } else {
                queues::remove_push(tx, &lane, &waiting);
            }
            count += 1;
        }
    }
    match count < CHUNK {
        true => Ok(cursor.map(Task::Expand)),
        false => Ok(Some(Task::Resume(cursor))),
    }
}

fn expand(
    tx: &mut Tx<'_>,
    rules: &Rules,
    mut message: Message,
    cursor: &Cursor,
) -> Result<Option<Task>, StoreError> {
    let (ids, next) = message.audience.chunk(tx, &message.app, message.accepted_at_ms, cursor, CHUNK)?;
    let mut gathered = Gathered::default();
    for id in ids {
        let mut case = Case::load(tx, &message, &id)?;
        if case.is_known() {
            continue; // in another part of the audience too
        }
        case.settle(tx)?;
        gathered.add(case);
    }
    gathered.hand_over(tx, rules, &message)?;
    if next.is_none() {
        message.is_expanded = true;
        messages::save(tx, &message)?;
        messages::tell(tx, &message, webhooks::MESSAGE_SENDING)?;
        let counts = deliveries::funnel(tx, &message.app, message.id)?;
        if counts.in_flight == 0 {
            messages::tell_done(tx, &message, &counts)?;
        }
    }
    Ok(next.map(Task::Expand))
}

/// What settled deliveries leave to do, so that one packet or one look is for many devices.
#[derive(Default)]
struct Gathered {
    for_broker: BTreeMap<&'static str, (Strategy, Vec<String>)>,
    /// By the moment at which their policy is asked again.
    held: BTreeMap<u64, Vec<String>>,
}

impl Gathered {
    fn add(&mut self, case: Case<'_>) {
        let strategy = case.delivery.strategy;
        if case.to_broker {
            self.for_broker.entry(strategy.name()).or_insert((strategy, Vec::new())).1.push(case.device_id);
        } else if let Some(until_ms) = case.held_until_ms {
            self.held.entry(until_ms).or_default().push(case.device_id);
        }
    }

    fn hand_over(self, tx: &mut Tx<'_>, rules: &Rules, message: &Message) -> Result<(), StoreError> {
        for (strategy, devices) in self.for_broker.into_values() {
            hand_to_broker(tx, rules, message, strategy, devices)?;
        }
        for (until_ms, devices) in self.held {
            ask_again(tx, message, until_ms, devices)?;
        }
        Ok(())
    }
}

fn ask_again(tx: &mut Tx<'_>, message: &Message, at_ms: u64, devices: Vec<String>) -> Result<(), StoreError> {
    queues::check_at(tx, at_ms, &Check::Admission { app: message.app.clone(), message: message.id, devices })
}

/// Asks a message's policy again about devices that it held the message back from.
pub(crate) fn admit(
    tx: &mut Tx<'_>,
    rules: &Rules,
    app: &AppId,
    id: MessageId,
    devices: Vec<String>,
) -> Result<(), StoreError> {
    let Some(message) = messages::load(tx, app, id)? else { return Ok(()) };
    if must_rest(tx, &message, &Task::Expand(Cursor::default()))? && message.recalled_at_ms.is_none() {
        let wait_ms = if message.is_paused() { PAUSE_MS } else { CROWD_MS };
        return ask_again(tx, &message, tx.now_ms().saturating_add(wait_ms), devices);
    }
    let mut gathered = Gathered::default();
    for id in devices {
        let mut case = Case::load(tx, &message, &id)?;
        if case.is_known() {
            case.settle(tx)?;
            gathered.add(case);
        }
    }
    gathered.hand_over(tx, rules, &message)
}

/// Writes the outbox entries for some devices, and looks later whether the broker said anything.
pub(crate) fn hand_to_broker(
    tx: &mut Tx<'_>,
    rules: &Rules,
    message: &Message,
    strategy: Strategy,
    devices: Vec<String>,
) -> Result<(), StoreError> {
    let (app, id) = (&message.app, message.id);
    for devices in packets(devices) {
        let out = Out::Send { app: app.clone(), message: id, strategy, devices: devices.clone() };
        queues::tell_broker(tx, &out)?;
        if matches!(strategy, Strategy::OnlineFirst) {
            let silent_at_ms =
                tx.now_ms().saturating_add(message.wait_ack_ms).saturating_add(rules.broker_silence_ms);
            queues::check_at(tx, silent_at_ms, &Check::Silence { app: app.clone(), message: id, devices })?;
        }
    }
    Ok(())
}

fn packets(devices: Vec<String>) -> Vec<Vec<String>> {
    let mut packets: Vec<Vec<String>> = Vec::new();
    let mut bytes = 0;
    for device in devices {
        let is_full = packets.last().is_none_or(|packet| packet.len() >= SEND_TARGETS_MAX);
        if is_full || bytes + device.len() > SEND_BYTES_MAX {
            packets.push(Vec::new());
            bytes = 0;
        }
        bytes += device.len();
        if let Some(packet) = packets.last_mut() {
            packet.push(device);
        }
    }
    packets
}

fn end(tx: &mut Tx<'_>, message: &Message, after: Option<&str>) -> Result<Option<Task>, StoreError> {
    let found = deliveries::list(tx, &message.app, message.id, after, CHUNK)?;
    let last = found.last().map(|(device, _)| device.clone());
    let is_last = found.len() < CHUNK;
    for (device, delivery) in found {
        if delivery.bucket == deliveries::Bucket::InFlight {
            Case::load(tx, message, &device)?.settle(tx)?; // the plan sees that it is over
        }
    }
    Ok(if is_last { None } else { Some(Task::End(last)) })
}

fn forget(tx: &mut Tx<'_>, message: &Message) -> Result<Option<Task>, StoreError> {
    let (app, id) = (&message.app, message.id);
    let found = deliveries::list(tx, app, id, None, CHUNK)?;
    let is_last = found.len() < CHUNK;
    for (device, delivery) in found {
        if let (Push::Queued(vendor) | Push::Submitted(vendor), Some(waiting)) =
            (delivery.facts.push, delivery.waiting(message, &device))
        {
            queues::remove_push(tx, &message.lane(vendor, &delivery.credential), &waiting);
        }
        receipts::forget(tx, app, &delivery);
        tx.remove(Space::Messages, keys::delivery(app, id, &device));
    }
    if !is_last {
        return Ok(Some(Task::Forget));
    }
    tx.remove(Space::Messages, keys::funnel(app, id));
    tx.remove(Space::Messages, keys::message(app, id));
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_bounded_in_devices_and_bytes_and_lose_nobody() {
        for (count, length, wanted) in [(0, 1, 0), (4096, 1, 1), (4097, 1, 2), (600, 1024, 3)] {
            let devices: Vec<_> = (0..count).map(|n| format!("{n:0length$}")).collect();
            let packets = packets(devices.clone());
            assert_eq!(packets.len(), wanted, "{count} of {length} bytes");
            assert_eq!(packets.concat(), devices);
        }
    }
}
