//! Chapter 6: MQTT over WebSocket, in bytes by hand. The other chapters speak through a library.

use crate::harness::{
    Client, Connect, PATIENCE, SINCE_3_1_1, Stage, ToBytes, VERSIONS, Version, Will, pingreq, publish,
    subscribe,
};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

const CONFIG: &str = "[[listeners]]\nname = 'web'\nkind = 'ws'\naddress = '127.0.0.1:0'";

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;
/// The last frame of a message.
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// Key and proof of RFC 6455, section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const PROOF: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn stage(version: Version) -> Stage {
    Stage::with(version, CONFIG)
}

fn connect_to(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Asks for a WebSocket; the head of the answer.
fn ask(stream: &mut TcpStream, path: &str, offer: &str) -> String {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// A header of an answer.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let found = head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value)
    });
    found.map(str::trim)
}

/// A frame as a client sends it: masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    let mut bytes = vec![first];
    match u16::try_from(payload.len()) {
        Ok(len @ 0..126) => bytes.push(MASKED | len as u8),
        Ok(len) => {
            bytes.push(MASKED | 126);
            bytes.extend(len.to_be_bytes());
        }
        Err(_) => {
            bytes.push(MASKED | 127);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// One WebSocket, which reads what the broker sends and sends what it is told.
struct Web {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Web {
    fn open(stage: &Stage) -> Self {
        Self::on(stage, "/mqtt")
    }

    fn on(stage: &Stage, path: &str) -> Self {
        let mut stream = connect_to(stage.address_of("web"));
        let head = ask(&mut stream, path, "Sec-WebSocket-Protocol: mqtt\r\n");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Self { stream, unread: Vec::new() }
    }

    fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes); // who is closed meanwhile notices when reading
    }

    /// Opcode and payload of the next frame; `None` at the end of the connection.
    fn next_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        if self.stream.read_exact(&mut head).is_err() {
            return None;
        }
        let [first, len] = head;
        assert_eq!(first & 0xF0, FIN, "the broker sends whole messages without reserved bits");
        let len = match len {
            0..126 => usize::from(len),
            126 => usize::from(u16::from_be_bytes(self.exactly())),
            127 => usize::try_from(u64::from_be_bytes(self.exactly())).unwrap(),
            masked => panic!("the broker masks: {masked:02x}"),
        };
        let mut payload = vec![0; len];
        self.stream.read_exact(&mut payload).unwrap();
        Some((first & 0x0F, payload))
    }

    fn exactly<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// The broker ends the connection, with a close frame or without.
    fn expect_end(&mut self) {
        while let Some((opcode, _)) = self.next_frame() {
            assert!(matches!(opcode, CLOSE | BINARY), "{opcode:x}");
        }
    }

    /// MQTT through this WebSocket, one frame for each write; and the socket, for frames of another kind.
    fn client(self, version: Version) -> (Client, TcpStream) {
        let socket = self.stream.try_clone().unwrap();
        (Client::on(Box::new(self), version), socket)
    }
}

impl Read for Web {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.unread.is_empty() {
            match self.next_frame() {
                Some((BINARY, payload)) => self.unread = payload,
                Some((CLOSE, _)) | None => return Ok(0),
                Some((opcode, payload)) => panic!("frame {opcode:x} {payload:02x?} instead of a binary one"),
            }
        }
        let count = into.len().min(self.unread.len());
        into[..count].copy_from_slice(&self.unread[..count]);
        self.unread.drain(..count);
        Ok(count)
    }
}

