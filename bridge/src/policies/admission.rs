//! Whether a message may go to a recipient now, by its policy. Pure.
//!
//! Quiet hours are asked first, then caps, then the policy's rate: a message that is held asks again when it wakes, so
//! what is counted is what goes. Waiting never outlasts the message: where it would, the message is dropped at once.

use super::caps::{Cap, Tally};
use super::quiet::Wall;
use super::{Policy, Then};
use crate::plan::Reason;

/// Everything that the answer rests on.
pub(crate) struct Asked<'a> {
    pub policy: &'a Policy,
    /// The time zone that the recipient's device tells.
    pub timezone: Option<&'a str>,
    /// When the message is worthless, in milliseconds since 1970.
    pub expires_at_ms: Option<u64>,
    /// The caps that count this message for this recipient, with what they let through.
    pub tallies: &'a [(&'a Cap, Tally)],
    /// When the policy's rate lets it through, in milliseconds since 1970.
    pub turn_ms: u64,
    pub now_ms: u64,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It goes now, and counts.
    Go,
    /// It asks again at this moment.
    Hold {
        until_ms: u64,
        /// Whether it has its turn by the rate then.
        has_turn: bool,
        words: String,
    },
    /// The recipient does not get it.
    Drop { reason: Reason, words: String },
}

/// The answer.
pub(crate) fn admit(asked: &Asked<'_>) -> Answer {
    let answer = quiet(asked).or_else(|| caps(asked)).or_else(|| rate(asked));
    answer.unwrap_or(Answer::Go)
}

/// Something that stands in the way until a moment.
struct Obstacle {
    until_ms: u64,
    then: Then,
    reason: Reason,
    /// Such as `3 messages in 24 hours are its most`.
    words: String,
}

impl Asked<'_> {
    fn wall(&self) -> Wall {
        self.policy.wall(self.timezone)
    }

    fn meet(&self, obstacle: Obstacle) -> Answer {
        let Obstacle { until_ms, then, reason, words } = obstacle;
        let (name, until) = (&self.policy.name, self.wall().say(until_ms, self.now_ms));
        let is_too_late = self.expires_at_ms.is_some_and(|end_ms| until_ms >= end_ms);
        match then {
            Then::Drop => Answer::Drop { reason, words: format!("dropped by policy {name}: {words}") },
            Then::Delay if is_too_late => {
                let words =
                    format!("dropped by policy {name}: {words}, and {until} is after the message's time");
                Answer::Drop { reason, words }
            }
            Then::Delay => {
                let words = format!("held until {until} by policy {name}: {words}");
                Answer::Hold { until_ms, has_turn: false, words }
            }
        }
    }
}

fn quiet(asked: &Asked<'_>) -> Option<Answer> {
    let hours = asked.policy.quiet_hours.as_ref()?;
    let wall = asked.wall();
    let until_ms = hours.end_ms(wall.zone(), asked.now_ms)?;
    let words = format!("{} is within its quiet hours", wall.say(asked.now_ms, asked.now_ms));
    Some(asked.meet(Obstacle { until_ms, then: hours.then, reason: Reason::Quiet, words }))
}

/// A cap that drops wins; of those that delay, the one that delays longest.
fn caps(asked: &Asked<'_>) -> Option<Answer> {
    let full = asked.tallies.iter().filter_map(|(cap, tally)| {
        let until_ms = tally.room_at_ms(cap, asked.now_ms);
        (until_ms > asked.now_ms).then_some((cap.then == Then::Drop, until_ms, *cap))
    });
    let (_, until_ms, cap) = full.max_by_key(|(is_drop, until_ms, _)| (*is_drop, *until_ms))?;
    let words = format!("{} are its most", cap.say());
    Some(asked.meet(Obstacle { until_ms, then: cap.then, reason: Reason::Capped, words }))
}

