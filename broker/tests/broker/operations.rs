//! Health and metrics over HTTP.

use crate::broker;
use crate::client::{Client, PATIENCE, connect, publish};
use reveille_proto::mqtt::{Packet, QoS, Version};
use reveille_proto::reason::ReasonCode;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

fn get(address: SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

fn value_of(metrics: &str, name: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} is missing in {metrics}"))
}

/// For states that nobody announces.
fn wait_for(mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "waited in vain");
        std::thread::yield_now();
    }
}

#[test]
fn operators_see_health_and_counts() {
    let broker = broker("http = '127.0.0.1:0'");
    let http = broker.http_addr().unwrap();
    let mut client = Client::connect(broker.mqtt_addr(), connect(Version::V5, "c", true));
    client.publish("t", b"x", 1);
    for (path, wanted) in [
        ("/healthz", "HTTP/1.1 200"),
        ("/readyz", "HTTP/1.1 200"),
        ("/nothing", "HTTP/1.1 404"),
        ("/metrics", "reveille_broker_connects_total 1\n"),
        ("/metrics", "reveille_broker_publishes_received_total 1\n"),
        ("/metrics", "reveille_broker_connections 1\n"),
        ("/metrics", "reveille_broker_ready 1\n"),
        ("/metrics", "# EOF\n"),
    ] {
        let answer = get(http, path);
        assert!(answer.contains(wanted), "{path}: {wanted} is missing in {answer}");
    }
    assert!(broker.is_ready());
    assert_eq!(crate::broker("").http_addr(), None);
}

#[test]
fn new_limits_hold_for_new_connections_only_and_a_wrong_one_changes_nothing() {
    let broker = broker("");
    let mut old = Client::connect(broker.mqtt_addr(), connect(Version::V5, "old", true));
    let limits = |text: &str| crate::config(&format!("[limits]\n{text}"));
    let error = broker.operator().reload(&limits("packet_size_max_bytes = 0")).unwrap_err();
    assert!(error.to_string().contains("packet_size_max_bytes"), "{error}");
    let unchanged = broker.operator().reload(&crate::config("")).unwrap();
    assert!(unchanged.is_empty(), "{unchanged:?}");
    let report = broker.operator().reload(&limits("packet_size_max_bytes = 2000")).unwrap();
    assert_eq!((&report.changed[..], report.needs_restart.len()), (&["broker.limits"][..], 0));
    let (_, connack) = Client::open(broker.mqtt_addr(), connect(Version::V5, "new", true));
    assert_eq!(connack.properties.maximum_packet_size, Some(2000));
    assert_eq!(old.publish("t", &[0; 3000], 1), ReasonCode::NO_MATCHING_SUBSCRIBERS);
}

#[test]
fn a_drain_sends_clients_elsewhere_refuses_new_ones_and_ends() {
    const REFERENCE: &str = "b.example:1883";
    let broker = broker("http = '127.0.0.1:0'\n[drain]\nserver_reference = 'b.example:1883'\nover_s = 1");
    let http = broker.http_addr().unwrap();
    let address = broker.mqtt_addr();
    let mut new: Vec<Client> =
        (0..5).map(|no| Client::connect(address, connect(Version::V5, &format!("n{no}"), true))).collect();
    let mut old = Client::connect(address, connect(Version::V3_1_1, "old", true));
    let drain = broker.operator().configured_drain();
    broker.operator().drain(drain.clone()).unwrap();
    assert!(broker.operator().drain(drain).is_err(), "there is one already");
    assert!(get(http, "/readyz").contains("503"), "at once");
    assert!(get(http, "/healthz").contains("200"), "nothing is wrong with it");
    for client in &mut new {
        let Some(Packet::Disconnect(goodbye)) = client.receive_or_end() else { panic!("no DISCONNECT") };
        assert_eq!(goodbye.reason, ReasonCode::USE_ANOTHER_SERVER);
        assert_eq!(goodbye.server_reference.as_deref(), Some(REFERENCE));
        assert_eq!(client.receive_or_end(), None);
    }
    assert_eq!(old.receive_or_end(), None, "3.1.1 knows no goodbye");
    let (_, connack) = Client::open(address, connect(Version::V5, "late", true));
    assert_eq!(connack.reason, ReasonCode::USE_ANOTHER_SERVER);
    assert_eq!(connack.properties.server_reference.as_deref(), Some(REFERENCE));
    let (_, connack) = Client::open(address, connect(Version::V3_1_1, "late", true));
    assert_eq!(connack.reason, ReasonCode::SERVER_UNAVAILABLE);
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(broker.operator().drained());
    let metrics = broker.metrics_text();
    assert!(
        metrics.contains("moved_total 6\n")
            && metrics.contains("connections_refused_total{reason=\"draining\"} 2\n"),
        "{metrics}"
    );
}

#[test]
fn a_new_subscriber_gets_the_values_of_sys_at_once_and_only_in_the_app_default() {
    let broker = broker(
        "allow_anonymous = true\nsys_interval_s = 3600\n[[users]]\nname = 'shop'\npassword = 'x'\napp = 'shop'",
    );
    let mut client = Client::connect(broker.mqtt_addr(), connect(Version::V5, "c", true));
    let (topic, wanted) = ("$SYS/broker/version", concat!("reveille version ", env!("CARGO_PKG_VERSION")));
    let value = |name: &str| value_of(&broker.metrics_text(), name);
    wait_for(|| value("reveille_broker_retained_messages") > 40); // the first publication, after the start
    client.subscribe(topic, QoS::AtMostOnce);
    let version = client.receive_publish();
    assert_eq!((&version.payload[..], version.retain), (wanted.as_bytes(), true));
    let mut shop = connect(Version::V5, "s", true);
    (shop.username, shop.password) = (Some("shop".into()), Some(b"x"[..].into()));
    let mut shop = Client::connect(broker.mqtt_addr(), shop);
    shop.subscribe("$SYS/#", QoS::AtMostOnce);
    shop.ping();
    let mut all = Client::connect(broker.mqtt_addr(), connect(Version::V5, "all", true));
    all.subscribe("#", QoS::AtMostOnce);
    all.ping();
    assert_eq!(all.publish("$SYS/broker/version", b"forged", 1), ReasonCode::NOT_AUTHORIZED);
}

#[test]
fn a_client_that_does_not_read_is_counted_as_slow() {
    let broker = broker("slow_consumer_s = 1\n[limits]\nunsent_max_bytes = 65536");
    let mut slow = Client::connect(broker.mqtt_addr(), connect(Version::V5, "slow", true));
    slow.subscribe("t", QoS::AtMostOnce);
    let mut sender = Client::connect(broker.mqtt_addr(), connect(Version::V5, "sender", true));
    // The kernel buffers some megabytes before the socket takes no more.
    wait_for(|| {
        for _ in 0..64 {
            sender.send(&publish("t", &[0; 60_000], QoS::AtMostOnce, 0));
        }
        sender.ping();
        value_of(&broker.metrics_text(), "reveille_broker_slow_consumers_total") > 0
    });
    assert!(broker.metrics_text().contains("reveille_broker_connections_blocked 1\n"));
}
