//! What the chapters on subscriptions and acknowledgements expect of a [`Client`].

use super::packets::{Connect, Publish, ack, disconnect, puback, pubcomp, pubrec};
use super::wire::{Packet, show};
use super::{Client, Stage, Version};

/// 5.0 has a word for it; before, there is only the acknowledgement.
const PACKET_IDENTIFIER_NOT_FOUND: u8 = 0x92;

const PUBREL: u8 = 0x62;

impl Client {
    /// SUBACK with exactly these codes.
    pub fn expect_suback(&mut self, id: u16, codes: &[u8]) {
        let version = self.version;
        let suback = self.next().suback(version);
        assert_eq!((suback.id, show(&suback.codes)), (id, show(codes)), "SUBACK");
    }

    /// UNSUBACK with exactly these codes, which only 5.0 has.
    pub fn expect_unsuback(&mut self, id: u16, codes: &[u8]) {
        let version = self.version;
        let unsuback = self.next().unsuback(version);
        let wanted = if version == Version::V5 { codes } else { &[] };
        assert_eq!((unsuback.id, show(&unsuback.codes)), (id, show(wanted)), "UNSUBACK");
    }

    /// An acknowledgement without an error.
    pub fn expect_plain_ack(&mut self, first: u8, id: u16) {
        self.expect(ack(first, id));
    }

    /// An acknowledgement that says that the identifier is not known.
    pub fn expect_unknown(&mut self, first: u8, id: u16) {
        let code = if self.version == Version::V5 { PACKET_IDENTIFIER_NOT_FOUND } else { 0 };
        self.expect_ack(first, id, code);
    }

    /// Messages with these payloads come next, in this order.
    pub fn expect_payloads(&mut self, payloads: &[&str]) -> Vec<Publish> {
        let expect = |payload: &&str| {
            let publish = self.expect_publish();
            assert_eq!(publish.text(), *payload, "of {payloads:?}");
            publish
        };
        payloads.iter().map(expect).collect()
    }

    /// The next messages, acknowledged to the end of their exchanges, which may run side by side.
    pub fn take_many(&mut self, count: usize) -> Vec<Publish> {
        let version = self.version;
        let (mut taken, mut unfinished) = (Vec::new(), 0);
        while taken.len() < count || unfinished > 0 {
            let frame = self.next();
            if frame.first == PUBREL {
                self.send(pubcomp(frame.ack(PUBREL, version).id));
                unfinished -= 1;
                continue;
            }
            let publish = frame.publish(version);
            match publish.qos {
                0 => {}
                1 => self.send(puback(publish.id.unwrap())),
                _ => {
                    self.send(pubrec(publish.id.unwrap()));
                    unfinished += 1;
                }
            }
            taken.push(publish);
        }
        taken
    }

    /// The same for messages with these payloads, in this order.
    pub fn take_payloads<T: AsRef<str>>(&mut self, payloads: &[T]) {
        let taken = self.take_many(payloads.len());
        let texts: Vec<&str> = taken.iter().map(Publish::text).collect();
        let wanted: Vec<&str> = payloads.iter().map(AsRef::as_ref).collect();
        assert_eq!(texts, wanted);
    }

    /// Ends as a broken client does, without DISCONNECT; afterwards the broker knows it.
    pub fn break_off(mut self) {
        self.send([0x00, 0x00]); // a packet type that does not exist
        while self.next_or_end().is_some() {}
    }

    /// DISCONNECT with a reason, which only 5.0 has; afterwards the broker knows it.
    pub fn leave_with(mut self, code: u8) {
        self.send(disconnect(code));
        self.expect_end();
    }
}

impl Stage {
    /// A client of another version than the stage's.
    pub fn accepted_as(&self, version: Version, connect: Connect) -> Client {
        let mut client = self.socket_of(version);
        client.send(connect);
        assert_eq!(client.expect_connack().code, 0, "accepted");
        client
    }
}

/// An acknowledgement with a reason code and nothing behind it.
pub fn ack_with(first: u8, id: u16, code: u8) -> Packet {
    Packet::new(first).u16(id).u8(code)
}
