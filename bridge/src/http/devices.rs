//! `/v1/apps/{app}/devices`: devices, their aliases, tags, tokens and presence.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use reveille_proto::ids::AppId;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::body::{Asked, Errors, Json, Params, parse, within};
use super::credentials::vendor;
use super::etag::{self, IfMatch};
use super::guard::{Guarded, READ, SEND};
use super::idempotency::{IdempotencyHeader, Once};
use super::imports;
use super::paging::{Found, Listed, Page};
use super::problem::{Errno, Problem};
use super::tags::DEVICES_MAX;
use crate::audience::{self, Expression};
use crate::devices::{
    self, ALIASES_MAX, ATTRIBUTE_MAX, ATTRIBUTES_MAX, Attributes, Device, Presence, TAGS_MAX, USER,
    is_attribute_name, is_device_id, is_label,
};
use crate::imports::{Done, NotDone};
use crate::index::DeviceNumber;
use crate::lane::{CredentialName, Home, Registered};
use crate::segments::{self, WriteOutError};
use crate::store::{Order, StoreError, Tx};
use crate::tokens::{self, Token, TokenState};
use crate::vendor::{DeviceToken, Environment, TOKEN_SHOWN, VendorName};

/// One alias means the alias type `user`.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
enum Alias {
    User(String),
    ByType(BTreeMap<String, String>),
}

/// Kept as text: `7` and `"7"` are the same.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
enum AttributeValue {
    Text(String),
    #[schema(value_type = f64)]
    Number(serde_json::Number),
    Truth(bool),
}

impl AttributeValue {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
            Self::Truth(truth) => truth.to_string(),
        }
    }
}

#[derive(Deserialize, ToSchema)]
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
    #[serde(default)]
    attributes: BTreeMap<String, AttributeValue>,
}

impl DeviceBody {
    /// Puts everything into the device in place of what it had.
    fn put_into(self, device: &mut Device) {
        device.alias = match self.alias {
            None => BTreeMap::new(),
            Some(Alias::User(alias)) => BTreeMap::from([(USER.to_owned(), alias)]),
            Some(Alias::ByType(alias)) => alias,
        };
        device.tags = self.tags;
        device.attributes = Attributes {
            platform: self.platform,
            app_version: self.app_version,
            language: self.language,
            timezone: self.timezone,
        };
        let attributes = self.attributes.into_iter();
        device.custom = attributes.map(|(name, value)| (name, value.into_text())).collect();
    }
}

/// What is given is changed, `null` clears, what is not given stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DevicePatch {
    #[schema(value_type = Option<Object>)]
    alias: Option<BTreeMap<String, Option<String>>>,
    tags: Option<BTreeSet<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    platform: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    app_version: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    language: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    timezone: Option<Option<String>>,
    #[schema(value_type = Option<Object>)]
    attributes: Option<BTreeMap<String, Option<AttributeValue>>>,
}

/// Tells `null` from nothing.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(deserializer).map(Some)
}

impl DevicePatch {
    fn put_into(self, device: &mut Device) {
        for (name, value) in self.alias.into_iter().flatten() {
            set_or_clear(&mut device.alias, name, value);
        }
        for (name, value) in self.attributes.into_iter().flatten() {
            set_or_clear(&mut device.custom, name, value.map(AttributeValue::into_text));
        }
        if let Some(tags) = self.tags {
            device.tags = tags;
        }
        let own = &mut device.attributes;
        for (own, new) in [
            (&mut own.platform, self.platform),
            (&mut own.app_version, self.app_version),
            (&mut own.language, self.language),
            (&mut own.timezone, self.timezone),
        ] {
            if let Some(new) = new {
                *own = new;
            }
        }
    }
}

fn set_or_clear(values: &mut BTreeMap<String, String>, name: String, value: Option<String>) {
    match value {
        Some(value) => values.insert(name, value),
        None => values.remove(&name),
    };
}

