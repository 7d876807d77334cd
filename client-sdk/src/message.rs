//! One message in the hands of the app, and the stream it comes from.

use crate::client::HandledError;
use crate::driver::Control;
use crate::inbox::UnixMillis;
use crate::payload::{Alert, BODY_PROPERTY, ID_PROPERTY, MESSAGE_TOPIC, RECALL_TOPIC, TITLE_PROPERTY};
use crate::received::DeliveryKey;
use bytes::Bytes;
use reveille_proto::ids::MessageId;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Publish;
use std::fmt;
use tokio::sync::{mpsc, oneshot};

/// The messages of one client, each once, in the order in which they came.
#[derive(Debug)]
pub struct Messages {
    receiver: mpsc::Receiver<Message>,
}

impl Messages {
    pub(crate) fn new(receiver: mpsc::Receiver<Message>) -> Self {
        Self { receiver }
    }

    /// Waits for the next message; `None` once the client is closed and nothing is left. Safe to cancel.
    pub async fn recv(&mut self) -> Option<Message> {
        self.receiver.recv().await
    }
}

/// A message that the app has not had before.
///
/// It stays unacknowledged until [`Message::handled`]. One that is dropped without it is delivered again on the next
/// connection.
pub struct Message {
    content: Content,
    ending: Option<Ending>,
}

/// What stands in a PUBLISH.
pub(crate) struct Content {
    pub id: Option<MessageId>,
    topic: String,
    payload: Bytes,
    qos: QoS,
    is_retained: bool,
    alert: Alert,
}

/// The word that the app owes: kept with a reserved place in the driver's queue, so that it always gets through.
pub(crate) struct Ending {
    pub id: Option<MessageId>,
    pub key: Option<DeliveryKey>,
    pub permit: mpsc::OwnedPermit<Control>,
}

impl Content {
    /// Reads a PUBLISH. A payload on `$push/message` that is no such JSON stays readable as bytes.
    pub fn read(publish: &Publish) -> Self {
        let topic = String::from_utf8_lossy(&publish.topic).into_owned();
        let mut alert = if topic == MESSAGE_TOPIC { read_alert(&publish.payload) } else { Alert::default() };
        alert.title = alert.title.or_else(|| property(publish, TITLE_PROPERTY).map(str::to_owned));
        alert.body = alert.body.or_else(|| property(publish, BODY_PROPERTY).map(str::to_owned));
        let id = property(publish, ID_PROPERTY).or(alert.id.as_deref());
        Self {
            id: id.and_then(|text| MessageId::parse(text).ok()),
            topic,
            payload: publish.payload.clone(),
            qos: publish.qos,
            is_retained: publish.retain,
            alert,
        }
    }

    /// Whether it stays in the user's inbox.
    pub fn is_in_inbox(&self) -> bool {
        self.alert.inbox
    }
}

/// The last one counts: the broker appends its own behind those of the publisher.
fn property<'a>(publish: &'a Publish, name: &str) -> Option<&'a str> {
    let properties = publish.properties.as_ref()?;
    let (_, value) = properties.user_properties.iter().rev().find(|(key, _)| key == name)?;
    Some(value)
}

fn read_alert(payload: &[u8]) -> Alert {
    serde_json::from_slice(payload).unwrap_or_else(|error| {
        tracing::warn!(%error, "a payload of the push server is not its JSON");
        Alert::default()
    })
}

impl Message {
    pub(crate) fn new(content: Content, ending: Option<Ending>) -> Self {
        Self { content, ending }
    }

    /// Its identity across socket and vendors; only push messages have one.
    pub fn id(&self) -> Option<MessageId> {
        self.content.id
    }

    /// The topic name; `$push/message` for what was sent to this device.
    pub fn topic(&self) -> &str {
        &self.content.topic
    }

    /// The bytes as they came.
    pub fn payload(&self) -> &Bytes {
        &self.content.payload
    }

    /// The message that was withdrawn, if this one says so: its notification is to be taken away.
    pub fn recalled(&self) -> Option<MessageId> {
        let told: Alert = (self.topic() == RECALL_TOPIC).then(|| read_alert(self.payload()))?;
        told.id.and_then(|id| MessageId::parse(&id).ok())
    }

    /// With which QoS it was delivered.
    pub fn qos(&self) -> QoS {
        self.content.qos
    }

    /// Whether it is the retained message of its topic.
    pub fn is_retained(&self) -> bool {
        self.content.is_retained
    }

    /// The alert's title.
    pub fn title(&self) -> Option<&str> {
        self.content.alert.title.as_deref()
    }

    /// The alert's text.
    pub fn body(&self) -> Option<&str> {
        self.content.alert.body.as_deref()
    }

    /// The app's own data in a message sent to this device.
    pub fn data(&self) -> Option<&serde_json::Value> {
        self.content.alert.data.as_ref()
    }

    /// When the business sent it.
    pub fn sent_at(&self) -> Option<UnixMillis> {
        self.content.alert.sent_at_ms.map(UnixMillis)
    }

