//! One push, or the pushes of one batch, in two transactions: before the vendor is called and after it answered.
//!
//! The call is written down before it is made. After a crash in between the outcome is unknown, and the call is
//! repeated under the same id, by which vendors replace and devices drop the double.

use std::sync::Arc;

use reveille_proto::delivery::ReasonFamily;
use reveille_proto::ids::MessageId;

use crate::credentials::{self, Days};
use crate::deliveries::{
    self, Case, News, Outcome, Recalled, VendorCounts, fingerprint, funnel, save_funnel,
};
use crate::devices::{self, Device};
use crate::inbox;
use crate::jobs::hand_to_broker;
use crate::lane::{CredentialName, Home, Lane};
use crate::messages::{self, Message};
use crate::plan::{Action, Broker, Event, Push as PushSide, Reason};
use crate::policies::{Policy, book};
use crate::queues::{self, Waiting};
use crate::receipts;
use crate::retry::{GiveUp, Next, RetryPolicy, next_attempt};
use crate::rules::Rules;
use crate::sender::Sent;
use crate::store::{StoreError, Tx};
use crate::tokens::{self, Token};
use crate::vendor::{Credential, DeviceToken, Push, TakeBack, VendorName, Verdict};

const NO_TOKEN: &str = "the device has no live device token there any more";

/// A call to make: one push, or a batch of pushes of one message.
#[derive(Debug)]
pub(crate) struct Call {
    pub credential: Arc<Credential>,
    pub draft: Draft,
    /// The devices, in the order of the push's device tokens.
    pub devices: Vec<String>,
}

/// Everything that a push is made of. It is made elsewhere than on the store's thread: texts that speak of the device may be
/// long work.
#[derive(Debug)]
pub(crate) struct Draft {
    message: Message,
    language: Option<String>,
    /// Of which its texts speak.
    device: Option<Device>,
    vendor: VendorName,
    token: DeviceToken,
    others: Vec<DeviceToken>,
    unread: Option<u64>,
    /// What goes instead: a digest of so many messages.
    digest: Option<(Policy, u64)>,
    /// It is to be taken back.
    is_recall: bool,
    /// By the vendor's name for it, where it has one.
    vendor_id: Option<String>,
}

impl Draft {
    /// The push.
    pub fn finish(mut self) -> Push {
        self.message.speak(self.language.as_deref(), self.device.as_ref());
        let push = self.message.push(self.vendor, self.token, self.unread);
        let (is_recall, vendor_id) = (self.is_recall, self.vendor_id);
        let push = Push { others: self.others, is_recall, vendor_id, ..push };
        match self.digest {
            Some((policy, count)) => policy.digest(count, push),
            None => push,
        }
    }
}

/// Decides about the pushes of one message whose turn has come, and writes down that the call is made for those that
/// are to be called. `None`: no call.
pub(crate) fn begin(
    tx: &mut Tx<'_>,
    rules: &Rules,
    lane: &Lane,
    batch: &[Waiting],
) -> Result<Option<Call>, StoreError> {
    let Some(first) = batch.first() else { return Ok(None) };
    let Some(message) = messages::load(tx, &lane.app, first.message)? else {
        batch.iter().for_each(|waiting| queues::remove_push(tx, lane, waiting));
        return Ok(None);
    };
    let kept = credentials::of_lane(tx, lane)?;
    let rates = kept.as_ref().map(|kept| kept.rates).unwrap_or_default().or_usual(lane.vendor);
    let mut turn = Turn {
        rules,
        lane,
        message: &message,
        days: Days::load(tx, lane, rates)?,
        repeated: 0,
        refused: 0,
        digest_of: None,
        is_recall: false,
    };
    let (mut tokens, mut ids) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
    let (together, unread) = with_one_badge(tx, &message, lane.vendor, batch)?;
    for waiting in together {
        if let Some(token) = turn.take(tx, waiting, kept.is_some())? {
            tokens.push(token);
            ids.push(waiting.device.clone());
        }
    }
    let (digest_of, is_recall) = (turn.digest_of, turn.is_recall);
    turn.end(tx)?;
    let mut tokens = tokens.into_iter();
    let (Some(kept), Some(token)) = (kept, tokens.next()) else { return Ok(None) };
    let device = match (message.is_personal(), ids.first()) {
        (true, Some(device)) => devices::load(tx, &lane.app, device)?,
        (true, None) | (false, _) => None,
    };
    let digest = match digest_of {
        Some(count) => book::of(tx, &message)?.map(|policy| (policy, count)),
        None => None,
    };
    let vendor_id = match ids.first() {
        // Vendors that name each push take them back one by one.
        Some(device) if is_recall && lane.vendor.take_back() == TakeBack::ByName => {
            deliveries::load(tx, &lane.app, message.id, device)?.and_then(|delivery| delivery.vendor_id)
        }
        Some(_) | None => None,
    };
    let (language, others, vendor) = (first.language.clone(), tokens.collect(), lane.vendor);
    let draft =
        Draft { message, language, device, vendor, token, others, unread, digest, is_recall, vendor_id };
    Ok(Some(Call { credential: Arc::new(kept.credential), draft, devices: ids }))
}

