//! The rules of sessions, one at a time: each test would fail in a broker that breaks the rule it names.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod bench;

use bench::{Bench, connect, durable, packet_id, publish, will};
use reveille_broker_core::change::Change;
use reveille_broker_core::io::Committed;
use reveille_broker_core::limits::{ConnectionLimits, Limits, QueueFull};
use reveille_proto::mqtt::{
    Ack, ConnectProperties, Disconnect, Packet, PublishProperties, QoS, RetainHandling, SubscriptionOptions,
    Version,
};
use reveille_proto::reason::ReasonCode;

fn puback(id: u16) -> Packet {
    Packet::PubAck(Ack::new(packet_id(id), ReasonCode::SUCCESS))
}

fn ack_of(packets: &[Packet]) -> Vec<(u16, ReasonCode)> {
    let ack = |packet: &Packet| match packet {
        Packet::PubAck(ack) | Packet::PubRec(ack) => Some((ack.packet_id.get(), ack.reason)),
        _ => None,
    };
    packets.iter().filter_map(ack).collect()
}

#[test]
fn whoever_is_gone_leaves_no_deadline() {
    let mut bench = Bench::new(Limits::default());
    for n in 0..3 {
        let mut short = connect(&format!("short-{n}"), Version::V3_1_1);
        short.keep_alive = 3_600;
        let key = bench.online(short);
        assert!(bench.shard.deadline().is_some());
        bench.lose(key);
        assert_eq!(bench.shard.deadline(), None, "of a connection that lived for a moment");
    }
    let key = bench.online(durable("d"));
    bench.lose(key);
    assert!(bench.shard.deadline().is_some(), "its session ends one day");
    let again = bench.online(connect("d", Version::V5));
    bench.lose(again);
    assert_eq!(bench.shard.deadline(), None);
}

#[test]
fn the_publisher_waits_until_the_message_is_durable() {
    let mut bench = Bench::new(Limits::default());
    let sleeper = bench.online(durable("设备-1"));
    bench.subscribe(sleeper, "设备/#", 1);
    bench.lose(sleeper);
    let publisher = bench.online(connect("p", Version::V5));
    bench.commits_at_once = false;
    bench.publish(publisher, publish("设备/1", "醒", 1, 7));
    assert_eq!(ack_of(&bench.read(publisher)), [], "nothing before the commit");
    bench.commit(Committed::Durable);
    assert_eq!(ack_of(&bench.read(publisher)), [(7, ReasonCode::SUCCESS)]);
}

#[test]
fn a_message_that_every_receiver_acknowledged_in_time_needs_no_disk() {
    let mut bench = Bench::new(Limits::default());
    let receiver = bench.online(durable("d"));
    bench.subscribe(receiver, "a", 1);
    let publisher = bench.online(connect("p", Version::V5));
    bench.commits_at_once = false;
    bench.publish(publisher, publish("a", "first", 1, 1)); // its batch is on its way now
    bench.publish(publisher, publish("a", "second", 1, 2)); // this one gathers
    let got = bench.publishes(receiver);
    assert_eq!(got.len(), 2, "an online receiver does not wait for the disk");
    bench.send(receiver, puback(got[1].packet_id.unwrap().get()));
    let acks = ack_of(&bench.read(publisher));
    assert_eq!(acks, [], "the first is not durable, and acknowledgements keep their order");
    bench.commit(Committed::Durable);
    assert_eq!(ack_of(&bench.read(publisher)), [(1, ReasonCode::SUCCESS), (2, ReasonCode::SUCCESS)]);
    while bench.commit(Committed::Durable) {}
    let bodies = bench.written.iter().filter(|change| matches!(change, Change::Enqueue { .. })).count();
    assert_eq!(bodies, 1, "the second message never reached the disk");
}

