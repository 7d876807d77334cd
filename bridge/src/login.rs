//! Logins at vendors: kept until they should be renewed, and asked for once however many pushes wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::sender::tasks::{SingleFlight, Tasks, lock};
use crate::vendor::{Account, Credential, Login, Verdict};

/// Logins kept at once; beyond it those that ended are forgotten, then all.
const LOGINS_MAX: usize = 10_000;
/// A login that was got because the one before was refused is not thrown away sooner than this, else every
/// push of a revoked account would sign in again.
const REFRESHED_KEPT: Duration = Duration::from_secs(60);

/// How old a login must be before a refusal is reason enough for another one.
fn age_min(account: &Account, login: &Kept) -> Duration {
    if login.is_refreshed { account.spacing.max(REFRESHED_KEPT) } else { account.spacing }
}

#[derive(Clone)]
struct Kept {
    login: Login,
    made_at_ms: u64,
    is_refreshed: bool,
}

#[derive(Default)]
struct Desk {
    kept: Mutex<Option<Kept>>,
    asking: SingleFlight<Result<Login, Verdict>>,
}

/// All logins of a sender.
#[derive(Default)]
pub(crate) struct Logins(Mutex<HashMap<Account, Arc<Desk>>>);

impl Logins {
    /// The login to use now; `None` for vendors without one. `ask` gets a new one.
    pub async fn current<F>(
        &self,
        credential: &Credential,
        tasks: &Tasks,
        now_ms: u64,
        ask: impl FnOnce() -> F,
    ) -> Result<Option<Login>, Verdict>
    where
        F: Future<Output = Result<Login, Verdict>> + Send + 'static,
    {
        let Some(account) = credential.vendor().account() else { return Ok(None) };
        let desk = self.desk(account, now_ms);
        let kept = lock(&desk.kept).clone();
        if let Some(kept) = kept
            && now_ms < kept.login.renew_at_ms
        {
            return Ok(Some(kept.login));
        }
        desk.ask(tasks, now_ms, false, ask).await.map(Some)
    }

    /// Another login after `refused` was; `None` when another one would not help.
    pub async fn after_refusal<F>(
        &self,
        credential: &Credential,
        refused: &Login,
        tasks: &Tasks,
        now_ms: u64,
        ask: impl FnOnce() -> F,
    ) -> Result<Option<Login>, Verdict>
    where
        F: Future<Output = Result<Login, Verdict>> + Send + 'static,
    {
        let Some(account) = credential.vendor().account() else { return Ok(None) };
        let desk = self.desk(account.clone(), now_ms);
        let kept = lock(&desk.kept).clone();
        match kept {
            Some(kept) if kept.login != *refused => return Ok(Some(kept.login)), // someone was faster
            Some(kept)
                if now_ms.saturating_sub(kept.made_at_ms) < age_min(&account, &kept).as_millis() as u64 =>
            {
                return Ok(None);
            }
            Some(_) | None => {}
        }
        desk.ask(tasks, now_ms, true, ask).await.map(Some)
    }

    /// Forgets the login of this credential, as after a revoked key.
    pub fn forget(&self, credential: &Credential) {
        if let Some(account) = credential.vendor().account() {
            lock(&self.0).remove(&account);
        }
    }

    fn desk(&self, account: Account, now_ms: u64) -> Arc<Desk> {
        let mut desks = lock(&self.0);
        if desks.len() >= LOGINS_MAX && !desks.contains_key(&account) {
            let is_fresh = |kept: &Kept| now_ms < kept.login.renew_at_ms;
            desks.retain(|_, desk| lock(&desk.kept).as_ref().is_some_and(is_fresh));
            if desks.len() >= LOGINS_MAX {
                desks.clear();
            }
        }
        Arc::clone(desks.entry(account).or_default())
    }
}

impl Desk {
    async fn ask<F>(
        self: &Arc<Self>,
        tasks: &Tasks,
        now_ms: u64,
        is_refreshed: bool,
        ask: impl FnOnce() -> F,
    ) -> Result<Login, Verdict>
    where
        F: Future<Output = Result<Login, Verdict>> + Send + 'static,
    {
        let start = || {
            let (asking, this) = (ask(), Arc::clone(self));
            async move {
                let login = asking.await?;
                *lock(&this.kept) = Some(Kept { login: login.clone(), made_at_ms: now_ms, is_refreshed });
                Ok(login)
            }
        };
        let closed = || Verdict::Retry { after: None, reason: "the sender was closed".to_owned() };
        self.asking.join(tasks, start).await.unwrap_or_else(|| Err(closed()))
    }
}
