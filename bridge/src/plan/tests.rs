use super::*;
use proptest::prelude::*;
use reveille_proto::bridge::Strategy;

const APNS: VendorName = VendorName::Apns;
const FCM: VendorName = VendorName::Fcm;
const NOW: u64 = 10_000;

fn view(strategy: Strategy) -> View<'static> {
    View {
        strategy,
        wait_ack_ms: 3_000,
        expires_at_ms: Some(100_000),
        is_recalled: false,
        online_epoch: None,
        vendors: &[APNS],
        now_ms: NOW,
    }
}

fn facts(events: &[Event]) -> Facts {
    let mut facts = Facts::default();
    for event in events {
        facts.apply(*event, NOW);
    }
    facts
}

#[test]
fn each_strategy_begins_in_its_own_way() {
    use Action::{PushToVendor, SendToBroker, Wait};
    for (strategy, first, then) in [
        (Strategy::OnlineFirst, SendToBroker, Wait(None)),
        (Strategy::OnlineOnly, SendToBroker, Wait(None)),
        (Strategy::BothDedup, SendToBroker, PushToVendor(vec![APNS])),
        (Strategy::VendorFirst, PushToVendor(vec![APNS]), PushToVendor(vec![APNS])),
        (Strategy::VendorOnly, PushToVendor(vec![APNS]), PushToVendor(vec![APNS])),
    ] {
        assert_eq!(next(&facts(&[]), &view(strategy)), first, "{strategy:?}");
        assert_eq!(next(&facts(&[Event::Told]), &view(strategy)), then, "{strategy:?}");
    }
}

#[test]
fn what_follows_each_word_under_online_first() {
    use Action::{Done, End, PushToVendor, Wait};
    let push = PushToVendor(vec![APNS]);
    let queued = Event::PushQueued(APNS);
    let table: &[(&[Event], Action)] = &[
        (&[Event::Told, Event::Queued { epoch: 4 }], push.clone()),
        (&[Event::Told, Event::Queued { epoch: 0 }], push.clone()),
        (&[Event::Told, Event::Unacked { epoch: 4 }], push.clone()),
        (&[Event::Told, Event::Silent], push.clone()),
        (&[Event::Told, Event::Acked], Done),
        (&[Event::Told, Event::Acked, Event::Queued { epoch: 9 }], Done),
        (&[Event::Told, Event::Queued { epoch: 4 }, queued, Event::Acked], End(Reason::DrainedOnline)),
        (&[Event::Told, Event::Queued { epoch: 4 }, queued, Event::Submitted], Wait(None)),
        (&[Event::Told, Event::Queued { epoch: 4 }, queued, Event::Submitted, Event::Acked], Done),
        (&[Event::Told, Event::Silent, queued, Event::Submitted, Event::Accepted], Done),
        (&[Event::Told, Event::Silent, queued, Event::Submitted, Event::Lost], Wait(None)),
        (
            &[Event::Told, Event::Queued { epoch: 0 }, queued, Event::Submitted, Event::Lost],
            End(Reason::VendorsRefused),
        ),
        (&[Event::Told, Event::Silent, queued, Event::Submitted, Event::Refused], push),
    ];
    for (events, wanted) in table {
        assert_eq!(next(&facts(events), &view(Strategy::OnlineFirst)), *wanted, "{events:?}");
    }
}

#[test]
fn a_device_that_came_back_may_drain_once_before_its_vendor_is_called() {
    let missed = facts(&[Event::Told, Event::Queued { epoch: 4 }, Event::PushQueued(APNS)]);
    for (online_epoch, now_ms, wanted) in [
        (Some(5), NOW, Action::Wait(Some(NOW + 3_000))),
        (Some(5), NOW + 3_000, Action::PushToVendor(vec![APNS])),
        (Some(4), NOW, Action::PushToVendor(vec![APNS])),
        (None, NOW, Action::PushToVendor(vec![APNS])),
    ] {
        let view = View { online_epoch, now_ms, ..view(Strategy::OnlineFirst) };
        assert_eq!(next(&missed, &view), wanted, "{online_epoch:?} {now_ms}");
    }
}

#[test]
fn without_a_token_it_waits_in_the_queue_or_ends_where_there_is_none() {
    for (strategy, events, wanted) in [
        (Strategy::OnlineFirst, vec![Event::Told, Event::Queued { epoch: 4 }], Action::Wait(None)),
        (
            Strategy::OnlineFirst,
            vec![Event::Told, Event::Queued { epoch: 0 }],
            Action::End(Reason::Unreachable),
        ),
        (Strategy::VendorOnly, vec![], Action::End(Reason::Unreachable)),
        (Strategy::VendorFirst, vec![], Action::SendToBroker),
        (Strategy::VendorFirst, vec![Event::Told], Action::Wait(None)),
    ] {
        let view = View { vendors: &[], ..view(strategy) };
        assert_eq!(next(&facts(&events), &view), wanted, "{strategy:?} {events:?}");
    }
}

