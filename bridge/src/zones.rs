//! What clocks on the wall show in a place, and when. Pure, but for the time zone database: that of the machine, or the
//! one in the program where the machine has none.

use std::fmt;
use std::sync::LazyLock;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A day and a time of day as a wall clock shows it, wherever it hangs.
pub use jiff::civil::DateTime as LocalTime;

/// Longest name of a time zone, in bytes.
const NAME_MAX: usize = 64;
/// No clock on Earth is further ahead of UTC, in milliseconds: the Line Islands.
pub const AHEAD_MAX_MS: u64 = 14 * 60 * 60 * 1000;
/// None is further behind: the islands at the date line.
pub const BEHIND_MAX_MS: u64 = 12 * 60 * 60 * 1000;

/// A time zone of the IANA database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    /// UTC.
    pub const UTC: Self = Self(TimeZone::UTC);

    /// Looks a name up, such as `Asia/Shanghai`, in capital or small letters.
    pub fn find(name: &str) -> Option<Self> {
        let is_name = (1..=NAME_MAX).contains(&name.len()) && !name.starts_with(['/', '.']);
        TimeZone::get(name).ok().filter(|_| is_name).map(Self)
    }

    /// Its name, as the database writes it.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// When clocks there show this, in milliseconds since 1970. What they skip in spring comes later by as much as they
    /// skip; what they show twice in autumn means the first time.
    pub fn moment_ms(&self, local: LocalTime) -> u64 {
        millis_or_end(self.0.to_ambiguous_timestamp(local).compatible(), local)
    }

    /// Both moments at which clocks there may show this, which are one and the same on nearly every day.
    pub fn moments_ms(&self, local: LocalTime) -> [u64; 2] {
        let moment = || self.0.to_ambiguous_timestamp(local);
        [moment().earlier(), moment().later()].map(|moment| millis_or_end(moment, local))
    }

    /// When clocks there are turned next, if they ever are.
    pub fn next_turn_ms(&self, at_ms: u64) -> Option<u64> {
        self.0.following(timestamp(at_ms)).next().map(|turn| millis(turn.timestamp()))
    }

    /// What clocks there show at a moment.
    pub fn local(&self, at_ms: u64) -> LocalTime {
        self.0.to_datetime(timestamp(at_ms))
    }
}

fn timestamp(at_ms: u64) -> Timestamp {
    let at_ms = i64::try_from(at_ms).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::MAX)
}

fn millis(moment: Timestamp) -> u64 {
    u64::try_from(moment.as_millisecond()).unwrap_or(0)
}

/// A local time on a day that no zone reaches any more is the end of time, not its beginning: nothing comes too early.
fn millis_or_end(moment: Result<Timestamp, jiff::Error>, local: LocalTime) -> u64 {
    let end = if local.year() > 0 { Timestamp::MAX } else { Timestamp::MIN };
    millis(moment.unwrap_or(end))
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The latest time that any wall shows at a moment.
pub fn latest_shown(at_ms: u64) -> LocalTime {
    all().iter().map(|zone| zone.local(at_ms)).max().unwrap_or(Zone::UTC.local(at_ms))
}

/// Every zone of the database.
pub fn all() -> &'static [Zone] {
    static ALL: LazyLock<Vec<Zone>> = LazyLock::new(|| {
        let names = jiff::tz::db().available();
        let is_own = |name: &str| !name.starts_with("posix/") && !name.starts_with("right/");
        names
            .map(|name| name.to_string())
            .filter(|name| is_own(name))
            .filter_map(|name| Zone::find(&name))
            .collect()
    });
    &ALL
}

/// Reads a local time: `2026-09-01T09:00:00`, with or without seconds, and without an offset.
pub fn parse_local(text: &str) -> Option<LocalTime> {
    let is_bare = !text.ends_with(['Z', 'z']) && !text.contains(['+', '[']) && text.matches('-').count() == 2;
    text.parse::<LocalTime>().ok().filter(|_| is_bare && text.contains(['T', 't', ' ']))
}

/// Reads a moment with its offset: `2026-09-01T09:00:00+08:00`, in milliseconds since 1970.
pub fn parse_moment(text: &str) -> Option<u64> {
    let moment = text.parse::<Timestamp>().ok()?;
    u64::try_from(moment.as_millisecond()).ok()
}

