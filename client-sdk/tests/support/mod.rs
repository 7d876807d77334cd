//! A scripted MQTT 5 server: each test reads what the client sent and answers by hand.

#![allow(dead_code, reason = "each test file uses a part of it")]

use bytes::BytesMut;
use reveille_client::{Backoff, MessageId, Options};
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnAckProperties, Connect, ConnectReturnCode, Packet, PubAck, PubAckReason, Publish,
    PublishProperties,
};
use rumqttc::v5::mqttbytes::{Error, QoS};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Nothing in these tests takes longer unless it is broken.
const PATIENCE: Duration = Duration::from_secs(10);

/// Fails the test instead of hanging it.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: nothing happened in time"))
}

pub struct FakeServer {
    listener: TcpListener,
}

pub struct Connection {
    socket: TcpStream,
    read: BytesMut,
    pub connect: Connect,
}

impl FakeServer {
    pub async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    /// Options for a client of this server: quick retries, nothing else unusual.
    pub fn options(&self, client_id: &str) -> Options {
        let backoff =
            Backoff { base: Duration::from_millis(10), cap: Duration::from_millis(20), ..Backoff::default() };
        Options::new(client_id, "127.0.0.1", self.listener.local_addr().unwrap().port()).backoff(backoff)
    }

    /// Takes the next connection up to its CONNECT.
    pub async fn accept_silently(&self) -> Connection {
        let (socket, _) = soon("a connection", self.listener.accept()).await.unwrap();
        let connect =
            Connect { keep_alive: 0, client_id: String::new(), clean_start: false, properties: None };
        let mut connection = Connection { socket, read: BytesMut::new(), connect };
        match connection.receive().await {
            Packet::Connect(connect, _, _) => connection.connect = connect,
            other => panic!("CONNECT comes first, not {other:?}"),
        }
        connection
    }

    /// Takes the next connection and accepts it.
    pub async fn accept(&self, session_present: bool) -> Connection {
        self.accept_with(session_present, properties()).await
    }

    pub async fn accept_with(&self, session_present: bool, properties: ConnAckProperties) -> Connection {
        let mut connection = self.accept_silently().await;
        connection
            .send(Packet::ConnAck(ConnAck {
                session_present,
                code: ConnectReturnCode::Success,
                properties: Some(properties),
            }))
            .await;
        connection
    }
}

impl Connection {
    pub async fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, None).unwrap();
        self.socket.write_all(&bytes).await.unwrap();
    }

    /// The next packet of the client; `None` when it closed the socket.
    pub async fn next(&mut self) -> Option<Packet> {
        self.next_within(PATIENCE).await
    }

    pub async fn next_within(&mut self, patience: Duration) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.read, None) {
                Ok(packet) => return Some(packet),
                Err(Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("the client sent a malformed packet: {error}"),
            }
            // A client that goes away by crashing may reset the connection.
            let read = timeout(patience, self.socket.read_buf(&mut self.read)).await;
            if read.expect("a packet comes in time").unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub async fn receive(&mut self) -> Packet {
        self.next().await.expect("the client keeps the connection")
    }

    /// A normal DISCONNECT in its short form, which rumqttc writes but does not read, and the end of the connection.
    pub async fn expect_disconnect(&mut self) {
        let mut rest = self.read.to_vec();
        soon("the end", self.socket.read_to_end(&mut rest)).await.unwrap();
        assert_eq!(rest, [0xE0, 0x00]);
    }

    pub async fn receive_publish(&mut self) -> Publish {
        match self.receive().await {
            Packet::Publish(publish) => publish,
            other => panic!("wanted PUBLISH, not {other:?}"),
        }
    }

    pub async fn receive_puback(&mut self) -> u16 {
        match self.receive().await {
            Packet::PubAck(ack) => ack.pkid,
            other => panic!("wanted PUBACK, not {other:?}"),
        }
    }

    pub async fn puback(&mut self, packet_id: u16) {
        self.send(Packet::PubAck(PubAck::new(packet_id, None))).await;
    }

    pub async fn refuse(&mut self, packet_id: u16, reason: PubAckReason) {
        self.send(Packet::PubAck(PubAck { pkid: packet_id, reason, properties: None })).await;
    }
}

/// CONNACK properties without any.
pub fn properties() -> ConnAckProperties {
    ConnAckProperties {
        session_expiry_interval: None,
        receive_max: None,
        max_qos: None,
        retain_available: None,
        max_packet_size: None,
        assigned_client_identifier: None,
        topic_alias_max: None,
        reason_string: None,
        user_properties: Vec::new(),
        wildcard_subscription_available: None,
        subscription_identifiers_available: None,
        shared_subscription_available: None,
        server_keep_alive: None,
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    }
}

pub fn id(n: u8) -> MessageId {
    MessageId([n; 16])
}

/// What the broker sends to one device.
pub fn directed(packet_id: u16, dup: bool, id: MessageId) -> Packet {
    let payload = format!(r#"{{"id":"{id}","title":"标题","body":"b"}}"#);
    Packet::Publish(Publish { dup, ..tagged("$push/message", packet_id, payload, Some(id)) })
}

/// A publish with QoS 1 on an ordinary topic, perhaps a push candidate.
pub fn tagged(topic: &str, packet_id: u16, payload: impl Into<String>, id: Option<MessageId>) -> Publish {
    let user_properties = id.map(|id| ("push-id".to_owned(), id.to_string())).into_iter().collect();
    let properties = PublishProperties { user_properties, ..PublishProperties::default() };
    let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload.into(), Some(properties));
    publish.pkid = packet_id;
    publish
}