#[test]
fn recall_and_expiry_end_what_no_vendor_has() {
    let queued = [Event::Told, Event::Queued { epoch: 1 }, Event::PushQueued(APNS)];
    let recalled = View { is_recalled: true, ..view(Strategy::OnlineFirst) };
    let expired = View { now_ms: 100_000, ..view(Strategy::OnlineFirst) };
    assert_eq!(next(&facts(&queued), &recalled), Action::End(Reason::Recalled));
    assert_eq!(next(&facts(&queued), &expired), Action::End(Reason::Expired));
    let mut accepted = queued.to_vec();
    accepted.extend([Event::Submitted, Event::Accepted]);
    assert_eq!(next(&facts(&accepted), &recalled), Action::Done);
}

fn held(until_ms: u64) -> Facts {
    Facts { gate: Gate::Held { until_ms, has_turn: false }, ..Facts::default() }
}

#[test]
fn nothing_is_tried_before_the_policy_lets_it_go() {
    let strategies =
        [Strategy::OnlineFirst, Strategy::VendorOnly, Strategy::VendorFirst, Strategy::BothDedup];
    for strategy in strategies {
        let begins = next(&Facts::default(), &view(strategy));
        for (events, wanted) in [
            (vec![], Action::AskPolicy),
            (vec![Event::Held { until_ms: NOW + 1, has_turn: true }], Action::Wait(None)),
            (vec![Event::Held { until_ms: NOW, has_turn: true }], Action::AskPolicy),
            (vec![Event::Admitted], begins.clone()),
            (vec![Event::Admitted, Event::Held { until_ms: NOW + 1, has_turn: false }], begins),
            (vec![Event::Ended(Reason::Capped)], Action::Done),
        ] {
            let mut facts = held(0);
            events.iter().for_each(|event| facts.apply(*event, NOW));
            assert_eq!(next(&facts, &view(strategy)), wanted, "{strategy:?} {events:?}");
        }
    }
    let view = view(Strategy::OnlineFirst);
    let recalled = View { is_recalled: true, ..view };
    assert_eq!(next(&held(NOW + 1), &recalled), Action::End(Reason::Recalled));
    assert_eq!(next(&held(NOW + 1), &View { now_ms: 100_000, ..view }), Action::End(Reason::Expired));
    let mut out = held(NOW + 1);
    out.apply(Event::Queued { epoch: 3 }, NOW); // whoever has it cannot be kept from it any more
    assert_eq!(next(&out, &view), Action::PushToVendor(vec![APNS]));
}

#[test]
fn a_withheld_push_is_left_to_the_queue_until_the_device_was_online_again() {
    let withheld = [Event::Told, Event::Queued { epoch: 4 }, Event::Withheld];
    let view = view(Strategy::OnlineFirst);
    for (event, wanted) in [
        (Event::Told, Action::Wait(None)),
        (Event::Unacked { epoch: 4 }, Action::Wait(None)),
        (Event::Queued { epoch: 5 }, Action::PushToVendor(vec![APNS])),
        (Event::Acked, Action::Done),
    ] {
        assert_eq!(next(&facts(&[&withheld[..], &[event]].concat()), &view), wanted, "{event:?}");
    }
    let expired = View { now_ms: 100_000, ..view };
    assert_eq!(next(&facts(&withheld), &expired), Action::End(Reason::Expired));
}

/// A device, its vendors and its broker, driven by any events in any order.
struct World {
    facts: Facts,
    strategy: Strategy,
    tokens: Vec<VendorName>,
    online_epoch: Option<u64>,
    now_ms: u64,
    /// Vendor calls that may be visible: accepted, or the outcome is unknown.
    visible: Vec<VendorName>,
    has_unknown: bool,
    /// How often its policy still holds it.
    holds: u8,
}

#[derive(Clone, Copy, Debug)]
enum Happening {
    Queued(u64),
    Unacked(u64),
    Acked,
    Silent,
    Online(u64),
    Offline,
    Later(u64),
    Worker,
    Accepts,
    Refuses,
    Retries,
    CrashAfterSend,
    Delivered,
    NotShown,
}

