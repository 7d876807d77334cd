//! TLS of the HTTP listener: a certificate and its key from files, checked, and replaced while the program runs.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{InconsistentKeys, ServerConfig};

use crate::config::Config;
use crate::sender::tasks::lock;
use crate::shared::Shared;
use crate::vendor::apns::certificate;

/// How often the files are looked at, so that whatever renews them need not know us.
const LOOK: Duration = Duration::from_secs(30);

/// Why certificate and key cannot be used, in one line.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{key}: {} cannot be read: {error}", path.display())]
    Read {
        /// The key of the configuration.
        key: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// A file holds something else.
    #[error("{key}: {} holds no {wanted} in PEM", path.display())]
    Pem {
        /// The key of the configuration.
        key: &'static str,
        /// Which.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// They are not of each other.
    #[error("key: {} is not the key of the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// The file with the key.
        key: PathBuf,
        /// The file with the certificate.
        certificate: PathBuf,
    },
    /// The TLS library does not take them.
    #[error("certificate: {} cannot be used: {error}", path.display())]
    Unusable {
        /// The file with the certificate.
        path: PathBuf,
        /// Why.
        #[source]
        error: rustls::Error,
    },
}

/// What the HTTP listener serves TLS with. Cheap to clone; all share what is in force.
#[derive(Clone)]
pub struct Certificates(Arc<Files>);

struct Files {
    certificate: PathBuf,
    key: PathBuf,
    in_force: Mutex<InForce>,
}

/// Replaced as a whole: a handshake uses one or the other.
struct InForce {
    /// Certificate and key as they were read.
    bytes: (Vec<u8>, Vec<u8>),
    /// When the certificate ends, in milliseconds since 1970; `None` where that cannot be read.
    end_ms: Option<u64>,
    server: Arc<ServerConfig>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("certificate", &self.0.certificate).finish_non_exhaustive()
    }
}

impl Certificates {
    /// Reads the files that the configuration names; `None` where it names none.
    ///
    /// # Errors
    /// [`CertificateError`] names the file.
    pub fn read(config: &Config) -> Result<Option<Self>, CertificateError> {
        let (Some(certificate), Some(key)) = (config.certificate.clone(), config.key.clone()) else {
            return Ok(None);
        };
        let in_force = Mutex::new(InForce::read(&certificate, &key)?);
        Ok(Some(Self(Arc::new(Files { certificate, key, in_force }))))
    }

    /// What the next handshake uses.
    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&lock(&self.0.in_force).server)
    }

    /// Reads the files again; `None` where they hold what is in force.
    ///
    /// # Errors
    /// [`CertificateError`] names the file.
    pub fn read_again(&self) -> Result<Option<Renewed>, CertificateError> {
        let new = InForce::read(&self.0.certificate, &self.0.key)?;
        let is_new = new.bytes != lock(&self.0.in_force).bytes;
        Ok(is_new.then(|| Renewed { files: Arc::clone(&self.0), new }))
    }

    /// Reads the files again and logs what came of it. What cannot be used changes nothing, nor do files with the same content.
    pub fn reload(&self) {
        match self.read_again() {
            Ok(renewed) => {
                if let Some(renewed) = renewed {
                    renewed.put_in_force();
                }
            }
            Err(error) => {
                tracing::error!(%error, "new certificates for HTTP cannot be used, the old ones stay in force");
            }
        }
    }

    /// Reads them again now and then, for ever.
    pub(crate) async fn watch(self, shared: Arc<Shared>) {
        loop {
            let end_ms = lock(&self.0.in_force).end_ms;
            if let Some(end_ms) = end_ms {
                shared.metrics.certificate(end_ms);
            }
            tokio::time::sleep(LOOK).await;
            let this = self.clone();
            let _ = tokio::task::spawn_blocking(move || this.reload()).await; // it cannot panic
        }
    }
}

/// A certificate and its key that can be put in force.
pub struct Renewed {
    files: Arc<Files>,
    new: InForce,
}

impl fmt::Debug for Renewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewed").field("certificate", &self.files.certificate).finish_non_exhaustive()
    }
}

impl Renewed {
    /// The next handshake uses them; connections that are open keep what they have.
    pub fn put_in_force(self) {
        *lock(&self.files.in_force) = self.new;
        tracing::info!("new certificates are in force for HTTP");
    }
}

impl InForce {
    fn read(chain: &Path, key: &Path) -> Result<Self, CertificateError> {
        let bytes = (read("certificate", chain)?, read("key", key)?);
        let pem = |key, path: &Path, wanted| CertificateError::Pem { key, path: path.to_owned(), wanted };
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes.0).collect();
        let all = all.ok().filter(|all| !all.is_empty());
        let all = all.ok_or_else(|| pem("certificate", chain, "certificate"))?;
        let private = PrivateKeyDer::from_pem_slice(&bytes.1).map_err(|_| pem("key", key, "private key"))?;
        let made = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(all, private));
        let mut server = made.map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                CertificateError::Mismatch { key: key.to_owned(), certificate: chain.to_owned() }
            }
            error => CertificateError::Unusable { path: chain.to_owned(), error },
        })?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        let end_ms = certificate::read(&String::from_utf8_lossy(&bytes.0)).map(|facts| facts.not_after_ms);
        Ok(Self { bytes, end_ms, server: Arc::new(server) })
    }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|error| CertificateError::Read { key, path: path.to_owned(), error })
}
