//! What a connection's silences are worth, when an announced beat is missed, and what devices hear about their network.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod bench;

use bench::{Bench, connect, durable, publish};
use reveille_broker_core::io::{Identity, Loss};
use reveille_broker_core::limits::{ConnectionLimits, Limits};
use reveille_broker_core::networks::{Advice, Device, Leaving, Seen};
use reveille_proto::heartbeat::{Config, Gap, Hello, Network};
use reveille_proto::ids::{AppId, ClientId};
use reveille_proto::mqtt::{ConnAck, Connect, Disconnect, Packet, Version};
use reveille_proto::reason::ReasonCode;
use std::time::Duration;

const S: Duration = Duration::from_secs(1);

fn bench() -> Bench {
    let mut bench = Bench::new(Limits::default());
    bench.network = "203.0.113.7";
    bench
}

/// A CONNECT that speaks of heartbeats.
fn tuning(client_id: &str, network: &str) -> Connect {
    let mut connect = durable(client_id);
    let hello = Hello { network: Network::parse(network).unwrap(), ..Hello::default() };
    let own = |(name, value): (String, String)| (name.into(), value.into());
    connect.properties.user_properties = hello.properties().into_iter().map(own).collect();
    connect
}

fn advice(stay: u16, keep_alive: Option<u16>) -> Advice {
    Advice { config: Config { stay: Some(Gap(stay)), ..Config::default() }, keep_alive }
}

fn seen(bench: &mut Bench) -> Vec<Seen> {
    std::mem::take(&mut bench.seen).into_iter().map(|sighting| sighting.seen).collect()
}

fn connack(packets: &[Packet]) -> &ConnAck {
    match packets.first() {
        Some(Packet::ConnAck(connack)) => connack,
        other => panic!("no CONNACK: {other:?}"),
    }
}

fn ping(bench: &mut Bench, key: reveille_broker_core::io::ConnectionKey) {
    bench.send(key, Packet::PingReq);
}

#[test]
fn a_silence_counts_from_the_last_packet_in_either_direction_and_once() {
    let mut bench = bench();
    let device = bench.online(durable("d"));
    bench.subscribe(device, "a", 1);
    let other = bench.online(connect("p", Version::V5));
    seen(&mut bench);
    for (wait_s, wanted) in [(59, None), (61, Some(61)), (61, None), (300, Some(300)), (200, None)] {
        bench.wait(wait_s * 1000);
        ping(&mut bench, device);
        let wanted: Vec<_> = wanted.map(|seconds: u32| Seen::Survived(seconds * S)).into_iter().collect();
        assert_eq!(seen(&mut bench), wanted, "{wait_s} s");
    }
    bench.wait(400_000);
    bench.publish(other, publish("a", "x", 0, 0));
    seen(&mut bench);
    bench.wait(20_000);
    ping(&mut bench, device);
    assert_eq!(seen(&mut bench), [], "a message came in between, and this is no answer to it");
}

/// What ends a connection.
type Happening = Box<dyn Fn(&mut Bench)>;

#[test]
fn how_a_connection_ended_tells_what_its_silence_means() {
    let alive = |bench: &mut Bench| bench.online(Connect { keep_alive: 100, ..durable("d") });
    let rows: [(&str, Happening, Leaving); 6] = [
        ("silence", Box::new(|bench| bench.wait(151_000)), Leaving::Silent(151 * S)),
        ("FIN", Box::new(|bench| lose(bench, Loss::Closed)), Leaving::Told),
        ("RST", Box::new(|bench| lose(bench, Loss::Reset)), Leaving::Reset),
        (
            "DISCONNECT",
            Box::new(|bench| {
                let key = bench.last();
                bench.send(key, Packet::Disconnect(Box::new(Disconnect::new(ReasonCode::SUCCESS))));
            }),
            Leaving::Told,
        ),
        (
            "take-over",
            Box::new(|bench| {
                bench.wait(70_000);
                bench.online(durable("d"));
            }),
            Leaving::TakenOver { idle: 70 * S, is_unanswered: false },
        ),
        (
            "a message in vain, then take-over",
            Box::new(|bench| {
                let key = bench.last();
                bench.subscribe(key, "a", 1);
                bench.wait(80_000);
                let other = bench.online(connect("p", Version::V5));
                bench.publish(other, publish("a", "x", 1, 1));
                bench.wait(25_000);
                bench.online(durable("d"));
            }),
            Leaving::TakenOver { idle: 80 * S, is_unanswered: true },
        ),
    ];
    for (name, happen, wanted) in rows {
        let mut bench = bench();
        alive(&mut bench);
        happen(&mut bench);
        let device = Device::of(&AppId::default(), &ClientId::parse("d").unwrap());
        let left = |seen: &Seen| matches!(seen, Seen::Left(_));
        let left: Vec<_> =
            bench.seen.iter().filter(|sighting| sighting.device == device && left(&sighting.seen)).collect();
        assert_eq!(left.len(), 1, "{name}");
        assert_eq!(left[0].seen, Seen::Left(wanted), "{name}");
        assert!(!left[0].is_known, "{name}: it showed no credential");
    }
}