fn rate(asked: &Asked<'_>) -> Option<Answer> {
    let until_ms = Some(asked.turn_ms).filter(|turn_ms| *turn_ms > asked.now_ms)?;
    let rate = asked.policy.rate_per_s?;
    let words = format!("{rate} messages a second are its most");
    let obstacle = Obstacle { until_ms, then: Then::Delay, reason: Reason::Expired, words };
    Some(match asked.meet(obstacle) {
        Answer::Hold { until_ms, words, .. } => Answer::Hold { until_ms, has_turn: true, words },
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::quiet::{QuietHours, TimeOfDay};
    use proptest::prelude::*;
    use reveille_proto::ids::MessageId;

    /// 2026-11-25T14:00:00Z, which is 22:00 in Shanghai.
    const EVENING: u64 = 1_795_615_200_000;
    const HOUR: u64 = 3_600_000;

    fn policy(quiet: Option<Then>, caps: &[(u32, u32, Then)]) -> Policy {
        let time = |text| TimeOfDay::parse(text).unwrap();
        let hours = |then| QuietHours {
            from: time("22:00"),
            to: time("08:00"),
            timezone: "Asia/Shanghai".to_owned(),
            then,
        };
        let cap = |(max, window_s, then): &(u32, u32, Then)| Cap {
            max: *max,
            window_s: *window_s,
            then: *then,
            ..Cap::default()
        };
        Policy {
            name: "marketing".to_owned(),
            quiet_hours: quiet.map(hours),
            caps: caps.iter().map(cap).collect(),
            ..Policy::default()
        }
    }

    fn full(cap: &Cap, at_ms: u64) -> Tally {
        let mut tally = Tally::default();
        for n in 0..cap.max as u8 {
            tally.count(cap, MessageId([n; 16]), at_ms);
        }
        tally
    }

    fn ask(policy: &Policy, tallies: &[(&Cap, Tally)], turn_ms: u64, ttl_ms: u64) -> Answer {
        admit(&Asked {
            policy,
            timezone: None,
            expires_at_ms: Some(EVENING + ttl_ms),
            tallies,
            turn_ms,
            now_ms: EVENING,
        })
    }

    #[test]
    fn quiet_hours_hold_a_message_until_they_end_unless_it_is_worthless_then() {
        let words = |answer: Answer| match answer {
            Answer::Hold { words, .. } | Answer::Drop { words, .. } => words,
            Answer::Go => String::new(),
        };
        let (delay, drop) = (policy(Some(Then::Delay), &[]), policy(Some(Then::Drop), &[]));
        let held = ask(&delay, &[], 0, 24 * HOUR);
        assert!(
            matches!(held, Answer::Hold { until_ms, has_turn: false, .. } if until_ms == EVENING + 10 * HOUR)
        );
        assert_eq!(
            words(held),
            "held until 08:00 Asia/Shanghai by policy marketing: 22:00 Asia/Shanghai is within its quiet hours"
        );
        for answer in [ask(&delay, &[], 0, 10 * HOUR), ask(&drop, &[], 0, 24 * HOUR)] {
            assert!(matches!(answer, Answer::Drop { reason: Reason::Quiet, .. }), "{answer:?}");
        }
        assert_eq!(ask(&policy(None, &[]), &[], 0, HOUR), Answer::Go);
    }

    #[test]
    fn a_cap_that_drops_wins_and_else_the_longest_wait() {
        let policy =
            policy(None, &[(2, 3_600, Then::Delay), (3, 7_200, Then::Delay), (4, 86_400, Then::Drop)]);
        let [hour, two_hours, day] = policy.caps.as_slice() else { panic!() };
        let tallies = |fill: [bool; 3]| -> Vec<(&Cap, Tally)> {
            let tally =
                |(cap, is_full)| (cap, if is_full { full(cap, EVENING - 60_000) } else { Tally::default() });
            [hour, two_hours, day].into_iter().zip(fill).map(tally).collect()
        };
        assert_eq!(ask(&policy, &tallies([false; 3]), 0, 48 * HOUR), Answer::Go);
        let held = ask(&policy, &tallies([true, true, false]), 0, 48 * HOUR);
        assert!(
            matches!(held, Answer::Hold { until_ms, .. } if until_ms == EVENING + 2 * HOUR - 60_000),
            "{held:?}"
        );
        let dropped = ask(&policy, &tallies([true; 3]), 0, 48 * HOUR);
        let words = "dropped by policy marketing: 4 messages in 24 hours are its most".to_owned();
        assert_eq!(dropped, Answer::Drop { reason: Reason::Capped, words });
        let late = ask(&policy, &tallies([true, false, false]), 0, HOUR / 2);
        assert!(matches!(late, Answer::Drop { reason: Reason::Capped, .. }), "{late:?}");
    }

    #[test]
    fn a_rate_gives_a_turn_and_a_turn_after_the_end_is_none() {
        let policy = Policy { rate_per_s: Some(5), ..policy(None, &[]) };
        let held = ask(&policy, &[], EVENING + 3_000, HOUR);
        assert!(matches!(held, Answer::Hold { until_ms, has_turn: true, .. } if until_ms == EVENING + 3_000));
        let late = ask(&policy, &[], EVENING + HOUR, HOUR);
        assert!(matches!(late, Answer::Drop { reason: Reason::Expired, .. }));
        assert_eq!(ask(&policy, &[], EVENING, HOUR), Answer::Go);
    }

    proptest! {
        #[test]
        fn nothing_is_held_into_the_past_or_beyond_its_time(
            quiet in prop::option::of(prop::bool::ANY),
            caps in prop::collection::vec((1_u32..4, 60_u32..100_000, prop::bool::ANY, prop::bool::ANY, 0_u64..200_000_000), 0..4),
            turn in 0_u64..100_000,
            ttl_ms in 1_u64..200_000_000,
            later in 0_u64..86_400_000,
        ) {
            let then = |is_drop| if is_drop { Then::Drop } else { Then::Delay };
            let rows: Vec<_> = caps.iter().map(|(max, window, is_drop, ..)| (*max, *window, then(*is_drop))).collect();
            let policy = Policy { rate_per_s: Some(1), ..policy(quiet.map(then), &rows) };
            let now_ms = EVENING + later;
            let tally = |(cap, (.., is_full, ago)): (_, &(u32, u32, bool, bool, u64))| {
                (cap, if *is_full { full(cap, now_ms - ago) } else { Tally::default() })
            };
            let tallies: Vec<(&Cap, Tally)> = policy.caps.iter().zip(&caps).map(tally).collect();
            let expires_at_ms = Some(now_ms + ttl_ms);
            let asked = Asked { policy: &policy, timezone: None, expires_at_ms, tallies: &tallies, turn_ms: now_ms + turn, now_ms };
            match admit(&asked) {
                Answer::Hold { until_ms, .. } => prop_assert!(until_ms > now_ms && until_ms < now_ms + ttl_ms),
                Answer::Go => prop_assert!(tallies.iter().all(|(cap, tally)| tally.room_at_ms(cap, now_ms) == now_ms)),
                Answer::Drop { .. } => {}
            }
        }
    }
}
