//! How a message that was accepted gets on its way: at once, at its moment, or in waves as clocks on walls show its time.

use reveille_proto::ids::{AppId, MessageId};

use crate::facts::keep_new;
use crate::jobs::{self, Place};
use crate::lists;
use crate::messages::{self, Message};
use crate::queues::{self, Check, SMALL_MAX};
use crate::rules::Rules;
use crate::starts::Start;
use crate::store::{StoreError, Tx};

/// A message for more devices than this waits behind smaller ones.
pub(crate) const BULK_OVER: u64 = 100;

impl Message {
    /// It is for about so many devices.
    fn expect(&mut self, estimate: u64) {
        (self.estimate, self.is_bulk) = (estimate, estimate > BULK_OVER);
    }
}

/// Writes a new message, for an audience of about so many devices, and begins it or lets it wait. The name of its state.
pub(crate) fn begin(
    tx: &mut Tx<'_>,
    rules: &Rules,
    mut message: Message,
    estimate: u64,
) -> Result<&'static str, StoreError> {
    message.expect(estimate);
    let begins_at_ms = message.begins_at_ms();
    message.is_waiting = begins_at_ms > tx.now_ms();
    keep_new(tx, rules, &message, true)?;
    for list in &message.audience.lists {
        lists::keep(tx, &message.app, list, message.expires_at_ms.unwrap_or(begins_at_ms))?;
    }
    let done_ms = match &message.start {
        Some(Start::Local(local)) => local.done_at(message.accepted_at_ms),
        Some(Start::At(_)) | None => 0,
    };
    match message.is_waiting {
        true => wait(tx, &message, begins_at_ms, done_ms).map(|()| "scheduled"),
        false => set_out(tx, rules, message, begins_at_ms, done_ms).map(|()| "accepted"),
    }
}

fn wait(tx: &mut Tx<'_>, message: &Message, due_ms: u64, done_ms: u64) -> Result<(), StoreError> {
    let check = Check::Start { app: message.app.clone(), message: message.id, due_ms, done_ms };
    queues::check_at(tx, due_ms, &check)
}

/// Its moment, or that of its next wave, has come.
pub(crate) fn look(
    tx: &mut Tx<'_>,
    rules: &Rules,
    app: &AppId,
    id: MessageId,
    due_ms: u64,
    done_ms: u64,
) -> Result<(), StoreError> {
    let Some(message) = messages::load(tx, app, id)? else { return Ok(()) };
    if message.recalled_at_ms.is_some() || message.is_expanded {
        return Ok(());
    }
    let begins_at_ms = message.begins_at_ms();
    if message.is_waiting && begins_at_ms > tx.now_ms() {
        return wait(tx, &message, begins_at_ms, done_ms); // the time zones changed since
    }
    set_out(tx, rules, message, due_ms, done_ms)
}

fn set_out(
    tx: &mut Tx<'_>,
    rules: &Rules,
    mut message: Message,
    due_ms: u64,
    done_ms: u64,
) -> Result<(), StoreError> {
    if std::mem::take(&mut message.is_waiting) {
        // Its audience may have grown since it was accepted.
        message.expect(message.audience.estimate(tx, &message.app)?);
        messages::save(tx, &message)?;
    }
    let wave = match &message.start {
        Some(Start::Local(local)) => Some(local.wave(done_ms, due_ms, tx.now_ms())),
        Some(Start::At(_)) | None => None,
    };
    jobs::expand_from(tx, &message.app, message.id, Place { wave, ..Place::default() })?;
    if message.estimate <= SMALL_MAX as u64 {
        jobs::step(tx, rules, &message.app, message.id)?;
    }
    Ok(())
}

/// Goes on after a wave. `false` when it was the last.
pub(crate) fn next_wave(tx: &mut Tx<'_>, message: &Message, place: &Place) -> Result<bool, StoreError> {
    let (Some(Start::Local(local)), Some(wave)) = (&message.start, place.wave) else { return Ok(false) };
    let Some(next_ms) = local.next_ms(wave) else { return Ok(false) };
    wait(tx, message, next_ms.max(tx.now_ms()), wave.until_ms)?;
    Ok(true)
}