#[test]
fn a_disk_that_refuses_is_said_to_the_publisher_and_hurts_nobody_else() {
    let mut bench = Bench::new(Limits::default());
    let sleeper = bench.online(durable("d"));
    bench.subscribe(sleeper, "a", 1);
    bench.lose(sleeper);
    let publisher = bench.online(connect("p", Version::V5));
    let other = bench.online(connect("o", Version::V5));
    bench.commits_at_once = false;
    bench.publish(publisher, publish("a", "x", 1, 3));
    bench.commit(Committed::Failed);
    assert_eq!(ack_of(&bench.read(publisher)), [(3, ReasonCode::QUOTA_EXCEEDED)]);
    bench.send(other, Packet::PingReq);
    assert_eq!(bench.read(other), [Packet::PingResp]);
    bench.commits_at_once = true;
    bench.wait(1_000);
    bench.publish(publisher, publish("a", "y", 1, 4));
    assert_eq!(ack_of(&bench.read(publisher)), [(4, ReasonCode::SUCCESS)], "writing is tried again");
    let back = bench.open(durable("d"));
    assert_eq!(bench.messages(back), [("a".to_owned(), "y".to_owned())], "what was refused is not delivered");
}

#[test]
fn a_full_queue_refuses_with_a_reason_or_drops_the_oldest() {
    for (policy, reason, kept) in [
        (QueueFull::RefuseNewest, ReasonCode::QUOTA_EXCEEDED, ["1", "2"]),
        (QueueFull::DropOldest, ReasonCode::SUCCESS, ["2", "3"]),
    ] {
        let limits = ConnectionLimits { queue_messages_max: 2, queue_full: policy, ..Default::default() };
        let mut bench = Bench::new(Limits::of(limits));
        let sleeper = bench.online(durable("d"));
        bench.subscribe(sleeper, "a", 1);
        bench.lose(sleeper);
        let publisher = bench.online(connect("p", Version::V5));
        for id in 1..=3 {
            bench.publish(publisher, publish("a", &id.to_string(), 1, id));
        }
        assert_eq!(ack_of(&bench.read(publisher)).last(), Some(&(3, reason)), "{policy:?}");
        let back = bench.open(durable("d"));
        let got: Vec<String> = bench.messages(back).into_iter().map(|(_, payload)| payload).collect();
        assert_eq!(got, kept, "{policy:?}");
        let counters = bench.shard.counters();
        assert_eq!(counters.refused_queue_full + counters.dropped_queue_full, 1, "nothing vanishes silently");
    }
}

#[test]
fn the_receive_maximum_of_a_client_is_honoured() {
    let mut bench = Bench::new(Limits::default());
    let mut narrow = durable("d");
    narrow.properties.receive_maximum = Some(2);
    let receiver = bench.online(narrow);
    bench.subscribe(receiver, "a", 1);
    bench.read(receiver);
    let publisher = bench.online(connect("p", Version::V5));
    for id in 1..=5 {
        bench.publish(publisher, publish("a", &id.to_string(), 1, id));
    }
    let first = bench.publishes(receiver);
    assert_eq!(first.len(), 2);
    bench.send(receiver, puback(first[0].packet_id.unwrap().get()));
    assert_eq!(bench.publishes(receiver).len(), 1, "one acknowledged, one follows");
}

#[test]
fn what_was_in_flight_comes_again_with_dup_in_order_and_the_same_identifiers() {
    let mut bench = Bench::new(Limits::default());
    let receiver = bench.online(durable("d"));
    bench.subscribe(receiver, "a", 2);
    bench.read(receiver);
    let publisher = bench.online(connect("p", Version::V5));
    for (id, qos) in [(1, 1), (2, 2), (3, 1)] {
        bench.publish(publisher, publish("a", &id.to_string(), qos, id));
    }
    let first = bench.publishes(receiver);
    let qos2 = first[1].packet_id.unwrap();
    bench.send(receiver, Packet::PubRec(Ack::new(qos2, ReasonCode::SUCCESS)));
    bench.lose(receiver);
    let back = bench.open(durable("d"));
    let packets = bench.read(back);
    let Packet::ConnAck(connack) = &packets[0] else { panic!("{packets:?}") };
    assert!(connack.session_present);
    let Packet::Publish(one) = &packets[1] else { panic!("{packets:?}") };
    assert!(one.dup && one.packet_id == first[0].packet_id);
    assert_eq!(packets[2], Packet::PubRel(Ack::new(qos2, ReasonCode::SUCCESS)), "PUBREL, not PUBLISH again");
    let Packet::Publish(three) = &packets[3] else { panic!("{packets:?}") };
    assert!(three.dup && three.packet_id == first[2].packet_id);
}

