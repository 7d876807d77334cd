//! Who gets in by which credential, what they may do then, and what becomes of them when that changes.

use crate::client::{Client, PATIENCE, connect, durable, publish};
use crate::listeners::certificates::Authority;
use crate::listeners::tls;
use crate::{broker, config, start};
use bytes::Bytes;
use reveille_broker::{Ban, Banned, Broker, Credential, set_user};
use reveille_proto::mqtt::{
    Auth, ConnAck, Connect, Packet, QoS, ReasonProperties, Subscribe, SubscriptionOptions, Version,
};
use reveille_proto::reason::ReasonCode;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const DENIED: ReasonCode = ReasonCode::NOT_AUTHORIZED;
const BAD: ReasonCode = ReasonCode::BAD_USER_NAME_OR_PASSWORD;
const SUCCESS: ReasonCode = ReasonCode::SUCCESS;
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn with_user(mut connect: Connect, name: &str, password: &str) -> Connect {
    connect.username = Some(name.into());
    connect.password = Some(Bytes::copy_from_slice(password.as_bytes()));
    connect
}

fn try_user(broker: &Broker, client_id: &str, name: &str, password: &str) -> (Client, ConnAck) {
    Client::open(broker.mqtt_addr(), with_user(connect(Version::V5, client_id, true), name, password))
}

fn reason_of(broker: &Broker, name: &str, password: &str) -> ReasonCode {
    try_user(broker, "c", name, password).1.reason
}

