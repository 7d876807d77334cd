//! The inbox of each user: messages that are kept for reading later, whatever became of their pushes.
//!
//! A user has one entry for a message, however many devices it was for: the entry's key is user and place. What the
//! message says stands with the message once, and moves to a record of its own when the message is forgotten before its
//! last entry ends. A ledger for each user holds the counts, so that the number of unread ones costs one read.
//!
//! ```text
//!  message expanded --> Unread --> Read
//!                          |         |
//!                          +--delete-+--> gone (Deleted while the message still looks for devices)
//!                          +-- its time is over, the message was withdrawn, too many newer ones --> gone
//! ```

pub mod badge;
pub(crate) mod device;
pub(crate) mod sweeper;
#[cfg(test)]
mod tests;

use reveille_proto::ids::{AppId, MessageId};
use serde::{Deserialize, Serialize};

use crate::devices::{self, Device, USER};
use crate::messages::{self, Content, Message};
use crate::starts::Start;
use crate::store::{Order, Space, StoreError, Tx, decode, keys};
use crate::vendor::VendorName;

/// Longest time that an entry is kept, in seconds: a year.
pub(crate) const KEEP_MAX_S: u64 = 366 * 24 * 60 * 60;
/// Most entries that a user may be configured to have.
pub(crate) const ENTRIES_MAX: usize = 1_000;
/// Ids in one call at most.
pub(crate) const IDS_MAX: usize = ENTRIES_MAX;
/// Entries read at once.
const READ_AT_ONCE: usize = 256;

/// Where a message stands in inboxes: its id; for one that waited for its moment the same with that moment in it, so that it
/// stands where it came and not where it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(pub MessageId);

impl Place {
    /// Where it would stand. By readers' own clocks that walks through all time zones: not for each device.
    pub fn of(message: &Message) -> Self {
        match message.start {
            None => Self(message.id),
            Some(_) => Self(messages::moved_to(message.id, message.begins_at_ms())),
        }
    }
}

/// One message in a user's inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The moment in the message's id, where it is not that of the place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id_ms: Option<u64>,
    /// When it came, in milliseconds since 1970.
    pub since_ms: u64,
    /// When it goes by itself, in milliseconds since 1970.
    pub until_ms: u64,
    pub state: State,
}

/// What the user did with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// Nothing yet.
    Unread,
    /// Read it.
    Read {
        /// When, in milliseconds since 1970.
        at_ms: u64,
    },
    /// Deleted it while the message still looks for devices: another one of the user's must not bring it back.
    Deleted,
}

impl Entry {
    fn is_over(&self, now_ms: u64) -> bool {
        self.until_ms <= now_ms
    }

    /// The message, of the entry at this place.
    fn message(&self, Place(id): Place) -> MessageId {
        self.id_ms.map_or(id, |at_ms| messages::moved_to(id, at_ms))
    }
}

/// The counts of one user's inbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    /// Entries, deleted ones that are remembered among them.
    pub entries: u64,
    pub unread: u64,
    /// Grows with every change, also over an inbox that was empty in between.
    pub revision: u64,
    /// No entry ends before, in milliseconds since 1970.
    pub next_end_ms: u64,
    /// Entries that had to go because newer ones came.
    #[serde(default)]
    pub crowded_out: u64,
}

impl Ledger {
    /// Whether nothing is lost without it: a new one would begin with a higher revision.
    fn is_spent(&self, now_ms: u64) -> bool {
        self.entries == 0 && self.revision < now_ms
    }

    fn add(&mut self, entry: &Entry) {
        self.entries += 1;
        self.unread += u64::from(entry.state == State::Unread);
        self.next_end_ms =
            if self.entries == 1 { entry.until_ms } else { self.next_end_ms.min(entry.until_ms) };
    }

    fn remove(&mut self, entry: &Entry) {
        self.entries = self.entries.saturating_sub(1);
        self.unread = self.unread.saturating_sub(u64::from(entry.state == State::Unread));
    }

    fn change(&mut self, was: State, is: State) {
        self.unread = self.unread.saturating_sub(u64::from(was == State::Unread));
        self.unread += u64::from(is == State::Unread);
    }
}

/// The user of a device.
pub(crate) fn user_of(device: &Device) -> Option<&str> {
    device.alias.get(USER).map(String::as_str)
}

/// One user's inbox in the hands of a transaction: open it, change it, close it.
pub(crate) struct Inbox<'a> {
    app: &'a AppId,
    user: &'a str,
    ledger: Ledger,
    is_changed: bool,
}

