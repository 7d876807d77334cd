//! Tests of the Web Push request and answers; the encryption has its own.

use super::*;
use crate::vendor::Credential;
use crate::vendor::testing::{NOW_MS, alert, check_places, check_verdicts, full, header, mid};
use jsonwebtoken::{DecodingKey, Validation};
use p256::pkcs8::{EncodePrivateKey, LineEnding};

const P256DH: &str =
    "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
const AUTH: &str = "BTBZMqHH6r4Tts7J_aSIgg";

fn credential() -> WebPushCredential {
    let pem = p256::SecretKey::from_slice(&[7; 32]).unwrap().to_pkcs8_pem(LineEnding::LF).unwrap();
    let credential = json!({
        "vendor": "web_push", "private_key": pem.as_str(), "subject": "mailto:push@shop.example",
        "hosts": ["push.plant.example", "127.0.0.1:9"],
    });
    let Ok(Credential::WebPush(web_push)) = serde_json::from_value(credential) else {
        panic!("no credential")
    };
    web_push.validate().unwrap();
    web_push
}

fn subscription(endpoint: &str) -> String {
    json!({"endpoint": endpoint, "keys": {"p256dh": P256DH, "auth": AUTH}}).to_string()
}

#[test]
fn a_push_is_encrypted_signed_and_bounded_in_time() {
    let push = Push {
        collapse_key: Some("pump7".to_owned()),
        priority: Priority::High,
        expires_at_ms: Some(NOW_MS + 60_000),
        ..alert(&subscription("https://fcm.googleapis.com/fcm/send/abc"))
    };
    let request = credential().request(&push, None, NOW_MS).unwrap();
    assert_eq!(request.uri(), "https://fcm.googleapis.com/fcm/send/abc");
    for (name, wanted) in [
        ("content-encoding", "aes128gcm"),
        ("content-type", "application/octet-stream"),
        ("ttl", "60"),
        ("urgency", "high"),
    ] {
        assert_eq!(header(&request, name), wanted, "{name}");
    }
    assert_eq!(header(&request, "topic").len(), TOPIC_MAX);
    assert!(!request.body().windows(3).any(|bytes| bytes == "泵".as_bytes()), "in the clear");
    assert!(request.body().len() <= 4096);
}

#[test]
fn the_authorization_is_for_the_origin_and_half_a_day() {
    let request =
        credential().request(&alert(&subscription("https://web.push.apple.com/x")), None, NOW_MS).unwrap();
    let (token, key) =
        header(&request, "authorization").strip_prefix("vapid t=").unwrap().split_once(", k=").unwrap();
    let point = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, key).unwrap();
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_audience(&["https://web.push.apple.com"]);
    validation.validate_exp = false;
    let token = jsonwebtoken::decode::<Value>(token, &DecodingKey::from_ec_der(&point), &validation).unwrap();
    assert_eq!(token.claims["exp"], NOW_MS / 1000 + 12 * 3600);
    assert_eq!(token.claims["sub"], "mailto:push@shop.example");
}

#[test]
fn only_known_services_are_called() {
    for (endpoint, is_called) in [
        ("https://fcm.googleapis.com/fcm/send/a", true),
        ("https://updates.push.services.mozilla.com/wpush/v2/a", true),
        ("https://web.push.apple.com/a", true),
        ("https://db5p.notify.windows.com/w/?token=a", true),
        ("https://push.plant.example/a", true),
        ("http://127.0.0.1:9/a", true),
        ("http://127.0.0.1:10/a", false),
        ("http://push.plant.example/a", false),
        ("http://fcm.googleapis.com/a", false),
        ("https://evilgoogleapis.com/a", false),
        ("https://fcm.googleapis.com.evil.example/a", false),
        ("https://fcm.googleapis.com:8443/a", false),
        ("https://u:p@fcm.googleapis.com/a", false),
        ("https://169.254.169.254/latest", false),
        ("https://[::1]/a", false),
        ("file:///etc/passwd", false),
        ("", false),
    ] {
        let request = credential().request(&alert(&subscription(endpoint)), None, NOW_MS);
        assert_eq!(request.is_ok(), is_called, "{endpoint}");
        if !is_called {
            assert!(matches!(request, Err(CannotSend::Token(_))), "{endpoint}");
        }
    }
}

