//! The connections to Apple: one in use for each (address, team, key), replaced when it retires.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::time::{Instant, timeout, timeout_at};

use super::apns_connection::{ApnsConnection, Slot, Target};
use super::tasks::{SingleFlight, Tasks, lock};
use super::{Lost, SenderOptions, tls};
use crate::vendor::apns::{ApnsCredential, TOKEN_UPDATE_WINDOW};
use crate::vendor::{Answer, Secret};

/// A request that was surely not processed is sent again on another connection, so often at most.
const RESENDS_MAX: u32 = 4;

/// What must be equal for pushes to share a connection: Apple refuses mixed keys and teams, and nobody may
/// ride on another's key or trust.
#[derive(Clone, PartialEq, Eq, Hash)]
struct PoolKey {
    base: String,
    team_id: Option<String>,
    key_id: Option<String>,
    certificate: Option<String>,
    private_key: Secret,
    ca_pem: Option<String>,
}

impl PoolKey {
    fn of(credential: &ApnsCredential, base: &str) -> Self {
        Self {
            base: base.to_owned(),
            team_id: credential.team_id.clone(),
            key_id: credential.key_id.clone(),
            certificate: credential.certificate.clone(),
            private_key: credential.private_key.clone(),
            ca_pem: credential.ca_pem.clone(),
        }
    }
}

/// Every pool, made when first used.
#[derive(Default)]
pub(super) struct ApnsPools(Mutex<HashMap<PoolKey, Arc<ApnsPool>>>);

impl ApnsPools {
    /// The pool of this credential to one of its addresses.
    pub fn pool(
        &self,
        credential: &ApnsCredential,
        base: &str,
        options: &SenderOptions,
    ) -> Result<Arc<ApnsPool>, &'static str> {
        let key = PoolKey::of(credential, base);
        if let Some(pool) = lock(&self.0).get(&key) {
            return Ok(Arc::clone(pool));
        }
        let pool = Arc::new(ApnsPool::new(credential, base, options)?);
        Ok(Arc::clone(lock(&self.0).entry(key).or_insert(pool)))
    }

    /// Closes the connections of this credential once their open streams ended.
    pub fn forget(&self, credential: &ApnsCredential) {
        for base in [credential.base(), credential.channels_base()] {
            if let Some(pool) = lock(&self.0).remove(&PoolKey::of(credential, base)) {
                pool.retire_current();
            }
        }
    }

    /// Forgets every connection.
    pub fn clear(&self) {
        for (_, pool) in lock(&self.0).drain() {
            pool.retire_current();
        }
    }
}

/// One connection in use, the way to the next one, and whether Apple wants us to rest.
pub(super) struct ApnsPool {
    target: Target,
    connect_deadline: Duration,
    state: Mutex<PoolState>,
    connecting: SingleFlight<Result<Arc<ApnsConnection>, String>>,
}

#[derive(Default)]
struct PoolState {
    current: Option<Arc<ApnsConnection>>,
    /// Connections in a row that were refused for too many token updates.
    strikes: u32,
    rest_until: Option<Instant>,
}

impl ApnsPool {
    fn new(credential: &ApnsCredential, base: &str, options: &SenderOptions) -> Result<Self, &'static str> {
        let base: http::Uri = base.parse().map_err(|_| "endpoint is not a URL")?;
        let host = base.host().ok_or("endpoint has no host")?.trim_matches(['[', ']']).to_owned();
        let identity = credential.client_identity();
        let is_proven = identity.is_some();
        let mut tls = tls::client_config(credential.ca_pem.as_deref(), identity)?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let target = Target {
            host,
            port: base.port_u16().unwrap_or(443),
            tls: Arc::new(tls),
            is_proven,
            ping_after: options.ping_after,
            ping_timeout: options.ping_timeout,
        };
        Ok(Self {
            target,
            connect_deadline: options.connect_deadline,
            state: Mutex::default(),
            connecting: SingleFlight::default(),
        })
    }

    /// Sends a request over the current connection, or a new one when that refuses it unprocessed.
    pub async fn exchange(
        &self,
        tasks: &Tasks,
        request: Request<Bytes>,
        deadline: Instant,
    ) -> Result<Exchanged, Lost> {
        let mut why = String::new();
        for _ in 0..=RESENDS_MAX {
            let slot = match timeout_at(deadline, self.slot(tasks)).await {
                Ok(slot) => slot?,
                Err(_) => return Err(Lost::NotSent("no stream became free before the deadline".to_owned())),
            };
            match timeout_at(deadline, slot.exchange(request.clone())).await {
                Ok(Ok(answer)) => return Ok(Exchanged { answer, connection: Arc::clone(slot.connection()) }),
                Ok(Err(Lost::NotSent(reason))) => why = reason,
                Ok(Err(lost)) => return Err(lost),
                Err(_) => {
                    // A connection that lets one request hang is not trusted with the next.
                    slot.connection().retire();
                    return Err(Lost::Unknown("no answer before the deadline".to_owned()));
                }
            }
        }
        Err(Lost::NotSent(why))
    }

    /// How long Apple wants no token from us, if it does.
    pub fn rest(&self) -> Option<Duration> {
        let rest_until = lock(&self.state).rest_until?;
        Some(rest_until.saturating_duration_since(Instant::now())).filter(|rest| !rest.is_zero())
    }

    /// Apple counted too many token updates on a connection. The token stays; another connection may take it.
    /// If that one refuses it as well, everything rests for the window that Apple names.
    pub fn strike(&self) {
        let mut state = lock(&self.state);
        state.strikes += 1;
        if state.strikes > 1 {
            state.rest_until = Some(Instant::now() + TOKEN_UPDATE_WINDOW);
        }
    }

    /// A push succeeded.
    pub fn clear_strikes(&self) {
        lock(&self.state).strikes = 0;
    }

    async fn slot(&self, tasks: &Tasks) -> Result<Slot, Lost> {
        loop {
            let current = lock(&self.state).current.clone();
            if let Some(connection) = current {
                if let Some(slot) = connection.slot().await {
                    return Ok(slot);
                }
                self.drop_retired(&connection);
                continue;
            }
            self.connect(tasks).await?;
        }
    }

    async fn connect(&self, tasks: &Tasks) -> Result<(), Lost> {
        let (target, deadline, for_task) = (self.target.clone(), self.connect_deadline, tasks.clone());
        let opening = || async move {
            let opened = timeout(deadline, ApnsConnection::open(target, for_task)).await;
            opened.unwrap_or_else(|_| Err("no connection before the deadline".to_owned()))
        };
        let opened = self.connecting.join(tasks, opening).await;
        let connection = opened.ok_or_else(|| Lost::NotSent("the sender was closed".to_owned()))?;
        let connection = connection.map_err(Lost::NotSent)?;
        lock(&self.state).current.get_or_insert(connection);
        Ok(())
    }

    fn drop_retired(&self, retired: &Arc<ApnsConnection>) {
        let mut state = lock(&self.state);
        if state.current.as_ref().is_some_and(|current| Arc::ptr_eq(current, retired)) {
            state.current = None;
        }
    }

    fn retire_current(&self) {
        if let Some(connection) = lock(&self.state).current.take() {
            connection.retire();
        }
    }
}

/// An answer and the connection that it came over.
pub(super) struct Exchanged {
    pub answer: Answer,
    pub connection: Arc<ApnsConnection>,
}
