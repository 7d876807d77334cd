//! A strict MQTT client that does nothing by itself: each packet is sent and acknowledged by the test.
//!
//! Whatever the broker sends goes through the same strict reader that the broker uses for its clients.

use crate::PATIENCE;
use bytes::{Bytes, BytesMut};
use reveille_proto::ids::PacketId;
use reveille_proto::mqtt::{
    Ack, ConnAck, Connect, ConnectProperties, Disconnect, Packet, Publish, PublishProperties, QoS, Subscribe,
    SubscriptionOptions, Version, Will, read,
};
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::TopicName;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// No packet of a test is longer.
const PACKET_MAX: u32 = 4 << 20;

/// How to connect.
#[derive(Clone, Debug)]
pub struct Options {
    /// The CONNECT as it will be sent.
    pub connect: Connect,
}

impl Options {
    /// MQTT 5, a session that stays for a day, keep alive off.
    pub fn persistent(client_id: &str) -> Self {
        let properties = ConnectProperties { session_expiry_interval: Some(86_400), ..Default::default() };
        Self::new(Version::V5, client_id, false, properties)
    }

    /// MQTT 5, a session that ends with the connection, keep alive off.
    pub fn clean(client_id: &str) -> Self {
        Self::new(Version::V5, client_id, true, ConnectProperties::default())
    }

    /// Another version, clean or not.
    pub fn of_version(version: Version, client_id: &str, clean_start: bool) -> Self {
        Self::new(version, client_id, clean_start, ConnectProperties::default())
    }

    fn new(version: Version, client_id: &str, clean_start: bool, properties: ConnectProperties) -> Self {
        let connect = Connect {
            version,
            clean_start,
            keep_alive: 0,
            client_id: client_id.into(),
            will: None,
            username: None,
            password: None,
            properties,
        };
        Self { connect }
    }

    /// With a will.
    pub fn will(mut self, topic: &str, payload: &str, qos: QoS) -> Self {
        self.connect.will = Some(Will {
            topic: TopicName::parse(topic).unwrap(),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            qos,
            retain: false,
            delay_interval: None,
            properties: PublishProperties::default(),
        });
        self
    }

    /// At most so many messages in flight towards this client.
    pub fn receive_maximum(mut self, receive_maximum: u16) -> Self {
        self.connect.properties.receive_maximum = Some(receive_maximum);
        self
    }
}

/// Why no packet came.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The connection is gone.
    #[error("the connection is gone: {0}")]
    Lost(#[from] io::Error),
    /// Nothing came in time.
    #[error("nothing came in time")]
    Late,
}

/// One network connection, after CONNACK.
#[derive(Debug)]
pub struct Client {
    socket: TcpStream,
    buffer: BytesMut,
    version: Version,
    next_id: u16,
    /// The broker's answer to CONNECT.
    pub connack: ConnAck,
}

impl Client {
    /// Connects and reads CONNACK, whatever it says.
    ///
    /// # Errors
    /// [`ReceiveError`] when the connection ends before CONNACK.
    pub fn try_connect(address: SocketAddr, options: &Options) -> Result<Self, ReceiveError> {
        Self::try_connect_on(TcpStream::connect_timeout(&address, PATIENCE)?, options)
    }

    /// The same on a socket that is connected already.
    ///
    /// # Errors
    /// As [`Client::try_connect`].
    pub fn try_connect_on(socket: TcpStream, options: &Options) -> Result<Self, ReceiveError> {
        socket.set_nodelay(true)?;
        let version = options.connect.version;
        let nothing =
            ConnAck { session_present: false, reason: ReasonCode::SUCCESS, properties: Default::default() };
        let mut client = Self { socket, buffer: BytesMut::new(), version, next_id: 0, connack: nothing };
        client.send(&Packet::Connect(Box::new(options.connect.clone())))?;
        match client.receive()? {
            Packet::ConnAck(connack) => client.connack = *connack,
            other => panic!("CONNECT was answered with {other:?}"),
        }
        Ok(client)
    }

    /// Connects; panics when the broker refuses.
    pub fn connect(address: SocketAddr, options: &Options) -> Self {
        let client = Self::try_connect(address, options).unwrap();
        assert_eq!(client.connack.reason, ReasonCode::SUCCESS);
        client
    }

    /// Whether the broker had the session already.
    pub fn session_present(&self) -> bool {
        self.connack.session_present
    }

    /// A packet identifier that was not used lately.
    pub fn fresh_id(&mut self) -> PacketId {
        self.next_id = self.next_id % u16::MAX + 1;
        PacketId::new(self.next_id).unwrap()
    }

