//! Tests of OPPO's request and answers.

use super::*;
use crate::vendor::Credential;
use crate::vendor::shorten::Shortened;
use crate::vendor::testing::{
    NOW_MS, alert, batch, check_codes, check_places, check_secret, check_verdicts, form, full, mid, receipts,
    row, told, verdict, verdicts,
};

fn credential() -> OppoCredential {
    let credential = json!({
        "vendor": "oppo", "app_key": "testappkey", "master_secret": "testmastersecret", "channel_id": "alarm", "receipt_secret": "a-secret-in-the-url",
        "category": "DEVICE_REMINDER", "callback": "https://b.example/r/oppo",
    });
    let Ok(Credential::Oppo(oppo)) = serde_json::from_value(credential) else { panic!("no credential") };
    oppo.validate().unwrap();
    oppo
}

fn message_of(push: &Push) -> Value {
    let request = credential().request(push, Some("token"), NOW_MS).unwrap();
    serde_json::from_str(&form(&request)["message"]).unwrap()
}

/// Our own vector: SHA-256 of key, time and secret, computed with another program.
#[test]
fn the_login_is_signed() {
    let wanted = "c9c3b84c4534462de3bec3fc332756992618fc452a7e262c3e44cca16521c83f";
    assert_eq!(credential().sign("1700000000000"), wanted);
    let Ok(LoginStep::Ask(request)) = credential().login(NOW_MS) else { panic!("no request") };
    assert_eq!(request.uri(), "https://api.push.oppomobile.com/server/v1/auth");
    assert_eq!(form(&request)["sign"], wanted);
}

#[test]
fn a_login_is_read_and_a_refusal_is_the_operators() {
    let read = |body: Value| {
        credential()
            .read_login(&Answer { status: 200, body: body.to_string().into(), ..Answer::default() }, NOW_MS)
    };
    let login = read(json!({"code": 0, "data": {"auth_token": "t1", "create_time": NOW_MS}})).unwrap();
    assert_eq!(login.token.reveal(), "t1");
    assert!(login.renew_at_ms < NOW_MS + 24 * 3_600_000);
    assert_eq!(read(json!({"code": 15, "message": "bad sign"})).unwrap_err().name(), "config_error");
    assert_eq!(read(json!({"code": -1})).unwrap_err().name(), "retry");
}

#[test]
fn an_alert_is_json_in_a_form() {
    let push = Push {
        expires_at_ms: Some(NOW_MS + 3_600_000),
        overrides: json!({"sub_title": "Line B"}),
        ..alert("CN_T0")
    };
    let request = credential().request(&push, Some("token"), NOW_MS).unwrap();
    assert_eq!(request.uri(), "https://api.push.oppomobile.com/server/v1/message/notification/unicast");
    assert_eq!(form(&request)["auth_token"], "token");
    let message = message_of(&push);
    assert_eq!((&message["target_type"], &message["target_value"]), (&json!(2), &json!("CN_T0")));
    let shown = &message["notification"];
    let rows = [
        ("app_message_id", json!(mid())),
        ("title", json!("泵 7")),
        ("content", json!("压力 9.1 bar")),
        ("sub_title", json!("Line B")),
        ("style", json!(1)),
        ("off_line_ttl", json!(3600)),
        ("channel_id", json!("alarm")),
        ("category", json!("DEVICE_REMINDER")),
        ("notify_level", json!(2)),
        ("action_parameters", json!(json!({ "mid": mid() }).to_string())),
        ("call_back_parameter", json!(mid())),
    ];
    for (name, wanted) in rows {
        assert_eq!(shown[name], wanted, "{name}");
    }
}

#[test]
fn a_long_text_takes_the_style_that_unfolds_and_a_longer_one_is_cut() {
    let shown = message_of(&Push { body: Some("文".repeat(60)), ..alert("CN_T0") })["notification"].clone();
    assert_eq!((&shown["style"], shown["content"].as_str().unwrap().chars().count()), (&json!(2), 60));
    let push = Push { body: Some("文".repeat(200)), ..alert("CN_T0") };
    let request = credential().request(&push, Some("t"), NOW_MS).unwrap();
    assert_eq!(request.extensions().get::<Shortened>(), Some(&Shortened::Body));
}

