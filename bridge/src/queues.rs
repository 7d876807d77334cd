//! Durable work: what waits for the broker, for a vendor's turn, or for a moment.

use std::collections::BTreeSet;
use std::ops::Bound;

use reveille_proto::bridge::Strategy;
use reveille_proto::ids::{AppId, MessageId};
use serde::{Deserialize, Serialize};

use crate::inbox::device::Note;
use crate::lane::Lane;
use crate::messages::{app_text, id_text, strategy_text};
use crate::store::{Order, Space, StoreError, Tx, keys};

/// Deliveries that one check looks at, at most.
pub(crate) const LOOK_MAX: usize = 1000;
/// Devices of a message that are found in the transaction that begins it, at most.
pub(crate) const SMALL_MAX: usize = 100;

/// Something for the broker. It leaves the outbox when the broker acknowledged it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "out", rename_all = "snake_case")]
pub(crate) enum Out {
    /// Put a message into queues.
    Send {
        #[serde(with = "app_text")]
        app: AppId,
        #[serde(with = "id_text")]
        message: MessageId,
        #[serde(with = "strategy_text")]
        strategy: Strategy,
        /// In which of its languages; `None` is the default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        language: Option<String>,
        devices: Vec<String>,
    },
    /// Take a message out of queues.
    Withdraw {
        #[serde(with = "app_text")]
        app: AppId,
        #[serde(with = "id_text")]
        message: MessageId,
        /// Of these devices; of all where none is named.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        devices: Vec<String>,
    },
    /// Tell devices that may have a message that it was withdrawn.
    Recalled {
        #[serde(with = "app_text")]
        app: AppId,
        #[serde(with = "id_text")]
        message: MessageId,
        devices: Vec<String>,
    },
    /// Tell devices of their user's inbox.
    Inbox(Note),
}

/// Something to look at when its moment comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "check", rename_all = "snake_case")]
pub(crate) enum Check {
    /// Did the broker say anything about these devices?
    Silence {
        #[serde(with = "app_text")]
        app: AppId,
        #[serde(with = "id_text")]
        message: MessageId,
        devices: Vec<String>,
    },
    /// The message is worthless.
    Expiry {
        #[serde(with = "app_text")]
        app: AppId,
        #[serde(with = "id_text")]
        message: MessageId,
    },
    /// The message is history.
    Forget {
        #[serde(with = "app_text")]
        app: AppId,
        #[serde(with = "id_text")]
        message: MessageId,
    },
    /// A long operation ended some time ago.
    ForgetOperation {
        /// Which.
        id: String,
    },
    /// Ask the message's policy again about these devices.
    Admission {
        #[serde(with = "app_text")]
        app: AppId,
        #[serde(with = "id_text")]
        message: MessageId,
        devices: Vec<String>,
    },
    /// Is there room for the devices of a message that were put aside?
    Crowd {
        #[serde(with = "app_text")]
        app: AppId,
        #[serde(with = "id_text")]
        message: MessageId,
    },
    /// A count of a policy may be over.
    ForgetCount {
        /// Where it stands.
        key: Vec<u8>,
    },
    /// A message begins, or its next wave does.
    Start {
        #[serde(with = "app_text")]
        app: AppId,
        #[serde(with = "id_text")]
        message: MessageId,
        /// When this was due, in milliseconds since 1970.
        due_ms: u64,
        /// Up to which moment its waves are done.
        done_ms: u64,
    },
    /// A message that is paced goes on.
    GoOn {
        #[serde(with = "app_text")]
        app: AppId,
        #[serde(with = "id_text")]
        message: MessageId,
    },
    /// The moment of a schedule has come.
    Schedule {
        #[serde(with = "app_text")]
        app: AppId,
        schedule: String,
        /// When it was due, in milliseconds since 1970.
        due_ms: u64,
    },
    /// A list of devices that nobody used for long.
    ForgetList {
        #[serde(with = "app_text")]
        app: AppId,
        list: String,
    },
    /// An upload that ended some time ago.
    ForgetImport {
        #[serde(with = "app_text")]
        app: AppId,
        id: String,
    },
    /// A file that was written some time ago.
    ForgetExport {
        #[serde(with = "app_text")]
        app: AppId,
        id: String,
    },
    /// A stored answer is no longer replayed.
    ForgetAnswer {
        /// Where it stands.
        key: Vec<u8>,
    },
}

