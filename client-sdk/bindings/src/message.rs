//! One message in the hands of the app.

use crate::error::ClientError;
use crate::types::QoS;
use reveille_client as sdk;
use std::sync::{Arc, Mutex, PoisonError};

/// A message that the app has not had before.
///
/// It stays unacknowledged until `handled`. One that is let go without it is delivered again on the next connection.
#[derive(Debug, uniffi::Object)]
pub struct Message {
    content: Content,
    /// Taken by `handled`, and held for that instant only.
    owed: Mutex<Option<sdk::Message>>,
}

/// What is read of it, also after it was handled.
#[derive(Debug)]
struct Content {
    id: Option<String>,
    topic: String,
    payload: Vec<u8>,
    qos: QoS,
    is_retained: bool,
    title: Option<String>,
    body: Option<String>,
    data: Option<String>,
    sent_at_ms: Option<u64>,
    expires_at_ms: Option<u64>,
    collapse_key: Option<String>,
    recalled: Option<String>,
}

impl Message {
    pub(crate) fn new(message: sdk::Message) -> Arc<Self> {
        let content = Content {
            id: message.id().map(|id| id.to_string()),
            topic: message.topic().to_owned(),
            payload: message.payload().to_vec(),
            qos: message.qos().into(),
            is_retained: message.is_retained(),
            title: message.title().map(str::to_owned),
            body: message.body().map(str::to_owned),
            data: message.data().map(ToString::to_string),
            sent_at_ms: message.sent_at().map(|at| at.0),
            expires_at_ms: message.expires_at().map(|at| at.0),
            collapse_key: message.collapse_key().map(str::to_owned),
            recalled: message.recalled().map(|id| id.to_string()),
        };
        Arc::new(Self { content, owed: Mutex::new(Some(message)) })
    }
}

#[uniffi::export]
impl Message {
    /// Its identity across socket and vendors; only push messages have one.
    pub fn id(&self) -> Option<String> {
        self.content.id.clone()
    }

    /// The topic name; `$push/message` for what was sent to this device.
    pub fn topic(&self) -> String {
        self.content.topic.clone()
    }

    /// The bytes as they came.
    pub fn payload(&self) -> Vec<u8> {
        self.content.payload.clone()
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
    pub fn title(&self) -> Option<String> {
        self.content.title.clone()
    }

    /// The alert's text.
    pub fn body(&self) -> Option<String> {
        self.content.body.clone()
    }

    /// The app's own data in a message sent to this device, as JSON.
    pub fn data(&self) -> Option<String> {
        self.content.data.clone()
    }

    /// When the business sent it: milliseconds since 1970.
    pub fn sent_at_ms(&self) -> Option<u64> {
        self.content.sent_at_ms
    }

    /// After this time it should not be shown: milliseconds since 1970.
    pub fn expires_at_ms(&self) -> Option<u64> {
        self.content.expires_at_ms
    }

    /// A message with the same key replaces this one, also on the screen.
    pub fn collapse_key(&self) -> Option<String> {
        self.content.collapse_key.clone()
    }

    /// The id of a message that was withdrawn, if this one says so: its notification is to be taken away.
    pub fn recalled(&self) -> Option<String> {
        self.content.recalled.clone()
    }

    /// Says that the app is done with it: its id is written to the inbox file, then the message is acknowledged. Saying it
    /// twice does no harm.
    ///
    /// # Errors
    /// [`ClientError`] when the id could not be written or the client is closed; the message is then not acknowledged and
    /// comes again.
    pub async fn handled(&self) -> Result<(), ClientError> {
        let owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner).take();
        match owed {
            Some(message) => Ok(message.handled().await?),
            None => Ok(()),
        }
    }
}