#[test]
fn a_repeated_qos_2_publish_is_one_message_until_pubrel() {
    let mut bench = Bench::new(Limits::default());
    let receiver = bench.online(connect("r", Version::V5));
    bench.subscribe(receiver, "a", 0);
    bench.read(receiver);
    let mut publisher = bench.online(durable("p"));
    bench.publish(publisher, publish("a", "x", 2, 5));
    bench.lose(publisher);
    publisher = bench.online(durable("p"));
    bench.publish(publisher, publish("a", "x", 2, 5));
    assert_eq!(ack_of(&bench.read(publisher)), [(5, ReasonCode::SUCCESS)]);
    assert_eq!(bench.messages(receiver).len(), 1);
    bench.send(publisher, Packet::PubRel(Ack::new(packet_id(5), ReasonCode::SUCCESS)));
    bench.publish(publisher, publish("a", "y", 2, 5));
    assert_eq!(bench.messages(receiver).len(), 1, "after PUBREL the identifier is a new message");
    bench.send(publisher, Packet::PubRel(Ack::new(packet_id(77), ReasonCode::SUCCESS)));
    let unknown = Packet::PubComp(Ack::new(packet_id(77), ReasonCode::PACKET_IDENTIFIER_NOT_FOUND));
    assert_eq!(bench.read(publisher).last(), Some(&unknown));
}

#[test]
fn a_second_connection_takes_the_session_over_without_loss() {
    let mut bench = Bench::new(Limits::default());
    let old = bench.online(durable("d"));
    bench.subscribe(old, "a", 1);
    bench.read(old);
    let publisher = bench.online(connect("p", Version::V5));
    bench.publish(publisher, publish("a", "x", 1, 1));
    assert_eq!(bench.publishes(old).len(), 1);
    let new = bench.open(durable("d"));
    assert_eq!(bench.closed(old), Some(ReasonCode::SESSION_TAKEN_OVER));
    let goodbyes = bench.read(old);
    let [Packet::Disconnect(goodbye)] = goodbyes.as_slice() else { panic!("{goodbyes:?}") };
    assert_eq!(goodbye.reason, ReasonCode::SESSION_TAKEN_OVER);
    assert_eq!(bench.messages(new), [("a".to_owned(), "x".to_owned())]);
    bench.lose(old); // late news of the old socket must not touch the new connection
    bench.send(new, Packet::PingReq);
    assert_eq!(bench.read(new), [Packet::PingResp]);
}

#[test]
fn a_will_is_published_when_the_client_vanishes_and_only_then() {
    let goodbye = |reason| Some(Packet::Disconnect(Box::new(Disconnect::new(reason))));
    let rows = [
        ("vanished", None, None, 1),
        ("normal DISCONNECT", None, goodbye(ReasonCode::SUCCESS), 0),
        ("DISCONNECT with will", None, goodbye(ReasonCode::DISCONNECT_WITH_WILL), 1),
        ("broke a rule", None, Some(Packet::PingResp), 1),
        ("delayed, session ends first", Some(9999), None, 1),
    ];
    for (name, delay, packet, wanted) in rows {
        let mut bench = Bench::new(Limits::default());
        let watcher = bench.online(connect("w", Version::V5));
        bench.subscribe(watcher, "遗嘱", 1);
        bench.read(watcher);
        let mut with_will = connect("d", Version::V5);
        with_will.will = Some(will("遗嘱", delay));
        let client = bench.online(with_will);
        match packet {
            Some(packet) => bench.send(client, packet),
            None => bench.lose(client),
        }
        assert_eq!(bench.messages(watcher).len(), wanted, "{name}");
    }
}