impl Check {
    /// How many deliveries are looked at, about.
    pub fn weight(&self) -> usize {
        match self {
            Self::Silence { devices, .. } | Self::Admission { devices, .. } => devices.len().max(1),
            // The last two may estimate an audience by its lists.
            Self::Crowd { .. } | Self::ForgetList { .. } | Self::Start { .. } | Self::Schedule { .. } => {
                LOOK_MAX
            }
            Self::Expiry { .. }
            | Self::Forget { .. }
            | Self::ForgetOperation { .. }
            | Self::ForgetCount { .. }
            | Self::GoOn { .. }
            | Self::ForgetImport { .. }
            | Self::ForgetExport { .. }
            | Self::ForgetAnswer { .. } => 1,
        }
    }
}

/// Never given twice.
pub(crate) fn next_number(tx: &mut Tx<'_>) -> Result<u64, StoreError> {
    let number = tx.load::<u64>(Space::Queues, &keys::last_number())?.unwrap_or(0).saturating_add(1);
    tx.save(Space::Queues, keys::last_number(), &number)?;
    Ok(number)
}

/// Puts something into the outbox.
pub(crate) fn tell_broker(tx: &mut Tx<'_>, out: &Out) -> Result<(), StoreError> {
    let number = next_number(tx)?;
    tx.touched().outbox = true;
    tx.save(Space::Queues, keys::outbox_entry(number), out)
}

/// The outbox after a number, in order.
pub(crate) fn outbox_after(tx: &Tx<'_>, after: u64, limit: usize) -> Result<Vec<(u64, Out)>, StoreError> {
    let after = keys::outbox_entry(after);
    let found = tx.records(Space::Queues, &keys::outbox(), Some(&after), Order::Forward, limit)?;
    Ok(found.into_iter().map(|(key, out)| (keys::number_at(&key, 1).unwrap_or(0), out)).collect())
}

/// Looks at something when its moment comes.
pub(crate) fn check_at(tx: &mut Tx<'_>, due_ms: u64, check: &Check) -> Result<(), StoreError> {
    named_check_at(tx, due_ms, check).map(drop)
}

/// The same; where the check stands, for whoever may want it away before its moment.
pub(crate) fn named_check_at(tx: &mut Tx<'_>, due_ms: u64, check: &Check) -> Result<Vec<u8>, StoreError> {
    let number = next_number(tx)?;
    tx.touched().checks = true;
    let key = keys::check(due_ms, number);
    tx.save(Space::Queues, key.clone(), check)?;
    Ok(key)
}

/// The checks in order of their moments, with their keys, until they weigh so much.
pub(crate) fn checks(
    tx: &Tx<'_>,
    limit: usize,
    weight_max: usize,
) -> Result<Vec<(u64, Vec<u8>, Check)>, StoreError> {
    let (mut checks, mut weight) = (Vec::new(), 0);
    for (key, check) in tx.records::<Check>(Space::Queues, &keys::checks(), None, Order::Forward, limit)? {
        if weight >= weight_max {
            break;
        }
        weight += check.weight();
        checks.push((keys::number_at(&key, 1).unwrap_or(0), key, check));
    }
    Ok(checks)
}

/// How many pushes a message has: those of small ones do not wait behind those of large ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Size {
    /// For a few devices.
    Single,
    /// For very many.
    Bulk,
}

impl Size {
    /// In the order in which they get their turn.
    pub const ALL: [Self; 2] = [Self::Single, Self::Bulk];
}