fn token(claims: serde_json::Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

fn seconds_from_now(seconds: u64) -> u64 {
    jsonwebtoken::get_current_timestamp() + seconds
}

fn passwords(directory: &Path, users: &[(&str, &str)]) -> std::path::PathBuf {
    let path = directory.join("passwords");
    for (name, password) in users {
        set_user(&path, name, &Credential::argon2(password.as_bytes()).unwrap(), None).unwrap();
    }
    path
}

/// The reasons of one SUBSCRIBE.
fn subscribe(client: &mut Client, filters: &[&str]) -> Vec<ReasonCode> {
    let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
    client.send(&Packet::Subscribe(Box::new(Subscribe {
        packet_id: reveille_proto::ids::PacketId::new(3).unwrap(),
        subscription_identifier: None,
        user_properties: Vec::new(),
        filters: filters.iter().map(|filter| ((*filter).into(), options)).collect(),
    })));
    match client.receive() {
        Packet::SubAck(suback) => suback.reasons,
        other => panic!("{other:?} instead of SUBACK"),
    }
}

/// Waits for the goodbye, whatever comes before it.
fn goodbye(client: &mut Client) -> ReasonCode {
    loop {
        match client.receive_or_end() {
            Some(Packet::Disconnect(said)) => return said.reason,
            Some(_) => {}
            None => panic!("the broker closed without a word"),
        }
    }
}

const RULES: &str = "[[users]]\nname = 'ann'\npassword = 'tulip'\n[[users]]\nname = 'bob'\npassword = 'rose'\n\
    [[acl.rules]]\neffect = 'allow'\nactions = ['publish', 'subscribe']\ntopics = ['%u/#', '$SYS/#']\n\
    [[acl.rules]]\neffect = 'allow'\nactions = ['subscribe']\ntopics = ['news/+']\n";

#[test]
fn rules_of_the_configuration_hold_for_publish_subscribe_and_will() {
    let broker = broker(RULES);
    let (mut ann, _) = try_user(&broker, "a", "ann", "tulip");
    let reasons = subscribe(&mut ann, &["ann/#", "news/+", "bob/#", "#", "$share/g/ann/x", "$share/g/bob/x"]);
    let granted = ReasonCode::GRANTED_QOS_1;
    assert_eq!(reasons, [granted, granted, DENIED, DENIED, granted, DENIED]);
    assert_eq!(ann.publish("bob/x", b"no", 1), DENIED);
    ann.send(&publish("news/today", b"no", QoS::AtMostOnce, 0));
    ann.ping();
    let (mut old, _) =
        Client::open(broker.mqtt_addr(), with_user(connect(Version::V3_1_1, "b", true), "bob", "rose"));
    old.send(&publish("ann/x", b"no", QoS::AtLeastOnce, 9));
    assert!(matches!(old.receive(), Packet::PubAck(ack) if ack.packet_id.get() == 9), "3.1.1 cannot be told");
    old.subscribe("bob/#", QoS::AtLeastOnce);
    old.ping();
    ann.ping(); // nothing arrived
    for (topic, wanted) in [("ann/gone", SUCCESS), ("bob/gone", DENIED)] {
        let mut connect = with_user(connect(Version::V5, "w", true), "ann", "tulip");
        connect.will = Some(reveille_proto::mqtt::Will {
            topic: reveille_proto::topic::TopicName::parse(topic).unwrap(),
            payload: Bytes::from_static(b"x"),
            qos: QoS::AtMostOnce,
            retain: false,
            delay_interval: None,
            properties: Default::default(),
        });
        assert_eq!(Client::open(broker.mqtt_addr(), connect).1.reason, wanted, "{topic}");
    }
}

#[test]
fn a_reload_changes_who_may_enter_and_what_they_may_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = passwords(directory.path(), &[("ann", "tulip"), ("bob", "rose")]);
    let acl = directory.path().join("acl.toml");
    let rule = |topic: &str| {
        let text = format!(
            "[[rules]]\neffect = 'allow'\nactions = ['publish', 'subscribe']\ntopics = ['{topic}']\n"
        );
        std::fs::write(&acl, text).unwrap();
    };
    rule("a/#");
    let text = format!("[auth]\npassword_file = {path:?}\n[acl]\nfile = {acl:?}");
    let broker = broker(&text);
    let (mut ann, _) = try_user(&broker, "a", "ann", "tulip");
    let (mut bob, _) = try_user(&broker, "b", "bob", "rose");
    assert_eq!(subscribe(&mut ann, &["a/#"]), [ReasonCode::GRANTED_QOS_1]);
    assert_eq!(ann.publish("b/1", b"not yet", 1), DENIED);

    std::fs::remove_file(&path).unwrap();
    passwords(directory.path(), &[("ann", "violet"), ("eve", "apple")]);
    rule("b/#");
    broker.operator().reload(&config(&text)).unwrap();
    assert_eq!(goodbye(&mut bob), DENIED, "bob is not in the file any more");
    assert_eq!(reason_of(&broker, "bob", "rose"), BAD);
    assert_eq!(reason_of(&broker, "ann", "tulip"), BAD);
    let (mut eve, connack) = try_user(&broker, "e", "eve", "apple");
    assert_eq!(connack.reason, SUCCESS);
    // Ann is connected, with other rules: the walk over the connections comes to her soon.
    let end = Instant::now() + PATIENCE;
    while ann.publish("b/1", b"now", 1) == DENIED {
        assert!(Instant::now() < end);
    }
    assert_eq!(ann.publish("a/1", b"no more", 2), DENIED);
    assert_eq!(subscribe(&mut eve, &["b/#", "a/#"]), [ReasonCode::GRANTED_QOS_1, DENIED]);

    std::fs::write(&path, "eve:plain\n").unwrap();
    let error = broker.operator().reload(&config(&text)).unwrap_err().to_string();
    assert!(error.contains("passwords:1:"), "{error}");
    assert_eq!(reason_of(&broker, "eve", "apple"), SUCCESS, "a file with an error changes nothing");
}

#[test]
fn a_connection_ends_with_its_token_and_lives_on_with_a_new_one() {
    let broker = broker(&format!("[auth.jwt]\nalgorithm = 'HS256'\nsecret = '{SECRET}'\nleeway_s = 0"));
    let short = |client_id: &str| {
        token(serde_json::json!({"sub": "ann", "exp": seconds_from_now(3), "client_id": client_id}))
    };
    let (mut ends, connack) = try_user(&broker, "ends", "", &short("ends"));
    assert_eq!(connack.reason, SUCCESS);
    let mut asked = connect(Version::V5, "renews", true);
    asked.properties.authentication_method = Some("JWT".into());
    asked.properties.authentication_data = Some(short("renews").into());
    let (mut renews, connack) = Client::open(broker.mqtt_addr(), asked);
    assert_eq!(connack.reason, SUCCESS);
    assert_eq!(connack.properties.authentication_method.as_deref(), Some("JWT"));
    let longer = token(serde_json::json!({"sub": "ann", "exp": seconds_from_now(3600)}));
    renews.send(&auth(ReasonCode::REAUTHENTICATE, "JWT", &longer));
    assert!(matches!(renews.receive(), Packet::Auth(said) if said.reason == SUCCESS));
    assert_eq!(goodbye(&mut ends), DENIED);
    renews.ping();
    let other = token(serde_json::json!({"sub": "bob", "exp": seconds_from_now(3600)}));
    renews.send(&auth(ReasonCode::REAUTHENTICATE, "JWT", &other));
    assert_eq!(goodbye(&mut renews), DENIED, "a connection stays whose it was");
    for bad in [short("another"), token(serde_json::json!({"sub": "ann"}))] {
        assert_eq!(reason_of(&broker, "x", &bad), DENIED);
    }
}

