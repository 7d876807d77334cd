//! When a device beats, when a silent connection counts as dead, and what both teach about the network. Pure.
//!
//! The rules for the interval are in `reveille_proto::heartbeat`, the evidence of this device in [`Learner`]; here is what
//! happens on one connection after the other. `docs/heartbeat.md` tells why.

mod learner;
mod notes;

pub use learner::{Day, Learner, NETWORKS_MAX, Record};
pub(crate) use notes::Notes;
pub use reveille_proto::heartbeat::{Gap, Label, Network, Radio};

use reveille_proto::heartbeat::{Config, Hello, Observation, Range, Report};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

/// Since the machine started, sleep included: `SystemClock.elapsedRealtime` on Android, `mach_continuous_time` on Apple's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub Duration);

impl Moment {
    /// How long after the other; nothing when it comes before.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }
}

/// While the user looks at the app, beats come at least this often, and nothing is tried.
const FOREGROUND: Gap = Gap(60);
/// Patience with a beat while the user looks, and when a vendor's push says that the socket may be dead.
const FOREGROUND_ANSWER_MAX: Duration = Duration::from_secs(5);
const CHECK_ANSWER_MAX: Duration = Duration::from_secs(2);
/// A network that takes the next connection so soon was not to blame itself for the death of the last one.
const SAME_NETWORK_MAX: Duration = Duration::from_secs(30);
/// A death after less proves nothing about silences.
const EVIDENCE_MIN: Gap = Gap(54);
/// Observations that wait for the next report; the oldest goes first.
const OBSERVATIONS_MAX: usize = 8;

/// How the heartbeat is found. For [`crate::Options::learned_heartbeat`].
#[derive(Clone, Debug, Default)]
pub struct Learning {
    pub(crate) network: Network,
    pub(crate) file: Option<PathBuf>,
    pub(crate) speed: u32,
}

impl Learning {
    /// Begins on this network; `Network::default()` when the app does not know.
    pub fn on(network: Network) -> Self {
        Self { network, file: None, speed: 1 }
    }

    /// Where what was learned is kept, a few kilobytes. Without it each start of the app begins anew.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// How many times faster than real the intervals pass. For tests with a broker of the same speed.
    pub fn speed(mut self, speed: u32) -> Self {
        self.speed = speed.max(1);
        self
    }
}

/// What the app may know about the heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeartbeatState {
    /// The network that the app told of last.
    pub network: Network,
    /// How long the connection may stay silent now.
    pub interval: Duration,
    /// The longest silence that it survived here.
    pub survived: Duration,
    /// When the phone should wake for the next beat: not before the first, not after the second. `None` without a connection.
    pub wake: Option<(Moment, Moment)>,
}

/// What to do at the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing yet.
    Wait,
    /// Send a beat, see [`Heartbeat::beat`].
    Beat,
    /// Give the connection up.
    Dead,
}

/// What a beat is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    /// PINGREQ.
    Ping,
    /// A publish with QoS 1 on `$hb/up`, which says something besides.
    Report(String),
}

/// Watches one connection after the other.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    /// `None`: the keep alive is fixed.
    learner: Option<Learner>,
    network: Network,
    speed: u32,
    answer_max: Duration,
    is_foreground: bool,
    /// MQTT's bound on our own silence on this connection.
    keep_alive: Duration,
    /// Whether the broker takes part.
    is_advised: bool,
    /// What the broker counts on, and what was told it and not acknowledged yet, perhaps on an earlier connection.
    announced: Option<Gap>,
    pending: Option<Gap>,
    observations: VecDeque<Observation>,
    suspicion: Option<Suspicion>,
    state: State,
}

/// A death whose cause is not known yet: if the same network takes the next connection at once, it was the silence.
#[derive(Clone, Copy, Debug)]
struct Suspicion {
    gap: Gap,
    at: Moment,
}

/// ```text
///            connected            beat sent
///   Offline ----------> Flowing ------------> Asked --deadline--> dead
///      ^                  ^  |                  | |
///      |                  |  +--any packet------+ |
///      +------lost--------+-----------------------+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Offline,
    /// `active`: the last packet in either direction; `sent`: ours.
    Flowing {
        active: Moment,
        sent: Moment,
        hurry: Hurry,
    },
    /// A beat went out into a silence of `gap`, and nothing came since. `is_check`: patience is short.
    Asked {
        at: Moment,
        gap: Duration,
        is_check: bool,
    },
}

/// How the next beat comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hurry {
    /// At the end of the wait.
    None,
    /// At once.
    Now,
    /// At once, and without much patience for its answer.
    Check,
}

