//! The day as push services count it: their quotas end at its midnight, their own quiet hours in its morning. What clocks
//! show where devices are is `zones`' matter. Pure.

use std::time::Duration;

use crate::vendor::VendorName;

/// Milliseconds of a day.
pub(crate) const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A clock on a wall where nobody turns it for summer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WallClock {
    ahead_ms: u64,
}

impl WallClock {
    /// The whole of China, UTC+8.
    pub const CHINA: Self = Self { ahead_ms: 8 * 60 * 60 * 1000 };
    /// UTC.
    pub const UTC: Self = Self { ahead_ms: 0 };

    /// The clock by which this vendor counts its days.
    pub fn of(vendor: VendorName) -> Self {
        match vendor {
            VendorName::Huawei
            | VendorName::Harmony
            | VendorName::Honor
            | VendorName::Xiaomi
            | VendorName::Oppo
            | VendorName::Vivo
            | VendorName::Meizu
            | VendorName::Wechat => Self::CHINA,
            VendorName::Apns
            | VendorName::Fcm
            | VendorName::WebPush
            | VendorName::Wns
            | VendorName::Webhook
            | VendorName::Record => Self::UTC,
        }
    }

    /// The day's number; it grows by one at midnight.
    pub fn day(self, now_ms: u64) -> u64 {
        now_ms.saturating_add(self.ahead_ms) / DAY_MS
    }

    /// When the next day begins, in milliseconds since 1970.
    pub fn next_midnight_ms(self, now_ms: u64) -> u64 {
        let wait_ms = u64::try_from(self.until_midnight(now_ms).as_millis()).unwrap_or(DAY_MS);
        now_ms.saturating_add(wait_ms)
    }

    /// From now to the next midnight.
    pub fn until_midnight(self, now_ms: u64) -> Duration {
        self.until(Duration::ZERO, now_ms)
    }

    /// From now to when this clock next shows `time` after its midnight; a whole day when it shows it now.
    pub fn until(self, time: Duration, now_ms: u64) -> Duration {
        let shown_ms = now_ms.saturating_add(self.ahead_ms) % DAY_MS;
        let wanted_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX) % DAY_MS;
        let wait_ms = if shown_ms < wanted_ms { wanted_ms - shown_ms } else { DAY_MS - shown_ms + wanted_ms };
        Duration::from_millis(wait_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 60 * 60 * 1000;
    /// A midnight in China, which is 16:00 UTC.
    const MIDNIGHT: u64 = 1_700_064_000_000;

    #[test]
    fn the_next_midnight_and_morning_of_china() {
        let table = [
            (MIDNIGHT - 1, 1, 7 * HOUR_MS + 1),
            (MIDNIGHT, 24 * HOUR_MS, 7 * HOUR_MS),
            (MIDNIGHT + 1, 24 * HOUR_MS - 1, 7 * HOUR_MS - 1),
            (MIDNIGHT + 7 * HOUR_MS, 17 * HOUR_MS, 24 * HOUR_MS),
            (MIDNIGHT + 23 * HOUR_MS, HOUR_MS, 8 * HOUR_MS),
        ];
        for (now_ms, midnight_ms, morning_ms) in table {
            let china = WallClock::CHINA;
            assert_eq!(china.until_midnight(now_ms), Duration::from_millis(midnight_ms), "{now_ms}");
            assert_eq!(china.next_midnight_ms(now_ms), now_ms + midnight_ms, "{now_ms}");
            let morning = china.until(Duration::from_secs(7 * 3600), now_ms);
            assert_eq!(morning, Duration::from_millis(morning_ms), "{now_ms}");
        }
    }

    #[test]
    fn a_day_has_one_number_from_midnight_to_midnight() {
        let china = WallClock::CHINA;
        assert_eq!(china.day(MIDNIGHT) - china.day(MIDNIGHT - 1), 1);
        assert_eq!(china.day(MIDNIGHT + DAY_MS - 1), china.day(MIDNIGHT));
        assert_eq!(WallClock::UTC.day(MIDNIGHT), WallClock::UTC.day(MIDNIGHT - 1));
        assert_eq!(WallClock::UTC.until_midnight(MIDNIGHT), Duration::from_millis(8 * HOUR_MS));
    }

    #[test]
    fn phone_makers_of_china_count_by_china() {
        assert_eq!(WallClock::of(VendorName::Oppo), WallClock::CHINA);
        assert_eq!(WallClock::of(VendorName::Apns), WallClock::UTC);
    }
}