impl Write for Web {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write_all(&frame(FIN | BINARY, bytes)).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Covers: MQTT5-6.0.0-4, MQTT3-6.0.0-4
#[test]
fn the_sub_protocol_that_is_selected_is_mqtt() {
    let stage = stage(Version::V5);
    let offers = [
        "Sec-WebSocket-Protocol: mqtt\r\n",
        "Sec-WebSocket-Protocol: mqttv3.1, mqtt\r\n",
        "sec-websocket-protocol: chat,mqtt,soap\r\n",
        "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: mqtt\r\n",
    ];
    for offer in offers {
        let head = ask(&mut connect_to(stage.address_of("web")), "/mqtt", offer);
        assert!(head.starts_with("HTTP/1.1 101 "), "{offer}: {head}");
        assert_eq!(header(&head, "Sec-WebSocket-Protocol"), Some("mqtt"), "{offer}");
        assert_eq!(header(&head, "Sec-WebSocket-Accept"), Some(PROOF), "{offer}");
    }
}

/// Covers: MQTT5-6.0.0-3, MQTT3-6.0.0-3
#[test]
fn who_does_not_offer_mqtt_gets_no_websocket() {
    let stage = stage(Version::V5);
    for offer in ["", "Sec-WebSocket-Protocol: chat\r\n", "Sec-WebSocket-Protocol: mqttv3.1, mqtts\r\n"] {
        let mut stream = connect_to(stage.address_of("web"));
        let head = ask(&mut stream, "/mqtt", offer);
        assert!(head.starts_with("HTTP/1.1 4"), "{offer}: {head}");
        assert_eq!(header(&head, "Sec-WebSocket-Protocol"), None);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap(); // and the end of the connection
    }
}

/// Also: chapter 6, the URI has no meaning for MQTT
#[test]
fn any_path_will_do() {
    for version in VERSIONS {
        let stage = stage(version);
        for path in ["/", "/mqtt", "/a/b?c=d"] {
            let (mut client, _) = Web::on(&stage, path).client(version);
            client.send(Connect::new("c"));
            assert_eq!(client.expect_connack().code, 0);
            client.leave();
        }
    }
}

/// Covers: MQTT5-6.0.0-1, MQTT3-6.0.0-1
#[test]
fn a_frame_that_is_not_binary_ends_the_connection() {
    for version in VERSIONS {
        let stage = stage(version);
        let mut watcher = stage.connect("watcher");
        watcher.subscribe("will", 0);
        let connect = Connect::new("c").will(Will::new("will", "c"));
        // Instead of CONNECT, although it is one.
        let mut web = Web::open(&stage);
        web.send(&frame(FIN | TEXT, &connect.to_bytes(version)));
        web.expect_end();
        watcher.expect_nothing();
        for text in [frame(FIN | TEXT, &pingreq().bytes()), frame(FIN | TEXT, b""), frame(TEXT, b"in pieces")]
        {
            let (mut client, mut socket) = Web::open(&stage).client(version);
            client.send(connect.clone());
            assert_eq!(client.expect_connack().code, 0);
            socket.write_all(&text).unwrap();
            while client.next_or_end().is_some() {} // a DISCONNECT may come before
            watcher.expect_message("will", "c");
        }
    }
}

/// Covers: MQTT5-6.0.0-1, MQTT3-6.0.0-1
#[test]
fn the_broker_sends_binary_frames_alone() {
    for version in SINCE_3_1_1 {
        let stage = stage(version);
        // `Web` takes no others.
        let (mut client, _) = Web::open(&stage).client(version);
        client.send(Connect::new("c"));
        assert_eq!(client.expect_connack().code, 0);
        client.subscribe("t", 2);
        for size in [0, 1, 100, 125, 126, 1000, 65_535, 65_536, 200_000] {
            client.send(publish("t", vec![b'x'; size]));
            assert_eq!(client.expect_publish().payload.len(), size);
        }
        client.publish_with(publish("nobody", "x").qos(2, 1));
        client.leave();
    }
}

/// Covers: MQTT5-6.0.0-2, MQTT3-6.0.0-2
#[test]
fn packets_and_frames_need_not_begin_and_end_together() {
    for version in VERSIONS {
        let stage = stage(version);
        let packets = [
            Connect::new("c").to_bytes(version),
            subscribe(1, "t", 0).to_bytes(version),
            publish("t", "x".repeat(300)).to_bytes(version),
            pingreq().bytes(),
        ]
        .concat();
        for size in [1, 2, 5, 127, 200, packets.len()] {
            let mut web = Web::open(&stage);
            for piece in packets.chunks(size) {
                web.send(&frame(FIN | BINARY, piece));
            }
            expect_answers(web, version);
        }
        // One message in fragments, with pings between them and empty ones.
        let mut web = Web::open(&stage);
        web.send(&frame(BINARY, &packets[..3]));
        web.send(&frame(0, b""));
        web.send(&frame(0, &packets[3..40]));
        web.send(&frame(0, &packets[40..]));
        web.send(&frame(FIN, b""));
        expect_answers(web, version);
    }
}

fn expect_answers(web: Web, version: Version) {
    let (mut client, _) = web.client(version);
    assert_eq!(client.expect_connack().code, 0);
    client.expect_suback(1, &[0]);
    client.expect_message("t", "x".repeat(300));
    client.expect([0xD0, 0]);
    client.leave();
}

/// Covers: MQTT5-6.0.0-2, MQTT3-6.0.0-2
/// Also: RFC 6455 section 5.2, a frame in bytes that come one by one
#[test]
fn frames_may_come_in_any_pieces() {
    for version in SINCE_3_1_1 {
        let stage = stage(version);
        let mut web = Web::open(&stage);
        let bytes = [
            frame(FIN | BINARY, &Connect::new("c").to_bytes(version)),
            frame(FIN | BINARY, &subscribe(1, "t", 0).to_bytes(version)),
            frame(FIN | BINARY, &publish("t", "x".repeat(300)).to_bytes(version)),
            frame(FIN | BINARY, &pingreq().bytes()),
        ];
        for byte in bytes.concat() {
            web.send(&[byte]);
        }
        expect_answers(web, version);
    }
}

/// Also: RFC 6455 section 5.5, pings are answered in the middle of everything, and a close with a close
#[test]
fn control_frames_are_answered() {
    for version in SINCE_3_1_1 {
        let stage = stage(version);
        let mut watcher = stage.connect("watcher");
        watcher.subscribe("will", 0);
        let mut web = Web::open(&stage);
        let connect = Connect::new("c").will(Will::new("will", "c")).to_bytes(version);
        web.send(&frame(BINARY, &connect[..5]));
        web.send(&frame(FIN | PING, b"still there?"));
        web.send(&frame(FIN | PONG, b"unasked"));
        assert_eq!(web.next_frame(), Some((PONG, b"still there?".to_vec())));
        web.send(&frame(FIN, &connect[5..]));
        let (opcode, connack) = web.next_frame().unwrap();
        assert_eq!((opcode, connack[0], connack[3]), (BINARY, 0x20, 0));
        web.send(&frame(FIN | CLOSE, &1000_u16.to_be_bytes()));
        let (opcode, code) = web.next_frame().unwrap();
        assert_eq!((opcode, &code[..2]), (CLOSE, &1000_u16.to_be_bytes()[..]));
        web.expect_end();
        watcher.expect_message("will", "c"); // no DISCONNECT came
    }
}

/// Also: RFC 6455 section 5, frames that no client may send
#[test]
fn frames_that_cannot_be_end_the_connection() {
    let stage = stage(Version::V5);
    let unmasked = [vec![FIN | BINARY, 2], pingreq().bytes()].concat();
    let long_ping = frame(FIN | PING, &[0; 126]);
    let rows = [
        unmasked,
        frame(FIN | 0x40 | BINARY, b"x"), // a reserved bit
        frame(FIN | 0x3, b"x"),           // a reserved opcode
        frame(FIN | 0xB, b"x"),
        frame(PING, b"x"),                                            // control in fragments
        frame(FIN, b"x"),                                             // the end of nothing
        [frame(BINARY, b"\xC0"), frame(FIN | BINARY, b"x")].concat(), // a message inside a message
        long_ping,
        [&[FIN | BINARY, MASKED | 127][..], &[0xFF; 8], &[0; 4]].concat(), // a length that nobody may claim
    ];
    for bytes in rows {
        let (mut client, mut socket) = Web::open(&stage).client(Version::V5);
        client.send(Connect::new("c"));
        assert_eq!(client.expect_connack().code, 0);
        socket.write_all(&bytes).unwrap();
        while client.next_or_end().is_some() {}
    }
    stage.connect("bystander").expect_nothing();
}