    /// Sends any packet, also one that makes no sense now.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send(&mut self, packet: &Packet) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        packet.write(self.version, &mut bytes).expect("a packet that fits");
        self.send_bytes(&bytes)
    }

    /// Sends bytes that need not be a packet.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// The next packet, within [`PATIENCE`].
    ///
    /// # Errors
    /// [`ReceiveError`]; a malformed packet of the broker panics instead.
    pub fn receive(&mut self) -> Result<Packet, ReceiveError> {
        self.receive_within(PATIENCE)
    }

    /// The next packet, within a time.
    ///
    /// # Errors
    /// As [`Client::receive`].
    pub fn receive_within(&mut self, patience: Duration) -> Result<Packet, ReceiveError> {
        let end = Instant::now() + patience;
        loop {
            match read(&mut self.buffer, Some(self.version), PACKET_MAX) {
                Ok(Some(packet)) => return Ok(packet),
                Ok(None) => self.read_more(end)?,
                Err(malformed) => panic!("the broker sent a malformed packet: {malformed:?}"),
            }
        }
    }

    fn read_more(&mut self, end: Instant) -> Result<(), ReceiveError> {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ReceiveError::Late);
        }
        self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let mut chunk = [0; 16 * 1024];
        match self.socket.read(&mut chunk) {
            Ok(0) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(size) => {
                self.buffer.extend_from_slice(&chunk[..size]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Err(ReceiveError::Late)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Subscribes and waits for SUBACK; messages that come in between are lost to the test, so subscribe first.
    pub fn subscribe(&mut self, filter: &str, qos: QoS) -> ReasonCode {
        let options = SubscriptionOptions { qos, ..Default::default() };
        let packet_id = self.fresh_id();
        let subscribe = Subscribe {
            packet_id,
            subscription_identifier: None,
            user_properties: Vec::new(),
            filters: vec![(filter.into(), options)],
        };
        self.send(&Packet::Subscribe(Box::new(subscribe))).unwrap();
        loop {
            if let Packet::SubAck(suback) = self.receive().unwrap() {
                assert_eq!(suback.packet_id, packet_id);
                return suback.reasons[0];
            }
        }
    }

    /// Publishes with QoS 1 or 2 and walks the exchange to its end; the first reason that the broker gave.
    pub fn publish(&mut self, topic: &str, payload: impl Into<Bytes>, qos: QoS) -> ReasonCode {
        let packet_id = self.fresh_id();
        self.send(&publish(topic, payload.into(), qos, Some(packet_id), false)).unwrap();
        loop {
            match self.receive().unwrap() {
                Packet::PubAck(ack) if ack.packet_id == packet_id => return ack.reason,
                Packet::PubRec(ack) if ack.packet_id == packet_id && ack.reason.is_failure() => {
                    return ack.reason;
                }
                Packet::PubRec(ack) if ack.packet_id == packet_id => {
                    self.send(&Packet::PubRel(Ack::new(packet_id, ReasonCode::SUCCESS))).unwrap();
                }
                Packet::PubComp(ack) if ack.packet_id == packet_id => return ReasonCode::SUCCESS,
                _ => {}
            }
        }
    }

    /// The next PUBLISH, acknowledged as its QoS wants; QoS 2 to its end.
    pub fn take(&mut self) -> Publish {
        loop {
            if let Packet::Publish(publish) = self.receive().unwrap() {
                self.acknowledge(&publish);
                return *publish;
            }
        }
    }

    fn acknowledge(&mut self, publish: &Publish) {
        let Some(packet_id) = publish.packet_id else { return };
        let ack = Ack::new(packet_id, ReasonCode::SUCCESS);
        if publish.qos == QoS::AtLeastOnce {
            return self.send(&Packet::PubAck(ack)).unwrap();
        }
        self.send(&Packet::PubRec(ack.clone())).unwrap();
        loop {
            if let Packet::PubRel(released) = self.receive().unwrap() {
                assert_eq!(released.packet_id, packet_id, "released in the order of delivery");
                return self.send(&Packet::PubComp(ack)).unwrap();
            }
        }
    }

    /// PINGREQ, and waits for PINGRESP; the PUBLISHes that came before it.
    ///
    /// The broker writes in order, so afterwards nothing that was due before is still on its way.
    pub fn ping(&mut self) -> Vec<Publish> {
        self.send(&Packet::PingReq).unwrap();
        let mut before = Vec::new();
        loop {
            match self.receive().unwrap() {
                Packet::PingResp => return before,
                Packet::Publish(publish) => before.push(*publish),
                _ => {}
            }
        }
    }

    /// Waits until the broker ends the connection; its reason when it gave one.
    pub fn wait_end(&mut self) -> Option<ReasonCode> {
        let mut reason = None;
        loop {
            match self.receive() {
                Ok(Packet::Disconnect(disconnect)) => reason = Some(disconnect.reason),
                Ok(_) => {}
                Err(ReceiveError::Lost(_)) => return reason,
                Err(ReceiveError::Late) => panic!("the broker keeps the connection"),
            }
        }
    }

    /// DISCONNECT, and the end; the session stays as CONNECT said.
    pub fn disconnect(mut self) {
        self.send(&Packet::Disconnect(Box::new(Disconnect::new(ReasonCode::SUCCESS)))).unwrap();
    }
}

/// A PUBLISH without properties.
pub fn publish(topic: &str, payload: Bytes, qos: QoS, packet_id: Option<PacketId>, dup: bool) -> Packet {
    Packet::Publish(Box::new(Publish {
        dup,
        qos,
        retain: false,
        topic: Some(TopicName::parse(topic).unwrap()),
        packet_id,
        properties: PublishProperties::default(),
        payload,
    }))
}
