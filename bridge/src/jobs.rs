//! Work on whole audiences, a chunk at a time: find the devices, end what is left, forget what is history.
//!
//! A job's place is written together with the work of its chunk, so after a crash it goes on where it stopped.

use std::collections::BTreeMap;

use reveille_proto::bridge::{SEND_TARGETS_MAX, Strategy};
use reveille_proto::ids::{AppId, MessageId};
use serde::{Deserialize, Serialize};

use crate::audience::Cursor;
use crate::deliveries::{self, Bucket, Case, Delivery, Reaction};
use crate::inbox;
use crate::messages::{self, Extent, Message, app_text, id_text};
use crate::pace::Pace;
use crate::plan::{Broker, Push};
use crate::policies::crowd;
use crate::queues::{self, Check, LOOK_MAX, Out};
use crate::receipts;
use crate::rules::Rules;
use crate::sending;
use crate::starts::{Start, Wave};
use crate::store::{Order, Space, StoreError, Tx, keys};
use crate::webhooks;

/// Deliveries in one transaction at most, so that others get their turn.
const CHUNK: usize = 1000;
/// Pushes of one large message that wait for their vendors at most: beyond it no further devices are looked for, so that
/// what a message has on disk does not grow with its audience, and a pause has little to put aside.
const AHEAD_MAX: u64 = 20_000;
/// Looking goes on when so few wait.
pub(crate) const AHEAD_RESUME: u64 = AHEAD_MAX / 2;
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
    /// Not before this moment, in milliseconds since 1970: the message is paced.
    #[serde(default)]
    pub not_before_ms: u64,
}

/// A place in what is to be found: in one wave of the message, or in all of its audience.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    #[serde(flatten)]
    pub cursor: Cursor,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave: Option<Wave>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Task {
    /// Find the devices and begin their deliveries.
    Expand(Place),
    /// Put the pushes back that a pause put aside, then find further devices.
    Resume(Option<Place>),
    /// Hand the message's new content to whoever was not reached yet, after this device; then go on.
    Replace {
        /// The last device that was looked at.
        after: Option<String>,
        /// What is to be done then.
        then: Option<Box<Task>>,
    },
    /// End what is in flight, after this device: the message was withdrawn or has expired.
    End(Option<String>),
    /// Remove the deliveries, and then the message.
    Forget,
}

/// Begins a job, in place of the message's job so far.
pub(crate) fn begin(tx: &mut Tx<'_>, app: &AppId, message: MessageId, task: Task) -> Result<(), StoreError> {
    let job = Job { app: app.clone(), message, task, not_before_ms: 0 };
    tx.touched().jobs = true;
    tx.remove(Space::Queues, keys::held_job(app, message));
    tx.save(Space::Queues, keys::job(app, message), &job)
}

/// Lets a message's job rest.
fn hold(tx: &mut Tx<'_>, job: &Job) -> Result<(), StoreError> {
    tx.remove(Space::Queues, keys::job(&job.app, job.message));
    tx.save(Space::Queues, keys::held_job(&job.app, job.message), job)
}

/// Lets a message's job rest for so long: it broke off.
pub(crate) fn put_off(
    tx: &mut Tx<'_>,
    app: &AppId,
    message: MessageId,
    wait_ms: u64,
) -> Result<(), StoreError> {
    let Some(job) = tx.load::<Job>(Space::Queues, &keys::job(app, message))? else { return Ok(()) };
    hold(tx, &job)?;
    let due_ms = tx.now_ms().saturating_add(wait_ms);
    queues::check_at(tx, due_ms, &Check::GoOn { app: app.clone(), message })
}

/// A message's job that rests goes on, if there is one.
pub(crate) fn release(tx: &mut Tx<'_>, app: &AppId, message: MessageId) -> Result<(), StoreError> {
    match tx.load::<Job>(Space::Queues, &keys::held_job(app, message))? {
        Some(job) => {
            tx.touched().jobs = true;
            tx.remove(Space::Queues, keys::held_job(app, message));
            tx.save(Space::Queues, keys::job(app, message), &job)
        }
        None => Ok(()),
    }
}

/// Goes on with a message after a pause: what was put aside first, then the rest of its audience.
pub(crate) fn resume(tx: &mut Tx<'_>, app: &AppId, message: MessageId) -> Result<(), StoreError> {
    let task = resumed(task_of(tx, app, message)?);
    begin(tx, app, message, task)
}

