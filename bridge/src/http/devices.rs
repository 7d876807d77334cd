//! `/v1/apps/{app}/devices`: devices, their aliases, tags, tokens and presence.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::body::{Json, Page, Params};
use super::credentials::vendor;
use super::guard::{Guarded, READ, SEND};
use super::problem::{Errno, Problem};
use crate::devices::{self, ALIASES_MAX, Attributes, Device, Presence, TAGS_MAX, is_device_id, is_label};
use crate::store::{StoreError, keys};
use crate::tokens::{self, Token, TokenState};
use crate::vendor::DeviceToken;

/// One alias means the alias type `user`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Alias {
    User(String),
    ByType(BTreeMap<String, String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeviceBody {
    #[serde(default)]
    alias: Option<Alias>,
    #[serde(default)]
    tags: BTreeSet<String>,
    platform: Option<String>,
    app_version: Option<String>,
    language: Option<String>,
    timezone: Option<String>,
}

type Parts = (BTreeMap<String, String>, BTreeSet<String>, Attributes);

impl DeviceBody {
    fn check(self) -> Result<Parts, Problem> {
        let alias = match self.alias {
            None => BTreeMap::new(),
            Some(Alias::User(alias)) => BTreeMap::from([("user".to_owned(), alias)]),
            Some(Alias::ByType(alias)) => alias,
        };
        let attributes = Attributes {
            platform: self.platform,
            app_version: self.app_version,
            language: self.language,
            timezone: self.timezone,
        };
        if alias.len() > ALIASES_MAX || !alias.iter().all(|(kind, alias)| is_label(kind) && is_label(alias)) {
            return Err(Problem::field(
                "/alias",
                "has at most 10 types, each text 1 to 256 bytes without controls",
            ));
        }
        if self.tags.len() > TAGS_MAX || !self.tags.iter().all(|tag| is_label(tag)) {
            return Err(Problem::field(
                "/tags",
                "has at most 100 tags, each 1 to 256 bytes without controls",
            ));
        }
        if let Some(name) = attributes.too_long() {
            return Err(Problem::field(format!("/{name}"), "has at most 64 bytes"));
        }
        Ok((alias, self.tags, attributes))
    }
}

fn device_id(id: String) -> Result<String, Problem> {
    match is_device_id(&id) {
        true => Ok(id),
        false => {
            Err(Problem::because(Errno::DeviceUnknown, "a device id is a client id of 1 to 1,024 bytes"))
        }
    }
}

/// Sets alias, tags and attributes; tokens stay.
pub(super) async fn set(
    Guarded { app, .. }: Guarded<SEND>,
    Params((_, id)): Params<(String, String)>,
    State(shared): State<Api>,
    Json(body, _): Json<DeviceBody>,
) -> Result<impl IntoResponse, Problem> {
    let (id, (alias, tags, attributes)) = (device_id(id)?, body.check()?);
    let (status, device) = shared
        .store
        .write(move |tx| {
            let is_new = devices::load(tx, &app, &id)?.is_none();
            let mut device = devices::load_or_new(tx, &app, &id)?;
            (device.alias, device.tags, device.attributes) = (alias, tags, attributes);
            devices::save(tx, &app, &device)?;
            device.updated_at_ms = tx.now_ms();
            Ok::<_, StoreError>((if is_new { StatusCode::CREATED } else { StatusCode::OK }, device))
        })
        .await?;
    Ok((status, axum::Json(show_device(&device))))
}

/// One device.
pub(super) async fn show(
    Guarded { app, .. }: Guarded<READ>,
    Params((_, id)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let device = shared.store.read(move |tx| devices::load(tx, &app, &id)).await?;
    device.map(|device| axum::Json(show_device(&device))).ok_or_else(|| Problem::new(Errno::DeviceUnknown))
}

/// Forgets a device with its tokens. Its session at the broker stays.
pub(super) async fn remove(
    Guarded { app, .. }: Guarded<SEND>,
    Params((_, id)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    match shared.store.write(move |tx| devices::remove(tx, &app, &id)).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::new(Errno::DeviceUnknown)),
    }
}

/// Devices by id.
pub(super) async fn list(
    Guarded { app, .. }: Guarded<READ>,
    page: Page,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let (after, limit) = (page.after.clone(), page.limit);
    let found = shared
        .store
        .read(move |tx| {
            let ids = devices::ids_after(tx, &keys::devices(&app), after.as_deref(), limit)?;
            ids.iter()
                .filter_map(|id| devices::load(tx, &app, id).transpose())
                .collect::<Result<Vec<_>, StoreError>>()
        })
        .await?;
    let last = found.last().map(|device| device.id.clone());
    Ok(page.answer(found.iter().map(show_device).collect(), last))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenBody {
    token: String,
}

/// Registers or rotates a device's token at a vendor.
pub(super) async fn set_token(
    Guarded { app, .. }: Guarded<SEND>,
    Params((_, id, name)): Params<(String, String, String)>,
    State(shared): State<Api>,
    Json(body, _): Json<TokenBody>,
) -> Result<impl IntoResponse, Problem> {
    let (id, vendor) = (device_id(id)?, vendor(&name)?);
    let token =
        DeviceToken::parse(&body.token).map_err(|error| Problem::field("/token", error.to_string()))?;
    let device = shared
        .store
        .write(move |tx| {
            let mut device = devices::load_or_new(tx, &app, &id)?;
            tokens::register(tx, &app, &mut device, vendor, token)?;
            devices::save(tx, &app, &device)?;
            Ok::<_, StoreError>(device)
        })
        .await?;
    let shown = device.tokens.iter().find(|token| token.vendor == vendor).map(show_token);
    Ok(axum::Json(json!({"device": device.id, "token": shown})))
}

/// What is known of a device's connection.
pub(super) async fn presence(
    Guarded { app, .. }: Guarded<READ>,
    Params((_, id)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let (presence, is_known) = shared
        .store
        .read(move |tx| {
            let presence = devices::presence(tx, &app, &id)?;
            Ok::<_, StoreError>((presence, devices::load(tx, &app, &id)?.is_some()))
        })
        .await?;
    match presence {
        Some(presence) => Ok(axum::Json(presence)),
        None if is_known => Ok(axum::Json(Presence::default())), // it never connected
        None => Err(Problem::new(Errno::DeviceUnknown)),
    }
}

fn show_device(device: &Device) -> Value {
    json!({
        "id": device.id,
        "alias": device.alias,
        "tags": device.tags,
        "platform": device.attributes.platform,
        "app_version": device.attributes.app_version,
        "language": device.attributes.language,
        "timezone": device.attributes.timezone,
        "tokens": device.tokens.iter().map(show_token).collect::<Vec<_>>(),
        "created_at_ms": device.created_at_ms,
        "updated_at_ms": device.updated_at_ms,
    })
}

/// Without the whole token: whoever has it and a key can push to the device.
fn show_token(token: &Token) -> Value {
    let start: String = token.token.as_str().chars().take(8).collect();
    let (state, reason, at_ms) = match &token.state {
        TokenState::Active => ("active", None, None),
        TokenState::Dead { reason, at_ms } => ("dead", Some(reason), Some(at_ms)),
    };
    json!({
        "vendor": token.vendor,
        "token_starts_with": start,
        "registered_at_ms": token.registered_at_ms,
        "state": state,
        "dead_reason": reason,
        "dead_at_ms": at_ms,
    })
}
