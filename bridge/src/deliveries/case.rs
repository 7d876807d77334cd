//! One delivery in the hands of a transaction.

use reveille_proto::bridge::Strategy;
use serde_json::json;

use super::{Bucket, Delivery, Entry, Reaction, State, funnel, save_funnel};
use crate::credentials;
use crate::devices::{self, Device};
use crate::inbox;
use crate::jobs::{self, AHEAD_RESUME};
use crate::lane::{CredentialName, Lane};
use crate::messages::{self, Message};
use crate::plan::{self, Action, Broker, Event, Gate, Push, Reason, View};
use crate::policies::admission::Answer;
use crate::policies::book;
use crate::policies::coalescing::Share;
use crate::queues::{self, Waiting};
use crate::rules::Rules;
use crate::statistics::{Counted, Whose, reason_of};
use crate::store::{Space, StoreError, Tx, keys};
use crate::tokens::Token;
use crate::vendor::VendorName;
use crate::webhooks;

/// A plan rests after a few steps; the bound keeps a mistake from spinning.
const PLAN_STEPS_MAX: usize = 8;

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
    now_ms: u64,
    online_epoch: Option<u64>,
    was: Option<Bucket>,
    was_state: Option<State>,
    was_queued: bool,
    counted: Counted,
    /// Whether it must be put into the outbox; the caller gathers.
    pub to_broker: bool,
    /// When its policy must be asked again, in milliseconds since 1970; the caller gathers.
    pub held_until_ms: Option<u64>,
}