impl World {
    fn new(strategy: Strategy) -> Self {
        let tokens = vec![APNS, FCM];
        let facts = Facts::default();
        let mut world = Self {
            facts,
            strategy,
            tokens,
            online_epoch: None,
            now_ms: NOW,
            visible: vec![],
            has_unknown: false,
            holds: 0,
        };
        world.settle();
        world
    }

    /// The same under a policy.
    fn ruled(strategy: Strategy, holds: u8) -> Self {
        let (facts, tokens) = (held(0), vec![APNS, FCM]);
        let (online_epoch, now_ms, visible, has_unknown) = (None, NOW, vec![], false);
        let mut world = Self { facts, strategy, tokens, online_epoch, now_ms, visible, has_unknown, holds };
        world.settle();
        world
    }

    fn ask_policy(&mut self) {
        let event = match self.holds.checked_sub(1) {
            Some(holds) => {
                self.holds = holds;
                Event::Held { until_ms: self.now_ms + 1_000, has_turn: false }
            }
            None => Event::Admitted,
        };
        self.facts.apply(event, self.now_ms);
    }

    fn next(&self) -> Action {
        let view = View {
            online_epoch: self.online_epoch,
            vendors: &self.tokens,
            now_ms: self.now_ms,
            expires_at_ms: None,
            ..view(self.strategy)
        };
        next(&self.facts, &view)
    }

    fn tell(&mut self, event: Event) {
        self.facts.apply(event, self.now_ms);
        self.settle();
    }

    fn settle(&mut self) {
        for _ in 0..8 {
            match self.next() {
                Action::AskPolicy => self.ask_policy(),
                Action::SendToBroker => self.facts.apply(Event::Told, self.now_ms),
                Action::PushToVendor(vendors) => self.facts.apply(Event::PushQueued(vendors[0]), self.now_ms),
                Action::End(reason) => self.facts.apply(Event::Ended(reason), self.now_ms),
                Action::Wait(_) | Action::Done => return,
            }
            if matches!(self.facts.push, Push::Queued(_)) {
                return;
            }
        }
        panic!("a plan that does not come to rest: {:?}", self.facts);
    }

    fn submitted(&self) -> Option<VendorName> {
        match self.facts.push {
            Push::Submitted(vendor) => Some(vendor),
            Push::None | Push::Queued(_) | Push::Accepted(_) | Push::Delivered(_) => None,
            Push::TakenBack(_) | Push::Withheld | Push::Lost => None,
        }
    }

    fn happen(&mut self, happening: Happening) {
        match (happening, self.submitted()) {
            (Happening::Queued(epoch), _) => self.tell(Event::Queued { epoch }),
            (Happening::Unacked(epoch), _) => self.tell(Event::Unacked { epoch }),
            (Happening::Acked, _) => self.tell(Event::Acked),
            (Happening::Silent, _) => self.tell(Event::Silent),
            (Happening::Online(epoch), _) => self.online_epoch = Some(epoch),
            (Happening::Offline, _) => self.online_epoch = None,
            (Happening::Later(by), _) => {
                self.now_ms += by;
                self.settle();
            }
            (Happening::Worker, None) => self.work(),
            (Happening::Accepts, Some(vendor)) => {
                self.visible.push(vendor);
                self.tell(Event::Accepted);
            }
            (Happening::Refuses, Some(vendor)) if !self.has_unknown => {
                self.tokens.retain(|token| *token != vendor);
                let last = self.tokens.is_empty();
                self.tell(if last { Event::Lost } else { Event::Refused });
            }
            (Happening::Refuses, Some(_)) => self.tell(Event::Lost), // as the worker does after an unknown outcome
            (Happening::Retries, Some(_)) => self.tell(Event::Postponed),
            (Happening::CrashAfterSend, Some(vendor)) => {
                self.visible.push(vendor);
                self.has_unknown = true;
                self.tell(Event::Postponed);
            }
            // A receipt is about a push that the vendor got.
            (Happening::Delivered, _) if !self.visible.is_empty() => self.tell(Event::Delivered),
            (Happening::NotShown, _) if !self.visible.is_empty() => self.tell(Event::Undelivered),
            (Happening::Delivered | Happening::NotShown, _) => {}
            (Happening::Worker | Happening::Accepts | Happening::Refuses, _)
            | (Happening::Retries | Happening::CrashAfterSend, _) => {}
        }
    }

    fn work(&mut self) {
        if let (Push::Queued(_), Action::PushToVendor(_)) = (self.facts.push, self.next()) {
            assert!(self.facts.broker != Broker::Acked && self.facts.ended.is_none());
            self.facts.apply(Event::Submitted, self.now_ms);
        }
        self.settle();
    }
}

