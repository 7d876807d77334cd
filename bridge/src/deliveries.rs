//! One message on its way to one device: its state, its timeline in words, and its place in the message's funnel.
//!
//! A delivery stands in one bucket, the one of its state: what the device acknowledged or showed counts as `acked`,
//! even when a vendor had accepted it before; what only a vendor accepted counts as `vendor_accepted`. So `targeted = filtered + suppressed + failed + expired + acked + vendor_accepted + in_flight` at any moment.

mod case;
mod recall;

use std::collections::BTreeMap;

use reveille_proto::bridge::Strategy;
pub use reveille_proto::delivery::DeliveryState as State;
use reveille_proto::delivery::ReasonFamily;
use reveille_proto::ids::{AppId, MessageId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::apps::sha256;
use crate::devices::Device;
use crate::lane::CredentialName;
use crate::messages::{self, Message, state_text, strategy_text};
use crate::plan::{Broker, Facts, Gate, Push, Reason};
use crate::queues::Waiting;
use crate::store::{Order, Space, StoreError, Tx, decode, keys};
use crate::tokens::Token;
use crate::vendor::VendorName;

pub(crate) use case::{Case, News};
pub(crate) use recall::Recalled;
pub use recall::{Outcome, Recall};

/// Entries of one timeline at most; beyond it the middle is left out and counted.
const TIMELINE_MAX: usize = 48;

/// The parts of the funnel; every delivery is in exactly one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bucket {
    /// Left out before anything was tried.
    Filtered,
    /// Not shown on purpose: drained online first, held back by a policy, or withdrawn.
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
    /// In which of the message's languages; `None` is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
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
    /// Of these, with an older content that the vendor took.
    #[serde(default, skip_serializing_if = "messages::is_first")]
    pub attempts_before: u32,
    /// When first with this content, in milliseconds since 1970.
    #[serde(default)]
    pub first_attempt_at_ms: u64,
    /// Whether some call's outcome stayed unknown.
    #[serde(default)]
    pub is_unknown: bool,
    /// When its turn at the vendor comes, while it waits for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_ms: Option<u64>,
    /// Until when it waits for the device itself instead of the vendor, to save the vendor's quota.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved_until_ms: Option<u64>,
    /// The epoch since which the device was offline when its push was counted among the others of its policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_at: Option<u64>,
    /// What is pushed instead: a digest of so many messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest_of: Option<u64>,
    /// With which credential it waits or was called.
    #[serde(default, skip_serializing_if = "CredentialName::is_default")]
    pub credential: CredentialName,
    /// Whether its next call has no other push in it: a batch was refused for the sake of some push in it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_alone: bool,
    /// Device tokens that refused it, by vendor and fingerprint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<(VendorName, u64)>,
    /// Why the last device token refused it.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "family_text")]
    pub(crate) family: Option<ReasonFamily>,
    /// The vendor's own name for the push, where its receipts say nothing else, or where it is taken back by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor_id: Option<String>,
    /// What comes of taking it back from the vendor that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall: Option<Recall>,
    /// Whose inbox it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbox_user: Option<String>,
    /// Which content a vendor was called with last.
    #[serde(default, skip_serializing_if = "messages::is_first")]
    pub revision: u32,
    /// What happened, in words.
    pub timeline: Vec<Entry>,
    /// Entries left out of the timeline.
    #[serde(default)]
    pub left_out: u64,
}

/// How many deliveries stand where, and what became of them at vendors and users.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
    /// Deliveries in flight that wait for their vendor, or are being handed to it.
    pub vendor_queued: u64,
    /// Calls that a vendor accepted or finally refused.
    pub by_vendor: BTreeMap<VendorName, VendorCounts>,
    /// How fast it went of late.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub pace: Option<Pace>,
}

/// How fast a message goes to its devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// When it was last looked at, in milliseconds since 1970.
    pub at_ms: u64,
    /// Deliveries out of flight then.
    pub done: u64,
    /// How many a second left flight before.
    pub per_s: u64,
}

/// A pace is measured over this time at least, in milliseconds.
const PACE_MS: u64 = 1_000;

/// What one vendor did for a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct VendorCounts {
    /// Deliveries that it took.
    pub accepted: u64,
    /// Deliveries that it refused for good.
    pub refused: u64,
    /// Calls repeated because the outcome of the one before is unknown.
    pub repeated_unknown: u64,
    /// Deliveries that it took back.
    pub recalled: u64,
}

impl VendorCounts {
    /// Counts what a call did.
    pub(crate) fn add(&mut self, more: &Self) {
        self.accepted += more.accepted;
        self.refused += more.refused;
        self.repeated_unknown += more.repeated_unknown;
        self.recalled += more.recalled;
    }
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

    /// Counts a delivery that begins in this part.
    pub(crate) fn add(&mut self, bucket: Bucket) {
        self.targeted += 1;
        *self.bucket(bucket) += 1;
        self.check();
    }

    fn shift(&mut self, from: Bucket, to: Bucket) {
        *self.bucket(from) -= 1;
        *self.bucket(to) += 1;
        self.check();
    }

    /// Deliveries out of flight.
    pub fn done(&self) -> u64 {
        self.targeted - self.in_flight
    }

    /// How many a second leave flight now.
    pub fn per_s(&self, now_ms: u64) -> u64 {
        let Some(pace) = self.pace else { return 0 };
        match now_ms.saturating_sub(pace.at_ms) {
            0..=PACE_MS => pace.per_s,
            elapsed_ms => self.done().saturating_sub(pace.done) * 1000 / elapsed_ms,
        }
    }

