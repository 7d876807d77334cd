//! The silences of one connection: what they prove about its network, and how long one may last.
//!
//! A path that idles for too long is forgotten by some box on the way. So a silence counts from the last byte in either
//! direction to the packet that ends it: the path has lived through that. A packet costs one subtraction and one
//! comparison here; what is rare is boxed.

use crate::control::Heartbeats;
use crate::io::Opening;
use bytestring::ByteString;
use reveille_proto::heartbeat::{CONFIG_PROPERTY, Config, Network};
use std::time::Duration;

/// How long an answer to what we sent may take and still be one.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Windows up to this are as good as each other, in seconds.
const WINDOW_SMALL_S: u16 = 10;

/// A silence must be so much longer than the longest before to be news: the step from one bin of the statistics to the
/// next is larger.
const NEWS_STEP_PERCENT: u64 = 105;

/// See the module.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// Milliseconds from the last packet that came to the last one that went; 0: none went.
    sent_after_ms: u32,
    /// The longest silence before a packet that went since.
    doubt_ms: u32,
    /// Shorter silences are no news.
    news_above_ms: u32,
    /// What a client that tunes its heartbeat agreed with us.
    pub agreed: Option<Box<Agreed>>,
}

/// What a client told that tunes its heartbeat.
#[derive(Debug)]
pub(crate) struct Agreed {
    /// The network that it says it is on; `None`: it says nothing about that, and is told nothing.
    pub network: Option<Network>,
    /// It will be heard of again after so long at most, with what its alarms are late.
    pub announced: Option<Duration>,
    /// What it was told last: said again only when it changed.
    pub told: Option<Config>,
    /// Even a minute of silence kills connections there.
    pub is_hopeless: bool,
}

impl Agreed {
    /// Nothing more is known yet.
    pub fn on(network: Option<Network>) -> Self {
        Self { network, announced: None, told: None, is_hopeless: false }
    }
}

impl Pulse {
    pub fn new(opening: &Opening, heartbeats: Heartbeats) -> Self {
        let agreed = opening.hello.as_ref().map(|hello| {
            let agreed = Agreed::on(Some(hello.network.clone()));
            Box::new(Agreed { is_hopeless: hello.is_hopeless, ..agreed })
        });
        let news_above_ms = heartbeats.silence_min.map_or(u32::MAX, milliseconds);
        Self { sent_after_ms: 0, doubt_ms: 0, news_above_ms, agreed }
    }

    /// The advice that goes with CONNACK, for a client that understands it.
    pub fn first_advice(&mut self, opening: &Opening) -> Option<(ByteString, ByteString)> {
        let text = self.news(opening.advice.as_ref()?.config)?;
        Some((ByteString::from_static(CONFIG_PROPERTY), text.into()))
    }

    /// The advice as text, for a client that understands it and does not know it yet.
    pub fn news(&mut self, config: Config) -> Option<String> {
        let agreed = self.agreed.as_mut().filter(|agreed| agreed.network.is_some())?;
        if agreed.told.is_some_and(|told| !is_news(told, config)) {
            return None;
        }
        agreed.told = Some(config);
        Some(config.to_string())
    }

    /// When the client itself said that it will be heard of.
    pub fn announced(&self) -> Option<Duration> {
        self.agreed.as_ref()?.announced
    }

    /// A packet came after `silence` without one: how long the path was idle, where that is news.
    pub fn heard(&mut self, silence: Duration) -> Option<Duration> {
        let idle_ms = milliseconds(silence).saturating_sub(self.sent_after_ms);
        // The answer to what we sent into a silence proves that the path lived through it.
        let is_answer = self.doubt_ms > 0 && u128::from(idle_ms) <= ANSWER_MAX.as_millis();
        let proven_ms = if is_answer { idle_ms.max(self.doubt_ms) } else { idle_ms };
        (self.sent_after_ms, self.doubt_ms) = (0, 0);
        if proven_ms < self.news_above_ms {
            return None;
        }
        let next = u64::from(proven_ms) * NEWS_STEP_PERCENT / 100;
        self.news_above_ms = u32::try_from(next).unwrap_or(u32::MAX);
        Some(Duration::from_millis(u64::from(proven_ms)))
    }

