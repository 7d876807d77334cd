//! `/v1/apps/{app}/messages/{message}/deliveries`: what became of a message on each device.

use axum::extract::State;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::Api;
use super::body::{Page, PageQuery, Params, message_id};
use super::guard::{Guarded, READ};
use super::problem::{Errno, Problem};
use crate::deliveries::{self, Delivery, Entry, State as Reached};
use crate::messages;
use crate::plan::Push;

/// Deliveries by device.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/messages/{message}/deliveries",
    tag = "messages",
    params(PageQuery),
    responses((status = 200, description = "One page", body = Object)),
)]
pub(super) async fn list(
    Guarded { app, .. }: Guarded<READ>,
    Params((_, id)): Params<(String, String)>,
    page: Page,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let id = message_id(&id)?;
    let (after, limit) = (page.after.clone(), page.limit);
    let found = shared
        .store
        .read(move |tx| {
            messages::load(tx, &app, id)?.ok_or_else(|| Problem::new(Errno::MessageUnknown))?;
            Ok::<_, Problem>(deliveries::list(tx, &app, id, after.as_deref(), limit)?)
        })
        .await?;
    let last = found.last().map(|(device, _)| device.clone());
    Ok(page.answer(found.iter().map(|(device, delivery)| row(device, delivery)).collect(), last))
}

/// One delivery with its timeline.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/messages/{message}/deliveries/{device}",
    tag = "messages",
    responses((status = 200, description = "The delivery with its timeline", body = Object)),
)]
pub(super) async fn show(
    Guarded { app, .. }: Guarded<READ>,
    Params((_, id, device)): Params<(String, String, String)>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let (id, wanted) = (message_id(&id)?, device.clone());
    let delivery = shared
        .store
        .read(move |tx| {
            messages::load(tx, &app, id)?.ok_or_else(|| Problem::new(Errno::MessageUnknown))?;
            let delivery = deliveries::load(tx, &app, id, &wanted)?;
            delivery.ok_or_else(|| Problem::new(Errno::DeliveryUnknown))
        })
        .await?;
    let mut answer = row(&device, &delivery);
    if let Value::Object(fields) = &mut answer {
        fields.insert("strategy".to_owned(), delivery.strategy.name().into());
        fields.insert("language".to_owned(), delivery.language.clone().into());
        fields.insert("attempts".to_owned(), delivery.attempts.into());
        fields.insert("outcome_unknown".to_owned(), delivery.is_unknown.into());
        fields.insert("timeline".to_owned(), delivery.timeline.iter().map(line).collect());
        fields.insert("timeline_left_out".to_owned(), delivery.left_out.into());
    }
    Ok(axum::Json(answer))
}

pub(crate) fn row(device: &str, delivery: &Delivery) -> Value {
    let vendor = match delivery.facts.push {
        Push::Queued(vendor) | Push::Submitted(vendor) | Push::Accepted(vendor) | Push::Delivered(vendor) => {
            Some(vendor)
        }
        Push::None | Push::Withheld | Push::Lost => {
            delivery.timeline.iter().rev().find_map(|entry| entry.vendor)
        }
    };
    json!({
        "device": device,
        "state": delivery.state.name(),
        "counts_as": delivery.bucket,
        "vendor": vendor,
        "reason": delivery.reason(),
        "updated_at_ms": delivery.timeline.last().map(|entry| entry.at_ms),
    })
}

fn line(entry: &Entry) -> Value {
    json!({
        "at_ms": entry.at_ms,
        "state": entry.state.name(),
        "vendor": entry.vendor,
        "words": words(entry),
    })
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
