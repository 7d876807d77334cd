//! Why the program ends with a complaint, in one line that says what to do.

use crate::config::{ConfigError, PasswordError};
use std::path::PathBuf;

/// Why a subcommand did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The password that broker and bridge share.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// A password file, or what was typed for it.
    #[error(transparent)]
    Passwd(#[from] crate::passwd::PasswdError),
    /// The log filter.
    #[error("the log filter {text:?} cannot be read, try `info` or `reveille_broker=debug`: {error}")]
    Log {
        /// As given.
        text: String,
        /// Why.
        #[source]
        error: tracing_subscriber::filter::ParseError,
    },
    /// The system gives no threads or no signals.
    #[error("the system refuses a thread or a signal handler: {0}")]
    System(#[source] std::io::Error),
    /// The data directory cannot be made.
    #[error("{}: the data directory cannot be made, choose another with --data-dir: {error}", path.display())]
    DataDir {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        error: std::io::Error,
    },
    /// The broker does not start.
    #[error("the broker does not start: {0}")]
    Broker(#[from] reveille_broker::StartError),
    /// The broker ended by itself.
    #[error("the broker ended: {0}")]
    BrokerEnded(#[source] reveille_broker::Failure),
    /// The bridge does not start.
    #[error("the bridge does not start: {0}")]
    Bridge(#[from] reveille_bridge::StartError),
    /// The HTTP API.
    #[error(transparent)]
    Api(#[from] crate::http::ApiError),
    /// The audit log is not what it was, or cannot be read.
    #[error("the audit log is not whole: {0}")]
    Audit(String),
    /// A key for the operations API with a role that does not exist.
    #[error("{role:?} is no role, there are read and admin")]
    Role {
        /// What was asked for.
        role: String,
    },
    /// The demo found a promise broken.
    #[error(transparent)]
    Demo(#[from] crate::demo::Broken),
}
