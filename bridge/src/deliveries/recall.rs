//! Taking back what a vendor has: whom to ask, and what came of it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{Case, Reaction};
use crate::messages::Message;
use crate::plan::{Event, Push};
use crate::retry::{GiveUp, Next};
use crate::store::{StoreError, Tx};
use crate::vendor::{TakeBack, VendorName, harmony};

use super::News;

/// What comes of taking a delivery back from the vendor that has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recall {
    /// How far it is.
    pub outcome: Outcome,
    /// How often the vendor was asked.
    #[serde(default)]
    pub calls: u32,
    /// When first, in milliseconds since 1970.
    #[serde(default)]
    pub first_at_ms: u64,
}

/// How far a vendor is with taking a push back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RecallOutcome)]
pub enum Outcome {
    /// It is asked when its turn comes, or again.
    Waiting,
    /// The vendor took it back.
    TakenBack,
    /// The vendor has no call for it, but took a silent push that takes the place of the alert where that still waits, and
    /// tells the app.
    Silenced,
    /// The user opened it or put it away, or the vendor handed it over and has it no more.
    TooLate,
    /// The vendor takes nothing back, or not this one; nobody was asked.
    NotOffered,
    /// The vendor was asked and refuses.
    Failed,
}

/// What a vendor's answer to a recall leads to.
#[derive(Debug)]
pub(crate) struct Recalled {
    /// What is to be done next.
    pub next: Next,
    /// The answer in words.
    pub words: String,
}

impl Case<'_> {
    /// Asks the vendor that has it, or may have it, to take it back, once, where the sender wants that and the vendor offers it.
    pub(super) fn take_back(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let vendor = match self.delivery.facts.push {
            Push::Accepted(vendor) | Push::Delivered(vendor) => vendor,
            // Some call of it had no answer, so the vendor may have it.
            Push::Queued(vendor) if self.delivery.is_unknown && self.delivery.facts.ended.is_some() => vendor,
            Push::None | Push::Queued(_) | Push::Submitted(_) => return Ok(()),
            Push::TakenBack(_) | Push::Lost | Push::Withheld => return Ok(()),
        };
        if !self.message.is_taken_back() || self.delivery.recall.is_some() {
            return Ok(());
        }
        let now_ms = tx.now_ms();
        let (outcome, words) = self.chance(vendor);
        self.delivery.recall = Some(Recall { outcome, calls: 0, first_at_ms: now_ms });
        self.delivery.note(now_ms, Some(vendor), words.to_owned());
        if outcome == Outcome::Waiting {
            self.wait_until(tx, vendor, now_ms)?;
        }
        Ok(())
    }

    /// Whether there is any use in asking.
    fn chance(&self, vendor: VendorName) -> (Outcome, &'static str) {
        match vendor.take_back() {
            _ if matches!(self.delivery.reaction, Some(Reaction::Clicked | Reaction::Dismissed)) => {
                (Outcome::TooLate, "too late to take it back: the user has seen it")
            }
            _ if self.token(vendor).is_none() => (
                Outcome::TooLate,
                "too late to take it back: the device has no live device token there any more",
            ),
            TakeBack::ByName if self.delivery.vendor_id.is_none() => {
                (Outcome::NotOffered, "cannot be taken back: the vendor gave it no name")
            }
            _ if self.delivery.digest_of.is_some() => {
                (Outcome::NotOffered, "not taken back: its push speaks of other messages too")
            }
            TakeBack::ByPlace | TakeBack::Silently if self.shares_its_place(vendor) => {
                (Outcome::NotOffered, "not taken back: another message may stand in its place by now")
            }
            TakeBack::ByName | TakeBack::ByPlace | TakeBack::Silently => {
                (Outcome::Waiting, "the vendor is asked to take it back")
            }
            TakeBack::Never => (Outcome::NotOffered, "cannot be taken back: the vendor has no call for it"),
        }
    }

    /// Whether a newer message may stand in the alert's place on the screen: it is its collapse key's, or one that the sender chose.
    fn shares_its_place(&self, vendor: VendorName) -> bool {
        let Message { collapse_key, is_replaced, overrides, .. } = self.message;
        let chosen = |overrides: &Value| overrides.pointer(harmony::PLACE).is_some();
        let is_chosen = vendor == VendorName::Harmony && overrides.get(&vendor).is_some_and(chosen);
        collapse_key.is_some() || *is_replaced || is_chosen
    }

    /// The vendor is being asked.
    pub fn ask_back(&mut self) {
        if let Some(recall) = &mut self.delivery.recall {
            recall.calls += 1;
        }
    }

    /// Writes down what the vendor answered, or why it is not asked.
    pub fn end_recall(
        &mut self,
        tx: &mut Tx<'_>,
        vendor: VendorName,
        recalled: &Recalled,
    ) -> Result<Option<Outcome>, StoreError> {
        let now_ms = tx.now_ms();
        self.leave_queue(tx, vendor);
        let Some(recall) = &mut self.delivery.recall else { return Ok(None) };
        recall.outcome = match recalled.next {
            Next::At(_) => Outcome::Waiting,
            Next::Done if vendor.take_back() == TakeBack::Silently => Outcome::Silenced,
            Next::Done => Outcome::TakenBack,
            Next::GiveUp(GiveUp::Filtered) => Outcome::TooLate,
            Next::GiveUp(_) => Outcome::Failed,
        };
        let outcome = recall.outcome;
        match (outcome, recalled.next) {
            (Outcome::TakenBack, _) => {
                self.tell(now_ms, News::of(vendor, Event::TakenBack, recalled.words.clone()));
            }
            (_, Next::At(at_ms)) => {
                self.delivery.note(now_ms, Some(vendor), format!("{}; tried again", recalled.words));
                self.wait_until(tx, vendor, at_ms)?;
            }
            (_, Next::Done | Next::GiveUp(_)) => {
                self.delivery.note(now_ms, Some(vendor), recalled.words.clone());
            }
        }
        self.settle(tx)?;
        Ok(Some(outcome))
    }
}

#[cfg(test)]
mod tests;
