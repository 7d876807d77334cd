//! Builds the index from the store at the start: one walk over devices and presence side by side, in constant memory
//! beside the index itself.

use std::collections::VecDeque;
use std::time::Instant;

use reveille_proto::ids::AppId;

use super::Change;
use crate::devices::{self, BrokerStarts, Device, Presence};
use crate::store::{Engine, Order, Pair, Space, StoreError, Tx, keys, write_at_open};

/// Records read at once.
const PAGE: usize = 4096;

/// Fills the engine's index. Devices that an older release kept get their numbers, and its indexes on disk go.
///
/// # Errors
/// [`StoreError`] when the store fails. A device that cannot be decoded is left out.
pub(crate) fn rebuild(engine: &Engine, now_ms: u64) -> Result<(), StoreError> {
    let began = Instant::now();
    drop_old_indexes(engine, now_ms)?;
    let tx = Tx::reading(engine, now_ms);
    let starts = devices::broker_starts(&tx)?;
    let mut devices = Walk::new(&tx, keys::all_devices());
    let mut presences = Walk::new(&tx, keys::all_presences());
    let (mut waiting, mut count) = (Vec::with_capacity(PAGE), 0_u64);
    while let Some((place, record)) = devices.next()? {
        let Some(app) = keys::app_at(&place) else { continue };
        let presence = presences.at(&place)?;
        let under = |prefix: Vec<u8>| [prefix.as_slice(), &place].concat();
        let presence =
            presence.and_then(|record| tx.decoded(Space::Devices, under(keys::all_presences()), record));
        let device = tx.decoded(Space::Devices, under(keys::all_devices()), record);
        let Some(device) = device else { continue };
        waiting.push((app, device, presence));
        count += 1;
        if waiting.len() == PAGE {
            take(engine, now_ms, &starts, std::mem::take(&mut waiting))?;
        }
    }
    take(engine, now_ms, &starts, waiting)?;
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(devices = count, took_ms, "the index of devices is built");
    Ok(())
}

fn take(
    engine: &Engine,
    now_ms: u64,
    starts: &BrokerStarts,
    mut found: Vec<(AppId, Device, Option<Presence>)>,
) -> Result<(), StoreError> {
    if found.iter().any(|(_, device, _)| device.number.is_none()) {
        found = write_at_open(engine, now_ms, |tx| {
            for (app, device, _) in found.iter_mut().filter(|(_, device, _)| device.number.is_none()) {
                devices::number(tx, app, device)?;
            }
            Ok(found)
        })?;
    }
    let mut changes = Vec::with_capacity(found.len() * 2);
    for (app, device, presence) in found {
        let Some(number) = device.number else { continue };
        let joined = devices::labels(&device).into_iter().collect();
        if let Some(presence) = presence {
            let presence = starts.end(presence);
            changes.push(Change::Presence { app: app.clone(), number, presence });
        }
        changes.push(Change::Device { app, number, left: Vec::new(), joined });
    }
    engine.index().apply(changes);
    Ok(())
}

/// Older releases kept an entry on disk for each tag and alias of a device.
fn drop_old_indexes(engine: &Engine, now_ms: u64) -> Result<(), StoreError> {
    for prefix in keys::old_indexes() {
        loop {
            let removed = write_at_open(engine, now_ms, |tx| {
                let found = tx.scan(Space::Devices, &prefix, None, Order::Forward, PAGE)?;
                let count = found.len();
                found.into_iter().for_each(|(key, _)| tx.remove(Space::Devices, key));
                Ok(count)
            })?;
            if removed < PAGE {
                break;
            }
        }
    }
    Ok(())
}

/// Records whose keys begin with a prefix, in order, with what stands behind it.
struct Walk<'a> {
    tx: &'a Tx<'a>,
    prefix: Vec<u8>,
    page: VecDeque<Pair>,
    after: Option<Vec<u8>>,
    is_last_page: bool,
}

impl<'a> Walk<'a> {
    fn new(tx: &'a Tx<'a>, prefix: Vec<u8>) -> Self {
        Self { tx, prefix, page: VecDeque::new(), after: None, is_last_page: false }
    }

    fn next(&mut self) -> Result<Option<Pair>, StoreError> {
        self.fill()?;
        let Some((key, record)) = self.page.pop_front() else { return Ok(None) };
        Ok(Some((key.get(self.prefix.len()..).unwrap_or_default().to_vec(), record)))
    }

    /// The record at a place, which lies behind the places asked for before.
    fn at(&mut self, place: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        loop {
            self.fill()?;
            let Some((key, _)) = self.page.front() else { return Ok(None) };
            let here = key.get(self.prefix.len()..).unwrap_or_default();
            if here > place {
                return Ok(None);
            }
            let is_it = here == place;
            let record = self.page.pop_front().map(|(_, record)| record);
            if is_it {
                return Ok(record);
            }
        }
    }

    fn fill(&mut self) -> Result<(), StoreError> {
        if !self.page.is_empty() || self.is_last_page {
            return Ok(());
        }
        let found =
            self.tx.scan(Space::Devices, &self.prefix, self.after.as_deref(), Order::Forward, PAGE)?;
        self.is_last_page = found.len() < PAGE;
        self.after = found.last().map(|(key, _)| key.clone());
        self.page = found.into();
        Ok(())
    }
}
