//! What policies must know over restarts: messages let through, pushes since a device went offline, the next turn by a
//! rate, the hours at which a device is online. Written in the transaction of what it is about.
//!
//! Counts begin with the moment at which they may be forgotten; one check for each of them sees to that.

use reveille_proto::ids::AppId;

use super::admission::{self, Answer, Asked};
use super::caps::{Cap, Tally};
use super::coalescing::{PERIOD_MS, Period, Share};
use super::habits::Habits;
use super::{Coalesce, Policy};
use crate::devices::{Device, Presence, USER};
use crate::messages::Message;
use crate::queues::{self, Check};
use crate::store::{Space, StoreError, Tx, keys};

/// A second, as rates count, in milliseconds.
const SECOND_MS: u64 = 1_000;

/// The policy that a message is under now.
pub(crate) fn of(tx: &Tx<'_>, message: &Message) -> Result<Option<Policy>, StoreError> {
    match message.ruled_by() {
        Some(name) => super::load(tx, &message.app, name),
        None => Ok(None),
    }
}

/// Whether a message may go to a device now; if so it is counted.
pub(crate) fn ask(
    tx: &mut Tx<'_>,
    message: &Message,
    device_id: &str,
    device: Option<&Device>,
    has_turn: bool,
) -> Result<Answer, StoreError> {
    let Some(policy) = of(tx, message)? else { return Ok(Answer::Go) };
    let now_ms = tx.now_ms();
    let recipient = recipient(device_id, device);
    let mut tallies = tallies(tx, &policy, message, device, &recipient)?;
    // Another device of the user's has it: it counts once, and goes to all of them.
    tallies.retain(|(_, tally)| !tally.has(message.id));
    let turn = match policy.rate_per_s.filter(|_| !has_turn) {
        Some(rate) => Some(Turn::next(tx, message, &policy, rate)?),
        None => None,
    };
    let answer = admission::admit(&Asked {
        policy: &policy,
        timezone: device.and_then(|device| device.attributes.timezone.as_deref()),
        expires_at_ms: message.expires_at_ms,
        tallies: &tallies,
        turn_ms: turn.as_ref().map_or(now_ms, |turn| turn.at_ms),
        now_ms,
    });
    let takes_turn = matches!(answer, Answer::Go | Answer::Hold { has_turn: true, .. });
    if let Some(turn) = turn.filter(|_| takes_turn) {
        turn.take(tx, message, &policy)?;
    }
    if answer == Answer::Go {
        for (cap, mut tally) in tallies {
            let keep_until_ms = tally.count(cap, message.id, now_ms);
            let key = keys::policy_count(&message.app, &policy.name, &cap.identity(), &recipient);
            keep(tx, key, keep_until_ms, &tally.write())?;
        }
    }
    Ok(answer)
}

/// Whose counts: a user's, over all devices, or a device's own.
fn recipient(device_id: &str, device: Option<&Device>) -> String {
    match device.and_then(|device| device.alias.get(USER)) {
        Some(user) => format!("u{user}"),
        None => format!("d{device_id}"),
    }
}

fn tallies<'p>(
    tx: &Tx<'_>,
    policy: &'p Policy,
    message: &Message,
    device: Option<&Device>,
    recipient: &str,
) -> Result<Vec<(&'p Cap, Tally)>, StoreError> {
    let has_tag = |tag: &String| device.is_some_and(|device| device.tags.contains(tag));
    let is_meant = |cap: &&Cap| {
        let category = cap.category.as_deref();
        cap.tag.as_ref().is_none_or(has_tag) && (category.is_none() || category == message.category())
    };
    let load = |cap: &'p Cap| {
        let key = keys::policy_count(&message.app, &policy.name, &cap.identity(), recipient);
        Ok((cap, Tally::read(&kept(tx, &key)?)))
    };
    policy.caps.iter().filter(is_meant).map(load).collect()
}

/// The next turn by a policy's rate: each message and recipient takes one, a second's worth goes at once.
struct Turn {
    /// When the message may go, in milliseconds since 1970; by whole seconds, so that many have one moment.
    at_ms: u64,
    /// When the turn after it comes, in microseconds.
    after_us: u64,
}

