//! CONNECT: who gets in, who hears why not, and who takes over.

use crate::client::{Client, connect, durable};
use crate::{broker, config};
use bytes::Bytes;
use reveille_broker::StartError;
use reveille_proto::mqtt::{Connect, Packet, QoS, Version};
use reveille_proto::reason::ReasonCode;
use std::io::{Read, Write};
use std::time::Instant;

const USERS: &str = "internal_password = 'sesame'\n\
                     [[users]]\nname = 'a'\npassword = 'tulip'\napp = 'one'\n\
                     [[users]]\nname = 'b'\npassword = 'rose'\napp = 'two'";

fn with_user(mut connect: Connect, name: &str, password: &'static str) -> Connect {
    connect.username = Some(name.into());
    connect.password = Some(Bytes::from_static(password.as_bytes()));
    connect
}

#[test]
fn a_wrong_credential_is_refused_in_words_of_its_version() {
    let broker = broker(USERS);
    for (version, user, wanted) in [
        (Version::V5, Some(("a", "tulip")), 0),
        (Version::V3_1_1, Some(("a", "tulip")), 0),
        (Version::V5, Some(("a", "rose")), 0x86),
        (Version::V3_1_1, Some(("a", "rose")), 4),
        (Version::V5, None, 0x87),
        (Version::V3_1_1, None, 5),
        (Version::V3_1, None, 5),
    ] {
        let mut connect = connect(version, "c", true);
        if let Some((name, password)) = user {
            connect = with_user(connect, name, password);
        }
        let mut client = Client::socket(broker.mqtt_addr(), version);
        client.send(&Packet::Connect(Box::new(connect)));
        let mut answer = [0; 4];
        client.socket.read_exact(&mut answer).unwrap();
        assert_eq!((answer[0], answer[3]), (0x20, wanted), "{version:?} {user:?}");
        if wanted != 0 {
            let mut rest = Vec::new();
            client.socket.read_to_end(&mut rest).unwrap();
        }
    }
}

#[test]
fn apps_do_not_hear_each_other() {
    let broker = broker(USERS);
    let mut one =
        Client::connect(broker.mqtt_addr(), with_user(connect(Version::V5, "same", true), "a", "tulip"));
    let mut two =
        Client::connect(broker.mqtt_addr(), with_user(connect(Version::V5, "same", true), "b", "rose"));
    one.subscribe("#", QoS::AtLeastOnce);
    two.subscribe("#", QoS::AtLeastOnce);
    two.send(&crate::client::publish("t", b"x", QoS::AtLeastOnce, 1));
    let (first, second) = (two.receive(), two.receive());
    assert!(
        [&first, &second].iter().any(|packet| matches!(packet, Packet::PubAck(_))),
        "{first:?} {second:?}"
    );
    assert!(
        [&first, &second].iter().any(|packet| matches!(packet, Packet::Publish(_))),
        "{first:?} {second:?}"
    );
    one.ping(); // and nothing else
}

#[test]
fn only_the_bridge_comes_in_through_its_own_door() {
    let broker = broker(USERS);
    let bridge = |password| with_user(durable(Version::V5, "bridge"), "bridge", password);
    let (mut client, connack) = Client::open(broker.internal_addr(), bridge("sesame"));
    assert_eq!(connack.reason, ReasonCode::SUCCESS);
    client.subscribe("$push/v1/presence", QoS::AtLeastOnce);
    let rows = [
        (bridge("tulip"), ReasonCode::BAD_USER_NAME_OR_PASSWORD),
        (with_user(connect(Version::V5, "x", true), "a", "tulip"), ReasonCode::NOT_AUTHORIZED),
        (connect(Version::V5, "x", true), ReasonCode::NOT_AUTHORIZED),
    ];
    for (connect, wanted) in rows {
        assert_eq!(Client::open(broker.internal_addr(), connect).1.reason, wanted);
    }
}

#[test]
fn a_version_that_does_not_exist_is_answered_and_noise_is_not() {
    let broker = broker("");
    let rows: [(&[u8], &[u8]); 6] = [
        (b"\x10\x0d\x00\x04MQTT\x06\x02\x00\x3c\x00\x01c", b"\x20\x03\x00\x84\x00"),
        (b"\x10\x0d\x00\x04MQTT\x02\x02\x00\x3c\x00\x01c", b"\x20\x02\x00\x01"),
        (b"\x10\x0f\x00\x06MQIsdp\x09\x02\x00\x3c\x00\x01c", b"\x20\x03\x00\x84\x00"),
        (b"GET / HTTP/1.1\r\n\r\n", b""),
        (b"\xc0\x00", b""),
        (b"\x10\xff\xff\xff\x7f", b""),
    ];
    for (sent, wanted) in rows {
        let mut client = Client::socket(broker.mqtt_addr(), Version::V5);
        client.socket.write_all(sent).unwrap();
        let mut answer = Vec::new();
        let _ = client.socket.read_to_end(&mut answer); // a reset is an end too
        assert_eq!(answer, wanted, "{sent:?}");
    }
}

#[test]
fn an_assigned_client_id_is_told_and_differs() {
    let broker = broker("");
    let assigned = || {
        let (_client, connack) = Client::open(broker.mqtt_addr(), connect(Version::V5, "", true));
        connack.properties.assigned_client_identifier.unwrap()
    };
    assert_ne!(assigned(), assigned());
}

