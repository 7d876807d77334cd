//! How many pushes a vendor takes from an app: a second, and a day. Pure: time comes in as a number.
//!
//! The second is a token bucket in memory that holds one second's worth; the day is a count on disk, because a restart
//! must not begin it again.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::lane::Class;
use crate::vendor::VendorName;
use crate::wall_clock::WallClock;

/// Parts of a push that the bucket counts in.
const PARTS: u64 = 1_000;

/// How many pushes, a second and a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Pushes a second; `None`: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
    /// Pushes a day; `None`: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_day: Option<u64>,
}

/// Bounds of one credential: of all its pushes together, and of each class within that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Pushes a second; `None`: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
    /// Pushes a day; `None`: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_day: Option<u64>,
    /// Of pushes that the user waits for.
    #[serde(default, skip_serializing_if = "Bounds::is_none")]
    pub service: Bounds,
    /// Of pushes that advertise.
    #[serde(default, skip_serializing_if = "Bounds::is_none")]
    pub marketing: Bounds,
}

impl Bounds {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl Rates {
    /// What the vendor allows every app, by its pages; larger apps may have more, and set it in the credential.
    pub fn usual(vendor: VendorName) -> Self {
        let per_second = match vendor {
            VendorName::Fcm => Some(10_000), // 600,000 a minute and project
            VendorName::Huawei | VendorName::Harmony => Some(6_000),
            VendorName::Honor => Some(3_000),
            VendorName::Xiaomi => Some(500), // requests: see `counts_requests`
            VendorName::Oppo => Some(5_000),
            VendorName::Vivo => Some(3_000),
            VendorName::Meizu => Some(200),
            VendorName::Apns
            | VendorName::WebPush
            | VendorName::Wns
            | VendorName::Wechat
            | VendorName::Webhook
            | VendorName::Record => None,
        };
        Self { per_second, ..Self::default() }
    }

    /// These, and where they say nothing the usual ones.
    pub fn or_usual(self, vendor: VendorName) -> Self {
        let usual = Self::usual(vendor);
        Self {
            per_second: self.per_second.or(usual.per_second),
            per_day: self.per_day.or(usual.per_day),
            ..self
        }
    }

    /// The bounds of one class.
    pub fn of(&self, class: Class) -> Bounds {
        match class {
            Class::Service => self.service,
            Class::Marketing => self.marketing,
        }
    }
}

/// Whether a vendor's second counts requests, each with a whole batch, and not device tokens.
pub(crate) fn counts_requests(vendor: VendorName) -> bool {
    vendor == VendorName::Xiaomi
}

/// A token bucket of one second's worth.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    parts: u64,
    at_ms: u64,
}

impl Bucket {
    /// How many pushes it holds now; any number without a rate.
    pub fn has(&mut self, per_second: Option<u32>, now_ms: u64) -> usize {
        let Some(per_second) = per_second else { return usize::MAX };
        self.fill(per_second, now_ms);
        usize::try_from(self.parts / PARTS).unwrap_or(usize::MAX)
    }

    /// Takes so many out, which it has.
    pub fn spend(&mut self, count: usize) {
        self.parts = self.parts.saturating_sub(count as u64 * PARTS);
    }

    /// When it holds so many, in milliseconds since 1970; never more than it can hold.
    pub fn next_ms(&self, per_second: Option<u32>, count: usize, now_ms: u64) -> u64 {
        let Some(per_second) = per_second else { return now_ms };
        let wanted = (count as u64).min(per_second.into()).max(1) * PARTS;
        now_ms + wanted.saturating_sub(self.parts).div_ceil(u64::from(per_second.max(1)))
    }

    /// A push a second is one part a millisecond.
    fn fill(&mut self, per_second: u32, now_ms: u64) {
        let full = u64::from(per_second) * PARTS;
        let gained = now_ms.saturating_sub(self.at_ms).saturating_mul(u64::from(per_second));
        self.parts = self.parts.saturating_add(gained).min(full);
        self.at_ms = now_ms;
    }
}

/// Pushes of one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Day {
    /// The day's number, by the vendor's clock.
    pub day: u64,
    /// Calls made.
    pub used: u64,
}

impl Day {
    /// Counts one more call, or says when the next day begins, in milliseconds since 1970.
    ///
    /// # Errors
    /// The beginning of the next day when this one is used up.
    pub fn use_one(&mut self, vendor: VendorName, per_day: u64, now_ms: u64) -> Result<(), u64> {
        let clock = WallClock::of(vendor);
        let day = clock.day(now_ms);
        if self.day != day {
            *self = Self { day, used: 0 };
        }
        if self.used >= per_day {
            return Err(clock.next_midnight_ms(now_ms));
        }
        self.used += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_700_000_000_000;

    #[test]
    fn a_day_ends_at_the_vendors_midnight() {
        let mut china = Day::default();
        let midnight = 1_700_064_000_000; // 16:00 UTC
        assert_eq!(china.use_one(VendorName::Oppo, 2, NOW), Ok(()));
        assert_eq!(china.use_one(VendorName::Oppo, 2, NOW), Ok(()));
        assert_eq!(china.use_one(VendorName::Oppo, 2, NOW), Err(midnight));
        assert_eq!(china.use_one(VendorName::Oppo, 2, midnight - 1), Err(midnight));
        assert_eq!(china.use_one(VendorName::Oppo, 2, midnight), Ok(()));
        let mut utc = Day::default();
        assert_eq!(utc.use_one(VendorName::Apns, 0, NOW), Err(1_700_006_400_000));
    }

    #[test]
    fn what_a_credential_says_wins_over_the_usual() {
        let own = Rates { per_second: Some(7), per_day: Some(9), ..Rates::default() };
        assert_eq!(own.or_usual(VendorName::Meizu), own);
        let usual = Rates { per_second: Some(200), ..Rates::default() };
        assert_eq!(Rates::default().or_usual(VendorName::Meizu), usual);
        assert_eq!(Rates::default().or_usual(VendorName::Apns), Rates::default());
    }

    proptest! {
        #[test]
        fn a_bucket_gives_no_more_than_its_rate_and_one_second_ahead(
            per_second in 1_u32..10_000,
            asks in prop::collection::vec((0_usize..5_000, 0_u64..3_000), 1..100),
        ) {
            let (mut bucket, mut now_ms, mut given) = (Bucket::default(), NOW, 0_u64);
            for (wanted, later) in asks {
                now_ms += later;
                let rate = Some(per_second);
                let taken = wanted.min(bucket.has(rate, now_ms));
                bucket.spend(taken);
                given += taken as u64;
                prop_assert!(given <= (now_ms - NOW + 1_000) * u64::from(per_second) / 1_000 + 1);
                if taken < wanted {
                    let rest = wanted - taken;
                    let next_ms = bucket.next_ms(rate, rest, now_ms);
                    prop_assert!(next_ms > now_ms && next_ms <= now_ms + 1_000);
                    let will_have = bucket.clone().has(rate, next_ms);
                    prop_assert!(will_have >= rest.min(per_second as usize), "{} of {}", will_have, rest);
                }
            }
        }
    }
}
