//! Tests of Meizu's request and answers.

use super::*;
use crate::vendor::Credential;
use crate::vendor::testing::{
    NOW_MS, alert, batch, check_codes, check_places, check_secret, check_verdicts, form, full, mid, receipts,
    row, told, verdict, verdicts,
};

fn credential() -> MeizuCredential {
    let credential = json!({
        "vendor": "meizu", "app_id": 10000, "app_secret": "testappsecret", "receipt_secret": "a-secret-in-the-url", "callback": "https://b.example/r/mz",
    });
    let Ok(Credential::Meizu(meizu)) = serde_json::from_value(credential) else { panic!("no credential") };
    meizu.validate().unwrap();
    meizu
}

/// The first is the vendor's own vector from its page, the second ours, computed with another program.
#[test]
fn the_signature_is_meizus() {
    let vendors = [
        ("appId", "10000"),
        ("pushIds", "RA50c6348036344485d01776773577c64740465480a6b"),
        (
            "messageJson",
            r#"{"title":"title","content":"content","pushTimeInfo":{"offLine":1,"validTime":24}}"#,
        ),
    ];
    assert_eq!(sign(&vendors, "<APP_SECRET>"), "ac076ff25d9900015a681cb5172aa53b");
    let ours = [
        ("appId", "10000"),
        ("messageJson", r#"{"noticeBarInfo":{"noticeBarType":0,"title":"t","content":"c"}}"#),
        ("pushIds", "PUSHID1,PUSHID2"),
    ];
    assert_eq!(sign(&ours, "testappsecret"), "0cba562b13ed73314d84a22b154d99fc");
}

#[test]
fn an_alert_is_signed_as_it_is_sent() {
    let push = Push {
        collapse_key: Some("pump7".to_owned()),
        expires_at_ms: Some(NOW_MS + 3_600_001),
        overrides: json!({"advanceInfo": {"suspend": 1}}),
        ..alert("P0")
    };
    let request = credential().request(&push, None, NOW_MS).unwrap();
    assert_eq!(
        request.uri(),
        "https://server-api-push.meizu.com/garcia/api/server/push/varnished/pushByPushId"
    );
    let form = form(&request);
    let signed = [
        ("appId", "10000"),
        ("messageJson", form["messageJson"].as_str()),
        ("pushIds", form["pushIds"].as_str()),
    ];
    assert_eq!(form["sign"], sign(&signed, "testappsecret"));
    assert_eq!(form["pushIds"], "P0");
    let message: Value = serde_json::from_str(&form["messageJson"]).unwrap();
    assert_eq!(message["noticeBarInfo"]["title"], "泵 7");
    assert_eq!(message["pushTimeInfo"]["validTime"], 2, "hours, rounded up");
    assert_eq!(message["clickTypeInfo"]["parameters"], json!({ "mid": mid() }));
    assert_eq!(message["advanceInfo"]["suspend"], 1);
    assert!((1..=8).contains(&message["advanceInfo"]["notifyKey"].as_str().unwrap().len()));
    assert_eq!(message["extra"]["callback.param"], mid());
}

#[test]
fn data_is_not_pushed() {
    let push = Push { kind: PushKind::Data, ..alert("P0") };
    assert!(matches!(credential().request(&push, None, NOW_MS), Err(CannotSend::Payload(_))));
}

#[test]
fn every_code_of_meizus_table_has_its_verdict() {
    let meizu = credential();
    check_codes(&meizu, "code", "accepted", &[200]);
    check_codes(&meizu, "code", "retry", &[500, 1001, 1003]);
    check_codes(&meizu, "code", "payload_rejected", &[1005, 110_004, 110_032]);
    check_codes(
        &meizu,
        "code",
        "config_error",
        &[1006, 110_000, 110_001, 110_009, 110_031, 110_033, 110_053],
    );
    check_codes(&meizu, "code", "throttled", &[110_010, 110_019, 110_051]);
    let listed = |code: &str| json!({"code": "200", "value": {code: ["P0"]}});
    check_verdicts(
        &meizu,
        &[
            (200, listed("110002"), "token_dead"),
            (200, listed("110003"), "token_dead"),
            (200, listed("110005"), "token_dead"),
            (200, listed("110010"), "filtered"),
            (200, listed("520"), "filtered"),
            (200, listed("110011"), "throttled"),
            (200, listed("201"), "config_error"),
            (200, listed("501"), "retry"),
            (200, listed("513"), "retry"),
            (200, listed("519"), "retry"),
            (200, listed("999"), "payload_rejected"),
            (200, json!({"code": "200", "value": ""}), "accepted"),
            (200, json!({"code": "200", "value": {"110002": []}}), "accepted"),
            (500, Value::Null, "retry"),
        ],
    );
    let answer = json!({"code": "200", "value": {}, "msgId": "c2ee"});
    assert_eq!(verdict(&meizu, 200, &answer), Verdict::Accepted { vendor_id: Some("c2ee".to_owned()) });
}

#[test]
fn no_secret_is_shown() {
    assert!(!format!("{:?} {}", credential(), credential().summary()).contains("testappsecret"));
}

#[test]
fn receipts_come_as_a_form_or_as_json() {
    for (number, wanted) in [(1, "delivered"), (2, "clicked"), (3, "noted")] {
        let body = json!({"c2ee-1": {"param": mid(), "type": number, "targets": ["P0", "P1"]}});
        let form: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("cb", &body.to_string())
            .append_pair("access_token", "x")
            .finish();
        for body in [body.to_string(), form] {
            let receipts = receipts(&credential(), "a-secret-in-the-url", &body).unwrap();
            assert_eq!(told(&receipts), [row("P0", wanted), row("P1", wanted)], "{body}");
            check_secret(&credential(), &body);
        }
    }
}

#[test]
fn a_batch_is_a_list_and_each_token_gets_its_own_verdict() {
    let request = credential().request(&batch(&["T0", "T1"]), None, NOW_MS).unwrap();
    let fields = form(&request);
    assert_eq!(fields["pushIds"], "T0,T1");
    let told = json!({"code": "200", "value": {"110002": ["T1"], "110010": ["T2"], "519": ["T3"]}});
    let wanted = ["accepted", "token_dead", "filtered", "retry"];
    assert_eq!(verdicts(&credential(), &["T0", "T1", "T2", "T3"], &told), wanted);
    assert_eq!(
        verdicts(&credential(), &["T0", "T1"], &json!({"code": "200", "value": ""})),
        ["accepted", "accepted"]
    );
    assert_eq!(
        verdicts(&credential(), &["T0", "T1"], &json!({"code": "110010"})),
        ["throttled", "throttled"]
    );
}

#[test]
fn every_part_of_a_message_has_its_place() {
    let push = Push {
        overrides: json!({"noticeBarInfo": {"title": "own"}, "clickTypeInfo": {"parameters": {"mid": "x"}}}),
        ..full("P0")
    };
    let sent = |push: &Push| -> Value {
        serde_json::from_str(&form(&credential().request(push, None, NOW_MS).unwrap())["messageJson"])
            .unwrap()
    };
    check_places(
        &sent(&push),
        &[
            ("overrides", "/noticeBarInfo/title", json!("own")),
            ("body", "/noticeBarInfo/content", json!("压力 9.1 bar")),
            ("data", "/clickTypeInfo/parameters", json!({"order": 7, "mid": mid()})),
            ("no click", "/clickTypeInfo/clickType", json!(0)),
            ("collapse key", "/advanceInfo/notifyKey", json!(notify_key(&push))),
            ("expiry", "/pushTimeInfo/validTime", json!(1)),
            ("priority", "/advanceInfo/notificationType/sound", json!(1)),
            ("message id", "/extra/callback.param", json!(mid())),
        ],
    );
    let quiet = sent(&Push { priority: crate::vendor::Priority::Low, ..alert("P0") });
    assert_eq!(quiet["advanceInfo"]["notificationType"], json!({"vibrate": 0, "lights": 1, "sound": 0}));
    for (click, kind, field) in [("https://shop.example/7", 2, "url"), ("com.example.Order", 1, "activity")] {
        let shown = sent(&Push { click: Some(click.to_owned()), ..alert("P0") });
        assert_eq!(shown["clickTypeInfo"]["clickType"], kind);
        assert_eq!(shown["clickTypeInfo"][field], click);
    }
}
