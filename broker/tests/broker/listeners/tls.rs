//! TLS.

use super::certificates::Authority;
use super::{address, byte_by_byte, counter, said_goodbye, slow_reader, speaks_mqtt, wait_for_counter};
use crate::client::{Client, connect};
use crate::http::{Http, KEY, with_keys};
use crate::{broker, config};
use reveille_broker::Broker;
use reveille_proto::mqtt::{Packet, Version};
use reveille_proto::reason::ReasonCode;
use rustls::pki_types::CertificateDer;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

pub type Secure = StreamOwned<ClientConnection, TcpStream>;

/// A broker with the listener `l` of that kind, whose certificate is for `localhost`.
pub fn serving(authority: &Authority, kind: &str, more: &str) -> Broker {
    authority.server("server", &["localhost"]);
    broker(&listener(authority, kind, more))
}

fn listener(authority: &Authority, kind: &str, more: &str) -> String {
    let keys = authority.keys("server");
    format!("[[listeners]]\nname = 'l'\nkind = '{kind}'\naddress = '127.0.0.1:0'\n{keys}{more}")
}

pub fn open(broker: &Broker, config: &Arc<ClientConfig>) -> Secure {
    open_as(broker, config, "localhost")
}

fn open_as(broker: &Broker, config: &Arc<ClientConfig>, name: &'static str) -> Secure {
    let connection = ClientConnection::new(Arc::clone(config), name.try_into().unwrap()).unwrap();
    StreamOwned::new(connection, Client::socket(address(broker), Version::V5).socket)
}

fn certificate_of(stream: &Secure) -> CertificateDer<'static> {
    stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
}

#[test]
fn mqtt_goes_through_tls_of_both_versions() {
    let authority = Authority::new();
    let broker = serving(&authority, "tls", "");
    for version in [&TLS12, &TLS13] {
        let config = authority.trusting(version, None);
        speaks_mqtt(&broker, || open(&broker, &config));
        byte_by_byte(open(&broker, &config));
        slow_reader(&broker, || open(&broker, &config));
    }
    let (mut client, _) =
        Client::over(open(&broker, &authority.trusting(&TLS13, None)), connect(Version::V5, "last", true));
    broker.stop();
    // A stream that ends without close_notify would be an error, not an end.
    said_goodbye(&mut client, ReasonCode::SERVER_SHUTTING_DOWN);
}

#[test]
fn operators_see_when_a_certificate_ends() {
    const ENDS_S: u64 = 4_007_836_800; // see `SERVER_ENDS_YEAR`
    let authority = Authority::new();
    authority.server("server", &["localhost"]);
    let broker = broker(&format!("{}\n{}", with_keys(""), listener(&authority, "tls", "")));
    let http = Http { address: broker.http_addr().unwrap(), key: KEY };
    let listeners = http.get("/v1/broker/listeners");
    let ends = |name: &str| {
        let items = listeners["items"].as_array().unwrap();
        items.iter().find(|item| item["name"] == name).unwrap()["not_after_ms"].as_u64()
    };
    assert_eq!((ends("l"), ends("default")), (Some(ENDS_S * 1000), None));
    let lines = broker.metrics_text();
    let lines: Vec<_> =
        lines.lines().filter(|line| line.starts_with("reveille_broker_certificate")).collect();
    assert_eq!(lines, [format!("reveille_broker_certificate_expiry_seconds{{listener=\"l\"}} {ENDS_S}")]);
}

#[test]
fn mqtt_by_its_alpn_name_is_taken_and_another_protocol_is_not() {
    let authority = Authority::new();
    let broker = serving(&authority, "tls", "");
    let offering = |protocol: &[u8]| {
        let mut config = Arc::unwrap_or_clone(authority.trusting(&TLS13, None));
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    };
    let (client, _) = Client::over(open(&broker, &offering(b"mqtt")), connect(Version::V5, "c", true));
    assert_eq!(client.socket.conn.alpn_protocol(), Some(&b"mqtt"[..]));
    let mut other = open(&broker, &offering(b"h2"));
    assert!(other.write_all(b"x").and_then(|()| other.read(&mut [0])).is_err());
}

#[test]
fn whoever_is_silent_or_speaks_no_tls_is_closed_and_counted() {
    let authority = Authority::new();
    let broker = serving(&authority, "tls", "connect_deadline_ms = 100");
    let mut silent = Client::socket(address(&broker), Version::V5).socket;
    let mut halfway = Client::socket(address(&broker), Version::V5).socket;
    halfway.write_all(b"\x16\x03\x01\x02\x00\x01").unwrap();
    for socket in [&mut silent, &mut halfway] {
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest); // a reset is an end too
        assert_eq!(rest, b"");
    }
    wait_for_counter(&broker, "handshakes_timed_out", 2);
    let mut plain = Client::socket(address(&broker), Version::V5).socket;
    plain.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert_eq!(answer.first(), Some(&0x15), "an alert: {answer:?}");
    wait_for_counter(&broker, "tls", 3);
}

