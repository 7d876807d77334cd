//! The matrix: each client over each transport that it has, in 3.1.1 and 5.0.

use crate::agent::{Agent, Endpoint, Transport};
use crate::matrix::Bench;
use crate::rumqtt_agent;
use reveille_tests::program::Reveille;

const VERSIONS: [u8; 2] = [4, 5]; // 4 is the protocol level of 3.1.1

/// A broker with one listener more, as the transport wants.
fn broker(transport: Transport) -> (Reveille, Endpoint) {
    assert_eq!(transport, Transport::Tcp);
    let reveille = Reveille::start_broker_with("");
    let address = reveille.mqtt();
    (reveille, Endpoint { transport, address, authority: None })
}

fn run(mut agent: Agent, transport: Transport) {
    for version in VERSIONS {
        let (reveille, endpoint) = broker(transport);
        Bench { agent: &mut agent, endpoint: &endpoint, version }.run();
        drop(reveille);
    }
}

#[test]
fn paho_over_tcp() {
    run(Agent::python("paho_agent.py"), Transport::Tcp);
}

#[test]
fn aiomqtt_over_tcp() {
    run(Agent::python("aiomqtt_agent.py"), Transport::Tcp);
}

#[test]
fn mqtt_js_over_tcp() {
    run(Agent::node("node_agent.cjs"), Transport::Tcp);
}

#[test]
fn rumqttc_over_tcp() {
    run(rumqtt_agent::start(), Transport::Tcp);
}
