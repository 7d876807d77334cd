//! `mosquitto_pub` and `mosquitto_sub` of Debian: 3.1, 3.1.1 and 5.0.

use reveille_proto::mqtt::QoS;
use reveille_tests::foreign::{MosquittoSub, Shown, mosquitto_pub, mosquitto_sub_once};
use reveille_tests::mqtt::{Client, Options};
use reveille_tests::program::Reveille;

use crate::agent::Transport;
use crate::run::Venue;

const VERSIONS: [&str; 3] = ["mqttv31", "mqttv311", "mqttv5"];

fn shown(topic: &str, qos: u8, payload: &str) -> Shown {
    Shown { topic: topic.to_owned(), qos, is_retained: false, payload: payload.to_owned() }
}

#[test]
fn every_version_talks_to_every_version_with_every_qos() {
    let reveille = Reveille::start_broker_with("");
    let broker = reveille.mqtt();
    for receiving in VERSIONS {
        let sub = MosquittoSub::start(broker, &["-V", receiving, "-q", "2", "-t", "设备/#"]);
        for sending in VERSIONS {
            for qos in 0..=2u8 {
                let (topic, payload) = (format!("设备/{sending}/泵"), format!("压力 {qos}"));
                mosquitto_pub(broker, &["-V", sending, "-q", &qos.to_string(), "-t", &topic, "-m", &payload]);
                assert_eq!(sub.take(), shown(&topic, qos, &payload), "{sending} -> {receiving}");
            }
        }
        assert_eq!(sub.leave(), [], "{receiving}: nothing came twice");
    }
}

#[test]
fn a_delivery_has_the_lower_qos_of_publish_and_subscription() {
    let reveille = Reveille::start_broker_with("");
    for granted in 0..=2u8 {
        let sub =
            MosquittoSub::start(reveille.mqtt(), &["-V", "5", "-q", &granted.to_string(), "-t", "qos/+"]);
        for sent in 0..=2u8 {
            mosquitto_pub(reveille.mqtt(), &["-V", "5", "-q", &sent.to_string(), "-t", "qos/x", "-m", "m"]);
            assert_eq!(sub.take(), shown("qos/x", sent.min(granted), "m"), "{sent} to {granted}");
        }
    }
}

#[test]
fn a_retained_message_waits_for_subscribers_survives_a_kill_and_goes_with_an_empty_payload() {
    let mut reveille = Reveille::start_broker_with("");
    let broker = reveille.mqtt();
    mosquitto_pub(broker, &["-V", "5", "-q", "1", "-r", "-t", "状态/泵7", "-m", "运行"]);
    reveille.kill();
    reveille.start_again();
    for version in VERSIONS {
        let sub = MosquittoSub::start_without_waiting(broker, &["-V", version, "-q", "1", "-t", "状态/+"]);
        assert_eq!(sub.take(), Shown { is_retained: true, ..shown("状态/泵7", 1, "运行") }, "{version}");
    }
    mosquitto_pub(broker, &["-V", "5", "-q", "1", "-r", "-n", "-t", "状态/泵7"]);
    let mut client = Client::connect(broker, &Options::clean("after"));
    client.subscribe("状态/+", QoS::AtLeastOnce);
    assert_eq!(client.ping(), [], "the retained message is gone");
}

#[test]
fn the_will_of_a_client_that_vanishes_is_published_and_that_of_one_that_leaves_is_not() {
    let reveille = Reveille::start_broker_with("");
    let broker = reveille.mqtt();
    let watcher = MosquittoSub::start(broker, &["-V", "mqttv5", "-q", "1", "-t", "遗嘱/#"]);
    for version in VERSIONS {
        for (name, is_killed) in [("left", false), ("vanished", true)] {
            let topic = format!("遗嘱/{version}/{name}");
            let will = ["--will-topic", &topic, "--will-payload", "再见", "--will-qos", "1"];
            // -C 1: leaves with DISCONNECT after one message. (On a signal it would ask for its will, in 5.0.)
            let args = [&["-V", version, "-t", "leave", "-q", "1", "-C", "1"][..], &will].concat();
            let sub = MosquittoSub::start(broker, &args);
            if !is_killed {
                mosquitto_pub(broker, &["-q", "1", "-t", "leave", "-m", "now"]);
                sub.wait_end();
            }
        } // dropped, it is killed
        assert_eq!(watcher.take(), shown(&format!("遗嘱/{version}/vanished"), 1, "再见"));
    }
    assert_eq!(watcher.leave(), []);
}

