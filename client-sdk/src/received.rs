//! Deliveries of QoS 1 and 2 that are not acknowledged yet, across reconnects. Pure.
//!
//! A broker repeats what was unacknowledged when the connection broke, under the same packet identifier with DUP = 1.
//! The app may still be busy with the first copy, or done with it: neither may see a second one. And an
//! acknowledgement goes out only on a connection on which the broker has (again) sent the message.

use reveille_proto::ids::MessageId;
use rumqttc::v5::mqttbytes::QoS;
use std::collections::{HashMap, HashSet};

/// Names one delivery, also after its packet identifier was used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DeliveryKey {
    packet_id: u16,
    number: u64,
}

/// What to do with a PUBLISH of QoS 1 or 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Not with the app.
    Fresh(DeliveryKey),
    /// A repetition of what the app still has.
    WithApp,
    /// A repetition of what the app has handled: acknowledge.
    Acknowledge,
}

/// A PUBACK or PUBREC to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledgement {
    pub packet_id: u16,
    pub qos: QoS,
}

/// ```text
///  PUBLISH --> WithApp --handled, same connection--> PUBACK/PUBREC, forgotten
///               |   |
///               |   +--handled, broken meanwhile--> Handled --repetition--> PUBACK/PUBREC, forgotten
///               +--given back--> GivenBack --repetition--> fresh again
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    WithApp,
    Handled,
    GivenBack,
}

#[derive(Clone, Copy, Debug)]
struct Delivery {
    number: u64,
    id: Option<MessageId>,
    qos: QoS,
    /// The connection on which the broker sent it last.
    connection: u64,
    stage: Stage,
}

/// All unacknowledged deliveries of the session; bounded by the number of packet identifiers.
#[derive(Debug, Default)]
pub(crate) struct Received {
    connection: u64,
    number: u64,
    deliveries: HashMap<u16, Delivery>,
    /// QoS 2: PUBREC is due or sent, PUBREL has not come. `[MQTT5-4.3.3-10]`
    unreleased: HashSet<u16>,
}

impl Received {
    /// The connection is gone: nothing can be acknowledged before the broker repeats it.
    pub fn lost(&mut self) {
        self.connection += 1;
    }

    /// A new connection; without its session the broker repeats nothing.
    pub fn connected(&mut self, session_present: bool) {
        if !session_present {
            self.deliveries.clear();
            self.unreleased.clear();
        }
    }

    /// A PUBLISH of QoS 1 or 2 came.
    pub fn arrived(&mut self, packet_id: u16, qos: QoS, is_dup: bool, id: Option<MessageId>) -> Arrival {
        if qos == QoS::ExactlyOnce && self.unreleased.contains(&packet_id) {
            return Arrival::Acknowledge;
        }
        let is_same = is_dup || qos == QoS::ExactlyOnce;
        let known =
            self.deliveries.get_mut(&packet_id).filter(|known| is_same && known.qos == qos && known.id == id);
        match known.map(|known| (&mut known.connection, known.stage)) {
            Some((connection, Stage::WithApp)) => {
                *connection = self.connection;
                Arrival::WithApp
            }
            Some((_, Stage::Handled)) => {
                self.deliveries.remove(&packet_id);
                self.note_sent(packet_id, qos);
                Arrival::Acknowledge
            }
            Some((_, Stage::GivenBack)) | None => self.begin(packet_id, qos, id),
        }
    }

    /// The app handled this delivery.
    pub fn handled(&mut self, key: DeliveryKey) -> Option<Acknowledgement> {
        let delivery = self.deliveries.get_mut(&key.packet_id).filter(|known| known.number == key.number)?;
        if delivery.connection != self.connection {
            delivery.stage = Stage::Handled;
            return None;
        }
        let qos = delivery.qos;
        self.deliveries.remove(&key.packet_id);
        self.note_sent(key.packet_id, qos);
        Some(Acknowledgement { packet_id: key.packet_id, qos })
    }

    /// The app handled the message with this id: every delivery of it is done.
    pub fn handled_id(&mut self, id: MessageId) -> Vec<Acknowledgement> {
        let same = self.deliveries.iter().filter(|(_, delivery)| delivery.id == Some(id));
        let keys: Vec<_> =
            same.map(|(packet_id, d)| DeliveryKey { packet_id: *packet_id, number: d.number }).collect();
        keys.into_iter().filter_map(|key| self.handled(key)).collect()
    }

    /// The app dropped the message without handling it: a repetition is fresh.
    pub fn given_back(&mut self, key: DeliveryKey) {
        if let Some(delivery) =
            self.deliveries.get_mut(&key.packet_id).filter(|known| known.number == key.number)
        {
            delivery.stage = Stage::GivenBack;
        }
    }

    /// The app dropped the message with this id: a repetition of any delivery of it is fresh.
    pub fn given_back_id(&mut self, id: MessageId) {
        let same = self.deliveries.values_mut().filter(|delivery| delivery.id == Some(id));
        same.for_each(|delivery| delivery.stage = Stage::GivenBack);
    }

    /// PUBREL came: the identifier is free.
    pub fn released(&mut self, packet_id: u16) {
        self.unreleased.remove(&packet_id);
    }

