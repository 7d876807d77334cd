//! A client that does exactly what a test tells it, packet by packet, and never waits for ever.

use bytes::BytesMut;
use reveille_proto::ids::PacketId;
use reveille_proto::mqtt::{
    self, Ack, ConnAck, Connect, ConnectProperties, Packet, Publish, PublishProperties, QoS, Subscribe,
    SubscriptionOptions, Version,
};
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::TopicName;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than anything takes on a busy machine; no test waits for it unless it fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// `S`: whatever carries its bytes.
pub struct Client<S = TcpStream> {
    pub socket: S,
    unread: BytesMut,
    version: Version,
}

pub fn connect(version: Version, client_id: &str, clean_start: bool) -> Connect {
    Connect {
        version,
        clean_start,
        keep_alive: 60,
        client_id: client_id.into(),
        will: None,
        username: None,
        password: None,
        properties: ConnectProperties::default(),
    }
}

/// A session that outlives its connection.
pub fn durable(version: Version, client_id: &str) -> Connect {
    let mut connect = connect(version, client_id, false);
    connect.properties.session_expiry_interval = (version == Version::V5).then_some(3600);
    connect
}

pub fn publish(topic: &str, payload: &[u8], qos: QoS, packet_id: u16) -> Packet {
    Packet::Publish(Box::new(Publish {
        dup: false,
        qos,
        retain: false,
        topic: Some(TopicName::parse(topic).unwrap()),
        packet_id: PacketId::new(packet_id),
        properties: PublishProperties::default(),
        payload: payload.to_vec().into(),
    }))
}

impl Client {
    /// A socket on which nothing was said yet.
    pub fn socket(address: SocketAddr, version: Version) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket, unread: BytesMut::new(), version }
    }

    /// Sends CONNECT and returns the CONNACK, whatever it says.
    pub fn open(address: SocketAddr, connect: Connect) -> (Self, ConnAck) {
        let mut client = Self::socket(address, connect.version);
        client.send(&Packet::Connect(Box::new(connect)));
        let Packet::ConnAck(connack) = client.receive() else { panic!("no CONNACK") };
        (client, *connack)
    }

    /// A connection that was accepted.
    pub fn connect(address: SocketAddr, connect: Connect) -> Self {
        let (client, connack) = Self::open(address, connect);
        assert_eq!(connack.reason, ReasonCode::SUCCESS);
        client
    }

    /// Ends as a phone in a tunnel does: without a word.
    pub fn cut(self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl<S: Read + Write> Client<S> {
    /// Sends CONNECT over what the test opened, and returns the CONNACK.
    pub fn over(socket: S, connect: Connect) -> (Self, ConnAck) {
        let mut client = Self { socket, unread: BytesMut::new(), version: connect.version };
        client.send(&Packet::Connect(Box::new(connect)));
        let Packet::ConnAck(connack) = client.receive() else { panic!("no CONNACK") };
        (client, *connack)
    }

    pub fn send(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        packet.write(self.version, &mut bytes).unwrap();
        self.socket.write_all(&bytes).unwrap();
    }

    pub fn send_all(&mut self, packets: &[Packet]) {
        let mut bytes = BytesMut::new();
        for packet in packets {
            packet.write(self.version, &mut bytes).unwrap();
        }
        self.socket.write_all(&bytes).unwrap();
    }

    /// The next packet.
    pub fn receive(&mut self) -> Packet {
        self.receive_or_end().expect("the broker closed the connection")
    }

    /// The next packet, or `None` when the broker closed the connection.
    pub fn receive_or_end(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = mqtt::read(&mut self.unread, Some(self.version), u32::MAX).unwrap() {
                return Some(packet);
            }
            let mut buffer = [0; 16 << 10];
            match self.socket.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    /// The next packet, which is a PUBLISH. The caller acknowledges it.
    pub fn receive_publish(&mut self) -> Publish {
        match self.receive() {
            Packet::Publish(publish) => *publish,
            other => panic!("{other:?} instead of a PUBLISH"),
        }
    }

    pub fn subscribe(&mut self, filter: &str, qos: QoS) {
        let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
        let packet_id = PacketId::new(7).unwrap();
        self.send(&Packet::Subscribe(Box::new(Subscribe {
            packet_id,
            subscription_identifier: None,
            user_properties: Vec::new(),
            filters: vec![(filter.into(), options)],
        })));
        let Packet::SubAck(suback) = self.receive() else { panic!("no SUBACK") };
        assert_eq!(suback.packet_id, packet_id);
        assert_eq!(suback.reasons.iter().map(|reason| reason.get()).collect::<Vec<_>>(), [qos as u8]);
    }

    /// Publishes with QoS 1 and waits for the PUBACK.
    pub fn publish(&mut self, topic: &str, payload: &[u8], packet_id: u16) -> ReasonCode {
        self.send(&publish(topic, payload, QoS::AtLeastOnce, packet_id));
        match self.receive() {
            Packet::PubAck(ack) if ack.packet_id.get() == packet_id => ack.reason,
            other => panic!("{other:?} instead of PUBACK {packet_id}"),
        }
    }

    pub fn acknowledge(&mut self, publish: &Publish) {
        let packet_id = publish.packet_id.expect("QoS 1 has a packet identifier");
        self.send(&Packet::PubAck(Ack::new(packet_id, ReasonCode::SUCCESS)));
    }

    /// A round trip: everything sent before was handled.
    pub fn ping(&mut self) {
        self.send(&Packet::PingReq);
        assert_eq!(self.receive(), Packet::PingResp);
    }
}
