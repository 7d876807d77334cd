//! Devices: their list and search, one of them, registering and removing.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use maud::html;
use reveille_proto::ids::AppId;
use serde_json::{Value, json};

use super::{Page, done};
use crate::apps::Access;
use crate::console::Here;
use crate::console::door::{Refusal, encode};
use crate::console::form::{Fields, Posted, Query};
use crate::console::view::broker::items;
use crate::console::view::devices::{Detail, DeviceRow, LastDelivery, actions, detail, list as list_view};
use crate::console::view::fields::Filled;
use crate::console::view::messages::MessageRow;
use crate::console::view::parts::pager;
use crate::console::visitor::Visitor;
use crate::deliveries::{self, Funnel};
use crate::devices;
use crate::messages;
use crate::store::{Order, Space, StoreError, Tx, keys};

/// Devices on one page.
const PAGE: usize = 50;
/// Messages in which a device's last deliveries are looked for.
const MESSAGES_MAX: usize = 200;
/// Deliveries of one device that are shown.
const DELIVERIES_MAX: usize = 20;

/// The list by id, or what a search finds.
pub(in crate::console) async fn list(
    visitor: Visitor,
    State(console): State<Here>,
    Path(app): Path<String>,
    Query(query): Query,
) -> Response {
    let made = listed(&console, &visitor, &app, &query, &Filled::default()).await;
    visitor.answer(Some(&app), made)
}

async fn listed(
    console: &Here,
    visitor: &Visitor,
    app: &str,
    query: &Fields,
    filled: &Filled,
) -> Result<Page, Refusal> {
    let id = visitor.check(app, Access::Read)?;
    let (text, after) = (query.text("q"), query.some("after"));
    let (found, wrong) = match find(console, visitor, &id, text, after).await {
        Ok(found) => (found, None),
        Err(refused) if refused.status == 400 => (Found::default(), Some(refused)), // an expression with a mistake
        Err(refused) => return Err(refused),
    };
    let context = visitor.context(Some(app));
    let base = format!("{}?q={}", context.path("/devices"), encode(text));
    let next = found.next.map(|next| format!("{base}&after={}", encode(&next)));
    let body = html! {
        (list_view(&context, text, &found.rows, filled, wrong.as_ref()))
        (pager(context.texts, after.map(|_| base.as_str()), next.as_deref()))
    };
    Ok(Page::new(context.texts.devices, "devices", body))
}

#[derive(Default)]
struct Found {
    rows: Vec<DeviceRow>,
    /// Where the next page begins.
    next: Option<String>,
}

/// Devices that an expression means, or whose id begins with the text.
async fn find(
    console: &Here,
    visitor: &Visitor,
    app: &AppId,
    text: &str,
    after: Option<&str>,
) -> Result<Found, Refusal> {
    if !is_expression(text) {
        let (app, text, after) = (app.clone(), text.to_owned(), after.map(str::to_owned));
        let look = move |tx: &Tx<'_>| ids_beginning_with(tx, &app, &text, after.as_deref());
        return Ok(console.shared.store.read(look).await?);
    }
    let after = after.map(|after| format!("&after={}", encode(after))).unwrap_or_default();
    let path = format!("/v1/apps/{app}/devices?limit={PAGE}&filter={}{after}", encode(text));
    let answer = console.door.get(&visitor.caller, &path).await?;
    let id = |item: &Value| item.get("id").and_then(Value::as_str).map(str::to_owned);
    let ids: Vec<String> = items(&answer).iter().filter_map(id).collect();
    let next = answer.pointer("/page/next").and_then(Value::as_str).map(str::to_owned);
    let app = app.clone();
    let load = move |tx: &Tx<'_>| ids.iter().filter_map(|id| row(tx, &app, id).transpose()).collect();
    let rows = console.shared.store.read::<Vec<_>, StoreError>(load).await?;
    Ok(Found { rows, next })
}

/// Ids hold such characters seldom; whoever looks for one that does writes `device:` before it.
fn is_expression(text: &str) -> bool {
    text.contains([':', '&', '|', '!', '<', '>', '=']) || text == "online" || text == "all"
}

fn ids_beginning_with(
    tx: &Tx<'_>,
    app: &AppId,
    text: &str,
    after: Option<&str>,
) -> Result<Found, StoreError> {
    let all = keys::devices(app);
    let begin = [all.as_slice(), text.as_bytes()].concat();
    let after = after.map(|after| keys::device(app, after));
    let found = tx.scan(Space::Devices, &begin, after.as_deref(), Order::Forward, PAGE)?;
    let ids: Vec<_> = found.iter().filter_map(|(key, _)| keys::text_after(key, &all)).collect();
    let next = ids.last().filter(|_| ids.len() == PAGE).cloned();
    let rows = ids.iter().filter_map(|id| row(tx, app, id).transpose()).collect::<Result<_, StoreError>>()?;
    Ok(Found { rows, next })
}

