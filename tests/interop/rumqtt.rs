//! `rumqttc` as a foreign client, 3.1.1 and 5.0.

use reveille_tests::PATIENCE;
use reveille_tests::program::Reveille;
use std::net::SocketAddr;
use std::time::Duration;

/// Enough for every request of a test at once.
const REQUESTS: usize = 64;
const COUNT: usize = 30;

/// The payload of message `n`, which says its QoS too.
fn payload(n: usize) -> String {
    format!("消息 {n}")
}

/// What the clients of both versions do alike, with types that only their names make equal.
macro_rules! steps {
    ($publisher:literal) => {
        pub async fn until(events: &mut EventLoop, mut is_wanted: impl FnMut(&Packet) -> bool) {
            let wait = async {
                loop {
                    if let Event::Incoming(packet) = events.poll().await.unwrap()
                        && is_wanted(&packet)
                    {
                        return;
                    }
                }
            };
            tokio::time::timeout(PATIENCE, wait).await.expect("the packet comes in time");
        }

        pub async fn subscribe(client: &AsyncClient, events: &mut EventLoop, filter: &str) {
            client.subscribe(filter, QoS::ExactlyOnce).await.unwrap();
            until(events, |packet| matches!(packet, Packet::SubAck(_))).await;
        }

        pub async fn send_all(broker: SocketAddr) {
            let (client, mut events) = connect(broker, $publisher, true);
            for n in 0..COUNT {
                let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][n % 2];
                client.publish(format!("对话/{}", n % 2), qos, false, payload(n)).await.unwrap();
            }
            let mut done = 0;
            until(&mut events, |packet| {
                done += usize::from(matches!(packet, Packet::PubAck(_) | Packet::PubComp(_)));
                done == COUNT
            })
            .await;
        }
    };
}

mod v4 {
    use super::*;
    use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};

    pub fn connect(broker: SocketAddr, id: &str, clean: bool) -> (AsyncClient, EventLoop) {
        let mut options = MqttOptions::new(id, broker.ip().to_string(), broker.port());
        options.set_clean_session(clean).set_keep_alive(Duration::from_secs(30));
        AsyncClient::new(options, REQUESTS)
    }

    steps!("v4-publisher");

    pub async fn take_all(events: &mut EventLoop) -> Vec<(String, String)> {
        let mut taken = Vec::new();
        until(events, |packet| {
            if let Packet::Publish(publish) = packet {
                taken.push((publish.topic.clone(), String::from_utf8(publish.payload.to_vec()).unwrap()));
            }
            taken.len() == COUNT
        })
        .await;
        taken
    }
}

mod v5 {
    use super::*;
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::{ConnectProperties, Packet};
    use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};

    pub fn connect(broker: SocketAddr, id: &str, clean: bool) -> (AsyncClient, EventLoop) {
        let mut options = MqttOptions::new(id, broker.ip().to_string(), broker.port());
        options.set_clean_start(clean).set_keep_alive(Duration::from_secs(30));
        let mut properties = ConnectProperties::new();
        properties.session_expiry_interval = Some(3600);
        options.set_connect_properties(properties);
        AsyncClient::new(options, REQUESTS)
    }

    steps!("v5-publisher");

    pub async fn take_all(events: &mut EventLoop) -> Vec<(String, String)> {
        let mut taken = Vec::new();
        until(events, |packet| {
            if let Packet::Publish(publish) = packet {
                let topic = String::from_utf8(publish.topic.to_vec()).unwrap();
                taken.push((topic, String::from_utf8(publish.payload.to_vec()).unwrap()));
            }
            taken.len() == COUNT
        })
        .await;
        taken
    }
}

/// Both topics have their messages in the order of sending; nothing is promised between topics of different QoS.
fn check(taken: &[(String, String)], who: &str) {
    for lane in 0..2 {
        let topic = format!("对话/{lane}");
        let got: Vec<_> =
            taken.iter().filter(|(on, _)| *on == topic).map(|(_, payload)| payload.clone()).collect();
        let wanted: Vec<_> = (0..COUNT).filter(|n| n % 2 == lane).map(payload).collect();
        assert_eq!(got, wanted, "{who}: {topic}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_both_versions_hear_publishers_of_both_versions() {
    let reveille = Reveille::start_broker_with("");
    let broker = reveille.mqtt();
    let (old, mut old_events) = v4::connect(broker, "v4-subscriber", true);
    v4::subscribe(&old, &mut old_events, "对话/#").await;
    let (new, mut new_events) = v5::connect(broker, "v5-subscriber", true);
    v5::subscribe(&new, &mut new_events, "对话/#").await;

    v4::send_all(broker).await;
    check(&v4::take_all(&mut old_events).await, "v4 to v4");
    check(&v5::take_all(&mut new_events).await, "v4 to v5");
    v5::send_all(broker).await;
    check(&v4::take_all(&mut old_events).await, "v5 to v4");
    check(&v5::take_all(&mut new_events).await, "v5 to v5");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_both_versions_drain_what_came_while_they_slept_through_a_kill() {
    let mut reveille = Reveille::start_broker_with("");
    let broker = reveille.mqtt();
    {
        let (old, mut old_events) = v4::connect(broker, "v4-sleeper", false);
        v4::subscribe(&old, &mut old_events, "对话/#").await;
        let (new, mut new_events) = v5::connect(broker, "v5-sleeper", false);
        v5::subscribe(&new, &mut new_events, "对话/#").await;
    } // both vanish without DISCONNECT
    v5::send_all(broker).await;
    reveille.kill();
    reveille.start_again();

    let (_old, mut old_events) = v4::connect(broker, "v4-sleeper", false);
    check(&v4::take_all(&mut old_events).await, "v4");
    let (_new, mut new_events) = v5::connect(broker, "v5-sleeper", false);
    check(&v5::take_all(&mut new_events).await, "v5");
}
