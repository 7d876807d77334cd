//! One message on its way to one device: its state, its timeline in words, and its place in the message's funnel.
//!
//! A delivery stands in one bucket, the one of its state: what the device acknowledged or showed counts as `acked`,
//! even when a vendor had accepted it before; what only a vendor accepted counts as `vendor_accepted`. So `targeted = filtered + suppressed + failed + expired + acked + vendor_accepted + in_flight` at any moment.

use std::collections::BTreeMap;

use reveille_proto::bridge::Strategy;
pub use reveille_proto::delivery::DeliveryState as State;
use reveille_proto::ids::{AppId, MessageId};
use serde::{Deserialize, Serialize};

use crate::apps::sha256;
use crate::devices::{self, Device};
use crate::messages::{Message, state_text, strategy_text};
use crate::plan::{self, Action, Broker, Event, Facts, Push, Reason, View};
use crate::queues::{self, Waiting};
use crate::store::{Order, Space, StoreError, Tx, decode, keys};
use crate::tokens::Token;
use crate::vendor::VendorName;

/// Entries of one timeline at most; beyond it the middle is left out and counted.
const TIMELINE_MAX: usize = 48;

/// The parts of the funnel; every delivery is in exactly one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bucket {
    /// Left out before anything was tried.
    Filtered,
    /// Not shown on purpose: drained online first, or withdrawn.
    Suppressed,
    /// No way led to the device.
    Failed,
    /// Its time was over.
    Expired,
    /// The device said that it has it.
    Acked,
    /// A vendor took it, and the device said nothing yet.
    VendorAccepted,
    /// Everything else.
    #[default]
    InFlight,
}

/// What the device tells of the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reaction {
    /// The alert was shown.
    Shown,
    /// The alert was put away.
    Dismissed,
    /// The alert was opened.
    Clicked,
}

/// One line of a timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The state from then on.
    #[serde(with = "state_text")]
    pub state: State,
    /// The vendor that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<VendorName>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// One message on its way to one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// What is known, for the plan.
    pub facts: Facts,
    /// How it may reach this device.
    #[serde(with = "strategy_text")]
    pub strategy: Strategy,
    /// How far it got.
    #[serde(with = "state_text")]
    pub state: State,
    /// Where it counts.
    pub bucket: Bucket,
    /// What the user did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reaction: Option<Reaction>,
    /// How often a vendor was called.
    #[serde(default)]
    pub attempts: u32,
    /// When first, in milliseconds since 1970.
    #[serde(default)]
    pub first_attempt_at_ms: u64,
    /// Whether some call's outcome stayed unknown.
    #[serde(default)]
    pub is_unknown: bool,
    /// When its turn at the vendor comes, while it waits for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_ms: Option<u64>,
    /// Device tokens that refused it, by vendor and fingerprint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<(VendorName, u64)>,
    /// What happened, in words.
    pub timeline: Vec<Entry>,
    /// Entries left out of the timeline.
    #[serde(default)]
    pub left_out: u64,
}

/// How many deliveries stand where, and what became of them at vendors and users.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the buckets are described at `Bucket`")]
pub struct Funnel {
    /// All deliveries.
    pub targeted: u64,
    pub filtered: u64,
    pub suppressed: u64,
    pub failed: u64,
    pub expired: u64,
    pub acked: u64,
    pub vendor_accepted: u64,
    pub in_flight: u64,
    /// Deliveries whose device said "shown", whatever came later.
    pub shown: u64,
    /// Deliveries whose user opened the alert.
    pub clicked: u64,
    /// Deliveries whose user put the alert away.
    pub dismissed: u64,
    /// Calls that a vendor accepted or finally refused.
    pub by_vendor: BTreeMap<VendorName, VendorCounts>,
}

/// What one vendor did for a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VendorCounts {
    /// Deliveries that it took.
    pub accepted: u64,
    /// Deliveries that it refused for good.
    pub refused: u64,
    /// Calls repeated because the outcome of the one before is unknown.
    pub repeated_unknown: u64,
}

