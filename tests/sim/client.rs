//! A client that follows the standard to the letter, answers late, and vanishes at any moment.

use crate::Dice;
use crate::world::World;
use reveille_broker_core::io::{ConnectionKey, Identity, Opening};
use reveille_broker_core::presence::bridge_app;
use reveille_proto::bridge::{self, Wire};
use reveille_proto::ids::{AppId, ClientId, MessageId, PacketId};
use reveille_proto::mqtt::{
    Ack, Connect, ConnectProperties, Packet, Publish, PublishProperties, QoS, Subscribe, SubscriptionOptions,
    Version, Will,
};
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::TopicName;
use std::collections::{BTreeSet, VecDeque};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Publisher,
    /// Takes its share of `活/#`.
    Worker,
    /// Hears wills.
    Heir,
    Device {
        qos: u8,
        level: u8,
    },
    Bridge,
}

#[derive(Clone, Debug)]
pub struct Published {
    pub id: String,
    pub qos: u8,
    pub to: To,
    pub is_acknowledged: bool,
}

/// Whom a publish is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// Every device.
    Devices,
    /// One worker or the other.
    Workers,
    /// Whoever asks for the topic later.
    Retained(String),
}

#[derive(Clone, Debug)]
pub struct Directed {
    pub id: String,
    pub targets: Vec<String>,
    pub is_acknowledged: bool,
}

#[derive(Clone, Debug)]
pub struct Got {
    pub id: String,
    pub publisher: String,
    pub topic: String,
    pub count: usize,
}

#[derive(Clone, Debug)]
enum Outgoing {
    Publish(Box<Publish>, String),
    Release(PacketId),
}

pub struct Client {
    pub name: String,
    pub role: Role,
    pub published: Vec<Published>,
    pub directed: Vec<Directed>,
    pub got: Vec<Got>,
    at: Option<(usize, ConnectionKey)>,
    is_connected: bool,
    has_session: bool,
    is_subscribed: bool,
    answers: VecDeque<Packet>,
    unfinished: Vec<Outgoing>,
    received: BTreeSet<PacketId>,
    acked: BTreeSet<(String, String)>,
    next_id: u16,
    count: usize,
    /// Publishes that the broker refused.
    pub refused: usize,
    /// Counts connections: each has a will of its own.
    life: usize,
}

impl Client {
    pub fn new(name: &str, role: Role) -> Self {
        Self {
            name: name.to_owned(),
            role,
            published: Vec::new(),
            directed: Vec::new(),
            got: Vec::new(),
            at: None,
            is_connected: false,
            has_session: false,
            is_subscribed: false,
            answers: VecDeque::new(),
            unfinished: Vec::new(),
            received: BTreeSet::new(),
            acked: BTreeSet::new(),
            next_id: 1,
            count: 0,
            refused: 0,
            life: 0,
        }
    }

    pub fn is_subscribed(&self) -> bool {
        self.is_subscribed
    }

    fn trace(&self, what: &dyn std::fmt::Debug) {
        if std::env::var_os("SIM_TRACE").is_some() {
            println!("{} {what:?}", self.name);
        }
    }

    pub fn heard_acked(&self, id: &str, device: &str) -> bool {
        self.acked.contains(&(id.to_owned(), device.to_owned()))
    }

    fn version(&self) -> Version {
        match self.role {
            Role::Device { level: 3, .. } => Version::V3_1,
            Role::Device { level: 4, .. } => Version::V3_1_1,
            _ => Version::V5,
        }
    }

    pub fn connect(&mut self, world: &mut World) {
        if self.at.is_some() {
            return;
        }
        self.life += 1;
        let expiry = (self.version() == Version::V5).then_some(u32::MAX);
        let connect = Connect {
            version: self.version(),
            clean_start: false,
            keep_alive: 0,
            client_id: self.name.as_str().into(),
            will: self.will(),
            username: None,
            password: None,
            properties: ConnectProperties { session_expiry_interval: expiry, ..Default::default() },
        };
        let is_bridge = self.role == Role::Bridge;
        let app = if is_bridge { bridge_app() } else { AppId::default() };
        let opening = Opening {
            connect: Box::new(connect),
            identity: Identity { is_bridge, ..Identity::of(app) },
            client_id: ClientId::parse(&self.name).unwrap(),
            is_assigned: false,
            network: "sim".into(),
            limits: World::limits().connection,
            listener: "sim".into(),
            authentication_data: None,
            hello: None,
            advice: None,
        };
        self.at = Some(world.open(opening));
    }

