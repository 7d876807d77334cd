//! Control of load and what the server offers: each test would fail in a broker that ignores its configuration.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod bench;

use bench::{Bench, connect, packet_id, publish};
use reveille_broker_core::change::{Change, StoredSession};
use reveille_broker_core::control::{AutoSubscription, Control, Strategies, Strategy, Template};
use reveille_broker_core::io::{Committed, ConnectionKey};
use reveille_broker_core::limits::{ConnectionLimits, Limits, Offered, PublishRate};
use reveille_broker_core::message::Time;
use reveille_broker_core::rewrite::{Applies, Rewrite};
use reveille_proto::ids::AppId;
use reveille_proto::mqtt::{
    ConnAck, Connect, ConnectProperties, Packet, QoS, SubscriptionOptions, Unsubscribe, Version,
};
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::TopicFilter;
use std::time::Duration;

fn connack(packets: &[Packet]) -> &ConnAck {
    match packets.first() {
        Some(Packet::ConnAck(connack)) => connack,
        other => panic!("no CONNACK but {other:?}"),
    }
}

fn offering(offered: Offered) -> Bench {
    Bench::new(Limits::of(ConnectionLimits { offered, ..Default::default() }))
}

fn subscribed(bench: &mut Bench, filter: &str, identifier: Option<u32>) -> Result<ReasonCode, ReasonCode> {
    let key = bench.online(connect("s", Version::V5));
    let options = SubscriptionOptions { qos: QoS::ExactlyOnce, ..Default::default() };
    bench.subscribe_with(key, filter, options, identifier);
    let packets = bench.read(key);
    match packets.first() {
        Some(Packet::SubAck(suback)) => Ok(suback.reasons[0]),
        Some(Packet::Disconnect(disconnect)) => Err(disconnect.reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_offered_is_said_in_connack_and_refused_with_its_reason() {
    let everything = Offered::default();
    let key = offering(everything).open(connect("c", Version::V5));
    let mut bench = offering(everything);
    assert_eq!(key, bench.open(connect("c", Version::V5)));
    let properties = connack(&bench.read(key)).properties.clone();
    assert_eq!(properties.maximum_qos, None, "QoS 2 is said by leaving it out");
    assert_eq!(properties.retain_available, None);

    let mut bench = offering(Offered { maximum_qos: QoS::AtMostOnce, ..everything });
    let key = bench.open(connect("c", Version::V5));
    assert_eq!(connack(&bench.read(key)).properties.maximum_qos, Some(QoS::AtMostOnce));
    bench.publish(key, publish("a", "x", 1, 1));
    assert_eq!(bench.closed(key), Some(ReasonCode::QOS_NOT_SUPPORTED));
    assert_eq!(subscribed(&mut bench, "a", None), Ok(ReasonCode::SUCCESS), "granted what there is: QoS 0");

    let mut bench = offering(Offered { retain: false, ..everything });
    let key = bench.open(connect("c", Version::V5));
    assert_eq!(connack(&bench.read(key)).properties.retain_available, Some(false));
    bench.publish(key, reveille_proto::mqtt::Publish { retain: true, ..publish("a", "x", 0, 0) });
    assert_eq!(bench.closed(key), Some(ReasonCode::RETAIN_NOT_SUPPORTED));

    let mut bench = offering(Offered { wildcard_subscription: false, ..everything });
    assert_eq!(subscribed(&mut bench, "a/#", None), Ok(ReasonCode::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED));
    assert_eq!(subscribed(&mut bench, "a/b", None), Ok(ReasonCode::GRANTED_QOS_2));

    let mut bench = offering(Offered { shared_subscription: false, ..everything });
    assert_eq!(
        subscribed(&mut bench, "$share/g/a", None),
        Ok(ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED)
    );

    let mut bench = offering(Offered { subscription_identifiers: false, ..everything });
    let refused = Err(ReasonCode::SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED);
    assert_eq!(subscribed(&mut bench, "a", Some(5)), refused);
    let key = bench.open(connect("c", Version::V5));
    let properties = connack(&bench.read(key)).properties.clone();
    assert_eq!(properties.subscription_identifiers_available, Some(false));
}

#[test]
fn two_connections_of_one_broker_may_have_different_limits() {
    let mut bench = Bench::new(Limits::default());
    bench.limits =
        ConnectionLimits { subscriptions_max: 1, topic_levels_max: 2, ..Default::default() }.into();
    let narrow = bench.online(connect("narrow", Version::V5));
    bench.limits = ConnectionLimits::default().into();
    let wide = bench.online(connect("wide", Version::V5));
    for (key, wanted) in [(narrow, ReasonCode::QUOTA_EXCEEDED), (wide, ReasonCode::SUCCESS)] {
        bench.subscribe(key, "a", 0);
        bench.subscribe(key, "b", 0);
        let reasons: Vec<ReasonCode> = bench
            .read(key)
            .iter()
            .filter_map(|packet| if let Packet::SubAck(ack) = packet { Some(ack.reasons[0]) } else { None })
            .collect();
        assert_eq!(reasons, [ReasonCode::SUCCESS, wanted]);
    }
    for (key, wanted) in
        [(narrow, ReasonCode::TOPIC_NAME_INVALID), (wide, ReasonCode::NO_MATCHING_SUBSCRIBERS)]
    {
        bench.publish(key, publish("一/二/三", "x", 1, 1));
        let packets = bench.read(key);
        let Some(Packet::PubAck(ack)) = packets.first() else { panic!("{packets:?}") };
        assert_eq!((ack.packet_id, ack.reason), (packet_id(1), wanted));
    }
}

fn limited_to(messages_per_s: u32, bytes_per_s: u64) -> Bench {
    let rate = PublishRate { messages_per_s, bytes_per_s, patience: Duration::from_secs(5) };
    Bench::new(Limits::of(ConnectionLimits { rate, ..Default::default() }))
}

#[test]
fn who_publishes_too_fast_is_not_read_for_a_while_and_disconnected_when_it_goes_on() {
    for mut bench in [limited_to(10, 0), limited_to(0, 20)] {
        let key = bench.online(connect("p", Version::V5));
        let mut sent = 0;
        while bench.closed(key).is_none() {
            while !bench.paused.contains(&key) && bench.closed(key).is_none() {
                bench.publish(key, publish("a", "x", 0, 0));
                sent += 1;
            }
            bench.wait(100);
        }
        assert_eq!(bench.closed(key), Some(ReasonCode::MESSAGE_RATE_TOO_HIGH));
        assert!((55..75).contains(&sent), "{sent} in five seconds: a burst of ten, then ten a second");
        assert!(bench.now.0 >= 1_005_000, "patience was five seconds");
        let goodbye = bench.read(key).pop();
        let Some(Packet::Disconnect(goodbye)) = goodbye else { panic!("{goodbye:?}") };
        assert!(goodbye.properties.reason_string.is_some());
    }
}

#[test]
fn a_client_that_is_not_read_is_not_silent() {
    let mut bench = limited_to(0, 1);
    let key = bench.online(Connect { keep_alive: 1, ..connect("p", Version::V5) });
    bench.publish(key, publish("a", "twenty seconds worth", 0, 0));
    assert!(bench.paused.contains(&key));
    bench.wait(10_000);
    assert_eq!(bench.closed(key), None, "what it sends waits in its socket");
    for _ in 0..12 {
        bench.wait(1_000);
    }
    assert!(!bench.paused.contains(&key));
    bench.wait(2_000);
    assert_eq!(bench.closed(key), Some(ReasonCode::KEEP_ALIVE_TIMEOUT), "now it is");
}

#[test]
fn who_asks_is_told_where_it_may_be_answered() {
    let control = Control { response_information: Some(Template::new("reply/%c")), ..Control::default() };
    let mut bench = Bench::controlled(Limits::default(), control, 1);
    for (asks, wanted) in [(None, None), (Some(false), None), (Some(true), Some("reply/设备-1"))] {
        let properties = ConnectProperties { request_response_information: asks, ..Default::default() };
        let key = bench.open(Connect { properties, ..connect("设备-1", Version::V5) });
        let told = connack(&bench.read(key)).properties.response_information.clone();
        assert_eq!(told.as_deref(), wanted, "{asks:?}");
    }
}

#[test]
fn a_refusal_says_why_where_it_is_wanted_and_fits() {
    for (wants, packet_size_max, wanted) in
        [(None, None, true), (Some(true), None, true), (Some(false), None, false), (None, Some(20), false)]
    {
        let limits = ConnectionLimits { topic_levels_max: 2, ..Default::default() };
        let mut bench = Bench::new(Limits::of(limits));
        let properties = ConnectProperties {
            request_problem_information: wants,
            maximum_packet_size: packet_size_max,
            ..Default::default()
        };
        let key = bench.open(Connect { properties, ..connect("c", Version::V5) });
        bench.read(key);
        bench.publish(key, publish("a/b/c", "x", 1, 7));
        let packets = bench.read(key);
        let Some(Packet::PubAck(ack)) = packets.first() else { panic!("{packets:?}") };
        assert_eq!(ack.reason, ReasonCode::TOPIC_NAME_INVALID);
        assert_eq!(ack.properties.is_some(), wanted, "{wants:?} {packet_size_max:?}");
    }
}

fn in_the_end(bench: &mut Bench, key: ConnectionKey) -> Vec<(String, String)> {
    bench.wait(60_000);
    bench.messages(key)
}

#[test]
fn a_delayed_message_is_acknowledged_when_it_is_on_disk_and_comes_in_its_time() {
    for qos in [1, 2] {
        let mut bench = Bench::new(Limits::default());
        let reader = bench.online(connect("r", Version::V5));
        bench.subscribe(reader, "#", 2);
        bench.subscribe(reader, "$delayed/#", 2);
        bench.read(reader);
        let publisher = bench.online(connect("p", Version::V5));
        bench.commits_at_once = false;
        let mut message = publish("$delayed/5/设备/1", "later", qos, 1);
        message.properties.message_expiry_interval = Some(3);
        bench.publish(publisher, message);
        assert_eq!(bench.read(publisher), [], "QoS {qos}: nothing before the commit");
        bench.commit(Committed::Durable);
        assert_eq!(bench.read(publisher).len(), 1, "QoS {qos}");
        bench.commits_at_once = true;
        bench.wait(4_900);
        assert_eq!(bench.messages(reader), [], "QoS {qos}: not yet");
        bench.wait(200);
        let got = bench.publishes(reader);
        assert_eq!(got.len(), 1, "QoS {qos}: its expiry began when it was published");
        assert_eq!(got[0].topic.as_ref().map(ToString::to_string).as_deref(), Some("设备/1"));
        assert_eq!(got[0].properties.message_expiry_interval, Some(3));
        assert_eq!(in_the_end(&mut bench, reader), []);
        assert_eq!(bench.shard.counters().delayed_messages, 0);
        let puts = bench.written.iter().filter(|change| matches!(change, Change::PutSession { .. })).count();
        let drops =
            bench.written.iter().filter(|change| matches!(change, Change::DropSession { .. })).count();
        assert!(puts == 1 && drops >= 1, "the store forgets it: {puts} {drops}");
    }
}

#[test]
fn a_delayed_message_outlives_the_broker() {
    let mut bench = Bench::new(Limits::default());
    let publisher = bench.online(connect("p", Version::V5));
    bench.publish(publisher, publish("$delayed/30/a", "kept", 1, 1));
    bench.publish(publisher, publish("$delayed/30/a", "in memory only", 0, 0));
    let record = bench.written.iter().find_map(|change| match change {
        Change::PutSession { session, record } => Some((*session, record.clone())),
        _ => None,
    });
    let (session, record) = record.unwrap();
    let mut restarted = Bench::booted(Limits::default(), 2);
    restarted.now = Time(bench.now.0 + 10_000);
    let stored = StoredSession { session, record, subscriptions: vec![], entries: vec![], received: vec![] };
    restarted.shard.recover(stored, restarted.now);
    assert_eq!(restarted.shard.session_count(), 0, "it is no session");
    let reader = restarted.online(connect("r", Version::V5));
    restarted.subscribe(reader, "a", 1);
    restarted.read(reader);
    restarted.wait(19_000);
    assert_eq!(restarted.messages(reader), []);
    assert_eq!(in_the_end(&mut restarted, reader), [("a".to_owned(), "kept".to_owned())]);
    assert!(
        matches!(restarted.written.last(), Some(Change::DropSession { session: gone }) if *gone == session)
    );
}

#[test]
fn a_delayed_message_that_could_not_be_written_is_refused_and_never_comes() {
    let mut bench = Bench::new(Limits::default());
    let reader = bench.online(connect("r", Version::V5));
    bench.subscribe(reader, "a", 1);
    bench.read(reader);
    let publisher = bench.online(connect("p", Version::V5));
    bench.commits_at_once = false;
    bench.publish(publisher, publish("$delayed/5/a", "x", 1, 1));
    bench.wait(6_000); // its time comes before the disk is done
    bench.commit(Committed::Failed);
    let packets = bench.read(publisher);
    let Some(Packet::PubAck(ack)) = packets.first() else { panic!("{packets:?}") };
    assert_eq!(ack.reason, ReasonCode::QUOTA_EXCEEDED);
    bench.commits_at_once = true;
    assert_eq!(in_the_end(&mut bench, reader), []);
    let kept = bench.written.iter().rev().find_map(|change| match change {
        Change::PutSession { .. } => Some(true),
        Change::DropSession { .. } => Some(false),
        _ => None,
    });
    assert_ne!(kept, Some(true), "the store does not keep what was refused");
}

#[test]
fn delayed_messages_have_bounds_and_the_permission_of_the_real_topic() {
    let limits = Limits {
        delayed_messages_max: 2,
        delayed_bytes_max: 20,
        delay_max: Duration::from_secs(100),
        ..Limits::default()
    };
    let quota = ReasonCode::QUOTA_EXCEEDED;
    let fine = ReasonCode::SUCCESS;
    let rows: [(&[(&str, &str)], ReasonCode); 7] = [
        (&[("$delayed/100/a", "x")], fine),
        (&[("$delayed/101/a", "x")], quota),
        (&[("$delayed/1/a", "x"), ("$delayed/1/a", "x"), ("$delayed/1/a", "x")], quota),
        (&[("$delayed/1/a", "0123456789"), ("$delayed/1/a", "0123456789")], quota),
        (&[("$delayed/x/a", "x")], ReasonCode::TOPIC_NAME_INVALID),
        (&[("$delayed/1/$push/v1/send", "x")], ReasonCode::TOPIC_NAME_INVALID),
        (&[("$delayed/0/a", "x")], ReasonCode::NO_MATCHING_SUBSCRIBERS),
    ];
    for (sent, wanted) in rows {
        let mut bench = Bench::new(limits.clone());
        let publisher = bench.online(connect("p", Version::V5));
        for (topic, payload) in sent {
            bench.publish(publisher, publish(topic, payload, 1, 1));
        }
        let packets = bench.read(publisher);
        let Some(Packet::PubAck(ack)) = packets.last() else { panic!("{packets:?}") };
        assert_eq!(ack.reason, wanted, "{sent:?}");
    }
}

fn rewriting(from: &str, to: &str) -> Control {
    let from = TopicFilter::parse(from).unwrap();
    let rule = Rewrite::new(AppId::default(), from, to, Applies::Both).unwrap();
    Control { rewrites: vec![rule], ..Control::default() }
}

#[test]
fn publishers_and_subscribers_of_an_old_topic_meet_on_the_new_one() {
    let mut bench = Bench::controlled(Limits::default(), rewriting("old/+/#", "new/$1/$2"), 1);
    let [old, new] = ["old", "new"].map(|name| bench.online(connect(name, Version::V5)));
    bench.subscribe(old, "old/+/#", 1);
    bench.subscribe(new, "new/7/x", 1);
    bench.read(old);
    bench.read(new);
    let publisher = bench.online(connect("p", Version::V5));
    for topic in ["old/7/x", "new/7/x", "$delayed/1/old/7/x"] {
        bench.publish(publisher, publish(topic, topic, 1, 1));
        bench.wait(1_100);
        let wanted = [("new/7/x".to_owned(), topic.to_owned())];
        assert_eq!(bench.messages(old), wanted);
        assert_eq!(bench.messages(new), wanted);
    }
    let unsubscribe =
        Unsubscribe { packet_id: packet_id(5), user_properties: Vec::new(), filters: vec!["old/+/#".into()] };
    bench.send(old, Packet::Unsubscribe(Box::new(unsubscribe)));
    let packets = bench.read(old);
    let Some(Packet::UnsubAck(unsuback)) = packets.first() else { panic!("{packets:?}") };
    assert_eq!(unsuback.reasons, [ReasonCode::SUCCESS], "under the name that it used");
}

#[test]
fn clients_are_subscribed_when_they_connect_and_only_once() {
    let auto = |filter| AutoSubscription {
        app: AppId::default(),
        filter: Template::new(filter),
        options: SubscriptionOptions { qos: QoS::AtLeastOnce, ..Default::default() },
    };
    let auto_subscriptions = vec![auto("device/%c/cmd"), auto("$share/all/news"), auto("user/%u")];
    let control = Control { auto_subscriptions, ..Control::default() };
    let mut bench = Bench::controlled(Limits::default(), control, 1);
    let publisher = bench.online(connect("publisher", Version::V5));
    for round in 0..3 {
        let key = bench.online(bench::durable("设备-1"));
        assert_eq!(bench.shard.counters().subscriptions, 2 + 2, "round {round}: no user, no filter");
        bench.publish(publisher, publish("device/设备-1/cmd", "x", 1, 1));
        let got = bench.messages(key);
        assert_eq!(got, [("device/设备-1/cmd".to_owned(), "x".to_owned())], "round {round}: once");
        bench.send(
            key,
            Packet::PubAck(reveille_proto::mqtt::Ack::new(packet_id(round + 1), ReasonCode::SUCCESS)),
        );
        bench.lose(key);
    }
    let subscribes = bench.written.iter().filter(|change| matches!(change, Change::Subscribe { .. })).count();
    assert_eq!(subscribes, 2, "what a resumed session has is not written again");
    let sly = bench.online(connect("+", Version::V5));
    bench.publish(publisher, publish("device/设备-1/cmd", "secret", 1, 1));
    assert_eq!(bench.messages(sly), [], "a client id is no wildcard");
}

fn sharing(strategy: Strategy) -> Bench {
    let strategies = Strategies { default: Strategy::RoundRobin, by_prefix: vec![("work".into(), strategy)] };
    Bench::controlled(Limits::default(), Control { strategies, ..Control::default() }, 1)
}

/// How many messages each member got.
fn shares(bench: &mut Bench, members: &[ConnectionKey]) -> Vec<usize> {
    members.iter().map(|key| bench.messages(*key).len()).collect()
}

#[test]
fn a_worker_that_does_not_acknowledge_gets_no_more_until_the_others_have_as_many() {
    for (strategy, wanted) in [(Strategy::LeastInFlight, [3, 27]), (Strategy::RoundRobin, [15, 15])] {
        let mut bench = sharing(strategy);
        let [slow, fast] = ["slow", "fast"].map(|name| bench.online(connect(name, Version::V5)));
        for key in [slow, fast] {
            bench.subscribe(key, "$share/workers/jobs/#", 1);
            bench.read(key);
        }
        let publisher = bench.online(connect("p", Version::V5));
        let mut got = [0, 0];
        for id in 1..=30 {
            bench.publish(publisher, publish("jobs/x", "x", 1, id));
            got[0] += bench.messages(slow).len();
            for message in bench.publishes(fast) {
                got[1] += 1;
                // The fast one acknowledges all but every tenth.
                if got[1] % 10 != 0 {
                    let ack = reveille_proto::mqtt::Ack::new(message.packet_id.unwrap(), ReasonCode::SUCCESS);
                    bench.send(fast, Packet::PubAck(ack));
                }
            }
        }
        assert_eq!(got, wanted, "{strategy:?}");
    }
}

#[test]
fn what_the_router_counted_is_counted_down_whatever_becomes_of_it() {
    let mut bench = sharing(Strategy::LeastInFlight);
    let publisher = bench.online(connect("p", Version::V5));
    let group = "$share/workers/a";
    // Granted QoS 0, acknowledged, refused, gone with the session: nothing of it may weigh on the group for ever.
    let deaf = bench.online(connect("deaf", Version::V5));
    bench.subscribe(deaf, group, 0);
    let done = bench.online(connect("done", Version::V5));
    bench.subscribe(done, group, 2);
    for id in 1..=20 {
        bench.publish(publisher, publish("a", "x", 1, id));
        for message in bench.publishes(done) {
            let ack = reveille_proto::mqtt::Ack::new(message.packet_id.unwrap(), ReasonCode::SUCCESS);
            bench.send(done, Packet::PubAck(ack));
        }
    }
    bench.lose(done);
    bench.lose(deaf);
    let sleeper = bench.online(bench::durable("sleeper"));
    bench.subscribe(sleeper, group, 1);
    for id in 21..=25 {
        bench.publish(publisher, publish("a", "x", 1, id));
    }
    bench.lose(sleeper);
    bench.wait(4_000_000); // the session expires with what it had not acknowledged
    assert!(!format!("{:?}", bench.router).contains("Load(1"), "{:?}", bench.router);
    let again = bench.online(connect("again", Version::V5));
    bench.subscribe(again, group, 1);
    bench.publish(publisher, publish("a", "x", 1, 26));
    assert_eq!(bench.messages(again).len(), 1);
    bench.lose(again);
}

#[test]
fn a_topic_or_a_publisher_keeps_its_worker_while_the_workers_stay() {
    for strategy in [Strategy::HashTopic, Strategy::HashClient] {
        let mut bench = sharing(strategy);
        let workers: Vec<ConnectionKey> = (0..4)
            .map(|number| {
                let key = bench.online(connect(&format!("w{number}"), Version::V5));
                bench.subscribe(key, "$share/workers/#", 0);
                bench.read(key);
                key
            })
            .collect();
        let mut busy = std::collections::BTreeSet::new();
        for number in 0..40 {
            let name = format!("设备-{number}");
            let mut worker = None;
            for round in 0..3 {
                // The publisher of a topic is another one each time, and the topics of a publisher differ.
                let (client, topic) = match strategy {
                    Strategy::HashTopic => (format!("{name}/{round}"), name.clone()),
                    _ => (name.clone(), format!("{name}/{round}")),
                };
                let publisher = bench.online(connect(&client, Version::V5));
                bench.publish(publisher, publish(&topic, "x", 0, 0));
                let got = shares(&mut bench, &workers).iter().position(|count| *count == 1).unwrap();
                assert_eq!(*worker.get_or_insert(got), got, "{strategy:?} {name}");
                bench.lose(publisher);
            }
            busy.extend(worker);
        }
        assert_eq!(busy.len(), 4, "{strategy:?}: everybody has something to do");
    }
}

#[test]
fn the_store_does_not_remember_the_identifier_of_a_refused_qos_2_publish() {
    let limits = ConnectionLimits { queue_messages_max: 1, ..Default::default() };
    let mut bench = Bench::new(Limits::of(limits));
    let sleeper = bench.online(bench::durable("sleeper"));
    bench.subscribe(sleeper, "a", 2);
    bench.lose(sleeper);
    let publisher = bench.online(bench::durable("publisher"));
    for (id, wanted) in [(1, ReasonCode::SUCCESS), (2, ReasonCode::QUOTA_EXCEEDED)] {
        bench.publish(publisher, publish("a", "x", 2, id));
        let packets = bench.read(publisher);
        let Some(Packet::PubRec(ack)) = packets.first() else { panic!("{packets:?}") };
        assert_eq!(ack.reason, wanted, "{id}");
    }
    let kept: Vec<u16> = bench
        .written
        .iter()
        .filter_map(|change| match change {
            Change::Receive { packet_id, .. } => Some(packet_id.get()),
            _ => None,
        })
        .collect();
    assert_eq!(kept, [1]);
}
