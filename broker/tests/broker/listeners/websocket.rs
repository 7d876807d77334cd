//! WebSocket, with an independent client.

use super::certificates::Authority;
use super::tls::{self, Secure};
use super::{address, byte_by_byte, said_goodbye, slow_reader, speaks_mqtt, wait_for_counter};
use crate::broker;
use crate::client::{Client, connect, publish};
use bytes::{Bytes, BytesMut};
use reveille_broker::Broker;
use reveille_proto::mqtt::{Packet, PublishProperties, QoS, Version, Will};
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::TopicName;
use rustls::version::{TLS12, TLS13};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message, WebSocket};

/// The bytes of MQTT in a WebSocket's messages.
struct Messages<S> {
    websocket: WebSocket<S>,
    unread: Bytes,
    /// Bytes of one message.
    size: usize,
}

impl<S: Read + Write> Messages<S> {
    fn over(stream: S, size: usize) -> Self {
        let mut request = "ws://localhost/mqtt".into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", "mqtt".parse().unwrap());
        let Ok((websocket, response)) = tungstenite::client(request, stream) else { panic!("no WebSocket") };
        assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "mqtt");
        Self { websocket, unread: Bytes::new(), size }
    }

    /// With which code the broker closes.
    fn close_code(&mut self) -> CloseCode {
        loop {
            match self.websocket.read() {
                Ok(Message::Close(Some(frame))) => return frame.code,
                Ok(_) => {}
                Err(error) => panic!("no goodbye: {error}"),
            }
        }
    }
}

impl<S: Read + Write> Read for Messages<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.unread.is_empty() {
            match self.websocket.read() {
                Ok(Message::Binary(bytes)) => self.unread = bytes,
                Ok(Message::Close(_)) | Err(Error::ConnectionClosed) => return Ok(0),
                Ok(_) => {}
                Err(Error::Io(error)) => return Err(error),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        let count = buffer.len().min(self.unread.len());
        buffer[..count].copy_from_slice(&self.unread.split_to(count));
        Ok(count)
    }
}

impl<S: Read + Write> Write for Messages<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.size);
        let message = Message::Binary(Bytes::copy_from_slice(&bytes[..count]));
        self.websocket.send(message).map(|()| count).map_err(io::Error::other)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.websocket.flush().map_err(io::Error::other)
    }
}

fn serving(more: &str) -> Broker {
    broker(&format!("[[listeners]]\nname = 'l'\nkind = 'ws'\naddress = '127.0.0.1:0'\n{more}"))
}

fn open(broker: &Broker, size: usize) -> Messages<TcpStream> {
    Messages::over(Client::socket(address(broker), Version::V5).socket, size)
}

#[test]
fn packets_span_frames_and_share_them() {
    let broker = serving("");
    for size in [7_777, usize::MAX] {
        speaks_mqtt(&broker, || open(&broker, size));
    }
    byte_by_byte(open(&broker, 1));
    slow_reader(&broker, || open(&broker, usize::MAX));
    let (mut client, _) = Client::over(open(&broker, usize::MAX), connect(Version::V5, "many", true));
    client.send_all(&[Packet::PingReq, Packet::PingReq, publish("t", b"x", QoS::AtLeastOnce, 1)]);
    assert_eq!((client.receive(), client.receive()), (Packet::PingResp, Packet::PingResp));
    assert!(matches!(client.receive(), Packet::PubAck(_)));
    broker.stop();
    said_goodbye(&mut client, ReasonCode::SERVER_SHUTTING_DOWN);
}

#[test]
fn websocket_goes_through_tls_too() {
    let authority = Authority::new();
    let broker = tls::serving(&authority, "wss", "");
    let open =
        |version| Messages::<Secure>::over(tls::open(&broker, &authority.trusting(version, None)), 60_000);
    for version in [&TLS12, &TLS13] {
        speaks_mqtt(&broker, || open(version));
    }
    slow_reader(&broker, || open(&TLS13));
    let (mut client, _) = Client::over(open(&TLS13), connect(Version::V5, "last", true));
    broker.stop();
    said_goodbye(&mut client, ReasonCode::SERVER_SHUTTING_DOWN);
}

