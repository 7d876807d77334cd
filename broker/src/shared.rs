//! What every shard's thread has in common.

use crate::auth::Auth;
use crate::auth::bans::Bans;
use crate::auth::keeper::Keeper;
use crate::clock::Clock;
use crate::config::AdminKey;
use crate::drain::Draining;
use crate::health::Health;
use crate::heartbeats::Heartbeats;
use crate::limits::LimitsTable;
use crate::listener::Listener;
use crate::mailbox::Mailboxes;
use crate::metrics::Metrics;
use crate::topics::Topics;
use crate::tracer::Tracer;
use crate::watch::Intervals;
use arc_swap::ArcSwap;
use reveille_broker_core::control::Control;
use reveille_broker_core::io::ShardNo;
use reveille_broker_core::router::Router;
use reveille_broker_store::Store;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Handles to what the threads share, and the number of the one that holds them.
#[derive(Clone)]
pub(crate) struct Shared {
    /// Whose this is.
    pub(crate) no: ShardNo,
    /// The time.
    pub(crate) clock: Clock,
    /// Which shards take part in a publish. Its read lock is the only lock that a publish takes.
    pub(crate) router: Arc<RwLock<Router>>,
    /// Ways to the other shards.
    pub(crate) mailboxes: Arc<Mailboxes>,
    /// Where facts last.
    pub(crate) store: Arc<dyn Store>,
    /// The state of the broker.
    pub(crate) health: Arc<Health>,
    /// What is measured.
    pub(crate) metrics: Metrics,
    /// Every way in: the plain one, the bridge's, the further ones.
    pub(crate) listeners: Arc<[Arc<Listener>]>,
    /// Who must not connect.
    pub(crate) bans: Arc<Bans>,
    /// What logins need that outlives a reload.
    pub(crate) keeper: Arc<Keeper>,
    /// Who may connect, and what they may do then. Replaced as a whole; whoever is being identified finishes with the
    /// one it began with.
    pub(crate) auth: Arc<ArcSwap<Auth>>,
    /// How often shards and `$SYS` are looked at.
    pub(crate) intervals: Arc<Intervals>,
    /// Whether the broker empties itself, and how.
    pub(crate) draining: Arc<Draining>,
    /// Whom an operator follows.
    pub(crate) tracer: Arc<Tracer>,
    /// What topics say, for those without MQTT.
    pub(crate) topics: Arc<Topics>,
    /// Where things go, and what clients are told and given without asking.
    pub(crate) control: Arc<ArcSwap<Control>>,
    /// What is learned about networks.
    pub(crate) heartbeats: Arc<Heartbeats>,
    /// Who may use the operations API.
    pub(crate) admin_keys: Arc<ArcSwap<Vec<AdminKey>>>,
    /// Every bound; what runs already keeps those that it began with.
    pub(crate) limits: Arc<ArcSwap<LimitsTable>>,
}

impl Shared {
    /// The router, to route. A panic elsewhere left it whole: every change of it is one call of the core.
    pub(crate) fn read_router(&self) -> RwLockReadGuard<'_, Router> {
        self.router.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The router, to change it.
    pub(crate) fn write_router(&self) -> RwLockWriteGuard<'_, Router> {
        self.router.write().unwrap_or_else(PoisonError::into_inner)
    }
}
