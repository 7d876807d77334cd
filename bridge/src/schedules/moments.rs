//! When a schedule is due next. Pure: the clock is a parameter.
//!
//! A schedule counts in times that a wall clock shows, each of which comes once: what clocks skip in spring comes later by
//! as much, what they show twice in autumn comes the first time only.

use std::fmt;

use cronexpr::{Crontab, FallbackTimezoneOption, MakeTimestamp, ParseOptions, parse_crontab_with};
use serde::{Deserialize, Serialize};

use crate::starts::{Local, Missed, Start, zone_name};
use crate::zones::{self, LocalTime, Zone};

/// Longest cron expression, in bytes.
const CRON_MAX: usize = 256;
/// Fields of a cron expression.
const CRON_FIELDS: usize = 5;
/// How far back a moment that was missed is looked for, the nearest first, in milliseconds: an hour, a day, two months.
const LOOK_BACK_MS: [u64; 3] = [3_600_000, 86_400_000, 62 * 86_400_000];

/// Why a text is no cron expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CronError {
    /// Too few or too many fields, or too long.
    #[error("has five fields: minute, hour, day of the month, month, day of the week")]
    Fields,
    /// One of them is none.
    #[error("character {at}: {reason}")]
    Field { at: usize, reason: String },
    /// It never comes.
    #[error("means no moment at all")]
    Never,
}

/// A cron expression that was read.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Cron {
    text: String,
    read: Box<Crontab>,
}

impl Cron {
    /// Reads the text.
    ///
    /// # Errors
    /// [`CronError`] with the place.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        if text.split_whitespace().count() != CRON_FIELDS || text.len() > CRON_MAX {
            return Err(CronError::Fields);
        }
        let mut options = ParseOptions::default();
        options.fallback_timezone_option = FallbackTimezoneOption::UTC; // its clock stands for any wall's
        let read = parse_crontab_with(text, options).map_err(|error| field_error(&error.to_string()))?;
        let cron = Self { text: text.to_owned(), read: Box::new(read) };
        match cron.next(Zone::UTC.local(0)) {
            Some(_) => Ok(cron),
            None => Err(CronError::Never),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The next time after one; `None` when none comes in four years.
    fn next(&self, after: LocalTime) -> Option<LocalTime> {
        let after = jiff::tz::TimeZone::UTC.to_timestamp(after).ok()?;
        self.read.find_next(MakeTimestamp(after)).ok().map(|found| found.datetime())
    }
}

