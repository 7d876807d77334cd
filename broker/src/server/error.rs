//! Why the broker did not start, in one line that says what to change.

use super::listeners::Place;
use crate::auth::error::AuthError;
use crate::config::ConfigError;
use reveille_broker_store::StoreError;
use std::io;
use std::path::PathBuf;

/// Why the broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Credentials, rules or bans cannot be used.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// Another program listens there.
    #[error("{address} is in use by another program: stop that one, or change the key {key:?}")]
    AddressInUse {
        /// Where.
        address: Place,
        /// The key of the configuration.
        key: &'static str,
    },
    /// The system does not let us listen there.
    #[error("cannot listen on {address}, see the key {key:?}: {error}")]
    Bind {
        /// Where.
        address: Place,
        /// The key of the configuration.
        key: &'static str,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// The data directory cannot be used.
    #[error("{}: {error}", directory.display())]
    Store {
        /// Which.
        directory: PathBuf,
        /// Why.
        #[source]
        error: StoreError,
    },
    /// What is stored cannot be read back.
    #[error("what is stored cannot be read back: {0}")]
    Recover(#[source] StoreError),
    /// The system gives us no thread.
    #[error("a thread could not be started: {0}")]
    Thread(#[source] io::Error),
    /// A thread ended during the start.
    #[error("a thread ended during the start, this is a defect of the broker: report the log")]
    Stopped,
}

impl StartError {
    /// What the system said when an address was wanted.
    pub(super) fn bind(key: &'static str, address: Place, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::AddressInUse { address, key },
            _ => Self::Bind { address, key, error },
        }
    }
}
