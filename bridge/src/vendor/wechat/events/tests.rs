//! Tests of WeChat's events. The encrypted ones were made with openssl and Python's hashlib.

use super::*;
use crate::vendor::testing::{NOW_MS, told};
use crate::vendor::{Credential, Vendor as _};
use http::HeaderMap;
use serde_json::json;

const KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";
/// Of the token `eventtoken`, [`NOW_MS`] in seconds and the nonce `n1`.
const SIGNATURE: &str = "fe4b37f7ddc27d863fc32e1974b5c6d1b67174dc";
/// A sent event for the app `wx1`.
const SEALED: &str = "Q3stYC6hdFzMh9T8HCvyDLwX40GOIiz3iOxhFEe9NmLmO5eJui6iKqY6WiYmPyRPvAejwgU4vlDsWM/xFlqR+jDmJu9uJS6mdBKOk8LGNImPklhA1WmwdNsJ0UAB3gXSwX/jf+nTF800/WW7oaaY+zvFuP8dO4X4OFWkAZg31GynFvZe6wKnNtDpHgbd2fPArnQr763yN2lZzSrWmxyC70Zy22nrnlGmMGenbbHUYmb2tR4jCd9ofHC9FRhB4kbxifbBfBfz46VcB/aAr9EFkmjfhFj3aYekVJR/JchuhJVQOhxhfjOSpXRF358IL5P8Wwi+IEh29WLJ8YnWndYIdw==";
const SEALED_SIGNATURE: &str = "8da3f9396644eab87534a180cfef523a2b9f2f81";
/// The same for the app `wx2`.
const SEALED_FOR_ANOTHER: &str = "Q3stYC6hdFzMh9T8HCvyDLwX40GOIiz3iOxhFEe9NmLmO5eJui6iKqY6WiYmPyRPvAejwgU4vlDsWM/xFlqR+jDmJu9uJS6mdBKOk8LGNImPklhA1WmwdNsJ0UAB3gXSwX/jf+nTF800/WW7oaaY+zvFuP8dO4X4OFWkAZg31GynFvZe6wKnNtDpHgbd2fPArnQr763yN2lZzSrWmxyC70Zy22nrnlGmMGenbbHUYmb2tR4jCd9ofHC9FRhB4kbxifbBfBfz46VcB/aAr9EFkmjfhFj3aYekVJR/JchuhJVQOhxhfjOSpXRF358IL5P8I2BcuMuMNNGJkuX30vBFWA==";
const SEALED_FOR_ANOTHER_SIGNATURE: &str = "64fe791294bf3dd9d9651bcddad12bc52fb92a05";

fn credential(key: Option<&str>) -> WechatCredential {
    let credential = json!({
        "vendor": "wechat", "app_id": "wx1", "app_secret": "s3cret", "template_id": "tpl", "title_field": "thing1",
        "event_token": "eventtoken", "event_key": key,
    });
    let Ok(Credential::Wechat(wechat)) = serde_json::from_value(credential) else { panic!("no credential") };
    wechat.validate().unwrap();
    wechat
}

fn call(
    wechat: &WechatCredential,
    query: &str,
    body: &str,
    now_ms: u64,
) -> Result<Vec<Receipt>, ReceiptRefused> {
    wechat.receipts(&ReceiptCall { headers: &HeaderMap::new(), body: body.as_bytes(), query, now_ms })
}

fn in_the_clear(body: &str) -> Result<Vec<Receipt>, ReceiptRefused> {
    let query = format!("signature={SIGNATURE}&timestamp=1700000000&nonce=n1&openid=openid");
    call(&credential(None), &query, body, NOW_MS)
}

fn encrypted(sealed: &str, signature: &str) -> Result<Vec<Receipt>, ReceiptRefused> {
    let query = format!("msg_signature={signature}&timestamp=1700000000&nonce=n1&encrypt_type=aes");
    let body = json!({"ToUserName": "gh_1", "Encrypt": sealed}).to_string();
    call(&credential(Some(KEY)), &query, &body, NOW_MS)
}

#[test]
fn an_encrypted_event_is_opened_and_one_for_another_app_is_not() {
    let receipts = encrypted(SEALED, SEALED_SIGNATURE).unwrap();
    assert_eq!(told(&receipts), [("openid".to_owned(), None, "delivered")]);
    assert_eq!(receipts[0].vendor_id.as_deref(), Some("1864323726461255680"));
    assert_eq!(receipts[0].at_ms, Some(1_700_000_000_000));
    let as_xml = format!(
        "<xml><ToUserName><![CDATA[gh_1]]></ToUserName><Encrypt><![CDATA[{SEALED}]]></Encrypt></xml>"
    );
    let query = format!("msg_signature={SEALED_SIGNATURE}&timestamp=1700000000&nonce=n1");
    assert_eq!(call(&credential(Some(KEY)), &query, &as_xml, NOW_MS), Ok(receipts));

    assert_eq!(encrypted(SEALED_FOR_ANOTHER, SEALED_FOR_ANOTHER_SIGNATURE), Err(ReceiptRefused::Forged));
    assert_eq!(
        encrypted(SEALED, SIGNATURE),
        Err(ReceiptRefused::Forged),
        "the signature is over the sealed body"
    );
    for sealed in ["", "AAAA", "!", &SEALED[..64]] {
        let signature = signature(&["eventtoken", "1700000000", "n1", sealed]);
        assert_eq!(encrypted(sealed, &signature), Err(ReceiptRefused::Forged), "{sealed}");
    }
}