/// The pushes of a batch that show the same number on the icon as its first; the others wait for their turn. And how many
/// messages their users have not read.
fn with_one_badge<'b>(
    tx: &Tx<'_>,
    message: &Message,
    vendor: VendorName,
    batch: &'b [Waiting],
) -> Result<(Vec<&'b Waiting>, Option<u64>), StoreError> {
    let Some((first, others)) = batch.split_first() else { return Ok((Vec::new(), None)) };
    if !message.badge().is_some_and(|badge| badge.is_for_each_user(vendor)) {
        return Ok((batch.iter().collect(), None));
    }
    let unread = inbox::unread_at(tx, &message.app, &first.device, message)?;
    let mut together = vec![first];
    for waiting in others {
        if inbox::unread_at(tx, &message.app, &waiting.device, message)? == unread {
            together.push(waiting);
        }
    }
    Ok((together, unread))
}

/// The pushes of one message at their turn.
struct Turn<'a> {
    rules: &'a Rules,
    lane: &'a Lane,
    message: &'a Message,
    days: Days,
    /// For the funnel.
    repeated: u64,
    refused: u64,
    /// The push, which is alone then, is a digest of so many messages.
    digest_of: Option<u64>,
    /// The vendor is asked to take the pushes back. Once a message is withdrawn nothing else of it has a turn, so all of a batch
    /// are.
    is_recall: bool,
}