/// The bounds of what the business says of a device.
fn check(device: &Device) -> Result<(), Problem> {
    let mut errors = Errors::default();
    let is_alias = |(kind, alias): (&String, &String)| is_label(kind) && is_label(alias);
    if device.alias.len() > ALIASES_MAX || !device.alias.iter().all(is_alias) {
        errors.add("/alias", "has at most 10 types, each text 1 to 256 bytes without controls");
    }
    if device.tags.len() > TAGS_MAX || !device.tags.iter().all(|tag| is_label(tag)) {
        errors.add("/tags", "has at most 100 tags, each 1 to 256 bytes without controls");
    }
    if let Some(name) = device.attributes.too_long() {
        errors.add(format!("/{name}"), "has at most 64 bytes");
    }
    if device.custom.len() > ATTRIBUTES_MAX {
        errors.add("/attributes", format!("has at most {ATTRIBUTES_MAX} names"));
    }
    for (name, value) in &device.custom {
        if !is_attribute_name(name) {
            errors.add(
                within("/attributes", name),
                "is no name: 1 to 32 of a-z, 0-9 and _, a letter first, and no word of the audience language",
            );
        } else if value.is_empty() || value.len() > ATTRIBUTE_MAX || value.chars().any(char::is_control) {
            errors.add(format!("/attributes/{name}"), "has 1 to 64 bytes without controls");
        }
    }
    errors.or_ok()
}

fn device_id(id: String) -> Result<String, Problem> {
    match is_device_id(&id) {
        true => Ok(id),
        false => {
            Err(Problem::because(Errno::DeviceUnknown, "a device id is a client id of 1 to 1,024 bytes"))
        }
    }
}

/// Sets aliases, tags and attributes, and clears what is left out; tokens stay.
#[utoipa::path(
    put,
    path = "/v1/apps/{app}/devices/{device}",
    tag = "devices",
    request_body = DeviceBody,
    responses((status = 200, description = "The device", body = DeviceView), (status = 201, description = "The device, which is new", body = DeviceView)),
)]
pub(super) async fn set(
    Guarded { app, .. }: Guarded<SEND>,
    Params((_, id)): Params<(String, String)>,
    headers: HeaderMap,
    State(shared): State<Api>,
    Json(body, _): Json<DeviceBody>,
) -> Result<impl IntoResponse, Problem> {
    let (id, if_match) = (device_id(id)?, IfMatch::of(&headers));
    let work = move |tx: &mut Tx<'_>| write(tx, &app, &id, &if_match, |device| body.put_into(device));
    let (device, is_new) = shared.store.write(work).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, etag::header(&device), axum::Json(DeviceView::from(device))))
}

/// Many devices by id.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ImportBody {
    devices: BTreeMap<String, DeviceBody>,
}

/// What became of many devices.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct Imported {
    /// How many there are now as they were given.
    set: usize,
    /// How many of them are new.
    created: usize,
}

/// Sets many devices as `PUT` sets one: all of them, or none.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/devices:import",
    tag = "devices",
    params(IdempotencyHeader),
    request_body = ImportBody,
    responses((status = 200, description = "How many were set, and how many of them are new", body = Imported)),
)]
pub(super) async fn import(
    Guarded { app, caller }: Guarded<SEND>,
    State(shared): State<Api>,
    headers: HeaderMap,
    Json(body, bytes): Json<ImportBody>,
) -> Result<Response, Problem> {
    let once = Once::making("devices", &app, &caller.key_id, &headers, &bytes)?;
    let count = body.devices.len();
    if !(1..=DEVICES_MAX).contains(&count) {
        return Err(Problem::field("/devices", format!("has 1 to {DEVICES_MAX} devices")));
    }
    let work = move |tx: &mut Tx<'_>| {
        let mut created = 0_usize;
        for (id, body) in body.devices {
            let pointer = within("/devices", &id);
            if !is_device_id(&id) {
                return Err(Problem::field(pointer, "is no client id of 1 to 1,024 bytes"));
            }
            let written = write(tx, &app, &id, &IfMatch::default(), |device| body.put_into(device));
            created += usize::from(written.map_err(|problem| problem.below(&pointer))?.1);
        }
        Ok(Imported { set: count, created })
    };
    let rules = shared.rules;
    Ok(shared.store.write(move |tx| once.run(tx, &rules, work)).await?.answer(StatusCode::OK))
}