impl Heartbeat {
    /// Fixed with `None`.
    pub fn new(learning: Option<(&Learning, Learner)>, answer_max: Duration) -> Self {
        let (network, speed) = learning.as_ref().map_or((Network::default(), 1), |(learning, _)| {
            (learning.network.clone(), learning.speed.max(1))
        });
        Self {
            learner: learning.map(|(_, learner)| learner),
            network,
            speed,
            answer_max,
            is_foreground: false,
            keep_alive: Duration::ZERO,
            is_advised: false,
            announced: None,
            pending: None,
            observations: VecDeque::new(),
            suspicion: None,
            state: State::Offline,
        }
    }

    /// What CONNECT says about the heartbeat; nothing when it is fixed.
    pub fn hello(&self) -> Option<Hello> {
        let learner = self.learner.as_ref()?;
        let bracket = learner.bracket_on(&self.network);
        let lo = Some(bracket.lo).filter(|lo| *lo > Gap(0));
        let is_hopeless = bracket.is_hopeless();
        Some(Hello { network: self.network.clone(), lo, late_s: learner.late_s(), is_hopeless })
    }

    /// The broker accepted a connection, with this keep alive in force.
    pub fn connected(&mut self, keep_alive: Duration, advice: Option<&Config>, today: Day, now: Moment) {
        self.keep_alive = keep_alive;
        self.is_advised = advice.is_some();
        // A report that was on its way when the last connection broke is repeated on this one.
        self.announced = self.pending;
        self.state = State::Flowing { active: now, sent: now, hurry: Hurry::None };
        let ceiling = self.gap(keep_alive);
        let suspicion = self.suspicion.take().filter(|suspicion| now.since(suspicion.at) <= SAME_NETWORK_MAX);
        let Some(learner) = &mut self.learner else { return };
        learner.arrive(&self.network, today);
        learner.bound(ceiling);
        if let Some(config) = advice {
            learner.advised(config);
        }
        if let Some(Suspicion { gap, .. }) = suspicion {
            learner.died(gap);
            self.observe(gap, false);
        }
    }

    /// The broker's advice during a connection.
    pub fn advised(&mut self, config: &Config) {
        self.is_advised = true;
        if let Some(learner) = &mut self.learner {
            learner.advised(config);
        }
    }

    /// The connection ended.
    pub fn lost(&mut self) {
        self.state = State::Offline;
    }

    /// The operating system reports another network, or another word for the same one.
    pub fn network_changed(&mut self, network: Network) {
        self.network = network;
        self.suspicion = None;
        self.state = State::Offline;
    }

    /// The user looks at the app, or no longer does.
    pub fn set_foreground(&mut self, is_foreground: bool, now: Moment) {
        if is_foreground && !self.is_foreground {
            self.check(now);
        }
        self.is_foreground = is_foreground;
    }

    /// There is reason to doubt the connection: a vendor brought what the socket should have brought.
    pub fn check(&mut self, now: Moment) {
        if self.learner.is_none() {
            return;
        }
        match &mut self.state {
            State::Flowing { hurry, .. } => *hurry = Hurry::Check,
            State::Asked { at, is_check, .. } if !*is_check => (*at, *is_check) = (now, true),
            State::Asked { .. } | State::Offline => {}
        }
    }

    /// The phone is awake, for whatever reason: a beat that is nearly due goes with it.
    pub fn woke(&mut self, now: Moment) {
        let from = self.wake_window().map(|(from, _)| from);
        if let State::Flowing { hurry: hurry @ Hurry::None, .. } = &mut self.state
            && self.learner.is_some()
            && from.is_some_and(|from| now >= from)
        {
            *hurry = Hurry::Now;
        }
    }

    /// The phone has slept: what the connection became meanwhile shows at once.
    pub fn slept(&mut self) {
        if let State::Flowing { hurry: hurry @ Hurry::None, .. } = &mut self.state {
            *hurry = Hurry::Now;
        }
    }

    /// A packet was written, beats aside.
    pub fn wrote(&mut self, now: Moment) {
        if let State::Flowing { active, sent, .. } = &mut self.state {
            (*active, *sent) = (now, now);
        }
    }

    /// Any packet arrived: the path lives, whatever the packet was.
    pub fn received(&mut self, now: Moment) {
        match self.state {
            State::Offline => {}
            State::Asked { at, gap, .. } => {
                self.state = State::Flowing { active: now, sent: at, hurry: Hurry::None };
                self.survived(gap);
            }
            State::Flowing { sent, hurry, .. } => {
                self.state = State::Flowing { active: now, sent, hurry };
                self.woke(now); // the radio is on
            }
        }
    }

    /// The broker has our last report.
    pub fn report_acknowledged(&mut self) {
        self.announced = self.pending.take().or(self.announced);
    }