#[test]
fn a_long_text_is_cut_to_what_the_service_takes() {
    for (endpoint, text_max) in [
        ("https://fcm.googleapis.com/a", TEXT_MAX),
        ("https://updates.push.services.mozilla.com/a", MOZILLA_TEXT_MAX),
    ] {
        let push = Push { body: Some("泵".repeat(3000)), ..alert(&subscription(endpoint)) };
        let request = credential().request(&push, None, NOW_MS).unwrap();
        let overhead = 16 + 4 + 1 + 65 + 1 + 16;
        assert!(request.body().len() <= text_max + overhead && request.body().len() > text_max, "{endpoint}");
    }
}

#[test]
fn a_device_token_is_a_whole_subscription() {
    for token in
        ["T0", "{}", r#"{"endpoint":"https://fcm.googleapis.com/a","keys":{"p256dh":"AAAA","auth":"AAAA"}}"#]
    {
        assert!(
            matches!(credential().request(&alert(token), None, NOW_MS), Err(CannotSend::Token(_))),
            "{token}"
        );
    }
}

#[test]
fn the_text_names_the_message_and_the_place_in_the_tray() {
    let push = Push {
        badge: Some(2),
        overrides: json!({"notification": {"requireInteraction": true}, "data": "x"}),
        ..alert("T")
    };
    let text = fit(&push, TEXT_MAX, |parts| text_of(&push, parts)).unwrap().0;
    let shown = json!({"tag": mid(), "title": "泵 7", "body": "压力 9.1 bar", "badge": 2, "requireInteraction": true});
    assert_eq!(text, json!({"notification": shown, "data": {"mid": mid()}}));
}

#[test]
fn every_answer_has_its_verdict() {
    check_verdicts(
        &credential(),
        &[
            (201, Value::Null, "accepted"),
            (200, Value::Null, "accepted"),
            (202, Value::Null, "accepted"),
            (301, Value::Null, "retry"),
            (400, json!({"errno": 111, "message": "bad TTL"}), "payload_rejected"),
            (400, json!({"errno": 103}), "token_dead"),
            (401, Value::Null, "config_error"),
            (403, Value::Null, "config_error"),
            (404, json!({"code": 404, "errno": 102}), "token_dead"),
            (410, json!({"code": 410, "errno": 106}), "token_dead"),
            (413, Value::Null, "payload_rejected"),
            (429, Value::Null, "throttled"),
            (500, Value::Null, "retry"),
            (502, Value::Null, "retry"),
            (503, Value::Null, "retry"),
        ],
    );
}

#[test]
fn a_key_that_is_none_is_named_and_none_is_shown() {
    let wrong = WebPushCredential { private_key: Secret::new("key"), ..credential() };
    assert_eq!(wrong.validate().unwrap_err().field, "private_key");
    let wrong = WebPushCredential { subject: "push@shop.example".to_owned(), ..credential() };
    assert_eq!(wrong.validate().unwrap_err().field, "subject");
    assert!(!format!("{:?} {}", credential(), credential().summary()).contains("BEGIN"));
}

/// The token of RFC 8292 section 2.4: what ours must look like.
#[test]
fn our_authorization_has_the_form_of_the_standards_example() {
    const EXAMPLE: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJodHRwczovL3B1c2guZXhhbXBsZS5uZXQiLCJleHAiOjE0NTM1MjM3NjgsInN1YiI6Im1haWx0bzpwdXNoQGV4YW1wbGUuY29tIn0";
    let part = |token: &str, at: usize| {
        let text = token.split('.').nth(at).unwrap();
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text).unwrap();
        serde_json::from_slice::<Value>(&bytes).unwrap()
    };
    let web_push = WebPushCredential { subject: "mailto:push@example.com".to_owned(), ..credential() };
    let now_ms = (1_453_523_768 - VAPID_LIFE_S) * 1000;
    let header = web_push.vapid("https://push.example.net", now_ms).unwrap();
    let token = header.strip_prefix("vapid t=").unwrap().split_once(", k=").unwrap().0;
    assert_eq!((part(token, 0), part(token, 1)), (part(EXAMPLE, 0), part(EXAMPLE, 1)));
}