/// When the pushes of a paused message are due: never, before it goes on. No moment lies beyond.
pub(crate) const PAUSED_MS: u64 = (1 << 56) - 1;

/// A push that waits for its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Not before this moment, in milliseconds since 1970.
    pub due_ms: u64,
    /// The message.
    pub message: MessageId,
    /// The device.
    pub device: String,
    /// Which of the lane's queues.
    pub size: Size,
    /// In which of the message's languages; `None` is the default.
    pub language: Option<String>,
    /// Not in a batch: one that it was in was refused for the sake of some push in it.
    pub is_alone: bool,
    /// A trace of the number on its user's icon, where each user has another: those with the same may go together.
    pub mark: Option<u8>,
}

/// The first byte of a waiting push's value.
const ALONE: u8 = 1;
const MARKED: u8 = 2;

impl Waiting {
    fn key(&self, lane: &Lane) -> Vec<u8> {
        keys::push(&keys::lane(lane, self.size), self.due_ms, self.message, &self.device)
    }

    /// Whether it goes alone and has a mark, the mark, then its language; nothing for what has none, which most are.
    fn value(&self) -> Vec<u8> {
        let language = self.language.as_deref().unwrap_or_default();
        let flags = if self.is_alone { ALONE } else { 0 } | self.mark.map_or(0, |_| MARKED);
        match (flags, language) {
            (0, "") => Vec::new(),
            (flags, language) => std::iter::once(flags).chain(self.mark).chain(language.bytes()).collect(),
        }
    }
}

/// Lets a push wait for its turn.
pub(crate) fn push_at(tx: &mut Tx<'_>, lane: &Lane, waiting: &Waiting) {
    tx.touched().lanes.note(lane.clone(), waiting.due_ms);
    tx.put(Space::Queues, waiting.key(lane), waiting.value());
}

/// Takes a push out of its queue.
pub(crate) fn remove_push(tx: &mut Tx<'_>, lane: &Lane, waiting: &Waiting) {
    tx.remove(Space::Queues, waiting.key(lane));
}

/// Notes that a push cannot be worked on.
pub(crate) fn note_damaged(
    tx: &Tx<'_>,
    lane: &Lane,
    waiting: &Waiting,
    why: &StoreError,
) -> Result<(), StoreError> {
    let key = waiting.key(lane);
    if let Some(value) = tx.get(Space::Queues, &key)? {
        tx.note_damaged(Space::Queues, key, value, why);
    }
    Ok(())
}

/// The pushes of one of a lane's queues from a moment on, earliest first, without those of paused messages.
pub(crate) fn pushes_from(
    tx: &Tx<'_>,
    lane: &Lane,
    size: Size,
    from_ms: u64,
    limit: usize,
) -> Result<Vec<Waiting>, StoreError> {
    let lane = keys::lane(lane, size);
    let at = |ms: u64| [lane.as_slice(), &ms.to_be_bytes()].concat();
    let (from, to) = (Bound::Included(at(from_ms)), Bound::Excluded(at(PAUSED_MS)));
    let found = tx.range(Space::Queues, from, to, Order::Forward, limit)?;
    Ok(found.iter().filter_map(|(key, value)| read_waiting(key, value, &lane, size)).collect())
}

/// The pushes of a paused message in a lane.
pub(crate) fn paused(
    tx: &Tx<'_>,
    lane: &Lane,
    message: MessageId,
    limit: usize,
) -> Result<Vec<Waiting>, StoreError> {
    let mut all = Vec::new();
    for size in Size::ALL {
        let key = keys::lane(lane, size);
        let prefix = keys::message_pushes(&key, PAUSED_MS, message);
        let found = tx.scan(Space::Queues, &prefix, None, Order::Forward, limit - all.len())?;
        all.extend(found.iter().filter_map(|(found, value)| read_waiting(found, value, &key, size)));
    }
    Ok(all)
}

