//! `/v1/apps/{app}/messages/{message}/deliveries`: what became of a message on each device.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::body::{Params, message_id};
use super::guard::{Guarded, READ};
use super::paging::{Listed, Page, PageQuery};
use super::problem::{Errno, Problem};
use crate::deliveries::{self, Bucket, Delivery, Entry, Outcome, State as Reached};
use crate::messages;
use crate::plan::Push;
use crate::store::{Order, Tx};
use crate::vendor::VendorName;

/// Messages that are looked through for the deliveries of one device.
const MESSAGES_MAX: usize = 1000;

/// What became of a message on one device.
#[derive(Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(super) struct Row {
    device: String,
    /// How far it got.
    #[schema(example = "vendor_accepted")]
    state: &'static str,
    /// In which part of the funnel it is.
    counts_as: Bucket,
    /// Which vendor it went to, or is to go to.
    #[schema(required)]
    vendor: Option<VendorName>,
    /// Why it is there, in words.
    reason: String,
    /// What came of taking it back from its vendor; `null` where nobody wanted that or no vendor has it.
    #[schema(required)]
    recall: Option<Outcome>,
    #[schema(required)]
    updated_at_ms: Option<u64>,
}

impl Row {
    fn of(device: String, delivery: &Delivery) -> Self {
        let vendor = match delivery.facts.push {
            Push::Queued(vendor)
            | Push::Submitted(vendor)
            | Push::Accepted(vendor)
            | Push::Delivered(vendor)
            | Push::TakenBack(vendor) => Some(vendor),
            Push::None | Push::Withheld | Push::Lost => {
                delivery.timeline.iter().rev().find_map(|entry| entry.vendor)
            }
        };
        Self {
            device,
            state: delivery.state.name(),
            counts_as: delivery.bucket,
            vendor,
            reason: delivery.reason().to_owned(),
            recall: delivery.recall.as_ref().map(|recall| recall.outcome),
            updated_at_ms: delivery.timeline.last().map(|entry| entry.at_ms),
        }
    }
}

/// The same as a row of a file.
pub(crate) fn row(device: &str, delivery: &Delivery) -> serde_json::Value {
    serde_json::json!(Row::of(device.to_owned(), delivery))
}

/// Deliveries by device.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/messages/{message}/deliveries",
    tag = "messages",
    params(PageQuery),
    responses((status = 200, description = "One page", body = Listed<Row>)),
)]
pub(super) async fn list(
    Guarded { app, .. }: Guarded<READ>,
    Params((_, id)): Params<(String, String)>,
    page: Page,
    State(shared): State<Api>,
) -> Result<axum::Json<Listed<Row>>, Problem> {
    let id = message_id(&id)?;
    let read = move |tx: &Tx<'_>| {
        messages::load(tx, &app, id)?.ok_or_else(|| Problem::new(Errno::MessageUnknown))?;
        let read = |from: Option<&str>, order, limit| deliveries::page(tx, &app, id, from, order, limit);
        Ok::<_, Problem>(page.walk(Order::Forward, read, |(device, _)| device.clone())?)
    };
    let found = shared.store.read(read).await?;
    Ok(found.show(|(device, delivery)| Row::of(device, &delivery)))
}

/// One line of a timeline.
#[derive(Serialize, ToSchema)]
pub(super) struct Line {
    at_ms: u64,
    /// The state from then on.
    state: &'static str,
    #[schema(required)]
    vendor: Option<VendorName>,
    /// What happened and why.
    words: String,
}

impl From<&Entry> for Line {
    fn from(entry: &Entry) -> Self {
        Self { at_ms: entry.at_ms, state: entry.state.name(), vendor: entry.vendor, words: words(entry) }
    }
}

/// A delivery with its story.
#[derive(Serialize, ToSchema)]
pub(super) struct DeliveryTrace {
    device: String,
    /// How far it got.
    #[schema(example = "vendor_accepted")]
    state: &'static str,
    /// In which part of the funnel it is.
    counts_as: Bucket,
    /// Which vendor it went to, or is to go to.
    #[schema(required)]
    vendor: Option<VendorName>,
    /// Why it is there, in words.
    reason: String,
    /// What came of taking it back from its vendor; `null` where nobody wanted that or no vendor has it.
    #[schema(required)]
    recall: Option<Outcome>,
    #[schema(required)]
    updated_at_ms: Option<u64>,
    strategy: &'static str,
    /// Which of the message's languages the device gets; `null` for the default one.
    #[schema(required)]
    language: Option<String>,
    /// How often a vendor was called.
    attempts: u32,
    /// Whether some call's outcome stayed unknown.
    outcome_unknown: bool,
    timeline: Vec<Line>,
    /// Lines that were left out in the middle.
    timeline_left_out: u64,
}