/// The library draws an arrow under the text; a field of a form needs the place as a number.
fn field_error(drawn: &str) -> CronError {
    let last = drawn.lines().last().unwrap_or_default();
    match last.split_once('^') {
        Some((space, reason)) => CronError::Field { at: space.len() + 1, reason: reason.trim().to_owned() },
        None => CronError::Field { at: 1, reason: last.to_owned() },
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({})", self.text)
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl TryFrom<String> for Cron {
    type Error = CronError;

    fn try_from(text: String) -> Result<Self, CronError> {
        Self::parse(&text)
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> Self {
        cron.text
    }
}

/// At which times of a wall clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum When {
    /// Once.
    At(LocalTime),
    /// Again and again.
    Cron(Cron),
}

/// Whose wall clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Clock {
    /// One in this zone.
    Of(#[serde(with = "zone_name")] Zone),
    /// Each reader's own; of those that name no zone, one in this.
    Recipient(#[serde(with = "zone_name")] Zone),
}

/// Everything that says when a schedule is due.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rhythm {
    pub when: When,
    pub clock: Clock,
    /// Not before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<LocalTime>,
    /// Not after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<LocalTime>,
    /// What becomes of moments that passed unused.
    #[serde(default)]
    pub missed: Missed,
}

/// One time of a schedule, and when its message is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moment {
    /// As the wall clock shows it.
    pub local: LocalTime,
    /// In milliseconds since 1970; for readers' own clocks the first of them.
    pub at_ms: u64,
}

impl Rhythm {
    /// The first moment that lies ahead. A time on readers' walls that is past for some of them counts only where it is
    /// the only one.
    pub fn first(&self, now_ms: u64) -> Option<Moment> {
        let begin = |local: LocalTime| zones::shifted(local, -1); // the time itself counts
        match &self.when {
            When::At(local) => {
                let moment = self.moment(*local);
                let is_ahead = self.start(*local, moment.at_ms).last_ms() > now_ms;
                (is_ahead && self.is_within(*local)).then_some(moment)
            }
            When::Cron(_) => {
                // No wall shows an earlier time now.
                let shown = Zone::UTC.local(now_ms.saturating_sub(zones::BEHIND_MAX_MS));
                let after = self.from.map_or(shown, |from| begin(from).max(shown));
                self.after(after, now_ms)
            }
        }
    }

    /// The first moment after a time that is later than `done_ms`.
    pub fn after(&self, mut after: LocalTime, done_ms: u64) -> Option<Moment> {
        let When::Cron(cron) = &self.when else { return None };
        if let Clock::Recipient(_) = self.clock {
            // What some wall showed by then has its first moment behind it. To look there costs every zone for every time.
            after = after.max(zones::latest_shown(done_ms));
        }
        loop {
            let local = cron.next(after).filter(|local| self.is_within(*local))?;
            let moment = self.moment(local);
            if moment.at_ms > done_ms {
                return Some(moment);
            }
            after = local;
        }
    }

    /// The last moment that is due, beginning with one that is.
    pub fn latest(&self, due: Moment, now_ms: u64) -> Moment {
        for back_ms in LOOK_BACK_MS {
            let from_ms = now_ms.saturating_sub(back_ms).max(due.at_ms);
            let shown = Zone::UTC.local(from_ms.saturating_sub(zones::BEHIND_MAX_MS));
            let mut found = self.after(shown.max(due.local), from_ms).filter(|moment| moment.at_ms <= now_ms);
            let mut latest = None;
            while let Some(moment) = found {
                latest = Some(moment);
                found = self.after(moment.local, moment.at_ms).filter(|moment| moment.at_ms <= now_ms);
            }
            if let Some(latest) = latest {
                return latest;
            }
        }
        due
    }

    /// When the message of a moment begins.
    pub fn start(&self, local: LocalTime, at_ms: u64) -> Start {
        match &self.clock {
            Clock::Of(_) => Start::At(at_ms),
            Clock::Recipient(otherwise) => {
                Start::Local(Local { time: local, otherwise: otherwise.clone(), missed: self.missed })
            }
        }
    }

    fn is_within(&self, local: LocalTime) -> bool {
        self.from.is_none_or(|from| from <= local) && self.until.is_none_or(|until| local <= until)
    }

    fn moment(&self, local: LocalTime) -> Moment {
        let at_ms = match &self.clock {
            Clock::Of(zone) => zone.moment_ms(local),
            Clock::Recipient(_) => self.start(local, 0).first_ms(),
        };
        Moment { local, at_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR_MS: u64 = 60 * 60 * 1000;

    fn local(text: &str) -> LocalTime {
        zones::parse_local(text).unwrap()
    }

    fn ms(text: &str) -> u64 {
        zones::parse_moment(text).unwrap()
    }

    fn every(cron: &str, zone: &str) -> Rhythm {
        let clock = Clock::Of(Zone::find(zone).unwrap());
        let when = When::Cron(Cron::parse(cron).unwrap());
        Rhythm { when, clock, from: None, until: None, missed: Missed::RunOnce }
    }

    fn moments(rhythm: &Rhythm, from: &str, count: usize) -> Vec<u64> {
        let first = rhythm.first(ms(from));
        let next = |moment: &Moment| rhythm.after(moment.local, moment.at_ms);
        std::iter::successors(first, next).take(count).map(|moment| moment.at_ms).collect()
    }

    #[test]
    fn a_daily_time_stays_the_same_on_the_wall_over_both_changes_of_the_clock() {
        let nine = every("0 9 * * *", "Europe/Berlin");
        let wanted = ["2026-03-28T08:00:00Z", "2026-03-29T07:00:00Z", "2026-03-30T07:00:00Z"];
        assert_eq!(moments(&nine, "2026-03-28T00:00:00Z", 3), wanted.map(ms));
        let wanted = ["2026-10-24T07:00:00Z", "2026-10-25T08:00:00Z"];
        assert_eq!(moments(&nine, "2026-10-24T00:00:00Z", 2), wanted.map(ms));
    }

    #[test]
    fn a_time_that_is_skipped_comes_later_that_day_and_one_that_comes_twice_comes_once() {
        let half_past_two = every("30 2 * * *", "Europe/Berlin");
        let wanted = ["2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"];
        assert_eq!(moments(&half_past_two, "2026-03-28T00:00:00Z", 3), wanted.map(ms));
        let wanted = ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"];
        assert_eq!(moments(&half_past_two, "2026-10-25T00:00:00Z", 2), wanted.map(ms));
        // 02:00, 02:20 and 02:40 do not exist that night: they are the moments of 03:00, 03:20 and 03:40.
        let often = every("*/20 * * * *", "Europe/Berlin");
        let found = moments(&often, "2026-03-29T00:30:00Z", 4);
        let wanted =
            ["2026-03-29T00:40:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:20:00Z", "2026-03-29T01:40:00Z"];
        assert_eq!(found, wanted.map(ms));
    }

    #[test]
    fn it_begins_and_ends_when_it_says() {
        let mut weekdays = every("0 9 * * MON-FRI", "Asia/Shanghai");
        weekdays.from = Some(local("2026-09-04T09:00:00")); // a Friday
        weekdays.until = Some(local("2026-09-07T09:00:00"));
        let wanted = ["2026-09-04T01:00:00Z", "2026-09-07T01:00:00Z"];
        assert_eq!(moments(&weekdays, "2026-01-01T00:00:00Z", 9), wanted.map(ms));
        let once =
            Rhythm { when: When::At(local("2026-09-01T09:00:00")), until: None, from: None, ..weekdays };
        assert_eq!(moments(&once, "2026-09-01T00:59:59Z", 9), [ms("2026-09-01T01:00:00Z")]);
        assert_eq!(once.first(ms("2026-09-01T01:00:00Z")), None, "it is past");
    }

    #[test]
    fn on_readers_walls_the_first_time_is_past_for_nobody_unless_it_is_the_only_one() {
        let clock = Clock::Recipient(Zone::UTC);
        let daily = Rhythm { clock: clock.clone(), ..every("0 9 * * *", "UTC") };
        // 08:00 in London, and past nine in all of Asia: today's nine is over for some.
        let now_ms = ms("2026-09-01T08:00:00Z");
        let first = daily.first(now_ms).unwrap();
        assert_eq!((first.local, first.at_ms), (local("2026-09-02T09:00:00"), ms("2026-09-01T19:00:00Z")));
        // The Line Islands are the first, fourteen hours ahead.
        let often = Rhythm { clock: clock.clone(), ..every("* * * * *", "UTC") };
        let first = often.first(now_ms + 1).unwrap();
        assert_eq!((first.local, first.at_ms), (local("2026-09-01T22:01:00"), now_ms + 60_000));
        let missed = often.latest(first, now_ms + 90 * 24 * HOUR_MS);
        assert_eq!(missed.at_ms, now_ms + 90 * 24 * HOUR_MS);
        let once = Rhythm { when: When::At(local("2026-09-01T09:00:00")), clock, ..daily };
        assert_eq!(once.first(now_ms).unwrap().local, local("2026-09-01T09:00:00"));
        assert_eq!(once.first(ms("2026-09-02T00:00:00Z")), None, "it is past everywhere");
    }

    #[test]
    fn of_many_missed_moments_the_last_is_found() {
        let due =
            |text: &str, zone: &Rhythm| Moment { local: local(text), at_ms: zone.moment(local(text)).at_ms };
        for (cron, missed, now, wanted) in [
            ("* * * * *", "2026-01-01T00:00:00", "2026-09-01T12:00:30Z", "2026-09-01T12:00:00Z"),
            ("0 9 * * *", "2026-01-01T09:00:00", "2026-09-01T08:59:59Z", "2026-08-31T09:00:00Z"),
            ("0 9 1 * *", "2026-01-01T09:00:00", "2026-09-30T00:00:00Z", "2026-09-01T09:00:00Z"),
            ("0 9 1 1 *", "2026-01-01T09:00:00", "2026-09-01T00:00:00Z", "2026-01-01T09:00:00Z"),
        ] {
            let rhythm = every(cron, "UTC");
            assert_eq!(rhythm.latest(due(missed, &rhythm), ms(now)).at_ms, ms(wanted), "{cron}");
        }
    }

    #[test]
    fn what_is_no_cron_expression_says_where() {
        for (text, wanted) in [
            ("0 9 * *", "has five fields"),
            ("0 9 * * * UTC", "has five fields"),
            ("61 9 * * *", "character 1: "),
            ("0 24 * * *", "character 3: "),
            ("0 9 30 2 *", "means no moment"),
            ("", "has five fields"),
        ] {
            let error = Cron::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(wanted), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn moments_only_grow_and_none_is_left_out_or_doubled(
            from_ms in 1_700_000_000_000_u64..2_000_000_000_000, minute in 0_u32..60, hour in 0_u32..24, pick in any::<prop::sample::Index>()
        ) {
            let zone = &zones::all()[pick.index(zones::all().len())];
            let rhythm = Rhythm { clock: Clock::Of(zone.clone()), ..every(&format!("{minute} {hour} * * *"), "UTC") };
            let first = rhythm.first(from_ms);
            prop_assert!(first.is_some_and(|first| first.at_ms > from_ms && first.at_ms <= from_ms + 49 * HOUR_MS));
            let next = |moment: &Moment| rhythm.after(moment.local, moment.at_ms);
            let all: Vec<_> = std::iter::successors(first, next).take(40).collect();
            for pair in all.windows(2) {
                let apart_ms = pair[1].at_ms - pair[0].at_ms;
                prop_assert!((21 * HOUR_MS..=49 * HOUR_MS).contains(&apart_ms), "{zone}: {pair:?}");
                prop_assert_eq!(rhythm.latest(pair[0], pair[1].at_ms), pair[1]);
                prop_assert_eq!(rhythm.latest(pair[0], pair[1].at_ms - 1), pair[0]);
            }
        }
    }
}
