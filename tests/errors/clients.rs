//! What goes wrong on one connection, while a healthy client beside it is served on.

use bytes::Bytes;
use reveille_proto::mqtt::{Packet, QoS, Version};
use reveille_proto::reason::ReasonCode;
use reveille_tests::mqtt::{Client, Options, publish};
use reveille_tests::program::Reveille;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

/// A client beside the trouble: it must be served before, during and after.
struct Neighbour(Client);

impl Neighbour {
    fn connect(broker: SocketAddr) -> Self {
        let mut client = Client::connect(broker, &Options::clean("neighbour"));
        client.subscribe("邻居", QoS::AtLeastOnce);
        Self(client)
    }

    /// Publishes to itself and must hear it; the acknowledgement may come before or after.
    fn check(&mut self, after: &str) {
        let packet_id = self.0.fresh_id();
        let text = Bytes::copy_from_slice(after.as_bytes());
        self.0.send(&publish("邻居", text.clone(), QoS::AtLeastOnce, Some(packet_id), false)).unwrap();
        let (mut is_acknowledged, mut is_heard) = (false, false);
        while !(is_acknowledged && is_heard) {
            match self.0.receive().unwrap() {
                Packet::PubAck(ack) => {
                    is_acknowledged = ack.packet_id == packet_id && !ack.reason.is_failure()
                }
                Packet::Publish(publish) => {
                    is_heard = publish.payload == text;
                    let ack = reveille_proto::mqtt::Ack::new(publish.packet_id.unwrap(), ReasonCode::SUCCESS);
                    self.0.send(&Packet::PubAck(ack)).unwrap();
                }
                other => panic!("after {after}: {other:?}"),
            }
        }
    }
}

#[test]
fn malformed_packets_end_their_connection_with_a_reason_and_nobody_elses() {
    const MALFORMED: ReasonCode = ReasonCode::MALFORMED_PACKET;
    const PROTOCOL: ReasonCode = ReasonCode::PROTOCOL_ERROR;
    let rows: [(&str, &[u8], &[ReasonCode]); 12] = [
        ("reserved packet type 0", &[0x00, 0x00], &[MALFORMED]),
        ("SUBSCRIBE with wrong flags", &[0x80, 0x07, 0, 1, 0, 0, 1, b'a', 0], &[MALFORMED]),
        ("SUBSCRIBE without a filter", &[0x82, 0x03, 0, 1, 0], &[PROTOCOL, MALFORMED]),
        ("PUBLISH with QoS 3", &[0x36, 0x06, 0, 1, b'a', 0, 1, 0], &[MALFORMED]),
        ("PUBLISH to a wildcard", &[0x30, 0x04, 0, 1, b'#', 0], &[ReasonCode::TOPIC_NAME_INVALID, MALFORMED]),
        ("PUBLISH with packet identifier 0", &[0x32, 0x06, 0, 1, b'a', 0, 0, 0], &[PROTOCOL, MALFORMED]),
        ("PUBLISH with a topic that is no UTF-8", &[0x30, 0x04, 0, 1, 0xff, 0], &[MALFORMED]),
        ("PUBLISH with a property twice", &[0x30, 0x08, 0, 1, b'a', 4, 1, 0, 1, 0], &[PROTOCOL]),
        ("PINGREQ with a body", &[0xc0, 0x01, 0], &[MALFORMED]),
        ("a remaining length of five bytes", &[0x30, 0xff, 0xff, 0xff, 0xff, 0x01], &[MALFORMED]),
        ("a packet above the bound", &[0x30, 0xff, 0xff, 0xff, 0x7f], &[ReasonCode::PACKET_TOO_LARGE]),
        ("a second CONNECT", &[0x10, 0x0d, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 0, 0, 0], &[PROTOCOL]),
    ];
    let reveille = Reveille::start_broker_with("");
    let mut neighbour = Neighbour::connect(reveille.mqtt());
    for (name, bytes, wanted) in rows {
        let mut client = Client::connect(reveille.mqtt(), &Options::clean("bad"));
        client.send_bytes(bytes).unwrap();
        let reason = client.wait_end();
        assert!(reason.is_some_and(|reason| wanted.contains(&reason)), "{name}: {reason:?}");
        neighbour.check(name);
    }
}

