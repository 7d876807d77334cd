//! What is counted of deliveries, and the tally of what one transaction counted. Pure.

use std::collections::HashMap;

use reveille_proto::delivery::ReasonFamily;
use reveille_proto::ids::AppId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::sketch::Sketch;
use crate::deliveries::{Bucket, Delivery, Reaction, State};
use crate::plan::{Broker, Push};

macro_rules! stages {
    ($($(#[$doc:meta])* $stage:ident $field:ident;)*) => {
        /// A point on the way of a delivery that is counted. Each delivery passes each at most once, save `Refused`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Stage {
            $($(#[$doc])* $stage,)*
        }

        /// How many deliveries passed which stage. A count of 0 is left out.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        #[serde(default)]
        pub(crate) struct Counts {
            $($(#[$doc])* #[serde(skip_serializing_if = "is_zero")] pub $field: u64,)*
        }

        impl Counts {
            /// The count of a stage.
            pub fn at(&mut self, stage: Stage) -> &mut u64 {
                match stage { $(Stage::$stage => &mut self.$field,)* }
            }

            /// Adds other counts.
            pub fn add_all(&mut self, other: &Self) {
                $(self.$field += other.$field;)*
            }
        }
    };
}

stages! {
    /// Begun.
    Targeted targeted;
    /// Left out before anything was tried.
    Filtered filtered;
    /// Not shown on purpose: drained online first, withdrawn, held back by a rule.
    Suppressed suppressed;
    /// No way led to the device.
    Failed failed;
    /// Its time was over.
    Expired expired;
    /// The device has it, by its own word.
    Acked acked;
    /// A vendor took it.
    VendorAccepted vendor_accepted;
    /// The vendor reports that the device has it.
    VendorDelivered vendor_delivered;
    /// A vendor refused it for good, or would have: once for each device token.
    Refused refused;
    /// The device showed it.
    Shown shown;
    /// The user opened it.
    Clicked clicked;
    /// The user put it away.
    Dismissed dismissed;
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Stage {
    /// Whether a delivery was lost there, or a push: what reasons are counted for.
    fn is_loss(self) -> bool {
        matches!(self, Self::Filtered | Self::Suppressed | Self::Failed | Self::Expired | Self::Refused)
    }
}

/// Counts and times of one span, for all or for one value of a dimension.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Row {
    pub counts: Counts,
    /// From when the message began for the device to the device's acknowledgement over MQTT.
    #[serde(skip_serializing_if = "Sketch::is_empty")]
    pub ack_ms: Sketch,
    /// From when the message began for the device to the vendor's acceptance.
    #[serde(skip_serializing_if = "Sketch::is_empty")]
    pub vendor_ms: Sketch,
}

impl Row {
    /// Adds another row.
    pub fn add_all(&mut self, other: &Self) {
        self.counts.add_all(&other.counts);
        self.ack_ms.add_all(&other.ack_ms);
        self.vendor_ms.add_all(&other.vendor_ms);
    }
}

/// What is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum By {
    /// The vendor that was called, or would be first; none for a device without a live device token.
    Vendor,
    /// The device's platform.
    Platform,
    /// The device's version of the app.
    AppVersion,
    /// The family of the reason, of what was lost.
    Reason,
    /// The message's campaign.
    Campaign,
}

impl By {
    pub const ALL: [Self; 5] = [Self::Vendor, Self::Platform, Self::AppVersion, Self::Reason, Self::Campaign];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vendor => "vendor",
            Self::Platform => "platform",
            Self::AppVersion => "app_version",
            Self::Reason => "reason",
            Self::Campaign => "campaign",
        }
    }

    /// Its letter in keys.
    pub fn letter(self) -> u8 {
        match self {
            Self::Vendor => b'v',
            Self::Platform => b'p',
            Self::AppVersion => b'a',
            Self::Reason => b'r',
            Self::Campaign => b'c',
        }
    }
}

/// Which value of a dimension.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Value {
    /// There is none.
    None,
    /// This one.
    Named(String),
    /// Those for which there was no row of their own left.
    Others,
}

/// Longest value that is kept, in bytes; the rest of a longer one is cut off.
const VALUE_MAX: usize = 64;

impl Value {
    fn of(text: &str) -> Self {
        match text.floor_char_boundary(VALUE_MAX) {
            0 => Self::None,
            end => Self::Named(text.get(..end).unwrap_or(text).to_owned()),
        }
    }
}

/// Whose delivery it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Whose<'a> {
    pub vendor: Option<&'static str>,
    pub platform: Option<&'a str>,
    pub app_version: Option<&'a str>,
    pub campaign: Option<&'a str>,
    /// Why it was lost, where it was.
    pub reason: Option<ReasonFamily>,
}

