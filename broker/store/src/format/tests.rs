//! Round trips of all records, and what damaged values do.

use super::*;
use crate::suite::make;
use proptest::collection::vec;
use proptest::option::of as maybe;
use proptest::prelude::*;
use reveille_broker_core::change::*;
use reveille_broker_core::message::*;
use reveille_broker_core::networks::{Device, NetworkKey, NetworkRecord, Place, Prefix, Voter};
use reveille_proto::bridge::{Priority, Strategy as PushStrategy};
use reveille_proto::heartbeat::{Bracket, Gap, Radio};
use reveille_proto::ids::{AppId, ClientId, Epoch, MessageId};
use reveille_proto::mqtt::{QoS, RetainHandling, SubscriptionOptions};
use reveille_proto::topic::{Subscription, TopicFilter, TopicName};
use std::fmt::Debug;
use std::time::Duration;

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)]
}

fn app() -> impl Strategy<Value = AppId> {
    "[a-z0-9_-]{1,64}".prop_map(|text| AppId::parse(&text).unwrap())
}

fn topic() -> impl Strategy<Value = TopicName> {
    "[^\u{0}+#]{1,60}".prop_map(|text| TopicName::parse(text).unwrap())
}

fn text() -> impl Strategy<Value = ByteString> {
    ".{0,20}".prop_map(ByteString::from)
}

fn payload() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn priority() -> impl Strategy<Value = Priority> {
    prop_oneof![Just(Priority::Normal), Just(Priority::High), Just(Priority::Low)]
}

fn strategy() -> impl Strategy<Value = PushStrategy> {
    prop_oneof![
        Just(PushStrategy::OnlineFirst),
        Just(PushStrategy::VendorOnly),
        Just(PushStrategy::OnlineOnly),
        Just(PushStrategy::VendorFirst),
        Just(PushStrategy::BothDedup),
    ]
}

fn duration() -> impl Strategy<Value = Duration> {
    (any::<u64>(), 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos))
}

fn properties() -> impl Strategy<Value = MessageProperties> {
    (maybe(any::<bool>()), maybe(topic()), maybe(payload()), maybe(text()), vec((text(), text()), 0..4))
        .prop_map(
            |(payload_format_indicator, response_topic, correlation_data, content_type, user_properties)| {
                MessageProperties {
                    payload_format_indicator,
                    response_topic,
                    correlation_data,
                    content_type,
                    user_properties,
                }
            },
        )
}