fn auth(reason: ReasonCode, method: &str, data: &str) -> Packet {
    let (method, data) = (Some(method.into()), Some(Bytes::copy_from_slice(data.as_bytes())));
    Packet::Auth(Box::new(Auth { reason, method, data, properties: ReasonProperties::default() }))
}

/// A client of SCRAM-SHA-256, of its own: two sides of one implementation would agree on any mistake.
mod scram_client {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use ring::{digest, hmac, pbkdf2};
    use std::num::NonZeroU32;

    fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
    }

    /// client-final and the server-final that has to follow.
    pub fn answer(password: &str, first_bare: &str, server_first: &str) -> (String, String) {
        let field = |name: &str| server_first.split(',').find_map(|part| part.strip_prefix(name)).unwrap();
        let mut salted = [0; 32];
        let rounds = NonZeroU32::new(field("i=").parse().unwrap()).unwrap();
        let salt = BASE64.decode(field("s=")).unwrap();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password.as_bytes(), &mut salted);
        let client_key = mac(&salted, b"Client Key");
        let stored = digest::digest(&digest::SHA256, &client_key);
        let bare = format!("c=biws,r={}", field("r="));
        let message = format!("{first_bare},{server_first},{bare}");
        let mask = mac(stored.as_ref(), message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(mask).map(|(key, mask)| key ^ mask).collect();
        let server = mac(&mac(&salted, b"Server Key"), message.as_bytes());
        (format!("{bare},p={}", BASE64.encode(proof)), format!("v={}", BASE64.encode(server)))
    }
}

const METHOD: &str = "SCRAM-SHA-256";
const CONTINUE: ReasonCode = ReasonCode::CONTINUE_AUTHENTICATION;

/// CONNECT with the first message; the server's first message.
fn begin_scram(broker: &Broker, user: &str) -> (Client, String) {
    let mut asked = connect(Version::V5, "phone", true);
    asked.properties.authentication_method = Some(METHOD.into());
    asked.properties.authentication_data = Some(format!("n,,n={user},r=abcdef").into());
    let mut client = Client::socket(broker.mqtt_addr(), Version::V5);
    client.send(&Packet::Connect(Box::new(asked)));
    match client.receive() {
        Packet::Auth(said) => {
            assert_eq!((said.reason, said.method.as_deref()), (CONTINUE, Some(METHOD)));
            (client, String::from_utf8(said.data.unwrap().to_vec()).unwrap())
        }
        other => panic!("{other:?} instead of AUTH"),
    }
}

fn scram_broker(directory: &Path) -> Broker {
    let path = directory.join("passwords");
    set_user(&path, "ann", &Credential::scram("tulip").unwrap(), None).unwrap();
    set_user(&path, "hashed", &Credential::argon2(b"tulip").unwrap(), None).unwrap();
    broker(&format!(
        "[auth]\npassword_file = {path:?}\n[[acl.rules]]\neffect = 'allow'\nactions = ['publish']\ntopics = ['%u/#']"
    ))
}