#[test]
fn a_delayed_will_waits_and_a_client_that_returns_in_time_withdraws_it() {
    for (returns_after, wanted) in [(4_000, 0), (6_000, 1)] {
        let mut bench = Bench::new(Limits::default());
        let watcher = bench.online(connect("w", Version::V5));
        bench.subscribe(watcher, "will", 1);
        bench.read(watcher);
        let mut with_will = durable("d");
        with_will.will = Some(will("will", Some(5)));
        let client = bench.online(with_will.clone());
        bench.lose(client);
        assert_eq!(bench.messages(watcher).len(), 0);
        bench.wait(returns_after);
        with_will.will = None;
        bench.online(with_will);
        bench.wait(60_000);
        assert_eq!(bench.messages(watcher).len(), wanted, "back after {returns_after} ms");
    }
}

#[test]
fn a_session_ends_on_time_and_with_clean_start() {
    let mut bench = Bench::new(Limits::default());
    let mut short = durable("d");
    short.properties.session_expiry_interval = Some(1);
    let client = bench.online(short.clone());
    bench.subscribe(client, "a", 1);
    bench.lose(client);
    bench.wait(2_500);
    assert_eq!(bench.shard.session_count(), 0, "one second is over after two and a half");
    for (clean_start, present) in [(false, true), (true, false)] {
        let client = bench.online(durable("e"));
        bench.lose(client);
        let again = bench.open(reveille_proto::mqtt::Connect { clean_start, ..durable("e") });
        let packets = bench.read(again);
        let Packet::ConnAck(connack) = &packets[0] else { panic!("{packets:?}") };
        assert_eq!(connack.session_present, present, "clean start {clean_start}");
        bench.lose(again);
    }
}

#[test]
fn silence_ends_a_connection_though_messages_go_out() {
    let mut bench = Bench::new(Limits::default());
    let mut quiet = connect("quiet", Version::V5);
    quiet.keep_alive = 2;
    let silent = bench.online(quiet);
    bench.subscribe(silent, "a", 0);
    let publisher = bench.online(connect("p", Version::V5));
    for _ in 0..6 {
        bench.wait(600);
        bench.publish(publisher, publish("a", "x", 0, 0));
    }
    assert_eq!(bench.closed(silent), Some(ReasonCode::KEEP_ALIVE_TIMEOUT));
    let mut chatty = connect("chatty", Version::V5);
    chatty.keep_alive = 2;
    let alive = bench.online(chatty);
    for _ in 0..10 {
        bench.wait(600);
        bench.send(alive, Packet::PingReq);
    }
    assert_eq!(bench.closed(alive), None);
}

#[test]
fn retained_messages_come_to_new_subscribers_all_of_them() {
    let mut bench = Bench::new(Limits::default());
    let publisher = bench.online(connect("p", Version::V5));
    for n in 0..20 {
        let retained =
            reveille_proto::mqtt::Publish { retain: true, ..publish(&format!("状态/{n}"), "on", 1, n + 1) };
        bench.publish(publisher, retained);
    }
    let mut cleared = publish("状态/3", "", 1, 99);
    cleared.retain = true;
    bench.publish(publisher, cleared);
    let reader = bench.online(connect("r", Version::V5));
    bench.subscribe(reader, "状态/#", 1);
    let mut count = 0;
    loop {
        let page = bench.publishes(reader);
        if page.is_empty() {
            break;
        }
        for message in page {
            assert!(message.retain);
            count += 1;
            bench.send(reader, puback(message.packet_id.unwrap().get()));
        }
    }
    assert_eq!(count, 19, "paged, not cut; the cleared one is gone");
    bench.publish(publisher, publish("状态/1", "live", 1, 100));
    assert!(!bench.publishes(reader)[0].retain, "a live message has no retain flag");
}

#[test]
fn retain_handling_says_when_retained_messages_come() {
    for (handling, first, again) in
        [(RetainHandling::Always, 1, 1), (RetainHandling::IfNew, 1, 0), (RetainHandling::Never, 0, 0)]
    {
        let mut bench = Bench::new(Limits::default());
        let publisher = bench.online(connect("p", Version::V5));
        bench.publish(publisher, reveille_proto::mqtt::Publish { retain: true, ..publish("a", "x", 0, 0) });
        let reader = bench.online(connect("r", Version::V5));
        let options = SubscriptionOptions { retain_handling: handling, ..Default::default() };
        bench.subscribe_with(reader, "a", options, None);
        assert_eq!(bench.messages(reader).len(), first, "{handling:?} at first");
        bench.subscribe_with(reader, "a", options, None);
        assert_eq!(bench.messages(reader).len(), again, "{handling:?} again");
    }
}

