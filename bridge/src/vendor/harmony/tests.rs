//! Tests of the HarmonyOS request; the answers are [`super::super::huawei`]'s.

use super::*;
use crate::vendor::Credential;
use crate::vendor::testing::{
    NOW_MS, alert, batch, check_places, full, header, json, json as body, mid, verdict, verdicts,
};
use jsonwebtoken::{DecodingKey, Validation};

const PRIVATE: &str = include_str!("../../../../tests/fakes/fixtures/service_account_private.pem");
const PUBLIC: &[u8] = include_bytes!("../../../../tests/fakes/fixtures/service_account_public.pem");

fn credential() -> HarmonyCredential {
    let credential = json!({
        "vendor": "harmony", "project_id": "736430079244623000", "key_id": "k1", "sub_account": "101010",
        "private_key": PRIVATE, "category": "WORK",
    });
    let Ok(Credential::Harmony(harmony)) = serde_json::from_value(credential) else {
        panic!("no credential")
    };
    harmony.validate().unwrap();
    harmony
}

#[test]
fn the_login_is_signed_here_with_ps256_and_lives_for_an_hour() {
    let Ok(LoginStep::Made(login)) = credential().login(NOW_MS) else { panic!("no login") };
    let mut validation = Validation::new(Algorithm::PS256);
    validation.set_audience(&[AUDIENCE]);
    validation.validate_exp = false;
    let key = DecodingKey::from_rsa_pem(PUBLIC).unwrap();
    let token = jsonwebtoken::decode::<Value>(login.token.reveal(), &key, &validation).unwrap();
    assert_eq!(token.header.kid.as_deref(), Some("k1"));
    let iat = NOW_MS / 1000;
    assert_eq!(token.claims, json!({"iss": "101010", "aud": AUDIENCE, "iat": iat, "exp": iat + 3600}));
    assert!(login.renew_at_ms < NOW_MS + 3_600_000);
}

#[test]
fn an_alert_has_a_category_and_our_identity() {
    let push = Push {
        badge: Some(3),
        expires_at_ms: Some(NOW_MS + 1_500),
        overrides: json!({"target": {"token": ["x"]}}),
        ..alert("T0")
    };
    let request = credential().request(&push, Some("jwt"), NOW_MS).unwrap();
    assert_eq!(request.uri(), "https://push-api.cloud.huawei.com/v3/736430079244623000/messages:send");
    assert_eq!((header(&request, "push-type"), header(&request, "authorization")), ("0", "Bearer jwt"));
    let body = body(&request);
    assert_eq!(body["target"], json!({"token": ["T0"]}));
    let shown = &body["payload"]["notification"];
    assert_eq!(
        (&shown["category"], &shown["appMessageId"], &shown["badge"]),
        (&json!("WORK"), &json!(mid()), &json!({"setNum": 3}))
    );
    assert_eq!(shown["clickAction"]["data"]["mid"], mid());
    assert_eq!(body["pushOptions"]["ttl"], 2, "seconds, rounded up");
}

#[test]
fn a_data_push_is_a_background_message() {
    let request =
        credential().request(&Push { kind: PushKind::Data, ..alert("T0") }, Some("jwt"), NOW_MS).unwrap();
    assert_eq!(header(&request, "push-type"), "6");
    let extra: Value =
        serde_json::from_str(body(&request)["payload"]["extraData"].as_str().unwrap()).unwrap();
    assert_eq!(extra["mid"], mid());
}

#[test]
fn answers_are_read_as_huaweis() {
    for (code, wanted) in
        [("80000000", "accepted"), ("80200005", "login_expired"), ("80300007", "token_dead")]
    {
        assert_eq!(verdict(&credential(), 200, &json!({"code": code})).name(), wanted);
    }
}

#[test]
fn a_key_that_cannot_sign_is_named() {
    let wrong = HarmonyCredential { private_key: Secret::new("key"), ..credential() };
    assert_eq!(wrong.validate().unwrap_err().field, "private_key");
    assert!(!credential().summary().contains("BEGIN"));
}

#[test]
fn a_batch_names_every_token_and_each_gets_its_own_verdict() {
    let request = credential().request(&batch(&["T0", "T1"]), Some("token"), NOW_MS).unwrap();
    assert_eq!(json(&request)["target"]["token"], json!(["T0", "T1"]));
    let listed = json!({"illegalTokens": {"tokenFormatError": ["T1"]}, "success": 1, "failure": 1});
    let body = json!({"code": "80100000", "msg": listed.to_string()});
    assert_eq!(verdicts(&credential(), &["T0", "T1"], &body), ["accepted", "token_dead"]);
}

