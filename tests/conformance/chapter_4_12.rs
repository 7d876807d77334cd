//! Chapter 4.12: enhanced authentication, by SCRAM-SHA-256 (RFC 5802 and 7677) with a client side of its own.

use crate::harness::{
    Client, Connect, Disconnect, Packet, Stage, ToBytes, Version, Will, pingreq, prop, publish, subscribe,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};
use std::num::NonZeroU32;

const METHOD: &str = "SCRAM-SHA-256";
const PASSWORD: &str = "pencil";
const FIRST_BARE: &str = "n=user,r=rOprNGfwEbeRWgbNEkqO";

const SUCCESS: u8 = 0;
const CONTINUE: u8 = 0x18;
const REAUTHENTICATE: u8 = 0x19;
const PROTOCOL_ERROR: u8 = 0x82;
const NOT_AUTHORIZED: u8 = 0x87;

/// What both sides make of a password.
struct Keys {
    client: Vec<u8>,
    stored: Vec<u8>,
    server: Vec<u8>,
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

impl Keys {
    fn of(password: &str, salt: &[u8], rounds: u32) -> Self {
        let mut salted = [0; 32];
        let rounds = NonZeroU32::new(rounds).unwrap();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, password.as_bytes(), &mut salted);
        let client = mac(&salted, b"Client Key");
        let stored = digest::digest(&digest::SHA256, &client).as_ref().to_vec();
        Self { client, stored, server: mac(&salted, b"Server Key") }
    }
}

/// What the client answers to the server's first message, and what has to come then.
fn answer(password: &str, server_first: &str) -> (String, String) {
    let field = |name: &str| server_first.split(',').find_map(|part| part.strip_prefix(name)).unwrap();
    let keys = Keys::of(password, &BASE64.decode(field("s=")).unwrap(), field("i=").parse().unwrap());
    let bare = format!("c=biws,r={}", field("r="));
    let message = format!("{FIRST_BARE},{server_first},{bare}");
    let mask = mac(&keys.stored, message.as_bytes());
    let proof: Vec<u8> = keys.client.iter().zip(mask).map(|(key, mask)| key ^ mask).collect();
    let server = mac(&keys.server, message.as_bytes());
    (format!("{bare},p={}", BASE64.encode(proof)), format!("v={}", BASE64.encode(server)))
}

/// A broker that knows `user`.
fn stage() -> Stage {
    const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
    const ROUNDS: u32 = 4096;
    let keys = Keys::of(PASSWORD, &BASE64.decode(SALT).unwrap(), ROUNDS);
    let (stored, server) = (BASE64.encode(keys.stored), BASE64.encode(keys.server));
    let user = format!("name = 'user'\npassword = '$scram-sha-256$i={ROUNDS}${SALT}${stored}${server}'");
    Stage::with(Version::V5, &format!("allow_anonymous = true\n[[users]]\n{user}"))
}

fn auth(code: u8, method: &str, data: &str) -> Packet {
    let properties =
        [prop::text(prop::AUTHENTICATION_METHOD, method), prop::text(prop::AUTHENTICATION_DATA, data)];
    Packet::new(0xF0).u8(code).properties(&properties)
}

fn first() -> String {
    format!("n,,{FIRST_BARE}")
}

fn with_method(connect: Connect) -> Connect {
    connect
        .property(prop::text(prop::AUTHENTICATION_METHOD, METHOD))
        .property(prop::text(prop::AUTHENTICATION_DATA, first()))
}

/// The AUTH that has to come next names the method; its data.
fn expect_auth(client: &mut Client, code: u8) -> String {
    let Disconnect { code: said, properties } = client.next().auth();
    assert_eq!(said, code, "{properties:?}");
    let [method, data] = &properties[..] else { panic!("method and data, not {properties:?}") };
    assert_eq!((method.id(), method.text()), (prop::AUTHENTICATION_METHOD, METHOD));
    assert_eq!(data.id(), prop::AUTHENTICATION_DATA);
    data.text().to_owned()
}

/// CONNECT, and the server's first message.
fn begin(stage: &Stage, connect: Connect) -> (Client, String) {
    let mut client = stage.socket();
    client.send(with_method(connect));
    let server_first = expect_auth(&mut client, CONTINUE);
    (client, server_first)
}

/// The whole exchange.
fn log_in(stage: &Stage, connect: Connect) -> Client {
    let (mut client, server_first) = begin(stage, connect);
    let (client_final, server_final) = answer(PASSWORD, &server_first);
    client.send(auth(CONTINUE, METHOD, &client_final));
    let connack = client.expect_connack();
    assert_eq!(connack.code, 0, "{connack:?}");
    assert_eq!(connack.property(prop::AUTHENTICATION_METHOD).unwrap().text(), METHOD);
    assert_eq!(connack.property(prop::AUTHENTICATION_DATA).unwrap().text(), server_final);
    client
}

/// CONNACK with a failure, and the end.
fn expect_refusal(client: &mut Client, code: u8) {
    let connack = client.expect_connack();
    assert_eq!((connack.code, connack.session_present), (code, false), "{connack:?}");
    client.expect_end();
}

/// Covers: MQTT5-4.12.0-2, MQTT5-4.12.0-5
#[test]
fn both_sides_prove_that_they_know_the_password() {
    let stage = stage();
    let mut client = log_in(&stage, Connect::new("c").durable());
    client.publish("nobody", "x");
    client.leave();
    log_in(&stage, Connect::new("c").durable()).expect_nothing();
}