impl<'a> Whose<'a> {
    fn value(&self, by: By) -> Option<&'a str> {
        match by {
            By::Vendor => self.vendor,
            By::Platform => self.platform,
            By::AppVersion => self.app_version,
            By::Campaign => self.campaign,
            By::Reason => self.reason.map(ReasonFamily::name),
        }
    }
}

/// What of a delivery was counted already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    bucket: Option<Bucket>,
    is_acked: bool,
    is_accepted: bool,
    is_delivered: bool,
    refused: usize,
    reaction: Option<Reaction>,
}

impl Counted {
    /// All of a delivery that was written.
    pub fn of(delivery: &Delivery) -> Self {
        let push = delivery.facts.push;
        Self {
            bucket: Some(delivery.bucket),
            is_acked: delivery.facts.broker == Broker::Acked,
            is_accepted: matches!(push, Push::Accepted(_) | Push::Delivered(_) | Push::TakenBack(_)),
            is_delivered: matches!(push, Push::Delivered(_)),
            refused: delivery.refused.len(),
            reaction: delivery.reaction,
        }
    }

    /// A delivery that its device acknowledged.
    #[cfg(test)]
    pub fn acked() -> Self {
        Self { bucket: Some(Bucket::Acked), is_acked: true, ..Self::default() }
    }

    /// What a delivery passed since.
    fn passed(self, now: Self) -> impl Iterator<Item = Stage> {
        let bucket = now.bucket.filter(|bucket| self.bucket != Some(*bucket)).and_then(stage_of);
        let reaction = now.reaction.filter(|reaction| self.reaction != Some(*reaction));
        let once = [
            self.bucket.is_none().then_some(Stage::Targeted),
            (now.is_accepted && !self.is_accepted).then_some(Stage::VendorAccepted),
            (now.is_delivered && !self.is_delivered).then_some(Stage::VendorDelivered),
            bucket,
            reaction.map(|reaction| match reaction {
                Reaction::Shown => Stage::Shown,
                Reaction::Dismissed => Stage::Dismissed,
                Reaction::Clicked => Stage::Clicked,
            }),
        ];
        let refused = now.refused.saturating_sub(self.refused);
        once.into_iter().flatten().chain(std::iter::repeat_n(Stage::Refused, refused))
    }
}

fn stage_of(bucket: Bucket) -> Option<Stage> {
    match bucket {
        Bucket::Filtered => Some(Stage::Filtered),
        Bucket::Suppressed => Some(Stage::Suppressed),
        Bucket::Failed => Some(Stage::Failed),
        Bucket::Expired => Some(Stage::Expired),
        Bucket::Acked => Some(Stage::Acked),
        // Counted when the vendor takes it, whatever the device said before.
        Bucket::VendorAccepted | Bucket::InFlight => None,
    }
}

/// Why a delivery was lost, as far as it was.
pub(crate) fn reason_of(delivery: &Delivery) -> Option<ReasonFamily> {
    match delivery.state {
        State::Expired => Some(ReasonFamily::OfflineExpired),
        State::Filtered | State::Recalled | State::SuppressedCap | State::SuppressedQuiet => {
            Some(ReasonFamily::Policy)
        }
        // Nobody refused it: there was no live device token to try.
        State::Failed => delivery.family.or(Some(ReasonFamily::TokenInvalid)),
        State::SuppressedDrainedOnline => None,
        State::Targeted | State::Queued | State::OnlineSent | State::OnlineAcked => delivery.family,
        State::VendorSubmitted | State::VendorAccepted | State::VendorDelivered => delivery.family,
        State::Shown | State::Clicked | State::Dismissed => delivery.family,
    }
}

