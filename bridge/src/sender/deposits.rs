//! Messages that vendors keep before they are told for whom: their names there.

use std::collections::HashMap;
use std::sync::Mutex;

use reveille_proto::ids::MessageId;

use super::tasks::lock;
use crate::vendor::{Account, Credential};

/// Names kept at once; beyond it all are forgotten, which costs one request each.
const KEPT_MAX: usize = 1000;
/// A message is handed in anew after so long, because its time to live was counted from then.
const KEPT_MS: u64 = 60_000;

struct Deposit {
    name: String,
    at_ms: u64,
}

/// All deposits of a sender.
#[derive(Default)]
pub(super) struct Deposits(Mutex<HashMap<(Account, MessageId), Deposit>>);

impl Deposits {
    /// The name that a message has at a vendor.
    pub fn current(&self, credential: &Credential, message: MessageId, now_ms: u64) -> Option<String> {
        let account = credential.vendor().account()?;
        let kept = lock(&self.0);
        let deposit = kept.get(&(account, message))?;
        (now_ms.saturating_sub(deposit.at_ms) < KEPT_MS).then(|| deposit.name.clone())
    }

    /// Remembers the name.
    pub fn keep(&self, credential: &Credential, message: MessageId, name: &str, now_ms: u64) {
        let Some(account) = credential.vendor().account() else { return };
        let mut kept = lock(&self.0);
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert((account, message), Deposit { name: name.to_owned(), at_ms: now_ms });
    }

    /// Forgets the name.
    pub fn forget(&self, credential: &Credential, message: MessageId) {
        if let Some(account) = credential.vendor().account() {
            lock(&self.0).remove(&(account, message));
        }
    }
}
