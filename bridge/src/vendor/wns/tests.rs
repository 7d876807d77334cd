//! Tests of the Windows request and answers.

use super::*;
use crate::vendor::Credential;
use crate::vendor::shorten::Shortened;
use crate::vendor::testing::{NOW_MS, alert, check_verdicts, full, header, mid};
use http::HeaderMap;
use serde_json::json;

const CHANNEL: &str = "https://db5p.notify.windows.com/w/?token=abc%2f";

fn credential() -> WnsCredential {
    let credential = json!({"vendor": "wns", "client_id": "ms-app://s-1", "client_secret": "s3cret"});
    let Ok(Credential::Wns(wns)) = serde_json::from_value(credential) else { panic!("no credential") };
    wns.validate().unwrap();
    wns
}

#[test]
fn an_alert_is_a_toast() {
    let mut push = Push { expires_at_ms: Some(NOW_MS + 60_000), ..alert(CHANNEL) };
    push.title = Some("<泵> & \"7\"\u{1}".to_owned());
    let request = credential().request(&push, Some("access"), NOW_MS).unwrap();
    assert_eq!(request.uri(), CHANNEL);
    for (name, wanted) in [
        ("x-wns-type", "wns/toast"),
        ("content-type", "text/xml"),
        ("authorization", "Bearer access"),
        ("x-wns-ttl", "60"),
    ] {
        assert_eq!(header(&request, name), wanted, "{name}");
    }
    let xml = std::str::from_utf8(request.body()).unwrap();
    assert!(xml.contains("<text>&lt;泵&gt; &amp; &quot;7&quot;</text><text>压力 9.1 bar</text>"), "{xml}");
    assert!(xml.contains(&format!("launch=\"{{&quot;mid&quot;:&quot;{}&quot;}}\"", mid())), "{xml}");
}

#[test]
fn a_data_push_is_raw() {
    let request =
        credential().request(&Push { kind: PushKind::Data, ..alert(CHANNEL) }, Some("a"), NOW_MS).unwrap();
    assert_eq!(
        (header(&request, "x-wns-type"), header(&request, "content-type")),
        ("wns/raw", "application/octet-stream")
    );
    assert_eq!(serde_json::from_slice::<Value>(request.body()).unwrap()["mid"], mid());
}

#[test]
fn only_microsofts_hosts_are_called() {
    for token in [
        "http://db5p.notify.windows.com/w",
        "https://notify.windows.com.evil.example/w",
        "https://evil.example/?x=.notify.windows.com",
        "https://u@db5p.notify.windows.com/w",
        "https://db5p.notify.windows.com:8443/w",
        "T0",
    ] {
        let request = credential().request(&alert(token), Some("a"), NOW_MS);
        assert!(matches!(request, Err(CannotSend::Token(_))), "{token}");
    }
    let tested = WnsCredential { endpoint: Some("http://127.0.0.1:9".to_owned()), ..credential() };
    let request = tested.request(&alert(CHANNEL), Some("a"), NOW_MS).unwrap();
    assert_eq!(request.uri(), "http://127.0.0.1:9/w/?token=abc%2f");
}

#[test]
fn the_largest_texts_still_fit() {
    let push = Push { title: Some("&".repeat(3000)), body: Some("\"".repeat(9000)), ..alert(CHANNEL) };
    let request = credential().request(&push, Some("a"), NOW_MS);
    assert!(request.is_err() || request.is_ok_and(|request| request.body().len() <= PAYLOAD_MAX));
    let push = Push { body: Some("泵".repeat(9000)), ..alert(CHANNEL) };
    let request = credential().request(&push, Some("a"), NOW_MS).unwrap();
    assert_eq!(request.extensions().get::<Shortened>(), Some(&Shortened::Body));
}