impl Turn<'_> {
    /// What becomes of one push. `Some`: the vendor is called for this device token, which is written down.
    fn take(
        &mut self,
        tx: &mut Tx<'_>,
        waiting: &Waiting,
        has_credential: bool,
    ) -> Result<Option<DeviceToken>, StoreError> {
        let vendor = self.lane.vendor;
        let mut case = Case::load(tx, self.message, &waiting.device)?;
        let is_recall = case.delivery.is_to_be_taken_back();
        let is_here = is_recall
            || [PushSide::Queued(vendor), PushSide::Submitted(vendor)].contains(&case.delivery.facts.push);
        if !is_here || case.delivery.due_ms != Some(waiting.due_ms) {
            queues::remove_push(tx, self.lane, waiting);
            return Ok(None);
        }
        if case.lane(vendor) != *self.lane {
            // The message changed while it waited, and its vendor counts it as something else.
            queues::remove_push(tx, self.lane, waiting);
            case.wait_until(tx, vendor, waiting.due_ms)?;
            return Ok(None);
        }
        if is_recall {
            return self.ask_back(tx, &mut case, has_credential);
        }
        self.recall_crash(tx, &mut case);
        let token = match case.next(tx.now_ms()) {
            Action::PushToVendor(_) if self.is_interrupted_too_often(&case) => {
                give_up_token(tx, &mut case, vendor, None, "interrupted at every attempt");
                None
            }
            Action::PushToVendor(_) => self.call(tx, &mut case, has_credential)?,
            Action::Wait(Some(until_ms)) => {
                case.wait_until(tx, vendor, until_ms)?;
                None
            }
            Action::Wait(None) | Action::SendToBroker => {
                give_up_token(tx, &mut case, vendor, None, NO_TOKEN);
                None
            }
            Action::End(_) | Action::Done | Action::AskPolicy => None,
        };
        match token.is_some() {
            true => case.write(tx)?,
            false => rest(tx, self.rules, self.message, &mut case)?,
        }
        Ok(token)
    }

    /// The vendor is asked to take the push back, with the credential that it was sent with.
    fn ask_back(
        &mut self,
        tx: &mut Tx<'_>,
        case: &mut Case<'_>,
        has_credential: bool,
    ) -> Result<Option<DeviceToken>, StoreError> {
        let vendor = self.lane.vendor;
        let token = case.token(vendor).map(|token| token.token.clone()).filter(|_| has_credential);
        let calls = case.delivery.recall.as_ref().map_or(0, |recall| recall.calls);
        let end = match token {
            // The end of each was lost, else the last one would have ended it.
            Some(_) if calls >= policy(self.rules, vendor).attempts_max => {
                (GiveUp::Exhausted, "not known to be taken back: interrupted at every attempt")
            }
            Some(token) => return self.call_back(tx, case, token).map(Some),
            None => (
                GiveUp::Config,
                "cannot be taken back: the credential or the device token that it was sent with is gone",
            ),
        };
        let end = Recalled { next: Next::GiveUp(end.0), words: end.1.to_owned() };
        case.end_recall(tx, vendor, &end)?;
        Ok(None)
    }

    fn call_back(
        &mut self,
        tx: &mut Tx<'_>,
        case: &mut Case<'_>,
        token: DeviceToken,
    ) -> Result<DeviceToken, StoreError> {
        self.is_recall = true;
        case.ask_back();
        case.write(tx)?;
        Ok(token)
    }

    /// A delivery that is still marked as being called was interrupted: nobody knows whether the vendor has it.
    fn recall_crash(&mut self, tx: &Tx<'_>, case: &mut Case<'_>) {
        if case.delivery.facts.push != PushSide::Submitted(self.lane.vendor) {
            return;
        }
        case.delivery.is_unknown = true;
        let words =
            "interrupted: it is not known whether the vendor has it, so it is repeated under the same id";
        case.tell(tx.now_ms(), News::of(self.lane.vendor, Event::Postponed, words));
        self.repeated += 1;
    }

    /// An attempt whose end is written down is counted there; of those that were interrupted there are no more either.
    fn is_interrupted_too_often(&self, case: &Case<'_>) -> bool {
        let attempts_max = policy(self.rules, self.lane.vendor).attempts_max;
        case.delivery.is_unknown && case.delivery.attempts_of_content() >= attempts_max
    }

    fn call(
        &mut self,
        tx: &mut Tx<'_>,
        case: &mut Case<'_>,
        has_credential: bool,
    ) -> Result<Option<DeviceToken>, StoreError> {
        let (vendor, now_ms) = (self.lane.vendor, tx.now_ms());
        let Some(token) = case.token(vendor).cloned() else {
            give_up_token(tx, case, vendor, None, NO_TOKEN);
            return Ok(None);
        };
        if self.message.is_paused() {
            case.note_once(now_ms, vendor, "the sender paused the message".to_owned());
            case.wait_until(tx, vendor, queues::PAUSED_MS)?;
            return Ok(None);
        }
        match case.credential(tx, vendor)? {
            // The credentials changed while it waited, or the device registered anew.
            Some(name) if name != self.lane.credential => {
                case.leave_queue(tx, vendor);
                case.delivery.credential = name;
                case.wait_until(tx, vendor, now_ms)?;
                return Ok(None);
            }
            Some(_) if has_credential => {}
            found => {
                case.delivery.family = Some(ReasonFamily::Credential);
                give_up_token(tx, case, vendor, Some(&token), &no_credential(vendor, &token.home, found));
                self.refused += 1;
                return Ok(None);
            }
        }
        if let Err(until_ms) = self.days.use_one(now_ms) {
            case.note_once(now_ms, vendor, "the app's pushes of this day are used up".to_owned());
            case.wait_until(tx, vendor, until_ms)?;
            return Ok(None);
        }
        case.delivery.attempts += 1;
        case.delivery.revision = case.message.revision;
        if case.delivery.attempts_of_content() == 1 {
            case.delivery.first_attempt_at_ms = now_ms;
        }
        self.digest_of = case.delivery.digest_of;
        let words = match self.digest_of {
            Some(count) => format!("attempt {}, as a digest of {count} messages", case.delivery.attempts),
            None => format!("attempt {}", case.delivery.attempts),
        };
        case.tell(now_ms, News::of(vendor, Event::Submitted, words));
        Ok(Some(token.token))
    }

    fn end(self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let (vendor, repeated, refused) = (self.lane.vendor, self.repeated, self.refused);
        self.days.save(tx)?;
        if repeated + refused == 0 {
            return Ok(());
        }
        count(tx, self.message, |funnel| {
            funnel.at(vendor).repeated_unknown += repeated;
            funnel.at(vendor).refused += refused;
        })
    }
}

