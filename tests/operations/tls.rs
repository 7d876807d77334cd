//! The HTTP API over TLS: certificates that are replaced while it runs, and files that cannot be used.

use reveille_tests::certificates::Certificates;
use reveille_tests::program::{Reveille, run_to_end, wait_for};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

/// GET `/healthz` as whoever trusts this authority.
fn ask(address: SocketAddr, authority: &Path) -> Result<String, std::io::Error> {
    ask_for("/healthz", address, authority)
}

fn ask_for(path: &str, address: SocketAddr, authority: &Path) -> Result<String, std::io::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(address)?);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    match stream.read_to_string(&mut answer) {
        Err(error) if answer.is_empty() => Err(error),
        Ok(_) | Err(_) => Ok(answer), // some close without saying so
    }
}

fn config(certificates: &Certificates) -> String {
    let (certificate, key) = (certificates.certificate.display(), certificates.key.display());
    format!("log = 'info'\n[bridge]\ncertificate = '{certificate}'\nkey = '{key}'\n")
}

#[test]
fn http_is_served_over_tls_and_a_hangup_puts_new_certificates_in_force() {
    let (files, later) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, second) = (Certificates::generate(files.path()), Certificates::generate(later.path()));
    let reveille = Reveille::start_with(&config(&first));
    assert!(ask(reveille.http(), &first.authority).unwrap().starts_with("HTTP/1.1 200"));
    let ends = "reveille_bridge_certificate_expiry_seconds{listener=\"http\"}";
    wait_for("when the certificate ends", || {
        ask_for("/metrics", reveille.http(), &first.authority).ok().filter(|metrics| metrics.contains(ends))
    });
    let stranger = ask(reveille.http(), &second.authority).unwrap_err();
    assert!(stranger.to_string().contains("certificate"), "{stranger}");
    let ctl = |authority: &Path| {
        let url = format!("https://localhost:{}", reveille.http().port());
        let args = ["ctl", "--http", &url, "--admin-key", reveille.admin_key(), "--ca-file"];
        run_to_end(&[&args[..], &[authority.to_str().unwrap(), "shards"]].concat())
    };
    assert!(ctl(&first.authority).status.success(), "{:?}", ctl(&first.authority));
    assert!(!ctl(&second.authority).status.success());
    // Who speaks plain HTTP is answered by nobody, and harms nobody.
    let mut plain = TcpStream::connect(reveille.http()).unwrap();
    write!(plain, "GET /healthz HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");

    let authority = later.path().join("second-authority.pem");
    fs::copy(&second.authority, &authority).unwrap();
    fs::copy(&second.certificate, &first.certificate).unwrap();
    reveille.signal("HUP"); // the key is still the old one
    wait_for("the mistake in the log", || {
        reveille.errors().contains("is not the key of the certificate").then_some(())
    });
    assert!(ask(reveille.http(), &first.authority).is_ok(), "the old ones stay in force");
    fs::copy(&second.key, &first.key).unwrap();
    reveille.signal("HUP");
    wait_for("the new certificate", || {
        ask(reveille.http(), &authority).ok().filter(|answer| answer.contains("200"))
    });
    assert!(ask(reveille.http(), &first.authority).is_err());
}

#[test]
fn a_reload_puts_new_certificates_of_http_in_force_and_says_what_came_of_it() {
    let (files, later) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, second) = (Certificates::generate(files.path()), Certificates::generate(later.path()));
    let authority = later.path().join("both.pem");
    let both = [&first.authority, &second.authority].map(|path| fs::read_to_string(path).unwrap());
    fs::write(&authority, both.concat()).unwrap();
    let reveille = Reveille::start_with(&config(&first));
    let reload = || {
        let url = format!("https://localhost:{}", reveille.http().port());
        let args = ["ctl", "--http", &url, "--admin-key", reveille.admin_key(), "--ca-file"];
        let ended = run_to_end(&[&args[..], &[authority.to_str().unwrap(), "reload"]].concat());
        let said = [ended.stdout, ended.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (ended.status.success(), said)
    };
    let (is_well, said) = reload();
    assert!(is_well && !said.contains("bridge.certificate"), "nothing is new: {said}");
    fs::copy(&second.certificate, &first.certificate).unwrap();
    let (is_well, said) = reload();
    assert!(!is_well && said.contains("is not the key of the certificate"), "{said}");
    fs::copy(&second.key, &first.key).unwrap();
    let (is_well, said) = reload();
    assert!(is_well && said.contains("bridge.certificate"), "{said}");
    assert!(ask(reveille.http(), &second.authority).is_ok(), "they are in force when it was answered");
}

#[test]
fn files_that_cannot_be_used_are_named_in_one_line_before_anything_starts() {
    let (files, later) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (own, other) = (Certificates::generate(files.path()), Certificates::generate(later.path()));
    let path = files.path().join("reveille.toml");
    let data = files.path().join("data");
    let text = |certificate: &Path, key: &Path| {
        format!("[bridge]\ncertificate = '{}'\nkey = '{}'\n", certificate.display(), key.display())
    };
    for (text, words) in [
        (text(&own.certificate, &other.key), "is not the key of the certificate"),
        (text(&own.certificate, &own.certificate), "holds no private key in PEM"),
        (text(&own.key, &own.key), "holds no certificate in PEM"),
        (text(&own.certificate, &files.path().join("none.pem")), "none.pem cannot be read"),
        (format!("[bridge]\ncertificate = '{}'\n", own.certificate.display()), "set together with key"),
    ] {
        fs::write(&path, text).unwrap();
        let (file, data) = (path.to_str().unwrap(), data.to_str().unwrap());
        let run =
            ["run", "--config", file, "--data-dir", data, "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0"];
        for args in [&run[..], &["check-config", file]] {
            let ended = run_to_end(args);
            let said = String::from_utf8(ended.stderr).unwrap();
            assert!(!ended.status.success() && said.contains(words), "{args:?}: {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }
    assert!(!data.exists(), "nothing began");
}