#[test]
fn a_thousand_messages_for_a_sleeping_session_survive_kill_9_in_order() {
    let mut reveille = Reveille::start();
    let broker = reveille.mqtt();
    let session = ["-V", "5", "-i", "d1", "-q", "1", "-c", "-t", "设备/#"];
    mosquitto_sub_once(broker, &session);
    for n in 0..1000 {
        mosquitto_pub(broker, &["-q", "1", "-t", "设备/1", "-m", &n.to_string()]);
    }
    reveille.kill();
    reveille.start_again();
    let sub = MosquittoSub::start_without_waiting(broker, &session);
    for n in 0..1000 {
        assert_eq!(sub.take(), shown("设备/1", 1, &n.to_string()));
    }
    assert_eq!(sub.leave(), [], "nothing came twice");
}

#[test]
fn a_persistent_session_of_every_version_gets_what_came_while_it_was_away() {
    let mut reveille = Reveille::start_broker_with("");
    let broker = reveille.mqtt();
    let sessions = VERSIONS.map(|version| ["-V", version, "-i", version, "-q", "2", "-c", "-t", "离线/#"]);
    for session in &sessions {
        mosquitto_sub_once(broker, session);
    }
    for qos in 1..=2u8 {
        mosquitto_pub(broker, &["-V", "5", "-q", &qos.to_string(), "-t", "离线/1", "-m", &qos.to_string()]);
    }
    reveille.kill();
    reveille.start_again();
    for session in &sessions {
        let sub = MosquittoSub::start_without_waiting(broker, session);
        for qos in 1..=2u8 {
            assert_eq!(sub.take(), shown("离线/1", qos, &qos.to_string()), "{session:?}");
        }
        assert_eq!(sub.leave(), [], "{session:?}");
    }
}

/// The clients of Debian's mosquitto have no WebSocket.
#[test]
fn over_tls_every_version_has_every_qos_retained_messages_wills_and_sessions() {
    let venue = Venue::open();
    let endpoint = venue.endpoint(Transport::Tls);
    let (broker, authority) = (endpoint.address, endpoint.authority.unwrap());
    for version in VERSIONS {
        let tls = ["--cafile", authority.to_str().unwrap(), "-V", version];
        let publish = |args: &[&str]| mosquitto_pub(broker, &[&tls, args].concat());
        let topic = format!("密/{version}");
        publish(&["-q", "1", "-r", "-t", &topic, "-m", "留"]);
        let session = [&tls[..], &["-i", version, "-q", "2", "-c", "-t", &topic]].concat();
        mosquitto_sub_once(broker, &session);
        for qos in 1..=2u8 {
            publish(&["-q", &qos.to_string(), "-t", &topic, "-m", &qos.to_string()]);
        }
        let sub = MosquittoSub::start_without_waiting(broker, &session);
        let mut taken: Vec<_> = (0..3).map(|_| sub.take().payload).collect();
        taken.retain(|payload| payload != "留"); // once for each SUBSCRIBE: when is not promised
        taken.extend((taken.len() < 2).then(|| sub.take().payload));
        assert_eq!(taken, ["1", "2"], "{version}");

        let will =
            [&tls[..], &["--will-topic", &topic, "--will-payload", "再见", "--will-qos", "2", "-t", "x"]];
        drop(MosquittoSub::start(broker, &will.concat())); // killed
        let payload = std::iter::repeat_with(|| sub.take()).find(|shown| shown.payload != "留").unwrap();
        assert_eq!(payload, shown(&topic, 2, "再见"), "{version}");
        publish(&["-q", "0", "-t", &topic, "-m", "0"]);
        assert_eq!(sub.take(), shown(&topic, 0, "0"), "{version}");
    }
}
