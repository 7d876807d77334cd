//! What happens in an app now, and what went wrong in the last 24 hours.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use axum::extract::{Path, State};
use axum::response::Response;
use reveille_proto::ids::AppId;

use super::{Page, fragment};
use crate::apps::Access;
use crate::audience::Audience;
use crate::console::Here;
use crate::console::door::Refusal;
use crate::console::form::Query;
use crate::console::view::messages::MessageRow;
use crate::console::view::overview::{Alarm, Lane, Overview, overview};
use crate::console::view::parts::live;
use crate::console::visitor::Visitor;
use crate::console::words;
use crate::credentials::{self, KeptCredential};
use crate::deliveries::{self, Bucket, Funnel};
use crate::http::message_state;
use crate::lane::CredentialName;
use crate::messages;
use crate::queues::{self, Size};
use crate::store::{StoreError, Tx};
use crate::vendor::VendorName;

/// Messages of the last day that are looked at; the page says when there are more.
const MESSAGES_MAX: usize = 500;
/// Messages in the list of the newest.
const RECENT: usize = 8;
/// Messages with losses whose deliveries are looked at for the reasons, and how many of each.
const LOSSES_MAX: usize = 50;
const LOSSES_EACH: usize = 200;
/// Reasons that are shown.
const REASONS_MAX: usize = 6;
/// Pushes of one lane that are counted.
const WAITING_MAX: usize = 1_000;
/// A push that is due for longer than this wants an eye, in seconds.
const OLD_S: u64 = 60;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The page.
pub(in crate::console) async fn show(
    visitor: Visitor,
    State(console): State<Here>,
    Path(app): Path<String>,
    Query(query): Query,
) -> Response {
    let gathered = match visitor.check(&app, Access::Read) {
        Ok(id) => gather(&console, &visitor, id).await,
        Err(refused) => Err(refused),
    };
    let context = visitor.context(Some(&app));
    let made = gathered.map(|gathered| overview(&context, &gathered));
    if query.is("part", "live") {
        return fragment(made);
    }
    let path = format!("{}?part=live", context.path(""));
    let page = made.map(|body| Page::new(context.texts.overview, "overview", live(&path, 3, &body)));
    visitor.answer(Some(&app), page)
}

async fn gather(console: &Here, visitor: &Visitor, app: AppId) -> Result<Overview, Refusal> {
    let shared = &console.shared;
    let for_read = app.clone();
    let mut found = shared.store.read(move |tx| read(tx, &for_read)).await?;
    for lane in &mut found.lanes {
        lane.is_open = is_open(console, &app, lane.vendor, &lane.credential);
    }
    if visitor.caller.is_operator() {
        (found.hour, found.day) = (shared.history.hour(), shared.history.day());
    }
    let is_broker_ready = shared.is_broker_ready.as_ref().is_none_or(|is_ready| is_ready());
    found.alarms = alarms(&found, shared.is_feed_up.load(Ordering::SeqCst), is_broker_ready);
    Ok(found)
}

/// Whether calls with this credential wait because the vendor fails.
pub(super) fn is_open(console: &Here, app: &AppId, vendor: VendorName, credential: &CredentialName) -> bool {
    let lanes = crate::lane::Lane::all_of(app, vendor, credential);
    lanes.iter().any(|lane| console.shared.metrics.is_open(lane))
}

fn alarms(found: &Overview, is_feed_up: bool, is_broker_ready: bool) -> Vec<Alarm> {
    let mut alarms = Vec::new();
    alarms.extend((!is_feed_up).then_some(Alarm::FeedDown));
    alarms.extend((!is_broker_ready).then_some(Alarm::BrokerNotReady));
    for lane in &found.lanes {
        alarms.extend(lane.is_open.then_some(Alarm::BreakerOpen(lane.vendor)));
        alarms.extend((lane.oldest_s > OLD_S).then_some(Alarm::OldQueue(lane.vendor, lane.oldest_s)));
    }
    alarms.extend((found.lanes.is_empty() && found.devices > 0).then_some(Alarm::NoCredential));
    alarms
}

