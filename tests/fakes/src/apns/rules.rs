//! What a strict APNs checks of one request, in its order.

use http::request::Parts;
use http::{HeaderMap, Method};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::Value;

use super::{ApnsAnswer, TokenSeen};

const PAYLOAD_MAX: usize = 4096;
const VOIP_PAYLOAD_MAX: usize = 5120;
const TOKEN_LIFE_S: u64 = 60 * 60;
const TOKEN_UPDATE_WINDOW_S: u64 = 20 * 60;
/// Each push type with what follows the bundle id in its topic, by Apple's page.
const PUSH_TYPES: [(&str, &str); 11] = [
    ("alert", ""),
    ("background", ""),
    ("voip", ".voip"),
    ("complication", ".complication"),
    ("fileprovider", ".pushkit.fileprovider"),
    ("location", ".location-query"),
    ("liveactivity", ".push-type.liveactivity"),
    ("pushtotalk", ".voip-ptt"),
    ("widgets", ".push-type.widgets"),
    ("controls", ".push-type.controls"),
    ("mdm", ""),
];

/// Who may push, and to what.
pub(super) struct Account {
    pub key_id: String,
    pub team_id: String,
    pub topic: String,
    pub public_key: DecodingKey,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iss: String,
    iat: u64,
}

/// When the request came, and over which connection.
pub(super) struct When<'a> {
    pub now_s: u64,
    /// Provider tokens from before this moment are expired.
    pub tokens_before_s: u64,
    /// Whether the client showed a certificate that the server believes.
    pub is_certified: bool,
    pub seen: &'a mut TokenSeen,
}

/// The rules up to the payload. `Ok` is the device token.
pub(super) fn check(
    account: &Account,
    parts: &Parts,
    body: &[u8],
    when: &mut When<'_>,
) -> Result<String, ApnsAnswer> {
    let headers = &parts.headers;
    if text(headers, "apns-id").is_some_and(|id| !is_uuid(id)) {
        return Err(ApnsAnswer::error(400, "BadMessageId"));
    }
    if parts.method != Method::POST {
        return Err(ApnsAnswer::error(405, "MethodNotAllowed"));
    }
    check_topic(account, headers)?;
    check_login(account, headers, when)?;
    check_headers(headers)?;
    let token = check_path(parts.uri.path())?;
    if body.is_empty() {
        return Err(ApnsAnswer::error(400, "PayloadEmpty"));
    }
    let is_call = text(headers, "apns-push-type") == Some("voip");
    if body.len() > if is_call { VOIP_PAYLOAD_MAX } else { PAYLOAD_MAX } {
        return Err(ApnsAnswer::error(413, "PayloadTooLarge"));
    }
    check_payload(headers, body)?;
    Ok(token)
}

fn check_topic(account: &Account, headers: &HeaderMap) -> Result<(), ApnsAnswer> {
    let push_type = text(headers, "apns-push-type");
    let suffix =
        PUSH_TYPES.iter().find(|(name, _)| Some(*name) == push_type).map_or("", |(_, suffix)| suffix);
    match text(headers, "apns-topic") {
        None => Err(ApnsAnswer::error(400, "MissingTopic")),
        Some(topic) if topic.strip_prefix(&account.topic) == Some(suffix) => Ok(()),
        Some(_) => Err(ApnsAnswer::error(400, "TopicDisallowed")),
    }
}

/// A certificate, or a provider token.
pub(super) fn check_login(
    account: &Account,
    headers: &HeaderMap,
    when: &mut When<'_>,
) -> Result<(), ApnsAnswer> {
    let needs_token = text(headers, "apns-push-type") == Some("location");
    let Some(header) = text(headers, "authorization") else {
        let is_enough = when.is_certified && !needs_token;
        return if is_enough { Ok(()) } else { Err(ApnsAnswer::error(403, "MissingProviderToken")) };
    };
    let token = header.strip_prefix("bearer ").ok_or(ApnsAnswer::error(403, "InvalidProviderToken"))?;
    let claims = verify(account, token).ok_or(ApnsAnswer::error(403, "InvalidProviderToken"))?;
    if claims.iat + TOKEN_LIFE_S < when.now_s || claims.iat < when.tokens_before_s {
        return Err(ApnsAnswer::error(403, "ExpiredProviderToken"));
    }
    if claims.iat > when.now_s + 60 {
        return Err(ApnsAnswer::error(403, "InvalidProviderToken"));
    }
    // A second token on one connection must be at least 20 minutes younger than the first.
    if let Some((last, last_iat)) = when.seen.last.as_ref()
        && last != token
        && claims.iat.abs_diff(*last_iat) < TOKEN_UPDATE_WINDOW_S
    {
        return Err(ApnsAnswer::error(429, "TooManyProviderTokenUpdates"));
    }
    when.seen.last = Some((token.to_owned(), claims.iat));
    Ok(())
}

