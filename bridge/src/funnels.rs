//! Looks without end whether funnels are true: each is counted anew from its deliveries, and must be the one that is
//! kept. What is not is a mistake of ours: it is counted and logged, and nothing else depends on this.

use std::sync::Arc;
use std::time::Duration;

use reveille_proto::ids::{AppId, MessageId};

use crate::apps;
use crate::deliveries::{self, Funnel, Reaction};
use crate::jobs;
use crate::messages;
use crate::shared::Shared;
use crate::store::{StoreError, Tx};

/// Pause between two messages, so that looking takes no more than a small part of the disk.
const PAUSE: Duration = Duration::from_millis(250);
/// Pause when every message was looked at.
const REST: Duration = Duration::from_secs(10);
/// How long after a difference it is looked for again: a commit may have been half visible.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Deliveries of one message that are counted; of a larger one only the sum is checked.
const DELIVERIES_MAX: u64 = 100_000;
/// Deliveries read at once.
const CHUNK: usize = 1_000;

/// What a look at one funnel found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It is true.
    Whole,
    /// Its sum is; there are too many deliveries to count them.
    Large,
    /// Something changed meanwhile, so nothing can be said.
    Moved,
    /// It is not.
    Wrong,
    /// A record that belongs to it cannot be decoded, so nothing can be said.
    Unreadable,
}

impl Found {
    fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Large => "large",
            Self::Moved => "moved",
            Self::Wrong => "wrong",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Counts a message's deliveries anew and compares. The reads are no snapshot, so the funnel is read before and after.
pub(crate) fn look(tx: &Tx<'_>, app: &AppId, id: MessageId) -> Result<Found, StoreError> {
    let kept = deliveries::funnel(tx, app, id)?;
    if !kept.is_whole() {
        return Ok(Found::Wrong);
    }
    if kept.targeted > DELIVERIES_MAX {
        return Ok(Found::Large);
    }
    let counted = count(tx, app, id)?;
    if jobs::is_being_forgotten(tx, app, id)? || deliveries::funnel(tx, app, id)? != kept {
        return Ok(Found::Moved);
    }
    Ok(if agree(&kept, &counted) { Found::Whole } else { Found::Wrong })
}

fn count(tx: &Tx<'_>, app: &AppId, id: MessageId) -> Result<Funnel, StoreError> {
    let (mut counted, mut after) = (Funnel::default(), None::<String>);
    loop {
        let found = deliveries::list(tx, app, id, after.as_deref(), CHUNK)?;
        for (_, delivery) in &found {
            counted.add(delivery.bucket);
            counted.clicked += u64::from(delivery.reaction == Some(Reaction::Clicked));
        }
        match found.last() {
            Some((last, _)) if found.len() == CHUNK => after = Some(last.clone()),
            Some(_) | None => return Ok(counted),
        }
    }
}

/// Whether both say the same of what a delivery's record shows: a reaction that a further one replaced it does not.
fn agree(kept: &Funnel, counted: &Funnel) -> bool {
    let parts = |funnel: &Funnel| {
        [
            funnel.targeted,
            funnel.filtered,
            funnel.suppressed,
            funnel.failed,
            funnel.expired,
            funnel.acked,
            funnel.vendor_accepted,
            funnel.in_flight,
            funnel.clicked,
        ]
    };
    parts(kept) == parts(counted)
}

/// Looks at every message in turn, newest first, for ever.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        if let Err(error) = one_round(&shared).await {
            tracing::error!(%error, "funnels cannot be checked");
        }
        tokio::time::sleep(REST).await;
    }
}

async fn one_round(shared: &Arc<Shared>) -> Result<(), StoreError> {
    for app in shared.store.read(apps::list).await? {
        let Ok(app) = AppId::parse(&app.id) else { continue };
        let mut before = None;
        loop {
            let of = app.clone();
            before = shared.store.read(move |tx| messages::older(tx, &of, before)).await?;
            let Some(message) = before else { break };
            check(shared, &app, message).await?;
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

async fn check(shared: &Arc<Shared>, app: &AppId, id: MessageId) -> Result<(), StoreError> {
    let read = || {
        let app = app.clone();
        shared.store.read(move |tx| match look(tx, &app, id) {
            Err(error) if error.is_of_one_write() => Ok(Found::Unreadable),
            found => found,
        })
    };
    let mut found = read().await?;
    if found == Found::Wrong {
        tokio::time::sleep(AGAIN_AFTER).await;
        found = read().await?;
    }
    shared.metrics.funnel(found.name());
    if found == Found::Wrong {
        tracing::error!(%app, message = %id, "a funnel is not the sum of its deliveries: please report this");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
