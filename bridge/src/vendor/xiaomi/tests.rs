//! Tests of Xiaomi's request and answers.

use super::*;
use crate::vendor::Credential;
use crate::vendor::shorten::Shortened;
use crate::vendor::testing::{
    NOW_MS, alert, batch, check_codes, check_places, check_secret, check_verdicts, form, full, header, mid,
    receipts, row, told, verdict, verdicts,
};
use serde_json::json;

fn credential() -> XiaomiCredential {
    let credential = json!({
        "vendor": "xiaomi", "app_secret": "s3cret", "package": "com.example.app", "channel_id": "131234", "receipt_secret": "a-secret-in-the-url",
        "callback": "https://b.example/r/mi",
    });
    let Ok(Credential::Xiaomi(xiaomi)) = serde_json::from_value(credential) else { panic!("no credential") };
    xiaomi.validate().unwrap();
    xiaomi
}

#[test]
fn an_alert_is_a_form_with_the_secret_in_a_header() {
    let push = Push {
        expires_at_ms: Some(NOW_MS + 3_600_000),
        overrides: json!({"extra.notify_foreground": 0, "registration_id": "other", "notify_type": null}),
        ..alert("T0")
    };
    let request = credential().request(&push, None, NOW_MS).unwrap();
    assert_eq!(request.uri(), "https://api.xmpush.xiaomi.com/v3/message/regid");
    assert_eq!(header(&request, "authorization"), "key=s3cret");
    let form = form(&request);
    let rows = [
        ("registration_id", "T0"),
        ("restricted_package_name", "com.example.app"),
        ("pass_through", "0"),
        ("title", "泵 7"),
        ("description", "压力 9.1 bar"),
        ("time_to_live", "3600000"),
        ("extra.channel_id", "131234"),
        ("extra.callback.type", "243"),
        ("extra.callback.param", &mid()),
        ("extra.notify_foreground", "0"),
    ];
    for (name, wanted) in rows {
        assert_eq!(form.get(name).map(String::as_str), Some(wanted), "{name}");
    }
    assert_eq!(form.get("notify_type"), None, "an override of null removes");
    let jobkey = &form["extra.jobkey"];
    assert!(
        (1..=20).contains(&jobkey.len()) && jobkey.bytes().all(|b| b.is_ascii_alphanumeric()),
        "{jobkey}"
    );
    assert_eq!(serde_json::from_str::<Value>(&form["payload"]).unwrap(), json!({ "mid": mid() }));
}

#[test]
fn texts_and_data_are_cut_to_xiaomis_bounds() {
    let push = Push { title: Some("题".repeat(60)), body: Some("文".repeat(300)), ..alert("T0") };
    let request = credential().request(&push, None, NOW_MS).unwrap();
    let fields = form(&request);
    assert_eq!(
        (fields["title"].chars().count(), fields["description"].chars().count()),
        (TITLE_MAX, DESCRIPTION_MAX)
    );
    assert_eq!(request.extensions().get::<Shortened>(), Some(&Shortened::Body));
    let mut push = alert("T0");
    push.data.insert("large".to_owned(), "x".repeat(5000).into());
    let request = credential().request(&push, None, NOW_MS).unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&form(&request)["payload"]).unwrap(),
        json!({"mid": mid(), "cut": "1"})
    );
    assert_eq!(request.extensions().get::<Shortened>(), Some(&Shortened::Data));
}

#[test]
fn an_alert_without_a_text_is_not_sent_and_one_text_serves_as_both() {
    let push = Push { title: None, body: Some(" ".to_owned()), ..alert("T0") };
    assert!(matches!(credential().request(&push, None, NOW_MS), Err(CannotSend::Payload(_))));
    let push = Push { title: None, ..alert("T0") };
    let form = form(&credential().request(&push, None, NOW_MS).unwrap());
    assert_eq!((form["title"].as_str(), form["description"].as_str()), ("压力 9.1 bar", "压力 9.1 bar"));
}

#[test]
fn a_data_push_passes_through() {
    let fields =
        form(&credential().request(&Push { kind: PushKind::Data, ..alert("T0") }, None, NOW_MS).unwrap());
    assert_eq!((fields["pass_through"].as_str(), fields.get("title")), ("1", None));
}

#[test]
fn every_region_has_its_host() {
    for (region, host) in [
        ("global", "api.xmpush.global.xiaomi.com"),
        ("russia", "ru-api.xmpush.global.xiaomi.com"),
        ("india", "idmb-api.xmpush.global.xiaomi.com"),
        ("europe", "fr-api.xmpush.global.xiaomi.com"),
        ("singapore", "sgp-api.xmpush.global.xiaomi.com"),
    ] {
        let region = serde_json::from_value(json!(region)).unwrap();
        let request =
            XiaomiCredential { region, ..credential() }.request(&alert("T0"), None, NOW_MS).unwrap();
        assert_eq!(request.uri().host(), Some(host));
    }
}

