//! The key that vendors' secrets are encrypted with on disk: AES-256-GCM under a key in a file of its own.
//!
//! Whoever gets the data directory without the key file, as from a backup, gets no secret. The place of a record is bound
//! to it, so that one app's secret cannot be moved under another's name.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::apps::sha256;

/// Bytes of a key; the file has them in hexadecimal.
const KEY_BYTES: usize = 32;
/// The first byte of what is sealed; JSON, which older releases kept here, never begins with it.
const VERSION: u8 = 1;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read or made.
    #[error("the key file {path} cannot be used: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds no key.
    #[error("the key file {0} does not hold 64 hexadecimal digits")]
    NoKey(PathBuf),
    /// The data was sealed with another one.
    #[error(
        "the vendors' secrets were encrypted with another key than the one in {0}: put the right key file there \
         (bridge.secret_key_file)"
    )]
    Another(PathBuf),
}

/// See the module.
pub(crate) struct Vault {
    key: LessSafeKey,
    fingerprint: [u8; 8],
    random: SystemRandom,
    path: PathBuf,
}

impl Vault {
    /// Reads the key file; makes it, for its owner only, when there is none.
    ///
    /// # Errors
    /// [`KeyError`], one line for the operator.
    pub fn open(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File { path: path.to_owned(), source };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(path).map_err(failed)?,
            Err(error) => return Err(failed(error)),
        };
        let bytes = unhex(text.trim()).ok_or_else(|| KeyError::NoKey(path.to_owned()))?;
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| KeyError::NoKey(path.to_owned()))?;
        let mut fingerprint = [0; 8];
        fingerprint.iter_mut().zip(sha256(&bytes)).for_each(|(to, from)| *to = from);
        Ok(Self {
            key: LessSafeKey::new(key),
            fingerprint,
            random: SystemRandom::new(),
            path: path.to_owned(),
        })
    }

    /// Names the key without telling it.
    pub fn fingerprint(&self) -> [u8; 8] {
        self.fingerprint
    }

    /// The error for data that was sealed with another key.
    pub fn another(&self) -> KeyError {
        KeyError::Another(self.path.clone())
    }

    /// Encrypts a record for its place. `None` only without randomness from the system.
    pub fn seal(&self, place: &[u8], record: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut sealed = record.to_vec();
        let used = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(used, Aad::from(place), &mut sealed).ok()?;
        Some([&[VERSION], nonce.as_slice(), &sealed].concat())
    }

    /// Decrypts what was sealed for this place. What was never sealed is given back as it is.
    pub fn unseal(&self, place: &[u8], kept: Vec<u8>) -> Option<Vec<u8>> {
        if kept.first() != Some(&VERSION) {
            return Some(kept);
        }
        let (nonce, sealed) = kept.get(1..)?.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut record = sealed.to_vec();
        let length = self.key.open_in_place(nonce, Aad::from(place), &mut record).ok()?.len();
        record.truncate(length);
        Some(record)
    }

    /// Whether a record is encrypted.
    pub fn is_sealed(kept: &[u8]) -> bool {
        kept.first() == Some(&VERSION)
    }
}

fn make(path: &Path) -> io::Result<String> {
    let mut bytes = [0; KEY_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("no randomness from the system"))?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::File::open(directory)?.sync_all()?; // secrets sealed with a key that a power cut takes away are gone
    }
    Ok(text)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 2 * KEY_BYTES || !text.is_ascii() {
        return None;
    }
    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    digits.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_is_made_once_for_its_owner_and_opens_what_it_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bridge.key");
        let sealed = Vault::open(&path).unwrap().seal(b"place", b"{\"secret\":1}").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let vault = Vault::open(&path).unwrap();
        assert!(Vault::is_sealed(&sealed) && !sealed.windows(6).any(|bytes| bytes == b"secret"));
        assert_eq!(vault.unseal(b"place", sealed.clone()).unwrap(), b"{\"secret\":1}");
        assert_eq!(vault.unseal(b"another place", sealed.clone()), None);
        assert_ne!(vault.seal(b"place", b"{\"secret\":1}").unwrap(), sealed, "each seal has its own nonce");
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert_ne!(
                vault.unseal(b"place", flipped).as_deref(),
                Some(b"{\"secret\":1}".as_slice()),
                "{at}"
            );
        }
        assert_eq!(vault.unseal(b"place", b"{}".to_vec()).unwrap(), b"{}", "from before there was a key");
    }

    #[test]
    fn a_file_without_a_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bridge.key");
        for text in ["", "x", &"g".repeat(64), &"0".repeat(63), &"设".repeat(22)] {
            fs::write(&path, text).unwrap();
            assert!(matches!(Vault::open(&path), Err(KeyError::NoKey(_))), "{text}");
        }
        assert!(matches!(Vault::open(&dir.path().join("none/bridge.key")), Err(KeyError::File { .. })));
    }
}
