//! A certificate authority for one fake, and a server certificate for this machine.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;

use crate::FakeError;

/// A TLS server and the certificate that a client must trust.
pub(crate) struct ServerTls {
    pub config: Arc<ServerConfig>,
    pub ca_pem: String,
}

/// A new authority and a server certificate for `localhost` and `127.0.0.1`, offering these protocols.
pub(crate) fn server_tls(protocols: &[&[u8]]) -> Result<ServerTls, FakeError> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.distinguished_name = name("Reveille fake authority");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(ca, ca_key);

    let key = KeyPair::generate()?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut server = CertificateParams::new(names)?;
    server.distinguished_name = name("Reveille fake vendor");
    let certificate = server.signed_by(&key, &issuer)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )?;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(ServerTls { config: Arc::new(config), ca_pem })
}

/// The two names must differ: OpenSSL takes a certificate whose issuer has its own name for self-signed.
fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}
