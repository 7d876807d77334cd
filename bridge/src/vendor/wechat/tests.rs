//! Tests of WeChat's request and answers.

use super::*;
use crate::vendor::Credential;
use crate::vendor::shorten::Shortened;
use crate::vendor::testing::{NOW_MS, alert, check_codes, check_verdicts, json as body, verdict};

fn credential() -> WechatCredential {
    let credential = json!({
        "vendor": "wechat", "app_id": "wx1", "app_secret": "s3cret&", "template_id": "tpl",
        "title_field": "thing1", "body_field": "character_string2",
    });
    let Ok(Credential::Wechat(wechat)) = serde_json::from_value(credential) else { panic!("no credential") };
    wechat.validate().unwrap();
    wechat
}

#[test]
fn an_alert_fills_the_templates_fields() {
    let push = Push {
        body: Some("x".repeat(40)),
        click: Some("pages/alarm?id=7".to_owned()),
        overrides: json!({"lang": "zh_CN", "touser": "other", "data": {"time3": {"value": "2026-11-21"}}}),
        ..alert("openid")
    };
    let request = credential().request(&push, Some("a+b"), NOW_MS).unwrap();
    assert_eq!(request.uri(), "https://api.weixin.qq.com/cgi-bin/message/subscribe/send?access_token=a%2Bb");
    assert_eq!(request.extensions().get::<Shortened>(), Some(&Shortened::Body));
    let body = body(&request);
    assert_eq!(
        (&body["touser"], &body["template_id"], &body["lang"]),
        (&json!("openid"), &json!("tpl"), &json!("zh_CN"))
    );
    assert_eq!((&body["page"], &body["miniprogram_state"]), (&json!("pages/alarm?id=7"), &json!("formal")));
    assert_eq!(body["data"]["thing1"]["value"], "泵 7");
    assert_eq!(
        body["data"]["character_string2"]["value"].as_str().unwrap().chars().count(),
        CHARACTER_STRING_MAX
    );
    assert_eq!(body["data"]["time3"]["value"], "2026-11-21");
}

#[test]
fn the_login_is_asked_in_the_address_and_its_refusals_have_status_200() {
    let Ok(LoginStep::Ask(request)) = credential().login(NOW_MS) else { panic!("no request") };
    let query = "grant_type=client_credential&appid=wx1&secret=s3cret%26";
    assert_eq!(request.uri().query(), Some(query));
    let read = |body: Value| {
        credential()
            .read_login(&Answer { status: 200, body: body.to_string().into(), ..Answer::default() }, NOW_MS)
    };
    assert_eq!(read(json!({"access_token": "t1", "expires_in": 7200})).unwrap().token.reveal(), "t1");
    assert_eq!(
        read(json!({"errcode": 40125, "errmsg": "invalid appsecret"})).unwrap_err().name(),
        "config_error"
    );
    assert_eq!(read(json!({"errcode": -1})).unwrap_err().name(), "retry");
}

#[test]
fn every_code_of_wechats_table_has_its_verdict() {
    let wechat = credential();
    check_codes(&wechat, "errcode", "accepted", &[0]);
    check_codes(&wechat, "errcode", "retry", &[-1]);
    check_codes(&wechat, "errcode", "login_expired", &[40_001, 40_014, 42_001]);
    check_codes(&wechat, "errcode", "token_dead", &[40_003]);
    check_codes(&wechat, "errcode", "config_error", &[40_037, 41_030]);
    check_codes(&wechat, "errcode", "filtered", &[43_101]);
    check_codes(&wechat, "errcode", "payload_rejected", &[47_003]);
    check_codes(&wechat, "errcode", "throttled", &[45_009]);
    check_verdicts(&wechat, &[(500, Value::Null, "retry"), (200, Value::Null, "retry")]);
    let answer = json!({"errcode": 0, "errmsg": "ok", "msgid": 7});
    assert_eq!(verdict(&wechat, 200, &answer), Verdict::Accepted { vendor_id: Some("7".to_owned()) });
}

#[test]
fn data_is_not_pushed_and_no_secret_shown() {
    let push = Push { kind: PushKind::Data, ..alert("openid") };
    assert!(matches!(credential().request(&push, Some("t"), NOW_MS), Err(CannotSend::Payload(_))));
    assert!(!format!("{:?} {}", credential(), credential().summary()).contains("s3cret"));
    let wrong = WechatCredential { state: Some("beta".to_owned()), ..credential() };
    assert_eq!(wrong.validate().unwrap_err().field, "state");
}
