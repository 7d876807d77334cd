//! The feature `tls` against a listener with TLS: who is trusted connects, who is not is refused with a reason.

use reveille_client::{Client, LossReason, Messages, NetworkState, Options, PushHints, QoS, Transport};
use reveille_tests::PATIENCE;
use reveille_tests::certificates::Certificates;
use reveille_tests::program::Reveille;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;

/// Whom an app trusts, as `docs/app-developer.md` shows it.
fn trusting(authority: &Path) -> Transport {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Transport::tls_with_config(config.into())
}

fn connect(broker: &Reveille, host: &str, authority: &Path) -> (Client, Messages) {
    let options = Options::new("d1", host, broker.listener("tls").port()).transport(trusting(authority));
    Client::connect(options).unwrap()
}

#[tokio::test]
async fn a_device_receives_over_tls_from_whom_it_trusts_and_from_nobody_else() {
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ours = Certificates::generate(directory.path());
    let strangers = Certificates::generate(other.path());
    let broker = Reveille::start_broker_with(&format!(
        "[[broker.listeners]]\nname = \"tls\"\nkind = \"tls\"\naddress = \"127.0.0.1:0\"\ncertificate = \"{}\"\nkey = \"{}\"\n",
        ours.certificate.display(),
        ours.key.display(),
    ));
    for host in ["127.0.0.1", "localhost"] {
        let (client, mut messages) = connect(&broker, host, &ours.authority);
        let exchange = async {
            client.subscribe("a", QoS::AtLeastOnce).await.unwrap();
            client.publish("a", "机密", QoS::AtLeastOnce, &PushHints::default()).await.unwrap();
            let message = messages.recv().await.unwrap();
            assert_eq!(message.payload().as_ref(), "机密".as_bytes(), "{host}");
            message.handled().await.unwrap();
            client.close().await;
        };
        tokio::time::timeout(PATIENCE, exchange).await.unwrap();
    }

    let (client, _messages) = connect(&broker, "127.0.0.1", &strangers.authority);
    let mut network = client.network();
    let refused = network.wait_for(|state| matches!(state, NetworkState::Waiting { .. }));
    let state = tokio::time::timeout(PATIENCE, refused).await.unwrap().unwrap().clone();
    let NetworkState::Waiting { reason: LossReason::Io(_) | LossReason::Protocol(_), .. } = &state else {
        panic!("a stranger's broker must be refused because of its certificate: {state:?}");
    };
}
