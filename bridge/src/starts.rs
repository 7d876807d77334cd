//! When a message begins: at once, at a moment, or when the clocks on its readers' walls show a time. Pure.
//!
//! Wall clocks differ, so a message for readers' own time goes out in waves: one for each moment at which the time comes
//! somewhere on Earth. A device belongs to the wave of its zone.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::audience::expression::{Expression, Field, Match};
use crate::zones::{self, LocalTime, Zone};

/// What is later than this counts as missed, in milliseconds: a restart is not.
pub(crate) const LATE_MAX_MS: u64 = 5 * 60 * 1000;
/// The word for each device's own zone.
pub(crate) const RECIPIENT: &str = "recipient";
/// The attribute of a device that names its zone.
const TIMEZONE: &str = "timezone";

/// What becomes of a moment that passed: while the server was down, or on a reader's wall before the message came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// It is made up for once, at once.
    #[default]
    RunOnce,
    /// It is left out.
    Skip,
}

/// When a message begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// At this moment, in milliseconds since 1970.
    At(u64),
    /// When wall clocks show this time.
    Local(Local),
}

/// A time on each reader's wall.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Local {
    /// The time.
    pub time: LocalTime,
    /// Where devices are that name no zone.
    #[serde(with = "zone_name")]
    pub otherwise: Zone,
    /// For whom it is past already.
    #[serde(default)]
    pub missed: Missed,
}

/// A zone as its name in records.
pub(crate) mod zone_name {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Zone;

    /// Writes the name.
    pub fn serialize<S: Serializer>(zone: &Zone, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(zone.name())
    }

    /// Reads the name. A zone that the database does not know any more is UTC, so that nothing is lost.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zone, D::Error> {
        Ok(Zone::find(&String::deserialize(deserializer)?).unwrap_or(Zone::UTC))
    }
}

/// The devices whose moment lies after the one and not after the other, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wave {
    pub after_ms: u64,
    pub until_ms: u64,
}

impl Wave {
    fn has(self, moment_ms: u64) -> bool {
        self.after_ms < moment_ms && moment_ms <= self.until_ms
    }
}

impl Start {
    /// When the first device gets it.
    pub fn first_ms(&self) -> u64 {
        match self {
            Self::At(at_ms) => *at_ms,
            Self::Local(local) => local.moments().min().unwrap_or(0),
        }
    }

    /// When the last device gets it.
    pub fn last_ms(&self) -> u64 {
        match self {
            Self::At(at_ms) => *at_ms,
            Self::Local(local) => local.moments().max().unwrap_or(0),
        }
    }
}

impl Local {
    fn moments(&self) -> impl Iterator<Item = u64> {
        zones::all().iter().chain([&self.otherwise]).map(|zone| zone.moment_ms(self.time))
    }

    /// When a device with this zone gets it.
    pub fn moment_for(&self, timezone: Option<&str>) -> u64 {
        let own = timezone.and_then(|name| zones::all().iter().find(|zone| zone.name() == name));
        own.unwrap_or(&self.otherwise).moment_ms(self.time)
    }

    /// Up to which moment there is nothing to do for a message that came at `at_ms`.
    pub(crate) fn done_at(&self, at_ms: u64) -> u64 {
        match self.missed {
            Missed::RunOnce => 0,
            Missed::Skip => at_ms.saturating_sub(LATE_MAX_MS),
        }
    }

    /// What is due at a moment, when everything up to `done_ms` is done and nothing stood in the way from `due_ms` on. The
    /// last wave looks at everybody once more: a device that travelled towards the sun meanwhile was in none.
    pub(crate) fn wave(&self, done_ms: u64, due_ms: u64, now_ms: u64) -> Wave {
        let last_ms = self.moments().max().unwrap_or(0);
        let until_ms = now_ms.min(last_ms);
        let was_down = now_ms > due_ms.saturating_add(LATE_MAX_MS);
        let after_ms = match self.missed {
            Missed::RunOnce if until_ms == last_ms => 0,
            Missed::Skip if was_down => done_ms.max(now_ms.saturating_sub(LATE_MAX_MS)),
            // Whose time passed while the wave before was busy is late, and gets it.
            Missed::RunOnce | Missed::Skip => done_ms,
        };
        Wave { after_ms, until_ms }
    }

    /// When the wave after one is due; `None` when it was the last.
    pub(crate) fn next_ms(&self, wave: Wave) -> Option<u64> {
        self.moments().filter(|moment_ms| *moment_ms > wave.until_ms).min()
    }

    /// Whether a device is in a wave.
    pub(crate) fn is_in(&self, wave: Wave, timezone: Option<&str>) -> bool {
        wave.has(self.moment_for(timezone))
    }