/// A local time that is later, or earlier, by a clock that nobody turns.
pub fn shifted(local: LocalTime, by_ms: i64) -> LocalTime {
    local.saturating_add(SignedDuration::from_millis(by_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn zone(name: &str) -> Zone {
        Zone::find(name).unwrap()
    }

    fn local(text: &str) -> LocalTime {
        parse_local(text).unwrap()
    }

    fn moment(text: &str) -> u64 {
        parse_moment(text).unwrap()
    }

    #[test]
    fn a_time_that_is_skipped_comes_later_and_one_that_comes_twice_means_the_first() {
        for (name, shown, wanted) in [
            ("Asia/Shanghai", "2026-03-29T02:30:00", "2026-03-28T18:30:00Z"),
            ("Europe/Berlin", "2026-03-29T01:59:59", "2026-03-29T00:59:59Z"),
            ("Europe/Berlin", "2026-03-29T02:30:00", "2026-03-29T01:30:00Z"), // shown as 03:30
            ("Europe/Berlin", "2026-03-29T03:30:00", "2026-03-29T01:30:00Z"),
            ("Europe/Berlin", "2026-10-25T02:30:00", "2026-10-25T00:30:00Z"), // and again an hour later
            ("Europe/Berlin", "2026-10-25T03:00:00", "2026-10-25T02:00:00Z"),
            ("America/New_York", "2026-03-08T02:15:00", "2026-03-08T07:15:00Z"),
            ("Australia/Lord_Howe", "2026-10-04T02:15:00", "2026-10-03T15:45:00Z"), // skips half an hour
        ] {
            assert_eq!(zone(name).moment_ms(local(shown)), moment(wanted), "{name} {shown}");
        }
        assert_eq!(zone("Europe/Berlin").local(moment("2026-10-25T01:30:00Z")), local("2026-10-25T02:30:00"));
    }

    #[test]
    fn what_lies_beyond_the_end_of_time_is_not_now() {
        let end = LocalTime::MAX;
        for zone in [Zone::UTC, zone("America/New_York"), zone("Etc/GMT+12")] {
            assert!(zone.moment_ms(end) > moment("9999-12-01T00:00:00Z"), "{zone}");
            assert!(zone.moments_ms(end).into_iter().all(|at_ms| at_ms == zone.moment_ms(end)), "{zone}");
            assert_eq!(zone.moment_ms(LocalTime::MIN), 0, "{zone}");
        }
    }

    #[test]
    fn names_are_those_of_the_database() {
        for name in ["", "Europe", "Mars/Olympus", "../etc/passwd", "/etc/localtime", "UTC+8"] {
            assert_eq!(Zone::find(name), None, "{name}");
        }
        assert_eq!(zone("asia/SHANGHAI").name(), "Asia/Shanghai");
        assert_eq!(Zone::UTC.name(), "UTC");
        assert!(all().len() > 400 && all().contains(&zone("Europe/Berlin")), "{} zones", all().len());
    }

    #[test]
    fn local_times_and_moments_are_not_mixed_up() {
        for text in [
            "2026-09-01T09:00:00Z",
            "2026-09-01T09:00:00+08:00",
            "2026-09-01",
            "09:00",
            "x",
            "2026-09-01T09:00-03:00",
        ] {
            assert_eq!(parse_local(text), None, "{text}");
        }
        assert_eq!(local("2026-09-01T09:00"), local("2026-09-01T09:00:00"));
        assert_eq!(parse_moment("2026-09-01T09:00:00"), None);
        assert_eq!(moment("2026-09-01T09:00:00+08:00"), moment("2026-09-01T01:00:00Z"));
    }

    proptest! {
        #[test]
        fn every_place_reaches_a_time_between_the_first_and_the_last_islands(
            at_ms in 1_700_000_000_000_u64..4_000_000_000_000, pick in any::<prop::sample::Index>()
        ) {
            let shown = Zone::UTC.local(at_ms);
            let there_ms = all()[pick.index(all().len())].moment_ms(shown);
            let hour_ms = 60 * 60 * 1000; // a skipped hour comes later
            prop_assert!((at_ms - AHEAD_MAX_MS..=at_ms + BEHIND_MAX_MS + hour_ms).contains(&there_ms));
        }
    }
}