impl Funnel {
    fn bucket(&mut self, bucket: Bucket) -> &mut u64 {
        match bucket {
            Bucket::Filtered => &mut self.filtered,
            Bucket::Suppressed => &mut self.suppressed,
            Bucket::Failed => &mut self.failed,
            Bucket::Expired => &mut self.expired,
            Bucket::Acked => &mut self.acked,
            Bucket::VendorAccepted => &mut self.vendor_accepted,
            Bucket::InFlight => &mut self.in_flight,
        }
    }

    fn add(&mut self, bucket: Bucket) {
        self.targeted += 1;
        *self.bucket(bucket) += 1;
        self.check();
    }

    fn shift(&mut self, from: Bucket, to: Bucket) {
        *self.bucket(from) -= 1;
        *self.bucket(to) += 1;
        self.check();
    }

    /// The sum that always holds.
    pub fn is_whole(&self) -> bool {
        let parts = [
            self.filtered,
            self.suppressed,
            self.failed,
            self.expired,
            self.acked,
            self.vendor_accepted,
            self.in_flight,
        ];
        self.targeted == parts.iter().sum::<u64>()
    }

    fn check(&self) {
        debug_assert!(self.is_whole(), "a delivery is in no bucket or in two: {self:?}");
    }

    /// The counts of a vendor.
    pub(crate) fn at(&mut self, vendor: VendorName) -> &mut VendorCounts {
        self.by_vendor.entry(vendor).or_default()
    }
}

impl Delivery {
    fn new(strategy: Strategy, now_ms: u64) -> Self {
        let mut delivery = Self {
            facts: Facts::default(),
            strategy,
            state: State::Targeted,
            bucket: Bucket::InFlight,
            reaction: None,
            attempts: 0,
            first_attempt_at_ms: 0,
            is_unknown: false,
            due_ms: None,
            refused: Vec::new(),
            timeline: Vec::new(),
            left_out: 0,
        };
        delivery.note(now_ms, None, String::new());
        delivery
    }

    /// Writes a line into the timeline, in the state of now.
    pub fn note(&mut self, at_ms: u64, vendor: Option<VendorName>, reason: String) {
        self.timeline.push(Entry { at_ms, state: self.state, vendor, reason });
        if self.timeline.len() > TIMELINE_MAX {
            self.timeline.remove(TIMELINE_MAX / 2);
            self.left_out += 1;
        }
    }

    /// The last word of why.
    pub fn reason(&self) -> &str {
        self.timeline
            .iter()
            .rev()
            .map(|entry| entry.reason.as_str())
            .find(|words| !words.is_empty())
            .unwrap_or("")
    }

    /// The device tokens that may still take it, best first.
    pub fn usable<'d>(&self, device: Option<&'d Device>) -> Vec<&'d Token> {
        let tokens = device.into_iter().flat_map(|device| &device.tokens);
        tokens.filter(|token| token.is_active() && !self.refused.contains(&fingerprint(token))).collect()
    }

    /// Where it waits in a vendor's queue.
    pub(crate) fn waiting(&self, message: MessageId, device: &str) -> Option<Waiting> {
        self.due_ms.map(|due_ms| Waiting { due_ms, message, device: device.to_owned() })
    }

    /// Goes on to the state that the facts say, where it may follow: a state that was told stays true.
    fn settle(&mut self) {
        for state in [Some(reached(&self.facts)), self.reaction.map(Reaction::state)].into_iter().flatten() {
            let state = match state {
                // A vendor was called once already, so it is no push that was saved.
                State::SuppressedDrainedOnline if !state.may_follow(self.state) => State::OnlineAcked,
                state => state,
            };
            if state.may_follow(self.state) {
                self.state = state;
            }
        }
        self.bucket = Bucket::of(self.state);
    }
}

