//! What a client may do: each test would fail in a broker that forgets to ask.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod bench;

use bench::{Bench, connect, durable, publish, will};
use reveille_broker_core::acl::{Acl, Action, Effect, OnDenied, Pattern, Rule};
use reveille_broker_core::control::{AutoSubscription, Control, Template};
use reveille_broker_core::handshake::authorize;
use reveille_broker_core::io::{Authenticated, ConnectionKey, Identity, Input};
use reveille_broker_core::limits::Limits;
use reveille_broker_core::message::Time;
use reveille_proto::ids::{AppId, ClientId};
use reveille_proto::mqtt::{Auth, Connect, Packet, ReasonProperties, Version};
use reveille_proto::reason::ReasonCode;
use std::sync::Arc;

const SUCCESS: ReasonCode = ReasonCode::SUCCESS;
const DENIED: ReasonCode = ReasonCode::NOT_AUTHORIZED;

fn acl(rules: &[(Effect, Action, &str)], on_denied: OnDenied) -> Option<Arc<Acl>> {
    let rule = |(effect, action, text): &(Effect, Action, &str)| Rule {
        effect: *effect,
        actions: [*action].into_iter().collect(),
        pattern: Pattern::parse(text).unwrap(),
    };
    Some(Arc::new(Acl::new(rules.iter().map(rule), Effect::Deny, on_denied)))
}

/// May publish and subscribe below `%u/`, and retain nothing but `%u/state`.
fn ann(on_denied: OnDenied) -> Identity {
    let rules = [
        (Effect::Allow, Action::Publish, "%u/#"),
        (Effect::Allow, Action::Subscribe, "%u/#"),
        (Effect::Allow, Action::Retain, "%u/state"),
        (Effect::Deny, Action::Retain, "#"),
        (Effect::Deny, Action::ReadRetained, "%u/old"),
    ];
    Identity { user: Some("ann".into()), acl: acl(&rules, on_denied), ..Identity::of(AppId::default()) }
}

fn answers(bench: &mut Bench, key: ConnectionKey) -> Vec<ReasonCode> {
    let packets = bench.read(key);
    let reason = |packet: &Packet| match packet {
        Packet::PubAck(ack) | Packet::PubRec(ack) => vec![ack.reason],
        Packet::SubAck(suback) => suback.reasons.clone(),
        _ => Vec::new(),
    };
    packets.iter().flat_map(reason).collect()
}

#[test]
fn a_denied_publish_reaches_nobody_and_is_answered_in_words_of_its_version() {
    for (version, qos, wanted) in [
        (Version::V5, 0, &[][..]),
        (Version::V5, 1, &[DENIED]),
        (Version::V5, 2, &[DENIED]),
        (Version::V3_1_1, 0, &[]),
        (Version::V3_1_1, 1, &[SUCCESS]),
        (Version::V3_1_1, 2, &[SUCCESS]),
    ] {
        let mut bench = Bench::new(Limits::default());
        let everyone = bench.online(connect("w", Version::V5));
        bench.subscribe(everyone, "#", 2);
        bench.read(everyone);
        let client = bench.open_as(connect("c", version), ann(OnDenied::Acknowledge));
        bench.read(client);
        bench.publish(client, publish("bob/x", "denied", qos, u16::from(qos > 0)));
        assert_eq!(answers(&mut bench, client), wanted, "{version:?} {qos}");
        assert_eq!(bench.closed(client), None, "{version:?} {qos}");
        assert_eq!(bench.messages(everyone), [], "{version:?} {qos}");
        assert_eq!(bench.shard.counters().denied_publishes, 1);
        bench.publish(client, publish("ann/x", "allowed", qos, u16::from(qos > 0) * 2));
        assert_eq!(bench.messages(everyone).len(), 1, "{version:?} {qos}");
    }
}

