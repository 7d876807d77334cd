//! Durable work: what waits for the broker, for a vendor's turn, or for a moment.

use std::ops::Bound;

use reveille_proto::bridge::Strategy;
use reveille_proto::ids::{AppId, MessageId};
use serde::{Deserialize, Serialize};

use crate::messages::{app_text, id_text, strategy_text};
use crate::store::{Lane, Order, Space, StoreError, Tx, decode, keys};

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
        devices: Vec<String>,
    },
    /// Take a message out of every queue.
    Withdraw {
        #[serde(with = "app_text")]
        app: AppId,
        #[serde(with = "id_text")]
        message: MessageId,
    },
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
    /// A stored answer is no longer replayed.
    ForgetAnswer {
        /// Where it stands.
        key: Vec<u8>,
    },
}

/// Never given twice.
fn next_number(tx: &mut Tx<'_>) -> Result<u64, StoreError> {
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
    let found = tx.scan(Space::Queues, &keys::outbox(), Some(&after), Order::Forward, limit)?;
    let entry =
        |(key, value): (Vec<u8>, Vec<u8>)| Ok((keys::number_at(&key, 1).unwrap_or(0), decode(&value)?));
    found.into_iter().map(entry).collect()
}

/// Looks at something when its moment comes.
pub(crate) fn check_at(tx: &mut Tx<'_>, due_ms: u64, check: &Check) -> Result<(), StoreError> {
    let number = next_number(tx)?;
    tx.touched().checks = true;
    tx.save(Space::Queues, keys::check(due_ms, number), check)
}

/// The checks in order of their moments, with their keys.
pub(crate) fn checks(tx: &Tx<'_>, limit: usize) -> Result<Vec<(u64, Vec<u8>, Check)>, StoreError> {
    let found = tx.scan(Space::Queues, &keys::checks(), None, Order::Forward, limit)?;
    let entry =
        |(key, value): (Vec<u8>, Vec<u8>)| Ok((keys::number_at(&key, 1).unwrap_or(0), key, decode(&value)?));
    found.into_iter().map(entry).collect()
}

/// A push that waits for its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Not before this moment, in milliseconds since 1970.
    pub due_ms: u64,
    /// The message.
    pub message: MessageId,
    /// The device.
    pub device: String,
}

/// Lets a push wait for its turn.
pub(crate) fn push_at(tx: &mut Tx<'_>, lane: &Lane, waiting: &Waiting) {
    tx.touched().lanes.insert(lane.clone());
    let (app, vendor) = lane;
    tx.put(
        Space::Queues,
        keys::push(app, *vendor, waiting.due_ms, waiting.message, &waiting.device),
        Vec::new(),
    );
}

/// Takes a push out of its queue.
pub(crate) fn remove_push(tx: &mut Tx<'_>, lane: &Lane, waiting: &Waiting) {
    let (app, vendor) = lane;
    tx.remove(Space::Queues, keys::push(app, *vendor, waiting.due_ms, waiting.message, &waiting.device));
}

/// The pushes of a lane from a moment on, earliest first.
pub(crate) fn pushes_from(
    tx: &Tx<'_>,
    (app, vendor): &Lane,
    from_ms: u64,
    limit: usize,
) -> Result<Vec<Waiting>, StoreError> {
    let lane = keys::lane(app, *vendor);
    let at = |ms: u64| [lane.as_slice(), &ms.to_be_bytes()].concat();
    let (from, to) = (Bound::Included(at(from_ms)), Bound::Excluded(at(u64::MAX)));
    let found = tx.range(Space::Queues, from, to, Order::Forward, limit)?;
    let parse = |(key, _): &(Vec<u8>, Vec<u8>)| keys::parse_push(key, &lane);
    let waiting = |(due_ms, message, device)| Waiting { due_ms, message, device };
    Ok(found.iter().filter_map(parse).map(waiting).collect())
}

/// Every lane in which something waits. Jumps from lane to lane, so it costs one read each.
pub(crate) fn lanes(tx: &Tx<'_>) -> Result<Vec<Lane>, StoreError> {
    let mut found = Vec::new();
    let mut from = keys::pushes();
    let end = Bound::Excluded(vec![keys::pushes().first().copied().unwrap_or(0).saturating_add(1)]);
    while let Some((key, _)) =
        tx.range(Space::Queues, Bound::Included(from.clone()), end.clone(), Order::Forward, 1)?.first()
    {
        let Some((app, vendor)) = keys::parse_lane(key) else { break };
        from = keys::lane(&app, vendor);
        from.extend([u8::MAX; 9]); // above every moment of this lane
        found.push((app, vendor));
    }
    Ok(found)
}
