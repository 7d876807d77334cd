//! A client that sends what it is told and says what came, and never waits for a time to pass.

use super::packets::{Publish, pingreq, puback, pubcomp, publish, pubrec, pubrel, subscribe, unsubscribe};
use super::received::{ConnAck, Disconnect, Frame};
use super::wire::{Property, ToBytes, show};
use super::{Subscribe, Version};
use reveille_proto::topic::{TopicFilter, TopicName};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

/// Longer than anything takes on a busy machine; only a test that fails waits for it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A stream of bytes in both directions, whatever carries it.
pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// One network connection.
pub struct Client {
    stream: Box<dyn Stream>,
    unread: Vec<u8>,
    /// Came while the end of an exchange was waited for.
    ahead: VecDeque<Frame>,
    is_over: bool,
    pub version: Version,
}

impl Client {
    /// A connection on which nothing was said yet.
    pub fn on(stream: Box<dyn Stream>, version: Version) -> Self {
        Self { stream, unread: Vec::new(), ahead: VecDeque::new(), is_over: false, version }
    }

    /// Sends bytes or a packet. A connection that the broker closed meanwhile is noticed when reading.
    pub fn send(&mut self, packet: impl ToBytes) {
        let bytes = packet.to_bytes(self.version);
        let _ = self.stream.write_all(&bytes).and_then(|()| self.stream.flush());
    }

    /// The next packet, or `None` when the broker closed the connection.
    pub fn next_or_end(&mut self) -> Option<Frame> {
        self.ahead.pop_front().or_else(|| self.next_from_stream())
    }

