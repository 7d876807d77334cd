//! How to connect.

use crate::error::ConnectError;
use crate::types::DeviceNetwork;
use reveille_client as sdk;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use std::time::Duration;

/// How to connect; what is left out has the library's default.
#[derive(Clone, uniffi::Record)]
pub struct Options {
    /// The device's name: stable, one per installation.
    pub client_id: String,
    /// Where the broker listens.
    pub host: String,
    /// Its MQTT port.
    pub port: u16,
    /// Both or none.
    #[uniffi(default = None)]
    pub user_name: Option<String>,
    /// Both or none.
    #[uniffi(default = None)]
    pub password: Option<String>,
    /// Plain TCP without it.
    #[uniffi(default = None)]
    pub tls: Option<Tls>,
    /// The ids of handled messages. Without it a restarted app may show a message again.
    #[uniffi(default = None)]
    pub inbox_file: Option<String>,
    /// Posted messages that the broker does not have yet. Without it they live in memory only.
    #[uniffi(default = None)]
    pub outbox_file: Option<String>,
    /// 5 to 65,535 s.
    #[uniffi(default = None)]
    pub keep_alive: Option<Duration>,
    /// Instead of a fixed keep alive: learns for how long each network lets a connection be silent. For phones.
    #[uniffi(default = None)]
    pub learned_heartbeat: Option<Learning>,
    /// How long a ping may stay unanswered.
    #[uniffi(default = None)]
    pub ping_timeout: Option<Duration>,
    /// How long one attempt to connect may take.
    #[uniffi(default = None)]
    pub connect_timeout: Option<Duration>,
    /// How long the broker keeps the session of a device that is away.
    #[uniffi(default = None)]
    pub session_expiry: Option<Duration>,
    /// Discards an earlier session when this client connects first.
    #[uniffi(default = false)]
    pub clean_start: bool,
    /// How many messages the app may have unhandled before the broker waits.
    #[uniffi(default = None)]
    pub receive_maximum: Option<u16>,
}

/// How the heartbeat is found.
#[derive(Clone, Debug, uniffi::Record)]
pub struct Learning {
    /// Where the device is at the start; not known otherwise.
    #[uniffi(default = None)]
    pub network: Option<DeviceNetwork>,
    /// Where what was learned is kept, a few kilobytes. Without it each start of the app begins anew.
    #[uniffi(default = None)]
    pub file: Option<String>,
}

/// TLS 1.2 or 1.3, whom to trust.
#[derive(Clone, Debug, uniffi::Record)]
pub struct Tls {
    /// Certificates of authorities in PEM; the public ones that browsers trust otherwise.
    #[uniffi(default = None)]
    pub authorities_pem: Option<String>,
}

impl Options {
    pub(crate) fn build(self) -> Result<sdk::Options, ConnectError> {
        let mut options =
            sdk::Options::new(self.client_id, self.host, self.port).clean_start(self.clean_start);
        match (self.user_name, self.password) {
            (Some(user_name), Some(password)) => options = options.credentials(user_name, password),
            (None, None) => {}
            _ => {
                return Err(ConnectError::Options {
                    detail: "user name and password come together".to_owned(),
                });
            }
        }
        if let Some(tls) = self.tls {
            options = options.transport(sdk::Transport::tls_with_config(tls.build()?.into()));
        }
        if let Some(path) = self.inbox_file {
            options = options.inbox_file(path);
        }
        if let Some(path) = self.outbox_file {
            options = options.outbox_file(path);
        }
        if let Some(keep_alive) = self.keep_alive {
            options = options.keep_alive(keep_alive);
        }
        if let Some(Learning { network, file }) = self.learned_heartbeat {
            let learning = sdk::Learning::on(network.unwrap_or_default().into());
            options = options.learned_heartbeat(match file {
                Some(path) => learning.file(path),
                None => learning,
            });
        }
        if let Some(ping_timeout) = self.ping_timeout {
            options = options.ping_timeout(ping_timeout);
        }
        if let Some(connect_timeout) = self.connect_timeout {
            options = options.connect_timeout(connect_timeout);
        }
        if let Some(session_expiry) = self.session_expiry {
            options = options.session_expiry(session_expiry);
        }
        if let Some(receive_maximum) = self.receive_maximum {
            options = options.receive_maximum(receive_maximum);
        }
        Ok(options)
    }
}

impl Tls {
    fn build(self) -> Result<ClientConfig, ConnectError> {
        let refused = |detail: String| ConnectError::Tls { detail };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| refused(error.to_string()))?
            .with_root_certificates(self.authorities()?)
            .with_no_client_auth();
        Ok(config)
    }

    fn authorities(&self) -> Result<RootCertStore, ConnectError> {
        let Some(pem) = &self.authorities_pem else {
            let public: Vec<TrustAnchor<'static>> = webpki_roots::TLS_SERVER_ROOTS.to_vec();
            return Ok(RootCertStore { roots: public });
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|error| ConnectError::Tls { detail: error.to_string() })?;
            roots.add(certificate).map_err(|error| ConnectError::Tls { detail: error.to_string() })?;
        }
        if roots.is_empty() {
            return Err(ConnectError::Tls { detail: "no certificate among the authorities".to_owned() });
        }
        Ok(roots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_certificates_or_the_public_ones() {
        let authorities = |pem: Option<&str>| Tls { authorities_pem: pem.map(str::to_owned) }.authorities();
        assert!(!authorities(None).unwrap().is_empty());
        for pem in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(matches!(authorities(Some(pem)), Err(ConnectError::Tls { .. })), "{pem:?}");
        }
    }
}
