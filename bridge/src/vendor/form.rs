//! What vendors share whose requests are forms or JSON and whose verdict stands in the body: the way there and back.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request};
use ring::digest::{SHA256, digest};
use serde_json::Value;

use super::shorten::Shortened;
use super::{Answer, CannotSend, DeviceToken, Priority, Push, PushKind, Scope, Verdict, reason, retry_after};

/// A POST with a form, every value escaped.
pub(super) fn post_form(uri: &str, fields: &[(&str, &str)]) -> Result<Request<Bytes>, CannotSend> {
    let form: String = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    post(uri, "application/x-www-form-urlencoded; charset=UTF-8", form.into())
}

/// A POST with JSON.
pub(super) fn post_json(uri: &str, body: &Value) -> Result<Request<Bytes>, CannotSend> {
    post(uri, "application/json; charset=UTF-8", body.to_string().into())
}

/// A POST with any body.
pub(super) fn post(uri: &str, content_type: &str, body: Bytes) -> Result<Request<Bytes>, CannotSend> {
    Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(CONTENT_TYPE, content_type)
        .body(body)
        .map_err(|_| CannotSend::Config("the address makes no URL"))
}

/// Puts a secret into a header, which no log and no header compression shows.
pub(crate) fn secret_header(
    request: &mut Request<Bytes>,
    name: HeaderName,
    value: &str,
) -> Result<(), CannotSend> {
    let mut value =
        HeaderValue::from_str(value).map_err(|_| CannotSend::Config("the login is not plain text"))?;
    value.set_sensitive(true);
    request.headers_mut().insert(name, value);
    Ok(())
}

/// Puts a login in as `Authorization: Bearer`.
pub(super) fn bearer(request: &mut Request<Bytes>, login: Option<&str>) -> Result<(), CannotSend> {
    let login = login.ok_or(CannotSend::Config("no access token"))?;
    secret_header(request, AUTHORIZATION, &format!("Bearer {login}"))
}

/// Notes what was left out, where the sender looks for it.
pub(super) fn note(request: &mut Request<Bytes>, shortened: Option<Shortened>) {
    if let Some(shortened) = shortened {
        request.extensions_mut().insert(shortened);
    }
}

/// Puts a text into an object where there is one.
pub(super) fn put(object: &mut Value, name: &str, text: Option<&str>) {
    if let (Value::Object(fields), Some(text)) = (object, text) {
        fields.insert(name.to_owned(), text.into());
    }
}

/// Refuses a push that is worthless by now, and says how many seconds it is worth, at most `max_s`.
pub(super) fn ttl_s(push: &Push, now_ms: u64, max_s: u64) -> Result<Option<u64>, CannotSend> {
    match push.expires_at_ms {
        None => Ok(None),
        Some(expires_at_ms) if expires_at_ms <= now_ms => Err(CannotSend::Payload("push has expired")),
        Some(expires_at_ms) => Ok(Some((expires_at_ms - now_ms).div_ceil(1000).min(max_s))),
    }
}

/// The push's category where the vendor knows this name, else the credential's own: a message has one category for all
/// vendors, and each refuses the names that it does not know. A new name goes through the overrides.
pub(super) fn category<'a>(push: &'a Push, known: &[&str], usual: Option<&'a str>) -> Option<&'a str> {
    push.category.as_deref().filter(|category| known.contains(category)).or(usual)
}

/// The name of a sound among an Android app's raw resources, which has no ending; `None` for the usual sound.
pub(super) fn raw_sound(push: &Push) -> Option<&str> {
    let name = push.sound.as_deref().filter(|name| *name != "default")?;
    Some(name.split_once('.').map_or(name, |(stem, _)| stem))
}

/// Whether the alert comes without sound and vibration: it has time, and names no sound.
pub(super) fn is_quiet(push: &Push) -> bool {
    push.priority == Priority::Low && push.sound.is_none()
}

/// Refuses an alert that says nothing, where the vendor wants a title and a text.
pub(super) fn need_text(push: &Push) -> Result<(), CannotSend> {
    let is_blank = |text: &Option<String>| text.as_deref().is_none_or(|text| text.trim().is_empty());
    match push.kind {
        PushKind::Alert if is_blank(&push.title) && is_blank(&push.body) => {
            Err(CannotSend::Payload("an alert needs a title or a body"))
        }
        PushKind::Alert | PushKind::Data => Ok(()),
    }
}

