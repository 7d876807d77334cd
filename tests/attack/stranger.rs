//! A hostile client. Whatever the broker does to it is fine: it goes on until it is thrown out.

use bytes::BytesMut;
use reveille_proto::ids::PacketId;
use reveille_proto::mqtt::{
    Connect, ConnectProperties, Packet, Publish, PublishProperties, QoS, Subscribe, SubscriptionOptions,
    Version, read,
};
use reveille_proto::topic::TopicName;
use socket2::{Domain, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::Duration;

/// How long it presses against a broker that does not read it any more, before it gives up.
const STUBBORNNESS: Duration = Duration::from_secs(2);

/// How long it waits for an answer.
const WAIT: Duration = Duration::from_secs(30);

pub struct Stranger {
    pub socket: TcpStream,
    unread: BytesMut,
    version: Version,
}

/// What became of bytes that were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    Taken,
    /// The broker reads no more, or has hung up.
    Refused,
}

impl Stranger {
    /// From an address of its own in 127.0.0.0/8: ports of one address would run out.
    pub fn dial(broker: SocketAddr, number: usize) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let [_, high, middle, low] = u32::try_from(number).unwrap().to_be_bytes();
        let address = Ipv4Addr::new(127, 1 + high, middle, low.max(1));
        socket.bind(&SocketAddrV4::new(address, 0).into())?;
        socket.connect_timeout(&broker.into(), WAIT)?;
        let socket = TcpStream::from(socket);
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(STUBBORNNESS))?;
        socket.set_read_timeout(Some(WAIT))?;
        Ok(Self { socket, unread: BytesMut::new(), version: Version::V5 })
    }

    /// Connects and waits for CONNACK; says whether it was let in.
    pub fn log_in(&mut self, connect: Connect) -> bool {
        self.version = connect.version;
        self.send(&Packet::Connect(Box::new(connect))) == Sent::Taken
            && matches!(self.receive(), Some(Packet::ConnAck(answer)) if !answer.reason.is_failure())
    }

    pub fn send(&mut self, packet: &Packet) -> Sent {
        let mut bytes = BytesMut::new();
        packet.write(self.version, &mut bytes).unwrap();
        self.send_bytes(&bytes)
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) -> Sent {
        match self.socket.write_all(bytes) {
            Ok(()) => Sent::Taken,
            Err(_) => Sent::Refused,
        }
    }

    /// The next packet, or nothing when the broker hung up.
    pub fn receive(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = read(&mut self.unread, Some(self.version), u32::MAX).unwrap() {
                return Some(packet);
            }
            let mut chunk = [0; 4096];
            match self.socket.read(&mut chunk) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.unread.extend_from_slice(&chunk[..count]),
            }
        }
    }

    /// Reads what comes and throws it away until the broker hangs up; says whether it did.
    pub fn wait_end(&mut self) -> bool {
        let mut chunk = [0; 4096];
        loop {
            match self.socket.read(&mut chunk) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return false;
                }
                Err(_) => return true,
            }
        }
    }

    pub fn subscribe(&mut self, filters: &[String], qos: QoS) -> Sent {
        let options = SubscriptionOptions { qos, ..Default::default() };
        let filters = filters.iter().map(|filter| (filter.as_str().into(), options)).collect();
        let subscribe = Subscribe {
            packet_id: PacketId::new(1).unwrap(),
            subscription_identifier: None,
            user_properties: Vec::new(),
            filters,
        };
        self.send(&Packet::Subscribe(Box::new(subscribe)))
    }
}

/// A CONNECT of version 5 with a clean session.
pub fn connect(client_id: &str) -> Connect {
    Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive: 0,
        client_id: client_id.into(),
        will: None,
        username: None,
        password: None,
        properties: ConnectProperties::default(),
    }
}

/// The same with a session that stays for as long as it is allowed to.
pub fn durable(client_id: &str) -> Connect {
    let properties = ConnectProperties { session_expiry_interval: Some(u32::MAX), ..Default::default() };
    Connect { properties, ..connect(client_id) }
}

pub fn message(topic: &str, payload: Vec<u8>, qos: QoS, packet_id: u16) -> Publish {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: Some(TopicName::parse(topic).unwrap()),
        packet_id: PacketId::new(packet_id).filter(|_| qos > QoS::AtMostOnce),
        properties: PublishProperties::default(),
        payload: payload.into(),
    }
}

/// Numbers that are the same in each run.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(sides.max(1)).unwrap()).unwrap()
    }
}
