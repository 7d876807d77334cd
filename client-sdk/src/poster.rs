//! The task behind [`crate::Client::post`]: keeps posted messages on disk, sends them in order whenever there is a
//! connection, and forgets each when the broker has it.

use crate::disk::FileError;
use crate::driver::{Body, Request};
use crate::inbox::UnixMillis;
use crate::network::NetworkState;
use crate::outbox::Kind;
use crate::payload::ID_PROPERTY;
use crate::post_file::{PostFile, Posted};
use crate::publisher::{PublishError, PushHints, packet};
use bytes::Bytes;
use reveille_proto::ids::MessageId;
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::{TopicError, TopicName};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Publish;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Posted messages with the driver at once; the rest of its room belongs to publishes.
const IN_FLIGHT_MAX: usize = 16;
/// Posts that are written with one sync.
const BATCH_MAX: usize = 64;

/// How much the outbox keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Messages that wait for the broker.
    pub messages_max: usize,
    /// Their size together, in bytes.
    pub bytes_max: usize,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self { messages_max: 1_000, bytes_max: 8 * 1_024 * 1_024 }
    }
}

/// What the outbox holds, and what it gave up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxState {
    /// Posted messages that the broker does not have yet.
    pub waiting: usize,
    /// Messages since the start that the broker refuses for good, each named in the log.
    pub refused: u64,
    /// Messages since the start whose time to live ended before the broker had them.
    pub expired: u64,
}

/// Why a message is not in the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// The text is no topic name.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The outbox is at its limit of messages or bytes.
    #[error("the outbox is full")]
    Full,
    /// It could not be written to the outbox file.
    #[error("the message could not be written to the outbox file: {0}")]
    NotRecorded(io::ErrorKind),
    /// The client was closed before.
    #[error("the client is closed")]
    Closed,
}

/// A message on its way into the outbox, and who waits until it is on disk.
pub(crate) struct Job {
    posted: Posted,
    reply: oneshot::Sender<Result<(), PostError>>,
}

/// The app's end.
#[derive(Debug)]
pub(crate) struct Poster {
    jobs: mpsc::Sender<Job>,
    pub state: watch::Receiver<OutboxState>,
}

impl Poster {
    /// The app's end and the task, which sends through `requests` until the driver ends.
    pub fn new(
        file: Option<(PostFile, Vec<Posted>)>,
        limits: OutboxLimits,
        refused_pause: Duration,
        requests: mpsc::Sender<Request>,
        network: watch::Receiver<NetworkState>,
    ) -> (Self, impl Future<Output = ()>) {
        let (file, waiting) = file.map_or((None, Vec::new()), |(file, waiting)| (Some(file), waiting));
        let (jobs, jobs_end) = mpsc::channel(BATCH_MAX);
        let (state_end, state) = watch::channel(OutboxState::default());
        let task = Task {
            file,
            limits,
            refused_pause,
            requests,
            network,
            entries: waiting.into_iter().map(Entry::waiting).collect(),
            sent: JoinSet::new(),
            not_before: Instant::now(),
            state: state_end,
        };
        (Self { jobs, state }, task.run(jobs_end))
    }

    /// Returns when the message is on disk.
    pub async fn post(&self, topic: &str, payload: Bytes, hints: &PushHints) -> Result<MessageId, PostError> {
        TopicName::parse(topic)?;
        let at = UnixMillis::now();
        let id = new_id(at);
        let posted = Posted { id, at, topic: topic.to_owned(), payload, hints: hints.clone() };
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job { posted, reply }).await.map_err(|_| PostError::Closed)?;
        answer.await.unwrap_or(Err(PostError::Closed)).map(|()| id)
    }
}

/// A UUID of version 7: time first, then chance.
fn new_id(at: UnixMillis) -> MessageId {
    let mut bytes: [u8; 16] = rand::random();
    let time = at.0.to_be_bytes();
    bytes.iter_mut().zip(time.iter().skip(2)).for_each(|(byte, of_time)| *byte = *of_time);
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
    *version = 0x70 | (*version & 0x0F);
    *variant = 0x80 | (*variant & 0x3F);
    MessageId(bytes)
}

struct Entry {
    posted: Posted,
    is_sent: bool,
}

impl Entry {
    fn waiting(posted: Posted) -> Self {
        Self { posted, is_sent: false }
    }
}

/// What the driver said about one message.
type Answer = (MessageId, Result<(), PublishError>);