    /// After this time it should not be shown.
    pub fn expires_at(&self) -> Option<UnixMillis> {
        self.content.alert.expires_at_ms.map(UnixMillis)
    }

    /// A message with the same key replaces this one, also on the screen.
    pub fn collapse_key(&self) -> Option<&str> {
        self.content.alert.collapse_key.as_deref()
    }

    /// Whether it stays in the user's inbox.
    pub fn is_in_inbox(&self) -> bool {
        self.content.is_in_inbox()
    }

    /// Says that the app is done with it: its id is written to the inbox file, then the message is acknowledged.
    ///
    /// Returns when the id is on disk. The acknowledgement may still be lost with the connection; the broker then
    /// repeats the message and it is dropped here.
    ///
    /// # Errors
    /// [`HandledError`] when the id could not be written or the client is closed; the message is then not
    /// acknowledged and comes again.
    pub async fn handled(mut self) -> Result<(), HandledError> {
        let Some(ending) = self.ending.take() else {
            return Ok(());
        };
        let (reply, answer) = oneshot::channel();
        ending.permit.send(Control::Handled { id: ending.id, key: ending.key, reply });
        answer.await.unwrap_or(Err(HandledError::Closed))
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if let Some(ending) = self.ending.take() {
            ending.permit.send(Control::GivenBack { id: ending.id, key: ending.key });
        }
    }
}

/// Without its text: what people write to each other does not belong into a log.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.content.id)
            .field("topic", &self.content.topic)
            .field("qos", &self.content.qos)
            .field("payload_bytes", &self.content.payload.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rumqttc::v5::mqttbytes::v5::PublishProperties;

    const ID: &str = "01920000-0000-7000-8000-000000000001";
    const OTHER: &str = "01920000-0000-7000-8000-000000000002";

    fn publish(topic: &str, payload: &str, properties: &[(&str, &str)]) -> Publish {
        let user_properties = properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let properties = PublishProperties { user_properties, ..PublishProperties::default() };
        Publish::new(topic, QoS::AtLeastOnce, payload.to_owned(), Some(properties))
    }

    #[test]
    fn the_id_is_the_brokers_word_wherever_it_stands() {
        let json = format!(r#"{{"id":"{ID}"}}"#);
        for (name, publish, wanted) in [
            ("JSON", publish(MESSAGE_TOPIC, &json, &[]), Some(ID)),
            ("user property", publish("设备/1", "x", &[(ID_PROPERTY, ID)]), Some(ID)),
            (
                "a publisher's own one before it",
                publish("a", "x", &[(ID_PROPERTY, OTHER), (ID_PROPERTY, ID)]),
                Some(ID),
            ),
            ("JSON elsewhere", publish("a", &json, &[]), None),
            ("no UUID", publish("a", "x", &[(ID_PROPERTY, "7")]), None),
            ("none", publish("a", "x", &[]), None),
        ] {
            assert_eq!(Content::read(&publish).id.map(|id| id.to_string()).as_deref(), wanted, "{name}");
        }
    }

    #[test]
    fn a_word_of_what_was_withdrawn_names_it_and_shows_nothing() {
        let told = |topic, payload| {
            Message::new(Content::read(&publish(topic, payload, &[(ID_PROPERTY, OTHER)])), None)
        };
        let json = format!(r#"{{"id":"{ID}"}}"#);
        let message = told(RECALL_TOPIC, &json);
        assert_eq!(message.recalled().map(|id| id.to_string()).as_deref(), Some(ID));
        assert_eq!((message.title(), message.body()), (None, None));
        assert_eq!(
            message.id().map(|id| id.to_string()).as_deref(),
            Some(OTHER),
            "its own id is another one"
        );
        for (topic, payload) in [(MESSAGE_TOPIC, json.as_str()), (RECALL_TOPIC, "x"), (RECALL_TOPIC, "{}")] {
            assert_eq!(told(topic, payload).recalled(), None, "{topic} {payload}");
        }
    }

    #[test]
    fn title_and_body_come_from_the_json_or_from_user_properties() {
        let directed = Content::read(&publish(
            MESSAGE_TOPIC,
            r#"{"title":"t","body":"b","data":{"n":1},"new":[]}"#,
            &[],
        ));
        assert_eq!((directed.alert.title.as_deref(), directed.alert.body.as_deref()), (Some("t"), Some("b")));
        assert_eq!(directed.alert.data, Some(serde_json::json!({"n": 1})));
        let published = Content::read(&publish("a", "x", &[(TITLE_PROPERTY, "t"), (BODY_PROPERTY, "b")]));
        assert_eq!(
            (published.alert.title.as_deref(), published.alert.body.as_deref()),
            (Some("t"), Some("b"))
        );
    }

    #[test]
    fn a_broken_payload_is_still_a_message() {
        let content = Content::read(&publish(MESSAGE_TOPIC, "{", &[(ID_PROPERTY, ID)]));
        assert_eq!(content.alert, Alert::default());
        assert!(content.id.is_some());
    }
}