#[test]
fn a_client_without_the_certificate_that_is_asked_for_stays_outside() {
    let authority = Authority::new();
    let ca = authority.path("ca.pem").display().to_string();
    let broker = serving(&authority, "tls", &format!("client_ca = '{ca}'"));
    let stranger = Authority::new();
    let rows = [
        authority.trusting(&TLS12, None),
        authority.trusting(&TLS13, None),
        authority.trusting(&TLS12, Some(stranger.client("stranger", 1))),
        authority.trusting(&TLS13, Some(stranger.client("stranger", 1))),
    ];
    for (count, config) in (1..).zip(rows) {
        let mut stream = open(&broker, &config);
        let result = stream.write_all(b"x").and_then(|()| stream.read(&mut [0]));
        assert!(result.is_err(), "{result:?}");
        wait_for_counter(&broker, "tls", count);
    }
    let known = authority.trusting(&TLS13, Some(authority.client("known", 2)));
    Client::over(open(&broker, &known), connect(Version::V5, "c", true)).0.ping();
}

#[test]
fn a_revoked_certificate_opens_nothing_not_even_an_old_session() {
    let authority = Authority::new();
    authority.revoke(&[1]);
    let (ca, crl) = (authority.path("ca.pem"), authority.path("crl.pem"));
    let more = format!("client_ca = '{}'\nclient_crl = '{}'", ca.display(), crl.display());
    let broker = serving(&authority, "tls", &more);
    let is_let_in = |config: &Arc<ClientConfig>| {
        let mut stream = open(&broker, config);
        let result = stream.write_all(b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01c");
        result.and_then(|()| stream.read(&mut [0; 64])).is_ok_and(|count| count > 0)
    };
    for version in [&TLS12, &TLS13] {
        assert!(!is_let_in(&authority.trusting(version, Some(authority.client("revoked", 1)))));
        let later = authority.trusting(version, Some(authority.client("later", 2)));
        assert!(is_let_in(&later));
        authority.revoke(&[1, 2]);
        assert_eq!(broker.operator().reload_certificates(), Ok(true));
        assert!(!is_let_in(&later), "{version:?}");
        authority.revoke(&[1]);
        assert_eq!(broker.operator().reload_certificates(), Ok(true));
    }
}

#[test]
fn the_server_name_chooses_the_certificate() {
    let authority = Authority::new();
    let more = authority.server("more", &["one.example.org", "*.two.example.org"]);
    let broker =
        serving(&authority, "tls", &format!("[[listeners.more_certificates]]\n{}", authority.keys("more")));
    let config = authority.trusting(&TLS13, None);
    for (name, is_more) in [("localhost", false), ("one.example.org", true), ("a.two.example.org", true)] {
        let (client, _) = Client::over(open_as(&broker, &config, name), connect(Version::V5, "c", true));
        assert_eq!(certificate_of(&client.socket) == more, is_more, "{name}");
    }
}

#[test]
fn new_certificates_are_taken_while_connections_stay() {
    let authority = Authority::new();
    let broker = serving(&authority, "tls", "");
    let config = authority.trusting(&TLS13, None);
    let (mut old, _) = Client::over(open(&broker, &config), connect(Version::V5, "old", true));
    assert_eq!(broker.operator().reload_certificates(), Ok(false), "nothing changed");
    let renewed = authority.server("server", &["localhost"]);
    assert_eq!(broker.operator().reload_certificates(), Ok(true));
    let fresh = authority.trusting(&TLS13, None);
    let (new, _) = Client::over(open(&broker, &fresh), connect(Version::V5, "new", true));
    assert_eq!(certificate_of(&new.socket), renewed);
    // The key of another certificate: what works stays.
    std::fs::copy(authority.path("ca.pem"), authority.path("server.pem")).unwrap();
    let error = broker.operator().reload_certificates().unwrap_err().to_string();
    assert!(error.contains("is not the private key of") && !error.contains('\n'), "{error}");
    Client::over(open(&broker, &fresh), connect(Version::V5, "newer", true)).0.ping();
    old.ping();
}

#[test]
fn clients_resume_their_sessions_on_every_shard_and_after_a_renewal() {
    let authority = Authority::new();
    let broker = serving(&authority, "tls", "");
    for version in [&TLS12, &TLS13] {
        let config = authority.trusting(version, None);
        let handshake = || {
            let (mut client, _) = Client::over(open(&broker, &config), connect(Version::V5, "c", true));
            client.ping(); // the new ticket was read
            client.socket.conn.handshake_kind().unwrap()
        };
        assert_eq!(handshake(), HandshakeKind::Full);
        for _ in 0..8 {
            assert_eq!(handshake(), HandshakeKind::Resumed, "{version:?}");
        }
        authority.server("server", &["localhost"]);
        assert_eq!(broker.operator().reload_certificates(), Ok(true));
        assert_eq!(handshake(), HandshakeKind::Resumed, "{version:?} after a renewal");
    }
}

#[test]
fn clients_resume_their_sessions_after_a_restart() {
    let (authority, directory) = (Authority::new(), tempfile::tempdir().unwrap());
    authority.server("server", &["localhost"]);
    let text = format!(
        "[[listeners]]\nname = 'l'\nkind = 'tls'\naddress = '127.0.0.1:0'\n{}",
        authority.keys("server")
    );
    for version in [&TLS12, &TLS13] {
        let config = authority.trusting(version, None);
        let handshake = || {
            let broker = crate::start(&text, directory.path());
            let (mut client, _) = Client::over(open(&broker, &config), connect(Version::V5, "c", true));
            client.ping(); // the new ticket was read
            client.socket.conn.handshake_kind().unwrap()
        };
        assert_eq!(handshake(), HandshakeKind::Full);
        assert_eq!(handshake(), HandshakeKind::Resumed, "{version:?}");
    }
}

#[test]
fn files_that_cannot_be_used_are_named_before_anything_starts() {
    let authority = Authority::new();
    authority.server("server", &["localhost"]);
    authority.server("other", &["localhost"]);
    std::fs::write(authority.path("empty.pem"), b"").unwrap();
    let path = |file: &str| authority.path(file).display().to_string();
    let keys = |certificate: &str, key: &str| {
        format!("certificate = '{}'\nkey = '{}'\n", path(certificate), path(key))
    };
    let rows = [
        (keys("missing.pem", "server.key"), "missing.pem cannot be read"),
        (keys("empty.pem", "server.key"), "empty.pem is no PEM file with certificates"),
        (keys("server.key", "server.key"), "server.key is no PEM file with certificates"),
        (keys("server.pem", "server.pem"), "server.pem is no PEM file with a private key"),
        (keys("server.pem", "other.key"), "other.key is not the private key of"),
        (keys("server.pem", "server.key") + &format!("client_ca = '{}'", path("empty.pem")), "client_ca"),
    ];
    for (text, wanted) in rows {
        let text = format!("[[listeners]]\nname = 'l'\nkind = 'tls'\naddress = '127.0.0.1:0'\n{text}");
        let error = config(&text).check().unwrap_err().to_string();
        assert!(error.contains(wanted) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn damaged_records_end_their_connection_and_no_other() {
    let authority = Authority::new();
    let broker = serving(&authority, "tls", "");
    let config = authority.trusting(&TLS13, None);
    let (mut bystander, _) = Client::over(open(&broker, &config), connect(Version::V5, "bystander", true));
    // A record that no key has made; one that is too long; a piece of a handshake message, and then a publish to make the
    // broker write while it waits for the rest of it.
    for bytes in [
        b"\x17\x03\x03\x00\x20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        &b"\x17\x03\x03\xff\xff"[..],
        b"\x16\x03\x03",
    ] {
        let (mut client, _) = Client::over(open(&broker, &config), connect(Version::V5, "damaged", true));
        client.subscribe("t", reveille_proto::mqtt::QoS::AtMostOnce);
        client.socket.sock.write_all(bytes).unwrap();
        bystander.publish("t", b"x", 1);
        bystander.ping();
    }
    assert_eq!(counter(&broker, "tls"), 0, "those were past their handshake");
}

/// rustls ends a stream that was cut with this.
#[test]
fn a_client_that_is_cut_off_by_the_deadline_is_not_said_goodbye_to() {
    let authority = Authority::new();
    let broker = serving(&authority, "tls", "connect_deadline_ms = 300");
    let mut stream = open(&broker, &authority.trusting(&TLS13, None));
    stream.flush().unwrap();
    let error = stream.read(&mut [0]);
    let is_end = matches!(&error, Ok(0))
        || error.as_ref().is_err_and(|error| {
            matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset)
        });
    assert!(is_end, "{error:?}");
    wait_for_counter(&broker, "handshakes_timed_out", 1);
}

#[test]
fn a_client_that_says_goodbye_to_tls_behind_its_connect_is_gone_though_its_socket_stays() {
    let authority = Authority::new();
    let broker = serving(&authority, "tls", "");
    for no in 0..4 {
        let mut stream = open(&broker, &authority.trusting(&TLS13, None));
        stream.conn.complete_io(&mut stream.sock).unwrap();
        let mut hello = connect(Version::V5, &format!("short-{no}"), true);
        hello.keep_alive = 0; // nothing else ends it
        let mut bytes = bytes::BytesMut::new();
        Packet::Connect(Box::new(hello)).write(Version::V5, &mut bytes).unwrap();
        stream.conn.writer().write_all(&bytes).unwrap();
        stream.conn.send_close_notify();
        let mut sealed = Vec::new();
        while stream.conn.wants_write() {
            stream.conn.write_tls(&mut sealed).unwrap();
        }
        stream.sock.write_all(&sealed).unwrap();
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        let is_end = ended.as_ref().map_or_else(|error| error.kind() == ErrorKind::UnexpectedEof, |_| true);
        assert!(is_end, "{ended:?}");
    }
}
