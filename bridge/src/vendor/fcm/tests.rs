//! Tests of the FCM request and verdict.

use super::*;
use crate::vendor::shorten::Shortened;
use crate::vendor::{Credential, DeviceToken};
use http::HeaderMap;
use proptest::prelude::*;
use reveille_proto::ids::{AppId, MessageId};

const KEY: &str = include_str!("../../../../tests/fakes/fixtures/service_account_private.pem");

fn credential() -> FcmCredential {
    FcmCredential {
        service_account: ServiceAccount {
            project_id: "shop-1".to_owned(),
            client_email: "push@shop-1.iam.gserviceaccount.com".to_owned(),
            private_key: Secret::new(KEY),
            private_key_id: "k1".to_owned(),
            token_uri: default_token_uri(),
        },
        endpoint: None,
        ca_pem: None,
    }
}

fn push() -> Push {
    Push::new(MessageId([7; 16]), AppId::default(), DeviceToken::parse("T0").unwrap())
}

fn message_of(push: &Push) -> Value {
    let request = credential().request(push, Some("access"), 1_000).unwrap();
    serde_json::from_slice::<Value>(request.body()).unwrap()["message"].take()
}

fn verdict(status: u16, body: Value) -> Verdict {
    let answer = Answer { status, body: body.to_string().into(), ..Answer::default() };
    credential().verdict(&answer, 0)
}

fn coded(code: &str, message: &str) -> Value {
    let detail = json!({"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code});
    json!({"error": {"message": message, "details": [{"@type": "x"}, detail]}})
}

#[test]
fn every_answer_of_googles_table_has_its_verdict() {
    let violation = |field: &str| {
        let detail = json!({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"field": field}]});
        json!({"error": {"status": "INVALID_ARGUMENT", "message": "bad", "details": [detail]}})
    };
    let bad_token = "The registration token is not a valid FCM registration token";
    let plain = |status: &str| json!({"error": {"status": status, "message": "m"}});
    let table = [
        (400, coded("INVALID_ARGUMENT", bad_token), "token_dead"),
        (400, coded("INVALID_ARGUMENT", "something else"), "payload_rejected"),
        (400, violation("message.token"), "token_dead"),
        (400, violation("message.data"), "payload_rejected"),
        (404, coded("UNREGISTERED", ""), "token_dead"),
        (404, plain("NOT_FOUND"), "config_error"),
        (403, coded("SENDER_ID_MISMATCH", ""), "token_mismatch"),
        (401, coded("THIRD_PARTY_AUTH_ERROR", ""), "config_error"),
        (401, plain("UNAUTHENTICATED"), "login_expired"),
        (403, plain("PERMISSION_DENIED"), "config_error"),
        (429, coded("QUOTA_EXCEEDED", ""), "throttled"),
        (500, coded("INTERNAL", ""), "retry"),
        (503, coded("UNAVAILABLE", ""), "retry"),
        (502, json!("<html>"), "retry"),
        (413, json!(null), "payload_rejected"),
        (302, json!(null), "retry"),
    ];
    for (status, body, wanted) in table {
        assert_eq!(verdict(status, body.clone()).name(), wanted, "{status} {body}");
    }
    let taken = verdict(200, json!({"name": "projects/p/messages/1"}));
    assert_eq!(taken, Verdict::Accepted { vendor_id: Some("projects/p/messages/1".to_owned()) });
    assert_eq!(verdict(200, json!("odd")), Verdict::Accepted { vendor_id: None });
}

#[test]
fn a_throttle_says_what_and_how_long() {
    let of = |message: &str, headers: HeaderMap| {
        let answer =
            Answer { status: 429, headers, body: coded("QUOTA_EXCEEDED", message).to_string().into() };
        match credential().verdict(&answer, 0) {
            Verdict::Throttled { scope, after, .. } => (scope, after.unwrap().as_secs()),
            other => panic!("{other:?}"),
        }
    };
    let after_7 = HeaderMap::from_iter([(http::header::RETRY_AFTER, "7".parse().unwrap())]);
    assert_eq!(of("Quota exceeded for project", HeaderMap::new()), (Scope::App, 60));
    assert_eq!(of("Device message rate exceeded", HeaderMap::new()), (Scope::Token, 60));
    assert_eq!(of("", after_7), (Scope::App, 7));
}

