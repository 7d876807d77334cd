use super::*;
use crate::plan::Event;
use proptest::prelude::*;
use proptest::strategy::Strategy as _;
use reveille_proto::bridge::Strategy;

/// Whatever a broker, a vendor or the plan may say.
pub(crate) fn events() -> impl proptest::strategy::Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Told),
        (0_u64..4).prop_map(|epoch| Event::Queued { epoch }),
        (0_u64..4).prop_map(|epoch| Event::Unacked { epoch }),
        Just(Event::Acked),
        Just(Event::Silent),
        Just(Event::PushQueued(VendorName::Apns)),
        Just(Event::Submitted),
        Just(Event::Accepted),
        Just(Event::Delivered),
        Just(Event::Undelivered),
        Just(Event::Postponed),
        Just(Event::Refused),
        Just(Event::Lost),
        Just(Event::Withheld),
        Just(Event::Admitted),
        Just(Event::Held { until_ms: 5, has_turn: false }),
        prop::sample::select(vec![
            Reason::DrainedOnline,
            Reason::Recalled,
            Reason::Expired,
            Reason::VendorsRefused,
            Reason::Unreachable,
            Reason::Capped,
            Reason::Quiet,
        ])
        .prop_map(Event::Ended),
    ]
}

proptest! {
    #[test]
    fn every_delivery_is_in_exactly_one_bucket_and_goes_only_where_it_may(
        deliveries in prop::collection::vec(prop::collection::vec((events(), 0_u8..12), 0..14), 1..8),
    ) {
        let mut funnel = Funnel::default();
        for happened in &deliveries {
            let mut delivery = Delivery::new(Strategy::OnlineFirst, None, 1);
            funnel.add(delivery.bucket);
            for (event, reaction) in happened {
                let (was, state) = (delivery.bucket, delivery.state);
                delivery.facts.apply(*event, 1);
                delivery.settle();
                prop_assert!(delivery.state == state || delivery.state.may_follow(state), "{state} {delivery:?}");
                let state = delivery.state;
                let reactions = [Reaction::Shown, Reaction::Dismissed, Reaction::Clicked];
                delivery.reaction = delivery.reaction.max(reactions.get(usize::from(*reaction)).copied());
                delivery.settle();
                prop_assert!(delivery.state == state || delivery.state.may_follow(state), "{state} {delivery:?}");
                funnel.shift(was, delivery.bucket);
                prop_assert!(funnel.is_whole());
            }
        }
        prop_assert_eq!(funnel.targeted, deliveries.len() as u64);
    }
}

#[test]
fn an_acknowledgement_before_the_vendor_s_call_cancels_the_push_and_after_it_counts_as_acked() {
    let pushed = [Event::Told, Event::Queued { epoch: 1 }, Event::PushQueued(VendorName::Apns)];
    for (then, wanted) in [
        (vec![], State::SuppressedDrainedOnline),
        (vec![Event::Submitted], State::OnlineAcked),
        (vec![Event::Submitted, Event::Postponed], State::OnlineAcked),
        (vec![Event::Submitted, Event::Accepted], State::OnlineAcked),
    ] {
        let mut delivery = Delivery::new(Strategy::OnlineFirst, None, 1);
        for event in pushed.iter().chain(&then).chain(&[Event::Acked]) {
            delivery.facts.apply(*event, 1);
            delivery.settle();
        }
        assert_eq!(delivery.state, wanted, "{then:?}");
    }
}

#[test]
fn a_long_timeline_keeps_its_begin_and_its_end_and_counts_what_is_left_out() {
    let mut delivery = Delivery::new(Strategy::OnlineFirst, None, 0);
    for at_ms in 1..200 {
        delivery.note(at_ms, None, String::new());
    }
    assert_eq!(delivery.timeline.len(), TIMELINE_MAX);
    assert_eq!(delivery.left_out, 200 - TIMELINE_MAX as u64);
    assert_eq!((delivery.timeline[0].at_ms, delivery.timeline[TIMELINE_MAX - 1].at_ms), (0, 199));
}
