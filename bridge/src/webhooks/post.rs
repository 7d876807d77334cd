//! The call of a webhook: one signed POST, and how its answer is read. Pure.

use bytes::Bytes;
use http::{HeaderValue, Request, Uri};
use serde_json::{Value, json};

use super::{Answered, Letter, Webhook};
use crate::sender::Reach;
use crate::vendor::webhook::{sign_request, signature};
use crate::vendor::{Answer, CannotSend, CredentialError, Verdict, reason, retry_after};

/// What the receiver gets. The same bytes at every attempt, so that it can compare.
fn body(app: &str, letter: &Letter) -> Value {
    json!({
        "id": letter.id,
        "event": letter.name,
        "app": app,
        "at_ms": letter.at_ms,
        "data": letter.data,
    })
}

/// The request for one event.
///
/// # Errors
/// [`CannotSend`] when the webhook's address makes no URL.
pub(crate) fn request(
    webhook: &Webhook,
    app: &str,
    letter: &Letter,
    now_ms: u64,
) -> Result<Request<Bytes>, CannotSend> {
    let body = body(app, letter).to_string();
    let mut request = Request::post(&webhook.url)
        .header(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .body(Bytes::from(body))
        .map_err(|_| CannotSend::Config("the address makes no URL"))?;
    // Like no other, and not to be guessed: receivers refuse one that they have seen.
    let salt = format!("{} {}", letter.attempts, now_ms);
    let mut nonce = signature(&webhook.secret, &["nonce", &letter.id, &salt]);
    nonce.truncate(32);
    sign_request(&mut request, &webhook.secret, now_ms, &nonce, &letter.id)?;
    Ok(request)
}

/// How an answer is read: 2xx is taken, everything else is tried again.
pub(crate) fn read(answer: &Answer, took_ms: u64, random: u64, now_ms: u64) -> Answered {
    let verdict = match answer.status {
        200..=299 => Verdict::Accepted { vendor_id: None },
        status => {
            let after = retry_after(&answer.headers, now_ms);
            Verdict::Retry { after, reason: reason(&format!("status {status}")) }
        }
    };
    Answered { status: Some(answer.status), verdict, took_ms, random }
}

/// How a call without an answer is read.
pub(crate) fn lost(why: &str, took_ms: u64, random: u64) -> Answered {
    let verdict = Verdict::Retry { after: None, reason: reason(why) };
    Answered { status: None, verdict, took_ms, random }
}

/// Whether the receiver does not work, as opposed to not taking this one event.
pub(crate) fn is_failure(answered: &Answered) -> bool {
    !matches!(answered.status, Some(200..=299 | 400..=407 | 409..=428 | 430..=499))
}

/// Where a webhook's calls may go. The operator's own, and hosts that the operator named, may be of the inner network.
pub(crate) fn reach(webhook: &Webhook, named_hosts: &[String]) -> Reach {
    let host = webhook.url.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
    let is_named = host.is_some_and(|host| named_hosts.contains(&host));
    if is_named || webhook.is_operators { Reach::Anywhere } else { Reach::PublicOnly }
}

/// Checks an address before it is kept: `https`, or `http` to a host that the operator named, or, with the operator's
/// key, to this machine.
///
/// # Errors
/// [`CredentialError`] says what is wrong with it.
pub(crate) fn check_url(
    url: &str,
    is_operators: bool,
    named_hosts: &[String],
) -> Result<(), CredentialError> {
    let wrong = |problem| CredentialError::new("url", problem);
    let uri: Uri = url.parse().map_err(|_| wrong("is not a URL"))?;
    let host = uri.host().unwrap_or_default();
    if host.is_empty() || uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(wrong("must have a host and no user"));
    }
    if named_hosts.iter().any(|named| named == host) {
        return match uri.scheme_str() {
            Some("https" | "http") => Ok(()),
            _ => Err(wrong("must begin with https:// or http://")),
        };
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse::<std::net::IpAddr>().ok();
    let is_here = host == "localhost" || address.is_some_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("http") if is_operators && is_here => Ok(()),
        Some("https") if is_operators => Ok(()),
        Some("https") if is_here || address.is_some_and(|address| !Reach::PublicOnly.allows(address)) => {
            Err(wrong("is of the inner network: the operator must name its host in bridge.webhook_hosts"))
        }
        Some("https") => Ok(()),
        _ => {
            Err(wrong("must begin with https://, unless the operator names its host in bridge.webhook_hosts"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vendor::Secret;

    const NAMED: &str = "hook.plant";

    fn webhook(url: &str, is_operators: bool) -> Webhook {
        Webhook {
            id: "w1".to_owned(),
            url: url.to_owned(),
            secret: Secret::new("0123456789abcdef"),
            events: Vec::new(),
            ca_pem: None,
            is_operators,
            updated_at_ms: 0,
        }
    }

    #[test]
    fn an_app_s_webhook_stays_outside_and_the_operator_s_may_go_inside() {
        let named = [NAMED.to_owned()];
        for (url, app_s, operator_s) in [
            ("https://hook.example/in", true, true),
            ("https://93.184.216.34/", true, true),
            ("http://hook.example/in", false, false),
            ("http://hook.plant/in", true, true),
            ("https://hook.plant/in", true, true),
            ("ftp://hook.plant/in", false, false),
            ("http://127.0.0.1:9/", false, true),
            ("http://[::1]:9/", false, true),
            ("http://localhost:9/", false, true),
            ("https://localhost/", false, true),
            ("https://10.0.0.1/", false, true),
            ("http://10.0.0.1/", false, false),
            ("https://[fd00::1]/", false, true),
            ("https://u:p@hook.example/", false, false),
            ("https://", false, false),
            ("hook.example", false, false),
        ] {
            for (is_operators, wanted) in [(false, app_s), (true, operator_s)] {
                assert_eq!(check_url(url, is_operators, &named).is_ok(), wanted, "{url} {is_operators}");
            }
        }
        for (url, is_operators, wanted) in [
            ("https://hook.example/", false, Reach::PublicOnly),
            ("https://hook.example/", true, Reach::Anywhere),
            ("http://hook.plant:8080/", false, Reach::Anywhere),
        ] {
            assert_eq!(reach(&webhook(url, is_operators), &named), wanted, "{url}");
        }
    }

    #[test]
    fn only_2xx_is_taken_and_retry_after_is_kept_to() {
        let headers = http::HeaderMap::from_iter([(http::header::RETRY_AFTER, "7".parse().unwrap())]);
        for (status, wanted, is_broken) in [
            (200, "accepted", false),
            (204, "accepted", false),
            (301, "retry", true),
            (400, "retry", false),
            (404, "retry", false),
            (408, "retry", true),
            (410, "retry", false),
            (429, "retry", true),
            (500, "retry", true),
        ] {
            let answered = read(&Answer { status, headers: headers.clone(), ..Answer::default() }, 1, 0, 0);
            assert_eq!((answered.verdict.name(), is_failure(&answered)), (wanted, is_broken), "{status}");
            if let Verdict::Retry { after, .. } = answered.verdict {
                assert_eq!(after, Some(std::time::Duration::from_secs(7)));
            }
        }
        assert!(is_failure(&lost("no answer before the deadline", 1, 0)));
    }
}
