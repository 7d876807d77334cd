//! `/v1/apps` and their keys.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use reveille_proto::ids::AppId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::body::{Asked, Json, Params};
use super::etag::{self, IfMatch};
use super::guard::{ADMIN, Guarded, Known, Operator, READ};
use super::idempotency::{Done, IdempotencyHeader, Once};
use super::long_operations::accepted;
use super::paging::{Listed, Page, PageQuery};
use super::problem::{Errno, Problem};
use crate::apps::{self, Access, App, KeyView, NewKey, RemoveKeyError};
use crate::audit;
use crate::devices::{TAGS_MAX, is_label};
use crate::operations::Operation;
use crate::removal;
use crate::store::{StoreError, Tx};

const NAME_MAX: usize = 256;

/// An app that is there and not on its way out.
pub(super) fn known(tx: &Tx<'_>, app: &AppId) -> Result<App, Problem> {
    apps::load(tx, app)?.ok_or_else(|| Problem::new(Errno::AppUnknown))
}

/// A tenant.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = App)]
pub(super) struct AppBody {
    id: String,
    /// A name for people.
    name: String,
    created_at_ms: u64,
}

impl From<App> for AppBody {
    fn from(App { id, name, created_at_ms, .. }: App) -> Self {
        Self { id, name, created_at_ms }
    }
}

/// A tenant to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewApp {
    /// Stands in URLs and in the credentials of devices.
    #[schema(min_length = 1, max_length = 64)]
    id: String,
    /// A name for people.
    #[serde(default)]
    #[schema(max_length = 256)]
    name: String,
}

/// Makes an app.
#[utoipa::path(
    post,
    path = "/v1/apps",
    tag = "apps",
    params(IdempotencyHeader),
    request_body = NewApp,
    responses((status = 201, description = "The app", body = AppBody)),
)]
pub(super) async fn create(
    Operator(caller): Operator,
    State(shared): State<Api>,
    headers: HeaderMap,
    Json(new, bytes): Json<NewApp>,
) -> Result<Response, Problem> {
    let id = AppId::parse(&new.id).map_err(|error| Problem::field("/id", error.to_string()))?;
    check_name(&new.name)?;
    audit::request::name(&format!("app {}", new.id));
    let once = Once::making("apps", &id, &caller.key_id, &headers, &bytes)?;
    let rules = shared.rules;
    let make = move |tx: &mut Tx<'_>| {
        match apps::record(tx, &id)? {
            Some(App { removal: Some(_), .. }) => {
                return Err(Problem::because(Errno::AppExists, "it is being removed: wait until it is gone"));
            }
            Some(_) => return Err(Problem::new(Errno::AppExists)),
            None => {}
        }
        if !apps::has_room(tx)? {
            return Err(Problem::because(Errno::TooManyApps, format!("at most {}", apps::APPS_MAX)));
        }
        let app = App::new(&id, new.name, tx.now_ms());
        apps::save(tx, &id, &app)?;
        Ok(AppBody::from(app))
    };
    let done = shared.store.write(move |tx| once.run(tx, &rules, make)).await?;
    Ok(done.answer(StatusCode::CREATED))
}

fn check_name(name: &str) -> Result<(), Problem> {
    match name.len() {
        0..=NAME_MAX => Ok(()),
        _ => Err(Problem::field("/name", format!("has at most {NAME_MAX} bytes"))),
    }
}

/// The apps that the key opens: every app for the operator's, else the one that it was made for.
#[utoipa::path(
    get,
    path = "/v1/apps",
    tag = "apps",
    params(PageQuery),
    responses((status = 200, description = "One page", body = Listed<AppBody>)),
)]
pub(super) async fn list(
    Known(caller): Known,
    page: Page,
    State(shared): State<Api>,
) -> Result<axum::Json<Listed<AppBody>>, Problem> {
    let mut apps = shared.store.read(apps::list).await?;
    apps.retain(|app| AppId::parse(&app.id).is_ok_and(|id| caller.opens(&id)));
    Ok(page.cut(&apps, |app| app.id.clone())?.show(AppBody::from))
}

