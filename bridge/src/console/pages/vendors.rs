//! Credentials at vendors: set, rotate, try, remove.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use maud::html;
use serde_json::{Map, Value, json};

use super::compose::wrong_field;
use super::overview::is_open;
use super::{Page, done};
use crate::apps::Access;
use crate::console::Here;
use crate::console::door::{Refusal, encode};
use crate::console::form::{Fields, Posted};
use crate::console::view::broker::items;
use crate::console::view::fields::Filled;
use crate::console::view::vendors::{
    Credential, Entry, credential_fields, detail, list as list_view, recorded,
};
use crate::console::visitor::Visitor;
use crate::console::words;
use crate::lane::CredentialName;
use crate::vendor::VendorName;

/// Pushes of the record vendor that are shown.
const RECORDED: usize = 20;

/// Every vendor; those that are set come first.
pub(in crate::console) async fn list(
    visitor: Visitor,
    State(console): State<Here>,
    Path(app): Path<String>,
) -> Response {
    let made = async {
        let known = known(&console, &visitor, &app).await?;
        let at = |vendor: VendorName| {
            let own = known.iter().filter(|(name, _)| *name == vendor);
            own.map(|(_, known)| known.clone()).collect::<Vec<_>>()
        };
        let mut rows: Vec<_> = VendorName::ALL.into_iter().map(|vendor| (vendor, at(vendor))).collect();
        rows.sort_by_key(|(_, credentials)| credentials.is_empty());
        let context = visitor.context(Some(&app));
        Ok(Page::new(context.texts.vendors, "vendors", list_view(&context, &rows)))
    };
    visitor.answer(Some(&app), made.await)
}

async fn known(
    console: &Here,
    visitor: &Visitor,
    app: &str,
) -> Result<Vec<(VendorName, Credential)>, Refusal> {
    let id = visitor.check(app, Access::Admin)?;
    let answer = console.door.get(&visitor.caller, &format!("/v1/apps/{}/credentials", encode(app))).await?;
    let read = |item: &Value| {
        let vendor = item.get("vendor")?.as_str()?.parse().ok()?;
        let name = item.get("name")?.as_str()?;
        let number = |name: &str| item.get(name).and_then(Value::as_u64);
        Some((
            vendor,
            Credential {
                name: name.to_owned(),
                summary: item.get("summary")?.as_str()?.to_owned(),
                updated_at_ms: number("updated_at_ms").unwrap_or(0),
                rates: item.get("rates").cloned().unwrap_or_default(),
                ends_at_ms: number("ends_at_ms"),
                is_open: CredentialName::parse(name).is_ok_and(|name| is_open(console, &id, vendor, &name)),
            },
        ))
    };
    Ok(items(&answer).iter().filter_map(read).collect())
}

/// One vendor.
pub(in crate::console) async fn show(
    visitor: Visitor,
    State(console): State<Here>,
    Path((app, vendor)): Path<(String, String)>,
) -> Response {
    let made = page(&console, &visitor, &app, &vendor, &Filled::default(), None).await;
    visitor.answer(Some(&app), made)
}

async fn page(
    console: &Here,
    visitor: &Visitor,
    app: &str,
    vendor: &str,
    filled: &Filled,
    trial: Option<&Result<Value, Refusal>>,
) -> Result<Page, Refusal> {
    let vendor = parse(vendor)?;
    let known = known(console, visitor, app).await?;
    let own: Vec<_> = known.into_iter().filter(|(name, _)| *name == vendor).map(|(_, known)| known).collect();
    let context = visitor.context(Some(app));
    let record = match vendor {
        VendorName::Record if !own.is_empty() => {
            let path = format!("/v1/apps/{}/record?limit={RECORDED}", encode(app));
            Some(console.door.get(&visitor.caller, &path).await?)
        }
        _ => None,
    };
    let body = html! {
        (detail(&context, vendor, &own, filled, trial))
        @if let Some(record) = &record { (recorded(context.texts, items(record))) }
    };
    Ok(Page::new(words::vendor(vendor), "vendors", body))
}

fn parse(vendor: &str) -> Result<VendorName, Refusal> {
    vendor.parse().map_err(|_| Refusal::missing())
}

