//! From files to a TLS configuration.

use super::names::ByName;
use crate::config::{CertificateConfig, ClientCertificate, ListenerConfig, ListenerKind, ListenerProblem};
use ring::digest::{Context, Digest, SHA256};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What ALPN calls MQTT. `[IANA, TLS Application-Layer Protocol Negotiation (ALPN) Protocol IDs]`
const ALPN_MQTT: &[u8] = b"mqtt";

/// What browsers offer for a WebSocket.
const ALPN_HTTP: &[u8] = b"http/1.1";

/// A file as it was read.
#[derive(Debug, PartialEq, Eq)]
struct ReadFile {
    key: &'static str,
    path: PathBuf,
    bytes: Vec<u8>,
    modified: Option<SystemTime>,
}

impl ReadFile {
    fn read(key: &'static str, path: &Path) -> Result<Self, ListenerProblem> {
        // The time comes first: a file that changes in between counts as changed later, instead of never.
        let modified = modified(path);
        let bytes = fs::read(path).map_err(|error| ListenerProblem::Read {
            key,
            path: path.to_owned(),
            kind: error.kind(),
        })?;
        Ok(Self { key, path: path.to_owned(), bytes, modified })
    }

    fn pem(&self, wanted: &'static str) -> ListenerProblem {
        ListenerProblem::Pem { key: self.key, path: self.path.clone(), wanted }
    }

    fn unusable(&self, reason: impl ToString) -> ListenerProblem {
        ListenerProblem::Unusable { key: self.key, path: self.path.clone(), reason: reason.to_string() }
    }

    /// All items of one kind, at least one.
    fn all<T: PemObject>(&self, wanted: &'static str) -> Result<Vec<T>, ListenerProblem> {
        let items: Vec<T> =
            T::pem_slice_iter(&self.bytes).collect::<Result<_, _>>().map_err(|_| self.pem(wanted))?;
        if items.is_empty() { Err(self.pem(wanted)) } else { Ok(items) }
    }
}

