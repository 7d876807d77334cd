//! Quiet hours: what the clock on the recipient's wall shows, and when they end. As pure as the time zones are.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Then;
use crate::zones::{LocalTime, Zone};

/// Beyond this a moment is told with its date, in milliseconds.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A time of day such as `08:00`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeOfDay {
    minutes: i16,
}

/// Why a text is no time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is a time of day from 00:00 to 23:59")]
pub struct TimeOfDayError;

impl TimeOfDay {
    /// Reads `08:00`.
    ///
    /// # Errors
    /// [`TimeOfDayError`] when it is not two digits of hours and two of minutes.
    pub fn parse(text: &str) -> Result<Self, TimeOfDayError> {
        let digits = |text: &str| {
            let is_plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<i16>().ok().filter(|_| is_plain)
        };
        let parts = text.split_once(':').and_then(|(hour, minute)| Some((digits(hour)?, digits(minute)?)));
        match parts {
            Some((hour @ 0..=23, minute @ 0..=59)) => Ok(Self { minutes: hour * 60 + minute }),
            Some(_) | None => Err(TimeOfDayError),
        }
    }

    fn of(local: LocalTime) -> Self {
        Self { minutes: i16::from(local.hour()) * 60 + i16::from(local.minute()) }
    }
}

impl TryFrom<String> for TimeOfDay {
    type Error = TimeOfDayError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<TimeOfDay> for String {
    fn from(time: TimeOfDay) -> Self {
        format!("{:02}:{:02}", time.minutes / 60, time.minutes % 60)
    }
}

/// When recipients are left alone: from one time of day to another, by the clock on their own wall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuietHours {
    /// Their first minute.
    #[schema(value_type = String, pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$", example = "22:00")]
    pub from: TimeOfDay,
    /// The first minute after them; earlier than `from` means the next day.
    #[schema(value_type = String, pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$", example = "08:00")]
    pub to: TimeOfDay,
    /// The time zone of a device that tells none, by its name in the IANA database.
    #[serde(default = "utc")]
    #[schema(default = "UTC", example = "Asia/Shanghai")]
    pub timezone: String,
    /// What becomes of a message meanwhile.
    #[serde(default)]
    pub then: Then,
}

fn utc() -> String {
    "UTC".to_owned()
}

