//! Certificates and keys of a listener: read from files, checked, and replaced while the broker runs.

mod identity;
mod load;
mod names;
mod tickets;
mod watch;

pub(crate) use identity::identity_of;
pub(crate) use load::check;
pub(crate) use tickets::TicketKeys;
pub(crate) use watch::Watch;

use crate::config::{ConfigError, ListenerConfig, ListenerProblem};
use crate::listener::Listener;
use arc_swap::ArcSwap;
use load::{Loaded, load};
use rustls::ServerConfig;
use std::fmt;
use std::sync::Arc;
use tickets::Tickets;

/// What one listener serves TLS with. Replaced as a whole: a handshake uses one or the other.
pub(crate) struct TlsFiles {
    listener: ListenerConfig,
    in_force: ArcSwap<InForce>,
    /// Encrypt the sessions that clients keep for us. They outlive new certificates, so that a renewal does not cost a full
    /// handshake of every client.
    tickets: Arc<TicketKeys>,
}

#[derive(Debug)]
struct InForce {
    server: Arc<ServerConfig>,
    loaded: Loaded,
}

impl TlsFiles {
    /// Reads the files that a listener names.
    ///
    /// # Errors
    /// [`ListenerProblem`] names the file.
    pub(crate) fn read(
        listener: &ListenerConfig,
        tickets: &Arc<TicketKeys>,
    ) -> Result<Self, ListenerProblem> {
        let loaded = load(listener)?;
        let server = loaded.server_config(listener, Tickets::of(tickets, listener, &loaded))?;
        let in_force = ArcSwap::from_pointee(InForce { server: Arc::new(server), loaded });
        Ok(Self { listener: listener.clone(), in_force, tickets: Arc::clone(tickets) })
    }

    /// What the next handshake uses.
    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.in_force.load().server)
    }

    /// Seconds since 1970 at which the first of the certificates in force ends.
    pub(crate) fn not_after_s(&self) -> Option<u64> {
        self.in_force.load().loaded.not_after_s
    }

    /// Which part of a client's certificate counts.
    pub(crate) fn listener(&self) -> &ListenerConfig {
        &self.listener
    }

    /// Reads the files again. Says whether they changed.
    ///
    /// # Errors
    /// [`ListenerProblem`] names the file; what was in force stays.
    pub(crate) fn read_again(&self) -> Result<bool, ListenerProblem> {
        let loaded = load(&self.listener)?;
        let before = self.in_force.load();
        if loaded.is_same_as(&before.loaded) {
            // Written anew with the same content: the times count from now on.
            let server = Arc::clone(&before.server);
            self.in_force.store(Arc::new(InForce { server, loaded }));
            return Ok(false);
        }
        let server =
            loaded.server_config(&self.listener, Tickets::of(&self.tickets, &self.listener, &loaded))?;
        self.in_force.store(Arc::new(InForce { server: Arc::new(server), loaded }));
        Ok(true)
    }

    /// Whether some file was written since it was read.
    pub(crate) fn is_outdated(&self) -> bool {
        self.in_force.load().loaded.is_outdated()
    }
}

impl fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsFiles").field("listener", &self.listener.name).finish_non_exhaustive()
    }
}

/// Reads the certificates of every listener again and logs what came of it. Says whether some changed.
///
/// # Errors
/// The first listener whose files cannot be used; its old ones stay in force, the others are read all the same.
pub(crate) fn read_all_again(listeners: &[Arc<Listener>]) -> Result<bool, ConfigError> {
    let (mut has_changed, mut failed) = (false, None);
    for listener in listeners {
        match listener.tls.as_ref().map_or(Ok(false), TlsFiles::read_again) {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!(listener = &*listener.name, "new certificates are in force");
                has_changed = true;
            }
            Err(problem) => {
                let error = ConfigError::Listener { name: listener.name.to_string(), problem };
                tracing::error!(%error, "new certificates cannot be used, the old ones stay in force");
                failed.get_or_insert(error);
            }
        }
    }
    failed.map_or(Ok(has_changed), Err)
}