/// Sets a credential in place of the one before.
pub(in crate::console) async fn set(
    State(console): State<Here>,
    Path((app, vendor)): Path<(String, String)>,
    posted: Posted,
) -> Response {
    let Posted { visitor, fields } = posted;
    match keep(&console, &visitor, &app, &vendor, &fields).await {
        Ok(()) => done(&format!("/console/apps/{app}/vendors/{vendor}"), "done_saved"),
        Err(refused) => {
            let filled = Filled { fields, refusal: Some(refused) };
            let made = page(&console, &visitor, &app, &vendor, &filled, None).await;
            visitor.answer_as(StatusCode::UNPROCESSABLE_ENTITY, Some(&app), made)
        }
    }
}

async fn keep(
    console: &Here,
    visitor: &Visitor,
    app: &str,
    vendor: &str,
    fields: &Fields,
) -> Result<(), Refusal> {
    let body = credential(parse(vendor)?, fields)?;
    let path = path(app, vendor, fields);
    console.door.put(&visitor.caller, &path, &Value::Object(body)).await.map(|_| ())
}

/// Where the credential of this name is; without a name it is the usual one.
fn path(app: &str, vendor: &str, fields: &Fields) -> String {
    let name = fields.some("name").unwrap_or(CredentialName::DEFAULT);
    format!("/v1/apps/{}/credentials/{}/{}", encode(app), encode(vendor), encode(name))
}

/// The credential as the API takes it.
fn credential(vendor: VendorName, fields: &Fields) -> Result<Map<String, Value>, Refusal> {
    let mut body = Map::new();
    if let Some(more) = fields.some("more") {
        body = serde_json::from_str(more).map_err(|error| wrong_field("/more", &error.to_string()))?;
    }
    for (name, entry, _) in credential_fields(vendor) {
        let Some(text) = fields.some(name) else { continue };
        let wrong = |message: &str| wrong_field(&format!("/{name}"), message);
        let value = match entry {
            Entry::Number => text.parse::<u64>().map_err(|_| wrong("is a number"))?.into(),
            Entry::Object => serde_json::from_str(text).map_err(|error| wrong(&error.to_string()))?,
            Entry::Text | Entry::Secret | Entry::Pem | Entry::Choice(_) => Value::from(text),
        };
        body.insert((*name).to_owned(), value);
    }
    let mut rates = Map::new();
    for name in ["per_second", "per_day"] {
        if let Some(text) = fields.some(name) {
            let rate =
                text.parse::<u64>().map_err(|_| wrong_field(&format!("/rates/{name}"), "is a number"))?;
            rates.insert(name.to_owned(), rate.into());
        }
    }
    if !rates.is_empty() {
        body.insert("rates".to_owned(), Value::Object(rates));
    }
    Ok(body)
}

/// Sends one alert to a device token, and shows what the vendor said.
pub(in crate::console) async fn test(
    State(console): State<Here>,
    Path((app, vendor)): Path<(String, String)>,
    posted: Posted,
) -> Response {
    let Posted { visitor, fields } = posted;
    let path = format!("{}:test", path(&app, &vendor, &fields));
    let trial = console.door.post(&visitor.caller, &path, &json!({"token": fields.text("token")})).await;
    let made = page(&console, &visitor, &app, &vendor, &Filled::default(), Some(&trial)).await;
    visitor.answer(Some(&app), made)
}

/// Removes a credential.
pub(in crate::console) async fn remove(
    State(console): State<Here>,
    Path((app, vendor)): Path<(String, String)>,
    posted: Posted,
) -> Response {
    let path = path(&app, &vendor, &posted.fields);
    match console.door.delete(&posted.visitor.caller, &path).await {
        Ok(_) => done(&format!("/console/apps/{app}/vendors"), "done_removed"),
        Err(refused) => posted.visitor.answer(Some(&app), Err(refused)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_becomes_the_credential_that_the_api_takes() {
        let fields = Fields::of(&[
            ("app_id", "7"),
            ("app_key", "k"),
            ("app_secret", "s"),
            ("category", ""),
            ("per_second", "5"),
            ("more", "{\"is_test\": true}"),
        ]);
        let wanted = json!({"app_id": 7, "app_key": "k", "app_secret": "s", "is_test": true, "rates": {"per_second": 5}});
        assert_eq!(Value::Object(credential(VendorName::Vivo, &fields).unwrap()), wanted);
        let refused = credential(VendorName::Vivo, &Fields::of(&[("app_id", "x")])).unwrap_err();
        assert_eq!(refused.errors[0].0, "/app_id");
    }
}
