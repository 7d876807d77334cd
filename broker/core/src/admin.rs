//! What an operator may want of a shard, and what one can see in it. Everything here is data; `shard/administering.rs`
//! does it, `shard/inspecting.rs` reads it, a bounded piece at a time.

use crate::change::Granted;
use crate::message::{Message, MessageKey, MessageProperties, Seq, Time};
use bytes::Bytes;
use bytestring::ByteString;
use reveille_proto::ids::{AppId, ClientId, Epoch, MessageId};
use reveille_proto::mqtt::{QoS, Version};
use reveille_proto::topic::{Subscription, TopicFilter, TopicName};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What an operator wants done. [`crate::io::Output::Done`] answers when it is as durable as it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A session ends, with its connection when it has one: its subscriptions and its queue are gone.
    EndSession {
        /// The tenant.
        app: AppId,
        /// Whose.
        client_id: ClientId,
    },
    /// The oldest messages that wait in a queue and were never sent are dropped. What was sent stays: the client may have
    /// it, and its acknowledgement must find it.
    Purge {
        /// The tenant.
        app: AppId,
        /// Whose queue.
        client_id: ClientId,
        /// At most so many.
        limit: usize,
    },
    /// A message is published, for its receivers like any other.
    Publish(Box<Publication>),
    /// A topic has no retained message any more. Subscribers hear nothing of it.
    ClearRetained {
        /// The tenant.
        app: AppId,
        /// Which topic.
        topic: TopicName,
    },
}

/// How a [`Wish`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is so, on disk too. [`Wish::Purge`] dropped so many messages.
    Fulfilled(usize),
    /// Published, and nobody subscribes to the topic.
    NoReceiver,
    /// There is no such session.
    NoSession,
    /// The store took no writes, or no queue had room.
    Refused,
}

/// What an operator publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The tenant whose sessions may get it.
    pub app: AppId,
    /// Where to.
    pub topic: TopicName,
    /// What.
    pub payload: Bytes,
    /// At most this for each receiver.
    pub qos: QoS,
    /// Whether the topic keeps it.
    pub retain: bool,
    /// How long it is worth anything.
    pub expiry: Option<Duration>,
    /// What 5.0 forwards.
    pub properties: Option<Box<MessageProperties>>,
}

/// Sessions that one look passes, however few of them are wanted: about 0.1 ms of the shard's time.
pub const LOOKS_MAX: usize = 1024;

/// A piece of a list: what was found, and where the next look begins. A piece may be empty and not the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, C = Place> {
    /// What was found.
    pub items: Vec<T>,
    /// Where to go on; `None`: the shard has no more.
    pub next: Option<C>,
}

/// A place in the order in which a shard keeps its sessions. A session keeps its place for as long as it lives, so
/// a walk over all places meets every session that lived through the walk exactly once; one that began meanwhile may
/// be met or not. That order costs no memory and no sorting, whatever the number of sessions.
pub type Place = u32;

/// A place among the subscriptions of a shard: a session, and which of its subscriptions were seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionPlace {
    /// The session.
    pub at: Place,
    /// Only its subscriptions behind this one, as the client wrote it.
    pub after: Option<Subscription>,
}

/// Which sessions. What is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// Of this tenant.
    pub app: Option<AppId>,
    /// Whose client identifier looks like this.
    pub client_id: Option<Glob>,
    /// With, or without, a network connection.
    pub is_online: Option<bool>,
    /// Connected through this listener.
    pub listener: Option<ByteString>,
    /// Connected from this network.
    pub network: Option<Network>,
    /// Connected with a credential whose user name looks like this.
    pub user: Option<Glob>,
    /// With at least so many messages in the queue.
    pub queue_min: Option<usize>,
    /// Whose client takes its messages too slowly, see [`ConnectionView::is_slow`].
    pub is_slow: Option<bool>,
}

