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
pub(super) const PERIOD_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// Bytes of a period in the store.
const PERIOD_BYTES: usize = 24;

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

    /// What becomes of the push of a message that is the `nth` since the device went offline, when so many were pushed.
    fn decide(&self, nth: u64, pushed: u64) -> Share {
        match self {
            Self::Every => Share::Whole,
            Self::FirstOnly if pushed == 0 => Share::Whole,
            Self::FirstOnly => Share::Nothing,
            Self::Digest(digest) if pushed < u64::from(digest.after) => Share::Whole,
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

/// How many messages a device missed since it went offline, and how many of them were pushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Period {
    epoch: u64,
    missed: u64,
    pushed: u64,
}

impl Period {
    /// Reads what [`Period::write`] wrote.
    pub fn read(bytes: &[u8]) -> Self {
        let number = |at: usize| {
            let bytes = bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u64::from_be_bytes)
        };
        Self { epoch: number(0), missed: number(8), pushed: number(16) }
    }

    /// The bytes for the store.
    pub fn write(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PERIOD_BYTES);
        for number in [self.epoch, self.missed, self.pushed] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    /// Counts one more message after the network connection with this epoch, and says what is pushed of it.
    pub fn share(&mut self, coalesce: &Coalesce, epoch: u64) -> Share {
        if self.epoch < epoch {
            *self = Self { epoch, ..Self::default() };
        }
        self.missed += 1;
        let share = coalesce.decide(self.missed, self.pushed);
        self.pushed += u64::from(share != Share::Nothing);
        share
    }

    /// Takes back a push that woke nobody: the next message wakes the device instead, however many were withheld.
    pub fn take_back(&mut self, epoch: u64) {
        if self.epoch == epoch {
            self.pushed = self.pushed.saturating_sub(1);
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
            let mut period = Period::default();
            assert_eq!([(); 4].map(|()| period.share(&coalesce, 1)), wanted, "{coalesce:?}");
        }
    }

    #[test]
    fn a_period_ends_with_the_next_network_connection() {
        let digest = Coalesce::Digest(Digest { after: 1, text: usual_text() });
        let mut period = Period::default();
        for (epoch, wanted) in [
            (3, Share::Whole),
            (3, Share::Digest(2)),
            (5, Share::Whole),
            (5, Share::Digest(2)),
            (4, Share::Digest(3)), // an older word belongs to the running period
        ] {
            assert_eq!(period.share(&digest, epoch), wanted, "{epoch}");
            assert_eq!(Period::read(&period.write()), period);
        }
        assert_eq!(Period::read(b"torn"), Period::default());
    }

    #[test]
    fn a_push_that_woke_nobody_is_made_up_for_by_the_next_message_however_many_were_withheld() {
        let mut period = Period::default();
        for wanted in [Share::Whole, Share::Nothing, Share::Nothing] {
            assert_eq!(period.share(&Coalesce::FirstOnly, 5), wanted);
        }
        period.take_back(4); // of an earlier period
        assert_eq!(period.share(&Coalesce::FirstOnly, 5), Share::Nothing);
        period.take_back(5);
        for wanted in [Share::Whole, Share::Nothing] {
            assert_eq!(period.share(&Coalesce::FirstOnly, 5), wanted);
        }
        let digest = Coalesce::Digest(Digest { after: 1, text: usual_text() });
        let mut period = Period::default();
        assert_eq!([(); 2].map(|()| period.share(&digest, 5)), [Share::Whole, Share::Digest(2)]);
        period.take_back(5);
        assert_eq!(period.share(&digest, 5), Share::Digest(3), "what waits is counted, pushed or not");
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
