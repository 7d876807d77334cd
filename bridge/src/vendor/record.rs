//! The vendor without a network: keeps what it would send and answers as told. For demos and tests.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::credential::CredentialError;
use super::{Answer, CannotSend, Push, PushKind, Scope, Vendor, Verdict, reason};

/// What the record vendor answers, and where else it writes what it got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordCredential {
    /// The first rule that fits a device token gives the answer; without one it is `accepted`. At most 1,000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<AnswerRule>,
    /// A file to which every push is appended as one line of JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
}

/// One rule: which device tokens, and what they are answered. Without `token` and `prefix` it fits every token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerRule {
    /// Fits this device token only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Fits device tokens that begin so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// What to answer.
    pub answer: RecordAnswer,
    /// For `token_dead`: since when, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// For `retry` and `throttled`: how long to wait, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
    /// For `throttled`: what must slow down; the app when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// How often the rule answers for one app before it is skipped; always when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

/// The answers that a rule can give, one for each verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordAnswer {
    /// Taken.
    #[default]
    Accepted,
    /// The device token is dead.
    TokenDead,
    /// The device token is another app's.
    TokenMismatch,
    /// The login ended.
    LoginExpired,
    /// The connection is of no use.
    NewConnection,
    /// Too much.
    Throttled,
    /// A passing fault.
    Retry,
    /// The push is wrong.
    PayloadRejected,
    /// The operator's mistake.
    ConfigError,
}

impl RecordCredential {
    /// Most rules of one credential.
    pub const RULES_MAX: usize = 1000;

    pub(super) fn validate(&self) -> Result<(), CredentialError> {
        if self.answers.len() > Self::RULES_MAX {
            return Err(CredentialError::new("answers", "has at most 1,000 rules"));
        }
        if self.answers.iter().any(|rule| rule.token.is_some() && rule.prefix.is_some()) {
            return Err(CredentialError::new("answers", "a rule has either token or prefix"));
        }
        Ok(())
    }

    pub(super) fn summary(&self) -> String {
        format!("record, {} rules", self.answers.len())
    }
}

impl AnswerRule {
    /// Whether the rule is about this device token.
    pub fn fits(&self, token: &str) -> bool {
        self.token.as_ref().is_none_or(|exact| exact == token)
            && self.prefix.as_ref().is_none_or(|prefix| token.starts_with(prefix.as_str()))
    }

    /// The rule as the answer that [`Vendor::verdict`] of this vendor reads.
    pub fn to_answer(&self) -> Answer {
        Answer { status: 200, body: serde_json::to_vec(self).unwrap_or_default().into(), ..Answer::default() }
    }
}

impl Vendor for RecordCredential {
    fn request(&self, push: &Push, _login: Option<&str>, _now_ms: u64) -> Result<Request<Bytes>, CannotSend> {
        let body = serde_json::to_vec(&content(push)).map_err(|_| CannotSend::Payload("push is not JSON"))?;
        Request::builder()
            .method(Method::POST)
            .uri("/record")
            .body(body.into())
            .map_err(|_| CannotSend::Payload("push makes no request"))
    }

    fn recall(&self, push: &Push, login: Option<&str>, now_ms: u64) -> Result<Request<Bytes>, CannotSend> {
        self.request(push, login, now_ms)
    }

    fn verdict(&self, answer: &Answer, _now_ms: u64) -> Verdict {
        let Ok(rule) = serde_json::from_slice::<AnswerRule>(&answer.body) else {
            return Verdict::ConfigError { reason: reason("the record vendor's answer is not a rule") };
        };
        let why = || reason("as told by a rule");
        let after = rule.after_ms.map(Duration::from_millis);
        match rule.answer {
            RecordAnswer::Accepted => Verdict::Accepted { vendor_id: None },
            RecordAnswer::TokenDead => Verdict::TokenDead { since_ms: rule.since_ms, reason: why() },
            RecordAnswer::TokenMismatch => Verdict::TokenMismatch { reason: why() },
            RecordAnswer::LoginExpired => Verdict::LoginExpired,
            RecordAnswer::NewConnection => Verdict::NewConnection { reason: why() },
            RecordAnswer::Throttled => {
                Verdict::Throttled { scope: rule.scope.unwrap_or(Scope::App), after, reason: why() }
            }
            RecordAnswer::Retry => Verdict::Retry { after, reason: why() },
            RecordAnswer::PayloadRejected => Verdict::PayloadRejected { reason: why() },
            RecordAnswer::ConfigError => Verdict::ConfigError { reason: why() },
        }
    }
}

/// Everything a push says, without the address, which stands beside it; absent fields are left out.
fn content(push: &Push) -> Value {
    let kind = match push.kind {
        PushKind::Alert => "alert",
        PushKind::Data => "data",
    };
    let mut all = json!({
        "mid": push.id.to_string(), "kind": kind, "title": push.title, "body": push.body, "data": push.data,
        "image": push.image, "sound": push.sound, "badge": push.badge, "badge_add": push.badge_add, "channel": push.channel,
        "category": push.category, "click": push.click, "collapse_key": push.collapse_key,
        "expires_at_ms": push.expires_at_ms, "priority": push.priority, "overrides": push.overrides,
    });
    if let Value::Object(fields) = &mut all {
        fields.retain(|_, value| !value.is_null());
        if push.is_recall {
            fields.insert("recall".to_owned(), true.into());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_becomes_its_verdict() {
        let names = [
            "accepted",
            "token_dead",
            "token_mismatch",
            "login_expired",
            "new_connection",
            "throttled",
            "retry",
            "payload_rejected",
            "config_error",
        ];
        for name in names {
            let rule: AnswerRule = serde_json::from_value(json!({"answer": name})).unwrap();
            assert_eq!(RecordCredential::default().verdict(&rule.to_answer(), 0).name(), name);
        }
    }

    #[test]
    fn a_rule_fits_a_token_a_prefix_or_all() {
        let table = [
            (json!({"answer": "retry"}), "T1", true),
            (json!({"token": "T1", "answer": "retry"}), "T1", true),
            (json!({"token": "T1", "answer": "retry"}), "T11", false),
            (json!({"prefix": "T1", "answer": "retry"}), "T11", true),
            (json!({"prefix": "T1", "answer": "retry"}), "T2", false),
        ];
        for (rule, token, wanted) in table {
            let parsed: AnswerRule = serde_json::from_value(rule.clone()).unwrap();
            assert_eq!(parsed.fits(token), wanted, "{rule} {token}");
        }
    }

    #[test]
    fn a_rule_with_token_and_prefix_is_refused() {
        let rule = AnswerRule { token: Some("a".into()), prefix: Some("a".into()), ..AnswerRule::default() };
        let credential = RecordCredential { answers: vec![rule], path: None };
        assert_eq!(credential.validate().unwrap_err().field, "answers");
    }
}
