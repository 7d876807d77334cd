//! Broadcast channels: made, read, listed, deleted, and sent to.

use std::collections::BTreeMap;

use http::Method;
use http::request::Parts;
use serde_json::{Value, json};

use super::ApnsAnswer;
use super::rules::{self, Account, When};

/// Channels of one app and environment at most.
const CHANNELS_MAX: usize = 10_000;

/// Each channel with its storage policy: 0 keeps nothing, 1 the newest.
#[derive(Default)]
pub(super) struct Channels {
    made: usize,
    kept: BTreeMap<String, u64>,
}

/// Whether a path is about channels.
pub(super) fn is_about(path: &str) -> bool {
    path.starts_with("/1/apps/") || path.starts_with("/4/broadcasts/apps/")
}

/// What a request about channels is answered.
pub(super) fn answer(
    account: &Account,
    parts: &Parts,
    body: &[u8],
    when: &mut When<'_>,
    channels: &mut Channels,
) -> ApnsAnswer {
    match act(account, parts, body, when, channels) {
        Ok(answer) | Err(answer) => answer,
    }
}

fn act(
    account: &Account,
    parts: &Parts,
    body: &[u8],
    when: &mut When<'_>,
    channels: &mut Channels,
) -> Result<ApnsAnswer, ApnsAnswer> {
    rules::check_login(account, &parts.headers, when)?;
    let path = parts.uri.path();
    let (made, listed, sent) = (
        format!("/1/apps/{}/channels", account.topic),
        format!("/1/apps/{}/all-channels", account.topic),
        format!("/4/broadcasts/apps/{}", account.topic),
    );
    match (&parts.method, path) {
        (&Method::POST, path) if path == made => create(body, channels),
        (&Method::GET, path) if path == made => read(parts, channels),
        (&Method::DELETE, path) if path == made => delete(parts, channels),
        (&Method::GET, path) if path == listed => {
            let all: Vec<&String> = channels.kept.keys().collect();
            Ok(ApnsAnswer { body: Some(json!({ "channels": all })), ..ApnsAnswer::ok() })
        }
        (&Method::POST, path) if path == sent => send(parts, body, channels),
        (_, path) if [&made, &listed, &sent].into_iter().any(|known| known == path) => {
            Err(ApnsAnswer::error(405, "MethodNotAllowed"))
        }
        _ => Err(ApnsAnswer::error(404, "BadPath")),
    }
}

fn create(body: &[u8], channels: &mut Channels) -> Result<ApnsAnswer, ApnsAnswer> {
    let wrong = || ApnsAnswer::error(400, "CannotCreateChannelConfig");
    let wanted: Value = serde_json::from_slice(body).map_err(|_| wrong())?;
    let policy = wanted.get("message-storage-policy").and_then(Value::as_u64);
    let policy = policy.filter(|policy| *policy <= 1).ok_or_else(wrong)?;
    // Apple's page has it with capitals, other senders without; nobody says that it matters.
    let push_type = wanted.get("push-type").and_then(Value::as_str).unwrap_or_default();
    if !push_type.eq_ignore_ascii_case("LiveActivity") {
        return Err(ApnsAnswer::error(400, "InvalidPushType"));
    }
    if channels.kept.len() >= CHANNELS_MAX {
        return Err(wrong());
    }
    channels.made += 1;
    let name = format!("fake/channel+{:04}==", channels.made);
    channels.kept.insert(name.clone(), policy);
    Ok(ApnsAnswer { status: 201, headers: vec![("apns-channel-id", name)], ..ApnsAnswer::ok() })
}

fn known<'c>(parts: &Parts, channels: &'c Channels) -> Result<(&'c String, u64), ApnsAnswer> {
    let name = rules::text(&parts.headers, "apns-channel-id");
    let name = name.ok_or(ApnsAnswer::error(400, "MissingChannelId"))?;
    let found = channels.kept.get_key_value(name);
    found.map(|(name, policy)| (name, *policy)).ok_or(ApnsAnswer::error(400, "ChannelNotRegistered"))
}

fn read(parts: &Parts, channels: &Channels) -> Result<ApnsAnswer, ApnsAnswer> {
    let (_, policy) = known(parts, channels)?;
    let body = json!({"message-storage-policy": policy, "push-type": "LiveActivity"});
    Ok(ApnsAnswer { body: Some(body), ..ApnsAnswer::ok() })
}

fn delete(parts: &Parts, channels: &mut Channels) -> Result<ApnsAnswer, ApnsAnswer> {
    let name = known(parts, channels)?.0.clone();
    channels.kept.remove(&name);
    Ok(ApnsAnswer { status: 204, ..ApnsAnswer::ok() })
}

fn send(parts: &Parts, body: &[u8], channels: &Channels) -> Result<ApnsAnswer, ApnsAnswer> {
    let (_, policy) = known(parts, channels)?;
    let header = |name| rules::text(&parts.headers, name);
    if header("apns-push-type") != Some("liveactivity") {
        return Err(ApnsAnswer::error(400, "InvalidPushType"));
    }
    if !matches!(header("apns-priority"), Some("5" | "10")) {
        return Err(ApnsAnswer::error(400, "BadPriority"));
    }
    let expiration = header("apns-expiration").and_then(|at| at.parse::<u64>().ok());
    if expiration.is_none_or(|at| policy == 0 && at != 0) {
        return Err(ApnsAnswer::error(400, "BadExpirationDate"));
    }
    if body.len() > 5120 {
        return Err(ApnsAnswer::error(413, "PayloadTooLarge"));
    }
    let payload: Value = serde_json::from_slice(body).unwrap_or_default();
    if !payload.get("aps").and_then(Value::as_object).is_some_and(rules::is_activity) {
        return Err(ApnsAnswer::error(400, "PayloadEmpty"));
    }
    let id = "f00df00d-0000-0000-0000-000000000000".to_owned();
    Ok(ApnsAnswer { headers: vec![("apns-request-id", id)], ..ApnsAnswer::ok() })
}
