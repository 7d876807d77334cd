//! Tests of vivo's request and answers.

use super::*;
use crate::vendor::Credential;
use crate::vendor::testing::{
    NOW_MS, alert, batch, check_codes, check_places, check_secret, check_verdicts, full, header, json,
    json as body, mid, receipts, row, told, verdict, verdicts,
};

fn credential() -> VivoCredential {
    let credential = json!({
        "vendor": "vivo", "app_id": 10004, "app_key": "testappkey", "app_secret": "testappsecret", "receipt_secret": "a-secret-in-the-url",
        "category": "DEVICE_REMINDER", "callback": "https://b.example/r/vivo",
    });
    let Ok(Credential::Vivo(vivo)) = serde_json::from_value(credential) else { panic!("no credential") };
    vivo.validate().unwrap();
    vivo
}

/// Our own vector: MD5 of id, key, time and secret, computed with another program.
#[test]
fn the_login_is_signed() {
    let wanted = "ce67b14ce2770ba12a5fea6f826f3231";
    assert_eq!(credential().sign(1_700_000_000_000), wanted);
    let Ok(LoginStep::Ask(request)) = credential().login(NOW_MS) else { panic!("no request") };
    assert_eq!(
        body(&request),
        json!({"appId": 10004, "appKey": "testappkey", "timestamp": NOW_MS, "sign": wanted})
    );
}

#[test]
fn a_login_is_read_and_a_refusal_is_the_operators() {
    let read = |body: Value| {
        credential()
            .read_login(&Answer { status: 200, body: body.to_string().into(), ..Answer::default() }, NOW_MS)
    };
    assert_eq!(read(json!({"result": 0, "authToken": "t1"})).unwrap().token.reveal(), "t1");
    assert_eq!(read(json!({"result": 10206})).unwrap_err().name(), "config_error");
}

#[test]
fn an_alert_carries_class_and_category_together() {
    let mut push = Push {
        expires_at_ms: Some(NOW_MS + 1_000),
        overrides: json!({"regId": "x", "addBadge": true}),
        ..alert("T0")
    };
    push.data.insert("order".to_owned(), 7.into());
    let request = credential().request(&push, Some("token"), NOW_MS).unwrap();
    assert_eq!(request.uri(), "https://api-push.vivo.com.cn/message/send");
    assert_eq!(header(&request, "authToken"), "token");
    let body = body(&request);
    let rows = [
        ("appId", json!(10004)),
        ("regId", json!("T0")),
        ("title", json!("泵 7")),
        ("content", json!("压力 9.1 bar")),
        ("timeToLive", json!(60)),
        ("classification", json!(1)),
        ("category", json!("DEVICE_REMINDER")),
        ("requestId", json!(mid())),
        ("addBadge", json!(true)),
        ("clientCustomMap", json!({"mid": mid(), "order": "7"})),
        ("skipType", json!(1)),
    ];
    for (name, wanted) in rows {
        assert_eq!(body[name], wanted, "{name}");
    }
    assert_eq!(body["extra"]["callback.param"], mid());
    let operational = Push { category: Some("MARKETING".to_owned()), ..alert("T0") };
    let request = credential().request(&operational, Some("t"), NOW_MS).unwrap();
    assert_eq!(
        super::json_body(&Answer { body: request.body().clone(), ..Answer::default() })["classification"],
        0
    );
}

#[test]
fn data_is_not_pushed() {
    let push = Push { kind: PushKind::Data, ..alert("T0") };
    assert!(matches!(credential().request(&push, Some("t"), NOW_MS), Err(CannotSend::Payload(_))));
}