/// One delivery with its timeline.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/messages/{message}/deliveries/{device}",
    tag = "messages",
    responses((status = 200, description = "The delivery with its timeline", body = DeliveryTrace)),
)]
pub(super) async fn show(
    Guarded { app, .. }: Guarded<READ>,
    Params((_, id, device)): Params<(String, String, String)>,
    State(shared): State<Api>,
) -> Result<axum::Json<DeliveryTrace>, Problem> {
    let (id, wanted) = (message_id(&id)?, device.clone());
    let delivery = shared
        .store
        .read(move |tx| {
            messages::load(tx, &app, id)?.ok_or_else(|| Problem::new(Errno::MessageUnknown))?;
            let delivery = deliveries::load(tx, &app, id, &wanted)?;
            delivery.ok_or_else(|| Problem::new(Errno::DeliveryUnknown))
        })
        .await?;
    let Row { device, state, counts_as, vendor, reason, recall, updated_at_ms } = Row::of(device, &delivery);
    Ok(axum::Json(DeliveryTrace {
        device,
        state,
        counts_as,
        vendor,
        reason,
        recall,
        updated_at_ms,
        strategy: delivery.strategy.name(),
        language: delivery.language.clone(),
        attempts: delivery.attempts,
        outcome_unknown: delivery.is_unknown,
        timeline: delivery.timeline.iter().map(Line::from).collect(),
        timeline_left_out: delivery.left_out,
    }))
}

/// A message on its way to a device.
#[derive(Serialize, ToSchema)]
pub(super) struct DeviceDelivery {
    /// The message's id.
    message: String,
    /// The first line of what it shows.
    #[schema(required)]
    title: Option<String>,
    accepted_at_ms: u64,
    delivery: Row,
}

/// What became of the app's newest messages on one device, newest first: of the newest 1,000, those that were for it.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/devices/{device}/deliveries",
    tag = "devices",
    params(PageQuery),
    responses((status = 200, description = "One page", body = Listed<DeviceDelivery>)),
)]
pub(super) async fn of_device(
    Guarded { app, .. }: Guarded<READ>,
    Params((_, device)): Params<(String, String)>,
    page: Page,
    State(shared): State<Api>,
) -> Result<axum::Json<Listed<DeviceDelivery>>, Problem> {
    let id = device.clone();
    let read = move |tx: &Tx<'_>| {
        let mut found = Vec::new();
        for message in messages::list(tx, &app, None, MESSAGES_MAX)? {
            if let Some(delivery) = deliveries::load(tx, &app, message.id, &id)? {
                found.push((message, delivery));
            }
        }
        Ok::<_, Problem>(found)
    };
    let all = shared.store.read(read).await?;
    let found = page.cut(&all, |(message, _)| message.id.to_string())?;
    Ok(found.show(|(message, delivery)| DeviceDelivery {
        message: message.id.to_string(),
        title: message.content.and_then(|content| content.notification?.title),
        accepted_at_ms: message.accepted_at_ms,
        delivery: Row::of(device.clone(), &delivery),
    }))
}

fn words(entry: &Entry) -> String {
    let what = match entry.state {
        Reached::Targeted => "belongs to the audience",
        Reached::Filtered => "left out",
        Reached::Queued => "in the device's queue",
        Reached::OnlineSent => "sent over the socket",
        Reached::OnlineAcked => "taken over the socket",
        Reached::VendorSubmitted => "handed to the vendor",
        Reached::VendorAccepted => "the vendor took it",
        Reached::VendorDelivered => "the vendor delivered it",
        Reached::Shown => "shown",
        Reached::Clicked => "opened by the user",
        Reached::Dismissed => "put away by the user",
        Reached::Expired => "expired",
        Reached::Recalled => "recalled",
        Reached::SuppressedDrainedOnline => "push cancelled",
        Reached::SuppressedCap => "not pushed: the user has had enough for now",
        Reached::SuppressedQuiet => "not pushed: quiet hours",
        Reached::Failed => "failed",
    };
    match (entry.reason.as_str(), entry.vendor) {
        ("", Some(vendor)) => format!("{what}; waits for {vendor}"),
        ("", None) => what.to_owned(),
        (reason, _) => format!("{what}: {reason}"),
    }
}
