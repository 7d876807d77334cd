//! What to do next for one message and one device. Pure.
//!
//! Facts come in any order and any number of times; the same facts always lead to the same end. At most one alert
//! reaches the device's vendors, and none is left unsent while a live device token exists and the strategy wants it.
//!
//! ```text
//!  gate:    Held -> Open | ended                               (only where a policy rules)
//!  broker:  Untold -> Told -> Missed | Silent -> Acked          (Acked is final)
//!  push:    None -> Queued -> Submitted -> Accepted -> Delivered (Delivered is final)
//!                     ^          |  `----> None  (token refused, another may be tried)
//!                     `----------'  `----> Lost  (no way left)
//!                                   Accepted | Delivered -> TakenBack  (the message was withdrawn; final)
//! ```

use reveille_proto::bridge::Strategy;
use serde::{Deserialize, Serialize};

use crate::vendor::VendorName;

/// Whether the message's policy lets it go. Nothing is tried before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// It goes.
    #[default]
    Open,
    /// The policy is asked at this moment, in milliseconds since 1970.
    Held {
        /// 0: at once.
        until_ms: u64,
        /// Whether it has its turn by the policy's rate then.
        has_turn: bool,
    },
}

impl Gate {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
    fn is_open(&self) -> bool {
        *self == Self::Open
    }
}

/// What the broker was told and what it said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Broker {
    /// Nothing yet.
    #[default]
    Untold,
    /// It has the message, or will have it: the outbox is durable.
    Told,
    /// The device did not take it: offline (`queued`), or no acknowledgement in time (`unacked`).
    Missed {
        /// The network connection that this is about; 0 when the device has no session.
        epoch: u64,
    },
    /// No word came in time, as when the broker is down.
    Silent,
    /// The device has it.
    Acked,
}

/// What the vendors were asked and what they said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Push {
    /// Nothing yet.
    #[default]
    None,
    /// Waits for its turn.
    Queued(VendorName),
    /// Under way; after a crash the outcome is unknown and it is repeated under the same id.
    Submitted(VendorName),
    /// The vendor has it.
    Accepted(VendorName),
    /// The vendor says that the device has it.
    Delivered(VendorName),
    /// The vendor had it and took it back.
    TakenBack(VendorName),
    /// Every way was tried, or the outcome of one stayed unknown.
    Lost,
    /// Left to the push that woke the device before, as long as it stays offline.
    Withheld,
}

/// Why a delivery ends without its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It took the message over the socket before the vendor was called.
    DrainedOnline,
    /// The message was withdrawn.
    Recalled,
    /// Its time is over.
    Expired,
    /// The vendors did not take it.
    VendorsRefused,
    /// Neither a session nor a live device token.
    Unreachable,
    /// The recipient had as many messages as the policy allows.
    Capped,
    /// The recipient had quiet hours.
    Quiet,
}

/// Everything known about one message on its way to one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The policy's side.
    #[serde(default, skip_serializing_if = "Gate::is_open")]
    pub gate: Gate,
    /// The broker's side.
    pub broker: Broker,
    /// Whether it went over the device's socket: the device may have it although it did not say so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub was_sent: bool,
    /// The vendors' side.
    pub push: Push,
    /// When a push first became due, in milliseconds since 1970.
    #[serde(default)]
    pub due_since_ms: Option<u64>,
    /// Set once: nothing more is done.
    #[serde(default)]
    pub ended: Option<Reason>,
}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The policy lets it go.
    Admitted,
    /// The policy is asked again at this moment.
    Held {
        /// In milliseconds since 1970.
        until_ms: u64,
        /// Whether it has its turn by the policy's rate then.
        has_turn: bool,
    },
    /// The message was handed to the broker.
    Told,
    /// The broker queued it for an offline device, or has no session for it (epoch 0).
    Queued {
        /// Of the device's last network connection.
        epoch: u64,
    },
    /// The device did not acknowledge in time.
    Unacked {
        /// Of the network connection it was sent over.
        epoch: u64,
    },
    /// The device acknowledged.
    Acked,
    /// The broker said nothing in time.
    Silent,
    /// A push waits for its turn at this vendor.
    PushQueued(VendorName),
    /// The vendor is being called.
    Submitted,
    /// The vendor took it.
    Accepted,
    /// The vendor tells later that the device has it.
    Delivered,
    /// The vendor took it and tells later that the device will not show it.
    Undelivered,
    /// The vendor took it back, as the sender wishes.
    TakenBack,
    /// The message got another content since, which goes to the same vendor.
    Replaced,
    /// It is tried again later.
    Postponed,
    /// This device token is of no use for it; another may be.
    Refused,
    /// No vendor will take it.
    Lost,
    /// The device was woken already, by the push of another message.
    Withheld,
    /// The end that [`Action::End`] asked for.
    Ended(Reason),
}

