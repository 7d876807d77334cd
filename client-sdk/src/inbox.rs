//! Which messages the app has had already, whether they came by socket or by a vendor's push. Pure.
//!
//! An id walks `unknown -> with the app -> handled`. It becomes *handled*, and is written to the device's disk, only
//! when the app says so ([`crate::Message::handled`]); only then is the message acknowledged to the broker. A crash
//! between showing and that word therefore leads to a second delivery, never to a loss. The app keeps the window
//! small by calling `handled` right after the alert is posted, and closes it for the eye by posting the alert under
//! the message id, so that a second one replaces the first.

use reveille_proto::ids::MessageId;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How much the inbox remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxLimits {
    /// Ids of handled messages; the oldest goes first. As many may be with the app.
    pub ids_max: usize,
    /// An id older than this is forgotten. Longer than brokers and vendors keep a message (FCM: four weeks).
    pub age_max: Duration,
}

impl Default for InboxLimits {
    fn default() -> Self {
        Self { ids_max: 4_096, age_max: Duration::from_secs(30 * 24 * 3_600) }
    }
}

/// Milliseconds since 1970 by the device's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// Reads the clock.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn age(self, now: Self) -> Duration {
        Duration::from_millis(now.0.saturating_sub(self.0))
    }
}

/// The way a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The MQTT connection.
    Socket,
    /// A vendor's push service.
    Vendor,
}

/// What to do with a message that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// Not seen before: give it to the app.
    Show,
    /// The app has it from that source and has not said `handled` yet: do not show it, do not acknowledge it either.
    WithApp(Source),
    /// The app handled it before: drop it and acknowledge.
    Duplicate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    WithApp(Source),
    Handled(UnixMillis),
}

/// The ids that the app has or had.
#[derive(Clone, Debug)]
pub struct Inbox {
    limits: InboxLimits,
    stages: HashMap<MessageId, Stage>,
    /// Handled ids in the order of their handling.
    handled: VecDeque<(MessageId, UnixMillis)>,
}

impl Inbox {
    /// An inbox that has seen nothing.
    pub fn new(limits: InboxLimits) -> Self {
        Self { limits, stages: HashMap::new(), handled: VecDeque::new() }
    }

    /// Decides about a message that arrived, and remembers that the app has it when the answer is `Show`.
    ///
    /// With more than `ids_max` messages in the app's hands at once, further ones are shown without being remembered.
    pub fn accept(&mut self, id: MessageId, source: Source, now: UnixMillis) -> Acceptance {
        match self.stages.get(&id).copied() {
            Some(Stage::WithApp(first)) => return Acceptance::WithApp(first),
            Some(Stage::Handled(at)) if at.age(now) <= self.limits.age_max => return Acceptance::Duplicate,
            Some(Stage::Handled(_)) => self.remove(id),
            None => {}
        }
        if self.with_app() < self.limits.ids_max {
            self.stages.insert(id, Stage::WithApp(source));
        }
        Acceptance::Show
    }

    /// The app is done with the message, and that is on disk. Forgets the oldest ids beyond the limits.
    pub fn handled(&mut self, id: MessageId, now: UnixMillis) {
        self.remove(id);
        self.stages.insert(id, Stage::Handled(now));
        self.handled.push_back((id, now));
        self.forget_old(now);
        debug_assert!(self.handled.len() <= self.limits.ids_max, "the memory of handled ids is bounded");
    }

    /// The app gave the message back without handling it: the next delivery is shown again.
    pub fn released(&mut self, id: MessageId) {
        if let Some(Stage::WithApp(_)) = self.stages.get(&id) {
            self.stages.remove(&id);
        }
    }

    /// Whether the app has handled this id, as far as the inbox remembers.
    pub fn is_handled(&self, id: MessageId) -> bool {
        matches!(self.stages.get(&id), Some(Stage::Handled(_)))
    }

    /// The handled ids, oldest first: what a shortened file must contain.
    pub fn records(&self) -> impl Iterator<Item = (MessageId, UnixMillis)> {
        self.handled.iter().copied()
    }

    fn with_app(&self) -> usize {
        self.stages.len().saturating_sub(self.handled.len())
    }

    fn forget_old(&mut self, now: UnixMillis) {
        while let Some((id, at)) = self.handled.front().copied() {
            if self.handled.len() <= self.limits.ids_max && at.age(now) <= self.limits.age_max {
                return;
            }
            self.handled.pop_front();
            self.stages.remove(&id);
        }
    }

