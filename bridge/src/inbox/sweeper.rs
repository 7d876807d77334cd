//! Lets go of entries whose time is over in inboxes that nobody opens, and of what their messages said.

use std::sync::Arc;
use std::time::Duration;

use reveille_proto::ids::AppId;

use super::{Inbox, Ledger, Shown, ledger};
use crate::shared::Shared;
use crate::store::{Order, Pair, Space, Store, StoreError, Tx, keys};

/// How often all inboxes are passed.
const SWEEP_EVERY: Duration = Duration::from_secs(10 * 60);
/// Records looked at in one read.
const AT_ONCE: usize = 1_000;
/// Inboxes cleaned in one write, so that others get their turn.
const CLEANED_AT_ONCE: usize = 50;

/// Sweeps for ever.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        if let Err(error) = sweep(&shared.store).await {
            tracing::error!(%error, "the inboxes cannot be swept");
        }
        tokio::time::sleep(SWEEP_EVERY).await;
    }
}

/// Passes every inbox once.
pub(super) async fn sweep(store: &Store) -> Result<(), StoreError> {
    let mut after = None;
    while let Some((due, last)) = look(store, keys::inbox_ledgers(), after, due).await? {
        for inboxes in due.chunks(CLEANED_AT_ONCE) {
            clean_some(store, inboxes.to_vec()).await?;
        }
        after = Some(last);
    }
    let mut after = None;
    while let Some((over, last)) = look(store, keys::inbox_contents(), after, over).await? {
        if !over.is_empty() {
            let forget = move |tx: &mut Tx<'_>| {
                over.into_iter().for_each(|key| tx.remove(Space::Messages, key));
                Ok::<_, StoreError>(())
            };
            store.write(forget).await?;
        }
        after = Some(last);
    }
    Ok(())
}

/// Cleans inboxes together, or one by one where one of them cannot be.
async fn clean_some(store: &Store, inboxes: Vec<(AppId, String)>) -> Result<(), StoreError> {
    let all = inboxes.clone();
    match store.write(move |tx| clean(tx, &all)).await {
        Err(error) if error.is_of_one_write() => {}
        cleaned => return cleaned,
    }
    for inbox in inboxes {
        let (app, user) = inbox.clone();
        match store.write(move |tx| clean(tx, &[inbox])).await {
            Err(error) if error.is_of_one_write() => {
                tracing::warn!(%app, user, %error, "an inbox cannot be swept");
            }
            cleaned => cleaned?,
        }
    }
    Ok(())
}

/// What a look picks of one record.
type Pick<T> = fn(&Tx<'_>, Pair) -> Option<T>;

/// What is picked of the next records, and the key of the last one; `None` at the end.
async fn look<T: Send + 'static>(
    store: &Store,
    prefix: Vec<u8>,
    after: Option<Vec<u8>>,
    pick: Pick<T>,
) -> Result<Option<(Vec<T>, Vec<u8>)>, StoreError> {
    let read = move |tx: &Tx<'_>| {
        let found = tx.scan(Space::Messages, &prefix, after.as_deref(), Order::Forward, AT_ONCE)?;
        let Some((last, _)) = found.last() else { return Ok(None) };
        let last = last.clone();
        Ok(Some((found.into_iter().filter_map(|pair| pick(tx, pair)).collect(), last)))
    };
    store.read(read).await
}

fn due(tx: &Tx<'_>, (key, record): Pair) -> Option<(AppId, String)> {
    let ledger: Ledger = tx.decoded(Space::Messages, key.clone(), record)?;
    keys::inbox_owner(&key).filter(|_| ledger.next_end_ms <= tx.now_ms() || ledger.is_spent(tx.now_ms()))
}

fn over(tx: &Tx<'_>, (key, record): Pair) -> Option<Vec<u8>> {
    let shown: Shown = tx.decoded(Space::Messages, key.clone(), record)?;
    shown.inbox_until_ms.is_none_or(|until_ms| until_ms <= tx.now_ms()).then_some(key)
}

fn clean(tx: &mut Tx<'_>, inboxes: &[(AppId, String)]) -> Result<(), StoreError> {
    for (app, user) in inboxes {
        let is_spent = ledger(tx, app, user)?.is_some_and(|ledger| ledger.is_spent(tx.now_ms()));
        match is_spent {
            true => tx.remove(Space::Messages, keys::inbox_ledger(app, user)),
            false => drop(Inbox::open(tx, app, user)?.close(tx)?),
        }
    }
    Ok(())
}