#[test]
fn where_it_is_wanted_a_denied_publish_without_an_answer_ends_the_connection() {
    for (version, qos, is_closed) in [
        (Version::V5, 0, true),
        (Version::V5, 1, false),
        (Version::V3_1_1, 0, true),
        (Version::V3_1_1, 1, true),
    ] {
        let mut bench = Bench::new(Limits::default());
        let client = bench.open_as(connect("c", version), ann(OnDenied::Disconnect));
        bench.publish(client, publish("bob/x", "denied", qos, u16::from(qos > 0)));
        assert_eq!(bench.closed(client), is_closed.then_some(DENIED), "{version:?} {qos}");
    }
}

#[test]
fn retaining_may_be_denied_by_itself() {
    let mut bench = Bench::new(Limits::default());
    let client = bench.open_as(connect("c", Version::V5), ann(OnDenied::Acknowledge));
    let mut retained = publish("ann/x", "x", 1, 1);
    retained.retain = true;
    bench.publish(client, retained.clone());
    retained.topic = publish("ann/state", "x", 1, 2).topic;
    bench.publish(client, retained);
    let answers = answers(&mut bench, client);
    assert_eq!((answers[0], answers[1].is_failure()), (DENIED, false));
}

#[test]
fn a_denied_filter_costs_its_own_reason_and_brings_nothing() {
    let mut bench = Bench::new(Limits::default());
    let client = bench.open_as(connect("c", Version::V5), ann(OnDenied::Acknowledge));
    bench.read(client);
    for (filter, wanted) in [
        ("ann/#", ReasonCode::GRANTED_QOS_1),
        ("$share/g/ann/+", ReasonCode::GRANTED_QOS_1),
        ("#", DENIED),
        ("+/x", DENIED),
        ("$share/g/#", DENIED),
        ("bob/x", DENIED),
    ] {
        bench.subscribe(client, filter, 1);
        assert_eq!(answers(&mut bench, client), [wanted], "{filter}");
    }
    let other = bench.online(connect("o", Version::V5));
    bench.publish(other, publish("bob/x", "not for ann", 1, 1));
    assert_eq!(bench.messages(client), []);
    assert_eq!(bench.shard.counters().denied_subscriptions, 4);
}

#[test]
fn a_retained_message_that_may_not_be_read_is_left_out() {
    let mut bench = Bench::new(Limits::default());
    let other = bench.online(connect("o", Version::V5));
    for topic in ["ann/new", "ann/old", "ann/state"] {
        let mut message = publish(topic, topic, 0, 0);
        message.retain = true;
        bench.publish(other, message);
    }
    let client = bench.open_as(connect("c", Version::V5), ann(OnDenied::Acknowledge));
    bench.subscribe(client, "ann/#", 0);
    let topics: Vec<String> = bench.messages(client).into_iter().map(|(topic, _)| topic).collect();
    assert_eq!(topics, ["ann/new", "ann/state"]);
    assert_eq!(bench.shard.counters().denied_retained, 1);
}

#[test]
fn a_session_loses_the_subscriptions_that_its_next_credential_does_not_allow() {
    let mut bench = Bench::new(Limits::default());
    let client = bench.online(durable("c"));
    bench.subscribe(client, "bob/#", 1);
    bench.subscribe(client, "ann/#", 1);
    bench.subscribe(client, "$share/g/bob/#", 1);
    bench.lose(client);
    let client = bench.open_as(durable("c"), ann(OnDenied::Acknowledge));
    assert!(matches!(&bench.read(client)[..], [Packet::ConnAck(connack)] if connack.session_present));
    let other = bench.online(connect("o", Version::V5));
    bench.publish(other, publish("bob/x", "no", 1, 1));
    bench.publish(other, publish("ann/x", "yes", 1, 2));
    assert_eq!(bench.messages(client), [("ann/x".to_owned(), "yes".to_owned())]);
}

#[test]
fn a_will_is_a_publish_that_is_asked_about_at_connect() {
    let client_id = ClientId::parse("c").unwrap();
    for (topic, retain, wanted) in
        [("ann/gone", false, Ok(())), ("bob/gone", false, Err(DENIED)), ("ann/gone", true, Err(DENIED))]
    {
        let mut last = will(topic, None);
        last.retain = retain;
        let connect = Connect { will: Some(last), ..connect("c", Version::V5) };
        assert_eq!(authorize(&connect, &ann(OnDenied::Acknowledge), &client_id), wanted, "{topic} {retain}");
        assert_eq!(authorize(&connect, &Identity::of(AppId::default()), &client_id), Ok(()));
    }
}

