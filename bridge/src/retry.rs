//! When a push is tried again, and when that ends. Pure: time and randomness come in as numbers.
//!
//! ```text
//! verdict            next
//! Accepted           Done
//! Retry, NewConnection, LoginExpired   back-off with full jitter, or what the vendor asked for
//! SendAlone          at once, without its batch
//! Throttled          what the vendor asked for, else a minute; the day's quota: the vendor's next midnight
//! TokenDead, TokenMismatch, PayloadRejected, Filtered, ConfigError   give up
//! ```
//! A next attempt is never at or after the moment the push is worthless.

use std::time::Duration;

use crate::vendor::{Scope, VendorName, Verdict};
use crate::wall_clock::{DAY_MS, WallClock};

/// The figures behind [`next_attempt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// No attempt follows another sooner than this.
    pub wait_min: Duration,
    /// The spread after the first failed attempt; it doubles with each further one.
    pub base: Duration,
    /// The widest spread.
    pub cap: Duration,
    /// How long to wait when throttled without a word of the vendor's.
    pub throttle_wait: Duration,
    /// The longest wait that a vendor's word can cause.
    pub vendor_wait_max: Duration,
    /// After this time since the first attempt, faults are no longer retried.
    pub give_up_after: Duration,
    /// Attempts for one push, at most.
    pub attempts_max: u32,
}

impl RetryPolicy {
    /// What the vendor's documents advise.
    pub fn for_vendor(vendor: VendorName) -> Self {
        let usual = Self {
            wait_min: Duration::from_secs(1),
            base: Duration::from_secs(2),
            cap: Duration::from_secs(15 * 60),
            throttle_wait: Duration::from_secs(60),
            vendor_wait_max: Duration::from_millis(DAY_MS),
            give_up_after: Duration::from_millis(DAY_MS),
            attempts_max: 20,
        };
        match vendor {
            // At least 10 s before any retry, an hour in all.
            VendorName::Fcm => Self {
                wait_min: Duration::from_secs(10),
                base: Duration::from_secs(10),
                give_up_after: Duration::from_secs(60 * 60),
                ..usual
            },
            VendorName::Apns
            | VendorName::Huawei
            | VendorName::Harmony
            | VendorName::Honor
            | VendorName::Xiaomi
            | VendorName::Oppo
            | VendorName::Vivo
            | VendorName::Meizu
            | VendorName::WebPush
            | VendorName::Wns
            | VendorName::Wechat
            | VendorName::Webhook
            | VendorName::Record => usual,
        }
    }
}

/// What to do after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the vendor has the push.
    Done,
    /// Try again at this moment, in milliseconds since 1970.
    At(u64),
    /// Do not try again.
    GiveUp(GiveUp),
}

/// Why a push is not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GiveUp {
    /// The device token is dead or another app's.
    Token,
    /// This push is wrong.
    Payload,
    /// The vendor does not show it to this device.
    Filtered,
    /// The operator must change the credential.
    Config,
    /// It would be worthless by the next attempt.
    Expired,
    /// Too many attempts, or for too long.
    Exhausted,
}

impl GiveUp {
    /// A short name for metric labels and delivery records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Payload => "payload",
            Self::Filtered => "filtered",
            Self::Config => "config",
            Self::Expired => "expired",
            Self::Exhausted => "exhausted",
        }
    }
}