impl QuietHours {
    pub(super) fn errors(&self) -> Vec<(&'static str, &'static str)> {
        let is_whole_day = self.from == self.to;
        let is_unknown = Zone::find(&self.timezone).is_none();
        [
            is_whole_day.then_some(("to", "is another time than from")),
            is_unknown.then_some(("timezone", "is a name of the IANA database, such as Asia/Shanghai")),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn has(&self, local: LocalTime) -> bool {
        let (from, to, now) = (self.from.minutes, self.to.minutes, TimeOfDay::of(local).minutes);
        if from < to { (from..to).contains(&now) } else { now >= from || now < to }
    }

    /// When they end, in milliseconds since 1970; `None` when it is not quiet now.
    ///
    /// Where the clock is turned, the end is the first moment at which it shows a time that is not quiet: a clock that
    /// jumps over the end has reached it, and one that is turned back into quiet hours is quiet again.
    pub(super) fn end_ms(&self, zone: &Zone, now_ms: u64) -> Option<u64> {
        let local = zone.local(now_ms);
        if !self.has(local) {
            return None;
        }
        let is_today = TimeOfDay::of(local).minutes < self.to.minutes;
        let day = if is_today { local.date() } else { local.date().tomorrow().ok()? };
        let (hour, minute) = (self.to.minutes / 60, self.to.minutes % 60);
        let end = day.at(i8::try_from(hour).ok()?, i8::try_from(minute).ok()?, 0, 0);
        let ends = zone.moments_ms(end).into_iter().chain(zone.next_turn_ms(now_ms));
        ends.filter(|end_ms| *end_ms > now_ms && !self.has(zone.local(*end_ms))).min()
    }
}

/// Whose clock counts: the device's own, where it tells a time zone that exists, or the one that a policy says.
pub(super) struct Wall {
    zone: Zone,
    /// The zone's name where it is not the recipient's own.
    stand_in: Option<String>,
}

impl Wall {
    /// The clock of a recipient.
    pub fn of(own: Option<&str>, usual: &str) -> Self {
        match own.and_then(Zone::find) {
            Some(zone) => Self { zone, stand_in: None },
            None => Self { zone: Zone::find(usual).unwrap_or(Zone::UTC), stand_in: Some(usual.to_owned()) },
        }
    }

    /// Its time zone.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// A moment in words, as somebody says it now.
    pub fn say(&self, at_ms: u64, now_ms: u64) -> String {
        let local = self.zone.local(at_ms);
        let time = String::from(TimeOfDay::of(local));
        let is_near = at_ms.saturating_sub(now_ms) < DAY_MS;
        let time = if is_near { time } else { format!("{time} on {}", local.date()) };
        match &self.stand_in {
            None => format!("{time} of the recipient's time"),
            Some(zone) => format!("{time} {zone}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quiet(from: &str, to: &str) -> QuietHours {
        let time = |text| TimeOfDay::parse(text).unwrap();
        QuietHours { from: time(from), to: time(to), timezone: utc(), then: Then::Delay }
    }

    fn moment(text: &str) -> u64 {
        crate::zones::parse_moment(text).unwrap()
    }

    fn zone(name: &str) -> Zone {
        Zone::find(name).unwrap()
    }

    #[test]
    fn a_time_of_day_is_written_in_one_way() {
        for good in ["00:00", "08:05", "23:59"] {
            assert_eq!(String::from(TimeOfDay::parse(good).unwrap()), good);
        }
        for bad in ["", "8:00", "24:00", "08:60", "+8:00", "08:0", "08:00:00", "0８:00"] {
            assert_eq!(TimeOfDay::parse(bad), Err(TimeOfDayError), "{bad}");
        }
    }

    #[test]
    fn quiet_hours_end_by_the_clock_on_the_recipient_s_wall() {
        for (hours, place, now, wanted) in [
            (("22:00", "08:00"), "Asia/Shanghai", "2026-11-25T13:59:59Z", None),
            (("22:00", "08:00"), "Asia/Shanghai", "2026-11-25T14:00:00Z", Some("2026-11-26T00:00:00Z")),
            (("22:00", "08:00"), "Asia/Shanghai", "2026-11-25T23:59:59Z", Some("2026-11-26T00:00:00Z")),
            (("22:00", "08:00"), "Asia/Shanghai", "2026-11-26T00:00:00Z", None),
            (("12:00", "14:00"), "America/New_York", "2026-07-01T16:30:00Z", Some("2026-07-01T18:00:00Z")),
            (("12:00", "14:00"), "America/New_York", "2026-07-01T12:30:00Z", None),
            // The night in which clocks are put forward is an hour shorter, the other one an hour longer.
            (("22:00", "08:00"), "Europe/Berlin", "2026-03-28T21:00:00Z", Some("2026-03-29T06:00:00Z")),
            (("22:00", "08:00"), "Europe/Berlin", "2026-10-24T20:00:00Z", Some("2026-10-25T07:00:00Z")),
            // The gap: the end is jumped over, at two o'clock it is three and not quiet.
            (("22:00", "02:30"), "Europe/Berlin", "2026-03-29T00:30:00Z", Some("2026-03-29T01:00:00Z")),
            // The gap: it jumps into quiet hours.
            (("02:30", "04:00"), "Europe/Berlin", "2026-03-29T00:59:00Z", None),
            (("02:30", "04:00"), "Europe/Berlin", "2026-03-29T01:00:00Z", Some("2026-03-29T02:00:00Z")),
            // The fold: half past two comes twice, and in between it is quiet again.
            (("22:00", "02:30"), "Europe/Berlin", "2026-10-25T00:15:00Z", Some("2026-10-25T00:30:00Z")),
            (("22:00", "02:30"), "Europe/Berlin", "2026-10-25T00:45:00Z", None),
            (("22:00", "02:30"), "Europe/Berlin", "2026-10-25T01:15:00Z", Some("2026-10-25T01:30:00Z")),
            (("22:00", "02:30"), "Europe/Berlin", "2026-10-25T01:30:00Z", None),
        ] {
            let end = quiet(hours.0, hours.1).end_ms(&zone(place), moment(now));
            assert_eq!(end, wanted.map(moment), "{hours:?} in {place} at {now}");
        }
    }

    #[test]
    fn a_moment_is_told_in_the_recipient_s_time_or_with_the_place() {
        let (now, at) = (moment("2026-11-25T14:00:00Z"), moment("2026-11-26T00:00:00Z"));
        let own = Wall::of(Some("Asia/Shanghai"), "UTC");
        assert_eq!(own.say(at, now), "08:00 of the recipient's time");
        assert_eq!(Wall::of(Some("Mars/Olympus"), "Asia/Shanghai").say(at, now), "08:00 Asia/Shanghai");
        assert_eq!(Wall::of(None, "UTC").say(at + DAY_MS, now), "00:00 on 2026-11-27 UTC");
    }

    proptest! {
        #[test]
        fn quiet_hours_end_at_the_first_moment_that_is_not_quiet(
            from in 0_i16..1440,
            length in 1_i16..1439,
            minute in 0_u64..(366 * 1440),
            place in prop::sample::select(vec![
                "UTC", "Asia/Shanghai", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Nuuk",
                "Asia/Kathmandu", "Pacific/Apia",
            ]),
        ) {
            let (from, to) = (TimeOfDay { minutes: from }, TimeOfDay { minutes: (from + length) % 1440 });
            let quiet = QuietHours { from, to, timezone: utc(), then: Then::Delay };
            let (zone, now_ms) = (zone(place), moment("2026-01-01T00:00:00Z") + minute * 60_000);
            let is_quiet = |at_ms: u64| quiet.has(zone.local(at_ms));
            let wanted = (now_ms..).step_by(60_000).find(|at_ms| !is_quiet(*at_ms)).unwrap();
            let end = quiet.end_ms(&zone, now_ms);
            prop_assert_eq!(end, (wanted > now_ms).then_some(wanted));
        }
    }
}
