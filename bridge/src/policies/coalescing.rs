//! What is pushed to a device that stays offline: each message, the first one, or after some of them only their number.
//! Pure.

use reveille_proto::ids::AppId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::vendor::{Push, PushKind};

/// Pushes before a digest at most.
pub const AFTER_MAX: u32 = 100;
/// Longest text of a digest, in bytes.
pub const TEXT_MAX: usize = 256;
/// Stands for the number in the text of a digest.
const NUMBER: &str = "{n}";
/// How long a device may be offline before its next push counts as the first again, in milliseconds: as long as the
/// broker keeps a session.
const PERIOD_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// Bytes of a period in the store.
const PERIOD_BYTES: usize = 16;

/// Which messages are pushed while a device is offline. All of them wait in its queue in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Coalesce {
    /// Every one.
    #[default]
    Every,
    /// The first one since the device went offline.
    FirstOnly,
    /// Some of them, and then one alert that counts the rest.
    Digest(Digest),
}

/// How a digest is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Digest {
    /// So many messages are pushed as they are before.
    #[schema(minimum = 1, maximum = 100)]
    pub after: u32,
    /// What the alert says; `{n}` stands for the number of messages since the device went offline.
    #[serde(default = "usual_text")]
    #[schema(default = "{n} new messages", min_length = 1, max_length = 256)]
    pub text: String,
}

fn usual_text() -> String {
    format!("{NUMBER} new messages")
}

impl Coalesce {
    pub(super) fn errors(&self) -> Vec<(&'static str, &'static str)> {
        let Self::Digest(Digest { after, text }) = self else { return Vec::new() };
        let is_text = (1..=TEXT_MAX).contains(&text.len());
        [
            (!(1..=AFTER_MAX).contains(after)).then_some(("after", "is 1 to 100")),
            (!is_text).then_some(("text", "has 1 to 256 bytes")),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// What becomes of the push of a message that is the `nth` since the device went offline.
    pub(crate) fn decide(&self, nth: u64) -> Share {
        match self {
            Self::Every => Share::Whole,
            Self::FirstOnly if nth == 1 => Share::Whole,
            Self::FirstOnly => Share::Nothing,
            Self::Digest(digest) if nth <= u64::from(digest.after) => Share::Whole,
            Self::Digest(_) => Share::Digest(nth),
        }
    }
}

/// What is pushed of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// The message.
    Whole,
    /// A digest that says how many there are.
    Digest(u64),
    /// Nothing: the device was woken, and finds the message in its queue.
    Nothing,
}

/// How many messages a device missed since it went offline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Period {
    epoch: u64,
    count: u64,
}

impl Period {
    /// Reads what [`Period::write`] wrote.
    pub fn read(bytes: &[u8]) -> Self {
        let number = |at: usize| {
            let bytes = bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u64::from_be_bytes)
        };
        Self { epoch: number(0), count: number(8) }
    }

    /// The bytes for the store.
    pub fn write(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PERIOD_BYTES);
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        bytes.extend_from_slice(&self.count.to_be_bytes());
        bytes
    }

    /// Counts one more message after the network connection with this epoch, and says which one it is. It may be
    /// forgotten at the second number, in milliseconds since 1970.
    pub fn count(&mut self, epoch: u64, now_ms: u64) -> (u64, u64) {
        if self.epoch < epoch {
            *self = Self { epoch, count: 0 };
        }
        self.count += 1;
        (self.count, now_ms.saturating_add(PERIOD_MS))
    }

    /// Takes back one that no vendor took: the next one wakes the device instead.
    pub fn uncount(&mut self, epoch: u64) {
        if self.epoch == epoch {
            self.count = self.count.saturating_sub(1);
        }
    }
}

/// The digest instead of a message's own push. It has an id of its own, so that the device does not take the message
/// itself for shown when it drains its queue.
pub(super) fn digest(digest: &Digest, policy: &str, nth: u64, push: Push) -> Push {
    let whole = Push::new(crate::messages::digest_id(push.id), AppId::clone(&push.app), push.token);
    Push {
        kind: PushKind::Alert,
        body: Some(digest.text.replace(NUMBER, &nth.to_string())),
        collapse_key: Some(collapse_key(policy)),
        channel: push.channel,
        category: push.category,
        expires_at_ms: push.expires_at_ms,
        priority: push.priority,
        overrides: push.overrides,
        ..whole
    }
}

/// APNs allows 64 bytes; a policy's name has no more.
fn collapse_key(policy: &str) -> String {
    let mut key = format!("digest-{policy}");
    key.truncate(64); // names are ASCII
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vendor::DeviceToken;
    use reveille_proto::ids::MessageId;

    #[test]
    fn each_way_pushes_what_it_says() {
        let digest = Coalesce::Digest(Digest { after: 2, text: usual_text() });
        for (coalesce, wanted) in [
            (Coalesce::Every, [Share::Whole; 4]),
            (Coalesce::FirstOnly, [Share::Whole, Share::Nothing, Share::Nothing, Share::Nothing]),
            (digest, [Share::Whole, Share::Whole, Share::Digest(3), Share::Digest(4)]),
        ] {
            let shares: Vec<Share> = (1..=4).map(|nth| coalesce.decide(nth)).collect();
            assert_eq!(shares, wanted, "{coalesce:?}");
        }
    }

    #[test]
    fn a_period_ends_with_the_next_network_connection() {
        let mut period = Period::default();
        for (epoch, wanted) in [(3, 1), (3, 2), (5, 1), (5, 2), (4, 3)] {
            assert_eq!(period.count(epoch, 0).0, wanted, "an older word belongs to the running period");
            assert_eq!(Period::read(&period.write()), period);
        }
        period.uncount(4);
        period.uncount(5);
        assert_eq!(period.count(5, 0), (3, PERIOD_MS));
        assert_eq!(Period::read(b"torn"), Period::default());
    }

    #[test]
    fn a_digest_replaces_itself_and_never_stands_for_the_message() {
        let id = MessageId([7; 16]);
        let mut push = Push::new(id, AppId::default(), DeviceToken::parse("t").unwrap());
        push.title = Some("secret".to_owned());
        push.data.insert("order".to_owned(), 7.into());
        push.channel = Some("offers".to_owned());
        let made = Digest { after: 1, text: "{n} 条新消息".to_owned() };
        let made = digest(&made, "marketing", 5, push);
        assert_eq!((made.body.as_deref(), made.title), (Some("5 条新消息"), None));
        assert_eq!(made.collapse_key.as_deref(), Some("digest-marketing"));
        assert!(made.data.is_empty() && made.id != id && made.channel.as_deref() == Some("offers"));
        assert!(collapse_key(&"x".repeat(64)).len() <= 64);
    }
}