fn lose(bench: &mut Bench, how: Loss) {
    let key = bench.last();
    bench.lose_as(key, how);
}

#[test]
fn a_message_that_the_kernel_could_not_deliver_names_the_silence_before_it() {
    let mut bench = bench();
    let device = bench.online(durable("d"));
    bench.subscribe(device, "a", 0);
    let other = bench.online(connect("p", Version::V5));
    bench.wait(90_000);
    bench.publish(other, publish("a", "x", 0, 0));
    bench.wait(95_000);
    seen(&mut bench);
    bench.lose_as(device, Loss::Unanswered);
    assert_eq!(seen(&mut bench), [Seen::Left(Leaving::Silent(90 * S))]);
}

#[test]
fn an_announced_beat_that_is_missed_ends_the_connection_before_its_keep_alive_does() {
    let mut bench = bench();
    let device = bench.online(Connect { keep_alive: 1_800, ..tuning("d", "4g,46000") });
    let plain = bench.online(Connect { keep_alive: 1_800, ..durable("plain") });
    bench.publish(device, publish("$hb/up", "next=1200;net=4g,46000;late=5", 1, 1));
    bench.wait(1_200_000);
    bench.wait(64_000);
    assert_eq!(bench.closed(device), None, "1200 s, 60 s of grace, 5 s for its alarms");
    bench.wait(2_000);
    assert_eq!(bench.closed(device), Some(ReasonCode::KEEP_ALIVE_TIMEOUT));
    assert_eq!(bench.closed(plain), None);
    bench.wait(1_440_000);
    assert_eq!(bench.closed(plain), Some(ReasonCode::KEEP_ALIVE_TIMEOUT), "2700 s");
}

#[test]
fn messages_to_a_device_do_not_keep_it_alive_beyond_its_announced_beat() {
    let mut bench = bench();
    let device = bench.online(Connect { keep_alive: 1_800, ..tuning("d", "4g,46000") });
    bench.subscribe(device, "a", 0);
    let other = bench.online(connect("p", Version::V5));
    bench.publish(device, publish("$hb/up", "next=300;net=4g,46000;late=0", 1, 1));
    for second in 0..340 {
        assert_eq!(bench.closed(device).is_some(), second >= 330, "{second} s");
        bench.publish(other, publish("a", "x", 0, 0));
        bench.wait(1_000);
    }
}

#[test]
fn whoever_says_nothing_about_its_beats_keeps_one_and_a_half_keep_alives_and_keep_alive_zero_is_for_ever() {
    let mut bench = bench();
    let calm = bench.online(Connect { keep_alive: 0, ..durable("calm") });
    let early = bench.online(Connect { keep_alive: 0, ..durable("early") });
    bench.publish(early, publish("$SETOPTS/mqtt/keepalive", "300", 1, 1));
    bench.wait(329_000);
    assert_eq!(bench.closed(early), None, "300 s and 30 s of grace");
    bench.wait(3_000);
    assert_eq!(bench.closed(early), Some(ReasonCode::KEEP_ALIVE_TIMEOUT));
    bench.wait(100_000_000);
    assert_eq!(bench.closed(calm), None);
}

#[test]
fn a_report_is_acknowledged_whatever_the_client_may_publish_and_nonsense_is_refused() {
    let mut bench = bench();
    for (payload, qos, wanted) in [
        ("next=300;net=wifi;late=0", 1, Some(ReasonCode::SUCCESS)),
        ("", 1, Some(ReasonCode::SUCCESS)),
        ("next=x", 1, Some(ReasonCode::PAYLOAD_FORMAT_INVALID)),
        ("next=300;net=wifi;late=0", 0, None),
    ] {
        let device = bench.online(durable("d"));
        bench.publish(device, publish("$hb/up", payload, qos, 3));
        let answer = bench.read(device).into_iter().find_map(|packet| match packet {
            Packet::PubAck(ack) => Some(ack.reason),
            _ => None,
        });
        assert_eq!(answer, wanted, "{payload} {qos}");
    }
}