#[test]
fn a_click_opens_a_page_or_an_intent() {
    for (click, kind) in [("https://shop.example", 2), ("intent:#Intent;end", 5)] {
        let shown =
            message_of(&Push { click: Some(click.to_owned()), ..alert("CN_T0") })["notification"].clone();
        assert_eq!((&shown["click_action_type"], &shown["click_action_url"]), (&json!(kind), &json!(click)));
    }
}

#[test]
fn the_region_of_a_registration_id_is_in_it() {
    for (token, is_china) in
        [("abc", true), ("CN_abc", true), ("OPPO_CN_abc", true), ("IN_abc", false), ("OPPO_IN_abc", false)]
    {
        let request = credential().request(&alert(token), Some("t"), NOW_MS);
        assert_eq!(request.is_ok(), is_china, "{token}");
        let abroad = OppoCredential { region: Region::Abroad, ..credential() };
        assert_eq!(abroad.request(&alert(token), Some("t"), NOW_MS).is_ok(), !is_china, "{token}");
    }
}

#[test]
fn data_is_not_pushed() {
    let push = Push { kind: PushKind::Data, ..alert("CN_T0") };
    assert!(matches!(credential().request(&push, Some("t"), NOW_MS), Err(CannotSend::Payload(_))));
}

#[test]
fn every_code_of_oppos_table_has_its_verdict() {
    let oppo = credential();
    check_codes(&oppo, "code", "accepted", &[0]);
    check_codes(&oppo, "code", "throttled", &[-2, 13, 55, 69, 33, 34, 42]);
    check_codes(&oppo, "code", "retry", &[-1]);
    check_codes(&oppo, "code", "login_expired", &[11]);
    check_codes(&oppo, "code", "config_error", &[14, 15, 16, 17, 18, 19, 26, 27, 28, 30, 59, 67]);
    check_codes(&oppo, "code", "payload_rejected", &[12, 20, 21, 22, 23, 24, 25, 29, 31, 32, 40, 41, 51]);
    check_codes(&oppo, "code", "token_dead", &[10_000]);
    check_verdicts(&oppo, &[(500, Value::Null, "retry"), (503, Value::Null, "throttled")]);
    let answer = json!({"code": 0, "message": "", "data": {"messageId": "1-1-1-7"}});
    assert_eq!(verdict(&oppo, 200, &answer), Verdict::Accepted { vendor_id: Some("1-1-1-7".to_owned()) });
    assert!(matches!(
        verdict(&oppo, 200, &json!({"code": 33})),
        Verdict::Throttled { scope: Scope::Day, .. }
    ));
}

#[test]
fn no_secret_is_shown() {
    assert!(!format!("{:?} {}", credential(), credential().summary()).contains("testmastersecret"));
}

#[test]
fn receipts_are_a_list_of_events() {
    for (event, wanted) in [
        ("push_arrive", "delivered"),
        ("regid_invalid", "token_dead"),
        ("user_daily_limit", "not_shown"),
        ("app_daily_limit", "noted"),
    ] {
        let body =
            json!([{"messageId": "1", "registrationIds": "T0,T1", "param": mid(), "eventType": event}])
                .to_string();
        let receipts = receipts(&credential(), "a-secret-in-the-url", &body).unwrap();
        assert_eq!(told(&receipts), [row("T0", wanted), row("T1", wanted)], "{event}");
        check_secret(&credential(), &body);
    }
}

#[test]
fn a_batch_repeats_the_message_for_each_token_and_each_gets_its_own_verdict() {
    let request = credential().request(&batch(&["CN_T0", "CN_T1"]), Some("token"), NOW_MS).unwrap();
    assert!(request.uri().path().ends_with("/unicast_batch"));
    let messages: Value = serde_json::from_str(&form(&request)["messages"]).unwrap();
    assert_eq!(
        (&messages[0]["target_value"], &messages[1]["target_value"]),
        (&json!("CN_T0"), &json!("CN_T1"))
    );
    assert_eq!(messages[0]["notification"], messages[1]["notification"]);
    assert_eq!(messages[1]["notification"], message_of(&alert("CN_T0"))["notification"]);
    let told = json!({"code": 0, "data": [
        {"registrationId": "CN_T1", "errorCode": 10000, "errorMessage": "invalid"},
        {"registrationId": "CN_T0", "messageId": "m"},
    ]});
    assert_eq!(
        verdicts(&credential(), &["CN_T0", "CN_T1", "CN_T2"], &told),
        ["accepted", "token_dead", "retry"]
    );
    assert_eq!(
        verdicts(&credential(), &["CN_T0", "CN_T1"], &json!({"code": 11})),
        ["login_expired", "login_expired"]
    );
    assert!(credential().request(&batch(&["CN_T0", "US_T1"]), Some("token"), NOW_MS).is_err());
}