fn read_waiting(key: &[u8], value: &[u8], lane: &[u8], size: Size) -> Option<Waiting> {
    let (due_ms, message, device) = keys::parse_push(key, lane)?;
    let (flags, rest) = value.split_first().map_or((0, value), |(flags, rest)| (*flags, rest));
    let (mark, language) = match rest.split_first() {
        Some((mark, language)) if flags & MARKED != 0 => (Some(*mark), language),
        Some(_) | None => (None, rest),
    };
    let language = std::str::from_utf8(language).ok().filter(|language| !language.is_empty());
    let language = language.map(str::to_owned);
    Some(Waiting { due_ms, message, device, size, language, is_alone: flags & ALONE != 0, mark })
}

/// Every lane in which something waits. Jumps from lane to lane, so it costs one read each.
pub(crate) fn lanes(tx: &Tx<'_>) -> Result<BTreeSet<Lane>, StoreError> {
    let mut found = BTreeSet::new();
    for size in Size::ALL {
        let mut from = keys::pushes(size);
        let end = Bound::Excluded(from.iter().map(|kind| kind.saturating_add(1)).collect::<Vec<_>>());
        while let Some((key, value)) =
            tx.range(Space::Queues, Bound::Included(from.clone()), end.clone(), Order::Forward, 1)?.pop()
        {
            let Some(lane) = keys::parse_lane(&key) else {
                from = [key.as_slice(), &[0]].concat(); // the next one
                let why = StoreError::Corrupt("a push in a lane of no such name".to_owned());
                tx.note_damaged(Space::Queues, key, value, &why);
                continue;
            };
            from = keys::lane(&lane, size);
            from.extend((PAUSED_MS + 1).to_be_bytes()); // above every moment of this lane
            found.insert(lane);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::{Class, CredentialName};
    use crate::store::Store;
    use crate::vendor::VendorName;
    use std::sync::Arc;

    #[tokio::test]
    async fn lanes_and_sizes_have_queues_of_their_own_and_each_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Arc::new(|| 1_000)).unwrap();
        let mut wanted = BTreeSet::new();
        for app in ["a", "b"] {
            for name in ["default", "second"] {
                let app = AppId::parse(app).unwrap();
                wanted.extend(Lane::all_of(&app, VendorName::Oppo, &CredentialName::parse(name).unwrap()));
            }
        }
        let (for_write, message) = (wanted.clone(), MessageId([7; 16]));
        let write = move |tx: &mut Tx<'_>| {
            for lane in &for_write {
                for size in Size::ALL {
                    for due_ms in [5, PAUSED_MS] {
                        let device = format!("{lane} {size:?}");
                        let is_alone = lane.class == Class::Marketing;
                        let language = (size == Size::Bulk).then(|| "pt-BR".to_owned());
                        let mark = (due_ms == 5 && is_alone).then_some(7);
                        let waiting = Waiting { due_ms, message, device, size, language, is_alone, mark };
                        push_at(tx, lane, &waiting);
                    }
                }
            }
            Ok::<_, StoreError>(())
        };
        store.write(write).await.unwrap();
        let read = move |tx: &Tx<'_>| {
            assert_eq!(lanes(tx)?, wanted);
            for lane in &wanted {
                for size in Size::ALL {
                    let found = pushes_from(tx, lane, size, 0, 10)?;
                    assert_eq!(found.len(), 1, "{lane} {size:?}");
                    assert_eq!(found[0].device, format!("{lane} {size:?}"));
                    assert_eq!(found[0].is_alone, lane.class == Class::Marketing);
                    assert_eq!(found[0].mark, found[0].is_alone.then_some(7));
                    assert_eq!(found[0].language.as_deref(), (size == Size::Bulk).then_some("pt-BR"));
                }
                assert_eq!(paused(tx, lane, message, 10)?.len(), 2, "{lane}");
                assert_eq!(paused(tx, lane, MessageId([8; 16]), 10)?, []);
            }
            Ok::<_, StoreError>(())
        };
        store.read(read).await.unwrap();
    }
}