/// The rows of one app.
#[derive(Debug, Default)]
pub(crate) struct AppTally {
    pub all: Row,
    pub by: [HashMap<Value, Row>; By::ALL.len()],
}

/// What was counted and is not written yet.
#[derive(Debug, Default)]
pub(crate) struct Tally(HashMap<AppId, AppTally>);

impl Tally {
    /// Counts what a delivery passed since. The times are since its message was accepted.
    pub fn note(&mut self, app: &AppId, whose: &Whose<'_>, was: Counted, now: Counted, took_ms: u64) {
        if was == now {
            return;
        }
        for stage in was.passed(now) {
            self.each(app, whose, stage.is_loss(), |row| *row.counts.at(stage) += 1);
        }
        if now.is_acked && !was.is_acked {
            self.each(app, whose, false, |row| row.ack_ms.add(took_ms));
        }
        if now.is_accepted && !was.is_accepted {
            self.each(app, whose, false, |row| row.vendor_ms.add(took_ms));
        }
    }

    fn each(&mut self, app: &AppId, whose: &Whose<'_>, is_loss: bool, change: impl Fn(&mut Row)) {
        let tally = match self.0.get_mut(app) {
            Some(tally) => tally,
            None => self.0.entry(app.clone()).or_default(),
        };
        change(&mut tally.all);
        for (by, rows) in By::ALL.into_iter().zip(&mut tally.by) {
            if by != By::Reason || is_loss {
                change(rows.entry(Value::of(whose.value(by).unwrap_or_default())).or_default());
            }
        }
    }

    /// Adds another transaction's.
    pub fn add(&mut self, other: Self) {
        for (app, other) in other.0 {
            let own = self.0.entry(app).or_default();
            own.all.add_all(&other.all);
            for (own, other) in own.by.iter_mut().zip(other.by) {
                for (value, row) in other {
                    own.entry(value).or_default().add_all(&row);
                }
            }
        }
    }

    /// Every app with its rows.
    pub fn into_apps(self) -> impl Iterator<Item = (AppId, AppTally)> {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let long = "设".repeat(50);
        let Value::Named(kept) = Value::of(&long) else { panic!("no value") };
        assert!(kept.len() <= VALUE_MAX && long.starts_with(&kept), "{kept}");
        assert_eq!((Value::of(""), Value::of("ios")), (Value::None, Value::Named("ios".to_owned())));
    }

    #[test]
    fn reasons_are_counted_for_what_was_lost_only() {
        let app = AppId::default();
        let whose = Whose { reason: Some(ReasonFamily::Policy), ..Whose::default() };
        let mut tally = Tally::default();
        let begun = Counted { bucket: Some(Bucket::InFlight), ..Counted::default() };
        let acked = Counted { bucket: Some(Bucket::Acked), is_acked: true, ..begun };
        let withdrawn = Counted { bucket: Some(Bucket::Suppressed), ..begun };
        tally.note(&app, &whose, Counted::default(), begun, 0);
        tally.note(&app, &whose, begun, acked, 30);
        tally.note(&app, &whose, acked, acked, 40);
        tally.note(&app, &whose, begun, withdrawn, 0);
        let (_, rows) = tally.into_apps().next().unwrap();
        assert_eq!((rows.all.counts.targeted, rows.all.counts.acked, rows.all.counts.suppressed), (1, 1, 1));
        assert_eq!(rows.all.ack_ms.percentiles().unwrap().count, 1);
        let reasons = &rows.by[By::ALL.iter().position(|by| *by == By::Reason).unwrap()];
        let policy = &reasons[&Value::Named("policy".to_owned())];
        assert_eq!(policy.counts, Counts { suppressed: 1, ..Counts::default() });
        assert_eq!(reasons.len(), 1);
    }
}