/// Sets one device in full, as `PUT` does, with the device tokens that stand beside it.
pub(super) fn import_one(
    tx: &mut Tx<'_>,
    app: &AppId,
    mut fields: serde_json::Map<String, Value>,
) -> Result<Done, NotDone> {
    let id = imports::text(&mut fields, &["id", "device"])?;
    if !is_device_id(&id) {
        return Err(imports::wrong("id is no client id of 1 to 1,024 bytes"));
    }
    let registered = read_tokens(fields.remove("tokens"))?;
    let body: DeviceBody = parse(Value::Object(fields).to_string().as_bytes())?;
    let old = devices::load(tx, app, &id)?;
    let mut device = devices::load_or_new(tx, app, &id)?;
    body.put_into(&mut device);
    check(&device)?;
    let has_tokens = !registered.is_empty();
    for (vendor, token, home) in registered {
        tokens::register(tx, app, &mut device, vendor, token, home)?;
    }
    match old {
        None => devices::save(tx, app, &device).map(|()| Done::Created).map_err(NotDone::Store),
        Some(old) if old == device && !has_tokens => Ok(Done::Same),
        Some(_) => devices::save(tx, app, &device).map(|()| Done::Changed).map_err(NotDone::Store),
    }
}

/// `{"apns": "token"}`, or `{"apns": {"token": …, "environment": …}}`.
fn read_tokens(given: Option<Value>) -> Result<Vec<(VendorName, DeviceToken, Home)>, NotDone> {
    let tokens = match given {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(tokens)) => tokens,
        Some(_) => return Err(imports::wrong("tokens has a token for each vendor")),
    };
    let mut registered = Vec::new();
    for (name, value) in tokens {
        let body: TokenBody = match value {
            Value::String(token) => {
                TokenBody { token, credential: None, environment: None, bundle_id: None, package: None }
            }
            other => parse(other.to_string().as_bytes())
                .map_err(|problem: Problem| problem.below(&within("/tokens", &name)))?,
        };
        let vendor = vendor(&name)?;
        let token = DeviceToken::parse(&body.token).map_err(|error| imports::wrong(&error.to_string()))?;
        let TokenBody { credential, environment, bundle_id, package, .. } = body;
        let home = Registered { credential, environment, bundle_id, package }.check();
        let home = home.map_err(|(field, problem)| imports::wrong(&format!("{field} {problem}")))?;
        registered.push((vendor, token, home));
    }
    Ok(registered)
}

/// Changes a device that is known; what is left out stays.
#[utoipa::path(
    patch,
    path = "/v1/apps/{app}/devices/{device}",
    tag = "devices",
    request_body = DevicePatch,
    responses((status = 200, description = "The device", body = DeviceView)),
)]
pub(super) async fn change(
    Guarded { app, .. }: Guarded<SEND>,
    Params((_, id)): Params<(String, String)>,
    headers: HeaderMap,
    State(shared): State<Api>,
    Json(body, _): Json<DevicePatch>,
) -> Result<impl IntoResponse, Problem> {
    let if_match = IfMatch::of(&headers);
    let work = move |tx: &mut Tx<'_>| {
        devices::load(tx, &app, &id)?.ok_or_else(|| Problem::new(Errno::DeviceUnknown))?;
        write(tx, &app, &id, &if_match, |device| body.put_into(device))
    };
    let (device, _) = shared.store.write(work).await?;
    Ok((etag::header(&device), axum::Json(DeviceView::from(device))))
}

/// Changes a device in one transaction; the device as it is then, and whether it is new.
fn write(
    tx: &mut Tx<'_>,
    app: &AppId,
    id: &str,
    if_match: &IfMatch,
    change: impl FnOnce(&mut Device),
) -> Result<(Device, bool), Problem> {
    let old = devices::load(tx, app, id)?;
    if_match.check(old.as_ref())?;
    let is_new = old.is_none();
    let mut device = devices::load_or_new(tx, app, id)?;
    change(&mut device);
    check(&device)?;
    devices::save(tx, app, &device)?;
    Ok((devices::load_or_new(tx, app, id)?, is_new))
}

/// One device.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/devices/{device}",
    tag = "devices",
    responses((status = 200, description = "The device", body = DeviceView)),
)]
pub(super) async fn show(
    Guarded { app, .. }: Guarded<READ>,
    Params((_, id)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let device = shared.store.read(move |tx| devices::load(tx, &app, &id)).await?;
    let device = device.ok_or_else(|| Problem::new(Errno::DeviceUnknown))?;
    Ok((etag::header(&device), axum::Json(DeviceView::from(device))))
}

/// Forgets a device with its tokens. Its session at the broker stays.
#[utoipa::path(
    delete,
    path = "/v1/apps/{app}/devices/{device}",
    tag = "devices",
    responses((status = 204, description = "Done")),
)]
pub(super) async fn remove(
    Guarded { app, .. }: Guarded<SEND>,
    Params((_, id)): Params<(String, String)>,
    headers: HeaderMap,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let if_match = IfMatch::of(&headers);
    let work = move |tx: &mut Tx<'_>| {
        if_match.check(devices::load(tx, &app, &id)?.as_ref())?;
        Ok::<_, Problem>(devices::remove(tx, &app, &id)?)
    };
    match shared.store.write(work).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::new(Errno::DeviceUnknown)),
    }
}

