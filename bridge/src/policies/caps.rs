//! Frequency caps: what was let through to a recipient of late, and when there is room again. Pure.

use reveille_proto::ids::MessageId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Then;
use crate::devices::is_label;

/// Messages of one window at most: each is kept until the window has passed over it.
pub const MAX: u32 = 100;
/// Shortest and longest window, in seconds: a minute, and thirty days.
const WINDOW_S: std::ops::RangeInclusive<u32> = 60..=2_592_000;
/// Bytes of one message in a tally.
const ENTRY_BYTES: usize = 24;

/// At most so many messages within a window that moves with the time. Counted for a user over all devices of theirs, for
/// a device without a user alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Cap {
    /// So many messages at most.
    #[schema(minimum = 1, maximum = 100)]
    pub max: u32,
    /// Within so many seconds.
    #[schema(minimum = 60, maximum = 2_592_000)]
    pub window_s: u32,
    /// For devices with this tag only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// For messages of this category only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// What becomes of the message beyond it.
    #[serde(default)]
    pub then: Then,
}

impl Cap {
    pub(super) fn errors(&self) -> Vec<(&'static str, String)> {
        let is_bad = |text: &Option<String>| text.as_ref().is_some_and(|text| !is_label(text));
        let label = || "has 1 to 256 bytes without control characters".to_owned();
        [
            (!(1..=MAX).contains(&self.max)).then(|| ("max", format!("is 1 to {MAX}"))),
            (!WINDOW_S.contains(&self.window_s)).then(|| ("window_s", "is 60 to 2,592,000".to_owned())),
            is_bad(&self.tag).then(|| ("tag", label())),
            is_bad(&self.category).then(|| ("category", label())),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// What tells its counts from those of the policy's other caps. Another number or another end keeps the counts.
    pub(super) fn identity(&self) -> String {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        format!("{}/{}/{}", self.window_s, text(&self.tag), text(&self.category))
    }

    pub(super) fn window_ms(&self) -> u64 {
        u64::from(self.window_s) * 1000
    }

    /// The cap in words: `3 messages in 24 hours`.
    pub(super) fn say(&self) -> String {
        let (count, unit) = match self.window_s {
            seconds if seconds % 86_400 == 0 && seconds > 86_400 => (seconds / 86_400, "day"),
            seconds if seconds % 3_600 == 0 => (seconds / 3_600, "hour"),
            seconds if seconds % 60 == 0 => (seconds / 60, "minute"),
            seconds => (seconds, "second"),
        };
        let plural = |count: u32| if count == 1 { "" } else { "s" };
        format!("{} message{} in {count} {unit}{}", self.max, plural(self.max), plural(count))
    }
}

/// What was let through to one recipient, oldest first, as far as the window still reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    entries: Vec<(u64, MessageId)>,
}

impl Tally {
    /// Reads what [`Tally::write`] wrote; a broken entry ends it.
    pub fn read(bytes: &[u8]) -> Self {
        let entry = |bytes: &[u8]| {
            let (at_ms, id) = bytes.split_at_checked(8)?;
            Some((u64::from_be_bytes(at_ms.try_into().ok()?), MessageId::from_bytes(id).ok()?))
        };
        Self { entries: bytes.chunks_exact(ENTRY_BYTES).map_while(entry).collect() }
    }

    /// The bytes for the store.
    pub fn write(&self) -> Vec<u8> {
        self.entries.iter().flat_map(|(at_ms, id)| at_ms.to_be_bytes().into_iter().chain(id.0)).collect()
    }

    /// Whether this message was let through to another device of the user's already: it counts once.
    pub fn has(&self, id: MessageId) -> bool {
        self.entries.iter().any(|(_, known)| *known == id)
    }

    /// When there is room for one more, in milliseconds since 1970: now, or when the oldest leave the window.
    pub fn room_at_ms(&self, cap: &Cap, now_ms: u64) -> u64 {
        let window_ms = cap.window_ms();
        let mut leaving: Vec<u64> = self.entries.iter().map(|(at_ms, _)| at_ms + window_ms).collect();
        leaving.retain(|leaves_ms| *leaves_ms > now_ms);
        leaving.sort_unstable();
        let surplus = leaving.len().checked_sub(cap.max as usize);
        surplus.and_then(|surplus| leaving.get(surplus).copied()).unwrap_or(now_ms)
    }