/// When a server's own certificate ends. Those behind it in the file may end earlier and do no harm: clients have newer
/// ones.
fn not_after_s(file: &ReadFile) -> Option<u64> {
    let own = CertificateDer::pem_slice_iter(&file.bytes).next()?.ok()?;
    let (_, certificate) = X509Certificate::from_der(&own).ok()?;
    u64::try_from(certificate.validity().not_after.timestamp()).ok()
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

/// The files of one listener.
#[derive(Debug)]
pub(super) struct Loaded {
    /// Certificates and their keys, the first for everyone whose name no other has.
    pairs: Vec<(ReadFile, ReadFile)>,
    client_ca: Option<ReadFile>,
    client_crl: Option<ReadFile>,
    /// Seconds since 1970 at which the first of the certificates ends; `None` where none can be read.
    pub(super) not_after_s: Option<u64>,
}

/// Reads all of them.
///
/// # Errors
/// [`ListenerProblem`] names the file.
pub(super) fn load(listener: &ListenerConfig) -> Result<Loaded, ListenerProblem> {
    let missing = |key| ListenerProblem::Missing { kind: listener.kind, key };
    let first = CertificateConfig {
        certificate: listener.certificate.clone().ok_or(missing("certificate"))?,
        key: listener.key.clone().ok_or(missing("key"))?,
    };
    let read = |pair: &CertificateConfig| {
        Ok((ReadFile::read("certificate", &pair.certificate)?, ReadFile::read("key", &pair.key)?))
    };
    let of = |key, path: &Option<PathBuf>| path.as_ref().map(|path| ReadFile::read(key, path)).transpose();
    let pairs: Vec<_> =
        [&first].into_iter().chain(&listener.more_certificates).map(read).collect::<Result<_, _>>()?;
    Ok(Loaded {
        not_after_s: pairs.iter().filter_map(|(certificate, _)| not_after_s(certificate)).min(),
        pairs,
        client_ca: of("client_ca", &listener.client_ca)?,
        client_crl: of("client_crl", &listener.client_crl)?,
    })
}

/// Whether a listener's files can be used.
///
/// # Errors
/// [`ListenerProblem`] names the one that cannot.
pub(crate) fn check(listener: &ListenerConfig) -> Result<(), ListenerProblem> {
    let loaded = load(listener)?;
    loaded.resolver()?;
    loaded.verifier(listener).map(drop)
}

impl Loaded {
    fn files(&self) -> impl Iterator<Item = &ReadFile> {
        let pairs = self.pairs.iter().flat_map(|(certificate, key)| [certificate, key]);
        pairs.chain(&self.client_ca).chain(&self.client_crl)
    }

    /// Whether the files say the same.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.files().map(|file| &file.bytes).eq(other.files().map(|file| &file.bytes))
    }

    /// A number for the clients that are believed: it changes when others are, or some not any more.
    pub(super) fn trust_hash(&self) -> Digest {
        let mut hash = Context::new(&SHA256);
        for file in [&self.client_ca, &self.client_crl] {
            let bytes = file.as_ref().map_or(&[][..], |file| &file.bytes);
            hash.update(&(bytes.len() as u64).to_be_bytes()); // so that the two do not run into each other
            hash.update(bytes);
        }
        hash.finish()
    }

    /// Whether some file was written since.
    pub(super) fn is_outdated(&self) -> bool {
        self.files().any(|file| modified(&file.path) != file.modified)
    }

    /// TLS 1.2 and 1.3 with the ciphers that rustls has: ECDHE and AEAD only.
    pub(super) fn server_config(
        &self,
        listener: &ListenerConfig,
        tickets: Arc<dyn ProducesTickets>,
    ) -> Result<ServerConfig, ListenerProblem> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| self.unusable(error))?;
        let builder = match self.verifier(listener)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(self.resolver()?));
        // Clients keep their sessions: a million of them cost no memory here, and every shard can resume each.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = tickets;
        config.send_tls13_tickets = 1; // each connection gets a new one
        let protocol = if listener.kind == ListenerKind::Wss { ALPN_HTTP } else { ALPN_MQTT };
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(config)
    }

    fn unusable(&self, reason: impl ToString) -> ListenerProblem {
        match self.pairs.first() {
            Some((certificate, _)) => certificate.unusable(reason),
            None => ListenerProblem::Missing { kind: ListenerKind::Tls, key: "certificate" }, // refused by `load`
        }
    }

    fn resolver(&self) -> Result<ByName, ListenerProblem> {
        let mut pairs = self.pairs.iter().map(|(certificate, key)| certified_key(certificate, key));
        let first = pairs.next().unwrap_or_else(|| Err(self.unusable("there is none")))?;
        let more = pairs.collect::<Result<Vec<_>, _>>()?;
        Ok(ByName::new(first, more))
    }

    fn verifier(
        &self,
        listener: &ListenerConfig,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, ListenerProblem> {
        let Some(authorities) = &self.client_ca else { return Ok(None) };
        let mut roots = RootCertStore::empty();
        for authority in authorities.all::<CertificateDer<'_>>("certificates")? {
            roots.add(authority).map_err(|error| authorities.unusable(error))?;
        }
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let file = match &self.client_crl {
            Some(lists) => {
                let read = lists.all::<CertificateRevocationListDer<'_>>("revocation lists")?;
                builder = builder.with_crls(read).only_check_end_entity_revocation();
                lists
            }
            None => authorities,
        };
        if listener.client_certificate == ClientCertificate::Optional {
            builder = builder.allow_unauthenticated();
        }
        builder.build().map(Some).map_err(|error| file.unusable(error))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certified_key(certificate: &ReadFile, key: &ReadFile) -> Result<CertifiedKey, ListenerProblem> {
    let chain = certificate.all::<CertificateDer<'_>>("certificates")?;
    let private = PrivateKeyDer::from_pem_slice(&key.bytes).map_err(|_| key.pem("a private key"))?;
    CertifiedKey::from_der(chain, private, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            ListenerProblem::KeyMismatch { key: key.path.clone(), certificate: certificate.path.clone() }
        }
        rustls::Error::InvalidCertificate(error) => certificate.unusable(format!("{error:?}")),
        error => key.unusable(error),
    })
}