#[test]
fn overlapping_subscriptions_give_one_message_with_the_highest_qos_and_all_identifiers() {
    let mut bench = Bench::new(Limits::default());
    let reader = bench.online(connect("r", Version::V5));
    for (filter, qos, identifier) in [("a/#", QoS::AtMostOnce, 4), ("a/+", QoS::AtLeastOnce, 5)] {
        bench.subscribe_with(
            reader,
            filter,
            SubscriptionOptions { qos, ..Default::default() },
            Some(identifier),
        );
    }
    bench.read(reader);
    let publisher = bench.online(connect("p", Version::V5));
    bench.publish(publisher, publish("a/b", "x", 2, 1));
    let got = bench.publishes(reader);
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].qos, QoS::AtLeastOnce);
    let mut identifiers = got[0].properties.subscription_identifiers.clone();
    identifiers.sort_unstable();
    assert_eq!(identifiers, [4, 5]);
}

#[test]
fn no_local_hides_ones_own_messages_only() {
    let mut bench = Bench::new(Limits::default());
    let one = bench.online(connect("one", Version::V5));
    let two = bench.online(connect("two", Version::V5));
    let options = SubscriptionOptions { no_local: true, ..Default::default() };
    bench.subscribe_with(one, "a", options, None);
    bench.read(one);
    bench.publish(one, publish("a", "mine", 0, 0));
    bench.publish(two, publish("a", "yours", 0, 0));
    assert_eq!(bench.messages(one), [("a".to_owned(), "yours".to_owned())]);
}

#[test]
fn expiry_is_counted_down_and_expired_messages_do_not_come() {
    let mut bench = Bench::new(Limits::default());
    let sleeper = bench.online(durable("d"));
    bench.subscribe(sleeper, "a", 1);
    bench.lose(sleeper);
    let publisher = bench.online(connect("p", Version::V5));
    for (id, expiry) in [(1, 5), (2, 100)] {
        let mut expiring = publish("a", &id.to_string(), 1, id);
        expiring.properties.message_expiry_interval = Some(expiry);
        bench.publish(publisher, expiring);
    }
    bench.wait(10_000);
    let back = bench.open(durable("d"));
    let got = bench.publishes(back);
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].properties.message_expiry_interval, Some(90));
    assert_eq!(bench.shard.counters().dropped_expired, 1);
}

#[test]
fn a_session_whose_deadline_fired_has_the_next_one() {
    let mut bench = Bench::new(Limits::default());
    let mut short = durable("d");
    short.properties.session_expiry_interval = Some(100);
    let sleeper = bench.online(short);
    bench.subscribe(sleeper, "a", 1);
    bench.lose(sleeper);
    let publisher = bench.online(connect("p", Version::V5));
    let mut expiring = publish("a", "x", 1, 1);
    expiring.properties.message_expiry_interval = Some(5);
    bench.publish(publisher, expiring);
    bench.wait(6_000);
    assert_eq!(bench.shard.counters().dropped_expired, 1);
    bench.wait(100_000);
    assert_eq!((bench.shard.counters().sessions_expired, bench.shard.session_count()), (1, 1));
}

#[test]
fn a_queued_message_too_large_for_the_client_is_skipped_and_stalls_nothing() {
    let mut bench = Bench::new(Limits::default());
    let sleeper = bench.online(durable("d"));
    bench.subscribe(sleeper, "a", 1);
    bench.lose(sleeper);
    let publisher = bench.online(connect("p", Version::V5));
    bench.publish(publisher, publish("a", &"x".repeat(500), 1, 1));
    bench.publish(publisher, publish("a", "small", 1, 2));
    let mut small = durable("d");
    small.properties.maximum_packet_size = Some(100);
    let back = bench.open(small);
    assert_eq!(bench.messages(back), [("a".to_owned(), "small".to_owned())]);
    assert_eq!(bench.shard.counters().dropped_too_large, 1);
}