struct Task {
    file: Option<PostFile>,
    limits: OutboxLimits,
    /// How soon a message is offered again to a broker that had no room for it.
    refused_pause: Duration,
    requests: mpsc::Sender<Request>,
    network: watch::Receiver<NetworkState>,
    /// Everything that the broker does not have, in the order of posting.
    entries: VecDeque<Entry>,
    sent: JoinSet<Answer>,
    /// A refusal for want of room makes all wait.
    not_before: Instant,
    state: watch::Sender<OutboxState>,
}

impl Task {
    async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let requests = self.requests.clone();
        loop {
            self.report();
            self.drop_expired().await;
            let mut batch = Vec::new();
            let may_send = self.has_more_to_send();
            tokio::select! {
                biased;
                () = requests.closed() => return,
                Some(Ok(answer)) = self.sent.join_next() => self.on_answer(answer).await,
                count = jobs.recv_many(&mut batch, BATCH_MAX) => {
                    if count == 0 {
                        return;
                    }
                    self.keep(batch).await;
                }
                Ok(()) = self.network.changed() => {}
                () = sleep_until(self.not_before), if may_send => self.send_next().await,
            }
        }
    }

    fn report(&self) {
        let waiting = self.entries.len();
        self.state.send_if_modified(|state| std::mem::replace(&mut state.waiting, waiting) != waiting);
    }

    /// Nothing is handed over while offline: it leaves with what is left of its time when it can leave.
    fn has_more_to_send(&self) -> bool {
        self.network.borrow().is_online()
            && self.sent.len() < IN_FLIGHT_MAX
            && self.entries.iter().any(|entry| !entry.is_sent)
    }

    /// Writes what has room with one sync, and tells the app.
    async fn keep(&mut self, batch: Vec<Job>) {
        let mut bytes: usize = self.entries.iter().map(|entry| entry.posted.size()).sum();
        let (mut kept, mut replies) = (Vec::new(), Vec::new());
        for Job { posted, reply } in batch {
            let size = posted.size();
            let has_room = self.entries.len() + kept.len() < self.limits.messages_max
                && bytes.saturating_add(size) <= self.limits.bytes_max;
            if has_room {
                bytes += size;
                kept.push(posted);
                replies.push(reply);
            } else {
                let _ = reply.send(Err(PostError::Full)); // the app may have stopped waiting
            }
        }
        let copies = kept.clone();
        let result = self.on_disk(move |file| file.append(&copies).map_err(FileError::Io)).await;
        let result = result.map_err(|error| PostError::NotRecorded(error.kind()));
        if result.is_ok() {
            self.entries.extend(kept.into_iter().map(Entry::waiting));
            self.report(); // whoever posted finds it counted
        }
        for reply in replies {
            let _ = reply.send(result); // the app may have stopped waiting
        }
    }

    /// Gives the oldest message that is not on its way to the driver.
    async fn send_next(&mut self) {
        let Some(entry) = self.entries.iter_mut().find(|entry| !entry.is_sent) else {
            return;
        };
        let id = entry.posted.id;
        let (waiter, answer) = oneshot::channel();
        match publish(&entry.posted, UnixMillis::now()) {
            Ok(publish) => {
                entry.is_sent = true;
                let body = Body::Publish { publish, waiter: Some(waiter) };
                let _ = self.requests.send(Request { kind: Kind::AtLeastOnce, body }).await; // then it is closed
            }
            Err(error) => drop(waiter.send(Err(error))),
        }
        self.sent.spawn(async move { (id, answer.await.unwrap_or(Err(PublishError::Closed))) });
    }

    async fn on_answer(&mut self, (id, result): Answer) {
        match result {
            Ok(()) => self.forget(id).await,
            Err(PublishError::Refused(reason)) if is_passing(reason) => {
                tracing::info!(%id, %reason, "the broker has no room for a posted message now");
                self.not_before = Instant::now() + self.refused_pause;
                self.wait_again(id);
            }
            // Its time may have ended on the way; the next look decides.
            Err(PublishError::Closed | PublishError::OutcomeUnknown) => self.wait_again(id),
            Err(error) => {
                tracing::warn!(%id, %error, "a posted message is given up");
                self.state.send_modify(|state| state.refused += 1);
                self.forget(id).await;
            }
        }
    }

    fn wait_again(&mut self, id: MessageId) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.posted.id == id) {
            entry.is_sent = false;
        }
    }

    async fn drop_expired(&mut self) {
        let now = UnixMillis::now();
        let has_ended =
            |entry: &&Entry| !entry.is_sent && ttl_left(&entry.posted, now) == Some(Duration::ZERO);
        let ids: Vec<_> = self.entries.iter().filter(has_ended).map(|entry| entry.posted.id).collect();
        for id in ids {
            tracing::info!(%id, "the time of a posted message ended before the broker had it");
            self.state.send_modify(|state| state.expired += 1);
            self.forget(id).await;
        }
    }

    async fn forget(&mut self, id: MessageId) {
        let Some(at) = self.entries.iter().position(|entry| entry.posted.id == id) else {
            return;
        };
        let Some(Entry { posted, .. }) = self.entries.remove(at) else {
            return;
        };
        let left: Vec<Posted> = match &self.file {
            Some(file) if file.is_mostly_garbage() => {
                self.entries.iter().map(|entry| entry.posted.clone()).collect()
            }
            Some(_) | None => Vec::new(),
        };
        let noted = self.on_disk(move |file| {
            if file.is_mostly_garbage() { file.replace(left.iter()) } else { Ok(file.done(&posted)?) }
        });
        if let Err(error) = noted.await {
            tracing::warn!(%id, %error, "a message that the broker has stays in the outbox file, and is sent again");
        }
    }

    /// Works on the file without holding up other tasks.
    async fn on_disk(
        &mut self,
        work: impl FnOnce(&mut PostFile) -> Result<(), FileError> + Send + 'static,
    ) -> Result<(), FileError> {
        let Some(mut file) = self.file.take() else {
            return Ok(()); // the app wants no file
        };
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&mut file);
            (file, result)
        });
        let (file, result) = done.await.map_err(|_| io::Error::from(io::ErrorKind::Other))?;
        self.file = Some(file);
        result
    }
}