fn no_credential(vendor: VendorName, home: &Home, found: Option<CredentialName>) -> String {
    match (found, home) {
        (Some(name), _) if !name.is_default() => format!("the app has no credential {name} for {vendor}"),
        (None, Home { environment: Some(world), bundle_id, .. }) => {
            let bundle_id = bundle_id.as_deref().unwrap_or("this device token");
            format!("the app has no {} credential for {vendor} and {bundle_id}", world.as_str())
        }
        (None, Home { bundle_id: Some(bundle_id), .. }) => {
            format!("the app has no credential for {vendor} and {bundle_id}")
        }
        (Some(_) | None, _) => format!("the app has no credential for {vendor}"),
    }
}

/// This device token is of no use for this message: another is tried, unless a call's outcome is unknown, because
/// then the alert may be visible already and another vendor could not replace it.
fn give_up_token(
    tx: &mut Tx<'_>,
    case: &mut Case<'_>,
    vendor: VendorName,
    token: Option<&Token>,
    words: &str,
) {
    case.leave_queue(tx, vendor);
    if let Some(token) = token {
        case.delivery.refused.push(fingerprint(token));
    }
    let has_other = !case.usable().is_empty();
    let was_tried = token.is_some();
    let event = match () {
        () if case.delivery.is_unknown => Event::Lost,
        () if was_tried && !has_other => Event::Lost,
        () => Event::Refused,
    };
    case.tell(tx.now_ms(), News::of(vendor, event, words));
}

/// Settles a delivery, and hands it to the broker where the plan wants that.
fn rest(tx: &mut Tx<'_>, rules: &Rules, message: &Message, case: &mut Case<'_>) -> Result<(), StoreError> {
    case.settle(tx)?;
    if case.to_broker {
        let (strategy, language) = (case.delivery.strategy, case.delivery.language.clone());
        hand_to_broker(tx, rules, message, strategy, language, vec![case.device_id.clone()])?;
    }
    Ok(())
}

fn count(
    tx: &mut Tx<'_>,
    message: &Message,
    change: impl FnOnce(&mut deliveries::Funnel),
) -> Result<(), StoreError> {
    let mut counts = funnel(tx, &message.app, message.id)?;
    change(&mut counts);
    save_funnel(tx, &message.app, message.id, &counts)
}

/// What was called, and what came of it.
#[derive(Debug)]
pub(crate) struct Answered {
    pub lane: Lane,
    pub message: MessageId,
    /// Whether the vendor was asked to take the pushes back.
    pub is_recall: bool,
    pub pushes: Vec<Called>,
}

/// One push of a call.
#[derive(Debug)]
pub(crate) struct Called {
    pub device: String,
    pub token: DeviceToken,
    pub sent: Sent,
    /// Any number, evenly spread, for the back-off.
    pub random: u64,
}