#[test]
fn what_is_no_upgrade_to_mqtt_is_answered_and_counted() {
    let broker = serving("origins = ['https://app.example.org']");
    const START: &str = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let rows = [
        ("Sec-WebSocket-Protocol: mqtt\r\nOrigin: https://app.example.org\r\n\r\n", "HTTP/1.1 101"),
        ("Sec-WebSocket-Protocol: mqttv3.1\r\nOrigin: https://app.example.org\r\n\r\n", "HTTP/1.1 400"),
        ("Origin: https://app.example.org\r\n\r\n", "HTTP/1.1 400"),
        ("Sec-WebSocket-Protocol: mqtt\r\nOrigin: https://evil.example.org\r\n\r\n", "HTTP/1.1 403"),
        ("Sec-WebSocket-Protocol: mqtt\r\n\r\n", "HTTP/1.1 403"),
    ];
    for (end, wanted) in rows {
        let mut socket = Client::socket(address(&broker), Version::V5).socket;
        socket.write_all(format!("{START}{end}").as_bytes()).unwrap();
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), wanted, "{end}");
    }
    wait_for_counter(&broker, "websocket", 4);
    let mut endless = Client::socket(address(&broker), Version::V5).socket;
    let _ = endless.write_all(format!("{START}X: {}", "x".repeat(20_000)).as_bytes());
    let mut answer = Vec::new();
    let _ = endless.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn a_breach_of_the_protocol_is_told_by_its_code() {
    let broker =
        serving("limits = { packet_size_max_bytes = 200000 }\n[limits]\npacket_size_max_bytes = 200000");
    let unmasked = [0x82, 1, b'x'];
    let rows: [(&[u8], CloseCode); 3] = [
        (b"\x81\x80aaaa", CloseCode::Unsupported), // text [MQTT5-6.0.0-1]
        (&unmasked, CloseCode::Protocol),
        (b"\x82\xff\0\0\0\0\0\x10\0\0aaaa", CloseCode::Size),
    ];
    for (bytes, wanted) in rows {
        let (mut client, _) = Client::over(open(&broker, usize::MAX), connect(Version::V5, "c", true));
        client.socket.websocket.get_mut().write_all(bytes).unwrap();
        assert_eq!(client.socket.close_code(), wanted, "{bytes:?}");
    }
}

#[test]
fn a_ping_is_answered_between_packets() {
    let broker = serving("");
    let (mut client, _) = Client::over(open(&broker, usize::MAX), connect(Version::V5, "c", true));
    client.socket.websocket.send(Message::Ping(Bytes::from_static(b"there?"))).unwrap();
    assert_eq!(client.socket.websocket.read().unwrap(), Message::Pong(Bytes::from_static(b"there?")));
    client.ping();
}

#[test]
fn a_goodbye_of_mqtt_right_before_that_of_the_websocket_counts() {
    let broker = serving("");
    let mut watcher = Client::connect(broker.mqtt_addr(), connect(Version::V5, "watcher", true));
    watcher.subscribe("will", QoS::AtMostOnce);
    let with_will = |id: &str| {
        let mut connect = connect(Version::V3_1_1, id, true);
        connect.will = Some(Will {
            topic: TopicName::parse("will").unwrap(),
            payload: Bytes::copy_from_slice(id.as_bytes()),
            qos: QoS::AtMostOnce,
            retain: false,
            delay_interval: None,
            properties: PublishProperties::default(),
        });
        connect
    };
    // A close frame alone is a connection that was lost; behind DISCONNECT it is none.
    let close = b"\x88\x80aaaa";
    let with_goodbye = [b"\x82\x82\0\0\0\0\xe0\x00", &close[..]].concat();
    for (id, bytes) in [("polite", &with_goodbye[..]), ("lost", close)] {
        let (mut client, _) = Client::over(open(&broker, usize::MAX), with_will(id));
        client.socket.websocket.get_mut().write_all(bytes).unwrap();
        client.socket.close_code();
    }
    assert_eq!(&watcher.receive_publish().payload[..], b"lost");
    watcher.ping();
}

#[test]
fn what_was_sent_right_behind_the_upgrade_is_not_lost() {
    let broker = serving("");
    let mut packet = BytesMut::new();
    Packet::Connect(Box::new(connect(Version::V5, "hasty", true))).write(Version::V5, &mut packet).unwrap();
    let frame = [&[0x82, 0x80 | packet.len() as u8, 0, 0, 0, 0][..], &packet].concat();
    let request = b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
    let mut socket = Client::socket(address(&broker), Version::V5).socket;
    socket.write_all(&[&request[..], &frame].concat()).unwrap();
    let mut answer = Vec::new();
    while !answer.windows(5).any(|bytes| bytes[..4] == *b"\r\n\r\n" && bytes[4] == 0x82) {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    let mut frame = [0; 2];
    socket.read_exact(&mut frame).unwrap();
    assert_eq!(frame[1], 0x20, "CONNACK");
}