#[test]
fn every_code_of_xiaomis_table_has_its_verdict() {
    let xiaomi = credential();
    check_codes(&xiaomi, "code", "accepted", &[0]);
    check_codes(&xiaomi, "code", "retry", &[1, 10_001, 10_002, 10_003, 20_301, 22_102, 26_003, 65_029]);
    check_codes(
        &xiaomi,
        "code",
        "payload_rejected",
        &[10_008, 10_012, 10_016, 10_017, 10_041, 65_009, 65_014, 65_015, 65_036, 65_037, 65_038],
    );
    check_codes(&xiaomi, "code", "throttled", &[10_027, 200_002, 10_034, 200_001]);
    check_codes(
        &xiaomi,
        "code",
        "config_error",
        &[10_031, 10_036, 21_301, 21_302, 21_303, 22_000, 22_006, 22_007, 22_022, 26_006, 27_001],
    );
    check_codes(&xiaomi, "code", "token_dead", &[10_029, 65_003, 66_007]);
    check_verdicts(
        &xiaomi,
        &[(500, Value::Null, "retry"), (503, Value::Null, "throttled"), (200, Value::Null, "retry")],
    );
    let answer = json!({"result": "ok", "code": 0, "data": {"id": "alm1"}});
    assert_eq!(verdict(&xiaomi, 200, &answer), Verdict::Accepted { vendor_id: Some("alm1".to_owned()) });
    let answer = json!({"result": "error", "code": 200_001, "reason": "exceed quota"});
    assert!(matches!(verdict(&xiaomi, 200, &answer), Verdict::Throttled { scope: Scope::Day, .. }));
}

#[test]
fn no_secret_is_shown() {
    assert!(!format!("{:?} {}", credential(), credential().summary()).contains("s3cret"));
    let wrong =
        XiaomiCredential { callback: Some(format!("https://b.example/{}", "r".repeat(128))), ..credential() };
    assert_eq!(wrong.validate().unwrap_err().field, "callback");
}

#[test]
fn receipts_come_as_a_form_or_as_json_for_several_targets() {
    for (number, wanted) in [
        (1, "delivered"),
        (2, "clicked"),
        (16, "token_dead"),
        (32, "not_shown"),
        (64, "not_shown"),
        (128, "not_shown"),
        (4, "noted"),
    ] {
        let body = json!({"alm1": {"param": mid(), "type": number, "targets": "T0,T1", "timestamp": 1_585_203_103_625_u64}});
        let form: String =
            form_urlencoded::Serializer::new(String::new()).append_pair("data", &body.to_string()).finish();
        for body in [body.to_string(), form] {
            let receipts = receipts(&credential(), "a-secret-in-the-url", &body).unwrap();
            assert_eq!(told(&receipts), [row("T0", wanted), row("T1", wanted)], "{body}");
            check_secret(&credential(), &body);
        }
    }
}

#[test]
fn a_batch_is_a_list_and_a_bad_token_in_it_sends_each_alone() {
    let request = credential().request(&batch(&["T0", "T1"]), None, NOW_MS).unwrap();
    assert_eq!(form(&request)["registration_id"], "T0,T1");
    assert_eq!(verdicts(&credential(), &["T0", "T1"], &json!({"code": 0})), ["accepted", "accepted"]);
    assert_eq!(verdicts(&credential(), &["T0", "T1"], &json!({"code": 66007})), ["send_alone", "send_alone"]);
    assert_eq!(verdicts(&credential(), &["T0"], &json!({"code": 66007})), ["token_dead"]);
    assert_eq!(
        credential().request(&batch(&["T0", "T,1"]), None, NOW_MS).unwrap_err().to_string(),
        "the device token has a comma"
    );
}

#[test]
fn every_part_of_a_message_has_its_place() {
    let push = Push { overrides: json!({"title": "own"}), ..full("T0") };
    let sent = json!(form(&credential().request(&push, None, NOW_MS).unwrap()));
    check_places(
        &sent,
        &[
            ("overrides", "/title", json!("own")),
            ("body", "/description", json!("压力 9.1 bar")),
            ("data", "/payload", json!(json!({"order": 7, "mid": mid()}).to_string())),
            ("sound", "/extra.sound_uri", json!("android.resource://com.example.app/raw/alarm")),
            ("channel", "/extra.channel_id", json!("line-b")),
            ("no click", "/extra.notify_effect", json!("1")),
            ("collapse key", "/notify_id", json!(super::notify_id(&push).to_string())),
            ("expiry", "/time_to_live", json!("3600000")),
            ("priority", "/notify_type", json!("-1")),
        ],
    );
    let quiet = Push { priority: crate::vendor::Priority::Low, ..alert("T0") };
    assert_eq!(form(&credential().request(&quiet, None, NOW_MS).unwrap())["notify_type"], "4");
}

#[test]
fn an_alert_without_a_channel_is_not_sent_where_xiaomi_wants_one() {
    let bare = XiaomiCredential { channel_id: None, ..credential() };
    let named = Push { channel: Some("131234".to_owned()), ..alert("T0") };
    let overridden = Push { overrides: json!({"extra.channel_id": "131234"}), ..alert("T0") };
    let abroad = XiaomiCredential { region: Region::Europe, ..bare.clone() };
    let older = XiaomiCredential { is_classless: true, ..bare.clone() };
    let data = Push { kind: PushKind::Data, ..alert("T0") };
    for (credential, push, is_sent) in [
        (&bare, &alert("T0"), false),
        (&bare, &named, true),
        (&bare, &overridden, true),
        (&bare, &data, true),
        (&abroad, &alert("T0"), true),
        (&older, &alert("T0"), true),
    ] {
        let request = credential.request(push, None, NOW_MS);
        assert_eq!(request.is_ok(), is_sent, "{credential:?} {push:?}");
        assert!(is_sent || matches!(request, Err(CannotSend::Payload(_))));
    }
}