/// Writes down what the vendor answered, and what follows, for these pushes of a call.
pub(crate) fn finish(
    tx: &mut Tx<'_>,
    rules: &Rules,
    answered: &Answered,
    pushes: &[Called],
) -> Result<(), StoreError> {
    let Answered { lane, message, is_recall, .. } = answered;
    let message = messages::load(tx, &lane.app, *message)?;
    let mut counts = VendorCounts::default();
    for called in pushes {
        if *is_recall {
            if let Some(message) = &message {
                counts.recalled += u64::from(finish_recall(tx, rules, lane, message, called)?);
            }
            continue; // what the vendor says of device tokens here is no word about pushes
        }
        let token = note_token(tx, lane, called)?;
        if let Some(message) = &message {
            finish_one(tx, rules, lane, message, called, token, &mut counts)?;
        }
    }
    match message {
        Some(message) if counts != VendorCounts::default() => {
            count(tx, &message, |funnel| funnel.at(lane.vendor).add(&counts))
        }
        Some(_) | None => Ok(()),
    }
}

/// What came of asking the vendor to take one push back. `true`: it did.
fn finish_recall(
    tx: &mut Tx<'_>,
    rules: &Rules,
    lane: &Lane,
    message: &Message,
    called: &Called,
) -> Result<bool, StoreError> {
    let (vendor, verdict) = (lane.vendor, &called.sent.verdict);
    let mut case = Case::load(tx, message, &called.device)?;
    let Some(recall) = case.delivery.recall.clone().filter(|_| case.delivery.is_to_be_taken_back()) else {
        return Ok(false); // forgotten meanwhile
    };
    let policy = policy(rules, vendor);
    let (calls, first_at_ms) = (recall.calls, recall.first_at_ms);
    let next = next_attempt(&policy, verdict, calls, first_at_ms, tx.now_ms(), None, called.random);
    case.delivery.is_alone |= matches!(verdict, Verdict::SendAlone { .. });
    let words = match (verdict.reason(), vendor.take_back()) {
        ("", TakeBack::Silently) => format!("{vendor} took a silent push in its place, which tells the app"),
        ("", _) => format!("{vendor} took it back"),
        (reason, _) => format!("asked to take it back, {vendor}: {reason}"),
    };
    let outcome = case.end_recall(tx, vendor, &Recalled { next, words })?;
    Ok(outcome == Some(Outcome::TakenBack))
}

fn finish_one(
    tx: &mut Tx<'_>,
    rules: &Rules,
    lane: &Lane,
    message: &Message,
    called: &Called,
    token: TokenNow,
    counts: &mut VendorCounts,
) -> Result<(), StoreError> {
    let (vendor, sent) = (lane.vendor, &called.sent);
    let mut case = Case::load(tx, message, &called.device)?;
    if case.delivery.facts.push != PushSide::Submitted(vendor) {
        return Ok(()); // forgotten meanwhile
    }
    case.delivery.is_unknown |= !sent.outcome_known;
    let verdict = match token {
        // The word is about an earlier life of the token, so the push is worth another try.
        TokenNow::Alive => Verdict::Retry { after: None, reason: sent.verdict.reason().to_owned() },
        TokenNow::Unchanged => sent.verdict.clone(),
    };
    let words = words(vendor, &sent.verdict);
    match next(rules, &case, vendor, &verdict, tx.now_ms(), called.random) {
        Next::Done => {
            case.leave_queue(tx, vendor);
            tokens::absolve(tx, &lane.app, case.device.as_ref(), vendor, &called.token)?;
            if let Verdict::Accepted { vendor_id: Some(vendor_id) } = &verdict {
                receipts::remember(tx, &mut case, vendor, vendor_id);
            }
            case.tell(tx.now_ms(), News::of(vendor, Event::Accepted, words));
            counts.accepted += 1;
        }
        Next::At(_) if case.delivery.facts.broker == Broker::Acked => {
            case.leave_queue(tx, vendor);
            case.tell(tx.now_ms(), News::of(vendor, Event::Refused, words));
        }
        Next::At(at_ms) => {
            case.tell(tx.now_ms(), News::of(vendor, Event::Postponed, format!("{words}; tried again")));
            case.leave_queue(tx, vendor);
            case.delivery.is_alone |= matches!(verdict, Verdict::SendAlone { .. });
            case.wait_until(tx, vendor, at_ms)?;
            counts.repeated_unknown += u64::from(case.delivery.is_unknown);
        }
        Next::GiveUp(why) => {
            counts.refused += 1;
            case.delivery.family = verdict.family();
            give_up(tx, &mut case, vendor, called, why, &words);
        }
    }
    rest(tx, rules, message, &mut case)
}

