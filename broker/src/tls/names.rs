//! Which certificate a client gets: the one for the server name that it asks for (SNI).

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::Arc;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Certificates by the names that they are for.
#[derive(Debug)]
pub(super) struct ByName {
    first: Arc<CertifiedKey>,
    names: HashMap<String, Arc<CertifiedKey>>,
}

impl ByName {
    /// The first is for everyone whose name no other has.
    pub(super) fn new(first: CertifiedKey, more: Vec<CertifiedKey>) -> Self {
        let first = Arc::new(first);
        let mut names = HashMap::new();
        for certificate in [Arc::clone(&first)].into_iter().chain(more.into_iter().map(Arc::new)) {
            for name in names_of(&certificate) {
                names.entry(name).or_insert_with(|| Arc::clone(&certificate));
            }
        }
        Self { first, names }
    }

    /// A certificate for the name itself wins over one for `*.` and the rest of it.
    fn find(&self, name: &str) -> &Arc<CertifiedKey> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let wildcard = || self.names.get(&format!("*.{}", name.split_once('.')?.1));
        self.names.get(&name).or_else(wildcard).unwrap_or(&self.first)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(hello.server_name().map_or(&self.first, |name| self.find(name))))
    }
}

fn names_of(certificate: &CertifiedKey) -> Vec<String> {
    let Some((_, parsed)) = certificate.cert.first().and_then(|der| X509Certificate::from_der(der).ok())
    else {
        return Vec::new();
    };
    let Ok(Some(extension)) = parsed.subject_alternative_name() else { return Vec::new() };
    let names = extension.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}