fn resumed(task: Option<Task>) -> Task {
    match task {
        None => Task::Resume(None),
        Some(Task::Expand(cursor)) => Task::Resume(Some(cursor)),
        Some(Task::Resume(cursor)) => Task::Resume(cursor),
        Some(Task::Replace { after, then }) => {
            Task::Replace { after, then: Some(Box::new(resumed(then.map(|then| *then)))) }
        }
        Some(ending @ (Task::End(_) | Task::Forget)) => ending,
    }
}

/// What a message's job does, at work or at rest.
fn task_of(tx: &Tx<'_>, app: &AppId, message: MessageId) -> Result<Option<Task>, StoreError> {
    let mut job = tx.load::<Job>(Space::Queues, &keys::held_job(app, message))?;
    if job.is_none() {
        job = tx.load(Space::Queues, &keys::job(app, message))?; // it did not come to rest yet
    }
    Ok(job.map(|job| job.task))
}

/// Hands out a message's new content from the first device on; what its job did goes on behind that.
pub(crate) fn replace(tx: &mut Tx<'_>, app: &AppId, message: MessageId) -> Result<(), StoreError> {
    let then = match task_of(tx, app, message)? {
        Some(Task::End(_) | Task::Forget) => return Ok(()), // nobody is reached any more
        Some(Task::Replace { then, .. }) => then,
        task => task.map(Box::new),
    };
    begin(tx, app, message, Task::Replace { after: None, then })
}

/// Looks for devices from a place on, after what a pause put aside was put back.
pub(crate) fn expand_from(
    tx: &mut Tx<'_>,
    app: &AppId,
    message: MessageId,
    place: Place,
) -> Result<(), StoreError> {
    let job = tx.load::<Job>(Space::Queues, &keys::job(app, message))?;
    match job.map(|job| job.task) {
        Some(Task::Resume(_)) => begin(tx, app, message, Task::Resume(Some(place))),
        Some(Task::Replace { after, .. }) => {
            let then = Some(Box::new(Task::Expand(place)));
            begin(tx, app, message, Task::Replace { after, then })
        }
        Some(Task::End(_) | Task::Forget) => Ok(()),
        Some(Task::Expand(_)) | None => begin(tx, app, message, Task::Expand(place)),
    }
}

/// Whether a message's deliveries are being removed.
pub(crate) fn is_being_forgotten(tx: &Tx<'_>, app: &AppId, message: MessageId) -> Result<bool, StoreError> {
    let job = tx.load::<Job>(Space::Queues, &keys::job(app, message))?;
    Ok(job.is_some_and(|job| job.task == Task::Forget))
}

/// The first jobs, of all apps.
pub(crate) fn list(tx: &Tx<'_>, limit: usize) -> Result<Vec<Job>, StoreError> {
    let found = tx.records(Space::Queues, &keys::jobs(), None, Order::Forward, limit)?;
    Ok(found.into_iter().map(|(_, job)| job).collect())
}