fn push() -> impl Strategy<Value = Push> {
    let alert = (".{0,20}", ".{0,20}").prop_map(|(title, body)| Alert { title, body });
    (any::<[u8; 16]>(), strategy(), priority(), maybe(text()), duration(), maybe(alert)).prop_map(
        |(id, strategy, priority, collapse_key, wait_ack, alert)| Push {
            id: MessageId(id),
            strategy,
            priority,
            collapse_key,
            wait_ack,
            alert,
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let head = (any::<u64>(), app(), topic(), payload(), qos(), any::<bool>());
    let tail = (any::<u64>(), maybe(any::<u64>()), maybe(any::<u64>()), maybe(properties()), maybe(push()));
    (head, tail).prop_map(
        |((key, app, topic, payload, qos, retain), (accepted, expires, publisher, properties, push))| {
            Message {
                key: MessageKey(key),
                app,
                topic,
                payload,
                qos,
                retain,
                accepted_at: Time(accepted),
                expires_at: expires.map(Time),
                publisher: publisher.map(SessionKey),
                properties: properties.map(Box::new),
                push: push.map(Box::new),
            }
        },
    )
}

fn record() -> impl Strategy<Value = SessionRecord> {
    let will = (message(), any::<u32>())
        .prop_map(|(message, delay_interval)| StoredWill { message, delay_interval });
    (app(), "[^\u{0}]{1,40}", any::<u32>(), any::<u64>(), maybe(any::<u64>()), maybe(will)).prop_map(
        |(app, client_id, expiry_interval, epoch, offline_since, will)| SessionRecord {
            sent_before: Seq(epoch.rotate_left(7)),
            app,
            client_id: ClientId::parse(&client_id).unwrap(),
            expiry_interval,
            epoch: Epoch(epoch),
            offline_since: offline_since.map(Time),
            will: will.map(Box::new),
        },
    )
}

fn subscription() -> impl Strategy<Value = (Subscription, Granted)> {
    let handling =
        prop_oneof![Just(RetainHandling::Always), Just(RetainHandling::IfNew), Just(RetainHandling::Never)];
    let options = (qos(), any::<bool>(), any::<bool>(), handling).prop_map(
        |(qos, no_local, retain_as_published, retain_handling)| SubscriptionOptions {
            qos,
            no_local,
            retain_as_published,
            retain_handling,
        },
    );
    let group = maybe("[^\u{0}+#/]{1,20}".prop_map(ByteString::from));
    let filter = prop_oneof![topic().prop_map(|name| name.text().clone()), Just(ByteString::from("a/+/#"))];
    (group, filter, options, any::<u32>()).prop_map(|(group, filter, options, identifier)| {
        (
            Subscription {
                group: group.map(|text| (*text).into()),
                filter: TopicFilter::parse(filter).unwrap(),
            },
            Granted { options, identifier },
        )
    })
}

fn push_entry() -> impl Strategy<Value = PushEntry> {
    (any::<[u8; 16]>(), priority(), maybe(text()), any::<bool>()).prop_map(
        |(id, priority, collapse_key, is_announced)| PushEntry {
            id: MessageId(id),
            priority,
            collapse_key,
            is_announced,
        },
    )
}

fn entry() -> impl Strategy<Value = Entry> {
    let phase = prop_oneof![Just(Phase::Queued), Just(Phase::Released)];
    let identifiers = vec(any::<u32>(), 0..5);
    let head = (any::<u64>(), qos(), any::<bool>(), phase, any::<u32>());
    (head, maybe(any::<u64>()), identifiers, maybe(push_entry())).prop_map(
        |((message, qos, retain, phase, size), expires_at, identifiers, push)| Entry {
            seq: Seq(0),
            message: MessageKey(message),
            qos,
            retain,
            phase,
            size,
            expires_at: expires_at.map(Time).into(),
            rare: RareEntry::of(identifiers.into(), push),
        },
    )
}

fn announcement() -> impl Strategy<Value = Announcement> {
    (topic(), payload()).prop_map(|(topic, payload)| Announcement { topic, payload })
}

fn network() -> impl Strategy<Value = (NetworkKey, Box<NetworkRecord>)> {
    let place = prop_oneof![
        (any::<std::net::IpAddr>(), 0..=128_u8)
            .prop_map(|(address, bits)| Place::Prefix(Prefix::of(address, bits))),
        text().prop_map(Place::Named),
    ];
    let radio = prop::sample::select(Radio::ALL.to_vec());
    let gap = || any::<u16>().prop_map(Gap);
    let bracket = (gap(), maybe(gap()), any::<u8>(), maybe(gap()))
        .prop_map(|(lo, hi, deaths, doubt)| Bracket { lo, hi, deaths, doubt });
    let voter = (any::<u64>(), any::<u32>(), any::<u64>(), any::<u64>(), bracket).prop_map(
        |(device, address, since, seen, bracket)| Voter {
            device: Device(device),
            address,
            since: Time(since),
            seen: Time(seen),
            bracket,
        },
    );
    let counts = (any::<u64>(), any::<u64>(), any::<u64>());
    (place, radio, vec(voter, 0..5), counts).prop_map(|(place, radio, voters, (deaths, resets, changed))| {
        let record = NetworkRecord { voters, deaths, resets, changed_at: Time(changed) };
        (NetworkKey { place, radio }, Box::new(record))
    })
}

fn comes_back<R: Record + PartialEq + Debug>(record: &R) -> Result<(), TestCaseError> {
    let value = Bytes::from(encode(record));
    for length in 0..value.len() {
        prop_assert!(decode::<R>(value.slice(..length)).is_err(), "cut to {}", length);
    }
    let mut longer = value.to_vec();
    longer.push(0);
    prop_assert!(decode::<R>(longer.into()).is_err(), "one byte too many");
    prop_assert_eq!(&decode::<R>(value).unwrap(), record);
    Ok(())
}

proptest! {
    #[test]
    fn messages_come_back_and_cut_ones_are_errors(message in message()) {
        comes_back(&message)?;
    }

    #[test]
    fn session_records_come_back_and_cut_ones_are_errors(record in record()) {
        comes_back(&record)?;
    }

    #[test]
    fn subscriptions_come_back_and_cut_ones_are_errors(subscription in subscription()) {
        comes_back(&subscription)?;
    }

    #[test]
    fn entries_come_back_and_cut_ones_are_errors(entry in entry()) {
        comes_back(&entry)?;
    }

    #[test]
    fn announcements_come_back_and_cut_ones_are_errors(announcement in announcement()) {
        comes_back(&announcement)?;
    }

    #[test]
    fn networks_come_back_and_cut_ones_are_errors(network in network()) {
        comes_back(&network)?;
    }

    /// A changed byte may give another valid value: the engine's checksums find those. It must not give a panic, and
    /// what is read must be what would be written.
    #[test]
    fn changed_bytes_and_garbage_never_panic(
        message in message(), record in record(), at in any::<prop::sample::Index>(), flip in 1..=255_u8, garbage in payload()
    ) {
        let mut damaged = [encode(&message), encode(&record)];
        for value in &mut damaged {
            let at = at.index(value.len());
            value[at] ^= flip;
        }
        for value in [Bytes::from(damaged[0].clone()), Bytes::from(damaged[1].clone()), garbage] {
            reads_what_it_writes::<Message>(&value)?;
            reads_what_it_writes::<SessionRecord>(&value)?;
            reads_what_it_writes::<(Subscription, Granted)>(&value)?;
            reads_what_it_writes::<Entry>(&value)?;
            reads_what_it_writes::<Announcement>(&value)?;
            reads_what_it_writes::<(NetworkKey, Box<NetworkRecord>)>(&value)?;
        }
    }
}

fn reads_what_it_writes<R: Record + PartialEq + Debug>(value: &Bytes) -> Result<(), TestCaseError> {
    if let Ok(record) = decode::<R>(value.clone()) {
        prop_assert_eq!(&decode::<R>(encode(&record).into()).unwrap(), &record);
    }
    Ok(())
}

#[test]
fn a_value_of_a_later_version_is_refused_by_its_number() {
    let mut value = encode(&*make::full_message(1));
    value[0] = VERSION + 1;
    assert_eq!(decode::<Message>(value.into()), Err(FormatError::Version(VERSION + 1)));
}

/// The bytes of today, written down: a change of the format that forgets the version fails here.
#[test]
fn the_format_is_what_it_was() {
    let mut message = (*make::message(300, "x")).clone();
    message.topic = make::topic("a/b");
    assert_eq!(
        encode(&message),
        [&[1, 1, 0xac, 2, 7][..], b"default", &[3], b"a/b", &[0x80, 0xd8, 0xc1, 0xa2, 0x8c, 0x34, 1], b"x"]
            .concat()
    );
    let entry = make::entry(5, &make::full_message(2));
    assert_eq!(encode(&entry)[..4], [1, 2 | 4 | 16 | 64, 2, 15 + 7]);
}

#[test]
fn numbers_come_back_and_overlong_ones_are_refused() {
    for number in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
        let mut out = Writer(Vec::new());
        out.number(number);
        assert_eq!(Reader(out.0.into()).number(), Ok(number));
    }
    for bad in [&[0x80_u8][..], &[0xff; 10], &[0xff; 11], &[]] {
        assert!(Reader(Bytes::copy_from_slice(bad)).number().is_err(), "{bad:?}");
    }
}

#[test]
fn a_length_beyond_the_value_is_an_error_before_anything_is_allocated() {
    let mut out = Writer(Vec::new());
    out.number(u64::MAX);
    let bytes = Bytes::from(out.0);
    assert_eq!(Reader(bytes.clone()).bytes(), Err(FormatError::Length));
    assert_eq!(Reader(bytes).count(), Err(FormatError::Length));
}

#[test]
fn a_flag_that_nobody_knows_is_an_error() {
    let mut flags = Flags(0b101);
    assert!(flags.take(1));
    assert_eq!(flags.end(), Err(FormatError::Field("flag")));
}
