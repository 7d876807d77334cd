//! The one thread that writes: takes all batches that gathered while the last sync ran, writes them as one, syncs
//! once, and ends all their commits.
//!
//! ```text
//!            write failed for want of room
//!    Good ----------------------------------> Full   nothing new; what is stored can be read
//!     ^  \                                     |
//!     |   \ write or sync failed otherwise     | room is back: opened anew
//!     |    `-------------> Broken              |
//!     `----------------------------------------'
//! ```
//! Broken ends with the process: after a failed sync the system may show bytes that the disk does not have, and
//! whatever were written behind them could be lost.

use super::engine::{Engine, WriteError};
use super::group::Group;
use super::index::Index;
use super::janitor::Janitor;
use super::{Shared, directory};
use crate::StoreError;
use crate::commit::{Ending, end};
use reveille_broker_core::change::{Batch, Change};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

/// Bytes of the batches that are written as one. A sync costs about the same up to 256 KiB, and then grows.
const GROUP_BYTES_MAX: u64 = 4 << 20;

/// Bytes that a change costs besides its message; a guess, to bound groups.
const CHANGE_BYTES: u64 = 64;

/// Room that opening anew needs at least.
const REOPEN_SPACE_MIN: u64 = 8 << 20;

/// Between two attempts to open anew.
const REOPEN_PAUSE: Duration = Duration::from_millis(500);

/// What the committer is told.
pub(super) enum Command {
    Commit(Batch, Ending),
    /// Answered when everything before it is durable and the files are closed.
    Close(Sender<()>),
}

pub(super) struct Committer {
    shared: Arc<Shared>,
    index: Index,
    state: State,
    janitor: Janitor,
}

enum State {
    Good,
    Full { tried_at: Instant },
    Broken,
}

/// How much room the disk has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    /// For everything.
    Ample,
    /// For what makes queues shorter, not for new messages.
    Scarce,
    /// For nothing.
    None,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, index: Index) -> Result<Self, StoreError> {
        let janitor = Janitor::start(Arc::clone(&shared))?;
        Ok(Self { shared, index, state: State::Good, janitor })
    }

    /// Works until it is told to close, or nobody is left to tell it anything.
    pub(super) fn run(mut self, mailbox: &Receiver<Command>) {
        let mut closed = None;
        while closed.is_none() {
            let Ok(first) = mailbox.recv() else {
                break;
            };
            let (batches, close) = gather(first, mailbox);
            self.commit(batches);
            closed = close;
        }
        self.janitor.stop();
        self.shared.close_engine();
        if let Some(answer) = closed {
            let _ = answer.send(());
        }
    }

    /// Commits batches as one group. Each ends well or badly, in their order.
    fn commit(&mut self, batches: Vec<(Batch, Ending)>) {
        if let Err(error) = self.recover_state() {
            return batches.into_iter().for_each(|(_, ending)| end(ending, Err(error.clone())));
        }
        let room = self.room();
        let mut endings = Vec::with_capacity(batches.len());
        let mut accepted = Vec::with_capacity(batches.len());
        for (batch, ending) in batches {
            let fits = fits(&batch, room);
            endings.push((ending, fits));
            if fits {
                accepted.push(batch);
            }
        }
        let written = self.write(accepted);
        for (ending, was_accepted) in endings {
            end(ending, if was_accepted { written.clone() } else { Err(StoreError::Full) });
        }
    }

    fn write(&mut self, batches: Vec<Batch>) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        shared.with_engine(|engine| self.write_group(batches, engine).map_err(|error| self.failed(error)))
    }

    fn write_group(&mut self, batches: Vec<Batch>, engine: &Engine) -> Result<(), WriteError> {
        let mut group = Group::default();
        for batch in batches {
            group.add(batch, &mut self.index, engine).map_err(WriteError::Unknown)?;
        }
        if group.is_empty() {
            return Ok(());
        }
        engine.write(&group)?;
        self.janitor.look(engine.body_space(), self.index.live_bytes());
        Ok(())
    }

    /// What we remember is ahead of the disk now; nothing is written until it was read anew.
    fn failed(&mut self, error: WriteError) -> StoreError {
        match error {
            WriteError::NoRoom => self.state = State::Full { tried_at: Instant::now() },
            // The engine's worker met the end of the disk before we did: it does not say why it stopped.
            WriteError::Unknown(StoreError::Broken) if !self.has_room_to_reopen() => {
                self.state = State::Full { tried_at: Instant::now() };
            }
            WriteError::Unknown(error) => {
                tracing::error!(%error, "the store failed and takes nothing more");
                self.state = State::Broken;
                return error;
            }
        }
        tracing::error!("the disk is full");
        StoreError::Full
    }

    /// Opens anew when the disk was full and has room again.
    fn recover_state(&mut self) -> Result<(), StoreError> {
        match self.state {
            State::Good => return Ok(()),
            State::Broken => return Err(StoreError::Broken),
            State::Full { tried_at } if tried_at.elapsed() < REOPEN_PAUSE => return Err(StoreError::Full),
            State::Full { .. } => {}
        }
        self.state = State::Full { tried_at: Instant::now() };
        if !self.has_room_to_reopen() {
            return Err(StoreError::Full);
        }
        self.index = self.shared.reopen()?;
        self.state = State::Good;
        tracing::info!("the disk has room again");
        Ok(())
    }

    fn has_room_to_reopen(&self) -> bool {
        let wanted = self.shared.options.free_space_min.max(REOPEN_SPACE_MIN);
        directory::free_space(&self.shared.directory).is_ok_and(|free| free >= wanted)
    }

    fn room(&self) -> Room {
        let reserve = self.shared.options.free_space_min;
        match directory::free_space(&self.shared.directory) {
            Ok(free) if free < reserve / 2 => Room::None,
            Ok(free) if free < reserve => Room::Scarce,
            // A failing question is no answer: the write itself will say.
            Ok(_) | Err(_) => Room::Ample,
        }
    }
}

/// The first batch and all that wait behind it, as far as they make one group; and who asked to close.
fn gather(first: Command, mailbox: &Receiver<Command>) -> (Vec<(Batch, Ending)>, Option<Sender<()>>) {
    let (mut batches, mut bytes) = (Vec::new(), 0);
    let mut next = Some(first);
    while let Some(command) = next {
        match command {
            Command::Close(answer) => return (batches, Some(answer)),
            Command::Commit(batch, ending) => {
                bytes += size(&batch);
                batches.push((batch, ending));
            }
        }
        next = if bytes < GROUP_BYTES_MAX { mailbox.try_recv().ok() } else { None };
    }
    (batches, None)
}

fn size(batch: &Batch) -> u64 {
    let size = |change: &Change| match change {
        Change::Enqueue { message, .. } | Change::Retain { message: Some(message), .. } => {
            CHANGE_BYTES + u64::from(message.size())
        }
        _ => CHANGE_BYTES,
    };
    batch.changes.iter().map(size).sum()
}

fn fits(batch: &Batch, room: Room) -> bool {
    let is_message =
        |change: &Change| matches!(change, Change::Enqueue { .. } | Change::Retain { message: Some(_), .. });
    match room {
        Room::Ample => true,
        Room::Scarce => !batch.changes.iter().any(is_message),
        Room::None => batch.changes.is_empty(),
    }
}
