//! `PATCH /v1/apps/{app}/messages/{message}`: another content for whoever was not shown the message yet.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use reveille_proto::bridge::Strategy;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::send::{check_data, check_notification};
use super::{MessageView, find, with_funnel};
use crate::http::Api;
use crate::http::body::{Errors, Json, Params, message_id};
use crate::http::etag::IfMatch;
use crate::http::guard::{Limited, SEND};
use crate::http::problem::{Errno, Problem};
use crate::jobs;
use crate::messages::{self, Message, Notification, Origin};
use crate::queues::{self, Out};
use crate::store::Tx;
use crate::templates;
use crate::vendor::VendorName;

/// What is given takes the place of what the message had; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"notification": {"title": "Order 7 comes tomorrow"}}))]
pub(in crate::http) struct MessagePatch {
    notification: Option<Notification>,
    #[schema(value_type = Option<Object>)]
    data: Option<Map<String, Value>>,
    #[schema(value_type = Option<Object>)]
    overrides: Option<BTreeMap<VendorName, Map<String, Value>>>,
}

impl MessagePatch {
    /// The message with the new content, which must be one that could be sent.
    fn apply(self, message: &mut Message) -> Result<(), Problem> {
        let mut content = message.content.take().unwrap_or_default();
        if let Some(mut notification) = self.notification {
            let category = content.notification.take().and_then(|old| old.category);
            notification.category = notification.category.or(category);
            content.notification = Some(notification);
            (content.is_personal, message.template) = (false, None); // its texts are as they stand here
        }
        content.data = self.data.unwrap_or(content.data);
        let mut errors = Errors::default();
        check_notification(content.notification.as_ref(), content.data.is_empty(), &mut errors);
        check_data(&content.data, &mut errors);
        if let Err(wrong) = templates::check_personal(&content) {
            errors.add("/data", format!("does not fill {}: {wrong}", wrong.field));
        }
        errors.or_ok()?;
        message.content = Some(content);
        if let Some(overrides) = self.overrides {
            let values = overrides.into_iter().map(|(vendor, fields)| (vendor, Value::Object(fields)));
            message.overrides = values.collect();
        }
        message.revision = message.revision.saturating_add(1);
        Ok(())
    }
}

/// Overrides a message: who was not reached yet gets the new content, and where a vendor has the old one and nobody saw it as
/// far as we know, the new one goes there under the same id, by which the vendor replaces it. What a device took over its
/// socket, or said that it showed, stays.
#[utoipa::path(
    patch,
    path = "/v1/apps/{app}/messages/{message}",
    tag = "messages",
    request_body = MessagePatch,
    responses((status = 200, description = "The message with its funnel", body = MessageView)),
)]
pub(in crate::http) async fn replace(
    Limited { app, caller }: Limited<SEND>,
    Params((_, id)): Params<(String, String)>,
    headers: HeaderMap,
    State(shared): State<Api>,
    Json(patch, _): Json<MessagePatch>,
) -> Result<impl IntoResponse + use<>, Problem> {
    let (id, if_match) = (message_id(&id)?, IfMatch::of(&headers));
    let work = move |tx: &mut Tx<'_>| {
        let mut message = find(tx, &app, id, &caller)?;
        if_match.check(Some(&message))?;
        check_open(&message, tx.now_ms())?;
        patch.apply(&mut message)?;
        messages::save(tx, &message)?;
        if message.strategy != Strategy::VendorOnly || !message.by_vendor.is_empty() {
            // Out of the queues with the old one; the job puts the new one there.
            queues::tell_broker(tx, &Out::Withdraw { app: app.clone(), message: id, devices: Vec::new() })?;
        }
        jobs::replace(tx, &app, id)?;
        Ok::<_, Problem>(with_funnel(tx, message)?)
    };
    let (message, funnel) = shared.store.write(work).await?;
    Ok(MessageView::answer(message, funnel, shared.store.now_ms()))
}

fn check_open(message: &Message, now_ms: u64) -> Result<(), Problem> {
    let why = match message {
        Message { recalled_at_ms: Some(_), .. } => "it was withdrawn",
        Message { expires_at_ms: Some(end_ms), .. } if *end_ms <= now_ms => "its time is over",
        Message { origin: Origin::Mqtt { .. }, .. } => {
            "it is a publisher's: publish again with its collapse key"
        }
        Message { .. } => return Ok(()),
    };
    Err(Problem::because(Errno::MessageOver, why))
}
