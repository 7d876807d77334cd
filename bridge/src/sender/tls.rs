//! TLS towards vendors: the public roots, and what an operator adds for a proxy or a test.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};

/// The TLS settings that trust the public roots and the certificates in `ca_pem`, and show this identity when asked.
///
/// # Errors
/// A text that says what is wrong with `ca_pem`.
pub(super) fn client_config(
    ca_pem: Option<&str>,
    identity: Option<Arc<CertifiedKey>>,
) -> Result<ClientConfig, &'static str> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for certificate in CertificateDer::pem_slice_iter(ca_pem.unwrap_or_default().as_bytes()) {
        let certificate = certificate.map_err(|_| "ca_pem is not PEM")?;
        roots.add(certificate).map_err(|_| "ca_pem holds a certificate that cannot be trusted")?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| "no TLS version in common with the crypto library")?;
    let builder = builder.with_root_certificates(roots);
    Ok(match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity))),
        None => builder.with_no_client_auth(),
    })
}