/// Does the next chunk of a message's job. `false` when there is none, or no more.
pub(crate) fn step(tx: &mut Tx<'_>, rules: &Rules, app: &AppId, id: MessageId) -> Result<bool, StoreError> {
    let Some(job) = tx.load::<Job>(Space::Queues, &keys::job(app, id))? else { return Ok(false) };
    let Some(message) = messages::load(tx, app, id)? else {
        tx.remove(Space::Queues, keys::job(app, id));
        return Ok(false);
    };
    if job.not_before_ms > tx.now_ms() || must_rest(tx, &message, &job.task)? {
        hold(tx, &job)?;
        return Ok(false);
    }
    let next = match job.task {
        Task::Expand(place) => {
            let pace = message.speed.pace(message.estimate);
            let (begun, next) = expand(tx, rules, message, place, pace)?;
            match (pace, next) {
                (Some(pace), Some(task)) => {
                    let now_ms = tx.now_ms();
                    let due_ms = if job.not_before_ms == 0 { now_ms } else { job.not_before_ms };
                    return rest_until(tx, app, id, task, pace.next_ms(due_ms, now_ms, begun));
                }
                (_, next) => next,
            }
        }
        Task::Resume(place) => put_back(tx, &message, place)?,
        Task::Replace { after, then } => hand_out_anew(tx, rules, &message, after.as_deref(), then)?,
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

/// Lets the job of a paced message rest until its next step is due.
fn rest_until(
    tx: &mut Tx<'_>,
    app: &AppId,
    message: MessageId,
    task: Task,
    not_before_ms: u64,
) -> Result<bool, StoreError> {
    let job = Job { app: app.clone(), message, task, not_before_ms };
    if not_before_ms <= tx.now_ms() {
        tx.touched().jobs = true;
        tx.save(Space::Queues, keys::job(app, message), &job)?;
        return Ok(true);
    }
    hold(tx, &job)?;
    queues::check_at(tx, not_before_ms, &Check::GoOn { app: app.clone(), message })?;
    Ok(false)
}

/// A paused message finds no further devices, nor does one with enough of them waiting.
fn must_rest(tx: &Tx<'_>, message: &Message, task: &Task) -> Result<bool, StoreError> {
    match task {
        Task::Expand(_) | Task::Resume(_) if message.is_paused() => Ok(true),
        Task::Expand(_) => is_crowded(tx, message),
        Task::Resume(_) | Task::Replace { .. } | Task::End(_) | Task::Forget => Ok(false),
    }
}

/// Whether enough pushes of a large message wait for their vendors.
pub(crate) fn is_crowded(tx: &Tx<'_>, message: &Message) -> Result<bool, StoreError> {
    Ok(message.is_bulk && deliveries::funnel(tx, &message.app, message.id)?.vendor_queued >= AHEAD_MAX)
}

/// The pushes that [`queues::PAUSED_MS`] keeps are due now.
fn put_back(tx: &mut Tx<'_>, message: &Message, place: Option<Place>) -> Result<Option<Task>, StoreError> {
    let mut count = 0;
    for lane in queues::lanes(tx)?.into_iter().filter(|lane| lane.app == message.app) {
        for waiting in queues::paused(tx, &lane, message.id, CHUNK - count)? {
            queues::remove_push(tx, &lane, &waiting); // its lane may be another one now
            let mut case = Case::load(tx, message, &waiting.device)?;
            if case.delivery.due_ms == Some(waiting.due_ms) {
                let now_ms = tx.now_ms();
                case.wait_until(tx, lane.vendor, now_ms)?;
                case.write(tx)?;
            }
            count += 1;
        }
    }
    match count < CHUNK {
        true => Ok(place.map(Task::Expand)),
        false => Ok(Some(Task::Resume(place))),
    }
}

fn expand(
    tx: &mut Tx<'_>,
    rules: &Rules,
    mut message: Message,
    place: Place,
    pace: Option<Pace>,
) -> Result<(usize, Option<Task>), StoreError> {
    let limit = pace.map_or(CHUNK, |pace| pace.step(CHUNK));
    let (ids, next) = find(tx, &message, &place, limit)?;
    let in_inbox = inbox::Place::of(&message);
    let mut begun = 0;
    let mut gathered = Gathered::default();
    for id in ids {
        let mut case = Case::load(tx, &message, &id)?;
        if case.is_known() || !is_in_wave(&message, &place, &case) {
            continue; // in another part of the audience too, or in another wave
        }
        case.keep_in_inbox(tx, rules, in_inbox)?;
        case.settle(tx)?;
        begun += 1;
        gathered.add(case);
    }
    gathered.hand_over(tx, rules, &message)?;
    if next.is_none() && !sending::next_wave(tx, &message, &place)? {
        message.is_expanded = true;
        messages::save(tx, &message)?;
        messages::tell(tx, &message, webhooks::MESSAGE_SENDING)?;
        let counts = deliveries::funnel(tx, &message.app, message.id)?;
        if counts.in_flight == 0 {
            messages::tell_done(tx, &message, &counts)?;
        }
    }
    let wave = place.wave;
    Ok((begun, next.map(|cursor| Task::Expand(Place { cursor, wave }))))
}

/// The next devices that a message may be for, and where to go on.
fn find(
    tx: &Tx<'_>,
    message: &Message,
    place: &Place,
    limit: usize,
) -> Result<(Vec<String>, Option<Cursor>), StoreError> {
    let (app, begins_at_ms) = (&message.app, message.begins_at_ms());
    let within = match (&message.start, place.wave) {
        (Some(Start::Local(local)), Some(wave)) => match local.devices_in(wave) {
            Some(within) => Some(within),
            None => return Ok((Vec::new(), None)),
        },
        (_, _) => None,
    };
    message.audience.chunk(tx, app, begins_at_ms, within, &place.cursor, limit)
}

fn is_in_wave(message: &Message, place: &Place, case: &Case<'_>) -> bool {
    let (Some(Start::Local(local)), Some(wave)) = (&message.start, place.wave) else { return true };
    let device = case.device.as_ref();
    local.is_in(wave, device.and_then(|device| device.attributes.timezone.as_deref()))
}

/// The name of a strategy, and a language: what one send to the broker has in common.
type Way = (&'static str, Option<String>);

/// What settled deliveries leave to do, so that one packet or one look is for many devices.
#[derive(Default)]
struct Gathered {
    for_broker: BTreeMap<Way, (Strategy, Vec<String>)>,
    /// By the moment at which their policy is asked again.
    held: BTreeMap<u64, Vec<String>>,
}

impl Gathered {
    fn add(&mut self, case: Case<'_>) {
        let strategy = case.delivery.strategy;
        if case.to_broker {
            let way = (strategy.name(), case.delivery.language);
            self.for_broker.entry(way).or_insert((strategy, Vec::new())).1.push(case.device_id);
        } else if let Some(until_ms) = case.held_until_ms {
            self.held.entry(until_ms).or_default().push(case.device_id);
        }
    }

    fn hand_over(self, tx: &mut Tx<'_>, rules: &Rules, message: &Message) -> Result<(), StoreError> {
        for ((_, language), (strategy, devices)) in self.for_broker {
            hand_to_broker(tx, rules, message, strategy, language, devices)?;
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
    match crowd::wait_ms(tx, &message)? {
        Some(wait_ms) => crowd::put_aside(tx, &message, &devices, wait_ms),
        None => ask_about(tx, rules, &message, devices),
    }
}

/// The same where there is room.
pub(crate) fn ask_about(
    tx: &mut Tx<'_>,
    rules: &Rules,
    message: &Message,
    devices: Vec<String>,
) -> Result<(), StoreError> {
    let mut gathered = Gathered::default();
    for id in devices {
        let mut case = Case::load(tx, message, &id)?;
        if case.is_known() {
            case.settle(tx)?;
            gathered.add(case);
        }
    }
    gathered.hand_over(tx, rules, message)
}

/// Queues that had the old content get the new one, and so do vendors that did not show the old one yet.
fn hand_out_anew(
    tx: &mut Tx<'_>,
    rules: &Rules,
    message: &Message,
    after: Option<&str>,
    then: Option<Box<Task>>,
) -> Result<Option<Task>, StoreError> {
    let found = deliveries::list(tx, &message.app, message.id, after, CHUNK)?;
    let last = found.last().map(|(device, _)| device.clone());
    let is_last = found.len() < CHUNK;
    let mut gathered = Gathered::default();
    for (device, delivery) in found {
        if !matches!(delivery.bucket, Bucket::InFlight | Bucket::VendorAccepted) {
            continue; // the device has the old one, or is not looked for any more
        }
        let mut case = Case::load(tx, message, &device)?;
        case.settle(tx)?;
        case.change_lane(tx)?;
        let facts = &case.delivery.facts;
        let has_old = matches!(facts.broker, Broker::Told | Broker::Missed { .. } | Broker::Silent);
        case.to_broker |= has_old && facts.ended.is_none();
        gathered.add(case);
    }
    gathered.hand_over(tx, rules, message)?;
    match is_last {
        true => Ok(then.map(|then| *then)),
        false => Ok(Some(Task::Replace { after: last, then })),
    }
}

/// Writes the outbox entries for some devices with one language, and looks later whether the broker said anything.
pub(crate) fn hand_to_broker(
    tx: &mut Tx<'_>,
    rules: &Rules,
    message: &Message,
    strategy: Strategy,
    language: Option<String>,
    devices: Vec<String>,
) -> Result<(), StoreError> {
    let (app, id) = (&message.app, message.id);
    let targets_max = if message.is_personal() { 1 } else { SEND_TARGETS_MAX };
    for devices in packets(devices, targets_max) {
        let (language, devices_too) = (language.clone(), devices.clone());
        let out = Out::Send { app: app.clone(), message: id, strategy, language, devices: devices_too };
        queues::tell_broker(tx, &out)?;
        if matches!(strategy, Strategy::OnlineFirst) {
            let silent_at_ms =
                tx.now_ms().saturating_add(message.wait_ack_ms).saturating_add(rules.broker_silence_ms);
            for devices in devices.chunks(LOOK_MAX) {
                let (app, devices) = (app.clone(), devices.to_vec());
                queues::check_at(tx, silent_at_ms, &Check::Silence { app, message: id, devices })?;
            }
        }
    }
    Ok(())
}

fn packets(devices: Vec<String>, targets_max: usize) -> Vec<Vec<String>> {
    let mut packets: Vec<Vec<String>> = Vec::new();
    let mut bytes = 0;
    for device in devices {
        let is_full = packets.last().is_none_or(|packet| packet.len() >= targets_max);
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
    let (mut queued, mut told) = (Vec::new(), Vec::new());
    for (device, delivery) in found {
        let (is_in_flight, broker) = (delivery.bucket == Bucket::InFlight, delivery.facts.broker);
        if is_in_flight || (message.is_taken_back() && delivery.facts.push.vendor().is_some()) {
            Case::load(tx, message, &device)?.settle(tx)?; // the plan sees that it is over
        }
        if message.recalled_at_ms.is_none() {
            continue;
        }
        if let Some(user) = delivery.inbox_user.as_deref().filter(|_| message.recalled > Extent::Pending) {
            inbox::withdraw(tx, message, user)?;
        }
        if message.is_taken_back() && may_have_it(&delivery) {
            told.push(device);
        } else if message.recalled == Extent::Pending && is_in_flight && broker != Broker::Untold {
            queued.push(device);
        }
    }
    let (app, id) = (&message.app, message.id);
    for devices in packets(queued, SEND_TARGETS_MAX) {
        queues::tell_broker(tx, &Out::Withdraw { app: app.clone(), message: id, devices })?;
    }
    tell_recalled(tx, message, told)?;
    Ok(if is_last { None } else { Some(Task::End(last)) })
}

/// Tells devices that may show a message that it was withdrawn.
pub(crate) fn tell_recalled(
    tx: &mut Tx<'_>,
    message: &Message,
    devices: Vec<String>,
) -> Result<(), StoreError> {
    for devices in packets(devices, SEND_TARGETS_MAX) {
        queues::tell_broker(tx, &Out::Recalled { app: message.app.clone(), message: message.id, devices })?;
    }
    Ok(())
}

/// Whether the device may show the message: it took it, it may just be taking it, or its vendor has it. Whoever opened it or put
/// it away shows it no more.
pub(crate) fn may_have_it(delivery: &Delivery) -> bool {
    if matches!(delivery.reaction, Some(Reaction::Clicked | Reaction::Dismissed)) {
        return false;
    }
    match delivery.facts.broker {
        Broker::Acked | Broker::Told | Broker::Silent => true,
        _ if delivery.facts.was_sent => true,
        Broker::Untold | Broker::Missed { .. } => {
            matches!(delivery.facts.push, Push::Submitted(_) | Push::Accepted(_) | Push::Delivered(_))
                || delivery.is_unknown
        }
    }
}

fn forget(tx: &mut Tx<'_>, message: &Message) -> Result<Option<Task>, StoreError> {
    let (app, id) = (&message.app, message.id);
    let found = deliveries::list(tx, app, id, None, CHUNK)?;
    let is_last = found.len() < CHUNK;
    for (device, delivery) in found {
        if let (Some(vendor), Some(waiting)) =
            (delivery.facts.push.vendor(), delivery.waiting(message, &device))
        {
            queues::remove_push(tx, &message.lane(vendor, &delivery.credential), &waiting);
        }
        receipts::forget(tx, app, &delivery);
        tx.remove(Space::Messages, keys::delivery(app, id, &device));
    }
    if !is_last {
        return Ok(Some(Task::Forget));
    }
    inbox::keep_content(tx, message)?;
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
            let packets = packets(devices.clone(), SEND_TARGETS_MAX);
            assert_eq!(packets.len(), wanted, "{count} of {length} bytes");
            assert_eq!(packets.concat(), devices);
        }
    }
}
