//! Tests of Huawei's request and answers.

use super::*;
use crate::vendor::Credential;
use crate::vendor::shorten::Shortened;
use crate::vendor::testing::{
    NOW_MS, alert, batch, check_codes, check_places, check_verdicts, full, header, json, json as body, mid,
    row, told, verdict, verdicts,
};

fn credential() -> HuaweiCredential {
    let credential = json!({
        "vendor": "huawei", "app_id": "101", "app_secret": "s3cret", "category": "WORK", "badge_class": "a.Main",
    });
    let Ok(Credential::Huawei(huawei)) = serde_json::from_value(credential) else { panic!("no credential") };
    huawei.validate().unwrap();
    huawei
}

#[test]
fn an_alert_carries_everything_and_replaces_its_twin() {
    let push = Push {
        badge: Some(120),
        channel: Some("alarm".to_owned()),
        sound: Some("alarm".to_owned()),
        collapse_key: Some("pump7".to_owned()),
        expires_at_ms: Some(NOW_MS + 3_600_000),
        overrides: json!({"android": {"urgency": "HIGH"}, "token": ["other"], "topic": "all"}),
        ..alert("T0")
    };
    let request = credential().request(&push, Some("access"), NOW_MS).unwrap();
    assert_eq!(request.uri(), "https://push-api.cloud.huawei.com/v1/101/messages:send");
    assert_eq!(header(&request, "authorization"), "Bearer access");
    let message = &body(&request)["message"];
    assert_eq!(message["token"], json!(["T0"]), "an override sends it nowhere else");
    assert_eq!(message["topic"], Value::Null);
    assert_eq!(message["data"], json!({ "mid": mid() }).to_string());
    let android = &message["android"];
    assert_eq!(android["urgency"], "HIGH");
    assert_eq!(
        (&android["ttl"], &android["category"], &android["bi_tag"]),
        (&json!("3600s"), &json!("WORK"), &json!(mid()))
    );
    let shown = &android["notification"];
    assert_eq!(
        (&shown["title"], &shown["body"], &shown["tag"]),
        (&json!("泵 7"), &json!("压力 9.1 bar"), &json!("pump7"))
    );
    assert_eq!(
        (&shown["channel_id"], &shown["badge"]),
        (&json!("alarm"), &json!({"set_num": 99, "class": "a.Main"}))
    );
    let again = credential().request(&push, Some("access"), NOW_MS + 1).unwrap();
    assert_eq!(body(&again)["message"]["android"]["notification"]["notify_id"], shown["notify_id"]);
}

#[test]
fn a_data_push_shows_nothing() {
    let push = Push { kind: PushKind::Data, ..alert("T0") };
    let message = body(&credential().request(&push, Some("a"), NOW_MS).unwrap())["message"].clone();
    assert_eq!(message["android"]["notification"], Value::Null);
    let data: Value = serde_json::from_str(message["data"].as_str().unwrap()).unwrap();
    assert_eq!(data, json!({"mid": mid(), "title": "泵 7", "body": "压力 9.1 bar"}));
}

#[test]
fn a_click_is_a_web_address_or_an_intent() {
    for (click, wanted) in [
        ("https://shop.example/7", json!({"type": 2, "url": "https://shop.example/7"})),
        ("intent:#Intent;end", json!({"type": 1, "intent": "intent:#Intent;end"})),
    ] {
        let push = Push { click: Some(click.to_owned()), ..alert("T0") };
        let request = credential().request(&push, Some("a"), NOW_MS).unwrap();
        assert_eq!(body(&request)["message"]["android"]["notification"]["click_action"], wanted);
    }
}

#[test]
fn what_does_not_fit_is_cut_and_what_has_expired_is_not_sent() {
    let push = Push { body: Some("泵".repeat(3000)), ..alert("T0") };
    let request = credential().request(&push, Some("a"), NOW_MS).unwrap();
    assert_eq!(request.extensions().get::<Shortened>(), Some(&Shortened::Body));
    assert!(body(&request)["message"].to_string().len() <= MESSAGE_MAX + "\"token\":[\"T0\"],".len());
    let push = Push { expires_at_ms: Some(NOW_MS), ..alert("T0") };
    assert_eq!(
        credential().request(&push, Some("a"), NOW_MS).unwrap_err(),
        CannotSend::Payload("push has expired")
    );
}