#[test]
fn a_client_and_the_broker_prove_to_each_other_that_they_know_the_password() {
    let directory = tempfile::tempdir().unwrap();
    let broker = scram_broker(directory.path());
    let (mut client, server_first) = begin_scram(&broker, "ann");
    let (proof, server_final) = scram_client::answer("tulip", "n=ann,r=abcdef", &server_first);
    client.send(&auth(CONTINUE, METHOD, &proof));
    let Packet::ConnAck(connack) = client.receive() else { panic!("no CONNACK") };
    assert_eq!(connack.reason, SUCCESS);
    assert_eq!(connack.properties.authentication_method.as_deref(), Some(METHOD)); // [MQTT5-4.12.0-5]
    assert_eq!(connack.properties.authentication_data.as_deref(), Some(server_final.as_bytes()));
    assert!(!client.publish("ann/x", b"hers", 1).is_failure());
    assert_eq!(client.publish("bob/x", b"not hers", 2), DENIED);
    // Again, on the open connection, and wrongly the next time.
    for (password, is_right) in [("tulip", true), ("rose", false)] {
        client.send(&auth(ReasonCode::REAUTHENTICATE, METHOD, "n,,n=ann,r=uvwxyz"));
        let Packet::Auth(said) = client.receive() else { panic!("no AUTH") };
        assert_eq!(said.reason, CONTINUE);
        client.ping(); // everything else goes on meanwhile
        let server_first = String::from_utf8(said.data.unwrap().to_vec()).unwrap();
        let (proof, server_final) = scram_client::answer(password, "n=ann,r=uvwxyz", &server_first);
        client.send(&auth(CONTINUE, METHOD, &proof));
        match is_right {
            true => assert_eq!(client.receive(), auth(SUCCESS, METHOD, &server_final)),
            false => assert_eq!(goodbye(&mut client), DENIED),
        }
    }
}

#[test]
fn a_wrong_proof_is_refused_and_an_unknown_user_looks_like_a_known_one() {
    let directory = tempfile::tempdir().unwrap();
    let broker = scram_broker(directory.path());
    let salt = |text: &str| text.split(',').find_map(|part| part.strip_prefix("s=")).unwrap().to_owned();
    for (user, password) in [("ann", "rose"), ("nobody", "tulip"), ("hashed", "tulip")] {
        let (mut client, server_first) = begin_scram(&broker, user);
        let (_, again) = begin_scram(&broker, user);
        assert_eq!(salt(&server_first), salt(&again), "{user}");
        let (proof, _) = scram_client::answer(password, &format!("n={user},r=abcdef"), &server_first);
        client.send(&auth(CONTINUE, METHOD, &proof));
        assert!(
            matches!(client.receive(), Packet::ConnAck(connack) if connack.reason == DENIED),
            "{user} {password}"
        );
        assert_eq!(client.receive_or_end(), None);
    }
}

#[test]
fn until_connack_a_client_that_uses_a_method_sends_nothing_but_auth() {
    let directory = tempfile::tempdir().unwrap();
    let broker = scram_broker(directory.path());
    for wrong in [
        Packet::PingReq,
        auth(CONTINUE, "OTHER", "x"),
        auth(ReasonCode::REAUTHENTICATE, METHOD, "n,,n=ann,r=abcdef"),
    ] {
        let (mut client, _) = begin_scram(&broker, "ann");
        client.send(&wrong);
        assert!(
            matches!(client.receive(), Packet::ConnAck(connack) if connack.reason == ReasonCode::PROTOCOL_ERROR),
            "{wrong:?}"
        );
    }
    let mut asked = connect(Version::V5, "phone", true);
    asked.properties.authentication_method = Some("GS2-KRB5".into());
    let (_, connack) = Client::open(broker.mqtt_addr(), asked);
    assert_eq!(connack.reason, ReasonCode::BAD_AUTHENTICATION_METHOD); // [MQTT5-4.12.0-1]
    // A method that nobody named in CONNECT is none later. [MQTT5-4.12.0-7]
    let (mut plain, _) = try_user(&broker, "p", "hashed", "tulip");
    plain.send(&auth(ReasonCode::REAUTHENTICATE, METHOD, "n,,n=ann,r=abcdef"));
    assert_eq!(goodbye(&mut plain), ReasonCode::PROTOCOL_ERROR);
}

/// A hook that says what a test wants, and remembers what it was asked.
struct Hook {
    address: std::net::SocketAddr,
    asked: Arc<Mutex<Vec<serde_json::Value>>>,
}

