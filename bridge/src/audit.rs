//! The audit log: who changed what, when, from where, and what came of it. Append-only; each record is chained to the
//! one before by a hash, so that none can be changed or taken out without showing.
//!
//! ```text
//!  hash of a record = SHA-256( hash of the record before it, 32 bytes | the record, as the JSON that is kept )
//!
//!  anchor: number and hash of the newest record that was removed for its age --> the first record's `prev`
//!  head:   number and hash of the newest record
//! ```
//! Records are written by the transaction of the change they tell of (`request.rs`), never edited, and removed only
//! from the beginning. They hold no bodies, so no secrets.

pub(crate) mod exported;
pub(crate) mod request;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::apps::sha256;
use crate::shared::Shared;
use crate::store::{Order, Pair, Space, StoreError, Tx, decode, keys};

/// Records that are kept at most, whatever their age.
pub(crate) const RECORDS_MAX: u64 = 1_000_000;
/// Records that one page of a filtered list looks at.
const LOOKED_AT_MAX: usize = 10_000;
/// Records read or removed at once.
const CHUNK: usize = 1_000;
/// How often old records are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(10 * 60);

/// What happened, as it is kept and told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Record {
    /// Its number; the numbers have no gaps.
    pub seq: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The public half of a key, or `@` and a person's name; `null`: somebody who was not let in.
    pub actor: Option<String>,
    /// The app that it was about.
    pub app: Option<String>,
    /// The HTTP method.
    pub method: String,
    /// The path, without its query.
    pub resource: String,
    /// What was made, where the path does not say it.
    pub about: Option<String>,
    /// `done` or `refused`.
    pub outcome: String,
    /// The HTTP status; `null`: it was done, and its answer not yet made.
    pub status: Option<u16>,
    /// The address of whoever asked.
    pub from: Option<String>,
}

/// A place in the chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Link {
    seq: u64,
    hash: [u8; 32],
}

/// A record with its hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub seq: u64,
    pub prev: [u8; 32],
    pub hash: [u8; 32],
    /// The JSON that was hashed.
    pub json: Vec<u8>,
}

impl Kept {
    /// Hashes, then JSON.
    fn read((key, value): &Pair) -> Option<Self> {
        let seq = keys::number_at(key, keys::audit_records().len())?;
        let (prev, rest) = value.split_first_chunk::<32>()?;
        let (hash, json) = rest.split_first_chunk::<32>()?;
        Some(Self { seq, prev: *prev, hash: *hash, json: json.to_vec() })
    }

    /// The record itself.
    pub fn record(&self) -> Result<Record, StoreError> {
        decode(&self.json)
    }
}

fn chained(prev: [u8; 32], json: &[u8]) -> [u8; 32] {
    sha256(&[&prev[..], json].concat())
}

fn link(tx: &Tx<'_>, key: &[u8]) -> Result<Link, StoreError> {
    Ok(tx.load(Space::Audit, key)?.unwrap_or_default())
}

/// Appends a record; it gets its number and moment here.
pub(crate) fn append(tx: &mut Tx<'_>, record: Record) -> Result<(), StoreError> {
    let head = link(tx, &keys::audit_head())?;
    let seq = head.seq + 1;
    let record = Record { seq, at_ms: tx.now_ms(), ..record };
    let json = serde_json::to_vec(&record).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    let hash = chained(head.hash, &json);
    tx.put(Space::Audit, keys::audit_record(seq), [&head.hash[..], &hash, &json].concat());
    tx.save(Space::Audit, keys::audit_head(), &Link { seq, hash })
}

/// Which records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub app: Option<String>,
    pub actor: Option<String>,
    pub from_ms: Option<u64>,
    /// The first moment that is not wanted.
    pub to_ms: Option<u64>,
}

impl Filter {
    fn fits(&self, record: &Record) -> bool {
        let is_app = self.app.is_none() || self.app == record.app;
        let is_actor = self.actor.is_none() || self.actor == record.actor;
        is_app && is_actor && self.is_in_time(record.at_ms)
    }

    fn is_in_time(&self, at_ms: u64) -> bool {
        self.from_ms.is_none_or(|from_ms| at_ms >= from_ms) && self.to_ms.is_none_or(|to_ms| at_ms < to_ms)
    }
}

/// Records that fit, newest first, older than one; and where to go on, if there may be more. Looks at a bounded number,
/// so a page may have fewer records than there is room for.
pub(crate) fn list(
    tx: &Tx<'_>,
    filter: &Filter,
    before: Option<u64>,
    limit: usize,
) -> Result<(Vec<Record>, Option<u64>), StoreError> {
    let (mut found, mut before, mut looked_at) = (Vec::new(), before, 0);
    loop {
        let after = before.map(keys::audit_record);
        let all = keys::audit_records();
        let chunk = tx.scan(Space::Audit, &all, after.as_deref(), Order::Backward, CHUNK)?;
        for kept in chunk.iter().filter_map(Kept::read) {
            let record = kept.record()?;
            before = Some(kept.seq);
            if filter.fits(&record) {
                found.push(record);
            }
            if found.len() == limit {
                return Ok((found, before));
            }
        }
        looked_at += chunk.len();
        match chunk.len() < CHUNK {
            true => return Ok((found, None)),
            false if looked_at >= LOOKED_AT_MAX => return Ok((found, before)),
            false => {}
        }
    }
}