/// Which devices.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// An expression of the audience language.
    #[param(example = "tag:vip & platform:ios")]
    filter: Option<String>,
    /// `page.next` of a page: what comes behind it.
    after: Option<String>,
    /// `page.prev` of a page: what comes before it.
    before: Option<String>,
    /// Entries at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// Devices by id; with `filter` those that an expression means, in the order in which they came.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/devices",
    tag = "devices",
    params(ListQuery),
    responses((status = 200, description = "One page", body = Listed<DeviceView>)),
)]
pub(super) async fn list(
    Guarded { app, .. }: Guarded<READ>,
    Asked(query): Asked<ListQuery>,
    State(shared): State<Api>,
) -> Result<axum::Json<Listed<DeviceView>>, Problem> {
    let page = Page::new(query.after, query.before, query.limit)?;
    let Some(filter) = query.filter else {
        let read = move |tx: &Tx<'_>| {
            let read = |from: Option<&str>, order, limit| devices::page(tx, &app, from, order, limit);
            let total = usize::try_from(tx.index().devices_of(&app)).unwrap_or(usize::MAX);
            Ok::<_, StoreError>(page.walk(Order::Forward, read, |device| device.id.clone())?.of(total))
        };
        return Ok(shared.store.read(read).await?.show(DeviceView::from));
    };
    let wrong = |error: &dyn Display| Problem::because(Errno::InvalidQuery, format!("filter: {error}"));
    let filter = Expression::parse(&filter).map_err(|error| wrong(&error))?;
    Ok(list_where(&shared, app, filter, page).await?.show(DeviceView::from))
}

/// One page of the devices that an expression means.
pub(super) async fn list_where(
    shared: &Api,
    app: AppId,
    filter: Expression,
    page: Page,
) -> Result<Found<Device>, Problem> {
    let look = move |tx: &Tx<'_>| {
        let filter = segments::write_out(tx, &app, &filter).map_err(|error| match error {
            WriteOutError::Store(error) => error.into(),
            error => Problem::because(Errno::InvalidQuery, format!("filter: {error}")),
        })?;
        let asked = audience::Asked::new(tx, &app, filter, tx.now_ms())?;
        let read = |from: Option<&str>, order, limit| {
            let from = from.map(|cursor| cursor.parse().map(DeviceNumber)).transpose();
            let from = from.map_err(|_| Problem::because(Errno::InvalidCursor, "no cursor of this list"))?;
            let ids = asked.page(tx, &app, from, order, limit)?;
            let found = ids.iter().filter_map(|id| devices::load(tx, &app, id).transpose());
            Ok::<_, Problem>(found.collect::<Result<Vec<_>, StoreError>>()?)
        };
        let number = |device: &Device| device.number.map_or(0, |number| number.0).to_string();
        page.walk(Order::Forward, read, number)
    };
    shared.store.read(look).await
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenBody {
    token: String,
    #[schema(value_type = Option<String>)]
    credential: Option<CredentialName>,
    environment: Option<Environment>,
    bundle_id: Option<String>,
    package: Option<String>,
}

/// A device's token after it was registered.
#[derive(Serialize, ToSchema)]
pub(super) struct Registration {
    device: String,
    #[schema(required)]
    token: Option<TokenView>,
}