/// One app.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}",
    tag = "apps",
    responses((status = 200, description = "The app", body = AppBody)),
)]
pub(super) async fn show(
    Guarded { app, .. }: Guarded<READ>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse + use<>, Problem> {
    let app = shared.store.read(move |tx| apps::load(tx, &app)).await?;
    let app = app.ok_or_else(|| Problem::new(Errno::AppUnknown))?;
    Ok((etag::header(&app), axum::Json(AppBody::from(app))))
}

/// What is given is changed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AppPatch {
    /// A name for people.
    #[schema(max_length = 256)]
    name: Option<String>,
}

/// Changes an app.
#[utoipa::path(
    patch,
    path = "/v1/apps/{app}",
    tag = "apps",
    request_body = AppPatch,
    responses((status = 200, description = "The app", body = AppBody)),
)]
pub(super) async fn change(
    Guarded { app, .. }: Guarded<ADMIN>,
    headers: HeaderMap,
    State(shared): State<Api>,
    Json(patch, _): Json<AppPatch>,
) -> Result<impl IntoResponse + use<>, Problem> {
    check_name(patch.name.as_deref().unwrap_or_default())?;
    let if_match = IfMatch::of(&headers);
    let changed = shared
        .store
        .write(move |tx| {
            let mut record = known(tx, &app)?;
            if_match.check(Some(&record))?;
            record.name = patch.name.unwrap_or(record.name);
            apps::save(tx, &app, &record)?;
            Ok::<_, Problem>(record)
        })
        .await?;
    Ok((etag::header(&changed), axum::Json(AppBody::from(changed))))
}

/// That it is meant.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Confirmation {
    /// The app's id once more: what is removed is not brought back.
    confirm: Option<String>,
}

/// Removes an app with all that belongs to it: devices, messages, credentials, keys, and in a broker of the same process
/// sessions and retained messages. Nobody finds it from now on; the rest is a long operation.
#[utoipa::path(
    delete,
    path = "/v1/apps/{app}",
    tag = "apps",
    params(Confirmation),
    responses((status = 202, description = "It is being removed", body = Operation)),
)]
pub(super) async fn remove(
    Guarded { app, caller }: Guarded<ADMIN>,
    Asked(asked): Asked<Confirmation>,
    headers: HeaderMap,
    State(shared): State<Api>,
) -> Result<Response, Problem> {
    if !caller.is_operator() {
        return Err(Problem::new(Errno::KeyForbidden));
    }
    if asked.confirm.as_deref() != Some(app.as_str()) {
        return Err(Problem::because(
            Errno::ConfirmationMissing,
            format!("?confirm={app} says that it is meant"),
        ));
    }
    let if_match = IfMatch::of(&headers);
    let (operation, keys) = shared
        .store
        .write(move |tx| {
            let record = known(tx, &app)?;
            if_match.check(Some(&record))?;
            Ok::<_, Problem>(removal::begin(tx, &app, record)?)
        })
        .await?;
    keys.iter().for_each(|id| shared.keys.forget(id));
    Ok(accepted(Done::Now(operation)))
}

/// What a key is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKeyBody {
    /// What it may do; `admin` includes the others.
    #[schema(min_items = 1)]
    scopes: BTreeSet<Access>,
    /// A name for people.
    #[serde(default)]
    #[schema(max_length = 256)]
    name: String,
    /// Limits it to devices with one of these tags: it sends to them only, and sees them and its own messages only.
    #[serde(default)]
    #[schema(max_items = 100)]
    tags: BTreeSet<String>,
}

/// A key, the only time that its text is told.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct MadeKey {
    /// The public half.
    id: String,
    /// The whole key.
    key: String,
    app: String,
    scopes: BTreeSet<Access>,
    tags: BTreeSet<String>,
    name: String,
    created_at_ms: u64,
}