pub(super) fn row(tx: &Tx<'_>, app: &AppId, id: &str) -> Result<Option<DeviceRow>, StoreError> {
    let Some(device) = devices::load(tx, app, id)? else { return Ok(None) };
    let presence = devices::presence(tx, app, id)?;
    Ok(Some(DeviceRow { device, presence }))
}

/// One device.
pub(in crate::console) async fn show(
    visitor: Visitor,
    State(console): State<Here>,
    Path((app, device)): Path<(String, String)>,
) -> Response {
    let made = async {
        let id = visitor.check(&app, Access::Read)?;
        let wanted = device.clone();
        let texts = visitor.texts();
        let look = move |tx: &Tx<'_>| {
            let Some(row) = row(tx, &id, &wanted)? else { return Ok(None) };
            Ok::<_, StoreError>(Some((row, last_deliveries(tx, &id, &wanted, texts)?)))
        };
        let found = console.shared.store.read(look).await?;
        let (row, deliveries) = found.ok_or_else(no_device)?;
        let session = at_broker(&console, &visitor, &app, &device, "").await;
        let queue = at_broker(&console, &visitor, &app, &device, "/queue?limit=50").await;
        let found = Detail { row, deliveries, session, queue };
        let context = visitor.context(Some(&app));
        Ok(Page {
            title: device.clone(),
            section: "devices",
            actions: Some(actions(&context, &found.row.device)),
            body: detail(&context, &found),
        })
    };
    visitor.answer(Some(&app), made.await)
}

fn no_device() -> Refusal {
    Refusal { code: "device_unknown".to_owned(), ..Refusal::new(404, "No such device") }
}

/// What the broker knows of the device, for the operator, where there is a broker in this process.
async fn at_broker(console: &Here, visitor: &Visitor, app: &str, device: &str, rest: &str) -> Option<Value> {
    if !visitor.caller.is_operator() {
        return None;
    }
    let path = format!("/v1/broker/apps/{}/sessions/{}{rest}", encode(app), encode(device));
    console.door.get(&visitor.caller, &path).await.ok()
}

fn last_deliveries(
    tx: &Tx<'_>,
    app: &AppId,
    device: &str,
    texts: &crate::console::texts::Texts,
) -> Result<Vec<LastDelivery>, StoreError> {
    let mut found = Vec::new();
    for message in messages::list(tx, app, None, MESSAGES_MAX)? {
        let Some(delivery) = deliveries::load(tx, app, message.id, device)? else { continue };
        let path = format!("/messages/{}/devices/{}", message.id, encode(device));
        let row = MessageRow { message, funnel: Funnel::default(), state: String::new() };
        found.push(LastDelivery {
            message: path,
            title: row.title(texts),
            state: delivery.state,
            at_ms: delivery.timeline.last().map(|entry| entry.at_ms),
        });
        if found.len() == DELIVERIES_MAX {
            break;
        }
    }
    Ok(found)
}

/// Registers a device, with a token where one is given.
pub(in crate::console) async fn register(
    State(console): State<Here>,
    Path(app): Path<String>,
    posted: Posted,
) -> Response {
    let Posted { visitor, fields } = posted;
    match keep(&console, &visitor, &app, &fields).await {
        Ok(path) => done(&path, "done_registered"),
        Err(refused) => {
            let filled = Filled { fields, refusal: Some(refused) };
            let page = listed(&console, &visitor, &app, &Fields::default(), &filled).await;
            visitor.answer_as(StatusCode::UNPROCESSABLE_ENTITY, Some(&app), page)
        }
    }
}

async fn keep(console: &Here, visitor: &Visitor, app: &str, fields: &Fields) -> Result<String, Refusal> {
    let caller = &visitor.caller;
    let path = format!("/v1/apps/{}/devices/{}", encode(app), encode(fields.text("id")));
    let mut body = fields.object(&["platform"]);
    body.insert("tags".to_owned(), json!(fields.list("tags")));
    if let Some(user) = fields.some("user") {
        body.insert("alias".to_owned(), json!({"user": user}));
    }
    console.door.put(caller, &path, &Value::Object(body)).await?;
    if let Some(vendor) = fields.some("vendor") {
        let token = json!({"token": fields.text("token")});
        console.door.put(caller, &format!("{path}/tokens/{}", encode(vendor)), &token).await?;
    }
    Ok(format!("/console/apps/{app}/devices/{}", encode(fields.text("id"))))
}

/// Forgets a device with its tokens.
pub(in crate::console) async fn remove(
    State(console): State<Here>,
    Path((app, device)): Path<(String, String)>,
    posted: Posted,
) -> Response {
    let path = format!("/v1/apps/{}/devices/{}", encode(&app), encode(&device));
    match console.door.delete(&posted.visitor.caller, &path).await {
        Ok(_) => done(&format!("/console/apps/{app}/devices"), "done_removed"),
        Err(refused) => posted.visitor.answer(Some(&app), Err(refused)),
    }
}