impl Hook {
    fn start(answer: impl Fn(&serde_json::Value) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        // Ends with the test's process: nobody connects any more.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(stream);
                let mut length = 0;
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                        break;
                    }
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                if reader.read_exact(&mut body).is_err() {
                    continue;
                }
                let question = serde_json::from_slice(&body).unwrap();
                let text = answer(&question);
                log.lock().unwrap().push(question);
                let status = if text.is_empty() { "500 Sorry" } else { "200 OK" };
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    text.len()
                );
                let mut stream = reader.into_inner();
                let _ = stream.write_all(format!("{head}{text}").as_bytes());
                let _ = stream.shutdown(Shutdown::Write);
            }
        });
        Self { address, asked }
    }

    fn config(&self, more: &str) -> String {
        format!("[auth.http]\nurl = 'http://{}/auth'\n{more}", self.address)
    }

    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

#[test]
fn a_hook_is_asked_once_and_its_answer_holds_for_a_while() {
    let hook = Hook::start(|question| {
        match question["user"].as_str() {
            Some("ann") => r#"{"result":"allow","app":"shop","acl":{"publish":["ann/#"]}}"#,
            Some("short") => r#"{"result":"allow","expires_in_s":1}"#,
            Some("broken") => r#"{"result":"allow","acl":"everything"}"#,
            Some("garbage") => "yes!",
            Some("later") => r#"{"result":"ignore"}"#,
            _ => r#"{"result":"deny"}"#,
        }
        .to_owned()
    });
    let users = "[[users]]\nname = 'later'\npassword = 'rose'\n";
    let broker = broker(&format!("{users}[auth]\nsources = ['http', 'users']\n{}", hook.config("")));
    for round in 0..3 {
        let (mut ann, connack) = try_user(&broker, "phone", "ann", "tulip");
        assert_eq!(connack.reason, SUCCESS);
        assert!(!ann.publish("ann/x", b"hers", 1).is_failure());
        assert_eq!(ann.publish("bob/x", b"not hers", 2), DENIED);
        assert_eq!(hook.count(), 1, "round {round}");
    }
    let question = hook.asked.lock().unwrap()[0].clone();
    let wanted = serde_json::json!({"client_id": "phone", "user": "ann", "password": "tulip",
        "address": "127.0.0.1", "listener": "default"});
    assert_eq!(question, wanted);
    assert_eq!(reason_of(&broker, "eve", "x"), DENIED);
    assert_eq!(reason_of(&broker, "eve", "x"), DENIED);
    assert_eq!(hook.count(), 2, "a no is remembered too");
    assert_eq!(reason_of(&broker, "eve", "y"), DENIED);
    assert_eq!(hook.count(), 3, "another password is another question");
    assert_eq!(reason_of(&broker, "later", "rose"), SUCCESS, "the next source");
    assert_eq!(reason_of(&broker, "later", "tulip"), BAD);
    for user in ["broken", "garbage"] {
        assert_eq!(reason_of(&broker, user, "x"), ReasonCode::SERVER_UNAVAILABLE, "{user}");
    }
    let (mut short, _) = try_user(&broker, "s", "short", "x");
    assert_eq!(goodbye(&mut short), DENIED, "what the hook allowed ends when it said");
}

#[test]
fn a_hook_that_does_not_answer_lets_nobody_in_and_holds_nobody_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap(); // accepts, in the kernel, and says nothing
    let text = format!(
        "[[users]]\nname = 'known'\npassword = 'rose'\n[auth]\nsources = ['users', 'http']\n\
         [auth.http]\nurl = 'http://{}/'\ntimeout_ms = 200",
        silent.local_addr().unwrap()
    );
    let broker = broker(&text);
    for _ in 0..5 {
        assert_eq!(reason_of(&broker, "ann", "tulip"), ReasonCode::SERVER_UNAVAILABLE);
    }
    // From here on nobody waits for it: so many at once would take 64 at a time through the deadline.
    assert_eq!(reason_of(&broker, "ann", "tulip"), ReasonCode::SERVER_UNAVAILABLE);
    assert_eq!(reason_of(&broker, "known", "rose"), SUCCESS);
    let hook = Hook::start(|_| String::new());
    let failing = crate::broker(&hook.config(""));
    assert_eq!(reason_of(&failing, "ann", "tulip"), ReasonCode::SERVER_UNAVAILABLE);
    assert_eq!(hook.count(), 1);
}

