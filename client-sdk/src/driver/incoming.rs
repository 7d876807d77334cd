//! The way in: from a PUBLISH to the app, once, and the acknowledgement back when the app has handled it.

use super::{Driver, count};
use crate::inbox::{Acceptance, Source, UnixMillis};
use crate::message::{Content, Ending, Message};
use crate::payload::INBOX_TOPIC;
use crate::received::{Acknowledgement, Arrival, DeliveryKey};
use reveille_proto::heartbeat::{CONFIG_TOPIC, Config};
use reveille_proto::ids::MessageId;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Publish;
use std::time::Duration;

impl Driver {
    pub(super) fn on_publish(&mut self, publish: &Publish) {
        if publish.topic == CONFIG_TOPIC && publish.qos == QoS::AtMostOnce {
            self.on_advice(&publish.payload);
            return;
        }
        if publish.topic == INBOX_TOPIC && publish.qos == QoS::AtLeastOnce {
            self.acknowledge([Acknowledgement { packet_id: publish.pkid, qos: publish.qos }]);
            self.on_inbox(&publish.payload);
            return;
        }
        let content = Content::read(publish);
        if publish.qos == QoS::AtMostOnce {
            self.on_unacknowledged(content);
            return;
        }
        match self.received.arrived(publish.pkid, publish.qos, publish.dup, content.id) {
            Arrival::Fresh(key) => self.on_fresh(content, key),
            Arrival::WithApp => {}
            Arrival::Acknowledge => {
                self.acknowledge([Acknowledgement { packet_id: publish.pkid, qos: publish.qos }]);
            }
        }
    }

    /// The broker's advice is ours, not the app's.
    fn on_advice(&mut self, payload: &[u8]) {
        if let Some(advice) = std::str::from_utf8(payload).ok().and_then(Config::parse) {
            self.heartbeat.advised(&advice);
            self.reconnect.advised(Duration::from_secs(u64::from(advice.window_s)));
        }
    }

    /// News of the user's inbox are for whoever asked, and for the counts.
    fn on_inbox(&mut self, payload: &[u8]) {
        self.ends.desk.take(payload);
        if self.watching.told() {
            self.ask_for_counts();
        }
    }

    /// A message came that is kept there, or the app begins to look: the counts are others.
    pub(super) fn inbox_changed(&mut self) {
        if self.ends.desk.is_used() && self.watching.changed() {
            self.ask_for_counts();
        }
    }

    fn on_unacknowledged(&mut self, content: Content) {
        let has_room = self.ends.messages.as_ref().is_some_and(|messages| {
            // The rest of the channel belongs to QoS 1 and 2, which the broker may send up to Receive Maximum.
            messages.capacity() > usize::from(self.options.receive_maximum)
        });
        if !has_room {
            count(&self.ends.dropped);
        } else if self.is_new(content.id) {
            self.deliver(content, None);
        }
    }

    fn on_fresh(&mut self, content: Content, key: DeliveryKey) {
        let acceptance = content.id.map_or(Acceptance::Show, |id| self.accept(id));
        match acceptance {
            Acceptance::Show => self.deliver(content, Some(key)),
            Acceptance::WithApp(_) => {} // acknowledged when the app has handled the other copy
            Acceptance::Duplicate => {
                let acknowledgement = self.received.handled(key);
                self.acknowledge(acknowledgement);
            }
        }
    }

    /// Gives a message to the app; one that finds no room is given back, and comes again on the next connection.
    fn deliver(&mut self, content: Content, key: Option<DeliveryKey>) {
        if content.is_in_inbox() {
            self.inbox_changed();
        }
        let id = content.id;
        let Some(messages) = self.ends.messages.clone() else {
            // A publisher asked for nothing, so nothing is kept for it.
            let acknowledgement = key.and_then(|key| self.received.handled(key));
            self.acknowledge(acknowledgement);
            return;
        };
        let owes_a_word = key.is_some() || id.is_some();
        let reserved = owes_a_word.then(|| self.ends.endings_sender.clone().try_reserve_owned()).transpose();
        let (Ok(permit), Ok(place)) = (reserved, messages.try_reserve()) else {
            count(&self.ends.dropped);
            self.give_back(id, key);
            return;
        };
        place.send(Message::new(content, permit.map(|permit| Ending { id, key, permit })));
    }

    pub(super) fn give_back(&mut self, id: Option<MessageId>, key: Option<DeliveryKey>) {
        if let Some(id) = id.filter(|id| !self.inbox.is_handled(*id)) {
            self.inbox.released(id);
            self.received.given_back_id(id);
        }
        if let Some(key) = key {
            self.received.given_back(key);
        }
    }

    pub(super) fn acknowledge(&mut self, acknowledgements: impl IntoIterator<Item = Acknowledgement>) {
        let Some(online) = &mut self.online else {
            return;
        };
        for Acknowledgement { packet_id, qos } in acknowledgements {
            let publish = Publish { pkid: packet_id, qos, ..Publish::default() };
            online.is_broken |= self.rumqttc.try_ack(&publish).is_err();
            online.unwritten += 1;
        }
    }

    fn is_new(&mut self, id: Option<MessageId>) -> bool {
        id.is_none_or(|id| self.accept(id) == Acceptance::Show)
    }

    fn accept(&mut self, id: MessageId) -> Acceptance {
        self.inbox.accept(id, Source::Socket, UnixMillis::now())
    }
}