/// What follows attempt number `attempt` (the first is 1) that ended now with this verdict.
///
/// `first_at_ms` is when the first attempt began; `random` is any number, evenly spread.
pub fn next_attempt(
    policy: &RetryPolicy,
    verdict: &Verdict,
    attempt: u32,
    first_at_ms: u64,
    now_ms: u64,
    expires_at_ms: Option<u64>,
    random: u64,
) -> Next {
    let (at_ms, end_ms) = match verdict {
        Verdict::Accepted { .. } => return Next::Done,
        Verdict::SendAlone { .. } => (now_ms, u64::MAX),
        Verdict::TokenDead { .. } | Verdict::TokenMismatch { .. } => return Next::GiveUp(GiveUp::Token),
        Verdict::PayloadRejected { .. } => return Next::GiveUp(GiveUp::Payload),
        Verdict::Filtered { .. } => return Next::GiveUp(GiveUp::Filtered),
        Verdict::ConfigError { .. } => return Next::GiveUp(GiveUp::Config),
        Verdict::Retry { after: Some(after), .. } => {
            (asked(policy, *after, now_ms, random), end(first_at_ms, policy.give_up_after))
        }
        Verdict::Retry { after: None, .. } | Verdict::NewConnection { .. } | Verdict::LoginExpired => {
            (backed_off(policy, attempt, now_ms, random), end(first_at_ms, policy.give_up_after))
        }
        Verdict::Throttled { scope: Scope::Day, after: None, .. } => {
            let midnight = WallClock::CHINA.next_midnight_ms(now_ms); // only vendors there have such quotas
            (midnight.saturating_add(spread(policy.throttle_wait, random)), u64::MAX)
        }
        Verdict::Throttled { after, .. } => {
            (asked(policy, after.unwrap_or(policy.throttle_wait), now_ms, random), u64::MAX)
        }
    };
    if expires_at_ms.is_some_and(|expires_at_ms| at_ms >= expires_at_ms) {
        return Next::GiveUp(GiveUp::Expired);
    }
    if attempt >= policy.attempts_max || at_ms > end_ms {
        return Next::GiveUp(GiveUp::Exhausted);
    }
    Next::At(at_ms)
}

/// Full jitter: anywhere between the least wait and a spread that doubles, so that pushes that failed
/// together do not come back together.
fn backed_off(policy: &RetryPolicy, attempt: u32, now_ms: u64, random: u64) -> u64 {
    let doubled =
        policy.base.saturating_mul(1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX));
    let wait = millis(policy.wait_min).saturating_add(spread(doubled.min(policy.cap), random));
    now_ms.saturating_add(wait.max(1))
}

/// Never sooner than the vendor asked, a little later at random.
fn asked(policy: &RetryPolicy, after: Duration, now_ms: u64, random: u64) -> u64 {
    let wait = after.min(policy.vendor_wait_max).max(policy.wait_min);
    now_ms.saturating_add(millis(wait).saturating_add(spread(policy.base, random)).max(1))
}

fn end(first_at_ms: u64, give_up_after: Duration) -> u64 {
    first_at_ms.saturating_add(millis(give_up_after))
}

