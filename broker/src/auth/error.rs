//! Why credentials and rules cannot be used, in one line that says what to change.

use super::bans::BanError;
use super::credential::CredentialError;
use super::hook::HookError;
use super::jwt::JwtError;
use super::password_file::PasswordFileError;
use super::rules::RulesError;
use crate::config::ConfigError;
use std::io;
use std::path::PathBuf;

/// Why credentials and rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A source that is listed and not configured.
    #[error("auth.sources: there is no table [{0}]")]
    Missing(&'static str),
    /// The password of a user in the configuration.
    #[error("users: the password of {name:?}: {error}")]
    User {
        /// Whose.
        name: String,
        /// What is wrong with it.
        #[source]
        error: CredentialError,
    },
    /// The password file.
    #[error("auth.password_file: {0}")]
    PasswordFile(#[from] PasswordFileError),
    /// The keys for tokens.
    #[error("auth.jwt: {0}")]
    Jwt(#[from] JwtError),
    /// The hook.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The rules.
    #[error("acl: {0}")]
    Rules(#[from] RulesError),
    /// The bans of the data directory.
    #[error("bans: {0}")]
    Bans(#[from] BanError),
    /// The secret of the data directory.
    #[error("{}: {error}", path.display())]
    Secret {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The system gives no random bytes.
    #[error(transparent)]
    Random(#[from] CredentialError),
    /// The system gives no thread.
    #[error("a thread could not be started: {0}")]
    Thread(#[source] io::Error),
}