#[test]
fn every_answer_of_microsofts_table_has_its_verdict() {
    check_verdicts(
        &credential(),
        &[
            (200, Value::Null, "accepted"),
            (400, Value::Null, "payload_rejected"),
            (401, Value::Null, "login_expired"),
            (403, Value::Null, "token_mismatch"),
            (404, Value::Null, "token_dead"),
            (405, Value::Null, "payload_rejected"),
            (406, Value::Null, "throttled"),
            (410, Value::Null, "token_dead"),
            (413, Value::Null, "payload_rejected"),
            (500, Value::Null, "retry"),
            (503, Value::Null, "retry"),
        ],
    );
    for (status, wanted) in
        [("received", "accepted"), ("dropped", "filtered"), ("channelthrottled", "throttled")]
    {
        let mut headers = HeaderMap::new();
        headers.insert("x-wns-notificationstatus", HeaderValue::from_static(status));
        let answer = Answer { status: 200, headers, ..Answer::default() };
        assert_eq!(credential().verdict(&answer, NOW_MS).name(), wanted, "{status}");
    }
}

#[test]
fn the_login_is_the_stores_or_the_tenants() {
    for (tenant, uri, scope) in [
        (None, LOGIN, "scope=notify.windows.com"),
        (
            Some("t1"),
            "https://login.microsoftonline.com/t1/oauth2/v2.0/token",
            "scope=https%3A%2F%2Fwns.windows.com%2F.default",
        ),
    ] {
        let wns = WnsCredential { tenant: tenant.map(str::to_owned), ..credential() };
        let Ok(LoginStep::Ask(request)) = wns.login(NOW_MS) else { panic!("no request") };
        assert_eq!(request.uri(), uri);
        assert!(std::str::from_utf8(request.body()).unwrap().ends_with(scope));
    }
    assert!(!format!("{:?} {}", credential(), credential().summary()).contains("s3cret"));
}

#[test]
fn every_part_of_a_message_has_its_place() {
    let push = Push {
        overrides: json!({"title": "own", "scenario": "reminder", "group": "line-b", "data": {"mid": "x"}}),
        ..full(CHANNEL)
    };
    let request = credential().request(&push, Some("access"), NOW_MS).unwrap();
    assert_eq!(header(&request, "x-wns-ttl"), "3600");
    assert_eq!(header(&request, "x-wns-tag"), super::notify_id(&push).to_string());
    assert_eq!(header(&request, "x-wns-group"), "line-b");
    let xml = std::str::from_utf8(request.body()).unwrap();
    for (ours, wanted) in [
        ("overrides", "<text>own</text>".to_owned()),
        ("overrides", " scenario=\"reminder\"".to_owned()),
        ("body", "<text>压力 9.1 bar</text>".to_owned()),
        ("data", format!(" launch=\"{}\"", escape(&json!({"order": 7, "mid": mid()}).to_string()))),
        ("image", "<image placement=\"hero\" src=\"https://i.example/p.png\"/>".to_owned()),
        ("sound", "<audio src=\"ms-appx:///Assets/alarm.caf\"/>".to_owned()),
    ] {
        assert!(xml.contains(&wanted), "{ours}: {wanted} in {xml}");
    }
}

#[test]
fn a_toast_opens_what_it_says_and_is_silent_when_it_has_time() {
    for (click, wanted) in [
        (
            "https://shop.example/7?a&b",
            " activationType=\"protocol\" launch=\"https://shop.example/7?a&amp;b\"",
        ),
        ("order/7", "&quot;click&quot;:&quot;order/7&quot;"),
    ] {
        let push = Push { click: Some(click.to_owned()), ..alert(CHANNEL) };
        let request = credential().request(&push, Some("a"), NOW_MS).unwrap();
        let xml = std::str::from_utf8(request.body()).unwrap();
        assert!(xml.contains(wanted) && !xml.contains("<audio"), "{xml}");
    }
    let quiet = Push { priority: crate::vendor::Priority::Low, ..alert(CHANNEL) };
    let request = credential().request(&quiet, Some("a"), NOW_MS).unwrap();
    assert!(std::str::from_utf8(request.body()).unwrap().contains("<audio silent=\"true\"/>"));
    assert_eq!(
        audio(Some("ms-winsoundevent:Notification.Mail"), false),
        "<audio src=\"ms-winsoundevent:Notification.Mail\"/>"
    );
}
