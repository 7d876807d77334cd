//! `/v1/apps/{app}/users` and `/aliases`: the business's names for devices. A user is an alias of the type `user`.

use axum::extract::State;
use axum::response::IntoResponse;
use reveille_proto::ids::AppId;
use serde_json::json;

use super::Api;
use super::body::{Json, Page, PageQuery, Params};
use super::devices::{list_where, show_device};
use super::guard::{Guarded, READ, SEND};
use super::problem::{Errno, Problem};
use super::tags::{Act, DevicesBody, One, change_each};
use crate::audience::expression::{Expression, Field, Match};
use crate::devices::{ALIASES_MAX, Device, USER, is_label};
use crate::store::StoreError;

/// How many devices a user has.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/users/{user}",
    tag = "audiences",
    responses((status = 200, description = "The user", body = Object)),
)]
pub(super) async fn show_user(
    Guarded { app, .. }: Guarded<READ>,
    Params((_, user)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let (devices, online) = counts(&shared, app, USER, &user).await?;
    Ok(axum::Json(json!({"id": user, "devices": devices, "online": online})))
}

/// A user's devices.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/users/{user}/devices",
    tag = "audiences",
    params(PageQuery),
    responses((status = 200, description = "One page", body = Object)),
)]
pub(super) async fn devices_of_user(
    Guarded { app, .. }: Guarded<READ>,
    Params((_, user)): Params<(String, String)>,
    page: Page,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    counts(&shared, app.clone(), USER, &user).await?;
    let theirs = Expression::Has(Field::Alias(USER.to_owned()), Match::Exactly(user));
    let (found, next) = list_where(&shared, app, theirs, &page).await?;
    Ok(page.answer_with(found.iter().map(show_device).collect(), next))
}

/// How many devices an alias has.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/aliases/{type}/{alias}",
    tag = "audiences",
    responses((status = 200, description = "The alias", body = Object)),
)]
pub(super) async fn show(
    Guarded { app, .. }: Guarded<READ>,
    Params((_, kind, alias)): Params<(String, String, String)>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let (devices, online) = counts(&shared, app, &kind, &alias).await?;
    Ok(axum::Json(json!({"type": kind, "alias": alias, "devices": devices, "online": online})))
}

async fn counts(shared: &Api, app: AppId, kind: &str, alias: &str) -> Result<(u64, u64), Problem> {
    let (field, alias) = (Field::Alias(kind.to_owned()), alias.to_owned());
    let counts =
        shared.store.read(move |tx| Ok::<_, StoreError>(tx.index().counts_of(&app, &field, &alias))).await?;
    if counts.0 == 0 { Err(Problem::new(Errno::AliasUnknown)) } else { Ok(counts) }
}

/// `POST …/aliases/{type}/{alias}:add` and `:remove`. A device that has another alias of the type gets this one.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/aliases/{type}/{alias}",
    tag = "audiences",
    request_body = DevicesBody,
    responses((status = 200, description = "What became of the devices", body = Object)),
)]
pub(super) async fn act(
    Guarded { app, .. }: Guarded<SEND>,
    Params((_, kind, name)): Params<(String, String, String)>,
    State(shared): State<Api>,
    Json(body, _): Json<DevicesBody>,
) -> Result<impl IntoResponse, Problem> {
    let ((alias, act), ids) = (Act::split(&name)?, body.check()?);
    if !is_label(&kind) {
        return Err(Problem::because(
            Errno::InvalidPath,
            "an alias type has 1 to 256 bytes without controls",
        ));
    }
    let change = move |device: &mut Device| {
        let is_it = device.alias.get(&kind) == Some(&alias);
        match act {
            Act::Add if is_it => One::Same,
            Act::Add if !device.alias.contains_key(&kind) && device.alias.len() >= ALIASES_MAX => One::Full,
            Act::Add => {
                device.alias.insert(kind.clone(), alias.clone());
                One::Changed
            }
            Act::Remove if is_it => {
                device.alias.remove(&kind);
                One::Changed
            }
            Act::Remove => One::Same,
        }
    };
    let changed = shared.store.write(move |tx| change_each(tx, &app, ids, change)).await?;
    Ok(changed.answer())
}