#[test]
fn bytes_that_are_no_connect_end_the_connection_without_harm() {
    let connect_bad_protocol = [0x10, 0x0c, 0, 4, b'M', b'Q', b'X', b'X', 4, 2, 0, 0, 0, 0];
    let rows: [(&str, &[u8]); 5] = [
        ("HTTP", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"),
        ("TLS", &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00]),
        ("a PUBLISH first", &[0x30, 0x04, 0, 1, b'a', 0]),
        ("an unknown protocol", &connect_bad_protocol),
        ("CONNACK from a client", &[0x20, 0x02, 0, 0]),
    ];
    let reveille = Reveille::start_broker_with("");
    let mut neighbour = Neighbour::connect(reveille.mqtt());
    for (name, bytes) in rows {
        let mut socket = TcpStream::connect(reveille.mqtt()).unwrap();
        socket.set_read_timeout(Some(reveille_tests::PATIENCE)).unwrap();
        socket.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        match socket.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{name}: {error}"),
        }
        assert!(answer.len() < 64, "{name}: {answer:?}");
        neighbour.check(name);
    }
}

#[test]
fn a_version_that_does_not_exist_is_refused_in_words_of_the_protocol() {
    let reveille = Reveille::start_broker_with("");
    let mut socket = TcpStream::connect(reveille.mqtt()).unwrap();
    socket.set_read_timeout(Some(reveille_tests::PATIENCE)).unwrap();
    socket.write_all(&[0x10, 0x0c, 0, 4, b'M', b'Q', b'T', b'T', 6, 2, 0, 0, 0, 0]).unwrap();
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    assert_eq!(answer.first(), Some(&0x20), "{answer:?}: a CONNACK");
    assert!(matches!(answer.get(3), Some(0x01 | 0x84)), "{answer:?}: unsupported protocol version");
}

#[test]
fn a_full_queue_refuses_with_a_reason_code_and_keeps_what_it_has() {
    let config = "[broker.limits]\nqueue_messages_max = 5\n";
    let reveille = Reveille::start_broker_with(config);
    let broker = reveille.mqtt();
    let mut neighbour = Neighbour::connect(broker);
    let mut sleeper = Client::connect(broker, &Options::persistent("sleeper"));
    sleeper.subscribe("满", QoS::ExactlyOnce);
    sleeper.disconnect();
    let mut publisher = Client::connect(broker, &Options::clean("publisher"));
    for n in 0..5 {
        assert!(!publisher.publish("满", n.to_string(), QoS::AtLeastOnce).is_failure(), "{n}");
    }
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        assert_eq!(publisher.publish("满", "too much", qos), ReasonCode::QUOTA_EXCEEDED, "{qos:?}");
    }
    neighbour.check("a full queue");
    let mut sleeper = Client::connect(broker, &Options::persistent("sleeper"));
    for n in 0..5 {
        assert_eq!(sleeper.take().payload, n.to_string());
    }
    assert_eq!(sleeper.ping(), [], "what was refused was not delivered");
    assert!(!publisher.publish("满", "room again", QoS::AtLeastOnce).is_failure());
    assert_eq!(sleeper.take().payload, "room again");
}

#[test]
fn a_client_id_in_use_is_taken_over_with_a_reason() {
    let reveille = Reveille::start_broker_with("");
    let mut old = Client::connect(reveille.mqtt(), &Options::persistent("same"));
    old.subscribe("接管", QoS::AtLeastOnce);
    let mut new = Client::connect(reveille.mqtt(), &Options::persistent("same"));
    assert!(new.session_present());
    assert_eq!(old.wait_end(), Some(ReasonCode::SESSION_TAKEN_OVER));
    let mut other = Client::connect(reveille.mqtt(), &Options::clean("other"));
    assert!(!other.publish("接管", "for the new one", QoS::AtLeastOnce).is_failure());
    assert_eq!(new.take().payload, "for the new one");
}

#[test]
fn a_slow_reader_of_qos_0_keeps_nobody_waiting() {
    let reveille = Reveille::start_broker_with("");
    let mut lazy = Client::connect(reveille.mqtt(), &Options::of_version(Version::V3_1_1, "lazy", true));
    lazy.subscribe("洪水", QoS::AtMostOnce);
    let mut neighbour = Neighbour::connect(reveille.mqtt());
    let mut flood = Client::connect(reveille.mqtt(), &Options::clean("flood"));
    let payload = Bytes::from(vec![b'x'; 64 * 1024]);
    for _ in 0..400 {
        flood.send(&publish("洪水", payload.clone(), QoS::AtMostOnce, None, false)).unwrap();
    }
    assert_eq!(flood.ping(), [], "the publisher is not held up");
    neighbour.check("a flood to a slow reader");
    let arrived = lazy.ping().len();
    assert!((1..400).contains(&arrived), "{arrived} of 400: the connection lives, and memory had a bound");
}