/// Makes a key. Its text is in this answer and nowhere else.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/keys",
    tag = "apps",
    params(IdempotencyHeader),
    request_body = NewKeyBody,
    responses((status = 201, description = "The key, this once", body = MadeKey)),
)]
pub(super) async fn create_key(
    Guarded { app, caller }: Guarded<ADMIN>,
    State(shared): State<Api>,
    headers: HeaderMap,
    Json(new, bytes): Json<NewKeyBody>,
) -> Result<Response, Problem> {
    new.check()?;
    let once = Once::making("keys", &app, &caller.key_id, &headers, &bytes)?;
    let created_at_ms = shared.store.now_ms();
    let NewKeyBody { scopes, name, tags } = new;
    let (for_app, for_scopes, for_name) = (app.clone(), scopes.clone(), name.clone());
    let make = move || NewKey::make(Some(&for_app), for_scopes, &for_name, created_at_ms);
    let key = tokio::task::spawn_blocking(make).await.map_err(|_| StoreError::Closed)?;
    audit::request::name(&format!("key {}", key.id));
    let key = key.limited_to(tags.clone());
    let (id, text) = (key.id.clone(), key.text.clone());
    let made = MadeKey { id, key: text, app: app.as_str().to_owned(), scopes, tags, name, created_at_ms };
    let rules = shared.rules;
    let keep = move |tx: &mut Tx<'_>| {
        known(tx, &app)?; // hashing takes a while: it may have been removed
        Ok(key.keep(tx).map(|()| made)?)
    };
    let done = shared.store.write(move |tx| once.run(tx, &rules, keep)).await?;
    Ok(done.answer(StatusCode::CREATED))
}

impl NewKeyBody {
    fn check(&self) -> Result<(), Problem> {
        if self.scopes.is_empty() {
            return Err(Problem::field("/scopes", "names at least one of send, read and admin"));
        }
        if self.tags.len() > TAGS_MAX || !self.tags.iter().all(|tag| is_label(tag)) {
            return Err(Problem::field(
                "/tags",
                "has at most 100 tags, each 1 to 256 bytes without controls",
            ));
        }
        if !self.tags.is_empty() && self.scopes.contains(&Access::Admin) {
            return Err(Problem::field("/tags", "cannot limit a key that may everything"));
        }
        check_name(&self.name)
    }
}

/// What may be shown of a key.
#[derive(Serialize, ToSchema)]
pub(super) struct Key {
    /// The public half.
    id: String,
    scopes: BTreeSet<Access>,
    /// Only for devices with one of these; empty: for all.
    tags: BTreeSet<String>,
    name: String,
    created_at_ms: u64,
}

impl From<KeyView> for Key {
    fn from(KeyView { id, scopes, tags, name, created_at_ms, .. }: KeyView) -> Self {
        Self { id, scopes, tags, name, created_at_ms }
    }
}

/// The app's keys, by id. Their texts are kept nowhere.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/keys",
    tag = "apps",
    params(PageQuery),
    responses((status = 200, description = "One page", body = Listed<Key>)),
)]
pub(super) async fn list_keys(
    Guarded { app, .. }: Guarded<ADMIN>,
    page: Page,
    State(shared): State<Api>,
) -> Result<axum::Json<Listed<Key>>, Problem> {
    let mut keys = shared.store.read(apps::all_keys).await?;
    keys.retain(|key| key.app.as_deref() == Some(app.as_str()) && !key.is_person());
    Ok(page.cut(&keys, |key| key.id.clone())?.show(Key::from))
}

/// Revokes a key: it opens nothing from now on.
#[utoipa::path(
    delete,
    path = "/v1/apps/{app}/keys/{key}",
    tag = "apps",
    responses((status = 204, description = "Done")),
)]
pub(super) async fn remove_key(
    Guarded { app, .. }: Guarded<ADMIN>,
    Params((_, id)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<StatusCode, Problem> {
    if id.starts_with('@') {
        return Err(Problem::new(Errno::KeyUnknown)); // a person of the console
    }
    let of = id.clone();
    let removed = shared.store.write(move |tx| apps::remove_key(tx, Some(&app), &of)).await;
    removed.map_err(|error| match error {
        // The last key that opens everything belongs to no app.
        RemoveKeyError::Unknown | RemoveKeyError::Last => Problem::new(Errno::KeyUnknown),
        RemoveKeyError::Store(error) => error.into(),
    })?;
    shared.keys.forget(&id);
    Ok(StatusCode::NO_CONTENT)
}