    fn next_from_stream(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = Frame::take(&mut self.unread) {
                return Some(frame);
            }
            if !self.read_more() {
                assert!(self.unread.is_empty(), "the broker ended inside a packet: {}", show(&self.unread));
                return None;
            }
        }
    }

    fn read_more(&mut self) -> bool {
        let mut chunk = [0; 16 << 10];
        while !self.is_over {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.is_over = true,
                Ok(len) => {
                    self.unread.extend_from_slice(&chunk[..len]);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("nothing came, and the broker keeps the connection")
                }
                Err(_) => self.is_over = true, // a reset is an end too
            }
        }
        false
    }

    /// The next packet.
    pub fn next(&mut self) -> Frame {
        self.next_or_end().expect("the broker closed the connection")
    }

    /// Exactly these bytes come next, as one packet.
    pub fn expect(&mut self, wanted: impl ToBytes) {
        let wanted = wanted.to_bytes(self.version);
        match self.next_or_end() {
            Some(frame) => {
                assert_eq!(frame.bytes, wanted, "came: {}, wanted: {}", show(&frame.bytes), show(&wanted))
            }
            None => panic!("the broker closed the connection instead of sending {}", show(&wanted)),
        }
    }

    /// Nothing is on its way: the answer to a PINGREQ is the next packet.
    ///
    /// True for what other clients published with QoS 1 or 2 and got acknowledged: the broker writes it first.
    pub fn expect_nothing(&mut self) {
        self.send(pingreq());
        self.expect([0xD0, 0]);
    }

    /// The broker closes, and says nothing more.
    pub fn expect_end(&mut self) {
        let next = self.next_or_end();
        assert_eq!(next, None, "the connection should end");
    }

    /// The broker ends the connection for this reason: it says so in 5.0, older versions have no words for it.
    pub fn expect_goodbye(&mut self, code: u8) -> Option<Disconnect> {
        let mut said = None;
        if self.version == Version::V5 {
            let frame = self.next_or_end().expect("DISCONNECT before the end");
            let disconnect = frame.disconnect();
            assert_eq!(disconnect.code, code, "DISCONNECT with {code:#04x}: {frame:?}");
            said = Some(disconnect);
        }
        self.expect_end();
        said
    }

    pub fn expect_connack(&mut self) -> ConnAck {
        let version = self.version;
        self.next().connack(version)
    }

    pub fn expect_publish(&mut self) -> Publish {
        let version = self.version;
        self.next().publish(version)
    }

    /// A PUBLISH on this topic with this payload.
    pub fn expect_message(&mut self, topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> Publish {
        let publish = self.expect_publish();
        let (came, wanted) = ((&publish.topic, &publish.payload), (topic.as_ref(), payload.as_ref()));
        assert_eq!((show(came.0), show(came.1)), (show(wanted.0), show(wanted.1)), "topic and payload");
        publish
    }

    /// The next message, acknowledged to the end of its exchange.
    pub fn take(&mut self) -> Publish {
        let publish = self.expect_publish();
        let id = publish.id.unwrap_or_default();
        match publish.qos {
            0 => {}
            1 => self.send(puback(id)),
            _ => {
                self.send(pubrec(id));
                // The next messages may be on their way already.
                while let Some(frame) = self.next_from_stream() {
                    if frame.bytes == pubrel(id).bytes() {
                        break;
                    }
                    self.ahead.push_back(frame);
                }
                self.send(pubcomp(id));
            }
        }
        publish
    }

    /// The same, acknowledged to the end of its exchange.
    pub fn take_message(&mut self, topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> Publish {
        let publish = self.take();
        let (came, wanted) = ((&publish.topic, &publish.payload), (topic.as_ref(), payload.as_ref()));
        assert_eq!((show(came.0), show(came.1)), (show(wanted.0), show(wanted.1)), "topic and payload");
        publish
    }

    /// An acknowledgement with this first byte, identifier and reason.
    pub fn expect_ack(&mut self, first: u8, id: u16, code: u8) {
        let version = self.version;
        let frame = self.next();
        let ack = frame.ack(first, version);
        assert_eq!((ack.id, ack.code), (id, code), "identifier and reason of {frame:?}");
    }

    /// Subscribes and hears that each filter was granted what it asked for.
    pub fn subscribe(&mut self, filter: impl AsRef<[u8]>, options: u8) {
        self.subscribe_with(subscribe(1, filter, options));
    }

    /// Subscribes, and all retained messages that come for it.
    ///
    /// A second filter marks the end: what is kept for it comes behind what is kept for the first.
    pub fn subscribe_kept(&mut self, filter: &str, options: u8) -> Vec<Publish> {
        let marker = TopicName::parse("end/marker").unwrap();
        let sees_marker = TopicFilter::parse(filter).is_ok_and(|filter| filter.matches(&marker));
        let mut markers_left = if sees_marker { 2 } else { 1 };
        self.publish_with(publish("end/marker", "").qos(1, 1).retain());
        self.publish_with(publish("end/marker", "end").qos(1, 1).retain());
        self.subscribe_with(subscribe(1, filter, options).and("end/marker", 1));
        let mut found = Vec::new();
        loop {
            let message = self.take();
            assert!(message.retain, "from before the subscription: {message:?}");
            if message.words() == ("end/marker", "end") {
                markers_left -= 1;
                if markers_left == 0 {
                    break;
                }
                continue;
            }
            found.push(message);
        }
        let version = self.version;
        self.send(unsubscribe(2, &["end/marker"]));
        self.next().unsuback(version);
        found
    }

    /// Sends a SUBSCRIBE and hears that each filter was granted what it asked for.
    pub fn subscribe_with(&mut self, packet: Subscribe) {
        let (id, wanted): (u16, Vec<u8>) =
            (packet.id, packet.filters.iter().map(|(_, options)| options & 3).collect());
        self.send(packet);
        let version = self.version;
        let suback = self.next().suback(version);
        assert_eq!((suback.id, suback.codes), (id, wanted), "SUBACK");
    }

    /// Publishes with QoS 1 and waits until the broker has it: what receivers are to get is written for them.
    pub fn publish(&mut self, topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) {
        self.publish_with(publish(topic, payload).qos(1, 1));
    }

    /// Publishes with QoS 0 and waits for nothing.
    pub fn publish_qos_0(&mut self, topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) {
        self.send(publish(topic, payload));
    }

    /// Sends a PUBLISH and walks its exchange to the end. A message for nobody is fine too.
    pub fn publish_with(&mut self, packet: Publish) {
        let (qos, id) = (packet.qos, packet.id.unwrap_or_default());
        self.send(packet);
        match qos {
            0 => self.expect_nothing(),
            1 => self.expect_accepted(0x40, id),
            _ => {
                self.expect_accepted(0x50, id);
                self.send(pubrel(id));
                self.expect_ack(0x70, id, 0);
            }
        }
    }

    fn expect_accepted(&mut self, first: u8, id: u16) {
        const NO_MATCHING_SUBSCRIBERS: u8 = 0x10;
        let version = self.version;
        let frame = self.next();
        let ack = frame.ack(first, version);
        assert_eq!(ack.id, id, "{frame:?}");
        assert!(matches!(ack.code, 0 | NO_MATCHING_SUBSCRIBERS), "accepted: {frame:?}");
    }

    /// A message with properties, with QoS 1.
    pub fn publish_properties(&mut self, topic: impl AsRef<[u8]>, payload: &str, properties: &[Property]) {
        let mut packet = publish(topic, payload).qos(1, 1);
        packet.properties = properties.to_vec();
        self.publish_with(packet);
    }

    /// DISCONNECT, and the broker closes.
    pub fn leave(mut self) {
        self.send(super::disconnect(0));
        self.expect_end();
    }

    /// Ends as a phone in a tunnel does: without a word.
    pub fn cut(self) {}
}