#[test]
fn every_code_of_the_third_versions_table_has_its_verdict() {
    use crate::vendor::testing::check_codes;
    let harmony = credential();
    check_codes(&harmony, "code", "accepted", &[80_000_000]);
    check_codes(&harmony, "code", "login_expired", &[80_200_001, 80_200_005]);
    check_codes(&harmony, "code", "token_dead", &[80_300_007]);
    check_codes(&harmony, "code", "token_mismatch", &[80_300_002]);
    check_codes(&harmony, "code", "throttled", &[80_300_029, 80_300_030]);
    check_codes(&harmony, "code", "config_error", &[80_300_036, 80_300_037]);
    check_codes(&harmony, "code", "retry", &[81_000_001]);
    check_codes(
        &harmony,
        "code",
        "payload_rejected",
        &[80_100_001, 80_100_003, 80_100_004, 80_100_016, 80_100_022, 80_300_008, 80_300_010],
    );
}

#[test]
fn every_part_of_a_message_has_its_place() {
    let push = Push {
        overrides: json!({"payload": {"notification": {"style": 1, "clickAction": {"data": {"mid": "x"}}}}}),
        ..full("T0")
    };
    let sent = body(&credential().request(&push, Some("jwt"), NOW_MS).unwrap());
    check_places(
        &sent,
        &[
            ("overrides", "/payload/notification/style", json!(1)),
            ("title", "/payload/notification/title", json!("泵 7")),
            ("body", "/payload/notification/body", json!("压力 9.1 bar")),
            ("data", "/payload/notification/clickAction/data", json!({"order": 7, "mid": mid()})),
            ("image", "/payload/notification/image", json!("https://i.example/p.png")),
            ("sound", "/payload/notification/sound", json!("alarm.caf")),
            ("badge", "/payload/notification/badge/setNum", json!(3)),
            ("category", "/payload/notification/category", json!("SUBSCRIPTION")),
            ("no click", "/payload/notification/clickAction/actionType", json!(0)),
            ("collapse key", "/payload/notification/notifyId", json!(super::notify_id(&push))),
            ("expiry", "/pushOptions/ttl", json!(3600)),
            ("message id", "/pushOptions/biTag", json!(mid())),
        ],
    );
    let alarm = Push { category: Some("my-alarm".to_owned()), ..alert("T0") };
    let sent = body(&credential().request(&alarm, Some("jwt"), NOW_MS).unwrap());
    assert_eq!(sent["payload"]["notification"]["category"], "WORK");
}

#[test]
fn a_click_opens_a_page_by_uri_or_action() {
    for (click, field) in [("https://shop.example/7", "uri"), ("com.example.OPEN", "action")] {
        let push = Push { click: Some(click.to_owned()), ..alert("T0") };
        let sent = body(&credential().request(&push, Some("jwt"), NOW_MS).unwrap());
        let action = &sent["payload"]["notification"]["clickAction"];
        assert_eq!((&action["actionType"], &action[field]), (&json!(1), &json!(click)));
        assert_eq!(action["data"]["mid"], mid());
    }
}

#[test]
fn an_alert_is_revoked_by_its_place_and_its_device_tokens() {
    let able = HarmonyCredential { client_id: Some("108".to_owned()), ..credential() };
    let push = Push { is_recall: true, ..batch(&["T0", "T1"]) };
    let request = able.recall(&push, Some("jwt"), NOW_MS).unwrap();
    assert_eq!(request.uri(), "https://push-api.cloud.huawei.com/v1/108/messages:revoke");
    assert_eq!((header(&request, "push-type"), header(&request, "authorization")), ("0", "Bearer jwt"));
    assert_eq!(body(&request), json!({"notifyId": notify_id(&push), "token": ["T0", "T1"]}));
    let data = Push { kind: PushKind::Data, ..push.clone() };
    for refused in [credential().recall(&push, Some("jwt"), NOW_MS), able.recall(&data, Some("jwt"), NOW_MS)]
    {
        assert!(matches!(refused, Err(CannotSend::Payload(_))), "no fault of the lane's: {refused:?}");
    }
}

#[test]
fn what_is_wrong_with_a_recall_is_no_word_about_device_tokens_and_credential() {
    for (code, wanted) in [
        ("80000000", "accepted"),
        ("80300007", "filtered"),
        ("80100020", "send_alone"),
        ("80100003", "payload_rejected"),
        ("80300002", "payload_rejected"),
        ("80300028", "payload_rejected"),
        ("80300032", "payload_rejected"),
        ("80200001", "login_expired"),
        ("80200005", "login_expired"),
        ("81000001", "retry"),
    ] {
        let answer = Answer {
            status: 200,
            body: json!({"code": code, "msg": "m", "requestId": "r"}).to_string().into(),
            ..Answer::default()
        };
        assert_eq!(credential().recall_verdict(&answer, NOW_MS).name(), wanted, "{code}");
    }
}