#[test]
fn a_connection_ends_with_its_credential_however_busy_it_is() {
    for (keep_alive, version) in [(0, Version::V5), (60, Version::V5), (60, Version::V3_1_1)] {
        let mut bench = Bench::new(Limits::default());
        let ends = Time(bench.now.0 + 5_000);
        let identity = Identity { expires_at: Some(ends), ..Identity::of(AppId::default()) };
        let client = bench.open_as(Connect { keep_alive, ..connect("c", version) }, identity);
        bench.read(client);
        for _ in 0..4 {
            bench.wait(1_000);
            bench.send(client, Packet::PingReq);
            assert_eq!(bench.read(client), [Packet::PingResp]);
        }
        bench.wait(1_100);
        assert_eq!(bench.closed(client), Some(DENIED), "{keep_alive} {version:?}");
        let goodbye = bench.read(client);
        match version {
            Version::V5 => {
                assert!(matches!(&goodbye[..], [Packet::Disconnect(said)] if said.reason == DENIED))
            }
            Version::V3_1 | Version::V3_1_1 => assert_eq!(goodbye, []),
        }
        assert_eq!(bench.shard.counters().expired_credentials, 1);
    }
}

fn auth(reason: ReasonCode, method: Option<&'static str>, data: &'static str) -> Packet {
    let properties = ReasonProperties::default();
    Packet::Auth(Box::new(Auth {
        reason,
        method: method.map(Into::into),
        data: Some(data.into()),
        properties,
    }))
}

const AGAIN: ReasonCode = ReasonCode::REAUTHENTICATE;
const CONTINUE: ReasonCode = ReasonCode::CONTINUE_AUTHENTICATION;

fn with_method(method: Option<&'static str>) -> Connect {
    let mut connect = connect("c", Version::V5);
    connect.properties.authentication_method = method.map(Into::into);
    connect
}

#[test]
fn a_client_proves_again_who_it_is_while_everything_else_goes_on() {
    let mut bench = Bench::new(Limits::default());
    let ends = Time(bench.now.0 + 5_000);
    let identity = Identity { expires_at: Some(ends), ..ann(OnDenied::Acknowledge) };
    let client = bench.open_as(with_method(Some("M")), identity.clone());
    match &bench.read(client)[..] {
        [Packet::ConnAck(connack)] => {
            assert_eq!(connack.properties.authentication_method.as_deref(), Some("M")); // [MQTT5-4.12.0-5]
        }
        other => panic!("{other:?}"),
    }
    bench.send(client, auth(AGAIN, Some("M"), "first"));
    assert_eq!(bench.asked, [(client, true, Some("first".into()))]);
    bench.send(client, Packet::PingReq);
    assert_eq!(bench.read(client), [Packet::PingResp]);
    bench.input(Input::Authenticated { connection: client, outcome: Authenticated::Continue("why?".into()) });
    assert_eq!(bench.read(client), [auth(CONTINUE, Some("M"), "why?")]);
    bench.send(client, auth(CONTINUE, Some("M"), "because"));
    assert_eq!(bench.asked[1..], [(client, false, Some("because".into()))]);
    let longer = Identity { expires_at: Some(Time(ends.0 + 5_000)), ..identity };
    let outcome = Authenticated::Done(Box::new(longer), Some("bye".into()));
    bench.input(Input::Authenticated { connection: client, outcome });
    assert_eq!(bench.read(client), [auth(SUCCESS, Some("M"), "bye")]);
    bench.wait(6_000);
    assert_eq!(bench.closed(client), None, "the old end is not the end any more");
    bench.wait(5_000);
    assert_eq!(bench.closed(client), Some(DENIED));
}

