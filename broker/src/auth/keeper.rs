//! What logins need that outlives a reload: threads for slow work, who failed how often, a secret.

use super::attempts::Attempts;
use super::credential::random;
use super::error::AuthError;
use super::password_file::replace;
use super::worker::Worker;
use std::io;
use std::path::Path;

/// The secret's file in the data directory.
const FILE: &str = "auth-secret";

type Secret = [u8; 32];

/// See the module.
pub(crate) struct Keeper {
    worker: Worker,
    attempts: Attempts,
    secret: Secret,
}

impl Keeper {
    /// With the secret of a data directory, which is made there at the first start; without one, with a new secret.
    ///
    /// # Errors
    /// [`AuthError`] when the system gives no thread, no random bytes, or not the file.
    pub(crate) fn start(hashes_max: usize, directory: Option<&Path>) -> Result<Self, AuthError> {
        let worker = Worker::start(hashes_max).map_err(AuthError::Thread)?;
        let secret = match directory {
            Some(directory) => kept_secret(&directory.join(FILE))?,
            None => random()?,
        };
        Ok(Self { worker, attempts: Attempts::new(), secret })
    }

    /// Where hashes and HTTP run.
    pub(crate) fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Who failed how often.
    pub(crate) fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// Random, and the same after a restart: the salt of a user who does not exist must not change with it.
    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }
}

fn kept_secret(path: &Path) -> Result<Secret, AuthError> {
    let failed = |error| AuthError::Secret { path: path.to_owned(), error };
    match std::fs::read_to_string(path) {
        Ok(text) => parse_hex(text.trim()).ok_or_else(|| failed(io::ErrorKind::InvalidData.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let secret: Secret = random()?;
            let text: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
            replace(path, &text).map_err(failed)?;
            Ok(secret)
        }
        Err(error) => Err(failed(error)),
    }
}

fn parse_hex(text: &str) -> Option<Secret> {
    let mut secret = Secret::default();
    if text.len() != 2 * secret.len() || !text.is_ascii() {
        return None;
    }
    for (at, byte) in secret.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_of_a_data_directory_stays() {
        let directory = tempfile::tempdir().unwrap();
        let secret = |directory| *Keeper::start(1, directory).unwrap().secret();
        let first = secret(Some(directory.path()));
        assert_eq!(secret(Some(directory.path())), first);
        assert_ne!(secret(None), first);
        std::fs::write(directory.path().join(FILE), "xyz").unwrap();
        assert!(Keeper::start(1, Some(directory.path())).is_err());
    }
}
