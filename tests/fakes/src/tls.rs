//! A certificate authority for one fake, and a server certificate for this machine.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::FakeError;

/// A TLS server and the certificate that a client must trust.
pub(crate) struct ServerTls {
    pub config: Arc<ServerConfig>,
    pub ca_pem: String,
    /// Signs certificates that this server takes from clients.
    pub issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, both as PEM.
pub(crate) struct Identity {
    pub certificate_pem: String,
    pub key_pem: String,
}

/// A certificate like those that Apple makes for an app: its UID is the bundle id, and an extension lists its topics.
pub(crate) fn app_identity(issuer: &Issuer<'_, KeyPair>, bundle_id: &str) -> Result<Identity, FakeError> {
    const UID: [u64; 7] = [0, 9, 2342, 19_200_300, 100, 1, 1];
    const TOPICS: [u64; 8] = [1, 2, 840, 113_635, 100, 6, 3, 6];
    let key = KeyPair::generate()?;
    let mut app = CertificateParams::new(Vec::new())?;
    app.distinguished_name = name("Apple Push Services of a fake");
    app.distinguished_name.push(DnType::CustomDnType(UID.to_vec()), bundle_id);
    app.custom_extensions = vec![CustomExtension::from_oid_content(&TOPICS, topics(bundle_id))];
    app.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = app.signed_by(&key, issuer)?;
    Ok(Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
}

/// A sequence of a topic and the sequence of its kinds, twice: the app itself and its calls.
fn topics(bundle_id: &str) -> Vec<u8> {
    let tagged = |tag: u8, content: &[u8]| {
        let length = u8::try_from(content.len()).unwrap_or(0x7f);
        [&[tag, length], content].concat()
    };
    let kind = tagged(0x30, &tagged(0x0c, b"app"));
    let all: Vec<u8> = [bundle_id.to_owned(), format!("{bundle_id}.voip")]
        .iter()
        .flat_map(|topic| [tagged(0x0c, topic.as_bytes()), kind.clone()].concat())
        .collect();
    tagged(0x30, &all)
}

/// A new authority and a server certificate for `localhost` and `127.0.0.1`, offering these protocols.
pub(crate) fn server_tls(protocols: &[&[u8]]) -> Result<ServerTls, FakeError> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.distinguished_name = name("Reveille fake authority");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let signed = ca.self_signed(&ca_key)?;
    let (ca_pem, ca_der) = (signed.pem(), signed.der().clone());
    let issuer = Issuer::new(ca, ca_key);

    let key = KeyPair::generate()?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut server = CertificateParams::new(names)?;
    server.distinguished_name = name("Reveille fake vendor");
    let certificate = server.signed_by(&key, &issuer)?;
    let mut trusted = RootCertStore::empty();
    trusted.add_parsable_certificates([ca_der]);
    let provider = Arc::new(ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(trusted.into(), Arc::clone(&provider));
    let clients = clients.allow_unauthenticated().build().map_err(|_| FakeError::NoVerifier)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )?;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(ServerTls { config: Arc::new(config), ca_pem, issuer })
}

/// The two names must differ: OpenSSL takes a certificate whose issuer has its own name for self-signed.
fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}
