//! The third place where a vendor says that a device token is dead, besides answers and receipts: a feed that has to be
//! asked. Today OPPO's, which forgets what it has told: each page is written down before the next is asked for.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::expiry::{self, Owned};
use crate::receipts::{self, Taken};
use crate::shared::Shared;
use crate::store::{Space, StoreError, Tx, keys};
use crate::vendor::receipt::{Receipt, Told};
use crate::vendor::{Credential, Verdict};

/// How often it is looked at whether a feed is due: a new credential waits no longer.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Pages of one feed in one turn at most; the rest comes with the next.
const PAGES_MAX: usize = 200;
/// After a fault the feed is asked again, in milliseconds, unless its interval is shorter.
const FAULT_WAIT_MS: u64 = 5 * 60 * 1000;

/// How far a feed was read. The vendor keeps no position of ours: what it has told is gone there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    /// When it is asked next, in milliseconds since 1970.
    next_at_ms: u64,
    /// Device tokens told so far.
    told: u64,
}

impl Position {
    fn is_due(self, now_ms: u64) -> bool {
        self.next_at_ms <= now_ms
    }
}

/// Asks every feed in its interval, until told to stop; never in the middle of a page.
pub(crate) async fn run(shared: Arc<Shared>, interval: Duration, mut stop: watch::Receiver<bool>) {
    let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
    if interval_ms == 0 {
        return;
    }
    loop {
        if let Err(error) = look(&shared, interval_ms, &stop).await {
            tracing::error!(%error, "what vendors tell of dead device tokens cannot be kept");
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(LOOK_EVERY.min(interval)) => {}
        }
    }
}

async fn look(
    shared: &Arc<Shared>,
    interval_ms: u64,
    stop: &watch::Receiver<bool>,
) -> Result<(), StoreError> {
    let now_ms = shared.store.now_ms();
    let due = move |tx: &Tx<'_>| {
        let mut due = Vec::new();
        for owned in expiry::all(tx)? {
            let has_feed = matches!(&owned.kept.credential, Credential::Oppo(oppo) if oppo.has_feed());
            let position = tx.load::<Position>(Space::Apps, &keys::feed_position(&owned.key))?;
            if has_feed && position.unwrap_or_default().is_due(now_ms) {
                due.push(owned);
            }
        }
        Ok::<_, StoreError>(due)
    };
    for owned in shared.store.read(due).await? {
        drain(shared, &owned, interval_ms, stop).await?;
    }
    Ok(())
}

/// Asks until a page is empty.
async fn drain(
    shared: &Arc<Shared>,
    owned: &Owned,
    interval_ms: u64,
    stop: &watch::Receiver<bool>,
) -> Result<(), StoreError> {
    let credential = Arc::new(owned.kept.credential.clone());
    for _ in 0..PAGES_MAX {
        if *stop.borrow() {
            return Ok(());
        }
        let page = ask(shared, &credential).await;
        let result = if page.is_ok() { "read" } else { "failed" };
        let now_ms = shared.store.now_ms();
        let (tokens, next_at_ms) = match page {
            Ok(tokens) if tokens.is_empty() => (tokens, now_ms.saturating_add(interval_ms)),
            Ok(tokens) => (tokens, now_ms),
            Err(verdict) => {
                let (app, vendor) = (&owned.app, owned.vendor);
                tracing::warn!(%app, %vendor, verdict = verdict.name(), reason = verdict.reason(), "a feed of dead device tokens cannot be read");
                (Vec::new(), now_ms.saturating_add(interval_ms.min(FAULT_WAIT_MS)))
            }
        };
        let is_last = next_at_ms > now_ms;
        let for_tx = owned.clone();
        let taken = shared.store.write(move |tx| keep(tx, &for_tx, &tokens, next_at_ms)).await?;
        for taken in taken {
            shared.metrics.receipt(owned.vendor.as_str(), taken.name());
        }
        if is_last {
            shared.metrics.feed(owned.vendor.as_str(), result);
            return Ok(());
        }
    }
    Ok(())
}

async fn ask(shared: &Arc<Shared>, credential: &Arc<Credential>) -> Result<Vec<String>, Verdict> {
    let Credential::Oppo(oppo) = &**credential else { return Ok(Vec::new()) };
    let answer = shared.sender.ask(credential, |login, _| oppo.feed_request(login)).await;
    let answer = answer.map_err(|missing| missing.verdict)?;
    oppo.read_feed(&answer, shared.store.now_ms())
}

/// Buries the device tokens of a page as a receipt would, and notes how far the feed was read.
fn keep(
    tx: &mut Tx<'_>,
    owned: &Owned,
    tokens: &[String],
    next_at_ms: u64,
) -> Result<Vec<Taken>, StoreError> {
    let mut taken = Vec::with_capacity(tokens.len());
    for token in tokens {
        let told = Told::TokenDead(format!("in {}'s feed of invalid device tokens", owned.vendor));
        let receipt = Receipt { message: None, vendor_id: None, token: token.clone(), told, at_ms: None };
        taken.push(receipts::take(tx, &owned.app, owned.vendor, &receipt)?);
    }
    let key = keys::feed_position(&owned.key);
    let before = tx.load::<Position>(Space::Apps, &key)?.unwrap_or_default();
    tx.save(Space::Apps, key, &Position { next_at_ms, told: before.told + tokens.len() as u64 })?;
    Ok(taken)
}
