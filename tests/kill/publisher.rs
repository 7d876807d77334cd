//! A publisher that keeps what is unacknowledged over any number of broken connections.

use bytes::Bytes;
use reveille_proto::ids::PacketId;
use reveille_proto::mqtt::{Ack, Packet, QoS};
use reveille_proto::reason::ReasonCode;
use reveille_tests::mqtt::{Client, Options, ReceiveError, publish};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

/// Publishes that may be unacknowledged at once.
const IN_FLIGHT_MAX: usize = 32;

#[derive(Debug)]
struct InFlight {
    packet_id: PacketId,
    seq: u32,
    /// PUBREC came: from now on only PUBREL is repeated. [MQTT5-4.3.3-7]
    is_received: bool,
}

/// One persistent session that publishes numbers on a topic of its own with one QoS.
#[derive(Debug)]
pub struct Publisher {
    pub name: &'static str,
    pub qos: QoS,
    /// Which numbers the broker acknowledged, by PUBACK or PUBREC.
    pub acknowledged: Vec<bool>,
    /// A broker whose disk goes away refuses what it cannot keep, until it is killed. Otherwise nothing may be refused.
    pub may_be_refused: bool,
    in_flight: VecDeque<InFlight>,
    next_packet_id: u16,
    has_session: bool,
}

impl Publisher {
    pub fn new(name: &'static str, qos: QoS) -> Self {
        let in_flight = VecDeque::new();
        let acknowledged = Vec::new();
        Self {
            name,
            qos,
            acknowledged,
            may_be_refused: false,
            in_flight,
            next_packet_id: 0,
            has_session: false,
        }
    }

    /// Publishes without end, until the broker is gone.
    pub fn send_until_lost(&mut self, address: SocketAddr, is_killed: &AtomicBool) {
        let lost = self.send(address, usize::MAX).expect_err("only the kill ends it");
        let is_loss = matches!(lost, ReceiveError::Lost(_));
        assert!(
            is_loss && (is_killed.load(Ordering::SeqCst) || wait_true(is_killed)),
            "{}: {lost}",
            self.name
        );
    }

    /// Publishes so many more numbers and waits for every acknowledgement.
    pub fn send_some(&mut self, address: SocketAddr, count: usize) {
        self.send(address, self.acknowledged.len() + count).unwrap();
    }

    /// Waits for every acknowledgement.
    pub fn finish(&mut self, address: SocketAddr) {
        self.send_some(address, 0);
    }

    fn send(&mut self, address: SocketAddr, until: usize) -> Result<(), ReceiveError> {
        let mut client = self.resume(address)?;
        loop {
            while self.in_flight.len() < IN_FLIGHT_MAX && self.acknowledged.len() < until {
                self.publish_next(&mut client)?;
            }
            if self.in_flight.is_empty() {
                return Ok(());
            }
            let packet = client.receive()?;
            self.handle(&mut client, packet)?;
        }
    }

    /// Connects and repeats what is unacknowledged, in the original order. [MQTT5-4.4.0-1]
    fn resume(&mut self, address: SocketAddr) -> Result<Client, ReceiveError> {
        let mut client = Client::try_connect(address, &Options::persistent(self.name))?;
        assert_eq!(client.connack.reason, ReasonCode::SUCCESS);
        assert!(client.session_present() || !self.has_session, "the session of {} is gone", self.name);
        self.has_session = true;
        for place in 0..self.in_flight.len() {
            let InFlight { packet_id, seq, is_received } = self.in_flight[place];
            let again = match is_received {
                true => Packet::PubRel(Ack::new(packet_id, ReasonCode::SUCCESS)),
                false => self.packet(packet_id, seq, true),
            };
            client.send(&again)?;
        }
        Ok(client)
    }

    fn publish_next(&mut self, client: &mut Client) -> Result<(), ReceiveError> {
        let packet_id = self.free_packet_id();
        let seq = u32::try_from(self.acknowledged.len()).unwrap();
        self.acknowledged.push(false);
        self.in_flight.push_back(InFlight { packet_id, seq, is_received: false });
        Ok(client.send(&self.packet(packet_id, seq, false))?)
    }

    fn free_packet_id(&mut self) -> PacketId {
        loop {
            self.next_packet_id = self.next_packet_id % u16::MAX + 1;
            let packet_id = PacketId::new(self.next_packet_id).unwrap();
            if self.in_flight.iter().all(|other| other.packet_id != packet_id) {
                return packet_id;
            }
        }
    }

    fn packet(&self, packet_id: PacketId, seq: u32, dup: bool) -> Packet {
        let topic = format!("kill/{}", self.name);
        publish(&topic, Bytes::from(seq.to_string()), self.qos, Some(packet_id), dup)
    }

    fn handle(&mut self, client: &mut Client, packet: Packet) -> Result<(), ReceiveError> {
        match packet {
            Packet::PubAck(ack) | Packet::PubRec(ack) if ack.reason.is_failure() && self.may_be_refused => {
                return Err(ReceiveError::Lost(ErrorKind::StorageFull.into()));
            }
            Packet::Disconnect(_) if self.may_be_refused => {
                return Err(ReceiveError::Lost(ErrorKind::ConnectionAborted.into())); // how QoS 2 hears of it
            }
            Packet::PubAck(ack) if self.qos == QoS::AtLeastOnce => {
                let place = self.place(&ack);
                self.acknowledge(place);
                self.in_flight.remove(place);
            }
            Packet::PubRec(ack) if self.qos == QoS::ExactlyOnce => {
                let place = self.place(&ack);
                self.acknowledge(place);
                self.in_flight[place].is_received = true;
                client.send(&Packet::PubRel(Ack::new(ack.packet_id, ReasonCode::SUCCESS)))?;
            }
            Packet::PubComp(ack) if self.qos == QoS::ExactlyOnce => {
                let place = self.in_flight.iter().position(|other| other.packet_id == ack.packet_id).unwrap();
                assert!(self.in_flight[place].is_received, "PUBCOMP before PUBREC");
                self.in_flight.remove(place);
            }
            other => panic!("{} got {other:?}", self.name),
        }
        Ok(())
    }

    fn place(&self, ack: &Ack) -> usize {
        assert!(!ack.reason.is_failure(), "{}: {ack:?}", self.name);
        self.in_flight.iter().position(|other| other.packet_id == ack.packet_id).unwrap()
    }

    fn acknowledge(&mut self, place: usize) {
        let seq = self.in_flight[place].seq;
        self.acknowledged[seq as usize] = true;
    }
}

/// The connection breaks a moment before the killer has noted its deed.
fn wait_true(flag: &AtomicBool) -> bool {
    reveille_tests::program::wait_for("the kill", || flag.load(Ordering::SeqCst).then_some(true))
}