#[test]
fn the_newer_connection_takes_over_from_whichever_shard_accepted_it() {
    let broker = broker("");
    let mut old = Client::connect(broker.mqtt_addr(), durable(Version::V5, "phone"));
    old.subscribe("t", QoS::AtLeastOnce);
    // The kernel spreads sockets over the shards: some of these are accepted by the other one.
    for round in 0..16_u16 {
        let (new, connack) = Client::open(broker.mqtt_addr(), durable(Version::V5, "phone"));
        assert!(connack.session_present, "round {round}");
        match old.receive_or_end() {
            Some(Packet::Disconnect(goodbye)) => assert_eq!(goodbye.reason, ReasonCode::SESSION_TAKEN_OVER),
            other => panic!("{other:?} in round {round}"),
        }
        assert_eq!(old.receive_or_end(), None, "the socket ends with the goodbye");
        old = new;
    }
    let mut sender = Client::connect(broker.mqtt_addr(), connect(Version::V3_1_1, "sender", true));
    sender.publish("t", b"still subscribed", 1);
    assert_eq!(&old.receive_publish().payload[..], b"still subscribed");
}

#[test]
fn what_was_sent_right_behind_connect_is_not_lost() {
    let broker = broker("");
    for no in 0..8 {
        let mut client = Client::socket(broker.mqtt_addr(), Version::V5);
        let id = format!("hasty-{no}");
        client.send_all(&[Packet::Connect(Box::new(durable(Version::V5, &id))), Packet::PingReq]);
        assert!(matches!(client.receive(), Packet::ConnAck(_)));
        assert_eq!(client.receive(), Packet::PingResp);
    }
}

#[test]
fn a_socket_that_sends_no_whole_connect_is_closed_in_time() {
    let broker = broker("[limits]\nconnect_deadline_ms = 200");
    for sent in [&b""[..], b"\x10", b"\x10\x0d\x00\x04MQTT\x05"] {
        let mut client = Client::socket(broker.mqtt_addr(), Version::V5);
        client.socket.write_all(sent).unwrap();
        let started = Instant::now();
        assert_eq!(client.receive_or_end(), None, "{sent:?}");
        assert!(started.elapsed() < crate::client::PATIENCE / 2);
    }
}

#[test]
fn strangers_beyond_the_bound_keep_nobody_out_and_known_clients_go_on() {
    let broker = broker("[limits]\nhandshakes_max = 1");
    let mut known = Client::connect(broker.mqtt_addr(), connect(Version::V5, "known", true));
    // Two shards with one handshake each: whoever comes next waits until a silent one has had its time.
    let silent: Vec<Client> = (0..4).map(|_| Client::socket(broker.mqtt_addr(), Version::V5)).collect();
    let mut late = Client::connect(broker.mqtt_addr(), connect(Version::V5, "late", true));
    late.ping();
    known.ping();
    drop(silent);
}

#[test]
fn one_connection_too_many_hears_that_there_is_no_room() {
    let broker = broker("[limits]\nconnections_max = 2");
    let first = Client::connect(broker.mqtt_addr(), connect(Version::V5, "1", true));
    let mut second = Client::connect(broker.mqtt_addr(), connect(Version::V5, "2", true));
    let (_, connack) = Client::open(broker.mqtt_addr(), connect(Version::V5, "3", true));
    assert_eq!(connack.reason, ReasonCode::QUOTA_EXCEEDED);
    let mut old = Client::socket(broker.mqtt_addr(), Version::V3_1_1);
    old.send(&Packet::Connect(Box::new(connect(Version::V3_1_1, "4", true))));
    let mut answer = [0; 4];
    old.socket.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0x20, 2, 0, 3]);
    second.ping();
    drop((first, old));
    // The places of those that left are free as soon as the broker noticed.
    let wait = Instant::now();
    while Client::open(broker.mqtt_addr(), connect(Version::V5, "5", true)).1.reason != ReasonCode::SUCCESS {
        assert!(wait.elapsed() < crate::client::PATIENCE);
    }
}

#[test]
fn a_busy_port_is_named_with_the_key_to_change() {
    let broker = broker("");
    let directory = tempfile::tempdir().unwrap();
    let mut second = config("");
    second.listen = Some(broker.mqtt_addr());
    let error = reveille_broker::start(second, directory.path()).err().unwrap();
    assert!(matches!(error, StartError::AddressInUse { key: "listen", .. }), "{error}");
    assert!(error.to_string().contains(&broker.mqtt_addr().to_string()), "{error}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "the data directory was touched");
}

#[test]
fn a_data_directory_in_use_and_one_that_cannot_be_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let running = crate::start("", directory.path());
    let error = reveille_broker::start(config(""), directory.path()).err().unwrap().to_string();
    assert!(error.contains("another process"), "{error}");
    running.stop();
    let file = directory.path().join("a-file");
    std::fs::write(&file, b"").unwrap();
    let error = reveille_broker::start(config(""), &file).err().unwrap().to_string();
    assert!(error.contains("a-file") && !error.contains('\n'), "{error}");
}

#[test]
fn a_broker_for_everyone_must_be_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let mut open = config("");
    open.listen = Some("0.0.0.0:0".parse().unwrap());
    let error = reveille_broker::start(open, directory.path()).err().unwrap().to_string();
    assert!(error.contains("allow_anonymous = true"), "{error}");
}