fn read(tx: &Tx<'_>, app: &AppId) -> Result<Overview, StoreError> {
    let newest = messages::list(tx, app, None, MESSAGES_MAX)?;
    let since_ms = tx.now_ms().saturating_sub(DAY_MS);
    let is_cut =
        newest.len() == MESSAGES_MAX && newest.last().is_some_and(|last| last.accepted_at_ms >= since_ms);
    let everybody = Audience { all: true, ..Audience::default() }.look(tx, app, 0)?.summary;
    let mut found =
        Overview { devices: everybody.devices, online: everybody.online, is_cut, ..Overview::default() };
    let mut with_losses = Vec::new();
    for message in newest {
        let funnel = deliveries::funnel(tx, app, message.id)?;
        if message.accepted_at_ms >= since_ms {
            found.messages += 1;
            found.funnel.add_all(&funnel);
            if funnel.failed > 0 && with_losses.len() < LOSSES_MAX {
                with_losses.push(message.id);
            }
        }
        if found.recent.len() < RECENT {
            let state = message_state(&message, &funnel).to_owned();
            found.recent.push(MessageRow { message, funnel, state });
        }
    }
    let mut reasons = HashMap::new();
    for id in with_losses {
        for (_, delivery) in deliveries::list(tx, app, id, None, LOSSES_EACH)? {
            if delivery.bucket == Bucket::Failed {
                *reasons.entry(words::cause(&delivery).to_owned()).or_insert(0) += 1;
            }
        }
    }
    found.reasons = most(reasons, REASONS_MAX);
    found.lanes = lanes(tx, app, &found.funnel)?;
    Ok(found)
}

/// The most frequent reasons, in a fixed order among equals.
pub(super) fn most(reasons: HashMap<String, u64>, max: usize) -> Vec<(String, u64)> {
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    reasons.truncate(max);
    reasons
}

fn lanes(tx: &Tx<'_>, app: &AppId, funnel: &Funnel) -> Result<Vec<Lane>, StoreError> {
    let kept = credentials::list(tx, app)?;
    let lane = |(name, kept): (CredentialName, KeptCredential)| lane(tx, app, name, &kept, funnel);
    kept.into_iter().map(lane).collect()
}

/// Both message classes of one credential together.
fn lane(
    tx: &Tx<'_>,
    app: &AppId,
    credential: CredentialName,
    kept: &KeptCredential,
    funnel: &Funnel,
) -> Result<Lane, StoreError> {
    let vendor = kept.credential.vendor_name();
    let (mut waiting, mut due_ms) = (0, tx.now_ms());
    for lane in crate::lane::Lane::all_of(app, vendor, &credential) {
        for size in Size::ALL {
            let found = queues::pushes_from(tx, &lane, size, 0, WAITING_MAX + 1)?;
            waiting += found.len();
            due_ms = found.first().map_or(due_ms, |first| due_ms.min(first.due_ms));
        }
    }
    Ok(Lane {
        vendor,
        credential,
        summary: kept.credential.summary(),
        waiting: u64::try_from(waiting.min(WAITING_MAX)).unwrap_or(0),
        is_more: waiting > WAITING_MAX,
        oldest_s: tx.now_ms().saturating_sub(due_ms) / 1000,
        is_open: false,
        counts: funnel.by_vendor.get(&vendor).cloned().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliveries::VendorCounts;

    #[test]
    fn what_wants_an_eye_is_an_alarm() {
        let lane = |is_open, oldest_s| Lane {
            vendor: VendorName::Fcm,
            credential: CredentialName::default(),
            summary: String::new(),
            waiting: 1,
            is_more: false,
            oldest_s,
            is_open,
            counts: VendorCounts::default(),
        };
        let quiet = Overview { devices: 1, lanes: vec![lane(false, OLD_S)], ..Overview::default() };
        assert_eq!(alarms(&quiet, true, true), []);
        assert_eq!(alarms(&quiet, false, false), [Alarm::FeedDown, Alarm::BrokerNotReady]);
        let loud = Overview { lanes: vec![lane(true, OLD_S + 1)], ..quiet.clone() };
        let wanted = [Alarm::BreakerOpen(VendorName::Fcm), Alarm::OldQueue(VendorName::Fcm, OLD_S + 1)];
        assert_eq!(alarms(&loud, true, true), wanted);
        let bare = Overview { lanes: vec![], ..quiet };
        assert_eq!(alarms(&bare, true, true), [Alarm::NoCredential]);
    }

    #[test]
    fn the_most_frequent_reasons_come_first() {
        let reasons = [("b", 1), ("a", 1), ("c", 5)].map(|(reason, count)| (reason.to_owned(), count));
        let found = most(HashMap::from(reasons), 2);
        assert_eq!(found, [("c".to_owned(), 5), ("a".to_owned(), 1)]);
    }
}
