//! Tests of the APNs request and verdict.

use super::*;
use crate::vendor::shorten::Shortened;
use crate::vendor::{Credential, DeviceToken, PushKind, merge};
use proptest::prelude::*;
use reveille_proto::ids::{AppId, MessageId};
use serde_json::{Value, json};

/// A P-256 key made for these tests alone; it protects nothing.
const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg21L8PlPVyZlP5DeQ
UiBJBG/jKnD8hRD4cUG/1SSgVeOhRANCAAQ2PNmlzatyV5MYmuOrQRbN838zjRWk
EiH+VigVzJNZGccJEbk7cbpfQOfeczJWO10sq4dtSrFnG2LgdGF1u3+t
-----END PRIVATE KEY-----
";

fn credential() -> ApnsCredential {
    ApnsCredential {
        key_id: Some("ABC123DEFG".to_owned()),
        team_id: Some("TEAM000001".to_owned()),
        certificate: None,
        bundle_id: "com.example.app".to_owned(),
        private_key: Secret::new(KEY),
        environment: Environment::Production,
        endpoint: None,
        channels_endpoint: None,
        ca_pem: None,
    }
}

fn push() -> Push {
    Push::new(MessageId([7; 16]), AppId::default(), DeviceToken::parse("00ff").unwrap())
}

fn request(push: &Push) -> Request<Bytes> {
    credential().request(push, Some("jwt"), 1_000).unwrap()
}

fn json_of(push: &Push) -> Value {
    serde_json::from_slice(request(push).body()).unwrap()
}

fn header<'a>(request: &'a Request<Bytes>, name: &str) -> Option<&'a str> {
    request.headers().get(name).map(|value| value.to_str().unwrap())
}

#[test]
fn every_answer_of_apples_table_has_its_verdict() {
    let table = [
        (400, "BadDeviceToken", "token_mismatch"),
        (400, "DeviceTokenNotForTopic", "token_mismatch"),
        (400, "BadCollapseId", "payload_rejected"),
        (400, "BadExpirationDate", "payload_rejected"),
        (400, "BadMessageId", "payload_rejected"),
        (400, "BadPriority", "payload_rejected"),
        (400, "InvalidPushType", "payload_rejected"),
        (400, "DuplicateHeaders", "payload_rejected"),
        (400, "PayloadEmpty", "payload_rejected"),
        (400, "MissingDeviceToken", "payload_rejected"),
        (400, "BadTopic", "config_error"),
        (400, "MissingTopic", "config_error"),
        (400, "TopicDisallowed", "config_error"),
        (400, "IdleTimeout", "new_connection"),
        (403, "ExpiredProviderToken", "login_expired"),
        (403, "InvalidProviderToken", "config_error"),
        (403, "MissingProviderToken", "config_error"),
        (403, "BadCertificate", "config_error"),
        (403, "BadCertificateEnvironment", "config_error"),
        (403, "Forbidden", "config_error"),
        (403, "UnrelatedKeyIdInToken", "new_connection"),
        (403, "BadEnvironmentKeyIdInToken", "config_error"),
        (403, "BadEnvironmentKeyInToken", "config_error"),
        (404, "BadPath", "config_error"),
        (405, "MethodNotAllowed", "config_error"),
        (410, "Unregistered", "token_dead"),
        (410, "ExpiredToken", "token_dead"),
        (413, "PayloadTooLarge", "payload_rejected"),
        (429, "TooManyRequests", "throttled"),
        (429, "TooManyProviderTokenUpdates", "throttled"),
        (500, "InternalServerError", "retry"),
        (503, "ServiceUnavailable", "retry"),
        (503, "Shutdown", "retry"),
        (400, "SomethingNew", "payload_rejected"),
        (599, "", "retry"),
        (302, "", "retry"),
    ];
    for (status, reason, wanted) in table {
        let body = json!({"reason": reason}).to_string().into();
        let answer = Answer { status, body, ..Answer::default() };
        assert_eq!(credential().verdict(&answer, 0).name(), wanted, "{status} {reason}");
    }
}

#[test]
fn an_answer_that_is_not_apples_still_has_a_verdict() {
    let table = [
        (502, "<html>", "retry"),
        (410, "", "token_dead"),
        (403, "[]", "config_error"),
        (400, "\u{0}", "payload_rejected"),
    ];
    for (status, body, wanted) in table {
        let answer = Answer { status, body: Bytes::from_static(body.as_bytes()), ..Answer::default() };
        let verdict = credential().verdict(&answer, 0);
        assert_eq!(verdict.name(), wanted, "{status} {body}");
        assert!(!verdict.reason().is_empty(), "{status} {body}");
    }
}