/// Records after a number, oldest first.
pub(crate) fn after(tx: &Tx<'_>, seq: u64) -> Result<Vec<Kept>, StoreError> {
    let after = keys::audit_record(seq);
    let found = tx.scan(Space::Audit, &keys::audit_records(), Some(&after), Order::Forward, CHUNK)?;
    Ok(found.iter().filter_map(Kept::read).collect())
}

/// The first record that is not what it was, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Broken {
    /// Its number.
    pub seq: u64,
    /// What is wrong with it.
    pub why: &'static str,
}

/// What became of a look at the whole chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    /// Records that are what they were.
    pub records: u64,
    /// The number of the first.
    pub first_seq: u64,
    /// The number of the newest record, by the head of the chain.
    pub head_seq: u64,
    /// The newest record's hash: kept elsewhere, it shows later that nothing before it was changed.
    pub head_hash: [u8; 32],
    pub broken: Option<Broken>,
}

/// Looks at every record from the anchor to the head.
pub(crate) fn verify(tx: &Tx<'_>) -> Result<Verified, StoreError> {
    loop {
        let anchor = link(tx, &keys::audit_anchor())?;
        let verified = verify_from(tx, anchor)?;
        // Old records may have been removed meanwhile.
        if verified.broken.is_none() || link(tx, &keys::audit_anchor())? == anchor {
            return Ok(verified);
        }
    }
}

fn verify_from(tx: &Tx<'_>, anchor: Link) -> Result<Verified, StoreError> {
    let head = link(tx, &keys::audit_head())?;
    let mut last = anchor;
    let mut broken = None;
    while broken.is_none() && last.seq < head.seq {
        let found = after(tx, last.seq)?;
        if found.is_empty() {
            broken = Some(Broken { seq: last.seq + 1, why: "it is missing" });
        }
        for kept in found.iter().take_while(|kept| kept.seq <= head.seq) {
            broken = fault(last, kept);
            if broken.is_some() {
                break;
            }
            last = Link { seq: kept.seq, hash: kept.hash };
        }
    }
    if broken.is_none() && last != head {
        broken = Some(Broken { seq: head.seq, why: "the head of the chain is of another record" });
    }
    Ok(Verified {
        records: last.seq - anchor.seq,
        first_seq: anchor.seq + 1,
        head_seq: head.seq,
        head_hash: head.hash,
        broken,
    })
}

fn fault(last: Link, kept: &Kept) -> Option<Broken> {
    let number = |record: Record| record.seq;
    let why = match () {
        () if kept.seq != last.seq + 1 => return Some(Broken { seq: last.seq + 1, why: "it is missing" }),
        () if kept.prev != last.hash => "it is not chained to the record before it",
        () if chained(kept.prev, &kept.json) != kept.hash => "its text was changed",
        () if kept.record().map(number).ok() != Some(kept.seq) => "its text is of another record",
        () => return None,
    };
    Some(Broken { seq: kept.seq, why })
}

/// Removes some records that are too old or too many. `false`: there are no more.
fn prune(tx: &mut Tx<'_>, kept_ms: u64, records_max: u64) -> Result<bool, StoreError> {
    let (head, anchor) = (link(tx, &keys::audit_head())?, link(tx, &keys::audit_anchor())?);
    let before_ms = tx.now_ms().saturating_sub(kept_ms);
    let mut last = anchor;
    let found = after(tx, anchor.seq)?;
    for kept in &found {
        // One that cannot be read stays, for people to see.
        let is_old = kept.record().is_ok_and(|record| record.at_ms < before_ms);
        if !is_old && head.seq - last.seq <= records_max {
            break;
        }
        tx.remove(Space::Audit, keys::audit_record(kept.seq));
        last = Link { seq: kept.seq, hash: kept.hash };
    }
    if last != anchor {
        tx.save(Space::Audit, keys::audit_anchor(), &last)?;
    }
    Ok(last.seq - anchor.seq == CHUNK as u64)
}

/// Removes what is old, for ever.
pub(crate) async fn run(shared: Arc<Shared>) {
    let kept_ms = shared.audit_retention_ms;
    loop {
        let pruned = shared.store.write(move |tx| prune(tx, kept_ms, RECORDS_MAX)).await;
        match pruned {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "old records of the audit log cannot be removed"),
        }
        tokio::time::sleep(PRUNE_EVERY).await;
    }
}

#[cfg(test)]
mod tests;