#[test]
fn every_code_of_huaweis_table_has_its_verdict() {
    let huawei = credential();
    check_codes(&huawei, "code", "accepted", &[80_000_000]);
    check_codes(
        &huawei,
        "code",
        "payload_rejected",
        &[
            80_100_001, 80_100_002, 80_100_003, 80_100_004, 80_100_013, 80_100_016, 80_100_018, 80_100_022,
            80_300_008, 80_300_010,
        ],
    );
    check_codes(&huawei, "code", "throttled", &[80_100_017, 80_300_029, 80_300_030]);
    check_codes(&huawei, "code", "login_expired", &[80_200_001, 80_200_003, 80_200_005]);
    check_codes(&huawei, "code", "token_mismatch", &[80_300_002]);
    check_codes(&huawei, "code", "token_dead", &[80_300_007]);
    check_codes(&huawei, "code", "config_error", &[80_300_011, 80_300_013, 80_300_036, 80_300_037]);
    check_codes(&huawei, "code", "retry", &[80_600_003, 81_000_001]);
    check_verdicts(
        &huawei,
        &[
            (400, Value::Null, "payload_rejected"),
            (401, Value::Null, "login_expired"),
            (404, Value::Null, "config_error"),
            (500, Value::Null, "retry"),
            (502, Value::Null, "retry"),
            (503, Value::Null, "throttled"),
            (200, json!("no object"), "retry"),
        ],
    );
    let accepted = verdict(&huawei, 200, &json!({"code": "80000000", "requestId": "157"}));
    assert_eq!(accepted, Verdict::Accepted { vendor_id: Some("157".to_owned()) });
}

#[test]
fn the_text_of_80100000_says_what_is_wrong_with_the_one_token() {
    let rows = [
        (json!({"success": 0, "failure": 1, "illegal_tokens": ["T0"]}), "token_dead"),
        (json!({"illegalTokens": {"tokenFormatError": ["T0"]}, "success": 0}), "token_dead"),
        (json!({"illegalTokens": {"noRight": ["T0"]}}), "token_dead"),
        (json!({"illegalTokens": {"noPushTypeRight": ["T0"]}}), "config_error"),
        (json!({"illegalTokens": {"disableSendHuaweiMsgBecauseOfPenalty": ["T0"]}}), "config_error"),
        (json!({"illegalTokens": {"countryNotSupport": ["T0"]}}), "filtered"),
        (json!({"illegal_tokens": []}), "payload_rejected"),
    ];
    for (message, wanted) in rows {
        let answer = json!({"code": "80100000", "msg": message.to_string()});
        assert_eq!(verdict(&credential(), 200, &answer).name(), wanted, "{message}");
    }
    assert_eq!(
        verdict(&credential(), 200, &json!({"code": "80100000", "msg": "?"})).name(),
        "payload_rejected"
    );
}