#[test]
fn scopes_times_and_ids_are_read() {
    let answer = |status, body: &str| Answer { status, body: body.to_owned().into(), ..Answer::default() };
    let of = |answer: &Answer| credential().verdict(answer, 0);
    let dead = Verdict::TokenDead { since_ms: Some(1_790_000_000_123), reason: "ExpiredToken".to_owned() };
    assert_eq!(of(&answer(410, r#"{"reason":"ExpiredToken","timestamp":1790000000123}"#)), dead);
    assert!(matches!(
        of(&answer(429, r#"{"reason":"TooManyRequests"}"#)),
        Verdict::Throttled { scope: Scope::Token, .. }
    ));
    let updates = r#"{"reason":"TooManyProviderTokenUpdates"}"#;
    assert!(matches!(of(&answer(429, updates)), Verdict::Throttled { scope: Scope::Connection, .. }));
    assert!(matches!(of(&answer(500, "{}")), Verdict::Retry { after: Some(SERVER_FAULT_WAIT), .. }));

    let mut patient = answer(503, "{}");
    patient.headers.insert("retry-after", HeaderValue::from_static("5"));
    assert!(
        matches!(of(&patient), Verdict::Retry { after: Some(after), .. } if after == Duration::from_secs(5))
    );

    let mut ok = answer(200, "");
    ok.headers.insert("apns-id", HeaderValue::from_static("a"));
    assert_eq!(of(&ok), Verdict::Accepted { vendor_id: Some("a".to_owned()) });
    ok.headers.insert("apns-unique-id", HeaderValue::from_static("u"));
    assert_eq!(of(&ok), Verdict::Accepted { vendor_id: Some("u".to_owned()) });
}

#[test]
fn an_alert_carries_everything_it_has() {
    let push = Push {
        title: Some("泵 7".to_owned()),
        body: Some("高".to_owned()),
        data: json!({"order": {"n": 1}}).as_object().unwrap().clone(),
        image: Some("https://i.example/p.png".to_owned()),
        sound: Some("alarm.caf".to_owned()),
        badge: Some(0),
        channel: Some("line-b".to_owned()),
        category: Some("ALARM".to_owned()),
        click: Some("app://7".to_owned()),
        overrides: json!({"aps": {"interruption-level": "time-sensitive", "sound": null}, "mid": "forged"}),
        ..push()
    };
    let wanted = json!({
        "aps": {
            "alert": {"title": "泵 7", "body": "高"}, "badge": 0, "thread-id": "line-b", "category": "ALARM",
            "mutable-content": 1, "interruption-level": "time-sensitive",
        },
        "mid": push.id.to_string(), "order": {"n": 1}, "image": "https://i.example/p.png", "click": "app://7",
    });
    assert_eq!(json_of(&push), wanted);
}

#[test]
fn a_data_push_is_silent_and_never_urgent() {
    for priority in [Priority::Low, Priority::Normal, Priority::High] {
        let push = Push { kind: PushKind::Data, priority, title: Some("t".to_owned()), ..push() };
        let request = request(&push);
        assert_eq!(
            (header(&request, "apns-push-type"), header(&request, "apns-priority")),
            (Some("background"), Some("5"))
        );
        assert_eq!(json_of(&push), json!({"aps": {"content-available": 1}, "mid": push.id.to_string()}));
    }
}

#[test]
fn the_headers_follow_the_rules() {
    let plain = request(&push());
    assert_eq!(plain.uri(), "https://api.push.apple.com/3/device/00ff");
    assert_eq!(header(&plain, "apns-expiration"), None);
    assert_eq!(header(&plain, "apns-topic"), Some("com.example.app"));
    assert_eq!(header(&plain, "authorization"), Some("bearer jwt"));
    assert!(plain.headers()["authorization"].is_sensitive());
    let id = push().id.to_string();
    assert_eq!(
        (header(&plain, "apns-id"), header(&plain, "apns-collapse-id")),
        (Some(id.as_str()), Some(id.as_str()))
    );
    let expiring = request(&Push { expires_at_ms: Some(5_001), priority: Priority::Low, ..push() });
    assert_eq!(
        (header(&expiring, "apns-expiration"), header(&expiring, "apns-priority")),
        (Some("6"), Some("5"))
    );
}

#[test]
fn a_collapse_key_that_does_not_fit_a_header_is_hashed() {
    for (key, is_kept) in [
        ("pump7", true),
        (&*"k".repeat(64), true),
        (&"k".repeat(65), false),
        ("泵", false),
        ("", false),
        ("a b", false),
    ] {
        let id = collapse_id(&Push { collapse_key: Some(key.to_owned()), ..push() });
        assert_eq!(id == key, is_kept, "{key}");
        assert!(
            id.len() <= COLLAPSE_ID_MAX && !id.is_empty() && id.bytes().all(|b| b.is_ascii_graphic()),
            "{key}"
        );
    }
    let hashed = collapse_id(&Push { collapse_key: Some("泵".to_owned()), ..push() });
    assert_eq!(hashed.len(), 64);
    assert_ne!(hashed, collapse_id(&Push { collapse_key: Some("泵2".to_owned()), ..push() }));
}

#[test]
fn what_cannot_be_sent_is_said_before_anything_is_sent() {
    let refused = |push: Push| credential().request(&push, Some("jwt"), 1_000).unwrap_err();
    assert_eq!(
        refused(Push { expires_at_ms: Some(1_000), ..push() }),
        CannotSend::Payload("push has expired")
    );
    let reserved = json!({"aps": 1}).as_object().unwrap().clone();
    assert_eq!(refused(Push { data: reserved, ..push() }), CannotSend::Payload("data has a reserved key"));
    let token = DeviceToken::parse("00fg").unwrap();
    assert_eq!(refused(Push { token, ..push() }), CannotSend::Token("device token is not hexadecimal"));
}

#[test]
fn a_provider_token_has_exactly_the_fields_that_apple_names() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let Ok(LoginStep::Made(login)) = credential().login(1_790_000_000_999) else { panic!("not made here") };
    let parts: Vec<&str> = login.token.reveal().split('.').collect();
    let part =
        |at: usize| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(parts[at]).unwrap()).unwrap();
    assert_eq!(part(0), json!({"alg": "ES256", "kid": "ABC123DEFG"}));
    assert_eq!(part(1), json!({"iss": "TEAM000001", "iat": 1_790_000_000}));
    assert_eq!(URL_SAFE_NO_PAD.decode(parts[2]).unwrap().len(), 64, "R and S, not DER");
    assert_eq!(login.renew_at_ms, 1_790_000_000_999 + 45 * 60 * 1000);
}

#[test]
fn a_wrong_credential_names_its_field() {
    assert_eq!(Credential::Apns(credential()).validate(), Ok(()));
    let table: [(&str, ApnsCredential); 10] = [
        ("key_id", ApnsCredential { key_id: Some("short".to_owned()), ..credential() }),
        ("team_id", ApnsCredential { team_id: Some("TEAM 00001".to_owned()), ..credential() }),
        ("key_id", ApnsCredential { key_id: None, ..credential() }),
        ("team_id", ApnsCredential { team_id: None, ..credential() }),
        ("certificate", ApnsCredential { certificate: Some("x".to_owned()), ..credential() }),
        ("bundle_id", ApnsCredential { bundle_id: "a/b".to_owned(), ..credential() }),
        ("private_key", ApnsCredential { private_key: Secret::new("not a key"), ..credential() }),
        ("private_key", ApnsCredential { private_key: Secret::new(KEY.replace('M', "N")), ..credential() }),
        ("endpoint", ApnsCredential { endpoint: Some("http://127.0.0.1:1".to_owned()), ..credential() }),
        ("ca_pem", ApnsCredential { ca_pem: Some("x".to_owned()), ..credential() }),
    ];
    for (field, wrong) in table {
        let error = Credential::Apns(wrong).validate().unwrap_err();
        assert_eq!(error.field, field, "{error}");
    }
}

#[test]
fn nothing_that_is_printed_shows_the_key() {
    let credential = Credential::Apns(credential());
    let stored = serde_json::to_string(&credential).unwrap();
    assert_eq!(serde_json::from_str::<Credential>(&stored).unwrap(), credential);
    for shown in [format!("{credential:?}"), credential.summary()] {
        assert!(!shown.contains("PRIVATE KEY") && shown.contains("TEAM000001"), "{shown}");
    }
}

#[test]
fn a_long_push_loses_its_parts_in_the_documented_order() {
    let long = |bytes: usize| Some("x".repeat(bytes));
    let data = |bytes: usize| json!({"d": "x".repeat(bytes)}).as_object().unwrap().clone();
    let table = [
        ("fits", Push { body: long(3_000), ..push() }, None),
        ("body", Push { body: long(5_000), data: data(100), ..push() }, Some(Shortened::Body)),
        ("data", Push { body: long(5_000), data: data(3_900), ..push() }, Some(Shortened::Data)),
        ("sound", Push { body: long(300), sound: long(5_000), ..push() }, Some(Shortened::WakeUp)),
        ("title", Push { title: long(9_000), ..push() }, Some(Shortened::WakeUp)),
        ("data alone", Push { kind: PushKind::Data, data: data(9_000), ..push() }, Some(Shortened::Data)),
    ];
    for (name, push, wanted) in table {
        let request = request(&push);
        assert_eq!(request.extensions().get::<Shortened>().copied(), wanted, "{name}");
        let json: Value = serde_json::from_slice(request.body()).unwrap();
        let is_cut = matches!(wanted, Some(Shortened::Data | Shortened::WakeUp));
        assert_eq!(json.get("cut").is_some(), is_cut, "{name}");
    }
}

proptest! {
    // The texts are long; more cases take seconds in a debug build.
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_push_becomes_a_payload_within_the_bound_with_its_id(
        title in proptest::option::of("\\PC{0,200}|[\u{0}-\u{1f}\"\\\\]{0,3000}"), body in proptest::option::of("(\\PC|\u{1}|\"){0,3000}"),
        data in proptest::collection::btree_map("[a-f]{1,4}", "\\PC{0,600}", 0..8),
        sound in proptest::option::of("[a-z]{0,5000}"), is_data: bool,
    ) {
        let data = data.into_iter().filter(|(key, _)| !crate::vendor::is_reserved_data_key(key));
        let push = Push {
            title, body, sound, data: data.map(|(key, value)| (key, value.into())).collect(),
            kind: if is_data { PushKind::Data } else { PushKind::Alert }, ..push()
        };
        let request = request(&push);
        prop_assert!(request.body().len() <= PAYLOAD_MAX);
        let json: Value = serde_json::from_slice(request.body()).unwrap();
        prop_assert_eq!(json["mid"].as_str().unwrap(), push.id.to_string());
        prop_assert!(json["aps"].is_object());
    }
}

/// A certificate for a bundle id, with Apple's extension, made with rcgen.
fn certified() -> ApnsCredential {
    let fake = FAKE.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let fake = runtime.block_on(reveille_fakes::FakeApns::start()).unwrap();
        fake.certificate_credential()
    });
    let Ok(Credential::Apns(apns)) = serde_json::from_value(fake.clone()) else { panic!("no credential") };
    apns
}

static FAKE: std::sync::OnceLock<Value> = std::sync::OnceLock::new();

#[test]
fn a_certificate_says_its_topic_and_its_end_and_needs_its_own_key() {
    let apns = certified();
    assert_eq!(Credential::Apns(apns.clone()).validate(), Ok(()));
    assert_eq!(apns.bundle_id, "com.example.reveille", "of the certificate's UID");
    let facts = certificate::read(apns.certificate.as_deref().unwrap()).unwrap();
    assert_eq!(facts.topics, ["com.example.reveille", "com.example.reveille.voip"]);
    assert_eq!(apns.not_after_ms(), Some(facts.not_after_ms));
    assert!(apns.account().is_none() && matches!(apns.login(0), Ok(LoginStep::None)));
    let request = apns.request(&push(), None, 1_000).unwrap();
    assert_eq!(
        (header(&request, "authorization"), header(&request, "apns-topic")),
        (None, Some("com.example.reveille"))
    );
    assert!(apns.summary().contains("certificate"));
    for (field, wrong) in [
        ("bundle_id", ApnsCredential { bundle_id: "com.example.other".to_owned(), ..apns.clone() }),
        ("private_key", ApnsCredential { private_key: Secret::new(KEY), ..apns.clone() }),
        ("certificate", ApnsCredential { certificate: Some("PEM".to_owned()), ..apns.clone() }),
        ("certificate", ApnsCredential { key_id: Some("ABC123DEFG".to_owned()), ..apns.clone() }),
    ] {
        assert_eq!(wrong.validate().unwrap_err().field, field);
    }
    let stored = serde_json::to_string(&Credential::Apns(apns.clone())).unwrap();
    assert_eq!(serde_json::from_str::<Credential>(&stored).unwrap(), Credential::Apns(apns));
}

fn of_type(name: &str, more: Value) -> Push {
    let mut overrides = json!({"headers": {"apns-push-type": name}});
    merge(&mut overrides, &more);
    Push { overrides, kind: PushKind::Data, ..push() }
}

#[test]
fn every_push_type_has_its_topic_priority_and_payload() {
    let mdm = json!({"mdm": "magic"});
    let state = json!({"score": 1}).as_object().unwrap().clone();
    for (name, suffix, priority, aps) in [
        ("alert", "", "10", json!({"alert": {}})),
        ("background", "", "5", json!({"content-available": 1})),
        ("voip", ".voip", "10", json!({})),
        ("complication", ".complication", "5", json!({})),
        ("fileprovider", ".pushkit.fileprovider", "5", json!({})),
        ("location", ".location-query", "5", json!({})),
        (
            "liveactivity",
            ".push-type.liveactivity",
            "10",
            json!({"timestamp": 1, "event": "update", "content-state": {"score": 1}}),
        ),
        ("pushtotalk", ".voip-ptt", "10", json!({})),
        ("widgets", ".push-type.widgets", "5", json!({"content-changed": true})),
        ("controls", ".push-type.controls", "5", json!({"content-changed": true})),
        ("mdm", "", "10", Value::Null),
    ] {
        let more = if name == "mdm" { mdm.clone() } else { json!({}) };
        let push = Push { data: state.clone(), ..of_type(name, more) };
        let request = request(&push);
        assert_eq!(header(&request, "apns-push-type"), Some(name));
        let topic = format!("com.example.app{suffix}");
        assert_eq!(header(&request, "apns-topic"), Some(topic.as_str()), "{name}");
        assert_eq!(header(&request, "apns-priority"), Some(priority), "{name}");
        let payload = json_of(&push);
        assert_eq!(payload.get("aps").cloned().unwrap_or_default(), aps, "{name}");
        assert_eq!(payload.get("headers"), None, "{name}");
        if name == "mdm" {
            assert_eq!(payload, mdm, "nothing else may stand there");
        }
        let expiration = header(&request, "apns-expiration");
        assert_eq!(expiration, (name == "pushtotalk").then_some("0"), "{name}");
    }
    assert_eq!(PushType::ALL.len(), 11);
}

#[test]
fn what_apple_refuses_of_a_push_type_is_not_sent() {
    let refused = |credential: &ApnsCredential, push: &Push| {
        credential.request(push, Some("jwt"), 1_000).map(drop).unwrap_err()
    };
    for (name, more) in [
        ("background", json!({"headers": {"apns-priority": 10}})),
        ("pushtotalk", json!({"headers": {"apns-priority": 5}})),
        ("alert", json!({"headers": {"apns-priority": 7}})),
        ("alert", json!({"headers": {"apns-collapse-id": "k".repeat(65)}})),
        ("alert", json!({"headers": {"authorization": "bearer x"}})),
        ("silent", json!({})),
        ("mdm", json!({})),
    ] {
        let refusal = refused(&credential(), &of_type(name, more.clone()));
        assert!(matches!(refusal, CannotSend::Payload(_)), "{name} {more} {refusal:?}");
    }
    let location = refused(&certified(), &of_type("location", json!({})));
    assert!(matches!(location, CannotSend::Config(_)));
}

#[test]
fn a_call_may_be_larger_and_a_live_activity_is_whole_or_not_sent() {
    let data = |bytes: usize| json!({"d": "x".repeat(bytes)}).as_object().unwrap().clone();
    let call = Push { data: data(4_900), ..of_type("voip", json!({})) };
    let request = request(&call);
    assert_eq!(request.extensions().get::<Shortened>(), None);
    assert!((PAYLOAD_MAX..=5120).contains(&request.body().len()));
    let activity = Push { data: data(4_900), ..of_type("liveactivity", json!({})) };
    assert!(credential().request(&activity, Some("jwt"), 1_000).is_err());
}

#[test]
fn a_broadcast_is_an_update_of_an_activity() {
    use channels::{Ask, Broadcast, Channel};
    let channel = || Channel::parse("fake/channel+0001==").unwrap();
    let of = |body: Value| serde_json::from_value::<Broadcast>(body).unwrap().into_ask(channel(), 5_000);
    let Ok(Ask::Send { payload, priority, expiration_s, .. }) =
        of(json!({"content_state": {"score": 2}, "event": "end", "ttl_s": 60, "aps": {"dismissal-date": 9}}))
    else {
        panic!("nothing to ask")
    };
    let wanted =
        json!({"aps": {"timestamp": 5, "event": "end", "content-state": {"score": 2}, "dismissal-date": 9}});
    assert_eq!((payload, priority, expiration_s), (wanted, 10, 65));
    assert!(of(json!({"content_state": {}, "priority": 1})).is_err());
    assert!(of(json!({"content_state": {"x": "y".repeat(5_000)}})).is_err());
    for bad in ["", "a b", "a\n", &"a".repeat(257)] {
        assert_eq!(Channel::parse(bad), None, "{bad}");
    }
    let request = credential().channel_request(&Ask::List, Some("jwt")).unwrap();
    let uri = "https://api-manage-broadcast.push.apple.com:2196/1/apps/com.example.app/all-channels";
    assert_eq!(request.uri(), uri);
}
