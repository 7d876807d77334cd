//! The inbox of the device's user: asked over the connection, the same on all of the user's devices.

use crate::client::ClosedError;
use crate::driver::{Body, Request};
use crate::inbox::UnixMillis;
use crate::outbox::Kind;
use crate::payload::INBOX_ASK_TOPIC;
use crate::publisher::PublishError;
use reveille_proto::ids::MessageId;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Publish;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time;

/// Questions that wait for their answers at once; others wait for room.
const ASKED_MAX: usize = 16;
/// Times that a question is asked: an answer that a lost connection swallowed does not come again.
const ATTEMPTS: usize = 3;
/// How long each time. The push server lets go of an answer that finds no device for so long.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Why the inbox did not answer. Asking again does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InboxError {
    /// The broker did not take the question.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The business gave the device no user.
    #[error("the device has no user")]
    NoUser,
    /// The push server does not understand the question.
    #[error("the push server refused the question")]
    Refused,
    /// The push server said nothing.
    #[error("the push server did not answer")]
    NoAnswer,
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

impl From<ClosedError> for InboxError {
    fn from(_: ClosedError) -> Self {
        Self::Closed
    }
}

/// What is known of the inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxState {
    /// Whose it is; `None` while the device belongs to nobody.
    pub user: Option<String>,
    /// Messages that the user has not read.
    pub unread: u64,
    /// Grows with every change of one user's inbox.
    pub revision: u64,
}

/// Which part of the inbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InboxQuery {
    /// Older than this message: [`InboxPage::next`] of the page before.
    pub before: Option<MessageId>,
    /// At most so many, of 50; `None`: 20.
    pub limit: Option<u16>,
    /// Only what was not read.
    pub unread: bool,
}

/// A part of the inbox, newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct InboxPage {
    /// The messages.
    pub messages: Vec<InboxMessage>,
    /// Where to go on; `None` at the end.
    pub next: Option<MessageId>,
    /// Of the whole inbox.
    pub unread: u64,
}

/// A message that the user keeps.
#[derive(Clone, Debug, PartialEq)]
pub struct InboxMessage {
    /// The same as of the message that came over the socket or by a vendor.
    pub id: MessageId,
    /// First line.
    pub title: Option<String>,
    /// The text.
    pub body: Option<String>,
    /// URL of a picture.
    pub image: Option<String>,
    /// What opening it opens.
    pub url: Option<String>,
    /// The app's own data.
    pub data: Option<Value>,
    /// When the business sent it.
    pub sent_at: UnixMillis,
    /// When it goes by itself.
    pub expires_at: UnixMillis,
    /// When the user read it, on whatever device.
    pub read_at: Option<UnixMillis>,
}

/// The inbox of the device's user.
#[derive(Debug)]
pub struct UserInbox {
    requests: mpsc::Sender<Request>,
    desk: Arc<Desk>,
}

impl UserInbox {
    pub(crate) fn new(requests: mpsc::Sender<Request>, desk: Arc<Desk>) -> Self {
        Self { requests, desk }
    }

    /// What is known of the inbox, now and from now on, whoever changes it; `None` until the push server said something. From the
    /// first call of [`crate::Client::inbox`] on it is asked for on every connection and with every new message.
    pub fn state(&self) -> watch::Receiver<Option<InboxState>> {
        self.desk.state.subscribe()
    }

    /// How many messages the user has not read.
    ///
    /// # Errors
    /// [`InboxError`].
    pub async fn unread(&self) -> Result<u64, InboxError> {
        Ok(self.ask(json!({})).await?.unread)
    }

    /// A part of the inbox.
    ///
    /// # Errors
    /// [`InboxError`].
    pub async fn page(&self, query: InboxQuery) -> Result<InboxPage, InboxError> {
        let before = query.before.map(|id| id.to_string());
        let get = json!({"before": before, "limit": query.limit.unwrap_or(20), "unread": query.unread});
        let answer = self.ask(json!({"get": get})).await?;
        let next = answer.next.and_then(|id| MessageId::parse(&id).ok());
        let messages = answer.items.into_iter().filter_map(Item::read).collect();
        Ok(InboxPage { messages, next, unread: answer.unread })
    }

    /// Marks messages as read; the user's other devices are told. How many are unread then.
    ///
    /// # Errors
    /// [`InboxError`].
    pub async fn read(&self, ids: &[MessageId]) -> Result<u64, InboxError> {
        Ok(self.ask(json!({"read": texts(ids)})).await?.unread)
    }