    fn remove(&mut self, id: MessageId) {
        if let Some(Stage::Handled(_)) = self.stages.remove(&id) {
            self.handled.retain(|(other, _)| *other != id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: InboxLimits = InboxLimits { ids_max: 4, age_max: Duration::from_millis(1_000) };

    fn id(n: u8) -> MessageId {
        MessageId([n; 16])
    }

    #[test]
    fn a_message_is_shown_once_whichever_way_comes_first() {
        for (first, second) in [(Source::Socket, Source::Vendor), (Source::Vendor, Source::Socket)] {
            let mut inbox = Inbox::new(LIMITS);
            assert_eq!(inbox.accept(id(1), first, UnixMillis(0)), Acceptance::Show, "{first:?}");
            assert_eq!(inbox.accept(id(1), second, UnixMillis(0)), Acceptance::WithApp(first), "{first:?}");
            inbox.handled(id(1), UnixMillis(1));
            assert_eq!(inbox.accept(id(1), second, UnixMillis(1)), Acceptance::Duplicate, "{first:?}");
        }
    }

    #[test]
    fn a_message_that_the_app_gave_back_is_shown_again() {
        let mut inbox = Inbox::new(LIMITS);
        inbox.accept(id(1), Source::Socket, UnixMillis(0));
        inbox.released(id(1));
        assert_eq!(inbox.accept(id(1), Source::Socket, UnixMillis(0)), Acceptance::Show);
        inbox.handled(id(1), UnixMillis(0));
        inbox.released(id(1)); // too late to give back
        assert_eq!(inbox.accept(id(1), Source::Socket, UnixMillis(0)), Acceptance::Duplicate);
    }

    #[test]
    fn an_id_is_forgotten_by_age_and_by_number() {
        let mut inbox = Inbox::new(LIMITS);
        inbox.handled(id(1), UnixMillis(0));
        assert_eq!(inbox.accept(id(1), Source::Vendor, UnixMillis(1_001)), Acceptance::Show);
        (2..7).for_each(|n| inbox.handled(id(n), UnixMillis(1_001)));
        assert!(!inbox.is_handled(id(2)), "the fifth pushes out the first");
        assert!(inbox.is_handled(id(3)));
    }

    #[test]
    fn a_clock_that_runs_backwards_forgets_nothing() {
        let mut inbox = Inbox::new(LIMITS);
        inbox.handled(id(1), UnixMillis(5_000));
        assert_eq!(inbox.accept(id(1), Source::Socket, UnixMillis(0)), Acceptance::Duplicate);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Arrive(u8, bool),
        Handle(u8),
        GiveBack(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_u8..6, any::<bool>()).prop_map(|(n, socket)| Step::Arrive(n, socket)),
            (0_u8..6).prop_map(Step::Handle),
            (0_u8..6).prop_map(Step::GiveBack),
        ]
    }

    proptest! {
        #[test]
        fn a_handled_message_is_never_shown_within_the_limits(steps in prop::collection::vec(step(), 0..200)) {
            let limits = InboxLimits { ids_max: 6, age_max: Duration::from_secs(60) };
            let mut inbox = Inbox::new(limits);
            let mut handled = std::collections::HashSet::new();
            let mut with_app = std::collections::HashSet::new();
            for (at, step) in steps.into_iter().enumerate() {
                let now = UnixMillis(at as u64);
                match step {
                    Step::Arrive(n, socket) => {
                        let source = if socket { Source::Socket } else { Source::Vendor };
                        let shown = inbox.accept(id(n), source, now) == Acceptance::Show;
                        prop_assert_eq!(shown, !handled.contains(&n) && !with_app.contains(&n));
                        if shown { with_app.insert(n); }
                    }
                    Step::Handle(n) => { inbox.handled(id(n), now); handled.insert(n); with_app.remove(&n); }
                    Step::GiveBack(n) => { inbox.released(id(n)); with_app.remove(&n); }
                }
                prop_assert_eq!(inbox.records().count(), handled.len());
            }
        }

        #[test]
        fn memory_stays_within_the_limits(ids in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut inbox = Inbox::new(LIMITS);
            for (at, n) in ids.into_iter().enumerate() {
                let now = UnixMillis(at as u64 * 100);
                inbox.accept(id(n), Source::Socket, now);
                if n % 3 == 0 { inbox.handled(id(n), now); }
                prop_assert!(inbox.records().count() <= LIMITS.ids_max);
                prop_assert!(inbox.stages.len() <= 2 * LIMITS.ids_max);
            }
        }
    }
}