impl<'a> Inbox<'a> {
    /// Opens it, and lets go of what is over.
    pub fn open(tx: &mut Tx<'_>, app: &'a AppId, user: &'a str) -> Result<Self, StoreError> {
        let ledger = ledger(tx, app, user)?;
        let mut inbox = Self { app, user, ledger: ledger.unwrap_or_default(), is_changed: false };
        if ledger.is_some_and(|ledger| ledger.next_end_ms <= tx.now_ms()) {
            inbox.let_go(tx)?;
        }
        Ok(inbox)
    }

    fn key(&self, place: Place) -> Vec<u8> {
        keys::inbox_entry(self.app, self.user, place)
    }

    fn find(&self, tx: &Tx<'_>, id: MessageId) -> Result<Option<(Place, Entry)>, StoreError> {
        let place = place_of(tx, self.app, self.user, id)?;
        Ok(tx.load(Space::Messages, &self.key(place))?.map(|entry| (place, entry)))
    }

    fn erase(&self, tx: &mut Tx<'_>, place: Place, entry: &Entry) {
        tx.remove(Space::Messages, self.key(place));
        if entry.id_ms.is_some() {
            tx.remove(Space::Messages, keys::inbox_place(self.app, self.user, entry.message(place)));
        }
    }

    fn let_go(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let now_ms = tx.now_ms();
        let kept = Ledger { entries: 0, unread: 0, ..self.ledger };
        let (mut counted, mut ended) = (kept, Vec::new());
        each(tx, self.app, self.user, None, |place, entry| {
            match entry.is_over(now_ms) {
                true => ended.push((place, entry)),
                false => counted.add(&entry),
            }
            Ok(true)
        })?;
        ended.into_iter().for_each(|(place, entry)| self.erase(tx, place, &entry));
        self.is_changed = true;
        self.ledger = counted;
        Ok(())
    }

    /// Puts a message in, unless it is there, perhaps at a place that another database of time zones gave it. At the bound the oldest goes, which may be this one.
    pub fn add(
        &mut self,
        tx: &mut Tx<'_>,
        id: MessageId,
        place: Place,
        until_ms: u64,
        entries_max: usize,
    ) -> Result<bool, StoreError> {
        if until_ms <= tx.now_ms() || self.find(tx, id)?.is_some() {
            return Ok(false);
        }
        while self.ledger.entries >= entries_max as u64 {
            let oldest = scan(tx, self.app, self.user, None, Order::Forward, 1)?.pop();
            let Some((oldest, entry)) = oldest else { break };
            self.ledger.crowded_out += 1;
            self.is_changed = true;
            if oldest > place {
                return Ok(false);
            }
            self.erase(tx, oldest, &entry);
            self.ledger.remove(&entry);
        }
        let id_ms = (place.0 != id).then(|| messages::moment_of(id));
        let entry = Entry { id_ms, since_ms: tx.now_ms(), until_ms, state: State::Unread };
        tx.save(Space::Messages, self.key(place), &entry)?;
        if id_ms.is_some() {
            tx.put(Space::Messages, keys::inbox_place(self.app, self.user, id), place.0.0.to_vec());
        }
        self.ledger.add(&entry);
        self.is_changed = true;
        Ok(true)
    }

    /// Marks a message as read. Whether that is news.
    pub fn read(&mut self, tx: &mut Tx<'_>, id: MessageId) -> Result<bool, StoreError> {
        match self.find(tx, id)? {
            Some((place, entry)) if entry.state == State::Unread => {
                self.set(tx, place, entry, State::Read { at_ms: tx.now_ms() })
            }
            Some(_) | None => Ok(false),
        }
    }

    /// Marks everything up to a message as read, or everything; which ones were unread.
    pub fn read_up_to(
        &mut self,
        tx: &mut Tx<'_>,
        last: Option<MessageId>,
    ) -> Result<Vec<MessageId>, StoreError> {
        let last = last.map(|last| place_of(tx, self.app, self.user, last)).transpose()?;
        let mut unread = Vec::new();
        each(tx, self.app, self.user, None, |place, entry| {
            if entry.state == State::Unread && last.is_none_or(|last| place <= last) {
                unread.push((place, entry));
            }
            Ok(true)
        })?;
        for (place, entry) in &unread {
            self.set(tx, *place, *entry, State::Read { at_ms: tx.now_ms() })?;
        }
        Ok(unread.into_iter().map(|(place, entry)| entry.message(place)).collect())
    }

    /// Deletes a message. Whether it was there.
    pub fn delete(&mut self, tx: &mut Tx<'_>, id: MessageId) -> Result<bool, StoreError> {
        let Some((place, entry)) = self.find(tx, id)? else { return Ok(false) };
        if entry.state == State::Deleted {
            return Ok(false);
        }
        match messages::load(tx, self.app, id)?.is_some_and(|message| !message.is_expanded) {
            true => self.set(tx, place, entry, State::Deleted),
            false => {
                self.remove(tx, place, &entry);
                Ok(true)
            }
        }
    }

