//! What must hold for any bytes, for the fuzzer and for the short run with fixed seeds in `tests/fuzz_smoke.rs`.
//!
//! The first byte of the input chooses the version, the rest is what a peer sent.

use bytes::BytesMut;
use reveille_proto::mqtt::{Packet, PublishFrame, Version, read, version_of_connect};
use reveille_proto::topic::{Subscription, TopicFilter, TopicName};

const LIMIT: u32 = 1 << 16;

/// Reading ends, takes what it returns, and reserves no memory, whatever the bytes claim.
pub fn read_packet(data: &[u8]) {
    let Some((version, bytes)) = split(data) else { return };
    let mut buffer = BytesMut::from(bytes);
    loop {
        let (len, capacity) = (buffer.len(), buffer.capacity());
        let outcome = read(&mut buffer, version, LIMIT);
        assert!(buffer.capacity() <= capacity, "reading reserved memory");
        let Ok(Some(_)) = outcome else { return };
        assert!(buffer.len() < len, "a packet took no bytes");
    }
}

/// What was read can be written, is not larger then, and is read as the same again; a shared frame is the same bytes.
pub fn read_then_write(data: &[u8]) {
    let Some((asked, bytes)) = split(data) else { return };
    let mut buffer = BytesMut::from(bytes);
    let announced = version_of_connect(&buffer);
    loop {
        let before = buffer.len();
        let Ok(Some(packet)) = read(&mut buffer, asked, LIMIT) else { return };
        let version = match &packet {
            Packet::Connect(connect) => connect.version,
            _ => asked.unwrap_or(Version::V5),
        };
        if before == bytes.len() && matches!(packet, Packet::Connect(_)) {
            assert_eq!(announced, Some(version), "the version of a whole CONNECT was not seen");
        }
        check_again(&packet, version, before - buffer.len());
    }
}

fn check_again(packet: &Packet, version: Version, taken: usize) {
    let mut written = BytesMut::new();
    assert_eq!(packet.write(version, &mut written), Ok(()), "{packet:?} was read");
    let is_longer_on_purpose = matches!(packet, Packet::Disconnect(_)); // its property length is never left out
    assert!(written.len() <= taken || is_longer_on_purpose, "{packet:?} grew from {taken} bytes");
    if let Packet::Publish(publish) = packet {
        let mut framed = BytesMut::new();
        let frame = PublishFrame::encode(version, publish);
        assert!(frame.is_ok(), "a packet can be written that a frame refuses");
        let written_by = frame.iter();
        written_by.for_each(|frame| frame.write(publish.packet_id, publish.dup, publish.retain, &mut framed));
        assert_eq!(framed, written, "the frame differs from the packet");
    }
    let asked = Some(version).filter(|_| !matches!(packet, Packet::Connect(_)));
    let again = read(&mut written, asked, LIMIT);
    assert_eq!(again.as_ref(), Ok(&Some(packet.clone())), "read as another packet");
}

/// Topic names and filters keep their rules, and a filter matches what a second, slower rule says.
pub fn topic(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (filter, name) = text.split_once('\n').unwrap_or((text, text));
    if let Ok(subscription) = Subscription::parse(filter) {
        assert_eq!(subscription.to_string(), filter, "a subscription is written as another");
    }
    let (name, filter) = (TopicName::parse(name), TopicFilter::parse(filter));
    if let Ok(name) = &name {
        let itself = TopicFilter::parse(name.text().clone());
        assert!(itself.is_ok_and(|itself| itself.matches(name)), "a name is a filter that matches itself");
    }
    if let (Ok(filter), Ok(name)) = (&filter, &name) {
        let is_hidden = name.as_str().starts_with('$') && filter.as_str().starts_with(['+', '#']);
        let (wanted, given): (Vec<_>, Vec<_>) = (filter.levels().collect(), name.levels().collect());
        assert_eq!(
            filter.matches(name),
            !is_hidden && matches_slowly(&wanted, &given),
            "{filter} and {name}"
        );
    }
}

fn matches_slowly(filter: &[&str], name: &[&str]) -> bool {
    match (filter, name) {
        (["#"], _) | ([], []) => true,
        (["+", filter @ ..], [_, name @ ..]) => matches_slowly(filter, name),
        ([wanted, filter @ ..], [given, name @ ..]) => wanted == given && matches_slowly(filter, name),
        (_, _) => false,
    }
}

fn split(data: &[u8]) -> Option<(Option<Version>, &[u8])> {
    let (choice, bytes) = data.split_first()?;
    let version = match choice % 4 {
        0 => None,
        1 => Some(Version::V3_1),
        2 => Some(Version::V3_1_1),
        _ => Some(Version::V5),
    };
    Some((version, bytes))
}
