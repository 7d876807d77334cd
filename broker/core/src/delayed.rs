//! `$delayed/{seconds}/{topic}`: messages that wait for their time, and how the store remembers them.
//!
//! In the store a delayed message is a session of an app of its own that has nothing but a will: it needs no format of
//! its own, and a release that does not know it publishes it in time all the same.

use crate::change::{Change, SessionRecord, StoredWill};
use crate::deadlines::Armed;
use crate::message::{Message, Seq, SessionKey, Time};
use reveille_proto::ids::{AppId, ClientId, Epoch};
use reveille_proto::topic::TopicName;
use std::sync::Arc;
use std::time::Duration;

/// What stands before the delay.
const PREFIX: &str = "$delayed/";

/// The app that delayed messages have in the store. Configuration refuses a leading underscore.
const DELAYED_APP: &str = "_delayed";

/// One message that waits.
#[derive(Debug)]
pub(crate) struct Delayed {
    /// As it will be published; its expiry counts from 1970, because it begins only then.
    pub message: Arc<Message>,
    /// When it was accepted.
    pub since: Time,
    /// How long it waits.
    pub seconds: u32,
    pub state: State,
    pub armed: Armed,
}

/// ```text
///             commit ended            its time came             receivers have it
///  Writing ----------------> Waiting ---------------> Leaving -------------------> (gone)
///     ^                         ^                        |
///     | QoS 0 begins here: -----+ <----------------------+  the store is full: later again
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Not durable yet; `true`: and its time came meanwhile.
    Writing(bool),
    /// For its time.
    Waiting,
    /// It is on its way to the receivers.
    Leaving,
}

/// Where a message on a `$delayed/` topic goes and after how many seconds; `None` when the topic is no such thing.
///
/// # Errors
/// It begins like one and is none.
pub fn parse(topic: &TopicName) -> Option<Result<(u32, TopicName), Malformed>> {
    let rest = topic.as_str().strip_prefix(PREFIX)?;
    let read = || {
        let (seconds, topic) = rest.split_once('/')?;
        let is_number = !seconds.is_empty() && seconds.bytes().all(|byte| byte.is_ascii_digit());
        // A `$` topic is no destination: what may be done there is not a message that can wait.
        let topic =
            TopicName::parse(topic.to_owned()).ok().filter(|topic| !topic.as_str().starts_with('$'))?;
        Some((seconds.parse().ok().filter(|_| is_number)?, topic))
    };
    Some(read().ok_or(Malformed))
}

/// A topic that begins with `$delayed/` and does not go on with seconds and a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a delayed publish goes to $delayed/seconds/topic")]
pub struct Malformed;

/// Whether a record in the store is a delayed message.
pub(crate) fn is_delayed(record: &SessionRecord) -> bool {
    record.app.as_str() == DELAYED_APP && record.will.is_some()
}

impl Delayed {
    /// When its time comes.
    pub fn due(&self) -> Time {
        self.since + Duration::from_secs(u64::from(self.seconds))
    }

    /// The fact that makes it durable.
    pub fn stored(&self, key: SessionKey) -> Option<Change> {
        let will = StoredWill { message: (*self.message).clone(), delay_interval: self.seconds };
        let record = SessionRecord {
            app: AppId::parse(DELAYED_APP).ok()?,
            client_id: ClientId::parse(&key.0.to_string()).ok()?,
            expiry_interval: u32::MAX,
            epoch: Epoch(0),
            offline_since: Some(self.since),
            sent_before: Seq(0),
            will: Some(Box::new(will)),
        };
        Some(Change::PutSession { session: key, record: Box::new(record) })
    }

    /// What the store kept.
    pub fn recovered(record: SessionRecord) -> Option<Self> {
        let StoredWill { message, delay_interval } = *record.will?;
        Some(Self {
            message: Arc::new(message),
            since: record.offline_since?,
            seconds: delay_interval,
            state: State::Waiting,
            armed: Armed::NOT,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delayed_topic_is_seconds_and_a_topic() {
        let rows = [
            ("设备/1", None),
            ("$delayed", None),
            ("$delayedx/5/a", None),
            ("$delayed/5/设备/1", Some(Some((5, "设备/1")))),
            ("$delayed/0/a", Some(Some((0, "a")))),
            ("$delayed/5//", Some(Some((5, "/")))),
            ("$delayed/5/", Some(None)),
            ("$delayed/5", Some(None)),
            ("$delayed//a", Some(None)),
            ("$delayed/+5/a", None),
            ("$delayed/-5/a", Some(None)),
            ("$delayed/5s/a", Some(None)),
            ("$delayed/4294967296/a", Some(None)),
            ("$delayed/5/$push/v1/send", Some(None)),
            ("$delayed/5/$delayed/5/a", Some(None)),
        ];
        for (text, wanted) in rows {
            let Ok(topic) = TopicName::parse(text) else {
                assert_eq!(wanted, None, "{text}");
                continue;
            };
            let got = parse(&topic).map(|parsed| parsed.ok());
            let got =
                got.as_ref().map(|parsed| parsed.as_ref().map(|(delay, topic)| (*delay, topic.as_str())));
            assert_eq!(got, wanted, "{text}");
        }
    }
}