/// What is known about a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is named after what it tells")]
pub struct SessionView {
    pub at: Place,
    pub app: AppId,
    pub client_id: ClientId,
    pub epoch: Epoch,
    pub connection: Option<ConnectionView>,
    /// Since when it has no connection.
    pub offline_since: Option<Time>,
    /// Seconds that it outlives its connection; `u32::MAX`: for ever.
    pub expiry_interval: u32,
    /// When it ends, should the client stay away.
    pub ends_at: Option<Time>,
    pub is_durable: bool,
    pub is_bridge: bool,
    pub subscriptions: usize,
    pub queue: QueueView,
    /// QoS 2 packet identifiers of the client that are in use.
    pub exactly_once_received: usize,
    pub will: Option<WillView>,
}

/// What is known about a network connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is named after what it tells")]
pub struct ConnectionView {
    pub version: Version,
    pub since: Time,
    /// When the client was heard last.
    pub last_seen: Time,
    /// Seconds; 0: none.
    pub keep_alive: u16,
    pub network: ByteString,
    /// The listener that it came through.
    pub listener: ByteString,
    /// The user name of its credential.
    pub user: Option<ByteString>,
    /// When its credential, and it, ends.
    pub expires_at: Option<Time>,
    /// Who found out who it is, as in [`crate::io::Identity::source`].
    pub source: &'static str,
    /// Its credential brought its rules.
    pub has_own_acl: bool,
    /// QoS 1 and 2 messages that may be in flight towards the client.
    pub in_flight_max: u16,
    /// The largest packet that the client takes.
    pub packet_size_max: u32,
    /// Bytes that its socket has not taken.
    pub unsent_bytes: usize,
    /// Publishes of the client that are not acknowledged yet.
    pub unacknowledged: usize,
    /// The broker does not read from it, because too much is unacknowledged or unsent.
    pub is_paused: bool,
    /// It takes its messages too slowly: its window is used up while messages wait, or half of the bytes that may be unsent
    /// are.
    pub is_slow: bool,
    /// PUBLISH packets that came, and went.
    pub publishes_received: u64,
    pub publishes_sent: u64,
}

/// What is known about a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is named after what it tells")]
pub struct QueueView {
    pub messages: usize,
    pub bytes: u64,
    pub in_flight: usize,
    /// When the oldest of them was queued; after a restart not before the restart.
    pub oldest_at: Option<Time>,
}

/// What will be published when the connection ends badly.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is named after what it tells")]
pub struct WillView {
    pub topic: TopicName,
    pub qos: QoS,
    pub retain: bool,
    pub payload_bytes: usize,
    pub delay_interval: u32,
}

/// A session that has a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is named after what it tells")]
pub struct QueueRow {
    pub app: AppId,
    pub client_id: ClientId,
    pub is_online: bool,
    pub queue: QueueView,
}

/// One message in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is named after what it tells")]
pub struct QueuedView {
    pub seq: Seq,
    pub key: MessageKey,
    pub qos: QoS,
    pub retain: bool,
    pub state: QueuedState,
    pub size: u32,
    pub queued_at: Time,
    pub expires_at: Option<Time>,
    pub push: Option<MessageId>,
    /// The body, when it is in memory; the store has it otherwise.
    pub body: Option<Arc<Message>>,
}

/// How far a queued message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueuedState {
    /// Never sent.
    Waiting,
    /// Sent and not acknowledged; or sent on an earlier connection, and sent again on the next one.
    Sent,
    /// PUBREC came, PUBCOMP did not.
    Released,
}

/// Which subscriptions. What is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionFilter {
    /// Of this tenant.
    pub app: Option<AppId>,
    /// Of clients whose identifier looks like this.
    pub client_id: Option<Glob>,
    /// To exactly this filter.
    pub filter: Option<TopicFilter>,
    /// Of this group of shared subscriptions.
    pub group: Option<Arc<str>>,
}

