//! What an operator follows for a while: one client, one topic, or what one client has to do with one topic.

use bytestring::ByteString;
use reveille_proto::ids::{AppId, ClientId};
use reveille_proto::mqtt::{Packet, QoS, Version};
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::{TopicFilter, TopicName};

/// Rules that may be in force at once: each is asked about each packet.
pub const TRACES_MAX: usize = 16;

/// What to follow. At least one of client and filter is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceRule {
    /// Its number, to take it back.
    pub number: u64,
    /// The tenant.
    pub app: AppId,
    /// This client; `None`: every one.
    pub client_id: Option<ClientId>,
    /// Topics under this filter; `None`: every one.
    pub filter: Option<TopicFilter>,
}

/// Something that a rule wanted to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Which rule.
    pub rule: u64,
    /// The client that it happened to.
    pub client_id: Option<ClientId>,
    /// The topic that it was about.
    pub topic: Option<TopicName>,
    /// What happened.
    pub what: Traced,
}

/// What happened to a client or a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is named after what it tells")]
pub enum Traced {
    /// CONNECT was accepted.
    Connected { version: Version, network: ByteString, keep_alive: u16, session_present: bool },
    /// The connection is over.
    Disconnected { reason: ReasonCode },
    /// A packet came.
    Received(PacketView),
    /// A packet was written.
    Sent(PacketView),
    /// A message was taken from its publisher.
    Published { qos: QoS, retain: bool, bytes: usize },
    /// The message goes to so many shards; 0: nobody subscribes.
    Routed { shards: usize },
    /// The message has a place in the session's queue.
    Queued { qos: QoS },
    /// A session does not get the message.
    Dropped { reason: &'static str },
}

/// A packet in a few words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is named after what it tells")]
pub struct PacketView {
    pub name: &'static str,
    pub packet_id: Option<u16>,
    /// Of the payload.
    pub bytes: Option<usize>,
    pub reason: Option<ReasonCode>,
    /// Filters and what was granted.
    pub detail: String,
}

impl TraceRule {
    /// Whether something about this client and topic is to be told.
    pub fn wants(&self, app: &AppId, client_id: &ClientId, topic: Option<&TopicName>) -> bool {
        self.app == *app
            && self.client_id.as_ref().is_none_or(|wanted| wanted == client_id)
            && match (&self.filter, topic) {
                (None, _) => true,
                (Some(filter), Some(topic)) => filter.matches(topic),
                // Whether a client is there at all is half of the answer to why it did not get a message.
                (Some(_), None) => self.client_id.is_some(),
            }
    }

    /// Whether a message is to be told of, whoever published it: a rule for one client and one topic asks what became of
    /// everybody's messages on it.
    pub fn wants_message(&self, app: &AppId, topic: &TopicName) -> bool {
        self.app == *app && self.filter.as_ref().is_some_and(|filter| filter.matches(topic))
    }
}

impl PacketView {
    /// A packet in a few words.
    pub fn of(packet: &Packet) -> Self {
        let name = packet_name(packet);
        let id = |id: reveille_proto::ids::PacketId| Some(id.get());
        let named = Self { name, ..Self::default() };
        match packet {
            Packet::Publish(publish) => Self {
                packet_id: publish.packet_id.and_then(id),
                bytes: Some(publish.payload.len()),
                ..named
            },
            Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
                Self { packet_id: id(ack.packet_id), reason: Some(ack.reason), ..named }
            }
            Packet::Subscribe(subscribe) => {
                let filters = subscribe.filters.iter();
                let filters = filters.map(|(filter, options)| format!("{filter} qos {}", options.qos as u8));
                Self {
                    packet_id: id(subscribe.packet_id),
                    detail: filters.collect::<Vec<_>>().join(", "),
                    ..named
                }
            }
            Packet::SubAck(suback) => {
                Self { packet_id: id(suback.packet_id), detail: codes(&suback.reasons), ..named }
            }
            Packet::Unsubscribe(unsubscribe) => Self {
                packet_id: id(unsubscribe.packet_id),
                detail: unsubscribe.filters.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
                ..named
            },
            Packet::UnsubAck(unsuback) => {
                Self { packet_id: id(unsuback.packet_id), detail: codes(&unsuback.reasons), ..named }
            }
            Packet::ConnAck(connack) => Self { reason: Some(connack.reason), ..named },
            Packet::Disconnect(disconnect) => Self { reason: Some(disconnect.reason), ..named },
            Packet::Auth(auth) => Self { reason: Some(auth.reason), ..named },
            Packet::Connect(_) | Packet::PingReq | Packet::PingResp => named,
        }
    }
}

fn codes(reasons: &[ReasonCode]) -> String {
    reasons.iter().map(|reason| format!("{:#04x}", reason.get())).collect::<Vec<_>>().join(", ")
}

/// As the standard writes it.
pub fn packet_name(packet: &Packet) -> &'static str {
    match packet {
        Packet::Connect(_) => "CONNECT",
        Packet::ConnAck(_) => "CONNACK",
        Packet::Publish(_) => "PUBLISH",
        Packet::PubAck(_) => "PUBACK",
        Packet::PubRec(_) => "PUBREC",
        Packet::PubRel(_) => "PUBREL",
        Packet::PubComp(_) => "PUBCOMP",
        Packet::Subscribe(_) => "SUBSCRIBE",
        Packet::SubAck(_) => "SUBACK",
        Packet::Unsubscribe(_) => "UNSUBSCRIBE",
        Packet::UnsubAck(_) => "UNSUBACK",
        Packet::PingReq => "PINGREQ",
        Packet::PingResp => "PINGRESP",
        Packet::Disconnect(_) => "DISCONNECT",
        Packet::Auth(_) => "AUTH",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_hears_what_it_asked_for_and_nothing_else() {
        let rule = |client_id: Option<&str>, filter: Option<&str>| TraceRule {
            number: 1,
            app: AppId::default(),
            client_id: client_id.map(|text| ClientId::parse(text).unwrap()),
            filter: filter.map(|text| TopicFilter::parse(text).unwrap()),
        };
        let rows = [
            (rule(Some("a"), None), "a", None, true),
            (rule(Some("a"), None), "a", Some("t"), true),
            (rule(Some("a"), None), "b", Some("t"), false),
            (rule(None, Some("t/#")), "b", Some("t/设备"), true),
            (rule(None, Some("t/#")), "b", Some("u"), false),
            (rule(None, Some("t/#")), "b", None, false),
            (rule(Some("a"), Some("t/#")), "a", None, true),
            (rule(Some("a"), Some("t/#")), "a", Some("u"), false),
            (rule(Some("a"), Some("t/#")), "b", Some("t"), false),
        ];
        let (default, other) = (AppId::default(), AppId::parse("shop").unwrap());
        for (rule, client_id, topic, wanted) in rows {
            let client_id = ClientId::parse(client_id).unwrap();
            let topic = topic.map(|text| TopicName::parse(text).unwrap());
            assert_eq!(rule.wants(&default, &client_id, topic.as_ref()), wanted, "{rule:?} {topic:?}");
            assert!(!rule.wants(&other, &client_id, topic.as_ref()), "another tenant's");
        }
        let topic = TopicName::parse("t/1").unwrap();
        for (rule, wanted) in [
            (rule(Some("a"), Some("t/#")), true),
            (rule(None, Some("t/#")), true),
            (rule(None, Some("u")), false),
            (rule(Some("a"), None), false),
        ] {
            assert_eq!(rule.wants_message(&default, &topic), wanted, "{rule:?}");
        }
    }
}