#[test]
fn every_code_of_vivos_table_has_its_verdict() {
    let vivo = credential();
    check_codes(&vivo, "result", "accepted", &[0]);
    check_codes(&vivo, "result", "login_expired", &[10_000]);
    check_codes(&vivo, "result", "token_dead", &[10_302]);
    check_codes(&vivo, "result", "filtered", &[10_311]);
    check_codes(&vivo, "result", "retry", &[10_040]);
    check_codes(&vivo, "result", "throttled", &[10_070, 10_071, 10_072, 10_073, 10_252, 10_254]);
    check_codes(
        &vivo,
        "result",
        "config_error",
        &[
            10_043, 10_045, 10_051, 10_082, 10_094, 10_096, 10_097, 10_200, 10_201, 10_202, 10_203, 10_204,
            10_205, 10_206, 10_207,
        ],
    );
    check_codes(
        &vivo,
        "result",
        "payload_rejected",
        &[
            10_050, 10_054, 10_055, 10_056, 10_057, 10_058, 10_059, 10_060, 10_065, 10_067, 10_095, 10_103,
            10_104, 10_150, 10_151, 10_152, 10_153, 10_154, 10_155, 10_304, 10_305, 10_306, 10_352, 10_353,
            10_800, 10_801,
        ],
    );
    check_verdicts(
        &vivo,
        &[
            (200, json!({"result": 0, "invalidUser": {"userid": "T0", "status": 1}}), "token_dead"),
            (200, json!({"result": 0, "invalidUser": {"userid": "T0", "status": 2}}), "token_dead"),
            (200, json!({"result": 0, "invalidUsers": [{"userid": "T0", "status": "4"}]}), "config_error"),
            (200, json!({"result": 10302, "invalidUser": {"status": 4}}), "config_error"),
            (500, Value::Null, "retry"),
        ],
    );
    let answer = json!({"result": 0, "taskId": "342982"});
    assert_eq!(verdict(&vivo, 200, &answer), Verdict::Accepted { vendor_id: Some("342982".to_owned()) });
}

#[test]
fn an_operational_message_at_night_waits_for_seven_in_china() {
    const HOUR: u64 = 3_600_000;
    let midnight = WallClock::CHINA.next_midnight_ms(NOW_MS);
    for (at, hours) in [(midnight, 7), (midnight + 6 * HOUR, 1), (midnight + 23 * HOUR + HOUR / 2, 8)] {
        let answer =
            Answer { status: 200, body: Bytes::from_static(b"{\"result\":10071}"), ..Answer::default() };
        let Verdict::Throttled { scope: Scope::Token, after: Some(after), .. } =
            credential().verdict(&answer, at)
        else {
            panic!("no wait");
        };
        assert_eq!(after.as_secs().div_ceil(3600), hours, "{at}");
        let just_before = at + after.as_millis() as u64 - 1;
        assert_eq!(WallClock::CHINA.until(MORNING, just_before), Duration::from_millis(1), "{at}");
    }
}

#[test]
fn no_secret_is_shown() {
    assert!(!format!("{:?} {}", credential(), credential().summary()).contains("testappsecret"));
}

#[test]
fn receipts_are_a_map_in_the_older_or_the_newer_form() {
    let rows = [
        (json!({"param": mid(), "targets": "T0"}), "delivered"),
        (json!({"param": mid(), "targets": "T0", "ackType": "0", "ackTime": 7}), "delivered"),
        (json!({"param": mid(), "targets": "T0", "ackType": "2183"}), "token_dead"),
        (json!({"param": mid(), "targets": "T0", "ackType": 20_002}), "token_dead"),
        (json!({"param": mid(), "targets": "T0", "ackType": 101}), "not_shown"),
        (json!({"param": mid(), "targets": "T0", "ackType": 103}), "not_shown"),
        (json!({"param": mid(), "targets": "T0", "ackType": 104}), "not_shown"),
        (json!({"param": mid(), "targets": "T0", "ackType": 2124}), "not_shown"),
        (json!({"param": mid(), "targets": "T0", "ackType": 2144}), "not_shown"),
        (json!({"param": mid(), "targets": "T0", "ackType": 20_006}), "not_shown"),
        (json!({"param": mid(), "targets": "T0", "ackType": 7}), "noted"),
        (json!({"param": mid(), "targets": "T0", "ackType": "?"}), "noted"),
    ];
    for (entry, wanted) in rows {
        let body = json!({ "342982": entry }).to_string();
        let receipts = receipts(&credential(), "a-secret-in-the-url", &body).unwrap();
        assert_eq!(told(&receipts), [row("T0", wanted)], "{body}");
        check_secret(&credential(), &body);
    }
}

