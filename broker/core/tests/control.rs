//! Control of load and what the server offers: each test would fail in a broker that ignores its configuration.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod bench;

use bench::{Bench, connect, packet_id, publish};
use reveille_broker_core::limits::{ConnectionLimits, Limits, Offered};
use reveille_proto::mqtt::{ConnAck, Packet, QoS, SubscriptionOptions, Version};
use reveille_proto::reason::ReasonCode;

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