#[derive(Clone, Copy)]
enum TokenNow {
    Unchanged,
    Alive,
}

/// Marks the device token dead if the vendor says so of its present life, or puts it into quarantine.
fn note_token(tx: &mut Tx<'_>, lane: &Lane, called: &Called) -> Result<TokenNow, StoreError> {
    let (app, vendor, Called { device, token, sent, .. }) = (&lane.app, lane.vendor, called);
    let Verdict::TokenDead { since_ms, reason } = &sent.verdict else {
        tokens::judge(tx, app, device, vendor, token, &sent.verdict)?;
        return Ok(TokenNow::Unchanged);
    };
    let is_kept = devices::load(tx, app, device)?
        .is_some_and(|device| device.tokens.iter().any(|kept| kept.vendor == vendor && kept.token == *token));
    let is_dead = tokens::bury(tx, app, device, vendor, token.as_str(), *since_ms, reason)?;
    Ok(if is_kept && !is_dead { TokenNow::Alive } else { TokenNow::Unchanged })
}

fn next(
    rules: &Rules,
    case: &Case<'_>,
    vendor: VendorName,
    verdict: &Verdict,
    now_ms: u64,
    random: u64,
) -> Next {
    let policy = policy(rules, vendor);
    let (attempts, first_at_ms) = (case.delivery.attempts_of_content(), case.delivery.first_attempt_at_ms);
    next_attempt(&policy, verdict, attempts, first_at_ms, now_ms, case.message.expires_at_ms, random)
}

fn policy(rules: &Rules, vendor: VendorName) -> RetryPolicy {
    let usual = RetryPolicy::for_vendor(vendor);
    RetryPolicy { attempts_max: rules.attempts_max.unwrap_or(usual.attempts_max), ..usual }
}

fn give_up(
    tx: &mut Tx<'_>,
    case: &mut Case<'_>,
    vendor: VendorName,
    called: &Called,
    why: GiveUp,
    words: &str,
) {
    let token = Token {
        vendor,
        token: called.token.clone(),
        registered_at_ms: 0,
        state: tokens::TokenState::Active,
        strikes: tokens::Strikes::default(),
        home: Home::default(),
    };
    give_up_token(tx, case, vendor, Some(&token), words);
    match why {
        GiveUp::Expired => {
            case.tell(tx.now_ms(), News::new(Event::Ended(Reason::Expired), "worthless by the next attempt"));
        }
        GiveUp::Token | GiveUp::Payload | GiveUp::Filtered | GiveUp::Config | GiveUp::Exhausted => {}
    }
}

fn words(vendor: VendorName, verdict: &Verdict) -> String {
    match (verdict, verdict.reason()) {
        // Where the name is all that it takes to take a push back, it is not for every reader.
        (Verdict::Accepted { vendor_id: Some(id) }, _) if vendor.take_back() != TakeBack::ByName => {
            format!("accepted by {vendor} as {id}")
        }
        (Verdict::Accepted { .. }, _) => format!("accepted by {vendor}"),
        (_, "") => format!("{vendor}: {}", verdict.name()),
        (_, reason) => format!("{vendor}: {} ({reason})", verdict.name()),
    }
}

#[cfg(test)]
mod tests;