#[test]
fn a_batch_is_handed_in_and_then_told_for_whom() {
    let push = batch(&["T0", "T1"]);
    let request = credential().deposit(&push, Some("token"), NOW_MS).unwrap().unwrap();
    assert!(request.uri().path().ends_with("/message/saveListPayload"));
    assert_eq!((json(&request).get("regId"), &json(&request)["title"]), (None, &json!("泵 7")));
    assert!(credential().deposit(&alert("T0"), Some("token"), NOW_MS).unwrap().is_none());
    let read = |body: Value| {
        let answer = Answer { status: 200, body: body.to_string().into(), ..Answer::default() };
        credential().read_deposit(&answer, NOW_MS)
    };
    assert_eq!(read(json!({"result": 0, "taskId": 7})).unwrap(), "7");
    assert_eq!(read(json!({"result": 0})).unwrap_err().name(), "retry");
    assert_eq!(read(json!({"result": 10252})).unwrap_err().name(), "throttled");

    let push = Push { deposited_as: Some("7".to_owned()), ..push };
    let request = credential().request(&push, Some("token"), NOW_MS).unwrap();
    assert!(request.uri().path().ends_with("/message/pushToList"));
    let body = json(&request);
    assert_eq!((&body["regIds"], &body["taskId"]), (&json!(["T0", "T1"]), &json!("7")));
    let other = Push { others: Vec::new(), token: push.others[0].clone(), ..push.clone() };
    let other = Push { others: vec![push.token.clone()], ..other };
    let other = json(&credential().request(&other, Some("token"), NOW_MS).unwrap());
    assert_ne!(body["requestId"], other["requestId"], "two lists are two requests");
    assert!(body["requestId"].as_str().unwrap().len() <= 64);
}

#[test]
fn of_a_list_each_token_gets_its_own_verdict() {
    let table = [
        (json!({"result": 0}), ["accepted", "accepted"]),
        (json!({"result": 0, "invalidUsers": [{"userid": "T1", "status": 2}]}), ["accepted", "token_dead"]),
        (json!({"result": 0, "invalidUsers": [{"userid": "T0", "status": 4}]}), ["config_error", "accepted"]),
        (json!({"result": 10302}), ["send_alone", "send_alone"]),
        (json!({"result": 10155}), ["retry", "retry"]),
        (json!({"result": 10073}), ["throttled", "throttled"]),
    ];
    for (body, wanted) in table {
        assert_eq!(verdicts(&credential(), &["T0", "T1"], &body), wanted, "{body}");
    }
}

#[test]
fn every_part_of_a_message_has_its_place() {
    let push = Push { overrides: json!({"title": "own", "clientCustomMap": {"mid": null}}), ..full("T0") };
    let with_badge = VivoCredential { adds_badge: true, ..credential() };
    let sent = body(&with_badge.request(&push, Some("t"), NOW_MS).unwrap());
    check_places(
        &sent,
        &[
            ("overrides", "/title", json!("own")),
            ("body", "/content", json!("压力 9.1 bar")),
            ("data", "/clientCustomMap", json!({"order": "7", "mid": mid()})),
            ("badge", "/addBadge", json!(true)),
            ("category", "/category", json!("SUBSCRIPTION")),
            ("category", "/classification", json!(1)),
            ("priority", "/notifyType", json!(4)),
            ("no click", "/skipType", json!(1)),
            ("collapse key", "/notifyId", json!(super::notify_id(&push))),
            ("expiry", "/timeToLive", json!(3600)),
        ],
    );
    let plain = body(&credential().request(&full("T0"), Some("t"), NOW_MS).unwrap());
    assert_eq!(plain["addBadge"], Value::Null, "only where the credential says so");
    let quiet = Push { priority: crate::vendor::Priority::Low, ..alert("T0") };
    assert_eq!(body(&credential().request(&quiet, Some("t"), NOW_MS).unwrap())["notifyType"], 1);
}

#[test]
fn class_and_category_always_agree() {
    let bare = VivoCredential { category: None, ..credential() };
    for (credential, given, category, class) in [
        (&credential(), Some("my-alarm"), json!("DEVICE_REMINDER"), 1),
        (&credential(), Some("NEWS"), json!("NEWS"), 0),
        (&bare, Some("my-alarm"), Value::Null, 0),
        (&bare, None, Value::Null, 0),
    ] {
        let push = Push { category: given.map(str::to_owned), ..alert("T0") };
        let sent = body(&credential.request(&push, Some("t"), NOW_MS).unwrap());
        assert_eq!((&sent["category"], &sent["classification"]), (&category, &json!(class)), "{given:?}");
    }
}

#[test]
fn a_click_opens_a_web_address_or_a_page() {
    for (click, kind) in [("https://shop.example/7", 2), ("com.example.Order", 4)] {
        let push = Push { click: Some(click.to_owned()), ..alert("T0") };
        let sent = body(&credential().request(&push, Some("t"), NOW_MS).unwrap());
        assert_eq!((&sent["skipType"], &sent["skipContent"]), (&json!(kind), &json!(click)));
    }
}
