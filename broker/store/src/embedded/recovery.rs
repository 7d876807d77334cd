//! Reading back what outlived the last run: the keyspaces side by side, one session at a time.

use super::engine::{Engine, Space};
use crate::StoreError;
use crate::format::{decode, keys};
use bytes::Bytes;
use reveille_broker_core::change::{Entry, Recovered, StoredSession};
use reveille_broker_core::message::SessionKey;
use std::iter::Peekable;
use std::sync::Arc;

type Row = Result<(Bytes, Bytes), StoreError>;

pub(super) fn visit(engine: &Engine, visit: &mut dyn FnMut(Recovered)) -> Result<(), StoreError> {
    sessions(engine, visit)?;
    for row in engine.rows(Space::Retained) {
        visit(Recovered::Retained(Arc::new(decode(row?.1)?)));
    }
    for row in engine.rows(Space::Announcements) {
        let (key, value) = row?;
        visit(Recovered::Announcement { number: keys::read_number(&key)?, announcement: decode(value)? });
    }
    for row in engine.rows(Space::Networks) {
        let (key, record) = decode(row?.1)?;
        visit(Recovered::Network { key, record });
    }
    Ok(())
}

fn sessions(engine: &Engine, visit: &mut dyn FnMut(Recovered)) -> Result<(), StoreError> {
    let mut subscriptions = engine.rows(Space::Subscriptions).peekable();
    let mut entries = engine.rows(Space::Entries).peekable();
    let mut received = engine.rows(Space::Received).peekable();
    for row in engine.rows(Space::Sessions) {
        let (key, value) = row?;
        let session = SessionKey(keys::read_number(&key)?);
        visit(Recovered::Session(Box::new(StoredSession {
            session,
            record: Box::new(decode(value)?),
            subscriptions: rows_of(&mut subscriptions, session, |_, value| Ok(decode(value)?))?,
            entries: rows_of(&mut entries, session, |key, value| {
                Ok(Entry { seq: keys::read_entry(&key)?.1, ..decode(value)? })
            })?,
            received: rows_of(&mut received, session, |key, _| Ok(keys::read_received(&key)?.1))?,
        })));
    }
    Ok(())
}

/// The next rows as long as they belong to this session. All iterators run in the order of sessions, and opening
/// removed what belongs to none.
fn rows_of<T>(
    rows: &mut Peekable<impl Iterator<Item = Row>>,
    session: SessionKey,
    read: impl Fn(Bytes, Bytes) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let prefix = keys::session(session);
    let is_ours = |row: &Row| row.as_ref().map_or(true, |(key, _)| key.starts_with(&prefix));
    let mut found = Vec::new();
    while let Some(row) = rows.next_if(is_ours) {
        let (key, value) = row?;
        found.push(read(key, value)?);
    }
    Ok(found)
}
