//! Tests of HONOR's request and answers.

use super::*;
use crate::vendor::Credential;
use crate::vendor::testing::{
    NOW_MS, alert, batch, check_codes, check_places, check_secret, check_verdicts, full, header, json,
    json as body, mid, receipts, row, told, verdict, verdicts,
};

fn credential() -> HonorCredential {
    let credential = json!({"vendor": "honor", "app_id": "900001", "client_id": "c1", "client_secret": "s3cret", "receipt_secret": "a-secret-in-the-url", "badge_class": "a.Main"});
    let Ok(Credential::Honor(honor)) = serde_json::from_value(credential) else { panic!("no credential") };
    honor.validate().unwrap();
    honor
}

#[test]
fn an_alert_is_in_honors_words_with_the_time_in_a_header() {
    let push = Push {
        badge: Some(3),
        priority: crate::vendor::Priority::Low,
        expires_at_ms: Some(NOW_MS + 3_600_000),
        overrides: json!({"token": ["x"], "android": {"notification": {"style": 1}}}),
        ..alert("T0")
    };
    let request = credential().request(&push, Some("access"), NOW_MS).unwrap();
    assert_eq!(request.uri(), "https://push-api.cloud.honor.com/api/v1/900001/sendMessage");
    assert_eq!(header(&request, "timestamp"), NOW_MS.to_string());
    assert_eq!(header(&request, "authorization"), "Bearer access");
    let body = body(&request);
    assert_eq!(body["token"], json!(["T0"]));
    assert_eq!(body["data"], json!({ "mid": mid() }).to_string());
    assert_eq!((&body["android"]["ttl"], &body["android"]["biTag"]), (&json!("3600s"), &json!(mid())));
    let shown = &body["android"]["notification"];
    assert_eq!((&shown["importance"], &shown["style"]), (&json!("LOW"), &json!(1)));
    assert_eq!(shown["badge"], json!({"setNum": 3, "badgeClass": "a.Main"}));
    assert_eq!((&shown["tag"], &shown["clickAction"]), (&json!(mid()), &json!({"type": 3})));
}

#[test]
fn a_data_push_shows_nothing() {
    let request =
        credential().request(&Push { kind: PushKind::Data, ..alert("T0") }, Some("a"), NOW_MS).unwrap();
    assert_eq!(body(&request)["android"]["notification"], Value::Null);
}

#[test]
fn every_code_of_honors_table_has_its_verdict() {
    let honor = credential();
    check_codes(&honor, "code", "accepted", &[200, 80_100_000]);
    check_codes(&honor, "code", "token_dead", &[80_300_007]);
    check_codes(&honor, "code", "login_expired", &[401, 403]);
    check_codes(&honor, "code", "throttled", &[503, 80_200_047]);
    check_codes(&honor, "code", "retry", &[500, 502]);
    check_codes(&honor, "code", "config_error", &[404, 10_205, 10_001, 10_207, 80_200_020, 80_200_022]);
    check_codes(
        &honor,
        "code",
        "payload_rejected",
        &[400, 80_100_003, 80_300_006, 80_300_008, 80_300_010, 80_200_050, 80_200_056, 10_300],
    );
    check_verdicts(
        &honor,
        &[
            (200, json!({"code": 200, "data": {"sendResult": true, "expireTokens": ["T0"]}}), "token_dead"),
            (200, json!({"code": 80_100_000, "data": {"expireTokens": [], "failTokens": ["T0"]}}), "retry"),
            (200, json!({"code": 200, "data": {"sendResult": false}}), "retry"),
            (401, Value::Null, "login_expired"),
            (403, Value::Null, "login_expired"),
            (500, Value::Null, "retry"),
            (503, Value::Null, "throttled"),
        ],
    );
    let accepted =
        verdict(&honor, 200, &json!({"code": 200, "data": {"sendResult": true, "requestId": "r1"}}));
    assert_eq!(accepted, Verdict::Accepted { vendor_id: Some("r1".to_owned()) });
}

#[test]
fn the_login_asks_with_id_and_secret() {
    let Ok(LoginStep::Ask(request)) = credential().login(NOW_MS) else { panic!("no request") };
    assert_eq!(request.uri(), "https://iam.developer.honor.com/auth/token");
    assert_eq!(request.body().as_ref(), b"grant_type=client_credentials&client_id=c1&client_secret=s3cret");
    assert!(!format!("{:?} {}", credential(), credential().summary()).contains("s3cret"));
}

