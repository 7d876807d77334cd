//! Live streams: whoever reads slower than messages come gets the newest of each topic.

use reveille_broker_core::message::Message;
use reveille_proto::ids::AppId;
use reveille_proto::topic::{TopicFilter, TopicName};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Streams at once, and those of one app, so that one leaves room for others.
pub(crate) const STREAMS_MAX: usize = 64;
const STREAMS_OF_APP_MAX: usize = 16;
/// Topics of one stream whose newest message waits; messages on further ones are counted as left out.
const TOPICS_MAX: usize = 10_000;
/// Bytes of payloads that wait for one stream.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// All streams.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    is_on: AtomicBool,
    /// Held while a message is noted for each.
    open: Mutex<Vec<Arc<Waiting>>>,
}

/// What waits for one reader.
#[derive(Debug)]
struct Waiting {
    app: AppId,
    filter: TopicFilter,
    /// Held for one message.
    news: Mutex<News>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct News {
    /// The newest message of each topic.
    newest: BTreeMap<TopicName, Arc<Message>>,
    /// The topics in the order in which they changed first.
    order: VecDeque<TopicName>,
    bytes: usize,
    left_out: u64,
}

impl News {
    fn put(&mut self, message: &Arc<Message>) {
        let known = self.newest.get(&message.topic);
        let bytes = self.bytes + message.payload.len() - known.map_or(0, |known| known.payload.len());
        if bytes > BYTES_MAX || (known.is_none() && self.newest.len() >= TOPICS_MAX) {
            self.left_out += 1;
            return;
        }
        if known.is_none() {
            self.order.push_back(message.topic.clone());
        }
        self.bytes = bytes;
        self.newest.insert(message.topic.clone(), Arc::clone(message));
    }

    fn take(&mut self) -> Option<Arc<Message>> {
        let message = self.newest.remove(&self.order.pop_front()?)?;
        self.bytes = self.bytes.saturating_sub(message.payload.len());
        Some(message)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner) // a change is whole or not begun
}

impl Streams {
    /// Whether anybody reads.
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Keeps a message for everybody who reads its topic.
    pub(super) fn note(&self, message: &Arc<Message>) {
        if !self.is_on() {
            return;
        }
        for waiting in lock(&self.open).iter() {
            if waiting.app == message.app && waiting.filter.matches(&message.topic) {
                lock(&waiting.news).put(message);
                waiting.changed.notify_one();
            }
        }
    }

    /// Begins a stream; `None` when there are as many as there may be.
    pub(crate) fn open(self: &Arc<Self>, app: AppId, filter: TopicFilter) -> Option<Reader> {
        let mut open = lock(&self.open);
        let of_app = open.iter().filter(|waiting| waiting.app == app).count();
        if open.len() >= STREAMS_MAX || of_app >= STREAMS_OF_APP_MAX {
            return None;
        }
        let waiting = Arc::new(Waiting { app, filter, news: Mutex::default(), changed: Notify::new() });
        open.push(Arc::clone(&waiting));
        self.is_on.store(true, Ordering::Relaxed);
        Some(Reader { streams: Arc::clone(self), waiting })
    }
}

/// One reader. Dropping it ends the stream.
#[derive(Debug)]
pub(crate) struct Reader {
    streams: Arc<Streams>,
    waiting: Arc<Waiting>,
}

/// What a reader is told.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// The newest message of a topic.
    Message(Arc<Message>),
    /// So many messages found no room since the last word of it.
    LeftOut(u64),
}

impl Reader {
    /// The next news.
    pub(crate) async fn next(&self) -> Told {
        loop {
            if let Some(news) = self.take() {
                return news;
            }
            self.waiting.changed.notified().await;
        }
    }

    fn take(&self) -> Option<Told> {
        let mut news = lock(&self.waiting.news);
        match std::mem::take(&mut news.left_out) {
            0 => news.take().map(Told::Message),
            count => Some(Told::LeftOut(count)),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut open = lock(&self.streams.open);
        open.retain(|waiting| !Arc::ptr_eq(waiting, &self.waiting));
        self.streams.is_on.store(!open.is_empty(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reveille_broker_core::message::{MessageKey, Time};
    use reveille_proto::mqtt::QoS;

    fn message(topic: &str, payload: &str) -> Arc<Message> {
        Arc::new(Message {
            key: MessageKey(1),
            app: AppId::default(),
            topic: TopicName::parse(topic.to_owned()).unwrap(),
            payload: payload.to_owned().into(),
            qos: QoS::AtMostOnce,
            retain: false,
            accepted_at: Time(1),
            expires_at: None,
            publisher: None,
            properties: None,
            push: None,
        })
    }

    fn open(streams: &Arc<Streams>, filter: &str) -> Option<Reader> {
        streams.open(AppId::default(), TopicFilter::parse(filter).unwrap())
    }

    #[test]
    fn a_slow_reader_gets_the_newest_of_each_topic_in_the_order_of_their_first_change() {
        let streams = Arc::new(Streams::default());
        let reader = open(&streams, "厂/+").unwrap();
        for (topic, payload) in [("厂/b", "1"), ("厂/a", "2"), ("other", "3"), ("厂/b", "4")] {
            streams.note(&message(topic, payload));
        }
        let mut found = Vec::new();
        while let Some(Told::Message(message)) = reader.take() {
            found.push((message.topic.to_string(), message.payload.clone()));
        }
        assert_eq!(found, [("厂/b".to_owned(), "4".into()), ("厂/a".to_owned(), "2".into())]);
    }

    #[test]
    fn a_reader_that_stands_still_holds_no_more_than_its_bound_and_hears_of_what_is_missing() {
        let streams = Arc::new(Streams::default());
        let reader = open(&streams, "#").unwrap();
        for n in 0..TOPICS_MAX + 3 {
            streams.note(&message(&format!("t/{n}"), "x"));
        }
        assert!(matches!(reader.take(), Some(Told::LeftOut(3))));
        assert!(matches!(reader.take(), Some(Told::Message(_))));
        let large = "x".repeat(BYTES_MAX / 2);
        for topic in ["a", "b", "b"] {
            streams.note(&message(topic, &large));
        }
        assert!(matches!(reader.take(), Some(Told::LeftOut(2))));
        assert!(lock(&reader.waiting.news).bytes <= BYTES_MAX);
    }

    #[test]
    fn streams_are_bounded_and_those_that_ended_make_room() {
        let streams = Arc::new(Streams::default());
        let mut readers: Vec<_> = (0..STREAMS_OF_APP_MAX).map(|_| open(&streams, "#").unwrap()).collect();
        assert!(open(&streams, "#").is_none());
        for n in STREAMS_OF_APP_MAX..STREAMS_MAX {
            let app = AppId::parse(&format!("app-{}", n / STREAMS_OF_APP_MAX)).unwrap();
            readers.push(streams.open(app, TopicFilter::parse("#").unwrap()).unwrap());
        }
        let another = || streams.open(AppId::parse("another").unwrap(), TopicFilter::parse("#").unwrap());
        assert!(another().is_none());
        readers.pop();
        assert!(another().is_some());
        drop(readers);
        assert!(!streams.is_on());
    }
}
