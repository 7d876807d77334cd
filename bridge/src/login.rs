//! Logins at vendors: kept until they should be renewed, and asked for once however many pushes wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::sender::tasks::{SingleFlight, Tasks, lock};
use crate::vendor::apns::{ApnsCredential, TOKEN_UPDATE_WINDOW};
use crate::vendor::fcm::FcmCredential;
use crate::vendor::{Credential, Login, Secret, Verdict};

/// Logins kept at once; beyond it those that ended are forgotten, then all.
const LOGINS_MAX: usize = 10_000;
/// A login that was got because the one before was refused is not thrown away sooner than this, else every
/// push of a revoked account would sign in again.
const REFRESHED_KEPT: Duration = Duration::from_secs(60);

/// Who signs in, where, and with which key. The key itself is part of it: nobody gets a login by naming
/// another's account.
#[derive(Clone, PartialEq, Eq, Hash)]
enum LoginKey {
    Apns { team_id: String, key_id: String, private_key: Secret },
    Fcm { email: String, key_id: String, private_key: Secret, token_uri: String, ca_pem: Option<String> },
}

impl LoginKey {
    fn of(credential: &Credential) -> Option<Self> {
        match credential {
            Credential::Apns(ApnsCredential { team_id, key_id, private_key, .. }) => Some(Self::Apns {
                team_id: team_id.clone(),
                key_id: key_id.clone(),
                private_key: private_key.clone(),
            }),
            Credential::Fcm(FcmCredential { service_account, ca_pem, .. }) => Some(Self::Fcm {
                email: service_account.client_email.clone(),
                key_id: service_account.private_key_id.clone(),
                private_key: service_account.private_key.clone(),
                token_uri: service_account.token_uri.clone(),
                ca_pem: ca_pem.clone(),
            }),
            Credential::Record(_) => None,
        }
    }

    /// How old a login must be before a refusal is reason enough for another one.
    fn age_min(&self, login: &Kept) -> Duration {
        match self {
            // Apple refuses a connection that sees tokens more often; a younger token is refused for
            // another reason, such as a wrong clock, which a new one does not cure.
            Self::Apns { .. } => TOKEN_UPDATE_WINDOW,
            Self::Fcm { .. } if login.is_refreshed => REFRESHED_KEPT,
            Self::Fcm { .. } => Duration::ZERO,
        }
    }
}

#[derive(Clone)]
struct Kept {
    login: Login,
    made_at_ms: u64,
    is_refreshed: bool,
}

#[derive(Default)]
struct Account {
    kept: Mutex<Option<Kept>>,
    asking: SingleFlight<Result<Login, Verdict>>,
}

/// All logins of a sender.
#[derive(Default)]
pub(crate) struct Logins(Mutex<HashMap<LoginKey, Arc<Account>>>);

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
        let Some(key) = LoginKey::of(credential) else { return Ok(None) };
        let account = self.account(key, now_ms);
        let kept = lock(&account.kept).clone();
        if let Some(kept) = kept
            && now_ms < kept.login.renew_at_ms
        {
            return Ok(Some(kept.login));
        }
        account.ask(tasks, now_ms, false, ask).await.map(Some)
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
        let Some(key) = LoginKey::of(credential) else { return Ok(None) };
        let account = self.account(key.clone(), now_ms);
        let kept = lock(&account.kept).clone();
        match kept {
            Some(kept) if kept.login != *refused => return Ok(Some(kept.login)), // someone was faster
            Some(kept) if now_ms.saturating_sub(kept.made_at_ms) < key.age_min(&kept).as_millis() as u64 => {
                return Ok(None);
            }
            Some(_) | None => {}
        }
        account.ask(tasks, now_ms, true, ask).await.map(Some)
    }

    /// Forgets the login of this credential, as after a revoked key.
    pub fn forget(&self, credential: &Credential) {
        if let Some(key) = LoginKey::of(credential) {
            lock(&self.0).remove(&key);
        }
    }

    fn account(&self, key: LoginKey, now_ms: u64) -> Arc<Account> {
        let mut accounts = lock(&self.0);
        if accounts.len() >= LOGINS_MAX && !accounts.contains_key(&key) {
            let is_fresh = |kept: &Kept| now_ms < kept.login.renew_at_ms;
            accounts.retain(|_, account| lock(&account.kept).as_ref().is_some_and(is_fresh));
            if accounts.len() >= LOGINS_MAX {
                accounts.clear();
            }
        }
        Arc::clone(accounts.entry(key).or_default())
    }
}

impl Account {
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
