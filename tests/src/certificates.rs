//! A certificate authority for one test, and a server certificate from it. Nothing of it is kept.

use ring::digest::{SHA256, digest};
use std::path::{Path, PathBuf};

/// Files that a broker and its clients read.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The authority, for clients.
    pub authority: PathBuf,
    /// The server's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// SHA-256 of the server's public key in base64, as Chromium wants to hear whom to trust.
    pub public_key_hash: String,
}

impl Certificates {
    /// Makes them for `localhost` and 127.0.0.1.
    ///
    /// # Panics
    /// When the directory cannot be written.
    pub fn generate(directory: &Path) -> Self {
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "a test's authority");
        let authority = rcgen::CertifiedIssuer::self_signed(parameters, authority_key).unwrap();

        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut parameters = rcgen::CertificateParams::new(names).unwrap();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "a test's broker");
        parameters.use_authority_key_identifier_extension = true;
        let certificate = parameters.signed_by(&key, &authority).unwrap();

        let write = |name: &str, text: String| {
            let path = directory.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let hash = digest(&SHA256, &rcgen::PublicKeyData::subject_public_key_info(&key));
        Self {
            authority: write("authority.pem", authority.pem()),
            certificate: write("certificate.pem", certificate.pem()),
            key: write("key.pem", key.serialize_pem()),
            public_key_hash: base64::Engine::encode(&base64::engine::general_purpose::STANDARD, hash),
        }
    }
}