#[test]
fn the_feed_is_asked_with_the_login_and_read_in_any_form() {
    let request = credential().feed_request(Some("a+b")).unwrap();
    let wanted =
        "https://feedback.push.oppomobile.com/server/v1/feedback/fetch_invalid_regidList?auth_token=a%2Bb";
    assert_eq!(request.uri(), wanted);
    let abroad = OppoCredential { region: Region::Abroad, ..credential() };
    assert!(credential().has_feed() && !abroad.has_feed());
    let read = |status, body: Value| {
        credential().read_feed(&Answer { status, body: body.to_string().into(), ..Answer::default() }, NOW_MS)
    };
    for (data, wanted) in [
        (json!({"registration_ids": ["CN_1", "CN_2"]}), vec!["CN_1", "CN_2"]),
        (json!(["CN_1"]), vec!["CN_1"]),
        (json!({"registration_ids": []}), vec![]),
        (Value::Null, vec![]),
    ] {
        assert_eq!(read(200, json!({"code": 0, "data": data})).unwrap(), wanted);
    }
    for (status, body, wanted) in [
        (200, json!({"code": 11}), "login_expired"),
        (200, json!({"code": -2}), "throttled"),
        (503, Value::Null, "throttled"),
        (200, Value::Null, "retry"),
    ] {
        assert_eq!(read(status, body).unwrap_err().name(), wanted);
    }
    let wrong = OppoCredential { feed_endpoint: Some("ftp://x".to_owned()), ..credential() };
    assert_eq!(wrong.validate().unwrap_err().field, "feed_endpoint");
}

#[test]
fn every_part_of_a_message_has_its_place() {
    let push = Push { overrides: json!({"title": "own", "action_parameters": "{}"}), ..full("CN_T0") };
    check_places(
        &message_of(&push)["notification"],
        &[
            ("overrides", "/title", json!("own")),
            ("body", "/content", json!("压力 9.1 bar")),
            ("data", "/action_parameters", json!(json!({"order": 7, "mid": mid()}).to_string())),
            ("channel", "/channel_id", json!("line-b")),
            ("category", "/category", json!("SUBSCRIPTION")),
            ("priority", "/notify_level", json!(2)),
            ("no click", "/click_action_type", json!(0)),
            ("collapse key", "/notify_id", json!(super::notify_id(&push))),
            ("expiry", "/off_line_ttl", json!(3600)),
        ],
    );
    let alarm = Push { category: Some("my-alarm".to_owned()), ..alert("CN_T0") };
    assert_eq!(message_of(&alarm)["notification"]["category"], "DEVICE_REMINDER", "the credential's");
}

#[test]
fn the_level_follows_the_priority_and_never_goes_without_a_category() {
    let banner = OppoCredential { high_level: Some(16), ..credential() };
    let bare = OppoCredential { category: None, ..credential() };
    for (credential, priority, wanted) in [
        (&credential(), Priority::Low, json!(1)),
        (&credential(), Priority::High, json!(2)),
        (&banner, Priority::Normal, json!(2)),
        (&banner, Priority::High, json!(16)),
        (&bare, Priority::High, Value::Null),
    ] {
        let (shown, ..) = credential.notification(&Push { priority, ..alert("CN_T0") }, None).unwrap();
        assert_eq!(shown.get("notify_level").unwrap_or(&Value::Null), &wanted, "{priority:?}");
    }
    let wrong = OppoCredential { high_level: Some(3), ..credential() };
    assert_eq!(wrong.validate().unwrap_err().field, "high_level");
}

#[test]
fn an_alert_without_a_channel_is_not_sent() {
    let bare = OppoCredential { channel_id: None, ..credential() };
    let overridden = Push { overrides: json!({"channel_id": "alarm"}), ..alert("CN_T0") };
    for (push, is_sent) in [(alert("CN_T0"), false), (full("CN_T0"), true), (overridden, true)] {
        let request = bare.request(&push, Some("t"), NOW_MS);
        assert_eq!(request.is_ok(), is_sent, "{push:?}");
        assert!(is_sent || matches!(request, Err(CannotSend::Payload(_))));
    }
}
