//! What devices find out about their network: told to the next one, shown to operators, kept over a restart.

use crate::client::{Client, PATIENCE, connect, durable, publish};
use crate::http::{Http, KEY, with_keys};
use crate::{config, start};
use reveille_broker::Broker;
use reveille_broker_store::Memory;
use reveille_proto::heartbeat::{Config, Gap, Hello, Network};
use reveille_proto::mqtt::{ConnAck, Connect, Packet, QoS, Version};
use reveille_proto::reason::ReasonCode;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// A minute of the protocol lasts 0.3 s, and the first device has a vote at once.
const FAST: &str = "
    users = [{ name = 'u', password = 'p' }]
    heartbeat = { speed = 200, voter_age_s = 0, devices_min = 1 }
";

/// What counts as a long silence there.
const SILENCE: Duration = Duration::from_millis(400);

fn begin(directory: &Path) -> (Broker, Http) {
    let broker = start(&with_keys(FAST), directory);
    let http = Http { address: broker.http_addr().unwrap(), key: KEY };
    (broker, http)
}

fn known(mut connect: Connect) -> Connect {
    (connect.username, connect.password) = (Some("u".into()), Some("p".into()));
    connect
}

/// A device that tunes its heartbeat.
fn tuning(client_id: &str) -> Connect {
    let mut connect = known(durable(Version::V5, client_id));
    let hello = Hello { network: Network::parse("4g,46000").unwrap(), ..Hello::default() };
    connect.properties.user_properties =
        hello.properties().into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    connect
}

fn advice(connack: &ConnAck) -> Config {
    let (_, text) = connack.properties.user_properties.iter().find(|(name, _)| name == "hb-cfg").unwrap();
    Config::parse(text).unwrap()
}

fn networks(http: Http) -> Vec<Value> {
    http.ask("GET", "/v1/broker/networks", None).body["items"].as_array().unwrap().clone()
}

/// Waits until the near network of this machine is as wanted.
fn wait_for(http: Http, wanted: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + PATIENCE;
    loop {
        let found = networks(http);
        let near = found.iter().find(|item| item["network"] == "127.0.0.0/24" && wanted(item));
        if let Some(near) = near {
            return near.clone();
        }
        assert!(Instant::now() < end, "{found:?}");
        std::thread::yield_now();
    }
}

#[test]
fn the_next_device_is_told_what_the_first_found_out_and_a_restart_forgets_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (broker, http) = begin(directory.path());
    let (mut first, connack) = Client::open(broker.mqtt_addr(), tuning("first"));
    assert_eq!(advice(&connack).stay, None, "nothing is known yet");
    std::thread::sleep(SILENCE); // what the test is about
    first.send(&Packet::PingReq);
    assert!(matches!(first.receive(), Packet::PingResp));
    let near = wait_for(http, |item| item["counted"] == 1);
    assert_eq!((near["radio"].as_str(), near["connections"].as_u64()), (Some("4g"), Some(1)), "{near}");
    let (_second, connack) = Client::open(broker.mqtt_addr(), tuning("second"));
    let told = advice(&connack);
    assert_eq!(told.stay.map(|gap| u64::from(gap.0)), near["interval_s"].as_u64());
    assert!(told.quantiles.is_some_and(|quantiles| quantiles.0[0] >= Gap(60)), "{told}");
    drop(broker);
    let (_broker, http) = begin(directory.path());
    let near = wait_for(http, |item| item["counted"] == 1);
    assert_eq!(near["connections"], 0);
}

#[test]
fn a_disk_that_hangs_does_not_keep_the_broker_from_its_end() {
    let store = Arc::new(Memory::manual()); // nothing gets durable until it is closed
    let broker = reveille_broker::start_on(config(&with_keys(FAST)), store.clone()).unwrap();
    let http = Http { address: broker.http_addr().unwrap(), key: KEY };
    let mut device = Client::connect(broker.mqtt_addr(), known(connect(Version::V5, "d", true)));
    std::thread::sleep(SILENCE); // or there is nothing to write
    device.ping();
    wait_for(http, |item| item["counted"] == 1);
    drop(device);
    let (ended, end) = channel();
    std::thread::spawn(move || {
        broker.stop();
        ended.send(()).unwrap();
    });
    end.recv_timeout(PATIENCE).expect("it stops");
    let broker = reveille_broker::start_on(config(&with_keys(FAST)), Arc::new(store.crash())).unwrap();
    let http = Http { address: broker.http_addr().unwrap(), key: KEY };
    wait_for(http, |item| item["counted"] == 1); // closing the store made it durable
}

#[test]
fn a_report_is_answered_and_a_missed_beat_ends_the_connection_long_before_its_keep_alive() {
    let directory = tempfile::tempdir().unwrap();
    let (broker, http) = begin(directory.path());
    let (mut device, _) = Client::open(broker.mqtt_addr(), Connect { keep_alive: 600, ..tuning("d") });
    device.send(&publish("$hb/up", b"next=60;net=4g,46000;late=0", QoS::AtLeastOnce, 1));
    match device.receive() {
        Packet::PubAck(ack) => assert_eq!(ack.reason, ReasonCode::SUCCESS),
        other => panic!("{other:?}"),
    }
    match device.receive() {
        Packet::Disconnect(goodbye) => assert_eq!(goodbye.reason, ReasonCode::KEEP_ALIVE_TIMEOUT),
        other => panic!("{other:?}"),
    }
    assert_eq!(device.receive_or_end(), None, "80 s last 0.4 s here");
    // It comes back on the same network and says at which gap its beat got lost.
    let (mut device, _) = Client::open(broker.mqtt_addr(), tuning("d"));
    device.send(&publish("$hb/up", b"net=4g,46000;obs=-61;late=0", QoS::AtLeastOnce, 1));
    device.receive();
    wait_for(http, |item| item["deaths"] == 1);
    let mut plain = Client::connect(broker.mqtt_addr(), known(connect(Version::V5, "plain", true)));
    plain.subscribe("$hb/cfg", QoS::AtMostOnce);
    plain.send(&Packet::PingReq);
    assert!(matches!(plain.receive(), Packet::PingResp), "nothing for who does not tune");
}