/// What to know besides the facts.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// How the message may reach this device.
    pub strategy: Strategy,
    /// How long a device that came back may take to drain before its vendor is called, in milliseconds.
    pub wait_ack_ms: u64,
    /// When the message is worthless, in milliseconds since 1970.
    pub expires_at_ms: Option<u64>,
    /// Whether it was withdrawn.
    pub is_recalled: bool,
    /// The epoch of the device's network connection, when it is up.
    pub online_epoch: Option<u64>,
    /// The vendors with a live device token that did not refuse this message, best first.
    pub vendors: &'a [VendorName],
    /// Now, in milliseconds since 1970.
    pub now_ms: u64,
}

/// The next thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the policy whether it may go.
    AskPolicy,
    /// Put it into the device's queue at the broker.
    SendToBroker,
    /// Call a vendor, the first that can.
    PushToVendor(Vec<VendorName>),
    /// Look again at this moment; `None`: only an event changes anything.
    Wait(Option<u64>),
    /// Nothing more is to be done, and the device does not have it.
    End(Reason),
    /// Nothing more is to be done: the device or its vendor has it.
    Done,
}

impl Facts {
    /// Takes an event. Repeated and older ones change nothing.
    pub fn apply(&mut self, event: Event, now_ms: u64) {
        if matches!(event, Event::Told | Event::Queued { .. } | Event::Unacked { .. } | Event::Acked) {
            self.gate = Gate::Open; // it is out, whatever was decided
        }
        match event {
            Event::Admitted => self.gate = Gate::Open,
            Event::Held { until_ms, has_turn } => {
                if !self.gate.is_open() {
                    self.gate = Gate::Held { until_ms, has_turn };
                }
            }
            Event::Acked => self.broker = Broker::Acked,
            Event::Told if self.broker == Broker::Untold => self.broker = Broker::Told,
            Event::Queued { epoch } => self.miss(epoch, now_ms),
            Event::Unacked { epoch } => {
                self.was_sent = true;
                self.miss(epoch, now_ms);
            }
            Event::Silent if matches!(self.broker, Broker::Untold | Broker::Told) => {
                self.broker = Broker::Silent;
                self.due_since_ms.get_or_insert(now_ms);
            }
            Event::Ended(reason) if self.ended.is_none() => self.ended = Some(reason),
            Event::Told | Event::Silent | Event::Ended(_) => {}
            Event::PushQueued(_)
            | Event::Submitted
            | Event::Accepted
            | Event::Delivered
            | Event::Undelivered
            | Event::Replaced
            | Event::TakenBack
            | Event::Postponed
            | Event::Refused
            | Event::Withheld
            | Event::Lost => self.push = self.push.after(event),
        }
    }

    fn miss(&mut self, epoch: u64, now_ms: u64) {
        self.broker = match self.broker {
            Broker::Acked => return,
            Broker::Missed { epoch: known } if known >= epoch => return,
            Broker::Untold | Broker::Told | Broker::Silent | Broker::Missed { .. } => {
                Broker::Missed { epoch }
            }
        };
        self.due_since_ms.get_or_insert(now_ms);
        if self.push == Push::Withheld {
            self.push = Push::None; // it was online since: another push must wake it
        }
    }
}

impl Push {
    /// Where it waits, or was handed to.
    pub fn vendor(self) -> Option<VendorName> {
        match self {
            Self::Queued(vendor)
            | Self::Submitted(vendor)
            | Self::Accepted(vendor)
            | Self::Delivered(vendor)
            | Self::TakenBack(vendor) => Some(vendor),
            Self::None | Self::Lost | Self::Withheld => None,
        }
    }

    fn after(self, event: Event) -> Self {
        match (self, event) {
            (Self::None, Event::PushQueued(vendor)) => Self::Queued(vendor),
            (Self::Queued(vendor), Event::Submitted) => Self::Submitted(vendor),
            (Self::Submitted(vendor), Event::Accepted) => Self::Accepted(vendor),
            // A receipt may overtake the answer, and a call whose answer was lost may have arrived.
            (Self::Accepted(vendor) | Self::Submitted(vendor) | Self::Queued(vendor), Event::Delivered) => {
                Self::Delivered(vendor)
            }
            (Self::Accepted(_), Event::Undelivered) => Self::Lost,
            (Self::Accepted(vendor), Event::Replaced) => Self::Queued(vendor),
            // One that waits again after a call without an answer may be there too.
            (Self::Accepted(vendor) | Self::Delivered(vendor) | Self::Queued(vendor), Event::TakenBack) => {
                Self::TakenBack(vendor)
            }
            (Self::Submitted(vendor), Event::Postponed) => Self::Queued(vendor),
            (Self::Submitted(_) | Self::Queued(_), Event::Refused) => Self::None,
            (Self::Submitted(_) | Self::Queued(_) | Self::None, Event::Lost) => Self::Lost,
            (Self::None, Event::Withheld) => Self::Withheld,
            (other, _) => other,
        }
    }
}