    /// The devices of a wave; `None` when there can be none.
    pub(crate) fn devices_in(&self, wave: Wave) -> Option<Expression> {
        let there = |zone: &Zone| {
            let name = Match::Exactly(zone.name().to_owned());
            Expression::Has(Field::Attribute(TIMEZONE.to_owned()), name)
        };
        let (inside, _): (Vec<&Zone>, Vec<&Zone>) =
            zones::all().iter().partition(|zone| wave.has(zone.moment_ms(self.time)));
        let mut sets: Vec<Expression> = inside.into_iter().map(there).collect();
        if wave.has(self.otherwise.moment_ms(self.time)) {
            let somewhere = Expression::Or(zones::all().iter().map(there).collect());
            sets.push(Expression::Not(Box::new(somewhere)));
        }
        Expression::any_of(sets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn local(time: &str, missed: Missed) -> Local {
        Local {
            time: zones::parse_local(time).unwrap(),
            otherwise: Zone::find("Europe/Berlin").unwrap(),
            missed,
        }
    }

    fn moment(text: &str) -> u64 {
        zones::parse_moment(text).unwrap()
    }

    #[test]
    fn each_device_gets_it_when_its_own_clock_shows_the_time() {
        let nine = local("2026-09-01T09:00:00", Missed::RunOnce);
        for (zone, wanted) in [
            (Some("Pacific/Kiritimati"), "2026-08-31T19:00:00Z"),
            (Some("Asia/Shanghai"), "2026-09-01T01:00:00Z"),
            (Some("Europe/Berlin"), "2026-09-01T07:00:00Z"),
            (Some("America/New_York"), "2026-09-01T13:00:00Z"),
            (None, "2026-09-01T07:00:00Z"),
            (Some("Nowhere/At_All"), "2026-09-01T07:00:00Z"),
        ] {
            assert_eq!(nine.moment_for(zone), moment(wanted), "{zone:?}");
        }
        let start = Start::Local(nine);
        assert_eq!(start.first_ms(), moment("2026-08-31T19:00:00Z"));
        assert_eq!(start.last_ms(), moment("2026-09-01T21:00:00Z"));
        let kept: Start = serde_json::from_value(serde_json::to_value(&start).unwrap()).unwrap();
        assert_eq!(kept, start);
    }

    #[test]
    fn a_moment_that_passed_is_made_up_for_or_left_out() {
        let now_ms = moment("2026-09-01T12:00:00Z"); // past in Berlin
        for (missed, wanted) in [(Missed::RunOnce, true), (Missed::Skip, false)] {
            let nine = local("2026-09-01T09:00:00", missed);
            let wave = nine.wave(nine.done_at(now_ms), now_ms, now_ms);
            assert_eq!(nine.is_in(wave, None), wanted, "{missed:?}");
            assert!(!nine.is_in(wave, Some("America/New_York")), "{missed:?}");
            assert_eq!(
                nine.next_ms(wave),
                Some(moment("2026-09-01T12:00:00Z") + 60 * 60 * 1000),
                "{missed:?}"
            );
        }
    }

    #[test]
    fn whose_time_passed_while_the_wave_before_was_busy_is_late_and_while_the_server_was_down_is_left_out() {
        let nine = local("2026-09-01T09:00:00", Missed::Skip);
        let (done_ms, now_ms) = (moment("2026-09-01T06:30:00Z"), moment("2026-09-01T07:30:00Z"));
        for (due_ms, wanted) in [(now_ms, true), (moment("2026-09-01T07:00:00Z"), false)] {
            let wave = nine.wave(done_ms, due_ms, now_ms);
            assert_eq!(nine.is_in(wave, Some("Europe/Berlin")), wanted, "{due_ms}");
        }
    }

    #[test]
    fn the_expression_of_a_wave_means_the_devices_that_are_in_it() {
        let nine = local("2026-09-01T09:00:00", Missed::RunOnce);
        let wave =
            Wave { after_ms: moment("2026-09-01T00:59:59Z"), until_ms: moment("2026-09-01T01:00:00Z") };
        let text = nine.devices_in(wave).unwrap().to_string();
        assert!(text.contains("Asia/Shanghai") && !text.contains("Berlin") && !text.contains('!'), "{text}");
        assert_eq!(nine.devices_in(Wave { after_ms: wave.until_ms, until_ms: wave.until_ms }), None);
        let berlin = moment("2026-09-01T07:00:00Z");
        let text = nine.devices_in(Wave { after_ms: berlin - 1, until_ms: berlin }).unwrap().to_string();
        assert!(text.contains('!'), "whoever names no zone is there too: {text}");
    }

    proptest! {
        #[test]
        fn every_zone_is_in_exactly_one_wave_however_late_the_waves_are(
            at_ms in 1_700_000_000_000_u64..2_000_000_000_000, late in prop::collection::vec(0_u64..3_600_000, 60), pick in any::<prop::sample::Index>(),
            missed in prop::sample::select(vec![Missed::RunOnce, Missed::Skip]),
        ) {
            let zone = &zones::all()[pick.index(zones::all().len())];
            let local = Local { time: Zone::UTC.local(at_ms), otherwise: Zone::UTC, missed };
            let start = Start::Local(local.clone());
            let (mut done_ms, mut due_ms, mut hits) = (0, start.first_ms(), 0);
            for late_ms in late {
                let wave = local.wave(done_ms, due_ms + late_ms, due_ms + late_ms);
                let is_last = wave.until_ms == start.last_ms();
                // The last one looks at everybody again, and passes over whom it finds done.
                let own = Wave { after_ms: done_ms, ..wave };
                hits += usize::from(local.is_in(own, Some(zone.name())));
                done_ms = wave.until_ms;
                prop_assert_eq!(local.next_ms(wave).is_none(), is_last);
                let Some(next_ms) = local.next_ms(wave) else { break };
                due_ms = next_ms;
            }
            prop_assert_eq!(hits, 1, "{}", zone);
        }
    }
}
