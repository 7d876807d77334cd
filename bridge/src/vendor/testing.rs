//! What the tests of the vendors share.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, Request};
use reveille_proto::ids::{AppId, MessageId};
use serde_json::Value;

use super::receipt::{Receipt, ReceiptCall, ReceiptRefused, Told};
use super::{Answer, DeviceToken, Priority, Push, Vendor, Verdict};

/// When every test of a vendor happens: 2023-11-14 22:13:20 UTC, 06:13:20 of the 15th in China.
pub const NOW_MS: u64 = 1_700_000_000_000;

/// The identity of [`alert`].
pub fn mid() -> String {
    MessageId([7; 16]).to_string()
}

/// An alert with title and text for a device token.
pub fn alert(token: &str) -> Push {
    Push {
        title: Some("泵 7".to_owned()),
        body: Some("压力 9.1 bar".to_owned()),
        ..Push::new(MessageId([7; 16]), AppId::default(), DeviceToken::parse(token).unwrap())
    }
}

/// An alert that says everything that a message can say, but what opening it does.
pub fn full(token: &str) -> Push {
    let some = |text: &str| Some(text.to_owned());
    let mut push = Push {
        image: some("https://i.example/p.png"),
        sound: some("alarm.caf"),
        badge: Some(3),
        channel: some("line-b"),
        category: some("SUBSCRIPTION"),
        collapse_key: some("pump7"),
        expires_at_ms: Some(NOW_MS + 3_600_000),
        priority: Priority::High,
        ..alert(token)
    };
    push.data.insert("order".to_owned(), 7.into());
    push
}

/// Checks the table of a vendor's mapping: what of ours, where it stands in theirs (JSON pointer), and as what; `Null`
/// where it must not stand.
pub fn check_places(sent: &Value, table: &[(&str, &str, Value)]) {
    for (ours, place, wanted) in table {
        assert_eq!(sent.pointer(place).unwrap_or(&Value::Null), wanted, "{ours} at {place} of {sent}");
    }
}

/// The same alert for several device tokens.
pub fn batch(tokens: &[&str]) -> Push {
    let mut all = tokens.iter().map(|token| DeviceToken::parse(token).unwrap());
    Push { token: all.next().unwrap(), others: all.collect(), ..alert("T") }
}

/// What each push of a batch is told by an answer with status 200.
pub fn verdicts(vendor: &dyn Vendor, tokens: &[&str], body: &Value) -> Vec<&'static str> {
    let answer = Answer { status: 200, body: body.to_string().into(), ..Answer::default() };
    vendor.verdicts(&batch(tokens), &answer, NOW_MS).iter().map(Verdict::name).collect()
}

/// The fields of a form.
pub fn form(request: &Request<Bytes>) -> BTreeMap<String, String> {
    form_urlencoded::parse(request.body()).into_owned().collect()
}

/// A body of JSON.
pub fn json(request: &Request<Bytes>) -> Value {
    serde_json::from_slice(request.body()).unwrap()
}

/// A header as text; empty when absent.
pub fn header<'a>(request: &'a Request<Bytes>, name: &str) -> &'a str {
    request.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// What an answer is read as.
pub fn verdict(vendor: &dyn Vendor, status: u16, body: &Value) -> Verdict {
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    vendor.verdict(&Answer { status, body, ..Answer::default() }, NOW_MS)
}

/// Checks a table of the vendor's answers: status, body, name of the verdict.
pub fn check_verdicts(vendor: &dyn Vendor, table: &[(u16, Value, &str)]) {
    for (status, body, wanted) in table {
        assert_eq!(verdict(vendor, *status, body).name(), *wanted, "{status} {body}");
    }
}

/// The same for codes under one name in answers with status 200.
pub fn check_codes(vendor: &dyn Vendor, name: &str, wanted: &str, codes: &[i64]) {
    for code in codes {
        for body in [serde_json::json!({ name: code }), serde_json::json!({ name: code.to_string() })] {
            assert_eq!(verdict(vendor, 200, &body).name(), wanted, "{body}");
        }
    }
}

/// A receipt call with the secret of an address.
pub fn receipts(vendor: &dyn Vendor, secret: &str, body: &str) -> Result<Vec<Receipt>, ReceiptRefused> {
    let (headers, query) = (HeaderMap::new(), format!("secret={secret}"));
    vendor.receipts(&ReceiptCall { headers: &headers, body: body.as_bytes(), query: &query, now_ms: NOW_MS })
}

/// A short name of what a receipt says.
pub fn told(receipts: &[Receipt]) -> Vec<(String, Option<String>, &'static str)> {
    let name = |told: &Told| match told {
        Told::Delivered => "delivered",
        Told::Clicked => "clicked",
        Told::TokenDead(_) => "token_dead",
        Told::NotShown(_) => "not_shown",
        Told::Noted(_) => "noted",
    };
    let one = |receipt: &Receipt| {
        (receipt.token.clone(), receipt.message.map(|id| id.to_string()), name(&receipt.told))
    };
    receipts.iter().map(one).collect()
}

/// Checks a vendor that proves itself by the secret of its address, which is `a-secret-in-the-url`.
pub fn check_secret(vendor: &dyn Vendor, body: &str) {
    assert!(receipts(vendor, "a-secret-in-the-url", body).is_ok());
    for wrong in ["", "a-secret-in-the-ur", "a-secret-in-the-url2"] {
        assert_eq!(receipts(vendor, wrong, body), Err(ReceiptRefused::Forged), "{wrong}");
    }
    let call = ReceiptCall { headers: &HeaderMap::new(), body: body.as_bytes(), query: "", now_ms: NOW_MS };
    assert_eq!(vendor.receipts(&call), Err(ReceiptRefused::Forged));
    for malformed in ["", "x", "7", "data=x", "\"\""] {
        assert_eq!(
            receipts(vendor, "a-secret-in-the-url", malformed),
            Err(ReceiptRefused::Malformed),
            "{malformed}"
        );
    }
}

/// A row of [`told`].
pub fn row(token: &str, name: &'static str) -> (String, Option<String>, &'static str) {
    (token.to_owned(), Some(mid()), name)
}