    /// When to ask [`Self::due`]; `None` without a connection.
    pub fn deadline(&self) -> Option<Moment> {
        match self.state {
            State::Offline => None,
            State::Flowing { sent, hurry: Hurry::None, .. } => Some(sent.after(self.interval())),
            State::Flowing { active, hurry: Hurry::Now | Hurry::Check, .. } => Some(active),
            State::Asked { at, is_check, .. } => Some(at.after(self.patience(is_check))),
        }
    }

    /// What is to do now.
    pub fn due(&mut self, now: Moment) -> Due {
        let Some(deadline) = self.deadline().filter(|deadline| now >= *deadline) else {
            return Due::Wait;
        };
        match self.state {
            State::Offline => Due::Wait,
            State::Flowing { hurry, .. } => {
                let is_planned = hurry == Hurry::None && !self.is_foreground;
                if let Some(learner) = self.learner.as_mut().filter(|_| is_planned) {
                    learner.late(now.since(deadline).saturating_mul(self.speed));
                }
                Due::Beat
            }
            State::Asked { gap, .. } => {
                let gap = Gap::fatal(gap.saturating_mul(self.speed));
                self.suspicion = (gap >= EVIDENCE_MIN).then_some(Suspicion { gap, at: now });
                self.state = State::Offline;
                Due::Dead
            }
        }
    }

    /// The beat to send now. Whatever is written or waits to be written counts as a question from here on.
    pub fn beat(&mut self) -> Beat {
        let next = self.wanted();
        let has_news = Some(next) != self.announced || !self.observations.is_empty();
        let Some(learner) = self.learner.as_ref().filter(|_| self.is_advised && has_news) else {
            return Beat::Ping;
        };
        let bracket = learner.bracket();
        self.pending = Some(next);
        Beat::Report(
            Report {
                next: Some(next),
                network: self.network.clone(),
                lo: Some(bracket.lo).filter(|lo| *lo > Gap(0)),
                late_s: learner.late_s(),
                observations: self.observations.drain(..).collect(),
                is_hopeless: bracket.is_hopeless(),
            }
            .to_string(),
        )
    }

    /// A beat went out, or something that was handed over before is still being written and stands for it.
    pub fn asked(&mut self, now: Moment) {
        if let State::Flowing { active, hurry, .. } = self.state {
            self.state = State::Asked { at: now, gap: now.since(active), is_check: hurry == Hurry::Check };
        }
    }

    /// What was learned, for the file; `None` when it is fixed.
    pub fn learner(&self) -> Option<&Learner> {
        self.learner.as_ref()
    }

    /// What the app may know.
    pub fn state(&self) -> HeartbeatState {
        let survived = self.learner.as_ref().map_or(Gap(0), |learner| learner.bracket_on(&self.network).lo);
        HeartbeatState {
            network: self.network.clone(),
            interval: self.interval(),
            survived: survived.duration() / self.speed,
            wake: self.wake_window(),
        }
    }

    /// From four fifths of the interval on, a beat goes along with whatever else wakes the radio.
    fn wake_window(&self) -> Option<(Moment, Moment)> {
        let State::Flowing { sent, .. } = self.state else { return None };
        let interval = self.interval();
        Some((sent.after(interval * 4 / 5), sent.after(interval)))
    }

    /// The wait in force: never longer than the broker was told, nor than MQTT allows.
    fn interval(&self) -> Duration {
        if self.learner.is_none() {
            return self.keep_alive;
        }
        let gap = self.announced.map_or(self.wanted(), |announced| self.wanted().min(announced));
        (gap.duration() / self.speed).min(self.keep_alive)
    }

    fn wanted(&self) -> Gap {
        let stay = self.learner.as_ref().map_or(FOREGROUND, Learner::stay);
        if self.is_foreground { stay.min(FOREGROUND) } else { stay }
    }

    fn patience(&self, is_check: bool) -> Duration {
        match (is_check, self.network.radio) {
            (true, _) => self.answer_max.min(CHECK_ANSWER_MAX),
            (_, Radio::G2) => self.answer_max * 2,
            _ if self.is_foreground => self.answer_max.min(FOREGROUND_ANSWER_MAX),
            _ => self.answer_max,
        }
    }

    fn survived(&mut self, gap: Duration) {
        let gap = Gap::survived(gap.saturating_mul(self.speed));
        let Some(learner) = &mut self.learner else { return };
        let before = learner.bracket().lo;
        learner.survived(gap);
        if gap > before {
            self.observe(gap, true);
        }
    }

    fn observe(&mut self, gap: Gap, survived: bool) {
        if self.observations.len() == OBSERVATIONS_MAX {
            self.observations.pop_front();
        }
        self.observations.push_back(Observation { gap, survived });
    }

    fn gap(&self, length: Duration) -> Gap {
        Gap::survived(length.saturating_mul(self.speed))
    }

    /// A learner that begins empty.
    pub fn beginner() -> Learner {
        Learner::new(Range::default())
    }
}

#[cfg(test)]
mod tests;