    /// Takes a withdrawn message out. Whether the user could see it.
    pub fn withdraw(&mut self, tx: &mut Tx<'_>, id: MessageId) -> Result<bool, StoreError> {
        let Some((place, entry)) = self.find(tx, id)? else { return Ok(false) };
        self.remove(tx, place, &entry);
        Ok(entry.state != State::Deleted)
    }

    fn set(&mut self, tx: &mut Tx<'_>, place: Place, entry: Entry, state: State) -> Result<bool, StoreError> {
        tx.save(Space::Messages, self.key(place), &Entry { state, ..entry })?;
        self.ledger.change(entry.state, state);
        self.is_changed = true;
        Ok(true)
    }

    fn remove(&mut self, tx: &mut Tx<'_>, place: Place, entry: &Entry) {
        self.erase(tx, place, entry);
        self.ledger.remove(entry);
        self.is_changed = true;
    }

    /// Writes the counts, and tells how many are unread.
    pub fn close(mut self, tx: &mut Tx<'_>) -> Result<u64, StoreError> {
        if self.is_changed {
            self.ledger.revision = tx.now_ms().max(self.ledger.revision + 1);
            tx.save(Space::Messages, keys::inbox_ledger(self.app, self.user), &self.ledger)?;
        }
        Ok(self.ledger.unread)
    }
}

fn ledger(tx: &Tx<'_>, app: &AppId, user: &str) -> Result<Option<Ledger>, StoreError> {
    tx.load(Space::Messages, &keys::inbox_ledger(app, user))
}

/// Where a message stands in a user's inbox, or would.
fn place_of(tx: &Tx<'_>, app: &AppId, user: &str, id: MessageId) -> Result<Place, StoreError> {
    let kept = tx.get(Space::Messages, &keys::inbox_place(app, user, id))?;
    Ok(Place(kept.and_then(|kept| MessageId::from_bytes(&kept).ok()).unwrap_or(id)))
}

fn scan(
    tx: &Tx<'_>,
    app: &AppId,
    user: &str,
    after: Option<Place>,
    order: Order,
    limit: usize,
) -> Result<Vec<(Place, Entry)>, StoreError> {
    let prefix = keys::inbox_entries(app, user);
    let after = after.map(|place| keys::inbox_entry(app, user, place));
    let found = tx.scan(Space::Messages, &prefix, after.as_deref(), order, limit)?;
    let entry = |(key, value): &(Vec<u8>, Vec<u8>)| {
        let id = key.strip_prefix(prefix.as_slice()).and_then(|rest| MessageId::from_bytes(rest).ok())?;
        Some(decode(value).map(|entry| (Place(id), entry)))
    };
    found.iter().filter_map(entry).collect()
}

/// Every entry, newest first, until told to stop.
fn each(
    tx: &Tx<'_>,
    app: &AppId,
    user: &str,
    mut before: Option<Place>,
    mut look: impl FnMut(Place, Entry) -> Result<bool, StoreError>,
) -> Result<(), StoreError> {
    loop {
        let found = scan(tx, app, user, before, Order::Backward, READ_AT_ONCE)?;
        for (place, entry) in &found {
            if !look(*place, *entry)? {
                return Ok(());
            }
        }
        before = found.last().map(|(place, _)| *place);
        if found.len() < READ_AT_ONCE {
            return Ok(());
        }
    }
}

/// How many messages a user has not read, and the revision of the inbox.
pub(crate) fn counts(tx: &Tx<'_>, app: &AppId, user: &str) -> Result<(u64, u64), StoreError> {
    let Some(ledger) = ledger(tx, app, user)? else { return Ok((0, 0)) };
    if ledger.next_end_ms > tx.now_ms() {
        return Ok((ledger.unread, ledger.revision));
    }
    let mut unread = 0;
    each(tx, app, user, None, |_, entry| {
        unread += u64::from(entry.state == State::Unread && !entry.is_over(tx.now_ms()));
        Ok(true)
    })?;
    Ok((unread, ledger.revision))
}

/// How many messages the user of a device has not read, where a message's badge asks for it.
pub(crate) fn unread_at(
    tx: &Tx<'_>,
    app: &AppId,
    device: &str,
    message: &Message,
) -> Result<Option<u64>, StoreError> {
    if matches!(message.badge(), None | Some(badge::Badge::Set(_))) {
        return Ok(None);
    }
    let device = devices::load(tx, app, device)?;
    let Some(user) = device.as_ref().and_then(user_of) else { return Ok(None) };
    Ok(Some(counts(tx, app, user)?.0))
}