/// One subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is named after what it tells")]
pub struct SubscriptionView {
    pub app: AppId,
    pub client_id: ClientId,
    pub is_online: bool,
    pub subscription: Subscription,
    pub granted: Granted,
}

/// A text with `*` for any characters and `?` for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Vec<char>);

impl Glob {
    /// Every text is one.
    pub fn new(text: &str) -> Self {
        Self(text.chars().collect())
    }

    /// Whether a text looks like it. Costs at most the product of both lengths, whatever the stars.
    pub fn matches(&self, text: &str) -> bool {
        let mut rest = text.chars();
        let (mut at, mut retry) = (0, None);
        loop {
            if self.0.get(at) == Some(&'*') {
                at += 1;
                retry = Some((at, rest.clone()));
                continue;
            }
            match (rest.next(), self.0.get(at)) {
                (None, None) => return true,
                (Some(given), Some(wanted)) if *wanted == '?' || *wanted == given => at += 1,
                (None, Some(_)) => return false,
                (Some(_), _) => {
                    // The last star takes one character more.
                    let Some((behind, from)) = &mut retry else { return false };
                    if from.next().is_none() {
                        return false;
                    }
                    (at, rest) = (*behind, from.clone());
                }
            }
        }
    }
}

/// Addresses that begin with the same bits, as `10.0.0.0/8`, `fd00::/8` or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    bits: u128,
    length: u32,
    is_v6: bool,
}

impl Network {
    /// Reads one; `None` when the text is no address, or the length does not fit it.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse().ok()?)),
            None => (text, None),
        };
        let (bits, is_v6) = bits_of(address)?;
        let longest = if is_v6 { 128 } else { 32 };
        let length = length.unwrap_or(longest);
        (length <= longest).then_some(Self { bits, length, is_v6 })
    }

    /// Whether an address, as text, belongs to it.
    pub fn has(&self, address: &str) -> bool {
        let Some((bits, is_v6)) = bits_of(address) else { return false };
        let longest = if self.is_v6 { 128 } else { 32 };
        let differing = (bits ^ self.bits).checked_shr(longest - self.length).unwrap_or(0);
        is_v6 == self.is_v6 && differing == 0
    }
}

fn bits_of(address: &str) -> Option<(u128, bool)> {
    match address.parse().ok()? {
        IpAddr::V4(address) => Some((u128::from(u32::from(address)), false)),
        IpAddr::V6(address) => Some((u128::from(address), true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_glob_is_read_as_shells_do() {
        for (glob, text, wanted) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "设备", true),
            ("设*", "设备-1", true),
            ("设?", "设备", true),
            ("a*c", "abcbc", true),
            ("a*c", "abcb", false),
            ("*a*b", "xxaxb", true),
            ("?", "", false),
            ("a**", "a", true),
            ("abc", "abcd", false),
            ("abcd", "abc", false),
        ] {
            assert_eq!(Glob::new(glob).matches(text), wanted, "{glob} {text}");
        }
    }

    fn by_the_book(glob: &[char], text: &[char]) -> bool {
        match (glob, text) {
            ([], []) => true,
            (['*', rest @ ..], _) => {
                by_the_book(rest, text) || (!text.is_empty() && by_the_book(glob, &text[1..]))
            }
            (['?', glob @ ..], [_, text @ ..]) => by_the_book(glob, text),
            ([wanted, glob @ ..], [given, text @ ..]) if wanted == given => by_the_book(glob, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_glob_matches_what_the_rule_says(glob in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(Glob::new(&glob).matches(&text), by_the_book(&chars(&glob), &chars(&text)));
        }
    }

    #[test]
    fn a_network_has_the_addresses_that_begin_like_it() {
        for (network, address, wanted) in [
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "fd00::1", true),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1/32", "127.0.0.2", false),
            ("127.0.0.1", "unix", false),
        ] {
            assert_eq!(Network::parse(network).unwrap().has(address), wanted, "{network} {address}");
        }
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/x", "10.0.0.0/-1"] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }
}