#[test]
fn a_device_that_tunes_hears_of_its_network_in_connack_and_on_its_topic_when_that_changed() {
    let mut bench = bench();
    bench.advice = Some(advice(270, Some(200)));
    let key = bench.open(Connect { keep_alive: 1_800, ..tuning("d", "4g,46000") });
    let packets = bench.read(key);
    let properties = &connack(&packets).properties;
    assert_eq!(properties.user_properties, [("hb-cfg".into(), "stay=270;ttl=0;window=0".into())]);
    assert_eq!(properties.server_keep_alive, None, "it knows better");
    bench.publish(key, publish("$hb/up", "next=270;net=4g,46000;late=0", 1, 1));
    assert_eq!(bench.messages(key), [], "nothing new");
    bench.advice = Some(advice(540, None));
    bench.publish(key, publish("$hb/up", "next=270;net=4g,46000;late=0", 1, 2));
    assert_eq!(bench.messages(key), [("$hb/cfg".to_owned(), "stay=540;ttl=0;window=0".to_owned())]);
}

#[test]
fn a_device_of_3_1_1_hears_of_its_network_after_its_first_report_and_others_never() {
    let mut bench = bench();
    bench.advice = Some(advice(270, None));
    let key = bench.online(Connect { keep_alive: 1_800, ..connect("old", Version::V3_1_1) });
    bench.publish(key, publish("$SETOPTS/mqtt/keepalive", "300", 1, 1));
    assert_eq!(bench.messages(key), []);
    bench.publish(key, publish("$hb/up", "next=180;net=wifi,home;late=0", 1, 2));
    let packets = bench.read(key);
    assert!(matches!(packets[0], Packet::PubAck(_)), "the acknowledgement first: {packets:?}");
    assert!(matches!(packets[1], Packet::Publish(_)), "{packets:?}");
}

#[test]
fn a_plain_client_of_5_0_is_told_a_shorter_keep_alive_from_its_own_value_each_time() {
    let mut bench = bench();
    bench.advice = Some(advice(270, Some(240)));
    for (asked, wanted) in [(300, Some(240)), (240, None), (60, None), (0, None)] {
        let key = bench.open(Connect { keep_alive: asked, ..durable("d") });
        let packets = bench.read(key);
        assert_eq!(connack(&packets).properties.server_keep_alive, wanted, "{asked}");
        assert!(connack(&packets).properties.user_properties.is_empty());
    }
    let key = bench.open(Connect { keep_alive: 300, ..connect("old", Version::V3_1_1) });
    bench.read(key);
    bench.wait(449_000);
    assert_eq!(bench.closed(key), None, "3.1.1 cannot be told, so its own value holds");
    bench.limits = ConnectionLimits { keep_alive_max: 120, ..ConnectionLimits::default() }.into();
    let key = bench.open(Connect { keep_alive: 300, ..durable("d") });
    assert_eq!(connack(&bench.read(key)).properties.server_keep_alive, Some(120), "the smaller of two");
}

#[test]
fn a_claim_and_a_credential_go_along_with_what_is_seen() {
    let mut bench = bench();
    let identity = Identity { user: Some("u".into()), source: "users", ..Identity::of(AppId::default()) };
    let key = bench.open_as(tuning("d", "4g,46000"), identity);
    bench.publish(key, publish("$hb/up", "next=300;net=4g,46000;obs=+300,-480;late=0", 1, 1));
    assert!(bench.seen.iter().all(|sighting| sighting.is_known));
    let network = Network::parse("4g,46000");
    assert!(bench.seen.iter().all(|sighting| sighting.origin.network == network), "{:?}", bench.seen);
    assert_eq!(seen(&mut bench), [Seen::Came, Seen::Claimed(480 * S)]);
    bench.publish(key, publish("$hb/up", "net=wifi,home", 1, 2));
    assert_eq!(seen(&mut bench), [Seen::Left(Leaving::Told), Seen::Came], "counted on the other network now");
}

#[test]
fn nothing_is_seen_of_clients_that_came_over_no_network() {
    let mut bench = bench();
    bench.network = "local";
    let key = bench.online(durable("d"));
    bench.wait(600_000);
    ping(&mut bench, key);
    bench.lose(key);
    assert_eq!(seen(&mut bench), []);
}