#[test]
fn auth_that_the_standard_does_not_allow_ends_the_connection() {
    let rows: [(Option<&'static str>, &[Packet]); 6] = [
        (None, &[auth(AGAIN, Some("M"), "")]),
        (Some("M"), &[auth(AGAIN, Some("N"), "")]),
        (Some("M"), &[auth(CONTINUE, Some("M"), "")]),
        (Some("M"), &[auth(SUCCESS, Some("M"), "")]),
        (Some("M"), &[auth(AGAIN, Some("M"), ""), auth(AGAIN, Some("M"), "")]),
        (Some("M"), &[auth(AGAIN, Some("M"), ""), auth(SUCCESS, Some("M"), "")]),
    ];
    for (method, packets) in rows {
        let mut bench = Bench::new(Limits::default());
        let client = bench.online(with_method(method));
        for packet in packets {
            bench.send(client, packet.clone());
        }
        assert_eq!(bench.closed(client), Some(ReasonCode::PROTOCOL_ERROR), "{method:?} {packets:?}");
    }
}

#[test]
fn a_client_that_does_not_prove_it_is_disconnected_and_so_is_one_that_proves_to_be_another() {
    let other_app = Identity { app: AppId::parse("bank").unwrap(), ..ann(OnDenied::Acknowledge) };
    let other_user = Identity { user: Some("bob".into()), ..ann(OnDenied::Acknowledge) };
    for outcome in [
        Authenticated::Refused(DENIED),
        Authenticated::Done(Box::new(other_app), None),
        Authenticated::Done(Box::new(other_user), None),
    ] {
        let mut bench = Bench::new(Limits::default());
        let client = bench.open_as(with_method(Some("M")), ann(OnDenied::Acknowledge));
        bench.read(client);
        bench.send(client, auth(AGAIN, Some("M"), "first"));
        bench.input(Input::Authenticated { connection: client, outcome: outcome.clone() });
        let goodbye = bench.read(client);
        assert!(
            matches!(&goodbye[..], [Packet::Disconnect(said)] if said.reason == DENIED),
            "{outcome:?}: {goodbye:?}"
        );
        assert_eq!(bench.shard.counters().denied_authentications, 1);
    }
}

#[test]
fn new_rules_hold_for_who_is_connected_from_their_next_packet_on() {
    let mut bench = Bench::new(Limits::default());
    let client = bench.online(connect("c", Version::V5));
    bench.subscribe(client, "bob/#", 1);
    bench.publish(client, publish("bob/x", "mine", 1, 1));
    bench.read(client);
    let acl = ann(OnDenied::Acknowledge).acl;
    let client_id = ClientId::parse("c").unwrap();
    bench.input(Input::Permit { app: AppId::default(), client_id, acl });
    bench.publish(client, publish("bob/x", "mine", 1, 2));
    assert_eq!(answers(&mut bench, client), [DENIED]);
    let other = bench.online(connect("o", Version::V5));
    bench.publish(other, publish("bob/x", "no more", 1, 1));
    assert_eq!(bench.messages(client), []);
}

#[test]
fn what_the_operator_subscribes_clients_to_needs_no_rule() {
    let auto = AutoSubscription {
        app: AppId::default(),
        filter: Template::new("news/%c"),
        options: Default::default(),
    };
    let control = Control { auto_subscriptions: vec![auto], ..Control::default() };
    let mut bench = Bench::controlled(Limits::default(), control, 1);
    let publisher = bench.online(connect("p", Version::V5));
    let identity = ann(OnDenied::Acknowledge);
    for round in 0..2 {
        let client = bench.open_as(durable("c"), identity.clone());
        bench.input(Input::Permit {
            app: AppId::default(),
            client_id: ClientId::parse("c").unwrap(),
            acl: identity.acl.clone(),
        });
        bench.publish(publisher, publish("news/c", "x", 0, 0));
        assert_eq!(bench.messages(client).len(), 1, "round {round}");
        bench.subscribe(client, "news/c", 0);
        assert_eq!(answers(&mut bench, client), [DENIED], "its own wish is another thing");
        bench.lose(client);
    }
}