    /// Every device leaves one.
    fn will(&self) -> Option<Will> {
        let topic = TopicName::parse(format!("遗/{}", self.name)).unwrap();
        matches!(self.role, Role::Device { .. }).then(|| Will {
            topic,
            payload: self.last_words().into_bytes().into(),
            qos: QoS::AtLeastOnce,
            retain: false,
            delay_interval: None,
            properties: PublishProperties::default(),
        })
    }

    fn last_words(&self) -> String {
        format!("will-{}|{}", self.name, self.life)
    }

    pub fn stay_alive(&mut self, world: &mut World) {
        self.send(world, &Packet::PingReq);
    }

    /// The network is gone; the broker may hear of it or not.
    pub fn vanish(&mut self, world: &mut World, dice: &mut Dice) {
        let Some(at) = self.at else { return };
        if dice.once_in(4) {
            // The next connection takes over from one that never ended.
            self.was_cut();
        } else {
            let has_will = self.is_connected && self.will().is_some();
            world.lose(at, has_will.then(|| self.last_words()));
            self.was_cut();
        }
    }

    pub fn was_cut(&mut self) {
        self.trace(&"cut");
        self.at = None;
        self.is_connected = false;
        self.answers.clear();
    }

    fn send(&mut self, world: &mut World, packet: &Packet) {
        if let Some(at) = self.at.filter(|_| self.is_connected) {
            self.trace(&("->", packet));
            world.send(at, packet, self.version());
        }
    }

    fn packet_id(&mut self) -> PacketId {
        let id = PacketId::new(self.next_id).unwrap();
        self.next_id = self.next_id % 60_000 + 1;
        id
    }

    pub fn subscribe(&mut self, world: &mut World) {
        let qos = match self.role {
            Role::Publisher => {
                self.is_subscribed = true;
                return;
            }
            Role::Device { qos, .. } => QoS::from_u8(qos).unwrap(),
            Role::Bridge | Role::Worker | Role::Heir => QoS::AtLeastOnce,
        };
        let filters: &[&'static str] = match self.role {
            Role::Bridge => &["$push/v1/queued", "$push/v1/unacked", "$push/v1/acked", "$push/v1/presence"],
            Role::Worker => &["$share/工人/活/#"],
            Role::Heir => &["遗/#"],
            _ => &["设备/#"],
        };
        let options = SubscriptionOptions { qos, ..Default::default() };
        let subscribe = Subscribe {
            packet_id: self.packet_id(),
            subscription_identifier: None,
            user_properties: Vec::new(),
            filters: filters.iter().map(|filter| ((*filter).into(), options)).collect(),
        };
        self.send(world, &Packet::Subscribe(Box::new(subscribe)));
    }

    pub fn publish_something(&mut self, world: &mut World, dice: &mut Dice) {
        if !self.is_connected || self.unfinished.len() >= 8 {
            return;
        }
        match self.role {
            Role::Publisher => self.publish(world, dice),
            Role::Bridge => self.direct(world, dice),
            Role::Device { .. } | Role::Worker | Role::Heir => {}
        }
    }

    fn publish(&mut self, world: &mut World, dice: &mut Dice) {
        let qos = 1 + dice.below(2) as u8;
        let number = dice.below(3);
        let (topic, to, kind) = match dice.below(10) {
            0 => (format!("$delayed/{}/设备/{number}", 1 + number), To::Devices, "delayed-"),
            1 | 2 => (format!("活/{number}"), To::Workers, ""),
            // Of one publisher and QoS alone: only so is there an order, and one that is the last. Section 4.6.
            3 => {
                let topic = format!("保/{}/{qos}/{}", self.name, number % 2);
                (topic.clone(), To::Retained(topic), "")
            }
            _ => (format!("设备/{number}"), To::Devices, ""),
        };
        let id = format!("{kind}{}|{qos}|{}", self.name, self.count);
        self.count += 1;
        self.published.push(Published { id: id.clone(), qos, to: to.clone(), is_acknowledged: false });
        let retain = matches!(to, To::Retained(_));
        self.send_publish(world, topic, id.clone().into_bytes(), (qos, retain), id);
    }