#[test]
fn a_shared_subscription_prefers_members_that_are_online_and_takes_turns() {
    let mut bench = Bench::new(Limits::default());
    let names = ["m1", "m2", "m3"];
    let mut members: Vec<_> = names.iter().map(|name| bench.online(durable(name))).collect();
    for member in &members {
        bench.subscribe(*member, "$share/组/a", 1);
        bench.read(*member);
    }
    bench.lose(members.remove(0));
    let publisher = bench.online(connect("p", Version::V5));
    for id in 1..=10 {
        bench.publish(publisher, publish("a", &id.to_string(), 1, id));
    }
    let counts: Vec<usize> = members.iter().map(|member| bench.publishes(*member).len()).collect();
    assert_eq!(counts, [5, 5]);
}

#[test]
fn a_member_whose_session_ends_hands_over_what_it_did_not_acknowledge() {
    let mut bench = Bench::new(Limits::default());
    let leaver = bench.online(connect("leaver", Version::V5));
    bench.subscribe(leaver, "$share/g/a", 1);
    let publisher = bench.online(connect("p", Version::V5));
    bench.publish(publisher, publish("a", "task", 1, 1));
    assert_eq!(bench.messages(leaver).len(), 1);
    let stayer = bench.online(durable("stayer"));
    bench.subscribe(stayer, "$share/g/a", 1);
    bench.read(stayer);
    bench.lose(leaver);
    assert_eq!(bench.messages(stayer), [("a".to_owned(), "task".to_owned())]);
}

#[test]
fn topic_aliases_stand_for_topics_in_both_directions() {
    let mut bench = Bench::new(Limits::default());
    let properties = ConnectProperties { topic_alias_maximum: Some(1), ..Default::default() };
    let reader = bench.online(reveille_proto::mqtt::Connect { properties, ..connect("r", Version::V5) });
    bench.subscribe(reader, "#", 0);
    bench.read(reader);
    let publisher = bench.online(connect("p", Version::V5));
    let aliased = |topic: Option<&str>, payload: &str| {
        let mut aliased = publish("x", payload, 0, 0);
        aliased.topic = topic.map(|topic| reveille_proto::topic::TopicName::parse(topic.to_owned()).unwrap());
        aliased.properties = PublishProperties { topic_alias: Some(3), ..Default::default() };
        aliased
    };
    bench.publish(publisher, aliased(Some("主题/一"), "1"));
    bench.publish(publisher, aliased(None, "2"));
    bench.publish(publisher, aliased(None, "3"));
    bench.publish(publisher, publish("other", "4", 0, 0));
    let got = bench.publishes(reader);
    let seen: Vec<_> = got
        .iter()
        .map(|publish| (publish.topic.as_ref().map(ToString::to_string), publish.properties.topic_alias))
        .collect();
    // Only what comes again is worth an alias.
    let topic = Some("主题/一".to_owned());
    let wanted = [(topic.clone(), None), (topic, Some(1)), (None, Some(1)), (Some("other".to_owned()), None)];
    assert_eq!(seen, wanted);
    let mut too_high = aliased(Some("x"), "4");
    too_high.properties.topic_alias = Some(65);
    bench.publish(publisher, too_high);
    assert_eq!(bench.closed(publisher), Some(ReasonCode::TOPIC_ALIAS_INVALID));
}

#[test]
fn packets_that_a_client_may_not_send_end_only_its_own_connection() {
    let rows = [
        ("second CONNECT", Packet::Connect(Box::new(connect("x", Version::V5)))),
        ("PINGRESP", Packet::PingResp),
        ("PUBACK for nothing", puback(4)),
    ];
    for (name, packet) in rows {
        let mut bench = Bench::new(Limits::default());
        let other = bench.online(connect("other", Version::V5));
        let bad = bench.online(connect("bad", Version::V5));
        bench.send(bad, packet);
        let wanted = (name != "PUBACK for nothing").then_some(ReasonCode::PROTOCOL_ERROR);
        assert_eq!(bench.closed(bad), wanted, "{name}");
        bench.send(other, Packet::PingReq);
        assert_eq!(bench.read(other), [Packet::PingResp], "{name}");
    }
}