/// Registers or rotates a device's token at a vendor.
#[utoipa::path(
    put,
    path = "/v1/apps/{app}/devices/{device}/tokens/{vendor}",
    tag = "devices",
    request_body = TokenBody,
    responses((status = 200, description = "What may be shown of it", body = Registration)),
)]
pub(super) async fn set_token(
    Guarded { app, .. }: Guarded<SEND>,
    Params((_, id, name)): Params<(String, String, String)>,
    State(shared): State<Api>,
    Json(body, _): Json<TokenBody>,
) -> Result<axum::Json<Registration>, Problem> {
    let (id, vendor) = (device_id(id)?, vendor(&name)?);
    let token =
        DeviceToken::parse(&body.token).map_err(|error| Problem::field("/token", error.to_string()))?;
    let TokenBody { credential, environment, bundle_id, package, .. } = body;
    let home = Registered { credential, environment, bundle_id, package }.check();
    let home = home.map_err(|(field, problem)| Problem::field(format!("/{field}"), problem))?;
    let device = shared
        .store
        .write(move |tx| {
            let mut device = devices::load_or_new(tx, &app, &id)?;
            tokens::register(tx, &app, &mut device, vendor, token, home)?;
            devices::save(tx, &app, &device)?;
            Ok::<_, StoreError>(device)
        })
        .await?;
    let token = device.tokens.iter().find(|token| token.vendor == vendor).map(TokenView::of);
    Ok(axum::Json(Registration { device: device.id, token }))
}

/// What is known of a device's connection.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/devices/{device}/presence",
    tag = "devices",
    responses((status = 200, description = "The network connection", body = Presence)),
)]
pub(super) async fn presence(
    Guarded { app, .. }: Guarded<READ>,
    Params((_, id)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<axum::Json<Presence>, Problem> {
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

/// A device.
#[derive(Serialize, ToSchema)]
#[schema(as = Device)]
pub(super) struct DeviceView {
    id: String,
    /// By type.
    alias: BTreeMap<String, String>,
    tags: BTreeSet<String>,
    #[schema(required)]
    platform: Option<String>,
    #[schema(required)]
    app_version: Option<String>,
    #[schema(required)]
    language: Option<String>,
    #[schema(required)]
    timezone: Option<String>,
    /// The app's own, kept as text.
    attributes: BTreeMap<String, String>,
    tokens: Vec<TokenView>,
    created_at_ms: u64,
    updated_at_ms: u64,
}

impl From<Device> for DeviceView {
    fn from(device: Device) -> Self {
        let Attributes { platform, app_version, language, timezone } = device.attributes;
        Self {
            id: device.id,
            alias: device.alias,
            tags: device.tags,
            platform,
            app_version,
            language,
            timezone,
            attributes: device.custom,
            tokens: device.tokens.iter().map(TokenView::of).collect(),
            created_at_ms: device.created_at_ms,
            updated_at_ms: device.updated_at_ms,
        }
    }
}

/// Whether pushes go to a device token.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = TokenState)]
enum TokenStateName {
    Active,
    Quarantined,
    Dead,
}

/// A device token, without the whole of it: whoever has it and a key can push to the device.
#[derive(Serialize, ToSchema)]
#[schema(as = Token)]
pub(super) struct TokenView {
    vendor: VendorName,
    token_starts_with: String,
    registered_at_ms: u64,
    #[schema(required, value_type = Option<String>)]
    credential: Option<CredentialName>,
    #[schema(required)]
    environment: Option<Environment>,
    #[schema(required)]
    bundle_id: Option<String>,
    state: TokenStateName,
    /// The vendor's words.
    #[schema(required)]
    dead_reason: Option<String>,
    #[schema(required)]
    dead_at_ms: Option<u64>,
    /// The vendor's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    quarantine_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quarantined_at_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quarantined_until_ms: Option<u64>,
}

impl TokenView {
    fn of(token: &Token) -> Self {
        let mut view = Self {
            vendor: token.vendor,
            token_starts_with: token.token.as_str().chars().take(TOKEN_SHOWN).collect(),
            registered_at_ms: token.registered_at_ms,
            credential: token.home.credential.clone(),
            environment: token.home.environment,
            bundle_id: token.home.bundle_id.clone(),
            state: TokenStateName::Active,
            dead_reason: None,
            dead_at_ms: None,
            quarantine_reason: None,
            quarantined_at_ms: None,
            quarantined_until_ms: None,
        };
        match &token.state {
            TokenState::Active => {}
            TokenState::Quarantined { reason, at_ms, until_ms } => {
                view.state = TokenStateName::Quarantined;
                view.quarantine_reason = Some(reason.clone());
                (view.quarantined_at_ms, view.quarantined_until_ms) = (Some(*at_ms), Some(*until_ms));
            }
            TokenState::Dead { reason, at_ms } => {
                view.state = TokenStateName::Dead;
                (view.dead_reason, view.dead_at_ms) = (Some(reason.clone()), Some(*at_ms));
            }
        }
        view
    }
}