    fn direct(&mut self, world: &mut World, dice: &mut Dice) {
        let devices = ["设备-1", "device-2", "device-3", "device-4"];
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&(self.count as u64 + 1).to_be_bytes());
        let id = MessageId(bytes);
        self.count += 1;
        let targets: Vec<String> = devices[..1 + dice.below(4)].iter().map(ToString::to_string).collect();
        let text = id.to_string();
        let message = bridge::Message {
            id: bytes.to_vec().into(),
            app: AppId::DEFAULT.into(),
            topic: bridge::MESSAGE.into(),
            payload: text.clone().into(),
            qos: 1,
            wait_ack_ms: 50,
            ..Default::default()
        };
        let send = bridge::Send { message: Some(message), client_ids: targets.clone() };
        self.directed.push(Directed { id: text.clone(), targets, is_acknowledged: false });
        self.send_publish(world, bridge::SEND.into(), send.encode_to_vec(), (1, false), text);
    }

    fn send_publish(
        &mut self,
        world: &mut World,
        topic: String,
        payload: Vec<u8>,
        (qos, retain): (u8, bool),
        id: String,
    ) {
        let publish = Publish {
            dup: false,
            qos: QoS::from_u8(qos).unwrap(),
            retain,
            topic: Some(TopicName::parse(topic).unwrap()),
            packet_id: Some(self.packet_id()),
            properties: PublishProperties::default(),
            payload: payload.into(),
        };
        self.unfinished.push(Outgoing::Publish(Box::new(publish.clone()), id));
        self.send(world, &Packet::Publish(Box::new(publish)));
    }

    /// Sends some of the answers that it owes.
    pub fn answer(&mut self, world: &mut World, dice: &mut Dice) {
        for _ in 0..dice.below(4) {
            if let Some(packet) = self.answers.pop_front() {
                self.send(world, &packet);
            }
        }
    }

    pub fn answer_all(&mut self, world: &mut World) -> bool {
        let any = !self.answers.is_empty();
        while let Some(packet) = self.answers.pop_front() {
            self.send(world, &packet);
        }
        any
    }

    /// Takes what came from the broker.
    pub fn read(&mut self, world: &mut World) -> bool {
        let Some(at) = self.at else { return false };
        let version = self.version();
        let mut packets = Vec::new();
        let Some(wire) = world.wire(at) else { return false };
        while let Some(packet) = reveille_proto::mqtt::read(&mut wire.bytes, Some(version), u32::MAX).unwrap()
        {
            packets.push(packet);
        }
        let is_closed = wire.is_closed;
        let any = !packets.is_empty();
        for packet in packets {
            self.take(world, packet);
        }
        if is_closed {
            self.was_cut();
        }
        any
    }

    fn take(&mut self, world: &mut World, packet: Packet) {
        self.trace(&("<-", &packet));
        if !self.is_connected {
            if matches!(packet, Packet::Disconnect(_)) {
                return; // the store refused what CONNACK had to wait for
            }
            let Packet::ConnAck(connack) = packet else { panic!("{}: {packet:?} before CONNACK", self.name) };
            assert_eq!(connack.reason, ReasonCode::SUCCESS, "{}", self.name);
            let is_v3_1 = self.version() == Version::V3_1; // has no session present flag
            assert!(
                connack.session_present || !self.has_session || is_v3_1,
                "{}: the session is lost",
                self.name
            );
            self.is_connected = true;
            return self.resume(world);
        }
        match packet {
            Packet::SubAck(_) => {
                self.is_subscribed = true;
                self.has_session = true;
            }
            Packet::Publish(publish) => self.take_publish(&publish),
            Packet::PubRel(ack) => {
                self.received.remove(&ack.packet_id);
                self.answers.push_back(Packet::PubComp(Ack::new(ack.packet_id, ReasonCode::SUCCESS)));
            }
            Packet::PubAck(ack) => self.acknowledged(ack.packet_id, ack.reason, QoS::AtLeastOnce),
            Packet::PubRec(ack) => {
                self.acknowledged(ack.packet_id, ack.reason, QoS::ExactlyOnce);
                if ack.reason.is_failure() {
                    return;
                }
                self.answers.push_back(Packet::PubRel(Ack::new(ack.packet_id, ReasonCode::SUCCESS)));
            }
            Packet::PubComp(ack) => {
                self.unfinished.retain(|out| !matches!(out, Outgoing::Release(id) if *id == ack.packet_id));
            }
            Packet::PingResp | Packet::Disconnect(_) => {}
            other => panic!("{}: unexpected {other:?}", self.name),
        }
    }

    /// `[MQTT5-4.4.0-1]`: what is not finished is sent again, in order, with the same identifiers.
    fn resume(&mut self, world: &mut World) {
        for outgoing in self.unfinished.clone() {
            match outgoing {
                Outgoing::Publish(publish, _) => {
                    let again = Publish { dup: true, ..*publish };
                    self.send(world, &Packet::Publish(Box::new(again)));
                }
                Outgoing::Release(id) => self.send(world, &Packet::PubRel(Ack::new(id, ReasonCode::SUCCESS))),
            }
        }
    }

    fn acknowledged(&mut self, id: PacketId, reason: ReasonCode, qos: QoS) {
        let is_it =
            |out: &Outgoing| matches!(out, Outgoing::Publish(publish, _) if publish.packet_id == Some(id));
        let Some(at) = self.unfinished.iter().position(is_it) else { return };
        let Outgoing::Publish(publish, text) = self.unfinished.remove(at) else { return };
        if reason.is_failure() {
            self.refused += 1; // what it does not know to be safe may come or not
            return;
        }
        assert_eq!(publish.qos, qos, "{}: the right kind of acknowledgement", self.name);
        if qos == QoS::ExactlyOnce {
            self.unfinished.push(Outgoing::Release(id));
        }
        for published in self.published.iter_mut().filter(|published| published.id == text) {
            published.is_acknowledged = true;
        }
        for directed in self.directed.iter_mut().filter(|directed| directed.id == text) {
            directed.is_acknowledged = true;
        }
    }

    fn take_publish(&mut self, publish: &Publish) {
        let Some(id) = publish.packet_id else { return };
        match publish.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => {
                self.note(publish);
                self.answers.push_back(Packet::PubAck(Ack::new(id, ReasonCode::SUCCESS)));
            }
            QoS::ExactlyOnce => {
                if self.received.insert(id) {
                    self.note(publish);
                }
                self.answers.push_back(Packet::PubRec(Ack::new(id, ReasonCode::SUCCESS)));
            }
        }
    }

    fn note(&mut self, publish: &Publish) {
        let topic = publish.topic.as_ref().unwrap().to_string();
        if self.role == Role::Bridge {
            if topic == bridge::ACKED {
                let acked = bridge::Acked::decode(publish.payload.clone()).unwrap();
                let id = MessageId::from_bytes(&acked.message_id).unwrap().to_string();
                self.acked.extend(acked.devices.into_iter().map(|device| (id.clone(), device.client_id)));
            }
            return;
        }
        let id = String::from_utf8(publish.payload.to_vec()).unwrap();
        let (publisher, count) = match id.rsplit_once('|') {
            // What was delayed keeps no order with what was not.
            Some((publisher, _)) if publisher.starts_with("delayed-") => (publisher.to_owned(), usize::MAX),
            Some((publisher, count)) => (publisher.to_owned(), count.parse().unwrap()),
            None => ("bridge".to_owned(), usize::MAX),
        };
        self.got.push(Got { id, publisher, topic, count });
    }
}