    /// Counts a message, and forgets what left the window. It may be forgotten as a whole at the returned moment.
    pub fn count(&mut self, cap: &Cap, id: MessageId, now_ms: u64) -> u64 {
        let window_ms = cap.window_ms();
        self.entries.retain(|(at_ms, _)| at_ms + window_ms > now_ms);
        if !self.has(id) {
            self.entries.push((now_ms, id));
        }
        self.entries.iter().map(|(at_ms, _)| at_ms + window_ms).max().unwrap_or(now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_700_000_000_000;

    fn id(n: u64) -> MessageId {
        let mut id = [0; 16];
        id[8..].copy_from_slice(&n.to_be_bytes());
        MessageId(id)
    }

    #[test]
    fn a_message_to_three_devices_of_a_user_counts_once() {
        let cap = Cap { max: 1, window_s: 60, ..Cap::default() };
        let mut tally = Tally::default();
        tally.count(&cap, id(1), NOW);
        assert_eq!(tally.count(&cap, id(1), NOW + 5), NOW + 60_000);
        assert!(tally.has(id(1)) && !tally.has(id(2)));
        assert_eq!(Tally::read(&tally.write()), tally);
        assert_eq!(tally.write().len(), ENTRY_BYTES);
        assert_eq!(Tally::read(&[7; 30]).entries.len(), 1, "a torn entry is none");
    }

    #[test]
    fn a_smaller_number_holds_until_enough_have_left() {
        let (wide, narrow) =
            (Cap { max: 3, window_s: 60, ..Cap::default() }, Cap { max: 2, window_s: 60, ..Cap::default() });
        let mut tally = Tally::default();
        for n in 0..3 {
            tally.count(&wide, id(n), NOW + n);
        }
        assert_eq!(tally.room_at_ms(&wide, NOW + 10), NOW + 60_000);
        assert_eq!(tally.room_at_ms(&narrow, NOW + 10), NOW + 60_001);
        assert_eq!(tally.room_at_ms(&wide, NOW + 60_000), NOW + 60_000);
    }

    #[test]
    fn a_cap_is_told_in_words() {
        assert_eq!(Cap { max: 1, window_s: 3_600, ..Cap::default() }.say(), "1 message in 1 hour");
        for (window_s, wanted) in [
            (86_400, "3 messages in 24 hours"),
            (7 * 86_400, "3 messages in 7 days"),
            (90, "3 messages in 90 seconds"),
            (600, "3 messages in 10 minutes"),
        ] {
            assert_eq!(Cap { max: 3, window_s, ..Cap::default() }.say(), wanted);
        }
    }

    proptest! {
        #[test]
        fn no_window_wherever_it_begins_has_more_than_the_cap(
            max in 1_u32..6,
            window_s in 60_u32..200,
            asks in prop::collection::vec(0_u64..40_000, 1..200),
        ) {
            let cap = Cap { max, window_s, ..Cap::default() };
            let (mut tally, mut now_ms, mut passed) = (Tally::default(), NOW, Vec::new());
            for (n, later) in (0..).zip(asks) {
                now_ms += later;
                tally = Tally::read(&tally.write());
                let room_ms = tally.room_at_ms(&cap, now_ms);
                prop_assert!(room_ms >= now_ms && room_ms <= now_ms + cap.window_ms());
                if room_ms == now_ms {
                    prop_assert!(tally.count(&cap, id(n), now_ms) >= now_ms + cap.window_ms());
                    passed.push(now_ms);
                } else {
                    prop_assert_eq!(tally.room_at_ms(&cap, room_ms), room_ms, "it is told when there is room");
                    prop_assert!(tally.room_at_ms(&cap, room_ms - 1) > room_ms - 1, "and no later");
                }
                prop_assert!(tally.entries.len() <= max as usize);
            }
            for from in &passed {
                let within = passed.iter().filter(|at| (*from..from + cap.window_ms()).contains(at)).count();
                prop_assert!(within <= max as usize);
            }
        }
    }
}
