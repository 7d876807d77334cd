//! A subscriber that keeps its half of the QoS 2 exchange over any number of broken connections.

use crate::publisher::Publisher;
use reveille_proto::ids::PacketId;
use reveille_proto::mqtt::{Ack, Packet, Publish, QoS};
use reveille_proto::reason::ReasonCode;
use reveille_tests::mqtt::{Client, Options, ReceiveError};
use std::collections::HashMap;
use std::net::SocketAddr;

/// One persistent session that acknowledges at once and writes down what it got.
#[derive(Debug)]
pub struct Subscriber {
    pub name: &'static str,
    /// By publisher: the numbers in the order of arrival.
    pub received: HashMap<String, Vec<Received>>,
    /// Identifiers between PUBREC and PUBREL. [MQTT5-4.3.3-10]
    unreleased: HashMap<PacketId, String>,
}

/// One number that came.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    pub seq: u32,
}

impl Subscriber {
    pub fn new(name: &'static str) -> Self {
        Self { name, received: HashMap::new(), unreleased: HashMap::new() }
    }

    /// Makes the session.
    pub fn subscribe(&mut self, address: SocketAddr, filter: &str) {
        let mut client = Client::connect(address, &Options::persistent(self.name));
        assert_eq!(client.subscribe(filter, QoS::ExactlyOnce), ReasonCode::GRANTED_QOS_2);
        client.disconnect();
    }

    /// Receives until the broker is gone.
    pub fn receive_until_lost(&mut self, address: SocketAddr) {
        let lost = self.receive(address, |_| false).expect_err("only the kill ends it");
        assert!(matches!(lost, ReceiveError::Lost(_)), "{}: {lost}", self.name);
    }

    /// Receives until the last number of every publisher came, and then whatever else comes before PINGRESP.
    pub fn drain(&mut self, address: SocketAddr, publishers: &[Publisher]) {
        let is_whole = |this: &Self| publishers.iter().all(|publisher| this.has_last_of(publisher));
        let received = self.receive(address, is_whole);
        let mut client = received.unwrap_or_else(|error| panic!("{error}: {}", self.missing(publishers)));
        client.send(&Packet::PingReq).unwrap();
        loop {
            match client.receive().unwrap() {
                Packet::PingResp => return client.disconnect(),
                packet => self.handle(&mut client, packet).unwrap(),
            }
        }
    }

    /// What `drain` still waits for, in words.
    fn missing(&self, publishers: &[Publisher]) -> String {
        let of = |publisher: &Publisher| {
            let last = self.received.get(publisher.name).and_then(|all| all.last()).map(|last| last.seq);
            format!("{} has {last:?} of {} as its last", publisher.name, publisher.acknowledged.len())
        };
        let publishers: Vec<_> = publishers.iter().map(of).collect();
        format!("{}: {}; unreleased {:?}", self.name, publishers.join(", "), self.unreleased)
    }

    fn has_last_of(&self, publisher: &Publisher) -> bool {
        let wanted = publisher.acknowledged.len().checked_sub(1);
        let last = self.received.get(publisher.name).and_then(|all| all.last());
        wanted.is_none_or(|wanted| last.is_some_and(|last| last.seq as usize == wanted))
    }

    fn receive(
        &mut self,
        address: SocketAddr,
        is_enough: impl Fn(&Self) -> bool,
    ) -> Result<Client, ReceiveError> {
        let mut client = Client::try_connect(address, &Options::persistent(self.name))?;
        assert_eq!(client.connack.reason, ReasonCode::SUCCESS);
        assert!(client.session_present(), "the session of {} is gone", self.name);
        while !(is_enough(self) && self.unreleased.is_empty()) {
            let packet = client.receive()?;
            self.handle(&mut client, packet)?;
        }
        Ok(client)
    }

    fn handle(&mut self, client: &mut Client, packet: Packet) -> Result<(), ReceiveError> {
        match packet {
            Packet::Publish(publish) => self.take(client, &publish),
            Packet::PubRel(release) => {
                self.unreleased.remove(&release.packet_id);
                Ok(client.send(&Packet::PubComp(Ack::new(release.packet_id, ReasonCode::SUCCESS)))?)
            }
            other => panic!("{} got {other:?}", self.name),
        }
    }

    fn take(&mut self, client: &mut Client, publish: &Publish) -> Result<(), ReceiveError> {
        let packet_id = publish.packet_id.unwrap();
        let ack = Ack::new(packet_id, ReasonCode::SUCCESS);
        if publish.qos == QoS::ExactlyOnce {
            let what = what(publish);
            match self.unreleased.get(&packet_id) {
                None => {
                    self.unreleased.insert(packet_id, what);
                    self.write_down(publish);
                }
                Some(first) => assert!(
                    publish.dup && *first == what,
                    "{packet_id:?} is unreleased since {first}, dup {}, now {what}",
                    publish.dup
                ),
            }
            return Ok(client.send(&Packet::PubRec(ack))?);
        }
        self.write_down(publish);
        Ok(client.send(&Packet::PubAck(ack))?)
    }

    fn write_down(&mut self, publish: &Publish) {
        let topic = publish.topic.as_ref().unwrap().as_str();
        let publisher = topic.strip_prefix("kill/").unwrap();
        let seq = std::str::from_utf8(&publish.payload).unwrap().parse().unwrap();
        let all = self.received.entry(publisher.to_owned()).or_default();
        all.push(Received { seq });
    }
}

/// A message in words.
fn what(publish: &Publish) -> String {
    format!("{:?} {}", publish.topic, String::from_utf8_lossy(&publish.payload))
}