#[test]
fn a_publisher_without_receivers_is_told() {
    let mut bench = Bench::new(Limits::default());
    let publisher = bench.online(connect("p", Version::V5));
    bench.publish(publisher, publish("nobody", "x", 1, 1));
    assert_eq!(ack_of(&bench.read(publisher)), [(1, ReasonCode::NO_MATCHING_SUBSCRIBERS)]);
}

#[test]
fn system_topics_are_not_for_clients() {
    let mut bench = Bench::new(Limits::default());
    let client = bench.online(connect("c", Version::V5));
    bench.publish(client, publish("$push/v1/send", "x", 1, 1));
    assert_eq!(ack_of(&bench.read(client)), [(1, ReasonCode::NOT_AUTHORIZED)]);
    bench.subscribe(client, "$push/v1/#", 1);
    let packets = bench.read(client);
    let Packet::SubAck(suback) = &packets[0] else { panic!("{packets:?}") };
    assert_eq!(suback.reasons, [ReasonCode::NOT_AUTHORIZED]);
}

#[test]
fn a_client_that_sends_and_never_reads_is_not_read_any_more() {
    let limits = ConnectionLimits { unsent_bytes_max: 100, ..Default::default() };
    let mut bench = Bench::new(Limits::of(limits));
    let deaf = bench.online(connect("deaf", Version::V5));
    bench.blocks.insert(deaf);
    for _ in 0..60 {
        bench.send(deaf, Packet::PingReq);
    }
    assert!(bench.paused.contains(&deaf), "its answers fill the buffer");
    bench.blocks.clear();
    bench.flush(deaf);
    assert!(!bench.paused.contains(&deaf), "it read, so it may go on");
    assert_eq!(bench.read(deaf).len(), 60);
}

#[test]
fn a_slow_reader_loses_at_most_qos_0() {
    let limits = ConnectionLimits { unsent_bytes_max: 100, ..Default::default() };
    let mut bench = Bench::new(Limits::of(limits));
    let slow = bench.online(connect("slow", Version::V5));
    bench.subscribe(slow, "a/#", 1);
    bench.read(slow);
    bench.blocks.insert(slow);
    let publisher = bench.online(connect("p", Version::V5));
    for id in 1..=30 {
        bench.publish(publisher, publish("a/0", "lost when it must be", 0, 0));
        bench.publish(publisher, publish("a/1", &id.to_string(), 1, id));
    }
    assert!(bench.shard.counters().dropped_slow_reader > 0);
    bench.blocks.clear();
    bench.flush(slow);
    let got = bench.messages(slow);
    let kept: Vec<_> =
        got.iter().filter(|(topic, _)| topic == "a/1").map(|(_, payload)| payload.clone()).collect();
    let wanted: Vec<_> = (1..=30).map(|id| id.to_string()).collect();
    assert_eq!(kept, wanted, "every QoS 1 message, in order");
}

#[test]
fn a_second_connect_with_the_same_identifier_in_another_app_is_another_session() {
    let mut bench = Bench::new(Limits::default());
    let identity =
        |app| reveille_broker_core::io::Identity::of(reveille_proto::ids::AppId::parse(app).unwrap());
    let one = bench.open_as(connect("same", Version::V5), identity("shop"));
    let two = bench.open_as(connect("same", Version::V5), identity("bank"));
    bench.subscribe(one, "#", 0);
    bench.publish(two, publish("secret", "x", 0, 0));
    assert_eq!(bench.messages(one), []);
    assert_eq!(bench.closed(one), None);
}

#[test]
fn pubrel_waits_for_the_disk_even_when_the_client_is_back_at_once() {
    let mut bench = Bench::new(Limits::default());
    let receiver = bench.online(durable("d"));
    bench.subscribe(receiver, "a", 2);
    bench.read(receiver);
    let publisher = bench.online(connect("p", Version::V5));
    bench.publish(publisher, publish("a", "x", 2, 1));
    let id = bench.publishes(receiver)[0].packet_id.unwrap();
    bench.commits_at_once = false;
    bench.send(receiver, Packet::PubRec(Ack::new(id, ReasonCode::SUCCESS)));
    bench.lose(receiver);
    let back = bench.open(durable("d"));
    let pubrel = Packet::PubRel(Ack::new(id, ReasonCode::SUCCESS));
    assert_eq!(bench.read(back), [], "a crash now would send the PUBLISH again");
    while bench.commit(Committed::Durable) {}
    let packets = bench.read(back);
    assert!(matches!(&packets[..], [Packet::ConnAck(_), last] if *last == pubrel), "{packets:?}");
}

