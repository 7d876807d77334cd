//! What the logins of several vendors have in common: an answer with an access token, or a refusal.

use std::time::Duration;

use serde::Deserialize;

use super::{Answer, Login, Secret, Verdict, reason, retry_after};

/// A login is renewed this long before it ends.
pub const RENEW_BEFORE: Duration = Duration::from_secs(5 * 60);

/// Longest life that a vendor's word gives a login.
const LIFE_MAX_S: u64 = 24 * 3600;

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    expires_in: u64,
}

#[derive(Default, Deserialize)]
struct TokenError {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
}

/// Reads the answer of a token endpoint [RFC6749-5].
///
/// # Errors
/// The verdict for every push that waited for this login.
pub(super) fn read_login(answer: &Answer, now_ms: u64) -> Result<Login, Verdict> {
    match answer.status {
        200 => read_access_token(&answer.body, now_ms),
        429 | 500..=599 => Err(Verdict::Retry {
            after: retry_after(&answer.headers, now_ms),
            reason: reason(&format!("login refused with {}", answer.status)),
        }),
        status => Err(Verdict::ConfigError { reason: refusal(status, &answer.body) }),
    }
}

/// A login that lasts for `life_s` seconds from now.
pub(super) fn login_for(token: String, life_s: u64, now_ms: u64) -> Login {
    let life = Duration::from_secs(life_s.min(LIFE_MAX_S));
    // A very short life is used for half of it, else every push would sign in.
    let fresh = life.checked_sub(RENEW_BEFORE).filter(|fresh| !fresh.is_zero()).unwrap_or(life / 2);
    let renew_at_ms = now_ms.saturating_add(u64::try_from(fresh.as_millis()).unwrap_or(u64::MAX));
    Login { token: Secret::new(token), renew_at_ms }
}

fn read_access_token(body: &[u8], now_ms: u64) -> Result<Login, Verdict> {
    match serde_json::from_slice::<TokenAnswer>(body) {
        Ok(answer) if !answer.access_token.is_empty() => {
            Ok(login_for(answer.access_token, answer.expires_in, now_ms))
        }
        _ => Err(Verdict::Retry { after: None, reason: reason("the login answer has no access token") }),
    }
}

fn refusal(status: u16, body: &[u8]) -> String {
    let body: TokenError = serde_json::from_slice(body).unwrap_or_default();
    reason(format!("login refused with {status} {} {}", body.error, body.error_description).trim_end())
}
