//! A small MQTT 5 client for the soak, whose clients behave like people; `generator` is for loads.

use bytes::BytesMut;
use reveille_proto::ids::PacketId;
use reveille_proto::mqtt::{
    self, Ack, Connect, ConnectProperties, Disconnect, Packet, Publish, QoS, Subscribe, SubscriptionOptions,
    Version,
};
use reveille_proto::reason::ReasonCode;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Why a measurement ended early.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A socket or a file.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The broker sent something that is no MQTT, or hung up.
    #[error("the broker broke off: {0}")]
    Broken(String),
    /// A broker did not come up.
    #[error("{0} did not start; is it built and installed?")]
    NotStarted(String),
    /// Something was expected and nothing came.
    #[error("the broker was silent for a minute")]
    Silent,
}

/// One connection.
pub struct Client {
    stream: TcpStream,
    incoming: BytesMut,
    outgoing: BytesMut,
    next_id: u16,
}

impl Client {
    /// Connects; a durable session lives for an hour after its connection.
    pub async fn connect(to: SocketAddr, client_id: &str, is_durable: bool) -> Result<Self, LoadError> {
        Self::connect_with(to, Self::options(client_id, is_durable)).await
    }

    /// A CONNECT, before it is sent.
    pub fn options(client_id: &str, is_durable: bool) -> Connect {
        Connect {
            version: Version::V5,
            clean_start: !is_durable,
            keep_alive: 600,
            client_id: client_id.into(),
            will: None,
            username: None,
            password: None,
            properties: ConnectProperties {
                session_expiry_interval: is_durable.then_some(3600),
                receive_maximum: Some(1000),
                ..Default::default()
            },
        }
    }

    /// Sends a CONNECT and waits for CONNACK.
    pub async fn connect_with(to: SocketAddr, connect: Connect) -> Result<Self, LoadError> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream, incoming: BytesMut::new(), outgoing: BytesMut::new(), next_id: 1 };
        client.push(&Packet::Connect(Box::new(connect)));
        client.flush().await?;
        match client.next().await? {
            Packet::ConnAck(connack) if !connack.reason.is_failure() => Ok(client),
            other => Err(LoadError::Broken(format!("{other:?}"))),
        }
    }

    /// Subscribes and waits for SUBACK.
    pub async fn subscribe(&mut self, filter: &str, qos: QoS) -> Result<(), LoadError> {
        let options = SubscriptionOptions { qos, ..Default::default() };
        let packet_id = self.packet_id();
        let subscribe = Subscribe {
            packet_id,
            subscription_identifier: None,
            user_properties: Vec::new(),
            filters: vec![(filter.into(), options)],
        };
        self.push(&Packet::Subscribe(Box::new(subscribe)));
        self.flush().await?;
        match self.next().await? {
            Packet::SubAck(_) => Ok(()),
            other => Err(LoadError::Broken(format!("{other:?}"))),
        }
    }

    fn packet_id(&mut self) -> PacketId {
        let id = self.next_id;
        self.next_id = id % 60_000 + 1;
        PacketId::from(std::num::NonZeroU16::new(id).unwrap_or(std::num::NonZeroU16::MIN))
    }

    /// Appends a packet.
    pub fn push(&mut self, packet: &Packet) {
        let written = packet.write(Version::V5, &mut self.outgoing);
        debug_assert!(written.is_ok(), "small packets fit");
    }

    /// Writes what was appended.
    pub async fn flush(&mut self) -> Result<(), LoadError> {
        self.stream.write_all(&self.outgoing).await?;
        self.outgoing.clear();
        Ok(())
    }

    /// The next packet.
    pub async fn next(&mut self) -> Result<Packet, LoadError> {
        loop {
            if let Some(packet) = self.ready()? {
                return Ok(packet);
            }
            if self.stream.read_buf(&mut self.incoming).await? == 0 {
                return Err(LoadError::Broken("connection closed".into()));
            }
        }
    }

    /// A packet that already came.
    pub fn ready(&mut self) -> Result<Option<Packet>, LoadError> {
        mqtt::read(&mut self.incoming, Some(Version::V5), u32::MAX)
            .map_err(|malformed| LoadError::Broken(malformed.to_string()))
    }

    /// The next message, acknowledged as its QoS wants; QoS 2 is finished as its PUBREL comes.
    pub async fn take(&mut self) -> Result<Publish, LoadError> {
        loop {
            match self.next().await? {
                Packet::Publish(publish) => {
                    if let Some(id) = publish.packet_id {
                        let ack = Ack::new(id, ReasonCode::SUCCESS);
                        let is_twice = publish.qos == QoS::ExactlyOnce;
                        self.push(&if is_twice { Packet::PubRec(ack) } else { Packet::PubAck(ack) });
                        self.flush().await?;
                    }
                    return Ok(*publish);
                }
                Packet::PubRel(ack) => {
                    self.push(&Packet::PubComp(Ack::new(ack.packet_id, ReasonCode::SUCCESS)));
                    self.flush().await?;
                }
                _ => {}
            }
        }
    }

    /// Publishes one message and waits until it is acknowledged, if its QoS has that.
    pub async fn publish_one(&mut self, publish: Publish) -> Result<(), LoadError> {
        let qos = publish.qos;
        let packet_id = (qos > QoS::AtMostOnce).then(|| self.packet_id());
        self.push(&Packet::Publish(Box::new(Publish { packet_id, ..publish })));
        self.flush().await?;
        if qos == QoS::AtMostOnce {
            return Ok(());
        }
        loop {
            match self.next().await? {
                Packet::PubAck(ack) | Packet::PubComp(ack) if !ack.reason.is_failure() => return Ok(()),
                Packet::PubRec(ack) if !ack.reason.is_failure() => {
                    self.push(&Packet::PubRel(Ack::new(ack.packet_id, ReasonCode::SUCCESS)));
                    self.flush().await?;
                }
                other => return Err(LoadError::Broken(format!("{other:?}"))),
            }
        }
    }

    /// Says goodbye: no will, and the session stays as CONNECT said.
    pub async fn disconnect(mut self) -> Result<(), LoadError> {
        self.push(&Packet::Disconnect(Box::new(Disconnect::new(ReasonCode::SUCCESS))));
        self.flush().await
    }
}
