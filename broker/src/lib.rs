//! The MQTT broker: listeners, shards, durability, feed to the bridge, operations HTTP.
//!
//! The rules are in `reveille-broker-core`; this is the shell around them, which does all input and output.
//! [`start`] runs it, [`Config`] describes it.
//!
//! ```text
//! listener -> handshake -> (mailbox) -> host: driver -> rules -> router -> (mailbox) -> rules -> socket
//!                                                          \-> store -> commit ends -> rules -> acknowledgement
//! ```

mod auth;
mod bodies;
mod clock;
pub mod config;
mod connections;
mod drain;
mod handshake;
mod health;
mod heartbeats;
mod host;
mod http;
mod limits;
mod listener;
mod mailbox;
mod metrics;
mod operator;
mod overload;
mod poller;
mod reading;
mod reload;
mod review;
mod rules;
mod server;
mod shard_thread;
mod shared;
mod sys;
mod tls;
mod topics;
mod tracer;
mod transport;
mod watch;

pub use auth::BRIDGE_USER;
pub use auth::bans::{Ban, BanError, Banned, NoSubnet, Subnet};
pub use auth::credential::{Credential, CredentialError};
pub use auth::error::AuthError;
pub use auth::password_file::{PasswordFileError, delete_user, is_user_name, set_user};
pub use config::{AdminRole, Config, ConfigError, Secret, admin_key_hash};
pub use drain::{Drain, DrainError};
pub use health::Failure;
pub use operator::{LogFilterError, Operator, Program, ReloadFile, SetLog};
pub use reload::{ReloadError, ReloadReport};
pub use server::{Broker, ListenerPlace, Place, StartError, check_files, start, start_on};
pub use tracer::{TRACE_TARGET, TraceInfo};