/// How a refused device token is remembered.
pub(crate) fn fingerprint(token: &Token) -> (VendorName, u64) {
    let hash = sha256(token.token.as_str().as_bytes());
    (token.vendor, hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// The state that the facts lead to: the best evidence wins.
fn reached(facts: &Facts) -> State {
    match facts {
        Facts { broker: Broker::Acked, push: Push::Queued(_), .. } => State::SuppressedDrainedOnline,
        Facts { broker: Broker::Acked, .. } => State::OnlineAcked,
        Facts { push: Push::Accepted(_), .. } => State::VendorAccepted,
        Facts { ended: Some(Reason::Recalled), .. } => State::Recalled,
        Facts { ended: Some(Reason::Expired), .. } => State::Expired,
        Facts {
            ended: Some(Reason::VendorsRefused | Reason::Unreachable | Reason::DrainedOnline), ..
        } => State::Failed,
        Facts { push: Push::Submitted(_), .. } => State::VendorSubmitted,
        Facts { broker: Broker::Untold, .. } => State::Targeted,
        Facts { broker: Broker::Told | Broker::Missed { .. } | Broker::Silent, .. } => State::Queued,
    }
}

impl Bucket {
    /// Where a delivery in this state counts.
    pub fn of(state: State) -> Self {
        match state {
            State::Targeted | State::Queued | State::OnlineSent | State::VendorSubmitted => Self::InFlight,
            State::Filtered => Self::Filtered,
            State::SuppressedDrainedOnline
            | State::SuppressedCap
            | State::SuppressedQuiet
            | State::Recalled => Self::Suppressed,
            State::Failed => Self::Failed,
            State::Expired => Self::Expired,
            State::OnlineAcked | State::Shown | State::Clicked | State::Dismissed => Self::Acked,
            State::VendorAccepted | State::VendorDelivered => Self::VendorAccepted,
        }
    }
}

impl Reaction {
    fn state(self) -> State {
        match self {
            Self::Shown => State::Shown,
            Self::Dismissed => State::Dismissed,
            Self::Clicked => State::Clicked,
        }
    }
}

/// What happened to a delivery, and why in words.
#[derive(Clone, Debug)]
pub(crate) struct News {
    pub event: Event,
    pub vendor: Option<VendorName>,
    pub reason: String,
}

impl News {
    /// News without a vendor.
    pub fn new(event: Event, reason: impl Into<String>) -> Self {
        Self { event, vendor: None, reason: reason.into() }
    }

    /// News of a vendor.
    pub fn of(vendor: VendorName, event: Event, reason: impl Into<String>) -> Self {
        Self { event, vendor: Some(vendor), reason: reason.into() }
    }
}

/// One delivery in the hands of a transaction: load, tell it the news, settle it, write it.
pub(crate) struct Case<'m> {
    pub message: &'m Message,
    pub device_id: String,
    pub device: Option<Device>,
    pub delivery: Delivery,
    online_epoch: Option<u64>,
    was: Option<Bucket>,
    /// Whether it must be put into the outbox; the caller gathers.
    pub to_broker: bool,
}

impl<'m> Case<'m> {
    /// Loads a delivery, or begins one.
    pub fn load(tx: &Tx<'_>, message: &'m Message, device_id: &str) -> Result<Self, StoreError> {
        let app = &message.app;
        let device = devices::load(tx, app, device_id)?;
        let presence = devices::presence(tx, app, device_id)?;
        let kept: Option<Delivery> = tx.load(Space::Messages, &keys::delivery(app, message.id, device_id))?;
        let was = kept.as_ref().map(|delivery| delivery.bucket);
        let delivery = kept.unwrap_or_else(|| {
            let first = device.iter().flat_map(|device| &device.tokens).find(|token| token.is_active());
            Delivery::new(message.strategy_at(first.map(|token| token.vendor)), tx.now_ms())
        });
        let online_epoch = presence.filter(|presence| presence.online).map(|presence| presence.epoch);
        Ok(Self {
            message,
            device_id: device_id.to_owned(),
            device,
            delivery,
            online_epoch,
            was,
            to_broker: false,
        })
    }

    /// Whether the delivery was there before.
    pub fn is_known(&self) -> bool {
        self.was.is_some()
    }

    /// Tells it what happened; repeated news leave no trace.
    pub fn tell(&mut self, now_ms: u64, news: News) {
        let before = self.delivery.facts;
        self.delivery.facts.apply(news.event, now_ms);
        if before != self.delivery.facts {
            self.delivery.settle();
            self.delivery.note(now_ms, news.vendor, news.reason);
        }
    }

    /// What the plan says now.
    pub fn next(&self, now_ms: u64) -> Action {
        let vendors: Vec<_> =
            self.delivery.usable(self.device.as_ref()).iter().map(|token| token.vendor).collect();
        let view = View {
            strategy: self.delivery.strategy,
            wait_ack_ms: self.message.wait_ack_ms,
            expires_at_ms: self.message.expires_at_ms,
            is_recalled: self.message.recalled_at_ms.is_some(),
            online_epoch: self.online_epoch,
            vendors: &vendors,
            now_ms,
        };
        plan::next(&self.delivery.facts, &view)
    }

    /// Does what the plan says until it rests, and writes the result.
    pub fn settle(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let now_ms = tx.now_ms();
        for _ in 0..PLAN_STEPS_MAX {
            match self.next(now_ms) {
                Action::SendToBroker => {
                    self.to_broker = true;
                    self.tell(now_ms, News::new(Event::Told, ""));
                }
                Action::PushToVendor(vendors) => self.enqueue(tx, vendors.first().copied(), now_ms),
                Action::Wait(Some(until_ms)) => {
                    let tokens = self.delivery.usable(self.device.as_ref());
                    let vendor = tokens.first().map(|token| token.vendor);
                    self.enqueue(tx, vendor, until_ms);
                }
                Action::End(reason) => self.end(tx, reason),
                Action::Wait(None) | Action::Done => break,
            }
            if matches!(self.delivery.facts.push, Push::Queued(_)) && !self.to_be_ended(now_ms) {
                break; // its turn comes with the worker
            }
        }
        self.write(tx)
    }

    fn to_be_ended(&self, now_ms: u64) -> bool {
        matches!(self.next(now_ms), Action::End(_) | Action::SendToBroker)
    }

    fn enqueue(&mut self, tx: &mut Tx<'_>, vendor: Option<VendorName>, due_ms: u64) {
        let Some(vendor) = vendor else { return };
        if self.delivery.facts.push != Push::None {
            return;
        }
        let now_ms = tx.now_ms();
        self.tell(now_ms, News::of(vendor, Event::PushQueued(vendor), ""));
        self.wait_until(tx, vendor, due_ms);
    }

    /// Puts it into a vendor's queue, or moves it there.
    pub fn wait_until(&mut self, tx: &mut Tx<'_>, vendor: VendorName, due_ms: u64) {
        self.leave_queue(tx, vendor);
        self.delivery.due_ms = Some(due_ms);
        if let Some(waiting) = self.delivery.waiting(self.message.id, &self.device_id) {
            queues::push_at(tx, &(self.message.app.clone(), vendor), &waiting);
        }
    }

    /// Takes it out of a vendor's queue.
    pub fn leave_queue(&mut self, tx: &mut Tx<'_>, vendor: VendorName) {
        if let Some(waiting) = self.delivery.waiting(self.message.id, &self.device_id) {
            queues::remove_push(tx, &(self.message.app.clone(), vendor), &waiting);
        }
        self.delivery.due_ms = None;
    }

    fn end(&mut self, tx: &mut Tx<'_>, reason: Reason) {
        if let Push::Queued(vendor) = self.delivery.facts.push {
            self.leave_queue(tx, vendor);
        }
        let words = match reason {
            Reason::DrainedOnline => "the device took it over the socket before its vendor was called",
            Reason::Recalled => "withdrawn by the sender",
            Reason::Expired => "its time is over",
            Reason::VendorsRefused => "no vendor takes it",
            Reason::Unreachable => "the device has neither a session nor a live device token",
        };
        self.tell(tx.now_ms(), News::new(Event::Ended(reason), words));
    }

    /// Notes what the user did. The further reaction stays.
    pub fn react(&mut self, tx: &mut Tx<'_>, reaction: Reaction, at_ms: u64) -> Result<(), StoreError> {
        if self.delivery.reaction.is_some_and(|known| known >= reaction) {
            return Ok(());
        }
        self.delivery.reaction = Some(reaction);
        self.delivery.settle();
        self.delivery.note(at_ms, None, String::new());
        let mut funnel = funnel(tx, &self.message.app, self.message.id)?;
        match reaction {
            Reaction::Shown => funnel.shown += 1,
            Reaction::Dismissed => funnel.dismissed += 1,
            Reaction::Clicked => funnel.clicked += 1,
        }
        save_funnel(tx, &self.message.app, self.message.id, &funnel)?;
        self.write(tx)
    }

    /// Writes delivery and funnel.
    pub fn write(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let (app, id, bucket) = (&self.message.app, self.message.id, self.delivery.bucket);
        if self.was != Some(bucket) {
            let mut funnel = funnel(tx, app, id)?;
            match self.was {
                Some(was) => funnel.shift(was, bucket),
                None => funnel.add(bucket),
            }
            save_funnel(tx, app, id, &funnel)?;
            self.was = Some(bucket);
        }
        tx.save(Space::Messages, keys::delivery(app, id, &self.device_id), &self.delivery)
    }
}

/// A plan rests after a few steps; the bound keeps a mistake from spinning.
const PLAN_STEPS_MAX: usize = 8;

/// The counts of a message.
pub(crate) fn funnel(tx: &Tx<'_>, app: &AppId, id: MessageId) -> Result<Funnel, StoreError> {
    Ok(tx.load(Space::Messages, &keys::funnel(app, id))?.unwrap_or_default())
}

/// Writes the counts of a message.
pub(crate) fn save_funnel(
    tx: &mut Tx<'_>,
    app: &AppId,
    id: MessageId,
    funnel: &Funnel,
) -> Result<(), StoreError> {
    tx.save(Space::Messages, keys::funnel(app, id), funnel)
}

/// One delivery.
pub(crate) fn load(
    tx: &Tx<'_>,
    app: &AppId,
    id: MessageId,
    device: &str,
) -> Result<Option<Delivery>, StoreError> {
    tx.load(Space::Messages, &keys::delivery(app, id, device))
}

/// The deliveries of a message by device, after one.
pub(crate) fn list(
    tx: &Tx<'_>,
    app: &AppId,
    id: MessageId,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, Delivery)>, StoreError> {
    let all = keys::deliveries(app, id);
    let after = after.map(|after| keys::member(&all, after));
    let found = tx.scan(Space::Messages, &all, after.as_deref(), Order::Forward, limit)?;
    let entry = |(key, value): &(Vec<u8>, Vec<u8>)| {
        Ok((keys::text_after(key, &all).unwrap_or_default(), decode(value)?))
    };
    found.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::strategy::Strategy as _;
    use reveille_proto::bridge::Strategy;

    fn events() -> impl proptest::strategy::Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Told),
            (0_u64..4).prop_map(|epoch| Event::Queued { epoch }),
            (0_u64..4).prop_map(|epoch| Event::Unacked { epoch }),
            Just(Event::Acked),
            Just(Event::Silent),
            Just(Event::PushQueued(VendorName::Apns)),
            Just(Event::Submitted),
            Just(Event::Accepted),
            Just(Event::Postponed),
            Just(Event::Refused),
            Just(Event::Lost),
            prop::sample::select(vec![
                Reason::DrainedOnline,
                Reason::Recalled,
                Reason::Expired,
                Reason::VendorsRefused,
                Reason::Unreachable,
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
                let mut delivery = Delivery::new(Strategy::OnlineFirst, 1);
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
            let mut delivery = Delivery::new(Strategy::OnlineFirst, 1);
            for event in pushed.iter().chain(&then).chain(&[Event::Acked]) {
                delivery.facts.apply(*event, 1);
                delivery.settle();
            }
            assert_eq!(delivery.state, wanted, "{then:?}");
        }
    }

    #[test]
    fn a_long_timeline_keeps_its_begin_and_its_end_and_counts_what_is_left_out() {
        let mut delivery = Delivery::new(Strategy::OnlineFirst, 0);
        for at_ms in 1..200 {
            delivery.note(at_ms, None, String::new());
        }
        assert_eq!(delivery.timeline.len(), TIMELINE_MAX);
        assert_eq!(delivery.left_out, 200 - TIMELINE_MAX as u64);
        assert_eq!((delivery.timeline[0].at_ms, delivery.timeline[TIMELINE_MAX - 1].at_ms), (0, 199));
    }
}