#[test]
fn an_alert_carries_everything_it_has() {
    let push = Push {
        title: Some("泵 7".to_owned()),
        body: Some("高".to_owned()),
        data: json!({"text": "t", "n": 1, "o": {"a": [true]}}).as_object().unwrap().clone(),
        image: Some("https://i.example/p.png".to_owned()),
        sound: Some("alarm".to_owned()),
        badge: Some(3),
        channel: Some("alarm".to_owned()),
        category: Some("ALARM".to_owned()),
        click: Some("OPEN".to_owned()),
        collapse_key: Some("pump7".to_owned()),
        expires_at_ms: Some(61_500),
        overrides: json!({"android": {"restricted_package_name": "com.example"}, "topic": "all", "token": "T9", "data": {"mid": "x"}}),
        ..push()
    };
    let wanted = json!({
        "token": "T0",
        "data": {"text": "t", "n": "1", "o": "{\"a\":[true]}", "mid": push.id.to_string()},
        "notification": {"title": "泵 7", "body": "高"},
        "android": {
            "priority": "HIGH", "ttl": "61s", "collapse_key": "pump7", "restricted_package_name": "com.example",
            "notification": {
                "tag": "pump7", "channel_id": "alarm", "sound": "alarm", "image": "https://i.example/p.png",
                "click_action": "OPEN", "notification_count": 3,
            },
        },
        "apns": {
            "headers": {
                "apns-push-type": "alert", "apns-priority": "10", "apns-collapse-id": "pump7", "apns-expiration": "62",
            },
            "payload": {"aps": {"badge": 3, "sound": "alarm", "thread-id": "alarm", "category": "ALARM", "mutable-content": 1}},
            "fcm_options": {"image": "https://i.example/p.png"},
        },
    });
    assert_eq!(message_of(&push), wanted);
}

#[test]
fn priority_and_kind_decide_the_urgency() {
    use {Priority as P, PushKind as K};
    let table = [
        (K::Alert, P::High, "HIGH"),
        (K::Alert, P::Normal, "HIGH"),
        (K::Alert, P::Low, "NORMAL"),
        (K::Data, P::High, "HIGH"),
        (K::Data, P::Normal, "NORMAL"),
        (K::Data, P::Low, "NORMAL"),
    ];
    for (kind, priority, wanted) in table {
        let message = message_of(&Push { kind, priority, ..push() });
        assert_eq!(message["android"]["priority"], wanted, "{kind:?} {priority:?}");
    }
}

#[test]
fn a_data_push_has_no_notification_and_a_ttl_within_four_weeks() {
    let push =
        Push { kind: PushKind::Data, title: Some("t".to_owned()), expires_at_ms: Some(u64::MAX), ..push() };
    let wanted = json!({
        "token": "T0", "data": {"title": "t", "mid": push.id.to_string()},
        "android": {"priority": "NORMAL", "ttl": "2419200s"},
    });
    let mut message = message_of(&push);
    message.as_object_mut().unwrap().remove("apns"); // has its own test
    assert_eq!(message, wanted);
}

#[test]
fn what_cannot_be_sent_is_said_before_anything_is_sent() {
    let refused = |push: Push| credential().request(&push, Some("access"), 1_000).unwrap_err();
    assert_eq!(refused(Push { expires_at_ms: Some(999), ..push() }), CannotSend::Payload("push has expired"));
    for key in ["from", "google.ttl", "mid"] {
        let data = json!({key: "x"}).as_object().unwrap().clone();
        assert_eq!(refused(Push { data, ..push() }), CannotSend::Payload("data has a reserved key"), "{key}");
    }
    let error = credential().request(&push(), None, 0).unwrap_err();
    assert_eq!(error, CannotSend::Config("no access token"));
}

#[test]
fn the_login_is_a_signed_form_and_its_answer_is_kept_until_five_minutes_before_its_end() {
    let Ok(LoginStep::Ask(request)) = credential().login(0) else { panic!("not asked for") };
    assert_eq!(request.uri(), "https://oauth2.googleapis.com/token");
    let form = std::str::from_utf8(request.body()).unwrap();
    let start = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=ey";
    assert!(form.starts_with(start), "{form}");
    let table = [(3599, 3299), (301, 1), (300, 150), (10, 5), (u64::MAX, 86_400 - 300)];
    for (expires_in, wanted_s) in table {
        let body = json!({"access_token": "a", "expires_in": expires_in}).to_string().into();
        let answer = Answer { status: 200, body, ..Answer::default() };
        let login = credential().read_login(&answer, 1_000).unwrap();
        assert_eq!((login.token.reveal(), login.renew_at_ms), ("a", 1_000 + wanted_s * 1000), "{expires_in}");
    }
}

#[test]
fn a_refused_login_says_why() {
    let of = |status, body: Value| {
        let answer = Answer { status, body: body.to_string().into(), ..Answer::default() };
        credential().read_login(&answer, 0).unwrap_err()
    };
    let refused = of(400, json!({"error": "invalid_grant", "error_description": "Invalid JWT Signature."}));
    assert_eq!(refused.name(), "config_error");
    assert_eq!(refused.reason(), "login refused with 400 invalid_grant Invalid JWT Signature.");
    assert_eq!(of(503, json!(null)).name(), "retry");
    assert_eq!(of(200, json!({"access_token": ""})).name(), "retry");
}