#[test]
fn receipts_are_believed_by_their_secret_and_unknown_numbers_cost_no_token() {
    let statuses = [(40_000_002, "delivered"), (40_000_003, "noted"), (2, "noted")];
    for (number, wanted) in statuses {
        let body = json!({"statuses": [{"biTag": mid(), "token": "T0", "status": number, "timestamp": 7}]})
            .to_string();
        assert_eq!(
            told(&receipts(&credential(), "a-secret-in-the-url", &body).unwrap()),
            [row("T0", wanted)]
        );
        check_secret(&credential(), &body);
    }
}

#[test]
fn a_batch_names_every_token_and_each_gets_its_own_verdict() {
    let request = credential().request(&batch(&["T0", "T1"]), Some("token"), NOW_MS).unwrap();
    assert_eq!(json(&request)["token"], json!(["T0", "T1"]));
    let told = |data: Value| json!({"code": 200, "message": "", "data": data});
    let table = [
        (told(json!({"sendResult": true, "requestId": "r"})), ["accepted", "accepted"]),
        (told(json!({"sendResult": false, "expireTokens": ["T1"]})), ["accepted", "token_dead"]),
        (
            told(json!({"sendResult": false, "failTokens": ["T0"], "expireTokens": ["T1"]})),
            ["retry", "token_dead"],
        ),
        (told(json!({"sendResult": false})), ["retry", "retry"]),
        (json!({"code": 80300007}), ["token_dead", "token_dead"]),
        (json!({"code": 503}), ["throttled", "throttled"]),
    ];
    for (body, wanted) in table {
        assert_eq!(verdicts(&credential(), &["T0", "T1"], &body), wanted, "{body}");
    }
}

#[test]
fn every_part_of_a_message_has_its_place() {
    let push = Push { overrides: json!({"android": {"notification": {"title": "own"}}}), ..full("T0") };
    let sent = body(&credential().request(&push, Some("a"), NOW_MS).unwrap());
    check_places(
        &sent,
        &[
            ("overrides", "/android/notification/title", json!("own")),
            ("body", "/android/notification/body", json!("压力 9.1 bar")),
            ("data", "/data", json!(json!({"order": 7, "mid": mid()}).to_string())),
            ("image", "/android/notification/image", json!("https://i.example/p.png")),
            ("badge", "/android/notification/badge/setNum", json!(3)),
            ("channel", "/android/notification/group", json!("line-b")),
            ("no click", "/android/notification/clickAction/type", json!(3)),
            ("collapse key", "/android/notification/tag", json!("pump7")),
            ("collapse key", "/android/notification/notifyId", json!(super::notify_id(&push))),
            ("expiry", "/android/ttl", json!("3600s")),
            ("priority and category", "/android/notification/importance", json!("NORMAL")),
        ],
    );
}

#[test]
fn importance_follows_priority_and_category() {
    use crate::vendor::Priority;
    for (priority, category, wanted) in [
        (Priority::Low, None, "LOW"),
        (Priority::Normal, None, "NORMAL"),
        (Priority::High, Some("MARKETING"), "LOW"),
        (Priority::High, Some("my-alarm"), "NORMAL"),
    ] {
        let push = Push { priority, category: category.map(str::to_owned), ..alert("T0") };
        let sent = body(&credential().request(&push, Some("a"), NOW_MS).unwrap());
        assert_eq!(sent["android"]["notification"]["importance"], wanted, "{priority:?} {category:?}");
    }
}

#[test]
fn a_click_is_a_web_address_or_an_intent() {
    for (click, wanted) in [
        ("https://shop.example/7", json!({"type": 2, "url": "https://shop.example/7"})),
        ("intent:#Intent;end", json!({"type": 1, "intent": "intent:#Intent;end"})),
    ] {
        let push = Push { click: Some(click.to_owned()), ..alert("T0") };
        let sent = body(&credential().request(&push, Some("a"), NOW_MS).unwrap());
        assert_eq!(sent["android"]["notification"]["clickAction"], wanted);
    }
}