#[test]
fn every_part_of_a_message_has_its_place() {
    let push = Push {
        click: Some("https://shop.example/7".to_owned()),
        overrides: json!({"notification": {"title": "own"}}),
        ..full(&subscription("https://fcm.googleapis.com/fcm/send/abc"))
    };
    let (sent, _) = fit(&push, TEXT_MAX, |parts| text_of(&push, parts)).unwrap();
    check_places(
        &sent,
        &[
            ("overrides", "/notification/title", json!("own")),
            ("body", "/notification/body", json!("压力 9.1 bar")),
            ("data", "/data", json!({"order": 7, "mid": mid()})),
            ("image", "/notification/image", json!("https://i.example/p.png")),
            ("sound", "/notification/sound", json!("alarm.caf")),
            ("badge", "/notification/badge", json!(3)),
            ("channel", "/notification/channel", json!("line-b")),
            ("category", "/notification/category", json!("SUBSCRIPTION")),
            ("click", "/notification/click", json!("https://shop.example/7")),
            ("collapse key", "/notification/tag", json!("pump7")),
        ],
    );
}

#[test]
fn a_message_is_removed_by_its_name_at_its_own_service_only() {
    let of = |name: Option<&str>| Push {
        is_recall: true,
        vendor_id: name.map(str::to_owned),
        ..alert(&subscription("https://updates.push.services.mozilla.com/wpush/v2/abc"))
    };
    let ask = |name| credential().recall(&of(name), None, NOW_MS);
    for name in ["https://updates.push.services.mozilla.com/m/x", "/m/x"] {
        let request = ask(Some(name)).unwrap();
        assert_eq!(request.method(), "DELETE");
        assert_eq!(request.uri(), "https://updates.push.services.mozilla.com/m/x");
        assert!(request.headers().is_empty() && request.body().is_empty(), "the name is the proof");
    }
    for name in [
        None,
        Some("https://fcm.googleapis.com/m/x"), // another service, though a known one
        Some("https://evil.example/m/x"),
        Some("http://updates.push.services.mozilla.com/m/x"),
        Some("https://updates.push.services.mozilla.com@evil.example/m/x"),
        Some("m/x"),
    ] {
        assert!(matches!(ask(name), Err(CannotSend::Payload(_))), "{name:?}");
    }
    for (status, wanted) in [
        (204, "accepted"),
        (404, "filtered"),
        (410, "filtered"),
        (429, "throttled"),
        (503, "retry"),
        (401, "payload_rejected"),
        (405, "payload_rejected"),
        (501, "payload_rejected"),
    ] {
        let answer = Answer { status, ..Answer::default() };
        assert_eq!(credential().recall_verdict(&answer, NOW_MS).name(), wanted, "{status}");
    }
}

#[test]
fn a_long_name_is_kept_whole_or_not_at_all() {
    let named = |length: usize| {
        let headers = HeaderMap::from_iter([(http::header::LOCATION, "a".repeat(length).parse().unwrap())]);
        match credential().verdict(&Answer { status: 201, headers, ..Answer::default() }, NOW_MS) {
            Verdict::Accepted { vendor_id } => vendor_id.map(|name| name.len()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((named(700), named(NAME_MAX), named(NAME_MAX + 1)), (Some(700), Some(NAME_MAX), None));
}