    /// Marks a message and every older one as read. How many are unread then.
    ///
    /// # Errors
    /// [`InboxError`].
    pub async fn read_up_to(&self, id: MessageId) -> Result<u64, InboxError> {
        Ok(self.ask(json!({"read_up_to": id.to_string()})).await?.unread)
    }

    /// Deletes messages; the user's other devices are told. How many are unread then.
    ///
    /// # Errors
    /// [`InboxError`].
    pub async fn delete(&self, ids: &[MessageId]) -> Result<u64, InboxError> {
        Ok(self.ask(json!({"delete": texts(ids)})).await?.unread)
    }

    async fn ask(&self, mut question: Value) -> Result<Told, InboxError> {
        let _room = self.desk.room.acquire().await.map_err(|_| InboxError::Closed)?;
        let (name, mut answer) = self.desk.expect();
        if let Value::Object(fields) = &mut question {
            fields.insert("request".to_owned(), name.as_str().into());
        }
        let payload = question.to_string();
        for _ in 0..ATTEMPTS {
            self.publish(payload.clone()).await?;
            if let Ok(told) = time::timeout(ANSWER_WITHIN, &mut answer.0).await {
                return told.map_err(|_| InboxError::Closed)?.check();
            }
        }
        Err(InboxError::NoAnswer)
    }

    async fn publish(&self, payload: String) -> Result<(), InboxError> {
        let (waiter, acknowledged) = oneshot::channel();
        let publish = Publish::new(INBOX_ASK_TOPIC, QoS::AtLeastOnce, payload, None);
        let body = Body::Publish { publish, waiter: Some(waiter) };
        let request = Request { kind: Kind::AtLeastOnce, body };
        self.requests.send(request).await.map_err(|_| InboxError::Closed)?;
        Ok(acknowledged.await.unwrap_or(Err(PublishError::Closed))?)
    }
}

fn texts(ids: &[MessageId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

/// What the push server tells on `$push/inbox`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Told {
    request: Option<String>,
    user: Option<String>,
    unread: u64,
    revision: u64,
    items: Vec<Item>,
    next: Option<String>,
    error: Option<String>,
}

impl Told {
    fn check(self) -> Result<Self, InboxError> {
        match self.error.as_deref() {
            None => Ok(self),
            Some("no_user") => Err(InboxError::NoUser),
            Some(_) => Err(InboxError::Refused),
        }
    }
}

#[derive(Debug, Deserialize)]
struct Item {
    id: String,
    title: Option<String>,
    body: Option<String>,
    image: Option<String>,
    url: Option<String>,
    data: Option<Value>,
    sent_at_ms: u64,
    expires_at_ms: u64,
    read_at_ms: Option<u64>,
}

impl Item {
    /// `None` for an id of another shape, which a later version may have.
    fn read(self) -> Option<InboxMessage> {
        Some(InboxMessage {
            id: MessageId::parse(&self.id).ok()?,
            title: self.title,
            body: self.body,
            image: self.image,
            url: self.url,
            data: self.data,
            sent_at: UnixMillis(self.sent_at_ms),
            expires_at: UnixMillis(self.expires_at_ms),
            read_at: self.read_at_ms.map(UnixMillis),
        })
    }
}

/// Where questions meet their answers.
#[derive(Debug)]
pub(crate) struct Desk {
    /// Whether the app looks at the inbox at all.
    is_used: AtomicBool,
    state: watch::Sender<Option<InboxState>>,
    room: Semaphore,
    /// Held for one insert or removal.
    asked: Mutex<HashMap<String, oneshot::Sender<Told>>>,
    /// An answer meant for an earlier process must not meet a question of this one.
    run: u64,
    count: AtomicU64,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            is_used: AtomicBool::new(false),
            state: watch::Sender::new(None),
            room: Semaphore::new(ASKED_MAX),
            asked: Mutex::default(),
            run: rand::random(),
            count: AtomicU64::new(0),
        }
    }
}

/// An answer to come; without the one who waits the question is forgotten.
struct Expected<'a>(oneshot::Receiver<Told>, &'a Desk, String);

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.1.asked().remove(&self.2);
    }
}