impl<'m> Case<'m> {
    /// Loads a delivery, or begins one.
    pub fn load(tx: &Tx<'_>, message: &'m Message, device_id: &str) -> Result<Self, StoreError> {
        let app = &message.app;
        let device = devices::load(tx, app, device_id)?;
        let presence = devices::presence(tx, app, device_id)?;
        let kept: Option<Delivery> = tx.load(Space::Messages, &keys::delivery(app, message.id, device_id))?;
        let was = kept.as_ref().map(|delivery| delivery.bucket);
        let was_state = kept.as_ref().map(|delivery| delivery.state);
        let was_queued = kept.as_ref().is_some_and(Delivery::is_queued);
        let counted = kept.as_ref().map(Counted::of).unwrap_or_default();
        let delivery = kept.unwrap_or_else(|| {
            let first =
                device.iter().flat_map(|device| &device.tokens).find(|token| token.is_active(tx.now_ms()));
            let strategy = message.strategy_at(first.map(|token| token.vendor));
            let mut new = Delivery::new(strategy, message.language_for(device.as_ref()), tx.now_ms());
            if message.ruled_by().is_some() {
                new.facts.gate = Gate::Held { until_ms: 0, has_turn: false };
            }
            new
        });
        let online_epoch = presence.filter(|presence| presence.online).map(|presence| presence.epoch);
        Ok(Self {
            message,
            device_id: device_id.to_owned(),
            device,
            now_ms: tx.now_ms(),
            delivery,
            online_epoch,
            was,
            was_state,
            was_queued,
            counted,
            to_broker: false,
            held_until_ms: None,
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

    /// Writes a line into the timeline that changes nothing, unless it stands there already.
    pub fn note_once(&mut self, now_ms: u64, vendor: VendorName, words: String) {
        let is_same = |entry: &Entry| entry.vendor == Some(vendor) && entry.reason == words;
        if !self.delivery.timeline.iter().any(is_same) {
            self.delivery.note(now_ms, Some(vendor), words);
        }
    }

    /// Puts the message into the inbox of the device's user, where the sender wants that.
    pub fn keep_in_inbox(
        &mut self,
        tx: &mut Tx<'_>,
        rules: &Rules,
        place: inbox::Place,
    ) -> Result<(), StoreError> {
        let entries_max = rules.inbox_entries_max;
        let device = self.device.as_ref();
        self.delivery.inbox_user = inbox::deliver(tx, entries_max, self.message, place, device)?;
        Ok(())
    }

    /// What the plan says now.
    pub fn next(&self, now_ms: u64) -> Action {
        let vendors: Vec<_> = self.usable().iter().map(|token| token.vendor).collect();
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
        self.renew(tx)?;
        for _ in 0..PLAN_STEPS_MAX {
            match self.next(now_ms) {
                Action::AskPolicy => self.ask_policy(tx)?,
                Action::SendToBroker => {
                    self.to_broker = true;
                    self.tell(now_ms, News::new(Event::Told, ""));
                }
                Action::PushToVendor(vendors) => self.enqueue(tx, vendors.first().copied(), now_ms)?,
                Action::Wait(Some(until_ms)) => {
                    let tokens = self.usable();
                    let vendor = tokens.first().map(|token| token.vendor);
                    self.enqueue(tx, vendor, until_ms)?;
                }
                Action::End(reason) => self.end(tx, reason),
                Action::Wait(None) | Action::Done => break,
            }
            if matches!(self.delivery.facts.push, Push::Queued(_)) && !self.to_be_ended(now_ms) {
                break; // its turn comes with the worker
            }
        }
        self.take_back(tx)?;
        self.wake_by_another(tx)?;
        self.write(tx)
    }

    /// A push that its vendor took with an older content goes there again: under the same id it replaces the old one, unless
    /// the user saw that already as far as we know.
    fn renew(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let (Push::Accepted(vendor), now_ms) = (self.delivery.facts.push, tx.now_ms()) else {
            return Ok(());
        };
        let is_unseen = self.delivery.reaction.is_none() && self.delivery.facts.broker != Broker::Acked;
        let is_over = self.message.recalled_at_ms.is_some()
            || self.message.expires_at_ms.is_some_and(|end_ms| end_ms <= now_ms);
        let is_old = self.delivery.revision < self.message.revision;
        if is_old && is_unseen && !is_over && vendor.replaces() && self.token(vendor).is_some() {
            self.tell(now_ms, News::of(vendor, Event::Replaced, "the message got another content"));
            self.delivery.attempts_before = self.delivery.attempts; // the new content has all of them
            self.wait_until(tx, vendor, now_ms)?;
        }
        Ok(())
    }

    fn to_be_ended(&self, now_ms: u64) -> bool {
        matches!(self.next(now_ms), Action::End(_) | Action::SendToBroker)
    }

    fn ask_policy(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let Gate::Held { until_ms, has_turn } = self.delivery.facts.gate else { return Ok(()) };
        let now_ms = tx.now_ms();
        match book::ask(tx, self.message, &self.device_id, self.device.as_ref(), has_turn)? {
            // What was never held has nothing to tell.
            Answer::Go if until_ms == 0 => self.delivery.facts.apply(Event::Admitted, now_ms),
            Answer::Go => self.tell(now_ms, News::new(Event::Admitted, "its policy lets it go")),
            Answer::Hold { until_ms, has_turn, words } => {
                self.held_until_ms = Some(until_ms);
                self.tell(now_ms, News::new(Event::Held { until_ms, has_turn }, words));
            }
            Answer::Drop { reason, words } => self.tell(now_ms, News::new(Event::Ended(reason), words)),
        }
        Ok(())
    }

    /// The epoch since which the device is offline, where the message waits in its queue meanwhile.
    fn offline_since(&self) -> Option<u64> {
        match self.delivery.facts.broker {
            Broker::Missed { epoch: 0 } => None,
            Broker::Missed { epoch } => {
                Some(epoch).filter(|_| self.delivery.strategy == Strategy::OnlineFirst)
            }
            Broker::Untold | Broker::Told | Broker::Silent | Broker::Acked => None,
        }
    }

    /// What its policy leaves of the push. Counted once while the device stays offline, whichever vendor is tried.
    fn is_withheld(&mut self, tx: &mut Tx<'_>) -> Result<bool, StoreError> {
        let Some(epoch) = self.offline_since().filter(|epoch| self.delivery.counted_at != Some(*epoch))
        else {
            return Ok(false);
        };
        let Some(policy) = book::of(tx, self.message)? else { return Ok(false) };
        let share = book::share(tx, self.message, &policy, &self.device_id, epoch)?;
        self.delivery.counted_at = Some(epoch);
        self.delivery.digest_of = None;
        match share {
            Share::Whole => return Ok(false),
            Share::Digest(count) => {
                self.delivery.digest_of = Some(count);
                self.delivery.is_alone = true; // nobody else has this number
                return Ok(false);
            }
            Share::Nothing => {}
        }
        let words =
            format!("not pushed by policy {}: the device was woken before and is still offline", policy.name);
        self.tell(tx.now_ms(), News::new(Event::Withheld, words));
        Ok(true)
    }

    /// A push that no vendor took, or that ended before its turn, woke nobody; one that was taken back shows nothing.
    fn wake_by_another(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let is_in_vain = match self.delivery.facts.push {
            Push::Lost | Push::TakenBack(_) => true,
            Push::Queued(_) => self.delivery.facts.ended.is_some(),
            Push::None | Push::Submitted(_) | Push::Accepted(_) | Push::Delivered(_) | Push::Withheld => {
                false
            }
        };
        match self.delivery.counted_at.take_if(|_| is_in_vain) {
            Some(epoch) => book::take_back(tx, self.message, &self.device_id, epoch),
            None => Ok(()),
        }
    }

    /// How long the push waits for the device instead of costing the vendor's quota of the day.
    fn save_quota(&mut self, tx: &Tx<'_>, vendor: VendorName) -> Result<Option<u64>, StoreError> {
        if self.offline_since().is_none() || self.online_epoch.is_some() {
            return Ok(None);
        }
        let Some(policy) = book::of(tx, self.message)?.filter(|policy| policy.save_quota) else {
            return Ok(None);
        };
        if !credentials::has_daily_quota(tx, &self.lane(vendor))? {
            return Ok(None);
        }
        let until_ms = book::usual_wait(tx, self.message, &self.device_id)?;
        if let Some(until_ms) = until_ms {
            let timezone = self.device.as_ref().and_then(|device| device.attributes.timezone.as_deref());
            let until = policy.say(timezone, until_ms, tx.now_ms());
            let name = &policy.name;
            let words = format!("held until {until} by policy {name}: the device is usually online by then");
            self.delivery.note(tx.now_ms(), Some(vendor), words);
        }
        self.delivery.saved_until_ms = until_ms;
        Ok(until_ms)
    }

    fn enqueue(
        &mut self,
        tx: &mut Tx<'_>,
        vendor: Option<VendorName>,
        due_ms: u64,
    ) -> Result<(), StoreError> {
        let Some(vendor) = vendor else { return Ok(()) };
        if self.delivery.facts.push != Push::None {
            return Ok(());
        }
        if self.is_withheld(tx)? {
            return Ok(());
        }
        let now_ms = tx.now_ms();
        self.tell(now_ms, News::of(vendor, Event::PushQueued(vendor), ""));
        // Where there is no credential for the device token, its turn says so.
        self.delivery.credential = self.credential(tx, vendor)?.unwrap_or_default();
        let due_ms = self.save_quota(tx, vendor)?.unwrap_or(due_ms);
        self.wait_until(tx, vendor, due_ms)
    }

    /// The device tokens that may still take it, best first.
    pub fn usable(&self) -> Vec<&Token> {
        self.delivery.usable(self.device.as_ref(), self.now_ms)
    }

    /// The device token at a vendor that may still take it.
    pub fn token(&self, vendor: VendorName) -> Option<&Token> {
        self.usable().into_iter().find(|token| token.vendor == vendor)
    }

    /// Which credential its device token goes with.
    pub fn credential(&self, tx: &Tx<'_>, vendor: VendorName) -> Result<Option<CredentialName>, StoreError> {
        let Some(token) = self.token(vendor) else { return Ok(None) };
        credentials::find(tx, &self.message.app, vendor, &token.home)
    }

    /// Where it waits at a vendor.
    pub fn lane(&self, vendor: VendorName) -> Lane {
        self.message.lane(vendor, &self.delivery.credential)
    }

    /// Puts it into a vendor's queue, or moves it there.
    pub fn wait_until(&mut self, tx: &mut Tx<'_>, vendor: VendorName, due_ms: u64) -> Result<(), StoreError> {
        self.leave_queue(tx, vendor);
        self.delivery.due_ms = Some(due_ms);
        self.join_queue(tx, vendor)
    }

    fn join_queue(&self, tx: &mut Tx<'_>, vendor: VendorName) -> Result<(), StoreError> {
        if let Some(waiting) = self.delivery.waiting(self.message, &self.device_id) {
            let mark = inbox::mark(tx, self.message, vendor, self.device.as_ref())?;
            queues::push_at(tx, &self.lane(vendor), &Waiting { mark, ..waiting });
        }
        Ok(())
    }

    /// Puts it into the lane where it belongs since the message changed. A push that is under way stays: what its vendor
    /// answers moves it.
    pub fn change_lane(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let Push::Queued(vendor) = self.delivery.facts.push else { return Ok(()) };
        let Some(waiting) = self.delivery.waiting(self.message, &self.device_id) else { return Ok(()) };
        for lane in Lane::all_of(&self.message.app, vendor, &self.delivery.credential) {
            queues::remove_push(tx, &lane, &waiting);
        }
        self.join_queue(tx, vendor)
    }

    /// Takes it out of a vendor's queue.
    pub fn leave_queue(&mut self, tx: &mut Tx<'_>, vendor: VendorName) {
        if let Some(waiting) = self.delivery.waiting(self.message, &self.device_id) {
            queues::remove_push(tx, &self.lane(vendor), &waiting);
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
            Reason::Capped | Reason::Quiet => "its policy does not let it go",
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

    /// Writes delivery and funnel, and tells the app's webhooks.
    pub fn write(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let (app, id, bucket) = (&self.message.app, self.message.id, self.delivery.bucket);
        let is_queued = self.delivery.is_queued();
        if self.was != Some(bucket) || self.was_queued != is_queued {
            let mut funnel = funnel(tx, app, id)?;
            match self.was {
                Some(was) => funnel.shift(was, bucket),
                None => funnel.add(bucket),
            }
            let before = funnel.vendor_queued;
            funnel.note_queued(self.was_queued, is_queued);
            funnel.note_pace(tx.now_ms());
            if (funnel.vendor_queued..before).contains(&AHEAD_RESUME) {
                jobs::release(tx, app, id)?;
            }
            save_funnel(tx, app, id, &funnel)?;
            (self.was, self.was_queued) = (Some(bucket), is_queued);
            if self.message.is_expanded && funnel.in_flight == 0 {
                messages::tell_done(tx, self.message, &funnel)?;
            }
        }
        self.count(tx);
        self.tell_webhooks(tx)?;
        tx.save(Space::Messages, keys::delivery(app, id, &self.device_id), &self.delivery)
    }

    /// Counts what it passed since it was loaded or written.
    fn count(&mut self, tx: &mut Tx<'_>) {
        let now = Counted::of(&self.delivery);
        if now == self.counted {
            return;
        }
        let attributes = self.device.as_ref().map(|device| &device.attributes);
        let whose = Whose {
            vendor: self.vendor().map(VendorName::as_str),
            platform: attributes.and_then(|attributes| attributes.platform.as_deref()),
            app_version: attributes.and_then(|attributes| attributes.app_version.as_deref()),
            campaign: self.message.campaign.as_deref(),
            reason: reason_of(&self.delivery),
        };
        let timezone = attributes.and_then(|attributes| attributes.timezone.as_deref());
        let took_ms = tx.now_ms().saturating_sub(self.message.begins_at_ms_in(timezone));
        tx.touched().statistics.note(&self.message.app, &whose, self.counted, now, took_ms);
        self.counted = now;
    }

    /// The vendor that was called last, or would be first.
    fn vendor(&self) -> Option<VendorName> {
        let first = || {
            let mut tokens = self.device.iter().flat_map(|device| &device.tokens);
            tokens.find(|token| token.is_active(self.now_ms)).map(|token| token.vendor)
        };
        let refused = || self.delivery.refused.last().map(|(vendor, _)| *vendor);
        self.delivery.facts.push.vendor().or_else(refused).or_else(first)
    }

    fn tell_webhooks(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let (message, device, delivery) = (self.message, &self.device_id, &self.delivery);
        if self.was_state == Some(delivery.state) {
            return Ok(());
        }
        self.was_state = Some(delivery.state);
        let last = delivery.timeline.last();
        let data = || {
            json!({
                "message": message.id.to_string(),
                "reference": message.reference,
                "device": device,
                "state": delivery.state.name(),
                "vendor": last.and_then(|entry| entry.vendor),
                "reason": last.map_or("", |entry| entry.reason.as_str()),
            })
        };
        webhooks::emit(tx, &message.app, &webhooks::delivery_name(delivery.state), device, data)
    }
}