#[test]
fn a_wrong_credential_names_its_field() {
    assert_eq!(Credential::Fcm(credential()).validate(), Ok(()));
    let with = |change: fn(&mut FcmCredential)| {
        let mut credential = credential();
        change(&mut credential);
        credential
    };
    let table = [
        ("service_account.project_id", with(|c| c.service_account.project_id = "a/b".to_owned())),
        ("service_account.client_email", with(|c| c.service_account.client_email = "nobody".to_owned())),
        ("service_account.private_key", with(|c| c.service_account.private_key = Secret::new("x"))),
        (
            "service_account.token_uri",
            with(|c| c.service_account.token_uri = "http://example.com".to_owned()),
        ),
        ("endpoint", with(|c| c.endpoint = Some("http://example.com".to_owned()))),
        ("ca_pem", with(|c| c.ca_pem = Some("x".to_owned()))),
    ];
    for (field, wrong) in table {
        assert_eq!(Credential::Fcm(wrong).validate().unwrap_err().field, field);
    }
}

#[test]
fn nothing_that_is_printed_shows_the_key_and_the_whole_account_file_is_read() {
    let file = json!({"vendor": "fcm", "service_account": {
        "type": "service_account", "project_id": "p", "private_key_id": "k", "private_key": KEY,
        "client_email": "a@b", "client_id": "1", "auth_uri": "https://accounts.google.com/o/oauth2/auth",
    }});
    let credential: Credential = serde_json::from_value(file).unwrap();
    assert!(credential.validate().is_ok());
    for shown in [format!("{credential:?}"), credential.summary()] {
        assert!(!shown.contains("PRIVATE KEY") && shown.contains("a@b"), "{shown}");
    }
    let Credential::Fcm(fcm) = credential else { panic!("not FCM") };
    assert_eq!(fcm.service_account.token_uri, "https://oauth2.googleapis.com/token");
}

proptest! {
    // The texts are long; more cases take seconds in a debug build.
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_push_becomes_a_message_within_the_bound_with_text_data_and_its_id(
        title in proptest::option::of("\\PC{0,300}"), body in proptest::option::of("(\\PC|\u{1}|\"){0,3000}"),
        data in proptest::collection::btree_map("[a-f]{1,4}", 0_u64..9, 0..8), blob in "[x\"]{0,5000}", is_data: bool,
    ) {
        let mut fields: Map<String, Value> = data.into_iter().map(|(key, value)| (key, value.into())).collect();
        fields.insert("blob".to_owned(), blob.into());
        let kind = if is_data { PushKind::Data } else { PushKind::Alert };
        let push = Push { title, body, kind, data: fields, ..push() };
        let request = credential().request(&push, Some("access"), 0).unwrap();
        let mut message = serde_json::from_slice::<Value>(request.body()).unwrap()["message"].take();
        prop_assert_eq!(message["data"]["mid"].as_str().unwrap(), push.id.to_string());
        prop_assert!(message["data"].as_object().unwrap().values().all(Value::is_string));
        let is_cut = message["data"].get("cut").is_some();
        prop_assert_eq!(is_cut, matches!(request.extensions().get(), Some(Shortened::Data | Shortened::WakeUp)));
        message.as_object_mut().unwrap().remove("token");
        prop_assert!(message.to_string().len() <= MESSAGE_MAX);
    }
}

#[test]
fn an_iphone_behind_firebase_is_woken_without_an_alert_by_data() {
    let apns = |priority| {
        message_of(&Push { kind: PushKind::Data, badge: Some(3), priority, ..push() })["apns"].take()
    };
    for priority in [Priority::Low, Priority::High] {
        let sent = apns(priority);
        assert_eq!(sent["payload"]["aps"], json!({"content-available": 1}));
        assert_eq!(
            (&sent["headers"]["apns-push-type"], &sent["headers"]["apns-priority"]),
            (&json!("background"), &json!("5"))
        );
    }
    let low = message_of(&Push { priority: Priority::Low, title: Some("t".to_owned()), ..push() });
    assert_eq!(low["apns"]["headers"]["apns-priority"], "5");
    let long =
        message_of(&Push { collapse_key: Some("k".repeat(65)), title: Some("t".to_owned()), ..push() });
    assert_eq!(
        long["apns"]["headers"]["apns-collapse-id"].as_str().unwrap().len(),
        64,
        "hashed: Apple refuses longer ones"
    );
}