/// Covers: MQTT5-4.12.0-4
#[test]
fn a_wrong_proof_is_refused_and_the_connection_ends() {
    let stage = stage();
    let (mut client, server_first) = begin(&stage, Connect::new("c"));
    client.send(auth(CONTINUE, METHOD, &answer("not the pencil", &server_first).0));
    expect_refusal(&mut client, NOT_AUTHORIZED);
    let (mut client, _) = begin(&stage, Connect::new("c"));
    client.send(auth(CONTINUE, METHOD, "nonsense"));
    expect_refusal(&mut client, NOT_AUTHORIZED);
}

/// Covers: MQTT5-4.12.0-3, MQTT5-4.12.0-5
#[test]
fn the_clients_answer_has_its_reason_and_the_method_of_connect() {
    let stage = stage();
    for (code, method) in [(SUCCESS, METHOD), (REAUTHENTICATE, METHOD), (CONTINUE, "JWT"), (CONTINUE, "")] {
        let (mut client, server_first) = begin(&stage, Connect::new("c"));
        client.send(auth(code, method, &answer(PASSWORD, &server_first).0));
        expect_refusal(&mut client, PROTOCOL_ERROR);
    }
}

/// Covers: MQTT5-3.1.2-30
#[test]
fn before_connack_a_client_sends_nothing_but_auth_and_disconnect() {
    let v5 = |packet: &dyn ToBytes| packet.to_bytes(Version::V5);
    let stage = stage();
    let mut watcher = stage.connect("watcher");
    watcher.subscribe("#", 0);
    let rows =
        [v5(&pingreq()), v5(&publish("t", "too early")), v5(&subscribe(1, "t", 0)), v5(&Connect::new("c"))];
    for bytes in rows {
        let (mut client, _) = begin(&stage, Connect::new("c").will(Will::new("will", "c")));
        client.send(bytes);
        expect_refusal(&mut client, PROTOCOL_ERROR);
    }
    let (mut client, _) = begin(&stage, Connect::new("c").will(Will::new("will", "c")));
    client.send(Packet::new(0xE0));
    client.expect_end(); // no DISCONNECT before CONNACK, and nothing else to say
    watcher.expect_nothing();
}

/// Covers: MQTT5-4.12.0-5, MQTT5-4.12.1-1
#[test]
fn a_client_can_authenticate_again_while_everything_else_goes_on() {
    let stage = stage();
    let mut client = log_in(&stage, Connect::new("c"));
    client.subscribe("t", 1);
    for _ in 0..3 {
        client.send(auth(REAUTHENTICATE, METHOD, &first()));
        let server_first = expect_auth(&mut client, CONTINUE);
        client.expect_nothing();
        client.send(publish("t", "meanwhile"));
        client.expect_message("t", "meanwhile");
        let (client_final, server_final) = answer(PASSWORD, &server_first);
        client.send(auth(CONTINUE, METHOD, &client_final));
        assert_eq!(expect_auth(&mut client, SUCCESS), server_final);
    }
    client.expect_nothing();
}

/// Covers: MQTT5-4.12.1-1, MQTT5-4.12.1-2
#[test]
fn a_failed_re_authentication_ends_the_connection() {
    let stage = stage();
    let mut watcher = stage.connect("watcher");
    watcher.subscribe("will", 0);
    let log_in = || log_in(&stage, Connect::new("c").will(Will::new("will", "c")));
    // Another method, an answer that nobody asked for, and a reason that is the server's.
    for (code, method) in [(REAUTHENTICATE, "JWT"), (CONTINUE, METHOD), (SUCCESS, METHOD)] {
        let mut client = log_in();
        client.send(auth(code, method, &first()));
        client.expect_goodbye(PROTOCOL_ERROR);
        watcher.expect_message("will", "c");
    }
    let mut client = log_in();
    client.send(auth(REAUTHENTICATE, METHOD, &first()));
    let server_first = expect_auth(&mut client, CONTINUE);
    client.send(auth(CONTINUE, METHOD, &answer("not the pencil", &server_first).0));
    client.expect_goodbye(NOT_AUTHORIZED);
    watcher.expect_message("will", "c");
}

/// Covers: MQTT5-3.15.2-1, MQTT5-3.15.2-2, MQTT5-3.15.2-3
#[test]
fn auth_does_not_outgrow_the_clients_maximum_packet_size() {
    let stage = stage();
    for maximum in [20, 60, 100, 150, 1000] {
        let mut client = stage.socket();
        let limit = prop::four(prop::MAXIMUM_PACKET_SIZE, maximum);
        client.send(with_method(Connect::new("c").property(limit)));
        let mut is_asked = false;
        while !is_asked {
            let Some(frame) = client.next_or_end() else { break };
            assert!(frame.bytes.len() <= maximum as usize, "more than {maximum}: {frame:?}");
            is_asked = frame.first == 0xF0;
        }
        assert!(is_asked || maximum < 150, "room for the data and nothing more");
    }
}

/// Covers: MQTT5-3.1.2-24
#[test]
fn an_auth_without_room_on_an_open_connection_ends_it() {
    const TOO_LARGE: u8 = 0x95;
    let stage = stage();
    let mut watcher = stage.connect("watcher");
    watcher.subscribe("will", 0);
    let limit = prop::four(prop::MAXIMUM_PACKET_SIZE, 200);
    let mut client = log_in(&stage, Connect::new("c").property(limit).will(Will::new("will", "c")));
    client.send(auth(REAUTHENTICATE, METHOD, &(first() + &"x".repeat(150)))); // the answer repeats the nonce
    client.expect_goodbye(TOO_LARGE);
    watcher.expect_message("will", "c");
}
