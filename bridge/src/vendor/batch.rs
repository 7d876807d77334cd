//! One request for many devices: what its answer says of each. A batch carries one message to several device tokens.

use super::{Push, Verdict};

/// Gives each push of a batch the word that the vendor said of all.
///
/// A word about device tokens that names none of them is not believed of a whole batch, because one bad token may
/// have caused it: each push is then sent alone, where the same word is clear.
pub(super) fn all(push: &Push, verdict: &Verdict) -> Vec<Verdict> {
    let count = push.token_count();
    let is_about_tokens = matches!(
        verdict,
        Verdict::TokenDead { .. } | Verdict::TokenMismatch { .. } | Verdict::Filtered { .. }
    );
    if count > 1 && is_about_tokens {
        return vec![Verdict::SendAlone { reason: verdict.reason().to_owned() }; count];
    }
    vec![verdict.clone(); count]
}

/// Gives each push of a batch what `told` finds for its device token, in order.
pub(super) fn each(push: &Push, told: impl Fn(&str) -> Verdict) -> Vec<Verdict> {
    push.tokens().map(|token| told(token.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vendor::Scope;
    use crate::vendor::testing::batch;

    #[test]
    fn a_word_about_tokens_that_names_none_is_believed_of_one_push_only() {
        let why = || "why".to_owned();
        for (verdict, of_many) in [
            (Verdict::Accepted { vendor_id: None }, "accepted"),
            (Verdict::TokenDead { since_ms: None, reason: why() }, "send_alone"),
            (Verdict::TokenMismatch { reason: why() }, "send_alone"),
            (Verdict::Filtered { reason: why() }, "send_alone"),
            (Verdict::PayloadRejected { reason: why() }, "payload_rejected"),
            (Verdict::Throttled { scope: Scope::App, after: None, reason: why() }, "throttled"),
            (Verdict::Retry { after: None, reason: why() }, "retry"),
            (Verdict::LoginExpired, "login_expired"),
        ] {
            assert_eq!(all(&batch(&["a"]), &verdict), std::slice::from_ref(&verdict));
            let names: Vec<_> = all(&batch(&["a", "b"]), &verdict).iter().map(Verdict::name).collect();
            assert_eq!(names, [of_many, of_many]);
        }
    }
}
