//! One push, in two transactions: before the vendor is called and after it answered.
//!
//! The call is written down before it is made. After a crash in between the outcome is unknown, and the call is
//! repeated under the same id, by which vendors replace and devices drop the double.

use std::sync::Arc;

use reveille_proto::ids::{AppId, MessageId};

use crate::apps;
use crate::deliveries::{self, Case, News, fingerprint, funnel, save_funnel};
use crate::devices;
use crate::jobs::hand_to_broker;
use crate::messages::{self, Message};
use crate::plan::{Action, Broker, Event, Push as PushSide, Reason};
use crate::queues::{self, Waiting};
use crate::receipts;
use crate::retry::{GiveUp, Next, RetryPolicy, next_attempt};
use crate::rules::Rules;
use crate::sender::Sent;
use crate::store::{Lane, StoreError, Tx};
use crate::tokens::{self, Token};
use crate::vendor::{Credential, Push, VendorName, Verdict};

const NO_TOKEN: &str = "the device has no live device token there any more";

/// A call to make.
#[derive(Debug)]
pub(crate) struct Call {
    pub credential: Arc<Credential>,
    pub push: Push,
}

/// Decides about a push whose turn has come, and writes down that the call is made. `None`: no call.
pub(crate) fn begin(
    tx: &mut Tx<'_>,
    rules: &Rules,
    lane: &Lane,
    waiting: &Waiting,
) -> Result<Option<Call>, StoreError> {
    let (app, vendor) = (&lane.0, lane.1);
    let message = messages::load(tx, app, waiting.message)?;
    let kept = deliveries::load(tx, app, waiting.message, &waiting.device)?;
    let is_ours = |delivery: &deliveries::Delivery| {
        let is_here = [PushSide::Queued(vendor), PushSide::Submitted(vendor)].contains(&delivery.facts.push);
        is_here && delivery.due_ms == Some(waiting.due_ms)
    };
    let Some(message) = message.filter(|_| kept.as_ref().is_some_and(is_ours)) else {
        queues::remove_push(tx, lane, waiting);
        return Ok(None);
    };
    let mut case = Case::load(tx, &message, &waiting.device)?;
    recall_crash(tx, &mut case, vendor)?;
    let call = match case.next(tx.now_ms()) {
        Action::PushToVendor(_) => call(tx, &mut case, vendor)?,
        Action::Wait(Some(until_ms)) => {
            case.wait_until(tx, vendor, until_ms);
            None
        }
        Action::Wait(None) | Action::SendToBroker => {
            give_up_token(tx, &mut case, vendor, None, NO_TOKEN);
            None
        }
        Action::End(_) | Action::Done => None,
    };
    if call.is_some() {
        case.write(tx)?;
    } else {
        rest(tx, rules, &message, &mut case)?;
    }
    Ok(call)
}

/// A delivery that is still marked as being called was interrupted: nobody knows whether the vendor has it.
fn recall_crash(tx: &mut Tx<'_>, case: &mut Case<'_>, vendor: VendorName) -> Result<(), StoreError> {
    if case.delivery.facts.push != PushSide::Submitted(vendor) {
        return Ok(());
    }
    case.delivery.is_unknown = true;
    let words = "interrupted: it is not known whether the vendor has it, so it is repeated under the same id";
    case.tell(tx.now_ms(), News::of(vendor, Event::Postponed, words));
    count(tx, case.message, |funnel| funnel.at(vendor).repeated_unknown += 1)
}

fn call(tx: &mut Tx<'_>, case: &mut Case<'_>, vendor: VendorName) -> Result<Option<Call>, StoreError> {
    let token = usable(case, vendor);
    let Some(token) = token else {
        give_up_token(tx, case, vendor, None, NO_TOKEN);
        return Ok(None);
    };
    let Some(kept) = apps::credential(tx, &case.message.app, vendor)? else {
        let words = format!("the app has no credential for {vendor}");
        give_up_token(tx, case, vendor, Some(&token), &words);
        count(tx, case.message, |funnel| funnel.at(vendor).refused += 1)?;
        return Ok(None);
    };
    if let Some(per_day) = kept.rates.or_usual(vendor).per_day
        && let Some(until_ms) = apps::use_day(tx, &case.message.app, vendor, per_day)?
    {
        let words = "the app's pushes of this day are used up";
        case.note_once(tx.now_ms(), vendor, words.to_owned());
        case.wait_until(tx, vendor, until_ms);
        return Ok(None);
    }
    case.delivery.attempts += 1;
    if case.delivery.attempts == 1 {
        case.delivery.first_attempt_at_ms = tx.now_ms();
    }
    let words = format!("attempt {}", case.delivery.attempts);
    case.tell(tx.now_ms(), News::of(vendor, Event::Submitted, words));
    let push = case.message.push(vendor, token.token);
    Ok(Some(Call { credential: Arc::new(kept.credential), push }))
}