#[test]
fn a_session_that_comes_back_gets_nothing_before_the_disk_knows_that_it_did() {
    let mut bench = Bench::new(Limits::default());
    let receiver = bench.online(durable("d"));
    bench.subscribe(receiver, "a", 2);
    bench.lose(receiver);
    let publisher = bench.online(connect("p", Version::V5));
    bench.publish(publisher, publish("a", "x", 2, 1));
    bench.commits_at_once = false;
    let back = bench.open(durable("d"));
    assert_eq!(
        bench.read(back),
        [],
        "a crash now would leave a message that was sent and looks as if it was not"
    );
    while bench.commit(Committed::Durable) {}
    let packets = bench.read(back);
    assert!(matches!(&packets[..], [Packet::ConnAck(_), Packet::Publish(_)]), "{packets:?}");
}

#[test]
fn a_session_goes_on_while_the_disk_is_full() {
    let mut bench = Bench::new(Limits::default());
    let receiver = bench.online(durable("d"));
    bench.subscribe(receiver, "a", 1);
    bench.lose(receiver);
    let publisher = bench.online(connect("p", Version::V5));
    bench.publish(publisher, publish("a", "x", 1, 1));
    bench.commits_at_once = false;
    let back = bench.open(durable("d"));
    bench.commit(Committed::Failed);
    let packets = bench.read(back);
    assert!(matches!(&packets[..], [Packet::ConnAck(_), Packet::Publish(_)]), "{packets:?}");
}

#[test]
fn a_will_outlives_a_crash_of_the_broker() {
    for (name, connect) in [("durable session", durable("d")), ("clean session", connect("d", Version::V5))] {
        let mut bench = Bench::new(Limits::default());
        let client =
            bench.open(reveille_proto::mqtt::Connect { will: Some(will("遗嘱", Some(0))), ..connect });
        assert!(
            matches!(bench.read(client)[..], [Packet::ConnAck(_)]),
            "{name}: CONNACK means that the will is kept"
        );
        let record = bench.written.iter().rev().find_map(|change| match change {
            Change::PutSession { session, record } => Some((*session, record.clone())),
            _ => None,
        });
        let (session, record) = record.unwrap();
        let stored = reveille_broker_core::change::StoredSession {
            session,
            record,
            subscriptions: Vec::new(),
            entries: Vec::new(),
            received: Vec::new(),
        };
        let mut restarted = Bench::booted(Limits::default(), 2);
        restarted.shard.recover(stored, restarted.now);
        let watcher = restarted.online(bench::connect("w", Version::V5));
        restarted.subscribe(watcher, "遗嘱", 1);
        restarted.read(watcher);
        restarted.wait(1_000);
        assert_eq!(restarted.messages(watcher), [("遗嘱".to_owned(), "gone".to_owned())], "{name}");
        restarted.wait(1_000);
        assert_eq!(restarted.messages(watcher).len(), 0, "{name}: once");
    }
}

#[test]
fn a_qos_2_publish_that_the_disk_refused_leaves_no_identifier_behind() {
    let mut bench = Bench::new(Limits::default());
    let publisher = bench.online(durable("p"));
    bench.commits_at_once = false;
    bench.publish(publisher, publish("a", "x", 2, 5));
    bench.commit(Committed::Failed);
    assert_eq!(ack_of(&bench.read(publisher)), [(5, ReasonCode::QUOTA_EXCEEDED)]);
    bench.commits_at_once = true;
    bench.wait(1_000);
    bench.publish(publisher, publish("a", "y", 1, 6)); // whatever waits is written now
    let is_receive = |change: &&Change| matches!(change, Change::Receive { .. });
    assert_eq!(bench.written.iter().filter(is_receive).count(), 0);
}