/// A trace of what [`unread_at`] says, for a vendor that must be told another number for each user. Pushes wait under it, so
/// that those whose numbers are the same are found together.
pub(crate) fn mark(
    tx: &Tx<'_>,
    message: &Message,
    vendor: VendorName,
    device: Option<&Device>,
) -> Result<Option<u8>, StoreError> {
    let is_for_each = message.badge().is_some_and(|badge| badge.is_for_each_user(vendor));
    let Some(user) = device.and_then(user_of).filter(|_| is_for_each) else { return Ok(None) };
    let [low, ..] = counts(tx, &message.app, user)?.0.to_le_bytes();
    Ok(Some(low))
}

/// What is shown of a message in an inbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shown {
    pub content: Option<Content>,
    pub accepted_at_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recalled_at_ms: Option<u64>,
    /// When it was to begin, where that lay ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// Of the last entry, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbox_until_ms: Option<u64>,
}

/// What a message says, also after it was forgotten; `None` when it was withdrawn, or nobody has it any more.
fn shown(tx: &Tx<'_>, app: &AppId, id: MessageId) -> Result<Option<Shown>, StoreError> {
    let live: Option<Shown> = tx.load(Space::Messages, &keys::message(app, id))?; // without its audience, which may be long
    let shown = match live {
        Some(shown) => Some(shown),
        None => tx.load(Space::Messages, &keys::inbox_content(app, id))?,
    };
    Ok(shown.filter(|shown| shown.recalled_at_ms.is_none()))
}

/// One line of an inbox.
pub(crate) struct Line {
    pub id: MessageId,
    pub place: Place,
    pub entry: Entry,
    pub shown: Shown,
}

/// Which part of an inbox is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// Older than this message, or than what stood at this place.
    pub before: Option<MessageId>,
    pub limit: usize,
    pub is_unread: bool,
}

/// A part of a user's inbox, newest first, and whether there may be more.
pub(crate) fn page(
    tx: &Tx<'_>,
    app: &AppId,
    user: &str,
    part: Part,
) -> Result<(Vec<Line>, bool), StoreError> {
    let mut lines = Vec::new();
    let mut is_more = false;
    let before = part.before.map(|before| place_of(tx, app, user, before)).transpose()?;
    each(tx, app, user, before, |place, entry| {
        let id = entry.message(place);
        let is_asked = match entry.state {
            State::Unread => true,
            State::Read { .. } => !part.is_unread,
            State::Deleted => false,
        };
        if !is_asked || entry.is_over(tx.now_ms()) {
            return Ok(true);
        }
        let Some(shown) = shown(tx, app, id)? else { return Ok(true) };
        is_more = lines.len() == part.limit;
        if !is_more {
            lines.push(Line { id, place, entry, shown });
        }
        Ok(!is_more)
    })?;
    Ok((lines, is_more))
}

/// Puts a message into the inbox of a device's user, where it is to be kept. The user, for the delivery.
pub(crate) fn deliver(
    tx: &mut Tx<'_>,
    entries_max: usize,
    message: &Message,
    place: Place,
    device: Option<&Device>,
) -> Result<Option<String>, StoreError> {
    let (Some(until_ms), Some(user)) = (message.inbox_until_ms, device.and_then(user_of)) else {
        return Ok(None);
    };
    let mut inbox = Inbox::open(tx, &message.app, user)?;
    inbox.add(tx, message.id, place, until_ms, entries_max)?;
    inbox.close(tx)?;
    Ok(Some(user.to_owned()))
}

/// A message is being forgotten: what it says stays for those who have it in their inbox.
pub(crate) fn keep_content(tx: &mut Tx<'_>, message: &Message) -> Result<(), StoreError> {
    let (now_ms, until_ms) = (tx.now_ms(), message.inbox_until_ms);
    if message.recalled_at_ms.is_some() || until_ms.is_none_or(|until_ms| until_ms <= now_ms) {
        return Ok(());
    }
    let shown = Shown {
        content: message.content.clone(),
        accepted_at_ms: message.accepted_at_ms,
        recalled_at_ms: None,
        start: message.start.clone(),
        inbox_until_ms: until_ms,
    };
    tx.save(Space::Messages, keys::inbox_content(&message.app, message.id), &shown)
}

/// A message was withdrawn: it goes out of a user's inbox too.
pub(crate) fn withdraw(tx: &mut Tx<'_>, message: &Message, user: &str) -> Result<(), StoreError> {
    let (app, id) = (&message.app, message.id);
    let mut inbox = Inbox::open(tx, app, user)?;
    let was_there = inbox.withdraw(tx, id)?;
    inbox.close(tx)?;
    match was_there {
        // A million notes would stand before everything else that waits for the broker: those devices see it when
        // they ask again.
        true if message.is_bulk => Ok(()),
        true => device::tell_all(
            tx,
            app,
            user,
            None,
            &device::Changed { deleted: vec![id], ..Default::default() },
        ),
        false => Ok(()),
    }
}