/// Whether the same message may be taken later.
fn is_passing(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::QUOTA_EXCEEDED
            | ReasonCode::UNSPECIFIED_ERROR
            | ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR
    )
}

/// What is left of its time, counted from the posting; `None` when it has no end.
fn ttl_left(posted: &Posted, now: UnixMillis) -> Option<Duration> {
    let waited = Duration::from_millis(now.0.saturating_sub(posted.at.0));
    posted.hints.ttl.map(|ttl| ttl.saturating_sub(waited))
}

/// The packet: its id lets receivers drop a repetition, its expiry is what is left.
fn publish(posted: &Posted, now: UnixMillis) -> Result<Publish, PublishError> {
    // A last part of a second counts: 0 would mean that it has expired.
    let ttl = ttl_left(posted, now).map(|left| left.max(Duration::from_secs(1)));
    let hints = PushHints { ttl, ..posted.hints.clone() };
    let mut publish = packet(&posted.topic, posted.payload.clone(), QoS::AtLeastOnce, &hints)?;
    let properties = publish.properties.get_or_insert_default();
    properties.user_properties.push((ID_PROPERTY.to_owned(), posted.id.to_string()));
    Ok(publish)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posted(ttl_s: Option<u64>) -> Posted {
        Posted {
            id: MessageId([1; 16]),
            at: UnixMillis(10_000),
            topic: "a".into(),
            payload: Bytes::new(),
            hints: PushHints { ttl: ttl_s.map(Duration::from_secs), ..PushHints::default() },
        }
    }

    #[test]
    fn a_message_carries_its_id_and_what_is_left_of_its_time() {
        for (ttl_s, now_ms, wanted) in [
            (None, 99_000, None),
            (Some(60), 10_000, Some(60)),
            (Some(60), 40_000, Some(30)),
            (Some(60), 69_900, Some(1)),
        ] {
            let publish = publish(&posted(ttl_s), UnixMillis(now_ms)).unwrap();
            let properties = publish.properties.unwrap();
            assert_eq!(properties.message_expiry_interval, wanted, "{ttl_s:?} at {now_ms}");
            let id = MessageId([1; 16]).to_string();
            assert_eq!(properties.user_properties, [("push-id".to_owned(), id)], "{ttl_s:?} at {now_ms}");
        }
        assert_eq!(ttl_left(&posted(Some(60)), UnixMillis(70_000)), Some(Duration::ZERO));
    }

    #[test]
    fn ids_differ_and_are_uuids_of_version_7_that_begin_with_the_time() {
        let (one, other) = (new_id(UnixMillis(0x0123_4567_89AB)), new_id(UnixMillis(0x0123_4567_89AB)));
        assert_ne!(one, other);
        assert!(one.to_string().starts_with("01234567-89ab-7"), "{one}");
    }
}