    /// Something goes, so long after the last packet that came.
    pub fn sent(&mut self, silence: Duration) {
        let silence_ms = milliseconds(silence);
        self.doubt_ms = self.doubt_ms.max(silence_ms.saturating_sub(self.sent_after_ms));
        self.sent_after_ms = silence_ms;
    }

    /// The longest that the path was idle since the last packet, `silence` ago: if it died of that, then of no more.
    pub fn longest(&self, silence: Duration) -> Duration {
        let since_sent_ms = milliseconds(silence).saturating_sub(self.sent_after_ms);
        Duration::from_millis(u64::from(since_sent_ms.max(self.doubt_ms)))
    }

    /// How long ago something went, `silence` after the last packet that came.
    pub fn since_sent(&self, silence: Duration) -> Duration {
        silence.saturating_sub(Duration::from_millis(u64::from(self.sent_after_ms)))
    }

    /// The longest idle time before something that went: that is what the path died of where this did not arrive.
    pub fn longest_before_sent(&self) -> Duration {
        Duration::from_millis(u64::from(self.doubt_ms))
    }
}

/// The window follows the number of connections, which changes all the time: only a large step is worth a message.
fn is_news(told: Config, now: Config) -> bool {
    let (less, more) = (told.window_s.min(now.window_s), told.window_s.max(now.window_s));
    let has_stepped = more > WINDOW_SMALL_S && more / 2 > less;
    has_stepped || Config { window_s: told.window_s, ..now } != told
}

fn milliseconds(length: Duration) -> u32 {
    u32::try_from(length.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn pulse() -> Pulse {
        Pulse { sent_after_ms: 0, doubt_ms: 0, news_above_ms: 60_000, agreed: None }
    }

    #[test]
    fn only_a_longer_silence_than_before_is_news() {
        let mut pulse = pulse();
        let rows = [
            (59, None),
            (60, Some(60)),
            (61, None),
            (64, Some(64)),
            (64, None),
            (900, Some(900)),
            (100, None),
        ];
        for (silence, wanted) in rows {
            assert_eq!(pulse.heard(silence * S), wanted.map(|seconds| seconds * S), "{silence} s");
        }
    }

    #[test]
    fn a_window_that_changed_little_is_no_news() {
        let config = |window_s, ttl_s| Config { window_s, ttl_s, ..Config::default() };
        for (told, now, wanted) in [
            (config(0, 1), config(10, 1), false),
            (config(20, 1), config(39, 1), false),
            (config(20, 1), config(60, 1), true),
            (config(60, 1), config(20, 1), true),
            (config(20, 1), config(20, 2), true),
        ] {
            assert_eq!(is_news(told, now), wanted, "{told} {now}");
        }
    }

    #[test]
    fn what_we_send_ends_a_silence_too() {
        let mut pulse = pulse();
        pulse.sent(50 * S);
        assert_eq!(pulse.heard(100 * S), None, "50 s, then 50 s");
        pulse.sent(300 * S);
        assert_eq!(pulse.heard(301 * S), Some(300 * S), "the answer proves the silence before");
        pulse.sent(400 * S);
        assert_eq!(pulse.heard(450 * S), None, "no answer to that: the packet was on its way anyway");
    }

    #[test]
    fn a_path_died_of_its_longest_silence_at_most() {
        let mut pulse = pulse();
        assert_eq!(pulse.longest(300 * S), 300 * S);
        pulse.sent(Duration::ZERO);
        pulse.sent(200 * S);
        assert_eq!((pulse.longest(290 * S), pulse.longest(500 * S)), (200 * S, 300 * S));
        assert_eq!(pulse.longest_before_sent(), 200 * S);
        pulse.heard(600 * S);
        assert_eq!(pulse.longest_before_sent(), Duration::ZERO);
    }
}