fn spread(width: Duration, random: u64) -> u64 {
    random % millis(width).saturating_add(1).max(1)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_790_000_000_000;

    fn retry(after: Option<u64>) -> Verdict {
        Verdict::Retry { after: after.map(Duration::from_secs), reason: String::new() }
    }

    fn throttled(scope: Scope, after: Option<u64>) -> Verdict {
        Verdict::Throttled { scope, after: after.map(Duration::from_secs), reason: String::new() }
    }

    fn next(vendor: VendorName, verdict: &Verdict, attempt: u32, random: u64) -> Next {
        next_attempt(&RetryPolicy::for_vendor(vendor), verdict, attempt, NOW, NOW, None, random)
    }

    #[test]
    fn what_cannot_succeed_is_not_repeated() {
        let reason = String::new;
        let table = [
            (Verdict::Accepted { vendor_id: None }, Next::Done),
            (Verdict::TokenDead { since_ms: Some(1), reason: reason() }, Next::GiveUp(GiveUp::Token)),
            (Verdict::TokenMismatch { reason: reason() }, Next::GiveUp(GiveUp::Token)),
            (Verdict::PayloadRejected { reason: reason() }, Next::GiveUp(GiveUp::Payload)),
            (Verdict::ConfigError { reason: reason() }, Next::GiveUp(GiveUp::Config)),
        ];
        for (verdict, wanted) in table {
            assert_eq!(next(VendorName::Apns, &verdict, 1, 7), wanted, "{verdict:?}");
        }
    }

    #[test]
    fn the_vendors_word_and_the_advice_are_kept() {
        use VendorName::{Apns, Fcm};
        let table = [
            ("FCM waits at least 10 s", Fcm, retry(None), 10_000),
            ("Retry-After counts", Fcm, retry(Some(30)), 30_000),
            ("a short Retry-After does not go below FCM's least wait", Fcm, retry(Some(1)), 10_000),
            ("throttled without a word: a minute", Apns, throttled(Scope::Token, None), 60_000),
            ("throttled with a word", Fcm, throttled(Scope::App, Some(90)), 90_000),
            ("APNs in the 500 family: 15 minutes", Apns, retry(Some(900)), 900_000),
        ];
        for (name, vendor, verdict, wait_ms) in table {
            assert_eq!(next(vendor, &verdict, 1, 0), Next::At(NOW + wait_ms), "{name}");
        }
    }

    #[test]
    fn a_daily_quota_is_over_at_midnight_in_china() {
        let noon_utc = 1_790_000_000_000 / DAY_MS * DAY_MS + DAY_MS / 2;
        let policy = RetryPolicy::for_vendor(VendorName::Record);
        let verdict = throttled(Scope::Day, None);
        let wanted = noon_utc + 4 * 60 * 60 * 1000; // 20:00 there
        assert_eq!(next_attempt(&policy, &verdict, 1, noon_utc, noon_utc, None, 0), Next::At(wanted));
    }

    #[test]
    fn the_end_comes_by_expiry_by_time_and_by_number() {
        let policy = RetryPolicy::for_vendor(VendorName::Fcm);
        let at =
            |attempt, first, expires| next_attempt(&policy, &retry(None), attempt, first, NOW, expires, 0);
        assert_eq!(at(1, NOW, Some(NOW + 10_001)), Next::At(NOW + 10_000));
        assert_eq!(at(1, NOW, Some(NOW + 10_000)), Next::GiveUp(GiveUp::Expired));
        assert_eq!(at(1, NOW - 3_590_000, None), Next::At(NOW + 10_000));
        assert_eq!(at(1, NOW - 3_590_001, None), Next::GiveUp(GiveUp::Exhausted));
        assert_eq!(at(19, NOW, None), Next::At(NOW + 10_000));
        assert_eq!(at(20, NOW, None), Next::GiveUp(GiveUp::Exhausted));
    }

    fn any_verdict() -> impl Strategy<Value = Verdict> {
        let after = || proptest::option::of(0_u64..200_000);
        let scope =
            prop_oneof![Just(Scope::Token), Just(Scope::App), Just(Scope::Day), Just(Scope::Connection)];
        prop_oneof![
            after().prop_map(retry),
            (scope, after()).prop_map(|(scope, after)| throttled(scope, after)),
            Just(Verdict::LoginExpired),
            Just(Verdict::NewConnection { reason: String::new() }),
        ]
    }

    proptest! {
        #[test]
        fn an_attempt_is_in_the_future_before_the_expiry_and_not_sooner_than_asked(
            verdict in any_verdict(), attempt in 1_u32..40, age in 0_u64..100_000_000, ttl in proptest::option::of(0_u64..100_000_000),
            random: u64, vendor in proptest::sample::select(VendorName::ALL.to_vec()),
        ) {
            let policy = RetryPolicy::for_vendor(vendor);
            let expires = ttl.map(|ttl| NOW + ttl);
            let next = next_attempt(&policy, &verdict, attempt, NOW - age, NOW, expires, random);
            let Next::At(at) = next else {
                prop_assert!(matches!(next, Next::GiveUp(GiveUp::Expired | GiveUp::Exhausted)));
                return Ok(());
            };
            prop_assert!(at > NOW && attempt < policy.attempts_max);
            prop_assert!(at >= NOW + millis(policy.wait_min));
            prop_assert!(expires.is_none_or(|expires| at < expires));
            if let Verdict::Retry { after: Some(after), .. } | Verdict::Throttled { after: Some(after), .. } = &verdict {
                prop_assert!(at - NOW >= millis(*after).min(DAY_MS) && at - NOW <= millis(*after) + 60_000);
            }
        }

        #[test]
        fn the_back_off_is_spread_over_a_width_that_doubles_up_to_the_cap(attempt in 1_u32..20, random: u64) {
            let policy = RetryPolicy::for_vendor(VendorName::Apns);
            let width = (2_000_u64 << (attempt - 1).min(20)).min(900_000);
            let Next::At(at) = next(VendorName::Apns, &retry(None), attempt, random) else { panic!("gave up") };
            prop_assert!(at - NOW <= millis(policy.wait_min) + width);
            prop_assert_eq!(next(VendorName::Apns, &retry(None), attempt, width), Next::At(NOW + 1_000 + width));
        }
    }
}