fn usable(case: &Case<'_>, vendor: VendorName) -> Option<Token> {
    let tokens = case.delivery.usable(case.device.as_ref());
    tokens.into_iter().find(|token| token.vendor == vendor).cloned()
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
    let has_other = !case.delivery.usable(case.device.as_ref()).is_empty();
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
        hand_to_broker(tx, rules, message, case.delivery.strategy, vec![case.device_id.clone()])?;
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
    pub app: AppId,
    pub vendor: VendorName,
    pub message: MessageId,
    pub device: String,
    pub push: Push,
    pub sent: Sent,
    /// Any number, evenly spread, for the back-off.
    pub random: u64,
}

/// Writes down what the vendor answered, and what follows.
pub(crate) fn finish(tx: &mut Tx<'_>, rules: &Rules, answered: &Answered) -> Result<(), StoreError> {
    let Answered { app, vendor, sent, .. } = answered;
    let vendor = *vendor;
    let token = note_token(tx, answered)?;
    let Some(message) = messages::load(tx, app, answered.message)? else { return Ok(()) };
    let mut case = Case::load(tx, &message, &answered.device)?;
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
    match next(rules, &case, vendor, &verdict, tx.now_ms(), answered.random) {
        Next::Done => {
            case.leave_queue(tx, vendor);
            if let Verdict::Accepted { vendor_id: Some(vendor_id) } = &verdict {
                receipts::remember(tx, &mut case, vendor, vendor_id);
            }
            case.tell(tx.now_ms(), News::of(vendor, Event::Accepted, words));
            count(tx, &message, |funnel| funnel.at(vendor).accepted += 1)?;
        }
        Next::At(_) if case.delivery.facts.broker == Broker::Acked => {
            case.leave_queue(tx, vendor);
            case.tell(tx.now_ms(), News::of(vendor, Event::Refused, words));
        }
        Next::At(at_ms) => {
            case.tell(tx.now_ms(), News::of(vendor, Event::Postponed, format!("{words}; tried again")));
            case.wait_until(tx, vendor, at_ms);
            if case.delivery.is_unknown {
                count(tx, &message, |funnel| funnel.at(vendor).repeated_unknown += 1)?;
            }
        }
        Next::GiveUp(why) => {
            count(tx, &message, |funnel| funnel.at(vendor).refused += 1)?;
            give_up(tx, &mut case, answered, why, &words);
        }
    }
    rest(tx, rules, &message, &mut case)
}

enum TokenNow {
    Unchanged,
    Alive,
}

/// Marks the device token dead if the vendor says so of its present life.
fn note_token(tx: &mut Tx<'_>, answered: &Answered) -> Result<TokenNow, StoreError> {
    let Answered { app, device, vendor, push, sent, .. } = answered;
    let Verdict::TokenDead { since_ms, reason } = &sent.verdict else { return Ok(TokenNow::Unchanged) };
    let is_kept = devices::load(tx, app, device)?.is_some_and(|device| {
        device.tokens.iter().any(|kept| kept.vendor == *vendor && kept.token == push.token)
    });
    let is_dead = tokens::bury(tx, app, device, *vendor, push.token.as_str(), *since_ms, reason)?;
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
    let mut policy = RetryPolicy::for_vendor(vendor);
    policy.attempts_max = rules.attempts_max.unwrap_or(policy.attempts_max);
    let (attempts, first_at_ms) = (case.delivery.attempts, case.delivery.first_attempt_at_ms);
    next_attempt(&policy, verdict, attempts, first_at_ms, now_ms, case.message.expires_at_ms, random)
}

fn give_up(tx: &mut Tx<'_>, case: &mut Case<'_>, answered: &Answered, why: GiveUp, words: &str) {
    let called = Token {
        vendor: answered.vendor,
        token: answered.push.token.clone(),
        registered_at_ms: 0,
        state: crate::tokens::TokenState::Active,
    };
    give_up_token(tx, case, answered.vendor, Some(&called), words);
    match why {
        GiveUp::Expired => {
            case.tell(tx.now_ms(), News::new(Event::Ended(Reason::Expired), "worthless by the next attempt"));
        }
        GiveUp::Token | GiveUp::Payload | GiveUp::Filtered | GiveUp::Config | GiveUp::Exhausted => {}
    }
}

fn words(vendor: VendorName, verdict: &Verdict) -> String {
    match (verdict, verdict.reason()) {
        (Verdict::Accepted { vendor_id: Some(id) }, _) => format!("accepted by {vendor} as {id}"),
        (Verdict::Accepted { vendor_id: None }, _) => format!("accepted by {vendor}"),
        (_, "") => format!("{vendor}: {}", verdict.name()),
        (_, reason) => format!("{vendor}: {} ({reason})", verdict.name()),
    }
}
