//! Tells of records that cannot be decoded, each once, and sets aside those that are work: the rest of their lists goes on.

use std::sync::Arc;
use std::time::Duration;

use crate::shared::Shared;
use crate::store::{Found, Store, StoreError, Tx};

/// Pause after the store failed.
const FAULT_PAUSE: Duration = Duration::from_secs(1);

/// Waits for such records, for ever.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        for found in shared.store.damaged().take() {
            shared.metrics.damaged(found.space.name());
            if let Err(error) = tell(&shared.store, found).await {
                tracing::error!(%error, "a record that cannot be decoded could not be set aside");
                tokio::time::sleep(FAULT_PAUSE).await; // it is found again
            }
        }
        shared.store.damaged().woken.notified().await;
    }
}

pub(crate) async fn tell(store: &Store, found: Found) -> Result<(), StoreError> {
    let (space, key) = (found.space.name(), found.key.escape_ascii().to_string());
    let why = found.why.clone();
    match store.write(move |tx: &mut Tx<'_>| found.set_aside(tx)).await? {
        true => tracing::error!(
            space,
            key,
            why,
            "a record cannot be worked on and is set aside until the next start: it is damaged, or of a newer release"
        ),
        false => tracing::error!(
            space,
            key,
            why,
            "a record cannot be decoded and is left out: it is damaged, or of a newer release"
        ),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