    fn note_pace(&mut self, now_ms: u64) {
        let is_due = self.pace.is_none_or(|pace| now_ms.saturating_sub(pace.at_ms) > PACE_MS);
        if is_due {
            self.pace = Some(Pace { at_ms: now_ms, done: self.done(), per_s: self.per_s(now_ms) });
        }
    }

    fn note_queued(&mut self, was: bool, is: bool) {
        match (was, is) {
            (false, true) => self.vendor_queued += 1,
            // Those of an older release were not counted when they came.
            (true, false) => self.vendor_queued = self.vendor_queued.saturating_sub(1),
            (true, true) | (false, false) => {}
        }
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

    /// Adds the counts of another message.
    pub(crate) fn add_all(&mut self, other: &Self) {
        self.targeted += other.targeted;
        self.filtered += other.filtered;
        self.suppressed += other.suppressed;
        self.failed += other.failed;
        self.expired += other.expired;
        self.acked += other.acked;
        self.vendor_accepted += other.vendor_accepted;
        self.in_flight += other.in_flight;
        self.shown += other.shown;
        self.clicked += other.clicked;
        self.dismissed += other.dismissed;
        for (vendor, counts) in &other.by_vendor {
            let own = self.at(*vendor);
            own.add(counts);
        }
        self.check();
    }

    /// The counts of a vendor.
    pub(crate) fn at(&mut self, vendor: VendorName) -> &mut VendorCounts {
        self.by_vendor.entry(vendor).or_default()
    }
}

impl Delivery {
    fn new(strategy: Strategy, language: Option<String>, now_ms: u64) -> Self {
        let mut delivery = Self {
            facts: Facts::default(),
            strategy,
            language,
            state: State::Targeted,
            bucket: Bucket::InFlight,
            reaction: None,
            attempts: 0,
            attempts_before: 0,
            first_attempt_at_ms: 0,
            is_unknown: false,
            due_ms: None,
            saved_until_ms: None,
            counted_at: None,
            digest_of: None,
            credential: CredentialName::default(),
            is_alone: false,
            refused: Vec::new(),
            family: None,
            vendor_id: None,
            recall: None,
            inbox_user: None,
            revision: 0,
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
    pub fn usable<'d>(&self, device: Option<&'d Device>, now_ms: u64) -> Vec<&'d Token> {
        let tokens = device.into_iter().flat_map(|device| &device.tokens);
        tokens
            .filter(|token| token.is_active(now_ms) && !self.refused.contains(&fingerprint(token)))
            .collect()
    }

    /// Whether its policy keeps it from going, or its push from being made.
    pub fn is_held(&self) -> bool {
        let is_saved = self.due_ms.is_some() && self.due_ms == self.saved_until_ms;
        self.facts.gate != Gate::Open || self.facts.push == Push::Withheld || is_saved
    }

    /// Whether it waits for its vendor, not for the device.
    fn is_queued(&self) -> bool {
        self.due_ms.is_some() && self.due_ms != self.saved_until_ms && self.recall.is_none()
    }

    /// Whether its vendor is to be asked to take it back.
    pub fn is_to_be_taken_back(&self) -> bool {
        self.recall.as_ref().is_some_and(|recall| recall.outcome == Outcome::Waiting)
    }

    /// Where it waits in a vendor's queue.
    pub(crate) fn waiting(&self, message: &Message, device: &str) -> Option<Waiting> {
        self.due_ms.map(|due_ms| Waiting {
            due_ms,
            message: message.id,
            device: device.to_owned(),
            size: message.size(),
            language: self.language.clone(),
            is_alone: self.is_alone || message.is_personal(),
            mark: None,
        })
    }

    /// How often a vendor was called with the content that it is to have.
    pub(crate) fn attempts_of_content(&self) -> u32 {
        self.attempts.saturating_sub(self.attempts_before)
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

/// Writes a family under its name.
mod family_text {
    use reveille_proto::delivery::ReasonFamily;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(family: &Option<ReasonFamily>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(family.map_or("", ReasonFamily::name))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ReasonFamily>, D::Error> {
        Ok(ReasonFamily::from_name(&String::deserialize(from)?))
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
        Facts { push: Push::TakenBack(_), .. } => State::Recalled,
        Facts { push: Push::Delivered(_), .. } => State::VendorDelivered,
        Facts { push: Push::Accepted(_), .. } => State::VendorAccepted,
        Facts { ended: Some(Reason::Recalled), .. } => State::Recalled,
        Facts { ended: Some(Reason::Expired), .. } => State::Expired,
        Facts { ended: Some(Reason::Capped), .. } => State::SuppressedCap,
        Facts { ended: Some(Reason::Quiet), .. } => State::SuppressedQuiet,
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
    page(tx, app, id, after, Order::Forward, limit)
}

/// Deliveries of a message from a device on, in either direction.
pub(crate) fn page(
    tx: &Tx<'_>,
    app: &AppId,
    id: MessageId,
    from: Option<&str>,
    order: Order,
    limit: usize,
) -> Result<Vec<(String, Delivery)>, StoreError> {
    let all = keys::deliveries(app, id);
    let from = from.map(|from| keys::member(&all, from));
    let found = tx.scan(Space::Messages, &all, from.as_deref(), order, limit)?;
    let entry = |(key, value): &(Vec<u8>, Vec<u8>)| {
        Ok((keys::text_after(key, &all).unwrap_or_default(), decode(value)?))
    };
    found.iter().map(entry).collect()
}

#[cfg(test)]
pub(crate) mod tests;
