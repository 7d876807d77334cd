//! A client library that we did not write agrees with us.

use crate::broker;
use crate::client::PATIENCE;
use rumqttc::{Client, Event, MqttOptions, Packet, QoS, v5};
use std::net::SocketAddr;

fn receive_v4(address: SocketAddr, count: usize) -> Vec<String> {
    let mut options = MqttOptions::new("rumqttc-4", address.ip().to_string(), address.port());
    options.set_keep_alive(PATIENCE);
    let (client, mut events) = Client::new(options, 16);
    client.subscribe("r/+", QoS::AtLeastOnce).unwrap();
    let mut got = Vec::new();
    for event in events.iter() {
        match event.unwrap() {
            Event::Incoming(Packet::SubAck(_)) => {
                (0..count)
                    .for_each(|no| client.publish(format!("r/{no}"), QoS::ExactlyOnce, false, "x").unwrap());
            }
            Event::Incoming(Packet::Publish(publish)) => got.push(publish.topic),
            _ => {}
        }
        if got.len() == count {
            client.disconnect().unwrap();
            break;
        }
    }
    got
}

fn receive_v5(address: SocketAddr, count: usize) -> Vec<String> {
    let mut options = v5::MqttOptions::new("rumqttc-5", address.ip().to_string(), address.port());
    options.set_keep_alive(PATIENCE);
    let (client, mut events) = v5::Client::new(options, 16);
    client.subscribe("r/+", v5::mqttbytes::QoS::AtLeastOnce).unwrap();
    let mut got = Vec::new();
    for event in events.iter() {
        match event.unwrap() {
            v5::Event::Incoming(v5::Incoming::SubAck(_)) => (0..count).for_each(|no| {
                client.publish(format!("r/{no}"), v5::mqttbytes::QoS::ExactlyOnce, false, "x").unwrap();
            }),
            v5::Event::Incoming(v5::Incoming::Publish(publish)) => {
                got.push(String::from_utf8(publish.topic.to_vec()).unwrap());
            }
            _ => {}
        }
        if got.len() == count {
            client.disconnect().unwrap();
            break;
        }
    }
    got
}

#[test]
fn rumqttc_receives_what_it_publishes_in_both_versions() {
    const COUNT: usize = 10;
    let wanted: Vec<String> = (0..COUNT).map(|no| format!("r/{no}")).collect();
    let broker = broker("");
    assert_eq!(receive_v4(broker.mqtt_addr(), COUNT), wanted);
    assert_eq!(receive_v5(broker.mqtt_addr(), COUNT), wanted);
}
