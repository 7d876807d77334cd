//! What a strict APNs checks of one request, in its order.

use http::request::Parts;
use http::{HeaderMap, Method};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::Value;

use super::{ApnsAnswer, TokenSeen};

const PAYLOAD_MAX: usize = 4096;
const TOKEN_LIFE_S: u64 = 60 * 60;
const TOKEN_UPDATE_WINDOW_S: u64 = 20 * 60;
const PUSH_TYPES: [&str; 11] = [
    "alert",
    "background",
    "voip",
    "complication",
    "fileprovider",
    "location",
    "liveactivity",
    "pushtotalk",
    "widgets",
    "controls",
    "mdm",
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

/// The rules up to the payload. `Ok` is the device token.
pub(super) fn check(
    account: &Account,
    parts: &Parts,
    body: &[u8],
    now_s: u64,
    tokens_before_s: u64,
    seen: &mut TokenSeen,
) -> Result<String, ApnsAnswer> {
    let headers = &parts.headers;
    if text(headers, "apns-id").is_some_and(|id| !is_uuid(id)) {
        return Err(ApnsAnswer::error(400, "BadMessageId"));
    }
    if parts.method != Method::POST {
        return Err(ApnsAnswer::error(405, "MethodNotAllowed"));
    }
    check_topic(account, headers)?;
    check_login(account, headers, now_s, tokens_before_s, seen)?;
    check_headers(headers)?;
    let token = check_path(parts.uri.path())?;
    if body.is_empty() {
        return Err(ApnsAnswer::error(400, "PayloadEmpty"));
    }
    if body.len() > PAYLOAD_MAX {
        return Err(ApnsAnswer::error(413, "PayloadTooLarge"));
    }
    check_payload(headers, body)?;
    Ok(token)
}

fn check_topic(account: &Account, headers: &HeaderMap) -> Result<(), ApnsAnswer> {
    match text(headers, "apns-topic") {
        None => Err(ApnsAnswer::error(400, "MissingTopic")),
        Some(topic) if topic == account.topic => Ok(()),
        Some(_) => Err(ApnsAnswer::error(400, "TopicDisallowed")),
    }
}

fn check_login(
    account: &Account,
    headers: &HeaderMap,
    now_s: u64,
    tokens_before_s: u64,
    seen: &mut TokenSeen,
) -> Result<(), ApnsAnswer> {
    let header = text(headers, "authorization").ok_or(ApnsAnswer::error(403, "MissingProviderToken"))?;
    let token = header.strip_prefix("bearer ").ok_or(ApnsAnswer::error(403, "InvalidProviderToken"))?;
    let claims = verify(account, token).ok_or(ApnsAnswer::error(403, "InvalidProviderToken"))?;
    if claims.iat + TOKEN_LIFE_S < now_s || claims.iat < tokens_before_s {
        return Err(ApnsAnswer::error(403, "ExpiredProviderToken"));
    }
    if claims.iat > now_s + 60 {
        return Err(ApnsAnswer::error(403, "InvalidProviderToken"));
    }
    // A second token on one connection must be at least 20 minutes younger than the first.
    if let Some((last, last_iat)) = seen.last.as_ref()
        && last != token
        && claims.iat.abs_diff(*last_iat) < TOKEN_UPDATE_WINDOW_S
    {
        return Err(ApnsAnswer::error(429, "TooManyProviderTokenUpdates"));
    }
    seen.last = Some((token.to_owned(), claims.iat));
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
    let allowed: &[&str] = if push_type == Some("background") { &["5", "1"] } else { &["10", "5", "1"] };
    if priority.is_some_and(|priority| !allowed.contains(&priority)) {
        return Err(ApnsAnswer::error(400, "BadPriority"));
    }
    match push_type {
        Some(push_type) if PUSH_TYPES.contains(&push_type) => Ok(()),
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

/// JSON with an `aps` object that fits the push type. Apple has no documented reason for a payload that is not
/// JSON; the nearest is given.
fn check_payload(headers: &HeaderMap, body: &[u8]) -> Result<(), ApnsAnswer> {
    let payload: Value = serde_json::from_slice(body).map_err(|_| ApnsAnswer::error(400, "PayloadEmpty"))?;
    let aps = payload.get("aps").and_then(Value::as_object).ok_or(ApnsAnswer::error(400, "PayloadEmpty"))?;
    let is_silent = aps.get("content-available") == Some(&Value::from(1)) && !aps.contains_key("alert");
    let is_background = text(headers, "apns-push-type") == Some("background");
    if is_silent == is_background { Ok(()) } else { Err(ApnsAnswer::error(400, "InvalidPushType")) }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn is_uuid(text: &str) -> bool {
    let is_place = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
    };
    text.len() == 36 && text.bytes().enumerate().all(is_place)
}