fn happenings() -> impl Strategy2<Value = Vec<Happening>> {
    let one = prop_oneof![
        (0_u64..5).prop_map(Happening::Queued),
        (1_u64..5).prop_map(Happening::Unacked),
        Just(Happening::Acked),
        Just(Happening::Silent),
        (1_u64..6).prop_map(Happening::Online),
        Just(Happening::Offline),
        (0_u64..4_000).prop_map(Happening::Later),
        Just(Happening::Worker),
        Just(Happening::Worker),
        Just(Happening::Accepts),
        Just(Happening::Refuses),
        Just(Happening::Retries),
        Just(Happening::CrashAfterSend),
        Just(Happening::Delivered),
        Just(Happening::NotShown),
    ];
    prop::collection::vec(one, 0..40)
}

use proptest::strategy::Strategy as Strategy2;

fn strategies() -> impl Strategy2<Value = Strategy> {
    prop::sample::select(vec![
        Strategy::OnlineFirst,
        Strategy::OnlineOnly,
        Strategy::VendorOnly,
        Strategy::VendorFirst,
        Strategy::BothDedup,
    ])
}

proptest! {
    #[test]
    fn under_a_policy_nothing_is_visible_before_it_lets_go_and_nothing_is_lost_after(
        strategy in strategies(),
        holds in 0_u8..4,
        laters in prop::collection::vec(0_u64..700, 0..12),
    ) {
        let mut world = World::ruled(strategy, holds);
        for later in laters {
            world.happen(Happening::Worker);
            world.happen(Happening::Accepts);
            let is_held = matches!(world.facts.gate, Gate::Held { .. });
            let is_untouched = world.visible.is_empty() && world.facts.broker == Broker::Untold;
            prop_assert!(!is_held || is_untouched, "{:?}", world.facts);
            prop_assert!(is_held || world.holds == 0);
            world.happen(Happening::Later(later));
        }
        for happening in [Happening::Later(1_000); 4] {
            world.happen(happening);
        }
        prop_assert_eq!(world.facts.gate, Gate::Open);
        let begun = World::new(strategy).facts.broker;
        prop_assert!(!world.visible.is_empty() || world.facts.broker == begun, "{:?}", world.facts);
    }

    #[test]
    fn never_two_alerts_unless_an_outcome_was_unknown_and_then_at_the_same_vendor(
        strategy in strategies(),
        happenings in happenings(),
    ) {
        let mut world = World::new(strategy);
        for happening in &happenings {
            world.happen(*happening);
            world.happen(*happening); // everything may come twice
        }
        if !world.has_unknown {
            prop_assert!(world.visible.len() <= 1, "{:?}", world.visible);
        }
        let first = world.visible.first();
        prop_assert!(world.visible.iter().all(|vendor| Some(vendor) == first), "{:?}", world.visible);
        if strategy == Strategy::OnlineOnly {
            prop_assert_eq!(world.visible, vec![]);
        }
    }

    #[test]
    fn never_silence_while_a_live_token_exists(strategy in strategies(), happenings in happenings(), is_missed in any::<bool>()) {
        let mut world = World::new(strategy);
        for happening in happenings {
            world.happen(happening);
        }
        // From here on the device sleeps, time passes and the vendor works.
        world.happen(if is_missed { Happening::Queued(9) } else { Happening::Silent });
        // The end of a drain only queues the push, so the worker comes twice.
        let rest =
            [Happening::Retries, Happening::Later(3_000), Happening::Worker, Happening::Worker, Happening::Accepts];
        for happening in rest {
            world.happen(happening);
        }
        let has_it = world.facts.broker == Broker::Acked || !world.visible.is_empty();
        let had_no_way = world.tokens.is_empty() || strategy == Strategy::OnlineOnly;
        prop_assert!(has_it || had_no_way || world.facts.push == Push::Lost, "{:?}", world.facts);
    }

    #[test]
    fn the_broker_s_words_lead_to_the_same_facts_in_any_order(
        words in prop::collection::vec((0_u8..3, 0_u64..5), 0..10),
        turn in 0_usize..10,
    ) {
        let event = |(kind, epoch): (u8, u64)| match kind {
            0 => Event::Queued { epoch },
            1 => Event::Unacked { epoch },
            _ => Event::Acked,
        };
        let all = |words: &[(u8, u64)]| facts(&words.iter().map(|word| event(*word)).collect::<Vec<_>>()).broker;
        let mut turned = words.clone();
        turned.rotate_left(turn.min(words.len()));
        turned.extend(words.iter().rev().copied());
        prop_assert_eq!(all(&words), all(&turned));
    }
}