#[test]
fn only_who_has_the_token_is_believed_and_only_now() {
    let good = format!("signature={SIGNATURE}&timestamp=1700000000&nonce=n1");
    for (query, now_ms, is_believed) in [
        (good.as_str(), NOW_MS, true),
        (&good, NOW_MS + 300_999, true),
        (&good, NOW_MS + 301_000, false),
        (&good, NOW_MS - 301_000, false),
        (&good.replace("n1", "n2"), NOW_MS, false),
        (&good.replace("1700000000", "1700000001"), NOW_MS, false),
        ("", NOW_MS, false),
    ] {
        let result = call(&credential(None), query, "{}", now_ms);
        assert_eq!(result.is_ok(), is_believed, "{query} {now_ms}");
        let call = ReceiptCall {
            headers: &HeaderMap::new(),
            body: &[],
            query: &format!("{query}&echostr=88"),
            now_ms,
        };
        let wanted = if is_believed { Ok("88".to_owned()) } else { Err(ReceiptRefused::Forged) };
        assert_eq!(credential(None).greeting(&call), wanted, "{query} {now_ms}");
    }
    let closed = WechatCredential { event_token: None, ..credential(None) };
    assert_eq!(call(&closed, &good, "{}", NOW_MS), Err(ReceiptRefused::NotExpected));
    assert_eq!(
        call(&credential(Some(KEY)), &good, "{}", NOW_MS),
        Err(ReceiptRefused::Malformed),
        "in the clear"
    );
}

#[test]
fn every_event_says_what_became_of_the_push() {
    let event =
        |name: &str, list: Value| json!({"FromUserName": "u1", "Event": name, "List": list}).to_string();
    let sent = |code: Value| event("subscribe_msg_sent_event", json!({"MsgID": 7, "ErrorCode": code}));
    for (body, wanted) in [
        (sent(json!("0")), vec!["delivered"]),
        (sent(json!(0)), vec!["delivered"]),
        (sent(json!("40003")), vec!["token_dead"]),
        (sent(json!("43101")), vec!["not_shown"]),
        (sent(Value::Null), vec!["noted"]),
        (
            event("subscribe_msg_sent_event", json!([{"ErrorCode": 0}, {"ErrorCode": 1}])),
            vec!["delivered", "not_shown"],
        ),
        (event("subscribe_msg_popup_event", json!([{"SubscribeStatusString": "accept"}])), vec!["noted"]),
        (event("subscribe_msg_change_event", json!({"SubscribeStatusString": "reject"})), vec!["noted"]),
        (event("user_authorization_cancellation", Value::Null), vec!["token_dead"]),
        (event("another", Value::Null), vec!["noted"]),
    ] {
        let receipts = in_the_clear(&body).unwrap();
        let names: Vec<_> = told(&receipts).into_iter().map(|(token, _, name)| (token, name)).collect();
        let wanted: Vec<_> = wanted.into_iter().map(|name| ("u1".to_owned(), name)).collect();
        assert_eq!(names, wanted, "{body}");
    }
    for malformed in ["", "x", "<xml>", "{", "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>"] {
        assert_eq!(in_the_clear(malformed), Err(ReceiptRefused::Malformed), "{malformed}");
    }
}

#[test]
fn an_event_in_xml_is_read_like_one_in_json() {
    let body = "<xml><ToUserName><![CDATA[gh_1]]></ToUserName><FromUserName><![CDATA[u1]]></FromUserName>\
        <CreateTime>1700000000</CreateTime><MsgType><![CDATA[event]]></MsgType>\
        <Event><![CDATA[subscribe_msg_sent_event]]></Event><SubscribeMsgSentEvent>\
        <List><TemplateId><![CDATA[tpl]]></TemplateId><MsgID>7</MsgID><ErrorCode>0</ErrorCode></List>\
        <List><MsgID>8</MsgID><ErrorCode>43101</ErrorCode><ErrorStatus><![CDATA[refused]]></ErrorStatus></List>\
        </SubscribeMsgSentEvent></xml>";
    let receipts = in_the_clear(body).unwrap();
    let ids: Vec<_> = receipts.iter().map(|receipt| receipt.vendor_id.as_deref()).collect();
    assert_eq!(ids, [Some("7"), Some("8")]);
    assert_eq!(receipts[1].told, Told::NotShown("43101 refused".to_owned()));
    let deep = format!("{}{}", "<a>".repeat(200), "</a>".repeat(200));
    assert!(in_the_clear(&deep).is_ok(), "read to a bound");
}

#[test]
fn a_key_has_43_characters_and_needs_the_token() {
    for (token, key, field) in [
        (Some("eventtoken"), Some("short"), "event_key"),
        (Some("ab"), None, "event_token"),
        (Some("with space"), None, "event_token"),
        (None, Some(KEY), "event_key"),
    ] {
        let secret = |text: Option<&str>| text.map(crate::vendor::Secret::new);
        let wrong =
            WechatCredential { event_token: secret(token), event_key: secret(key), ..credential(None) };
        assert_eq!(wrong.validate().unwrap_err().field, field);
    }
    assert!(!format!("{:?}", credential(Some(KEY))).contains(KEY));
}