#[test]
fn the_login_asks_with_id_and_secret_and_reads_escaped_answers() {
    let Ok(LoginStep::Ask(request)) = credential().login(NOW_MS) else { panic!("no request") };
    assert_eq!(request.body().as_ref(), b"grant_type=client_credentials&client_id=101&client_secret=s3cret");
    let answer = Answer {
        status: 200,
        body: Bytes::from_static(br#"{"access_token":"a\/b","expires_in":3600,"token_type":"Bearer"}"#),
        ..Answer::default()
    };
    let login = credential().read_login(&answer, NOW_MS).unwrap();
    assert_eq!(login.token.reveal(), "a/b");
    assert_eq!(login.renew_at_ms, NOW_MS + 3_300_000);
}

#[test]
fn a_wrong_credential_is_named_and_no_secret_shown() {
    let wrong = HuaweiCredential { app_id: "my app".to_owned(), ..credential() };
    assert_eq!(wrong.validate().unwrap_err().field, "app_id");
    let wrong = HuaweiCredential { endpoint: Some("http://push.example".to_owned()), ..credential() };
    assert_eq!(wrong.validate().unwrap_err().field, "endpoint");
    assert!(!format!("{:?} {}", credential(), credential().summary()).contains("s3cret"));
}

/// Our own vector for the signature, computed with another program.
#[test]
fn receipts_are_signed_and_say_what_became_of_the_push() {
    let huawei = HuaweiCredential {
        receipt: Some(ReceiptKey { user: "cbuser".to_owned(), key: Secret::new("cbkey") }),
        ..credential()
    };
    let header = |value: &str| {
        let text =
            format!("timestamp=1700000000000; nonce=a07bfa17-6d82-4b53-a9a2-07cfef5ceef1; value={value}");
        http::HeaderMap::from_iter([(http::HeaderName::from_static(CALLBACK_ID), text.parse().unwrap())])
    };
    let good = header("JReVlpSZqvfSDINC20Rp1AEpTb2C8WiXY/zzmx0R/u0=");
    let read = |headers: &http::HeaderMap, body: &str| {
        huawei.receipts(&ReceiptCall { headers, body: body.as_bytes(), query: "", now_ms: NOW_MS })
    };
    let status = |status: i64| json!({"biTag": mid(), "token": "T0", "status": status, "timestamp": 1_700_000_000_000_u64});
    for (number, wanted) in [
        (0, "delivered"),
        (2, "token_dead"),
        (5, "token_dead"),
        (6, "not_shown"),
        (10, "not_shown"),
        (14, "noted"),
        (15, "not_shown"),
        (22, "noted"),
        (27, "noted"),
        (31, "not_shown"),
        (51, "noted"),
        (102, "not_shown"),
        (144, "noted"),
        (201, "not_shown"),
        (256, "not_shown"),
        (999, "noted"),
    ] {
        let receipts = read(&good, &json!({ "statuses": [status(number)] }).to_string()).unwrap();
        assert_eq!(told(&receipts), [row("T0", wanted)], "{number}");
        assert_eq!(receipts[0].at_ms, Some(1_700_000_000_000));
    }
    let v2 = json!({"statuses": [{"biTag": mid(), "token": "T0", "deliveryStatus": {"result": 5, "timestamp": 7}}]});
    assert_eq!(told(&read(&good, &v2.to_string()).unwrap()), [row("T0", "token_dead")]);
    let body = json!({ "statuses": [status(0)] }).to_string();
    for forged in [header("AAAA"), header("?"), http::HeaderMap::new()] {
        assert_eq!(read(&forged, &body), Err(ReceiptRefused::Forged));
    }
    assert_eq!(read(&good, "x"), Err(ReceiptRefused::Malformed));
    let call = ReceiptCall { headers: &good, body: body.as_bytes(), query: "", now_ms: NOW_MS };
    assert_eq!(credential().receipts(&call), Err(ReceiptRefused::NotExpected), "no key, no belief");
}

#[test]
fn a_batch_names_every_token_and_each_gets_its_own_verdict() {
    let request = credential().request(&batch(&["T0", "T1", "T2"]), Some("token"), NOW_MS).unwrap();
    assert_eq!(json(&request)["message"]["token"], json!(["T0", "T1", "T2"]));
    let partly = |listed: Value| json!({"code": "80100000", "msg": listed.to_string(), "requestId": "r"});
    let table = [
        (json!({"code": "80000000"}), ["accepted", "accepted"]),
        (partly(json!({"success": 1, "failure": 1, "illegal_tokens": ["T1"]})), ["accepted", "token_dead"]),
        (partly(json!({"illegalTokens": {"tokenFormatError": ["T0"]}})), ["token_dead", "accepted"]),
        (
            partly(json!({"illegalTokens": {"noRight": ["T0"], "countryNotSupport": ["T1"]}})),
            ["token_dead", "filtered"],
        ),
        (
            partly(json!({"illegalTokens": {"noPushTypeRight": ["T0", "T1"]}})),
            ["config_error", "config_error"],
        ),
        (json!({"code": "80100000", "msg": "some"}), ["send_alone", "send_alone"]),
        (json!({"code": "80300007"}), ["token_dead", "token_dead"]),
        (json!({"code": "80300002"}), ["send_alone", "send_alone"]),
        (json!({"code": "80300008"}), ["payload_rejected", "payload_rejected"]),
        (json!({"code": "80200003"}), ["login_expired", "login_expired"]),
    ];
    for (body, wanted) in table {
        assert_eq!(verdicts(&credential(), &["T0", "T1"], &body), wanted, "{body}");
    }
}

#[test]
fn every_part_of_a_message_has_its_place() {
    let push = Push { overrides: json!({"android": {"notification": {"title": "own"}}}), ..full("T0") };
    let sent = body(&credential().request(&push, Some("a"), NOW_MS).unwrap())["message"].clone();
    let place = super::notify_id(&push);
    check_places(
        &sent,
        &[
            ("overrides", "/android/notification/title", json!("own")),
            ("body", "/android/notification/body", json!("压力 9.1 bar")),
            ("data", "/data", json!(json!({"order": 7, "mid": mid()}).to_string())),
            ("image", "/android/notification/image", json!("https://i.example/p.png")),
            ("sound", "/android/notification/sound", json!("/raw/alarm")),
            ("sound", "/android/notification/default_sound", json!(false)),
            ("badge", "/android/notification/badge/set_num", json!(3)),
            ("channel", "/android/notification/channel_id", json!("line-b")),
            ("category", "/android/category", json!("SUBSCRIPTION")),
            ("no click", "/android/notification/click_action/type", json!(3)),
            ("collapse key", "/android/notification/tag", json!("pump7")),
            ("collapse key", "/android/notification/notify_id", json!(place)),
            ("expiry", "/android/ttl", json!("3600s")),
            ("priority", "/android/notification/importance", json!("NORMAL")),
            ("message id", "/android/bi_tag", json!(mid())),
        ],
    );
}

#[test]
fn a_class_is_one_of_huaweis_and_is_kept_at_every_length() {
    let category = |push: &Push| {
        body(&credential().request(push, Some("a"), NOW_MS).unwrap())["message"]["android"]["category"]
            .clone()
    };
    let alarm = Push { category: Some("my-alarm".to_owned()), ..alert("T0") };
    assert_eq!(category(&alarm), "WORK", "a name of the app's is not sent to be refused");
    let mut long = full("T0");
    long.overrides = json!({"android": {"x": "x".repeat(5_000)}});
    assert_eq!(category(&long), "SUBSCRIPTION");
}

#[test]
fn an_alert_has_both_texts_or_is_not_sent() {
    let push = Push { title: None, ..alert("T0") };
    let sent = body(&credential().request(&push, Some("a"), NOW_MS).unwrap());
    assert_eq!(sent["message"]["android"]["notification"]["title"], "压力 9.1 bar");
    let push = Push { title: None, body: None, ..alert("T0") };
    assert!(matches!(credential().request(&push, Some("a"), NOW_MS), Err(CannotSend::Payload(_))));
}
