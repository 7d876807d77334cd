//! Tests of the webhook's request and answers.

use super::*;
use crate::vendor::Credential;
use crate::vendor::testing::{
    NOW_MS, alert, check_places, check_verdicts, full, header, json as body, mid, row, told, verdict,
};

fn credential() -> WebhookCredential {
    let credential =
        json!({"vendor": "webhook", "url": "https://sms.example/send", "secret": "0123456789abcdef"});
    let Ok(Credential::Webhook(webhook)) = serde_json::from_value(credential) else {
        panic!("no credential")
    };
    webhook.validate().unwrap();
    webhook
}

#[test]
fn the_receiver_can_check_who_sent_it_and_when() {
    let push = Push {
        overrides: json!({"to": "other", "template": "t1"}),
        expires_at_ms: Some(NOW_MS + 1),
        ..alert("+8613800000000")
    };
    let request = credential().request(&push, None, NOW_MS).unwrap();
    assert_eq!(
        (request.uri().to_string().as_str(), header(&request, "idempotency-key")),
        ("https://sms.example/send", mid().as_str())
    );
    let (timestamp, nonce) = (header(&request, "x-push-timestamp"), header(&request, "x-push-nonce"));
    assert_eq!((timestamp, nonce.len()), (NOW_MS.to_string().as_str(), 32));
    let signed = format!("{timestamp}.{nonce}.{}", std::str::from_utf8(request.body()).unwrap());
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef");
    assert_eq!(
        header(&request, "x-push-signature"),
        format!("v1={}", hex(hmac::sign(&key, signed.as_bytes()).as_ref()))
    );
    let body = body(&request);
    assert_eq!(
        (&body["to"], &body["template"], &body["id"]),
        (&json!("+8613800000000"), &json!("t1"), &json!(mid()))
    );
    assert_eq!((&body["title"], &body["data"]["mid"]), (&json!("泵 7"), &json!(mid())));
    let later = credential().request(&push, None, NOW_MS - 1).unwrap();
    assert_ne!(header(&later, "x-push-nonce"), nonce, "a nonce is used once");
}

#[test]
fn every_answer_has_its_verdict() {
    check_verdicts(
        &credential(),
        &[
            (200, Value::Null, "accepted"),
            (202, Value::Null, "accepted"),
            (301, Value::Null, "retry"),
            (400, Value::Null, "payload_rejected"),
            (401, Value::Null, "config_error"),
            (403, Value::Null, "config_error"),
            (404, Value::Null, "token_dead"),
            (408, Value::Null, "retry"),
            (410, Value::Null, "token_dead"),
            (425, Value::Null, "retry"),
            (429, Value::Null, "throttled"),
            (500, Value::Null, "retry"),
            (503, Value::Null, "retry"),
        ],
    );
    let accepted = verdict(&credential(), 202, &json!({"id": "sms-7"}));
    assert_eq!(accepted, Verdict::Accepted { vendor_id: Some("sms-7".to_owned()) });
}

#[test]
fn a_short_secret_is_refused_and_none_shown() {
    let wrong = WebhookCredential { secret: Secret::new("short"), ..credential() };
    assert_eq!(wrong.validate().unwrap_err().field, "secret");
    assert!(!format!("{:?} {}", credential(), credential().summary()).contains("0123456789abcdef"));
}

#[test]
fn receipts_are_signed_like_requests_and_not_older_than_five_minutes() {
    let webhook = credential();
    let call = |timestamp: u64, secret: &str, body: &str| {
        let signer = WebhookCredential { secret: Secret::new(secret), ..credential() };
        let signature = format!("v1={}", signature(&signer.secret, &[&timestamp.to_string(), "n1", body]));
        let headers = http::HeaderMap::from_iter([
            (HeaderName::from_static("x-push-timestamp"), HeaderValue::from(timestamp)),
            (HeaderName::from_static("x-push-nonce"), HeaderValue::from_static("n1")),
            (HeaderName::from_static("x-push-signature"), HeaderValue::from_str(&signature).unwrap()),
        ]);
        webhook.receipts(&ReceiptCall { headers: &headers, body: body.as_bytes(), query: "", now_ms: NOW_MS })
    };
    let secret = "0123456789abcdef";
    for (event, wanted) in [
        ("delivered", "delivered"),
        ("clicked", "clicked"),
        ("token_dead", "token_dead"),
        ("not_shown", "not_shown"),
        ("else", "noted"),
    ] {
        let body = json!([{"id": mid(), "to": "+86", "event": event, "reason": "r", "at_ms": 7}]).to_string();
        assert_eq!(told(&call(NOW_MS, secret, &body).unwrap()), [row("+86", wanted)]);
    }
    assert!(call(NOW_MS - SKEW_MAX_MS, secret, "[]").is_ok());
    assert_eq!(call(NOW_MS - SKEW_MAX_MS - 1, secret, "[]"), Err(ReceiptRefused::Forged));
    assert_eq!(call(NOW_MS, "another-secret-of-16", "[]"), Err(ReceiptRefused::Forged));
    assert_eq!(call(NOW_MS, secret, "{}"), Err(ReceiptRefused::Malformed));
}

#[test]
fn every_part_of_a_message_has_its_place() {
    let push = Push {
        click: Some("https://shop.example/7".to_owned()),
        overrides: json!({"title": "own", "data": {"mid": "x"}, "id": "x"}),
        ..full("+8613800000000")
    };
    let sent = body(&credential().request(&push, None, NOW_MS).unwrap());
    check_places(
        &sent,
        &[
            ("overrides", "/title", json!("own")),
            ("body", "/body", json!("压力 9.1 bar")),
            ("data", "/data", json!({"order": 7, "mid": mid()})),
            ("image", "/image", json!("https://i.example/p.png")),
            ("sound", "/sound", json!("alarm.caf")),
            ("badge", "/badge", json!(3)),
            ("channel", "/channel", json!("line-b")),
            ("category", "/category", json!("SUBSCRIPTION")),
            ("click", "/click", json!("https://shop.example/7")),
            ("collapse key", "/collapse_key", json!("pump7")),
            ("expiry", "/expires_at_ms", json!(NOW_MS + 3_600_000)),
            ("priority", "/priority", json!("high")),
        ],
    );
}