/// What to do next. Ask again after each action was done and its event applied.
pub fn next(facts: &Facts, view: &View<'_>) -> Action {
    if facts.broker == Broker::Acked {
        return match facts.push {
            Push::Queued(_) if facts.ended.is_none() => Action::End(Reason::DrainedOnline),
            Push::None
            | Push::Queued(_)
            | Push::Submitted(_)
            | Push::Accepted(_)
            | Push::Delivered(_)
            | Push::TakenBack(_)
            | Push::Withheld
            | Push::Lost => Action::Done,
        };
    }
    if facts.ended.is_some() {
        return Action::Done;
    }
    match facts.push {
        Push::Submitted(_) => return Action::Wait(None), // the outcome comes, whatever happens meanwhile
        Push::Accepted(_) | Push::Delivered(_) if wants_broker(facts, view) => return Action::SendToBroker,
        Push::Accepted(_) | Push::Delivered(_) | Push::TakenBack(_) => return Action::Done,
        Push::None | Push::Queued(_) | Push::Withheld | Push::Lost => {}
    }
    if view.is_recalled {
        return Action::End(Reason::Recalled);
    }
    if view.expires_at_ms.is_some_and(|end| end <= view.now_ms) {
        return Action::End(Reason::Expired);
    }
    if let Gate::Held { until_ms, .. } = facts.gate {
        // Somebody looks at that moment.
        return if until_ms <= view.now_ms { Action::AskPolicy } else { Action::Wait(None) };
    }
    if wants_broker(facts, view) {
        return Action::SendToBroker;
    }
    if facts.push == Push::Lost {
        return after_loss(facts, view);
    }
    if facts.push == Push::Withheld {
        return no_push(facts);
    }
    if wants_push(facts, view.strategy) {
        return push_now_or_later(facts, view);
    }
    no_push(facts)
}

/// `vendor_first` tells the broker once the vendor has spoken, or when there is none to ask.
fn wants_broker(facts: &Facts, view: &View<'_>) -> bool {
    let is_untold = facts.broker == Broker::Untold;
    match view.strategy {
        Strategy::OnlineFirst | Strategy::OnlineOnly | Strategy::BothDedup => is_untold,
        Strategy::VendorOnly => false,
        Strategy::VendorFirst => {
            let vendor_spoke = matches!(facts.push, Push::Accepted(_) | Push::Delivered(_) | Push::Lost);
            is_untold && (vendor_spoke || view.vendors.is_empty())
        }
    }
}

fn wants_push(facts: &Facts, strategy: Strategy) -> bool {
    match strategy {
        Strategy::VendorOnly | Strategy::VendorFirst | Strategy::BothDedup => true,
        Strategy::OnlineOnly => false,
        Strategy::OnlineFirst => matches!(facts.broker, Broker::Missed { .. } | Broker::Silent),
    }
}

fn push_now_or_later(facts: &Facts, view: &View<'_>) -> Action {
    if view.vendors.is_empty() {
        return match (view.strategy, facts.push) {
            // Its token vanished while it waited: what the device's own queue holds may still reach it.
            (Strategy::VendorOnly, _) => Action::End(Reason::Unreachable),
            (_, _) => no_push(facts),
        };
    }
    match draining_until(facts, view) {
        Some(until) if until > view.now_ms => Action::Wait(Some(until)),
        Some(_) | None => Action::PushToVendor(view.vendors.to_vec()),
    }
}

/// A device that came back since it missed the message is draining its queue right now: it gets `wait_ack_ms` for
/// it, once, so that a device that flaps is not left without its alert.
fn draining_until(facts: &Facts, view: &View<'_>) -> Option<u64> {
    let Broker::Missed { epoch } = facts.broker else { return None };
    let came_back = epoch > 0 && view.online_epoch.is_some_and(|online| online > epoch);
    let due_since_ms = facts.due_since_ms?;
    (came_back && view.strategy == Strategy::OnlineFirst)
        .then(|| due_since_ms.saturating_add(view.wait_ack_ms))
}

fn no_push(facts: &Facts) -> Action {
    match facts.broker {
        Broker::Missed { epoch: 0 } => Action::End(Reason::Unreachable),
        Broker::Untold | Broker::Told | Broker::Missed { .. } | Broker::Silent | Broker::Acked => {
            Action::Wait(None)
        }
    }
}

/// What a session at the broker holds may still reach the device, until it is worthless.
fn after_loss(facts: &Facts, view: &View<'_>) -> Action {
    match facts.broker {
        _ if view.strategy == Strategy::VendorOnly => Action::End(Reason::VendorsRefused),
        Broker::Missed { epoch: 0 } => Action::End(Reason::VendorsRefused),
        Broker::Untold | Broker::Told | Broker::Missed { .. } | Broker::Silent | Broker::Acked => {
            Action::Wait(None)
        }
    }
}

#[cfg(test)]
mod tests;