/// The signature, the exact header and the exact claims.
fn verify(account: &Account, token: &str) -> Option<Claims> {
    let header = jsonwebtoken::decode_header(token).ok()?;
    if header.alg != Algorithm::ES256 || header.kid.as_deref() != Some(&account.key_id) {
        return None;
    }
    let mut rules = Validation::new(Algorithm::ES256);
    rules.required_spec_claims.clear();
    (rules.validate_exp, rules.validate_aud) = (false, false);
    let claims = jsonwebtoken::decode::<Claims>(token, &account.public_key, &rules).ok()?.claims;
    (claims.iss == account.team_id).then_some(claims)
}

fn check_headers(headers: &HeaderMap) -> Result<(), ApnsAnswer> {
    if text(headers, "apns-collapse-id").is_some_and(|id| id.is_empty() || id.len() > 64) {
        return Err(ApnsAnswer::error(400, "BadCollapseId"));
    }
    if text(headers, "apns-expiration").is_some_and(|at| at.parse::<u64>().is_err()) {
        return Err(ApnsAnswer::error(400, "BadExpirationDate"));
    }
    let (priority, push_type) = (text(headers, "apns-priority"), text(headers, "apns-push-type"));
    let allowed: &[&str] = match push_type {
        Some("background") => &["5", "1"],
        Some("pushtotalk") => &["10"],
        _ => &["10", "5", "1"],
    };
    if priority.is_some_and(|priority| !allowed.contains(&priority)) {
        return Err(ApnsAnswer::error(400, "BadPriority"));
    }
    match push_type {
        Some(push_type) if PUSH_TYPES.iter().any(|(name, _)| *name == push_type) => Ok(()),
        _ => Err(ApnsAnswer::error(400, "InvalidPushType")),
    }
}

fn check_path(path: &str) -> Result<String, ApnsAnswer> {
    let token = path.strip_prefix("/3/device/").ok_or(ApnsAnswer::error(404, "BadPath"))?;
    if token.is_empty() {
        return Err(ApnsAnswer::error(400, "MissingDeviceToken"));
    }
    if !token.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(ApnsAnswer::error(400, "BadDeviceToken"));
    }
    Ok(token.to_owned())
}

/// JSON that fits the push type. Apple has no documented reason for a payload that is not JSON; the nearest is given.
fn check_payload(headers: &HeaderMap, body: &[u8]) -> Result<(), ApnsAnswer> {
    let empty = || ApnsAnswer::error(400, "PayloadEmpty");
    let payload: Value = serde_json::from_slice(body).map_err(|_| empty())?;
    let push_type = text(headers, "apns-push-type").unwrap_or_default();
    if push_type == "mdm" {
        let is_alone = payload.as_object().is_some_and(|root| root.contains_key("mdm") && root.len() == 1);
        return if is_alone { Ok(()) } else { Err(empty()) };
    }
    let aps = payload.get("aps").and_then(Value::as_object).ok_or_else(empty)?;
    let fits = match push_type {
        "liveactivity" => is_activity(aps),
        "widgets" | "controls" => aps.get("content-changed") == Some(&true.into()),
        "alert" | "background" => {
            let is_silent = aps.get("content-available") == Some(&1.into()) && !aps.contains_key("alert");
            is_silent == (push_type == "background")
        }
        _ => true,
    };
    if fits { Ok(()) } else { Err(ApnsAnswer::error(400, "InvalidPushType")) }
}

/// What a Live Activity needs: when, what happens to it, and what it shows.
pub(super) fn is_activity(aps: &serde_json::Map<String, Value>) -> bool {
    let event = aps.get("event").and_then(Value::as_str);
    aps.get("timestamp").is_some_and(Value::is_u64)
        && matches!(event, Some("start" | "update" | "end"))
        && aps.get("content-state").is_some_and(Value::is_object)
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn is_uuid(text: &str) -> bool {
    let is_place = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
    };
    text.len() == 36 && text.bytes().enumerate().all(is_place)
}