impl Turn {
    fn next(tx: &Tx<'_>, message: &Message, policy: &Policy, rate: u32) -> Result<Self, StoreError> {
        let kept = tx.load::<u64>(Space::Messages, &keys::policy_turn(&message.app, &policy.name))?;
        let now_ms = tx.now_ms();
        let turn_us = kept.unwrap_or(0).max(now_ms.saturating_mul(1_000));
        let early_ms = (turn_us / 1_000).saturating_sub(SECOND_MS);
        let at_ms = if early_ms < now_ms { now_ms } else { early_ms.next_multiple_of(SECOND_MS) };
        Ok(Self { at_ms, after_us: turn_us.saturating_add(1_000_000 / u64::from(rate.max(1))) })
    }

    fn take(self, tx: &mut Tx<'_>, message: &Message, policy: &Policy) -> Result<(), StoreError> {
        tx.save(Space::Messages, keys::policy_turn(&message.app, &policy.name), &self.after_us)
    }
}

/// What is pushed of a message to a device that has been offline since the network connection with this epoch.
pub(crate) fn share(
    tx: &mut Tx<'_>,
    message: &Message,
    policy: &Policy,
    device_id: &str,
    epoch: u64,
) -> Result<Share, StoreError> {
    if policy.coalesce == Coalesce::Every {
        return Ok(Share::Whole);
    }
    let key = keys::policy_period(&message.app, &policy.name, device_id);
    let mut period = Period::read(&kept(tx, &key)?);
    let share = period.share(&policy.coalesce, epoch);
    let keep_until_ms = tx.now_ms().saturating_add(PERIOD_MS);
    keep(tx, key, keep_until_ms, &period.write())?;
    Ok(share)
}

/// A push that was shared so woke nobody: the next message wakes the device.
pub(crate) fn take_back(
    tx: &mut Tx<'_>,
    message: &Message,
    device_id: &str,
    epoch: u64,
) -> Result<(), StoreError> {
    let Some(name) = message.ruled_by() else { return Ok(()) };
    let key = keys::policy_period(&message.app, name, device_id);
    let Some(bytes) = tx.get(Space::Messages, &key)? else { return Ok(()) };
    let mut period = Period::read(bytes.get(8..).unwrap_or_default());
    period.take_back(epoch);
    keep(tx, key, keys::number_at(&bytes, 0).unwrap_or(0), &period.write())
}

/// How long a push may wait for its device to be online as usual.
pub(crate) fn usual_wait(tx: &Tx<'_>, message: &Message, device_id: &str) -> Result<Option<u64>, StoreError> {
    let habits = tx.get(Space::Devices, &keys::habits(&message.app, device_id))?;
    Ok(Habits::read(&habits.unwrap_or_default()).wait_until(tx.now_ms(), message.expires_at_ms))
}

/// A network connection is over, or its device has a newer one: learns at which hours the device was online.
pub(crate) fn learn(
    tx: &mut Tx<'_>,
    app: &AppId,
    device_id: &str,
    was: &Presence,
    is: &Presence,
) -> Result<(), StoreError> {
    if !was.online {
        return Ok(());
    }
    let key = keys::habits(app, device_id);
    let mut habits = Habits::read(&tx.get(Space::Devices, &key)?.unwrap_or_default());
    habits.note(was.since_ms, is.since_ms);
    tx.put(Space::Devices, key, habits.write());
    Ok(())
}

/// What is counted under a key, without the moment at which it may be forgotten.
fn kept(tx: &Tx<'_>, key: &[u8]) -> Result<Vec<u8>, StoreError> {
    let bytes = tx.get(Space::Messages, key)?.unwrap_or_default();
    Ok(bytes.get(8..).unwrap_or_default().to_vec())
}

fn keep(tx: &mut Tx<'_>, key: Vec<u8>, until_ms: u64, bytes: &[u8]) -> Result<(), StoreError> {
    if !tx.has(Space::Messages, &key)? {
        queues::check_at(tx, until_ms, &Check::ForgetCount { key: key.clone() })?;
    }
    tx.put(Space::Messages, key, [&until_ms.to_be_bytes(), bytes].concat());
    Ok(())
}

/// Forgets a count whose time is over, or looks again then.
pub(crate) fn forget(tx: &mut Tx<'_>, key: Vec<u8>) -> Result<(), StoreError> {
    let Some(bytes) = tx.get(Space::Messages, &key)? else { return Ok(()) };
    let until_ms = keys::number_at(&bytes, 0).unwrap_or(0);
    if until_ms > tx.now_ms() {
        return queues::check_at(tx, until_ms, &Check::ForgetCount { key });
    }
    tx.remove(Space::Messages, key);
    Ok(())
}
