//! The matrix: each client over each transport that it has, in 3.1.1 and 5.0.

use crate::agent::{Agent, Endpoint, Message, Order, Transport};
use crate::matrix::Bench;
use crate::rumqtt_agent;
use reveille_tests::certificates::Certificates;
use reveille_tests::program::Reveille;
use tempfile::TempDir;

const VERSIONS: [u8; 2] = [4, 5]; // 4 is the protocol level of 3.1.1

/// A broker with a listener of each kind, and what its clients must know.
pub struct Venue {
    pub reveille: Reveille,
    certificates: Certificates,
    _directory: TempDir,
}

impl Venue {
    pub fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let certificates = Certificates::generate(directory.path());
        let listener = |name: &str| {
            format!("[[broker.listeners]]\nname = \"{name}\"\nkind = \"{name}\"\naddress = \"127.0.0.1:0\"\n")
        };
        let files = format!(
            "certificate = \"{}\"\nkey = \"{}\"\n",
            certificates.certificate.display(),
            certificates.key.display()
        );
        let config = [listener("tls"), files.clone(), listener("ws"), listener("wss"), files].concat();
        Self { reveille: Reveille::start_broker_with(&config), certificates, _directory: directory }
    }

    pub fn endpoint(&self, transport: Transport) -> Endpoint {
        let address = match transport {
            Transport::Tcp => self.reveille.mqtt(),
            Transport::Tls => self.reveille.listener("tls"),
            Transport::WebSocket => self.reveille.listener("ws"),
            Transport::SecureWebSocket => self.reveille.listener("wss"),
        };
        let has_tls = matches!(transport, Transport::Tls | Transport::SecureWebSocket);
        let authority = has_tls.then(|| self.certificates.authority.clone());
        Endpoint { transport, address, authority }
    }
}

fn run(mut agent: Agent, transport: Transport) {
    for version in VERSIONS {
        let venue = Venue::open();
        let endpoint = venue.endpoint(transport);
        Bench { agent: &mut agent, endpoint: &endpoint, version }.run();
    }
}

/// A page trusts one key, so there is one browser for each broker.
fn run_in_chromium(transport: Transport) {
    for version in VERSIONS {
        let (venue, profile) = (Venue::open(), tempfile::tempdir().unwrap());
        let endpoint = venue.endpoint(transport);
        let mut agent = Agent::chromium(profile.path(), &venue.certificates.public_key_hash);
        Bench { agent: &mut agent, endpoint: &endpoint, version }.run();
    }
}

/// One test for each client and transport, so that a failure says which.
macro_rules! matrix {
    ($($name:ident: $agent:expr, $transport:ident;)*) => {
        $(#[test]
        fn $name() {
            run($agent, Transport::$transport);
        })*
    };
}

matrix! {
    paho_over_tcp: Agent::python("paho_agent.py"), Tcp;
    paho_over_tls: Agent::python("paho_agent.py"), Tls;
    paho_over_websocket: Agent::python("paho_agent.py"), WebSocket;
    paho_over_secure_websocket: Agent::python("paho_agent.py"), SecureWebSocket;
    aiomqtt_over_tcp: Agent::python("aiomqtt_agent.py"), Tcp;
    aiomqtt_over_tls: Agent::python("aiomqtt_agent.py"), Tls;
    aiomqtt_over_websocket: Agent::python("aiomqtt_agent.py"), WebSocket;
    aiomqtt_over_secure_websocket: Agent::python("aiomqtt_agent.py"), SecureWebSocket;
    mqtt_js_over_tcp: Agent::node("node_agent.cjs"), Tcp;
    mqtt_js_over_tls: Agent::node("node_agent.cjs"), Tls;
    mqtt_js_over_websocket: Agent::node("node_agent.cjs"), WebSocket;
    mqtt_js_over_secure_websocket: Agent::node("node_agent.cjs"), SecureWebSocket;
    rumqttc_over_tcp: rumqtt_agent::start(), Tcp;
    rumqttc_over_tls: rumqtt_agent::start(), Tls;
    rumqttc_over_websocket: rumqtt_agent::start(), WebSocket;
    rumqttc_over_secure_websocket: rumqtt_agent::start(), SecureWebSocket;
}

#[test]
fn a_page_in_chromium_over_websocket() {
    run_in_chromium(Transport::WebSocket);
}

#[test]
fn a_page_in_chromium_over_secure_websocket() {
    run_in_chromium(Transport::SecureWebSocket);
}

/// Every client on one broker, each over another transport or in another version, and everybody hears everybody.
#[test]
fn every_client_hears_every_other() {
    let (venue, profile) = (Venue::open(), tempfile::tempdir().unwrap());
    let chromium = Agent::chromium(profile.path(), &venue.certificates.public_key_hash);
    let mut crowd = [
        ("rumqttc", rumqtt_agent::start(), Transport::Tcp, 5),
        ("rumqttc-old", rumqtt_agent::start(), Transport::SecureWebSocket, 4),
        ("paho", Agent::python("paho_agent.py"), Transport::Tls, 4),
        ("aiomqtt", Agent::python("aiomqtt_agent.py"), Transport::WebSocket, 5),
        ("mqtt-js", Agent::node("node_agent.cjs"), Transport::Tls, 5),
        ("chromium", chromium, Transport::SecureWebSocket, 5),
        ("mqtt-js-old", Agent::node("node_agent.cjs"), Transport::WebSocket, 4),
    ];
    for (name, agent, transport, version) in &mut crowd {
        let login = crate::agent::Login::new(&venue.endpoint(*transport), *version);
        agent.carry_out(Order::Connect { client: (*name).to_owned(), login });
        agent.carry_out(Order::Subscribe { client: (*name).to_owned(), filter: "众/+".to_owned(), qos: 2 });
    }
    for speaker in 0..crowd.len() {
        let (name, agent, ..) = &mut crowd[speaker];
        let message = Message::new(&format!("众/{name}"), 2, "大家好");
        agent.carry_out(Order::Publish { client: (*name).to_owned(), message: message.clone() });
        for (listener, agent, ..) in &mut crowd {
            assert_eq!(agent.take(listener), message, "{listener}");
        }
    }
}