/// The body as JSON; `Null` when it is none.
pub(super) fn json_body(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

/// A code that stands there as a number or as text: the vendors' pages and their servers do not always agree.
pub(super) fn code(body: &Value, name: &str) -> Option<i64> {
    match body.get(name)? {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A text or number of the body as text, cut for a record.
pub(super) fn text(body: &Value, name: &str) -> Option<String> {
    match body.get(name)? {
        Value::String(text) => Some(reason(text)),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The vendor's words: its code and its message.
pub(super) fn words(code: i64, message: Option<String>) -> String {
    reason(format!("{code} {}", message.unwrap_or_default()).trim())
}

/// How an answer is read that has no code in its body: by its HTTP status.
pub(super) fn by_status(answer: &Answer, now_ms: u64) -> Verdict {
    let after = retry_after(&answer.headers, now_ms);
    let reason = reason(&format!("status {}", answer.status));
    match answer.status {
        401 => Verdict::LoginExpired,
        429 | 503 => Verdict::Throttled { scope: Scope::App, after, reason },
        408 | 500..=599 => Verdict::Retry { after, reason },
        403..=405 => Verdict::ConfigError { reason },
        400..=499 => Verdict::PayloadRejected { reason },
        // A success without the vendor's word, or a redirect: nobody knows what became of it.
        _ => Verdict::Retry { after, reason },
    }
}

/// A throttle without a wait of its own.
pub(super) fn throttled(scope: Scope, reason: String) -> Verdict {
    Verdict::Throttled { scope, after: None, reason }
}

/// A throttle of this push alone, for so long.
pub(super) fn wait(after: Duration, reason: String) -> Verdict {
    Verdict::Throttled { scope: Scope::Token, after: Some(after), reason }
}

/// A number from 1 to 2,147,483,647 for the place of the alert in the tray: the same for pushes of one collapse key, or
/// for repetitions of one push, so that the newer one replaces the older.
pub(super) fn notify_id(push: &Push) -> u32 {
    let name = push.collapse_key.clone().unwrap_or_else(|| push.id.to_string());
    let hash = digest(&SHA256, name.as_bytes());
    let number = hash.as_ref().iter().take(4).fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    (number >> 1).max(1)
}

/// Every device token of a push, separated by commas.
pub(super) fn joined(push: &Push) -> String {
    push.tokens().map(DeviceToken::as_str).collect::<Vec<_>>().join(",")
}

/// Refuses a device token that a list separated by commas would tear apart.
pub(super) fn no_comma(token: &DeviceToken) -> Result<(), CannotSend> {
    match token.as_str().contains(',') {
        true => Err(CannotSend::Token("the device token has a comma")),
        false => Ok(()),
    }
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vendor::DeviceToken;
    use reveille_proto::ids::{AppId, MessageId};
    use serde_json::json;

    #[test]
    fn a_code_is_a_number_or_its_text() {
        for (body, wanted) in [
            (json!({"code": 0}), Some(0)),
            (json!({"code": "80000000"}), Some(80_000_000)),
            (json!({"code": "-2"}), Some(-2)),
            (json!({"code": ""}), None),
            (json!({"code": null}), None),
            (json!({}), None),
            (json!([]), None),
        ] {
            assert_eq!(code(&body, "code"), wanted, "{body}");
        }
    }

    #[test]
    fn one_collapse_key_has_one_place_and_every_message_its_own() {
        let push = |n, key: Option<&str>| Push {
            collapse_key: key.map(str::to_owned),
            ..Push::new(MessageId([n; 16]), AppId::default(), DeviceToken::parse("T").unwrap())
        };
        assert_eq!(notify_id(&push(1, Some("pump7"))), notify_id(&push(2, Some("pump7"))));
        assert_ne!(notify_id(&push(1, None)), notify_id(&push(2, None)));
        assert!((1..=0x7fff_ffff).contains(&notify_id(&push(3, None))));
    }

    #[test]
    fn a_category_is_one_that_the_vendor_knows_or_the_credentials() {
        for (given, usual, wanted) in [
            (Some("ORDER"), Some("IM"), Some("ORDER")),
            (Some("alarm"), Some("IM"), Some("IM")),
            (Some("alarm"), None, None),
            (None, Some("IM"), Some("IM")),
        ] {
            let mut push = Push::new(MessageId([1; 16]), AppId::default(), DeviceToken::parse("T").unwrap());
            push.category = given.map(str::to_owned);
            assert_eq!(category(&push, &["IM", "ORDER"], usual), wanted, "{given:?} {usual:?}");
        }
    }

    #[test]
    fn a_form_escapes_what_it_carries() {
        let request = post_form("https://h/p", &[("a", "泵 7&b=c"), ("sign", "x")]).unwrap();
        assert_eq!(request.body(), &Bytes::from_static(b"a=%E6%B3%B5+7%26b%3Dc&sign=x"));
    }

    #[test]
    fn a_status_without_a_code_has_its_verdict() {
        for (status, wanted) in [
            (200, "retry"),
            (400, "payload_rejected"),
            (401, "login_expired"),
            (403, "config_error"),
            (404, "config_error"),
            (413, "payload_rejected"),
            (429, "throttled"),
            (500, "retry"),
            (502, "retry"),
            (503, "throttled"),
        ] {
            let answer = Answer { status, ..Answer::default() };
            assert_eq!(by_status(&answer, 0).name(), wanted, "{status}");
        }
    }
}