    /// A PUBREL came for an identifier that an earlier process had: rumqttc must be told, else it ends the connection
    /// each time the broker repeats the PUBREL.
    pub fn expect_release(&mut self, packet_id: u16) {
        self.unreleased.insert(packet_id);
    }

    /// The identifiers whose PUBREL may come.
    pub fn unreleased(&self) -> impl Iterator<Item = u16> {
        self.unreleased.iter().copied()
    }

    fn begin(&mut self, packet_id: u16, qos: QoS, id: Option<MessageId>) -> Arrival {
        self.number += 1;
        let (number, connection) = (self.number, self.connection);
        self.deliveries.insert(packet_id, Delivery { number, id, qos, connection, stage: Stage::WithApp });
        Arrival::Fresh(DeliveryKey { packet_id, number })
    }

    fn note_sent(&mut self, packet_id: u16, qos: QoS) {
        if qos == QoS::ExactlyOnce {
            self.unreleased.insert(packet_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: MessageId = MessageId([1; 16]);
    const QOS1: QoS = QoS::AtLeastOnce;
    const QOS2: QoS = QoS::ExactlyOnce;

    fn connected() -> Received {
        let mut received = Received::default();
        received.connected(false);
        received
    }

    fn key(arrival: Arrival) -> DeliveryKey {
        let Arrival::Fresh(key) = arrival else {
            unreachable!("the delivery is fresh, not {arrival:?}");
        };
        key
    }

    #[test]
    fn a_handled_delivery_is_acknowledged_on_its_own_connection() {
        for qos in [QOS1, QOS2] {
            let mut received = connected();
            let first = key(received.arrived(7, qos, false, None));
            assert_eq!(received.handled(first), Some(Acknowledgement { packet_id: 7, qos }), "{qos:?}");
            assert_eq!(received.handled(first), None, "{qos:?}: only once");
        }
    }

    #[test]
    fn a_repetition_is_not_shown_while_the_app_is_busy_and_is_acknowledged_when_it_is_done() {
        for qos in [QOS1, QOS2] {
            let mut received = connected();
            let first = key(received.arrived(7, qos, false, None));
            received.lost();
            received.connected(true);
            assert_eq!(received.arrived(7, qos, true, None), Arrival::WithApp, "{qos:?}");
            assert_eq!(received.handled(first), Some(Acknowledgement { packet_id: 7, qos }), "{qos:?}");
        }
    }

    #[test]
    fn what_was_handled_while_offline_is_acknowledged_when_it_is_repeated_and_not_before() {
        for qos in [QOS1, QOS2] {
            let mut received = connected();
            let first = key(received.arrived(7, qos, false, Some(ID)));
            received.lost();
            assert_eq!(received.handled(first), None, "{qos:?}");
            received.connected(true);
            assert_eq!(received.arrived(7, qos, true, Some(ID)), Arrival::Acknowledge, "{qos:?}");
        }
    }

    #[test]
    fn what_the_app_gave_back_is_fresh_when_it_is_repeated() {
        let mut received = connected();
        let first = key(received.arrived(7, QOS1, false, None));
        received.given_back(first);
        received.lost();
        received.connected(true);
        let second = key(received.arrived(7, QOS1, true, None));
        assert_eq!(received.handled(first), None, "the old key names nothing any more");
        assert!(received.handled(second).is_some());
    }

    #[test]
    fn a_packet_identifier_that_is_used_again_is_another_message() {
        let mut received = connected();
        let old = key(received.arrived(7, QOS1, false, None));
        received.lost();
        received.connected(true);
        let new = key(received.arrived(7, QOS1, false, Some(ID)));
        assert_eq!(received.handled(old), None);
        assert!(received.handled(new).is_some());
    }

    #[test]
    fn without_its_session_the_broker_expects_no_acknowledgement() {
        let mut received = connected();
        let old = key(received.arrived(7, QOS1, false, None));
        received.lost();
        received.connected(false);
        assert_eq!(received.handled(old), None);
        assert!(matches!(received.arrived(7, QOS1, true, None), Arrival::Fresh(_)));
    }

    #[test]
    fn one_id_acknowledges_every_delivery_of_it() {
        let mut received = connected();
        for packet_id in [3, 4] {
            received.arrived(packet_id, QOS1, false, Some(ID));
        }
        received.arrived(5, QOS1, false, None);
        let mut packet_ids: Vec<_> = received.handled_id(ID).into_iter().map(|ack| ack.packet_id).collect();
        packet_ids.sort_unstable();
        assert_eq!(packet_ids, [3, 4]);
    }

    #[test]
    fn a_qos_2_message_is_new_again_only_after_its_release() {
        let mut received = connected();
        let first = key(received.arrived(7, QOS2, false, None));
        received.handled(first);
        received.lost();
        received.connected(true);
        assert_eq!(received.arrived(7, QOS2, true, None), Arrival::Acknowledge);
        assert_eq!(received.unreleased().collect::<Vec<_>>(), [7]);
        received.released(7);
        assert!(matches!(received.arrived(7, QOS2, false, None), Arrival::Fresh(_)));
    }
}
