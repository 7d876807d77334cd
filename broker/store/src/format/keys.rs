//! Keys: big-endian, so that the engine's order is ours: all of a session together, its queue by place.

use super::FormatError;
use reveille_broker_core::message::{MessageKey, Seq, SessionKey};
use reveille_broker_core::networks::{NetworkKey, Place};
use reveille_proto::ids::{AppId, PacketId};
use reveille_proto::topic::{Subscription, TopicFilter, TopicName};

/// Bytes of a key above which its end is replaced by a hash: the engine takes at most 65,535, and a topic alone may
/// have so many. The value then still holds the whole name.
const KEY_MAX: usize = 65_000;

/// The key of a session's record, and the prefix of all that belongs to it.
pub(crate) fn session(session: SessionKey) -> [u8; 8] {
    session.0.to_be_bytes()
}

/// The key of a place in a queue.
pub(crate) fn entry(session: SessionKey, seq: Seq) -> [u8; 16] {
    let mut key = [0; 16];
    let (first, second) = key.split_at_mut(8);
    first.copy_from_slice(&session.0.to_be_bytes());
    second.copy_from_slice(&seq.0.to_be_bytes());
    key
}

/// The key of a packet identifier in use.
pub(crate) fn received(session: SessionKey, packet_id: PacketId) -> [u8; 10] {
    let mut key = [0; 10];
    let (first, second) = key.split_at_mut(8);
    first.copy_from_slice(&session.0.to_be_bytes());
    second.copy_from_slice(&packet_id.get().to_be_bytes());
    key
}

/// The key of a message's body.
pub(crate) fn message(message: MessageKey) -> [u8; 8] {
    message.0.to_be_bytes()
}

/// The key of an announcement.
pub(crate) fn announcement(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// The key of a subscription: session, length of the group, group, filter.
pub(crate) fn subscription(owner: SessionKey, subscription: &Subscription) -> Vec<u8> {
    let group = subscription.group.as_deref().unwrap_or_default();
    let filter = subscription.filter.as_str();
    let mut key = Vec::with_capacity(10 + group.len() + filter.len());
    key.extend_from_slice(&session(owner));
    key.extend_from_slice(&u16::try_from(group.len()).unwrap_or(u16::MAX).to_be_bytes());
    key.extend_from_slice(group.as_bytes());
    key.extend_from_slice(filter.as_bytes());
    shorten(key)
}

/// The key of a retained message: app, NUL (which neither of the two can hold), topic.
pub(crate) fn retained(app: &AppId, topic: &TopicName) -> Vec<u8> {
    let mut key = Vec::with_capacity(app.as_str().len() + 1 + topic.as_str().len());
    key.extend_from_slice(app.as_str().as_bytes());
    key.push(0);
    key.extend_from_slice(topic.as_str().as_bytes());
    shorten(key)
}

/// The key of a network: its name is short, and unlike every other's.
pub(crate) fn network(network: &NetworkKey) -> Vec<u8> {
    let kind = match network.place {
        Place::Prefix(_) => 'p',
        Place::Named(_) => 'n',
    };
    shorten(format!("{kind}{network}").into_bytes())
}

fn shorten(mut key: Vec<u8>) -> Vec<u8> {
    if key.len() > KEY_MAX {
        let hash = fnv1a_128(&key);
        key.truncate(KEY_MAX - 16);
        key.extend_from_slice(&hash.to_be_bytes());
    }
    key
}

/// FNV-1a: enough to tell a client's longest names apart, and the same for ever.
fn fnv1a_128(bytes: &[u8]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME))
}

/// The number in an eight-byte key.
pub(crate) fn read_number(key: &[u8]) -> Result<u64, FormatError> {
    key.try_into().map(u64::from_be_bytes).map_err(|_| FormatError::Field("key"))
}

/// The session in front of a key, and what follows it.
pub(crate) fn read_session(key: &[u8]) -> Result<(SessionKey, &[u8]), FormatError> {
    let (session, rest) = key.split_at_checked(8).ok_or(FormatError::Field("key"))?;
    Ok((SessionKey(read_number(session)?), rest))
}

/// The place in a queue.
pub(crate) fn read_entry(key: &[u8]) -> Result<(SessionKey, Seq), FormatError> {
    let (session, seq) = read_session(key)?;
    Ok((session, Seq(read_number(seq)?)))
}

/// The packet identifier in use.
pub(crate) fn read_received(key: &[u8]) -> Result<(SessionKey, PacketId), FormatError> {
    let (session, id) = read_session(key)?;
    let id: [u8; 2] = id.try_into().map_err(|_| FormatError::Field("key"))?;
    let id = PacketId::new(u16::from_be_bytes(id)).ok_or(FormatError::Field("packet identifier"))?;
    Ok((session, id))
}

/// A subscription as its value spells it.
pub(crate) fn read_subscription(group: Option<&str>, filter: &str) -> Result<Subscription, FormatError> {
    let filter = TopicFilter::parse(filter).map_err(|_| FormatError::Field("topic filter"))?;
    Ok(Subscription { group: group.map(Into::into), filter })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_by_session_then_place() {
        let keys = [(1, 2), (1, 300), (2, 0), (256, 1)].map(|(s, q)| entry(SessionKey(s), Seq(q)));
        assert!(keys.is_sorted());
        assert_eq!(read_entry(&keys[1]), Ok((SessionKey(1), Seq(300))));
    }

    #[test]
    fn a_key_of_the_wrong_length_is_an_error() {
        for length in [0, 1, 7, 9, 15, 17] {
            let key = vec![1; length];
            assert!(read_entry(&key).is_err(), "{length}");
            assert!(read_number(&key).is_err(), "{length}");
            assert!(read_received(&key).is_err(), "{length}");
        }
        assert_eq!(read_received(&[0; 10]), Err(FormatError::Field("packet identifier")));
    }

    #[test]
    fn the_longest_names_fit_into_a_key_and_stay_apart() {
        let names = ["a", "b"].map(|end| TopicName::parse(format!("{}{end}", "x".repeat(65_534))).unwrap());
        let keys = names.map(|name| retained(&AppId::default(), &name));
        assert!(keys.iter().all(|key| key.len() <= 65_535));
        assert_ne!(keys[0], keys[1]);
    }

    #[test]
    fn a_group_and_a_filter_do_not_run_into_each_other() {
        let key = |text: &str| subscription(SessionKey(1), &Subscription::parse(text).unwrap());
        let keys = ["$share/a/b/c", "$share/ab/c", "a/b/c", "ab/c"].map(key);
        for (at, one) in keys.iter().enumerate() {
            assert!(keys.iter().skip(at + 1).all(|other| other != one), "{at}");
        }
    }
}