impl Desk {
    fn asked(&self) -> std::sync::MutexGuard<'_, HashMap<String, oneshot::Sender<Told>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expect(&self) -> (String, Expected<'_>) {
        let name = format!("{:x}-{}", self.run, self.count.fetch_add(1, Ordering::Relaxed));
        let (sender, answer) = oneshot::channel();
        self.asked().insert(name.clone(), sender);
        (name.clone(), Expected(answer, self, name))
    }

    /// The app looks at the inbox. Whether for the first time.
    pub fn begin(&self) -> bool {
        !self.is_used.swap(true, Ordering::Relaxed)
    }

    /// Whether the app looks at the inbox.
    pub fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }

    /// The client closes: nobody is answered any more.
    pub fn close(&self) {
        self.room.close();
        self.asked().clear();
    }

    /// Takes what the push server tells: the counts for everybody, the answer for whoever asked.
    pub fn take(&self, payload: &[u8]) {
        let Ok(told) = serde_json::from_slice::<Told>(payload) else {
            tracing::warn!("the push server told something of an inbox that is not the JSON it should be");
            return;
        };
        if told.error.as_deref().is_none_or(|error| error == "no_user") {
            self.note(&told);
        }
        if let Some(waiting) = told.request.as_ref().and_then(|name| self.asked().remove(name)) {
            let _ = waiting.send(told); // it may have given up
        }
    }

    fn note(&self, told: &Told) {
        let new = InboxState { user: told.user.clone(), unread: told.unread, revision: told.revision };
        self.state.send_if_modified(|known| {
            let is_old = |known: &InboxState| known.user == new.user && known.revision > new.revision;
            let is_news = known.as_ref() != Some(&new) && !known.as_ref().is_some_and(is_old);
            if is_news {
                *known = Some(new);
            }
            is_news
        });
    }
}

/// When the counts are asked for: one question at a time, and once more when something came meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Watching {
    is_asking: bool,
    is_stale: bool,
    /// A question that the broker has not acknowledged; it outlives the connection.
    is_queued: bool,
    /// And another one is to follow it: it may be answered already.
    is_again: bool,
}

impl Watching {
    /// Something changed. Whether to ask now.
    pub fn changed(&mut self) -> bool {
        self.is_stale = self.is_asking;
        !std::mem::replace(&mut self.is_asking, true)
    }

    /// A new connection: an answer to an earlier question may never come. It is asked now.
    pub fn connected(&mut self) {
        (self.is_asking, self.is_stale) = (true, false);
    }

    /// Whether a question is queued now: one at a time waits for the broker, so that connections that come and go gather none.
    pub fn queue(&mut self) -> bool {
        self.is_again = self.is_queued;
        !std::mem::replace(&mut self.is_queued, true)
    }

    /// The broker has the question. Whether another one is to follow.
    pub fn acknowledged(&mut self) -> bool {
        self.is_queued = false;
        std::mem::take(&mut self.is_again)
    }

    /// The push server told the counts. Whether to ask again.
    pub fn told(&mut self) -> bool {
        self.is_asking = std::mem::take(&mut self.is_stale);
        self.is_asking
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_counts_of_the_same_user_change_nothing_and_those_of_another_do() {
        let desk = Desk::default();
        let state = desk.state.subscribe();
        for (payload, wanted) in [
            (r#"{"user":"42","unread":2,"revision":10}"#, Some((Some("42"), 2))),
            (r#"{"user":"42","unread":5,"revision":9}"#, Some((Some("42"), 2))),
            (r#"{"user":"42","error":"malformed"}"#, Some((Some("42"), 2))),
            ("{", Some((Some("42"), 2))),
            (r#"{"user":"7","unread":1,"revision":3}"#, Some((Some("7"), 1))),
            (r#"{"error":"no_user"}"#, Some((None, 0))),
        ] {
            desk.take(payload.as_bytes());
            let known = state.borrow().clone();
            let known = known.as_ref().map(|state| (state.user.as_deref(), state.unread));
            assert_eq!(known, wanted, "{payload}");
        }
    }

    #[test]
    fn an_answer_reaches_the_one_who_asked_and_a_question_that_nobody_waits_for_is_forgotten() {
        let desk = Desk::default();
        let (first, mut answer) = desk.expect();
        let (second, given_up) = desk.expect();
        drop(given_up);
        for name in [&first, &second, "of another process"] {
            desk.take(format!(r#"{{"request":"{name}","unread":3}}"#).as_bytes());
        }
        assert_eq!(answer.0.try_recv().unwrap().unread, 3);
        drop(answer);
        assert!(desk.asked().is_empty());
    }

    #[test]
    fn many_messages_at_once_are_two_questions() {
        let mut watching = Watching::default();
        assert!(watching.changed());
        assert_eq!((watching.changed(), watching.changed()), (false, false));
        assert!(watching.told(), "something came after the question");
        assert!(!watching.told());
        assert!(watching.changed());
        assert!(watching.queue());
        watching.connected();
        assert!(!watching.queue(), "the one from before goes first");
        assert!(watching.acknowledged(), "its answer may be older than the connection");
        assert!(watching.queue());
        assert!(!watching.acknowledged());
        assert!(!watching.told());
    }
}