#[test]
fn a_certificate_says_who_a_client_is_and_the_rules_what_it_may_do() {
    let authority = Authority::new();
    let ca = authority.path("ca.pem").display().to_string();
    let more = format!(
        "client_ca = '{ca}'\nauth = ['certificate']\n[auth.certificate]\napp = 'factory'\n\
         [[acl.rules]]\neffect = 'allow'\nactions = ['publish']\ntopics = ['%u/#']\napps = ['factory']"
    );
    let broker = tls::serving(&authority, "tls", &more);
    let config = authority.trusting(&rustls::version::TLS13, Some(authority.client("sensor-7", 1)));
    // What it says about itself in CONNECT does not count.
    let asked = with_user(connect(Version::V5, "c", true), "boss", "x");
    let (mut client, connack) = Client::over(tls::open(&broker, &config), asked);
    assert_eq!(connack.reason, SUCCESS);
    assert!(!client.publish("sensor-7/t", b"its own", 1).is_failure());
    assert_eq!(client.publish("boss/t", b"not its own", 2), DENIED);
    let (_, connack) = Client::open(broker.mqtt_addr(), connect(Version::V5, "d", true));
    assert_eq!(connack.reason, DENIED, "without a certificate, at the other listener");
}

#[test]
fn a_ban_ends_live_connections_and_outlives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let text = "allow_anonymous = true\n[[users]]\nname = 'ann'\npassword = 'tulip'";
    let broker = start(text, directory.path());
    let (mut ann, _) = try_user(&broker, "a", "ann", "tulip");
    let mut phone = Client::connect(broker.mqtt_addr(), durable(Version::V5, "phone"));
    let mut other = Client::connect(broker.mqtt_addr(), connect(Version::V5, "other", true));
    let client = Banned::ClientId { app: None, client_id: "phone".into() };
    let user = Banned::User { app: Some("default".into()), user: "ann".into() };
    let ban = |banned: &Banned| Ban { banned: banned.clone(), until_ms: None, reason: "test".into() };
    for (banned, victim) in [(&client, &mut phone), (&user, &mut ann)] {
        broker.operator().ban(ban(banned)).unwrap();
        assert_eq!(goodbye(victim), ReasonCode::ADMINISTRATIVE_ACTION, "{banned:?}");
    }
    other.ping();
    let refused = |broker: &Broker| {
        let phone = Client::open(broker.mqtt_addr(), durable(Version::V5, "phone")).1.reason;
        (phone, try_user(broker, "a", "ann", "tulip").1.reason)
    };
    assert_eq!(refused(&broker), (ReasonCode::BANNED, ReasonCode::BANNED));
    let network = Banned::Address { network: "127.0.0.0/8".parse().unwrap() };
    let soon = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap()
        + Duration::from_secs(3600);
    let until_ms = Some(u64::try_from(soon.as_millis()).unwrap());
    broker.operator().ban(Ban { until_ms, ..ban(&network) }).unwrap();
    assert_eq!(goodbye(&mut other), ReasonCode::ADMINISTRATIVE_ACTION);
    broker.stop();
    let broker = start(text, directory.path());
    assert_eq!(broker.operator().bans(None, 10).len(), 3);
    assert_eq!(refused(&broker), (ReasonCode::BANNED, ReasonCode::BANNED));
    for banned in [&client, &user, &network] {
        assert!(broker.operator().lift_ban(banned).unwrap());
    }
    assert_eq!(refused(&broker), (SUCCESS, SUCCESS));
}

#[test]
fn guessing_is_bounded_and_a_secret_stands_in_no_metric() {
    let text = "[[users]]\nname = 'ann'\npassword = 'tulip'\n[auth]\nuser_failures_max = 3\nfailure_recovery_s = 3600";
    let broker = broker(text);
    for _ in 0..3 {
        assert_eq!(reason_of(&broker, "ann", "guess"), BAD);
    }
    assert_eq!(reason_of(&broker, "ann", "tulip"), ReasonCode::CONNECTION_RATE_EXCEEDED);
    assert_eq!(reason_of(&broker, "bob", "guess"), BAD, "another name is another bucket");
    let metrics = broker.metrics_text();
    for line in ["refused_total{reason=\"credentials\"} 4", "refused_total{reason=\"failures\"} 1"] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    assert!(!metrics.contains("tulip"));
}
