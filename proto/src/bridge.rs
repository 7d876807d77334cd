//! The messages of broker and bridge, as `proto/bridge.proto` describes them, and the names of their topics.

#[rustfmt::skip]
#[allow(missing_docs, clippy::all, reason = "generated from proto/bridge.proto; a test keeps it equal")]
mod generated;

pub use generated::*;
pub use prost::{DecodeError, Message as Wire};

/// Everything below it belongs to broker and bridge; no other identity may publish or subscribe there.
pub const PREFIX: &str = "$push/v1/";

/// bridge -> broker: [`Send`].
pub const SEND: &str = "$push/v1/send";
/// bridge -> broker: [`Publication`].
pub const PUBLISH: &str = "$push/v1/publish";
/// bridge -> broker: [`Withdraw`].
pub const WITHDRAW: &str = "$push/v1/withdraw";
/// broker -> bridge: [`Queued`].
pub const QUEUED: &str = "$push/v1/queued";
/// broker -> bridge: [`Unacked`].
pub const UNACKED: &str = "$push/v1/unacked";
/// broker -> bridge: [`Acked`].
pub const ACKED: &str = "$push/v1/acked";
/// broker -> bridge: [`Presence`].
pub const PRESENCE: &str = "$push/v1/presence";
/// broker -> bridge: [`FromDevice`].
pub const DEVICE: &str = "$push/v1/device";
/// broker -> device: a directed message, JSON.
pub const MESSAGE: &str = "$push/message";
/// bridge -> device: a message was withdrawn, JSON.
pub const RECALL: &str = "$push/recall";
/// device -> bridge: token and attributes, JSON.
pub const REGISTER: &str = "$push/register";
/// device -> bridge: shown, clicked, dismissed, JSON.
pub const EVENT: &str = "$push/event";

/// device -> bridge: what it wants to know or change in its user's inbox, JSON.
pub const INBOX_ASK: &str = "$push/inbox/ask";
/// bridge -> device: the answer, and what changed in its user's inbox, JSON.
pub const INBOX: &str = "$push/inbox";

/// User property that the broker appends to a push candidate: its message id.
pub const PUSH_ID: &str = "push-id";
/// User property of a publisher: title of the alert; makes the message a push candidate.
pub const PUSH_TITLE: &str = "push-title";
/// User property of a publisher: text of the alert; makes the message a push candidate.
pub const PUSH_BODY: &str = "push-body";
/// User property of a publisher: one of the strategies, see [`Strategy::from_name`].
pub const PUSH_STRATEGY: &str = "push-strategy";
/// User property of a publisher: collapse key.
pub const PUSH_COLLAPSE: &str = "push-collapse";

/// Client ids in one [`Send`] at most.
pub const SEND_TARGETS_MAX: usize = 4096;
/// Devices in one [`Queued`], [`Unacked`] or [`Acked`] at most.
pub const QUEUED_DEVICES_MAX: usize = 1000;

impl Strategy {
    /// Reads the name that people and APIs use.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "online_first" => Some(Self::OnlineFirst),
            "vendor_only" => Some(Self::VendorOnly),
            "online_only" => Some(Self::OnlineOnly),
            "vendor_first" => Some(Self::VendorFirst),
            "both_dedup" => Some(Self::BothDedup),
            _ => None,
        }
    }

    /// The name that people and APIs use.
    pub fn name(self) -> &'static str {
        match self {
            Self::OnlineFirst => "online_first",
            Self::VendorOnly => "vendor_only",
            Self::OnlineOnly => "online_only",
            Self::VendorFirst => "vendor_first",
            Self::BothDedup => "both_dedup",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::TopicName;

    #[test]
    fn a_strategy_has_one_word_in_both_directions() {
        for number in 0..5 {
            let strategy = Strategy::try_from(number).unwrap();
            assert_eq!(Strategy::from_name(strategy.name()), Some(strategy), "{number}");
        }
        assert!(Strategy::try_from(5).is_err(), "a strategy that this table does not know");
        assert_eq!(Strategy::from_name("ONLINE_FIRST"), None);
    }

    #[test]
    fn every_topic_is_a_topic_name() {
        for topic in [SEND, PUBLISH, WITHDRAW, QUEUED, UNACKED, ACKED, PRESENCE, DEVICE] {
            assert!(topic.starts_with(PREFIX), "{topic}");
            assert!(TopicName::parse(topic).is_ok(), "{topic}");
        }
        for topic in [MESSAGE, RECALL, REGISTER, EVENT, INBOX_ASK, INBOX] {
            assert!(!topic.starts_with(PREFIX), "a device may use {topic}");
            assert!(TopicName::parse(topic).is_ok(), "{topic}");
        }
    }

    #[test]
    fn a_message_reads_what_it_writes() {
        let send = Send {
            message: Some(Message {
                id: vec![7; 16].into(),
                app: "default".into(),
                topic: "设备/1".into(),
                payload: "你好".into(),
                qos: 1,
                strategy: Strategy::BothDedup.into(),
                alert: Some(Alert { title: "标题".into(), body: String::new() }),
                ..Message::default()
            }),
            client_ids: vec!["手机-1".into(), "d2".into()],
        };
        assert_eq!(Send::decode(send.encode_to_vec().as_slice()), Ok(send));
        assert!(Send::decode([0x0a, 0x7f].as_slice()).is_err(), "a length beyond the end is refused");
    }
}
