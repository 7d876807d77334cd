//! The inbox of the device's user.

use crate::client::{Client, message_id};
use crate::error::ClientError;
use reveille_client as sdk;
use reveille_client::MessageId;

/// What is known of the inbox.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct InboxState {
    /// Whose it is; nothing while the device belongs to nobody.
    pub user: Option<String>,
    /// Messages that the user has not read.
    pub unread: u64,
    /// Grows with every change of one user's inbox.
    pub revision: u64,
}

/// Which part of the inbox.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct InboxQuery {
    /// Older than this message: `next` of the page before.
    #[uniffi(default = None)]
    pub before: Option<String>,
    /// At most so many, of 50.
    #[uniffi(default = 20)]
    pub limit: u16,
    /// Only what was not read.
    #[uniffi(default = false)]
    pub unread: bool,
}

/// A part of the inbox, newest first.
#[derive(Clone, Debug, PartialEq, uniffi::Record)]
pub struct InboxPage {
    /// The messages.
    pub messages: Vec<InboxMessage>,
    /// Where to go on; nothing at the end.
    pub next: Option<String>,
    /// Of the whole inbox.
    pub unread: u64,
}

/// A message that the user keeps.
#[derive(Clone, Debug, PartialEq, uniffi::Record)]
pub struct InboxMessage {
    /// The same as of the message that came over the socket or by a vendor.
    pub id: String,
    /// First line.
    pub title: Option<String>,
    /// The text.
    pub body: Option<String>,
    /// URL of a picture.
    pub image: Option<String>,
    /// What opening it opens.
    pub url: Option<String>,
    /// The app's own data, as JSON.
    pub data: Option<String>,
    /// When the business sent it: milliseconds since 1970.
    pub sent_at_ms: u64,
    /// When it goes by itself: milliseconds since 1970.
    pub expires_at_ms: u64,
    /// When the user read it, on whatever device: milliseconds since 1970.
    pub read_at_ms: Option<u64>,
}

impl From<sdk::InboxState> for InboxState {
    fn from(state: sdk::InboxState) -> Self {
        let sdk::InboxState { user, unread, revision } = state;
        Self { user, unread, revision }
    }
}

impl From<sdk::InboxMessage> for InboxMessage {
    fn from(message: sdk::InboxMessage) -> Self {
        let sdk::InboxMessage { id, title, body, image, url, data, sent_at, expires_at, read_at } = message;
        Self {
            id: id.to_string(),
            title,
            body,
            image,
            url,
            data: data.map(|data| data.to_string()),
            sent_at_ms: sent_at.0,
            expires_at_ms: expires_at.0,
            read_at_ms: read_at.map(|at| at.0),
        }
    }
}

fn message_ids(texts: &[String]) -> Result<Vec<MessageId>, ClientError> {
    texts.iter().map(|text| message_id(text)).collect()
}

#[uniffi::export]
impl Client {
    /// What is known of the inbox of the device's user; nothing until the push server said something. From the first call about the
    /// inbox on it is asked for on every connection.
    pub fn inbox_state(&self) -> Option<InboxState> {
        self.sdk().inbox().state().borrow().clone().map(InboxState::from)
    }

    /// The next state of the inbox, whoever changed it: the state now at the first call, when it is known.
    pub async fn next_inbox_state(&self) -> Option<InboxState> {
        self.next_inbox().await.map(InboxState::from)
    }

    /// How many messages the user has not read.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn inbox_unread(&self) -> Result<u64, ClientError> {
        Ok(self.sdk().inbox().unread().await?)
    }

    /// A part of the inbox.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn inbox_page(&self, query: InboxQuery) -> Result<InboxPage, ClientError> {
        let before = query.before.as_deref().map(message_id).transpose()?;
        let query = sdk::InboxQuery { before, limit: Some(query.limit), unread: query.unread };
        let sdk::InboxPage { messages, next, unread } = self.sdk().inbox().page(query).await?;
        let messages = messages.into_iter().map(InboxMessage::from).collect();
        Ok(InboxPage { messages, next: next.map(|id| id.to_string()), unread })
    }

    /// Marks messages as read, and tells how many are unread then.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn inbox_read(&self, ids: Vec<String>) -> Result<u64, ClientError> {
        Ok(self.sdk().inbox().read(&message_ids(&ids)?).await?)
    }

    /// Marks a message and every older one as read, and tells how many are unread then.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn inbox_read_up_to(&self, id: String) -> Result<u64, ClientError> {
        Ok(self.sdk().inbox().read_up_to(message_id(&id)?).await?)
    }

    /// Deletes messages, and tells how many are unread then.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn inbox_delete(&self, ids: Vec<String>) -> Result<u64, ClientError> {
        Ok(self.sdk().inbox().delete(&message_ids(&ids)?).await?)
    }
}
